package webhook

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// portPolicy selects every namespace and enforces by Deny.
func portPolicy(name string, edits ...func(*check.Policy)) check.Policy {
	return *with(&check.Policy{Name: name, Namespaces: matching{}, Enforcement: check.Deny}, edits...)
}

func nodePorts(rule check.NodePortRule) func(*check.Policy) {
	return func(p *check.Policy) { p.NodePorts = &rule }
}

func hostPorts(rule check.HostPortRule) func(*check.Policy) {
	return func(p *check.Policy) { p.HostPorts = &rule }
}

func enforces(e check.Enforcement) func(*check.Policy) {
	return func(p *check.Policy) { p.Enforcement = e }
}

// except excepts a team until the given second.
func except(team string, until int64) func(*check.Policy) {
	return func(p *check.Policy) {
		p.Exceptions = append(p.Exceptions, check.Exception{Name: "x", Namespaces: matching{"team": team}, Ends: time.Unix(until, 0)})
	}
}

// teams are the namespaces default, of team a, and other, of team b.
func (b *bench) teams() *bench {
	b.cluster.labels = map[string]map[string]string{"default": {"team": "a"}, "other": {"team": "b"}}
	return b
}

// claimed is the claim of a nodePort by a Service of the namespace default.
func claimed(nodePort int32, service string, phase v1alpha1.ClaimPhase) *v1alpha1.PortClaim {
	c := &v1alpha1.PortClaim{Spec: v1alpha1.PortClaimSpec{Port: nodePort, Pool: "pool", Service: v1alpha1.ClaimingService{Namespace: "default", Name: service}}}
	c.Name, c.Status.Phase = v1alpha1.ClaimName(nodePort), phase
	return c
}

// claim puts claims into what the webhook has seen.
func (b *bench) claim(claims ...*v1alpha1.PortClaim) *bench {
	if b.cluster.claims == nil {
		b.cluster.claims = map[uint16]*v1alpha1.PortClaim{}
	}
	for _, c := range claims {
		b.cluster.claims[uint16(c.Spec.Port)] = c
	}
	return b
}

// TestPoolsRestrictServices: nodePorts of exclusive pools are for those whom their pool selects, up to its limits.
func TestPoolsRestrictServices(t *testing.T) {
	np := nodePortService
	ofB := portPool("pool", "30000-30009", serves("b"))
	for _, c := range []struct {
		name    string
		pools   []pool.Pool
		claims  []*v1alpha1.PortClaim
		service *corev1.Service
		old     *corev1.Service
		want    string
	}{
		{"no pools", nil, nil, np("a", 30001), nil, "allow"},
		{"of its own pool", []pool.Pool{portPool("pool", "30000-30009", serves("a"))}, nil, np("a", 30001), nil, "allow"},
		{"of a pool of others", []pool.Pool{ofB}, nil, np("a", 30001), nil, "deny: PC0307 spec.ports[0].nodePort by PortPool pool"},
		{"of a pool of others that warns", []pool.Pool{portPool("pool", "30000-30009", serves("b"), warns)}, nil, np("a", 30001), nil, "warn: PC0307 spec.ports[0].nodePort by PortPool pool"},
		{"of a pool of others that audits", []pool.Pool{portPool("pool", "30000-30009", serves("b"), audits)}, nil, np("a", 30001), nil, "allow: PC0307 spec.ports[0].nodePort by PortPool pool"},
		{"of a pool of others that is shared", []pool.Pool{portPool("pool", "30000-30009", serves("b"), sharedPool)}, nil, np("a", 30001), nil, "allow"},
		{"of no pool", []pool.Pool{ofB}, nil, np("a", 30020), nil, "allow"},
		{"of a pool for host ports", []pool.Pool{portPool("pool", "30000-30009", serves("b"), forHostPorts)}, nil, np("a", 30001), nil, "allow"},
		{"of a pool of others, by the Service's label", []pool.Pool{portPool("pool", "30000-30009", servesLabelled("tier", "web"))}, nil, np("a", 30001), nil, "deny: PC0307 spec.ports[0].nodePort by PortPool pool"},
		{"of its own pool, by the Service's label", []pool.Pool{portPool("pool", "30000-30009", servesLabelled("tier", "web"))}, nil, with(np("a", 30001), labelled("tier", "web")), nil, "allow"},
		{"health check of a pool of others", []pool.Pool{ofB}, nil, with(np("a", 30020), loadBalancer, local, healthCheck(30001)), nil, "deny: PC0307 spec.healthCheckNodePort by PortPool pool"},
		{"of a pool of others, from before", []pool.Pool{ofB}, nil, np("a", 30001), np("a", 30001), "warn: PC0307 spec.ports[0].nodePort by PortPool pool before"},
		{"of a draining pool", []pool.Pool{portPool("pool", "30000-30009", draining)}, nil, np("a", 30001), nil, "deny: PC0307 spec.ports[0].nodePort by PortPool pool"},
		{"of a draining pool, from before", []pool.Pool{portPool("pool", "30000-30009", draining)}, nil, np("a", 30001), np("a", 30001), "allow"},
		{"over the limit for a Service", []pool.Pool{portPool("pool", "30000-30009", limits(0, 1))}, nil, np("a", 30001, 30002), nil, "deny: PC0308 spec.ports[0].nodePort by PortPool pool"},
		{"over the limit for a namespace", []pool.Pool{portPool("pool", "30000-30009", limits(1, 0))}, []*v1alpha1.PortClaim{claimed(30002, "b", "Bound")}, np("a", 30001), nil, "deny: PC0308 spec.ports[0].nodePort by PortPool pool"},
		{"within the limit, as the claim is its own", []pool.Pool{portPool("pool", "30000-30009", limits(1, 0))}, []*v1alpha1.PortClaim{claimed(30001, "a", "Bound")}, np("a", 30001), nil, "allow"},
		{"over a limit that warns", []pool.Pool{portPool("pool", "30000-30009", limits(0, 1), warns)}, nil, np("a", 30001, 30002), nil, "warn: PC0308 spec.ports[0].nodePort by PortPool pool"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, "").teams().claim(c.claims...)
			b.cluster.pools = c.pools
			if got := outcome(b.decideOn(t, hooks.PathValidateServices, serviceCase{service: c.service, old: c.old}.request())); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestPoliciesRestrictServices: a Service must satisfy every policy that selects its namespace.
func TestPoliciesRestrictServices(t *testing.T) {
	np := nodePortService
	forbidden := nodePorts(check.NodePortRule{Mode: check.ModeForbidden})
	poolOnly := nodePorts(check.NodePortRule{Mode: check.ModePoolOnly})
	some := nodePorts(check.NodePortRule{Mode: check.ModeRestricted, Allowed: ports.Ranges{{First: 30000, Last: 30009}}})
	noneWritten := nodePorts(check.NodePortRule{Mode: check.ModeAllowed, NoWritten: true})
	noLoadBalancers := nodePorts(check.NodePortRule{Mode: check.ModeAllowed, NoLoadBalancers: true})
	ofB := func(p *check.Policy) { p.Namespaces = matching{"team": "b"} }
	pools := []pool.Pool{portPool("pool", "30000-30009", serves("a"))}
	const day = 24 * 60 * 60
	for _, c := range []struct {
		name    string
		policy  check.Policy
		pools   []pool.Pool
		service *corev1.Service
		old     *corev1.Service
		want    string
	}{
		{"no rule", portPolicy("p"), nil, np("a", 30001), nil, "allow"},
		{"forbidden", portPolicy("p", forbidden), nil, np("a", 30001), nil, "deny: PC0310 spec.ports[0].nodePort by PortPolicy p"},
		{"forbidden, and left out", portPolicy("p", forbidden), nil, np("a", 0), nil, "deny: PC0310 spec.ports[0].nodePort by PortPolicy p"},
		{"forbidden, no node ports", portPolicy("p", forbidden), nil, with(np("a", 0), serviceType("ClusterIP")), nil, "allow"},
		{"forbidden to another team", portPolicy("p", forbidden, ofB), nil, np("a", 30001), nil, "allow"},
		{"forbidden, from before", portPolicy("p", forbidden), nil, np("a", 30001), np("a", 30001), "warn: PC0310 spec.ports[0].nodePort by PortPolicy p before"},
		{"forbidden, warned", portPolicy("p", forbidden, enforces(check.Warn)), nil, np("a", 30001), nil, "warn: PC0310 spec.ports[0].nodePort by PortPolicy p"},
		{"forbidden, audited", portPolicy("p", forbidden, enforces(check.Audit)), nil, np("a", 30001), nil, "allow: PC0310 spec.ports[0].nodePort by PortPolicy p"},
		{"forbidden, excepted", portPolicy("p", forbidden, except("a", 100*day)), nil, np("a", 30001), nil, "allow"},
		{"forbidden, excepted until next week", portPolicy("p", forbidden, except("a", 7*day)), nil, np("a", 30001), nil, "warn: PC0313 spec.ports[0].nodePort by PortPolicy p"},
		{"forbidden, excepted until now", portPolicy("p", forbidden, except("a", 0)), nil, np("a", 30001), nil, "deny: PC0310 spec.ports[0].nodePort by PortPolicy p; PC0313 spec.ports[0].nodePort by PortPolicy p"},
		{"forbidden, another excepted", portPolicy("p", forbidden, except("b", 100*day)), nil, np("a", 30001), nil, "deny: PC0310 spec.ports[0].nodePort by PortPolicy p"},
		{"restricted and allowed", portPolicy("p", some), nil, np("a", 30001), nil, "allow"},
		{"restricted and not allowed", portPolicy("p", some), nil, np("a", 30020), nil, "deny: PC0310 spec.ports[0].nodePort by PortPolicy p"},
		{"of a pool", portPolicy("p", poolOnly), pools, np("a", 30001), nil, "allow"},
		{"of no pool", portPolicy("p", poolOnly), pools, np("a", 30020), nil, "deny: PC0310 spec.ports[0].nodePort by PortPolicy p"},
		{"left out, served by no pool", portPolicy("p", poolOnly), nil, np("a", 0), nil, "deny: PC0310 spec.ports[0].nodePort by PortPolicy p"},
		{"written", portPolicy("p", noneWritten), nil, np("a", 30001), nil, "deny: PC0310 spec.ports[0].nodePort by PortPolicy p"},
		{"a load balancer", portPolicy("p", noLoadBalancers), nil, with(np("a", 0), loadBalancer), nil, "deny: PC0310 spec.allocateLoadBalancerNodePorts by PortPolicy p"},
		{"a load balancer without node ports", portPolicy("p", noLoadBalancers), nil, with(np("a", 0), loadBalancer, unallocated), nil, "allow"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, "allocateFrom: none\n").teams()
			b.cluster.policies, b.cluster.pools = []check.Policy{c.policy}, c.pools
			if got := outcome(b.decideOn(t, hooks.PathMutateServices, dryRun(serviceCase{service: c.service, old: c.old}.request()))); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestRestrictPods: pools for host ports and policies restrict pods and pod templates.
func TestRestrictPods(t *testing.T) {
	hp := hostPortPod
	forbidden := hostPorts(check.HostPortRule{Mode: check.ModeForbidden})
	some := hostPorts(check.HostPortRule{Mode: check.ModeRestricted, Allowed: []check.SocketRange{{Range: ports.Range{First: 8080, Last: 8089}}}})
	noHostNetwork := hostPorts(check.HostPortRule{Mode: check.ModeAllowed, NoHostNetwork: true})
	noNodePorts := hostPorts(check.HostPortRule{Mode: check.ModeAllowed, NoNodePortRange: true})
	reserved := func(nodes pool.Selector) func(*check.Policy) {
		return func(p *check.Policy) {
			p.Reserved = []check.ReservedSockets{{Name: "lb", Sockets: []check.SocketRange{{Range: ports.Range{First: 8080, Last: 8080}}}, Nodes: nodes}}
		}
	}
	n1 := matching{"kubernetes.io/hostname": "n1"}
	for _, c := range []struct {
		name   string
		pools  []pool.Pool
		policy check.Policy
		pod    *corev1.Pod
		want   string
	}{
		{"nothing", nil, check.Policy{}, hp("p", 8080), "allow"},
		{"of a pool of others", []pool.Pool{portPool("pool", "8080", serves("b"), forHostPorts)}, check.Policy{}, hp("p", 8080), "deny: PC0307 spec.containers[0].ports[0].hostPort by PortPool pool"},
		{"of its own pool", []pool.Pool{portPool("pool", "8080", serves("a"), forHostPorts)}, check.Policy{}, hp("p", 8080), "allow"},
		{"of a pool for node ports", []pool.Pool{portPool("pool", "8080", serves("b"))}, check.Policy{}, hp("p", 8080), "allow"},
		{"forbidden", nil, portPolicy("p", forbidden), hp("p", 8080), "deny: PC0311 spec.containers[0].ports[0].hostPort by PortPolicy p"},
		{"forbidden, on the host network", nil, portPolicy("p", forbidden), with(hp("p", 8080), hostNetwork), "deny: PC0311 spec.containers[0].ports[0].hostPort by PortPolicy p"},
		{"forbidden, no ports", nil, portPolicy("p", forbidden), hp("p", 0), "allow"},
		{"restricted and allowed", nil, portPolicy("p", some), hp("p", 8080), "allow"},
		{"restricted and not allowed", nil, portPolicy("p", some), hp("p", 8090), "deny: PC0311 spec.containers[0].ports[0].hostPort by PortPolicy p"},
		{"host network", nil, portPolicy("p", noHostNetwork), with(hp("p", 8080), hostNetwork), "deny: PC0311 spec.hostNetwork by PortPolicy p"},
		{"in the node port range", nil, portPolicy("p", noNodePorts), hp("p", 30001), "deny: PC0311 spec.containers[0].ports[0].hostPort by PortPolicy p"},
		{"reserved on every node", nil, portPolicy("p", reserved(matching{})), hp("p", 8080), "deny: PC0312 spec.containers[0].ports[0].hostPort by PortPolicy p"},
		{"reserved on its node", nil, portPolicy("p", reserved(n1)), with(hp("p", 8080), onNode("n1")), "deny: PC0312 spec.containers[0].ports[0].hostPort by PortPolicy p"},
		{"reserved on another node", nil, portPolicy("p", reserved(n1)), with(hp("p", 8080), onNode("n2")), "allow"},
		{"reserved on a node that is not known", nil, portPolicy("p", reserved(n1)), with(hp("p", 8080), onNode("n9")), "allow"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, "").teams().holds(node("n1"), node("n2"))
			b.cluster.pools, b.cluster.policies = c.pools, []check.Policy{c.policy}
			if got := outcome(b.decideOn(t, hooks.PathValidatePods, creates("Pod", c.pod))); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestRestrictTemplates: a pod template is restricted as the pods that it makes are.
func TestRestrictTemplates(t *testing.T) {
	for _, kind := range workloadKinds() {
		b := newBench(t, "").teams()
		b.cluster.pools = []pool.Pool{portPool("pool", "8080", serves("b"), forHostPorts)}
		b.cluster.policies = []check.Policy{portPolicy("p", hostPorts(check.HostPortRule{Mode: check.ModeForbidden}))}
		at := specOf(kind) + ".containers[0].ports[0].hostPort"
		want := "deny: PC0307 " + at + " by PortPool pool; PC0311 " + at + " by PortPolicy p"
		if got := outcome(b.decideOn(t, hooks.PathValidateWorkload, creates(kind, workload(kind, "w", 8080)))); got != want {
			t.Errorf("%s: got  %s\nwant %s", kind, got, want)
		}
	}
}
