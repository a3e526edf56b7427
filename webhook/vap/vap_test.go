package vap

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	configv1alpha1 "github.com/portcullis-k8s/portcullis/api/config/v1alpha1"
	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

func with[T any](object *T, edits ...func(*T)) *T {
	for _, edit := range edits {
		edit(object)
	}
	return object
}

func mustSettings(t testing.TB, config string) *extract.Settings {
	t.Helper()
	loaded, err := configv1alpha1.Load([]byte("apiVersion: config.portcullis.dev/v1alpha1\nkind: PortcullisConfiguration\n" + config))
	if err != nil {
		t.Fatal(err)
	}
	settings, err := extract.NewSettings(loaded)
	if err != nil {
		t.Fatal(err)
	}
	return settings
}

func apiRange(first, last int32) v1alpha1.PortRange {
	return v1alpha1.PortRange{Port: first, EndPort: &last}
}

// apiPool is a PortPool for everybody.
func apiPool(name string, first, last int32, edits ...func(*v1alpha1.PortPool)) *v1alpha1.PortPool {
	p := &v1alpha1.PortPool{}
	p.Name = name
	p.Spec.Ranges = []v1alpha1.PortRange{apiRange(first, last)}
	p.Spec.NamespaceSelector = &v1alpha1.LabelSelector{}
	return with(p, edits...)
}

// apiPolicy is a PortPolicy for the namespaces of team a.
func apiPolicy(name string, edits ...func(*v1alpha1.PortPolicy)) *v1alpha1.PortPolicy {
	p := &v1alpha1.PortPolicy{}
	p.Name = name
	p.Spec.NamespaceSelector = &v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"team": "a"}}
	return with(p, edits...)
}

func apiNodePorts(n v1alpha1.NodePortPolicy) func(*v1alpha1.PortPolicy) {
	return func(p *v1alpha1.PortPolicy) { p.Spec.NodePorts = &n }
}

func apiHostPorts(h v1alpha1.HostPortPolicy) func(*v1alpha1.PortPolicy) {
	return func(p *v1alpha1.PortPolicy) { p.Spec.HostPorts = &h }
}

func apiReserved(nodes *v1alpha1.LabelSelector, ranges ...v1alpha1.SocketRange) func(*v1alpha1.PortPolicy) {
	return func(p *v1alpha1.PortPolicy) {
		p.Spec.Reserved = append(p.Spec.Reserved, v1alpha1.ReservedPorts{Name: "lb", Ports: ranges, NodeSelector: nodes})
	}
}

func apiException(name string, expires *metav1.Time) func(*v1alpha1.PortPolicy) {
	return func(p *v1alpha1.PortPolicy) {
		p.Spec.Exceptions = append(p.Spec.Exceptions, v1alpha1.PolicyException{
			Name: name, Reason: "r", ExpiresAt: expires, ObjectSelector: &v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"app": "web"}},
		})
	}
}

func apiDenies(p *v1alpha1.PortPolicy) { p.Spec.Enforcement = v1alpha1.Deny }

// everyRule is a source that has every kind of rule.
func everyRule(t testing.TB) Source {
	host := func(p *v1alpha1.PortPool) { p.Spec.For = v1alpha1.HostPorts }
	loopback := v1alpha1.SocketRange{PortRange: apiRange(9100, 9100), Protocols: []v1alpha1.Protocol{"TCP"}, HostIPs: []v1alpha1.IPAddress{"127.0.0.1", "::1"}}
	wide := v1alpha1.SocketRange{PortRange: apiRange(8080, 8089), HostIPs: []v1alpha1.IPAddress{"0.0.0.0", "::"}}
	return Source{
		Settings: mustSettings(t, "reservedLocalPorts: 40000-40010\n"),
		Pools: []*v1alpha1.PortPool{
			apiPool("edge", 30000, 30009, func(p *v1alpha1.PortPool) {
				p.Spec.ServiceSelector = &v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"expose": "edge"}}
			}),
			apiPool("old", 30010, 30019, func(p *v1alpha1.PortPool) { p.Spec.State = v1alpha1.PoolDraining }),
			apiPool("off", 30020, 30029, func(p *v1alpha1.PortPool) { p.Spec.State = v1alpha1.PoolDisabled }),
			apiPool("limited", 30030, 30039, func(p *v1alpha1.PortPool) { p.Spec.Limits = &v1alpha1.PortLimits{PerService: new(int32(1))} }),
			apiPool("games", 7000, 7009, host),
		},
		Policies: []*v1alpha1.PortPolicy{
			apiPolicy("a", apiNodePorts(v1alpha1.NodePortPolicy{Mode: v1alpha1.NodePortsForbidden}), apiHostPorts(v1alpha1.HostPortPolicy{Mode: v1alpha1.HostPortsForbidden})),
			apiPolicy("b", apiDenies, apiNodePorts(v1alpha1.NodePortPolicy{Mode: v1alpha1.NodePortsRestricted, Allowed: []v1alpha1.PortRange{apiRange(30000, 30009)}}),
				apiHostPorts(v1alpha1.HostPortPolicy{Mode: v1alpha1.HostPortsRestricted, Allowed: []v1alpha1.SocketRange{loopback, wide, {PortRange: apiRange(1, 2)}, {PortRange: apiRange(5, 5)}}, HostNetwork: v1alpha1.Forbidden})),
			apiPolicy("c", apiNodePorts(v1alpha1.NodePortPolicy{Mode: v1alpha1.NodePortsPoolOnly, LoadBalancerNodePorts: v1alpha1.Forbidden, ExplicitRequests: v1alpha1.Forbidden})),
			apiPolicy("d", apiReserved(&v1alpha1.LabelSelector{}, loopback, wide), apiReserved(&v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"n": "1"}}, loopback),
				apiException("for ever", nil), apiException("for a while", new(metav1.Unix(100, 0))), apiException("ended", new(metav1.Unix(1, 0)))),
		},
		ExcludedNamespaces: []string{"kube-system"},
		Now:                time.Unix(50, 0),
	}
}

// raised lists admission policies, each with the codes that it raises.
func raised(t testing.TB, objects []runtime.Object) []string {
	t.Helper()
	var list []string
	for _, o := range objects {
		p, is := o.(*admissionregistrationv1.ValidatingAdmissionPolicy)
		if !is {
			continue
		}
		var codes []string
		for _, v := range p.Spec.Validations {
			code := strings.Trim(regexp.MustCompile(`\(PC\d{4}\)`).FindString(v.Message), "()")
			codes = append(codes, cmp.Or(code, "uncertain")) // more ports than it looks at
		}
		slices.Sort(codes)
		list = append(list, p.Name+": "+strings.Join(slices.Compact(codes), " "))
	}
	return list
}

func mustValidating(t testing.TB, s Source) *Policies {
	t.Helper()
	made, err := s.Validating()
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// TestValidatingPolicyCodes: there is one policy for each enforcement, with the codes that the configuration, the pools and
// the PortPolicies enforce so. What Deny refuses is warned about where it was the case before.
func TestValidatingPolicyCodes(t *testing.T) {
	bare := func(config string) Source { return Source{Settings: mustSettings(t, config)} }
	atMost := bare("")
	atMost.AtMost = check.Warn
	lists := func(lines ...string) []string { return lines }
	for _, c := range []struct {
		name   string
		source Source
		want   []string
	}{
		{"defaults", bare(""), lists(
			"portcullis-pods-deny: PC0101 PC0102 PC0302 PC0403 uncertain",
			"portcullis-pods-warn: PC0101 PC0102 PC0302 PC0303 PC0304 PC0403 PC0504 uncertain",
			"portcullis-services-deny: PC0301 PC0302 uncertain",
			"portcullis-services-warn: PC0104 PC0301 PC0302 PC0304 PC0306 PC0502 uncertain",
		)},
		{"onUncertain Warn", bare("onUncertain: Warn\n"), lists(
			"portcullis-pods-deny: PC0101 PC0102 PC0302 PC0403",
			"portcullis-pods-warn: PC0101 PC0102 PC0302 PC0303 PC0304 PC0403 PC0504 uncertain",
			"portcullis-services-deny: PC0301 PC0302",
			"portcullis-services-warn: PC0104 PC0301 PC0302 PC0304 PC0306 PC0502 uncertain",
		)},
		{"no daemons and a code audited", bare("nodeReserved: []\nenforcement: {PC0303: Audit, PC0101: Warn}\n"), lists(
			"portcullis-pods-deny: PC0102 PC0302 PC0403 uncertain",
			"portcullis-pods-warn: PC0101 PC0102 PC0302 PC0304 PC0403 PC0504 uncertain",
			"portcullis-pods-audit: PC0303",
			"portcullis-services-deny: PC0301 PC0302 uncertain",
			"portcullis-services-warn: PC0104 PC0301 PC0302 PC0304 PC0306 PC0502 uncertain",
		)},
		{"at most Warn", atMost, lists(
			"portcullis-pods-warn: PC0101 PC0102 PC0302 PC0303 PC0304 PC0403 PC0504 uncertain",
			"portcullis-services-warn: PC0104 PC0301 PC0302 PC0304 PC0306 PC0502 uncertain",
		)},
		{"every rule", everyRule(t), lists(
			"portcullis-pods-deny: PC0101 PC0102 PC0302 PC0403 uncertain",
			"portcullis-pods-warn: PC0101 PC0102 PC0302 PC0303 PC0304 PC0403 PC0504 uncertain",
			"portcullis-pods-audit: PC0307",
			"portcullis-services-deny: PC0301 PC0302 uncertain",
			"portcullis-services-warn: PC0104 PC0301 PC0302 PC0304 PC0306 PC0502 uncertain",
			"portcullis-services-audit: PC0307",
			"portcullis-policy.a.pods-audit: PC0311",
			"portcullis-policy.a.services-audit: PC0310",
			"portcullis-policy.b.pods-deny: PC0311",
			"portcullis-policy.b.pods-warn: PC0311",
			"portcullis-policy.b.services-deny: PC0310",
			"portcullis-policy.b.services-warn: PC0310",
			"portcullis-policy.c.services-audit: PC0310",
			"portcullis-policy.d.pods-audit: PC0312",
		)},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := gocmp.Diff(c.want, raised(t, mustValidating(t, c.source).Objects)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestPolicyCodes: what is documented as raised by admission policies is what is raised.
func TestPolicyCodes(t *testing.T) {
	var all []string
	for _, line := range raised(t, mustValidating(t, everyRule(t)).Objects) {
		_, codes, _ := strings.Cut(line, ": ")
		all = append(all, slices.DeleteFunc(strings.Fields(codes), func(code string) bool { return code == "uncertain" })...)
	}
	slices.Sort(all)
	var want []string
	for _, code := range Codes() {
		want = append(want, string(code))
	}
	slices.Sort(want)
	if diff := gocmp.Diff(want, slices.Compact(all)); diff != "" {
		t.Errorf("(-documented +raised):\n%s", diff)
	}
}

// TestValidatingPolicyObjects: each policy has its binding behind it, which does what its name says.
func TestValidatingPolicyObjects(t *testing.T) {
	made := mustValidating(t, everyRule(t))
	if len(made.Objects) == 0 || len(made.Objects)%2 != 0 {
		t.Fatalf("%d objects", len(made.Objects))
	}
	for i := 0; i < len(made.Objects); i += 2 {
		p := made.Objects[i].(*admissionregistrationv1.ValidatingAdmissionPolicy)
		b := made.Objects[i+1].(*admissionregistrationv1.ValidatingAdmissionPolicyBinding)
		if b.Spec.PolicyName != p.Name || len(b.Spec.ValidationActions) != 1 || !strings.HasSuffix(p.Name, "-"+strings.ToLower(string(b.Spec.ValidationActions[0]))) {
			t.Errorf("%s is bound by %+v", p.Name, b.Spec)
		}
		if *p.Spec.FailurePolicy != admissionregistrationv1.Fail || *p.Spec.MatchConstraints.MatchPolicy != admissionregistrationv1.Equivalent {
			t.Errorf("%s: %+v", p.Name, p.Spec)
		}
		selector := p.Spec.MatchConstraints.NamespaceSelector
		if len(selector.MatchExpressions) != 1 || !slices.Contains(selector.MatchExpressions[0].Values, "kube-system") {
			t.Errorf("%s: excluded namespaces are judged: %+v", p.Name, selector)
		}
		if ofPolicy := strings.HasPrefix(p.Name, "portcullis-policy."); ofPolicy != (selector.MatchLabels["team"] == "a") {
			t.Errorf("%s: %+v", p.Name, selector)
		}
	}
}

// TestValidatingPolicyVariables: an expression reads variables that stand before it, every variable is read, and nothing
// is left of what the expressions are made from.
func TestValidatingPolicyVariables(t *testing.T) {
	reads := func(expression string) (names []string) {
		for _, m := range regexp.MustCompile(`variables\.(\w+)`).FindAllStringSubmatch(expression, -1) {
			names = append(names, m[1])
		}
		return names
	}
	texts := regexp.MustCompile(`'(\\.|[^'\\])*'`)
	for _, o := range mustValidating(t, everyRule(t)).Objects {
		p, is := o.(*admissionregistrationv1.ValidatingAdmissionPolicy)
		if !is {
			continue
		}
		defined, used := map[string]bool{}, map[string]bool{}
		check := func(where, expression string) {
			for _, name := range reads(expression) {
				used[name] = true
				if !defined[name] {
					t.Errorf("%s, %s reads %s, which is not defined before it", p.Name, where, name)
				}
			}
			code := texts.ReplaceAllString(expression, "''")
			if strings.ContainsAny(code, "$⟨⟩") || strings.Count(code, "(") != strings.Count(code, ")") || strings.Count(code, "[") != strings.Count(code, "]") ||
				strings.Contains(expression, "⟨") || strings.Contains(expression, "%!") || strings.Contains(expression, fmt.Sprint(somePort)) {
				t.Errorf("%s, %s: %s", p.Name, where, expression)
			}
		}
		for _, v := range p.Spec.Variables {
			check(v.Name, v.Expression)
			if defined[v.Name] {
				t.Errorf("%s defines %s twice", p.Name, v.Name)
			}
			defined[v.Name] = true
		}
		for _, v := range p.Spec.Validations {
			check("a validation", v.Expression)
			check("a message", v.MessageExpression)
		}
		for name := range defined {
			if !used[name] {
				t.Errorf("%s never reads %s", p.Name, name)
			}
		}
	}
}

// TestValidatingPolicyUnseen: what admission policies cannot do is named, an entry for each.
func TestValidatingPolicyUnseen(t *testing.T) {
	s := everyRule(t)
	s.Settings = mustSettings(t, "enforcement: {PC0201: Warn, PC0301: Warn}\n")
	var subjects []string
	for _, line := range mustValidating(t, s).Unseen {
		subject, _, _ := strings.Cut(line, ":")
		subjects = append(subjects, strings.Join(strings.Fields(subject)[:min(2, len(strings.Fields(subject)))], " "))
	}
	want := []string{"PortPool edge", "PortPool games", "PortPool limited", "PortPool limited", "PortPolicy c", "PortPolicy d", "PortPolicy d", "PortPolicy d", "enforcement.PC0201 has"}
	slices.Sort(want)
	slices.Sort(subjects)
	if diff := gocmp.Diff(want, subjects); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(Unseen()) == 0 {
		t.Error("nothing is beyond admission policies")
	}
}

// TestValidatingPolicyErrors: a pool or PortPolicy that the API server would have refused is named.
func TestValidatingPolicyErrors(t *testing.T) {
	for want, s := range map[string]Source{
		"PortPool p: ":   {Pools: []*v1alpha1.PortPool{apiPool("p", 30001, 30000)}},
		"PortPolicy p: ": {Policies: []*v1alpha1.PortPolicy{apiPolicy("p", func(p *v1alpha1.PortPolicy) { p.Spec.Enforcement = "Perhaps" })}},
	} {
		s.Settings = mustSettings(t, "")
		if _, err := s.Validating(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// TestMutatingPolicy: the policy that writes hostIP lets pods pass if it fails, and quotes the address.
func TestMutatingPolicy(t *testing.T) {
	objects := Source{ExcludedNamespaces: []string{"kube-system"}}.Mutating("0.0.0.0")
	p := objects[0].(*admissionregistrationv1.MutatingAdmissionPolicy)
	b := objects[1].(*admissionregistrationv1.MutatingAdmissionPolicyBinding)
	if len(objects) != 2 || b.Spec.PolicyName != p.Name || *p.Spec.FailurePolicy != admissionregistrationv1.Ignore {
		t.Errorf("%+v", objects)
	}
	expression := p.Spec.Mutations[0].JSONPatch.Expression
	if strings.Count(expression, "value: '0.0.0.0'") != 2 || strings.Count(expression, "(") != strings.Count(expression, ")") {
		t.Error(expression)
	}
	if !slices.Contains(p.Spec.MatchConstraints.NamespaceSelector.MatchExpressions[0].Values, "kube-system") {
		t.Errorf("%+v", p.Spec.MatchConstraints.NamespaceSelector)
	}
}

// TestSelectors: label selectors as CEL.
func TestSelectors(t *testing.T) {
	is := func(key string, operator v1alpha1.LabelSelectorOperator, values ...v1alpha1.LabelValue) *v1alpha1.LabelSelector {
		return &v1alpha1.LabelSelector{MatchExpressions: []v1alpha1.LabelSelectorRequirement{{Key: key, Operator: operator, Values: values}}}
	}
	for _, c := range []struct {
		selector *v1alpha1.LabelSelector
		want     string
	}{
		{nil, "true"},
		{&v1alpha1.LabelSelector{}, "true"},
		{&v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"b": "2", "a": "1"}}, "(('a' in l && l['a'] == '1') && ('b' in l && l['b'] == '2'))"},
		{is("a", v1alpha1.OperatorIn, "1", "2"), "(('a' in l && l['a'] in ['1', '2']))"},
		{is("a", v1alpha1.OperatorNotIn, "1"), "(!('a' in l && l['a'] in ['1']))"},
		{is("a", v1alpha1.OperatorExists), "('a' in l)"},
		{is("a", v1alpha1.OperatorDoesNotExist), "(!('a' in l))"},
	} {
		if got := selects(c.selector, "l"); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
	g := generator{Source: Source{ExcludedNamespaces: []string{"x"}}}
	want := &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
		{Key: "kubernetes.io/metadata.name", Operator: "NotIn", Values: []string{"x"}}, {Key: "a", Operator: "In", Values: []string{"1"}},
	}}
	if diff := gocmp.Diff(want, g.selected(is("a", v1alpha1.OperatorIn, "1"))); diff != "" {
		t.Error(diff)
	}
}

// TestExpressions: texts, ranges and addresses as CEL.
func TestExpressions(t *testing.T) {
	address := func(text string) ports.Address {
		a, err := ports.ParseAddress(text)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	for _, c := range []struct{ got, want string }{
		{celString(`it's a \`), `'it\'s a \\'`},
		{celStrings([]string{"a", "b'"}), `['a', 'b\'']`},
		{anyOf(nil), "false"},
		{anyOf([]string{"a", "b"}), "(a || b)"},
		{within(), "false"},
		{within(ports.Range{First: 1, Last: 1}, ports.Range{First: 3, Last: 5}), "(e.n == 1 || (e.n >= 3 && e.n <= 5))"},
		{choice("c", "a", "a"), "a"},
		{choice("c", "a", "b"), "(c ? a : b)"},
		{spelled(address("")), ""},
		{spelled(address("0.0.0.0")), celAllIPv4},
		{spelled(address("::")), celAllIPv6},
		{spelled(address("2001:db8::1")), "62001:db8::1"},
		{spelled(address("192.0.2.1")), "4::fffe:c000:201"},
		{takes(nil), "false"},
		{takes([]check.SocketRange{{Range: ports.Range{First: 1, Last: 1}, Addresses: []ports.Address{address("0.0.0.0")}}}), "(((e.n == 1) && (('4::fffe:0:0' == e.w || '4::fffe:0:0' == '' || e.w == '' || '4::fffe:0:0' == '4::fffe:0:0' && e.w.startsWith('4') || e.w == '4::fffe:0:0' && '4::fffe:0:0'.startsWith('4') || '4::fffe:0:0' == '6::' && e.w.startsWith('6') || e.w == '6::' && '4::fffe:0:0'.startsWith('6')))))"},
		{areAllowed(nil), "false"},
		{areAllowed([]check.SocketRange{{Range: ports.Range{First: 1, Last: 1}, Protocols: []ports.Protocol{ports.UDP}}}), "(((e.n == 1) && e.p in ['UDP']))"},
		{check.BriefRanges([]check.SocketRange{{Range: ports.Range{First: 1, Last: 1}}, {Range: ports.Range{First: 2, Last: 2}}, {Range: ports.Range{First: 3, Last: 3}}, {Range: ports.Range{First: 4, Last: 4}}}), "1, 2, 3 and 1 more"},
		{title("PC9999"), "more ports than a policy can judge"},
	} {
		if c.got != c.want {
			t.Errorf("got %s, want %s", c.got, c.want)
		}
	}
}
