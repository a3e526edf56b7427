package extract

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// NodeList is a fixed list of nodes, as files hold one. A nil list means that the nodes are not known.
type NodeList []*corev1.Node

// Remembered is the list that computes the nodes of each distinct placement once. It is not for concurrent use.
func (l NodeList) Remembered() EligibleNodes { return &remembered{l, map[string][]string{}} }

type remembered struct {
	nodes NodeList
	known map[string][]string // by Placement.Key
}

func (r *remembered) Eligible(p Placement) []string {
	names, ok := r.known[p.Key]
	if !ok {
		names = r.nodes.Eligible(p)
		r.known[p.Key] = names
	}
	return names
}

// Eligible returns the names of the nodes that p allows, sorted; nil for a nil list.
func (l NodeList) Eligible(p Placement) []string {
	if l == nil {
		return nil
	}
	names := []string{}
	for _, node := range l {
		if p.Allows(node) {
			names = append(names, node.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
