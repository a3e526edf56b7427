package webhook

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/pkg/journal"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
)

// lateWatch is an API server whose watches are late: what is stored is shown to each replica after a while, in order.
type lateWatch struct {
	*rand.Rand
	replicas []*bench
	events   [][]func()               // that each replica has yet to see
	stored   map[string]client.Object // by kind and name
	uids     int
	version  int
	counts   map[string]int
}

func newLateWatch(t *testing.T, replicas int) *lateWatch {
	w := &lateWatch{Rand: seed.Rand(t), stored: map[string]client.Object{}, events: make([][]func(), replicas), counts: map[string]int{}}
	all := &board{}
	for i := range replicas {
		b := newBench(t, "").holds(node("n1"))
		if replicas > 1 {
			b.UseJournal(&seat{board: all, self: i, merge: b.Merge})
		}
		w.replicas = append(w.replicas, b)
	}
	return w
}

// board is a journal as replicas see it that append one after the other.
type board struct {
	entries []journal.Entry
	by      []int
}

type seat struct {
	*board
	self, position int
	merge          func([]journal.Entry)
	meanwhile      func() // between what is written and the answer to it; nil: nothing
}

func (s *seat) pull() {
	for ; s.position < len(s.entries); s.position++ {
		if s.by[s.position] != s.self {
			s.merge(s.entries[s.position : s.position+1])
		}
	}
}

func (s *seat) Append(_ context.Context, e journal.Entry, isDue func() bool) error {
	if s.pull(); isDue() {
		s.add(e)
	}
	if s.meanwhile != nil {
		s.meanwhile()
	}
	return nil
}

func (s *seat) Withdraw(e journal.Entry) {
	e.Withdrawn = true
	s.add(e)
}

func (s *seat) add(e journal.Entry) {
	s.entries, s.by = append(s.entries, e), append(s.by, s.self)
}

func key(kind, name string) string { return kind + " " + name }

func (w *lateWatch) store(kind, name string, object client.Object) {
	w.version++
	object.SetResourceVersion(fmt.Sprint(w.version))
	w.stored[key(kind, name)] = object
	for i, b := range w.replicas {
		b.stores(object)
		w.events[i] = append(w.events[i], func() {
			seen := b.seen(object)
			b.cluster.ledger.Replace(seen.Owner, seen.Claims)
			b.cluster.shown[seen.Owner.Ref] = &seen
			b.Settle(seen)
		})
	}
}

func (w *lateWatch) delete(kind, name string) {
	gone, exists := w.stored[key(kind, name)]
	if !exists {
		return
	}
	delete(w.stored, key(kind, name))
	for i, b := range w.replicas {
		b.deletes(gone)
		w.events[i] = append(w.events[i], func() {
			seen := b.seen(gone)
			seen.Gone = true
			b.cluster.ledger.Release(seen.Owner.Ref)
			delete(b.cluster.shown, seen.Owner.Ref)
			b.Settle(seen)
		})
	}
}

// show has the replicas see a part of what they have yet to see, read what others have appended, and look after what they
// remember.
func (w *lateWatch) show(t *testing.T) {
	for i, b := range w.replicas {
		for n := len(w.events[i]); n > 20 || n > 0 && w.IntN(3) > 0 && n > w.IntN(12); n = len(w.events[i]) {
			w.events[i][0]()
			w.events[i] = w.events[i][1:]
		}
		if w.IntN(4) == 0 {
			read(b)
		}
		if w.IntN(4) == 0 {
			b.sweep(t.Context())
		}
	}
}

// read has a replica read what others have appended.
func read(b *bench) {
	if s, ok := b.journal.(*seat); ok {
		s.pull()
	}
}

func (w *lateWatch) pass(d time.Duration) {
	for _, b := range w.replicas {
		b.pass(d)
	}
}

// manifest is an object of a kind with one port.
func (*lateWatch) manifest(kind, name string, port int32) client.Object {
	switch kind {
	case "Service":
		return nodePortService(name, port)
	case "Pod":
		return with(hostPortPod(name, port), onNode("n1"))
	default:
		return workload("DaemonSet", name, port).(client.Object)
	}
}

// create creates an object, unless it is refused, as it is if somebody else has the port and only then.
func (w *lateWatch) create(t *testing.T, kind, name string, port int32) {
	t.Helper()
	object := w.manifest(kind, name, port)
	paths := map[string][]string{"Service": {hooks.PathMutateServices, hooks.PathValidateServices}, "Pod": {hooks.PathMutatePods, hooks.PathValidatePods}, "DaemonSet": {hooks.PathValidateWorkload}}[kind]
	got, tries := w.again(t, paths, func(last bool) admissionv1.AdmissionRequest {
		if last {
			w.uids++
			object.SetUID(types.UID(fmt.Sprint(w.uids)))
		}
		return creates(kind, object)
	})
	_, exists := w.stored[key(kind, name)]
	want := w.holder(kind, name, port) == ""
	w.counts[fmt.Sprintf("create, exists %v, free %v, tries %d", exists, want, tries)]++
	// A replica that has not heard of the object yet answers by who has the port, instead of leaving it to the API server.
	leaves := exists && (len(w.replicas) == 1 || want)
	if leaves && got != "allow" || !exists && strings.HasPrefix(got, "allow") != want {
		t.Fatalf("create of %s %s with %d: %s; it exists: %v, held by %q", kind, name, port, got, exists, w.holder(kind, name, port))
	}
	if got == "allow" && !exists {
		w.store(kind, name, object)
	}
}

func (w *lateWatch) update(t *testing.T, name string, port int32) {
	t.Helper()
	old, object := w.stored[key("Service", name)], nodePortService(name, port)
	object.SetUID(old.GetUID())
	object.SetResourceVersion(old.GetResourceVersion())
	got, tries := w.again(t, []string{hooks.PathMutateServices, hooks.PathValidateServices}, func(bool) admissionv1.AdmissionRequest { return updates("Service", object, old) })
	want := w.holder("Service", name, port) == ""
	w.counts[fmt.Sprintf("update, free %v, tries %d", want, tries)]++
	if strings.HasPrefix(got, "allow") != want {
		t.Fatalf("update of Service %s to %d: %s, held by %q", name, port, got, w.holder("Service", name, port))
	}
	if want {
		w.store("Service", name, object.DeepCopy())
	}
}

// TestLateWatch deletes and creates objects of few names and ports at once, while the watches are late: a port that the API
// server has is refused, and one that it has not is free, whichever replica is asked. What was stored and deleted before a watch
// showed it looks like what is not stored yet: then the client has to try again until the grace is over.
func TestLateWatch(t *testing.T) {
	for _, replicas := range []int{1, 2, 3} {
		t.Run(fmt.Sprint(replicas), func(t *testing.T) {
			w := newLateWatch(t, replicas)
			for range seed.Rounds(1500, 100000) {
				kind, name, port := []string{"Service", "Pod", "DaemonSet"}[w.IntN(3)], string(rune('a'+w.IntN(3))), int32(30001+w.IntN(3))
				_, exists := w.stored[key(kind, name)]
				switch what := w.IntN(10); {
				case what < 2 && exists:
					w.delete(kind, name)
					w.counts["delete"]++
					if what == 0 {
						continue
					}
					w.create(t, kind, name, port)
				case what < 6:
					w.create(t, kind, name, port)
				case what < 8 && exists && kind == "Service":
					w.update(t, name, port)
				}
				w.pass(time.Duration(w.IntN(500)) * time.Millisecond)
				w.show(t)
			}
			t.Logf("%v", w.counts)
		})
	}
}

// TestDeleteAndCreate deletes an object and creates one of its name at once, a thousand times, while the watches are late. The port
// that the object has is held, the ports that it had are free, whatever the watches show.
func TestDeleteAndCreate(t *testing.T) {
	for _, replicas := range []int{1, 2} {
		t.Run(fmt.Sprint("replicas ", replicas), func(t *testing.T) {
			w := newLateWatch(t, replicas)
			for range 1000 {
				kind, other := "Service", "Pod"
				if w.IntN(2) == 0 {
					kind, other = []string{"Pod", "DaemonSet"}[w.IntN(2)], "Service"
				}
				w.delete(kind, "a")
				w.create(t, kind, "a", int32(30001+w.IntN(4)))
				w.create(t, other, "b", int32(30001+w.IntN(4)))
				w.delete(other, "b")
				w.show(t)
			}
			t.Logf("%v", w.counts)
		})
	}
}

// through sends a request through the hooks that see it, each to some replica, and returns what came of it: "allow", also with
// warnings.
func (w *lateWatch) through(t *testing.T, paths []string, req func(last bool) admissionv1.AdmissionRequest) string {
	t.Helper()
	for i, path := range paths {
		b := w.replicas[w.IntN(len(w.replicas))]
		got := outcome(b.decideOn(t, path, req(i == len(paths)-1)))
		if strings.HasPrefix(got, "deny") || strings.HasPrefix(got, "busy") {
			return got
		}
	}
	return "allow"
}

// again is through for a client that tries again.
func (w *lateWatch) again(t *testing.T, paths []string, req func(last bool) admissionv1.AdmissionRequest) (got string, tries int) {
	t.Helper()
	for tries = 1; tries < 3; tries++ {
		if got = w.through(t, paths, req); !strings.HasPrefix(got, "busy") {
			return got, tries
		}
		for _, b := range w.replicas {
			read(b) // as each does every two seconds
		}
		w.pass(graceTime)
	}
	return got, tries
}

// holder is who has a port in the API server: another Service, or for pods a Service, and the other way round.
func (w *lateWatch) holder(kind, name string, port int32) string {
	for k, object := range w.stored {
		if k == key(kind, name) {
			continue
		}
		for _, c := range w.replicas[0].seen(object).Claims {
			if c.Port == uint16(port) {
				return k
			}
		}
	}
	return ""
}
