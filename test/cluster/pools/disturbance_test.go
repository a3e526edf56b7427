package pools

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/controller/leader"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
	"github.com/portcullis-k8s/portcullis/test/lab/binaries"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

// cut is a network between a replica and the API server that can be cut.
type cut struct{ is atomic.Bool }

type cutTransport struct {
	http.RoundTripper
	cut *cut
}

func (c cutTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if c.cut.is.Load() {
		return nil, errors.New("the network is cut")
	}
	return c.RoundTripper.RoundTrip(r)
}

// replica starts one of several controllers.
func (w *world) replica(t *testing.T, name string, network *cut) *running {
	t.Helper()
	config, err := w.RESTConfigFor(rig.Account)
	if err != nil {
		t.Fatal(err)
	}
	config.Wrap(func(rt http.RoundTripper) http.RoundTripper { return cutTransport{rt, network} })
	return w.run(t, settings{config: config, election: &leader.Election{
		Config: rest.CopyConfig(config), Namespace: "portcullis-system", Name: "portcullis", Identity: name, LeaseDuration: 3 * time.Second,
	}})
}

func (w *world) waitLeader(t *testing.T, name string) {
	t.Helper()
	poll.Until(t, func(ctx context.Context) error {
		var lease coordinationv1.Lease
		if err := w.Get(ctx, client.ObjectKey{Namespace: "portcullis-system", Name: "portcullis"}, &lease); err != nil {
			return err
		}
		if id := lease.Spec.HolderIdentity; id == nil || *id != name {
			return fmt.Errorf("the leader is %v, want %s", id, name)
		}
		return nil
	})
}

// testLeaders: of two replicas one works; when it is cut off or stops the other goes on, and nothing is done twice.
func testLeaders(t *testing.T, w *world) {
	ns := w.namespace(t, nil)
	w.pool(t, "leaders", "30300-30349", time.Hour)
	next := int32(30300)
	add := func() {
		t.Helper()
		var made []*corev1.Service
		for range 5 {
			if next%2 == 0 { // half of them with a claim, as the webhook makes it
				w.request(t, next, "leaders", named(ns, fmt.Sprint("s", next)))
			}
			made = append(made, w.service(t, ns, fmt.Sprint("s", next), next))
			next++
		}
		for _, svc := range made {
			w.waitBound(t, svc.Spec.Ports[0].NodePort, svc)
		}
	}
	networkA, networkB := &cut{}, &cut{}
	a := w.replica(t, "a", networkA)
	w.waitLeader(t, "a")
	b := w.replica(t, "b", networkB)
	add()
	if got := b.transitions(t); got["bound"]+got["imported"] != 0 {
		t.Errorf("the replica that does not lead wrote: %v", got)
	}
	claims := w.claims(t)

	networkA.is.Store(true)
	w.waitLeader(t, "b")
	add()
	networkA.is.Store(false)
	byA := a.transitions(t)
	add()
	if got := a.transitions(t); got["bound"] != byA["bound"] || got["imported"] != byA["imported"] {
		t.Errorf("a leader that has lost its lease wrote: %v, before %v", got, byA)
	}

	b.stop()
	w.waitLeader(t, "a")
	add()
	unchanged(t, claims, w.claims(t))
	byA, byB := a.transitions(t), b.transitions(t)
	if bound := byA["bound"] + byB["bound"]; bound != 20 {
		t.Errorf("%d Services were bound %d times: by one %v, by the other %v", 20, bound, byA, byB)
	}
	if byA["released"]+byB["released"]+byA["deleted"]+byB["deleted"] != 0 {
		t.Errorf("something was given up: by one %v, by the other %v", byA, byB)
	}
	waitPool(t, w, "leaders", usage, "50: 20 allocated, 30 available, 0 quarantined, 0 foreign, 40%")
}

// testOutage: no claim is lost while the API server is away or etcd does not answer, and work goes on after it.
func testOutage(t *testing.T, w *world) {
	ns := w.namespace(t, nil)
	w.pool(t, "outage", "30350-30399", time.Hour)
	var made []*corev1.Service
	for n := int32(30350); n < 30370; n++ {
		made = append(made, w.service(t, ns, fmt.Sprint("s", n), n))
	}
	// Long enough for a Service to come after its request, also on a machine that is busy.
	r := w.run(t, settings{lifetime: 5 * time.Second})
	for _, svc := range made {
		w.waitBound(t, svc.Spec.Ports[0].NodePort, svc)
	}
	claims := w.claims(t)
	disturbances := []func() error{
		func() error { return w.Pause(t.Context(), binaries.Etcd, 2*time.Second) },
		func() error { return w.Restart(t.Context(), binaries.KubeAPIServer) },
	}
	if seed.Soaking() {
		disturbances = append(disturbances, func() error {
			return errors.Join(w.Kill(binaries.Etcd), w.Restart(t.Context(), binaries.Etcd))
		})
	}
	for i, disturb := range disturbances {
		// Requests are just being made: one whose Service is there, and one whose Service never comes.
		n := int32(30370 + 10*i)
		w.request(t, n, "outage", named(ns, fmt.Sprint("s", n)))
		w.request(t, n+1, "outage", named(ns, "never"))
		svc := w.service(t, ns, fmt.Sprint("s", n), n)
		released := made[i]
		w.delete(t, released)
		if err := disturb(); err != nil {
			t.Fatal(err)
		}
		w.waitBound(t, n, svc)
		w.waitFree(t, n+1)
		w.waitPhase(t, released.Spec.Ports[0].NodePort, v1alpha1.ClaimReleased, v1alpha1.ReasonServiceGone)
		after := serviceOf(ns, fmt.Sprint("after", n), n+2)
		poll.Until(t, func(ctx context.Context) error { return w.Create(ctx, after) })
		w.waitBound(t, n+2, after)
		unchanged(t, claims, w.claims(t))
	}
	if got := r.transitions(t); got["released"] != len(disturbances) || got["deleted"] != len(disturbances) {
		t.Errorf("transitions: %v, want what was given up each time and no more", got)
	}
}
