package webhook

import (
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/hooks"
)

// ipv4, ipv6 and dualStack are the families of a cluster's pods.
func ipv4() check.Families      { return check.Families{IPv4: true} }
func ipv6() check.Families      { return check.Families{IPv6: true} }
func dualStack() check.Families { return check.Families{IPv4: true, IPv6: true} }

func inInitContainer(policy *corev1.ContainerRestartPolicy) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.InitContainers, p.Spec.Containers = p.Spec.Containers, nil
		p.Spec.InitContainers[0].RestartPolicy = policy
	}
}

// TestMutatePodDefaults: hostIP and protocol are written where a hostPort leaves them out.
func TestMutatePodDefaults(t *testing.T) {
	const ip, tcp = "/spec/containers/0/ports/0/hostIP=", "/spec/containers/0/ports/0/protocol=TCP"
	always := new(corev1.ContainerRestartPolicyAlways)
	bare := func(edits ...func(*corev1.Pod)) *corev1.Pod {
		return with(with(hostPortPod("p", 8080), protocol("")), edits...)
	}
	for _, c := range []struct {
		name     string
		config   string
		families check.Families
		pod      *corev1.Pod
		patches  string
	}{
		{"IPv4", "", ipv4(), bare(), ip + "0.0.0.0 " + tcp},
		{"IPv6", "", ipv6(), bare(), ip + ":: " + tcp},
		{"dual-stack", "", dualStack(), bare(), tcp},
		{"families not known", "", check.Families{}, bare(), tcp},
		{"None", "defaultHostIP: None\n", ipv4(), bare(), tcp},
		{"always IPv4", "defaultHostIP: 0.0.0.0\n", dualStack(), bare(), ip + "0.0.0.0 " + tcp},
		{"always IPv6", "defaultHostIP: '::'\n", ipv4(), bare(), ip + ":: " + tcp},
		{"hostIP written", "", ipv4(), bare(hostIP("127.0.0.1")), tcp},
		{"protocol written", "", ipv4(), bare(protocol("UDP")), ip + "0.0.0.0"},
		{"both written", "", ipv4(), bare(hostIP("127.0.0.1"), protocol("SCTP")), ""},
		{"no hostPort", "", ipv4(), with(hostPortPod("p", 0), protocol("")), ""},
		{"host network", "", ipv4(), bare(hostNetwork), ""},
		{"init container", "", ipv4(), bare(inInitContainer(nil)), "/spec/initContainers/0/ports/0/hostIP=0.0.0.0 /spec/initContainers/0/ports/0/protocol=TCP"},
		{"sidecar", "", ipv4(), bare(inInitContainer(always)), "/spec/initContainers/0/ports/0/hostIP=0.0.0.0 /spec/initContainers/0/ports/0/protocol=TCP"},
		{"second port of the second container", "", ipv4(), bare(func(p *corev1.Pod) {
			p.Spec.Containers = []corev1.Container{{Name: "a"}, {Name: "b", Ports: []corev1.ContainerPort{{ContainerPort: 1}, {ContainerPort: 2, HostPort: 8080}}}}
		}), "/spec/containers/1/ports/1/hostIP=0.0.0.0 /spec/containers/1/ports/1/protocol=TCP"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, c.config)
			b.cluster.families = c.families
			if got := patched(b.decideOn(t, hooks.PathMutatePods, creates("Pod", c.pod)).patches); got != c.patches {
				t.Errorf("got  %s\nwant %s", got, c.patches)
			}
			if got := patched(b.decideOn(t, hooks.PathMutatePods, dryRun(creates("Pod", c.pod))).patches); got != "" {
				t.Errorf("a dry run writes %s", got)
			}
			if len(b.flight.owners) != 0 {
				t.Error("a pod without host ports on request is in flight before it has a name")
			}
		})
	}
}

// TestPod: a pod is judged in the same way before and after the API server's defaults.
func TestPod(t *testing.T) {
	hp := hostPortPod
	always := new(corev1.ContainerRestartPolicyAlways)
	twoNodes := holding(node("n1"), node("n2"))
	on := func(pod *corev1.Pod, edits ...func(*corev1.Pod)) *corev1.Pod {
		return with(pod, append(edits, onNode("n1"))...)
	}
	for _, c := range []struct {
		name   string
		config string
		held   []runtime.Object
		pod    *corev1.Pod
		want   string
	}{
		{"no ports", "", nil, hp("p", 0), "allow"},
		{"free", "", nil, hp("p", 8080), "allow"},
		{"held by a Service", "", holding(nodePortService("s", 30001)), hp("p", 30001), "deny: PC0201 spec.containers[0].ports[0].hostPort by Service default/s"},
		{"held by a Service over UDP", "", holding(with(nodePortService("s", 30001), overProtocol(0, "UDP"))), hp("p", 30001), "allow"},
		{"held by a pod on its node", "", holding(on(hp("q", 8080))), on(hp("p", 8080)), "deny: PC0201 spec.containers[0].ports[0].hostPort by Pod default/q"},
		{"held by a pod on another node", "", holding(with(hp("q", 8080), onNode("n2"))), on(hp("p", 8080)), "allow"},
		{"held by a pod on another address", "", holding(on(hp("q", 8080), hostIP("192.0.2.1"))), on(hp("p", 8080), hostIP("192.0.2.2")), "allow"},
		{"held by a pod over UDP", "", holding(on(hp("q", 8080), protocol("UDP"))), on(hp("p", 8080)), "allow"},
		{"held by a pod of the host network", "", holding(on(hp("q", 8080), hostNetwork)), on(hp("p", 8080)), "deny: PC0201 spec.containers[0].ports[0].hostPort by Pod default/q"},
		{"held by a finished pod", "", holding(on(hp("q", 8080), func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded })), on(hp("p", 8080)), "allow"},
		{"held on one of two nodes", "", append(twoNodes, on(hp("q", 8080))), hp("p", 8080), "allow"},
		{"held on both nodes", "", append(twoNodes, on(hp("q", 8080)), with(hp("r", 8080), onNode("n2"))), hp("p", 8080), "deny: PC0202 spec.containers[0].ports[0].hostPort by Pod default/q + Pod default/r"},
		{"held by its own name", "", holding(on(hp("p", 8080))), on(hp("p", 8080)), "allow"},
		{"held by a pod of the same controller", "", holding(on(hp("q", 8080), controlledBy("ReplicaSet", "rs"))), on(hp("p", 8080), controlledBy("ReplicaSet", "rs")), "allow"},
		{"a daemon's", "", nil, hp("p", 10250), "deny: PC0302 spec.containers[0].ports[0].hostPort by node daemon kubelet"},
		{"a daemon's on another address", "", nil, with(hp("p", 10248), hostIP("192.0.2.1")), "allow"},
		{"a daemon's, in an init container", "", nil, with(hp("p", 10250), inInitContainer(nil)), "allow"},
		{"in the node port range", "", nil, hp("p", 30001), "warn: PC0303 spec.containers[0].ports[0].hostPort"},
		{"in the ephemeral range", "", nil, hp("p", 40000), "warn: PC0304 spec.containers[0].ports[0].hostPort"},
		{"hostIP is not an address", "", nil, with(hp("p", 8080), hostIP("localhost")), "deny: PC0101 spec.containers[0].ports[0].hostIP"},
		{"hostIP of the other family", "", nil, with(hp("p", 8080), hostIP("2001:db8::1")), "warn: PC0604 spec.containers[0].ports[0].hostIP"},
		{"protocol in lower case", "", nil, with(hp("p", 8080), protocol("tcp")), "deny: PC0106 spec.containers[0].ports[0].protocol"},
		{"hostPort of a sidecar", "", nil, with(hp("p", 8080), inInitContainer(always)), "warn: PC0504 spec.initContainers[0].ports[0].hostPort"},
		{"host network without ports", "", nil, with(hp("p", 0), hostNetwork, func(p *corev1.Pod) { p.Spec.Containers[0].Ports = nil }), "allow"},
		{"which its probe shows", "", nil, with(hp("p", 0), hostNetwork, probed(9808)), "allow: PC0509 spec.hostNetwork"},
		{"a hostPort that meets a probe", "", holding(node("n1"), on(with(hp("q", 0), hostNetwork, probed(9808)))), on(hp("p", 9808)), "warn: PC0205 spec.containers[0].ports[0].hostPort by Pod default/q"},
		{"a probe that meets a hostPort", "", holding(node("n1"), on(hp("q", 9808))), on(with(hp("p", 0), hostNetwork, probed(9808))), "warn: PC0205 spec.containers[0].livenessProbe.tcpSocket.port by Pod default/q; PC0509 spec.hostNetwork"},
		{"the same socket twice", "", nil, with(hp("p", 8080), func(p *corev1.Pod) { p.Spec.Containers = append(p.Spec.Containers, p.Spec.Containers[0]) }), "deny: PC0102 spec.containers[1].ports[0].hostPort"},
		{"somebody's that says it is a mirror pod", "", nil, with(hp("p", 10250), annotated(corev1.MirrorPodAnnotationKey, "x")), "deny: PC0302 spec.containers[0].ports[0].hostPort by node daemon kubelet"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, path := range []string{hooks.PathMutatePods, hooks.PathValidatePods} {
				b := newBench(t, c.config).holds(c.held...)
				if got := outcome(b.decideOn(t, path, creates("Pod", c.pod))); got != c.want {
					t.Errorf("%s: got  %s\nwant %s", path, got, c.want)
				}
				b = newBench(t, c.config).holds(c.held...)
				if got := outcome(b.decideOn(t, path, dryRun(creates("Pod", c.pod)))); got != c.want {
					t.Errorf("%s, dry run: got  %s\nwant %s", path, got, c.want)
				}
				if len(b.flight.owners) != 0 {
					t.Errorf("%s: a dry run is in flight", path)
				}
			}
		})
	}
}

// TestPodOfAController: a pod is let through if its controller's template, which was the place to refuse, claims the same.
func TestPodOfAController(t *testing.T) {
	replicaSet := workload("ReplicaSet", "rs", 30001)
	for _, c := range []struct {
		name string
		held []runtime.Object
		pod  *corev1.Pod
		want string
	}{
		{"no controller", nil, hostPortPod("p", 30001), "deny: PC0201 spec.containers[0].ports[0].hostPort by Service default/s"},
		{"the controller is not known", nil, with(hostPortPod("p", 30001), controlledBy("ReplicaSet", "rs")), "deny: PC0201 spec.containers[0].ports[0].hostPort by Service default/s"},
		{"the template has it", holding(replicaSet), with(hostPortPod("p", 30001), controlledBy("ReplicaSet", "rs")), "warn: PC0201 spec.containers[0].ports[0].hostPort by Service default/s before"},
		{"the template has another port", holding(workload("ReplicaSet", "rs", 30002)), with(hostPortPod("p", 30001), controlledBy("ReplicaSet", "rs")), "deny: PC0201 spec.containers[0].ports[0].hostPort by Service default/s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, "").holds(nodePortService("s", 30001)).holds(c.held...)
			if got := outcome(b.decideOn(t, hooks.PathValidatePods, creates("Pod", c.pod))); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestPodUpdate: a pod's ports cannot be changed, so that no update is judged.
func TestPodUpdate(t *testing.T) {
	for _, path := range []string{hooks.PathMutatePods, hooks.PathValidatePods} {
		d := newBench(t, "").decideOn(t, path, updates("Pod", hostPortPod("p", 10250), hostPortPod("p", 8080)))
		if got := outcome(d); got != "allow" || len(d.patches) > 0 {
			t.Errorf("%s: %s, patches %v", path, got, d.patches)
		}
	}
}

// TestPodInFlight: a pod that a validating webhook let through holds its hostPort until the cluster shows it.
func TestPodInFlight(t *testing.T) {
	b := newBench(t, "")
	if got := outcome(b.decideOn(t, hooks.PathValidatePods, creates("Pod", with(hostPortPod("p", 30001), onNode("n1"))))); got != "warn: PC0303 spec.containers[0].ports[0].hostPort" {
		t.Fatal(got)
	}
	if got := outcome(b.decideOn(t, hooks.PathMutateServices, creates("Service", nodePortService("s", 30001)))); got != contended {
		t.Errorf("a nodePort beside that hostPort: %s", got)
	}
	if got := outcome(b.decideOn(t, hooks.PathMutatePods, creates("Pod", with(hostPortPod("q", 30001), onNode("n1"))))); got != "busy: PC0203 spec.containers[0].ports[0].hostPort" {
		t.Errorf("the same hostPort on the same node: %s", got)
	}
}

// TestNamespaceOfTheRequest: an object that leaves its namespace out is in that of the request.
func TestNamespaceOfTheRequest(t *testing.T) {
	pod := hostPortPod("p", 8080)
	pod.ObjectMeta = metav1.ObjectMeta{Name: "p"}
	req := creates("Pod", pod)
	req.Namespace = "team-a"
	b := newBench(t, "")
	b.decideOn(t, hooks.PathValidatePods, req)
	for ref := range b.flight.owners {
		if ref.Namespace != "team-a" {
			t.Errorf("in flight: %s", ref)
		}
	}
	if len(b.flight.owners) != 1 {
		t.Errorf("%d in flight", len(b.flight.owners))
	}
}

// TestMirrorPod: what a node says of a static pod is left alone, whatever it claims: it runs. Anybody else's pod is a pod.
func TestMirrorPod(t *testing.T) {
	pod := with(hostPortPod("p", 10250), annotated(corev1.MirrorPodAnnotationKey, "x"), onNode("n1"))
	for groups, want := range map[string]string{
		hooks.NodesGroup: "allow", "system:authenticated": "deny: PC0302 spec.containers[0].ports[0].hostPort by node daemon kubelet",
	} {
		for _, path := range []string{hooks.PathMutatePods, hooks.PathValidatePods} {
			req := creates("Pod", pod)
			req.UserInfo.Groups = []string{"system:authenticated", groups}
			if got := outcome(newBench(t, "").decideOn(t, path, req)); got != want {
				t.Errorf("%s, %s: got %s, want %s", groups, path, got, want)
			}
		}
	}
}

// TestPodLabels: a pod whose new labels end an exception is refused; whatever else stood before stands, and nothing is judged
// that does not change them.
func TestPodLabels(t *testing.T) {
	edge := func(p *corev1.Pod) { p.Labels = map[string]string{"edge": "yes"} }
	for _, c := range []struct {
		why      string
		old, pod *corev1.Pod
		want     string
	}{
		{"its exception ends", with(hostPortPod("p", 8080), edge), hostPortPod("p", 8080), "deny: PC0311 spec.containers[0].ports[0].hostPort by PortPolicy none"},
		{"it had none", hostPortPod("p", 8080), with(hostPortPod("p", 8080), func(p *corev1.Pod) { p.Labels = map[string]string{"a": "b"} }), "warn: PC0311 spec.containers[0].ports[0].hostPort by PortPolicy none before"},
		{"an exception begins", hostPortPod("p", 8080), with(hostPortPod("p", 8080), edge), "allow"},
		{"the same labels", with(hostPortPod("p", 8080), edge), with(hostPortPod("p", 8080), edge), "allow"},
		{"held by somebody since", with(hostPortPod("p", 30001), edge, onNode("n1")), with(hostPortPod("p", 30001), edge, onNode("n1"), func(p *corev1.Pod) { p.Labels["a"] = "b" }), "warn: PC0201 spec.containers[0].ports[0].hostPort by Service default/s before"},
	} {
		b := newBench(t, "").holds(nodePortService("s", 30001))
		policy := portPolicy("none", hostPorts(check.HostPortRule{Mode: check.ModeForbidden}))
		policy.Exceptions = []check.Exception{{Name: "edge", Objects: matching{"edge": "yes"}}}
		b.cluster.policies = []check.Policy{policy}
		req := request("Pod", admissionv1.Update, c.pod, c.old)
		if got := outcome(b.decideOn(t, hooks.PathValidatePods, req)); got != c.want {
			t.Errorf("%s: %s, want %s", c.why, got, c.want)
		}
		if got := outcome(b.decideOn(t, hooks.PathMutatePods, req)); got != "allow" {
			t.Errorf("%s: the mutating hook says %s", c.why, got)
		}
		if len(b.flight.owners) != 0 {
			t.Errorf("%s: it is in flight", c.why)
		}
	}
}
