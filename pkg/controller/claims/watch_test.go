package claims

import (
	"context"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/controller/internal/fake"
)

// enqueued is what an event of a controller that leads leads to.
type enqueued struct {
	Ports  []uint16
	Resync bool
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
	for _, c := range []struct {
		name          string
		before, after client.Object // nil: it comes, or goes
		want          enqueued
	}{
		{"a Service without nodePorts", nil, fake.Service("web", "1"), quiet},
		{"a Service with some", nil, fake.Service("web", "1", 30100, 30101), enqueued{[]uint16{30100, 30101}, false}},
		{"a Service that goes", fake.Service("web", "1", 30100), nil, enqueued{[]uint16{30100}, false}},
		{"a Service that goes and had none", fake.Service("web", "1"), nil, quiet},
		{"a Service that changes nothing here", fake.Service("web", "1", 30100), fake.Service("web", "1", 30100), quiet},
		{"a Service that changes a nodePort", fake.Service("web", "1", 30100), fake.Service("web", "1", 30101), enqueued{[]uint16{30100, 30101}, false}},
		{"a Service that gets one", fake.Service("web", "1"), fake.Service("web", "1", 30101), enqueued{[]uint16{30101}, false}},
		{"a Service's labels", fake.Service("web", "1", 30100), labelled(fake.Service("web", "1", 30100)), enqueued{[]uint16{30100}, false}},
		{"labels of one without nodePorts", fake.Service("web", "1"), labelled(fake.Service("web", "1")), quiet},
		{"a Service in another's place", fake.Service("web", "1", 30100), fake.Service("web", "2", 30100), enqueued{[]uint16{30100}, false}},
		{"a claim", nil, claim(), enqueued{[]uint16{30100}, false}},
		{"a claim that changes", claim(), claim(phase(v1alpha1.ClaimBound, "1")), enqueued{[]uint16{30100}, false}},
		{"a claim that goes", claim(port(30102)), nil, enqueued{[]uint16{30102}, false}},
		{"a pool", nil, fake.PortPool(), enqueued{nil, true}},
		{"a pool that goes", fake.PortPool(), nil, enqueued{nil, true}},
		{"a pool's spec", fake.PortPool(generation(1)), fake.PortPool(generation(2)), enqueued{nil, true}},
		{"a pool's status", fake.PortPool(generation(1)), fake.PortPool(status), quiet},
		{"a pool in another's place", fake.PortPool(generation(1)), fake.PortPool(other), enqueued{nil, true}},
		{"a namespace", nil, fake.Namespace("ns", "blue"), enqueued{[]uint16{30109}, false}},
		{"a namespace that goes", fake.Namespace("ns", "blue"), nil, quiet},
		{"a namespace's labels", fake.Namespace("ns", "blue"), fake.Namespace("ns", "red"), enqueued{[]uint16{30109}, false}},
		{"a namespace that changes nothing here", fake.Namespace("ns", "blue"), fake.Namespace("ns", "blue"), quiet},
		{"another namespace's labels", fake.Namespace("x", "blue"), fake.Namespace("x", "red"), quiet},
		{"a pod", nil, fake.Pod("default", "p", 80), quiet},
		{"a policy", nil, &v1alpha1.PortPolicy{}, quiet},
	} {
		t.Run(c.name, func(t *testing.T) {
			fake.Run(t, func(t *testing.T, api *fake.Cluster) {
				api.Add(fake.Service("held", "9", 30109)) // of the namespace ns
				controller := watching(api)
				q := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[uint16]())
				defer q.ShutDown()
				drain(controller, q)
				for _, leads := range []bool{false, true} {
					if leads {
						controller.queue.Store(&q)
					}
					fake.Deliver(controller.handlers(), c.before, c.after)
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

func drain(c *Controller, q queue) enqueued {
	var got enqueued
	for q.Len() > 0 {
		port, _ := q.Get()
		q.Done(port)
		got.Ports = append(got.Ports, port)
	}
	slices.Sort(got.Ports)
	select {
	case <-c.resync:
		got.Resync = true
	default:
	}
	return got
}

// TestIndexes: the keys by which Services are found.
func TestIndexes(t *testing.T) {
	for _, c := range []struct {
		name   string
		object client.Object
		want   []string
	}{
		{"a Service", fake.Service("web", "1", 30100, 30101), []string{"30100", "30101", anyNodePort}},
		{"a Service without nodePorts", fake.Service("web", "1"), nil},
		{"no Service", &corev1.Pod{}, nil},
	} {
		if diff := cmp.Diff(c.want, nodePortKeys(c.object)); diff != "" {
			t.Errorf("%s: (-want +got):\n%s", c.name, diff)
		}
	}
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		api.Cache.Rejects[reflect.TypeFor[*corev1.Service]()] = fake.ErrDown
		if _, err := New(api.Manager(), Options{}); err == nil {
			t.Error("no error without the index")
		}
	})
}

// TestControllerBegins: a controller that cannot watch a kind says so, and one that is to stop does.
func TestControllerBegins(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		c, err := New(api.Manager(), Options{Now: time.Now})
		if err != nil || c.NeedLeaderElection() {
			t.Fatal(err)
		}
		api.Cache.Rejects[reflect.TypeFor[*v1alpha1.PortClaim]()] = fake.ErrDown
		if err := c.Start(t.Context()); err == nil {
			t.Error("no error")
		}
		select {
		case <-c.Synced():
			t.Error("it says that it has seen everything")
		default:
		}
		api.Cache.Rejects = nil
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := c.Start(ended); err != nil {
			t.Errorf("%v of one that is to stop", err)
		}
	})
}
