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
	if s.service == nil || s.service.Type == "ExternalName" {
		return nil
	}
	var findings []Finding
	for i, p := range s.service.Ports {
		for j, earlier := range s.service.Ports[:i] {
			if f, ok := s.clash(earlier, p); ok {
				f.Field, f.Other = nodePortField(i), nodePortField(j)
				if f.Case == SamePortTwice {
					f.Field, f.Other = portField(i), portField(j)
				}
				findings = append(findings, f)
				break
			}
		}
		if h := s.service.HealthCheckNodePort; h != 0 && h == p.NodePort {
			findings = append(findings, Finding{
				Code: ServiceSelfClash, Case: HealthCheckIsOwn, Object: s.service.Owner.Ref,
				Field: "spec.healthCheckNodePort", Other: nodePortField(i), Value: fmt.Sprint(h),
			})
		}
	}
	return findings
}

// clash compares two port entries of one Service.
func (s subject) clash(a, b ports.ServicePort) (Finding, bool) {
	f := Finding{Code: ServiceSelfClash, Object: s.service.Owner.Ref}
	sameNodePort := a.NodePort != 0 && a.NodePort == b.NodePort
	switch {
	case a.Port == 0 || b.Port == 0: // not a port at all: the API server refuses the entry and says so
		return Finding{}, false
	case a.Port == b.Port && a.Protocol == b.Protocol:
		f.Case, f.Value = SamePortTwice, fmt.Sprintf("%d/%s", b.Port, b.Protocol)
	case sameNodePort && a.Protocol == b.Protocol:
		f.Case, f.Value = SameNodePortTwice, fmt.Sprintf("%d/%s", b.NodePort, b.Protocol)
	case sameNodePort && a.Port != b.Port && s.previous == nil:
		f.Case, f.Value = SameNodePortSplit, fmt.Sprint(b.NodePort)
	default:
		return Finding{}, false
	}
	return f, true
}

func nodePortField(i int) string { return fmt.Sprintf("spec.ports[%d].nodePort", i) }

func portField(i int) string { return fmt.Sprintf("spec.ports[%d].port", i) }
