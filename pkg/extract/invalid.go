package extract

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// Invalid returns what the API server's validation refuses about the ports of a Service, a pod or a pod template, after its
// defaults (k8s.io/kubernetes pkg/apis/core/validation: validateService, validateContainerPorts, validatePodHostNetworkDeps,
// validateHandler). It is for objects that no API server has seen. What other checks find is not repeated: a value in another
// case, a socket twice, one port of a Service twice, nodePorts that its type does not have or that lie outside the range.
func Invalid(object runtime.Object) []check.Invalid {
	var v validator
	switch o := object.(type) {
	case *corev1.Service:
		v.service(&o.Spec)
	case *corev1.Pod:
		v.pod("spec", &o.Spec)
	default:
		if t, ok := templateOf(object); ok {
			v.pod(t.path+".spec", &t.pod.Spec)
		}
	}
	return v.found
}

// validator collects what is wrong.
type validator struct{ found []check.Invalid }

func (v *validator) add(named check.Case, value any, field string, args ...any) {
	v.found = append(v.found, check.Invalid{Code: check.PortInvalid, Case: named, Field: fmt.Sprintf(field, args...), Detail: check.Text{Text: fmt.Sprint(value)}})
}

func isPort(number int32) bool { return len(validation.IsValidPortNum(int(number))) == 0 }

func (v *validator) service(spec *corev1.ServiceSpec) {
	isHeadless := spec.ClusterIP == corev1.ClusterIPNone || len(spec.ClusterIPs) == 1 && spec.ClusterIPs[0] == corev1.ClusterIPNone
	if len(spec.Ports) == 0 && !isHeadless && asKnown(spec.Type, serviceTypes()...) != corev1.ServiceTypeExternalName {
		v.add(check.NoPorts, "", "spec.ports")
	}
	names := map[string]string{}
	for i := range spec.Ports {
		p, path := &spec.Ports[i], fmt.Sprintf("spec.ports[%d]", i)
		switch {
		case p.Name == "" && len(spec.Ports) > 1:
			v.add(check.NameMissing, "", "%s.name", path)
		case p.Name != "" && len(validation.IsDNS1123Label(p.Name)) > 0:
			v.add(check.BadServicePortName, p.Name, "%s.name", path)
		}
		v.name(names, p.Name, path)
		if !isPort(p.Port) {
			v.add("", p.Port, "%s.port", path)
		}
		v.protocol(p.Protocol, path)
		if isSet := p.TargetPort != intstr.FromInt32(0) && p.TargetPort != intstr.FromString(""); isSet {
			v.numberOrName(p.TargetPort, "%s.targetPort", path)
		}
		if p.AppProtocol != nil && len(validation.IsQualifiedName(*p.AppProtocol)) > 0 {
			v.add(check.BadAppProtocol, *p.AppProtocol, "%s.appProtocol", path)
		}
		if p.NodePort != 0 && !isPort(p.NodePort) { // the range is another question
			v.add("", p.NodePort, "%s.nodePort", path)
		}
	}
	v.besideInvalid(spec)
	if n := spec.HealthCheckNodePort; n != 0 && !isPort(n) {
		v.add("", n, "spec.healthCheckNodePort")
	}
}

// besideInvalid finds what is right about a port by itself, and wrong beside others, where something else is wrong with one of
// them, so that the checks of these do not see it.
func (v *validator) besideInvalid(spec *corev1.ServiceSpec) {
	type key struct {
		protocol corev1.Protocol
		number   int32
	}
	byPort, byNodePort := map[key]int{}, map[key]int{} // places of the first, counted from 1
	isSeen := func(i int) bool { _, ok := servicePort(&spec.Ports[i]); return ok }
	clash := func(seen map[key]int, k key, i int, named check.Case, name string) {
		switch first := seen[k]; {
		case first == 0:
			seen[k] = i + 1
		case isPort(k.number) && !(isSeen(i) && isSeen(first-1)):
			v.found = append(v.found, check.Invalid{
				Code: check.ServiceSelfClash, Case: named, Field: fmt.Sprintf("spec.ports[%d].%s", i, name), Detail: check.Sibling{Field: fmt.Sprintf("spec.ports[%d]", first-1), Value: fmt.Sprintf("%d/%s", k.number, k.protocol)},
			})
		}
	}
	for i := range spec.Ports {
		p := &spec.Ports[i]
		clash(byPort, key{orTCP(p.Protocol), p.Port}, i, check.SamePortTwice, "port")
		clash(byNodePort, key{orTCP(p.Protocol), p.NodePort}, i, check.SameNodePortTwice, "nodePort")
		if isPort(p.NodePort) && !isSeen(i) && (spec.Type == "" || spec.Type == corev1.ServiceTypeClusterIP) {
			v.found = append(v.found, check.Invalid{
				Code: check.NodePortWithoutUse, Field: nodePortField(i), Detail: check.UnusedPort{Port: int(p.NodePort), Type: string(corev1.ServiceTypeClusterIP)},
			})
		}
	}
}

// name finds a name that another port of a list has.
func (v *validator) name(names map[string]string, name, path string) {
	if other, again := names[name]; again {
		v.found = append(v.found, check.Invalid{Code: check.PortNameTwice, Field: path + ".name", Detail: check.Sibling{Field: other, Value: name}})
	} else if name != "" {
		names[name] = path
	}
}

func (v *validator) protocol(p corev1.Protocol, path string) {
	if _, err := ports.ParseProtocol(string(asKnown(orTCP(p), protocols()...))); err != nil {
		v.add(check.UnknownProtocol, p, "%s.protocol", path)
	}
}

// numberOrName holds a port that is a number, or the name of a port of a container.
func (v *validator) numberOrName(port intstr.IntOrString, field string, args ...any) {
	switch {
	case port.Type == intstr.Int && !isPort(port.IntVal):
		v.add("", port.IntVal, field, args...)
	case port.Type == intstr.String && isQuotedNumber(port.StrVal):
		v.add(check.QuotedNumber, port.StrVal, field, args...)
	case port.Type == intstr.String && len(validation.IsValidPortName(port.StrVal)) > 0:
		v.add(check.BadPortName, port.StrVal, field, args...)
	}
}

// isQuotedNumber reports whether a text would be a port, were it a number.
func isQuotedNumber(text string) bool {
	_, err := ports.ParsePort(text)
	return err == nil
}

func (v *validator) pod(path string, spec *corev1.PodSpec) {
	for i := range spec.InitContainers {
		c, at := &spec.InitContainers[i], fmt.Sprintf("%s.initContainers[%d]", path, i)
		v.containerPorts(c, at)
		if isSidecar(c) { // a plain init container must have no probes
			v.handlers(c, at)
		}
	}
	for i := range spec.Containers {
		c, at := &spec.Containers[i], fmt.Sprintf("%s.containers[%d]", path, i)
		v.containerPorts(c, at)
		v.handlers(c, at)
		for j := range c.Ports {
			if p := &c.Ports[j]; spec.HostNetwork && p.HostPort != 0 && p.HostPort != p.ContainerPort {
				v.found = append(v.found, check.Invalid{
					Code: check.HostPortDiffers, Field: fmt.Sprintf("%s.ports[%d].hostPort", at, j), Detail: check.Mapping{HostPort: p.HostPort, ContainerPort: p.ContainerPort},
				})
			}
		}
	}
}

func (v *validator) containerPorts(c *corev1.Container, container string) {
	names := map[string]string{}
	for i := range c.Ports {
		p, path := &c.Ports[i], fmt.Sprintf("%s.ports[%d]", container, i)
		if p.Name != "" && len(validation.IsValidPortName(p.Name)) > 0 {
			v.add(check.BadPortName, p.Name, "%s.name", path)
		} else {
			v.name(names, p.Name, path)
		}
		switch {
		case p.ContainerPort == 0:
			v.add(check.NumberMissing, "", "%s.containerPort", path)
		case !isPort(p.ContainerPort):
			v.add("", p.ContainerPort, "%s.containerPort", path)
		}
		if p.HostPort != 0 && !isPort(p.HostPort) {
			v.add("", p.HostPort, "%s.hostPort", path)
		}
		v.protocol(p.Protocol, path)
	}
}

// handlers holds the ports that the kubelet asks a container at.
func (v *validator) handlers(c *corev1.Container, container string) {
	probe := func(p *corev1.Probe, name string) {
		if p != nil {
			v.handler(p.Exec != nil, p.HTTPGet, p.TCPSocket, p.GRPC, container+"."+name)
		}
	}
	probe(c.LivenessProbe, "livenessProbe")
	probe(c.ReadinessProbe, "readinessProbe")
	probe(c.StartupProbe, "startupProbe")
	hook := func(h *corev1.LifecycleHandler, name string) {
		if h != nil {
			v.handler(h.Exec != nil, h.HTTPGet, h.TCPSocket, nil, container+".lifecycle."+name)
		}
	}
	if c.Lifecycle != nil {
		hook(c.Lifecycle.PostStart, "postStart")
		hook(c.Lifecycle.PreStop, "preStop")
	}
}

// handler holds the port of the first of several actions; that there are others is refused for itself.
func (v *validator) handler(isExec bool, http *corev1.HTTPGetAction, tcp *corev1.TCPSocketAction, grpc *corev1.GRPCAction, path string) {
	switch {
	case isExec:
	case http != nil:
		v.numberOrName(http.Port, "%s.httpGet.port", path)
	case tcp != nil:
		v.numberOrName(tcp.Port, "%s.tcpSocket.port", path)
	case grpc != nil && !isPort(grpc.Port):
		v.add("", grpc.Port, "%s.grpc.port", path)
	}
}
