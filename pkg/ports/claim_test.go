package ports_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
)

func TestScope(t *testing.T) {
	for _, c := range []struct {
		word, text string
		nodes      []string
		has        string // of a, b, c
		node       string
	}{
		{"?", "a node", nil, "", ""},
		{"b", "b", []string{"b"}, "b", "b"},
		{"{c,a}", "a,c", []string{"a", "c"}, "ac", ""},
		{"{b}", "b", []string{"b"}, "b", ""},
		{"{}", "", nil, "", ""},
		{"every", "every node", nil, "abc", ""},
		{"address", "the node of the address", nil, "", ""},
	} {
		s := mustScope(c.word)
		has := ""
		for _, n := range []string{"a", "b", "c"} {
			if s.Has(n) {
				has += n
			}
		}
		node, one := s.Node()
		if s.String() != c.text || !slices.Equal(s.Nodes(), c.nodes) || has != c.has || node != c.node || one != (c.node != "") {
			t.Errorf("%s: prints %q, nodes %q, has %q, node %q %v; want %+v", c.word, s, s.Nodes(), has, node, one, c)
		}
	}
}

func TestScopeEqual(t *testing.T) {
	words := []string{"?", "a", "b", "{a}", "{a,b}", "{}", "every", "address"}
	for _, x := range words {
		for _, y := range words {
			if got := mustScope(x).Equal(mustScope(y)); got != (x == y) {
				t.Errorf("%s and %s: equal %v", x, y, got)
			}
		}
	}
}

// TestAmong: how many nodes an undecided scope will be, and of which.
func TestAmong(t *testing.T) {
	ab := []string{"a", "b"}
	for _, c := range []struct {
		scope ports.Scope
		pods  int
		nodes []string
	}{
		{ports.AmongScope(2, ab), 2, ab},
		{ports.AmongScope(2, nil), 2, nil},
		{ports.AmongScope(0, ab), 0, ab},
		{ports.AmongScope(-1, nil), 0, nil},
		{ports.AmongScope(math.MaxInt, nil), math.MaxInt32, nil},
		{ports.Scope{}, 0, nil},
		{ports.NodeScope("a"), 0, nil},
		{ports.EachScope(ab), 0, nil},
		{ports.EverywhereScope(), 0, nil},
		{ports.AddressScope(), 0, nil},
	} {
		pods, nodes := c.scope.Among()
		if pods != c.pods || !slices.Equal(nodes, c.nodes) {
			t.Errorf("%s: %d of %q, want %d of %q", c.scope, pods, nodes, c.pods, c.nodes)
		}
		if c.scope.Kind == ports.Undecided && (len(c.scope.Nodes()) > 0 || c.scope.Has("a")) {
			t.Errorf("%d of %q: has %q", c.pods, c.nodes, c.scope.Nodes())
		}
	}
	for _, c := range []struct {
		a, b ports.Scope
		want bool
	}{
		{ports.AmongScope(2, ab), ports.AmongScope(2, []string{"a", "b"}), true},
		{ports.AmongScope(2, ab), ports.AmongScope(1, ab), false},
		{ports.AmongScope(2, ab), ports.AmongScope(2, ab[:1]), false},
		{ports.AmongScope(2, ab), ports.AmongScope(2, nil), false},
		{ports.AmongScope(0, nil), ports.Scope{}, true},
	} {
		if c.a.Equal(c.b) != c.want || c.b.Equal(c.a) != c.want {
			t.Errorf("%v and %v: equal %v, and the other way %v, want %v", c.a, c.b, c.a.Equal(c.b), c.b.Equal(c.a), c.want)
		}
	}
}

func TestEachScopeLeavesItsInputAlone(t *testing.T) {
	given := []string{"c", "a"}
	ports.EachScope(given)
	if diff := cmp.Diff([]string{"c", "a"}, given); diff != "" {
		t.Errorf("the input (-want +got):\n%s", diff)
	}
}

// Plain values that nobody filled in must not make the program panic.
func TestZeroValues(t *testing.T) {
	for _, kind := range []ports.ScopeKind{ports.Undecided, ports.OnNode, ports.OnEach, ports.Everywhere, ports.AtAddress} {
		s := ports.Scope{Kind: kind}
		_, one := s.Node()
		if c := (ports.Claim{Scope: s}); one || len(s.Nodes()) != 0 || s.Has("a") != (kind == ports.Everywhere) || c.String() == "" || c.Compare(c) != 0 {
			t.Errorf("empty scope %d: node %v, nodes %q, claim %q", kind, one, s.Nodes(), c)
		}
	}
	var nobody *ports.Owner
	if nobody.Root() != (ports.Ref{}) || ports.SameController(nobody, nobody) {
		t.Error("nobody is somebody")
	}
}

func TestKind(t *testing.T) {
	for name, k := range kindWords() {
		book := name == "nodePort" || name == "healthCheckNodePort"
		pod := name == "hostPort" || name == "hostNetwork"
		if k.IsNodePortAllocated() != book || k.OfPod() != pod {
			t.Errorf("%s: in the book %v, of a pod %v", k, k.IsNodePortAllocated(), k.OfPod())
		}
	}
	for k, want := range map[ports.Kind]string{
		ports.NodePort: "nodePort", ports.HealthCheckNodePort: "healthCheckNodePort", ports.HostPort: "hostPort",
		ports.HostNetwork: "hostNetwork port", ports.ExternalIP: "external IP port", ports.LoadBalancerIP: "load-balancer IP port",
		ports.ServiceLBPort: "ServiceLB port", 99: "Kind(99)",
	} {
		if got := k.String(); got != want {
			t.Errorf("kind %d: %s, want %s", k, got, want)
		}
	}
}

// TestClaimSame: what makes two claims different, and what does not.
func TestClaimSame(t *testing.T) {
	const line = "hostPort 10.0.0.1 80/TCP @a"
	for _, c := range []struct {
		other string
		want  bool
	}{
		{line, true},
		{"hostPort ::ffff:10.0.0.1 80/TCP @a", true},
		{"hostPort 10.0.0.1 81/TCP @a", false},
		{"hostPort 10.0.0.1 80/UDP @a", false},
		{"hostPort * 80/TCP @a", false},
		{"hostNetwork 10.0.0.1 80/TCP @a", false},
		{"hostPort,init 10.0.0.1 80/TCP @a", false},
		{"hostPort,idle 10.0.0.1 80/TCP @a", false},
		{"hostPort 10.0.0.1 80/TCP @b", false},
		{"hostPort 10.0.0.1 80/TCP @{a}", false},
	} {
		a, b := mustClaim(line), mustClaim(c.other)
		b.Field = "elsewhere"
		if a.Same(b) != c.want || b.Same(a) != c.want {
			t.Errorf("%s and %s: same %v, and the other way %v, want %v", line, c.other, a.Same(b), b.Same(a), c.want)
		}
	}
}

// chain makes an owner of refs, nearest first.
func chain(names ...string) *ports.Owner {
	if len(names) == 0 {
		return nil
	}
	return &ports.Owner{Ref: ports.Ref{Kind: "K", Namespace: "ns", Name: names[0]}, Controller: chain(names[1:]...)}
}

func TestOwnerChain(t *testing.T) {
	o := chain("pod", "replicas", "deployment")
	var names []string
	for ref := range o.Chain() {
		names = append(names, ref.Name)
	}
	if diff := cmp.Diff([]string{"pod", "replicas", "deployment"}, names); diff != "" {
		t.Errorf("chain (-want +got):\n%s", diff)
	}
	for range o.Chain() {
		break // a reader may stop early
	}
	if got := o.Root().Name; got != "deployment" {
		t.Errorf("root: %s", got)
	}
}

func TestSameController(t *testing.T) {
	for _, c := range []struct {
		why  string
		a, b *ports.Owner
		want bool
	}{
		{"itself", chain("a"), chain("a"), true},
		{"a stranger", chain("a"), chain("b"), false},
		{"its controller", chain("pod", "rs"), chain("rs"), true},
		{"its controller's controller", chain("pod", "rs", "deploy"), chain("deploy"), true},
		{"two pods of one controller", chain("pod1", "rs", "deploy"), chain("pod2", "rs", "deploy"), true},
		{"an old and a new pod of a Deployment", chain("pod1", "rs1", "deploy"), chain("pod2", "rs2", "deploy"), true},
		{"two families", chain("pod1", "rs1", "deploy1"), chain("pod2", "rs2", "deploy2"), false},
		{"nobody", chain("a"), nil, false},
	} {
		if ports.SameController(c.a, c.b) != c.want || ports.SameController(c.b, c.a) != c.want {
			t.Errorf("%s: same controller %v, and the other way %v, want %v", c.why, ports.SameController(c.a, c.b), ports.SameController(c.b, c.a), c.want)
		}
	}
	other := chain("a")
	other.APIVersion = "apps/v1"
	if ports.SameController(chain("a"), other) {
		t.Error("one name in two API groups is one object")
	}
}

func TestRefString(t *testing.T) {
	for want, r := range map[string]ports.Ref{
		"Deployment default/tomcat": {APIVersion: "apps/v1", Kind: "Deployment", Namespace: "default", Name: "tomcat"},
		"Node n1":                   {APIVersion: "v1", Kind: "Node", Name: "n1"},
	} {
		if r.String() != want {
			t.Errorf("%#v: %s", r, r)
		}
	}
}

// vary changes one thing about a claim, so that each of them must decide now and then.
func vary(r *rand.Rand, c ports.Claim) ports.Claim {
	other, owner := mustClaim(randomClaim(r)), *c.Owner
	switch c.Owner = &owner; r.IntN(10) {
	case 0:
		c.Port = other.Port
	case 1:
		c.Protocol = other.Protocol
	case 2:
		c.Address = other.Address
	case 3:
		c.Kind = other.Kind
	case 4:
		owner.Name = pick(r, "a", "b")
	case 5:
		owner.Namespace = pick(r, "", "ns")
	case 6:
		owner.Kind = pick(r, "Pod", "Service")
	case 7:
		owner.APIVersion = pick(r, "v1", "apps/v1")
	case 8:
		c.Field = pick(r, "spec", "spec.a", "spec.b")
	case 9:
		c.Scope = other.Scope
	}
	return c
}

// Compare is a total order: one answer whatever the order of asking, and equal only where it says so.
func TestCompareIsATotalOrder(t *testing.T) {
	r, rounds := seed.Rand(t), seed.Rounds(5_000, 200_000)
	sign := func(n int) int { return max(-1, min(1, n)) }
	for range rounds {
		a := vary(r, mustClaim(randomClaim(r)))
		b := vary(r, a)
		c := vary(r, pick(r, a, b))
		if a.Compare(a) != 0 || sign(a.Compare(b)) != -sign(b.Compare(a)) {
			t.Fatalf("%v\n%v\ncompare %d and %d", a, b, a.Compare(b), b.Compare(a))
		}
		if a.Compare(b) <= 0 && b.Compare(c) <= 0 && a.Compare(c) > 0 {
			t.Fatalf("%v\n%v\n%v\nnot transitive", a, b, c)
		}
		same := a.Socket == b.Socket && a.Kind == b.Kind && a.Owner.Ref == b.Owner.Ref && a.Field == b.Field && a.Scope.Equal(b.Scope)
		if (a.Compare(b) == 0) != same {
			t.Fatalf("%v\n%v\ncompare %d, equal %v", a, b, a.Compare(b), same)
		}
	}
}

func TestSocketCompare(t *testing.T) {
	want := []string{"*:80/TCP", "0.0.0.0:80/TCP", "10.0.0.1:80/TCP", "[::]:80/TCP", "*:80/UDP", "*:443/TCP"}
	sockets := make([]ports.Socket, len(want))
	for i, s := range want {
		sockets[len(want)-1-i] = ports.MustParseSocket(s)
	}
	slices.SortFunc(sockets, ports.Socket.Compare)
	var got []string
	for _, s := range sockets {
		got = append(got, s.String())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sorted (-want +got):\n%s", diff)
	}
}
