package inspect

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/cli"
	"github.com/portcullis-k8s/portcullis/pkg/explain"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/report"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
	"github.com/portcullis-k8s/portcullis/pkg/rules/walk"
)

// addSituations walks the packets for a number on one node of each kind: those that are alike get one answer.
func (h *holdings) addSituations(n *report.PortNumber, port uint16, protocol ports.Protocol, only string, held []report.HeldPort) {
	if len(h.nodes) == 0 && len(held) > 0 {
		n.Unknown = "there is no Node among the objects"
		return
	}
	plane := explain.PlaneOf(h.settings.ServiceProxy, h.settings.HostPorts, !h.settings.NodePorts.IPv4Loopback)
	var unknown []explain.Component
	for _, one := range held {
		if c := plane.Unknown(one.Claim.Kind); one.Claim.Owner != nil && c != "" && !slices.Contains(unknown, c) {
			unknown = append(unknown, c)
		}
	}
	if unknown != nil {
		n.Unknown = report.UnknownComponents(unknown)
		return
	}
	for _, g := range h.alike(only, held) {
		situations, simulated, err := h.situations(plane, g, port, protocol)
		if err != nil {
			n.Unknown = err.Error()
			continue
		}
		n.Situations = append(n.Situations, situations...)
		for _, text := range simulated {
			if !slices.Contains(n.Simulated, text) {
				n.Simulated = append(n.Simulated, text)
			}
		}
	}
}

// situations walks the packets to every destination on the first of nodes that are alike; where endpoints are simulated, without them
// too. Destinations with one answer are told together.
func (h *holdings) situations(plane explain.Plane, g *group, port uint16, protocol ports.Protocol) ([]report.PortSituation, []string, error) {
	st := h.stage(g.nodes[0], g.held)
	with, err := h.walker(plane, st.node, slices.Concat(st.objects, st.assumed), g.held)
	if err != nil {
		return nil, nil, err
	}
	without := with
	if st.assumed != nil {
		if without, err = h.walker(plane, st.node, st.objects, g.held); err != nil {
			return nil, nil, err
		}
	}
	to := destinations(extract.NodeAddresses(st.node), g.held)
	if len(to) == 0 {
		return nil, nil, fmt.Errorf("node %s has no address of a family that it is held for", st.node.Name)
	}
	var walks []*report.PortWalk
	var simulated []string
	for _, d := range to {
		one := with.walk(d, port, protocol)
		one.Otherwise = one.Ends
		if without != with {
			one.Otherwise = without.walk(d, port, protocol).Ends
		}
		one.Port, one.Protocol = port, protocol
		for _, node := range g.nodes {
			one.Nodes = append(one.Nodes, node.Name)
		}
		one.AddDestination(addressesOn(g.nodes, d), d.own)
		simulated = append(simulated, one.Simulated...)
		if i := slices.IndexFunc(walks, func(w *report.PortWalk) bool { return w.Agrees(&one) }); i >= 0 {
			walks[i].Merge(&one)
		} else {
			walks = append(walks, &one)
		}
	}
	var all []report.PortSituation
	for _, w := range walks {
		w.All = len(walks) == 1
		all = append(all, report.NewPortSituation(*w, h.rootOf))
	}
	ofService := slices.ContainsFunc(g.held, func(one report.HeldPort) bool { return !one.Claim.Kind.OfPod() })
	if ofService && with.assumesPods {
		simulated = append(simulated, "kube-proxy's cluster CIDR, the node's podCIDR")
	}
	return all, append(simulated, st.simulated...), nil
}

// walker follows packets through the rules that objects lead to on a node.
type walker struct {
	plane explain.Plane
	world *rules.World
	held  []report.HeldPort

	assumesPods bool // nothing tells by what kube-proxy knows pods
}

func (h *holdings) walker(plane explain.Plane, node *corev1.Node, objects []runtime.Object, held []report.HeldPort) (*walker, error) {
	w, err := extract.World(objects, extract.WorldOptions{
		Node: node.Name, Portmap: rules.Portmap{MarkBit: cli.PortmapMarkBit},
		Proxy: rules.Proxy{
			LocalhostNodePorts: h.settings.NodePorts.IPv4Loopback, PrimaryNodePorts: h.settings.NodePorts.Primary,
			NodePortAddresses: h.settings.NodePorts.Prefixes, Counters: true, Detector: rules.Detector{CIDRs: h.clusterCIDR},
		},
	})
	if err != nil {
		return nil, err
	}
	return &walker{plane: plane, world: w, held: held, assumesPods: cli.AssumePodCIDRs(w)}, nil
}

// walk follows the packets of every class to a destination.
func (w *walker) walk(d destination, port uint16, protocol ports.Protocol) report.PortWalk {
	var found report.PortWalk
	host := explain.Host(w.world)
	for _, from := range explain.Froms() {
		packet, ok := packetTo(w.world, from, d, port)
		if !ok {
			continue // a node without pods of the family
		}
		packet.Protocol = protocol
		answer := w.plane.Trace(w.world, host, packet)
		end := w.endOf(from, packet, answer.Paths[0])
		found.Ends = append(found.Ends, end)
		found.OrderDependent = found.OrderDependent || answer.OrderDependent && slices.ContainsFunc(answer.Paths, func(p walk.Path) bool { return w.endOf(from, packet, p) != end })
		switch from {
		case explain.FromOutside:
			found.Outside = answer
			found.Simulated = append(found.Simulated, "a client outside, "+packet.Src.String())
		case explain.FromPod:
			found.Simulated = append(found.Simulated, "a client in a pod")
		case explain.FromNode, explain.FromLoopback:
		}
	}
	return found
}

// packetTo is the packet of a class to a destination; false if there is none. Over loopback it goes to 127.0.0.1 in place of the node's
// own address.
func packetTo(w *rules.World, from explain.From, d destination, port uint16) (walk.Packet, bool) {
	to := netip.AddrPortFrom(d.addr, port)
	switch {
	case d.addr.IsLoopback():
		packet, err := explain.PacketFrom(w, "loopback", to)
		return packet, err == nil && from == explain.FromLoopback
	case from == explain.FromLoopback && !d.own:
		return walk.Packet{}, false
	default:
		return explain.PacketOf(w, from, to)
	}
}

// endOf is what becomes of the packets of a path.
func (w *walker) endOf(from explain.From, packet walk.Packet, p walk.Path) report.PacketEnd {
	end := report.PacketEnd{Of: string(from), Who: explain.Receiver(p, listenerOf(packet.Dst.Addr(), w.held))}
	switch {
	case packet.Dst.Addr() == netip.IPv6Loopback() && p.Martian:
		end.Who, end.Verdict = ports.Ref{}, report.PacketsDropped // what is translated for ::1 nobody answers
	case p.Verdict == walk.Drop:
		end.Verdict, end.By = report.PacketsDropped, p.Origin.Owner
	case p.Verdict == walk.Reject:
		end.Verdict, end.By = report.PacketsRejected, p.Origin.Owner
	case end.Who == ports.Ref{} && !p.Local:
		end.Verdict = report.PacketsForwarded
	}
	return end
}

// listenerOf is who among holders listens on the node.
func listenerOf(at netip.Addr, held []report.HeldPort) ports.Ref {
	for _, one := range held {
		if kind := one.Claim.Kind; (kind == ports.HostNetwork || kind == ports.HealthCheckNodePort) && one.Claim.Address.Contains(at) {
			return one.Claim.Owner.Ref
		}
	}
	return ports.Ref{}
}
