package explain

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/portcullis-k8s/portcullis/pkg/rules"
	"github.com/portcullis-k8s/portcullis/pkg/rules/walk"
)

// The interfaces of a node that objects do not tell, by their usual names.
const (
	outside = "eth0"
	bridge  = "cni0"
)

// Host returns what the kernel of a world's node knows beside the rules, as far as objects tell: pods behind a bridge with
// the first address of their network, everything else behind the node's own address.
func Host(w *rules.World) walk.Host {
	h := walk.Host{Addresses: slices.Clone(w.Node.Addresses), RouteLocalnet: []string{"all"}}
	for _, cidr := range w.Node.PodCIDRs {
		first := cidr.Masked().Addr().Next()
		h.Addresses = append(h.Addresses, first)
		h.Routes = append(h.Routes, walk.Route{To: cidr, Interface: bridge, Source: first})
	}
	for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
		if ip := w.Node.IP(f); !ip.IsLoopback() {
			h.Routes = append(h.Routes, walk.Route{To: netip.PrefixFrom(ip, 0).Masked(), Interface: outside, Source: ip})
		}
	}
	return h
}

// sourcePort is any port that a client may use.
const sourcePort = 50000

// PacketFrom returns a packet to a destination that comes from external, pod, node or loopback, or from an address.
func PacketFrom(w *rules.World, from string, to netip.AddrPort) (walk.Packet, error) {
	f := rules.FamilyOf(to.Addr())
	p := walk.Packet{Dst: to}
	source := func(addr netip.Addr) { p.Src = netip.AddrPortFrom(addr, sourcePort) }
	switch from {
	case "external":
		p.In = outside
		source(externalAddress(w, f))
	case "pod":
		addr, ok := freeAddress(w, f)
		if !ok {
			return p, fmt.Errorf("the node has no podCIDR of %s: write an address", f)
		}
		p.In = bridge
		source(addr)
	case "node":
		source(w.Node.IP(f))
	case "loopback":
		loopback := netip.IPv6Loopback()
		if f == rules.IPv4 {
			loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		}
		source(loopback)
	default:
		addr, err := netip.ParseAddr(from)
		if err != nil {
			return p, fmt.Errorf("%q is not one of external, pod, node, loopback, nor an address", from)
		}
		if addr = addr.Unmap(); !f.Has(addr) {
			return p, errors.New("a packet cannot come from one family and go to the other")
		}
		p.In = interfaceOf(w, addr)
		source(addr)
	}
	return p, nil
}

// PacketOf returns a packet of a class to a destination on the node; false if there is none. Over loopback it goes to 127.0.0.1,
// as nothing is translated for ::1 that could be answered.
func PacketOf(w *rules.World, from From, to netip.AddrPort) (walk.Packet, bool) {
	word := map[From]string{FromOutside: "external", FromPod: "pod", FromNode: "node", FromLoopback: "loopback"}[from]
	if from == FromLoopback {
		if to.Addr().Is6() {
			return walk.Packet{}, false
		}
		to = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), to.Port())
	} else if to.Addr().IsLoopback() {
		return walk.Packet{}, false
	}
	p, err := PacketFrom(w, word, to)
	return p, err == nil
}

// interfaceOf is by which interface packets of an address come in; "" for those of the node itself.
func interfaceOf(w *rules.World, addr netip.Addr) string {
	switch {
	case addr.IsLoopback() || slices.Contains(w.Node.Addresses, addr):
		return ""
	case slices.ContainsFunc(w.Node.PodCIDRs, func(p netip.Prefix) bool { return p.Contains(addr) }):
		return bridge
	default:
		return outside
	}
}

// externalAddress is an address outside of every network that the world knows, of those that are for documentation.
func externalAddress(w *rules.World, f rules.Family) netip.Addr {
	candidates := []string{"198.51.100.7", "203.0.113.7", "192.0.2.7", "100.127.255.7"}
	if f == rules.IPv6 {
		candidates = []string{"2001:db8:ffff::7", "3fff::7", "2001:db8::7"}
	}
	networks := slices.Concat(w.Node.PodCIDRs, w.ServiceCIDRs, w.Proxy.Detector.CIDRs, w.Proxy.NodePortAddresses)
	for _, text := range candidates {
		addr := netip.MustParseAddr(text)
		inside := func(p netip.Prefix) bool { return p.Bits() > 0 && p.Contains(addr) }
		if !slices.ContainsFunc(networks, inside) && !slices.Contains(w.Node.Addresses, addr) {
			return addr
		}
	}
	return netip.MustParseAddr(candidates[0])
}

// freeAddress is an address of the node's podCIDR that no pod of the world has.
func freeAddress(w *rules.World, f rules.Family) (netip.Addr, bool) {
	taken := map[netip.Addr]bool{}
	for _, p := range w.Pods {
		for _, a := range p.Addresses {
			taken[a.Addr()] = true
		}
	}
	for _, s := range w.Services {
		for _, p := range s.Ports {
			for _, e := range p.Endpoints {
				taken[e.Addr.Addr()] = true
			}
		}
	}
	for _, cidr := range w.Node.PodCIDRs {
		if !f.Has(cidr.Addr()) {
			continue
		}
		// The network's own address and the bridge's, which is the first, are nobody's.
		for addr := cidr.Masked().Addr().Next().Next(); cidr.Contains(addr); addr = addr.Next() {
			if !taken[addr] {
				return addr, true
			}
		}
	}
	return netip.Addr{}, false
}
