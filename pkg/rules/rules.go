// Package rules is a node's packet rules as data, in one form for iptables, nftables, ipsets and IPVS.
//
//	World -> kubeproxy, portmap -> Fragment -> Install -> Ruleset -> text (print), walk (follow a packet)
//	                                 listing -> text (parse) -> Ruleset
//
// A World is what the components of one node see: the node, Services with endpoints, pods with host ports; extract.World
// makes it. A Ruleset has the tables, chains and rules, sets and virtual servers. Each Rule says in its Origin which
// component installed it, and for which object. What the kernel decides by the order in which things were registered is
// part of the data (Base.Seq), which Install counts.
//
// Package rules does no I/O and changes nothing on any node.
package rules

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// Family is an address family. Rules of different families never see each other's packets.
type Family uint8

// The families.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// String returns IPv4 or IPv6.
func (f Family) String() string { return fmt.Sprintf("IPv%d", uint8(f)) }

// Has reports whether addr is of the family.
func (f Family) Has(addr netip.Addr) bool { return addr.IsValid() && addr.Is4() == (f == IPv4) }

// FamilyOf returns the family of an address that is not 4-in-6.
func FamilyOf(addr netip.Addr) Family {
	if addr.Is4() {
		return IPv4
	}
	return IPv6
}

// Tool is by what a table was written. The base chains of different tools are different chains even where they have one
// name, so that the order of their registration decides between them.
type Tool uint8

// The tools.
const (
	XTables       Tool = iota + 1 // iptables, the variant that writes nf_tables, which distributions ship
	XTablesLegacy                 // iptables-legacy
	NFTables                      // nft
)

// Hook is a point on a packet's way through the kernel.
type Hook uint8

// The hooks, in the order of a packet that is forwarded.
const (
	Prerouting Hook = iota + 1
	Input
	Forward
	Output
	Postrouting
)

// String returns nft's spelling.
func (h Hook) String() string {
	switch h {
	case Prerouting:
		return "prerouting"
	case Input:
		return "input"
	case Forward:
		return "forward"
	case Output:
		return "output"
	case Postrouting:
		return "postrouting"
	default:
		return fmt.Sprintf("Hook(%d)", uint8(h))
	}
}

// Ruleset is everything that decides about a node's packets.
type Ruleset struct {
	Tables  []*Table
	IPSets  []*Set // of the kernel's ipset, which rules of iptables look up
	Virtual []*VirtualServer
}

// Table returns a table, nil if there is none.
func (r *Ruleset) Table(tool Tool, family Family, name string) *Table {
	for _, t := range r.Tables {
		if t.Tool == tool && t.Family == family && t.Name == name {
			return t
		}
	}
	return nil
}

// Table is a table of one tool and one family.
type Table struct {
	Tool    Tool
	Family  Family
	Name    string // "nat", "filter"; nft: "kube-proxy", "cni_hostport"
	Comment string
	Chains  []*Chain // in the order of their creation; printers sort them as their tool does
	Sets    []*Set   // nft's sets and maps
}

// Chain returns a chain by its name, nil if there is none.
func (t *Table) Chain(name string) *Chain {
	for _, c := range t.Chains {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// Chain is a list of rules.
type Chain struct {
	Name    string
	Comment string
	Base    *Base // nil: reached by a jump only
	Rules   []*Rule
}

// Base says where a chain hangs in the kernel.
type Base struct {
	Type     ChainType
	Hook     Hook
	Priority int  // a lower one runs first
	Seq      int  // when it was registered: of two with one hook and priority, the later one runs first; 0: not known
	Drops    bool // the policy; else it accepts
}

// ChainType says what a base chain may do.
type ChainType uint8

// The types of base chains.
const (
	Filter ChainType = iota + 1 // every packet
	NAT                         // the first packet of a connection; it ends where an address was translated
)

// The priorities of hooks that matter here (linux/netfilter_ipv4.h, and nft's names for them).
const (
	PriorityRaw    = -300
	PriorityMangle = -150
	PriorityDNAT   = -100 // dstnat
	PriorityFilter = 0
	PrioritySNAT   = 100 // srcnat
)

// Rule is a list of statements, done in order until one does not match.
type Rule struct {
	Do     []Stmt
	Origin Origin
}

// Origin says who installed a rule, and for whom.
type Origin struct {
	Component string    // kube-proxy, portmap
	Owner     ports.Ref // the Service or the Pod; the zero Ref: nobody in particular
	Port      string    // the Service port or mapping, "http" or "30080/TCP"
}

// Set is a set or map of nft, or an ipset.
type Set struct {
	Name    string
	Type    string // ipset: "hash:ip,port", "bitmap:port"; nft: what its keys are made of follows from Fields
	Family  Family
	Fields  []Field // nft: what the keys are made of, in order
	IsMap   bool    // elements have verdicts
	Comment string
	Dynamic bool // packets add elements
	Timeout time.Duration
	Elems   []Elem
}

// Elem is an element of a set or map.
type Elem struct {
	Key     Key
	Verdict Stmt // of a map's element: Goto, Drop
	Comment string
	Origin  Origin
}

// Key is what a set holds; fields that its type has not are zero. It is comparable, for lookups.
type Key struct {
	Addr     netip.Addr // the first address: of the destination, but for sets of sources
	Protocol ports.Protocol
	Port     uint16
	With     netip.Prefix // the second address, or the network, of types that have one
}

// Field is a part of a packet that keys are made of.
type Field uint8

// The fields.
const (
	SrcAddr Field = iota + 1
	DstAddr
	L4Proto
	DstPort
)

// VirtualServer is an IPVS virtual server with its real ones.
type VirtualServer struct {
	Addr        netip.AddrPort
	Protocol    ports.Protocol
	Scheduler   string // "rr"
	Persistence int    // seconds; 0: none
	Real        []netip.AddrPort
	Origin      Origin
}
