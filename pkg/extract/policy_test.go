package extract_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
)

// bySelector compares selectors by what they tell of themselves; nil is "nobody".
func bySelector() cmp.Option {
	return cmp.Transformer("selector", func(s pool.Selector) string {
		if s == nil {
			return "nobody"
		}
		return "{" + s.String() + "}"
	})
}

// policyOf wraps the parts of a policy's spec into one that selects every namespace.
func policyOf(spec string) *v1alpha1.PortPolicy {
	return mustRead[v1alpha1.PortPolicy]("{metadata: {name: p}, spec: {namespaceSelector: {}, " + spec + "}}")
}

func TestPolicy(t *testing.T) {
	const whole = `{
  metadata: {name: p},
  spec: {
    namespaceSelector: {matchExpressions: [{key: team, operator: NotIn, values: [a, b]}]}, enforcement: Deny,
    nodePorts: {mode: Restricted, allowed: [{port: 30005, endPort: 30009}, {port: 30000, endPort: 30004}], explicitRequests: Forbidden, loadBalancerNodePorts: Forbidden},
    hostPorts: {mode: Restricted, allowed: [{port: 80, protocols: [TCP, UDP]}, {port: 9100, endPort: 9101, hostIPs: ["127.0.0.1", "0:0::1"]}], hostNetwork: Forbidden, nodePortRange: Allowed},
    externalIPs: NodeAddressesForbidden,
    reserved: [{name: proxy, ports: [{port: 443}], nodeSelector: {matchLabels: {edge: ""}}, reason: r}, {name: x, ports: [{port: 1}], nodeSelector: {}}],
    exceptions: [{name: byNamespace, namespaceSelector: {matchLabels: {team: c}}, reason: r, expiresAt: "2027-01-31T01:00:00+01:00"}, {name: byLabel, objectSelector: {}, reason: r}],
    message: see there}}`
	p, err := extract.Policy(mustRead[v1alpha1.PortPolicy](whole))
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	tell := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	tell("%s %s %q for %s", p.Name, p.Enforcement, p.Message, p.Namespaces)
	tell("%s %s %v %v", p.NodePorts.Mode, p.NodePorts.Allowed, p.NodePorts.NoWritten, p.NodePorts.NoLoadBalancers)
	tell("%s %s %v %v", p.HostPorts.Mode, p.HostPorts.Allowed, p.HostPorts.NoHostNetwork, p.HostPorts.NoNodePortRange)
	tell("%s", p.ExternalIPs)
	for _, r := range p.Reserved {
		tell("%s %s on {%s}, %q", r.Name, r.Sockets, r.Nodes, r.Reason)
	}
	for _, x := range p.Exceptions {
		tell("%s ends %v %s", x.Name, !x.Ends.IsZero(), x.Ends.UTC().Format(time.RFC3339))
	}
	want := []string{
		`p Deny "see there" for team notin (a,b)`,
		"Restricted 30000-30009 true true",
		"Restricted [80/TCP,UDP 9100-9101 on 127.0.0.1,::1] true false",
		"NodeAddressesForbidden",
		`proxy [443] on {edge=}, "r"`, `x [1] on {}, ""`,
		"byNamespace ends true 2027-01-31T00:00:00Z", "byLabel ends false 0001-01-01T00:00:00Z",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n, o := p.Exceptions[0], p.Exceptions[1]; n.Objects != nil || o.Namespaces != nil || !n.Namespaces.Matches(map[string]string{"team": "c"}) || !o.Objects.Matches(nil) {
		t.Errorf("exceptions %v", p.Exceptions)
	}
}

// TestPolicyDefaults are those of the API server.
func TestPolicyDefaults(t *testing.T) {
	p, err := extract.Policy(policyOf("nodePorts: {}, hostPorts: {}"))
	want := check.Policy{
		Name: "p", Enforcement: check.Audit, NodePorts: &check.NodePortRule{Mode: check.ModeAllowed},
		HostPorts: &check.HostPortRule{Mode: check.ModeAllowed, NoNodePortRange: true}, ExternalIPs: check.ModeAllowed, Namespaces: p.Namespaces,
	}
	if diff := cmp.Diff(want, p, bySelector()); diff != "" || err != nil || p.Namespaces.String() != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

// TestPolicyDoesNotWrite: the object may be a cache's.
func TestPolicyDoesNotWrite(t *testing.T) {
	object := policyOf("hostPorts: {}")
	before := object.DeepCopy()
	if _, err := extract.Policy(object); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, object); diff != "" {
		t.Errorf("written to (-before +after):\n%s", diff)
	}
}

// TestPolicyErrors: what the API server would refuse is refused by its field, for files.
func TestPolicyErrors(t *testing.T) {
	for spec, want := range map[string]string{
		"enforcement: deny":                                                         `spec.enforcement: enforcement "deny" is not one of Deny, Warn, Audit`,
		"nodePorts: {mode: Pool}":                                                   `spec.nodePorts.mode: "Pool" is not one of [Allowed Restricted PoolOnly Forbidden]`,
		"nodePorts: {mode: Restricted}":                                             "spec.nodePorts.allowed: must be given for the mode Restricted",
		"nodePorts: {allowed: [{port: 1}]}":                                         "spec.nodePorts.allowed: must be given for the mode Restricted, and for no other",
		"nodePorts: {mode: Restricted, allowed: [{port: 2, endPort: 1}]}":           "spec.nodePorts.allowed: [0]: 2-1 is not a range of ports",
		"nodePorts: {explicitRequests: Never}":                                      `spec.nodePorts.explicitRequests: "Never" is not one of [Allowed Forbidden]`,
		"nodePorts: {loadBalancerNodePorts: Never}":                                 "spec.nodePorts.loadBalancerNodePorts: ",
		"hostPorts: {mode: PoolOnly}":                                               "spec.hostPorts.mode: ",
		"hostPorts: {hostNetwork: Never}":                                           "spec.hostPorts.hostNetwork: ",
		"hostPorts: {nodePortRange: Never}":                                         "spec.hostPorts.nodePortRange: ",
		"hostPorts: {mode: Restricted}":                                             "spec.hostPorts.allowed: must be given",
		"hostPorts: {mode: Restricted, allowed: [{port: 1}, {port: 70000}]}":        "spec.hostPorts.allowed: [1]: 70000-70000 is not a range of ports",
		"hostPorts: {mode: Restricted, allowed: [{port: 1, protocols: [tcp]}]}":     "spec.hostPorts.allowed[0].protocols[0]: ",
		"hostPorts: {mode: Restricted, allowed: [{port: 1, hostIPs: [localhost]}]}": `spec.hostPorts.allowed[0].hostIPs[0]: "localhost" is not an IP address`,
		`hostPorts: {mode: Restricted, allowed: [{port: 1, hostIPs: [""]}]}`:        `spec.hostPorts.allowed[0].hostIPs[0]: "" is not an IP address`,
		"externalIPs: Never":                                                        `spec.externalIPs: "Never" is not one of`,
		"reserved: [{name: x, ports: [{port: 1}]}]":                                 "spec.reserved[0].nodeSelector: is required; write {} to select all",
		"reserved: [{name: x, ports: [{port: 0}], nodeSelector: {}}]":               "spec.reserved[0].ports: [0]: 0-0 is not a range of ports",
		"exceptions: [{name: x, reason: r}]":                                        "spec.exceptions[0].namespaceSelector: an exception needs one",
		"exceptions: [{name: x, reason: r, objectSelector: {matchExpressions: [{key: a, operator: in, values: [b]}]}}]":    "spec.exceptions[0].objectSelector: is no label selector",
		"exceptions: [{name: x, reason: r, namespaceSelector: {matchExpressions: [{key: a, operator: in, values: [b]}]}}]": "spec.exceptions[0].namespaceSelector: is no label selector",
	} {
		if _, err := extract.Policy(policyOf(spec)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", spec, err, want)
		}
	}
	none := mustRead[v1alpha1.PortPolicy]("{metadata: {name: p}, spec: {nodePorts: {mode: Forbidden}}}")
	if _, err := extract.Policy(none); err == nil || !strings.HasPrefix(err.Error(), "spec.namespaceSelector: is required") {
		t.Errorf("without a selector: %v", err)
	}
}
