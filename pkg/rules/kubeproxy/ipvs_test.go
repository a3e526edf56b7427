package kubeproxy_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
	"github.com/portcullis-k8s/portcullis/pkg/rules/kubeproxy"
	"github.com/portcullis-k8s/portcullis/pkg/rules/text"
)

// shop is web as a load balancer, on a node with two addresses.
func shop() *rules.World {
	w := web()
	w.Node.IPs = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	w.Node.Addresses = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("10.244.0.1")}
	s := w.Services[0]
	s.Type, s.HealthCheckNodePort, s.AffinitySeconds = "LoadBalancer", 30100, 10800
	s.LoadBalancerIPs = []netip.Addr{netip.MustParseAddr("198.51.100.7")}
	s.ExternalIPs = []netip.Addr{netip.MustParseAddr("198.51.100.8"), netip.MustParseAddr("192.0.2.1")}
	s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("203.0.113.9/32")}
	s.Ports[0].Endpoints = append(s.Ports[0].Endpoints, rules.Endpoint{Addr: netip.MustParseAddrPort("10.244.1.30:8080"), Node: "other", Ready: true, Serving: true})
	return w
}

func lines(listing string) []string {
	return strings.Split(strings.TrimSuffix(listing, "\n"), "\n")
}

// ruleLines are the rules of a listing, without the jumps from the base chains.
func ruleLines(listing string) []string {
	return slices.DeleteFunc(lines(listing), func(line string) bool {
		return !strings.HasPrefix(line, "-A KUBE-")
	})
}

func TestIPVSServers(t *testing.T) {
	got := lines(text.IPVSAdm(rules.Install(kubeproxy.IPVS(shop(), rules.IPv4))))
	var want []string
	for _, server := range []string{"10.96.0.10:80", "10.244.0.1:30007", "192.0.2.1:80", "192.0.2.1:30007", "198.51.100.7:80", "198.51.100.8:80"} {
		want = append(want, "-A -t "+server+" -s rr -p 10800", "-a -t "+server+" -r 10.244.0.20:8080 -m -w 1", "-a -t "+server+" -r 10.244.1.30:8080 -m -w 1")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// TestIPVSPolicies: the policy Local counts where there is an endpoint on the node, else that of Cluster is taken.
func TestIPVSPolicies(t *testing.T) {
	const here, both, none = "10.244.0.20:8080", "10.244.0.20:8080 10.244.1.30:8080", ""
	for _, test := range []struct {
		name               string
		change             func(*rules.Service)
		internal, external string
	}{
		{"Cluster", func(*rules.Service) {}, both, both},
		{"external Local", func(s *rules.Service) { s.ExternalLocal = true }, both, here},
		{"internal Local", func(s *rules.Service) { s.InternalLocal = true }, here, both},
		{"both Local, none here", func(s *rules.Service) {
			s.ExternalLocal, s.InternalLocal, s.Ports[0].Endpoints[0].Node = true, true, "other"
		}, both, both},
		{"internal Local, none here, and no way from outside", func(s *rules.Service) {
			s.InternalLocal, s.Ports[0].Endpoints[0].Node = true, "other"
			s.Type, s.LoadBalancerIPs, s.ExternalIPs, s.Ports[0].NodePort = "ClusterIP", nil, nil, 0
		}, none, none},
		{"no endpoints", func(s *rules.Service) { s.ExternalLocal, s.Ports[0].Endpoints = true, nil }, none, none},
	} {
		w := shop()
		test.change(w.Services[0])
		for _, v := range kubeproxy.IPVS(w, rules.IPv4).Virtual {
			var real []string
			for _, r := range v.Real {
				real = append(real, r.String())
			}
			want := test.external
			if v.Addr.Addr() == w.Services[0].ClusterIPs[0] {
				want = test.internal
			}
			if got := strings.Join(real, " "); got != want {
				t.Errorf("%s: %v leads to %q, want %q", test.name, v.Addr, got, want)
			}
		}
	}
}

func TestIPVSSets(t *testing.T) {
	got := slices.DeleteFunc(lines(text.IPSet(rules.Install(kubeproxy.IPVS(shop(), rules.IPv4)), rules.IPv4)), func(line string) bool { return strings.HasPrefix(line, "create ") })
	want := []string{
		"add KUBE-LOOP-BACK 10.244.0.20,tcp:8080,10.244.0.20",
		"add KUBE-CLUSTER-IP 10.96.0.10,tcp:80",
		"add KUBE-EXTERNAL-IP 198.51.100.8,tcp:80",
		"add KUBE-EXTERNAL-IP 192.0.2.1,tcp:80",
		"add KUBE-LOAD-BALANCER 198.51.100.7,tcp:80",
		"add KUBE-LOAD-BALANCER-FW 198.51.100.7,tcp:80",
		"add KUBE-LOAD-BALANCER-SOURCE-CIDR 198.51.100.7,tcp:80,203.0.113.0/24",
		"add KUBE-LOAD-BALANCER-SOURCE-CIDR 198.51.100.7,tcp:80,203.0.113.9",
		"add KUBE-NODE-PORT-TCP 30007",
		"add KUBE-IPVS-IPS 10.96.0.10",
		"add KUBE-IPVS-IPS 198.51.100.8", // but not the node's own
		"add KUBE-IPVS-IPS 198.51.100.7",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestIPVSSetNames(t *testing.T) {
	got := lines(text.IPSet(rules.Install(kubeproxy.IPVS(web(), rules.IPv6)), rules.IPv6))
	want := []string{
		"create KUBE-6-LOOP-BACK hash:ip,port,ip family inet6 hashsize 1024 maxelem 65536",
		"create KUBE-6-CLUSTER-IP hash:ip,port family inet6 hashsize 1024 maxelem 65536",
		"create KUBE-6-EXTERNAL-IP hash:ip,port family inet6 hashsize 1024 maxelem 65536",
		"create KUBE-6-EXTERNAL-IP-LOCAL hash:ip,port family inet6 hashsize 1024 maxelem 65536",
		"create KUBE-6-LOAD-BALANCER hash:ip,port family inet6 hashsize 1024 maxelem 65536",
		"create KUBE-6-LOAD-BALANCER-FW hash:ip,port family inet6 hashsize 1024 maxelem 65536",
		"create KUBE-6-LOAD-BALANCER-LOCAL hash:ip,port family inet6 hashsize 1024 maxelem 65536",
		"create KUBE-6-LOAD-BALANCER-SOURCE-IP hash:ip,port,ip family inet6 hashsize 1024 maxelem 65536",
		"create KUBE-6-LOAD-BALANCER-SOURCE-CID hash:ip,port,net family inet6 hashsize 1024 maxelem 65536",
		"create KUBE-6-NODE-PORT-TCP bitmap:port range 0-65535",
		"create KUBE-6-NODE-PORT-LOCAL-TCP bitmap:port range 0-65535",
		"create KUBE-6-NODE-PORT-UDP bitmap:port range 0-65535",
		"create KUBE-6-NODE-PORT-LOCAL-UDP bitmap:port range 0-65535",
		"create KUBE-6-NODE-PORT-SCTP-HASH hash:ip,port family inet6 hashsize 1024 maxelem 65536",
		"create KUBE-6-NODE-PORT-LOCAL-SCTP-HAS hash:ip,port family inet6 hashsize 1024 maxelem 65536",
		"create KUBE-6-HEALTH-CHECK-NODE-PORT bitmap:port range 0-65535",
		"create KUBE-6-IPVS-IPS hash:ip family inet6 hashsize 1024 maxelem 65536",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestIPVSRules(t *testing.T) {
	got := ruleLines(text.Save(rules.Install(kubeproxy.IPVS(shop(), rules.IPv4)), rules.XTables, rules.IPv4))
	want := []string{
		`-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT`,
		`-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`,
		`-A KUBE-IPVS-FILTER -m set --match-set KUBE-LOAD-BALANCER dst,dst -j RETURN`,
		`-A KUBE-IPVS-FILTER -m set --match-set KUBE-CLUSTER-IP dst,dst -j RETURN`,
		`-A KUBE-IPVS-FILTER -m set --match-set KUBE-EXTERNAL-IP dst,dst -j RETURN`,
		`-A KUBE-IPVS-FILTER -m set --match-set KUBE-EXTERNAL-IP-LOCAL dst,dst -j RETURN`,
		`-A KUBE-IPVS-FILTER -m set --match-set KUBE-HEALTH-CHECK-NODE-PORT dst -j RETURN`,
		`-A KUBE-IPVS-FILTER -m conntrack --ctstate NEW -m set --match-set KUBE-IPVS-IPS dst -j REJECT --reject-with icmp-port-unreachable`,
		`-A KUBE-IPVS-OUT-FILTER -s 198.51.100.7/32 -m ipvs --vproto 6 --vaddr 198.51.100.7 --vport 80 -j DROP`,
		`-A KUBE-NODE-PORT -m comment --comment "Kubernetes health check node port" -m set --match-set KUBE-HEALTH-CHECK-NODE-PORT dst -j ACCEPT`,
		`-A KUBE-PROXY-FIREWALL -m comment --comment "Kubernetes service load balancer ip + port for load balancer with sourceRange" -m set --match-set KUBE-LOAD-BALANCER-FW dst,dst -j KUBE-SOURCE-RANGES-FIREWALL`,
		`-A KUBE-SOURCE-RANGES-FIREWALL -m comment --comment "Kubernetes service load balancer ip + port + source cidr for packet filter purpose" -m set --match-set KUBE-LOAD-BALANCER-SOURCE-CIDR dst,dst,src -j RETURN`,
		`-A KUBE-SOURCE-RANGES-FIREWALL -j DROP`,
		`-A KUBE-LOAD-BALANCER -j KUBE-MARK-MASQ`,
		`-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000`,
		`-A KUBE-NODE-PORT -p tcp -m comment --comment "Kubernetes nodeport TCP port for masquerade purpose" -m set --match-set KUBE-NODE-PORT-TCP dst -j KUBE-MARK-MASQ`,
		`-A KUBE-POSTROUTING -m comment --comment "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose" -m set --match-set KUBE-LOOP-BACK dst,dst,src -j MASQUERADE`,
		`-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN`,
		`-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0`,
		`-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully`,
		`-A KUBE-SERVICES -s 127.0.0.0/8 -j RETURN`,
		`-A KUBE-SERVICES -m comment --comment "Kubernetes service lb portal" -m set --match-set KUBE-LOAD-BALANCER dst,dst -j KUBE-LOAD-BALANCER`,
		`-A KUBE-SERVICES ! -s 10.244.0.0/16 -m comment --comment "Kubernetes service cluster ip + port for masquerade purpose" -m set --match-set KUBE-CLUSTER-IP dst,dst -j KUBE-MARK-MASQ`,
		`-A KUBE-SERVICES -m comment --comment "Kubernetes service external ip + port for masquerade and filter purpose" -m set --match-set KUBE-EXTERNAL-IP dst,dst -j KUBE-MARK-MASQ`,
		`-A KUBE-SERVICES -m comment --comment "Kubernetes service external ip + port for masquerade and filter purpose" -m set --match-set KUBE-EXTERNAL-IP dst,dst -m physdev ! --physdev-is-in -m addrtype ! --src-type LOCAL -j ACCEPT`,
		`-A KUBE-SERVICES -m comment --comment "Kubernetes service external ip + port for masquerade and filter purpose" -m set --match-set KUBE-EXTERNAL-IP dst,dst -m addrtype --dst-type LOCAL -j ACCEPT`,
		`-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT`,
		`-A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT`,
		`-A KUBE-SERVICES -m set --match-set KUBE-LOAD-BALANCER dst,dst -j ACCEPT`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestIPVSTellsWhoseAServerIs(t *testing.T) {
	fragment := kubeproxy.IPVS(shop(), rules.IPv4)
	want := rules.Origin{Component: "kube-proxy", Owner: shop().Services[0].Ref, Port: "http"}
	for _, v := range fragment.Virtual {
		if v.Origin != want {
			t.Errorf("%v: %+v", v.Addr, v.Origin)
		}
	}
	for _, s := range fragment.IPSets {
		for _, e := range s.Elems {
			if e.Origin != want {
				t.Errorf("%s: %+v", s.Name, e)
			}
		}
	}
	for _, table := range fragment.Tables {
		for _, chain := range table.Chains {
			for _, rule := range chain.Rules {
				if owned := chain.Name == "KUBE-IPVS-OUT-FILTER"; rule.Origin.Component != "kube-proxy" || owned != (rule.Origin == want) {
					t.Errorf("%s: %+v", text.SaveRule(rules.IPv4, chain.Name, rule), rule.Origin)
				}
			}
		}
	}
}

// TestIPVSOfOneAddressTwice: an address that is an external IP and a load balancer's, and one that two Services have.
func TestIPVSOfOneAddressTwice(t *testing.T) {
	w := shop()
	first := w.Services[0]
	first.ExternalIPs = first.LoadBalancerIPs
	other := *first
	other.Ref.Name, other.ClusterIPs = "other", []netip.Addr{netip.MustParseAddr("10.96.0.11")}
	other.Ports = []rules.ServicePort{{ServicePort: ports.ServicePort{Protocol: ports.TCP, Port: 80, NodePort: 30008}}}
	w.Services = append(w.Services, &other)
	fragment := kubeproxy.IPVS(w, rules.IPv4)
	var named []string
	for _, v := range fragment.Virtual {
		if v.Addr == netip.MustParseAddrPort("198.51.100.7:80") {
			named = append(named, v.Origin.Owner.Name)
		}
	}
	if !slices.Equal(named, []string{"other"}) {
		t.Errorf("the virtual server of 198.51.100.7:80 is of %v", named)
	}
	if _, err := text.ParseIPSet(text.IPSet(rules.Install(fragment), rules.IPv4)); err != nil {
		t.Error(err)
	}
}
