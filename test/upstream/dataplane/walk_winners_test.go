//go:build linux

package dataplane

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
	"github.com/portcullis-k8s/portcullis/pkg/rules/kubeproxy"
	"github.com/portcullis-k8s/portcullis/pkg/rules/portmap"
	"github.com/portcullis-k8s/portcullis/pkg/rules/walk"
	"github.com/portcullis-k8s/portcullis/test/lab/netns"
)

// One port is a pod's host port, a Service's node port, and a listener's in the node itself. Real connections and
// datagrams are answered by whom the walker says, whichever component started first. (No IPVS: kernels of test machines
// lack it.)

const (
	contested = 30007
	proxyPort = 40007
)

// The pod with the host port and the Service's endpoint.
var (
	hostPod    = labAddrs("10.244.1.10", "fd00:10:244:1::10")
	servicePod = labAddrs("10.244.1.20", "fd00:10:244:1::20")
)

func contestedWorld() *rules.World {
	svc := &rules.Service{
		Ref:  ports.Ref{APIVersion: "v1", Kind: "Service", Namespace: "default", Name: "web"},
		Type: "NodePort", ClusterIPs: labAddrs("10.96.0.10", "fd00:10:96::10"),
	}
	pod := &rules.Pod{Ref: ports.Ref{APIVersion: "v1", Kind: "Pod", Namespace: "default", Name: "host"}, SandboxID: "c0ffee"}
	for _, p := range []ports.Protocol{ports.TCP, ports.UDP} {
		sp := rules.ServicePort{ServicePort: ports.ServicePort{Name: p.String(), Protocol: p, Port: 80, NodePort: contested}}
		for _, a := range servicePod {
			sp.Endpoints = append(sp.Endpoints, rules.Endpoint{Addr: netip.AddrPortFrom(a, 8080), Node: "n1", Ready: true, Serving: true})
		}
		svc.Ports = append(svc.Ports, sp)
		pod.Mappings = append(pod.Mappings, rules.Mapping{Protocol: p, HostPort: contested, ContainerPort: 80})
	}
	pod.Addresses = []netip.Prefix{netip.PrefixFrom(hostPod[0], 24), netip.PrefixFrom(hostPod[1], 64)}
	return &rules.World{
		Node: rules.Node{
			Name: "n1", IPs: []netip.Addr{labAddresses[0], labAddresses[4]}, Addresses: labAddresses, PodCIDRs: podNets,
		},
		Services: []*rules.Service{svc}, Pods: []*rules.Pod{pod},
		Proxy: rules.Proxy{MasqueradeBit: 14, LocalhostNodePorts: true, Detector: rules.Detector{CIDRs: allPodNets}}, Portmap: rules.Portmap{Network: "k8s-pod-network", MarkBit: 13},
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

// userspace is the historic proxy of IPv4. The lab's node answers on the proxy's port.
func userspace(w *rules.World) []rules.Fragment {
	return []rules.Fragment{kubeproxy.Userspace(w, rules.IPv4, func(*rules.Service, ports.ServicePort) uint16 { return proxyPort })}
}

// contestedPackets are one of each class: from outside to the addresses of the node, from the node, over loopback, and
// from a pod.
func contestedPackets() []walk.Packet {
	var all []walk.Packet
	add := func(in string, from, to netip.Addr) {
		for _, p := range []ports.Protocol{ports.TCP, ports.UDP} {
			sport := uint16(50000 + len(all)) // its own connection, for datagrams too
			all = append(all, walk.Packet{In: in, Bridged: in == "cni0", Src: netip.AddrPortFrom(from, sport), Dst: netip.AddrPortFrom(to, contested), Protocol: p})
		}
	}
	for i, primary := range []netip.Addr{labAddresses[0], labAddresses[4]} {
		add("eth0", outsideAddrs[i], primary)
		add("eth0", outsideAddrs[i], []netip.Addr{labAddresses[1], labAddresses[5]}[i])
		add("", primary, primary)
		add("cni0", senderAddrs[i], primary)
	}
	for _, lo := range labAddrs("127.0.0.1", "::1") {
		add("", lo, lo)
	}
	return all
}

func TestWinnersInKernel(t *testing.T) {
	netns.Need(t, "ip", "nft", "iptables-nft-restore", "iptables-legacy-restore", "ip6tables-nft-restore", "ip6tables-legacy-restore", "sysctl")
	proxyX, proxyN, mapsX, mapsN := ofBoth(kubeproxy.IPTables), ofBoth(kubeproxy.NFTables), ofBoth(portmap.IPTables), ofBoth(portmap.NFTables)
	primary := func(w *rules.World) { w.Proxy.PrimaryNodePorts = true }
	elsewhere := func(w *rules.World) {
		w.Services[0].ExternalLocal = true
		for _, p := range w.Services[0].Ports {
			for i := range p.Endpoints {
				p.Endpoints[i].Node = "n2"
			}
		}
	}
	unserved := func(w *rules.World) {
		for i := range w.Services[0].Ports {
			w.Services[0].Ports[i].Endpoints = nil
		}
	}
	host, service, node := hostPod[0], servicePod[0], labAddresses[0]
	for _, tt := range []struct {
		name     string
		a, b     component // b is nil: nothing else
		change   func(*rules.World)
		localnet []string
		aFirst   netip.Addr // who answers the client outside if a started first
		bFirst   netip.Addr
	}{
		{"proxy iptables, portmap iptables", proxyX, mapsX, nil, []string{"all", "cni0"}, service, service},
		{"both legacy", legacy(proxyX), legacy(mapsX), nil, []string{"all", "cni0"}, service, service},
		{"proxy iptables-nft, portmap legacy", proxyX, legacy(mapsX), nil, []string{"all", "cni0"}, host, service},
		{"proxy iptables, portmap nft", proxyX, mapsN, nil, []string{"all", "cni0"}, host, service},
		{"proxy nftables, portmap nft", proxyN, mapsN, primary, []string{"cni0"}, host, service},
		{"proxy nftables, portmap iptables", proxyN, mapsX, primary, []string{"cni0"}, host, service},

		{"proxy userspace, portmap iptables", userspace, mapsX, nil, []string{"cni0"}, node, host},

		{"policy Local, endpoints elsewhere", proxyX, mapsX, elsewhere, []string{"all", "cni0"}, host, host},
		{"no endpoints", proxyX, mapsX, unserved, []string{"all", "cni0"}, host, host},
		{"node ports on primary addresses", proxyX, mapsX, func(w *rules.World) { primary(w); w.Proxy.LocalhostNodePorts = false }, []string{"cni0"}, service, service},
		{"no node ports on loopback", proxyX, mapsX, func(w *rules.World) { w.Proxy.LocalhostNodePorts = false }, []string{"cni0"}, service, service},
		{"nftables, policy Local, endpoints elsewhere", proxyN, mapsN, func(w *rules.World) { primary(w); elsewhere(w) }, []string{"cni0"}, host, host},
		{"nftables, no endpoints", proxyN, mapsN, func(w *rules.World) { primary(w); unserved(w) }, []string{"cni0"}, host, host},
		{"host port on the same address", proxyX, mapsX, onAddress(node), []string{"all", "cni0"}, service, service},
		{"no masquerading of host ports", proxyX, mapsX, func(w *rules.World) { w.Portmap.NoSNAT = true; unserved(w) }, nil, host, host},

		{"host port and a listener, iptables", mapsX, nil, nil, []string{"cni0"}, host, host},
		{"host port and a listener, nftables", mapsN, nil, nil, []string{"cni0"}, host, host},
		{"host port of another address and a listener", mapsX, nil, onAddress(labAddresses[1]), []string{"cni0"}, node, node},
		{"node port and a listener, iptables", proxyX, nil, nil, []string{"all"}, service, service},
		{"node port and a listener, nftables", proxyN, nil, primary, nil, service, service},
		{"a listener alone", func(*rules.World) []rules.Fragment { return nil }, nil, nil, nil, node, node},
	} {
		w := contestedWorld()
		if tt.change != nil {
			tt.change(w)
		}
		t.Run(tt.name, func(t *testing.T) {
			if tt.b == nil {
				contest(t, installed(w, tt.a), tt.aFirst, tt.localnet)
				return
			}
			contest(t, installed(w, tt.a, tt.b), tt.aFirst, tt.localnet)
			contest(t, installed(w, tt.b, tt.a), tt.bFirst, tt.localnet)
		})
	}
}

func onAddress(a netip.Addr) func(*rules.World) {
	return func(w *rules.World) {
		for i := range w.Pods[0].Mappings {
			w.Pods[0].Mappings[i].HostIP = a
		}
	}
}

// contest sends every packet into a node with the rules, and compares who answers with whom the walker names, and the
// one who answers the client outside with the one that is expected.
func contest(t *testing.T, rs *rules.Ruleset, winner netip.Addr, localnet []string) {
	t.Helper()
	l := newLab(t)
	l.routeLocalnet(t, localnet...)
	l.isPod(t, slices.Concat(hostPod, servicePod)...)
	l.load(t, rs)
	for _, port := range []uint16{80, 8080} {
		l.listen(t, l.pods, port)
		for _, a := range slices.Concat(hostPod, servicePod) {
			l.listenUDP(t, l.pods, netip.AddrPortFrom(a, port))
		}
	}
	for _, port := range []uint16{contested, proxyPort} {
		l.listen(t, l.node, port)
		for _, a := range append(slices.Clone(labAddresses), labAddrs("127.0.0.1", "::1")...) {
			l.listenUDP(t, l.node, netip.AddrPortFrom(a, port))
		}
	}
	walker := walk.New(rs, l.host(localnet...))
	for i, p := range contestedPackets() {
		paths := walker.Walk(p)
		if len(paths) != 1 {
			t.Fatalf("%+v has %d paths", p, len(paths))
		}
		want, ok := l.predicted(t, l.of(p), paths[0])
		got, err := l.send(p)
		if err != nil {
			t.Fatalf("%+v: %v", p, err)
		}
		if what := fmt.Sprintf("%s %s > %s by %q", p.Protocol, p.Src.Addr(), p.Dst, p.In); !ok || got != want {
			t.Errorf("%s: %s, the walker says %s", what, got, want)
		} else if i < 2 && got.at.Addr() != winner {
			t.Errorf("%s: %s, expected %s", what, got, winner)
		}
	}
}
