package webhook

import (
	"context"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/observe"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// validateScale judges a template that begins to want pods: whoever took its ports while it wanted none has them. Only the
// number of pods is in the review; the template is read from the API server.
func (h *Handlers) validateScale(ctx context.Context, req admission.Request) decision {
	ref, ok := scaled(req)
	if !ok {
		return malformed(fmt.Errorf("this hook judges the scale of objects with a pod template, not %s", resource(req)))
	}
	scale, old, err := decode[autoscalingv1.Scale](req)
	if err != nil {
		return malformed(err)
	}
	if scale.Spec.Replicas <= 0 || old != nil && old.Spec.Replicas > 0 {
		return h.allowed()
	}
	stored, err := h.cluster.Read(ctx, ref)
	if err != nil {
		return couldNotTell(h.settings, "its pod template could not be read: "+err.Error())
	}
	if stored == nil {
		return h.allowed() // the API server answers that there is none
	}
	idle, active := withReplicas(stored.Object, 0), withReplicas(stored.Object, scale.Spec.Replicas)
	in := check.Input{}
	in.Workload, ok = extract.Workload(active, h.cluster, h.settings.Check.Trusted)
	if !ok {
		return h.allowed()
	}
	in.OldWorkload, _ = extract.Workload(idle, h.cluster, h.settings.Check.Trusted)
	write := writeOf(stored.Object, stored.Object, in.Workload.Claims)
	if isDryRun(req) {
		write = nil
	}
	return h.admitInherited(ctx, stored.Object, in, write)
}

// scaled is the object whose scale a request writes.
func scaled(req admission.Request) (ports.Ref, bool) {
	kinds := map[string]string{
		"apps/deployments": "Deployment", "apps/replicasets": "ReplicaSet", "apps/statefulsets": "StatefulSet", "/replicationcontrollers": "ReplicationController",
	}
	kind, ok := kinds[req.Resource.Group+"/"+req.Resource.Resource]
	version := metav1.GroupVersion{Group: req.Resource.Group, Version: req.Resource.Version}
	return ports.Ref{APIVersion: version.String(), Kind: kind, Namespace: req.Namespace, Name: req.Name}, ok && req.SubResource == "scale"
}

// withReplicas is a copy of an object that wants so many pods.
func withReplicas(object runtime.Object, replicas int32) runtime.Object {
	object = object.DeepCopyObject()
	switch o := object.(type) {
	case *appsv1.Deployment:
		o.Spec.Replicas = &replicas
	case *appsv1.ReplicaSet:
		o.Spec.Replicas = &replicas
	case *appsv1.StatefulSet:
		o.Spec.Replicas = &replicas
	case *corev1.ReplicationController:
		o.Spec.Replicas = &replicas
	}
	return object
}

// admitInherited is admit for an object that may have a controller. What a controller's template brought is no reason to
// refuse its pods: the conflict is older than the rule, or came while the webhook was away, and the pods that ran must
// come back. It is warned about, and the audit finds it. That a controller is said to be one is no proof: it is read, and
// must have the uid that the object names, want pods, and have the same claims.
func (h *Handlers) admitInherited(ctx context.Context, object metav1.Object, in check.Input, w *write) decision {
	if in.OldWorkload != nil {
		in.Inherits = new(false) // what it had stands by itself; for more a controller must be proven
	}
	d := h.admit(ctx, in, in.Workload.Owner, w)
	excused := slices.ContainsFunc(d.findings, func(f check.Finding) bool {
		f.Standing = false
		return h.settings.Check.Enforce(f) == check.Deny
	})
	if !excused || in.OldWorkload != nil && d.verdict != check.Denied {
		return d // nothing would be refused without a controller, or it was so before the update
	}
	inherits, err := h.inherits(ctx, object, in.Workload)
	if err != nil && d.verdict != check.Denied {
		h.forget(in.Workload.Owner.Ref, object.GetUID())
	}
	if err != nil {
		return later(h.settings, "its controller cannot be read: "+err.Error())
	}
	if inherits == (d.verdict != check.Denied && !d.busy) {
		return d
	}
	h.forget(in.Workload.Owner.Ref, object.GetUID())
	in.Inherits = &inherits
	return h.admit(ctx, in, in.Workload.Owner, w)
}

// inherits reports whether the controller that an object names is there, wants pods, and has all of w's claims.
func (h *Handlers) inherits(ctx context.Context, object metav1.Object, w *check.Workload) (bool, error) {
	ref, uid, ok := controllerOf(object)
	if !ok || !h.isOfWorkload(ref) {
		return false, nil
	}
	stored, err := h.cluster.Read(ctx, ref)
	if err != nil {
		return false, err
	}
	return h.excuses(stored, uid, w), nil
}

// isOfWorkload reports whether objects of a ref's kind have a pod template.
func (h *Handlers) isOfWorkload(ref ports.Ref) bool {
	object, err := h.scheme.New(schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind))
	if err != nil {
		return false
	}
	_, isController := object.(*corev1.ReplicationController) // whose template may be left out, and is here
	_, ok := extract.Workload(object, nil, nil)
	return ok || isController
}

// controllerOf is the controller that an object names, and the uid that it must have.
func controllerOf(object metav1.Object) (ports.Ref, types.UID, bool) {
	c := metav1.GetControllerOf(object)
	if c == nil {
		return ports.Ref{}, "", false
	}
	return ports.Ref{APIVersion: c.APIVersion, Kind: c.Kind, Namespace: object.GetNamespace(), Name: c.Name}, c.UID, true
}

// excuses reports whether a controller, nil for none, has a uid, is of a kind that makes such objects, wants pods, and has all
// in its template that may be objected to in w: its claims, where w may be, the host network, and hostIPs that are no
// addresses. What it makes has the labels of its template, too: by them it
// knows its pods, and exceptions of policies go by them.
func (h *Handlers) excuses(controller *observe.Seen, uid types.UID, w *check.Workload) bool {
	if controller == nil || controller.UID != uid || !makes(controller.Owner.Kind, w.Owner.Kind) {
		return false
	}
	template, ok := extract.Workload(controller.Object, h.cluster, nil)
	switch {
	case !ok || !check.CoversActively(template.Claims, w.Claims) || w.HostNetwork && !template.HostNetwork:
		return false
	case slices.ContainsFunc(w.Unparsed, func(u check.Unparsed) bool {
		return !slices.ContainsFunc(template.Unparsed, func(o check.Unparsed) bool { return o.Value == u.Value })
	}):
		return false
	}
	for key, value := range template.Labels {
		if w.Labels[key] != value {
			return false
		}
	}
	return len(w.Claims) == 0 || isWithin(w.Claims[0].Scope, template.Claims[0].Scope)
}

// makes reports whether a built-in controller of a kind makes objects of another.
func makes(controller, made string) bool {
	switch controller {
	case "Deployment":
		return made == "ReplicaSet"
	case "CronJob":
		return made == "Job"
	default:
		return made == "Pod"
	}
}

// isWithin reports whether what is at one place may be of a template with a scope. A DaemonSet's pod is for one of its nodes;
// one of another template that names a node is on that of the template.
func isWithin(at, template ports.Scope) bool {
	node, pinned := at.Node()
	switch template.Kind {
	case ports.OnEach:
		return pinned && slices.Contains(template.Nodes(), node)
	case ports.Everywhere:
		return true
	case ports.Undecided, ports.OnNode, ports.AtAddress:
	}
	there, _ := template.Node()
	return !pinned || there == node
}
