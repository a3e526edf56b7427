// Package doctor proves `portcullis doctor` and `portcullis break-glass` on a real API server: what is broken is what is
// told, and what stands in the way is gone afterwards.
package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/portcullis-k8s/portcullis/pkg/report"
	"github.com/portcullis-k8s/portcullis/test/rig"
)

func TestMain(m *testing.M) {
	logf.SetLogger(logr.Discard()) // client libraries have nothing to add to what the tests say
	os.Exit(m.Run())
}

// command runs the program against a rig, as who may do everything, and returns what it says and how it ends.
func command(t *testing.T, r *rig.Rig, args ...string) (out, errs string, code int) {
	t.Helper()
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := r.WriteKubeconfig(kubeconfig); err != nil {
		t.Fatal(err)
	}
	return run(t, r, append(args, "--kubeconfig", kubeconfig)...)
}

func run(t *testing.T, r *rig.Rig, args ...string) (out, errs string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.Gate.Program(), args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit, is := errors.AsType[*exec.ExitError](err); is {
		code = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	return stdout.String(), stderr.String(), code
}

// examine runs doctor and returns its report.
func examine(t *testing.T, r *rig.Rig, args ...string) (*report.DoctorReport, int) {
	t.Helper()
	out, errs, code := command(t, r, append([]string{"doctor", "-o", "json"}, args...)...)
	found := &report.DoctorReport{}
	if err := json.Unmarshal([]byte(out), found); err != nil {
		t.Fatalf("%v, exit code %d\n%s%s", err, code, out, errs)
	}
	return found, code
}

// ill returns the names of the checks that are not well, with their outcome.
func ill(r *report.DoctorReport) []string {
	var names []string
	for _, c := range r.Checks {
		if c.Status == report.DoctorProblem || c.Status == report.DoctorWarning {
			names = append(names, c.Status+": "+c.Name)
		}
	}
	slices.Sort(names)
	return names
}

// told returns all that is said, for a failure's text.
func told(r *report.DoctorReport) string {
	var b strings.Builder
	if err := r.WriteTable(&b); err != nil {
		return err.Error()
	}
	return b.String()
}

// eventually tries until there is no error, for as long as a busy machine may need.
func eventually(t *testing.T, try func() error) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		select {
		case <-t.Context().Done():
			t.Fatal(fmt.Errorf("%w: %w", t.Context().Err(), err))
		case <-time.After(20 * time.Millisecond):
		}
	}
}
