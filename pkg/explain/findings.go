package explain

import (
	"slices"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

// maxExplained is how many conflicts of one object are walked: an answer must not take the longer the more ports somebody
// makes up.
const maxExplained = 20

// Check asks every question about an object, those that need a walk among them, and returns the findings, sorted.
func (p Plane) Check(in check.Input) []check.Finding {
	findings := check.Check(in)
	findings = append(findings, p.Findings(in.Workload, findings, in.Families)...)
	slices.SortFunc(findings, check.Finding.Compare)
	return findings
}

// Findings returns what the rules of the plane add to findings about one object: who gets the packets where two claim one
// port, whether that depends on the order of starts, and which packets for others a host port takes.
func (p Plane) Findings(w *check.Workload, findings []check.Finding, families check.Families) []check.Finding {
	var more []check.Finding
	for _, f := range findings {
		if f.Code != check.Held || len(more) == maxExplained {
			continue
		}
		e, ok := p.Conflict(f, families)
		if !ok {
			continue
		}
		told := f
		told.Code, told.Winners = check.Shadowed, e.winners()
		if e.OrderDependent() {
			told.Code = check.OrderDependent
		}
		if told.Case = caseOf(told); !p.concerns(told) {
			continue
		}
		told.Assumed = e.Assumed
		told.Severity = check.SeverityOf(told.Code, told.Case)
		more = append(more, told)
	}
	return append(more, p.captured(w)...)
}

// concerns reports whether the two share packets at all: one of them gets some, and the other would.
func (p Plane) concerns(f check.Finding) bool {
	if f.Case == check.HolderShadowed && !p.serves(f.Holder.Claim.Kind) {
		return false
	}
	return slices.ContainsFunc(f.Winners, func(w check.Winner) bool { return w.Who != ports.Ref{} })
}

// caseOf says who of the two gets the packets.
func caseOf(f check.Finding) check.Case {
	if f.Code == check.OrderDependent {
		return ""
	}
	object := slices.ContainsFunc(f.Winners, func(w check.Winner) bool { return w.Who == f.Object })
	holder := slices.ContainsFunc(f.Winners, func(w check.Winner) bool { return w.Who == f.Holder.Ref })
	switch {
	case object && !holder:
		return check.HolderShadowed
	case holder && !object:
		return check.ObjectShadowed
	default:
		return check.EachGetsSome
	}
}

// winners tells the classes of packets with who gets them; of families and places that agree once.
func (e Evidence) winners() []check.Winner {
	var all []check.Winner
	for _, from := range Froms() {
		var of []Class
		for _, c := range e.Classes {
			if c.From == from {
				of = append(of, c)
			}
		}
		byFamily := differ(of, func(a, b Class) bool { return a.Where == b.Where })
		byPlace := differ(of, func(a, b Class) bool { return a.Family == b.Family })
		onlyIPv6 := !slices.ContainsFunc(of, func(c Class) bool { return c.Family != rules.IPv6 })
		for _, c := range of {
			w := check.Winner{Of: string(from), Who: c.Winner}
			if byPlace && c.Where != Anywhere {
				w.Of += " " + string(c.Where)
			}
			if byFamily || onlyIPv6 {
				w.Of += " (" + c.Family.String() + ")"
			}
			if !slices.Contains(all, w) {
				all = append(all, w)
			}
		}
	}
	return all
}

// differ reports whether who gets the packets differs between classes that are alike in all but one property.
func differ(classes []Class, alike func(a, b Class) bool) bool {
	return slices.ContainsFunc(classes, func(a Class) bool {
		return slices.ContainsFunc(classes, func(b Class) bool { return alike(a, b) && a.Winner != b.Winner })
	})
}

// captured asks for host ports that take the packets for every cluster IP: kube-proxy's ipvs mode makes these addresses of
// the node, and portmap's nftables rules look at local addresses in a chain of their own (measured).
func (p Plane) captured(w *check.Workload) []check.Finding {
	if p.ServiceProxy != IPVS || p.HostPorts != PortmapNFTables || w == nil {
		return nil
	}
	var found []check.Finding
	for _, c := range w.Claims {
		_, single := c.Address.Single()
		if c.Kind == ports.HostPort && !c.InitOnly && !c.Sidecar && !single {
			found = append(found, check.Finding{
				Code: check.Captured, Severity: check.SeverityOf(check.Captured, ""), Object: w.Owner.Ref, Field: c.Field, Claim: c,
			})
		}
	}
	return found
}
