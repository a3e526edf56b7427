package extract_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-k8s/portcullis/pkg/extract"
)

func placement(spec string) extract.Placement {
	return extract.PlacementOf(mustRead[corev1.PodSpec](spec), false)
}

func affinity(terms string) string {
	return "{affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [" + terms + "]}}}}"
}

func TestPlacementAllows(t *testing.T) {
	const plain = "{metadata: {name: n1, labels: {zone: a, cpus: '8'}}}"
	tainted := func(key, effect string) string {
		return "{metadata: {name: n1}, spec: {taints: [{key: " + key + ", value: db, effect: " + effect + "}]}}"
	}
	for _, c := range []struct {
		why, spec, node string
		want            bool
	}{
		{"anywhere", "{}", plain, true},
		{"nodeName", "{nodeName: n1}", plain, true},
		{"another nodeName", "{nodeName: n2}", plain, false},
		{"nodeSelector", "{nodeSelector: {zone: a}}", plain, true},
		{"another value", "{nodeSelector: {zone: b}}", plain, false},
		{"a label that it has not", "{nodeSelector: {zone: a, disk: ssd}}", plain, false},
		{"In", affinity("{matchExpressions: [{key: zone, operator: In, values: [a, b]}]}"), plain, true},
		{"NotIn", affinity("{matchExpressions: [{key: zone, operator: NotIn, values: [a]}]}"), plain, false},
		{"Gt", affinity("{matchExpressions: [{key: cpus, operator: Gt, values: ['4']}]}"), plain, true},
		{"expressions are all required", affinity("{matchExpressions: [{key: zone, operator: Exists}, {key: disk, operator: Exists}]}"), plain, false},
		{"terms are alternatives", affinity("{matchExpressions: [{key: disk, operator: Exists}]}, {matchExpressions: [{key: zone, operator: Exists}]}"), plain, true},
		{"by name", affinity("{matchFields: [{key: metadata.name, operator: In, values: [n1]}]}"), plain, true},
		{"a term of nothing matches nothing", affinity("{}"), plain, false},
		{"no terms match nothing", affinity(""), plain, false},
		{"what cannot be read matches nothing", affinity("{matchExpressions: [{key: zone, operator: Nonsense}]}"), plain, false},
		{"nodeSelector and affinity are both required", "{nodeSelector: {zone: b}, " + affinity("{matchExpressions: [{key: zone, operator: Exists}]}")[1:], plain, false},
		{"preferences are not required", "{affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, preference: {matchExpressions: [{key: zone, operator: In, values: [b]}]}}]}}}", plain, true},
		{"pod affinity is not looked at", "{affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: zone}]}}}", plain, true},
		{"NoSchedule", "{}", tainted("dedicated", "NoSchedule"), false},
		{"NoExecute", "{}", tainted("dedicated", "NoExecute"), false},
		{"PreferNoSchedule", "{}", tainted("dedicated", "PreferNoSchedule"), true},
		{"tolerated by value", "{tolerations: [{key: dedicated, operator: Equal, value: db, effect: NoSchedule}]}", tainted("dedicated", "NoSchedule"), true},
		{"another value than tolerated", "{tolerations: [{key: dedicated, value: web}]}", tainted("dedicated", "NoSchedule"), false},
		{"another effect than tolerated", "{tolerations: [{key: dedicated, operator: Exists, effect: NoExecute}]}", tainted("dedicated", "NoSchedule"), false},
		{"tolerated by key", "{tolerations: [{key: dedicated, operator: Exists}]}", tainted("dedicated", "NoExecute"), true},
		{"tolerates all", "{tolerations: [{operator: Exists}]}", tainted("dedicated", "NoSchedule"), true},
		{"a node that is not ready", "{}", tainted("node.kubernetes.io/not-ready", "NoExecute"), true},
		{"one that is cordoned", "{}", "{metadata: {name: n1}, spec: {unschedulable: true, taints: [{key: node.kubernetes.io/unschedulable, effect: NoSchedule}]}}", true},
		{"the control plane", "{}", tainted("node-role.kubernetes.io/control-plane", "NoSchedule"), false},
	} {
		if got := placement(c.spec).Allows(mustRead[corev1.Node](c.node)); got != c.want {
			t.Errorf("%s: %v, want %v", c.why, got, c.want)
		}
	}
}

func TestPlacementIsAnywhere(t *testing.T) {
	for spec, want := range map[string]bool{
		"{}":                                  true,
		"{tolerations: [{operator: Exists}]}": true,
		"{affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: []}}}": true,
		"{nodeName: n1}":            false,
		"{nodeSelector: {zone: a}}": false,
		affinity("{matchExpressions: [{key: zone, operator: Exists}]}"): false,
	} {
		if got := placement(spec).IsAnywhere(); got != want {
			t.Errorf("%s: %v, want %v", spec, got, want)
		}
	}
}

// TestPlacementKeys: equal placements have equal keys, whatever else a pod says; others have others.
func TestPlacementKeys(t *testing.T) {
	groups := [][]string{
		{"{}", "{containers: [{name: a}], hostNetwork: true, priority: 3}", "{affinity: {podAntiAffinity: {}}}", "{nodeSelector: {}, tolerations: []}"},
		{"{nodeSelector: {zone: a, disk: ssd}}", "{nodeSelector: {disk: ssd, zone: a}}"},
		{"{nodeSelector: {zone: a}}"},
		{"{nodeName: n1}"},
		{"{tolerations: [{key: a, operator: Exists}]}"},
		{"{tolerations: [{key: a, value: b}]}"},
		{affinity("{matchExpressions: [{key: zone, operator: Exists}]}")},
		{affinity("{matchExpressions: [{key: zone, operator: DoesNotExist}]}")},
		{affinity("")},
	}
	owner := map[string]int{}
	for i, group := range groups {
		for _, spec := range group {
			key := placement(spec).Key
			if first, ok := owner[key]; ok && first != i {
				t.Errorf("%s has the key of %s", spec, groups[first][0])
			}
			owner[key] = i
			if key != placement(group[0]).Key {
				t.Errorf("%s and %s have different keys", spec, group[0])
			}
		}
	}
}
