package kubeproxy

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

// NFTables returns the table that kube-proxy installs in its nftables mode, for one family: what its first sync leaves in
// the kernel (pkg/proxy/nftables of Kubernetes 1.37). Its base chains are registered in the order in which they stand.
//
// Where two Services claim one address and port, the later one in the order of the world has it; with kube-proxy that
// is left to chance.
func NFTables(w *rules.World, f rules.Family) rules.Fragment {
	all := servicePorts(w, f)
	n := newNFT(w, f)
	for _, e := range []*nftElements{n.clusterIPs, n.serviceIPs, n.nodePorts} {
		e.grow(len(all))
	}
	n.hairpin.grow(localEndpoints(all))
	n.baseChains()
	n.masquerading()
	n.clusterIPsCheck()
	n.endpointsChecks()
	n.firewallCheck()
	n.services()
	for _, sp := range all {
		n.servicePort(sp)
	}
	return rules.Fragment{Tables: []*rules.Table{n.table}}
}

func localEndpoints(all []*servicePort) int {
	count := 0
	for _, p := range all {
		for _, e := range p.reach {
			if e.local {
				count++
			}
		}
	}
	return count
}

// nft is the table in the making.
type nft struct {
	world    *rules.World
	family   rules.Family
	mark     uint32
	matchAll bool // node ports work at every address
	table    *rules.Table

	clusterIPs          *nftElements
	nodePortIPs         *nftElements // nil with matchAll
	hairpin             *nftElements
	serviceIPs          *nftElements
	nodePorts           *nftElements
	noEndpointServices  *nftElements
	noEndpointNodePorts *nftElements
	firewallIPs         *nftElements
}

// The names that other parts of the table refer to.
const (
	nftServices       = "services"
	nftMasquerading   = "masquerading"
	nftClusterIPCheck = "cluster-ips-check"
	nftNodePortCheck  = "nodeport-endpoints-check"
	nftServiceCheck   = "service-endpoints-check"
	nftFirewallCheck  = "firewall-check"
	nftReject         = "reject-chain"
)

func newNFT(w *rules.World, f rules.Family) *nft {
	n := &nft{
		world: w, family: f, mark: masqueradeMark(w),
		table: &rules.Table{Tool: rules.NFTables, Family: f, Name: "kube-proxy", Comment: "rules for kube-proxy"},
	}
	n.clusterIPs = n.set("cluster-ips", "Active ClusterIPs", rules.DstAddr)
	n.hairpin = n.set("hairpin-connections", "service hairpin connections", rules.SrcAddr, rules.DstAddr, rules.L4Proto, rules.DstPort)
	n.serviceIPs = n.vmap("service-ips", "ClusterIP, ExternalIP and LoadBalancer IP traffic", nftSocketKey()...)
	n.nodePorts = n.vmap("service-nodeports", "NodePort traffic", nftPortKey()...)
	n.noEndpointServices = n.vmap("no-endpoint-services", "vmap to drop or reject packets to services with no endpoints", nftSocketKey()...)
	n.noEndpointNodePorts = n.vmap("no-endpoint-nodeports", "vmap to drop or reject packets to service nodeports with no endpoints", nftPortKey()...)
	n.firewallIPs = n.vmap("firewall-ips", "destinations that are subject to LoadBalancerSourceRanges", nftSocketKey()...)
	addrs, all := nodePortAddresses(w, f)
	n.matchAll = all
	if !all {
		n.nodePortIPs = n.set("nodeport-ips", "IPs that accept NodePort traffic", rules.DstAddr)
		for _, a := range addrs {
			if !a.IsLoopback() {
				n.nodePortIPs.put(rules.Elem{Key: rules.Key{Addr: a}, Origin: rules.Origin{Component: component}})
			}
		}
	}
	return n
}

// nftSocketKey and nftPortKey are what the keys of maps are made of.
func nftSocketKey() []rules.Field { return []rules.Field{rules.DstAddr, rules.L4Proto, rules.DstPort} }
func nftPortKey() []rules.Field   { return []rules.Field{rules.L4Proto, rules.DstPort} }

// nftElements is a set that is being filled. An element that is there already is left alone if it says the same, and
// replaced otherwise (nftElementStorage.ensureElem).
type nftElements struct {
	*rules.Set
	at map[rules.Key]int
}

// grow makes room for that many elements.
func (e *nftElements) grow(by int) {
	e.Elems, e.at = slices.Grow(e.Elems, by), make(map[rules.Key]int, by)
}

func (e *nftElements) put(elem rules.Elem) {
	i, ok := e.at[elem.Key]
	switch {
	case !ok:
		e.at[elem.Key] = len(e.Elems)
		e.Elems = append(e.Elems, elem)
	case e.Elems[i].Verdict != elem.Verdict:
		e.Elems[i] = elem
	}
}

func (n *nft) set(name, comment string, fields ...rules.Field) *nftElements {
	s := &rules.Set{Name: name, Comment: comment, Family: n.family, Fields: fields}
	n.table.Sets = append(n.table.Sets, s)
	return &nftElements{Set: s, at: map[rules.Key]int{}}
}

func (n *nft) vmap(name, comment string, fields ...rules.Field) *nftElements {
	m := n.set(name, comment, fields...)
	m.IsMap = true
	return m
}

func (n *nft) chain(name string) *rules.Chain {
	c := &rules.Chain{Name: name}
	n.table.Chains = append(n.table.Chains, c)
	return c
}

// add adds a rule that is there for no Service in particular.
func (n *nft) add(c *rules.Chain, do ...rules.Stmt) {
	c.Rules = append(c.Rules, &rules.Rule{Do: do, Origin: rules.Origin{Component: component}})
}

// baseChains are registered before anything else. Those that look at the destination before it is translated come
// before dstnat; reject does not work there in kernels before 5.9, so the other checks have to come behind it.
func (n *nft) baseChains() {
	const beforeDNAT = rules.PriorityDNAT - 10
	base := func(name string, typ rules.ChainType, hook rules.Hook, priority int, jumps ...string) {
		c := n.chain(name)
		c.Base = &rules.Base{Type: typ, Hook: hook, Priority: priority}
		for _, to := range jumps {
			if typ == rules.NAT {
				n.add(c, rules.Jump{Chain: to})
			} else {
				n.add(c, rules.CTState{In: []string{"NEW"}}, rules.Jump{Chain: to})
			}
		}
	}
	base("filter-prerouting-pre-dnat", rules.Filter, rules.Prerouting, beforeDNAT, nftFirewallCheck)
	base("filter-output-pre-dnat", rules.Filter, rules.Output, beforeDNAT, nftFirewallCheck)
	base("filter-input", rules.Filter, rules.Input, rules.PriorityFilter, nftNodePortCheck, nftServiceCheck)
	base("filter-forward", rules.Filter, rules.Forward, rules.PriorityFilter, nftServiceCheck, nftClusterIPCheck)
	base("filter-output", rules.Filter, rules.Output, rules.PriorityFilter, nftServiceCheck, nftClusterIPCheck)
	base("nat-prerouting", rules.NAT, rules.Prerouting, rules.PriorityDNAT, nftServices)
	base("nat-output", rules.NAT, rules.Output, rules.PriorityDNAT, nftServices)
	base("nat-postrouting", rules.NAT, rules.Postrouting, rules.PrioritySNAT, nftMasquerading)
}

func (n *nft) masquerading() {
	c := n.chain(nftMasquerading)
	n.add(c, rules.Mark{Mask: n.mark, Not: true}, rules.SetMark{Value: n.mark}, rules.Masquerade{Random: true})
	n.add(c, rules.CTStatusDNAT{}, rules.InSet{Fields: n.hairpin.Fields, Set: n.hairpin.Name}, rules.Masquerade{Random: true})
}

func (n *nft) clusterIPsCheck() {
	c := n.chain(nftClusterIPCheck)
	n.add(c, rules.InSet{Fields: n.clusterIPs.Fields, Set: n.clusterIPs.Name}, rules.Reject{}, rules.Comment{Text: "Reject traffic to invalid ports of ClusterIPs"})
	var cidrs []netip.Prefix
	for _, p := range n.world.ServiceCIDRs {
		if n.family.Has(p.Addr()) {
			cidrs = append(cidrs, p)
		}
	}
	if len(cidrs) > 0 {
		n.add(c, rules.Addr{Side: rules.Destination, In: cidrs}, rules.Drop{}, rules.Comment{Text: "Drop traffic to unallocated ClusterIPs"})
	}
}

func (n *nft) endpointsChecks() {
	reject := n.chain(nftReject)
	reject.Comment = "helper for @no-endpoint-services / @no-endpoint-nodeports"
	n.add(reject, rules.Reject{})
	n.add(n.chain(nftServiceCheck), n.noEndpointServices.lookup())
	n.add(n.chain(nftNodePortCheck), n.toNodePorts(), n.noEndpointNodePorts.lookup())
}

func (n *nft) firewallCheck() {
	n.add(n.chain(nftFirewallCheck), n.firewallIPs.lookup())
}

func (n *nft) services() {
	c := n.chain(nftServices)
	toClusterIPs := rules.InSet{Fields: n.clusterIPs.Fields, Set: n.clusterIPs.Name}
	if n.world.Proxy.MasqueradeAll {
		n.add(c, toClusterIPs, n.masquerade(), rules.Comment{Text: "masquerade all clusterIP traffic"})
	} else if fromElsewhere := fromPods(n.world, n.family, true); fromElsewhere != nil {
		n.add(c, toClusterIPs, fromElsewhere, n.masquerade(), rules.Comment{Text: "masquerade clusterIP traffic from outside cluster"})
	}
	n.add(c, n.serviceIPs.lookup())
	if n.matchAll {
		n.add(c, rules.AddrLocal{Side: rules.Destination}, n.toNodePorts(), n.nodePorts.lookup())
	} else {
		n.add(c, n.toNodePorts(), n.nodePorts.lookup())
	}
}

// masquerade marks a packet for the chain of that name.
func (n *nft) masquerade() rules.Stmt { return rules.SetMark{Value: n.mark, Mask: n.mark} }

func (e *nftElements) lookup() rules.Stmt { return rules.VMap{Fields: e.Fields, Map: e.Name} }

// toNodePorts holds for the destinations at which node ports work, but for not asking whether they are local.
func (n *nft) toNodePorts() rules.Stmt {
	if n.matchAll {
		return rules.Addr{Side: rules.Destination, In: []netip.Prefix{loopbackNet(n.family)}, Not: true}
	}
	return rules.InSet{Fields: n.nodePortIPs.Fields, Set: n.nodePortIPs.Name}
}

func loopbackNet(f rules.Family) netip.Prefix {
	if f == rules.IPv4 {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8)
	}
	return host(loopback(f))
}

// servicePort adds what is there for one port of a Service.
func (n *nft) servicePort(p *servicePort) {
	b := &nftPort{nft: n, servicePort: p, base: nftPortName(p), comment: nftComment(p.name)}
	b.dispatch()
	for _, e := range p.reach {
		if e.local {
			a := e.Addr.Addr()
			n.hairpin.put(rules.Elem{Key: rules.Key{Addr: a, With: host(a), Protocol: p.Protocol, Port: e.Addr.Port()}, Origin: p.origin})
		}
	}
	if p.hasAny && p.isAccessible() {
		b.external()
	}
	if b.usesFirewall() {
		b.add(n.chain("firewall-"+b.base), rules.Addr{Side: rules.Source, In: b.allowed(), Not: true}, rules.Drop{})
	}
	if p.usesCluster() && len(p.cluster) > 0 {
		b.toEndpoints("service-"+b.base, p.cluster)
	}
	if p.usesLocal() && len(p.local) > 0 {
		b.toEndpoints("local-"+b.base, p.local)
	}
	if p.service.AffinitySeconds != 0 {
		b.affinity()
	}
}

// nftPort is a port of a Service with what its rules are named by.
type nftPort struct {
	*nft
	*servicePort
	base    string // the end of the names of its chains
	comment string
}

// add adds a rule that is there for the port.
func (b *nftPort) add(c *rules.Chain, do ...rules.Stmt) {
	c.Rules = append(c.Rules, &rules.Rule{Do: do, Origin: b.origin})
}

// dispatch adds the elements by which packets find the chains of the port, or are refused. Node ports are not subject
// to source ranges.
func (b *nftPort) dispatch() {
	toExternal := rules.Goto{Chain: "external-" + b.base}
	b.clusterIPs.put(rules.Elem{Key: rules.Key{Addr: b.clusterIP}, Origin: b.origin})
	if b.hasInternal() {
		b.serviceIPs.put(b.elem(b.clusterIP, rules.Goto{Chain: b.policyChain(b.service.InternalLocal)}))
	} else {
		b.noEndpointServices.put(b.refused(b.clusterIP))
	}
	for _, ip := range slices.Concat(b.externalIPs, b.balancerIPs) {
		if b.hasAny {
			b.serviceIPs.put(b.elem(ip, toExternal))
		}
		if !b.hasExternal() {
			b.noEndpointServices.put(b.refused(ip))
		}
	}
	if b.usesFirewall() {
		for _, ip := range b.balancerIPs {
			b.firewallIPs.put(b.elem(ip, rules.Goto{Chain: "firewall-" + b.base}))
		}
	}
	if b.NodePort == 0 {
		return
	}
	if b.hasAny {
		b.nodePorts.put(b.elem(netip.Addr{}, toExternal))
	}
	if !b.hasExternal() {
		b.noEndpointNodePorts.put(b.refused(netip.Addr{}))
	}
}

// elem is an element for an address of the port, or without one for its node port.
func (b *nftPort) elem(ip netip.Addr, verdict rules.Stmt) rules.Elem {
	key := rules.Key{Addr: ip, Protocol: b.Protocol, Port: b.Port}
	if !ip.IsValid() {
		key.Port = b.NodePort
	}
	return rules.Elem{Key: key, Verdict: verdict, Origin: b.origin}
}

// refused is an element for traffic that nobody can take: it is rejected if there is no endpoint anywhere, and dropped
// if there is none here.
func (b *nftPort) refused(ip netip.Addr) rules.Elem {
	e := b.elem(ip, rules.Goto{Chain: nftReject})
	if b.hasAny {
		e.Verdict = rules.Drop{}
	}
	e.Comment = b.comment
	return e
}

func (b *nftPort) policyChain(local bool) string {
	if local {
		return "local-" + b.base
	}
	return "service-" + b.base
}

// external adds the chain of traffic to anything but the cluster IP.
func (b *nftPort) external() {
	c := b.chain("external-" + b.base)
	if !b.externalLocal {
		b.add(c, b.masquerade(), rules.Comment{Text: "masquerade"})
	} else {
		cluster := rules.Goto{Chain: b.policyChain(false)}
		if pods := fromPods(b.world, b.family, false); pods != nil {
			b.add(c, pods, cluster, rules.Comment{Text: "short-circuit pod traffic"})
		}
		b.add(c, rules.AddrLocal{Side: rules.Source}, b.masquerade(), rules.Comment{Text: "masquerade local traffic"})
		b.add(c, rules.AddrLocal{Side: rules.Source}, cluster, rules.Comment{Text: "short-circuit local traffic"})
	}
	if b.hasExternal() {
		b.add(c, rules.Goto{Chain: b.policyChain(b.externalLocal)})
	}
}

func (b *nftPort) usesFirewall() bool { return len(b.balancerIPs) > 0 && len(b.sourceRanges) > 0 }

// allowed returns the sources that may use the load balancer: where that includes the node, also its addresses, as the
// node has them too if they are routed to it, and takes them as its source.
func (b *nftPort) allowed() []netip.Prefix {
	in := slices.Clone(b.sourceRanges)
	if b.allowsNode(&b.world.Node, b.family) {
		for _, ip := range b.balancerIPs {
			in = append(in, host(ip))
		}
	}
	return in
}

// toEndpoints adds a chain that picks one of the endpoints: the one that the client had before, or any.
func (b *nftPort) toEndpoints(name string, to []endpoint) {
	c := b.chain(name)
	if b.service.AffinitySeconds == 0 {
		targets := make([]netip.AddrPort, len(to))
		for i, e := range to {
			targets[i] = e.Addr
		}
		b.add(c, rules.Proto{Is: b.Protocol}, rules.DNAT{To: targets})
		return
	}
	chains := make([]string, len(to))
	for i, e := range to {
		name := nftEndpointName(b.servicePort, e)
		chains[i] = "endpoint-" + name
		b.add(c, rules.InSet{Fields: []rules.Field{rules.SrcAddr}, Set: "affinity-" + name}, rules.Goto{Chain: chains[i]})
	}
	b.add(c, rules.GotoRandom{Chains: chains})
}

// affinity adds a chain for each endpoint that remembers who was sent there.
func (b *nftPort) affinity() {
	for _, e := range b.reach {
		name := nftEndpointName(b.servicePort, e)
		b.table.Sets = append(b.table.Sets, &rules.Set{
			Name: "affinity-" + name, Family: b.family, Fields: []rules.Field{rules.SrcAddr},
			Dynamic: true, Timeout: time.Duration(b.service.AffinitySeconds) * time.Second,
		})
		c := b.chain("endpoint-" + name)
		b.add(c, rules.Update{Set: "affinity-" + name})
		b.add(c, rules.Proto{Is: b.Protocol}, rules.DNAT{To: []netip.AddrPort{e.Addr}})
	}
}

// nftPortName is the end of the names of a port's chains: "SUSTUHLJ-default/web/tcp/http" (servicePortChainNameBase).
func nftPortName(p *servicePort) string { return nftHashed(nftPath(p)) }

// nftEndpointName is the same for one of its endpoints: "DLHGIUJI-default/lb-src/tcp/p80__10.244.0.20/8080", without the
// colons of IPv6, which nft does not allow there (servicePortEndpointChainNameBase).
func nftEndpointName(p *servicePort, e endpoint) string {
	return nftHashed(nftPath(p) + "__" + strings.ReplaceAll(e.Addr.Addr().String(), ":", ".") + "/" + strconv.Itoa(int(e.Addr.Port())))
}

func nftPath(p *servicePort) string {
	return p.service.Ref.Namespace + "/" + p.service.Ref.Name + "/" + lower(p.Protocol) + "/" + p.Name
}

// nftHashed puts a hash before a name, which it is told apart by where it has to be cut (hashAndTruncate).
func nftHashed(name string) string {
	const longest = 240 // nft allows 256, and 16 are kept for what comes before
	name = hash("", 8, name) + "-" + name
	if len(name) > longest {
		name = name[:longest-3] + "..."
	}
	return name
}

// nftComment cuts a comment to what nft allows (truncateNFTablesComment).
func nftComment(s string) string { return s[:min(len(s), 128)] }
