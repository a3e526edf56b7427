package docs

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/portcullis-k8s/portcullis/pkg/report"
	"github.com/portcullis-k8s/portcullis/test/lab/binaries"
)

// judge returns what `portcullis lint` finds with a configuration, "" for the default one, about the manifests in files,
// where what is in state exists already. The paths are below root.
func judge(t *testing.T, config string, state []string, files ...string) []report.Finding {
	t.Helper()
	args := []string{"lint", "-o", "json", "--config", config}
	for _, path := range files {
		args = append(args, "-f", path)
	}
	for _, path := range state {
		args = append(args, "--state", path)
	}
	cmd := exec.CommandContext(t.Context(), binaries.For(t, binaries.Portcullis), args...)
	var stderr bytes.Buffer
	cmd.Dir, cmd.Stderr = root, &stderr
	out, err := cmd.Output()
	if exit, is := errors.AsType[*exec.ExitError](err); err != nil && !(is && exit.ExitCode() == 1) {
		t.Fatalf("%v: %v\n%s", args, err, stderr.String())
	}
	var r report.LintReport
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	return r.Findings
}

func sentence(f report.Finding) string {
	if f.Field == "" { // what cannot be read has none
		return f.Message
	}
	return f.Field + ": " + f.Message
}

// file writes a block of a page into a file of its own.
func (b block) file(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "block.yaml")
	if err := os.WriteFile(path, []byte(b.text()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
