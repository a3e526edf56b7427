package scheduling

import (
	"cmp"
	"context"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"

	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// nodeState is what a node and its pods hold, as of one generation of its NodeInfo. It is never written after it is made.
type nodeState struct {
	generation int64
	node       *corev1.Node
	addresses  []netip.Addr   // the primary one of each family first
	reserved   []ports.Socket // by the node's annotation
	pods       []holder       // those with host ports
	held       []held         // sorted by key
}

// holder is a pod with host ports.
type holder struct {
	pod    *corev1.Pod
	holder string // its controller, as users are told
}

// held is a socket that a pod holds. A large cluster has hundreds of thousands.
type held struct {
	key     key
	pod     int32 // in nodeState.pods
	address ports.Address
	kind    ports.Kind
}

// key is a protocol and a port number.
type key uint32

func keyOf(s ports.Socket) key { return key(s.Protocol)<<16 | key(s.Port) }

// nodeState returns what is held on a node. Generations are never given twice, so that equal ones have equal pods; that of
// a copy of a NodeInfo to which pods were added is another one (k8s.io/kubernetes pkg/scheduler/framework nextGeneration).
// A NodeInfo without a generation is looked at each time.
func (p *PortClaims) nodeState(ctx context.Context, info fwk.NodeInfo) *nodeState {
	name, generation := info.Node().Name, info.GetGeneration()
	var before *nodeState
	if known, ok := p.nodeStates.Load(name); ok {
		before = known.(*nodeState)
		if before.generation == generation && generation != 0 {
			return before
		}
	}
	m := newNodeState(ctx, info, before, p.trusted)
	p.nodeStates.Store(name, m)
	return m
}

// nodeStateAgain returns what pods hold on a node that a cycle has looked at.
func (p *PortClaims) nodeStateAgain(node string, pods []*corev1.Pod) *nodeState {
	m := &nodeState{node: &corev1.Node{}}
	if known, ok := p.nodeStates.Load(node); ok {
		m.node, m.addresses = known.(*nodeState).node, known.(*nodeState).addresses
	}
	for _, pod := range pods {
		m.read(pod, p.trusted)
	}
	m.sort()
	return m
}

// forget drops a node that was deleted.
func (p *PortClaims) forget(object any) {
	if tombstone, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = tombstone.Obj
	}
	if node, ok := object.(*corev1.Node); ok {
		p.nodeStates.Delete(node.Name)
	}
}

// newNodeState takes over from the nodeState before, if any, what has not changed since: objects are replaced and never
// written to.
func newNodeState(ctx context.Context, info fwk.NodeInfo, before *nodeState, trusted []string) *nodeState {
	if before == nil {
		before = &nodeState{}
	}
	m := &nodeState{generation: info.GetGeneration(), node: info.Node(), addresses: before.addresses, reserved: before.reserved}
	if m.node != before.node {
		m.readNode(ctx, before.node)
	}
	m.readPods(info.GetPods(), before, trusted)
	return m
}

func (m *nodeState) readNode(ctx context.Context, before *corev1.Node) {
	var err error
	m.addresses = extract.NodeAddresses(m.node)
	m.reserved, err = extract.ReservedPorts(m.node)
	annotation := m.node.Annotations[extract.ReservedPortsAnnotation]
	if err != nil && (before == nil || before.Annotations[extract.ReservedPortsAnnotation] != annotation) {
		klog.FromContext(ctx).Error(err, "Entries of a node's annotation are ignored", "plugin", Name, "node", m.node.Name,
			"annotation", extract.ReservedPortsAnnotation)
	}
}

func (m *nodeState) readPods(pods []fwk.PodInfo, before *nodeState, trusted []string) {
	stays := make([]int32, len(before.pods)) // where the pods before are now, from 1
	at := 0
	for _, info := range pods {
		pod := info.GetPod()
		if !extract.MayClaim(pod) {
			continue
		}
		i := before.find(pod, at)
		if i < 0 {
			m.read(pod, trusted)
			continue
		}
		m.pods = append(m.pods, before.pods[i])
		stays[i] = int32(len(m.pods))
		at = i + 1
	}
	for _, h := range before.held {
		if now := stays[h.pod]; now > 0 {
			h.pod = now - 1
			m.held = append(m.held, h)
		}
	}
	m.sort()
}

func (m *nodeState) sort() {
	slices.SortFunc(m.held, func(a, b held) int { return cmp.Compare(a.key, b.key) })
}

// find returns the index of a pod, or -1. Where it is looked for first it nearly always is.
func (m *nodeState) find(pod *corev1.Pod, first int) int {
	if first < len(m.pods) && m.pods[first].pod == pod {
		return first
	}
	return slices.IndexFunc(m.pods, func(h holder) bool { return h.pod == pod })
}

func (m *nodeState) read(pod *corev1.Pod, trusted []string) {
	w := extract.Pod(pod, nil, trusted)
	m.pods = append(m.pods, holder{pod, w.Owner.Root().String()})
	for _, c := range w.Claims {
		if !c.InitOnly {
			m.held = append(m.held, held{keyOf(c.Socket), int32(len(m.pods) - 1), c.Address, c.Kind})
		}
	}
}

// at returns what is held of a key.
func (m *nodeState) at(k key) []held {
	first, last := 0, len(m.held)
	for first < last {
		if middle := (first + last) / 2; m.held[middle].key < k {
			first = middle + 1
		} else {
			last = middle
		}
	}
	end := first
	for end < len(m.held) && m.held[end].key == k {
		end++
	}
	return m.held[first:end]
}

// NodeOf tells whether an address is this node's: for the time that it is looked at there is no other.
func (m *nodeState) NodeOf(addr netip.Addr) (node string, primary, known bool) {
	i := slices.Index(m.addresses, addr)
	if i < 0 {
		return "", false, false
	}
	earlier := slices.ContainsFunc(m.addresses[:i], func(other netip.Addr) bool { return other.Is4() == addr.Is4() })
	return m.node.Name, !earlier, true
}
