package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

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

// created is an API server that keeps what is created, and may reject it.
type created struct {
	objects []*unstructured.Unstructured
	rejects error
}

func (c *created) Create(_ context.Context, object client.Object, _ ...client.CreateOption) error {
	if c.rejects != nil {
		return c.rejects
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

// TestEventsOnce: each finding has one event until it is gone, and another one when it comes back; another leader repeats
// nothing; what was rejected is retried.
func TestEventsOnce(t *testing.T) {
	server := &created{}
	now := time.Unix(1e9, 0)
	w := eventWriter{client: server, now: func() time.Time { return now }}
	w.reset()
	f, pod := clash("p", 80, "s")
	other, _ := clash("p", 80, "r")
	info := f
	info.Severity = check.Info
	write := func(want int, findings ...check.Finding) {
		t.Helper()
		if err := w.write(t.Context(), subjectsOf(findings, []runtime.Object{pod})); err != nil {
			t.Error(err)
		}
		if len(server.objects) != want {
			t.Errorf("%d events, want %d", len(server.objects), want)
		}
	}
	write(0, info)
	write(1, f)
	write(1, f, f)
	write(2, f, other)
	write(2)
	write(3, f)
	write(3, f)
	w.reset() // a restart: the names are there
	write(3, f, other)
	server.rejects = errors.New("the server is tired")
	third, _ := clash("p", 81, "s")
	if err := w.write(t.Context(), subjectsOf([]check.Finding{third}, []runtime.Object{pod})); err == nil || !strings.Contains(err.Error(), "an event about Pod default/p: the server is tired") {
		t.Errorf("%v, want what the server said", err)
	}
	server.rejects = nil
	write(4, third)
	e := server.objects[0]
	note, _, _ := unstructured.NestedString(e.Object, "note")
	related, _, _ := unstructured.NestedString(e.Object, "related", "name")
	if !strings.HasPrefix(note, "spec.containers[0].ports[0].hostPort: ") || related != "s" || e.GetNamespace() != "default" {
		t.Errorf("%v", e.Object)
	}
	now = now.Add(2 * eventsRemember)
	write(4)
	now = now.Add(2 * eventsRemember)
	write(4)
	if len(w.written) != 0 {
		t.Errorf("what is long gone is remembered: %v", w.written)
	}
}

// TestEventsBounded: a round writes no more than it may, and the next one goes on.
func TestEventsBounded(t *testing.T) {
	server := &created{}
	w := eventWriter{client: server, now: time.Now}
	w.reset()
	var findings []check.Finding
	for i := range uint16(2*maxEvents + 10) {
		f, _ := clash(fmt.Sprint("p", i), 1000+i, "s")
		findings = append(findings, f)
	}
	for _, want := range []int{maxEvents, 2 * maxEvents, 2*maxEvents + 10, 2*maxEvents + 10} {
		if err := w.write(t.Context(), subjectsOf(findings, nil)); err != nil || len(server.objects) != want {
			t.Fatalf("%d events, want %d: %v", len(server.objects), want, err)
		}
	}
}
