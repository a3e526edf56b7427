package webhook

import (
	"strings"
	"testing"

	"github.com/go-logr/logr/funcr"
	admissionv1 "k8s.io/api/admission/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/hooks"
)

// TestProbe: a dry run that only asks whether the webhook answers is refused whatever the configuration says, and nothing
// else is judged in another way for having the annotation.
func TestProbe(t *testing.T) {
	for _, c := range []struct {
		config     string
		annotation string
		dryRun     bool
		refused    bool
	}{
		{"", "true", true, true},
		{"", "", false, true},
		{"enforcement: {PC0101: Audit}\n", "true", true, true},
		{"enforcement: {PC0101: Warn}\n", "true", true, true},
		{"enforcement: {PC0101: Audit}\n", "", true, false},
		{"enforcement: {PC0101: Audit}\n", "false", true, false},
		{"enforcement: {PC0101: Audit}\n", "true", false, false},
	} {
		d := &appsv1.Deployment{}
		d.Name = "portcullis-probe"
		if c.annotation != "" {
			d.Annotations = map[string]string{v1alpha1.ProbeAnnotation: c.annotation}
		}
		d.Spec.Template.Spec.Containers = []corev1.Container{{Name: "c", Ports: []corev1.ContainerPort{{ContainerPort: 80, HostPort: 80, HostIP: "probe"}}}}
		req := request("Deployment", admissionv1.Create, d, nil)
		req.DryRun = &c.dryRun
		if c.config == "" && c.annotation != "" { // the one that is sent: it asks for a port that it does not have
			d.Spec.Template.Annotations = map[string]string{extract.HostPortAnnotation + "probe": "auto"}
			d.Spec.Template.Spec.Containers[0].Ports = nil
			req = request("Deployment", admissionv1.Create, d, nil)
			req.DryRun = &c.dryRun
		}
		r := newBench(t, c.config).ask(t, hooks.PathValidateWorkload, req)
		if r.Allowed == c.refused || c.refused && !strings.Contains(r.Result.Message, "(PC0101)") && !strings.Contains(r.Result.Message, "(PC0314)") {
			t.Errorf("%+v: %+v", c, r)
		}
	}
}

// TestProbesAreLogged as every refusal is: whoever writes the annotation is not hidden by it.
func TestProbesAreLogged(t *testing.T) {
	d := &appsv1.Deployment{}
	d.Name, d.Annotations = "mine", map[string]string{v1alpha1.ProbeAnnotation: "true"}
	d.Spec.Template.Spec.Containers = []corev1.Container{{Name: "c", Ports: []corev1.ContainerPort{{ContainerPort: 80, HostPort: 80, HostIP: "probe"}}}}
	req := request("Deployment", admissionv1.Create, d, nil)
	req.DryRun = new(true)
	var lines []string
	ctx := logf.IntoContext(t.Context(), funcr.New(func(_, line string) { lines = append(lines, line) }, funcr.Options{}))
	newBench(t, "").Hooks()[hooks.PathValidateWorkload].Handle(ctx, admission.Request{AdmissionRequest: req})
	if len(lines) != 1 || !strings.Contains(lines[0], `"verdict"="deny"`) || !strings.Contains(lines[0], `"probe"=true`) {
		t.Errorf("logged %q", lines)
	}
}
