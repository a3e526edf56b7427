package operations

import (
	"flag"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/portcullis-k8s/portcullis/test/lab/binaries"
)

const (
	root    = "../../.."
	shipped = root + "/config/observation"
	page    = root + "/docs/observation.md"
)

var update = flag.Bool("update", false, "write config/observation/prometheusrule.yaml from rules.yaml")

// ruleFile is a file of Prometheus rules.
type ruleFile struct {
	Groups []ruleGroup `json:"groups"`
}

type ruleGroup struct {
	Name  string `json:"name"`
	Rules []rule `json:"rules"`
}

type rule struct {
	Alert       string            `json:"alert,omitempty"`
	Record      string            `json:"record,omitempty"`
	Expr        string            `json:"expr"`
	For         string            `json:"for,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// alerts returns the rules that ship.
func alerts(t *testing.T) []rule {
	t.Helper()
	var file ruleFile
	if err := yaml.UnmarshalStrict(read(t, shipped+"/rules.yaml"), &file); err != nil {
		t.Fatal(err)
	}
	var all []rule
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) == 0 {
		t.Fatal("no rules")
	}
	return all
}

// writeRules writes rules into a folder as promtool reads them.
func writeRules(t *testing.T, path string, rules []rule) {
	t.Helper()
	data, err := yaml.Marshal(ruleFile{Groups: []ruleGroup{{Name: "portcullis", Rules: rules}}})
	if err == nil {
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// promtool runs promtool: the machine's, of 2.42 or later, else one that is built, which takes three minutes on two cores
// if nothing is compiled yet.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	program, err := exec.LookPath("promtool")
	if err != nil {
		program = binaries.For(t, binaries.Promtool)
	}
	if out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// TestRules has promtool read the rules, the queries of the dashboard among them, and run the tests of the alerts. These
// tell which alerts fire with which labels; the annotations, which promtool would compare too, are left out for them.
func TestRules(t *testing.T) {
	dir := t.TempDir()
	dashboard := filepath.Join(dir, "dashboard.yaml")
	var queries []rule
	for _, q := range queriesOf(t, readDashboard(t)) {
		queries = append(queries, rule{Record: "query", Labels: map[string]string{"title": q.title}, Expr: q.expr})
	}
	writeRules(t, dashboard, queries)
	bare := alerts(t)
	for i := range bare {
		bare[i].Annotations = nil
	}
	writeRules(t, filepath.Join(dir, "rules.yaml"), bare)
	cases := strings.Replace(string(read(t, "testdata/alerts.yaml")), "[../../../../config/observation/rules.yaml]", "[rules.yaml]", 1)
	if err := os.WriteFile(filepath.Join(dir, "alerts.yaml"), []byte(cases), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", shipped+"/rules.yaml", dashboard)
	promtool(t, "test", "rules", filepath.Join(dir, "alerts.yaml"))
}

// TestAlertCases holds the cases to the rules: each alert has one in which it fires and one in which it does not.
func TestAlertCases(t *testing.T) {
	var file struct {
		Tests []struct {
			Cases []struct {
				Alert string           `json:"alertname"`
				Want  []map[string]any `json:"exp_alerts"`
			} `json:"alert_rule_test"`
		} `json:"tests"`
	}
	if err := yaml.Unmarshal(read(t, "testdata/alerts.yaml"), &file); err != nil {
		t.Fatal(err)
	}
	fires, rests := map[string]bool{}, map[string]bool{}
	for _, test := range file.Tests {
		for _, c := range test.Cases {
			if len(c.Want) > 0 {
				fires[c.Alert] = true
			} else {
				rests[c.Alert] = true
			}
		}
	}
	want := map[string]bool{}
	for _, a := range alerts(t) {
		want[a.Alert] = true
	}
	if diff := cmp.Diff(want, fires); diff != "" {
		t.Errorf("alerts that fire in a case (-rules +cases):\n%s", diff)
	}
	for name := range want {
		if !rests[name] {
			t.Errorf("%s: no case in which it does not fire", name)
		}
	}
}

// TestAlertPages holds that each alert says what to do, on a page that has a section of its name.
func TestAlertPages(t *testing.T) {
	var sections []string
	for line := range strings.Lines(string(read(t, page))) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "### Portcullis"); ok {
			sections = append(sections, "Portcullis"+name)
		}
	}
	names := map[string]bool{}
	for _, a := range alerts(t) {
		names[a.Alert] = true
		link := "https://github.com/portcullis-k8s/portcullis/blob/main/docs/observation.md#" + strings.ToLower(a.Alert)
		if a.Annotations["runbook_url"] != link || a.Annotations["summary"] == "" || a.Annotations["description"] == "" {
			t.Errorf("%s: annotations %v, want summary, description and runbook_url %s", a.Alert, slices.Sorted(maps.Keys(a.Annotations)), link)
		}
		if s := a.Labels["severity"]; s != "critical" && s != "warning" {
			t.Errorf("%s: severity %q", a.Alert, s)
		}
		if !slices.Contains(sections, a.Alert) {
			t.Errorf("docs/observation.md has no section ### %s", a.Alert)
		}
	}
	for _, s := range sections {
		if !names[s] {
			t.Errorf("docs/observation.md has a section %s, and no such alert is there", s)
		}
	}
}

// TestGoldenPrometheusRule holds the rules for the Prometheus operator to rules.yaml.
func TestGoldenPrometheusRule(t *testing.T) {
	const head = `# rules.yaml for the Prometheus operator. Written by: go -C test test ./cluster/operations -run Golden -update
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: portcullis
  namespace: portcullis-system
  labels: {app.kubernetes.io/name: portcullis, app.kubernetes.io/part-of: portcullis}
spec:
`
	var want strings.Builder
	want.WriteString(head)
	for line := range strings.Lines(string(read(t, shipped+"/rules.yaml"))) {
		if !strings.HasPrefix(line, "#") {
			want.WriteString("  " + line)
		}
	}
	const path = shipped + "/prometheusrule.yaml"
	if *update {
		if err := os.WriteFile(path, []byte(want.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want.String(), string(read(t, path))); diff != "" {
		t.Errorf("%s (-want +is); go -C test test ./cluster/operations -run Golden -update writes it\n%s", path, diff)
	}
}
