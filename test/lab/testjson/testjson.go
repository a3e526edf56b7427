// Package testjson reads what `go test -json` writes.
package testjson

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"time"
)

// Event is a line of it: see `go doc test2json`.
type Event struct {
	Time    time.Time
	Action  string
	Package string
	Test    string // empty for what is about the package
	Elapsed float64
	Output  string
}

// Read calls do for each event, until there are no more. Other lines, which builds print, are passed over.
func Read(in io.Reader, do func(Event)) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		var e Event
		if json.Unmarshal(line, &e) == nil && e.Package != "" {
			do(e)
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}
