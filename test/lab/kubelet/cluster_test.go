package kubelet

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/portcullis-k8s/portcullis/test/lab/poll"
)

// cluster is what the subtests share: a control plane, and a namespace for each of them.
type cluster struct {
	client kubernetes.Interface
	kube   *Kubelet
}

func (c cluster) createNamespace(t *testing.T, name string) {
	t.Helper()
	_, err := c.client.CoreV1().Namespaces().Create(t.Context(), &v1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

func (c cluster) createDeployment(t *testing.T, ns string, replicas int32, spec v1.PodSpec) {
	t.Helper()
	labels := map[string]string{"app": "web"}
	_, err := c.client.AppsV1().Deployments(ns).Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: v1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: spec},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

func (c cluster) createPod(t *testing.T, ns, name string, spec v1.PodSpec) {
	t.Helper()
	_, err := c.client.CoreV1().Pods(ns).Create(t.Context(), &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

func (c cluster) deletePod(t *testing.T, ns, name string) {
	t.Helper()
	if err := c.client.CoreV1().Pods(ns).Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

func (c cluster) pod(t *testing.T, ns, name string) v1.Pod {
	t.Helper()
	pod, err := c.client.CoreV1().Pods(ns).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return *pod
}

func (c cluster) pods(t *testing.T, ns string) []v1.Pod {
	t.Helper()
	pods, err := c.client.CoreV1().Pods(ns).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return pods.Items
}

// eventually waits until the pods of a namespace are as they should be.
func (c cluster) eventually(t *testing.T, ns, what string, condition func([]v1.Pod) bool) {
	t.Helper()
	poll.UntilTrue(t, what, func() bool { return condition(c.pods(t, ns)) })
}

// wantReadyNodes waits until these nodes and no others are ready, and until those have no taint against scheduling.
func (c cluster) wantReadyNodes(t *testing.T, names ...string) {
	t.Helper()
	poll.UntilTrue(t, fmt.Sprintf("the nodes %v are ready", names), func() bool {
		nodes, err := c.client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, n := range nodes.Items {
			isReady := slices.ContainsFunc(n.Status.Conditions, func(c v1.NodeCondition) bool {
				return c.Type == v1.NodeReady && c.Status == v1.ConditionTrue
			})
			tainted := slices.ContainsFunc(n.Spec.Taints, func(t v1.Taint) bool { return strings.HasPrefix(t.Key, "node.kubernetes.io/") })
			if isReady && !tainted {
				got = append(got, n.Name)
			}
		}
		return cmp.Equal(got, names)
	})
}

func podSpec(ports ...v1.ContainerPort) v1.PodSpec {
	return v1.PodSpec{Containers: []v1.Container{{Name: "main", Image: "example", Ports: ports}}}
}

func hostPort(port int32) v1.ContainerPort {
	return v1.ContainerPort{ContainerPort: 80, HostPort: port}
}

// onNode binds a pod without asking the scheduler.
func onNode(name string, spec v1.PodSpec) v1.PodSpec {
	spec.NodeName = name
	return spec
}

func count(pods []v1.Pod, is func(v1.Pod) bool) int {
	n := 0
	for _, p := range pods {
		if is(p) {
			n++
		}
	}
	return n
}

func running(p v1.Pod) bool { return p.Status.Phase == v1.PodRunning }
func failed(p v1.Pod) bool  { return p.Status.Phase == v1.PodFailed }
func ready(p v1.Pod) bool   { return hasCondition(p, v1.PodReady, v1.ConditionTrue, "") }

func unschedulable(p v1.Pod) bool {
	return hasCondition(p, v1.PodScheduled, v1.ConditionFalse, v1.PodReasonUnschedulable)
}

func hasCondition(p v1.Pod, kind v1.PodConditionType, status v1.ConditionStatus, reason string) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c v1.PodCondition) bool {
		return c.Type == kind && c.Status == status && c.Reason == reason
	})
}

func background() metav1.DeleteOptions {
	policy := metav1.DeletePropagationBackground
	return metav1.DeleteOptions{PropagationPolicy: &policy}
}

func inPrefix(address, prefix string) bool {
	return netip.MustParsePrefix(prefix).Contains(netip.MustParseAddr(address))
}

func meta(uid string) metav1.ObjectMeta { return metav1.ObjectMeta{UID: types.UID(uid)} }

func testNode(t *testing.T, cidrs ...string) *node {
	t.Helper()
	n, err := newNode(Node{Name: "n1", PodCIDRs: cidrs})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
