package controller

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	configv1alpha1 "github.com/portcullis-k8s/portcullis/api/config/v1alpha1"
	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
)

// auditing returns an auditor of a bench whose lead is not begun, and its metrics.
func auditing(b *bench, change ...func(*AuditOptions)) (*Auditor, *prometheus.Registry) {
	b.t.Helper()
	config := &configv1alpha1.PortcullisConfiguration{}
	config.Default()
	settings, err := extract.NewSettings(config)
	if err != nil {
		b.t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	o := AuditOptions{
		Settings: settings, Pools: true, Every: 10 * time.Minute, Reports: true, Instance: "pod-1", Metrics: NewAuditMetrics(registry), Now: time.Now,
	}
	for _, f := range change {
		f(&o)
	}
	a, err := NewAuditor(b.cluster(), o)
	if err != nil {
		b.t.Fatal(err)
	}
	return a, registry
}

// node is n1, and hostPod a pod there with a host port.
func node() *corev1.Node { return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}} }

func hostPod(name string, port int32) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{
			Name: "a", Image: "a", Ports: []corev1.ContainerPort{{ContainerPort: port, HostPort: port, Protocol: corev1.ProtocolTCP}},
		}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
}

// audits counts the rounds since the last forget.
func audits(b *bench) int { return b.count("cache-list Node") }

// storedEvents are the events that are stored, "Pod/name reason", sorted by name.
func storedEvents(b *bench) []string {
	list := &unstructured.UnstructuredList{}
	list.SetAPIVersion("events.k8s.io/v1")
	list.SetKind("EventList")
	if err := b.stored.List(b.t.Context(), list); err != nil {
		b.t.Fatal(err)
	}
	var all []string
	for _, e := range list.Items {
		kind, _, _ := unstructured.NestedString(e.Object, "regarding", "kind")
		name, _, _ := unstructured.NestedString(e.Object, "regarding", "name")
		reason, _, _ := unstructured.NestedString(e.Object, "reason")
		all = append(all, fmt.Sprintf("%s/%s %s", kind, name, reason))
	}
	return all
}

// TestAuditSchedule: an audit follows a change soon, many changes together, and none after ten minutes.
func TestAuditSchedule(t *testing.T) {
	relabel := func(b *bench, value string) {
		edit(b, node(), func(n *corev1.Node) { n.Labels = map[string]string{"a": value} })
	}
	// Each row begins right after the first audit. wants are the times since then at which audits have begun.
	for _, c := range []struct {
		name   string
		change func(*AuditOptions)
		do     func(b *bench)
		during time.Duration
		want   []time.Duration
	}{
		{"nothing changes", nil, func(*bench) {}, 25 * time.Minute, []time.Duration{10 * time.Minute, 20 * time.Minute}},
		{"a change at once", nil, func(b *bench) { relabel(b, "1") }, time.Minute, []time.Duration{AuditSoonest + auditSettles}},
		{"a change after a while", nil, func(b *bench) { pass(time.Minute); relabel(b, "1") }, 5 * time.Minute, []time.Duration{time.Minute + auditSettles}},
		{"many changes", nil, func(b *bench) {
			for i := range 10 {
				relabel(b, fmt.Sprint(i))
				pass(time.Second)
			}
		}, time.Minute, []time.Duration{AuditSoonest + auditSettles}},
		{"changes all the time", nil, func(b *bench) {
			for i := range 100 {
				relabel(b, fmt.Sprint(i))
				pass(time.Second)
			}
		}, 0, []time.Duration{32 * time.Second, 64 * time.Second, 96 * time.Second}},
		{"a change that says nothing", nil, func(b *bench) {
			edit(b, node(), func(n *corev1.Node) { n.Status.Conditions = []corev1.NodeCondition{{Type: "Ready"}} })
			b.create(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "no-ports"}})
		}, 9 * time.Minute, nil},
		{"more seldom than soonest", func(o *AuditOptions) { o.Every = time.Second }, func(*bench) {}, time.Minute + time.Second, []time.Duration{30 * time.Second, time.Minute}},
		{"sooner", func(o *AuditOptions) { o.Soonest = time.Second }, func(b *bench) { relabel(b, "1") }, time.Minute, []time.Duration{2 * time.Second}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				b.create(node())
				change := c.change
				if change == nil {
					change = func(*AuditOptions) {}
				}
				a, _ := auditing(b, change)
				var begun []time.Duration
				var first time.Time
				b.before("cache-list Node", func(client.Object) error {
					if first.IsZero() {
						first = time.Now()
					} else {
						begun = append(begun, time.Since(first).Round(time.Second))
					}
					return nil
				})
				b.start(a.Start)
				<-a.watching
				<-a.changed // what was there
				b.start(leads(a.Lead))
				pass(0)
				c.do(b)
				pass(c.during)
				if diff := cmp.Diff(c.want, begun); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestSlowAudits: where an audit takes long there are fewer of them.
func TestSlowAudits(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.create(node())
		b.before("cache-list Node", func(client.Object) error { time.Sleep(10 * time.Second); return nil })
		a, _ := auditing(b)
		b.start(a.Start, leads(a.Lead))
		pass(20 * time.Second)
		for i := range 190 {
			edit(b, node(), func(n *corev1.Node) { n.Labels = map[string]string{"a": fmt.Sprint(i)} })
			pass(time.Second)
		}
		if n := audits(b); n != 1 {
			t.Errorf("%d audits of 10 s in 210 s, want one in %d", n, auditShare)
		}
		pass(10 * time.Second)
		if n := audits(b); n != 2 {
			t.Errorf("%d audits afterwards", n)
		}
	})
}

// TestAuditTells: what is wrong is in metrics, events and reports, and is gone from there when it is right.
func TestAuditTells(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.create(node(), hostPod("one", 8080))
		a, registry := auditing(b)
		end := b.start(a.Start, leads(a.Lead))
		pass(time.Minute)
		const quiet = "audit_last_success_timestamp_seconds="
		if got := series(t, registry); !strings.HasPrefix(got, quiet) || len(storedEvents(b)) > 0 || len(reportsOf(b)) > 0 {
			t.Errorf("nothing is wrong: %s, %v, %v", got, storedEvents(b), reportsOf(b))
		}
		pass(time.Second)
		b.create(hostPod("two", 8080))
		pass(time.Minute)
		if got := series(t, registry); !strings.HasPrefix(got, "audit_findings PC0201 error=1, "+quiet) {
			t.Errorf("metrics %s", got)
		}
		if diff := cmp.Diff([]string{"Pod/two PortConflict"}, storedEvents(b)); diff != "" {
			t.Error(diff)
		}
		if got := reportsOf(b); len(got) != 1 {
			t.Errorf("reports %v", got)
		}
		pass(time.Hour)
		if got := storedEvents(b); len(got) != 1 {
			t.Errorf("an hour later: %v", got)
		}
		b.remove(hostPod("one", 8080))
		pass(time.Minute)
		if got := series(t, registry); !strings.HasPrefix(got, quiet) || len(reportsOf(b)) > 0 {
			t.Errorf("it is right: %s, %v", got, reportsOf(b))
		}
		end()
		if got := series(t, registry); got != "" {
			t.Errorf("who no longer leads says %s", got)
		}
		if n := b.errorsLogged(); n > 0 {
			t.Errorf("%d errors: %q", n, b.logs)
		}
	})
}

// TestAuditEvent: the event says what it is about, who has the port, and who reports it.
func TestAuditEvent(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.create(node(), hostPod("one", 8080))
		pass(time.Second)
		b.create(hostPod("two", 8080))
		a, _ := auditing(b)
		b.start(a.Start, leads(a.Lead))
		pass(time.Second)
		list := &unstructured.UnstructuredList{}
		list.SetAPIVersion("events.k8s.io/v1")
		list.SetKind("EventList")
		if err := b.stored.List(t.Context(), list); err != nil || len(list.Items) != 1 {
			t.Fatalf("%d events: %v", len(list.Items), err)
		}
		e := list.Items[0].Object
		got := map[string]any{}
		for _, field := range []string{"reportingController", "reportingInstance", "type", "reason", "action", "regarding", "related"} {
			got[field] = e[field]
		}
		two := hostPod("two", 0)
		b.get(two)
		if diff := cmp.Diff(map[string]any{
			"reportingController": "portcullis", "reportingInstance": "pod-1", "type": "Warning", "reason": "PortConflict", "action": "Audit",
			"regarding": map[string]any{"apiVersion": "v1", "kind": "Pod", "namespace": "default", "name": "two", "uid": string(two.UID)},
			"related":   map[string]any{"apiVersion": "v1", "kind": "Pod", "namespace": "default", "name": "one"},
		}, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// TestAuditOptions: what a cluster does not have, or nobody wants, is not asked for.
func TestAuditOptions(t *testing.T) {
	for _, c := range []struct {
		name    string
		change  func(*AuditOptions)
		arrange func(b *bench)
		call    string
		want    bool
	}{
		{"pools", func(*AuditOptions) {}, func(*bench) {}, "cache-list PortPool", true},
		{"no pools", func(o *AuditOptions) { o.Pools = false }, func(*bench) {}, "cache-list PortPool", false},
		{"reports", func(*AuditOptions) {}, func(*bench) {}, "list Report", true},
		{"no reports", func(o *AuditOptions) { o.Reports = false }, func(*bench) {}, "list Report", false},
		{"no metrics", func(o *AuditOptions) { o.Metrics = nil }, func(*bench) {}, "list Report", true},
		{"no ServiceCIDRs", func(*AuditOptions) {}, func(b *bench) { b.informers.lacks[reflect.TypeFor[*networkingv1.ServiceCIDR]()] = true }, "cache-list Pod", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				c.arrange(b)
				a, _ := auditing(b, c.change)
				if a.NeedLeaderElection() {
					t.Error("only the leader watches")
				}
				end := b.start(a.Start, leads(a.Lead))
				pass(time.Second)
				if got := b.count(c.call) > 0; got != c.want || audits(b) != 1 {
					t.Errorf("%q: %v, want %v, in %d audits", c.call, got, c.want, audits(b))
				}
				end()
			})
		})
	}
}

// TestAuditFails: what goes wrong in a round is logged once, and the next round is tried.
func TestAuditFails(t *testing.T) {
	for _, c := range []struct{ name, call string }{
		{"a list", "cache-list CronJob"},
		{"an event", "create Event"},
		{"a report", "apply Report"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				b.create(node(), hostPod("one", 8080))
				pass(time.Second)
				b.create(hostPod("two", 8080))
				end := b.refuse(c.call, errDown)
				a, registry := auditing(b)
				b.start(a.Start, leads(a.Lead))
				pass(31 * time.Minute)
				if n := b.errorsLogged(); n != 1 || audits(b) < 4 {
					t.Errorf("%d errors in %d audits: %q", n, audits(b), b.logs)
				}
				end()
				pass(10 * time.Minute)
				if len(storedEvents(b)) != 1 || len(reportsOf(b)) != 1 || !strings.HasPrefix(series(t, registry), "audit_findings PC0201 error=1") {
					t.Errorf("%v, %v, %s", storedEvents(b), reportsOf(b), series(t, registry))
				}
			})
		})
	}
}

// TestAuditInvalidPool: a pool that cannot be understood is an error, and everything else is judged.
func TestAuditInvalidPool(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.create(node(), hostPod("one", 8080), portPool(invalidSelector))
		pass(time.Second)
		b.create(hostPod("two", 8080))
		a, registry := auditing(b)
		b.start(a.Start, leads(a.Lead))
		pass(time.Minute)
		if n := b.errorsLogged(); n != 1 || !strings.HasPrefix(series(t, registry), "audit_findings PC0201 error=1") {
			t.Errorf("%d errors, %s", n, series(t, registry))
		}
	})
}

// invalidSelector makes a pool one that the API server took before it had the rule.
func invalidSelector(p *v1alpha1.PortPool) {
	p.Spec.NamespaceSelector = &v1alpha1.LabelSelector{MatchExpressions: []v1alpha1.LabelSelectorRequirement{{Key: "a", Operator: "Nonsense"}}}
}

// TestAuditBegins: nobody audits before it has seen everything, and who cannot watch says so.
func TestAuditBegins(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		a, _ := auditing(b)
		end := b.start(leads(a.Lead))
		pass(time.Hour)
		end() // it may be told to stop
		if n := audits(b); n > 0 {
			t.Errorf("%d audits of what was not seen", n)
		}
		b.informers.refuses[reflect.TypeFor[*corev1.Pod]()] = errDown
		if err := a.Start(t.Context()); err == nil {
			t.Error("no error")
		}
		b.informers.refuses, b.informers.lacks[reflect.TypeFor[*corev1.Pod]()] = nil, true
		if err := a.Start(t.Context()); err == nil {
			t.Error("no error without pods")
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		b.informers.lacks = map[reflect.Type]bool{}
		if err := a.Start(ended); err != nil {
			t.Errorf("%v of who is told to stop", err)
		}
	})
}

// TestAsked: of the kinds of which there are many, those without ports of a node are left out of lists.
func TestAsked(t *testing.T) {
	claims, none := hostPod("p", 80).Spec, corev1.PodSpec{Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{ContainerPort: 80}}}}}
	host := corev1.PodSpec{HostNetwork: true}
	template := func(spec corev1.PodSpec) corev1.PodTemplateSpec { return corev1.PodTemplateSpec{Spec: spec} }
	for _, c := range []struct {
		object client.Object
		want   bool
	}{
		{&corev1.Pod{Spec: claims}, true},
		{&corev1.Pod{Spec: host}, true},
		{&corev1.Pod{Spec: none}, false},
		{&appsv1.ReplicaSet{Spec: appsv1.ReplicaSetSpec{Template: template(claims)}}, true},
		{&appsv1.ReplicaSet{Spec: appsv1.ReplicaSetSpec{Template: template(none)}}, false},
		{&batchv1.Job{Spec: batchv1.JobSpec{Template: template(host)}}, true},
		{&batchv1.Job{Spec: batchv1.JobSpec{Template: template(none)}}, false},
		{&appsv1.Deployment{Spec: appsv1.DeploymentSpec{Template: template(claims)}}, false}, // is not indexed
	} {
		if got := len(asked(c.object)) > 0; got != c.want {
			t.Errorf("%T: %v, want %v", c.object, got, c.want)
		}
	}
}

// TestIsUnseen: what the cache does not keep enough for is not judged.
func TestIsUnseen(t *testing.T) {
	for code, want := range map[check.Code]bool{
		check.TargetPortName: true, check.EndpointsApart: true, check.HostPortRequested: true, check.UndeclaredSockets: true,
		check.Held: false, check.OutsideRange: false,
	} {
		if got := isUnseen(check.Finding{Code: code}); got != want {
			t.Errorf("%s: %v, want %v", code, got, want)
		}
	}
}

// TestJudged: the parts of objects that decide about findings, kind by kind.
func TestJudged(t *testing.T) {
	for _, c := range []struct {
		why           string
		before, after client.Object
		same          bool
	}{
		{"a finished Job", &batchv1.Job{}, &batchv1.Job{Status: batchv1.JobStatus{Conditions: []batchv1.JobCondition{{Type: batchv1.JobComplete}}}}, false},
		{"a Job that has started", &batchv1.Job{}, &batchv1.Job{Status: batchv1.JobStatus{Active: 1}}, true},
		{"a label of a namespace", namespace("n", "a"), namespace("n", "b"), false},
		{"an annotation of a namespace", namespace("n", "a"), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"team": "a"}, Annotations: map[string]string{"a": "b"}}}, true},
		{"a claim that is bound", claim(), claim(phase(v1alpha1.ClaimBound, "1")), false},
		{"a claim's condition", claim(), claim(saying("a", "b")), true},
		{"a pool's status", portPool(), portPool(func(p *v1alpha1.PortPool) { p.Status.ObservedGeneration = 7 }), true},
		{"a load balancer's address", &corev1.Service{}, &corev1.Service{Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}}}}, false},
		{"a node's address", &corev1.Node{}, &corev1.Node{Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Address: "10.0.0.1"}}}}, false},
	} {
		if got := equality.Semantic.DeepEqual(judged(c.before), judged(c.after)); got != c.same {
			t.Errorf("%s: the same %v, want %v", c.why, got, c.same)
		}
	}
}
