package explain_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/explain"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

func ref(kind, name string) ports.Ref {
	return ports.Ref{APIVersion: "v1", Kind: kind, Namespace: "ns", Name: name}
}

// met is a finding that a pod's host port meets a nodePort, as told about the pod.
func met(kind ports.Kind, hostIP string) check.Finding {
	pod, service := &ports.Owner{Ref: ref("Pod", "a")}, ref("Service", "b")
	address, err := ports.ParseAddress(hostIP)
	if err != nil {
		panic(err)
	}
	socket := ports.Socket{Address: address, Protocol: ports.TCP, Port: 30007}
	onNodes := ports.Socket{Address: ports.AllAddresses().WithoutIPv6Loopback(), Protocol: ports.TCP, Port: 30007}
	return check.Finding{
		Code: check.Held, Object: pod.Ref, Field: "ports[0].hostPort", Claim: ports.Claim{Socket: socket, Kind: kind, Owner: pod},
		Holder: &check.Holder{Ref: service, Field: "spec.ports[0].nodePort", Claim: ports.Claim{Socket: onNodes, Kind: ports.NodePort, Scope: ports.EverywhereScope()}},
	}
}

// explained is what a plane says of the packets of one conflict: "from outside b, over loopback a"; "" where it says nothing.
func explained(p explain.Plane, f check.Finding) string {
	findings := []check.Finding{f}
	p.Explain(findings, check.Families{})
	packets := findings[0].Packets
	if packets == nil {
		return ""
	}
	var parts []string
	for _, w := range packets.Winners {
		parts = append(parts, w.Of+" "+w.Who.Name)
	}
	line := strings.Join(parts, ", ")
	if packets.OrderDependent {
		line = "depends: " + line
	}
	return line
}

const (
	proxyFirst    = "service-proxy,host-port"
	hostPortFirst = "host-port,service-proxy"
)

func plane(proxy explain.ServiceProxy, mapper explain.HostPortMapper, started string) explain.Plane {
	p := explain.Plane{ServiceProxy: proxy, HostPorts: mapper}
	for name := range strings.SplitSeq(started, ",") {
		if name != "" {
			p.Started = append(p.Started, explain.Component(name))
		}
	}
	return p
}

// TestConflict goes through the winners that were measured with real packets, for each data plane and order of starts.
func TestConflict(t *testing.T) {
	const (
		service = "from outside b, from pods b, from the node itself b, over loopback b"
		pod     = "from outside a, from pods a, from the node itself a, over loopback a"
		mostly  = "from outside b, from pods b, from the node itself b, over loopback a"
	)
	for _, c := range []struct {
		why   string
		plane explain.Plane
		want  string
	}{
		{"one flavour of iptables: kube-proxy inserts, portmap appends", plane(explain.IPTables, explain.PortmapIPTables, ""), service},
		{"node ports kept off loopback", explain.Plane{ServiceProxy: explain.IPTables, HostPorts: explain.PortmapIPTables, NotOnLoopback: true}, mostly},
		{"in both orders", plane(explain.IPTables, explain.PortmapIPTables, hostPortFirst), service},
		{"portmap's nft chains are registered last and run first", plane(explain.IPTables, explain.PortmapNFTables, proxyFirst), pod},
		{"kube-proxy's are", plane(explain.IPTables, explain.PortmapNFTables, hostPortFirst), service},
		{"nft for both, portmap last", plane(explain.NFTables, explain.PortmapNFTables, proxyFirst), pod},
		{"nft for both, kube-proxy last, which has no node ports on loopback", plane(explain.NFTables, explain.PortmapNFTables, hostPortFirst), mostly},
		{"ipvs never accepts node ports in nat", plane(explain.IPVS, explain.PortmapIPTables, ""), pod},
	} {
		if diff := cmp.Diff(c.want, explained(c.plane, met(ports.HostPort, ""))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.why, diff)
		}
	}
}

// TestNobodyServes: where nothing installs rules for one of the two, or what does is not known, nobody loses packets to it.
func TestNobodyServes(t *testing.T) {
	planes := func(p explain.ServiceProxy, m explain.HostPortMapper) explain.Plane { return plane(p, m, "") }
	for _, c := range []struct {
		why   string
		plane explain.Plane
		kind  ports.Kind
		found bool
	}{
		{"nobody maps anything", planes(explain.NoServiceProxy, explain.NoHostPorts), ports.HostPort, false},
		{"the Service never got any", planes(explain.NoServiceProxy, explain.PortmapIPTables), ports.HostPort, false},
		{"nor from a process", planes(explain.NoServiceProxy, explain.PortmapIPTables), ports.HostNetwork, false},
		{"the pod never got any", planes(explain.IPTables, explain.NoHostPorts), ports.HostPort, false},
		{"a process needs nobody to map its port", planes(explain.IPTables, explain.NoHostPorts), ports.HostNetwork, true},
		{"nothing is known", planes(explain.UnknownProxy, explain.UnknownMapper), ports.HostPort, false},
		{"what maps host ports is not known", planes(explain.IPTables, explain.UnknownMapper), ports.HostPort, false},
		{"which says nothing of a process", planes(explain.IPTables, explain.UnknownMapper), ports.HostNetwork, true},
		{"what serves node ports is not known", planes(explain.UnknownProxy, explain.PortmapNFTables), ports.HostPort, false},
		{"nor against a process", planes(explain.UnknownProxy, explain.PortmapNFTables), ports.HostNetwork, false},
	} {
		for whose, f := range map[string]check.Finding{"the pod's": met(c.kind, ""), "the Service's": swapped(met(c.kind, ""))} {
			if got := explained(c.plane, f); (got != "") != c.found {
				t.Errorf("%s, %s finding: %q", c.why, whose, got)
			}
		}
	}
}

// swapped is the finding about the holder.
func swapped(f check.Finding) check.Finding {
	f.Object, f.Claim, f.Holder = f.Holder.Ref, f.Holder.Claim, &check.Holder{Ref: f.Object, Claim: f.Claim, Field: f.Field}
	f.Claim.Owner = &ports.Owner{Ref: f.Object}
	return f
}

// healthCheck is a finding that the health check of Service b meets a claim of a, on the addresses on which kube-proxy listens.
func healthCheck(kind ports.Kind, hostIP string, listens ports.Address) check.Finding {
	f := met(kind, hostIP)
	f.Holder.Claim.Kind, f.Holder.Claim.Address = ports.HealthCheckNodePort, listens
	if kind == ports.NodePort {
		f.Object, f.Claim.Address, f.Claim.Scope = ref("Service", "a"), listens.WithoutLoopback(), ports.EverywhereScope()
		f.Claim.Owner = &ports.Owner{Ref: f.Object}
	}
	return f
}

// TestHealthChecks: kube-proxy listens for a Service's health check where it serves node ports, whether there are endpoints or not.
func TestHealthChecks(t *testing.T) {
	const (
		pod     = "from outside a, from pods a, from the node itself a, over loopback a"
		service = "from outside a, from pods a, from the node itself a"
	)
	for _, c := range []struct {
		why     string
		plane   explain.Plane
		finding check.Finding
		want    string
		assumed bool
	}{
		{"the other's nodePort is not on loopback", plane(explain.IPVS, explain.PortmapIPTables, ""), healthCheck(ports.NodePort, "", ports.AllAddresses()), service + ", over loopback b", true},
		{"neither is", plane(explain.NFTables, explain.PortmapIPTables, ""), healthCheck(ports.NodePort, "", ports.AllAddresses().PrimaryOnly()), service, true},
		{"a host port is mapped before anybody listens", plane(explain.IPTables, explain.PortmapIPTables, ""), healthCheck(ports.HostPort, "", ports.AllAddresses()), pod, false},
		{"at one address", plane(explain.IPTables, explain.PortmapIPTables, ""), healthCheck(ports.HostPort, "192.0.2.1", ports.AllAddresses()), service, false},
		{"nobody listens", plane(explain.NoServiceProxy, explain.PortmapIPTables, ""), healthCheck(ports.HostPort, "", ports.AllAddresses()), "", false},
		{"two listen", plane(explain.IPTables, explain.PortmapIPTables, ""), healthCheck(ports.HostNetwork, "", ports.AllAddresses()), "", false},
	} {
		for whose, f := range map[string]check.Finding{"object": c.finding, "holder": swapped(c.finding)} {
			if diff := cmp.Diff(c.want, explained(c.plane, f)); diff != "" {
				t.Errorf("%s, about the %s (-want +got):\n%s", c.why, whose, diff)
			}
			findings := []check.Finding{f}
			c.plane.Explain(findings, check.Families{})
			if p := findings[0].Packets; p != nil && (p.Assumed != c.assumed || p.Assumed != (p.Service == ref("Service", "a"))) {
				t.Errorf("%s, about the %s: %+v", c.why, whose, *p)
			}
		}
	}
	p := plane(explain.IPTables, explain.PortmapIPTables, "")
	p.Services = func(ports.Ref, []netip.Addr) (*rules.Service, bool) { return nil, true }
	if got := explained(p, healthCheck(ports.HostPort, "", ports.AllAddresses())); got != "" {
		t.Errorf("of another proxy's Service: %q", got)
	}
	udp := healthCheck(ports.NodePort, "", ports.AllAddresses())
	udp.Claim.Protocol = ports.UDP
	if got := explained(plane(explain.IPTables, explain.PortmapIPTables, ""), udp); got != "" {
		t.Errorf("of two protocols: %q", got)
	}
}

// atAddress is a finding that a pod's port on all addresses meets an external IP of Service b.
func atAddress(kind ports.Kind, ip string) check.Finding {
	f := met(kind, "")
	f.Holder.Claim.Kind, f.Holder.Claim.Address = ports.ExternalIP, ports.OneAddress(netip.MustParseAddr(ip))
	return f
}

// TestKnownServices: of a Service that is known, its policy and its endpoints count, as they do for trace; of one whose endpoints
// are not known it is said that they decide.
func TestKnownServices(t *testing.T) {
	endpoint := func(node string, ready bool) rules.Endpoint {
		return rules.Endpoint{Addr: netip.MustParseAddrPort("10.244.0.20:80"), Node: node, Ready: ready, Serving: ready}
	}
	const (
		service = "from outside b, from pods b, from the node itself b, over loopback b"
		pod     = "from outside a, from pods a, from the node itself a, over loopback a"
	)
	for _, c := range []struct {
		why       string
		local     bool
		endpoints []rules.Endpoint
		known     bool
		nodes     []string
		want      string
		assumed   bool
		without   bool
	}{
		{"an endpoint", false, []rules.Endpoint{endpoint("n9", true)}, true, []string{"n1"}, service, false, false},
		{"none", false, nil, true, []string{"n1"}, pod, false, true},
		{"none that is ready", false, []rules.Endpoint{endpoint("n1", false)}, true, []string{"n1"}, pod, false, true},
		{"none that is known", false, nil, false, []string{"n1"}, service, true, false},
		{"Local, on the node", true, []rules.Endpoint{endpoint("n1", true)}, true, []string{"n1"}, service, false, false},
		{"Local, on another node, where only what comes from the cluster goes to it", true, []rules.Endpoint{endpoint("n9", true)}, true, []string{"n1"},
			"from outside a, from pods b, from the node itself b, over loopback b", false, false},
		{"Local, somewhere", true, nil, false, []string{"n1"},
			"from outside on nodes with an endpoint b, from outside on nodes without an endpoint a, from pods b, from the node itself b, over loopback b", true, false},
		{"Local, on one of two", true, []rules.Endpoint{endpoint("n1", true)}, true, []string{"n1", "n2"},
			"from outside on nodes with an endpoint b, from outside on nodes without an endpoint a, from pods b, from the node itself b, over loopback b", false, false},
	} {
		p := plane(explain.IPTables, explain.PortmapIPTables, "")
		p.Services = func(ref ports.Ref, addrs []netip.Addr) (*rules.Service, bool) {
			return &rules.Service{Ref: ref, Type: "NodePort", ClusterIPs: addrs[:1], ExternalLocal: c.local, Ports: []rules.ServicePort{{
				ServicePort: ports.ServicePort{Protocol: ports.TCP, Port: 80, NodePort: 30007}, Endpoints: c.endpoints,
			}}}, c.known
		}
		f := met(ports.HostPort, "")
		f.Nodes = c.nodes
		if diff := cmp.Diff(c.want, explained(p, f)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.why, diff)
		}
		findings := []check.Finding{f}
		p.Explain(findings, check.Families{})
		if p := findings[0].Packets; p.Assumed != c.assumed || p.Without != c.without {
			t.Errorf("%s: assumed %t, without endpoints %t", c.why, p.Assumed, p.Without)
		}
		p.ServiceProxy = explain.IPVS // where the pod gets the packets in any case
		findings = []check.Finding{f}
		p.Explain(findings, check.Families{})
		if findings[0].Packets.Without {
			t.Errorf("%s: with ipvs it would be another with endpoints", c.why)
		}
	}
	p := plane(explain.IPTables, explain.PortmapIPTables, "")
	p.Services = func(ports.Ref, []netip.Addr) (*rules.Service, bool) { return nil, true }
	if got := explained(p, met(ports.HostPort, "")); got != "" {
		t.Errorf("of another proxy's Service: %q", got)
	}
}

// TestOneAddress: where the two share one address only, nothing is said of packets to others, which loopback is among.
func TestOneAddress(t *testing.T) {
	const (
		service = "from outside b, from pods b, from the node itself b"
		pod     = "from outside a, from pods a, from the node itself a"
	)
	for _, c := range []struct {
		why     string
		plane   explain.Plane
		finding check.Finding
		want    string
		at      string
	}{
		{"a host port on the node's address", plane(explain.IPVS, explain.PortmapIPTables, ""), met(ports.HostPort, "192.0.2.1"), pod, "192.0.2.1"},
		{"on another one", plane(explain.IPVS, explain.PortmapIPTables, ""), met(ports.HostPort, "203.0.113.5"), pod, "203.0.113.5"},
		{"on loopback", plane(explain.IPTables, explain.PortmapIPTables, ""), met(ports.HostPort, "127.0.0.1"), "over loopback b", "127.0.0.1"},
		{"a process with an address", plane(explain.IPTables, explain.PortmapIPTables, ""), met(ports.HostNetwork, "203.0.113.5"), service, "203.0.113.5"},
		{"an external IP", plane(explain.IPTables, explain.PortmapIPTables, ""), atAddress(ports.HostPort, "192.168.7.1"), service, "192.168.7.1"},
		{"against a process", plane(explain.NFTables, explain.PortmapIPTables, ""), atAddress(ports.HostNetwork, "192.168.7.1"), service, "192.168.7.1"},
		{"all addresses", plane(explain.IPTables, explain.PortmapIPTables, ""), met(ports.HostPort, ""), service + ", over loopback b", "invalid IP"},
	} {
		for whose, f := range map[string]check.Finding{"object": c.finding, "holder": swapped(c.finding)} {
			if diff := cmp.Diff(c.want, explained(c.plane, f)); diff != "" {
				t.Errorf("%s, about the %s (-want +got):\n%s", c.why, whose, diff)
			}
			findings := []check.Finding{f}
			c.plane.Explain(findings, check.Families{})
			if p := findings[0].Packets; p != nil && p.At.String() != c.at {
				t.Errorf("%s, about the %s: at %s, want %s", c.why, whose, p.At, c.at)
			}
		}
	}
}

// TestOrderDependent: where the order of starts decides and is not known, that is what is said.
func TestOrderDependent(t *testing.T) {
	for _, p := range []explain.Plane{plane(explain.NFTables, explain.PortmapNFTables, ""), plane(explain.NFTables, explain.PortmapIPTables, ""), plane(explain.IPTables, explain.PortmapNFTables, "")} {
		if got := explained(p, met(ports.HostPort, "")); !strings.HasPrefix(got, "depends: ") {
			t.Errorf("%s with %s: %q", p.ServiceProxy, p.HostPorts, got)
		}
	}
}

// TestListener: what is translated never reaches a process that listens on the node.
func TestListener(t *testing.T) {
	const want = "from outside b, from pods b, from the node itself b, over loopback b"
	got := explained(plane(explain.IPTables, explain.PortmapIPTables, ""), met(ports.HostNetwork, ""))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestCaptured: with ipvs a host port of portmap's nft rules is on every cluster IP.
func TestCaptured(t *testing.T) {
	w := &check.Workload{Claims: []ports.Claim{met(ports.HostPort, "").Claim, met(ports.HostPort, "192.0.2.1").Claim}}
	w.Claims[0].Field, w.Claims[1].Field = "all", "one"
	for _, c := range []struct {
		plane explain.Plane
		want  []string
	}{
		{plane(explain.IPVS, explain.PortmapNFTables, ""), []string{"all"}},
		{plane(explain.IPVS, explain.PortmapIPTables, ""), nil},
		{plane(explain.NFTables, explain.PortmapNFTables, ""), nil},
	} {
		var got []string
		for _, f := range c.plane.Captured(w) {
			got = append(got, f.Field)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.plane.ServiceProxy, diff)
		}
	}
}

// TestManyConflicts: of a thousand conflicts a few are walked.
func TestManyConflicts(t *testing.T) {
	var findings []check.Finding
	for range 1000 {
		findings = append(findings, met(ports.HostPort, ""))
	}
	plane(explain.IPTables, explain.PortmapIPTables, "").Explain(findings, check.Families{})
	got := 0
	for _, f := range findings {
		if f.Packets != nil {
			got++
		}
	}
	if got == 0 || got > 20 {
		t.Errorf("%d of 1,000 conflicts were walked, want some, but few", got)
	}
}

// BenchmarkExplain is what a conflict costs the webhook beyond its finding.
func BenchmarkExplain(b *testing.B) {
	p := plane(explain.NFTables, explain.PortmapNFTables, "")
	findings := []check.Finding{met(ports.HostPort, "")}
	b.ReportAllocs()
	for b.Loop() {
		p.Explain(findings, check.Families{})
	}
}

// TestNothingToExplain: two of one kind are decided by no rule.
func TestNothingToExplain(t *testing.T) {
	f := met(ports.HostPort, "")
	f.Holder.Claim.Kind = ports.HostPort
	if got := explained(plane(explain.IPTables, explain.PortmapIPTables, ""), f); got != "" {
		t.Errorf("%q", got)
	}
}
