package controller

import (
	"context"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func podRef(name string) *corev1.ObjectReference {
	return &corev1.ObjectReference{Kind: "Pod", Namespace: "portcullis-system", Name: name}
}

// endpoint is one of the Service's.
func endpoint(pod, address string, ready *bool) discoveryv1.Endpoint {
	e := discoveryv1.Endpoint{Addresses: []string{address}, Conditions: discoveryv1.EndpointConditions{Ready: ready}}
	if pod != "" {
		e.TargetRef = podRef(pod)
	}
	return e
}

// slice is an EndpointSlice of a Service in portcullis-system.
func slice(name, service string, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "portcullis-system", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: endpoints,
	}
}

// TestLeave: the last replica that leaves sets Ignore, soon; every other leaves things as they are.
func TestLeave(t *testing.T) {
	const serves = 10 * time.Second
	elsewhere := slice("a", "portcullis", endpoint("pod-2", "10.0.0.2", nil))
	elsewhere.Namespace = "other"
	self, other := endpoint("pod-1", "10.0.0.1", nil), endpoint("pod-2", "10.0.0.2", new(true))
	one := func(endpoints ...discoveryv1.Endpoint) []client.Object {
		return []client.Object{slice("a", "portcullis", endpoints...)}
	}
	for _, c := range []struct {
		name    string
		slices  []client.Object
		change  func(a *Arming)
		want    string
		minimum time.Duration
		maximum time.Duration
	}{
		{"alone", one(self), nil, isDisarmed, lookEvery, time.Second},
		{"not even itself is listed", one(), nil, isDisarmed, lookEvery, time.Second},
		{"no slice at all", nil, nil, isDisarmed, lookEvery, time.Second},
		{"another one is ready", one(self, other), nil, isArmed, serves, serves + time.Second},
		{"of another one nothing is said", one(self, endpoint("pod-2", "10.0.0.2", nil)), nil, isArmed, serves, serves + time.Second},
		{"another one is not ready", one(self, endpoint("pod-2", "10.0.0.2", new(false))), nil, isDisarmed, lookEvery, time.Second},
		{"another one, in another slice", []client.Object{slice("a", "portcullis", self), slice("b", "portcullis", other)}, nil, isArmed, serves, serves + time.Second},
		{"the other family of its own addresses", []client.Object{slice("a", "portcullis", self), slice("b", "portcullis", endpoint("pod-1", "fd00::1", nil))}, nil, isDisarmed, lookEvery, time.Second},
		{"of another Service", []client.Object{slice("b", "other", other)}, nil, isDisarmed, lookEvery, time.Second},
		{"of another namespace", []client.Object{elsewhere}, nil, isDisarmed, lookEvery, time.Second},
		{"known by its address", one(endpoint("", "10.0.0.1", nil)), func(a *Arming) { a.Pod = "" }, isDisarmed, lookEvery, time.Second},
		{"known by its name", one(endpoint("pod-1", "10.0.0.9", nil)), func(a *Arming) { a.Address = "" }, isDisarmed, lookEvery, time.Second},
		{"another one without a pod", one(self, endpoint("", "10.0.0.2", nil)), nil, isArmed, serves, serves + time.Second},
		{"it does not know itself", one(self), func(a *Arming) { a.Pod, a.Address = "", "" }, isArmed, serves, serves + time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				b.create(validating(fails, nil))
				b.create(c.slices...)
				a, _ := newArming(b, nil)
				if c.change != nil {
					c.change(a)
				}
				start := time.Now()
				a.Leave(b.context(), serves)
				if got := policies(b); got != c.want {
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
	inBubble(t, func(t *testing.T, b *bench) {
		b.create(validating(fails, nil))
		var wrote time.Time
		b.before("update ValidatingWebhookConfiguration", func(client.Object) error { wrote = time.Now(); return nil })
		a, _ := newArming(b, nil)
		a.Leave(b.context(), time.Minute)
		if since := time.Since(wrote); since != disarmSeen {
			t.Errorf("%s after the write, want %s", since, disarmSeen)
		}
	})
}

// TestLeaveDisturbed: what may come in between, while a replica leaves that is the last one.
func TestLeaveDisturbed(t *testing.T) {
	rewrite := func(b *bench) func(client.Object) error {
		return func(client.Object) error {
			editNow(b, validating(fails, nil), func(c *admissionregistrationv1.ValidatingWebhookConfiguration) {
				c.Labels = map[string]string{"a": "b"}
			})
			return nil
		}
	}
	for _, c := range []struct {
		name    string
		arrange func(b *bench)
		want    string
	}{
		{"somebody writes at the same time", func(b *bench) { b.once("update ValidatingWebhookConfiguration", rewrite(b)) }, isDisarmed},
		{"somebody writes twice", func(b *bench) {
			b.once("update ValidatingWebhookConfiguration", rewrite(b))
			b.once("update ValidatingWebhookConfiguration", rewrite(b))
		}, isDisarmed},
		{"the slices cannot be listed for a while", func(b *bench) {
			end := b.refuse("list EndpointSlice", errDown)
			time.AfterFunc(5*time.Second, end)
		}, isDisarmed},
		{"the slices cannot be listed", func(b *bench) { b.refuse("list EndpointSlice", errDown) }, isArmed},
		{"the write is refused", func(b *bench) { b.refuse("update ValidatingWebhookConfiguration", errDown) }, isArmed},
		{"the configuration cannot be read", func(b *bench) { b.refuse("get ValidatingWebhookConfiguration", errDown) }, isArmed},
		{"the configuration is gone", func(b *bench) { b.remove(validating(fails, nil)) }, ""},
		{"a replica comes and goes", func(b *bench) {
			looks := 0
			b.once("update ValidatingWebhookConfiguration", func(client.Object) error {
				if looks != 4 {
					b.t.Errorf("it writes after look %d, want two looks in a row that find it alone", looks)
				}
				return nil
			})
			b.before("list EndpointSlice", func(client.Object) error {
				switch looks++; looks {
				case 2:
					return b.stored.Create(b.t.Context(), slice("b", "portcullis", endpoint("pod-2", "10.0.0.2", nil)))
				case 3:
					return b.stored.Delete(b.t.Context(), slice("b", "portcullis"))
				}
				return nil
			})
		}, isDisarmed},
		{"the other one comes late", func(b *bench) {
			time.AfterFunc(lookEvery/2, func() { b.create(slice("b", "portcullis", endpoint("pod-2", "10.0.0.2", nil))) })
		}, isArmed},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				b.create(validating(fails, nil))
				c.arrange(b)
				a, _ := newArming(b, nil)
				start := time.Now()
				a.Leave(b.context(), 10*time.Second)
				if got := policies(b); got != c.want {
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
	inBubble(t, func(t *testing.T, b *bench) {
		b.create(validating(ignores, nil))
		a, _ := newArming(b, nil)
		a.Leave(b.context(), time.Minute)
		if w := b.writes(); len(w) > 0 {
			t.Error(w)
		}
	})
}

// TestLeaveEnds: it does not outlive the process that it is for.
func TestLeaveEnds(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.create(validating(fails, nil), slice("a", "portcullis", endpoint("pod-2", "10.0.0.2", nil)))
		ctx, cancel := context.WithTimeout(b.context(), time.Second)
		defer cancel()
		a, _ := newArming(b, nil)
		start := time.Now()
		a.Leave(ctx, time.Hour)
		if took := time.Since(start); took != time.Second {
			t.Errorf("it took %s, and its context one second", took)
		}
		if n := b.errorsLogged(); n > 0 {
			t.Errorf("%d errors: %q", n, b.logs)
		}
	})
}
