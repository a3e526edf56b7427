package main

import (
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/manifest"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// claimsPorts reports whether an object is of a kind that can claim ports.
func claimsPorts(object runtime.Object) bool {
	switch o := object.(type) {
	case *corev1.Node:
		return o.Annotations[extract.ReservedPortsAnnotation] != ""
	case *corev1.Service, *corev1.Pod, *corev1.ReplicationController: // one may have no template
		return true
	default:
		return extract.HasTemplate(object)
	}
}

// named returns what a report calls an object, as findings about it do.
func named(object *manifest.Object) report.Object {
	m, err := meta.Accessor(object.Object)
	if err != nil {
		m = &metav1.ObjectMeta{} // an object without metadata has no name either
	}
	ref := extract.Ref(object.Object.GetObjectKind().GroupVersionKind(), m)
	named := report.Object{APIVersion: ref.APIVersion, Kind: ref.Kind, Namespace: ref.Namespace, Name: ref.Name}
	if isClusterScoped(object.Object) {
		named.Namespace = ""
	}
	return named
}

// isClusterScoped reports whether an object is of a kind without namespaces that ports are judged by.
func isClusterScoped(object runtime.Object) bool {
	switch o := object.(type) {
	case *corev1.Node, *corev1.Namespace, *networkingv1.ServiceCIDR, *v1alpha1.PortPool, *v1alpha1.PortPolicy, *v1alpha1.PortClaim:
		return true
	case *unstructured.Unstructured: // one of ours that cannot be read as such
		return o.GroupVersionKind().Group == v1alpha1.Group
	default:
		return false
	}
}

// isNameless reports whether the API server will make a name of its own, so that the same text is another object.
func isNameless(object runtime.Object) bool {
	m, err := meta.Accessor(object)
	return err != nil || m.GetName() == ""
}
