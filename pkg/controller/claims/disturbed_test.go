package claims

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/controller/internal/fake"
)

// bound brings a cluster to where Service web has 30100 by a claim.
func bound(api *fake.Cluster) {
	api.T.Helper()
	api.Add(fake.PortPool(), fake.Namespace("ns", "blue"), fake.Service("web", "1", 30100))
	fake.Pass(time.Second)
	if got := claimOf(api); got != "Bound InService web 1" {
		api.T.Fatalf("%q to begin with", got)
	}
	api.Reset()
}

// renew asks for the port again, as the webhook does.
func renew(api *fake.Cluster) {
	c := requested()
	api.Load(c)
	c.Status.Phase, c.Status.ReleasedAt, c.Status.RequestedAgainAt = v1alpha1.ClaimRequested, nil, new(metav1.NewTime(time.Now()))
	if err := api.Stored.Status().Update(api.T.Context(), c); err != nil {
		api.T.Error(err)
	}
}

// TestStale: what is cached proposes and what is stored decides. Each row pauses the informers, changes what is stored,
// and lets time pass; the claim must not be freed, or released, by what was seen.
func TestStale(t *testing.T) {
	isRequested := func(api *fake.Cluster) {
		api.Add(fake.PortPool(), fake.Namespace("ns", "blue"), requested())
		fake.Pass(10 * time.Second)
	}
	isReleased := func(api *fake.Cluster) {
		bound(api)
		api.Remove(fake.Service("web", ""))
		fake.Pass(50 * time.Second)
	}
	for _, c := range []struct {
		name          string
		before        func(api *fake.Cluster)
		change        func(api *fake.Cluster)
		wait          time.Duration
		paused, after string // the claim, while paused and when the informers go on
	}{
		{"the Service came, and its request is over", isRequested,
			func(api *fake.Cluster) { api.Add(fake.Service("web", "1", 30100)) }, time.Minute, "Bound InService web 1", "Bound InService web 1"},
		{"the request was made again", isRequested, renew, 10 * time.Second, "Requested web", "Requested web"},
		{"a released port was asked for again", isReleased, renew, 13 * time.Second, "Requested ServiceGone web", "Requested AwaitingService web"},
		{"a released port is in service again", isReleased,
			func(api *fake.Cluster) { api.Add(fake.Service("web", "3", 30100)) }, time.Minute, "Bound InService web 3", "Bound InService web 3"},
		{"the reuseDelay is longer now", isReleased, func(api *fake.Cluster) {
			fake.Edit(api, fake.PortPool(), func(p *v1alpha1.PortPool) { p.Spec.Allocation.ReuseDelay = &metav1.Duration{Duration: time.Hour} })
		}, time.Minute, "", ""}, // which is no harm
		{"somebody deleted the claim", isReleased, func(api *fake.Cluster) { api.Remove(requested()) }, time.Minute, "", ""},
		{"somebody deleted the claim, and the port is given to another Service", isReleased, func(api *fake.Cluster) {
			api.Remove(requested())
			api.Add(requested(func(c *v1alpha1.PortClaim) { c.Spec.Service.Name = "other" }))
		}, 13 * time.Second, "Requested other", "Requested other"},
	} {
		t.Run(c.name, func(t *testing.T) {
			fake.Run(t, func(t *testing.T, api *fake.Cluster) {
				leading(api)
				c.before(api)
				api.Cache.Pause()
				c.change(api)
				fake.Pass(c.wait)
				if got := claimOf(api); got != c.paused {
					t.Errorf("while informers are paused: %q, want %q", got, c.paused)
				}
				api.Cache.Resume()
				fake.Pass(time.Second)
				if got := claimOf(api); got != c.after {
					t.Errorf("afterwards: %q, want %q", got, c.after)
				}
				if n := api.ErrorsLogged(); n > 0 {
					t.Errorf("%d errors: %q", n, api.Logs())
				}
			})
		})
	}
}

// TestStaleOther: another Service that was seen with the port has it no more.
func TestStaleOther(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		leading(api)
		api.Add(fake.Service("thief", "2", 30100), requested())
		if got := claimOf(api); got != "Requested HeldByAnother web" {
			t.Fatalf("%q to begin with", got)
		}
		api.Cache.Pause()
		api.Remove(fake.Service("thief", ""))
		fake.Pass(time.Minute)
		if got := claimOf(api); got != "" {
			t.Errorf("%q, want to be freed: nobody has the port", got)
		}
	})
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		leading(api)
		bound(api)
		api.Add(fake.Service("thief", "2", 30100))                  // it cannot be, but for a moment
		api.Before("get Service thief", func(client.Object) error { // it was seen, and has given the port up
			if svc := fake.Service("thief", ""); api.Load(svc) && len(svc.Spec.Ports) > 0 {
				api.Cache.Pause()
				fake.EditNow(api, svc, func(s *corev1.Service) { s.Spec.Ports = nil })
			}
			return nil
		})
		api.Remove(fake.Service("web", ""))
		fake.Pass(time.Second)
		if got := claimOf(api); got != "Released ServiceGone web" {
			t.Errorf("%q, want to wait for the reuseDelay: nobody else has the port", got)
		}
	})
}

// TestBetweenReadAndWrite: somebody writes the claim after it was decided upon.
func TestBetweenReadAndWrite(t *testing.T) {
	for _, c := range []struct {
		name, call string
		meanwhile  func(api *fake.Cluster)
		want       string
	}{
		{"release, meanwhile asked for again", "status PortClaim", renew, "Requested AwaitingService web"},
		{"release, meanwhile labelled", "status PortClaim", func(api *fake.Cluster) {
			fake.EditNow(api, requested(), func(c *v1alpha1.PortClaim) { c.Labels = map[string]string{"a": "b"} })
		}, "Released ServiceGone web"},
		{"deletion, meanwhile asked for again", "delete PortClaim", renew, "Requested AwaitingService web"},
		{"deletion, meanwhile deleted", "delete PortClaim", func(api *fake.Cluster) {
			if err := api.Stored.Delete(api.T.Context(), requested()); err != nil {
				api.T.Error(err)
			}
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			fake.Run(t, func(t *testing.T, api *fake.Cluster) {
				leading(api)
				bound(api)
				var happened atomic.Bool
				api.Once(c.call, func(client.Object) error {
					happened.Store(true)
					c.meanwhile(api)
					return nil
				})
				api.Remove(fake.Service("web", ""))
				for range 70 { // the reuseDelay, and a lifetime is not over
					if !happened.Load() {
						fake.Pass(time.Second)
					}
				}
				fake.Pass(2 * time.Second)
				if got := claimOf(api); got != c.want || !happened.Load() {
					t.Errorf("%q, want %q", got, c.want)
				}
			})
		})
	}
}

// TestRefusedReads: as long as it is not known whether a Service exists, its claim stays as it is. It is reconciled again
// and again, ever more seldom, and there is one line about it.
func TestRefusedReads(t *testing.T) {
	services := schema.GroupResource{Resource: "services"}
	for _, c := range []struct {
		name, call string
		err        error
	}{
		{"the API server is down", "get Service", fake.ErrDown},
		{"a proxy's 404", "get Service", apierrors.NewGenericServerResponse(http.StatusNotFound, "get", services, "web", "404 page not found", 0, true)},
		{"forbidden", "get Service", apierrors.NewForbidden(services, "web", fake.ErrDown)},
		{"no write", "status PortClaim", fake.ErrDown},
		{"no cache", "cache-list Service", fake.ErrDown},
		{"no claim", "cache-get PortClaim", fake.ErrDown},
		{"no pool", "cache-get PortPool", fake.ErrDown},
	} {
		t.Run(c.name, func(t *testing.T) {
			fake.Run(t, func(t *testing.T, api *fake.Cluster) {
				leading(api)
				bound(api)
				end := api.Reject(c.call, c.err)
				api.Remove(fake.Service("web", ""))
				fake.Pass(10 * time.Minute)
				if got := claimOf(api); got != "Bound InService web 1" {
					t.Errorf("%q", got)
				}
				if n := api.Count(c.call); n < 40 || n > 60 { // 12 in the first 50 s, one in 15 s later
					t.Errorf("%d calls in ten minutes, want to go on and ever slower", n)
				}
				if n := api.ErrorsLogged(); n < 1 || n > 3 { // where lists fail, others say so, too
					t.Errorf("%d errors, want one for each who needs it: %q", n, api.Logs())
				}
				end()
				fake.Pass(15 * time.Second)
				if got := claimOf(api); got != "Released ServiceGone web" {
					t.Errorf("afterwards %q", got)
				}
			})
		})
	}
}

// TestRefusedSteps: each step that is rejected is taken later.
func TestRefusedSteps(t *testing.T) {
	byPattern := func(api *fake.Cluster) {
		svc := fake.Service("web-x1", "1", 30100)
		svc.GenerateName = "web-"
		api.Add(requested(generated), svc)
	}
	noPool := func(api *fake.Cluster) { api.Add(requested(), fake.Service("web", "1", 30100)) }
	for _, c := range []struct {
		name, call string
		do         func(api *fake.Cluster)
		want       string
	}{
		{"importing: the claim", "create PortClaim", imported, "Bound InService web 1"},
		{"importing: its status", "status PortClaim", imported, "Bound InService web 1"},
		{"importing: the pools", "cache-list PortPool", imported, "Bound InService web 1"},
		{"importing: the namespace", "cache-get Namespace", imported, "Bound InService web 1"},
		{"a name", "patch PortClaim", byPattern, "Bound InService web-x1 1"},
		{"those of a pattern", "list Service", byPattern, "Bound InService web-x1 1"},
		{"the pool itself", "get PortPool", noPool, "Bound InService web 1"},
		{"other holders", "get Service thief", func(api *fake.Cluster) {
			api.Add(fake.Service("thief", "2", 30100), requested())
		}, "Requested HeldByAnother web"},
		{"deletion", "delete PortClaim", func(api *fake.Cluster) { api.Add(requested()); fake.Pass(time.Minute) }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			fake.Run(t, func(t *testing.T, api *fake.Cluster) {
				leading(api)
				rejected := 0
				api.Before(c.call, func(client.Object) error {
					if rejected++; rejected <= 3 {
						return fake.ErrDown
					}
					return nil
				})
				c.do(api)
				fake.Pass(5 * time.Second)
				if got := claimOf(api); got != c.want {
					t.Errorf("%q, want %q", got, c.want)
				}
				if rejected < 3 {
					t.Errorf("%q was called %d times", c.call, rejected)
				}
			})
		})
	}
}

func imported(api *fake.Cluster) {
	api.Add(fake.PortPool(), fake.Namespace("ns", "blue"), fake.Service("web", "1", 30100))
}

// TestHanging: a request that hangs costs one worker its time for one port, and nobody else any.
func TestHanging(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		leading(api)
		bound(api)
		api.Add(fake.Service("other", "2", 30101))
		api.Before("get Service web", func(client.Object) error {
			time.Sleep(20 * time.Second) // longer than all requests for a port may take
			return nil
		})
		api.Remove(fake.Service("web", ""), fake.Service("other", ""))
		fake.Pass(time.Second)
		other := &v1alpha1.PortClaim{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ClaimName(30101)}}
		if api.Load(other); other.Status.Phase != v1alpha1.ClaimReleased {
			t.Errorf("the other port: %q", other.Status.Phase)
		}
		fake.Pass(time.Minute)
		if got := claimOf(api); got != "Bound InService web 1" {
			t.Errorf("%q, by requests whose time was over", got)
		}
		if n := api.Count("get Service web"); n < 2 {
			t.Errorf("%d tries", n)
		}
	})
}

// TestEnqueueAllIsRetried: what is to be done at the beginning of a term is not forgotten when the cache cannot be read.
func TestEnqueueAllIsRetried(t *testing.T) {
	for _, kind := range []string{"Service", "PortClaim"} {
		t.Run(kind, func(t *testing.T) {
			fake.Run(t, func(t *testing.T, api *fake.Cluster) {
				c := watching(api)
				imported(api)
				end := api.Reject("cache-list "+kind, fake.ErrDown)
				api.Start(fake.Task(c.Lead))
				fake.Pass(10 * time.Second)
				if n := api.ErrorsLogged(); n < 3 {
					t.Errorf("%d errors", n)
				}
				end()
				fake.Pass(2 * time.Second)
				if got := claimOf(api); got != "Bound InService web 1" {
					t.Errorf("%q", got)
				}
			})
		})
	}
}

// TestResync: what no event shows is found within ten minutes.
func TestResync(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		c := watching(api)
		api.Start(fake.Task(c.Lead))
		bound(api)
		queue := c.queue.Swap(nil) // events get lost
		api.Remove(fake.Service("web", ""))
		c.queue.Store(queue)
		fake.Pass(time.Minute)
		if got := claimOf(api); got != "Bound InService web 1" {
			t.Fatalf("%q", got)
		}
		fake.Pass(resyncInterval - time.Minute)
		if got := claimOf(api); got != "Released ServiceGone web" {
			t.Errorf("%q", got)
		}
	})
}

// TestNamespaceWaits: a namespace whose Services cannot be listed waits for the next round.
func TestNamespaceWaits(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		leading(api)
		api.Add(fake.PortPool(), fake.Namespace("ns", "red"), fake.Service("web", "1", 30100))
		fake.Pass(10 * time.Second)
		api.Once("cache-list Service", func(client.Object) error { return fake.ErrDown })
		fake.Edit(api, fake.Namespace("ns", ""), func(n *corev1.Namespace) { n.Labels["team"] = "blue" })
		fake.Pass(time.Second)
		if got := claimOf(api); got != "Bound InService web 1" {
			t.Errorf("%q", got)
		}
	})
}
