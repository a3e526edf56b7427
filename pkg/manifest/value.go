package manifest

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// maxAliased bounds what aliases may add to a document, in bytes and more or less, so that a few lines cannot fill the
// memory.
const maxAliased = maxBytes

// errTooMuch ends a conversion; the other errors are collected.
var errTooMuch = errors.New("too much")

// converter turns nodes into the values that JSON has.
type converter struct {
	errs    []lineError
	spots   []spot
	inAlias []*yaml.Node // the anchors being copied
	aliased int
}

// value returns n as kubectl understands it (sigs.k8s.io/yaml, which is YAML 1.1), where it stands, and everything that
// is wrong.
func value(n *yaml.Node) (any, place, []lineError) { return new(converter).value(n) }

// value is value with a converter that may have converted others.
func (c *converter) value(n *yaml.Node) (any, place, []lineError) {
	*c = converter{spots: c.spots[:0]}
	v, _ := c.at(spot{kind: itemSpot, line: int32(n.Line)}, n, 0) // its error is among c.errs
	return v, place{document: slices.Clone(c.spots)}, c.errs
}

// at converts a value and notes where it stands.
func (c *converter) at(s spot, n *yaml.Node, depth int) (any, error) {
	i := len(c.spots)
	c.spots = append(c.spots, s)
	v, err := c.convert(n, depth)
	c.spots[i].end = int32(len(c.spots))
	return v, err
}

func (c *converter) fail(n *yaml.Node, format string, args ...any) {
	c.errs = append(c.errs, lineError{line: n.Line, err: fmt.Errorf(format, args...)})
}

// stop is fail for what leaves nothing to go on with.
func (c *converter) stop(n *yaml.Node, format string, args ...any) error {
	c.fail(n, format, args...)
	return errTooMuch
}

func (c *converter) convert(n *yaml.Node, depth int) (any, error) {
	if depth > maxDepth {
		return nil, c.stop(n, "nested deeper than %d", maxDepth)
	}
	if len(c.inAlias) > 0 {
		if c.aliased += 64 + len(n.Value); c.aliased > maxAliased {
			return nil, c.stop(n, "the aliases of this document repeat too much; write it out")
		}
	}
	switch n.Kind {
	case yaml.AliasNode:
		if slices.Contains(c.inAlias, n.Alias) {
			return nil, c.stop(n, "the anchor %q contains itself", n.Value)
		}
		c.inAlias = append(c.inAlias, n.Alias)
		v, err := c.convert(n.Alias, depth+1)
		c.inAlias = c.inAlias[:len(c.inAlias)-1]
		return v, err
	case yaml.MappingNode:
		return c.mapping(n, depth)
	case yaml.SequenceNode:
		list := make([]any, 0, len(n.Content))
		for _, child := range n.Content {
			item, err := c.at(spot{kind: itemSpot, line: int32(child.Line)}, child, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, item)
		}
		return list, nil
	default:
		return c.scalar(n), nil
	}
}

func (c *converter) mapping(n *yaml.Node, depth int) (any, error) {
	fields := make(map[string]any, len(n.Content)/2)
	given, merges := 0, false
	for i := 0; i+1 < len(n.Content); i += 2 {
		if isMerge(n.Content[i]) {
			merges = true
			if err := c.merge(fields, n.Content[i+1], depth); err != nil {
				return nil, err
			}
			continue
		}
		key, ok := c.key(n.Content[i])
		v, err := c.at(spot{name: key, line: int32(behind(n.Content[i]).Line)}, n.Content[i+1], depth+1)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		fields[key] = v
		given++
	}
	if merges || len(fields) != given {
		c.twice(n)
	}
	return fields, nil
}

// twice tells of the fields that a mapping has twice. Those that stand in what is merged are not meant.
func (c *converter) twice(n *yaml.Node) {
	first := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		if isMerge(n.Content[i]) {
			continue
		}
		key, ok := c.key(n.Content[i])
		if line, again := first[key]; again {
			c.errs = append(c.errs, lineError{n.Content[i].Line, fmt.Errorf("%q is given twice, first on line %d; keep one", key, line), true})
		} else if ok {
			first[key] = n.Content[i].Line
		}
	}
}

// merge copies into fields what a merge key names: a mapping, or several of which the first one wins.
func (c *converter) merge(fields map[string]any, n *yaml.Node, depth int) error {
	v, err := c.at(spot{kind: mergeSpot, line: int32(n.Line)}, n, depth+1)
	if err != nil {
		return err
	}
	sources, several := v.([]any)
	if !several {
		sources = []any{v}
	}
	for _, source := range slices.Backward(sources) {
		from, ok := source.(map[string]any)
		if !ok {
			c.fail(n, "<< takes a mapping, or a list of mappings")
			continue
		}
		maps.Copy(fields, from)
	}
	return nil
}

func isMerge(key *yaml.Node) bool { return key.Kind == yaml.ScalarNode && key.ShortTag() == "!!merge" }

// key returns a mapping's key as a string, whatever it is in YAML.
func (c *converter) key(n *yaml.Node) (string, bool) {
	n = behind(n)
	if n.Kind != yaml.ScalarNode {
		c.fail(n, "a field's name cannot be a mapping or a list")
		return "", false
	}
	switch v := c.scalar(n).(type) {
	case string:
		return v, true
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 32), true // sigs.k8s.io/yaml rounds so
	case nil:
		c.fail(n, "a field's name cannot be empty")
		return "", false
	default:
		return fmt.Sprint(v), true
	}
}

// behind returns the node that an alias stands for.
func behind(n *yaml.Node) *yaml.Node {
	for n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func (c *converter) scalar(n *yaml.Node) any {
	tag := n.ShortTag()
	if tag == "!!int" || tag == numberTag { // nearly all of them are written so, and Decode takes its time
		if i, err := strconv.Atoi(n.Value); err == nil && strconv.Itoa(i) == n.Value {
			return i
		}
	}
	switch {
	case tag == numberTag:
		return json.Number(n.Value)
	case tag == "!!timestamp":
		return n.Value
	case tag == "!!bool" || tag == "!!str" && n.Style == 0:
		if b, ok := yaml11Bool(n.Value); ok {
			return b
		}
	}
	if tag == "!!str" {
		return n.Value
	}
	var v any
	if err := n.Decode(&v); err != nil {
		what, _ := syntaxError(err)
		c.fail(n, "%s", what)
		return nil
	}
	if f, ok := v.(float64); ok && (math.IsNaN(f) || math.IsInf(f, 0)) {
		c.fail(n, "%s is not a number that JSON can hold", n.Value)
		return nil
	}
	return v
}

// yaml11Bool reads the booleans that YAML 1.2 no longer has, and those that it has.
func yaml11Bool(s string) (value, ok bool) {
	switch s {
	case "y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "true", "True", "TRUE":
		return true, true
	case "n", "N", "no", "No", "NO", "off", "Off", "OFF", "false", "False", "FALSE":
		return false, true
	}
	return false, false
}
