package binaries

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// progress tells a reader that something long is still going on: on a terminal every few seconds, in a log seldom.
type progress struct {
	w     io.Writer
	every time.Duration
	again string // what introduces a repeated line, and what ends one
	end   string
}

func newProgress(w io.Writer) *progress {
	if w == nil {
		w = io.Discard
	}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return &progress{w: w, every: 3 * time.Second, again: "\r", end: ""}
	}
	return &progress{w: w, every: 30 * time.Second, end: "\n"}
}

// start announces what begins, with a detail, and repeats it with the time that it has taken, until the function it
// returns is called with the outcome.
func (p *progress) start(what, detail string) (done func(error)) {
	began := time.Now()
	stop := make(chan struct{})
	var beat sync.WaitGroup
	fmt.Fprintf(p.w, "%s: %s\n", what, detail)
	beat.Go(func() {
		tick := time.NewTicker(p.every)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				fmt.Fprintf(p.w, "%s%s: %s so far%s", p.again, what, elapsed(began), p.end)
			}
		}
	})
	return func(err error) {
		close(stop)
		beat.Wait()
		outcome := "done"
		if err != nil {
			outcome = "failed"
		}
		fmt.Fprintf(p.w, "%s%s: %s after %s\n", p.again, what, outcome, elapsed(began))
	}
}

func elapsed(since time.Time) time.Duration { return time.Since(since).Round(time.Second) }
