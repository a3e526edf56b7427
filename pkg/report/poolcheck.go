package report

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// PoolCheckReport is the outcome of `portcullis pool check -o json`: a versioned kind that other people's scripts read.
type PoolCheckReport struct {
	APIVersion string           `json:"apiVersion"`
	Kind       string           `json:"kind"`
	Changes    []PoolChange     `json:"changes"`
	Displaced  []PoolDisplaced  `json:"displaced"` // sorted by the pool before, number and holder
	Notes      []string         `json:"notes"`     // what else is worth knowing, a sentence each
	Summary    PoolCheckSummary `json:"summary"`
}

// PoolChange is a pool that is asked about.
type PoolChange struct {
	Pool   string `json:"pool"`
	Change string `json:"change"` // New, Changed, Deleted or Unchanged
	Before string `json:"before"` // the numbers that it has, "30000-30009,30100"; "" for none
	After  string `json:"after"`
}

// PoolDisplaced is a number that stands worse after the change.
type PoolDisplaced struct {
	Port     int       `json:"port"`
	Protocol string    `json:"protocol"`
	Holder   Holder    `json:"holder"`
	Before   PoolPlace `json:"before"`
	After    PoolPlace `json:"after"`
	Message  string    `json:"message"`
}

// PoolPlace is where a number belongs.
type PoolPlace struct {
	Standing string `json:"standing"` // InPool, Unpooled, OutOfPool or InForeign
	Pool     string `json:"pool,omitempty"`
}

// PoolCheckSummary counts numbers.
type PoolCheckSummary struct {
	Held      int `json:"held"` // by anybody, before and after
	Displaced int `json:"displaced"`
	FallOut   int `json:"fallOut"` // of their pool
	Foreign   int `json:"foreign"` // to a pool that is there for others
}

// NewPoolCheckReport returns a report on a cluster in which so many numbers are held.
func NewPoolCheckReport(held int) *PoolCheckReport {
	return &PoolCheckReport{
		APIVersion: apiVersion, Kind: "PoolCheckReport", Changes: []PoolChange{}, Displaced: []PoolDisplaced{}, Notes: []string{},
		Summary: PoolCheckSummary{Held: held},
	}
}

// Change tells of a pool as it is and as it will be; nil where it is not.
func (r *PoolCheckReport) Change(before, after *pool.Member) {
	c := PoolChange{Change: "Changed"}
	if before == nil {
		c.Change = "New"
	} else {
		c.Pool, c.Before = before.Name, before.Effective.String()
	}
	if after == nil {
		c.Change = "Deleted"
	} else {
		c.Pool, c.After = after.Name, after.Effective.String()
		if before != nil && after.Pool.Same(before.Pool) && c.Before == c.After {
			c.Change = "Unchanged"
		}
		r.Notes = append(r.Notes, overlapNotes(after)...)
	}
	r.Changes = append(r.Changes, c)
}

// Displace appends a number that stands worse.
func (r *PoolCheckReport) Displace(d pool.Displacement) {
	holder := d.Ref()
	r.Summary.Displaced++
	if d.After.Standing == pool.InForeign {
		r.Summary.Foreign++
	} else {
		r.Summary.FallOut++
	}
	r.Displaced = append(r.Displaced, PoolDisplaced{
		Port: int(d.Port), Protocol: d.Protocol.String(), Holder: Holder{Kind: holder.Kind, Namespace: holder.Namespace, Name: holder.Name, Field: d.Field},
		Before: standingOf(d.Before), After: standingOf(d.After), Message: displaced(d),
	})
}

// Moved notes the numbers that go from one pool to another which serves their holders as well: nobody is displaced by that.
func (r *PoolCheckReport) Moved(before, after *pool.Set, holdings []pool.Holding) {
	type move struct{ from, to string }
	numbers := map[move][]ports.Range{}
	for _, h := range holdings {
		was, is := before.Place(h.Requester, h.Port), after.Place(h.Requester, h.Port)
		if was.Standing == pool.InPool && is.Standing == pool.InPool && was.Pool.Name != is.Pool.Name {
			m := move{was.Pool.Name, is.Pool.Name}
			numbers[m] = append(numbers[m], ports.Range{First: h.Port, Last: h.Port})
		}
	}
	moves := slices.SortedFunc(maps.Keys(numbers), func(a, b move) int {
		return cmp.Or(strings.Compare(a.from, b.from), strings.Compare(a.to, b.to))
	})
	for _, m := range moves {
		r.Notes = append(r.Notes, fmt.Sprintf("%s of PortPool %s will be of PortPool %s, which selects their holders as well", few(ports.NewRanges(numbers[m]...)), m.from, m.to))
	}
}

func standingOf(p pool.Place) PoolPlace {
	out := PoolPlace{}
	switch p.Standing {
	case pool.InPool:
		out.Standing = "InPool"
	case pool.Unpooled:
		out.Standing = "Unpooled"
	case pool.OutOfPool:
		out.Standing = "OutOfPool"
	case pool.InForeign:
		out.Standing = "InForeign"
	}
	if p.Pool != nil {
		out.Pool = p.Pool.Name
	}
	return out
}

// displaced tells in one sentence what becomes of a number.
func displaced(d pool.Displacement) string {
	holder := d.Ref()
	what := fmt.Sprintf("%d/%s of %s", d.Port, d.Protocol, holder)
	way := ""
	switch d.After.Standing {
	case pool.InForeign:
		what += fmt.Sprintf(" will be foreign: PortPool %s reserves it for others", d.After.Pool.Name)
		way = fmt.Sprintf("leave %d out of PortPool %s, or give the %s another port first", d.Port, d.After.Pool.Name, holder.Kind)
	case pool.OutOfPool:
		what += fmt.Sprintf(" will be out of pool: PortPool %s selects the %s and does not have the port", d.After.Pool.Name, holder.Kind)
		way = fmt.Sprintf("keep %d in the pool, or give the %s another port first", d.Port, holder.Kind)
	case pool.Unpooled, pool.InPool: // nobody in his pool is displaced
		what += fmt.Sprintf(" will be of no pool: none selects the %s", holder.Kind)
		way = fmt.Sprintf("have a pool that selects the %s include %d, if it should have one", holder.Kind, d.Port)
	}
	return fitted(d.Field+": "+what, way)
}

// WriteJSON writes the report as JSON.
func (r *PoolCheckReport) WriteJSON(w io.Writer) error { return writeJSON(w, r) }

// WriteTable writes the report for a person: the pools, a sentence for each number that is displaced, notes, the verdict.
func (r *PoolCheckReport) WriteTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "POOL\tCHANGE\tHAS\tWILL HAVE")
	for _, c := range r.Changes {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", Escape(c.Pool), c.Change, orDash(c.Before), orDash(c.After))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	for _, d := range r.Displaced {
		fmt.Fprintln(w, Escape(d.Message))
	}
	for _, note := range r.Notes {
		fmt.Fprintln(w, Escape(note))
	}
	_, err := fmt.Fprintln(w, r.Summary)
	return err
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// String counts in words: "40 ports are held: 2 will be out of pool or of none, 1 foreign; their holders keep them".
func (s PoolCheckSummary) String() string {
	held := plural(s.Held, "port") + " are held"
	if s.Held == 1 {
		held = "1 port is held"
	}
	if s.Displaced == 0 {
		return held + ", and none is displaced"
	}
	return fmt.Sprintf("%s: %d will be out of pool or of none, %d foreign; their holders keep them", held, s.FallOut, s.Foreign)
}
