package check

import (
	"slices"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// nodePortsWithoutUse asks for numbers on a Service whose type has no node ports. Left over from a change of type they
// are wiped by the API server now and refused when the same file is applied next time.
//
// The API server drops them if none of them is new (k8s.io/kubernetes pkg/registry/core/service sameNodePorts).
func nodePortsWithoutUse(s subject) []Finding {
	if s.service == nil {
		return nil
	}
	var findings []Finding
	f := Finding{Code: NodePortWithoutUse, Object: s.service.Owner.Ref}
	unused := func(port uint16) UnusedPort { return UnusedPort{int(port), s.service.Type} }
	if n := s.service.UnusedHealthCheck; n != 0 {
		f.Field, f.Detail = "spec.healthCheckNodePort", unused(n)
		if s.previous != nil && s.previous.HealthCheckNodePort == n {
			f.Case = NodePortIsLeftOver
		}
		findings = append(findings, f)
	}
	if s.service.HasNodePorts() {
		return findings
	}
	switch f.Case = ""; {
	case s.nodePortsAreLeftOver():
		f.Case = NodePortIsLeftOver
	case s.service.Type == "ExternalName": // the API server does not look
		f.Case = NodePortIsIgnored
	}
	for i, p := range s.service.Ports {
		if p.NodePort != 0 {
			f.Field, f.Detail = nodePortField(i), unused(p.NodePort)
			findings = append(findings, f)
		}
	}
	return findings
}

func (s subject) nodePortsAreLeftOver() bool {
	if s.previous == nil || !s.previous.HasNodePorts() {
		return false
	}
	had := map[uint16]bool{0: true}
	for _, old := range s.previous.Ports {
		had[old.NodePort] = true
	}
	return !slices.ContainsFunc(s.service.Ports, func(p ports.ServicePort) bool { return !had[p.NodePort] })
}
