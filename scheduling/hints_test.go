package scheduling

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
)

func loose(t *testing.T, svc *corev1.Service) *unstructured.Unstructured {
	t.Helper()
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(svc)
	if err != nil {
		t.Fatal(err)
	}
	return &unstructured.Unstructured{Object: object}
}

func changed(svc *corev1.Service, version string, change func(*corev1.Service)) *corev1.Service {
	svc = svc.DeepCopy()
	svc.ResourceVersion = version
	change(svc)
	return svc
}

func TestHints(t *testing.T) {
	p, _ := newPlugin(t, "")
	wanted := pod("new", list(port(9000)))
	ended := pod("a", list(port(9000)), on("n"))
	ended.Status.Phase = corev1.PodSucceeded
	nominated := pod("a", list(port(9000)))
	nominated.Status.NominatedNodeName = "n"
	app := nodePort("app", 9000)
	plain := node("n", 1).node
	reserving := annotated(node("n", 1), "9000/TCP").node
	other := annotated(node("n", 1), "9001/TCP").node

	for _, tt := range []struct {
		name        string
		hint        fwk.QueueingHintFn
		before, now any
		want        fwk.QueueingHint
	}{
		{"a holder is gone", p.afterPod, pod("a", list(port(9000)), on("n")), nil, fwk.Queue},
		{"a holder has ended", p.afterPod, ended, nil, fwk.Queue},
		{"a tombstone", p.afterPod, cache.DeletedFinalStateUnknown{Obj: ended}, nil, fwk.Queue},
		{"on one address", p.afterPod, pod("a", list(at("::1", port(9000))), on("n")), nil, fwk.Queue},
		{"a nominated pod is gone", p.afterPod, nominated, nil, fwk.Queue},
		{"it was nowhere", p.afterPod, pod("a", list(port(9000))), nil, fwk.QueueSkip},
		{"it held another port", p.afterPod, pod("a", list(port(9001)), on("n")), nil, fwk.QueueSkip},
		{"it held none", p.afterPod, pod("a", nil, on("n")), nil, fwk.QueueSkip},

		{"a node has come", p.afterNode, nil, plain, fwk.Queue},
		{"one that reserves the port", p.afterNode, nil, reserving, fwk.QueueSkip},
		{"one that reserves another", p.afterNode, nil, other, fwk.Queue},
		{"no longer reserved", p.afterNode, reserving, other, fwk.Queue},
		{"reserved now", p.afterNode, plain, reserving, fwk.QueueSkip},
		{"annotations that do not matter", p.afterNode, plain, other, fwk.QueueSkip},

		{"a Service is gone", p.afterService, app, nil, fwk.Queue},
		{"unstructured", p.afterService, loose(t, app), nil, fwk.Queue},
		{"a tombstone of it", p.afterService, cache.DeletedFinalStateUnknown{Obj: loose(t, app)}, nil, fwk.Queue},
		{"another number is gone", p.afterService, loose(t, nodePort("app", 9001)), nil, fwk.QueueSkip},
		{"a Service has another number", p.afterService, loose(t, app), loose(t, nodePort("app", 9001)), fwk.Queue},
		{"a Service is no NodePort any more", p.afterService, loose(t, app),
			loose(t, changed(app, "11", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP })), fwk.Queue},
		{"a Service has another label", p.afterService, loose(t, app),
			loose(t, changed(app, "11", func(s *corev1.Service) { s.Labels = map[string]string{"a": "b"} })), fwk.QueueSkip},
		{"a Service takes the number", p.afterService, loose(t, nodePort("app", 9001)), loose(t, app), fwk.QueueSkip},
	} {
		got, err := tt.hint(klog.Background(), wanted, tt.before, tt.now)
		if got != tt.want || err != nil {
			t.Errorf("%s: %v, %v; want %v", tt.name, got, err, tt.want)
		}
	}
	for name, hint := range map[string]fwk.QueueingHintFn{"pod": p.afterPod, "node": p.afterNode, "service": p.afterService} {
		if got, err := hint(klog.Background(), wanted, "nonsense", "nonsense"); got != fwk.Queue || err == nil {
			t.Errorf("%s: %v, %v for nonsense; want Queue with an error", name, got, err)
		}
	}
	events, err := p.EventsToRegister(t.Context())
	if err != nil || len(events) != 3 || events[2].Event.Resource != "services.v1." {
		t.Errorf("EventsToRegister: %v, %v", events, err)
	}
}

// TestAheadOfTheStore: a pod that a Service's event wakes is not refused by what the event has just said is gone, though
// the informer that is asked about Services has not heard of it.
func TestAheadOfTheStore(t *testing.T) {
	app := nodePort("app", 9000)
	moved := changed(app, "11", func(s *corev1.Service) { s.Spec.Ports[0].NodePort = 9001 })
	later := changed(app, "12", func(s *corev1.Service) { s.Spec.Ports[0].NodePort = 9000 })
	again := changed(app, "13", func(s *corev1.Service) { s.UID = "another" })
	wanted := pod("new", list(port(9000)))

	type step struct {
		what    string
		do      func(p *PortClaims, h *handle)
		refused bool
		ahead   int
	}
	event := func(before, now *corev1.Service) func(p *PortClaims, _ *handle) {
		return func(p *PortClaims, _ *handle) {
			var object any
			if now != nil {
				object = loose(t, now)
			}
			if _, err := p.afterService(klog.Background(), wanted, loose(t, before), object); err != nil {
				t.Fatal(err)
			}
		}
	}
	seen := func(before, now *corev1.Service) func(p *PortClaims, h *handle) {
		return func(p *PortClaims, h *handle) {
			if now == nil {
				if err := p.services.indexer.Delete(before); err != nil {
					t.Fatal(err)
				}
				p.services.caughtUp(before, nil)
				return
			}
			h.store(t, now)
			p.services.caughtUp(before, now)
		}
	}
	for name, steps := range map[string][]step{
		"deleted": {
			{"event", event(app, nil), false, 1},
			{"another update", seen(app, changed(app, "11", func(*corev1.Service) {})), false, 1},
			{"store", seen(app, nil), false, 0},
		},
		"store first": {
			{"store", seen(app, nil), false, 0},
			{"event", event(app, nil), false, 0},
		},
		"moved": {
			{"event", event(app, moved), false, 1},
			{"an older event again", event(app, changed(moved, "9", func(*corev1.Service) {})), false, 1},
			{"store", seen(app, moved), false, 0},
			{"moved back", seen(moved, later), true, 0},
			{"the first event again", event(app, moved), true, 0},
		},
		"made again": {
			{"event", event(app, nil), false, 1},
			{"store", seen(app, again), true, 0},
			{"event again", event(app, nil), true, 0},
		},
	} {
		p, h := newPlugin(t, "", app)
		if place(t, p, wanted, node("n", 1)) == "" {
			t.Fatalf("%s: not refused by the Service", name)
		}
		for _, s := range steps {
			s.do(p, h)
			if got := place(t, p, wanted, node("n", 1)) != ""; got != s.refused || len(p.services.ahead) != s.ahead {
				t.Errorf("%s, after %s: refused %v, want %v; %d ahead, want %d", name, s.what, got, s.refused, len(p.services.ahead), s.ahead)
			}
		}
	}
}
