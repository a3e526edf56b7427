package kubeproxy

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

// The names were taken from the rules of a real kube-proxy.
func TestHashes(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{serviceHash("default/web:http", ports.TCP), "CDGGSHYLG3RE2FKL"},
		{serviceHash("default/noname", ports.TCP), "VDEJV5Q2YLOBQTBM"},
		{endpointChainName("default/web:http", ports.TCP, "10.244.0.20:8080"), "KUBE-SEP-NOUGMHNFDWC2WKQL"},
		{endpointChainName("default/web:http", ports.TCP, "[fd00:10:244::20]:8080"), "KUBE-SEP-2XKA4YV5OYAV4RW5"},
		{hash("", 8, "default/web/tcp/http"), "SUSTUHLJ"},
		{hash("", 8, "default/noname/tcp/"), "V65NY5AD"},
		{hash("", 8, "default/lb-src/tcp/p80__10.244.0.20/8080"), "DLHGIUJI"},
	} {
		if c.got != c.want {
			t.Errorf("got %s, want %s", c.got, c.want)
		}
	}
}

// at is an endpoint, told by words: on the node "here" or "there", and not ready unless "ready" is among them.
func at(addr, words string) rules.Endpoint {
	e := rules.Endpoint{Addr: netip.MustParseAddrPort(addr), Node: "elsewhere"}
	for word := range strings.FieldsSeq(words) {
		switch word {
		case "here":
			e.Node = "node"
		case "ready":
			e.Ready, e.Serving = true, true
		case "serving":
			e.Serving = true
		case "terminating":
			e.Terminating = true
		case "for-node", "for-other-node":
			e.ForNodes = append(e.ForNodes, strings.TrimPrefix(word, "for-"))
		case "for-zone", "for-other-zone":
			e.ForZones = append(e.ForZones, strings.TrimPrefix(word, "for-"))
		default:
			panic(word)
		}
	}
	return e
}

// The cases are those that differ in TestCategorizeEndpoints of pkg/proxy/topology_test.go.
func TestCategorize(t *testing.T) {
	internal, external := &rules.Service{InternalLocal: true}, &rules.Service{ExternalLocal: true, Type: "NodePort"}
	for _, c := range []struct {
		name                  string
		service               *rules.Service
		endpoints             []rules.Endpoint
		cluster, local, reach string
		hasAny                bool
	}{
		{"no endpoints", &rules.Service{}, nil, "", "", "", false},
		{"none of them ready", &rules.Service{}, []rules.Endpoint{at("10.0.0.1:80", "serving")}, "", "", "", false},
		{"hints of the zone", &rules.Service{}, []rules.Endpoint{at("10.0.0.1:80", "ready for-zone"), at("10.0.0.2:80", "ready for-other-zone")}, "1", "", "1", true},
		{"one hint missing", &rules.Service{}, []rules.Endpoint{at("10.0.0.1:80", "ready for-zone"), at("10.0.0.2:80", "ready")}, "12", "", "12", true},
		{"one hint missing of one that is not ready", &rules.Service{}, []rules.Endpoint{at("10.0.0.1:80", "ready for-zone"), at("10.0.0.2:80", ""), at("10.0.0.3:80", "ready for-other-zone")}, "1", "", "1", true},
		{"no hint for the zone", &rules.Service{}, []rules.Endpoint{at("10.0.0.1:80", "ready for-other-zone")}, "1", "", "1", true},
		{"hints of the node before those of the zone", &rules.Service{}, []rules.Endpoint{at("10.0.0.1:80", "ready for-zone for-other-node"), at("10.0.0.2:80", "ready for-zone for-node")}, "2", "", "2", true},
		{"no hint for the node: the zone", &rules.Service{}, []rules.Endpoint{at("10.0.0.1:80", "ready for-zone for-other-node"), at("10.0.0.2:80", "ready for-other-zone for-other-node")}, "1", "", "1", true},
		{"those that end, as the last resort", &rules.Service{}, []rules.Endpoint{at("10.0.0.1:80", "serving terminating"), at("10.0.0.2:80", "terminating")}, "1", "", "1", true},
		{"internal Local", internal, []rules.Endpoint{at("10.0.0.1:80", "ready here"), at("10.0.0.2:80", "ready")}, "", "1", "1", true},
		{"internal Local, none here", internal, []rules.Endpoint{at("10.0.0.2:80", "ready")}, "", "", "", true},
		{"internal Local, those here end", internal, []rules.Endpoint{at("10.0.0.1:80", "serving terminating here"), at("10.0.0.2:80", "ready")}, "", "1", "1", true},
		{"external Local", external, []rules.Endpoint{at("10.0.0.1:80", "ready here"), at("10.0.0.2:80", "ready")}, "12", "1", "12", true},
		{"external Local, those here end", external, []rules.Endpoint{at("10.0.0.1:80", "serving terminating here"), at("10.0.0.2:80", "ready")}, "2", "1", "12", true},
		{"external Local, hints elsewhere", external, []rules.Endpoint{at("10.0.0.1:80", "ready here for-other-zone"), at("10.0.0.2:80", "ready for-zone")}, "2", "1", "12", true},
		{"external Local, all end", external, []rules.Endpoint{at("10.0.0.1:80", "serving terminating here"), at("10.0.0.2:80", "serving terminating")}, "12", "1", "12", true},
		{"another family", &rules.Service{}, []rules.Endpoint{at("[fd00::1]:80", "ready")}, "", "", "", false},
		{"sorted as text", &rules.Service{}, []rules.Endpoint{at("10.0.0.5:80", "ready"), at("10.0.0.10:80", "ready")}, "05", "", "05", true},
		{"a pod that ends has the address of another", &rules.Service{}, []rules.Endpoint{at("10.0.0.1:80", "ready"), at("10.0.0.1:80", "serving terminating")}, "1", "", "1", true},
		{"the same the other way round", &rules.Service{}, []rules.Endpoint{at("10.0.0.1:80", "serving terminating"), at("10.0.0.1:80", "ready")}, "1", "", "1", true},
	} {
		node := rules.Node{Name: "node", Zone: "zone"}
		c.service.ClusterIPs = []netip.Addr{netip.MustParseAddr("10.96.0.1")}
		c.service.Ports = []rules.ServicePort{{ServicePort: ports.ServicePort{Protocol: ports.TCP, Port: 80, NodePort: 0}, Endpoints: c.endpoints}}
		if c.service == external {
			c.service.Ports[0].NodePort = 30000
		}
		p := servicePorts(&rules.World{Node: node, Services: []*rules.Service{c.service}}, rules.IPv4)[0]
		got := []any{last(p.cluster), last(p.local), last(p.reach), p.hasAny}
		if diff := cmp.Diff([]any{c.cluster, c.local, c.reach, c.hasAny}, got); diff != "" {
			t.Errorf("%s: cluster, local, reach, any (-want +got)\n%s", c.name, diff)
		}
	}
}

// last is the last digits of the addresses of endpoints.
func last(endpoints []endpoint) string {
	digits := ""
	for _, e := range endpoints {
		host, _, _ := strings.Cut(e.text, ":")
		digits += host[len(host)-1:]
	}
	return digits
}

func TestNodePortAddresses(t *testing.T) {
	prefixes := func(texts ...string) (list []netip.Prefix) {
		for _, s := range texts {
			list = append(list, netip.MustParsePrefix(s))
		}
		return list
	}
	node := rules.Node{IPs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.11"), netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("10.244.1.1")}}
	for _, c := range []struct {
		proxy     rules.Proxy
		family    rules.Family
		want      string
		localhost bool
	}{
		{rules.Proxy{}, rules.IPv4, "all", true},
		{rules.Proxy{}, rules.IPv6, "all", false},
		{rules.Proxy{PrimaryNodePorts: true}, rules.IPv4, "192.0.2.1", false},
		{rules.Proxy{PrimaryNodePorts: true}, rules.IPv6, "all", false}, // the node has no such address
		{rules.Proxy{NodePortAddresses: prefixes("192.0.2.0/24")}, rules.IPv4, "192.0.2.1 192.0.2.11", false},
		{rules.Proxy{NodePortAddresses: prefixes("192.0.2.0/24")}, rules.IPv6, "all", false},
		{rules.Proxy{NodePortAddresses: prefixes("127.0.0.0/8", "10.0.0.0/8")}, rules.IPv4, "10.244.1.1 127.0.0.1", true},
		{rules.Proxy{NodePortAddresses: prefixes("198.51.100.0/24")}, rules.IPv4, "", false},
		{rules.Proxy{NodePortAddresses: prefixes("192.0.2.0/24", "0.0.0.0/0")}, rules.IPv4, "all", true},
	} {
		c.proxy.LocalhostNodePorts = true
		w := &rules.World{Node: node, Proxy: c.proxy}
		addrs, all := nodePortAddresses(w, c.family)
		var got []string
		for _, a := range addrs {
			got = append(got, a.String())
		}
		if all {
			got = append(got, "all")
		}
		if strings.Join(got, " ") != c.want || localhostNodePorts(w, c.family) != c.localhost {
			t.Errorf("%+v, %v: got %v, localhost %t", c.proxy, c.family, got, localhostNodePorts(w, c.family))
		}
	}
}
