package report

import (
	"fmt"
	"slices"
)

// notes are what a workload's other pods have to do with one that seeks a node, a sentence each.
func (s *Siblings) notes(p Placement) []string {
	var all []string
	add := func(format string, args ...any) {
		all = append(all, Escape(fmt.Sprintf(format, args...)))
	}
	switch {
	case s.Failure != "":
		add("%s cannot create pods: %s.", s.Of, s.Failure)
	case s.PerNode:
		add("%s runs on %s already, which fit.", s.Of, plural(s.OnNodes, "node"))
	case s.IsNew && s.Waiting == 0 && s.OnNodes > 0 && s.OnNodes >= s.Wanted:
		add("All pods of %s have a node (%d); this is about one more.", s.Of, s.OnNodes)
	case s.Wanted > s.OnNodes+s.Waiting:
		add("%s wants %s, of which %d are known.", s.Of, plural(s.Wanted, "pod"), s.OnNodes+s.Waiting)
	}
	if s.Older && s.NoneMayGo && !slices.ContainsFunc(p.Nodes, Candidate.fits) {
		add("The pod waits for its own rollout: an older pod of %s has the port, and none may go before a new one is ready. Let one go first: "+
			`kubectl patch deployment %s -n %s --type merge -p '{"spec":{"strategy":{"rollingUpdate":{"maxSurge":0,"maxUnavailable":1}}}}'.`, s.Of, s.Of.Name, s.Of.Namespace)
	}
	return all
}
