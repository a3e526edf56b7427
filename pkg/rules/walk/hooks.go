package walk

import (
	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

// begin returns the packet before its first hook.
func (r *run) begin() state {
	p := r.packet
	s := state{
		src: p.Src, dst: p.Dst, protocol: p.Protocol, mark: p.Mark, in: p.In, bridged: p.Bridged,
		probability: 1, hook: rules.Prerouting, steps: make([]Step, 0, usualSteps),
	}
	if p.In == "" {
		s.hook = rules.Output
	} else if p.In != loopback && rules.FamilyOf(p.Dst.Addr()) == rules.IPv6 && s.hasLoopback() {
		s.drop() // before any hook: linux/net/ipv6/ip6_input.c ip6_rcv_core
	}
	return s
}

func (s *state) hasLoopback() bool { return s.src.Addr().IsLoopback() || s.dst.Addr().IsLoopback() }

// drop ends a packet for an address that it may not have.
func (s *state) drop() {
	s.martian = true
	s.end(Drop)
}

// advance takes a packet to the next rule that can match, entry of a hook, or hook.
func (r *run) advance(s *state) {
	if s.chain != nil {
		if i := s.chain.next(s.pos, s.tuple()); i >= 0 {
			r.rule(s, i)
		} else {
			r.back(s)
		}
		return
	}
	entries := r.stack.hooks[s.hook]
	if s.entry == len(entries) {
		r.leave(s)
		return
	}
	e := entries[s.entry]
	s.entry++
	switch {
	case e.base == nil:
		r.ipvs(s)
	case !e.nat || !s.bound[settles(s.hook)]:
		s.chain, s.pos, s.calls = e.base, 0, s.calls[:0]
	}
}

// back returns from a chain that has ended; a base chain ends in its policy.
func (r *run) back(s *state) {
	if n := len(s.calls); n > 0 {
		c := s.calls[n-1]
		s.calls = s.calls[:n-1]
		s.chain, s.pos = c.chain, c.pos
		return
	}
	if base := r.stack.hooks[s.hook][s.entry-1].base.is.Base; base.Drops {
		s.end(Drop)
	}
	s.chain = nil
}

// leave takes a packet to its next hook.
func (r *run) leave(s *state) {
	s.bound[settles(s.hook)] = true // as it is, where nothing translated it
	switch s.hook {
	case rules.Prerouting:
		r.routeIn(s)
	case rules.Input:
		r.arrive(s, true)
	case rules.Forward:
		s.enter(rules.Postrouting)
	case rules.Output:
		s.enter(rules.Postrouting)
		r.reroute(s)
	case rules.Postrouting:
		r.send(s)
	}
}

func (s *state) enter(h rules.Hook) { s.hook, s.entry = h, 0 }

func (r *run) arrive(s *state, local bool) {
	s.local = local
	if s.dst == r.packet.Dst {
		s.end(Accept)
	} else {
		s.end(DNAT)
	}
}

// routeIn decides between the node itself and others (linux/net/ipv4/route.c ip_route_input_slow: no loopback address
// from without, but for route_localnet).
func (r *run) routeIn(s *state) {
	switch {
	case s.dst.Addr().Is4() && s.hasLoopback() && !r.w.routesLocalnet(s.in):
		s.drop()
	case r.w.isLocal(s.dst.Addr()):
		s.enter(rules.Input)
	default:
		s.enter(rules.Forward)
	}
}

// reroute routes a packet of the node, at once where its destination was translated and the hook is not at its end
// (linux/net/netfilter/nf_nat_proto.c nf_nat_ipv4_local_fn). One from 127.0.0.1 leaves by an interface with
// route_localnet only (linux/net/ipv4/route.c __mkroute_output); IPv6 sends it, in vain.
func (r *run) reroute(s *state) {
	from := s.src.Addr()
	if from.Is4() && from.IsLoopback() && !r.w.routesLocalnet(r.w.route(s.dst.Addr()).Interface) {
		s.drop()
	}
}

// send ends the packet's way out. By lo it comes back: it passes the hooks of packets from without, but its connection
// is settled. Nobody answers 127.0.0.1, nor ::1 even where that was masqueraded: what comes back for ::1 by an interface
// has no route (measured).
func (r *run) send(s *state) {
	if r.w.isLocal(s.dst.Addr()) {
		s.in, s.bridged = loopback, false
		s.enter(rules.Prerouting)
		return
	}
	if sent := r.packet.Src.Addr(); s.src.Addr().IsLoopback() || sent.Is6() && sent.IsLoopback() {
		s.martian = true
	}
	r.arrive(s, false)
}

// ipvs gives the packet to a virtual server, if one has its destination. Behind that it passes the hooks of the node's
// own packets from their start, unless the real server is the node itself (linux/net/netfilter/ipvs/ip_vs_xmit.c
// ip_vs_nat_xmit, ip_vs_nat_send_or_cont).
func (r *run) ipvs(s *state) {
	v := r.stack.virtual[s.tuple()]
	if v == nil || s.virtual != nil {
		return
	}
	step := Step{Hook: s.hook, Virtual: v, Effect: rules.Reject{}}
	if len(v.Real) == 0 {
		s.record(step)
		s.decide(Reject) // linux/net/netfilter/ipvs/ip_vs_core.c ip_vs_leave
		return
	}
	r.choose(s, len(v.Real), func(s *state, i int) {
		step.Effect = rules.DNAT{To: v.Real[i : i+1 : i+1]}
		s.record(step)
		s.virtual, s.dst, s.decided = v, v.Real[i], len(s.steps)
		if !r.w.isLocal(s.dst.Addr()) {
			s.bound[destination] = true
			s.in, s.bridged = "", false
			s.enter(rules.Output)
		}
	})
}
