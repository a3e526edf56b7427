package check

import "fmt"

// wrongCases asks for values that the API knows in another case only, "local" for Local: it refuses them with a list of
// what it knows, which looks the same.
func wrongCases(s subject) []Finding {
	var findings []Finding
	add := func(f Finding, list []Misspelled) {
		for _, m := range list {
			f.Code, f.Field, f.Detail = WrongCase, m.Field, Text{m.Value, m.Known}
			findings = append(findings, f)
		}
	}
	if s.service != nil {
		add(Finding{Object: s.service.Owner.Ref}, s.service.Misspelled)
	}
	if s.workload != nil {
		add(Finding{Object: s.workload.Owner.Ref}, s.workload.Misspelled)
	}
	return findings
}

// healthCheckChanges asks for a healthCheckNodePort that is changed while it is in use, which cannot be.
func healthCheckChanges(s subject) []Finding {
	if s.service == nil || s.previous == nil {
		return nil
	}
	was, is := s.previous.HealthCheckNodePort, s.service.HealthCheckNodePort
	if was == 0 || is == 0 || was == is {
		return nil // left out, the API server puts it back
	}
	return []Finding{{
		Code: HealthCheckFixed, Object: s.service.Owner.Ref, Field: "spec.healthCheckNodePort", Detail: Change{fmt.Sprint(was), fmt.Sprint(is)},
	}}
}
