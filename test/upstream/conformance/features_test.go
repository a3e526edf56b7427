package conformance

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// features counts what random cases were made of, and what became of them. A test that never drew something proves
// nothing about it.
type features struct {
	names []string
	seen  map[string]int
	cases int
}

func newFeatures(names ...string) *features { return &features{names: names, seen: map[string]int{}} }

// saw counts an occurrence of a feature if the condition holds.
func (f *features) saw(name string, holds bool) {
	if !slices.Contains(f.names, name) {
		panic("no feature is called " + name)
	}
	if holds {
		f.seen[name]++
	}
}

// check prints the counts, and fails if a feature never occurred.
func (f *features) check(t *testing.T) {
	t.Helper()
	var counts []string
	for _, name := range f.names {
		counts = append(counts, fmt.Sprintf("%s %d", name, f.seen[name]))
		if f.seen[name] == 0 {
			t.Errorf("it never happened: %s", name)
		}
	}
	t.Logf("%d cases: %s", f.cases, strings.Join(counts, ", "))
}
