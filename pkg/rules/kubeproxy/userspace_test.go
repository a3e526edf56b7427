package kubeproxy_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
	"github.com/portcullis-k8s/portcullis/pkg/rules/kubeproxy"
	"github.com/portcullis-k8s/portcullis/pkg/rules/text"
)

// TestUserspace: from each source of packets to the rules that it has.
func TestUserspace(t *testing.T) {
	const (
		http = `-m comment --comment "default/web:http" -m tcp --dport 80`
		node = `-p tcp -m comment --comment "default/web:http" -m tcp --dport 30007`
	)
	for _, test := range []struct {
		name   string
		change func(*rules.Service)
		family rules.Family
		want   []string
	}{
		{"cluster IP", func(s *rules.Service) { s.Ports[0].NodePort = 0 }, rules.IPv4, []string{
			"-A KUBE-PORTALS-CONTAINER -d 10.96.0.10/32 -p tcp " + http + " -j REDIRECT --to-ports 40000",
			"-A KUBE-PORTALS-HOST -d 10.96.0.10/32 -p tcp " + http + " -j DNAT --to-destination 192.0.2.1:40000",
		}},
		{"node port", func(s *rules.Service) {}, rules.IPv4, []string{
			`-A KUBE-NODEPORT-NON-LOCAL -p tcp -m comment --comment "default/web:http" -m tcp --dport 40000 -m state --state NEW -j ACCEPT`,
			"-A KUBE-NODEPORT-CONTAINER " + node + " -j REDIRECT --to-ports 40000",
			"-A KUBE-NODEPORT-HOST " + node + " -j DNAT --to-destination 192.0.2.1:40000",
			"-A KUBE-PORTALS-CONTAINER -d 10.96.0.10/32 -p tcp " + http + " -j REDIRECT --to-ports 40000",
			"-A KUBE-PORTALS-HOST -d 10.96.0.10/32 -p tcp " + http + " -j DNAT --to-destination 192.0.2.1:40000",
		}},
		{"external IP, load balancer", func(s *rules.Service) {
			s.Ports[0].NodePort = 0
			s.ExternalIPs, s.LoadBalancerIPs = []netip.Addr{netip.MustParseAddr("198.51.100.8")}, []netip.Addr{netip.MustParseAddr("198.51.100.7")}
		}, rules.IPv4, []string{
			"-A KUBE-PORTALS-CONTAINER -d 10.96.0.10/32 -p tcp " + http + " -j REDIRECT --to-ports 40000",
			"-A KUBE-PORTALS-CONTAINER -d 198.51.100.8/32 -p tcp " + http + " -m physdev ! --physdev-is-in -j REDIRECT --to-ports 40000",
			"-A KUBE-PORTALS-CONTAINER -d 198.51.100.8/32 -p tcp " + http + " -m addrtype --dst-type LOCAL -j REDIRECT --to-ports 40000",
			"-A KUBE-PORTALS-CONTAINER -d 198.51.100.7/32 -p tcp " + http + " -j REDIRECT --to-ports 40000",
			"-A KUBE-PORTALS-HOST -d 10.96.0.10/32 -p tcp " + http + " -j DNAT --to-destination 192.0.2.1:40000",
			"-A KUBE-PORTALS-HOST -d 198.51.100.8/32 -p tcp " + http + " -m addrtype --dst-type LOCAL -j DNAT --to-destination 192.0.2.1:40000",
			"-A KUBE-PORTALS-HOST -d 198.51.100.7/32 -p tcp " + http + " -j DNAT --to-destination 192.0.2.1:40000",
		}},
		{"IPv6", func(s *rules.Service) {
			s.Ports[0].NodePort, s.ClusterIPs = 0, []netip.Addr{netip.MustParseAddr("fd00:10:96::1")}
		}, rules.IPv6, []string{
			"-A KUBE-PORTALS-CONTAINER -d fd00:10:96::1/128 -p tcp " + http + " -j REDIRECT --to-ports 40000",
			"-A KUBE-PORTALS-HOST -d fd00:10:96::1/128 -p tcp " + http + " -j DNAT --to-destination [2001:db8::1]:40000",
		}},
		{"nothing of the other family", func(s *rules.Service) {}, rules.IPv6, nil},
		{"policies, affinity, ranges and endpoints change nothing", func(s *rules.Service) {
			s.Ports[0].NodePort, s.Ports[0].Endpoints = 0, nil
			s.InternalLocal, s.ExternalLocal, s.AffinitySeconds, s.SourceRanges = true, true, 10, []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
		}, rules.IPv4, []string{
			"-A KUBE-PORTALS-CONTAINER -d 10.96.0.10/32 -p tcp " + http + " -j REDIRECT --to-ports 40000",
			"-A KUBE-PORTALS-HOST -d 10.96.0.10/32 -p tcp " + http + " -j DNAT --to-destination 192.0.2.1:40000",
		}},
	} {
		w := userspaceWorld()
		test.change(w.Services[0])
		got := ruleLines(userspaceListing(w, test.family))
		if diff := cmp.Diff(test.want, got, cmpEmpty()); diff != "" {
			t.Errorf("%s (-want +got)\n%s", test.name, diff)
		}
	}
}

func cmpEmpty() cmp.Option {
	return cmp.Transformer("text", func(lines []string) string { return strings.Join(lines, "\n") })
}

func userspaceWorld() *rules.World {
	w := web()
	w.Node.Addresses = []netip.Addr{netip.MustParseAddr("192.0.2.11"), netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}
	w.Node.IPs = []netip.Addr{netip.MustParseAddr("192.0.2.1")} // that of IPv6 is not known
	return w
}

func userspaceListing(w *rules.World, f rules.Family) string {
	portOf := func(*rules.Service, ports.ServicePort) uint16 { return 40000 }
	return text.Save(rules.Install(kubeproxy.Userspace(w, f, portOf)), rules.XTables, f)
}

// TestUserspaceJumps: those for cluster IPs come before what was there, those for node ports behind it.
func TestUserspaceJumps(t *testing.T) {
	already := rules.Fragment{}
	for _, chain := range []string{"PREROUTING", "OUTPUT"} {
		rule := &rules.Rule{Do: []rules.Stmt{rules.Comment{Text: "already"}, rules.Return{}}}
		already.Jumps = append(already.Jumps, rules.Into{Tool: rules.XTables, Family: rules.IPv4, Table: "nat", Chain: chain, Rule: rule})
	}
	none := func(*rules.Service, ports.ServicePort) uint16 { return 0 }
	got := text.Save(rules.Install(already, kubeproxy.Userspace(userspaceWorld(), rules.IPv4, none)), rules.XTables, rules.IPv4)
	want := `*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:KUBE-NODEPORT-NON-LOCAL - [0:0]
-A INPUT -m comment --comment "Ensure that non-local NodePort traffic can flow" -j KUBE-NODEPORT-NON-LOCAL
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:KUBE-NODEPORT-CONTAINER - [0:0]
:KUBE-NODEPORT-HOST - [0:0]
:KUBE-PORTALS-CONTAINER - [0:0]
:KUBE-PORTALS-HOST - [0:0]
-A PREROUTING -m comment --comment "handle ClusterIPs; NOTE: this must be before the NodePort rules" -j KUBE-PORTALS-CONTAINER
-A PREROUTING -m comment --comment already -j RETURN
-A PREROUTING -m addrtype --dst-type LOCAL -m comment --comment "handle service NodePorts; NOTE: this must be the last rule in the chain" -j KUBE-NODEPORT-CONTAINER
-A OUTPUT -m comment --comment "handle ClusterIPs; NOTE: this must be before the NodePort rules" -j KUBE-PORTALS-HOST
-A OUTPUT -m comment --comment already -j RETURN
-A OUTPUT -m addrtype --dst-type LOCAL -m comment --comment "handle service NodePorts; NOTE: this must be the last rule in the chain" -j KUBE-NODEPORT-HOST
COMMIT
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// TestUserspaceConflict: of two Services with one port of the node the second gets no more rules.
func TestUserspaceConflict(t *testing.T) {
	w := userspaceWorld()
	first := w.Services[0]
	first.ExternalIPs = []netip.Addr{netip.MustParseAddr("192.0.2.11")}
	second := *first
	second.Ref.Name, second.ClusterIPs = "zebra", []netip.Addr{netip.MustParseAddr("10.96.0.11")}
	second.Ports = []rules.ServicePort{first.Ports[0]}
	second.Ports[0].NodePort = 30008
	w.Services = append(w.Services, &second)
	var got []string
	for _, line := range ruleLines(userspaceListing(w, rules.IPv4)) {
		if strings.Contains(line, "zebra") {
			got = append(got, strings.Join(strings.Fields(line)[:4], " "))
		}
	}
	if diff := cmp.Diff([]string{"-A KUBE-PORTALS-CONTAINER -d 10.96.0.11/32", "-A KUBE-PORTALS-HOST -d 10.96.0.11/32"}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestUserspaceTellsWhoseARuleIs(t *testing.T) {
	w := userspaceWorld()
	for _, table := range kubeproxy.Userspace(w, rules.IPv4, func(*rules.Service, ports.ServicePort) uint16 { return 40000 }).Tables {
		for _, chain := range table.Chains {
			for _, rule := range chain.Rules {
				if want := (rules.Origin{Component: "kube-proxy", Owner: w.Services[0].Ref, Port: "http"}); rule.Origin != want {
					t.Errorf("%s: %+v", text.SaveRule(rules.IPv4, chain.Name, rule), rule.Origin)
				}
			}
		}
	}
}
