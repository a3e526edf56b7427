package dataplane

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func (d *draw) service(name string) *corev1.Service {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: pick(d, "default", "default", "web"), Name: name}}
	d.Services = append(d.Services, svc)
	svc.Spec.Type = pick(d, corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeLoadBalancer)
	if d.one(20) {
		svc.Spec.Type = corev1.ServiceTypeExternalName
		svc.Spec.ExternalName = "example.org"
		d.ports(svc)
		return svc
	}
	d.clusterIPs(svc)
	d.ports(svc)
	d.policies(svc)
	if d.one(3) {
		svc.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
		svc.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: new(pick(d, int32(10800), 10, 86400))}}
	}
	if d.one(3) {
		d.externalIPs(svc)
	}
	if svc.Spec.Type == corev1.ServiceTypeLoadBalancer {
		d.balancer(svc)
	}
	d.endpoints(svc)
	return svc
}

// clusterIPs makes the Service one of the case's families, or of both, in either order.
func (d *draw) clusterIPs(svc *corev1.Service) {
	if svc.Spec.Type == corev1.ServiceTypeClusterIP && d.one(8) {
		svc.Spec.ClusterIP, svc.Spec.ClusterIPs, svc.Spec.IPFamilies = corev1.ClusterIPNone, []string{corev1.ClusterIPNone}, d.families
		return
	}
	families := d.families
	if len(families) == 2 {
		families = pick(d, families, families[:1], families[1:], []corev1.IPFamily{families[1], families[0]})
	}
	n := d.next()
	for _, f := range families {
		svc.Spec.IPFamilies = append(svc.Spec.IPFamilies, f)
		svc.Spec.ClusterIPs = append(svc.Spec.ClusterIPs, byFamily(f, fmt.Sprintf("10.96.%d.%d", n/250, 1+n%250), fmt.Sprintf("fd00:10:96::%x", n)))
	}
	svc.Spec.ClusterIP = svc.Spec.ClusterIPs[0]
	if len(families) == 1 && d.one(6) { // as an API server wrote it before there were families
		svc.Spec.IPFamilies, svc.Spec.ClusterIPs = nil, nil
	}
}

func (d *draw) ports(svc *corev1.Service) {
	nodePorts := svc.Spec.Type == corev1.ServiceTypeNodePort || svc.Spec.Type == corev1.ServiceTypeLoadBalancer
	if svc.Spec.Type == corev1.ServiceTypeLoadBalancer && d.one(3) {
		svc.Spec.AllocateLoadBalancerNodePorts = new(false)
		nodePorts = d.one(5) // a number may be given all the same
	}
	for i := range pick(d, 1, 1, 1, 2, 3) {
		p := corev1.ServicePort{
			Name: fmt.Sprintf("p%d", i), Protocol: pick(d, corev1.ProtocolTCP, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP),
			Port: int32(80 + i), TargetPort: pick(d, intstr.FromInt32(8080), intstr.FromString("http")),
		}
		if nodePorts {
			p.NodePort = d.nextNodePort()
		}
		if i == 1 && d.one(2) && p.Protocol != svc.Spec.Ports[0].Protocol { // as DNS has it
			p.Port, p.NodePort = svc.Spec.Ports[0].Port, svc.Spec.Ports[0].NodePort
		}
		svc.Spec.Ports = append(svc.Spec.Ports, p)
	}
	if len(svc.Spec.Ports) == 1 && d.one(2) {
		svc.Spec.Ports[0].Name = ""
	}
}

func (d *draw) policies(svc *corev1.Service) {
	svc.Spec.InternalTrafficPolicy = pick(d, nil, new(corev1.ServiceInternalTrafficPolicyCluster), new(corev1.ServiceInternalTrafficPolicyCluster), new(corev1.ServiceInternalTrafficPolicyLocal))
	if svc.Spec.Type != corev1.ServiceTypeClusterIP || d.one(8) { // left over from a change of type
		svc.Spec.ExternalTrafficPolicy = pick(d, corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal)
	}
	if svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal && svc.Spec.Type == corev1.ServiceTypeLoadBalancer || d.one(10) { // or left over
		svc.Spec.HealthCheckNodePort = d.nextNodePort()
	}
}

func (d *draw) externalIPs(svc *corev1.Service) {
	for range pick(d, 1, 1, 2) {
		n := d.next()
		svc.Spec.ExternalIPs = append(svc.Spec.ExternalIPs, pick(d, fmt.Sprintf("198.51.100.%d", n), fmt.Sprintf("2001:db8:100::%x", n)))
	}
	if svc.Name == "s0" { // one of the node's own
		svc.Spec.ExternalIPs = append(svc.Spec.ExternalIPs, pick(d, d.Interfaces...).String())
	}
}

// balancer is what a cloud provider wrote, and what the ranges of sources are.
func (d *draw) balancer(svc *corev1.Service) {
	for range pick(d, 0, 1, 2, 2, 3) {
		n := d.next()
		in := corev1.LoadBalancerIngress{IP: pick(d, fmt.Sprintf("198.51.101.%d", n), fmt.Sprintf("2001:db8:101::%x", n))}
		in.IPMode = pick(d, nil, new(corev1.LoadBalancerIPModeVIP), new(corev1.LoadBalancerIPModeVIP), new(corev1.LoadBalancerIPModeProxy))
		if d.one(10) {
			in = corev1.LoadBalancerIngress{Hostname: "lb.example.org"}
		}
		svc.Status.LoadBalancer.Ingress = append(svc.Status.LoadBalancer.Ingress, in)
	}
	if !d.one(2) {
		return
	}
	for range 1 + d.IntN(3) {
		svc.Spec.LoadBalancerSourceRanges = append(svc.Spec.LoadBalancerSourceRanges, pick(d,
			"203.0.113.0/25", "203.0.113.77/26", "2001:db8:113::/64", "2001:db8:113::77/64", " 203.0.113.0/25 ", "198.18.0.0/15", "fd00:1::/32",
			"192.0.2.0/24", "192.0.2.0/24", "2001:db8::/64", "2001:db8::/64", "127.0.0.0/8"))
	}
	if d.one(3) {
		svc.Spec.LoadBalancerSourceRanges = append(svc.Spec.LoadBalancerSourceRanges, pick(d, "0.0.0.0/0", "::/0"))
	}
}
