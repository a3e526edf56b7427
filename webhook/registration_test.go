package webhook

import (
	"slices"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/portcullis-k8s/portcullis/pkg/hooks"
)

// TestEveryWebhookIsServed: a path of the configurations has a handler, and every handler is registered.
func TestEveryWebhookIsServed(t *testing.T) {
	r := hooks.Options{ClientConfig: hooks.ServiceClient("ns", "name"), GuardBindings: true}
	handlers := newBench(t, "").Hooks()
	var paths []string
	for _, w := range hooks.Mutating(r).Webhooks {
		paths = append(paths, *w.ClientConfig.Service.Path)
	}
	for _, w := range hooks.Validating(r).Webhooks {
		paths = append(paths, *w.ClientConfig.Service.Path)
	}
	for _, path := range paths {
		if handlers[path] == nil {
			t.Errorf("nothing is served at %s", path)
		}
	}
	for path := range handlers {
		if !slices.Contains(paths, path) {
			t.Errorf("nobody calls %s", path)
		}
	}
}

// TestTimeouts: a hook answers before the API server stops waiting, and claims are made before that.
func TestTimeouts(t *testing.T) {
	timeouts := map[string]int32{}
	for _, w := range hooks.Mutating(hooks.Options{}).Webhooks {
		timeouts[w.Name] = *w.TimeoutSeconds
	}
	for _, w := range hooks.Validating(hooks.Options{GuardBindings: true}).Webhooks {
		timeouts[w.Name] = *w.TimeoutSeconds
		for _, rule := range w.Rules {
			req := admission.Request{}
			resource, sub, _ := strings.Cut(rule.Resources[0], "/")
			req.Resource.Group, req.Resource.Resource, req.SubResource, req.Operation = rule.APIGroups[0], resource, sub, admissionv1.Operation(rule.Operations[0])
			if limit := time.Duration(*w.TimeoutSeconds) * time.Second; timeFor(req) >= limit {
				t.Errorf("%s: may take %v of %v", w.Name, timeFor(req), limit)
			}
		}
	}
	for name, seconds := range timeouts {
		if strings.HasPrefix(name, "mutate") && answerTime >= time.Duration(seconds)*time.Second {
			t.Errorf("%s: may take %v of %d s", name, answerTime, seconds)
		}
	}
	if claimTime >= answerTime || len(timeouts) < 8 {
		t.Errorf("claims may take %v of %v; hooks %v", claimTime, answerTime, timeouts)
	}
}
