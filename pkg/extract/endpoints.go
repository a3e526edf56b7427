package extract

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

// Services finds Services among objects as kube-proxy sees them, with the endpoints that are known.
type Services struct {
	services map[ports.Ref]*corev1.Service
	given    endpointIndex
	pods     map[string][]*corev1.Pod // by namespace, those that have not ended
}

// NewServices returns the Services among objects. Of one that is there twice the later one counts.
func NewServices(objects []runtime.Object) *Services {
	s := &Services{services: map[ports.Ref]*corev1.Service{}, given: newEndpointIndex(objects), pods: map[string][]*corev1.Pod{}}
	for _, object := range objects {
		switch o := object.(type) {
		case *corev1.Service:
			s.services[serviceRef(namespaceOf(o), o.Name)] = o
		case *corev1.Pod:
			if !IsFinished(o) {
				s.pods[namespaceOf(o)] = append(s.pods[namespaceOf(o)], o)
			}
		}
	}
	return s
}

// Service returns a Service with its endpoints; false if these are not known. It is nil if there is none, or if kube-proxy
// passes it over. One without cluster IPs has placeholders until it is given some.
func (s *Services) Service(ref ports.Ref, placeholders []netip.Addr) (*rules.Service, bool) {
	svc := s.services[ref]
	if svc == nil {
		return nil, false
	}
	if svc.Spec.ClusterIP == "" {
		svc = svc.DeepCopy()
		for _, addr := range placeholders {
			if family := familyOf(addr); svc.Spec.IPFamilies == nil || slices.Contains(svc.Spec.IPFamilies, family) {
				svc.Spec.ClusterIPs = append(svc.Spec.ClusterIPs, addr.String())
			}
		}
		svc.Spec.ClusterIP = placeholders[0].String()
		if len(svc.Spec.ClusterIPs) > 0 {
			svc.Spec.ClusterIP = svc.Spec.ClusterIPs[0]
		}
	}
	endpoints, known := s.Endpoints(svc)
	return newEndpointIndex(endpoints).service(svc), known
}

func familyOf(addr netip.Addr) corev1.IPFamily {
	if addr.Is4() {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}

// Endpoints returns the EndpointSlices of a Service, or the Endpoints object of which the control plane makes them; where
// neither is given, the slice that it makes of the pods that the Service selects. It reports false where none of them is known.
func (s *Services) Endpoints(svc *corev1.Service) ([]runtime.Object, bool) {
	ref := serviceRef(namespaceOf(svc), svc.Name)
	var found []runtime.Object
	for _, slice := range s.given.slices[ref] {
		found = append(found, slice)
	}
	if endpoints := s.given.endpoints[ref]; endpoints != nil {
		found = append(found, endpoints)
	}
	if found != nil {
		return found, true
	}
	return s.made(svc)
}

// made returns the slices that the control plane makes of a Service's pods. Pods that say nothing of whether they are ready, as
// those of manifests, prove nothing.
func (s *Services) made(svc *corev1.Service) ([]runtime.Object, bool) {
	known := false
	var made []runtime.Object
	for _, pod := range s.selected(svc) {
		ready, said := readiness(pod)
		known = known || said
		if pod.Status.PodIP == "" || !ready && !svc.Spec.PublishNotReadyAddresses {
			continue
		}
		slice := &discoveryv1.EndpointSlice{ // one for each pod, as each may have another number for a name
			ObjectMeta:  metav1.ObjectMeta{Namespace: svc.Namespace, Name: pod.Name, Labels: map[string]string{discoveryv1.LabelServiceName: svc.Name}},
			AddressType: discoveryv1.AddressTypeIPv4,
			Endpoints: []discoveryv1.Endpoint{{
				Addresses: []string{pod.Status.PodIP}, NodeName: &pod.Spec.NodeName,
				TargetRef: &corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: namespaceOf(pod), Name: pod.Name},
			}},
		}
		if strings.Contains(pod.Status.PodIP, ":") {
			slice.AddressType = discoveryv1.AddressTypeIPv6
		}
		for i := range svc.Spec.Ports {
			if port, ok := targetIn(&svc.Spec.Ports[i], pod); ok {
				slice.Ports = append(slice.Ports, port)
			}
		}
		made = append(made, slice)
	}
	return made, known
}

// selected returns the pods that a Service selects.
func (s *Services) selected(svc *corev1.Service) []*corev1.Pod {
	if len(svc.Spec.Selector) == 0 {
		return nil
	}
	selector := labels.SelectorFromSet(svc.Spec.Selector)
	return slices.DeleteFunc(slices.Clone(s.pods[namespaceOf(svc)]), func(pod *corev1.Pod) bool {
		return !selector.Matches(labels.Set(pod.Labels))
	})
}

// readiness returns whether a pod is ready, and whether it says so.
func readiness(pod *corev1.Pod) (ready, said bool) {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue, true
		}
	}
	return false, false
}

// targetIn is where a Service port leads in a pod: to a number, or to the container port of a name.
func targetIn(p *corev1.ServicePort, pod *corev1.Pod) (discoveryv1.EndpointPort, bool) {
	protocol, number := orTCP(p.Protocol), cmp.Or(p.TargetPort.IntVal, p.Port)
	if name := p.TargetPort.StrVal; name != "" {
		number = 0
		for i := range pod.Spec.Containers {
			for _, c := range pod.Spec.Containers[i].Ports {
				if c.Name == name && orTCP(c.Protocol) == protocol && number == 0 {
					number = c.ContainerPort
				}
			}
		}
	}
	return discoveryv1.EndpointPort{Name: &p.Name, Port: &number, Protocol: &protocol}, number != 0
}
