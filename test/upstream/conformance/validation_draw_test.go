package conformance

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// portFiles draws Services and pods whose ports are mostly right: of each, some values are what no API server accepts.
type portFiles struct{ places }

// isRight is how most values are.
func (p portFiles) isRight() bool { return p.IntN(16) > 0 }

func (p portFiles) number() int32 {
	if p.isRight() {
		return pick(p.places, int32(1), 53, 80, 80, 443, 8080, 65535)
	}
	return pick(p.places, int32(0), -1, 65536, 70000, 1<<30)
}

func (p portFiles) protocol() corev1.Protocol {
	if p.isRight() {
		return pick(p.places, "", corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)
	}
	return pick(p.places, corev1.Protocol("tcp"), "HTTP", "TCP ", "Udp")
}

// name is the i-th of several, mostly.
func (p portFiles) name(i int) string {
	if p.isRight() {
		return fmt.Sprintf("p%d", i)
	}
	return pick(p.places, "", "p0", "http", "Http", "my_port", "80", "a--b", "-a", "a-", "sixteen-letters-", "fifteen-letters", "a.b", "1a",
		"a-name-of-a-service-port-that-is-longer-than-the-sixty-three-letters-of-a-label")
}

func (p portFiles) target() intstr.IntOrString {
	if p.isRight() {
		return pick(p.places, intstr.FromInt32(80), intstr.FromString("http"), intstr.FromInt32(65535))
	}
	return pick(p.places, intstr.IntOrString{}, intstr.FromString(""), intstr.FromString("8080"), intstr.FromString("0"), intstr.FromString("my_port"),
		intstr.FromString("70000"), intstr.FromInt32(-1), intstr.FromInt32(65536), intstr.FromString("a--b"))
}

func (p portFiles) service() *corev1.Service {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "s", Namespace: "default"}}
	spec := &svc.Spec
	spec.Type = pick(p.places, "", corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeExternalName)
	switch {
	case spec.Type == corev1.ServiceTypeExternalName:
		spec.ExternalName = "example.com"
	case hasNoNumbers(svc) && p.IntN(4) == 0:
		spec.ClusterIP = corev1.ClusterIPNone
	}
	if !p.isRight() {
		spec.Type = pick(p.places, corev1.ServiceType("nodeport"), "externalname", "Nonsense")
	}
	for i := range p.IntN(4) {
		port := corev1.ServicePort{Port: p.number() + int32(i%2), Protocol: p.protocol(), Name: p.name(i), TargetPort: p.target()}
		if p.IntN(3) == 0 && (!hasNoNumbers(svc) || !p.isRight()) {
			port.NodePort = pick(p.places, int32(30000), 30001, 30002, 30003, 30004, 30005, 30006, -1, 70000)
		}
		if p.IntN(4) == 0 {
			port.AppProtocol = new(pick(p.places, "http", "kubernetes.io/h2c", "example.com/a"))
			if !p.isRight() {
				port.AppProtocol = new(pick(p.places, "", "a b", "/h2c", "a/b/c"))
			}
		}
		spec.Ports = append(spec.Ports, port)
	}
	if p.IntN(3) == 0 {
		spec.ExternalTrafficPolicy = pick(p.places, corev1.ServiceExternalTrafficPolicyLocal, corev1.ServiceExternalTrafficPolicyLocal, corev1.ServiceExternalTrafficPolicyCluster, "local")
		spec.HealthCheckNodePort = pick(p.places, int32(30010), 30011, 30000, -1, 70000)
	}
	return svc
}

func (p portFiles) pod() corev1.PodSpec {
	spec := corev1.PodSpec{HostNetwork: p.IntN(3) == 0}
	for i := range 1 + p.IntN(2) {
		spec.Containers = append(spec.Containers, p.container(fmt.Sprintf("c%d", i), spec.HostNetwork, true))
	}
	for i := range p.IntN(2) {
		isSidecar := p.IntN(2) == 0
		c := p.container(fmt.Sprintf("i%d", i), spec.HostNetwork, isSidecar || !p.isRight())
		if isSidecar {
			c.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
		}
		spec.InitContainers = append(spec.InitContainers, c)
	}
	return spec
}

func (p portFiles) container(name string, hostNetwork, hasProbes bool) corev1.Container {
	c := corev1.Container{Name: name, Image: "i"}
	for i := range p.IntN(3) {
		port := corev1.ContainerPort{ContainerPort: p.number(), Protocol: p.protocol(), HostIP: pick(p.places, "", "", "10.0.0.1", "0.0.0.0", "x")}
		if p.IntN(2) == 0 {
			port.Name = p.name(i)
		}
		if p.IntN(3) == 0 {
			port.HostPort = p.number()
		}
		if hostNetwork && p.isRight() && port.HostPort != 0 {
			port.HostPort = port.ContainerPort
		}
		c.Ports = append(c.Ports, port)
	}
	if hasProbes && p.IntN(3) == 0 {
		handler := p.handler()
		if p.IntN(4) == 0 {
			handler.GRPC = &corev1.GRPCAction{Port: p.number()}
		}
		probe := &corev1.Probe{ProbeHandler: handler}
		switch p.IntN(3) {
		case 0:
			c.LivenessProbe = probe
		case 1:
			c.ReadinessProbe = probe
		default:
			c.StartupProbe = probe
		}
	}
	if hasProbes && p.IntN(6) == 0 {
		h := p.handler()
		hook := &corev1.LifecycleHandler{Exec: h.Exec, HTTPGet: h.HTTPGet, TCPSocket: h.TCPSocket}
		c.Lifecycle = &corev1.Lifecycle{}
		if p.IntN(2) == 0 {
			c.Lifecycle.PostStart = hook
		} else {
			c.Lifecycle.PreStop = hook
		}
	}
	return c
}

// handler has one action, seldom two or none.
func (p portFiles) handler() (h corev1.ProbeHandler) {
	which := p.IntN(4)
	both := !p.isRight()
	if which == 0 || both && p.IntN(2) == 0 {
		h.Exec = &corev1.ExecAction{Command: []string{"true"}}
	}
	if which == 1 || both {
		h.HTTPGet = &corev1.HTTPGetAction{Port: p.target(), Path: "/"}
	}
	if which == 2 || both {
		h.TCPSocket = &corev1.TCPSocketAction{Port: p.target()}
	}
	return h
}
