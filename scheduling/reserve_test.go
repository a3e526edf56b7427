package scheduling

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
)

// bind is what the informer has seen of a pod.
func (h *handle) bind(t *testing.T, pods ...*corev1.Pod) {
	t.Helper()
	for _, pod := range pods {
		if err := h.factory.Core().V1().Pods().Informer().GetIndexer().Update(pod); err != nil {
			t.Fatal(err)
		}
	}
}

// TestReserve: what has come since the cycle began is seen before the pod is bound.
func TestReserve(t *testing.T) {
	ended := pod("ended", list(port(9000)), on("n"))
	ended.Status.Phase = corev1.PodFailed
	wanted := pod("new", list(port(9000)))
	self := wanted.DeepCopy()
	self.Spec.NodeName = "n"
	external := nodePort("external", 0)
	external.Spec.Type, external.Spec.ExternalIPs = corev1.ServiceTypeClusterIP, []string{"10.0.0.1"}
	external.Spec.Ports[0].Port = 9000
	for _, tt := range []struct {
		name string
		pod  *corev1.Pod
		come func(h *handle)
		want string
	}{
		{"nothing", wanted, func(*handle) {}, ""},
		{"a pod", wanted, func(h *handle) { h.bind(t, pod("a", list(port(9000)), on("n"), of("tomcat"))) },
			"Unschedulable: hostPort 9000/TCP by Deployment default/tomcat"},
		{"a pod on another address", pod("new", list(at("127.0.0.1", port(9000)))), func(h *handle) { h.bind(t, pod("a", list(at("127.0.0.2", port(9000))), on("n"))) }, ""},
		{"a pod with another port", wanted, func(h *handle) { h.bind(t, pod("a", list(port(9001)), on("n"))) }, ""},
		{"a pod on another node", wanted, func(h *handle) { h.bind(t, pod("a", list(port(9000)), on("m"))) }, ""},
		{"a pod on no node", wanted, func(h *handle) { h.bind(t, pod("a", list(port(9000)))) }, ""},
		{"one that has ended", wanted, func(h *handle) { h.bind(t, ended) }, ""},
		{"the pod itself", wanted, func(h *handle) { h.bind(t, self) }, ""},
		{"a Service", wanted, func(h *handle) { h.store(t, nodePort("app", 9000)) }, "UnschedulableAndUnresolvable: hostPort 9000/TCP by Service default/app"},
		{"an external IP of the node", wanted, func(h *handle) { h.store(t, external) }, "UnschedulableAndUnresolvable: hostPort 9000/TCP by Service default/external"},
		{"a pod, but nothing is wanted", pod("plain", nil), func(h *handle) { h.bind(t, pod("a", list(port(9000)), on("n"))) }, ""},
	} {
		p, h := newPlugin(t, "")
		s := newState()
		p.PreFilter(t.Context(), s, tt.pod, nil)
		if len(s.data) > 0 {
			if status := p.Filter(t.Context(), s, tt.pod, addressed(node("n", 1), "10.0.0.1")); !status.IsSuccess() {
				t.Fatalf("%s: Filter: %v", tt.name, status)
			}
		}
		tt.come(h)
		status, got := p.Reserve(t.Context(), s, tt.pod, "n"), ""
		if !status.IsSuccess() {
			got = brief(status)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
		p.Unreserve(t.Context(), s, tt.pod, "n")
		// A pod that was late is tried again when the quicker one's event comes: other nodes may suit it.
		want := fwk.QueueSkip
		if tt.want != "" {
			want = fwk.Queue
		}
		if hint, err := p.afterPod(klog.Background(), tt.pod, nil, pod("a", list(port(9000)), on("n"))); hint != want || err != nil {
			t.Errorf("%s: after a pod has come: %v, %v; want %v", tt.name, hint, err, want)
		}
	}
}
