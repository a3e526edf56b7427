package admission

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/extract/specimen"
	"github.com/portcullis-k8s/portcullis/test/lab/alone"
	"github.com/portcullis-k8s/portcullis/webhook/vap"
)

// restrictions draws configurations, PortPools and PortPolicies that the objects of alone.Draw meet.
type restrictions struct{ specimen.Source }

func (r restrictions) source(t *testing.T) vap.Source {
	t.Helper()
	s := alone.Source(t, r.config(), "")
	for i := range r.IntN(4) {
		s.Pools = append(s.Pools, r.pool(fmt.Sprintf("pool-%d", i)))
	}
	for len(s.Policies) < r.IntN(3) {
		p := r.policy(fmt.Sprintf("policy-%d", len(s.Policies)))
		if _, err := extract.Policy(p); err == nil { // else the API server would not take it
			s.Policies = append(s.Policies, p)
		}
	}
	return s
}

func (r restrictions) chance(n int) bool { return r.IntN(n) == 0 }

func (r restrictions) enforcement() v1alpha1.Enforcement {
	return alone.OneOf(r.Source, v1alpha1.Deny, v1alpha1.Deny, v1alpha1.Warn, v1alpha1.Audit)
}

// config is the text of a configuration.
func (r restrictions) config() string {
	lines := []string{"apiVersion: config.portcullis.dev/v1alpha1", "kind: PortcullisConfiguration"}
	maybe := func(name string, values ...string) {
		if r.chance(2) {
			lines = append(lines, name+": "+alone.OneOf(r.Source, values...))
		}
	}
	maybe("nodePortRange", `"30000-32767"`, `"30000-30199"`, `"8000-32767"`)
	maybe("ephemeralPortRange", `"32768-60999"`, `"30000-45000"`)
	maybe("reservedLocalPorts", `"40000-40009"`, `"30062,45000"`, `""`)
	maybe("onUncertain", "Deny", "Warn")
	maybe("trustedNamespaces", "[]", "[ns-0, ns-1]")
	maybe("disclosure", "Full", "SameNamespace")
	if r.chance(3) {
		lines = append(lines, "nodeReserved: []")
	} else if r.chance(2) {
		var all []string
		numbers := []int{8080, 9000, 10250, 30102, 31998, 31999, 30500}
		r.Shuffle(len(numbers), func(i, j int) { numbers[i], numbers[j] = numbers[j], numbers[i] })
		for i, name := range []string{"kubelet", "proxy", "six", "kube-proxy_2"}[:1+r.IntN(4)] {
			all = append(all, fmt.Sprintf(`{name: "%s", port: %d, hostIP: "%s", protocol: %s}`, name, numbers[i],
				alone.OneOf(r.Source, "", "0.0.0.0", "::", "127.0.0.1", "::1", "10.0.0.1", "fd00::1"), alone.OneOf(r.Source, "TCP", "TCP", "UDP")))
		}
		lines = append(lines, "nodeReserved: ["+strings.Join(all, ", ")+"]")
	}
	var enforced []string
	for _, code := range vap.Codes() {
		if r.chance(3) {
			enforced = append(enforced, fmt.Sprintf("%s: %s", code, r.enforcement()))
		}
	}
	lines = append(lines, "enforcement: {"+strings.Join(enforced, ", ")+"}")
	lines = append(lines, fmt.Sprintf("dataplane: {serviceProxy: %s, hostPort: %s, nodePortAddresses: [%s], localhostNodePorts: %v}",
		alone.OneOf(r.Source, "iptables", "ipvs", "nftables"), alone.OneOf(r.Source, "portmap-iptables", "portmap-nftables"),
		alone.OneOf(r.Source, "", "primary", `"10.0.0.0/8"`, `"10.0.0.0/8", "fd00::/8"`, `"127.0.0.0/8"`), r.chance(2)))
	return strings.Join(lines, "\n") + "\n"
}

func (r restrictions) ranges() []v1alpha1.PortRange {
	var all []v1alpha1.PortRange
	for range 1 + r.IntN(3) {
		first := alone.OneOf[int32](r.Source, 80, 8080, 9000, 7000, 30062, 30100, 30104, 30150, 30300, 30400, 31990, 32001, 40000)
		p := v1alpha1.PortRange{Port: first}
		if r.chance(2) {
			p.EndPort = new(first + int32(r.IntN(200)))
		}
		all = append(all, p)
	}
	return all
}

func (r restrictions) sockets() []v1alpha1.SocketRange {
	var all []v1alpha1.SocketRange
	for _, p := range r.ranges() {
		s := v1alpha1.SocketRange{PortRange: p}
		if r.chance(3) {
			s.Protocols = alone.OneOf(r.Source, []v1alpha1.Protocol{"TCP"}, []v1alpha1.Protocol{"UDP"}, []v1alpha1.Protocol{"TCP", "UDP"})
		}
		if r.chance(3) {
			s.HostIPs = alone.OneOf(r.Source, []v1alpha1.IPAddress{"0.0.0.0"}, []v1alpha1.IPAddress{"0.0.0.0", "::"}, []v1alpha1.IPAddress{"10.0.0.1", "::1"},
				[]v1alpha1.IPAddress{"::"}, []v1alpha1.IPAddress{"127.0.0.1"}, []v1alpha1.IPAddress{"::ffff:10.0.0.1"})
		}
		all = append(all, s)
	}
	return all
}

// selector matches some of alone.Places, or some of the labels of alone.Draw's objects.
func (r restrictions) selector(key string, values ...v1alpha1.LabelValue) *v1alpha1.LabelSelector {
	requirement := func(o v1alpha1.LabelSelectorOperator, values ...v1alpha1.LabelValue) *v1alpha1.LabelSelector {
		return &v1alpha1.LabelSelector{MatchExpressions: []v1alpha1.LabelSelectorRequirement{{Key: key, Operator: o, Values: values}}}
	}
	switch r.IntN(6) {
	case 0:
		return &v1alpha1.LabelSelector{}
	case 1:
		return requirement(v1alpha1.OperatorExists)
	case 2:
		return requirement(v1alpha1.OperatorDoesNotExist)
	case 3:
		return requirement(v1alpha1.OperatorIn, values[:1+r.IntN(len(values))]...)
	case 4:
		return requirement(v1alpha1.OperatorNotIn, values[:1+r.IntN(len(values))]...)
	default:
		return &v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{key: alone.OneOf(r.Source, values...)}}
	}
}

func (r restrictions) ofNamespaces() *v1alpha1.LabelSelector {
	if r.chance(2) {
		return r.selector("team", "a", "b", "games")
	}
	return r.selector("policy", "none", "some", "pools", "noisy")
}

func (r restrictions) ofObjects() *v1alpha1.LabelSelector {
	return alone.OneOf(r.Source, nil, r.selector("app", "web", "edge", "late", "soon"), r.selector("tier", "gold", "none"))
}

func (r restrictions) pool(name string) *v1alpha1.PortPool {
	p := &v1alpha1.PortPool{ObjectMeta: metav1.ObjectMeta{Name: name}}
	p.Spec = v1alpha1.PortPoolSpec{
		For: alone.OneOf(r.Source, v1alpha1.NodePorts, v1alpha1.NodePorts, v1alpha1.HostPorts), Ranges: r.ranges(), NamespaceSelector: r.ofNamespaces(),
		Sharing: alone.OneOf(r.Source, v1alpha1.Exclusive, v1alpha1.Exclusive, v1alpha1.Shared),
		State:   alone.OneOf(r.Source, v1alpha1.PoolActive, v1alpha1.PoolActive, v1alpha1.PoolDraining, v1alpha1.PoolDisabled), Enforcement: r.enforcement(),
	}
	if p.Spec.For == v1alpha1.NodePorts {
		p.Spec.ServiceSelector = r.ofObjects()
		p.Spec.Allocation.Mode = alone.OneOf(r.Source, v1alpha1.AllocateAuto, v1alpha1.AllocateExplicit)
	}
	if r.chance(2) {
		p.Spec.Priority = new(int32(r.IntN(3)))
	}
	return p
}

func (r restrictions) permission() v1alpha1.Permission {
	return alone.OneOf(r.Source, v1alpha1.Allowed, v1alpha1.Forbidden)
}

func (r restrictions) policy(name string) *v1alpha1.PortPolicy {
	p := &v1alpha1.PortPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}}
	p.Spec = v1alpha1.PortPolicySpec{NamespaceSelector: r.ofNamespaces(), Enforcement: r.enforcement(), ExternalIPs: v1alpha1.ExternalIPsAllowed}
	p.Spec.Message = alone.OneOf(r.Source, "", "ask the platform team", `it's 100% "forbidden": https://wiki.example/\ports`)
	if r.chance(2) {
		n := &v1alpha1.NodePortPolicy{
			Mode:             alone.OneOf(r.Source, v1alpha1.NodePortsAllowed, v1alpha1.NodePortsForbidden, v1alpha1.NodePortsPoolOnly, v1alpha1.NodePortsRestricted),
			ExplicitRequests: r.permission(), LoadBalancerNodePorts: r.permission(),
		}
		if n.Mode == v1alpha1.NodePortsRestricted {
			n.Allowed = r.ranges()
		}
		p.Spec.NodePorts = n
	}
	if r.chance(2) {
		h := &v1alpha1.HostPortPolicy{
			Mode:        alone.OneOf(r.Source, v1alpha1.HostPortsAllowed, v1alpha1.HostPortsForbidden, v1alpha1.HostPortsRestricted),
			HostNetwork: r.permission(), NodePortRange: r.permission(),
		}
		if h.Mode == v1alpha1.HostPortsRestricted {
			h.Allowed = r.sockets()
		}
		p.Spec.HostPorts = h
	}
	for i := range r.IntN(3) {
		p.Spec.Reserved = append(p.Spec.Reserved, v1alpha1.ReservedPorts{
			Name: fmt.Sprintf("reserved-%d", i), Ports: r.sockets(), NodeSelector: r.selector("gpu", "true"), Reason: alone.OneOf(r.Source, "", "the agent's"),
		})
	}
	for i := range r.IntN(3) {
		x := v1alpha1.PolicyException{Name: fmt.Sprintf("exception-%d", i), Reason: "r", NamespaceSelector: alone.OneOf(r.Source, nil, r.ofNamespaces()), ObjectSelector: r.ofObjects()}
		if ends := alone.OneOf(r.Source, 0, 2020, 2100); ends > 0 {
			x.ExpiresAt = &metav1.Time{Time: time.Date(ends, 1, 1, 0, 0, 0, 0, time.UTC)}
		}
		p.Spec.Exceptions = append(p.Spec.Exceptions, x)
	}
	return p
}
