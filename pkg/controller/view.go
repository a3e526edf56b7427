package controller

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
)

// view is what the status of all pools is made from.
type view struct {
	pools      *poolSet
	namespaces map[string]map[string]string // their labels
	census     pool.Census
	phases     map[v1alpha1.ClaimPhase]int // how many claims are in each
}

// look returns what there is now, as far as it has been seen. Nothing of it may be written to.
func (c *Controller) look(ctx context.Context) (*view, error) {
	v := &view{namespaces: map[string]map[string]string{}, phases: map[v1alpha1.ClaimPhase]int{}}
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
		extract.Count(&v.census, &claims.Items[i], nil)
		v.phases[extract.Phase(&claims.Items[i])]++
	}
	if len(v.pools.set.Members()) == 0 {
		return v, nil // nobody asks for the rest
	}
	for _, port := range c.options.Reserved {
		v.census.Occupy(port)
	}
	var services corev1.ServiceList
	if err := c.cache.List(ctx, &services, client.MatchingFields{byNumber: anyNumber}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing Services: %w", err)
	}
	for i := range services.Items {
		v.count(&services.Items[i])
	}
	var pods corev1.PodList
	if err := c.cache.List(ctx, &pods, client.MatchingFields{byClaims: anyClaim}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing Pods: %w", err)
	}
	for i := range pods.Items {
		v.count(&pods.Items[i])
	}
	return v, nil
}

func (v *view) count(object client.Object) {
	extract.Count(&v.census, object, func(namespace string) map[string]string { return v.namespaces[namespace] })
}

// outOfPool returns the numbers outside of each pool, sorted by namespace, name, kind and number.
func (v *view) outOfPool() map[string][]pool.Outside {
	byPool := v.census.OutOfPool(v.pools.set)
	for _, out := range byPool {
		slices.SortFunc(out, func(a, b pool.Outside) int {
			return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name), strings.Compare(a.Ref().Kind, b.Ref().Kind), cmp.Compare(a.Port, b.Port))
		})
	}
	return byPool
}
