package extract

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// RefOf names an object that can claim ports, whether its apiVersion and kind are set or not; false for another one.
func RefOf(object runtime.Object) (ports.Ref, bool) {
	switch o := object.(type) {
	case *corev1.Service:
		return Ref(coreKind("Service"), o), true
	case *corev1.Pod:
		return Ref(coreKind("Pod"), o), true
	}
	t, ok := templateOf(object)
	if !ok {
		return ports.Ref{}, false
	}
	return Ref(t.gvk, t.object), true
}
