package operations

import (
	"context"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

// create makes a pod with a host port, which the webhook is asked about.
func create(t *testing.T, r *rig.Rig) error {
	t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "wanted"}}
	pod.Spec.Containers = []corev1.Container{{Name: "c", Image: "x", Ports: []corev1.ContainerPort{{ContainerPort: 80, HostPort: 80}}}}
	_, err := r.Client.CoreV1().Pods("default").Create(t.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	return err
}

// TestBreakGlass: while a replica that must answer is down, nothing goes; afterwards everything does.
func TestBreakGlass(t *testing.T) {
	t.Parallel()
	r := rig.Run(t, rig.Options{})
	r.Webhook.Stop()
	if err := create(t, r); err == nil || !strings.Contains(err.Error(), "failed calling webhook") {
		t.Fatalf("the webhook is down, and a pod with a host port: %v", err)
	}
	if out, errs, code := onRig(t, r, "break-glass"); code != 2 || !strings.Contains(errs, "say --yes") || !strings.Contains(out, "ValidatingWebhookConfiguration portcullis") {
		t.Errorf("without a terminal: exit code %d\n%s%s", code, out, errs)
	}
	if _, errs, code := onRig(t, r, "break-glass", "--hold", "--yes"); code != 2 || !strings.Contains(errs, "--ignore-only") {
		t.Errorf("--hold for itself: exit code %d, %s", code, errs)
	}

	out, errs, code := onRig(t, r, "break-glass", "--yes", "--ignore-only", "--hold")
	if code != 0 || errs != "" || !strings.Contains(out, "portcullis.dev/hold-") {
		t.Fatalf("--ignore-only: exit code %d\n%s%s", code, out, errs)
	}
	poll.Until(t, func(context.Context) error { return create(t, r) })
	c, err := r.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(t.Context(), hooks.ConfigurationName, metav1.GetOptions{})
	if err != nil || c.Annotations["portcullis.dev/hold"] != "true" || *c.Webhooks[0].FailurePolicy != admissionregistrationv1.Ignore {
		t.Errorf("%v, %v", c, err)
	}
	if out, _, code := onRig(t, r, "break-glass", "--yes", "--ignore-only"); code != 0 || !strings.Contains(out, "nothing to do") {
		t.Errorf("--ignore-only again: exit code %d, %s", code, out)
	}

	out, errs, code = onRig(t, r, "break-glass", "--yes")
	if code != 0 || errs != "" || !strings.Contains(out, "kubectl apply -f install.yaml") {
		t.Fatalf("exit code %d\n%s%s", code, out, errs)
	}
	poll.Until(t, func(context.Context) error { return create(t, r) })
	list, err := r.Client.AdmissionregistrationV1().MutatingWebhookConfigurations().List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) > 0 {
		t.Errorf("%d mutating webhook configurations are left, %v", len(list.Items), err)
	}
	events, err := r.Client.EventsV1().Events("portcullis-system").List(t.Context(), metav1.ListOptions{FieldSelector: "reason=BreakGlass"})
	if err != nil || len(events.Items) != 2 || !strings.Contains(events.Items[0].Note+events.Items[1].Note, "portcullis-test-admin had these deleted") {
		t.Errorf("%d events, %v: %v", len(events.Items), err, events)
	}
	if out, _, code := onRig(t, r, "break-glass", "--yes"); code != 0 || !strings.Contains(out, "nothing to do") {
		t.Errorf("again: exit code %d, %s", code, out)
	}
}
