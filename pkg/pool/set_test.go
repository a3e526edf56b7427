package pool_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
)

// told is what a Set says of a pool, in one line.
func told(m *pool.Member) string {
	words := []string{m.Name, "has", m.Effective.String(), "gives", m.Automatic.String(), "outside", m.Outside.String()}
	for _, o := range m.Overlaps {
		won := "lost"
		if o.Won {
			won = "won"
		}
		words = append(words, won, o.Ports.String(), o.With)
	}
	return strings.Join(words, " ")
}

func TestEffective(t *testing.T) {
	for _, c := range []struct {
		why  string
		in   []string
		want []string // in the order of choice
	}{
		{"alone", []string{"a 30000-30009"}, []string{"a has 30000-30009 gives 30000-30009 outside "}},
		{"a band on request only", []string{"a 30000-30009 only=30000-30003"}, []string{"a has 30000-30009 gives 30004-30009 outside "}},
		{"clipped", []string{"a 29990-30009,32767-32770"}, []string{"a has 30000-30009,32767 gives 30000-30009,32767 outside 29990-29999,32768-32770"}},
		{"host ports are anywhere", []string{"a 80,443 host"}, []string{"a has 80,443 gives 80,443 outside "}},
		{"the older keeps", []string{"a 30000-30009 age=2", "b 30005-30019 age=1"},
			[]string{"b has 30005-30019 gives 30005-30019 outside  won 30005-30009 a", "a has 30000-30004 gives 30000-30004 outside  lost 30005-30009 b"}},
		{"of one age the first by name", []string{"b 30005-30019", "a 30000-30009"},
			[]string{"a has 30000-30009 gives 30000-30009 outside  won 30005-30009 b", "b has 30010-30019 gives 30010-30019 outside  lost 30005-30009 a"}},
		{"exclusive beats an older shared one", []string{"a 30000-30009 shared", "b 30005-30006 age=9"},
			[]string{"a has 30000-30004,30007-30009 gives 30000-30004,30007-30009 outside  lost 30005-30006 b", "b has 30005-30006 gives 30005-30006 outside  won 30005-30006 a"}},
		{"shared ones share", []string{"a 30000-30009 shared", "b 30005-30019 shared"},
			[]string{"a has 30000-30009 gives 30000-30009 outside ", "b has 30005-30019 gives 30005-30019 outside "}},
		{"a disabled one is nothing", []string{"a 30000-30009 disabled", "b 30005-30019 age=1"},
			[]string{"a has  gives  outside ", "b has 30005-30019 gives 30005-30019 outside "}},
		{"a draining one keeps", []string{"a 30000-30009 draining", "b 30005-30019 age=1"},
			[]string{"a has 30000-30009 gives 30000-30009 outside  won 30005-30009 b", "b has 30010-30019 gives 30010-30019 outside  lost 30005-30009 a"}},
		{"node ports and host ports do not meet", []string{"a 30000-30009 host", "b 30005-30019"},
			[]string{"a has 30000-30009 gives 30000-30009 outside ", "b has 30005-30019 gives 30005-30019 outside "}},
		{"nothing left", []string{"a 30000-30009", "b 30002-30003"},
			[]string{"a has 30000-30009 gives 30000-30009 outside  won 30002-30003 b", "b has  gives  outside  lost 30002-30003 a"}},
		{"what the loser lost the third does not lose to it", []string{"a 30000-30009 age=1", "b 30005-30014 age=2", "c 30005-30019 age=3"},
			[]string{"a has 30000-30009 gives 30000-30009 outside  won 30005-30009 b won 30005-30009 c",
				"b has 30010-30014 gives 30010-30014 outside  lost 30005-30009 a won 30010-30014 c",
				"c has 30015-30019 gives 30015-30019 outside  lost 30005-30009 a lost 30010-30014 b"}},
		{"by priority, then with a selector for Services", []string{"a 30000", "b 30001 svc=edge", "c 30002 priority=9", "d 30003 age=-5"},
			[]string{"c has 30002 gives 30002 outside ", "b has 30001 gives 30001 outside ", "d has 30003 gives 30003 outside ", "a has 30000 gives 30000 outside "}},
	} {
		var got []string
		for _, m := range mustSet(c.in...).Members() {
			got = append(got, told(m))
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.why, diff)
		}
	}
}

// A node port range that nobody told clips nothing.
func TestUnknownNodePortRange(t *testing.T) {
	m, _ := pool.New(mustPools("a 80-90,40000-40010"), ports.Range{}).Named("a")
	if got := told(m); got != "a has 80-90,40000-40010 gives 80-90,40000-40010 outside " {
		t.Error(got)
	}
}

func TestWith(t *testing.T) {
	before := mustSet("a 30000-30009 age=1", "b 30005-30019 age=2")
	after := before.With(mustPool("a 30000-30006 age=1")).With(mustPool("c 30018 age=3"))
	for want, m := range map[string]*pool.Set{
		"b has 30010-30019 gives 30010-30019 outside  lost 30005-30009 a":                   before,
		"b has 30007-30019 gives 30007-30019 outside  lost 30005-30006 a won 30018 c":       after,
		"b has 30005-30019 gives 30005-30019 outside ":                                      before.With(mustPool("a 30000-30004")),
		"b has 30005-30019 gives 30005-30019 outside  won 30005-30009 a":                    before.With(mustPool("a 30000-30009 age=7")),
		"b has 30005-30007,30019 gives 30005-30007,30019 outside  lost 30008-30018 a":       before.With(mustPool("a 30008-30018 age=1")),
		"b has 30005-30008,30010-30019 gives 30005-30008,30010-30019 outside  lost 30009 a": before.With(mustPool("a 30009 age=1")),
	} {
		b, ok := m.Named("b")
		if !ok || told(b) != want {
			t.Errorf("%s\nwant %s", told(b), want)
		}
	}
	if _, known := before.Named("c"); known {
		t.Error("a Set changed")
	}
}

// model is a Set as a table of all numbers: which pools have each.
type model struct {
	pools []pool.Pool
	has   [][]bool // pool, number
	gives [][]bool
}

func newModel(pools []pool.Pool, nodePortRange ports.Range) *model {
	m := &model{pools: pools, has: make([][]bool, len(pools)), gives: make([][]bool, len(pools))}
	named, only := make([][]bool, len(pools)), make([][]bool, len(pools))
	mark := func(ranges ports.Ranges) []bool {
		table := make([]bool, 65536)
		for _, r := range ranges {
			for n := int(r.First); n <= int(r.Last); n++ {
				table[n] = true
			}
		}
		return table
	}
	for i, p := range pools {
		m.has[i], m.gives[i] = make([]bool, 65536), make([]bool, 65536)
		named[i], only[i] = mark(p.Ranges), mark(p.ExplicitOnly)
	}
	for n := 1; n <= 65535; n++ {
		for i, p := range pools {
			m.has[i][n] = named[i][n] && takesPart(p, n, nodePortRange) && !m.beaten(i, n, named, nodePortRange)
			m.gives[i][n] = m.has[i][n] && !only[i][n]
		}
	}
	return m
}

func takesPart(p pool.Pool, n int, r ports.Range) bool {
	inside := p.For == pool.HostPorts || r == (ports.Range{}) || int(r.First) <= n && n <= int(r.Last)
	return p.State != pool.Disabled && inside
}

// beaten reports whether another pool that names n is stronger than pool i.
func (m *model) beaten(i, n int, named [][]bool, nodePortRange ports.Range) bool {
	p := m.pools[i]
	for j, q := range m.pools {
		if j == i || !named[j][n] || !q.Exclusive || q.For != p.For || !takesPart(q, n, nodePortRange) {
			continue
		}
		older := q.Created.Before(p.Created) || q.Created.Equal(p.Created) && q.Name < p.Name
		if !p.Exclusive || older {
			return true
		}
	}
	return false
}

func (m *model) index(name string) int {
	for i, p := range m.pools {
		if p.Name == name {
			return i
		}
	}
	return -1
}

func randomNodePortRange(r *rand.Rand) ports.Range {
	return []ports.Range{{}, defaultRange(), {First: 30003, Last: 30012}, {First: 1, Last: 65535}, {First: 30000, Last: 65520}}[r.IntN(5)]
}

func shuffled(r *rand.Rand, pools []pool.Pool) []pool.Pool {
	mixed := append([]pool.Pool(nil), pools...)
	r.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
	return mixed
}

// Every number of every pool, and who owns it, as in a table; and the order of the input is nothing.
func TestSetAsTheModel(t *testing.T) {
	r, rounds := seed.Rand(t), seed.Rounds(60, 3000)
	for range rounds {
		lines, nodePortRange := randomLines(r), randomNodePortRange(r)
		pools := mustPools(lines...)
		table := newModel(pools, nodePortRange)
		s := pool.New(shuffled(r, pools), nodePortRange)
		scene := fmt.Sprintf("%s in %v", strings.Join(lines, "\n"), nodePortRange)
		for _, m := range s.Members() {
			i := table.index(m.Name)
			compareTable(t, scene+"\n"+m.Name+" has", table.has[i], m.Effective)
			compareTable(t, scene+"\n"+m.Name+" gives", table.gives[i], m.Automatic)
		}
		for _, field := range []pool.For{pool.NodePorts, pool.HostPorts} {
			owned := make([]bool, 65536)
			for n := 1; n <= 65535; n++ {
				want := ""
				for i, p := range pools {
					if p.Exclusive && p.For == field && table.has[i][n] {
						if want != "" {
							t.Fatalf("%s\n%d is of %s and of %s", scene, n, want, p.Name)
						}
						want, owned[n] = p.Name, true
					}
				}
				got := ""
				if m, ok := s.OwnerOf(field, uint16(n)); ok {
					got = m.Name
				}
				if got != want {
					t.Fatalf("%s\n%d is of %q, want %q", scene, n, got, want)
				}
			}
			compareTable(t, scene+"\nowned", owned, s.Owned(field))
		}
	}
}

func compareTable(t *testing.T, what string, want []bool, got ports.Ranges) {
	t.Helper()
	var ranges []ports.Range
	for n := 1; n <= 65535; n++ {
		if want[n] {
			ranges = append(ranges, ports.Range{First: uint16(n), Last: uint16(n)})
		}
	}
	if merged := ports.NewRanges(ranges...); merged.String() != got.String() {
		t.Fatalf("%s %s, want %s", what, got, merged)
	}
}

// What comes later takes nothing from an older exclusive pool.
func TestOlderKeeps(t *testing.T) {
	r, rounds := seed.Rand(t), seed.Rounds(500, 50_000)
	for range rounds {
		s := pool.New(mustPools(randomLines(r)...), defaultRange())
		later := mustPool("later " + randomText(r) + " age=99")
		after := s.With(later)
		for _, m := range s.Members() {
			now, _ := after.Named(m.Name)
			if m.Exclusive && now.Effective.String() != m.Effective.String() {
				t.Fatalf("%s had %s, and has %s beside %s %s", m.Name, m.Effective, now.Effective, later.Name, later.Ranges)
			}
		}
	}
}

// Each overlap is told to both, and one of the two has it.
func TestOverlapsHaveTwoSides(t *testing.T) {
	r, rounds := seed.Rand(t), seed.Rounds(500, 50_000)
	for range rounds {
		s := pool.New(mustPools(randomLines(r)...), defaultRange())
		for _, m := range s.Members() {
			for _, o := range m.Overlaps {
				other, _ := s.Named(o.With)
				back := 0
				for _, p := range other.Overlaps {
					if p.With == m.Name && p.Won != o.Won && p.Ports.String() == o.Ports.String() {
						back++
					}
				}
				winner := m
				if !o.Won {
					winner = other
				}
				if back != 1 || !covers(winner.Effective, o.Ports) {
					t.Fatalf("%s\n%s", told(m), told(other))
				}
			}
		}
	}
}

func covers(wide, narrow ports.Ranges) bool {
	return ports.NewRanges(append(append([]ports.Range(nil), wide...), narrow...)...).Size() == wide.Size()
}

// A pool that nobody filled in selects nobody, gives nothing and makes nothing panic.
func TestZeroPool(t *testing.T) {
	s := pool.New([]pool.Pool{{}, {Name: "broken", For: pool.NodePorts, Exclusive: true, Ranges: mustRanges("30000-30009")}}, defaultRange())
	if got := s.Candidates(service("x/web")); len(got) != 0 {
		t.Errorf("%s serves", got[0].Name)
	}
	err := s.Judge(service("x/web"), 30000, nil)
	if want := "30000 belongs to PortPool broken (no namespace); choose a number that belongs to no PortPool"; err == nil || err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
	if err := s.Judge(pool.Requester{}, 0, nil); err != nil {
		t.Error(err)
	}
}
