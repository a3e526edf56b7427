// Package manifest reads Kubernetes objects from files, folders and streams, and remembers the path and the line of
// each of them and of their fields.
//
// It reads what kubectl reads, with the same meaning: YAML as sigs.k8s.io/yaml understands it (1.1: `on` is true, and
// a merge key replaces what stands above it), JSON, several documents in a row, lists. Fields that a kind does not
// have are left alone, except in the kinds of portcullis.dev, where they are errors. Nothing is defaulted.
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
	// kind are set, also where an item of a typed list leaves them out.
	Object runtime.Object
	// Path is the file's, as it was asked for or below the folder that was; "-" for standard input.
	Path string
	// Line is that of the object's first field, or of the item of a list, from 1.
	Line int
	// Document counts the documents of the file, from 0.
	Document int

	root place
}

// LineOf returns the line of a field such as spec.ports[0].nodePort or metadata.annotations[example.com/a]. For a
// field that does not stand in the file it is the line of the nearest one around it.
func (o *Object) LineOf(field string) int { return lineOf(o.root, parsePath(field)) }

// Position returns "web.yaml:12", where the object begins.
func (o *Object) Position() string { return strings.TrimSuffix(position(o.Path, o.Line), ": ") }

// Skipped is what was found in a folder and not read.
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

// Read reads each of paths: a file, a folder with everything below it, or "-" for stdin. Of a folder it takes the
// files *.yaml, *.yml and *.json; what is hidden, and documents that have no apiVersion or no kind, are left out, the
// latter listed in Input.Skipped. A file that is named itself must hold nothing but objects. A path that is named
// twice is read once.
//
// The error joins an *Error for everything that is wrong, sorted by path and line. Next to it Input holds what could
// be read nevertheless.
func Read(paths []string, stdin io.Reader, scheme *runtime.Scheme) (Input, error) {
	return ReadTelling(paths, stdin, scheme, func(Progress) {})
}

// Progress is how far a reading has come.
type Progress struct {
	Files int   // read so far
	All   int   // to be read
	Bytes int64 // of those read so far
}

// ReadTelling is Read that tells how far it is after each file that it has read, before it makes objects of it: with
// large files that is what takes long.
func ReadTelling(paths []string, stdin io.Reader, scheme *runtime.Scheme, tell func(Progress)) (Input, error) {
	r := &reader{scheme: scheme}
	sources := r.sources(paths)
	progress := Progress{All: len(sources)}
	for _, one := range r.readAll(sources, func(s source) ([]byte, error) {
		data, err := s.read(stdin)
		progress.Files++
		progress.Bytes += int64(len(data))
		tell(progress)
		return data, err
	}) {
		r.add(one)
	}
	return r.result()
}

// Parse is Read for data that the caller holds already, as a file that is named itself.
func Parse(path string, data []byte, scheme *runtime.Scheme) (Input, error) {
	r := &reader{scheme: scheme}
	r.file(source{path: path}, data)
	return r.result()
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
	scheme *runtime.Scheme
	input  Input
	errs   []*Error
}

func (r *reader) fail(path string, line int, err error) {
	r.errs = append(r.errs, &Error{Path: path, Line: line, Err: err})
}

func (r *reader) skip(path string, line int, reason string) {
	r.input.Skipped = append(r.input.Skipped, Skipped{Path: path, Line: line, Reason: reason})
}

func (r *reader) result() (Input, error) {
	slices.SortStableFunc(r.errs, func(a, b *Error) int {
		if c := cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Line, b.Line)); c != 0 {
			return c
		}
		return cmp.Compare(a.Error(), b.Error())
	})
	var joined []error
	for i, err := range r.errs {
		if i == 0 || err.Error() != r.errs[i-1].Error() { // a field of an anchor is met at each of its aliases
			joined = append(joined, err)
		}
	}
	return r.input, errors.Join(joined...)
}
