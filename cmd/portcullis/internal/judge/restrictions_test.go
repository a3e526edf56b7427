package judge

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/cli"
	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/clitest"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// The pools and policies of the scenarios, one line each.
const (
	teamPool   = clitest.TeamPool
	auditPool  = "{apiVersion: portcullis.dev/v1alpha1, kind: PortPool, metadata: {name: team}, spec: {ranges: [{port: 30060, endPort: 30063}], namespaceSelector: {matchLabels: {team: a}}}}\n"
	smallPool  = "{apiVersion: portcullis.dev/v1alpha1, kind: PortPool, metadata: {name: small}, spec: {ranges: [{port: 30070, endPort: 30071}], namespaceSelector: {}, enforcement: Deny, limits: {perNamespace: 2}}}\n"
	allPool    = "{apiVersion: portcullis.dev/v1alpha1, kind: PortPool, metadata: {name: all}, spec: {ranges: [{port: 30000, endPort: 32767}], namespaceSelector: {}}}\n"
	onlyPools  = "{apiVersion: portcullis.dev/v1alpha1, kind: PortPolicy, metadata: {name: base}, spec: {namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: NotIn, values: [kube-system]}]}, enforcement: Warn, nodePorts: {mode: PoolOnly}}}\n"
	noHostPort = "{apiVersion: portcullis.dev/v1alpha1, kind: PortPolicy, metadata: {name: base}, spec: {namespaceSelector: {}, enforcement: Deny, hostPorts: {mode: Forbidden}, exceptions: [{name: web, objectSelector: {matchLabels: {app: web}}, reason: r, expiresAt: \"2020-01-01T00:00:00Z\"}]}}\n"
	onZone     = "{apiVersion: portcullis.dev/v1alpha1, kind: PortPolicy, metadata: {name: base}, spec: {namespaceSelector: {}, enforcement: Deny, reserved: [{name: exporter, ports: [{port: 9100}], nodeSelector: {matchLabels: {kubernetes.io/hostname: n1}}}]}}\n"
	teamA      = "{apiVersion: v1, kind: Namespace, metadata: {name: default, labels: {team: a}}}\n"
	any1       = "{apiVersion: v1, kind: Service, metadata: {name: any1}, spec: {type: NodePort, ports: [{port: 80}]}}\n"
	any2       = "{apiVersion: v1, kind: Service, metadata: {name: any2}, spec: {type: NodePort, ports: [{port: 80}]}}\n"
	any3       = "{apiVersion: v1, kind: Service, metadata: {name: any3}, spec: {type: NodePort, ports: [{port: 80}]}}\n"
	elsewhere  = "{apiVersion: v1, kind: Service, metadata: {name: any3, namespace: other}, spec: {type: NodePort, ports: [{port: 80}]}}\n"
	in70       = "{apiVersion: v1, kind: Service, metadata: {name: in70, namespace: other}, spec: {type: NodePort, ports: [{port: 80, nodePort: 30070}]}}\n"
	in71       = "{apiVersion: v1, kind: Service, metadata: {name: in71, namespace: other}, spec: {type: NodePort, ports: [{port: 80, nodePort: 30071}]}}\n"
	claim71    = "{apiVersion: portcullis.dev/v1alpha1, kind: PortClaim, metadata: {name: np-30071}, spec: {port: 30071, pool: small, requestedAt: \"2026-01-01T00:00:00Z\", service: {namespace: other, name: gone}}}\n"
	released71 = "{apiVersion: portcullis.dev/v1alpha1, kind: PortClaim, metadata: {name: np-30071}, spec: {port: 30071, pool: small, requestedAt: \"2026-01-01T00:00:00Z\", service: {namespace: other, name: gone}}, status: {phase: Released, releasedAt: \"%s\"}}\n"
	any71      = "{apiVersion: portcullis.dev/v1alpha1, kind: PortClaim, metadata: {name: np-30071}, spec: {port: 30071, pool: small, requestedAt: \"2026-01-01T00:00:00Z\", service: {namespace: default, name: any2}}}\n"
)

func released(since time.Duration) string {
	return strings.Replace(released71, "%s", time.Now().Add(-since).UTC().Format(time.RFC3339), 1)
}

// TestLintRestricted: pools, policies, claims and namespaces restrict the inputs, wherever they stand, and what they say of
// enforcement decides the exit code.
func TestLintRestricted(t *testing.T) {
	const poolTeam, poolSmall, policy = " <- PortPool team ", " <- PortPool small ", " <- PortPolicy base "
	for _, c := range []struct {
		name, inputs, state string
		want                []string
		exit                int
	}{
		{"a pool of others", app1, teamPool, []string{"warning PC0307 app1" + poolTeam}, 1},
		{"that records only", app1, auditPool, []string{"warning PC0307 app1" + poolTeam}, 0},
		{"beside the Service", app1 + and + teamPool, "", []string{"warning PC0307 app1" + poolTeam}, 1},
		{"an input takes the place of the state", app1 + and + auditPool, teamPool, []string{"warning PC0307 app1" + poolTeam}, 0},
		{"the pool of its namespace", app1, teamPool + and + teamA, nil, 0},
		{"held since before", app1New, app1 + and + teamPool, []string{"warning PC0307 app1" + poolTeam}, 0},
		{"of two pools that overlap the one of the state keeps the numbers", allPool + and + app1, teamPool, []string{"warning PC0307 app1" + poolTeam}, 1},
		{"and of two inputs the earlier one", allPool + and + teamPool + and + app1, "", nil, 0},
		{"whichever comes first", teamPool + and + allPool + and + app1, "", []string{"warning PC0307 app1" + poolTeam}, 1},
		{"an update of a pool is as old as the pool", allPool + and + app1 + and + teamPool, teamPool, []string{"warning PC0307 app1" + poolTeam}, 1},
		{"the pool has two for two", any1 + and + any2, smallPool, nil, 0},
		{"and none for a third", any1 + and + any2 + and + elsewhere, smallPool, []string{"warning PC0309 any3" + poolSmall}, 1},
		{"more than the namespace may have", any1 + and + any2 + and + any3, smallPool, []string{"warning PC0309 any3" + poolSmall}, 1},
		{"what exists has its number", any1 + and + any2, smallPool + and + in71, []string{"warning PC0309 any2" + poolSmall}, 1},
		{"a claim has it", any1 + and + any2, smallPool + and + claim71, []string{"warning PC0309 any2" + poolSmall}, 1},
		{"its own claim", any1 + and + any2, smallPool + and + any71, nil, 0},
		{"a number that waits", any1 + and + any2, smallPool + and + released(time.Minute), []string{"warning PC0309 any2" + poolSmall}, 1},
		{"a number that has waited", any1 + and + any2, smallPool + and + released(time.Hour), nil, 0},
		{"of no pool", app1, onlyPools + and + smallPool, []string{"warning PC0310 app1" + policy}, 0},
		{"by the name of the namespace", strings.Replace(app1, "name: app1", "name: app1, namespace: kube-system", 1), onlyPools + and + smallPool, nil, 0},
		{"no host ports", lonePod, noHostPort, []string{"warning PC0311 lone" + policy}, 1},
		{"an exception that has ended", web, noHostPort, []string{"warning PC0311 web" + policy, "warning PC0313 web" + policy}, 1},
		{"reserved on a node of a DaemonSet", agent, onZone + and + nodes, []string{"warning PC0312 agent <- PortPolicy base n1"}, 1},
		{"reserved on another node", agentOn2, onZone + and + nodes, nil, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			clitest.Folder(t, map[string]string{"in.yaml": c.inputs, "state.yaml": c.state})
			args := []string{"lint", "-f", "in.yaml", "-o", "json"}
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

// TestLintRestrictionErrors: what the API server would refuse is a mistake, with its place.
func TestLintRestrictionErrors(t *testing.T) {
	clitest.Folder(t, map[string]string{
		"unknown.yaml":  "apiVersion: portcullis.dev/v1alpha1\nkind: PortPool\nmetadata: {name: a}\nspec:\n  ranges: [{port: 1}]\n  namespaceSelectors: {}\n",
		"pool.yaml":     "apiVersion: portcullis.dev/v1alpha1\nkind: PortPool\nmetadata: {name: a}\nspec:\n  namespaceSelector: {}\n  ranges:\n  - {port: 2, endPort: 1}\n",
		"policy.yaml":   "apiVersion: portcullis.dev/v1alpha1\nkind: PortPolicy\nmetadata: {name: a}\nspec:\n  namespaceSelector: {}\n  hostPorts:\n    mode: Never\n",
		"claim.yaml":    "apiVersion: portcullis.dev/v1alpha1\nkind: PortClaim\nmetadata: {name: a}\nspec:\n  pool: a\n  port: 70000\n",
		"twice.yaml":    teamPool + and + teamPool,
		"app1.yaml":     app1,
		"selector.yaml": "apiVersion: portcullis.dev/v1alpha1\nkind: PortPool\nmetadata: {name: a}\nspec:\n  ranges: [{port: 1}]\n  namespaceSelector:\n    matchExpressions: [{key: a, operator: in, values: [b]}]\n",
	})
	for file, want := range map[string]string{
		"unknown.yaml":  "PC0702 unknown.yaml:6 PortPool a spec.namespaceSelectors",
		"pool.yaml":     "PC0704 pool.yaml:6 PortPool a spec.ranges",
		"policy.yaml":   "PC0704 policy.yaml:7 PortPolicy a spec.hostPorts.mode",
		"claim.yaml":    "PC0704 claim.yaml:6 PortClaim a spec.port",
		"twice.yaml":    "",
		"selector.yaml": "PC0704 selector.yaml:6 PortPool a spec.namespaceSelector",
	} {
		for _, args := range [][]string{{"lint", file}, {"lint", "app1.yaml", "--state", file}} {
			o := runCommand(t, "", append(args, "-o", "json")...)
			var r report.LintReport
			if err := json.Unmarshal([]byte(o.Stdout), &r); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range r.Findings {
				if f.Code != "PC0307" { // by the pool that stands there twice
					got = append(got, fmt.Sprintf("%s %s %s %s", f.Code, f.Source, f.Object, f.Field))
				}
			}
			if diff := cmp.Diff(want, strings.Join(got, "\n")); diff != "" || want != "" && o.Exit != cli.ExitFindings {
				t.Errorf("%v: exit %d (-want +got):\n%s", args, o.Exit, diff)
			}
		}
	}
}

// TestLintRestore: before a restore, whose numbers are taken is said with numbers to have instead, none of them twice, and
// whoever writes these passes.
func TestLintRestore(t *testing.T) {
	names := []string{"a", "b", "c", "d"}
	var backup, live []string
	for i, name := range names {
		line := strings.Replace(app1, "app1", name, 1)
		number := []string{"30062", "30063", "30064", "30065"}[i]
		backup = append(backup, strings.Replace(line, "30062", number, 1))
		live = append(live, strings.Replace(strings.Replace(line, "30062", number, 1), "name: ", "name: other-", 1))
	}
	clitest.Folder(t, map[string]string{
		"backup.yaml": strings.Join(backup, and), "live.yaml": strings.Join(live, and) + and + teamA + and + strings.Replace(teamPool, "endPort: 30063", "endPort: 30067", 1),
	})
	o := runCommand(t, "", "lint", "-f", "backup.yaml", "--state", "live.yaml", "-o", "json")
	var r report.LintReport
	if err := json.Unmarshal([]byte(o.Stdout), &r); err != nil {
		t.Fatalf("%v in %q %q", err, o.Stdout, o.Stderr)
	}
	once := map[uint16]bool{}
	fixed := strings.Join(backup, and)
	for _, f := range r.Findings {
		if f.Code != "PC0201" || f.Instead == 0 || once[f.Instead] {
			t.Errorf("%s %s: %d is offered", f.Code, f.Object, f.Instead)
		}
		once[f.Instead] = true
		number := strings.Fields(f.Message)[0]
		fixed = strings.Replace(fixed, strings.TrimSuffix(number, "/TCP"), jsonNumber(f.Instead), 1)
	}
	if len(r.Findings) != len(names) {
		t.Errorf("%d findings", len(r.Findings))
	}
	inPool := 0
	for number := range once {
		if number >= 30060 && number <= 30067 {
			inPool++
		}
	}
	if inPool != 4 { // 60, 61, 66 and 67 are free
		t.Errorf("%d of %v are of the pool", inPool, once)
	}
	if o := runCommand(t, fixed, "lint", "-", "--state", "live.yaml"); o.Exit != 0 || !strings.Contains(o.Stdout, "no findings") {
		t.Errorf("what is offered does not pass:\n%s%s", o.Stdout, o.Stderr)
	}
}

func jsonNumber(n uint16) string {
	text, err := json.Marshal(n)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// TestLintSamples: the pools and policies of config/samples are read, and the Services and workloads beside them judged by
// them; as they only record, or warn, none of these fails.
func TestLintSamples(t *testing.T) {
	const samples = "../../../../config/samples"
	files, err := filepath.Glob(filepath.Join(samples, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	if _, err := os.Stat(filepath.Join(samples, "pools")); err != nil {
		t.Fatal(err)
	}
	plain := runCommand(t, "", append([]string{"lint", "-o", "json"}, files...)...)
	o := runCommand(t, "", append([]string{"lint", "-o", "json", "--state", filepath.Join(samples, "pools")}, files...)...)
	if o.Exit != plain.Exit || o.Exit != 0 {
		t.Errorf("exit %d with the pools, %d without: %s", o.Exit, plain.Exit, o.Stderr)
	}
	want := []string{"warning PC0311 tools-test <- PortPolicy baseline ", "warning PC0311 tomcat-v1-deployment <- PortPolicy baseline "}
	if diff := cmp.Diff(append(found(t, plain), want...), found(t, o)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
