package redteam

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	hook "k8s.io/apiserver/pkg/admission/plugin/webhook"
	webhookerrors "k8s.io/apiserver/pkg/admission/plugin/webhook/errors"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/generic"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/predicates/rules"
	hookrequest "k8s.io/apiserver/pkg/admission/plugin/webhook/request"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/cel/environment"
	"sigs.k8s.io/controller-runtime/pkg/client"
	cradmission "sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	configv1alpha1 "github.com/portcullis-k8s/portcullis/api/config/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/pkg/manifest"
	"github.com/portcullis-k8s/portcullis/pkg/observe"
	"github.com/portcullis-k8s/portcullis/webhook"

	"github.com/prometheus/client_golang/prometheus"
)

// ownHooks calls the webhook's handlers where its registration says so, which is what ships.
type ownHooks struct {
	handlers             map[string]cradmission.Handler
	mutating, validating []registered
	objects              admission.ObjectInterfaces
}

// registered is one hook.
type registered struct {
	hook.WebhookAccessor
	path    string
	compile cel.ConditionCompiler
}

func newHooks(t *testing.T, m *mirror) *ownHooks {
	t.Helper()
	config, err := configv1alpha1.Load([]byte("apiVersion: config.portcullis.dev/v1alpha1\nkind: PortcullisConfiguration\ndataplane: {serviceProxy: iptables, hostPort: portmap-iptables}\n")) // as it ships
	must(t, err)
	settings, err := extract.NewSettings(config)
	must(t, err)
	var replica *webhook.Handlers
	observer := observe.New(m, observe.Options{
		NodePorts: settings.NodePorts, Trusted: settings.Check.Trusted, NodePortRange: settings.Check.NodePortRange, Pools: true,
		Live: m.live, Scheme: manifest.Scheme(), Seen: func(seen observe.Seen) { replica.Settle(seen) },
	})
	claims := webhook.NewClaims(m.claims, m.claims, observer.Claim, time.Now)
	replica = webhook.New(observer, claims, settings, manifest.Scheme(), webhook.NewMetrics(prometheus.NewRegistry()), time.Now)
	m.observe(t, observer)
	h := &ownHooks{handlers: replica.Hooks(), objects: admission.NewObjectInterfacesFromScheme(manifest.Scheme())}
	compile := cel.NewConditionCompiler(environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()))
	registration := hooks.Shipped()
	registration.FailurePolicy = admissionregistrationv1.Fail
	mutating, validating := hooks.Mutating(registration), hooks.Validating(registration)
	for i := range mutating.Webhooks {
		w := &mutating.Webhooks[i]
		h.mutating = append(h.mutating, registered{hook.NewMutatingWebhookAccessor(w.Name, mutating.Name, w), *w.ClientConfig.Service.Path, compile})
	}
	for i := range validating.Webhooks {
		w := &validating.Webhooks[i]
		h.validating = append(h.validating, registered{hook.NewValidatingWebhookAccessor(w.Name, validating.Name, w), *w.ClientConfig.Service.Path, compile})
	}
	return h
}

// call is a request as the API server asks hooks about it.
type call struct {
	operation   admission.Operation
	object, old client.Object
	dryRun      bool
	of          *schema.GroupVersionResource // of a scale: whose it is
}

func (c call) attributes() *admission.VersionedAttributes {
	kind := c.object.GetObjectKind().GroupVersionKind()
	resource, subresource := resourceOf(kind), ""
	if c.of != nil {
		resource, subresource = *c.of, "scale"
	}
	tenant := &user.DefaultInfo{Name: "tenant", Groups: []string{"system:authenticated"}}
	v := &admission.VersionedAttributes{VersionedObject: admission.NewLazyObject(c.object), VersionedKind: kind}
	if c.old == nil {
		v.Attributes = admission.NewAttributesRecord(c.object, nil, kind, c.object.GetNamespace(), c.object.GetName(), resource, subresource, c.operation, &metav1.CreateOptions{}, c.dryRun, tenant)
		return v
	}
	v.Attributes = admission.NewAttributesRecord(c.object, c.old, kind, c.object.GetNamespace(), c.object.GetName(), resource, subresource, c.operation, &metav1.UpdateOptions{}, c.dryRun, tenant)
	v.VersionedOldObject = admission.NewLazyObject(c.old)
	return v
}

// ask calls a hook, unless its registration says that it is not asked. It returns the patch of its answer.
func (h *ownHooks) ask(r registered, c call) (patch []byte, err error) {
	attributes := c.attributes()
	matched := false
	for _, rule := range r.GetRules() {
		matcher := rules.Matcher{Rule: rule, Attr: attributes.Attributes}
		matched = matched || matcher.Matches()
	}
	if !matched {
		return nil, nil
	}
	matches := r.GetCompiledMatcher(r.compile).Match(context.Background(), attributes, nil, nil)
	if matches.Error != nil || !matches.Matches {
		return nil, matches.Error
	}
	review := hookrequest.CreateV1AdmissionReview("1", attributes, &generic.WebhookInvocation{
		Webhook: r, Resource: attributes.GetResource(), Subresource: attributes.GetSubresource(), Kind: attributes.VersionedKind,
	})
	var sent admissionv1.AdmissionReview
	if err := json.Unmarshal(marshal(review), &sent); err != nil {
		return nil, err
	}
	request := cradmission.Request{AdmissionRequest: *sent.Request}
	response := h.handlers[r.path].Handle(context.Background(), request)
	if err := response.Complete(request); err != nil {
		return nil, err
	}
	if !response.Allowed {
		return nil, webhookerrors.ToStatusErr(r.GetName(), response.Result)
	}
	return response.Patch, nil
}

// mutate asks the mutating hooks, and returns what they make of the object.
func (h *ownHooks) mutate(c call) (client.Object, error) {
	for _, r := range h.mutating {
		text, err := h.ask(r, c)
		if err != nil {
			return nil, err
		}
		if len(text) == 0 {
			continue
		}
		patch, err := jsonpatch.DecodePatch(text)
		if err != nil {
			return nil, err
		}
		changed, err := patch.Apply(marshal(c.object))
		if err != nil {
			return nil, err
		}
		if c.object, err = decoded(c.object.GetObjectKind().GroupVersionKind(), changed); err != nil {
			return nil, err
		}
	}
	return c.object, nil
}

// validate asks the validating hooks.
func (h *ownHooks) validate(c call) error {
	for _, r := range h.validating {
		if _, err := h.ask(r, c); err != nil {
			return err
		}
	}
	return nil
}
