package docs

import (
	"os"
	"path/filepath"
	"testing"
)

// TestGoldenWhy runs the commands of docs/why.md on the cluster of that page. What they print may go on after what is shown.
func TestGoldenWhy(t *testing.T) {
	p := read(t, "docs/why.md")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "state.yaml"), []byte(p.blocks(t, "yaml state")[0].text()), 0o600); err != nil {
		t.Fatal(err)
	}
	p.holdCommands(t, dir)
}
