// Package ledger keeps who holds which port, now.
//
// A Ledger is written to: Replace sets all claims of an owner, Release forgets an owner, ReplaceNode sets the addresses
// of a node. Its Snapshots are immutable, and any number of readers use them without a lock. A Snapshot answers which
// held claims cannot work beside a wanted one (Conflicts), who holds a socket (Holders), and which controller is on top
// of an owner (Root). Over lays one Snapshot over another, as the webhook does with what is in flight and what the
// cluster shows; With and Without return changed copies.
//
// The package knows claims, their owners and the nodes' addresses, and nothing of where they come from: pkg/observe feeds
// a Ledger from a cluster, pkg/audit from a list of objects. Answers are sorted, so that they never depend on the order
// of writes.
package ledger

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// Ledger is the current state. The zero Ledger is empty and ready. All methods may be called from many goroutines.
type Ledger struct {
	writing sync.Mutex
	current atomic.Pointer[Snapshot]
	chains  map[ports.Ref]*ports.Owner // what dependents said of their controller, shared between them
}

// Snapshot returns the state as it is now. It costs one atomic load and never changes afterwards.
func (l *Ledger) Snapshot() *Snapshot {
	if s := l.current.Load(); s != nil {
		return s
	}
	return &Snapshot{}
}

// Replace makes claims the only claims of owner. Each claim's Owner is set to owner. An owner with no claims stays
// known, so that a ReplicaSet that was scaled to nothing still leads from its last pods to their Deployment, and a Service to
// its cluster IPs.
func (l *Ledger) Replace(owner ports.Owner, claims []ports.Claim) {
	l.write(func(s *Snapshot) { s.replace(l.shared(owner), claims) })
}

// shared lets the pods of one controller share what they say of it.
func (l *Ledger) shared(owner ports.Owner) ports.Owner {
	said := owner.Controller
	if said == nil {
		return owner
	}
	known, ok := l.chains[said.Ref]
	if !ok || !sameChain(known, said) {
		if owners, _, _ := l.Snapshot().Size(); l.chains == nil || len(l.chains) > 1024+owners {
			l.chains = map[ports.Ref]*ports.Owner{} // those of controllers long gone among them
		}
		l.chains[said.Ref] = said
		return owner
	}
	owner.Controller = known
	if owner.Namespace == known.Namespace {
		owner.Namespace = known.Namespace // one string for both
	}
	return owner
}

// Release forgets an owner and its claims. An owner that is not known is no error.
func (l *Ledger) Release(owner ports.Ref) {
	l.write(func(s *Snapshot) { s.release(owner) })
}

// ReplaceNode records the addresses of a node. The first address of each family is its primary one.
func (l *Ledger) ReplaceNode(name string, addresses []netip.Addr) {
	l.write(func(s *Snapshot) {
		s.releaseNode(name)
		s.replaceNode(name, addresses)
	})
}

// ReleaseNode forgets a node's addresses. Claims on the node stay until their owners release them.
func (l *Ledger) ReleaseNode(name string) {
	l.write(func(s *Snapshot) { s.releaseNode(name) })
}

func sameChain(a, b *ports.Owner) bool {
	for a != nil && b != nil && a.Ref == b.Ref {
		a, b = a.Controller, b.Controller
	}
	return a == nil && b == nil
}

func (l *Ledger) write(change func(*Snapshot)) {
	l.writing.Lock()
	defer l.writing.Unlock()
	next := *l.Snapshot()
	change(&next)
	l.current.Store(&next)
}

// record is all that the ledger knows of an owner.
type record struct {
	owner  ports.Owner
	claims []ports.Claim
	single [1]ports.Claim // where claims lies if it is one, as it is for most: half as many objects to look after
}

func (r *record) key() refKey { return refKey(r.owner.Ref) }

// bucket holds the claims on one number.
type bucket struct {
	number number
	wide   []*ports.Claim // on every node, or on each of a set
	spots  tree[place, *spot]
}

func (b *bucket) key() number { return b.number }

func (b *bucket) isEmpty() bool { return len(b.wide) == 0 && b.spots.size == 0 }

// spot is a list of the claims on one number at one place; nearly always it is one.
type spot struct {
	claim *ports.Claim
	next  *spot
}

func (s *spot) key() place { return placeOf(s.claim) }

// without returns the list without the claims of owner; nil if nothing is left.
func (s *spot) without(owner *ports.Owner) *spot {
	if s == nil {
		return nil
	}
	rest := s.next.without(owner)
	switch {
	case s.claim.Owner == owner:
		return rest
	case rest == s.next:
		return s
	default:
		return &spot{s.claim, rest}
	}
}

// address is one address of a node.
type address struct {
	addr    netip.Addr
	node    string
	primary bool
}

func (a *address) key() addrKey { return addrKey(a.addr) }

// clusterIP is an address at which a Service is reached inside the cluster.
type clusterIP struct {
	addr  netip.Addr
	owner *ports.Owner
}

func (c *clusterIP) key() addrKey { return addrKey(c.addr) }

// machine is a node and its addresses.
type machine struct {
	name      string
	scope     ports.Scope // shared by the claims on the node
	addresses []netip.Addr
}

func (m *machine) key() nodeKey { return nodeKey(m.name) }

func (s *Snapshot) replace(owner ports.Owner, claims []ports.Claim) {
	old, _ := s.owners.get(refKey(owner.Ref))
	r := &record{owner: owner}
	r.claims = append(r.single[:0], claims...)
	for i := range r.claims {
		c := &r.claims[i]
		c.Owner = &r.owner
		if node, ok := c.Scope.Node(); ok {
			if m, ok := s.nodes.get(nodeKey(node)); ok {
				c.Scope = m.scope
			}
		}
	}
	var before []ports.Claim
	if old != nil {
		before = old.claims
		s.releaseIPs(&old.owner)
	}
	for _, addr := range owner.ClusterIPs {
		s.clusterIPs = s.clusterIPs.with(&clusterIP{addr, &r.owner})
	}
	s.reindex(before, r.claims)
	s.owners = s.owners.with(r)
}

func (s *Snapshot) release(owner ports.Ref) {
	r, ok := s.owners.get(refKey(owner))
	if !ok {
		return
	}
	s.reindex(r.claims, nil)
	s.releaseIPs(&r.owner)
	s.owners = s.owners.without(refKey(owner))
}

// releaseIPs forgets an owner's cluster IPs, but for those that another Service has got since.
func (s *Snapshot) releaseIPs(owner *ports.Owner) {
	for _, addr := range owner.ClusterIPs {
		if c, ok := s.clusterIPs.get(addrKey(addr)); ok && c.owner == owner {
			s.clusterIPs = s.clusterIPs.without(addrKey(addr))
		}
	}
}

// reindex takes the claims in out from the numbers and puts those in in there. Each number is written once: most
// updates of an owner leave its numbers as they were.
func (s *Snapshot) reindex(out, in []ports.Claim) {
	s.claims += len(in) - len(out)
	var few [4]move // on the stack: most owners have one claim or two
	moves := few[:0]
	for i := range out {
		moves = append(moves, move{number{out[i].Protocol, out[i].Port}, &out[i], false})
	}
	for i := range in {
		moves = append(moves, move{number{in[i].Protocol, in[i].Port}, &in[i], true})
	}
	if len(moves) > 2 {
		slices.SortStableFunc(moves, func(a, b move) int { return a.number.compare(b.number) })
	}
	for len(moves) > 0 {
		n := moves[0].number
		b := bucket{number: n}
		if old, ok := s.numbers.get(n); ok {
			b = *old
		}
		here := 1
		for here < len(moves) && moves[here].number == n {
			here++
		}
		b.apply(moves[:here])
		moves = moves[here:]
		if b.isEmpty() {
			s.numbers = s.numbers.without(n)
		} else {
			s.numbers = s.numbers.with(&b)
		}
		s.book = s.book.with(n.port, s.isBooked(n.port))
	}
}

// isBooked looks through the claims on port for one of the book of node ports.
func (s *Snapshot) isBooked(port uint16) bool {
	for _, protocol := range ports.Protocols() {
		if b, ok := s.numbers.get(number{protocol, port}); ok && slices.ContainsFunc(b.wide, isOfBook) {
			return true
		}
	}
	return false
}

func isOfBook(c *ports.Claim) bool { return c.Kind.IsNodePortAllocated() }

// move is a claim that comes to a number or leaves it.
type move struct {
	number number
	claim  *ports.Claim
	comes  bool
}

// apply brings the moves on one number to its bucket. The claims that leave are all that their owner has there: a place
// is cleared of them at once, not claim by claim, for one pod may have thousands of addresses on a number.
func (b *bucket) apply(moves []move) {
	var wide []*ports.Claim
	cleared := map[place]bool{}
	for _, m := range moves {
		c := m.claim
		switch {
		case m.comes && isWide(c):
			wide = append(wide, c)
		case m.comes:
			others, _ := b.spots.get(placeOf(c))
			b.spots = b.spots.with(&spot{c, others})
		case isWide(c) && !cleared[""]:
			cleared[""] = true
			b.wide = slices.DeleteFunc(slices.Clone(b.wide), func(other *ports.Claim) bool { return other.Owner == c.Owner })
		case !isWide(c) && !cleared[placeOf(c)]:
			cleared[placeOf(c)] = true
			b.clear(placeOf(c), c.Owner)
		}
	}
	if len(wide) > 0 {
		b.wide = slices.Concat(b.wide, wide)
	}
}

func (b *bucket) clear(p place, owner *ports.Owner) {
	at, _ := b.spots.get(p)
	if left := at.without(owner); left != nil {
		b.spots = b.spots.with(left)
	} else {
		b.spots = b.spots.without(p)
	}
}

func isWide(c *ports.Claim) bool {
	return c.Scope.Kind == ports.Everywhere || c.Scope.Kind == ports.OnEach
}

func (s *Snapshot) replaceNode(name string, addresses []netip.Addr) {
	m := &machine{name: name, scope: ports.NodeScope(name)}
	seen := map[bool]bool{} // a family of which the primary address was seen
	for _, addr := range addresses {
		addr = addr.Unmap().WithZone("")
		m.addresses = append(m.addresses, addr)
		s.addresses = s.addresses.with(&address{addr: addr, node: name, primary: !seen[addr.Is4()]})
		seen[addr.Is4()] = true
	}
	s.nodes = s.nodes.with(m)
}

func (s *Snapshot) releaseNode(name string) {
	m, ok := s.nodes.get(nodeKey(name))
	if !ok {
		return
	}
	for _, addr := range m.addresses {
		// The address may have moved to another node since.
		if a, ok := s.addresses.get(addrKey(addr)); ok && a.node == name {
			s.addresses = s.addresses.without(addrKey(addr))
		}
	}
	s.nodes = s.nodes.without(nodeKey(name))
}
