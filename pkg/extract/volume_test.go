package extract_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
)

func TestVolumes(t *testing.T) {
	at := func(name, terms string) runtime.Object {
		return mustRead[corev1.PersistentVolume](fmt.Sprintf("{metadata: {name: %s}, spec: {nodeAffinity: {required: {nodeSelectorTerms: %s}}}}", name, terms))
	}
	const onHost = "[{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [host-1]}]}]"
	claim := mustRead[corev1.PersistentVolumeClaim]("{metadata: {name: data, namespace: ns}, spec: {volumeName: v}}")
	const mounts = "volumes: [{name: a, emptyDir: {}}, {name: b, persistentVolumeClaim: {claimName: data}}], containers: [{name: c, ports: [{hostPort: 80}]}]"
	deployment := mustRead[appsv1.Deployment]("{metadata: {name: web, namespace: ns}, spec: {template: {spec: {" + mounts + "}}}}")
	nodes := hosts("n1", "host-1", "n2", "host-2")
	for _, c := range []struct {
		why     string
		objects []runtime.Object
		object  runtime.Object
		want    string
	}{
		{"the node of its volume", []runtime.Object{at("v", onHost), claim}, deployment, "n1"},
		{"bound from the volume's side", []runtime.Object{mustRead[corev1.PersistentVolume]("{metadata: {name: v}, spec: {claimRef: {namespace: ns, name: data}, nodeAffinity: {required: {nodeSelectorTerms: " + onHost + "}}}}")}, deployment, "n1"},
		{"a pod", []runtime.Object{at("v", onHost), claim}, mustRead[corev1.Pod]("{metadata: {name: p, namespace: ns}, spec: {" + mounts + "}}"), "n1"},
		{"a pod that is on a node", []runtime.Object{at("v", onHost), claim}, mustRead[corev1.Pod]("{metadata: {name: p, namespace: ns}, spec: {nodeName: n2, " + mounts + "}}"), "n2"},
		{"with its own affinity", []runtime.Object{at("v", onHost), claim}, mustRead[appsv1.Deployment]("{metadata: {name: web, namespace: ns}, spec: {template: {spec: {" +
			"affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: Exists}]}]}}}, " + mounts + "}}}}"), "n1"},
		{"another volume that was the claim's once", []runtime.Object{claim, at("v", onHost), mustRead[corev1.PersistentVolume]("{metadata: {name: a}, spec: {claimRef: {namespace: ns, name: data}, nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [host-2]}]}]}}}}")}, deployment, "n1"},
		{"a volume that was released", []runtime.Object{mustRead[corev1.PersistentVolume]("{metadata: {name: v}, spec: {claimRef: {namespace: ns, name: data}, nodeAffinity: {required: {nodeSelectorTerms: " + onHost + "}}}, status: {phase: Released}}")}, deployment, "a node"},
		{"a volume of no node", []runtime.Object{mustRead[corev1.PersistentVolume]("{metadata: {name: v}}"), claim}, deployment, "a node"},
		{"a claim of another namespace", []runtime.Object{at("v", onHost), mustRead[corev1.PersistentVolumeClaim]("{metadata: {name: data, namespace: other}, spec: {volumeName: v}}")}, deployment, "a node"},
		{"a claim that is not bound", []runtime.Object{at("v", onHost), mustRead[corev1.PersistentVolumeClaim]("{metadata: {name: data, namespace: ns}}")}, deployment, "a node"},
	} {
		before := c.object.DeepCopyObject()
		placed := extract.NewVolumes(c.objects).Placed(c.object)
		var got string
		if pod, ok := placed.(*corev1.Pod); ok {
			got = extract.Pod(pod, nodes, nil).Claims[0].Scope.String()
		} else {
			w, _ := extract.Workload(placed, nodes, nil)
			got = w.Claims[0].Scope.String()
		}
		if got != c.want {
			t.Errorf("%s: on %s, want %s", c.why, got, c.want)
		}
		if diff := cmp.Diff(before, c.object); diff != "" {
			t.Errorf("%s: the object was changed:\n%s", c.why, diff)
		}
	}
}

// TestVolumesMeetEach: a pod may run exactly where its own affinity and each of its volumes allow it.
func TestVolumesMeetEach(t *testing.T) {
	r := seed.Rand(t)
	names := []string{"a", "b", "c", "d"}
	var nodes extract.NodeList
	for _, name := range names {
		nodes = append(nodes, mustRead[corev1.Node]("{metadata: {name: "+name+", labels: {x: "+name+"}}}"))
	}
	terms := func() (list []corev1.NodeSelectorTerm) {
		for range 1 + r.IntN(3) {
			var values []string
			for _, name := range names {
				if r.IntN(2) == 0 {
					values = append(values, name)
				}
			}
			list = append(list, corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "x", Operator: corev1.NodeSelectorOpIn, Values: values}}})
		}
		return list
	}
	allows := func(list []corev1.NodeSelectorTerm, name string) bool {
		return slices.ContainsFunc(list, func(term corev1.NodeSelectorTerm) bool { return slices.Contains(term.MatchExpressions[0].Values, name) })
	}
	for range seed.Rounds(500, 20_000) {
		var objects []runtime.Object
		var lists [][]corev1.NodeSelectorTerm
		pod := mustRead[corev1.Pod]("{metadata: {name: p, namespace: ns}, spec: {containers: [{name: c, ports: [{hostPort: 80}]}]}}")
		if r.IntN(2) == 0 {
			own := terms()
			lists = append(lists, own)
			pod.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: own}}}
		}
		for i := range 1 + r.IntN(3) {
			name, list := fmt.Sprint("v", i), terms()
			lists = append(lists, list)
			pv := &corev1.PersistentVolume{}
			pv.Name = name
			pv.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "ns", Name: name}
			pv.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: list}}
			objects = append(objects, pv)
			pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}}})
		}
		want := []string{}
		for _, name := range names {
			if !slices.ContainsFunc(lists, func(list []corev1.NodeSelectorTerm) bool { return !allows(list, name) }) {
				want = append(want, name)
			}
		}
		placed, _ := extract.NewVolumes(objects).Placed(pod).(*corev1.Pod)
		if diff := cmp.Diff(want, extract.Pod(placed, nodes, nil).Eligible); diff != "" {
			t.Fatalf("%v (-want +got):\n%s", lists, diff)
		}
	}
}
