package rules

import (
	"net/netip"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// Stmt is one statement of a rule: a match, which ends the rule where it does not hold, an effect, or a verdict. An
// iptables rule is the special case of matches and one target. The types are those of this file.
type Stmt interface{ stmt() }

// Side is the end of a packet that an address match looks at.
type Side uint8

// The sides.
const (
	Source Side = iota + 1
	Destination
)

// The matches.
type (
	// Addr holds if the address lies in one of the prefixes.
	Addr struct {
		Side Side
		In   []netip.Prefix
		Not  bool
	}

	// AddrLocal holds if the address is one of the node's own, loopback included.
	AddrLocal struct {
		Side Side
		Not  bool
	}

	// InInterface holds if the packet came in by an interface of that name. A packet of the node itself came in by none.
	InInterface struct {
		Name   string
		Prefix bool // Name is the beginning of the names that match
		Not    bool
	}

	// Proto holds for packets of a protocol.
	Proto struct{ Is ports.Protocol }

	// Port holds if the destination port is one of Is, and for every port if Is is empty: iptables' "-m tcp" without
	// an option. Multi is iptables' multiport, which prints another way. The rule says the protocol by Proto.
	Port struct {
		Is    []uint16
		Multi bool
	}

	// CTState holds if the connection is in one of the states: NEW, INVALID, RELATED, ESTABLISHED, DNAT.
	CTState struct {
		In  []string
		Not bool
		Old bool // iptables' older match "state"
	}

	// CTStatusDNAT holds if the destination of the connection was translated.
	CTStatusDNAT struct{}

	// Mark holds if the packet's mark, masked, is Value.
	Mark struct {
		Value, Mask uint32
		Not         bool
	}

	// InSet holds if the fields of the packet are in a set: a set of the rule's own nft table, or an ipset, which has a
	// field for each dimension of its type; the protocol belongs to the dimension of the port and is no field there.
	InSet struct {
		Fields []Field
		Set    string
		Not    bool
	}

	// Statistic holds with a probability.
	Statistic struct{ Probability float64 }

	// Recent looks up, or with Set enters, the source in iptables' list of recent sources.
	Recent struct {
		Name    string
		Set     bool
		Seconds int
	}

	// PhysdevIn holds if the packet came in over a bridge's port.
	PhysdevIn struct{ Not bool }

	// Accounting counts, and always holds (iptables' nfacct).
	Accounting struct{ Name string }

	// ViaIPVS holds if the packet belongs to a virtual server (iptables' ipvs).
	ViaIPVS struct {
		Addr     netip.AddrPort
		Protocol ports.Protocol
	}

	// Comment always holds.
	Comment struct{ Text string }
)

// The effects.
type (
	// SetMark makes the mark mark &^ Mask ^ Value: with equal ones that is or, with a zero mask exclusive or.
	SetMark struct{ Value, Mask uint32 }

	// Update enters the source address into a set of the rule's table, with the set's timeout.
	Update struct{ Set string }
)

// The verdicts.
type (
	// Jump goes on in a chain, and behind the rule when that ends.
	Jump struct{ Chain string }

	// Goto goes on in a chain, and where the rule's own chain would have gone on when that ends.
	Goto struct{ Chain string }

	// Return ends the chain.
	Return struct{}

	// Accept ends the base chain.
	Accept struct{}

	// Drop ends the packet.
	Drop struct{}

	// Reject ends the packet, with an answer.
	Reject struct{}

	// DNAT translates the destination: to one of several at random (nft's numgen).
	DNAT struct{ To []netip.AddrPort }

	// Redirect translates the destination to the node itself.
	Redirect struct{ Port uint16 }

	// Masquerade translates the source to the address of the interface by which the packet leaves.
	Masquerade struct{ Random bool }

	// VMap does what a map of the rule's table says of the packet's fields, and nothing where it has no such element.
	VMap struct {
		Fields []Field
		Map    string
	}

	// GotoRandom goes to one of several chains at random (nft's numgen with a vmap).
	GotoRandom struct{ Chains []string }
)

func (Addr) stmt()         {}
func (AddrLocal) stmt()    {}
func (InInterface) stmt()  {}
func (Proto) stmt()        {}
func (Port) stmt()         {}
func (CTState) stmt()      {}
func (CTStatusDNAT) stmt() {}
func (Mark) stmt()         {}
func (InSet) stmt()        {}
func (Statistic) stmt()    {}
func (Recent) stmt()       {}
func (PhysdevIn) stmt()    {}
func (Accounting) stmt()   {}
func (ViaIPVS) stmt()      {}
func (Comment) stmt()      {}
func (SetMark) stmt()      {}
func (Update) stmt()       {}
func (Jump) stmt()         {}
func (Goto) stmt()         {}
func (Return) stmt()       {}
func (Accept) stmt()       {}
func (Drop) stmt()         {}
func (Reject) stmt()       {}
func (DNAT) stmt()         {}
func (Redirect) stmt()     {}
func (Masquerade) stmt()   {}
func (VMap) stmt()         {}
func (GotoRandom) stmt()   {}
