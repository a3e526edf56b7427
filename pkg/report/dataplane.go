package report

import (
	"cmp"
	"slices"
	"strings"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// voice is how the object of a finding is spoken of: one that is there or is to come now, or one that does not exist and may come.
type voice struct{ this, gets string }

func present() voice  { return voice{"this", "gets"} }
func newcomer() voice { return voice{"the new", "would get"} }

// packets tells of a conflict who gets the packets: "the Service gets all packets if it has endpoints".
func packets(f check.Finding, as voice) string {
	if f.Packets.OrderDependent {
		return "which of the two " + as.gets + " the packets depends on whether kube-proxy or portmap was started first"
	}
	var order []ports.Ref
	from := map[ports.Ref][]string{}
	for _, w := range f.Packets.Winners {
		if from[w.Who] == nil {
			order = append(order, w.Who)
		}
		from[w.Who] = append(from[w.Who], w.Of)
	}
	someone := slices.DeleteFunc(slices.Clone(order), func(who ports.Ref) bool { return who == ports.Ref{} })
	if len(someone) > 1 {
		return shares(f, as, order, from)
	}
	one := someone[0]
	if len(order) == 1 {
		return nameOf(f, as, one) + " " + as.gets + " all packets" + assumed(f)
	}
	return nameOf(f, as, one) + " " + as.gets + " the packets " + and(from[one]) + assumed(f)
}

// assumed says on what it depends that a Service gets packets.
func assumed(f check.Finding) string {
	gets := slices.ContainsFunc(f.Packets.Winners, func(w check.Winner) bool { return w.Who.Kind == "Service" })
	if !f.Packets.Assumed || !gets {
		return ""
	}
	return " if it has endpoints"
}

// shares: "this Pod gets the packets over loopback, the Service all others".
func shares(f check.Finding, as voice, order []ports.Ref, from map[ports.Ref][]string) string {
	slices.SortStableFunc(order, func(a, b ports.Ref) int { return cmp.Compare(len(from[a]), len(from[b])) })
	most := order[len(order)-1]
	var parts []string
	for _, who := range order {
		part := nameOf(f, as, who) + " " + as.gets + " the packets " + and(from[who])
		if who == most {
			part = nameOf(f, as, who) + " all others"
		}
		if who.Kind == "Service" {
			part += assumed(f)
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ", ")
}

// nameOf tells the object and its holder apart without repeating their names.
func nameOf(f check.Finding, as voice, who ports.Ref) string {
	switch {
	case who == f.Object:
		return as.this + " " + who.Kind
	case who == ports.Ref{}:
		return "nobody"
	case len(f.Others) > 0:
		return who.String()
	case who.Kind == f.Object.Kind:
		return "the other " + who.Kind
	default:
		return "the " + who.Kind
	}
}

func and(list []string) string {
	if len(list) < 2 {
		return strings.Join(list, "")
	}
	return strings.Join(list[:len(list)-1], ", ") + " and " + list[len(list)-1]
}
