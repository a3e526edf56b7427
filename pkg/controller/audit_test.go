package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// created is an API server that keeps what is created, and may refuse it.
type created struct {
	objects []*unstructured.Unstructured
	refuses error
}

func (c *created) Create(_ context.Context, object client.Object, _ ...client.CreateOption) error {
	if c.refuses != nil {
		return c.refuses
	}
	u := object.(*unstructured.Unstructured)
	if slices.ContainsFunc(c.objects, func(o *unstructured.Unstructured) bool { return o.GetName() == u.GetName() }) {
		return apierrors.NewAlreadyExists(schema.GroupResource{Resource: "events"}, u.GetName())
	}
	c.objects = append(c.objects, u)
	return nil
}

func clash(pod string, port uint16, holder string) (check.Finding, runtime.Object) {
	ref := ports.Ref{APIVersion: "v1", Kind: "Pod", Namespace: "default", Name: pod}
	return check.Finding{
		Code: check.Held, Severity: check.Error, Object: ref, Field: "spec.containers[0].ports[0].hostPort", Nodes: []string{"n1"},
		Claim:  ports.Claim{Socket: ports.Socket{Protocol: ports.TCP, Port: port}, Kind: ports.HostPort, Owner: &ports.Owner{Ref: ref}},
		Holder: &check.Holder{Ref: ports.Ref{APIVersion: "v1", Kind: "Service", Namespace: "default", Name: holder}, Field: "spec.ports[0].nodePort"},
	}, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: pod, UID: "uid-" + "x"}}
}

// TestEventsOnce: each finding is told once until it is gone, and again when it comes back; another leader tells nothing
// again; what was refused is tried again.
func TestEventsOnce(t *testing.T) {
	server := &created{}
	now := time.Unix(1e9, 0)
	w := eventWriter{client: server, now: func() time.Time { return now }}
	w.begin()
	f, pod := clash("p", 80, "s")
	other, _ := clash("p", 80, "r")
	info := f
	info.Severity = check.Info
	tell := func(want int, findings ...check.Finding) {
		t.Helper()
		if err := w.tell(t.Context(), offendersOf(findings, []runtime.Object{pod})); err != nil {
			t.Error(err)
		}
		if len(server.objects) != want {
			t.Errorf("%d events, want %d", len(server.objects), want)
		}
	}
	tell(0, info)
	tell(1, f)
	tell(1, f, f)
	tell(2, f, other)
	tell(2)
	tell(3, f)
	tell(3, f)
	w.begin() // a restart: the names are there
	tell(3, f, other)
	server.refuses = errors.New("the server is tired")
	third, _ := clash("p", 81, "s")
	if err := w.tell(t.Context(), offendersOf([]check.Finding{third}, []runtime.Object{pod})); err == nil || !strings.Contains(err.Error(), "an event about Pod default/p: the server is tired") {
		t.Errorf("%v, want what the server said", err)
	}
	server.refuses = nil
	tell(4, third)
	e := server.objects[0]
	note, _, _ := unstructured.NestedString(e.Object, "note")
	related, _, _ := unstructured.NestedString(e.Object, "related", "name")
	if !strings.HasPrefix(note, "spec.containers[0].ports[0].hostPort: ") || related != "s" || e.GetNamespace() != "default" {
		t.Errorf("%v", e.Object)
	}
	now = now.Add(2 * eventsRemember)
	tell(4)
	now = now.Add(2 * eventsRemember)
	tell(4)
	if len(w.told) != 0 {
		t.Errorf("what is long gone is remembered: %v", w.told)
	}
}

// TestEventsBounded: a round writes no more than it may, and the next one goes on.
func TestEventsBounded(t *testing.T) {
	server := &created{}
	w := eventWriter{client: server, now: time.Now}
	w.begin()
	var findings []check.Finding
	for i := range uint16(2*maxEvents + 10) {
		f, _ := clash(fmt.Sprint("p", i), 1000+i, "s")
		findings = append(findings, f)
	}
	for _, want := range []int{maxEvents, 2 * maxEvents, 2*maxEvents + 10, 2*maxEvents + 10} {
		if err := w.tell(t.Context(), offendersOf(findings, nil)); err != nil || len(server.objects) != want {
			t.Fatalf("%d events, want %d: %v", len(server.objects), want, err)
		}
	}
}

// TestReportOf: equal findings make equal reports, and others others.
func TestReportOf(t *testing.T) {
	f, pod := clash("p", 80, "s")
	g, _ := clash("p", 80, "r")
	of := func(findings ...check.Finding) *unstructured.Unstructured {
		return reportOf(offendersOf(findings, []runtime.Object{pod})[0])
	}
	one := of(f)
	if diff := cmp.Diff(one, of(f)); diff != "" {
		t.Errorf("(-one +again):\n%s", diff)
	}
	if one.GetAnnotations()[contentHash] == of(g).GetAnnotations()[contentHash] || one.GetName() != of(f, g).GetName() {
		t.Error("another holder, or one more, must change what the report says and not its name")
	}
	results, _, _ := unstructured.NestedSlice(one.Object, "results")
	want := map[string]any{"code": "PC0201", "field": f.Field, "port": "80", "protocol": "TCP", "holder": "Service default/s", "nodes": "n1"}
	if diff := cmp.Diff(want, results[0].(map[string]any)["properties"]); diff != "" || len(results) != 1 {
		t.Errorf("(-want +got):\n%s", diff)
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
		{"a Service's number", &corev1.Service{}, &corev1.Service{Spec: corev1.ServiceSpec{HealthCheckNodePort: 30001}}, true},
	} {
		a := &Auditor{changed: make(chan struct{}, 1)}
		a.handler().OnUpdate(c.before, c.after)
		if got := len(a.changed) > 0; got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
