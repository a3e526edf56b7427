package conformance

import (
	"net"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/api/v1/service"
	"k8s.io/kubernetes/pkg/proxy/util"

	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/extract/specimen"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// interfaces are those of a node.
type interfaces []net.Addr

func (i interfaces) InterfaceAddrs() ([]net.Addr, error) { return i, nil }

// TestNodePortAddressesAsKubeProxy: of a node's addresses, kube-proxy serves node ports on those that --nodeport-addresses
// names, read once for each family.
func TestNodePortAddressesAsKubeProxy(t *testing.T) {
	s := specimen.New(t)
	addresses := []string{"127.0.0.1", "::1", "10.0.0.1", "10.1.0.1", "192.168.0.1", "203.0.113.1", "fd00::1", "fd01::1", "2001:db8::1"}
	cidrs := []string{"10.0.0.0/8", "10.1.0.0/16", "192.168.0.1/32", "127.0.0.0/8", "0.0.0.0/0", "fd00::/16", "fd00::1/128", "::/0", "::1/128"}
	var on interfaces
	for _, a := range addresses {
		on = append(on, &net.IPAddr{IP: net.ParseIP(a)})
	}
	for range specimen.Rounds(1000) {
		var names []string
		var ours extract.NodePortAddresses
		for range s.IntN(4) {
			cidr := cidrs[s.IntN(len(cidrs))]
			names = append(names, cidr)
			ours.Prefixes = append(ours.Prefixes, netip.MustParsePrefix(cidr))
		}
		ipv4, ipv6 := s.IntN(3) > 0, s.IntN(3) > 0
		served := map[string]bool{}
		for family, wanted := range map[corev1.IPFamily]bool{corev1.IPv4Protocol: ipv4, corev1.IPv6Protocol: ipv6} {
			ips, err := util.NewNodePortAddresses(family, names).GetNodeIPs(on)
			if err != nil {
				t.Fatal(err)
			}
			for _, ip := range ips {
				served[ip.String()] = wanted
			}
		}
		for _, text := range addresses {
			addr := netip.MustParseAddr(text)
			// Health checks are answered on all of them; of node ports loopback is an exception of each mode's own.
			checkHolds(t, "health check", names, ours.HealthChecksOn(ipv4, ipv6), addr, served[text])
			checkHolds(t, "node port", names, ours.On(ipv4, ipv6), addr, served[text] && !addr.IsLoopback())
		}
	}
}

func checkHolds(t *testing.T, what string, names []string, held []ports.Address, addr netip.Addr, want bool) {
	t.Helper()
	got := false
	for _, a := range held {
		got = got || a.Contains(addr)
	}
	if got != want {
		t.Errorf("--nodeport-addresses %q: %s on %s: %v, kube-proxy says %v", names, what, addr, got, want)
	}
}

// TestHealthChecksAsKubeProxy: a health check node port is used where Kubernetes says that one is needed.
func TestHealthChecksAsKubeProxy(t *testing.T) {
	s := specimen.New(t)
	needed := 0
	for range specimen.Rounds(1500) {
		svc := specimen.Draw[corev1.Service](s)
		svc.Spec.HealthCheckNodePort = 30080
		got, want := extract.Service(svc, extract.NodePortAddresses{}).HealthCheckNodePort != 0, service.NeedsHealthCheck(svc)
		if got != want {
			t.Errorf("type %q, externalTrafficPolicy %q: used %v, needed %v", svc.Spec.Type, svc.Spec.ExternalTrafficPolicy, got, want)
		}
		if want {
			needed++
		}
	}
	if needed == 0 {
		t.Error("none was needed")
	}
}

// TestSkippedAsKubeProxy: a Service that kube-proxy passes over has no packets of external addresses.
func TestSkippedAsKubeProxy(t *testing.T) {
	for _, clusterIP := range []string{"10.96.0.1", corev1.ClusterIPNone} {
		for _, kind := range []corev1.ServiceType{corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeExternalName} {
			svc := &corev1.Service{Spec: corev1.ServiceSpec{
				Type: kind, ClusterIP: clusterIP, ClusterIPs: []string{clusterIP}, ExternalIPs: []string{"192.0.2.1"}, Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}},
			}}
			if claims := extract.Service(svc, extract.NodePortAddresses{}).Claims; (len(claims) == 0) != util.ShouldSkipService(svc) {
				t.Errorf("type %s, clusterIP %s: we have %v, kube-proxy skips it: %v", kind, clusterIP, claims, util.ShouldSkipService(svc))
			}
		}
	}
}
