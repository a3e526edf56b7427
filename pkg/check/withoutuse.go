package check

import "fmt"

// nodePortsWithoutUse asks for numbers on a Service whose type has no node ports. Left over from a change of type they
// are wiped by the API server now and refused when the same file is applied next time.
func nodePortsWithoutUse(s subject) []Finding {
	if s.service == nil || s.service.HasNodePorts() {
		return nil
	}
	had := map[uint16]bool{}
	if s.previous != nil && s.previous.HasNodePorts() {
		for _, old := range s.previous.Ports {
			had[old.NodePort] = true
		}
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
		if had[p.NodePort] {
			f.Case = NodePortIsLeftOver
		}
		findings = append(findings, f)
	}
	return findings
}
