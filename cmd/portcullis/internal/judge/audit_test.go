package judge

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/cli"
	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/clitest"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

const (
	auditNodes    = clitest.AuditNodes
	auditService  = clitest.AuditService
	auditDeploy   = clitest.AuditDeploy
	auditPod      = clitest.AuditPod
	auditNeighbor = clitest.AuditNeighbor
	auditEarly    = clitest.AuditEarly
)

// iptablesConfig says what iptablesEverywhere shows.
const iptablesConfig = "{apiVersion: config.portcullis.dev/v1alpha1, kind: PortcullisConfiguration, dataplane: {serviceProxy: iptables, hostPort: portmap-iptables}}"

const auditSays = `SEVERITY  CODE    OBJECT                  NODES
error     PC0201  Deployment default/web  n1, n2
error     PC0201  Pod shop/late           n1

Deployment default/web: spec.template.spec.containers[0].ports[0].hostPort: … (PC0201)
Pod shop/late: spec.containers[0].ports[0].hostPort: … (PC0201)

2 errors
judged 6 objects, and 2 of kinds that claim no ports
Explain a code: portcullis lint --explain PC0201
`

func TestAudit(t *testing.T) {
	filesSay := strings.Replace(auditSays, "6 objects, and 2", "7 objects, and 3", 1) // with what shows the data plane
	clitest.Folder(t, map[string]string{
		"state.yaml": clitest.AuditCluster(), "clean.yaml": auditNodes + and + auditService, "broken.yaml": "a: [",
		"audited.yaml": "{apiVersion: config.portcullis.dev/v1alpha1, kind: PortcullisConfiguration, enforcement: {PC0201: Audit}}",
		"pool.yaml":    teamPool + and + auditService, "bad.yaml": auditService + and + "apiVersion: portcullis.dev/v1alpha1\nkind: PortPool\nmetadata: {name: bad}\nspec:\n  ranges: [{port: 99999}]\n  namespaceSelector: {}\n",
	})
	t.Setenv("KUBECONFIG", "/nowhere/at/all")
	for _, c := range []struct {
		args string
		exit int
		says string // all of it on stdout, or a part of what is wrong
	}{
		{"-f state.yaml", 1, filesSay},
		{"-f state.yaml -A", 1, filesSay},
		{"-f clean.yaml", 0, "no findings\njudged 1 object, and 2 of kinds that claim no ports\n"},
		{"-f state.yaml -n shop -o github", 1, "::error file=state.yaml,line=13,title=PC0201::spec.containers[0].ports[0].hostPort: … (PC0201)\n"},
		{"-f state.yaml -n nobody", 0, "no findings\njudged 7 objects, and 3 of kinds that claim no ports\n"},
		{"-f state.yaml --fail-on never", 0, filesSay},
		{"-f state.yaml --config audited.yaml", 0, filesSay},
		{"-f state.yaml --config audited.yaml --fail-on warning", 0, filesSay},
		{"-f pool.yaml -o github", 1, "::warning file=pool.yaml,line=3,title=PC0307::spec.ports[0].nodePort: … (PC0307)\n"},

		{"-f state.yaml -n shop -A", 2, "-n shop and -A: leave one of the two out"},
		{"-f state.yaml -o wide", 2, `--output "wide" is not one of table, json, yaml, sarif, junit, github`},
		{"-f state.yaml --fail-on info", 2, `--fail-on "info" is not one of error, warning, never`},
		{"-f broken.yaml", 2, "broken.yaml:1"},
		{"-f bad.yaml -o github", 1, "::error file=bad.yaml,line=7,title=PC0704::spec.ranges: … (PC0704)\n"},
		{"-f state.yaml --config missing.yaml", 2, "missing.yaml"},
		{"state.yaml", 2, "unknown command"},
		{"", 2, "there is no kubeconfig that names a cluster: name one with --kubeconfig, or give the objects with -f"},
	} {
		o := runCommand(t, "", append([]string{"audit"}, strings.Fields(c.args)...)...)
		said := wordless(o.Stdout)
		if c.exit == cli.ExitUsage && strings.Contains(o.Stderr, c.says) {
			said = c.says
		}
		if diff := cmp.Diff(c.says, said); diff != "" || o.Exit != c.exit {
			t.Errorf("%s: exit %d, want %d %s (-want +got):\n%s", c.args, o.Exit, c.exit, o.Stderr, diff)
		}
	}
}

// wordless leaves out the sentences, which the tests of pkg/report hold.
func wordless(out string) string {
	return regexp.MustCompile(`(?m)(\.\w+): [^\n]* (\(PC\d{4}\))$`).ReplaceAllString(out, "$1: … $2")
}

// TestAuditForms: JSON and YAML are one AuditReport, and the others tell the same findings.
func TestAuditForms(t *testing.T) {
	clitest.Folder(t, map[string]string{"state.yaml": clitest.AuditCluster()})
	run := func(form string) string {
		t.Helper()
		o := runCommand(t, "", "audit", "-f", "state.yaml", "-o", form)
		if o.Exit != cli.ExitFindings || o.Stderr != "" {
			t.Fatalf("%s: exit %d %s", form, o.Exit, o.Stderr)
		}
		return o.Stdout
	}
	var fromJSON, fromYAML report.AuditReport
	if err := json.Unmarshal([]byte(run("json")), &fromJSON); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte(run("yaml")), &fromYAML); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fromJSON, fromYAML); diff != "" {
		t.Errorf("(-json +yaml):\n%s", diff)
	}
	f := fromJSON.Findings[0]
	if fromJSON.Kind != "AuditReport" || fromJSON.APIVersion != "portcullis.dev/v1alpha1" || fromJSON.Summary != (report.Summary{Errors: 2}) ||
		f.Holder.Name != "app1" || len(f.Nodes) != 2 || f.Source != (report.Source{Path: "state.yaml", Line: 7}) {
		t.Errorf("%+v", fromJSON)
	}
	var suites struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
	}
	if err := xml.Unmarshal([]byte(run("junit")), &suites); err != nil || suites.Tests != 7 || suites.Failures != 2 {
		t.Errorf("junit: %v %+v, want 7 objects of which 2 fail", err, suites)
	}
	if sarif := run("sarif"); strings.Count(sarif, `"ruleIndex"`) != 2 {
		t.Errorf("sarif has not two results:\n%s", sarif)
	}
}

// clusterServer is an API server that knows the lists of objects by their path, denies what is in denied, and knows no other
// path.
func clusterServer(t *testing.T, lists map[string]string, denied ...string) string {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if slices.Contains(denied, r.URL.Path) {
			w.WriteHeader(http.StatusForbidden)
			_, _ = fmt.Fprint(w, `{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "code": 403}`)
			return
		}
		items, ok := lists[r.URL.Path]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			_, _ = fmt.Fprint(w, `{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}`)
			return
		}
		kind := map[string]string{"nodes": "v1, kind: NodeList", "services": "v1, kind: ServiceList", "pods": "v1, kind: PodList", "deployments": "apps/v1, kind: DeploymentList"}[path.Base(r.URL.Path)]
		text, err := yaml.YAMLToJSON([]byte("{apiVersion: " + kind + ", metadata: {}, items: [" + items + "]}"))
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(text)
	}))
	t.Cleanup(server.Close)
	t.Setenv("KUBECONFIG", "")
	t.Setenv("HOME", t.TempDir())
	return server.URL
}

// TestAuditReads what it may: what is needed must be readable, what else may not be listed is named, and a cluster without
// pools has none.
func TestAuditReads(t *testing.T) {
	lists := map[string]string{
		"/api/v1/nodes": strings.ReplaceAll(auditNodes, "---", ","), "/api/v1/services": auditService, "/apis/apps/v1/deployments": auditDeploy,
		"/api/v1/pods": strings.Join([]string{fmt.Sprintf(auditPod, "n1"), fmt.Sprintf(auditPod, "n2"), auditNeighbor, auditEarly}, ","),
	}
	clitest.Folder(t, map[string]string{"config.yaml": iptablesConfig})
	run := func(server string, args ...string) clitest.Outcome {
		return runCommand(t, "", append([]string{"audit", "--config", "config.yaml", "--insecure-skip-tls-verify", "--server", server}, args...)...)
	}
	if o := run(clusterServer(t, lists)); o.Exit != cli.ExitFindings || wordless(o.Stdout) != auditSays || o.Stderr != "" {
		t.Errorf("exit %d: %s\n%s", o.Exit, cmp.Diff(auditSays, wordless(o.Stdout)), o.Stderr)
	}
	o := run(clusterServer(t, lists, "/apis/apps/v1/deployments", "/apis/portcullis.dev/v1alpha1/portpools"))
	if want := "not looked at, as you may not list them in all namespaces: deployments.apps, portpools.portcullis.dev\n"; o.Exit != cli.ExitFindings || o.Stderr != want {
		t.Errorf("exit %d, said %q, want %q", o.Exit, o.Stderr, want)
	}
	if !strings.Contains(o.Stdout, "Pod default/web-x-n1") || !strings.Contains(o.Stdout, "Pod default/web-x-n2") {
		t.Errorf("without its Deployment each pod is told:\n%s", o.Stdout)
	}
	o = run(clusterServer(t, lists, "/api/v1/nodes", "/api/v1/pods"))
	if want := "you may not list nodes, pods in all namespaces"; o.Exit != cli.ExitUsage || !strings.Contains(o.Stderr, want) {
		t.Errorf("exit %d, said %q, want %q", o.Exit, o.Stderr, want)
	}
	o = run(clusterServer(t, lists), "-o", "github", "-n", "shop")
	if want := "::error title=PC0201::Pod shop/late: spec.containers[0].ports[0].hostPort: "; !strings.HasPrefix(o.Stdout, want) {
		t.Errorf("%s, want %s", o.Stdout, want)
	}
	o = run(clusterServer(t, lists), "-o", "junit")
	if want := `<testsuite name="cluster" tests="6" failures="2">`; !strings.Contains(o.Stdout, want) || strings.Contains(o.Stdout, "file=") {
		t.Errorf("%s, want %s", o.Stdout, want)
	}
	o = run(clusterServer(t, lists), "-o", "sarif")
	if want := `"uri": "cluster"`; !strings.Contains(o.Stdout, want) {
		t.Errorf("%s, want %s", o.Stdout, want)
	}
}

// TestAuditSamples: the samples are in order; with each of those that must be refused there is the same wrong that lint
// refuses it for.
func TestAuditSamples(t *testing.T) {
	samples, err := filepath.Glob("../../../../config/samples/*.yaml")
	conflicts, also := filepath.Glob("../../../../config/samples/conflicts/*.yaml")
	if err != nil || also != nil || len(samples) == 0 || len(conflicts) == 0 {
		t.Fatal(samples, conflicts, err, also)
	}
	if o := runCommand(t, "", append([]string{"audit"}, flagged("-f", samples)...)...); o.Exit != 0 {
		t.Errorf("the samples: exit %d %s\n%s", o.Exit, o.Stderr, o.Stdout)
	}
	for _, conflict := range conflicts {
		errorsOf := func(args ...string) []string {
			t.Helper()
			var r report.LintReport
			o := runCommand(t, "", append(args, "-o", "json")...)
			if err := json.Unmarshal([]byte(o.Stdout), &r); err != nil || o.Exit != cli.ExitFindings {
				t.Fatalf("%s: exit %d %v: %s", conflict, o.Exit, err, o.Stderr)
			}
			var codes []string
			for _, f := range r.Findings {
				if f.Severity == "error" {
					codes = append(codes, f.Code)
				}
			}
			slices.Sort(codes)
			return codes
		}
		refused := errorsOf(append([]string{"lint", "-f", conflict}, flagged("--state", samples)...)...)
		found := errorsOf(append([]string{"audit", "-f", conflict}, flagged("-f", samples)...)...)
		if diff := cmp.Diff(refused, found); diff != "" {
			t.Errorf("%s (-lint +audit):\n%s", conflict, diff)
		}
	}
}

// flagged puts a flag before each of its values.
func flagged(flag string, values []string) []string {
	var args []string
	for _, v := range values {
		args = append(args, flag, v)
	}
	return args
}
