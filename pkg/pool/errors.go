package pool

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxText is how long the text of an error may be: 256 characters are shown, of which the caller needs some for the field
// before it and the code behind it.
const maxText = 190

// ForeignError says that a number belongs to an exclusive pool which does not select the requester. What comes of it is
// Pool.Enforcement's to say.
type ForeignError struct {
	Port      uint16
	Pool      *Member
	Requester Requester
	Instead   Instead
}

// Error names the number, its pool and whom that is for, and the pool and number to use instead.
func (e *ForeignError) Error() string {
	brief := fmt.Sprintf("%d belongs to PortPool %s", e.Port, e.Pool.Name)
	way, short := e.Instead.way(e.Requester)
	return fitting(brief+" ("+e.Pool.selected()+"); "+way, brief+"; "+way, brief+"; "+short)
}

// DrainingError says that a number belongs to a pool which serves the requester but gives no new numbers.
type DrainingError struct {
	Port      uint16
	Pool      *Member
	Requester Requester
	Instead   Instead
}

// Error names the number and its pool, and the pool and number to use instead.
func (e *DrainingError) Error() string {
	what := fmt.Sprintf("%d belongs to PortPool %s, which is draining and gives no new numbers; ", e.Port, e.Pool.Name)
	way, short := e.Instead.way(e.Requester)
	return fitting(what+way, what+short, fmt.Sprintf("%d is of PortPool %s, draining; %s", e.Port, e.Pool.Name, short))
}

// way is what who can do, in full and in short.
func (i Instead) way(who Requester) (full, short string) {
	switch {
	case i.Pool == nil:
		full = "choose a number that belongs to no PortPool"
		return full, full
	case i.Full:
		return fmt.Sprintf("PortPool %s serves namespace %s and has no free number: free one, or widen it", i.Pool.Name, who.Namespace),
			fmt.Sprintf("PortPool %s is full: free one", i.Pool.Name)
	}
	next := ""
	if i.Next != 0 {
		next = fmt.Sprintf(", next free %d", i.Next)
	}
	return fmt.Sprintf("namespace %s may use PortPool %s %s%s", who.Namespace, i.Pool.Name, i.Pool.Effective.Brief(), next),
		fmt.Sprintf("use PortPool %s%s", i.Pool.Name, next)
}

// LimitError says that a requester would have more of a pool's numbers than it, or its namespace, may have.
type LimitError struct {
	Pool       *Member
	Requester  Requester
	PerService bool // it is limits.perService, else limits.perNamespace
	Limit      int
	Has        int // how many the Service, or the namespace, has
	More       int // how many it wants beside
}

// Error names the pool, the limit, who exceeds it and by how much, and what to do.
func (e *LimitError) Error() string {
	field, who := "perNamespace", "namespace "+e.Requester.Namespace
	if e.PerService {
		field, who = "perService", "a Service"
	}
	has := fmt.Sprintf("has %d and wants %d more", e.Has, e.More)
	if e.Pool.ReuseDelay > 0 && !e.PerService && e.Pool.For == NodePorts {
		has += fmt.Sprintf("; what is given back counts for another %s (reuseDelay)", e.Pool.ReuseDelay)
	}
	return fitting(
		fmt.Sprintf("PortPool %s gives %s at most %s (limits.%s), which %s; free some, or have the limit raised", e.Pool.Name, who, counted(e.Limit, "number"), field, has),
		fmt.Sprintf("PortPool %s has a limits.%s of %d, and this one %s; free some, or have it raised", e.Pool.Name, field, e.Limit, has))
}

// NoPoolError says that no pool gives the requester numbers that it does not name. A Service is served from the
// configuration's own ranges then, outside of Owned; a pod is not served.
type NoPoolError struct {
	Requester Requester
	From      string // the only pool that was asked for; "": any
}

// Error names the requester's namespace and the pool that was asked for, and what to do.
func (e *NoPoolError) Error() string {
	numbers := "node ports"
	if e.Requester.For == HostPorts {
		numbers = "host ports"
	}
	if e.From != "" {
		return fitting(
			fmt.Sprintf("PortPool %s gives namespace %s no %s: it must exist for them, select the namespace, be Active, and its mode Auto; name another, or the number", e.From, e.Requester.Namespace, numbers),
			fmt.Sprintf("PortPool %s gives no %s here: it must be Active, Auto, and select this; name another, or the number", e.From, numbers))
	}
	return fmt.Sprintf("no PortPool gives namespace %s %s; have one select it, or choose the number yourself", e.Requester.Namespace, numbers)
}

// ExhaustedError says that no pool has all the numbers that a requester lacks.
type ExhaustedError struct {
	Requester Requester
	Wanted    int
	Tried     []Shortfall // in the order in which they were tried
}

// Shortfall says why a pool does not serve.
type Shortfall struct {
	Pool  *Member
	Limit *LimitError // nil: it has too few numbers
	Left  Usage       // of the numbers that it may give to who names none, where Limit is nil
}

// Enforcement is the strictest of the pools that were tried.
func (e *ExhaustedError) Enforcement() Enforcement {
	strictest := Audit
	for _, t := range e.Tried {
		if t.Pool.Enforcement > strictest {
			strictest = t.Pool.Enforcement
		}
	}
	return strictest
}

// Error names each pool and what it has left, as far as there is room, and what to do.
func (e *ExhaustedError) Error() string {
	if len(e.Tried) == 1 {
		return e.Tried[0].error(e.Wanted)
	}
	what := fmt.Sprintf("no PortPool has %s for namespace %s: ", counted(e.Wanted, "number"), e.Requester.Namespace)
	const way = "; free some, or widen a pool"
	var parts []string
	for _, t := range e.Tried {
		parts = append(parts, t.brief())
	}
	variants := []string{what + strings.Join(parts, ", ") + way}
	for n := len(parts) - 1; n > 0; n-- {
		variants = append(variants, fmt.Sprintf("%s%s, and %d more%s", what, strings.Join(parts[:n], ", "), len(parts)-n, way))
	}
	return fitting(append(variants, fmt.Sprintf("none of %d PortPools has %s for this namespace%s", len(parts), counted(e.Wanted, "number"), way))...)
}

// brief is a shortfall beside others.
func (s Shortfall) brief() string {
	if s.Limit != nil {
		return fmt.Sprintf("%s is at its limit of %d", s.Pool.Name, s.Limit.Limit)
	}
	return fmt.Sprintf("%s has %d of %d free", s.Pool.Name, s.Left.Available, s.Left.Total)
}

// error is the only shortfall.
func (s Shortfall) error(wanted int) string {
	name := "PortPool " + s.Pool.Name
	switch {
	case s.Limit != nil:
		return s.Limit.Error()
	case len(s.Pool.Effective) == 0:
		return name + " has no number at all: other pools, or the node port range, leave it none; give it other ranges"
	case len(s.Pool.Automatic) == 0:
		return fmt.Sprintf("%s gives %s only on request; ask for one of these numbers, or widen the pool", name, s.Pool.Effective.Brief())
	}
	what := fmt.Sprintf("%s has %d of %s", name, s.Left.Available, counted(wanted, "wanted number"))
	why := fmt.Sprintf("%d are held", s.Left.Allocated+s.Left.Foreign)
	if s.Left.Quarantined > 0 {
		why += fmt.Sprintf(", %d quarantined", s.Left.Quarantined)
	}
	return fitting(
		fmt.Sprintf("%s: of %d in %s, %s; free some, or widen the pool", what, s.Left.Total, s.Pool.Automatic.Brief(), why),
		fmt.Sprintf("%s: of %d, %s; free some, or widen the pool", what, s.Left.Total, why))
}

// fitting returns the first of texts, longest first, that is short enough, or else the last.
func fitting(texts ...string) string {
	for _, t := range texts {
		if utf8.RuneCountInString(t) <= maxText {
			return t
		}
	}
	return texts[len(texts)-1]
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
