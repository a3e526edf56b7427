package webhook

import (
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/portcullis-k8s/portcullis/pkg/hooks"
)

// oneFree is a configuration with a single nodePort to allocate.
const oneFree = "allocateFrom: '30100'\n"

// serviceCase is a Service, what the cluster holds when it comes, and what becomes of it.
type serviceCase struct {
	name    string
	config  string
	held    []runtime.Object
	service *corev1.Service
	old     *corev1.Service // nil: the Service is created
	want    string
	patches string
}

func (c serviceCase) request() admissionv1.AdmissionRequest {
	if c.old == nil {
		return creates("Service", c.service)
	}
	return updates("Service", c.service, c.old)
}

func (c serviceCase) run(t *testing.T, path string) {
	t.Run(c.name, func(t *testing.T) {
		d := newBench(t, c.config).holds(c.held...).decideOn(t, path, c.request())
		if got := outcome(d); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
		if got := patched(d.patches); got != c.patches {
			t.Errorf("got patches %q\nwant %q", got, c.patches)
		}
	})
}

func holding(objects ...runtime.Object) []runtime.Object { return objects }

// TestMutateServiceAllocates: nodePorts that the client leaves out are allocated from allocateFrom.
func TestMutateServiceAllocates(t *testing.T) {
	np := nodePortService
	const got = "/spec/ports/0/nodePort=30100"
	for _, c := range []serviceCase{
		{"no ports", oneFree, nil, np("a"), nil, "allow", ""},
		{"one port", oneFree, nil, np("a", 0), nil, "allow", got},
		{"one port without a name", oneFree, nil, with(np("a", 0), unnamed), nil, "allow", got},
		{"two ports and one free", oneFree, nil, np("a", 0, 0), nil, "allow", got},
		{"two protocols of one port", oneFree, nil, with(np("a", 0, 0), shared(1, "UDP")), nil, "allow: PC0503 spec.ports[1].port", got + " /spec/ports/1/nodePort=30100"},
		{"the other protocol is explicit", oneFree, nil, with(np("a", 30001, 0), shared(1, "UDP")), nil, "allow: PC0503 spec.ports[1].port", "/spec/ports/1/nodePort=30001"},
		{"an explicit nodePort beside", oneFree, nil, np("a", 30001, 0), nil, "allow", "/spec/ports/1/nodePort=30100"},
		{"load balancer", oneFree, nil, with(np("a", 0), loadBalancer), nil, "allow", got},
		{"load balancer without node ports", oneFree, nil, with(np("a", 0), loadBalancer, unallocated), nil, "allow", ""},
		{"ClusterIP", oneFree, nil, with(np("a", 0), serviceType("ClusterIP")), nil, "allow", ""},
		{"ExternalName", oneFree, nil, with(np("a", 0), serviceType("ExternalName")), nil, "allow", ""},
		{"health check", oneFree, nil, with(np("a", 30001), loadBalancer, local), nil, "allow", "/spec/healthCheckNodePort=30100"},
		{"health check without node ports", oneFree, nil, with(np("a", 0), loadBalancer, local, unallocated), nil, "allow", "/spec/healthCheckNodePort=30100"},
		{"explicit health check", oneFree, nil, with(np("a", 0), loadBalancer, local, healthCheck(30002)), nil, "allow", got},
		{"no health check with the policy Cluster", oneFree, nil, with(np("a", 30001), loadBalancer), nil, "allow", ""},
		{"no health check of a NodePort Service", oneFree, nil, with(np("a", 30001), local), nil, "allow", ""},
		{"port out of range", oneFree, nil, with(np("a", 0), func(s *corev1.Service) { s.Spec.Ports[0].Port = 70000 }), nil, "allow", ""},
		{"protocol in lower case", oneFree, nil, with(np("a", 0), overProtocol(0, "tcp")), nil, "deny: PC0106 spec.ports[0].protocol", ""},
		{"the dynamic band first", "nodePortRange: 30000-30016\n", nil, np("a", 0), nil, "allow", "/spec/ports/0/nodePort=30016"},
		{"left to the API server", "allocateFrom: none\n", nil, np("a", 0), nil, "allow", ""},

		{"held by a Service", oneFree, holding(np("b", 30100)), np("a", 0), nil, "allow", ""},
		{"held by a Service over UDP", oneFree, holding(with(np("b", 30100), overProtocol(0, "UDP"))), np("a", 0), nil, "allow", ""},
		{"held by the Service itself: the API server says that it exists", oneFree, holding(np("a", 30100)), np("a", 0), nil, "allow", ""},
		{"held by another namespace", oneFree, holding(with(np("a", 30100), inNamespace("other"))), np("a", 0), nil, "allow", ""},
		{"held by a health check", oneFree, holding(with(np("b", 30001), loadBalancer, local, healthCheck(30100))), np("a", 0), nil, "allow", ""},
		{"held by a hostPort", oneFree, holding(hostPortPod("p", 30100)), np("a", 0), nil, "allow", ""},
		{"held by a hostPort over UDP", oneFree, holding(with(hostPortPod("p", 30100), protocol("UDP"))), np("a", 0), nil, "allow", got},
		{"held by a hostPort of the other family", oneFree, holding(with(hostPortPod("p", 30100), hostIP("2001:db8::1"))), with(np("a", 0), families("IPv4")), nil, "allow", got},
		{"held by a daemon", oneFree + "nodeReserved: [{name: d, port: 30100}]\n", nil, np("a", 0), nil, "allow", ""},
		{"held by a daemon over UDP", oneFree + "nodeReserved: [{name: d, port: 30100, protocol: UDP}]\n", nil, np("a", 0), nil, "allow", got},
		{"held by its own other port", oneFree, nil, np("a", 30100, 0), nil, "allow: PC0305 spec.ports[0].nodePort", ""},
		{"free for the second range", "allocateFrom: 30100,30200\n", holding(np("b", 30100)), np("a", 0), nil, "allow", "/spec/ports/0/nodePort=30200"},
	} {
		c.run(t, hooks.PathMutateServices)
	}
}

// TestMutateServiceRefuses: what the API server's allocator would refuse in its own words is refused before, with the
// holder, and so is what it would let pass.
func TestMutateServiceRefuses(t *testing.T) {
	np := nodePortService
	for _, c := range []serviceCase{
		{"free", "", nil, np("a", 30001), nil, "allow", ""},
		{"free, in the dynamic band", "", nil, np("a", 30100), nil, "allow: PC0305 spec.ports[0].nodePort", ""},
		{"held by a Service", "", holding(np("b", 30001)), np("a", 30001), nil, "deny: PC0201 spec.ports[0].nodePort by Service default/b", ""},
		{"held by a Service over UDP", "", holding(with(np("b", 30001), overProtocol(0, "UDP"))), np("a", 30001), nil, "deny: PC0201 spec.ports[0].nodePort by Service default/b", ""},
		{"held by the Service itself", "", holding(np("a", 30001)), np("a", 30001), nil, "allow", ""},
		{"held by a health check", "", holding(with(np("b", 0), loadBalancer, local, healthCheck(30001))), np("a", 30001), nil, "deny: PC0201 spec.ports[0].nodePort by Service default/b", ""},
		{"held by a hostPort", "", holding(with(hostPortPod("p", 30001), onNode("n1"))), np("a", 30001), nil, "deny: PC0201 spec.ports[0].nodePort by Pod default/p", ""},
		{"held by a pod of the host network", "", holding(with(hostPortPod("p", 30001), onNode("n1"), hostNetwork)), np("a", 30001), nil, "deny: PC0201 spec.ports[0].nodePort by Pod default/p", ""},
		{"held by a hostPort over UDP", "", holding(with(hostPortPod("p", 30001), protocol("UDP"))), np("a", 30001), nil, "allow", ""},
		{"health check held", "", holding(np("b", 30001)), with(np("a", 30002), loadBalancer, local, healthCheck(30001)), nil, "deny: PC0201 spec.healthCheckNodePort by Service default/b", ""},
		{"both ports held", "", holding(np("b", 30001), np("c", 30002)), np("a", 30001, 30002), nil, "deny: PC0201 spec.ports[0].nodePort by Service default/b; PC0201 spec.ports[1].nodePort by Service default/c", ""},
		{"a held one and one left out", oneFree, holding(np("b", 30001)), np("a", 30001, 0), nil, "deny: PC0201 spec.ports[0].nodePort by Service default/b", ""},
		{"the same nodePort twice", "", nil, np("a", 30001, 30001), nil, "deny: PC0103 spec.ports[1].nodePort", ""},
		{"outside of the range", "", nil, np("a", 20000), nil, "deny: PC0301 spec.ports[0].nodePort", ""},
		{"a daemon's", "nodeReserved: [{name: d, port: 30001}]\n", nil, np("a", 30001), nil, "deny: PC0302 spec.ports[0].nodePort by node daemon d", ""},
		{"on a ClusterIP Service", "", nil, with(np("a", 30001), serviceType("ClusterIP")), nil, "deny: PC0104 spec.ports[0].nodePort", ""},
		{"on an ExternalName Service", "", nil, with(np("a", 30001), serviceType("ExternalName")), nil, "warn: PC0104 spec.ports[0].nodePort", ""},
	} {
		c.run(t, hooks.PathMutateServices)
	}
}

// TestMutateServiceUpdate: a Service keeps its nodePorts by the names of its ports, and what it had before is not refused.
func TestMutateServiceUpdate(t *testing.T) {
	np := nodePortService
	for _, c := range []serviceCase{
		{"nothing changes", "", holding(np("a", 30001)), np("a", 30001), np("a", 30001), "allow", ""},
		{"nodePort left out", oneFree, holding(np("a", 30001)), np("a", 0), np("a", 30001), "allow", "/spec/ports/0/nodePort=30001"},
		{"swapped", oneFree, nil, with(np("a", 0, 0), portName(0, "p1"), portName(1, "p0")), np("a", 30001, 30002), "allow", "/spec/ports/0/nodePort=30002 /spec/ports/1/nodePort=30001"},
		{"port added", oneFree, nil, np("a", 0, 0), np("a", 30001), "allow", "/spec/ports/0/nodePort=30001 /spec/ports/1/nodePort=30100"},
		{"port renamed", oneFree, nil, with(np("a", 0), portName(0, "q")), np("a", 30001), "warn: PC0501 spec.ports[0].name", "/spec/ports/0/nodePort=30100"},
		{"nodePort taken over by another port", oneFree, nil, np("a", 30002, 0), np("a", 30001, 30002), "allow", "/spec/ports/1/nodePort=30100"},
		{"from ClusterIP", oneFree, nil, np("a", 0), with(np("a", 0), serviceType("ClusterIP")), "allow", "/spec/ports/0/nodePort=30100"},
		{"to ClusterIP", "", nil, with(np("a", 0), serviceType("ClusterIP")), np("a", 30001), "allow", ""},
		{"to ClusterIP with the nodePort", "", nil, with(np("a", 30001), serviceType("ClusterIP")), np("a", 30001), "warn: PC0104 spec.ports[0].nodePort", ""},
		{"to a load balancer", oneFree, nil, with(np("a", 0), loadBalancer), np("a", 30001), "allow", "/spec/ports/0/nodePort=30001"},
		{"health check left out", oneFree, nil, with(np("a", 30001), loadBalancer, local), with(np("a", 30001), loadBalancer, local, healthCheck(30002)), "allow", ""},
		{"health check changed", "", nil, with(np("a", 30001), loadBalancer, local, healthCheck(30003)), with(np("a", 30001), loadBalancer, local, healthCheck(30002)), "deny: PC0107 spec.healthCheckNodePort", ""},
		{"to the policy Local", oneFree, nil, with(np("a", 30001), loadBalancer, local), with(np("a", 30001), loadBalancer), "allow: PC0507 spec.externalTrafficPolicy", "/spec/healthCheckNodePort=30100"},
		{"moved to a free nodePort", "", nil, np("a", 30002), np("a", 30001), "allow", ""},
		{"moved to a held nodePort", "", holding(np("b", 30002)), np("a", 30002), np("a", 30001), "deny: PC0201 spec.ports[0].nodePort by Service default/b", ""},
		{"a conflict from before", "", holding(with(hostPortPod("p", 30001), onNode("n1"))), np("a", 30001), np("a", 30001), "warn: PC0201 spec.ports[0].nodePort by Pod default/p before", ""},
		{"a conflict from before and a new one", "", holding(with(hostPortPod("p", 30001), onNode("n1")), np("b", 30002)), np("a", 30001, 30002), np("a", 30001), "deny: PC0201 spec.ports[0].nodePort by Pod default/p before; PC0201 spec.ports[1].nodePort by Service default/b", ""},
		{"outside of a range that was larger", "", nil, np("a", 20000), np("a", 20000), "warn: PC0306 spec.ports[0].nodePort before", ""},
		{"old object without node ports", oneFree, nil, np("a", 0), with(np("a", 0), loadBalancer, unallocated), "allow", "/spec/ports/0/nodePort=30100"},
	} {
		c.run(t, hooks.PathMutateServices)
	}
}

// TestMutateServiceDryRun: a dry run is judged and leaves no trace.
func TestMutateServiceDryRun(t *testing.T) {
	for _, c := range []struct {
		name    string
		service *corev1.Service
		old     *corev1.Service
		want    string
		patches string
	}{
		{"nodePort left out", nodePortService("a", 0), nil, "allow", ""},
		{"free", nodePortService("a", 30001), nil, "allow", ""},
		{"held", nodePortService("a", 30002), nil, "deny: PC0201 spec.ports[0].nodePort by Service default/b", ""},
		{"update without the nodePort", nodePortService("a", 0), nodePortService("a", 30001), "allow", "/spec/ports/0/nodePort=30001"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, oneFree).holds(nodePortService("b", 30002))
			req := serviceCase{service: c.service, old: c.old}.request()
			for _, path := range []string{hooks.PathMutateServices, hooks.PathValidateServices} {
				d := b.decideOn(t, path, dryRun(req))
				if path == hooks.PathMutateServices && (outcome(d) != c.want || patched(d.patches) != c.patches) {
					t.Errorf("got %s, patches %q", outcome(d), patched(d.patches))
				}
				if n := len(b.flight.owners); n != 0 {
					t.Errorf("%s: %d in flight", path, n)
				}
			}
		})
	}
}
