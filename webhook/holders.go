package webhook

import (
	"context"
	"slices"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/observe"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// maxHolders bounds how many holders are read from the API server for one request.
const maxHolders = 8

// settleDenial judges an object against what the cluster shows, base, and what is in flight. Before it denies it reads the
// holder from the API server: the watch may be late, and what is in flight may have failed.
//
//	the API server has the holder with the port    -> denied, 422
//	it has not, and a write is within its grace    -> looked at again for a fifth of a second, then PC0203, 429: the client
//	                                                  tries again in a second
//	it has not                                     -> as if there were no such holder
func (h *Handlers) settleDenial(ctx context.Context, in check.Input, base, flying *ledger.Snapshot) decision {
	in.Held, in.Nowhere = flying.Over(base), func(holder ports.Ref) bool { return h.runsNowhere(ctx, holder) }
	d := h.judge(in)
	if d.verdict != check.Denied {
		return d
	}
	read, again := map[ports.Ref]bool{}, rereads()
	base0, flying0 := base, flying // without what was read
	owners, _, _ := flying.Size()
	isOfBase := owners == 0 // d is what base says
	for reads := 0; reads < maxHolders; {
		if in.Held = base; !isOfBase {
			d = h.judge(in)
		}
		isStored := d.verdict == check.Denied
		if !isStored {
			in.Held = flying.Over(base)
			if d = h.judge(in); d.verdict != check.Denied {
				return d
			}
		}
		holder, ok := unread(d, read)
		switch {
		case !ok && isStored:
			return d
		case !ok && (len(again) == 0 || !h.wait(ctx, again[0])):
			return h.contended(d)
		case !ok:
			clear(read)
			again = again[1:]
			continue
		}
		read[holder] = true
		reads++
		stored, isSlow, err := h.read(ctx, holder)
		if now, nowFlying, _ := h.look(); isNew(holder, base0, now) || isNew(holder, flying0, nowFlying) {
			// What was read may be of before: the watch has shown the holder, or it is no longer in flight.
			base, flying, base0, flying0 = now, nowFlying, now, nowFlying
			isOfBase = false
			clear(read)
			continue
		}
		isOfBase = isStored && stored != nil && isAsKnown(base, stored)
		h.deciding.Lock()
		switch {
		case err != nil:
			logf.FromContext(ctx).Info("A holder could not be read, and is taken to be as it was last seen", "holder", holder.String(), "error", err.Error())
		case stored == nil && isSlow:
			base = base.Without(holder)
		case stored == nil:
			base = base.Without(holder)
			h.flight.found(holder, nil)
		case isOfBase:
			h.flight.found(holder, stored)
		default:
			base = base.With(stored.Owner, stored.Claims)
			h.flight.found(holder, stored)
		}
		if err == nil && !h.flight.isYoung(holder) && (stored != nil || !isSlow) {
			flying = flying.Without(holder)
		}
		h.deciding.Unlock()
	}
	return later(h.settings, "the holders of its ports keep changing")
}

// slowRead is how long a read takes that does not show that a write has failed: what delayed it, etcd or the processor, may have
// delayed the write as well.
const slowRead = 250 * time.Millisecond

// read returns an object as the API server has it, and whether that was slow: since the first of those who share the read asked.
func (h *Handlers) read(ctx context.Context, ref ports.Ref) (stored *observe.Seen, isSlow bool, err error) {
	own := h.now()
	h.deciding.Lock()
	since := own
	for _, start := range h.reading[ref] {
		if start.Before(since) {
			since = start
		}
	}
	h.reading[ref] = append(h.reading[ref], own)
	h.deciding.Unlock()
	stored, err = h.cluster.Read(ctx, ref)
	h.deciding.Lock()
	defer h.deciding.Unlock()
	i := slices.Index(h.reading[ref], own)
	if h.reading[ref] = slices.Delete(h.reading[ref], i, i+1); len(h.reading[ref]) == 0 {
		delete(h.reading, ref)
	}
	return stored, h.now().Sub(since) > slowRead, err
}

// runsNowhere reports whether no node suits the pods of a holder; false for one that the watch does not show.
func (h *Handlers) runsNowhere(ctx context.Context, holder ports.Ref) bool {
	seen := h.cluster.Shown(ctx, holder)
	return seen != nil && extract.RunsNowhere(seen.Object, h.cluster)
}

// isAsKnown reports whether an object that was read claims what a snapshot knows of it, for the same controllers and at the same
// addresses.
func isAsKnown(s *ledger.Snapshot, stored *observe.Seen) bool {
	owner, claims, known := s.Owner(stored.Owner.Ref)
	isSame := known && slices.Equal(slices.Collect(owner.Chain()), slices.Collect(stored.Owner.Chain())) && slices.Equal(owner.ClusterIPs, stored.Owner.ClusterIPs)
	return isSame && slices.EqualFunc(claims, stored.Claims, func(a, b ports.Claim) bool {
		return a.Same(b) && a.Field == b.Field
	})
}

// isNew reports whether what a snapshot knows of an owner is not what another one knew.
func isNew(owner ports.Ref, before, now *ledger.Snapshot) bool {
	was, _, known := before.Owner(owner)
	is, _, stillKnown := now.Owner(owner)
	return known != stillKnown || was != is
}

// rereads is how long to wait before what is in flight is read again: most of it is stored within milliseconds, and then
// the client gets a refusal that names the holder, and need not try again.
func rereads() []time.Duration {
	return []time.Duration{20 * time.Millisecond, 60 * time.Millisecond, 120 * time.Millisecond}
}

// sleep reports false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// unread returns an owner of claims in the way that has not been read yet. There is none if a finding denies that no
// reading can change.
func unread(d decision, read map[ports.Ref]bool) (holder ports.Ref, ok bool) {
	for _, f := range d.enforced(check.Deny) {
		if f.Holder == nil || f.Holder.Claim.Owner == nil {
			return ports.Ref{}, false
		}
		for _, h := range f.Holders() {
			ref := h.Claim.Owner.Ref
			if read[ref] && f.Code != check.WorkloadsMeet { // which may depend on several holders
				return ports.Ref{}, false
			}
			if !ok && !read[ref] {
				holder, ok = ref, true
			}
		}
	}
	return holder, ok
}

// contended is the answer to a request whose ports are claimed by nothing but other requests that are under way.
func (h *Handlers) contended(d decision) decision {
	findings := d.enforced(check.Deny)
	for i := range findings {
		f := &findings[i]
		*f = check.Finding{Code: check.InFlight, Severity: check.SeverityOf(check.InFlight, ""), Object: f.Object, Field: f.Field, Claim: f.Claim}
	}
	return decision{settings: h.settings, verdict: check.CouldNotTell, findings: findings[:1], busy: true}
}

// exists reports whether a request is to create an object of a name that there is: the API server will say so, and the
// object's ports are not the request's.
func (h *Handlers) exists(ctx context.Context, req admission.Request, owner ports.Ref) bool {
	if req.Operation != admissionv1.Create || owner.Name == "" || !h.isKnown(owner) && h.cluster.Shown(ctx, owner) == nil {
		return false
	}
	stored, isSlow, err := h.read(ctx, owner)
	if err != nil {
		logf.FromContext(ctx).Info("Whether an object exists could not be read; it is taken to be new", "object", owner.String(), "error", err.Error())
		return false
	}
	if stored != nil || !isSlow {
		h.deciding.Lock()
		defer h.deciding.Unlock()
		h.flight.found(owner, stored)
	}
	return stored != nil
}

func (h *Handlers) isKnown(owner ports.Ref) bool {
	base, flying, _ := h.look()
	_, _, isShown := base.Owner(owner)
	_, _, isInFlight := flying.Owner(owner)
	return isShown || isInFlight
}

// Start looks every second for what has been in flight for longer than its grace, until ctx ends: what the API server does
// not have is forgotten. It is a manager's Runnable, for every replica.
func (h *Handlers) Start(ctx context.Context) error {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			h.sweep(ctx)
		}
	}
}

// NeedLeaderElection says that every replica looks after what it remembers.
func (h *Handlers) NeedLeaderElection() bool { return false }

func (h *Handlers) sweep(ctx context.Context) {
	h.deciding.Lock()
	overdue := h.flight.overdue(maxSweep)
	h.deciding.Unlock()
	for _, owner := range overdue {
		stored, isSlow, err := h.read(ctx, owner)
		shown := h.cluster.Shown(ctx, owner)
		h.deciding.Lock()
		switch {
		case err != nil, stored == nil && isSlow:
			h.flight.cannotRead(owner)
		default:
			h.flight.found(owner, stored)
		}
		if _, claims, ok := h.cluster.Snapshot().Owner(owner); ok && stored != nil && shown != nil && shown.UID == stored.UID && shown.Version >= stored.Version && covers(claims, shown.Claims) {
			h.flight.shown(*shown)
		}
		h.deciding.Unlock()
	}
}

// maxSweep bounds how many objects are read in a second.
const maxSweep = 20

// isImpossible reports whether a request is to create an object whose name no API server accepts: it says so itself, after
// the mutating webhooks, and there is nothing to remember.
func isImpossible(req admission.Request, object metav1.Object) bool {
	name := object.GetName()
	if name == "" {
		name = object.GetGenerateName()
	}
	return req.Operation == admissionv1.Create && (len(name) > maxName || len(content.IsPathSegmentName(name)) > 0)
}

// maxName is the longest name that an object may have (k8s.io/apimachinery DNS1123SubdomainMaxLength).
const maxName = 253

// Settle is to be called with what the cluster shows of an object: a write of which that is the outcome need not be
// remembered any longer.
func (h *Handlers) Settle(seen observe.Seen) {
	h.deciding.Lock()
	defer h.deciding.Unlock()
	if !seen.Gone {
		for _, c := range seen.Claims {
			if c.Kind.IsNodePortAllocated() {
				h.repeats.forget(c.Port)
			}
		}
	}
	h.flight.settle(seen)
}
