package observe

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
)

func newNode(name, zone string, addresses ...string) *corev1.Node {
	n := &corev1.Node{}
	n.Name, n.Labels = name, map[string]string{"zone": zone}
	for _, a := range addresses {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a})
	}
	return n
}

func inZone(zone string) extract.Placement {
	return extract.PlacementOf(&corev1.PodSpec{NodeSelector: map[string]string{"zone": zone}}, false)
}

// TestEligibleIsKept: what a placement allows is computed once, until a node comes, goes, or changes what it says of
// itself. The answer is the very same list as long as it is kept.
func TestEligibleIsKept(t *testing.T) {
	n := newNodes()
	n.set(newNode("n2", "a"))
	n.set(newNode("n1", "a"))
	n.set(newNode("n3", "b"))
	last := n.Eligible(inZone("a"))
	for _, c := range []struct {
		why    string
		change func() bool
		kept   bool
		want   []string
	}{
		{"nothing", func() bool { return false }, true, []string{"n1", "n2"}},
		{"another placement is asked for", func() bool { n.Eligible(inZone("b")); return false }, true, []string{"n1", "n2"}},
		{"a node reports that it is alive", func() bool { return n.set(newNode("n1", "a")) }, true, []string{"n1", "n2"}},
		{"a node gets an address", func() bool { return n.set(newNode("n1", "a", "10.0.0.1")) }, true, []string{"n1", "n2"}},
		{"a label changes", func() bool { return n.set(newNode("n3", "a")) }, false, []string{"n1", "n2", "n3"}},
		{"a taint comes", func() bool {
			tainted := newNode("n3", "a")
			tainted.Spec.Taints = []corev1.Taint{{Key: "dedicated", Effect: corev1.TaintEffectNoSchedule}}
			return n.set(tainted)
		}, false, []string{"n1", "n2"}},
		{"a taint goes", func() bool { return n.set(newNode("n3", "a")) }, false, []string{"n1", "n2", "n3"}},
		{"a node comes", func() bool { return n.set(newNode("n4", "a")) }, false, []string{"n1", "n2", "n3", "n4"}},
		{"a node goes", func() bool { n.remove("n1"); return true }, false, []string{"n2", "n3", "n4"}},
	} {
		changed := c.change()
		got := n.Eligible(inZone("a"))
		if kept := &got[0] == &last[0]; kept != c.kept || changed == c.kept {
			t.Errorf("%s: kept %v, told of as a change %v; want kept %v", c.why, kept, changed, c.kept)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.why, diff)
		}
		last = got
	}
	if got := n.Eligible(inZone("c")); got == nil || len(got) != 0 {
		t.Errorf("none at all: %#v, want an empty list, which says that they are known", got)
	}
}

func TestPlacementsAreBounded(t *testing.T) {
	n := newNodes()
	n.set(newNode("n1", "a"))
	kept := func() (bytes int) {
		for key := range n.eligible {
			bytes += len(key)
		}
		return bytes
	}
	most := 0
	for i := range 3 * maxPlacements / maxPlacement {
		n.Eligible(inZone(fmt.Sprint(i, strings.Repeat("z", maxPlacement-1000))))
		most = max(most, kept())
	}
	if most > maxPlacements || most < maxPlacements/2 {
		t.Errorf("%d bytes of placements are kept", most)
	}
	before := len(n.eligible)
	if got := n.Eligible(inZone(strings.Repeat("z", maxPlacement))); len(got) != 0 || len(n.eligible) != before {
		t.Errorf("a placement of %d bytes: %v, and it is kept", maxPlacement, got)
	}
	n.set(newNode("n2", "b"))
	if kept() != 0 || n.kept != 0 {
		t.Errorf("after a change of nodes %d bytes are kept, and %d are counted", kept(), n.kept)
	}
}

func TestFamiliesFollowTheCluster(t *testing.T) {
	n := newNodes()
	cidr := &networkingv1.ServiceCIDR{Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.96.0.0/12"}}}
	podCIDR := newNode("n1", "a", "fd00::1")
	podCIDR.Spec.PodCIDR = "10.244.0.0/24"
	v4, v6 := check.Families{IPv4: true}, check.Families{IPv6: true}
	for _, c := range []struct {
		why    string
		change func()
		want   check.Families

		hasRange bool
	}{
		{"nothing is known", func() {}, check.Families{}, false},
		{"a ServiceCIDR", func() { n.setCIDR(cidr, false) }, v4, true},
		{"a node's address", func() { n.set(newNode("n1", "a", "fd00::1")) }, v6, true},
		{"another address", func() { n.set(newNode("n1", "a", "10.0.0.1")) }, v4, true},
		{"both", func() { n.set(newNode("n2", "a", "fd00::2")) }, check.Families{IPv4: true, IPv6: true}, true},
		{"a pod CIDR", func() { n.set(podCIDR) }, v4, true},
		{"the nodes go", func() { n.remove("n1"); n.remove("n2") }, v4, true},
		{"and the ServiceCIDR", func() { n.setCIDR(cidr, true) }, check.Families{}, false},
	} {
		if c.change(); n.Families() != c.want {
			t.Errorf("%s: %+v, want %+v", c.why, n.Families(), c.want)
		}
		// The nodes say nothing of the range.
		if got := n.ServiceRanges(); (len(got) == 1 && got[0] == netip.MustParsePrefix("10.96.0.0/12")) != c.hasRange || len(got) > 1 {
			t.Errorf("%s: cluster IPs are given from %v", c.why, got)
		}
	}
}

// TestNodesFromManySides is for the race detector.
func TestNodesFromManySides(t *testing.T) {
	n := newNodes()
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for j := range 200 {
				n.set(newNode(fmt.Sprintf("n%d", j%5), fmt.Sprint(i%2)))
				n.Eligible(inZone(fmt.Sprint(j % 2)))
				n.Families()
			}
		})
	}
	all.Wait()
	if got := len(n.Eligible(inZone("0"))) + len(n.Eligible(inZone("1"))); got != 5 {
		t.Errorf("%d nodes, want 5", got)
	}
}
