package scheduling

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework"

	configv1alpha1 "github.com/portcullis-k8s/portcullis/api/config/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/extract/specimen"
)

// cluster is a random one, with few numbers and addresses, so that things meet.
type cluster struct {
	specimen.Source
	args     *configv1alpha1.PortClaimsArgs
	nodes    []*framework.NodeInfo
	services []*corev1.Service
	pods     int // made so far
}

func one[T any](s specimen.Source, of ...T) T { return of[s.IntN(len(of))] }

func drawCluster(s specimen.Source) *cluster {
	c := &cluster{Source: s, args: &configv1alpha1.PortClaimsArgs{}}
	c.args.DataPlane.ServiceProxy = one(s, configv1alpha1.ServiceProxyIPTables, configv1alpha1.ServiceProxyNFTables, configv1alpha1.ServiceProxyIPVS)
	c.args.DataPlane.NodePortAddresses = one(s, nil, nil, []string{"primary"}, []string{"10.0.0.0/24"}, []string{"10.0.1.0/24", "fd00::/64"}, []string{"127.0.0.0/8"}, []string{"0.0.0.0/0", "::/0"})
	c.args.DataPlane.LocalhostNodePorts = new(s.IntN(2) == 0)
	c.args.TrustedNamespaces = one(s, []string{"default"}, []string{"kube-system"})
	c.args.NodeReserved = one(s, []configv1alpha1.ReservedSocket{}, []configv1alpha1.ReservedSocket{
		{Name: "main", Port: 84}, {Name: "loop", Port: 85, HostIP: "127.0.0.1"}, {Name: "six", Port: 85, HostIP: "::", Protocol: "UDP"},
	})
	c.args.Default()
	for i := range 1 + s.IntN(4) {
		c.nodes = append(c.nodes, c.drawNode(i+1))
	}
	for i := range s.IntN(4) {
		c.services = append(c.services, c.drawService(fmt.Sprint("s", i)))
	}
	return c
}

func (c *cluster) drawNode(i int) *framework.NodeInfo {
	info := newNode(fmt.Sprint("n", i))
	node := info.Node()
	if i <= 3 {
		for _, a := range one(c.Source, nil, []string{"10.0.0.%d"}, []string{"10.0.0.%d", "10.0.1.%d", "fd00::%d"}, []string{"fd00::%d", "10.0.1.%d", "10.0.0.%d"}) {
			node.Status.Addresses = append(node.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: fmt.Sprintf(a, i)})
		}
	}
	if c.IntN(3) == 0 {
		node.Annotations = map[string]string{"portcullis.dev/reserved-ports": one(c.Source, "80/TCP", "82/UDP,83/SCTP", "nonsense,80/TCP", "80", "83/SCTP,,99999999/TCP")}
	}
	return info
}

func (c *cluster) drawService(name string) *corev1.Service {
	svc := &corev1.Service{}
	svc.Namespace, svc.Name = "default", name
	svc.Spec.Type = one(c.Source, corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer)
	svc.Spec.IPFamilies = one(c.Source, []corev1.IPFamily{corev1.IPv4Protocol}, []corev1.IPFamily{corev1.IPv6Protocol}, []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol})
	svc.Spec.ClusterIP = "10.96.0.1"
	for i := range 1 + c.IntN(2) {
		svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{
			Name: fmt.Sprint(i), Port: one[int32](c.Source, 80, 81, 82), NodePort: one[int32](c.Source, 0, 80, 81, 82, 83), Protocol: c.drawProtocol(),
		})
	}
	if c.IntN(3) == 0 {
		svc.Spec.ExternalIPs = []string{one(c.Source, "10.0.0.1", "10.0.1.2", "fd00::1", "192.0.2.9")}
	}
	if svc.Spec.Type == corev1.ServiceTypeLoadBalancer {
		svc.Spec.ExternalTrafficPolicy = one(c.Source, corev1.ServiceExternalTrafficPolicyLocal, corev1.ServiceExternalTrafficPolicyCluster)
		svc.Spec.HealthCheckNodePort = one[int32](c.Source, 0, 80, 81)
		svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: one(c.Source, "10.0.0.2", "2001:db8::9", "10.0.1.1"),
			IPMode: one(c.Source, nil, new(corev1.LoadBalancerIPModeVIP), new(corev1.LoadBalancerIPModeProxy))}}
	}
	return svc
}

func (c *cluster) drawProtocol() corev1.Protocol {
	return one(c.Source, "", corev1.ProtocolTCP, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)
}

func (c *cluster) drawPod() *corev1.Pod {
	c.pods++
	pod := newPod(fmt.Sprint("p", c.pods), c.IntN(4) == 0)
	pod.Spec.Containers[0].Ports = c.drawPorts(pod.Spec.HostNetwork)
	if c.IntN(4) == 0 {
		pod.Spec.InitContainers = []corev1.Container{{Name: one(c.Source, "init", "loop"), Ports: c.drawPorts(pod.Spec.HostNetwork),
			RestartPolicy: one(c.Source, nil, new(corev1.ContainerRestartPolicyAlways))}}
	}
	switch c.IntN(6) {
	case 0:
		pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: one(c.Source, "a", "b") + "-1", Controller: new(true)}}
		pod.Labels = map[string]string{"pod-template-hash": "1"}
	case 1:
		pod.Labels = map[string]string{"svccontroller.k3s.cattle.io/svcname": one(c.Source, "s0", "s1")}
	case 2:
		pod.Status.Phase = one(c.Source, corev1.PodSucceeded, corev1.PodFailed, corev1.PodRunning)
	}
	return pod
}

func (c *cluster) drawPorts(hostNetwork bool) []corev1.ContainerPort {
	var all []corev1.ContainerPort
	for range c.IntN(3) {
		p := corev1.ContainerPort{ContainerPort: one[int32](c.Source, 80, 81, 82, 83, 84, 85), Protocol: c.drawProtocol(), HostIP: one(c.Source, hostIPs()...)}
		if hostNetwork {
			p.HostPort = one(c.Source, 0, p.ContainerPort)
		} else {
			p.HostPort = one[int32](c.Source, 0, 80, 81, 82, 83, 84, 85)
		}
		all = append(all, p)
	}
	return all
}

// change adds a pod to a node or takes one from it, as the scheduler's cache does, or hands out a copy, as its snapshot is.
func (c *cluster) change(t *testing.T) {
	t.Helper()
	i := c.IntN(len(c.nodes))
	node := c.nodes[i]
	switch pods := node.GetPods(); {
	case len(pods) > 0 && c.IntN(3) == 0:
		if err := node.RemovePod(klog.Background(), pods[c.IntN(len(pods))].GetPod()); err != nil {
			t.Fatal(err)
		}
	case c.IntN(4) == 0:
		c.nodes[i] = node.Snapshot().(*framework.NodeInfo)
	case len(pods) < 5:
		pod := c.drawPod()
		pod.Spec.NodeName = one(c.Source, node.Node().Name, "") // "": nominated only
		node.AddPod(pod)
	}
}

func podsOn(node fwk.NodeInfo) []*corev1.Pod {
	var pods []*corev1.Pod
	for _, p := range node.GetPods() {
		pods = append(pods, p.GetPod())
	}
	return pods
}

// TestClusters: in random clusters whose pods come and go, a pod gets no node with a conflict, is refused none that is free,
// and hears who is in the way.
func TestClusters(t *testing.T) {
	s := specimen.New(t)
	judged, refused, unresolvable := 0, 0, 0
	for i := range specimen.Rounds(500) {
		c := drawCluster(s)
		args, err := json.Marshal(c.args)
		if err != nil {
			t.Fatal(err)
		}
		p := portClaims(t, string(args), c.services...)
		for range 20 {
			c.change(t)
			pod := c.drawPod()
			pod.Status.Phase = corev1.PodPending
			state, before := preFilter(t.Context(), p, pod)
			for _, node := range c.nodes {
				status := before
				if status == nil {
					status = p.Filter(t.Context(), state, pod, node)
				}
				want := judge(pod, node.Node(), podsOn(node), c.services, c.args)
				if problem := disagree(status, want, before != nil); problem != "" {
					t.Fatalf("cluster %d: %s\npod %s\nnode %s\nargs %s\nservices %s", i, problem, asJSON(pod), asJSON([]any{node.Node(), podsOn(node)}), args, asJSON(c.services))
				}
				judged++
				if isRefused(status) {
					refused++
				}
				if status.Code() == fwk.UnschedulableAndUnresolvable {
					unresolvable++
				}
			}
		}
	}
	t.Logf("%d judged, %d refused, %d of them beyond preemption", judged, refused, unresolvable)
	if refused < judged/20 || refused > judged*19/20 || unresolvable == 0 || unresolvable == refused {
		t.Error("the clusters are too much alike to prove anything")
	}
}

// disagree tells in what a status is not what it should be. What refuses a pod everywhere names no pod of the node.
func disagree(status *fwk.Status, want judgement, everywhere bool) string {
	if isRefused(status) != (len(want.holders) > 0) {
		return fmt.Sprintf("%v, want the holders %q", status, want.holders)
	}
	if !isRefused(status) {
		return ""
	}
	code := fwk.Unschedulable
	if want.byOther {
		code = fwk.UnschedulableAndUnresolvable
	}
	if status.Code() != code {
		return fmt.Sprintf("%v, want %v", status, code)
	}
	missing := slices.DeleteFunc(slices.Clone(want.holders), func(h string) bool { return strings.Contains(status.Message(), h) })
	if len(missing) > 0 && len(want.holders) <= 3 && !everywhere {
		return fmt.Sprintf("%v does not name %q", status, missing)
	}
	return ""
}

func asJSON(object any) string {
	text, err := json.Marshal(object)
	if err != nil {
		return err.Error()
	}
	return string(text)
}
