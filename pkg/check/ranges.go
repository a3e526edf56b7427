package check

import (
	"slices"

	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// outsideRange asks whether every number of the API server's book is in the range that it allocates from. The API
// server answers a healthCheckNodePort outside of it with an internal error. A number that the Service had before it
// keeps: then the range has become smaller, or the file that is judged by it is older.
func outsideRange(s subject) []Finding {
	if s.service == nil || s.settings.NodePortRange.IsEmpty() {
		return nil
	}
	var had []ports.Claim
	if s.previous != nil {
		had = s.previous.Claims
	}
	var findings []Finding
	for _, c := range s.service.Claims {
		if !c.Kind.IsNodePortAllocated() || s.settings.NodePortRange.Contains(c.Port) {
			continue
		}
		f := Finding{Code: OutsideRange, Object: s.service.Owner.Ref, Field: c.Field, Detail: PortRange{Range: s.settings.NodePortRange}, Claim: c}
		if slices.ContainsFunc(had, func(h ports.Claim) bool { return h.Kind.IsNodePortAllocated() && h.Port == c.Port }) {
			f.Code = OutsideSmaller
		}
		findings = append(findings, f)
	}
	return findings
}

// hostPortsInNodePorts asks for host ports inside the node port range: any Service may be given that number tomorrow, and
// its rules are looked at first. Where a Service has the number, the two meet already, or nobody else can get it.
func hostPortsInNodePorts(s subject) []Finding {
	return s.within(InNodePorts, s.settings.NodePortRange, nil, func(c ports.Claim) bool {
		return c.Kind.OfPod() && !s.held.IsNodePort(c.Port)
	})
}

// portsInEphemeral asks for ports that the nodes' outgoing connections use too: replies to them are taken for requests,
// and a process may find its port in use.
func portsInEphemeral(s subject) []Finding {
	return s.within(InEphemeral, s.settings.Ephemeral, s.settings.ReservedLocal, func(c ports.Claim) bool {
		return c.Kind.OfPod() || c.Kind.IsNodePortAllocated()
	})
}

// numbersInDynamicBand checks for numbers that a person wrote where the API server allocates: another Service may have got one
// before this one is created. Nothing is gained by another number where the Service has it already, or where a pool that
// serves the Service has it: that keeps the API server's own choice away; and a pool that objects says what to choose. A number for both TCP and UDP is one.
func numbersInDynamicBand(s subject) []Finding {
	if s.service == nil || s.service.Chosen {
		return nil
	}
	had, seen := s.had(), map[uint16]bool{}
	return s.within(InDynamicBand, s.settings.DynamicBand, nil, func(c ports.Claim) bool {
		if !c.Kind.IsNodePortAllocated() || had[c.Port] || seen[c.Port] || s.isOfOwnPool(c.Port) || s.isForeign(c.Port) {
			return false
		}
		seen[c.Port] = true
		return true
	})
}

// isForeign reports whether a pool objects to a number: it says which to choose.
func (s subject) isForeign(port uint16) bool {
	return s.pools != nil && s.pools.Set.Judge(s.pools.Who, port, nil) != nil
}

// isOfOwnPool reports whether a number is one of a pool that serves the object.
func (s subject) isOfOwnPool(port uint16) bool {
	return s.pools != nil && slices.ContainsFunc(s.pools.Set.Members(), func(m *pool.Member) bool {
		return m.State == pool.Active && m.Selects(s.pools.Who) && m.Effective.Contains(port)
	})
}

// within returns a finding for each claim of a kind whose number lies in r and in none of except. What is never mapped, or
// held for a moment only, does not count.
func (s subject) within(code Code, r ports.Range, except []ports.Range, isOf func(ports.Claim) bool) []Finding {
	if r.IsEmpty() {
		return nil
	}
	var findings []Finding
	for _, c := range s.claims() {
		unmapped := c.InitOnly || c.Sidecar && c.Kind == ports.HostPort
		if unmapped || !isOf(c) || !r.Contains(c.Port) || slices.ContainsFunc(except, func(e ports.Range) bool { return e.Contains(c.Port) }) {
			continue
		}
		findings = append(findings, Finding{Code: code, Object: c.Owner.Ref, Field: c.Field, Claim: c, Detail: PortRange{r}})
	}
	return findings
}
