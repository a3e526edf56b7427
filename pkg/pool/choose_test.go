package pool_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
)

func TestChoose(t *testing.T) {
	inX := func(n int) func(*pool.Member) int { return func(*pool.Member) int { return n } }
	for _, c := range []struct {
		why  string
		in   []string
		r    pool.Request
		want string // the pool and its numbers, or the error
	}{
		{"the first by priority", []string{"a 30000", "b 30001 priority=1"}, pool.Request{Wants: wants(1)}, "b 30001"},
		{"with a selector for Services", []string{"a 30000", "b 30001 svc=edge"}, pool.Request{Requester: service("x/web/edge"), Wants: wants(1)}, "b 30001"},
		{"which must match", []string{"a 30000", "b 30001 svc=edge"}, pool.Request{Wants: wants(1)}, "a 30000"},
		{"the older", []string{"a 30000 age=2", "b 30001 age=1"}, pool.Request{Wants: wants(1)}, "b 30001"},
		{"by name", []string{"b 30001", "a 30000"}, pool.Request{Wants: wants(1)}, "a 30000"},
		{"of its namespace", []string{"a 30000 ns=y", "b 30001 ns=x"}, pool.Request{Wants: wants(1)}, "b 30001"},
		{"neither draining nor disabled nor by request only nor for host ports", []string{"a 30000 draining", "b 30001 disabled", "c 30002 explicit", "d 30003 host", "e 30004"}, pool.Request{Wants: wants(1)}, "e 30004"},
		{"all from the next where the first has too few", []string{"a 30000", "b 30001-30002 lowest"}, pool.Request{Wants: wants(2)}, "b 30001 30002"},
		{"the next where the first is held", []string{"a 30000-30003", "b 30004"}, pool.Request{Wants: wants(1), Book: held("30000-30003")}, "b 30004"},
		{"not what is quarantined or foreign", []string{"a 30000-30003"}, pool.Request{Wants: wants(1), Book: uses("30000", "30001", "30002")}, "a 30003"},
		{"not what is for those who ask", []string{"a 30000-30003 only=30000-30002"}, pool.Request{Wants: wants(1)}, "a 30003"},
		{"not what it has", []string{"a 30000-30001"}, pool.Request{Wants: wants(1), Has: []uint16{30001}}, "a 30000"},
		{"where its number is", []string{"a 30000-30001", "b 30002-30004 lowest"}, pool.Request{Wants: wants(1), Has: []uint16{30002}}, "b 30003"},
		{"though its number is on request only", []string{"a 30000-30001", "b 30002-30004 only=30002-30003"}, pool.Request{Wants: wants(1), Has: []uint16{30002}}, "b 30004"},
		{"unless that has too few", []string{"a 30000-30001 lowest", "b 30002-30003"}, pool.Request{Wants: wants(2), Has: []uint16{30002}}, "a 30000 30001"},
		{"its number in no pool decides nothing", []string{"a 30000", "b 30002"}, pool.Request{Wants: wants(1), Has: []uint16{32000}}, "a 30000"},
		{"its number in a pool of others decides nothing", []string{"a 30000", "b 30002 ns=y"}, pool.Request{Wants: wants(1), Has: []uint16{30002}}, "a 30000"},
		{"lowest free", []string{"a 30000-30009 lowest"}, pool.Request{Wants: wants(3), Book: held("30000,30002")}, "a 30001 30003 30004"},
		{"from one pool", []string{"a 30000", "b 30001"}, pool.Request{Wants: wants(1), From: "b"}, "b 30001"},
		{"of no limit", []string{"a 30000-30009 deny lowest perNamespace=3 perService=2"}, pool.Request{Wants: wants(2), InNamespace: inX(1)}, "a 30000 30001"},
		{"the next where the limit of a namespace is reached", []string{"a 30000-30009 deny perNamespace=3", "b 30010 priority=900"}, pool.Request{Wants: wants(1), InNamespace: inX(3)}, "b 30010"},
		{"what it has itself counts, once", []string{"a 30000-30009 deny lowest perNamespace=3", "b 30010 priority=900"}, pool.Request{Wants: wants(1), Has: []uint16{30001, 30001}, InNamespace: inX(1)}, "a 30000"},
		{"to the last", []string{"a 30000-30009 deny perNamespace=3", "b 30010 priority=900"}, pool.Request{Wants: wants(1), Has: []uint16{30001}, InNamespace: inX(2)}, "b 30010"},
		{"what it has elsewhere does not", []string{"a 30000 deny perService=1"}, pool.Request{Wants: wants(1), Has: []uint16{30001}}, "a 30000"},
		{"the next where the limit of a Service is reached", []string{"a 30000-30009 deny perService=1", "b 30010-30011 priority=900 lowest"}, pool.Request{Wants: wants(2)}, "b 30010 30011"},
		{"a limit that is audited lets pass", []string{"a 30000 perNamespace=3", "b 30010 priority=900"}, pool.Request{Wants: wants(1), InNamespace: inX(3)},
			"a 30000, over: PortPool a gives namespace x at most 3 numbers (limits.perNamespace), which has 3 and wants 1 more; free some, or have the limit raised"},
		{"no pool", nil, pool.Request{Wants: wants(1)}, "no PortPool gives namespace x node ports; have one select it, or choose the number yourself"},
		{"none that selects", []string{"a 30000 ns=y"}, pool.Request{Wants: wants(1)}, "no PortPool gives namespace x node ports; have one select it, or choose the number yourself"},
		{"not the one that is named", []string{"a 30000", "b 30001 ns=y"}, pool.Request{Wants: wants(1), From: "b"},
			"PortPool b gives namespace x no node ports: it must exist for them, select the namespace, be Active, and its mode Auto; name another, or the number"},
		{"full", []string{"a 30000-30009"}, pool.Request{Wants: wants(1), Book: uses("30000-30005", "30006-30007", "30008-30009")},
			"PortPool a has 0 of 1 wanted number: of 10 in 30000-30009, 8 are held, 2 quarantined; free some, or widen the pool"},
		{"one of three", []string{"a 30000-30009"}, pool.Request{Wants: wants(3), Book: held("30000-30008")},
			"PortPool a has 1 of 3 wanted numbers: of 10 in 30000-30009, 9 are held; free some, or widen the pool"},
		{"on request only", []string{"a 30000-30009 only=30000-30010"}, pool.Request{Wants: wants(1)},
			"PortPool a gives 30000-30009 only on request; ask for one of these numbers, or widen the pool"},
		{"outside altogether", []string{"a 80-90"}, pool.Request{Wants: wants(1)},
			"PortPool a has no number at all: other pools, or the node port range, leave it none; give it other ranges"},
		{"at its limit", []string{"a 30000-30009 deny perService=2"}, pool.Request{Wants: wants(2), Has: []uint16{30000}},
			"PortPool a gives a Service at most 2 numbers (limits.perService), which has 1 and wants 2 more; free some, or have the limit raised"},
		{"none of several", []string{"a 30000-30009", "b 30010-30019 deny perNamespace=4", "c 30020"}, pool.Request{Wants: wants(2), Book: held("30000-30008"), InNamespace: inX(4)},
			"no PortPool has 2 numbers for namespace x: a has 1 of 10 free, b is at its limit of 4, c has 1 of 1 free; free some, or widen a pool"},
	} {
		if c.r.For == "" {
			c.r.Requester = service("x/web")
		}
		got, err := mustSet(c.in...).Choose(c.r)
		said := ""
		if err != nil {
			said = err.Error()
		} else {
			said = got.Pool.Name
			for _, n := range got.Numbers {
				said += " " + strconv.Itoa(int(n))
			}
			if got.Over != nil {
				said += ", over: " + got.Over.Error()
			}
		}
		if said != c.want {
			t.Errorf("%s: got %s\nwant %s", c.why, said, c.want)
		}
	}
}

func TestChooseErrors(t *testing.T) {
	var none *pool.NoPoolError
	if _, err := mustSet().Choose(pool.Request{Requester: service("x/web"), Wants: wants(1)}); !errors.As(err, &none) {
		t.Errorf("%v is no *NoPoolError", err)
	}
	for want, lines := range map[pool.Enforcement][]string{
		pool.Audit: {"a 30000", "b 30001"},
		pool.Warn:  {"a 30000 warn", "b 30001"},
		pool.Deny:  {"a 30000 warn", "b 30001 deny perService=1", "c 30002"},
	} {
		var exhausted *pool.ExhaustedError
		_, err := mustSet(lines...).Choose(pool.Request{Requester: service("x/web"), Wants: wants(2), Book: held("30000-30005")})
		if !errors.As(err, &exhausted) || exhausted.Enforcement() != want || exhausted.Wanted != 2 || len(exhausted.Tried) != len(lines) {
			t.Errorf("%v: %+v, want %s", lines, exhausted, want)
		}
	}
}

// host ports are given by name of the pool, or by whichever serves.
func TestChooseHostPorts(t *testing.T) {
	s := mustSet("a 9000-9009 host", "b 80 host priority=900", "c 30000")
	pod := service("x/web")
	pod.For = pool.HostPorts
	for from, want := range map[string]uint16{"": 9004, "b": 80} {
		got, err := s.Choose(pool.Request{Requester: pod, Wants: []string{"http"}, From: from, Book: held("9000-9003,9005-9009")})
		if err != nil || len(got.Numbers) != 1 || got.Numbers[0] != want {
			t.Errorf("from %q: %v, %v, want %d", from, got.Numbers, err, want)
		}
	}
	if _, err := s.Choose(pool.Request{Requester: pod, Wants: []string{"http"}, From: "c"}); err == nil || !strings.Contains(err.Error(), "no host ports") {
		t.Errorf("from a pool of node ports: %v", err)
	}
}

func numbersOf(text string) []uint16 {
	var numbers []uint16
	for _, r := range mustRanges(text) {
		for i := range r.Size() {
			numbers = append(numbers, r.First+uint16(i))
		}
	}
	return numbers
}

// A pool with a short range before a long one is not crowded at its start.
func TestHashedSpreads(t *testing.T) {
	s := mustSet("a 30000-30003,30100-30195 priority=1")
	tenths, short := map[int]int{}, 0
	for i := range 2000 {
		choice, err := s.Choose(pool.Request{Requester: service(fmt.Sprintf("x/web-%d", i)), Wants: wants(1)})
		if err != nil {
			t.Fatal(err)
		}
		if n := int(choice.Numbers[0]); n < 30004 {
			short++
		} else {
			tenths[(n-30100)*10/96]++
		}
	}
	if short < 40 || short > 160 { // 4 of 100 numbers, 80 of 2000
		t.Errorf("%d of 2000 start in the 4 numbers of the first range", short)
	}
	for i := range 10 {
		if tenths[i] < 130 || tenths[i] > 260 {
			t.Errorf("tenth %d of the second range is the start of %d of 2000", i, tenths[i])
		}
	}
}

// Random begins where the caller says, and Hashed does not care.
func TestRandomFollowsTheCaller(t *testing.T) {
	for line, moves := range map[string]bool{"a 30000-30999 random": true, "a 30000-30999": false} {
		seen := map[uint16]bool{}
		for i := range 50 {
			choice, err := mustSet(line).Choose(pool.Request{Requester: service("x/web"), Wants: wants(1), Random: strconv.Itoa(i)})
			if err != nil {
				t.Fatal(err)
			}
			seen[choice.Numbers[0]] = true
		}
		if moves != (len(seen) > 1) {
			t.Errorf("%s: %d different numbers", line, len(seen))
		}
	}
}

// candidates are the pools that may give r numbers, in order, found by comparing each with each.
func (m *model) candidates(r pool.Request) []int {
	var serving []int
	for i, p := range m.pools {
		matches := p.For == r.For && p.Namespaces.Matches(r.NamespaceLabels) && (p.Services == nil || p.Services.Matches(r.Labels))
		if matches && p.State == pool.Active && p.Mode == pool.Auto {
			serving = append(serving, i)
		}
	}
	holds := func(i int) bool {
		return slices.ContainsFunc(r.Has, func(n uint16) bool { return m.has[i][n] })
	}
	before := func(i, j int) bool {
		p, q := m.pools[i], m.pools[j]
		switch {
		case holds(i) != holds(j):
			return holds(i)
		case p.Priority != q.Priority:
			return p.Priority < q.Priority
		case (p.Services == nil) != (q.Services == nil):
			return p.Services != nil
		case !p.Created.Equal(q.Created):
			return p.Created.Before(q.Created)
		default:
			return p.Name < q.Name
		}
	}
	for i := range serving {
		for j := i + 1; j < len(serving); j++ {
			if before(serving[j], serving[i]) {
				serving[i], serving[j] = serving[j], serving[i]
			}
		}
	}
	return serving
}

// chosen is the pool that must serve r and the numbers that it may give, lowest first, or -1.
func (m *model) chosen(r pool.Request) (int, []uint16) {
	for _, i := range m.candidates(r) {
		own := map[uint16]bool{}
		for _, n := range r.Has {
			if m.has[i][n] {
				own[n] = true
			}
		}
		p, n := m.pools[i], len(r.Wants)
		tooMany := p.PerService > 0 && len(own)+n > p.PerService || p.PerNamespace > 0 && 1+len(own)+n > p.PerNamespace
		if tooMany && n > 0 && p.Enforcement == pool.Deny {
			continue
		}
		var free []uint16
		for n := 1; n <= 65535; n++ {
			if m.gives[i][n] && r.Book(uint16(n)) == pool.Free && !slices.Contains(r.Has, uint16(n)) {
				free = append(free, uint16(n))
			}
		}
		if len(free) >= n {
			return i, free
		}
	}
	return -1, nil
}

func randomRequest(r *rand.Rand, nodePorts bool) pool.Request {
	taken := mustRanges(randomText(r) + "," + randomText(r))
	q := pool.Request{
		Requester: randomRequester(r), Wants: wants(r.IntN(5)), Random: strconv.Itoa(r.IntN(3)), InNamespace: func(*pool.Member) int { return 1 },
		Book: func(port uint16) pool.Use {
			if taken.Contains(port) {
				return []pool.Use{pool.Allocated, pool.Foreign, pool.Quarantined}[port%3]
			}
			return pool.Free
		},
	}
	for range r.IntN(3) {
		q.Has = append(q.Has, numbersOf(randomText(r))[0])
	}
	if nodePorts {
		q.For = pool.NodePorts
	}
	return q
}

// The pool is the one that a table of all numbers says, the numbers are its own, free, different and not on request only;
// the order of the pools, and asking again, change nothing.
func TestChooseAsTheModel(t *testing.T) {
	r, rounds := seed.Rand(t), seed.Rounds(60, 3000)
	served := 0
	for range rounds {
		lines, nodePortRange := randomLines(r), randomNodePortRange(r)
		pools := mustPools(lines...)
		table := newModel(pools, nodePortRange)
		one, other := pool.New(pools, nodePortRange), pool.New(shuffled(r, pools), nodePortRange)
		for range 10 {
			q := randomRequest(r, false)
			i, free := table.chosen(q)
			got, err := one.Choose(q)
			scene := fmt.Sprintf("%s in %v\n%+v", strings.Join(lines, "\n"), nodePortRange, q)
			if (err != nil) != (i < 0) {
				t.Fatalf("%s\n%v, %v, want pool %d", scene, got.Numbers, err, i)
			}
			again, errAgain := other.Choose(q)
			if diff := cmp.Diff(text(got, err), text(again, errAgain)); diff != "" {
				t.Fatalf("%s\nin another order (-one +other):\n%s", scene, diff)
			}
			if err != nil {
				continue
			}
			served++
			if got.Pool.Name != pools[i].Name || len(got.Numbers) != len(q.Wants) {
				t.Fatalf("%s\n%s %d, want %s", scene, got.Pool.Name, got.Numbers, pools[i].Name)
			}
			if pools[i].Strategy == pool.LowestFree && !slices.Equal(got.Numbers, free[:len(q.Wants)]) {
				t.Fatalf("%s\n%d, want the lowest of %d", scene, got.Numbers, free)
			}
			for k, n := range got.Numbers {
				if !slices.Contains(free, n) || slices.Contains(got.Numbers[:k], n) {
					t.Fatalf("%s\n%d, want different ones of %d", scene, got.Numbers, free)
				}
			}
		}
	}
	if served < rounds {
		t.Errorf("only %d requests in %d rounds were served: nothing much was compared", served, rounds)
	}
}

func text(c pool.Choice, err error) string {
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(c.Pool.Name, c.Numbers, c.Over)
}

// What Hashed promises: whoever comes in whichever order, the same numbers are taken; who would have a number alone gets
// it where it is free; and without such clashes everybody has the same number every time.
func TestHashedWhateverTheOrder(t *testing.T) {
	r, rounds := seed.Rand(t), seed.Rounds(300, 20_000)
	calm := 0
	for range rounds {
		lines := []string{"a " + randomText(r) + " age=1", "b " + randomText(r) + " age=2 only=" + randomText(r)}
		s := pool.New(mustPools(lines...), ports.Range{})
		b, _ := s.Named("b")
		var services []pool.Requester
		for i := range min(b.Automatic.Size(), 1+r.IntN(8)) {
			services = append(services, service(fmt.Sprintf("x/s%d", i+r.IntN(1000)*10)))
		}
		alone, starts := map[string]uint16{}, map[uint16]bool{}
		for _, who := range services {
			n := give(t, s, who, nil)
			alone[who.Name], starts[n] = n, true
		}
		first := arrive(t, s, services, alone)
		r.Shuffle(len(services), func(i, j int) { services[i], services[j] = services[j], services[i] })
		second := arrive(t, s, services, alone)
		if diff := cmp.Diff(values(first), values(second)); diff != "" {
			t.Fatalf("%s\n%v: the numbers that are taken (-one order +another):\n%s", lines, services, diff)
		}
		if len(starts) < len(services) {
			continue
		}
		calm++
		if diff := cmp.Diff(alone, first); diff != "" || !cmp.Equal(first, second) {
			t.Fatalf("%s: who has which (-alone +together):\n%s", lines, diff)
		}
	}
	if calm == 0 || calm == rounds {
		t.Errorf("%d of %d rounds were without a clash", calm, rounds)
	}
}

// arrive gives each its number, one after the other.
func arrive(t *testing.T, s *pool.Set, services []pool.Requester, alone map[string]uint16) map[string]uint16 {
	t.Helper()
	has, taken := map[string]uint16{}, map[uint16]bool{}
	for _, who := range services {
		n := give(t, s, who, taken)
		if !taken[alone[who.Name]] && n != alone[who.Name] {
			t.Fatalf("%s/%s would have %d alone, which is free, and gets %d", who.Namespace, who.Name, alone[who.Name], n)
		}
		if taken[n] {
			t.Fatalf("%d is given twice", n)
		}
		has[who.Name], taken[n] = n, true
	}
	return has
}

func give(t *testing.T, s *pool.Set, who pool.Requester, taken map[uint16]bool) uint16 {
	t.Helper()
	c, err := s.Choose(pool.Request{Requester: who, Wants: wants(1), From: "b", Book: func(n uint16) pool.Use {
		if taken[n] {
			return pool.Allocated
		}
		return pool.Free
	}})
	if err != nil {
		t.Fatal(err)
	}
	return c.Numbers[0]
}

func values(m map[string]uint16) []uint16 {
	var all []uint16
	for _, n := range m {
		all = append(all, n)
	}
	slices.Sort(all)
	return all
}

// Numbers are asked for no more than needed: one search of a full pool, and few questions where one is free.
func TestChooseAsksLittle(t *testing.T) {
	asked := 0
	s := mustSet("a 30000-30999")
	book := func(full bool) pool.Book {
		return func(port uint16) pool.Use {
			asked++
			if full || port%2 == 0 {
				return pool.Allocated
			}
			return pool.Free
		}
	}
	if _, err := s.Choose(pool.Request{Requester: service("x/web"), Wants: wants(3), Book: book(false)}); err != nil || asked > 6+3 {
		t.Errorf("asked %d times: %v", asked, err)
	}
	asked = 0
	if _, err := s.Choose(pool.Request{Requester: service("x/web"), Wants: wants(3), Book: book(true)}); err == nil || asked != 2000 { // to search and to count
		t.Errorf("asked %d times of a full pool: %v", asked, err)
	}
}
