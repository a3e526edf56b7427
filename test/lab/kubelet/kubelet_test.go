package kubelet

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	v1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/portcullis-k8s/portcullis/test/lab/controlplane"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
)

// TestCluster runs the stand-in with everything else real. The subtests follow one another: the last one loses nodes.
func TestCluster(t *testing.T) {
	t.Parallel()
	cp := controlplane.Run(t, controlplane.Options{
		ControllerManager:      true,
		Scheduler:              true,
		ServiceCIDRs:           []string{controlplane.IPv4ServiceCIDR, controlplane.IPv6ServiceCIDR},
		NodeMonitorGracePeriod: 6 * time.Second,
	})
	client, err := kubernetes.NewForConfig(cp.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	kube := Run(t, cp.RESTConfig(), Options{
		Nodes:     Nodes(3, v1.IPv4Protocol, v1.IPv6Protocol),
		Heartbeat: time.Second,
		Hold:      func(p *v1.Pod) bool { return p.Labels["held"] != "" },
	})
	c := cluster{client: client, kube: kube}
	for _, subtest := range []struct {
		name string
		run  func(*testing.T, cluster, string)
	}{
		{"deployment", testDeployment},
		{"many", testMany},
		{"daemonset", testDaemonSet},
		{"rejection", testRejection},
		{"status", testStatus},
		{"hold", testHold},
		{"job", testJob},
		{"fail", testFail},
		{"finalizer", testFinalizer},
		{"endpointslices", testEndpointSlices},
		{"lost", testLost},
	} {
		t.Run(subtest.name, func(t *testing.T) {
			c.createNamespace(t, subtest.name)
			subtest.run(t, c, subtest.name)
		})
	}
}

// testDeployment wants four pods with one host port on three nodes: the scheduler places three, and a deletion makes
// room for the fourth.
func testDeployment(t *testing.T, c cluster, ns string) {
	c.createDeployment(t, ns, 4, podSpec(hostPort(9000)))
	c.eventually(t, ns, "three run and one waits", func(pods []v1.Pod) bool {
		return count(pods, ready) == 3 && count(pods, unschedulable) == 1
	})
	nodes := map[string]bool{}
	for _, p := range c.pods(t, ns) {
		if p.Spec.NodeName != "" {
			nodes[p.Spec.NodeName] = true
		}
	}
	if len(nodes) != 3 {
		t.Errorf("they are on %v, want one on each node", nodes)
	}
	if err := c.client.AppsV1().Deployments(ns).Delete(t.Context(), "web", background()); err != nil {
		t.Fatal(err)
	}
	c.eventually(t, ns, "all are deleted", func(pods []v1.Pod) bool { return len(pods) == 0 })
}

// testMany deploys as many pods as the bigger tests do.
func testMany(t *testing.T, c cluster, ns string) {
	c.createDeployment(t, ns, 300, podSpec())
	c.eventually(t, ns, "300 are ready", func(pods []v1.Pod) bool { return count(pods, ready) == 300 })
	addresses := map[string]bool{}
	for _, p := range c.pods(t, ns) {
		addresses[p.Status.PodIP] = true
	}
	if len(addresses) != 300 {
		t.Errorf("300 pods have %d addresses", len(addresses))
	}
	if err := c.client.AppsV1().Deployments(ns).Delete(t.Context(), "web", background()); err != nil {
		t.Fatal(err)
	}
	c.eventually(t, ns, "all are deleted", func(pods []v1.Pod) bool { return len(pods) == 0 })
}

func testDaemonSet(t *testing.T, c cluster, ns string) {
	labels := map[string]string{"app": "agent"}
	set := &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: "agent"},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: v1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: podSpec(hostPort(9100))},
		},
	}
	if _, err := c.client.AppsV1().DaemonSets(ns).Create(t.Context(), set, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually(t, ns, "one on each node", func(pods []v1.Pod) bool {
		var nodes []string
		for _, p := range pods {
			nodes = append(nodes, p.Spec.NodeName)
		}
		slices.Sort(nodes)
		return cmp.Equal(nodes, []string{"n1", "n2", "n3"}) && count(pods, ready) == 3
	})
}

// testRejection binds pods past the scheduler.
func testRejection(t *testing.T, c cluster, ns string) {
	c.createPod(t, ns, "first", onNode("n1", podSpec(hostPort(9200))))
	c.eventually(t, ns, "the first runs", func(pods []v1.Pod) bool { return count(pods, ready) == 1 })

	c.createPod(t, ns, "second", onNode("n1", podSpec(hostPort(9200))))
	c.createPod(t, ns, "elsewhere", onNode("n2", podSpec(hostPort(9200))))
	c.eventually(t, ns, "the second is refused, another node takes its twin", func(pods []v1.Pod) bool {
		return count(pods, ready) == 2 && count(pods, failed) == 1
	})
	second := c.pod(t, ns, "second")
	const message = "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
	if s := second.Status; s.Reason != "NodePorts" || s.Message != message {
		t.Errorf("reason %q, message %q", s.Reason, s.Message)
	}
	if len(second.Status.ContainerStatuses) != 0 || second.Status.PodIP != "" {
		t.Errorf("the refused pod has containers or an address: %+v", second.Status)
	}
	poll.UntilTrue(t, "an event tells it", func() bool {
		events, err := c.client.CoreV1().Events(ns).List(t.Context(), metav1.ListOptions{FieldSelector: "reason=NodePorts,involvedObject.name=second"})
		return err == nil && len(events.Items) == 1
	})

	// A pod that has gone, or has finished, makes room. A refused one never comes back.
	c.deletePod(t, ns, "first")
	c.eventually(t, ns, "the first is gone", func(pods []v1.Pod) bool { return len(pods) == 2 })
	c.createPod(t, ns, "third", onNode("n1", podSpec(hostPort(9200))))
	c.eventually(t, ns, "the third runs", func(pods []v1.Pod) bool { return count(pods, ready) == 2 })
	if err := c.kube.Complete(t.Context(), ns, "third"); err != nil {
		t.Fatal(err)
	}
	c.createPod(t, ns, "fourth", onNode("n1", podSpec(hostPort(9200))))
	c.eventually(t, ns, "the fourth runs", func(pods []v1.Pod) bool { return count(pods, ready) == 2 && count(pods, failed) == 1 })
}

// testStatus looks closely at one pod of each kind of network, with every kind of container.
func testStatus(t *testing.T, c cluster, ns string) {
	always := v1.ContainerRestartPolicyAlways
	spec := onNode("n2", podSpec())
	spec.InitContainers = []v1.Container{
		{Name: "prepare", Image: "example"},
		{Name: "proxy", Image: "example", RestartPolicy: &always},
	}
	c.createPod(t, ns, "pod", spec)
	host := onNode("n2", podSpec())
	host.HostNetwork = true
	c.createPod(t, ns, "host", host)
	gated := onNode("n2", podSpec())
	gated.ReadinessGates = []v1.PodReadinessGate{{ConditionType: "example.com/webhook"}}
	c.createPod(t, ns, "gated", gated)
	c.eventually(t, ns, "all run", func(pods []v1.Pod) bool { return count(pods, running) == 3 })

	pod := c.pod(t, ns, "pod").Status
	if !inPrefix(pod.PodIPs[0].IP, "10.244.2.0/24") || !inPrefix(pod.PodIPs[1].IP, "fd00:10:244:2::/64") {
		t.Errorf("addresses %v, want one of each of the node's ranges", pod.PodIPs)
	}
	if diff := cmp.Diff([]v1.HostIP{{IP: "192.168.10.2"}, {IP: "fd00:10::2"}}, pod.HostIPs); diff != "" {
		t.Errorf("the node's addresses (-want +got):\n%s", diff)
	}
	prepare, proxy, main := pod.InitContainerStatuses[0], pod.InitContainerStatuses[1], pod.ContainerStatuses[0]
	if end := prepare.State.Terminated; end == nil || end.ExitCode != 0 {
		t.Errorf("the init container has not completed: %+v", prepare.State)
	}
	for _, s := range []v1.ContainerStatus{proxy, main} {
		if s.State.Running == nil || !s.Ready || !*s.Started {
			t.Errorf("container %s does not run: %+v", s.Name, s)
		}
	}
	if got := c.pod(t, ns, "host").Status.PodIPs; !cmp.Equal(got, []v1.PodIP{{IP: "192.168.10.2"}, {IP: "fd00:10::2"}}) {
		t.Errorf("the pod of the host network has %v, want the node's addresses", got)
	}
	if p := c.pod(t, ns, "gated"); ready(p) {
		t.Error("a pod is ready whose readiness gate is closed")
	}
	const open = `{"status":{"conditions":[{"type":"example.com/webhook","status":"True"}]}}`
	if _, err := c.client.CoreV1().Pods(ns).Patch(t.Context(), "gated", types.StrategicMergePatchType, []byte(open), metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	c.eventually(t, ns, "all are ready", func(pods []v1.Pod) bool { return count(pods, ready) == 3 })
}

func testHold(t *testing.T, c cluster, ns string) {
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "held", Labels: map[string]string{"held": "yes"}}, Spec: podSpec()}
	if _, err := c.client.CoreV1().Pods(ns).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.createPod(t, ns, "free", podSpec())
	c.eventually(t, ns, "both run, one is ready", func(pods []v1.Pod) bool { return count(pods, running) == 2 && count(pods, ready) == 1 })
	c.kube.Hold(nil)
	c.eventually(t, ns, "both are ready", func(pods []v1.Pod) bool { return count(pods, ready) == 2 })
	c.kube.Hold(func(*v1.Pod) bool { return true })
	c.eventually(t, ns, "none is ready", func(pods []v1.Pod) bool { return count(pods, ready) == 0 && count(pods, running) == 2 })
	c.kube.Hold(nil)
}

// testJob needs the whole life of a pod to be as the job controller expects it.
func testJob(t *testing.T, c cluster, ns string) {
	spec := podSpec()
	spec.RestartPolicy = v1.RestartPolicyNever
	job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "job"}, Spec: batchv1.JobSpec{Template: v1.PodTemplateSpec{Spec: spec}}}
	if _, err := c.client.BatchV1().Jobs(ns).Create(t.Context(), job, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually(t, ns, "its pod runs", func(pods []v1.Pod) bool { return count(pods, ready) == 1 })
	if err := c.kube.Complete(t.Context(), ns, c.pods(t, ns)[0].Name); err != nil {
		t.Fatal(err)
	}
	poll.UntilTrue(t, "the job is complete", func() bool {
		job, err := c.client.BatchV1().Jobs(ns).Get(t.Context(), "job", metav1.GetOptions{})
		return err == nil && job.Status.Succeeded == 1 && job.Status.CompletionTime != nil
	})
}

func testFail(t *testing.T, c cluster, ns string) {
	c.createPod(t, ns, "pod", podSpec())
	c.eventually(t, ns, "it runs", func(pods []v1.Pod) bool { return count(pods, ready) == 1 })
	if err := c.kube.Fail(t.Context(), ns, "pod", "Evicted", "no room"); err != nil {
		t.Fatal(err)
	}
	status := c.pod(t, ns, "pod").Status
	if status.Phase != v1.PodFailed || status.Reason != "Evicted" || status.ContainerStatuses[0].State.Terminated == nil {
		t.Errorf("status %+v", status)
	}
	if err := c.kube.Fail(t.Context(), ns, "nothing", "", ""); !apierrors.IsNotFound(err) {
		t.Errorf("got %v for a pod that is not there", err)
	}
}

// testFinalizer deletes a pod that something else holds back.
func testFinalizer(t *testing.T, c cluster, ns string) {
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "pod", Finalizers: []string{"example.com/keep"}}, Spec: podSpec()}
	if _, err := c.client.CoreV1().Pods(ns).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually(t, ns, "it runs", func(pods []v1.Pod) bool { return count(pods, ready) == 1 })
	c.deletePod(t, ns, "pod")
	c.eventually(t, ns, "it has stopped and stays", func(pods []v1.Pod) bool { return count(pods, failed) == 1 })
	const drop = `{"metadata":{"finalizers":null}}`
	if _, err := c.client.CoreV1().Pods(ns).Patch(t.Context(), "pod", types.MergePatchType, []byte(drop), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually(t, ns, "it is gone", func(pods []v1.Pod) bool { return len(pods) == 0 })
}

func testEndpointSlices(t *testing.T, c cluster, ns string) {
	c.createDeployment(t, ns, 2, podSpec())
	policy := v1.IPFamilyPolicyRequireDualStack
	service := &v1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: v1.ServiceSpec{
			Type: v1.ServiceTypeNodePort, IPFamilyPolicy: &policy,
			Selector: map[string]string{"app": "web"}, Ports: []v1.ServicePort{{Port: 80}},
		},
	}
	if _, err := c.client.CoreV1().Services(ns).Create(t.Context(), service, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	poll.UntilTrue(t, "a slice for each family holds two ready endpoints", func() bool {
		list, err := c.client.DiscoveryV1().EndpointSlices(ns).List(t.Context(), metav1.ListOptions{})
		found := map[discoveryv1.AddressType]int{}
		for _, s := range list.Items {
			for _, e := range s.Endpoints {
				if *e.Conditions.Ready {
					found[s.AddressType]++
				}
			}
		}
		return err == nil && found[discoveryv1.AddressTypeIPv4] == 2 && found[discoveryv1.AddressTypeIPv6] == 2
	})
}

// testLost cuts two of three nodes off: the node controller marks them, nothing happens to their pods, and everything
// goes on when they return.
func testLost(t *testing.T, c cluster, ns string) {
	for _, name := range []string{"n1", "n2", "n3"} {
		c.createPod(t, ns, "on-"+name, onNode(name, podSpec(hostPort(9400))))
	}
	c.eventually(t, ns, "all run", func(pods []v1.Pod) bool { return count(pods, ready) == 3 })
	c.wantReadyNodes(t, "n1", "n2", "n3")

	for _, name := range []string{"n1", "n2"} {
		if err := c.kube.Lose(name); err != nil {
			t.Fatal(err)
		}
	}
	c.deletePod(t, ns, "on-n1")
	c.createPod(t, ns, "late", onNode("n2", podSpec(hostPort(9400))))
	c.wantReadyNodes(t, "n3")
	c.eventually(t, ns, "the deleted pod lingers, the late one waits", func(pods []v1.Pod) bool {
		return len(pods) == 4 && count(pods, ready) == 1 &&
			count(pods, func(p v1.Pod) bool { return p.DeletionTimestamp != nil && p.Name == "on-n1" }) == 1 &&
			count(pods, func(p v1.Pod) bool { return p.Status.Phase == v1.PodPending && p.Name == "late" }) == 1
	})

	for _, name := range []string{"n1", "n2"} {
		if err := c.kube.Return(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	c.wantReadyNodes(t, "n1", "n2", "n3")
	c.eventually(t, ns, "the deleted pod is gone, the late one refused, the others ready", func(pods []v1.Pod) bool {
		return len(pods) == 3 && count(pods, ready) == 2 && count(pods, failed) == 1
	})
	if err := c.kube.Lose("nowhere"); err == nil {
		t.Error("a node that is not there can be lost")
	}
}

// TestWithoutControllers has nothing but an API server: nodes are ready, free of taints, and pods run and end slowly
// if told to.
func TestWithoutControllers(t *testing.T) {
	t.Parallel()
	cp := controlplane.Run(t, controlplane.Options{ServiceCIDRs: []string{controlplane.IPv6ServiceCIDR}})
	client, err := kubernetes.NewForConfig(cp.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	nodes := Nodes(2, v1.IPv6Protocol)
	nodes[0].Labels = map[string]string{"zone": "a"}
	nodes[0].Taints = []v1.Taint{{Key: "example.com/special", Effect: v1.TaintEffectNoSchedule}}
	kube := Run(t, cp.RESTConfig(), Options{Nodes: nodes[:1], DeletionDelay: time.Second})
	c := cluster{client: client, kube: kube}

	stored, err := client.CoreV1().Nodes().Get(t.Context(), "n1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(nodes[0].Taints, stored.Spec.Taints); diff != "" {
		t.Errorf("taints (-want +got):\n%s", diff)
	}
	if stored.Labels["zone"] != "a" || stored.Labels[v1.LabelHostname] != "n1" {
		t.Errorf("labels %v", stored.Labels)
	}
	c.createPod(t, "default", "late", onNode("n2", podSpec()))
	if err := kube.AddNode(t.Context(), nodes[1]); err != nil {
		t.Fatal(err)
	}
	c.wantReadyNodes(t, "n1", "n2")
	c.eventually(t, "default", "the pod runs when its node comes", func(pods []v1.Pod) bool { return count(pods, ready) == 1 })
	if got := c.pod(t, "default", "late").Status.PodIP; !inPrefix(got, "fd00:10:244:2::/64") {
		t.Errorf("address %s", got)
	}
	c.deletePod(t, "default", "late")
	if p := c.pod(t, "default", "late"); p.DeletionTimestamp == nil {
		t.Error("the pod does not terminate")
	}
	c.eventually(t, "default", "it is gone", func(pods []v1.Pod) bool { return len(pods) == 0 })
}

// TestRestart stops the stand-in, lets pods come and starts it again: what was there keeps its place and address.
func TestRestart(t *testing.T) {
	t.Parallel()
	const ns = "default"
	cp := controlplane.Run(t, controlplane.Options{})
	client, err := kubernetes.NewForConfig(cp.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	c := cluster{client: client}
	options := Options{Nodes: Nodes(1)}
	before := Run(t, cp.RESTConfig(), options)
	c.createPod(t, ns, "old", onNode("n1", podSpec(hostPort(9300))))
	c.eventually(t, ns, "it runs", func(pods []v1.Pod) bool { return count(pods, ready) == 1 })
	was := c.pod(t, ns, "old").Status
	before.Stop()

	c.createPod(t, ns, "new", onNode("n1", podSpec(hostPort(9300))))
	Run(t, cp.RESTConfig(), options)
	c.eventually(t, ns, "the new one is refused", func(pods []v1.Pod) bool { return count(pods, failed) == 1 })
	if diff := cmp.Diff(was, c.pod(t, ns, "old").Status); diff != "" {
		t.Errorf("the old one has changed (-was +is):\n%s", diff)
	}
}

func TestUnknownRange(t *testing.T) {
	_, err := Start(t.Context(), &rest.Config{Host: "127.0.0.1:1"}, Options{Nodes: []Node{{Name: "n1", PodCIDRs: []string{"nonsense"}}}})
	if err == nil || !strings.Contains(err.Error(), "n1") || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("got %v, want an error that names node and range", err)
	}
}
