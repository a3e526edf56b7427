package extract

import (
	"maps"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/selection"

	"github.com/portcullis-k8s/portcullis/pkg/pool"
)

// RunsNowhere reports whether a pod, or an object with a pod template, says of nodes what no node that there is has: a name, labels,
// or a place among those that it tolerates. It reports false where the nodes are not known, and of whatever says nothing of them.
func RunsNowhere(object runtime.Object, nodes EligibleNodes) bool {
	spec, daemon := podSpecOf(object)
	if spec == nil || nodes == nil {
		return false
	}
	if spec.NodeName != "" { // past the scheduler: whatever labels and taints the node has
		spec = &corev1.PodSpec{NodeName: spec.NodeName, Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}}}
	}
	p := PlacementOf(spec, daemon)
	if p.IsAnywhere() {
		return false
	}
	names := nodes.Eligible(p)
	return names != nil && len(names) == 0
}

// Overlap implements check.Selection. Each requirement is about one key, so that keys are looked at one by one, with all values
// that make a difference. Nodes that are selected by their name may have any labels.
func (p Placement) Overlap(nodes pool.Selector) (some, all bool) {
	s, ok := nodes.(selector)
	if !ok {
		return false, false
	}
	wanted, selectable := s.Requirements()
	all = true
	terms := p.terms()
	if size := len(slices.Concat(terms...)); size > maxRequirements {
		return true, false // whoever asks so much is not looked at: it may be
	}
	for _, term := range terms {
		meets, within, possible := selectable, selectable, true
		for key := range keysOf(term, wanted) {
			own, of := about(key, term), about(key, wanted)
			both, only := false, false
			any := false
			for _, set := range settings(key, append(slices.Clone(own), of...)) {
				if !matchesAll(own, set) {
					continue
				}
				any = true
				if matchesAll(of, set) {
					both = true
				} else {
					only = true
				}
			}
			possible = possible && any
			meets, within = meets && both, within && !only
		}
		if possible {
			some, all = some || meets, all && within
		}
	}
	return some, all && some
}

// maxRequirements bounds how much of a placement is looked at: each is compared with the values of all others.
const maxRequirements = 100

// terms are the alternatives of a placement, each with what a node's labels must satisfy.
func (p Placement) terms() []labels.Requirements {
	var always labels.Requirements
	for _, key := range slices.Sorted(maps.Keys(p.says.NodeSelector)) {
		if r, err := labels.NewRequirement(key, selection.In, []string{p.says.NodeSelector[key]}); err == nil {
			always = append(always, *r)
		}
	}
	if p.says.Affinity == nil {
		return []labels.Requirements{always}
	}
	var terms []labels.Requirements
	for _, t := range p.says.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		term, isValid := slices.Clone(always), len(t.MatchExpressions)+len(t.MatchFields) > 0 // an empty term selects nothing
		for _, e := range t.MatchExpressions {
			r, err := labels.NewRequirement(e.Key, operators()[e.Operator], e.Values)
			if err != nil {
				isValid = false
				break
			}
			term = append(term, *r)
		}
		if isValid {
			terms = append(terms, term)
		}
	}
	return terms
}

// operators are those of node affinity as labels know them (k8s.io/component-helpers nodeaffinity).
func operators() map[corev1.NodeSelectorOperator]selection.Operator {
	return map[corev1.NodeSelectorOperator]selection.Operator{
		corev1.NodeSelectorOpIn: selection.In, corev1.NodeSelectorOpNotIn: selection.NotIn,
		corev1.NodeSelectorOpExists: selection.Exists, corev1.NodeSelectorOpDoesNotExist: selection.DoesNotExist,
		corev1.NodeSelectorOpGt: selection.GreaterThan, corev1.NodeSelectorOpLt: selection.LessThan,
	}
}

func keysOf(lists ...labels.Requirements) map[string]bool {
	keys := map[string]bool{}
	for _, list := range lists {
		for _, r := range list {
			keys[r.Key()] = true
		}
	}
	return keys
}

func about(key string, all labels.Requirements) labels.Requirements {
	var list labels.Requirements
	for _, r := range all {
		if r.Key() == key {
			list = append(list, r)
		}
	}
	return list
}

// settings are the ways in which a node may have a key that requirements tell apart: not at all, with each of their values and, for
// numbers, with those beside them, and with another one.
func settings(key string, of labels.Requirements) []labels.Set {
	all := []labels.Set{{}, {key: "another value"}}
	for _, r := range of {
		for _, value := range r.ValuesUnsorted() {
			all = append(all, labels.Set{key: value})
			if n, err := strconv.ParseInt(value, 10, 64); err == nil {
				all = append(all, labels.Set{key: strconv.FormatInt(n-1, 10)}, labels.Set{key: strconv.FormatInt(n+1, 10)})
			}
		}
	}
	return all
}

func matchesAll(requirements labels.Requirements, set labels.Set) bool {
	return !slices.ContainsFunc(requirements, func(r labels.Requirement) bool { return !r.Matches(set) })
}
