package rig

import (
	"context"
	"errors"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
)

// Split has the API server ask a replica about one namespace, and the rig's first about all others: a test then knows who is
// asked what. It returns when that is so.
func (r *Rig) Split(tb testing.TB, replica *Replica, namespace string) {
	tb.Helper()
	only := func(operator metav1.LabelSelectorOperator) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: corev1.LabelMetadataName, Operator: operator, Values: []string{namespace}}}}
	}
	registration := replica.Registration()
	mutating, validating := hooks.Mutating(registration), hooks.Validating(registration)
	mutating.Name, validating.Name = "replica", "replica"
	ctx, admission := tb.Context(), r.Client.AdmissionregistrationV1()
	armed, err1 := admission.MutatingWebhookConfigurations().Get(ctx, hooks.ConfigurationName, metav1.GetOptions{})
	judging, err2 := admission.ValidatingWebhookConfigurations().Get(ctx, hooks.ConfigurationName, metav1.GetOptions{})
	if err := errors.Join(err1, err2); err != nil {
		tb.Fatal(err)
	}
	for i := range mutating.Webhooks {
		mutating.Webhooks[i].NamespaceSelector = only(metav1.LabelSelectorOpIn)
		armed.Webhooks[i].NamespaceSelector = only(metav1.LabelSelectorOpNotIn)
	}
	for i := range validating.Webhooks {
		validating.Webhooks[i].NamespaceSelector = only(metav1.LabelSelectorOpIn)
		judging.Webhooks[i].NamespaceSelector = only(metav1.LabelSelectorOpNotIn)
	}
	_, err1 = admission.MutatingWebhookConfigurations().Create(ctx, mutating, metav1.CreateOptions{})
	_, err2 = admission.ValidatingWebhookConfigurations().Create(ctx, validating, metav1.CreateOptions{})
	_, err3 := admission.MutatingWebhookConfigurations().Update(ctx, armed, metav1.UpdateOptions{})
	_, err4 := admission.ValidatingWebhookConfigurations().Update(ctx, judging, metav1.UpdateOptions{})
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		tb.Fatal(err)
	}
	asked := func(ctx context.Context, g *Replica) (float64, error) {
		return g.Count(ctx, "portcullis_admission_verdicts_total")
	}
	poll.Until(tb, func(ctx context.Context) error {
		replica1, err1 := asked(ctx, replica)
		first1, err2 := asked(ctx, r.Webhook)
		err3 := r.probeServiceIn(ctx, namespace)
		replica2, err4 := asked(ctx, replica)
		first2, err5 := asked(ctx, r.Webhook)
		if err := errors.Join(err1, err2, err4, err5); err != nil {
			return err
		}
		if !isOurs(err3) || replica2 <= replica1 || first2 > first1 {
			return fmt.Errorf("the replica was asked %v times, the first %v times: %w", replica2-replica1, first2-first1, err3)
		}
		return nil
	})
}
