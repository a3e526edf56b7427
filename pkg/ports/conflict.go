package ports

import (
	"net/netip"
	"slices"
)

// Conflict is an overlap that cannot work.
type Conflict struct {
	Wanted, Held Claim
	Nodes        []string // where the two meet, sorted; nil where they meet on every node or on one not known yet
}

// Nodes tells whose address an address is. Loopback addresses belong to every node and are not asked for.
type Nodes interface {
	// NodeOf returns the node that has the address, and whether the address is the node's primary one of its family.
	// It is asked with canonical addresses: never 4-in-6, never with a zone.
	NodeOf(addr netip.Addr) (node string, primary, known bool)
}

// Meet reports whether wanted and held, of different owners without a common controller, certainly cannot both work, and on
// which nodes. Whether they have one is the caller's to ask (SameController). The rules:
//
//   - two numbers of the API server's book of node ports are one number, whatever the protocol and the address;
//   - otherwise port and protocol must be equal, the addresses overlap, and a node be certain that has both;
//   - a port of a plain init container is held only while that container runs, and conflicts with nobody;
//   - an idle owner holds nothing, but what it wants is judged;
//   - an external or load-balancer IP takes packets on the node whose address it is, and two Services with one
//     address and port take each other's.
func Meet(wanted, held Claim, nodes Nodes) (Conflict, bool) {
	conflict := Conflict{Wanted: wanted, Held: held}
	if wanted.Kind.IsNodePortAllocated() && held.Kind.IsNodePortAllocated() {
		if wanted.Port != held.Port {
			return Conflict{}, false
		}
		return conflict, true
	}
	if wanted.InitOnly || held.InitOnly || held.Idle || !wanted.Overlaps(held.Socket) {
		return Conflict{}, false
	}
	where, ok := wanted.Scope.meet(held.Scope, wanted.Address, held.Address, nodes)
	if ok && (wanted.Address.IsPrimaryOnly() || held.Address.IsPrimaryOnly()) {
		where, ok = primaryMeet(wanted, held, where, nodes)
	}
	if !ok {
		return Conflict{}, false
	}
	conflict.Nodes = where
	return conflict, true
}

// primaryMeet narrows where two claims meet, one of them on the node's primary address, to where that is certainly
// an address of both: everywhere if the other has all of a family, on its own node if the other names it. Whether
// some node's primary address lies in a prefix nobody can tell.
func primaryMeet(a, b Claim, where []string, nodes Nodes) ([]string, bool) {
	in4 := narrower(a.Address.in4(), b.Address.in4())
	in6 := narrower(a.Address.in6(), b.Address.in6())
	for _, shared := range [...]netip.Prefix{in4, in6} {
		switch {
		case !shared.IsValid():
			continue
		case shared.Bits() == 0:
			return where, true
		case shared.IsSingleIP():
			addr := shared.Addr()
			node, primary, known := nodes.NodeOf(addr)
			there := a.Scope.worksOnlyAt(addr, a.Address) && b.Scope.worksOnlyAt(addr, b.Address)
			return []string{node}, known && primary && there && (where == nil || slices.Contains(where, node))
		}
	}
	return nil, false
}

// worksOnlyAt reports whether a claim on mine, where its node is undecided, can work on no node but that which has
// addr, because it names addr.
func (s Scope) worksOnlyAt(addr netip.Addr, mine Address) bool {
	own, single := mine.Single()
	return s.Kind != Undecided || (single && own == addr)
}

// meet returns the nodes that certainly have both scopes; nil and true for every node or one not known yet.
func (s Scope) meet(o Scope, mine, theirs Address, nodes Nodes) ([]string, bool) {
	switch {
	case s.Kind == AtAddress && o.Kind == AtAddress:
		return nil, true // the addresses overlap, so they are one, whoever has it
	case s.Kind == AtAddress:
		return o.meetAddress(theirs, mine, nodes)
	case o.Kind == AtAddress:
		return s.meetAddress(mine, theirs, nodes)
	case s.Kind == Everywhere:
		return o.Nodes(), !o.isNowhere()
	case o.Kind == Everywhere:
		return s.Nodes(), !s.isNowhere()
	case s.Kind == Undecided || o.Kind == Undecided:
		return nil, false
	case s.Kind == OnNode:
		return s.Nodes(), o.Has(s.Nodes()[0])
	case o.Kind == OnNode:
		return o.Nodes(), s.Has(o.Nodes()[0])
	}
	both := intersect(s.Nodes(), o.Nodes())
	return both, len(both) > 0
}

// meetAddress is meet where the other claim sits on the node, if any, that has the single address at.
func (s Scope) meetAddress(mine, at Address, nodes Nodes) ([]string, bool) {
	addr, single := at.Single()
	if !single || addr.IsLoopback() {
		return nil, false
	}
	node, _, known := nodes.NodeOf(addr)
	if !known {
		return nil, false
	}
	return []string{node}, s.Has(node) || (s.Kind == Undecided && s.worksOnlyAt(addr, mine))
}

func intersect(a, b []string) []string {
	var both []string
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0] < b[0]:
			a = a[1:]
		case b[0] < a[0]:
			b = b[1:]
		default:
			both = append(both, a[0])
			a, b = a[1:], b[1:]
		}
	}
	return both
}
