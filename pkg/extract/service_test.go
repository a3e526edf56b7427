package extract_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// onAll is what kube-proxy does by default in its iptables mode.
func onAll() extract.NodePortAddresses { return extract.NodePortAddresses{IPv4Loopback: true} }

func TestServiceClaims(t *testing.T) {
	const web = "nodePort [* (not ::1)]:30080/TCP @every node spec.ports[0].nodePort"
	for _, c := range []struct {
		why, spec, status string
		want              []string
	}{
		{"a ClusterIP claims nothing", "{type: ClusterIP, ports: [{port: 80}]}", "", nil},
		{"no type is a ClusterIP", "{ports: [{port: 80, nodePort: 30080}]}", "", nil},
		{"NodePort", "{type: NodePort, ports: [{port: 80, nodePort: 30080}]}", "", []string{web}},
		{"a number that is not chosen yet", "{type: NodePort, ports: [{port: 80}]}", "", nil},
		{"protocols, and none is TCP", "{type: NodePort, ports: [{port: 53, nodePort: 30053, protocol: UDP}, {port: 80, nodePort: 30080}]}", "",
			[]string{"nodePort [* (not ::1)]:30053/UDP @every node spec.ports[0].nodePort", "nodePort [* (not ::1)]:30080/TCP @every node spec.ports[1].nodePort"}},
		{"LoadBalancer", "{type: LoadBalancer, ports: [{port: 80, nodePort: 30080}]}", "", []string{web}},
		{"numbers that were set although none are to be allocated", "{type: LoadBalancer, allocateLoadBalancerNodePorts: false, ports: [{port: 80, nodePort: 30080}, {port: 81}]}", "", []string{web}},
		{"a leftover number of another type", "{type: ClusterIP, ports: [{port: 80, nodePort: 30080}]}", "", nil},
		{"by ipFamilies", "{type: NodePort, ipFamilies: [IPv6], ports: [{port: 80, nodePort: 30080}]}", "", []string{"nodePort [:: (not ::1)]:30080/TCP @every node spec.ports[0].nodePort"}},
		{"by cluster IPs", "{type: NodePort, clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1], ports: [{port: 80, nodePort: 30080}]}", "",
			[]string{"nodePort [0.0.0.0 (not ::1)]:30080/TCP @every node spec.ports[0].nodePort"}},
		{"dual-stack", "{type: NodePort, ipFamilies: [IPv4, IPv6], ports: [{port: 80, nodePort: 30080}]}", "", []string{web}},

		{"an external IP", "{externalIPs: [192.0.2.1], ports: [{port: 80}]}", "", []string{"external IP port 192.0.2.1:80/TCP @the node of the address spec.ports[0].port"}},
		{"in any spelling, and what is not an address is nothing", "{externalIPs: ['::ffff:192.0.2.1', nonsense, 0.0.0.0], ports: [{port: 80}]}", "",
			[]string{"external IP port 192.0.2.1:80/TCP @the node of the address spec.ports[0].port"}},
		{"each port on each external IP", "{externalIPs: [192.0.2.1, '2001:db8::1'], ports: [{port: 80}, {port: 53, protocol: UDP}]}", "", []string{
			"external IP port 192.0.2.1:80/TCP @the node of the address spec.ports[0].port", "external IP port [2001:db8::1]:80/TCP @the node of the address spec.ports[0].port",
			"external IP port 192.0.2.1:53/UDP @the node of the address spec.ports[1].port", "external IP port [2001:db8::1]:53/UDP @the node of the address spec.ports[1].port",
		}},
		{"an external IP of a family that the Service does not serve", "{ipFamilies: [IPv4], externalIPs: ['2001:db8::1'], ports: [{port: 80}]}", "", nil},
		{"headless, which kube-proxy passes over", "{clusterIP: None, externalIPs: [192.0.2.1], ports: [{port: 80}]}", "", nil},
		{"ExternalName, likewise", "{type: ExternalName, externalName: a.example, externalIPs: [192.0.2.1], ports: [{port: 80, nodePort: 30080}]}", "", nil},

		{"a load balancer's VIP", "{type: LoadBalancer, ports: [{port: 80}]}", "[{ip: 192.0.2.1, ipMode: VIP}]", []string{"load-balancer IP port 192.0.2.1:80/TCP @the node of the address spec.ports[0].port"}},
		{"without a mode", "{type: LoadBalancer, ports: [{port: 80}]}", "[{ip: 192.0.2.1}]", []string{"load-balancer IP port 192.0.2.1:80/TCP @the node of the address spec.ports[0].port"}},
		{"one that proxies sends to node ports", "{type: LoadBalancer, ports: [{port: 80}]}", "[{ip: 192.0.2.1, ipMode: Proxy}]", nil},
		{"one with a host name", "{type: LoadBalancer, ports: [{port: 80}]}", "[{hostname: lb.example}]", nil},
		{"a status left over from another type", "{type: NodePort, ports: [{port: 80}]}", "[{ip: 192.0.2.1}]", nil},

		{"a health check", "{type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 30081, ports: [{port: 80, nodePort: 30080}]}", "",
			[]string{web, "healthCheckNodePort *:30081/TCP @every node spec.healthCheckNodePort"}},
		{"a number for health checks where none are", "{type: LoadBalancer, externalTrafficPolicy: Cluster, healthCheckNodePort: 30081, ports: [{port: 80, nodePort: 30080}]}", "", []string{web}},
		{"and of another type", "{type: NodePort, externalTrafficPolicy: Local, healthCheckNodePort: 30081, ports: [{port: 80, nodePort: 30080}]}", "", []string{web}},

		{"entries that are refused keep their place", "{type: NodePort, ports: [{port: 0, nodePort: 30081}, {port: 81, nodePort: 70000}, {port: 82, protocol: tcp, nodePort: 30082}, {port: 80, nodePort: 30080}]}", "",
			[]string{"nodePort [* (not ::1)]:30080/TCP @every node spec.ports[3].nodePort"}},
	} {
		svc := &corev1.Service{Spec: *mustRead[corev1.ServiceSpec](c.spec)}
		if c.status != "" {
			svc.Status.LoadBalancer.Ingress = *mustRead[[]corev1.LoadBalancerIngress](c.status)
		}
		s := extract.Service(svc, onAll())
		if diff := cmp.Diff(c.want, told(s.Claims)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.why, diff)
		}
		if len(s.Ports) != len(svc.Spec.Ports) {
			t.Errorf("%s: %d ports of %d", c.why, len(s.Ports), len(svc.Spec.Ports))
		}
		everyOwner(t, c.why, &s.Owner, s.Claims)
	}
}

// TestAskedAddresses: what a Service asks a load balancer for is claimed until the load balancer has answered.
func TestAskedAddresses(t *testing.T) {
	const at = " @the node of the address spec.ports[0].port"
	for _, c := range []struct {
		why, service string
		want         []string
	}{
		{"by field", "{spec: {type: LoadBalancer, loadBalancerIP: 192.0.2.1, ports: [{port: 80}]}}", []string{"load-balancer IP port 192.0.2.1:80/TCP" + at}},
		{"MetalLB", "{metadata: {annotations: {metallb.io/loadBalancerIPs: '192.0.2.1, 2001:db8::1'}}, spec: {type: LoadBalancer, ports: [{port: 80}]}}",
			[]string{"load-balancer IP port 192.0.2.1:80/TCP" + at, "load-balancer IP port [2001:db8::1]:80/TCP" + at}},
		{"an older MetalLB, and the field again", "{metadata: {annotations: {metallb.universe.tf/loadBalancerIPs: 192.0.2.1}}, spec: {type: LoadBalancer, loadBalancerIP: 192.0.2.1, ports: [{port: 80}]}}",
			[]string{"load-balancer IP port 192.0.2.1:80/TCP" + at}},
		{"kube-vip", "{metadata: {annotations: {kube-vip.io/loadbalancerIPs: 192.0.2.1}}, spec: {type: LoadBalancer, ports: [{port: 53, protocol: UDP}]}}", []string{"load-balancer IP port 192.0.2.1:53/UDP" + at}},
		{"kube-vip asks DHCP", "{metadata: {annotations: {kube-vip.io/loadbalancerIPs: 0.0.0.0}}, spec: {type: LoadBalancer, ports: [{port: 80}]}}", nil},
		{"another type", "{metadata: {annotations: {metallb.io/loadBalancerIPs: 192.0.2.1}}, spec: {type: NodePort, loadBalancerIP: 192.0.2.2, ports: [{port: 80}]}}", nil},
		{"it has got another", "{spec: {type: LoadBalancer, loadBalancerIP: 192.0.2.1, ports: [{port: 80}]}, status: {loadBalancer: {ingress: [{ip: 192.0.2.2}]}}}", []string{"load-balancer IP port 192.0.2.2:80/TCP" + at}},
		{"one in two spellings", "{metadata: {annotations: {metallb.io/loadBalancerIPs: '10.0.0.5,::ffff:10.0.0.5'}}, spec: {type: LoadBalancer, ports: [{port: 80}]}}", []string{"load-balancer IP port 10.0.0.5:80/TCP" + at}},
		{"of another class", "{spec: {type: LoadBalancer, loadBalancerClass: other, loadBalancerIP: 192.0.2.1, ports: [{port: 80}]}}", nil},
		{"no addresses", "{metadata: {annotations: {metallb.io/loadBalancerIPs: 'pool, ,x'}}, spec: {type: LoadBalancer, ports: [{port: 80}]}}", nil},
	} {
		if diff := cmp.Diff(c.want, told(slices.Concat(extract.Service(mustRead[corev1.Service](c.service), onAll()).Asked, extract.Service(mustRead[corev1.Service](c.service), onAll()).Claims))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.why, diff)
		}
	}
}

func TestServiceLB(t *testing.T) {
	daemons := func(namespace, label string) runtime.Object {
		return mustRead[appsv1.DaemonSet]("{metadata: {namespace: " + namespace + "}, spec: {template: {metadata: {labels: {" + label + "}}}}}")
	}
	const mine = "svccontroller.k3s.cattle.io/svcname: web"
	web := mustRead[corev1.Service]("{spec: {type: LoadBalancer, ports: [{port: 80}, {port: 53, protocol: UDP}]}}")
	ofClass := mustRead[corev1.Service]("{spec: {type: LoadBalancer, loadBalancerClass: metallb, ports: [{port: 80}]}}")
	cluster := mustRead[corev1.Service]("{spec: {ports: [{port: 80}]}}")
	labelled := mustRead[corev1.Node]("{metadata: {name: n2, labels: {svccontroller.k3s.cattle.io/enablelb: 'true'}}}")
	everywhere := []string{"ServiceLB port *:80/TCP @every node spec.ports[0].port", "ServiceLB port *:53/UDP @every node spec.ports[1].port"}
	for _, c := range []struct {
		why     string
		objects []runtime.Object
		service *corev1.Service
		want    []string
	}{
		{"one of its DaemonSets shows it", []runtime.Object{daemons("kube-system", mine)}, web, everywhere},
		{"on some nodes", []runtime.Object{labelled, daemons("kube-system", mine)}, web, []string{"ServiceLB port *:80/TCP @n2 spec.ports[0].port", "ServiceLB port *:53/UDP @n2 spec.ports[1].port"}},
		{"a Service of a pool", []runtime.Object{daemons("kube-system", mine)}, mustRead[corev1.Service]("{metadata: {labels: {svccontroller.k3s.cattle.io/lbpool: a}}, spec: {type: LoadBalancer, ports: [{port: 80}]}}"), nil},
		{"a Service of another load balancer", []runtime.Object{daemons("kube-system", mine)}, ofClass, nil},
		{"of another type", []runtime.Object{daemons("kube-system", mine)}, cluster, nil},
		{"a label that anybody may write", []runtime.Object{daemons("ns", mine)}, web, nil},
		{"another DaemonSet", []runtime.Object{daemons("kube-system", "app: web"), labelled}, web, nil},
	} {
		on := extract.NodePortAddresses{}.WithServiceLB(c.objects, []string{"kube-system"})
		if diff := cmp.Diff(c.want, told(extract.Service(c.service, on).Asked)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.why, diff)
		}
	}
}

func TestServicePorts(t *testing.T) {
	s := extract.Service(mustRead[corev1.Service](`{metadata: {name: web}, spec: {type: NodePort, ports: [
		{port: 80}, {name: dns, port: 53, protocol: UDP, targetPort: 5353, nodePort: 30053}, {name: web, port: 443, targetPort: https}, {port: -1}]}}`), onAll())
	want := []ports.ServicePort{
		{Protocol: ports.TCP, Port: 80, TargetPort: ports.TargetPort{Number: 80}},
		{Name: "dns", Protocol: ports.UDP, Port: 53, TargetPort: ports.TargetPort{Number: 5353}, NodePort: 30053},
		{Name: "web", Protocol: ports.TCP, Port: 443, TargetPort: ports.TargetPort{Name: "https"}},
		{},
	}
	if diff := cmp.Diff(want, s.Ports); diff != "" || s.Type != "NodePort" {
		t.Errorf("type %s, ports (-want +got):\n%s", s.Type, diff)
	}
}

func TestNodePortAddresses(t *testing.T) {
	prefixes := func(texts ...string) []netip.Prefix {
		var all []netip.Prefix
		for _, s := range texts {
			all = append(all, netip.MustParsePrefix(s))
		}
		return all
	}
	v4, v6 := prefixes("10.0.0.0/8"), prefixes("fd00::/8")
	for _, c := range []struct {
		why        string
		on         extract.NodePortAddresses
		ipv4, ipv6 bool
		want       string // of node ports, and of health checks
	}{
		{"all, iptables", extract.NodePortAddresses{IPv4Loopback: true}, true, true, "[* (not ::1)] [*]"},
		{"all, the other modes", extract.NodePortAddresses{}, true, true, "[* (not loopback)] [*]"},
		{"all, one family", extract.NodePortAddresses{}, false, true, "[:: (not loopback)] [::]"},
		{"no family, nothing", extract.NodePortAddresses{}, false, false, "[] []"},
		{"primary", extract.NodePortAddresses{Primary: true}, true, true, "[* (primary)] [* (primary)]"},
		{"primary, one family, prefixes ignored", extract.NodePortAddresses{Primary: true, Prefixes: v4}, true, false, "[0.0.0.0 (primary)] [0.0.0.0 (primary)]"},
		{"a prefix", extract.NodePortAddresses{Prefixes: v4}, true, false, "[10.0.0.0/8 (not loopback)] [10.0.0.0/8]"},
		{"a prefix of each", extract.NodePortAddresses{Prefixes: append(v6, v4...)}, true, true, "[10.0.0.0/8 (not loopback) fd00::/8 (not loopback)] [10.0.0.0/8 fd00::/8]"},
		{"of the other family only: all of this one", extract.NodePortAddresses{Prefixes: v4}, false, true, "[:: (not loopback)] [::]"},
		{"of one family, for both: all of the other", extract.NodePortAddresses{Prefixes: v4}, true, true, "[10.0.0.0/8 (not loopback) :: (not loopback)] [10.0.0.0/8 ::]"},
		{"a prefix that is all hides the others", extract.NodePortAddresses{Prefixes: prefixes("10.0.0.0/8", "0.0.0.0/0", "fd00::/8")}, true, true, "[fd00::/8 (not loopback) 0.0.0.0 (not loopback)] [fd00::/8 0.0.0.0]"},
		{"loopback by prefix, iptables", extract.NodePortAddresses{IPv4Loopback: true, Prefixes: prefixes("127.0.0.0/8")}, true, false, "[127.0.0.0/8 (not ::1)] [127.0.0.0/8]"},
	} {
		if got := fmt.Sprint(c.on.On(c.ipv4, c.ipv6), " ", c.on.HealthChecksOn(c.ipv4, c.ipv6)); got != c.want {
			t.Errorf("%s: %s, want %s", c.why, got, c.want)
		}
	}
}

// TestExternalIPsStay: what is written to status takes none of the claims on external IPs away.
func TestExternalIPsStay(t *testing.T) {
	svc := &corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer}}
	for i := range 100 {
		svc.Spec.ExternalIPs = append(svc.Spec.ExternalIPs, fmt.Sprintf("10.0.%d.1", i))
		svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Port: int32(i + 1)})
	}
	claims := func() (external, balancers int) {
		for _, c := range extract.Service(svc, extract.NodePortAddresses{}).Claims {
			if c.Kind == ports.ExternalIP {
				external++
			} else {
				balancers++
			}
		}
		return external, balancers
	}
	for ingresses, want := range map[int]int{0: 0, 1: 100, 100: 10000, 101: 0} {
		svc.Status.LoadBalancer.Ingress = make([]corev1.LoadBalancerIngress, ingresses)
		for i := range svc.Status.LoadBalancer.Ingress {
			svc.Status.LoadBalancer.Ingress[i].IP = fmt.Sprintf("10.1.%d.1", i)
		}
		if external, balancers := claims(); external != 10000 || balancers != want {
			t.Errorf("%d ingress addresses: %d claims on external IPs and %d on them", ingresses, external, balancers)
		}
	}
}
