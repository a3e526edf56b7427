package check

import (
	"fmt"
	"slices"
)

// targetPortNames asks whether the names that a Service leads to exist in what it selects. Names are looked up pod by pod,
// with the protocol, in the order of the containers (k8s.io/endpointslice FindPort). A Service that selects nothing that
// is known is let alone: what one sees is a part. A number needs no declared containerPort.
func targetPortNames(s subject) []Finding {
	if s.service == nil || len(s.service.Backends) == 0 {
		return nil
	}
	var findings []Finding
	for i, p := range s.service.Ports {
		if p.TargetPort.Name == "" {
			continue
		}
		f := Finding{
			Code: TargetPortName, Object: s.service.Owner.Ref, Field: fmt.Sprintf("spec.ports[%d].targetPort", i), Detail: PortName{Name: p.TargetPort.Name, Protocol: p.Protocol},
		}
		offers, otherwise := 0, 0
		for _, b := range s.service.Backends {
			var found []uint16
			for _, n := range b.Ports {
				switch {
				case n.Name != p.TargetPort.Name:
				case n.Protocol == p.Protocol:
					found = append(found, n.Port)
				default:
					otherwise++
				}
			}
			if len(found) > 0 {
				offers++
			}
			if f.Case == "" && len(found) > 1 && slices.Max(found) != slices.Min(found) {
				f.Case, f.Holder = OfferedTwice, &Holder{Ref: b.Ref}
			}
		}
		switch {
		case f.Case != "":
		case offers > 0:
			continue
		case otherwise > 0:
			f.Case, f.Holder = OtherProtocol, &Holder{Ref: s.service.Backends[0].Ref}
		default:
			f.Case, f.Holder = NotOffered, &Holder{Ref: s.service.Backends[0].Ref}
		}
		findings = append(findings, f)
	}
	return findings
}

// endpointsApart asks whether the Endpoints or EndpointSlices that somebody wrote for a Service without a selector lie in
// its namespace and have its port names and protocols, by which kube-proxy joins them. Where there are none at all, nothing is said.
func endpointsApart(s subject) []Finding {
	if s.service == nil || len(s.service.Endpoints) == 0 {
		return nil
	}
	ref := s.service.Owner.Ref
	var here []Endpoints
	for _, e := range s.service.Endpoints {
		if e.Ref.Namespace == ref.Namespace {
			here = append(here, e)
		}
	}
	if len(here) == 0 {
		return []Finding{{
			Code: EndpointsApart, Case: OtherNamespace, Object: ref, Field: "metadata.namespace",
			Holder: &Holder{Ref: s.service.Endpoints[0].Ref},
		}}
	}
	var findings []Finding
	for i, p := range s.service.Ports {
		if !slices.ContainsFunc(here, func(e Endpoints) bool { return slices.Contains(e.Ports, EndpointPort{p.Name, p.Protocol}) }) {
			findings = append(findings, Finding{
				Code: EndpointsApart, Case: OtherPortName, Object: ref, Field: fmt.Sprintf("spec.ports[%d].name", i), Detail: PortName{Name: p.Name, Protocol: p.Protocol}, Holder: &Holder{Ref: here[0].Ref},
			})
		}
	}
	return findings
}
