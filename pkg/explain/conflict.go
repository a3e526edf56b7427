package explain

import (
	"net/netip"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
	"github.com/portcullis-k8s/portcullis/pkg/rules/walk"
)

// From is where a packet comes from.
type From string

// The classes of packets for which rules differ.
const (
	FromOutside  From = "from outside"
	FromPod      From = "from pods"
	FromNode     From = "from the node itself"
	FromLoopback From = "over loopback"
)

// Froms lists the classes, the most common first.
func Froms() []From { return []From{FromOutside, FromPod, FromNode, FromLoopback} }

// Evidence says who gets the packets that two owners claim.
type Evidence struct {
	Number  string // "30007/TCP"
	Classes []Class
}

// Class is what becomes of the packets of one class.
type Class struct {
	From   From
	Family rules.Family
	Winner ports.Ref // who gets them; the zero Ref: nobody
	Flips  bool      // another one, if the components had started in the other order
	Path   walk.Path // the one by which the winner gets them
}

// OrderDependent reports whether who gets some of the packets depends on which component started first.
func (e Evidence) OrderDependent() bool {
	for _, c := range e.Classes {
		if c.Flips {
			return true
		}
	}
	return false
}

// Conflict walks the packets that a finding's object and its holder both claim, on a node with nothing but these two. Pods
// that have no address yet, and Services whose endpoints are not known, get addresses made up for the purpose. It reports
// false if rules have nothing to say about the two: where both are of one kind, or what installs them is not known.
func (p Plane) Conflict(f check.Finding) (Evidence, bool) {
	if f.Holder == nil || f.Claim.Owner == nil || f.Holder.Kind == check.NodeKind {
		return Evidence{}, false // what listens on a port that a node reserves is not known
	}
	if p.Unknown(f.Claim.Kind) != "" || p.Unknown(f.Holder.Claim.Kind) != "" {
		return Evidence{}, false
	}
	s := &scene{held: f.Holder.Claim.Address, wanted: f.Claim.Address}
	one, ok := s.place(f.Object, f.Claim)
	other, also := s.place(f.Holder.Ref, f.Holder.Claim)
	if !ok || !also || one == other {
		return Evidence{}, false
	}
	s.world.Proxy = rules.Proxy{MasqueradeBit: 14, LocalhostNodePorts: !p.NotOnLoopback, Detector: rules.Detector{CIDRs: podNetworks()}}
	s.world.Portmap = rules.Portmap{MarkBit: 13}
	e := Evidence{Number: f.Claim.Number()}
	var walkers []*walk.Walker
	for _, family := range []rules.Family{rules.IPv4, rules.IPv6} {
		to, ok := s.destination(family)
		if !ok {
			continue
		}
		if walkers == nil {
			for _, rs := range p.sets(&s.world) {
				walkers = append(walkers, walk.New(rs, Host(&s.world)))
			}
		}
		for _, from := range Froms() {
			packet, ok := s.packet(from, netip.AddrPortFrom(to, f.Claim.Port), f.Claim.Protocol)
			if !ok {
				continue
			}
			c := Class{From: from, Family: family, Path: walkers[0].Walk(packet)[0]}
			c.Winner = s.winner(c.Path)
			for _, other := range walkers[1:] {
				c.Flips = c.Flips || s.winner(other.Walk(packet)[0]) != c.Winner
			}
			e.Classes = append(e.Classes, c)
		}
	}
	return e, len(e.Classes) > 0
}

// kind is which part an owner has in a scene.
type kind uint8

const (
	ofService kind = iota + 1
	ofPod
	ofListener
)

// scene is a node with two owners on it.
type scene struct {
	world        rules.World
	held, wanted ports.Address
	listener     ports.Ref
}

// The addresses of a scene (RFC 5737, RFC 3849 for what is outside).
func nodeAddresses() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}
}

func podNetworks() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24"), netip.MustParsePrefix("fd00:10:244::/64")}
}

// place puts an owner's claim into the scene.
func (s *scene) place(owner ports.Ref, c ports.Claim) (kind, bool) {
	s.world.Node = rules.Node{Name: "node", IPs: nodeAddresses(), Addresses: nodeAddresses(), PodCIDRs: podNetworks()}
	switch c.Kind {
	case ports.HostNetwork:
		s.listener = owner
		return ofListener, true
	case ports.HostPort:
		pod := &rules.Pod{Ref: owner, SandboxID: "0", Derived: true}
		for _, network := range podNetworks() {
			pod.Addresses = append(pod.Addresses, netip.PrefixFrom(podAddress(network, 10), network.Bits()))
		}
		m := rules.Mapping{Protocol: c.Protocol, HostPort: c.Port, ContainerPort: c.Port}
		switch addr, single := c.Address.Single(); {
		case single:
			m.HostIP = addr
		case c.Address == ports.AllIPv4():
			m.HostIP = netip.IPv4Unspecified()
		case c.Address == ports.AllIPv6():
			m.HostIP = netip.IPv6Unspecified()
		}
		pod.Mappings = []rules.Mapping{m}
		s.world.Pods = []*rules.Pod{pod}
		return ofPod, true
	case ports.NodePort, ports.ExternalIP, ports.LoadBalancerIP:
		s.world.Services = []*rules.Service{service(owner, c)}
		return ofService, true
	case ports.HealthCheckNodePort:
		s.listener = owner // kube-proxy itself listens
		return ofListener, true
	default:
		return 0, false
	}
}

func podAddress(network netip.Prefix, n int) netip.Addr {
	addr := network.Addr()
	for range n {
		addr = addr.Next()
	}
	return addr
}

// service is a Service with a claim and one endpoint of each family on the node.
func service(owner ports.Ref, c ports.Claim) *rules.Service {
	s := &rules.Service{
		Ref: owner, Type: "NodePort",
		ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("fd00:10:96::a")},
	}
	p := rules.ServicePort{ServicePort: ports.ServicePort{Protocol: c.Protocol, Port: c.Port, TargetPort: ports.TargetPort{Number: c.Port}}}
	addr, single := c.Address.Single()
	switch {
	case c.Kind == ports.NodePort:
		p.NodePort, p.Port = c.Port, 80
	case single && c.Kind == ports.ExternalIP:
		s.ExternalIPs = []netip.Addr{addr}
	case single:
		s.Type, s.LoadBalancerIPs = "LoadBalancer", []netip.Addr{addr}
	}
	for _, network := range podNetworks() {
		p.Endpoints = append(p.Endpoints, rules.Endpoint{
			Addr: netip.AddrPortFrom(podAddress(network, 20), c.Port), Node: "node", Ready: true, Serving: true,
		})
	}
	s.Ports = []rules.ServicePort{p}
	return s
}

// destination is an address of the node, of a family, that both claims have.
func (s *scene) destination(f rules.Family) (netip.Addr, bool) {
	for _, a := range []ports.Address{s.held, s.wanted} {
		if addr, single := a.Single(); single {
			if !f.Has(addr) || !s.held.Contains(addr) || !s.wanted.Contains(addr) {
				return netip.Addr{}, false
			}
			if !addr.IsLoopback() {
				s.world.Node.Addresses = append(s.world.Node.Addresses, addr)
				s.world.Node.IPs = append([]netip.Addr{addr}, s.world.Node.IPs...)
			}
			return addr, true
		}
	}
	addr := s.world.Node.IP(f)
	return addr, s.held.Contains(addr) && s.wanted.Contains(addr)
}

// packet returns a packet of a class; false if there is none of it for a destination.
func (s *scene) packet(from From, to netip.AddrPort, protocol ports.Protocol) (walk.Packet, bool) {
	word := map[From]string{FromOutside: "external", FromPod: "pod", FromNode: "node", FromLoopback: "loopback"}[from]
	if from == FromLoopback {
		if to.Addr().Is6() {
			return walk.Packet{}, false // nothing is translated for ::1 that could be answered
		}
		to = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), to.Port())
	} else if to.Addr().IsLoopback() {
		return walk.Packet{}, false
	}
	p, err := PacketFrom(&s.world, word, to)
	p.Protocol = protocol
	return p, err == nil
}

// winner is who gets the packets of a path: whoever's rule decided, else who listens on the node.
func (s *scene) winner(p walk.Path) ports.Ref {
	if p.Verdict == walk.Accept && p.Local {
		return s.listener
	}
	return p.Origin.Owner
}
