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
	At      netip.Addr // the only address that the two share; the zero Addr: there are more
	Service ports.Ref  // the one of the two that gets packets by its endpoints; the zero Ref: neither
	Assumed bool       // the endpoints of Service are not known, and it is taken to have some
	Without bool       // Service is known to have no endpoints, and would get packets if it had some
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
// rules have nothing to say about the two: where both are of one kind, share no packets, or what installs their rules is not known.
func (p Plane) Conflict(f check.Finding, families check.Families) (Evidence, bool) {
	if f.Holder == nil || f.Claim.Owner == nil || f.Holder.Kind == check.NodeKind {
		return Evidence{}, false // what listens on a port that a node reserves is not known
	}
	if f.Claim.Protocol != f.Holder.Claim.Protocol {
		return Evidence{}, false // two Services that the API server gives no number in common
	}
	e := Evidence{Number: f.Claim.PortProtocol(), At: shared(f.Claim.Address, f.Holder.Claim.Address)}
	var svc *rules.Service
	var byEndpoints ports.Claim
	for _, one := range []struct {
		owner ports.Ref
		claim ports.Claim
	}{{f.Object, f.Claim}, {f.Holder.Ref, f.Holder.Claim}} {
		kind := one.claim.Kind
		if p.Unknown(kind) != "" {
			return Evidence{}, false
		}
		if kind.OfPod() {
			continue
		}
		found, known := p.known(one.owner, one.claim)
		switch {
		case found == nil:
			return Evidence{}, false
		case kind == ports.HealthCheckNodePort: // kube-proxy itself listens, whatever endpoints there are
		case svc != nil:
			return Evidence{}, false
		default:
			svc, byEndpoints = found, one.claim
			e.Service, e.Assumed = one.owner, !known
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
	var ok bool
	if e.Classes, ok = p.classes(f, svc, nodes, families); !ok {
		return Evidence{}, false
	}
	if svc != nil && !e.Assumed && !hasUsable(svc) {
		with, _ := p.classes(f, withEndpoints(svc, byEndpoints), nil, families)
		e.Without = slices.ContainsFunc(with, func(c Class) bool { return c.Winner == e.Service || c.Flips })
	}
	return e, len(e.Classes) > 0
}

// shared returns the only address that two claims share; the zero Addr if there may be more.
func shared(a, b ports.Address) netip.Addr {
	for _, one := range []ports.Address{a, b} {
		if addr, single := one.Single(); single {
			return addr
		}
	}
	return netip.Addr{}
}

// classes walks the packets at each place that a Service's rules tell apart; false if the two are no matter of rules.
func (p Plane) classes(f check.Finding, svc *rules.Service, nodes []string, families check.Families) ([]Class, bool) {
	var all []Class
	for _, at := range places(svc, nodes) {
		found, ok := p.walk(f, svc, at, families)
		if !ok {
			return nil, false
		}
		all = append(all, found...)
	}
	return all, true
}

// hasUsable reports whether a Service has an endpoint to which kube-proxy may send packets.
func hasUsable(svc *rules.Service) bool {
	return slices.ContainsFunc(svc.Ports, func(p rules.ServicePort) bool { return slices.ContainsFunc(p.Endpoints, rules.Endpoint.IsUsable) })
}

// withEndpoints returns a Service with endpoints made up for it.
func withEndpoints(svc *rules.Service, c ports.Claim) *rules.Service {
	other := *svc
	other.Ports = slices.Clone(svc.Ports)
	for i := range other.Ports {
		other.Ports[i].Endpoints = service(svc.Ref, c).Ports[0].Endpoints
	}
	return &other
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
	if !known {
		return withEndpoints(&one, c), false
	}
	return &one, true
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
			if e.IsUsable() {
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

// walk returns the classes of packets at one place; false if the two are no matter of rules.
func (p Plane) walk(f check.Finding, svc *rules.Service, on place, families check.Families) ([]Class, bool) {
	s := &scene{held: f.Holder.Claim.Address, wanted: f.Claim.Address, service: at(svc, on)}
	one, ok := s.place(f.Object, f.Claim)
	other, also := s.place(f.Holder.Ref, f.Holder.Claim)
	if !ok || !also || one == other {
		return nil, false
	}
	s.world.Proxy = rules.Proxy{MasqueradeBit: 14, LocalhostNodePorts: !p.NotOnLoopback, Detector: rules.Detector{CIDRs: podNetworks()}}
	s.world.Portmap = rules.Portmap{MarkBit: 13}
	var classes []Class
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
			if !ok || !s.shares(packet.Dst.Addr()) {
				continue
			}
			packet.Protocol = f.Claim.Protocol
			listener := s.listenerAt(packet.Dst.Addr())
			c := Class{From: from, Family: family, Where: on.where, Path: walkers[0].Walk(packet)[0]}
			c.Winner = Receiver(c.Path, listener)
			for _, other := range walkers[1:] {
				c.Flips = c.Flips || Receiver(other.Walk(packet)[0], listener) != c.Winner
			}
			classes = append(classes, c)
		}
	}
	return classes, true
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
	listens      ports.Address // where listener does
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
		s.listener, s.listens = owner, c.Address
		return ofListener, true
	case ports.HealthCheckNodePort: // kube-proxy listens, and accepts before it drops what finds no endpoint
		s.listener, s.listens = owner, c.Address
		s.world.Services = append(s.world.Services, healthChecked(owner, c.Port))
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
		s.world.Services = append(s.world.Services, s.service)
		return ofService, true
	case ports.ServiceLBPort: // whose pods map it, as host ports of their own
	}
	return 0, false
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

// healthChecked is a Service with a health check of which nothing else comes to the node.
func healthChecked(owner ports.Ref, port uint16) *rules.Service {
	return &rules.Service{
		Ref: owner, Type: "LoadBalancer", ExternalLocal: true, HealthCheckNodePort: port,
		ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.11"), netip.MustParseAddr("fd00:10:96::b")},
		Ports:      []rules.ServicePort{{ServicePort: ports.ServicePort{Protocol: ports.TCP, Port: 80}}},
	}
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

// shares reports whether packets to an address are a matter of the two: both claims have it, or one does and the other leaves it out
// of all that a node has, as node ports do with loopback.
func (s *scene) shares(addr netip.Addr) bool {
	held, wanted := s.held.Contains(addr), s.wanted.Contains(addr)
	return held && wanted || (held || wanted) && isWide(s.held) && isWide(s.wanted)
}

// isWide reports whether an address stands for whatever a node has.
func isWide(a ports.Address) bool {
	return a.IsPrimaryOnly() || a.Covers(ports.AllIPv4()) || a.Covers(ports.AllIPv6())
}

// listenerAt is who listens at an address.
func (s *scene) listenerAt(addr netip.Addr) ports.Ref {
	if !s.listens.Contains(addr) {
		return ports.Ref{}
	}
	return s.listener
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
