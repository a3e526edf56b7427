package binaries

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// progress tells a reader that something long is still going on: on a terminal every few seconds, in a log seldom. What
// is over within a moment is not mentioned.
type progress struct {
	w            io.Writer
	quiet, every time.Duration
	again, end   string // what introduces a repeated line, and what ends one
}

func newProgress(w io.Writer) *progress {
	p := &progress{w: w, quiet: time.Second, every: 30 * time.Second, end: "\n"}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.every, p.again, p.end = 2*time.Second, "\r\x1b[K", ""
	}
	return p
}

// start announces what begins, and repeats it with the time that it has taken and how far it is, until the function that
// it returns is called with the outcome.
func (p *progress) start(what string, howFar func() string) (done func(error)) {
	began := time.Now()
	stop := make(chan struct{})
	var beat sync.WaitGroup
	announced := false
	beat.Go(func() {
		wait := time.NewTimer(p.quiet)
		defer wait.Stop()
		for {
			select {
			case <-stop:
				return
			case <-wait.C:
			}
			if announced {
				detail := ""
				if howFar != nil {
					detail = ", " + howFar()
				}
				fmt.Fprintf(p.w, "%s%s: %s so far%s%s", p.again, what, elapsed(began), detail, p.end)
			} else {
				fmt.Fprintf(p.w, "%s ...%s", what, p.end)
				announced = true
			}
			wait.Reset(p.every)
		}
	})
	return func(err error) {
		close(stop)
		beat.Wait()
		outcome := "done"
		if err != nil {
			outcome = "failed"
		}
		if announced || err != nil {
			fmt.Fprintf(p.w, "%s%s: %s after %s\n", p.again, what, outcome, elapsed(began))
		}
	}
}

func elapsed(since time.Time) time.Duration { return time.Since(since).Round(time.Second) }
