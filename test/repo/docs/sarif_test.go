package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/portcullis-k8s/portcullis/test/lab/binaries"
)

// TestSARIF holds reports of the real command to the schema that OASIS publishes, reads them with somebody else's
// reader, and holds the schema to what must not pass.
func TestSARIF(t *testing.T) {
	schema, program := sarifSchema(t), binaries.For(t, binaries.Portcullis)
	var full string
	for _, args := range [][]string{
		{"-f", "config/samples/04-app1-service.yaml"},
		{"-f", "config/samples/01-tools-test-service.yaml", "-f", "config/samples/conflicts", "--state", "config/samples/04-app1-service.yaml"},
	} {
		out, exit := ran(t, nil, program, append([]string{"lint", "-o", "sarif"}, args...)...)
		if exit > 1 {
			t.Fatalf("%v: exit %d", args, exit)
		}
		if err := schema.Validate(parsedJSON(t, out)); err != nil {
			t.Errorf("%v: %v", args, err)
		}
		full = out
	}
	log, err := sarif.FromBytes([]byte(full))
	if err != nil {
		t.Fatal(err)
	}
	if len(log.Runs) != 1 || len(log.Runs[0].Results) < 5 {
		t.Fatalf("another reader finds no results in %s", full)
	}
	rules := log.Runs[0].Tool.Driver.Rules
	for _, r := range log.Runs[0].Results {
		if rule := rules[r.RuleIndex]; *rule.ID != *r.RuleID {
			t.Errorf("a result of %s has the rule %s", *r.RuleID, *rule.ID)
		}
		if uri := *r.Locations[0].PhysicalLocation.ArtifactLocation.URI; !slices.Contains(glob(t, "config/samples/conflicts/*.yaml"), uri) {
			t.Errorf("%s is no file of the input with findings", uri)
		}
	}
	for _, rule := range rules {
		page, ok := strings.CutPrefix(*rule.HelpURI, "https://github.com/portcullis-k8s/portcullis/blob/main/")
		if _, err := os.Stat(filepath.Join(root, page)); !ok || err != nil {
			t.Errorf("%s is to be explained by %s, which is not there", *rule.ID, *rule.HelpURI)
		}
	}
	for _, c := range []struct{ is, becomes string }{
		{`"version": "2.1.0"`, `"version": "2.0.0"`},
		{`"level": "error"`, `"level": "bad"`},
		{`"startLine": `, `"startLine": -`},
		{`"ruleIndex": `, `"ruleindex": `},
		{`"uri": "`, `"uri": "%zz`},
		{`"results": [`, `"results": [1, `},
		{`"name": "portcullis"`, `"nickname": "portcullis"`},
	} {
		corrupt := strings.Replace(full, c.is, c.becomes, 1)
		if corrupt == full {
			t.Fatalf("there is no %s to corrupt", c.is)
		}
		if schema.Validate(parsedJSON(t, corrupt)) == nil {
			t.Errorf("the schema lets %s pass", c.becomes)
		}
	}
}

// sarifSchema compiles the schema. The module that has it keeps it in a constant of its own.
func sarifSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	folder, err := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.Dir}}", "github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif").Output()
	if err != nil {
		t.Fatal(err)
	}
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(strings.TrimSpace(string(folder)), "schema.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var text string
	ast.Inspect(file, func(n ast.Node) bool {
		if literal, ok := n.(*ast.BasicLit); ok && literal.Kind == token.STRING {
			text, err = strconv.Unquote(literal.Value)
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	const address = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
	if !strings.Contains(text, `"id": "`+address+`"`) {
		t.Fatalf("%s does not hold the schema %s", folder, address)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource(address, parsedJSON(t, text)); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile(address)
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func parsedJSON(t *testing.T, text string) any {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return v
}
