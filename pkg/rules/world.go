package rules

import (
	"net/netip"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// World is what the renderers are given: one node, the objects that matter to it, and how its components were started.
// Addresses are canonical: never 4-in-6. Where the values come from is decided in pkg/extract.
type World struct {
	Node         Node
	Services     []*Service // sorted by namespace and name
	Pods         []*Pod     // those of the node with host ports, in the order in which portmap saw them
	ServiceCIDRs []netip.Prefix
	Proxy        Proxy
	Portmap      Portmap
}

// Node is the node whose rules are rendered.
type Node struct {
	Name      string
	Zone      string       // its label topology.kubernetes.io/zone
	IPs       []netip.Addr // those of the Node object, the primary one of each family first
	Addresses []netip.Addr // those of its interfaces without loopback: what is local to it; IPs are among them
	PodCIDRs  []netip.Prefix
}

// IP returns the node's primary address of a family, or loopback as kube-proxy does.
func (n *Node) IP(f Family) netip.Addr {
	for _, ip := range n.IPs {
		if f.Has(ip) {
			return ip
		}
	}
	if f == IPv4 {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.IPv6Loopback()
}

// Service is a Service that kube-proxy serves; headless Services and ExternalNames are none.
type Service struct {
	Ref                 ports.Ref
	Type                string       // ClusterIP, NodePort, LoadBalancer
	ClusterIPs          []netip.Addr // at most one of each family
	ExternalIPs         []netip.Addr
	LoadBalancerIPs     []netip.Addr   // those of status.loadBalancer by which packets come to the node: ipMode VIP
	SourceRanges        []netip.Prefix // of load balancers, host bits masked
	ExternalLocal       bool           // externalTrafficPolicy Local, as written
	InternalLocal       bool           // internalTrafficPolicy Local
	AffinitySeconds     int            // sessionAffinity ClientIP; 0: none
	HealthCheckNodePort uint16
	Ports               []ServicePort
}

// ClusterIP returns the cluster IP of a family.
func (s *Service) ClusterIP(f Family) (netip.Addr, bool) {
	for _, ip := range s.ClusterIPs {
		if f.Has(ip) {
			return ip, true
		}
	}
	return netip.Addr{}, false
}

// ServicePort is a port of a Service with where it leads.
type ServicePort struct {
	ports.ServicePort
	Endpoints []Endpoint // of both families, in any order
}

// Endpoint is one address behind a Service port.
type Endpoint struct {
	Addr        netip.AddrPort
	Node        string // where it runs; "": not said
	Owner       ports.Ref
	Ready       bool
	Serving     bool
	Terminating bool
	ForNodes    []string // topology hints
	ForZones    []string
}

// IsUsable reports whether kube-proxy may send packets to the endpoint: to one that ends only where none is ready.
func (e Endpoint) IsUsable() bool { return e.Ready || e.Serving && e.Terminating }

// Pod is a pod with host ports that a CNI plugin maps.
type Pod struct {
	Ref       ports.Ref
	SandboxID string         // of the runtime; portmap names chains by it
	Derived   bool           // SandboxID is not the runtime's but made up, as nobody can know it
	Addresses []netip.Prefix // the first of each family counts, with the prefix length that the CNI result gave
	Mappings  []Mapping
}

// Mapping is one host port of a pod, in the order of its containers.
type Mapping struct {
	Protocol      ports.Protocol
	HostPort      uint16
	ContainerPort uint16
	HostIP        netip.Addr // the zero Addr: every address of both families; 0.0.0.0 and :: are all of one
}

// Proxy is how kube-proxy was started.
type Proxy struct {
	MasqueradeAll      bool
	MasqueradeBit      int            // 0: 14, the default
	NodePortAddresses  []netip.Prefix // none: all
	PrimaryNodePorts   bool           // --nodeport-addresses=primary, the default of the nftables mode
	LocalhostNodePorts bool           // --iptables-localhost-nodeports, true by default
	Detector           Detector       // what it takes for pods of this node
	LiberalConntrack   bool           // net.netfilter.nf_conntrack_tcp_be_liberal
	Counters           bool           // nfacct counters could be created
	Scheduler          string         // of ipvs; "" is rr
}

// Detector tells packets of pods from others.
type Detector struct {
	CIDRs           []netip.Prefix // --cluster-cidr, or the node's; the first of each family counts
	Bridge          string         // by bridge interface instead
	InterfacePrefix string         // by the beginning of interface names instead
}

// CIDR returns the detector's network of a family.
func (d Detector) CIDR(f Family) (netip.Prefix, bool) {
	for _, p := range d.CIDRs {
		if f.Has(p.Addr()) {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// Portmap is the configuration of the CNI plugin portmap.
type Portmap struct {
	Network         string // the CNI network's name
	NoSNAT          bool   // snat: false
	MasqueradeAll   bool   // masqAll
	MarkBit         int    // markMasqBit, 13 by default
	ExternalSetMark string // externalSetMarkChain
}
