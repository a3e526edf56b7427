package pools

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/cluster"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
)

// testBinds: whoever was given a number is bound to it once it is there, under whatever name.
func testBinds(t *testing.T, w *world) {
	w.run(t, settings{})
	ns, other := w.namespace(t, nil), w.namespace(t, nil)
	w.pool(t, "binds", "30100-30109", time.Hour)

	w.request(t, 30100, "binds", named(ns, "web"))
	w.waitBound(t, 30100, w.service(t, ns, "web", 30100))

	w.request(t, 30101, "binds", v1alpha1.ClaimingService{Namespace: ns, GenerateName: "any-"})
	w.service(t, other, "any-") // of another namespace
	w.service(t, ns, "any-")    // without the number
	any101 := w.service(t, ns, "any-", 30101)
	if claim := w.waitBound(t, 30101, any101); claim.Spec.Service.GenerateName != "any-" {
		t.Errorf("the claim is for %+v, want that its generateName stays", claim.Spec.Service)
	}

	w.request(t, 30102, "binds", named(ns, "two"))
	w.request(t, 30103, "binds", named(ns, "two"))
	two := w.service(t, ns, "two", 30102, 30103)
	w.waitBound(t, 30102, two)
	w.waitBound(t, 30103, two)

	// A Service that exists is given a number by an update.
	w.request(t, 30104, "binds", named(ns, "two"))
	two.Spec.Ports[1].NodePort = 30104
	if err := w.Update(t.Context(), two); err != nil {
		t.Fatal(err)
	}
	w.waitBound(t, 30104, two)
	w.waitPhase(t, 30103, v1alpha1.ClaimReleased, v1alpha1.ReasonPortGivenUp)

	health := serviceOf(ns, "health", 30105)
	health.Spec.Type, health.Spec.ExternalTrafficPolicy, health.Spec.HealthCheckNodePort = corev1.ServiceTypeLoadBalancer, corev1.ServiceExternalTrafficPolicyLocal, 30106
	w.request(t, 30106, "binds", named(ns, "health"))
	if err := w.Create(t.Context(), health); err != nil {
		t.Fatal(err)
	}
	w.waitBound(t, 30106, health)
}

// testUnconfirmed: a request whose Service does not come gives its number back, and no other request does.
func testUnconfirmed(t *testing.T, w *world) {
	ns := w.namespace(t, nil)
	w.pool(t, "unconfirmed", "30110-30119", time.Hour)
	w.request(t, 30110, "unconfirmed", named(ns, "never"))
	w.request(t, 30111, "unconfirmed", v1alpha1.ClaimingService{Namespace: ns, GenerateName: "never-"})
	w.request(t, 30112, "unconfirmed", named(ns, "there"))
	there := w.service(t, ns, "there", 30112)
	again := w.request(t, 30113, "unconfirmed", named(ns, "again"))
	w.service(t, ns, "given") // exists, and does not have the number
	w.request(t, 30114, "unconfirmed", named(ns, "given"))
	r := w.run(t, settings{lifetime: 4 * time.Second})
	time.Sleep(2 * time.Second)
	again.Status.RequestedAgainAt = new(metav1.Now())
	if err := w.Status().Update(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	w.waitFree(t, 30110)
	w.waitFree(t, 30111)
	w.waitFree(t, 30114)
	w.waitBound(t, 30112, there)
	if claim, err := w.claim(t.Context(), 30113); err != nil || claim == nil || claim.UID != again.UID {
		t.Errorf("the number that was asked for again is claimed by %v, %v", claim, err)
	}
	if got := r.transitions(t); got["deleted"] != 3 || got["bound"] != 1 || got["released"]+got["imported"] != 0 {
		t.Errorf("transitions: %v", got)
	}
}

// testHeldByAnother: a number that another Service was quicker to take is told to whoever waits for it, and goes over.
func testHeldByAnother(t *testing.T, w *world) {
	ns := w.namespace(t, nil)
	w.pool(t, "another", "30120-30129", time.Hour)
	w.request(t, 30120, "another", named(ns, "late"))
	thief := w.service(t, ns, "thief", 30120)
	r := w.run(t, settings{})
	claim := w.waitPhase(t, 30120, v1alpha1.ClaimRequested, v1alpha1.ReasonHeldByAnother)
	c := meta.FindStatusCondition(claim.Status.Conditions, v1alpha1.ConditionBound)
	if want := "held by Service " + ns + "/thief"; !strings.Contains(c.Message, want) {
		t.Errorf("the condition says %q, want %q in it", c.Message, want)
	}
	r.stop()

	// The request is dead: the number is the other one's.
	r = w.run(t, settings{lifetime: time.Second})
	if got := w.waitBound(t, 30120, thief); got.UID == claim.UID {
		t.Error("the claim was rewritten for another Service")
	}
	// A number that waits, and that somebody takes without asking.
	w.delete(t, thief)
	w.waitPhase(t, 30120, v1alpha1.ClaimReleased, v1alpha1.ReasonServiceGone)
	next := w.service(t, ns, "next", 30120)
	w.waitBound(t, 30120, next)
	r.stop()
	// While the controller was away: bound to one, held by the next.
	w.delete(t, next)
	after := w.service(t, ns, "after", 30120)
	w.run(t, settings{})
	w.waitBound(t, 30120, after)
}

// testQuarantine: a released number waits, and is the same Service's again if that comes back.
func testQuarantine(t *testing.T, w *world) {
	w.run(t, settings{})
	ns := w.namespace(t, nil)
	w.pool(t, "long", "30130-30134", time.Hour)
	w.pool(t, "none", "30135-30139", 0)
	w.pool(t, "short", "30140-30144", time.Second)

	a := w.service(t, ns, "a", 30130)
	first := w.waitBound(t, 30130, a)
	w.delete(t, a)
	released := w.waitPhase(t, 30130, v1alpha1.ClaimReleased, v1alpha1.ReasonServiceGone)
	if released.UID != first.UID || released.Status.ReleasedAt == nil {
		t.Errorf("released: %+v", released.Status)
	}
	a = w.service(t, ns, "a", 30130)
	if again := w.waitBound(t, 30130, a); again.UID != first.UID || again.Status.ReleasedAt != nil {
		t.Errorf("bound again: %+v", again.Status)
	}
	note := w.waitEvent(t, "ClaimReleased", "PortPool", "", "long")
	if want := "np-30130: Service " + ns + "/a is gone"; note != want {
		t.Errorf("the event says %q, want %q", note, want)
	}

	b, c := w.service(t, ns, "b", 30135), w.service(t, ns, "c", 30140)
	w.waitBound(t, 30135, b)
	w.waitBound(t, 30140, c)
	w.delete(t, b)
	w.delete(t, c)
	w.waitFree(t, 30135)
	w.waitFree(t, 30140)

	// The delay is the pool's of now, and none if it is gone.
	for number, change := range map[int32]func(*v1alpha1.PortPool){
		30131: func(p *v1alpha1.PortPool) {
			w.changePool(t, p.Name, func(s *v1alpha1.PortPoolSpec) { s.Allocation.ReuseDelay.Duration = 0 })
		},
		30132: func(p *v1alpha1.PortPool) { w.delete(t, p) },
	} {
		name := fmt.Sprintf("changing-%d", number)
		w.changePool(t, "long", func(s *v1alpha1.PortPoolSpec) { s.Ranges = rangesOf("30130") })
		p := w.pool(t, name, fmt.Sprint(number), time.Hour)
		svc := w.service(t, ns, name, number)
		w.waitBound(t, number, svc)
		w.delete(t, svc)
		w.waitPhase(t, number, v1alpha1.ClaimReleased, v1alpha1.ReasonServiceGone)
		change(p)
		w.waitFree(t, number)
	}
	w.waitBound(t, 30130, a)
}

// testImport: what stands in a pool without a claim is given one, and nothing else is.
func testImport(t *testing.T, w *world) {
	ns, others := w.namespace(t, map[string]string{"team": "blue"}), w.namespace(t, map[string]string{"team": "red"})
	before := w.service(t, ns, "before", 30150, 30159)
	foreign := w.service(t, others, "foreign", 30151)
	edge := serviceOf(ns, "edge", 30155)
	edge.Labels = map[string]string{"expose": "edge"}
	if err := w.Create(t.Context(), edge); err != nil {
		t.Fatal(err)
	}
	plain := w.service(t, ns, "plain", 30156)
	blue := func(s *v1alpha1.PortPoolSpec) {
		s.NamespaceSelector.MatchLabels = map[string]v1alpha1.LabelValue{"team": "blue"}
	}
	w.pool(t, "import", "30150-30154", time.Hour, blue)
	w.pool(t, "edge", "30155-30157", time.Hour, blue, func(s *v1alpha1.PortPoolSpec) {
		s.ServiceSelector = &v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"expose": "edge"}}
	})
	r := w.run(t, settings{})
	w.waitBound(t, 30150, before)
	w.waitBound(t, 30155, edge)
	health := serviceOf(ns, "health", 30999)
	health.Spec.Type, health.Spec.ExternalTrafficPolicy, health.Spec.HealthCheckNodePort = corev1.ServiceTypeLoadBalancer, corev1.ServiceExternalTrafficPolicyLocal, 30152
	if err := w.Create(t.Context(), health); err != nil {
		t.Fatal(err)
	}
	if claim := w.waitBound(t, 30152, health); claim.Spec.PortName != v1alpha1.HealthCheckPortName || claim.Spec.Pool != "import" {
		t.Errorf("imported as %+v", claim.Spec)
	}
	if got := w.claims(t); len(got) != 3 {
		t.Errorf("claimed are %v, want 30150, 30152 and 30155", got)
	}
	// Labels change, of the namespace and of the Service.
	poll.Until(t, func(ctx context.Context) error {
		return w.Patch(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: others}},
			client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"labels":{"team":"blue"}}}`)))
	})
	w.waitBound(t, 30151, foreign)
	plain.Labels = map[string]string{"expose": "edge"}
	if err := w.Update(t.Context(), plain); err != nil {
		t.Fatal(err)
	}
	w.waitBound(t, 30156, plain)
	// So does a pool.
	w.changePool(t, "edge", func(s *v1alpha1.PortPoolSpec) { s.Ranges = rangesOf("30155-30157,30159") })
	plain.Spec.Ports[0].NodePort = 30158
	w.changePool(t, "import", func(s *v1alpha1.PortPoolSpec) { s.Ranges = rangesOf("30150-30154,30158") })
	if err := w.Update(t.Context(), plain); err != nil {
		t.Fatal(err)
	}
	w.waitBound(t, 30158, plain)
	if got := r.transitions(t); got["imported"] != 6 {
		t.Errorf("transitions: %v, want 6 imported", got)
	}
}

// heldBack is a cluster whose cache has stopped seeing Services, or one claim, and goes on seeing the rest.
type heldBack struct {
	cluster.Cluster
	live  *countingReader
	since *atomic.Pointer[[]corev1.Service] // what it has seen last; nil: it sees
	claim *atomic.Pointer[v1alpha1.PortClaim]
}

func (h heldBack) GetCache() cache.Cache {
	return heldBackCache{h.Cluster.GetCache(), h.since, h.claim}
}
func (h heldBack) GetAPIReader() client.Reader { return h.live }

type heldBackCache struct {
	cache.Cache
	since *atomic.Pointer[[]corev1.Service]
	claim *atomic.Pointer[v1alpha1.PortClaim]
}

func (c heldBackCache) Get(ctx context.Context, key client.ObjectKey, o client.Object, of ...client.GetOption) error {
	if claim, ok := o.(*v1alpha1.PortClaim); ok {
		if old := c.claim.Load(); old != nil && old.Name == key.Name {
			old.DeepCopyInto(claim)
			return nil
		}
	}
	return c.Cache.Get(ctx, key, o, of...)
}

func (c heldBackCache) List(ctx context.Context, list client.ObjectList, of ...client.ListOption) error {
	services, ok := list.(*corev1.ServiceList)
	seen := c.since.Load()
	if !ok || seen == nil {
		return c.Cache.List(ctx, list, of...)
	}
	var o client.ListOptions
	o.ApplyOptions(of)
	for _, svc := range *seen {
		for _, p := range svc.Spec.Ports {
			if o.FieldSelector != nil && strings.HasSuffix(o.FieldSelector.String(), fmt.Sprintf("=%d", p.NodePort)) {
				services.Items = append(services.Items, *svc.DeepCopy())
			}
		}
	}
	return nil
}

// countingReader counts what is asked about Services.
type countingReader struct {
	client.Reader
	mu    sync.Mutex
	about map[string]int
}

func (r *countingReader) Get(ctx context.Context, key client.ObjectKey, o client.Object, of ...client.GetOption) error {
	if _, service := o.(*corev1.Service); service {
		r.mu.Lock()
		r.about[key.Name]++
		r.mu.Unlock()
	}
	return r.Reader.Get(ctx, key, o, of...)
}

func (r *countingReader) asked(name string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.about[name]
}

// waitAsked waits until a Service has been asked about once more.
func (r *countingReader) waitAsked(t *testing.T, name string, before int) {
	t.Helper()
	poll.Until(t, func(context.Context) error {
		if r.asked(name) == before {
			return fmt.Errorf("nobody asked about %s", name)
		}
		return nil
	})
}

// testHeldBack: nothing is freed, and nothing bound, by what a cache that is behind shows.
func testHeldBack(t *testing.T, w *world) {
	ns := w.namespace(t, nil)
	w.pool(t, "back", "30160-30169", 0)
	live := &countingReader{about: map[string]int{}}
	since, oldClaim := &atomic.Pointer[[]corev1.Service]{}, &atomic.Pointer[v1alpha1.PortClaim]{}
	w.run(t, settings{
		lifetime: time.Second,
		wrap: func(c cluster.Cluster) cluster.Cluster {
			live.Reader = c.GetAPIReader()
			return heldBack{c, live, since, oldClaim}
		},
	})
	gone := w.service(t, ns, "gone", 30160)
	w.waitBound(t, 30160, gone)
	old := []corev1.Service{*gone.DeepCopy()}

	// The cache sees no Service: one that is there and bound, and one whose request is long over.
	since.Store(&[]corev1.Service{})
	w.request(t, 30161, "back", named(ns, "new"))
	unseen := w.service(t, ns, "new", 30161)
	w.waitBound(t, 30161, unseen)
	w.request(t, 30162, "back", v1alpha1.ClaimingService{Namespace: ns, GenerateName: "gen-"})
	generated := w.service(t, ns, "gen-", 30162)
	w.waitBound(t, 30162, generated)
	claims := w.claims(t)
	for number, svc := range map[int32]*corev1.Service{30160: gone, 30161: unseen} {
		asked := live.asked(svc.Name)
		w.nudge(t, number)
		live.waitAsked(t, svc.Name, asked)
	}
	w.waitBound(t, 30160, gone)
	w.waitBound(t, 30161, unseen)
	unchanged(t, claims, w.claims(t))

	// The cache sees one that is gone, while another of its name is being created.
	since.Store(&old)
	w.delete(t, gone)
	asked := live.asked("gone")
	again := w.waitClaim(t, 30160)
	w.changeClaim(t, 30160, func(c *v1alpha1.PortClaim) {
		c.Status = v1alpha1.PortClaimStatus{Phase: v1alpha1.ClaimRequested, RequestedAgainAt: new(metav1.NewTime(time.Now().Add(time.Hour)))}
	})
	live.waitAsked(t, "gone", asked)
	w.nudge(t, 30160)
	if claim := w.waitClaim(t, 30160); claim.UID != again.UID || claim.Status.Phase != v1alpha1.ClaimRequested {
		t.Errorf("the claim of the Service that is being created is %+v", claim.Status)
	}
	w.waitBound(t, 30160, w.service(t, ns, "gone", 30160))

	// The cache sees a claim that has waited long enough, while a Service has asked for the number again.
	since.Store(nil)
	back := w.service(t, ns, "back", 30163)
	claim := w.waitBound(t, 30163, back).DeepCopy()
	for _, old := range []v1alpha1.PortClaimStatus{
		{Phase: v1alpha1.ClaimReleased, ReleasedAt: new(metav1.NewTime(time.Now().Add(-time.Hour)))},
		{Phase: v1alpha1.ClaimRequested, RequestedAgainAt: new(metav1.NewTime(time.Now().Add(-time.Hour)))},
	} {
		seen := claim.DeepCopy()
		seen.Status = old
		oldClaim.Store(seen)
		w.changeClaim(t, 30163, func(c *v1alpha1.PortClaim) {
			c.Status = v1alpha1.PortClaimStatus{Phase: v1alpha1.ClaimRequested, RequestedAgainAt: new(metav1.NewTime(time.Now().Add(time.Hour)))}
		})
		if err := client.IgnoreNotFound(w.Delete(t.Context(), back)); err != nil {
			t.Fatal(err)
		}
		asked := live.asked("back")
		w.nudge(t, 30163)
		live.waitAsked(t, "back", asked)
		asked = live.asked("back")
		w.nudge(t, 30163)
		live.waitAsked(t, "back", asked) // the first answer has been acted upon
		if got := w.waitClaim(t, 30163); got.UID != claim.UID || got.Status.Phase != v1alpha1.ClaimRequested {
			t.Errorf("the claim is %s, %+v, where an old one said %+v", got.UID, got.Status, old)
		}
	}
}

// changeClaim changes the status of a claim.
func (w *world) changeClaim(t *testing.T, number int32, change func(*v1alpha1.PortClaim)) {
	t.Helper()
	poll.Until(t, func(ctx context.Context) error {
		claim, err := w.claim(ctx, number)
		if err != nil || claim == nil {
			return fmt.Errorf("the claim of %d: %w", number, err)
		}
		change(claim)
		return w.Status().Update(ctx, claim)
	})
}

// waitClaim returns a claim that there must be.
func (w *world) waitClaim(t *testing.T, number int32) *v1alpha1.PortClaim {
	t.Helper()
	claim, err := w.claim(t.Context(), number)
	if err != nil || claim == nil {
		t.Fatalf("the claim of %d: %v", number, err)
	}
	return claim
}

// nudge changes a claim so that the controller looks at it.
func (w *world) nudge(t *testing.T, number int32) {
	t.Helper()
	patch := fmt.Sprintf(`{"metadata":{"labels":{"nudge":"%d"}}}`, time.Now().UnixNano())
	claim := &v1alpha1.PortClaim{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ClaimName(number)}}
	if err := w.Patch(t.Context(), claim, client.RawPatch("application/merge-patch+json", []byte(patch))); err != nil {
		t.Fatal(err)
	}
}
