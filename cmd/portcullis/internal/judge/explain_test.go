package judge

import (
	"slices"
	"strings"
	"testing"

	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/cli"
	"github.com/portcullis-k8s/portcullis/pkg/check"
)

func TestExplain(t *testing.T) {
	for _, spelled := range []string{"PC0201", "pc0201", "Pc0201"} {
		o := runCommand(t, "", "lint", "--explain", spelled)
		if o.Exit != 0 || !strings.HasPrefix(o.Stdout, "# PC0201: the port is held by somebody else\n") || !strings.Contains(o.Stdout, "\n## Fix\n") {
			t.Errorf("%s: exit %d, %q %s", spelled, o.Exit, o.Stdout, o.Stderr)
		}
	}
	for _, c := range []struct{ code, says string }{
		{"PC0299", `--explain "PC0299": there is no such code; of its block there are PC0201, PC0202`},
		{"pc0399", "of its block there are PC0301"},
		{"PC9901", "there are PC0101, PC0102"},
		{"x", "there are PC0101, PC0102"},
		{"../codes/PC0201", "there are PC0101, PC0102"},
		{"README", "there are PC0101, PC0102"},
		{"PC*", "there are PC0101, PC0102"},
	} {
		o := runCommand(t, "", "lint", "--explain", c.code)
		if o.Exit != cli.ExitUsage || o.Stdout != "" || !strings.Contains(o.Stderr, c.says) {
			t.Errorf("%s: exit %d, want 2 with %q: %q %s", c.code, o.Exit, c.says, o.Stdout, o.Stderr)
		}
	}
	for _, args := range [][]string{{"-f", "a.yaml"}, {"a.yaml"}, {"--state", "a.yaml"}} {
		if o := runCommand(t, "", append([]string{"lint", "--explain", "PC0201"}, args...)...); o.Exit != cli.ExitUsage || !strings.Contains(o.Stderr, "leave out the paths") {
			t.Errorf("%v: exit %d, %s", args, o.Exit, o.Stderr)
		}
	}
}

// TestCompletion asks as the shells' scripts do.
func TestCompletion(t *testing.T) {
	var codes []string
	for _, e := range check.Catalogue() {
		codes = append(codes, string(e.Code)+"\t"+e.Title)
	}
	const noFiles, byEnding, files = ":4", ":8", ":0"
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"lint", "--explain", ""}, append(codes, noFiles)},
		{[]string{"lint", "-o", ""}, append(slices.Clone(outputs()), noFiles)},
		{[]string{"lint", "--output", ""}, append(slices.Clone(outputs()), noFiles)},
		{[]string{"lint", "--fail-on", ""}, append(slices.Clone(levels()), noFiles)},
		{[]string{"lint", "-f", ""}, []string{"yaml", "yml", "json", byEnding}},
		{[]string{"lint", "--state", ""}, []string{"yaml", "yml", "json", byEnding}},
		{[]string{"lint", "--config", ""}, []string{"yaml", "yml", "json", byEnding}},
		{[]string{"lint", ""}, []string{files}},
	} {
		o := runCommand(t, "", append([]string{"__complete"}, c.args...)...)
		if got := strings.Split(strings.TrimSpace(o.Stdout), "\n"); !slices.Equal(got, c.want) {
			t.Errorf("%v completes to\n%q, want\n%q", c.args, got, c.want)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if o := runCommand(t, "", "completion", shell); o.Exit != 0 || !strings.Contains(o.Stdout, "portcullis") {
			t.Errorf("completion %s: exit %d, %d bytes, %s", shell, o.Exit, len(o.Stdout), o.Stderr)
		}
	}
}
