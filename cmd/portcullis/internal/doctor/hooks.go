package doctor

import (
	"context"
	"net/url"
	"slices"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/portcullis-k8s/portcullis/pkg/certificate"
	"github.com/portcullis-k8s/portcullis/pkg/hooks"
)

// hook is an entry of either configuration.
type hook struct {
	name       string
	client     admissionregistrationv1.WebhookClientConfig
	policy     admissionregistrationv1.FailurePolicyType
	namespaces *metav1.LabelSelector
	timeout    int32
	mutates    bool
	terms      []any // what must be as it ships
}

// termNames are what terms are called.
func termNames() []string {
	return []string{"rules", "matchConditions", "matchPolicy", "sideEffects", "timeoutSeconds", "objectSelector", "path"}
}

func hookOf(w *admissionregistrationv1.ValidatingWebhook) hook {
	timeout := valueOr(w.TimeoutSeconds, 10)
	objects := w.ObjectSelector
	if objects == nil {
		objects = &metav1.LabelSelector{}
	}
	return hook{w.Name, w.ClientConfig, valueOr(w.FailurePolicy, admissionregistrationv1.Fail), w.NamespaceSelector, timeout, false,
		[]any{w.Rules, w.MatchConditions, valueOr(w.MatchPolicy, admissionregistrationv1.Equivalent), valueOr(w.SideEffects, ""), timeout, objects, pathOf(w.ClientConfig)}}
}

func mutatingHookOf(w *admissionregistrationv1.MutatingWebhook) hook {
	h := hookOf(&admissionregistrationv1.ValidatingWebhook{
		Name: w.Name, ClientConfig: w.ClientConfig, Rules: w.Rules, FailurePolicy: w.FailurePolicy, MatchPolicy: w.MatchPolicy, NamespaceSelector: w.NamespaceSelector,
		ObjectSelector: w.ObjectSelector, SideEffects: w.SideEffects, TimeoutSeconds: w.TimeoutSeconds, MatchConditions: w.MatchConditions,
	})
	h.mutates = true
	return h
}

// pathOf returns the path at which a hook is called, without the secret segment that the leader writes into it.
func pathOf(c admissionregistrationv1.WebhookClientConfig) string {
	if c.Service != nil {
		return certificate.Prefixed(valueOr(c.Service.Path, ""), certificate.Plain)
	}
	u, err := url.Parse(valueOr(c.URL, ""))
	if err != nil {
		return ""
	}
	return certificate.Prefixed(u.Path, certificate.Plain)
}

// hooks reads the entries of all configurations of both kinds, those of one name first.
func (d *installation) hooks(ctx context.Context) (ours, others []hook, missing []string, err error) {
	admission := d.AdmissionregistrationV1()
	mutating, err := admission.MutatingWebhookConfigurations().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, nil, nil, err
	}
	validating, err := admission.ValidatingWebhookConfigurations().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, nil, nil, err
	}
	missing = []string{"MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"}
	add := func(configuration, kind string, h hook) {
		if configuration != hooks.ConfigurationName {
			h.name = configuration + "/" + h.name
			others = append(others, h)
			return
		}
		ours = append(ours, h)
		missing = slices.DeleteFunc(missing, func(k string) bool { return k == kind })
	}
	for i := range mutating.Items {
		for j := range mutating.Items[i].Webhooks {
			add(mutating.Items[i].Name, "MutatingWebhookConfiguration", mutatingHookOf(&mutating.Items[i].Webhooks[j]))
		}
	}
	for i := range validating.Items {
		for j := range validating.Items[i].Webhooks {
			add(validating.Items[i].Name, "ValidatingWebhookConfiguration", hookOf(&validating.Items[i].Webhooks[j]))
		}
	}
	return ours, others, missing, nil
}

// shippedHooks are the entries as this version ships them.
func shippedHooks(guard bool) []hook {
	r := hooks.Shipped()
	r.GuardBindings = guard
	return hooksOf(r)
}

// hooksOf returns the hooks of a registration.
func hooksOf(r hooks.Options) []hook {
	var all []hook
	mutating, validating := hooks.Mutating(r), hooks.Validating(r)
	for i := range mutating.Webhooks {
		all = append(all, mutatingHookOf(&mutating.Webhooks[i]))
	}
	for i := range validating.Webhooks {
		all = append(all, hookOf(&validating.Webhooks[i]))
	}
	return all
}
