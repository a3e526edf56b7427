package fake

import (
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/hooks"
)

// PortPool is the pool p of 30100-30109 for namespaces with team=blue, whose released ports wait for a minute.
func PortPool(change ...func(*v1alpha1.PortPool)) *v1alpha1.PortPool {
	p := &v1alpha1.PortPool{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: v1alpha1.PortPoolSpec{
		Ranges:            []v1alpha1.PortRange{{Port: 30100, EndPort: new(int32(30109))}},
		NamespaceSelector: TeamSelector("blue"),
		Allocation:        v1alpha1.PortAllocation{ReuseDelay: &metav1.Duration{Duration: time.Minute}},
	}}
	for _, f := range change {
		f(p)
	}
	p.Default()
	return p
}

// InvalidSelector makes a pool one that the API server accepted before it had the rule.
func InvalidSelector(p *v1alpha1.PortPool) {
	p.Spec.NamespaceSelector = &v1alpha1.LabelSelector{MatchExpressions: []v1alpha1.LabelSelectorRequirement{{Key: "a", Operator: "Nonsense"}}}
}

// TeamSelector selects what has the label team.
func TeamSelector(team string) *v1alpha1.LabelSelector {
	return &v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"team": v1alpha1.LabelValue(team)}}
}

// Namespace has the label team.
func Namespace(name, team string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"team": team}}}
}

// Service is a Service of the namespace ns with a port for each node port; 0 is a port without one.
func Service(name, uid string, nodePorts ...int32) *corev1.Service {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(uid)}}
	for i, n := range nodePorts {
		svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Port: int32(80 + i), NodePort: n})
	}
	return svc
}

// Pod is a running pod on the node n1 with host ports.
func Pod(namespace, name string, hostPorts ...int32) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{Name: "a", Image: "a"}}},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning},
	}
	for _, n := range hostPorts {
		p.Spec.Containers[0].Ports = append(p.Spec.Containers[0].Ports, corev1.ContainerPort{ContainerPort: n, HostPort: n, Protocol: corev1.ProtocolTCP})
	}
	return p
}

// ValidatingConfiguration has two webhooks that are armed, and a guard, whose failurePolicy is always Ignore.
func ValidatingConfiguration(policy admissionregistrationv1.FailurePolicyType, annotations map[string]string) *admissionregistrationv1.ValidatingWebhookConfiguration {
	c := &admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "portcullis", Annotations: annotations}}
	for _, name := range []string{hooks.ValidateServicesName, hooks.ValidateWorkloadsName, hooks.GuardPrefix + "namespaces" + hooks.Suffix} {
		w := admissionregistrationv1.ValidatingWebhook{Name: name, FailurePolicy: new(policy)}
		if strings.HasPrefix(name, hooks.GuardPrefix) {
			w.FailurePolicy = new(admissionregistrationv1.Ignore)
		}
		c.Webhooks = append(c.Webhooks, w)
	}
	return c
}

// Endpoint is an endpoint of a pod; of an address alone if pod is "".
func Endpoint(pod, address string, ready *bool) discoveryv1.Endpoint {
	e := discoveryv1.Endpoint{Addresses: []string{address}, Conditions: discoveryv1.EndpointConditions{Ready: ready}}
	if pod != "" {
		e.TargetRef = &corev1.ObjectReference{Kind: "Pod", Namespace: "portcullis-system", Name: pod}
	}
	return e
}

// EndpointSlice is an EndpointSlice of a Service in portcullis-system.
func EndpointSlice(name, service string, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "portcullis-system", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: endpoints,
	}
}
