package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// file reads the objects of one file.
func (r *reader) file(s source, data []byte) {
	f := &file{reader: r, source: s}
	if bytes.Contains(data, []byte("{{")) {
		f.lines = bytes.Split(data, []byte("\n"))
	}
	documents, err := parse(s.path, data)
	var c converter
	for i, root := range documents {
		if root == nil {
			continue
		}
		v, at, errs := c.value(root)
		for _, err := range errs {
			f.fail(err.line, err.err)
		}
		if len(errs) == 0 {
			f.document(part{value: v, at: at, document: i})
		}
	}
	if err != nil {
		f.fail(err.line, err.err)
	}
}

type file struct {
	*reader
	source
	lines [][]byte // only if something in the file looks like a template
}

// part is a document, or an item of a list.
type part struct {
	value    any
	at       place
	document int
	within   []step // the item's path in its document
}

func (f *file) fail(line int, err error) {
	if line > 0 && line <= len(f.lines) && bytes.Contains(f.lines[line-1], []byte("{{")) {
		err = fmt.Errorf("%w (this looks like a template: render it first)", err)
	}
	f.reader.fail(f.path, line, err)
}

// document reads an object, or the objects of a list.
func (f *file) document(p part) {
	fields, ok := p.value.(map[string]any)
	if !ok {
		f.noObject(p, "it does not hold fields")
		return
	}
	apiVersion, hasVersion := fields["apiVersion"].(string)
	kind, hasKind := fields["kind"].(string)
	switch {
	case fields["apiVersion"] != nil && !hasVersion:
		f.noObject(p, "its apiVersion is no text")
	case fields["kind"] != nil && !hasKind:
		f.noObject(p, "its kind is no text")
	case apiVersion == "" && kind == "":
		f.noObject(p, "it has no apiVersion and no kind")
	case apiVersion == "":
		f.noObject(p, "it has no apiVersion")
	case kind == "":
		f.noObject(p, "it has no kind")
	case f.isList(apiVersion, kind, fields):
		f.list(p, fields, apiVersion, kind)
	default:
		f.object(p, fields, apiVersion, kind)
	}
}

// noObject tells of a document that is no object: a mistake, unless it lies in a folder among others.
func (f *file) noObject(p part, why string) {
	why = "no Kubernetes object: " + why
	if f.inFolder && len(p.within) == 0 {
		f.skip(f.path, p.at.line(), why)
		return
	}
	if len(p.within) > 0 {
		why = formatPath(p.within) + ": " + why
	}
	f.fail(p.at.line(), errors.New(why))
}

// isList reports whether an object is a list of others: List, a kind that the scheme has as a list, or one that ends
// so and has items.
func (f *file) isList(apiVersion, kind string, fields map[string]any) bool {
	if !strings.HasSuffix(kind, "List") {
		return false
	}
	if _, ok := fields["items"].([]any); ok || apiVersion == "v1" && kind == "List" {
		return true
	}
	return f.scheme.Recognizes(schema.FromAPIVersionAndKind(apiVersion, strings.TrimSuffix(kind, "List")))
}

// list reads the items of a list. Those of a typed list may leave out what the list's kind says.
func (f *file) list(p part, list map[string]any, apiVersion, kind string) {
	if list["items"] == nil {
		return
	}
	at, _ := p.at.enter(fieldStep("items"))
	items, ok := list["items"].([]any)
	if !ok {
		f.fail(at.line(), fmt.Errorf("%s: want a list", formatPath(slices.Concat(p.within, []step{fieldStep("items")}))))
		return
	}
	places := slices.Collect(at.inside)
	for i, item := range items {
		within := slices.Concat(p.within, []step{fieldStep("items"), indexStep(i)})
		if fields, ok := item.(map[string]any); ok && kind != "List" {
			orSet(fields, "apiVersion", apiVersion)
			orSet(fields, "kind", strings.TrimSuffix(kind, "List"))
		}
		f.document(part{value: item, at: places[i], document: p.document, within: within})
	}
}

func orSet(fields map[string]any, name, value string) {
	if fields[name] == nil {
		fields[name] = value
	}
}

// object reads a single object.
func (f *file) object(p part, fields map[string]any, apiVersion, kind string) {
	version, err := schema.ParseGroupVersion(apiVersion)
	if err != nil {
		line := lineOf(p.at, []step{fieldStep("apiVersion")})
		f.fail(line, fmt.Errorf("%s: %q is no GROUP/VERSION", formatPath(append(slices.Clone(p.within), fieldStep("apiVersion"))), apiVersion))
		return
	}
	object, wrong := decode(f.scheme, version.WithKind(kind), fields)
	for _, w := range wrong {
		f.fail(lineOf(p.at, w.path), fmt.Errorf("%s%w", prefix(slices.Concat(p.within, w.path)), w.err))
	}
	if len(wrong) == 0 {
		f.input.Objects = append(f.input.Objects,
			&Object{Object: object, Path: f.path, Line: p.at.line(), Document: p.document, root: p.at})
	}
}

func prefix(path []step) string {
	if len(path) == 0 {
		return ""
	}
	return formatPath(path) + ": "
}
