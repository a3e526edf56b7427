package operations

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-k8s/portcullis/pkg/report"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

// onRig runs the program against a rig, as who may do everything, and returns what it says and how it ends.
func onRig(t *testing.T, r *rig.Rig, args ...string) (out, errs string, code int) {
	t.Helper()
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := r.WriteKubeconfig(kubeconfig); err != nil {
		t.Fatal(err)
	}
	return runOn(t, r, append(args, "--kubeconfig", kubeconfig)...)
}

func runOn(t *testing.T, r *rig.Rig, args ...string) (out, errs string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.Webhook.Program(), args...)
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
	out, errs, code := onRig(t, r, append([]string{"doctor", "-o", "json"}, args...)...)
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
