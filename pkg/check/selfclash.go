package check

import (
	"fmt"
	"slices"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// selfClashes asks whether a Service collides with itself: what the API server's allocator and validation refuse with
// words that do not say so (k8s.io/kubernetes pkg/registry/core/service/storage/alloc.go).
//
// One number for entries with the same port and different protocols, DNS for example, is what the API server itself
// chooses and no collision, as long as it is the first that is written for that port. One number for other entries is
// refused on create but reachable by an update, so that it counts for creates only.
func selfClashes(s subject) []Finding {
	if s.service == nil {
		return nil
	}
	allocates := s.previous == nil && s.service.Type != "ExternalName" // which is validated and gets no numbers
	var findings []Finding
	list := s.numbered()
	seen := newEntries(list)
	for i, p := range list {
		if p.Port == 0 {
			continue // not a port at all: the API server refuses the entry and says so
		}
		f := Finding{Code: ServiceSelfClash, Object: s.service.Owner.Ref}
		if named, j, ok := seen.clash(p, allocates); ok {
			other := Sibling{Field: entryField(j)}
			f.Case, f.Field = named, nodePortField(i)
			switch named {
			case SamePortTwice:
				f.Field, other.Value = portField(i), fmt.Sprintf("%d/%s", p.Port, p.Protocol)
			case SameNodePortTwice:
				other.Value = fmt.Sprintf("%d/%s", p.NodePort, p.Protocol)
			default:
				other.Value = fmt.Sprint(p.NodePort)
			}
			f.Detail = other
			findings = append(findings, f)
		}
		seen.add(i)
		if s.isHealthCheck(p.NodePort) {
			findings = append(findings, s.healthCheckIsOwn(p.NodePort, i))
		}
	}
	if i, was := s.healthCheckWasOwn(); was {
		findings = append(findings, s.healthCheckIsOwn(s.service.HealthCheckNodePort, i))
	}
	return findings
}

// numbered are the port entries of a Service with the numbers that they will have: an update gives those back that are
// left out, and drops those that are left over.
func (s subject) numbered() []ports.ServicePort {
	if s.previous == nil {
		return s.service.Ports
	}
	isLeftOver := !s.service.HasNodePorts() && s.nodePortsAreLeftOver()
	e := newEdit(s.service, s.previous)
	list := slices.Clone(s.service.Ports)
	for i, p := range list {
		switch {
		case isLeftOver:
			list[i].NodePort = 0
		case p.NodePort == 0 && p.Port != 0:
			list[i].NodePort = e.kept(p)
		}
	}
	return list
}

func (s subject) healthCheckIsOwn(number uint16, i int) Finding {
	return Finding{
		Code: ServiceSelfClash, Case: HealthCheckIsOwn, Object: s.service.Owner.Ref,
		Field: "spec.healthCheckNodePort", Detail: Sibling{Field: nodePortField(i), Value: fmt.Sprint(number)},
	}
}

// isHealthCheck reports whether a number is the Service's healthCheckNodePort, or was until now: the API server gives a
// number back only after the whole update.
func (s subject) isHealthCheck(number uint16) bool {
	return number != 0 && (number == s.service.HealthCheckNodePort || s.previous != nil && number == s.previous.HealthCheckNodePort)
}

// healthCheckWasOwn reports whether a new healthCheckNodePort was the nodePort of an entry until now, and of which.
func (s subject) healthCheckWasOwn() (int, bool) {
	number := s.service.HealthCheckNodePort
	isOf := func(p ports.ServicePort) bool { return p.NodePort == number }
	if number == 0 || s.previous == nil || s.previous.HealthCheckNodePort != 0 || slices.ContainsFunc(s.service.Ports, isOf) {
		return 0, false
	}
	i := slices.IndexFunc(s.previous.Ports, isOf)
	return i, i >= 0 && s.previous.HasNodePorts()
}

// entries are the port entries of a Service that came before another. It keeps places counted from 1; 0 is none.
type entries struct {
	list       []ports.ServicePort
	byPort     map[number]int    // the first with a port and protocol
	byNodePort map[number]int    // the first with a nodePort and protocol
	shared     map[uint16][2]int // the first with a nodePort, and the first with it that has another port
	sharing    map[uint16]uint16 // by port, of all entries: the number that a create lets them share, which is the first
}

type number struct {
	port     uint16
	protocol ports.Protocol
}

func newEntries(list []ports.ServicePort) entries {
	sharing := map[uint16]uint16{}
	for _, p := range list {
		if sharing[p.Port] == 0 {
			sharing[p.Port] = p.NodePort
		}
	}
	return entries{list, map[number]int{}, map[number]int{}, map[uint16][2]int{}, sharing}
}

func (e entries) add(i int) {
	p := e.list[i]
	if byPort := (number{p.Port, p.Protocol}); e.byPort[byPort] == 0 {
		e.byPort[byPort] = i + 1
	}
	if byNodePort := (number{p.NodePort, p.Protocol}); e.byNodePort[byNodePort] == 0 {
		e.byNodePort[byNodePort] = i + 1
	}
	switch shared := e.shared[p.NodePort]; {
	case shared[0] == 0:
		e.shared[p.NodePort] = [2]int{i + 1}
	case shared[1] == 0 && e.list[shared[0]-1].Port != p.Port:
		e.shared[p.NodePort] = [2]int{shared[0], i + 1}
	}
}

// clash returns the index of the first entry that p collides with, and how.
func (e entries) clash(p ports.ServicePort, creating bool) (Case, int, bool) {
	first, named := 0, Case("")
	consider := func(place int, as Case) {
		if place != 0 && (first == 0 || place < first) {
			first, named = place, as
		}
	}
	consider(e.byPort[number{p.Port, p.Protocol}], SamePortTwice)
	if p.NodePort != 0 {
		consider(e.byNodePort[number{p.NodePort, p.Protocol}], SameNodePortTwice)
		for _, place := range e.shared[p.NodePort] {
			if creating && place != 0 && (e.list[place-1].Port != p.Port || e.sharing[p.Port] != p.NodePort) {
				consider(place, SameNodePortSplit)
			}
		}
	}
	return named, first - 1, first != 0
}

func entryField(i int) string { return fmt.Sprintf("spec.ports[%d]", i) }

func nodePortField(i int) string { return entryField(i) + ".nodePort" }

func portField(i int) string { return entryField(i) + ".port" }
