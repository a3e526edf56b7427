package webhook

import (
	"context"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/journal"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// Journal is where the replicas write what they let through: see journal.Journal.
type Journal interface {
	// Append returns when everything that any replica has appended before has been passed to Handlers.Merge, and isDue
	// has been asked: what it reports false for is not written.
	Append(ctx context.Context, e journal.Entry, isDue func() bool) error
	// Withdraw says that what was appended is not let through after all.
	Withdraw(e journal.Entry)
}

// UseJournal has the handlers agree with those of other replicas. Without one there are no others.
func (h *Handlers) UseJournal(j Journal) { h.journal = j }

// Merge takes up what other replicas are about to let through. Requests that are being judged now are judged again, also if
// the cluster shows the object: it may not have when they were.
func (h *Handlers) Merge(entries []journal.Entry) {
	for _, e := range entries {
		shown := h.cluster.Shown(context.Background(), e.Owner.Ref)
		h.deciding.Lock()
		if e.UID != "" && e.After == 0 && !e.Withdrawn {
			h.dropPlaceholdersOf(e.Owner.Ref, e.Claims)
		}
		_, claims, _ := h.cluster.Snapshot().Owner(e.Owner.Ref)
		if e.Withdrawn {
			h.flight.withdraw(e.Owner.Ref, e.UID, e.Claims)
		} else if shown != nil && e.UID != "" && shown.UID == e.UID && (e.After == 0 || shown.Version > e.After) && covers(shown.Claims, e.Claims) && covers(claims, e.Claims) {
			h.flight.drop(e.Owner.Ref, e.Claims) // what was known before it had a uid
			h.flight.touch(e.Claims)
		} else {
			h.flight.record(e.Owner, write{claims: e.Claims, uid: e.UID, after: e.After, shared: h.now(), grace: graceOf(e)})
		}
		h.deciding.Unlock()
	}
}

func graceOf(e journal.Entry) time.Duration {
	if e.IsShort {
		return shortGrace
	}
	return graceTime
}

// agree has the other replicas know of the write that d let through and that is in flight, before the client gets the answer. If
// another replica was first, the write yields: it is judged again, and not shared unless it can still be let through. Of two
// writes that meet, the one that was shared first is therefore never refused for the other.
//
// With the short grace it answers soon after the others have heard of the write, or tells them that it has the long one: they count
// from then, and a replica may be stopped for seconds, or wait for a slow etcd.
func (h *Handlers) agree(ctx context.Context, d decision, in check.Input, owner ports.Owner, made write) decision {
	defer h.undo(owner.Ref, d.number)
	w, ok := h.toShare(in, owner.Ref, made, d.number)
	if !ok {
		h.admitted(owner.Ref, d.number, time.Time{}, 0)
		return d
	}
	entry := journal.Entry{Owner: owner, UID: w.uid, After: w.after, Claims: made.claims, IsShort: w.grace == shortGrace}
	judgedAt := w.number
	for range admitRounds {
		var isOvertaken bool
		start, isLonger := h.now(), graceOf(entry) > w.grace
		err := h.journal.Append(ctx, entry, func() bool {
			isOvertaken = !h.stands(in, made.claims, judgedAt)
			return !isOvertaken && (isLonger || !h.isShared(owner.Ref, made))
		})
		if err != nil {
			return later(h.settings, "the replicas cannot agree on it: "+err.Error())
		}
		if !isOvertaken && entry.IsShort && h.now().Sub(start) > sharedTime {
			entry.IsShort = false
			continue
		}
		if !isOvertaken {
			h.admitted(owner.Ref, w.number, h.now(), graceOf(entry))
			return d
		}
		base, flying, version := h.look()
		if again := h.settleDenial(ctx, in, base, flying); again.verdict == check.Denied || again.busy {
			return again
		}
		judgedAt = version
	}
	return later(h.settings, "other requests for its ports came first")
}

// stands reports whether what was recorded since a write was judged, at a version, lets it pass all the same. It reads nothing: what
// is refused here may turn out not to exist.
func (h *Handlers) stands(in check.Input, claims []ports.Claim, judgedAt uint64) bool {
	h.deciding.Lock()
	isAsJudged := !h.flight.changed(claims, judgedAt)
	h.deciding.Unlock()
	if isAsJudged {
		return true
	}
	base, flying, _ := h.look()
	in.Held = flying.Over(base)
	return h.judge(in).verdict != check.Denied
}

// toShare returns the write that was made and is in flight, if other replicas must know of it and do not. Those that cannot be
// refused by what another replica lets through need not be known: what claims nothing now or nothing new, what a template has
// agreed on for its pods, and pods that may go to another node.
func (h *Handlers) toShare(in check.Input, owner ports.Ref, made write, number uint64) (write, bool) {
	claims := made.claims
	if h.journal == nil || len(claims) == 0 || claims[0].Idle {
		return write{}, false
	}
	var old []ports.Claim
	switch {
	case in.OldService != nil:
		old = in.OldService.Claims
	case in.OldWorkload != nil:
		old = in.OldWorkload.Claims
	}
	if !adds(old, claims) || in.Workload != nil && !h.isForAll(in.Workload) {
		return write{}, false
	}
	h.deciding.Lock()
	defer h.deciding.Unlock()
	w := h.flight.numbered(owner, number)
	if w == nil || w.isFree || h.isKnownToAll(w) {
		return write{}, false
	}
	return *w, true
}

func (h *Handlers) isKnownToAll(w *write) bool {
	return !w.shared.IsZero() && h.now().Sub(w.shared) < sharedTime
}

// isForAll reports whether a pod or template may be refused for what another replica lets through, or the other way round.
func (h *Handlers) isForAll(w *check.Workload) bool {
	if !w.IsPod {
		return true
	}
	return slices.ContainsFunc(w.Claims, func(c ports.Claim) bool {
		_, pinned := c.Scope.Node()
		_, single := c.Address.Single()
		return pinned || single && !c.Address.IsLoopback() || h.settings.Check.NodePortRange.Contains(c.Port)
	})
}

// isOfTemplate reports whether an object is made by a controller that the cluster shows, with the uid that the object
// names and all of its claims: the template has been agreed on.
func (h *Handlers) isOfTemplate(ctx context.Context, object metav1.Object, w *check.Workload) bool {
	ref, uid, ok := controllerOf(object)
	return ok && h.excuses(h.cluster.Shown(ctx, ref), uid, w)
}

// isShared reports whether the other replicas know of a write. It is not enough that they know of the mutating webhook's, which has
// no uid: that may have been about an object that had the name before.
func (h *Handlers) isShared(owner ports.Ref, made write) bool {
	h.deciding.Lock()
	defer h.deciding.Unlock()
	w := h.flight.find(owner, made.uid, made.claims)
	return w != nil && h.isKnownToAll(w)
}

// admitted notes that a write is let through, since when the other replicas know of it, if they do, and with what grace.
func (h *Handlers) admitted(owner ports.Ref, number uint64, shared time.Time, grace time.Duration) {
	h.deciding.Lock()
	defer h.deciding.Unlock()
	if w := h.flight.numbered(owner, number); w != nil && !shared.IsZero() {
		w.shared, w.grace = shared, grace
	}
	h.flight.admit(owner, number)
}

// undo forgets a write that is still open: it is not let through after all.
func (h *Handlers) undo(owner ports.Ref, number uint64) {
	h.deciding.Lock()
	defer h.deciding.Unlock()
	h.flight.deleteWrites(owner, func(w write) bool { return w.number == number && w.isOpen })
}
