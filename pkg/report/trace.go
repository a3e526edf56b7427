package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/portcullis-k8s/portcullis/pkg/explain"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/rules/walk"
)

// Trace is the outcome of `portcullis trace -o json`: a versioned kind that other people's scripts read.
type Trace struct {
	APIVersion     string          `json:"apiVersion"`
	Kind           string          `json:"kind"`
	Paths          []TracePath     `json:"paths"`
	Shadowed       []TraceShadowed `json:"shadowed"`
	OrderDependent bool            `json:"orderDependent"`
}

// TracePath is one way that the packet can take.
type TracePath struct {
	Probability float64     `json:"probability"`
	Verdict     string      `json:"verdict"`
	Destination string      `json:"destination"`
	Masquerade  bool        `json:"masquerade"`
	Owner       *Owner      `json:"owner,omitempty"`
	Steps       []TraceStep `json:"steps"`

	local bool // it ends in the node itself
}

// TraceStep is a rule that matched.
type TraceStep struct {
	Hook  string `json:"hook"`
	Table string `json:"table"`
	Chain string `json:"chain"`
	Rule  string `json:"rule"`
}

// TraceShadowed is a rule that would have taken the packet.
type TraceShadowed struct {
	Owner *Owner `json:"owner,omitempty"`
	Rule  string `json:"rule"`
	Why   string `json:"why"`
}

// NewTrace puts an answer into words.
func NewTrace(a explain.Answer) Trace {
	t := Trace{APIVersion: apiVersion, Kind: "Trace", Paths: []TracePath{}, Shadowed: []TraceShadowed{}, OrderDependent: a.OrderDependent}
	for _, p := range a.Paths {
		path := TracePath{
			Probability: p.Probability, Verdict: p.Verdict.String(), Destination: p.Destination.String(), Masquerade: p.Masquerade,
			Owner: ownerOf(p.Origin.Owner), Steps: []TraceStep{}, local: p.Local,
		}
		for i := range p.Steps {
			path.Steps = append(path.Steps, traceStep(&p.Steps[i]))
		}
		t.Paths = append(t.Paths, path)
	}
	for _, s := range a.Shadowed {
		t.Shadowed = append(t.Shadowed, TraceShadowed{ownerOf(s.Owner), ruleOf(&s.Step), why(s)})
	}
	return t
}

func traceStep(s *walk.Step) TraceStep {
	if s.Virtual != nil {
		return TraceStep{Hook: s.Hook.String(), Table: "ipvs", Chain: s.Virtual.Addr.String() + "/" + s.Virtual.Protocol.String(), Rule: ruleOf(s)}
	}
	return TraceStep{Hook: s.Hook.String(), Table: s.Table.Name, Chain: s.Chain.Name, Rule: ruleOf(s)}
}

func ruleOf(s *walk.Step) string {
	switch {
	case s.Virtual != nil:
		return "virtual server " + s.Virtual.Addr.String() + "/" + s.Virtual.Protocol.String()
	case s.Rule == nil:
		return ""
	default:
		return explain.RuleText(s.Table, s.Chain, s.Rule)
	}
}

// why says what decided between a rule and the one that took the packet.
func why(s explain.Shadowed) string {
	switch {
	case s.By.Virtual == nil && s.By.Rule == nil:
		return "another rule takes the packet first"
	case s.Later:
		return fmt.Sprintf("the base chain that leads to %s was registered later, so it runs first; later chains skip a connection that is already translated", placeOf(s.By))
	default:
		return fmt.Sprintf("%s in %s comes first", ruleOf(&s.By), placeOf(s.By))
	}
}

func placeOf(s walk.Step) string {
	if s.Virtual != nil {
		return "IPVS"
	}
	return s.Table.Name + " " + s.Chain.Name
}

// WriteJSON writes the trace as JSON.
func (t Trace) WriteJSON(w io.Writer) error { return writeJSON(w, t) }

// WriteText draws the trace as a person would: hook by hook, the rules that match below each other, and where it ends.
func (t Trace) WriteText(w io.Writer, packet walk.Packet) error {
	var b textLines
	b.add("%s to %s/%s%s", packet.Src, packet.Dst, packet.Protocol, comingIn(packet))
	if t.OrderDependent {
		b.gap()
		b.add("Who gets it depends on which component registered its chains last. Each order:")
	}
	for i, p := range t.Paths {
		var before []TraceStep
		if i > 0 {
			before = t.Paths[i-1].Steps
		}
		drawPath(&b, p, shared(before, p.Steps))
	}
	for _, s := range t.Shadowed {
		b.gap()
		b.add("Without this rule, %s would get the packet through:", owned(s.Owner))
		b.add("%-14s %s", "", s.Rule)
		b.add("but %s", s.Why)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// shared counts the steps that two paths begin with.
func shared(a, b []TraceStep) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// drawPath draws a path, without the steps that it has in common with the one before.
func drawPath(b *textLines, p TracePath, skip int) {
	b.gap()
	if skip > 0 {
		b.add("%-12s as before, but from the %s rule on", "or", ordinal(skip+1))
	}
	hook := ""
	for _, s := range p.Steps[skip:] {
		label := ""
		if s.Hook != hook {
			hook, label = s.Hook, s.Hook
		}
		b.add("%-12s %s %s", label, s.Table, s.Chain)
		b.add("%-14s %s", "", strings.TrimPrefix(s.Rule, "-A "+s.Chain+" "))
	}
	b.add("=> %s", end(p))
}

func ordinal(n int) string {
	switch {
	case n%100 >= 11 && n%100 <= 13:
		return fmt.Sprintf("%dth", n)
	case n%10 == 1:
		return fmt.Sprintf("%dst", n)
	case n%10 == 2:
		return fmt.Sprintf("%dnd", n)
	case n%10 == 3:
		return fmt.Sprintf("%drd", n)
	default:
		return fmt.Sprintf("%dth", n)
	}
}

func comingIn(p walk.Packet) string {
	if p.In == "" {
		return ", sent by the node itself"
	}
	return ", coming in by " + p.In
}

func end(p TracePath) string {
	text := p.Verdict
	if p.Verdict == walk.Accept.String() && p.Owner == nil && !p.local {
		text = "leaves the node for " + p.Destination
		if p.Masquerade {
			text += ", from the node's own address"
		}
		return text + "; not followed further" + chance(p)
	}
	if p.Verdict == walk.DNAT.String() || p.Verdict == walk.Accept.String() {
		text = p.Destination
	}
	if p.Owner != nil {
		text += ", " + owned(p.Owner)
	} else if p.Verdict == walk.Accept.String() {
		text += ", the process that listens there"
	}
	if p.Masquerade {
		text += ", from the node's own address"
	}
	return text + chance(p)
}

func chance(p TracePath) string {
	if p.Probability >= 1 {
		return ""
	}
	return fmt.Sprintf(" (%.4g%% of the connections)", 100*p.Probability)
}

func owned(o *Owner) string {
	if o == nil {
		return "nobody"
	}
	return ports.Ref{Kind: o.Kind, Namespace: o.Namespace, Name: o.Name}.String()
}
