package pool_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
)

// holds is a Service "TEAM/NAME[/VALUE]" that holds ports, or with "host" in front a pod that does.
func holds(text string, list ...uint16) []pool.Holding {
	text, isPod := strings.CutPrefix(text, "host ")
	var all []pool.Holding
	for i, port := range list {
		h := pool.Holding{Requester: service(text), Port: port, Protocol: ports.TCP, Field: fmt.Sprintf("spec.ports[%d].nodePort", i), UID: text}
		if isPod {
			h.For = pool.HostPorts
		}
		all = append(all, h)
	}
	return all
}

func TestCensusBook(t *testing.T) {
	var c pool.Census
	if c.IsInTheWay(30000) || len(c.Holdings()) > 0 || c.Book(mustSet("a 30000 ns=x").Members()[0])(30000) != pool.Free {
		t.Error("an empty Census has something in it")
	}
	c.Add(holds("x/web", 30000)...)
	c.Add(holds("y/web", 30001)...)
	c.Add(holds("host x/pod", 30002)...)
	c.AddClaim(30003, pool.Claim{Pool: "a", IsReleased: true, ServiceUID: "x/web"})
	c.AddClaim(30004, pool.Claim{Pool: "a"})
	c.AddClaim(30005, pool.Claim{Pool: "b"})
	c.Occupy(30006)
	for _, tt := range []struct {
		pool string
		want string // of 30000 to 30007: Allocated, Foreign, Quarantined or free
	}{
		{"a 30000-30007 ns=x", "AFFQAFF."},
		{"a 30000-30007 ns=x host", "FFA...F."}, // claims are of nodePorts
		{"b 30000-30007", "AAFQFAF."},
	} {
		book, got := c.Book(mustSet(tt.pool).Members()[0]), ""
		for port := range uint16(8) {
			got += map[pool.Use]string{pool.Free: ".", pool.Allocated: "A", pool.Foreign: "F", pool.Quarantined: "Q"}[book(30000+port)]
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.pool, got, tt.want)
		}
	}
	for port, want := range map[uint16]bool{30000: false, 30002: true, 30006: true, 30007: false} {
		if got := c.IsInTheWay(port); got != want {
			t.Errorf("IsInTheWay(%d) = %t, want %t", port, got, want)
		}
	}
}

func TestCensusSort(t *testing.T) {
	var c pool.Census
	for _, h := range [][]pool.Holding{holds("y/web", 30001), holds("x/web", 30001), holds("host x/a", 30001), holds("x/b", 30000)} {
		c.Add(h...)
	}
	c.Sort()
	var got []string
	for _, h := range c.Holdings() {
		got = append(got, fmt.Sprint(h.Port, " ", h.Ref()))
	}
	want := []string{"30000 Service x/b", "30001 Pod x/a", "30001 Service x/web", "30001 Service y/web"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if first := c.Holders(pool.NodePorts, 30001)[0].Ref().Namespace; first != "x" {
		t.Errorf("the first holder is of namespace %s, want x", first)
	}
}

func TestOutOfPool(t *testing.T) {
	for _, tt := range []struct {
		why   string
		pools []string
		claim pool.Claim // of 30050, which x/web holds
		want  string     // the pool, and whether it has shrunk
	}{
		{"in its pool", []string{"a 30000-30099 ns=x"}, pool.Claim{}, ""},
		{"no pool", nil, pool.Claim{}, ""},
		{"a pool of others", []string{"a 30000-30049 ns=y"}, pool.Claim{}, ""},
		{"never the pool's", []string{"a 30000-30049 ns=x"}, pool.Claim{}, "a false"},
		{"the pool gave it", []string{"a 30000-30049 ns=x"}, pool.Claim{Pool: "a", ServiceUID: "x/web"}, "a true"},
		{"the pool gave it to another", []string{"a 30000-30049 ns=x"}, pool.Claim{Pool: "a", ServiceUID: "y/web"}, "a false"},
		{"a disabled pool gave it", []string{"a 30000-30049 ns=x disabled", "b 30060 ns=x"}, pool.Claim{Pool: "a", ServiceUID: "x/web"}, "b false"},
		{"a draining pool gave it", []string{"a 30000-30049 ns=x draining"}, pool.Claim{Pool: "a", ServiceUID: "x/web"}, "a true"},
		{"a pool that is gone gave it", []string{"b 30060 ns=x"}, pool.Claim{Pool: "a", ServiceUID: "x/web"}, "b false"},
		{"a pool that selects others now gave it", []string{"a 30000-30049 ns=y", "b 30060 ns=x"}, pool.Claim{Pool: "a", ServiceUID: "x/web"}, "b false"},
		{"in an exclusive pool of others", []string{"a 30050 ns=y", "b 30060 ns=x"}, pool.Claim{}, "b false"},
		{"the pool gives on request only", []string{"a 30050 ns=y", "b 30060 ns=x explicit"}, pool.Claim{}, ""},
	} {
		var c pool.Census
		c.Add(holds("x/web", 30050)...)
		if tt.claim != (pool.Claim{}) {
			c.AddClaim(30050, tt.claim)
		}
		got := ""
		for name, out := range c.OutOfPool(mustSet(tt.pools...)) {
			got += fmt.Sprint(name, " ", out[0].HasShrunk)
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.why, got, tt.want)
		}
	}
}

// TestOutOfPoolAsPlaced: a number is out of pool if it stands in no pool of its holder's, and some pool serves the holder; it
// is so in one pool, and which one does not depend on the order in which the Census was filled.
func TestOutOfPoolAsPlaced(t *testing.T) {
	r := seed.Rand(t)
	outside := 0
	for range seed.Rounds(300, 30_000) {
		lines := randomLines(r)
		s := pool.New(mustPools(lines...), defaultRange())
		var holdings []pool.Holding
		for _, n := range numbersOf(randomText(r)) {
			who := randomRequester(r)
			holdings = append(holdings, pool.Holding{Requester: who, Port: n, Protocol: ports.TCP, UID: who.Name})
		}
		count := func(list []pool.Holding) map[string][]string {
			var c pool.Census
			c.Add(list...)
			c.Sort()
			found := map[string][]string{}
			for name, out := range c.OutOfPool(s) {
				for _, o := range out {
					found[name] = append(found[name], fmt.Sprint(o.Ref(), o.Port, o.HasShrunk))
				}
				slices.Sort(found[name])
			}
			return found
		}
		got := count(holdings)
		backwards := slices.Clone(holdings)
		slices.Reverse(backwards)
		if diff := cmp.Diff(got, count(backwards)); diff != "" {
			t.Fatalf("%q: the order matters (-forwards +backwards):\n%s", lines, diff)
		}
		want := 0
		for _, h := range holdings {
			inItsOwn, served := false, false
			for m := range slices.Values(s.Members()) {
				mine := m.Selects(h.Requester) && m.State != pool.Disabled
				inItsOwn = inItsOwn || mine && m.Effective.Contains(h.Port)
				served = served || mine && m.Mode == pool.Auto && m.State == pool.Active
			}
			if owner, owned := s.OwnerOf(h.For, h.Port); !inItsOwn && served && (!owned || !owner.MayHold(h.Requester)) {
				want++
			}
		}
		n := 0
		for _, out := range slices.Collect(maps.Values(got)) {
			n += len(out)
		}
		if outside += n; n != want {
			t.Fatalf("%q: %d are out of pool, want %d: %v of %+v", lines, n, want, got, holdings)
		}
	}
	if outside < 20 {
		t.Errorf("%d numbers out of pool prove little", outside)
	}
}

func TestSame(t *testing.T) {
	const is = "a 30000-30009 ns=x svc=edge"
	for other, want := range map[string]bool{
		is: true, is + " age=7": true,
		"b 30000-30009 ns=x svc=edge": false, "a 30000-30008 ns=x svc=edge": false, "a 30000-30009 ns=y svc=edge": false, "a 30000-30009 ns=x": false,
		is + " shared": false, is + " draining": false, is + " priority=1": false, is + " deny": false, is + " only=30000": false,
	} {
		if got := mustPool(is).Same(mustPool(other)); got != want {
			t.Errorf("%s and %s are the same: %t", is, other, got)
		}
	}
}

func TestEnforcement(t *testing.T) {
	for _, e := range []pool.Enforcement{pool.Audit, pool.Warn, pool.Deny} {
		if got, err := pool.ParseEnforcement(e.String()); err != nil || got != e {
			t.Errorf("%v is read as %v, %v", e, got, err)
		}
	}
	if _, err := pool.ParseEnforcement("deny"); err == nil {
		t.Error("deny is read")
	}
	if got := pool.Enforcement(0).String(); got != "Enforcement(0)" {
		t.Errorf("the zero Enforcement is %s", got)
	}
}
