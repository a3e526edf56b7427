package walk

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
	"github.com/portcullis-k8s/portcullis/pkg/rules/kubeproxy"
)

// crowd is a world of many Services with five endpoints each.
func crowd(services int) *rules.World {
	w := &rules.World{
		Node:  rules.Node{Name: "n", IPs: addrs("192.0.2.1"), Addresses: addrs("192.0.2.1", "10.244.0.1")},
		Proxy: rules.Proxy{MasqueradeBit: 14, LocalhostNodePorts: true, Detector: rules.Detector{CIDRs: prefixes("10.244.0.0/16")}},
	}
	for i := range services {
		p := rules.ServicePort{ServicePort: ports.ServicePort{Name: "http", Protocol: ports.TCP, Port: 80, NodePort: uint16(1024 + i)}}
		for e := range 5 {
			n := i*5 + e
			a := netip.AddrFrom4([4]byte{10, byte(128 + n/65536), byte(n / 256), byte(n)})
			p.Endpoints = append(p.Endpoints, rules.Endpoint{Addr: netip.AddrPortFrom(a, 8080), Node: "m", Ready: true, Serving: true})
		}
		w.Services = append(w.Services, &rules.Service{
			Ref:  ports.Ref{Kind: "Service", Namespace: "default", Name: fmt.Sprintf("s%05d", i)},
			Type: "NodePort", ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(i / 256), byte(i)})}, Ports: []rules.ServicePort{p},
		})
	}
	return w
}

// BenchmarkWalk follows a packet from outside to the node port in the middle of so many Services: five paths.
func BenchmarkWalk(b *testing.B) {
	for _, backend := range []struct {
		name   string
		render func(*rules.World, rules.Family) rules.Fragment
	}{{"iptables", kubeproxy.IPTables}, {"nftables", kubeproxy.NFTables}} {
		for _, services := range []int{100, 10000} {
			b.Run(fmt.Sprintf("%s/%d", backend.name, services), func(b *testing.B) {
				w := New(rules.Install(backend.render(crowd(services), rules.IPv4)), lab)
				p := packet(fmt.Sprintf("eth0 192.0.2.2:40000 > 192.0.2.1:%d", 1024+services/2))
				if got := w.Walk(p); len(got) != 5 || got[0].Verdict != DNAT {
					b.Fatalf("got %s", lines(got))
				}
				b.ReportAllocs()
				for b.Loop() {
					w.Walk(p)
				}
			})
		}
	}
}

// BenchmarkNew prepares the rules of 10,000 Services.
func BenchmarkNew(b *testing.B) {
	rs := rules.Install(kubeproxy.IPTables(crowd(10000), rules.IPv4))
	b.ReportAllocs()
	for b.Loop() {
		New(rs, lab)
	}
}
