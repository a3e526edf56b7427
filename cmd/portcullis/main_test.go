package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/cli"
	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/clitest"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// runCommand runs the program.
func runCommand(t *testing.T, stdin string, args ...string) clitest.Outcome {
	t.Helper()
	return clitest.Execute(t, newCommand(), stdin, args)
}

// TestHelp: what there is can be found.
func TestHelp(t *testing.T) {
	for _, c := range []struct {
		args []string
		says []string
	}{
		{[]string{"version"}, []string{"development"}},
		{[]string{"--help"}, []string{"lint ", "serve ", "version ", "completion "}},
		{[]string{"lint", "--help"}, []string{
			"--filename PATH", "--state PATH", "--config FILE", "--explain CODE", "table, json, sarif, junit, github", "error, warning, never", "Exit code: 0",
		}},
	} {
		o := runCommand(t, "", c.args...)
		for _, want := range c.says {
			if o.Exit != 0 || !strings.Contains(o.Stdout, want) {
				t.Errorf("%v: exit %d, lacks %q:\n%s", c.args, o.Exit, want, o.Stdout)
			}
		}
	}
}

// TestTooWide: of a Service whose external IPs are too many each command tells that they are not looked at, and looks at its other
// ports.
func TestTooWide(t *testing.T) {
	entries, ips := []string{"{name: np, port: 9999, nodePort: 30500}"}, []string{}
	for i := range 101 {
		entries = append(entries, fmt.Sprintf("{name: p%d, port: %d}", i, i+1))
		ips = append(ips, fmt.Sprintf("192.0.2.%d", i+1))
	}
	clitest.Folder(t, map[string]string{"state.yaml": "{apiVersion: v1, kind: Service, metadata: {name: wide, namespace: shop}, spec: {type: NodePort, ports: [" +
		strings.Join(entries, ", ") + "], externalIPs: [" + strings.Join(ips, ", ") + "]}}\n",
		"pool.yaml": "{apiVersion: portcullis.dev/v1alpha1, kind: PortPool, metadata: {name: web}, spec: {ranges: [{port: 30500}], namespaceSelector: {}}}\n"})
	for _, args := range [][]string{
		{"ports", "-f", "state.yaml"}, {"audit", "-f", "state.yaml"}, {"why", "shop/web", "-f", "state.yaml"}, {"generate", "vap", "-f", "state.yaml"},
		{"pool", "status", "-f", "state.yaml"}, {"pool", "suggest", "-f", "state.yaml"}, {"pool", "check", "-f", "pool.yaml", "--state", "state.yaml"},
	} {
		if o := runCommand(t, "", args...); strings.Count(o.Stderr, "state.yaml:1: spec.externalIPs: ") != 1 || strings.Count(o.Stderr, "(PC0702)\n") != 1 {
			t.Errorf("%v: exit %d\n%s\n%s", args, o.Exit, o.Stdout, o.Stderr)
		}
	}
	if o := runCommand(t, "", "ports", "-f", "state.yaml"); o.Exit != 0 || !strings.Contains(o.Stdout, "30500") {
		t.Errorf("exit %d\n%s\n%s", o.Exit, o.Stdout, o.Stderr)
	}
	// What else there is, is judged.
	o := runCommand(t, "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c, ports: [{containerPort: 80, hostPort: 31000}]}]}}", "lint", "-f", "state.yaml", "-f", "-", "--state", "state.yaml")
	if o.Exit != cli.ExitFindings || strings.Count(o.Stderr, "PC0702") != 1 || !strings.Contains(o.Stdout, "PC0303") || !strings.Contains(o.Stdout, "error     PC0702  Service shop/wide") {
		t.Errorf("lint: exit %d\n%s\n%s", o.Exit, o.Stdout, o.Stderr)
	}
}

// TestUnjudged: a command that makes no findings tells of which kinds nothing is known, too; in JSON it counts them.
func TestUnjudged(t *testing.T) {
	clitest.Folder(t, map[string]string{
		"all.yaml": clitest.App1 + clitest.And + clitest.LonePod + clitest.And + "{apiVersion: helm.toolkit.fluxcd.io/v2, kind: HelmRelease, metadata: {name: a}}\n---\n{apiVersion: v1, kind: Node, metadata: {name: n1}}\n",
	})
	const said = "not judged: 1 HelmRelease (helm.toolkit.fluxcd.io/v2)\n"
	for args, inJSON := range map[string]bool{"ports": true, "ports 30062": true, "why lone": true, "pool status": true, "rules --node n1": false, "trace --node n1 --node-address 192.0.2.1 --to 192.0.2.1:30062/TCP": false} {
		o := runCommand(t, "", append(strings.Fields(args), "-f", "all.yaml", "-o", "json")...)
		if !strings.Contains(o.Stderr, said) || o.Exit == cli.ExitUsage {
			t.Errorf("%s: exit %d, and does not say %q: %s", args, o.Exit, said, o.Stderr)
		}
		var r struct{ Inputs *report.Inputs }
		if err := json.Unmarshal([]byte(o.Stdout), &r); err != nil {
			t.Fatal(err)
		}
		want := []report.KindCount{{APIVersion: "helm.toolkit.fluxcd.io/v2", Kind: "HelmRelease", Count: 1}}
		if inJSON && (r.Inputs == nil || !slices.Equal(r.Inputs.NotJudged, want)) {
			t.Errorf("%s counts %+v", args, r.Inputs)
		}
	}
}

// TestTraceFindsOut: which components there are, the cluster CIDR and the endpoints come from the objects, as for ports, unless
// flags or the configuration say them. What is assumed is said.
func TestTraceFindsOut(t *testing.T) {
	const proxied = "{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: kube-proxy, namespace: kube-system}, spec: {template: {spec: {containers: [{name: p, command: [kube-proxy, --config=/c]}]}}}}\n"
	file := func(mode string) string {
		return "{apiVersion: v1, kind: ConfigMap, metadata: {name: kube-proxy, namespace: kube-system}, data: {config.conf: \"mode: " + mode + "\\nclusterCIDR: 10.244.0.0/16\\n\"}}\n"
	}
	const cni = "{apiVersion: v1, kind: ConfigMap, metadata: {name: kube-flannel-cfg, namespace: kube-flannel}, data: {cni-conf.json: '{\"plugins\": [{\"type\": \"portmap\"}]}'}}\n"
	const ready = "{apiVersion: v1, kind: Pod, metadata: {name: w, labels: {app: b}}, spec: {nodeName: n1, containers: [{name: c}]}, status: {podIP: 10.244.1.30, conditions: [{type: Ready, status: \"True\"}]}}\n"
	selecting := strings.Replace(clitest.Served, "spec: {", "spec: {selector: {app: b}, ", 1)
	clitest.Folder(t, map[string]string{
		"bare.yaml": clitest.Node1 + clitest.And + clitest.Mapped + clitest.And + selecting + clitest.And + ready,
		"ipvs.yaml": proxied + clitest.And + file("ipvs") + clitest.And + cni, "iptables.yaml": proxied + clitest.And + file("iptables") + clitest.And + cni,
		"none.yaml": clitest.Node1 + clitest.And + clitest.Served,
		"c.yaml":    "{apiVersion: config.portcullis.dev/v1alpha1, kind: PortcullisConfiguration, dataplane: {serviceProxy: none, hostPort: portmap-iptables}}",
	})
	const service, pod = "10.244.1.30:80, Service default/b", "10.244.1.10:80, Pod default/a"
	const assumed = "assumed, as no object tells: "
	for _, c := range []struct{ args, to, says string }{
		{"-f bare.yaml", service, assumed + "kube-proxy in iptables mode, portmap with iptables (--service-proxy, --host-port)\n"},
		{"-f bare.yaml -f iptables.yaml", service, ""},
		{"-f bare.yaml -f ipvs.yaml", pod, ""},
		{"-f bare.yaml -f ipvs.yaml --service-proxy iptables", service, ""},
		{"-f bare.yaml --config c.yaml", pod, ""},
		{"-f none.yaml", "reject, Service default/b", "assumed to have no endpoints, as neither they nor ready pods are among the objects: /b\n"},
	} {
		o := runCommand(t, "", strings.Fields("trace --node n1 --to 192.0.2.1:30007/TCP "+c.args)...)
		if !strings.Contains(o.Stdout, "=> "+c.to) || !strings.Contains(o.Stderr, c.says) || c.says == "" && strings.Contains(o.Stderr, assumed+"kube-proxy in") {
			t.Errorf("%s: want %q and %q in\n%s%s", c.args, c.to, c.says, o.Stdout, o.Stderr)
		}
		if ports := runCommand(t, "", strings.Fields("ports 30007 "+c.args)...); !strings.Contains(c.args, "--service-proxy") && c.to == pod && !strings.Contains(ports.Stdout, "from outside, from pods, from the node itself, over loopback: Pod default/a") {
			t.Errorf("%s: ports says\n%s", c.args, ports.Stdout)
		}
	}
	with := runCommand(t, "", strings.Fields("rules --node n1 -f bare.yaml -f iptables.yaml")...)
	if !strings.Contains(with.Stdout, "! -s 10.244.0.0/16") {
		t.Errorf("rules does not know the cluster CIDR:\n%s", with.Stdout)
	}
}
