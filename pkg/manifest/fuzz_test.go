package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	kjson "sigs.k8s.io/json"
	kyaml "sigs.k8s.io/yaml"
)

// addSamples seeds a fuzz test with the samples and with what YAML libraries trip over.
func addSamples(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("..", "..", "config", "samples", "*.yaml"))
	if err != nil || len(files) == 0 {
		f.Fatalf("no samples: %v", err)
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	for _, text := range []string{
		"", "---\n", "{}{}", "a: &a [*a]", "a: &a {b: 1}\nc: {<<: *a, b: 2}\nd: {b: 2, <<: [*a, *a]}\n", "a: yes\nb: 0o17\nc: 1_0\nd: 1e400\ne: !!binary aGk=\nf: =\n",
		"1: a\n1.5: b\ntrue: c\n0x10: d\n", "- |\n a\n- >-\n b\n- 'c'\n- \"\\u263a\"\n", "apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: Pod, spec: {hostPID: 5}}]\n",
		`{"apiVersion":"v1","kind":"ServiceList","items":[{"spec":{"ports":[{"port":"x"}]}}]}`, "apiVersion: portcullis.dev/v1\nkind: A\n", "\ufeffa: 1\r\n", "a: 2001-01-01\nb: 1:30\n", "!!set {a, b}", "{{ x }}",
		// What would take long: aliases of aliases, merges of merges, depth, a long name.
		"a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: [*c, *c]\n", "a: &a {x: 1}\nb: &b {<<: [*a, *a], y: 1}\nc: {<<: [*b, *b], y: 2}\n",
		"a: " + strings.Repeat("[", 1100) + strings.Repeat("]", 1100), strings.Repeat("{a: ", 1100) + strings.Repeat("}", 1100), `{"a":` + strings.Repeat("[", 1100),
		"? " + strings.Repeat("k", 1100) + "\n: 1\n" + strings.Repeat("l", 1100) + ": 1\n",
	} {
		f.Add([]byte(text))
	}
}

// FuzzParse wants no panic, only objects and errors on lines that exist, and a JSON file of what was read to say the
// same.
func FuzzParse(f *testing.F) {
	addSamples(f)
	breaks := regexp.MustCompile("[\n\r\u0085\u2028\u2029]")
	scheme := Scheme()
	f.Fuzz(func(t *testing.T, data []byte) {
		if !utf8.Valid(data) || len(data) > 1<<16 {
			return // the lines of UTF-16 are counted otherwise
		}
		last := 1 + len(breaks.FindAll(data, -1))
		in, err := Parse("f", data, scheme)
		for _, err := range each(err) {
			var e *Error
			if !errors.As(err, &e) || e.Line < 1 || e.Line > last {
				t.Errorf("an error outside the %d lines: %v", last, err)
			}
		}
		for _, o := range in.Objects {
			for _, field := range []string{"", "spec.ports[0].nodePort", "metadata.name", "spec.template.spec.containers[0].ports[1].hostPort"} {
				if line := o.LineOf(field); line < 1 || line > last {
					t.Errorf("LineOf(%s) = %d of %d lines", field, line, last)
				}
			}
			sameFromJSON(t, o)
		}
	})
}

func each(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return nil
}

func sameFromJSON(t *testing.T, o *Object) {
	t.Helper()
	text, err := json.Marshal(o.Object)
	if err != nil {
		t.Fatalf("the object cannot be written: %v", err)
	}
	again, err := Parse("f", text, Scheme())
	if err != nil || len(again.Objects) != 1 {
		t.Fatalf("%s is read as %d objects, error %v", text, len(again.Objects), err)
	}
	written, err := json.Marshal(again.Objects[0].Object)
	if err != nil || !bytes.Equal(text, written) {
		t.Errorf("read from its own JSON the object has changed, error %v:\n%s\n%s", err, text, written)
	}
}

// FuzzValue holds the conversion to what kubectl's library makes of the same document.
func FuzzValue(f *testing.F) {
	addSamples(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		if regexp.MustCompile(`!(\s|$)`).Match(data) {
			return // the YAML library forgets the tag that is a single !
		}
		documents, broken := parseYAML(data)
		if broken != nil || len(documents) != 1 || documents[0] == nil {
			return
		}
		v, _, errs := value(documents[0])
		reference, err := kyaml.YAMLToJSONStrict(data)
		if err != nil || len(errs) > 0 {
			return // we refuse more, the reference refuses what another version of YAML allows
		}
		got, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(fromJSON(t, reference), fromJSON(t, got)); diff != "" {
			t.Errorf("%q (-sigs.k8s.io/yaml +ours):\n%s", data, diff)
		}
	})
}

func fromJSON(t *testing.T, text []byte) any {
	t.Helper()
	var v any
	if err := kjson.UnmarshalCaseSensitivePreserveInts(text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// FuzzPath wants a path to keep its meaning when it is written; a name with a bracket in it has no spelling.
func FuzzPath(f *testing.F) {
	for _, path := range []string{"", "spec.ports[0].nodePort", "metadata.annotations[a.b/c]", "a[", "[]]", "..", "a[-1]"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		steps := parsePath(path)
		if slices.ContainsFunc(steps, func(s step) bool { return strings.ContainsAny(s.name, "[]") }) {
			return
		}
		names := func(s step) string { return s.name }
		written := formatPath(steps)
		if diff := cmp.Diff(steps, parsePath(written), cmp.Transformer("name", names)); diff != "" {
			t.Errorf("%q is written %q, which means something else:\n%s", path, written, diff)
		}
	})
}
