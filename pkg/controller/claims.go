package controller

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

// settle brings the claim of a number in step with the Services, and says when to look again; 0: when something changes.
func (c *Controller) settle(ctx context.Context, number uint16) (again time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	holders, err := c.holders(ctx, number)
	if err != nil {
		return 0, err
	}
	var claim v1alpha1.PortClaim
	err = c.cache.Get(ctx, client.ObjectKey{Name: v1alpha1.ClaimName(int32(number))}, &claim)
	switch {
	case apierrors.IsNotFound(err):
		c.requests.forget(number)
		again, err = c.adopt(ctx, number, holders)
	case err == nil:
		again, err = c.follow(ctx, &claim, holders)
	}
	return again, err
}

// written says when to look again after a claim was written. If somebody else has written it since it was seen, that is soon.
func written(again time.Duration, err error) (time.Duration, error) {
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) {
		return time.Second, nil
	}
	return again, err
}

// holders returns the Services that hold a number, as far as they have been seen.
func (c *Controller) holders(ctx context.Context, number uint16) ([]corev1.Service, error) {
	var services corev1.ServiceList
	if err := c.cache.List(ctx, &services, client.MatchingFields{byNumber: strconv.Itoa(int(number))}); err != nil {
		return nil, fmt.Errorf("looking for the holders of %d: %w", number, err)
	}
	return services.Items, nil
}

// follow does what is to be done with a claim. What was seen of the Services may be old: it is only a reason to ask.
func (c *Controller) follow(ctx context.Context, claim *v1alpha1.PortClaim, holders []corev1.Service) (time.Duration, error) {
	delay, err := c.reuseDelay(ctx, claim.Spec.Pool)
	if err != nil {
		return 0, err
	}
	expires := c.requests.since(claim, c.options.Now()).Add(c.options.Lifetime)
	d := decide(claim, seen(claim, holders), c.options.Now(), expires, delay)
	if d.step == keep {
		return d.again, nil
	}
	f, err := c.ask(ctx, claim, holders)
	if err != nil {
		return 0, err
	}
	d = decide(claim, f, c.options.Now(), expires, delay)
	switch d.step {
	case bind:
		err = c.bind(ctx, claim, f.own, d)
	case release:
		err = c.release(ctx, claim, d)
	case free:
		err = c.free(ctx, claim)
	case note:
		err = c.note(ctx, claim, d)
	case keep:
	}
	return written(d.again, err)
}

// seen returns the facts as far as they have been seen.
func seen(claim *v1alpha1.PortClaim, holders []corev1.Service) facts {
	var f facts
	for i := range holders {
		if mayBeFor(claim, &holders[i]) {
			f.own, f.holds = &holders[i], true
		} else {
			f.other = &holders[i]
		}
	}
	return f
}

// ask returns the facts as they are stored.
func (c *Controller) ask(ctx context.Context, claim *v1alpha1.PortClaim, holders []corev1.Service) (facts, error) {
	number := uint16(claim.Spec.Port)
	own, err := c.ownOf(ctx, claim)
	if err != nil {
		return facts{}, err
	}
	f := facts{own: own, holds: own != nil && holds(own, number)}
	for i := range holders {
		if mayBeFor(claim, &holders[i]) {
			continue
		}
		other, err := c.service(ctx, client.ObjectKeyFromObject(&holders[i]))
		if err != nil {
			return facts{}, err
		}
		if other != nil && holds(other, number) {
			f.other = other
		}
	}
	return f, nil
}

// ownOf returns the Service that a claim is for, nil if it does not exist. Of those that are named by a pattern it is the
// one that has the number.
func (c *Controller) ownOf(ctx context.Context, claim *v1alpha1.PortClaim) (*corev1.Service, error) {
	of := claim.Spec.Service
	if of.Name != "" {
		return c.service(ctx, client.ObjectKey{Namespace: of.Namespace, Name: of.Name})
	}
	var services corev1.ServiceList
	if err := c.live.List(ctx, &services, client.InNamespace(of.Namespace)); err != nil {
		return nil, fmt.Errorf("looking for Services %s: %w", claimant(claim), err)
	}
	for i := range services.Items {
		if svc := &services.Items[i]; mayBeFor(claim, svc) && holds(svc, uint16(claim.Spec.Port)) {
			return svc, nil
		}
	}
	return nil, nil
}

// service reads a Service from the API server, nil if that says that it does not exist.
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

// isAbsent reports whether an error is the API server's word that an object does not exist. Whatever stands between it
// and us may answer 404, too: such an answer is no Status, which client-go notes as a cause.
func isAbsent(err error, name string) bool {
	status, ok := errors.AsType[*apierrors.StatusError](err)
	if !ok || !apierrors.IsNotFound(err) {
		return false
	}
	details := status.ErrStatus.Details
	return details != nil && details.Name == name && len(details.Causes) == 0
}

// reuseDelay returns how long a pool's released numbers wait; those of a pool that is gone do not.
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

// bind says that a Service has a claim's number.
func (c *Controller) bind(ctx context.Context, claim *v1alpha1.PortClaim, svc *corev1.Service, d decision) error {
	isNew := !isBoundTo(claim, svc)
	if claim.Spec.Service.Name == "" {
		if err := c.fillIn(ctx, claim, svc.Name); err != nil {
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

// fillIn gives a claim the name that its Service was given, and makes claim what is stored then.
func (c *Controller) fillIn(ctx context.Context, claim *v1alpha1.PortClaim, name string) error {
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

// release says that a claim's Service is gone or has given the number up. The number is not free yet.
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

func (c *Controller) note(ctx context.Context, claim *v1alpha1.PortClaim, d decision) error {
	claim.Status.Phase = v1alpha1.ClaimRequested
	return c.writeStatus(ctx, claim, d)
}

// writeStatus fails if the claim has changed since it was seen.
func (c *Controller) writeStatus(ctx context.Context, claim *v1alpha1.PortClaim, d decision) error {
	meta.SetStatusCondition(&claim.Status.Conditions, d.condition(claim))
	if err := c.writer.Status().Update(ctx, claim, fieldOwner); err != nil {
		return fmt.Errorf("writing the status of %s: %w", claim.Name, err)
	}
	return nil
}

// free deletes a claim, unless it has changed since it was seen: then somebody has asked for the number again.
func (c *Controller) free(ctx context.Context, claim *v1alpha1.PortClaim) error {
	err := c.writer.Delete(ctx, claim, client.Preconditions{UID: &claim.UID, ResourceVersion: &claim.ResourceVersion})
	if err != nil {
		return fmt.Errorf("deleting %s: %w", claim.Name, err)
	}
	c.options.Metrics.transition("deleted")
	return nil
}

// adopt claims a number for a Service that has it from a pool without a claim: it is older than the pool, or was admitted
// while no replica was there. That is safe without a look at what is stored: the claim of a Service that is gone is released.
func (c *Controller) adopt(ctx context.Context, number uint16, holders []corev1.Service) (time.Duration, error) {
	if len(holders) == 0 {
		return 0, nil
	}
	pools, err := c.pools(ctx)
	if err != nil {
		return 0, err
	}
	for i := range holders {
		svc := &holders[i]
		who, known, err := c.requester(ctx, svc)
		if err != nil {
			return 0, err
		}
		if place := pools.set.Place(who, number); known && place.Standing == pool.InPool {
			return written(0, c.claimFor(ctx, svc, number, place.Pool.Name))
		}
	}
	return 0, nil
}

// claimFor makes the claim of a number that a Service has, and binds it.
func (c *Controller) claimFor(ctx context.Context, svc *corev1.Service, number uint16, poolName string) error {
	claim := newClaim(svc, number, poolName, c.options.Now())
	if err := c.writer.Create(ctx, claim, fieldOwner); err != nil {
		return fmt.Errorf("claiming %d for Service %s: %w", number, nameOf(svc), err)
	}
	c.options.Metrics.transition("imported")
	return c.bind(ctx, claim, svc, decide(claim, facts{own: svc, holds: true}, c.options.Now(), time.Time{}, 0))
}

func newClaim(svc *corev1.Service, number uint16, poolName string, now time.Time) *v1alpha1.PortClaim {
	claim := &v1alpha1.PortClaim{
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ClaimName(int32(number))},
		Spec: v1alpha1.PortClaimSpec{
			Port: int32(number), Pool: poolName, RequestedAt: metav1.NewTime(now),
			Service: v1alpha1.ClaimingService{Namespace: svc.Namespace, Name: svc.Name},
		},
	}
	for _, n := range extract.Numbers(svc) {
		if n.Port == number {
			claim.Spec.PortName = n.Name
		}
	}
	return claim
}

// requester is a Service as pools see it. It reports false if its namespace has not been seen yet.
func (c *Controller) requester(ctx context.Context, svc *corev1.Service) (pool.Requester, bool, error) {
	var ns corev1.Namespace
	err := c.cache.Get(ctx, client.ObjectKey{Name: svc.Namespace}, &ns)
	if apierrors.IsNotFound(err) {
		return pool.Requester{}, false, nil // its coming has the number looked at again
	}
	if err != nil {
		return pool.Requester{}, false, fmt.Errorf("reading namespace %s: %w", svc.Namespace, err)
	}
	return extract.Requester(pool.NodePorts, svc, ns.Labels), true, nil
}
