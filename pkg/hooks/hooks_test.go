package hooks

import (
	"bytes"
	"flag"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the golden files")

// TestGolden holds config/webhook to the Go code that it is rendered from.
func TestGolden(t *testing.T) {
	const file = "../../config/webhook/manifests.yaml"
	var rendered bytes.Buffer
	rendered.WriteString("# Rendered from pkg/hooks/hooks.go by `make generate`.\n")
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

// TestOptions: what differs between installations reaches every webhook of both configurations.
func TestOptions(t *testing.T) {
	r := Options{ClientConfig: URLClient("https://127.0.0.1:9443", []byte("ca")), FailurePolicy: admissionregistrationv1.Fail, GuardBindings: true}
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
