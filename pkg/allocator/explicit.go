package allocator

import (
	"fmt"
	"strings"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// Explicit judges a number that somebody wrote: it returns nil if port lies in one of the ranges and nobody holds it,
// else *OutOfRangeError or *HeldError. Without ranges nothing is allowed. Unlike the API server, whose "provided port is
// already allocated" names nobody, the error says who holds the number.
func Explicit(port uint16, within ports.Ranges, held Held) error {
	if !within.Contains(port) {
		return &OutOfRangeError{Port: port, Ranges: within}
	}
	if held == nil {
		return nil
	}
	if holder, taken := held(port); taken {
		return &HeldError{Port: port, Holder: holder}
	}
	return nil
}

// OutOfRangeError says that a number lies in none of the ranges that it may come from.
type OutOfRangeError struct {
	Port   uint16
	Ranges ports.Ranges // as they were given; empty: no number was allowed
}

// Error names the number, the ranges and what to do.
func (e *OutOfRangeError) Error() string {
	if e.Ranges.Size() == 0 {
		return fmt.Sprintf("%d cannot be chosen: no range of ports is open for it; leave the number out", e.Port)
	}
	return fmt.Sprintf("%d is outside %s; choose a number inside, or leave it out to be given one", e.Port, e.Ranges)
}

// HeldError says that somebody holds a number.
type HeldError struct {
	Port   uint16
	Holder ports.Claim // the zero Claim if nobody knows who
}

// Error names the number, its holder by kind, namespace, name, field and place, and what to do.
func (e *HeldError) Error() string {
	const advice = "choose another number, or leave it out to be given one"
	if e.Holder.Owner == nil {
		return fmt.Sprintf("%d is taken; %s", e.Port, advice)
	}
	field := e.Holder.Field
	if field == "" {
		field = e.Holder.Kind.String()
	}
	return fmt.Sprintf("%d is taken by %s (%s)%s; %s", e.Port, e.Holder.Owner.Ref, field, place(e.Holder.Scope), advice)
}

// place says where a holder is in few words: a DaemonSet may have thousands of nodes.
func place(s ports.Scope) string {
	const told = 3
	nodes := s.Nodes()
	switch {
	case s.Kind == ports.Everywhere:
		return " on every node"
	case len(nodes) > told:
		return fmt.Sprintf(" on %s and %d more nodes", strings.Join(nodes[:told], ", "), len(nodes)-told)
	case len(nodes) > 0:
		return " on " + strings.Join(nodes, ", ")
	default:
		return ""
	}
}

// ExhaustedError says that no number is left to pick.
type ExhaustedError struct {
	Ranges   []ports.Range // as they were given
	Held     int           // how many ports of the ranges are held
	Excepted int           // how many more must not be picked
}

// exhausted counts a port once, though it may lie in several ranges.
func (r *Request) exhausted() *ExhaustedError {
	e := &ExhaustedError{Ranges: r.Ranges}
	except := ports.NewRanges(r.Except...)
	for _, within := range ports.NewRanges(r.Ranges...) {
		e.Held += within.Size()
		for _, x := range except {
			e.Excepted += ports.Range{First: max(within.First, x.First), Last: min(within.Last, x.Last)}.Size()
		}
	}
	e.Held -= e.Excepted
	return e
}

// Error says which ranges are full and what to do. Ranges that touch are told as one.
func (e *ExhaustedError) Error() string {
	ranges := ports.NewRanges(e.Ranges...)
	switch {
	case len(ranges) == 0:
		return "no port can be picked: there is no range to pick from"
	case e.Excepted > 0:
		return fmt.Sprintf("no port is free in %s: %d held, %d reserved; free one, or widen the range", ranges, e.Held, e.Excepted)
	default:
		return fmt.Sprintf("no port is free in %s: all %d are held; free one, or widen the range", ranges, e.Held)
	}
}
