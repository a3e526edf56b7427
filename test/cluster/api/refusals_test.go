package api

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// bad is a change that makes an object one that must be refused: the value in one field, or nothing in it.
type bad struct {
	kind, path, value string
	field, message    string // of the refusal; the message in part
}

// created are objects that cannot be made.
func created() []bad {
	return []bad{
		{"PortPool", "metadata.name", strings.Repeat("a", 64), "", "metadata.name must have at most 63 characters"},
		{"PortPool", "metadata.name", "auto", "", "metadata.name must not be auto"},
		{"PortPool", "spec.ranges", `[{port: 30199, endPort: 30100}, {port: 30100, endPort: 30103}]`, "spec.ranges[0].endPort", "endPort must not be less than port; swap the two"},
		{"PortPool", "spec.ranges", `[{port: 30100, endPort: 30199}, {port: 30199, endPort: 30200}]`, "spec.ranges", "ranges must not overlap; join"},
		{"PortPool", "spec.ranges", `[{port: 30100, endPort: 30199}, {port: 30150}]`, "spec.ranges", "ranges must not overlap; join"},
		{"PortPool", "spec.ranges", `[{port: 30100, endPort: 30199}, {port: 30100, endPort: 30199}]`, "spec.ranges", "ranges must not overlap; join"},
		{"PortPool", "spec.allocation.explicitOnly", `[{port: 30103, endPort: 30100}]`, "spec.allocation.explicitOnly[0].endPort", "endPort must not be less than port; swap the two"},
		{"PortPool", "spec.allocation.explicitOnly", `[{port: 30099}]`, "spec.allocation.explicitOnly", "must lie inside the pool"},
		{"PortPool", "spec.allocation.explicitOnly", `[{port: 30190, endPort: 30200}]`, "spec.allocation.explicitOnly", "must lie inside the pool"},
		{"PortPool", "spec.allocation.explicitOnly", `[{port: 30100}, {port: 30901}]`, "spec.allocation.explicitOnly", "must lie inside the pool"},
		{"PortPool", "spec.allocation.reuseDelay", `25h`, "spec.allocation.reuseDelay", "from 0s to 24h"},
		{"PortPool", "spec.allocation.reuseDelay", `1d`, "spec.allocation.reuseDelay", "such as 90s, 10m or 1h30m"},
		{"PortPool", "spec.for", `HostPorts`, "spec.serviceSelector", "serviceSelector chooses Services"},
		{"PortPool", "spec.for", `HostPorts`, "spec.limits.perService", "or use limits.perNamespace"},
		{"PortPool", "spec.for", `HostPorts`, "spec.allocation.reuseDelay", "has no effect on a pool for HostPorts"},

		{"PortPolicy", "metadata.name", strings.Repeat("a", 64), "", "metadata.name must have at most 63 characters"},
		{"PortPolicy", "spec", `{namespaceSelector: {}, message: hello}`, "spec", "spec restricts nothing; give at least one of nodePorts, hostPorts, externalIPs and reserved"},
		{"PortPolicy", "spec.nodePorts.mode", `PoolOnly`, "spec.nodePorts.allowed", "allowed must be given for the mode Restricted, and for no other"},
		{"PortPolicy", "spec.nodePorts.allowed", ``, "spec.nodePorts.allowed", "allowed must be given for the mode Restricted, and for no other"},
		{"PortPolicy", "spec.nodePorts.allowed[0].endPort", `29999`, "spec.nodePorts.allowed[0].endPort", "endPort must not be less than port"},
		{"PortPolicy", "spec.hostPorts.mode", `Forbidden`, "spec.hostPorts.allowed", "allowed must be given for the mode Restricted, and for no other"},
		{"PortPolicy", "spec.hostPorts.mode", ``, "spec.hostPorts.allowed", "allowed must be given for the mode Restricted, and for no other"},
		{"PortPolicy", "spec.hostPorts.allowed[0].endPort", `8079`, "spec.hostPorts.allowed[0].endPort", "endPort must not be less than port"},
		{"PortPolicy", "spec.hostPorts.allowed[0].hostIPs", `["::1", localhost]`, "spec.hostPorts.allowed[0].hostIPs[1]", "must be an IP address, such as 127.0.0.1 or ::1"},
		{"PortPolicy", "spec.reserved[0].ports[0].endPort", `1`, "spec.reserved[0].ports[0].endPort", "endPort must not be less than port"},
		{"PortPolicy", "spec.reserved[0].ports[0].hostIPs", `["10.0.0.0/8"]`, "spec.reserved[0].ports[0].hostIPs[0]", "must be an IP address"},
		{"PortPolicy", "spec.exceptions", `[{name: all, reason: because}]`, "spec.exceptions[0]", "exceptions need a namespaceSelector or an objectSelector, or both; add one"},

		{"PortClaim", "metadata.name", `np-30101`, "", "metadata.name must be np- and the number of spec.port, such as np-30100"},
		{"PortClaim", "metadata.name", `np-030100`, "", "metadata.name must be np- and the number of spec.port"},
		{"PortClaim", "spec.port", `30101`, "", "metadata.name must be np- and the number of spec.port"},
		{"PortClaim", "spec.service", `{namespace: payments}`, "spec.service", "service needs a name or a generateName"},
	}
}

// inSelector are values that no selector can have, wherever it stands.
func inSelector(kind, path string) []bad {
	return []bad{
		{kind, path, `{matchLabels: {a b: c}}`, path + ".matchLabels", "matchLabels has a key that no label can have"},
		{kind, path, `{matchLabels: {a: b c}}`, path + ".matchLabels[a]", "is a value that no label can have"},
		{kind, path, `{matchExpressions: [{key: a b, operator: Exists}]}`, path + ".matchExpressions[0].key", "key is one that no label can have"},
		{kind, path, `{matchExpressions: [{key: a, operator: In, values: [b, -c]}]}`, path + ".matchExpressions[0].values[1]", "is a value that no label can have"},
		{kind, path, `{matchExpressions: [{key: a, operator: In}]}`, path + ".matchExpressions[0].values", "values must be given for the operators In and NotIn, and for no other"},
		{kind, path, `{matchExpressions: [{key: a, operator: Exists, values: [b]}]}`, path + ".matchExpressions[0].values", "values must be given for the operators In and NotIn, and for no other"},
	}
}

// changed are changes that cannot be made to what is stored.
func changed() []bad {
	const claim = "spec cannot be changed, but for filling in service.name while it is empty"
	return []bad{
		{"PortPool", "spec.for", `HostPorts`, "spec.for", "for cannot be changed"},
		{"PortClaim", "spec.pool", `other`, "spec", claim},
		{"PortClaim", "spec.requestedAt", `"2026-01-02T03:04:06Z"`, "spec", claim},
		{"PortClaim", "spec.portName", `http`, "spec", claim},
		{"PortClaim", "spec.portName", ``, "spec", claim},
		{"PortClaim", "spec.service.namespace", `other`, "spec", claim},
		{"PortClaim", "spec.service.generateName", `other-`, "spec", claim},
		{"PortClaim", "spec.service.generateName", ``, "spec", claim},
		{"PortClaim", "spec.service.name", `gw-other`, "spec.service.name", "service.name cannot be changed once it is set"},
		{"PortClaim", "spec.service.name", ``, "spec.service.name", "service.name cannot be changed once it is set"},
	}
}

// inStatus are statuses that cannot be written.
func inStatus() []bad {
	return []bad{
		{"PortPool", "status.effectiveRanges[1].endPort", `30899`, "status.effectiveRanges[1].endPort", "endPort must not be less than port"},
		{"PortClaim", "status", `{phase: Bound}`, "status.serviceUID", "serviceUID must be given in the phase Bound"},
		{"PortClaim", "status", `{phase: Released}`, "status.releasedAt", "releasedAt must be given in the phase Released, and in no other"},
		{"PortClaim", "status", `{phase: Requested, releasedAt: "2026-01-02T03:04:05Z"}`, "status.releasedAt", "releasedAt must be given in the phase Released, and in no other"},
		{"PortClaim", "status", `{releasedAt: "2026-01-02T03:04:05Z"}`, "status.releasedAt", "releasedAt must be given in the phase Released, and in no other"},
	}
}

// testRefusals: the API server refuses what breaks one of our rules, in our words and at the right field, and there is
// no rule that nothing here breaks.
func (s *server) testRefusals(t *testing.T) {
	untried := map[located]bool{}
	stored := map[string]*unstructured.Unstructured{}
	creating := created()
	for kind, sch := range schemas(t) {
		maps.Copy(untried, rulesOf(kind, sch))
		stored[kind] = s.create(t, full(t, kind))
		sch.walk(func(path string, sub *schema) {
			if sub.Properties["matchExpressions"] != nil {
				creating = append(creating, inSelector(kind, strings.ReplaceAll(path, "[]", "[0]"))...)
			}
		})
	}
	refused := func(b bad, u *unstructured.Unstructured, err error) {
		all := causes(t, err)
		found := false
		for _, c := range all {
			for at := range untried {
				if at.kind == b.kind && at.path == plain(c.Field) && strings.HasSuffix(c.Message, ": "+at.rule.Message) {
					delete(untried, at)
				}
			}
			found = found || anyOf(c.Field, b.field) && strings.Contains(c.Message, b.message)
		}
		if !found {
			t.Errorf("%s %s with %s: %q: got\n%s\nwant\n  %s: %s", b.kind, u.GetName(), b.path, b.value, describe(all), b.field, b.message)
		}
	}
	for _, b := range creating {
		u := s.changedBy(t, full(t, b.kind), b)
		if !strings.HasPrefix(b.path, "metadata") && b.kind != "PortClaim" {
			u.SetName("another")
		}
		refused(b, u, s.tryStore(t, u, nil))
	}
	for _, b := range changed() {
		u := s.changedBy(t, stored[b.kind].DeepCopy(), b)
		refused(b, u, s.tryStore(t, u, stored[b.kind]))
	}
	for _, b := range inStatus() {
		u := s.changedBy(t, stored[b.kind].DeepCopy(), b)
		refused(b, u, s.tryStatus(t, u, stored[b.kind]))
	}
	for _, at := range slices.SortedFunc(maps.Keys(untried), compareLocated) {
		t.Errorf("nothing here breaks the rule of %s at %q: %s", at.kind, at.path, at.rule.Message)
	}
}

func (s *server) changedBy(t *testing.T, u *unstructured.Unstructured, b bad) *unstructured.Unstructured {
	t.Helper()
	if b.value == "" {
		set(t, u.Object, b.path, absent{})
	} else {
		set(t, u.Object, b.path, parse(t, b.value))
	}
	return u
}

// anyOf reports whether a cause is about a field. The API server writes <nil> for the whole object.
func anyOf(field, want string) bool { return field == want || want == "" && field == "<nil>" }
