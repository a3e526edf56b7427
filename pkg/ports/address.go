package ports

import (
	"fmt"
	"net/netip"
)

// Address is the set of a node's addresses that a socket takes: one address, a prefix, all of a family, or all.
// The zero Address is every address of both families, which is what an empty hostIP means.
//
// It is held as bytes and not as a netip.Addr, which is half as large again and which the garbage collector must look
// into: a ledger holds one for each of some hundred thousand claims.
type Address struct {
	bytes  [16]byte // as netip.Addr.As16 gives them
	family uint8    // 4 or 6; 0: both, and no bytes
	bits   uint8    // prefix length
	flags  addressFlags
}

// addressOf holds addr, of which an invalid one stands for both families.
func addressOf(addr netip.Addr, bits int) Address {
	switch {
	case !addr.IsValid():
		return Address{}
	case addr.Is4():
		return Address{bytes: addr.As16(), family: 4, bits: uint8(bits)}
	default:
		return Address{bytes: addr.As16(), family: 6, bits: uint8(bits)}
	}
}

// ip returns the address, or an invalid one for both families.
func (a Address) ip() netip.Addr {
	switch a.family {
	case 4:
		return netip.AddrFrom16(a.bytes).Unmap()
	case 6:
		return netip.AddrFrom16(a.bytes)
	default:
		return netip.Addr{}
	}
}

type addressFlags uint8

const (
	withoutLoopback4 addressFlags = 1 << iota
	withoutLoopback6
	primaryOnly
)

// The prefixes that mean "the node itself, over its loopback interface", on every node.
func loopback4() netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8) }
func loopback6() netip.Prefix { return netip.PrefixFrom(netip.IPv6Loopback(), 128) }

// AllAddresses is every address of both families.
func AllAddresses() Address { return Address{} }

// AllIPv4 is every IPv4 address of a node: hostIP 0.0.0.0.
func AllIPv4() Address { return addressOf(netip.IPv4Unspecified(), 0) }

// AllIPv6 is every IPv6 address of a node: hostIP "::".
func AllIPv6() Address { return addressOf(netip.IPv6Unspecified(), 0) }

// OneAddress is the single address addr; the unspecified addresses are wildcards of their family, and a 4-in-6
// address is the IPv4 address inside it. A zone is dropped.
func OneAddress(addr netip.Addr) Address {
	addr = addr.Unmap().WithZone("")
	if !addr.IsValid() || addr.IsUnspecified() {
		return addressOf(addr, 0)
	}
	return addressOf(addr, addr.BitLen())
}

// AddressesIn is every address of a node that lies in prefix, as kube-proxy's --nodeport-addresses names them. Nobody
// has a complete list of a node's addresses, so that a prefix is taken to hold one of every node. An invalid prefix is
// every address.
func AddressesIn(prefix netip.Prefix) Address {
	if prefix.Addr().Is4In6() && prefix.Bits() >= 96 {
		prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
	}
	prefix = prefix.Masked()
	if !prefix.IsValid() {
		return Address{}
	}
	return addressOf(prefix.Addr(), prefix.Bits())
}

// ParseAddress reads a hostIP: empty for every address, an unspecified address for every one of its family, else one
// address. Every spelling of an address gives the same value. A zone, a prefix or a leading zero is an error.
func ParseAddress(hostIP string) (Address, error) {
	if hostIP == "" {
		return Address{}, nil
	}
	addr, err := netip.ParseAddr(hostIP)
	if err != nil || addr.Zone() != "" {
		return Address{}, fmt.Errorf("%q is not an IP address", hostIP)
	}
	return OneAddress(addr), nil
}

// WithoutLoopback is a without the loopback addresses, as kube-proxy serves node ports with
// --iptables-localhost-nodeports=false and in its nftables and ipvs modes.
func (a Address) WithoutLoopback() Address {
	a.flags |= withoutLoopback4 | withoutLoopback6
	return a
}

// WithoutIPv6Loopback is a without ::1, on which kube-proxy never serves node ports.
func (a Address) WithoutIPv6Loopback() Address {
	a.flags |= withoutLoopback6
	return a
}

// PrimaryOnly is the one address among a that is the node's primary address, whichever that is: what kube-proxy's
// nftables mode serves node ports on by default. It overlaps any single address that could be a primary one.
func (a Address) PrimaryOnly() Address {
	a.flags |= primaryOnly | withoutLoopback4 | withoutLoopback6
	return a
}

// IsPrimaryOnly reports whether a stands for the node's primary addresses.
func (a Address) IsPrimaryOnly() bool { return a.flags&primaryOnly != 0 }

// Single returns the address if a is exactly one.
func (a Address) Single() (netip.Addr, bool) {
	return a.ip(), a.family != 0 && int(a.bits) == a.ip().BitLen()
}

// IsLoopback reports whether a holds nothing but loopback addresses, which every node has.
func (a Address) IsLoopback() bool {
	return a.family != 0 && isLoopback(netip.PrefixFrom(a.ip(), int(a.bits)))
}

// HasIPv4 reports whether a holds IPv4 addresses.
func (a Address) HasIPv4() bool { return a.family == 0 || a.family == 4 }

// HasIPv6 reports whether a holds IPv6 addresses.
func (a Address) HasIPv6() bool { return a.family == 0 || a.family == 6 }

// Contains reports whether addr is one of a's addresses, or could be if a is the primary one. The unspecified addresses
// are nobody's.
func (a Address) Contains(addr netip.Addr) bool {
	one := OneAddress(addr)
	_, single := one.Single()
	return single && a.Overlaps(one)
}

// Overlaps reports whether a and b share an address. It is symmetric. The rule is ours, not kube-scheduler's, whose
// HostPortInfo (k8s.io/kube-scheduler/framework) knows 0.0.0.0 as its only wildcard, for both families, and compares
// other addresses as text.
func (a Address) Overlaps(b Address) bool {
	flags := a.flags | b.flags
	return meet(a.in4(), b.in4(), flags&withoutLoopback4 != 0) || meet(a.in6(), b.in6(), flags&withoutLoopback6 != 0)
}

// Covers reports whether every address of o is one of a's, loopback exceptions aside.
func (a Address) Covers(o Address) bool {
	if a.IsPrimaryOnly() && !o.IsPrimaryOnly() {
		return false // which address is the primary one is not known here
	}
	covers := func(wide, narrow netip.Prefix) bool {
		return !narrow.IsValid() || (wide.IsValid() && wide.Bits() <= narrow.Bits() && wide.Overlaps(narrow))
	}
	return covers(a.in4(), o.in4()) && covers(a.in6(), o.in6())
}

func meet(p, q netip.Prefix, exceptLoopback bool) bool {
	shared := narrower(p, q)
	return shared.IsValid() && !(exceptLoopback && isLoopback(shared))
}

// narrower returns what p and q share, which is one of them, or an invalid prefix.
func narrower(p, q netip.Prefix) netip.Prefix {
	switch {
	case !p.IsValid() || !q.IsValid() || !p.Overlaps(q):
		return netip.Prefix{}
	case q.Bits() > p.Bits():
		return q
	default:
		return p
	}
}

// in4 returns a's IPv4 part as a prefix, or an invalid one.
func (a Address) in4() netip.Prefix {
	switch a.family {
	case 0:
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	case 4:
		return netip.PrefixFrom(a.ip(), int(a.bits))
	default:
		return netip.Prefix{}
	}
}

func (a Address) in6() netip.Prefix {
	switch a.family {
	case 0:
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	case 6:
		return netip.PrefixFrom(a.ip(), int(a.bits))
	default:
		return netip.Prefix{}
	}
}

func isLoopback(p netip.Prefix) bool {
	for _, l := range [...]netip.Prefix{loopback4(), loopback6()} {
		if p.Bits() >= l.Bits() && l.Contains(p.Addr()) {
			return true
		}
	}
	return false
}

// String returns "*" for every address, "0.0.0.0" or "::" for a family, else the address or the prefix.
func (a Address) String() string {
	s := "*"
	switch {
	case a.family == 0:
	case a.bits == 0, int(a.bits) == a.ip().BitLen():
		s = a.ip().String()
	default:
		s = netip.PrefixFrom(a.ip(), int(a.bits)).String()
	}
	switch {
	case a.flags&primaryOnly != 0:
		return s + primaryText
	case a.flags&withoutLoopback4 != 0:
		return s + noLoopbackText
	case a.flags&withoutLoopback6 != 0:
		return s + noLoopback6Text
	}
	return s
}

const (
	primaryText     = " (primary)"
	noLoopbackText  = " (not loopback)"
	noLoopback6Text = " (not ::1)"
)

// narrowed returns what makes an address of what String writes behind one.
func narrowed() map[string]func(Address) Address {
	return map[string]func(Address) Address{
		primaryText: Address.PrimaryOnly, noLoopbackText: Address.WithoutLoopback, noLoopback6Text: Address.WithoutIPv6Loopback,
	}
}

func (a Address) itself() Address { return a }

// Compare orders addresses: all first, then by family, address and length.
func (a Address) Compare(b Address) int {
	if c := a.ip().Compare(b.ip()); c != 0 {
		return c
	}
	if c := int(a.bits) - int(b.bits); c != 0 {
		return c
	}
	return int(a.flags) - int(b.flags)
}
