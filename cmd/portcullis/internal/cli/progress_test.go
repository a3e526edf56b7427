package cli

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// terminal is what is to be seen after writing: \r goes back to the first column, and what is written covers what stood
// there.
func terminal(written string) []string {
	var screen []string
	for line := range strings.SplitSeq(written, "\n") {
		var seen []rune
		column := 0
		for _, r := range line {
			if r == '\r' {
				column = 0
				continue
			}
			if column == len(seen) {
				seen = append(seen, ' ')
			}
			seen[column] = r
			column++
		}
		screen = append(screen, strings.TrimRight(string(seen), " "))
	}
	return screen
}

func TestProgress(t *testing.T) {
	var out bytes.Buffer
	p := &Progress{w: &out, watched: true}
	see := func(want ...string) {
		t.Helper()
		if got := terminal(out.String()); strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("to be seen is %q, want %q", got, want)
		}
	}
	p.draw()
	see("")
	p.Say("judging 1,000 of 2,000 objects")
	see("")
	p.draw()
	see("judging 1,000 of 2,000 objects")
	p.Say("short")
	p.draw()
	see("short")
	before := out.Len()
	p.draw()
	if out.Len() != before {
		t.Error("what is shown already was drawn again")
	}
	p.Println("skipped values.yaml")
	see("skipped values.yaml", "")
	p.draw()
	see("skipped values.yaml", "short")
	p.Say("")
	p.draw()
	see("skipped values.yaml", "")
}

// TestProgressWaits: a run that is over soon shows nothing, one that takes long does, and leaves nothing behind.
func TestProgressWaits(t *testing.T) {
	for ticks := range patience + 3 {
		var out bytes.Buffer
		p := &Progress{w: &out, watched: true}
		tick, done, gone := make(chan time.Time), make(chan struct{}), make(chan struct{})
		go func() {
			p.follow(tick, done)
			close(gone)
		}()
		for n := range ticks {
			p.Say(fmt.Sprintf("judging %d", n))
			tick <- time.Time{}
		}
		close(done)
		<-gone
		if drawn := strings.Contains(out.String(), "judging"); drawn != (ticks >= patience) {
			t.Errorf("after %d ticks: drawn %v: %q", ticks, drawn, out.String())
		}
		if got := terminal(out.String()); len(got) != 1 || got[0] != "" {
			t.Errorf("after %d ticks there is left %q", ticks, got)
		}
	}
}

// TestNobodyWatches: a log must not be filled with lines that were meant for a moment.
func TestNobodyWatches(t *testing.T) {
	var out bytes.Buffer
	p := &Progress{w: &out}
	stop := p.Start()
	p.Say("judging 1 of 2")
	p.draw()
	stop()
	if out.Len() > 0 {
		t.Errorf("%q was written", out.String())
	}
	p.Println("skipped values.yaml")
	if out.String() != "skipped values.yaml\n" {
		t.Errorf("%q", out.String())
	}
}

// TestProgressEnds, however often it is told to.
func TestProgressEnds(t *testing.T) {
	p := &Progress{w: io.Discard, watched: true}
	stop := p.Start()
	stop()
	stop()
}

func TestGrouped(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", 100000: "100,000"} {
		if got := Grouped(n); got != want {
			t.Errorf("%d is written %s, want %s", n, got, want)
		}
	}
}
