package webhook

import (
	"sync"
	"time"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
)

// A Service that asks again is given the number that it was given before: its first request may have been lost on the
// way. But the API server may have taken the number for good: one that is interrupted in the middle of a request keeps it
// in its book, for up to 9 minutes, without a Service that has it.
const (
	maxRepeats = 3
	repeatTime = 10 * time.Minute
)

// repeats counts how often one Service was given one number. The zero value has counted nothing.
type repeats struct {
	mu       sync.Mutex
	byNumber map[uint16]repeated
}

type repeated struct {
	service v1alpha1.ClaimingService
	times   int
	until   time.Time
}

// isInVain reports whether a number was given to a Service so often that it should have another one.
func (r *repeats) isInVain(port uint16, svc v1alpha1.ClaimingService, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.byNumber[port]
	return e.service == svc && e.times >= maxRepeats && e.until.After(now)
}

// add counts that a number is given to a Service. There are no more entries than numbers.
func (r *repeats) add(port uint16, svc v1alpha1.ClaimingService, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.byNumber[port]
	if e.service != svc || !e.until.After(now) {
		e = repeated{service: svc}
	}
	e.times++
	e.until = now.Add(repeatTime)
	if r.byNumber == nil {
		r.byNumber = map[uint16]repeated{}
	}
	r.byNumber[port] = e
}

// forget drops what is known of a number: a Service has it.
func (r *repeats) forget(port uint16) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byNumber, port)
}
