package extract

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// Wiring knows what Services lead to among objects: the pods and templates that they select, and the endpoints that
// somebody wrote for those that select nothing. It is not for concurrent use.
type Wiring struct {
	backends  map[labelKey][]backend
	endpoints map[string][]check.Endpoints // by the name of the Service
	services  map[ports.Ref]bool
	selected  map[string][]check.Backend // what was found once, by namespace and selector
}

// labelKey is one label of one namespace. Services find their backends by one of their labels, and then look at the rest.
type labelKey struct{ namespace, key, value string }

type backend struct {
	check.Backend
	labels labels.Set
}

// NewWiring looks through objects.
func NewWiring(objects []runtime.Object) Wiring {
	w := Wiring{map[labelKey][]backend{}, map[string][]check.Endpoints{}, map[ports.Ref]bool{}, map[string][]check.Backend{}}
	for _, object := range objects {
		switch o := object.(type) {
		case *corev1.Service:
			w.services[Ref(coreKind("Service"), o)] = true
		case *corev1.Endpoints: //nolint:staticcheck // people still write them, and the control plane mirrors them
			w.addEndpoints(o)
		case *discoveryv1.EndpointSlice:
			w.addSlice(o)
		default:
			w.addBackend(object)
		}
	}
	return w
}

func (w Wiring) addEndpoints(e *corev1.Endpoints) { //nolint:staticcheck // as above
	found := check.Endpoints{Ref: Ref(coreKind("Endpoints"), e)}
	for i := range e.Subsets {
		for _, p := range e.Subsets[i].Ports {
			found.Ports = append(found.Ports, endpointPort(p.Name, p.Protocol))
		}
	}
	w.endpoints[e.Name] = append(w.endpoints[e.Name], found)
}

func (w Wiring) addSlice(s *discoveryv1.EndpointSlice) {
	name := s.Labels[discoveryv1.LabelServiceName]
	if name == "" {
		return // nobody's
	}
	found := check.Endpoints{Ref: Ref(discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"), s)}
	for _, p := range s.Ports {
		name, protocol := "", corev1.ProtocolTCP
		if p.Name != nil {
			name = *p.Name
		}
		if p.Protocol != nil {
			protocol = *p.Protocol
		}
		found.Ports = append(found.Ports, endpointPort(name, protocol))
	}
	w.endpoints[name] = append(w.endpoints[name], found)
}

// endpointPort has no protocol where the API server would refuse it.
func endpointPort(name string, protocol corev1.Protocol) check.EndpointPort {
	p, err := ports.ParseProtocol(string(orTCP(protocol)))
	if err != nil {
		return check.EndpointPort{Name: name}
	}
	return check.EndpointPort{Name: name, Protocol: p}
}

func (w Wiring) addBackend(object runtime.Object) {
	ref, set, spec, ok := podsOf(object)
	if !ok || len(set) == 0 {
		return
	}
	b := backend{check.Backend{Ref: ref, Ports: namedPorts(spec)}, set}
	for key, value := range set {
		at := labelKey{ref.Namespace, key, value}
		w.backends[at] = append(w.backends[at], b)
	}
}

// podsOf returns the labels and the spec of the pods of an object.
func podsOf(object runtime.Object) (ports.Ref, labels.Set, *corev1.PodSpec, bool) {
	if pod, ok := object.(*corev1.Pod); ok {
		return Ref(coreKind("Pod"), pod), pod.Labels, &pod.Spec, !IsFinished(pod)
	}
	t, ok := templateOf(object)
	if !ok {
		return ports.Ref{}, nil, nil, false
	}
	return Ref(t.gvk, t.object), t.pod.Labels, &t.pod.Spec, true
}

// namedPorts lists them in the order in which a Service's targetPort is looked up: main containers, then sidecars.
func namedPorts(spec *corev1.PodSpec) []check.NamedPort {
	var list []check.NamedPort
	add := func(c *corev1.Container) {
		for i := range c.Ports {
			p := &c.Ports[i]
			protocol, err := ports.ParseProtocol(string(orTCP(p.Protocol)))
			if p.Name != "" && err == nil && p.ContainerPort > 0 && p.ContainerPort <= 65535 {
				list = append(list, check.NamedPort{Name: p.Name, Protocol: protocol, Port: uint16(p.ContainerPort)})
			}
		}
	}
	for i := range spec.Containers {
		add(&spec.Containers[i])
	}
	for i := range spec.InitContainers {
		if c := &spec.InitContainers[i]; isSidecar(c) {
			add(c)
		}
	}
	return list
}

func isSidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// Join tells s, which was made of svc, what it leads to.
func (w Wiring) Join(s *check.Service, svc *corev1.Service) {
	if s.Type == string(corev1.ServiceTypeExternalName) {
		return
	}
	if len(svc.Spec.Selector) > 0 {
		s.Backends = w.backendsOf(s.Owner.Namespace, svc.Spec.Selector)
		return
	}
	if svc.Spec.ClusterIP == corev1.ClusterIPNone {
		return // its endpoints are found by DNS, whatever their ports are called
	}
	for _, e := range w.endpoints[s.Owner.Name] {
		other := s.Owner.Ref
		other.Namespace = e.Ref.Namespace
		if other == s.Owner.Ref || !w.services[other] { // else they are that Service's
			s.Endpoints = append(s.Endpoints, e)
		}
	}
}

func (w Wiring) backendsOf(namespace string, selector map[string]string) []check.Backend {
	key := namespace + "\x00" + labels.FormatLabels(selector)
	found, ok := w.selected[key]
	if !ok {
		found = w.look(namespace, selector)
		w.selected[key] = found
	}
	return found
}

// look goes through the fewest that have one of the labels.
func (w Wiring) look(namespace string, selector map[string]string) []check.Backend {
	var fewest []backend
	first := true
	for key, value := range selector {
		if found := w.backends[labelKey{namespace, key, value}]; first || len(found) < len(fewest) {
			fewest, first = found, false
		}
	}
	matches := labels.SelectorFromSet(selector)
	var selected []check.Backend
	for _, b := range fewest {
		if matches.Matches(b.labels) {
			selected = append(selected, b.Backend)
		}
	}
	return selected
}
