package check

import (
	"fmt"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// nodePortsWithoutUse asks for numbers on a Service whose type has no node ports. Left over from a change of type they
// are wiped by the API server now and refused when the same file is applied next time.
func nodePortsWithoutUse(s subject) []Finding {
	if s.service == nil || s.service.HasNodePorts() {
		return nil
	}
	var findings []Finding
	for i, p := range s.service.Ports {
		if p.NodePort == 0 {
			continue
		}
		f := Finding{
			Code: NodePortWithoutUse, Object: s.service.Owner.Ref, Field: nodePortField(i),
			Value: fmt.Sprint(p.NodePort), Other: s.service.Type,
		}
		if s.previous != nil && s.previous.HasNodePorts() && hadNodePort(s.previous, p) {
			f.Case = NodePortIsLeftOver
		}
		findings = append(findings, f)
	}
	return findings
}

func hadNodePort(s *Service, p ports.ServicePort) bool {
	for _, old := range s.Ports {
		if old.NodePort == p.NodePort {
			return true
		}
	}
	return false
}
