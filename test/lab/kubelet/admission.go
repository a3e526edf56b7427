package kubelet

import (
	"fmt"
	"net/netip"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/kube-scheduler/framework"
)

// What the real kubelet says about a pod that it refuses for its ports: the name of the scheduler's plugin as the
// reason, and the plugin's words behind its own (pkg/kubelet/lifecycle/predicate.go and Kubelet.rejectPod).
const (
	portsReason  = "NodePorts"
	portsEvent   = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
	portsMessage = "Pod was rejected: " + portsEvent
)

// placement is what a node has decided about a pod.
type placement struct {
	rejected  bool
	hostPorts []v1.ContainerPort // held until the pod has finished
	addresses []string           // held until the pod is gone
	dying     time.Time          // when its deletion was first seen
}

// admit decides about a pod once; later calls return the decision.
func (n *node) admit(pod *v1.Pod) (*placement, error) {
	if p, ok := n.pods[pod.UID]; ok {
		return p, nil
	}
	p := &placement{hostPorts: hostPorts(pod)}
	if !n.portsFree(p.hostPorts) {
		p = &placement{rejected: true}
	} else {
		var err error
		if p.addresses, err = n.place(pod); err != nil {
			return nil, err
		}
	}
	n.pods[pod.UID] = p
	return p, nil
}

// portsFree applies the scheduler's rule, as the kubelet does, with the scheduler's own type: a set that is made anew
// each time, because it does not count how often a port is in it.
func (n *node) portsFree(wanted []v1.ContainerPort) bool {
	used := framework.HostPortInfo{}
	for _, p := range n.pods {
		for _, port := range p.hostPorts {
			used.Add(port.HostIP, string(port.Protocol), port.HostPort)
		}
	}
	for _, port := range wanted {
		if used.CheckConflict(port.HostIP, string(port.Protocol), port.HostPort) {
			return false
		}
	}
	return true
}

// hostPorts returns the ports that the kubelet and the scheduler look at: those of the containers and of the init
// containers that go on running.
func hostPorts(pod *v1.Pod) []v1.ContainerPort {
	var ports []v1.ContainerPort
	add := func(c v1.Container) {
		for _, p := range c.Ports {
			if p.HostPort > 0 {
				ports = append(ports, p)
			}
		}
	}
	for _, c := range pod.Spec.InitContainers {
		if isSidecar(c) {
			add(c)
		}
	}
	for _, c := range pod.Spec.Containers {
		add(c)
	}
	return ports
}

func isSidecar(c v1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == v1.ContainerRestartPolicyAlways
}

// place returns the addresses of a pod: the node's own for the host network, those it already has, or new ones.
func (n *node) place(pod *v1.Pod) ([]string, error) {
	if pod.Spec.HostNetwork {
		return n.Addresses, nil
	}
	var addresses []string
	for _, ip := range pod.Status.PodIPs {
		addresses = append(addresses, ip.IP)
	}
	if len(addresses) > 0 {
		return addresses, nil
	}
	for i := range n.podCIDRs {
		address, err := n.nextAddress(i)
		if err != nil {
			return nil, err
		}
		addresses = append(addresses, address.String())
	}
	return addresses, nil
}

// nextAddress returns a free address after the one given last: an address is not used again at once. The network's
// first two addresses are its name and the gateway, the last one of IPv4 is for broadcasts.
func (n *node) nextAddress(i int) (netip.Addr, error) {
	cidr := n.podCIDRs[i]
	used := map[string]bool{}
	for _, p := range n.pods {
		for _, a := range p.addresses {
			used[a] = true
		}
	}
	first := cidr.Addr().Next().Next()
	usable := func(a netip.Addr) bool { return cidr.Contains(a) && (a.Is6() || cidr.Contains(a.Next())) }
	address := n.given[i]
	for range len(used) + 2 { // once past every used one, and once around
		if address = address.Next(); !usable(address) {
			address = first
		}
		if usable(address) && !used[address.String()] {
			n.given[i] = address
			return address, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("node %s has no free address in %s", n.Name, cidr)
}

// release takes back what a pod holds: its ports when it has finished, everything when it is gone.
func (n *node) release(uid types.UID, gone bool) {
	if p, ok := n.pods[uid]; ok {
		p.hostPorts = nil
		if gone {
			delete(n.pods, uid)
		}
	}
}
