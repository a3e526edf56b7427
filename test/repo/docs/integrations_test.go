package docs

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/portcullis-k8s/portcullis/test/lab/binaries"
)

// ran runs a program in the root and returns what it prints and its exit code.
func ran(t *testing.T, environment []string, program string, args ...string) (string, int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), environment...)
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return string(out), exit.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(out), 0
}

// hook is what pre-commit reads of a hook.
type hook struct {
	ID, Name, Description, Language, Entry string
	Args, Types                            []string
	RequireSerial                          bool `json:"require_serial"`
}

// TestPreCommitHook: the hook runs a command that there is, with flags that it has, on the files that pre-commit names.
func TestPreCommitHook(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, ".pre-commit-hooks.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var hooks []hook
	if err := yaml.UnmarshalStrict(text, &hooks); err != nil {
		t.Fatal(err)
	}
	if len(hooks) != 1 || hooks[0].ID != "portcullis-lint" || hooks[0].Language != "golang" || !hooks[0].RequireSerial {
		t.Fatalf("want the hook portcullis-lint of language golang, which must see all files at once: %+v", hooks)
	}
	program := binaries.For(t, binaries.Portcullis)
	holdFlags(t, program, ".pre-commit-hooks.yaml", string(text))
	words := append(strings.Fields(hooks[0].Entry), hooks[0].Args...)
	if words[0] != filepath.Base(program) {
		t.Errorf("the hook runs %s; what go install makes is called %s", words[0], filepath.Base(program))
	}
	files := []string{"config/samples/04-app1-service.yaml", "config/samples/conflicts/01-hostport-equals-nodeport.yaml"}
	if out, exit := ran(t, nil, program, append(words[1:], files...)...); exit != 1 || !strings.Contains(out, "PC0201") {
		t.Errorf("the hook ends with %d, want 1 with PC0201:\n%s", exit, out)
	}
}

// action is what GitHub reads of an action.
type action struct {
	Name, Description string
	Inputs            map[string]struct{ Description, Default string }
	Runs              struct {
		Using string
		Steps []struct {
			Name, Uses, Shell, Run string
			With                   map[string]any
			Env                    map[string]string
		}
	}
}

func readAction(t *testing.T) (action, string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "action.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var a action
	if err := yaml.UnmarshalStrict(text, &a); err != nil {
		t.Fatal(err)
	}
	return a, string(text)
}

// TestAction: the action uses each of its inputs, and only as variables of the environment; and flags that there are.
func TestAction(t *testing.T) {
	a, text := readAction(t)
	if a.Runs.Using != "composite" {
		t.Errorf("the action is %s, want composite", a.Runs.Using)
	}
	holdFlags(t, binaries.For(t, binaries.Portcullis), "action.yml", text)
	used := map[string]bool{}
	for _, m := range regexp.MustCompile(`\$\{\{ inputs\.([a-z-]+) \}\}`).FindAllStringSubmatch(text, -1) {
		used[m[1]] = true
		if _, ok := a.Inputs[m[1]]; !ok {
			t.Errorf("action.yml: there is no input %s", m[1])
		}
	}
	for name := range a.Inputs {
		if !used[name] {
			t.Errorf("action.yml: the input %s is used nowhere", name)
		}
	}
	for _, step := range a.Runs.Steps {
		if strings.Contains(step.Run, "${{") {
			t.Errorf("action.yml: the step %q puts an expression into its script: its value could be a command", step.Name)
		}
	}
}

// TestActionRuns runs the last step of the action as a runner does, with the program built from here.
func TestActionRuns(t *testing.T) {
	temp := t.TempDir()
	if err := os.Mkdir(filepath.Join(temp, "portcullis"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(binaries.For(t, binaries.Portcullis), filepath.Join(temp, "portcullis", "portcullis")); err != nil {
		t.Fatal(err)
	}
	a, _ := readAction(t)
	step := a.Runs.Steps[len(a.Runs.Steps)-1]
	report := filepath.Join(temp, "out.sarif")
	const clash, app1 = "config/samples/conflicts/01-hostport-equals-nodeport.yaml", "config/samples/04-app1-service.yaml"
	for _, c := range []struct {
		name        string
		environment []string
		exit        int
		says        string
		sarif       bool
	}{
		{"a clash", []string{"PATHS=" + app1 + "\n" + clash + "\n", "FAIL_ON=error"}, 1, "::error file=" + clash, false},
		{"with the state", []string{"PATHS=" + clash, "STATE=" + app1, "FAIL_ON=error", "SARIF=" + report}, 1, "::error file=" + clash, true},
		{"never failing", []string{"PATHS=" + clash, "STATE=" + app1, "FAIL_ON=never"}, 0, "::error file=" + clash, false},
		{"clean", []string{"PATHS=" + app1, "FAIL_ON=warning"}, 0, "", false},
		{"a path that is no command", []string{"PATHS=$(touch " + filepath.Join(temp, "ran") + ")", "FAIL_ON=error"}, 2, "", false},
		{"no configuration there", []string{"PATHS=" + app1, "CONFIG=nowhere.yaml", "FAIL_ON=error"}, 2, "", false},
	} {
		os.Remove(report)
		// As a runner starts a shell of an action: -e and pipefail.
		out, exit := ran(t, append(c.environment, "RUNNER_TEMP="+temp), "bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step.Run)
		if exit != c.exit || !strings.Contains(out, c.says) {
			t.Errorf("%s: exit %d, want %d with %q:\n%s", c.name, exit, c.exit, c.says, out)
		}
		if _, err := os.Stat(report); (err == nil) != c.sarif {
			t.Errorf("%s: a SARIF report is there: %v, want %v", c.name, err == nil, c.sarif)
		}
	}
	if _, err := os.Stat(filepath.Join(temp, "ran")); err == nil {
		t.Error("a path was run as a command")
	}
}

// holdFlags: every flag of portcullis lint that a file names is one.
func holdFlags(t *testing.T, program, path, text string) {
	t.Helper()
	help, _ := ran(t, nil, program, "lint", "--help")
	for _, flag := range regexp.MustCompile(`(?:^|[\s([])(--[a-z][a-z-]*)`).FindAllStringSubmatch(text, -1) {
		if !regexp.MustCompile(`\s` + flag[1] + `\s`).MatchString(help) {
			t.Errorf("%s: portcullis lint has no flag %s", path, flag[1])
		}
	}
}
