package observe

import (
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/pkg/extract"
)

// strip reduces an object that the cache is about to keep to what claims need. In a large cluster nearly all pods have
// no host ports: of those next to nothing is kept.
func strip(object any) (any, error) {
	o, ok := object.(client.Object)
	if !ok {
		return object, nil // a tombstone of the cache
	}
	stripMeta(o)
	switch o := o.(type) {
	case *corev1.Pod:
		o.Spec = stripSpec(&o.Spec)
		o.Status = corev1.PodStatus{Phase: o.Status.Phase}
	case *corev1.Node:
		o.Spec = corev1.NodeSpec{PodCIDR: o.Spec.PodCIDR, PodCIDRs: o.Spec.PodCIDRs, Taints: o.Spec.Taints}
		o.Status = corev1.NodeStatus{Addresses: o.Status.Addresses}
	case *appsv1.Deployment:
		o.Spec = appsv1.DeploymentSpec{Replicas: o.Spec.Replicas, Strategy: o.Spec.Strategy, Template: stripTemplate(&o.Spec.Template)}
		o.Status = appsv1.DeploymentStatus{}
	case *appsv1.StatefulSet:
		o.Spec = appsv1.StatefulSetSpec{Replicas: o.Spec.Replicas, Template: stripTemplate(&o.Spec.Template)}
		o.Status = appsv1.StatefulSetStatus{}
	case *appsv1.DaemonSet:
		o.Spec = appsv1.DaemonSetSpec{UpdateStrategy: o.Spec.UpdateStrategy, Template: stripTemplate(&o.Spec.Template)}
		o.Status = appsv1.DaemonSetStatus{}
	case *appsv1.ReplicaSet:
		o.Spec = appsv1.ReplicaSetSpec{Replicas: o.Spec.Replicas, Template: stripTemplate(&o.Spec.Template)}
		o.Status = appsv1.ReplicaSetStatus{}
	case *corev1.ReplicationController:
		spec := corev1.ReplicationControllerSpec{Replicas: o.Spec.Replicas}
		if o.Spec.Template != nil {
			t := stripTemplate(o.Spec.Template)
			spec.Template = &t
		}
		o.Spec, o.Status = spec, corev1.ReplicationControllerStatus{}
	case *batchv1.Job:
		o.Spec = batchv1.JobSpec{Suspend: o.Spec.Suspend, Parallelism: o.Spec.Parallelism, Completions: o.Spec.Completions, Template: stripTemplate(&o.Spec.Template)}
		o.Status = batchv1.JobStatus{Conditions: o.Status.Conditions}
	case *batchv1.CronJob:
		job := batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{
			Parallelism: o.Spec.JobTemplate.Spec.Parallelism, Completions: o.Spec.JobTemplate.Spec.Completions,
			Template: stripTemplate(&o.Spec.JobTemplate.Spec.Template),
		}}
		o.Spec = batchv1.CronJobSpec{Suspend: o.Spec.Suspend, JobTemplate: job}
		o.Status = batchv1.CronJobStatus{}
	}
	return object, nil
}

func stripMeta(o client.Object) {
	o.SetManagedFields(nil)
	o.SetAnnotations(only(o.GetAnnotations(), append(extract.AddressAnnotations(), corev1.MirrorPodAnnotationKey, extract.ReservedPortsAnnotation)))
	o.SetFinalizers(nil)
	if controller := metav1.GetControllerOf(o); controller != nil {
		o.SetOwnerReferences([]metav1.OwnerReference{*controller})
	} else {
		o.SetOwnerReferences(nil)
	}
	switch o := o.(type) {
	case *corev1.Node, *corev1.Namespace, *corev1.Service:
		return // placements select by labels, and so do pools
	case *corev1.Pod:
		if isAsked(&o.Spec) {
			return // exceptions of policies do
		}
	}
	o.SetLabels(only(o.GetLabels(), extract.OwnerLabels()))
}

// only returns the entries of a map that have one of the keys; nil for none.
func only(all map[string]string, keys []string) map[string]string {
	var kept map[string]string
	for _, key := range keys {
		if v, ok := all[key]; ok {
			if kept == nil {
				kept = map[string]string{}
			}
			kept[key] = v
		}
	}
	return kept
}

func stripTemplate(t *corev1.PodTemplateSpec) corev1.PodTemplateSpec {
	kept := corev1.PodTemplateSpec{Spec: stripSpec(&t.Spec)}
	if isAsked(&t.Spec) {
		kept.Labels = t.Labels
	}
	return kept
}

// isAsked reports whether policies ask who a pod is: it is on the host network, or names a port of its node.
func isAsked(spec *corev1.PodSpec) bool {
	return spec.HostNetwork || extract.MayClaim(&corev1.Pod{Spec: *spec})
}

// stripSpec keeps the placement and the containers' ports. Containers without ports stay as empty places, so that the
// paths of the others keep their indexes; without any port nothing stays.
func stripSpec(spec *corev1.PodSpec) corev1.PodSpec {
	kept := corev1.PodSpec{NodeName: spec.NodeName, HostNetwork: spec.HostNetwork}
	containers, some := stripContainers(spec.Containers, spec.HostNetwork)
	inits, more := stripContainers(spec.InitContainers, spec.HostNetwork)
	if !some && !more {
		return kept
	}
	kept.Containers, kept.InitContainers = containers, inits
	kept.NodeSelector, kept.Tolerations = spec.NodeSelector, spec.Tolerations
	if spec.Affinity != nil && spec.Affinity.NodeAffinity != nil {
		kept.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution,
		}}
	}
	return kept
}

func stripContainers(containers []corev1.Container, hostNetwork bool) (kept []corev1.Container, claims bool) {
	kept = make([]corev1.Container, len(containers))
	for i := range containers {
		kept[i] = corev1.Container{Name: containers[i].Name, RestartPolicy: containers[i].RestartPolicy, Ports: containers[i].Ports}
		for _, p := range containers[i].Ports {
			claims = claims || hostNetwork || p.HostPort != 0
		}
		if c := &containers[i]; hostNetwork { // their probes show what they listen on
			kept[i].LivenessProbe, kept[i].ReadinessProbe, kept[i].StartupProbe = stripProbe(c.LivenessProbe), stripProbe(c.ReadinessProbe), stripProbe(c.StartupProbe)
			claims = claims || kept[i].LivenessProbe != nil || kept[i].ReadinessProbe != nil || kept[i].StartupProbe != nil
		}
	}
	return kept, claims
}

// stripProbe keeps the port to which a probe connects; nil for one that connects to none.
func stripProbe(p *corev1.Probe) *corev1.Probe {
	switch {
	case p == nil:
		return nil
	case p.HTTPGet != nil:
		return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Host: p.HTTPGet.Host, Port: p.HTTPGet.Port}}}
	case p.TCPSocket != nil:
		return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: p.TCPSocket}}
	case p.GRPC != nil:
		return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: p.GRPC.Port}}}
	default:
		return nil
	}
}
