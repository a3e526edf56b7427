//go:build linux

// Package netns gives tests network namespaces of their own, in which they load rules and send packets without touching
// those of the machine. A namespace has no name and no file: it is held by a descriptor of this process, and is gone
// when that is closed, however the process ends.
package netns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Need fails a test that cannot make namespaces, or lacks programs: what was not done has not passed.
func Need(t testing.TB, programs ...string) {
	t.Helper()
	if reason := Missing(programs...); reason != "" {
		t.Fatal(reason)
	}
}

// Missing says what is missing to make namespaces and use programs in them; "" for nothing.
func Missing(programs ...string) string {
	if os.Geteuid() != 0 {
		return "needs root: the test loads rules into network namespaces"
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			return fmt.Sprintf("needs the program %s: %v", p, err)
		}
	}
	return ""
}

// Namespace is a network namespace.
type Namespace struct{ file *os.File }

// New returns a namespace that is closed when the test ends, if it was not before.
func New(t testing.TB) *Namespace {
	t.Helper()
	n, err := Open(t.Context())
	if err != nil {
		t.Fatalf("making a network namespace: %v", err)
	}
	t.Cleanup(n.Close)
	return n
}

// Open returns a namespace with nothing in it but loopback, which is up.
func Open(ctx context.Context) (n *Namespace, err error) {
	err = onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		f, err := os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
		n = &Namespace{f}
		return err
	})
	if err != nil {
		return nil, err
	}
	if _, err := n.Output(ctx, nil, "", "ip", "link", "set", "lo", "up"); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// Close lets the kernel take the namespace away, with all that is in it, once no process is left there.
func (n *Namespace) Close() { _ = n.file.Close() } // closing twice is no harm

// Path is a file that stands for the namespace, for "ip link set netns" and the like.
func (n *Namespace) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.file.Fd()) }

// Do calls a function on a thread that is in the namespace. Sockets that it makes and programs that it starts are in
// it too, goroutines that it starts are not. It must return: the end of its goroutine would be waited for in vain.
func (n *Namespace) Do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
		return f()
	})
}

// onThread calls a function on a thread of its own, which ends with it: nobody else gets one in the wrong namespace.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The first thread does not end before the process, and /proc/self is what it sees. While it is held here,
			// another goroutine gets another one.
			defer runtime.UnlockOSThread()
			done <- onThread(f)
			return
		}
		done <- f()
	}()
	return <-done
}

// limit bounds a program that runs in a namespace.
const limit = time.Minute

// Output runs a program in the namespace and returns what it prints. An error tells what it said instead.
func (n *Namespace) Output(ctx context.Context, env []string, stdin, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := n.Do(cmd.Run); err != nil {
		if ctx.Err() != nil {
			err = errors.Join(ctx.Err(), err)
		}
		said := strings.TrimSpace(stdout.String() + stderr.String())
		return "", fmt.Errorf("%s %s: %w\n%s", filepath.Base(program), strings.Join(args, " "), err, said)
	}
	return stdout.String(), nil
}

// Run is Output for programs that must succeed.
func (n *Namespace) Run(t testing.TB, stdin, program string, args ...string) string {
	t.Helper()
	out, err := n.Output(t.Context(), nil, stdin, program, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
