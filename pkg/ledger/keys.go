package ledger

import (
	"cmp"
	"hash/maphash"
	"net/netip"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// refKey is an owner.
type refKey ports.Ref

func (k refKey) hash(seed maphash.Seed) uint64 {
	// Names differ most; kinds and namespaces are few, and their hashes only have to be different ones.
	return maphash.String(seed, k.Name) ^ 3*maphash.String(seed, k.Namespace) ^ 5*maphash.String(seed, k.Kind) ^ 7*maphash.String(seed, k.APIVersion)
}

// number is what claims are looked up by first.
type number struct {
	protocol ports.Protocol
	port     uint16
}

func (n number) hash(seed maphash.Seed) uint64 {
	return maphash.Bytes(seed, []byte{byte(n.protocol), byte(n.port >> 8), byte(n.port)})
}

func (n number) compare(o number) int {
	return cmp.Or(cmp.Compare(n.port, o.port), cmp.Compare(n.protocol, o.protocol))
}

// nodeKey is a node's name.
type nodeKey string

func (k nodeKey) hash(seed maphash.Seed) uint64 { return maphash.String(seed, string(k)) }

// addrKey is an address of a node.
type addrKey netip.Addr

func (k addrKey) hash(seed maphash.Seed) uint64 {
	bytes := netip.Addr(k).As16()
	return maphash.Bytes(seed, bytes[:])
}

// place is one place where a claim can be looked up: a node's name, an address with @ before it, or, while no node is
// decided, its owner with slashes. Names of nodes have neither.
type place string

func (p place) hash(seed maphash.Seed) uint64 { return maphash.String(seed, string(p)) }

func atAddress(addr netip.Addr) place { return place("@" + addr.String()) }

func placeOf(c *ports.Claim) place {
	if node, ok := c.Scope.Node(); ok {
		return place(node)
	}
	if addr, ok := c.Address.Single(); ok && c.Scope.Kind == ports.AtAddress {
		return atAddress(addr)
	}
	return place(c.Owner.APIVersion + "/" + c.Owner.Kind + "/" + c.Owner.Namespace + "/" + c.Owner.Name)
}
