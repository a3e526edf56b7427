package scheduling

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/apis/config"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/feature"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/nodeaffinity"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/nodename"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/noderesources"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/nodeunschedulable"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/tainttoleration"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/extract/specimen"
)

func upstream[P fwk.Plugin](t *testing.T, p fwk.Plugin, err error) P {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return p.(P)
}

// TestExclusions: the rules of a node that exclude a pod are those by which kube-scheduler's own plugins refuse it.
func TestExclusions(t *testing.T) {
	features := feature.Features{EnableTaintTolerationComparisonOperators: true, EnablePodLevelResources: true}
	filters := map[check.NodeRule]fwk.FilterPlugin{}
	add := func(rule check.NodeRule, p fwk.Plugin, err error) {
		filters[rule] = upstream[fwk.FilterPlugin](t, p, err)
	}
	p, err := nodename.New(t.Context(), nil, nil, features)
	add(check.ByNodeName, p, err)
	p, err = nodeaffinity.New(t.Context(), &config.NodeAffinityArgs{}, nil, features)
	add(check.ByNodeAffinity, p, err)
	p, err = nodeunschedulable.New(t.Context(), nil, nil, features)
	add(check.ByCordon, p, err)
	p, err = tainttoleration.New(t.Context(), nil, nil, features)
	add(check.ByTaint, p, err)

	s := specimen.New(t)
	seen := map[check.NodeRule]int{}
	judged := 0
	for range specimen.Rounds(3000) {
		node, pod := drawTaintedNode(s), drawChoosyPod(s, "seeker")
		pod.Spec.NodeName = one(s, "", "", "", "n1", "n2")
		info := framework.NewNodeInfo()
		info.SetNode(node)
		var load extract.Load
		for i := range s.IntN(4) {
			there := drawChoosyPod(s, fmt.Sprint("p", i))
			there.Spec.NodeName = node.Name
			info.AddPod(there)
			load.Add(there)
		}
		got := map[check.NodeRule]bool{}
		for _, e := range extract.Exclusions(pod, node, load) {
			rule := e.Rule
			if rule == check.ByNodeSelector { // one plugin judges both
				rule = check.ByNodeAffinity
			}
			if rule == check.ByTaint && onlyCordon(node, pod) {
				t.Errorf("the taint of a cordon is told beside the cordon: %s", asJSON(node))
			}
			got[rule] = true
		}
		want := map[check.NodeRule]bool{}
		for rule, f := range filters {
			if isRefused(f.Filter(t.Context(), framework.NewCycleState(), pod, info)) {
				want[rule] = true
			}
		}
		if want[check.ByTaint] && !got[check.ByTaint] && onlyCordon(node, pod) {
			delete(want, check.ByTaint) // told as the cordon that it is
		}
		for _, short := range noderesources.Fits(pod, info, nil, noderesources.ResourceRequestsOptions{EnablePodLevelResources: true}) {
			rule := check.ByRequests
			if short.ResourceName == corev1.ResourcePods {
				rule = check.ByNumberOfPods
			}
			want[rule] = true
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("rules (-kube-scheduler +ours):\n%s\npod %s\nnode %s\npods %s", diff, asJSON(pod), asJSON(node), asJSON(podsOn(info)))
		}
		judged++
		for rule := range want {
			seen[rule]++
		}
	}
	t.Logf("%d judged; excluded by %v", judged, seen)
	for _, rule := range []check.NodeRule{check.ByNodeName, check.ByNodeAffinity, check.ByCordon, check.ByTaint, check.ByRequests, check.ByNumberOfPods} {
		if n := seen[rule]; n == 0 || n == judged {
			t.Errorf("%s excluded %d of %d: that proves nothing", rule, n, judged)
		}
	}
}

// onlyCordon reports whether the only taint that counts is that of a cordon.
func onlyCordon(node *corev1.Node, pod *corev1.Pod) bool {
	plain := node.DeepCopy()
	plain.Spec.Taints = slices.DeleteFunc(plain.Spec.Taints, func(t corev1.Taint) bool {
		return node.Spec.Unschedulable && t.Key == corev1.TaintNodeUnschedulable && t.Effect == corev1.TaintEffectNoSchedule
	})
	plain.Spec.Unschedulable = false
	return !slices.ContainsFunc(extract.Exclusions(pod, plain, extract.Load{}), func(e check.Exclusion) bool { return e.Rule == check.ByTaint })
}

func drawTaintedNode(s specimen.Source) *corev1.Node {
	node := &corev1.Node{}
	node.Name = one(s, "n1", "n2")
	node.Labels = one(s, nil, map[string]string{"disk": "ssd"}, map[string]string{"disk": "hdd", "cpus": "8"})
	node.Spec.Unschedulable = s.IntN(4) == 0
	for range s.IntN(3) {
		node.Spec.Taints = append(node.Spec.Taints, corev1.Taint{
			Key: one(s, "dedicated", corev1.TaintNodeNotReady, corev1.TaintNodeUnschedulable), Value: one(s, "", "db"),
			Effect: one(s, corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute, corev1.TaintEffectPreferNoSchedule),
		})
	}
	node.Status.Allocatable = corev1.ResourceList{
		corev1.ResourcePods: resource.MustParse(one(s, "2", "110")), corev1.ResourceCPU: resource.MustParse(one(s, "1", "2500m")),
		corev1.ResourceMemory: resource.MustParse("1Gi"), "example.com/gpu": resource.MustParse(one(s, "0", "2")),
	}
	return node
}

func drawChoosyPod(s specimen.Source, name string) *corev1.Pod {
	pod := newPod(name, false)
	pod.Spec.Containers[0].Resources.Requests = drawRequests(s)
	if s.IntN(4) == 0 {
		pod.Spec.InitContainers = []corev1.Container{{Name: "init", Resources: corev1.ResourceRequirements{Requests: drawRequests(s)},
			RestartPolicy: one(s, nil, new(corev1.ContainerRestartPolicyAlways))}}
	}
	if s.IntN(4) == 0 {
		pod.Spec.Overhead = drawRequests(s)
	}
	pod.Spec.NodeSelector = one(s, nil, nil, map[string]string{"disk": "ssd"}, map[string]string{"disk": "ssd", "zone": "a"})
	for range s.IntN(3) {
		pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{
			Key: one(s, "dedicated", corev1.TaintNodeNotReady, corev1.TaintNodeUnschedulable), Operator: one(s, corev1.TolerationOpExists, corev1.TolerationOpEqual),
			Effect: one(s, "", corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute),
		})
	}
	if s.IntN(3) == 0 {
		required := &corev1.NodeSelector{}
		for range s.IntN(3) {
			required.NodeSelectorTerms = append(required.NodeSelectorTerms, drawTerm(s))
		}
		pod.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: required}}
	}
	return pod
}

func drawTerm(s specimen.Source) corev1.NodeSelectorTerm {
	term := corev1.NodeSelectorTerm{}
	for range s.IntN(3) {
		term.MatchExpressions = append(term.MatchExpressions, one(s,
			corev1.NodeSelectorRequirement{Key: "disk", Operator: corev1.NodeSelectorOpIn, Values: []string{"ssd"}},
			corev1.NodeSelectorRequirement{Key: "disk", Operator: corev1.NodeSelectorOpNotIn, Values: []string{"hdd"}},
			corev1.NodeSelectorRequirement{Key: "cpus", Operator: corev1.NodeSelectorOpGt, Values: []string{"4"}},
			corev1.NodeSelectorRequirement{Key: "disk", Operator: "Nonsense"},
		))
	}
	if s.IntN(3) == 0 {
		term.MatchFields = []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{"n1"}}}
	}
	return term
}

func drawRequests(s specimen.Source) corev1.ResourceList {
	list := corev1.ResourceList{}
	for _, r := range []struct {
		name    corev1.ResourceName
		amounts []string
	}{{corev1.ResourceCPU, []string{"0", "500m", "1", "2"}}, {corev1.ResourceMemory, []string{"1Mi", "600Mi"}}, {"example.com/gpu", []string{"1"}}} {
		if s.IntN(3) == 0 {
			list[r.name] = resource.MustParse(one(s, r.amounts...))
		}
	}
	return list
}
