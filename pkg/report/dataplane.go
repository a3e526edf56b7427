package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// inDataPlane tells what the rules on a node make of claims.
func inDataPlane(f check.Finding) (what, way string) {
	number := f.Claim.Number()
	switch {
	case f.Code == check.Captured:
		return fmt.Sprintf("with ipvs, the rules of this host port take the packets for port %s of every cluster IP on the pod's node", number),
			"let portmap use its iptables back end, or choose another hostPort"
	case f.Code == check.OrderDependent:
		return fmt.Sprintf("who gets the packets for %s, this or %s, depends on whether kube-proxy or portmap was started first", number, f.Holder.Ref),
			wayOut(f.Claim)
	case f.Case == check.ObjectShadowed:
		return fmt.Sprintf("the packets for %s go to %s%s, %s", number, f.Holder.Ref, assumed(f), wherever(f.Winners)), wayOut(f.Claim)
	case f.Case == check.HolderShadowed:
		return fmt.Sprintf("it takes the packets for %s from %s%s, %s", number, f.Holder.Ref, assumed(f), wherever(f.Winners)), wayOut(f.Claim)
	default:
		return fmt.Sprintf("of the packets for %s%s, those %s", number, assumed(f), shares(f)), wayOut(f.Claim)
	}
}

// assumed says on what it depends that a Service gets packets.
func assumed(f check.Finding) string {
	gets := slices.ContainsFunc(f.Winners, func(w check.Winner) bool { return w.Who.Kind == "Service" })
	if !f.Assumed || !gets {
		return ""
	}
	return " if the Service has endpoints"
}

// wherever says that all classes of packets are meant, or names those that are.
func wherever(winners []check.Winner) string {
	var from []string
	for _, w := range winners {
		if w.Who == (ports.Ref{}) {
			continue
		}
		from = append(from, w.Of)
	}
	if len(from) == len(winners) {
		return "wherever they come from"
	}
	return "those " + and(from)
}

// shares: "from outside go to this object, those over loopback to Pod default/a".
func shares(f check.Finding) string {
	var order []ports.Ref
	from := map[ports.Ref][]string{}
	for _, w := range f.Winners {
		if from[w.Who] == nil {
			order = append(order, w.Who)
		}
		from[w.Who] = append(from[w.Who], w.Of)
	}
	var parts []string
	for i, who := range order {
		part := and(from[who]) + " go to " + nameOf(f, who)
		if i > 0 {
			part = "those " + and(from[who]) + " to " + nameOf(f, who)
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ", ")
}

func nameOf(f check.Finding, who ports.Ref) string {
	switch who {
	case f.Object:
		return "this object"
	case ports.Ref{}:
		return "nobody"
	default:
		return who.String()
	}
}

func and(list []string) string {
	if len(list) < 2 {
		return strings.Join(list, "")
	}
	return strings.Join(list[:len(list)-1], ", ") + " and " + list[len(list)-1]
}
