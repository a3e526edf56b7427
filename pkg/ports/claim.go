package ports

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Kind says by which field a claim takes its socket. A new way to claim a port is a new Kind.
type Kind uint8

// The ways to claim a port of a node.
const (
	NodePort            Kind = iota + 1 // a Service's spec.ports[].nodePort
	HealthCheckNodePort                 // a Service's spec.healthCheckNodePort: kube-proxy listens on it, TCP
	HostPort                            // a container's ports[].hostPort
	HostNetwork                         // a containerPort of a hostNetwork pod: its process binds it
	ExternalIP                          // a Service port on an address of spec.externalIPs
	LoadBalancerIP                      // a Service port on an address that a load balancer has, or is asked for
	ServiceLBPort                       // a port of a LoadBalancer Service, on the nodes of k3s' ServiceLB
)

// String returns the API's spelling of the field.
func (k Kind) String() string {
	switch k {
	case NodePort:
		return "nodePort"
	case HealthCheckNodePort:
		return "healthCheckNodePort"
	case HostPort:
		return "hostPort"
	case HostNetwork:
		return "hostNetwork port"
	case ExternalIP:
		return "external IP port"
	case LoadBalancerIP:
		return "load-balancer IP port"
	case ServiceLBPort:
		return "ServiceLB port"
	default:
		return fmt.Sprintf("Kind(%d)", uint8(k))
	}
}

// IsNodePortAllocated reports whether the API server allocates k's number from its book of node ports, in which a number
// belongs to one Service whatever the protocol (k8s.io/kubernetes/pkg/registry/core/service/portallocator).
func (k Kind) IsNodePortAllocated() bool { return k == NodePort || k == HealthCheckNodePort }

// OfPod reports whether a pod makes claims of kind k.
func (k Kind) OfPod() bool { return k == HostPort || k == HostNetwork }

// ScopeKind says on which nodes a claim holds its socket.
type ScopeKind uint8

// The scopes. The zero value is Undecided.
const (
	Undecided  ScopeKind = iota // on some node that is not known yet: a pod at admission, a Deployment's template
	OnNode                      // on one node
	OnEach                      // on each node of a set: a DaemonSet's
	Everywhere                  // on every node
	AtAddress                   // on the node, if any, whose address the socket's is
)

// Scope is where a claim holds its socket. The zero Scope is undecided.
type Scope struct {
	Kind  ScopeKind
	pods  int32     // of an undecided scope: how many nodes it will be for good, as pods of one port never share one; 0: not known
	nodes *[]string // sorted; shared, never written
}

// NodeScope is one node.
func NodeScope(node string) Scope { return Scope{Kind: OnNode, nodes: &[]string{node}} }

// AmongScope is undecided, but it will be so many of nodes, which are sorted and must not be written afterwards; nil
// nodes are not known.
func AmongScope(pods int, nodes []string) Scope {
	s := Scope{pods: int32(min(max(pods, 0), math.MaxInt32))}
	if nodes != nil {
		s.nodes = &nodes
	}
	return s
}

// EachScope is each of nodes, which are sorted and must not be written afterwards.
func EachScope(nodes []string) Scope {
	if !slices.IsSorted(nodes) {
		nodes = slices.Sorted(slices.Values(nodes))
	}
	return Scope{Kind: OnEach, nodes: &nodes}
}

// EverywhereScope is every node.
func EverywhereScope() Scope { return Scope{Kind: Everywhere} }

// AddressScope is the node whose address the socket has.
func AddressScope() Scope { return Scope{Kind: AtAddress} }

// Node returns the name of the node if s is exactly one.
func (s Scope) Node() (string, bool) {
	if s.Kind != OnNode || s.nodes == nil {
		return "", false
	}
	return (*s.nodes)[0], true
}

// Nodes returns the names of the nodes, sorted, where s names them. The caller must not write to it.
func (s Scope) Nodes() []string {
	if s.nodes == nil || s.Kind == Undecided {
		return nil
	}
	return *s.nodes
}

// Among returns how many nodes an undecided scope will be, 0 if that is not known, and which they may be, nil if that is
// not known. The caller must not write to them.
func (s Scope) Among() (pods int, nodes []string) {
	if s.Kind != Undecided {
		return 0, nil
	}
	if s.nodes != nil {
		nodes = *s.nodes
	}
	return int(s.pods), nodes
}

// isNowhere reports whether s is a set of no nodes: that of a DaemonSet which no node suits.
func (s Scope) isNowhere() bool { return s.Kind == OnEach && len(s.Nodes()) == 0 }

// Has reports whether s certainly includes node.
func (s Scope) Has(node string) bool {
	if s.Kind == Everywhere {
		return true
	}
	_, found := slices.BinarySearch(s.Nodes(), node)
	return found
}

// Equal reports whether s and o name the same nodes in the same way.
func (s Scope) Equal(o Scope) bool {
	pods, among := s.Among()
	oPods, oAmong := o.Among()
	return s.Kind == o.Kind && pods == oPods && slices.Equal(s.Nodes(), o.Nodes()) && slices.Equal(among, oAmong)
}

// String returns "n1", "n1,n2", "every node", "the node of the address" or "a node".
func (s Scope) String() string {
	switch s.Kind {
	case OnNode, OnEach:
		return strings.Join(s.Nodes(), ",")
	case Everywhere:
		return "every node"
	case AtAddress:
		return "the node of the address"
	case Undecided:
	}
	return "a node"
}

// Claim is a socket that an owner wants or holds somewhere.
type Claim struct {
	Socket
	Kind     Kind
	InitOnly bool // by a plain init container: held only while that runs
	Sidecar  bool // by a restartable init container
	Idle     bool // the owner is scaled to nothing, suspended or finished: it would hold the socket and now does not
	Scope    Scope
	Owner    *Owner
	Field    string // the path in the owner, "spec.ports[0].nodePort"
}

// Compare orders claims by socket, kind, owner, field and scope, so that answers do not depend on map order.
func (c Claim) Compare(o Claim) int {
	return cmp.Or(c.Socket.Compare(o.Socket), cmp.Compare(c.Kind, o.Kind), c.Owner.ref().Compare(o.Owner.ref()),
		strings.Compare(c.Field, o.Field), cmp.Compare(c.Scope.Kind, o.Scope.Kind),
		slices.Compare(c.Scope.Nodes(), o.Scope.Nodes()))
}

// String describes the claim for logs and test failures.
func (c Claim) String() string {
	return fmt.Sprintf("%s %s of %s on %s", c.Kind, c.Socket, c.Owner.ref(), c.Scope)
}

// Same reports whether c and o, of one owner, differ in nothing but their fields: an update may move an entry.
func (c Claim) Same(o Claim) bool {
	return c.Socket == o.Socket && c.Kind == o.Kind && c.InitOnly == o.InitOnly && c.Idle == o.Idle && c.Scope.Equal(o.Scope)
}
