package api

import (
	"context"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
)

const atOnce = 64

// claim returns the claim that somebody makes of a number.
func claim(port int32, service string) *v1alpha1.PortClaim {
	return &v1alpha1.PortClaim{
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ClaimName(port)},
		Spec: v1alpha1.PortClaimSpec{
			Port: port, Pool: "team-payments", PortName: "https",
			Service:     v1alpha1.ClaimingService{Namespace: "payments", Name: service},
			RequestedAt: metav1.Now(),
		},
	}
}

// testClaims: a claim is a lock, and its life is what its controller needs.
func (s *server) testClaims(t *testing.T) {
	t.Run("one wins", func(t *testing.T) {
		outcomes := race(func(int) error { return s.Create(t.Context(), claim(30100, "gw")) })
		if outcomes["ok"] != 1 || outcomes[string(metav1.StatusReasonAlreadyExists)] != atOnce-1 {
			t.Errorf("got %v, want one winner, and that the number is taken for the others", outcomes)
		}
		s.deleteClaim(t, 30100)
	})
	t.Run("a new claim is Requested", func(t *testing.T) {
		c := claim(30101, "gw")
		c.Status = v1alpha1.PortClaimStatus{Phase: v1alpha1.ClaimBound, ServiceUID: "u"}
		if err := s.Create(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		defer s.deleteClaim(t, 30101)
		for range 2 { // what was answered, and what is stored
			if c.Status.Phase != v1alpha1.ClaimRequested || c.Status.ServiceUID != "" {
				t.Errorf("got %+v, want a status of which only the phase is known", c.Status)
			}
			if err := s.Get(t.Context(), client.ObjectKeyFromObject(c), c); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Run("a name is filled in once", func(t *testing.T) {
		c := claim(30102, "")
		c.Spec.Service.GenerateName = "gw-"
		if err := s.Create(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		defer s.deleteClaim(t, 30102)
		c.Spec.Service.Name = "gw-x7k2p"
		if err := s.Update(t.Context(), c); err != nil {
			t.Errorf("the name cannot be filled in: %v", err)
		}
		c.Spec.Service.Name = "gw-other"
		if err := s.Update(t.Context(), c); !apierrors.IsInvalid(err) {
			t.Errorf("got %v, want that the name stays", err)
		}
	})
	t.Run("a released number is taken back", s.testTakeBack)
	t.Run("claims of a pool", s.testClaimsOfPool)
}

// testTakeBack: of many who want a released number back, or want the claim gone, one is first, and the others hear of
// it.
func (s *server) testTakeBack(t *testing.T) {
	c := claim(30103, "gw")
	if err := s.Create(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	c.Status.Phase, c.Status.ServiceUID = v1alpha1.ClaimBound, "first"
	if err := s.Status().Update(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	c.Status.Phase, c.Status.ReleasedAt = v1alpha1.ClaimReleased, new(metav1.Now())
	if err := s.Status().Update(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	later := metav1.NewTime(c.Spec.RequestedAt.Add(time.Minute))
	outcomes := race(func(i int) error {
		if i%8 == 0 {
			version := c.ResourceVersion
			return s.Delete(t.Context(), c.DeepCopy(), client.Preconditions{ResourceVersion: &version})
		}
		mine := c.DeepCopy()
		mine.Status.Phase, mine.Status.ServiceUID, mine.Status.ReleasedAt, mine.Status.RequestedAgainAt = v1alpha1.ClaimRequested, "", nil, &later
		return s.Status().Update(t.Context(), mine)
	})
	gone := outcomes[string(metav1.StatusReasonConflict)] + outcomes[string(metav1.StatusReasonNotFound)]
	if outcomes["ok"] != 1 || gone != atOnce-1 {
		t.Errorf("got %v, want one winner, and a conflict or nothing left for the others", outcomes)
	}
	stored := &v1alpha1.PortClaim{}
	err := s.Get(t.Context(), client.ObjectKeyFromObject(c), stored)
	if apierrors.IsNotFound(err) { // a delete came first, and a new claim can be made
		if err := s.Create(t.Context(), claim(30103, "gw")); err != nil {
			t.Error(err)
		}
	} else if err != nil || stored.Status.Phase != v1alpha1.ClaimRequested || !stored.LastRequested().Time.Equal(later.Truncate(time.Second)) {
		t.Errorf("got %+v, last requested %v (%v), want it Requested again at %v", stored.Status, stored.LastRequested(), err, later)
	}
	s.deleteClaim(t, 30103)
}

// testClaimsOfPool: the claims of one pool, or of one namespace, can be listed without the others'.
func (s *server) testClaimsOfPool(t *testing.T) {
	mine, other := claim(30104, "gw"), claim(30105, "gw")
	other.Spec.Pool, other.Spec.Service.Namespace = "other", "shop"
	for _, c := range []*v1alpha1.PortClaim{mine, other} {
		if err := s.Create(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		defer s.deleteClaim(t, c.Spec.Port)
	}
	for _, selected := range []client.MatchingFields{{"spec.pool": "other"}, {"spec.service.namespace": "shop"}} {
		list := &v1alpha1.PortClaimList{}
		if err := s.List(t.Context(), list, selected); err != nil {
			t.Fatal(err)
		}
		if len(list.Items) != 1 || list.Items[0].Name != "np-30105" {
			t.Errorf("%v: got %d claims, want np-30105 only", selected, len(list.Items))
		}
	}
}

func (s *server) deleteClaim(t *testing.T, port int32) {
	t.Helper()
	if err := s.Delete(context.WithoutCancel(t.Context()), claim(port, "")); err != nil {
		t.Error(err)
	}
}

// race does something many times at once, and counts how it ended: "ok" or the reason why not.
func race(do func(i int) error) map[string]int {
	start := make(chan struct{})
	ended := make([]string, atOnce)
	var all sync.WaitGroup
	for i := range atOnce {
		all.Go(func() {
			<-start
			if err := do(i); err == nil {
				ended[i] = "ok"
			} else if reason := apierrors.ReasonForError(err); reason != metav1.StatusReasonUnknown {
				ended[i] = string(reason)
			} else {
				ended[i] = err.Error()
			}
		})
	}
	close(start)
	all.Wait()
	counts := map[string]int{}
	for _, e := range ended {
		counts[e]++
	}
	return counts
}

// testStatus: who writes the spec does not write the status, nor the other way round.
func (s *server) testStatus(t *testing.T) {
	for _, kind := range slices.Sorted(maps.Keys(kinds())) {
		stored := s.create(t, full(t, kind))
		before := stored.DeepCopy()
		u := stored.DeepCopy()
		u.Object["status"] = map[string]any{"conditions": []any{}}
		u.SetLabels(map[string]string{"touched": "true"})
		if err := s.Update(t.Context(), u); err != nil {
			t.Fatal(err)
		}
		if get(t, u.Object, "status.conditions[0].reason") != get(t, before.Object, "status.conditions[0].reason") {
			t.Errorf("%s: an update of the object changed its status", kind)
		}
		spec := map[string]string{"PortPool": "spec.priority", "PortPolicy": "spec.enforcement", "PortClaim": "spec.portName"}[kind]
		u.Object["status"] = map[string]any{"conditions": []any{}}
		if kind == "PortClaim" {
			set(t, u.Object, "status.phase", "Requested")
		}
		set(t, u.Object, spec, map[string]any{"PortPool": int64(7), "PortPolicy": "Audit", "PortClaim": "other"}[kind])
		if err := s.Status().Update(t.Context(), u); err != nil {
			t.Fatal(err)
		}
		if got, want := get(t, u.Object, spec), get(t, before.Object, spec); got != want {
			t.Errorf("%s: an update of the status changed %s from %v to %v", kind, spec, want, got)
		}
		if list := get(t, u.Object, "status.conditions").([]any); len(list) != 0 {
			t.Errorf("%s: the status was not written", kind)
		}
		if u.GetGeneration() != before.GetGeneration() {
			t.Errorf("%s: an update of the status counts as one of the spec", kind)
		}
	}
}
