package scheduling

import (
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	fwk "k8s.io/kube-scheduler/framework"

	"github.com/portcullis-k8s/portcullis/pkg/extract"
)

func owner(apiVersion, kind, name string) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: apiVersion, Kind: kind, Name: name, Controller: new(true)}
}

// place asks the plugin about one node and returns what it says: "" or the code and the reasons.
func place(t testing.TB, p *PortClaims, pod *corev1.Pod, n *nodeInfo) string {
	t.Helper()
	s := newState()
	_, status := p.PreFilter(t.Context(), s, pod, nil)
	if status.IsSkip() {
		return ""
	}
	if status.IsSuccess() {
		status = p.Filter(t.Context(), s, pod, n)
	}
	if status.IsSuccess() {
		return ""
	}
	return brief(status)
}

// brief is a status with its reasons.
func brief(status *fwk.Status) string {
	return withoutVerb(status.Code().String() + ": " + strings.Join(status.Reasons(), "; "))
}

// withoutVerb makes of a reason the port and its holder: the sentence is held by the tests of pkg/report.
func withoutVerb(reason string) string { return strings.ReplaceAll(reason, " is held by ", " by ") }

func annotated(n *nodeInfo, value string) *nodeInfo {
	n.node.Annotations = map[string]string{extract.ReservedPortsAnnotation: value}
	return n
}

func labelled(n *nodeInfo, label string) *nodeInfo {
	n.node.Labels = map[string]string{label: ""}
	return n
}

func addressed(n *nodeInfo, addresses ...string) *nodeInfo {
	for _, a := range addresses {
		n.node.Status.Addresses = append(n.node.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a})
	}
	return n
}

func TestFilter(t *testing.T) {
	wants9000 := pod("new", list(port(9000)))
	sidecar := pod("sidecar", nil)
	sidecar.Spec.InitContainers = []corev1.Container{{Name: "s", RestartPolicy: new(corev1.ContainerRestartPolicyAlways), Ports: list(port(9000))}}
	initOnly := pod("init", nil)
	initOnly.Spec.InitContainers = []corev1.Container{{Name: "i", Ports: list(port(9000))}}
	finished := pod("finished", list(port(9000)))
	finished.Status.Phase = corev1.PodSucceeded
	terminating := pod("terminating", list(port(9000)))
	terminating.DeletionTimestamp = new(metav1.Now())
	external := nodePort("external", 0)
	external.Spec.ExternalIPs = []string{"10.0.0.1"}
	external.Spec.Ports[0].Port = 9000
	local := nodePort("local", 0)
	local.Spec.Type, local.Spec.ExternalTrafficPolicy, local.Spec.HealthCheckNodePort = corev1.ServiceTypeLoadBalancer, corev1.ServiceExternalTrafficPolicyLocal, 9000
	klipper := pod("svclb", list(port(9000)))
	imposter := klipper.DeepCopy()
	klipper.Namespace = metav1.NamespaceSystem
	klipper.Labels = map[string]string{"svccontroller.k3s.cattle.io/svcname": "app", "svccontroller.k3s.cattle.io/svcnamespace": "default"}
	imposter.Labels = klipper.Labels

	const by = "hostPort 9000/TCP by "
	for _, tt := range []struct {
		name     string
		args     string
		services []*corev1.Service
		pod      *corev1.Pod
		node     *nodeInfo
		want     string
	}{
		{"no ports", "", nil, pod("new", nil), node("n", 1, pod("a", list(port(9000)))), ""},
		{"free", "", nil, wants9000, node("n", 1, pod("a", list(port(9001)))), ""},
		{"a pod", "", nil, wants9000, node("n", 1, pod("a", list(port(9000)), on("n"))), "Unschedulable: " + by + "Pod default/a"},
		{"a Deployment's pod", "", nil, wants9000, node("n", 1, pod("tomcat-5d8f-x", list(port(9000)), of("tomcat"))), "Unschedulable: " + by + "Deployment default/tomcat"},
		{"its own Deployment's", "", nil, pod("tomcat-5d8f-y", list(port(9000)), of("tomcat")), node("n", 1, pod("tomcat-5d8f-x", list(port(9000)), of("tomcat"))), "Unschedulable: " + by + "Deployment default/tomcat"},
		{"a nominated pod, not on a node yet", "", nil, wants9000, node("n", 1, pod("a", list(port(9000)))), "Unschedulable: " + by + "Pod default/a"},
		{"a sidecar", "", nil, wants9000, node("n", 1, sidecar), "Unschedulable: " + by + "Pod default/sidecar"},
		{"a plain init container", "", nil, wants9000, node("n", 1, initOnly), ""},
		{"wanted by a plain init container", "", nil, initOnly, node("n", 1, pod("a", list(port(9000)))), ""},
		{"a finished pod", "", nil, wants9000, node("n", 1, finished), ""},
		{"a terminating pod", "", nil, wants9000, node("n", 1, terminating), "Unschedulable: " + by + "Pod default/terminating"},
		{"host network, undeclared hostPort", "", nil, wants9000,
			node("n", 1, pod("a", list(corev1.ContainerPort{ContainerPort: 9000}), hostNetwork)), "Unschedulable: " + by + "Pod default/a"},
		{"wanted by the host network", "", nil, pod("new", list(corev1.ContainerPort{ContainerPort: 9000}), hostNetwork),
			node("n", 1, pod("a", list(port(9000)))), "Unschedulable: hostNetwork port 9000/TCP by Pod default/a"},
		{"two addresses, two holders", "", nil, wants9000,
			node("n", 1, pod("b", list(at("127.0.0.1", port(9000)))), pod("a", list(at("::1", port(9000))))), "Unschedulable: " + by + "Pod default/a and Pod default/b"},
		{"many holders", "", nil, wants9000, node("n", 1, pod("a", list(at("127.0.0.1", port(9000)))), pod("b", list(at("127.0.0.2", port(9000)))),
			pod("c", list(at("127.0.0.3", port(9000)))), pod("d", list(at("127.0.0.4", port(9000)))), pod("d", list(at("127.0.0.5", port(9000))))),
			"Unschedulable: " + by + "Pod default/a, Pod default/b and 2 others"},
		{"two ports", "", nil, pod("new", list(port(9001), port(9000))), node("n", 1, pod("a", list(port(9000), port(9001)))),
			"Unschedulable: " + by + "Pod default/a; hostPort 9001/TCP by Pod default/a"},
		{"one port twice", "", nil, pod("new", list(port(9000), at("127.0.0.1", port(9000)))), node("n", 1, pod("a", list(port(9000)))), "Unschedulable: " + by + "Pod default/a"},

		{"a nodePort", "", []*corev1.Service{nodePort("app", 9000)}, wants9000, node("n", 1), "UnschedulableAndUnresolvable: " + by + "Service default/app"},
		{"a nodePort, other protocol", "", []*corev1.Service{nodePort("app", 9000)},
			pod("new", list(corev1.ContainerPort{HostPort: 9000, ContainerPort: 80, Protocol: corev1.ProtocolUDP})), node("n", 1), ""},
		{"a nodePort, other family", "", []*corev1.Service{nodePort("app", 9000)}, pod("new", list(at("::", port(9000)))), node("n", 1), ""},
		{"a nodePort on loopback, not known", "", []*corev1.Service{nodePort("app", 9000)}, pod("new", list(at("127.0.0.1", port(9000)))), node("n", 1), ""},
		{"a nodePort on loopback, iptables", `{"dataplane":{"serviceProxy":"iptables"}}`, []*corev1.Service{nodePort("app", 9000)}, pod("new", list(at("127.0.0.1", port(9000)))), node("n", 1),
			"UnschedulableAndUnresolvable: " + by + "Service default/app"},
		{"a nodePort on loopback, ipvs", `{"dataplane":{"serviceProxy":"ipvs"}}`, []*corev1.Service{nodePort("app", 9000)}, pod("new", list(at("127.0.0.1", port(9000)))), node("n", 1), ""},
		{"a nodePort on primary addresses, the primary one", `{"dataplane":{"serviceProxy":"nftables"}}`, []*corev1.Service{nodePort("app", 9000)},
			pod("new", list(at("10.0.0.1", port(9000)))), addressed(node("n", 1), "10.0.0.1", "10.0.0.2"), "UnschedulableAndUnresolvable: " + by + "Service default/app"},
		{"a nodePort on primary addresses, another one", `{"dataplane":{"serviceProxy":"nftables"}}`, []*corev1.Service{nodePort("app", 9000)},
			pod("new", list(at("10.0.0.2", port(9000)))), addressed(node("n", 1), "10.0.0.1", "10.0.0.2"), ""},
		{"a nodePort on primary addresses, a node without", `{"dataplane":{"serviceProxy":"nftables"}}`, []*corev1.Service{nodePort("app", 9000)},
			pod("new", list(at("10.0.0.1", port(9000)))), node("n", 1), ""},
		{"a healthCheckNodePort", "", []*corev1.Service{local}, wants9000, node("n", 1), "UnschedulableAndUnresolvable: " + by + "Service default/local"},
		{"an external IP of the node", "", []*corev1.Service{external}, wants9000, addressed(node("n", 1), "10.0.0.1"), "UnschedulableAndUnresolvable: " + by + "Service default/external"},
		{"an external IP of another node", "", []*corev1.Service{external}, wants9000, addressed(node("n", 1), "10.0.0.2"), ""},
		{"the pods of a Service's load balancer", "", []*corev1.Service{nodePort("app", 9000)}, klipper, node("n", 1), ""},
		{"with its labels, elsewhere", "", []*corev1.Service{nodePort("app", 9000)}, imposter, node("n", 1), "UnschedulableAndUnresolvable: " + by + "Service default/app"},
		{"with its labels, where they are trusted", `{"trustedNamespaces":["default"]}`, []*corev1.Service{nodePort("app", 9000)}, imposter, node("n", 1), ""},
		{"another Service's", "", []*corev1.Service{nodePort("other", 9000)}, klipper, node("n", 1), "UnschedulableAndUnresolvable: " + by + "Service default/other"},
		{"a Service and a pod", "", []*corev1.Service{external}, wants9000, addressed(node("n", 1, pod("a", list(port(9000)))), "10.0.0.1"),
			"UnschedulableAndUnresolvable: " + by + "Pod default/a and Service default/external"},

		{"the scheduler's, on the control plane", "", nil, pod("new", list(port(10259))), labelled(node("n", 1), "node-role.kubernetes.io/control-plane"), "UnschedulableAndUnresolvable: hostPort 10259/TCP by kube-scheduler (a daemon of the node)"},
		{"the scheduler's, on a worker", "", nil, pod("new", list(port(10259))), node("n", 1), ""},
		{"the kubelet's", "", nil, pod("new", list(port(10250))), node("n", 1), "UnschedulableAndUnresolvable: hostPort 10250/TCP by kubelet (a daemon of every node)"},
		{"the daemon itself", "", nil, pod("kube-proxy", list(corev1.ContainerPort{ContainerPort: 10256}), hostNetwork,
			func(p *corev1.Pod) { p.Spec.Containers[0].Name, p.Namespace = "kube-proxy", metav1.NamespaceSystem }), node("n", 1), ""},
		{"by the daemon's name, elsewhere", "", nil, pod("kube-proxy", list(corev1.ContainerPort{ContainerPort: 10256}), hostNetwork,
			func(p *corev1.Pod) { p.Spec.Containers[0].Name = "kube-proxy" }), node("n", 1), "UnschedulableAndUnresolvable: hostNetwork port 10256/TCP by kube-proxy (a daemon of every node)"},
		{"no daemons", `{"nodeReserved":[]}`, nil, pod("new", list(port(10250))), node("n", 1), ""},
		{"reserved by annotation", "", nil, wants9000, annotated(node("n", 1), "80/TCP,9000/TCP"),
			"UnschedulableAndUnresolvable: " + by + "the node itself (annotation portcullis.dev/reserved-ports)"},
		{"reserved on another protocol", "", nil, wants9000, annotated(node("n", 1), "9000/UDP"), ""},
		{"malformed annotation", "", nil, wants9000, annotated(node("n", 1), "9000, x/TCP,,/,9000/tcp,99999/TCP,-"), ""},
		{"partly malformed annotation", "", nil, wants9000, annotated(node("n", 1), "9001 , 9000/TCP"),
			"UnschedulableAndUnresolvable: " + by + "the node itself (annotation portcullis.dev/reserved-ports)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, _ := newPlugin(t, tt.args, tt.services...)
			for range 2 { // from the NodeInfo, then as remembered
				if diff := cmp.Diff(tt.want, place(t, p, tt.pod, tt.node)); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestPreFilterSkips(t *testing.T) {
	p, _ := newPlugin(t, "")
	plain := pod("plain", nil)
	plain.Spec.Containers[0].Ports = list(corev1.ContainerPort{ContainerPort: 80})
	initOnly := pod("init", nil)
	initOnly.Spec.InitContainers = []corev1.Container{{Name: "i", Ports: list(port(9000))}}
	for _, pod := range []*corev1.Pod{plain, initOnly, pod("resized", list(port(9000)), on("n")), pod("no address", list(at("nonsense", port(9000))))} {
		s := newState()
		if _, status := p.PreFilter(t.Context(), s, pod, nil); !status.IsSkip() || len(s.data) > 0 {
			t.Errorf("%s: %v, %d in the state; want Skip", pod.Name, status, len(s.data))
		}
	}
	// Clusters have thousands of these for one with a host port.
	s, ctx := newState(), t.Context()
	if n := testing.AllocsPerRun(100, func() { p.PreFilter(ctx, s, plain, nil) }); n > 1 {
		t.Errorf("a pod without host ports costs %v allocations, want the status alone", n)
	}
}

// TestRemembered: what is known of a node follows its generations.
func TestRemembered(t *testing.T) {
	p, _ := newPlugin(t, "")
	wanted := pod("new", list(port(9000)))
	a, b := pod("a", list(port(9000))), pod("b", list(port(9001), port(8999)))
	again := pod("a", list(port(9005)))
	for i, step := range []struct {
		node *nodeInfo
		want bool
	}{
		{node("n", 1), false},
		{node("n", 2, a), true},
		{node("n", 3, b, a), true},
		{node("n", 2, a), true}, // preemption looked at a copy in between
		{node("n", 4, b), false},
		{node("n", 5, b, again), false},
		{node("m", 5), false},
		{annotated(node("n", 6, b), "9000/TCP"), true},
		{node("n", 7, b, b, a), true},
		{node("n", 0, a), true},
		{node("n", 0), false},
	} {
		if got := place(t, p, wanted, step.node) != ""; got != step.want {
			t.Errorf("step %d: refused %v, want %v", i, got, step.want)
		}
	}
	p.forget(node("n", 0).node)
	if _, ok := p.nodeStates.Load("n"); ok {
		t.Error("a deleted node is remembered")
	}
	p.forget("nonsense")
}

func TestFilterAtOnce(t *testing.T) {
	p, _ := newPlugin(t, "")
	wanted := pod("new", list(port(9000)))
	s := newState()
	p.PreFilter(t.Context(), s, wanted, nil)
	var wait sync.WaitGroup
	for i := range 8 {
		wait.Go(func() {
			for j := range 200 {
				n := node("n", int64(1+j%3))
				if j%3 == 0 {
					n = node("n", 1, pod("a", list(port(9000))))
				}
				if got := p.Filter(t.Context(), s, wanted, n).IsSuccess(); got == (j%3 == 0) {
					t.Errorf("%d: round %d: fits %v", i, j, got)
				}
			}
		})
	}
	wait.Wait()
}

func TestErrors(t *testing.T) {
	p, _ := newPlugin(t, "")
	s := newState()
	if status := p.Filter(t.Context(), s, pod("a", nil), node("n", 1)); status.Code() != fwk.Error {
		t.Errorf("without PreFilter: %v", status)
	}
	p.PreFilter(t.Context(), s, pod("a", list(port(9000))), nil)
	if status := p.Filter(t.Context(), s, pod("a", nil), &nodeInfo{}); status.Code() != fwk.Error {
		t.Errorf("without a node: %v", status)
	}
	for name, args := range map[string]runtime.Object{
		"arguments of PortClaims: dataplane.serviceProxy: Invalid value: \"x\": write one of iptables, nftables, ipvs, userspace, none, unknown": &runtime.Unknown{Raw: []byte(`{"dataplane":{"serviceProxy":"x"}}`)},
		"arguments of PortClaims: they are text/plain, want application/json":                                                                    &runtime.Unknown{ContentType: "text/plain"},
		"arguments of PortClaims: they are a *v1.Pod, want PortClaimsArgs in JSON":                                                               &corev1.Pod{},
	} {
		if _, err := New(t.Context(), args, newHandle()); err == nil || err.Error() != name {
			t.Errorf("New: %v, want %s", err, name)
		}
	}
}

// TestTwoProfiles: two profiles of one scheduler share its informers.
func TestTwoProfiles(t *testing.T) {
	_, h := newPlugin(t, "", nodePort("app", 9000))
	second, err := New(t.Context(), nil, h)
	if err != nil {
		t.Fatal(err)
	}
	if got := place(t, second.(*PortClaims), pod("new", list(port(9000))), node("n", 1)); got == "" {
		t.Error("the second profile does not see the Service")
	}
}

func TestSignPod(t *testing.T) {
	p, _ := newPlugin(t, "")
	sign := func(pod *corev1.Pod) string {
		fragments, status := p.SignPod(t.Context(), pod)
		if !status.IsSuccess() || len(fragments) > 1 {
			t.Fatalf("SignPod: %v, %v", fragments, status)
		}
		if len(fragments) == 0 {
			return ""
		}
		return strings.Join(fragments[0].Value.([]string), " ")
	}
	udp := port(9000)
	udp.Protocol = corev1.ProtocolUDP
	proxy := pod("proxy", list(corev1.ContainerPort{ContainerPort: 10256}), hostNetwork)
	proxy.Spec.Containers[0].Name, proxy.Namespace = "kube-proxy", metav1.NamespaceSystem
	for _, tt := range []struct {
		pod  *corev1.Pod
		want string
	}{
		{pod("a", nil), ""},
		{pod("a", list(port(9000))), "*:9000/TCP"},
		{pod("a", list(udp)), "*:9000/UDP"},
		{pod("a", list(at("127.0.0.1", port(9000)))), "127.0.0.1:9000/TCP"},
		{pod("a", list(at("::ffff:127.0.0.1", port(9000)))), "127.0.0.1:9000/TCP"},
		{pod("a", list(port(9001), port(9000), port(9001))), "*:9000/TCP *:9001/TCP"},
		{proxy, "*:10256/TCP daemon kube-proxy"},
	} {
		if diff := cmp.Diff(tt.want, sign(tt.pod)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}
