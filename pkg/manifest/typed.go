package manifest

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kjson "sigs.k8s.io/json"
)

// wrongField is a field whose value does not fit.
type wrongField struct {
	path []step
	err  error
}

// decode turns fields into an object of the type that the scheme has for its kind, without those that do not fit. It takes
// them out of fields. The error is about the object as a whole.
func decode(scheme *runtime.Scheme, kind schema.GroupVersionKind, fields map[string]any) (runtime.Object, []Misfit, error) {
	if !scheme.Recognizes(kind) {
		return decodeUntyped(fields, nil)
	}
	object, wrong, err := decodeTyped(scheme, kind, fields)
	switch {
	case err != nil:
		return nil, nil, err
	case len(wrong) == 0:
		return object, wrongCase(reflect.TypeOf(object).Elem(), fields), nil
	case isOurs(kind.Group):
		return decodeUntyped(fields, wrong)
	}
	found := append(misfits(wrong), wrongCase(reflect.TypeOf(object).Elem(), fields)...)
	remove(fields, wrong)
	if object, wrong, err = decodeTyped(scheme, kind, fields); err != nil || len(wrong) > 0 { // there were more than are looked for
		object, _, err = decodeUntyped(fields, nil)
	}
	return object, found, err
}

func decodeTyped(scheme *runtime.Scheme, kind schema.GroupVersionKind, fields map[string]any) (runtime.Object, []wrongField, error) {
	data, err := json.Marshal(fields)
	if err != nil {
		return nil, nil, err
	}
	object, err := scheme.New(kind)
	if err != nil {
		return nil, nil, err
	}
	if !isOurs(kind.Group) {
		err = kjson.UnmarshalCaseSensitivePreserveInts(data, object)
		return object, misfitting(object, fields, err), nil
	}
	unknown, err := kjson.UnmarshalStrict(data, object, kjson.DisallowUnknownFields)
	return object, append(misfitting(object, fields, err), unknownFields(unknown)...), nil
}

// decodeUntyped reads an object of a kind that nobody knows, or that has wrong fields; its metadata are everybody's.
func decodeUntyped(fields map[string]any, wrong []wrongField) (runtime.Object, []Misfit, error) {
	data, err := json.Marshal(fields)
	if err != nil {
		return nil, nil, err
	}
	var metadata metav1.PartialObjectMetadata
	if err := kjson.UnmarshalCaseSensitivePreserveInts(data, &metadata); err != nil {
		found := misfitting(&metadata, fields, err)
		if remove(fields, found); wrong == nil {
			wrong = found // otherwise they are among the others
		}
		if data, err = json.Marshal(fields); err != nil {
			return nil, nil, err
		}
	}
	object := &unstructured.Unstructured{}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(data, &object.Object); err != nil {
		return nil, nil, err
	}
	return object, misfits(wrong), nil
}

func misfits(wrong []wrongField) []Misfit {
	var all []Misfit
	for _, w := range wrong {
		all = append(all, Misfit{Field: formatPath(w.path), Err: w.err})
	}
	return all
}

// remove takes fields out of an object. The items of a list keep their places.
func remove(fields map[string]any, wrong []wrongField) {
	for _, w := range wrong {
		var v any = fields
		for i, s := range w.path {
			isLast := i == len(w.path)-1
			switch in := v.(type) {
			case map[string]any:
				if v = in[s.name]; isLast {
					delete(in, s.name)
				}
			case []any:
				if s.index < 0 || s.index >= len(in) {
					continue
				}
				if v = in[s.index]; isLast {
					in[s.index] = nil
				}
			}
		}
	}
}

// isOurs reports whether a group is Portcullis': in its kinds an unknown field is a mistake, never another version's.
func isOurs(group string) bool {
	return group == "portcullis.dev" || strings.HasSuffix(group, ".portcullis.dev")
}

func unknownFields(errs []error) []wrongField {
	var wrong []wrongField
	for _, err := range errs {
		var unknown kjson.FieldError
		if !errors.As(err, &unknown) {
			wrong = append(wrong, wrongField{err: err})
			continue
		}
		wrong = append(wrong, wrongField{parsePath(unknown.FieldPath()), errors.New("no such field; correct or remove it")})
	}
	return wrong
}

// misfitting finds the fields that do not fit object's type, once err has told that there are some. The decoder tells of
// the first one only, and not which item of a list it is in. So every value is decoded by itself, inside empty
// surroundings: one that fails there is to blame.
func misfitting(object any, fields map[string]any, err error) []wrongField {
	if err == nil {
		return nil
	}
	s := search{object: reflect.TypeOf(object).Elem()}
	s.below(nil, fields)
	if len(s.found) == 0 {
		return []wrongField{{err: plainJSON(err)}}
	}
	return s.found
}

// search collects the values that do not fit; the first hundred of an object are enough to know what is going on.
type search struct {
	object reflect.Type
	found  []wrongField
}

func (s *search) below(path []step, v any) {
	if len(s.found) >= 100 {
		return
	}
	switch v := v.(type) {
	case map[string]any:
		if s.fits(path, map[string]any{}, v) {
			for _, name := range slices.Sorted(maps.Keys(v)) {
				s.below(append(path, fieldStep(name)), v[name])
			}
		}
	case []any:
		if s.fits(path, []any{}, v) {
			for i, item := range v {
				s.below(append(path, indexStep(i)), item)
			}
		}
	default:
		s.fits(path, v, v)
	}
}

// fits reports whether value, which stands for full, can be decoded at path, and notes it if not.
func (s *search) fits(path []step, value, full any) bool {
	for _, at := range slices.Backward(path) {
		if at.index >= 0 {
			value = []any{value}
		} else {
			value = map[string]any{at.name: value}
		}
	}
	data, err := json.Marshal(value)
	if err == nil {
		err = kjson.UnmarshalCaseSensitivePreserveInts(data, reflect.New(s.object).Interface())
	}
	if err != nil {
		s.found = append(s.found, wrongField{slices.Clone(path), explain(err, full)})
	}
	return err == nil
}

// explain says what is wanted instead of v.
func explain(err error, v any) error {
	var mismatch *json.UnmarshalTypeError
	text, isText := v.(string)
	if !errors.As(err, &mismatch) {
		if err = plainJSON(err); isText && isTemplate(text) {
			err = fmt.Errorf("%s: %q does not fit", looksLikeTemplate(text), text)
		}
		return err
	}
	var want, todo string
	switch kind := mismatch.Type.Kind(); {
	case kind >= reflect.Int && kind <= reflect.Uint64:
		want = fmt.Sprintf("a whole number of %d bits", mismatch.Type.Bits())
		if isText && json.Unmarshal([]byte(text), new(int32)) == nil {
			todo = ": remove the quotes"
		}
	case kind == reflect.String:
		want = "text"
		if !isText && !strings.HasPrefix(show(v), "a ") {
			todo = ": put it in quotes"
		}
	case kind == reflect.Bool:
		want = "true or false"
	case kind == reflect.Slice || kind == reflect.Array:
		want = "a list"
	case kind == reflect.Map || kind == reflect.Struct:
		want = "a mapping"
	default:
		want = "a " + kind.String()
	}
	if isText && isTemplate(text) {
		return fmt.Errorf("%s: want %s, not %s", looksLikeTemplate(text), want, show(v))
	}
	return fmt.Errorf("want %s, not %s%s", want, show(v), todo)
}

func show(v any) string {
	switch v := v.(type) {
	case map[string]any:
		return "a mapping"
	case []any:
		return "a list"
	case string:
		const most = 40
		if runes := []rune(v); len(runes) > most {
			v = string(runes[:most]) + "…"
		}
		return fmt.Sprintf("%q", v)
	default:
		return fmt.Sprint(v)
	}
}

func plainJSON(err error) error { return errors.New(strings.TrimPrefix(err.Error(), "json: ")) }
