package judge

import (
	"bytes"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/cli"
	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/clitest"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// runCommand runs a program with the commands of this package.
func runCommand(t *testing.T, stdin string, args ...string) clitest.Outcome {
	t.Helper()
	return clitest.Run(t, stdin, args, Lint("development"), Audit("development"))
}

// The objects of the scenarios, one line each.
const (
	app1     = clitest.App1
	app1New  = "{apiVersion: v1, kind: Service, metadata: {name: app1, namespace: default, labels: {a: b}}, spec: {type: NodePort, ports: [{port: 8080, nodePort: 30062}]}}\n"
	app2     = "{apiVersion: v1, kind: Service, metadata: {name: app2}, spec: {type: NodePort, ports: [{port: 8080, nodePort: 30062}]}}\n"
	web      = clitest.Web
	webPod   = "{apiVersion: v1, kind: Pod, metadata: {name: web-1, labels: {app: web}}, spec: {nodeName: n1, containers: [{name: c, ports: [{containerPort: 80, hostPort: 30062}]}]}}\n"
	webPod2  = "{apiVersion: v1, kind: Pod, metadata: {name: web-2, labels: {app: web}}, spec: {nodeName: n2, containers: [{name: c, ports: [{containerPort: 80, hostPort: 30062}]}]}}\n"
	lonePod  = clitest.LonePod
	agent    = clitest.Agent
	anywhere = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: agent}, spec: {strategy: {type: Recreate}, selector: {matchLabels: {app: agent}}, template: {metadata: {labels: {app: agent}}, spec: {containers: [{name: c, ports: [{containerPort: 80, hostPort: 9100}]}]}}}}\n"
	agent2   = "{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: agent2}, spec: {selector: {matchLabels: {app: agent2}}, template: {metadata: {labels: {app: agent2}}, spec: {containers: [{name: c, ports: [{containerPort: 80, hostPort: 9100}]}]}}}}\n"
	agentOn1 = "{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: on1}, spec: {selector: {matchLabels: {app: on1}}, template: {metadata: {labels: {app: on1}}, spec: {nodeSelector: {kubernetes.io/hostname: n1}, containers: [{name: c, ports: [{containerPort: 80, hostPort: 9100}]}]}}}}\n"
	agentOn2 = "{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: on2}, spec: {selector: {matchLabels: {app: on2}}, template: {metadata: {labels: {app: on2}}, spec: {nodeSelector: {kubernetes.io/hostname: n2}, containers: [{name: c, ports: [{containerPort: 80, hostPort: 9100}]}]}}}}\n"
	nodes    = "{apiVersion: v1, kind: Node, metadata: {name: n1, labels: {kubernetes.io/hostname: n1}}}\n---\n{apiVersion: v1, kind: Node, metadata: {name: n2, labels: {kubernetes.io/hostname: n2}}}\n"
	and      = clitest.And
)

// found shortens a report to "code object <- holder [nodes]".
func found(t *testing.T, o clitest.Outcome) []string {
	t.Helper()
	var r report.LintReport
	if err := json.Unmarshal([]byte(o.Stdout), &r); err != nil {
		t.Fatalf("%v in %q %q", err, o.Stdout, o.Stderr)
	}
	var short []string
	for _, f := range r.Findings {
		s := f.Severity + " " + f.Code + " " + f.Object.Name
		if f.Holder != nil {
			s += " <- " + f.Holder.Kind + " " + f.Holder.Name
		}
		for _, h := range f.Others {
			s += " + " + h.Kind + " " + h.Name
		}
		short = append(short, s+" "+strings.Join(f.Nodes, ","))
	}
	return short
}

func TestLint(t *testing.T) {
	for _, c := range []struct {
		name, inputs, state string
		want                []string
		exit                int
	}{
		{"clean", app1, "", nil, 0},
		{"the later of two inputs is refused", app1 + and + app2, "", []string{"error PC0201 app2 <- Service app1 "}, 1},
		{"and in the other order the other", app2 + and + app1, "", []string{"error PC0201 app1 <- Service app2 "}, 1},
		{"against the state", app2, app1, []string{"error PC0201 app2 <- Service app1 "}, 1},
		{"an update of the state", app1New, app1, nil, 0},
		{"the state alone is nobody's", app1New, app1 + and + web, []string{"error PC0201 app1 <- Deployment web "}, 0},
		{"a template against a Service", web, app1, []string{"error PC0201 web <- Service app1 "}, 1},
		{"pods of one controller are one holder", app1, web + and + webPod + and + webPod2, []string{"error PC0201 app1 <- Deployment web n1,n2"}, 1},
		{"a bare pod is itself", app1, lonePod, []string{"error PC0201 app1 <- Pod lone "}, 1},
		{"a pod does not meet its own template", web + and + webPod, "", []string{"warning PC0303 web ", "warning PC0303 web-1 "}, 0},
		{"DaemonSets everywhere, nodes unknown", agent + and + agent2, "", []string{"error PC0202 agent2 <- DaemonSet agent "}, 1},
		{"DaemonSets by selector, nodes unknown", agentOn1 + and + agentOn2, "", nil, 0},
		{"DaemonSets apart", agentOn1 + and + agentOn2, nodes, nil, 0},
		{"DaemonSets that meet on one node", agentOn1 + and + agent, nodes, []string{"error PC0202 agent <- DaemonSet on1 n1"}, 1},
		{"the other way round", agent + and + agentOn1, nodes, []string{"error PC0202 on1 <- DaemonSet agent n1"}, 1},
		{"two that fill all nodes together", agentOn1 + and + agentOn2 + and + anywhere, nodes, []string{"error PC0202 agent <- DaemonSet on1 + DaemonSet on2 n1,n2"}, 1},
		{"and a Deployment that has another", agentOn1 + and + anywhere, nodes, []string{"warning PC0202 agent <- DaemonSet on1 n1"}, 0},
		{"DaemonSets that meet on all", agent + and + agent2, nodes, []string{"error PC0202 agent2 <- DaemonSet agent n1,n2"}, 1},
		{"one on a node of the other", agent + and + agentOn2, nodes, []string{"error PC0202 on2 <- DaemonSet agent n2"}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			clitest.Folder(t, map[string]string{"in.yaml": c.inputs, "state.yaml": c.state, "config.yaml": iptablesConfig})
			args := []string{"lint", "-f", "in.yaml", "-o", "json", "--config", "config.yaml"}
			if c.state != "" {
				args = append(args, "--state", "state.yaml")
			}
			o := runCommand(t, "", args...)
			if diff := cmp.Diff(c.want, found(t, o)); diff != "" || o.Exit != c.exit {
				t.Errorf("exit %d, want %d; findings (-want +got):\n%s%s", o.Exit, c.exit, diff, o.Stderr)
			}
		})
	}
}

func TestLintExitCodes(t *testing.T) {
	clitest.Folder(t, map[string]string{
		"good.yaml": app1, "pooled.yaml": app1 + and + teamPool, "shop.yaml": strings.Replace(app1, "name: app1", "name: app1, namespace: shop", 1), "bad.yaml": app1 + and + app2, "warn.yaml": nodes + and + agentOn1 + and + anywhere,
		"broken.yaml": "a: [", "audit.yaml": "apiVersion: config.portcullis.dev/v1alpha1\nkind: PortcullisConfiguration\nenforcement: {PC0201: Audit}\n",
		"wrong.yaml": "apiVersion: config.portcullis.dev/v1alpha1\nkind: PortcullisConfiguration\nnodePortRanges: 1-2\n",
	})
	for _, c := range []struct {
		args []string
		exit int
		says string
	}{
		{[]string{"lint", "-f", "good.yaml"}, 0, "no findings"},
		{[]string{"lint", "-f", "bad.yaml"}, 1, "PC0201"},
		{[]string{"lint", "-f", "bad.yaml", "--fail-on", "never"}, 0, "PC0201"},
		{[]string{"lint", "-f", "bad.yaml", "--config", "audit.yaml"}, 0, "PC0201"},
		{[]string{"lint", "-f", "warn.yaml"}, 0, "1 warning"},
		{[]string{"lint", "-f", "warn.yaml", "--fail-on", "warning"}, 1, "1 warning"},
		{[]string{"lint", "-f", "bad.yaml", "-o", "github"}, 1, "::error file=bad.yaml,line=3,title=PC0201::spec.ports[0].nodePort: "},
		{[]string{"lint", "-f", "warn.yaml", "-f", "bad.yaml", "-o", "json"}, 1, `"kind": "LintReport"`},
		{[]string{"lint", "-f", "broken.yaml"}, 2, "broken.yaml:1"},
		{[]string{"lint", "-f", "missing.yaml"}, 2, "missing.yaml: no such file"},
		{[]string{"lint", "-f", "good.yaml", "--config", "wrong.yaml"}, 2, "line 3: nodePortRanges"},
		{[]string{"lint", "-f", "pooled.yaml"}, 1, "portcullis: exit code 1, as PortPool team sets enforcement Deny for PC0307 of Service default/app1\n"},
		{[]string{"lint", "-f", "good.yaml", "--state", "shop.yaml"}, 1, "PC0201"},
		{[]string{"lint", "-f", "good.yaml", "--state", "shop.yaml", "-n", "shop"}, 0, "no findings"},
		{[]string{"lint", "-f", "good.yaml", "-o", "xml"}, 2, `--output "xml" is not one of`},
		{[]string{"lint", "-f", "good.yaml", "--fail-on", "info"}, 2, `--fail-on "info" is not one of`},
		{[]string{"lint", "-f", "-", "--state", "-"}, 2, "cannot be both"},
		{[]string{"lint"}, 2, "nothing to judge: name a file"},
		{[]string{"lint", "--state", "good.yaml"}, 2, "nothing to judge: name a file"},
		{[]string{"lint", "--state", "good.yaml", "--config", "audit.yaml"}, 0, "no findings"},
		{[]string{"lint", "--nonsense"}, 2, "unknown flag: --nonsense"},
		{[]string{"lint", "good.yaml"}, 0, "no findings"},
		{[]string{"lint", "good.yaml", "bad.yaml"}, 1, "judged 2 objects\n"},
		{[]string{"lint", "-f", "bad.yaml", "missing.yaml"}, 2, "missing.yaml: no such file"},
		{[]string{"lint", "--state", "-", "-"}, 2, "cannot be both"},
		{[]string{"lint", "bad.yaml"}, 1, "Explain a code: portcullis lint --explain PC0201"},
		{[]string{"lint", "bad.yaml", "-o", "sarif"}, 1, `"uri": "bad.yaml"`},
		{[]string{"lint", "bad.yaml", "-o", "junit"}, 1, `<testsuite name="bad.yaml" tests="2" failures="1">`},
		{[]string{"lint", "bad.yaml", "-o", "junit", "--fail-on", "never"}, 0, `<testsuite name="bad.yaml" tests="2" failures="0">`},
		{[]string{"lint", "good.yaml", "-o", "junit"}, 0, `<testcase name="Service default/app1"`},
	} {
		o := runCommand(t, "", c.args...)
		if o.Exit != c.exit || !strings.Contains(o.Stdout+o.Stderr, c.says) {
			t.Errorf("%v: exit %d, want %d with %q:\n%s%s", c.args, o.Exit, c.exit, c.says, o.Stdout, o.Stderr)
		}
	}
}

func TestLintReadsStandardInput(t *testing.T) {
	o := runCommand(t, app1+and+app2, "lint", "-f", "-", "-o", "json")
	if got := found(t, o); !slices.Equal(got, []string{"error PC0201 app2 <- Service app1 "}) {
		t.Errorf("%v %s", got, o.Stderr)
	}
}

// TestLintTellsNothingButFindings: what a program reads must not have colours or progress in it.
func TestLintTellsNothingButFindings(t *testing.T) {
	o := runCommand(t, app1+and+app2, "lint", "-")
	if strings.ContainsAny(o.Stdout, "\x1b\r") || o.Stderr != "" {
		t.Errorf("%q %q", o.Stdout, o.Stderr)
	}
}

// TestLintInColour on a terminal that wants it.
func TestLintInColour(t *testing.T) {
	for _, colour := range []bool{true, false} {
		var out bytes.Buffer
		o := &lintOptions{files: []string{"-"}, output: "table", failOn: "never"}
		if err := o.run(cli.Streams{In: strings.NewReader(app1 + and + app2), Out: &out, Err: io.Discard, Colour: colour}); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(out.String(), "\x1b[31merror\x1b[0m"); got != colour {
			t.Errorf("in colour %v, want %v: %q", got, colour, out.String())
		}
	}
}

// TestLintEndsProgress: a run that fails at once leaves nothing on the terminal.
func TestLintEndsProgress(t *testing.T) {
	o := &lintOptions{files: []string{"-"}, output: "table", failOn: "error"}
	var out bytes.Buffer
	if err := o.run(cli.Streams{In: iotest.ErrReader(io.ErrUnexpectedEOF), Out: io.Discard, Err: &out, Watched: true}); err == nil || out.Len() > 0 {
		t.Errorf("%v, %q", err, out.String())
	}
}

// TestLintIsRepeatable: the same input gives the same output, byte for byte.
func TestLintIsRepeatable(t *testing.T) {
	input := strings.Join([]string{nodes, app1, web, lonePod, app2, agent, agentOn1, agent2}, and)
	first := runCommand(t, input, "lint", "-f", "-", "-o", "json")
	for range 20 {
		if again := runCommand(t, input, "lint", "-f", "-", "-o", "json"); again != first {
			t.Fatalf("first %v\nthen %v", first, again)
		}
	}
}

// TestLintSmallerRange: with a state and a configuration only, what exists is measured by the range to come.
func TestLintSmallerRange(t *testing.T) {
	clitest.Folder(t, map[string]string{
		"state.yaml": app1 + and + web,
		"small.yaml": "apiVersion: config.portcullis.dev/v1alpha1\nkind: PortcullisConfiguration\nnodePortRange: 30100-30200\n",
		"large.yaml": "apiVersion: config.portcullis.dev/v1alpha1\nkind: PortcullisConfiguration\nnodePortRange: 30000-30200\n",
	})
	o := runCommand(t, "", "lint", "--state", "state.yaml", "--config", "small.yaml", "-o", "json", "--fail-on", "warning")
	if diff := cmp.Diff([]string{"warning PC0306 app1 "}, found(t, o)); diff != "" || o.Exit != cli.ExitFindings {
		t.Errorf("exit %d, findings (-want +got):\n%s", o.Exit, diff)
	}
	if o := runCommand(t, "", "lint", "--state", "state.yaml", "--config", "large.yaml", "--fail-on", "warning"); o.Exit != 0 {
		t.Errorf("nothing is left outside, and the exit code is %d:\n%s", o.Exit, o.Stdout)
	}
}

// TestLintDataPlane: who gets the packets of one conflict is said by the rules of the data plane that there is.
func TestLintDataPlane(t *testing.T) {
	files := map[string]string{"state.yaml": app1}
	for name, plane := range map[string]string{
		"iptables.yaml": "{serviceProxy: iptables, hostPort: portmap-iptables}", "ipvs.yaml": "{serviceProxy: ipvs, hostPort: portmap-iptables}",
		"nft.yaml": "{serviceProxy: nftables, hostPort: portmap-nftables}", "off.yaml": "{serviceProxy: iptables, hostPort: portmap-iptables, localhostNodePorts: false}",
	} {
		files[name] = "apiVersion: config.portcullis.dev/v1alpha1\nkind: PortcullisConfiguration\ndataplane: " + plane + "\n"
	}
	clitest.Folder(t, files)
	for config, want := range map[string]string{
		"iptables.yaml": "the Service gets all packets if it has endpoints; ",
		"off.yaml":      "this Pod gets the packets over loopback, the Service all others if it has endpoints; ",
		"ipvs.yaml":     "this Pod gets all packets; ",
		"nft.yaml":      "depends on whether kube-proxy or portmap was started first",
	} {
		o := runCommand(t, lonePod, "lint", "-", "--state", "state.yaml", "--config", config)
		if !strings.Contains(o.Stdout, want) {
			t.Errorf("%s: no %q in\n%s%s", config, want, o.Stdout, o.Stderr)
		}
	}
}
