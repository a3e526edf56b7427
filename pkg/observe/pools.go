package observe

import (
	"maps"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// pools knows the pools of numbers, which numbers are claimed, and the labels of the namespaces that pools and policies
// select by.
type pools struct {
	nodePortRange ports.Range

	mu         sync.RWMutex
	byName     map[string]pool.Pool
	current    *pool.Set
	policies   map[string]check.Policy
	sorted     []check.Policy
	claims     map[uint16]*v1alpha1.PortClaim
	claimed    map[string]map[uint16]bool // by namespace
	namespaces map[string]map[string]string
}

func newPools(nodePortRange ports.Range) *pools {
	return &pools{
		nodePortRange: nodePortRange, byName: map[string]pool.Pool{}, current: pool.New(nil, nodePortRange),
		policies: map[string]check.Policy{},
		claims:   map[uint16]*v1alpha1.PortClaim{}, claimed: map[string]map[uint16]bool{}, namespaces: map[string]map[string]string{},
	}
}

// Pools returns the pools as they are now.
func (p *pools) Pools() *pool.Set {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.current
}

// Policies returns the policies as they are now, sorted by name. The caller must not write to them.
func (p *pools) Policies() []check.Policy {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.sorted
}

// Claim returns the claim of a nodePort, or nil. The caller must not write to it.
func (p *pools) Claim(nodePort uint16) *v1alpha1.PortClaim {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.claims[nodePort]
}

// Claimed returns the nodePorts that are claimed for Services of a namespace, sorted: also those that were given back and
// nobody else may have yet, so that nobody empties a pool by creating and deleting.
func (p *pools) Claimed(namespace string) []uint16 {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return slices.Sorted(maps.Keys(p.claimed[namespace]))
}

// NamespaceLabels returns the labels of a namespace. The caller must not write to them.
func (p *pools) NamespaceLabels(name string) map[string]string {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.namespaces[name]
}

// setPool records a pool, and reports what is wrong with it: then it is as if it were not there.
func (p *pools) setPool(object *v1alpha1.PortPool, gone bool) error {
	value, err := extract.Pool(object)
	p.mu.Lock()
	defer p.mu.Unlock()
	if gone || err != nil {
		delete(p.byName, object.Name)
	} else {
		p.byName[object.Name] = value
	}
	p.current = pool.New(slices.Collect(maps.Values(p.byName)), p.nodePortRange)
	return err
}

// setPolicy is setPool for a policy.
func (p *pools) setPolicy(object *v1alpha1.PortPolicy, gone bool) error {
	value, err := extract.Policy(object)
	p.mu.Lock()
	defer p.mu.Unlock()
	if gone || err != nil {
		delete(p.policies, object.Name)
	} else {
		p.policies[object.Name] = value
	}
	p.sorted = slices.SortedFunc(maps.Values(p.policies), func(a, b check.Policy) int { return strings.Compare(a.Name, b.Name) })
	return err
}

func (p *pools) setClaim(c *v1alpha1.PortClaim, gone bool) {
	if c.Spec.Port < 1 || c.Spec.Port > 65535 {
		return
	}
	port := uint16(c.Spec.Port)
	p.mu.Lock()
	defer p.mu.Unlock()
	if before, ok := p.claims[port]; ok {
		p.unclaim(before.Spec.Service.Namespace, port)
	}
	if gone {
		delete(p.claims, port)
		return
	}
	p.claims[port] = c
	of := p.claimed[c.Spec.Service.Namespace]
	if of == nil {
		of = map[uint16]bool{}
		p.claimed[c.Spec.Service.Namespace] = of
	}
	of[port] = true
}

func (p *pools) unclaim(namespace string, port uint16) {
	delete(p.claimed[namespace], port)
	if len(p.claimed[namespace]) == 0 {
		delete(p.claimed, namespace)
	}
}

func (p *pools) setNamespace(ns *corev1.Namespace, gone bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.namespaces[ns.Name] = ns.Labels
	if gone {
		delete(p.namespaces, ns.Name)
	}
}
