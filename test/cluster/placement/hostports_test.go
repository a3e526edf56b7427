package placement

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/scheduling"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

// The metrics of kube-scheduler that tell what happened.
const (
	queued     = "scheduler_queue_incoming_pods_total"
	waitFor    = "scheduler_unschedulable_pods"
	evaluated  = "scheduler_plugin_evaluation_total"
	podDeleted = `event="AssignedPodDelete"`
)

func (s *site) template(app string, ports ...corev1.ContainerPort) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": app}}, Spec: s.spec(ports...)}
}

func (s *site) deployment(app string, replicas int32, ports ...corev1.ContainerPort) *appsv1.Deployment {
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: app},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}},
			Template: s.template(app, ports...),
		},
	}
}

// testTooManyReplicas: of four replicas on three nodes three run, and the fourth says whom it waits for. It gets the place
// of one that is deleted, or the one does that the controller makes instead.
func (c *cluster) testTooManyReplicas(t *testing.T) {
	s := c.site(t, shipped, 3)
	s.create(t, s.deployment("tomcat", 4, tcp("", 9000)))
	s.oneOnEach(t, "tomcat")
	const port = "3 hostPort 9000/TCP"
	holder := "Deployment " + s.namespace + "/tomcat"
	s.refused(t, s.waiting(t, "tomcat"), port, holder)
	before, err := s.running(t.Context(), "tomcat")
	if err != nil {
		t.Fatal(err)
	}
	s.wantEvent(t, s.waiting(t, "tomcat"), "FailedScheduling", holder)
	for node, pod := range before {
		s.wantEvent(t, s.waiting(t, "tomcat"), scheduling.EventReason,
			fmt.Sprintf("on %s by Pod %s/%s of Deployment %[2]s/tomcat", node, s.namespace, pod.Name))
	}
	victim := before[s.names()[0]]
	s.delete(t, &victim)
	poll.Until(t, func(context.Context) error {
		now, err := s.running(t.Context(), "tomcat")
		if err == nil && (len(now) != 3 || now[victim.Spec.NodeName].Name == victim.Name) {
			err = fmt.Errorf("%d pods run, on %v", len(now), slices.Sorted(maps.Keys(now)))
		}
		return err
	})
	s.refused(t, s.waiting(t, "tomcat"), port, holder)
}

// wantEvent waits for an event on a pod that contains the text.
func (s *site) wantEvent(t *testing.T, pod, reason, text string) {
	t.Helper()
	poll.Until(t, func(context.Context) error {
		var events corev1.EventList
		if err := s.List(t.Context(), &events, client.InNamespace(s.namespace)); err != nil {
			return err
		}
		for _, e := range events.Items {
			if e.Reason == reason && e.InvolvedObject.Name == pod && strings.Contains(e.Message, text) {
				return nil
			}
		}
		return fmt.Errorf("no event %s of %s says %q", reason, pod, text)
	})
}

// testOurHint: where NodePorts sees no conflict, the pod is refused by PortClaims alone, and woken by its hint alone.
func (c *cluster) testOurHint(t *testing.T) {
	s := c.site(t, "", 1)
	own := s.own(t)
	// The number is nobody else's: pods of tests beside this one that go would wake those that want theirs.
	for i, pair := range [][2]string{{"::", "::1"}, {"::1", "::"}, {"0:0:0:0:0:0:0:0", "fd00::1"}, {"10.0.0.1", "::ffff:10.0.0.1"}} {
		held, wanted := fmt.Sprint("held", i), fmt.Sprint("wanted", i)
		holder := s.pod(held, tcp(pair[0], 9033))
		s.create(t, holder)
		s.placed(t, held)
		s.create(t, s.pod(wanted, tcp(pair[1], 9033)))
		s.refused(t, wanted, "1 hostPort 9033/TCP", "Pod "+s.namespace+"/"+held)
		awaitWaiting(t, own)
		if n := count(t, own, waitFor, `plugin="NodePorts"`); n != 0 {
			t.Errorf("held %q, wanted %q: %v pods wait for NodePorts, want 0", pair[0], pair[1], n)
		}
		before := count(t, own, queued, podDeleted)
		s.delete(t, holder)
		s.placed(t, wanted)
		if n := count(t, own, queued, podDeleted) - before; n != 1 {
			t.Errorf("held %q, wanted %q: %v pods were woken by the deletion of a pod, want 1", pair[0], pair[1], n)
		}
		s.remove(t, wanted)
	}
}

// awaitWaiting waits until a scheduler has put one pod aside because of PortClaims: an event that comes while it still looks
// at the pod wakes nobody.
func awaitWaiting(t *testing.T, own *rig.Scheduler) {
	t.Helper()
	poll.Until(t, func(context.Context) error {
		n, err := own.Count(t.Context(), waitFor, `plugin="PortClaims"`)
		if err == nil && n != 1 {
			err = fmt.Errorf("%v pods wait for PortClaims, want 1", n)
		}
		return err
	})
}

// testStall: a rollout that may not stop an old pod before a new one is ready stalls, and the new pod says why.
func (c *cluster) testStall(t *testing.T) {
	s := c.site(t, shipped, 2)
	d := s.deployment("web", 2, tcp("", 9000))
	d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{
		MaxSurge: new(intstr.FromInt32(1)), MaxUnavailable: new(intstr.FromInt32(0)),
	}}
	s.create(t, d)
	s.oneOnEach(t, "web")
	before, err := s.running(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	change := client.MergeFrom(d.DeepCopy())
	d.Spec.Template.Annotations = map[string]string{"version": "2"}
	if err := s.Patch(t.Context(), d, change); err != nil {
		t.Fatal(err)
	}
	s.refused(t, s.waiting(t, "web"), "2 hostPort 9000/TCP", "Deployment "+s.namespace+"/web")
	after, err := s.running(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	for node, pod := range before {
		if after[node].Name != pod.Name {
			t.Errorf("%s was replaced on %s: the rollout did not stall", pod.Name, node)
		}
	}
}

// testDaemonSet: one pod for each node, on a new node too, and a second DaemonSet of the same port gets none.
func (c *cluster) testDaemonSet(t *testing.T) {
	s := c.site(t, shipped, 2)
	daemons := func(app string) *appsv1.DaemonSet {
		return &appsv1.DaemonSet{
			ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: app},
			Spec: appsv1.DaemonSetSpec{
				Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}},
				Template: s.template(app, tcp("", 9000)),
			},
		}
	}
	s.create(t, daemons("first"))
	s.oneOnEach(t, "first")
	s.addNode(t, c.node())
	s.oneOnEach(t, "first")
	s.create(t, daemons("second"))
	poll.Until(t, func(context.Context) error {
		var pods corev1.PodList
		if err := s.List(t.Context(), &pods, client.InNamespace(s.namespace), client.MatchingLabels{"app": "second"}); err != nil {
			return err
		}
		said := 0
		for _, p := range pods.Items {
			if v := verdict(&p); v.node == "" && strings.Contains(v.message, "1 hostPort 9000/TCP") && strings.Contains(v.message, "DaemonSet "+s.namespace+"/first") {
				said++
			}
		}
		if said != 3 {
			return fmt.Errorf("%d of %d pods of the second DaemonSet say whom they wait for, want 3", said, len(pods.Items))
		}
		return nil
	})
}
