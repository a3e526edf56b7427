package report

import (
	"fmt"
	"strings"
	"time"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// ofPools tells in pkg/pool's words, which end with the way out.
func ofPools(f check.Finding) (what, way string) {
	d := detail[check.PoolObjection](f)
	what, way, _ = strings.Cut(d.Err.Error(), "; ")
	if f.Code == check.ForeignPool && d.Chosen {
		way = "if you named none, create the Service again to get another, or " + way
	}
	return what, way
}

// instead is the way out for a number that somebody else has: a free one, where one is offered.
func instead(f check.Finding) string {
	if f.Instead == 0 {
		return wayOut(f.Claim)
	}
	return fmt.Sprintf("choose another %s (%d is free), or leave it out to get a free one", f.Claim.Kind, f.Instead)
}

// by is the policy that objects.
func by(f check.Finding) string { return "PortPolicy " + f.Holder.Name }

func nodePortPolicy(f check.Finding) (what, way string) {
	field, number := f.Claim.Kind.String(), f.Claim.Port
	switch f.Case {
	case check.NoNodePorts:
		what = fmt.Sprintf("%s allows Services of namespace %s no %s", by(f), f.Object.Namespace, field)
		if f.Claim.Kind == ports.HealthCheckNodePort {
			return what, "make externalTrafficPolicy Cluster"
		}
		return what, "make the type ClusterIP, or expose it by an Ingress or a Gateway"
	case check.NumberNotAllowed:
		return fmt.Sprintf("%d is not in %s, which is what %s allows", number, detail[check.AllowedPorts](f).Ports, by(f)), "choose a number of these"
	case check.NumberOfNoPool:
		return ofNoPool(f)
	case check.NumberWritten:
		return fmt.Sprintf("%s lets nobody of namespace %s choose a number, and %d was written", by(f), f.Object.Namespace, number),
			fmt.Sprintf("leave %s out to get one", field)
	default:
		what = fmt.Sprintf("%s allows load balancers of namespace %s no node ports", by(f), f.Object.Namespace)
		if strings.HasSuffix(f.Field, "nodePort") {
			return what, "remove nodePort from each port"
		}
		return what, "set it to false"
	}
}

// ofNoPool: the number is of no pool that serves the Service, or there is no pool to give one.
func ofNoPool(f check.Finding) (what, way string) {
	if f.Claim.Port == 0 {
		return fmt.Sprintf("no PortPool gives this Service a %s, and %s allows no other", f.Claim.Kind, by(f)),
			"have a PortPool select namespace " + f.Object.Namespace
	}
	what = fmt.Sprintf("%d is of no PortPool that serves this Service, and %s allows no other", f.Claim.Port, by(f))
	serving := detail[check.ServingPool](f).Name
	if serving == "" {
		return what, "have a PortPool select namespace " + f.Object.Namespace
	}
	return what, fmt.Sprintf("choose a number of PortPool %s, or leave %s out to get one", serving, f.Claim.Kind)
}

func hostPortPolicy(f check.Finding) (what, way string) {
	switch f.Case {
	case check.NoHostPorts:
		return fmt.Sprintf("%s allows pods of namespace %s no host ports, and this is %s", by(f), f.Object.Namespace, f.Claim.PortProtocol()),
			withoutHostPort(f)
	case check.SocketNotAllowed:
		return fmt.Sprintf("%s is not among the host ports that %s allows: %s", socketOf(f.Claim), by(f), detail[check.AllowedPorts](f).Ports),
			elsewhere(f.Claim, "among these")
	case check.NoHostNetwork:
		return fmt.Sprintf("%s allows pods of namespace %s no host network", by(f), f.Object.Namespace),
			"remove hostNetwork, and expose the pod by a Service"
	default:
		return fmt.Sprintf("%d is inside the node port range %s, where %s allows no host port", f.Claim.Port, detail[check.PortRange](f).Range, by(f)),
			elsewhere(f.Claim, "outside it")
	}
}

func externalIPPolicy(f check.Finding) (what, way string) {
	const otherwise = ", or expose the Service by a LoadBalancer, an Ingress or a Gateway"
	addr := detail[check.ExternalIP](f).Addr
	if f.Case == check.NoNodesExternalIP {
		return fmt.Sprintf("%s is an address of %s, and %s allows Services of namespace %s none of a node", addr, nodes(f.Nodes), by(f), f.Object.Namespace),
			"choose an address of no node" + otherwise
	}
	return fmt.Sprintf("%s allows Services of namespace %s no external IP, and this is %s", by(f), f.Object.Namespace, addr),
		"remove it" + otherwise
}

// socketOf is a socket with its address, where it names one.
func socketOf(c ports.Claim) string {
	if c.Address == ports.AllAddresses() {
		return c.PortProtocol()
	}
	return c.Socket.String()
}

func withoutHostPort(f check.Finding) string {
	if f.Claim.Kind == ports.HostNetwork {
		return "leave the host network, and expose the pod by a Service"
	}
	return "remove hostPort, and expose the pod by a Service"
}

func reserved(f check.Finding) string {
	d := detail[check.Reservation](f)
	s := fmt.Sprintf("%s is reserved for %s", f.Claim.PortProtocol(), d.Name)
	switch {
	case f.Case == check.ReservedLater:
		s += " on the nodes that it selects, of which there is none yet,"
	case f.Case == check.ReservedMaybe:
		s += " on nodes of which one may come, as none suits yet,"
	case f.Nodes == nil:
		s += " on every node"
	case f.Case == check.ReservedAll:
		s += fmt.Sprintf(" on %s, all eligible nodes,", nodes(f.Nodes))
	default:
		s += " on " + nodes(f.Nodes)
	}
	s += " by " + by(f)
	if d.Reason != "" {
		const most = 60 // of up to 200 characters, so that the way out stays
		s += " (" + cut(d.Reason, most) + ")"
	}
	return s
}

// exception tells of the one under which the object passes, or passed.
func exception(f check.Finding) (what, way string) {
	d := detail[check.ExceptionEnd](f)
	ends := d.Ends.UTC().Format(time.RFC3339)
	what = fmt.Sprintf("passes %s by the exception %s alone, which ends at %s", by(f), d.Name, ends)
	if f.Case == check.HasEnded {
		what = fmt.Sprintf("passed %s by the exception %s, which ended at %s", by(f), d.Name, ends)
	}
	return what, "comply with the policy, or have the exception prolonged"
}
