package controller

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// view is what the status of all pools is made from.
type view struct {
	pools      *poolSet
	namespaces map[string]map[string]string // their labels
	holdings   []holding                    // sorted by namespace, name and number
	holders    map[pool.For]map[uint16][]pool.Requester
	claims     map[uint16]*v1alpha1.PortClaim
	occupied   map[uint16]bool // by pods' host ports and the nodes' daemons
}

// holding is a number that a Service or a pod has.
type holding struct {
	pool.Holding
	kind     string
	uid      types.UID
	protocol corev1.Protocol
}

// look returns what there is now, as far as it has been seen. Nothing of it may be written to.
func (c *Controller) look(ctx context.Context) (*view, error) {
	v := &view{
		namespaces: map[string]map[string]string{}, claims: map[uint16]*v1alpha1.PortClaim{}, occupied: map[uint16]bool{},
		holders: map[pool.For]map[uint16][]pool.Requester{pool.NodePorts: {}, pool.HostPorts: {}},
	}
	var err error
	if v.pools, err = c.pools(ctx); err != nil {
		return nil, err
	}
	var namespaces corev1.NamespaceList
	if err := c.cache.List(ctx, &namespaces, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing namespaces: %w", err)
	}
	for i := range namespaces.Items {
		v.namespaces[namespaces.Items[i].Name] = namespaces.Items[i].Labels
	}
	var claims v1alpha1.PortClaimList
	if err := c.cache.List(ctx, &claims, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing PortClaims: %w", err)
	}
	for i := range claims.Items {
		v.claims[uint16(claims.Items[i].Spec.Port)] = &claims.Items[i]
	}
	if len(v.pools.set.Members()) == 0 {
		return v, nil // nobody asks for the rest
	}
	for _, port := range c.options.Reserved {
		v.occupied[port] = true
	}
	if err := c.lookAtServices(ctx, v); err != nil {
		return nil, err
	}
	if err := c.lookAtPods(ctx, v); err != nil {
		return nil, err
	}
	slices.SortFunc(v.holdings, func(a, b holding) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name), strings.Compare(a.kind, b.kind), cmp.Compare(a.Port, b.Port))
	})
	return v, nil
}

func (c *Controller) lookAtServices(ctx context.Context, v *view) error {
	var services corev1.ServiceList
	if err := c.cache.List(ctx, &services, client.MatchingFields{byNumber: anyNumber}, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing Services: %w", err)
	}
	for i := range services.Items {
		svc := &services.Items[i]
		who := requesterOf(svc, v.namespaces[svc.Namespace])
		for _, n := range numbersOf(svc) {
			v.add(holding{pool.Holding{Requester: who, Port: n.number}, "Service", svc.UID, n.protocol})
		}
	}
	return nil
}

// lookAtPods records the hostPorts of pods. Other ports of theirs are only in the way: a pod on the host network has not
// asked for a hostPort.
func (c *Controller) lookAtPods(ctx context.Context, v *view) error {
	var pods corev1.PodList
	if err := c.cache.List(ctx, &pods, client.MatchingFields{byClaims: anyClaim}, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing Pods: %w", err)
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		who := pool.Requester{For: pool.HostPorts, Namespace: pod.Namespace, Name: pod.Name, NamespaceLabels: v.namespaces[pod.Namespace], Labels: pod.Labels}
		known := map[uint16]bool{}
		for _, claim := range extract.Pod(pod, nil, nil).Claims {
			if claim.Kind != ports.HostPort || known[claim.Port] {
				v.occupied[claim.Port] = v.occupied[claim.Port] || claim.Kind != ports.HostPort
				continue
			}
			known[claim.Port] = true
			v.add(holding{pool.Holding{Requester: who, Port: claim.Port}, "Pod", pod.UID, corev1.Protocol(claim.Protocol.String())})
		}
	}
	return nil
}

func (v *view) add(h holding) {
	v.holdings = append(v.holdings, h)
	of := v.holders[h.For]
	of[h.Port] = append(of[h.Port], h.Requester)
}

// book tells what the numbers of a pool are used for.
func (v *view) book(m *pool.Member) pool.Book {
	other := pool.HostPorts
	if m.For == pool.HostPorts {
		other = pool.NodePorts
	}
	return func(port uint16) pool.Use {
		if holders := v.holders[m.For][port]; len(holders) > 0 {
			if slices.ContainsFunc(holders, m.Selects) {
				return pool.Allocated
			}
			return pool.Foreign
		}
		claim := v.claims[port]
		switch {
		case m.For == pool.NodePorts && claim != nil && claim.Status.Phase == v1alpha1.ClaimReleased:
			return pool.Quarantined
		case m.For == pool.NodePorts && claim != nil && claim.Spec.Pool == m.Name:
			return pool.Allocated // its Service is being created
		case m.For == pool.NodePorts && claim != nil, len(v.holders[other][port]) > 0, v.occupied[port]:
			return pool.Foreign
		default:
			return pool.Free
		}
	}
}

// phases counts the claims.
func (v *view) phases() map[v1alpha1.ClaimPhase]int {
	phases := map[v1alpha1.ClaimPhase]int{}
	for _, claim := range v.claims {
		phases[cmp.Or(claim.Status.Phase, v1alpha1.ClaimRequested)]++
	}
	return phases
}

// outOfPool returns the numbers that those have whom a pool serves, and that are of no pool which they may use, by the
// pool's name.
func (v *view) outOfPool() map[string][]outside {
	byPool := map[string][]outside{}
	for _, h := range v.holdings {
		place := v.pools.set.Place(h.Requester, h.Port)
		if place.Standing == pool.InPool {
			continue
		}
		if m := v.gaveOnce(h); m != nil {
			byPool[m.Name] = append(byPool[m.Name], outside{h, v1alpha1.RangeShrunk})
		} else if m := v.gives(h, place); m != nil {
			byPool[m.Name] = append(byPool[m.Name], outside{h, v1alpha1.NotAllocated})
		}
	}
	return byPool
}

// outside is a number that is none of the pool that serves its holder.
type outside struct {
	holding
	reason v1alpha1.OutOfPoolReason
}

// gaveOnce returns the pool that once had a Service's number, if it still serves the Service.
func (v *view) gaveOnce(h holding) *pool.Member {
	claim := v.claims[h.Port]
	if h.For != pool.NodePorts || claim == nil || claim.Status.ServiceUID != string(h.uid) {
		return nil
	}
	m, ok := v.pools.set.Named(claim.Spec.Pool)
	if !ok || m.State == pool.Disabled || !m.Selects(h.Requester) {
		return nil
	}
	return m
}

// gives returns the pool that gives a holder numbers now.
func (v *view) gives(h holding, place pool.Place) *pool.Member {
	if place.Standing == pool.OutOfPool {
		return place.Pool
	}
	for _, m := range v.pools.set.Candidates(h.Requester) {
		if m.Mode == pool.Auto {
			return m
		}
	}
	return nil
}
