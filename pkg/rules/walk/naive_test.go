package walk

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

// naive is the slow and obvious walker that the other is held to: chains are functions that call each other, rules and
// elements are looked at one by one, and random choices are made again from the first packet on, one list of answers
// after the other.
type naive struct {
	rs   *rules.Ruleset
	host Host
	sent Packet

	answers []int // to the random choices, in order
	widths  []int // of the choices met
	prob    float64

	p     Packet // as it is now
	hook  rules.Hook
	seen  *rules.VirtualServer // that took it
	dnat  bool
	bound map[string]bool
	path  Path
}

func naiveWalk(rs *rules.Ruleset, host Host, p Packet) []Path {
	var paths []Path
	var answers []int
	for {
		n := &naive{rs: rs, host: host, sent: p, p: p, answers: answers, prob: 1, bound: map[string]bool{}}
		n.run()
		paths = append(paths, n.path)
		answers = append(slices.Clone(answers), make([]int, len(n.widths)-len(answers))...)
		for len(answers) > 0 && answers[len(answers)-1] == n.widths[len(answers)-1]-1 {
			answers = answers[:len(answers)-1]
		}
		if len(answers) == 0 {
			return paths
		}
		answers[len(answers)-1]++
	}
}

// choose answers a random choice between outcomes of the probabilities given.
func (n *naive) choose(probabilities ...float64) int {
	if len(probabilities) == 1 {
		return 0
	}
	k := 0
	if len(n.widths) < len(n.answers) {
		k = n.answers[len(n.widths)]
	}
	n.widths = append(n.widths, len(probabilities))
	n.prob *= probabilities[k]
	return k
}

type fate int

const (
	fellOut fate = iota
	accepted
	dropped
	rejected
	bound // its translation is done
	stolen
)

func (n *naive) local(a netip.Addr) bool {
	for _, v := range n.rs.Virtual {
		if v.Addr.Addr() == a {
			return true
		}
	}
	return a.IsLoopback() || slices.Contains(n.host.Addresses, a)
}

func (n *naive) localnet(name string) bool {
	return name == "lo" || slices.Contains(n.host.RouteLocalnet, name) || slices.Contains(n.host.RouteLocalnet, "all")
}

func (n *naive) run() {
	f := n.journey()
	n.path.Probability, n.path.Source, n.path.Destination, n.path.Mark = n.prob, n.p.Src, n.p.Dst, n.p.Mark
	switch f {
	case dropped:
		n.path.Verdict = Drop
	case rejected:
		n.path.Verdict = Reject
	case fellOut, accepted, bound, stolen:
		n.path.Verdict = Accept
		if n.p.Dst != n.sent.Dst {
			n.path.Verdict = DNAT
		}
	}
}

func (n *naive) journey() fate {
	loop := func() bool { return n.p.Src.Addr().IsLoopback() || n.p.Dst.Addr().IsLoopback() }
	v4 := n.p.Dst.Addr().Is4()
	if n.p.In == "" {
		return n.outward()
	}
	if !v4 && n.p.In != "lo" && loop() {
		n.path.Martian = true
		return dropped
	}
	return n.inward()
}

func (n *naive) inward() fate {
	if f := n.through(rules.Prerouting); f != accepted {
		return f
	}
	if n.p.Dst.Addr().Is4() && (n.p.Src.Addr().IsLoopback() || n.p.Dst.Addr().IsLoopback()) && !n.localnet(n.p.In) {
		n.path.Martian = true
		return dropped
	}
	if n.local(n.p.Dst.Addr()) {
		f := n.through(rules.Input)
		if f == stolen {
			n.p.In, n.p.Bridged = "", false
			return n.outward()
		}
		n.path.Local = f == accepted
		return f
	}
	if f := n.through(rules.Forward); f != accepted {
		return f
	}
	return n.away()
}

func (n *naive) outward() fate {
	f := n.through(rules.Output)
	if f == stolen {
		f = n.through(rules.Output)
	}
	if f != accepted {
		return f
	}
	if s := n.p.Src.Addr(); s.Is4() && s.IsLoopback() && !n.localnet(n.route().Interface) {
		n.path.Martian = true
		return dropped
	}
	return n.away()
}

func (n *naive) away() fate {
	if f := n.through(rules.Postrouting); f != accepted {
		return f
	}
	if n.local(n.p.Dst.Addr()) {
		n.p.In, n.p.Bridged = "lo", false
		return n.inward()
	}
	n.path.Martian = n.p.Src.Addr().IsLoopback() || n.sent.Src.Addr() == netip.IPv6Loopback()
	return accepted
}

func (n *naive) route() Route {
	if n.local(n.p.Dst.Addr()) {
		for _, a := range n.host.Addresses {
			if a.Is4() == n.p.Dst.Addr().Is4() {
				return Route{Interface: "lo", Source: a}
			}
		}
		return Route{Interface: "lo"}
	}
	for bits := 128; bits >= 0; bits-- {
		for _, r := range n.host.Routes {
			if r.To.Bits() == bits && r.To.Contains(n.p.Dst.Addr()) {
				return r
			}
		}
	}
	return Route{}
}

// hanging is one thing in a hook.
type hanging struct {
	prio, seq int
	t         *rules.Table
	c         *rules.Chain
}

func (n *naive) through(h rules.Hook) fate {
	n.hook = h
	side := "destination"
	if h == rules.Input || h == rules.Postrouting {
		side = "source"
	}
	var all []hanging
	for _, t := range n.rs.Tables {
		for _, c := range t.Chains {
			if t.Family == rules.FamilyOf(n.p.Dst.Addr()) && c.Base != nil && c.Base.Hook == h {
				all = append(all, hanging{c.Base.Priority, c.Base.Seq, t, c})
			}
		}
	}
	if len(n.rs.Virtual) > 0 && h == rules.Input {
		all = append(all, hanging{prio: 99})
	}
	if len(n.rs.Virtual) > 0 && h == rules.Output {
		all = append(all, hanging{prio: -98})
	}
	slices.SortStableFunc(all, func(a, b hanging) int {
		if a.prio != b.prio {
			return a.prio - b.prio
		}
		return b.seq - a.seq
	})
	for _, x := range all {
		if x.c == nil {
			if f := n.ipvs(); f != fellOut {
				if f == stolen {
					n.bound["destination"] = true
				}
				return f
			}
			continue
		}
		if x.c.Base.Type == rules.NAT && n.bound[side] {
			continue
		}
		switch f := n.enter(x.t, x.c.Name); f {
		case dropped, rejected:
			return f
		case bound:
			n.bound[side] = true
		case fellOut:
			if x.c.Base.Drops {
				return dropped
			}
		case accepted, stolen: // by this chain
		}
	}
	n.bound[side] = true
	return accepted
}

func (n *naive) ipvs() fate {
	if n.seen != nil {
		return fellOut
	}
	for _, v := range n.rs.Virtual {
		if v.Addr != n.p.Dst || v.Protocol != n.p.Protocol {
			continue
		}
		n.seen = v
		if len(v.Real) == 0 {
			n.step(Step{Virtual: v, Effect: rules.Reject{}})
			return rejected
		}
		k := n.choose(even(len(v.Real))...)
		n.step(Step{Virtual: v, Effect: rules.DNAT{To: v.Real[k : k+1]}})
		n.p.Dst = v.Real[k]
		if n.local(n.p.Dst.Addr()) {
			return fellOut
		}
		return stolen
	}
	return fellOut
}

func even(n int) []float64 { return slices.Repeat([]float64{1 / float64(n)}, n) }

func (n *naive) step(s Step) {
	s.Hook = n.hook
	n.path.Steps = append(n.path.Steps, s)
}

func (n *naive) enter(t *rules.Table, name string) fate {
	c := t.Chain(name)
	if c == nil {
		return fellOut
	}
rules:
	for i, r := range c.Rules {
		step := Step{Table: t, Chain: c, Index: i, Rule: r}
		var v rules.Stmt
		for _, d := range r.Do {
			var ok bool
			if ok, v = n.try(t, d, &step); !ok {
				continue rules
			}
			if v != nil {
				break
			}
		}
		step.Effect = v
		n.step(step)
		switch v := v.(type) {
		case rules.Jump:
			if f := n.enter(t, v.Chain); f != fellOut {
				return f
			}
		case rules.Goto:
			return n.enter(t, v.Chain)
		case rules.Return:
			return fellOut
		case rules.Accept:
			return accepted
		case rules.Drop:
			return dropped
		case rules.Reject:
			return rejected
		case rules.DNAT:
			return n.translate(v.To[0])
		case rules.Redirect:
			return n.translate(netip.AddrPortFrom(n.incoming(), v.Port))
		case rules.Masquerade:
			n.path.Masquerade = true
			n.p.Src = netip.AddrPortFrom(n.route().Source, n.p.Src.Port())
			return bound
		}
	}
	return fellOut
}

func (n *naive) translate(to netip.AddrPort) fate {
	n.p.Dst, n.dnat = to, n.dnat || to != n.p.Dst
	if a := n.p.Src.Addr(); n.hook == rules.Output && a.Is4() && a.IsLoopback() && !n.localnet(n.route().Interface) {
		n.path.Martian = true
		return dropped
	}
	return bound
}

// incoming is the IPv4 address by which a packet came in; one of the node itself comes over loopback.
func (n *naive) incoming() netip.Addr {
	if n.hook == rules.Output {
		return netip.MustParseAddr("127.0.0.1")
	}
	for _, r := range n.host.Routes {
		if r.Interface == n.p.In && r.Source.Is4() {
			return r.Source
		}
	}
	return n.host.Addresses[0]
}

// try does one statement: whether the rule goes on, and with which verdict it ends.
func (n *naive) try(t *rules.Table, d rules.Stmt, step *Step) (bool, rules.Stmt) {
	p := &n.p
	side := func(s rules.Side) netip.Addr {
		if s == rules.Source {
			return p.Src.Addr()
		}
		return p.Dst.Addr()
	}
	switch d := d.(type) {
	case rules.Addr:
		hit := false
		for _, x := range d.In {
			hit = hit || x.Contains(side(d.Side))
		}
		return hit != d.Not, nil
	case rules.AddrLocal:
		return n.local(side(d.Side)) != d.Not, nil
	case rules.InInterface:
		in := p.In
		if n.hook == rules.Output {
			in = ""
		}
		return (in == d.Name || d.Prefix && strings.HasPrefix(in, d.Name)) != d.Not, nil
	case rules.Proto:
		return p.Protocol == d.Is, nil
	case rules.Port:
		return d.Is == nil || slices.Contains(d.Is, p.Dst.Port()), nil
	case rules.CTState:
		return (slices.Contains(d.In, "NEW") || slices.Contains(d.In, "DNAT") && n.dnat) != d.Not, nil
	case rules.CTStatusDNAT:
		return n.dnat, nil
	case rules.Mark:
		return (p.Mark&d.Mask == d.Value) != d.Not, nil
	case rules.InSet:
		return (n.element(t, d.Set, d.Fields) != nil) != d.Not, nil
	case rules.Statistic:
		return n.choose(d.Probability, 1-d.Probability) == 0, nil
	case rules.Recent:
		return d.Set || slices.Contains(n.sent.Seen, d.Name), nil
	case rules.PhysdevIn:
		return p.Bridged != d.Not, nil
	case rules.SetMark:
		p.Mark = p.Mark&^d.Mask ^ d.Value
		return true, nil
	case rules.ViaIPVS:
		return n.seen != nil && n.seen.Addr == d.Addr && n.seen.Protocol == d.Protocol, nil
	case rules.Accounting, rules.Comment, rules.Update:
		return true, nil
	case rules.VMap:
		e := n.element(t, d.Map, d.Fields)
		if e == nil {
			return false, nil
		}
		step.Elem = e
		return true, e.Verdict
	case rules.GotoRandom:
		return true, rules.Goto{Chain: d.Chains[n.choose(even(len(d.Chains))...)]}
	case rules.DNAT:
		k := n.choose(even(len(d.To))...)
		return true, rules.DNAT{To: d.To[k : k+1]}
	case rules.Jump, rules.Goto, rules.Return, rules.Accept, rules.Drop, rules.Reject, rules.Masquerade, rules.Redirect:
		return true, d
	}
	panic(fmt.Sprintf("%T", d))
}

func (n *naive) element(t *rules.Table, name string, fields []rules.Field) *rules.Elem {
	sets := n.rs.IPSets
	if t.Tool == rules.NFTables {
		sets = t.Sets
	}
	for _, s := range sets {
		if s.Name != name {
			continue
		}
		for i := range s.Elems {
			if n.has(s, s.Elems[i].Key, fields) {
				return &s.Elems[i]
			}
		}
	}
	return nil
}

func (n *naive) has(s *rules.Set, k rules.Key, fields []rules.Field) bool {
	first := true
	for _, f := range fields {
		switch f {
		case rules.SrcAddr, rules.DstAddr:
			a := n.p.Src.Addr()
			if f == rules.DstAddr {
				a = n.p.Dst.Addr()
			}
			if first && a != k.Addr || !first && !k.With.Contains(a) {
				return false
			}
			first = false
		case rules.L4Proto:
			if k.Protocol != n.p.Protocol {
				return false
			}
		case rules.DstPort:
			if k.Port != n.p.Dst.Port() || strings.HasPrefix(s.Type, "hash:") && k.Protocol != n.p.Protocol {
				return false
			}
		}
	}
	return true
}
