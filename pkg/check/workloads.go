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
	for _, wanted := range s.workload.Claims {
		if isPinnedPod(s.workload, wanted) {
			continue // held asks
		}
		findings = append(findings, s.meetings(wanted)...)
	}
	return unique(findings)
}

func (s subject) meetings(wanted ports.Claim) []Finding {
	w := s.workload
	if w.Eligible != nil {
		wanted.Scope = ports.EachScope(w.Eligible)
	}
	conflicts := slices.DeleteFunc(s.held.Conflicts(wanted), func(c ports.Conflict) bool {
		return !c.Held.Kind.OfPod() || c.Held.Scope.Kind == ports.Undecided
	})
	if len(conflicts) == 0 {
		return nil
	}
	named := SomeNodesTaken
	if len(takenNodes(conflicts, w.Eligible)) == len(w.Eligible) {
		named = EveryNodeTaken
	}
	if named == SomeNodesTaken && w.IsPod {
		return nil
	}
	findings := s.byHolder(WorkloadsMeet, wanted, conflicts)
	for i := range findings {
		findings[i].Case = named
		findings[i].Eligible = len(w.Eligible)
	}
	return findings
}

// takenNodes returns the eligible nodes on which one of the conflicts meets. A conflict with one that is everywhere
// takes them all.
func takenNodes(conflicts []ports.Conflict, eligible []string) []string {
	var taken []string
	for _, c := range conflicts {
		if c.Held.Scope.Kind == ports.Everywhere {
			return eligible
		}
		taken = append(taken, c.Nodes...)
	}
	slices.Sort(taken)
	return slices.Compact(taken)
}
