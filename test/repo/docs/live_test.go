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

// TestGoldenLive runs the commands of the pages about ports and audits on the clusters of those pages.
func TestGoldenLive(t *testing.T) {
	for _, path := range []string{"docs/ports.md", "docs/audit.md"} {
		p := read(t, path)
		dir := t.TempDir()
		for kind, file := range map[string]string{"yaml state": "state.yaml", "yaml config": "config.yaml"} {
			for _, b := range p.blocks(t, kind) {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(b.text()), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		if len(p.blocks(t, "yaml state")) != 1 || len(p.blocks(t, "console")) == 0 {
			t.Fatalf("%s: it shows no cluster, or nothing of it", path)
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
			if ended, found := errors.AsType[*exec.ExitError](err); err != nil && !found || found && ended.ExitCode() != 1 {
				t.Fatalf("%s:%d: %v", p.path, b.first, err)
			}
			want := append([]string{b.lines[0]}, strings.Split(strings.TrimSpace(string(out)), "\n")...)
			p.hold(t, "what the command prints", b.first, b.lines, want)
		}
	}
}
