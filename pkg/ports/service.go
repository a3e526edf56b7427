package ports

import "strconv"

// ServicePort is the triple of a Service's port entry: the port that clients inside the cluster use, the port of the
// pod that it leads to, and the port that every node opens for it, with the protocol and the entry's name.
type ServicePort struct {
	Name       string
	Protocol   Protocol
	Port       uint16     // spec.ports[].port, on the cluster IP
	TargetPort TargetPort // spec.ports[].targetPort, in the pod
	NodePort   uint16     // spec.ports[].nodePort, on every node; 0: none, or not chosen yet
}

// String returns kubectl's form, "8000:30007/TCP", or "8000/TCP" without a node port.
func (p ServicePort) String() string {
	s := strconv.Itoa(int(p.Port))
	if p.NodePort != 0 {
		s += ":" + strconv.Itoa(int(p.NodePort))
	}
	return s + "/" + p.Protocol.String()
}

// TargetPort is a port of a pod, by number or by the name of a container's port. The zero value is the Service port's
// own number.
type TargetPort struct {
	Number uint16
	Name   string
}

// ParseTargetPort reads a number, or else takes s as a name. The empty string and "0" are the zero value, as the API
// defaults them (k8s.io/kubernetes/pkg/apis/core/v1 SetDefaults_Service).
func ParseTargetPort(s string) TargetPort {
	if s == "0" {
		return TargetPort{}
	}
	if n, err := ParsePort(s); err == nil {
		return TargetPort{Number: n}
	}
	return TargetPort{Name: s}
}

// String returns the number or the name; "0" for the zero value.
func (t TargetPort) String() string {
	if t.Name != "" {
		return t.Name
	}
	return strconv.Itoa(int(t.Number))
}
