// Package explain says who gets the packets of a port on a node, and by which rules.
//
// A Plane is the data plane of a node: kube-proxy and portmap, each in one of its modes.
//
//	rules.World -> Plane.Rules -> rules.Ruleset        what the two install (pkg/rules/kubeproxy, pkg/rules/portmap)
//	walk.Packet -> Plane.Trace -> Answer               where it ends (pkg/rules/walk), and who would get it otherwise
//	check.Input -> Plane.Check -> []check.Finding      check.Check, with the Packets of each conflict
//
// Where it is not known whether kube-proxy or portmap started first, both orders are walked. For a conflict, Conflict
// puts the two owners alone on a simulated node and walks one packet of each class; its Evidence says who gets them.
// Check also raises PC0603, a host port that takes the packets of every cluster IP. Drift compares a ruleset with a
// listing of a node.
package explain

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
	"github.com/portcullis-k8s/portcullis/pkg/rules/kubeproxy"
	"github.com/portcullis-k8s/portcullis/pkg/rules/portmap"
)

// ServiceProxy is a mode of kube-proxy.
type ServiceProxy string

// The modes of kube-proxy.
const (
	IPTables       ServiceProxy = "iptables"
	NFTables       ServiceProxy = "nftables"
	IPVS           ServiceProxy = "ipvs"
	Userspace      ServiceProxy = "userspace" // of old clusters; gone since Kubernetes 1.26
	NoServiceProxy ServiceProxy = "none"      // nothing serves node ports
	UnknownProxy   ServiceProxy = "unknown"
)

// HostPortMapper is what maps host ports on the nodes.
type HostPortMapper string

// The mappers of host ports.
const (
	PortmapIPTables HostPortMapper = "portmap-iptables"
	PortmapNFTables HostPortMapper = "portmap-nftables"
	NoHostPorts     HostPortMapper = "none" // nothing maps them
	UnknownMapper   HostPortMapper = "unknown"
)

// Component is one of the two that install rules, by its role.
type Component string

// The components.
const (
	ProxyComponent    Component = "service-proxy"
	HostPortComponent Component = "host-port"
)

// Order is who of the components started first. Nil: it is not known.
type Order []Component

// Orders are those that there can be.
func Orders() []Order {
	return []Order{{ProxyComponent, HostPortComponent}, {HostPortComponent, ProxyComponent}}
}

// Plane is the data plane of a node.
type Plane struct {
	ServiceProxy ServiceProxy
	HostPorts    HostPortMapper
	Started      Order

	NotOnLoopback bool // kube-proxy was started with --iptables-localhost-nodeports=false

	// Services returns a Service as kube-proxy sees it, with placeholders for cluster IPs that it has not got yet, and whether
	// its endpoints are known; nil for one that is not known, or that kube-proxy passes over. Nil: no Service is known.
	Services func(service ports.Ref, placeholders []netip.Addr) (*rules.Service, bool)
}

// PlaneOf returns the plane of a configuration, which passed its own validation. Who started first it does not say.
func PlaneOf(serviceProxy, hostPorts string, notOnLoopback bool) Plane {
	return Plane{ServiceProxy: ServiceProxy(serviceProxy), HostPorts: HostPortMapper(hostPorts), NotOnLoopback: notOnLoopback}
}

// Validate returns what is wrong with the plane's names.
func (p Plane) Validate() error {
	if !slices.Contains([]ServiceProxy{IPTables, NFTables, IPVS, Userspace, NoServiceProxy, UnknownProxy}, p.ServiceProxy) {
		return fmt.Errorf("service proxy %q is not one of iptables, nftables, ipvs, userspace, none, unknown", p.ServiceProxy)
	}
	if !slices.Contains([]HostPortMapper{PortmapIPTables, PortmapNFTables, NoHostPorts, UnknownMapper}, p.HostPorts) {
		return fmt.Errorf("mapper of host ports %q is not one of portmap-iptables, portmap-nftables, none, unknown", p.HostPorts)
	}
	return nil
}

// Unknown returns which of the components on which claims of a kind depend is not known; "" if that is known.
func (p Plane) Unknown(kind ports.Kind) Component {
	switch {
	case kind == ports.HostPort && p.HostPorts == UnknownMapper:
		return HostPortComponent
	case !kind.OfPod() && p.ServiceProxy == UnknownProxy:
		return ProxyComponent
	default:
		return ""
	}
}

// serves reports whether some component takes the packets for claims of a kind to their owner.
func (p Plane) serves(kind ports.Kind) bool {
	switch kind {
	case ports.HostNetwork:
		return true // the process itself
	case ports.HostPort:
		return p.HostPorts != NoHostPorts
	case ports.NodePort, ports.HealthCheckNodePort, ports.ExternalIP, ports.LoadBalancerIP, ports.ServiceLBPort:
	}
	return p.ServiceProxy != NoServiceProxy
}

// Rules returns everything that the components of a plane install on the node of a world, for both families. Where it is
// not known who started first, the service proxy did.
func (p Plane) Rules(w *rules.World) *rules.Ruleset {
	if p.Started == nil {
		p.Started = Orders()[0]
	}
	return p.ordered(w, p.Started)
}

func (p Plane) ordered(w *rules.World, started Order) *rules.Ruleset {
	var fragments []rules.Fragment
	for _, c := range started {
		for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
			if c == ProxyComponent {
				fragments = append(fragments, p.proxy(w, f)...)
			} else {
				fragments = append(fragments, p.hostPorts(w, f)...)
			}
		}
	}
	return rules.Install(fragments...)
}

func (p Plane) proxy(w *rules.World, f rules.Family) []rules.Fragment {
	switch p.ServiceProxy {
	case IPTables:
		return []rules.Fragment{kubeproxy.IPTables(w, f)}
	case NFTables:
		return []rules.Fragment{kubeproxy.NFTables(w, f)}
	case IPVS:
		return []rules.Fragment{kubeproxy.IPVS(w, f)}
	case Userspace:
		return []rules.Fragment{kubeproxy.Userspace(w, f, proxyPort)}
	case NoServiceProxy, UnknownProxy:
	}
	return nil
}

func (p Plane) hostPorts(w *rules.World, f rules.Family) []rules.Fragment {
	switch p.HostPorts {
	case PortmapIPTables:
		return []rules.Fragment{portmap.IPTables(w, f)}
	case PortmapNFTables:
		return []rules.Fragment{portmap.NFTables(w, f)}
	case NoHostPorts, UnknownMapper:
	}
	return nil
}

// proxyPort stands for the port on which the userspace proxy listens for a Service port, which the kernel chooses.
func proxyPort(s *rules.Service, p ports.ServicePort) uint16 {
	const first, many = 32768, 28232 // the usual ephemeral range
	sum := uint32(2166136261)        // FNV-1a
	for _, b := range []byte(s.Ref.String() + "/" + p.Name + "/" + p.String()) {
		sum = (sum ^ uint32(b)) * 16777619
	}
	return uint16(first + sum%many)
}
