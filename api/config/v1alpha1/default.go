package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Default fills in what c leaves open. It is the one place that knows the defaults, and changes nothing when called
// again.
func (c *PortcullisConfiguration) Default() {
	orElse(&c.APIVersion, APIVersion)
	orElse(&c.Kind, Kind)
	orElse(&c.NodePortRange, "30000-32767")
	orElse(&c.EphemeralPortRange, "32768-60999")
	orElse(&c.DefaultHostIP, HostIPAuto)
	orElse(&c.OnUncertain, Deny)
	orElse(&c.Disclosure, DiscloseFull)
	if c.Enforcement == nil {
		c.Enforcement = map[string]Enforcement{}
	}
	if c.NodeReserved == nil {
		c.NodeReserved = builtInReserved()
	}
	for i := range c.NodeReserved {
		orElse(&c.NodeReserved[i].Protocol, "TCP")
	}
	if c.TrustedNamespaces == nil {
		c.TrustedNamespaces = []string{metav1.NamespaceSystem}
	}
	c.DataPlane.fill()
}

func (d *DataPlane) fill() {
	orElse(&d.ServiceProxy, ServiceProxyUnknown)
	orElse(&d.HostPort, HostPortUnknown)
	if d.ClusterCIDRs == nil {
		d.ClusterCIDRs = []string{"10.244.0.0/16"}
	}
	if len(d.NodePortAddresses) == 0 {
		// kube-proxy does not tell an absent list from an empty one either (cmd/kube-proxy/app/server_linux.go).
		d.NodePortAddresses = []string{}
		if d.ServiceProxy == ServiceProxyNFTables {
			d.NodePortAddresses = []string{PrimaryAddresses}
		}
	}
	if d.LocalhostNodePorts == nil {
		d.LocalhostNodePorts = new(true)
	}
}

// builtInReserved lists what the daemons of a usual node, and those of the control plane, listen on by default
// (https://kubernetes.io/docs/reference/networking/ports-and-protocols/); of RKE2 the supervisor, of MicroK8s the API server.
func builtInReserved() []ReservedSocket {
	const loopback, controlPlane, microK8s = "127.0.0.1", "node-role.kubernetes.io/control-plane", "node.kubernetes.io/microk8s-controlplane"
	return []ReservedSocket{
		{Name: "kubelet", Port: 10250},
		{Name: "kubelet", Port: 10248, HostIP: loopback},    // healthz
		{Name: "kube-proxy", Port: 10256},                   // healthz
		{Name: "kube-proxy", Port: 10249, HostIP: loopback}, // metrics
		{Name: "etcd", Port: 2379, NodeLabel: controlPlane},
		{Name: "etcd", Port: 2380, NodeLabel: controlPlane},
		{Name: "kube-apiserver", Port: 6443, NodeLabel: controlPlane},
		{Name: "kube-controller-manager", Port: 10257, NodeLabel: controlPlane},
		{Name: "kube-scheduler", Port: 10259, NodeLabel: controlPlane},
		{Name: "rke2", Port: 9345, NodeLabel: controlPlane},
		{Name: "kube-apiserver", Port: 16443, NodeLabel: microK8s},
		{Name: "sshd", Port: 22},
	}
}

func orElse[T ~string](value *T, otherwise T) {
	if *value == "" {
		*value = otherwise
	}
}
