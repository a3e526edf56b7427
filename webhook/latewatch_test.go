package webhook

import (
	"fmt"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/pkg/seed"
)

// lateWatch is an API server whose watch is late: what is stored is shown after a while, in order.
type lateWatch struct {
	*bench
	stored  map[string]client.Object // by kind and name
	uids    int
	version int
	events  []func()
}

func key(kind, name string) string { return kind + " " + name }

func (w *lateWatch) store(kind, name string, object client.Object) {
	w.version++
	object.SetResourceVersion(fmt.Sprint(w.version))
	w.stored[key(kind, name)] = object
	w.stores(object)
	w.events = append(w.events, func() {
		seen := w.seen(object)
		w.cluster.ledger.Replace(seen.Owner, seen.Claims)
		w.cluster.shown[seen.Owner.Ref] = &seen
		w.Settle(seen)
	})
}

func (w *lateWatch) delete(kind, name string) {
	gone := w.stored[key(kind, name)]
	delete(w.stored, key(kind, name))
	w.deletes(gone)
	w.events = append(w.events, func() {
		seen := w.seen(gone)
		seen.Gone = true
		w.cluster.ledger.Release(seen.Owner.Ref)
		delete(w.cluster.shown, seen.Owner.Ref)
		w.Settle(seen)
	})
}

// TestLateWatch deletes and creates objects of few names and ports at once, while the watch is late: a port that the API
// server has is refused, and one that it has not is free. What was stored and deleted before the watch showed it looks like
// what is not stored yet: then the client has to try again until the grace is over.
func TestLateWatch(t *testing.T) {
	random := seed.Rand(t)
	w := &lateWatch{bench: newBench(t, ""), stored: map[string]client.Object{}}
	w.holds(node("n1"))
	counts := map[string]int{}
	for round := range seed.Rounds(1500, 200000) {
		kind, name, port := []string{"Service", "Pod", "DaemonSet"}[random.IntN(3)], string(rune('a'+random.IntN(3))), int32(30001+random.IntN(3))
		make := func(port int32) client.Object {
			switch kind {
			case "Service":
				return nodePortService(name, port)
			case "Pod":
				return with(hostPortPod(name, port), onNode("n1"))
			default:
				return workload("DaemonSet", name, port).(client.Object)
			}
		}
		old, exists := w.stored[key(kind, name)]
		switch what := random.IntN(10); {
		case what < 2 && exists:
			w.delete(kind, name)
			counts["delete"]++
			if what == 0 {
				continue
			}
			exists = false // and create it at once
			fallthrough
		case what < 6:
			object := make(port)
			paths := map[string][]string{"Service": {PathMutateServices, PathValidateServices}, "Pod": {PathMutatePods, PathValidatePods}, "DaemonSet": {PathValidateWorkload}}[kind]
			got, tries := w.again(t, paths, func(last bool) admissionv1.AdmissionRequest {
				if last {
					w.uids++
					object.SetUID(types.UID(fmt.Sprint(w.uids)))
				}
				return creates(kind, object)
			})
			want := w.holder(kind, name, port) == ""
			counts[fmt.Sprintf("create, exists %v, free %v, tries %d", exists, want, tries)]++
			if exists && got != "allow" || !exists && strings.HasPrefix(got, "allow") != want {
				t.Fatalf("round %d: create of %s %s with %d: %s; it exists: %v, held by %q", round, kind, name, port, got, exists, w.holder(kind, name, port))
			}
			if got == "allow" && !exists {
				w.store(kind, name, object)
			}
		case what < 8 && exists && kind == "Service":
			object := make(port)
			object.SetUID(old.GetUID())
			object.SetResourceVersion(old.GetResourceVersion())
			got, tries := w.again(t, []string{PathMutateServices, PathValidateServices}, func(bool) admissionv1.AdmissionRequest { return updates(kind, object, old) })
			want := w.holder(kind, name, port) == ""
			counts[fmt.Sprintf("update, free %v, tries %d", want, tries)]++
			if strings.HasPrefix(got, "allow") != want {
				t.Fatalf("round %d: update of %s %s to %d: %s, held by %q", round, kind, name, port, got, w.holder(kind, name, port))
			}
			if want {
				w.store(kind, name, object.DeepCopyObject().(client.Object))
			}
		}
		for random.IntN(3) > 0 && len(w.events) > random.IntN(12) && len(w.events) > 0 {
			w.events[0]()
			w.events = w.events[1:]
		}
	}
	t.Logf("%v", counts)
}

// through sends a request through the hooks that see it, and returns what came of it: "allow", also with warnings.
func (w *lateWatch) through(t *testing.T, paths []string, req func(last bool) admissionv1.AdmissionRequest) string {
	t.Helper()
	got := ""
	for i, path := range paths {
		if got = outcome(w.decideOn(t, path, req(i == len(paths)-1))); strings.HasPrefix(got, "deny") || strings.HasPrefix(got, "busy") {
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
		for _, c := range w.seen(object).Claims {
			if c.Port == uint16(port) {
				return k
			}
		}
	}
	return ""
}
