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

// Check runs every check on an object, finds who gets the packets of a conflict, and returns the findings, sorted. Which families a
// hostIP is mapped for is known of portmap alone.
func (p Plane) Check(in check.Input) []check.Finding {
	families := in.Families
	if p.HostPorts != PortmapIPTables && p.HostPorts != PortmapNFTables {
		in.Families = check.Families{}
	}
	findings := check.Check(in)
	p.Explain(findings, families)
	if captured := p.Captured(in.Workload); captured != nil {
		findings = append(findings, captured...)
		slices.SortFunc(findings, check.Finding.Compare)
	}
	return findings
}

// Explain adds to conflicts who gets the packets by the rules of the plane, and whether that depends on the order of starts.
func (p Plane) Explain(findings []check.Finding, families check.Families) {
	explained := 0
	for i := range findings {
		f := &findings[i]
		if f.Code != check.Held || f.Case == check.HolderHasNoNode || explained == maxExplained {
			continue
		}
		if !p.serves(f.Claim.Kind) || f.Holder != nil && !p.serves(f.Holder.Claim.Kind) {
			continue // who never gets any packets loses none, and takes none
		}
		if e, ok := p.Conflict(*f, families); ok && e.someoneWins() {
			f.Packets = &check.Packets{
				Winners: e.winners(), OrderDependent: e.OrderDependent(), At: e.At, Service: e.Service, Assumed: e.Assumed, Without: e.Without,
			}
			explained++
		}
	}
}

// someoneWins reports whether anybody gets any of the packets.
func (e Evidence) someoneWins() bool {
	return slices.ContainsFunc(e.Classes, func(c Class) bool { return c.Winner != ports.Ref{} })
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

// Captured asks for host ports that take the packets for every cluster IP: kube-proxy's ipvs mode makes these addresses of
// the node, and portmap's nftables rules look at local addresses in a chain of their own (measured).
func (p Plane) Captured(w *check.Workload) []check.Finding {
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
