package install

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

const document = "../../../docs/install.md"

// TestGoldenValues holds the table of the values to the schema and the defaults.
func TestGoldenValues(t *testing.T) {
	var schema, values map[string]any
	if err := json.Unmarshal(read(t, chart+"/values.schema.json"), &schema); err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(read(t, chart+"/values.yaml"), &values); err != nil {
		t.Fatal(err)
	}
	const header = "| Value | Default | What it is |\n|---|---|---|\n"
	table := header
	for _, v := range leaves(schema, "") {
		if v.path == "global" {
			continue
		}
		text, err := json.Marshal(valueAt(values, v.path))
		if err != nil {
			t.Fatal(err)
		}
		table += fmt.Sprintf("| `%s` | `%s` | %s |\n", v.path, text, v.description)
	}
	page := string(read(t, document))
	_, after, found := strings.Cut(page, header)
	if !found {
		t.Fatalf("%s has no table of values", document)
	}
	rest := regexp.MustCompile(`(?m)^(\|.*\n)*`).FindString(after)
	if header+rest == table {
		return
	}
	if !*update {
		t.Errorf("%s: the table of values is not that of the chart; run make generate, which writes\n%s", document, table)
		return
	}
	if err := os.WriteFile(document, []byte(strings.Replace(page, header+rest, table, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
}

func valueAt(values map[string]any, path string) any {
	first, rest, more := strings.Cut(path, ".")
	if !more {
		return values[first]
	}
	below, _ := values[first].(map[string]any)
	return valueAt(below, rest)
}

// published is what the document calls what lies in config/, until it is published.
var published = strings.NewReplacer(
	"https://github.com/portcullis-k8s/portcullis/releases/latest/download/install.yaml", "config/install.yaml",
	"https://github.com/portcullis-k8s/portcullis//config/default", "config/default",
	"https://raw.githubusercontent.com/portcullis-k8s/portcullis/main/config", "config",
	"oci://ghcr.io/portcullis-k8s/charts/portcullis", "config/chart",
)

// commands returns the blocks of commands of a section of the document, for what lies in this checkout.
func commands(t *testing.T, section string) []string {
	t.Helper()
	_, text, found := bytes.Cut(read(t, document), []byte("\n## "+section+"\n"))
	if !found {
		t.Fatalf("%s has no section %s", document, section)
	}
	text, _, _ = bytes.Cut(text, []byte("\n## "))
	var blocks []string
	for _, m := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllSubmatch(text, -1) {
		block := published.Replace(string(m[1]))
		if strings.Contains(block, "://") {
			t.Errorf("%s: nothing here is called that:\n%s", section, block)
		}
		blocks = append(blocks, block)
	}
	return blocks
}
