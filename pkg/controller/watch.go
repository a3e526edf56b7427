package controller

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
)

// The indexes of the cache.
const (
	byNumber  = "portcullis.nodePort" // of Services: each number, and anyNumber for those that have one
	anyNumber = "any"
	byClaims  = "portcullis.claims" // of pods: anyClaim for those that name a port of their node
	anyClaim  = "any"
)

func addIndexes(c cache.Cache) error {
	ctx := context.Background() // nothing is waited for
	err := c.IndexField(ctx, &corev1.Service{}, byNumber, func(o client.Object) []string {
		svc, ok := o.(*corev1.Service)
		if !ok {
			return nil
		}
		var keys []string
		for _, n := range portsOf(svc) {
			keys = append(keys, strconv.Itoa(int(n)))
		}
		if len(keys) > 0 {
			keys = append(keys, anyNumber)
		}
		return keys
	})
	if err != nil {
		return fmt.Errorf("indexing Services: %w", err)
	}
	err = c.IndexField(ctx, &corev1.Pod{}, byClaims, func(o client.Object) []string {
		if pod, ok := o.(*corev1.Pod); ok && extract.MayClaim(pod) {
			return []string{anyClaim}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("indexing Pods: %w", err)
	}
	return nil
}

// handlers says what is looked at when an object of a kind changes.
func (c *Controller) handlers() map[client.Object]toolscache.ResourceEventHandler {
	return map[client.Object]toolscache.ResourceEventHandler{
		&v1alpha1.PortClaim{}:  handler(c.claimChanged),
		&corev1.Service{}:      handler(c.serviceChanged),
		&v1alpha1.PortPool{}:   handler(c.poolChanged),
		&corev1.Namespace{}:    handler(c.namespaceChanged),
		&corev1.Pod{}:          handler(c.podChanged),
		&v1alpha1.PortPolicy{}: handler(c.policyChanged),
	}
}

// handler calls changed with an object before and after an event; one of them is nil if it came or went.
func handler[T any](changed func(before, after *T)) toolscache.ResourceEventHandler {
	of := func(object any) *T {
		if tombstone, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
			object = tombstone.Obj
		}
		x, _ := object.(*T)
		return x
	}
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { changed(nil, of(object)) },
		UpdateFunc: func(old, object any) { changed(of(old), of(object)) },
		DeleteFunc: func(object any) { changed(of(object), nil) },
	}
}

func (c *Controller) claimChanged(before, after *v1alpha1.PortClaim) {
	for _, claim := range []*v1alpha1.PortClaim{before, after} {
		if claim != nil {
			c.touch(uint16(claim.Spec.Port))
		}
	}
	c.touchStatus()
}

func (c *Controller) serviceChanged(before, after *corev1.Service) {
	var had, has []uint16
	if before != nil {
		had = portsOf(before)
	}
	if after != nil {
		has = portsOf(after)
	}
	if before != nil && after != nil && before.UID == after.UID && slices.Equal(had, has) && maps.Equal(before.Labels, after.Labels) {
		return
	}
	if len(had)+len(has) == 0 {
		return
	}
	c.touch(had...)
	c.touch(has...)
	c.touchStatus()
}

// poolChanged is also told of what the controller itself wrote: that changes no generation.
func (c *Controller) poolChanged(before, after *v1alpha1.PortPool) {
	c.touchStatus() // somebody else may have written it
	if before == nil || after == nil || before.UID != after.UID || before.Generation != after.Generation {
		signal(c.resync)
	}
}

// namespaceChanged imports what pools select now. A claim stays a claim when they no longer do.
func (c *Controller) namespaceChanged(before, after *corev1.Namespace) {
	if before != nil && after != nil && maps.Equal(before.Labels, after.Labels) {
		return
	}
	c.touchStatus()
	if after == nil || c.queue.Load() == nil {
		return
	}
	if err := c.touchServices(context.Background(), client.InNamespace(after.Name)); err != nil {
		logf.Log.Error(err, "A namespace's numbers wait for the next round", "namespace", after.Name)
		signal(c.resync)
	}
}

func (c *Controller) podChanged(before, after *corev1.Pod) {
	if before != nil && extract.MayClaim(before) || after != nil && extract.MayClaim(after) {
		c.touchStatus()
	}
}

func (c *Controller) policyChanged(_, _ *v1alpha1.PortPolicy) { c.touchStatus() }
