package pool

import (
	"cmp"
	"slices"
	"strings"
)

// MayHold reports whether who may hold m's numbers: all may if they are shared.
func (m *Member) MayHold(who Requester) bool { return !m.Exclusive || m.Selects(who) }

// Judge asks whether who may take a number that it does not hold yet, whether it names it or was given it by the API
// server. Only exclusive pools mind: the errors are *ForeignError and *DrainingError. They tell the next free number of
// the pool that does serve who, if book is not nil. A number of an ExplicitOnly band is as good as others.
func (s *Set) Judge(who Requester, port uint16, book Book) error {
	owner, owned := s.OwnerOf(who.For, port)
	switch {
	case !owned:
		return nil
	case !owner.MayHold(who):
		return &ForeignError{Port: port, Pool: owner, Requester: who, Instead: s.instead(who, book)}
	case owner.State != Active:
		return &DrainingError{Port: port, Pool: owner, Requester: who, Instead: s.instead(who, book)}
	default:
		return nil
	}
}

// Instead is a pool that a requester may use.
type Instead struct {
	Pool *Member // nil: no pool serves it
	Next uint16  // a free number of it; 0: not known
	Full bool    // neither this pool nor another that serves the requester has a free one
}

func (s *Set) instead(who Requester, book Book) Instead {
	candidates := s.Candidates(who)
	if len(candidates) == 0 {
		return Instead{}
	}
	if book == nil {
		return Instead{Pool: candidates[0]}
	}
	for _, m := range candidates {
		ranges := m.Automatic
		if m.Mode != Auto {
			ranges = m.Effective
		}
		for _, r := range ranges {
			for i := range r.Size() {
				if port := r.First + uint16(i); book.use(port) == Free {
					return Instead{Pool: m, Next: port}
				}
			}
		}
	}
	return Instead{Pool: candidates[0], Full: true}
}

// Standing is how a number that somebody holds stands towards the pools.
type Standing uint8

// The standings, the best first.
const (
	InPool    Standing = iota + 1 // it is of a pool that selects the holder
	Unpooled                      // no pool gives the holder numbers, and no exclusive pool has this one
	OutOfPool                     // a pool gives the holder numbers, and this one is of no pool: a shrink leaves it so
	InForeign                     // an exclusive pool that does not select the holder has it
)

// Place is where a number that somebody holds belongs.
type Place struct {
	Standing Standing
	Pool     *Member // the pool that the number is of, or for OutOfPool would be of now; nil for Unpooled
}

// Place returns where a number that who holds belongs, Draining pools included. A number that several shared pools have is
// of the first in the order of Members that selects who.
func (s *Set) Place(who Requester, port uint16) Place {
	if owner, owned := s.OwnerOf(who.For, port); owned {
		if owner.MayHold(who) {
			return Place{InPool, owner}
		}
		return Place{InForeign, owner}
	}
	place := Place{Standing: Unpooled}
	for _, m := range s.members {
		if !m.Selects(who) {
			continue
		}
		if m.Effective.Contains(port) {
			return Place{InPool, m}
		}
		if place.Pool == nil && m.gives() {
			place = Place{OutOfPool, m}
		}
	}
	return place
}

// Displacement is a number that stands worse after a change than before.
type Displacement struct {
	Holding
	Before, After Place
}

// Displaced returns the holdings that stand worse in s than in before: what fell out of a pool that shrank, was disabled or
// deleted or selects others now, and what a pool that grew has come over. They keep their numbers; nobody moves them. A
// number that another pool gives to the same holder has not fallen out. Sorted by the pool before, number and holder.
func (s *Set) Displaced(before *Set, holdings []Holding) []Displacement {
	var displaced []Displacement
	for _, h := range holdings {
		was, is := before.Place(h.Requester, h.Port), s.Place(h.Requester, h.Port)
		if is.Standing > was.Standing {
			displaced = append(displaced, Displacement{h, was, is})
		}
	}
	slices.SortFunc(displaced, func(a, b Displacement) int {
		return cmp.Or(strings.Compare(a.Before.name(), b.Before.name()), cmp.Compare(a.Port, b.Port),
			strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name), strings.Compare(string(a.For), string(b.For)))
	})
	return displaced
}

func (p Place) name() string {
	if p.Pool == nil {
		return ""
	}
	return p.Pool.Name
}
