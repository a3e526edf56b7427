package extract_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/portcullis-k8s/portcullis/pkg/extract"
)

// TestExclusions holds what is said; that it is said when kube-scheduler refuses is held in test/upstream/scheduling.
func TestExclusions(t *testing.T) {
	const plain = "{metadata: {name: n1, labels: {disk: hdd}}}"
	const small = "{metadata: {name: n1}, status: {allocatable: {cpu: '2', memory: 1Gi, pods: '3'}}}"
	requests := func(list string) string { return "{containers: [{name: c, resources: {requests: " + list + "}}]}" }
	for _, c := range []struct {
		why, spec, node string
		want            []string // RULE: VALUE / HAS
	}{
		{"suits", "{}", plain, nil},
		{"another node", "{nodeName: n2}", plain, []string{"nodeName: n2 / n1"}},
		{"its own node", "{nodeName: n1}", plain, nil},
		{"another label, and one that it has not", "{nodeSelector: {zone: a, disk: ssd}}", plain, []string{"nodeSelector: disk=ssd / disk=hdd", "nodeSelector: zone=a / "}},
		{"one term: what of it fails", affinity("{matchExpressions: [{key: disk, operator: Exists}, {key: disk, operator: In, values: [ssd, nvme]}], matchFields: [{key: metadata.name, operator: In, values: [n2]}]}"), plain,
			[]string{"nodeAffinity: disk In ssd, nvme / disk=hdd", "nodeAffinity: metadata.name In n2 / metadata.name=n1"}},
		{"several terms", affinity("{matchExpressions: [{key: a, operator: Exists}]}, {matchExpressions: [{key: b, operator: Exists}]}"), plain, []string{"nodeAffinity: any of 2 terms / "}},
		{"no terms", affinity(""), plain, []string{"nodeAffinity: any of 0 terms / "}},
		{"a term of nothing", affinity("{}"), plain, []string{"nodeAffinity: a term that is empty / "}},
		{"what cannot be read", affinity("{matchExpressions: [{key: disk, operator: Nonsense}]}"), plain, []string{"nodeAffinity: disk Nonsense / disk=hdd"}},
		{"taints", "{tolerations: [{key: a, operator: Exists}]}", "{spec: {taints: [{key: a, effect: NoSchedule}, {key: b, value: x, effect: NoExecute}, {key: c, effect: PreferNoSchedule}]}}", []string{"taint: b=x:NoExecute / "}},
		{"a cordon, once", "{}", "{spec: {unschedulable: true, taints: [{key: node.kubernetes.io/unschedulable, effect: NoSchedule}]}}", []string{"unschedulable:  / "}},
		{"its taint that stayed", "{}", "{spec: {taints: [{key: node.kubernetes.io/unschedulable, effect: NoSchedule}]}}", []string{"taint: node.kubernetes.io/unschedulable:NoSchedule / "}},
		{"tolerated", "{tolerations: [{operator: Exists}]}", "{spec: {unschedulable: true}}", nil},
		{"not ready, now", "{}", "{spec: {taints: [{key: node.kubernetes.io/not-ready, effect: NoSchedule}]}}", []string{"taint: node.kubernetes.io/not-ready:NoSchedule / "}},
		{"it fits", requests("{cpu: 1500m, memory: 512Mi}"), small, nil},
		{"too much, beside what is there", requests("{cpu: 1600m, memory: 2Gi, example.com/gpu: 1}"), small, []string{
			"requests: cpu 1600m / cpu 1500m", "requests: example.com/gpu 1 / example.com/gpu 0", "requests: memory 2Gi / memory 1Gi"}},
		{"not known", requests("{cpu: 1600m}"), plain, nil},
		{"too many pods", "{}", "{status: {allocatable: {pods: '1'}}}", []string{"pods: 1 / 1"}},
	} {
		var load extract.Load
		load.Add(mustRead[corev1.Pod]("{spec: " + requests("{cpu: 500m}") + "}"))
		load.Add(mustRead[corev1.Pod]("{spec: " + requests("{cpu: '7'}") + ", status: {phase: Failed}}"))
		var got []string
		for _, e := range extract.Exclusions(&corev1.Pod{Spec: *mustRead[corev1.PodSpec](c.spec)}, mustRead[corev1.Node](c.node), load) {
			got = append(got, fmt.Sprintf("%s: %s / %s", e.Rule, e.Value, e.Has))
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.why, diff)
		}
	}
}

func TestUnmodelled(t *testing.T) {
	const none = "{schedulerName: default-scheduler, volumes: [{name: a, emptyDir: {}}], topologySpreadConstraints: [{whenUnsatisfiable: ScheduleAnyway}], affinity: {podAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1}]}}}"
	const all = "{schedulerName: mine, resourceClaims: [{name: a}], schedulingGroup: {}, volumes: [{name: a, emptyDir: {}}, {name: b, persistentVolumeClaim: {claimName: b}}, {name: c, ephemeral: {}}], " +
		"topologySpreadConstraints: [{whenUnsatisfiable: ScheduleAnyway}, {whenUnsatisfiable: DoNotSchedule}], " +
		"affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: a}]}, podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: a}]}}}"
	want := []string{
		"spec.affinity.podAffinity", "spec.affinity.podAntiAffinity", "spec.topologySpreadConstraints[1]", "spec.volumes[1]", "spec.volumes[2]",
		"spec.resourceClaims", "spec.schedulingGroup", "spec.schedulerName mine",
	}
	if diff := cmp.Diff(want, extract.Unmodelled(&corev1.Pod{Spec: *mustRead[corev1.PodSpec](all)})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := extract.Unmodelled(&corev1.Pod{Spec: *mustRead[corev1.PodSpec](none)}); got != nil {
		t.Errorf("%q of a pod that asks for none of it", got)
	}
}

func TestNodeSays(t *testing.T) {
	for text, want := range map[string][2]bool{
		"{}": {true, false},
		"{status: {allocatable: {cpu: 1}, conditions: [{type: Ready, status: 'True'}]}}":                   {true, true},
		"{status: {conditions: [{type: MemoryPressure, status: 'True'}, {type: Ready, status: 'False'}]}}": {false, false},
		"{status: {conditions: [{type: Ready, status: Unknown}]}}":                                         {false, false},
	} {
		node := mustRead[corev1.Node](text)
		if got := [2]bool{extract.IsReady(node), extract.HasAllocatable(node)}; got != want {
			t.Errorf("%s: ready and allocatable %v, want %v", text, got, want)
		}
	}
}

func TestInTheWay(t *testing.T) {
	const seeker = "{metadata: {name: a}, spec: {priority: 5}}"
	for _, c := range []struct{ why, pod, want string }{
		{"bound", "{metadata: {name: b}, spec: {nodeName: n1}}", "n1"},
		{"ended", "{metadata: {name: b}, spec: {nodeName: n1}, status: {phase: Failed}}", ""},
		{"itself", "{metadata: {name: a, namespace: default}, spec: {nodeName: n1}}", ""},
		{"its name elsewhere", "{metadata: {name: a, namespace: shop}, spec: {nodeName: n1}}", "n1"},
		{"waiting", "{metadata: {name: b}, spec: {priority: 9}}", ""},
		{"nominated before it", "{metadata: {name: b}, spec: {priority: 5}, status: {nominatedNodeName: n2}}", "n2"},
		{"nominated after it", "{metadata: {name: b}, spec: {priority: 4}, status: {nominatedNodeName: n2}}", ""},
		{"nominated and bound", "{metadata: {name: b}, spec: {nodeName: n1}, status: {nominatedNodeName: n2}}", "n1"},
	} {
		pod := mustRead[corev1.Pod](c.pod)
		before := pod.DeepCopy()
		got := ""
		if there := extract.InTheWay(pod, mustRead[corev1.Pod](seeker)); there != nil {
			got = there.Spec.NodeName
		}
		if got != c.want {
			t.Errorf("%s: on %q, want %q", c.why, got, c.want)
		}
		if diff := cmp.Diff(before, pod); diff != "" {
			t.Errorf("%s: the pod was written to:\n%s", c.why, diff)
		}
	}
}

func TestMayPreempt(t *testing.T) {
	for _, c := range []struct {
		seeker, pod string
		want        bool
	}{
		{"{}", "{}", false},
		{"{priority: 1}", "{}", true},
		{"{}", "{priority: 1}", false},
		{"{}", "{priority: -1}", true},
		{"{priority: 1, preemptionPolicy: Never}", "{}", false},
		{"{priority: 1, preemptionPolicy: PreemptLowerPriority}", "{}", true},
	} {
		seeker, pod := &corev1.Pod{Spec: *mustRead[corev1.PodSpec](c.seeker)}, &corev1.Pod{Spec: *mustRead[corev1.PodSpec](c.pod)}
		if got := extract.MayPreempt(seeker, pod); got != c.want {
			t.Errorf("%s over %s: %v, want %v", c.seeker, c.pod, got, c.want)
		}
	}
}

func TestPodToBe(t *testing.T) {
	const template = "template: {metadata: {labels: {a: b}}, spec: {hostNetwork: true, nodeSelector: {disk: ssd}, containers: [{name: c, ports: [{containerPort: 80}]}]}}"
	meta := "metadata: {name: x, namespace: shop}"
	for want, object := range map[string]runtime.Object{
		"apps/v1 Deployment shop/x":       mustRead[appsv1.Deployment]("{" + meta + ", spec: {" + template + "}}"),
		"apps/v1 StatefulSet shop/x":      mustRead[appsv1.StatefulSet]("{" + meta + ", spec: {" + template + "}}"),
		"apps/v1 DaemonSet shop/x":        mustRead[appsv1.DaemonSet]("{" + meta + ", spec: {" + template + "}}"),
		"apps/v1 ReplicaSet shop/x":       mustRead[appsv1.ReplicaSet]("{" + meta + ", spec: {" + template + "}}"),
		"v1 ReplicationController shop/x": mustRead[corev1.ReplicationController]("{" + meta + ", spec: {" + template + "}}"),
		"batch/v1 Job shop/x":             mustRead[batchv1.Job]("{" + meta + ", spec: {" + template + "}}"),
		"batch/v1 CronJob shop/x":         mustRead[batchv1.CronJob]("{" + meta + ", spec: {jobTemplate: {spec: {" + template + "}}}}"),
	} {
		pod, ok := extract.PodToBe(object)
		if !ok {
			t.Errorf("%s: no pod", want)
			continue
		}
		w := extract.Pod(pod, nil, nil)
		if got := chain(w.Owner); got != "v1 Pod shop/x-* < "+want {
			t.Errorf("%s, want %s", got, want)
		}
		if diff := cmp.Diff([]string{"hostNetwork port *:80/TCP @a node spec.containers[0].ports[0].containerPort"}, told(w.Claims)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", want, diff)
		}
		if pod.Labels["a"] != "b" || pod.Spec.NodeSelector["disk"] != "ssd" {
			t.Errorf("%s: %v", want, pod)
		}
		_, isDaemon := object.(*appsv1.DaemonSet)
		cordoned := mustRead[corev1.Node]("{metadata: {labels: {disk: ssd}}, spec: {unschedulable: true, taints: [{key: node.kubernetes.io/network-unavailable, effect: NoSchedule}, {key: node.kubernetes.io/not-ready, effect: NoExecute}]}}")
		if suits := extract.Exclusions(pod, cordoned, extract.Load{}) == nil; suits != isDaemon {
			t.Errorf("%s: a node that only daemons tolerate suits: %v", want, suits)
		}
	}
	for _, object := range []runtime.Object{&corev1.Pod{}, &corev1.Service{}, &corev1.ReplicationController{}} {
		if pod, ok := extract.PodToBe(object); ok {
			t.Errorf("%T: %v", object, pod)
		}
	}
}
