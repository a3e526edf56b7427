package poll

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestWait(t *testing.T) {
	errNotYet := errors.New("2 of 3 pods run")
	for _, c := range []struct {
		name  string
		asks  int // how often ask fails
		ends  time.Duration
		calls int
		want  []error
	}{
		{"asked less and less", 1 << 30, time.Minute, 1 + int(time.Minute/maxInterval) + 9, []error{context.DeadlineExceeded, errNotYet}},
		{"at once", 0, time.Hour, 1, nil},
		{"after some questions", 3, time.Hour, 4, nil},
		{"too late", 1 << 30, 10 * interval, 7, []error{context.DeadlineExceeded, errNotYet}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), c.ends)
				defer cancel()
				calls := 0
				err := Wait(ctx, func(context.Context) error {
					if calls++; calls <= c.asks {
						return errNotYet
					}
					return nil
				})
				if (err == nil) != (c.want == nil) || calls < c.calls-1 || calls > c.calls {
					t.Errorf("%v after %d questions, want %v after %d", err, calls, c.want, c.calls)
				}
				for _, want := range c.want {
					if !errors.Is(err, want) {
						t.Errorf("%v does not have %v in it", err, want)
					}
				}
			})
		})
	}
}

// TestWaitReportsTheCause: the last error of a client whose context has ended is that its context has ended.
func TestWaitReportsTheCause(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	errCause := errors.New("the cause")
	asked := 0
	err := Wait(ctx, func(ctx context.Context) error {
		if asked++; asked == 1 {
			return errCause
		}
		cancel()
		return ctx.Err()
	})
	if !errors.Is(err, errCause) {
		t.Errorf("got %v, want %v in it", err, errCause)
	}
}

// recorder is a test that may fail.
type recorder struct {
	testing.TB
	ctx    context.Context
	failed string
}

func (r *recorder) Context() context.Context { return r.ctx }
func (r *recorder) Helper()                  {}
func (r *recorder) Fatalf(format string, args ...any) {
	r.failed = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func TestUntilReportsWhatItLastSaw(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{TB: t, ctx: t.Context()}
		done := make(chan struct{})
		go func() {
			defer close(done)
			UntilTrue(r, "all pods run", func() bool { return false })
		}()
		<-done
		for _, want := range []string{Limit.String(), "all pods run"} {
			if !strings.Contains(r.failed, want) {
				t.Errorf("%q lacks %q", r.failed, want)
			}
		}
	})
}
