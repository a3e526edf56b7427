package pool_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
)

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		why  string
		in   []string
		who  string
		port uint16
		book pool.Book
		want string
	}{
		{"of no pool", []string{"a 30000-30009 ns=y"}, "x/web", 30010, nil, ""},
		{"of its own", []string{"a 30000-30009 ns=x"}, "x/web", 30000, nil, ""},
		{"on request only, and that is what it is", []string{"a 30000-30009 ns=x only=30000-30003"}, "x/web", 30000, nil, ""},
		{"of a pool that gives on request only", []string{"a 30000-30009 explicit"}, "x/web", 30000, nil, ""},
		{"of a shared one", []string{"a 30000-30009 ns=y shared"}, "x/web", 30000, nil, ""},
		{"of a shared one that drains", []string{"a 30000-30009 shared draining"}, "x/web", 30000, nil, ""},
		{"of a disabled one", []string{"a 30000-30009 ns=y disabled"}, "x/web", 30000, nil, ""},
		{"of one for host ports", []string{"a 30000-30009 ns=y host"}, "x/web", 30000, nil, ""},
		{"that another pool lost to it", []string{"a 30000-30009 ns=x", "b 30005-30019 ns=y"}, "x/web", 30005, nil, ""},
		{"of others", []string{"team-payments 30100-30199 ns=payments", "everyone 30200-32767 shared"}, "web/shop", 30100, held("30200-30216"),
			"30100 belongs to PortPool team-payments (namespaces team=payments); namespace web may use PortPool everyone 30200-32767, next free 30217"},
		{"of others, though draining", []string{"a 30000-30009 ns=y draining"}, "x/web", 30000, nil,
			"30000 belongs to PortPool a (namespaces team=y); choose a number that belongs to no PortPool"},
		{"of other Services", []string{"a 30000-30009 ns=x svc=edge", "b 30010-30019"}, "x/web", 30000, nil,
			"30000 belongs to PortPool a (namespaces team=x, Services expose=edge); namespace x may use PortPool b 30010-30019"},
		{"the next that has one", []string{"a 30000-30009 ns=y", "b 30010", "c 30011-30012"}, "x/web", 30000, held("30010-30011"),
			"30000 belongs to PortPool a (namespaces team=y); namespace x may use PortPool c 30011-30012, next free 30012"},
		{"one that gives on request", []string{"a 30000-30009 ns=y", "b 30010-30012 explicit only=30010"}, "x/web", 30000, held("30011"),
			"30000 belongs to PortPool a (namespaces team=y); namespace x may use PortPool b 30010-30012, next free 30010"},
		{"not one that drains", []string{"a 30000-30009 ns=y", "b 30010-30019 draining", "c 30020 priority=900"}, "x/web", 30000, held(""),
			"30000 belongs to PortPool a (namespaces team=y); namespace x may use PortPool c 30020, next free 30020"},
		{"all full", []string{"a 30000-30009 ns=y", "b 30010-30019", "c 30020 priority=900"}, "x/web", 30000, held("30010-30020"),
			"30000 belongs to PortPool a (namespaces team=y); PortPool b serves namespace x and has no free number: free one, or widen it"},
		{"many ranges", []string{"a 30000-30009 ns=y", "b 30010,30012,30014-30015,30017,30019"}, "x/web", 30000, held(""),
			"30000 belongs to PortPool a (namespaces team=y); namespace x may use PortPool b 30010,30012,30014-30015 and 2 more ranges, next free 30010"},
		{"one range more than are named", []string{"a 30000-30009 ns=y", "b 30010,30012,30014-30015,30017"}, "x/web", 30000, held(""),
			"30000 belongs to PortPool a (namespaces team=y); namespace x may use PortPool b 30010,30012,30014-30015 and 1 more range, next free 30010"},
		{"draining", []string{"a 30000-30009 draining", "b 30010-30019 lowest"}, "x/web", 30000, held("30010"),
			"30000 belongs to PortPool a, which is draining and gives no new numbers; namespace x may use PortPool b 30010-30019, next free 30011"},
		{"draining, and nothing else", []string{"a 30000-30009 draining"}, "x/web", 30000, nil,
			"30000 belongs to PortPool a, which is draining and gives no new numbers; choose a number that belongs to no PortPool"},
	} {
		got := ""
		if err := mustSet(c.in...).Judge(service(c.who), c.port, c.book); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: got %s\nwant %s", c.why, got, c.want)
		}
	}
}

func TestMayHold(t *testing.T) {
	for line, want := range map[string]bool{"a 30000 ns=y": false, "a 30000 ns=y shared": true, "a 30000 ns=x": true, "a 30000 ns=x svc=edge": false} {
		m, _ := mustSet(line).Named("a")
		if m.MayHold(service("x/web")) != want {
			t.Errorf("%s: not %v", line, want)
		}
	}
}

func TestJudgeErrors(t *testing.T) {
	s := mustSet("a 30000-30009 ns=y deny", "b 30010-30019 draining warn")
	var foreign *pool.ForeignError
	if err := fmt.Errorf("web: %w", s.Judge(service("x/web"), 30000, nil)); !errors.As(err, &foreign) || foreign.Port != 30000 || foreign.Pool.Enforcement != pool.Deny {
		t.Error(err)
	}
	var draining *pool.DrainingError
	if err := fmt.Errorf("web: %w", s.Judge(service("x/web"), 30010, nil)); !errors.As(err, &draining) || draining.Pool.Enforcement != pool.Warn {
		t.Error(err)
	}
}

// Names as long as the API takes them leave room for the field and the code, and the brief form still names pool and way.
func TestErrorsAreShort(t *testing.T) {
	long := func(c string) string { return strings.Repeat(c, 63) }
	ranges := "30000,30002,30004,30006,30008,30010"
	s := mustSet(long("a")+" "+ranges+" ns="+long("y")+" svc="+long("z")+" deny", long("b")+" 30100-30199,30201,30203,30205 deny perNamespace=30000",
		long("c")+" 30300-30400 draining deny", long("d")+" 30500-30600 deny perService=10000", long("e")+" 30700-30800 explicit", long("f")+" 30900-30910 only=30900-30910")
	who := service(long("n") + "/" + long("s"))
	full := uses("30100-30205,30900-30910", "30500-30600", "30103")
	errs := []error{
		s.Judge(who, 30000, nil), s.Judge(who, 30000, held("")), s.Judge(who, 30000, held("30000-30910")), s.Judge(who, 30300, nil),
		s.Judge(who, 30300, held("")), s.Judge(who, 30300, held("30000-30910")), s.Judge(service("x/web"), 30000, nil),
	}
	for _, from := range []string{"", long("a"), long("b"), long("c"), long("d"), long("f"), long("g")} {
		for _, n := range []int{1, 3, 20000} {
			_, err := s.Choose(pool.Request{Requester: who, Wants: wants(n), From: from, Book: full, InNamespace: func(*pool.Member) int { return 29999 }})
			errs = append(errs, err)
		}
	}
	for _, err := range errs {
		if err == nil {
			t.Fatal("no error")
		}
		const room = len("spec.template.spec.containers[10].ports[10].hostPort: ") + len(" (PC0309)")
		if text := err.Error(); len(text) > 256-room || !strings.ContainsAny(text, ";:") || !strings.Contains(text, "PortPool") {
			t.Errorf("%d characters: %s", len(text), text)
		}
	}
}

func TestExceeded(t *testing.T) {
	for _, c := range []struct {
		pool                         string
		inNamespace, inService, more int
		want                         string
	}{
		{"a 30000", 1000, 1000, 1000, ""},
		{"a 30000 perNamespace=3", 2, 2, 1, ""},
		{"a 30000 perNamespace=3", 3, 0, 1, "perNamespace 3, has 3, wants 1"},
		{"a 30000 perNamespace=3", 9, 0, 0, ""}, // it stood so before
		{"a 30000 perService=3", 9, 2, 1, ""},
		{"a 30000 perService=3", 9, 2, 2, "perService 3, has 2, wants 2"},
		{"a 30000 perNamespace=9 perService=3", 9, 2, 2, "perService 3, has 2, wants 2"},
		{"a 30000 perNamespace=9 perService=3", 9, 2, 1, "perNamespace 9, has 9, wants 1"},
	} {
		m, _ := mustSet(c.pool).Named("a")
		got := ""
		if e := m.Exceeded(service("x/web"), c.inNamespace, c.inService, c.more); e != nil {
			got = fmt.Sprintf("%s %d, has %d, wants %d", map[bool]string{true: "perService", false: "perNamespace"}[e.PerService], e.Limit, e.Has, e.More)
		}
		if got != c.want {
			t.Errorf("%s, %d and %d, %d more: %s, want %s", c.pool, c.inNamespace, c.inService, c.more, got, c.want)
		}
	}
}

func place(p pool.Place) string {
	text := map[pool.Standing]string{pool.InPool: "in", pool.Unpooled: "unpooled", pool.OutOfPool: "out of", pool.InForeign: "foreign to"}[p.Standing]
	if p.Pool != nil {
		text += " " + p.Pool.Name
	}
	return text
}

func TestPlace(t *testing.T) {
	for _, c := range []struct {
		why  string
		in   []string
		port uint16
		want string
	}{
		{"no pool", nil, 30000, "unpooled"},
		{"in its own", []string{"a 30000"}, 30000, "in a"},
		{"in its own that drains", []string{"a 30000 draining"}, 30000, "in a"},
		{"in the exclusive one, whatever the priority", []string{"a 30000 priority=900", "b 30000 shared priority=1"}, 30000, "in a"},
		{"in the first of two shared ones", []string{"a 30000 shared", "b 30000 shared priority=1"}, 30000, "in b"},
		{"out of the first", []string{"a 30000", "b 30001 priority=1"}, 30002, "out of b"},
		{"in the second", []string{"a 30000", "b 30001 priority=1"}, 30000, "in a"},
		{"in one of others", []string{"a 30000 ns=y", "b 30001"}, 30000, "foreign to a"},
		{"in a shared one of others", []string{"a 30000 ns=y shared"}, 30000, "unpooled"},
		{"in a shared one of others, with one of its own", []string{"a 30000 ns=y shared", "b 30001"}, 30000, "out of b"},
		{"a disabled one is nothing", []string{"a 30000 disabled"}, 30000, "unpooled"},
		{"one that drains would give it none", []string{"a 30000 draining"}, 30001, "unpooled"},
		{"nor would one that gives on request only", []string{"a 30000 explicit"}, 30001, "unpooled"},
		{"nor is one for host ports", []string{"a 30000 host"}, 30000, "unpooled"},
		{"outside of what is left", []string{"a 29999-30000"}, 29999, "out of a"},
	} {
		if got := place(mustSet(c.in...).Place(service("x/web"), c.port)); got != c.want {
			t.Errorf("%s: got %s, want %s", c.why, got, c.want)
		}
	}
}

// Place agrees with Judge and OwnerOf, and with a table of all numbers.
func TestPlaceAsTheModel(t *testing.T) {
	r, rounds := seed.Rand(t), seed.Rounds(60, 3000)
	for range rounds {
		lines, nodePortRange := randomLines(r), randomNodePortRange(r)
		pools := mustPools(lines...)
		s, table := pool.New(pools, nodePortRange), newModel(pools, nodePortRange)
		for range 50 {
			who, port := randomRequester(r), numbersOf(randomText(r))[0]
			var foreign, inside, giving bool
			for i, p := range pools {
				selects := p.For == who.For && p.Namespaces.Matches(who.NamespaceLabels) && (p.Services == nil || p.Services.Matches(who.Labels))
				foreign = foreign || p.Exclusive && p.For == who.For && table.has[i][port] && !selects
				inside = inside || selects && table.has[i][port]
				giving = giving || selects && p.State == pool.Active && p.Mode == pool.Auto
			}
			want := pool.Unpooled
			switch {
			case foreign:
				want = pool.InForeign
			case inside:
				want = pool.InPool
			case giving:
				want = pool.OutOfPool
			}
			got := s.Place(who, port)
			if got.Standing != want || (got.Pool == nil) != (want == pool.Unpooled) {
				t.Fatalf("%s in %v\n%d of %+v: %s", strings.Join(lines, "\n"), nodePortRange, port, who, place(got))
			}
			_, isForeign := errors.AsType[*pool.ForeignError](s.Judge(who, port, nil))
			if isForeign != foreign {
				t.Fatalf("%s in %v\n%d of %+v: %v", strings.Join(lines, "\n"), nodePortRange, port, who, s.Judge(who, port, nil))
			}
		}
	}
}

func TestDisplaced(t *testing.T) {
	before := []string{"a 30000-30009 ns=x age=1", "b 30010-30019 shared age=2"}
	holdings := []pool.Holding{
		{Requester: service("y/mail"), Port: 30012}, {Requester: service("x/web"), Port: 30009}, {Requester: service("x/api"), Port: 30001},
		{Requester: service("z/old"), Port: 32000}, {Requester: service("y/squatter"), Port: 30002}, {Requester: service("x/both"), Port: 30013},
	}
	for _, c := range []struct {
		why  string
		edit string
		want []string
	}{
		{"nothing changes", "a 30000-30009 ns=x age=1", nil},
		{"a shrinks", "a 30000-30008 ns=x age=1", []string{"30009 of x/web: in a, now out of a"}},
		{"a moves under b", "a 30012-30013 ns=x age=1", []string{"30001 of x/api: in a, now out of a", "30009 of x/web: in a, now out of a", "30012 of y/mail: in b, now foreign to a"}},
		{"a selects others", "a 30000-30009 ns=y age=1", []string{"30001 of x/api: in a, now foreign to a", "30009 of x/web: in a, now foreign to a"}},
		{"a is shared", "a 30000-30009 ns=x age=1 shared", nil},
		{"a drains", "a 30000-30009 ns=x age=1 draining", nil},
		{"a is disabled", "a 30000-30009 ns=x age=1 disabled", []string{"30001 of x/api: in a, now out of b", "30009 of x/web: in a, now out of b"}},
		{"b is disabled", "b 30010-30019 disabled", []string{"30012 of y/mail: in b, now unpooled", "30013 of x/both: in b, now out of a"}},
		{"a new one comes over an old number", "c 32000 ns=y age=3", []string{"32000 of z/old: out of b, now foreign to c"}},
	} {
		old := mustSet(before...)
		var got []string
		for _, d := range old.With(mustPool(c.edit)).Displaced(old, holdings) {
			got = append(got, fmt.Sprintf("%d of %s/%s: %s, now %s", d.Port, d.Namespace, d.Name, place(d.Before), place(d.After)))
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.why, diff)
		}
	}
}

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		pool    string
		book    pool.Book
		want    pool.Usage
		percent int
	}{
		{"a 30100-30199,30900", uses("30100-30136", "30150-30152", "30900"), pool.Usage{Total: 101, Allocated: 37, Available: 60, Quarantined: 1, Foreign: 3, Automatic: 60}, 40},
		{"a 30100-30109 only=30100-30104", uses("30100", "30105-30109", ""), pool.Usage{Total: 10, Allocated: 1, Available: 4, Foreign: 5}, 60},
		{"a 30100-30109", nil, pool.Usage{Total: 10, Available: 10, Automatic: 10}, 0},
		{"a 30000-30199", held("30001-30199"), pool.Usage{Total: 200, Allocated: 199, Available: 1, Automatic: 1}, 99},
		{"a 30000-30199", held("30000-30199"), pool.Usage{Total: 200, Allocated: 200}, 100},
		{"a 80", nil, pool.Usage{}, 0},
	} {
		m, _ := mustSet(c.pool).Named("a")
		got := m.Usage(c.book)
		if diff := cmp.Diff(c.want, got); diff != "" || got.UtilizationPercent() != c.percent {
			t.Errorf("%s: %d%%, want %d%% (-want +got):\n%s", c.pool, got.UtilizationPercent(), c.percent, diff)
		}
	}
}

// Every number is asked about once, and counted once.
func TestUsageCountsEachOnce(t *testing.T) {
	r, rounds := seed.Rand(t), seed.Rounds(300, 30_000)
	for range rounds {
		for _, m := range pool.New(mustPools(randomLines(r)...), ports.Range{}).Members() {
			asked := map[uint16]int{}
			u := m.Usage(func(port uint16) pool.Use { asked[port]++; return pool.Use(port % 4) })
			for port, n := range asked {
				if n != 1 || !m.Effective.Contains(port) {
					t.Fatalf("%s: asked %d times about %d", told(m), n, port)
				}
			}
			if sum := u.Allocated + u.Available + u.Quarantined + u.Foreign; sum != u.Total || u.Total != m.Effective.Size() || len(asked) != u.Total {
				t.Fatalf("%s: %+v, asked about %d", told(m), u, len(asked))
			}
		}
	}
}
