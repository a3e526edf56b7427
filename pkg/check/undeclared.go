package check

import (
	"slices"

	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// undeclaredMeet checks ports that nobody reserves and somebody uses all the same: those of the host network to which a probe
// connects, those of plain init containers there, which cannot start while another pod has them, and those that Services ask a
// load balancer for. It asks what held and workloadsMeet ask, and as nothing is certain but that a probe connects, or that a
// Service asks, the answer is a warning. Where the two meet by what they hold as well, that says it.
func undeclaredMeet(s subject) []Finding {
	findings := s.undeclared(s.evidence, s.claims(), ProbeOfHolder)
	if s.service != nil {
		findings = append(findings, s.undeclared(s.held, s.service.Asked, AskedFor)...)
		findings = append(findings, s.undeclared(s.evidence, s.service.Asked, AskedFor)...)
	}
	if s.workload == nil {
		return findings
	}
	findings = append(findings, s.undeclared(s.held, s.workload.Probed, ProbeConnects)...)
	findings = append(findings, s.undeclared(s.evidence, s.workload.Probed, ProbeConnects)...)
	var inits []ports.Claim
	for _, c := range s.workload.Claims {
		if c.InitOnly && c.Kind == ports.HostNetwork {
			c.InitOnly = false
			inits = append(inits, c)
		}
	}
	return append(findings, s.undeclared(s.held, inits, InitListens)...)
}

// undeclared returns who holds claims of the object for certain, as findings of a case; by may be nil.
func (s subject) undeclared(by *ledger.Snapshot, claims []ports.Claim, named Case) []Finding {
	if len(claims) == 0 || by == nil {
		return nil
	}
	s.held, s.templates = by, map[ports.Ref]sockets{}
	if s.service != nil {
		service := *s.service
		service.Claims = claims
		s.service = &service
	} else {
		workload := *s.workload
		workload.Claims = claims
		s.workload = &workload
	}
	s.meetHolders()
	found := slices.Concat(held(s), workloadsMeet(s))
	found = slices.DeleteFunc(found, func(f Finding) bool {
		return slices.Contains([]Case{SomeNodesTaken, MayMeetThere, TooManyTogether}, f.Case)
	})
	for i := range found {
		f := &found[i]
		f.Code, f.Case, f.Eligible = UndeclaredMeet, named, 0
		if kind := f.Holder.Claim.Kind; kind == ports.LoadBalancerIP || kind == ports.ServiceLBPort {
			f.Case = AskedFor
		}
	}
	return found
}

// undeclaredSockets checks for pods of the host network that declare no port at all, though their probes show that they
// listen: the scheduler does not keep these ports free.
func undeclaredSockets(s subject) []Finding {
	w := s.workload
	if w == nil || len(w.Probed) == 0 || len(w.Claims)+len(w.Unparsed) > 0 {
		return nil
	}
	if w.IsPod && w.Owner.Controller != nil {
		return nil // the template is where to list them
	}
	var probed []uint16
	for _, c := range w.Probed {
		probed = append(probed, c.Port)
	}
	return []Finding{{Code: UndeclaredSockets, Object: w.Owner.Ref, Field: w.HostNetworkField, Detail: ProbedPorts{probed}}}
}
