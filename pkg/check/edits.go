package check

import (
	"fmt"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// numberChanges asks which ports get another number by an update that leaves their nodePort out. A PUT keeps numbers by
// the names of the ports (k8s.io/kubernetes pkg/registry/core/service/storage patchAllocatedValues); client-side apply
// merges entries by their port number before that, so that a mere renaming loses the number by replacing only.
func numberChanges(s subject) []Finding {
	if s.service == nil || s.previous == nil || !s.service.getsNodePorts() || !s.previous.HasNodePorts() {
		return nil
	}
	e := newEdit(s.previous.Ports, s.service.Ports, s.previous.getsNodePorts())
	var findings []Finding
	for i, p := range s.service.Ports {
		if p.NodePort != 0 || p.Port == 0 {
			continue // written, or no port at all
		}
		if was, how, lost := e.lost(p); lost {
			findings = append(findings, Finding{
				Code: NumberChanges, Case: how, Object: s.service.Owner.Ref, Field: fmt.Sprintf("spec.ports[%d].name", i),
				Value: fmt.Sprint(was.NodePort), Other: was.Name,
			})
		}
	}
	return findings
}

// edit is what becomes of the port entries of a Service, of which there may be many.
type edit struct {
	keepsNames bool            // a port without a number gets the one that its name had
	written    map[uint16]bool // the numbers that are written now
	byPort     map[number]ports.ServicePort
	byName     map[string]ports.ServicePort
	only       *ports.ServicePort                  // the old entry, where there is one in place of one
	gone       map[backendPort][]ports.ServicePort // old entries of which neither port nor name are left
}

// backendPort is where an entry leads to.
type backendPort struct {
	protocol ports.Protocol
	target   ports.TargetPort
}

func newEdit(old, now []ports.ServicePort, keepsNames bool) edit {
	e := edit{keepsNames, map[uint16]bool{}, map[number]ports.ServicePort{}, map[string]ports.ServicePort{}, nil, map[backendPort][]ports.ServicePort{}}
	left, names := map[number]bool{}, map[string]bool{}
	for _, p := range now {
		e.written[p.NodePort], left[number{p.Port, p.Protocol}], names[p.Name] = true, true, true
	}
	for _, p := range old {
		at := number{p.Port, p.Protocol}
		e.byPort[at], e.byName[p.Name] = p, p
		if leads := (backendPort{p.Protocol, p.TargetPort}); e.isLeftOut(p) && !left[at] && !names[p.Name] && p.TargetPort != (ports.TargetPort{Number: p.Port}) {
			e.gone[leads] = append(e.gone[leads], p)
		}
	}
	if len(old) == 1 && len(now) == 1 {
		e.only = &old[0]
	}
	return e
}

// isLeftOut reports whether an entry had a number that is written nowhere now.
func (e edit) isLeftOut(was ports.ServicePort) bool {
	return was.NodePort != 0 && !e.written[was.NodePort]
}

// lost returns the old entry whose number p would have kept, were it not for this edit, and how it gets lost.
func (e edit) lost(p ports.ServicePort) (was ports.ServicePort, how Case, lost bool) {
	if was, same := e.byPort[number{p.Port, p.Protocol}]; same {
		return was, LostByReplace, e.isLeftOut(was) && e.kept(p) != was.NodePort
	}
	if was, same := e.byName[p.Name]; same {
		return was, LostAnyway, !e.keepsNames && e.isLeftOut(was) && was.Protocol == p.Protocol
	}
	if e.only != nil {
		return *e.only, LostAnyway, e.isLeftOut(*e.only) && e.only.Protocol == p.Protocol
	}
	leads := backendPort{p.Protocol, p.TargetPort}
	if gone := e.gone[leads]; len(gone) > 0 {
		e.gone[leads] = gone[1:]
		return gone[0], LostAnyway, true
	}
	return was, "", false
}

// kept is the number that a replacement gives back to p, which has none.
func (e edit) kept(p ports.ServicePort) uint16 {
	if was, ok := e.byName[p.Name]; ok && e.keepsNames && e.isLeftOut(was) {
		return was.NodePort
	}
	return 0
}

// createRefuses asks for what an update makes and a create would refuse: one number for two ports with different
// protocols. Whoever restores such a Service from a file, or applies it to another cluster, cannot.
func createRefuses(s subject) []Finding {
	if s.service == nil || s.previous == nil || s.service.Type == "ExternalName" {
		return nil
	}
	var findings []Finding
	list := s.numbered()
	seen := newEntries(list)
	for i, p := range list {
		if p.Port == 0 {
			continue
		}
		if how, j, ok := seen.clash(p, true); ok && how == SameNodePortSplit {
			findings = append(findings, Finding{
				Code: CreateRefuses, Object: s.service.Owner.Ref, Field: nodePortField(i), Other: nodePortField(j), Value: fmt.Sprint(p.NodePort),
			})
		}
		seen.add(i)
	}
	return findings
}

// oneMergeKeys asks for entries that client-side apply takes for one because it looks at the port number only
// (kubernetes/kubernetes#39188).
func oneMergeKeys(s subject) []Finding {
	var findings []Finding
	if s.workload != nil {
		for _, k := range s.workload.OneKey {
			findings = append(findings, Finding{
				Code: OneMergeKey, Case: ContainerEntries, Object: s.workload.Owner.Ref, Field: k.Field, Other: k.Other, Value: k.Value,
			})
		}
	}
	if s.service == nil {
		return findings
	}
	first := map[uint16]int{}
	for i, p := range s.service.Ports {
		j, again := first[p.Port]
		if !again {
			first[p.Port] = i
		} else if p.Port != 0 && p.Protocol != s.service.Ports[j].Protocol {
			findings = append(findings, Finding{
				Code: OneMergeKey, Case: ServiceEntries, Object: s.service.Owner.Ref, Field: portField(i), Other: portField(j), Value: fmt.Sprint(p.Port),
			})
		}
	}
	return findings
}

// trafficPolicyChanges asks for a changed externalTrafficPolicy: it decides for new connections, not for those that
// conntrack knows already.
func trafficPolicyChanges(s subject) []Finding {
	if s.service == nil || s.previous == nil {
		return nil
	}
	was, is := s.previous.ExternalTrafficPolicy, s.service.ExternalTrafficPolicy
	if was == "" || is == "" || was == is {
		return nil
	}
	return []Finding{{
		Code: TrafficPolicy, Object: s.service.Owner.Ref, Field: "spec.externalTrafficPolicy", Value: is, Other: was,
	}}
}
