package controller

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// portPool is a pool of 30100-30109 for namespaces with team=blue, whose released ports wait for a minute.
func portPool(change ...func(*v1alpha1.PortPool)) *v1alpha1.PortPool {
	p := &v1alpha1.PortPool{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: v1alpha1.PortPoolSpec{
		Ranges:            []v1alpha1.PortRange{{Port: 30100, EndPort: new(int32(30109))}},
		NamespaceSelector: teamSelector("blue"),
		Allocation:        v1alpha1.PortAllocation{ReuseDelay: &metav1.Duration{Duration: time.Minute}},
	}}
	for _, f := range change {
		f(p)
	}
	p.Default()
	return p
}

func teamSelector(team string) *v1alpha1.LabelSelector {
	return &v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"team": v1alpha1.LabelValue(team)}}
}

func namespace(name, team string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"team": team}}}
}

// requested is claim as the webhook creates it now.
func requested(change ...func(*v1alpha1.PortClaim)) *v1alpha1.PortClaim {
	c := claim(append([]func(*v1alpha1.PortClaim){askedFor(0)}, change...)...)
	c.Name = v1alpha1.ClaimName(c.Spec.Port)
	return c
}

// askedFor has a claim say that it was asked for some time from now.
func askedFor(from time.Duration) func(*v1alpha1.PortClaim) {
	return func(c *v1alpha1.PortClaim) { c.Spec.RequestedAt = metav1.NewTime(time.Now().Add(from)) }
}

// leading returns a controller of a bench that leads, once it has seen everything.
func leading(b *bench, change ...func(*Options)) *Controller {
	b.t.Helper()
	c := watching(b, change...)
	b.start(leads(c.Lead))
	synctest.Wait()
	return c
}

// watching returns one that does not lead.
func watching(b *bench, change ...func(*Options)) *Controller {
	b.t.Helper()
	o := Options{NodePortRange: ports.MustParseRange("30000-32767"), Now: time.Now}
	for _, f := range change {
		f(&o)
	}
	c, err := New(b.cluster(), o)
	if err != nil {
		b.t.Fatal(err)
	}
	b.start(c.Start)
	<-c.Watching()
	synctest.Wait()
	return c
}

// claimOf is the claim of 30100 in a few words: phase, reason, Service; "" if there is none.
func claimOf(b *bench) string {
	c := &v1alpha1.PortClaim{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ClaimName(30100)}}
	if !b.get(c) {
		return ""
	}
	c.Default()
	words := []string{string(c.Status.Phase)}
	if condition := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionBound); condition != nil {
		words = append(words, condition.Reason)
	}
	words = append(words, c.Spec.Service.Name)
	if c.Status.Phase == v1alpha1.ClaimBound {
		words = append(words, c.Status.ServiceUID)
	}
	return strings.Join(words, " ")
}

// TestClaimLife follows claims through what happens to their Services.
func TestClaimLife(t *testing.T) {
	type step struct {
		why  string
		do   func(b *bench)
		wait time.Duration
		want string
	}
	wait := func(*bench) {}
	create := func(make func() client.Object) func(*bench) { return func(b *bench) { b.create(make()) } }
	web := create(func() client.Object { return service("web", "1", 30100) })
	thief := create(func() client.Object { return service("thief", "2", 30100) })
	request := create(func() client.Object { return requested() })
	pool := create(func() client.Object { return portPool() })
	blue := create(func() client.Object { return namespace("ns", "blue") })
	gone := func(name string) func(*bench) { return func(b *bench) { b.remove(service(name, "")) } }
	giveUp := func(b *bench) { edit(b, service("web", ""), func(s *corev1.Service) { s.Spec.Ports[0].NodePort = 0 }) }
	takeBack := func(b *bench) {
		edit(b, service("web", ""), func(s *corev1.Service) { s.Spec.Ports[0].NodePort = 30100 })
	}
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"from request to deletion", []step{
			{"the pool and the request", func(b *bench) { pool(b); blue(b); request(b) }, 0, "Requested web"},
			{"the Service comes", web, 0, "Bound InService web 1"},
			{"nothing", wait, time.Hour, "Bound InService web 1"},
			{"it goes", gone("web"), 0, "Released ServiceGone web"},
			{"the reuseDelay is not over", wait, 59 * time.Second, "Released ServiceGone web"},
			{"it is", wait, 3 * time.Second, ""},
		}},
		{"a request whose Service never comes", []step{
			{"the request", request, 13 * time.Second, "Requested web"},
			{"its lifetime is over", wait, time.Second, ""},
		}},
		{"a request that is made again", []step{
			{"the request", request, 10 * time.Second, "Requested web"},
			{"again", renew, 13 * time.Second, "Requested web"},
			{"its lifetime is over", wait, time.Second, ""},
		}},
		{"given up and taken back", []step{
			{"bound", func(b *bench) { pool(b); blue(b); web(b) }, time.Second, "Bound InService web 1"},
			{"given up", giveUp, 30 * time.Second, "Released PortGivenUp web"},
			{"taken back", takeBack, time.Hour, "Bound InService web 1"},
		}},
		{"deleted and created again, in time", []step{
			{"bound", func(b *bench) { pool(b); blue(b); web(b) }, time.Second, "Bound InService web 1"},
			{"gone", gone("web"), 30 * time.Second, "Released ServiceGone web"},
			{"back", create(func() client.Object { return service("web", "3", 30100) }), time.Hour, "Bound InService web 3"},
		}},
		{"a clock that is ahead, and one that is behind", []step{
			{"four minutes late", create(func() client.Object { return requested(askedFor(-4 * time.Minute)) }), 13 * time.Second, "Requested web"},
			{"its lifetime is over", wait, time.Second, ""},
			{"from before there was a leader", create(func() client.Object { return requested(askedFor(-24 * time.Hour)) }), 0, ""},
			{"one of tomorrow", create(func() client.Object { return requested(askedFor(24 * time.Hour)) }), 13 * time.Second, "Requested web"},
			{"its lifetime is over", wait, time.Second, ""},
		}},
		{"asked for while it rests, and the Service never comes", []step{
			{"bound", func(b *bench) { pool(b); blue(b); web(b) }, time.Second, "Bound InService web 1"},
			{"gone", gone("web"), 30 * time.Second, "Released ServiceGone web"},
			{"asked for", renew, 13 * time.Second, "Requested AwaitingService web"},
			{"it rests again, for all of the reuseDelay", wait, 61 * time.Second, "Released ServiceGone web"},
			{"it is over", wait, 3 * time.Second, ""},
		}},
		{"another Service has the port", []step{
			{"first", thief, 0, ""},
			{"the request", request, 0, "Requested HeldByAnother web"},
			{"it goes", gone("thief"), 0, "Requested AwaitingService web"},
			{"the one that it is for comes", web, 0, "Bound InService web 1"},
		}},
		{"another Service takes the port over", []step{
			{"bound", func(b *bench) { pool(b); blue(b); web(b) }, time.Second, "Bound InService web 1"},
			{"given up", giveUp, time.Second, "Released PortGivenUp web"},
			{"another one has it, and a claim of its own", thief, time.Second, "Bound InService thief 2"},
		}},
		{"by generateName", []step{
			{"the request", create(func() client.Object { return requested(generated) }), 0, "Requested "},
			{"one of another pattern", create(func() client.Object { return service("web-0", "0") }), 0, "Requested "},
			{"the Service", create(func() client.Object {
				svc := service("web-x1", "1", 30100)
				svc.GenerateName = "web-"
				return svc
			}), 0, "Bound InService web-x1 1"},
			{"it goes", gone("web-x1"), 0, "Released ServiceGone web-x1"},
		}},
		{"by generateName, never came", []step{
			{"the request", create(func() client.Object { return requested(generated) }), 14 * time.Second, ""},
		}},
		{"without a claim", []step{
			{"no pool", func(b *bench) { web(b); blue(b) }, time.Second, ""},
			{"a pool", pool, time.Second, "Bound InService web 1"},
		}},
		{"without a claim, in a namespace that is not seen", []step{
			{"no namespace", func(b *bench) { web(b); pool(b) }, time.Second, ""},
			{"the namespace", blue, time.Second, "Bound InService web 1"},
		}},
		{"without a claim, in a namespace of another pool", []step{
			{"red", func(b *bench) { web(b); pool(b); b.create(namespace("ns", "red")) }, time.Hour, ""},
			{"blue", func(b *bench) {
				edit(b, namespace("ns", ""), func(n *corev1.Namespace) { n.Labels = map[string]string{"team": "blue"} })
			}, 0, "Bound InService web 1"},
			{"red again: a claim stays", func(b *bench) {
				edit(b, namespace("ns", ""), func(n *corev1.Namespace) { n.Labels = nil })
			}, time.Hour, "Bound InService web 1"},
		}},
		{"the pool is gone: nobody waits", []step{
			{"bound", func(b *bench) { pool(b); blue(b); web(b) }, time.Second, "Bound InService web 1"},
			{"no pool", func(b *bench) { b.remove(portPool()) }, time.Hour, "Bound InService web 1"},
			{"no Service", gone("web"), 0, "Released ServiceGone web"},
			{"a moment later", wait, 2 * time.Second, ""},
		}},
		{"somebody deletes the claim", []step{
			{"bound", func(b *bench) { pool(b); blue(b); web(b) }, time.Second, "Bound InService web 1"},
			{"deleted", func(b *bench) { b.remove(requested()) }, 0, "Bound InService web 1"},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				leading(b)
				for _, s := range c.steps {
					s.do(b)
					pass(s.wait)
					if got := claimOf(b); got != s.want {
						t.Fatalf("%s: %q, want %q", s.why, got, s.want)
					}
				}
				if n := b.errorsLogged(); n > 0 {
					t.Errorf("%d errors: %q", n, b.logs)
				}
			})
		})
	}
}

// TestForgedBookings is what docs/security.md says of bookings for Services that are never stored: nobody can have one number
// for longer than 15 seconds or more than five times a minute by creating, it does not rest afterwards, and what is stored, or
// was, loses nothing.
func TestForgedBookings(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		leading(b)
		b.create(portPool(), namespace("ns", "blue"), service("web", "1", 30109))
		pass(time.Second)
		booked, since := map[int32]int{}, map[int32]time.Time{}
		for range 60 * 10 { // a minute
			for n := int32(30100); n < 30109; n++ {
				c := requested(func(c *v1alpha1.PortClaim) { c.Spec.Port = n })
				if b.get(c) {
					c.Default()
					if age := time.Since(since[n]); age >= 15*time.Second || c.Status.Phase != v1alpha1.ClaimRequested {
						t.Fatalf("%d is %s after %s", n, c.Status.Phase, age)
					}
					continue
				}
				b.create(requested(func(c *v1alpha1.PortClaim) { c.Spec.Port = n }))
				booked[n]++
				since[n] = time.Now()
			}
			pass(100 * time.Millisecond)
		}
		for n, times := range booked {
			if times > 5 {
				t.Errorf("%d was booked %d times in a minute", n, times)
			}
		}
		pass(15 * time.Second)
		var left v1alpha1.PortClaimList
		if err := b.stored.List(t.Context(), &left); err != nil {
			t.Fatal(err)
		}
		if len(left.Items) != 1 || left.Items[0].Status.Phase != v1alpha1.ClaimBound {
			t.Errorf("left: %+v, want the claim of the Service that is stored", left.Items)
		}
	})
}

// TestClaimFields: a claim that is made for a Service says what the webhook would say.
func TestClaimFields(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		leading(b)
		svc := service("web", "1", 30100, 30200)
		svc.Spec.Ports[0].Name = "http"
		b.create(portPool(), namespace("ns", "blue"), svc)
		pass(time.Second)
		c := requested()
		if !b.get(c) {
			t.Fatal("there is no claim")
		}
		want := v1alpha1.PortClaimSpec{Port: 30100, Pool: "p", PortName: "http", Service: v1alpha1.ClaimingService{Namespace: "ns", Name: "web"}, RequestedAt: c.Spec.RequestedAt}
		if diff := cmp.Diff(want, c.Spec); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if age := time.Since(c.Spec.RequestedAt.Time); age > 2*time.Second {
			t.Errorf("requested %s ago", age)
		}
		if out := (&v1alpha1.PortClaim{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ClaimName(30200)}}); b.get(out) {
			t.Error("a port of no pool is claimed")
		}
	})
}

// TestClaimTransitions: each is counted once, and a release is an event of the pool.
func TestClaimTransitions(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		registry := prometheus.NewRegistry()
		c := watching(b, func(o *Options) { o.Metrics = NewMetrics(registry) })
		end := b.start(leads(c.Lead))
		b.create(portPool(), namespace("ns", "blue"), service("web", "1", 30100, 30101))
		pass(time.Minute)
		want := "claim_transitions_total bound=2, claim_transitions_total imported=2, claims bound=2, pool_ports p allocated=2, pool_ports p available=8, pool_ports p total=10"
		if got := series(t, registry); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
		b.remove(service("web", "1"))
		pass(10 * time.Second)
		want = "claim_transitions_total bound=2, claim_transitions_total imported=2, claim_transitions_total released=2, claims released=2, pool_ports p available=8, pool_ports p quarantined=2, pool_ports p total=10"
		if got := series(t, registry); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
		if diff := cmp.Diff([]string{"Normal ClaimReleased PortPool/p", "Normal ClaimReleased PortPool/p"}, b.eventsSeen()); diff != "" {
			t.Error(diff)
		}
		pass(time.Minute)
		end()
		want = "claim_transitions_total bound=2, claim_transitions_total deleted=2, claim_transitions_total imported=2, claim_transitions_total released=2"
		if got := series(t, registry); got != want {
			t.Errorf("who no longer leads: %s\nwant %s", got, want)
		}
	})
}

// TestOnlyTheLeaderWrites: another replica watches and waits; one whose term is over stops; a new term begins with all.
func TestOnlyTheLeaderWrites(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		c := watching(b)
		b.create(portPool(), namespace("ns", "blue"), service("web", "1", 30100))
		pass(time.Hour)
		if w := b.writes(); len(w) > 0 {
			t.Errorf("a replica that does not lead: %v", w)
		}
		end := b.start(leads(c.Lead))
		pass(time.Second)
		end()
		if got := claimOf(b); got != "Bound InService web 1" {
			t.Errorf("%q after the first term", got)
		}
		b.forget()
		b.remove(service("web", ""))
		pass(time.Hour)
		if w := b.writes(); len(w) > 0 {
			t.Errorf("a replica that no longer leads: %v", w)
		}
		b.start(leads(c.Lead))
		pass(time.Second)
		if got := claimOf(b); got != "Released ServiceGone web" {
			t.Errorf("%q in the second term", got)
		}
	})
}

// TestTwoLeaders: one that does not know yet that it is none does no harm, and nothing is counted twice.
func TestTwoLeaders(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		registries := []*prometheus.Registry{prometheus.NewRegistry(), prometheus.NewRegistry()}
		for _, r := range registries {
			leading(b, func(o *Options) { o.Metrics = NewMetrics(r) })
		}
		svc := service("web", "1")
		for n := range int32(10) {
			svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Port: n + 1, NodePort: 30100 + n})
		}
		b.create(portPool(), namespace("ns", "blue"), svc)
		pass(5 * time.Second)
		b.remove(svc)
		pass(2 * time.Minute)
		if got := claimOf(b); got != "" {
			t.Errorf("%q is left", got)
		}
		totals := map[string]int{}
		for _, r := range registries {
			for s := range strings.SplitSeq(series(t, r), ", ") {
				var to string
				var n int
				if _, err := fmt.Sscanf(strings.ReplaceAll(s, "=", " "), "claim_transitions_total %s %d", &to, &n); err == nil {
					totals[to] += n
				}
			}
		}
		if diff := cmp.Diff(map[string]int{"imported": 10, "bound": 10, "released": 10, "deleted": 10}, totals); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if n := b.errorsLogged(); n > 0 {
			t.Errorf("%d errors: %q", n, b.logs)
		}
	})
}
