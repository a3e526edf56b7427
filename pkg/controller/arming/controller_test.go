package arming

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
	"github.com/portcullis-k8s/portcullis/pkg/controller/internal/fake"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/hooks"
)

const (
	fails   = admissionregistrationv1.Fail
	ignores = admissionregistrationv1.Ignore
)

// policies are the failure policies that are stored; "" without the configuration.
func policies(api *fake.Cluster) string {
	c := fake.ValidatingConfiguration(ignores, nil)
	if !api.Load(c) {
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

var rejected = denied(hooks.ValidateWorkloadsName)

// newArming returns the Controller of a replica that is to stop when leaving is closed.
func newArming(api *fake.Cluster, leaving <-chan struct{}) (*Controller, *prometheus.Registry) {
	registry := prometheus.NewRegistry()
	return &Controller{
		Reader: api, Writer: api, Configuration: "portcullis", ProbeNamespace: "default",
		Service: client.ObjectKey{Namespace: "portcullis-system", Name: "portcullis"}, Pod: "pod-1", Address: "10.0.0.1",
		Leaving: leaving, Metrics: NewMetrics(registry), Now: time.Now,
	}, registry
}

// TestArm: failurePolicy is Fail once a dry run was rejected by the right webhook, and not before.
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
		{"rejected by us", fake.ValidatingConfiguration(ignores, nil), rejected, isArmed, "probe_last_refusal_timestamp_seconds=946684800, webhook_armed=1", 0},
		{"armed already", fake.ValidatingConfiguration(fails, nil), rejected, isArmed, "probe_last_refusal_timestamp_seconds=946684800, webhook_armed=1", 0},
		{"held back", fake.ValidatingConfiguration(ignores, held), rejected, isDisarmed, "probe_last_refusal_timestamp_seconds=946684830", 0},
		{"held back, and armed", fake.ValidatingConfiguration(fails, held), rejected, isArmed, "probe_last_refusal_timestamp_seconds=946684800, webhook_armed=1", 0},
		{"not held back", fake.ValidatingConfiguration(ignores, map[string]string{v1alpha1.HoldAnnotation: "false"}), rejected, isArmed, "probe_last_refusal_timestamp_seconds=946684800, webhook_armed=1", 0},
		{"admitted", fake.ValidatingConfiguration(ignores, nil), nil, isDisarmed, "", 1},
		{"admitted, and armed: that is what Fail is for", fake.ValidatingConfiguration(fails, nil), nil, isArmed, "webhook_armed=1", 1},
		{"rejected by a webhook of somebody else", fake.ValidatingConfiguration(ignores, nil), denied("policy.example.com"), isDisarmed, "probe_blocked webhook policy.example.com=1", 1},
		{"rejected by another webhook of ours", fake.ValidatingConfiguration(ignores, nil), denied(hooks.ValidateServicesName), isDisarmed, "probe_blocked webhook " + hooks.ValidateServicesName + "=1", 1},
		{"rejected by one that is called nearly so", fake.ValidatingConfiguration(ignores, nil), denied("not-" + hooks.ValidateWorkloadsName), isDisarmed, "probe_blocked webhook not-" + hooks.ValidateWorkloadsName + "=1", 1},
		{"rejected by an admission policy", fake.ValidatingConfiguration(ignores, nil), apierrors.NewForbidden(deployments, probeName, errors.New("ValidatingAdmissionPolicy 'images' with binding 'all' denied request: no")), isDisarmed, "probe_blocked ValidatingAdmissionPolicy images=1", 1},
		{"another webhook does not answer", fake.ValidatingConfiguration(ignores, nil), apierrors.NewInternalError(errors.New(`failed calling webhook "policy.example.com": timeout`)), isDisarmed, "probe_blocked webhook policy.example.com=1", 1},
		{"forbidden by RBAC", fake.ValidatingConfiguration(ignores, nil), apierrors.NewForbidden(deployments, probeName, errors.New("no")), isDisarmed, "", 1},
		{"forbidden, in the same words", fake.ValidatingConfiguration(ignores, nil), apierrors.NewForbidden(deployments, probeName, rejected), isDisarmed, "", 1},
		{"invalid for the API server", fake.ValidatingConfiguration(ignores, nil), apierrors.NewInvalid(schema.GroupKind{Group: "apps", Kind: "Deployment"}, probeName, nil), isDisarmed, "", 1},
		{"the webhook cannot be called", fake.ValidatingConfiguration(ignores, nil), apierrors.NewInternalError(errors.New(`failed calling webhook "` + hooks.ValidateWorkloadsName + `": connection refused`)), isDisarmed, "", 1},
		{"no such namespace", fake.ValidatingConfiguration(ignores, nil), apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, "default"), isDisarmed, "", 1},
		{"no API server", fake.ValidatingConfiguration(ignores, nil), fake.ErrDown, isDisarmed, "", 1},
		{"no configuration", nil, rejected, "", "", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			fake.Run(t, func(t *testing.T, api *fake.Cluster) {
				if c.configuration != nil {
					api.Add(c.configuration)
				}
				api.Reject("dryrun Deployment", c.probe)
				a, registry := newArming(api, nil)
				end := api.Start(fake.Task(a.Lead))
				fake.Pass(30*time.Second - time.Millisecond)
				if c.name == "held back" {
					fake.Pass(time.Millisecond) // it is tried every time
				}
				if got := policies(api); got != c.want {
					t.Errorf("%q, want %q", got, c.want)
				}
				if got := fake.Series(t, registry); got != c.metrics {
					t.Errorf("metrics %s, want %s", got, c.metrics)
				}
				if got := api.ErrorsLogged(); got != c.errors {
					t.Errorf("%d errors, want %d: %q", got, c.errors, api.Logs())
				}
				if api.Load(NewProbe("default")) {
					t.Error("the probe was created")
				}
				end()
				if got := fake.Series(t, registry); got != "" {
					t.Errorf("who no longer leads says %s", got)
				}
				if got := policies(api); got != c.want {
					t.Errorf("who no longer leads made it %q", got)
				}
			})
		})
	}
}

// TestArmWrites: what is armed stays as it is, but for failurePolicy, and is written once.
func TestArmWrites(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		before := fake.ValidatingConfiguration(ignores, map[string]string{"a": "b"})
		before.Webhooks[0].FailurePolicy = nil // which is Fail for the API server, but says so nowhere
		before.Webhooks[0].ClientConfig.CABundle = []byte("bundle")
		api.Add(before)
		api.Reject("dryrun Deployment", rejected)
		a, _ := newArming(api, nil)
		api.Start(fake.Task(a.Lead))
		fake.Pass(time.Hour)
		after := fake.ValidatingConfiguration(fails, map[string]string{"a": "b"})
		after.Webhooks[0].ClientConfig.CABundle = []byte("bundle")
		got := fake.ValidatingConfiguration(ignores, nil)
		api.Load(got)
		if diff := cmp.Diff(after.Webhooks, got.Webhooks); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"update ValidatingWebhookConfiguration portcullis"}, api.Writes()); diff != "" {
			t.Error(diff)
		}
		if got := api.Count("dryrun Deployment portcullis-probe"); got < 11 || got > 13 { // every 5 minutes
			t.Errorf("%d probes in an hour", got)
		}
	})
}

// TestProbeBlocked: a component that rejects the dry run before the webhook does is named once, and no longer when it accepts it.
func TestProbeBlocked(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		api.Add(fake.ValidatingConfiguration(ignores, nil))
		end := api.Reject("dryrun Deployment", denied("policy.example.com"))
		a, registry := newArming(api, nil)
		recorder := events.NewFakeRecorder(100)
		a.Events = recorder
		api.Start(fake.Task(a.Lead))
		fake.Pass(time.Minute)
		if got := <-recorder.Events; !strings.Contains(got, "ProbeBlocked webhook policy.example.com ") || len(recorder.Events) > 0 {
			t.Errorf("events: %s, and %d more", got, len(recorder.Events))
		}
		end()
		api.Reject("dryrun Deployment", rejected)
		fake.Pass(time.Minute)
		if got := fake.Series(t, registry); strings.Contains(got, "blocked") || policies(api) != isArmed {
			t.Errorf("metrics %s, policies %s", got, policies(api))
		}
	})
}

// TestArmAgain: who applies the manifests anew disarms the webhook for two seconds.
func TestArmAgain(t *testing.T) {
	for _, c := range []struct {
		name string
		then func(api *fake.Cluster) // afterwards, until which it stays disarmed
		want string
	}{
		{"applied anew", func(*fake.Cluster) {}, isArmed},
		{"applied anew, while no probe is rejected", func(api *fake.Cluster) { api.Reject("dryrun Deployment", fake.ErrDown) }, isDisarmed},
		{"somebody writes at the same time", func(api *fake.Cluster) {
			api.Once("update ValidatingWebhookConfiguration", func(client.Object) error {
				fake.EditNow(api, fake.ValidatingConfiguration(ignores, nil), func(c *admissionregistrationv1.ValidatingWebhookConfiguration) {
					c.Labels = map[string]string{"a": "b"}
				})
				return nil
			})
			fake.Pass(armInterval)
		}, isArmed},
		{"the write is rejected", func(api *fake.Cluster) {
			end := api.Reject("update ValidatingWebhookConfiguration", fake.ErrDown)
			fake.Pass(time.Minute)
			end()
		}, isArmed},
		{"the configuration cannot be read", func(api *fake.Cluster) {
			end := api.Reject("get ValidatingWebhookConfiguration", fake.ErrDown)
			fake.Pass(time.Minute)
			end()
		}, isArmed},
		{"it is deleted, and comes back", func(api *fake.Cluster) {
			api.Remove(fake.ValidatingConfiguration(ignores, nil))
			fake.Pass(time.Minute)
			api.Add(fake.ValidatingConfiguration(ignores, nil))
		}, isArmed},
	} {
		t.Run(c.name, func(t *testing.T) {
			fake.Run(t, func(t *testing.T, api *fake.Cluster) {
				api.Add(fake.ValidatingConfiguration(ignores, nil))
				end := api.Reject("dryrun Deployment", rejected)
				a, _ := newArming(api, nil)
				api.Start(fake.Task(a.Lead))
				fake.Pass(time.Second)
				if got := policies(api); got != isArmed {
					t.Fatalf("%q to begin with", got)
				}
				fake.Edit(api, fake.ValidatingConfiguration(ignores, nil), func(c *admissionregistrationv1.ValidatingWebhookConfiguration) {
					c.Webhooks = fake.ValidatingConfiguration(ignores, nil).Webhooks
				})
				if c.want == isDisarmed {
					end()
				}
				c.then(api)
				fake.Pass(armInterval)
				if got := policies(api); got != c.want {
					t.Errorf("%q, want %q", got, c.want)
				}
			})
		})
	}
}

// TestArmComplains: an error is logged when it begins, when it changes, and not while it lasts.
func TestArmComplains(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		api.Add(fake.ValidatingConfiguration(ignores, nil))
		a, _ := newArming(api, nil)
		end := api.Reject("dryrun Deployment", fake.ErrDown)
		api.Start(fake.Task(a.Lead))
		for i, next := range []error{fake.ErrDown, denied("policy.example.com"), fake.ErrDown} {
			end()
			end = api.Reject("dryrun Deployment", next)
			fake.Pass(time.Minute)
			if got := api.ErrorsLogged(); got != i+1 {
				t.Errorf("%d errors after %d causes: %q", got, i+1, api.Logs())
			}
		}
		lines := len(api.Logs())
		end()
		api.Reject("dryrun Deployment", rejected)
		fake.Pass(time.Minute)
		if got := len(api.Logs()) - lines; got != 2 || api.ErrorsLogged() != 3 {
			t.Errorf("%d lines when it works again, want that and that it is armed: %q", got, api.Logs())
		}
	})
}

// TestLeavingArmsNoMore: a replica that is to stop must not undo what it does in Leave.
func TestLeavingArmsNoMore(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		leaving := make(chan struct{})
		a, _ := newArming(api, leaving)
		api.Reject("dryrun Deployment", rejected)
		api.Start(fake.Task(a.Lead))
		fake.Pass(time.Second)
		close(leaving)
		api.Add(fake.ValidatingConfiguration(ignores, nil))
		fake.Pass(time.Hour)
		if got := policies(api); got != isDisarmed {
			t.Errorf("%q", got)
		}
	})
}

// TestNoSegmentIsLogged: the API server puts the URL of a hook that does not answer into its error, which is logged, and an
// event if it is another's.
func TestNoSegmentIsLogged(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		const segment = "00112233445566778899aabbccddeeff"
		api.Add(fake.ValidatingConfiguration(ignores, nil))
		api.Reject("dryrun Deployment", errors.New(`failed calling webhook "`+hooks.ValidateServicesName+`": Post "https://a.b.svc:443/`+segment+hooks.PathValidateServices+`": EOF`))
		a, _ := newArming(api, nil)
		recorder := events.NewFakeRecorder(10)
		a.Events = recorder
		api.Start(fake.Task(a.Lead))
		fake.Pass(time.Minute)
		if text := <-recorder.Events + strings.Join(api.Logs(), "\n"); strings.Contains(text, segment) || strings.Count(text, "443/***"+hooks.PathValidateServices) != 2 {
			t.Error(text)
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
