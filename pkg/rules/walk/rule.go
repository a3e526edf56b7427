package walk

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

// rule tries a rule of the packet's chain, and does what it says if it matches.
func (r *run) rule(s *state, i int) {
	s.pos = i + 1
	step := Step{Hook: s.hook, Table: s.chain.in.is, Chain: s.chain.is, Index: i, Rule: s.chain.is.Rules[i]}
	var verdict rules.Stmt
	for _, stmt := range step.Rule.Do {
		switch d := stmt.(type) {
		case rules.Statistic:
			if !r.chance(s, d.Probability) {
				return
			}
		case rules.SetMark:
			s.mark = s.mark&^d.Mask ^ d.Value
		case rules.VMap:
			if step.Elem = s.chain.elem(s, d.Map, d.Fields); step.Elem == nil {
				return
			}
			verdict = step.Elem.Verdict
		case rules.Jump, rules.Goto, rules.Return, rules.Accept, rules.Drop, rules.Reject, rules.DNAT, rules.Redirect,
			rules.Masquerade, rules.GotoRandom:
			verdict = d
		default:
			if !r.matches(s, stmt) {
				return
			}
		}
		if verdict != nil {
			break
		}
	}
	r.decide(s, step, verdict)
}

// chance leaves the packet that a rule does not take, by chance, behind that rule, and reports whether there is one that
// it takes.
func (r *run) chance(s *state, p float64) bool {
	if p <= 0 {
		return false
	}
	if p < 1 {
		r.open = append(r.open, s.fork(1-p))
		s.probability *= p
	}
	return true
}

// decide does the verdict of a rule that matched.
func (r *run) decide(s *state, step Step, verdict rules.Stmt) {
	switch v := verdict.(type) {
	case rules.DNAT:
		r.choose(s, len(v.To), func(s *state, i int) {
			step.Effect = rules.DNAT{To: v.To[i : i+1 : i+1]}
			s.record(step)
			r.translate(s, v.To[i])
		})
		return
	case rules.GotoRandom:
		r.choose(s, len(v.Chains), func(s *state, i int) {
			step.Effect = rules.Goto{Chain: v.Chains[i]}
			s.record(step)
			s.call(v.Chains[i])
		})
		return
	}
	step.Effect = verdict
	s.record(step)
	switch v := verdict.(type) {
	case rules.Jump:
		s.calls = append(s.calls, call{s.chain, s.pos})
		s.call(v.Chain)
	case rules.Goto:
		s.call(v.Chain)
	case rules.Return:
		r.back(s)
	case rules.Accept:
		s.chain = nil
	case rules.Drop:
		s.decide(Drop)
	case rules.Reject:
		s.decide(Reject)
	case rules.Redirect:
		r.translate(s, r.redirected(s, v))
	case rules.Masquerade:
		s.masquerade = true
		s.src = netip.AddrPortFrom(r.w.route(s.dst.Addr()).Source, s.src.Port())
		s.bound[source] = true
		s.chain = nil
	}
}

// choose does one of n things at random: each one in a packet of its own, all with one probability.
func (r *run) choose(s *state, n int, do func(*state, int)) {
	for i := n - 1; i > 0; i-- {
		c := s.fork(1 / float64(n))
		do(&c, i)
		r.open = append(r.open, c)
	}
	if n > 0 {
		s.probability /= float64(n)
		do(s, 0)
	}
}

func (s *state) record(step Step) { s.steps = append(s.steps, step) }

// call goes on at the beginning of a chain of the same table. One that is not there is taken for empty.
func (s *state) call(name string) {
	c := s.chain.in.chains[name]
	if c == nil {
		c = &chain{is: &rules.Chain{Name: name}, in: s.chain.in}
	}
	if c.loops {
		s.end(Drop)
	}
	s.chain, s.pos = c, 0
}

// translate gives the packet its new destination: the connection's is settled with that.
func (r *run) translate(s *state, to netip.AddrPort) {
	if to.Port() == 0 {
		to = netip.AddrPortFrom(to.Addr(), s.dst.Port())
	}
	s.translated = s.translated || s.dst != to
	s.dst = to
	s.bound[settles(s.hook)] = true
	s.chain = nil
	s.decided = len(s.steps)
	if s.hook == rules.Output {
		r.reroute(s)
	}
}

// redirected returns where a packet is redirected to: the address of the interface by which it came, or loopback
// (linux/net/netfilter/nf_nat_redirect.c).
func (r *run) redirected(s *state, v rules.Redirect) netip.AddrPort {
	f := rules.FamilyOf(s.dst.Addr())
	switch {
	case s.hook != rules.Output:
		return netip.AddrPortFrom(r.w.address(s.in, f), v.Port)
	case f == rules.IPv4:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), v.Port)
	default:
		return netip.AddrPortFrom(netip.IPv6Loopback(), v.Port)
	}
}

// matches reports whether a match holds.
func (r *run) matches(s *state, stmt rules.Stmt) bool {
	switch m := stmt.(type) {
	case rules.Addr:
		a := s.side(m.Side)
		return slices.ContainsFunc(m.In, func(p netip.Prefix) bool { return p.Contains(a) }) != m.Not
	case rules.AddrLocal:
		return r.w.isLocal(s.side(m.Side)) != m.Not
	case rules.InInterface:
		return s.from(m.Name, m.Prefix) != m.Not
	case rules.Proto:
		return s.protocol == m.Is
	case rules.Port:
		return len(m.Is) == 0 || slices.Contains(m.Is, s.dst.Port())
	case rules.CTState:
		return s.inState(m.In) != m.Not
	case rules.CTStatusDNAT:
		return s.translated
	case rules.Mark:
		return (s.mark&m.Mask == m.Value) != m.Not
	case rules.InSet:
		return r.inSet(s, m) != m.Not
	case rules.Recent:
		return m.Set || slices.Contains(r.packet.Seen, m.Name)
	case rules.PhysdevIn:
		return s.bridged != m.Not
	case rules.ViaIPVS:
		return s.virtual != nil && s.virtual.Addr == m.Addr && s.virtual.Protocol == m.Protocol
	case rules.Accounting, rules.Comment, rules.Update:
		return true
	}
	panic(fmt.Sprintf("walk: nobody taught the walker what %T means", stmt)) // TestIndexedIsNaive draws every type
}

func (s *state) side(side rules.Side) netip.Addr {
	if side == rules.Source {
		return s.src.Addr()
	}
	return s.dst.Addr()
}

// from reports whether the packet came in by an interface of the name. One of the node itself came in by none.
func (s *state) from(name string, prefix bool) bool {
	if prefix {
		return strings.HasPrefix(s.in, name)
	}
	return s.in == name
}

// inState reports whether the connection is in one of the states; a first packet's is new.
func (s *state) inState(states []string) bool {
	for _, name := range states {
		if name == "NEW" || name == "DNAT" && s.translated {
			return true
		}
	}
	return false
}

func (r *run) inSet(s *state, m rules.InSet) bool {
	if slices.Contains(r.packet.Seen, m.Set) {
		return true
	}
	return s.chain.elem(s, m.Set, m.Fields) != nil
}

// elem looks up the packet in a set of the chain's table; nil if there is no such set or element.
func (c *chain) elem(s *state, name string, fields []rules.Field) *rules.Elem {
	t := c.in.sets[name]
	if t == nil {
		return nil
	}
	return t.lookup(t.key(fields, s))
}
