package claims

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
)

// reconcile brings the claim of a port in line with the Services. It is due again after requeueAfter; 0: at the next event.
func (c *Controller) reconcile(ctx context.Context, port uint16) (requeueAfter time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, reconcileTime)
	defer cancel()
	holders, err := c.holders(ctx, port)
	if err != nil {
		return 0, err
	}
	var claim v1alpha1.PortClaim
	err = c.cache.Get(ctx, client.ObjectKey{Name: v1alpha1.ClaimName(int32(port))}, &claim)
	switch {
	case apierrors.IsNotFound(err):
		c.requests.forget(port)
		requeueAfter, err = c.importPort(ctx, port, holders)
	case err == nil:
		requeueAfter, err = c.reconcileClaim(ctx, &claim, holders)
	}
	return requeueAfter, err
}

// written is the result of a write: a claim that somebody else has written since it was read is reconciled again soon.
func written(requeueAfter time.Duration, err error) (time.Duration, error) {
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) {
		return time.Second, nil
	}
	return requeueAfter, err
}

// holders returns the Services that have a port, from the cache.
func (c *Controller) holders(ctx context.Context, port uint16) ([]corev1.Service, error) {
	var services corev1.ServiceList
	if err := c.cache.List(ctx, &services, client.MatchingFields{nodePortIndex: strconv.Itoa(int(port))}); err != nil {
		return nil, fmt.Errorf("looking for the holders of %d: %w", port, err)
	}
	return services.Items, nil
}

// reconcileClaim takes the next step of a claim. The Services in the cache may be outdated, so they are only a reason to read.
func (c *Controller) reconcileClaim(ctx context.Context, claim *v1alpha1.PortClaim, holders []corev1.Service) (time.Duration, error) {
	delay, err := c.reuseDelay(ctx, claim.Spec.Pool)
	if err != nil {
		return 0, err
	}
	expires := c.requests.since(claim, c.options.Now()).Add(c.options.RequestLifetime)
	d := decide(claim, cachedFacts(claim, holders), c.options.Now(), expires, delay)
	if d.step == keep {
		return d.requeueAfter, nil
	}
	f, err := c.readFacts(ctx, claim, holders)
	if err != nil {
		return 0, err
	}
	d = decide(claim, f, c.options.Now(), expires, delay)
	switch d.step {
	case bind:
		err = c.bind(ctx, claim, f.own, d)
	case release:
		err = c.release(ctx, claim, d)
	case remove:
		err = c.remove(ctx, claim)
	case explain:
		err = c.explain(ctx, claim, d)
	case keep:
	}
	return written(d.requeueAfter, err)
}

// cachedFacts returns the facts by the cache.
func cachedFacts(claim *v1alpha1.PortClaim, holders []corev1.Service) facts {
	var f facts
	for i := range holders {
		if isFor(claim, &holders[i]) {
			f.own, f.holds = &holders[i], true
		} else {
			f.other = &holders[i]
		}
	}
	return f
}

// readFacts returns the facts by the API server.
func (c *Controller) readFacts(ctx context.Context, claim *v1alpha1.PortClaim, holders []corev1.Service) (facts, error) {
	port := uint16(claim.Spec.Port)
	own, err := c.ownService(ctx, claim)
	if err != nil {
		return facts{}, err
	}
	f := facts{own: own, holds: own != nil && hasPort(own, port)}
	for i := range holders {
		if isFor(claim, &holders[i]) {
			continue
		}
		other, err := c.service(ctx, client.ObjectKeyFromObject(&holders[i]))
		if err != nil {
			return facts{}, err
		}
		if other != nil && hasPort(other, port) {
			f.other = other
		}
	}
	return f, nil
}

// ownService returns the Service that a claim is for, nil if it does not exist. Of those with the claim's generateName it is
// the one that has the port.
func (c *Controller) ownService(ctx context.Context, claim *v1alpha1.PortClaim) (*corev1.Service, error) {
	of := claim.Spec.Service
	if of.Name != "" {
		return c.service(ctx, client.ObjectKey{Namespace: of.Namespace, Name: of.Name})
	}
	var services corev1.ServiceList
	if err := c.live.List(ctx, &services, client.InNamespace(of.Namespace)); err != nil {
		return nil, fmt.Errorf("looking for Services %s: %w", claimant(claim), err)
	}
	for i := range services.Items {
		if svc := &services.Items[i]; isFor(claim, svc) && hasPort(svc, uint16(claim.Spec.Port)) {
			return svc, nil
		}
	}
	return nil, nil
}

// service reads a Service from the API server; nil if it does not exist.
func (c *Controller) service(ctx context.Context, key client.ObjectKey) (*corev1.Service, error) {
	var svc corev1.Service
	err := c.live.Get(ctx, key, &svc)
	if isAbsent(err, key.Name) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading Service %s: %w", key, err)
	}
	return &svc, nil
}

// isAbsent reports whether an error is the API server's answer that an object does not exist. A proxy in between may answer
// 404, too: its answer is no Status, which client-go records as a cause.
func isAbsent(err error, name string) bool {
	status, ok := errors.AsType[*apierrors.StatusError](err)
	if !ok || !apierrors.IsNotFound(err) {
		return false
	}
	details := status.ErrStatus.Details
	return details != nil && details.Name == name && len(details.Causes) == 0
}

// reuseDelay returns how long the released ports of a pool wait; those of a pool that is gone do not.
func (c *Controller) reuseDelay(ctx context.Context, name string) (time.Duration, error) {
	var p v1alpha1.PortPool
	err := c.cache.Get(ctx, client.ObjectKey{Name: name}, &p)
	if apierrors.IsNotFound(err) {
		err = c.live.Get(ctx, client.ObjectKey{Name: name}, &p)
		if isAbsent(err, name) {
			return 0, nil
		}
	}
	if err != nil {
		return 0, fmt.Errorf("reading PortPool %s: %w", name, err)
	}
	p.Default()
	return p.Spec.Allocation.ReuseDelay.Duration, nil
}

// bind records that a Service has a claim's port.
func (c *Controller) bind(ctx context.Context, claim *v1alpha1.PortClaim, svc *corev1.Service, d decision) error {
	isNew := !isBoundTo(claim, svc)
	if claim.Spec.Service.Name == "" {
		if err := c.setServiceName(ctx, claim, svc.Name); err != nil {
			return err
		}
	}
	claim.Status.Phase, claim.Status.ServiceUID, claim.Status.ReleasedAt = v1alpha1.ClaimBound, string(svc.UID), nil
	if err := c.writeStatus(ctx, claim, d); err != nil {
		return err
	}
	if isNew {
		c.options.Metrics.transition("bound")
	}
	return nil
}

// setServiceName completes a claim that has only the generateName of its Service, and updates claim to what is stored.
func (c *Controller) setServiceName(ctx context.Context, claim *v1alpha1.PortClaim, name string) error {
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": claim.UID, "resourceVersion": claim.ResourceVersion},
		"spec":     map[string]any{"service": map[string]any{"name": name}},
	})
	if err != nil {
		return err
	}
	if err := c.writer.Patch(ctx, claim, client.RawPatch(types.MergePatchType, patch), fieldOwner); err != nil {
		return fmt.Errorf("naming the Service of %s: %w", claim.Name, err)
	}
	return nil
}

// release records that a claim's Service is gone or has given the port up. The port is not free yet.
func (c *Controller) release(ctx context.Context, claim *v1alpha1.PortClaim, d decision) error {
	claim.Status.Phase = v1alpha1.ClaimReleased
	claim.Status.ReleasedAt = new(metav1.NewTime(c.options.Now()))
	if err := c.writeStatus(ctx, claim, d); err != nil {
		return err
	}
	c.options.Metrics.transition("released")
	var p v1alpha1.PortPool
	if err := c.cache.Get(ctx, client.ObjectKey{Name: claim.Spec.Pool}, &p); err == nil {
		c.events.Eventf(&p, nil, corev1.EventTypeNormal, "ClaimReleased", "Release", "%s: %s", claim.Name, d.message)
	}
	return nil
}

// explain records why a claim is not bound.
func (c *Controller) explain(ctx context.Context, claim *v1alpha1.PortClaim, d decision) error {
	claim.Status.Phase = v1alpha1.ClaimRequested
	return c.writeStatus(ctx, claim, d)
}

// writeStatus fails if the claim has changed since it was read.
func (c *Controller) writeStatus(ctx context.Context, claim *v1alpha1.PortClaim, d decision) error {
	meta.SetStatusCondition(&claim.Status.Conditions, d.condition(claim))
	if err := c.writer.Status().Update(ctx, claim, fieldOwner); err != nil {
		return fmt.Errorf("writing the status of %s: %w", claim.Name, err)
	}
	return nil
}

// remove deletes a claim, unless it has changed since it was read: then somebody has requested the port again.
func (c *Controller) remove(ctx context.Context, claim *v1alpha1.PortClaim) error {
	err := c.writer.Delete(ctx, claim, client.Preconditions{UID: &claim.UID, ResourceVersion: &claim.ResourceVersion})
	if err != nil {
		return fmt.Errorf("deleting %s: %w", claim.Name, err)
	}
	c.options.Metrics.transition("deleted")
	return nil
}

// importPort creates the claim of a Service that has a port of a pool without one: the Service is older than the pool, or was
// admitted while no replica was ready. No read from the API server is needed: the claim of a Service that is gone is released.
func (c *Controller) importPort(ctx context.Context, port uint16, holders []corev1.Service) (time.Duration, error) {
	if len(holders) == 0 {
		return 0, nil
	}
	pools, err := c.pools.current(ctx, c.cache)
	if err != nil {
		return 0, err
	}
	for i := range holders {
		svc := &holders[i]
		who, known, err := c.requester(ctx, svc)
		if err != nil {
			return 0, err
		}
		if place := pools.Place(who, port); known && place.Standing == pool.InPool {
			return written(0, c.createClaim(ctx, svc, port, place.Pool.Name))
		}
	}
	return 0, nil
}

// createClaim creates the claim of a port that a Service has, and binds it.
func (c *Controller) createClaim(ctx context.Context, svc *corev1.Service, port uint16, poolName string) error {
	claim := newClaim(svc, port, poolName, c.options.Now())
	if err := c.writer.Create(ctx, claim, fieldOwner); err != nil {
		return fmt.Errorf("claiming %d for Service %s: %w", port, nameOf(svc), err)
	}
	c.options.Metrics.transition("imported")
	return c.bind(ctx, claim, svc, decide(claim, facts{own: svc, holds: true}, c.options.Now(), time.Time{}, 0))
}

func newClaim(svc *corev1.Service, port uint16, poolName string, now time.Time) *v1alpha1.PortClaim {
	claim := &v1alpha1.PortClaim{
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ClaimName(int32(port))},
		Spec: v1alpha1.PortClaimSpec{
			Port: int32(port), Pool: poolName, RequestedAt: metav1.NewTime(now),
			Service: v1alpha1.ClaimingService{Namespace: svc.Namespace, Name: svc.Name},
		},
	}
	for _, n := range extract.Numbers(svc) {
		if n.Port == port {
			claim.Spec.PortName = n.Name
		}
	}
	return claim
}

// requester is a Service as pools see it; false if its namespace is not in the cache yet.
func (c *Controller) requester(ctx context.Context, svc *corev1.Service) (pool.Requester, bool, error) {
	var ns corev1.Namespace
	err := c.cache.Get(ctx, client.ObjectKey{Name: svc.Namespace}, &ns)
	if apierrors.IsNotFound(err) {
		return pool.Requester{}, false, nil // the event of the namespace enqueues the port
	}
	if err != nil {
		return pool.Requester{}, false, fmt.Errorf("reading namespace %s: %w", svc.Namespace, err)
	}
	return extract.Requester(pool.NodePorts, svc, ns.Labels), true, nil
}
