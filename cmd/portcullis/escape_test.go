package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/cli"
	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/clitest"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// hostile are names that files can have, and objects in files.
func hostile() map[string]string {
	return map[string]string{
		"a command on a line of its own": "a\n::error::owned",
		"a command at the beginning":     "::error::owned",
		"an older command":               "a##[error]owned",
		"a colour":                       "a\x1b[31mred",
		"the title of the terminal":      "a\x1b]0;owned\a",
		"a control character of Latin 1": "a\u009b31m",
		"back to the first column":       "a\rowned",
		"another direction":              "a\u202etxt",
		"a line separator":               "a\u2028b",
		"no UTF-8":                       "a\xff\xfe",
	}
}

// ours are the beginnings of the workflow commands that the program itself prints.
var ours = regexp.MustCompile(`^::(error|warning|notice) (file=[^,:]+,line=\d+,)?title=PC\d{4}::`)

// holdPlain holds what a run printed to what a terminal and a CI system may be given.
func holdPlain(t *testing.T, args []string, form, text string) {
	t.Helper()
	if !utf8.ValidString(text) {
		t.Errorf("%q: no UTF-8 in\n%q", args, text)
	}
	if i := strings.IndexFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); i >= 0 {
		t.Errorf("%q: %q in\n%q", args, text[i:i+1], text)
	}
	for line := range strings.Lines(text) {
		begin := strings.TrimSpace(line)
		if strings.HasPrefix(begin, "::") && (form != "github" || !ours.MatchString(begin)) || strings.Contains(begin, "##[") {
			t.Errorf("%q: a command: %q", args, line)
		}
		if strings.HasPrefix(begin, "owned") {
			t.Errorf("%q: a line of somebody else's: %q", args, line)
		}
	}
}

// TestHostileNames: whatever files are called, and what they name, nothing of it breaks a line, reaches a terminal as a control
// sequence, or becomes a workflow command.
func TestHostileNames(t *testing.T) {
	t.Setenv("KUBECONFIG", "/nowhere/at/all")
	for what, name := range hostile() {
		t.Run(what, func(t *testing.T) {
			quoted := strconv.Quote(strings.ToValidUTF8(name, "")) // what YAML reads is UTF-8
			hold := func(stdin string, want int, args ...string) {
				t.Helper()
				o := runCommand(t, stdin, args...)
				if o.Exit != want {
					t.Errorf("%q: exit %d, want %d: %s%s", args, o.Exit, want, o.Stdout, o.Stderr)
				}
				holdPlain(t, args, args[len(args)-1], o.Stdout)
				holdPlain(t, args, "", o.Stderr)
			}
			replaced := func(text, name string) string {
				return strings.NewReplacer("{name: "+name+"}", "{name: "+quoted+"}", "{name: "+name+",", "{name: "+quoted+",").Replace(text)
			}
			clash := clitest.Joined(replaced(clitest.App1, "app1"), clitest.Web)
			annotated := fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {name: p, annotations: {%q: auto}}, spec: {containers: [{name: c, ports: [{containerPort: 80}]}]}}\n",
				"portcullis.dev/host-port."+strings.ToValidUTF8(name, ""))
			cluster := clitest.Joined(clitest.Node1, replaced(clitest.Mapped, "a"), replaced(clitest.Served, "b"), strings.ReplaceAll(clitest.Serving, "service-name: b", "service-name: "+quoted))
			pods := replaced(clitest.FourOnThree(), "tomcat")
			pools := clitest.Joined(clitest.Namespace("shop", "a"), clitest.NodePorts("shop/a", 30100), replaced(clitest.PortPool("p", "a", "{port: 30000, endPort: 30010}", ""), "p"))
			clitest.Folder(t, map[string]string{
				name: clash, "annotated.yaml": annotated, "cluster.yaml": cluster, "pods.yaml": pods, "pools.yaml": pools,
				"broken" + name: "a: [", "values" + name: "replicas: 1\n", "folder/" + name + ".yaml": "replicas: 1\n", "listing" + name: "-A nowhere\n",
				"sandbox.yaml": clitest.Joined(clitest.Node1, strings.Replace(clitest.Published, "07dbe45d8e31690c76141e5e16132b086f6a2d5b63216584009b990a7c08552c", quoted, 1)),
				"type" + name:  strings.Replace(annotated, "auto", "[]", 1), "nodes.yaml": strings.ReplaceAll(clitest.ThreeNodes, "n2", quoted),
			})
			hold("", cli.ExitFindings, "lint", name)
			for _, form := range []string{"table", "github"} {
				hold("", cli.ExitFindings, "lint", name, "-o", form)
				hold("", cli.ExitFindings, "lint", "annotated.yaml", "-o", form)
				hold(clash, cli.ExitFindings, "lint", "-", "-o", form)
				hold("", cli.ExitUsage, "lint", "folder", "-o", form)
			}
			for _, file := range []string{"missing", "broken", "values", "type"} {
				read := cli.ExitUsage
				if file == "type" { // all but one field of it
					read = cli.ExitFindings
				}
				hold("", read, "lint", file+name)
				hold("", cli.ExitUsage, "lint", "broken"+name, name, name+"/", file+name)
				hold("", cli.ExitUsage, "lint", name, "--config", file+name)
				hold("", read, "ports", "-f", file+name)
				hold("", cli.ExitUsage, "why", "p", "-f", file+name)
				hold("", read, "pool", "status", "-f", file+name)
				hold("", cli.ExitUsage, "trace", "--to", "192.0.2.1:80", "-f", file+name)
			}
			hold(clash, cli.ExitFindings, "lint", name, "-")
			hold(strings.Replace(clash, "8080", "8081", 1), cli.ExitFindings, "lint", name, "-") // one of its name, and another form
			hold("", cli.ExitUsage, "lint", "--"+name)
			hold("", cli.ExitUsage, name)
			hold("", 0, "ports", "-f", name, "-o", "wide")
			hold("", 0, "ports", "30062", "-f", name)
			hold("", 0, "ports", "30007", "-f", "cluster.yaml")
			hold("", cli.ExitUsage, "ports", "--node", "absent"+name, "-f", "nodes.yaml")
			hold("", cli.ExitFindings, "why", "tomcat-d", "-f", "pods.yaml")
			hold("", cli.ExitUsage, "why", name, "-f", "pods.yaml")
			hold("", 0, "pool", "status", "-f", "pools.yaml")
			hold("", cli.ExitUsage, "pool", "suggest", "-f", "pools.yaml")
			hold("", 0, "generate", "vap", "-f", "pools.yaml")
			hold("", 0, "trace", "-f", "cluster.yaml", "--to", "192.0.2.1:30007/TCP")
			hold("", cli.ExitUsage, "trace", "-f", "cluster.yaml", "--to", "192.0.2.1:30007/TCP", "--listing", "listing"+name)
			hold("", cli.ExitUsage, "trace", "-f", "nodes.yaml", "--to", "192.0.2.1:30007/TCP")
			rules := 0
			if clean := strings.ToValidUTF8(name, ""); report.Escape(clean) != clean {
				rules = cli.ExitUsage
			}
			for _, form := range []string{"save", "restore", "ipset"} {
				hold("", rules, "rules", "-f", "cluster.yaml", "--service-proxy", "ipvs", "-o", form)
			}
			hold("", rules, "rules", "-f", "sandbox.yaml")
			hold("*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n", cli.ExitFindings, "rules", "-f", "cluster.yaml", "--diff", "-")
		})
	}
}

// TestMistypedCommand: what could be meant is named in the same line.
func TestMistypedCommand(t *testing.T) {
	o := runCommand(t, "", "pot")
	if want := "portcullis: unknown command \"pot\" for \"portcullis\"; did you mean ports or pool?\n"; o.Exit != cli.ExitUsage || o.Stderr != want {
		t.Errorf("exit %d, %q, want %q", o.Exit, o.Stderr, want)
	}
}
