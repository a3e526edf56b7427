package extract

import (
	"cmp"
	"fmt"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// Pool returns a PortPool as a value, with the defaults that the API server gives it. The error is about a selector or a
// range that the API server would have refused.
func Pool(object *v1alpha1.PortPool) (pool.Pool, error) {
	o := object.DeepCopy()
	o.Default()
	p := pool.Pool{
		Name: o.Name, Created: o.CreationTimestamp.Time, For: pool.For(o.Spec.For), Priority: int(*o.Spec.Priority),
		Mode: pool.Mode(o.Spec.Allocation.Mode), Strategy: pool.Strategy(o.Spec.Allocation.Strategy),
		ReuseDelay: o.Spec.Allocation.ReuseDelay.Duration, Exclusive: o.Spec.Sharing == v1alpha1.Exclusive,
		State: pool.State(o.Spec.State),
	}
	if l := o.Spec.Limits; l != nil {
		p.PerNamespace, p.PerService = valueOf(l.PerNamespace), valueOf(l.PerService)
	}
	if err := knownWords(&o.Spec); err != nil {
		return pool.Pool{}, err
	}
	var err error
	if p.Enforcement, err = pool.ParseEnforcement(string(o.Spec.Enforcement)); err != nil {
		return pool.Pool{}, fmt.Errorf("spec.enforcement: %w", err)
	}
	if p.Ranges, err = portRanges(o.Spec.Ranges); err != nil {
		return pool.Pool{}, fmt.Errorf("spec.ranges: %w", err)
	}
	if p.ExplicitOnly, err = portRanges(o.Spec.Allocation.ExplicitOnly); err != nil {
		return pool.Pool{}, fmt.Errorf("spec.allocation.explicitOnly: %w", err)
	}
	if p.Namespaces, err = required(o.Spec.NamespaceSelector); err != nil {
		return pool.Pool{}, fmt.Errorf("spec.namespaceSelector: %w", err)
	}
	if o.Spec.ServiceSelector != nil {
		if p.Services, err = labelSelector(o.Spec.ServiceSelector); err != nil {
			return pool.Pool{}, fmt.Errorf("spec.serviceSelector: %w", err)
		}
	}
	return p, nil
}

// knownWords refuses what the API server would: another spelling would mean something else.
func knownWords(s *v1alpha1.PortPoolSpec) error {
	_, err := oneOf("spec.for", s.For, v1alpha1.NodePorts, v1alpha1.HostPorts)
	_, mode := oneOf("spec.allocation.mode", s.Allocation.Mode, v1alpha1.AllocateAuto, v1alpha1.AllocateExplicit)
	_, strategy := oneOf("spec.allocation.strategy", s.Allocation.Strategy, v1alpha1.Hashed, v1alpha1.LowestFree, v1alpha1.Random)
	_, sharing := oneOf("spec.sharing", s.Sharing, v1alpha1.Exclusive, v1alpha1.Shared)
	_, state := oneOf("spec.state", s.State, v1alpha1.PoolActive, v1alpha1.PoolDraining, v1alpha1.PoolDisabled)
	_, enforcement := oneOf("spec.enforcement", s.Enforcement, v1alpha1.Audit, v1alpha1.Warn, v1alpha1.Deny)
	return cmp.Or(err, mode, strategy, sharing, state, enforcement)
}

func valueOf(p *int32) int {
	if p == nil {
		return 0
	}
	return int(*p)
}

// portRanges reads ranges of the API.
func portRanges(list []v1alpha1.PortRange) (ports.Ranges, error) {
	var ranges []ports.Range
	for i, r := range list {
		if r.Port < 1 || r.Last() > 65535 || r.Last() < r.Port {
			return nil, fmt.Errorf("[%d]: %d-%d is not a range of ports; write port from 1 to 65535 and endPort from there", i, r.Port, r.Last())
		}
		ranges = append(ranges, ports.Range{First: uint16(r.Port), Last: uint16(r.Last())})
	}
	return ports.NewRanges(ranges...), nil
}

// selector is a label selector as the core knows one.
type selector struct{ labels.Selector }

func (s selector) Matches(set map[string]string) bool { return s.Selector.Matches(labels.Set(set)) }

func labelSelector(s *v1alpha1.LabelSelector) (pool.Selector, error) {
	parsed, err := s.AsSelector()
	if err != nil {
		return nil, err
	}
	return selector{parsed}, nil
}
