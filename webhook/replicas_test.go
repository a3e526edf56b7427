package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/pkg/journal"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
)

// newReplicas are handlers that share a journal, each with a view of the cluster of its own.
func newReplicas(t testing.TB, n int) []*bench {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	api := fake.NewClientBuilder().WithScheme(scheme).Build()
	var all []*bench
	for i := range n {
		all = append(all, joins(t, api, fmt.Sprint("replica-", i)))
	}
	return all
}

func joins(t testing.TB, api client.Client, name string) *bench {
	b := newBench(t, "")
	j := journal.New(api, api, "portcullis-system", name, b.Merge, time.Now)
	b.UseJournal(j)
	if err := j.Pull(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b
}

// TestTwoReplicas: what one replica lets through the other one does not let through beside it, before the API server has
// stored it and any watch shows it.
func TestTwoReplicas(t *testing.T) {
	pinned := func(port int32) admissionv1.AdmissionRequest {
		return creates("Pod", with(hostPortPod("p", port), onNode("n1")))
	}
	external := func(name string) admissionv1.AdmissionRequest {
		return creates("Service", with(nodePortService(name, 0), serviceType("ClusterIP"), func(s *corev1.Service) {
			s.Spec.ExternalIPs = []string{"192.0.2.1"}
			s.Spec.Ports[0].Port = 30001
		}))
	}
	for _, c := range []struct {
		name         string
		path         string
		first        admissionv1.AdmissionRequest
		then         string
		second       admissionv1.AdmissionRequest
		first2, want string
	}{
		{"hostPort, then nodePort", hooks.PathValidatePods, pinned(30001), hooks.PathMutateServices, creates("Service", nodePortService("b", 30001)), "warn: PC0303", "busy: PC0203"},
		{"a template, then nodePort", hooks.PathValidateWorkload, creates("DaemonSet", workload("DaemonSet", "d", 30001)), hooks.PathMutateServices, creates("Service", nodePortService("b", 30001)), "warn: PC0303", "busy: PC0203"},
		{"nodePort, then hostPort", hooks.PathMutateServices, creates("Service", nodePortService("a", 30001)), hooks.PathValidatePods, pinned(30001), "allow", "busy: PC0203"},
		{"nodePort, validated, then a template", hooks.PathValidateServices, creates("Service", nodePortService("a", 30001)), hooks.PathValidateWorkload, creates("Deployment", workload("Deployment", "d", 30001)), "allow", "busy: PC0203"},
		{"hostPort outside of the range, on one node twice", hooks.PathValidatePods, pinned(9000), hooks.PathValidatePods, creates("Pod", with(hostPortPod("q", 9000), onNode("n1"))), "allow", "busy: PC0203"},
		{"two templates", hooks.PathValidateWorkload, creates("DaemonSet", workload("DaemonSet", "d", 9000)), hooks.PathValidateWorkload, creates("DaemonSet", workload("DaemonSet", "e", 9000)), "allow", "busy: PC0203"},
		{"nodePort, then external IP on a node's address", hooks.PathMutateServices, creates("Service", nodePortService("a", 30001)), hooks.PathMutateServices, external("b"), "allow", "busy: PC0203"},
		{"external IP on a node's address, then nodePort", hooks.PathMutateServices, external("a"), hooks.PathMutateServices, creates("Service", nodePortService("b", 30001)), "allow", "busy: PC0203"},
		{"another port", hooks.PathMutateServices, creates("Service", nodePortService("a", 30001)), hooks.PathMutateServices, creates("Service", nodePortService("b", 30002)), "allow", "allow"},
		{"the same object, which one mutates and the other validates", hooks.PathMutateServices, creates("Service", nodePortService("a", 30001)), hooks.PathValidateServices, creates("Service", nodePortService("a", 30001)), "allow", "allow"},
		{"scaled from nothing, then nodePort", hooks.PathValidateScale, scales("Deployment", "w", 0, 1), hooks.PathMutateServices, creates("Service", nodePortService("b", 30777)), "warn: PC0303", "busy: PC0203"},
	} {
		t.Run(c.name, func(t *testing.T) {
			replicas := newReplicas(t, 2)
			for _, b := range replicas {
				b.holds(node("n1"), node("n2")).stores(idle("Deployment", "w", 30777))
				b.cluster.ledger.ReplaceNode("n1", []netip.Addr{netip.MustParseAddr("192.0.2.1")})
			}
			if got := outcome(replicas[0].decideOn(t, c.path, c.first)); !strings.HasPrefix(got, c.first2) {
				t.Fatalf("the first: %s", got)
			}
			if got := outcome(replicas[1].decideOn(t, c.then, c.second)); !strings.HasPrefix(got, c.want) {
				t.Errorf("the second: %s, want %s", got, c.want)
			}
			if busy := strings.HasPrefix(c.want, "busy"); busy && len(replicas[1].flight.owners) != 1 {
				t.Errorf("in flight: %v", replicas[1].flight.owners)
			}
		})
	}
}

// TestShownMeanwhile: a request was judged before the watch showed what another replica has let through, and is written after
// it: it is judged again.
func TestShownMeanwhile(t *testing.T) {
	replicas := newReplicas(t, 2)
	a := with(nodePortService("a", 30001), func(s *corev1.Service) { s.UID = "1" })
	if got := outcome(replicas[0].decideOn(t, hooks.PathValidateServices, creates("Service", a))); got != "allow" {
		t.Fatal(got)
	}
	second := replicas[1]
	judged := 0
	second.cluster.judging = func() {
		if judged++; judged == 1 {
			second.cluster.judging = nil
			defer func() { second.holds(a) }() // the watch shows it while the pod is judged: its snapshot is from before
		}
	}
	if got := outcome(second.decideOn(t, hooks.PathValidatePods, creates("Pod", with(hostPortPod("p", 30001), onNode("n1"))))); !strings.HasPrefix(got, "deny: PC0201") {
		t.Errorf("%s", got)
	}
}

// TestSharedAgain: what the other replicas were told of some time ago they may have forgotten: a request that is repeated is
// written again. What the validating webhook lets through is written too: it has a uid.
func TestSharedAgain(t *testing.T) {
	b := newBench(t, "")
	j := &recorder{}
	b.UseJournal(j)
	req := creates("Service", nodePortService("a", 30001))
	for _, want := range []int{2, 4, 6} {
		b.decideOn(t, hooks.PathMutateServices, req)
		b.decideOn(t, hooks.PathValidateServices, creates("Service", with(nodePortService("a", 30001), func(s *corev1.Service) { s.UID = "1" })))
		if j.n != want {
			t.Errorf("%d writes, want %d", j.n, want)
		}
		b.pass(3 * time.Second)
	}
}

// TestMergedIsForgotten: what another replica has let through, and the cluster showed before this one knew of it, is not
// remembered for as long as it exists, and its end is no failure.
func TestMergedIsForgotten(t *testing.T) {
	b := newBench(t, "")
	a := with(nodePortService("a", 30001), func(s *corev1.Service) { s.UID = "1" })
	b.holds(a)
	seen := b.seen(a)
	b.Merge([]journal.Entry{{Owner: seen.Owner, Claims: seen.Claims}}) // of a mutating webhook: without a uid
	if len(b.flight.owners) != 1 {
		t.Fatal("it may be another object of the name")
	}
	b.pass(graceTime)
	b.sweep(t.Context())
	if len(b.flight.owners) != 0 || len(b.flight.failures) != 0 {
		t.Errorf("in flight %v, failures %v", b.flight.owners, b.flight.failures)
	}
	b.Merge([]journal.Entry{{Owner: seen.Owner, UID: "1", Claims: seen.Claims}})
	if len(b.flight.owners) != 0 {
		t.Error("remembered although the cluster shows it")
	}
}

// TestMergedUpdate: of an update that another replica has let through, the watch may show a state of before that has its ports.
func TestMergedUpdate(t *testing.T) {
	states := func(version string) *corev1.Service {
		return with(nodePortService("a", 30001), func(s *corev1.Service) { s.UID, s.ResourceVersion = "1", version })
	}
	for _, c := range []struct {
		shown      string // when the replica hears of the update, and then
		then       string
		remembered bool
	}{
		{"5", "6", true}, {"5", "8", false}, {"8", "8", false},
	} {
		b := newBench(t, "").holds(states(c.shown))
		seen := b.seen(states(c.then))
		b.Merge([]journal.Entry{{Owner: seen.Owner, UID: "1", After: 7, Claims: seen.Claims}})
		b.Settle(seen)
		if got := len(b.flight.owners) > 0; got != c.remembered {
			t.Errorf("shown at %s, then at %s: remembered %v", c.shown, c.then, got)
		}
	}
}

// TestAdds: which updates take something that another replica may give away.
func TestAdds(t *testing.T) {
	on := func(scope ports.Scope, sockets ...string) (all []ports.Claim) {
		for _, s := range sockets {
			all = append(all, ports.Claim{Kind: ports.HostPort, Socket: ports.MustParseSocket(s), Scope: scope})
		}
		return all
	}
	n1, n2, anywhere := ports.EachScope([]string{"n1"}), ports.EachScope([]string{"n2"}), ports.EverywhereScope()
	for _, c := range []struct {
		name     string
		old, now []ports.Claim
		want     bool
	}{
		{"nothing", on(n1, "*:80/TCP"), on(n1, "*:80/TCP"), false},
		{"a port less", on(n1, "*:80/TCP", "*:81/TCP"), on(n1, "*:80/TCP"), false},
		{"a port more", on(n1, "*:80/TCP"), on(n1, "*:80/TCP", "*:81/TCP"), true},
		{"other nodes", on(n1, "*:80/TCP"), on(n2, "*:80/TCP"), true},
		{"fewer nodes", on(anywhere, "*:80/TCP"), on(n2, "*:80/TCP"), false},
		{"more addresses", on(n1, "10.0.0.1:80/TCP"), on(n1, "*:80/TCP"), true},
		{"fewer addresses", on(n1, "*:80/TCP"), on(n1, "10.0.0.1:80/TCP"), false},
		{"created", nil, on(n1, "*:80/TCP"), true},
	} {
		if got := adds(c.old, c.now); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// TestChosenBesideAnotherReplica: a nodePort that another replica has just let somebody have is not chosen.
func TestChosenBesideAnotherReplica(t *testing.T) {
	replicas := newReplicas(t, 2)
	first := patched(replicas[0].decideOn(t, hooks.PathMutateServices, creates("Service", nodePortService("a", 0))).patches)
	number := int32(0)
	if _, err := fmt.Sscanf(first, "/spec/ports/0/nodePort=%d", &number); err != nil {
		t.Fatal(first, err)
	}
	replicas[1].settings = settingsOf(t, fmt.Sprintf("allocateFrom: %d,31999\n", number))
	if got := patched(replicas[1].decideOn(t, hooks.PathMutateServices, creates("Service", nodePortService("b", 0))).patches); got != "/spec/ports/0/nodePort=31999" {
		t.Errorf("chose %s, want 31999", got)
	}
}

// TestWhatIsNotShared: what cannot meet another replica's answer costs no write.
func TestWhatIsNotShared(t *testing.T) {
	template := holding(workload("ReplicaSet", "rs", 30001))
	for _, c := range []struct {
		name string
		held []runtime.Object
		path string
		req  admissionv1.AdmissionRequest
		want int
	}{
		{"a Service", nil, hooks.PathMutateServices, creates("Service", nodePortService("a", 30001)), 1},
		{"a Service without ports", nil, hooks.PathMutateServices, creates("Service", nodePortService("a")), 0},
		{"a dry run", nil, hooks.PathMutateServices, dryRun(creates("Service", nodePortService("a", 30001))), 0},
		{"an update that adds nothing", holding(nodePortService("a", 30001)), hooks.PathMutateServices, updates("Service", nodePortService("a", 30001), nodePortService("a", 30001, 30002)), 0},
		{"an update that adds a port", holding(nodePortService("a", 30001)), hooks.PathMutateServices, updates("Service", nodePortService("a", 30001, 30002), nodePortService("a", 30001)), 1},
		{"a template", nil, hooks.PathValidateWorkload, creates("Deployment", workload("Deployment", "d", 9000)), 1},
		{"a template without ports", nil, hooks.PathValidateWorkload, creates("Deployment", workload("Deployment", "d")), 0},
		{"a template that wants no pods", nil, hooks.PathValidateWorkload, creates("Deployment", idle("Deployment", "d", 9000)), 0},
		{"a pod of a template", template, hooks.PathValidatePods, creates("Pod", with(hostPortPod("p", 30001), controlledBy("ReplicaSet", "rs"))), 0},
		{"a pod of a template, on a node of its own choice", template, hooks.PathValidatePods, creates("Pod", with(hostPortPod("p", 30001), controlledBy("ReplicaSet", "rs"), onNode("n1"))), 1},
		{"a pod that says it is of a template", template, hooks.PathValidatePods, creates("Pod", with(hostPortPod("p", 30001), controlledBy("ReplicaSet", "rs"), func(p *corev1.Pod) { p.OwnerReferences[0].UID = "2" })), 1},
		{"a pod on an address", nil, hooks.PathValidatePods, creates("Pod", with(hostPortPod("p", 9000), hostIP("192.0.2.1"))), 1},
		{"a pod inside of the node port range", nil, hooks.PathValidatePods, creates("Pod", hostPortPod("p", 30001)), 1},
		{"a pod outside of it", nil, hooks.PathValidatePods, creates("Pod", hostPortPod("p", 9000)), 0},
		{"a pod outside of it, on a node", nil, hooks.PathValidatePods, creates("Pod", with(hostPortPod("p", 9000), onNode("n1"))), 1},
		{"what is refused", holding(nodePortService("b", 30001)), hooks.PathMutateServices, creates("Service", nodePortService("a", 30001)), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, "").holds(c.held...)
			j := &recorder{}
			b.UseJournal(j)
			b.decideOn(t, c.path, c.req)
			b.decideOn(t, c.path, c.req) // once is enough
			if j.n != c.want {
				t.Errorf("%d writes, want %d", j.n, c.want)
			}
		})
	}
}

type recorder struct {
	n, written, withdrawn int
	fail                  error
	append                func() // what happens meanwhile
}

func (r *recorder) Append(_ context.Context, _ journal.Entry, isDue func() bool) error {
	r.n++
	if r.append != nil {
		r.append()
	}
	if isDue() {
		r.written++
	}
	return r.fail
}

func (r *recorder) Withdraw(journal.Entry) { r.withdrawn++ }

// TestWithdrawn: what a replica does not let through after all is forgotten by the others, and is no failure.
func TestWithdrawn(t *testing.T) {
	b := newBench(t, "")
	seen := b.seen(nodePortService("a", 30001))
	b.Merge([]journal.Entry{{Owner: seen.Owner, Claims: seen.Claims}})
	if got := b.another(t); got != contended {
		t.Fatal(got)
	}
	b.Merge([]journal.Entry{{Owner: seen.Owner, Claims: seen.Claims, Withdrawn: true}})
	if got := b.another(t); got != free || len(b.flight.failures) > 0 {
		t.Errorf("%s, failures %v", got, b.flight.failures)
	}
	replicas := newReplicas(t, 2)
	j := &recorder{}
	replicas[1].UseJournal(j)
	j.append = func() { replicas[1].Merge([]journal.Entry{{Owner: seen.Owner, Claims: seen.Claims}}) }
	if got := outcome(replicas[1].decideOn(t, hooks.PathMutateServices, creates("Service", nodePortService("b", 30001)))); got != contended || j.written != 0 || j.withdrawn != 0 {
		t.Errorf("%s, %d entries written, %d withdrawn", got, j.written, j.withdrawn)
	}
}

// TestFirstStands: of two Services that want one port through two replicas, the one that was written to the journal first is let
// through by both of its hooks, and the other one leaves no trace.
func TestFirstStands(t *testing.T) {
	shared := &board{}
	first, second := newBench(t, ""), newBench(t, "")
	for i, b := range []*bench{first, second} {
		b.UseJournal(&seat{board: shared, self: i, merge: b.Merge})
	}
	a, b := nodePortService("a", 30001), nodePortService("b", 30001)
	for _, step := range []struct {
		replica    *bench
		path, want string
		service    *corev1.Service
	}{
		{first, hooks.PathMutateServices, "allow", a},
		{second, hooks.PathMutateServices, contended, b},
		{first, hooks.PathValidateServices, "allow", with(nodePortService("a", 30001), func(s *corev1.Service) { s.UID = "1" })},
		{second, hooks.PathMutateServices, contended, b},
	} {
		if got := outcome(step.replica.decideOn(t, step.path, creates("Service", step.service))); got != step.want {
			t.Errorf("%s of %s: %s, want %s", step.path, step.service.Name, got, step.want)
		}
	}
	if len(shared.entries) != 2 {
		t.Errorf("%d entries, want those of the first", len(shared.entries))
	}
}

// TestNoJournal: without a write that the other replicas can read nothing is let through, and nothing is remembered.
func TestNoJournal(t *testing.T) {
	b := newBench(t, "")
	b.UseJournal(&recorder{fail: errors.New("forbidden")})
	for path, req := range map[string]admissionv1.AdmissionRequest{
		hooks.PathMutateServices: creates("Service", nodePortService("a", 30001)), hooks.PathValidateServices: creates("Service", nodePortService("a", 30001)),
		hooks.PathValidatePods: creates("Pod", hostPortPod("p", 30001)), hooks.PathValidateWorkload: creates("Deployment", workload("Deployment", "d", 30001)),
	} {
		if got := outcome(b.decideOn(t, path, req)); got != "busy" || len(b.flight.owners) > 0 {
			t.Errorf("%s: %s, in flight %v", path, got, b.flight.owners)
		}
	}
}

// TestRaceOfReplicas: of requests that want one port at the same moment, through whichever replicas, at most one is let
// through.
func TestRaceOfReplicas(t *testing.T) {
	const replicas = 3
	random := seed.Rand(t)
	all := newReplicas(t, replicas)
	admitted := map[int]int{}
	for round := range seed.Rounds(60, 2000) {
		port := int32(30000 + round)
		var group sync.WaitGroup
		outcomes := make([]string, replicas)
		for i, b := range all {
			pause := time.Duration(random.IntN(300)) * time.Microsecond
			path, req := hooks.PathMutateServices, creates("Service", nodePortService(fmt.Sprintf("s%d-%d", round, i), port))
			if random.IntN(2) == 0 {
				path, req = hooks.PathValidatePods, creates("Pod", with(hostPortPod(fmt.Sprintf("p%d-%d", round, i), port), onNode("n1")))
			}
			group.Go(func() {
				time.Sleep(pause)
				outcomes[i] = outcome(b.decideOn(t, path, req))
			})
		}
		group.Wait()
		n := 0
		for _, o := range outcomes {
			if strings.HasPrefix(o, "allow") || strings.HasPrefix(o, "warn") {
				n++
			}
		}
		admitted[n]++
		if n > 1 {
			t.Errorf("port %d: %q", port, outcomes)
		}
	}
	t.Logf("of %d requests for one port so many were let through: %v", replicas, admitted)
	if admitted[1] == 0 {
		t.Error("nobody was ever let through")
	}
}

// TestChosenYields: a nodePort that was chosen and that another replica has given away at the same moment is replaced by another one;
// one that the client wrote is not.
func TestChosenYields(t *testing.T) {
	for written, want := range map[int32]string{0: "allow /spec/ports/0/nodePort=30101", 30100: contended + " "} {
		b := newBench(t, "allocateFrom: 30100-30101\n")
		j := &recorder{}
		b.UseJournal(j)
		j.append = func() {
			if j.n == 1 {
				seen := b.seen(nodePortService("other", 30100))
				b.Merge([]journal.Entry{{Owner: seen.Owner, Claims: seen.Claims}})
			}
		}
		b.random = func() string { return "" }
		d := b.decideOn(t, hooks.PathMutateServices, creates("Service", nodePortService("a", written)))
		if got := outcome(d) + " " + patched(d.patches); got != want {
			t.Errorf("wrote %d: %q, want %q", written, got, want)
		}
	}
}

// TestSuccessor: a replica that starts knows what the others, and those that are gone, have let through a moment ago.
func TestSuccessor(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	api := fake.NewClientBuilder().WithScheme(scheme).Build()
	if got := outcome(joins(t, api, "first").decideOn(t, hooks.PathMutateServices, creates("Service", nodePortService("a", 30001)))); got != "allow" {
		t.Fatal(got)
	}
	if got := joins(t, api, "second").another(t); got != contended {
		t.Errorf("%s, want %s", got, contended)
	}
}
