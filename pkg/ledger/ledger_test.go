package ledger

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
)

// model is the ledger as a list: every method looks at every claim.
type model struct {
	owners map[ports.Ref]ports.Owner
	claims map[ports.Ref][]ports.Claim
	nodes  map[string][]netip.Addr
}

func newModel() *model {
	return &model{map[ports.Ref]ports.Owner{}, map[ports.Ref][]ports.Claim{}, map[string][]netip.Addr{}}
}

func (m *model) NodeOf(addr netip.Addr) (string, bool, bool) {
	for _, name := range slices.Sorted(keys(m.nodes)) {
		for i, a := range m.nodes[name] {
			if a != addr {
				continue
			}
			primary := !slices.ContainsFunc(m.nodes[name][:i], func(b netip.Addr) bool { return b.Is4() == a.Is4() })
			return name, primary, true
		}
	}
	return "", false, false
}

func keys[K comparable, V any](m map[K]V) func(func(K) bool) {
	return func(yield func(K) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// chain follows controllers through what each owner said of itself.
func (m *model) chain(owner *ports.Owner) []ports.Ref {
	var refs []ports.Ref
	for owner != nil && !slices.Contains(refs, owner.Ref) {
		next := owner.Controller
		// What is said of an asking owner is the newest; of its controllers the ledger's word is.
		if known, ok := m.owners[owner.Ref]; (next == nil || len(refs) > 0) && ok && known.Controller != nil {
			next = known.Controller
		}
		refs = append(refs, owner.Ref)
		owner = next
	}
	return refs
}

func (m *model) conflicts(wanted ports.Claim) []string {
	var found []string
	for ref, claims := range m.claims {
		owner := m.owners[ref]
		same := slices.ContainsFunc(m.chain(wanted.Owner), func(r ports.Ref) bool { return slices.Contains(m.chain(&owner), r) })
		for _, c := range claims {
			c.Owner = &owner
			if conflict, ok := ports.Meet(wanted, c, m); ok && !same {
				found = append(found, fmt.Sprint(c, c.Field, conflict.Nodes))
			}
		}
	}
	slices.Sort(found)
	return found
}

func (m *model) isNodePort(port uint16) bool {
	for _, claims := range m.claims {
		if slices.ContainsFunc(claims, func(c ports.Claim) bool { return c.Port == port && c.Kind.IsNodePortAllocated() }) {
			return true
		}
	}
	return false
}

func (m *model) serviceAt(addr netip.Addr, but ports.Ref) (ports.Ref, bool) {
	for ref, owner := range m.owners {
		if ref != but && slices.Contains(owner.ClusterIPs, addr) {
			return ref, true
		}
	}
	return ports.Ref{}, false
}

func spoken(conflicts []ports.Conflict) []string {
	var found []string
	for _, c := range conflicts {
		found = append(found, fmt.Sprint(c.Held, c.Held.Field, c.Nodes))
	}
	slices.Sort(found)
	return found
}

// world draws owners and claims from few values, so that they meet often.
type world struct{ *rand.Rand }

func (w world) node() string { return fmt.Sprintf("n%d", w.IntN(3)) }

func (w world) ref() ports.Ref {
	kind := []string{"Pod", "Pod", "ReplicaSet", "Deployment", "Service"}[w.IntN(5)]
	return ports.Ref{APIVersion: "v1", Kind: kind, Namespace: "default", Name: fmt.Sprintf("x%d", w.IntN(6))}
}

func (w world) owner() ports.Owner {
	o := ports.Owner{Ref: w.ref()}
	if w.IntN(2) == 0 {
		controller := w.ref()
		o.Controller = &ports.Owner{Ref: controller}
	}
	if o.Kind == "Service" && w.IntN(3) > 0 { // no two Services have one address
		o.ClusterIPs = []netip.Addr{clusterIPOf(o.Name), netip.MustParseAddr("fd00:96::" + o.Name[1:])}[:1+w.IntN(2)]
	}
	return o
}

func clusterIPOf(name string) netip.Addr { return netip.MustParseAddr("10.96.0." + name[1:]) }

func (w world) address() ports.Address {
	a, err := ports.ParseAddress([]string{"", "", "0.0.0.0", "::", "10.0.0.1", "10.0.0.2", "fd00::1", "127.0.0.1"}[w.IntN(8)])
	if err != nil {
		panic(err)
	}
	if w.IntN(4) == 0 {
		a = a.WithoutLoopback()
	}
	return a
}

func (w world) scope(a ports.Address) ports.Scope {
	switch w.IntN(5) {
	case 0:
		return ports.EverywhereScope()
	case 1:
		return ports.EachScope([]string{"n0", w.node()})
	case 2:
		return ports.Scope{}
	case 3:
		if _, ok := a.Single(); ok {
			return ports.AddressScope()
		}
	}
	return ports.NodeScope(w.node())
}

func (w world) claim() ports.Claim {
	kinds := []ports.Kind{ports.NodePort, ports.HealthCheckNodePort, ports.HostPort, ports.HostNetwork, ports.ExternalIP}
	a, kind := w.address(), kinds[w.IntN(len(kinds))]
	scope := w.scope(a)
	if kind.IsNodePortAllocated() {
		scope = ports.EverywhereScope()
	}
	return ports.Claim{
		Socket: ports.Socket{Address: a, Protocol: ports.Protocols()[w.IntN(2)], Port: uint16(80 + w.IntN(3))},
		Kind:   kind, Scope: scope, InitOnly: w.IntN(8) == 0, Idle: w.IntN(8) == 0,
		Field: fmt.Sprintf("spec.ports[%d]", w.IntN(3)),
	}
}

func (w world) claims() []ports.Claim {
	list := make([]ports.Claim, w.IntN(4))
	for i := range list {
		list[i] = w.claim()
	}
	return list
}

func TestLedgerAgreesWithAList(t *testing.T) {
	w := world{seed.Rand(t)}
	l, m := &Ledger{}, newModel()
	var log []string
	for step := range seed.Rounds(4000, 200000) {
		switch w.IntN(8) {
		case 0:
			ref := w.ref()
			log = append(log, fmt.Sprintf("release %v", ref))
			l.Release(ref)
			delete(m.owners, ref)
			delete(m.claims, ref)
		case 1:
			node := w.node()
			// No two nodes share an address here: then the last that said so has it.
			addrs := []netip.Addr{netip.MustParseAddr("10.0.0." + node[1:]), netip.MustParseAddr("fd00::" + node[1:])}
			if w.IntN(3) == 0 {
				l.ReleaseNode(node)
				delete(m.nodes, node)
				continue
			}
			l.ReplaceNode(node, addrs)
			m.nodes[node] = addrs
		default:
			owner, claims := w.owner(), w.claims()
			log = append(log, fmt.Sprintf("replace %v, %d claims", owner.Ref, len(claims)))
			l.Replace(owner, claims)
			m.owners[owner.Ref], m.claims[owner.Ref] = owner, claims
		}
		wanted := w.claim()
		asking := w.owner()
		wanted.Owner = &asking
		got, want := spoken(l.Snapshot().Conflicts(wanted)), m.conflicts(wanted)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("step %d, conflicts of %v (-model +ledger):\n%s\nlast steps:\n%s", step, wanted, diff,
				strings.Join(log[max(0, len(log)-20):], "\n"))
		}
		if got, want := l.Snapshot().IsNodePort(wanted.Port), m.isNodePort(wanted.Port); got != want {
			t.Fatalf("step %d: IsNodePort(%d) = %v, want %v", step, wanted.Port, got, want)
		}
		addr, but := clusterIPOf(w.ref().Name), w.ref()
		at, is := l.Snapshot().ServiceAt(addr, but)
		if want, known := m.serviceAt(addr, but); is != known || is && at.Ref != want {
			t.Fatalf("step %d: at %v is %v %v, want %v %v", step, addr, at, is, want, known)
		}
		ref := w.ref()
		held := slices.Collect(l.Snapshot().ClaimsOf(ref))
		if !slices.EqualFunc(held, m.claims[ref], func(h *ports.Claim, c ports.Claim) bool { return h.Same(c) && h.Field == c.Field && h.Owner.Ref == ref }) {
			t.Fatalf("step %d: %v has the claims %v, want %v", step, ref, held, m.claims[ref])
		}
		owners, claims, nodes := l.Snapshot().Size()
		total := 0
		for _, c := range m.claims {
			total += len(c)
		}
		if owners != len(m.owners) || claims != total || nodes != len(m.nodes) {
			t.Fatalf("step %d: sizes %d %d %d, want %d %d %d", step, owners, claims, nodes, len(m.owners), total, len(m.nodes))
		}
	}
	for ref := range m.owners {
		l.Release(ref)
	}
	for node := range m.nodes {
		l.ReleaseNode(node)
	}
	s := l.Snapshot()
	if owners, claims, nodes := s.Size(); owners+claims+nodes+s.numbers.size+s.addresses.size+s.clusterIPs.size != 0 {
		t.Errorf("left over: %+v", s)
	}
}

// TestOverOnlyAdds holds a snapshot on top of another to a ledger in which each owner has the claims of both.
func TestOverOnlyAdds(t *testing.T) {
	w := world{seed.Rand(t)}
	for range seed.Rounds(300, 15000) {
		base, top, both := &Ledger{}, &Ledger{}, &Ledger{}
		for range 8 {
			o, c := w.owner(), w.claims()
			base.Replace(o, c)
			both.Replace(o, c)
		}
		for range 4 {
			o, c := w.owner(), w.claims()
			stored, held, ok := base.Snapshot().Owner(o.Ref)
			if ok {
				o = *stored
			}
			top.Replace(o, c)
			if ok {
				c = slices.DeleteFunc(c, func(c ports.Claim) bool {
					return slices.ContainsFunc(held, func(h ports.Claim) bool { return c.Same(h) })
				})
				c = append(slices.Clone(held), c...)
			}
			both.Replace(o, c)
		}
		base.ReplaceNode("n1", []netip.Addr{netip.MustParseAddr("10.0.0.1")})
		both.ReplaceNode("n1", []netip.Addr{netip.MustParseAddr("10.0.0.1")})
		over := top.Snapshot().Over(base.Snapshot())
		for range 20 {
			wanted, asking := w.claim(), w.owner()
			wanted.Owner = &asking
			if diff := cmp.Diff(spoken(both.Snapshot().Conflicts(wanted)), spoken(over.Conflicts(wanted))); diff != "" {
				t.Fatalf("conflicts of %v (-one ledger +two layers):\n%s", wanted, diff)
			}
			if diff := cmp.Diff(fmt.Sprint(both.Snapshot().Holders(wanted.Socket)), fmt.Sprint(over.Holders(wanted.Socket))); diff != "" {
				t.Fatalf("holders of %v (-one ledger +two layers):\n%s", wanted.Socket, diff)
			}
		}
		if diff := cmp.Diff(fmt.Sprint(both.Snapshot().Claims()), fmt.Sprint(over.Claims())); diff != "" {
			t.Fatalf("claims (-one ledger +two layers):\n%s", diff)
		}
		for range 4 {
			o := w.owner()
			for _, s := range []*Snapshot{both.Snapshot(), over} {
				if claims := s.Without(o.Ref).With(o, nil).ClaimsOf(o.Ref); s == both.Snapshot() && len(slices.Collect(claims)) > 0 {
					t.Fatalf("%v still has claims", o.Ref)
				}
			}
			if got, want := len(slices.Collect(over.ClaimsOf(o.Ref))), len(slices.Collect(both.Snapshot().ClaimsOf(o.Ref))); got != want {
				t.Fatalf("%v has %d claims in two layers, want %d", o.Ref, got, want)
			}
		}
	}
}

func TestSnapshotNeverChanges(t *testing.T) {
	w := world{seed.Rand(t)}
	l := &Ledger{}
	type kept struct {
		snapshot *Snapshot
		claims   string
	}
	var history []kept
	for range 500 {
		l.Replace(w.owner(), w.claims())
		s := l.Snapshot()
		history = append(history, kept{s, fmt.Sprint(s.Claims())})
	}
	for i, h := range history {
		if now := fmt.Sprint(h.snapshot.Claims()); now != h.claims {
			t.Fatalf("snapshot %d was\n%s\nand is\n%s", i, h.claims, now)
		}
	}
}

// TestReadersAndWriters is for the race detector.
func TestReadersAndWriters(t *testing.T) {
	l := &Ledger{}
	var group sync.WaitGroup
	for n := range 4 {
		group.Go(func() {
			w := world{rand.New(rand.NewPCG(uint64(n), 1))}
			for range seed.Rounds(500, 25000) {
				l.Replace(w.owner(), w.claims())
				l.Release(w.ref())
			}
		})
		group.Go(func() {
			w := world{rand.New(rand.NewPCG(uint64(n), 2))}
			for range seed.Rounds(500, 25000) {
				wanted, asking := w.claim(), w.owner()
				wanted.Owner = &asking
				s := l.Snapshot()
				if first, second := spoken(s.Conflicts(wanted)), spoken(s.Conflicts(wanted)); !slices.Equal(first, second) {
					t.Errorf("one snapshot answered %v and %v", first, second)
				}
			}
		})
	}
	group.Wait()
}

func TestChainIsCompletedFromTheLedger(t *testing.T) {
	ref := func(kind, name string) ports.Ref {
		return ports.Ref{APIVersion: "apps/v1", Kind: kind, Namespace: "default", Name: name}
	}
	l := &Ledger{}
	l.Replace(ports.Owner{Ref: ref("ReplicaSet", "web-1"), Controller: &ports.Owner{Ref: ref("Deployment", "web")}}, nil)
	pod := ports.Owner{Ref: ref("Pod", "web-1-a"), Controller: &ports.Owner{Ref: ref("ReplicaSet", "web-1")}}
	if got, want := l.Snapshot().Root(&pod), ref("Deployment", "web"); got != want {
		t.Errorf("root %v, want %v", got, want)
	}
	// What the ledger knows of a controller is newer than what its dependents said.
	pod.Controller.Controller = &ports.Owner{Ref: ref("Deployment", "old")}
	if got, want := l.Snapshot().Root(&pod), ref("Deployment", "web"); got != want {
		t.Errorf("root %v, want %v", got, want)
	}
	// A cycle of owner references must end.
	l.Replace(ports.Owner{Ref: ref("A", "a"), Controller: &ports.Owner{Ref: ref("B", "b")}}, nil)
	l.Replace(ports.Owner{Ref: ref("B", "b"), Controller: &ports.Owner{Ref: ref("A", "a")}}, nil)
	if got := l.Snapshot().Chain(&ports.Owner{Ref: ref("A", "a")}); len(got) != 2 {
		t.Errorf("chain of a cycle: %v", got)
	}
}

// TestNodeOf: the addresses of a node are those that it had last, in their shortest form, and the first of a family is primary.
func TestNodeOf(t *testing.T) {
	var l Ledger
	replace := func(node string, addresses ...string) {
		var all []netip.Addr
		for _, a := range addresses {
			all = append(all, netip.MustParseAddr(a))
		}
		l.ReplaceNode(node, all)
	}
	replace("n1", "10.0.0.9", "fd00::9")
	replace("n1", "::ffff:10.0.0.1", "10.0.0.2", "fe80::1%eth0", "fd00::1")
	replace("n2", "10.0.0.3", "10.0.0.4")
	replace("n3", "10.0.0.4")
	l.ReleaseNode("n2")
	l.ReleaseNode("n4")
	for _, c := range []struct {
		addr, node string
		primary    bool
	}{
		{"10.0.0.1", "n1", true},
		{"10.0.0.2", "n1", false},
		{"fe80::1", "n1", true},
		{"fd00::1", "n1", false},
		{"10.0.0.9", "", false},
		{"fd00::9", "", false},
		{"10.0.0.3", "", false},
		{"10.0.0.4", "n3", true}, // which had it after n2
	} {
		node, primary, known := l.Snapshot().NodeOf(netip.MustParseAddr(c.addr))
		if node != c.node || primary != c.primary || known != (c.node != "") {
			t.Errorf("%s: of %q, primary %v, known %v; want %+v", c.addr, node, primary, known, c)
		}
	}
	if diff := cmp.Diff([]string{"n1", "n3"}, l.Snapshot().Nodes()); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
	l.ReleaseNode("n1")
	if !l.Snapshot().HasAddresses() {
		t.Error("the address of n3 is none")
	}
	if l.ReleaseNode("n3"); l.Snapshot().HasAddresses() {
		t.Error("no node is left, but addresses are")
	}
}

// TestClusterIPMoves: the last Service that has a cluster IP keeps it when another, which had it before, goes.
func TestClusterIPMoves(t *testing.T) {
	addr := netip.MustParseAddr("10.96.0.1")
	service := func(name string) ports.Owner {
		return ports.Owner{Ref: ports.Ref{APIVersion: "v1", Kind: "Service", Namespace: "default", Name: name}, ClusterIPs: []netip.Addr{addr}}
	}
	first, second := service("first"), service("second")
	var l Ledger
	l.Replace(first, nil)
	l.Replace(second, nil)
	l.Release(first.Ref)
	if at, ok := l.Snapshot().ServiceAt(addr, ports.Ref{}); !ok || at.Ref != second.Ref {
		t.Errorf("at %v is %v, want %v", addr, at, second.Ref)
	}
	l.Replace(first, nil)
	l.Release(first.Ref)
	l.Release(second.Ref) // which no longer has it
	if at, ok := l.Snapshot().ServiceAt(addr, ports.Ref{}); ok {
		t.Errorf("at %v is %v, want nobody", addr, at)
	}
}

func TestHasHostPort(t *testing.T) {
	ref := func(kind, namespace, name string) ports.Ref {
		return ports.Ref{APIVersion: "apps/v1", Kind: kind, Namespace: namespace, Name: name}
	}
	claim := func(kind ports.Kind, protocol ports.Protocol, port uint16, scope ports.Scope) ports.Claim {
		return ports.Claim{Socket: ports.Socket{Protocol: protocol, Port: port}, Kind: kind, Scope: scope}
	}
	initial, idle := claim(ports.HostPort, ports.TCP, 84, ports.Scope{}), claim(ports.HostPort, ports.TCP, 85, ports.Scope{})
	initial.InitOnly, idle.Idle = true, true
	var l Ledger
	pod := ports.Owner{Ref: ref("Pod", "web", "web-1"), Controller: &ports.Owner{Ref: ref("Deployment", "web", "web")}}
	l.Replace(pod, []ports.Claim{
		claim(ports.HostPort, ports.TCP, 80, ports.NodeScope("n1")), claim(ports.HostNetwork, ports.UDP, 81, ports.Scope{}),
		claim(ports.HostPort, ports.SCTP, 82, ports.EachScope([]string{"n1", "n2"})), initial, idle,
	})
	l.Replace(ports.Owner{Ref: ref("Service", "web", "web")}, []ports.Claim{claim(ports.NodePort, ports.TCP, 83, ports.EverywhereScope())})
	above := new(Ledger).Snapshot().Over(l.Snapshot())
	for _, c := range []struct {
		why   string
		port  uint16
		owner ports.Ref
		want  bool
	}{
		{"a hostPort", 80, ref("Deployment", "web", "api"), true},
		{"a port of the host network", 81, ref("Deployment", "web", "api"), true},
		{"a DaemonSet's", 82, ref("Deployment", "web", "api"), true},
		{"a node port", 83, ref("Deployment", "web", "api"), false},
		{"of an init container", 84, ref("Deployment", "web", "api"), false},
		{"of nobody that runs", 85, ref("Deployment", "web", "api"), false},
		{"nobody's", 86, ref("Deployment", "web", "api"), false},
		{"in another namespace", 80, ref("Deployment", "shop", "api"), false},
		{"its own", 80, pod.Ref, false},
		{"its pod's", 80, pod.Controller.Ref, false},
	} {
		for _, s := range []*Snapshot{l.Snapshot(), above} {
			if got := s.HasHostPort(c.port, &ports.Owner{Ref: c.owner}); got != c.want {
				t.Errorf("%s: port %d for %v: %v, want %v", c.why, c.port, c.owner, got, c.want)
			}
		}
	}
}

// TestConflictsAreSorted: by holder, whatever the order in which they were written.
func TestConflictsAreSorted(t *testing.T) {
	var l Ledger
	held := ports.Claim{Socket: ports.MustParseSocket("*:80/TCP"), Kind: ports.HostPort, Scope: ports.EverywhereScope()}
	wanted := held
	wanted.Owner = &ports.Owner{Ref: ports.Ref{Kind: "Pod", Name: "wanted"}}
	for _, name := range []string{"b", "c", "a"} {
		l.Replace(ports.Owner{Ref: ports.Ref{Kind: "Pod", Name: name}}, []ports.Claim{held})
		got := l.Snapshot().Conflicts(wanted)
		if !slices.IsSortedFunc(got, func(a, b ports.Conflict) int { return a.Held.Compare(b.Held) }) || len(got) == 0 {
			t.Errorf("with %s: %v", name, spoken(got))
		}
	}
	// Two are sorted as well.
	l.Release(ports.Ref{Kind: "Pod", Name: "c"})
	if got := l.Snapshot().Conflicts(wanted); len(got) != 2 || got[0].Held.Owner.Name != "a" {
		t.Errorf("of two: %v", got)
	}
	wanted.Owner = nil
	if got := l.Snapshot().Conflicts(wanted); len(got) != 2 {
		t.Errorf("of what nobody wants: %v", got)
	}
}

// TestCandidatesStop: a reader may stop at any of them.
func TestCandidatesStop(t *testing.T) {
	var l Ledger
	l.ReplaceNode("n1", []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")})
	socket := ports.MustParseSocket("10.0.0.1:80/TCP")
	for i, scope := range []ports.Scope{
		ports.EverywhereScope(), ports.EverywhereScope(), ports.NodeScope("n1"), ports.NodeScope("n1"), ports.AddressScope(), ports.AddressScope(), {}, ports.NodeScope("n2"),
	} {
		l.Replace(ports.Owner{Ref: ports.Ref{Kind: "Pod", Name: fmt.Sprint("p", i)}}, []ports.Claim{{Socket: socket, Kind: ports.HostPort, Scope: scope}})
	}
	s := l.Snapshot()
	b, _ := s.numbers.get(number{ports.TCP, 80})
	for _, c := range []struct {
		scope ports.Scope
		want  int
	}{{ports.NodeScope("n1"), 6}, {ports.NodeScope("n3"), 2}, {ports.Scope{}, 4}, {ports.EverywhereScope(), 8}, {ports.AddressScope(), 8}} {
		wanted := ports.Claim{Socket: socket, Kind: ports.HostPort, Scope: c.scope}
		for stop := range c.want {
			read := 0
			for range s.candidates(b, wanted) {
				if read++; read > stop {
					break
				}
			}
			if read != stop+1 {
				t.Errorf("on %v: %d candidates, want %d", c.scope, read, c.want)
			}
		}
		if all := slices.Collect(s.candidates(b, wanted)); len(all) != c.want {
			t.Errorf("on %v: %d candidates, want %d", c.scope, len(all), c.want)
		}
	}
}

func TestWithAndWithout(t *testing.T) {
	service := ports.Owner{Ref: ports.Ref{APIVersion: "v1", Kind: "Service", Namespace: "default", Name: "web"}}
	claim := ports.Claim{Socket: ports.MustParseSocket("*:30007/TCP"), Kind: ports.NodePort, Scope: ports.EverywhereScope()}
	none := new(Ledger).Snapshot()
	with := none.With(service, []ports.Claim{claim})
	for _, c := range []struct {
		name string
		s    *Snapshot
		want int
	}{{"none", none, 0}, {"with", with, 1}, {"without", with.Without(service.Ref), 0}, {"with nothing", with.With(service, nil), 0}, {"above", none.Over(with), 1}} {
		if claims := c.s.Claims(); len(claims) != c.want || c.s.IsNodePort(30007) != (c.want > 0) {
			t.Errorf("%s: %v, a node port: %v; want %d", c.name, claims, c.s.IsNodePort(30007), c.want)
		}
	}
}

// TestShared: what pods say of their controllers is stored once, and so is the name of a node.
func TestShared(t *testing.T) {
	ref := func(kind, namespace, name string) ports.Ref {
		return ports.Ref{APIVersion: "v1", Kind: kind, Namespace: namespace, Name: name}
	}
	web, node := ref("ReplicaSet", "default", "web"), ref("Node", "", "n1") // a static pod's controller is its Node
	pod := func(name, namespace string, controllers ...ports.Ref) ports.Owner {
		o := ports.Owner{Ref: ref("Pod", namespace, name)}
		for at := &o; len(controllers) > 0; at, controllers = at.Controller, controllers[1:] {
			at.Controller = &ports.Owner{Ref: controllers[0]}
		}
		return o
	}
	var l Ledger
	stored := func(o ports.Owner) *ports.Owner {
		l.Replace(o, []ports.Claim{{Socket: ports.MustParseSocket("*:80/TCP"), Kind: ports.HostPort, Scope: ports.NodeScope("n1")}})
		got, _, ok := l.Snapshot().Owner(o.Ref)
		if !ok {
			t.Fatalf("%v is not stored", o.Ref)
		}
		return got
	}
	l.ReplaceNode("n1", nil)
	for _, c := range []struct {
		why           string
		first, second ports.Owner
		want          bool
	}{
		{"one ReplicaSet", pod("a", "default", web), pod("b", "default", web), true},
		{"one Node, in two namespaces", pod("c", "kube-system", node), pod("d", "kube-public", node), true},
		{"a Deployment that the other does not know", pod("e", "default", web), pod("f", "default", web, ref("Deployment", "default", "web")), false},
		{"a Deployment that the other no longer knows", pod("g", "default", web, ref("Deployment", "default", "web")), pod("h", "default", web), false},
		{"two Deployments", pod("i", "default", web, ref("Deployment", "default", "web")), pod("j", "default", web, ref("Deployment", "default", "api")), false},
	} {
		first, second := stored(c.first), stored(c.second)
		if (first.Controller == second.Controller) != c.want || !slices.Equal(slices.Collect(second.Chain()), slices.Collect(c.second.Chain())) {
			t.Errorf("%s: shared %v, want %v: %v", c.why, first.Controller == second.Controller, c.want, slices.Collect(second.Chain()))
		}
	}
	claims := l.Snapshot().Claims()
	if a, b := claims[0].Scope.Nodes(), claims[1].Scope.Nodes(); &a[0] != &b[0] {
		t.Error("two claims on one node have two lists of nodes")
	}
	// Many controllers: those of owners that are stored are shared, others are forgotten now and then.
	const many = 1500
	owner := func(i int) ports.Owner {
		return pod(fmt.Sprint("pod-", i), "default", ref("ReplicaSet", "default", fmt.Sprint("rs-", i)))
	}
	var all []*ports.Owner
	for i := range many {
		all = append(all, stored(owner(i)))
	}
	for i := range many {
		if again := stored(owner(i)); again.Controller != all[i].Controller {
			t.Fatalf("%v has its controller twice", again.Ref)
		}
	}
	for i := range 3 * many {
		o := owner(i)
		l.Replace(o, nil)
		l.Release(o.Ref)
	}
	if owners, _, _ := l.Snapshot().Size(); len(l.chains) > 1025+owners {
		t.Errorf("%d controllers of %d owners", len(l.chains), owners)
	}
}

func TestBook(t *testing.T) {
	r := seed.Rand(t)
	var b book
	m := map[uint16]bool{}
	for range seed.Rounds(5000, 200000) {
		port := uint16(r.IntN(1 << 16))
		before, had := b, b.has(port)
		m[port] = r.IntN(3) > 0
		b = b.with(port, m[port])
		if b.has(port) != m[port] || before.has(port) != had {
			t.Fatalf("port %d: %v, want %v; before %v, which was %v", port, b.has(port), m[port], before.has(port), had)
		}
	}
	for port := range 1 << 16 {
		if b.has(uint16(port)) != m[uint16(port)] {
			t.Fatalf("port %d: %v", port, b.has(uint16(port)))
		}
	}
	if same := b.with(0, b.has(0)); same != b {
		t.Error("a change to what is so already makes a copy")
	}
}
