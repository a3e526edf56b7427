package extract

import (
	"encoding/json"
	"strings"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"
)

// EligibleNodes tells the names of the nodes that a placement allows, sorted; nil where the nodes are not known.
type EligibleNodes interface {
	Eligible(Placement) []string
}

// Placement is what a pod says of the nodes that it may run on: nodeName, nodeSelector, required node affinity and
// tolerations. It is comparable by its Key, so that the nodes of a placement are computed once.
type Placement struct {
	Key         string
	nodeName    string
	anywhere    bool
	host        string // the only one that it allows, by the name of its node or its hostname; "" for any number
	affinity    nodeaffinity.RequiredNodeAffinity
	says        corev1.PodSpec // of nodes, and nothing else
	tolerations []corev1.Toleration
}

// PlacementOf returns the placement of a pod's spec. A DaemonSet's pods are placed by its controller, which looks at
// the same fields.
func PlacementOf(spec *corev1.PodSpec, daemon bool) Placement {
	says := corev1.PodSpec{NodeName: spec.NodeName, NodeSelector: spec.NodeSelector, Tolerations: spec.Tolerations}
	if a := spec.Affinity; a != nil && a.NodeAffinity != nil && a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution != nil {
		says.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution,
		}}
	}
	// encoding/json sorts maps, so that equal placements have equal keys; it cannot fail on these types.
	key, _ := json.Marshal([]any{says, daemon})
	return Placement{
		Key:         string(key),
		nodeName:    says.NodeName,
		anywhere:    says.NodeName == "" && len(says.NodeSelector) == 0 && says.Affinity == nil,
		host:        hostOf(&says),
		affinity:    nodeaffinity.NewRequiredNodeAffinity(says.NodeSelector, says.Affinity),
		says:        says,
		tolerations: says.Tolerations,
	}
}

// IsAnywhere reports whether the placement names no node and no property of nodes.
func (p Placement) IsAnywhere() bool { return p.anywhere }

// IsOneHost reports whether the placement names the one host that it allows: by nodeName, by its hostname label, or by an
// affinity for either.
func (p Placement) IsOneHost() bool { return p.host != "" }

// node returns the one node that the placement allows, if it names one and there is one. Eligible are the nodes that it
// allows; where they are not known (nil), a node is taken to have its own name as its hostname, as the kubelet sets it.
func (p Placement) node(eligible []string) (string, bool) {
	switch {
	case p.host == "":
		return "", false
	case eligible == nil:
		return p.host, true
	case len(eligible) == 1:
		return eligible[0], true
	default:
		return "", false // there is none, or several call themselves so
	}
}

func hostOf(spec *corev1.PodSpec) string {
	if spec.NodeName != "" {
		return spec.NodeName
	}
	if node, one := requiredNode(spec.Affinity); one {
		return node
	}
	if host := spec.NodeSelector[corev1.LabelHostname]; host != "" {
		return host
	}
	terms := requiredTerms(spec.Affinity)
	if len(terms) != 1 {
		return ""
	}
	for _, e := range terms[0].MatchExpressions {
		if e.Key == corev1.LabelHostname && e.Operator == corev1.NodeSelectorOpIn && len(e.Values) == 1 {
			return e.Values[0]
		}
	}
	return ""
}

// Allows reports whether a pod of this placement may run on node. Taints that the control plane sets for a node's
// passing state (node.kubernetes.io/...: not ready, under pressure, cordoned) do not count: they come and go, and what
// is said of a workload should not.
func (p Placement) Allows(node *corev1.Node) bool {
	if p.nodeName != "" && p.nodeName != node.Name {
		return false
	}
	if ok, err := p.affinity.Match(node); !ok || err != nil {
		return false
	}
	_, untolerated := schedulingv1.FindMatchingUntoleratedTaint(klog.Logger{}, node.Spec.Taints, p.tolerations, func(t *corev1.Taint) bool {
		isHard := t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute
		return isHard && !strings.HasPrefix(t.Key, "node.kubernetes.io/")
	}, true)
	return !untolerated
}
