package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestRun explores a module of three tests: one fails with each seed, one is randomised and passes, one is not.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module example.org/dice\n\ngo 1.26.0\n",
		"dice_test.go": `package dice

import (
	"os"
	"testing"
)

func TestFails(t *testing.T) {
	t.Run("sub", func(t *testing.T) {
		t.Log("PORTCULLIS_SEED=7")
		t.Error(os.Getenv("PORTCULLIS_SEED"), "is wrong")
	})
}

func TestPasses(t *testing.T) { t.Log("PORTCULLIS_SEED=8") }

func TestPlain(t *testing.T) {}
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	first := run(t.Context(), target{dir, "./..."}, nil)
	if diff := cmp.Diff(map[string][]string{"example.org/dice": {"TestFails", "TestPasses"}}, first.randomised); diff != "" {
		t.Errorf("randomised (-want +got):\n%s", diff)
	}
	output := first.failed["example.org/dice.TestFails"]
	if len(first.failed) != 1 || first.err == nil || seedOf(output) != "PORTCULLIS_SEED=7" || !strings.Contains(output, "random is wrong") {
		t.Errorf("failed: %q, %v; want TestFails with its seed", first.failed, first.err)
	}
	if again := run(t.Context(), target{dir, "example.org/dice"}, []string{"TestPasses"}); again.err != nil || len(again.failed) > 0 || len(again.randomised) != 1 {
		t.Errorf("of TestPasses alone: %+v", again)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r := run(ctx, target{dir, "./..."}, nil); r.err == nil {
		t.Error("an interrupted run has no error")
	}
}

func TestTargets(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "test", "cluster", "pools"), 0o700); err != nil {
		t.Fatal(err)
	}
	tests := filepath.Join(root, "test")
	for _, c := range []struct {
		folders []string
		want    []target
	}{
		{nil, []target{{root, "./..."}, {tests, "./..."}}},
		{[]string{"pkg/ports", "cluster/pools", "test/cluster/pools"}, []target{{root, "./pkg/ports"}, {tests, "./cluster/pools"}, {tests, "./cluster/pools"}}},
	} {
		if diff := cmp.Diff(c.want, targets(root, c.folders, nil), cmp.AllowUnexported(target{})); diff != "" {
			t.Errorf("%v (-want +got):\n%s", c.folders, diff)
		}
	}
}
