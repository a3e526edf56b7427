package extract

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	schedulingv1 "k8s.io/component-helpers/scheduling/corev1"
)

// InTheWay returns a pod as it stands in seeker's way, with its node in spec.nodeName; nil if it stands in nobody's: one
// that has ended, and one without a node. A node to which a pod is nominated is kept for it from pods of no higher
// priority, as kube-scheduler does (k8s.io/kubernetes pkg/scheduler/framework/runtime, addGENominatedPods).
func InTheWay(pod, seeker *corev1.Pod) *corev1.Pod {
	isSame := Ref(coreKind("Pod"), pod) == Ref(coreKind("Pod"), seeker)
	switch nominated := pod.Status.NominatedNodeName; {
	case IsFinished(pod) || isSame:
		return nil
	case pod.Spec.NodeName != "":
		return pod
	case nominated != "" && schedulingv1.PodPriority(pod) >= schedulingv1.PodPriority(seeker):
		there := *pod
		there.Spec.NodeName = nominated
		return &there
	default:
		return nil
	}
}

// MayPreempt reports whether the scheduler may take pod from its node to make room for seeker.
func MayPreempt(seeker, pod *corev1.Pod) bool {
	never := seeker.Spec.PreemptionPolicy != nil && *seeker.Spec.PreemptionPolicy == corev1.PreemptNever
	return !never && schedulingv1.PodPriority(pod) < schedulingv1.PodPriority(seeker)
}

// PodToBe returns a pod as the controller of an object with a pod template would make it, with a generated name; false
// for an object of another kind.
func PodToBe(object runtime.Object) (*corev1.Pod, bool) {
	t, ok := templateOf(object)
	if !ok {
		return nil, false
	}
	pod := &corev1.Pod{ObjectMeta: *t.pod.ObjectMeta.DeepCopy(), Spec: *t.pod.Spec.DeepCopy()}
	pod.Namespace, pod.Name, pod.GenerateName = namespaceOf(t.object), "", t.object.GetName()+"-"
	isController := true
	pod.OwnerReferences = []metav1.OwnerReference{{
		APIVersion: t.gvk.GroupVersion().String(), Kind: t.gvk.Kind, Name: t.object.GetName(), Controller: &isController,
	}}
	if t.daemon {
		pod.Spec.Tolerations = append(pod.Spec.Tolerations, daemonTolerations(pod.Spec.HostNetwork)...)
	}
	return pod, true
}

// daemonTolerations are those that the DaemonSet controller gives each of its pods (k8s.io/kubernetes
// pkg/controller/daemon/util, AddOrUpdateDaemonPodTolerations).
func daemonTolerations(hostNetwork bool) []corev1.Toleration {
	tolerates := func(key string, effect corev1.TaintEffect) corev1.Toleration {
		return corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: effect}
	}
	all := []corev1.Toleration{
		tolerates(corev1.TaintNodeNotReady, corev1.TaintEffectNoExecute),
		tolerates(corev1.TaintNodeUnreachable, corev1.TaintEffectNoExecute),
		tolerates(corev1.TaintNodeDiskPressure, corev1.TaintEffectNoSchedule),
		tolerates(corev1.TaintNodeMemoryPressure, corev1.TaintEffectNoSchedule),
		tolerates(corev1.TaintNodePIDPressure, corev1.TaintEffectNoSchedule),
		tolerates(corev1.TaintNodeUnschedulable, corev1.TaintEffectNoSchedule),
	}
	if hostNetwork {
		all = append(all, tolerates(corev1.TaintNodeNetworkUnavailable, corev1.TaintEffectNoSchedule))
	}
	return all
}
