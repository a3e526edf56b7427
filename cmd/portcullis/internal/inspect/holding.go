package inspect

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// holding is what is in the way of a pod.
type holding struct {
	ledger  ledger.Ledger
	loads   map[string]extract.Load     // of each node, by its pods
	objects map[ports.Ref]metav1.Object // of the ledger's pods and Services
}

// holding returns what is in the way of a pod.
func (v *view) holding(seeker *corev1.Pod, settings *extract.Settings) *holding {
	h := &holding{loads: map[string]extract.Load{}, objects: map[ports.Ref]metav1.Object{}}
	for _, node := range v.nodes {
		h.ledger.ReplaceNode(node.Name, extract.NodeAddresses(node))
	}
	for _, svc := range v.services {
		s := extract.Service(svc, settings.NodePorts)
		h.ledger.Replace(s.Owner, s.Claims)
		h.objects[s.Owner.Ref] = svc
	}
	for _, object := range v.workloads {
		if w, ok := extract.Workload(object, nil, settings.Check.Trusted); ok {
			h.ledger.Replace(w.Owner, w.Claims) // leads to the controllers' controllers, and to the fields of their templates
		}
	}
	of := perNode(seeker)
	for _, pod := range v.pods {
		if of != "" && pod.Namespace == seeker.Namespace && daemonSetOf(pod) == of {
			continue // the one of its node: there is never another beside it
		}
		pod = extract.InTheWay(pod, seeker)
		if pod == nil {
			continue
		}
		load := h.loads[pod.Spec.NodeName]
		load.Add(pod)
		h.loads[pod.Spec.NodeName] = load
		if w := extract.Pod(pod, nil, settings.Check.Trusted); len(w.Claims) > 0 {
			v.controllers.Adopt(w, pod)
			h.ledger.Replace(w.Owner, w.Claims)
			h.objects[w.Owner.Ref] = pod
		}
	}
	return h
}

// perNode is the name of the DaemonSet that a pod to be is of; "" for other pods.
func perNode(pod *corev1.Pod) string {
	if pod.Name != "" {
		return ""
	}
	return daemonSetOf(pod)
}

func daemonSetOf(pod *corev1.Pod) string {
	if c := metav1.GetControllerOf(pod); c != nil && c.Kind == "DaemonSet" {
		return c.Name
	}
	return ""
}

// dated adds what the cluster says of a holder.
func (h *holding) dated(o check.Obstacle, seeker *corev1.Pod) report.Obstacle {
	out := report.Obstacle{Obstacle: o}
	ref := o.Holder.Ref
	if o.ByPod() {
		ref = o.Pod
	}
	switch object := h.objects[ref].(type) {
	case *corev1.Pod:
		out.Since, out.Leaving, out.Preemptible = extract.Started(object), object.DeletionTimestamp != nil, extract.MayPreempt(seeker, object)
	case *corev1.Service:
		out.Since = object.CreationTimestamp.Time
	}
	return out
}
