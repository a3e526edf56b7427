package kubeproxy

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

// IPVS renders what the ipvs mode installs (pkg/proxy/ipvs/proxier.go): virtual servers, sets of what they answer to, and
// rules of iptables that look into the sets. Addresses of Services that the node has not already are bound to the interface
// kube-ipvs0: they are those of the set KUBE-IPVS-IPS.
//
// Where two Service ports want one virtual server, the later one has it; kube-proxy itself takes them in no order.
func IPVS(w *rules.World, f rules.Family) rules.Fragment {
	b := newIPVS(w, f)
	for _, p := range servicePorts(w, f) {
		b.servicePort(p)
	}
	b.writeServices()
	b.writeBalancers()
	b.writeNodePorts()
	b.writePostrouting()
	b.writeFilter()
	return rules.Fragment{Tables: b.tables(), Jumps: ipvsJumps(f), IPSets: b.sets.all, Virtual: b.virtual}
}

// ipvs is a rule set of the ipvs mode in the making.
type ipvs struct {
	w       *rules.World
	f       rules.Family
	mark    uint32
	nodeIPs []netip.Addr // at which node ports answer
	others  []netip.Addr // addresses of other interfaces than kube-ipvs0
	sets    *ipsets
	virtual []*rules.VirtualServer
	servers map[rules.Key]int // by what they answer to, in virtual

	services, postrouting, nodePort, loadBalancer, markMasq                                          rules.Chain // of nat
	filterForward, filterNodePort, filterFirewall, filterSourceRanges, filterAccess, filterOwnAccess rules.Chain
}

func newIPVS(w *rules.World, f rules.Family) *ipvs {
	b := &ipvs{w: w, f: f, mark: masqueradeMark(w), sets: newIPSets(f), servers: map[rules.Key]int{}}
	for _, c := range []struct {
		is   *rules.Chain
		name string
	}{
		{&b.services, "KUBE-SERVICES"}, {&b.postrouting, "KUBE-POSTROUTING"}, {&b.nodePort, "KUBE-NODE-PORT"},
		{&b.loadBalancer, "KUBE-LOAD-BALANCER"}, {&b.markMasq, "KUBE-MARK-MASQ"},
		{&b.filterForward, "KUBE-FORWARD"}, {&b.filterNodePort, "KUBE-NODE-PORT"}, {&b.filterFirewall, "KUBE-PROXY-FIREWALL"},
		{&b.filterSourceRanges, "KUBE-SOURCE-RANGES-FIREWALL"}, {&b.filterAccess, "KUBE-IPVS-FILTER"}, {&b.filterOwnAccess, "KUBE-IPVS-OUT-FILTER"},
	} {
		c.is.Name = c.name
	}
	for _, a := range ofFamily(f, w.Node.Addresses) {
		if !a.IsLoopback() && (f == rules.IPv4 || !a.IsLinkLocalUnicast()) && !slices.Contains(b.others, a) {
			b.others = append(b.others, a)
		}
	}
	addrs, all := nodePortAddresses(w, f)
	if all {
		b.nodeIPs = b.others
	}
	for _, a := range addrs {
		if !a.IsLoopback() {
			b.nodeIPs = append(b.nodeIPs, a)
		}
	}
	return b
}

func (b *ipvs) tables() []*rules.Table {
	table := func(name string, chains ...*rules.Chain) *rules.Table {
		return &rules.Table{Tool: rules.XTables, Family: b.f, Name: name, Chains: chains}
	}
	return []*rules.Table{
		table("nat", &b.services, &b.postrouting, &b.nodePort, &b.loadBalancer, &b.markMasq),
		table("filter", &b.filterForward, &b.filterNodePort, &b.filterFirewall, &b.filterSourceRanges, &b.filterAccess, &b.filterOwnAccess),
	}
}

// ipvsJumps are inserted one after another, so that the last of them comes first (iptablesJumpChain).
func ipvsJumps(f rules.Family) []rules.Into {
	var jumps []rules.Into
	for _, j := range []struct{ table, from, to, comment string }{
		{"nat", "OUTPUT", "KUBE-SERVICES", "kubernetes service portals"},
		{"nat", "PREROUTING", "KUBE-SERVICES", "kubernetes service portals"},
		{"nat", "POSTROUTING", "KUBE-POSTROUTING", "kubernetes postrouting rules"},
		{"filter", "FORWARD", "KUBE-FORWARD", "kubernetes forwarding rules"},
		{"filter", "INPUT", "KUBE-NODE-PORT", "kubernetes health check rules"},
		{"filter", "INPUT", "KUBE-PROXY-FIREWALL", "kube-proxy firewall rules"},
		{"filter", "FORWARD", "KUBE-PROXY-FIREWALL", "kube-proxy firewall rules"},
		{"filter", "INPUT", "KUBE-IPVS-FILTER", "kubernetes ipvs access filter"},
		{"filter", "OUTPUT", "KUBE-IPVS-OUT-FILTER", "kubernetes ipvs access filter"},
	} {
		rule := &rules.Rule{Do: []rules.Stmt{rules.Comment{Text: j.comment}, rules.Jump{Chain: j.to}}, Origin: rules.Origin{Component: component}}
		jumps = append(jumps, rules.Into{Tool: rules.XTables, Family: f, Table: j.table, Chain: j.from, Rule: rule, Insert: true})
	}
	return jumps
}

// servicePort enters a Service port into the sets and makes its virtual servers.
func (b *ipvs) servicePort(p *servicePort) {
	for _, e := range p.known {
		if a := e.Addr.Addr(); e.local { // ready or not
			b.sets.loopBack.add(p, rules.Key{Addr: a, Protocol: p.Protocol, Port: e.Addr.Port(), With: host(a)})
		}
	}
	cluster := addrPorts(p.cluster)
	internal, external := cluster, cluster
	if local := addrPorts(p.local); len(local) > 0 { // else the policy Local is that of Cluster (syncEndpoint)
		if p.service.InternalLocal {
			internal = local
		}
		if p.externalLocal {
			external = local
		}
	}
	b.sets.clusterIP.add(p, p.at(p.clusterIP, p.Port))
	b.serve(p, p.clusterIP, p.Port, internal)
	b.bind(p, p.clusterIP)
	for _, ip := range p.externalIPs {
		if p.externalLocal {
			b.sets.externalIPLocal.add(p, p.at(ip, p.Port))
		} else {
			b.sets.externalIP.add(p, p.at(ip, p.Port))
		}
		b.serveExternal(p, ip, external)
	}
	for _, ip := range p.balancerIPs {
		b.balancerIP(p, ip)
		b.serveExternal(p, ip, external)
	}
	if p.NodePort != 0 {
		if len(b.nodeIPs) == 0 {
			return // and the port of the health check is forgotten, as kube-proxy does
		}
		b.servedNodePort(p, external)
	}
	if p.healthCheck != 0 {
		b.sets.healthCheck.add(p, rules.Key{Port: p.healthCheck})
	}
}

func addrPorts(endpoints []endpoint) []netip.AddrPort {
	var all []netip.AddrPort
	for _, e := range endpoints {
		all = append(all, e.Addr)
	}
	return all
}

// serve makes a virtual server.
func (b *ipvs) serve(p *servicePort, a netip.Addr, port uint16, by []netip.AddrPort) {
	v := &rules.VirtualServer{
		Addr: netip.AddrPortFrom(a, port), Protocol: p.Protocol, Scheduler: cmp.Or(b.w.Proxy.Scheduler, "rr"),
		Persistence: p.service.AffinitySeconds, Real: by, Origin: p.origin,
	}
	if i, ok := b.servers[p.at(a, port)]; ok {
		b.virtual[i] = v
		return
	}
	b.servers[p.at(a, port)] = len(b.virtual)
	b.virtual = append(b.virtual, v)
}

// serveExternal makes a virtual server of an address that may be on another interface already.
func (b *ipvs) serveExternal(p *servicePort, a netip.Addr, by []netip.AddrPort) {
	b.serve(p, a, p.Port, by)
	if !slices.Contains(b.others, a) {
		b.bind(p, a)
	}
}

// bind gives the interface kube-ipvs0 an address.
func (b *ipvs) bind(p *servicePort, a netip.Addr) { b.sets.bound.add(p, rules.Key{Addr: a}) }

// balancerIP enters an address of a load balancer. If it has source ranges without the node's address among them, the
// node itself is kept from it: with the address on the node, it would be the source of the node's packets.
func (b *ipvs) balancerIP(p *servicePort, ip netip.Addr) {
	key := p.at(ip, p.Port)
	b.sets.balancer.add(p, key)
	if p.externalLocal {
		b.sets.balancerLocal.add(p, key)
	}
	if len(p.sourceRanges) == 0 {
		return
	}
	b.sets.balancerRanged.add(p, key)
	from := key
	for _, r := range p.sourceRanges {
		from.With = r
		b.sets.sourceCIDR.add(p, from)
	}
	if p.allowsNode(&b.w.Node, b.f) {
		from.With = host(ip)
		b.sets.sourceIP.add(p, from)
		return
	}
	via := rules.ViaIPVS{Addr: netip.AddrPortFrom(ip, p.Port), Protocol: p.Protocol}
	b.filterOwnAccess.Rules = append(b.filterOwnAccess.Rules,
		&rules.Rule{Do: []rules.Stmt{rules.Addr{Side: rules.Source, In: []netip.Prefix{host(ip)}}, via, rules.Drop{}}, Origin: p.origin})
}

// servedNodePort enters a node port, with the node's addresses where the set holds them, and makes its virtual servers.
func (b *ipvs) servedNodePort(p *servicePort, by []netip.AddrPort) {
	every, local := b.sets.nodePorts(p.Protocol)
	for _, a := range b.nodeIPs {
		key := rules.Key{Port: p.NodePort}
		if p.Protocol == ports.SCTP {
			key = p.at(a, p.NodePort)
		}
		every.add(p, key)
		if p.externalLocal {
			local.add(p, key)
		}
		b.serve(p, a, p.NodePort, by)
	}
}

// add appends a rule that is nobody's in particular.
func (b *ipvs) add(c *rules.Chain, do ...rules.Stmt) {
	c.Rules = append(c.Rules, &rules.Rule{Do: do, Origin: rules.Origin{Component: component}})
}

// addTold appends a rule for packets that a set has, unless it is empty.
func (b *ipvs) addTold(c *rules.Chain, s *ipset, do ...rules.Stmt) {
	if !s.isEmpty() {
		b.add(c, append(s.told(), do...)...)
	}
}

// writeServices decides by the destination whom a packet is for: it is marked where it has to be masqueraded, and those
// for cluster IPs and load balancers are kept from the rules behind these ones. Node ports are not.
func (b *ipvs) writeServices() {
	c, s := &b.services, b.sets
	b.add(c, rules.Addr{Side: rules.Source, In: []netip.Prefix{loopbackNet(b.f)}}, rules.Return{})
	b.addTold(c, &s.balancer, rules.Jump{Chain: b.loadBalancer.Name})
	b.writeClusterIPs()
	b.addTold(c, &s.externalIP, b.toMarkMasq())
	for _, set := range []*ipset{&s.externalIP, &s.externalIPLocal} {
		// From off the node, as far as bridges tell, or to an address that the node has by itself.
		b.addTold(c, set, rules.PhysdevIn{Not: true}, rules.AddrLocal{Side: rules.Source, Not: true}, rules.Accept{})
		b.addTold(c, set, rules.AddrLocal{Side: rules.Destination}, rules.Accept{})
	}
	b.add(c, rules.AddrLocal{Side: rules.Destination}, rules.Jump{Chain: b.nodePort.Name})
	for _, set := range []*ipset{&s.clusterIP, &s.balancer} { // acceptIPVSTraffic
		if !set.isEmpty() {
			b.add(c, set.holds(), rules.Accept{})
		}
	}
}

func (b *ipvs) toMarkMasq() rules.Stmt { return rules.Jump{Chain: b.markMasq.Name} }

// writeClusterIPs marks packets to cluster IPs that come from elsewhere than the node's pods. If kube-proxy cannot tell,
// it marks those of the node itself, whose source is a cluster IP of kube-ipvs0.
func (b *ipvs) writeClusterIPs() {
	notPods := fromPods(b.w, b.f, true)
	switch s := &b.sets.clusterIP; {
	case b.w.Proxy.MasqueradeAll:
		b.addTold(&b.services, s, b.toMarkMasq())
	case notPods != nil:
		b.addTold(&b.services, s, notPods, b.toMarkMasq())
	case !s.isEmpty():
		fromOne := rules.InSet{Set: s.Name, Fields: []rules.Field{rules.SrcAddr, rules.DstPort}}
		b.add(&b.services, rules.Comment{Text: s.comment}, fromOne, b.toMarkMasq())
	}
}

func (b *ipvs) writeBalancers() {
	b.addTold(&b.loadBalancer, &b.sets.balancerLocal, rules.Return{})
	b.add(&b.loadBalancer, b.toMarkMasq())
}

func (b *ipvs) writeNodePorts() {
	for _, protocol := range ports.Protocols() {
		every, local := b.sets.nodePorts(protocol)
		proto := rules.Proto{Is: protocol}
		b.addTold(&b.nodePort, local, proto, rules.Return{})
		b.addTold(&b.nodePort, every, proto, b.toMarkMasq())
	}
}

func (b *ipvs) writePostrouting() {
	b.addTold(&b.postrouting, &b.sets.loopBack, rules.Masquerade{})
	b.add(&b.postrouting, rules.Mark{Value: b.mark, Mask: b.mark, Not: true}, rules.Return{})
	b.add(&b.postrouting, rules.SetMark{Value: b.mark})
	b.add(&b.postrouting, rules.Comment{Text: "kubernetes service traffic requiring SNAT"}, rules.Masquerade{Random: true})
	b.add(&b.markMasq, rules.SetMark{Value: b.mark, Mask: b.mark})
}

// writeFilter keeps packets from the node's own ports at addresses of Services, and those from outside of the source
// ranges from load balancers.
func (b *ipvs) writeFilter() {
	s := b.sets
	b.addTold(&b.filterFirewall, &s.balancerRanged, rules.Jump{Chain: b.filterSourceRanges.Name})
	b.addTold(&b.filterSourceRanges, &s.sourceCIDR, rules.Return{})
	b.addTold(&b.filterSourceRanges, &s.sourceIP, rules.Return{})
	b.add(&b.filterSourceRanges, rules.Drop{})
	b.add(&b.filterForward, rules.Comment{Text: "kubernetes forwarding rules"}, rules.Mark{Value: b.mark, Mask: b.mark}, rules.Accept{})
	b.add(&b.filterForward, rules.Comment{Text: "kubernetes forwarding conntrack rule"}, rules.CTState{In: []string{"RELATED", "ESTABLISHED"}}, rules.Accept{})
	b.add(&b.filterNodePort, append(s.healthCheck.told(), rules.Accept{})...)
	for _, set := range []*ipset{&s.balancer, &s.clusterIP, &s.externalIP, &s.externalIPLocal, &s.healthCheck} {
		b.add(&b.filterAccess, set.holds(), rules.Return{})
	}
	b.add(&b.filterAccess, rules.CTState{In: []string{"NEW"}}, s.bound.holds(), rules.Reject{})
}
