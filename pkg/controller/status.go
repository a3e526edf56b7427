package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
)

// reportUntil writes status when something has changed, until ctx ends. It is made anew for all pools together, and not
// more often than Options.StatusEvery: a busy pool must not be what etcd is busy with.
func (c *Controller) reportUntil(ctx context.Context) {
	for failed := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-c.changed:
		}
		err := c.report(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if failed++; failed == 3 {
				logf.FromContext(ctx).Error(err, "status cannot be written, trying on")
			}
			c.touchStatus()
		default:
			failed = 0
		}
		if !sleep(ctx, c.options.StatusEvery) {
			return
		}
	}
}

// report writes the status of every pool and policy whose status has changed.
func (c *Controller) report(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, reportTime)
	defer cancel()
	v, err := c.look(ctx)
	if err != nil {
		return err
	}
	return errors.Join(c.reportPools(ctx, v), c.reportPolicies(ctx, v))
}

func (c *Controller) reportPools(ctx context.Context, v *view) error {
	var list v1alpha1.PortPoolList
	if err := c.cache.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing PortPools: %w", err)
	}
	out, usage := v.outOfPool(), map[string]pool.Usage{}
	var failed []error
	for i := range list.Items {
		before := &list.Items[i]
		if v.pools.generations[before.UID] != before.Generation {
			c.touchStatus() // it has changed since v was made
			continue
		}
		status, u := v.poolStatus(before, out[before.Name])
		if u != nil {
			usage[before.Name] = *u
		}
		if equality.Semantic.DeepEqual(before.Status, status) {
			continue
		}
		after := before.DeepCopy()
		after.Status = status
		written, err := c.writeReport(ctx, after)
		if err != nil {
			failed = append(failed, fmt.Errorf("the status of PortPool %s: %w", before.Name, err))
		}
		if written {
			c.tell(before, after, out[before.Name])
		}
	}
	c.options.Metrics.set(usage, v.phases)
	return errors.Join(failed...)
}

// writeReport writes an object's status, unless the object has changed since it was seen: then its status is made anew.
func (c *Controller) writeReport(ctx context.Context, object client.Object) (written bool, err error) {
	err = c.writer.Status().Update(ctx, object, fieldOwner)
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		c.touchStatus()
		return false, nil
	}
	return err == nil, err
}

// tell makes events of what is new in a pool's status. There are at most as many as the status has samples.
func (c *Controller) tell(before, after *v1alpha1.PortPool, out []pool.Outside) {
	exhausted := meta.FindStatusCondition(after.Status.Conditions, v1alpha1.ConditionExhausted)
	accepted := meta.IsStatusConditionTrue(after.Status.Conditions, v1alpha1.ConditionAccepted)
	was := meta.IsStatusConditionTrue(before.Status.Conditions, v1alpha1.ConditionExhausted)
	if accepted && !was && exhausted.Status == metav1.ConditionTrue {
		c.events.Eventf(after, nil, corev1.EventTypeWarning, "PoolExhausted", "Allocate", "%s", exhausted.Message)
	}
	for i, sample := range after.Status.OutOfPool {
		if slices.Contains(before.Status.OutOfPool, sample) {
			continue
		}
		c.events.Eventf(holderOf(out[i].Holding), after, corev1.EventTypeWarning, "PortOutOfPool", "Audit",
			"%d is outside PortPool %s, which serves this %s; it stays allocated: change it to a port of the pool when it suits you", sample.Port, after.Name, sample.Kind)
	}
}

// holderOf is what an event about the holder is attached to.
func holderOf(h pool.Holding) client.Object {
	about := metav1.ObjectMeta{Namespace: h.Namespace, Name: h.Name, UID: types.UID(h.UID)}
	if h.For == pool.HostPorts {
		return &corev1.Pod{ObjectMeta: about}
	}
	return &corev1.Service{ObjectMeta: about}
}

// reportPolicies says of each policy whether it is understood, and how many namespaces it is about. What breaks it is
// said by whoever judges it: the rest of its status stays.
func (c *Controller) reportPolicies(ctx context.Context, v *view) error {
	var list v1alpha1.PortPolicyList
	if err := c.cache.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing PortPolicies: %w", err)
	}
	var failed []error
	for i := range list.Items {
		before := &list.Items[i]
		after := before.DeepCopy()
		after.Status.ObservedGeneration = after.Generation
		after.Status.MatchedNamespaces = nil
		accepted := is(v1alpha1.ConditionAccepted, true, v1alpha1.ReasonValid, "the policy is understood")
		if err := selectorsOf(&after.Spec); err != nil {
			accepted = is(v1alpha1.ConditionAccepted, false, v1alpha1.ReasonInvalidSelector, fmt.Sprintf("%v; correct it", err))
		} else if selector, err := after.Spec.NamespaceSelector.AsSelector(); err == nil {
			after.Status.MatchedNamespaces = new(v.matched(func(l map[string]string) bool { return selector.Matches(labels.Set(l)) }))
		}
		set(&after.Status.Conditions, accepted, after.Generation)
		if equality.Semantic.DeepEqual(before.Status, after.Status) {
			continue
		}
		if _, err := c.writeReport(ctx, after); err != nil {
			failed = append(failed, fmt.Errorf("the status of PortPolicy %s: %w", before.Name, err))
		}
	}
	return errors.Join(failed...)
}

// selectorsOf returns what is wrong with the selectors of a policy.
func selectorsOf(spec *v1alpha1.PortPolicySpec) error {
	type field struct {
		path     string
		selector *v1alpha1.LabelSelector
	}
	fields := []field{{"spec.namespaceSelector", spec.NamespaceSelector}}
	for i := range spec.Reserved {
		fields = append(fields, field{fmt.Sprintf("spec.reserved[%d].nodeSelector", i), spec.Reserved[i].NodeSelector})
	}
	for i := range spec.Exceptions {
		fields = append(fields,
			field{fmt.Sprintf("spec.exceptions[%d].namespaceSelector", i), spec.Exceptions[i].NamespaceSelector},
			field{fmt.Sprintf("spec.exceptions[%d].objectSelector", i), spec.Exceptions[i].ObjectSelector})
	}
	for _, f := range fields {
		if _, err := f.selector.AsSelector(); err != nil {
			return fmt.Errorf("%s: %w", f.path, err)
		}
	}
	return nil
}
