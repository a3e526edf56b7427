package check

import (
	"fmt"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// numberChanges asks which ports get another number by an update that leaves their nodePort out. A PUT keeps numbers by
// the names of the ports (k8s.io/kubernetes pkg/registry/core/service/storage patchAllocatedValues); client-side apply
// merges entries by their port number before that, so that a mere renaming loses the number by replacing only.
func numberChanges(s subject) []Finding {
	if s.service == nil || s.previous == nil || !s.service.getsNodePorts() || !s.previous.getsNodePorts() {
		return nil
	}
	lost := unkept(s.previous.Ports, s.service.Ports)
	var findings []Finding
	for i, p := range s.service.Ports {
		if p.NodePort != 0 || p.Port == 0 || named(s.previous.Ports, p.Name) {
			continue // written, or kept by name
		}
		for j, was := range lost {
			how, same := sameEntry(was, p, len(s.previous.Ports) == 1 && len(s.service.Ports) == 1)
			if !same {
				continue
			}
			findings = append(findings, Finding{
				Code: NumberChanges, Case: how, Object: s.service.Owner.Ref, Field: fmt.Sprintf("spec.ports[%d].name", i),
				Value: fmt.Sprint(was.NodePort), Other: was.Name,
			})
			lost = append(lost[:j], lost[j+1:]...)
			break
		}
	}
	return findings
}

// unkept are the old entries whose number appears nowhere and whose name has gone.
func unkept(old, now []ports.ServicePort) []ports.ServicePort {
	numbers := map[uint16]bool{}
	for _, p := range now {
		numbers[p.NodePort] = true
	}
	var lost []ports.ServicePort
	for _, p := range old {
		if p.NodePort != 0 && !numbers[p.NodePort] && !named(now, p.Name) {
			lost = append(lost, p)
		}
	}
	return lost
}

func named(list []ports.ServicePort, name string) bool {
	for _, p := range list {
		if p.Name == name {
			return true
		}
	}
	return false
}

// sameEntry reports whether an entry is what became of another, and how its number gets lost.
func sameEntry(was, is ports.ServicePort, only bool) (Case, bool) {
	switch {
	case was.Protocol != is.Protocol:
		return "", false
	case was.Port == is.Port:
		return LostByReplace, true
	case only, was.TargetPort == is.TargetPort && was.TargetPort != ports.TargetPort{Number: was.Port}:
		return LostAnyway, true
	default:
		return "", false
	}
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
