// Package extract turns Kubernetes objects into the plain values of the core. Every default that the API leaves open, and
// every one that only a Pod gets, is decided here, once.
//
//	Service             check.Service with its ports.Claims
//	Pod, Workload       check.Workload with its ports.Claims; Workload is for objects with a pod template
//	Owner, Ref          the object's name, and the controllers above it
//	PlacementOf         on which nodes pods may run; EligibleNodes answers for a cluster's nodes
//	NodeAddresses       a node's addresses; Reservation is what its annotation reserves
//	Pool, Policy        pool.Pool, check.Policy
//	World               rules.World: what kube-proxy and portmap see on one node
//	NewSettings         Settings: the configuration; WithEvidence adds the data plane that objects show
//
// Invalid returns what the API server's own validation would reject, for objects that it has not seen. Nothing here reads
// a cluster: pkg/observe, pkg/audit and package scheduling bring the objects.
package extract

import (
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// Labels by which k3s marks the pods of its service load balancer, whose hostPorts are a Service's own way to the
// node's addresses and no conflict with it (k3s-io/k3s pkg/cloudprovider/servicelb.go).
const (
	svclbNameLabel      = "svccontroller.k3s.cattle.io/svcname"
	svclbNamespaceLabel = "svccontroller.k3s.cattle.io/svcnamespace"
)

// OwnerLabels are the labels that Owner reads: whoever keeps only a part of an object must keep them.
func OwnerLabels() []string {
	return []string{appsv1.DefaultDeploymentUniqueLabelKey, svclbNameLabel, svclbNamespaceLabel}
}

// Ref names a namespaced object of a kind. One without a namespace lies in "default".
func Ref(gvk schema.GroupVersionKind, object metav1.Object) ports.Ref {
	return ports.Ref{
		APIVersion: gvk.GroupVersion().String(),
		Kind:       gvk.Kind,
		Namespace:  namespaceOf(object),
		Name:       nameOf(object),
	}
}

func namespaceOf(object metav1.Object) string {
	if ns := object.GetNamespace(); ns != "" {
		return ns
	}
	return metav1.NamespaceDefault
}

// nameOf returns an object's name, or, before the API server has made one of generateName, a pattern.
func nameOf(object metav1.Object) string {
	if name := object.GetName(); name != "" {
		return name
	}
	return object.GetGenerateName() + "*"
}

// Owner returns an object as an owner with the controllers that it knows of itself: its own controller, the Deployment
// of a ReplicaSet's pod (by the pod-template-hash label, which the Deployment controller puts at the end of the
// ReplicaSet's name), and the Service of a k3s load balancer's pods. Labels are written by whoever writes the object: those
// of k3s count in trusted namespaces only, and none leads out of the object's own namespace anywhere else.
func Owner(gvk schema.GroupVersionKind, object metav1.Object, trusted []string) ports.Owner {
	owner := ports.Owner{Ref: Ref(gvk, object)}
	last := &owner
	add := func(ref ports.Ref) {
		last.Controller = &ports.Owner{Ref: ref}
		last = last.Controller
	}
	if controller := metav1.GetControllerOf(object); controller != nil && !endsChain(gvk.Kind, controller) {
		add(ports.Ref{
			APIVersion: controller.APIVersion, Kind: controller.Kind,
			Namespace: owner.Namespace, Name: controller.Name,
		})
		if deployment, ok := deploymentOf(controller, object.GetLabels()); ok {
			add(ports.Ref{
				APIVersion: appsv1.SchemeGroupVersion.String(), Kind: "Deployment",
				Namespace: owner.Namespace, Name: deployment,
			})
		}
	}
	if service := serviceLBOwner(owner.Namespace, object.GetLabels()); service != nil && slices.Contains(trusted, owner.Namespace) {
		add(service.Ref)
	}
	return owner
}

// serviceLBOwner returns the Service for which k3s' load balancer runs pods with labels; nil for other pods.
func serviceLBOwner(namespace string, labels map[string]string) *ports.Owner {
	name := labels[svclbNameLabel]
	if name == "" {
		return nil
	}
	if of := labels[svclbNamespaceLabel]; of != "" { // older versions of k3s ran these pods beside the Service
		namespace = of
	}
	return &ports.Owner{Ref: ports.Ref{APIVersion: "v1", Kind: "Service", Namespace: namespace, Name: name}}
}

// serviceLBNodeLabel keeps k3s' load balancer to the nodes that have it, as soon as one has it.
const serviceLBNodeLabel = "svccontroller.k3s.cattle.io/enablelb"

// WithServiceLB returns where node ports are served, completed by whether objects show that k3s' load balancer serves their
// Services: by one of its DaemonSets, in a trusted namespace.
func (n NodePortAddresses) WithServiceLB(objects []runtime.Object, trusted []string) NodePortAddresses {
	for _, object := range objects {
		switch o := object.(type) {
		case *appsv1.DaemonSet:
			n.ServiceLB = n.ServiceLB || o.Spec.Template.Labels[svclbNameLabel] != "" && slices.Contains(trusted, namespaceOf(o))
		case *corev1.Node:
			if o.Labels[serviceLBNodeLabel] == "true" {
				n.ServiceLBOn = append(n.ServiceLBOn, o.Name)
			}
		}
	}
	return n
}

// endsChain reports whether a chain ends at an object of a kind although it has a controller. Of the core API's kinds only a
// ReplicationController makes pods: a Node is where a mirror pod runs, and who names a Service as its controller is not of
// the Service. Above a workload that rolls itself out stands whoever makes such workloads, an operator's custom resource for
// example: two Deployments of one resource are two holders, and no rollout of each other.
func endsChain(kind string, controller *metav1.OwnerReference) bool {
	switch kind {
	case "Deployment", "StatefulSet", "DaemonSet", "CronJob":
		return true
	default:
		return controller.APIVersion == corev1.SchemeGroupVersion.String() && controller.Kind != "ReplicationController"
	}
}

// deploymentOf names the Deployment behind the ReplicaSet that controls a pod with labels.
func deploymentOf(controller *metav1.OwnerReference, labels map[string]string) (string, bool) {
	hash := labels[appsv1.DefaultDeploymentUniqueLabelKey]
	if controller.Kind != "ReplicaSet" || hash == "" {
		return "", false
	}
	return strings.CutSuffix(controller.Name, "-"+hash)
}

func coreKind(kind string) schema.GroupVersionKind { return corev1.SchemeGroupVersion.WithKind(kind) }
