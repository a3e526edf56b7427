package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxDepth bounds how deep values may nest, aliases followed; nothing in Kubernetes comes near.
const maxDepth = 1000

// lineError is an error whose file is not known yet.
type lineError struct {
	line int
	err  error
}

// parse returns the documents of a file, the empty ones as nil. With an error it returns those before it.
func parse(path string, data []byte) ([]*yaml.Node, *lineError) {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if !bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{")) {
		return parseYAML(data)
	}
	asJSON, jsonErr := parseJSON(data)
	if jsonErr == nil {
		return asJSON, nil
	}
	// It may be YAML that begins with a flow mapping. If it is neither, the reading that got further was meant.
	asYAML, yamlErr := parseYAML(data)
	if yamlErr != nil && (filepath.Ext(path) == ".json" || jsonErr.line >= yamlErr.line) {
		return asJSON, jsonErr
	}
	return asYAML, yamlErr
}

func parseYAML(data []byte) ([]*yaml.Node, *lineError) {
	documents, err := decodeYAML(data)
	if err == nil {
		return documents, nil
	}
	what, line := syntaxError(err)
	from := 0 // what stands before the last good document has no part in it
	for _, document := range documents {
		if document != nil {
			from = document.Line - 1
		}
	}
	rest := skipLines(data, from)
	if n := syntaxLine(rest[:min(len(rest), 1<<20)], what); n > 0 {
		line = from + n
	}
	return documents, &lineError{line, fmt.Errorf("no valid YAML: %s", what)}
}

func skipLines(data []byte, n int) []byte {
	for ; n > 0; n-- {
		_, data, _ = bytes.Cut(data, []byte("\n"))
	}
	return data
}

func decodeYAML(data []byte) ([]*yaml.Node, error) {
	var documents []*yaml.Node
	for decoder := yaml.NewDecoder(bytes.NewReader(data)); ; {
		var document yaml.Node
		if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
			return documents, nil
		} else if err != nil {
			return documents, err
		}
		root := document.Content[0]
		if root.Kind == yaml.ScalarNode && root.ShortTag() == "!!null" {
			root = nil
		}
		documents = append(documents, root)
	}
}

// syntaxError takes the library's "yaml: line 3: …" apart.
func syntaxError(err error) (what string, line int) {
	what = strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(what, "line "); ok {
		if number, after, ok := strings.Cut(rest, ": "); ok {
			if n, err := strconv.Atoi(number); err == nil {
				return after, n
			}
		}
	}
	return what, 0
}

// syntaxLine finds the line that breaks a file: the last of the shortest beginning of the file that is broken in the
// same way; 0 if none is. The library names the first line of the block around it, often off by one, or none.
func syntaxLine(data []byte, what string) int {
	var ends []int
	for i, b := range data {
		if b == '\n' {
			ends = append(ends, i+1)
		}
	}
	ends = append(ends, len(data))
	line := 1 + sort.Search(len(ends), func(i int) bool {
		_, err := decodeYAML(data[:ends[i]])
		if err == nil {
			return false
		}
		same, _ := syntaxError(err)
		return same == what
	})
	if line > len(ends) {
		return 0
	}
	return line
}

// numberTag marks the numbers of JSON, which keep their spelling as kubectl keeps it.
const numberTag = "!json-number"

// jsonParser builds the nodes that the YAML library would, where it would; it reads what YAML does not: objects that
// follow each other without a separator, and surrogate pairs.
type jsonParser struct {
	data    []byte
	decoder *json.Decoder
	at      int64 // offset up to which lines are counted
	line    int
}

func parseJSON(data []byte) ([]*yaml.Node, *lineError) {
	p := &jsonParser{data: data, decoder: json.NewDecoder(bytes.NewReader(data)), line: 1}
	p.decoder.UseNumber()
	var documents []*yaml.Node
	for {
		node, err := p.value(0)
		if errors.Is(err, io.EOF) {
			return documents, nil
		}
		if err != nil {
			return documents, &lineError{p.lineHere(), fmt.Errorf("no valid JSON: %w", err)}
		}
		if node.Tag == "!!null" {
			node = nil
		}
		documents = append(documents, node)
	}
}

// lineHere returns the line on which the last token ends. Tokens do not span lines.
func (p *jsonParser) lineHere() int {
	offset := min(p.decoder.InputOffset(), int64(len(p.data)))
	p.line += bytes.Count(p.data[p.at:offset], []byte("\n"))
	p.at = offset
	return p.line
}

func (p *jsonParser) value(depth int) (*yaml.Node, error) {
	token, err := p.decoder.Token()
	if err != nil {
		if depth > 0 && errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	if depth > maxDepth {
		return nil, fmt.Errorf("nested deeper than %d", maxDepth)
	}
	node := &yaml.Node{Kind: yaml.ScalarNode, Line: p.lineHere()}
	switch token := token.(type) {
	case json.Delim:
		return node, p.container(node, token, depth)
	case string:
		node.Tag, node.Value, node.Style = "!!str", token, yaml.DoubleQuotedStyle
	case json.Number:
		node.Tag, node.Value = numberTag, token.String()
	case bool:
		node.Tag, node.Value = "!!bool", strconv.FormatBool(token)
	case nil:
		node.Tag, node.Value = "!!null", "null"
	}
	return node, nil
}

func (p *jsonParser) container(node *yaml.Node, open json.Delim, depth int) error {
	node.Kind, node.Tag = yaml.SequenceNode, "!!seq"
	if open == '{' {
		node.Kind, node.Tag = yaml.MappingNode, "!!map"
	}
	for p.decoder.More() {
		// A mapping's keys and values come in turn, and the decoder insists on it.
		child, err := p.value(depth + 1)
		if err != nil {
			return err
		}
		node.Content = append(node.Content, child)
	}
	_, err := p.decoder.Token()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}
