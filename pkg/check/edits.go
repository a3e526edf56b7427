package check

import (
	"fmt"
	"slices"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// numberChanges asks which ports get another number by an update that leaves their nodePort out. A PUT keeps numbers by
// the names of the ports (k8s.io/kubernetes pkg/registry/core/service/storage patchAllocatedValues); client-side apply
// merges entries by their port number before that, so that a mere renaming loses the number by replacing only.
func numberChanges(s subject) []Finding {
	if s.service == nil || s.previous == nil || !s.service.getsNodePorts() || !s.previous.HasNodePorts() {
		return nil
	}
	e := edit{old: s.previous.Ports, now: s.service.Ports, keepsNames: s.previous.getsNodePorts(), seen: map[int]bool{}}
	var findings []Finding
	for i, p := range e.now {
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

// edit is what becomes of the port entries of a Service.
type edit struct {
	old, now   []ports.ServicePort
	keepsNames bool         // a port without a number gets the one that its name had
	seen       map[int]bool // old entries of which it was said that their number is lost
}

// lost returns the old entry whose number p would have kept, were it not for this edit, and how it gets lost.
func (e edit) lost(p ports.ServicePort) (was ports.ServicePort, how Case, lost bool) {
	if i := slices.IndexFunc(e.old, func(o ports.ServicePort) bool { return samePort(o, p) }); i >= 0 {
		was = e.old[i]
		return was, LostByReplace, e.isLeftOut(was) && e.kept(p) != was.NodePort
	}
	if named(e.old, p.Name) && e.keepsNames {
		return was, "", false
	}
	for i, was := range e.old {
		if !e.seen[i] && e.isLeftOut(was) && e.leadsOn(was, p) {
			e.seen[i] = true
			return was, LostAnyway, true
		}
	}
	return was, "", false
}

func samePort(a, b ports.ServicePort) bool { return a.Port == b.Port && a.Protocol == b.Protocol }

// isLeftOut reports whether an entry had a number that is written nowhere now.
func (e edit) isLeftOut(was ports.ServicePort) bool {
	return was.NodePort != 0 && !slices.ContainsFunc(e.now, func(p ports.ServicePort) bool { return p.NodePort == was.NodePort })
}

// kept is the number that a replacement gives back to p, which has none.
func (e edit) kept(p ports.ServicePort) uint16 {
	for _, was := range e.old {
		if was.Name == p.Name && e.keepsNames && e.isLeftOut(was) {
			return was.NodePort
		}
	}
	return 0
}

// leadsOn reports whether p is what became of an entry of which neither name nor port are left, or of the same name where
// names do not count.
func (e edit) leadsOn(was, p ports.ServicePort) bool {
	isGone := !slices.ContainsFunc(e.now, func(n ports.ServicePort) bool { return samePort(n, was) || n.Name == was.Name })
	switch {
	case was.Protocol != p.Protocol:
		return false
	case was.Name == p.Name:
		return true
	case len(e.old) == 1 && len(e.now) == 1:
		return true
	default:
		return isGone && was.TargetPort == p.TargetPort && was.TargetPort != ports.TargetPort{Number: was.Port}
	}
}

func named(list []ports.ServicePort, name string) bool {
	return slices.ContainsFunc(list, func(p ports.ServicePort) bool { return p.Name == name })
}

// createRefuses asks for what an update makes and a create would refuse: one number for two ports with different
// protocols. Whoever restores such a Service from a file, or applies it to another cluster, cannot.
func createRefuses(s subject) []Finding {
	if s.service == nil || s.previous == nil || s.service.Type == "ExternalName" {
		return nil
	}
	var findings []Finding
	seen := newEntries(s.service.Ports)
	for i, p := range s.service.Ports {
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
