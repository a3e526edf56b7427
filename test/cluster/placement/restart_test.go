package placement

import (
	"testing"

	"github.com/portcullis-k8s/portcullis/test/lab/binaries"
)

// testRestart: the API server is gone for a while. Schedulers that have lost sight of the cluster find what has changed
// since, wake the pods that waited for it, and go on judging rightly.
func (c *cluster) testRestart(t *testing.T) {
	s := c.site(t, shipped, 1)
	svc := s.service("before", 31051)
	held := s.pod("held", tcp("", 9000))
	s.create(t, svc, held)
	s.placed(t, "held")
	s.awaitSeen(t, svc, 31051)
	s.create(t, s.pod("for-pod", tcp("::1", 9000)), s.pod("for-service", tcp("", 31051)))
	s.refused(t, "for-pod", "1 hostPort 9000/TCP", "Pod "+s.namespace+"/held")
	s.refused(t, "for-service", "hostPort 31051/TCP", "Service "+s.namespace+"/before")

	if err := c.Kill(binaries.KubeAPIServer); err != nil {
		t.Fatal(err)
	}
	if err := c.Restart(t.Context(), binaries.KubeAPIServer); err != nil {
		t.Fatal(err)
	}
	// At once: most watches are not there again, and what goes now is never told of, but found missing.
	s.delete(t, svc, held)
	s.placed(t, "for-pod")
	s.placed(t, "for-service")

	after := s.service("after", 31052)
	s.create(t, after)
	s.awaitSeen(t, after, 31052)
	s.create(t, s.pod("third", tcp("", 9000)), s.pod("fourth", tcp("", 31052)))
	s.refused(t, "third", "1 hostPort 9000/TCP", "Pod "+s.namespace+"/for-pod")
	s.refused(t, "fourth", "hostPort 31052/TCP", "Service "+s.namespace+"/after")
	s.delete(t, after)
	s.placed(t, "fourth")
}
