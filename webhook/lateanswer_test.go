package webhook

import (
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/pkg/journal"
)

// TestGraceBeginsWithTheAnswer: the time in which the replicas agree on a write, which is long while etcd is slow, is no part of its
// grace, and meanwhile it is not forgotten either.
func TestGraceBeginsWithTheAnswer(t *testing.T) {
	for name, failed := range map[string]int{"grace": 0, "short grace": maxFailures} {
		for _, path := range []string{hooks.PathMutateServices, hooks.PathValidateServices} {
			b := newBench(t, "")
			b.flight.failed("default", failed)
			b.UseJournal(&seat{board: &board{}, merge: b.Merge, meanwhile: func() {
				b.pass(graceTime)
				if got := b.another(t); got != contended {
					t.Errorf("%s, %s: before the answer another Service gets %s", name, path, got)
				}
				b.sweep(t.Context())
			}})
			svc := with(nodePortService("a", 30001), func(s *corev1.Service) { s.UID = "1" })
			if got := outcome(b.decideOn(t, path, creates("Service", svc))); got != free {
				t.Fatal(name, path, got)
			}
			b.pass(shortGrace - time.Millisecond)
			if got := b.another(t); got != contended {
				t.Errorf("%s, %s: after the answer another Service gets %s", name, path, got)
			}
			b.pass(graceTime)
			b.sweep(t.Context())
			if len(b.flight.owners) > 0 {
				t.Errorf("%s, %s: %v is never forgotten", name, path, b.flight.owners)
			}
		}
	}
}

// TestLateAnswer: a replica that is stopped between telling the others of a write and answering gives it the long grace: else the
// others would have forgotten it by the time it is stored.
func TestLateAnswer(t *testing.T) {
	for _, stopped := range []time.Duration{sharedTime, 900 * time.Millisecond, 2 * time.Second} {
		pause := stopped
		shared := &board{}
		one, two := newBench(t, ""), newBench(t, "")
		other := &seat{board: shared, self: 1, merge: two.Merge}
		one.UseJournal(&seat{board: shared, self: 0, merge: one.Merge, meanwhile: func() {
			other.pull()
			one.pass(pause)
			two.pass(pause)
			pause = 0
		}})
		two.UseJournal(other)
		for _, b := range []*bench{one, two} {
			b.flight.failed("default", maxFailures)
		}
		svc := with(nodePortService("a", 30001), func(s *corev1.Service) { s.UID = "1" })
		if got := outcome(one.decideOn(t, hooks.PathValidateServices, creates("Service", svc))); got != free {
			t.Fatal(stopped, got)
		}
		two.pass(sharedTime - time.Millisecond)
		if got := outcome(two.decideOn(t, hooks.PathMutateServices, creates("Service", nodePortService("b", 30001)))); got != contended {
			t.Errorf("stopped for %v: through the other replica another Service gets %s", stopped, got)
		}
	}
}

// TestSlowRead: a read that has waited does not show that a write has failed: the write may have waited as well.
func TestSlowRead(t *testing.T) {
	b := newBench(t, "")
	if got := outcome(b.decideOn(t, hooks.PathValidateServices, creates("Service", nodePortService("a", 30001)))); got != free {
		t.Fatal(got)
	}
	b.pass(graceTime)
	b.cluster.reading = func() { b.pass(slowRead + 1) }
	b.sweep(t.Context())
	if got := b.another(t); got != contended {
		t.Errorf("after slow reads: %s", got)
	}
	b.cluster.reading = nil
	if got := b.another(t); got != free {
		t.Errorf("after a quick one: %s", got)
	}
}

// TestOpenIsNotWithdrawn: what is withdrawn of a name leaves a request for that name that is still being judged.
func TestOpenIsNotWithdrawn(t *testing.T) {
	b := newBench(t, "")
	a := nodePortService("a", 30001)
	seen := b.seen(a)
	withdrawn := journal.Entry{Owner: seen.Owner, Claims: seen.Claims, Withdrawn: true}
	b.UseJournal(&seat{board: &board{}, merge: b.Merge, meanwhile: func() { b.Merge([]journal.Entry{withdrawn}) }})
	if got := outcome(b.decideOn(t, hooks.PathMutateServices, creates("Service", a))); got != free {
		t.Fatal(got)
	}
	if got := b.another(t); got != contended {
		t.Error(got)
	}
	if e := b.flight.owners[seen.Owner.Ref]; e == nil || slices.ContainsFunc(e.writes, func(w write) bool { return w.isOpen }) {
		t.Errorf("in flight: %v", e)
	}
}

// TestSharedSlowRead: who joins a read that others have waited for for long has not read quickly.
func TestSharedSlowRead(t *testing.T) {
	b := newBench(t, "")
	if got := outcome(b.decideOn(t, hooks.PathValidateServices, creates("Service", nodePortService("a", 30001)))); got != free {
		t.Fatal(got)
	}
	b.pass(graceTime)
	ref := b.seen(nodePortService("a", 0)).Owner.Ref
	b.reading[ref] = []time.Time{b.clock.Add(-slowRead - 1)}
	if _, isSlow, err := b.read(t.Context(), ref); !isSlow || err != nil {
		t.Errorf("slow %v, %v", isSlow, err)
	}
	if got := b.another(t); got != contended {
		t.Error(got)
	}
	delete(b.reading, ref)
	if got := b.another(t); got != free || len(b.reading) != 0 {
		t.Errorf("%s, reads under way %v", got, b.reading)
	}
}

// TestOpenStands: a write that is open is not replaced by another one to the same object, and its grace is its own.
func TestOpenStands(t *testing.T) {
	b := newBench(t, "")
	claims := b.seen(nodePortService("a", 30001)).Claims
	owner := b.seen(nodePortService("a", 30001)).Owner
	first := b.flight.record(owner, write{claims: claims, isOpen: true})
	second := b.flight.record(owner, write{claims: claims, isOpen: true})
	b.flight.record(owner, write{claims: claims}) // of another replica
	b.pass(time.Second)
	b.flight.admit(owner.Ref, second)
	if w := b.flight.numbered(owner.Ref, first); w == nil || !w.isOpen {
		t.Fatalf("the first is %v", w)
	}
	b.pass(time.Second)
	b.flight.admit(owner.Ref, first)
	if w := b.flight.numbered(owner.Ref, first); w == nil || w.isOpen || !w.at.Equal(b.clock) {
		t.Errorf("the first is %v", w)
	}
	for i := range 2 * maxOwnerWrites {
		b.flight.record(owner, write{claims: b.seen(nodePortService("a", int32(30100+i))).Claims})
	}
	open := b.flight.record(owner, write{claims: claims, isOpen: true})
	for i := range 2 * maxOwnerWrites {
		b.flight.record(owner, write{claims: b.seen(nodePortService("a", int32(30200+i))).Claims})
	}
	if w := b.flight.numbered(owner.Ref, open); w == nil {
		t.Error("later writes have taken the place of one that is open")
	}
}

// TestAdmittedIsBounded: writes that are admitted are remembered within the bound, the oldest go first.
func TestAdmittedIsBounded(t *testing.T) {
	b := newBench(t, "")
	claims := b.seen(nodePortService("a", 30001)).Claims
	for i := range maxWrites + 1000 {
		owner := b.seen(nodePortService(fmt.Sprint("a", i), 30001)).Owner
		number := b.flight.record(owner, write{claims: claims, isOpen: true})
		b.pass(time.Millisecond)
		b.flight.admit(owner.Ref, number)
	}
	if len(b.flight.owners) > maxWrites || len(b.flight.queue) > maxWrites {
		t.Errorf("%d owners, %d in the queue", len(b.flight.owners), len(b.flight.queue))
	}
}
