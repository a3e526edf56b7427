// Package scheduling holds the scheduler plugin to a model that knows nothing but sets of addresses, and to the in-tree
// NodePorts, on kube-scheduler's own NodeInfo.
package scheduling

import (
	"fmt"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func hostIPs() []string {
	return []string{
		"", "0.0.0.0", "::ffff:0.0.0.0", "::", "0:0:0:0:0:0:0:0", "127.0.0.1", "::ffff:127.0.0.1", "::ffff:7f00:1", "::1", "0:0::1",
		"10.0.0.1", "::ffff:10.0.0.1", "10.0.0.2", "fd00::1", "FD00::1", "fd00:0::1",
	}
}

// difference names the reason for which the plugin and the in-tree one judge two hostIPs differently.
type difference string

const (
	theirWildcard  difference = "upstream's only wildcard is 0.0.0.0, which it takes for both families: to us it is IPv4"
	ourWildcard    difference = "upstream takes :: for an address like any other: to us it is all of IPv6, and all of both for a process of the host network"
	ourSpelling    difference = "upstream compares addresses as text: to us every spelling is the address"
	notADifference difference = "none that is known"
)

// explain names the difference of two hostIPs, of one node, on which the two plugins do not agree.
func explain(a, b string, oursRefuses bool) difference {
	x, y := canonical(a), canonical(b)
	isWild6 := func(ip netip.Addr) bool { return ip == netip.IPv6Unspecified() }
	switch {
	case !oursRefuses && (a == "0.0.0.0" || b == "0.0.0.0") && x.IsValid() && y.IsValid() && x.Is4() != y.Is4():
		return theirWildcard
	case oursRefuses && x == y && a != b:
		return ourSpelling
	case oursRefuses && (isWild6(x) || isWild6(y)):
		return ourWildcard
	case oursRefuses && x.IsUnspecified() && a != "0.0.0.0" || oursRefuses && y.IsUnspecified() && b != "0.0.0.0":
		return ourSpelling // of 0.0.0.0, as which upstream knows no other
	default:
		return notADifference
	}
}

// canonical returns an address, or an invalid one for the empty hostIP.
func canonical(hostIP string) netip.Addr {
	if hostIP == "" {
		return netip.Addr{}
	}
	return netip.MustParseAddr(hostIP).Unmap()
}

func TestMatrix(t *testing.T) {
	ours, theirs := portClaims(t, "{}"), nodePorts(t)
	seen := map[difference]int{}
	judged, refused := 0, 0
	protocols := []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP}
	each := func(do func(hostIP string, protocol corev1.Protocol, hostNetwork bool)) {
		for _, hostIP := range hostIPs() {
			for _, protocol := range protocols {
				for _, hostNetwork := range []bool{false, true} {
					do(hostIP, protocol, hostNetwork)
				}
			}
		}
	}
	each(func(held string, heldProtocol corev1.Protocol, heldNetwork bool) {
		holder := newPod("held", heldNetwork, corev1.ContainerPort{HostIP: held, HostPort: 8080, ContainerPort: 8080, Protocol: heldProtocol})
		node := newNode("n1", holder)
		each(func(wanted string, protocol corev1.Protocol, hostNetwork bool) {
			pod := newPod("wanted", hostNetwork, corev1.ContainerPort{HostIP: wanted, HostPort: 8080, ContainerPort: 8080, Protocol: protocol})
			name := fmt.Sprintf("held %q/%s (host network %v), wanted %q/%s (host network %v)", held, heldProtocol, heldNetwork, wanted, protocol, hostNetwork)
			want := heldProtocol == protocol && meet(addressesOf(held, heldNetwork), addressesOf(wanted, hostNetwork))
			got, their := isRefused(place(t.Context(), ours, pod, node)), isRefused(place(t.Context(), theirs, pod, node))
			if got != want {
				t.Errorf("%s: refused %v, the model says %v", name, got, want)
			}
			if got != their {
				why := explain(held, wanted, got)
				if why == notADifference {
					t.Errorf("%s: refused %v, NodePorts %v: not a known difference", name, got, their)
				}
				seen[why]++
			}
			judged++
			if got {
				refused++
			}
		})
	})
	for _, d := range []difference{theirWildcard, ourWildcard, ourSpelling} {
		if seen[d] == 0 {
			t.Errorf("never seen: %s", d)
		}
	}
	t.Logf("%d pairs, %d refused; differences from NodePorts: %v", judged, refused, seen)
}
