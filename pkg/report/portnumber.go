package report

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/explain"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

// PortNumber is what is told of a number that was asked for.
type PortNumber struct {
	Port       int             `json:"port"`
	Protocol   string          `json:"protocol"`
	Free       bool            `json:"free"`                // nobody holds it on any node
	LiesIn     []string        `json:"liesIn"`              // the ranges and pools that it is of, in words
	Situations []PortSituation `json:"situations"`          // one for each destination that has its own answer, on nodes that are alike
	Serves     []PortUse       `json:"serves"`              // the Services that hold it
	New        []PortWanted    `json:"new"`                 // what would become of who wants it now
	Simulated  []string        `json:"simulated,omitempty"` // what the walks had to assume, in words
	Unknown    string          `json:"unknown,omitempty"`   // why nothing is told of packets
}

// PortSituation is who gets the packets for a number to some addresses, on nodes that are alike.
type PortSituation struct {
	Nodes          []string     `json:"nodes"`
	To             []string     `json:"to"` // the addresses; of the nodes' own, those of each node
	Winners        []PortWinner `json:"winners"`
	OrderDependent bool         `json:"orderDependent"` // it depends on which component started first
	Rules          []TraceStep  `json:"rules"`          // that a packet from outside matches, up to that which decides

	About string `json:"-"` // of which packets this is, in words
}

// PortWinner says who gets the packets of one class.
type PortWinner struct {
	Of    string `json:"of"`              // "from outside", "from pods"
	Owner *Owner `json:"owner,omitempty"` // left out where nobody does
	// Verdict says what becomes of packets that nobody gets: dropped, rejected or forwarded; left out: a process of the node may listen.
	Verdict string `json:"verdict,omitempty"`
	By      *Owner `json:"by,omitempty"` // whose rule drops or rejects them
	// Assumed says that so it is if the Service has endpoints, of which nothing is known; Otherwise gets the packets if not, where
	// that was asked.
	Assumed          bool   `json:"assumed,omitempty"`
	Otherwise        *Owner `json:"otherwise,omitempty"`
	OtherwiseVerdict string `json:"otherwiseVerdict,omitempty"`
	OtherwiseBy      *Owner `json:"otherwiseBy,omitempty"`
}

// What becomes of packets that nobody gets.
const (
	PacketsDropped   = "dropped"
	PacketsRejected  = "rejected"
	PacketsForwarded = "forwarded" // the address is not the node's
)

// PacketEnd is what becomes of the packets of one class.
type PacketEnd struct {
	Of      string    // "from outside"
	Who     ports.Ref // who gets them; the zero Ref: nobody
	Verdict string    // as PortWinner has it
	By      ports.Ref // whose rule drops or rejects them
}

// PortWalk is what becomes of the packets for a port to one or several addresses, on nodes that are alike.
type PortWalk struct {
	Port           uint16
	Protocol       ports.Protocol
	Nodes          []string
	All            bool        // there is no other destination on these nodes
	Ends           []PacketEnd // in the order of explain.Froms
	Otherwise      []PacketEnd // where Services of which no endpoint is known have none
	OrderDependent bool
	Outside        explain.Answer // of the first destination
	Simulated      []string

	own, named []netip.Addr
}

// AddDestination says where the packets go: to the own address of each of the nodes, or to one that somebody names.
func (w *PortWalk) AddDestination(addresses []netip.Addr, own bool) {
	if own {
		w.own = append(w.own, addresses...)
	} else {
		w.named = append(w.named, addresses...)
	}
}

// Agrees reports whether the same becomes of the packets to other addresses, in the classes that both have.
func (w *PortWalk) Agrees(o *PortWalk) bool {
	return w.OrderDependent == o.OrderDependent && agree(w.Ends, o.Ends) && agree(w.Otherwise, o.Otherwise)
}

func agree(a, b []PacketEnd) bool {
	shared := 0
	for _, x := range a {
		for _, y := range b {
			if x.Of == y.Of {
				shared++
				if x != y {
					return false
				}
			}
		}
	}
	return shared > 0
}

// Merge adds the destinations of a walk that agrees.
func (w *PortWalk) Merge(o *PortWalk) {
	w.own, w.named = append(w.own, o.own...), append(w.named, o.named...)
	w.Ends, w.Otherwise = joined(w.Ends, o.Ends), joined(w.Otherwise, o.Otherwise)
	if len(w.Outside.Paths) == 0 {
		w.Outside = o.Outside
	}
}

// joined are the classes of both.
func joined(a, b []PacketEnd) []PacketEnd {
	var all []PacketEnd
	for _, from := range explain.Froms() {
		for _, end := range slices.Concat(a, b) {
			if end.Of == string(from) {
				all = append(all, end)
				break
			}
		}
	}
	return all
}

// about tells which packets a walk is about: "Packets for 80/TCP on node n1", "Packets to 203.0.113.5:80/TCP on node n1".
func (w *PortWalk) about() string {
	number := fmt.Sprintf("%d/%s", w.Port, w.Protocol)
	if w.All && len(w.own) > 0 {
		return fmt.Sprintf("Packets for %s on %s", number, nodes(w.Nodes))
	}
	if len(w.own) > 0 && len(w.Nodes) > 1 {
		families := []string{}
		for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
			if slices.ContainsFunc(w.own, f.Has) {
				families = append(families, f.String())
			}
		}
		to := []string{fmt.Sprintf("the nodes' own %s addresses", and(families))}
		for _, addr := range w.named {
			to = append(to, addr.String())
		}
		return fmt.Sprintf("Packets to port %s of %s on %s", number, enumerate(to), nodes(w.Nodes))
	}
	var to []string
	for _, addr := range slices.Concat(w.own, w.named) {
		to = append(to, fmt.Sprintf("%s/%s", netip.AddrPortFrom(addr, w.Port), w.Protocol))
	}
	return fmt.Sprintf("Packets to %s on %s", enumerate(to), nodes(w.Nodes))
}

// PortUse is a Service behind a number and how many of its endpoints are ready.
type PortUse struct {
	Service Owner `json:"service"`
	Ready   int   `json:"readyEndpoints"`
	Known   bool  `json:"known"` // its endpoints are, or those that its pods make
}

// The outcomes for who wants a number.
const (
	PortRefused = "refused"
	PortWarned  = "warned"
	PortAllowed = "allowed"
)

// PortWanted is what would become of a new nodePort or hostPort with a number.
type PortWanted struct {
	Kind     string   `json:"kind"` // nodePort or hostPort
	Outcome  string   `json:"outcome"`
	Messages []string `json:"messages"`
	Free     int      `json:"freeNodes"`         // on how many of Nodes a hostPort is free
	Nodes    int      `json:"nodes"`             // that a pod without wishes may run on
	TakenBy  []Holder `json:"takenBy,omitempty"` // on the other nodes
	// NotEligible are the nodes that such a pod may not run on.
	NotEligible []PortExcluded `json:"notEligible,omitempty"`
}

// PortExcluded is a node that a pod may not run on, and why.
type PortExcluded struct {
	Node string `json:"node"`
	Why  string `json:"why"`
}

// AddExcluded adds a node that the pod may not run on.
func (n *PortWanted) AddExcluded(node string, excluded []check.Exclusion) {
	var why []string
	for _, e := range excluded {
		why = append(why, exclusion(e))
	}
	n.NotEligible = append(n.NotEligible, PortExcluded{node, strings.Join(why, ", ")})
}

// NewPortWanted puts into words what is found about who wants a number, and where there is room. Notes are left out.
func NewPortWanted(kind ports.Kind, findings []check.Finding, room check.Room, settings *check.Settings) PortWanted {
	w := PortWanted{
		Kind: kind.String(), Outcome: PortAllowed, Messages: []string{},
		Nodes: len(room.Nodes), Free: len(room.Nodes) - len(room.Taken),
	}
	for _, f := range findings {
		switch e := settings.Enforce(f); {
		case e == check.Deny:
			w.Outcome = PortRefused
		case e == check.Warn && w.Outcome == PortAllowed:
			w.Outcome = PortWarned
		case e == check.Audit:
			continue
		}
		w.Messages = append(w.Messages, message(f, newcomer()))
	}
	if w.Outcome != PortRefused { // else the messages name them
		for _, h := range room.Holders {
			w.TakenBy = append(w.TakenBy, Holder{Kind: h.Kind, Namespace: h.Namespace, Name: h.Name})
		}
	}
	return w
}

// NewPortSituation puts into words who gets the packets of a walk. name tells who is behind a holder.
func NewPortSituation(w PortWalk, name func(ports.Ref) ports.Ref) PortSituation {
	s := PortSituation{Nodes: w.Nodes, To: []string{}, Winners: []PortWinner{}, OrderDependent: w.OrderDependent, Rules: []TraceStep{}, About: w.about()}
	for _, addr := range slices.Concat(w.own, w.named) {
		s.To = append(s.To, addr.String())
	}
	for i, end := range w.Ends {
		winner := PortWinner{Of: end.Of, Owner: ownerOf(name(end.Who)), Verdict: end.Verdict, By: ownerOf(name(end.By))}
		if other := w.Otherwise[i]; other != end {
			winner.Assumed, winner.Otherwise, winner.OtherwiseVerdict, winner.OtherwiseBy = true, ownerOf(name(other.Who)), other.Verdict, ownerOf(name(other.By))
		}
		s.Winners = append(s.Winners, winner)
	}
	outside := w.Outside
	if len(outside.Paths) == 0 {
		return s
	}
	path := outside.Paths[0]
	decides := len(path.Steps) - 1
	for i := range path.Steps {
		if owner := path.Steps[i].Origin().Owner; owner == path.Origin.Owner && owner != (ports.Ref{}) {
			decides = i
		}
	}
	for i := range path.Steps[:decides+1] {
		s.Rules = append(s.Rules, traceStep(&path.Steps[i]))
	}
	return s
}

// UnknownComponents tells that it is not known which components install rules, and how to name them.
func UnknownComponents(components []explain.Component) string {
	var what, how []string
	for _, c := range []explain.Component{explain.ProxyComponent, explain.HostPortComponent} {
		switch {
		case !slices.Contains(components, c):
		case c == explain.ProxyComponent:
			what = append(what, "serves node ports")
			how = append(how, "dataplane.serviceProxy (iptables, nftables, ipvs, userspace or none)")
		default:
			what = append(what, "maps host ports")
			how = append(how, "dataplane.hostPort (portmap-iptables, portmap-nftables or none)")
		}
	}
	return fmt.Sprintf("nothing tells what %s; set %s in the configuration (--config)", and(what), and(how))
}

// NewPortUse tells of a Service how many of its endpoints are ready, if that is known.
func NewPortUse(service ports.Ref, ready int, known bool) PortUse {
	return PortUse{Service: *ownerOf(service), Ready: ready, Known: known}
}

// write writes what is told of the number for a person.
func (n *PortNumber) write(w io.Writer) error {
	var b textLines
	number := fmt.Sprintf("%d/%s", n.Port, n.Protocol)
	isWanted := slices.ContainsFunc(n.New, func(w PortWanted) bool { return w.Kind == ports.HostPort.String() && w.Outcome == PortRefused })
	switch {
	case n.Free && isWanted: // by a template that has no pods yet
		b.add("%s is held on no node yet, but not free", number)
	case n.Free:
		b.add("%s is free: nobody holds it on any node", number)
	}
	for _, in := range n.LiesIn {
		b.add("%s is in %s", number, in)
	}
	for _, u := range n.Serves {
		b.add("%s", endpoints(u))
	}
	for _, s := range n.Situations {
		b.gap()
		s.write(&b)
	}
	if n.Unknown != "" {
		b.add("Who gets the packets for %s is not known: %s", number, n.Unknown)
	}
	if len(n.Simulated) > 0 {
		b.gap()
		b.add("Simulated: %s", strings.Join(n.Simulated, "; "))
	}
	for _, wanted := range n.New {
		b.gap()
		wanted.write(&b, number)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func endpoints(u PortUse) string {
	switch {
	case !u.Known:
		return fmt.Sprintf("The endpoints of %s are not known: neither they nor pods that say whether they are ready are among the objects", owned(&u.Service))
	case u.Ready == 1:
		return owned(&u.Service) + " has 1 ready endpoint"
	default:
		return fmt.Sprintf("%s has %d ready endpoints", owned(&u.Service), u.Ready)
	}
}

// write tells one situation: all classes of packets in one line where they go to one holder.
func (s PortSituation) write(b *textLines) {
	b.add("%s:", s.About)
	var words []string
	for _, w := range s.Winners {
		text := winnerWords(w.Owner, w.Verdict, w.By)
		if w.Assumed {
			text += " if it has endpoints; else " + winnerWords(w.Otherwise, w.OtherwiseVerdict, w.OtherwiseBy)
		}
		words = append(words, text)
	}
	for i := 0; i < len(s.Winners); {
		j, of := i, []string{}
		for ; j < len(s.Winners) && words[j] == words[i]; j++ {
			of = append(of, s.Winners[j].Of)
		}
		b.add("  %s: %s", strings.Join(of, ", "), words[i])
		i = j
	}
	if s.OrderDependent {
		b.add("  in another order of starts they go to another holder (portcullis trace follows both orders)")
	}
	for _, r := range s.Rules {
		rule := strings.TrimPrefix(r.Rule, "-A "+r.Chain+" ")
		b.add("    %-12s %s %s: %s", r.Hook, r.Table, r.Chain, rule)
	}
}

func winnerWords(owner *Owner, verdict string, by *Owner) string {
	switch {
	case owner != nil:
		return owned(owner)
	case verdict == PacketsForwarded:
		return "nobody: it is not an address of the node"
	case verdict != "" && by != nil:
		return "nobody: " + verdict + " by " + owned(by)
	case verdict != "":
		return "nobody: " + verdict
	default:
		return "nobody, unless a process of the node listens"
	}
}

func (n PortWanted) write(b *textLines, number string) {
	outcomes := map[string]string{PortRefused: "refused", PortWarned: "allowed, with a warning", PortAllowed: "allowed"}
	line := fmt.Sprintf("A new %s %s: %s", n.Kind, number, outcomes[n.Outcome])
	eligible, why := "nodes", ""
	if len(n.NotEligible) > 0 {
		var others []string
		for _, e := range n.NotEligible {
			others = append(others, e.Node+": "+e.Why)
		}
		eligible, why = "eligible nodes", " ("+list(others)+")"
	}
	switch {
	case n.Outcome == PortRefused || n.Kind != ports.HostPort.String():
	case n.Nodes == 0 && why != "":
		line += ", but no node is eligible" + why
	case n.Nodes == 0:
	case n.Free == n.Nodes:
		line += fmt.Sprintf(", and free on all %d %s%s", n.Nodes, eligible, why)
	default:
		var holders []string
		for _, h := range n.TakenBy {
			holders = append(holders, h.words())
		}
		line += fmt.Sprintf(", but free on %d of %d %s only: held by %s%s", n.Free, n.Nodes, eligible, enumerate(holders), why)
	}
	b.add("%s", line)
	for _, m := range n.Messages {
		b.add("  %s", m)
	}
}
