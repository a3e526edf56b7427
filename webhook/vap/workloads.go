package vap

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// What a policy looks at of one object, so that CEL's limits of cost hold whatever the object is like: 10,000,000 for a
// policy and 1,000,000 for an expression (k8s.io/apiserver pkg/apis/cel). What goes beyond could not be judged.
const (
	maxPolicyPorts = 600 // of a pod that claim something of the node
	maxSamePorts   = 100 // of these, with a number that another one has
)

// subjectPods is the pods, and the objects with a pod template.
func subjectPods() subjectKind {
	judged := []hooks.Hook{hooks.ValidatePods(), hooks.ValidateWorkloads(), hooks.ValidateCronJobs()}
	k := subjectKind{
		name: "pods",
		conditions: hooks.Conditions(
			"not-a-mirror-pod", "request.kind.kind != 'Pod' || "+hooks.NotMirror,
			"has-host-ports", "[request.kind.kind == 'Pod' ? dyn(object) : request.kind.kind == 'CronJob' ? dyn(object).spec.jobTemplate.spec.template : dyn(object).spec.template]"+
				".exists(t, "+hooks.HasHostPorts("t")+")",
			"changed", "request.operation != 'UPDATE' || dyn(object).spec != dyn(oldObject).spec"),
		// As in pkg/extract a chain of controllers ends at what rolls itself out. Anybody may write an owner reference: that
		// there is such a controller is known where the controller manager makes the object.
		inherited: "!(request.kind.kind in ['Deployment', 'StatefulSet', 'DaemonSet', 'CronJob']) && " +
			"object.metadata.?ownerReferences.orValue([]).exists(o, o.?controller.orValue(false) && o.kind != 'Node') && " +
			"(request.userInfo.username == 'system:kube-controller-manager' || " +
			"request.userInfo.username.startsWith('system:serviceaccount:kube-system:') && request.userInfo.username.endsWith('-controller'))",
	}
	for _, h := range judged {
		for _, r := range h.Rules {
			k.rules = append(k.rules, admissionregistrationv1.NamedRuleWithOperations{RuleWithOperations: r})
		}
	}
	// A pod, a CronJob, and the others: where their template lies and what it is called.
	k.variables = []variable{
		{"now_object", "dyn(object)"},
		{"old_object", "dyn(oldObject)"},
		{"$template", "request.kind.kind == 'Pod' ? $object : request.kind.kind == 'CronJob' ? $object.spec.jobTemplate.spec.template : $object.spec.template"},
		{"prefix", "request.kind.kind == 'Pod' ? 'spec' : request.kind.kind == 'CronJob' ? 'spec.jobTemplate.spec.template.spec' : 'spec.template.spec'"},
		{"$spec", "$template.spec"},
		{"$labels", "$template.?metadata.?labels.orValue({})"},
		{"$hostNetwork", "$spec.?hostNetwork.orValue(false)"},
		{"$names", "$spec.containers.map(c, c.name) + $spec.?initContainers.orValue([]).map(c, c.name)"},
		{"$mains", container("containers", "false", "false", 1000000)},
		{"$inits", container("initContainers", "c.?restartPolicy.orValue('') != 'Always'", "c.?restartPolicy.orValue('') == 'Always'", 0)},
		{"$sized", "($mains + $inits).map(c, c.ports.filter(p, " + claims("p") + ").size()).sum()"},
		{"$entries", fmt.Sprintf("$sized > %d ? [] : ($mains + $inits).map(c, c.ports.transformList(j, p, %s, %s)).flatten()", maxPolicyPorts, claims("p"), portEntry())},
		{"$spelled", "$entries.map(e, e.a)"},
		{"$claims", "$entries.filter(e, e.w != '!')"},
		{"$lasting", "$claims.filter(e, !e.init)"}, // what is held for longer than a moment
		{"$mapped", "$lasting.filter(e, $hostNetwork || !e.sidecar)"},
		{"$order", "$lasting.filter(e, e.sidecar) + $lasting.filter(e, !e.sidecar)"},
		{"$numbers", "$claims.map(e, int(e.n) * 4 + (e.p == 'TCP' ? 0 : e.p == 'UDP' ? 1 : 2)).sort()"},
		{"$repeated", "$numbers.transformMapEntry(i, x, i > 0 && $numbers[i - 1] == x && (i < 2 || $numbers[i - 2] != x), {x: true})"},
		{"$same", "$claims.filter(e, (int(e.n) * 4 + (e.p == 'TCP' ? 0 : e.p == 'UDP' ? 1 : 2)) in $repeated)"},
	}
	return k
}

// container is the CEL of a list of containers with the place from which their ports are counted: init containers come first.
func container(list, isInit, isSidecar string, from int) string {
	return fmt.Sprintf("$spec.?%[1]s.orValue([]).transformList(i, c, {'at': dyn(variables.prefix + '.%[1]s[' + string(i) + '].ports['), "+
		"'ports': dyn(c.?ports.orValue([])), 'init': dyn(%[2]s), 'sidecar': dyn(%[3]s), 'o': dyn(%[4]d + i)})", list, isInit, isSidecar, from)
}

// claims is the condition that a port of a container claims something of the node.
func claims(p string) string {
	return fmt.Sprintf("%[1]s.?hostPort.orValue(0) > 0 || $hostNetwork && %[1]s.containerPort > 0", p)
}

// portEntry is a port p, the j-th of container c: its field, number, protocol, address as written, as text and in one spelling.
func portEntry() string {
	const ip = "p.?hostIP.orValue('')"
	const parts = ip + ".lowerAscii().split(':ffff:')"
	const last = parts + "[" + parts + ".size() - 1]"
	text := fmt.Sprintf("(%[1]s == '' || $hostNetwork && isIP(%[1]s) && ip(%[1]s).isUnspecified() && ip(%[1]s).family() == 6 ? '*' : "+
		"isIP(%[1]s) ? (ip(%[1]s).family() == 6 ? '[' + string(ip(%[1]s)) + ']' : %[1]s) : isIP(%[2]s) ? %[2]s : '[' + %[1]s + ']')", ip, last)
	return "{'b': dyn(c.at + string(j) + ']'), 'f': dyn(c.at + string(j) + '].' + (p.?hostPort.orValue(0) > 0 ? 'hostPort' : 'containerPort')), " +
		"'n': dyn(p.?hostPort.orValue(0) > 0 ? p.hostPort : p.containerPort), 'p': dyn(p.?protocol.orValue('TCP')), 'a': dyn(" + ip + "), " +
		"'t': dyn(" + text + "), 'w': dyn(" + spelling(ip, "$hostNetwork") + "), 'init': dyn(c.init), 'sidecar': dyn(c.sidecar), 'c': dyn(c.o), 'o': dyn(c.o * 100000 + j)}"
}

// eachKind makes CEL of a finding whose words differ between host ports and ports of the host network.
func eachKind(f check.Finding, holes map[string]string) string {
	f.Field = cmp.Or(f.Field, "⟨f⟩")
	f.Claim.Port, f.Claim.Protocol = somePort, ports.TCP
	f.Claim.Kind = ports.HostPort
	hostPort := said(f, holes)
	f.Claim.Kind = ports.HostNetwork
	return choice("$hostNetwork", said(f, holes), hostPort)
}

// choice is one of two expressions, or the one that both are.
func choice(condition, yes, no string) string {
	if yes == no {
		return yes
	}
	return "(" + condition + " ? " + yes + " : " + no + ")"
}

// entryKey is what makes a claim the same in two versions.
const entryKey = "string(e.n) + '/' + e.p + '/' + e.w"

// enforced is what the configuration does with a code.
func (g *generator) enforced(f check.Finding) check.Enforcement {
	f.Severity = check.SeverityOf(f.Code, f.Case)
	return g.Settings.Check.Enforce(f)
}

// workloadRules are the checks of pods and templates that look at one object only.
func (g *generator) workloadRules() []rule {
	s := &g.Settings.Check
	list := []rule{
		g.manyPorts(),
		g.rule(check.HostIPInvalid, finding("$entries.filter(e, e.w == '!')", "'! ' + e.a",
			said(check.Finding{Code: check.HostIPInvalid, Field: "⟨b⟩.hostIP", Detail: check.HostIPText{Text: "⟨a⟩", Port: "⟨socket⟩"}}, map[string]string{"b": "e.b", "a": "strings.quote(e.a)"}))),
		g.rule(check.SocketTwice, twice()),
		g.rule(check.DaemonSocket, daemons(s.ReservedEverywhere(), s.Trusted)),
		g.rule(check.NeverMapped, finding("($hostNetwork ? [] : $lasting.filter(e, e.sidecar))", entryKey,
			eachKind(check.Finding{Code: check.NeverMapped}, nil))),
		g.rule(check.SurgeInPlace, surge()),
	}
	if !s.NodePortRange.IsEmpty() {
		list = append(list, g.rule(check.InNodePorts, finding("$mapped.filter(e, "+within(s.NodePortRange)+")", entryKey,
			eachKind(check.Finding{Code: check.InNodePorts, Detail: check.PortRange{Range: s.NodePortRange}}, nil))))
	}
	if !s.Ephemeral.IsEmpty() {
		list = append(list, g.rule(check.InEphemeral, finding("$mapped.filter(e, "+within(s.Ephemeral)+" && !"+within(s.ReservedLocal...)+")", entryKey,
			eachKind(check.Finding{Code: check.InEphemeral, Detail: check.PortRange{Range: s.Ephemeral}}, nil))))
	}
	return list
}

func (g *generator) rule(code check.Code, found string) rule {
	return rule{code: code, name: strings.ToLower(string(code)), found: found, enact: g.enforced(check.Finding{Code: code})}
}

// manyPorts asks for what could not be judged.
func (g *generator) manyPorts() rule {
	r := rule{name: "uncertain", enact: check.Warn}
	if g.Settings.DenyUncertain {
		r.enact = check.Deny
	}
	r.found = fmt.Sprintf("$sized > %d || $same.size() > %d ? [{'k': 'many', 's': variables.prefix + %s}] : []", maxPolicyPorts, maxSamePorts,
		celString(fmt.Sprintf(".containers: more than %d ports, or more than %d with the number of another, claim something of the node, "+
			"which a policy cannot judge; split the pod, or install the webhook", maxPolicyPorts, maxSamePorts)))
	return r
}

// twice asks for what pkg/check calls a socket that is claimed twice: init containers come first, the plain ones among them
// one after the other.
func twice() string {
	earlier := "d.o < e.o && d.n == e.n && d.p == e.p && (e.init ? d.c == e.c || $hostNetwork && !d.init : !d.init) && " + overlap("d.w", "e.w")
	first := "$same.filter(d, " + earlier + ")"
	return fmt.Sprintf("$same.size() > %d ? [] : ", maxSamePorts) + finding("$same.filter(e, $same.exists(d, "+earlier+"))", entryKey,
		eachKind(check.Finding{Code: check.SocketTwice, Detail: check.Sibling{Field: "⟨d⟩"}},
			map[string]string{"socket": "e.t + ':' + string(e.n) + '/' + e.p", "d": first + "[0].f"}))
}

// daemons asks for sockets of the daemons of every node. Which nodes have the others no policy can know.
func daemons(reserved []check.Reserved, trusted []string) string {
	var all []string
	for _, r := range slices.SortedStableFunc(slices.Values(reserved), func(a, b check.Reserved) int { return cmp.Compare(a.Name, b.Name) }) {
		all = append(all, fmt.Sprintf("{'name': dyn(%s), 'n': dyn(%d), 'p': dyn(%s), 'w': dyn(%s)}",
			celString(r.Name), r.Socket.Port, celString(r.Socket.Protocol.String()), celString(spelled(r.Socket.Address))))
	}
	if len(all) == 0 {
		return "[{'k': '', 's': ''}].filter(x, false)"
	}
	text := eachKind(check.Finding{Code: check.DaemonSocket, Holder: &check.Holder{Ref: ports.Ref{Kind: check.DaemonKind, Name: "⟨r⟩"}}}, map[string]string{"r": "string(r.name)"})
	return "$lasting.map(e, [" + strings.Join(all, ", ") + "].filter(r, r.n == e.n && r.p == e.p && " + overlap("r.w", "e.w") +
		" && !($hostNetwork && r.name in $names && request.namespace in " + celStrings(trusted) + ")).map(r, {'k': " + entryKey + " + r.name, 's': " + text + "})).flatten()"
}

// surge asks for DaemonSets with a surge: a percentage of any number of nodes is rounded up.
func surge() string {
	const update = "$object.spec.?updateStrategy"
	has := "request.kind.kind == 'DaemonSet' && $order.size() > 0 && " + update + ".?type.orValue('') != 'OnDelete' && " +
		"!string(" + update + ".?rollingUpdate.?maxSurge.orValue(0)).matches('^0*%?$')"
	return "!(" + has + ") ? [] : " + finding("[$order[0]]", "'surge ' + "+entryKey,
		eachKind(check.Finding{Code: check.SurgeInPlace, Field: "spec.updateStrategy.rollingUpdate.maxSurge"}, nil))
}

// addPolicy makes policies of a PortPolicy.
func (g *generator) addPolicy(object *v1alpha1.PortPolicy, p check.Policy) {
	of := policyRules{g, &p, g.exceptions(object, p)}
	if rules := of.hostPorts(); len(rules) > 0 {
		g.add(p.Name, object.Spec.NamespaceSelector, subjectPods, rules)
	}
	if p.ExternalIPs != "" && p.ExternalIPs != check.ModeAllowed {
		g.unseen("PortPolicy %s: externalIPs is left to the webhook", p.Name)
	}
	if p.NodePorts != nil {
		g.add(p.Name, object.Spec.NamespaceSelector, subjectServices, of.nodePorts())
	}
}

// policyRules are the rules of one PortPolicy.
type policyRules struct {
	*generator
	*check.Policy
	excepted string // the condition that an exception is in force for the object
}

// namespaceLabels is what selectors of namespaces are matched with.
const namespaceLabels = "namespaceObject.metadata.?labels.orValue({})"

// exceptions is the condition that one of the exceptions is in force. CEL has no clock: the API server writes the time of a
// creation into the object before it asks, and for an update there is none.
func (g *generator) exceptions(object *v1alpha1.PortPolicy, p check.Policy) string {
	var conditions []string
	for i, x := range p.Exceptions {
		spec := object.Spec.Exceptions[i]
		if !x.Ends.IsZero() && !g.Now.Before(x.Ends) {
			g.unseen("PortPolicy %s: the exception %s has ended and is left out", p.Name, x.Name)
			continue
		}
		condition := selects(spec.NamespaceSelector, namespaceLabels) + " && " + selects(spec.ObjectSelector, "$labels")
		if ends := x.Ends; !ends.IsZero() {
			text := ends.UTC().Format(time.RFC3339)
			condition += fmt.Sprintf(" && (request.operation == 'UPDATE' || timestamp($object.metadata.creationTimestamp) < timestamp('%s'))", text)
			g.unseen("PortPolicy %s: the exception %s ends at %s for what is created; for updates, generate again then. Nobody is warned before (PC0313)", p.Name, x.Name, text)
		}
		conditions = append(conditions, "("+condition+")")
	}
	return anyOf(conditions)
}

// rule makes a rule of a finding of the policy.
func (p policyRules) rule(code check.Code, name, found string) rule {
	if p.excepted != "false" {
		found = "(" + p.excepted + ") ? [] : " + found
	}
	return rule{code: code, name: name, found: found, enact: p.enforced(check.Finding{Code: code, Enforcement: p.Enforcement})}
}

// told is the CEL of a finding of the policy about each of entries.
func (p policyRules) told(entries, key string, f check.Finding, holes map[string]string) string {
	f.Holder, f.Remark = &check.Holder{Ref: ports.Ref{Kind: "PortPolicy", Name: p.Name}}, p.Message
	f.Object.Namespace = "⟨ns⟩"
	all := map[string]string{"ns": "request.namespace"}
	maps.Copy(all, holes)
	return finding(entries, key, eachKind(f, all))
}

// hostPorts are the rules about pods.
func (p policyRules) hostPorts() []rule {
	var rules []rule
	add := func(code check.Code, found string) {
		rules = append(rules, p.rule(code, fmt.Sprintf("%s_%d", strings.ToLower(string(code)), len(rules)), found))
	}
	if h := p.HostPorts; h != nil {
		socket := map[string]string{"socket": "(e.w == '' ? '' : e.t + ':') + string(e.n) + '/' + e.p"}
		switch h.Mode {
		case check.ModeForbidden:
			add(check.PolicyHostPort, p.told("$claims", entryKey, check.Finding{Code: check.PolicyHostPort, Case: check.NoHostPorts}, nil))
		case check.ModeRestricted:
			add(check.PolicyHostPort, p.told("$claims.filter(e, !"+areAllowed(h.Allowed)+")", entryKey,
				check.Finding{Code: check.PolicyHostPort, Case: check.SocketNotAllowed, Detail: check.AllowedPorts{Ports: check.BriefRanges(h.Allowed)}}, socket))
		case check.ModeAllowed, check.ModePoolOnly, check.ModeNodeAddressesForbidden:
		}
		if r := p.Settings.Check.NodePortRange; h.NoNodePortRange && h.Mode != check.ModeForbidden && !r.IsEmpty() {
			add(check.PolicyHostPort, p.told("$claims.filter(e, "+within(r)+")", entryKey,
				check.Finding{Code: check.PolicyHostPort, Case: check.InRangeForbidden, Detail: check.PortRange{Range: r}}, nil))
		}
		if h.NoHostNetwork {
			add(check.PolicyHostPort, p.told("[{'f': variables.prefix + '.hostNetwork', 'n': '', 'p': ''}].filter(e, $hostNetwork)", "'hostNetwork'",
				check.Finding{Code: check.PolicyHostPort, Case: check.NoHostNetwork}, nil))
		}
	}
	for _, r := range p.Reserved {
		if r.Nodes == nil || r.Nodes.String() != "" {
			p.unseen("PortPolicy %s: reserved ports of %s hold on the nodes %s only, and no policy knows on which node a pod will be", p.Name, r.Name, r.Nodes)
			continue
		}
		add(check.PolicyReserved, p.told("$lasting.filter(e, "+takes(r.Sockets)+")", entryKey,
			check.Finding{Code: check.PolicyReserved, Case: check.ReservedAll, Detail: check.Reservation{Name: r.Name, Reason: r.Reason}}, nil))
	}
	return rules
}

// isOf is the condition that an entry's port and protocol are those of a range.
func isOf(r check.SocketRange) string {
	condition := within(r.Range)
	if len(r.Protocols) > 0 {
		var names []string
		for _, protocol := range r.Protocols {
			names = append(names, protocol.String())
		}
		condition += " && e.p in " + celStrings(names)
	}
	return condition
}

// takes is the condition that an entry takes some of the sockets.
func takes(sockets []check.SocketRange) string {
	var conditions []string
	for _, r := range sockets {
		condition := isOf(r)
		if len(r.Addresses) > 0 {
			var on []string
			for _, a := range r.Addresses {
				on = append(on, overlap(celString(spelled(a)), "e.w"))
			}
			condition += " && " + anyOf(on)
		}
		conditions = append(conditions, "("+condition+")")
	}
	return anyOf(conditions)
}

// areAllowed is the condition that ranges together allow all of an entry's socket: one on every address needs all of each
// family.
func areAllowed(ranges []check.SocketRange) string {
	var conditions, all4, all6 []string
	for _, r := range ranges {
		if len(r.Addresses) == 0 {
			conditions = append(conditions, "("+isOf(r)+")")
			continue
		}
		var on []string
		for _, a := range r.Addresses {
			switch a {
			case ports.AllIPv4():
				on, all4 = append(on, "e.w.startsWith('4')"), append(all4, "("+isOf(r)+")")
			case ports.AllIPv6():
				on, all6 = append(on, "e.w.startsWith('6')"), append(all6, "("+isOf(r)+")")
			default:
				on = append(on, "e.w == "+celString(spelled(a)))
			}
		}
		conditions = append(conditions, "("+isOf(r)+" && "+anyOf(on)+")")
	}
	if len(all4) > 0 && len(all6) > 0 {
		conditions = append(conditions, "(e.w == '' && "+anyOf(all4)+" && "+anyOf(all6)+")")
	}
	return anyOf(conditions)
}
