package arming

import (
	"context"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/pkg/controller/internal/fake"
)

// TestLeave: the last replica that leaves sets Ignore, soon; every other leaves things as they are.
func TestLeave(t *testing.T) {
	const serves = 10 * time.Second
	elsewhere := fake.EndpointSlice("a", "portcullis", fake.Endpoint("pod-2", "10.0.0.2", nil))
	elsewhere.Namespace = "other"
	self, other := fake.Endpoint("pod-1", "10.0.0.1", nil), fake.Endpoint("pod-2", "10.0.0.2", new(true))
	one := func(endpoints ...discoveryv1.Endpoint) []client.Object {
		return []client.Object{fake.EndpointSlice("a", "portcullis", endpoints...)}
	}
	for _, c := range []struct {
		name    string
		slices  []client.Object
		change  func(a *Controller)
		want    string
		minimum time.Duration
		maximum time.Duration
	}{
		{"alone", one(self), nil, isDisarmed, lookInterval, time.Second},
		{"not even itself is listed", one(), nil, isDisarmed, lookInterval, time.Second},
		{"no slice at all", nil, nil, isDisarmed, lookInterval, time.Second},
		{"another one is ready", one(self, other), nil, isArmed, serves, serves + time.Second},
		{"of another one nothing is said", one(self, fake.Endpoint("pod-2", "10.0.0.2", nil)), nil, isArmed, serves, serves + time.Second},
		{"another one is not ready", one(self, fake.Endpoint("pod-2", "10.0.0.2", new(false))), nil, isDisarmed, lookInterval, time.Second},
		{"another one, in another slice", []client.Object{fake.EndpointSlice("a", "portcullis", self), fake.EndpointSlice("b", "portcullis", other)}, nil, isArmed, serves, serves + time.Second},
		{"the other family of its own addresses", []client.Object{fake.EndpointSlice("a", "portcullis", self), fake.EndpointSlice("b", "portcullis", fake.Endpoint("pod-1", "fd00::1", nil))}, nil, isDisarmed, lookInterval, time.Second},
		{"of another Service", []client.Object{fake.EndpointSlice("b", "other", other)}, nil, isDisarmed, lookInterval, time.Second},
		{"of another namespace", []client.Object{elsewhere}, nil, isDisarmed, lookInterval, time.Second},
		{"known by its address", one(fake.Endpoint("", "10.0.0.1", nil)), func(a *Controller) { a.Pod = "" }, isDisarmed, lookInterval, time.Second},
		{"known by its name", one(fake.Endpoint("pod-1", "10.0.0.9", nil)), func(a *Controller) { a.Address = "" }, isDisarmed, lookInterval, time.Second},
		{"another one without a pod", one(self, fake.Endpoint("", "10.0.0.2", nil)), nil, isArmed, serves, serves + time.Second},
		{"it does not know itself", one(self), func(a *Controller) { a.Pod, a.Address = "", "" }, isArmed, serves, serves + time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			fake.Run(t, func(t *testing.T, api *fake.Cluster) {
				api.Add(fake.ValidatingConfiguration(fails, nil))
				api.Add(c.slices...)
				a, _ := newArming(api, nil)
				if c.change != nil {
					c.change(a)
				}
				start := time.Now()
				a.Leave(api.Context(), serves)
				if got := policies(api); got != c.want {
					t.Errorf("%q, want %q", got, c.want)
				}
				if took := time.Since(start); took < c.minimum || took > c.maximum {
					t.Errorf("it took %s, want %s to %s", took, c.minimum, c.maximum)
				}
			})
		})
	}
}

// TestLeaveWaits: the API servers see what was written before this replica stops.
func TestLeaveWaits(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		api.Add(fake.ValidatingConfiguration(fails, nil))
		var wrote time.Time
		api.Before("update ValidatingWebhookConfiguration", func(client.Object) error { wrote = time.Now(); return nil })
		a, _ := newArming(api, nil)
		a.Leave(api.Context(), time.Minute)
		if since := time.Since(wrote); since != propagation {
			t.Errorf("%s after the write, want %s", since, propagation)
		}
	})
}

// TestLeaveDisturbed: what may come in between, while a replica leaves that is the last one.
func TestLeaveDisturbed(t *testing.T) {
	rewrite := func(api *fake.Cluster) func(client.Object) error {
		return func(client.Object) error {
			fake.EditNow(api, fake.ValidatingConfiguration(fails, nil), func(c *admissionregistrationv1.ValidatingWebhookConfiguration) {
				c.Labels = map[string]string{"a": "b"}
			})
			return nil
		}
	}
	for _, c := range []struct {
		name    string
		arrange func(api *fake.Cluster)
		want    string
	}{
		{"somebody writes at the same time", func(api *fake.Cluster) { api.Once("update ValidatingWebhookConfiguration", rewrite(api)) }, isDisarmed},
		{"somebody writes twice", func(api *fake.Cluster) {
			api.Once("update ValidatingWebhookConfiguration", rewrite(api))
			api.Once("update ValidatingWebhookConfiguration", rewrite(api))
		}, isDisarmed},
		{"the slices cannot be listed for a while", func(api *fake.Cluster) {
			end := api.Reject("list EndpointSlice", fake.ErrDown)
			time.AfterFunc(5*time.Second, end)
		}, isDisarmed},
		{"the slices cannot be listed", func(api *fake.Cluster) { api.Reject("list EndpointSlice", fake.ErrDown) }, isArmed},
		{"the write is rejected", func(api *fake.Cluster) { api.Reject("update ValidatingWebhookConfiguration", fake.ErrDown) }, isArmed},
		{"the configuration cannot be read", func(api *fake.Cluster) { api.Reject("get ValidatingWebhookConfiguration", fake.ErrDown) }, isArmed},
		{"the configuration is gone", func(api *fake.Cluster) { api.Remove(fake.ValidatingConfiguration(fails, nil)) }, ""},
		{"a replica comes and goes", func(api *fake.Cluster) {
			looks := 0
			api.Once("update ValidatingWebhookConfiguration", func(client.Object) error {
				if looks != 4 {
					api.T.Errorf("it writes after look %d, want two looks in a row that find it alone", looks)
				}
				return nil
			})
			api.Before("list EndpointSlice", func(client.Object) error {
				switch looks++; looks {
				case 2:
					return api.Stored.Create(api.T.Context(), fake.EndpointSlice("b", "portcullis", fake.Endpoint("pod-2", "10.0.0.2", nil)))
				case 3:
					return api.Stored.Delete(api.T.Context(), fake.EndpointSlice("b", "portcullis"))
				}
				return nil
			})
		}, isDisarmed},
		{"the other one comes late", func(api *fake.Cluster) {
			time.AfterFunc(lookInterval/2, func() { api.Add(fake.EndpointSlice("b", "portcullis", fake.Endpoint("pod-2", "10.0.0.2", nil))) })
		}, isArmed},
	} {
		t.Run(c.name, func(t *testing.T) {
			fake.Run(t, func(t *testing.T, api *fake.Cluster) {
				api.Add(fake.ValidatingConfiguration(fails, nil))
				c.arrange(api)
				a, _ := newArming(api, nil)
				start := time.Now()
				a.Leave(api.Context(), 10*time.Second)
				if got := policies(api); got != c.want {
					t.Errorf("%q, want %q", got, c.want)
				}
				if took := time.Since(start); took > 10*time.Second+disarmTime {
					t.Errorf("it took %s", took)
				}
			})
		})
	}
}

// TestLeaveDisarmed: there is nothing to write.
func TestLeaveDisarmed(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		api.Add(fake.ValidatingConfiguration(ignores, nil))
		a, _ := newArming(api, nil)
		a.Leave(api.Context(), time.Minute)
		if w := api.Writes(); len(w) > 0 {
			t.Error(w)
		}
	})
}

// TestLeaveEnds: it does not outlive the process that it is for.
func TestLeaveEnds(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		api.Add(fake.ValidatingConfiguration(fails, nil), fake.EndpointSlice("a", "portcullis", fake.Endpoint("pod-2", "10.0.0.2", nil)))
		ctx, cancel := context.WithTimeout(api.Context(), time.Second)
		defer cancel()
		a, _ := newArming(api, nil)
		start := time.Now()
		a.Leave(ctx, time.Hour)
		if took := time.Since(start); took != time.Second {
			t.Errorf("it took %s, and its context one second", took)
		}
		if n := api.ErrorsLogged(); n > 0 {
			t.Errorf("%d errors: %q", n, api.Logs())
		}
	})
}
