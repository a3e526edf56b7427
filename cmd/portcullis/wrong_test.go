package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// laughs is a few lines that stand for more than any memory holds.
func laughs() string {
	var b strings.Builder
	b.WriteString("apiVersion: v1\nkind: Service\nmetadata:\n  name: laughs\n  annotations:\n    a0: &a0 ha\nspec:\n")
	for i := 1; i < 30; i++ {
		fmt.Fprintf(&b, "  a%d: &a%d [*a%d, *a%d, *a%d, *a%d, *a%d, *a%d]\n", i, i, i-1, i-1, i-1, i-1, i-1, i-1)
	}
	return b.String()
}

// TestLintOfWrongInput: whatever is wrong with what it reads, the command says where and what, and how to go on.
func TestLintOfWrongInput(t *testing.T) {
	folder(t, map[string]string{
		"good.yaml": app1, "again.yaml": "# the same\n" + app1New, "web.yaml": web, "broken.yaml": app1 + "---\nspec: {\n  ports: [\n",
		"template.yaml": "apiVersion: v1\nkind: {{ .Values.kind }}\n", "type.yaml": "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  ports:\n  - port: http\n",
		"values.yaml": "replicas: 1\n", "laughs.yaml": laughs(), "large.yaml": "", "folder/in.yaml": app2, "binary.yaml": "\x00\x01\xff\xfe",
		"nodes.yaml": nodes, "config.yaml": "kind: Nonsense\n",
		"twice.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n",
		"made.yaml":  "apiVersion: v1\nkind: Pod\nmetadata: {generateName: a-}\nspec: {containers: []}\n---\napiVersion: v1\nkind: Pod\nmetadata: {generateName: a-}\nspec: {containers: []}\n",
	})
	if err := os.Truncate("large.yaml", 100<<20); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"dangling.yaml": "nowhere", "folder/dangling.yaml": "nowhere", "loop.yaml": "loop.yaml"} {
		if err := os.Symlink(target, name); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, args string
		exit       int
		says       []string
	}{
		{"broken YAML", "broken.yaml", 2, []string{"broken.yaml:3: no valid YAML"}},
		{"broken YAML in the state", "good.yaml --state broken.yaml", 2, []string{"broken.yaml:3: no valid YAML"}},
		{"a template", "template.yaml", 2, []string{"template.yaml:2: ", "render it first"}},
		{"a wrong type", "type.yaml", 2, []string{"type.yaml:6: spec.ports[0].port: want a whole number"}},
		{"no object", "values.yaml", 2, []string{"values.yaml:1: no Kubernetes object"}},
		{"no text", "binary.yaml", 2, []string{"binary.yaml:1: "}},
		{"several at once", "broken.yaml values.yaml nowhere.yaml", 2, []string{"broken.yaml:3: ", "values.yaml:1: ", "nowhere.yaml: no such file or directory"}},
		{"too large", "large.yaml", 2, []string{"large.yaml: is larger than 64 MiB; split it into several files"}},
		{"too many laughs", "laughs.yaml", 2, []string{"laughs.yaml:", "the aliases of this document repeat too much; write it out"}},
		{"nowhere", "nowhere.yaml", 2, []string{"nowhere.yaml: no such file or directory"}},
		{"nowhere in a file", "good.yaml/in.yaml", 2, []string{"good.yaml/in.yaml: not a directory"}},
		{"a link to nowhere", "dangling.yaml", 2, []string{"dangling.yaml: no such file or directory"}},
		{"a link to nowhere in a folder", "folder", 2, []string{"folder/dangling.yaml: no such file or directory"}},
		{"a link to itself", "loop.yaml", 2, []string{"loop.yaml: too many levels of symbolic links"}},
		{"the configuration", "good.yaml --config config.yaml", 2, []string{"config.yaml: "}},
		{"no configuration", "good.yaml --config nowhere.yaml", 2, []string{"nowhere.yaml: no such file"}},
		{"twice in the input", "good.yaml again.yaml", 2, []string{"again.yaml:2: Service default/app1 stands at good.yaml:1 already; leave one of the two out"}},
		{"twice, once from standard input", "- web.yaml", 2, []string{"web.yaml:1: Deployment default/web stands at standard input:1 already"}},
		{"twice in the state", "web.yaml --state good.yaml --state again.yaml", 2, []string{"again.yaml:2: Service default/app1 stands at good.yaml:1 already"}},
		{"a node twice", "nodes.yaml -f -", 0, nil},
		{"in the state and in the input", "again.yaml --state good.yaml", 0, []string{"no findings"}},
		{"one path twice", "good.yaml ./good.yaml", 0, []string{"no findings"}},
		{"twice, but no matter of ports", "twice.yaml", 0, []string{"no findings"}},
		{"twice, with names to be made", "made.yaml", 0, []string{"no findings"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := runCommand(t, web, append([]string{"lint"}, strings.Fields(c.args)...)...)
			if o.exit != c.exit {
				t.Errorf("exit %d, want %d:\n%s%s", o.exit, c.exit, o.stdout, o.stderr)
			}
			for _, want := range c.says {
				if !strings.Contains(o.stdout+o.stderr, want) {
					t.Errorf("does not say %q:\n%s%s", want, o.stdout, o.stderr)
				}
			}
		})
	}
}

// TestLintOfADumpReadTwice: the first few are enough to understand.
func TestLintOfADumpReadTwice(t *testing.T) {
	var dump strings.Builder
	for i := range 1500 {
		fmt.Fprintf(&dump, "{apiVersion: v1, kind: Service, metadata: {name: a%d}}\n---\n", i)
	}
	folder(t, map[string]string{"a.yaml": dump.String(), "b.yaml": dump.String()})
	o := runCommand(t, "", "lint", "a.yaml", "b.yaml")
	if o.exit != exitUsage || strings.Count(o.stderr, "\n") != 11 || !strings.HasSuffix(o.stderr, "and 1,490 more stand there twice\n") {
		t.Errorf("exit %d\n%s", o.exit, o.stderr)
	}
}
