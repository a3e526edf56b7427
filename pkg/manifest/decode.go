package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// file reads the objects of one file.
func (r *reader) file(s source, data []byte) {
	f := &file{reader: r, source: s}
	if bytes.Contains(data, []byte("{{")) || bytes.Contains(data, []byte("${")) {
		f.lines = bytes.Split(data, []byte("\n"))
	}
	var c converter
	documents := parse(s.path, data)
	f.holdsObjects = s.path == stdinPath || slices.ContainsFunc(documents, func(d document) bool {
		return d.err != nil && mayBeObject(d.text) || d.root != nil && isObject(d.root)
	})
	for i, d := range documents {
		switch {
		case d.err != nil:
			f.unread([]lineError{*d.err}, f.holdsObjects)
		case d.root != nil:
			v, at, errs := c.value(d.root)
			f.unread(errs, isObject(d.root))
			if !slices.ContainsFunc(errs, func(e lineError) bool { return !e.again }) {
				f.document(part{value: v, at: at, document: i})
			}
		}
	}
}

type file struct {
	*reader
	source
	lines        [][]byte // only if something in the file looks like a template
	holdsObjects bool     // or is meant to: so may a document that is broken
	isTemplate   bool     // that it looks like one is said once
}

// part is a document, or an item of a list.
type part struct {
	value    any
	at       place
	document int
	within   []step // the item's path in its document
}

// unread records why a document cannot be read: it is skipped unless it is, or may be, an object.
func (f *file) unread(errs []lineError, isObject bool) {
	for _, e := range errs {
		switch {
		case isObject:
			f.fail(e.line, e.err)
		case !e.again:
			f.skip(f.path, e.line, e.err.Error())
			return // what else is wrong with it does not matter
		}
	}
}

// isObject reports whether a document names an apiVersion and a kind.
func isObject(root *yaml.Node) bool {
	has := map[string]bool{}
	for i := 0; root.Kind == yaml.MappingNode && i < len(root.Content); i += 2 {
		has[root.Content[i].Value] = true
	}
	return has["apiVersion"] && has["kind"]
}

func (f *file) fail(line int, err error) {
	if line > 0 && line <= len(f.lines) && isTemplate(string(f.lines[line-1])) {
		if f.isTemplate {
			return
		}
		f.isTemplate = true
		err = fmt.Errorf("%s: %w", looksLikeTemplate(string(f.lines[line-1])), err)
	}
	f.reader.fail(f.path, line, err)
}

// looksLikeTemplate says what to do with a template.
func looksLikeTemplate(text string) string {
	if strings.Contains(text, "{{") {
		return "this looks like a Helm template; render it with `helm template`"
	}
	return "this looks like a template; render it first"
}

// isTemplate reports whether a text is to be replaced by something else: by Helm, or by Flux and envsubst.
func isTemplate(text string) bool {
	return strings.Contains(text, "{{") || strings.Contains(text, "${")
}

// document reads an object, or the objects of a list.
func (f *file) document(p part) {
	fields, ok := p.value.(map[string]any)
	if !ok {
		f.noObject(p, "it does not hold fields", false)
		return
	}
	if isKustomization(f.path, fields) {
		f.kustomization(f.path, fields)
	}
	apiVersion, hasVersion := fields["apiVersion"].(string)
	kind, hasKind := fields["kind"].(string)
	_, hasMetadata := fields["metadata"].(map[string]any)
	switch {
	case fields["apiVersion"] != nil && !hasVersion:
		f.noObject(p, "its apiVersion is no text", fields["kind"] != nil)
	case fields["kind"] != nil && !hasKind:
		f.noObject(p, "its kind is no text", apiVersion != "")
	case apiVersion == "" && kind == "":
		f.noObject(p, "it has no apiVersion and no kind", false)
	case apiVersion == "":
		f.noObject(p, "it has no apiVersion", hasMetadata && f.isOfKubernetes(kind))
	case kind == "":
		f.noObject(p, "it has no kind", hasMetadata)
	case f.isList(apiVersion, kind, fields):
		f.list(p, fields, apiVersion, kind)
	default:
		f.object(p, fields, apiVersion, kind)
	}
}

// misspelled returns the kind of Kubernetes that one would be in another case: the API server takes no other spelling.
func (f *file) misspelled(kind schema.GroupVersionKind) (schema.GroupVersionKind, bool) {
	if f.scheme.Recognizes(kind) {
		return kind, false
	}
	for known := range f.scheme.AllKnownTypes() {
		if strings.EqualFold(known.Group, kind.Group) && strings.EqualFold(known.Version, kind.Version) && strings.EqualFold(known.Kind, kind.Kind) {
			return known, true
		}
	}
	return kind, false
}

// isOfKubernetes reports whether a kind is one of Kubernetes: what calls itself so and lacks an apiVersion is a manifest with a
// mistake, others are files of other programs.
func (f *file) isOfKubernetes(kind string) bool {
	for known := range f.scheme.AllKnownTypes() {
		if known.Kind == kind {
			return true
		}
	}
	return false
}

// noObject records a document that is no object. It is skipped, unless it seems to be meant as one: as the item of a list,
// or because it has an apiVersion or a kind, and metadata. A Chart.yaml has an apiVersion alone.
func (f *file) noObject(p part, why string, isMeant bool) {
	why = "no Kubernetes object: " + why
	switch {
	case len(p.within) > 0:
		f.fail(p.at.line(), errors.New(formatPath(p.within)+": "+why))
	case isMeant:
		f.fail(p.at.line(), errors.New(why))
	default:
		f.skip(f.path, p.at.line(), why)
	}
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
	if known, misspelled := f.misspelled(version.WithKind(kind)); misspelled {
		f.fail(p.at.line(), fmt.Errorf("the API does not know the kind %s of %s, it knows %s of %s", kind, apiVersion, known.Kind, known.GroupVersion()))
		return
	}
	o := &Object{Path: f.path, Line: p.at.line(), Document: p.document, root: p.at}
	if o.Object, o.Misfits, err = decode(f.scheme, becomes(version.WithKind(kind), fields), fields); err != nil {
		f.fail(o.Line, err)
		return
	}
	f.input.Objects = append(f.input.Objects, o)
}
