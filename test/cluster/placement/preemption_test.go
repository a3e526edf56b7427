package placement

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const victims = "scheduler_preemption_victims_count" // of a histogram: how often there were any

// priorities makes priority classes, named after the site and their value.
func (s *site) priorities(t *testing.T, values ...int32) {
	t.Helper()
	for _, v := range values {
		s.create(t, &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s-%d", s.namespace, v)}, Value: v})
	}
}

func (s *site) prior(priority int32, pod *corev1.Pod) *corev1.Pod {
	pod.Spec.PriorityClassName = fmt.Sprintf("%s-%d", s.namespace, priority)
	return pod
}

// on gives a pod its node without asking a scheduler.
func on(node string, pod *corev1.Pod) *corev1.Pod {
	pod.Spec.NodeName = node
	return pod
}

// gone lists which of the pods are not there any more, or on their way out.
func (s *site) gone(t *testing.T, names ...string) []string {
	t.Helper()
	var gone []string
	for _, name := range names {
		pod := &corev1.Pod{}
		err := s.Get(t.Context(), client.ObjectKey{Namespace: s.namespace, Name: name}, pod)
		if err != nil && !apierrors.IsNotFound(err) {
			t.Fatal(err)
		}
		if err != nil || pod.DeletionTimestamp != nil {
			gone = append(gone, name)
		}
	}
	return gone
}

// testPreemption: a pod that is worth more evicts the holder that is worth least, of those whose going helps, and no other.
func (c *cluster) testPreemption(t *testing.T) {
	for _, tc := range []struct {
		name         string
		held, wanted corev1.ContainerPort
		hostNetwork  bool // of the holders
	}{
		{"a conflict that all see", tcp("", 9000), tcp("", 9000), false},
		{"an overlap that only we see", tcp("::", 9000), tcp("127.0.0.1", 9000), true},
		{"a spelling that only we see", tcp("::1", 9000), tcp("0:0::1", 9000), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := c.site(t, "", 5)
			own := s.own(t)
			s.priorities(t, 1, 10, 100, 500, 1000)
			holder := func(name string, node int, priority int32) {
				pod := s.prior(priority, on(s.nodes[node].Name, s.pod(name, tc.held)))
				pod.Spec.HostNetwork = tc.hostNetwork
				s.create(t, pod)
			}
			holder("worth-more", 0, 1000)
			holder("worth-some", 1, 100)
			holder("worth-least", 2, 10)
			holder("useless", 3, 1)
			s.annotate(t, s.nodes[3].Name, "9000/TCP")
			holder("useless-too", 4, 1)
			s.create(t, s.prior(1000, on(s.nodes[4].Name, s.pod("neighbour", tcp("127.0.0.1", 9001)))))
			s.awaitSaid(t, s.nodes[3].Name, 9000, "the node itself")

			wanted := s.prior(500, s.pod("wanted", tc.wanted))
			wanted.Spec.Containers[0].Ports = append(wanted.Spec.Containers[0].Ports, tcp("127.0.0.1", 9001))
			s.create(t, wanted)
			if node := s.placed(t, "wanted"); node != s.nodes[2].Name {
				t.Errorf("placed on %s, want %s", node, s.nodes[2].Name)
			}
			if gone := s.gone(t, "worth-more", "worth-some", "worth-least", "useless", "useless-too", "neighbour"); len(gone) != 1 || gone[0] != "worth-least" {
				t.Errorf("%v are gone, want worth-least alone", gone)
			}
			// The scheduler counts a second time when it looks at the pod again before it has seen its own eviction.
			if n := count(t, own, victims); n < 1 {
				t.Errorf("%v preemptions by the second scheduler, want at least 1", n)
			}
		})
	}
}

// testNoPreemption: where a Service is in the way no pod is evicted for nothing.
func (c *cluster) testNoPreemption(t *testing.T) {
	s := c.site(t, "", 2)
	own := s.own(t)
	s.priorities(t, 1, 500)
	svc := s.service("app", 31041)
	s.create(t, s.prior(1, on(s.nodes[0].Name, s.pod("first", tcp("", 31041)))), s.prior(1, on(s.nodes[1].Name, s.pod("second", tcp("", 31041)))), svc)
	s.awaitSeen(t, svc, 31041)
	s.create(t, s.prior(500, s.pod("wanted", tcp("", 31041))))
	s.refused(t, "wanted", "hostPort 31041/TCP", "Service "+s.namespace+"/app")
	if gone := s.gone(t, "first", "second"); len(gone) > 0 {
		t.Errorf("%v are gone, want none", gone)
	}
	if n := count(t, own, victims); n != 0 {
		t.Errorf("%v preemptions, want 0", n)
	}
	// Without the Service it would have helped.
	s.delete(t, svc)
	s.placed(t, "wanted")
	if gone := s.gone(t, "first", "second"); len(gone) != 1 {
		t.Errorf("%v are gone, want one of the two", gone)
	}
}
