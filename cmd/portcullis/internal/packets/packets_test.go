package packets

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/cli"
	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/clitest"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// runCommand runs a program with the commands of this package.
func runCommand(t *testing.T, stdin string, args ...string) clitest.Outcome {
	t.Helper()
	return clitest.Run(t, stdin, args, Rules(), Trace())
}

func TestRulesOfAPublishedListing(t *testing.T) {
	clitest.Folder(t, map[string]string{"w.yaml": clitest.Node1 + clitest.And + clitest.Published})
	o := runCommand(t, "", "rules", "-f", "w.yaml", "--node", "n1", "--service-proxy", "none", "--cni-network", "kindnet", "--pod-prefix-length", "32")
	var rules []string
	for line := range strings.Lines(o.Stdout) {
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
	if diff := cmp.Diff(want, rules); diff != "" || o.Exit != 0 {
		t.Errorf("exit %d %s (-want +got):\n%s", o.Exit, o.Stderr, diff)
	}
}

// TestRulesNotKnown: rules of what is not known, and of a node that has none of these, are not made up.
func TestRulesNotKnown(t *testing.T) {
	windows := strings.Replace(clitest.Node1, "{name: n1}", "{name: n1, labels: {kubernetes.io/os: windows}}", 1)
	reported := strings.Replace(clitest.Node1, "status: {", "status: {nodeInfo: {operatingSystem: windows}, ", 1)
	clitest.Folder(t, map[string]string{"w.yaml": clitest.Node1 + clitest.And + clitest.Mapped + clitest.And + clitest.Served + clitest.And + clitest.Serving, "windows.yaml": windows + clitest.And + clitest.Served, "reported.yaml": reported + clitest.And + clitest.Served})
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
		if o.Exit != c.exit || !strings.Contains(o.Stderr, c.says) || strings.Contains(o.Stdout, c.not) {
			t.Errorf("%s: exit %d, want %d with %q: %s\n%s", c.args, o.Exit, c.exit, c.says, o.Stderr, o.Stdout)
		}
	}
}

// TestRulesForms: every form has what its tool expects at its beginning, and JSON is the kind that it says.
func TestRulesForms(t *testing.T) {
	clitest.Folder(t, map[string]string{"w.yaml": clitest.Node1 + clitest.And + clitest.Mapped + clitest.And + clitest.Served + clitest.And + clitest.Serving})
	for _, c := range []struct{ flags, want string }{
		{"-o save", "*mangle\n"},
		{"-o restore", "*"},
		{"-o save --family ipv6", "*mangle\n"},
		{"-o nft --service-proxy nftables --host-port portmap-nftables", "add table ip kube-proxy"},
		{"-o ipset --service-proxy ipvs", "create KUBE-"},
		{"-o ipvsadm --service-proxy ipvs", "-A -t "},
	} {
		o := runCommand(t, "", append([]string{"rules", "-f", "w.yaml"}, strings.Fields(c.flags)...)...)
		if o.Exit != 0 || !strings.HasPrefix(o.Stdout, c.want) {
			t.Errorf("%s: exit %d %s, %.80q", c.flags, o.Exit, o.Stderr, o.Stdout)
		}
	}
	var r report.RuleSet
	o := runCommand(t, "", "rules", "-f", "w.yaml", "-o", "json", "--service-proxy", "ipvs")
	if err := json.Unmarshal([]byte(o.Stdout), &r); err != nil || r.Kind != "RuleSet" || r.APIVersion != "portcullis.dev/v1alpha1" {
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
	clitest.Folder(t, map[string]string{"w.yaml": clitest.Node1 + clitest.And + clitest.Mapped + clitest.And + clitest.Served + clitest.And + clitest.Serving})
	saved := runCommand(t, "", "rules", "-f", "w.yaml").Stdout
	if o := runCommand(t, saved, "rules", "-f", "w.yaml", "--diff", "-"); o.Exit != 0 {
		t.Errorf("exit %d\n%s%s", o.Exit, o.Stdout, o.Stderr)
	}
	leaked := strings.Replace(saved, "*nat\n", "*nat\n:CNI-DN-aaaaaaaaaaaaaaaaaaaaa - [0:0]\n", 1)
	leaked = strings.Replace(leaked, "-A CNI-HOSTPORT-MASQ", "-A CNI-DN-aaaaaaaaaaaaaaaaaaaaa -p tcp -m tcp --dport 81 -j DNAT --to-destination 10.244.1.99:81\n-A CNI-HOSTPORT-MASQ", 1)
	leaked = strings.Replace(leaked, "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\n", "-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\n", 1)
	o := runCommand(t, leaked, "rules", "-f", "w.yaml", "--diff", "-", "-o", "json")
	var d report.Drift
	if err := json.Unmarshal([]byte(o.Stdout), &d); err != nil {
		t.Fatalf("%v in %q %q", err, o.Stdout, o.Stderr)
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
	if diff := cmp.Diff(want, got); diff != "" || o.Exit != cli.ExitFindings {
		t.Errorf("exit %d (-want +got):\n%s", o.Exit, diff)
	}
}

func trace(t *testing.T, stdin string, args ...string) report.Trace {
	t.Helper()
	o := runCommand(t, stdin, append([]string{"trace", "-o", "json", "-f", "w.yaml"}, args...)...)
	var r report.Trace
	if err := json.Unmarshal([]byte(o.Stdout), &r); err != nil || o.Exit != 0 {
		t.Fatalf("exit %d: %v in %q %q", o.Exit, err, o.Stdout, o.Stderr)
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
	clitest.Folder(t, map[string]string{"w.yaml": clitest.Node1 + clitest.And + clitest.Node2 + clitest.And + clitest.Mapped + clitest.And + clitest.Served + clitest.And + clitest.Serving})
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
	clitest.Folder(t, map[string]string{"w.yaml": clitest.Node1 + clitest.And + clitest.Mapped + clitest.And + clitest.Served + clitest.And + clitest.Serving})
	saved := runCommand(t, "", "rules", "-f", "w.yaml").Stdout
	r := trace(t, saved, "--listing", "-", "--to", "192.0.2.1:30007/TCP")
	if diff := cmp.Diff([]string{"dnat 10.244.1.20:8080"}, ends(r)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	text := runCommand(t, "", "trace", "-f", "w.yaml", "--to", "192.0.2.1:30007/TCP").Stdout
	for _, want := range []string{"prerouting   nat PREROUTING\n", "=> 10.244.1.20:8080, Service default/b, from the node's own address\n", "Without this rule, Pod default/a would get the packet through:\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for to, want := range map[string]string{
		"192.0.2.1:22/TCP":    "=> 192.0.2.1:22, the process that listens there\n",
		"198.51.100.7:80/TCP": "=> leaves the node for 198.51.100.7:80; not followed further\n",
	} {
		if text := runCommand(t, "", "trace", "-f", "w.yaml", "--from", "pod", "--to", to).Stdout; !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestTraceUsage(t *testing.T) {
	clitest.Folder(t, map[string]string{"w.yaml": clitest.Node1 + clitest.And + clitest.Node2, "none.yaml": clitest.Served, "empty.txt": "\n"})
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
		if o.Exit != cli.ExitUsage || !strings.Contains(o.Stderr, c.want) {
			t.Errorf("%s: exit %d, %q, want %q", c.args, o.Exit, o.Stderr, c.want)
		}
	}
	if o := runCommand(t, "-A nowhere\n", "rules", "-f", "w.yaml", "--node", "n1", "--diff", "-"); o.Exit != cli.ExitUsage || !strings.Contains(o.Stderr, "line 1") {
		t.Errorf("a broken listing: exit %d, %q", o.Exit, o.Stderr)
	}
}
