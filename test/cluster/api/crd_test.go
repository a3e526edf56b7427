package api

import (
	"cmp"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
)

const (
	crds    = "../../../config/crd/bases/*.yaml"
	samples = "../../../config/samples/pools/*.yaml"
)

// kinds returns an empty object of each kind.
func kinds() map[string]any {
	return map[string]any{"PortPool": v1alpha1.PortPool{}, "PortPolicy": v1alpha1.PortPolicy{}, "PortClaim": v1alpha1.PortClaim{}}
}

// definition is what these tests read of a CustomResourceDefinition.
type definition struct {
	Spec struct {
		Names    struct{ Kind, Plural string }
		Versions []struct {
			Schema struct {
				OpenAPIV3Schema *schema `json:"openAPIV3Schema"`
			}
		}
	}
}

// schema is what these tests know of a schema. Reading is strict: what they do not know is not tested either.
type schema struct {
	Type                 string
	Format               string
	Description          string
	Default              any
	Properties           map[string]*schema
	AdditionalProperties *schema
	Items                *schema
	Required             []string
	Enum                 []string
	Pattern              string
	Minimum, Maximum     *int64
	MinLength, MaxLength *int
	MinItems, MaxItems   *int
	MinProperties        *int
	MaxProperties        *int
	ListType             string   `json:"x-kubernetes-list-type"`
	ListMapKeys          []string `json:"x-kubernetes-list-map-keys"`
	MapType              string   `json:"x-kubernetes-map-type"`
	Rules                []rule   `json:"x-kubernetes-validations"`

	required bool // by the schema around it
}

type rule struct {
	Rule, Message, FieldPath, Reason string
}

// schemas returns the schema of each kind.
func schemas(t *testing.T) map[string]*schema {
	t.Helper()
	all := map[string]*schema{}
	for _, file := range glob(t, crds) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var d definition
		if err := yaml.Unmarshal(text, &d); err != nil {
			t.Fatal(err)
		}
		var strict struct {
			Spec struct {
				Versions []struct {
					Schema struct {
						OpenAPIV3Schema any `json:"openAPIV3Schema"`
					}
				}
			}
		}
		if err := yaml.Unmarshal(text, &strict); err != nil {
			t.Fatal(err)
		}
		if len(d.Spec.Versions) != 1 {
			t.Fatalf("%s has %d versions", file, len(d.Spec.Versions))
		}
		text, err = yaml.Marshal(strict.Spec.Versions[0].Schema.OpenAPIV3Schema)
		if err != nil {
			t.Fatal(err)
		}
		s := &schema{}
		if err := yaml.UnmarshalStrict(text, s); err != nil {
			t.Fatalf("%s has something in its schema that no test knows: %v", file, err)
		}
		all[d.Spec.Names.Kind] = s
	}
	if len(all) != len(kinds()) {
		t.Fatalf("there are %d definitions for %d kinds", len(all), len(kinds()))
	}
	return all
}

// walk calls visit for every schema of a kind's spec and status, those around before those in them. Paths are those of
// Fields.
func (s *schema) walk(visit func(path string, s *schema)) {
	for _, name := range []string{"spec", "status"} {
		s.Properties[name].required = slices.Contains(s.Required, name)
		s.Properties[name].down(name, visit)
	}
}

func (s *schema) down(path string, visit func(path string, s *schema)) {
	visit(path, s)
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		s.Properties[name].required = slices.Contains(s.Required, name)
		s.Properties[name].down(path+"."+name, visit)
	}
	if s.Items != nil {
		s.Items.down(path+"[]", visit)
	}
	if s.AdditionalProperties != nil {
		s.AdditionalProperties.down(path+"{}", visit)
	}
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: no such file (%v)", pattern, err)
	}
	return files
}

// eachField runs a test over every schema of every kind.
func eachField(t *testing.T, test func(t *testing.T, kind, path string, s *schema)) {
	t.Helper()
	for kind, s := range schemas(t) {
		t.Run(kind, func(t *testing.T) {
			s.walk(func(path string, s *schema) { test(t, kind, path, s) })
		})
	}
}

// fromKubernetes reports whether a field is one of a condition, as whose type Kubernetes defines it.
func fromKubernetes(path string) bool { return strings.HasPrefix(path, "status.conditions[]") }

// TestBounds: nothing can grow without end, in a number or in memory.
func TestBounds(t *testing.T) {
	eachField(t, func(t *testing.T, _, path string, s *schema) {
		missing := ""
		switch {
		case s.Type == "number", s.Format == "float", s.Format == "double":
			missing = "another type: floats are read differently by everybody"
		case s.Type == "boolean":
			missing = "an enum in its place, which can be extended"
		case s.Type == "integer" && s.Minimum == nil:
			missing = "a minimum"
		case s.Type == "integer" && s.Maximum == nil && strings.HasPrefix(path, "spec"):
			missing = "a maximum"
		case s.Type == "array" && s.MaxItems == nil:
			missing = "maxItems"
		case s.Type == "string" && s.MaxLength == nil && len(s.Enum) == 0 && path != "status.conditions[].lastTransitionTime":
			missing = "maxLength or an enum"
		case s.AdditionalProperties != nil && s.MaxProperties == nil:
			missing = "maxProperties"
		case s.Type == "object" && s.AdditionalProperties == nil && len(s.Properties) == 0:
			missing = "properties"
		case !slices.Contains([]string{"integer", "array", "string", "object"}, s.Type):
			missing = "a type that this test knows, not " + s.Type
		}
		if missing != "" {
			t.Errorf("%s needs %s", path, missing)
		}
	})
}

// TestLists: it is said of every list how appliers share it.
func TestLists(t *testing.T) {
	eachField(t, func(t *testing.T, _, path string, s *schema) {
		if s.Type != "array" {
			return
		}
		switch s.ListType {
		case "atomic":
			if _, named := s.Items.Properties["name"]; named && s.Items.Properties["namespace"] == nil {
				t.Errorf("%s is atomic, and its items have a name: it should be a map", path)
			}
		case "set":
			if s.Items.Type == "object" {
				t.Errorf("%s is a set of objects", path)
			}
		case "map":
			for _, key := range s.ListMapKeys {
				if !slices.Contains(s.Items.Required, key) {
					t.Errorf("%s is a map by %s, which is not required", path, key)
				}
			}
		default:
			t.Errorf("%s has the list type %q", path, s.ListType)
		}
		if strings.HasSuffix(path, ".conditions") && (s.ListType != "map" || !slices.Equal(s.ListMapKeys, []string{"type"})) {
			t.Errorf("%s must be a map by type, for conditions have several writers", path)
		}
	})
}

// TestDescriptions: kubectl explain has something to say of every field, and begins with its name.
func TestDescriptions(t *testing.T) {
	eachField(t, func(t *testing.T, _, path string, s *schema) {
		name := path[strings.LastIndexByte(path, '.')+1:]
		if n := len(strings.Fields(s.Description)); n < 4 && !strings.HasSuffix(path, "]") {
			t.Errorf("%s has a description of %d words: %q", path, n, s.Description)
		}
		if !strings.ContainsAny(name, "[{") && !strings.HasPrefix(s.Description, name+" ") {
			t.Errorf("%s: the description begins with something else: %q", path, s.Description)
		}
	})
}

// TestEnums: values are words in CamelCase, and an optional choice says what it is if nobody chooses.
func TestEnums(t *testing.T) {
	word := regexp.MustCompile(`^[A-Z][A-Za-z]+$`)
	eachField(t, func(t *testing.T, _, path string, s *schema) {
		for _, value := range s.Enum {
			if !word.MatchString(value) {
				t.Errorf("%s: %q is not written in CamelCase", path, value)
			}
		}
		if len(s.Enum) > 0 && !s.required && s.Default == nil && !strings.HasSuffix(path, "[]") {
			t.Errorf("%s is an optional choice without a default", path)
		}
		if s.required && s.Default != nil {
			t.Errorf("%s is required and has a default", path)
		}
	})
}

// TestRules: each rule says in its own words what is wrong and, after the semicolon, what to do.
func TestRules(t *testing.T) {
	for kind, s := range schemas(t) {
		all := rulesOf(kind, s)
		if len(all) == 0 {
			t.Errorf("%s has no rule", kind)
		}
		for at := range all {
			what, todo, ok := strings.Cut(at.rule.Message, "; ")
			if !ok || what == "" || todo == "" || len(at.rule.Message) > 256 {
				t.Errorf("%s: a rule says %q", at.path, at.rule.Message)
			}
		}
	}
}

// TestSchemasAndTypes: the schemas have the fields of the types, and a field that can be left out can also be left out
// in Go, where zero must not be mistaken for absent.
func TestSchemasAndTypes(t *testing.T) {
	for kind, s := range schemas(t) {
		var leaves []string
		optional := map[string]*schema{}
		s.walk(func(path string, s *schema) {
			if s.Items == nil && s.AdditionalProperties == nil && len(s.Properties) == 0 {
				leaves = append(leaves, path)
			}
			optional[path] = s
		})
		slices.Sort(leaves)
		if got := Fields(kinds()[kind]); !slices.Equal(got, leaves) {
			t.Errorf("%s: the type has the fields\n%s\nand the schema\n%s", kind, strings.Join(got, " "), strings.Join(leaves, " "))
		}
		tagged := tags(kinds()[kind])
		for path, s := range optional {
			tag, ok := tagged[path]
			switch {
			case !ok || fromKubernetes(path) || strings.HasSuffix(path, "]") || strings.HasSuffix(path, "}"):
			case s.required == tag.omits:
				t.Errorf("%s %s: required is %v, and Go leaves it out is %v", kind, path, s.required, tag.omits)
			case s.Type == "integer" && s.Default != nil && !tag.pointer:
				t.Errorf("%s %s: in Go, 0 means the default", kind, path)
			}
		}
	}
}

// located is a rule and where it stands; path is where its refusals point to.
type located struct {
	kind, path string
	rule       rule
}

// rulesOf returns the rules of a kind, those about the whole object too.
func rulesOf(kind string, s *schema) map[located]bool {
	all := map[located]bool{}
	add := func(path string, s *schema) {
		for _, r := range s.Rules {
			all[located{kind, path + r.FieldPath, r}] = true
		}
	}
	add("", s)
	s.walk(add)
	return all
}

func compareLocated(a, b located) int {
	return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.path, b.path), cmp.Compare(a.rule.Message, b.rule.Message))
}
