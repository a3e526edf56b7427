package cli

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/portcullis-k8s/portcullis/pkg/report"
)

const (
	drawEvery = 200 * time.Millisecond
	patience  = 5 // in draws: a run that ends sooner shows nothing
)

// Progress is a line on a terminal that says how far a long run is, drawn over itself and gone at the end.
type Progress struct {
	w       io.Writer
	watched bool // false: nobody sees it, and nothing is ever written

	mu    sync.Mutex
	text  string // what is so
	shown string // what the terminal shows
}

// Progress returns one that is drawn on the streams of a command.
func (s Streams) Progress() *Progress { return &Progress{w: s.Err, watched: s.Watched} }

// Say sets what the line says when it is drawn next.
func (p *Progress) Say(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text = report.Escape(text)
}

// draw brings the line on the terminal up to date.
func (p *Progress) draw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.show(p.text)
}

// show writes a text over what is there; spaces, because not every terminal knows how to clear a line.
func (p *Progress) show(text string) {
	if !p.watched || text == p.shown {
		return
	}
	fmt.Fprintf(p.w, "\r%s%s", text, strings.Repeat(" ", max(0, len(p.shown)-len(text))))
	if text == "" {
		fmt.Fprint(p.w, "\r")
	}
	p.shown = text
}

// Println writes a line that stays, watched or not.
func (p *Progress) Println(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.show("")
	PrintLine(p.w, "%s", line)
}

// follow draws at each tick but the first few, until done is closed; then it takes the line away.
func (p *Progress) follow(ticks <-chan time.Time, done <-chan struct{}) {
	for n := 1; ; n++ {
		select {
		case <-ticks:
			if n >= patience {
				p.draw()
			}
		case <-done:
			p.Say("")
			p.draw()
			return
		}
	}
}

// Start begins to draw. The function that it returns ends that, and returns when the line is gone; it may be called
// again.
func (p *Progress) Start() (stop func()) {
	if !p.watched {
		return func() {}
	}
	ticker := time.NewTicker(drawEvery)
	done := make(chan struct{})
	var gone sync.WaitGroup
	gone.Go(func() { p.follow(ticker.C, done) })
	return sync.OnceFunc(func() {
		ticker.Stop()
		close(done)
		gone.Wait()
	})
}

// Grouped writes a number as people read it: 3,200.
func Grouped(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
