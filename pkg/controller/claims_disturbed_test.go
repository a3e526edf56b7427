package controller

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
)

// bound brings a bench to where Service web has 30100 by a claim.
func bound(b *bench) {
	b.t.Helper()
	b.create(portPool(), namespace("ns", "blue"), service("web", "1", 30100))
	pass(time.Second)
	if got := claimOf(b); got != "Bound InService web 1" {
		b.t.Fatalf("%q to begin with", got)
	}
	b.forget()
}

// renew asks for the port again, as the webhook does.
func renew(b *bench) {
	c := requested()
	b.get(c)
	c.Status.Phase, c.Status.ReleasedAt, c.Status.RequestedAgainAt = v1alpha1.ClaimRequested, nil, new(metav1.NewTime(time.Now()))
	if err := b.stored.Status().Update(b.t.Context(), c); err != nil {
		b.t.Error(err)
	}
}

// TestStale: what is cached proposes and what is stored decides. Each row pauses the informers, changes what is stored,
// and lets time pass; the claim must not be freed, or released, by what was seen.
func TestStale(t *testing.T) {
	isRequested := func(b *bench) {
		b.create(portPool(), namespace("ns", "blue"), requested())
		pass(10 * time.Second)
	}
	isReleased := func(b *bench) {
		bound(b)
		b.remove(service("web", ""))
		pass(50 * time.Second)
	}
	for _, c := range []struct {
		name          string
		before        func(b *bench)
		change        func(b *bench)
		wait          time.Duration
		paused, after string // the claim, while paused and when the informers go on
	}{
		{"the Service came, and its request is over", isRequested,
			func(b *bench) { b.create(service("web", "1", 30100)) }, time.Minute, "Bound InService web 1", "Bound InService web 1"},
		{"the request was made again", isRequested, renew, 10 * time.Second, "Requested web", "Requested web"},
		{"a released port was asked for again", isReleased, renew, 13 * time.Second, "Requested ServiceGone web", "Requested AwaitingService web"},
		{"a released port is in service again", isReleased,
			func(b *bench) { b.create(service("web", "3", 30100)) }, time.Minute, "Bound InService web 3", "Bound InService web 3"},
		{"the reuseDelay is longer now", isReleased, func(b *bench) {
			edit(b, portPool(), func(p *v1alpha1.PortPool) { p.Spec.Allocation.ReuseDelay = &metav1.Duration{Duration: time.Hour} })
		}, time.Minute, "", ""}, // which is no harm
		{"somebody deleted the claim", isReleased, func(b *bench) { b.remove(requested()) }, time.Minute, "", ""},
		{"somebody deleted the claim, and the port is given to another Service", isReleased, func(b *bench) {
			b.remove(requested())
			b.create(requested(func(c *v1alpha1.PortClaim) { c.Spec.Service.Name = "other" }))
		}, 13 * time.Second, "Requested other", "Requested other"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				leading(b)
				c.before(b)
				b.informers.pause()
				c.change(b)
				pass(c.wait)
				if got := claimOf(b); got != c.paused {
					t.Errorf("while informers are paused: %q, want %q", got, c.paused)
				}
				b.informers.resume()
				pass(time.Second)
				if got := claimOf(b); got != c.after {
					t.Errorf("afterwards: %q, want %q", got, c.after)
				}
				if n := b.errorsLogged(); n > 0 {
					t.Errorf("%d errors: %q", n, b.logs)
				}
			})
		})
	}
}

// TestStaleOther: another Service that was seen with the port has it no more.
func TestStaleOther(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		leading(b)
		b.create(service("thief", "2", 30100), requested())
		if got := claimOf(b); got != "Requested HeldByAnother web" {
			t.Fatalf("%q to begin with", got)
		}
		b.informers.pause()
		b.remove(service("thief", ""))
		pass(time.Minute)
		if got := claimOf(b); got != "" {
			t.Errorf("%q, want to be freed: nobody has the port", got)
		}
	})
	inBubble(t, func(t *testing.T, b *bench) {
		leading(b)
		bound(b)
		b.create(service("thief", "2", 30100))                    // it cannot be, but for a moment
		b.before("get Service thief", func(client.Object) error { // it was seen, and has given the port up
			if svc := service("thief", ""); b.get(svc) && len(svc.Spec.Ports) > 0 {
				b.informers.pause()
				editNow(b, svc, func(s *corev1.Service) { s.Spec.Ports = nil })
			}
			return nil
		})
		b.remove(service("web", ""))
		pass(time.Second)
		if got := claimOf(b); got != "Released ServiceGone web" {
			t.Errorf("%q, want to wait for the reuseDelay: nobody else has the port", got)
		}
	})
}

// TestBetweenReadAndWrite: somebody writes the claim after it was decided upon.
func TestBetweenReadAndWrite(t *testing.T) {
	for _, c := range []struct {
		name, call string
		meanwhile  func(b *bench)
		want       string
	}{
		{"release, meanwhile asked for again", "status PortClaim", renew, "Requested AwaitingService web"},
		{"release, meanwhile labelled", "status PortClaim", func(b *bench) {
			editNow(b, requested(), func(c *v1alpha1.PortClaim) { c.Labels = map[string]string{"a": "b"} })
		}, "Released ServiceGone web"},
		{"deletion, meanwhile asked for again", "delete PortClaim", renew, "Requested AwaitingService web"},
		{"deletion, meanwhile deleted", "delete PortClaim", func(b *bench) {
			if err := b.stored.Delete(b.t.Context(), requested()); err != nil {
				b.t.Error(err)
			}
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				leading(b)
				bound(b)
				var happened atomic.Bool
				b.once(c.call, func(client.Object) error {
					happened.Store(true)
					c.meanwhile(b)
					return nil
				})
				b.remove(service("web", ""))
				for range 70 { // the reuseDelay, and a lifetime is not over
					if !happened.Load() {
						pass(time.Second)
					}
				}
				pass(2 * time.Second)
				if got := claimOf(b); got != c.want || !happened.Load() {
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
		{"the API server is down", "get Service", errDown},
		{"a proxy's 404", "get Service", apierrors.NewGenericServerResponse(http.StatusNotFound, "get", services, "web", "404 page not found", 0, true)},
		{"forbidden", "get Service", apierrors.NewForbidden(services, "web", errDown)},
		{"no write", "status PortClaim", errDown},
		{"no cache", "cache-list Service", errDown},
		{"no claim", "cache-get PortClaim", errDown},
		{"no pool", "cache-get PortPool", errDown},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				leading(b, func(o *Options) { o.StatusEvery = time.Hour }) // what is counted is not status
				bound(b)
				end := b.refuse(c.call, c.err)
				b.remove(service("web", ""))
				pass(10 * time.Minute)
				if got := claimOf(b); got != "Bound InService web 1" {
					t.Errorf("%q", got)
				}
				if n := b.count(c.call); n < 40 || n > 60 { // 12 in the first 50 s, one in 15 s later
					t.Errorf("%d calls in ten minutes, want to go on and ever slower", n)
				}
				if n := b.errorsLogged(); n < 1 || n > 3 { // where lists fail, others say so, too
					t.Errorf("%d errors, want one for each who needs it: %q", n, b.logs)
				}
				end()
				pass(15 * time.Second)
				if got := claimOf(b); got != "Released ServiceGone web" {
					t.Errorf("afterwards %q", got)
				}
			})
		})
	}
}

// TestRefusedSteps: each step that is refused is taken later.
func TestRefusedSteps(t *testing.T) {
	byPattern := func(b *bench) {
		svc := service("web-x1", "1", 30100)
		svc.GenerateName = "web-"
		b.create(requested(generated), svc)
	}
	noPool := func(b *bench) { b.create(requested(), service("web", "1", 30100)) }
	for _, c := range []struct {
		name, call string
		do         func(b *bench)
		want       string
	}{
		{"importing: the claim", "create PortClaim", imported, "Bound InService web 1"},
		{"importing: its status", "status PortClaim", imported, "Bound InService web 1"},
		{"importing: the pools", "cache-list PortPool", imported, "Bound InService web 1"},
		{"importing: the namespace", "cache-get Namespace", imported, "Bound InService web 1"},
		{"a name", "patch PortClaim", byPattern, "Bound InService web-x1 1"},
		{"those of a pattern", "list Service", byPattern, "Bound InService web-x1 1"},
		{"the pool itself", "get PortPool", noPool, "Bound InService web 1"},
		{"other holders", "get Service thief", func(b *bench) {
			b.create(service("thief", "2", 30100), requested())
		}, "Requested HeldByAnother web"},
		{"deletion", "delete PortClaim", func(b *bench) { b.create(requested()); pass(time.Minute) }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				leading(b)
				refused := 0
				b.before(c.call, func(client.Object) error {
					if refused++; refused <= 3 {
						return errDown
					}
					return nil
				})
				c.do(b)
				pass(5 * time.Second)
				if got := claimOf(b); got != c.want {
					t.Errorf("%q, want %q", got, c.want)
				}
				if refused < 3 {
					t.Errorf("%q was called %d times", c.call, refused)
				}
			})
		})
	}
}

func imported(b *bench) {
	b.create(portPool(), namespace("ns", "blue"), service("web", "1", 30100))
}

// TestHanging: a request that hangs costs one worker its time for one port, and nobody else any.
func TestHanging(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		leading(b)
		bound(b)
		b.create(service("other", "2", 30101))
		b.before("get Service web", func(client.Object) error {
			time.Sleep(20 * time.Second) // longer than all requests for a port may take
			return nil
		})
		b.remove(service("web", ""), service("other", ""))
		pass(time.Second)
		other := &v1alpha1.PortClaim{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ClaimName(30101)}}
		if b.get(other); other.Status.Phase != v1alpha1.ClaimReleased {
			t.Errorf("the other port: %q", other.Status.Phase)
		}
		pass(time.Minute)
		if got := claimOf(b); got != "Bound InService web 1" {
			t.Errorf("%q, by requests whose time was over", got)
		}
		if n := b.count("get Service web"); n < 2 {
			t.Errorf("%d tries", n)
		}
	})
}

// TestTouchAllIsTriedAgain: what is to be done at the beginning of a term is not forgotten when the cache cannot be read.
func TestTouchAllIsTriedAgain(t *testing.T) {
	for _, kind := range []string{"Service", "PortClaim"} {
		t.Run(kind, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				c := watching(b)
				imported(b)
				end := b.refuse("cache-list "+kind, errDown)
				b.start(leads(c.Lead))
				pass(10 * time.Second)
				if n := b.errorsLogged(); n < 3 {
					t.Errorf("%d errors", n)
				}
				end()
				pass(2 * time.Second)
				if got := claimOf(b); got != "Bound InService web 1" {
					t.Errorf("%q", got)
				}
			})
		})
	}
}

// TestResync: what no event tells is found within ten minutes.
func TestResync(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		c := watching(b)
		b.start(leads(c.Lead))
		bound(b)
		queue := c.queue.Swap(nil) // events get lost
		b.remove(service("web", ""))
		c.queue.Store(queue)
		pass(time.Minute)
		if got := claimOf(b); got != "Bound InService web 1" {
			t.Fatalf("%q", got)
		}
		pass(resyncEvery - time.Minute)
		if got := claimOf(b); got != "Released ServiceGone web" {
			t.Errorf("%q", got)
		}
	})
}

// TestNamespaceWaits: a namespace whose Services cannot be listed waits for the next round.
func TestNamespaceWaits(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		leading(b)
		b.create(portPool(), namespace("ns", "red"), service("web", "1", 30100))
		pass(10 * time.Second)
		b.once("cache-list Service", func(client.Object) error { return errDown })
		edit(b, namespace("ns", ""), func(n *corev1.Namespace) { n.Labels["team"] = "blue" })
		pass(time.Second)
		if got := claimOf(b); got != "Bound InService web 1" {
			t.Errorf("%q", got)
		}
	})
}
