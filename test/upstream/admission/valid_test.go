package admission

import (
	"strings"
	"testing"
	"unicode/utf8"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/cel/openapi/resolver"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/apis/admissionregistration"
	"k8s.io/kubernetes/pkg/apis/admissionregistration/validation"
	generatedopenapi "k8s.io/kubernetes/pkg/generated/openapi"

	"github.com/portcullis-k8s/portcullis/pkg/extract/specimen"
	"github.com/portcullis-k8s/portcullis/pkg/report"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
	"github.com/portcullis-k8s/portcullis/test/lab/alone"
)

// TestPoliciesAreValid: the API server's validation, which compiles each expression and estimates what it costs, takes all
// policies, and its type checker has nothing to say.
func TestPoliciesAreValid(t *testing.T) {
	everything := alone.Source(t, alone.EveryConfig, alone.EveryRestriction)
	told := alone.Source(t, alone.EveryConfig+alone.EverythingWarns, alone.EveryRestriction)
	bare := alone.Source(t, "", "")
	t.Run("types", func(t *testing.T) {
		c := newTypeChecker()
		// Those that warn have all rules; all policies of everything take half a minute: see test/cluster/policies.
		for _, p := range policiesOf(made(t, bare)) {
			if !strings.HasSuffix(p.Name, "-warn") {
				continue
			}
			for _, w := range c.Check(p) {
				t.Errorf("%s: %s: %s", p.Name, w.FieldRef, w.Warning)
			}
		}
		wrong := policiesOf(made(t, bare))[0]
		wrong.Spec.Variables, wrong.Spec.Validations = nil, wrong.Spec.Validations[:1]
		wrong.Spec.Validations[0].Expression = "object.spec.nodePrts == 1"
		if len(c.Check(wrong)) == 0 {
			t.Error("the type checker does not notice a field that there is not")
		}
	})
	t.Run("every rule", func(t *testing.T) {
		holdValid(t, made(t, everything))
		holdValid(t, made(t, told))
		holdValid(t, append(made(t, bare), bare.Mutating(`it's "::"`)...))
	})
	t.Run("random", func(t *testing.T) {
		seed.Each(t, nil, func(t *testing.T, s uint64) {
			r := restrictions{specimen.FromSeed(s)}
			for range seed.Rounds(4, 100) {
				holdValid(t, made(t, r.source(t)))
			}
		})
	})
}

func newTypeChecker() *validating.TypeChecker {
	return &validating.TypeChecker{
		SchemaResolver: resolver.NewDefinitionsSchemaResolver(generatedopenapi.GetOpenAPIDefinitions, legacyscheme.Scheme), RestMapper: newMapper(),
	}
}

// policiesOf are the policies among objects, with the API server's defaults.
func policiesOf(objects []runtime.Object) []*admissionregistrationv1.ValidatingAdmissionPolicy {
	var policies []*admissionregistrationv1.ValidatingAdmissionPolicy
	for _, o := range objects {
		if p, ok := o.DeepCopyObject().(*admissionregistrationv1.ValidatingAdmissionPolicy); ok {
			legacyscheme.Scheme.Default(p)
			policies = append(policies, p)
		}
	}
	return policies
}

// holdValid has the API server validate policies and their bindings.
func holdValid(t *testing.T, objects []runtime.Object) {
	t.Helper()
	for _, object := range objects {
		o := object.DeepCopyObject()
		legacyscheme.Scheme.Default(o)
		stored, err := legacyscheme.Scheme.ConvertToVersion(o, runtime.InternalGroupVersioner)
		if err != nil {
			t.Fatal(err)
		}
		var name string
		var refused field.ErrorList
		switch stored := stored.(type) {
		case *admissionregistration.ValidatingAdmissionPolicy:
			name, refused = stored.Name, validation.ValidateValidatingAdmissionPolicy(stored)
		case *admissionregistration.ValidatingAdmissionPolicyBinding:
			name, refused = stored.Name, validation.ValidateValidatingAdmissionPolicyBinding(stored)
		case *admissionregistration.MutatingAdmissionPolicy:
			name, refused = stored.Name, validation.ValidateMutatingAdmissionPolicy(stored)
		case *admissionregistration.MutatingAdmissionPolicyBinding:
			name, refused = stored.Name, validation.ValidateMutatingAdmissionPolicyBinding(stored)
		default:
			t.Fatalf("%T", stored)
		}
		if len(refused) > 0 {
			t.Errorf("%s: %v", name, refused)
		}
	}
	for _, p := range policiesOf(objects) {
		for _, v := range p.Spec.Validations {
			if v.Message == "" || utf8.RuneCountInString(v.Message) > report.MaxSentence {
				t.Errorf("%s: the message %q", p.Name, v.Message)
			}
		}
	}
}
