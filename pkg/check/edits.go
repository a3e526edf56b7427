package check

import (
	"fmt"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// numberChanges asks which ports get another number by an update that leaves their nodePort out. A PUT keeps numbers by
// the names of the ports, see newEdit; client-side apply merges entries by their port number before that, so that
// what loses its number by replacing only may keep it by apply.
func numberChanges(s subject) []Finding {
	if s.service == nil || s.previous == nil || !s.service.getsNodePorts() || !s.previous.HasNodePorts() {
		return nil
	}
	e := newEdit(s.service, s.previous)
	var findings []Finding
	for i, p := range s.service.Ports {
		if p.NodePort != 0 || p.Port == 0 {
			continue // written, or no port at all
		}
		was, how, lost := e.lost(p)
		if !lost {
			continue
		}
		f := Finding{Code: NumberChanges, Case: how, Object: s.service.Owner.Ref, Detail: LostPort{NodePort: was.NodePort, Name: was.Name}}
		if f.Field = nodePortField(i); e.keepsBy(was.Name) {
			f.Field = fmt.Sprintf("spec.ports[%d].name", i)
		}
		findings = append(findings, f)
	}
	return findings
}

// edit is what becomes of the port entries of a Service, of which there may be many.
type edit struct {
	restores bool           // the API server puts back what is left out
	held     map[uint16]int // by how many entries each number was held
	written  map[uint16]int // by how many it is written now
	byPort   map[number]ports.ServicePort
	byName   map[string]ports.ServicePort
	only     *ports.ServicePort                  // the old entry, where there is one in place of one
	gone     map[backendPort][]ports.ServicePort // old entries of which neither port nor name are left
}

// backendPort is where an entry leads to.
type backendPort struct {
	protocol ports.Protocol
	target   ports.TargetPort
}

// newEdit compares two versions of a Service. The API server puts numbers back only if it allocates node ports for both:
// what a LoadBalancer with allocateLoadBalancerNodePorts: false had is not put back when it begins to allocate, or becomes
// a NodePort, and neither is what an ExternalName had (k8s.io/kubernetes pkg/registry/core/service/storage/storage.go
// patchAllocatedValues, needsNodePort).
func newEdit(service, previous *Service) edit {
	e := edit{
		restores: service.getsNodePorts() && previous.getsNodePorts(),
		held:     map[uint16]int{}, written: map[uint16]int{},
		byPort: map[number]ports.ServicePort{}, byName: map[string]ports.ServicePort{}, gone: map[backendPort][]ports.ServicePort{},
	}
	old, now := previous.Ports, service.Ports
	left, names := map[number]bool{}, map[string]bool{}
	for _, p := range now {
		e.written[p.NodePort]++
		left[number{p.Port, p.Protocol}], names[p.Name] = true, true
	}
	for _, p := range old {
		e.held[p.NodePort]++
		e.byPort[number{p.Port, p.Protocol}], e.byName[p.Name] = p, p
	}
	for _, p := range old {
		leads := backendPort{p.Protocol, p.TargetPort}
		if e.isLeftOut(p) && !left[number{p.Port, p.Protocol}] && !names[p.Name] && p.TargetPort != (ports.TargetPort{Number: p.Port}) {
			e.gone[leads] = append(e.gone[leads], p)
		}
	}
	if len(old) == 1 && len(now) == 1 {
		e.only = &old[0]
	}
	return e
}

// isLeftOut reports whether an entry had a number that is not written any more. One that is written in another entry
// instead was moved there; but of entries that had it together each one had to write it.
func (e edit) isLeftOut(was ports.ServicePort) bool {
	return was.NodePort != 0 && e.written[was.NodePort] < e.held[was.NodePort]
}

// lost returns the old entry whose number p would have kept, were it not for this edit, and how it gets lost. That is
// the entry with p's port, or else the one with its name, which the API server takes for the same whatever else it is.
func (e edit) lost(p ports.ServicePort) (was ports.ServicePort, how Case, lost bool) {
	at, isAt := e.byPort[number{p.Port, p.Protocol}]
	if isAt && e.isLeftOut(at) {
		return at, LostByReplace, e.kept(p) != at.NodePort
	}
	if named, isNamed := e.byName[p.Name]; isNamed {
		how = LostAnyway
		if named.Port == p.Port {
			how = LostByReplace // client-side apply does not look at the protocol
		}
		return named, how, e.isLeftOut(named) && e.kept(p) != named.NodePort
	}
	if isAt {
		return at, "", false
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

// keepsBy reports whether a port that leaves its number out gets the one of the old entry with the given name, if it has
// that name. It does not if the number is written now, be it in an entry that shared it.
func (e edit) keepsBy(name string) bool {
	was := e.byName[name].NodePort
	return e.restores && was != 0 && e.written[was] == 0
}

// kept is the number that the API server puts back into p, which has none; 0 if none.
func (e edit) kept(p ports.ServicePort) uint16 {
	if !e.keepsBy(p.Name) {
		return 0
	}
	return e.byName[p.Name].NodePort
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
				Code: CreateRefuses, Object: s.service.Owner.Ref, Field: nodePortField(i), Detail: Sibling{Field: entryField(j), Value: fmt.Sprint(p.NodePort)},
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
				Code: OneMergeKey, Case: ContainerEntries, Object: s.workload.Owner.Ref, Field: k.Field, Detail: Sibling{Field: k.Other, Value: k.Value},
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
				Code: OneMergeKey, Case: ServiceEntries, Object: s.service.Owner.Ref, Field: portField(i), Detail: Sibling{Field: entryField(j), Value: fmt.Sprint(p.Port)},
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
		Code: TrafficPolicy, Object: s.service.Owner.Ref, Field: "spec.externalTrafficPolicy", Detail: Change{was, is},
	}}
}
