package api

import (
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tag is what a field of a Go type says of being left out.
type tag struct{ omits, pointer bool }

// tags returns them for every field below spec and status of an object, by its path.
func tags(object any) map[string]tag {
	all := map[string]tag{}
	collect(all, "", reflect.TypeOf(object))
	return all
}

func collect(all map[string]tag, path string, t reflect.Type) {
	switch t.Kind() {
	case reflect.Pointer:
		collect(all, path, t.Elem())
	case reflect.Slice:
		collect(all, path+"[]", t.Elem())
	case reflect.Struct:
		for f := range t.Fields() {
			name, inline := jsonName(f)
			if inline {
				collect(all, path, f.Type)
				continue
			}
			full := strings.TrimPrefix(path+"."+name, ".")
			if path == "" && name != "spec" && name != "status" {
				continue
			}
			_, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			all[full] = tag{omits: strings.Contains(options, "omit"), pointer: f.Type.Kind() == reflect.Pointer}
			if !isText(f.Type) {
				collect(all, full, f.Type)
			}
		}
	}
}

func TestFields(t *testing.T) {
	type item struct {
		Port int `json:"port"`
	}
	type spec struct {
		item   `json:",inline"`
		Items  []item            `json:"items"`
		Labels map[string]string `json:"labels"`
		Deep   *struct {
			Words []string `json:"words"`
		} `json:"deep"`
	}
	type object struct {
		Kind   string `json:"kind"`
		Spec   spec   `json:"spec"`
		Status item   `json:"status"`
	}
	want := []string{"spec.deep.words[]", "spec.items[].port", "spec.labels{}", "spec.port", "status.port"}
	if diff := cmp.Diff(want, Fields(object{})); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want[:4], SpecFields(object{})); diff != "" {
		t.Errorf("fields of the spec (-want +got):\n%s", diff)
	}
}
