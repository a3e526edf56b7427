package check

import (
	"cmp"
	"slices"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// together asks whether a workload and others whose pods have no node yet want more nodes, on one host port, than there
// are: two Deployments of two replicas do not fit on three nodes, and a Deployment takes a node of every DaemonSet that
// could be on all of its nodes. Only others that cannot go elsewhere are counted.
func (s subject) together() []Finding {
	if s.workload.Rollout == nil {
		return nil
	}
	left, known := s.left()
	wanted := s.workload.Rollout.Replicas
	if s.workload.Rollout.Kind == OnEachNode {
		wanted = left // all that it can get
	}
	if !known && !s.workload.isEverywhere() || wanted > left || s.workload.Rollout.Kind == ToTheEnd {
		return nil // how many fit is not known, or too few do anyway
	}
	var findings []Finding
	for _, m := range s.met {
		crowd := s.crowd(m.wanted)
		all := wanted
		for _, c := range crowd {
			all += c.pods
		}
		if all <= left {
			continue
		}
		for _, c := range crowd {
			findings = append(findings, Finding{
				Code: WorkloadsMeet, Case: TooManyTogether, Object: s.workload.Owner.Ref, Field: m.wanted.Field, Claim: m.wanted,
				Holder: s.holder(c.claim.Owner.Ref, c.claim), Nodes: slices.Clone(s.workload.nodes()), Eligible: len(s.workload.nodes()),
			})
		}
	}
	return findings
}

// left returns how many nodes have all host ports free that a workload wants, and whether that is known.
func (s subject) left() (int, bool) {
	switch nodes := s.workload.nodes(); {
	case s.taken.everywhere:
		return 0, true
	case nodes != nil:
		return len(nodes) - len(s.taken.nodes), true
	case s.workload.OneHost && !s.workload.IsPod:
		return 1, true // there is one such node or none, and it may be taken
	default:
		return 0, false
	}
}

// crowded is a template that wants nodes which a subject wants too, and has no pods on them yet.
type crowded struct {
	claim ports.Claim
	pods  int
}

// crowd returns the others that want a socket on some of the nodes of the subject, and can go nowhere else.
func (s subject) crowd(wanted ports.Claim) []crowded {
	var crowd []crowded
	placed := map[ports.Ref][]string{} // nodes, by who is behind the pods on them
	mine := s.held.Chain(wanted.Owner)
	for _, c := range s.held.Holders(wanted.Socket) {
		root := s.held.Root(c.Owner)
		if !c.Kind.OfPod() || c.InitOnly || c.Idle || slices.Contains(mine, root) {
			continue
		}
		pods, among := c.Scope.Among()
		switch {
		case c.Scope.Kind != ports.Undecided:
			placed[root] = append(placed[root], c.Scope.Nodes()...)
		case pods > 0 && c.Owner.Ref == root && s.workload.includes(among):
			crowd = append(crowd, crowded{c, pods})
		}
	}
	crowd = slices.CompactFunc(crowd, func(a, b crowded) bool { return a.claim.Owner.Ref == b.claim.Owner.Ref })
	for i := range crowd {
		nodes := placed[crowd[i].claim.Owner.Ref]
		slices.Sort(nodes)
		crowd[i].pods -= len(slices.Compact(nodes))
	}
	crowd = slices.DeleteFunc(crowd, func(c crowded) bool { return c.pods <= 0 })
	slices.SortFunc(crowd, func(a, b crowded) int {
		return cmp.Or(cmp.Compare(b.pods, a.pods), a.claim.Compare(b.claim))
	})
	return crowd
}

// includes reports whether w may run on all of nodes; nil ones are not known.
func (w *Workload) includes(nodes []string) bool {
	if w.isEverywhere() {
		return true
	}
	return nodes != nil && !slices.ContainsFunc(nodes, func(node string) bool {
		_, found := slices.BinarySearch(w.nodes(), node)
		return !found
	})
}
