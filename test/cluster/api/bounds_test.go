package api

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// variation is a value for a field, on one side or the other of a bound.
type variation struct {
	path    string
	value   any
	breaks  bool   // else it is just within the bound
	message string // of the refusal, in part; its field is the path
}

// testBounds: the API server holds every field of every kind to every bound of its schema, and takes what just keeps
// it. What it says is its own.
func (s *server) testBounds(t *testing.T) {
	for kind, sch := range schemas(t) {
		t.Run(kind, func(t *testing.T) {
			stored := s.create(t, full(t, kind))
			tried := 0
			for _, v := range variations(t, sch, full(t, kind).Object) {
				tried++
				s.try(t, stored, v)
			}
			t.Logf("%d variations", tried)
		})
	}
}

// try tries a variation of an object that has every field, its spec on a create and its status on an update.
func (s *server) try(t *testing.T, stored *unstructured.Unstructured, v variation) {
	t.Helper()
	u := full(t, stored.GetKind())
	set(t, u.Object, v.path, v.value)
	var err error
	if strings.HasPrefix(v.path, "status") {
		err = s.tryStatus(t, u, stored)
	} else {
		if u.GetKind() != "PortClaim" {
			u.SetName("another")
		}
		err = s.tryStore(t, u, nil)
	}
	if found := slices.ContainsFunc(causes(t, notExisting(err)), func(c metav1.StatusCause) bool {
		return c.Field == v.path && strings.Contains(c.Message, v.message)
	}); found != v.breaks {
		t.Errorf("%s = %.80s: refused there is %v, want %v with %q:\n%v", v.path, fmt.Sprint(v.value), found, v.breaks, v.message, err)
	}
}

// notExisting drops the error that there is such a claim already, whose name cannot be another: what is wrong with an
// object is found before that.
func notExisting(err error) error {
	if err != nil && strings.Contains(err.Error(), "already exists") {
		return nil
	}
	return err
}

// variations returns those that each constraint of a schema gives rise to. An object that has every field says where
// the fields are.
func variations(t *testing.T, s *schema, object map[string]any) []variation {
	t.Helper()
	var all []variation
	s.walk(func(path string, s *schema) {
		if path == "status.conditions[]" || fromKubernetes(path) { // Kubernetes' own bounds
			return
		}
		at := placeIn(t, path, object)
		all = append(all, scalars(at, s)...)
		all = append(all, sizes(t, at, s, object)...)
		for _, name := range s.Required {
			missing := at + "." + name
			all = append(all, variation{missing, absent{}, true, "Required value"})
		}
		if path == "status" || path == "spec" { // another type would make it no such object at all
			return
		}
		all = append(all, variation{at, map[string]any{"string": int64(5), "integer": "5", "array": "a", "object": "a"}[s.Type], true, "must be of type " + s.typeInWords()})
		if s.required {
			all = append(all, variation{at, nil, true, ""})
		}
	})
	return all
}

// typeInWords returns what the API server calls the type: the format, where it checks that.
func (s *schema) typeInWords() string {
	if s.Format == "date-time" {
		return s.Format
	}
	return s.Type
}

// placeIn returns where the object has the first field that a schema's path is about.
func placeIn(t *testing.T, path string, object map[string]any) string {
	t.Helper()
	at := strings.ReplaceAll(path, "[]", "[0]")
	parent, ok := strings.CutSuffix(at, "{}")
	if !ok {
		return at
	}
	return parent + "." + slices.Min(slices.Collect(maps.Keys(get(t, object, parent).(map[string]any))))
}

func scalars(at string, s *schema) []variation {
	var all []variation
	add := func(breaks bool, value any, message string) {
		all = append(all, variation{at, value, breaks, message})
	}
	if s.Maximum != nil {
		message := fmt.Sprintf("should be less than or equal to %d", *s.Maximum)
		add(true, *s.Maximum+1, message)
		add(false, *s.Maximum, message)
	}
	if s.Minimum != nil {
		message := fmt.Sprintf("should be greater than or equal to %d", *s.Minimum)
		add(true, *s.Minimum-1, message)
		add(false, *s.Minimum, message)
	}
	if s.MaxLength != nil {
		message := fmt.Sprintf("may not be more than %d bytes", *s.MaxLength)
		add(true, strings.Repeat("a", *s.MaxLength+1), message)
		add(false, strings.Repeat("a", *s.MaxLength), message)
	}
	if s.MinLength != nil {
		add(true, "", "should be at least 1 chars long")
		add(false, "a", "should be at least 1 chars long")
	}
	if s.Pattern != "" {
		add(true, "no match", "should match")
	}
	if s.Format == "date-time" {
		add(true, "2026-02-30T00:00:00Z", "must be of type date-time")
		add(false, "2026-02-28T00:00:00Z", "must be of type date-time")
	}
	for _, value := range s.Enum {
		add(false, value, "Unsupported value")
	}
	if len(s.Enum) > 0 {
		add(true, "Nonsense", "Unsupported value")
	}
	return all
}

// sizes returns variations of what has items: as many as there may be, and one more; as few, and one less.
func sizes(t *testing.T, at string, s *schema, object map[string]any) []variation {
	t.Helper()
	var all []variation
	add := func(breaks bool, value any, message string) {
		all = append(all, variation{at, value, breaks, message})
	}
	if s.MaxItems != nil {
		message := fmt.Sprintf("must have at most %d items", *s.MaxItems)
		add(true, items(t, at, object, *s.MaxItems+1), message)
		add(false, items(t, at, object, *s.MaxItems), message)
	}
	if s.MinItems != nil {
		add(true, []any{}, "should have at least 1 items")
	}
	if s.MaxProperties != nil {
		message := fmt.Sprintf("must have at most %d items", *s.MaxProperties)
		add(true, labels(*s.MaxProperties+1), message)
		add(false, labels(*s.MaxProperties), message)
	}
	if s.MinProperties != nil {
		add(true, map[string]any{}, "should have at least 1 properties")
	}
	return all
}

// items returns a list of n copies of the first item at a path, each with a name of its own if it has one.
func items(t *testing.T, at string, object map[string]any, n int) []any {
	t.Helper()
	first := get(t, object, at).([]any)[0]
	var list []any
	for i := range n {
		item := first
		if fields, ok := first.(map[string]any); ok {
			copied := maps.Clone(fields)
			for _, key := range []string{"name", "type"} {
				if _, ok := copied[key]; ok {
					copied[key] = fmt.Sprintf("n%d", i)
				}
			}
			item = copied
		}
		list = append(list, item)
	}
	return list
}

func labels(n int) map[string]any {
	all := map[string]any{}
	for i := range n {
		all[fmt.Sprintf("l%d", i)] = "v"
	}
	return all
}
