package webhook

import (
	"context"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/journal"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// Journal is where the replicas write what they let through: see journal.Journal.
type Journal interface {
	// Append returns when everything that any replica has appended before has been passed to Gate.Merge. What known reports
	// true for need not be written.
	Append(ctx context.Context, e journal.Entry, known func() bool) error
}

// UseJournal has the handlers agree with those of other replicas. Without one there are no others.
func (g *Gate) UseJournal(j Journal) { g.journal = j }

// Merge takes up what other replicas are about to let through.
func (g *Gate) Merge(entries []journal.Entry) {
	for _, e := range entries {
		shown := g.cluster.Shown(context.Background(), e.Owner.Ref)
		if shown != nil && shown.UID == e.UID && covers(shown.Claims, e.Claims) {
			continue
		}
		g.deciding.Lock()
		g.flight.record(e.Owner, write{claims: e.Claims, uid: e.UID, shared: true})
		g.deciding.Unlock()
	}
}

// agree has the other replicas know of a write that was let through by d and is in flight, before the client gets the
// answer. If another replica was first, the write yields: it is judged again.
func (g *Gate) agree(ctx context.Context, d decision, in check.Input, owner ports.Owner, claims []ports.Claim) decision {
	w, ok := g.toShare(in, owner.Ref, claims)
	if !ok {
		return d
	}
	known := func() bool { return g.isShared(owner.Ref, claims) }
	if err := g.journal.Append(ctx, journal.Entry{Owner: owner, UID: w.uid, Claims: claims}, known); err != nil {
		g.undo(owner.Ref, w.number)
		return later(g.settings, "the replicas cannot agree on it: "+err.Error())
	}
	if !g.shared(owner.Ref, w, claims) {
		return d // nobody else has come meanwhile
	}
	base, flying, _ := g.look()
	if again := g.settleDenial(ctx, in, base, flying); again.verdict == check.Denied || again.busy {
		g.undo(owner.Ref, w.number)
		return again
	}
	return d
}

// toShare returns the write with claims, if other replicas must know of it and do not. Those that cannot be refused by what
// another replica lets through need not be known: what claims nothing now or nothing new, what a template has agreed on
// for its pods, and pods that may go to another node.
func (g *Gate) toShare(in check.Input, owner ports.Ref, claims []ports.Claim) (write, bool) {
	if g.journal == nil || len(claims) == 0 || claims[0].Idle {
		return write{}, false
	}
	var old []ports.Claim
	switch {
	case in.OldService != nil:
		old = in.OldService.Claims
	case in.OldWorkload != nil:
		old = in.OldWorkload.Claims
	}
	if covers(old, claims) || in.Workload != nil && !g.isForAll(in.Workload) {
		return write{}, false
	}
	g.deciding.Lock()
	defer g.deciding.Unlock()
	w := g.flight.find(owner, claims)
	if w == nil || w.shared {
		return write{}, false
	}
	return *w, true
}

// isForAll reports whether a pod or template may be refused for what another replica lets through, or the other way round.
func (g *Gate) isForAll(w *check.Workload) bool {
	state := g.cluster.Snapshot()
	for _, controller := range state.Chain(&w.Owner)[1:] {
		if _, claims, ok := state.Owner(controller); ok && check.CoversActively(claims, w.Claims) {
			return false
		}
	}
	if !w.IsPod {
		return true
	}
	for _, c := range w.Claims {
		if _, pinned := c.Scope.Node(); pinned || g.settings.Check.NodePortRange.Contains(c.Port) {
			return true
		}
	}
	return false
}

func (g *Gate) isShared(owner ports.Ref, claims []ports.Claim) bool {
	g.deciding.Lock()
	defer g.deciding.Unlock()
	w := g.flight.find(owner, claims)
	return w != nil && w.shared
}

// shared notes that the other replicas know of a write, and reports whether one of its ports was recorded since.
func (g *Gate) shared(owner ports.Ref, w write, claims []ports.Claim) bool {
	g.deciding.Lock()
	defer g.deciding.Unlock()
	if e, ok := g.flight.owners[owner]; ok {
		for i := range e.writes {
			e.writes[i].shared = e.writes[i].shared || e.writes[i].number == w.number
		}
	}
	return g.flight.changed(claims, w.number)
}

// undo forgets a write.
func (g *Gate) undo(owner ports.Ref, number uint64) {
	g.deciding.Lock()
	defer g.deciding.Unlock()
	g.flight.deleteWrites(owner, func(w write) bool { return w.number == number })
}
