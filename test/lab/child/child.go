// Package child runs programs that end with the process that started them, even when that one is killed, and keeps
// their output in log files.
package child

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/portcullis-k8s/portcullis/test/lab/poll"
)

// Program says what to run.
type Program struct {
	Name string   // what errors call it
	Path string   // the executable file
	Args []string // without the program's own name
	Env  []string // added to the environment of this process
	Log  string   // the file that stdout and stderr are appended to
}

// Process is a program that was started.
type Process struct {
	program Program
	cmd     *exec.Cmd
	done    chan struct{}
	err     error // how it ended; read only after done
}

// Start starts a program. It is this process's own process group: an interrupt from the terminal is for the one who
// started it to answer, with Stop.
func Start(p Program) (*Process, error) {
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the child has its own handle
	cmd := exec.Command(p.Path, p.Args...)
	cmd.Env = append(os.Environ(), p.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = endsWithParent()

	c := &Process{program: p, cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go c.run(started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", p.Name, err)
	}
	return c, nil
}

// run starts the program and waits for its end on one thread: Linux signals the death of the thread that started a
// program, and a goroutine that is locked to its thread keeps it alive.
func (c *Process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := c.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	c.err = c.cmd.Wait()
	close(c.done)
}

// Await returns when ready does without an error. If the program ends first, or the context, the error has what was
// missing at last and the end of the program's log.
func (c *Process) Await(ctx context.Context, ready func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-c.done:
			cancel(errEnded)
		case <-ctx.Done():
		}
	}()
	if err := poll.Wait(ctx, ready); err != nil {
		return c.Explain(fmt.Errorf("%w: %w", context.Cause(ctx), err))
	}
	return nil
}

var errEnded = errors.New("the program has ended")

// Pid returns the process id.
func (c *Process) Pid() int { return c.cmd.Process.Pid }

// Done returns a channel that is closed when the program has ended.
func (c *Process) Done() <-chan struct{} { return c.done }

// Stop asks the program to end and kills it when it has not after the given time.
func (c *Process) Stop(grace time.Duration) {
	c.signal(syscall.SIGTERM)
	select {
	case <-c.done:
	case <-time.After(grace):
		c.Kill()
	}
}

// Kill ends the program at once and returns when it is gone.
func (c *Process) Kill() {
	c.signal(syscall.SIGKILL)
	<-c.done
}

// Freeze holds the program up until Thaw.
func (c *Process) Freeze() { c.signal(syscall.SIGSTOP) }

// Thaw lets a frozen program go on.
func (c *Process) Thaw() { c.signal(syscall.SIGCONT) }

// signal sends a signal; that the program may have ended already is no error.
func (c *Process) signal(s os.Signal) { _ = c.cmd.Process.Signal(s) }

// Explain adds to an error what became of the program and the last lines of its log.
func (c *Process) Explain(err error) error {
	state := "is still running"
	select {
	case <-c.done:
		state = "has ended: " + c.cmd.ProcessState.String()
	default:
	}
	return fmt.Errorf("%s: %w; the process %s; the end of %s:\n%s", c.program.Name, err, state, c.program.Log, tail(c.program.Log, 15))
}

// tail returns the last lines of a file, indented.
func tail(file string, lines int) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return "\t(" + err.Error() + ")"
	}
	all := strings.Split(string(bytes.TrimSpace(data)), "\n")
	return "\t" + strings.Join(all[max(0, len(all)-lines):], "\n\t")
}
