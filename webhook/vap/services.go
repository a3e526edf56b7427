package vap

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// What a policy looks at of one Service: as maxPolicyPorts.
const (
	maxPolicyNumbers = 600 // node ports
	maxPolicyEntries = 200 // port entries that are compared with each other
)

// subjectServices is the Services.
//
// On a dry run the API server makes numbers up: 32769, or one more than the highest that it was given (k8s.io/kubernetes
// pkg/registry/core/service/portallocator AllocateNext). What may be such a one is not judged.
func subjectServices() subjectKind {
	h := hooks.ValidateServices()
	k := subjectKind{name: "services", conditions: h.Conditions, inherited: "false"}
	for _, r := range h.Rules {
		k.rules = append(k.rules, admissionregistrationv1.NamedRuleWithOperations{RuleWithOperations: r})
	}
	const mayBeMadeUp = "request.?dryRun.orValue(false) && !(e.n in variables.had) && (e.n == 32769 || (e.n - 1) in $plain)"
	k.variables = []variable{
		{"now_object", "dyn(object)"},
		{"old_object", "dyn(oldObject)"},
		{"$labels", "$object.metadata.?labels.orValue({})"},
		{"$type", "$object.spec.?type.orValue('ClusterIP')"},
		{"$ports", "$object.spec.?ports.orValue([])"},
		{"$healthCheck", "$type == 'LoadBalancer' && $object.spec.?externalTrafficPolicy.orValue('') == 'Local' ? $object.spec.?healthCheckNodePort.orValue(0) : 0"},
		{"$all", "($healthCheck > 0 ? [" + number("'spec.healthCheckNodePort'", "$healthCheck", "'TCP'", "true") + "] : []) + ($type in ['NodePort', 'LoadBalancer'] ? " +
			"$ports.transformList(i, p, p.?nodePort.orValue(0) > 0, " + number("'spec.ports[' + string(i) + '].nodePort'", "p.nodePort", "p.?protocol.orValue('TCP')", "false") + ") : [])"},
		{"had", "request.operation == 'UPDATE' ? variables.old_all.map(e, e.n) : []"},
		{"$plain", "$all.map(e, e.n)"},
		{"$counted", fmt.Sprintf("$all.size() > %d ? [] : $all", maxPolicyNumbers)},
		{"$judged", "$counted.filter(e, !(" + mayBeMadeUp + "))"},
		{"$madeUp", "$counted.filter(e, " + mayBeMadeUp + ")"},
	}
	return k
}

// number is a number of the API server's book.
func number(field, n, protocol, isHealthCheck string) string {
	return fmt.Sprintf("{'f': dyn(%s), 'n': dyn(%s), 'p': dyn(%s), 'h': dyn(%s)}", field, n, protocol, isHealthCheck)
}

// eachNumber makes CEL of a finding whose words differ between nodePort and healthCheckNodePort.
func eachNumber(f check.Finding, holes map[string]string) string {
	if f.Field == "" {
		f.Field = "⟨f⟩"
	}
	if _, missing := f.Detail.(check.MissingPort); !missing {
		f.Claim.Port, f.Claim.Protocol = somePort, ports.TCP
	}
	f.Claim.Kind = ports.NodePort
	nodePort := said(f, holes)
	f.Claim.Kind = ports.HealthCheckNodePort
	return choice("e.h", said(f, holes), nodePort)
}

const numberKey = "string(e.n) + '/' + e.p"

// serviceRules are the checks of Services that look at one object only, and that the API server does not answer
// itself before any policy is asked.
func (g *generator) serviceRules() []rule {
	s := &g.Settings.Check
	ignored := check.Finding{Code: check.NodePortWithoutUse, Case: check.NodePortIsIgnored, Field: "⟨f⟩", Detail: check.UnusedPort{Port: somePort}}
	list := []rule{
		g.manyNumbers(),
		{code: ignored.Code, name: "pc0104", enact: g.enforced(ignored), found: finding("($type != 'ExternalName' ? [] : $ports.transformList(i, p, p.?nodePort.orValue(0) > 0, "+
			number("'spec.ports[' + string(i) + '].nodePort'", "p.nodePort", "''", "false")+"))", "string(e.n)", said(ignored, nil))},
		g.rule(check.CreateRefuses, split()),
		g.rule(check.DaemonSocket, g.nodePortDaemons()),
	}
	if r := s.NodePortRange; !r.IsEmpty() {
		list = append(list,
			g.rule(check.OutsideRange, finding("$judged.filter(e, !"+within(r)+" && !(e.n in variables.had))", numberKey,
				eachNumber(check.Finding{Code: check.OutsideRange, Detail: check.PortRange{Range: r}}, nil))),
			g.rule(check.OutsideSmaller, finding("$judged.filter(e, !"+within(r)+" && e.n in variables.had)", numberKey,
				eachNumber(check.Finding{Code: check.OutsideSmaller, Detail: check.PortRange{Range: r}}, nil))))
	}
	if r := s.Ephemeral; !r.IsEmpty() {
		list = append(list, g.rule(check.InEphemeral, finding("$judged.filter(e, "+within(r)+" && !"+within(s.ReservedLocal...)+")", numberKey,
			eachNumber(check.Finding{Code: check.InEphemeral, Detail: check.PortRange{Range: r}}, nil))))
	}
	return list
}

func (g *generator) manyNumbers() rule {
	r := g.manyPorts()
	r.found = fmt.Sprintf("$all.size() > %d ? [{'k': 'many', 's': %s}] : []", maxPolicyNumbers,
		celString(fmt.Sprintf("spec.ports: more than %d node ports, which a policy cannot judge; split the Service, or install the webhook", maxPolicyNumbers)))
	return r
}

// split asks for one number of two ports, which an update may have and no create.
func split() string {
	const other = "q.?nodePort.orValue(0) == p.nodePort && j < i && (q.port != p.port || $ports.filter(o, o.port == p.port && o.?nodePort.orValue(0) > 0)[0].nodePort != p.nodePort)"
	entries := fmt.Sprintf("(request.operation != 'UPDATE' || $type == 'ExternalName' || $ports.size() > %d ? [] : "+
		"$ports.transformList(i, p, p.?nodePort.orValue(0) > 0 && $ports.exists(j, q, %s), "+
		"{'f': 'spec.ports[' + string(i) + '].nodePort', 'n': string(p.nodePort), 'j': string($ports.transformList(j, q, %s, j)[0])}))", maxPolicyEntries, other, other)
	return finding(entries, "e.n", said(check.Finding{Code: check.CreateRefuses, Field: "⟨f⟩", Detail: check.Sibling{Field: "spec.ports[⟨j⟩]", Value: "⟨n⟩"}}, map[string]string{"j": "e.j"}))
}

// nodePortDaemons asks for node ports that are a daemon's socket, on the addresses on which node ports are served.
func (g *generator) nodePortDaemons() string {
	var all []string
	for _, r := range g.Settings.Check.ReservedEverywhere() {
		families := func(on func(ipv4, ipv6 bool) []ports.Address) string {
			var names []string
			if slices.ContainsFunc(on(true, false), r.Socket.Address.Overlaps) {
				names = append(names, "IPv4")
			}
			if slices.ContainsFunc(on(false, true), r.Socket.Address.Overlaps) {
				names = append(names, "IPv6")
			}
			return celStrings(names)
		}
		served := choice("e.h", families(g.Settings.NodePorts.HealthChecksOn), families(g.Settings.NodePorts.On))
		text := eachNumber(check.Finding{Code: check.DaemonSocket, Holder: &check.Holder{Ref: ports.Ref{Kind: check.DaemonKind, Name: r.Name}}}, nil)
		all = append(all, finding(fmt.Sprintf("$judged.filter(e, e.n == %d && e.p == '%s' && $object.spec.?ipFamilies.orValue([]).exists(f, f in %s))",
			r.Socket.Port, r.Socket.Protocol, served), numberKey+" + "+celString(r.Name), text))
	}
	if len(all) == 0 {
		return "[{'k': '', 's': ''}].filter(x, false)"
	}
	return strings.Join(all, " + ")
}

// nodePorts are the rules about Services of a PortPolicy.
func (p policyRules) nodePorts() []rule {
	n := p.NodePorts
	var rules []rule
	found := func(entries, key string, f check.Finding, holes map[string]string) string {
		f.Code = check.PolicyNodePort
		f.Holder, f.Remark = &check.Holder{Ref: ports.Ref{Kind: "PortPolicy", Name: p.Name}}, p.Message
		f.Object.Namespace = "⟨ns⟩"
		all := map[string]string{"ns": "request.namespace", "v": "e.v"}
		maps.Copy(all, holes)
		return finding(entries, key, eachNumber(f, all))
	}
	ask := func(found string) {
		rules = append(rules, p.rule(check.PolicyNodePort, fmt.Sprintf("pc0310_%d", len(rules)), found))
	}
	add := func(entries, key string, f check.Finding, holes map[string]string) {
		ask(found(entries, key, f, holes))
	}
	if n.NoLoadBalancers {
		allocates := "$type == 'LoadBalancer' && $object.spec.?allocateLoadBalancerNodePorts.orValue(true)"
		// One rule: a Service that had numbers of its own and is to be given more had some before.
		ask(found("["+number("''", "0", "''", "false")+"].filter(e, "+allocates+")", "'load balancer'",
			check.Finding{Case: check.LoadBalancerNumber, Field: "spec.allocateLoadBalancerNodePorts"}, nil) + " + " +
			found("($type == 'LoadBalancer' && !("+allocates+") ? $all.filter(e, !e.h) : [])", "'load balancer'",
				check.Finding{Case: check.LoadBalancerNumber, Field: "⟨f⟩.nodePort"}, map[string]string{"f": "e.f.replace('.nodePort', '')"}))
	}
	switch n.Mode {
	case check.ModeForbidden:
		add("$all", "'none ' + string(e.n)", check.Finding{Case: check.NoNodePorts}, nil)
	case check.ModeRestricted:
		add("$judged.filter(e, !"+within(n.Allowed...)+")", "string(e.n)", check.Finding{Case: check.NumberNotAllowed, Detail: check.AllowedPorts{Ports: n.Allowed.String()}}, nil)
	case check.ModePoolOnly:
		pooled, serving, given := p.pooled()
		add("$madeUp.filter(e, !"+given+")", "'none given'", check.Finding{Case: check.NumberOfNoPool, Detail: check.MissingPort{}}, nil)
		// One rule: what was of no pool before is no news, whichever pool would serve the Service now.
		ask(found("("+serving+" == '' ? $judged.filter(e, !"+pooled+") : [])", "string(e.n)", check.Finding{Case: check.NumberOfNoPool}, nil) + " + " +
			found("("+serving+" != '' ? $judged.filter(e, !"+pooled+") : [])", "string(e.n)", check.Finding{Case: check.NumberOfNoPool, Detail: check.ServingPool{Name: "⟨v⟩"}}, map[string]string{"v": serving}))
	case check.ModeAllowed, check.ModeNodeAddressesForbidden:
	}
	if n.NoWritten {
		p.unseen("PortPolicy %s: nodePorts.explicitRequests has no effect: when a policy is asked, the API server has chosen the numbers that are not written", p.Name)
	}
	return rules
}

// pooled is the condition that a number is of a pool that selects the Service, the name of the pool that serves it or ”, and the
// condition that one gives it numbers that it does not name.
func (g *generator) pooled() (condition, serving, given string) {
	var conditions, auto []string
	serving = "''"
	for _, m := range slices.Backward(g.pools.Members()) {
		if m.For != pool.NodePorts || m.State == pool.Disabled {
			continue
		}
		if len(m.Effective) > 0 {
			conditions = append(conditions, "("+within(m.Effective...)+" && "+g.selectsBy(m)+")")
		}
		if m.State == pool.Active {
			if m.Mode == pool.Auto {
				auto = append(auto, g.selectsBy(m))
			}
			serving = "(" + g.selectsBy(m) + " ? " + celString(m.Name) + " : " + serving + ")"
		}
	}
	return anyOf(conditions), serving, anyOf(auto)
}

// selectsBy is the condition that a pool serves the object.
func (g *generator) selectsBy(m *pool.Member) string {
	i := slices.IndexFunc(g.Pools, func(o *v1alpha1.PortPool) bool { return o.Name == m.Name })
	spec := g.Pools[i].Spec
	condition := selects(spec.NamespaceSelector, namespaceLabels)
	if spec.ServiceSelector != nil {
		condition += " && " + selects(spec.ServiceSelector, "$labels")
	}
	return "(" + condition + ")"
}

// poolRules check whether numbers belong to pools of others. Only exclusive pools mind.
func (g *generator) poolRules(about func() subjectKind) []rule {
	const key = "string(e.n)" // pools know numbers only
	kind, entries, words := pool.NodePorts, "$judged", eachNumber
	if about().name == "pods" {
		kind, entries, words = pool.HostPorts, "$lasting", eachKind
	}
	var rules []rule
	for _, m := range g.pools.Members() {
		if m.For != kind || !m.Exclusive || len(m.Effective) == 0 {
			continue
		}
		who := pool.Requester{For: kind, Namespace: "⟨ns⟩"}
		f, chosen := check.Finding{Code: check.ForeignPool}, kind == pool.NodePorts
		f.Enforcement = m.Enforcement
		enact := g.enforced(f)
		of := entries + ".filter(e, " + within(m.Effective...)
		f.Detail = check.PoolObjection{Err: &pool.ForeignError{Port: somePort, Pool: m, Requester: who}, Chosen: chosen}
		found := finding(of+" && !"+g.selectsBy(m)+")", "'foreign ' + "+key, words(f, map[string]string{"ns": "request.namespace"}))
		if m.State == pool.Draining {
			f.Detail = check.PoolObjection{Err: &pool.DrainingError{Port: somePort, Pool: m, Requester: who}, Chosen: chosen}
			is := " && " + g.selectsBy(m)
			if kind == pool.NodePorts {
				is += " && !(e.n in variables.had)"
			}
			found += " + " + finding(of+is+")", "'draining ' + "+key, words(f, map[string]string{"ns": "request.namespace"}))
		}
		rules = append(rules, rule{code: f.Code, name: fmt.Sprintf("pc0307_%d", len(rules)), found: found, enact: enact})
	}
	return rules
}

// unseenPools tells what pools ask for that needs a replica.
func (g *generator) unseenPools() {
	for _, m := range g.pools.Members() {
		if m.PerNamespace > 0 || m.PerService > 0 {
			g.unseen("PortPool %s: limits have no effect: a policy sees one object, not what others hold", m.Name)
		}
		if m.State == pool.Active && m.Mode == pool.Auto {
			g.unseen("PortPool %s: allocates nothing: the API server chooses a port, and the Service is rejected if that port belongs to another pool", m.Name)
		}
	}
}
