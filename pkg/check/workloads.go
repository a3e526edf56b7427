package check

import (
	"slices"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// workloadsMeet asks whether host ports of a workload are taken, by other workloads or bare pods, on the nodes that it
// may run on: on all of them it cannot run, on some of them part of it cannot, or only as long as there is a choice. A
// pod with a choice left is nobody's business but the scheduler's.
func workloadsMeet(s subject) []Finding {
	if s.workload == nil {
		return nil
	}
	var findings []Finding
	var taken []string // on one node one port may be taken and on another another: nothing is left all the same
	everywhere := false
	for _, wanted := range s.asked() {
		if isPinnedPod(s.workload, wanted) {
			continue // held asks
		}
		conflicts := s.meetings(wanted)
		for _, c := range conflicts {
			taken = append(taken, c.Nodes...)
			everywhere = everywhere || c.Held.Scope.Kind == ports.Everywhere
		}
		findings = append(findings, s.byHolder(WorkloadsMeet, wanted, conflicts)...)
	}
	slices.Sort(taken)
	eligible := s.workload.nodes()
	named := SomeNodesTaken
	if everywhere || len(slices.Compact(taken)) == len(eligible) {
		named = EveryNodeTaken
	}
	if named == SomeNodesTaken && s.workload.IsPod {
		return nil
	}
	for i := range findings {
		findings[i].Case = named
		findings[i].Eligible = len(eligible)
	}
	return findings
}

// meetings returns the conflicts of wanted, on the nodes that it may come to, with host ports on nodes that are certain.
func (s subject) meetings(wanted ports.Claim) []ports.Conflict {
	if s.workload.Eligible != nil {
		wanted.Scope = ports.EachScope(s.workload.Eligible)
	}
	return slices.DeleteFunc(s.held.Conflicts(wanted), func(c ports.Conflict) bool {
		return !c.Held.Kind.OfPod() || c.Held.Scope.Kind == ports.Undecided
	})
}

// nodes returns the nodes that w's pods may run on: a template may name its only one. None are known if there are none.
func (w *Workload) nodes() []string {
	if w.Eligible == nil && len(w.Claims) > 0 {
		return w.Claims[0].Scope.Nodes()
	}
	return w.Eligible
}
