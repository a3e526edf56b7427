package extract_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
)

// TestOverlap compares what two selections of nodes have in common with all the nodes that there may be.
func TestOverlap(t *testing.T) {
	r := seed.Rand(t)
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	requirement := func(operators ...string) string {
		key, values := "zone", []string{"a", "b"}
		if r.IntN(2) == 0 {
			key, values = "cpus", []string{"3", "5", "6"}
		}
		operator := pick(operators...)
		switch operator {
		case "Exists", "DoesNotExist":
			return fmt.Sprintf("{key: %s, operator: %s}", key, operator)
		case "Gt", "Lt":
			return fmt.Sprintf("{key: cpus, operator: %s, values: [%q]}", operator, pick("3", "5", "6"))
		}
		list := []string{fmt.Sprintf("%q", pick(values...))}
		if r.IntN(2) == 0 {
			list = append(list, fmt.Sprintf("%q", pick(values...)))
		}
		return fmt.Sprintf("{key: %s, operator: %s, values: [%s]}", key, operator, strings.Join(list, ", "))
	}
	several := func(n int, operators ...string) string {
		var list []string
		for range n {
			list = append(list, requirement(operators...))
		}
		return strings.Join(list, ", ")
	}
	var nodes []*corev1.Node
	for _, zone := range []string{"", "a", "b", "c"} {
		for _, cpus := range []string{"", "1", "2", "3", "4", "5", "6", "7", "c"} {
			n := &corev1.Node{}
			n.Labels = map[string]string{}
			if zone != "" {
				n.Labels["zone"] = zone
			}
			if cpus != "" {
				n.Labels["cpus"] = cpus
			}
			nodes = append(nodes, n)
		}
	}
	counts := map[string]int{}
	for range seed.Rounds(3000, 100_000) {
		var terms []string
		for range 1 + r.IntN(2) {
			terms = append(terms, "{matchExpressions: ["+several(1+r.IntN(2), "In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt")+"]}")
		}
		spec := affinity(strings.Join(terms, ", "))
		if r.IntN(3) == 0 {
			spec = "{nodeSelector: {zone: " + pick("a", "b") + "}, " + spec[1:]
		}
		reserved := "{matchExpressions: [" + several(r.IntN(3), "In", "NotIn", "Exists", "DoesNotExist") + "]}"
		placed := placement(spec)
		policy, err := extract.Policy(mustRead[v1alpha1.PortPolicy]("{spec: {namespaceSelector: {}, reserved: [{name: x, ports: [{port: 80}], nodeSelector: " + reserved + "}]}}"))
		if err != nil {
			t.Fatal(err)
		}
		selected := policy.Reserved[0].Nodes
		wantSome, wantAll := false, true
		for _, n := range nodes {
			if placed.Allows(n) {
				wantSome = wantSome || selected.Matches(n.Labels)
				wantAll = wantAll && selected.Matches(n.Labels)
			}
		}
		wantAll = wantAll && wantSome
		some, all := placed.Overlap(selected)
		counts[fmt.Sprint(some, all)]++
		if some != wantSome || all != wantAll {
			t.Fatalf("%s and %s: some %t, all %t, want %t, %t", spec, reserved, some, all, wantSome, wantAll)
		}
	}
	for _, outcome := range []string{"true true", "true false", "false false"} {
		if counts[outcome] < 50 {
			t.Errorf("%v", counts)
		}
	}
}

func TestRunsNowhere(t *testing.T) {
	pod := func(spec string) runtime.Object { return &corev1.Pod{Spec: *mustRead[corev1.PodSpec](spec)} }
	const tolerates = "tolerations: [{operator: Exists}], "
	some := extract.NodeList{
		mustRead[corev1.Node]("{metadata: {name: n1, labels: {zone: a}}}"),
		mustRead[corev1.Node]("{metadata: {name: n2, labels: {zone: b}}, spec: {taints: [{key: only, effect: NoSchedule}]}}"),
	}
	for _, c := range []struct {
		why    string
		object runtime.Object
		nodes  extract.NodeList
		want   bool
	}{
		{"no node has the label", pod("{nodeSelector: {zone: c}}"), some, true},
		{"one has", pod("{nodeSelector: {zone: a}}"), some, false},
		{"it is not tolerated", pod("{nodeSelector: {zone: b}}"), some, true},
		{"it is tolerated", pod("{" + tolerates + "nodeSelector: {zone: b}}"), some, false},
		{"by affinity", pod(affinity("{matchExpressions: [{key: zone, operator: In, values: [c]}]}")), some, true},
		{"of two alternatives one", pod(affinity("{matchExpressions: [{key: zone, operator: In, values: [c]}]}, {matchExpressions: [{key: zone, operator: In, values: [a]}]}")), some, false},
		{"there is no node", pod("{nodeSelector: {zone: a}}"), extract.NodeList{}, true},
		{"the nodes are not known", pod("{nodeSelector: {zone: c}}"), nil, false},
		{"it says nothing of nodes", pod("{}"), extract.NodeList{}, false},
		{"it names a node", pod("{nodeName: n1, nodeSelector: {zone: c}}"), some, false},
		{"it names a node that has a taint", pod("{nodeName: n2}"), some, false},
		{"it names a node that there is not", pod("{nodeName: n9}"), some, true},
		{"a template", &appsv1.Deployment{Spec: appsv1.DeploymentSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{NodeSelector: map[string]string{"zone": "c"}}}}}, some, true},
		{"no pod", &corev1.Service{}, some, false},
		{"nothing", nil, some, false},
	} {
		if got := extract.RunsNowhere(c.object, c.nodes); got != c.want {
			text, _ := json.Marshal(c.object)
			t.Errorf("%s: got %t, want %t of %s", c.why, got, c.want, text)
		}
	}
}
