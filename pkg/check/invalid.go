package check

// Invalid is a field about a port that the API server's validation refuses, whatever else there is. Only objects that no API
// server has seen have any: at admission it answers itself.
type Invalid struct {
	Code   Code
	Case   Case
	Field  string
	Detail Detail
}

// invalid reports what the API server refuses.
func invalid(s subject) []Finding {
	var findings []Finding
	add := func(f Finding, list []Invalid) {
		for _, i := range list {
			f.Code, f.Case, f.Field, f.Detail = i.Code, i.Case, i.Field, i.Detail
			findings = append(findings, f)
		}
	}
	if s.service != nil {
		add(Finding{Object: s.service.Owner.Ref}, s.service.Invalid)
	}
	if s.workload != nil {
		add(Finding{Object: s.workload.Owner.Ref}, s.workload.Invalid)
	}
	return findings
}
