package controller

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
)

// requests are since when this replica knows of the requests for numbers, by its own clock: what a claim says of that is by
// the clock of the replica that wrote it. The zero value knows none.
type requests struct {
	mu       sync.Mutex
	byNumber map[int32]request
}

// request is one request for a number.
type request struct {
	claim types.UID
	asked time.Time // as the claim says
	since time.Time
}

// maxSkew is by how much the clocks of replicas may differ. A claim that says it is older has waited while there was no leader.
const maxSkew = 5 * time.Minute

// since returns since when the request of a claim is known: now for one that is not known yet, unless it is older than clocks can explain.
func (r *requests) since(claim *v1alpha1.PortClaim, now time.Time) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if extract.Phase(claim) != v1alpha1.ClaimRequested {
		delete(r.byNumber, claim.Spec.Port)
		return now
	}
	is := request{claim: claim.UID, asked: claim.LastRequested().Time, since: now}
	if was, known := r.byNumber[claim.Spec.Port]; known && was.claim == is.claim && was.asked.Equal(is.asked) {
		return was.since
	}
	if r.byNumber == nil {
		r.byNumber = map[int32]request{}
	}
	if is.asked.Add(maxSkew).Before(now) {
		is.since = is.asked
	}
	r.byNumber[claim.Spec.Port] = is
	return is.since
}

// forget drops what is known of a number.
func (r *requests) forget(number uint16) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byNumber, int32(number))
}
