// Package api proves the kinds of portcullis.dev/v1alpha1 on the real API server: what it accepts, what it refuses and
// in which words, what it fills in, and who may touch what. Its one function is for tests that must leave no field out.
package api

import (
	"encoding"
	"reflect"
	"slices"
	"strings"
)

// Fields returns the paths of all fields of an object of a kind, without apiVersion, kind and metadata, that hold a
// value rather than further fields: spec.ranges[].port, spec.namespaceSelector.matchLabels{}. They are sorted.
func Fields(object any) []string {
	all := fields("", reflect.TypeOf(object))
	all = slices.DeleteFunc(all, func(path string) bool {
		return !strings.HasPrefix(path, "spec.") && !strings.HasPrefix(path, "status.")
	})
	slices.Sort(all)
	return all
}

// SpecFields returns those of Fields that users write: what each of them does should be shown by some test.
func SpecFields(object any) []string {
	return slices.DeleteFunc(Fields(object), func(path string) bool { return !strings.HasPrefix(path, "spec.") })
}

func fields(path string, t reflect.Type) []string {
	switch {
	case t.Kind() == reflect.Pointer:
		return fields(path, t.Elem())
	case t.Kind() == reflect.Slice:
		return fields(path+"[]", t.Elem())
	case t.Kind() == reflect.Map:
		return fields(path+"{}", t.Elem())
	case t.Kind() != reflect.Struct || isText(t):
		return []string{path}
	}
	var all []string
	for f := range t.Fields() {
		name, inline := jsonName(f)
		switch {
		case inline:
			all = append(all, fields(path, f.Type)...)
		case path == "":
			all = append(all, fields(name, f.Type)...)
		default:
			all = append(all, fields(path+"."+name, f.Type)...)
		}
	}
	return all
}

// isText reports whether a struct is written as one value: a time, a duration.
func isText(t reflect.Type) bool {
	marshals := reflect.TypeFor[encoding.TextMarshaler]()
	json := reflect.TypeFor[interface{ MarshalJSON() ([]byte, error) }]()
	return t.Implements(marshals) || reflect.PointerTo(t).Implements(json)
}

func jsonName(f reflect.StructField) (name string, inline bool) {
	name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name, name == "" && strings.Contains(options, "inline")
}
