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
		{"nobody maps host ports", plane(explain.IPTables, explain.NoHostPorts, ""), service},
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
		{"the Service gets what is meant for the pod", planes(explain.IPTables, explain.NoHostPorts), ports.HostPort, true},
		{"nothing is known", planes(explain.UnknownProxy, explain.UnknownMapper), ports.HostPort, false},
		{"what maps host ports is not known", planes(explain.IPTables, explain.UnknownMapper), ports.HostPort, false},
		{"which says nothing of a process", planes(explain.IPTables, explain.UnknownMapper), ports.HostNetwork, true},
		{"what serves node ports is not known", planes(explain.UnknownProxy, explain.PortmapNFTables), ports.HostPort, false},
		{"nor against a process", planes(explain.UnknownProxy, explain.PortmapNFTables), ports.HostNetwork, false},
	} {
		if got := explained(c.plane, met(c.kind, "")); (got != "") != c.found {
			t.Errorf("%s: %q", c.why, got)
		}
	}
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
	}{
		{"an endpoint", false, []rules.Endpoint{endpoint("n9", true)}, true, []string{"n1"}, service, false},
		{"none", false, nil, true, []string{"n1"}, pod, false},
		{"none that is ready", false, []rules.Endpoint{endpoint("n1", false)}, true, []string{"n1"}, pod, false},
		{"none that is known", false, nil, false, []string{"n1"}, service, true},
		{"Local, on the node", true, []rules.Endpoint{endpoint("n1", true)}, true, []string{"n1"}, service, false},
		{"Local, on another node, where only what comes from the cluster goes to it", true, []rules.Endpoint{endpoint("n9", true)}, true, []string{"n1"},
			"from outside a, from pods b, from the node itself b, over loopback b", false},
		{"Local, somewhere", true, nil, false, []string{"n1"},
			"from outside on nodes with an endpoint b, from outside on nodes without an endpoint a, from pods b, from the node itself b, over loopback b", true},
		{"Local, on one of two", true, []rules.Endpoint{endpoint("n1", true)}, true, []string{"n1", "n2"},
			"from outside on nodes with an endpoint b, from outside on nodes without an endpoint a, from pods b, from the node itself b, over loopback b", false},
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
		if got := findings[0].Packets.Assumed; got != c.assumed {
			t.Errorf("%s: assumed %t", c.why, got)
		}
	}
	p := plane(explain.IPTables, explain.PortmapIPTables, "")
	p.Services = func(ports.Ref, []netip.Addr) (*rules.Service, bool) { return nil, true }
	if got := explained(p, met(ports.HostPort, "")); got != "" {
		t.Errorf("of another proxy's Service: %q", got)
	}
}

// TestOneAddress: a hostIP is an address of the node, and packets for others are not asked about.
func TestOneAddress(t *testing.T) {
	const want = "from outside a, from pods a, from the node itself a"
	for _, hostIP := range []string{"192.0.2.1", "203.0.113.5"} {
		f := met(ports.HostPort, hostIP)
		if got := explained(plane(explain.IPVS, explain.PortmapIPTables, ""), f); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q, want %q", hostIP, got, want)
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
