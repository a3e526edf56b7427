package v1alpha1

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"
	kyaml "sigs.k8s.io/yaml"
)

// Error is one thing that is wrong with a configuration file, and where.
type Error struct {
	Line int // from 1; 0: no line is to blame
	Err  error
}

// Error returns "line 3: nodePortRange: …".
func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Err.Error()
	}
	return fmt.Sprintf("line %d: %v", e.Line, e.Err)
}

// Unwrap returns what is wrong; a *field.Error where a value is.
func (e *Error) Unwrap() error { return e.Err }

// Load reads a configuration file, YAML or JSON, fills in the defaults and validates it. An empty file is the default
// configuration. The error joins an *Error for everything that is wrong, in the order of the lines.
func Load(data []byte) (*PortcullisConfiguration, error) {
	c := &PortcullisConfiguration{}
	root, err := parse(data)
	if err != nil {
		return nil, err
	}
	if root != nil {
		if err := decode(data, root, c); err != nil {
			return nil, err
		}
	}
	c.Default()
	if errs := c.Validate(); len(errs) > 0 {
		return nil, located(root, errs)
	}
	return c, nil
}

// parse returns the file's one document, or nil for an empty file.
func parse(data []byte) (*yaml.Node, error) {
	documents := yaml.NewDecoder(bytes.NewReader(data))
	var root *yaml.Node
	for number := 1; ; number++ {
		var document yaml.Node
		if err := documents.Decode(&document); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fromYAML(err)
		}
		content := document.Content[0]
		switch {
		case content.Kind == yaml.ScalarNode && content.ShortTag() == "!!null":
		case number > 1:
			return nil, &Error{content.Line, errors.New("a second document begins here; a configuration file is one document")}
		case content.Kind != yaml.MappingNode:
			return nil, &Error{content.Line, fmt.Errorf("the file does not hold fields; begin it with \"apiVersion: %s\"", APIVersion)}
		default:
			root = content
		}
	}
	if root == nil {
		return nil, nil
	}
	return root, join(repeated(root, ""))
}

// fromYAML takes the line out of the YAML library's "yaml: line 3: …".
func fromYAML(err error) error {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	rest, ok := strings.CutPrefix(message, "line ")
	number, what, cut := strings.Cut(rest, ": ")
	line, atoiErr := strconv.Atoi(number)
	if !ok || !cut || atoiErr != nil {
		return &Error{0, fmt.Errorf("the file is not valid YAML: %s", message)}
	}
	return &Error{line, fmt.Errorf("the file is not valid YAML near here: %s", what)}
}

// repeated finds the fields that are given twice; the JSON that is decoded afterwards no longer shows them.
func repeated(n *yaml.Node, path string) []*Error {
	var errs []*Error
	switch n.Kind {
	case yaml.MappingNode:
		first := map[string]int{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			name := strings.TrimPrefix(path+"."+key.Value, ".")
			if line, ok := first[key.Value]; ok {
				errs = append(errs, &Error{key.Line, fmt.Errorf("%s: is given twice, first on line %d; keep one", name, line)})
			} else {
				first[key.Value] = key.Line
			}
			errs = append(errs, repeated(n.Content[i+1], name)...)
		}
	case yaml.SequenceNode:
		for i, item := range n.Content {
			errs = append(errs, repeated(item, fmt.Sprintf("%s[%d]", path, i))...)
		}
	}
	return errs
}

func decode(data []byte, root *yaml.Node, c *PortcullisConfiguration) error {
	asJSON, err := kyaml.YAMLToJSON(data)
	if err != nil {
		return fromYAML(err)
	}
	strict, err := kjson.UnmarshalStrict(asJSON, c, kjson.DisallowUnknownFields)
	if err != nil {
		return wrongType(root, err)
	}
	var errs []*Error
	for _, err := range strict {
		if unknown, ok := errors.AsType[kjson.FieldError](err); ok {
			path := unknown.FieldPath()
			errs = append(errs, &Error{lineOf(root, path), fmt.Errorf("%s: unknown field of %s; correct or remove it", path, Kind)})
		}
	}
	for _, must := range []struct{ name, value, want string }{{"apiVersion", c.APIVersion, APIVersion}, {"kind", c.Kind, Kind}} {
		if must.value == "" {
			required := field.Required(field.NewPath(must.name), "write "+must.name+": "+must.want)
			errs = append(errs, &Error{root.Line, required})
		}
	}
	return join(errs)
}

// wrongType tells of a value that does not fit its field.
func wrongType(root *yaml.Node, err error) error {
	var mismatch *json.UnmarshalTypeError
	if !errors.As(err, &mismatch) {
		return &Error{lineOf(root, ""), err}
	}
	todo := "write fields"
	switch mismatch.Type.Kind() {
	case reflect.String:
		todo = "write text, in quotes"
	case reflect.Int32:
		todo = "write a whole number, without quotes"
	case reflect.Bool:
		todo = "write true or false, without quotes"
	case reflect.Slice:
		todo = "write a list"
	}
	has := map[string]string{"array": "a list", "object": "fields", "bool": "true or false"}[mismatch.Value]
	if has == "" {
		has = "a " + mismatch.Value
	}
	path := mismatch.Field
	return &Error{lineOf(root, path), fmt.Errorf("%s: cannot be %s; %s", path, has, todo)}
}

func located(root *yaml.Node, invalid field.ErrorList) error {
	errs := make([]*Error, len(invalid))
	for i, err := range invalid {
		errs[i] = &Error{lineOf(root, err.Field), err}
	}
	return join(errs)
}

func join(errs []*Error) error {
	slices.SortStableFunc(errs, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), strings.Compare(a.Error(), b.Error()))
	})
	joined := make([]error, len(errs))
	for i, err := range errs {
		joined[i] = err
	}
	return errors.Join(joined...)
}

// lineOf returns the line of a field such as nodeReserved[1].port, or that of its nearest ancestor in the file.
func lineOf(n *yaml.Node, path string) int {
	if n == nil {
		return 0
	}
	line := n.Line
	for _, step := range strings.FieldsFunc(path, func(r rune) bool { return strings.ContainsRune(".[]", r) }) {
		if n.Kind == yaml.AliasNode {
			n = n.Alias
		}
		child, at := enter(n, step)
		if child == nil {
			break
		}
		n, line = child, at
	}
	return line
}

func enter(n *yaml.Node, step string) (child *yaml.Node, line int) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == step {
				return n.Content[i+1], n.Content[i].Line
			}
		}
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(n.Content) {
			return n.Content[i], n.Content[i].Line
		}
	}
	return nil, 0
}

// Marshal writes c as YAML, with the fields in the order of the documentation.
func Marshal[T PortcullisConfiguration | PortClaimsArgs](c *T) ([]byte, error) {
	asJSON, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	var document yaml.Node
	if err := yaml.Unmarshal(asJSON, &document); err != nil {
		return nil, err
	}
	plain(&document)
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	encoder.CompactSeqIndent()
	if err := encoder.Encode(&document); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// plain takes off what makes a node look like JSON; the encoder quotes where it must.
func plain(n *yaml.Node) {
	if len(n.Content) > 0 || n.Kind == yaml.ScalarNode {
		n.Style = 0
	}
	for _, child := range n.Content {
		plain(child)
	}
}
