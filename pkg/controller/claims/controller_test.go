package claims

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
	"github.com/portcullis-k8s/portcullis/pkg/controller/internal/fake"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

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

// leading returns a controller that leads, once it has seen everything.
func leading(api *fake.Cluster, change ...func(*Options)) *Controller {
	api.T.Helper()
	c := watching(api, change...)
	api.Start(fake.Task(c.Lead))
	synctest.Wait()
	return c
}

// watching returns one that does not lead.
func watching(api *fake.Cluster, change ...func(*Options)) *Controller {
	api.T.Helper()
	o := Options{NodePortRange: ports.MustParseRange("30000-32767"), Now: time.Now}
	for _, f := range change {
		f(&o)
	}
	c, err := New(api.Manager(), o)
	if err != nil {
		api.T.Fatal(err)
	}
	api.Start(c.Start)
	<-c.Synced()
	synctest.Wait()
	return c
}

// claimOf is the claim of 30100 in a few words: phase, reason, Service; "" if there is none.
func claimOf(api *fake.Cluster) string {
	c := &v1alpha1.PortClaim{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ClaimName(30100)}}
	if !api.Load(c) {
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
		do   func(api *fake.Cluster)
		wait time.Duration
		want string
	}
	wait := func(*fake.Cluster) {}
	create := func(make func() client.Object) func(*fake.Cluster) {
		return func(api *fake.Cluster) { api.Add(make()) }
	}
	web := create(func() client.Object { return fake.Service("web", "1", 30100) })
	thief := create(func() client.Object { return fake.Service("thief", "2", 30100) })
	request := create(func() client.Object { return requested() })
	pool := create(func() client.Object { return fake.PortPool() })
	blue := create(func() client.Object { return fake.Namespace("ns", "blue") })
	gone := func(name string) func(*fake.Cluster) {
		return func(api *fake.Cluster) { api.Remove(fake.Service(name, "")) }
	}
	giveUp := func(api *fake.Cluster) {
		fake.Edit(api, fake.Service("web", ""), func(s *corev1.Service) { s.Spec.Ports[0].NodePort = 0 })
	}
	takeBack := func(api *fake.Cluster) {
		fake.Edit(api, fake.Service("web", ""), func(s *corev1.Service) { s.Spec.Ports[0].NodePort = 30100 })
	}
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"from request to deletion", []step{
			{"the pool and the request", func(api *fake.Cluster) { pool(api); blue(api); request(api) }, 0, "Requested web"},
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
			{"bound", func(api *fake.Cluster) { pool(api); blue(api); web(api) }, time.Second, "Bound InService web 1"},
			{"given up", giveUp, 30 * time.Second, "Released PortGivenUp web"},
			{"taken back", takeBack, time.Hour, "Bound InService web 1"},
		}},
		{"deleted and created again, in time", []step{
			{"bound", func(api *fake.Cluster) { pool(api); blue(api); web(api) }, time.Second, "Bound InService web 1"},
			{"gone", gone("web"), 30 * time.Second, "Released ServiceGone web"},
			{"back", create(func() client.Object { return fake.Service("web", "3", 30100) }), time.Hour, "Bound InService web 3"},
		}},
		{"a clock that is ahead, and one that is behind", []step{
			{"four minutes late", create(func() client.Object { return requested(askedFor(-4 * time.Minute)) }), 13 * time.Second, "Requested web"},
			{"its lifetime is over", wait, time.Second, ""},
			{"from before there was a leader", create(func() client.Object { return requested(askedFor(-24 * time.Hour)) }), 0, ""},
			{"one of tomorrow", create(func() client.Object { return requested(askedFor(24 * time.Hour)) }), 13 * time.Second, "Requested web"},
			{"its lifetime is over", wait, time.Second, ""},
		}},
		{"asked for while it rests, and the Service never comes", []step{
			{"bound", func(api *fake.Cluster) { pool(api); blue(api); web(api) }, time.Second, "Bound InService web 1"},
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
			{"bound", func(api *fake.Cluster) { pool(api); blue(api); web(api) }, time.Second, "Bound InService web 1"},
			{"given up", giveUp, time.Second, "Released PortGivenUp web"},
			{"another one has it, and a claim of its own", thief, time.Second, "Bound InService thief 2"},
		}},
		{"by generateName", []step{
			{"the request", create(func() client.Object { return requested(generated) }), 0, "Requested "},
			{"one of another pattern", create(func() client.Object { return fake.Service("web-0", "0") }), 0, "Requested "},
			{"the Service", create(func() client.Object {
				svc := fake.Service("web-x1", "1", 30100)
				svc.GenerateName = "web-"
				return svc
			}), 0, "Bound InService web-x1 1"},
			{"it goes", gone("web-x1"), 0, "Released ServiceGone web-x1"},
		}},
		{"by generateName, never came", []step{
			{"the request", create(func() client.Object { return requested(generated) }), 14 * time.Second, ""},
		}},
		{"without a claim", []step{
			{"no pool", func(api *fake.Cluster) { web(api); blue(api) }, time.Second, ""},
			{"a pool", pool, time.Second, "Bound InService web 1"},
		}},
		{"without a claim, in a namespace that is not seen", []step{
			{"no namespace", func(api *fake.Cluster) { web(api); pool(api) }, time.Second, ""},
			{"the namespace", blue, time.Second, "Bound InService web 1"},
		}},
		{"without a claim, in a namespace of another pool", []step{
			{"red", func(api *fake.Cluster) { web(api); pool(api); api.Add(fake.Namespace("ns", "red")) }, time.Hour, ""},
			{"blue", func(api *fake.Cluster) {
				fake.Edit(api, fake.Namespace("ns", ""), func(n *corev1.Namespace) { n.Labels = map[string]string{"team": "blue"} })
			}, 0, "Bound InService web 1"},
			{"red again: a claim stays", func(api *fake.Cluster) {
				fake.Edit(api, fake.Namespace("ns", ""), func(n *corev1.Namespace) { n.Labels = nil })
			}, time.Hour, "Bound InService web 1"},
		}},
		{"the pool is gone: nobody waits", []step{
			{"bound", func(api *fake.Cluster) { pool(api); blue(api); web(api) }, time.Second, "Bound InService web 1"},
			{"no pool", func(api *fake.Cluster) { api.Remove(fake.PortPool()) }, time.Hour, "Bound InService web 1"},
			{"no Service", gone("web"), 0, "Released ServiceGone web"},
			{"a moment later", wait, 2 * time.Second, ""},
		}},
		{"somebody deletes the claim", []step{
			{"bound", func(api *fake.Cluster) { pool(api); blue(api); web(api) }, time.Second, "Bound InService web 1"},
			{"deleted", func(api *fake.Cluster) { api.Remove(requested()) }, 0, "Bound InService web 1"},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			fake.Run(t, func(t *testing.T, api *fake.Cluster) {
				leading(api)
				for _, s := range c.steps {
					s.do(api)
					fake.Pass(s.wait)
					if got := claimOf(api); got != s.want {
						t.Fatalf("%s: %q, want %q", s.why, got, s.want)
					}
				}
				if n := api.ErrorsLogged(); n > 0 {
					t.Errorf("%d errors: %q", n, api.Logs())
				}
			})
		})
	}
}

// TestForgedBookings is what docs/security.md says of bookings for Services that are never stored: nobody can have one port
// for longer than 15 seconds or more than five times a minute by creating, it does not rest afterwards, and what is stored, or
// was, loses nothing.
func TestForgedBookings(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		leading(api)
		api.Add(fake.PortPool(), fake.Namespace("ns", "blue"), fake.Service("web", "1", 30109))
		fake.Pass(time.Second)
		booked, since := map[int32]int{}, map[int32]time.Time{}
		for range 60 * 10 { // a minute
			for n := int32(30100); n < 30109; n++ {
				c := requested(func(c *v1alpha1.PortClaim) { c.Spec.Port = n })
				if api.Load(c) {
					c.Default()
					if age := time.Since(since[n]); age >= 15*time.Second || c.Status.Phase != v1alpha1.ClaimRequested {
						t.Fatalf("%d is %s after %s", n, c.Status.Phase, age)
					}
					continue
				}
				api.Add(requested(func(c *v1alpha1.PortClaim) { c.Spec.Port = n }))
				booked[n]++
				since[n] = time.Now()
			}
			fake.Pass(100 * time.Millisecond)
		}
		for n, times := range booked {
			if times > 5 {
				t.Errorf("%d was booked %d times in a minute", n, times)
			}
		}
		fake.Pass(15 * time.Second)
		var left v1alpha1.PortClaimList
		if err := api.Stored.List(t.Context(), &left); err != nil {
			t.Fatal(err)
		}
		if len(left.Items) != 1 || left.Items[0].Status.Phase != v1alpha1.ClaimBound {
			t.Errorf("left: %+v, want the claim of the Service that is stored", left.Items)
		}
	})
}

// TestClaimFields: a claim that is made for a Service says what the webhook would say.
func TestClaimFields(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		leading(api)
		svc := fake.Service("web", "1", 30100, 30200)
		svc.Spec.Ports[0].Name = "http"
		api.Add(fake.PortPool(), fake.Namespace("ns", "blue"), svc)
		fake.Pass(time.Second)
		c := requested()
		if !api.Load(c) {
			t.Fatal("there is no claim")
		}
		want := v1alpha1.PortClaimSpec{Port: 30100, Pool: "p", PortName: "http", Service: v1alpha1.ClaimingService{Namespace: "ns", Name: "web"}, RequestedAt: c.Spec.RequestedAt}
		if diff := cmp.Diff(want, c.Spec); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if age := time.Since(c.Spec.RequestedAt.Time); age > 2*time.Second {
			t.Errorf("requested %s ago", age)
		}
		if out := (&v1alpha1.PortClaim{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ClaimName(30200)}}); api.Load(out) {
			t.Error("a port of no pool is claimed")
		}
	})
}

// TestClaimTransitions: each is counted once, and a release is an event of the pool.
func TestClaimTransitions(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		registry := prometheus.NewRegistry()
		c := watching(api, func(o *Options) { o.Metrics = NewMetrics(registry) })
		end := api.Start(fake.Task(c.Lead))
		api.Add(fake.PortPool(), fake.Namespace("ns", "blue"), fake.Service("web", "1", 30100, 30101))
		fake.Pass(time.Minute)
		want := "claim_transitions_total bound=2, claim_transitions_total imported=2"
		if got := fake.Series(t, registry); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
		api.Remove(fake.Service("web", "1"))
		fake.Pass(10 * time.Second)
		want = "claim_transitions_total bound=2, claim_transitions_total imported=2, claim_transitions_total released=2"
		if got := fake.Series(t, registry); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
		if diff := cmp.Diff([]string{"Normal ClaimReleased PortPool/p", "Normal ClaimReleased PortPool/p"}, api.Events()); diff != "" {
			t.Error(diff)
		}
		fake.Pass(time.Minute)
		end()
		want = "claim_transitions_total bound=2, claim_transitions_total deleted=2, claim_transitions_total imported=2, claim_transitions_total released=2"
		if got := fake.Series(t, registry); got != want {
			t.Errorf("afterwards: %s\nwant %s", got, want)
		}
	})
}

// TestOnlyTheLeaderWrites: another replica watches and waits; one whose term is over stops; a new term begins with all.
func TestOnlyTheLeaderWrites(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		c := watching(api)
		api.Add(fake.PortPool(), fake.Namespace("ns", "blue"), fake.Service("web", "1", 30100))
		fake.Pass(time.Hour)
		if w := api.Writes(); len(w) > 0 {
			t.Errorf("a replica that does not lead: %v", w)
		}
		end := api.Start(fake.Task(c.Lead))
		fake.Pass(time.Second)
		end()
		if got := claimOf(api); got != "Bound InService web 1" {
			t.Errorf("%q after the first term", got)
		}
		api.Reset()
		api.Remove(fake.Service("web", ""))
		fake.Pass(time.Hour)
		if w := api.Writes(); len(w) > 0 {
			t.Errorf("a replica that no longer leads: %v", w)
		}
		api.Start(fake.Task(c.Lead))
		fake.Pass(time.Second)
		if got := claimOf(api); got != "Released ServiceGone web" {
			t.Errorf("%q in the second term", got)
		}
	})
}

// TestTwoLeaders: one that does not know yet that it is none does no harm, and nothing is counted twice.
func TestTwoLeaders(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		registries := []*prometheus.Registry{prometheus.NewRegistry(), prometheus.NewRegistry()}
		for _, r := range registries {
			leading(api, func(o *Options) { o.Metrics = NewMetrics(r) })
		}
		svc := fake.Service("web", "1")
		for n := range int32(10) {
			svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Port: n + 1, NodePort: 30100 + n})
		}
		api.Add(fake.PortPool(), fake.Namespace("ns", "blue"), svc)
		fake.Pass(5 * time.Second)
		api.Remove(svc)
		fake.Pass(2 * time.Minute)
		if got := claimOf(api); got != "" {
			t.Errorf("%q is left", got)
		}
		totals := map[string]int{}
		for _, r := range registries {
			for s := range strings.SplitSeq(fake.Series(t, r), ", ") {
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
		if n := api.ErrorsLogged(); n > 0 {
			t.Errorf("%d errors: %q", n, api.Logs())
		}
	})
}
