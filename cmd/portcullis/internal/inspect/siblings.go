package inspect

import (
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// siblings returns what is known of the pods of the workload that a pod is of, by who made whom; nil for a pod of its own.
func (v *view) siblings(pod *corev1.Pod, w *check.Workload, h *holding) *report.Siblings {
	held := h.ledger.Snapshot()
	root := held.Root(&w.Owner)
	if root == w.Owner.Ref {
		return nil
	}
	s := &report.Siblings{Of: root, IsNew: pod.Name == "", PerNode: perNode(pod) != ""}
	for _, other := range v.pods {
		o := extract.Pod(other, nil, nil)
		v.controllers.Adopt(o, other)
		switch {
		case extract.IsFinished(other) || held.Root(&o.Owner) != root:
		case other.Spec.NodeName != "":
			s.OnNodes++
		default:
			s.Waiting++
		}
	}
	for _, object := range v.workloads {
		o, ok := extract.Workload(object, nil, nil)
		if !ok || held.Root(&o.Owner) != root {
			continue
		}
		if message := failureOf(object); s.Failure == "" {
			s.Failure = message
		}
		if o.Owner.Ref == root && o.Rollout != nil && o.Rollout.Kind != check.OnEachNode {
			s.Wanted, s.NoneMayGo = o.Rollout.Replicas, o.Rollout.Kind == check.Rolling && o.Rollout.Unavailable == 0
		}
	}
	return s
}

// failureOf is why a controller cannot create pods, in the words of the API server: a quota, a policy, a webhook.
func failureOf(object runtime.Object) string {
	switch o := object.(type) {
	case *appsv1.ReplicaSet:
		for _, c := range o.Status.Conditions {
			if c.Type == appsv1.ReplicaSetReplicaFailure && c.Status == corev1.ConditionTrue {
				return c.Message
			}
		}
	case *appsv1.Deployment:
		for _, c := range o.Status.Conditions {
			if c.Type == appsv1.DeploymentReplicaFailure && c.Status == corev1.ConditionTrue {
				return c.Message
			}
		}
	case *corev1.ReplicationController:
		for _, c := range o.Status.Conditions {
			if c.Type == corev1.ReplicationControllerReplicaFailure && c.Status == corev1.ConditionTrue {
				return c.Message
			}
		}
	}
	return ""
}

// waitsForRollout reports whether a pod waits on some node for a port that an older pod of its own workload has: one that another
// ReplicaSet made.
func (h *holding) waitsForRollout(pod *corev1.Pod, root ports.Ref, nodes []report.Candidate) bool {
	mine := metav1.GetControllerOf(pod)
	return mine != nil && mine.Kind == "ReplicaSet" && slices.ContainsFunc(nodes, func(node report.Candidate) bool {
		return slices.ContainsFunc(node.Obstacles, func(o report.Obstacle) bool {
			older, ok := h.objects[o.Pod].(*corev1.Pod)
			if !ok || o.Holder.Ref != root {
				return false
			}
			theirs := metav1.GetControllerOf(older)
			return theirs != nil && theirs.Kind == mine.Kind && theirs.Name != mine.Name
		})
	})
}
