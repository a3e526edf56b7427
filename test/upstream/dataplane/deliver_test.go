//go:build linux

package dataplane

import (
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"unsafe"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	proxyutil "k8s.io/kubernetes/pkg/proxy/util"

	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

// How a case reaches a real proxier, of whatever mode.

// listener is what every proxier has.
type listener interface {
	OnServiceAdd(*corev1.Service)
	OnEndpointSliceAdd(*discoveryv1.EndpointSlice)
	OnTopologyChange(map[string]string)
	OnServiceCIDRsChanged([]string)
}

// deliver tells a proxier of a case, as the informers do before they say that they have synced.
func deliver(c *Case, p listener) {
	p.OnTopologyChange(c.topology())
	if c.ServiceCIDRs != nil {
		p.OnServiceCIDRsChanged(c.ServiceCIDRs.Spec.CIDRs)
	}
	for _, s := range c.Services {
		p.OnServiceAdd(s)
	}
	for _, s := range c.Slices {
		p.OnEndpointSliceAdd(s)
	}
}

// topology is what kube-proxy keeps of the Node's labels.
func (c *Case) topology() map[string]string {
	labels := map[string]string{}
	if zone, ok := c.Node.Labels[corev1.LabelTopologyZone]; ok {
		labels[corev1.LabelTopologyZone] = zone
	}
	return labels
}

// nodePortAddresses is what cmd/kube-proxy makes of the flag.
func (c *Case) nodePortAddresses() []string {
	var cidrs []string
	for _, p := range c.Proxy.NodePortAddresses {
		cidrs = append(cidrs, p.String())
	}
	for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
		if ip := c.nodeIP(f); c.Proxy.PrimaryNodePorts && !ip.IsLoopback() {
			cidrs = append(cidrs, fmt.Sprintf("%s/%d", ip, 8*len(ip)))
		}
	}
	return cidrs
}

// nodeIP is what cmd/kube-proxy takes for the node's address: loopback where it finds none.
func (c *Case) nodeIP(f rules.Family) net.IP {
	for _, a := range c.Node.Status.Addresses {
		if ip := netip.MustParseAddr(a.Address); a.Type == corev1.NodeInternalIP && f.Has(ip) {
			return ip.AsSlice()
		}
	}
	if f == rules.IPv4 {
		return net.IPv4(127, 0, 0, 1)
	}
	return net.IPv6loopback
}

// detector is what cmd/kube-proxy makes of the configuration (getLocalDetectors).
func (c *Case) detector(f rules.Family) proxyutil.LocalTrafficDetector {
	switch d := c.Proxy.Detector; {
	case d.Bridge != "":
		return proxyutil.NewDetectLocalByBridgeInterface(d.Bridge)
	case d.InterfacePrefix != "":
		return proxyutil.NewDetectLocalByInterfaceNamePrefix(d.InterfacePrefix)
	}
	for _, p := range c.Proxy.Detector.CIDRs {
		if f.Has(p.Addr()) {
			return proxyutil.NewDetectLocalByCIDR(p.String())
		}
	}
	return proxyutil.NewNoOpLocalDetector()
}

// InterfaceAddrs lists the addresses of the case's node, for the real proxiers.
func (c *Case) InterfaceAddrs() ([]net.Addr, error) {
	addrs := []net.Addr{&net.IPNet{IP: net.IPv4(127, 0, 0, 1), Mask: net.CIDRMask(8, 32)}, &net.IPNet{IP: net.IPv6loopback, Mask: net.CIDRMask(128, 128)}}
	for _, ip := range c.Interfaces {
		addrs = append(addrs, &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(ip.BitLen(), ip.BitLen())})
	}
	return addrs, nil
}

// put sets a field that a real proxier keeps to itself: how it reaches the kernel.
func put[T any](proxier any, field string, value T) {
	f := reflect.ValueOf(proxier).Elem().FieldByName(field)
	*(*T)(unsafe.Pointer(f.UnsafeAddr())) = value //nolint:gosec // there is no other way in
}
