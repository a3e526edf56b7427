package scheduling

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/events"
	fwk "k8s.io/kube-scheduler/framework"
)

// handle is as much of a scheduler as the plugin asks for.
type handle struct {
	fwk.Handle
	factory  informers.SharedInformerFactory
	recorder *recorder
	nodes    []fwk.NodeInfo
}

func newHandle() *handle { return &handle{factory: informers.NewSharedInformerFactory(nil, 0)} }

func (h *handle) SharedInformerFactory() informers.SharedInformerFactory { return h.factory }

func (h *handle) EventRecorder() events.EventRecorderLogger { return h.recorder }

func (h *handle) SnapshotSharedLister() fwk.SharedLister { return snapshot{nodes: h.nodes} }

// state is a scheduling cycle.
type state struct {
	fwk.CycleState
	data map[fwk.StateKey]fwk.StateData
}

func newState() *state { return &state{data: map[fwk.StateKey]fwk.StateData{}} }

func (s *state) Write(key fwk.StateKey, data fwk.StateData) { s.data[key] = data }

func (s *state) Read(key fwk.StateKey) (fwk.StateData, error) {
	if data, ok := s.data[key]; ok {
		return data.Clone(), nil
	}
	return nil, fwk.ErrNotFound
}

// nodeInfo is a node with its pods. Whoever changes it gives it another generation, as the scheduler's own does.
type nodeInfo struct {
	fwk.NodeInfo
	node       *corev1.Node
	pods       []fwk.PodInfo
	generation int64
}

func (n *nodeInfo) Node() *corev1.Node     { return n.node }
func (n *nodeInfo) GetPods() []fwk.PodInfo { return n.pods }
func (n *nodeInfo) GetGeneration() int64   { return n.generation }

type podInfo struct {
	fwk.PodInfo
	pod *corev1.Pod
}

func (p podInfo) GetPod() *corev1.Pod { return p.pod }

func node(name string, generation int64, pods ...*corev1.Pod) *nodeInfo {
	n := &nodeInfo{node: &corev1.Node{}, generation: generation}
	n.node.Name = name
	for _, p := range pods {
		n.pods = append(n.pods, podInfo{pod: p})
	}
	return n
}

// newPlugin returns the plugin in a cluster with services.
func newPlugin(t testing.TB, args string, services ...*corev1.Service) (*PortClaims, *handle) {
	t.Helper()
	h := newHandle()
	var raw runtime.Object
	if args != "" {
		raw = &runtime.Unknown{Raw: []byte(args), ContentType: runtime.ContentTypeJSON}
	}
	p, err := New(t.Context(), raw, h)
	if err != nil {
		t.Fatal(err)
	}
	for _, svc := range services {
		h.store(t, svc)
	}
	return p.(*PortClaims), h
}

// store is what the informer has seen.
func (h *handle) store(t testing.TB, svc *corev1.Service) {
	t.Helper()
	if err := h.factory.Core().V1().Services().Informer().GetIndexer().Update(svc); err != nil {
		t.Fatal(err)
	}
}

type podOption func(*corev1.Pod)

func port(number int32) corev1.ContainerPort {
	return corev1.ContainerPort{HostPort: number, ContainerPort: 80, Protocol: corev1.ProtocolTCP}
}

func at(hostIP string, p corev1.ContainerPort) corev1.ContainerPort {
	p.HostIP = hostIP
	return p
}

func pod(name string, list []corev1.ContainerPort, options ...podOption) *corev1.Pod {
	p := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Ports: list}}}}
	p.Namespace, p.Name, p.UID = "default", name, types.UID("uid-of-"+name)
	for _, o := range options {
		o(p)
	}
	return p
}

// list of ports.
func list(p ...corev1.ContainerPort) []corev1.ContainerPort { return p }

func on(node string) podOption { return func(p *corev1.Pod) { p.Spec.NodeName = node } }

func hostNetwork(p *corev1.Pod) { p.Spec.HostNetwork = true }

// of makes a Deployment the pod's owner.
func of(deployment string) podOption {
	return func(p *corev1.Pod) {
		p.OwnerReferences = append(p.OwnerReferences, owner("apps/v1", "ReplicaSet", deployment+"-5d8f"))
		p.Labels = map[string]string{"pod-template-hash": "5d8f"}
	}
}

func nodePort(name string, number int32) *corev1.Service {
	svc := &corev1.Service{Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeNodePort, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
		Ports: []corev1.ServicePort{{Port: 80, NodePort: number, Protocol: corev1.ProtocolTCP}},
	}}
	svc.Namespace, svc.Name, svc.UID, svc.ResourceVersion = "default", name, types.UID("uid-of-"+name), "10"
	return svc
}
