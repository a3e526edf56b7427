package extract

import (
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// NodePortAddresses is on which of a node's addresses the data plane serves node ports.
type NodePortAddresses struct {
	Prefixes     []netip.Prefix // none: on all
	Primary      bool           // on the node's primary addresses only; Prefixes are ignored
	IPv4Loopback bool           // on 127.0.0.0/8 too, as kube-proxy's iptables mode does by default
	// ServiceLB says that k3s' load balancer serves Services of type LoadBalancer: a DaemonSet for each has their ports as
	// hostPorts, on ServiceLBOn, or on every node where that is nil.
	ServiceLB   bool
	ServiceLBOn []string
}

// On returns what a node port of the given families holds: several addresses if there are several prefixes.
func (n NodePortAddresses) On(ipv4, ipv6 bool) []ports.Address {
	held := n.HealthChecksOn(ipv4, ipv6)
	for i, a := range held {
		held[i] = n.loopback(a)
	}
	return held
}

// HealthChecksOn returns what a health check node port holds: kube-proxy itself listens on it, so that loopback is no
// exception (k8s.io/kubernetes/pkg/proxy/healthcheck).
func (n NodePortAddresses) HealthChecksOn(ipv4, ipv6 bool) []ports.Address {
	if n.Primary {
		return []ports.Address{family(ipv4, ipv6).PrimaryOnly()}
	}
	var held []ports.Address
	if ipv4 {
		held = n.within(ports.Address.HasIPv4)
		ipv4 = held == nil
	}
	if ipv6 {
		held6 := n.within(ports.Address.HasIPv6)
		held, ipv6 = append(held, held6...), held6 == nil
	}
	if ipv4 || ipv6 {
		held = append(held, family(ipv4, ipv6))
	}
	return held
}

// within returns the prefixes of one family; none if all of it is served, as it is without a prefix of the family
// (k8s.io/kubernetes/pkg/proxy/util NewNodePortAddresses).
func (n NodePortAddresses) within(isOf func(ports.Address) bool) []ports.Address {
	var held []ports.Address
	for _, p := range n.Prefixes {
		a := ports.AddressesIn(p)
		switch {
		case !isOf(a):
		case p.Bits() == 0:
			return nil
		default:
			held = append(held, a)
		}
	}
	return held
}

func (n NodePortAddresses) loopback(a ports.Address) ports.Address {
	if n.IPv4Loopback {
		return a.WithoutIPv6Loopback()
	}
	return a.WithoutLoopback()
}

func family(ipv4, ipv6 bool) ports.Address {
	switch {
	case ipv4 && !ipv6:
		return ports.AllIPv4()
	case ipv6 && !ipv4:
		return ports.AllIPv6()
	default:
		return ports.AllAddresses()
	}
}

// MaxExternalSockets is how many sockets of external IPs, and as many of a load balancer's addresses, are looked at in one
// Service: every address with every port is one, and a manifest of a hundred kilobytes can name millions. The ledger keeps
// 10,000 in a megabyte, measured.
const MaxExternalSockets = 10000

// TooManySockets reports whether a Service's external IPs make more than MaxExternalSockets sockets, and how many.
func TooManySockets(svc *corev1.Service) (sockets int, are bool) {
	sockets = len(svc.Spec.ExternalIPs) * len(svc.Spec.Ports)
	return sockets, sockets > MaxExternalSockets
}

// Service returns a Service with its claims: node ports and health check node port on every node, Service ports on the
// node, if any, that has an external or load-balancer address. kube-proxy passes over ExternalName and headless
// Services, which claim nothing. Of a Service with TooManySockets the external IPs claim nothing either: whoever judges it must
// ask first. So it is with a load balancer's addresses, which are not for the Service's writer to choose, by themselves.
func Service(svc *corev1.Service, nodePorts NodePortAddresses) *check.Service {
	s := &check.Service{
		Owner:                 Owner(coreKind("Service"), svc, nil),
		Labels:                svc.Labels,
		Type:                  string(asKnown(svc.Spec.Type, serviceTypes()...)),
		HealthCheckNodePort:   healthCheckNodePort(svc),
		Unallocated:           svc.Spec.AllocateLoadBalancerNodePorts != nil && !*svc.Spec.AllocateLoadBalancerNodePorts,
		ExternalTrafficPolicy: externalTrafficPolicy(svc),
		Misspelled:            misspelledIn(svc),
		Chosen:                svc.UID != "", // read back from an API server, which may have chosen them
	}
	if n := svc.Spec.HealthCheckNodePort; s.HealthCheckNodePort == 0 && n > 0 && n <= 65535 {
		s.UnusedHealthCheck = uint16(n)
	}
	if s.Type == "" {
		s.Type = string(corev1.ServiceTypeClusterIP)
	}
	if svc.Spec.Type != corev1.ServiceTypeExternalName {
		s.Owner.ClusterIPs = clusterIPs(&svc.Spec)
	}
	for _, ip := range svc.Spec.ExternalIPs {
		addr, _ := parseSloppy(ip) // the API server refuses what is none
		s.ExternalIPs = append(s.ExternalIPs, addr)
	}
	e := serviceClaims{svc: svc, to: s, nodePorts: nodePorts}
	for i := range svc.Spec.Ports {
		if p, ok := servicePort(&svc.Spec.Ports[i]); ok {
			s.Ports = append(s.Ports, p)
			e.addPort(p, i)
		} else {
			s.Ports = append(s.Ports, ports.ServicePort{}) // keeps the index; the API server refuses the entry and says so
		}
	}
	if s.HealthCheckNodePort != 0 {
		e.addNodePorts(ports.HealthCheckNodePort, ports.TCP, s.HealthCheckNodePort, healthCheckField)
	}
	return s
}

func servicePort(p *corev1.ServicePort) (ports.ServicePort, bool) {
	protocol, err := ports.ParseProtocol(string(orTCP(p.Protocol)))
	if err != nil || p.Port < 1 || p.Port > 65535 || p.NodePort < 0 || p.NodePort > 65535 {
		return ports.ServicePort{}, false
	}
	return ports.ServicePort{
		Name: p.Name, Protocol: protocol, Port: uint16(p.Port),
		TargetPort: targetPort(p), NodePort: uint16(p.NodePort),
	}, true
}

// targetPort is the Service's own port where none is given.
func targetPort(p *corev1.ServicePort) ports.TargetPort {
	switch {
	case p.TargetPort.Type == intstr.String && p.TargetPort.StrVal != "":
		return ports.TargetPort{Name: p.TargetPort.StrVal}
	case p.TargetPort.Type == intstr.Int && p.TargetPort.IntVal > 0 && p.TargetPort.IntVal <= 65535:
		return ports.TargetPort{Number: uint16(p.TargetPort.IntVal)}
	default:
		return ports.TargetPort{Number: uint16(p.Port)}
	}
}

// healthCheckNodePort is the number where it is used: left over from an update elsewhere, the API server drops it.
func healthCheckNodePort(svc *corev1.Service) uint16 {
	n := svc.Spec.HealthCheckNodePort
	isLocal := svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
	if svc.Spec.Type != corev1.ServiceTypeLoadBalancer || !isLocal || n < 0 || n > 65535 {
		return 0
	}
	return uint16(n)
}

// externalTrafficPolicy is the policy as the API server defaults it; "" where the type has none.
func externalTrafficPolicy(svc *corev1.Service) string {
	switch {
	case svc.Spec.Type != corev1.ServiceTypeNodePort && svc.Spec.Type != corev1.ServiceTypeLoadBalancer && len(svc.Spec.ExternalIPs) == 0:
		return ""
	case svc.Spec.ExternalTrafficPolicy == "":
		return string(corev1.ServiceExternalTrafficPolicyCluster)
	default:
		return string(svc.Spec.ExternalTrafficPolicy)
	}
}

type serviceClaims struct {
	svc       *corev1.Service
	to        *check.Service
	nodePorts NodePortAddresses
}

func (e serviceClaims) addPort(p ports.ServicePort, i int) {
	if p.NodePort != 0 && e.to.HasNodePorts() {
		e.addNodePorts(ports.NodePort, p.Protocol, p.NodePort, nodePortField(i))
	}
	if e.svc.Spec.Type == corev1.ServiceTypeExternalName || e.svc.Spec.ClusterIP == corev1.ClusterIPNone {
		return
	}
	field := fmt.Sprintf("spec.ports[%d].port", i)
	if _, are := TooManySockets(e.svc); !are {
		for _, ip := range e.svc.Spec.ExternalIPs {
			e.addAt(ports.ExternalIP, ip, p, field)
		}
	}
	if e.svc.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return
	}
	ingresses := e.svc.Status.LoadBalancer.Ingress
	if e.svc.Spec.LoadBalancerClass == nil { // else it is another's business
		if _, inPool := e.svc.Labels[serviceLBPoolLabel]; e.nodePorts.ServiceLB && !inPool {
			e.addServiceLB(p, field)
		}
		if len(ingresses) == 0 {
			e.addAsked(p, field)
		}
	}
	if len(ingresses)*len(e.svc.Spec.Ports) > MaxExternalSockets {
		return
	}
	for _, ingress := range ingresses {
		// A load balancer that proxies sends packets to node ports, so that nothing takes the address on the node.
		if ingress.IPMode == nil || *ingress.IPMode == corev1.LoadBalancerIPModeVIP {
			e.addAt(ports.LoadBalancerIP, ingress.IP, p, field)
		}
	}
}

// serviceLBPoolLabel keeps a Service to the nodes of a pool, so that two of different pools do not meet.
const serviceLBPoolLabel = "svccontroller.k3s.cattle.io/lbpool"

// addServiceLB adds the hostPort that the DaemonSet of k3s' load balancer has for a Service port (k3s-io/k3s
// pkg/cloudprovider/servicelb.go).
func (e serviceClaims) addServiceLB(p ports.ServicePort, field string) {
	scope := ports.EverywhereScope()
	if e.nodePorts.ServiceLBOn != nil {
		scope = ports.EachScope(e.nodePorts.ServiceLBOn)
	}
	e.to.Asked = append(e.to.Asked, ports.Claim{
		Socket: ports.Socket{Protocol: p.Protocol, Port: p.Port}, Kind: ports.ServiceLBPort, Scope: scope, Owner: &e.to.Owner, Field: field,
	})
}

// AddressAnnotations are those by which a Service asks MetalLB or kube-vip for its addresses.
func AddressAnnotations() []string {
	return []string{"metallb.io/loadBalancerIPs", "metallb.universe.tf/loadBalancerIPs", "kube-vip.io/loadbalancerIPs"}
}

// addAsked adds the claims of a Service port on the addresses that the Service asks a load balancer for. Two Services may share
// an address, but no load balancer gives them one port of it.
func (e serviceClaims) addAsked(p ports.ServicePort, field string) {
	asked := map[ports.Address]bool{}
	add := func(ip string) {
		if c, ok := e.at(ports.LoadBalancerIP, strings.TrimSpace(ip), p, field); ok && !asked[c.Address] && len(asked)*len(e.svc.Spec.Ports) < MaxExternalSockets {
			asked[c.Address] = true
			e.to.Asked = append(e.to.Asked, c)
		}
	}
	add(e.svc.Spec.LoadBalancerIP)
	for _, name := range AddressAnnotations() {
		for ip := range strings.SplitSeq(e.svc.Annotations[name], ",") {
			add(ip)
		}
	}
}

func (e serviceClaims) addNodePorts(kind ports.Kind, protocol ports.Protocol, port uint16, field string) {
	on := e.nodePorts.On
	if kind == ports.HealthCheckNodePort {
		on = e.nodePorts.HealthChecksOn
	}
	for _, address := range on(ServiceFamilies(e.svc)) {
		e.to.Claims = append(e.to.Claims, ports.Claim{
			Socket: ports.Socket{Address: address, Protocol: protocol, Port: port},
			Kind:   kind, Scope: ports.EverywhereScope(), Owner: &e.to.Owner, Field: field,
		})
	}
}

// addAt adds the claim of a Service port on an address.
func (e serviceClaims) addAt(kind ports.Kind, ip string, p ports.ServicePort, field string) {
	if c, ok := e.at(kind, ip, p, field); ok {
		e.to.Claims = append(e.to.Claims, c)
	}
}

// at returns the claim of a Service port on an address. What is not an address takes no packets, and neither does one of a family
// that the Service does not serve.
func (e serviceClaims) at(kind ports.Kind, ip string, p ports.ServicePort, field string) (ports.Claim, bool) {
	addr, err := parseSloppy(ip)
	ipv4, ipv6 := ServiceFamilies(e.svc)
	if err != nil || addr.IsUnspecified() || (addr.Is4() && !ipv4) || (addr.Is6() && !ipv6) {
		return ports.Claim{}, false
	}
	return ports.Claim{
		Socket: ports.Socket{Address: ports.OneAddress(addr), Protocol: p.Protocol, Port: p.Port},
		Kind:   kind, Scope: ports.AddressScope(), Owner: &e.to.Owner, Field: field,
	}, true
}

// ServiceFamilies reports which families a Service serves. Before the API server has filled ipFamilies in, its cluster
// IPs tell, and before those nothing does: then it is both.
func ServiceFamilies(svc *corev1.Service) (ipv4, ipv6 bool) {
	for _, f := range svc.Spec.IPFamilies {
		ipv4 = ipv4 || f == corev1.IPv4Protocol
		ipv6 = ipv6 || f == corev1.IPv6Protocol
	}
	if ipv4 || ipv6 {
		return ipv4, ipv6
	}
	for _, ip := range append([]string{svc.Spec.ClusterIP}, svc.Spec.ClusterIPs...) {
		if addr, err := netip.ParseAddr(ip); err == nil {
			ipv4 = ipv4 || addr.Is4()
			ipv6 = ipv6 || addr.Is6()
		}
	}
	if !ipv4 && !ipv6 {
		return true, true
	}
	return ipv4, ipv6
}

// parseSloppy reads an address as Go did before 1.17, when leading zeros were no sign of octal numbers: the API server
// still lets them pass.
func parseSloppy(text string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(text)
	if err == nil {
		return addr.Unmap(), nil
	}
	parts := strings.Split(text, ".")
	for i, part := range parts {
		if trimmed := strings.TrimLeft(part, "0"); trimmed != "" {
			parts[i] = trimmed
		} else if part != "" {
			parts[i] = "0"
		}
	}
	addr, err = netip.ParseAddr(strings.Join(parts, "."))
	return addr.Unmap(), err
}
