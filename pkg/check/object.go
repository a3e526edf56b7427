package check

import (
	"net/netip"

	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// Service is what the checks need to know of a Service.
type Service struct {
	Owner                 ports.Owner
	Labels                map[string]string
	Type                  string // ClusterIP, NodePort, LoadBalancer, ExternalName
	Ports                 []ports.ServicePort
	HealthCheckNodePort   uint16 // where the type and the policy use it
	UnusedHealthCheck     uint16 // where they do not
	Unallocated           bool   // a LoadBalancer that wants no nodePorts
	Chosen                bool   // its numbers may have been chosen by the API server or the webhook since it was written
	ExternalTrafficPolicy string
	ExternalIPs           []netip.Addr // spec.externalIPs; the zero address for what is none
	Claims                []ports.Claim
	Asked                 []ports.Claim // what it asks a load balancer for, which may or may not be there
	Misspelled            []Misspelled
	Invalid               []Invalid
	Backends              []Backend   // the pods and templates that it selects, as far as they are known
	Endpoints             []Endpoints // of its name, in any namespace, where it has no selector
}

// HasNodePorts reports whether Services of s's type have node ports at all.
func (s *Service) HasNodePorts() bool { return s.Type == "NodePort" || s.Type == "LoadBalancer" }

// getsNodePorts reports whether the API server gives s the node ports that it leaves out.
func (s *Service) getsNodePorts() bool {
	return s.Type == "NodePort" || s.Type == "LoadBalancer" && !s.Unallocated
}

// Misspelled is a value that the API knows in another case only.
type Misspelled struct {
	Field string
	Value string
	Known string
}

// Backend is a pod, or an object with a pod template, to which a Service leads.
type Backend struct {
	Ref   ports.Ref
	Ports []NamedPort // of its containers and sidecars, in the order in which names are looked up
}

// NamedPort is a container port with a name.
type NamedPort struct {
	Name     string
	Protocol ports.Protocol
	Port     uint16
}

// Endpoints is an Endpoints object or an EndpointSlice.
type Endpoints struct {
	Ref   ports.Ref
	Ports []EndpointPort
}

// EndpointPort is by what a port of endpoints is joined with one of the Service.
type EndpointPort struct {
	Name     string // "" for one without
	Protocol ports.Protocol
}

// Workload is what the checks need to know of a pod, or of an object with a pod template.
type Workload struct {
	Owner            ports.Owner
	Labels           map[string]string // of its pods
	IsPod            bool
	IsTrusted        bool // its namespace is one of Settings.Trusted
	HostNetwork      bool
	HostNetworkField string   // where it says so
	Containers       []string // names
	Claims           []ports.Claim
	Probed           []ports.Claim // what a probe shows that a container of the host network listens on, and ports do not declare
	Unparsed         []Unparsed    // hostIPs that are no addresses, and so claim nothing
	Misspelled       []Misspelled
	Invalid          []Invalid
	OneKey           []OneKey
	Requests         []HostPortRequest // host ports that it asks for by annotation
	Eligible         []string          // the nodes that its pods may run on, sorted; nil: not known
	Selection        Selection         // which nodes they may run on, whether there are such nodes or not; nil: not known
	OneHost          bool              // it names the one host that its pods may run on, whether the nodes are known or not
	Rollout          *Rollout          // nil: a pod, or an object that rolls nothing out by itself
}

// Selection is what a workload says of the nodes that its pods may run on.
type Selection interface {
	// Overlap reports whether a node can exist that both it and nodes select, and whether all that it selects are such nodes.
	Overlap(nodes pool.Selector) (some, all bool)
}

// Unparsed is a hostIP that is not an IP address.
type Unparsed struct {
	Field string
	Value string
	Port  string // the container port entry as a user would name it, "8080/TCP"
}

// OneKey is a port entry of a container that has the merge key of another.
type OneKey struct {
	Field, Other string
	Value        string // the key
}

// Rollout is how the pods of a template come into being and replace each other.
type Rollout struct {
	Kind        RolloutKind
	Field       string // the path of how many there are, "spec.replicas"
	Replicas    int    // how many there are at a time; of a DaemonSet, that is what its nodes say
	Surge       int    // how many more there may be while they are replaced, rounded as Kubernetes does
	Unavailable int    // how many may be missing meanwhile
}

// RolloutKind says how new pods replace old ones.
type RolloutKind uint8

// The ways in which pods replace each other.
const (
	InTurn     RolloutKind = iota + 1 // an old one goes first: a StatefulSet, Recreate, OnDelete, a ReplicaSet
	Rolling                           // a Deployment's RollingUpdate
	OnEachNode                        // a DaemonSet's
	ToTheEnd                          // a Job: pods end and make room
)
