// Package vap makes admission policies of the configuration, PortPools and PortPolicies: the fallback for clusters without the
// webhook. `portcullis generate vap` prints them.
//
// A Source makes Policies: Source.Validating for what can be judged by one object alone, Source.Mutating for hostIPs. Each
// check is a rule in CEL over variables that read the object; Codes lists the codes that are checked, Unseen and
// Policies.Unseen what is not. The requests are those of package hooks. test/upstream/admission holds the policies to
// package check with the API server's own code, and test/cluster/policies on a whole API server.
package vap

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// Source is what admission policies are made of: the fallback for clusters without the webhook.
type Source struct {
	Settings           *extract.Settings
	Pools              []*v1alpha1.PortPool
	Policies           []*v1alpha1.PortPolicy
	ExcludedNamespaces []string
	AtMost             check.Enforcement // nothing is enforced more strictly; 0: as configured
	Now                time.Time         // exceptions that ended before it are left out
}

// Policies are the objects of the fallback, and what they leave to the webhook.
type Policies struct {
	Objects []runtime.Object // each policy with its binding behind it
	Unseen  []string         // what of the source no policy can say, a line each
}

// Validating returns ValidatingAdmissionPolicies, with their bindings, for all that can be judged by one object alone. They
// need Kubernetes 1.35. The error is about a pool or policy that the API server would have refused.
func (s Source) Validating() (*Policies, error) {
	set, err := s.poolSet()
	if err != nil {
		return nil, err
	}
	g := &generator{Source: s, pools: set, to: &Policies{}}
	g.add("", nil, subjectPods, append(g.workloadRules(), g.poolRules(subjectPods)...))
	g.add("", nil, subjectServices, append(g.serviceRules(), g.poolRules(subjectServices)...))
	g.unseenPools()
	for _, object := range slices.SortedFunc(slices.Values(s.Policies), func(a, b *v1alpha1.PortPolicy) int { return cmp.Compare(a.Name, b.Name) }) {
		p, err := extract.Policy(object)
		if err != nil {
			return nil, fmt.Errorf("PortPolicy %s: %w", object.Name, err)
		}
		g.addPolicy(object, p)
	}
	for _, code := range slices.Sorted(maps.Keys(s.Settings.Check.Enforcement)) {
		if !slices.Contains(Codes(), code) {
			g.unseen("enforcement.%s has no effect: only the webhook checks that", code)
		}
	}
	return g.to, nil
}

// Codes are those that admission policies raise.
func Codes() []check.Code {
	return []check.Code{
		check.HostIPInvalid, check.SocketTwice, check.NodePortWithoutUse, check.OutsideRange, check.DaemonSocket, check.InNodePorts,
		check.InEphemeral, check.OutsideSmaller, check.ForeignPool, check.PolicyNodePort, check.PolicyHostPort, check.PolicyReserved,
		check.SurgeInPlace, check.CreateRefuses, check.NeverMapped,
	}
}

func (s Source) poolSet() (*pool.Set, error) {
	var pools []pool.Pool
	for i, object := range s.Pools {
		p, err := extract.Pool(object)
		if err != nil {
			return nil, fmt.Errorf("PortPool %s: %w", object.Name, err)
		}
		if p.Created.IsZero() {
			p.Created = time.Time{}.Add(time.Duration(i)) // of files, the first is the older
		}
		pools = append(pools, p)
	}
	return pool.New(pools, s.Settings.Check.NodePortRange), nil
}

// generator adds policies to what it makes.
type generator struct {
	Source
	pools *pool.Set
	to    *Policies
}

func (g *generator) unseen(format string, args ...any) {
	g.to.Unseen = append(g.to.Unseen, fmt.Sprintf(format, args...))
}

// rule is one check as CEL. Its texts may name variables of the version that is judged by $: $claims is now_claims, or
// old_claims of the version before.
type rule struct {
	code  check.Code
	name  string // of its variable
	found string // a list of {'k', 's'}: what makes a violation the same as before, and its sentence without the code
	enact check.Enforcement
}

// subjectKind is whom policies are about.
type subjectKind struct {
	name       string
	rules      []admissionregistrationv1.NamedRuleWithOperations
	conditions []admissionregistrationv1.MatchCondition
	variables  []variable
	inherited  string // CEL: a controller brings the object, whose template was the place to refuse
}

// variable is one of a policy. One that starts with $ is there twice, of the version that is judged and of the old one.
type variable struct{ name, expression string }

// add makes a policy of the rules of each enforcement.
func (g *generator) add(of string, selector *v1alpha1.LabelSelector, about func() subjectKind, rules []rule) {
	kind := about()
	for _, as := range []check.Enforcement{check.Deny, check.Warn, check.Audit} {
		var lines []validation
		for _, r := range rules {
			lines = append(lines, r.as(as, g.AtMost)...)
		}
		if len(lines) == 0 {
			continue
		}
		name := "portcullis-" + kind.name + "-" + strings.ToLower(as.String())
		if of != "" {
			name = "portcullis-policy." + of + "." + kind.name + "-" + strings.ToLower(as.String())
		}
		g.to.Objects = append(g.to.Objects, g.policy(name, selector, kind, lines), binding(name, as))
	}
}

// validation is what a policy requires, and what it says otherwise. It reads a variable of a rule.
type validation struct {
	rule     rule
	variable variable
	message  string
}

// as returns what a rule requires in a policy of an enforcement. What was so before a change is never refused.
func (r rule) as(as, atMost check.Enforcement) []validation {
	enact := r.enact
	if atMost != 0 {
		enact = min(enact, atMost)
	}
	now, then := "variables.now_"+r.name, "variables.then_"+r.name
	stood := "(variables.inherited || x.k in " + then + ")"
	code := ""
	if r.code != "" {
		code = " (" + string(r.code) + ")"
	}
	switch {
	case enact == as && as != check.Deny:
		first := now + "[0].s"
		x := strings.ReplaceAll(stood, "x.k", now+"[0].k")
		return []validation{{rule: r, variable: variable{"all_" + r.name, now}, message: first + " + (" + x + " ? " + celString("; "+report.PreExisting) + " : '') + " + celString(code)}}
	case enact == check.Deny && as == check.Deny:
		fresh := variable{"fresh_" + r.name, now + ".filter(x, !" + stood + ")"}
		return []validation{{rule: r, variable: fresh, message: "variables." + fresh.name + "[0].s + " + celString(code)}}
	case enact == check.Deny && as == check.Warn:
		old := variable{"stood_" + r.name, now + ".filter(x, " + stood + ")"}
		return []validation{{rule: r, variable: old, message: "variables." + old.name + "[0].s + " + celString("; "+report.PreExisting+code)}}
	default:
		return nil
	}
}

// policy puts the variables that its validations need in front of them.
func (g *generator) policy(name string, selector *v1alpha1.LabelSelector, kind subjectKind, lines []validation) *admissionregistrationv1.ValidatingAdmissionPolicy {
	fail, match := admissionregistrationv1.Fail, admissionregistrationv1.Equivalent
	p := &admissionregistrationv1.ValidatingAdmissionPolicy{
		TypeMeta: metav1.TypeMeta{APIVersion: admissionregistrationv1.SchemeGroupVersion.String(), Kind: "ValidatingAdmissionPolicy"},
	}
	p.ObjectMeta = hooks.ObjectMeta()
	p.Name = name
	p.Spec.FailurePolicy = &fail // of an expression that fails: nothing is called that could be down
	p.Spec.MatchConstraints = &admissionregistrationv1.MatchResources{
		NamespaceSelector: g.selected(selector), ResourceRules: kind.rules, MatchPolicy: &match,
	}
	p.Spec.MatchConditions = kind.conditions
	variables := kind.variables
	variables = append(variables, variable{"inherited", kind.inherited})
	for _, l := range lines {
		r := l.rule
		variables = append(variables, variable{"$" + r.name, r.found},
			variable{"then_" + r.name, "request.operation == 'UPDATE' ? variables.old_" + r.name + ".map(x, x.k) : []"}, l.variable)
	}
	used := newNeeded(variables)
	for _, l := range lines {
		expression := "variables." + l.variable.name + ".size() == 0"
		used.need(expression + l.message)
		p.Spec.Validations = append(p.Spec.Validations, admissionregistrationv1.Validation{
			Expression: expression, MessageExpression: l.message, Message: title(l.rule.code),
		})
	}
	p.Spec.Variables = used.list()
	return p
}

// title is what is said where a sentence could not be made.
func title(code check.Code) string {
	e, ok := check.Lookup(code)
	if !ok {
		return "more ports than a policy can judge"
	}
	return e.Title + " (" + string(code) + ")"
}

// selected are the namespaces of a selector that are not excluded; nil selects all.
func (g *generator) selected(s *v1alpha1.LabelSelector) *metav1.LabelSelector {
	selector := hooks.Options{ExcludedNamespaces: g.ExcludedNamespaces}.NamespaceSelector()
	if s == nil {
		return selector
	}
	for key, value := range s.MatchLabels {
		if selector.MatchLabels == nil {
			selector.MatchLabels = map[string]string{}
		}
		selector.MatchLabels[key] = string(value)
	}
	for _, e := range s.MatchExpressions {
		r := metav1.LabelSelectorRequirement{Key: e.Key, Operator: metav1.LabelSelectorOperator(e.Operator)}
		for _, v := range e.Values {
			r.Values = append(r.Values, string(v))
		}
		selector.MatchExpressions = append(selector.MatchExpressions, r)
	}
	return selector
}

func binding(policy string, as check.Enforcement) *admissionregistrationv1.ValidatingAdmissionPolicyBinding {
	b := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{
		TypeMeta: metav1.TypeMeta{APIVersion: admissionregistrationv1.SchemeGroupVersion.String(), Kind: "ValidatingAdmissionPolicyBinding"},
	}
	b.ObjectMeta = hooks.ObjectMeta()
	b.Name = policy
	b.Spec.PolicyName = policy
	b.Spec.ValidationActions = []admissionregistrationv1.ValidationAction{admissionregistrationv1.ValidationAction(as.String())}
	return b
}

// Unseen is what no admission policy can see, a line each.
func Unseen() []string {
	return []string{
		"conflicts with other objects (PC0201, PC0202), what pods of several replicas need of nodes (PC0401, PC0402, PC0404), and what the rules on a node make of a host port (PC0603, PC0604)",
		"numbers are not chosen, and no limits of pools are counted (PC0308, PC0309, PC0314): that needs to know who holds what",
		"a port that the API server chose cannot be told from an explicit one (PC0305, nodePorts.explicitRequests), nor one that an update lost (PC0501)",
		"a Service that collides with itself, a nodePort on a type without node ports, and words in the wrong letter case: the API server refuses those by itself, in its own words (PC0103, PC0104, PC0106, PC0107)",
		"codes of severity info are not checked (PC0105, PC0503, PC0507, PC0509), nor wiring and nodes' addresses (PC0505, PC0506, PC0508)",
		"a pod, ReplicaSet or Job with a controller is warned about and never refused, whatever its controller's template says: the template was checked",
		"on a dry run a number that the API server may have made up (32769, or one above another of the Service) is not judged",
		"each check reports its first violation; a denial shows one check, and says 422 Invalid",
		"IPv4-mapped IPv6 addresses and all other spellings of an address are compared; a pod that is changed in flight is judged as it is stored",
	}
}
