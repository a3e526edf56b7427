package claims

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
)

// TestSince: a request counts from when this replica learns of it, whatever the clock of the one that wrote it says, unless no clock
// explains its age.
func TestSince(t *testing.T) {
	now := time.Unix(1e9, 0)
	for _, c := range []struct {
		name        string
		asked, want time.Duration // before now
	}{
		{"just now", 0, 0},
		{"by a clock that is late", 4 * time.Minute, 0},
		{"by a clock that is early", -time.Hour, 0},
		{"while there was no leader", time.Hour, time.Hour},
	} {
		var r requests
		claim := &v1alpha1.PortClaim{}
		claim.Spec.Port, claim.Spec.RequestedAt = 30001, metav1.NewTime(now.Add(-c.asked))
		if got := r.since(claim, now); !got.Equal(now.Add(-c.want)) {
			t.Errorf("%s: since %s, want %s before", c.name, got, c.want)
		}
		if got := r.since(claim, now.Add(time.Minute)); !got.Equal(now.Add(-c.want)) {
			t.Errorf("%s: a minute later since %s", c.name, got)
		}
	}
}
