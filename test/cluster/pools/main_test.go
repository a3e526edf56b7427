// Package pools proves the controllers of claims and status against a real API server, with the rights that ship: what it
// binds, what it frees, and that it frees nothing else while caches lie, leaders change and the control plane stops. In the
// storm, many clients want node ports of pools at once, from several replicas of the webhook in front of several API servers.
package pools

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/cluster"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/controller/claims"
	"github.com/portcullis-k8s/portcullis/pkg/controller/leader"
	"github.com/portcullis-k8s/portcullis/pkg/controller/status"
	"github.com/portcullis-k8s/portcullis/pkg/observe"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

func TestMain(m *testing.M) {
	logf.SetLogger(logr.Discard())
	rest.SetDefaultWarningHandler(rest.NoWarnings{})
	os.Exit(m.Run())
}

// TestPools is every test that needs the API server, for it takes longer to start than most of them. They come one after
// the other: every controller sees the whole cluster.
func TestPools(t *testing.T) {
	t.Parallel()
	w := &world{rig.RunAPI(t)}
	for _, c := range []struct {
		name string
		test func(*testing.T, *world)
	}{
		{"binds", testBinds},
		{"unconfirmed", testUnconfirmed},
		{"held by another", testHeldByAnother},
		{"quarantine", testQuarantine},
		{"import", testImport},
		{"held back", testHeldBack},
		{"usage", testUsage},
		{"conditions", testConditions},
		{"rest", testRest},
		{"shrink", testShrink},
		{"policies", testPolicies},
		{"host ports", testHostPorts},
		{"leaders", testLeaders},
		{"outage", testOutage},
		{"churn", testChurn},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Cleanup(func() { w.clear(t) })
			c.test(t, w)
		})
	}
}

// world is an API server that has the kinds of pools.
type world struct{ *rig.API }

// clear removes what a test has left.
func (w *world) clear(t *testing.T) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	for _, c := range []struct {
		list client.ObjectList
		of   []client.ListOption
	}{
		{&corev1.ServiceList{}, nil}, {&corev1.PodList{}, nil},
		{&v1alpha1.PortPoolList{}, nil}, {&v1alpha1.PortPolicyList{}, nil}, {&v1alpha1.PortClaimList{}, nil},
	} {
		if err := w.List(ctx, c.list, c.of...); err != nil {
			t.Fatal(err)
		}
		err := meta.EachListItem(c.list, func(o runtime.Object) error {
			object, ok := o.(client.Object)
			if !ok || object.GetName() == "kubernetes" {
				return nil
			}
			return client.IgnoreNotFound(w.Delete(ctx, object, client.GracePeriodSeconds(0)))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// settings of the controllers.
type settings struct {
	lifetime       time.Duration // of requests; 0: none ends
	statusInterval time.Duration // 0: a moment
	election       *leader.Election
	config         *rest.Config                          // nil: the account of the installation
	wrap           func(cluster.Cluster) cluster.Cluster // what the controllers take for the cluster
}

// running is the controllers of claims and status in a manager of their own, as a replica has them.
type running struct {
	metrics *prometheus.Registry
	stop    func() // and wait until it has ended; stopping twice does no harm
}

// run starts the controllers.
func (w *world) run(t *testing.T, s settings) *running {
	t.Helper()
	if s.config == nil {
		var err error
		if s.config, err = w.RESTConfigFor(rig.Account); err != nil {
			t.Fatal(err)
		}
	}
	manager, err := ctrl.NewManager(s.config, ctrl.Options{
		Scheme: w.Types, Cache: observe.CacheOptions(), Metrics: metricsserver.Options{BindAddress: "0"}, HealthProbeBindAddress: "0",
	})
	if err != nil {
		t.Fatal(err)
	}
	r := &running{metrics: prometheus.NewPedanticRegistry()}
	var seen cluster.Cluster = manager
	if s.wrap != nil {
		seen = s.wrap(manager)
	}
	nodePorts := ports.MustParseRange("30000-32767")
	claimController, err1 := claims.New(seen, claims.Options{
		NodePortRange: nodePorts, RequestLifetime: cmp.Or(s.lifetime, time.Hour), Metrics: claims.NewMetrics(r.metrics), Now: time.Now,
	})
	statusController, err2 := status.New(seen, status.Options{
		NodePortRange: nodePorts, MinInterval: cmp.Or(s.statusInterval, 100*time.Millisecond), Metrics: status.NewMetrics(r.metrics),
	})
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	runner := &leader.Runner{
		Election: s.election, After: []<-chan struct{}{claimController.Synced(), statusController.Synced()},
		Tasks: []func(context.Context){claimController.Lead, statusController.Lead},
	}
	if err := errors.Join(manager.Add(claimController), manager.Add(statusController), manager.Add(runner)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(logf.IntoContext(context.WithoutCancel(t.Context()), logr.Discard()))
	over := make(chan error, 1)
	go func() { over <- manager.Start(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-over; err != nil {
			t.Errorf("the manager ended with %v", err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

// transitions returns portcullis_claim_transitions_total.
func (r *running) transitions(t *testing.T) map[string]int {
	t.Helper()
	return r.values(t, "portcullis_claim_transitions_total", "to")
}

// values returns a metric by the values of its labels, joined by a space.
func (r *running) values(t *testing.T, name string, labels ...string) map[string]int {
	t.Helper()
	families, err := r.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]int{}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var key []string
			for _, l := range m.GetLabel() {
				if slices.Contains(labels, l.GetName()) {
					key = append(key, l.GetValue())
				}
			}
			values[strings.Join(key, " ")] = int(m.GetCounter().GetValue() + m.GetGauge().GetValue())
		}
	}
	return values
}

// namespace makes a namespace with labels.
func (w *world) namespace(t *testing.T, labels map[string]string) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "pools-", Labels: labels}}
	if err := w.Create(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	return ns.Name
}

// pool makes a pool of "30100-30109", or of several ranges, for every namespace.
func (w *world) pool(t *testing.T, name, ranges string, reuseDelay time.Duration, change ...func(*v1alpha1.PortPoolSpec)) *v1alpha1.PortPool {
	t.Helper()
	p := &v1alpha1.PortPool{ObjectMeta: metav1.ObjectMeta{Name: name}}
	p.Spec.Ranges = rangesOf(ranges)
	p.Spec.NamespaceSelector = &v1alpha1.LabelSelector{}
	p.Spec.Allocation.ReuseDelay = &metav1.Duration{Duration: reuseDelay}
	for _, c := range change {
		c(&p.Spec)
	}
	if err := w.Create(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	return p
}

func rangesOf(text string) []v1alpha1.PortRange {
	var all []v1alpha1.PortRange
	for part := range strings.SplitSeq(text, ",") {
		r := ports.MustParseRange(part)
		all = append(all, v1alpha1.PortRange{Port: int32(r.First), EndPort: new(int32(r.Last))})
	}
	return all
}

// changePool changes the spec of a pool.
func (w *world) changePool(t *testing.T, name string, change func(*v1alpha1.PortPoolSpec)) {
	t.Helper()
	poll.Until(t, func(ctx context.Context) error {
		var p v1alpha1.PortPool
		if err := w.Get(ctx, client.ObjectKey{Name: name}, &p); err != nil {
			return err
		}
		change(&p.Spec)
		return w.Update(ctx, &p)
	})
}

// request makes the claim of a number as the webhook does, before there is a Service.
func (w *world) request(t *testing.T, number int32, pool string, of v1alpha1.ClaimingService) *v1alpha1.PortClaim {
	t.Helper()
	claim := claimOf(number, pool, of)
	if err := w.Create(t.Context(), claim); err != nil {
		t.Fatal(err)
	}
	return claim
}

func claimOf(number int32, pool string, of v1alpha1.ClaimingService) *v1alpha1.PortClaim {
	return &v1alpha1.PortClaim{
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ClaimName(number)},
		Spec:       v1alpha1.PortClaimSpec{Port: number, Pool: pool, Service: of, RequestedAt: metav1.Now()},
	}
}

func named(namespace, name string) v1alpha1.ClaimingService {
	return v1alpha1.ClaimingService{Namespace: namespace, Name: name}
}

// service makes a Service that holds numbers.
func (w *world) service(t *testing.T, namespace, name string, numbers ...int32) *corev1.Service {
	t.Helper()
	svc := serviceOf(namespace, name, numbers...)
	if err := w.Create(t.Context(), svc); err != nil {
		t.Fatal(err)
	}
	return svc
}

// serviceOf is a Service with a port for each number, or of type ClusterIP; a name that ends in - is left to the API server to complete.
func serviceOf(namespace, name string, numbers ...int32) *corev1.Service {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort}}
	if strings.HasSuffix(name, "-") {
		svc.Name, svc.GenerateName = "", name
	}
	if len(numbers) == 0 {
		svc.Spec.Type, svc.Spec.Ports = corev1.ServiceTypeClusterIP, []corev1.ServicePort{{Port: 80}}
	}
	for i, n := range numbers {
		svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: "p" + strconv.Itoa(i), Port: int32(80 + i), NodePort: n})
	}
	return svc
}

// claim returns the claim of a number, nil if there is none.
func (w *world) claim(ctx context.Context, number int32) (*v1alpha1.PortClaim, error) {
	var claim v1alpha1.PortClaim
	err := w.Get(ctx, client.ObjectKey{Name: v1alpha1.ClaimName(number)}, &claim)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return &claim, err
}

// waitBound waits until a number is bound to a Service.
func (w *world) waitBound(t *testing.T, number int32, svc *corev1.Service) *v1alpha1.PortClaim {
	t.Helper()
	var found *v1alpha1.PortClaim
	poll.Until(t, func(ctx context.Context) error {
		claim, err := w.claim(ctx, number)
		if err != nil {
			return err
		}
		found = claim
		return isBound(claim, number, svc)
	})
	return found
}

func isBound(claim *v1alpha1.PortClaim, number int32, svc *corev1.Service) error {
	switch {
	case claim == nil:
		return fmt.Errorf("%d of %s/%s has no claim", number, svc.Namespace, svc.Name)
	case claim.Status.Phase != v1alpha1.ClaimBound || claim.Status.ServiceUID != string(svc.UID),
		claim.Spec.Service.Namespace != svc.Namespace || claim.Spec.Service.Name != svc.Name,
		!meta.IsStatusConditionTrue(claim.Status.Conditions, v1alpha1.ConditionBound):
		return fmt.Errorf("%d is not bound to %s/%s (%s): %+v, %+v", number, svc.Namespace, svc.Name, svc.UID, claim.Spec, claim.Status)
	default:
		return nil
	}
}

// waitPhase waits until a number's claim is in a phase for a reason.
func (w *world) waitPhase(t *testing.T, number int32, phase v1alpha1.ClaimPhase, reason string) *v1alpha1.PortClaim {
	t.Helper()
	var found *v1alpha1.PortClaim
	poll.Until(t, func(ctx context.Context) error {
		claim, err := w.claim(ctx, number)
		if err != nil {
			return err
		}
		found = claim
		if claim == nil {
			return fmt.Errorf("%d has no claim, want one that is %s: %s", number, phase, reason)
		}
		c := meta.FindStatusCondition(claim.Status.Conditions, v1alpha1.ConditionBound)
		if claim.Status.Phase != phase || c == nil || c.Reason != reason {
			return fmt.Errorf("the claim of %d is %+v, want %s: %s", number, claim.Status, phase, reason)
		}
		return nil
	})
	return found
}

// waitFree waits until a number has no claim.
func (w *world) waitFree(t *testing.T, number int32) {
	t.Helper()
	poll.Until(t, func(ctx context.Context) error {
		claim, err := w.claim(ctx, number)
		if err == nil && claim != nil {
			err = fmt.Errorf("%d is still claimed: %+v", number, claim.Status)
		}
		return err
	})
}

// waitEvent waits for an event about an object, and returns its text.
func (w *world) waitEvent(t *testing.T, reason, kind, namespace, name string) string {
	t.Helper()
	var note string
	poll.Until(t, func(ctx context.Context) error {
		var list eventsv1.EventList
		if err := w.List(ctx, &list); err != nil {
			return err
		}
		for i := range list.Items {
			e := &list.Items[i]
			if e.Reason == reason && e.Regarding.Kind == kind && e.Regarding.Namespace == namespace && e.Regarding.Name == name {
				note = e.Note
				return nil
			}
		}
		return fmt.Errorf("no event %s about %s %s/%s among %d", reason, kind, namespace, name, len(list.Items))
	})
	return note
}

func (w *world) delete(t *testing.T, o client.Object) {
	t.Helper()
	if err := w.Delete(t.Context(), o); err != nil {
		t.Fatal(err)
	}
}

// claims returns the UIDs of all claims by name.
func (w *world) claims(t *testing.T) map[string]string {
	t.Helper()
	var list v1alpha1.PortClaimList
	if err := w.List(t.Context(), &list); err != nil {
		t.Fatal(err)
	}
	uids := map[string]string{}
	for i := range list.Items {
		uids[list.Items[i].Name] = string(list.Items[i].UID)
	}
	return uids
}

// unchanged fails if a claim went or was made anew.
func unchanged(t *testing.T, before, after map[string]string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if after[name] != before[name] {
			t.Errorf("the claim %s was %s and is %q", name, before[name], after[name])
		}
	}
}
