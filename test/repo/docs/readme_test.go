package docs

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/portcullis-k8s/portcullis/test/lab/binaries"
)

// TestGoldenLibrary compiles and runs the Go example of the README.
func TestGoldenLibrary(t *testing.T) {
	p := read(t, "README.md")
	blocks := p.blocks(t)
	at := slices.IndexFunc(blocks, func(b block) bool { return b.info == "go" })
	if at < 0 || at+1 == len(blocks) || blocks[at+1].info != "text" {
		t.Fatal("README.md has no block of Go with one of text after it")
	}
	file := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(file, []byte(blocks[at].text()), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "go", "run", file).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	said := blocks[at+1]
	p.hold(t, "what the example prints", said.first, said.lines, strings.Split(strings.TrimSpace(string(out)), "\n"))
}

// TestGoldenCommands runs the program as the README does, and compares what it prints.
func TestGoldenCommands(t *testing.T) {
	read(t, "README.md").holdCommands(t, root)
}

// holdCommands runs what the console blocks of a page show, in a folder, and compares what is printed. YAML may go on after
// what is shown.
func (p *page) holdCommands(t *testing.T, dir string) {
	t.Helper()
	if len(p.blocks(t, "console")) == 0 {
		t.Fatalf("%s shows no command", p.path)
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
		if strings.HasSuffix(args, " -o yaml") {
			want = want[:min(len(want), len(b.lines))]
		}
		p.hold(t, "what the command prints", b.first, b.lines, want)
	}
}

// TestSamples: what the README shows of `make run` is what the samples give.
func TestSamples(t *testing.T) {
	state := glob(t, "config/samples/*.yaml")
	conflicts := glob(t, "config/samples/conflicts/*.yaml")
	if len(state) == 0 || len(conflicts) == 0 {
		t.Fatal("there are no samples")
	}
	said := map[string]bool{}
	offer := regexp.MustCompile(` \(\d+ is free\)`) // by lint only
	for _, file := range conflicts {
		for _, f := range judge(t, "", state, file) {
			said[offer.ReplaceAllString(sentence(f), "")] = true
		}
	}
	refusal := regexp.MustCompile(`^ +The \w+ "[^"]+" is invalid: (.*)$`)
	shown := 0
	for _, line := range read(t, "README.md").lines {
		if m := refusal.FindStringSubmatch(line); m != nil {
			shown++
			if !said[m[1]] {
				t.Errorf("README.md: no sample gives %s", m[1])
			}
		}
	}
	if shown == 0 {
		t.Error("README.md shows no refusal")
	}
}

// TestPackages: the README names every package, and only those.
func TestPackages(t *testing.T) {
	var listing block
	for _, b := range read(t, "README.md").blocks(t, "text") {
		if strings.HasPrefix(b.text(), "pkg/ports ") {
			listing = b
		}
	}
	var named []string
	for _, line := range listing.lines {
		folder, _, _ := strings.Cut(line, " ")
		named = append(named, folder)
		if _, err := os.Stat(filepath.Join(root, folder)); err != nil {
			t.Errorf("README.md: there is no package %s", folder)
		}
	}
	for _, pattern := range []string{"pkg/*", "api/*", "cmd/*", "webhook", "scheduling", "config", "docs", "test", "tools"} {
		for _, folder := range glob(t, pattern) {
			if !slices.Contains(named, folder) {
				t.Errorf("README.md does not name the package %s", folder)
			}
		}
	}
}

// TestBenchmarks: the table has a line for each benchmark at least, and none for others.
func TestBenchmarks(t *testing.T) {
	function := regexp.MustCompile(`(?m)^func (Benchmark\w+)\(`)
	want := map[string]bool{}
	for _, pattern := range []string{"pkg/*/*_test.go", "webhook/*_test.go", "scheduling/*_test.go"} {
		for _, file := range glob(t, pattern) {
			source, err := os.ReadFile(filepath.Join(root, file))
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range function.FindAllSubmatch(source, -1) {
				want[filepath.Dir(file)+" "+string(m[1])] = true
			}
		}
	}
	p := read(t, "docs/performance.md")
	listed := map[string]bool{}
	for _, line := range p.column(t, "Benchmark", "Time", "Bytes", "Allocations") {
		name, _, _ := strings.Cut(line, ": ") // what follows is the case
		listed[name] = true
		if !want[name] {
			t.Errorf("%s: there is no benchmark %s", p.path, name)
		}
	}
	for name := range want {
		if !listed[name] {
			t.Errorf("%s does not list %s", p.path, name)
		}
	}
}

// glob returns paths below root.
func glob(t *testing.T, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(root, pattern))
	if err != nil {
		t.Fatal(err)
	}
	for i := range found {
		if found[i], err = filepath.Rel(root, found[i]); err != nil {
			t.Fatal(err)
		}
	}
	return found
}
