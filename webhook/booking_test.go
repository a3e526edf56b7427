package webhook

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
)

// books gives the handlers pools and an API server for the claims. What it stores the webhook has seen, unless the test
// takes it out of the cluster's claims.
func (b *bench) books(t testing.TB, pools []pool.Pool, stored ...*v1alpha1.PortClaim) *api {
	t.Helper()
	a := newAPI(t, stored...)
	b.teams().cluster.pools = pools
	b.claims = NewClaims(a, a, b.cluster.Claim, func() time.Time { return b.clock })
	return a
}

// TestPoolAllocation: what a pool has is allocated from it, and claimed before the answer.
func TestPoolAllocation(t *testing.T) {
	np := nodePortService
	five := func(edits ...func(*pool.Pool)) []pool.Pool {
		return []pool.Pool{portPool("pool", "30100-30104", edits...)}
	}
	const first = "/spec/ports/0/nodePort=30100"
	for _, c := range []struct {
		name    string
		config  string
		pools   []pool.Pool
		held    []runtime.Object
		service *corev1.Service
		old     *corev1.Service
		want    string
		patches string
		claims  string // each as nodePort, pool and port name
	}{
		{"one port", "", five(), nil, np("a", 0), nil, "allow", first, "30100 pool p0"},
		{"two ports", "", five(), nil, np("a", 0, 0), nil, "allow", first + " /spec/ports/1/nodePort=30101", "30100 pool p0, 30101 pool p1"},
		{"two protocols of one port", "", five(), nil, with(np("a", 0, 0), shared(1, "UDP")), nil, "allow: PC0503 spec.ports[1].port", first + " /spec/ports/1/nodePort=30100", "30100 pool p0"},
		{"health check", "", five(), nil, with(np("a", 0), loadBalancer, local), nil, "allow", "/spec/healthCheckNodePort=30101 " + first, "30100 pool p0, 30101 pool healthCheckNodePort"},
		{"explicit", "", five(explicitOnly), nil, np("a", 30102), nil, "allow", "", "30102 pool p0"},
		{"explicit and left out", "", five(), nil, np("a", 30102, 0), nil, "allow", "/spec/ports/1/nodePort=30100", "30100 pool p1, 30102 pool p0"},
		{"explicit, of no pool", "", five(), nil, np("a", 30001), nil, "allow", "", ""},
		{"no node ports", "", five(), nil, with(np("a", 0), serviceType("ClusterIP")), nil, "allow", "", ""},
		{"the first is held by a hostPort", "", five(), holding(hostPortPod("p", 30100)), np("a", 0), nil, "allow", "/spec/ports/0/nodePort=30101", "30101 pool p0"},
		{"the first is held by a Service", "", five(), holding(np("b", 30100)), np("a", 0), nil, "allow", "/spec/ports/0/nodePort=30101", "30101 pool p0"},
		{"an update keeps its nodePort", "", five(), holding(np("a", 30100)), np("a", 0), np("a", 30100), "allow", first, ""},
		{"an update adds a port", "", five(), holding(np("a", 30100)), np("a", 0, 0), np("a", 30100), "allow", first + " /spec/ports/1/nodePort=30101", "30101 pool p1"},
		{"by priority", "", []pool.Pool{portPool("late", "30100"), portPool("early", "30200", func(p *pool.Pool) { p.Priority = 1 })}, nil, np("a", 0), nil, "allow", "/spec/ports/0/nodePort=30200", "30200 early p0"},
		{"the first pool is full", "", []pool.Pool{portPool("a", "30100"), portPool("b", "30200")}, holding(np("b", 30100)), np("a", 0), nil, "allow", "/spec/ports/0/nodePort=30200", "30200 b p0"},
		{"hashed", "", []pool.Pool{portPool("pool", "30100", func(p *pool.Pool) { p.Strategy = pool.Hashed })}, nil, np("a", 0), nil, "allow", first, "30100 pool p0"},
		{"random", "", []pool.Pool{portPool("pool", "30100", func(p *pool.Pool) { p.Strategy = pool.Random })}, nil, np("a", 0), nil, "allow", first, "30100 pool p0"},
		{"full, Deny", oneFree, []pool.Pool{portPool("pool", "30200")}, holding(np("b", 30200)), np("a", 0), nil, "deny: PC0309 spec.ports[0].nodePort by PortPool pool", "", ""},
		{"full, Warn", oneFree, []pool.Pool{portPool("pool", "30200", warns)}, holding(np("b", 30200)), np("a", 0), nil, "warn: PC0309 spec.ports[0].nodePort by PortPool pool", first, ""},
		{"full, Audit", oneFree, []pool.Pool{portPool("pool", "30200", audits)}, holding(np("b", 30200)), np("a", 0), nil, "allow: PC0309 spec.ports[0].nodePort by PortPool pool", first, ""},
		{"full, for the health check", oneFree, []pool.Pool{portPool("pool", "30200")}, holding(np("b", 30200)), with(np("a", 30001), loadBalancer, local), nil, "deny: PC0309 spec.healthCheckNodePort by PortPool pool", "", ""},
		{"too few for all", oneFree, []pool.Pool{portPool("pool", "30200")}, nil, np("a", 0, 0), nil, "deny: PC0309 spec.ports[0].nodePort by PortPool pool", "", ""},
		{"at its limit, Deny", "", five(limits(0, 1)), nil, np("a", 0, 0), nil, "deny: PC0309 spec.ports[0].nodePort by PortPool pool", "", ""},
		{"at its limit, Warn", "", five(limits(0, 1), warns), nil, np("a", 0, 0), nil, "warn: PC0308 spec.ports[0].nodePort by PortPool pool", first + " /spec/ports/1/nodePort=30101", "30100 pool p0, 30101 pool p1"},
		{"no pool serves it, one is exclusive", oneFree, five(serves("b")), nil, np("a", 0), nil, "allow", "", ""},
		{"no pool serves it, one is shared", oneFree, five(serves("b"), sharedPool), nil, np("a", 0), nil, "allow", first, ""},
		{"refused, nothing is claimed", "", five(), holding(np("b", 30001)), np("a", 30001, 0), nil, "deny: PC0201 spec.ports[0].nodePort by Service default/b", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, c.config).holds(c.held...)
			a := b.books(t, c.pools)
			d := b.decideOn(t, hooks.PathMutateServices, serviceCase{service: c.service, old: c.old}.request())
			if got := outcome(d); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if got := patched(d.patches); got != c.patches {
				t.Errorf("got patches %q\nwant %q", got, c.patches)
			}
			if got := a.claims(t); got != c.claims {
				t.Errorf("claims %q, want %q", got, c.claims)
			}
			if len(b.booking) != 0 {
				t.Errorf("still being claimed: %v", b.booking)
			}
		})
	}
}

func (a *api) claims(t testing.TB) string {
	t.Helper()
	var list v1alpha1.PortClaimList
	if err := a.List(t.Context(), &list); err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, c := range list.Items {
		all = append(all, fmt.Sprintf("%d %s %s", c.Spec.Port, c.Spec.Pool, c.Spec.PortName))
	}
	return strings.Join(all, ", ")
}

// TestPoolAllocationDryRun: on a dry run nothing is allocated or claimed.
func TestPoolAllocationDryRun(t *testing.T) {
	b := newBench(t, "")
	a := b.books(t, []pool.Pool{portPool("pool", "30100")})
	for _, s := range []*corev1.Service{nodePortService("a", 0), nodePortService("a", 30100)} {
		d := b.decideOn(t, hooks.PathMutateServices, dryRun(creates("Service", s)))
		if len(d.patches) > 0 || len(a.calls) > 0 || len(b.flight.owners) > 0 {
			t.Errorf("patches %q, calls %v", patched(d.patches), a.calls)
		}
	}
}

// TestBookingRaces: a nodePort that another replica has claimed is not allocated, whether the claim has been seen or not.
func TestBookingRaces(t *testing.T) {
	pools := func(ranges string) []pool.Pool { return []pool.Pool{portPool("pool", ranges)} }
	theirs := func(n int32) *v1alpha1.PortClaim { return claimed(n, "b", v1alpha1.ClaimRequested) }
	all := func(first, last int32) (list []*v1alpha1.PortClaim) {
		for n := first; n <= last; n++ {
			list = append(list, theirs(n))
		}
		return list
	}
	for _, c := range []struct {
		name    string
		pools   []pool.Pool
		stored  []*v1alpha1.PortClaim // not seen yet
		seen    []*v1alpha1.PortClaim
		first   func(*api)
		service *corev1.Service
		want    string
		patches string
	}{
		{"claimed and seen", pools("30100-30101"), nil, all(30100, 30100), nil, nodePortService("a", 0), "allow", "/spec/ports/0/nodePort=30101"},
		{"claimed and not seen", pools("30100-30101"), all(30100, 30100), nil, nil, nodePortService("a", 0), "allow", "/spec/ports/0/nodePort=30101"},
		{"one of two lost", pools("30100-30102"), all(30101, 30101), nil, nil, nodePortService("a", 0, 0), "allow", "/spec/ports/0/nodePort=30100 /spec/ports/1/nodePort=30102"},
		{"four lost", pools("30100-30110"), all(30100, 30103), nil, nil, nodePortService("a", 0), "allow", "/spec/ports/0/nodePort=30104"},
		{"five lost", pools("30100-30110"), all(30100, 30104), nil, nil, nodePortService("a", 0), "busy", ""},
		{"all lost", pools("30100-30101"), all(30100, 30101), nil, nil, nodePortService("a", 0), "deny: PC0309 spec.ports[0].nodePort by PortPool pool", ""},
		{"explicit, and lost", pools("30000-30001"), all(30001, 30001), nil, nil, nodePortService("a", 30001), "busy", ""},
		{"the API server fails", pools("30100"), nil, nil, func(a *api) { a.before("create", fails(apierrors.NewInternalError(context.Canceled))) }, nodePortService("a", 0), "busy", ""},
		{"the API server throttles", pools("30100"), nil, nil, func(a *api) { a.before("create", fails(apierrors.NewTooManyRequests("", 1))) }, nodePortService("a", 0), "busy", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, "")
			a := b.books(t, c.pools, append(c.stored, c.seen...)...)
			b.claim(c.seen...)
			if c.first != nil {
				c.first(a)
			}
			d := b.decideOn(t, hooks.PathMutateServices, creates("Service", c.service))
			if got := outcome(d); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if got := patched(d.patches); got != c.patches {
				t.Errorf("got patches %q\nwant %q", got, c.patches)
			}
			if (len(b.flight.owners) > 0) != (c.patches != "") || len(b.booking) != 0 {
				t.Errorf("in flight %v, still being claimed %v", b.flight.owners, b.booking)
			}
		})
	}
}

// TestExplicitPortLost: a nodePort that the client wrote is not tried again in vain, as no other one will do.
func TestExplicitPortLost(t *testing.T) {
	b := newBench(t, "")
	a := b.books(t, []pool.Pool{portPool("pool", "30000-30001")}, claimed(30001, "b", v1alpha1.ClaimRequested))
	d := b.decideOn(t, hooks.PathMutateServices, creates("Service", nodePortService("a", 30001)))
	if got := strings.Join(a.calls, " "); !d.busy || got != "create 30001 get 30001 get 30001" {
		t.Errorf("%s, calls %s", outcome(d), got)
	}
}

// TestBookingTimeout: the webhook answers within its own time, though the API server does not.
func TestBookingTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, "")
		a := b.books(t, []pool.Pool{portPool("pool", "30100")})
		a.before("create", func(ctx context.Context, _ *api) error {
			<-ctx.Done()
			return ctx.Err()
		})
		start := time.Now()
		if got := outcome(b.decideOn(t, hooks.PathMutateServices, creates("Service", nodePortService("a", 0)))); got != "busy" {
			t.Error(got)
		}
		if took := time.Since(start); took != claimTime {
			t.Errorf("took %v, want %v", took, claimTime)
		}
		if got := outcome(b.decideOn(t, hooks.PathMutateServices, creates("Service", nodePortService("a", 0)))); got != "allow" {
			t.Errorf("the next time: %s", got)
		}
	})
}

// TestWhileBooking: a nodePort that is being claimed is allocated to nobody else, and does not stand in the way of the
// Service of another replica that has it.
func TestWhileBooking(t *testing.T) {
	b := newBench(t, "")
	a := b.books(t, []pool.Pool{portPool("pool", "30100-30101")})
	var other, validated string
	a.before("create", func(context.Context, *api) error {
		other = patched(b.decideOn(t, hooks.PathMutateServices, creates("Service", nodePortService("b", 0))).patches)
		validated = outcome(b.decideOn(t, hooks.PathValidateServices, creates("Service", nodePortService("c", 30100))))
		b.forgets(extract.Service(nodePortService("c", 30100), b.settings.NodePorts).Owner.Ref)
		return nil
	})
	mine := patched(b.decideOn(t, hooks.PathMutateServices, creates("Service", nodePortService("a", 0))).patches)
	if mine != "/spec/ports/0/nodePort=30100" || other != "/spec/ports/0/nodePort=30101" || validated != "allow" {
		t.Errorf("mine %s, other %s, validated %s", mine, other, validated)
	}
}

// TestClaimsOfTheRequester: a Service gets its own nodePort back, and one that waits for its reuseDelay goes to no other.
func TestClaimsOfTheRequester(t *testing.T) {
	pools := []pool.Pool{portPool("pool", "30100-30101")}
	for _, c := range []struct {
		name    string
		claim   *v1alpha1.PortClaim
		service *corev1.Service
		patches string
	}{
		{"its own, requested", with(claimed(30100, "a", "Requested"), requestedAt(0)), nodePortService("a", 0), "/spec/ports/0/nodePort=30100"},
		{"its own, released", with(claimed(30100, "a", ""), releasedAt(0)), nodePortService("a", 0), "/spec/ports/0/nodePort=30100"},
		{"another's, released", with(claimed(30100, "b", ""), releasedAt(0)), nodePortService("a", 0), "/spec/ports/0/nodePort=30101"},
		{"another's, bound", with(claimed(30100, "b", ""), boundTo("u")), nodePortService("a", 0), "/spec/ports/0/nodePort=30101"},
		{"of the same generateName", with(claimed(30100, "", "Requested"), requestedAt(0), func(c *v1alpha1.PortClaim) { c.Spec.Service.GenerateName = "a-" }), with(nodePortService("a", 0), unnamed), "/spec/ports/0/nodePort=30101"},
		{"without a name it has none", with(claimed(30100, "a", "Requested"), requestedAt(0)), with(nodePortService("a", 0), unnamed), "/spec/ports/0/nodePort=30101"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, "")
			a := b.books(t, pools, c.claim)
			b.claim(a.stored(t, 30100))
			if got := patched(b.decideOn(t, hooks.PathMutateServices, creates("Service", c.service)).patches); got != c.patches {
				t.Errorf("got patches %q\nwant %q", got, c.patches)
			}
		})
	}
}

// TestExhaustedForAMoment: a client is made to ask again where a nodePort of a full pool comes free by itself soon.
func TestExhaustedForAMoment(t *testing.T) {
	const minute = 60
	delayed := func(edits ...func(*pool.Pool)) []pool.Pool {
		return []pool.Pool{portPool("pool", "30100", append(edits, func(p *pool.Pool) { p.ReuseDelay = 10 * time.Minute })...)}
	}
	full := "deny: PC0309 spec.ports[0].nodePort by PortPool pool"
	for _, c := range []struct {
		name  string
		pools []pool.Pool
		claim *v1alpha1.PortClaim
		held  []runtime.Object
		want  string
	}{
		{"requested, the Service may not come", delayed(), claimed(30100, "b", "Requested"), nil, "busy"},
		{"requested by one that had it, and rests if it does not come", delayed(), with(claimed(30100, "b", "Requested"), func(c *v1alpha1.PortClaim) { c.Status.ServiceUID = "u" }), nil, full},
		{"bound", delayed(), with(claimed(30100, "b", ""), boundTo("u")), holding(nodePortService("b", 30100)), full},
		{"bound, the Service is gone", delayed(), with(claimed(30100, "b", ""), boundTo("u")), nil, "busy"},
		{"released just now", delayed(), with(claimed(30100, "b", ""), releasedAt(60*minute)), nil, full},
		{"released, and nearly through", delayed(), with(claimed(30100, "b", ""), releasedAt(50*minute+14)), nil, "busy"},
		{"released, and not yet nearly through", delayed(), with(claimed(30100, "b", ""), releasedAt(50*minute+15)), nil, full},
		{"released from a pool that is no more", delayed(), with(claimed(30100, "b", ""), releasedAt(60*minute), func(c *v1alpha1.PortClaim) { c.Spec.Pool = "old" }), nil, "busy"},
		{"released at a time not known", delayed(), claimed(30100, "b", "Released"), nil, "busy"},
		{"not claimed, held by a hostPort", delayed(), nil, holding(hostPortPod("p", 30100)), full},
		{"at its limit", delayed(limits(1, 0)), claimed(30100, "b", "Requested"), nil, full},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, "").holds(c.held...)
			b.clock = time.Unix(60*minute, 0)
			b.books(t, c.pools)
			if c.claim != nil {
				b.claim(c.claim)
			}
			if got := outcome(b.decideOn(t, hooks.PathMutateServices, creates("Service", nodePortService("a", 0)))); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestRepeats: a Service that comes again gets its nodePort again, but not for ever: the API server may have allocated it
// for good in a request that was interrupted.
func TestRepeats(t *testing.T) {
	b := newBench(t, "")
	a := b.books(t, []pool.Pool{portPool("pool", "30100-30101")})
	service := nodePortService("a", 0)
	ask := func() string {
		got := patched(b.decideOn(t, hooks.PathMutateServices, creates("Service", service)).patches)
		for _, n := range []int32{30100, 30101} {
			if c := a.stored(t, n); c != nil {
				b.claim(c)
			}
		}
		b.pass(graceTime)
		b.sweep(t.Context())
		return got
	}
	for i, want := range []int{30100, 30100, 30100, 30101, 30101, 30101} {
		if got := ask(); got != fmt.Sprintf("/spec/ports/0/nodePort=%d", want) {
			t.Fatalf("request %d: %s, want %d", i, got, want)
		}
	}
	b.pass(repeatTime)
	if got := ask(); got != "/spec/ports/0/nodePort=30100" {
		t.Errorf("after %v: %s", repeatTime, got)
	}
	// The cluster shows that the Service has it: it was not in vain.
	for range maxRepeats + 1 {
		b.Settle(b.seen(nodePortService("a", 30100)))
		if got := ask(); got != "/spec/ports/0/nodePort=30100" {
			t.Errorf("after the Service was seen with it: %s", got)
		}
	}
}

// TestBookingOfAnExistingService: the claim of a Service that exists is not written again on an update.
func TestBookingOfAnExistingService(t *testing.T) {
	for uid, calls := range map[types.UID]int{"u1": 0, "u2": 1} {
		b := newBench(t, "")
		a := b.books(t, []pool.Pool{portPool("pool", "30100-30101")}, with(claimed(30101, "a", ""), boundTo("u1")))
		b.claim(a.stored(t, 30101))
		a.calls = nil
		now := with(nodePortService("a", 30101), func(s *corev1.Service) { s.UID = uid })
		d := b.decideOn(t, hooks.PathMutateServices, updates("Service", now, nodePortService("a", 30001)))
		if d.busy || len(a.calls) != calls {
			t.Errorf("UID %s: %s, calls %v", uid, outcome(d), a.calls)
		}
	}
}
