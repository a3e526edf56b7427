package webhook

import (
	"bytes"
	"flag"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
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
