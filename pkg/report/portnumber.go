package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/explain"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// PortNumber is what is told of a number that was asked for.
type PortNumber struct {
	Port       int             `json:"port"`
	Protocol   string          `json:"protocol"`
	Free       bool            `json:"free"`              // nobody holds it on any node
	LiesIn     []string        `json:"liesIn"`            // the ranges and pools that it is of, in words
	Situations []PortSituation `json:"situations"`        // one for each set of holders that nodes have
	Serves     []PortUse       `json:"serves"`            // the Services that hold it
	New        []PortWanted    `json:"new"`               // what would become of who wants it now
	MadeUp     []string        `json:"madeUp,omitempty"`  // what the walks had to assume, in words
	Unknown    string          `json:"unknown,omitempty"` // why nothing is told of packets
}

// PortSituation is who gets the packets for a number on nodes that are alike.
type PortSituation struct {
	Nodes          []string     `json:"nodes"`
	Winners        []PortWinner `json:"winners"`
	OrderDependent bool         `json:"orderDependent"` // it depends on which component started first
	Rules          []TraceStep  `json:"rules"`          // that a packet from outside matches, up to that which decides
}

// PortWinner says who gets the packets of one class.
type PortWinner struct {
	Of    string `json:"of"`              // "from outside", "from pods"
	Owner *Owner `json:"owner,omitempty"` // left out where nobody does
	// Assumed says that so it is if the Service has endpoints, of which nothing is known; Otherwise gets the packets if not, where
	// that was asked.
	Assumed   bool   `json:"assumed,omitempty"`
	Otherwise *Owner `json:"otherwise,omitempty"`
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
		w.Messages = append(w.Messages, Message(f))
	}
	if w.Outcome != PortRefused { // else the messages name them
		for _, h := range room.Holders {
			w.TakenBy = append(w.TakenBy, Holder{Kind: h.Kind, Namespace: h.Namespace, Name: h.Name})
		}
	}
	return w
}

// NewPortSituation puts into words who gets the packets, and who otherwise, where Services of which no endpoint is known have none.
// name tells who is behind a holder.
func NewPortSituation(nodes []string, winners, otherwise []check.Winner, orderDependent bool, outside explain.Answer, name func(ports.Ref) ports.Ref) PortSituation {
	s := PortSituation{Nodes: nodes, Winners: []PortWinner{}, OrderDependent: orderDependent, Rules: []TraceStep{}}
	for i, w := range winners {
		winner := PortWinner{Of: w.Of, Owner: ownerOf(name(w.Who))}
		if other := otherwise[i].Who; other != w.Who {
			winner.Assumed, winner.Otherwise = true, ownerOf(name(other))
		}
		s.Winners = append(s.Winners, winner)
	}
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

// UnknownComponent tells that it is not known which component installs rules, and how to name it.
func UnknownComponent(c explain.Component) string {
	what, field := "serves node ports", "serviceProxy"
	if c == explain.HostPortComponent {
		what, field = "maps host ports", "hostPort"
	}
	return fmt.Sprintf("nothing tells what %s; name it as dataplane.%s of the configuration (--config)", what, field)
}

// NewPortUse tells of a Service how many of its endpoints are ready, if that is known.
func NewPortUse(service ports.Ref, ready int, known bool) PortUse {
	return PortUse{Service: *ownerOf(service), Ready: ready, Known: known}
}

// write writes what is told of the number for a person.
func (n *PortNumber) write(w io.Writer) error {
	var b textLines
	number := fmt.Sprintf("%d/%s", n.Port, n.Protocol)
	if n.Free {
		b.add("%s is free: nobody holds it on any node", number)
	}
	for _, in := range n.LiesIn {
		b.add("%s lies in %s", number, in)
	}
	for _, u := range n.Serves {
		b.add("%s", endpoints(u))
	}
	for _, s := range n.Situations {
		b.gap()
		s.write(&b, number)
	}
	if n.Unknown != "" {
		b.add("Who gets the packets for %s is not known: %s", number, n.Unknown)
	}
	for _, m := range n.MadeUp {
		b.add("Made up for the walk: %s", m)
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
func (s PortSituation) write(b *textLines, number string) {
	b.add("Packets for %s on %s:", number, nodes(s.Nodes))
	var words []string
	for _, w := range s.Winners {
		text := winnerWords(w.Owner)
		if w.Assumed {
			text += " if it has endpoints; else " + winnerWords(w.Otherwise)
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

func winnerWords(o *Owner) string {
	if o == nil {
		return "nobody, unless a process of the node listens"
	}
	return owned(o)
}

func (n PortWanted) write(b *textLines, number string) {
	outcomes := map[string]string{PortRefused: "refused", PortWarned: "allowed, with a warning", PortAllowed: "allowed"}
	line := fmt.Sprintf("A new %s %s: %s", n.Kind, number, outcomes[n.Outcome])
	switch {
	case n.Outcome == PortRefused || n.Kind != ports.HostPort.String() || n.Nodes == 0:
	case n.Free == n.Nodes:
		line += fmt.Sprintf(", and free on all %d nodes", n.Nodes)
	default:
		var holders []string
		for _, h := range n.TakenBy {
			holders = append(holders, h.words())
		}
		line += fmt.Sprintf(", but free on %d of %d nodes only: held by %s", n.Free, n.Nodes, enumerate(holders))
	}
	b.add("%s", line)
	for _, m := range n.Messages {
		b.add("  %s", m)
	}
}
