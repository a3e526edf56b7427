package status

import (
	"context"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
)

// reconcilePolicies writes of each policy whether it can be understood, and how many namespaces it selects. The rest of its
// status belongs to those who check it.
func (c *Controller) reconcilePolicies(ctx context.Context, v *view) error {
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
		accepted := condition(v1alpha1.ConditionAccepted, true, v1alpha1.ReasonValid, "the policy is understood")
		if err := checkSelectors(&after.Spec); err != nil {
			accepted = condition(v1alpha1.ConditionAccepted, false, v1alpha1.ReasonInvalidSelector, fmt.Sprintf("%v; correct it", err))
		} else if selector, err := after.Spec.NamespaceSelector.AsSelector(); err == nil {
			after.Status.MatchedNamespaces = new(v.countNamespaces(func(l map[string]string) bool { return selector.Matches(labels.Set(l)) }))
		}
		setCondition(&after.Status.Conditions, accepted, after.Generation)
		if equality.Semantic.DeepEqual(before.Status, after.Status) {
			continue
		}
		if _, err := c.write(ctx, after); err != nil {
			failed = append(failed, fmt.Errorf("the status of PortPolicy %s: %w", before.Name, err))
		}
	}
	return errors.Join(failed...)
}

// checkSelectors returns what is wrong with the selectors of a policy.
func checkSelectors(spec *v1alpha1.PortPolicySpec) error {
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
