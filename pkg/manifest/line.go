package manifest

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
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

// lineOf walks from n, which stands on line, along steps, and returns the line where it ends or can go no further.
func lineOf(n *yaml.Node, line int, steps []step) int {
	for _, s := range steps {
		child, at := enter(n, s, 0)
		if child == nil {
			break
		}
		n, line = child, at
	}
	return line
}

// enter takes one step from n. It returns nil if there is nothing there, else the value and the line that a reader
// would look at: the name's, or the item's.
func enter(n *yaml.Node, s step, depth int) (child *yaml.Node, line int) {
	n = behind(n)
	switch {
	case n == nil || depth > maxDepth:
	case n.Kind == yaml.SequenceNode && s.index >= 0 && s.index < len(n.Content):
		item := n.Content[s.index]
		return item, item.Line
	case n.Kind == yaml.MappingNode:
		return enterField(n, s, depth)
	}
	return nil, 0
}

// enterField takes what converter.mapping takes: the last of the fields and merge keys that have the name.
func enterField(n *yaml.Node, s step, depth int) (child *yaml.Node, line int) {
	for i := len(n.Content) - 2; i >= 0; i -= 2 {
		key := behind(n.Content[i])
		if !isMerge(key) {
			if name, ok := new(converter).key(key); ok && name == s.name {
				return n.Content[i+1], key.Line
			}
			continue
		}
		merged := behind(n.Content[i+1])
		sources := []*yaml.Node{merged}
		if merged.Kind == yaml.SequenceNode {
			sources = merged.Content
		}
		for _, source := range sources {
			if child, line = enter(source, s, depth+1); child != nil {
				return child, line
			}
		}
	}
	return nil, 0
}

// behind returns the node that an alias stands for.
func behind(n *yaml.Node) *yaml.Node {
	for n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}
