package check

// hostIPs asks whether every hostIP is an IP address. The API server does not (k8s.io/kubernetes
// pkg/apis/core/validation, measured), and portmap then silently installs no rule.
func hostIPs(s subject) []Finding {
	if s.workload == nil {
		return nil
	}
	var findings []Finding
	for _, u := range s.workload.Unparsed {
		findings = append(findings, Finding{Code: HostIPInvalid, Object: s.workload.Owner.Ref, Field: u.Field, Detail: HostIPText{Text: u.Value, Port: u.Port}})
	}
	return findings
}
