// +kubebuilder:object:generate=true
// +groupName=portcullis.dev

// Package v1alpha1 is the kinds of portcullis.dev/v1alpha1. A cluster's administrators write PortPool, which says which
// ports a team's Services or pods get, and PortPolicy, which says who may have ports on nodes at all. Portcullis writes
// PortClaim, one for each nodePort of a pool that a Service has or has requested: the webhook creates it before it
// allocates the port, and pkg/controller/claims binds it, releases it and deletes it.
//
// extract.Pool and extract.Policy turn the objects into the plain values that pkg/pool and pkg/check work with.
//
// The comments of fields are what `kubectl explain` shows. What is allowed in them is enforced by the API server, from
// the schemas and CEL rules in config/crd, which are generated from the markers here. Every spec that the API server
// accepts can be decoded into these types, and every selector that it accepts is a valid one.
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// What the kinds of this package call themselves.
const (
	Group      = "portcullis.dev"
	Version    = "v1alpha1"
	APIVersion = Group + "/" + Version
)

// ProbeAnnotation on an object with a pod template, "true", has a dry run of it judged without regard to how the
// configuration enforces codes. That is how the webhook finds out whether the API server asks it.
const ProbeAnnotation = Group + "/probe"

// HoldAnnotation on the ValidatingWebhookConfiguration, "true", has the webhook leave its failurePolicy as it is.
const HoldAnnotation = Group + "/hold"

// GroupVersion returns the group and version of the kinds of this package.
func GroupVersion() schema.GroupVersion { return schema.GroupVersion{Group: Group, Version: Version} }

// AddToScheme makes a scheme know the kinds of this package.
func AddToScheme(s *runtime.Scheme) error {
	builder := runtime.NewSchemeBuilder(func(s *runtime.Scheme) error {
		s.AddKnownTypes(GroupVersion(),
			&PortPool{}, &PortPoolList{},
			&PortPolicy{}, &PortPolicyList{},
			&PortClaim{}, &PortClaimList{},
		)
		metav1.AddToGroupVersion(s, GroupVersion())
		return nil
	})
	return builder.AddToScheme(s)
}
