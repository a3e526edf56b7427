//go:build linux

package operations

import (
	"context"
	"fmt"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"

	"github.com/portcullis-k8s/portcullis/pkg/seed"
	"github.com/portcullis-k8s/portcullis/test/lab/binaries"
	"github.com/portcullis-k8s/portcullis/test/lab/controlplane"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
)

// moment is how long an outage lasts.
func moment() time.Duration {
	if seed.Soaking() {
		return 30 * time.Second
	}
	return 4 * time.Second
}

// TestOutages does one thing after the other to one installation, under traffic, and holds after each that it has come
// back: what is held is refused again, what is free is let through.
func TestOutages(t *testing.T) {
	t.Parallel()
	w := newWorld(t, controlplane.Options{})
	replicas := w.replicas(t)
	w.hold(t)
	for _, o := range []struct {
		name string
		do   func(*world, *testing.T, []*replica)
		// what may fail while it is done
		mayFail bool
	}{
		{"the API server restarts", (*world).restartAPIServer, false},
		{"etcd hangs", (*world).pauseEtcd, false},
		{"one replica is cut off", (*world).cutOffOne, true},
		{"all replicas are cut off", (*world).cutOffAll, true},
		{"the leader is killed", (*world).killOne, true},
		{"a rolling update to the same version", (*world).replaceAll, false},
	} {
		t.Run(o.name, func(t *testing.T) {
			tr := w.traffic(t, 25)
			time.Sleep(500 * time.Millisecond)
			o.do(w, t, replicas)
			begin := time.Now()
			w.works(t)
			t.Logf("works again %s after it is over", time.Since(begin).Round(time.Millisecond))
			time.Sleep(500 * time.Millisecond)
			if failures := tr.check(t, o.name); failures > 0 && !o.mayFail {
				t.Errorf("%d calls failed: %v", failures, tr.samples)
			}
		})
		if t.Failed() {
			return // the next would tell of this one
		}
	}
}

// works waits until both answers are right, several times in a row: there is more than one replica to ask.
func (w *world) works(t *testing.T) {
	t.Helper()
	poll.Until(t, func(ctx context.Context) error {
		for range 6 {
			if got := outcomeOf(deployment(ctx, w.client, held)); got != refused {
				return fmt.Errorf("the port that is held: %s", got)
			}
			if err := deployment(ctx, w.client, 8080); err != nil {
				return fmt.Errorf("a port that is free: %w", err)
			}
		}
		return nil
	})
}

func (w *world) restartAPIServer(t *testing.T, _ []*replica) {
	if err := w.Restart(t.Context(), binaries.KubeAPIServer); err != nil {
		t.Fatal(err)
	}
}

func (w *world) pauseEtcd(t *testing.T, _ []*replica) {
	if err := w.Pause(t.Context(), binaries.Etcd, moment()); err != nil {
		t.Fatal(err)
	}
}

func (w *world) cutOffOne(t *testing.T, replicas []*replica) {
	replicas[0].partition(t, true)
	time.Sleep(moment())
	replicas[0].partition(t, false)
}

// cutOffAll: the webhook and the API server do not reach each other. What has ports of nodes is refused, as the policy
// says, and everything else goes on; the replicas do not end.
func (w *world) cutOffAll(t *testing.T, replicas []*replica) {
	for _, r := range replicas {
		r.partition(t, true)
	}
	w.withoutWebhook(t)
	time.Sleep(moment())
	for _, r := range replicas {
		r.partition(t, false)
	}
}

// withoutGate holds what the policy says while no replica can be asked.
func (w *world) withoutWebhook(t *testing.T) {
	t.Helper()
	poll.Until(t, func(ctx context.Context) error { // the EndpointSlices follow
		if got := outcomeOf(deployment(ctx, w.client, 8080)); got != failed {
			return fmt.Errorf("a host port without a replica: %s", got)
		}
		return nil
	})
	for range 5 {
		if err := pod(t.Context(), w.client, 0); err != nil {
			t.Errorf("a pod without host ports: %v", err)
		}
		if got := outcomeOf(pod(t.Context(), w.client, 8080)); got != failed {
			t.Errorf("a pod with a host port: %s", got)
		}
	}
}

// killOne kills the replica that was there first, and puts another one into its place.
func (w *world) killOne(t *testing.T, replicas []*replica) {
	replicas[0].kill()
	replicas[0] = w.replica(t, thisVersion)
	poll.Until(t, replicas[0].ready)
}

func (w *world) replaceAll(t *testing.T, replicas []*replica) { w.roll(t, replicas, thisVersion) }

// roll replaces each replica by one of a version, as a Deployment with maxUnavailable 0 and maxSurge 1 does.
func (w *world) roll(t *testing.T, replicas []*replica, version string) {
	t.Helper()
	for i := range replicas {
		next := w.replica(t, version)
		poll.Until(t, next.ready)
		poll.Until(t, func(ctx context.Context) error { return w.listed(ctx, next) })
		replicas[i].stop()
		replicas[i] = next
		if got, err := w.policy(t.Context()); err != nil || got != admissionregistrationv1.Fail {
			t.Errorf("in the middle of an update failurePolicy is %q, %v", got, err)
		}
	}
}

// TestAllKilled: no replica is left and none had time to say so. Then they leave in order, and come back.
func TestAllKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, controlplane.Options{})
	replicas := w.replicas(t)
	w.hold(t)
	tr := w.traffic(t, 50)
	time.Sleep(time.Second)
	for _, r := range replicas {
		r.kill()
	}
	w.withoutWebhook(t)
	time.Sleep(moment())
	replicas = w.replicas(t)
	w.works(t)
	tr.check(t, "all replicas killed")
	if tr.count("free", failed) == 0 || tr.count("held", failed) == 0 {
		t.Error("nothing failed while there was no replica")
	}

	tr = w.traffic(t, 50)
	left := make(chan struct{})
	go func() { defer close(left); replicas[0].stop() }() // as when the Deployment is scaled to 0
	replicas[1].stop()
	<-left
	if got, err := w.policy(t.Context()); err != nil || got != admissionregistrationv1.Ignore {
		t.Errorf("when the last replica has left failurePolicy is %q, %v", got, err)
	}
	tr.stop()
	// Between the moment when the Service leads nowhere and the moment when that is known, calls do fail.
	t.Logf("the last replica leaves: %d calls, %d failures; %v", tr.calls.Load(), tr.count("free", failed)+tr.count("held", failed), tr.seen)
	for _, port := range []int32{held, 8080, 0} {
		if err := deployment(t.Context(), w.client, port); err != nil {
			t.Errorf("host port %d after the last replica has left: %v", port, err)
		}
	}
	w.replicas(t) // and it is armed again
	w.works(t)
}

// TestTwoVersions: a rolling update from the version before, and back, under traffic: no call fails.
func TestTwoVersions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, controlplane.Options{})
	replicas := []*replica{w.replica(t, previousVersion), w.replica(t, previousVersion)}
	w.awaitPolicy(t, admissionregistrationv1.Fail)
	w.hold(t)
	tr := w.traffic(t, 50)
	w.roll(t, replicas, thisVersion)
	w.roll(t, replicas, previousVersion)
	w.works(t)
	if failures := tr.check(t, "two versions side by side"); failures > 0 {
		t.Errorf("%d calls failed: %v", failures, tr.samples)
	}
}
