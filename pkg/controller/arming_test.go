package controller

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
)

const (
	fails   = admissionregistrationv1.Fail
	ignores = admissionregistrationv1.Ignore
)

// validating is the configuration of three webhooks; the last one is a guard, which is never armed.
func validating(policy admissionregistrationv1.FailurePolicyType, annotations map[string]string) *admissionregistrationv1.ValidatingWebhookConfiguration {
	c := &admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "portcullis", Annotations: annotations}}
	for _, name := range []string{"validate-services", "validate-workloads", "guard-namespaces"} {
		w := admissionregistrationv1.ValidatingWebhook{Name: name + ".portcullis.dev", FailurePolicy: new(policy)}
		if name == "guard-namespaces" {
			w.FailurePolicy = new(ignores)
		}
		c.Webhooks = append(c.Webhooks, w)
	}
	return c
}

// policies are the failure policies that are stored; "" without the configuration.
func policies(b *bench) string {
	c := validating(ignores, nil)
	if !b.get(c) {
		return ""
	}
	var all []any
	for _, w := range c.Webhooks {
		all = append(all, *w.FailurePolicy)
	}
	return fmt.Sprintln(all...)
}

const (
	isArmed    = "Fail Fail Ignore\n"
	isDisarmed = "Ignore Ignore Ignore\n"
)

// denied is how the API server refuses what a webhook has denied.
func denied(webhook string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Reason: metav1.StatusReasonInvalid, Code: 422,
		Message: fmt.Sprintf("admission webhook %q denied the request: hostIP is not an address", webhook),
	}}
}

var refused = denied("validate-workloads.portcullis.dev")

// newArming is what a replica has that is told to stop when leaving is closed.
func newArming(b *bench, leaving <-chan struct{}) (*Arming, *prometheus.Registry) {
	registry := prometheus.NewRegistry()
	return &Arming{
		Reader: b, Writer: b, Configuration: "portcullis", ProbeNamespace: "default",
		Service: client.ObjectKey{Namespace: "portcullis-system", Name: "portcullis"}, Pod: "pod-1", Address: "10.0.0.1",
		Leaving: leaving, Metrics: NewArmingMetrics(registry), Now: time.Now,
	}, registry
}

// TestArm: failurePolicy is Fail once a dry run was refused by the right webhook, and not before.
func TestArm(t *testing.T) {
	deployments := schema.GroupResource{Group: "apps", Resource: "deployments"}
	held := map[string]string{v1alpha1.HoldAnnotation: "true"}
	for _, c := range []struct {
		name          string
		configuration *admissionregistrationv1.ValidatingWebhookConfiguration
		probe         error
		want          string // the policies
		metrics       string
		errors        int
	}{
		{"refused by us", validating(ignores, nil), refused, isArmed, "probe_last_refusal_timestamp_seconds=946684800, webhook_armed=1", 0},
		{"armed already", validating(fails, nil), refused, isArmed, "probe_last_refusal_timestamp_seconds=946684800, webhook_armed=1", 0},
		{"held back", validating(ignores, held), refused, isDisarmed, "probe_last_refusal_timestamp_seconds=946684830", 0},
		{"held back, and armed", validating(fails, held), refused, isArmed, "probe_last_refusal_timestamp_seconds=946684800, webhook_armed=1", 0},
		{"not held back", validating(ignores, map[string]string{v1alpha1.HoldAnnotation: "false"}), refused, isArmed, "probe_last_refusal_timestamp_seconds=946684800, webhook_armed=1", 0},
		{"admitted", validating(ignores, nil), nil, isDisarmed, "", 1},
		{"admitted, and armed: that is what Fail is for", validating(fails, nil), nil, isArmed, "webhook_armed=1", 1},
		{"refused by a webhook of somebody else", validating(ignores, nil), denied("policy.example.com"), isDisarmed, "probe_blocked webhook policy.example.com=1", 1},
		{"refused by another webhook of ours", validating(ignores, nil), denied("validate-services.portcullis.dev"), isDisarmed, "probe_blocked webhook validate-services.portcullis.dev=1", 1},
		{"refused by one that is called nearly so", validating(ignores, nil), denied("not-validate-workloads.portcullis.dev"), isDisarmed, "probe_blocked webhook not-validate-workloads.portcullis.dev=1", 1},
		{"refused by an admission policy", validating(ignores, nil), apierrors.NewForbidden(deployments, probeName, errors.New("ValidatingAdmissionPolicy 'images' with binding 'all' denied request: no")), isDisarmed, "probe_blocked ValidatingAdmissionPolicy images=1", 1},
		{"another webhook does not answer", validating(ignores, nil), apierrors.NewInternalError(errors.New(`failed calling webhook "policy.example.com": timeout`)), isDisarmed, "probe_blocked webhook policy.example.com=1", 1},
		{"forbidden by RBAC", validating(ignores, nil), apierrors.NewForbidden(deployments, probeName, errors.New("no")), isDisarmed, "", 1},
		{"forbidden, in the same words", validating(ignores, nil), apierrors.NewForbidden(deployments, probeName, refused), isDisarmed, "", 1},
		{"invalid for the API server", validating(ignores, nil), apierrors.NewInvalid(schema.GroupKind{Group: "apps", Kind: "Deployment"}, probeName, nil), isDisarmed, "", 1},
		{"the webhook cannot be called", validating(ignores, nil), apierrors.NewInternalError(errors.New(`failed calling webhook "validate-workloads.portcullis.dev": connection refused`)), isDisarmed, "", 1},
		{"no such namespace", validating(ignores, nil), apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, "default"), isDisarmed, "", 1},
		{"no API server", validating(ignores, nil), errDown, isDisarmed, "", 1},
		{"no configuration", nil, refused, "", "", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				if c.configuration != nil {
					b.create(c.configuration)
				}
				b.refuse("dryrun Deployment", c.probe)
				a, registry := newArming(b, nil)
				end := b.start(leads(a.Lead))
				pass(30*time.Second - time.Millisecond)
				if c.name == "held back" {
					pass(time.Millisecond) // it is tried every time
				}
				if got := policies(b); got != c.want {
					t.Errorf("%q, want %q", got, c.want)
				}
				if got := series(t, registry); got != c.metrics {
					t.Errorf("metrics %s, want %s", got, c.metrics)
				}
				if got := b.errorsLogged(); got != c.errors {
					t.Errorf("%d errors, want %d: %q", got, c.errors, b.logs)
				}
				if b.get(NewProbe("default")) {
					t.Error("the probe was created")
				}
				end()
				if got := series(t, registry); got != "" {
					t.Errorf("who no longer leads says %s", got)
				}
				if got := policies(b); got != c.want {
					t.Errorf("who no longer leads made it %q", got)
				}
			})
		})
	}
}

// TestArmWrites: what is armed stays as it is, but for failurePolicy, and is written once.
func TestArmWrites(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		before := validating(ignores, map[string]string{"a": "b"})
		before.Webhooks[0].FailurePolicy = nil // which is Fail for the API server, but says so nowhere
		before.Webhooks[0].ClientConfig.CABundle = []byte("bundle")
		b.create(before)
		b.refuse("dryrun Deployment", refused)
		a, _ := newArming(b, nil)
		b.start(leads(a.Lead))
		pass(time.Hour)
		after := validating(fails, map[string]string{"a": "b"})
		after.Webhooks[0].ClientConfig.CABundle = []byte("bundle")
		got := validating(ignores, nil)
		b.get(got)
		if diff := cmp.Diff(after.Webhooks, got.Webhooks); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"update ValidatingWebhookConfiguration portcullis"}, b.writes()); diff != "" {
			t.Error(diff)
		}
		if got := b.count("dryrun Deployment portcullis-probe"); got < 11 || got > 13 { // every 5 minutes
			t.Errorf("%d probes in an hour", got)
		}
	})
}

// TestProbeBlocked: who refuses the dry run before the webhook is asked is named once, and no longer when it lets it pass.
func TestProbeBlocked(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.create(validating(ignores, nil))
		end := b.refuse("dryrun Deployment", denied("policy.example.com"))
		a, registry := newArming(b, nil)
		recorder := events.NewFakeRecorder(100)
		a.Events = recorder
		b.start(leads(a.Lead))
		pass(time.Minute)
		if got := <-recorder.Events; !strings.Contains(got, "ProbeBlocked webhook policy.example.com ") || len(recorder.Events) > 0 {
			t.Errorf("events: %s, and %d more", got, len(recorder.Events))
		}
		end()
		b.refuse("dryrun Deployment", refused)
		pass(time.Minute)
		if got := series(t, registry); strings.Contains(got, "blocked") || policies(b) != isArmed {
			t.Errorf("metrics %s, policies %s", got, policies(b))
		}
	})
}

// TestArmAgain: who applies the manifests anew disarms the webhook for two seconds.
func TestArmAgain(t *testing.T) {
	for _, c := range []struct {
		name string
		then func(b *bench) // afterwards, until which it stays disarmed
		want string
	}{
		{"applied anew", func(*bench) {}, isArmed},
		{"applied anew, while no probe is refused", func(b *bench) { b.refuse("dryrun Deployment", errDown) }, isDisarmed},
		{"somebody writes at the same time", func(b *bench) {
			b.once("update ValidatingWebhookConfiguration", func(client.Object) error {
				editNow(b, validating(ignores, nil), func(c *admissionregistrationv1.ValidatingWebhookConfiguration) {
					c.Labels = map[string]string{"a": "b"}
				})
				return nil
			})
			pass(armEvery)
		}, isArmed},
		{"the write is refused", func(b *bench) {
			end := b.refuse("update ValidatingWebhookConfiguration", errDown)
			pass(time.Minute)
			end()
		}, isArmed},
		{"the configuration cannot be read", func(b *bench) {
			end := b.refuse("get ValidatingWebhookConfiguration", errDown)
			pass(time.Minute)
			end()
		}, isArmed},
		{"it is deleted, and comes back", func(b *bench) {
			b.remove(validating(ignores, nil))
			pass(time.Minute)
			b.create(validating(ignores, nil))
		}, isArmed},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				b.create(validating(ignores, nil))
				end := b.refuse("dryrun Deployment", refused)
				a, _ := newArming(b, nil)
				b.start(leads(a.Lead))
				pass(time.Second)
				if got := policies(b); got != isArmed {
					t.Fatalf("%q to begin with", got)
				}
				edit(b, validating(ignores, nil), func(c *admissionregistrationv1.ValidatingWebhookConfiguration) {
					c.Webhooks = validating(ignores, nil).Webhooks
				})
				if c.want == isDisarmed {
					end()
				}
				c.then(b)
				pass(armEvery)
				if got := policies(b); got != c.want {
					t.Errorf("%q, want %q", got, c.want)
				}
			})
		})
	}
}

// TestArmComplains: an error is logged when it begins, when it changes, and not while it lasts.
func TestArmComplains(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.create(validating(ignores, nil))
		a, _ := newArming(b, nil)
		end := b.refuse("dryrun Deployment", errDown)
		b.start(leads(a.Lead))
		for i, next := range []error{errDown, denied("policy.example.com"), errDown} {
			end()
			end = b.refuse("dryrun Deployment", next)
			pass(time.Minute)
			if got := b.errorsLogged(); got != i+1 {
				t.Errorf("%d errors after %d causes: %q", got, i+1, b.logs)
			}
		}
		lines := len(b.logs)
		end()
		b.refuse("dryrun Deployment", refused)
		pass(time.Minute)
		if got := len(b.logs) - lines; got != 2 || b.errorsLogged() != 3 {
			t.Errorf("%d lines when it works again, want that and that it is armed: %q", got, b.logs)
		}
	})
}

// TestLeavingArmsNoMore: a replica that is told to stop must not undo what it does in Leave.
func TestLeavingArmsNoMore(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		leaving := make(chan struct{})
		a, _ := newArming(b, leaving)
		b.refuse("dryrun Deployment", refused)
		b.start(leads(a.Lead))
		pass(time.Second)
		close(leaving)
		b.create(validating(ignores, nil))
		pass(time.Hour)
		if got := policies(b); got != isDisarmed {
			t.Errorf("%q", got)
		}
	})
}

func TestProbe(t *testing.T) {
	p := NewProbe("there")
	if p.Namespace != "there" || p.Annotations[v1alpha1.ProbeAnnotation] != "true" || *p.Spec.Replicas != 0 {
		t.Errorf("%+v, want to be in its namespace, marked, and to run nowhere if it is ever stored", p)
	}
	w, ok := extract.Workload(p, nil, nil)
	if !ok || len(w.Claims) > 0 || len(w.Requests) != 1 || w.Requests[0].Ports != 0 {
		t.Errorf("%+v, want no claim, and a request for a port that no container has", w)
	}
	selector, err := metav1.LabelSelectorAsSelector(p.Spec.Selector)
	if err != nil || selector.Empty() {
		t.Errorf("%v, %v", selector, err)
	}
}
