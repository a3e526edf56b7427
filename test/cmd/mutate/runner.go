package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// outcome is what became of a mutant.
type outcome int

const (
	survived outcome = iota
	killed
	killedByTimeout
	killedByOthers // the tests of another package failed
	notCompiling
)

const (
	buildLimit  = 5 * time.Minute  // for building the tests of a package
	grace       = 10 * time.Second // for tests that are told to end because their time is up
	memoryLimit = 4 << 20          // KiB of address space: a mutant may allocate without end
)

// runner tests mutants of the packages of a module.
type runner struct {
	root    string
	temp    string                   // for everything that is written
	also    []string                 // packages whose tests run as well
	timeout time.Duration            // 0: it depends on the package
	limits  map[string]time.Duration // how long the tests of each package may take
}

func newRunner(root string, timeout time.Duration, also []string) (*runner, error) {
	temp, err := os.MkdirTemp("", "mutate-")
	if err != nil {
		return nil, err
	}
	return &runner{root: root, temp: temp, also: also, timeout: timeout, limits: map[string]time.Duration{}}, nil
}

func (r *runner) close() { _ = os.RemoveAll(r.temp) }

// packages are those whose tests a mutant of the package in folder must pass.
func (r *runner) packages(folder string) []string {
	all := []string{folder}
	for _, other := range r.also {
		if other != folder {
			all = append(all, other)
		}
	}
	return all
}

// measure runs the tests without a change: they must pass, and the limits are taken from the time that they need.
func (r *runner) measure(ctx context.Context, folder string) error {
	for _, p := range r.packages(folder) {
		if r.limits[p] != 0 {
			continue
		}
		r.limits[p] = buildLimit
		o, took, output, err := r.test(ctx, p, "")
		if err != nil {
			return err
		}
		if o != survived {
			return fmt.Errorf("the tests of %s do not pass without a change:\n%s", p, output)
		}
		if r.limits[p] = r.timeout; r.timeout == 0 {
			r.limits[p] = 10*time.Second + 5*took
		}
	}
	return nil
}

// try tests a mutant. An error means that it could not be tested.
func (r *runner) try(ctx context.Context, folder string, m mutant) (outcome, error) {
	overlay, err := r.writeOverlay(m)
	if err != nil {
		return 0, err
	}
	for i, p := range r.packages(folder) {
		o, _, _, err := r.test(ctx, p, overlay)
		if err == nil && o == killed && i > 0 {
			o = killedByOthers
		}
		if err != nil || o != survived {
			return o, err
		}
	}
	return survived, nil
}

// writeOverlay writes the changed file, and returns the file that tells the go command to take it.
func (r *runner) writeOverlay(m mutant) (string, error) {
	original := filepath.Join(r.root, filepath.FromSlash(m.file))
	content, err := os.ReadFile(original)
	if err != nil {
		return "", err
	}
	changed, overlay := filepath.Join(r.temp, filepath.Base(original)), filepath.Join(r.temp, "overlay.json")
	list, err := json.Marshal(map[string]map[string]string{"Replace": {original: changed}})
	if err != nil {
		return "", err
	}
	return overlay, errors.Join(os.WriteFile(changed, m.apply(content), 0o600), os.WriteFile(overlay, list, 0o600))
}

// test builds and runs the tests of a package, as go test does; overlay may be "". It returns how long they took, and the
// end of their output.
func (r *runner) test(ctx context.Context, folder, overlay string) (outcome, time.Duration, string, error) {
	program := filepath.Join(r.temp, "mutant.test")
	args := []string{"test", "-c", "-vet=off", "-ldflags=-s -w", "-o", program}
	if overlay != "" {
		args = append(args, "-overlay="+overlay)
	}
	if output, err := r.command(ctx, buildLimit, r.root, "go", append(args, "./"+folder)...); err != nil {
		return notCompiling, 0, output, notAnExit(ctx, err)
	}
	if _, err := os.Stat(program); err != nil {
		return 0, 0, "", fmt.Errorf("%s has no tests", folder)
	}
	limit := r.limits[folder]
	began := time.Now()
	// The tests of a package run in its folder.
	output, err := r.command(ctx, limit+grace, filepath.Join(r.root, filepath.FromSlash(folder)),
		"sh", "-c", fmt.Sprintf(`ulimit -v %d 2>/dev/null; exec "$0" "$@"`, memoryLimit), program,
		"-test.failfast", "-test.paniconexit0", "-test.timeout="+limit.String())
	took := time.Since(began)
	switch {
	case err == nil:
		return survived, took, output, nil
	case took >= limit:
		return killedByTimeout, took, output, ctx.Err()
	default:
		return killed, took, output, notAnExit(ctx, err)
	}
}

// notAnExit returns err unless it says that a program has ended with an exit code, or the context's own error.
func notAnExit(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil
	}
	return err
}

// command runs a program and returns the end of its output. When its time is up or the context ends, it is killed with
// all that it has started.
func (r *runner) command(ctx context.Context, limit time.Duration, dir, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = r.environment(dir)
	var output tail
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = grace
	err := cmd.Run()
	return output.String(), err
}

// environment leaves out what would make the outcome depend on anything but the mutant. Temporary files are removed with
// the runner's, even those of a program that was killed.
func (r *runner) environment(dir string) []string {
	var env []string
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "PORTCULLIS_SEED=") && !strings.HasPrefix(variable, "PORTCULLIS_SOAK=") {
			env = append(env, variable)
		}
	}
	return append(env, "GOWORK=off", "PWD="+dir, "TMPDIR="+r.temp, "GOTMPDIR="+r.temp)
}

// tail keeps the end of what is written to it: a mutant may write without end.
type tail struct{ buffer bytes.Buffer }

const tailSize = 16 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.buffer.Write(p)
	if extra := t.buffer.Len() - tailSize; extra > 0 {
		t.buffer.Next(extra)
	}
	return len(p), nil
}

func (t *tail) String() string { return t.buffer.String() }
