package extract

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// addProbed adds the ports on which probes find a container of the host network, where no port entry of the pod declares
// them: the kubelet connects to the pod's address, which is the node's, so that the container listens there
// (k8s.io/kubernetes pkg/kubelet/prober). A probe that names another host says nothing about the pod, and one that names a
// port by its name means one that is declared.
func (s podSpec) addProbed(spec *corev1.PodSpec) {
	declared := map[int32]bool{}
	for _, list := range [...][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			for _, p := range list[i].Ports {
				if orTCP(p.Protocol) == corev1.ProtocolTCP {
					declared[p.ContainerPort], declared[p.HostPort] = true, true
				}
			}
		}
	}
	for i := range spec.InitContainers {
		if c := &spec.InitContainers[i]; isSidecar(c) {
			s.addProbesOf(c, fmt.Sprintf("%s.initContainers[%d]", s.path, i), declared)
		}
	}
	for i := range spec.Containers {
		s.addProbesOf(&spec.Containers[i], fmt.Sprintf("%s.containers[%d]", s.path, i), declared)
	}
}

func (s podSpec) addProbesOf(c *corev1.Container, path string, known map[int32]bool) {
	for _, p := range []struct {
		field string
		probe *corev1.Probe
	}{{"livenessProbe", c.LivenessProbe}, {"readinessProbe", c.ReadinessProbe}, {"startupProbe", c.StartupProbe}} {
		field, number := probedPort(p.probe)
		if number < 1 || number > 65535 || known[number] {
			continue
		}
		known[number] = true
		s.to.Probed = append(s.to.Probed, ports.Claim{
			Socket: ports.Socket{Address: ports.AllAddresses().WithoutLoopback(), Protocol: ports.TCP, Port: uint16(number)}, Kind: ports.HostNetwork,
			Owner: &s.to.Owner, Scope: s.scope, Idle: s.idle, Field: path + "." + p.field + "." + field,
		})
	}
}

// probedPort returns the port of the pod that a probe connects to, and the field that names it; 0 for none.
func probedPort(p *corev1.Probe) (field string, port int32) {
	switch {
	case p == nil:
		return "", 0
	case p.HTTPGet != nil && p.HTTPGet.Host == "" && p.HTTPGet.Port.Type == intstr.Int:
		return "httpGet.port", p.HTTPGet.Port.IntVal
	case p.TCPSocket != nil && p.TCPSocket.Host == "" && p.TCPSocket.Port.Type == intstr.Int:
		return "tcpSocket.port", p.TCPSocket.Port.IntVal
	case p.GRPC != nil:
		return "grpc.port", p.GRPC.Port
	default:
		return "", 0
	}
}
