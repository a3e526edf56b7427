package webhook

import (
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/portcullis-k8s/portcullis/pkg/hooks"
)

// TestValidateBinding: a pod with host ports is judged against what the node that a scheduler chose holds.
func TestValidateBinding(t *testing.T) {
	binds := func(name, node string) *corev1.Binding {
		return &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}, Target: corev1.ObjectReference{Kind: "Node", Name: node}}
	}
	subresource := func(b *corev1.Binding, name string) admissionv1.AdmissionRequest {
		req := creates("Binding", b)
		req.Name, req.SubResource, req.Resource.Resource = name, "binding", "pods"
		return req
	}
	inflight := func(b *bench) { b.decideOn(t, hooks.PathValidatePods, creates("Pod", hostPortPod("p", 8080))) }
	pod := hostPortPod("p", 8080)
	other := func(node string) *corev1.Pod { return with(hostPortPod("q", 8080), onNode(node)) }
	const held = "deny: PC0201 spec.containers[0].ports[0].hostPort by Pod default/q"
	for _, c := range []struct {
		name string
		held []runtime.Object
		do   func(*bench)
		req  admissionv1.AdmissionRequest
		want string
	}{
		{"to a free node", holding(pod, other("n2")), nil, subresource(binds("p", "n1"), "p"), "allow"},
		{"to a node that has it", holding(pod, other("n1")), nil, subresource(binds("p", "n1"), "p"), held},
		{"of the resource bindings", holding(pod, other("n1")), nil, creates("Binding", binds("p", "n1")), held},
		{"the name in the request only", holding(pod, other("n1")), nil, subresource(binds("", "n1"), "p"), held},
		{"a pod that is in flight", holding(other("n1")), inflight, subresource(binds("p", "n1"), "p"), held},
		{"a holder that is only in flight", holding(pod), func(b *bench) { b.decideOn(t, hooks.PathValidatePods, creates("Pod", other("n1"))) }, subresource(binds("p", "n1"), "p"), "busy: PC0203 spec.containers[0].ports[0].hostPort"},
		{"a holder that is gone", holding(pod, other("n1")), func(b *bench) { b.deletes(other("n1")) }, subresource(binds("p", "n1"), "p"), "allow"},
		{"a pod that is not known", holding(other("n1")), nil, subresource(binds("p", "n1"), "p"), "allow"},
		{"a pod without ports", holding(hostPortPod("p", 0), other("n1")), nil, subresource(binds("p", "n1"), "p"), "allow"},
		{"to no node", holding(pod, other("n1")), nil, subresource(binds("p", ""), "p"), "allow"},
		{"over another address", holding(with(hostPortPod("p", 8080), hostIP("192.0.2.1")), with(other("n1"), hostIP("192.0.2.2"))), nil, subresource(binds("p", "n1"), "p"), "allow"},
		{"of the resource pods", nil, nil, creates("Pod", pod), "malformed"},
		{"of another resource", nil, nil, creates("Service", nodePortService("s")), "malformed"},
		{"no JSON", nil, nil, creates("Binding", "{"), "malformed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, "").holds(c.held...)
			if c.do != nil {
				c.do(b)
			}
			inFlight := len(b.flight.owners)
			if got := outcome(b.decideOn(t, hooks.PathValidateBindings, c.req)); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if len(b.flight.owners) != inFlight {
				t.Error("a binding is remembered")
			}
		})
	}
}
