package explain

import (
	"maps"
	"net/netip"
	"slices"

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
	Assumed bool // the endpoints of a Service are not known, and it is taken to have some
}

// Class is what becomes of the packets of one class.
type Class struct {
	From   From
	Family rules.Family
	Where  Where
	Winner ports.Ref // who gets them; the zero Ref: nobody
	Flips  bool      // another one, if the components had started in the other order
	Path   walk.Path // the one by which the winner gets them
}

// Where tells nodes apart for which a Service's rules differ.
type Where string

// The nodes of a Service whose traffic policy is Local. Of another one all are alike.
const (
	Anywhere Where = ""
	Beside   Where = "on nodes with an endpoint"
	Away     Where = "on nodes without an endpoint"
)

// OrderDependent reports whether who gets some of the packets depends on which component started first.
func (e Evidence) OrderDependent() bool {
	for _, c := range e.Classes {
		if c.Flips {
			return true
		}
	}
	return false
}

// Conflict walks the packets that a finding's object and its holder both claim, on a node with nothing but these two. Of a
// Service that is known, its policies and endpoints count; pods that have no address yet, and Services whose endpoints are not
// known, get addresses made up for the purpose. Families are those of the cluster's pods; none: not known, and those of the Service count. It reports false if
// rules have nothing to say about the two: where both are of one kind, or what installs them is not known.
func (p Plane) Conflict(f check.Finding, families check.Families) (Evidence, bool) {
	if f.Holder == nil || f.Claim.Owner == nil || f.Holder.Kind == check.NodeKind {
		return Evidence{}, false // what listens on a port that a node reserves is not known
	}
	if p.Unknown(f.Claim.Kind) != "" || p.Unknown(f.Holder.Claim.Kind) != "" {
		return Evidence{}, false
	}
	e := Evidence{Number: f.Claim.Number()}
	var svc *rules.Service
	for owner, c := range map[ports.Ref]ports.Claim{f.Object: f.Claim, f.Holder.Ref: f.Holder.Claim} {
		if !c.Kind.OfPod() && c.Kind != ports.HealthCheckNodePort {
			known := false
			if svc, known = p.known(owner, c); svc == nil {
				return Evidence{}, false
			}
			e.Assumed = !known
		}
	}
	if svc != nil && families == (check.Families{}) {
		for _, addr := range svc.ClusterIPs {
			families.IPv4, families.IPv6 = families.IPv4 || addr.Is4(), families.IPv6 || addr.Is6()
		}
	}
	nodes := f.Nodes
	if e.Assumed {
		nodes = nil // endpoints that are not known may be on any
	}
	for _, at := range places(svc, nodes) {
		if !p.walk(&e, f, svc, at, families) {
			return Evidence{}, false
		}
	}
	return e, len(e.Classes) > 0
}

// known returns the part of a Service that a claim is about; one made up where it is not known. It is nil if another proxy than
// kube-proxy serves it.
func (p Plane) known(owner ports.Ref, c ports.Claim) (*rules.Service, bool) {
	made := service(owner, c)
	if p.Services == nil {
		return made, false
	}
	svc, known := p.Services(owner, made.ClusterIPs)
	switch {
	case svc == nil && known:
		return nil, true
	case svc == nil:
		return made, false
	}
	one := *svc
	one.Ports = slices.DeleteFunc(slices.Clone(svc.Ports), func(port rules.ServicePort) bool {
		number := port.Port
		if c.Kind == ports.NodePort {
			number = port.NodePort
		}
		return number != c.Port || port.Protocol != c.Protocol
	})
	for i := range one.Ports {
		if !known {
			one.Ports[i].Endpoints = made.Ports[0].Endpoints
		}
	}
	return &one, known
}

// place is a node as a Service's rules tell it from others.
type place struct {
	where Where
	node  string // the first of those that are alike
}

// places returns the nodes, of those where two meet, for which a Service's rules differ; no names of nodes: it may be any.
func places(svc *rules.Service, nodes []string) []place {
	if svc == nil || !svc.ExternalLocal && !svc.InternalLocal {
		return []place{{}}
	}
	beside := map[string]map[rules.Family]bool{}
	for _, p := range svc.Ports {
		for _, e := range p.Endpoints {
			if isUsable(e) {
				if beside[e.Node] == nil {
					beside[e.Node] = map[rules.Family]bool{}
				}
				beside[e.Node][rules.FamilyOf(e.Addr.Addr())] = true
			}
		}
	}
	if nodes == nil {
		nodes = append(slices.Sorted(maps.Keys(beside)), "") // and one that has none
	}
	var found []place
	seen := map[[2]bool]bool{}
	for _, node := range nodes {
		has := beside[node]
		if alike := [2]bool{has[rules.IPv4], has[rules.IPv6]}; !seen[alike] {
			seen[alike] = true
			where := Away
			if has != nil {
				where = Beside
			}
			found = append(found, place{where, node})
		}
	}
	return found
}

// isUsable reports whether kube-proxy may send packets to an endpoint: to those that end only where none is ready.
func isUsable(e rules.Endpoint) bool { return e.Ready || e.Serving && e.Terminating }

// at returns a Service as it is seen on a node, which is that of the scene.
func at(svc *rules.Service, p place) *rules.Service {
	if svc == nil || p.where == Anywhere {
		return svc
	}
	moved := *svc
	moved.Ports = slices.Clone(svc.Ports)
	for i := range moved.Ports {
		moved.Ports[i].Endpoints = slices.Clone(moved.Ports[i].Endpoints)
		for j := range moved.Ports[i].Endpoints {
			e := &moved.Ports[i].Endpoints[j]
			e.Node = map[bool]string{true: sceneNode, false: "another"}[e.Node == p.node]
		}
	}
	return &moved
}

// walk adds the classes of packets at one place; false if the two are no matter of rules.
func (p Plane) walk(e *Evidence, f check.Finding, svc *rules.Service, on place, families check.Families) bool {
	s := &scene{held: f.Holder.Claim.Address, wanted: f.Claim.Address, service: at(svc, on)}
	one, ok := s.place(f.Object, f.Claim)
	other, also := s.place(f.Holder.Ref, f.Holder.Claim)
	if !ok || !also || one == other {
		return false
	}
	s.world.Proxy = rules.Proxy{MasqueradeBit: 14, LocalhostNodePorts: !p.NotOnLoopback, Detector: rules.Detector{CIDRs: podNetworks()}}
	s.world.Portmap = rules.Portmap{MarkBit: 13}
	var walkers []*walk.Walker
	for _, family := range []rules.Family{rules.IPv4, rules.IPv6} {
		is := check.Families{IPv4: family == rules.IPv4, IPv6: family == rules.IPv6}
		to, ok := s.destination(family)
		if !ok || families != (check.Families{}) && !(families.IPv4 && is.IPv4 || families.IPv6 && is.IPv6) {
			continue
		}
		if walkers == nil {
			for _, rs := range p.sets(&s.world) {
				walkers = append(walkers, walk.New(rs, Host(&s.world)))
			}
		}
		for _, from := range Froms() {
			packet, ok := PacketOf(&s.world, from, netip.AddrPortFrom(to, f.Claim.Port))
			if !ok {
				continue
			}
			packet.Protocol = f.Claim.Protocol
			c := Class{From: from, Family: family, Where: on.where, Path: walkers[0].Walk(packet)[0]}
			c.Winner = Receiver(c.Path, s.listener)
			for _, other := range walkers[1:] {
				c.Flips = c.Flips || Receiver(other.Walk(packet)[0], s.listener) != c.Winner
			}
			e.Classes = append(e.Classes, c)
		}
	}
	return true
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
	service      *rules.Service // nil: neither of the two is one
	listener     ports.Ref
}

// sceneNode is the node's name.
const sceneNode = "node"

// The addresses of a scene (RFC 5737, RFC 3849 for what is outside).
func nodeAddresses() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}
}

func podNetworks() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24"), netip.MustParsePrefix("fd00:10:244::/64")}
}

// place puts an owner's claim into the scene.
func (s *scene) place(owner ports.Ref, c ports.Claim) (kind, bool) {
	s.world.Node = rules.Node{Name: sceneNode, IPs: nodeAddresses(), Addresses: nodeAddresses(), PodCIDRs: podNetworks()}
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
		s.world.Services = []*rules.Service{s.service}
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
			Addr: netip.AddrPortFrom(podAddress(network, 20), c.Port), Node: sceneNode, Ready: true, Serving: true,
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

// Receiver is who gets the packets of a path: whoever's rule sends them somewhere, else who listens on the node. Nobody gets what
// is rejected or dropped.
func Receiver(p walk.Path, listener ports.Ref) ports.Ref {
	switch {
	case p.Verdict == walk.Reject || p.Verdict == walk.Drop:
		return ports.Ref{}
	case p.Verdict == walk.Accept && p.Local:
		return listener
	default:
		return p.Origin.Owner
	}
}
