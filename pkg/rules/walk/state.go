package walk

import (
	"net/netip"
	"slices"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

// run is one call of Walk.
type run struct {
	w      *Walker
	stack  *stack
	packet Packet
	open   []state // ways not yet followed, the next one last
}

// state is a packet on its way, and where it is.
type state struct {
	src, dst netip.AddrPort
	protocol ports.Protocol
	mark     uint32
	in       string
	bridged  bool

	probability float64
	translated  bool    // conntrack's state DNAT
	bound       [2]bool // the connection's destination or source is settled, translated or not
	masquerade  bool
	virtual     *rules.VirtualServer // took the packet

	hook  rules.Hook
	entry int    // of the hook
	chain *chain // nil: between two entries
	pos   int
	calls []call
	steps []Step

	ended   bool
	verdict Verdict
	local   bool
	martian bool
	decided int // how many steps there were with the one that decided
}

// call is where a packet goes on when a chain ends.
type call struct {
	chain *chain
	pos   int
}

// The sides of a connection that bound speaks of.
const (
	destination = iota
	source
)

// settles returns which side of a connection is settled in a hook.
func settles(h rules.Hook) int {
	if h == rules.Input || h == rules.Postrouting {
		return source
	}
	return destination
}

func (s *state) tuple() tuple { return tuple{s.dst.Addr(), s.dst.Port(), s.protocol} }

// fork returns a copy that can go another way.
func (s *state) fork(probability float64) state {
	c := *s
	c.probability *= probability
	c.steps = append(make([]Step, 0, len(s.steps)+usualSteps/2), s.steps...)
	c.calls = slices.Clone(s.calls)
	return c
}

// usualSteps is as many as kube-proxy's rules take.
const usualSteps = 24

func (s *state) end(v Verdict) {
	s.ended = true
	s.verdict = v
}

// decide ends a packet by its last step.
func (s *state) decide(v Verdict) {
	s.decided = len(s.steps)
	s.end(v)
}

func (s *state) path() Path {
	return Path{
		Probability: s.probability, Steps: s.steps, Verdict: s.verdict, Source: s.src, Destination: s.dst,
		Masquerade: s.masquerade, Local: s.local, Mark: s.mark, Martian: s.martian, Origin: s.origin(),
	}
}

// origin looks for an owner from the step that decided backwards.
func (s *state) origin() rules.Origin {
	for i := s.decided - 1; i >= 0; i-- {
		if o := s.steps[i].Origin(); o.Owner != (ports.Ref{}) {
			return o
		}
	}
	if s.decided > 0 {
		return s.steps[s.decided-1].Origin()
	}
	return rules.Origin{}
}
