package vap

import (
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	gocmp "github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"

	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// policiesOf are the ValidatingAdmissionPolicies among objects.
func policiesOf(objects []runtime.Object) []*admissionregistrationv1.ValidatingAdmissionPolicy {
	var policies []*admissionregistrationv1.ValidatingAdmissionPolicy
	for _, o := range objects {
		if p, ok := o.(*admissionregistrationv1.ValidatingAdmissionPolicy); ok {
			policies = append(policies, p)
		}
	}
	return policies
}

// TestPolicyNames: each policy has a name of its own that the API server takes, and the labels by which all are found.
func TestPolicyNames(t *testing.T) {
	var names []string
	for _, p := range policiesOf(mustValidating(t, everyRule(t)).Objects) {
		if problems := utilvalidation.IsDNS1123Subdomain(p.Name); len(problems) > 0 || !strings.HasPrefix(p.Name, "portcullis-") || slices.Contains(names, p.Name) {
			t.Errorf("%s: %v", p.Name, problems)
		}
		names = append(names, p.Name)
		if diff := gocmp.Diff(hooks.ObjectMeta().Labels, p.Labels); diff != "" {
			t.Errorf("%s: labels (-want +got):\n%s", p.Name, diff)
		}
	}
}

// TestPolicyRequests: policies judge the requests that the hooks about the same objects are asked about.
func TestPolicyRequests(t *testing.T) {
	of := map[string][]hooks.Hook{
		"pods":     {hooks.ValidatePods(), hooks.ValidateWorkloads(), hooks.ValidateCronJobs()},
		"services": {hooks.ValidateServices()},
	}
	source := everyRule(t)
	everywhere := hooks.Options{ExcludedNamespaces: source.ExcludedNamespaces}.NamespaceSelector()
	for _, p := range policiesOf(mustValidating(t, source).Objects) {
		subject, _, _ := strings.Cut(p.Name[strings.LastIndexAny(p.Name[:strings.LastIndex(p.Name, "-")], "-.")+1:], "-")
		want := of[subject]
		if want == nil {
			t.Fatalf("%s is about %q", p.Name, subject)
		}
		var rules []admissionregistrationv1.NamedRuleWithOperations
		for _, h := range want {
			for _, r := range h.Rules {
				rules = append(rules, admissionregistrationv1.NamedRuleWithOperations{RuleWithOperations: r})
			}
		}
		match := admissionregistrationv1.Equivalent
		selector := everywhere
		if strings.HasPrefix(p.Name, "portcullis-policy.") { // those of a PortPolicy are about its namespaces
			selector = everywhere.DeepCopy()
			selector.MatchLabels = map[string]string{"team": "a"}
		}
		wanted := &admissionregistrationv1.MatchResources{NamespaceSelector: selector, ResourceRules: rules, MatchPolicy: &match}
		if diff := gocmp.Diff(wanted, p.Spec.MatchConstraints); diff != "" {
			t.Errorf("%s (-want +got):\n%s", p.Name, diff)
		}
		if len(want) == 1 {
			if diff := gocmp.Diff(want[0].Conditions, p.Spec.MatchConditions); diff != "" {
				t.Errorf("%s: conditions (-want +got):\n%s", p.Name, diff)
			}
		}
		if p.Spec.FailurePolicy == nil || *p.Spec.FailurePolicy != admissionregistrationv1.Fail {
			t.Errorf("%s: failurePolicy %v", p.Name, p.Spec.FailurePolicy)
		}
	}
}

// TestMutatingRequests: the policy that writes hostIP is asked about the pods that the hook is asked about, but for those on the
// host network.
func TestMutatingRequests(t *testing.T) {
	source := Source{ExcludedNamespaces: []string{"kube-system"}}
	p := source.Mutating("::")[0].(*admissionregistrationv1.MutatingAdmissionPolicy)
	hook := hooks.MutatePods()
	match := admissionregistrationv1.Equivalent
	want := &admissionregistrationv1.MatchResources{NamespaceSelector: hooks.Options{ExcludedNamespaces: source.ExcludedNamespaces}.NamespaceSelector(), MatchPolicy: &match}
	for _, r := range hook.Rules {
		want.ResourceRules = append(want.ResourceRules, admissionregistrationv1.NamedRuleWithOperations{RuleWithOperations: r})
	}
	if diff := gocmp.Diff(want, p.Spec.MatchConstraints); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := gocmp.Diff(hook.Conditions, p.Spec.MatchConditions[:len(hook.Conditions)]); diff != "" || len(p.Spec.MatchConditions) != len(hook.Conditions)+1 {
		t.Errorf("conditions (-want +got):\n%s", diff)
	}
}

// TestPolicyMessages: what is said where an expression makes no sentence is as short as a sentence, and has a code.
func TestPolicyMessages(t *testing.T) {
	for _, p := range policiesOf(mustValidating(t, everyRule(t)).Objects) {
		for _, v := range p.Spec.Validations {
			if v.Message == "" || v.MessageExpression == "" || utf8.RuneCountInString(v.Message) > report.MaxSentence || strings.ContainsAny(v.Message, "\n⟨⟩") {
				t.Errorf("%s: %q or %s", p.Name, v.Message, v.MessageExpression)
			}
		}
	}
}

// TestPoliciesAreDeterministic: the same source makes the same objects and lines, in the same order; so does one whose
// PortPolicies, and PortPools of different ages, come in another.
func TestPoliciesAreDeterministic(t *testing.T) {
	source := everyRule(t)
	source.Settings = mustSettings(t, "enforcement: {PC0201: Warn, PC0202: Warn, PC0301: Warn, PC0302: Audit, PC0401: Warn}\n")
	for i, p := range source.Pools {
		p.CreationTimestamp = metav1.Unix(int64(i), 0)
	}
	want := mustValidating(t, source)
	for range 10 {
		if diff := gocmp.Diff(want, mustValidating(t, source)); diff != "" {
			t.Fatalf("(-first +again):\n%s", diff)
		}
		slices.Reverse(source.Pools)
		slices.Reverse(source.Policies)
	}
	source.Now = source.Now.Add(time.Hour) // an exception has ended since
	if gocmp.Equal(want, mustValidating(t, source)) {
		t.Error("the time makes no difference")
	}
}
