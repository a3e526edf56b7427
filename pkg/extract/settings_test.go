package extract_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	configv1alpha1 "github.com/portcullis-k8s/portcullis/api/config/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
)

// mustConfigure reads a configuration file as lint and serve do, without its first two lines.
func mustConfigure(text string) *configv1alpha1.PortcullisConfiguration {
	c, err := configv1alpha1.Load([]byte("apiVersion: config.portcullis.dev/v1alpha1\nkind: PortcullisConfiguration\n" + text))
	if err != nil {
		panic(err)
	}
	return c
}

// spell writes what is in settings, in the words of the file.
func spell(s *extract.Settings) string {
	var lines []string
	say := func(key string, value any) {
		if text := fmt.Sprint(value); text != "" && text != "[]" && text != "map[]" {
			lines = append(lines, key+" "+text)
		}
	}
	say("range", s.Check.NodePortRange)
	say("from", s.AllocateFrom)
	for _, r := range s.Check.Reserved {
		say("reserved", r.Name+" "+r.Socket.String())
	}
	say("enforcement", s.Check.Enforcement)
	say("node ports on", s.NodePorts.On(true, true))
	say("default hostIP", string(s.DefaultHostIP))
	say("deny uncertain", s.DenyUncertain)
	return strings.Join(lines, "\n")
}

func TestSettings(t *testing.T) {
	const noDaemons = "nodeReserved: []\n"
	for _, c := range []struct{ why, file, want string }{
		{"the defaults", "", `range 30000-32767
from [30086-32767 30000-30085]
reserved kubelet *:10250/TCP
reserved kubelet 127.0.0.1:10248/TCP
reserved kube-proxy *:10256/TCP
reserved kube-proxy 127.0.0.1:10249/TCP
reserved etcd *:2379/TCP
reserved etcd *:2380/TCP
reserved kube-apiserver *:6443/TCP
reserved kube-controller-manager *:10257/TCP
reserved kube-scheduler *:10259/TCP
reserved rke2 *:9345/TCP
reserved kube-apiserver *:16443/TCP
reserved sshd *:22/TCP
node ports on [* (not loopback)]
default hostIP Auto
deny uncertain true`},
		{"everything", `nodePortRange: 30000-30099
allocateFrom: 30090-30099,30050
enforcement: {PC0302: Audit, PC0105: Deny}
nodeReserved:
- {name: dns, port: 53, protocol: UDP, hostIP: "::1"}
defaultHostIP: "::"
onUncertain: Warn
dataplane: {serviceProxy: iptables, localhostNodePorts: false, nodePortAddresses: [10.0.0.0/8]}
`, `range 30000-30099
from [30050 30090-30099]
reserved dns [::1]:53/UDP
enforcement map[PC0105:Deny PC0302:Audit]
node ports on [10.0.0.0/8 (not loopback) :: (not loopback)]
default hostIP ::
deny uncertain false`},
		{"the API server chooses", noDaemons + "allocateFrom: none\n", `range 30000-32767
node ports on [* (not loopback)]
default hostIP Auto
deny uncertain true`},
		{"iptables serves loopback too", noDaemons + "allocateFrom: none\ndataplane: {serviceProxy: iptables}\n", `range 30000-32767
node ports on [* (not ::1)]
default hostIP Auto
deny uncertain true`},
		{"nftables serves the primary addresses", noDaemons + "allocateFrom: none\ndataplane: {serviceProxy: nftables}\n", `range 30000-32767
node ports on [* (primary)]
default hostIP Auto
deny uncertain true`},
		{"unless told otherwise", noDaemons + "allocateFrom: none\ndataplane: {serviceProxy: nftables, nodePortAddresses: [0.0.0.0/0, '::/0']}\n", `range 30000-32767
node ports on [* (not loopback)]
default hostIP Auto
deny uncertain true`},
		{"iptables on the primary addresses", noDaemons + "allocateFrom: none\ndataplane: {serviceProxy: iptables, nodePortAddresses: [primary]}\n", `range 30000-32767
node ports on [* (primary)]
default hostIP Auto
deny uncertain true`},
		{"ipvs never serves them on loopback", noDaemons + "allocateFrom: none\ndefaultHostIP: None\ndataplane: {serviceProxy: ipvs}\n", `range 30000-32767
node ports on [* (not loopback)]
default hostIP None
deny uncertain true`},
	} {
		s, err := extract.NewSettings(mustConfigure(c.file))
		if err != nil {
			t.Errorf("%s: %v", c.why, err)
			continue
		}
		if diff := cmp.Diff(c.want, spell(s)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.why, diff)
		}
	}
}

func TestSettingsErrors(t *testing.T) {
	good := func() *configv1alpha1.PortcullisConfiguration { return mustConfigure("") }
	for _, c := range []struct {
		want  string
		spoil func(*configv1alpha1.PortcullisConfiguration)
	}{
		{"nodePortRange:", func(c *configv1alpha1.PortcullisConfiguration) { c.NodePortRange = "x" }},
		{"allocateFrom:", func(c *configv1alpha1.PortcullisConfiguration) { c.AllocateFrom = "x" }},
		{"enforcement.PC0101:", func(c *configv1alpha1.PortcullisConfiguration) {
			c.Enforcement = map[string]configv1alpha1.Enforcement{"PC0102": "x", "PC0101": "x", "PC0103": "x"}
		}},
		{"enforcement.PC9999: there is no such code", func(c *configv1alpha1.PortcullisConfiguration) {
			c.Enforcement = map[string]configv1alpha1.Enforcement{"PC9999": "Deny"}
		}},
		{"nodeReserved[1].hostIP:", func(c *configv1alpha1.PortcullisConfiguration) { c.NodeReserved[1].HostIP = "x" }},
		{"nodeReserved[2].protocol:", func(c *configv1alpha1.PortcullisConfiguration) { c.NodeReserved[2].Protocol = "x" }},
		{"nodeReserved[0].port:", func(c *configv1alpha1.PortcullisConfiguration) { c.NodeReserved[0].Port = 65536 }},
		{"dataplane.nodePortAddresses[0]:", func(c *configv1alpha1.PortcullisConfiguration) { c.DataPlane.NodePortAddresses = []string{"x"} }},
	} {
		for range 10 { // of several mistakes always the same is told
			config := good()
			c.spoil(config)
			if s, err := extract.NewSettings(config); err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Fatalf("%v, %v; want an error %q", s, err, c.want)
			}
		}
	}
}

func TestDefaultHostIP(t *testing.T) {
	v4, v6, both := check.Families{IPv4: true}, check.Families{IPv6: true}, check.Families{IPv4: true, IPv6: true}
	for _, c := range []struct {
		choice configv1alpha1.HostIP
		on     check.Families
		want   string
	}{
		{configv1alpha1.HostIPAuto, v4, "0.0.0.0"},
		{configv1alpha1.HostIPAuto, v6, "::"},
		{configv1alpha1.HostIPAuto, both, ""},
		{configv1alpha1.HostIPAuto, check.Families{}, ""},
		{configv1alpha1.HostIPAllIPv4, both, "0.0.0.0"},
		{configv1alpha1.HostIPAllIPv4, v6, "0.0.0.0"},
		{configv1alpha1.HostIPAllIPv6, v4, "::"},
		{configv1alpha1.HostIPNone, v4, ""},
		{"", v4, ""},
	} {
		if got := extract.DefaultHostIP(c.choice).For(c.on); got != c.want {
			t.Errorf("%q on %+v: %q, want %q", c.choice, c.on, got, c.want)
		}
	}
}

// TestEveryCodeCanBeEnforced shows that the file's own rules let every code of the catalogue through.
func TestEveryCodeCanBeEnforced(t *testing.T) {
	for _, e := range check.Catalogue() {
		s, err := extract.NewSettings(mustConfigure(fmt.Sprintf("enforcement: {%s: Warn}\n", e.Code)))
		if err != nil || s.Check.Enforcement[e.Code] != check.Warn {
			t.Errorf("%s: %v, %v", e.Code, s, err)
		}
	}
}
