package webhook

import (
	"slices"
	"time"

	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// How long an answer is remembered at most. What a validating hook let through is as good as stored: the API server ends
// every request after 34 seconds (k8s.io/apiserver requestTimeoutUpperBound), and by then the cluster shows it. What only
// a mutating hook let through may have been refused since, by the API server's own validation for example, and must not
// keep its number from others for long.
const (
	askedTime  = 10 * time.Second
	passedTime = 40 * time.Second
)

// flight remembers what was admitted and has not been seen in the cluster yet, so that the next request is judged
// against it and no number is handed out twice. Its users hold Gate.deciding while they write.
type flight struct {
	ledger ledger.Ledger
	now    func() time.Time
	wanted map[ports.Ref]entry
	queue  [2][]deadline // by phase, each in order of time
}

// entry is what is waited for. The ledger may hold more: an update holds the old claims too until it is through.
type entry struct {
	claims []ports.Claim
	until  time.Time
}

type deadline struct {
	ref ports.Ref
	at  time.Time
}

// phase is how far a request has come.
type phase int

const (
	asked  phase = iota // let through by a mutating hook
	passed              // let through by a validating hook
)

func (p phase) time() time.Duration {
	if p == asked {
		return askedTime
	}
	return passedTime
}

func newFlight(now func() time.Time) *flight {
	return &flight{now: now, wanted: map[ports.Ref]entry{}}
}

// take records that owner was let through with claims; old ones stay held until the cluster shows the new.
func (f *flight) take(p phase, owner ports.Owner, claims, old []ports.Claim) {
	if len(claims) == 0 && len(old) == 0 {
		return
	}
	until := f.now().Add(p.time())
	f.wanted[owner.Ref] = entry{claims, until}
	f.queue[p] = append(f.queue[p], deadline{owner.Ref, until})
	f.ledger.Replace(owner, slices.Concat(claims, old))
}

// drop forgets an owner: its request was refused, or the cluster shows it.
func (f *flight) drop(owner ports.Ref) {
	if _, ok := f.wanted[owner]; ok {
		delete(f.wanted, owner)
		f.ledger.Release(owner)
	}
}

// settle forgets an owner if what the cluster shows of it is what it was let through with. An owner that is gone, or
// holds less, is forgotten by expire.
func (f *flight) settle(owner ports.Ref, shown []ports.Claim) {
	e, ok := f.wanted[owner]
	if !ok {
		return
	}
	for _, c := range e.claims {
		if !slices.ContainsFunc(shown, func(s ports.Claim) bool { return s.Kind == c.Kind && s.Overlaps(c.Socket) }) {
			return
		}
	}
	f.drop(owner)
}

// expire forgets what was never seen. The queues are in order, so that only their heads are looked at.
func (f *flight) expire() {
	now := f.now()
	for p, queue := range f.queue {
		for len(queue) > 0 && !queue[0].at.After(now) {
			if e, ok := f.wanted[queue[0].ref]; ok && !e.until.After(now) {
				f.drop(queue[0].ref)
			}
			queue = queue[1:]
		}
		f.queue[p] = queue
	}
}

// Settle tells the gate that the cluster shows owner with claims, so that it need not be remembered as in flight. gone
// says that the owner was deleted.
func (g *Gate) Settle(owner ports.Ref, claims []ports.Claim, gone bool) {
	g.deciding.Lock()
	defer g.deciding.Unlock()
	if gone {
		g.flight.drop(owner)
		return
	}
	for _, c := range claims {
		if c.Kind.InNodePortBook() {
			g.repeats.forget(c.Port)
		}
	}
	g.flight.settle(owner, claims)
}
