package pools

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
)

// waitPool waits until what is asked of a pool's status has the answer that is wanted.
func waitPool[T any](t *testing.T, w *world, name string, ask func(*v1alpha1.PortPool) T, want T) {
	t.Helper()
	poll.Until(t, func(ctx context.Context) error {
		var p v1alpha1.PortPool
		if err := w.Get(ctx, client.ObjectKey{Name: name}, &p); err != nil {
			return err
		}
		if p.Status.ObservedGeneration != p.Generation {
			return fmt.Errorf("the status of %s is about generation %d of %d", name, p.Status.ObservedGeneration, p.Generation)
		}
		if diff := cmp.Diff(want, ask(&p)); diff != "" {
			return fmt.Errorf("PortPool %s: %s", name, diff)
		}
		return nil
	})
}

// usage is total, allocated, available, quarantined, foreign and the share in percent.
func usage(p *v1alpha1.PortPool) string {
	u := p.Status.Usage
	if u == nil || p.Status.UtilizationPercent == nil {
		return "none"
	}
	return fmt.Sprintf("%d: %d allocated, %d available, %d quarantined, %d foreign, %d%%", u.Total, u.Allocated, u.Available, u.Quarantined, u.Foreign, *p.Status.UtilizationPercent)
}

// conditions are the reasons, with a ! before those of conditions that are False.
func conditions(p *v1alpha1.PortPool) string {
	var all []string
	for _, kind := range []string{
		v1alpha1.ConditionAccepted, v1alpha1.ConditionProgrammed, v1alpha1.ConditionOverlapping, v1alpha1.ConditionExhausted, v1alpha1.ConditionDrained,
	} {
		c := meta.FindStatusCondition(p.Status.Conditions, kind)
		switch {
		case c == nil || c.ObservedGeneration != p.Generation:
			all = append(all, "-")
		case c.Status == metav1.ConditionTrue:
			all = append(all, c.Reason)
		default:
			all = append(all, "!"+c.Reason)
		}
	}
	return strings.Join(all, " ")
}

func message(kind string) func(*v1alpha1.PortPool) string {
	return func(p *v1alpha1.PortPool) string {
		if c := meta.FindStatusCondition(p.Status.Conditions, kind); c != nil {
			return c.Message
		}
		return ""
	}
}

func effective(p *v1alpha1.PortPool) string {
	var all []string
	for _, r := range p.Status.EffectiveRanges {
		all = append(all, fmt.Sprintf("%d-%d", r.Port, r.Last()))
	}
	return strings.Join(all, ",")
}

// testUsage: the count of a pool's numbers follows what happens.
func testUsage(t *testing.T, w *world) {
	r := w.run(t, settings{})
	mine, others := w.namespace(t, map[string]string{"usage": "mine"}), w.namespace(t, nil)
	w.pool(t, "usage", "30170-30179", time.Hour, func(s *v1alpha1.PortPoolSpec) {
		s.NamespaceSelector.MatchLabels = map[string]v1alpha1.LabelValue{"usage": "mine"}
	})
	wait := func(want string) {
		t.Helper()
		waitPool(t, w, "usage", usage, want)
	}
	wait("10: 0 allocated, 10 available, 0 quarantined, 0 foreign, 0%")
	a := w.service(t, mine, "a", 30170, 30171)
	wait("10: 2 allocated, 8 available, 0 quarantined, 0 foreign, 20%")
	w.request(t, 30172, "usage", named(mine, "b"))
	wait("10: 3 allocated, 7 available, 0 quarantined, 0 foreign, 30%")
	b := w.service(t, mine, "b", 30172)
	w.service(t, others, "foreign", 30173)
	w.pod(t, others, "pod", 30174, false)
	wait("10: 3 allocated, 5 available, 0 quarantined, 2 foreign, 50%")
	w.waitBound(t, 30172, b)
	w.delete(t, b)
	wait("10: 2 allocated, 5 available, 1 quarantined, 2 foreign, 50%")
	w.waitBound(t, 30170, a)
	w.delete(t, a)
	wait("10: 0 allocated, 5 available, 3 quarantined, 2 foreign, 50%")
	matched := func(p *v1alpha1.PortPool) int32 { return *p.Status.MatchedNamespaces }
	waitPool(t, w, "usage", matched, 1)
	w.namespace(t, map[string]string{"usage": "mine"})
	waitPool(t, w, "usage", matched, 2)
	waitPool(t, w, "usage", effective, "30170-30179")

	want := map[string]int{"usage total": 10, "usage allocated": 0, "usage available": 5, "usage quarantined": 3, "usage foreign": 2}
	if diff := cmp.Diff(want, r.values(t, "portcullis_pool_ports", "pool", "state")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]int{"bound": 0, "requested": 0, "released": 3}, r.values(t, "portcullis_claims", "phase")); diff != "" {
		t.Error(diff)
	}
	w.delete(t, &v1alpha1.PortPool{ObjectMeta: metav1.ObjectMeta{Name: "usage"}})
	poll.Until(t, func(context.Context) error {
		if left := r.values(t, "portcullis_pool_ports", "pool", "state"); len(left) > 0 {
			return fmt.Errorf("a pool that is gone has %v", left)
		}
		return nil
	})
}

// testConditions: what is said of pools alone, beside each other, and when they are full or empty.
func testConditions(t *testing.T, w *world) {
	w.run(t, settings{})
	ns := w.namespace(t, nil)
	shared := func(s *v1alpha1.PortPoolSpec) { s.Sharing = v1alpha1.Shared }
	w.pool(t, "outside", "40000-40009", 0)
	w.pool(t, "partly", "32760-32769", 0)
	w.pool(t, "a-first", "30200-30209", 0)
	w.pool(t, "b-second", "30205-30206", 0)
	w.pool(t, "c-third", "30209-30214", 0)
	w.pool(t, "shared-a", "30215-30219", 0, shared)
	w.pool(t, "shared-b", "30219", 0, shared)
	w.pool(t, "disabled", "30240-30249", 0, func(s *v1alpha1.PortPoolSpec) { s.State = v1alpha1.PoolDisabled })
	for name, want := range map[string]string{
		"outside":  "!OutsideServiceNodePortRange !Pending !None NoPortLeft Empty",
		"partly":   "Valid Serving !None !PortsAvailable Empty",
		"a-first":  "Valid Serving PortsKept !PortsAvailable Empty",
		"b-second": "!Superseded !Pending PortsTaken NoPortLeft Empty",
		"c-third":  "Valid Serving PortsTaken !PortsAvailable Empty",
		"shared-a": "Valid Serving PortsShared !PortsAvailable Empty",
		"shared-b": "Valid Serving PortsShared !PortsAvailable Empty",
		"disabled": "Valid Serving !None !PortsAvailable Empty",
	} {
		waitPool(t, w, name, conditions, want)
	}
	for name, want := range map[string]string{
		"outside": "", "partly": "32760-32767", "a-first": "30200-30209", "b-second": "", "c-third": "30210-30214", "disabled": "",
	} {
		waitPool(t, w, name, effective, want)
	}
	waitPool(t, w, "c-third", message(v1alpha1.ConditionOverlapping),
		"spec.ranges: a stronger pool keeps 30209 (PortPool a-first); take the numbers out of spec.ranges")
	waitPool(t, w, "a-first", message(v1alpha1.ConditionOverlapping),
		"this pool keeps what another one names too, 30205-30206 (PortPool b-second), 30209 (PortPool c-third); take the numbers out of that one")
	waitPool(t, w, "outside", message(v1alpha1.ConditionAccepted),
		"spec.ranges: the cluster accepts none of 40000-40009 as nodePorts; choose numbers inside its nodePort range")

	// Full, and not any more.
	w.pool(t, "full", "30250-30251", 0, func(s *v1alpha1.PortPoolSpec) { s.Allocation.ExplicitOnly = rangesOf("30251") })
	svc := w.service(t, ns, "last", 30250)
	waitPool(t, w, "full", conditions, "Valid Serving !None NoPortLeft !InUse")
	if note := w.waitEvent(t, "PoolExhausted", "PortPool", "", "full"); !strings.Contains(note, "of 2 numbers 1 are held by those whom the pool serves") {
		t.Errorf("the event says %q", note)
	}
	w.service(t, ns, "by-number", 30251)
	waitPool(t, w, "full", usage, "2: 2 allocated, 0 available, 0 quarantined, 0 foreign, 100%")
	w.delete(t, svc)
	waitPool(t, w, "full", conditions, "Valid Serving !None !PortsAvailable !InUse")
	if got := w.events(t, "PoolExhausted", "full"); got != 1 {
		t.Errorf("%d events PoolExhausted, want one for the one time", got)
	}

	// Drained.
	w.changePool(t, "full", func(s *v1alpha1.PortPoolSpec) { s.State = v1alpha1.PoolDraining })
	waitPool(t, w, "full", conditions, "Valid Serving !None !PortsAvailable !InUse")
	w.delete(t, serviceOf(ns, "by-number"))
	waitPool(t, w, "full", conditions, "Valid Serving !None !PortsAvailable Empty")

	// The stronger pool goes.
	w.delete(t, &v1alpha1.PortPool{ObjectMeta: metav1.ObjectMeta{Name: "a-first"}})
	waitPool(t, w, "b-second", conditions, "Valid Serving !None !PortsAvailable Empty")
	waitPool(t, w, "c-third", effective, "30209-30214")

	// What is the same is not written again, when another pool has been looked at.
	version := func(p *v1alpha1.PortPool) string { return p.ResourceVersion }
	var partly v1alpha1.PortPool
	if err := w.Get(t.Context(), client.ObjectKey{Name: "partly"}, &partly); err != nil {
		t.Fatal(err)
	}
	w.pool(t, "last", "30255", 0)
	waitPool(t, w, "last", conditions, "Valid Serving !None !PortsAvailable Empty")
	waitPool(t, w, "partly", version, partly.ResourceVersion)
}

// testRest: status is written once in a while, whatever happens meanwhile.
func testRest(t *testing.T, w *world) {
	ns := w.namespace(t, nil)
	w.pool(t, "rest", "30260-30269", 0)
	w.run(t, settings{statusInterval: time.Hour})
	waitPool(t, w, "rest", usage, "10: 0 allocated, 10 available, 0 quarantined, 0 foreign, 0%")
	for n := int32(30260); n < 30265; n++ {
		w.waitBound(t, n, w.service(t, ns, fmt.Sprint("s", n), n))
	}
	waitPool(t, w, "rest", usage, "10: 0 allocated, 10 available, 0 quarantined, 0 foreign, 0%")
}

// events counts the events of a reason about an object, however often each came.
func (w *world) events(t *testing.T, reason, name string) int {
	t.Helper()
	var list eventsv1.EventList
	if err := w.List(t.Context(), &list); err != nil {
		t.Fatal(err)
	}
	n := 0
	for i := range list.Items {
		if e := &list.Items[i]; e.Reason == reason && e.Regarding.Name == name {
			n++
			if e.Series != nil {
				n += int(e.Series.Count) - 1
			}
		}
	}
	return n
}

// testShrink: a Service that falls out of its pool stays as it is, and is told of.
func testShrink(t *testing.T, w *world) {
	w.run(t, settings{})
	ns := w.namespace(t, nil)
	w.pool(t, "shrink", "30220-30229", time.Hour)
	in, out := w.service(t, ns, "in", 30220), w.service(t, ns, "out", 30229)
	w.waitBound(t, 30220, in)
	claim := w.waitBound(t, 30229, out)
	w.changePool(t, "shrink", func(s *v1alpha1.PortPoolSpec) { s.Ranges = rangesOf("30220-30224") })
	w.service(t, ns, "stray", 30228)
	sample := func(name string, port int32, reason v1alpha1.OutOfPoolReason) v1alpha1.OutOfPoolPort {
		return v1alpha1.OutOfPoolPort{Kind: "Service", Namespace: ns, Name: name, Port: port, Protocol: v1alpha1.TCP, Reason: reason}
	}
	waitPool(t, w, "shrink", func(p *v1alpha1.PortPool) []v1alpha1.OutOfPoolPort { return p.Status.OutOfPool },
		[]v1alpha1.OutOfPoolPort{sample("out", 30229, v1alpha1.RangeShrunk), sample("stray", 30228, v1alpha1.NotAllocated)})
	waitPool(t, w, "shrink", func(p *v1alpha1.PortPool) int32 { return *p.Status.OutOfPoolCount }, 2)
	note := w.waitEvent(t, "PortOutOfPool", "Service", ns, "out")
	if want := "30229 is outside PortPool shrink, which serves this Service; it stays allocated: change it to a port of the pool when it suits you"; note != want {
		t.Errorf("the event says %q, want %q", note, want)
	}
	w.waitEvent(t, "PortOutOfPool", "Service", ns, "stray")
	var now corev1.Service
	if err := w.Get(t.Context(), client.ObjectKeyFromObject(out), &now); err != nil || now.ResourceVersion != out.ResourceVersion {
		t.Errorf("the Service was touched: %v, %v", now.ResourceVersion, err)
	}
	if got := w.waitBound(t, 30229, out); got.UID != claim.UID {
		t.Error("the claim was made anew")
	}
	// What has fallen out is drained too before the pool may go.
	w.delete(t, in)
	w.changePool(t, "shrink", func(s *v1alpha1.PortPoolSpec) { s.Allocation.ReuseDelay.Duration, s.State = 0, v1alpha1.PoolDraining })
	w.waitFree(t, 30220)
	waitPool(t, w, "shrink", conditions, "Valid Serving !None !PortsAvailable !InUse")
	w.delete(t, out)
	waitPool(t, w, "shrink", conditions, "Valid Serving !None !PortsAvailable Empty")
}

// testPolicies: of a policy it is said that it is understood, and the rest of its status is left alone.
func testPolicies(t *testing.T, w *world) {
	w.run(t, settings{})
	w.namespace(t, map[string]string{"policy": "here"})
	p := &v1alpha1.PortPolicy{ObjectMeta: metav1.ObjectMeta{Name: "policy"}}
	p.Spec.NamespaceSelector = &v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"policy": "here"}}
	p.Spec.NodePorts = &v1alpha1.NodePortPolicy{Mode: v1alpha1.NodePortsPoolOnly}
	if err := w.Create(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	wait := func(matched int32) {
		t.Helper()
		poll.Until(t, func(ctx context.Context) error {
			if err := w.Get(ctx, client.ObjectKeyFromObject(p), p); err != nil {
				return err
			}
			c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionAccepted)
			if c == nil || c.Reason != v1alpha1.ReasonValid || p.Status.MatchedNamespaces == nil || *p.Status.MatchedNamespaces != matched || p.Status.ObservedGeneration != p.Generation {
				return fmt.Errorf("the status is %+v, want Accepted and %d namespaces", p.Status, matched)
			}
			return nil
		})
	}
	wait(1)
	p.Status.Violations = new(int32(3))
	if err := w.Status().Update(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	w.namespace(t, map[string]string{"policy": "here"})
	wait(2)
	if p.Status.Violations == nil || *p.Status.Violations != 3 {
		t.Errorf("violations are %v, want what was written there", p.Status.Violations)
	}
}

// pod makes a pod with a port of its node.
func (w *world) pod(t *testing.T, namespace, name string, port int32, hostNetwork bool) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	pod.Spec.HostNetwork = hostNetwork
	pod.Spec.Containers = []corev1.Container{{Name: "c", Image: "i", Ports: []corev1.ContainerPort{{ContainerPort: port, HostPort: port}}}}
	if err := w.Create(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	return pod
}

// testHostPorts: a pool for hostPorts counts pods, and never has claims.
func testHostPorts(t *testing.T, w *world) {
	w.run(t, settings{})
	ns := w.namespace(t, nil)
	w.pool(t, "hosts", "20000-20009", 10*time.Minute, func(s *v1alpha1.PortPoolSpec) { s.For = v1alpha1.HostPorts })
	pod := w.pod(t, ns, "in", 20000, false)
	w.pod(t, ns, "out", 8080, false)
	w.pod(t, ns, "network", 20001, true)
	waitPool(t, w, "hosts", usage, "10: 1 allocated, 8 available, 0 quarantined, 1 foreign, 20%")
	waitPool(t, w, "hosts", conditions, "Valid Serving !None !PortsAvailable !InUse")
	waitPool(t, w, "hosts", func(p *v1alpha1.PortPool) []v1alpha1.OutOfPoolPort { return p.Status.OutOfPool },
		[]v1alpha1.OutOfPoolPort{{Kind: "Pod", Namespace: ns, Name: "out", Port: 8080, Protocol: v1alpha1.TCP, Reason: v1alpha1.NotAllocated}})
	if err := w.Delete(t.Context(), pod, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	waitPool(t, w, "hosts", usage, "10: 0 allocated, 9 available, 0 quarantined, 1 foreign, 10%")
	if claims := w.claims(t); len(claims) != 0 {
		t.Errorf("claims of pods: %v", claims)
	}
}
