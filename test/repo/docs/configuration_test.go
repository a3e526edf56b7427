package docs

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	configv1alpha1 "github.com/portcullis-k8s/portcullis/api/config/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
)

const configurationPage = "docs/configuration.md"

// TestGoldenDefaults holds the first block to the default configuration.
func TestGoldenDefaults(t *testing.T) {
	c := &configv1alpha1.PortcullisConfiguration{}
	c.Default()
	text, err := configv1alpha1.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	p := read(t, configurationPage)
	first := p.blocks(t, "yaml")[0]
	p.hold(t, "the default configuration", first.first, first.lines, strings.Split(strings.TrimSpace(string(text)), "\n"))
}

// TestConfigurationFields: the table has every field that a file may have, in its order.
func TestConfigurationFields(t *testing.T) {
	want := fields("", reflect.TypeFor[configv1alpha1.PortcullisConfiguration]())
	want = slices.DeleteFunc(want, func(name string) bool { return name == "apiVersion" || name == "kind" })
	p := read(t, configurationPage)
	if is := p.column(t, "Field", "What it is"); !slices.Equal(is, want) {
		t.Errorf("%s lists the fields\n%q, the type has\n%q", p.path, is, want)
	}
	for _, nested := range []struct {
		header []string
		of     reflect.Type
	}{
		{[]string{"Field", "Meaning"}, reflect.TypeFor[configv1alpha1.ReservedSocket]()},
		{[]string{"Field", "Values", "Meaning"}, reflect.TypeFor[configv1alpha1.DataPlane]()},
	} {
		is, want := p.column(t, nested.header...), fields("", nested.of)
		slices.Sort(is)
		slices.Sort(want)
		if !slices.Equal(is, want) {
			t.Errorf("%s lists the fields %q of %s, the type has %q", p.path, is, nested.of.Name(), want)
		}
	}
}

// fields returns the paths of a type's fields; those of a struct in it one by one.
func fields(prefix string, of reflect.Type) []string {
	var names []string
	for f := range of.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Type.Kind() == reflect.Struct {
			names = append(names, fields(prefix+name+".", f.Type)...)
			continue
		}
		names = append(names, prefix+name)
	}
	return names
}

// TestConfigurationExamples: every example is a configuration that loads.
func TestConfigurationExamples(t *testing.T) {
	const header = "apiVersion: " + configv1alpha1.APIVersion + "\nkind: " + configv1alpha1.Kind + "\n"
	p := read(t, configurationPage)
	for _, b := range p.blocks(t, "yaml") {
		text := b.text()
		if !strings.HasPrefix(text, "apiVersion:") {
			text = header + text
		}
		c, err := configv1alpha1.Load([]byte(text))
		if err == nil {
			_, err = extract.NewSettings(c)
		}
		if err != nil {
			t.Errorf("%s:%d: %v", p.path, b.first, err)
		}
	}
}
