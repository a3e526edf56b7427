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

// web is the Service default/web with one endpoint, whose rules were taken from a node.
func web() *rules.World {
	return &rules.World{
		Node: rules.Node{Name: "node"},
		Services: []*rules.Service{{
			Ref: ports.Ref{APIVersion: "v1", Kind: "Service", Namespace: "default", Name: "web"}, Type: "NodePort", ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.10")},
			Ports: []rules.ServicePort{{
				ServicePort: ports.ServicePort{Name: "http", Protocol: ports.TCP, Port: 80, NodePort: 30007},
				Endpoints:   []rules.Endpoint{{Addr: netip.MustParseAddrPort("10.244.0.20:8080"), Node: "node", Ready: true, Serving: true}},
			}},
		}},
		Proxy: rules.Proxy{LocalhostNodePorts: true, Detector: rules.Detector{CIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}}},
	}
}

func TestIPTablesOfOneService(t *testing.T) {
	saved := text.Save(rules.Install(kubeproxy.IPTables(web(), rules.IPv4)), rules.XTables, rules.IPv4)
	_, nat, _ := strings.Cut(saved, "*nat\n")
	var got []string
	for line := range strings.Lines(nat) {
		if strings.HasPrefix(line, "-A ") {
			got = append(got, strings.TrimSuffix(line, "\n"))
		}
	}
	want := []string{
		`-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES`,
		`-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES`,
		`-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING`,
		`-A KUBE-EXT-CDGGSHYLG3RE2FKL -m comment --comment "masquerade traffic for default/web:http external destinations" -j KUBE-MARK-MASQ`,
		`-A KUBE-EXT-CDGGSHYLG3RE2FKL -j KUBE-SVC-CDGGSHYLG3RE2FKL`,
		`-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000`,
		`-A KUBE-NODEPORTS -p tcp -m comment --comment "default/web:http" -m tcp --dport 30007 -j KUBE-EXT-CDGGSHYLG3RE2FKL`,
		`-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN`,
		`-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0`,
		`-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully`,
		`-A KUBE-SEP-NOUGMHNFDWC2WKQL -s 10.244.0.20/32 -m comment --comment "default/web:http" -j KUBE-MARK-MASQ`,
		`-A KUBE-SEP-NOUGMHNFDWC2WKQL -p tcp -m comment --comment "default/web:http" -m tcp -j DNAT --to-destination 10.244.0.20:8080`,
		`-A KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80 -j KUBE-SVC-CDGGSHYLG3RE2FKL`,
		`-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS`,
		`-A KUBE-SVC-CDGGSHYLG3RE2FKL ! -s 10.244.0.0/16 -d 10.96.0.10/32 -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ`,
		`-A KUBE-SVC-CDGGSHYLG3RE2FKL -m comment --comment "default/web:http -> 10.244.0.20:8080" -j KUBE-SEP-NOUGMHNFDWC2WKQL`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestIPTablesTellWhoseARuleIs(t *testing.T) {
	fragment := kubeproxy.IPTables(web(), rules.IPv4)
	service := rules.Origin{Component: "kube-proxy", Owner: web().Services[0].Ref, Port: "http"}
	for _, table := range fragment.Tables {
		for _, chain := range table.Chains {
			for _, rule := range chain.Rules {
				want := rules.Origin{Component: "kube-proxy"}
				if strings.Contains(text.SaveRule(rules.IPv4, chain.Name, rule), "default/web") || strings.HasPrefix(chain.Name, "KUBE-EXT-") {
					want = service
				}
				if rule.Origin != want {
					t.Errorf("%s: %+v", text.SaveRule(rules.IPv4, chain.Name, rule), rule.Origin)
				}
			}
		}
	}
}
