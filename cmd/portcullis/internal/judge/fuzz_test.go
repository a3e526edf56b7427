package judge

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/cli"
)

// FuzzLint judges any text as manifests: whatever it is, the answer is one of the exit codes.
func FuzzLint(f *testing.F) {
	for _, pattern := range []string{"../../../../config/samples/*.yaml", "../../../../config/samples/conflicts/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			f.Fatalf("%s: %v, %v", pattern, files, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(string(text))
		}
	}
	for _, object := range []string{app1, web, webPod, lonePod, agent, agentOn1} {
		f.Add(nodes + and + object)
	}
	f.Fuzz(func(t *testing.T, input string) {
		o := runCommand(t, input, "lint", "-f", "-", "-o", "sarif")
		if o.Exit == cli.ExitUsage && strings.TrimSpace(o.Stderr) == "" {
			t.Errorf("nothing is said of what is wrong with %q", input)
		}
	})
}
