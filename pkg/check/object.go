package check

import "github.com/portcullis-k8s/portcullis/pkg/ports"

// Service is what the questions need to know of a Service.
type Service struct {
	Owner               ports.Owner
	Type                string // ClusterIP, NodePort, LoadBalancer, ExternalName
	Ports               []ports.ServicePort
	HealthCheckNodePort uint16
	Claims              []ports.Claim
}

// HasNodePorts reports whether Services of s's type have node ports at all.
func (s *Service) HasNodePorts() bool { return s.Type == "NodePort" || s.Type == "LoadBalancer" }

// Workload is what the questions need to know of a pod, or of an object with a pod template.
type Workload struct {
	Owner       ports.Owner
	IsPod       bool
	HostNetwork bool
	Containers  []string // names
	Claims      []ports.Claim
	Unparsed    []Unparsed // hostIPs that are no addresses, and so claim nothing
	Eligible    []string   // the nodes that its pods may run on, sorted; nil: not known
}

// Unparsed is a hostIP that is no IP address.
type Unparsed struct {
	Field string
	Value string
	Port  string // the container port entry as a user would name it, "8080/TCP"
}
