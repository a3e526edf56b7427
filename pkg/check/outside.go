package check

// outsideRange asks whether every number of the API server's book lies in the range that it allocates from. The API
// server answers a healthCheckNodePort outside of it with an internal error.
func outsideRange(s subject) []Finding {
	if s.service == nil || s.settings.NodePortRange.IsEmpty() {
		return nil
	}
	var findings []Finding
	for _, c := range s.service.Claims {
		if c.Kind.InNodePortBook() && !s.settings.NodePortRange.Contains(c.Port) {
			findings = append(findings, Finding{
				Code: OutsideRange, Object: s.service.Owner.Ref, Field: c.Field, Claim: c, Range: s.settings.NodePortRange,
			})
		}
	}
	return findings
}
