package scheduling

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	configv1alpha1 "github.com/portcullis-k8s/portcullis/api/config/v1alpha1"
)

// The model: a port of a protocol is held on a set of addresses, taken from a small world of them. It shares no code with
// what it judges.

// world is every address that there is: those that the nodes have, some that none has, and at the end one of each family
// that nothing names, which wildcards alone have.
func world() []netip.Addr {
	var all []netip.Addr
	for _, a := range []string{
		"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.1.1", "10.0.1.2", "10.0.1.3", "192.0.2.9", "127.0.0.1", "127.0.0.2",
		"fd00::1", "fd00::2", "fd00::3", "2001:db8::9", "::1", unnamed4, unnamed6,
	} {
		all = append(all, netip.MustParseAddr(a))
	}
	return all
}

const (
	unnamed4 = "198.51.100.7"
	unnamed6 = "2001:db8:ffff::7"
)

// set is a set of addresses.
type set map[netip.Addr]bool

func setOf(has func(netip.Addr) bool) set {
	s := set{}
	for _, a := range world() {
		if has(a) {
			s[a] = true
		}
	}
	return s
}

func meet(a, b set) bool {
	for x := range a {
		if b[x] {
			return true
		}
	}
	return false
}

// addressesOf is what a hostIP holds.
func addressesOf(hostIP string, hostNetwork bool) set {
	ip := canonical(hostIP)
	return setOf(func(a netip.Addr) bool {
		switch {
		case hostIP == "", ip == netip.IPv6Unspecified() && hostNetwork:
			return true
		case ip.IsUnspecified():
			return a.Is4() == ip.Is4()
		default:
			return a == ip
		}
	})
}

// socket is a port on a set of addresses.
type socket struct {
	port     int32
	protocol corev1.Protocol
	on       set
}

func (s socket) meets(o socket) bool {
	return s.port == o.port && s.protocol == o.protocol && meet(s.on, o.on)
}

func protocolOf(p corev1.Protocol) corev1.Protocol {
	if p == "" {
		return corev1.ProtocolTCP
	}
	return p
}

// podSockets is what a pod holds as long as it runs.
func podSockets(pod *corev1.Pod) []socket {
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return nil
	}
	containers := slices.Clone(pod.Spec.Containers)
	for _, c := range pod.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			containers = append(containers, c)
		}
	}
	var all []socket
	for _, c := range containers {
		for _, p := range c.Ports {
			number := p.HostPort
			if number == 0 && pod.Spec.HostNetwork {
				number = p.ContainerPort
			}
			if number != 0 {
				all = append(all, socket{number, protocolOf(p.Protocol), addressesOf(p.HostIP, pod.Spec.HostNetwork)})
			}
		}
	}
	return all
}

// nodeAddresses are a node's InternalIPs.
func nodeAddresses(node *corev1.Node) []netip.Addr {
	var all []netip.Addr
	for _, a := range node.Status.Addresses {
		all = append(all, netip.MustParseAddr(a.Address))
	}
	return all
}

func primary(node *corev1.Node) set {
	s := set{}
	for _, four := range []bool{true, false} {
		for _, a := range nodeAddresses(node) {
			if a.Is4() == four {
				s[a] = true
				break
			}
		}
	}
	// One that is not known, or that nothing names: a wildcard has it in any case.
	s[netip.MustParseAddr(unnamed4)], s[netip.MustParseAddr(unnamed6)] = true, true
	return s
}

func isFamilyOf(svc *corev1.Service, a netip.Addr) bool {
	family := corev1.IPv6Protocol
	if a.Is4() {
		family = corev1.IPv4Protocol
	}
	return slices.Contains(svc.Spec.IPFamilies, family)
}

// nodePortOn is where a node's data plane serves a Service's node ports, or kube-proxy its health checks.
func nodePortOn(svc *corev1.Service, node *corev1.Node, d configv1alpha1.DataPlane, healthCheck bool) set {
	isPrimary := slices.Equal(d.NodePortAddresses, []string{configv1alpha1.PrimaryAddresses})
	return setOf(func(a netip.Addr) bool {
		if !isFamilyOf(svc, a) {
			return false
		}
		if isPrimary {
			return primary(node)[a]
		}
		if a.IsLoopback() && !healthCheck && (a.Is6() || d.ServiceProxy != configv1alpha1.ServiceProxyIPTables || !*d.LocalhostNodePorts) {
			return false
		}
		given, within := false, false
		for _, text := range d.NodePortAddresses {
			p := netip.MustParsePrefix(text)
			if p.Addr().Is4() == a.Is4() {
				given, within = true, within || p.Contains(a)
			}
		}
		return !given || within
	})
}

// serviceSockets is what a Service takes from a node.
func serviceSockets(svc *corev1.Service, node *corev1.Node, d configv1alpha1.DataPlane) []socket {
	var all []socket
	mine := nodeAddresses(node)
	hasNodePorts := svc.Spec.Type == corev1.ServiceTypeNodePort || svc.Spec.Type == corev1.ServiceTypeLoadBalancer
	for _, p := range svc.Spec.Ports {
		if hasNodePorts && p.NodePort != 0 {
			all = append(all, socket{p.NodePort, protocolOf(p.Protocol), nodePortOn(svc, node, d, false)})
		}
		external := slices.Clone(svc.Spec.ExternalIPs)
		for _, i := range svc.Status.LoadBalancer.Ingress {
			if svc.Spec.Type == corev1.ServiceTypeLoadBalancer && (i.IPMode == nil || *i.IPMode == corev1.LoadBalancerIPModeVIP) {
				external = append(external, i.IP)
			}
		}
		for _, ip := range external {
			if a := canonical(ip); slices.Contains(mine, a) && isFamilyOf(svc, a) {
				all = append(all, socket{p.Port, protocolOf(p.Protocol), set{a: true}})
			}
		}
	}
	isLocal := svc.Spec.Type == corev1.ServiceTypeLoadBalancer && svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
	if n := svc.Spec.HealthCheckNodePort; n != 0 && isLocal {
		all = append(all, socket{n, corev1.ProtocolTCP, nodePortOn(svc, node, d, true)})
	}
	return all
}

// judgement is what a node says to a pod.
type judgement struct {
	holders []string
	byOther bool // not by pods alone
}

// judge tells who holds on a node what a pod wants.
func judge(pod *corev1.Pod, node *corev1.Node, pods []*corev1.Pod, services []*corev1.Service, args *configv1alpha1.PortClaimsArgs) judgement {
	var j judgement
	add := func(holder string, other bool) {
		if !slices.Contains(j.holders, holder) {
			j.holders = append(j.holders, holder)
		}
		j.byOther = j.byOther || other
	}
	for _, wanted := range podSockets(pod) {
		for _, p := range pods {
			if slices.ContainsFunc(podSockets(p), wanted.meets) {
				add(rootOf(p, isTrusted(args)), false)
			}
		}
		for _, svc := range services {
			isOwn := isTrusted(args) && pod.Labels["svccontroller.k3s.cattle.io/svcname"] == svc.Name
			if !isOwn && slices.ContainsFunc(serviceSockets(svc, node, args.DataPlane), wanted.meets) {
				add("Service default/"+svc.Name, true)
			}
		}
		for _, r := range args.NodeReserved {
			isDaemon := isTrusted(args) && pod.Spec.HostNetwork && slices.ContainsFunc(slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers), func(c corev1.Container) bool { return c.Name == r.Name })
			if !isDaemon && wanted.meets(socket{r.Port, corev1.Protocol(r.Protocol), addressesOf(r.HostIP, false)}) {
				add(r.Name+" (", true)
			}
		}
		for entry := range strings.SplitSeq(node.Annotations["portcullis.dev/reserved-ports"], ",") {
			for _, known := range reservations() {
				if entry == known.text && wanted.meets(socket{known.port, known.protocol, addressesOf("", false)}) {
					add("the node itself", true)
				}
			}
		}
	}
	return j
}

// reservation is an entry of a node's annotation that is well formed.
type reservation struct {
	text     string
	port     int32
	protocol corev1.Protocol
}

func reservations() []reservation {
	return []reservation{{"80/TCP", 80, corev1.ProtocolTCP}, {"82/UDP", 82, corev1.ProtocolUDP}, {"83/SCTP", 83, corev1.ProtocolSCTP}}
}

// isTrusted: all pods are in one namespace.
func isTrusted(args *configv1alpha1.PortClaimsArgs) bool {
	return slices.Contains(args.TrustedNamespaces, "default")
}

func rootOf(pod *corev1.Pod, isTrusted bool) string {
	if len(pod.OwnerReferences) > 0 {
		name, _ := strings.CutSuffix(pod.OwnerReferences[0].Name, "-"+pod.Labels["pod-template-hash"])
		return "Deployment default/" + name
	}
	if svc := pod.Labels["svccontroller.k3s.cattle.io/svcname"]; svc != "" && isTrusted {
		return "Service default/" + svc
	}
	return "Pod default/" + pod.Name
}
