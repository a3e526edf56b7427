// Package portmap renders what the CNI plugin portmap v1.9.1 installs on a node for the host ports of its pods, with
// its iptables and its nftables back end (containernetworking/plugins, plugins/meta/portmap). IPTables and NFTables each
// turn a rules.World and a family into a rules.Fragment.
//
// A rendering is what stands after one ADD for each pod, in the order of World.Pods, and no DEL. Not rendered, as the
// World does not know them: conditionsV4 and conditionsV6.
package portmap

import (
	"net/netip"
	"strconv"

	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

// address returns the address to which a family's host ports of a pod lead: the first one (main.go, parseConfig).
func address(p *rules.Pod, f rules.Family) (netip.Prefix, bool) {
	for _, a := range p.Addresses {
		if f.Has(a.Addr()) {
			return a, true
		}
	}
	return netip.Prefix{}, false
}

// mapped returns the pods for which portmap does anything in a family. A pod without mappings is left alone, one with
// mappings that are all of the other family is not.
func mapped(w *rules.World, f rules.Family) []*rules.Pod {
	var out []*rules.Pod
	for _, p := range w.Pods {
		if _, ok := address(p, f); ok && len(p.Mappings) > 0 {
			out = append(out, p)
		}
	}
	return out
}

// applies reports whether a mapping is of a family, and the address that a packet must be for: the zero Addr is any.
// Unspecified host addresses mean every address of their own family only.
func applies(m rules.Mapping, f rules.Family) (hostIP netip.Addr, ok bool) {
	if !m.HostIP.IsValid() {
		return netip.Addr{}, true
	}
	if !f.Has(m.HostIP) {
		return netip.Addr{}, false
	}
	if m.HostIP.IsUnspecified() {
		return netip.Addr{}, true
	}
	return m.HostIP, true
}

func origin(p *rules.Pod) rules.Origin {
	return rules.Origin{Component: "portmap", Owner: p.Ref}
}

func originOf(p *rules.Pod, m rules.Mapping) rules.Origin {
	o := origin(p)
	o.Port = strconv.Itoa(int(m.HostPort)) + "/" + m.Protocol.String()
	return o
}

// from and to match one address.
func from(a netip.Addr) rules.Addr {
	return rules.Addr{Side: rules.Source, In: []netip.Prefix{whole(a)}}
}

func to(a netip.Addr) rules.Addr {
	return rules.Addr{Side: rules.Destination, In: []netip.Prefix{whole(a)}}
}

func whole(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func loopback() netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 1}) }

// dnat leads a mapping to the pod.
func dnat(pod netip.Addr, m rules.Mapping) rules.DNAT {
	return rules.DNAT{To: []netip.AddrPort{netip.AddrPortFrom(pod, m.ContainerPort)}}
}
