package check

import (
	"fmt"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// selfClashes asks whether a Service collides with itself: what the API server's allocator and validation refuse with
// words that do not say so (k8s.io/kubernetes pkg/registry/core/service/storage/alloc.go).
//
// One number for entries with the same port and different protocols, DNS for example, is what the API server itself
// chooses and no collision. One number for entries with different ports is refused on create but reachable by an
// update, so that it counts for creates only.
func selfClashes(s subject) []Finding {
	if s.service == nil {
		return nil
	}
	allocates := s.previous == nil && s.service.Type != "ExternalName" // which is validated and gets no numbers
	var findings []Finding
	seen := newEntries(s.service.Ports)
	for i, p := range s.service.Ports {
		if p.Port == 0 {
			continue // not a port at all: the API server refuses the entry and says so
		}
		f := Finding{Code: ServiceSelfClash, Object: s.service.Owner.Ref}
		if named, j, ok := seen.clash(p, allocates); ok {
			f.Case, f.Field, f.Other = named, nodePortField(i), nodePortField(j)
			switch named {
			case SamePortTwice:
				f.Field, f.Other, f.Value = portField(i), portField(j), fmt.Sprintf("%d/%s", p.Port, p.Protocol)
			case SameNodePortTwice:
				f.Value = fmt.Sprintf("%d/%s", p.NodePort, p.Protocol)
			default:
				f.Value = fmt.Sprint(p.NodePort)
			}
			findings = append(findings, f)
		}
		seen.add(i)
		if h := s.service.HealthCheckNodePort; h != 0 && h == p.NodePort {
			f.Case, f.Field, f.Other, f.Value = HealthCheckIsOwn, "spec.healthCheckNodePort", nodePortField(i), fmt.Sprint(h)
			findings = append(findings, f)
		}
	}
	return findings
}

// entries are the port entries of a Service that came before another. It keeps places counted from 1; 0 is none.
type entries struct {
	list       []ports.ServicePort
	byPort     map[number]int    // the first with a port and protocol
	byNodePort map[number]int    // the first with a nodePort and protocol
	shared     map[uint16][2]int // the first with a nodePort, and the first with it that has another port
}

type number struct {
	port     uint16
	protocol ports.Protocol
}

func newEntries(list []ports.ServicePort) entries {
	return entries{list, map[number]int{}, map[number]int{}, map[uint16][2]int{}}
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
			if creating && place != 0 && e.list[place-1].Port != p.Port {
				consider(place, SameNodePortSplit)
			}
		}
	}
	return named, first - 1, first != 0
}

func nodePortField(i int) string { return fmt.Sprintf("spec.ports[%d].nodePort", i) }

func portField(i int) string { return fmt.Sprintf("spec.ports[%d].port", i) }
