package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/controller/daemon"
	"k8s.io/kubernetes/pkg/scheduler/apis/config"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/feature"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/nodeaffinity"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/nodename"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/tainttoleration"

	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/extract/specimen"
)

// places draws what pods say of nodes and nodes of themselves, from few words, so that they fit as often as not.
type places struct{ specimen.Source }

func pick[T any](p places, from ...T) T { return from[p.IntN(len(from))] }

func some[T any](p places, most int, draw func() T) []T {
	var all []T
	for range p.IntN(most + 1) {
		all = append(all, draw())
	}
	return all
}

func (p places) node() *corev1.Node {
	n := &corev1.Node{}
	n.Name = pick(p, "n1", "n2", "n3")
	n.Labels = map[string]string{"zone": pick(p, "a", "b"), "cpus": pick(p, "1", "8", "many")}
	if p.IntN(2) == 0 {
		n.Labels["disk"] = ""
	}
	n.Spec.Taints = some(p, 2, func() corev1.Taint {
		taint := corev1.Taint{
			Key:    pick(p, "dedicated", "gpu", "cpus", "node.kubernetes.io/not-ready", "node.kubernetes.io/unschedulable", "node-role.kubernetes.io/control-plane"),
			Value:  pick(p, "", "a", "4"),
			Effect: pick(p, corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute, corev1.TaintEffectPreferNoSchedule),
		}
		if taint.Key == "cpus" {
			taint.Value = "4" // upstream complains aloud of what is not a number
		}
		return taint
	})
	return n
}

// spec draws a placement. Some of what it draws the API server would refuse.
func (p places) spec(tolerationOperators ...corev1.TolerationOperator) corev1.PodSpec {
	spec := corev1.PodSpec{NodeName: pick(p, "", "", "", "", "n1")}
	if p.IntN(3) == 0 {
		spec.NodeSelector = map[string]string{pick(p, "zone", "disk"): pick(p, "", "a", "b")}
	}
	spec.Tolerations = some(p, 2, func() corev1.Toleration {
		toleration := corev1.Toleration{
			Key: pick(p, "", "dedicated", "gpu", "cpus"), Operator: pick(p, tolerationOperators...), Value: pick(p, "", "a", "3", "5"),
			Effect: pick(p, "", corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute),
		}
		if toleration.Operator == corev1.TolerationOpGt || toleration.Operator == corev1.TolerationOpLt {
			toleration.Key, toleration.Value = "cpus", pick(p, "3", "4", "5")
		}
		return toleration
	})
	switch p.IntN(3) {
	case 0:
		spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution:  &corev1.NodeSelector{NodeSelectorTerms: some(p, 3, p.term)},
			PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{Weight: 1, Preference: p.term()}},
		}}
	case 1:
		spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{}}
	}
	return spec
}

func (p places) term() corev1.NodeSelectorTerm {
	return corev1.NodeSelectorTerm{
		MatchExpressions: some(p, 2, func() corev1.NodeSelectorRequirement {
			return corev1.NodeSelectorRequirement{
				Key: pick(p, "zone", "cpus", "disk", "not a key!"), Operator: p.operator(), Values: some(p, 2, func() string { return pick(p, "a", "b", "4", "") }),
			}
		}),
		MatchFields: some(p, 1, func() corev1.NodeSelectorRequirement {
			return corev1.NodeSelectorRequirement{
				Key: pick(p, "metadata.name", "metadata.name", "metadata.namespace"), Operator: p.operator(), Values: some(p, 2, func() string { return pick(p, "n1", "n2") }),
			}
		}),
	}
}

func (p places) operator() corev1.NodeSelectorOperator {
	return pick(p, corev1.NodeSelectorOpIn, corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn, corev1.NodeSelectorOpExists,
		corev1.NodeSelectorOpDoesNotExist, corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt, "Nonsense")
}

// plugin is a filter of kube-scheduler, with what it computes beforehand.
type plugin interface {
	fwk.PreFilterPlugin
	fwk.FilterPlugin
}

func mustPlugin(p fwk.Plugin, err error) plugin {
	if err != nil {
		panic(err)
	}
	return p.(plugin)
}

// schedulerAllows asks kube-scheduler's own plugins.
func schedulerAllows(pod *corev1.Pod, node *corev1.Node) bool {
	ctx, gates := context.Background(), feature.Features{EnableTaintTolerationComparisonOperators: true}
	info := framework.NewNodeInfo()
	info.SetNode(node)
	for _, p := range []plugin{
		mustPlugin(nodeaffinity.New(ctx, &config.NodeAffinityArgs{}, nil, gates)), mustPlugin(tainttoleration.New(ctx, nil, nil, gates)),
	} {
		state := framework.NewCycleState()
		result, status := p.PreFilter(ctx, state, pod, []fwk.NodeInfo{info})
		switch {
		case status.IsSkip():
			continue
		case !status.IsSuccess(), !result.AllNodes() && !result.NodeNames.Has(node.Name), !p.Filter(ctx, state, pod, info).IsSuccess():
			return false
		}
	}
	return nodename.Fits(pod, info)
}

// ready returns node without the taints that the control plane sets for its passing state, which we do not look at.
func ready(node *corev1.Node) *corev1.Node {
	node = node.DeepCopy()
	var lasting []corev1.Taint
	for _, t := range node.Spec.Taints {
		if !strings.HasPrefix(t.Key, "node.kubernetes.io/") {
			lasting = append(lasting, t)
		}
	}
	node.Spec.Taints = lasting
	return node
}

// TestPlacementsAsTheScheduler: the nodes that a pod may run on are those that kube-scheduler's plugins NodeName,
// NodeAffinity and TaintToleration let it on.
func TestPlacementsAsTheScheduler(t *testing.T) {
	p := places{specimen.New(t)}
	allowed, rounds := 0, specimen.Rounds(10_000)
	for range rounds {
		pod := &corev1.Pod{Spec: p.spec("", corev1.TolerationOpEqual, corev1.TolerationOpExists, corev1.TolerationOpGt, corev1.TolerationOpLt)}
		node := p.node()
		ours, theirs := extract.PlacementOf(&pod.Spec, false).Allows(node), schedulerAllows(pod, ready(node))
		if ours != theirs {
			t.Fatalf("pod %s\nnode %s\nallowed by us: %v, by the scheduler: %v", written(pod.Spec), written(node), ours, theirs)
		}
		if ours {
			allowed++
		}
	}
	if allowed < rounds/10 || allowed > rounds*9/10 {
		t.Errorf("%d of %d allowed: they are too much alike to prove anything", allowed, rounds)
	}
}

// TestPassingTaints: what upstream waits for, and we do not count against a node.
func TestPassingTaints(t *testing.T) {
	for _, key := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnschedulable, corev1.TaintNodeDiskPressure, corev1.TaintNodeOutOfService} {
		pod, node := &corev1.Pod{}, &corev1.Node{Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: key, Effect: corev1.TaintEffectNoSchedule}}}}
		if ours, theirs := extract.PlacementOf(&pod.Spec, false).Allows(node), schedulerAllows(pod, node); !ours || theirs {
			t.Errorf("%s: allowed by us: %v, by the scheduler: %v", key, ours, theirs)
		}
	}
}

// TestDaemonsAsTheirController: a DaemonSet's nodes are those on which its controller runs a pod.
func TestDaemonsAsTheirController(t *testing.T) {
	p := places{specimen.New(t)}
	allowed, rounds := 0, specimen.Rounds(10_000)
	for range rounds {
		// The controller compares tolerations by number only behind a replica that is off.
		daemons := &appsv1.DaemonSet{Spec: appsv1.DaemonSetSpec{Template: corev1.PodTemplateSpec{Spec: p.spec("", corev1.TolerationOpEqual, corev1.TolerationOpExists)}}}
		node := p.node()
		w, _ := extract.Workload(daemons, extract.NodeList{node}, nil)
		ours, theirs := len(w.Eligible) == 1, runs(daemon.NodeShouldRunDaemonPod, ready(node), daemons)
		if ours != theirs {
			t.Fatalf("DaemonSet %s\nnode %s\nallowed by us: %v, by its controller: %v", written(daemons.Spec.Template.Spec), written(node), ours, theirs)
		}
		if ours {
			allowed++
		}
	}
	if allowed < rounds/10 || allowed > rounds*9/10 {
		t.Errorf("%d of %d allowed: they are too much alike to prove anything", allowed, rounds)
	}
}

// runs asks the controller, which logs nowhere.
func runs[Logger any](asks func(Logger, *corev1.Node, *appsv1.DaemonSet) (bool, bool), node *corev1.Node, daemons *appsv1.DaemonSet) bool {
	var silent Logger
	shouldRun, _ := asks(silent, node, daemons)
	return shouldRun
}

func written(object any) string {
	text, err := json.Marshal(object)
	if err != nil {
		return fmt.Sprint(err)
	}
	return string(text)
}
