// Package manifest reads Kubernetes objects from files, folders and streams, and remembers the path and the line of
// each of them and of their fields.
//
//	paths -> files -> documents -> values with their lines -> Objects of the Scheme's types
//
// Read returns an Input; Parse is for data in memory. Object.LineOf returns the line of a field. What cannot be read
// hides nothing else: a broken document is an *Error in Input.Unread and the documents around it are read, a value that
// does not fit its field is a Misfit and the object is read without it. What is no object is in Input.Skipped.
//
// It reads what kubectl reads, with the same meaning: YAML as sigs.k8s.io/yaml understands it (1.1: `on` is true, and
// a merge key replaces what stands above it), JSON, several documents in a row, lists. Fields that a kind does not
// have are left alone, except in the kinds of portcullis.dev, where they are errors. Nothing is defaulted. Workloads of
// API versions that are gone are read as what they became (converted.go).
package manifest

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Object is an object of the input and where it stands.
type Object struct {
	// Object has the type that the scheme knows for its kind, else is *unstructured.Unstructured. Its apiVersion and
	// kind are set, also where an item of a typed list leaves them out. An object of Portcullis' own kinds with misfits is
	// *unstructured.Unstructured too: half a policy is another policy.
	Object runtime.Object
	// Path is the file's, as it was asked for or below the folder that was; "-" for standard input.
	Path string
	// Line is that of the object's first field, or of the item of a list, from 1.
	Line int
	// Document counts the documents of the file, from 0.
	Document int
	// Misfits are the fields that Object is without, sorted by path: their values do not fit.
	Misfits []Misfit

	root place
}

// Misfit is a field that cannot be read.
type Misfit struct {
	Field string // its path in the object, "spec.ports[0].nodePort"
	Err   error  // what is wrong with its value, without the path
	// Known is how the API spells the field's name, where nothing else is wrong with it.
	Known string
}

// LineOf returns the line of a field such as spec.ports[0].nodePort or metadata.annotations[example.com/a]. For a
// field that does not stand in the file it is the line of the nearest one around it.
func (o *Object) LineOf(field string) int { return lineOf(o.root, parsePath(field)) }

// Position returns "web.yaml:12", where the object begins.
func (o *Object) Position() string { return strings.TrimSuffix(position(o.Path, o.Line), ": ") }

// Skipped is what was found and not read, because it is no manifest, or no whole one.
type Skipped struct {
	Path   string
	Line   int // 0: all of Path
	Reason string
}

// String returns "values.yaml:1: no Kubernetes object: it has no apiVersion and no kind".
func (s Skipped) String() string { return position(s.Path, s.Line) + s.Reason }

// Input is everything that was read.
type Input struct {
	Objects []*Object // in the order of the paths asked for, then of the files' paths, then of their documents
	Skipped []Skipped
	// Unread is what is or may be a manifest and cannot be read: a file, a document, an item of a list. It is sorted by path
	// and line.
	Unread []*Error
}

// Err joins an *Error for everything that is unread or does not fit, sorted by path and line; nil if there is nothing.
func (in Input) Err() error {
	errs := slices.Clone(in.Unread)
	for _, o := range in.Objects {
		for _, m := range o.Misfits {
			if m.Known == "" {
				errs = append(errs, &Error{o.Path, o.LineOf(m.Field), fmt.Errorf("%s: %w", m.Field, m.Err)})
			}
		}
	}
	var joined []error
	for _, err := range sorted(errs) {
		joined = append(joined, err)
	}
	return errors.Join(joined...)
}

// sorted sorts errors by path and line, and leaves out what is said twice: a field of an anchor is met at each of its
// aliases.
func sorted(errs []*Error) []*Error {
	slices.SortStableFunc(errs, func(a, b *Error) int {
		if c := cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Line, b.Line)); c != 0 {
			return c
		}
		return cmp.Compare(a.Error(), b.Error())
	})
	return slices.CompactFunc(errs, func(a, b *Error) bool { return a.Error() == b.Error() })
}

// Error is what is wrong with one place of the input.
type Error struct {
	Path string
	Line int // 0: all of Path
	Err  error
}

// Error returns "web.yaml:12: spec.ports[0].nodePort: …".
func (e *Error) Error() string { return position(e.Path, e.Line) + e.Err.Error() }

// Unwrap returns what is wrong.
func (e *Error) Unwrap() error { return e.Err }

func position(path string, line int) string {
	if path == stdinPath {
		path = "standard input"
	}
	if line == 0 {
		return path + ": "
	}
	return fmt.Sprintf("%s:%d: ", path, line)
}

// Options are how Read reads.
type Options struct {
	Stdin  io.Reader // nil: there is none
	Scheme *runtime.Scheme
	// Exclude are patterns of files and folders that are left out, as lines of an ignore file (ignore.go) in each folder that
	// is named; of files that are named themselves too.
	Exclude []string
	// Tell, if it is not nil, is called after each file that was read, before objects are made of it: with large files that is
	// what takes long.
	Tell func(Progress)
}

// Read reads each of paths: a file, a folder with everything below it, or "-" for stdin. Of a folder it takes the
// files *.yaml, *.yml and *.json, in any case. What is hidden, excluded, or ignored by a file IgnoreFile is left out.
// Documents that are no manifest, because they have no apiVersion and no kind, and patches of a kustomization that is read too
// are listed in Input.Skipped. A path that is named twice is read once.
//
// The error is about the paths and patterns: one that does not exist, or is malformed. What cannot be read is in
// Input.Unread.
func Read(paths []string, o Options) (Input, error) {
	r := &reader{scheme: o.Scheme}
	sources, err := r.sources(paths, o.Exclude)
	if err != nil {
		return Input{}, err
	}
	progress := Progress{All: len(sources)}
	for _, one := range r.readAll(sources, func(s source) ([]byte, error) {
		data, err := s.read(o.Stdin)
		progress.Files++
		progress.Bytes += int64(len(data))
		if o.Tell != nil {
			o.Tell(progress)
		}
		return data, err
	}) {
		r.add(one)
	}
	r.withoutPatches()
	r.input.Unread = sorted(r.input.Unread)
	return r.input, nil
}

// Progress is how far a reading has come.
type Progress struct {
	Files int   // read so far
	All   int   // to be read
	Bytes int64 // of those read so far
}

// Parse is Read for data that the caller holds already, and wants whole: the error is Input.Err.
func Parse(path string, data []byte, scheme *runtime.Scheme) (Input, error) {
	r := &reader{scheme: scheme}
	r.file(source{path: path}, data)
	r.input.Unread = sorted(r.input.Unread)
	return r.input, r.input.Err()
}

// Scheme returns a scheme of the kinds that claim ports or say who receives their packets.
func Scheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, batchv1.AddToScheme, discoveryv1.AddToScheme, networkingv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			panic(err) // two of the groups would have to register one kind
		}
	}
	return scheme
}

// reader collects what is read and what is wrong.
type reader struct {
	scheme    *runtime.Scheme
	input     Input
	patches   []patch
	resources []string // files that a kustomization takes for objects
}

func (r *reader) fail(path string, line int, err error) {
	r.input.Unread = append(r.input.Unread, &Error{Path: path, Line: line, Err: err})
}

func (r *reader) skip(path string, line int, reason string) {
	r.input.Skipped = append(r.input.Skipped, Skipped{Path: path, Line: line, Reason: reason})
}
