package source

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	builtin "k8s.io/client-go/kubernetes/scheme"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/manifest"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// Scheme knows the kinds in files that claim ports, and our own, which restrict who may.
func Scheme() *runtime.Scheme {
	scheme := manifest.Scheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		panic(err) // two packages would have to register one kind
	}
	return scheme
}

// ClaimsPorts reports whether an object is of a kind that can claim ports.
func ClaimsPorts(object runtime.Object) bool {
	switch o := object.(type) {
	case *corev1.Node:
		return o.Annotations[extract.ReservedPortsAnnotation] != ""
	case *corev1.Service, *corev1.Pod, *corev1.ReplicationController: // one may have no template
		return true
	default:
		return extract.HasTemplate(object)
	}
}

// Named returns what a report calls an object, as findings about it do.
func Named(object *manifest.Object) report.Object {
	m, err := meta.Accessor(object.Object)
	if err != nil {
		m = &metav1.ObjectMeta{} // an object without metadata has no name either
	}
	ref := extract.Ref(object.Object.GetObjectKind().GroupVersionKind(), m)
	name := report.Object{APIVersion: ref.APIVersion, Kind: ref.Kind, Namespace: ref.Namespace, Name: ref.Name}
	if isClusterScoped(object.Object) {
		name.Namespace = ""
	}
	return name
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

// IsNameless reports whether the API server will make a name of its own, so that the same text is another object.
func IsNameless(object runtime.Object) bool {
	m, err := meta.Accessor(object)
	return err != nil || m.GetName() == ""
}

// refOf names an object as reports do.
func refOf(o *manifest.Object) ports.Ref {
	name := Named(o)
	return ports.Ref{APIVersion: name.APIVersion, Kind: name.Kind, Namespace: name.Namespace, Name: name.Name}
}

// isKnown reports whether an object is of a kind that is known to claim no ports: one of ours, or of Kubernetes itself in
// any version that is not that of a workload.
func isKnown(object runtime.Object, kind schema.GroupVersionKind) bool {
	switch kind.Group {
	case v1alpha1.Group, "config.portcullis.dev", "apiextensions.k8s.io", "apiregistration.k8s.io":
		return true
	}
	if !isUntyped(object) {
		return true
	}
	for _, version := range builtin.Scheme.VersionsForGroupKind(kind.GroupKind()) {
		made, err := builtin.Scheme.New(version.WithKind(kind.Kind))
		return err == nil && !ClaimsPorts(made)
	}
	return false
}

func isUntyped(object runtime.Object) bool {
	_, untyped := object.(*unstructured.Unstructured)
	return untyped
}

// matters reports whether ports are judged by objects of this kind.
func matters(object runtime.Object) bool {
	switch object.(type) {
	case *discoveryv1.EndpointSlice:
		return true
	case *corev1.Endpoints: //nolint:staticcheck // clusters still have them
		return true
	default:
		return ClaimsPorts(object) || isClusterScoped(object)
	}
}

// Bare returns objects without the places where they stand.
func Bare(objects []*manifest.Object) []runtime.Object {
	all := make([]runtime.Object, len(objects))
	for i, object := range objects {
		all[i] = object.Object
	}
	return all
}
