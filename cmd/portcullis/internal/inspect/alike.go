package inspect

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/report"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

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
	fmt.Fprintln(&key, len(local) == 0, familiesOf(extract.PodNetworks(node)))
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
