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

// nftLines returns the lines of a world's script that are about Services, without what they all begin with.
func nftLines(w *rules.World, f rules.Family) []string {
	var got []string
	for line := range strings.Lines(text.NFT(rules.Install(kubeproxy.NFTables(w, f)))) {
		line = strings.TrimSuffix(strings.NewReplacer("add ", "", "ip kube-proxy ", "", "ip6 kube-proxy ", "").Replace(line), "\n")
		if kind, rest, _ := strings.Cut(line, " "); kind == "element" || strings.Contains(strings.Fields(rest)[0], "/") {
			got = append(got, line)
		}
	}
	return got
}

func TestNFTablesOfOneService(t *testing.T) {
	want := []string{
		`chain external-SUSTUHLJ-default/web/tcp/http`,
		`chain service-SUSTUHLJ-default/web/tcp/http`,
		`rule external-SUSTUHLJ-default/web/tcp/http mark set mark or 0x00004000 comment "masquerade"`,
		`rule external-SUSTUHLJ-default/web/tcp/http goto service-SUSTUHLJ-default/web/tcp/http`,
		`rule service-SUSTUHLJ-default/web/tcp/http meta l4proto tcp dnat to 10.244.0.20:8080`,
		`element cluster-ips { 10.96.0.10 }`,
		`element hairpin-connections { 10.244.0.20 . 10.244.0.20 . tcp . 8080 }`,
		`element service-ips { 10.96.0.10 . tcp . 80 : goto service-SUSTUHLJ-default/web/tcp/http }`,
		`element service-nodeports { tcp . 30007 : goto external-SUSTUHLJ-default/web/tcp/http }`,
	}
	if diff := cmp.Diff(want, nftLines(web(), rules.IPv4)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if got := nftLines(web(), rules.IPv6); got != nil {
		t.Errorf("a Service of IPv4 has in IPv6\n%s", strings.Join(got, "\n"))
	}
}

// TestNFTablesTellWhoseARuleIs: of every rule and element of a Service.
func TestNFTablesTellWhoseARuleIs(t *testing.T) {
	w := web()
	w.Services[0].AffinitySeconds = 10
	w.Services[0].LoadBalancerIPs = []netip.Addr{netip.MustParseAddr("198.51.100.1")}
	w.Services[0].SourceRanges = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
	want := rules.Origin{Component: "kube-proxy", Owner: w.Services[0].Ref, Port: "http"}
	table := kubeproxy.NFTables(w, rules.IPv4).Tables[0]
	of := 0
	for _, c := range table.Chains {
		for _, r := range c.Rules {
			if strings.Contains(c.Name, "/") {
				of++
			}
			if r.Origin.Component != want.Component || strings.Contains(c.Name, "/") && r.Origin != want {
				t.Errorf("%s: %+v", c.Name, r.Origin)
			}
		}
	}
	for _, s := range table.Sets {
		for _, e := range s.Elems {
			if of++; e.Origin != want {
				t.Errorf("%s: %+v", s.Name, e.Origin)
			}
		}
	}
	if of < 10 {
		t.Errorf("only %d rules and elements", of)
	}
}

// TestNFTablesOfOneAddressTwice: kube-proxy leaves it to chance which of two Services has an address that both claim; we
// say one, and always the same.
func TestNFTablesOfOneAddressTwice(t *testing.T) {
	w := web()
	thief := *w.Services[0]
	thief.Ref.Name = "xthief"
	thief.ClusterIPs, thief.ExternalIPs = []netip.Addr{netip.MustParseAddr("10.96.0.11")}, w.Services[0].ClusterIPs
	thief.Ports = []rules.ServicePort{{ServicePort: ports.ServicePort{Protocol: ports.TCP, Port: 80}, Endpoints: w.Services[0].Ports[0].Endpoints}}
	w.Services = append(w.Services, &thief)
	var got []string
	for _, line := range nftLines(w, rules.IPv4) {
		if strings.HasPrefix(line, "element service-ips { 10.96.0.10 ") {
			got = append(got, line)
		}
	}
	if len(got) != 1 || !strings.Contains(got[0], "/xthief/") {
		t.Error(got)
	}
}
