package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
)

// versions are two objects of a kind that differ in one field. They are templates, see place.fill.
type versions struct {
	kind, field string
	base        string // the spec that both have
	a, b        string // what each has beside it: maps are joined, anything else is replaced, null removes
	status      string // of both
}

func (v versions) String() string { return v.kind + " " + v.field }

// name is that of a row's test, whose number sets apart those of one field.
func (v versions) name(i int) string { return fmt.Sprintf("%s_%s_%d", v.kind, v.field, i) }

// place is where one version of a row is tried: a namespace of its own, and numbers of its own.
type place struct {
	name    string // of the namespace and, but for claims, of the object
	first   int    // N0
	now     time.Time
	version int // 0 for a, 1 for b
}

// width is how many numbers a place has.
const width = 30

var placeNumber = regexp.MustCompile(`\bN([0-9]+)\b`)

// fill gives a template the place's numbers for N0, N1 ..., its name for PLACE, and times for NOW, for AGO, an hour
// and a half before, and for SOON, a day after.
func (p place) fill(template string) string {
	text := placeNumber.ReplaceAllStringFunc(template, func(n string) string {
		i, err := strconv.Atoi(n[1:])
		if err != nil || i >= width {
			panic(n + " is not a number of a place")
		}
		return strconv.Itoa(p.first + i)
	})
	at := func(when time.Time) string { return `"` + when.UTC().Format(time.RFC3339) + `"` }
	return strings.NewReplacer("PLACE", p.name, "NOW", at(p.now), "AGO", at(p.now.Add(-90*time.Minute)), "SOON", at(p.now.Add(24*time.Hour))).Replace(text)
}

// told is a number as templates name it.
func (p place) told(number int32) string {
	if i := int(number) - p.first; i >= 0 && i < width {
		return fmt.Sprintf("N%d", i)
	}
	return "elsewhere"
}

// manifest is the version that is tried at a place.
func (v versions) manifest(p place) (string, error) {
	var spec map[string]any
	if err := yaml.UnmarshalStrict([]byte(p.fill(v.base)), &spec); err != nil {
		return "", fmt.Errorf("%s: %w", v, err)
	}
	var patch map[string]any
	if err := yaml.UnmarshalStrict([]byte(p.fill([]string{v.a, v.b}[p.version])), &patch); err != nil {
		return "", fmt.Errorf("%s: %w", v, err)
	}
	merge(spec, patch)
	name := p.name
	if v.kind == "PortClaim" {
		name = fmt.Sprintf("np-%v", spec["port"])
	}
	object := map[string]any{"apiVersion": v1alpha1.APIVersion, "kind": v.kind, "metadata": map[string]any{"name": name}, "spec": spec}
	if v.status != "" {
		var status map[string]any
		if err := yaml.UnmarshalStrict([]byte(p.fill(v.status)), &status); err != nil {
			return "", fmt.Errorf("%s: %w", v, err)
		}
		object["status"] = status
	}
	text, err := json.Marshal(object)
	return string(text), err
}

func merge(into, patch map[string]any) {
	for key, value := range patch {
		inner, isMap := value.(map[string]any)
		was, wasMap := into[key].(map[string]any)
		switch {
		case value == nil:
			delete(into, key)
		case isMap && wasMap:
			merge(was, inner)
		default:
			into[key] = value
		}
	}
}

// object is the version that is tried at a place, without its status.
func (v versions) object(p place) (client.Object, error) {
	text, err := v.manifest(p)
	if err != nil {
		return nil, err
	}
	o := map[string]client.Object{"PortPool": &v1alpha1.PortPool{}, "PortPolicy": &v1alpha1.PortPolicy{}, "PortClaim": &v1alpha1.PortClaim{}}[v.kind]
	if err := yaml.UnmarshalStrict([]byte(text), o); err != nil {
		return nil, fmt.Errorf("%s: %w", v, err)
	}
	return o, nil
}

// differing returns the paths of the fields in which the versions differ, as SpecFields names them.
func (v versions) differing() ([]string, error) {
	var of [2]map[string]string
	for i := range of {
		o, err := v.object(place{name: "place", first: 30000, now: time.Unix(1e9, 0), version: i})
		if err != nil {
			return nil, err
		}
		text, err := json.Marshal(o)
		if err != nil {
			return nil, err
		}
		var tree struct{ Spec any }
		if err := json.Unmarshal(text, &tree); err != nil {
			return nil, err
		}
		of[i] = map[string]string{}
		leaves(of[i], "spec", tree.Spec)
	}
	paths := maps.Clone(of[0])
	maps.Copy(paths, of[1])
	return slices.DeleteFunc(slices.Sorted(maps.Keys(paths)), func(path string) bool { return of[0][path] == of[1][path] }), nil
}

// leaves collects the values of a tree by path. What stands at one path, in the items of a list, is joined.
func leaves(all map[string]string, path string, value any) {
	switch value := value.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(value)) {
			if strings.HasSuffix(path, ".matchLabels") {
				all[path+"{}"] += key + "=" + fmt.Sprint(value[key]) + " "
			} else {
				leaves(all, path+"."+key, value[key])
			}
		}
	case []any:
		for _, item := range value {
			leaves(all, path+"[]", item)
		}
	default:
		all[path] += fmt.Sprintf("%v ", value)
	}
}

// compare tries both versions and holds what comes of them to want.
func compare(t *testing.T, v versions, places [2]place, want [2]string, try func(place) string) {
	t.Helper()
	var got [2]string
	for i, p := range places {
		got[i] = try(p)
	}
	if got[0] == got[1] {
		t.Errorf("%s has no effect: %s and %s both lead to %q", v, v.a, v.b, got[0])
	}
	for i, version := range []string{v.a, v.b} {
		if got[i] != want[i] {
			t.Errorf("%s: %s leads to %q, want %q", v, version, got[i], want[i])
		}
	}
}
