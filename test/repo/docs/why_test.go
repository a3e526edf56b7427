package docs

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/portcullis-k8s/portcullis/test/lab/binaries"
)

// TestGoldenWhy runs the commands of docs/why.md on the cluster of that page. What they print may go on after what is shown.
func TestGoldenWhy(t *testing.T) {
	p := read(t, "docs/why.md")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "state.yaml"), []byte(p.blocks(t, "yaml state")[0].text()), 0o600); err != nil {
		t.Fatal(err)
	}
	for n := range p.blocks(t, "console") {
		b := p.blocks(t, "console")[n]
		args, ok := strings.CutPrefix(b.lines[0], "$ portcullis ")
		if !ok {
			t.Fatalf("%s:%d: the block does not begin with a command", p.path, b.first)
		}
		cmd := exec.CommandContext(t.Context(), binaries.For(t, binaries.Portcullis), strings.Fields(args)...)
		cmd.Dir = dir
		out, err := cmd.Output()
		if _, found := errors.AsType[*exec.ExitError](err); err != nil && !found {
			t.Fatal(err)
		}
		want := append([]string{b.lines[0]}, strings.Split(strings.TrimSpace(string(out)), "\n")...)
		if strings.HasSuffix(args, " -o yaml") {
			want = want[:min(len(want), len(b.lines))]
		}
		p.hold(t, "what the command prints", b.first, b.lines, want)
	}
}
