// Package ports says what a port on a Kubernetes node is, and decides when two claims on one cannot both work.
//
//	Socket = Address, Protocol and port
//	Claim  = Socket, Kind (nodePort, hostPort ...), Scope (on which nodes), Owner, and the field that makes it
//	Owner  = Ref (the name of an object), and the Owner that controls it
//	Meet(wanted, held Claim) -> Conflict, with the nodes where the two meet
//
// ServicePort is the triple of ports of a Service, Range and Ranges are ranges of ports.
//
// It imports the standard library only. All values are plain and comparable where Go allows it; nothing here logs,
// keeps state or reads a clock. Addresses are held in canonical form, so that textual spellings never matter.
package ports

import "fmt"

// Protocol is a transport protocol of a port. The zero value is no protocol.
type Protocol uint8

// The protocols of the Kubernetes API (core/v1 Protocol).
const (
	TCP Protocol = iota + 1
	UDP
	SCTP
)

// Protocols lists every protocol, in the order in which answers are sorted.
func Protocols() [3]Protocol { return [3]Protocol{TCP, UDP, SCTP} }

// ParseProtocol reads the API's spelling: TCP, UDP or SCTP, in capitals. The empty string is an error: what an
// absent protocol means is decided by whoever reads the object.
func ParseProtocol(s string) (Protocol, error) {
	for _, p := range Protocols() {
		if s == p.String() {
			return p, nil
		}
	}
	return 0, fmt.Errorf("protocol %q is not one of TCP, UDP, SCTP", s)
}

// String returns the API's spelling.
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "TCP"
	case UDP:
		return "UDP"
	case SCTP:
		return "SCTP"
	default:
		return fmt.Sprintf("Protocol(%d)", uint8(p))
	}
}

// MarshalText writes the API's spelling.
func (p Protocol) MarshalText() ([]byte, error) {
	if _, err := ParseProtocol(p.String()); err != nil {
		return nil, err
	}
	return []byte(p.String()), nil
}

// UnmarshalText reads the API's spelling.
func (p *Protocol) UnmarshalText(text []byte) error {
	parsed, err := ParseProtocol(string(text))
	if err != nil {
		return err
	}
	*p = parsed
	return nil
}
