package audit

import (
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

// large is a cluster of 5,000 nodes and 150,000 pods, of which three DaemonSets' claim ports, with 10,000 Services, of
// which 2,000 have a nodePort, and ten that of a DaemonSet.
func large() []runtime.Object {
	const nodes, pods, services = 5000, 150_000, 10_000
	var all []runtime.Object
	made := func(name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name), CreationTimestamp: metav1.NewTime(time.Unix(int64(len(all)), 0))}
	}
	spec := func(port int32) corev1.PodSpec {
		return corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Ports: []corev1.ContainerPort{{ContainerPort: 80, HostPort: port}}}}}
	}
	for i := range nodes {
		all = append(all, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("n", i)}, Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("10.1.%d.%d", i/250, i%250+1)},
		}}})
	}
	for d := range 3 {
		set := &appsv1.DaemonSet{ObjectMeta: made(fmt.Sprint("d", d)), Spec: appsv1.DaemonSetSpec{Template: corev1.PodTemplateSpec{Spec: spec(int32(30000 + d))}}}
		all = append(all, set)
		for i := range nodes {
			pod := &corev1.Pod{ObjectMeta: made(fmt.Sprintf("d%d-%d", d, i)), Spec: spec(int32(30000 + d))}
			pod.Spec.NodeName = fmt.Sprint("n", i)
			pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "DaemonSet", Name: set.Name, UID: set.UID, Controller: new(true)}}
			all = append(all, pod)
		}
	}
	for i := range pods - 3*nodes {
		pod := &corev1.Pod{ObjectMeta: made(fmt.Sprint("p", i)), Spec: corev1.PodSpec{NodeName: fmt.Sprint("n", i%nodes), Containers: make([]corev1.Container, 1)}}
		all = append(all, pod)
	}
	for i := range services {
		svc := &corev1.Service{ObjectMeta: made(fmt.Sprint("s", i)), Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, Ports: []corev1.ServicePort{{Port: 80}}}}
		if i < 2000 {
			svc.Spec.Type, svc.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, int32(30003+i)
		}
		if i < 10 {
			svc.Spec.Ports[0].NodePort = int32(30000 + i%3)
		}
		all = append(all, svc)
	}
	return all
}

// BenchmarkEverything audits a large cluster.
func BenchmarkEverything(b *testing.B) {
	s, all := settings(b), large()
	b.ReportAllocs()
	for b.Loop() {
		findings, err := Everything(s, all, time.Unix(1e6, 0), nil)
		if err != nil || len(findings) == 0 {
			b.Fatal(len(findings), err)
		}
	}
}
