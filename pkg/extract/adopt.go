package extract

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// Controllers finds the controller of objects that do not name one, as objects in files often do not: a workload of
// the same namespace whose selector matches and which claims the same sockets.
type Controllers struct {
	known map[place][]controller // by each number that they claim, in the order of the objects
}

// place is a port number of a namespace.
type place struct {
	namespace string
	protocol  ports.Protocol
	port      uint16
}

func placeOf(w *check.Workload, c ports.Claim) place {
	return place{w.Owner.Namespace, c.Protocol, c.Port}
}

type controller struct {
	workload *check.Workload
	selector labels.Selector
}

// NewControllers knows the workloads among objects.
func NewControllers(objects []runtime.Object) Controllers {
	c := Controllers{map[place][]controller{}}
	for _, object := range objects {
		selector := selectorOf(object)
		if selector == nil || selector.Empty() {
			continue
		}
		if w, ok := Workload(object, nil, nil); ok {
			c.add(controller{w, selector})
		}
	}
	return c
}

func (c Controllers) add(found controller) {
	seen := map[place]bool{}
	for _, claim := range found.workload.Claims {
		if p := placeOf(found.workload, claim); !seen[p] {
			seen[p] = true
			c.known[p] = append(c.known[p], found)
		}
	}
}

// Adopt gives w, of an object with the labels of its pods, the controller that it does not name itself.
func (c Controllers) Adopt(w *check.Workload, object runtime.Object) {
	set, isOwned := podLabels(object)
	if !isOwned || w.Owner.Controller != nil || len(w.Claims) == 0 {
		return
	}
	for _, known := range c.known[placeOf(w, w.Claims[0])] {
		owner := known.workload.Owner
		if owner.Ref != w.Owner.Ref && owner.Kind != "ReplicaSet" &&
			known.selector.Matches(set) && check.Covers(known.workload.Claims, w.Claims) {
			w.Owner.Controller = &ports.Owner{Ref: owner.Ref, Controller: owner.Controller}
			return
		}
	}
}

// podLabels returns the labels of the pods of an object that a controller may have made. Others have none, which some
// selectors match.
func podLabels(object runtime.Object) (set labels.Set, isOwned bool) {
	switch o := object.(type) {
	case *corev1.Pod:
		return o.Labels, true
	case *appsv1.ReplicaSet:
		return o.Spec.Template.Labels, true
	default:
		return nil, false
	}
}

func selectorOf(object runtime.Object) labels.Selector {
	t, ok := templateOf(object)
	if !ok || t.selector == nil {
		return nil
	}
	selector, err := metav1.LabelSelectorAsSelector(t.selector)
	if err != nil {
		return nil // the API server refuses it
	}
	return selector
}
