package scheduling

import (
	"context"
	"os"
	"testing"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/feature"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/nodeports"

	"github.com/portcullis-k8s/portcullis/scheduling"
)

func TestMain(m *testing.M) {
	klog.SetLogger(logr.Discard()) // of malformed annotations there are many here
	os.Exit(m.Run())
}

// handle is as much of a scheduler as the plugin asks for.
type handle struct {
	fwk.Handle
	factory informers.SharedInformerFactory
}

func (h handle) SharedInformerFactory() informers.SharedInformerFactory { return h.factory }

// filter is what both plugins are.
type filter interface {
	fwk.PreFilterPlugin
	fwk.FilterPlugin
}

func portClaims(t testing.TB, args string, services ...*corev1.Service) filter {
	t.Helper()
	h := handle{factory: informers.NewSharedInformerFactory(nil, 0)}
	p, err := scheduling.New(t.Context(), &runtime.Unknown{Raw: []byte(args)}, h)
	if err != nil {
		t.Fatal(err)
	}
	for _, svc := range services {
		if err := h.factory.Core().V1().Services().Informer().GetIndexer().Add(svc); err != nil {
			t.Fatal(err)
		}
	}
	return p.(filter)
}

func nodePorts(t testing.TB) filter {
	t.Helper()
	p, err := nodeports.New(t.Context(), nil, nil, feature.Features{})
	if err != nil {
		t.Fatal(err)
	}
	return p.(filter)
}

// preFilter begins a scheduling cycle. The status is nil if the nodes are to be filtered.
func preFilter(ctx context.Context, p filter, pod *corev1.Pod) (fwk.CycleState, *fwk.Status) {
	state := framework.NewCycleState()
	_, status := p.PreFilter(ctx, state, pod, nil)
	return state, status
}

// place asks a plugin about one node; nil or Skip let the pod in.
func place(ctx context.Context, p filter, pod *corev1.Pod, node fwk.NodeInfo) *fwk.Status {
	state, status := preFilter(ctx, p, pod)
	if status != nil {
		return status
	}
	return p.Filter(ctx, state, pod, node)
}

func isRefused(s *fwk.Status) bool { return !s.IsSuccess() && !s.IsSkip() }

func newNode(name string, pods ...*corev1.Pod) *framework.NodeInfo {
	info := framework.NewNodeInfo(pods...)
	node := &corev1.Node{}
	node.Name = name
	info.SetNode(node)
	return info
}

func newPod(name string, hostNetwork bool, ports ...corev1.ContainerPort) *corev1.Pod {
	pod := &corev1.Pod{Spec: corev1.PodSpec{HostNetwork: hostNetwork, Containers: []corev1.Container{{Name: "main", Ports: ports}}}}
	pod.Namespace, pod.Name, pod.UID = "default", name, types.UID(name)
	return pod
}
