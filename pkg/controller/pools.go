package controller

import (
	"context"
	"fmt"
	"maps"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
)

// poolSet is all pools, as they were at some generation of each.
type poolSet struct {
	generations map[types.UID]int64
	set         *pool.Set
	invalid     map[string]error // what is wrong with pools that the API server took before it had the rule
}

// knownPools keeps the last poolSet: pools change seldom, and every number that is imported asks for them.
type knownPools struct {
	sync.Mutex
	last *poolSet
}

// pools returns all pools as they are now.
func (c *Controller) pools(ctx context.Context) (*poolSet, error) {
	var list v1alpha1.PortPoolList
	if err := c.cache.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing PortPools: %w", err)
	}
	generations := map[types.UID]int64{}
	for i := range list.Items {
		generations[list.Items[i].UID] = list.Items[i].Generation
	}
	c.known.Lock()
	defer c.known.Unlock()
	if c.known.last != nil && maps.Equal(c.known.last.generations, generations) {
		return c.known.last, nil
	}
	p := &poolSet{generations: generations, invalid: map[string]error{}}
	var values []pool.Pool
	for i := range list.Items {
		value, err := extract.Pool(&list.Items[i])
		if err != nil {
			p.invalid[list.Items[i].Name] = err
			continue
		}
		values = append(values, value)
	}
	p.set = pool.New(values, c.options.NodePortRange)
	c.known.last = p
	return p, nil
}
