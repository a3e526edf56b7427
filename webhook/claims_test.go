package webhook

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
)

// api is an API server with PortClaims in memory. A test can have calls fail, or do something before one is carried out.
type api struct {
	client.Client
	calls []string                                       // each as its verb and the nodePort: create 30001
	first map[string][]func(context.Context, *api) error // by verb: what happens before the first call, the second and so on
}

// before has things happen before the first call of a verb, the second and so on.
func (a *api) before(verb string, steps ...func(context.Context, *api) error) *api {
	a.first[verb] = append(a.first[verb], steps...)
	return a
}

func (a *api) call(ctx context.Context, verb, name string) error {
	a.calls = append(a.calls, verb+" "+strings.TrimPrefix(name, "np-"))
	if steps := a.first[verb]; len(steps) > 0 {
		a.first[verb] = steps[1:]
		return steps[0](ctx, a)
	}
	return nil
}

func newAPI(t testing.TB, stored ...*v1alpha1.PortClaim) *api {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	a := &api{first: map[string][]func(context.Context, *api) error{}}
	builder := fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&v1alpha1.PortClaim{})
	for _, c := range stored {
		builder.WithObjects(c.DeepCopy())
	}
	a.Client = interceptor.NewClient(builder.Build(), interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			if err := a.call(ctx, "create", o.GetName()); err != nil {
				return err
			}
			return c.Create(ctx, o, opts...)
		},
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if err := a.call(ctx, "get", key.Name); err != nil {
				return err
			}
			return c.Get(ctx, key, o, opts...)
		},
		SubResourceUpdate: func(ctx context.Context, c client.Client, sub string, o client.Object, opts ...client.SubResourceUpdateOption) error {
			if err := a.call(ctx, "update", o.GetName()); err != nil {
				return err
			}
			return c.SubResource(sub).Update(ctx, o, opts...)
		},
	})
	return a
}

// stored is the claim of a nodePort as it is stored, nil for none.
func (a *api) stored(t testing.TB, nodePort int32) *v1alpha1.PortClaim {
	t.Helper()
	var list v1alpha1.PortClaimList
	if err := a.List(context.Background(), &list); err != nil {
		t.Fatal(err)
	}
	for i := range list.Items {
		if list.Items[i].Spec.Port == nodePort {
			return &list.Items[i]
		}
	}
	return nil
}

// What happens before a call.

func fails(err error) func(context.Context, *api) error {
	return func(context.Context, *api) error { return err }
}

func goesThrough(context.Context, *api) error { return nil }

// someoneTakes has another replica create a claim at that moment.
func someoneTakes(claim *v1alpha1.PortClaim) func(context.Context, *api) error {
	return func(ctx context.Context, a *api) error {
		c := claim.DeepCopy()
		c.ResourceVersion = ""
		return errors.Join(client.IgnoreNotFound(a.Client.Delete(ctx, c.DeepCopy())), a.replace(ctx, c))
	}
}

// replace stores a claim past the steps.
func (a *api) replace(ctx context.Context, c *v1alpha1.PortClaim) error {
	kept, calls := a.first, a.calls
	a.first = nil
	err := a.Client.Create(ctx, c)
	a.first, a.calls = kept, calls
	return err
}

func someoneDeletes(nodePort int32) func(context.Context, *api) error {
	return func(ctx context.Context, a *api) error {
		return a.Client.Delete(ctx, &v1alpha1.PortClaim{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ClaimName(nodePort)}})
	}
}

func claimResource() schema.GroupResource {
	return schema.GroupResource{Group: v1alpha1.Group, Resource: "portclaims"}
}

func conflict() error { return apierrors.NewConflict(claimResource(), "np", errors.New("modified")) }

// Edits of claims.

func requestedAt(second int64) func(*v1alpha1.PortClaim) {
	return func(c *v1alpha1.PortClaim) { c.Spec.RequestedAt = metav1.Unix(second, 0) }
}

func boundTo(uid string) func(*v1alpha1.PortClaim) {
	return func(c *v1alpha1.PortClaim) { c.Status.Phase, c.Status.ServiceUID = v1alpha1.ClaimBound, uid }
}

func releasedAt(second int64) func(*v1alpha1.PortClaim) {
	return func(c *v1alpha1.PortClaim) {
		c.Status = v1alpha1.PortClaimStatus{Phase: v1alpha1.ClaimReleased, ReleasedAt: new(metav1.Unix(second, 0))}
	}
}

// TestTake: a PortClaim is a lock on a nodePort: it can be created once, and only the Service that it is for takes it again.
func TestTake(t *testing.T) {
	const now = 1000 // seconds
	mine := func(edits ...func(*v1alpha1.PortClaim)) *v1alpha1.PortClaim {
		return with(with(claimed(30001, "a", v1alpha1.ClaimRequested), requestedAt(0)), edits...)
	}
	theirs := claimed(30001, "b", v1alpha1.ClaimRequested)
	fresh := requestedAt(now - 2)
	gone := apierrors.NewInternalError(errors.New("etcd"))
	for _, c := range []struct {
		name         string
		seen, stored *v1alpha1.PortClaim
		steps        map[string][]func(context.Context, *api) error
		booking      Booking
		has          bool
		fails        bool
		calls        string
		after        string // whose claim it is, and its phase
	}{
		{"free", nil, nil, nil, Booking{IsNew: true}, true, false, "create", "a"},
		{"created by another, not seen", nil, theirs, nil, Booking{IsNew: true}, false, false, "create get get", "b Requested"},
		{"created by another at that moment", nil, nil, steps("create", someoneTakes(theirs)), Booking{IsNew: true}, false, false, "create get get", "b Requested"},
		{"created for it by another replica", nil, mine(fresh), nil, Booking{IsNew: true}, true, false, "create get", "a Requested"},
		{"created for it long ago, not seen", nil, mine(), nil, Booking{IsNew: true}, true, false, "create get update", "a Requested again"},
		{"deleted before it could be read", nil, mine(), steps("get", someoneDeletes(30001)), Booking{IsNew: true}, true, false, "create get create", "a"},

		{"another's", theirs, theirs, nil, Booking{IsNew: true}, false, false, "get", "b Requested"},
		{"seen as another's, but gone", theirs, nil, nil, Booking{IsNew: true}, true, false, "get create", "a"},
		{"seen as another's, but its own by now", theirs, mine(fresh), nil, Booking{IsNew: true}, true, false, "get", "a Requested"},
		{"of another namespace", with(mine(fresh), func(c *v1alpha1.PortClaim) { c.Spec.Service.Namespace = "x" }), theirs, nil, Booking{IsNew: true}, false, false, "get", "b Requested"},

		{"its own, just requested", mine(fresh), mine(fresh), nil, Booking{IsNew: true}, true, false, "", "a Requested"},
		{"its own, without a phase", mine(fresh, func(c *v1alpha1.PortClaim) { c.Status.Phase = "" }), mine(fresh), nil, Booking{IsNew: true}, true, false, "", "a Requested"},
		{"its own, requested at the end of that time", mine(requestedAt(now - 3)), mine(requestedAt(now - 3)), nil, Booking{IsNew: true}, true, false, "update", "a Requested again"},
		{"its own, requested by a clock that is ahead", mine(requestedAt(now + 60)), mine(requestedAt(now + 60)), nil, Booking{IsNew: true}, true, false, "update", "a Requested again"},
		{"its own, just requested again", mine(func(c *v1alpha1.PortClaim) { c.Status.RequestedAgainAt = new(metav1.Unix(now-1, 0)) }), nil, nil, Booking{IsNew: true}, true, false, "", ""},
		{"its own, released", mine(releasedAt(now - 60)), mine(releasedAt(now - 60)), nil, Booking{IsNew: true}, true, false, "update", "a Requested again"},
		{"its own, bound", mine(boundTo("u1")), mine(boundTo("u1")), nil, Booking{UID: "u1"}, true, false, "", "a Bound"},
		{"its own, bound to one of its name that was before", mine(boundTo("u0")), mine(boundTo("u0")), nil, Booking{UID: "u1"}, true, false, "update", "a Requested again"},
		{"its own, bound, and created anew", mine(boundTo("u1")), mine(boundTo("u1")), nil, Booking{IsNew: true, UID: "u1"}, true, false, "update", "a Requested again"},
		{"its own, bound, and the UID not known", mine(boundTo("")), mine(boundTo("")), nil, Booking{}, true, false, "update", "a Requested again"},

		{"written by the controller meanwhile", mine(), mine(), steps("update", fails(conflict())), Booking{IsNew: true}, true, false, "update get update", "a Requested again"},
		{"deleted by the controller meanwhile", mine(), nil, nil, Booking{IsNew: true}, true, false, "update get create", "a"},
		{"deleted and taken by another meanwhile", mine(), theirs, steps("update", fails(conflict())), Booking{IsNew: true}, false, false, "update get get", "b Requested"},
		{"written again and again", mine(), mine(), steps("update", fails(conflict()), fails(conflict()), fails(conflict()), fails(conflict())), Booking{IsNew: true}, false, false, "update get update get update get update get", "a Requested"},

		{"create fails", nil, nil, steps("create", fails(gone)), Booking{IsNew: true}, false, true, "create", ""},
		{"create is forbidden", nil, nil, steps("create", fails(apierrors.NewForbidden(claimResource(), "np-30001", errors.New("rbac")))), Booking{IsNew: true}, false, true, "create", ""},
		{"get fails after create", nil, theirs, steps("get", fails(gone)), Booking{IsNew: true}, false, true, "create get", "b Requested"},
		{"get fails", theirs, theirs, steps("get", fails(gone)), Booking{IsNew: true}, false, true, "get", "b Requested"},
		{"update fails", mine(), mine(), steps("update", fails(gone)), Booking{IsNew: true}, false, true, "update", "a Requested"},
		{"get fails after a conflict", mine(), mine(), merged(steps("update", fails(conflict())), steps("get", fails(gone))), Booking{IsNew: true}, false, true, "update get", "a Requested"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var stored []*v1alpha1.PortClaim
			if c.stored != nil {
				stored = append(stored, c.stored)
			}
			a := newAPI(t, stored...)
			for verb, s := range c.steps {
				a.before(verb, s...)
			}
			seen := c.seen
			if seen != nil && c.stored != nil && a.stored(t, 30001) != nil {
				seen = seen.DeepCopy()
				seen.ResourceVersion = a.stored(t, 30001).ResourceVersion
			}
			claims := NewClaims(a, a, func(uint16) *v1alpha1.PortClaim { return seen }, func() time.Time { return time.Unix(now, 0) })
			c.booking.Port, c.booking.Pool, c.booking.PortName = 30001, "pool", "p0"
			c.booking.Service = v1alpha1.ClaimingService{Namespace: "default", Name: "a"}
			has, err := claims.take(t.Context(), c.booking)
			if has != c.has || (err != nil) != c.fails {
				t.Errorf("has %v, error %v", has, err)
			}
			if got := strings.ReplaceAll(strings.Join(a.calls, " "), " 30001", ""); got != c.calls {
				t.Errorf("calls %q, want %q", got, c.calls)
			}
			if got := told(a.stored(t, 30001), now); got != c.after {
				t.Errorf("stored: %q, want %q", got, c.after)
			}
		})
	}
}

// told is whose a claim is and its phase, with "again" if it was requested again now.
func told(c *v1alpha1.PortClaim, now int64) string {
	if c == nil {
		return ""
	}
	text := c.Spec.Service.Name + " " + string(c.Status.Phase)
	if at := c.Status.RequestedAgainAt; at != nil && at.Unix() == now {
		text += " again"
	}
	return strings.TrimSpace(text)
}

func steps(verb string, list ...func(context.Context, *api) error) map[string][]func(context.Context, *api) error {
	return map[string][]func(context.Context, *api) error{verb: list}
}

func merged(a, b map[string][]func(context.Context, *api) error) map[string][]func(context.Context, *api) error {
	for verb, list := range b {
		a[verb] = append(a[verb], list...)
	}
	return a
}

// TestTakeWrites: a claim says whose the nodePort is, of which pool, for which port and since when; one that is taken again
// keeps that and who had it last, and forgets what became of it.
func TestTakeWrites(t *testing.T) {
	a := newAPI(t)
	now := time.Unix(1000, 0)
	var seen *v1alpha1.PortClaim
	claims := NewClaims(a, a, func(uint16) *v1alpha1.PortClaim { return seen }, func() time.Time { return now })
	b := Booking{Port: 30001, Pool: "edge", PortName: "p0", Service: v1alpha1.ClaimingService{Namespace: "default", GenerateName: "a-"}, IsNew: true}
	if has, err := claims.take(t.Context(), b); !has || err != nil {
		t.Fatal(has, err)
	}
	spec := v1alpha1.PortClaimSpec{Port: 30001, Pool: "edge", PortName: "p0", Service: b.Service, RequestedAt: metav1.Unix(1000, 0)}
	seen = a.stored(t, 30001)
	if diff := cmp.Diff(spec, seen.Spec); diff != "" || seen.Name != "np-30001" {
		t.Errorf("%s (-want +got):\n%s", seen.Name, diff)
	}
	with(seen, releasedAt(1010), func(c *v1alpha1.PortClaim) { c.Status.ServiceUID = "u1" })
	now = now.Add(time.Minute)
	if has, err := claims.take(t.Context(), b); !has || err != nil {
		t.Fatal(has, err)
	}
	again := a.stored(t, 30001)
	if diff := cmp.Diff(v1alpha1.PortClaimStatus{Phase: v1alpha1.ClaimRequested, ServiceUID: "u1", RequestedAgainAt: new(metav1.Unix(1060, 0))}, again.Status); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(spec, again.Spec); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
	if seen.Status.Phase != v1alpha1.ClaimReleased {
		t.Error("what was seen has been written to")
	}
}

// TestIsFor: a claim is a Service's by namespace and name, and while there is no name by generateName.
func TestIsFor(t *testing.T) {
	of := func(namespace, name, generateName string) v1alpha1.ClaimingService {
		return v1alpha1.ClaimingService{Namespace: namespace, Name: name, GenerateName: generateName}
	}
	for _, c := range []struct {
		claim, service v1alpha1.ClaimingService
		want           bool
	}{
		{of("n", "a", ""), of("n", "a", ""), true},
		{of("n", "a", ""), of("n", "b", ""), false},
		{of("n", "a", ""), of("m", "a", ""), false},
		{of("n", "", "a-"), of("n", "", "a-"), true},
		{of("n", "", "a-"), of("n", "", "b-"), false},
		{of("n", "", "a-"), of("m", "", "a-"), false},
		{of("n", "a-x", "a-"), of("n", "", "a-"), false}, // another one has got its name by now
		{of("n", "", "a-"), of("n", "a-x", ""), false},
		{of("n", "a-x", "a-"), of("n", "a-x", ""), true},
	} {
		if got := isFor(&v1alpha1.PortClaim{Spec: v1alpha1.PortClaimSpec{Service: c.claim}}, c.service); got != c.want {
			t.Errorf("claim %+v, Service %+v: %v", c.claim, c.service, got)
		}
	}
}

// TestBookAll: claims are made one after the other, those of others are returned, and the first error ends it.
func TestBookAll(t *testing.T) {
	book := func(a *api) ([]uint16, error) {
		claims := NewClaims(a, a, func(uint16) *v1alpha1.PortClaim { return nil }, func() time.Time { return time.Unix(0, 0) })
		var bookings []Booking
		for _, n := range []uint16{30001, 30002, 30003} {
			bookings = append(bookings, Booking{Port: n, Service: v1alpha1.ClaimingService{Namespace: "default", Name: "a"}})
		}
		return claims.bookAll(t.Context(), bookings)
	}
	a := newAPI(t, claimed(30002, "b", v1alpha1.ClaimBound))
	lost, err := book(a)
	if diff := cmp.Diff([]uint16{30002}, lost); diff != "" || err != nil || a.stored(t, 30003) == nil {
		t.Errorf("lost %v, error %v", lost, err)
	}
	a = newAPI(t).before("create", goesThrough, fails(context.DeadlineExceeded))
	if _, err := book(a); !errors.Is(err, context.DeadlineExceeded) || a.stored(t, 30001) == nil || a.stored(t, 30003) != nil {
		t.Errorf("error %v, calls %v", err, a.calls)
	}
}
