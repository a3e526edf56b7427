package report

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// WriteTable writes the report for a person: a line for each node and each port that is taken there, the verdict, what
// the scheduler said, notes. Ages are as of now.
func (r *PodReport) WriteTable(w io.Writer, now time.Time) error {
	if r.Node == "" || r.Summary.Held > 0 {
		t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
		fmt.Fprintln(t, "NODE\tFITS\tPORT\tHELD BY\tSINCE\tALSO")
		for _, n := range r.Nodes {
			n.writeRows(t, now)
		}
		if err := t.Flush(); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w, Escape(r.Summary.Message))
	if r.Pod.Scheduler != "" {
		fmt.Fprintln(w, Escape("The scheduler says: "+r.Pod.Scheduler))
	}
	for _, note := range r.Notes {
		fmt.Fprintln(w, Escape(note))
	}
	return nil
}

// writeRows writes a line for each obstacle, with what else excludes the pod in the first.
func (n PodNode) writeRows(w io.Writer, now time.Time) {
	fits := "no"
	if n.Fits {
		fits = "yes"
	}
	var also []string
	for _, e := range n.Excluded {
		also = append(also, e.Message)
	}
	row := func(port, holder, since string) {
		cells := []string{n.Node, fits, port, holder, since, strings.Join(also, "; ")}
		for i := range cells {
			cells[i] = Escape(cmp.Or(cells[i], "-"))
		}
		fmt.Fprintln(w, strings.TrimRight(strings.Join(cells, "\t"), "\t"))
	}
	if len(n.Obstacles) == 0 {
		row("", "", "")
	}
	for _, o := range n.Obstacles {
		row(o.number(), o.heldBy(), age(o.Since, now))
		also = nil
	}
}

// number is "9000/TCP", with the address if it is not every one of a family.
func (s PodSocket) number() string {
	number := fmt.Sprintf("%d/%s", s.Port, s.Protocol)
	switch s.Address {
	case "*", "0.0.0.0", "::":
		return number
	}
	if strings.Contains(s.Address, ":") {
		return "[" + s.Address + "]:" + number
	}
	return s.Address + ":" + number
}

func (o PodObstacle) heldBy() string {
	text := Object{Kind: o.Holder.Kind, Namespace: o.Holder.Namespace, Name: o.Holder.Name}.String()
	switch o.Holder.Kind {
	case check.DaemonKind:
		text = o.Holder.Name + ", a node daemon"
	case check.NodeKind:
		text = "the node itself"
	}
	if o.Terminating {
		text += " (terminating)"
	}
	return text
}

// age is how long ago a moment of RFC 3339 was, as kubectl prints it: 40s, 12m, 3h, 5d.
func age(since string, now time.Time) string {
	then, err := time.Parse(time.RFC3339, since)
	if err != nil {
		return ""
	}
	switch d := max(0, now.Sub(then)); {
	case d < 2*time.Minute:
		return strconv.Itoa(int(d.Seconds())) + "s"
	case d < 3*time.Hour:
		return strconv.Itoa(int(d.Minutes())) + "m"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d.Hours())) + "h"
	default:
		return strconv.Itoa(int(d.Hours()/24)) + "d"
	}
}

// verdict tells it all in one sentence of at most MaxSentence characters, with a way out: fewer reasons are told rather
// than none.
func verdict(p Placement) string {
	if p.Node != "" {
		return fitted(running(p), "")
	}
	if len(p.Nodes) == 0 {
		return fitted(wantsNone(p)+"there are no nodes", "add one")
	}
	var fit []string
	for _, c := range p.Nodes {
		if c.fits() {
			fit = append(fit, c.Node)
		}
	}
	slices.Sort(fit)
	what := fmt.Sprintf("%s%d of %d nodes fit", wantsNone(p), len(fit), len(p.Nodes))
	if len(fit) == 1 {
		what += "s"
	}
	found, separator, way := causes(p), ": ", ""
	if len(fit) > 0 {
		what, separator = what+": "+list(fit), "; "
	} else {
		way = waysOut(p, found)
	}
	if len(found) == 0 {
		return fitted(what, "")
	}
	for most := 3; most > 1; most-- {
		if text := withWay(what+separator+reasons(found, most), way); text != "" {
			return text
		}
	}
	return fitted(what+separator+reasons(found, 1), way)
}

// reasons tells the first causes and counts the others.
func reasons(found []*cause, most int) string {
	var parts []string
	for _, c := range found[:min(most, len(found))] {
		parts = append(parts, c.what(len(c.nodes)))
	}
	if len(found) > most {
		parts = append(parts, plural(len(found)-most, "other reason"))
	}
	return strings.Join(parts, ", ")
}

// fitted is withWay, or without one where there is no room.
func fitted(what, way string) string {
	if text := withWay(what, way); text != "" {
		return text
	}
	return cut(Escape(what), MaxSentence)
}

// withWay leaves out ways, the last one first, until the sentence is short enough; "" if it is too long with one.
func withWay(what, way string) string {
	what, way = Escape(what), Escape(way)
	for {
		text := what
		if way != "" {
			text += "; " + way
		}
		if utf8.RuneCountInString(text) <= MaxSentence {
			return text
		}
		last := strings.LastIndex(way, ", or ")
		if last < 0 {
			return ""
		}
		way = way[:last]
	}
}

func wantsNone(p Placement) string {
	if len(p.Wanted) > 0 {
		return ""
	}
	return p.Pod.Ref.String() + " wants no port of a node; "
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

// packets tells who gets the packets of a pod that is on a node and of another holder, and what to do.
func (p *Placement) packets(c *cause) string {
	for _, f := range p.Conflicts {
		if f.Packets != nil && f.Claim.Socket == c.wanted.Socket && f.Holder.Ref == c.first.Holder.Ref {
			return ", and " + packets(f, present()) + ": give one of the two another port"
		}
	}
	return ""
}

// running tells where a pod is, what it holds there, and who else does.
func running(p Placement) string {
	text := fmt.Sprintf("%s is on node %s", p.Pod.Ref, p.Node)
	if p.Phase != "" {
		text += " (" + p.Phase + ")"
	}
	if !p.Since.IsZero() {
		text += " since " + p.Since.UTC().Format(time.RFC3339)
	}
	if len(p.Wanted) == 0 {
		return text + " and wants no port of it"
	}
	var held []string
	for _, c := range p.Wanted {
		held = append(held, c.Kind.String()+" "+c.PortProtocol())
	}
	text += " and holds " + enumerate(slices.Compact(held))
	for _, c := range causes(p) {
		if c.wanted != nil {
			text += "; " + c.wanted.PortProtocol() + " is held by " + c.holder + " too" + p.packets(c)
		}
	}
	return text
}

// cause is one reason for which nodes do not fit.
type cause struct {
	key    string
	nodes  map[string]bool
	seeker ports.Ref
	wanted *ports.Claim // nil: a rule
	holder string
	first  Obstacle
	isOwn  bool // the holder is the pod's own controller
	rule   check.Exclusion
}

// causes groups what is in the way by who and what it is: ports first, and the most frequent first.
func causes(p Placement) []*cause {
	known := map[string]*cause{}
	root := p.Pod.Root()
	if p.Siblings != nil {
		root = p.Siblings.Of
	}
	add := func(node string, c cause) {
		if known[c.key] == nil {
			c.nodes = map[string]bool{}
			known[c.key] = &c
		}
		known[c.key].nodes[node] = true
	}
	for _, n := range p.Nodes {
		for _, o := range n.Obstacles {
			holder, wanted := Blocker(o.Obstacle, p.Annotation), o.Wanted
			add(n.Node, cause{
				seeker: p.Pod.Ref, key: "1" + wanted.PortProtocol() + " " + holder, wanted: &wanted, holder: holder, first: o,
				isOwn: o.ByPod() && p.Pod.Controller != nil && o.Holder.Ref == root,
			})
		}
		for _, e := range n.Excluded {
			e.Has = ""
			add(n.Node, cause{key: "2" + string(e.Rule) + " " + e.Value, rule: e})
		}
	}
	var all []*cause
	for _, c := range known {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b *cause) int {
		return cmp.Or(strings.Compare(a.key[:1], b.key[:1]), cmp.Compare(len(b.nodes), len(a.nodes)), strings.Compare(a.key, b.key))
	})
	return all
}

// what tells the cause of n nodes.
func (c *cause) what(n int) string {
	if c.wanted != nil {
		return fmt.Sprintf("%s %s is held on %d by %s", c.wanted.Kind, c.wanted.PortProtocol(), n, c.holder)
	}
	is, does, has := "is", "does", "has"
	if n > 1 {
		is, does, has = "are", "do", "have"
	}
	switch c.rule.Rule {
	case check.ByCordon:
		return fmt.Sprintf("%d %s cordoned", n, is)
	case check.ByTaint:
		return fmt.Sprintf("%d %s the taint %s", n, has, c.rule.Value)
	case check.ByRequests:
		return fmt.Sprintf("%d %s less free than %s", n, has, c.rule.Value)
	case check.ByNumberOfPods:
		return fmt.Sprintf("%d %s no room for one more pod", n, has)
	case check.ByNodeName, check.ByNodeSelector, check.ByNodeAffinity:
	}
	return fmt.Sprintf("%d %s not match %s %s", n, does, c.rule.Rule, c.rule.Value)
}

// waysOut are those of the first port, and of the first rule that excludes the pod from a node with its ports free. Where
// every node with a port in the way has a rule against the pod too, both are to be mended.
func waysOut(p Placement, found []*cause) string {
	var port, rule *cause
	onlyPorts := false
	free := map[string]bool{}
	for _, n := range p.Nodes {
		free[n.Node] = len(n.Obstacles) == 0
		onlyPorts = onlyPorts || len(n.Obstacles) > 0 && len(n.Excluded) == 0
	}
	for _, c := range found {
		switch {
		case c.wanted != nil:
			port = cmp.Or(port, c)
		case rule == nil && slices.ContainsFunc(slices.Collect(maps.Keys(c.nodes)), func(n string) bool { return free[n] }):
			rule = c
		}
	}
	switch {
	case port == nil:
		return found[0].wayOut()
	case rule != nil && onlyPorts:
		return port.wayOut() + ", or " + rule.wayOut()
	case rule != nil:
		return rule.wayOut()
	case onlyPorts:
		return port.wayOut()
	default:
		return found[len(found)-1].wayOut() + "; and " + port.wayOut()
	}
}

func (c *cause) wayOut() string {
	if c.wanted != nil {
		return c.portWay()
	}
	switch c.rule.Rule {
	case check.ByNodeName:
		return "leave spec.nodeName out, or name a node that there is"
	case check.ByNodeSelector, check.ByNodeAffinity:
		return "label a node so, or mend the pod's " + string(c.rule.Rule)
	case check.ByCordon:
		return "uncordon a node"
	case check.ByTaint:
		return "let the pod tolerate the taint, or add a node without it"
	case check.ByRequests:
		return "ask for less, or add a node"
	case check.ByNumberOfPods:
	}
	return "add a node"
}

func (c *cause) portWay() string {
	elsewhere := wayOut(*c.wanted)
	switch held := c.first.Holder.Claim.Kind; {
	case c.isOwn:
		return "a node has room for one of its pods: run fewer, or add a node, or expose them by a Service without a " + fieldName(*c.wanted)
	case c.first.ByPod() && c.first.Preemptible:
		return "the scheduler may evict what holds it, whose priority is lower, or " + elsewhere
	case c.first.ByPod() && c.first.Holder.Namespace != c.seeker.Namespace:
		return "ask who owns namespace " + c.first.Holder.Namespace + " to move " + c.holder + ", or " + elsewhere
	case c.first.ByPod():
		return "delete " + c.holder + " or move it, or " + elsewhere
	case c.first.Holder.Kind == check.NodeKind:
		return elsewhere + ", or take " + c.wanted.PortProtocol() + " out of the annotation"
	case held == ports.NodePort || held == ports.HealthCheckNodePort:
		return elsewhere + ", or give " + c.holder + " another " + held.String()
	default:
		return elsewhere
	}
}
