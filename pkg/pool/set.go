package pool

import (
	"cmp"
	"slices"
	"strings"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// Set is all pools of a cluster and what each leaves to the others. It never changes.
type Set struct {
	nodePortRange ports.Range
	members       []*Member // in the order of choice
	byName        map[string]*Member
	owned         map[For][]owned // what exclusive pools have, sorted
}

// owned is a range that an exclusive pool has.
type owned struct {
	ports.Range
	by *Member
}

// Member is a pool in a Set. It must not be written to.
type Member struct {
	Pool
	// Effective is what the pool has: its ranges inside the node port range, without what stronger pools have. It is empty
	// for a Disabled pool.
	Effective ports.Ranges
	// Automatic is what the pool may give to those who name no number: Effective without ExplicitOnly.
	Automatic ports.Ranges
	// Outside is the part of its ranges that lies outside the node port range.
	Outside ports.Ranges
	// Overlaps are the numbers that an exclusive pool and another one both name, the strongest other pool first.
	Overlaps []Overlap
}

// Overlap says that another pool names some of a pool's numbers too, and who has them.
type Overlap struct {
	With  string // the other pool's name
	Ports ports.Ranges
	Won   bool // the pool itself has them; else the other one
}

// New makes a Set of pools, whatever their order. The ranges of pools for node ports are clipped to nodePortRange, unless
// that is empty: then it is not known. Where pools for the same field overlap, exclusive ones are stronger than shared
// ones, and of two exclusive ones the older, or the one whose name comes first; two shared ones both have the numbers.
// So a pool that is added later takes nothing from an older one.
func New(pools []Pool, nodePortRange ports.Range) *Set {
	s := &Set{nodePortRange: nodePortRange, byName: map[string]*Member{}, owned: map[For][]owned{}}
	for _, p := range pools {
		p.Ranges, p.ExplicitOnly = ports.NewRanges(p.Ranges...), ports.NewRanges(p.ExplicitOnly...)
		m := &Member{Pool: p}
		s.members = append(s.members, m)
		s.byName[p.Name] = m
	}
	slices.SortFunc(s.members, stronger)
	for i, m := range s.members {
		if m.State != Disabled {
			s.claim(m, s.members[:i])
		}
	}
	for _, list := range s.owned {
		slices.SortFunc(list, func(a, b owned) int { return cmp.Compare(a.First, b.First) })
	}
	slices.SortFunc(s.members, chosenBefore)
	return s
}

// With is the Set in which p stands for the pool of its name, or is added.
func (s *Set) With(p Pool) *Set {
	pools := []Pool{p}
	for _, m := range s.members {
		if m.Name != p.Name {
			pools = append(pools, m.Pool)
		}
	}
	return New(pools, s.nodePortRange)
}

// claim computes what m has beside the stronger pools.
func (s *Set) claim(m *Member, before []*Member) {
	m.Effective = m.Ranges
	if m.For == NodePorts && !s.nodePortRange.IsEmpty() {
		accepted := ports.Ranges{s.nodePortRange}
		m.Outside = without(m.Ranges, accepted)
		m.Effective = both(m.Ranges, accepted)
	}
	for _, o := range before {
		if !o.Exclusive || o.For != m.For {
			continue
		}
		taken := both(m.Effective, o.Effective)
		if len(taken) == 0 {
			continue
		}
		m.Effective = without(m.Effective, taken)
		m.Overlaps = append(m.Overlaps, Overlap{With: o.Name, Ports: taken})
		o.Overlaps = append(o.Overlaps, Overlap{With: m.Name, Ports: taken, Won: true})
	}
	m.Automatic = without(m.Effective, m.ExplicitOnly)
	if m.Exclusive {
		for _, r := range m.Effective {
			s.owned[m.For] = append(s.owned[m.For], owned{r, m})
		}
	}
}

// stronger orders pools by who keeps the numbers that both name.
func stronger(a, b *Member) int {
	if a.Exclusive != b.Exclusive {
		if a.Exclusive {
			return -1
		}
		return 1
	}
	return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.Name, b.Name))
}

// chosenBefore orders pools by who serves a requester that both select.
func chosenBefore(a, b *Member) int {
	if c := cmp.Compare(a.Priority, b.Priority); c != 0 {
		return c
	}
	if (a.Services != nil) != (b.Services != nil) {
		if a.Services != nil {
			return -1
		}
		return 1
	}
	return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.Name, b.Name))
}

// Members returns the pools in the order in which they serve a requester that several select: by priority, then those
// with a selector for Services, then the older, then by name. It must not be written to.
func (s *Set) Members() []*Member { return s.members }

// Named returns the pool of a name, if there is one.
func (s *Set) Named(name string) (*Member, bool) {
	m, ok := s.byName[name]
	return m, ok
}

// OwnerOf returns the exclusive pool, if any, that has a number. It may be a Draining one.
func (s *Set) OwnerOf(field For, port uint16) (*Member, bool) {
	list := s.owned[field]
	i, found := slices.BinarySearchFunc(list, port, func(o owned, port uint16) int {
		switch {
		case o.Last < port:
			return -1
		case o.First > port:
			return 1
		default:
			return 0
		}
	})
	if !found {
		return nil, false
	}
	return list[i].by, true
}

// Owned returns the numbers that exclusive pools have: who is served by no pool gets none of them, so that they are the
// Except of a Search over the configuration's own ranges.
func (s *Set) Owned(field For) ports.Ranges {
	var ranges []ports.Range
	for _, o := range s.owned[field] {
		ranges = append(ranges, o.Range)
	}
	return ports.NewRanges(ranges...)
}

// Candidates returns the pools that give numbers to r, Explicit ones among them, in the order in which they do.
func (s *Set) Candidates(r Requester) []*Member {
	var serving []*Member
	for _, m := range s.members {
		if m.State == Active && m.Selects(r) {
			serving = append(serving, m)
		}
	}
	return serving
}
