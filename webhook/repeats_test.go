package webhook

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/pkg/journal"
)

// version is Service a as the API server has it at a resourceVersion.
func version(resourceVersion string, nodePorts ...int32) *corev1.Service {
	return with(nodePortService("a", nodePorts...), func(s *corev1.Service) { s.UID, s.ResourceVersion = "1", resourceVersion })
}

// TestRepeatFails: a request that is repeated, and cannot be agreed on that time, leaves the first one in flight: it was let through.
func TestRepeatFails(t *testing.T) {
	update := updates("Service", version("5", 30001), version("5"))
	t.Run("later", func(t *testing.T) {
		b := newBench(t, "").holds(version("5"))
		j := &recorder{}
		b.UseJournal(j)
		for _, path := range []string{hooks.PathMutateServices, hooks.PathValidateServices} {
			if got := outcome(b.decideOn(t, path, update)); got != free {
				t.Fatal(got)
			}
		}
		b.pass(sharedTime)
		j.fail = errors.New("etcd is slow")
		if d := b.decideOn(t, hooks.PathMutateServices, update); !d.busy {
			t.Fatal(outcome(d))
		}
		j.fail = nil
		if got := b.another(t); got != contended {
			t.Errorf("another Service gets %s", got)
		}
	})
	t.Run("meanwhile", func(t *testing.T) {
		b := newBench(t, "").holds(version("5"))
		j := &recorder{}
		b.UseJournal(j)
		j.append = func() {
			j.append = nil
			j.fail = errors.New("etcd is slow")
			if d := b.decideOn(t, hooks.PathMutateServices, update); !d.busy {
				t.Fatal(outcome(d))
			}
			j.fail = nil
		}
		if got := outcome(b.decideOn(t, hooks.PathMutateServices, update)); got != free {
			t.Fatal(got)
		}
		if got := b.another(t); got != contended {
			t.Errorf("another Service gets %s", got)
		}
	})
}

// delayed is a seat at which something happens before an entry is appended.
type delayed struct {
	*seat
	before    func()
	withdrawn int
}

func (d *delayed) Append(ctx context.Context, e journal.Entry, isDue func() bool) error {
	if before := d.before; before != nil {
		d.before = nil
		before()
	}
	return d.seat.Append(ctx, e, isDue)
}

func (d *delayed) Withdraw(journal.Entry) { d.withdrawn++ }

// TestRefusedRepeatIsNotWithdrawn: a request that is refused does not withdraw what an equal one has written, and was let through by.
func TestRefusedRepeatIsNotWithdrawn(t *testing.T) {
	shared := &board{}
	gone := with(nodePortService("h", 30001), func(s *corev1.Service) { s.UID = "9" })
	one, two := newBench(t, ""), newBench(t, "")
	for _, b := range []*bench{one, two} {
		b.holds(version("5"), gone).deletes(gone) // the watch is late
	}
	other := &seat{board: shared, self: 1, merge: two.Merge}
	two.UseJournal(other)
	update := updates("Service", version("5", 30001), version("5"))
	d := &delayed{seat: &seat{board: shared, self: 0, merge: one.Merge}}
	d.before = func() {
		if got := outcome(one.decideOn(t, hooks.PathMutateServices, update)); got != free {
			t.Fatal(got)
		}
		one.cluster.fails = context.DeadlineExceeded // the time of the first one is over
	}
	one.UseJournal(d)
	_ = one.decideOn(t, hooks.PathMutateServices, update) // refused, or let through as the other one was
	other.pull()
	if got := two.another(t); d.withdrawn > 0 || got == free {
		t.Errorf("%d entries withdrawn, and another Service gets %s", d.withdrawn, got)
	}
}

// TestRepeatedThenValidated: a Service that was refused again and again between the hooks has a grace of its own once it gets a uid,
// and an update once it changes another state of the object.
func TestRepeatedThenValidated(t *testing.T) {
	for name, c := range map[string]struct{ repeat, last func(b *bench) string }{
		"create": {
			func(b *bench) string {
				return outcome(b.decideOn(t, hooks.PathMutateServices, creates("Service", nodePortService("a", 30001))))
			},
			func(b *bench) string {
				return outcome(b.decideOn(t, hooks.PathValidateServices, creates("Service", version("", 30001))))
			},
		},
		"update": {
			func(b *bench) string {
				return outcome(b.decideOn(t, hooks.PathMutateServices, updates("Service", version("5", 30001), version("5"))))
			},
			func(b *bench) string {
				return outcome(b.decideOn(t, hooks.PathValidateServices, updates("Service", version("6", 30001), version("6"))))
			},
		},
	} {
		for n := range 15 {
			b := newBench(t, "")
			if name == "update" {
				b.holds(version("5"))
			}
			for range n {
				c.repeat(b)
				b.pass(350 * time.Millisecond)
				b.sweep(t.Context())
				b.pass(350 * time.Millisecond)
			}
			if first, last := c.repeat(b), c.last(b); first != free || last != free {
				t.Fatalf("%s: %s, %s", name, first, last)
			}
			b.pass(graceTime - time.Millisecond)
			if got := b.another(t); got != contended {
				t.Errorf("%s, after %d repeats: another Service gets %s", name, n, got)
			}
		}
	}
}

// TestSharedForShortGrace: the other replicas are told again before the short grace of a namespace is over there.
func TestSharedForShortGrace(t *testing.T) {
	shared := &board{}
	one, two := newBench(t, ""), newBench(t, "")
	for i, b := range []*bench{one, two} {
		b.holds(version("5"))
		b.UseJournal(&seat{board: shared, self: i, merge: b.Merge})
		b.flight.failed("default", maxFailures)
	}
	update := updates("Service", version("5", 30001), version("5"))
	for range 3 {
		if got := outcome(one.decideOn(t, hooks.PathMutateServices, update)); got != free {
			t.Fatal(got)
		}
		if got := outcome(two.decideOn(t, hooks.PathMutateServices, creates("Service", nodePortService("b", 30001)))); got != contended {
			t.Errorf("through the other replica another Service gets %s", got)
		}
		one.pass(shortGrace - time.Millisecond)
		two.pass(shortGrace - time.Millisecond)
	}
}

// TestOnePortOnManyNodes: pods that want one host port, each on its own node, do not keep each other from being agreed on.
func TestOnePortOnManyNodes(t *testing.T) {
	replicas := newReplicas(t, 2)
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			pod := with(hostPortPod(fmt.Sprint("p", i), 9000), onNode(fmt.Sprint("n", i)))
			if got := outcome(replicas[i%2].decideOn(t, hooks.PathValidatePods, creates("Pod", pod))); got != free {
				t.Errorf("pod %d: %s", i, got)
			}
		})
	}
	all.Wait()
}
