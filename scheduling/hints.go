package scheduling

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// EventsToRegister returns what may make room for a pod that was refused here. A pod's own ports never change.
func (p *PortClaims) EventsToRegister(context.Context) ([]fwk.ClusterEventWithHint, error) {
	const services fwk.EventResource = "services.v1." // as kube-scheduler names a resource of the core group that it does not know
	node := fwk.Add | fwk.UpdateNodeAnnotation
	if p.policies != nil {
		node |= fwk.UpdateNodeLabel
	}
	events := []fwk.ClusterEventWithHint{
		{Event: fwk.ClusterEvent{Resource: fwk.AssignedPod, ActionType: fwk.Add | fwk.Delete}, QueueingHintFn: p.afterPod},
		{Event: fwk.ClusterEvent{Resource: fwk.Node, ActionType: node}, QueueingHintFn: p.afterNode},
		{Event: fwk.ClusterEvent{Resource: services, ActionType: fwk.Update | fwk.Delete}, QueueingHintFn: p.afterService},
	}
	if p.policies != nil {
		events = append(events,
			fwk.ClusterEventWithHint{Event: fwk.ClusterEvent{Resource: portPolicies, ActionType: fwk.Update | fwk.Delete}, QueueingHintFn: p.afterPolicy},
			fwk.ClusterEventWithHint{Event: fwk.ClusterEvent{Resource: fwk.TargetPod, ActionType: fwk.UpdatePodLabel}, QueueingHintFn: p.afterLabels})
	}
	return events, nil
}

// afterPod: a pod is gone that held a port which this one wants; or a pod has come, and this one was refused late, by
// Reserve: that says nothing of the other nodes.
func (p *PortClaims) afterPod(_ klog.Logger, pod *corev1.Pod, before, now any) (fwk.QueueingHint, error) {
	if before == nil && now != nil {
		_, late := p.bound.late.Get(pod.UID)
		return queueIf(late), nil
	}
	gone, err := typed[corev1.Pod](before)
	if err != nil {
		return fwk.Queue, err
	}
	if gone.Spec.NodeName == "" && gone.Status.NominatedNodeName == "" {
		return fwk.QueueSkip, nil // it held nothing
	}
	was := *gone
	was.Status = corev1.PodStatus{} // one that ended is gone because it ended, and held its ports until then
	w, held := wants(pod, p.trusted), wants(&was, p.trusted)
	if w == nil || held == nil {
		return fwk.QueueSkip, nil
	}
	return queueIf(meets(w, held.Claims)), nil
}

// afterNode: a node has come, or has changed its annotation or labels, on which nothing that this pod wants is reserved.
func (p *PortClaims) afterNode(_ klog.Logger, pod *corev1.Pod, before, now any) (fwk.QueueingHint, error) {
	node, err := typed[corev1.Node](now)
	if err != nil {
		return fwk.Queue, err
	}
	w := wants(pod, p.trusted)
	if w == nil || p.isReserved(w, node) {
		return fwk.QueueSkip, nil
	}
	if before == nil {
		return fwk.Queue, nil
	}
	old, err := typed[corev1.Node](before)
	return queueIf(err != nil || p.isReserved(w, old)), err
}

// isReserved reports whether a node's annotation, or a policy, keeps something that w wants.
func (p *PortClaims) isReserved(w *check.Workload, node *corev1.Node) bool {
	if slices.ContainsFunc(p.policies.reservations(w), func(r reservation) bool { return r.nodes.Matches(node.Labels) }) {
		return true
	}
	reserved, _ := extract.ReservedPorts(node) // Filter logs what is wrong with it
	return slices.ContainsFunc(w.Claims, func(c ports.Claim) bool { return slices.ContainsFunc(reserved, c.Overlaps) })
}

// afterService: a Service no longer holds a number that this pod wants.
func (p *PortClaims) afterService(_ klog.Logger, pod *corev1.Pod, before, now any) (fwk.QueueingHint, error) {
	old, err := typed[corev1.Service](before)
	if err != nil {
		return fwk.Queue, err
	}
	var current *corev1.Service
	var still []ports.Claim
	if now != nil {
		if current, err = typed[corev1.Service](now); err != nil {
			return fwk.Queue, err
		}
		still = extract.Service(current, p.services.nodePorts).Claims
	}
	freed := slices.DeleteFunc(extract.Service(old, p.services.nodePorts).Claims, func(c ports.Claim) bool {
		return slices.ContainsFunc(still, func(s ports.Claim) bool { return s.Socket == c.Socket && s.Scope.Kind == c.Scope.Kind })
	})
	w := wants(pod, p.trusted)
	if w == nil || !meets(w, freed) {
		return fwk.QueueSkip, nil
	}
	p.services.tell(old, current)
	return fwk.Queue, nil
}

// meets reports whether w wants any of the sockets.
func meets(w *check.Workload, held []ports.Claim) bool {
	return slices.ContainsFunc(w.Claims, func(c ports.Claim) bool {
		return slices.ContainsFunc(held, func(h ports.Claim) bool { return c.Overlaps(h.Socket) })
	})
}

func queueIf(is bool) fwk.QueueingHint {
	if is {
		return fwk.Queue
	}
	return fwk.QueueSkip
}

// typed returns the object of an event, which kube-scheduler has as a Go type, or unstructured if the resource is none of
// its own, or as what was last known of it.
func typed[T any](object any) (*T, error) {
	if tombstone, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = tombstone.Obj
	}
	switch o := object.(type) {
	case *T:
		return o, nil
	case *unstructured.Unstructured:
		t := new(T)
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, t); err != nil {
			return nil, fmt.Errorf("an event's object cannot be read: %w", err)
		}
		return t, nil
	default:
		return nil, fmt.Errorf("an event's object is a %T, want a %T", object, new(T))
	}
}
