package child

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/portcullis-k8s/portcullis/test/lab/poll"
)

func shell(t *testing.T, script string) *Process {
	t.Helper()
	p, err := Start(Program{Name: "script", Path: "/bin/sh", Args: []string{"-c", script}, Log: filepath.Join(t.TempDir(), "script.log")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

func TestStopAsks(t *testing.T) {
	p := shell(t, "trap 'echo asked; exit 0' TERM; echo ready; while :; do sleep 0.05; done")
	waitFor(t, p, "ready")
	p.Stop(time.Minute)
	waitFor(t, p, "asked")
}

func TestStopKillsTheDeaf(t *testing.T) {
	p := shell(t, "trap '' TERM; echo ready; while :; do sleep 0.05; done")
	waitFor(t, p, "ready")
	p.Stop(50 * time.Millisecond)
	if got := p.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal(); got != syscall.SIGKILL {
		t.Errorf("ended by %v, want %v", got, syscall.SIGKILL)
	}
}

func TestExplainQuotesTheLog(t *testing.T) {
	p := shell(t, "for i in $(seq 100); do echo line $i; done; exit 3")
	<-p.Done()
	cause := errors.New("not ready")
	err := p.Explain(cause)
	if !errors.Is(err, cause) {
		t.Errorf("%v does not wrap %v", err, cause)
	}
	for _, want := range []string{"script: not ready", "exit status 3", p.program.Log, "\tline 100"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q lacks %q", err, want)
		}
	}
	if strings.Contains(err.Error(), "line 50\n") {
		t.Errorf("%q quotes more than the end of the log", err)
	}
}

func TestAwait(t *testing.T) {
	p := shell(t, "sleep 600")
	asked := 0
	err := p.Await(t.Context(), func(context.Context) error {
		if asked++; asked < 3 {
			return errors.New("not yet")
		}
		return nil
	})
	if err != nil || asked != 3 {
		t.Errorf("%v after %d questions, want none after 3", err, asked)
	}
	p = shell(t, "echo cannot start; exit 3")
	err = p.Await(t.Context(), func(context.Context) error { return errors.New("connection refused") })
	for _, want := range []string{errEnded.Error(), "connection refused", "exit status 3", "cannot start"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("of a program that has ended: %v, want %q in it", err, want)
		}
	}
}

func TestStartFails(t *testing.T) {
	_, err := Start(Program{Name: "nothing", Path: "/does/not/exist", Log: filepath.Join(t.TempDir(), "log")})
	if err == nil || !strings.Contains(err.Error(), "starting nothing") {
		t.Errorf("got %v, want an error that says what was started", err)
	}
}

// TestEndsWithParent runs this test program as a parent that starts a child, and kills the parent.
func TestEndsWithParent(t *testing.T) {
	const role = "PORTCULLIS_TEST_PARENT"
	if log := os.Getenv(role); log != "" {
		p, err := Start(Program{Name: "sleep", Path: "/bin/sleep", Args: []string{"600"}, Log: log})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("pid %d\n", p.Pid())
		<-p.Done()
		return
	}
	parent := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestEndsWithParent$")
	parent.Env = append(os.Environ(), role+"="+filepath.Join(t.TempDir(), "log"))
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	for lines := bufio.NewScanner(out); pid == 0 && lines.Scan(); {
		_, _ = fmt.Sscanf(lines.Text(), "pid %d", &pid)
	}
	if pid == 0 {
		t.Fatal("the parent did not say which child it started")
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	poll.UntilTrue(t, fmt.Sprintf("process %d ends with its parent, which was killed", pid), func() bool { return !running(pid) })
}

// running reports whether a process runs. One that has ended but that nobody has waited for does not.
func running(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return syscall.Kill(pid, 0) == nil // no such process, or no /proc
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func waitFor(t *testing.T, p *Process, text string) {
	t.Helper()
	poll.Until(t, func(context.Context) error {
		if !strings.Contains(tail(p.program.Log, 100), text) {
			return p.Explain(fmt.Errorf("it does not say %q", text))
		}
		return nil
	})
}
