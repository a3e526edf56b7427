package scheduling

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework"
)

const (
	manyNodes    = 5000
	podsPerNode  = 30
	portsPerPod  = 5
	firstPort    = 20000
	firstFree    = firstPort + podsPerNode*portsPerPod
	changesCycle = 1 // nodes that change from one scheduling cycle to the next
)

func fivePorts(name string, first int32) *corev1.Pod {
	var list []corev1.ContainerPort
	for i := range int32(portsPerPod) {
		list = append(list, corev1.ContainerPort{HostPort: first + i, ContainerPort: first + i, Protocol: corev1.ProtocolTCP})
	}
	return newPod(name, false, list...)
}

func largeCluster() []fwk.NodeInfo {
	nodes := make([]fwk.NodeInfo, manyNodes)
	for i := range nodes {
		var pods []*corev1.Pod
		for j := range int32(podsPerNode) {
			pod := fivePorts(fmt.Sprintf("p%d-%d", i, j), firstPort+j*portsPerPod)
			pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: fmt.Sprintf("d%d-1", j), Controller: new(true)}}
			pod.Labels = map[string]string{"pod-template-hash": "1"}
			pods = append(pods, pod)
		}
		nodes[i] = newNode(fmt.Sprint("n", i), pods...)
	}
	return nodes
}

// BenchmarkCycle is the time that a plugin takes for one pod over all nodes of a large cluster, of which one has got a pod
// since the last: PreFilter, then Filter for each node.
func BenchmarkCycle(b *testing.B) {
	nodes := largeCluster()
	for _, plugin := range []struct {
		name string
		filter
	}{{"NodePorts", nodePorts(b)}, {"PortClaims", portClaims(b, "{}")}} {
		for _, pod := range []*corev1.Pod{fivePorts("fits", firstFree), fivePorts("taken", firstFree-1), newPod("without", false)} {
			b.Run(pod.Name+"/"+plugin.name, func(b *testing.B) {
				cycle(b, plugin, pod, nodes)
				b.ReportAllocs()
				for b.Loop() {
					change(b, nodes)
					cycle(b, plugin, pod, nodes)
				}
			})
		}
	}
}

func cycle(b *testing.B, p filter, pod *corev1.Pod, nodes []fwk.NodeInfo) {
	state, status := preFilter(b.Context(), p, pod)
	if status.IsSkip() {
		return
	}
	for _, n := range nodes {
		if got := p.Filter(b.Context(), state, pod, n).IsSuccess(); got != (pod.Name == "fits") {
			b.Fatalf("%s fits: %v", pod.Name, got)
		}
	}
}

// change gives a node another generation, with one pod replaced by its like.
func change(b *testing.B, nodes []fwk.NodeInfo) {
	for i := range changesCycle {
		n := nodes[i].(*framework.NodeInfo)
		old := n.GetPods()[0].GetPod()
		if err := n.RemovePod(klog.Background(), old); err != nil {
			b.Fatal(err)
		}
		n.AddPod(old.DeepCopy())
	}
}

// BenchmarkFirstCycle is PortClaims' first look at a large cluster, when nothing is remembered.
func BenchmarkFirstCycle(b *testing.B) {
	nodes, pod := largeCluster(), fivePorts("fits", firstFree)
	b.ReportAllocs()
	for b.Loop() {
		cycle(b, portClaims(b, "{}"), pod, nodes)
	}
}
