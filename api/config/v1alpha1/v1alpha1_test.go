package v1alpha1

import (
	"errors"
	"flag"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

const head = "apiVersion: config.portcullis.dev/v1alpha1\nkind: PortcullisConfiguration\n"

func mustLoad(t *testing.T, text string) *PortcullisConfiguration {
	t.Helper()
	c, err := Load([]byte(text))
	if err != nil {
		t.Fatalf("Load(%q): %v", text, err)
	}
	return c
}

func mustMarshal(t *testing.T, c *PortcullisConfiguration) string {
	t.Helper()
	text, err := Marshal(c)
	if err != nil {
		t.Fatalf("Marshal: %v", err)
	}
	return string(text)
}

func TestDefaultGolden(t *testing.T) {
	const golden = "testdata/default.yaml"
	got := mustMarshal(t, mustLoad(t, ""))
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("the default configuration (-%s +now, -update rewrites):\n%s", golden, diff)
	}
}

var update = flag.Bool("update", false, "rewrite the golden files")

func TestEmptyFilesAreTheDefaults(t *testing.T) {
	want := mustLoad(t, "")
	for _, text := range []string{"\n", "# nothing\n", "---\n", "---\n# nothing\n---\n", "null\n", "\ufeff", head, head + "---\n", "\ufeff" + head,
		strings.ReplaceAll(head, "\n", "\r\n"), `{"apiVersion":"config.portcullis.dev/v1alpha1","kind":"PortcullisConfiguration"}`,
		head + "nodeReserved:\ndataplane: {localhostNodePorts: null, clusterCIDRs: ~, nodePortAddresses: []}\nenforcement: {}\n"} {
		if diff := cmp.Diff(want, mustLoad(t, text)); diff != "" {
			t.Errorf("Load(%q) (-default +got):\n%s", text, diff)
		}
	}
}

func TestDefaultTwiceIsDefaultOnce(t *testing.T) {
	for _, text := range []string{"", head + "dataplane: {serviceProxy: nftables}\n", head + "nodeReserved: [{name: a, port: 1}]\n"} {
		c, again := mustLoad(t, text), mustLoad(t, text)
		again.Default()
		if diff := cmp.Diff(c, again); diff != "" {
			t.Errorf("%q (-once +twice):\n%s", text, diff)
		}
	}
}

// TestGood loads what follows the head and compares the YAML lines that differ from the default configuration.
func TestGood(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"smaller range", "nodePortRange: 30000-30999", "nodePortRange: 30000-30999"},
		{"range as flag allows", "nodePortRange: 30000+99", "nodePortRange: 30000+99"},
		{"allocate inside", "allocateFrom: 30000-30085, 32767", "allocateFrom: 30000-30085, 32767"},
		{"allocate none", "allocateFrom: none", "allocateFrom: none"},
		{"enforcement", "enforcement: {PC0302: Audit, PC0201: Warn}", "enforcement:|  PC0201: Warn|  PC0302: Audit"},
		{"ephemeral", "ephemeralPortRange: 49152-65535", "ephemeralPortRange: 49152-65535"},
		{"reserved ports", `reservedLocalPorts: "30000-32767,8080"`, "reservedLocalPorts: 30000-32767,8080"},
		{"one reserved port", `reservedLocalPorts: "8080"`, `reservedLocalPorts: "8080"`},
		{"hostIP IPv6", `defaultHostIP: "::"`, `defaultHostIP: '::'`},
		{"hostIP IPv4", "defaultHostIP: 0.0.0.0", "defaultHostIP: 0.0.0.0"},
		{"hostIP none", "defaultHostIP: None", "defaultHostIP: None"},
		{"no reserved sockets", "nodeReserved: []", "nodeReserved: []"},
		{"own reserved sockets", "nodeReserved:\n- {name: dns, port: 53, protocol: UDP, hostIP: \"169.254.20.10\"}\n- {name: dns, port: 53, hostIP: 169.254.20.10}",
			"- name: dns|  hostIP: 169.254.20.10|  port: 53|  protocol: UDP|- name: dns|  hostIP: 169.254.20.10|  port: 53"},
		{"nftables means primary", "dataplane: {serviceProxy: nftables}", "  serviceProxy: nftables|  nodePortAddresses:|  - primary"},
		{"nftables on all", `dataplane: {serviceProxy: nftables, nodePortAddresses: [0.0.0.0/0, "::/0"]}`, "  serviceProxy: nftables|  nodePortAddresses:|  - 0.0.0.0/0|  - ::/0"},
		{"iptables on primary", "dataplane: {nodePortAddresses: [primary]}", "  nodePortAddresses:|  - primary"},
		{"no cluster CIDR", "dataplane: {clusterCIDRs: []}", "  clusterCIDRs: []"},
		{"dual stack", `dataplane: {clusterCIDRs: [10.0.0.0/8, "fd00::/48"]}`, "  - 10.0.0.0/8|  - fd00::/48"},
		{"host bits are let alone", "dataplane: {clusterCIDRs: [10.1.2.3/8]}", "  - 10.1.2.3/8"},
		{"the rest of the data plane", "dataplane: {serviceProxy: ipvs, hostPort: portmap-nftables, localhostNodePorts: false, cniNetwork: k8s-pod-network}",
			"  serviceProxy: ipvs|  hostPort: portmap-nftables|  localhostNodePorts: false|  cniNetwork: k8s-pod-network"},
		{"none at all", "dataplane: {serviceProxy: none, hostPort: none}", "  serviceProxy: none|  hostPort: none"},
		{"old", "dataplane: {serviceProxy: userspace}", "  serviceProxy: userspace"},
		{"uncertain", "onUncertain: Warn", "onUncertain: Warn"},
		{"trusted namespaces", "trustedNamespaces: [lb]", "- lb"},
		{"disclosure", "disclosure: SameNamespace", "disclosure: SameNamespace"},
		{"anchors", "nodeReserved:\n- &a {name: x, port: 1}\n- {<<: *a, port: 2}", "- name: x|  port: 1|- name: x|  port: 2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := mustLoad(t, head+tt.text+"\n")
			text := mustMarshal(t, c)
			if diff := cmp.Diff(c, mustLoad(t, text)); diff != "" {
				t.Errorf("marshalled and loaded again (-first +second):\n%s", diff)
			}
			if diff := cmp.Diff(tt.want, changed(mustMarshal(t, mustLoad(t, "")), text)); diff != "" {
				t.Errorf("lines that are not the default's (-want +got):\n%s", diff)
			}
		})
	}
}

// changed returns the lines of text that base does not have, or has in fewer copies, joined with "|".
func changed(base, text string) string {
	count := map[string]int{}
	for line := range strings.Lines(base) {
		count[line]++
	}
	var lines []string
	for line := range strings.Lines(text) {
		if count[line]--; count[line] < 0 {
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
	return strings.Join(lines, "|")
}

// TestBad loads what follows the two lines of the head and compares the whole error.
func TestBad(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"unknown field", "nodePortRanges: 1-2", "line 3: nodePortRanges: unknown field of PortcullisConfiguration; correct or remove it"},
		{"unknown nested field", "dataplane:\n  serviceProxy: ipvs\n  mode: x", "line 5: dataplane.mode: unknown field of PortcullisConfiguration; correct or remove it"},
		{"unknown field of an item", "nodeReserved:\n- name: a\n  port: 1\n- name: b\n  ports: 2", "line 7: nodeReserved[1].ports: unknown field of PortcullisConfiguration; correct or remove it"},
		{"wrong case", "nodeportrange: 1-2", "line 3: nodeportrange: unknown field of PortcullisConfiguration; correct or remove it"},
		{"two unknown fields", "b: 1\na: 1", "line 3: b: unknown field of PortcullisConfiguration; correct or remove it\nline 4: a: unknown field of PortcullisConfiguration; correct or remove it"},
		{"given twice", "onUncertain: Deny\nonUncertain: Warn", "line 4: onUncertain: is given twice, first on line 3; keep one"},
		{"nested twice", "nodeReserved:\n- name: a\n  port: 1\n  name: b", "line 6: nodeReserved[0].name: is given twice, first on line 4; keep one"},
		{"second document", "---\nkind: X", "line 4: a second document begins here; a configuration file is one document"},
		{"syntax", "a: [", "line 3: the file is not valid YAML near here: did not find expected node content"},
		{"number for a range", "reservedLocalPorts: 8080", "line 3: reservedLocalPorts: cannot be a number; write text, in quotes"},
		{"text for a port", "nodeReserved:\n- name: a\n  port: \"1\"", "line 3: nodeReserved.port: cannot be a string; write a whole number, without quotes"},
		{"fraction for a port", "nodeReserved: [{name: a, port: 1.5}]", "line 3: nodeReserved.port: cannot be a number 1.5; write a whole number, without quotes"},
		{"text for a list", "dataplane:\n  clusterCIDRs: 10.0.0.0/8", "line 4: dataplane.clusterCIDRs: cannot be a string; write a list"},
		{"text for yes or no", "dataplane:\n  localhostNodePorts: \"true\"", "line 4: dataplane.localhostNodePorts: cannot be a string; write true or false, without quotes"},
		{"text for fields", "dataplane: iptables", "line 3: dataplane: cannot be a string; write fields"},
		{"list for fields", "enforcement: [PC0101]", "line 3: enforcement: cannot be a list; write fields"},

		{"range", "nodePortRange: 32767-30000", `line 3: nodePortRange: Invalid value: "32767-30000": range "32767-30000" ends before it starts; write what the API server has as --service-node-port-range, like 30000-32767`},
		{"two ranges", "nodePortRange: 1-2,4-5", `line 3: nodePortRange: Invalid value: "1-2,4-5": range "1-2,4-5": port "2,4-5" is not a number from 1 to 65535; write what the API server has as --service-node-port-range, like 30000-32767`},
		{"allocate outside", "allocateFrom: 20000-20010,30000", `line 3: allocateFrom: Invalid value: "20000-20010,30000": 20000-20010 is not inside nodePortRange 30000-32767; choose ranges inside it`},
		{"allocate across the end", "nodePortRange: 30000-30999\nallocateFrom: 30900-31000", `line 4: allocateFrom: Invalid value: "30900-31000": 30900-31000 is not inside nodePortRange 30000-30999; choose ranges inside it`},
		{"allocate word", "allocateFrom: all", `line 3: allocateFrom: Invalid value: "all": range "all": port "all" is not a number from 1 to 65535; write ranges like 30000-30099,30500, or "none", or leave it empty`},
		{"ephemeral", "ephemeralPortRange: \"32768\\t60999\"", `line 3: ephemeralPortRange: Invalid value: "32768\t60999": range "32768\t60999": port "32768\t60999" is not a number from 1 to 65535; write the nodes' net.ipv4.ip_local_port_range with a dash, like 32768-60999`},
		{"reserved ports", "reservedLocalPorts: 0-5", `line 3: reservedLocalPorts: Invalid value: "0-5": range "0-5": port "0" is not a number from 1 to 65535; write the nodes' net.ipv4.ip_local_reserved_ports, like 30000-32767,8080, or leave it empty`},
		{"code", "enforcement:\n  PC302: Deny", `line 4: enforcement[PC302]: Invalid value: "PC302": a code is PC and four digits, like PC0302`},
		{"enforcement", "enforcement:\n  PC0302: Deny\n  PC0201: deny", `line 5: enforcement[PC0201]: Invalid value: "deny": write one of Deny, Warn, Audit`},
		{"hostIP", "defaultHostIP: 127.0.0.1", `line 3: defaultHostIP: Invalid value: "127.0.0.1": write one of Auto, 0.0.0.0, ::, None`},
		{"no namespace", "trustedNamespaces: [kube_system]", `line 3: trustedNamespaces[0]: Invalid value: "kube_system": is not the name of a namespace; write one like kube-system`},
		{"disclosure", "disclosure: None", `line 3: disclosure: Invalid value: "None": write one of Full, SameNamespace`},
		{"uncertain", "onUncertain: Audit", `line 3: onUncertain: Invalid value: "Audit": write one of Deny, Warn`},
		{"reserved without name", "nodeReserved:\n- port: 1", "line 4: nodeReserved[0].name: Required value: name the daemon that holds the port, like kubelet"},
		{"reserved with a strange name", "nodeReserved:\n- {port: 1, name: a/b}", `line 4: nodeReserved[0].name: Invalid value: "a/b": write at most 63 letters, digits, dots, dashes and underscores, like kube-proxy`},
		{"reserved without port", "nodeReserved:\n- name: a", "line 4: nodeReserved[0].port: Invalid value: 0: write a number from 1 to 65535"},
		{"reserved with a big port", "nodeReserved:\n- name: a\n  port: 65536", "line 5: nodeReserved[0].port: Invalid value: 65536: write a number from 1 to 65535"},
		{"reserved protocol", "nodeReserved:\n- name: a\n  port: 1\n  protocol: tcp", `line 6: nodeReserved[0].protocol: Invalid value: "tcp": write one of TCP, UDP, SCTP`},
		{"reserved address", "nodeReserved:\n- name: a\n  port: 1\n  hostIP: localhost", `line 6: nodeReserved[0].hostIP: Invalid value: "localhost": is not an IP address; write the one that the daemon listens on, or leave it out for all`},
		{"reserved twice", "nodeReserved:\n- {name: a, port: 1, hostIP: \"::ffff:10.0.0.1\"}\n- {name: b, port: 1, hostIP: 10.0.0.1}",
			`line 5: nodeReserved[1]: Invalid value: "10.0.0.1:1/TCP": is listed already as nodeReserved[0] (a); keep one of the two`},
		{"proxy", "dataplane: {serviceProxy: ebpf}", `line 3: dataplane.serviceProxy: Invalid value: "ebpf": write one of iptables, nftables, ipvs, userspace, none, unknown`},
		{"hostPort", "dataplane: {hostPort: iptables}", `line 3: dataplane.hostPort: Invalid value: "iptables": write one of portmap-iptables, portmap-nftables, none, unknown`},
		{"cluster CIDR", "dataplane:\n  clusterCIDRs:\n  - 10.0.0.0/8\n  - 10.244.0.0", `line 6: dataplane.clusterCIDRs[1]: Invalid value: "10.244.0.0": is no CIDR; write one like 10.244.0.0/16`},
		{"cluster CIDR twice", "dataplane: {clusterCIDRs: [10.1.0.0/8, 10.2.0.0/8]}", `line 3: dataplane.clusterCIDRs[1]: Invalid value: "10.2.0.0/8": is given twice; remove one`},
		{"nodePort address", "dataplane: {nodePortAddresses: [all]}", `line 3: dataplane.nodePortAddresses[0]: Invalid value: "all": is no CIDR; write one like 192.0.2.0/24, or the single word primary`},
		{"primary and more", "dataplane: {nodePortAddresses: [10.0.0.0/8, primary]}", `line 3: dataplane.nodePortAddresses[1]: Invalid value: "primary": stands alone; remove it or the others`},
		{"network", "dataplane: {cniNetwork: a b}", `line 3: dataplane.cniNetwork: Invalid value: "a b": is not the name of a CNI network; write the "name" of the file in /etc/cni/net.d`},
		{"everything at once", "onUncertain: x\nnodePortRange: why\ndefaultHostIP: z", `line 3: onUncertain: Invalid value: "x": write one of Deny, Warn` + "\n" +
			`line 4: nodePortRange: Invalid value: "why": range "why": port "why" is not a number from 1 to 65535; write what the API server has as --service-node-port-range, like 30000-32767` + "\n" +
			`line 5: defaultHostIP: Invalid value: "z": write one of Auto, 0.0.0.0, ::, None`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			wantError(t, head+tt.text+"\n", tt.want)
		})
	}
}

// TestNotOurs loads whole files that do not begin as ours do.
func TestNotOurs(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"no kind", "# hello\napiVersion: config.portcullis.dev/v1alpha1", "line 2: kind: Required value: write kind: PortcullisConfiguration"},
		{"neither", "nodePortRange: 1-2", "line 1: apiVersion: Required value: write apiVersion: config.portcullis.dev/v1alpha1\nline 1: kind: Required value: write kind: PortcullisConfiguration"},
		{"other version", "kind: PortcullisConfiguration\napiVersion: config.portcullis.dev/v1", `line 2: apiVersion: Invalid value: "config.portcullis.dev/v1": write config.portcullis.dev/v1alpha1`},
		{"other kind", "apiVersion: config.portcullis.dev/v1alpha1\nkind: PortPool", `line 2: kind: Invalid value: "PortPool": write PortcullisConfiguration`},
		{"list", "- a", `line 1: the file does not hold fields; begin it with "apiVersion: config.portcullis.dev/v1alpha1"`},
		{"word", "hello", `line 1: the file does not hold fields; begin it with "apiVersion: config.portcullis.dev/v1alpha1"`},
		{"control character", "a: \x01", "the file is not valid YAML: control characters are not allowed"},
		{"alias without anchor", "a: *b", "the file is not valid YAML: unknown anchor 'b' referenced"},
		{"itself", "a: &a [*a]", "the file is not valid YAML: anchor 'a' value contains itself"},
	} {
		t.Run(tt.name, func(t *testing.T) { wantError(t, tt.text, tt.want) })
	}
}

func wantError(t *testing.T, text, want string) {
	t.Helper()
	c, err := Load([]byte(text))
	if err == nil {
		t.Fatalf("Load(%q) = %+v, want the error %q", text, c, want)
	}
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Errorf("Load(%q), error (-want +got):\n%s", text, diff)
	}
}

func FuzzLoad(f *testing.F) {
	golden, err := os.ReadFile("testdata/default.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, text := range []string{string(golden), head, head + "nodeReserved: []\ndataplane: {serviceProxy: nftables}\n", head + "enforcement: {PC0101: Warn}\n",
		head + "nodeReserved: [&a {name: x, port: 1}, {<<: *a, port: 2}]\n", "a: &a [*a]", "---\n---\n", head + "dataplane: {cniNetwork: yes}"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if !utf8.Valid(data) {
			return // the lines of UTF-16 are counted otherwise
		}
		c, err := Load(data)
		if err != nil {
			// YAML breaks lines at all of these.
			last := 1 + len(regexp.MustCompile("[\n\r\u0085\u2028\u2029]").FindAll(data, -1))
			if !allWithin(err, last) {
				t.Fatalf("a line that the file's %d lines do not have: %v", last, err)
			}
			return
		}
		if diff := cmp.Diff(c, mustLoad(t, mustMarshal(t, c))); diff != "" {
			t.Errorf("marshalled and loaded again (-first +second):\n%s", diff)
		}
	})
}

// allWithin reports whether every error that err joins lies on a line of the file, or on none.
func allWithin(err error, last int) bool {
	errs := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		errs = joined.Unwrap()
	}
	return !slices.ContainsFunc(errs, func(err error) bool {
		var e *Error
		return !errors.As(err, &e) || e.Line < 0 || e.Line > last
	})
}
