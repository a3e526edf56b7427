package extract

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

// SandboxAnnotation gives the id of a pod's sandbox, which the API does not show and by which portmap names chains.
const SandboxAnnotation = "portcullis.dev/sandbox-id"

// serviceProxyLabel takes a Service away from kube-proxy, whatever its value.
const serviceProxyLabel = "service.kubernetes.io/service-proxy-name"

// WorldOptions is what objects do not say about a node.
type WorldOptions struct {
	Node            string
	Addresses       []netip.Addr // local to the node beside those that the Node object lists
	PodPrefixLength int          // of the pods' addresses in the CNI result; 0: that of the node's podCIDR, else the whole address
	Proxy           rules.Proxy
	Portmap         rules.Portmap
}

// World returns what the components of a node see of objects. The Node must be among them, and must not run Windows.
func World(objects []runtime.Object, o WorldOptions) (*rules.World, error) {
	w := &rules.World{Proxy: o.Proxy, Portmap: o.Portmap}
	e := newEndpointIndex(objects)
	var pods []*corev1.Pod
	found := false
	for _, object := range objects {
		switch x := object.(type) {
		case *corev1.Node:
			if x.Name == o.Node && IsWindows(x) {
				return nil, fmt.Errorf("node %s runs Windows: kube-proxy works in its winkernel mode there, and portmap not at all, so that it has none of these rules", x.Name)
			}
			if x.Name == o.Node {
				w.Node, found = node(x, o.Addresses), true
			}
		case *corev1.Service:
			if s := e.service(x); s != nil {
				w.Services = append(w.Services, s)
			}
		case *corev1.Pod:
			if x.Spec.NodeName == o.Node {
				pods = append(pods, x)
			}
		case *networkingv1.ServiceCIDR:
			w.ServiceCIDRs = append(w.ServiceCIDRs, ServiceRanges([]*networkingv1.ServiceCIDR{x})...)
		}
	}
	if !found {
		return nil, fmt.Errorf("there is no Node %s among the objects", o.Node)
	}
	slices.SortStableFunc(w.Services, func(a, b *rules.Service) int { return a.Ref.Compare(b.Ref) })
	slices.SortStableFunc(pods, ByStart)
	for _, pod := range pods {
		if p := mappedPod(pod, w.Node, o.PodPrefixLength); p != nil {
			w.Pods = append(w.Pods, p)
		}
	}
	return w, nil
}

func node(n *corev1.Node, more []netip.Addr) rules.Node {
	w := rules.Node{Name: n.Name, Zone: n.Labels[corev1.LabelTopologyZone], IPs: NodeAddresses(n), PodCIDRs: PodNetworks(n)}
	w.Addresses = slices.Clone(w.IPs)
	for _, a := range more {
		if a = a.Unmap(); !slices.Contains(w.Addresses, a) {
			w.Addresses = append(w.Addresses, a)
		}
	}
	return w
}

// ByStart compares pods for a sort, as portmap saw them, as far as objects tell.
func ByStart(a, b *corev1.Pod) int {
	if s, t := a.Status.StartTime, b.Status.StartTime; s != nil && t != nil && !s.Equal(t) {
		return s.Compare(t.Time)
	}
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
}

// mappedPod returns a pod as portmap sees it; nil if it maps nothing. The kubelet passes on the ports of the main
// containers only (k8s.io/kubernetes pkg/kubelet/kuberuntime/kuberuntime_sandbox.go).
func mappedPod(pod *corev1.Pod, on rules.Node, prefixLength int) *rules.Pod {
	if pod.Spec.HostNetwork || IsFinished(pod) {
		return nil
	}
	p := &rules.Pod{Ref: Ref(coreKind("Pod"), pod), SandboxID: pod.Annotations[SandboxAnnotation]}
	if p.SandboxID == "" {
		p.SandboxID, p.Derived = derivedID(pod), true
	}
	for i := range pod.Spec.Containers {
		for j := range pod.Spec.Containers[i].Ports {
			if m, ok := mapping(&pod.Spec.Containers[i].Ports[j]); ok {
				p.Mappings = append(p.Mappings, m)
			}
		}
	}
	if len(p.Mappings) == 0 {
		return nil
	}
	ips := []string{pod.Status.PodIP}
	for _, ip := range pod.Status.PodIPs {
		ips = append(ips, ip.IP)
	}
	for _, text := range ips {
		if addr, err := netip.ParseAddr(text); err == nil {
			prefix := podPrefix(addr.Unmap(), on, prefixLength)
			if !slices.Contains(p.Addresses, prefix) {
				p.Addresses = append(p.Addresses, prefix)
			}
		}
	}
	return p
}

// derivedID stands for a sandbox's id: as long as one, and the same for the same pod.
func derivedID(pod *corev1.Pod) string {
	sum := sha256.Sum256([]byte(string(pod.UID) + "/" + namespaceOf(pod) + "/" + pod.Name))
	return hex.EncodeToString(sum[:])
}

func podPrefix(addr netip.Addr, on rules.Node, length int) netip.Prefix {
	if length > 0 && length <= addr.BitLen() {
		return netip.PrefixFrom(addr, length)
	}
	for _, cidr := range on.PodCIDRs {
		if cidr.Contains(addr) {
			return netip.PrefixFrom(addr, cidr.Bits())
		}
	}
	return netip.PrefixFrom(addr, addr.BitLen())
}

// mapping returns what a container port maps. One with a hostIP that is not an address is never mapped.
func mapping(p *corev1.ContainerPort) (rules.Mapping, bool) {
	protocol, err := ports.ParseProtocol(string(orTCP(p.Protocol)))
	if err != nil || p.HostPort < 1 || p.HostPort > 65535 || p.ContainerPort < 1 || p.ContainerPort > 65535 {
		return rules.Mapping{}, false
	}
	m := rules.Mapping{Protocol: protocol, HostPort: uint16(p.HostPort), ContainerPort: uint16(p.ContainerPort)}
	if p.HostIP == "" {
		return m, true
	}
	addr, err := netip.ParseAddr(p.HostIP)
	m.HostIP = addr.Unmap()
	return m, err == nil
}

// endpointIndex finds the endpoints of Services.
type endpointIndex struct {
	slices    map[ports.Ref][]*discoveryv1.EndpointSlice
	endpoints map[ports.Ref]*corev1.Endpoints //nolint:staticcheck // people still write them, and the control plane mirrors them
}

func newEndpointIndex(objects []runtime.Object) endpointIndex {
	e := endpointIndex{map[ports.Ref][]*discoveryv1.EndpointSlice{}, map[ports.Ref]*corev1.Endpoints{}} //nolint:staticcheck // as above
	for _, object := range objects {
		switch x := object.(type) {
		case *discoveryv1.EndpointSlice:
			if _, headless := x.Labels[corev1.IsHeadlessService]; !headless {
				ref := serviceRef(namespaceOf(x), x.Labels[discoveryv1.LabelServiceName])
				e.slices[ref] = append(e.slices[ref], x)
			}
		case *corev1.Endpoints: //nolint:staticcheck // as above
			if x.Labels[discoveryv1.LabelSkipMirror] != "true" {
				e.endpoints[serviceRef(namespaceOf(x), x.Name)] = x
			}
		}
	}
	return e
}

func serviceRef(namespace, name string) ports.Ref {
	return ports.Ref{APIVersion: "v1", Kind: "Service", Namespace: namespace, Name: name}
}

// service returns a Service as kube-proxy sees it; nil for one that it passes over.
func (e endpointIndex) service(svc *corev1.Service) *rules.Service {
	if _, others := svc.Labels[serviceProxyLabel]; others || svc.Spec.Type == corev1.ServiceTypeExternalName ||
		svc.Spec.ClusterIP == "" || svc.Spec.ClusterIP == corev1.ClusterIPNone {
		return nil
	}
	spec := &svc.Spec
	s := &rules.Service{
		Ref:                 serviceRef(namespaceOf(svc), svc.Name),
		Type:                string(spec.Type),
		ClusterIPs:          clusterIPs(spec),
		ExternalIPs:         addresses(spec.ExternalIPs),
		ExternalLocal:       spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
		InternalLocal:       spec.InternalTrafficPolicy != nil && *spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal,
		AffinitySeconds:     affinity(spec),
		HealthCheckNodePort: uint16(max(0, min(spec.HealthCheckNodePort, 65535))),
	}
	for _, text := range spec.LoadBalancerSourceRanges {
		if p, err := netip.ParsePrefix(strings.TrimSpace(text)); err == nil {
			s.SourceRanges = append(s.SourceRanges, p.Masked())
		}
	}
	var balancers []string
	for _, ingress := range svc.Status.LoadBalancer.Ingress {
		if ingress.IPMode == nil || *ingress.IPMode == corev1.LoadBalancerIPModeVIP {
			balancers = append(balancers, ingress.IP)
		}
	}
	s.LoadBalancerIPs = addresses(balancers)
	for i := range spec.Ports {
		if p, ok := servicePort(&spec.Ports[i]); ok {
			s.Ports = append(s.Ports, rules.ServicePort{ServicePort: p, Endpoints: e.of(s.Ref, p)})
		}
	}
	return s
}

// clusterIPs returns at most one address of each family.
func clusterIPs(spec *corev1.ServiceSpec) []netip.Addr {
	var found []netip.Addr
	add := func(text string) {
		addr, err := parseSloppy(text)
		if err == nil && !slices.ContainsFunc(found, func(f netip.Addr) bool { return f.Is4() == addr.Is4() }) {
			found = append(found, addr)
		}
	}
	if spec.ClusterIP == "" || spec.ClusterIP == corev1.ClusterIPNone {
		return nil
	}
	add(spec.ClusterIP)
	for _, ip := range spec.ClusterIPs {
		add(ip)
	}
	return found
}

// affinity returns for how many seconds clients keep their endpoint; the API defaults to three hours.
func affinity(spec *corev1.ServiceSpec) int {
	if spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return 0
	}
	if c := spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
		return int(*c.ClientIP.TimeoutSeconds)
	}
	return int(corev1.DefaultClientIPServiceAffinitySeconds)
}

// addresses reads what are addresses, leading zeros tolerated as kube-proxy does.
func addresses(list []string) []netip.Addr {
	var found []netip.Addr
	for _, text := range list {
		if addr, err := parseSloppy(text); err == nil {
			found = append(found, addr)
		}
	}
	return found
}

// of returns the endpoints of a Service port: of the EndpointSlices, or, where there are none, of the Endpoints object, of
// which the control plane makes slices (k8s.io/kubernetes pkg/controller/endpointslicemirroring).
func (e endpointIndex) of(service ports.Ref, p ports.ServicePort) []rules.Endpoint {
	var found []rules.Endpoint
	for _, slice := range e.slices[service] {
		for _, port := range slice.Ports {
			if port.Name == nil || *port.Name != p.Name || port.Port == nil || *port.Port < 1 || *port.Port > 65535 || !isProtocol(port.Protocol, p.Protocol) {
				continue
			}
			for i := range slice.Endpoints {
				if endpoint, ok := endpointOf(&slice.Endpoints[i], slice.AddressType, uint16(*port.Port)); ok {
					found = append(found, endpoint)
				}
			}
		}
	}
	if mirrored := e.endpoints[service]; mirrored != nil && len(e.slices[service]) == 0 {
		return mirror(mirrored, p)
	}
	return found
}

func isProtocol(written *corev1.Protocol, p ports.Protocol) bool {
	is := corev1.ProtocolTCP
	if written != nil {
		is = orTCP(*written)
	}
	return string(is) == p.String()
}

func endpointOf(e *discoveryv1.Endpoint, kind discoveryv1.AddressType, port uint16) (rules.Endpoint, bool) {
	if len(e.Addresses) == 0 {
		return rules.Endpoint{}, false
	}
	addr, err := parseSloppy(e.Addresses[0])
	if err != nil || addr.Is4() != (kind == discoveryv1.AddressTypeIPv4) {
		return rules.Endpoint{}, false
	}
	found := rules.Endpoint{
		Addr: netip.AddrPortFrom(addr, port), Owner: target(e.TargetRef),
		Ready: isNotFalse(e.Conditions.Ready), Serving: isNotFalse(e.Conditions.Serving), Terminating: isTrue(e.Conditions.Terminating),
	}
	if e.NodeName != nil {
		found.Node = *e.NodeName
	}
	if e.Hints != nil {
		for _, z := range e.Hints.ForZones {
			found.ForZones = append(found.ForZones, z.Name)
		}
		for _, n := range e.Hints.ForNodes {
			found.ForNodes = append(found.ForNodes, n.Name)
		}
	}
	return found, true
}

func isNotFalse(b *bool) bool { return b == nil || *b }

func target(ref *corev1.ObjectReference) ports.Ref {
	if ref == nil {
		return ports.Ref{}
	}
	return ports.Ref{APIVersion: cmp.Or(ref.APIVersion, "v1"), Kind: ref.Kind, Namespace: ref.Namespace, Name: ref.Name}
}

func mirror(e *corev1.Endpoints, p ports.ServicePort) []rules.Endpoint { //nolint:staticcheck // as above
	var found []rules.Endpoint
	for i := range e.Subsets {
		subset := &e.Subsets[i]
		for _, port := range subset.Ports {
			if port.Name != p.Name || port.Port < 1 || port.Port > 65535 || string(orTCP(port.Protocol)) != p.Protocol.String() {
				continue
			}
			for ready, list := range map[bool][]corev1.EndpointAddress{true: subset.Addresses, false: subset.NotReadyAddresses} {
				for _, a := range list {
					addr, err := parseSloppy(a.IP)
					if err != nil {
						continue
					}
					endpoint := rules.Endpoint{Addr: netip.AddrPortFrom(addr, uint16(port.Port)), Owner: target(a.TargetRef), Ready: ready, Serving: true}
					if a.NodeName != nil {
						endpoint.Node = *a.NodeName
					}
					found = append(found, endpoint)
				}
			}
		}
	}
	slices.SortStableFunc(found, func(a, b rules.Endpoint) int { return a.Addr.Compare(b.Addr) })
	return found
}
