package extract

import (
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// template is an object with a pod template, whichever kind it is.
type template struct {
	gvk      schema.GroupVersionKind
	object   metav1.Object
	pod      *corev1.PodTemplateSpec
	path     string                // of pod
	selector *metav1.LabelSelector // of its pods; nil: it has none
	daemon   bool                  // its pods take every node that they may run on
	idle     bool                  // it wants no pods now

	rollout *check.Rollout // nil: another object rolls it out
}

// Workload returns an object with a pod template, with the claims that its pods will make. It reports false for an
// object of another kind. nodes may be nil: then the nodes are not known. trusted are the namespaces whose pods are what
// they say they are: see check.Settings.Trusted.
func Workload(object runtime.Object, nodes EligibleNodes, trusted []string) (*check.Workload, bool) {
	t, ok := templateOf(object)
	if !ok {
		return nil, false
	}
	w := &check.Workload{Owner: Owner(t.gvk, t.object, trusted)}
	w.IsTrusted = slices.Contains(trusted, w.Owner.Namespace)
	if w.Owner.Controller == nil && w.IsTrusted {
		w.Owner.Controller = serviceLBOwner(w.Owner.Namespace, t.pod.Labels) // the DaemonSet works for its Service as its pods do
	}
	if w.Rollout = t.rollout; w.Owner.Controller != nil {
		w.Rollout = nil
	}
	placement := PlacementOf(&t.pod.Spec, t.daemon)
	w.OneHost, w.Selection = placement.IsOneHost(), placement
	w.Labels = t.pod.Labels
	w.Requests = hostPortRequests(t.pod.Annotations, &t.pod.Spec, t.path+".metadata")
	if nodes != nil {
		w.Eligible = nodes.Eligible(placement)
	}
	podSpec{w, t.path + ".spec", t.scope(placement, w.Eligible, w.Rollout), t.idle}.add(&t.pod.Spec)
	return w, true
}

// scope says where the pods of a template will be: on the node that it names; a DaemonSet's on each of its nodes, and on
// every node if the nodes are not known and it names none; others on nodes that the scheduler decides.
func (t template) scope(placement Placement, eligible []string, rollout *check.Rollout) ports.Scope {
	lasts := rollout != nil && rollout.Kind != check.ToTheEnd
	node, named := placement.node(eligible)
	switch {
	case t.pod.Spec.NodeName != "":
		return ports.NodeScope(t.pod.Spec.NodeName)
	case named && lasts:
		return ports.NodeScope(node)
	case !t.daemon && lasts:
		return ports.AmongScope(rollout.Replicas, eligible)
	case !t.daemon:
		return ports.AmongScope(0, eligible) // a Job's pods end and make room
	case eligible != nil:
		return ports.EachScope(eligible)
	case placement.IsAnywhere():
		return ports.EverywhereScope()
	default:
		return ports.Scope{}
	}
}

// HasTemplate reports whether an object is of a kind with a pod template that is known.
func HasTemplate(object runtime.Object) bool {
	_, ok := templateOf(object)
	return ok
}

// templateOf is the one place that knows the kinds with a pod template.
func templateOf(object runtime.Object) (template, bool) {
	const path, jobPath = "spec.template", "spec.jobTemplate.spec.template"
	apps, batch := appsv1.SchemeGroupVersion, batchv1.SchemeGroupVersion
	switch o := object.(type) {
	case *appsv1.Deployment:
		return template{apps.WithKind("Deployment"), o, &o.Spec.Template, path, o.Spec.Selector, false, isZero(o.Spec.Replicas), deploymentRollout(o)}, true
	case *appsv1.StatefulSet:
		return template{apps.WithKind("StatefulSet"), o, &o.Spec.Template, path, o.Spec.Selector, false, isZero(o.Spec.Replicas), inTurn(o.Spec.Replicas)}, true
	case *appsv1.DaemonSet:
		return template{apps.WithKind("DaemonSet"), o, &o.Spec.Template, path, o.Spec.Selector, true, false, daemonRollout(o)}, true
	case *appsv1.ReplicaSet:
		return template{apps.WithKind("ReplicaSet"), o, &o.Spec.Template, path, o.Spec.Selector, false, isZero(o.Spec.Replicas), inTurn(o.Spec.Replicas)}, true
	case *corev1.ReplicationController:
		if o.Spec.Template == nil {
			return template{}, false
		}
		selector := &metav1.LabelSelector{MatchLabels: o.Spec.Selector}
		return template{coreKind("ReplicationController"), o, o.Spec.Template, path, selector, false, isZero(o.Spec.Replicas), inTurn(o.Spec.Replicas)}, true
	case *batchv1.Job:
		return template{batch.WithKind("Job"), o, &o.Spec.Template, path, o.Spec.Selector, false, isIdle(o), jobRollout(&o.Spec, "spec.parallelism", isIdle(o))}, true
	case *batchv1.CronJob:
		job := jobRollout(&o.Spec.JobTemplate.Spec, "spec.jobTemplate.spec.parallelism", isTrue(o.Spec.Suspend))
		return template{batch.WithKind("CronJob"), o, &o.Spec.JobTemplate.Spec.Template, jobPath, nil, false, isTrue(o.Spec.Suspend), job}, true
	default:
		return template{}, false
	}
}

// podSpecOf returns the spec of a pod, or of the pods that an object makes, and whether they are a DaemonSet's; nil for an object
// of another kind.
func podSpecOf(object runtime.Object) (spec *corev1.PodSpec, daemon bool) {
	if pod, ok := object.(*corev1.Pod); ok {
		return &pod.Spec, false
	}
	t, ok := templateOf(object)
	if !ok {
		return nil, false
	}
	return &t.pod.Spec, t.daemon
}

func isZero(replicas *int32) bool { return replicas != nil && *replicas == 0 }

func isTrue(b *bool) bool { return b != nil && *b }

// isIdle reports whether a Job wants no pods: it is suspended, by either of its fields, or has ended.
func isIdle(job *batchv1.Job) bool {
	if isTrue(job.Spec.Suspend) || isZero(job.Spec.Parallelism) {
		return true
	}
	for _, c := range job.Status.Conditions {
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue {
			return true
		}
	}
	return false
}
