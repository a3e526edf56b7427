package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/audit"
	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/explain"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/manifest"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/report"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
	"github.com/portcullis-k8s/portcullis/pkg/rules/walk"
)

// about tells of a number: of each protocol that somebody holds it with, else of the one that was asked for. What would become
// of who wants it now is judged in a namespace.
func (h *holdings) about(asked number, node, namespace string, objects []*manifest.Object) ([]report.PortNumber, error) {
	held := h.listed("", "", &asked)
	protocols := []ports.Protocol{asked.protocol}
	if asked.any {
		found := map[ports.Protocol]bool{}
		for _, one := range held {
			found[one.Claim.Protocol] = true
		}
		if len(found) > 0 {
			all := ports.Protocols()
			protocols = slices.DeleteFunc(all[:], func(p ports.Protocol) bool { return !found[p] })
		}
	}
	set, err := poolsOf(objects, h.settings)
	if err != nil {
		return nil, err
	}
	judge, err := audit.New(h.settings, bare(objects), nil, time.Now())
	if _, err := invalid(err, objects); err != nil { // of a pool or policy that is refused nothing is kept to
		return nil, err
	}
	var all []report.PortNumber
	for _, protocol := range protocols {
		of := slices.DeleteFunc(slices.Clone(held), func(one report.HeldPort) bool { return one.Claim.Protocol != protocol })
		n := report.PortNumber{
			Port: int(asked.port), Protocol: protocol.String(), Free: len(of) == 0,
			LiesIn: h.liesIn(asked.port, set), Situations: []report.PortSituation{}, Serves: h.serves(of), New: h.wanted(judge, namespace, asked.port, protocol),
		}
		h.addSituations(&n, asked.port, protocol, node, of)
		all = append(all, n)
	}
	return all, nil
}

// poolsOf returns the pools among objects; nil if there are none.
func poolsOf(objects []*manifest.Object, settings *extract.Settings) (*pool.Set, error) {
	var found []pool.Pool
	for _, object := range objects {
		if o, ok := object.Object.(*v1alpha1.PortPool); ok {
			p, err := extract.Pool(o)
			if err != nil {
				return nil, fmt.Errorf("PortPool %s: %w", o.Name, err)
			}
			found = append(found, p)
		}
	}
	if found == nil {
		return nil, nil
	}
	return pool.New(found, settings.Check.NodePortRange), nil
}

// liesIn names the ranges and pools that a number is of.
func (h *holdings) liesIn(port uint16, set *pool.Set) []string {
	s := &h.settings.Check
	in := []string{}
	if s.NodePortRange.Contains(port) {
		text := fmt.Sprintf("the node port range %s", s.NodePortRange)
		if s.DynamicBand.Contains(port) {
			text += fmt.Sprintf(", in its dynamic allocation band %s", s.DynamicBand)
		}
		in = append(in, text)
	}
	if s.Ephemeral.Contains(port) && !slices.ContainsFunc(s.ReservedLocal, func(r ports.Range) bool { return r.Contains(port) }) {
		in = append(in, fmt.Sprintf("the range %s that outgoing connections of the nodes use", s.Ephemeral))
	}
	for _, of := range []pool.For{pool.NodePorts, pool.HostPorts} {
		if set == nil {
			continue
		}
		if m, ok := set.OwnerOf(of, port); ok {
			in = append(in, fmt.Sprintf("PortPool %s", m.Name))
		}
	}
	return slices.Compact(in)
}

// serves tells of the Services among the holders how many endpoints they have that are ready.
func (h *holdings) serves(held []report.HeldPort) []report.PortUse {
	uses := []report.PortUse{}
	seen := map[ports.Ref]bool{}
	for _, one := range held {
		if _, ok := h.objects[ownerOf(one)].(*corev1.Service); !ok || seen[ownerOf(one)] {
			continue
		}
		seen[ownerOf(one)] = true
		svc, known := h.known.Service(ownerOf(one), []netip.Addr{netip.MustParseAddr(clusterIPToBe)})
		ready := map[netip.Addr]bool{}
		for i := 0; svc != nil && i < len(svc.Ports); i++ {
			for _, e := range svc.Ports[i].Endpoints {
				if e.Ready {
					ready[e.Addr.Addr()] = true
				}
			}
		}
		uses = append(uses, report.NewPortUse(ownerOf(one), len(ready), known))
	}
	return uses
}

func ownerOf(one report.HeldPort) ports.Ref {
	if one.Claim.Owner == nil {
		return ports.Ref{}
	}
	return one.Claim.Owner.Ref
}

// wanted judges a new Service and a new pod that want a number, as the webhook would: in a namespace, without labels.
func (h *holdings) wanted(judge *audit.Judge, namespace string, port uint16, protocol ports.Protocol) []report.PortWanted {
	settings := &h.settings.Check
	meta := metav1.ObjectMeta{Namespace: namespace, GenerateName: "new-"}
	nodePort, _ := judge.WouldFind(&corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{
		Port: int32(port), NodePort: int32(port), Protocol: corev1.Protocol(protocol.String()), TargetPort: intstr.FromInt32(int32(port)),
	}}}})
	pod := &corev1.Pod{ObjectMeta: meta, Spec: corev1.PodSpec{Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{
		ContainerPort: int32(port), HostPort: int32(port), Protocol: corev1.Protocol(protocol.String()),
	}}}}}}
	hostPort, room := judge.WouldFind(pod)
	forPod := report.NewPortWanted(ports.HostPort, hostPort, room, settings)
	for _, node := range h.sortedNodes() {
		if !slices.Contains(room.Nodes, node.Name) {
			forPod.AddExcluded(node.Name, extract.Exclusions(pod, node, extract.Load{}))
		}
	}
	return []report.PortWanted{report.NewPortWanted(ports.NodePort, nodePort, check.Room{}, settings), forPod}
}

func (h *holdings) sortedNodes() []*corev1.Node {
	return slices.SortedFunc(slices.Values(h.nodes), func(a, b *corev1.Node) int { return strings.Compare(a.Name, b.Name) })
}

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

// group is nodes on which a number has the same holders, and the same becomes of its packets.
type group struct {
	nodes []*corev1.Node // sorted
	held  []report.HeldPort
}

// alike groups the nodes on which a number has holders, daemons aside; only one node, if it is named.
func (h *holdings) alike(only string, held []report.HeldPort) []*group {
	byKey := map[string]*group{}
	var groups []*group
	local := h.localEndpoints(held)
	for _, node := range h.sortedNodes() {
		if only != "" && node.Name != only {
			continue
		}
		here := slices.DeleteFunc(slices.Clone(held), func(one report.HeldPort) bool {
			return one.Claim.Owner == nil || one.Node != node.Name && one.Node != report.EveryNode
		})
		if len(here) == 0 {
			continue
		}
		key := h.keyOf(node, here) + local[node.Name]
		g := byKey[key]
		if g == nil {
			g = &group{held: here}
			byKey[key] = g
			groups = append(groups, g)
		}
		g.nodes = append(g.nodes, node)
	}
	return groups
}

// keyOf is what nodes have in common that are alike, endpoints aside: the holders of a number, the addresses that packets are sent to,
// and the families of what packets go through.
func (h *holdings) keyOf(node *corev1.Node, held []report.HeldPort) string {
	var key strings.Builder
	fmt.Fprintln(&key, extract.IsWindows(node)) // which has rules of its own
	local := extract.NodeAddresses(node)
	fmt.Fprintln(&key, len(local) == 0, familiesOf(podNetworks(node)))
	var pods []*corev1.Pod
	to := destinations(local, held)
	for _, one := range held {
		fmt.Fprintln(&key, one.Holder, one.Claim.Kind, one.Claim.Address)
		for _, d := range to {
			fmt.Fprint(&key, one.Claim.Address.Contains(d.addr))
		}
		if pod, ok := h.objects[ownerOf(one)].(*corev1.Pod); ok {
			pods = append(pods, pod)
			fmt.Fprint(&key, pod.Status.PodIP == "", familiesOf(podAddresses(pod)))
		}
	}
	for _, d := range to {
		if d.own {
			fmt.Fprintln(&key, rules.FamilyOf(d.addr))
		} else {
			fmt.Fprintln(&key, d.addr, slices.Contains(local, d.addr))
		}
	}
	if len(pods) > 1 { // portmap's rules are in the order of the pods' starts
		for _, pod := range pods {
			fmt.Fprint(&key, slices.IndexFunc(slices.SortedStableFunc(slices.Values(pods), extract.ByStart), func(p *corev1.Pod) bool { return p == pod }))
		}
	}
	return key.String()
}

// localEndpoints tells nodes apart by the endpoints there, of each family, of the Services among holders that have a traffic policy Local.
func (h *holdings) localEndpoints(held []report.HeldPort) map[string]string {
	onNode := map[string]string{}
	seen := map[ports.Ref]bool{}
	for _, one := range held {
		ref := ownerOf(one)
		if _, ok := h.objects[ref].(*corev1.Service); !ok || seen[ref] {
			continue
		}
		seen[ref] = true
		svc, known := h.known.Service(ref, []netip.Addr{netip.MustParseAddr(clusterIPToBe)})
		if svc == nil || !known || !svc.ExternalLocal && !svc.InternalLocal {
			continue
		}
		type kind struct {
			port  string
			ipv4  bool
			ready bool
		}
		has := map[string]map[kind]bool{}
		for _, p := range svc.Ports {
			for _, e := range p.Endpoints {
				if !e.IsUsable() {
					continue
				}
				if has[e.Node] == nil {
					has[e.Node] = map[kind]bool{}
				}
				has[e.Node][kind{p.Name, e.Addr.Addr().Is4(), e.Ready}] = true
			}
		}
		for node, kinds := range has {
			onNode[node] += fmt.Sprintln(ref, kinds) // maps are printed in the order of their keys
		}
	}
	return onNode
}

// destination is an address on a node that packets are sent to.
type destination struct {
	addr netip.Addr
	own  bool // the node's primary address of the family
}

// destinations are those that may differ for holders: the node's addresses that one of them has, the first of each family first, and
// each address that one of them names. Local are the node's addresses.
func destinations(local []netip.Addr, held []report.HeldPort) []destination {
	var own, named []destination
	add := func(list *[]destination, d destination) {
		if !slices.ContainsFunc(slices.Concat(own, named), func(o destination) bool { return o.addr == d.addr }) {
			*list = append(*list, d)
		}
	}
	ofFamily := map[rules.Family]netip.Addr{}
	for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
		if i := slices.IndexFunc(local, f.Has); i >= 0 {
			ofFamily[f] = local[i]
			if slices.ContainsFunc(held, func(one report.HeldPort) bool { return one.Claim.Address.Contains(local[i]) }) {
				add(&own, destination{local[i], true})
			}
		}
	}
	for _, addr := range local {
		if addr != ofFamily[rules.FamilyOf(addr)] && slices.ContainsFunc(held, func(one report.HeldPort) bool { return one.Claim.Address.Contains(addr) }) {
			add(&named, destination{addr: addr})
		}
	}
	for _, one := range held {
		addr, single := one.Claim.Address.Single()
		if !single && one.Claim.Address.IsLoopback() {
			addr, single = netip.AddrFrom4([4]byte{127, 0, 0, 1}), true
		}
		// Over loopback packets go to 127.0.0.1 wherever the node's own address counts.
		if single && !(addr == netip.AddrFrom4([4]byte{127, 0, 0, 1}) && len(own) > 0 && own[0].addr.Is4()) {
			add(&named, destination{addr: addr})
		}
	}
	if len(own)+len(named) == 0 { // served on other addresses only, as --nodeport-addresses says
		for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
			is := func(one report.HeldPort) bool {
				return f == rules.IPv4 && one.Claim.Address.HasIPv4() || f == rules.IPv6 && one.Claim.Address.HasIPv6()
			}
			if addr, ok := ofFamily[f]; ok && slices.ContainsFunc(held, is) {
				add(&own, destination{addr, true})
			}
		}
	}
	slices.SortFunc(named, func(a, b destination) int { return a.addr.Compare(b.addr) })
	return append(own, named...)
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

// walker follows packets through the rules that objects lead to on a node.
type walker struct {
	plane explain.Plane
	world *rules.World
	held  []report.HeldPort

	assumesPods bool // nothing tells by what kube-proxy knows pods
}

func (h *holdings) walker(plane explain.Plane, node *corev1.Node, objects []runtime.Object, held []report.HeldPort) (*walker, error) {
	w, err := extract.World(objects, extract.WorldOptions{
		Node: node.Name, Portmap: rules.Portmap{MarkBit: portmapMarkBit},
		Proxy: rules.Proxy{
			LocalhostNodePorts: h.settings.NodePorts.IPv4Loopback, PrimaryNodePorts: h.settings.NodePorts.Primary,
			NodePortAddresses: h.settings.NodePorts.Prefixes, Counters: true, Detector: rules.Detector{CIDRs: h.clusterCIDR},
		},
	})
	if err != nil {
		return nil, err
	}
	return &walker{plane: plane, world: w, held: held, assumesPods: knowsPods(w)}, nil
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

// addressesOn are those of a destination on nodes that are alike, each once.
func addressesOn(nodes []*corev1.Node, d destination) []netip.Addr {
	if !d.own {
		return []netip.Addr{d.addr}
	}
	var all []netip.Addr
	for _, node := range nodes {
		local := extract.NodeAddresses(node)
		if i := slices.IndexFunc(local, rules.FamilyOf(d.addr).Has); i >= 0 {
			all = append(all, local[i])
		}
	}
	if all == nil {
		return []netip.Addr{d.addr} // a simulated one
	}
	return all
}

func podNetworks(node *corev1.Node) []netip.Prefix {
	var found []netip.Prefix
	for _, text := range append([]string{node.Spec.PodCIDR}, node.Spec.PodCIDRs...) {
		if p, err := netip.ParsePrefix(text); err == nil && !slices.Contains(found, p.Masked()) {
			found = append(found, p.Masked())
		}
	}
	return found
}

// podAddresses are those of a pod, as prefixes.
func podAddresses(pod *corev1.Pod) []netip.Prefix {
	var found []netip.Prefix
	for _, ip := range append([]corev1.PodIP{{IP: pod.Status.PodIP}}, pod.Status.PodIPs...) {
		if addr, err := netip.ParseAddr(ip.IP); err == nil {
			found = append(found, netip.PrefixFrom(addr, addr.BitLen()))
		}
	}
	return found
}

// familiesOf are the families of networks.
func familiesOf(networks []netip.Prefix) (families [2]bool) {
	for _, p := range networks {
		families[0], families[1] = families[0] || p.Addr().Is4(), families[1] || p.Addr().Is6()
	}
	return families
}

// rootOf is who is behind a holder.
func (h *holdings) rootOf(ref ports.Ref) ports.Ref {
	if owner, _, ok := h.ledger.Snapshot().Owner(ref); ok {
		return h.ledger.Snapshot().Root(owner)
	}
	return ref
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

// stage is a node with the holders of one number, and what objects leave out about them simulated.
type stage struct {
	node      *corev1.Node
	objects   []runtime.Object
	assumed   []runtime.Object // endpoints of Services of which none is known
	simulated []string
}

func (h *holdings) stage(node *corev1.Node, held []report.HeldPort) *stage {
	s := &stage{node: node.DeepCopy()}
	isIPv6 := !slices.ContainsFunc(held, func(one report.HeldPort) bool { return one.Claim.Address.HasIPv4() })
	if len(extract.NodeAddresses(node)) == 0 {
		address := map[bool]string{false: "192.0.2.1", true: "2001:db8::1"}[isIPv6] // RFC 5737, RFC 3849
		s.node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}}
		s.simulated = append(s.simulated, "the nodes' address "+address)
	}
	if len(podNetworks(node)) == 0 {
		for _, addr := range extract.NodeAddresses(s.node) {
			if network := podNetwork(nil, rules.FamilyOf(addr)).String(); !slices.Contains(s.node.Spec.PodCIDRs, network) {
				s.node.Spec.PodCIDRs = append(s.node.Spec.PodCIDRs, network)
				s.simulated = append(s.simulated, "the nodes' podCIDR "+network)
			}
		}
	}
	s.objects = append(s.objects, s.node)
	seen := map[ports.Ref]bool{}
	for _, one := range held {
		if seen[ownerOf(one)] {
			continue
		}
		seen[ownerOf(one)] = true
		switch o := h.objects[ownerOf(one)].(type) {
		case *corev1.Service:
			endpoints, known := h.known.Endpoints(o)
			s.addService(o.DeepCopy(), endpoints, known)
		case *corev1.Pod:
			s.addPod(o.DeepCopy(), len(s.objects))
		}
	}
	h.addServicesAt(s, held, seen)
	return s
}

// addServicesAt adds the other Services that have an address which packets are sent to: kube-proxy takes its packets on every node, and
// in ipvs mode the address becomes the node's, whatever the port.
func (h *holdings) addServicesAt(s *stage, held []report.HeldPort, seen map[ports.Ref]bool) {
	at := map[netip.Addr]bool{}
	for _, d := range destinations(extract.NodeAddresses(s.node), held) {
		at[d.addr] = true
	}
	for _, c := range h.ledger.Snapshot().Claims() {
		addr, single := c.Address.Single()
		svc, ok := h.objects[c.Owner.Ref].(*corev1.Service)
		if !ok || !single || c.Scope.Kind != ports.AtAddress || !at[addr] || seen[c.Owner.Ref] {
			continue
		}
		seen[c.Owner.Ref] = true
		endpoints, known := h.known.Endpoints(svc)
		isOfNumber := slices.ContainsFunc(held, func(one report.HeldPort) bool { return one.Claim.Port == c.Port && one.Claim.Protocol == c.Protocol })
		s.addService(svc.DeepCopy(), endpoints, known || !isOfNumber)
	}
}

func (s *stage) addPod(pod *corev1.Pod, n int) {
	pod.Spec.NodeName = s.node.Name
	if pod.Status.PodIP == "" && !pod.Spec.HostNetwork {
		for _, network := range podNetworks(s.node) {
			pod.Status.PodIPs = append(pod.Status.PodIPs, corev1.PodIP{IP: addressIn(network, 10+n)})
		}
		pod.Status.PodIP = pod.Status.PodIPs[0].IP
		s.simulated = append(s.simulated, "an address of pods that have none yet")
	}
	s.objects = append(s.objects, pod)
}

// podNetwork is the first of networks that is of a family, else one that stands for it.
func podNetwork(networks []netip.Prefix, f rules.Family) netip.Prefix {
	if i := slices.IndexFunc(networks, func(p netip.Prefix) bool { return f.Has(p.Addr()) }); i >= 0 {
		return networks[i]
	}
	if f == rules.IPv4 {
		return netip.MustParsePrefix("10.244.0.0/24")
	}
	return netip.MustParsePrefix("fd00:10:244::/64")
}

// addressIn is the n-th address of a network.
func addressIn(network netip.Prefix, n int) string {
	addr := network.Addr()
	for range n {
		addr = addr.Next()
	}
	return addr.String()
}

// addService adds a Service with its endpoints, or with one of each family simulated if none is known of.
func (s *stage) addService(svc *corev1.Service, endpoints []runtime.Object, known bool) {
	ipv4, ipv6 := extract.ServiceFamilies(svc)
	if svc.Spec.ClusterIP == "" {
		svc.Spec.ClusterIPs = nil
		if ipv4 {
			svc.Spec.ClusterIPs = append(svc.Spec.ClusterIPs, clusterIPToBe)
		}
		if ipv6 {
			svc.Spec.ClusterIPs = append(svc.Spec.ClusterIPs, clusterIPv6ToBe)
		}
		svc.Spec.ClusterIP = svc.Spec.ClusterIPs[0]
		s.simulated = append(s.simulated, "a cluster IP of Services that have none yet")
	}
	s.objects = append(s.objects, svc)
	if known {
		s.objects = append(s.objects, endpoints...)
		return
	}
	s.simulated = append(s.simulated, fmt.Sprintf("an endpoint of %s", ports.Ref{Kind: "Service", Namespace: svc.Namespace, Name: svc.Name}))
	for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
		if f == rules.IPv4 && !ipv4 || f == rules.IPv6 && !ipv6 {
			continue
		}
		kind := map[rules.Family]discoveryv1.AddressType{rules.IPv4: discoveryv1.AddressTypeIPv4, rules.IPv6: discoveryv1.AddressTypeIPv6}[f]
		slice := &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: svc.Namespace, Name: svc.Name + "-" + string(kind), Labels: map[string]string{discoveryv1.LabelServiceName: svc.Name}},
			AddressType: kind,
			Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{addressIn(podNetwork(podNetworks(s.node), f), 20)}, NodeName: &s.node.Name}},
		}
		for i := range svc.Spec.Ports {
			p := &svc.Spec.Ports[i]
			target, protocol := cmp.Or(p.TargetPort.IntVal, p.Port), cmp.Or(p.Protocol, corev1.ProtocolTCP)
			slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: &p.Name, Port: &target, Protocol: &protocol})
		}
		s.assumed = append(s.assumed, slice)
	}
}

// What stands for the cluster IPs of a Service that has none yet.
const (
	clusterIPToBe   = "10.96.0.10"
	clusterIPv6ToBe = "fd00:10:96::a"
)
