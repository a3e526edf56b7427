package v1alpha1

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Default fills in what p leaves open, as the API server does when p is stored: for pools that come from files. It
// changes nothing when called again.
func (p *PortPool) Default() {
	s := &p.Spec
	orElse(&s.For, NodePorts)
	if s.Priority == nil {
		s.Priority = new(int32(500))
	}
	orElse(&s.Allocation.Mode, AllocateAuto)
	orElse(&s.Allocation.Strategy, Hashed)
	if s.Allocation.ReuseDelay == nil {
		s.Allocation.ReuseDelay = &metav1.Duration{Duration: 10 * time.Minute}
	}
	orElse(&s.Sharing, Exclusive)
	orElse(&s.State, PoolActive)
	orElse(&s.Enforcement, Audit)
}

// Default fills in what p leaves open, as the API server does when p is stored: for policies that come from files. It
// changes nothing when called again.
func (p *PortPolicy) Default() {
	orElse(&p.Spec.Enforcement, Audit)
	orElse(&p.Spec.ExternalIPs, ExternalIPsAllowed)
	if n := p.Spec.NodePorts; n != nil {
		orElse(&n.Mode, NodePortsAllowed)
		orElse(&n.ExplicitRequests, Allowed)
		orElse(&n.LoadBalancerNodePorts, Allowed)
	}
	if h := p.Spec.HostPorts; h != nil {
		orElse(&h.Mode, HostPortsAllowed)
		orElse(&h.HostNetwork, Allowed)
		orElse(&h.NodePortRange, Forbidden)
	}
}

// Default fills in what c leaves open, as the API server does when c is stored: for claims that come from files. It
// changes nothing when called again.
func (c *PortClaim) Default() { orElse(&c.Status.Phase, ClaimRequested) }

func orElse[T ~string](value *T, otherwise T) {
	if *value == "" {
		*value = otherwise
	}
}
