// Package layering checks dependencies: which package may import which, and that every package says in one
// comment what it is for.
package layering

import (
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/portcullis-k8s/portcullis"

// rule says what a package must not depend on, directly or not, and why.
type rule struct {
	pkg       string // "pkg/ports", or "pkg/rules/..." for a room and those in it
	forbidden []string
	why       string
}

const (
	kubernetes  = "k8s.io/"
	runtime     = "sigs.k8s.io/"
	controllers = module + "/pkg/controller"
)

var (
	thirdParty = []string{"*.*"} // anything whose first element has a dot, as no package of the standard library has
	reporting  = []string{module + "/pkg/audit", module + "/pkg/explain", module + "/pkg/report"}
	clients    = []string{"k8s.io/client-go", runtime + "controller-runtime", module + "/webhook", module + "/cmd/..."}
)

func rules() []rule {
	core := "the core is for anybody to import: the standard library only"
	return append(commandRules(), []rule{
		{"pkg/ports", append(slices.Clone(thirdParty), module+"/..."), core},
		{"pkg/ledger", slices.Concat(thirdParty, others("pkg/ports")), core},
		{"pkg/pool", slices.Concat(thirdParty, others("pkg/ports")), core},
		{"pkg/check", slices.Concat(thirdParty, others("pkg/ports", "pkg/ledger", "pkg/pool")), core},
		{"pkg/rules", slices.Concat(thirdParty, others("pkg/ports")), core},
		{"pkg/rules/kubeproxy", slices.Concat(thirdParty, others("pkg/ports", "pkg/rules")), core},
		{"pkg/rules/portmap", slices.Concat(thirdParty, others("pkg/ports", "pkg/rules")), core},
		{"pkg/rules/text", slices.Concat(thirdParty, others("pkg/ports", "pkg/rules")), core},
		{"pkg/rules/walk", slices.Concat(thirdParty, others("pkg/ports", "pkg/rules")), core},
		{"pkg/explain", slices.Concat(thirdParty, others("pkg/ports", "pkg/ledger", "pkg/pool", "pkg/check", "pkg/rules",
			"pkg/rules/kubeproxy", "pkg/rules/portmap", "pkg/rules/text", "pkg/rules/walk")), "what is explained are findings and rules, wherever they come from"},
		{"pkg/report", append(slices.Clone(thirdParty), module+"/pkg/extract"), "words are made from findings, not from objects"},
		{"api/v1alpha1", slices.Concat(clients, others(), []string{kubernetes + "api"}), "kinds are imported by everybody's clients: apimachinery only"},
		{"api/config/v1alpha1", append(slices.Clone(clients), kubernetes+"api", module+"/pkg/check", module+"/pkg/extract"), "a configuration file is text and numbers"},
		{"pkg/manifest", append(slices.Clone(clients), module+"/..."), "reading files must not need a cluster, nor know what a claim is"},
		{"pkg/extract", clients, "claims come from objects, wherever those come from"},
		{"pkg/audit", append(slices.Clone(clients), module+"/pkg/manifest", module+"/pkg/report", module+"/pkg/observe"), "an audit judges objects, wherever they come from"},
		{"pkg/certificate", slices.Concat(thirdParty, others()), "certificates are made of the standard library, for whoever wants one"},
		{"pkg/observe", []string{module + "/webhook", module + "/pkg/manifest", module + "/pkg/report"}, "the observer feeds the ledger; who asks it is nothing to it"},
		{"pkg/journal", slices.Concat(others("pkg/ports")), "entries are claims; what they mean is the webhook's to say"},
		{"pkg/controller/...", []string{module + "/webhook", module + "/pkg/manifest", module + "/docs/codes", module + "/cmd/...", "k8s.io/kubernetes"},
			"controllers do not answer requests, and do not depend on what does"},
		{"pkg/controller/...", []string{"!" + controllers, "=" + controllers + "/internal/informers", "=" + controllers + "/internal/periodic"},
			"controllers do not depend on each other: the command puts them together"},
		{"pkg/controller/leader", others(), "an election is about no port"},
		{"pkg/controller/certificates", others("pkg/certificate", "pkg/controller/internal/periodic"), "certificates are about no port"},
		{"pkg/controller/arming", reporting, "the self-test checks the webhook, not the cluster"},
		{"pkg/controller/claims", reporting, "a claim depends on the cluster alone, not on what is reported about it"},
		{"pkg/controller/status", reporting, "a status shows what exists, not what an audit finds"},
		{"docs/codes", append(slices.Clone(thirdParty), module+"/..."), "pages are text: whoever shows them brings the rest"},
		{"pkg/...", []string{module + "/docs/codes"}, "importing a library must not bring in a manual: the command shows it"},
		{"pkg/...", []string{module + "/cmd/..."}, "a library does not depend on a program"},
		{"webhook", []string{module + "/docs/codes", module + "/pkg/manifest", module + "/cmd/...", "k8s.io/kubernetes"}, "the handlers judge what they are sent"},
		{"webhook/vap", []string{"k8s.io/client-go/kubernetes", runtime + "controller-runtime", "=" + module + "/webhook/vap", "!" + module + "/webhook", module + "/pkg/observe", module + "/pkg/manifest"},
			"policies are made of the configuration; who serves the handlers is nothing to them"},
		{"pkg/hooks", append(slices.Clone(clients), others("api/v1alpha1", "api/config/v1alpha1", "pkg/extract", "pkg/check", "pkg/ledger", "pkg/ports", "pkg/pool", "pkg/rules")...),
			"what a hook is called is for whoever asks, in however small a package"},
		{"scheduling", []string{module + "/webhook", module + "/pkg/observe", module + "/pkg/manifest", module + "/docs/codes", module + "/cmd/...", runtime + "controller-runtime", "k8s.io/kubernetes"},
			"the plugin runs inside kube-scheduler, which has informers and nodes of its own, and is built by whoever builds that"},
		{"...", []string{"k8s.io/kubernetes", module + "/test/..."}, "the root module never sees k8s.io/kubernetes: it cannot be required without replaces, which an importer would have to repeat"},
	}...)
}

// commandRules are those of the packages of cmd/portcullis: the commands, of which none needs another, and below them what
// they share.
func commandRules() []rule {
	const internal = "cmd/portcullis/internal/"
	commands := []string{"judge", "inspect", "pools", "packets", "serve", "doctor", "breakglass", "generate"}
	not := func(names ...string) []string {
		var f []string
		for _, name := range names {
			f = append(f, module+"/"+internal+name)
		}
		return f
	}
	judges := []string{module + "/webhook", module + "/scheduling", module + "/pkg/observe", module + "/pkg/journal", module + "/pkg/controller", module + "/docs/codes"}
	rules := []rule{
		{"cmd/portcullis", not("clitest"), "what runs commands for tests is not for the program"},
		{internal + "cli", slices.Concat(not(append(commands, "source", "clitest")...), judges, []string{module + "/pkg/manifest", module + "/pkg/audit"}),
			"streams, flags and exit codes: what a command reads and answers is nothing to them"},
		{internal + "source", slices.Concat(not(append(commands, "clitest")...), judges), "objects are read in one way, whoever asks"},
	}
	for _, c := range commands {
		rest := slices.DeleteFunc(slices.Clone(commands), func(other string) bool { return other == c })
		rules = append(rules, rule{internal + c, not(rest...), "a command needs no other: what two have in common belongs into a package that both import"})
	}
	return rules
}

// others forbids all of our own packages but those named.
func others(allowed ...string) []string {
	f := []string{"!" + module + "/..."}
	for _, a := range allowed {
		f = append(f, "="+module+"/"+a)
	}
	return f
}

// listed is what go list says of a package.
type listed struct {
	ImportPath string
	Dir        string
	Deps       []string
	GoFiles    []string
	Standard   bool
}

func goList(t *testing.T, dir string, args ...string) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-json=ImportPath,Dir,Deps,GoFiles,Standard"}, args...)...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			t.Fatalf("go list: %s", exit.Stderr)
		}
		t.Fatal(err)
	}
	var all []listed
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

const (
	root      = "../../.."
	tests     = "../.."
	scheduler = root + "/cmd/portcullis-scheduler"
)

func TestArrows(t *testing.T) {
	packages := goList(t, root, "./...")
	for _, r := range rules() {
		matched := false
		for _, p := range packages {
			if !match(module+"/"+r.pkg, p.ImportPath) {
				continue
			}
			matched = true
			for _, dep := range p.Deps {
				if pattern, bad := forbidden(r.forbidden, dep); bad {
					t.Errorf("%s depends on %s (forbidden: %s): %s", strings.TrimPrefix(p.ImportPath, module+"/"), dep, pattern, r.why)
				}
			}
		}
		if !matched {
			t.Errorf("no package is called %s: the rule is about nothing", r.pkg)
		}
	}
}

// TestForbidden shows that the rules can fail.
func TestForbidden(t *testing.T) {
	for _, c := range []struct {
		patterns []string
		dep      string
		want     bool
	}{
		{thirdParty, "slices", false},
		{thirdParty, "net/netip", false},
		{thirdParty, "github.com/x/y", true},
		{others("pkg/ports"), module + "/pkg/ports", false},
		{others("pkg/ports"), module + "/pkg/check", true},
		{slices.Concat(thirdParty, others("pkg/ports")), module + "/pkg/ports", false},
		{slices.Concat(thirdParty, others("pkg/ports")), "k8s.io/api/core/v1", true},
		{clients, "k8s.io/client-go/rest", true},
		{clients, "k8s.io/api/core/v1", false},
		{[]string{"k8s.io/kubernetes"}, "k8s.io/kubernetes/pkg/proxy", true},
	} {
		if _, got := forbidden(c.patterns, c.dep); got != c.want {
			t.Errorf("forbidden(%v, %s) = %v, want %v", c.patterns, c.dep, got, c.want)
		}
	}
}

// forbidden reports whether dep is forbidden by one of the patterns: a path forbids it and what lies below; *.* forbids
// what is not ours and not of the standard library; !path/... forbids all below path but what a pattern =path allows.
func forbidden(patterns []string, dep string) (string, bool) {
	if slices.Contains(patterns, "="+dep) {
		return "", false
	}
	for _, p := range patterns {
		switch {
		case p == "*.*":
			first, _, _ := strings.Cut(dep, "/")
			if strings.Contains(first, ".") && !match(module+"/...", dep) && !strings.HasPrefix(dep, "vendor/") {
				return p, true
			}
		case strings.HasPrefix(p, "="):
		case match(strings.TrimPrefix(p, "!"), dep) || match(strings.TrimPrefix(p, "!")+"/...", dep):
			return p, true
		}
	}
	return "", false
}

// match reports whether an import path is the pattern, or below it where it ends in "/...".
func match(pattern, path string) bool {
	prefix, all := strings.CutSuffix(pattern, "/...")
	return path == prefix || all && strings.HasPrefix(path, prefix+"/")
}

func TestEveryPackageHasOneComment(t *testing.T) {
	for _, dir := range []string{root, tests, scheduler} {
		for _, p := range goList(t, dir, "./...") {
			var commented []string
			for _, f := range p.GoFiles {
				parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, f), nil, parser.PackageClauseOnly|parser.ParseComments)
				if err != nil {
					t.Fatal(err)
				}
				if parsed.Doc != nil {
					commented = append(commented, f)
				}
			}
			if len(p.GoFiles) > 0 && len(commented) != 1 {
				t.Errorf("%s has %d package comments %v, want one", p.ImportPath, len(commented), commented)
			}
		}
	}
}

// TestNothingIsSkipped: a check that is skipped is not done, and here everything that a test needs can be had.
func TestNothingIsSkipped(t *testing.T) {
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		isLab := strings.HasPrefix(path, filepath.Join(root, "test")) && strings.HasSuffix(path, ".go")
		if err != nil || d.IsDir() || !isLab && !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, skip := range []string{"Skip", "Skipf", "SkipNow"} {
			if strings.Contains(string(text), "."+skip+"(") {
				t.Errorf("%s calls %s", path, skip)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestSentencesAreHeldOnce: the words of a conflict stand in the tests of pkg/report, so that they can be improved there.
// Elsewhere tests hold the code, the field and the holder.
func TestSentencesAreHeldOnce(t *testing.T) {
	words := regexp.MustCompile(`(TCP|UDP|SCTP) is held by`)
	there := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		if !words.Match(text) {
			return err
		}
		if strings.HasPrefix(path, filepath.Join(root, "pkg", "report")) {
			there++
		} else {
			t.Errorf("%s holds the words of a conflict", path)
		}
		return err
	})
	if err != nil || there == 0 {
		t.Errorf("%v, %d files of pkg/report hold them", err, there)
	}
}

// TestOneSetOfVersions: what two of the modules require they require in one version, so that the libraries of Kubernetes,
// which take minutes, are compiled once, and so that what is tested is what ships. The root knows neither k8s.io/kubernetes
// nor a replace.
func TestOneSetOfVersions(t *testing.T) {
	required := map[string]map[string]string{} // version, by module and by the folder whose go.mod says so
	for _, dir := range []string{root, tests, scheduler} {
		mod := goMod(t, dir)
		if len(mod.Replace) > 0 && dir == root {
			t.Errorf("the root's go.mod has replaces: %v", mod.Replace)
		}
		for _, r := range mod.Require {
			if r.Path == "k8s.io/kubernetes" && dir == root {
				t.Errorf("the root's go.mod requires %s: whoever imports it would have to repeat the replaces", r.Path)
			}
			if r.Version == "v0.0.0" {
				continue // as k8s.io/kubernetes requires what it brings with it: replaced
			}
			if required[r.Path] == nil {
				required[r.Path] = map[string]string{}
			}
			required[r.Path][dir] = r.Version
		}
	}
	shared := 0
	for path, by := range required {
		versions := slices.Compact(slices.Sorted(maps.Values(by)))
		if len(versions) > 1 {
			t.Errorf("%s is required in %v", path, by)
		}
		if len(by) > 1 {
			shared++
		}
	}
	if shared < 50 {
		t.Errorf("only %d modules are required twice: are these the right files?", shared)
	}
}

// TestOneRelease: all staging modules of Kubernetes are of the release of k8s.io/kubernetes, of which they are parts.
func TestOneRelease(t *testing.T) {
	for _, dir := range []string{tests, scheduler} {
		mod := goMod(t, dir)
		want := ""
		for _, r := range mod.Require {
			if r.Path == "k8s.io/kubernetes" {
				want = "v0" + strings.TrimPrefix(r.Version, "v1")
			}
		}
		for _, r := range mod.Require {
			staging := strings.HasPrefix(r.Path, kubernetes) && strings.HasPrefix(r.Version, "v0.") && !strings.HasPrefix(r.Version, "v0.0.0")
			if staging && r.Version != want {
				t.Errorf("%s: %s %s, want %s", dir, r.Path, r.Version, want)
			}
		}
		for _, r := range mod.Replace {
			if strings.HasPrefix(r.New.Path, kubernetes) && r.New.Version != want {
				t.Errorf("%s: replaces %s by %s, want %s", dir, r.New.Path, r.New.Version, want)
			}
		}
	}
}

// modFile is what a go.mod says.
type modFile struct {
	Require []moduleVersion
	Replace []struct{ Old, New moduleVersion }
}

type moduleVersion struct{ Path, Version string }

func goMod(t *testing.T, dir string) modFile {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "mod", "edit", "-json")
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var mod modFile
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	return mod
}

// TestOutsiders builds a module of its own that imports the core, as anybody could, and looks at what that brings in.
func TestOutsiders(t *testing.T) {
	dir := t.TempDir()
	absolute, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "go.mod", "module example.org/outsider\n\ngo 1.26.0\n\nrequire "+module+" v0.0.0\n\nreplace "+module+" => "+absolute+"\n")
	write(t, dir, "main.go", outsider)
	for _, args := range [][]string{{"mod", "tidy"}, {"build", "-o", filepath.Join(dir, "outsider"), "."}} {
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Dir = dir
		cmd.Env = append(cmd.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %v: %v\n%s", args, err, out)
		}
	}
	for _, p := range goList(t, dir, "-deps", ".") {
		if strings.Contains(p.ImportPath, "k8s.io/") {
			t.Errorf("importing the core brings in %s", p.ImportPath)
		}
	}
	out, err := exec.CommandContext(t.Context(), filepath.Join(dir, "outsider")).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "PC0201") {
		t.Errorf("the outsider says %q, %v; want a finding PC0201", out, err)
	}
}
