package docs

import (
	"os"
	"path/filepath"
	"testing"
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
		if len(p.blocks(t, "yaml state")) != 1 {
			t.Fatalf("%s: it shows no cluster", path)
		}
		p.holdCommands(t, dir)
	}
}
