package extract

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
	schedulingv1 "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"

	"github.com/portcullis-k8s/portcullis/pkg/check"
)

// Load is what the pods of a node ask of it. The zero Load is nothing.
type Load struct {
	pods     int64
	requests corev1.ResourceList
}

// Add adds a pod. What has ended asks for nothing.
func (l *Load) Add(pod *corev1.Pod) {
	if IsFinished(pod) {
		return
	}
	l.pods++
	if l.requests == nil {
		l.requests = corev1.ResourceList{}
	}
	// As kube-scheduler counts a pod that is on a node: what a resize has given it, too.
	options := resourcehelper.PodResourcesOptions{UseStatusResources: true}
	for name, q := range resourcehelper.PodRequests(pod, options) {
		sum := l.requests[name]
		sum.Add(q)
		l.requests[name] = sum
	}
}

// Exclusions returns the rules of a node, ports aside, that keep a pod off it as the node is now: where Placement.Allows
// tells of the nodes that a workload is made for, this tells of taints too that come and go. Load is what the node's pods
// ask for, without the pod. The rules are those of kube-scheduler's plugins NodeName, NodeAffinity, NodeUnschedulable,
// TaintToleration and NodeResourcesFit (k8s.io/kubernetes pkg/scheduler/framework/plugins).
func Exclusions(pod *corev1.Pod, node *corev1.Node, load Load) []check.Exclusion {
	var all []check.Exclusion
	if name := pod.Spec.NodeName; name != "" && name != node.Name {
		all = append(all, check.Exclusion{Rule: check.ByNodeName, Value: name, Has: node.Name})
	}
	all = append(all, unselected(pod.Spec.NodeSelector, node)...)
	if a := pod.Spec.Affinity; a != nil && a.NodeAffinity != nil && a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution != nil {
		all = append(all, unattracted(a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution, node)...)
	}
	all = append(all, untolerated(pod.Spec.Tolerations, node)...)
	return append(all, unfitting(pod, node, load)...)
}

func unselected(selector map[string]string, node *corev1.Node) []check.Exclusion {
	var all []check.Exclusion
	for _, key := range slices.Sorted(maps.Keys(selector)) {
		value, has := node.Labels[key]
		if !has || value != selector[key] {
			all = append(all, check.Exclusion{Rule: check.ByNodeSelector, Value: key + "=" + selector[key], Has: labelled(node, key)})
		}
	}
	return all
}

// labelled returns a label of a node as "key=value", or "" if it has none.
func labelled(node *corev1.Node, key string) string {
	if value, has := node.Labels[key]; has {
		return key + "=" + value
	}
	return ""
}

// unattracted tells which requirements of the only term fail. Of several terms any one would do: then it tells how many
// there are.
func unattracted(required *corev1.NodeSelector, node *corev1.Node) []check.Exclusion {
	if matches, err := nodeaffinity.NewLazyErrorNodeSelector(required).Match(node); matches && err == nil {
		return nil
	}
	if n := len(required.NodeSelectorTerms); n != 1 {
		return []check.Exclusion{{Rule: check.ByNodeAffinity, Value: fmt.Sprintf("any of %d terms", n)}}
	}
	var all []check.Exclusion
	term := required.NodeSelectorTerms[0]
	add := func(r corev1.NodeSelectorRequirement, alone corev1.NodeSelectorTerm, has string) {
		one := &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{alone}}
		if matches, err := nodeaffinity.NewLazyErrorNodeSelector(one).Match(node); !matches || err != nil {
			value := strings.TrimSpace(fmt.Sprintf("%s %s %s", r.Key, r.Operator, strings.Join(r.Values, ", ")))
			all = append(all, check.Exclusion{Rule: check.ByNodeAffinity, Value: value, Has: has})
		}
	}
	for _, r := range term.MatchExpressions {
		add(r, corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{r}}, labelled(node, r.Key))
	}
	for _, r := range term.MatchFields {
		add(r, corev1.NodeSelectorTerm{MatchFields: []corev1.NodeSelectorRequirement{r}}, r.Key+"="+node.Name)
	}
	if all == nil { // a term of nothing matches nothing
		all = append(all, check.Exclusion{Rule: check.ByNodeAffinity, Value: "a term that is empty"})
	}
	return all
}

func untolerated(tolerations []corev1.Toleration, node *corev1.Node) []check.Exclusion {
	isTolerated := func(t *corev1.Taint) bool {
		return schedulingv1.TolerationsTolerateTaint(klog.Logger{}, tolerations, t, true)
	}
	cordon := corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}
	var all []check.Exclusion
	if node.Spec.Unschedulable && !isTolerated(&cordon) {
		all = append(all, check.Exclusion{Rule: check.ByCordon})
	}
	for i := range node.Spec.Taints {
		t := &node.Spec.Taints[i]
		isHard := t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute
		isSaid := node.Spec.Unschedulable && t.Key == cordon.Key && t.Effect == cordon.Effect
		if isHard && !isSaid && !isTolerated(t) {
			all = append(all, check.Exclusion{Rule: check.ByTaint, Value: t.ToString()})
		}
	}
	return all
}

// HasAllocatable reports whether a node says what its pods may ask for. Objects in files may not.
func HasAllocatable(node *corev1.Node) bool { return len(node.Status.Allocatable) > 0 }

// IsReady reports whether a node says that it is ready, or says nothing about it, as objects in files may.
func IsReady(node *corev1.Node) bool {
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return true
}

func unfitting(pod *corev1.Pod, node *corev1.Node, load Load) []check.Exclusion {
	if !HasAllocatable(node) {
		return nil
	}
	var all []check.Exclusion
	if most := node.Status.Allocatable.Pods().Value(); load.pods+1 > most {
		all = append(all, check.Exclusion{Rule: check.ByNumberOfPods, Value: fmt.Sprint(most), Has: fmt.Sprint(load.pods)})
	}
	requests := resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{})
	for _, name := range slices.Sorted(maps.Keys(requests)) {
		wanted, free := requests[name], node.Status.Allocatable[name]
		free = free.DeepCopy() // a Quantity may hold a pointer
		free.Sub(load.requests[name])
		if wanted.Sign() > 0 && wanted.Cmp(free) > 0 {
			all = append(all, check.Exclusion{Rule: check.ByRequests, Value: amount(name, wanted), Has: amount(name, free)})
		}
	}
	return all
}

func amount(name corev1.ResourceName, q resource.Quantity) string {
	return string(name) + " " + q.String()
}

// Unmodelled returns the paths of what a pod asks of its node beyond ports and Exclusions: kube-scheduler looks at them,
// and nothing here does.
func Unmodelled(pod *corev1.Pod) []string {
	var fields []string
	if a := pod.Spec.Affinity; a != nil {
		if a.PodAffinity != nil && len(a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution) > 0 {
			fields = append(fields, "spec.affinity.podAffinity")
		}
		if a.PodAntiAffinity != nil && len(a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution) > 0 {
			fields = append(fields, "spec.affinity.podAntiAffinity")
		}
	}
	for i, c := range pod.Spec.TopologySpreadConstraints {
		if c.WhenUnsatisfiable == corev1.DoNotSchedule {
			fields = append(fields, fmt.Sprintf("spec.topologySpreadConstraints[%d]", i))
		}
	}
	for i, v := range pod.Spec.Volumes {
		if v.PersistentVolumeClaim != nil || v.Ephemeral != nil || v.CSI != nil {
			fields = append(fields, fmt.Sprintf("spec.volumes[%d]", i))
		}
	}
	if len(pod.Spec.ResourceClaims) > 0 {
		fields = append(fields, "spec.resourceClaims")
	}
	if pod.Spec.SchedulingGroup != nil {
		fields = append(fields, "spec.schedulingGroup")
	}
	if s := pod.Spec.SchedulerName; s != "" && s != corev1.DefaultSchedulerName {
		fields = append(fields, "spec.schedulerName "+s)
	}
	return fields
}
