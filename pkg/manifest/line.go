package manifest

import (
	"strconv"
	"strings"
)

// step is one step of a field's path: the name of a field, or the number of an item. Which of the two a number means
// depends on what it is taken in.
type step struct {
	name  string
	index int // -1: no number
}

func fieldStep(name string) step { return step{name: name, index: -1} }
func indexStep(i int) step       { return step{name: strconv.Itoa(i), index: i} }

// parsePath reads a.b[0].c[some.key/name].d, as field.Path writes it.
func parsePath(path string) []step {
	var steps []step
	for path != "" {
		if rest, ok := strings.CutPrefix(path, "["); ok {
			inner, after, _ := strings.Cut(rest, "]")
			s := fieldStep(inner)
			if i, err := strconv.Atoi(inner); err == nil && i >= 0 {
				s.index = i
			}
			steps, path = append(steps, s), strings.TrimPrefix(after, ".")
			continue
		}
		end := strings.IndexAny(path, ".[")
		if end < 0 {
			end = len(path)
		}
		steps = append(steps, fieldStep(path[:end]))
		path = strings.TrimPrefix(path[end:], ".")
	}
	return steps
}

// formatPath is parsePath's inverse.
func formatPath(steps []step) string {
	var b strings.Builder
	for _, s := range steps {
		switch {
		case s.index >= 0 || s.name == "" || strings.ContainsAny(s.name, ".[]"):
			b.WriteString("[" + s.name + "]")
		case b.Len() > 0:
			b.WriteString("." + s.name)
		default:
			b.WriteString(s.name)
		}
	}
	return b.String()
}

// spot is where a value stands: a field's, an item's, or what a merge key merges. The YAML library's own nodes take ten
// times the memory, and every object of a large input is kept.
type spot struct {
	name string // of a field
	kind spotKind
	line int32
	end  int32 // of the spots inside the value, which follow it
}

type spotKind uint8

const (
	fieldSpot spotKind = iota
	itemSpot
	mergeSpot
)

// place is one of the spots of a document.
type place struct {
	document []spot
	at       int32
}

// line returns the line that a reader would look at: that of the field's name, or of the item.
func (p place) line() int { return int(p.document[p.at].line) }

// inside yields the places directly inside p, in order.
func (p place) inside(yield func(place) bool) {
	for at := p.at + 1; at < p.document[p.at].end; at = p.document[at].end {
		if !yield(place{p.document, at}) {
			return
		}
	}
}

// lineOf walks from p along steps, and returns the line where it ends or can go no further.
func lineOf(p place, steps []step) int {
	for _, s := range steps {
		next, ok := p.enter(s)
		if !ok {
			break
		}
		p = next
	}
	return p.line()
}

// enter takes one step from p, if there is something. Of fields and merge keys that have the name it takes what
// converter.mapping takes: the last.
func (p place) enter(s step) (found place, ok bool) {
	item := 0
	for child := range p.inside {
		switch spot := child.document[child.at]; spot.kind {
		case itemSpot:
			if item == s.index {
				return child, true
			}
			item++
		case fieldSpot:
			if spot.name == s.name {
				found, ok = child, true
			}
		case mergeSpot:
			if merged, has := child.enterMerged(s); has {
				found, ok = merged, true
			}
		}
	}
	return found, ok
}

// enterMerged takes one step into what a merge key names: a mapping, or several of which the first one wins.
func (p place) enterMerged(s step) (place, bool) {
	for source := range p.inside {
		if source.document[source.at].kind != itemSpot {
			return p.enter(s)
		}
		if found, ok := source.enter(s); ok {
			return found, true
		}
	}
	return place{}, false
}
