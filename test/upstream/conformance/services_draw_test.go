package conformance

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// serviceFiles draws Services as people write and change them, from few numbers, so that they meet. What the API server
// would refuse for other reasons than ports is seldom drawn.
type serviceFiles struct {
	places
	taken []int32 // by the Services that there are
}

// The API server's range in these tests, and some numbers outside of it.
const nodePortRange = "30000-30099"

func (p serviceFiles) outside() int32 { return pick(p.places, int32(29999), 30100, 80, 65535) }

func (p serviceFiles) seldom() bool { return p.IntN(25) == 0 }

func (p serviceFiles) file(name string) *corev1.Service {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}}
	for range 1 + p.IntN(3) {
		p.addPort(svc)
	}
	p.setType(svc)
	p.setTrafficPolicy(svc)
	if p.IntN(3) == 0 {
		p.setHealthCheck(svc)
	}
	p.setAllocation(svc)
	if p.seldom() {
		p.misspell(svc)
	}
	return p.mended(svc)
}

func (p serviceFiles) number(svc *corev1.Service) int32 {
	switch n := p.IntN(20); {
	case n < 10:
		return 0
	case n < 15:
		return 30000 + int32(p.IntN(15))
	case n < 16:
		return p.outside()
	case n < 18 && len(p.taken) > 0:
		return pick(p.places, p.taken...)
	case len(svc.Spec.Ports) > 0:
		return pick(p.places, svc.Spec.Ports...).NodePort
	default:
		return 0
	}
}

func (p serviceFiles) protocol() corev1.Protocol {
	return pick(p.places, "", corev1.ProtocolTCP, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolUDP, corev1.ProtocolSCTP)
}

func (p serviceFiles) port() int32 { return pick(p.places, int32(53), 53, 80, 443, 8080, 9090) }

func (p serviceFiles) addPort(svc *corev1.Service) {
	port := corev1.ServicePort{
		Port: p.port(), Protocol: p.protocol(), NodePort: p.number(svc),
		TargetPort: pick(p.places, intstr.IntOrString{}, intstr.IntOrString{}, intstr.FromInt32(8000), intstr.FromInt32(8001), intstr.FromString("http")),
	}
	// A port twice is not what all Services are about.
	if i := slices.IndexFunc(svc.Spec.Ports, func(q corev1.ServicePort) bool { return q.Port == port.Port }); i >= 0 && p.IntN(3) > 0 {
		if port.Protocol = corev1.ProtocolUDP; svc.Spec.Ports[i].Protocol == corev1.ProtocolUDP {
			port.Protocol = corev1.ProtocolTCP
		}
	}
	svc.Spec.Ports = append(svc.Spec.Ports, port)
}

func (p serviceFiles) setType(svc *corev1.Service) {
	svc.Spec.Type = pick(p.places, "", corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeNodePort, corev1.ServiceTypeNodePort,
		corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeExternalName)
	if hasNoNumbers(svc) && p.IntN(4) > 0 {
		dropNumbers(svc)
	}
	if svc.Spec.Type == corev1.ServiceTypeClusterIP && svc.Spec.ClusterIP == "" && p.IntN(3) == 0 {
		svc.Spec.ClusterIP = corev1.ClusterIPNone
	}
}

// hasNoNumbers reports whether a Service's type has no node ports.
func hasNoNumbers(svc *corev1.Service) bool {
	return svc.Spec.Type != corev1.ServiceTypeNodePort && svc.Spec.Type != corev1.ServiceTypeLoadBalancer
}

func dropNumbers(svc *corev1.Service) {
	for i := range svc.Spec.Ports {
		svc.Spec.Ports[i].NodePort = 0
	}
	svc.Spec.HealthCheckNodePort = 0
}

func (p serviceFiles) setTrafficPolicy(svc *corev1.Service) {
	svc.Spec.ExternalTrafficPolicy = pick(p.places, "", corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal, corev1.ServiceExternalTrafficPolicyLocal)
}

func (p serviceFiles) setHealthCheck(svc *corev1.Service) {
	if svc.Spec.Type == corev1.ServiceTypeLoadBalancer && svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal || p.seldom() {
		svc.Spec.HealthCheckNodePort = p.number(svc)
	}
}

func (p serviceFiles) setAllocation(svc *corev1.Service) {
	if p.IntN(3) == 0 {
		allocate := p.IntN(3) == 0
		svc.Spec.AllocateLoadBalancerNodePorts = &allocate
	}
}

func (p serviceFiles) misspell(svc *corev1.Service) {
	switch p.IntN(4) {
	case 0:
		svc.Spec.Type = pick(p.places, corev1.ServiceType("nodeport"), "Nodeport", "loadBalancer")
	case 1:
		svc.Spec.ExternalTrafficPolicy = "local"
	case 2:
		svc.Spec.SessionAffinity = "clientIP"
	default:
		svc.Spec.Ports[0].Protocol = pick(p.places, corev1.Protocol("tcp"), "Udp")
	}
}

// edit changes a Service in one to three ways.
func (p serviceFiles) edit(svc *corev1.Service) *corev1.Service {
	for range 1 + p.IntN(3) {
		if len(svc.Spec.Ports) == 0 { // an apply may have taken all from an ExternalName
			p.addPort(svc)
		}
		i := p.IntN(len(svc.Spec.Ports))
		port := &svc.Spec.Ports[i]
		other := &svc.Spec.Ports[p.IntN(len(svc.Spec.Ports))]
		switch p.IntN(26) {
		case 0, 1:
			p.setType(svc)
		case 2, 3:
			port.Name = p.unusedName(svc)
		case 4:
			port.Name, other.Name = other.Name, port.Name
		case 5:
			port.NodePort, other.NodePort = other.NodePort, port.NodePort
		case 6:
			port.Port = p.port()
		case 7:
			port.Protocol = p.protocol()
		case 8, 9:
			dropNumbers(svc)
		case 10:
			port.NodePort = 0
		case 11, 12:
			port.NodePort = p.number(svc)
		case 13:
			p.addPort(svc)
		case 14:
			if len(svc.Spec.Ports) == 1 {
				continue
			}
			svc.Spec.Ports = slices.Delete(svc.Spec.Ports, i, i+1)
		case 15:
			p.setTrafficPolicy(svc)
		case 16:
			p.setHealthCheck(svc)
		case 17:
			p.setAllocation(svc)
		case 18, 19: // what leads to the same pods by another name and port
			port.Name, port.Port, port.NodePort = p.unusedName(svc), p.port(), 0
		case 20, 21: // one number for two ports, as a create would refuse it
			p.addPort(svc)
			last := &svc.Spec.Ports[len(svc.Spec.Ports)-1]
			last.NodePort, last.Protocol = svc.Spec.Ports[0].NodePort, corev1.ProtocolSCTP
		case 22, 23, 24:
			port.Name, port.NodePort = p.unusedName(svc), 0
		default:
			if p.IntN(2) == 0 {
				p.misspell(svc)
			}
		}
	}
	if svc.Spec.HealthCheckNodePort != 0 && p.IntN(4) == 0 {
		svc.Spec.HealthCheckNodePort = p.number(svc)
	}
	return p.mended(svc)
}

func (p serviceFiles) unusedName(svc *corev1.Service) string {
	for {
		name := pick(p.places, "a", "b", "c", "d", "e", "f")
		if !slices.ContainsFunc(svc.Spec.Ports, func(q corev1.ServicePort) bool { return q.Name == name }) {
			return name
		}
	}
}

// mended does away with what the API server would refuse, or most of it, for reasons that are no ports.
func (p serviceFiles) mended(svc *corev1.Service) *corev1.Service {
	spec := &svc.Spec
	if spec.ClusterIP == corev1.ClusterIPNone && spec.Type != corev1.ServiceTypeExternalName {
		spec.Type = corev1.ServiceTypeClusterIP
	}
	if spec.Type == corev1.ServiceTypeExternalName {
		spec.ExternalName, spec.InternalTrafficPolicy = "example.com", nil
	}
	if hasNoNumbers(svc) && !p.seldom() && spec.ExternalTrafficPolicy != "local" {
		spec.ExternalTrafficPolicy = ""
	}
	if spec.Type != corev1.ServiceTypeLoadBalancer && svc.UID == "" && !p.seldom() {
		spec.AllocateLoadBalancerNodePorts = nil // left over in a stored Service it does no harm
	}
	if len(spec.Ports) > 4 {
		spec.Ports = spec.Ports[:4] // there are more names than that
	}
	used := map[string]bool{}
	for i := range spec.Ports {
		if port := &spec.Ports[i]; len(spec.Ports) > 1 && port.Name == "" || used[port.Name] {
			port.Name = p.unusedName(svc)
		}
		used[spec.Ports[i].Name] = true
	}
	return svc
}

// summary is a Service in one line.
func summary(svc *corev1.Service) string {
	if svc == nil {
		return "nothing"
	}
	text := fmt.Sprintf("%s type %q", svc.Name, svc.Spec.Type)
	for _, p := range svc.Spec.Ports {
		text += fmt.Sprintf(" %s=%d:%d/%s->%s", p.Name, p.Port, p.NodePort, p.Protocol, p.TargetPort.String())
	}
	if svc.Spec.HealthCheckNodePort != 0 {
		text += fmt.Sprintf(" healthCheck %d", svc.Spec.HealthCheckNodePort)
	}
	if a := svc.Spec.AllocateLoadBalancerNodePorts; a != nil {
		text += fmt.Sprintf(" allocate %v", *a)
	}
	return text + fmt.Sprintf(" externalTrafficPolicy %q clusterIP %q", svc.Spec.ExternalTrafficPolicy, svc.Spec.ClusterIP)
}
