package walk

import (
	"slices"
	"testing"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
	"github.com/portcullis-k8s/portcullis/pkg/rules/kubeproxy"
	"github.com/portcullis-k8s/portcullis/pkg/rules/portmap"
)

// Who answers on a port that is both a host port and a node port, out of rendered rules. What is expected was measured
// with real components and packets; test/upstream/dataplane sends such packets again and holds the walker to who answers.

// web is the lab's world: a pod with a host port, and a Service with the same node port that leads to another pod.
func web() *rules.World {
	node := rules.Node{
		Name: "n", IPs: addrs("192.0.2.1", "2001:db8::1"), Addresses: lab.Addresses, PodCIDRs: prefixes("10.244.0.0/24", "fd00:10:244::/64"),
	}
	p := rules.ServicePort{ServicePort: ports.ServicePort{Name: "http", Protocol: ports.TCP, Port: 80, NodePort: 30007}}
	for _, a := range ends("10.244.0.20:8080", "[fd00:10:244::20]:8080") {
		p.Endpoints = append(p.Endpoints, rules.Endpoint{Addr: a, Node: "n", Ready: true, Serving: true})
	}
	return &rules.World{
		Node: node,
		Services: []*rules.Service{{
			Ref:  ports.Ref{APIVersion: "v1", Kind: "Service", Namespace: "default", Name: "service"},
			Type: "NodePort", ClusterIPs: addrs("10.96.0.10", "fd00:10:96::10"), Ports: []rules.ServicePort{p},
		}},
		Pods: []*rules.Pod{{
			Ref:       ports.Ref{APIVersion: "v1", Kind: "Pod", Namespace: "default", Name: "host"},
			SandboxID: "c0ffee", Addresses: prefixes("10.244.0.10/24", "fd00:10:244::10/64"),
			Mappings: []rules.Mapping{{Protocol: ports.TCP, HostPort: 30007, ContainerPort: 80}},
		}},
		Proxy: rules.Proxy{
			MasqueradeBit: 14, LocalhostNodePorts: true, Detector: rules.Detector{CIDRs: prefixes("10.244.0.0/16", "fd00:10:244::/48")},
		},
		Portmap: rules.Portmap{Network: "k8s-pod-network", MarkBit: 13},
	}
}

// A component installs its rules of both families.
type component func(*rules.World) []rules.Fragment

func both(render func(*rules.World, rules.Family) rules.Fragment) component {
	return func(w *rules.World) []rules.Fragment {
		return []rules.Fragment{render(w, rules.IPv4), render(w, rules.IPv6)}
	}
}

// legacy is a component with iptables-legacy.
func legacy(c component) component {
	return func(w *rules.World) []rules.Fragment {
		all := c(w)
		for i := range all {
			for j, t := range all[i].Tables {
				of := *t
				of.Tool = rules.XTablesLegacy
				all[i].Tables[j] = &of
			}
			for j := range all[i].Jumps {
				all[i].Jumps[j].Tool = rules.XTablesLegacy
			}
		}
		return all
	}
}

func install(w *rules.World, components ...component) *rules.Ruleset {
	var all []rules.Fragment
	for _, c := range components {
		all = append(all, c(w)...)
	}
	return rules.Install(all...)
}

// userspace has the proxy's socket on port 40007.
func userspace(w *rules.World, f rules.Family) rules.Fragment {
	return kubeproxy.Userspace(w, f, func(*rules.Service, ports.ServicePort) uint16 { return 40007 })
}

// emptyChain is what iptables-legacy -t nat -N does: it registers the table's base chains.
func emptyChain(*rules.World) []rules.Fragment {
	return []rules.Fragment{fragment(
		in("legacy nat PREROUTING", rule()), in("legacy nat OUTPUT", rule()), in("6 legacy nat PREROUTING", rule()), in("6 legacy nat OUTPUT", rule()),
	)}
}

// answers says who answers the packet: the Service, the pod with the host port, the node itself, or nobody.
func answers(t *testing.T, w *Walker, p string) string {
	t.Helper()
	paths := w.Walk(packet(p))
	if len(paths) != 1 {
		t.Fatalf("%s: %d paths", p, len(paths))
	}
	path := paths[0]
	switch {
	case path.Verdict == Drop || path.Verdict == Reject:
		return path.Verdict.String()
	case path.Martian:
		return "lost"
	case path.Verdict == Accept && path.Local:
		return "node"
	case path.Masquerade:
		return path.Origin.Owner.Name + " snat"
	default:
		return path.Origin.Owner.Name
	}
}

const (
	toPrimary   = "eth0 192.0.2.2:40000 > 192.0.2.1:30007"
	toSecond    = "eth0 192.0.2.2:40000 > 192.0.2.11:30007"
	fromPod     = "cni0 10.244.0.30:40000 > 192.0.2.1:30007"
	toPrimary6  = "eth0 [2001:db8::2]:40000 > [2001:db8::1]:30007"
	overLo6     = "[::1]:40000 > [::1]:30007"
	toClusterIP = "cni0 10.244.0.30:40000 > 10.96.0.10:30007"
)

// TestWinners is who answers a client outside, by back ends and by who started first.
func TestWinners(t *testing.T) {
	mapsX, mapsN := both(portmap.IPTables), both(portmap.NFTables)
	proxyX, proxyN, proxyV, proxyU := both(kubeproxy.IPTables), both(kubeproxy.NFTables), both(kubeproxy.IPVS), both(userspace)
	for _, tt := range []struct {
		name  string
		start []component
		want  string
	}{
		{"portmap iptables, proxy iptables", []component{proxyX, mapsX}, "service snat"},
		{"portmap iptables, proxy iptables, portmap first", []component{mapsX, proxyX}, "service snat"},
		{"both legacy", []component{legacy(proxyX), legacy(mapsX)}, "service snat"},
		{"both legacy, portmap first", []component{legacy(mapsX), legacy(proxyX)}, "service snat"},
		{"portmap legacy, proxy iptables-nft", []component{proxyX, legacy(mapsX)}, "host"},
		{"portmap legacy, proxy iptables-nft, portmap first", []component{legacy(mapsX), proxyX}, "service snat"},
		{"portmap nft, proxy iptables", []component{proxyX, mapsN}, "host"},
		{"portmap nft, proxy iptables, portmap first", []component{mapsN, proxyX}, "service snat"},
		{"portmap nft, proxy nftables", []component{proxyN, mapsN}, "host"},
		{"portmap nft, proxy nftables, portmap first", []component{mapsN, proxyN}, "service snat"},
		{"portmap iptables, proxy nftables", []component{proxyN, mapsX}, "host"},
		{"portmap iptables, proxy nftables, portmap first", []component{mapsX, proxyN}, "service snat"},
		{"portmap iptables, proxy ipvs", []component{proxyV, mapsX}, "host snat"},
		{"portmap iptables, proxy ipvs, portmap first", []component{mapsX, proxyV}, "host snat"},
		{"portmap nft, proxy ipvs", []component{proxyV, mapsN}, "host"},
		{"portmap nft, proxy ipvs, portmap first", []component{mapsN, proxyV}, "host snat"},
		{"portmap iptables, proxy userspace", []component{proxyU, mapsX}, "service"},
		{"portmap iptables, proxy userspace, portmap first", []component{mapsX, proxyU}, "host"},
		{"portmap legacy, proxy nftables, an empty chain first", []component{emptyChain, proxyN, legacy(mapsX)}, "service snat"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := New(install(web(), tt.start...), lab)
			for _, p := range []string{toPrimary, toPrimary6} {
				if got := answers(t, w, p); got != tt.want {
					t.Errorf("%s: %s answers, want %s", p, got, tt.want)
				}
			}
		})
	}
}

// TestExceptions is where the host port wins although the proxy comes first: what the proxy's rules leave alone.
func TestExceptions(t *testing.T) {
	packets := []string{toPrimary, toSecond, fromNode, overLo, fromPod, toPrimary6, overLo6}
	proxyX, mapsX, proxyN, mapsN := both(kubeproxy.IPTables), both(portmap.IPTables), both(kubeproxy.NFTables), both(portmap.NFTables)
	iptables := [][]component{{proxyX, mapsX}, {mapsX, proxyX}} // in one base chain, the start does not matter
	nftables := [][]component{{mapsN, proxyN}}
	remote := func(w *rules.World) {
		w.Services[0].ExternalLocal = true
		for i := range w.Services[0].Ports[0].Endpoints {
			w.Services[0].Ports[0].Endpoints[i].Node = "other"
		}
	}
	for _, tt := range []struct {
		name   string
		change func(*rules.World)
		starts [][]component
		want   []string
	}{
		{"normal", func(*rules.World) {}, iptables,
			[]string{"service snat", "service snat", "service snat", "service snat", "service snat", "service snat", "lost"}},
		{"policy Local, endpoints elsewhere", remote, iptables,
			[]string{"host", "host", "service snat", "service snat", "service", "host", "lost"}},
		{"no endpoints", func(w *rules.World) { w.Services[0].Ports[0].Endpoints = nil }, iptables,
			[]string{"host", "host", "host", "host snat", "host snat", "host", "lost"}},
		{"node ports on the primary address", func(w *rules.World) { w.Proxy.PrimaryNodePorts, w.Proxy.LocalhostNodePorts = true, false }, iptables,
			[]string{"service snat", "host", "service snat", "host snat", "service snat", "service snat", "lost"}},
		{"no node ports on loopback", func(w *rules.World) { w.Proxy.LocalhostNodePorts = false }, iptables,
			[]string{"service snat", "service snat", "service snat", "host snat", "service snat", "service snat", "lost"}},
		{"the host port on the same address", func(w *rules.World) { w.Pods[0].Mappings[0].HostIP = addrs("192.0.2.1")[0] }, iptables,
			[]string{"service snat", "service snat", "service snat", "service snat", "service snat", "service snat", "node"}},

		{"nftables, normal", func(w *rules.World) { w.Proxy.PrimaryNodePorts = true }, nftables,
			[]string{"service snat", "host", "service snat", "host snat", "service snat", "service snat", "lost"}},
		{"nftables, policy Local, endpoints elsewhere", func(w *rules.World) { remote(w); w.Proxy.PrimaryNodePorts = true }, nftables,
			[]string{"host", "host", "service snat", "host snat", "service", "host", "lost"}},
		{"nftables, no endpoints", func(w *rules.World) { w.Services[0].Ports[0].Endpoints = nil; w.Proxy.PrimaryNodePorts = true }, nftables,
			[]string{"host", "host", "host", "host snat", "host", "host", "lost"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			world := web()
			tt.change(world)
			for _, start := range tt.starts {
				w := New(install(world, start...), lab)
				var got []string
				for _, p := range packets {
					got = append(got, answers(t, w, p))
				}
				if !slices.Equal(got, tt.want) {
					t.Errorf("got  %q\nwant %q", got, tt.want)
				}
			}
		})
	}
}

// TestIPVSCaptured is what a host port captures in the ipvs mode: cluster IPs are the node's own addresses there.
func TestIPVSCaptured(t *testing.T) {
	proxy, mapsX, mapsN := both(kubeproxy.IPVS), both(portmap.IPTables), both(portmap.NFTables)
	const (
		servicePort = "cni0 10.244.0.30:40000 > 10.96.0.10:80"
		otherPort   = "cni0 10.244.0.30:40000 > 10.96.0.10:8888"
	)
	for _, tt := range []struct {
		name     string
		hostPort uint16
		maps     component
		packet   string
		want     string
	}{
		{"a port that the Service has", 80, mapsX, servicePort, "service"},
		{"a port that the Service has, portmap nft", 80, mapsN, servicePort, "host"},
		{"another port", 8888, mapsX, otherPort, "host snat"},
		{"another port, portmap nft", 8888, mapsN, otherPort, "host"},
		{"no host port", 1, mapsX, servicePort, "service"},
		{"no host port, another port", 1, mapsX, otherPort, "reject"},
		{"loopback", 30007, mapsX, overLo, "host snat"},
	} {
		world := web()
		world.Pods[0].Mappings[0].HostPort = tt.hostPort
		for _, start := range [][]component{{proxy, tt.maps}, {tt.maps, proxy}} {
			if got := answers(t, New(install(world, start...), lab), tt.packet); got != tt.want {
				t.Errorf("%s: %s answers, want %s", tt.name, got, tt.want)
			}
		}
	}
}

// TestIPVSPolicyLocal keeps the source of what the host port takes from the node port.
func TestIPVSPolicyLocal(t *testing.T) {
	world := web()
	world.Services[0].ExternalLocal = true
	w := New(install(world, both(kubeproxy.IPVS), both(portmap.IPTables)), lab)
	if got := answers(t, w, toPrimary); got != "host" {
		t.Errorf("%s answers, want host", got)
	}
}
