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
			LiesIn: h.liesIn(asked.port, set), Situations: []report.PortSituation{}, Serves: h.serves(of), New: wanted(judge, &h.settings.Check, namespace, asked.port, protocol),
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
			text += fmt.Sprintf(", in the band %s from which numbers are given out", s.DynamicBand)
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
func wanted(judge *audit.Judge, settings *check.Settings, namespace string, port uint16, protocol ports.Protocol) []report.PortWanted {
	meta := metav1.ObjectMeta{Namespace: namespace, GenerateName: "new-"}
	nodePort, _ := judge.WouldFind(&corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{
		Port: int32(port), NodePort: int32(port), Protocol: corev1.Protocol(protocol.String()), TargetPort: intstr.FromInt32(int32(port)),
	}}}})
	hostPort, room := judge.WouldFind(&corev1.Pod{ObjectMeta: meta, Spec: corev1.PodSpec{Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{
		ContainerPort: int32(port), HostPort: int32(port), Protocol: corev1.Protocol(protocol.String()),
	}}}}}})
	return []report.PortWanted{
		report.NewPortWanted(ports.NodePort, nodePort, check.Room{}, settings), report.NewPortWanted(ports.HostPort, hostPort, room, settings),
	}
}

// addSituations walks the packets for a number on one node of each kind: those with the same holders are alike.
func (h *holdings) addSituations(n *report.PortNumber, port uint16, protocol ports.Protocol, only string, held []report.HeldPort) {
	if len(h.nodes) == 0 && len(held) > 0 {
		n.Unknown = "there is no Node among the objects"
		return
	}
	plane := explain.PlaneOf(h.settings.ServiceProxy, h.settings.HostPorts, !h.settings.NodePorts.IPv4Loopback)
	for _, one := range held {
		if unknown := plane.Unknown(one.Claim.Kind); one.Claim.Owner != nil && unknown != "" {
			n.Unknown = report.UnknownComponent(unknown)
			return
		}
	}
	for _, g := range h.alike(only, held) {
		s, made, err := h.situation(plane, g.nodes, port, protocol, g.held)
		if err != nil {
			n.Unknown = err.Error()
			continue
		}
		n.Situations = append(n.Situations, s)
		for _, text := range made {
			if !slices.Contains(n.MadeUp, text) {
				n.MadeUp = append(n.MadeUp, text)
			}
		}
	}
}

// group is nodes on which a number has the same holders.
type group struct {
	nodes []*corev1.Node // sorted
	held  []report.HeldPort
}

// alike groups the nodes on which a number has holders, daemons aside; only one node, if it is named.
func (h *holdings) alike(only string, held []report.HeldPort) []*group {
	byHolders := map[string]*group{}
	var groups []*group
	for _, node := range slices.SortedFunc(slices.Values(h.nodes), func(a, b *corev1.Node) int { return strings.Compare(a.Name, b.Name) }) {
		var here []report.HeldPort
		var key strings.Builder
		fmt.Fprintln(&key, extract.IsWindows(node)) // which has rules of its own
		for _, one := range held {
			if one.Claim.Owner != nil && (one.Node == node.Name || one.Node == report.EveryNode) {
				here = append(here, one)
				fmt.Fprintln(&key, one.Holder, one.Claim.Kind, one.Claim.Address)
			}
		}
		if here == nil || only != "" && node.Name != only {
			continue
		}
		g := byHolders[key.String()]
		if g == nil {
			g = &group{held: here}
			byHolders[key.String()] = g
			groups = append(groups, g)
		}
		g.nodes = append(g.nodes, node)
	}
	return groups
}

// situation walks the packets of every class on the first of nodes that are alike; where endpoints are made up, without them too.
func (h *holdings) situation(plane explain.Plane, nodes []*corev1.Node, port uint16, protocol ports.Protocol, held []report.HeldPort) (report.PortSituation, []string, error) {
	st := h.stage(nodes[0], held)
	winners, flips, outside, err := h.winners(plane, st, slices.Concat(st.objects, st.assumed), port, protocol, held)
	if err != nil {
		return report.PortSituation{}, nil, err
	}
	otherwise := winners
	if st.assumed != nil {
		if otherwise, _, _, err = h.winners(plane, st, st.objects, port, protocol, held); err != nil {
			return report.PortSituation{}, nil, err
		}
	}
	var names []string
	for _, node := range nodes {
		names = append(names, node.Name)
	}
	return report.NewPortSituation(names, winners, otherwise, flips, outside, h.rootOf), st.made, nil
}

// winners walks the packets of every class through what objects lead to. It returns who gets them, whether that depends on the
// order of starts, and the walk from outside.
func (h *holdings) winners(plane explain.Plane, st *stage, objects []runtime.Object, port uint16, protocol ports.Protocol, held []report.HeldPort) ([]check.Winner, bool, explain.Answer, error) {
	var outside explain.Answer
	w, err := extract.World(objects, extract.WorldOptions{
		Node: st.node.Name, Portmap: rules.Portmap{MarkBit: portmapMarkBit},
		Proxy: rules.Proxy{
			LocalhostNodePorts: h.settings.NodePorts.IPv4Loopback, PrimaryNodePorts: h.settings.NodePorts.Primary,
			NodePortAddresses: h.settings.NodePorts.Prefixes, Counters: true, Detector: rules.Detector{CIDRs: podNetworks(st.node)},
		},
	})
	if err != nil {
		return nil, false, outside, err
	}
	host := explain.Host(w)
	to := netip.AddrPortFrom(destination(w, held), port)
	var winners []check.Winner
	flips := false
	for _, from := range explain.Froms() {
		packet, ok := explain.PacketOf(w, from, to)
		if !ok {
			continue // a node without pods
		}
		packet.Protocol = protocol
		answer := plane.Trace(w, host, packet)
		winners = append(winners, check.Winner{Of: string(from), Who: explain.Receiver(answer.Paths[0], listenerOf(packet.Dst.Addr(), held))})
		flips = flips || answer.OrderDependent
		if from == explain.FromOutside {
			outside = answer
		}
	}
	return winners, flips, outside, nil
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

// rootOf is who is behind a holder.
func (h *holdings) rootOf(ref ports.Ref) ports.Ref {
	if owner, _, ok := h.ledger.Snapshot().Owner(ref); ok {
		return h.ledger.Snapshot().Root(owner)
	}
	return ref
}

// destination is the address that packets are sent to: one that a holder names, else the node's own.
func destination(w *rules.World, held []report.HeldPort) netip.Addr {
	for _, one := range held {
		if addr, single := one.Claim.Address.Single(); single && !addr.IsLoopback() {
			return addr
		}
	}
	for _, one := range held {
		if one.Claim.Address.HasIPv4() && len(w.Node.IPs) > 0 {
			return w.Node.IP(rules.IPv4)
		}
	}
	return w.Node.IP(rules.IPv6)
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

// stage is a node with the holders of one number, and what objects leave out about them made up.
type stage struct {
	node    *corev1.Node
	objects []runtime.Object
	assumed []runtime.Object // endpoints of Services of which none is known
	made    []string
}

func (h *holdings) stage(node *corev1.Node, held []report.HeldPort) *stage {
	s := &stage{node: node.DeepCopy()}
	if len(extract.NodeAddresses(node)) == 0 {
		s.node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}} // RFC 5737
		s.made = append(s.made, "an address of the nodes")
	}
	if len(podNetworks(node)) == 0 {
		s.node.Spec.PodCIDRs = []string{"10.244.0.0/24"}
		s.node.Spec.PodCIDR = s.node.Spec.PodCIDRs[0]
		s.made = append(s.made, "a podCIDR of the nodes")
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
	return s
}

func (s *stage) addPod(pod *corev1.Pod, n int) {
	pod.Spec.NodeName = s.node.Name
	if pod.Status.PodIP == "" && !pod.Spec.HostNetwork {
		pod.Status.PodIP = s.address(10 + n)
		s.made = append(s.made, "the address of pods that have none yet")
	}
	s.objects = append(s.objects, pod)
}

// address is the n-th of the node's pod network.
func (s *stage) address(n int) string {
	addr := podNetworks(s.node)[0].Addr()
	for range n {
		addr = addr.Next()
	}
	return addr.String()
}

// addService adds a Service with its endpoints, or with one made up if none is known of.
func (s *stage) addService(svc *corev1.Service, endpoints []runtime.Object, known bool) {
	if svc.Spec.ClusterIP == "" {
		svc.Spec.ClusterIP = clusterIPToBe
		s.made = append(s.made, "a cluster IP of Services that have none yet")
	}
	s.objects = append(s.objects, svc)
	if known {
		s.objects = append(s.objects, endpoints...)
		return
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: svc.Namespace, Name: svc.Name, Labels: map[string]string{discoveryv1.LabelServiceName: svc.Name}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{s.address(20)}, NodeName: &s.node.Name}},
	}
	if strings.Contains(slice.Endpoints[0].Addresses[0], ":") {
		slice.AddressType = discoveryv1.AddressTypeIPv6
	}
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		target, protocol := cmp.Or(p.TargetPort.IntVal, p.Port), cmp.Or(p.Protocol, corev1.ProtocolTCP)
		slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: &p.Name, Port: &target, Protocol: &protocol})
	}
	s.assumed = append(s.assumed, slice)
}

// clusterIPToBe stands for that of a Service that has none yet.
const clusterIPToBe = "10.96.0.10"
