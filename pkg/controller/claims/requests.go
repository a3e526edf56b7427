package claims

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
)

// requests remembers when this replica first saw each request for a port, by its own clock: the times in a claim are by the
// clock of the replica that wrote it. The zero value is ready to use.
type requests struct {
	mu     sync.Mutex
	byPort map[int32]request
}

type request struct {
	claim     types.UID
	requested time.Time // by the claim
	since     time.Time
}

// maxSkew is how far the clocks of two replicas may be apart. A claim that says it is older was written while there was no leader.
const maxSkew = 5 * time.Minute

// since returns when the request of a claim was first seen: now for a new one, or the time in the claim if no clock skew
// explains its age.
func (r *requests) since(claim *v1alpha1.PortClaim, now time.Time) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if extract.Phase(claim) != v1alpha1.ClaimRequested {
		delete(r.byPort, claim.Spec.Port)
		return now
	}
	is := request{claim: claim.UID, requested: claim.LastRequested().Time, since: now}
	if was, known := r.byPort[claim.Spec.Port]; known && was.claim == is.claim && was.requested.Equal(is.requested) {
		return was.since
	}
	if r.byPort == nil {
		r.byPort = map[int32]request{}
	}
	if is.requested.Add(maxSkew).Before(now) {
		is.since = is.requested
	}
	r.byPort[claim.Spec.Port] = is
	return is.since
}

// forget removes the request for a port.
func (r *requests) forget(port uint16) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byPort, int32(port))
}
