package transparency

import (
	"context"
	"fmt"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/test/lab/objects"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

// TestArmsBesideOthers: the webhook arms beside its own admission policies; whoever keeps it from arming is named.
func TestArmsBesideOthers(t *testing.T) {
	t.Parallel()
	r := rig.Run(t, rig.Options{SelfArmed: true})
	if err := rig.Install(t.Context(), r.RESTConfig(), "policies"); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, r.ControlPlane)
	configurations := r.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	policy := func(ctx context.Context) (admissionregistrationv1.FailurePolicyType, error) {
		c, err := configurations.Get(ctx, hooks.ConfigurationName, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		return *c.Webhooks[0].FailurePolicy, nil
	}
	// apply is what `kubectl apply` of the manifests does: they say Ignore.
	apply := func() {
		poll.Until(t, func(ctx context.Context) error {
			c, err := configurations.Get(ctx, hooks.ConfigurationName, metav1.GetOptions{})
			if err != nil {
				return err
			}
			for i := range c.Webhooks {
				c.Webhooks[i].FailurePolicy = new(admissionregistrationv1.Ignore)
			}
			_, err = configurations.Update(ctx, c, metav1.UpdateOptions{})
			return err
		})
	}
	armed := func(ctx context.Context) error {
		if p, err := policy(ctx); err != nil || p != admissionregistrationv1.Fail {
			return fmt.Errorf("failurePolicy is %s, %w", p, err)
		}
		return nil
	}
	poll.Until(t, func(ctx context.Context) error { // the API server judges by the policies
		bad := objects.One(t, "default", objects.Workload("Deployment", "bad", "", objects.Containers("containerPort: 80, hostPort: 80, hostIP: bad")))
		if err := c.Create(ctx, bad, client.DryRunAll); err == nil || !strings.Contains(err.Error(), "ValidatingAdmissionPolicy") {
			return fmt.Errorf("the admission policies refuse nothing: %w", err)
		}
		return nil
	})
	apply()
	poll.Until(t, armed)

	other := hooks.Validating(hooks.Options{
		ClientConfig: hooks.URLClient("https://127.0.0.1:1", r.Webhook.CA), FailurePolicy: admissionregistrationv1.Fail,
	})
	other.Name, other.Labels, other.Webhooks = "other", nil, other.Webhooks[2:3]
	other.Webhooks[0].Name, other.Webhooks[0].MatchConditions = "other.example.com", nil
	if _, err := configurations.Create(t.Context(), other, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	poll.Until(t, func(ctx context.Context) error { // the API server asks the other webhook: else the self-test succeeds before it does
		harmless := objects.One(t, "default", objects.Workload("Deployment", "harmless", "", objects.Containers("containerPort: 80")))
		if err := c.Create(ctx, harmless, client.DryRunAll); err == nil || !strings.Contains(err.Error(), "other.example.com") {
			return fmt.Errorf("the other webhook is not asked: %w", err)
		}
		return nil
	})
	apply()
	poll.Until(t, func(ctx context.Context) error {
		metrics, err := r.Webhook.Metrics(ctx)
		if err != nil {
			return err
		}
		if !strings.Contains(metrics, `portcullis_probe_blocked{component="webhook other.example.com"} 1`) {
			return fmt.Errorf("the metrics do not name the other webhook")
		}
		events, err := r.Client.EventsV1().Events("default").List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, e := range events.Items {
			if e.Reason == "ProbeBlocked" && strings.Contains(e.Note, "other.example.com") {
				return nil
			}
		}
		return fmt.Errorf("no event names the other webhook")
	})
	if err := configurations.Delete(t.Context(), "other", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	poll.Until(t, armed)
}
