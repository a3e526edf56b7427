package pool

import (
	"cmp"
	"slices"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// MaxRanges is how many ranges a pool has at most (api/v1alpha1 PortPoolSpec.Ranges).
const MaxRanges = 32

// minRoom is how many numbers a suggested pool has for what is to come, if there are enough, however few it has in use.
const minRoom = 10

// Group is some holders of numbers who are to have a pool of their own.
type Group struct {
	Name    string
	Numbers []uint16 // that they hold, in any order
}

// Ground is where the ranges of suggested pools may lie.
type Ground struct {
	Within ports.Range            // the node port range
	Prefer ports.Range            // where room that adjoins nothing is looked for first
	Taken  func(port uint16) bool // by somebody of no group; nil: none is
	Room   int                    // how many free numbers a pool is to have, in percent of those in use, and at least 10
}

// Suggestion is the pool of a group.
type Suggestion struct {
	Group
	Ranges ports.Ranges // at most MaxRanges
	Shared bool         // others' numbers lie in Ranges: more than MaxRanges of them would be needed for none to
	Room   int          // how many numbers of Ranges nobody holds
	Left   []uint16     // those that cannot be the group's alone: outside the ground, or held by others too; sorted
}

// Suggest returns a pool for each group, in their order. Every number of a group but those of Left lies in its pool. No two
// pools have a number in common, nor one that somebody else holds, unless they are Shared. At most half of what is free
// goes into pools, by what each has in use. The result depends on nothing but the arguments.
func Suggest(groups []Group, ground Ground) []Suggestion {
	l := newLine(groups, ground)
	all := make([]Suggestion, len(groups))
	stretches := make([][]ports.Range, len(groups))
	for i, g := range groups {
		all[i].Group = g
		stretches[i], all[i].Left = l.own(g, mark(i+1))
	}
	for i := range groups { // before any room is given: what must be joined comes first
		stretches[i], all[i].Shared = l.fit(stretches[i], mark(i+1))
	}
	for i, want := range l.rooms(groups, ground.Room) {
		stretches[i] = l.grow(stretches[i], mark(i+1), want)
	}
	for i := range all {
		all[i].Ranges = ports.NewRanges(stretches[i]...)
		all[i].Room = l.given[mark(i+1)]
	}
	return all
}

// mark is whose a number is.
type mark int

const (
	nobodys mark = 0
	others  mark = -1 // of somebody without a group, or of two groups
)

// line is all numbers and whose they are to be.
type line struct {
	whose  [65536]mark
	ground Ground
	given  map[mark]int // how many free numbers each group has been given
}

func newLine(groups []Group, ground Ground) *line {
	l := &line{ground: ground, given: map[mark]int{}}
	for n := 1; n <= 65535; n++ {
		if !ground.Within.Contains(uint16(n)) || ground.Taken != nil && ground.Taken(uint16(n)) {
			l.whose[n] = others
		}
	}
	for i, g := range groups {
		for _, n := range g.Numbers {
			if at := l.whose[n]; at == nobodys || at == mark(i+1) {
				l.whose[n] = mark(i + 1)
			} else {
				l.whose[n] = others
			}
		}
	}
	return l
}

// own returns what is a group's alone, and what cannot be.
func (l *line) own(g Group, m mark) (stretches []ports.Range, left []uint16) {
	for _, n := range slices.Compact(slices.Sorted(slices.Values(g.Numbers))) {
		if l.whose[n] == m {
			stretches = append(stretches, ports.Range{First: n, Last: n})
		} else {
			left = append(left, n)
		}
	}
	return ports.NewRanges(stretches...), left
}

// fit joins stretches until they are few enough, the closest first, over free numbers if that can be.
func (l *line) fit(stretches []ports.Range, m mark) (fitted []ports.Range, shared bool) {
	for len(stretches) > MaxRanges {
		i, found := l.closest(stretches, 65535, true)
		if !found {
			i, _ = l.closest(stretches, 65535, false)
			shared = true
		}
		stretches = l.join(stretches, i, m)
	}
	return stretches, shared
}

// closest returns the index of the stretch that is nearest to its next one, by at most so many numbers in between; only such
// as have nothing but free numbers in between, if those alone are asked for.
func (l *line) closest(stretches []ports.Range, most int, overFree bool) (index int, found bool) {
	for i := range len(stretches) - 1 {
		gap := between(stretches, i)
		if gap.Size() > most || overFree && !l.isFree(gap) {
			continue
		}
		index, found, most = i, true, gap.Size()-1
	}
	return index, found
}

// between is what lies between a stretch and the next.
func between(stretches []ports.Range, i int) ports.Range {
	return ports.Range{First: stretches[i].Last + 1, Last: stretches[i+1].First - 1}
}

func (l *line) isFree(r ports.Range) bool {
	for n := int(r.First); n <= int(r.Last); n++ {
		if l.whose[n] != nobodys {
			return false
		}
	}
	return true
}

// join makes one of a stretch and the next. What is free in between is given to the group.
func (l *line) join(stretches []ports.Range, i int, m mark) []ports.Range {
	l.give(between(stretches, i), m)
	stretches[i].Last = stretches[i+1].Last
	return slices.Delete(stretches, i+1, i+2)
}

func (l *line) give(r ports.Range, m mark) {
	for n := int(r.First); n <= int(r.Last); n++ {
		if l.whose[n] == nobodys {
			l.whose[n] = m
			l.given[m]++
		}
	}
}

// rooms returns how many free numbers each group is to have in all.
func (l *line) rooms(groups []Group, percent int) []int {
	free := 0
	for n := 1; n <= 65535; n++ {
		if l.whose[n] == nobodys {
			free++
		}
	}
	wants, sum := make([]int, len(groups)), 0
	for i, g := range groups {
		wants[i] = max(minRoom, len(g.Numbers)*percent/100)
		sum += wants[i]
	}
	if most := free / 2; sum > most {
		for i := range wants {
			wants[i] = wants[i] * most / sum
		}
	}
	return wants
}

// grow gives a group free numbers until it has so many: first those between its own, then those that adjoin them, then
// others.
func (l *line) grow(stretches []ports.Range, m mark, want int) []ports.Range {
	for len(stretches) > 0 {
		i, found := l.closest(stretches, want-l.given[m], true)
		if !found {
			break
		}
		stretches = l.join(stretches, i, m)
	}
	for l.given[m] < want {
		more := want - l.given[m]
		block := l.adjoining(stretches, more)
		if block.IsEmpty() && len(stretches) < MaxRanges {
			block = cmp.Or(l.longest(l.ground.Prefer), l.longest(l.ground.Within))
		}
		if block.IsEmpty() {
			break
		}
		if block.Size() > more && isOnlyBelow(block, stretches) {
			block.First = block.Last - uint16(more-1)
		} else if block.Size() > more {
			block.Last = block.First + uint16(more-1)
		}
		l.give(block, m)
		stretches = ports.NewRanges(append(stretches, block)...)
	}
	return stretches
}

// isOnlyBelow reports whether a block adjoins the beginning of a stretch, and the end of none.
func isOnlyBelow(block ports.Range, stretches []ports.Range) bool {
	isAbove := slices.ContainsFunc(stretches, func(s ports.Range) bool { return int(s.Last)+1 == int(block.First) })
	return !isAbove && slices.ContainsFunc(stretches, func(s ports.Range) bool { return int(block.Last)+1 == int(s.First) })
}

// adjoining returns a run of free numbers next to one of the stretches: one above it that is long enough, else the longest;
// the empty Range if there is none.
func (l *line) adjoining(stretches []ports.Range, enough int) ports.Range {
	var best ports.Range
	for _, s := range stretches {
		above, below := ports.Range{First: s.Last + 1, Last: s.Last}, ports.Range{First: s.First, Last: s.First - 1}
		for n := int(s.Last) + 1; n <= 65535 && l.whose[n] == nobodys; n++ {
			above.Last = uint16(n)
		}
		if above.Size() >= enough {
			return above
		}
		for n := int(s.First) - 1; n >= 1 && l.whose[n] == nobodys; n-- {
			below.First = uint16(n)
		}
		for _, r := range []ports.Range{above, below} {
			if r.Size() > best.Size() {
				best = r
			}
		}
	}
	return best
}

// longest returns the longest run of free numbers in a range; the empty Range if there is none.
func (l *line) longest(within ports.Range) ports.Range {
	var best, run ports.Range
	for n := int(within.First); n <= int(within.Last) && !within.IsEmpty(); n++ {
		switch {
		case l.whose[n] != nobodys:
			run = ports.Range{}
			continue
		case run.IsEmpty():
			run.First = uint16(n)
		}
		run.Last = uint16(n)
		if run.Size() > best.Size() {
			best = run
		}
	}
	return best
}
