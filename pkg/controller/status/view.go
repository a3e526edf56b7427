package status

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
	pools       *pool.Set
	generations map[types.UID]int64          // of the pools
	invalid     map[string]error             // by name: what is wrong with pools that the API server accepted before it had the rule
	namespaces  map[string]map[string]string // their labels
	census      pool.Census
	phases      map[v1alpha1.ClaimPhase]int // how many claims are in each
}

// look returns what the cache has now. Nothing of it may be modified.
func (c *Controller) look(ctx context.Context) (*view, error) {
	v := &view{namespaces: map[string]map[string]string{}, phases: map[v1alpha1.ClaimPhase]int{}}
	var pools v1alpha1.PortPoolList
	if err := c.cache.List(ctx, &pools, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing PortPools: %w", err)
	}
	v.setPools(pools.Items, c.options.NodePortRange)
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
		extract.Count(&v.census, &claims.Items[i], nil)
		v.phases[extract.Phase(&claims.Items[i])]++
	}
	if len(v.pools.Members()) == 0 {
		return v, nil // no status needs the rest
	}
	for _, port := range c.options.Reserved {
		v.census.Occupy(port)
	}
	var services corev1.ServiceList
	if err := c.cache.List(ctx, &services, client.MatchingFields{claimsIndex: hasClaims}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing Services: %w", err)
	}
	for i := range services.Items {
		v.count(&services.Items[i])
	}
	var pods corev1.PodList
	if err := c.cache.List(ctx, &pods, client.MatchingFields{claimsIndex: hasClaims}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing Pods: %w", err)
	}
	for i := range pods.Items {
		v.count(&pods.Items[i])
	}
	return v, nil
}

func (v *view) setPools(objects []v1alpha1.PortPool, nodePortRange ports.Range) {
	v.generations, v.invalid = map[types.UID]int64{}, map[string]error{}
	var pools []pool.Pool
	for i := range objects {
		v.generations[objects[i].UID] = objects[i].Generation
		p, err := extract.Pool(&objects[i])
		if err != nil {
			v.invalid[objects[i].Name] = err
			continue
		}
		pools = append(pools, p)
	}
	v.pools = pool.New(pools, nodePortRange)
}

// count adds the ports of a Service, a pod or a claim.
func (v *view) count(object client.Object) {
	extract.Count(&v.census, object, func(namespace string) map[string]string { return v.namespaces[namespace] })
}

// outOfPool returns the ports outside of each pool, sorted by namespace, name, kind and port.
func (v *view) outOfPool() map[string][]pool.Outside {
	byPool := v.census.OutOfPool(v.pools)
	for _, out := range byPool {
		slices.SortFunc(out, func(a, b pool.Outside) int {
			return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name), strings.Compare(a.Ref().Kind, b.Ref().Kind), cmp.Compare(a.Port, b.Port))
		})
	}
	return byPool
}
