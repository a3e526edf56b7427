package check

import (
	"slices"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// held asks who holds what the object wants: nodePort, healthCheckNodePort, hostPort, hostNetwork or external IP, on a
// node that is certain or everywhere. Host ports of templates against those of other workloads are workloadsMeet's.
func held(s subject) []Finding {
	var findings []Finding
	for _, wanted := range s.claims() {
		conflicts := s.held.Conflicts(wanted)
		if s.workload != nil && !isPinnedPod(s.workload, wanted) {
			conflicts = slices.DeleteFunc(conflicts, func(c ports.Conflict) bool { return c.Held.Kind.OfPod() })
		}
		findings = append(findings, s.byHolder(Held, wanted, conflicts)...)
	}
	return unique(findings)
}

// claims are the claims of whatever the subject is.
func (s subject) claims() []ports.Claim {
	if s.service != nil {
		return s.service.Claims
	}
	if s.workload != nil {
		return s.workload.Claims
	}
	return nil
}

// isPinnedPod reports whether wanted is a pod's on a node that is certain.
func isPinnedPod(w *Workload, wanted ports.Claim) bool {
	return w.IsPod && wanted.Scope.Kind == ports.OnNode
}

// byHolder makes one finding of all conflicts of wanted with one holder, so that the thousand pods of a DaemonSet are
// one line.
func (s subject) byHolder(code Code, wanted ports.Claim, conflicts []ports.Conflict) []Finding {
	var findings []Finding
	index := map[ports.Ref]int{}
	for _, c := range conflicts {
		root := s.held.Root(c.Held.Owner)
		i, known := index[root]
		if !known {
			i = len(findings)
			index[root] = i
			findings = append(findings, Finding{
				Code: code, Object: wanted.Owner.Ref, Field: wanted.Field, Claim: wanted,
				Holder: s.holder(root, c.Held),
			})
		}
		f := &findings[i]
		if c.Held.Owner.Ref != root {
			f.Holder.Pods += isPod(c.Held.Owner)
		}
		f.Nodes = append(f.Nodes, c.Nodes...)
	}
	for i := range findings {
		slices.Sort(findings[i].Nodes)
		findings[i].Nodes = slices.Compact(findings[i].Nodes)
	}
	return findings
}

func isPod(o *ports.Owner) int {
	if o.Kind == "Pod" {
		return 1
	}
	return 0
}

// holder names root as the holder of held, by the field of root's own template if root stands in the ledger with one.
func (s subject) holder(root ports.Ref, held ports.Claim) *Holder {
	h := &Holder{Ref: root, Claim: held, Field: held.Field}
	if root == held.Owner.Ref {
		return h
	}
	if _, claims, ok := s.held.Owner(root); ok {
		for _, c := range claims {
			if c.Socket.Covers(held.Socket) {
				h.Field = c.Field
				return h
			}
		}
	}
	return h
}

// unique keeps the first of several findings that are the same sin: a pod may name one port in two containers.
func unique(findings []Finding) []Finding {
	type sin struct {
		identity
		number string
	}
	seen := map[sin]bool{}
	return slices.DeleteFunc(findings, func(f Finding) bool {
		id := sin{f.identity(), f.Claim.Number()}
		id.socket = ports.Socket{} // one number on several addresses is told once
		again := seen[id]
		seen[id] = true
		return again
	})
}
