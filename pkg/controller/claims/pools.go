package claims

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
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// poolCache keeps the pools, as they were at some generation of each: they seldom change, and each import of a port needs them.
type poolCache struct {
	nodePortRange ports.Range

	mu          sync.Mutex
	generations map[types.UID]int64
	set         *pool.Set
}

// current returns the pools that reader has. Those that cannot be understood have no effect.
func (c *poolCache) current(ctx context.Context, reader client.Reader) (*pool.Set, error) {
	var list v1alpha1.PortPoolList
	if err := reader.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing PortPools: %w", err)
	}
	generations := map[types.UID]int64{}
	for i := range list.Items {
		generations[list.Items[i].UID] = list.Items[i].Generation
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.set != nil && maps.Equal(c.generations, generations) {
		return c.set, nil
	}
	var pools []pool.Pool
	for i := range list.Items {
		if p, err := extract.Pool(&list.Items[i]); err == nil {
			pools = append(pools, p)
		}
	}
	c.generations, c.set = generations, pool.New(pools, c.nodePortRange)
	return c.set, nil
}
