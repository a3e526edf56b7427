package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxDepth bounds how deep values may nest, aliases followed; nothing in Kubernetes comes near.
const maxDepth = 1000

// maxBroken bounds how many documents of a file may be broken before the rest of it is left unread: a file of many is
// none that somebody wrote.
const maxBroken = 100

// lineError is an error whose file is not known yet.
type lineError struct {
	line  int
	err   error
	again bool // a field is given twice: the last one counts, as it does for kubectl
}

// document is a document of a file.
type document struct {
	root *yaml.Node // nil: it is empty, or broken
	err  *lineError // why it is broken; nil if it is not
	text []byte     // of a broken one, and what stands before it up to the last dashes
}

// parse returns the documents of a file. One that is broken hides none of the others: dashes begin a document whatever
// stands before them.
func parse(path string, data []byte) []document {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	roots, err := parseStream(path, data)
	if err == nil {
		return wholeDocuments(roots)
	}
	var all []document
	broken := 0
	for line, text := range chunks(data) {
		roots, err := parseStream(path, text)
		for _, root := range roots {
			moveDown(root, line)
		}
		all = append(all, wholeDocuments(roots)...)
		if err == nil {
			continue
		}
		err.line = line + max(1, err.line)
		all = append(all, document{err: err, text: text})
		if broken++; broken == maxBroken {
			err := &lineError{line: err.line, err: fmt.Errorf("%d documents of this file are broken, and what follows is not read", broken)}
			return append(all, document{err: err, text: data})
		}
	}
	return all
}

func wholeDocuments(roots []*yaml.Node) []document {
	var all []document
	for _, root := range roots {
		all = append(all, document{root: root})
	}
	return all
}

// chunks cuts a text before each line of dashes, and yields the pieces with the number of lines before them. Directives
// belong to the document behind the dashes.
func chunks(data []byte) iter.Seq2[int, []byte] {
	return func(yield func(int, []byte) bool) {
		begin, beginLine, at, line, isEmpty := 0, 0, 0, 0, true
		for text := range bytes.Lines(data) {
			if isDashes(text) && !isEmpty {
				if !yield(beginLine, data[begin:at]) {
					return
				}
				begin, beginLine = at, line
			}
			trimmed := bytes.TrimSpace(text)
			isEmpty = isEmpty && (len(trimmed) == 0 || trimmed[0] == '#' || text[0] == '%')
			at += len(text)
			line++
		}
		yield(beginLine, data[begin:])
	}
}

// isDashes reports whether a line begins a document.
func isDashes(line []byte) bool {
	rest, ok := bytes.CutPrefix(line, []byte("---"))
	return ok && (len(rest) == 0 || rest[0] == ' ' || rest[0] == '\t' || rest[0] == '\r' || rest[0] == '\n')
}

// moveDown adds to the line of a node and of all below it.
func moveDown(n *yaml.Node, lines int) {
	if n == nil || lines == 0 {
		return
	}
	n.Line += lines
	for _, child := range n.Content {
		moveDown(child, lines)
	}
}

// The names of the fields that every object has, where a document that cannot be parsed shows them: at the beginning of a
// line, or anywhere in one that is written with braces.
var (
	blockNames = [...]*regexp.Regexp{regexp.MustCompile(`(?m)^["']?apiVersion["']?[ \t]*:`), regexp.MustCompile(`(?m)^["']?kind["']?[ \t]*:`)}
	flowNames  = [...]*regexp.Regexp{regexp.MustCompile(`[{,\s]["']?apiVersion["']?\s*:`), regexp.MustCompile(`[{,\s]["']?kind["']?\s*:`)}
)

// mayBeObject reports whether a text that cannot be parsed shows an apiVersion and a kind.
func mayBeObject(text []byte) bool {
	has := func(names [2]*regexp.Regexp) bool { return names[0].Match(text) && names[1].Match(text) }
	begin := bytes.TrimLeft(text, " \t\r\n-")
	isFlow := bytes.HasPrefix(begin, []byte("{")) && !bytes.HasPrefix(begin, []byte("{{"))
	return has(blockNames) || isFlow && has(flowNames)
}

// parseStream returns the documents of a text, the empty ones as nil. With an error it returns those before it.
func parseStream(path string, data []byte) ([]*yaml.Node, *lineError) {
	if !bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{")) {
		return parseYAML(data)
	}
	asJSON, jsonErr := parseJSON(data)
	if jsonErr == nil {
		return asJSON, nil
	}
	// It may be YAML that begins with a flow mapping. If it is neither, the reading that got further was meant.
	asYAML, yamlErr := parseYAML(data)
	if yamlErr != nil && (hasExtension(path, ".json") || jsonErr.line >= yamlErr.line) {
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
	return documents, &lineError{line: line, err: fmt.Errorf("no valid YAML: %s", what)}
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
			return documents, &lineError{line: p.lineHere(), err: fmt.Errorf("no valid JSON: %w", err)}
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
