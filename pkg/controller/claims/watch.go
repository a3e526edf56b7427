package claims

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/controller/internal/informers"
)

// nodePortIndex is an index of the cache, of Services: each of their node ports, and anyNodePort if they have one.
const (
	nodePortIndex = "portcullis.nodePort"
	anyNodePort   = "any"
)

// nodePortKeys is the function of nodePortIndex.
func nodePortKeys(object client.Object) []string {
	svc, ok := object.(*corev1.Service)
	if !ok {
		return nil
	}
	var keys []string
	for _, port := range nodePorts(svc) {
		keys = append(keys, strconv.Itoa(int(port)))
	}
	if len(keys) > 0 {
		keys = append(keys, anyNodePort)
	}
	return keys
}

// handlers enqueue the ports that an event may concern.
func (c *Controller) handlers() informers.Handlers {
	return informers.Handlers{
		&v1alpha1.PortClaim{}: informers.Changed(c.claimChanged),
		&corev1.Service{}:     informers.Changed(c.serviceChanged),
		&v1alpha1.PortPool{}:  informers.Changed(c.poolChanged),
		&corev1.Namespace{}:   informers.Changed(c.namespaceChanged),
	}
}

func (c *Controller) claimChanged(before, after *v1alpha1.PortClaim) {
	for _, claim := range []*v1alpha1.PortClaim{before, after} {
		if claim != nil {
			c.enqueue(uint16(claim.Spec.Port))
		}
	}
}

func (c *Controller) serviceChanged(before, after *corev1.Service) {
	var had, has []uint16
	if before != nil {
		had = nodePorts(before)
	}
	if after != nil {
		has = nodePorts(after)
	}
	if before != nil && after != nil && before.UID == after.UID && slices.Equal(had, has) && maps.Equal(before.Labels, after.Labels) {
		return
	}
	c.enqueue(had...)
	c.enqueue(has...)
}

// poolChanged ignores status, which changes no generation.
func (c *Controller) poolChanged(before, after *v1alpha1.PortPool) {
	if before == nil || after == nil || before.UID != after.UID || before.Generation != after.Generation {
		c.resync.Fire()
	}
}

// namespaceChanged enqueues what pools may select now. A claim stays when they no longer do.
func (c *Controller) namespaceChanged(before, after *corev1.Namespace) {
	if before != nil && after != nil && maps.Equal(before.Labels, after.Labels) {
		return
	}
	if after == nil || c.queue.Load() == nil {
		return
	}
	if err := c.enqueueServices(context.Background(), client.InNamespace(after.Name)); err != nil {
		logf.Log.Error(err, "Listing the Services of a namespace failed, resyncing all", "namespace", after.Name)
		c.resync.Fire()
	}
}

// enqueue has ports reconciled, if this replica leads.
func (c *Controller) enqueue(ports ...uint16) {
	if q := c.queue.Load(); q != nil {
		for _, port := range ports {
			(*q).Add(port)
		}
	}
}

// enqueueAll enqueues every port that a Service has or a claim is for.
func (c *Controller) enqueueAll(ctx context.Context) error {
	if err := c.enqueueServices(ctx); err != nil {
		return err
	}
	var claims v1alpha1.PortClaimList
	if err := c.cache.List(ctx, &claims, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing PortClaims: %w", err)
	}
	for i := range claims.Items {
		c.enqueue(uint16(claims.Items[i].Spec.Port))
	}
	return nil
}

// enqueueServices enqueues every port that Services have.
func (c *Controller) enqueueServices(ctx context.Context, options ...client.ListOption) error {
	var services corev1.ServiceList
	if err := c.cache.List(ctx, &services, append(options, client.MatchingFields{nodePortIndex: anyNodePort}, client.UnsafeDisableDeepCopy)...); err != nil {
		return fmt.Errorf("listing Services: %w", err)
	}
	for i := range services.Items {
		c.enqueue(nodePorts(&services.Items[i])...)
	}
	return nil
}
