package webhook

import (
	"bytes"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the golden files")

// TestGolden holds config/webhook to the Go code that it is rendered from.
func TestGolden(t *testing.T) {
	const file = "../config/webhook/manifests.yaml"
	var rendered bytes.Buffer
	rendered.WriteString("# Rendered from webhook/registration.go by `make generate`.\n")
	for _, object := range []any{Mutating(Shipped()), Validating(Shipped())} {
		text, err := yaml.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		rendered.WriteString("---\n")
		rendered.Write(text)
	}
	if *update {
		if err := os.WriteFile(file, rendered.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(golden), rendered.String()); diff != "" {
		t.Errorf("%s differs from the code (-file +code); run make generate:\n%s", file, diff)
	}
}

// TestRegistration: what differs between installations reaches every webhook of both configurations.
func TestRegistration(t *testing.T) {
	r := Registration{ClientConfig: URLClient("https://127.0.0.1:9443", []byte("ca")), FailurePolicy: admissionregistrationv1.Fail, GuardBindings: true}
	type entry struct {
		Name, URL string
		Policy    admissionregistrationv1.FailurePolicyType
		Timeout   int32
	}
	var got []entry
	for _, w := range Mutating(r).Webhooks {
		got = append(got, entry{w.Name, *w.ClientConfig.URL, *w.FailurePolicy, *w.TimeoutSeconds})
		if string(w.ClientConfig.CABundle) != "ca" || len(w.NamespaceSelector.MatchExpressions) != 0 {
			t.Errorf("%s: %+v", w.Name, w)
		}
	}
	for _, w := range Validating(r).Webhooks {
		got = append(got, entry{w.Name, *w.ClientConfig.URL, *w.FailurePolicy, *w.TimeoutSeconds})
	}
	want := []entry{
		{"mutate-pods.portcullis.dev", "https://127.0.0.1:9443/mutate-pods", "Fail", 2},
		{"mutate-services.portcullis.dev", "https://127.0.0.1:9443/mutate-services", "Fail", 3},
		{"validate-pods.portcullis.dev", "https://127.0.0.1:9443/validate-pods", "Fail", 3},
		{"validate-services.portcullis.dev", "https://127.0.0.1:9443/validate-services", "Fail", 3},
		{"validate-workloads.portcullis.dev", "https://127.0.0.1:9443/validate-workloads", "Fail", 3},
		{"validate-scale.portcullis.dev", "https://127.0.0.1:9443/validate-scale", "Fail", 3},
		{"validate-cronjobs.portcullis.dev", "https://127.0.0.1:9443/validate-workloads", "Fail", 3},
		{"guard-pod-labels.portcullis.dev", "https://127.0.0.1:9443/validate-pods", "Ignore", 1},   // else no operator could fail over
		{"guard-bindings.portcullis.dev", "https://127.0.0.1:9443/validate-bindings", "Ignore", 1}, // else no pod could be bound while it is down
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	r.GuardBindings = false
	if webhooks := Validating(r).Webhooks; len(webhooks) != 6 {
		t.Errorf("%d validating webhooks without the guard on bindings", len(webhooks))
	}
}

// TestEveryWebhookIsServed: a path of the configurations has a handler, and every handler is registered.
func TestEveryWebhookIsServed(t *testing.T) {
	r := Registration{ClientConfig: ServiceClient("ns", "name"), GuardBindings: true}
	handlers := newBench(t, "").Hooks()
	var paths []string
	for _, w := range Mutating(r).Webhooks {
		paths = append(paths, *w.ClientConfig.Service.Path)
	}
	for _, w := range Validating(r).Webhooks {
		paths = append(paths, *w.ClientConfig.Service.Path)
	}
	for _, path := range paths {
		if handlers[path] == nil {
			t.Errorf("nothing is served at %s", path)
		}
	}
	for path := range handlers {
		if !slices.Contains(paths, path) {
			t.Errorf("nobody calls %s", path)
		}
	}
}

// TestTimeouts: a hook answers before the API server stops waiting, and claims are made before that.
func TestTimeouts(t *testing.T) {
	timeouts := map[string]int32{}
	for _, w := range Mutating(Registration{}).Webhooks {
		timeouts[w.Name] = *w.TimeoutSeconds
	}
	for _, w := range Validating(Registration{GuardBindings: true}).Webhooks {
		timeouts[w.Name] = *w.TimeoutSeconds
		for _, rule := range w.Rules {
			req := admission.Request{}
			resource, sub, _ := strings.Cut(rule.Resources[0], "/")
			req.Resource.Group, req.Resource.Resource, req.SubResource, req.Operation = rule.APIGroups[0], resource, sub, admissionv1.Operation(rule.Operations[0])
			if limit := time.Duration(*w.TimeoutSeconds) * time.Second; timeFor(req) >= limit {
				t.Errorf("%s: may take %v of %v", w.Name, timeFor(req), limit)
			}
		}
	}
	for name, seconds := range timeouts {
		if strings.HasPrefix(name, "mutate") && answerTime >= time.Duration(seconds)*time.Second {
			t.Errorf("%s: may take %v of %d s", name, answerTime, seconds)
		}
	}
	if claimTime >= answerTime || len(timeouts) < 8 {
		t.Errorf("claims may take %v of %v; hooks %v", claimTime, answerTime, timeouts)
	}
}
