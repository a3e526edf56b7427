package kubeproxy

import (
	"net/netip"
	"slices"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

// xtablesPort is a Service port in the making: its chains, nil where it does not use them, and what its rules have in
// common.
type xtablesPort struct {
	*xtables
	*servicePort
	svc, svl, ext, fw *rules.Chain // of the policies Cluster and Local, of external destinations, of the source ranges
	proto, port       rules.Stmt
	named             []rules.Stmt // the comment that tells of which Service port a rule is, but in a large cluster
	sep               []string     // the names of the endpoints' chains, by the endpoints' index
}

// servicePort writes the rules of a Service port, in the order of syncProxyRules.
func (b *xtables) servicePort(sp *servicePort) {
	p := b.newPort(sp)
	p.captureClusterIP()
	for _, ip := range p.externalIPs {
		p.captureExternal(ip, p.name+" external IP", p.ext)
	}
	p.captureBalancerIPs()
	p.captureNodePort()
	if p.healthCheck != 0 {
		p.add(&b.filterNodePorts, rules.Proto{Is: ports.TCP}, rules.Comment{Text: p.name + " health check node port"}, rules.Port{Is: []uint16{p.healthCheck}}, rules.Accept{})
	}
	if p.hasInternal() {
		p.masqueradeInternal()
	}
	if p.ext != nil {
		p.externalChain()
	}
	if p.fw != nil {
		p.firewallChain()
	}
	if p.svc != nil {
		p.balance(p.svc, p.cluster)
	}
	if p.svl != nil {
		p.balance(p.svl, p.local)
	}
	for _, e := range p.reach {
		p.endpointChain(e)
	}
}

func (b *xtables) newPort(sp *servicePort) *xtablesPort {
	p := &xtablesPort{xtables: b, servicePort: sp, proto: rules.Proto{Is: sp.Protocol}, port: rules.Port{Is: []uint16{sp.Port}}, sep: make([]string, len(sp.known))}
	if !b.large {
		p.named = []rules.Stmt{rules.Comment{Text: p.name}}
	}
	hash := serviceHash(p.name, p.Protocol)
	chain := func(prefix string) *rules.Chain {
		c := &rules.Chain{Name: prefix + hash}
		b.own = append(b.own, c)
		return c
	}
	if p.hasAny && p.isAccessible() {
		p.ext = chain("KUBE-EXT-")
	}
	if p.hasAny && len(p.balancerIPs) > 0 && len(p.sourceRanges) > 0 {
		p.fw = chain("KUBE-FW-")
	}
	if len(p.cluster) > 0 {
		p.svc = chain("KUBE-SVC-")
	}
	if len(p.local) > 0 {
		p.svl = chain("KUBE-SVL-")
	}
	for _, e := range p.reach {
		p.sep[e.index] = endpointChainName(p.name, p.Protocol, e.text)
	}
	return p
}

// add appends a rule of the Service port.
func (p *xtablesPort) add(c *rules.Chain, do ...rules.Stmt) { p.addOf(&p.origin, c, do) }

// internal is the chain of the policy for traffic to the cluster IP.
func (p *xtablesPort) internal() *rules.Chain {
	if p.service.InternalLocal {
		return p.svl
	}
	return p.svc
}

// external is the chain of the policy for traffic from outside.
func (p *xtablesPort) external() *rules.Chain {
	if p.externalLocal {
		return p.svl
	}
	return p.svc
}

// refuse returns the comment and the verdict for packets that find no endpoint.
func (p *xtablesPort) refuse() (why, verdict rules.Stmt) {
	if !p.hasAny {
		return rules.Comment{Text: p.name + " has no endpoints"}, rules.Reject{}
	}
	return rules.Comment{Text: p.name + " has no local endpoints"}, rules.Drop{}
}

func (p *xtablesPort) captureClusterIP() {
	if p.hasInternal() {
		p.add(&p.services, to(p.clusterIP), p.proto, rules.Comment{Text: p.name + " cluster IP"}, p.port, rules.Jump{Chain: p.internal().Name})
		return
	}
	why, verdict := p.refuse()
	p.add(&p.filterServices, to(p.clusterIP), p.proto, why, p.port, verdict)
}

// captureExternal sends packets to an external address into a chain, and refuses those that come back from it.
func (p *xtablesPort) captureExternal(ip netip.Addr, comment string, chain *rules.Chain) {
	if p.hasAny {
		p.add(&p.services, to(ip), p.proto, rules.Comment{Text: comment}, p.port, rules.Jump{Chain: chain.Name})
	}
	if !p.hasExternal() {
		why, verdict := p.refuse()
		p.add(&p.filterExternal, to(ip), p.proto, why, p.port, verdict)
	}
}

func (p *xtablesPort) captureBalancerIPs() {
	chain := p.ext
	if p.fw != nil {
		chain = p.fw
	}
	for _, ip := range p.balancerIPs {
		p.captureExternal(ip, p.name+" loadbalancer IP", chain)
		if p.fw != nil {
			p.add(&p.filterFirewall, to(ip), p.proto, rules.Comment{Text: p.name + " traffic not accepted by " + p.fw.Name}, p.port, rules.Drop{})
		}
	}
}

// captureNodePort knows nothing of source ranges: they do not hold for node ports.
func (p *xtablesPort) captureNodePort() {
	if p.NodePort == 0 {
		return
	}
	port := rules.Port{Is: []uint16{p.NodePort}}
	if p.hasAny {
		name, jump := rules.Comment{Text: p.name}, rules.Jump{Chain: p.ext.Name}
		if p.localhost && p.w.Proxy.Counters {
			p.add(&p.nodePorts, rules.Addr{Side: rules.Destination, In: []netip.Prefix{loopbackNet(p.f)}}, p.proto, name, port, rules.Accounting{Name: localhostCounter}, jump)
		}
		p.add(&p.nodePorts, p.proto, name, port, jump)
	}
	if !p.hasExternal() {
		why, verdict := p.refuse()
		p.add(&p.filterExternal, p.proto, why, p.toLocal, port, verdict)
	}
}

// masqueradeInternal marks packets to the cluster IP that come from elsewhere than the node's pods: the answer has to come
// back this way.
func (p *xtablesPort) masqueradeInternal() {
	comment := rules.Comment{Text: p.name + " cluster IP"}
	switch {
	case p.w.Proxy.MasqueradeAll:
		p.add(p.internal(), to(p.clusterIP), p.proto, comment, p.port, p.toMarkMasq)
	case p.notPods != nil:
		p.add(p.internal(), p.notPods, to(p.clusterIP), p.proto, comment, p.port, p.toMarkMasq)
	}
}

// externalChain masquerades what may leave the node. Under the policy Local, what comes from the node and its pods goes
// by the policy Cluster all the same, as if it had been to the load balancer and back.
func (p *xtablesPort) externalChain() {
	comment := func(what string) rules.Stmt {
		return rules.Comment{Text: what + " for " + p.name + " external destinations"}
	}
	if p.externalLocal {
		if p.pods != nil {
			p.add(p.ext, p.pods, comment("pod traffic"), rules.Jump{Chain: p.svc.Name})
		}
		p.add(p.ext, comment("masquerade LOCAL traffic"), p.fromLocal, p.toMarkMasq)
		p.add(p.ext, comment("route LOCAL traffic"), p.fromLocal, rules.Jump{Chain: p.svc.Name})
	} else {
		p.add(p.ext, comment("masquerade traffic"), p.toMarkMasq)
	}
	if p.hasExternal() {
		p.add(p.ext, rules.Jump{Chain: p.external().Name})
	}
}

// firewallChain lets the source ranges pass. What comes to its end is not translated, and KUBE-PROXY-FIREWALL drops it.
func (p *xtablesPort) firewallChain() {
	comment := rules.Comment{Text: p.name + " loadbalancer IP"}
	allow := func(r netip.Prefix) {
		p.add(p.fw, rules.Addr{Side: rules.Source, In: []netip.Prefix{r}}, comment, rules.Jump{Chain: p.ext.Name})
	}
	for _, r := range p.sourceRanges {
		allow(r)
	}
	if p.allowsNode(&p.w.Node, p.f) { // with the load balancer's address on the node, that is its source
		for _, ip := range p.balancerIPs {
			allow(host(ip))
		}
	}
	p.add(p.fw, rules.Comment{Text: "other traffic to " + p.name + " will be dropped by KUBE-PROXY-FIREWALL"})
}

// balance spreads packets over endpoints: first those of clients that were there lately, then by chance
// (writeServiceToEndpointRules).
func (p *xtablesPort) balance(c *rules.Chain, over []endpoint) {
	c.Rules = slices.Grow(c.Rules, 2*len(over))
	if p.service.AffinitySeconds != 0 {
		for _, e := range over {
			p.toEndpoint(c, e, rules.Recent{Name: p.sep[e.index], Seconds: p.service.AffinitySeconds})
		}
	}
	for i, e := range over {
		if left := len(over) - i; left > 1 {
			p.toEndpoint(c, e, p.probability(left))
		} else {
			p.toEndpoint(c, e)
		}
	}
}

func (p *xtablesPort) toEndpoint(c *rules.Chain, e endpoint, matches ...rules.Stmt) {
	do := make([]rules.Stmt, 0, 3)
	if !p.large {
		do = append(do, rules.Comment{Text: p.name + " -> " + e.text})
	}
	do = append(do, matches...)
	p.add(c, append(do, rules.Jump{Chain: p.sep[e.index]})...)
}

// endpointChain translates to an endpoint, and masquerades what it sends to itself.
func (p *xtablesPort) endpointChain(e endpoint) {
	m := &endpointMemory{source: [1]netip.Prefix{host(e.Addr.Addr())}, to: [1]netip.AddrPort{e.Addr}}
	m.chain = rules.Chain{Name: p.sep[e.index], Rules: m.rules[:0]}
	p.own = append(p.own, &m.chain)
	do := append(make([]rules.Stmt, 0, 5), rules.Addr{Side: rules.Source, In: m.source[:]})
	do = append(do, p.named...)
	p.add(&m.chain, append(do, p.toMarkMasq)...)
	do = append(append(do[:0], p.proto), p.named...)
	if p.service.AffinitySeconds != 0 {
		do = append(do, rules.Recent{Name: m.chain.Name, Set: true})
	}
	p.add(&m.chain, append(do, p.anyPort, rules.DNAT{To: m.to[:]})...)
}

// endpointMemory is what an endpoint's chain is made of, in one piece: most chains are of endpoints.
type endpointMemory struct {
	chain  rules.Chain
	rules  [2]*rules.Rule
	source [1]netip.Prefix
	to     [1]netip.AddrPort
}
