package webhook

import (
	"net/netip"
	"slices"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/observe"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

const (
	// graceTime is how long a write that was let through counts although the API server does not have it. A request that
	// is stored at all is stored within milliseconds, unless etcd or another webhook is slow.
	graceTime = 5 * time.Second
	// maxWrites bounds what is remembered: the oldest go first.
	maxWrites = 20000
	// maxOwnerWrites bounds what is remembered of one object.
	maxOwnerWrites = 16
	// sharedTime is how long the other replicas certainly know of a write: they forget it after its grace, which may be the short
	// one.
	sharedTime = shortGrace / 2
	// A namespace with maxFailures writes within failureTime that never were stored has next to no grace: a tenant whose
	// quota is used up could keep any port from others by creating in a loop. Which grace a write has the replica says that lets it
	// through, also to the others: what it needs between telling them and answering must be little beside it.
	maxFailures   = 10
	shortGrace    = time.Second
	maxUnread     = 12 // reads of an object that fail, after which it is forgotten
	failureTime   = 10 * time.Minute
	maxNamespaces = 4096 // of which failures are counted
)

// flight remembers writes that were let through and that the cluster does not show yet, so that the next request is judged
// against them too, and no port is allocated twice. It only ever adds to what the cluster shows: see ledger.Snapshot.Over.
// Its users hold Handlers.deciding.
//
//	record -> the watch shows the outcome            -> settle
//	       -> the API server does not have it (grace) -> found, after a live read
type flight struct {
	now      func() time.Time
	ledger   ledger.Ledger // what all of them claim
	owners   map[ports.Ref]*inFlight
	queue    []deadline        // in order of time
	version  uint64            // counts what was recorded
	latest   map[uint16]uint64 // the last version that claims a port
	failures map[string]failures
}

// inFlight is one object with the writes to it, the oldest first.
type inFlight struct {
	owner  ports.Owner
	writes []write
	unread int // how often it could not be read
}

// write is one request that was let through.
type write struct {
	claims []ports.Claim
	at     time.Time // of the last answer to it, or since when it is open
	grace  time.Duration
	first  time.Time // of the first answer to it, or to the one that it repeats
	stored bool      // a live read has found it
	isOpen bool      // it may yet be refused: the other replicas have not agreed. It is not forgotten before it is closed
	shared time.Time // when the other replicas were known to know of it
	isFree bool      // the other replicas need not know of it
	number uint64    // flight.version when it was recorded
	// What tells its outcome from earlier states of the object.
	uid   types.UID // of the object; "" while it has none
	after uint64    // the resourceVersion that it changes
}

type deadline struct {
	ref ports.Ref
	at  time.Time
}

type failures struct {
	n     int
	until time.Time
}

func newFlight(now func() time.Time) *flight {
	return &flight{now: now, owners: map[ports.Ref]*inFlight{}, latest: map[uint16]uint64{}, failures: map[string]failures{}}
}

// record remembers a write, and returns its number. It takes the place of earlier ones that it covers, those of the mutating
// webhook, of which it is the outcome, among them: at once, or once it is admitted if it is still open.
func (f *flight) record(owner ports.Owner, w write) uint64 {
	if len(w.claims) == 0 {
		return 0
	}
	w.at = f.now()
	w.first = w.at
	if w.grace == 0 {
		w.grace = f.grace(owner.Ref.Namespace)
	}
	e := f.owners[owner.Ref]
	if e == nil {
		e = &inFlight{}
		f.owners[owner.Ref] = e
	}
	e.owner = owner
	e.writes = slices.DeleteFunc(e.writes, func(earlier write) bool {
		if !w.replaces(earlier) {
			return false
		}
		if earlier.uid == w.uid && earlier.shared.After(w.shared) && covers(earlier.claims, w.claims) {
			w.shared = earlier.shared
		}
		if earlier.isOpen {
			return false // its own request still counts on it
		}
		if !earlier.stored && earlier.uid == w.uid && earlier.after == w.after {
			// A request that is repeated again and again, and never stored, has one grace and not one each time.
			if w.first = earlier.first; w.at.Sub(w.first) > graceTime {
				w.at = earlier.at
			}
			w.grace = max(w.grace, earlier.grace) // the others may have been told the longer one
		}
		return !w.isOpen
	})
	w.number = f.version + 1
	e.writes = append(e.writes, w)
	if len(e.writes) > maxOwnerWrites {
		oldest := max(0, slices.IndexFunc(e.writes, func(w write) bool { return !w.isOpen }))
		e.writes = slices.Delete(e.writes, oldest, oldest+1)
	}
	f.touch(w.claims)
	if !w.isOpen {
		f.enqueue(owner.Ref, w.at)
	}
	f.refresh(owner.Ref)
	return w.number
}

// enqueue has overdue return an owner when a grace that began at a moment is over. Open writes come into the queue when they are
// admitted: there are no more of them than requests are being judged.
func (f *flight) enqueue(owner ports.Ref, at time.Time) {
	f.queue = append(f.queue, deadline{owner, at})
	if len(f.queue) > maxWrites {
		f.dropBefore(f.queue[0].ref, f.queue[0].at.Add(1))
		f.queue = f.queue[1:]
	}
}

// replaces reports whether nothing of an earlier write to the same owner is left to remember beside w.
func (w write) replaces(earlier write) bool {
	return (earlier.uid == "" || earlier.uid == w.uid) && covers(w.claims, earlier.claims)
}

// admit notes that a write that was open is let through: its grace begins with the answer.
func (f *flight) admit(owner ports.Ref, number uint64) {
	w := f.numbered(owner, number)
	if w == nil || !w.isOpen {
		return
	}
	w.isOpen = false
	if now := f.now(); now.After(w.at) && (w.at.Equal(w.first) || now.Sub(w.first) <= graceTime) {
		w.at = now
	}
	admitted := *w
	f.deleteWrites(owner, func(earlier write) bool {
		return earlier.number < number && !earlier.isOpen && admitted.replaces(earlier)
	})
	f.enqueue(owner, admitted.at)
}

// numbered returns a write by its number; nil if it is no longer remembered, as a later one has taken its place.
func (f *flight) numbered(owner ports.Ref, number uint64) *write {
	if e, ok := f.owners[owner]; ok {
		for i := range e.writes {
			if e.writes[i].number == number {
				return &e.writes[i]
			}
		}
	}
	return nil
}

// find returns the last write to an owner with all of claims and a uid: one with another uid is about an object that had the name
// before, or has it next.
func (f *flight) find(owner ports.Ref, uid types.UID, claims []ports.Claim) *write {
	e, ok := f.owners[owner]
	if !ok {
		return nil
	}
	for i := len(e.writes) - 1; i >= 0; i-- {
		if e.writes[i].uid == uid && covers(e.writes[i].claims, claims) {
			return &e.writes[i]
		}
	}
	return nil
}

// changed reports whether a port of claims was recorded after a version.
func (f *flight) changed(claims []ports.Claim, since uint64) bool {
	return f.version != since && slices.ContainsFunc(claims, func(c ports.Claim) bool { return f.latest[c.Port] > since })
}

// writeOf is the write of a request: of an object as it is to be stored, and as it is stored, nil for a create.
func writeOf(object, old metav1.Object, claims []ports.Claim) *write {
	w := &write{claims: claims, uid: object.GetUID()}
	if old != nil {
		w.uid = old.GetUID()                                             // a client may leave it out
		w.after, _ = strconv.ParseUint(old.GetResourceVersion(), 10, 64) // 0, not known, is before everything
	}
	return w
}

// drop forgets the writes to an owner that are refused now, or have got a name: those without a uid and no other claims.
func (f *flight) drop(owner ports.Ref, claims []ports.Claim) { f.withdraw(owner, "", claims) }

// withdraw forgets the writes to an owner with a uid and no other claims, but for those of requests that are being judged.
func (f *flight) withdraw(owner ports.Ref, uid types.UID, claims []ports.Claim) {
	f.deleteWrites(owner, func(w write) bool { return w.uid == uid && !w.isOpen && covers(claims, w.claims) })
}

// dropBefore forgets the writes to an owner that were answered before a moment and are not known to be stored.
func (f *flight) dropBefore(owner ports.Ref, moment time.Time) {
	f.deleteWrites(owner, func(w write) bool { return !w.stored && !w.isOpen && w.at.Before(moment) })
}

// settle forgets the writes of which the cluster shows the outcome. An object that is gone settles nothing: its successor of
// the same name may be what is waited for. Nor does one settle a create whose uid is not known: it may be the predecessor.
// That one is forgotten after its grace, see shown.
func (f *flight) settle(seen observe.Seen) {
	if seen.Gone {
		return
	}
	f.deleteWrites(seen.Owner.Ref, func(w write) bool {
		isBefore := seen.Version != 0 && seen.Version <= w.after
		return w.uid == seen.UID && !isBefore && covers(seen.Claims, w.claims)
	})
}

// deleteWrites forgets writes to an owner.
func (f *flight) deleteWrites(owner ports.Ref, which func(write) bool) {
	e, ok := f.owners[owner]
	if !ok {
		return
	}
	before := len(e.writes)
	e.writes = slices.DeleteFunc(e.writes, which)
	if len(e.writes) == 0 {
		delete(f.owners, owner)
	}
	if len(e.writes) < before {
		f.refresh(owner)
	}
}

// refresh writes an owner's claims into the ledger.
func (f *flight) refresh(owner ports.Ref) {
	e, ok := f.owners[owner]
	if !ok {
		f.ledger.Release(owner)
		return
	}
	claims := e.writes[0].claims
	for _, w := range e.writes[1:] {
		claims = slices.Concat(claims, w.claims)
	}
	f.ledger.Replace(e.owner, claims)
}

// grace returns how long a write in a namespace counts although the API server does not have it.
func (f *flight) grace(namespace string) time.Duration {
	if c := f.failures[namespace]; c.n >= maxFailures && c.until.After(f.now()) {
		return shortGrace
	}
	return graceTime
}

// isYoung reports whether a write counts although the API server does not have it.
func (w write) isYoung(now time.Time) bool { return w.isOpen || w.at.Add(w.grace).After(now) }

// isYoung reports whether a write to an owner is within its grace.
func (f *flight) isYoung(owner ports.Ref) bool {
	e, ok := f.owners[owner]
	return ok && slices.ContainsFunc(e.writes, func(w write) bool { return w.isYoung(f.now()) })
}

// found brings what a live read has found, nil for no such object: writes beyond their grace that it does not have are
// forgotten, and count as failures of their namespace.
func (f *flight) found(owner ports.Ref, stored *observe.Seen) {
	now := f.now()
	failed := 0
	f.deleteWrites(owner, func(w write) bool {
		gone := !f.isStored(w, stored) && !w.isYoung(now)
		if gone && !w.stored {
			failed++ // else it was stored, and has been deleted
		}
		return gone
	})
	if e, ok := f.owners[owner]; ok {
		for i := range e.writes {
			e.writes[i].stored = f.isStored(e.writes[i], stored)
		}
		f.again(owner)
	}
	f.failed(owner.Namespace, failed)
}

func (*flight) isStored(w write, stored *observe.Seen) bool {
	return stored != nil && (w.uid == "" || w.uid == stored.UID) && covers(stored.Claims, w.claims)
}

func (f *flight) failed(namespace string, n int) {
	if n == 0 {
		return
	}
	c, now := f.failures[namespace], f.now()
	if !c.until.After(now) {
		c = failures{until: now.Add(failureTime)}
	}
	c.n += n
	if len(f.failures) >= maxNamespaces {
		clear(f.failures)
	}
	f.failures[namespace] = c
}

// overdue returns owners with writes beyond their grace that are not known to be stored, the oldest first, and at most n.
func (f *flight) overdue(n int) []ports.Ref {
	now := f.now()
	var refs []ports.Ref
	rest := 0
	for rest < len(f.queue) && len(refs) < n && !f.queue[rest].at.Add(graceTime).After(now) {
		ref := f.queue[rest].ref
		rest++
		e, ok := f.owners[ref]
		if !ok || slices.Contains(refs, ref) {
			continue
		}
		if slices.ContainsFunc(e.writes, func(w write) bool { return !w.isYoung(now) }) {
			refs = append(refs, ref)
		}
	}
	f.queue = f.queue[rest:]
	return refs
}

// shown forgets the writes beyond their grace that a live read has found, and that the cluster shows as well in a state that is
// no older: they may have been let through by another replica, and have been shown before this one knew of them.
func (f *flight) shown(seen observe.Seen) {
	now := f.now()
	f.deleteWrites(seen.Owner.Ref, func(w write) bool {
		return w.stored && !w.isYoung(now) && covers(seen.Claims, w.claims)
	})
}

// cannotRead counts that an object could not be read, and forgets it if that goes on.
func (f *flight) cannotRead(owner ports.Ref) {
	e, ok := f.owners[owner]
	if !ok {
		return
	}
	if e.unread++; e.unread > maxUnread {
		f.deleteWrites(owner, func(w write) bool { return !w.isOpen })
		return
	}
	f.again(owner)
}

// touch has requests that are being judged now be judged again, if they want a port of claims.
func (f *flight) touch(claims []ports.Claim) {
	f.version++
	for _, c := range claims {
		f.latest[c.Port] = f.version
	}
}

// again has overdue return an owner once more, in a while.
func (f *flight) again(owner ports.Ref) { f.enqueue(owner, f.now()) }

// covers reports whether had includes each of claims, wherever they are: a hostIP may have been filled in meanwhile. It looks
// at each claim once: one object may have thousands on one port.
func covers(had, claims []ports.Claim) bool {
	type port struct {
		kind     ports.Kind
		protocol ports.Protocol
		port     uint16
		idle     bool
	}
	type single struct {
		port
		addr netip.Addr
	}
	key := func(c ports.Claim) port { return port{c.Kind, c.Protocol, c.Port, c.Idle} }
	some, singles, wide := map[port]bool{}, map[single]bool{}, map[port][]ports.Claim{}
	for _, h := range had {
		some[key(h)] = true
		if addr, ok := h.Address.Single(); ok {
			singles[single{key(h), addr}] = true
		} else {
			wide[key(h)] = append(wide[key(h)], h)
		}
	}
	return !slices.ContainsFunc(claims, func(c ports.Claim) bool {
		addr, ok := c.Address.Single()
		switch {
		case !ok:
			return !some[key(c)]
		case singles[single{key(c), addr}]:
			return false
		default:
			return !slices.ContainsFunc(wide[key(c)], func(h ports.Claim) bool { return h.Overlaps(c.Socket) })
		}
	})
}

// adds reports whether claims take anything that old do not: another port, more addresses, or other nodes.
func adds(old, claims []ports.Claim) bool {
	byPort := map[uint16][]ports.Claim{}
	for _, o := range old {
		byPort[o.Port] = append(byPort[o.Port], o)
	}
	return slices.ContainsFunc(claims, func(c ports.Claim) bool {
		return !slices.ContainsFunc(byPort[c.Port], func(o ports.Claim) bool {
			return o.Kind == c.Kind && o.Idle == c.Idle && o.Covers(c.Socket) && (o.Scope.Equal(c.Scope) || o.Scope.Kind == ports.Everywhere)
		})
	})
}
