// Package report holds the words that a user reads, and the forms in which they are printed.
//
//	check.Finding -> Sentence, Message     one line: the field, what is wrong, the holder, what to do, the code
//	check.Finding -> LintReport            WriteTable, WriteJSON, WriteSARIF, WriteGitHub; WriteJUnit is beside it
//	explain.Answer -> Trace                what becomes of a packet
//
// The other commands have reports of their own: AuditReport, PortList, PodReport, PoolReport, RuleSet, DoctorReport. Each
// is a versioned kind in JSON, which other people's scripts read, and a text for a person.
//
// Reports are made of values of pkg/check, pkg/pool, pkg/rules and pkg/explain, not of Kubernetes objects. What users
// wrote goes through Escape before a person reads it.
package report

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// MaxSentence is how many characters a sentence has at most: the API server cuts warnings there.
const MaxSentence = 256

// PreExisting is what a sentence says of what an update leaves as it was.
const PreExisting = "already the case before this change; not blocked"

// maxField is how many characters a field has at most: no path of an object that the API server takes is longer, but what comes from
// somebody else may name an annotation of any length.
const maxField = 160

// Field is the path of what a finding is about.
func Field(f check.Finding) string { return cut(Escape(f.Field), maxField) }

// Sentence tells a finding in one line of at most MaxSentence characters, the field first and the code last.
func Sentence(f check.Finding) string { return of(Field(f), Message(f)) }

// of puts the field before what is wrong with it. What cannot be read at all has none.
func of(field, text string) string {
	if field == "" {
		return text
	}
	return field + ": " + text
}

// Message tells a finding without its field, for where the field is shown beside it. Where names are too long for all
// of it, the way out is shortened, then it is left out who gets the packets, then the fields of the holder and of the port, then the
// rest is cut; the way out and the code stay. What the owner of a policy adds stands behind the way out, as far as there is room.
func Message(f check.Finding) string { return message(f, present()) }

func message(f check.Finding, as voice) string {
	limit := MaxSentence - utf8.RuneCountInString(Field(f)) - len(": ")
	what, way := words(f)
	if f.Idle {
		what = "its future pods conflict: " + what
	}
	what, way = Escape(what), Escape(way)
	code := " (" + string(f.Code) + ")"
	if f.Standing {
		code = "; " + PreExisting + " (" + string(f.Code) + ")"
	}
	first, _, _ := strings.Cut(way, ", or ")
	brief := strings.Replace(what, " ("+Escape(f.Claim.Field)+")", "", 1)
	if f.Holder != nil {
		brief = strings.Replace(brief, " ("+Escape(f.Holder.Field)+")", "", 1)
	}
	limit -= utf8.RuneCountInString(code)
	remark := Escape(f.Remark)
	if remark != "" {
		for _, text := range []string{what + "; " + way + "; " + remark, what + "; " + first + "; " + remark} {
			if utf8.RuneCountInString(text) <= limit {
				return text + code
			}
		}
	}
	texts := []string{what + "; " + way, what + "; " + first, brief + "; " + first}
	if f.Packets != nil {
		packets := what + "; " + Escape(packets(f, as))
		texts = append([]string{packets + "; " + way, packets + "; " + first}, texts...)
	}
	for _, text := range texts {
		if n := utf8.RuneCountInString(text); n <= limit {
			return text + partOf(remark, limit-n) + code
		}
	}
	if way := "; " + first; utf8.RuneCountInString(way) < limit/2 {
		return cut(brief, limit-utf8.RuneCountInString(way)) + way + code
	}
	return cut(what, limit) + code
}

// partOf is as much of a remark as there is room for; nothing, if that is too little to be of use.
func partOf(remark string, room int) string {
	const least = 30
	if room -= len("; "); remark == "" || room < least {
		return ""
	}
	return "; " + cut(remark, room)
}

func cut(s string, limit int) string {
	if utf8.RuneCountInString(s) <= limit {
		return s
	}
	return string([]rune(s)[:max(0, limit-1)]) + "…"
}

// detail returns what a finding of a code says beyond its claim and holder; nothing, if that was not filled in.
func detail[D check.Detail](f check.Finding) D {
	d, _ := f.Detail.(D)
	return d
}

// words returns what is wrong and with whom, and the way out.
func words(f check.Finding) (what, way string) {
	switch f.Code {
	case check.HostIPInvalid:
		d := detail[check.HostIPText](f)
		return fmt.Sprintf("%q is not an IP address: port %s would never be reachable", d.Text, d.Port),
			"write an address of the node, or leave hostIP out for all of its addresses"
	case check.SocketTwice:
		return fmt.Sprintf("%s is already claimed by %s of the same pod", f.Claim.Socket, detail[check.Sibling](f).Field),
			"give one of the two another " + fieldName(f.Claim)
	case check.ServiceSelfClash:
		return selfClash(f)
	case check.NodePortWithoutUse:
		return withoutUse(f)
	case check.InitContainersMeet:
		return fmt.Sprintf("%s is also used by %s, an init container that runs at another time", f.Claim.Socket, detail[check.Sibling](f).Field),
			"nothing needs to be done"
	case check.Held:
		return heldBy(f), instead(f)
	case check.WorkloadsMeet:
		if f.Case == check.LeavesNoNode {
			return meeting(f), wayOut(f.Claim) + ", or keep the two apart by a nodeSelector, or apply one of them only"
		}
		return meeting(f), wayOut(f.Claim) + ", or keep the two apart by a nodeSelector"
	case check.UndeclaredMeet:
		return undeclared(f), wayOut(f.Claim)
	case check.InFlight:
		return f.Claim.PortProtocol() + " is claimed by another request in progress", "try again in a second"
	case check.ForeignIP:
		d := detail[check.ExternalIP](f)
		if f.Case == check.NotGivenYet {
			return fmt.Sprintf("%s is in %s, from which cluster IPs are allocated", d.Addr, d.Range), "choose an address that is routed to the nodes"
		}
		return fmt.Sprintf("%s is the cluster IP of %s", d.Addr, holder(f.Holder)), "choose an address that is routed to the nodes, or reach the Service by its own cluster IP"
	case check.OutsideRange:
		return fmt.Sprintf("%d is outside the node port range %s", f.Claim.Port, detail[check.PortRange](f).Range),
			fmt.Sprintf("choose a port inside it, or leave %s out to get one", f.Claim.Kind)
	case check.DaemonSocket:
		return fmt.Sprintf("%s belongs to %s, a daemon of %s", f.Claim.PortProtocol(), f.Holder.Name, daemonNodes(f)), wayOut(f.Claim)
	case check.PortInvalid:
		return invalidPort(f)
	case check.PortNameTwice:
		d := detail[check.Sibling](f)
		return fmt.Sprintf("%q is already the name of %s", d.Value, d.Field), "give one of the two another name"
	case check.HostPortDiffers:
		d := detail[check.Mapping](f)
		return fmt.Sprintf("%d is not the containerPort, %d, and on the host network both are the port that the process listens on", d.HostPort, d.ContainerPort),
			"leave hostPort out, or correct one of the two"
	case check.FieldWrongCase:
		known := detail[check.Text](f).Known
		return fmt.Sprintf("the API does not know this field (it knows %s) and ignores it", known), "write " + known
	case check.WrongCase:
		d := detail[check.Text](f)
		return fmt.Sprintf("the API does not know %q, it knows %s", d.Text, d.Known), "write " + d.Known
	case check.HealthCheckFixed:
		d := detail[check.Change](f)
		return fmt.Sprintf("%s cannot replace %s while it is in use", d.To, d.From),
			"keep " + d.From + ", or change externalTrafficPolicy to Cluster first"
	case check.InNodePorts, check.InEphemeral, check.InDynamicBand, check.OutsideSmaller:
		return inRanges(f)
	case check.ForeignPool, check.PoolLimit, check.PoolExhausted:
		return ofPools(f)
	case check.PolicyNodePort:
		return nodePortPolicy(f)
	case check.PolicyHostPort:
		return hostPortPolicy(f)
	case check.PolicyExternalIP:
		return externalIPPolicy(f)
	case check.PolicyReserved:
		return reserved(f), wayOut(f.Claim)
	case check.ExceptionEnds:
		return exception(f)
	case check.BadReservation:
		return detail[check.Unreadable](f).Err.Error() + ", so it reserves no port", "correct the entry; the other entries still count"
	case check.TooFewNodes, check.RolloutStalls, check.SurgeInPlace:
		return inRollouts(f)
	case check.StricterThere:
		return stricter(f)
	case check.NumberChanges, check.CreateRefuses, check.OneMergeKey, check.TrafficPolicy:
		return inEdits(f)
	case check.TargetPortName, check.EndpointsApart:
		return inWiring(f)
	case check.NeverMapped:
		return fmt.Sprintf("%s of a sidecar is reserved on the node, but the kubelet hands CNI those of the main containers only", f.Claim.PortProtocol()),
			"move the port to a main container, or use the host network"
	case check.HostPortRequested:
		return requested(f)
	case check.UndeclaredSockets:
		return fmt.Sprintf("the pod is on the host network and declares no ports, but its probes connect to %s, which the scheduler does not reserve", detail[check.ProbedPorts](f)),
			"list what it listens on under ports"
	case check.Captured:
		return fmt.Sprintf("with ipvs, the rules of this host port take the packets for port %s of every cluster IP on the pod's node", f.Claim.PortProtocol()),
			"let portmap use its iptables back end, or choose another hostPort"
	case check.NoNodesAddress, check.FamilyMismatch:
		return ofAddresses(f)
	case check.Unread, check.FieldUnread, check.NameTwice, check.RestrictionInvalid:
		return ofReading(f)
	default:
		return string(f.Code), "see its page"
	}
}

func daemonNodes(f check.Finding) string {
	switch label := detail[check.DaemonNodes](f).Label; {
	case label == "":
		return "every node"
	case len(f.Nodes) > 0:
		return nodes(f.Nodes)
	default:
		return "the nodes with the label " + label
	}
}

func requested(f check.Finding) (what, way string) {
	d := detail[check.PortRequest](f)
	switch f.Case {
	case check.NoSuchPort:
		return fmt.Sprintf("no container port has the name %q", d.Name), "give a port that name, or correct the annotation"
	case check.OnHostNetwork:
		return fmt.Sprintf("port %q is on the host network: the process itself listens on it", d.Name),
			"remove the annotation, or hostNetwork"
	default:
		return d.Err.Error(), "see the pools with kubectl get portpools"
	}
}

func selfClash(f check.Finding) (what, way string) {
	d := detail[check.Sibling](f)
	switch f.Case {
	case check.HealthCheckIsOwn:
		return fmt.Sprintf("%s is also the Service's own nodePort, %s", d.Value, d.Field),
			"choose another healthCheckNodePort, or leave it out to get one"
	case check.SameNodePortTwice:
		return fmt.Sprintf("%s is already the nodePort of %s", d.Value, d.Field),
			"choose another nodePort, or leave it out to get one"
	case check.SameNodePortSplit:
		return fmt.Sprintf("%s is already the nodePort of %s, and one nodePort cannot serve two different ports",
			d.Value, d.Field), "choose another nodePort, or leave it out to get one"
	default:
		return fmt.Sprintf("%s is already the port of %s", d.Value, d.Field),
			"remove one of the two, or give it another port or protocol"
	}
}

func withoutUse(f check.Finding) (what, way string) {
	d := detail[check.UnusedPort](f)
	isHealthCheck := f.Field == "spec.healthCheckNodePort"
	if isHealthCheck && f.Case == check.NodePortIsLeftOver {
		return fmt.Sprintf("%d is left over from externalTrafficPolicy Local; the API server drops it now and refuses it next time", d.Port),
			"remove healthCheckNodePort from the manifest"
	}
	if isHealthCheck {
		return fmt.Sprintf("%d is set, but only a LoadBalancer with externalTrafficPolicy Local has a healthCheckNodePort", d.Port), "remove it"
	}
	if f.Case == check.NodePortIsIgnored {
		return fmt.Sprintf("%d is set, but an ExternalName Service has no node ports, and the API server drops it silently", d.Port), "remove nodePort from the manifest"
	}
	if f.Case == check.NodePortIsLeftOver {
		return fmt.Sprintf("%d is left over from a type with node ports; the API server drops it now and refuses it next time", d.Port),
			"remove nodePort from the manifest"
	}
	return fmt.Sprintf("%d is set, but a Service of type %s has no node ports", d.Port, d.Type),
		"remove nodePort, or make the type NodePort or LoadBalancer"
}

// heldBy: "9000/TCP is held by Deployment default/tomcat (spec...hostPort) on node n1".
func heldBy(f check.Finding) string {
	s := taken(f)
	if len(f.Others) == 0 {
		s += where(f)
	}
	if f.Claim.Kind.IsNodePortAllocated() && f.Holder.Claim.Kind.IsNodePortAllocated() && f.Claim.Protocol != f.Holder.Claim.Protocol {
		s += ", and a nodePort belongs to one Service, whatever the protocol"
	}
	return s
}

// taken names the holders, with their nodes if there are several: "9000/TCP is held by Pod shop/a (spec...hostPort)", "9100/TCP is reserved (metadata.annotations[...])".
func taken(f check.Finding) string {
	if f.Holder.Kind == check.NodeKind && len(f.Others) == 0 {
		return fmt.Sprintf("%s is reserved (%s)", f.Claim.PortProtocol(), f.Holder.Field)
	}
	return fmt.Sprintf("%s is held by %s", claimed(f.Claim), holders(f, len(f.Others) > 0))
}

// claimed is what a claim is about: a port, at the address where a Service claims it at one.
func claimed(c ports.Claim) string {
	if c.Kind == ports.ExternalIP || c.Kind == ports.LoadBalancerIP {
		return c.Socket.String()
	}
	return c.PortProtocol()
}

func holder(h *check.Holder) string {
	if h.Field == "" {
		return h.Ref.String()
	}
	return fmt.Sprintf("%s (%s)", h.Ref, h.Field)
}

func where(f check.Finding) string {
	switch {
	case len(f.Nodes) > 0:
		return " on " + nodes(f.Nodes)
	case f.Holder.Claim.Scope.Kind == ports.Everywhere:
		return " on every node"
	case f.Holder.Claim.Scope.Kind == ports.AtAddress && claimed(f.Claim) != f.Claim.PortProtocol():
		return "" // which is in what is claimed
	case f.Holder.Claim.Scope.Kind == ports.AtAddress:
		return " at " + f.Holder.Claim.Address.String()
	case f.Case == check.HolderHasNoNode && f.Holder.Kind == "Pod":
		return ", which matches no node now"
	case f.Case == check.HolderHasNoNode:
		return ", whose pods match no node now"
	default:
		return ", not on a node yet"
	}
}

func meeting(f check.Finding) string {
	switch f.Case {
	case check.TooManyTogether:
		return together(f)
	case check.LeavesNoNode:
		return fmt.Sprintf("%s is wanted by %s too, which can run on no other node", f.Claim.PortProtocol(), holders(f, false))
	case check.MayMeetThere:
		to := "its nodes"
		if len(f.Nodes) > 0 {
			to = nodes(f.Nodes)
		}
		return fmt.Sprintf("%s is wanted by %s too, whose pods may come to %s", f.Claim.PortProtocol(), holders(f, false), to)
	default:
		return metOnNodes(f)
	}
}

// metOnNodes: "80/TCP is held by Pod a/b (spec…hostPort) on 1 of the 3 eligible nodes (n1)".
func metOnNodes(f check.Finding) string {
	several := len(f.Others) > 0
	s := taken(f)
	switch {
	case f.Case == check.EveryNodeTaken && f.Eligible == 0:
		return s + " on every node"
	case several && len(f.Nodes) == f.Eligible:
		return fmt.Sprintf("%s: all eligible nodes are taken, by %s", f.Claim.PortProtocol(), holders(f, true))
	case several && f.Eligible > 0:
		return s + fmt.Sprintf(", %d of the %d eligible nodes", len(f.Nodes), f.Eligible)
	case several:
		return s
	case f.Eligible == 0: // which nodes there are is not known
		return s + " on " + nodes(f.Nodes)
	case len(f.Nodes) == f.Eligible && f.Eligible == 1:
		return s + fmt.Sprintf(" on %s, the only eligible node", nodes(f.Nodes))
	case len(f.Nodes) == f.Eligible:
		return s + fmt.Sprintf(" on %s, all eligible nodes", nodes(f.Nodes))
	case f.Case == check.EveryNodeTaken:
		return s + fmt.Sprintf(" on %s; all other eligible nodes are taken too", nodes(f.Nodes))
	default:
		return s + fmt.Sprintf(" on %d of the %d eligible nodes (%s)", len(f.Nodes), f.Eligible, list(f.Nodes))
	}
}

// undeclared: "9808/TCP is used by Pod a/b (spec…livenessProbe.httpGet.port) on node n1, and its probe shows that …".
func undeclared(f check.Finding) string {
	s := fmt.Sprintf("%s is used by %s", claimed(f.Claim), holders(f, len(f.Others) > 0))
	if len(f.Others) == 0 {
		s += where(f)
	}
	switch f.Case {
	case check.ProbeOfHolder:
		return s + ", judging by its probe"
	case check.AskedFor:
		return s + ", and a load balancer can give the port to one of them only"
	case check.InitListens:
		return s + ", so the init container cannot listen on it"
	default:
		return s + ", and the probe shows that this container listens on it"
	}
}

// holders names the first holders, with their nodes or without: "Pod a/b (spec…hostPort) on node n1, Pod a/c on node n2 and 3
// others".
func holders(f check.Finding, placed bool) string {
	const few = 2
	var named []string
	for i, h := range f.Holders() {
		if i == few {
			break
		}
		name := h.Ref.String()
		switch {
		case h.Kind == check.NodeKind:
			name = "a reservation (" + h.Field + ")"
		case i == 0:
			name = holder(&h)
		}
		if placed && len(h.Nodes) > 0 {
			name += " on " + nodes(h.Nodes)
		}
		named = append(named, name)
	}
	switch more := len(f.Others) + 1 - len(named); {
	case more == 1:
		return strings.Join(named, ", ") + " and 1 other"
	case more > 1:
		return fmt.Sprintf("%s and %d others", strings.Join(named, ", "), more)
	default:
		return strings.Join(named, " and ")
	}
}

func together(f check.Finding) string {
	s := fmt.Sprintf("%s is wanted by %s too, ", f.Claim.PortProtocol(), holders(f, false))
	if f.Eligible == 1 {
		return s + "and there is only one node for both"
	}
	if len(f.Others) > 0 {
		return s + "and their nodes are too few for the pods of all"
	}
	return s + "and their nodes are too few for the pods of both"
}

func nodes(names []string) string {
	if len(names) == 1 {
		return "node " + names[0]
	}
	return "nodes " + list(names)
}

// list names the first few: "n1, n2, n3 and 17 more".
func list(names []string) string {
	const few = 3
	if len(names) <= few+1 {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
}

func fieldName(c ports.Claim) string {
	if c.Kind == ports.HostNetwork {
		return "containerPort"
	}
	return c.Kind.String()
}

// wayOut is what the owner of a claim can do about it.
func wayOut(c ports.Claim) string {
	switch c.Kind {
	case ports.NodePort, ports.HealthCheckNodePort:
		return fmt.Sprintf("choose another %s, or leave it out to get a free one", c.Kind)
	case ports.HostNetwork:
		return "let the process listen on another port, or leave the host network"
	case ports.ExternalIP, ports.LoadBalancerIP, ports.ServiceLBPort:
		return "choose another port or address"
	case ports.HostPort:
		return "choose another hostPort, or expose the pod by a Service"
	default:
		return "choose another port"
	}
}
