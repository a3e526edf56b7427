package observe

import (
	"maps"
	"net/netip"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
)

// nodes knows the cluster's nodes, and which of them each placement allows: computed once for each distinct placement
// and kept until a node comes, goes, or changes its labels or taints.
type nodes struct {
	mu       sync.RWMutex
	byName   map[string]*corev1.Node
	eligible map[string][]string // by extract.Placement.Key
	kept     int                 // bytes of eligible, about
	version  uint64              // counts when eligible was forgotten
	cidrs    map[string]*networkingv1.ServiceCIDR
	families check.Families
	ranges   []netip.Prefix // of cluster IPs
}

// What is kept of placements, in bytes: they come from users' templates, which may name a million values. One that is longer
// than maxPlacement by itself is computed each time.
const (
	maxPlacements = 32 << 20
	maxPlacement  = 64 << 10
)

func newNodes() *nodes {
	return &nodes{byName: map[string]*corev1.Node{}, eligible: map[string][]string{}, cidrs: map[string]*networkingv1.ServiceCIDR{}}
}

// Eligible returns the names of the nodes that p allows, sorted. The caller must not write to them.
func (n *nodes) Eligible(p extract.Placement) []string {
	n.mu.RLock()
	names, ok := n.eligible[p.Key]
	version := n.version
	var all []*corev1.Node
	if !ok {
		all = slices.Collect(maps.Values(n.byName))
	}
	n.mu.RUnlock()
	if ok {
		return names
	}
	names = []string{} // known to be none is not the same as not known
	for _, node := range all {
		if p.Allows(node) {
			names = append(names, node.Name)
		}
	}
	slices.Sort(names)
	if len(p.Key) <= maxPlacement {
		n.keep(p.Key, names, version)
	}
	return names
}

// keep remembers what was computed, unless nodes have changed since.
func (n *nodes) keep(key string, names []string, version uint64) {
	const perName = 16 // the names themselves are the nodes'
	size := len(key) + perName*len(names)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.version != version || n.eligible[key] != nil {
		return
	}
	if n.kept+size > maxPlacements {
		clear(n.eligible)
		n.kept = 0
	}
	n.eligible[key] = names
	n.kept += size
}

// Node returns a node as far as it is kept: its metadata, taints, pod CIDRs and addresses; nil for one that is not known.
// The caller must not write to it.
func (n *nodes) Node(name string) *corev1.Node {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.byName[name]
}

// ServiceRanges returns the ranges from which cluster IPs are given; none for a cluster before Kubernetes 1.33, which does not
// tell them. The caller must not write to it.
func (n *nodes) ServiceRanges() []netip.Prefix {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.ranges
}

// Families returns the address families of the cluster's pods.
func (n *nodes) Families() check.Families {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.families
}

// set records a node and reports whether placements may have changed by it. A node that only reports that it is alive
// changes nothing.
func (n *nodes) set(node *corev1.Node) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	old := n.byName[node.Name]
	n.byName[node.Name] = node
	if old != nil && equality.Semantic.DeepEqual(old.Labels, node.Labels) && equality.Semantic.DeepEqual(old.Spec, node.Spec) {
		if !equality.Semantic.DeepEqual(old.Status.Addresses, node.Status.Addresses) {
			n.count()
		}
		return false
	}
	n.forget()
	return true
}

func (n *nodes) remove(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.byName, name)
	n.forget()
}

func (n *nodes) setCIDR(c *networkingv1.ServiceCIDR, gone bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cidrs[c.Name] = c
	if gone {
		delete(n.cidrs, c.Name)
	}
	n.count()
}

func (n *nodes) forget() {
	clear(n.eligible)
	n.kept = 0
	n.version++
	n.count()
}

func (n *nodes) count() {
	list := make([]*corev1.Node, 0, len(n.byName))
	for _, node := range n.byName {
		list = append(list, node)
	}
	cidrs := make([]*networkingv1.ServiceCIDR, 0, len(n.cidrs))
	for _, c := range n.cidrs {
		cidrs = append(cidrs, c)
	}
	n.families, n.ranges = extract.ClusterFamilies(list, cidrs), extract.ServiceRanges(cidrs)
}
