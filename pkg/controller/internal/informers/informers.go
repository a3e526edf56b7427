// Package informers connects a controller to the informers of a cache. Changed makes an event handler of a function that
// compares an object before and after, and Sync registers the handlers of a controller, kind by kind, and waits until each
// has received every object that exists: from then on the controller may act on what the cache shows.
//
//	informer -> Changed: func(before, after) -> the controller's queue
package informers

import (
	"context"
	"fmt"

	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Handlers are event handlers by kind.
type Handlers map[client.Object]toolscache.ResourceEventHandler

// Changed returns a handler that calls changed with an object before and after an event; before is nil when the object was
// added, after when it was deleted.
func Changed[T any](changed func(before, after *T)) toolscache.ResourceEventHandler {
	typed := func(object any) *T {
		if tombstone, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
			object = tombstone.Obj
		}
		x, _ := object.(*T)
		return x
	}
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { changed(nil, typed(object)) },
		UpdateFunc: func(old, object any) { changed(typed(old), typed(object)) },
		DeleteFunc: func(object any) { changed(typed(object), nil) },
	}
}

// Sync adds the handlers to the informers of their kinds, and returns when all have received what exists, or when ctx ends.
func Sync(ctx context.Context, c cache.Cache, handlers Handlers) error {
	var synced []toolscache.InformerSynced
	for object, handler := range handlers {
		informer, err := c.GetInformer(ctx, object, cache.BlockUntilSynced(false))
		if err != nil {
			return fmt.Errorf("watching %T: %w", object, err)
		}
		registration, err := informer.AddEventHandler(handler)
		if err != nil {
			return fmt.Errorf("watching %T: %w", object, err)
		}
		synced = append(synced, registration.HasSynced)
	}
	toolscache.WaitForCacheSync(ctx.Done(), synced...)
	return nil
}
