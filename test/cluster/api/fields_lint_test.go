package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// lintRow is a field that `portcullis lint` honours.
type lintRow struct {
	versions
	in, state string    // what is judged, and what exists beside the version
	want      [2]string // see lint
	words     string    // those of them that messages contain are part of what is wanted
	args      string    // of lint, beside the paths
}

// Manifests that rows judge. Namespaces, nodes, and what has labels, are of team a.
const (
	namespaceA = "{apiVersion: v1, kind: Namespace, metadata: {name: default, labels: {team: a}}}\n---\n"
	nodeA      = "{apiVersion: v1, kind: Node, metadata: {name: n1, labels: {team: a}}}\n---\n"

	numbered = "{apiVersion: v1, kind: Service, metadata: {name: web, labels: {team: a}}, spec: {type: NodePort, ports: [{port: 80, nodePort: N3}]}}\n---\n"
	any1     = "{apiVersion: v1, kind: Service, metadata: {name: any1, labels: {team: a}}, spec: {type: NodePort, ports: [{port: 80}]}}\n---\n"
	any2     = "{apiVersion: v1, kind: Service, metadata: {name: any2}, spec: {type: NodePort, ports: [{port: 80}]}}\n---\n"
	twoPorts = "{apiVersion: v1, kind: Service, metadata: {name: two}, spec: {type: NodePort, ports: [{port: 80, name: a}, {port: 81, name: b}]}}\n---\n"
	balancer = "{apiVersion: v1, kind: Service, metadata: {name: lb}, spec: {type: LoadBalancer, ports: [{port: 80}]}}\n---\n"

	external = "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {externalIPs: [192.0.2.1], ports: [{port: 80}]}}\n---\n"

	hostPort  = "{apiVersion: v1, kind: Pod, metadata: {name: pod, labels: {team: a}}, spec: {nodeName: n1, containers: [{name: c, ports: [{containerPort: 80, hostPort: 8083, hostIP: 10.0.0.1}]}]}}\n---\n"
	hostRange = "{apiVersion: v1, kind: Pod, metadata: {name: pod}, spec: {containers: [{name: c, ports: [{containerPort: 80, hostPort: N3}]}]}}\n---\n"
	hostNet   = "{apiVersion: v1, kind: Pod, metadata: {name: pod}, spec: {hostNetwork: true, containers: [{name: c, ports: [{containerPort: 8083}]}]}}\n---\n"
)

// Versions' bases.
const (
	lintPool   = "{ranges: [{port: N0, endPort: N9}], namespaceSelector: {}, enforcement: Deny}"
	teamB      = "{ranges: [{port: N0, endPort: N9}], namespaceSelector: {matchLabels: {team: b}}, enforcement: Deny}"
	smallPool  = "{ranges: [{port: N0, endPort: N1}], namespaceSelector: {}, enforcement: Deny}"
	someNodes  = "{namespaceSelector: {}, enforcement: Deny, nodePorts: {mode: Restricted, allowed: [{port: N0, endPort: N9}]}}"
	noHostPort = "{namespaceSelector: {}, enforcement: Deny, hostPorts: {mode: Forbidden}}"
	someHost   = "{namespaceSelector: {}, enforcement: Deny, hostPorts: {mode: Restricted, allowed: [{port: 8080, endPort: 8089}]}}"
	exporter   = "{namespaceSelector: {}, enforcement: Deny, reserved: [{name: exporter, ports: [{port: 8083}], nodeSelector: {}}]}"
	otherClaim = "{port: N0, pool: PLACE, service: {namespace: default, name: other}, requestedAt: NOW}"

	onlyN0 = "{apiVersion: portcullis.dev/v1alpha1, kind: PortPool, metadata: {name: PLACE}, spec: {ranges: [{port: N0}], namespaceSelector: {}, enforcement: Deny, allocation: {reuseDelay: 12h}}}\n---\n"
	onlyN8 = "{apiVersion: portcullis.dev/v1alpha1, kind: PortPool, metadata: {name: quick}, spec: {ranges: [{port: N8}], namespaceSelector: {matchLabels: {of: nobody}}}}\n---\n"
)

func lintRows() []lintRow {
	const foreign, noPort, reserved = "exit 1: PC0307 web", "exit 1: PC0311 pod", "exit 1: PC0312 pod"
	pool := func(field, base, a, b, in, state string, want ...string) lintRow {
		return lintRow{versions: versions{"PortPool", field, base, a, b, ""}, in: in, state: state, want: [2]string(want)}
	}
	policy := func(field, base, a, b, in string, want ...string) lintRow {
		return lintRow{versions: versions{"PortPolicy", field, base, a, b, ""}, in: in, state: nodeA, want: [2]string(want)}
	}
	claim := func(field, base, a, b string, want ...string) lintRow {
		return lintRow{versions: versions{"PortClaim", field, base, a, b, "{phase: Released, releasedAt: AGO}"},
			in: any1, state: onlyN0 + onlyN8, want: [2]string(want)}
	}
	words := func(r lintRow, words string) lintRow { r.words = words; return r }
	failOnWarning := func(r lintRow) lintRow { r.args = "--fail-on=warning"; return r }
	return slices.Concat(
		[]lintRow{
			pool("spec.ranges[].port", teamB, "{ranges: [{port: N0, endPort: N9}]}", "{ranges: [{port: N4, endPort: N9}]}", numbered, "", foreign, "nothing"),
			pool("spec.ranges[].endPort", teamB, "{ranges: [{port: N0, endPort: N9}]}", "{ranges: [{port: N0, endPort: N2}]}", numbered, "", foreign, "nothing"),
			pool("spec.ranges[].endPort", teamB, "{ranges: [{port: N0, endPort: N3}]}", "{ranges: [{port: N0}]}", numbered, "", foreign, "nothing"),
			pool("spec.enforcement", teamB, "{enforcement: Deny}", "{enforcement: Warn}", numbered, "", foreign, "PC0307 web"),
			failOnWarning(pool("spec.enforcement", teamB, "{enforcement: Warn}", "{enforcement: Audit}", numbered, "", foreign, "PC0307 web")),
			pool("spec.for", teamB, "{for: NodePorts}", "{for: HostPorts}", numbered, "", foreign, "nothing"),
			pool("spec.for", teamB, "{for: NodePorts}", "{for: HostPorts}", hostRange, "", "PC0303 pod", "exit 1: PC0303 pod, PC0307 pod"),
			pool("spec.sharing", teamB, "{sharing: Exclusive}", "{sharing: Shared}", numbered, "", foreign, "nothing"),
			pool("spec.state", teamB, "{state: Active}", "{state: Disabled}", numbered, "", foreign, "nothing"),
			pool("spec.state", lintPool, "{state: Active}", "{state: Draining}", numbered, "", "nothing", foreign),
			pool("spec.limits.perNamespace", lintPool, "{limits: {perNamespace: 1}}", "{limits: {perNamespace: 2}}", any1+any2, "", "exit 1: PC0309 any2", "nothing"),
			pool("spec.limits.perService", lintPool, "{limits: {perService: 1}}", "{limits: {perService: 2}}", twoPorts, "", "exit 1: PC0309 two", "nothing"),
			pool("spec.allocation.explicitOnly[].endPort", smallPool, "{allocation: {explicitOnly: [{port: N0, endPort: N0}]}}", "{allocation: {explicitOnly: [{port: N0, endPort: N1}]}}",
				any1, "", "nothing", "exit 1: PC0309 any1"),
		},
		selectorRows("PortPool", "spec.namespaceSelector", lintPool, "{namespaceSelector: %s}", numbered, "nothing", foreign),
		selectorRows("PortPool", "spec.serviceSelector", lintPool, "{serviceSelector: %s}", numbered, "nothing", foreign),
		[]lintRow{
			policy("spec.enforcement", noHostPort, "{enforcement: Deny}", "{enforcement: Warn}", hostPort, noPort, "PC0311 pod"),
			failOnWarning(policy("spec.enforcement", noHostPort, "{enforcement: Warn}", "{enforcement: Audit}", hostPort, noPort, "PC0311 pod")),
			words(policy("spec.message", noHostPort, "{message: ask the network team}", "{message: see the wiki}", hostPort, noPort+" network", noPort+" wiki"), "network wiki"),

			policy("spec.nodePorts.mode", "{namespaceSelector: {}, enforcement: Deny}", "{nodePorts: {mode: Allowed}}", "{nodePorts: {mode: Forbidden}}", numbered, "nothing", "exit 1: PC0310 web"),
			policy("spec.nodePorts.mode", "{namespaceSelector: {}, enforcement: Deny}", "{nodePorts: {mode: Allowed}}", "{nodePorts: {mode: PoolOnly}}", numbered, "nothing", "exit 1: PC0310 web"),
			policy("spec.nodePorts.mode", "{namespaceSelector: {}, enforcement: Deny}", "{nodePorts: {mode: Forbidden}}", "{nodePorts: {mode: PoolOnly}}", any1+onlyN0,
				"exit 1: PC0310 any1", "nothing"),
			policy("spec.nodePorts.allowed[].port", someNodes, "{nodePorts: {allowed: [{port: N3, endPort: N9}]}}", "{nodePorts: {allowed: [{port: N4, endPort: N9}]}}", numbered, "nothing", "exit 1: PC0310 web"),
			policy("spec.nodePorts.allowed[].endPort", someNodes, "{nodePorts: {allowed: [{port: N0, endPort: N3}]}}", "{nodePorts: {allowed: [{port: N0, endPort: N2}]}}", numbered, "nothing", "exit 1: PC0310 web"),
			policy("spec.nodePorts.explicitRequests", "{namespaceSelector: {}, enforcement: Deny, nodePorts: {}}", "{nodePorts: {explicitRequests: Allowed}}", "{nodePorts: {explicitRequests: Forbidden}}",
				numbered+any1, "nothing", "exit 1: PC0310 web"),
			policy("spec.nodePorts.loadBalancerNodePorts", "{namespaceSelector: {}, enforcement: Deny, nodePorts: {}}", "{nodePorts: {loadBalancerNodePorts: Allowed}}", "{nodePorts: {loadBalancerNodePorts: Forbidden}}",
				balancer+any1, "nothing", "exit 1: PC0310 lb"),

			policy("spec.hostPorts.mode", "{namespaceSelector: {}, enforcement: Deny}", "{hostPorts: {mode: Allowed}}", "{hostPorts: {mode: Forbidden}}", hostPort, "nothing", noPort),
			policy("spec.hostPorts.allowed[].port", someHost, "{hostPorts: {allowed: [{port: 8083, endPort: 8089}]}}", "{hostPorts: {allowed: [{port: 8084, endPort: 8089}]}}", hostPort, "nothing", noPort),
			policy("spec.hostPorts.allowed[].endPort", someHost, "{hostPorts: {allowed: [{port: 8080, endPort: 8083}]}}", "{hostPorts: {allowed: [{port: 8080, endPort: 8082}]}}", hostPort, "nothing", noPort),
			policy("spec.hostPorts.allowed[].protocols[]", someHost, "{hostPorts: {allowed: [{port: 8083, protocols: [TCP]}]}}", "{hostPorts: {allowed: [{port: 8083, protocols: [UDP]}]}}", hostPort, "nothing", noPort),
			policy("spec.hostPorts.allowed[].hostIPs[]", someHost, "{hostPorts: {allowed: [{port: 8083, hostIPs: [10.0.0.1]}]}}", "{hostPorts: {allowed: [{port: 8083, hostIPs: [127.0.0.1]}]}}", hostPort, "nothing", noPort),
			policy("spec.hostPorts.hostNetwork", "{namespaceSelector: {}, enforcement: Deny, hostPorts: {}}", "{hostPorts: {hostNetwork: Allowed}}", "{hostPorts: {hostNetwork: Forbidden}}", hostNet, "nothing", noPort),
			policy("spec.hostPorts.nodePortRange", "{namespaceSelector: {}, enforcement: Deny, hostPorts: {}}", "{hostPorts: {nodePortRange: Allowed}}", "{hostPorts: {nodePortRange: Forbidden}}", hostRange, "PC0303 pod", noPort),

			policy("spec.externalIPs", exporter, "{externalIPs: Allowed}", "{externalIPs: Forbidden}", external, "nothing", "exit 1: PC0315 web"),
			policy("spec.externalIPs", exporter, "{externalIPs: NodeAddressesForbidden}", "{externalIPs: Forbidden}", external, "nothing", "exit 1: PC0315 web"),

			words(policy("spec.reserved[].name", exporter, "{}", "{reserved: [{name: balancer, ports: [{port: 8083}], nodeSelector: {}}]}", hostPort, reserved+" exporter", reserved+" balancer"), "exporter balancer"),
			words(policy("spec.reserved[].reason", exporter, "{reserved: [{name: exporter, ports: [{port: 8083}], nodeSelector: {}, reason: systemd}]}",
				"{reserved: [{name: exporter, ports: [{port: 8083}], nodeSelector: {}, reason: firmware}]}", hostPort, reserved+" systemd", reserved+" firmware"), "systemd firmware"),
			policy("spec.reserved[].ports[].port", exporter, "{}", "{reserved: [{name: exporter, ports: [{port: 8084}], nodeSelector: {}}]}", hostPort, reserved, "nothing"),
			policy("spec.reserved[].ports[].endPort", exporter, "{reserved: [{name: exporter, ports: [{port: 8080, endPort: 8083}], nodeSelector: {}}]}",
				"{reserved: [{name: exporter, ports: [{port: 8080, endPort: 8082}], nodeSelector: {}}]}", hostPort, reserved, "nothing"),
			policy("spec.reserved[].ports[].protocols[]", exporter, "{reserved: [{name: exporter, ports: [{port: 8083, protocols: [TCP]}], nodeSelector: {}}]}",
				"{reserved: [{name: exporter, ports: [{port: 8083, protocols: [SCTP]}], nodeSelector: {}}]}", hostPort, reserved, "nothing"),
			policy("spec.reserved[].ports[].hostIPs[]", exporter, "{reserved: [{name: exporter, ports: [{port: 8083, hostIPs: [10.0.0.1]}], nodeSelector: {}}]}",
				"{reserved: [{name: exporter, ports: [{port: 8083, hostIPs: [10.0.0.2]}], nodeSelector: {}}]}", hostPort, reserved, "nothing"),

			words(policy("spec.exceptions[].name", noHostPort, "{exceptions: [{name: ingress, objectSelector: {}, reason: r, expiresAt: AGO}]}", "{exceptions: [{name: legacy, objectSelector: {}, reason: r, expiresAt: AGO}]}",
				hostPort, "exit 1: PC0311 pod, PC0313 pod ingress", "exit 1: PC0311 pod, PC0313 pod legacy"), "ingress legacy"),
			policy("spec.exceptions[].expiresAt", noHostPort, "{exceptions: [{name: x, objectSelector: {}, reason: r, expiresAt: AGO}]}", `{exceptions: [{name: x, objectSelector: {}, reason: r, expiresAt: "9999-01-01T00:00:00Z"}]}`,
				hostPort, "exit 1: PC0311 pod, PC0313 pod", "nothing"),
		},
		selectorRows("PortPolicy", "spec.namespaceSelector", noHostPort, "{namespaceSelector: %s}", hostPort, noPort, "nothing"),
		selectorRows("PortPolicy", "spec.exceptions[].namespaceSelector", noHostPort, "{exceptions: [{name: x, reason: r, namespaceSelector: %s}]}", hostPort, "nothing", noPort),
		selectorRows("PortPolicy", "spec.exceptions[].objectSelector", noHostPort, "{exceptions: [{name: x, reason: r, objectSelector: %s}]}", hostPort, "nothing", noPort),
		selectorRows("PortPolicy", "spec.reserved[].nodeSelector", exporter, "{reserved: [{name: exporter, ports: [{port: 8083}], nodeSelector: %s}]}", hostPort, reserved, "nothing"),
		[]lintRow{
			claim("spec.pool", otherClaim, "{pool: PLACE}", "{pool: quick}", "exit 1: PC0309 any1", "nothing"),
			claim("spec.port", otherClaim, "{port: N0}", "{port: N1}", "exit 1: PC0309 any1", "nothing"),
			claim("spec.service.namespace", otherClaim, "{service: {name: any1, namespace: other}}", "{service: {name: any1, namespace: default}}", "exit 1: PC0309 any1", "nothing"),
			claim("spec.service.name", otherClaim, "{service: {name: other}}", "{service: {name: any1}}", "exit 1: PC0309 any1", "nothing"),
		},
	)
}

// selectorRows are those of a selector, put into a patch, of what has the label team: a.
func selectorRows(kind, field, base, patch, in, selected, left string) []lintRow {
	var rows []lintRow
	for _, s := range []struct{ field, a, b string }{
		{"matchLabels{}", "{matchLabels: {team: a}}", "{matchLabels: {team: b}}"},
		{"matchExpressions[].key", "{matchExpressions: [{key: team, operator: In, values: [a]}]}", "{matchExpressions: [{key: crew, operator: In, values: [a]}]}"},
		{"matchExpressions[].operator", "{matchExpressions: [{key: team, operator: In, values: [a]}]}", "{matchExpressions: [{key: team, operator: NotIn, values: [a]}]}"},
		{"matchExpressions[].operator", "{matchExpressions: [{key: team, operator: Exists}]}", "{matchExpressions: [{key: team, operator: DoesNotExist}]}"},
		{"matchExpressions[].values[]", "{matchExpressions: [{key: team, operator: In, values: [a, c]}]}", "{matchExpressions: [{key: team, operator: In, values: [b, c]}]}"},
	} {
		rows = append(rows, lintRow{
			versions: versions{kind, field + "." + s.field, base, fmt.Sprintf(patch, s.a), fmt.Sprintf(patch, s.b), ""},
			in:       in, state: namespaceA + nodeA, want: [2]string{selected, left},
		})
	}
	return rows
}

func (r lintRow) compare(t *testing.T, program string) {
	t.Helper()
	var places [2]place
	for v := range places {
		places[v] = place{name: "own", first: 30000, now: time.Now(), version: v}
	}
	compare(t, r.versions, places, r.want, func(p place) string { return r.lint(t, program, p) })
}

// lint returns what lint says of a row's manifests where one of the versions exists: "exit 1: PC0307 web, PC0311 pod" and
// the words that its messages contain.
func (r lintRow) lint(t *testing.T, program string, p place) string {
	t.Helper()
	object, err := r.manifest(p)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"in.yaml": p.fill(r.in), "state.yaml": p.fill(r.state) + object} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), program, "lint", "-f", "in.yaml", "--state", "state.yaml", "-o", "json")
	if r.args != "" {
		cmd.Args = append(cmd.Args, r.args)
	}
	cmd.Dir = dir
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	var l report.LintReport
	if err := json.Unmarshal(out, &l); err != nil {
		t.Fatalf("%v in %q, %s", err, out, said.String())
	}
	return told(l, cmd.ProcessState.ExitCode(), r.words)
}

func told(l report.LintReport, exit int, words string) string {
	var found []string
	messages := ""
	for _, f := range l.Findings {
		found = append(found, f.Code+" "+f.Object.Name)
		messages += f.Message + "\n"
	}
	text := strings.Join(found, ", ")
	if text == "" {
		text = "nothing"
	}
	if exit != 0 {
		text = fmt.Sprintf("exit %d: %s", exit, text)
	}
	for word := range strings.FieldsSeq(words) {
		if strings.Contains(messages, word) {
			text += " " + word
		}
	}
	return text
}
