package kubeproxy

import (
	"net/netip"
	"strconv"

	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

// largeCluster is the number of endpoints above which comments are left out (largeClusterEndpointsThreshold).
const largeCluster = 1000

// The counters of nfacct (pkg/proxy/metrics).
const (
	invalidCounter   = "ct_state_invalid_dropped_pkts"
	localhostCounter = "localhost_nps_accepted_pkts"
)

// IPTables renders what the iptables mode installs (pkg/proxy/iptables/proxier.go).
func IPTables(w *rules.World, f rules.Family) rules.Fragment {
	b := newXTables(w, f)
	ports := servicePorts(w, f)
	known := 0
	for _, p := range ports {
		known += len(p.known)
	}
	b.large = known > largeCluster
	b.own = make([]*rules.Chain, 0, 2*len(ports)+known)
	b.services.Rules = make([]*rules.Rule, 0, len(ports)+1)
	b.fixed()
	for _, p := range ports {
		b.servicePort(p)
	}
	b.toNodePorts()
	b.forward()
	return rules.Fragment{Tables: b.tables(), Jumps: iptablesJumps(f)}
}

// xtables is a rule set of the iptables mode in the making.
type xtables struct {
	w         *rules.World
	f         rules.Family
	mark      uint32
	large     bool
	localhost bool // node ports answer on 127.0.0.1
	pods      rules.Stmt
	notPods   rules.Stmt

	filterServices, filterExternal, filterForward, filterNodePorts, filterFirewall, firewall rules.Chain
	services, nodePorts, postrouting, markMasq                                               rules.Chain
	own                                                                                      []*rules.Chain // of Service ports, in nat

	toMarkMasq, toLocal, fromLocal, anyPort rules.Stmt   // of very many rules
	probabilities                           []rules.Stmt // by the number of endpoints

	spareRules []rules.Rule
	spareStmts []rules.Stmt
}

func newXTables(w *rules.World, f rules.Family) *xtables {
	b := &xtables{
		w: w, f: f, mark: masqueradeMark(w), localhost: localhostNodePorts(w, f), pods: fromPods(w, f, false), notPods: fromPods(w, f, true),
		toMarkMasq: rules.Jump{Chain: "KUBE-MARK-MASQ"}, toLocal: rules.AddrLocal{Side: rules.Destination}, fromLocal: rules.AddrLocal{Side: rules.Source}, anyPort: rules.Port{},
	}
	for name, c := range map[string]*rules.Chain{
		"KUBE-SERVICES": &b.services, "KUBE-NODEPORTS": &b.nodePorts, "KUBE-POSTROUTING": &b.postrouting, "KUBE-MARK-MASQ": &b.markMasq,
		"KUBE-EXTERNAL-SERVICES": &b.filterExternal, "KUBE-FORWARD": &b.filterForward, "KUBE-PROXY-FIREWALL": &b.filterFirewall, "KUBE-FIREWALL": &b.firewall,
	} {
		c.Name = name
	}
	b.filterServices.Name, b.filterNodePorts.Name = "KUBE-SERVICES", "KUBE-NODEPORTS"
	return b
}

// localhostNodePorts reports whether node ports answer on 127.0.0.1: they do unless they were bound to addresses without
// it, and never on ::1.
func localhostNodePorts(w *rules.World, f rules.Family) bool {
	if f != rules.IPv4 || !w.Proxy.LocalhostNodePorts {
		return false
	}
	ranges := nodePortRanges(w, f)
	for _, r := range ranges {
		if r.Masked().Addr().IsLoopback() || r.Contains(netip.AddrFrom4([4]byte{127, 0, 0, 0})) {
			return true
		}
	}
	return len(ranges) == 0
}

func (b *xtables) tables() []*rules.Table {
	canary := func() *rules.Chain { return &rules.Chain{Name: "KUBE-PROXY-CANARY"} }
	table := func(name string, chains ...*rules.Chain) *rules.Table {
		return &rules.Table{Tool: rules.XTables, Family: b.f, Name: name, Chains: chains}
	}
	nat := table("nat", canary(), &b.services, &b.nodePorts, &b.postrouting, &b.markMasq)
	nat.Chains = append(nat.Chains, b.own...)
	return []*rules.Table{
		table("mangle", canary()),
		table("filter", canary(), &b.filterExternal, &b.filterNodePorts, &b.filterServices, &b.filterForward, &b.filterFirewall, &b.firewall),
		nat,
	}
}

// iptablesJumps are inserted one after another, so that the last of them comes first (iptablesJumpChains).
func iptablesJumps(f rules.Family) []rules.Into {
	var jumps []rules.Into
	jump := func(table, from, to string, do ...rules.Stmt) {
		rule := &rules.Rule{Do: append(do, rules.Jump{Chain: to}), Origin: rules.Origin{Component: component}}
		jumps = append(jumps, rules.Into{Tool: rules.XTables, Family: f, Table: table, Chain: from, Rule: rule, Insert: true})
	}
	isNew := rules.CTState{In: []string{"NEW"}}
	comment := func(text string) rules.Stmt { return rules.Comment{Text: text} }
	jump("filter", "INPUT", "KUBE-EXTERNAL-SERVICES", isNew, comment("kubernetes externally-visible service portals"))
	jump("filter", "FORWARD", "KUBE-EXTERNAL-SERVICES", isNew, comment("kubernetes externally-visible service portals"))
	jump("filter", "INPUT", "KUBE-NODEPORTS", comment("kubernetes health check service ports"))
	jump("filter", "FORWARD", "KUBE-SERVICES", isNew, comment("kubernetes service portals"))
	jump("filter", "OUTPUT", "KUBE-SERVICES", isNew, comment("kubernetes service portals"))
	jump("filter", "FORWARD", "KUBE-FORWARD", comment("kubernetes forwarding rules"))
	for _, from := range []string{"INPUT", "OUTPUT", "FORWARD"} {
		jump("filter", from, "KUBE-PROXY-FIREWALL", isNew, comment("kubernetes load balancer firewall"))
	}
	jump("nat", "OUTPUT", "KUBE-SERVICES", comment("kubernetes service portals"))
	jump("nat", "PREROUTING", "KUBE-SERVICES", comment("kubernetes service portals"))
	jump("nat", "POSTROUTING", "KUBE-POSTROUTING", comment("kubernetes postrouting rules"))
	jump("filter", "INPUT", "KUBE-FIREWALL")
	jump("filter", "OUTPUT", "KUBE-FIREWALL")
	return jumps
}

// add appends a rule that is nobody's in particular.
func (b *xtables) add(c *rules.Chain, do ...rules.Stmt) {
	b.addOf(&rules.Origin{Component: component}, c, do)
}

// addOf appends a rule. There may be hundreds of thousands: their memory is taken in larger pieces, and do is copied, so
// that callers keep it on their stack.
func (b *xtables) addOf(origin *rules.Origin, c *rules.Chain, do []rules.Stmt) {
	if len(b.spareRules) == 0 {
		b.spareRules = make([]rules.Rule, 128)
	}
	if len(b.spareStmts) < len(do) {
		b.spareStmts = make([]rules.Stmt, 512)
	}
	rule := &b.spareRules[0]
	rule.Do, rule.Origin = b.spareStmts[:len(do):len(do)], *origin
	copy(rule.Do, do)
	b.spareRules, b.spareStmts = b.spareRules[1:], b.spareStmts[len(do):]
	c.Rules = append(c.Rules, rule)
}

func (b *xtables) fixed() {
	b.add(&b.postrouting, rules.Mark{Value: b.mark, Mask: b.mark, Not: true}, rules.Return{})
	b.add(&b.postrouting, rules.SetMark{Value: b.mark})
	b.add(&b.postrouting, rules.Comment{Text: "kubernetes service traffic requiring SNAT"}, rules.Masquerade{Random: true})
	b.add(&b.markMasq, rules.SetMark{Value: b.mark, Mask: b.mark})
	if b.localhost {
		local := []netip.Prefix{loopbackNet(b.f)}
		b.add(&b.firewall, rules.Addr{Side: rules.Source, In: local, Not: true}, rules.Addr{Side: rules.Destination, In: local},
			rules.Comment{Text: "block incoming localnet connections"},
			rules.CTState{In: []string{"RELATED", "ESTABLISHED", "DNAT"}, Not: true}, rules.Drop{})
	}
}

// toNodePorts is the end of KUBE-SERVICES.
func (b *xtables) toNodePorts() {
	comment := rules.Comment{Text: "kubernetes service nodeports; NOTE: this must be the last rule in this chain"}
	jump := rules.Jump{Chain: "KUBE-NODEPORTS"}
	addrs, all := nodePortAddresses(b.w, b.f)
	switch {
	case all && !b.localhost:
		b.add(&b.services, rules.Addr{Side: rules.Destination, In: []netip.Prefix{loopbackNet(b.f)}, Not: true}, comment, b.toLocal, jump)
	case all:
		b.add(&b.services, comment, b.toLocal, jump)
	}
	for _, a := range addrs {
		if !a.IsLoopback() || b.localhost {
			b.add(&b.services, to(a), comment, jump)
		}
	}
}

func (b *xtables) forward() {
	invalid := []rules.Stmt{rules.CTState{In: []string{"INVALID"}}}
	if b.w.Proxy.Counters {
		invalid = append(invalid, rules.Accounting{Name: invalidCounter})
	}
	if !b.w.Proxy.LiberalConntrack {
		b.add(&b.filterForward, append(invalid, rules.Drop{})...)
	}
	b.add(&b.filterForward, rules.Comment{Text: "kubernetes forwarding rules"}, rules.Mark{Value: b.mark, Mask: b.mark}, rules.Accept{})
	b.add(&b.filterForward, rules.Comment{Text: "kubernetes forwarding conntrack rule"}, rules.CTState{In: []string{"RELATED", "ESTABLISHED"}}, rules.Accept{})
}

// to holds for packets to an address.
func to(a netip.Addr) rules.Addr {
	return rules.Addr{Side: rules.Destination, In: []netip.Prefix{host(a)}}
}

// probability is that of the first of n endpoints, in the digits that kube-proxy gives (computeProbability).
func (b *xtables) probability(n int) rules.Stmt {
	for i := len(b.probabilities); i <= n; i++ {
		p, _ := strconv.ParseFloat(strconv.FormatFloat(1/float64(max(i, 1)), 'f', 10, 64), 64) // it is a number
		b.probabilities = append(b.probabilities, rules.Statistic{Probability: p})
	}
	return b.probabilities[n]
}
