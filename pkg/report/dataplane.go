package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// voice is how the object of a finding is spoken of: one that is there or is to come now, or one that does not exist and may come.
type voice struct{ this, gets string }

func present() voice  { return voice{"this", "gets"} }
func newcomer() voice { return voice{"the new", "would get"} }

// packets tells of a conflict who gets the packets: "the Service gets all packets if it has endpoints", "at 192.168.7.1 this Pod gets
// all packets".
func packets(f check.Finding, as voice) string {
	p := f.Packets
	if p.OrderDependent {
		return "which of the two " + as.gets + " the packets depends on whether kube-proxy or portmap was started first"
	}
	while := ""
	if p.Without {
		while = "while " + nameOf(f, as, p.Service) + " has no endpoints, "
	}
	switch {
	case p.At.IsValid() && while != "":
		return fmt.Sprintf("at %s, %s%s", p.At, while, winners(f, as))
	case p.At.IsValid():
		return fmt.Sprintf("at %s %s", p.At, winners(f, as))
	default:
		return while + winners(f, as)
	}
}

// winners: "the Service gets all packets if it has endpoints".
func winners(f check.Finding, as voice) string {
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
		return nameOf(f, as, one) + " " + as.gets + " all packets" + assumed(f, one)
	}
	return nameOf(f, as, one) + " " + as.gets + " the packets " + and(from[one]) + assumed(f, one)
}

// assumed says on what it depends that somebody gets packets.
func assumed(f check.Finding, who ports.Ref) string {
	if !f.Packets.Assumed || who != f.Packets.Service {
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
		parts = append(parts, part+assumed(f, who))
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
