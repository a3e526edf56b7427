package webhook

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/pkg/observe"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// stored is a Service as the API server shows it to a validating webhook.
func stored(s *corev1.Service) {
	s.UID = "uid"
	s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
}

// TestValidateService: what the API server has made of a Service is judged, its own allocation among it.
func TestValidateService(t *testing.T) {
	np := nodePortService
	for _, c := range []serviceCase{
		{"free", "", nil, with(np("a", 30001), stored), nil, "allow", ""},
		{"in the dynamic band", "", nil, with(np("a", 30100), stored), nil, "allow", ""},
		{"no node ports", "", nil, with(np("a", 0), stored, serviceType("ClusterIP")), nil, "allow", ""},
		{"without a nodePort", "", nil, with(np("a", 0), stored), nil, "allow", ""},
		{"held by a Service", "", holding(np("b", 30001)), with(np("a", 30001), stored), nil, "deny: PC0201 spec.ports[0].nodePort by Service default/b", ""},
		{"held by a hostPort", "", holding(with(hostPortPod("p", 30001), onNode("n1"))), with(np("a", 30001), stored), nil, "deny: PC0201 spec.ports[0].nodePort by Pod default/p", ""},
		{"held by a pod that no node suits", "", holding(node("n1"), with(hostPortPod("p", 30001), selecting("gpu", "none"))), with(np("a", 30001), stored), nil, "warn: PC0201 spec.ports[0].nodePort by Pod default/p", ""},
		{"held by a pod that a node suits", "", holding(node("n1"), with(hostPortPod("p", 30001), selecting("kubernetes.io/hostname", "n1"))), with(np("a", 30001), stored), nil, "deny: PC0201 spec.ports[0].nodePort by Pod default/p", ""},
		{"held by a pod that no node suits, where the nodes are not known", "", holding(with(hostPortPod("p", 30001), selecting("gpu", "none"))), with(np("a", 30001), stored), nil, "deny: PC0201 spec.ports[0].nodePort by Pod default/p", ""},
		{"held by a hostPort of the other family", "", holding(with(hostPortPod("p", 30001), hostIP("2001:db8::1"))), with(np("a", 30001), stored), nil, "allow", ""},
		{"health check held", "", holding(np("b", 30001)), with(np("a", 30002), stored, loadBalancer, local, healthCheck(30001)), nil, "deny: PC0201 spec.healthCheckNodePort by Service default/b", ""},
		{"a daemon's", "nodeReserved: [{name: d, port: 30001}]\n", nil, with(np("a", 30001), stored), nil, "deny: PC0302 spec.ports[0].nodePort by node daemon d", ""},
		{"outside of the range", "", nil, with(np("a", 20000), stored), nil, "deny: PC0301 spec.ports[0].nodePort", ""},
		{"moved to a held nodePort", "", holding(np("b", 30002)), with(np("a", 30002), stored), with(np("a", 30001), stored), "deny: PC0201 spec.ports[0].nodePort by Service default/b", ""},
		{"a conflict from before", "", holding(with(hostPortPod("p", 30001), onNode("n1"))), with(np("a", 30001), stored), with(np("a", 30001), stored), "warn: PC0201 spec.ports[0].nodePort by Pod default/p before", ""},
		{"external IP of a node's hostPort", "", nil, with(np("a", 30001), stored, func(s *corev1.Service) { s.Spec.ExternalIPs = []string{"192.0.2.1"} }), nil, "allow", ""},
		{"external IP that is another's cluster IP", "", holding(with(np("b", 30002), clusterIP)), with(np("a", 30001), stored, externalClusterIP), nil, "deny: PC0204 spec.externalIPs[0] by Service default/b", ""},
		{"external IP that may become another's cluster IP", "", nil, with(np("a", 30001), stored, externalClusterIP), nil, "deny: PC0204 spec.externalIPs[0]", ""},
		{"external IP that is its own cluster IP", "", nil, with(np("a", 30001), stored, externalClusterIP, clusterIP), nil, "allow", ""},
		{"external IP that was another's cluster IP before", "", holding(with(np("b", 30002), clusterIP)), with(np("a", 30001), stored, externalClusterIP), with(np("a", 30001), stored, externalClusterIP), "warn: PC0204 spec.externalIPs[0] by Service default/b before", ""},
		{"a daemon does not hold an external IP", "nodeReserved: [{name: d, port: 80}]\n", nil, with(np("a", 30001), stored, func(s *corev1.Service) { s.Spec.ExternalIPs = []string{"192.0.2.1"} }), nil, "allow", ""},
	} {
		c.run(t, hooks.PathValidateServices)
	}
}

// selecting has a pod run on nodes with a label only.
func selecting(key, value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{key: value} }
}

func clusterIP(s *corev1.Service) { s.Spec.ClusterIP = "10.96.0.7" }

func externalClusterIP(s *corev1.Service) { s.Spec.ExternalIPs = []string{"10.96.0.7"} }

// TestClusterIPOfAServiceThatIsGone: the holder is read before it refuses, as that of a port is.
func TestClusterIPOfAServiceThatIsGone(t *testing.T) {
	b := newBench(t, "").holds(with(nodePortService("b", 30002), clusterIP))
	holder := ports.Ref{APIVersion: "v1", Kind: "Service", Namespace: "default", Name: "b"}
	b.cluster.stored = map[ports.Ref]*observe.Seen{holder: nil}
	c := serviceCase{service: with(nodePortService("a", 30001), stored, externalClusterIP)}
	if got := outcome(b.decideOn(t, hooks.PathValidateServices, c.request())); got != "deny: PC0204 spec.externalIPs[0]" { // nobody's now, and of the range
		t.Errorf("got %s", got)
	}
	if !slices.Contains(b.cluster.reads, holder) {
		t.Errorf("read %v", b.cluster.reads)
	}
}

// TestValidateServiceDryRun: on a dry run the API server makes nodePorts up, which are not judged. Those that the Service
// has, and other ports, are.
func TestValidateServiceDryRun(t *testing.T) {
	np := nodePortService
	for _, c := range []struct {
		name string
		req  serviceCase
		want string
	}{
		{"made up", serviceCase{service: np("a", 32769)}, "allow"},
		{"made up and held", serviceCase{service: np("a", 30002)}, "allow"},
		{"had before and outside", serviceCase{service: np("a", 20000), old: np("a", 20000)}, "warn: PC0306 spec.ports[0].nodePort before"},
		{"made up beside one that it had", serviceCase{service: np("a", 20000, 32769), old: np("a", 20000)}, "warn: PC0306 spec.ports[0].nodePort before"},
		{"left over", serviceCase{service: with(np("a", 30001), serviceType("ClusterIP")), old: np("a", 30001)}, "warn: PC0104 spec.ports[0].nodePort"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, "").holds(np("b", 30002))
			if got := outcome(b.decideOn(t, hooks.PathValidateServices, dryRun(c.req.request()))); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}
