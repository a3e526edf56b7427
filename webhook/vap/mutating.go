package vap

import (
	"fmt"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/portcullis-k8s/portcullis/pkg/hooks"
)

// Mutating returns a MutatingAdmissionPolicy, with its binding, that writes hostIP where a hostPort of a pod leaves it
// empty. It needs Kubernetes 1.36. The protocol needs no policy: the API server itself writes TCP.
func (s Source) Mutating(hostIP string) []runtime.Object {
	again, match := admissionregistrationv1.IfNeededReinvocationPolicy, admissionregistrationv1.Equivalent
	ignore := admissionregistrationv1.Ignore // a pod whose hostIP stays empty works too
	pods := hooks.MutatePods()
	var rules []admissionregistrationv1.NamedRuleWithOperations
	for _, r := range pods.Rules {
		rules = append(rules, admissionregistrationv1.NamedRuleWithOperations{RuleWithOperations: r})
	}
	var lists []string
	for _, list := range []string{"initContainers", "containers"} {
		lists = append(lists, fmt.Sprintf("object.spec.?%[1]s.orValue([]).map(c, c.?ports.orValue([])).transformList(i, ports, "+
			"ports.transformList(j, p, p.?hostPort.orValue(0) > 0 && p.?hostIP.orValue('') == '', "+
			"JSONPatch{op: 'add', path: '/spec/%[1]s/' + string(i) + '/ports/' + string(j) + '/hostIP', value: %[2]s}))", list, celString(hostIP)))
	}
	p := &admissionregistrationv1.MutatingAdmissionPolicy{
		TypeMeta: metav1.TypeMeta{APIVersion: admissionregistrationv1.SchemeGroupVersion.String(), Kind: "MutatingAdmissionPolicy"},
	}
	p.ObjectMeta = hooks.ObjectMeta()
	p.Name = "portcullis-pods-host-ip"
	p.Spec = admissionregistrationv1.MutatingAdmissionPolicySpec{
		MatchConstraints: &admissionregistrationv1.MatchResources{
			NamespaceSelector: hooks.Options{ExcludedNamespaces: s.ExcludedNamespaces}.NamespaceSelector(), ResourceRules: rules, MatchPolicy: &match,
		},
		MatchConditions: append(pods.Conditions, hooks.Conditions("not-on-the-host-network", "!object.spec.?hostNetwork.orValue(false)")...),
		FailurePolicy:   &ignore, ReinvocationPolicy: again,
		Mutations: []admissionregistrationv1.Mutation{{
			PatchType: admissionregistrationv1.PatchTypeJSONPatch,
			JSONPatch: &admissionregistrationv1.JSONPatch{Expression: "(" + strings.Join(lists, " + ") + ").flatten()"},
		}},
	}
	b := &admissionregistrationv1.MutatingAdmissionPolicyBinding{
		TypeMeta: metav1.TypeMeta{APIVersion: admissionregistrationv1.SchemeGroupVersion.String(), Kind: "MutatingAdmissionPolicyBinding"},
	}
	b.ObjectMeta = hooks.ObjectMeta()
	b.Name, b.Spec.PolicyName = p.Name, p.Name
	return []runtime.Object{p, b}
}
