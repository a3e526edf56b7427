package ports

import (
	"cmp"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Socket is what a claim takes on a node: a port of a protocol on some of the node's addresses.
type Socket struct {
	Address  Address
	Protocol Protocol
	Port     uint16
}

// ParseSocket reads ADDRESS:PORT/PROTOCOL, for example "0.0.0.0:80/TCP", "[::]:53/UDP", or "*:9100/TCP" for every
// address; and what else String returns: prefixes, "10.0.0.0/8:80/TCP", and "* (not loopback):80/TCP".
func ParseSocket(s string) (Socket, error) {
	slash := strings.LastIndexByte(s, '/')
	if slash < 0 {
		return Socket{}, fmt.Errorf("socket %q has no /PROTOCOL", s)
	}
	rest := s[:slash]
	proto, err := ParseProtocol(s[slash+1:])
	if err != nil {
		return Socket{}, fmt.Errorf("socket %q: %w", s, err)
	}
	colon := strings.LastIndexByte(rest, ':')
	if colon < 0 {
		return Socket{}, fmt.Errorf("socket %q has no :PORT", s)
	}
	port, err := ParsePort(rest[colon+1:])
	if err != nil {
		return Socket{}, fmt.Errorf("socket %q: %w", s, err)
	}
	address, err := parseSocketAddress(rest[:colon])
	if err != nil {
		return Socket{}, fmt.Errorf("socket %q: %w", s, err)
	}
	return Socket{Address: address, Protocol: proto, Port: port}, nil
}

func parseSocketAddress(s string) (Address, error) {
	inner, open := strings.CutPrefix(s, "[")
	inner, closed := strings.CutSuffix(inner, "]")
	if s == "" || open != closed || open != strings.Contains(inner, ":") {
		return Address{}, fmt.Errorf("%q is not an address (write *, an IPv4 address, or an IPv6 address in brackets)", s)
	}
	base, without := inner, Address.itself
	for text, narrower := range narrowed() {
		if cut, ok := strings.CutSuffix(inner, text); ok {
			base, without = cut, narrower
		}
	}
	if base == "*" {
		return without(AllAddresses()), nil
	}
	if prefix, err := netip.ParsePrefix(base); err == nil && prefix == prefix.Masked() {
		return without(AddressesIn(prefix)), nil
	}
	a, err := ParseAddress(base)
	return without(a), err
}

// MustParseSocket is ParseSocket for constants; it panics on an error.
func MustParseSocket(s string) Socket {
	socket, err := ParseSocket(s)
	if err != nil {
		panic(err)
	}
	return socket
}

// Overlaps reports whether s and o share an address, protocol and port. It is symmetric.
func (s Socket) Overlaps(o Socket) bool {
	return s.Port == o.Port && s.Protocol == o.Protocol && s.Address.Overlaps(o.Address)
}

// Covers reports whether s takes everything that o takes.
func (s Socket) Covers(o Socket) bool {
	return s.Port == o.Port && s.Protocol == o.Protocol && s.Address.Covers(o.Address)
}

// String returns the form that ParseSocket reads.
func (s Socket) String() string {
	address := s.Address.String()
	if strings.Contains(address, ":") {
		address = "[" + address + "]"
	}
	return address + ":" + s.PortProtocol()
}

// PortProtocol returns the port and protocol alone, as kubectl prints them: "9000/TCP".
func (s Socket) PortProtocol() string {
	return strconv.Itoa(int(s.Port)) + "/" + s.Protocol.String()
}

// Compare orders sockets by port, protocol and address.
func (s Socket) Compare(o Socket) int {
	return cmp.Or(cmp.Compare(s.Port, o.Port), cmp.Compare(s.Protocol, o.Protocol), s.Address.Compare(o.Address))
}
