package controller

import (
	"context"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
)

// enqueued is what an event of a controller that leads leads to.
type enqueued struct {
	Ports          []uint16
	Status, Resync bool
}

// indexed is a cache of which only the indexes are asked for.
type indexed struct {
	cache.Cache
	refuses string // the index that cannot be had
	extract map[string]client.IndexerFunc
}

func (i indexed) IndexField(_ context.Context, _ client.Object, field string, extract client.IndexerFunc) error {
	if field == i.refuses {
		return errDown
	}
	i.extract[field] = extract
	return nil
}

// TestHandlers: what each event enqueues.
func TestHandlers(t *testing.T) {
	labelled := func(svc *corev1.Service) *corev1.Service { svc.Labels = map[string]string{"a": "b"}; return svc }
	generation := func(n int64) func(*v1alpha1.PortPool) {
		return func(p *v1alpha1.PortPool) { p.Generation, p.UID = n, "1" }
	}
	other := func(p *v1alpha1.PortPool) { p.Generation, p.UID = 1, "2" }
	status := func(p *v1alpha1.PortPool) { p.Generation, p.UID, p.Status.ObservedGeneration = 1, "1", 1 }
	port := func(n int32) func(*v1alpha1.PortClaim) { return func(c *v1alpha1.PortClaim) { c.Spec.Port = n } }
	quiet := enqueued{}
	onlyStatus := enqueued{nil, true, false}
	for _, c := range []struct {
		name          string
		before, after client.Object // nil: it comes, or goes
		want          enqueued
	}{
		{"a Service without nodePorts", nil, service("web", "1"), quiet},
		{"a Service with some", nil, service("web", "1", 30100, 30101), enqueued{[]uint16{30100, 30101}, true, false}},
		{"a Service that goes", service("web", "1", 30100), nil, enqueued{[]uint16{30100}, true, false}},
		{"a Service that goes and had none", service("web", "1"), nil, quiet},
		{"a Service that changes nothing here", service("web", "1", 30100), service("web", "1", 30100), quiet},
		{"a Service that changes a nodePort", service("web", "1", 30100), service("web", "1", 30101), enqueued{[]uint16{30100, 30101}, true, false}},
		{"a Service that gets one", service("web", "1"), service("web", "1", 30101), enqueued{[]uint16{30101}, true, false}},
		{"a Service's labels", service("web", "1", 30100), labelled(service("web", "1", 30100)), enqueued{[]uint16{30100}, true, false}},
		{"labels of one without nodePorts", service("web", "1"), labelled(service("web", "1")), quiet},
		{"a Service in another's place", service("web", "1", 30100), service("web", "2", 30100), enqueued{[]uint16{30100}, true, false}},
		{"a claim", nil, claim(), enqueued{[]uint16{30100}, true, false}},
		{"a claim that changes", claim(), claim(phase(v1alpha1.ClaimBound, "1")), enqueued{[]uint16{30100}, true, false}},
		{"a claim that goes", claim(port(30102)), nil, enqueued{[]uint16{30102}, true, false}},
		{"a pool", nil, portPool(), enqueued{nil, true, true}},
		{"a pool that goes", portPool(), nil, enqueued{nil, true, true}},
		{"a pool's spec", portPool(generation(1)), portPool(generation(2)), enqueued{nil, true, true}},
		{"a pool's status", portPool(generation(1)), portPool(status), onlyStatus},
		{"a pool in another's place", portPool(generation(1)), portPool(other), enqueued{nil, true, true}},
		{"a namespace", nil, namespace("ns", "blue"), enqueued{[]uint16{30109}, true, false}},
		{"a namespace that goes", namespace("ns", "blue"), nil, onlyStatus},
		{"a namespace's labels", namespace("ns", "blue"), namespace("ns", "red"), enqueued{[]uint16{30109}, true, false}},
		{"a namespace that changes nothing here", namespace("ns", "blue"), namespace("ns", "blue"), quiet},
		{"another namespace's labels", namespace("x", "blue"), namespace("x", "red"), onlyStatus},
		{"a pod", nil, hostPod("p", 80), onlyStatus},
		{"a pod that goes", hostPod("p", 80), nil, onlyStatus},
		{"a pod without ports", nil, &corev1.Pod{}, quiet},
		{"a pod without ports that goes", &corev1.Pod{}, nil, quiet},
		{"a policy", nil, policy(), onlyStatus},
		{"a policy that goes", policy(), nil, onlyStatus},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				held := service("held", "9", 30109) // of the namespace ns
				b.create(held)
				controller := watching(b)
				q := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[uint16]())
				defer q.ShutDown()
				for _, channel := range []chan struct{}{controller.changed, controller.resync} {
					select {
					case <-channel:
					default:
					}
				}
				for _, leads := range []bool{false, true} {
					if leads {
						controller.queue.Store(&q)
					}
					deliver(controller, c.before, c.after)
					got := drain(controller, q)
					want := c.want
					if !leads {
						want.Ports = nil
					}
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("leads %v: (-want +got):\n%s", leads, diff)
					}
				}
			})
		})
	}
}

// deliver has the handler of a kind see an event; a deletion once more as one that the watch has missed.
func deliver(c *Controller, before, after client.Object) {
	for kind, handler := range c.handlers() {
		switch {
		case before == nil && kindOf(kind) == kindOf(after):
			handler.OnAdd(after, false)
		case before == nil || kindOf(kind) != kindOf(before):
		case after == nil:
			handler.OnDelete(toolscache.DeletedFinalStateUnknown{Key: before.GetName(), Obj: before})
		default:
			handler.OnUpdate(before, after)
		}
	}
}

func drain(c *Controller, q queue) enqueued {
	var got enqueued
	for q.Len() > 0 {
		n, _ := q.Get()
		q.Done(n)
		got.Ports = append(got.Ports, n)
	}
	slices.Sort(got.Ports)
	got.Status, got.Resync = len(c.changed) > 0, len(c.resync) > 0
	for _, channel := range []chan struct{}{c.changed, c.resync} {
		select {
		case <-channel:
		default:
		}
	}
	return got
}

// TestDeleted: a deletion is the same whether the watch has seen it or not.
func TestDeleted(t *testing.T) {
	var got []string
	h := handler(func(before, after *corev1.Service) { got = append(got, before.Name); _ = after })
	h.OnDelete(service("seen", "1"))
	h.OnDelete(toolscache.DeletedFinalStateUnknown{Obj: service("missed", "1")})
	if diff := cmp.Diff([]string{"seen", "missed"}, got); diff != "" {
		t.Error(diff)
	}
}

// TestIndexes: the keys by which Services and pods are found.
func TestIndexes(t *testing.T) {
	i := indexed{extract: map[string]client.IndexerFunc{}}
	if err := addIndexes(i); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, index string
		object      client.Object
		want        []string
	}{
		{"a Service", byNumber, service("web", "1", 30100, 30101), []string{"30100", "30101", anyNumber}},
		{"a Service without nodePorts", byNumber, service("web", "1"), nil},
		{"no Service", byNumber, &corev1.Pod{}, nil},
		{"a pod", byClaims, hostPod("p", 80), []string{anyClaim}},
		{"a pod without host ports", byClaims, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}}, nil},
		{"no pod", byClaims, &corev1.Service{}, nil},
	} {
		if diff := cmp.Diff(c.want, i.extract[c.index](c.object)); diff != "" {
			t.Errorf("%s: (-want +got):\n%s", c.name, diff)
		}
	}
	for _, index := range []string{byNumber, byClaims} {
		if err := addIndexes(indexed{refuses: index, extract: i.extract}); err == nil {
			t.Errorf("no error without the index %s", index)
		}
	}
}
