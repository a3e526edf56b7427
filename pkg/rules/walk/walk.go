// Package walk follows the first packet of a connection through a ruleset, as the kernel does: the hooks in their order,
// in each the base chains by priority and of two equal ones the later registered first, translations once for each
// direction, marks, maps, and IPVS. CONTRIBUTING.md draws the hooks.
//
// New makes a Walker of a rules.Ruleset and a Host, which is what the kernel knows beside the rules. Walk takes a Packet
// and returns its Paths: one for each outcome of the choices that the rules make at random. A Path has the Steps, which
// are the rules that matched, the Verdict, and the Origin of the rule that decided. Orders yields a ruleset once for each
// order in which its base chains may have been registered, as far as that is not known.
//
// It knows no later packets: connection tracking says NEW, and DNAT behind a translation; nothing was seen recently
// unless the packet says so. It knows nothing of links: whether a bridge sends a packet back to the port it came from,
// or a router drops it for its source (rp_filter), is not answered here.
package walk

import (
	"fmt"
	"net/netip"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

// Packet is the first packet of a connection.
type Packet struct {
	In       string // the interface by which it comes; "": a process of the node sends it
	Bridged  bool   // it came over a port of the bridge In, and bridges hand packets to iptables (br_netfilter)
	Src, Dst netip.AddrPort
	Protocol ports.Protocol
	Mark     uint32
	Seen     []string // the lists of recent sources, and the dynamic sets, that hold its source
}

// Host is what the kernel knows beside the rules.
type Host struct {
	Addresses     []netip.Addr // of its interfaces, the primary one of each family first; loopback need not be among them
	Routes        []Route      // the longest one that fits is taken
	RouteLocalnet []string     // where net.ipv4.conf.*.route_localnet is 1: names of interfaces, or all
}

// Route says how packets leave.
type Route struct {
	To        netip.Prefix
	Interface string
	Source    netip.Addr // the interface's address, which masqueraded packets get
}

// Path is one way that a packet can take.
type Path struct {
	Probability float64 // of its random choices
	Steps       []Step
	Verdict     Verdict
	Source      netip.AddrPort // at the end; the zero Addr where it is masqueraded and no route says to what
	Destination netip.AddrPort // at the end
	Masquerade  bool
	Local       bool // it ends in the node itself
	Mark        uint32
	Martian     bool // it has a loopback address where none may be: this kernel drops it, or nobody answers it

	// Origin is that of the rule, map element or virtual server which decided: which translated the destination, or
	// ended the packet. Where that has no owner, it is that of the last step before which has one.
	Origin rules.Origin
}

// Step is a rule that matched, or a virtual server that took the packet. Rules that do not match are no steps, nor is
// the policy of a chain: the steps are what xtables-monitor --trace and nft monitor trace print as rules.
type Step struct {
	Hook    rules.Hook
	Table   *rules.Table
	Chain   *rules.Chain
	Index   int // of the rule in its chain
	Rule    *rules.Rule
	Elem    *rules.Elem          // of the map that the rule looked up
	Virtual *rules.VirtualServer // of IPVS; then there is no table, chain or rule
	Effect  rules.Stmt           // the verdict, with its random choice made; nil: the packet went on behind the rule
}

// Origin returns who is behind the step.
func (s *Step) Origin() rules.Origin {
	switch {
	case s.Virtual != nil:
		return s.Virtual.Origin
	case s.Elem != nil && s.Elem.Origin != (rules.Origin{}):
		return s.Elem.Origin
	default:
		return s.Rule.Origin
	}
}

// Verdict says what became of a packet.
type Verdict uint8

// The verdicts.
const (
	Accept Verdict = iota + 1 // it arrived where it was sent to
	DNAT                      // it arrived elsewhere
	Drop
	Reject
)

// String returns nft's word.
func (v Verdict) String() string {
	switch v {
	case Accept:
		return "accept"
	case DNAT:
		return "dnat"
	case Drop:
		return "drop"
	case Reject:
		return "reject"
	default:
		return fmt.Sprintf("Verdict(%d)", uint8(v))
	}
}

// Walker follows packets through one ruleset on one host. It may be used from many goroutines at once; the ruleset must
// not change.
type Walker struct {
	host  Host
	local map[netip.Addr]bool
	v4    stack
	v6    stack
}

// New prepares a ruleset for walking.
func New(rs *rules.Ruleset, host Host) *Walker {
	w := &Walker{host: host, local: map[netip.Addr]bool{}}
	for _, a := range host.Addresses {
		w.local[a] = true
	}
	for _, v := range rs.Virtual {
		w.local[v.Addr.Addr()] = true // kube-proxy binds to kube-ipvs0 what the node has not already
	}
	w.v4 = compile(rs, rules.IPv4)
	w.v6 = compile(rs, rules.IPv6)
	return w
}

// Walk returns every way that the packet can take, in the order of the rules that choose.
func (w *Walker) Walk(p Packet) []Path {
	r := run{w: w, packet: p, stack: &w.v4}
	if rules.FamilyOf(p.Dst.Addr()) == rules.IPv6 {
		r.stack = &w.v6
	}
	r.open = append(r.open, r.begin())
	var paths []Path
	for len(r.open) > 0 {
		s := r.open[len(r.open)-1]
		r.open = r.open[:len(r.open)-1]
		for !s.ended {
			r.advance(&s)
		}
		paths = append(paths, s.path())
	}
	return paths
}

// isLocal reports whether the kernel's local table has the address.
func (w *Walker) isLocal(a netip.Addr) bool { return a.IsLoopback() || w.local[a] }

// route returns how packets to an address leave; the zero Route if nothing says so.
func (w *Walker) route(to netip.Addr) Route {
	if w.isLocal(to) {
		return Route{Interface: loopback, Source: w.address("", rules.FamilyOf(to))}
	}
	best := Route{}
	for _, r := range w.host.Routes {
		if r.To.Contains(to) && (!best.To.IsValid() || r.To.Bits() > best.To.Bits()) {
			best = r
		}
	}
	return best
}

// address returns an interface's address of a family, or else the node's first one.
func (w *Walker) address(iface string, f rules.Family) netip.Addr {
	for _, r := range w.host.Routes {
		if r.Interface == iface && f.Has(r.Source) {
			return r.Source
		}
	}
	for _, a := range w.host.Addresses {
		if f.Has(a) {
			return a
		}
	}
	return netip.Addr{}
}

// routesLocalnet reports whether an interface may carry packets of 127.0.0.0/8.
func (w *Walker) routesLocalnet(iface string) bool {
	for _, name := range w.host.RouteLocalnet {
		if name == "all" || name == iface {
			return true
		}
	}
	return iface == loopback
}

const loopback = "lo"
