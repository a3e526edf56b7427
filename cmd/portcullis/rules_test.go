package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// One node with a pod that maps a host port, and a Service that has the number as its nodePort.
const (
	node1   = "{apiVersion: v1, kind: Node, metadata: {name: n1}, spec: {podCIDR: 10.244.1.0/24}, status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}}\n"
	node2   = "{apiVersion: v1, kind: Node, metadata: {name: n2}, status: {addresses: [{type: InternalIP, address: 192.0.2.2}]}}\n"
	mapped  = "{apiVersion: v1, kind: Pod, metadata: {name: a, uid: u1}, spec: {nodeName: n1, containers: [{name: c, ports: [{containerPort: 80, hostPort: 30007}]}]}, status: {podIP: 10.244.1.10}}\n"
	served  = "{apiVersion: v1, kind: Service, metadata: {name: b}, spec: {type: NodePort, clusterIP: 10.96.0.5, ports: [{name: http, port: 80, nodePort: 30007}]}}\n"
	serving = "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: b-1, labels: {kubernetes.io/service-name: b}}, addressType: IPv4, ports: [{name: http, port: 8080}], endpoints: [{addresses: [10.244.1.20], nodeName: n1}]}\n"
	// The pod of a listing that somebody published, in which the sandbox had this id.
	published = "{apiVersion: v1, kind: Pod, metadata: {name: web, annotations: {portcullis.dev/sandbox-id: 07dbe45d8e31690c76141e5e16132b086f6a2d5b63216584009b990a7c08552c}}, spec: {nodeName: n1, containers: [{name: c, ports: [{containerPort: 8000, hostPort: 10000}]}]}, status: {podIP: 10.244.1.155}}\n"
)

func TestRulesOfAPublishedListing(t *testing.T) {
	folder(t, map[string]string{"w.yaml": node1 + and + published})
	o := runCommand(t, "", "rules", "-f", "w.yaml", "--node", "n1", "--service-proxy", "none", "--cni-network", "kindnet", "--pod-prefix-length", "32")
	var rules []string
	for line := range strings.Lines(o.stdout) {
		if strings.Contains(line, "CNI-DN-2a6b9967ebd3cd7a5eeb3") && strings.HasPrefix(line, "-A") {
			rules = append(rules, strings.TrimSpace(line))
		}
	}
	want := []string{
		`-A CNI-DN-2a6b9967ebd3cd7a5eeb3 -s 10.244.1.155/32 -p tcp -m tcp --dport 10000 -j CNI-HOSTPORT-SETMARK`,
		`-A CNI-DN-2a6b9967ebd3cd7a5eeb3 -s 127.0.0.1/32 -p tcp -m tcp --dport 10000 -j CNI-HOSTPORT-SETMARK`,
		`-A CNI-DN-2a6b9967ebd3cd7a5eeb3 -p tcp -m tcp --dport 10000 -j DNAT --to-destination 10.244.1.155:8000`,
		`-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \"kindnet\" id: \"07dbe45d8e31690c76141e5e16132b086f6a2d5b63216584009b990a7c08552c\"" -m multiport --dports 10000 -j CNI-DN-2a6b9967ebd3cd7a5eeb3`,
	}
	if diff := cmp.Diff(want, rules); diff != "" || o.exit != 0 {
		t.Errorf("exit %d %s (-want +got):\n%s", o.exit, o.stderr, diff)
	}
}

// TestRulesNotKnown: rules of what is not known, and of a node that has none of these, are not made up.
func TestRulesNotKnown(t *testing.T) {
	windows := strings.Replace(node1, "{name: n1}", "{name: n1, labels: {kubernetes.io/os: windows}}", 1)
	reported := strings.Replace(node1, "status: {", "status: {nodeInfo: {operatingSystem: windows}, ", 1)
	folder(t, map[string]string{"w.yaml": node1 + and + mapped + and + served + and + serving, "windows.yaml": windows + and + served, "reported.yaml": reported + and + served})
	for _, c := range []struct {
		args string
		exit int
		says string
		not  string // on stdout
	}{
		{"rules -f w.yaml --service-proxy unknown", 0, "not all rules are here: which rules the node has is not known: name what installs them with --service-proxy\n", "KUBE-"},
		{"rules -f w.yaml --host-port unknown", 0, "with --host-port\n", "CNI-"},
		{"trace -f w.yaml --service-proxy unknown --host-port unknown --from external --to 192.0.2.1:30007/TCP", 2, "with --service-proxy and --host-port\n", "30007"},
		{"rules -f windows.yaml", 2, "node n1 runs Windows: kube-proxy works in its winkernel mode there, and portmap not at all", "-A"},
		{"rules -f reported.yaml", 2, "node n1 runs Windows", "-A"},
		{"trace -f windows.yaml --from external --to 192.0.2.1:30007/TCP", 2, "node n1 runs Windows", "30007"},
	} {
		o := runCommand(t, "", strings.Fields(c.args)...)
		if o.exit != c.exit || !strings.Contains(o.stderr, c.says) || strings.Contains(o.stdout, c.not) {
			t.Errorf("%s: exit %d, want %d with %q: %s\n%s", c.args, o.exit, c.exit, c.says, o.stderr, o.stdout)
		}
	}
}

// TestRulesForms: every form has what its tool expects at its beginning, and JSON is the kind that it says.
func TestRulesForms(t *testing.T) {
	folder(t, map[string]string{"w.yaml": node1 + and + mapped + and + served + and + serving})
	for _, c := range []struct{ flags, want string }{
		{"-o save", "*mangle\n"},
		{"-o restore", "*"},
		{"-o save --family ipv6", "*mangle\n"},
		{"-o nft --service-proxy nftables --host-port portmap-nftables", "add table ip kube-proxy"},
		{"-o ipset --service-proxy ipvs", "create KUBE-"},
		{"-o ipvsadm --service-proxy ipvs", "-A -t "},
	} {
		o := runCommand(t, "", append([]string{"rules", "-f", "w.yaml"}, strings.Fields(c.flags)...)...)
		if o.exit != 0 || !strings.HasPrefix(o.stdout, c.want) {
			t.Errorf("%s: exit %d %s, %.80q", c.flags, o.exit, o.stderr, o.stdout)
		}
	}
	var r report.RuleSet
	o := runCommand(t, "", "rules", "-f", "w.yaml", "-o", "json", "--service-proxy", "ipvs")
	if err := json.Unmarshal([]byte(o.stdout), &r); err != nil || r.Kind != "RuleSet" || r.APIVersion != "portcullis.dev/v1alpha1" {
		t.Fatalf("%v %+v", err, r)
	}
	owned := slices.ContainsFunc(r.VirtualServers, func(v report.VirtualServer) bool {
		return v.Address == "192.0.2.1:30007" && v.Owner != nil && v.Owner.Name == "b" && slices.Equal(v.Real, []string{"10.244.1.20:8080"})
	})
	if !owned {
		t.Errorf("no virtual server of the Service in %+v", r.VirtualServers)
	}
}

// TestRulesDiff: a node that has what it should differs in nothing; a leaked chain is stale, a rule that went is missing.
func TestRulesDiff(t *testing.T) {
	folder(t, map[string]string{"w.yaml": node1 + and + mapped + and + served + and + serving})
	saved := runCommand(t, "", "rules", "-f", "w.yaml").stdout
	if o := runCommand(t, saved, "rules", "-f", "w.yaml", "--diff", "-"); o.exit != 0 {
		t.Errorf("exit %d\n%s%s", o.exit, o.stdout, o.stderr)
	}
	leaked := strings.Replace(saved, "*nat\n", "*nat\n:CNI-DN-aaaaaaaaaaaaaaaaaaaaa - [0:0]\n", 1)
	leaked = strings.Replace(leaked, "-A CNI-HOSTPORT-MASQ", "-A CNI-DN-aaaaaaaaaaaaaaaaaaaaa -p tcp -m tcp --dport 81 -j DNAT --to-destination 10.244.1.99:81\n-A CNI-HOSTPORT-MASQ", 1)
	leaked = strings.Replace(leaked, "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\n", "-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\n", 1)
	o := runCommand(t, leaked, "rules", "-f", "w.yaml", "--diff", "-", "-o", "json")
	var d report.Drift
	if err := json.Unmarshal([]byte(o.stdout), &d); err != nil {
		t.Fatalf("%v in %q %q", err, o.stdout, o.stderr)
	}
	var got []string
	for _, x := range d.Differences {
		got = append(got, x.Kind+" "+x.Rule)
	}
	want := []string{
		"stale -A CNI-DN-aaaaaaaaaaaaaaaaaaaaa -p tcp -m tcp --dport 81 -j DNAT --to-destination 10.244.1.99:81",
		"foreign -A INPUT -p tcp -m tcp --dport 22 -j ACCEPT",
		"missing -A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000",
	}
	if diff := cmp.Diff(want, got); diff != "" || o.exit != exitFindings {
		t.Errorf("exit %d (-want +got):\n%s", o.exit, diff)
	}
}

func trace(t *testing.T, stdin string, args ...string) report.Trace {
	t.Helper()
	o := runCommand(t, stdin, append([]string{"trace", "-o", "json", "-f", "w.yaml"}, args...)...)
	var r report.Trace
	if err := json.Unmarshal([]byte(o.stdout), &r); err != nil || o.exit != 0 {
		t.Fatalf("exit %d: %v in %q %q", o.exit, err, o.stdout, o.stderr)
	}
	return r
}

// ends: "dnat 10.244.1.20:8080 b" for each path.
func ends(r report.Trace) []string {
	var all []string
	for _, p := range r.Paths {
		end := p.Verdict + " " + p.Destination
		if p.Owner != nil {
			end += " " + p.Owner.Name
		}
		all = append(all, end)
	}
	return all
}

func TestTrace(t *testing.T) {
	folder(t, map[string]string{"w.yaml": node1 + and + node2 + and + mapped + and + served + and + serving})
	const service, pod = "dnat 10.244.1.20:8080 b", "dnat 10.244.1.10:80 a"
	nft := "--service-proxy nftables --host-port portmap-nftables "
	for _, c := range []struct {
		flags     string
		want      []string
		shadowed  string
		dependent bool
	}{
		{"--from external --to 192.0.2.1:30007/TCP", []string{service}, "a", false},
		{"--from pod --to 192.0.2.1:30007/tcp", []string{service}, "a", false},
		{"--from node --to 192.0.2.1:30007", []string{service}, "a", false},
		{"--from loopback --to 127.0.0.1:30007/TCP", []string{service}, "a", false},
		{"--from 198.51.100.9 --to 10.96.0.5:80/TCP", []string{service}, "", false},
		{"--from external --to 192.0.2.1:30008/TCP", []string{"accept 192.0.2.1:30008"}, "", false},
		{"--from external --to 192.0.2.1:30007/UDP", []string{"accept 192.0.2.1:30007"}, "", false},
		{nft + "--from external --to 192.0.2.1:30007/TCP", []string{pod, service}, "b", true},
		{nft + "--started service-proxy,host-port --to 192.0.2.1:30007/TCP", []string{pod}, "b", false},
		{nft + "--started host-port,service-proxy --to 192.0.2.1:30007/TCP", []string{service}, "a", false},
		{"--service-proxy ipvs --to 192.0.2.1:30007/TCP", []string{pod}, "b", false},
		{"--service-proxy none --to 192.0.2.1:30007/TCP", []string{pod}, "", false},
	} {
		r := trace(t, "", append(strings.Fields(c.flags), "--node", "n1")...)
		if diff := cmp.Diff(c.want, ends(r)); diff != "" || r.OrderDependent != c.dependent {
			t.Errorf("%s: order dependent %v (-want +got):\n%s", c.flags, r.OrderDependent, diff)
		}
		got := ""
		if len(r.Shadowed) > 0 {
			got = r.Shadowed[0].Owner.Name
			if r.Shadowed[0].Rule == "" || r.Shadowed[0].Why == "" {
				t.Errorf("%s: nothing proves %+v", c.flags, r.Shadowed[0])
			}
		}
		if got != c.shadowed {
			t.Errorf("%s: %q is shadowed, want %q", c.flags, got, c.shadowed)
		}
	}
}

// TestTraceListing follows a packet through what a node printed.
func TestTraceListing(t *testing.T) {
	folder(t, map[string]string{"w.yaml": node1 + and + mapped + and + served + and + serving})
	saved := runCommand(t, "", "rules", "-f", "w.yaml").stdout
	r := trace(t, saved, "--listing", "-", "--to", "192.0.2.1:30007/TCP")
	if diff := cmp.Diff([]string{"dnat 10.244.1.20:8080"}, ends(r)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	text := runCommand(t, "", "trace", "-f", "w.yaml", "--to", "192.0.2.1:30007/TCP").stdout
	for _, want := range []string{"prerouting   nat PREROUTING\n", "=> 10.244.1.20:8080, Service default/b, from the node's own address\n", "Without this rule, Pod default/a would get the packet through:\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for to, want := range map[string]string{
		"192.0.2.1:22/TCP":    "=> 192.0.2.1:22, the process that listens there\n",
		"198.51.100.7:80/TCP": "=> leaves the node for 198.51.100.7:80; not followed further\n",
	} {
		if text := runCommand(t, "", "trace", "-f", "w.yaml", "--from", "pod", "--to", to).stdout; !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestTraceUsage(t *testing.T) {
	folder(t, map[string]string{"w.yaml": node1 + and + node2, "none.yaml": served, "empty.txt": "\n"})
	for _, c := range []struct{ args, want string }{
		{"trace -f w.yaml --node n1", "where to? Write --to"},
		{"trace -f w.yaml --node n1 --to nowhere", "write ADDRESS:PORT/PROTOCOL"},
		{"trace -f w.yaml --node n1 --to 1.2.3.4:80/ICMP", "not one of TCP, UDP, SCTP"},
		{"trace -f w.yaml --to 1.2.3.4:80", "which node? Name one of n1, n2"},
		{"trace -f w.yaml --node n3 --to 1.2.3.4:80", "there is no Node \"n3\""},
		{"trace -f none.yaml --to 1.2.3.4:80", "there is no Node among the objects"},
		{"trace -f w.yaml --node n1 --to 1.2.3.4:80 --from moon", "is not one of external, pod, node, loopback"},
		{"trace -f w.yaml --node n1 --to 1.2.3.4:80 --from ::1", "from one family"},
		{"trace -f w.yaml --node n1 --to 1.2.3.4:80 --started both", "--started"},
		{"trace -f w.yaml --node n1 --to 1.2.3.4:80 --service-proxy x", "not one of iptables"},
		{"trace -f w.yaml --node n1 --to 1.2.3.4:80 -o xml", "not one of text, json"},
		{"rules -f w.yaml --node n1 -o xml", "not one of restore"},
		{"rules -f w.yaml --node n1 -o nft", "--output nft shows nothing of kube-proxy in mode iptables"},
		{"rules -f w.yaml --node n1 --diff empty.txt", "empty.txt: the listing is empty"},
		{"trace -f w.yaml --node n1 --to 1.2.3.4:80 --listing empty.txt", "empty.txt: the listing is empty"},
		{"rules -f w.yaml --node n1 --family ipx", "not one of ipv4, ipv6"},
		{"rules -f w.yaml --node n1 --cluster-cidr x", "--cluster-cidr"},
		{"rules -f w.yaml --node n1 --diff missing.txt", "missing.txt"},
		{"rules --node n1", "there are no objects"},
	} {
		o := runCommand(t, "", strings.Fields(c.args)...)
		if o.exit != exitUsage || !strings.Contains(o.stderr, c.want) {
			t.Errorf("%s: exit %d, %q, want %q", c.args, o.exit, o.stderr, c.want)
		}
	}
	if o := runCommand(t, "-A nowhere\n", "rules", "-f", "w.yaml", "--node", "n1", "--diff", "-"); o.exit != exitUsage || !strings.Contains(o.stderr, "line 1") {
		t.Errorf("a broken listing: exit %d, %q", o.exit, o.stderr)
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
	selecting := strings.Replace(served, "spec: {", "spec: {selector: {app: b}, ", 1)
	folder(t, map[string]string{
		"bare.yaml": node1 + and + mapped + and + selecting + and + ready,
		"ipvs.yaml": proxied + and + file("ipvs") + and + cni, "iptables.yaml": proxied + and + file("iptables") + and + cni,
		"none.yaml": node1 + and + served,
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
		if !strings.Contains(o.stdout, "=> "+c.to) || !strings.Contains(o.stderr, c.says) || c.says == "" && strings.Contains(o.stderr, assumed+"kube-proxy in") {
			t.Errorf("%s: want %q and %q in\n%s%s", c.args, c.to, c.says, o.stdout, o.stderr)
		}
		if ports := runCommand(t, "", strings.Fields("ports 30007 "+c.args)...); !strings.Contains(c.args, "--service-proxy") && c.to == pod && !strings.Contains(ports.stdout, "from outside, from pods, from the node itself, over loopback: Pod default/a") {
			t.Errorf("%s: ports says\n%s", c.args, ports.stdout)
		}
	}
	with := runCommand(t, "", strings.Fields("rules --node n1 -f bare.yaml -f iptables.yaml")...)
	if !strings.Contains(with.stdout, "! -s 10.244.0.0/16") {
		t.Errorf("rules does not know the cluster CIDR:\n%s", with.stdout)
	}
}
