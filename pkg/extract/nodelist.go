package extract

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// NodeList is a fixed list of nodes, as files hold one. A nil list means that the nodes are not known.
type NodeList []*corev1.Node

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
