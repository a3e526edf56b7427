package pool_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
)

// every returns numbers from first on, each so far from the one before.
func every(step int, first, count uint16) ports.Ranges {
	var ranges []ports.Range
	for i := range count {
		n := first + i*uint16(step)
		ranges = append(ranges, ports.Range{First: n, Last: n})
	}
	return ranges
}

func numbersIn(ranges ports.Ranges) []uint16 {
	var numbers []uint16
	for _, r := range ranges {
		for i := range r.Size() {
			numbers = append(numbers, r.First+uint16(i))
		}
	}
	return numbers
}

// suggested tells pools in a line each: "a 30000-30009 room 9".
func suggested(groups []pool.Group, ground pool.Ground) []string {
	var lines []string
	for _, s := range pool.Suggest(groups, ground) {
		line := fmt.Sprintf("%s %s room %d", s.Name, s.Ranges, s.Room)
		if s.Shared {
			line += " shared"
		}
		for _, n := range s.Left {
			line += " left " + strconv.Itoa(int(n))
		}
		lines = append(lines, line)
	}
	return lines
}

func TestSuggest(t *testing.T) {
	whole := pool.Ground{Within: defaultRange(), Prefer: ports.MustParseRange("30086-32767"), Room: 100}
	taken := func(text string) pool.Ground {
		g := whole
		g.Taken = mustRanges(text).Contains
		return g
	}
	for _, c := range []struct {
		why    string
		ground pool.Ground
		groups []string
		want   []string
	}{
		{"nobody", whole, nil, nil},
		{"room for ten at least", whole, []string{"a 30100"}, []string{"a 30100-30110 room 10"}},
		{"as many again as there are", whole, []string{"a 30100-30119"}, []string{"a 30100-30139 room 20"}},
		{"small gaps are filled", whole, []string{"a 30100,30105,30200"}, []string{"a 30100-30111,30200 room 10"}},
		{"downward at the end of the range", whole, []string{"a 32767"}, []string{"a 32757-32767 room 10"}},
		{"beside another", whole, []string{"a 30100", "b 30101"}, []string{"a 30090-30100 room 10", "b 30101-30111 room 10"}},
		{"elsewhere where it is hemmed in", taken("30099,30101"), []string{"a 30100"}, []string{"a 30100,30102-30111 room 10"}},
		{"what others hold is left out", taken("30105"), []string{"a 30100-30110"}, []string{"a 30100-30104,30106-30121 room 11 left 30105"}},
		{"held by two groups", whole, []string{"a 30100,30200", "b 30200,30300"}, []string{"a 30100-30110 room 10 left 30200", "b 30300-30310 room 10 left 30200"}},
		{"outside the range", whole, []string{"a 29999,30100"}, []string{"a 30100-30110 room 10 left 29999"}},
		{"nothing but outside", whole, []string{"a 29999"}, []string{"a 30086-30095 room 10 left 29999"}},
		{"a full range has no room", pool.Ground{Within: ports.MustParseRange("30000-30003"), Room: 100}, []string{"a 30000,30002", "b 30001,30003"},
			[]string{"a 30000,30002 room 0", "b 30001,30003 room 0"}},
		{"half of what is free at most", pool.Ground{Within: ports.MustParseRange("30000-30009"), Room: 100}, []string{"a 30000", "b 30009"},
			[]string{"a 30000-30002 room 2", "b 30007-30009 room 2"}},
	} {
		var groups []pool.Group
		for _, g := range c.groups {
			name, text, _ := strings.Cut(g, " ")
			groups = append(groups, pool.Group{Name: name, Numbers: numbersIn(mustRanges(text))})
		}
		if diff := cmp.Diff(c.want, suggested(groups, c.ground)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.why, diff)
		}
	}
}

// More stretches than a pool may have: they are joined over what is free, and are shared where that does not suffice.
func TestSuggestScattered(t *testing.T) {
	for _, c := range []struct {
		why    string
		a, b   ports.Ranges
		ranges int
		shared bool
	}{
		{"as many as there may be", every(50, 30000, 32), nil, 32, false},
		{"one more", every(50, 30000, 33), nil, 32, false},
		{"far more", every(10, 30000, 200), nil, 32, false},
		{"one by one with another", every(2, 30000, 100), every(2, 30001, 100), 32, true},
	} {
		s := pool.Suggest([]pool.Group{{Name: "a", Numbers: numbersIn(c.a)}, {Name: "b", Numbers: numbersIn(c.b)}},
			pool.Ground{Within: defaultRange()})
		if len(s[0].Ranges) > c.ranges || s[0].Shared != c.shared || len(s[0].Left) > 0 {
			t.Errorf("%s: %d ranges, shared %v, left %v; want %d, %v", c.why, len(s[0].Ranges), s[0].Shared, s[0].Left, c.ranges, c.shared)
		}
	}
}

// Whatever is held, the suggested pools and one for everybody take every number in use in, and nobody's is lost.
func TestSuggestKeepsAll(t *testing.T) {
	r, rounds := seed.Rand(t), seed.Rounds(300, 30_000)
	for range rounds {
		within := randomNodePortRange(r)
		if within.IsEmpty() || within.Size() > 4000 {
			within = defaultRange()
		}
		names := []string{"a", "b", "c", "d", "e", "f"}[:1+r.IntN(6)]
		holdings := map[uint16]string{} // the API server gives a number to one only
		spread := 1 + r.IntN(within.Size())
		for range r.IntN(min(spread, 400) + 1) {
			holdings[within.First+uint16(r.IntN(spread))] = append(names, "nobody")[r.IntN(len(names)+1)]
		}
		var groups []pool.Group
		for _, name := range names {
			g := pool.Group{Name: name}
			for n, of := range holdings {
				if of == name {
					g.Numbers = append(g.Numbers, n)
				}
			}
			groups = append(groups, g)
		}
		ground := pool.Ground{Within: within, Room: r.IntN(300), Taken: func(n uint16) bool { return holdings[n] == "nobody" }}
		suggestions := pool.Suggest(groups, ground)
		pools := []pool.Pool{mustPool("everybody " + within.String() + " shared priority=1000")}
		for _, s := range suggestions {
			if len(s.Ranges) == 0 {
				continue
			}
			line := s.Name + " " + s.Ranges.String() + " ns=" + s.Name
			if s.Shared {
				line += " shared"
			}
			pools = append(pools, mustPool(line))
			if len(s.Ranges) > pool.MaxRanges || len(s.Left) > 0 {
				t.Fatalf("%d ranges, left %v: %s", len(s.Ranges), s.Left, line)
			}
		}
		set := pool.New(pools, within)
		for _, m := range set.Members() {
			lost := slices.ContainsFunc(m.Overlaps, func(o pool.Overlap) bool { return !o.Won })
			if len(m.Outside) > 0 || m.Exclusive && lost {
				t.Fatalf("%s in %s", told(m), within)
			}
		}
		for n, of := range holdings {
			want := of
			if of == "nobody" {
				want = "everybody"
			}
			who := service("x/web")
			who.NamespaceLabels = map[string]string{"team": of}
			if p := set.Place(who, n); p.Standing != pool.InPool || p.Pool.Name != want {
				t.Fatalf("%d of %s is %+v; pools %v", n, of, p, suggested(groups, ground))
			}
		}
	}
}
