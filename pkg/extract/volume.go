package extract

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
)

// Volumes knows the nodes of persistent volumes: a pod runs only where all of its volumes can be mounted.
type Volumes struct {
	volumes map[string]*corev1.PersistentVolume
	claims  map[string]string // the names of their volumes, by namespace/name
}

// NewVolumes returns the volumes among objects and who has claimed them.
func NewVolumes(objects []runtime.Object) Volumes {
	v := Volumes{map[string]*corev1.PersistentVolume{}, map[string]string{}}
	for _, object := range objects {
		switch o := object.(type) {
		case *corev1.PersistentVolume:
			v.volumes[o.Name] = o
		case *corev1.PersistentVolumeClaim:
			v.claims[namespaceOf(o)+"/"+o.Name] = o.Spec.VolumeName // the claim's own word counts, if it is there
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v.volumes)) {
		by := v.volumes[name].Spec.ClaimRef
		if by == nil || v.volumes[name].Status.Phase == corev1.VolumeReleased {
			continue
		}
		if _, known := v.claims[by.Namespace+"/"+by.Name]; !known {
			v.claims[by.Namespace+"/"+by.Name] = name
		}
	}
	return v
}

// Placed returns a pod, or an object with a pod template, as it is placed with its volumes: with the nodes that they require
// among those that it requires. It is object itself where no volume names nodes. What a StatefulSet's volumeClaimTemplates
// make is each pod's own, and is not looked at.
func (v Volumes) Placed(object runtime.Object) runtime.Object {
	if len(v.volumes) == 0 {
		return object
	}
	spec, _ := podSpecOf(object)
	m, err := meta.Accessor(object)
	_, isPod := object.(*corev1.Pod)
	if spec == nil || err != nil || isPod && spec.NodeName != "" { // such a pod is on its node
		return object
	}
	required := v.required(namespaceOf(m), spec)
	if required == nil {
		return object
	}
	object = object.DeepCopyObject()
	spec, _ = podSpecOf(object)
	require(spec, required)
	return object
}

// required returns what the nodes of all volumes of a pod must be: one list of alternatives for each volume that names any.
func (v Volumes) required(namespace string, spec *corev1.PodSpec) [][]corev1.NodeSelectorTerm {
	var all [][]corev1.NodeSelectorTerm
	for i := range spec.Volumes {
		claim := spec.Volumes[i].PersistentVolumeClaim
		if claim == nil {
			continue
		}
		volume := v.volumes[v.claims[namespace+"/"+claim.ClaimName]]
		if volume != nil && volume.Spec.NodeAffinity != nil && volume.Spec.NodeAffinity.Required != nil {
			all = append(all, volume.Spec.NodeAffinity.Required.NodeSelectorTerms)
		}
	}
	return all
}

// maxTerms bounds the alternatives that are multiplied out: beyond that the further volumes do not count.
const maxTerms = 64

// require narrows the nodes of a pod to those that meet one alternative of each list as well.
func require(spec *corev1.PodSpec, lists [][]corev1.NodeSelectorTerm) {
	if spec.Affinity == nil {
		spec.Affinity = &corev1.Affinity{}
	}
	if spec.Affinity.NodeAffinity == nil {
		spec.Affinity.NodeAffinity = &corev1.NodeAffinity{}
	}
	if spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{}
	}
	own := spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	for _, list := range lists {
		if len(own.NodeSelectorTerms) == 0 {
			own.NodeSelectorTerms = list
			continue
		}
		if len(own.NodeSelectorTerms)*len(list) > maxTerms {
			continue
		}
		var both []corev1.NodeSelectorTerm
		for _, a := range own.NodeSelectorTerms {
			for _, b := range list {
				both = append(both, corev1.NodeSelectorTerm{
					MatchExpressions: append(append([]corev1.NodeSelectorRequirement{}, a.MatchExpressions...), b.MatchExpressions...),
					MatchFields:      append(append([]corev1.NodeSelectorRequirement{}, a.MatchFields...), b.MatchFields...),
				})
			}
		}
		own.NodeSelectorTerms = both
	}
}
