package judge

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/cli"
	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/clitest"
	"github.com/portcullis-k8s/portcullis/pkg/report"
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
	clitest.Folder(t, map[string]string{
		"good.yaml": app1, "again.yaml": "# the same\n" + app1New, "web.yaml": web, "broken.yaml": app1 + "---\nspec: {\n  ports: [\n",
		"template.yaml": "apiVersion: v1\nkind: {{ .Values.kind }}\n", "type.yaml": "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  ports:\n  - port: http\n",
		"values.yaml": "replicas: 1\n", "laughs.yaml": laughs(), "large.yaml": "", "folder/in.yaml": app2, "binary.yaml": "\x00\x01\xff\xfe",
		"copy.yaml": "# a copy\n" + app1, "alone.yaml": "apiVersion: v1\nkind: Pod\nspec: [\n",
		"other.yaml":   strings.Replace(strings.Replace(app1, "app1", "other", 1), "30062", "30065", 1),
		"older.yaml":   strings.Replace(strings.Replace(app1, "{name: app1}", `{name: app1, uid: a, resourceVersion: "99"}`, 1), "30062", "30064", 1),
		"newer.yaml":   strings.Replace(strings.Replace(app1, "{name: app1}", `{name: app1, uid: a, resourceVersion: "100"}`, 1), "30062", "30065", 1),
		"managed.yaml": strings.Replace(strings.Replace(app1, "{name: app1}", `{name: app1, uid: a, resourceVersion: "100", managedFields: [{manager: kubectl}]}`, 1), "30062", "30065", 1),
		"edited.yaml":  strings.Replace(app1, "{name: app1}", `{name: app1, uid: a, resourceVersion: "100"}`, 1),
		"agent.yaml":   agent, "gone.yaml": strings.Replace(agent2, "apps/v1", "extensions/v1beta1", 1),
		"release.yaml": "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {name: a}\n",
		"kinds.yaml": "apiVersion: v1\nkind: ConfigMap\n---\napiVersion: extensions/v1beta1\nkind: Ingress\n---\napiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n---\n" +
			"apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\n---\napiVersion: policy/v1beta1\nkind: PodDisruptionBudget\n",
		"future.yaml": "apiVersion: batch/v7\nkind: Job\nmetadata: {name: a}\n", "map.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata:\n  a: 5\n",
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
		{"broken YAML", "broken.yaml", 1, []string{"broken.yaml:3: no valid YAML", "judged 1 object; not read: 1\n"}},
		{"broken YAML in the state", "good.yaml --state broken.yaml", 1, []string{"broken.yaml:3: no valid YAML", "judged 1 object; not read: 1\n"}},
		{"broken YAML that nobody minds", "broken.yaml --fail-on never", 0, []string{"broken.yaml:3: no valid YAML"}},
		{"nothing but broken YAML", "alone.yaml --fail-on never", 2, []string{"alone.yaml:3: no valid YAML", "nothing could be judged"}},
		{"a template", "template.yaml", 2, []string{"template.yaml:2: this looks like a Helm template; render it with `helm template`: "}},
		{"a wrong type", "type.yaml", 1, []string{"type.yaml:6: spec.ports[0].port: want a whole number", "judged 1 object\n"}},
		{"no object", "values.yaml", 2, []string{"values.yaml:1: no Kubernetes object"}},
		{"no object beside one", "values.yaml good.yaml", 0, []string{"judged 1 object; skipped, being no objects: 1\n"}},
		{"no text", "binary.yaml", 2, []string{"binary.yaml:1: "}},
		{"several at once", "broken.yaml values.yaml nowhere.yaml", 2, []string{"nowhere.yaml: no such file or directory"}},
		{"too large", "large.yaml good.yaml", 1, []string{"large.yaml: is larger than 64 MiB; split it into several files"}},
		{"too many laughs", "laughs.yaml good.yaml", 1, []string{"laughs.yaml:", "the aliases of this document repeat too much; write it out"}},
		{"nowhere", "nowhere.yaml", 2, []string{"nowhere.yaml: no such file or directory"}},
		{"nowhere in a file", "good.yaml/in.yaml", 2, []string{"good.yaml/in.yaml: not a directory"}},
		{"a link to nowhere", "dangling.yaml", 2, []string{"dangling.yaml: no such file or directory"}},
		{"a link to nowhere in a folder", "folder", 1, []string{"folder/dangling.yaml: no such file or directory"}},
		{"that is excluded", "folder --exclude dang*", 0, []string{"judged 1 object\n"}},
		{"a malformed pattern", "folder --exclude a[", 2, []string{`the pattern "a[" is malformed`}},
		{"a link to itself", "loop.yaml", 2, []string{"loop.yaml: too many levels of symbolic links"}},
		{"the configuration", "good.yaml --config config.yaml", 2, []string{"config.yaml: "}},
		{"no configuration", "good.yaml --config nowhere.yaml", 2, []string{"nowhere.yaml: no such file"}},
		{"twice in the input, the same", "good.yaml copy.yaml", 0, []string{"judged 1 object\n"}},
		{"twice in the input, another form", "good.yaml again.yaml", 0, []string{"warning   PC0703  Service default/app1  again.yaml:2", "judged 2 objects\n"}},
		{"twice, once from standard input", "- web.yaml", 0, []string{"judged 1 object\n"}},
		{"twice in the state", "other.yaml --state good.yaml --state again.yaml", 0, []string{"again.yaml:2: metadata.name: ", "both are judged", "(PC0703)"}},
		{"two dumps", "--state newer.yaml --state older.yaml other.yaml", 1, []string{"error     PC0201  Service default/other"}},
		{"two dumps in the other order", "--state older.yaml --state newer.yaml other.yaml", 1, []string{"error     PC0201  Service default/other"}},
		{"two dumps of one moment", "--state newer.yaml --state managed.yaml other.yaml", 1, []string{"error     PC0201  Service default/other"}},
		{"one version in two forms", "newer.yaml edited.yaml", 0, []string{"warning   PC0703  Service default/app1  edited.yaml:1"}},
		{"workloads of versions that are gone", "gone.yaml --state agent.yaml", 1, []string{"error     PC0202  DaemonSet default/agent2  gone.yaml:1", "judged 1 object\n"}},
		{"a kind that is not judged", "good.yaml release.yaml", 0, []string{"judged 1 object; not judged: 1 HelmRelease (helm.toolkit.fluxcd.io/v2)\n"}},
		{"and is minded", "good.yaml release.yaml --fail-on-unjudged", 1, []string{"portcullis: not judged: 1 HelmRelease (helm.toolkit.fluxcd.io/v2), and --fail-on-unjudged is given\n"}},
		{"and in the state", "good.yaml --state release.yaml --fail-on-unjudged", 1, []string{"portcullis: not judged: 1 HelmRelease (helm.toolkit.fluxcd.io/v2), and", "judged 1 object; not judged: 1 HelmRelease"}},
		{"kinds that claim no ports", "good.yaml kinds.yaml --fail-on-unjudged", 0, []string{"judged 1 object, and 5 of kinds that claim no ports\n"}},
		{"a version of a workload that nobody knows", "good.yaml future.yaml --fail-on-unjudged", 1, []string{"not judged: 1 Job (batch/v7)\n"}},
		{"a number in a ConfigMap", "good.yaml map.yaml", 0, []string{"info      PC0702  ConfigMap default/m  map.yaml:5", "judged 1 object, and 1 of"}},
		{"a node twice", "nodes.yaml -f -", 0, nil},
		{"in the state and in the input", "again.yaml --state good.yaml", 0, []string{"no findings"}},
		{"one path twice", "good.yaml ./good.yaml", 0, []string{"no findings"}},
		{"twice, but no matter of ports", "twice.yaml", 0, []string{"no findings"}},
		{"twice, with names to be made", "made.yaml", 0, []string{"no findings"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := runCommand(t, web, append([]string{"lint"}, strings.Fields(c.args)...)...)
			if o.Exit != c.exit {
				t.Errorf("exit %d, want %d:\n%s%s", o.Exit, c.exit, o.Stdout, o.Stderr)
			}
			for _, want := range c.says {
				if !strings.Contains(o.Stdout+o.Stderr, want) {
					t.Errorf("does not say %q:\n%s%s", want, o.Stdout, o.Stderr)
				}
			}
		})
	}
}

// TestFormsOfWhatExists: of one object in two forms both hold what they claim, in whatever order they are read.
func TestFormsOfWhatExists(t *testing.T) {
	const svc = "{apiVersion: v1, kind: Service, metadata: {name: %s%s}, spec: {type: NodePort, ports: [{port: 80, nodePort: %d}]}}\n"
	clitest.Folder(t, map[string]string{
		"read.yaml": fmt.Sprintf(svc, "a", ", uid: u, resourceVersion: \"7\", creationTimestamp: \"2026-01-01T00:00:00Z\"", 30001), "written.yaml": fmt.Sprintf(svc, "a", "", 30002),
		"b.yaml": fmt.Sprintf(svc, "b", "", 30001), "c.yaml": fmt.Sprintf(svc, "c", "", 30002),
	})
	for _, args := range []string{
		"lint b.yaml c.yaml --state read.yaml --state written.yaml", "lint b.yaml c.yaml --state written.yaml --state read.yaml",
		"audit -f read.yaml -f written.yaml -f b.yaml -f c.yaml", "audit -f c.yaml -f written.yaml -f b.yaml -f read.yaml",
	} {
		o := runCommand(t, "", append(strings.Fields(args), "-o", "json")...)
		var r report.LintReport
		if err := json.Unmarshal([]byte(o.Stdout), &r); err != nil {
			t.Fatal(err)
		}
		numbers := map[string]bool{}
		for _, f := range r.Findings {
			if f.Code == "PC0201" {
				numbers[f.Message[:len("30001")]] = true
			}
		}
		if want := map[string]bool{"30001": true, "30002": true}; o.Exit != cli.ExitFindings || !maps.Equal(numbers, want) {
			t.Errorf("%s: exit %d, %v", args, o.Exit, numbers)
		}
	}
}

// TestLintOfPortsThatNoAPIAccepts: each is one finding at its field and line, and what is right beside it is judged.
func TestLintOfPortsThatNoAPIAccepts(t *testing.T) {
	service := func(port string) string {
		return "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  type: NodePort\n  ports:\n  - port: 80\n    nodePort: 10250\n    name: a\n  - name: b\n" + port
	}
	pod := func(port string) string {
		return "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - name: c\n    ports:\n    - containerPort: 80\n      hostPort: 10250\n    -" + port
	}
	const judgedToo = "PC0302 9 spec.containers[0].ports[0].hostPort"
	for _, c := range []struct{ name, text, want string }{
		{"too large", service("    port: 81\n    nodePort: 70000"), "PC0301 8 spec.ports[0].nodePort, PC0302 8 spec.ports[0].nodePort, PC0108 12 spec.ports[1].nodePort"},
		{"a word", service("    port: http"), "PC0108 11 spec.ports[1].port, PC0301 8 spec.ports[0].nodePort, PC0302 8 spec.ports[0].nodePort"},
		{"a quoted number", pod(" {containerPort: 81,\n       hostPort: \"8081\"}"), "PC0108 11 spec.containers[0].ports[1].hostPort, " + judgedToo},
		{"a variable", pod(" {containerPort: 81,\n       hostPort: \"${PORT}\"}"), "PC0108 11 spec.containers[0].ports[1].hostPort, " + judgedToo},
		{"negative", pod(" {containerPort: -1}"), judgedToo + ", PC0108 10 spec.containers[0].ports[1].containerPort"},
		{"a word for what must be there", pod(" {containerPort: web}"), "PC0108 10 spec.containers[0].ports[1].containerPort, " + judgedToo},
		{"another case", pod(" {containerport: 81}"), "PC0111 10 spec.containers[0].ports[1].containerport, " + judgedToo},
		{"another case of what may be left out", pod(" {containerPort: 81,\n       hostport: 81}"), "PC0111 11 spec.containers[0].ports[1].hostport, " + judgedToo},
		{"names", pod(" {containerPort: 81, name: a}\n    - {containerPort: 82, name: a}"), judgedToo + ", PC0109 11 spec.containers[0].ports[2].name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, command := range [][]string{{"lint", "-"}, {"audit", "-f", "-"}} {
				o := runCommand(t, c.text, append(command, "-o", "json")...)
				var r report.LintReport
				if err := json.Unmarshal([]byte(o.Stdout), &r); err != nil {
					t.Fatalf("%v in %s%s", err, o.Stdout, o.Stderr)
				}
				var got []string
				for _, f := range r.Findings {
					got = append(got, fmt.Sprintf("%s %d %s", f.Code, f.Source.Line, f.Field))
				}
				if diff := cmp.Diff(c.want, strings.Join(got, ", ")); diff != "" || o.Exit != cli.ExitFindings {
					t.Errorf("%v: exit %d (-want +got):\n%s", command, o.Exit, diff)
				}
			}
		})
	}
}

// TestLintOfADumpReadTwice is that of one.
func TestLintOfADumpReadTwice(t *testing.T) {
	var dump strings.Builder
	for i := range 1500 {
		fmt.Fprintf(&dump, "{apiVersion: v1, kind: Service, metadata: {name: a%d}, spec: {ports: [{port: 80}]}}\n---\n", i)
	}
	clitest.Folder(t, map[string]string{"a.yaml": dump.String(), "b.yaml": dump.String()})
	o := runCommand(t, "", "lint", "a.yaml", "b.yaml")
	if o.Exit != 0 || o.Stdout != "no findings\njudged 1500 objects\n" || o.Stderr != "" {
		t.Errorf("exit %d\n%s%s", o.Exit, o.Stdout, o.Stderr)
	}
}
