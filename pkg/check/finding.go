package check

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// Finding is what one check found of one object, as data; pkg/report turns it into words.
type Finding struct {
	Code        Code
	Severity    Severity
	Case        Case // "" where the code has one meaning only
	Object      ports.Ref
	Field       string      // the path in the object, "spec.ports[0].nodePort"
	Detail      Detail      // what else its code says; nil where nothing is
	Claim       ports.Claim // what the object wants; the zero Claim where no socket is concerned
	Holder      *Holder     // who is in the way; nil where nobody else is
	Others      []Holder    // who else is, where several are in one way, sorted
	Nodes       []string    // where the two meet, sorted; nil: on every node, or not known
	Eligible    int         // how many nodes the object could run on, where Nodes are a part of them
	Packets     *Packets    // who gets the packets of the two; nil: not known, or no matter of rules
	Enforcement Enforcement // what the pool or policy that objects does to a request; 0: by severity
	Remark      string      // what the owner of the policy adds
	Instead     uint16      // a free number to have in place of one that is held; 0: none is offered
	Idle        bool        // the object wants no pods: its future ones would meet the holder
	Standing    bool        // the object had it before this change, or its controller stands with it: never refused
}

// Packets says who gets the packets of two that claim one port; pkg/explain knows.
type Packets struct {
	Winners        []Winner   // by class, of one order in which the components may have started
	OrderDependent bool       // another order has other winners, and which one there was is not known
	At             netip.Addr // the only address that the two share; the zero Addr: there are more
	Service        ports.Ref  // the one of the two that gets packets by its endpoints; the zero Ref: neither
	Assumed        bool       // so it is while Service has endpoints, of which nothing is known
	Without        bool       // so it is while Service has no endpoints, as it has none now
}

// Winner says who gets the packets of one class.
type Winner struct {
	Of  string // "from outside", "over loopback"
	Who ports.Ref
}

// Holder is who is in the way: the controller that a person wrote, or the object itself where it has none.
type Holder struct {
	ports.Ref
	Claim ports.Claim // one of its claims that meet
	Field string      // the path of that claim in the holder
	Pods  int         // how many pods of the controller meet; 0 where the holder holds it itself
	Nodes []string    // where it is met, as Finding.Nodes
}

// Holders returns Holder and Others; none where nobody else is in the way.
func (f Finding) Holders() []Holder {
	if f.Holder == nil {
		return nil
	}
	return append([]Holder{*f.Holder}, f.Others...)
}

// Key tells findings of one code, case and claim apart; "" where there is one.
func (f Finding) Key() string {
	if f.Detail == nil {
		return ""
	}
	return f.Detail.key()
}

// sortHolders puts first who is met on most nodes.
func (f *Finding) sortHolders() {
	if len(f.Others) == 0 {
		return
	}
	all := f.Holders()
	slices.SortFunc(all, func(a, b Holder) int { return cmp.Or(cmp.Compare(len(b.Nodes), len(a.Nodes)), a.Compare(b.Ref)) })
	f.Holder, f.Others = &all[0], all[1:]
}

// Fold makes one finding of those in which an object meets several holders by one field in one way: each of them is in the way
// until all have gone. Findings stay in their order.
func Fold(findings []Finding) []Finding {
	type meeting struct {
		object   ports.Ref
		field    string
		number   string
		severity Severity
		standing bool
	}
	var folded []Finding
	at := map[meeting]int{}
	for _, f := range findings {
		if f.Code != Held || f.Case != "" || f.Holder == nil || f.Holder.Kind == NodeKind {
			folded = append(folded, f)
			continue
		}
		key := meeting{f.Object, f.Field, f.Claim.PortProtocol(), f.Severity, f.Standing}
		i, again := at[key]
		if !again || !folded[i].isAlike(f) {
			at[key] = len(folded)
			folded = append(folded, f)
			continue
		}
		into := &folded[i]
		into.Others = append(slices.Clone(into.Others), f.Holders()...)
		if into.Nodes = union(into.Nodes, f.Nodes); f.Nodes == nil {
			into.Nodes = nil
		}
		into.sortHolders()
	}
	return folded
}

// isAlike reports whether two findings about one port of an object say the same of it, whoever the holders are.
func (f Finding) isAlike(o Finding) bool {
	if (f.Nodes == nil) != (o.Nodes == nil) || f.Holder.Claim.Protocol != o.Holder.Claim.Protocol || (f.Packets == nil) != (o.Packets == nil) {
		return false
	}
	if f.Packets == nil {
		return true
	}
	p, q := f.Packets, o.Packets
	return p.OrderDependent == q.OrderDependent && p.At == q.At && p.Service == q.Service && p.Assumed == q.Assumed && p.Without == q.Without &&
		slices.Equal(p.Winners, q.Winners) && !slices.ContainsFunc(p.Winners, func(w Winner) bool { return w.Who != f.Object })
}

// Compare orders findings by object, field, code, claim and holder.
func (f Finding) Compare(o Finding) int {
	return cmp.Or(f.Object.Compare(o.Object), compareFields(f.Field, o.Field), strings.Compare(string(f.Code), string(o.Code)),
		f.Claim.Socket.Compare(o.Claim.Socket), strings.Compare(f.Key(), o.Key()), f.holder().Compare(o.holder()),
		slices.Compare(f.Nodes, o.Nodes))
}

func (f Finding) holder() ports.Ref {
	if f.Holder == nil {
		return ports.Ref{}
	}
	return f.Holder.Ref
}

// identity is what makes two findings about two versions of an object the same violation. The field is not part of it: an
// entry that moves in its list is no new one.
type identity struct {
	code   Code
	named  Case
	value  string
	socket ports.Socket
	holder ports.Ref
}

func (f Finding) identity() identity {
	socket := f.Claim.Socket
	if f.Code == ForeignPool || f.Code == PolicyNodePort {
		socket = ports.Socket{Port: socket.Port} // they know numbers only: one that moves from TCP to UDP is no new one
	}
	value := f.Key()
	if f.Case == NumberOfNoPool {
		value = "" // which pool would serve it now does not matter
	}
	return identity{f.Code, f.Case, value, socket, f.holder()}
}

// compareFields orders paths as a person counts: ports[2] before ports[10].
func compareFields(a, b string) int {
	for a != "" && b != "" {
		if isDigit(a[0]) && isDigit(b[0]) {
			na, nb := digits(a), digits(b)
			if c := cmp.Or(cmp.Compare(len(na), len(nb)), strings.Compare(na, nb)); c != 0 {
				return c
			}
			a, b = a[len(na):], b[len(nb):]
			continue
		}
		if a[0] != b[0] {
			return cmp.Compare(a[0], b[0])
		}
		a, b = a[1:], b[1:]
	}
	return cmp.Compare(len(a), len(b))
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func digits(s string) string {
	for i := range len(s) {
		if !isDigit(s[i]) {
			return s[:i]
		}
	}
	return s
}
