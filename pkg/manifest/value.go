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
	inAlias []*yaml.Node // the anchors being copied
	aliased int
}

// value returns n as kubectl understands it (sigs.k8s.io/yaml, which is YAML 1.1), and everything that is wrong.
func value(n *yaml.Node) (any, []lineError) {
	c := &converter{}
	v, _ := c.convert(n, 0) // its error is among c.errs
	return v, c.errs
}

func (c *converter) fail(n *yaml.Node, format string, args ...any) {
	c.errs = append(c.errs, lineError{n.Line, fmt.Errorf(format, args...)})
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
			item, err := c.convert(child, depth+1)
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
	first := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		if isMerge(n.Content[i]) {
			if err := c.merge(fields, n.Content[i+1], depth); err != nil {
				return nil, err
			}
			continue
		}
		v, err := c.convert(n.Content[i+1], depth+1)
		if err != nil {
			return nil, err
		}
		key, ok := c.key(n.Content[i])
		if !ok {
			continue
		}
		if line, again := first[key]; again {
			c.fail(n.Content[i], "%q is given twice, first on line %d; keep one", key, line)
			continue
		}
		first[key] = n.Content[i].Line
		fields[key] = v
	}
	return fields, nil
}

// merge copies into fields what a merge key names: a mapping, or several of which the first one wins.
func (c *converter) merge(fields map[string]any, n *yaml.Node, depth int) error {
	v, err := c.convert(n, depth+1)
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
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
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

func (c *converter) scalar(n *yaml.Node) any {
	tag := n.ShortTag()
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
		c.fail(n, "%s is no number that JSON can hold", n.Value)
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
