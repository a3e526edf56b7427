package webhook

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
)

// Restrictions is what the webhook sees of pools and policies, and of the numbers that are claimed from pools.
type Restrictions interface {
	Pools() *pool.Set
	Policies() []check.Policy
	Claim(nodePort uint16) *v1alpha1.PortClaim // nil: not claimed
	Claimed(namespace string) []uint16
	NamespaceLabels(name string) map[string]string
	Node(name string) *corev1.Node // nil: not known
}

// restrict adds what restricts the object of the checks.
func (h *Handlers) restrict(in *check.Input) {
	in.NodeLabels = h.nodeLabels
	set, policies := h.cluster.Pools(), h.cluster.Policies()
	if in.Bound || len(set.Members()) == 0 && len(policies) == 0 {
		return
	}
	who := in.Requester(h.cluster.NamespaceLabels)
	in.Policies, in.Namespace, in.Now = policies, who.NamespaceLabels, h.now()
	if len(set.Members()) > 0 {
		of := v1alpha1.ClaimingService{Namespace: who.Namespace, Name: who.Name}
		in.Pools = &check.Pools{Set: set, Who: who, InNamespace: func(m *pool.Member) int { return h.inNamespace(of, m) }}
	}
}

func (h *Handlers) nodeLabels(name string) map[string]string {
	if node := h.cluster.Node(name); node != nil {
		return node.Labels
	}
	return nil
}

// inNamespace counts a pool's numbers that the other Services of a namespace have.
func (h *Handlers) inNamespace(svc v1alpha1.ClaimingService, m *pool.Member) int {
	n := 0
	for _, port := range h.cluster.Claimed(svc.Namespace) {
		if claim := h.cluster.Claim(port); m.Effective.Contains(port) && claim != nil && !isFor(claim, svc) {
			n++
		}
	}
	return n
}
