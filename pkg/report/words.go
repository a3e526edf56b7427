package report

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// inRanges tells what is wrong with where a number lies.
func inRanges(f check.Finding) (what, way string) {
	in := detail[check.PortRange](f).Range
	switch f.Code {
	case check.OutsideSmaller:
		return fmt.Sprintf("%d is outside the node port range %s; the Service keeps it, but cannot be created with it again", f.Claim.Port, in),
			"change it to a port inside the range when it suits you"
	case check.InNodePorts:
		return fmt.Sprintf("%d is inside the node port range %s: any Service may be allocated it, and the two would conflict", f.Claim.Port, in),
			elsewhere(f.Claim, "outside it")
	case check.InEphemeral:
		return fmt.Sprintf("%d is among the ports %s that outgoing connections of the nodes use, and may be in use", f.Claim.Port, in),
			elsewhere(f.Claim, "elsewhere") + ", or reserve it by net.ipv4.ip_local_reserved_ports on every node"
	default:
		return fmt.Sprintf("%d is in the dynamic allocation band %s, and may be allocated to another Service before this one is created", f.Claim.Port, in),
			"choose a port below the band"
	}
}

// inRollouts tells what keeps the pods of a workload from running or from being replaced.
func inRollouts(f check.Finding) (what, way string) {
	number, d := f.Claim.PortProtocol(), detail[check.Replicas](f)
	switch {
	case f.Code == check.SurgeInPlace:
		return fmt.Sprintf("with a surge the new pod waits on each node for %s, which the old one holds until the new one is ready", number),
			"set maxSurge to 0 and maxUnavailable to 1, or " + giveUp(f.Claim)
	case f.Case == check.OneNode:
		return fmt.Sprintf("on its only node the new pod waits for %s, and the old one holds it until the new one is ready", number),
			"set the strategy to Recreate, or maxSurge to 0 and maxUnavailable to 1"
	case f.Case == check.NodesAllInUse:
		return fmt.Sprintf("%d replicas fill the %d nodes that have %s free: the new pod waits for a node, and no old one may go before it is ready", d.Pods, d.Left, number),
			"set maxUnavailable to 1, or run one replica fewer"
	case f.Case == check.NoNodeSuits:
		return wanting(f) + ", but no node matches the nodeSelector, affinity and tolerations",
			"correct these, or add such a node"
	case f.Case == check.FewerAtOnce:
		return wanting(f) + " at the same time, but " + free(f), "lower the parallelism, or let it run on more nodes"
	default:
		return wanting(f) + ", but " + free(f) + waiting(f),
			fmt.Sprintf("run at most %d, or let them run on more nodes, or expose them by a Service", d.Left)
	}
}

// invalidPort tells why the API server refuses a port.
func invalidPort(f check.Finding) (what, way string) {
	const number = "write a number from 1 to 65535"
	text := detail[check.Text](f).Text
	switch f.Case {
	case check.NumberMissing:
		return "the port number is missing", number
	case check.NotANumber:
		return detail[check.Unreadable](f).Err.Error(), number
	case check.QuotedNumber:
		return fmt.Sprintf("%q is a string, and a port name needs a letter", text), "remove the quotes"
	case check.BadPortName:
		return fmt.Sprintf("%q is not a port name", text), "write at most 15 lower-case letters, digits and single hyphens, with a letter among them"
	case check.BadServicePortName:
		return fmt.Sprintf("%q is not a name for a Service port", text), "write at most 63 lower-case letters, digits and hyphens"
	case check.NameMissing:
		return "the Service has several ports, and this one has no name", "give each of them a name"
	case check.UnknownProtocol:
		return fmt.Sprintf("%q is not a protocol", text), "write TCP, UDP or SCTP, or leave protocol out for TCP"
	case check.BadAppProtocol:
		return fmt.Sprintf("%q is not an application protocol", text), "write one such as http, or kubernetes.io/h2c"
	case check.NoPorts:
		return "the Service has no ports", "add one, or make it headless by clusterIP: None"
	default:
		return text + " is not a port number", number
	}
}

// elsewhere is a way out: another number, in another place.
func elsewhere(c ports.Claim, where string) string {
	if c.Kind == ports.HostNetwork {
		return "let the process listen on a port " + where
	}
	return "choose a " + c.Kind.String() + " " + where
}

func giveUp(c ports.Claim) string {
	if c.Kind == ports.HostNetwork {
		return "leave the host network"
	}
	return "give up the " + c.Kind.String()
}

// wanting: "3 replicas need hostPort 7777/UDP (spec.template…hostPort)".
func wanting(f check.Finding) string {
	number := detail[check.Replicas](f).Pods
	need := " need "
	if number == 1 {
		need = " needs "
	}
	text := plural(number, replicaOf(f)) + need + fieldName(f.Claim) + " " + f.Claim.PortProtocol()
	if f.Claim.Field != "" {
		text += " (" + f.Claim.Field + ")"
	}
	return text
}

func replicaOf(f check.Finding) string {
	if strings.HasSuffix(f.Field, ".replicas") {
		return "replica"
	}
	return "pod"
}

func free(f check.Finding) string {
	left := detail[check.Replicas](f).Left
	switch {
	case f.Eligible == 0 || left == f.Eligible && left == 1:
		return "only 1 node is eligible"
	case left == f.Eligible:
		return fmt.Sprintf("only %d nodes are eligible", left)
	case left == 1:
		return fmt.Sprintf("only 1 of the %d eligible nodes has it free", f.Eligible)
	default:
		return fmt.Sprintf("only %d of the %d eligible nodes have it free", left, f.Eligible)
	}
}

// waiting: "; 1 replica stays Pending". A StatefulSet does not even make those that come after one that waits.
func waiting(f check.Finding) string {
	d := detail[check.Replicas](f)
	switch n := d.Pods - d.Left; {
	case n == 1:
		return "; 1 " + replicaOf(f) + " stays Pending"
	case f.Object.Kind == "StatefulSet":
		return "; " + plural(n, replicaOf(f)) + " never start"
	default:
		return "; " + plural(n, replicaOf(f)) + " stay Pending"
	}
}

func stricter(f check.Finding) (what, way string) {
	who := "the scheduler keeps the pod off " + nodes(f.Nodes)
	if f.Case == check.KubeletStricter {
		who = "the kubelet of " + nodes(f.Nodes) + " rejects the pod"
	}
	return fmt.Sprintf("%s does not conflict with %s of %s, but Kubernetes takes 0.0.0.0 for both families: %s",
		f.Claim.Socket, f.Holder.Claim.Socket, f.Holder.Ref, who), "choose another hostPort, or set hostIP to one address"
}

// inEdits tells what an edit of a Service does that nobody asked for.
func inEdits(f check.Finding) (what, way string) {
	other, lost := detail[check.Sibling](f), detail[check.LostPort](f)
	switch {
	case f.Code == check.CreateRefuses:
		return fmt.Sprintf("%s is also the nodePort of %s: an update may do that, a create may not, so the Service cannot be restored from its manifest",
			other.Value, other.Field), "give one of the two another nodePort"
	case f.Case == check.ContainerEntries:
		return fmt.Sprintf("%s also has containerPort %s, the merge key of client-side apply and, with the protocol, of server-side apply", other.Field, other.Value),
			"give each entry its own containerPort"
	case f.Code == check.OneMergeKey:
		return fmt.Sprintf("%s also has port %s, the merge key of client-side apply", other.Field, other.Value),
			"use server-side apply for edits of this Service"
	case f.Code == check.TrafficPolicy:
		d := detail[check.Change](f)
		return fmt.Sprintf("%s instead of %s applies to new connections only; existing ones keep their path and source address", d.To, d.From),
			"nothing needs to be done, or let clients connect again"
	case f.Case == check.LostAnyway:
		return fmt.Sprintf("%s loses nodePort %d and gets another", called(lost.Name), lost.NodePort), keepNodePort(f)
	default:
		return fmt.Sprintf("%s loses nodePort %d and gets another if the Service is replaced (PUT) and not merged", called(lost.Name), lost.NodePort),
			keepNodePort(f)
	}
}

// keepNodePort tells how a port keeps its nodePort. Its name helps only if it is the name that changed.
func keepNodePort(f check.Finding) string {
	way := fmt.Sprintf("write nodePort: %d into it", detail[check.LostPort](f).NodePort)
	if strings.HasSuffix(f.Field, ".name") {
		way += ", or keep the name"
	}
	return way
}

func called(name string) string {
	if name == "" {
		return "the port that had no name"
	}
	return "the port that was named " + name
}

// inWiring tells what keeps a Service from what it should lead to.
func inWiring(f check.Finding) (what, way string) {
	d := detail[check.PortName](f)
	switch f.Case {
	case check.OfferedTwice:
		return fmt.Sprintf("%s has two ports named %q for %s, and the first one gets the packets", f.Holder.Ref, d.Name, d.Protocol),
			"give each port its own name, or write a number"
	case check.OtherProtocol:
		return fmt.Sprintf("what the Service selects, %s for example, has %q only for another protocol than %s", f.Holder.Ref, d.Name, d.Protocol),
			"name a port of the same protocol, or correct the protocol"
	case check.NotOffered:
		return fmt.Sprintf("nothing that the Service selects, %s for example, has a %s port named %q: no packet arrives", f.Holder.Ref, d.Protocol, d.Name),
			"write the name of a container's port, or its number"
	case check.OtherNamespace:
		return fmt.Sprintf("%s is in another namespace than the Service, which has no selector and so no endpoints", f.Holder.Ref),
			"put both into one namespace"
	default:
		return fmt.Sprintf("%s has no %s port %s, and endpoints are matched by port name and protocol", f.Holder.Ref, d.Protocol, withName(d.Name)),
			"give both the same name and protocol"
	}
}

func withName(name string) string {
	if name == "" {
		return "without a name, as this one is"
	}
	return "called " + strconv.Quote(name)
}

// ofAddresses tells what is wrong with an address that a pod names.
func ofAddresses(f check.Finding) (what, way string) {
	address := detail[check.HostIP](f).Address
	switch {
	case f.Code == check.NoNodesAddress:
		return fmt.Sprintf("%s is not an address of any node: port %s is never reachable there", address, f.Claim.PortProtocol()),
			"write an address of the node, or leave hostIP out for all of its addresses"
	case f.Case == check.FamilyAbsent:
		return fmt.Sprintf("the pods of this cluster have no address of the family of %s: port %s is not mapped", address, f.Claim.PortProtocol()),
			"write an address of their family, or leave hostIP out"
	default:
		return fmt.Sprintf("%s is of one family, and the pods of this cluster have both: port %s is not mapped for the other", address, f.Claim.PortProtocol()),
			"leave hostIP out for both"
	}
}
