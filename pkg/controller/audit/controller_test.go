package audit

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
	"github.com/portcullis-k8s/portcullis/pkg/controller/internal/fake"
	"github.com/portcullis-k8s/portcullis/pkg/controller/internal/periodic"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
)

// auditing returns a Controller that does not lead yet, and its metrics.
func auditing(api *fake.Cluster, change ...func(*Options)) (*Controller, *prometheus.Registry) {
	api.T.Helper()
	config := &configv1alpha1.PortcullisConfiguration{}
	config.Default()
	settings, err := extract.NewSettings(config)
	if err != nil {
		api.T.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	o := Options{
		Settings: settings, Pools: true, Interval: 10 * time.Minute, Reports: true, Instance: "pod-1", Metrics: NewMetrics(registry), Now: time.Now,
	}
	for _, f := range change {
		f(&o)
	}
	a, err := New(api.Manager(), o)
	if err != nil {
		api.T.Fatal(err)
	}
	return a, registry
}

// node is n1, and hostPod a pod there with a host port.
func node() *corev1.Node { return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}} }

func hostPod(name string, port int32) *corev1.Pod { return fake.Pod("default", name, port) }

// audits counts the rounds since the last forget.
func audits(api *fake.Cluster) int { return api.Count("cache-list Node") }

// storedEvents are the events that are stored, "Pod/name reason", sorted by name.
func storedEvents(api *fake.Cluster) []string {
	list := &unstructured.UnstructuredList{}
	list.SetAPIVersion("events.k8s.io/v1")
	list.SetKind("EventList")
	if err := api.Stored.List(api.T.Context(), list); err != nil {
		api.T.Fatal(err)
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
	relabel := func(api *fake.Cluster, value string) {
		fake.Edit(api, node(), func(n *corev1.Node) { n.Labels = map[string]string{"a": value} })
	}
	// Each row begins right after the first audit. wants are the times since then at which audits have begun.
	for _, c := range []struct {
		name   string
		change func(*Options)
		do     func(api *fake.Cluster)
		during time.Duration
		want   []time.Duration
	}{
		{"nothing changes", nil, func(*fake.Cluster) {}, 25 * time.Minute, []time.Duration{10 * time.Minute, 20 * time.Minute}},
		{"a change at once", nil, func(api *fake.Cluster) { relabel(api, "1") }, time.Minute, []time.Duration{minInterval + quietTime}},
		{"a change after a while", nil, func(api *fake.Cluster) { fake.Pass(time.Minute); relabel(api, "1") }, 5 * time.Minute, []time.Duration{time.Minute + quietTime}},
		{"many changes", nil, func(api *fake.Cluster) {
			for i := range 10 {
				relabel(api, fmt.Sprint(i))
				fake.Pass(time.Second)
			}
		}, time.Minute, []time.Duration{minInterval + quietTime}},
		{"changes all the time", nil, func(api *fake.Cluster) {
			for i := range 100 {
				relabel(api, fmt.Sprint(i))
				fake.Pass(time.Second)
			}
		}, 0, []time.Duration{32 * time.Second, 64 * time.Second, 96 * time.Second}},
		{"a change that says nothing", nil, func(api *fake.Cluster) {
			fake.Edit(api, node(), func(n *corev1.Node) { n.Status.Conditions = []corev1.NodeCondition{{Type: "Ready"}} })
			api.Add(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "no-ports"}})
		}, 9 * time.Minute, nil},
		{"more seldom than soonest", func(o *Options) { o.Interval = time.Second }, func(*fake.Cluster) {}, time.Minute + time.Second, []time.Duration{30 * time.Second, time.Minute}},
		{"sooner", func(o *Options) { o.MinInterval = time.Second }, func(api *fake.Cluster) { relabel(api, "1") }, time.Minute, []time.Duration{2 * time.Second}},
	} {
		t.Run(c.name, func(t *testing.T) {
			fake.Run(t, func(t *testing.T, api *fake.Cluster) {
				api.Add(node())
				change := c.change
				if change == nil {
					change = func(*Options) {}
				}
				a, _ := auditing(api, change)
				var begun []time.Duration
				var first time.Time
				api.Before("cache-list Node", func(client.Object) error {
					if first.IsZero() {
						first = time.Now()
					} else {
						begun = append(begun, time.Since(first).Round(time.Second))
					}
					return nil
				})
				api.Start(a.Start)
				<-a.synced
				<-a.changed // what was there
				api.Start(fake.Task(a.Lead))
				fake.Pass(0)
				c.do(api)
				fake.Pass(c.during)
				if diff := cmp.Diff(c.want, begun); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestSlowAudits: where an audit takes long there are fewer of them.
func TestSlowAudits(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		api.Add(node())
		api.Before("cache-list Node", func(client.Object) error { time.Sleep(10 * time.Second); return nil })
		a, _ := auditing(api)
		api.Start(a.Start, fake.Task(a.Lead))
		fake.Pass(20 * time.Second)
		for i := range 190 {
			fake.Edit(api, node(), func(n *corev1.Node) { n.Labels = map[string]string{"a": fmt.Sprint(i)} })
			fake.Pass(time.Second)
		}
		if n := audits(api); n != 1 {
			t.Errorf("%d audits of 10 s in 210 s, want one in %d", n, busyPart)
		}
		fake.Pass(10 * time.Second)
		if n := audits(api); n != 2 {
			t.Errorf("%d audits afterwards", n)
		}
	})
}

// TestAuditTells: what is wrong is in metrics, events and reports, and is gone from there when it is right.
func TestAuditTells(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		api.Add(node(), hostPod("one", 8080))
		a, registry := auditing(api)
		end := api.Start(a.Start, fake.Task(a.Lead))
		fake.Pass(time.Minute)
		const quiet = "audit_last_success_timestamp_seconds="
		if got := fake.Series(t, registry); !strings.HasPrefix(got, quiet) || len(storedEvents(api)) > 0 || len(reportsOf(api)) > 0 {
			t.Errorf("nothing is wrong: %s, %v, %v", got, storedEvents(api), reportsOf(api))
		}
		fake.Pass(time.Second)
		api.Add(hostPod("two", 8080))
		fake.Pass(time.Minute)
		if got := fake.Series(t, registry); !strings.HasPrefix(got, "audit_findings PC0201 error=1, "+quiet) {
			t.Errorf("metrics %s", got)
		}
		if diff := cmp.Diff([]string{"Pod/two PortConflict"}, storedEvents(api)); diff != "" {
			t.Error(diff)
		}
		if got := reportsOf(api); len(got) != 1 {
			t.Errorf("reports %v", got)
		}
		fake.Pass(time.Hour)
		if got := storedEvents(api); len(got) != 1 {
			t.Errorf("an hour later: %v", got)
		}
		api.Remove(hostPod("one", 8080))
		fake.Pass(time.Minute)
		if got := fake.Series(t, registry); !strings.HasPrefix(got, quiet) || len(reportsOf(api)) > 0 {
			t.Errorf("it is right: %s, %v", got, reportsOf(api))
		}
		end()
		if got := fake.Series(t, registry); got != "" {
			t.Errorf("who no longer leads says %s", got)
		}
		if n := api.ErrorsLogged(); n > 0 {
			t.Errorf("%d errors: %q", n, api.Logs())
		}
	})
}

// TestAuditEvent: the event says what it is about, who has the port, and who reports it.
func TestAuditEvent(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		api.Add(node(), hostPod("one", 8080))
		fake.Pass(time.Second)
		api.Add(hostPod("two", 8080))
		a, _ := auditing(api)
		api.Start(a.Start, fake.Task(a.Lead))
		fake.Pass(time.Second)
		list := &unstructured.UnstructuredList{}
		list.SetAPIVersion("events.k8s.io/v1")
		list.SetKind("EventList")
		if err := api.Stored.List(t.Context(), list); err != nil || len(list.Items) != 1 {
			t.Fatalf("%d events: %v", len(list.Items), err)
		}
		e := list.Items[0].Object
		got := map[string]any{}
		for _, field := range []string{"reportingController", "reportingInstance", "type", "reason", "action", "regarding", "related"} {
			got[field] = e[field]
		}
		two := hostPod("two", 0)
		api.Load(two)
		if diff := cmp.Diff(map[string]any{
			"reportingController": "portcullis", "reportingInstance": "pod-1", "type": "Warning", "reason": "PortConflict", "action": "Audit",
			"regarding": map[string]any{"apiVersion": "v1", "kind": "Pod", "namespace": "default", "name": "two", "uid": string(two.UID)},
			"related":   map[string]any{"apiVersion": "v1", "kind": "Pod", "namespace": "default", "name": "one"},
		}, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// TestOptions: what a cluster does not have, or nobody wants, is not asked for.
func TestOptions(t *testing.T) {
	for _, c := range []struct {
		name    string
		change  func(*Options)
		arrange func(api *fake.Cluster)
		call    string
		want    bool
	}{
		{"pools", func(*Options) {}, func(*fake.Cluster) {}, "cache-list PortPool", true},
		{"no pools", func(o *Options) { o.Pools = false }, func(*fake.Cluster) {}, "cache-list PortPool", false},
		{"reports", func(*Options) {}, func(*fake.Cluster) {}, "list Report", true},
		{"no reports", func(o *Options) { o.Reports = false }, func(*fake.Cluster) {}, "list Report", false},
		{"no metrics", func(o *Options) { o.Metrics = nil }, func(*fake.Cluster) {}, "list Report", true},
		{"no ServiceCIDRs", func(*Options) {}, func(api *fake.Cluster) { api.Cache.Lacks[reflect.TypeFor[*networkingv1.ServiceCIDR]()] = true }, "cache-list Pod", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			fake.Run(t, func(t *testing.T, api *fake.Cluster) {
				c.arrange(api)
				a, _ := auditing(api, c.change)
				if a.NeedLeaderElection() {
					t.Error("only the leader watches")
				}
				end := api.Start(a.Start, fake.Task(a.Lead))
				fake.Pass(time.Second)
				if got := api.Count(c.call) > 0; got != c.want || audits(api) != 1 {
					t.Errorf("%q: %v, want %v, in %d audits", c.call, got, c.want, audits(api))
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
			fake.Run(t, func(t *testing.T, api *fake.Cluster) {
				api.Add(node(), hostPod("one", 8080))
				fake.Pass(time.Second)
				api.Add(hostPod("two", 8080))
				end := api.Reject(c.call, fake.ErrDown)
				a, registry := auditing(api)
				api.Start(a.Start, fake.Task(a.Lead))
				fake.Pass(31 * time.Minute)
				if n := api.ErrorsLogged(); n != 1 || audits(api) < 4 {
					t.Errorf("%d errors in %d audits: %q", n, audits(api), api.Logs())
				}
				end()
				fake.Pass(10 * time.Minute)
				if len(storedEvents(api)) != 1 || len(reportsOf(api)) != 1 || !strings.HasPrefix(fake.Series(t, registry), "audit_findings PC0201 error=1") {
					t.Errorf("%v, %v, %s", storedEvents(api), reportsOf(api), fake.Series(t, registry))
				}
			})
		})
	}
}

// TestAuditInvalidPool: a pool that cannot be understood is an error, and everything else is judged.
func TestAuditInvalidPool(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		api.Add(node(), hostPod("one", 8080), fake.PortPool(fake.InvalidSelector))
		fake.Pass(time.Second)
		api.Add(hostPod("two", 8080))
		a, registry := auditing(api)
		api.Start(a.Start, fake.Task(a.Lead))
		fake.Pass(time.Minute)
		if n := api.ErrorsLogged(); n != 1 || !strings.HasPrefix(fake.Series(t, registry), "audit_findings PC0201 error=1") {
			t.Errorf("%d errors, %s", n, fake.Series(t, registry))
		}
	})
}

// TestAuditBegins: nobody audits before it has seen everything, and who cannot watch says so.
func TestAuditBegins(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		a, _ := auditing(api)
		end := api.Start(fake.Task(a.Lead))
		fake.Pass(time.Hour)
		end() // a leader may stop before
		if n := audits(api); n > 0 {
			t.Errorf("%d audits of what was not seen", n)
		}
		api.Cache.Rejects[reflect.TypeFor[*corev1.Pod]()] = fake.ErrDown
		if err := a.Start(t.Context()); err == nil {
			t.Error("no error")
		}
		api.Cache.Rejects, api.Cache.Lacks[reflect.TypeFor[*corev1.Pod]()] = nil, true
		if err := a.Start(t.Context()); err == nil {
			t.Error("no error without pods")
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		api.Cache.Lacks = map[reflect.Type]bool{}
		if err := a.Start(ended); err != nil {
			t.Errorf("%v of one that is to stop", err)
		}
	})
}

// TestChecked: of the kinds of which there are many, those without ports of a node are left out of lists.
func TestChecked(t *testing.T) {
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
		if got := len(checkedKeys(c.object)) > 0; got != c.want {
			t.Errorf("%T: %v, want %v", c.object, got, c.want)
		}
	}
}

// TestNeedsMore: what the cache does not keep enough for is not judged.
func TestNeedsMore(t *testing.T) {
	for code, want := range map[check.Code]bool{
		check.TargetPortName: true, check.EndpointsApart: true, check.HostPortRequested: true, check.UndeclaredSockets: true,
		check.Held: false, check.OutsideRange: false,
	} {
		if got := needsMore(check.Finding{Code: code}); got != want {
			t.Errorf("%s: %v, want %v", code, got, want)
		}
	}
}

// TestMatters: an audit follows what can change its findings, and nothing else.
func TestMatters(t *testing.T) {
	hostPort := corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{ContainerPort: 80, HostPort: 80}}}}}
	pod := func(change func(*corev1.Pod)) *corev1.Pod {
		p := &corev1.Pod{Spec: *hostPort.DeepCopy(), Status: corev1.PodStatus{Phase: corev1.PodRunning}}
		change(p)
		return p
	}
	none := func(*corev1.Pod) {}
	deployment := func(generation int64, ready int32) *appsv1.Deployment {
		return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Generation: generation}, Status: appsv1.DeploymentStatus{ReadyReplicas: ready}}
	}
	for _, c := range []struct {
		name          string
		before, after client.Object
		want          bool
	}{
		{"nothing", pod(none), pod(none), false},
		{"a pod that ends", pod(none), pod(func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }), true},
		{"a pod that is bound", pod(func(p *corev1.Pod) { p.Spec.NodeName = "" }), pod(none), true},
		{"an annotation of a pod", pod(none), pod(func(p *corev1.Pod) { p.Annotations = map[string]string{"a": "b"} }), false},
		{"a pod without ports", &corev1.Pod{}, &corev1.Pod{Spec: corev1.PodSpec{NodeName: "n1"}}, false},
		{"a template", deployment(1, 1), deployment(2, 1), true},
		{"a status", deployment(1, 1), deployment(1, 2), false},
		{"a heartbeat", &corev1.Node{}, &corev1.Node{Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: "Ready"}}}}, false},
		{"a taint", &corev1.Node{}, &corev1.Node{Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: "a"}}}}, true},
		{"a Service's port", &corev1.Service{}, &corev1.Service{Spec: corev1.ServiceSpec{HealthCheckNodePort: 30001}}, true},
	} {
		a := &Controller{changed: periodic.NewTrigger()}
		a.handler().OnUpdate(c.before, c.after)
		if got := len(a.changed) > 0; got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// TestRelevant: the parts of objects that decide about findings, kind by kind.
func TestRelevant(t *testing.T) {
	for _, c := range []struct {
		why           string
		before, after client.Object
		same          bool
	}{
		{"a finished Job", &batchv1.Job{}, &batchv1.Job{Status: batchv1.JobStatus{Conditions: []batchv1.JobCondition{{Type: batchv1.JobComplete}}}}, false},
		{"a Job that has started", &batchv1.Job{}, &batchv1.Job{Status: batchv1.JobStatus{Active: 1}}, true},
		{"a label of a namespace", fake.Namespace("n", "a"), fake.Namespace("n", "b"), false},
		{"an annotation of a namespace", fake.Namespace("n", "a"), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"team": "a"}, Annotations: map[string]string{"a": "b"}}}, true},
		{"a claim that is bound", &v1alpha1.PortClaim{}, &v1alpha1.PortClaim{Status: v1alpha1.PortClaimStatus{Phase: v1alpha1.ClaimBound}}, false},
		{"a claim's condition", &v1alpha1.PortClaim{}, &v1alpha1.PortClaim{Status: v1alpha1.PortClaimStatus{Conditions: []metav1.Condition{{Reason: "a"}}}}, true},
		{"a pool's status", fake.PortPool(), fake.PortPool(func(p *v1alpha1.PortPool) { p.Status.ObservedGeneration = 7 }), true},
		{"a load balancer's address", &corev1.Service{}, &corev1.Service{Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}}}}, false},
		{"a node's address", &corev1.Node{}, &corev1.Node{Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Address: "10.0.0.1"}}}}, false},
	} {
		if got := equality.Semantic.DeepEqual(relevant(c.before), relevant(c.after)); got != c.same {
			t.Errorf("%s: the same %v, want %v", c.why, got, c.same)
		}
	}
}
