package arming

import (
	"context"
	"fmt"
	"regexp"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/hooks"
)

// probeName is the name of the Deployment of the self-test.
const probeName = "portcullis-probe"

// NewProbe returns the Deployment of the self-test, which the webhook must reject on a dry run, and nobody else if possible:
// its pods ask for a host port by the name of a container port that they do not have (PC0314). They have no host port, and
// comply with the restricted Pod Security Standard. Only validating webhooks see the template of a Deployment.
func NewProbe(namespace string) *appsv1.Deployment {
	labels := map[string]string{"app.kubernetes.io/name": probeName}
	probe := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{
		Namespace: namespace, Name: probeName, Labels: labels, Annotations: map[string]string{v1alpha1.ProbeAnnotation: "true"},
	}}
	probe.Spec.Replicas = new(int32)
	probe.Spec.Selector = &metav1.LabelSelector{MatchLabels: labels}
	probe.Spec.Template.Labels = labels
	probe.Spec.Template.Annotations = map[string]string{extract.HostPortAnnotation + "probe": "auto"}
	small := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1m"), corev1.ResourceMemory: resource.MustParse("1Mi")}
	probe.Spec.Template.Spec.AutomountServiceAccountToken = new(false)
	probe.Spec.Template.Spec.SecurityContext = &corev1.PodSecurityContext{
		RunAsNonRoot: new(true), RunAsUser: new(int64(65532)), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	probe.Spec.Template.Spec.Containers = []corev1.Container{{
		Name: "probe", Image: "registry.k8s.io/pause:3.10", Resources: corev1.ResourceRequirements{Requests: small, Limits: small},
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true),
			Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
	}}
	return probe
}

// selfTest returns nil if this webhook rejects a dry run of the probe.
func (c *Controller) selfTest(ctx context.Context) error {
	err := c.Writer.Create(ctx, NewProbe(c.ProbeNamespace), client.DryRunAll, fieldOwner)
	if err == nil {
		return fmt.Errorf("a dry run of a Deployment that must be refused was not: the API server does not ask the webhook, or not about the namespace %s", c.ProbeNamespace)
	}
	switch component := RejectedBy(err); component {
	case OwnWebhook:
		return nil
	case "":
		return fmt.Errorf("a dry run of a Deployment that must be refused, by the webhook: %w", err)
	default:
		return fmt.Errorf("%s answers the dry run of Deployment %s/%s before this webhook is asked, so that it cannot arm; exempt that Deployment from it: %w", component, c.ProbeNamespace, probeName, err)
	}
}

// OwnWebhook is the component of RejectedBy that checks the probe: the self-test has succeeded.
const OwnWebhook = "webhook " + hooks.ValidateWorkloadsName

// How the API server words a rejection: k8s.io/apiserver pkg/admission/plugin/webhook/errors/statuserror.go and
// pkg/admission/plugin/policy/validating/plugin.go; and that a webhook with failurePolicy Fail does not answer.
var (
	webhookPattern = regexp.MustCompile(`admission webhook "([^"]+)" denied the request`)
	policyPattern  = regexp.MustCompile(`ValidatingAdmissionPolicy '([^']+)' with binding`)
	failedPattern  = regexp.MustCompile(`failed calling webhook "([^"]+)"`)
)

// RejectedBy returns the component that rejected the dry run of a probe, "webhook NAME" or "ValidatingAdmissionPolicy NAME";
// "" if it was none, but the API server itself, RBAC or the network.
func RejectedBy(err error) string {
	message := err.Error()
	if m := webhookPattern.FindStringSubmatch(message); m != nil {
		if component := "webhook " + m[1]; component != OwnWebhook || apierrors.IsInvalid(err) {
			return component
		}
		return ""
	}
	if m := policyPattern.FindStringSubmatch(message); m != nil {
		return "ValidatingAdmissionPolicy " + m[1]
	}
	if m := failedPattern.FindStringSubmatch(message); m != nil && "webhook "+m[1] != OwnWebhook {
		return "webhook " + m[1]
	}
	return ""
}
