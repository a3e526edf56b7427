package status

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/controller/internal/fake"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// aPool is a pool of "30100-30109" for namespaces with team=blue.
func aPool(name, ranges string, change ...func(*pool.Pool)) pool.Pool {
	all, err := ports.ParseRanges(ranges)
	if err != nil {
		panic(err)
	}
	p := pool.Pool{
		Name: name, For: pool.NodePorts, Ranges: all, Mode: pool.Auto, Exclusive: true, State: pool.Active,
		Namespaces: selector{labels.SelectorFromSet(labels.Set{"team": "blue"})}, Created: time.Unix(0, 0),
	}
	for _, f := range change {
		f(&p)
	}
	return p
}

type selector struct{ labels.Selector }

func (s selector) Matches(set map[string]string) bool { return s.Selector.Matches(labels.Set(set)) }

// viewOf is a view of pools, with the namespaces blue and red.
func viewOf(pools ...pool.Pool) *view {
	return &view{
		pools: pool.New(pools, ports.MustParseRange("30000-32767")), invalid: map[string]error{},
		namespaces: map[string]map[string]string{"blue": {"team": "blue"}, "red": {"team": "red"}},
	}
}

// hold adds a Service that has ports, and returns v.
func (v *view) hold(namespace, name string, ports ...uint16) *view {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: "uid"}}
	for _, n := range ports {
		svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{NodePort: int32(n)})
	}
	v.count(svc)
	return v
}

func (v *view) claimed(port uint16, phase v1alpha1.ClaimPhase, poolName, uid string) *view {
	v.count(&v1alpha1.PortClaim{
		Spec:   v1alpha1.PortClaimSpec{Port: int32(port), Pool: poolName},
		Status: v1alpha1.PortClaimStatus{Phase: phase, ServiceUID: uid},
	})
	return v
}

// summary is a status in one line: effective ranges | usage | reasons, with ! where False | what is out of the pool.
func summary(s v1alpha1.PortPoolStatus) string {
	var ranges, reasons, out []string
	for _, r := range s.EffectiveRanges {
		ranges = append(ranges, fmt.Sprintf("%d-%d", r.Port, r.Last()))
	}
	for _, kind := range []string{v1alpha1.ConditionAccepted, v1alpha1.ConditionProgrammed, v1alpha1.ConditionOverlapping, v1alpha1.ConditionExhausted, v1alpha1.ConditionDrained} {
		c := meta.FindStatusCondition(s.Conditions, kind)
		if c == nil {
			c = &metav1.Condition{Reason: "missing"}
		}
		reasons = append(reasons, map[metav1.ConditionStatus]string{metav1.ConditionFalse: "!"}[c.Status]+c.Reason)
	}
	for _, o := range s.OutOfPool {
		out = append(out, fmt.Sprintf("%s/%s:%d %s", o.Namespace, o.Name, o.Port, o.Reason))
	}
	usage := "-"
	if u := s.Usage; u != nil {
		usage = fmt.Sprintf("%d %d %d %d %d", u.Total, u.Allocated, u.Available, u.Quarantined, u.Foreign)
	}
	return strings.TrimRight(strings.Join([]string{strings.Join(ranges, ","), usage, strings.Join(reasons, " "), strings.Join(out, ", ")}, " | "), " |")
}

func TestPoolStatus(t *testing.T) {
	shared := func(p *pool.Pool) { p.Exclusive = false }
	explicit := func(p *pool.Pool) { p.Mode = pool.Explicit }
	state := func(s pool.State) func(*pool.Pool) { return func(p *pool.Pool) { p.State = s } }
	younger := func(p *pool.Pool) { p.Created = time.Unix(1, 0) }
	hosts := func(p *pool.Pool) { p.For = pool.HostPorts }
	reserved := func(p *pool.Pool) { p.ExplicitOnly = ports.Ranges{ports.MustParseRange("30100")} }
	const fine = "Valid Serving !None !PortsAvailable "
	small := aPool("p", "30100-30101")
	for _, c := range []struct {
		name string
		view *view
		want string
	}{
		{"empty", viewOf(small), "30100-30101 | 2 0 2 0 0 | " + fine + "Empty"},
		{"held by one whom it serves", viewOf(small).hold("blue", "a", 30100), "30100-30101 | 2 1 1 0 0 | " + fine + "!InUse"},
		{"held by another", viewOf(small).hold("red", "a", 30100), "30100-30101 | 2 0 1 0 1 | " + fine + "Empty"},
		{"full", viewOf(small).hold("blue", "a", 30100, 30101), "30100-30101 | 2 2 0 0 0 | Valid Serving !None NoPortLeft !InUse"},
		{"full of others", viewOf(small).hold("red", "a", 30100, 30101), "30100-30101 | 2 0 0 0 2 | Valid Serving !None NoPortLeft Empty"},
		{"being created", viewOf(small).claimed(30100, "", "p", ""), "30100-30101 | 2 1 1 0 0 | " + fine + "!InUse"},
		{"being created for another pool", viewOf(small).claimed(30100, "", "q", ""), "30100-30101 | 2 0 1 0 1 | " + fine + "Empty"},
		{"quarantined", viewOf(small).claimed(30100, v1alpha1.ClaimReleased, "p", "uid"), "30100-30101 | 2 0 1 1 0 | " + fine + "!InUse"},
		{"claimed and held count once", viewOf(small).claimed(30100, v1alpha1.ClaimBound, "p", "uid").hold("blue", "a", 30100), "30100-30101 | 2 1 1 0 0 | " + fine + "!InUse"},
		{"only by number is left", viewOf(aPool("p", "30100-30101", reserved)).hold("blue", "a", 30101), "30100-30101 | 2 1 1 0 0 | Valid Serving !None NoPortLeft !InUse"},
		{"Explicit gives what it has", viewOf(aPool("p", "30100-30101", reserved, explicit)).hold("blue", "a", 30101), "30100-30101 | 2 1 1 0 0 | " + fine + "!InUse"},
		{"disabled", viewOf(aPool("p", "30100", state(pool.Disabled))).hold("blue", "a", 30100), " | 0 0 0 0 0 | " + fine + "Empty"},
		{"draining", viewOf(aPool("p", "30100-30101", state(pool.Draining))).hold("blue", "a", 30100), "30100-30101 | 2 1 1 0 0 | " + fine + "!InUse"},
		{"outside", viewOf(aPool("p", "40000")), " | 0 0 0 0 0 | !OutsideServiceNodePortRange !Pending !None NoPortLeft Empty"},
		{"for host ports nothing is outside", viewOf(aPool("p", "40000", hosts)), "40000-40000 | 1 0 1 0 0 | " + fine + "Empty"},
		{"a host port on a node port", viewOf(aPool("p", "30100-30101", hosts)).hold("blue", "a", 30100), "30100-30101 | 2 0 1 0 1 | " + fine + "Empty"},
		{"all taken by an older pool", viewOf(aPool("p", "30100", younger), aPool("q", "30100-30109")), " | 0 0 0 0 0 | !Superseded !Pending PortsTaken NoPortLeft Empty"},
		{"some taken by an older pool", viewOf(aPool("p", "30100-30102", younger), aPool("q", "30102-30109")), "30100-30101 | 2 0 2 0 0 | Valid Serving PortsTaken !PortsAvailable Empty"},
		{"kept from a younger pool", viewOf(small, aPool("q", "30101-30109", younger)), "30100-30101 | 2 0 2 0 0 | Valid Serving PortsKept !PortsAvailable Empty"},
		{"shared by two", viewOf(aPool("p", "30100", shared), aPool("q", "30100", shared)), "30100-30100 | 1 0 1 0 0 | Valid Serving PortsShared !PortsAvailable Empty"},
		{"in none of its pools", viewOf(small).hold("blue", "a", 30200), "30100-30101 | 2 0 2 0 0 | " + fine + "Empty | blue/a:30200 NotAllocated"},
		{"of a pool once", viewOf(small).hold("blue", "a", 30200).claimed(30200, v1alpha1.ClaimBound, "p", "uid"), "30100-30101 | 2 0 2 0 0 | " + fine + "!InUse | blue/a:30200 RangeShrunk"},
		{"of an Explicit pool once", viewOf(aPool("p", "30100", explicit)).hold("blue", "a", 30200).claimed(30200, v1alpha1.ClaimBound, "p", "uid"), "30100-30100 | 1 0 1 0 0 | " + fine + "!InUse | blue/a:30200 RangeShrunk"},
		{"of one whom it serves no longer", viewOf(small).hold("red", "a", 30200).claimed(30200, v1alpha1.ClaimBound, "p", "uid"), "30100-30101 | 2 0 2 0 0 | " + fine + "Empty"},
		{"of another pool that serves it", viewOf(small, aPool("q", "30200")).hold("blue", "a", 30200), "30100-30101 | 2 0 2 0 0 | " + fine + "Empty"},
		{"nobody's", viewOf(small).hold("red", "a", 30200), "30100-30101 | 2 0 2 0 0 | " + fine + "Empty"},
	} {
		object := &v1alpha1.PortPool{ObjectMeta: metav1.ObjectMeta{Name: "p", Generation: 7}}
		status, _ := c.view.poolStatus(object, c.view.outOfPool()["p"])
		if diff := cmp.Diff(c.want, summary(status)); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
		if status.ObservedGeneration != 7 || *status.MatchedNamespaces != 1 || int(*status.OutOfPoolCount) != len(status.OutOfPool) {
			t.Errorf("%s: %+v", c.name, status)
		}
	}
}

// TestNotUnderstood: a pool that the API server took before it had a rule says so in every condition.
func TestNotUnderstood(t *testing.T) {
	v := viewOf()
	v.invalid["p"] = fmt.Errorf("spec.namespaceSelector: is no label selector")
	status, usage := v.poolStatus(&v1alpha1.PortPool{ObjectMeta: metav1.ObjectMeta{Name: "p"}}, nil)
	if got, want := summary(status), " | - | !InvalidSelector !Pending !None NoPortLeft Empty"; got != want || usage != nil {
		t.Errorf("%s, want %s", got, want)
	}
	if got := status.Conditions[0].Message; got != "spec.namespaceSelector: is no label selector; correct it" {
		t.Error(got)
	}
}

// TestBounds: the API server refuses a status with more samples or ranges.
func TestBounds(t *testing.T) {
	var ranges []string
	for n := 30000; n < 31000; n += 2 {
		ranges = append(ranges, fmt.Sprint(n))
	}
	v := viewOf(aPool("p", strings.Join(ranges, ",")))
	for n := uint16(31000); n < 31030; n++ {
		v.hold("blue", fmt.Sprint("s", n), n)
	}
	status, _ := v.poolStatus(&v1alpha1.PortPool{ObjectMeta: metav1.ObjectMeta{Name: "p"}}, v.outOfPool()["p"])
	if len(status.EffectiveRanges) != 256 || status.Usage.Total != 500 || len(status.OutOfPool) != 20 || *status.OutOfPoolCount != 30 {
		t.Errorf("%d ranges, %+v, %d of %d samples", len(status.EffectiveRanges), status.Usage, len(status.OutOfPool), *status.OutOfPoolCount)
	}
}

// TestUnchanged: what is said again is the same, so that it is not written.
func TestUnchanged(t *testing.T) {
	v := viewOf(aPool("p", "30100-30101")).hold("blue", "a", 30100, 30200)
	object := &v1alpha1.PortPool{ObjectMeta: metav1.ObjectMeta{Name: "p"}}
	object.Status, _ = v.poolStatus(object, v.outOfPool()["p"])
	for i := range object.Status.Conditions {
		object.Status.Conditions[i].LastTransitionTime = metav1.NewTime(time.Unix(1, 0))
	}
	again, _ := v.poolStatus(object, v.outOfPool()["p"])
	if diff := cmp.Diff(object.Status, again); diff != "" {
		t.Error(diff)
	}
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	m := NewMetrics(registry)
	m.set(map[string]pool.Usage{"a": {Total: 5, Foreign: 5}, "b": {Total: 1, Available: 1}}, map[v1alpha1.ClaimPhase]int{v1alpha1.ClaimBound: 2})
	if got, want := fake.Series(t, registry), "claims bound=2, pool_ports a foreign=5, pool_ports a total=5, pool_ports b available=1, pool_ports b total=1"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	m.set(map[string]pool.Usage{"b": {Total: 1, Allocated: 1}}, nil)
	if got, want := fake.Series(t, registry), "pool_ports b allocated=1, pool_ports b total=1"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	m.reset()
	if got, want := fake.Series(t, registry), ""; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	var none *Metrics
	none.set(nil, nil)
	none.reset()
}
