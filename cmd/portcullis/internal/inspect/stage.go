package inspect

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/report"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

// stage is a node with the holders of one number, and what objects leave out about them simulated.
type stage struct {
	node      *corev1.Node
	objects   []runtime.Object
	assumed   []runtime.Object // endpoints of Services of which none is known
	simulated []string
}

func (h *holdings) stage(node *corev1.Node, held []report.HeldPort) *stage {
	s := &stage{node: node.DeepCopy()}
	isIPv6 := !slices.ContainsFunc(held, func(one report.HeldPort) bool { return one.Claim.Address.HasIPv4() })
	if len(extract.NodeAddresses(node)) == 0 {
		address := map[bool]string{false: "192.0.2.1", true: "2001:db8::1"}[isIPv6] // RFC 5737, RFC 3849
		s.node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}}
		s.simulated = append(s.simulated, "the nodes' address "+address)
	}
	if len(extract.PodNetworks(node)) == 0 {
		for _, addr := range extract.NodeAddresses(s.node) {
			if network := podNetwork(nil, rules.FamilyOf(addr)).String(); !slices.Contains(s.node.Spec.PodCIDRs, network) {
				s.node.Spec.PodCIDRs = append(s.node.Spec.PodCIDRs, network)
				s.simulated = append(s.simulated, "the nodes' podCIDR "+network)
			}
		}
	}
	s.objects = append(s.objects, s.node)
	seen := map[ports.Ref]bool{}
	for _, one := range held {
		if seen[ownerOf(one)] {
			continue
		}
		seen[ownerOf(one)] = true
		switch o := h.objects[ownerOf(one)].(type) {
		case *corev1.Service:
			endpoints, known := h.known.Endpoints(o)
			s.addService(o.DeepCopy(), endpoints, known)
		case *corev1.Pod:
			s.addPod(o.DeepCopy(), len(s.objects))
		}
	}
	h.addServicesAt(s, held, seen)
	return s
}

// addServicesAt adds the other Services that have an address which packets are sent to: kube-proxy takes its packets on every node, and
// in ipvs mode the address becomes the node's, whatever the port.
func (h *holdings) addServicesAt(s *stage, held []report.HeldPort, seen map[ports.Ref]bool) {
	at := map[netip.Addr]bool{}
	for _, d := range destinations(extract.NodeAddresses(s.node), held) {
		at[d.addr] = true
	}
	for _, c := range h.ledger.Snapshot().Claims() {
		addr, single := c.Address.Single()
		svc, ok := h.objects[c.Owner.Ref].(*corev1.Service)
		if !ok || !single || c.Scope.Kind != ports.AtAddress || !at[addr] || seen[c.Owner.Ref] {
			continue
		}
		seen[c.Owner.Ref] = true
		endpoints, known := h.known.Endpoints(svc)
		isOfNumber := slices.ContainsFunc(held, func(one report.HeldPort) bool { return one.Claim.Port == c.Port && one.Claim.Protocol == c.Protocol })
		s.addService(svc.DeepCopy(), endpoints, known || !isOfNumber)
	}
}

func (s *stage) addPod(pod *corev1.Pod, n int) {
	pod.Spec.NodeName = s.node.Name
	if pod.Status.PodIP == "" && !pod.Spec.HostNetwork {
		for _, network := range extract.PodNetworks(s.node) {
			pod.Status.PodIPs = append(pod.Status.PodIPs, corev1.PodIP{IP: addressIn(network, 10+n)})
		}
		pod.Status.PodIP = pod.Status.PodIPs[0].IP
		s.simulated = append(s.simulated, "an address of pods that have none yet")
	}
	s.objects = append(s.objects, pod)
}

// addService adds a Service with its endpoints, or with one of each family simulated if none is known of.
func (s *stage) addService(svc *corev1.Service, endpoints []runtime.Object, known bool) {
	ipv4, ipv6 := extract.ServiceFamilies(svc)
	if svc.Spec.ClusterIP == "" {
		svc.Spec.ClusterIPs = nil
		if ipv4 {
			svc.Spec.ClusterIPs = append(svc.Spec.ClusterIPs, clusterIPToBe)
		}
		if ipv6 {
			svc.Spec.ClusterIPs = append(svc.Spec.ClusterIPs, clusterIPv6ToBe)
		}
		svc.Spec.ClusterIP = svc.Spec.ClusterIPs[0]
		s.simulated = append(s.simulated, "a cluster IP of Services that have none yet")
	}
	s.objects = append(s.objects, svc)
	if known {
		s.objects = append(s.objects, endpoints...)
		return
	}
	s.simulated = append(s.simulated, fmt.Sprintf("an endpoint of %s", ports.Ref{Kind: "Service", Namespace: svc.Namespace, Name: svc.Name}))
	for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
		if f == rules.IPv4 && !ipv4 || f == rules.IPv6 && !ipv6 {
			continue
		}
		kind := map[rules.Family]discoveryv1.AddressType{rules.IPv4: discoveryv1.AddressTypeIPv4, rules.IPv6: discoveryv1.AddressTypeIPv6}[f]
		slice := &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: svc.Namespace, Name: svc.Name + "-" + string(kind), Labels: map[string]string{discoveryv1.LabelServiceName: svc.Name}},
			AddressType: kind,
			Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{addressIn(podNetwork(extract.PodNetworks(s.node), f), 20)}, NodeName: &s.node.Name}},
		}
		for i := range svc.Spec.Ports {
			p := &svc.Spec.Ports[i]
			target, protocol := cmp.Or(p.TargetPort.IntVal, p.Port), cmp.Or(p.Protocol, corev1.ProtocolTCP)
			slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: &p.Name, Port: &target, Protocol: &protocol})
		}
		s.assumed = append(s.assumed, slice)
	}
}

// What stands for the cluster IPs of a Service that has none yet.
const (
	clusterIPToBe   = "10.96.0.10"
	clusterIPv6ToBe = "fd00:10:96::a"
)

// podNetwork is the first of networks that is of a family, else one that stands for it.
func podNetwork(networks []netip.Prefix, f rules.Family) netip.Prefix {
	if i := slices.IndexFunc(networks, func(p netip.Prefix) bool { return f.Has(p.Addr()) }); i >= 0 {
		return networks[i]
	}
	if f == rules.IPv4 {
		return netip.MustParsePrefix("10.244.0.0/24")
	}
	return netip.MustParsePrefix("fd00:10:244::/64")
}

// addressIn is the n-th address of a network.
func addressIn(network netip.Prefix, n int) string {
	addr := network.Addr()
	for range n {
		addr = addr.Next()
	}
	return addr.String()
}
