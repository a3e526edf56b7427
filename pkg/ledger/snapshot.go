package ledger

import (
	"iter"
	"net/netip"
	"slices"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// Snapshot is the state of a ledger at one moment. It never changes and needs no lock.
type Snapshot struct {
	owners     tree[refKey, *record]
	numbers    tree[number, *bucket]
	nodes      tree[nodeKey, *machine]
	addresses  tree[addrKey, *address]
	clusterIPs tree[addrKey, *clusterIP]
	book       book
	claims     int
	base       *Snapshot // what lies below, for a snapshot made by Over
}

// Over returns a snapshot of the claims of both: s, what is in flight, on top of base, what the cluster shows. s only ever
// adds: a claim that both have is base's, and so is the owner's controller. It costs nothing.
func (s *Snapshot) Over(base *Snapshot) *Snapshot {
	both := *s
	both.base = base
	return &both
}

// With returns a copy of s in which claims are the only claims of owner; Without one in which owner is not known. What lies
// below s stays as it is.
func (s *Snapshot) With(owner ports.Owner, claims []ports.Claim) *Snapshot {
	next := *s
	next.replace(owner, claims)
	return &next
}

// Without returns a copy of s in which owner is not known.
func (s *Snapshot) Without(owner ports.Ref) *Snapshot {
	next := *s
	next.release(owner)
	return &next
}

// layers yields s and what lies below it.
func (s *Snapshot) layers(yield func(*Snapshot) bool) {
	for ; s != nil; s = s.base {
		if !yield(s) {
			return
		}
	}
}

// record finds an owner in the lowest layer that knows it.
func (s *Snapshot) record(ref ports.Ref) (found *record, ok bool) {
	for layer := range s.layers {
		if r, known := layer.owners.get(refKey(ref)); known {
			found, ok = r, true
		}
	}
	return found, ok
}

// isBelow reports whether a layer below s has a claim of s as well.
func (s *Snapshot) isBelow(c *ports.Claim) bool {
	for layer := range s.base.layers {
		r, ok := layer.owners.get(refKey(c.Owner.Ref))
		if ok && slices.ContainsFunc(r.claims, func(o ports.Claim) bool { return c.Same(o) }) {
			return true
		}
	}
	return false
}

// Size returns how many owners, claims and nodes the snapshot knows, without what lies below it.
func (s *Snapshot) Size() (owners, claims, nodes int) { return s.owners.size, s.claims, s.nodes.size }

// Owner returns an owner as it was recorded, and its claims; of one that is in flight and in the cluster, as the cluster has
// it. The caller must not write to them.
func (s *Snapshot) Owner(ref ports.Ref) (*ports.Owner, []ports.Claim, bool) {
	r, ok := s.record(ref)
	if !ok {
		return nil, nil, false
	}
	return &r.owner, r.claims, true
}

// ClaimsOf yields the claims of one owner.
func (s *Snapshot) ClaimsOf(owner ports.Ref) iter.Seq[*ports.Claim] {
	return func(yield func(*ports.Claim) bool) {
		for layer := range s.layers {
			r, ok := layer.owners.get(refKey(owner))
			if !ok {
				continue
			}
			for i := range r.claims {
				if c := &r.claims[i]; !layer.isBelow(c) && !yield(c) {
					return
				}
			}
		}
	}
}

// NodeOf returns the node that has an address, and whether it is the node's primary one of its family.
func (s *Snapshot) NodeOf(addr netip.Addr) (node string, primary, known bool) {
	for layer := range s.layers {
		if a, ok := layer.addresses.get(addrKey(addr)); ok {
			return a.node, a.primary, true
		}
	}
	return "", false, false
}

// ServiceAt returns a Service, but not the one that is asked for, whose cluster IP an address is.
func (s *Snapshot) ServiceAt(addr netip.Addr, but ports.Ref) (*ports.Owner, bool) {
	for layer := range s.layers {
		if c, ok := layer.clusterIPs.get(addrKey(addr)); ok && c.owner.Ref != but {
			return c.owner, true
		}
	}
	return nil, false
}

// HasAddresses reports whether the addresses of any node are known.
func (s *Snapshot) HasAddresses() bool {
	for layer := range s.layers {
		if layer.addresses.size > 0 {
			return true
		}
	}
	return false
}

// IsNodePort reports whether port is a number of the API server's book of node ports that some Service holds, whatever
// the protocol. It is much cheaper than Conflicts, for searching a range that is nearly full.
func (s *Snapshot) IsNodePort(port uint16) bool {
	for layer := range s.layers {
		if layer.book.has(port) {
			return true
		}
	}
	return false
}

// HasHostPort reports whether another pod or template of owner's namespace that wants pods claims a port of its node, whatever
// the protocol; what owner makes aside, which may be on its way out.
func (s *Snapshot) HasHostPort(port uint16, owner *ports.Owner) bool {
	for layer := range s.layers {
		for _, protocol := range ports.Protocols() {
			b, ok := layer.numbers.get(number{protocol, port})
			if !ok {
				continue
			}
			for c := range b.every {
				if c.Kind.OfPod() && !c.InitOnly && !c.Idle && c.Owner.Namespace == owner.Namespace && !slices.Contains(s.Chain(c.Owner), owner.Ref) {
					return true
				}
			}
		}
	}
	return false
}

// Nodes returns the names of the nodes, sorted.
func (s *Snapshot) Nodes() []string {
	var names []string
	for layer := range s.layers {
		for m := range layer.nodes.all() {
			names = append(names, m.name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Claims returns every claim, sorted. It is for listings; it costs as much as the cluster is large.
func (s *Snapshot) Claims() []ports.Claim {
	claims := make([]ports.Claim, 0, s.claims)
	for _, held := range s.Owners() {
		claims = append(claims, held...)
	}
	slices.SortFunc(claims, ports.Claim.Compare)
	return claims
}

// Owners yields every owner with its claims, in no useful order; one that is in flight and in the cluster is yielded for
// each, and the claims that both have once. The caller must not write to them.
func (s *Snapshot) Owners() iter.Seq2[*ports.Owner, []ports.Claim] {
	return func(yield func(*ports.Owner, []ports.Claim) bool) {
		for layer := range s.layers {
			for r := range layer.owners.all() {
				claims := r.claims
				if layer.base != nil {
					claims = slices.DeleteFunc(slices.Clone(claims), func(c ports.Claim) bool { return layer.isBelow(&c) })
				}
				if !yield(&r.owner, claims) {
					return
				}
			}
		}
	}
}

// Holders returns the claims that overlap socket on some node, sorted.
func (s *Snapshot) Holders(socket ports.Socket) []ports.Claim {
	var holders []ports.Claim
	for layer := range s.layers {
		b, ok := layer.numbers.get(number{socket.Protocol, socket.Port})
		if !ok {
			continue
		}
		for c := range b.every {
			if c.Overlaps(socket) && !layer.isBelow(c) {
				holders = append(holders, *c)
			}
		}
	}
	slices.SortFunc(holders, ports.Claim.Compare)
	return holders
}

// Conflicts returns the held claims that certainly cannot work beside wanted, sorted by holder. Claims of wanted's
// own owner and of the same controller are left out; chains of controllers are completed from what the ledger knows.
func (s *Snapshot) Conflicts(wanted ports.Claim) []ports.Conflict {
	var conflicts []ports.Conflict
	for layer := range s.layers {
		for _, protocol := range ports.Protocols() {
			if protocol != wanted.Protocol && !wanted.Kind.IsNodePortAllocated() {
				continue
			}
			b, ok := layer.numbers.get(number{protocol, wanted.Port})
			if !ok {
				continue
			}
			for c := range s.candidates(b, wanted) {
				conflict, ok := ports.Meet(wanted, *c, s)
				if ok && !layer.isBelow(c) && !s.sameController(wanted.Owner, c.Owner) {
					conflicts = append(conflicts, conflict)
				}
			}
		}
	}
	if len(conflicts) > 1 {
		slices.SortFunc(conflicts, func(a, b ports.Conflict) int { return a.Held.Compare(b.Held) })
	}
	return conflicts
}

// candidates yields the claims of b that wanted may meet. For a claim on one node it looks at that node only.
func (s *Snapshot) candidates(b *bucket, wanted ports.Claim) iter.Seq[*ports.Claim] {
	return func(yield func(*ports.Claim) bool) {
		node, onOne := wanted.Scope.Node()
		if !onOne && wanted.Scope.Kind != ports.Undecided {
			b.every(yield)
			return
		}
		for _, c := range b.wide {
			if !yield(c) {
				return
			}
		}
		if b.spots.size == 0 {
			return
		}
		if !onOne {
			// It meets what is held at the one address that it names.
			if addr, ok := wanted.Address.Single(); ok {
				b.at(atAddress(addr), yield)
			}
			return
		}
		if !b.at(place(node), yield) {
			return
		}
		for _, addr := range s.addressesOf(node) {
			if !b.at(atAddress(addr), yield) {
				return
			}
		}
	}
}

// addressesOf returns the addresses of a node.
func (s *Snapshot) addressesOf(node string) []netip.Addr {
	for layer := range s.layers {
		if m, ok := layer.nodes.get(nodeKey(node)); ok {
			return m.addresses
		}
	}
	return nil
}

// at yields the claims at one place.
func (b *bucket) at(p place, yield func(*ports.Claim) bool) bool {
	first, _ := b.spots.get(p)
	for s := first; s != nil; s = s.next {
		if !yield(s.claim) {
			return false
		}
	}
	return true
}

// every yields all claims of the bucket.
func (b *bucket) every(yield func(*ports.Claim) bool) {
	for _, c := range b.wide {
		if !yield(c) {
			return
		}
	}
	for first := range b.spots.all() {
		for s := first; s != nil; s = s.next {
			if !yield(s.claim) {
				return
			}
		}
	}
}

// Chain returns owner's chain of controllers, nearest first and owner itself first of all, completed from the ledger:
// a pod knows its ReplicaSet only, the ReplicaSet's own record knows the Deployment. Of a controller, what the ledger
// knows is newer than what its dependents said.
func (s *Snapshot) Chain(owner *ports.Owner) []ports.Ref { return s.chain(nil, owner) }

func (s *Snapshot) chain(refs []ports.Ref, owner *ports.Owner) []ports.Ref {
	for i := 0; owner != nil && !slices.Contains(refs, owner.Ref); i++ { // a cycle of owner references must not hang us
		refs = append(refs, owner.Ref)
		next := owner.Controller
		if next == nil || i > 0 {
			if r, ok := s.record(owner.Ref); ok && r.owner.Controller != nil {
				next = r.owner.Controller
			}
		}
		owner = next
	}
	return refs
}

// Root returns the last of owner's chain: the object that a person wrote.
func (s *Snapshot) Root(owner *ports.Owner) ports.Ref {
	chain := s.Chain(owner)
	return chain[len(chain)-1]
}

func (s *Snapshot) sameController(a, b *ports.Owner) bool {
	if a == nil || b == nil {
		return false
	}
	if a.Ref == b.Ref {
		return true
	}
	var mine, theirs [4]ports.Ref // on the stack: chains are short
	ours := s.chain(mine[:0], a)
	for _, ref := range s.chain(theirs[:0], b) {
		if slices.Contains(ours, ref) {
			return true
		}
	}
	return false
}
