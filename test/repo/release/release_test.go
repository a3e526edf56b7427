// Package release holds what a release is made by to what it is made from: .goreleaser.yaml, .ko.yaml, .krew.yaml and the
// workflow. Nothing is built, signed or sent.
package release

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"text/template"

	"github.com/goreleaser/goreleaser/v2/pkg/config"
	"go.yaml.in/yaml/v3"
)

const root = "../../.."

// platforms are what the command is built for.
func platforms() []string {
	return []string{"darwin/amd64", "darwin/arm64", "linux/amd64", "linux/arm64", "windows/amd64", "windows/arm64"}
}

// TestGoreleaser reads its configuration as goreleaser does, where an unknown field is an error.
func TestGoreleaser(t *testing.T) {
	p, err := config.Load(filepath.Join(root, ".goreleaser.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Builds) != 1 || len(p.Archives) != 1 || len(p.Signs) != 1 || len(p.SBOMs) != 1 {
		t.Fatalf("%d builds, %d archives, %d signatures, %d SBOMs; want one each", len(p.Builds), len(p.Archives), len(p.Signs), len(p.SBOMs))
	}
	var built []string
	for _, system := range p.Builds[0].Goos {
		for _, architecture := range p.Builds[0].Goarch {
			built = append(built, system+"/"+architecture)
		}
	}
	slices.Sort(built)
	if !slices.Equal(built, platforms()) {
		t.Errorf("built for %q, want %q", built, platforms())
	}
	holdBuild(t, p.Builds[0].Main, p.Builds[0].Flags, p.Builds[0].Env, strings.Join(p.Builds[0].Ldflags, " "))
	var packed []string
	for _, f := range p.Archives[0].Files {
		packed = append(packed, f.Source)
	}
	if !slices.Contains(packed, "LICENSE") {
		t.Errorf("an archive holds %q, want LICENSE", packed)
	}
	for _, file := range packed {
		if _, err := os.Stat(filepath.Join(root, file)); err != nil {
			t.Error(err)
		}
	}
	if pinned := "bin/release/install.yaml"; p.Release.ExtraFiles[0].Glob != pinned || p.Checksum.ExtraFiles[0].Glob != pinned {
		t.Errorf("%q and its checksum %q, want %s", p.Release.ExtraFiles[0].Glob, p.Checksum.ExtraFiles[0].Glob, pinned)
	}
	if s := p.Signs[0]; s.Cmd != "cosign" || s.Artifacts != "checksum" || !slices.Contains(s.Args, "--bundle=${signature}") {
		t.Errorf("signed by %+v", s)
	}
}

// holdBuild holds what every build of the program must be: static, without paths of the machine, with its version.
func holdBuild(t *testing.T, main string, flags, env []string, ldflags string) {
	t.Helper()
	source, err := os.ReadFile(filepath.Join(root, main, "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(flags, "-trimpath") || !slices.Contains(env, "CGO_ENABLED=0") {
		t.Errorf("flags %q, environment %q", flags, env)
	}
	set := regexp.MustCompile(`-X main\.(\w+)=`).FindStringSubmatch(ldflags)
	if set == nil || !regexp.MustCompile(`(?m)^var `+set[1]+` = "`).Match(source) {
		t.Errorf("%q sets no string of %s", ldflags, main)
	}
}

// TestKo: ko has no reader to borrow, so its fields that are used here are all that may be.
func TestKo(t *testing.T) {
	var ko struct {
		BaseImage string   `yaml:"defaultBaseImage"`
		Platforms []string `yaml:"defaultPlatforms"`
		Builds    []struct {
			ID, Main            string
			Env, Flags, Ldflags []string
		}
	}
	decode(t, read(t, ".ko.yaml"), &ko)
	if !regexp.MustCompile(`^gcr\.io/distroless/static:nonroot@sha256:[0-9a-f]{64}$`).MatchString(ko.BaseImage) || !slices.Equal(ko.Platforms, []string{"linux/amd64", "linux/arm64"}) {
		t.Errorf("on %s for %q", ko.BaseImage, ko.Platforms)
	}
	for _, b := range ko.Builds {
		holdBuild(t, b.Main, b.Flags, b.Env, strings.Join(b.Ldflags, " "))
	}
	if len(ko.Builds) != 1 {
		t.Errorf("%d builds, want one", len(ko.Builds))
	}
	if page := read(t, "docs/scheduling.md"); !bytes.Contains(page, []byte("\nFROM "+ko.BaseImage+"\n")) {
		t.Errorf("docs/scheduling.md builds on another image than %s", ko.BaseImage)
	}
}

// TestKrew: the plugin is for every platform, and each of its archives is one that goreleaser packs.
func TestKrew(t *testing.T) {
	p, err := config.Load(filepath.Join(root, ".goreleaser.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	shown, err := template.New("").Funcs(template.FuncMap{"addURIAndSha": func(uri, tag string) string {
		return fmt.Sprintf("uri: %s\n    sha256: %064d", strings.ReplaceAll(uri, "{{ .TagName }}", tag), 0)
	}}).Parse(string(read(t, ".krew.yaml")))
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := shown.Execute(&text, struct{ TagName string }{"v1.2.3"}); err != nil {
		t.Fatal(err)
	}
	var plugin struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string
		Metadata   struct{ Name string }
		Spec       struct {
			Version, Homepage, Description string
			ShortDescription               string `yaml:"shortDescription"`
			Platforms                      []struct {
				Selector struct {
					MatchLabels struct{ OS, Arch string } `yaml:"matchLabels"`
				}
				URI, Sha256, Bin string
			}
		}
	}
	decode(t, text.Bytes(), &plugin)
	if plugin.Metadata.Name != "portcullis" || plugin.Spec.Version != "v1.2.3" || len(plugin.Spec.ShortDescription) > 50 {
		t.Errorf("the plugin is %+v", plugin.Metadata)
	}
	var covered []string
	for _, platform := range plugin.Spec.Platforms {
		system, architecture := platform.Selector.MatchLabels.OS, platform.Selector.MatchLabels.Arch
		covered = append(covered, system+"/"+architecture)
		archive := strings.NewReplacer("{{ .Os }}", system, "{{ .Arch }}", architecture).Replace(p.Archives[0].NameTemplate)
		format, bin := "tar.gz", "portcullis"
		if system == "windows" {
			format, bin = "zip", "portcullis.exe"
		}
		want := "https://github.com/portcullis-k8s/portcullis/releases/download/v1.2.3/" + archive + "." + format
		if platform.URI != want || platform.Bin != bin {
			t.Errorf("%s/%s: %s in %s, want %s in %s", system, architecture, platform.Bin, platform.URI, bin, want)
		}
	}
	slices.Sort(covered)
	if !slices.Equal(covered, platforms()) {
		t.Errorf("for %q, want %q", covered, platforms())
	}
}

// pinned is an action by its commit.
var pinned = regexp.MustCompile(`@[0-9a-f]{40}$`)

// TestAction: the action builds what the workflow pins it to, unless a version is named that nobody moves, with actions that are
// pinned by commit.
func TestAction(t *testing.T) {
	var action struct {
		Inputs map[string]struct{ Default string }
		Runs   struct {
			Steps []struct {
				Name, Uses, Run string
				With            map[string]any
			}
		}
	}
	if err := yaml.Unmarshal(read(t, "action.yml"), &action); err != nil {
		t.Fatal(err)
	}
	if version, ok := action.Inputs["version"]; !ok || version.Default != "" {
		t.Errorf("the version is %q by default", version.Default)
	}
	build := ""
	for _, s := range action.Runs.Steps {
		if s.Uses != "" && !pinned.MatchString(s.Uses) {
			t.Errorf("%s is not pinned", s.Uses)
		}
		if s.Name == "Build portcullis" {
			build = s.Run
		}
	}
	for version, want := range map[string]string{
		"": "-C /source install ./cmd/portcullis", "v1.2.3": "install github.com/portcullis-k8s/portcullis/cmd/portcullis@v1.2.3", "latest": "", "main": "",
	} {
		run := exec.CommandContext(t.Context(), "bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", `go() { echo "$@"; }`+"\n"+build)
		run.Env = []string{"RUNNER_TEMP=/temp", "SOURCE=/source", "VERSION=" + version, "PATH=" + os.Getenv("PATH")}
		out, err := run.Output()
		if got := strings.TrimSpace(string(out)); got != want || (err == nil) != (want != "") {
			t.Errorf("version %q: go %s, %v; want go %s", version, got, err, want)
		}
	}
}

// TestPinImage: a release installs the image that it built by its digest, and is refused without one.
func TestPinImage(t *testing.T) {
	version := string(regexp.MustCompile(`(?m)^appVersion: (.*)$`).FindSubmatch(read(t, "config/chart/Chart.yaml"))[1])
	const repository = "ghcr.io/portcullis-k8s/portcullis"
	digest := "sha256:" + strings.Repeat("0123456789abcdef", 4)
	pin := func(version, image string) (string, error) {
		out := filepath.Join(t.TempDir(), "release")
		return out, exec.CommandContext(t.Context(), filepath.Join(root, ".github/pin-image.sh"), version, image, out).Run()
	}
	for _, image := range []string{repository + "@" + digest, repository + ":" + version + "@" + digest} {
		out, err := pin(version, image)
		if err != nil {
			t.Fatal(err)
		}
		for file, want := range map[string]string{
			"install.yaml": " image: " + repository + ":" + version + "@" + digest + "\n", "chart/Chart.yaml": "\n  portcullis.dev/image-digest: " + digest + "\n",
			"chart/values.yaml": "\nimage:\n",
		} {
			text, err := os.ReadFile(filepath.Join(out, file))
			if err != nil || !strings.Contains(string(text), want) {
				t.Errorf("%s: %v, no %q", file, err, want)
			}
		}
	}
	for what, args := range map[string][2]string{
		"nothing": {version, ""}, "no digest": {version, repository + ":" + version}, "half a digest": {version, repository + "@sha256:abc"},
		"two images": {version, repository + "@" + digest + "\n" + repository + "@" + digest}, "another version": {"v9.9.9", repository + "@" + digest},
		"another image": {version, "ghcr.io/others/portcullis@" + digest}, "no version": {"main", repository + "@" + digest},
	} {
		if out, err := pin(args[0], args[1]); err == nil {
			t.Errorf("%s: pinned into %s", what, out)
		}
	}
}

// TestWorkflow: actions are pinned by commit and tools by version, scripts are scripts, and nothing that somebody else
// names is put into one.
func TestWorkflow(t *testing.T) {
	type step struct {
		Name, Uses, Run string
		With, Env       map[string]any
	}
	var workflow struct {
		Name        string
		On          map[string]any
		Permissions map[string]string
		Jobs        map[string]struct {
			RunsOn      string `yaml:"runs-on"`
			Permissions map[string]string
			Env         map[string]string
			Steps       []step
		}
	}
	decode(t, read(t, ".github/workflows/release.yaml"), &workflow)
	if len(workflow.Permissions) > 0 || len(workflow.Jobs) != 1 {
		t.Errorf("%d jobs, with %v by default", len(workflow.Jobs), workflow.Permissions)
	}
	for _, job := range workflow.Jobs {
		if !slices.ContainsFunc(job.Steps, func(s step) bool { return strings.Contains(s.Run, "goreleaser release") }) {
			t.Error("no step releases")
		}
		order := -1
		for _, command := range []string{"cosign verify", "ko build", ".github/pin-image.sh", "helm package bin/release/chart", "goreleaser release"} {
			at := slices.IndexFunc(job.Steps, func(s step) bool {
				return strings.Contains(s.Run, "\n"+command) || strings.Contains(s.Run, "("+command) || strings.HasPrefix(s.Run, command)
			})
			if at < order || at < 0 {
				t.Errorf("%q is step %d, after step %d", command, at, order)
			}
			order = at
		}
		for _, s := range job.Steps {
			if s.Uses != "" && !pinned.MatchString(s.Uses) {
				t.Errorf("%s is not pinned", s.Uses)
			}
			if strings.Contains(s.Run, "${{") {
				t.Errorf("%s: pass it by the environment: %s", s.Name, s.Run)
			}
			for line := range strings.Lines(s.Run) {
				if strings.Contains(line, "go install") && !regexp.MustCompile(`@v\d+\.\d+\.\d+\n$`).MatchString(line) {
					t.Errorf("not pinned: %s", line)
				}
			}
			check := exec.CommandContext(t.Context(), "bash", "-n")
			check.Stdin = strings.NewReader(s.Run)
			if out, err := check.CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", s.Name, err, out)
			}
		}
	}
}

// TestVersion: what the workflow asks of a tag is so, for the version that the chart has.
func TestVersion(t *testing.T) {
	m := regexp.MustCompile(`(?m)^version: (.*)\nappVersion: (.*)$`).FindSubmatch(read(t, "config/chart/Chart.yaml"))
	if m == nil || "v"+string(m[1]) != string(m[2]) {
		t.Fatalf("the chart's versions are %q", m)
	}
	for _, use := range []string{"- uses: portcullis-k8s/portcullis@" + string(m[2]) + " ", "  rev: " + string(m[2]) + "\n"} {
		if !bytes.Contains(read(t, "README.md"), []byte(use)) {
			t.Errorf("README.md has no %q", use)
		}
	}
	if want := "image: ghcr.io/portcullis-k8s/portcullis:" + string(m[2]) + "\n"; !bytes.Contains(read(t, "config/install.yaml"), []byte(want)) {
		t.Errorf("config/install.yaml has no %s", want)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// decode reads YAML into a value that knows all of its fields.
func decode(t *testing.T, text []byte, into any) {
	t.Helper()
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(into); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
}
