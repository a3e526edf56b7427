package report

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// SuggestedPools is the outcome of `portcullis pool suggest`: pools in YAML, with comments that say why.
type SuggestedPools struct {
	Label       string // of namespaces, by which they are told apart
	Pools       []SuggestedPool
	Everybody   ports.Range // what the pool for all others has: the node port range
	Unlabelled  int         // how many numbers those hold whose namespaces lack the label
	HolderOf    func(port uint16) string
	Explanation []string // what applies to all of them, a sentence each
}

// SuggestedPool is one of them.
type SuggestedPool struct {
	pool.Suggestion
	Value      string // of the label
	Namespaces int    // that hold numbers
	Services   int
}

// EverybodysPool is the name of the pool for those whom no other one serves.
const EverybodysPool = "everybody"

// WriteYAML writes the pools, those of the groups first.
func (s *SuggestedPools) WriteYAML(w io.Writer) error {
	var b strings.Builder
	comment := func(format string, args ...any) {
		b.WriteString("# " + Escape(fmt.Sprintf(format, args...)) + "\n")
	}
	comment("Pools from what Services hold today. Every number in use lies in the pool that selects its Service, and enforcement Audit")
	comment("refuses nothing. Apply them, look at `portcullis pool status`, and change enforcement to Deny pool by pool.")
	for _, e := range s.Explanation {
		comment("%s", e)
	}
	for _, p := range s.Pools {
		b.WriteString("---\n")
		s.writePool(&b, p, comment)
	}
	b.WriteString("---\n")
	comment("The rest of %s, for every namespace that no other pool serves, and for those whose own pool is full.", s.Everybody)
	comment("They hold %s of it today. What other pools have of these numbers is theirs.", plural(s.Unlabelled, "number"))
	fmt.Fprintf(&b, "apiVersion: %s\nkind: PortPool\nmetadata:\n  name: %s\nspec:\n  ranges:\n  - {port: %d, endPort: %d}\n", apiVersion, EverybodysPool, s.Everybody.First, s.Everybody.Last)
	b.WriteString("  namespaceSelector: {} # every namespace\n  priority: 1000 # after all others\n  sharing: Shared\n  enforcement: Audit\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func (s *SuggestedPools) writePool(b *strings.Builder, p SuggestedPool, comment func(format string, args ...any)) {
	comment("%s in %s %s %s; %s of this pool are free.", plural(p.Services, "Service"), plural(p.Namespaces, "namespace"),
		holds(p.Services), plural(len(p.Numbers)-len(p.Left), "number"), strconv.Itoa(p.Room))
	if p.Shared {
		comment("Shared: its numbers and those of others lie so mixed that more than %d ranges would be needed to part them.", pool.MaxRanges)
	}
	for _, n := range p.Left {
		comment("%d is not in it: it is held by others too, or lies outside the node port range (%s).", n, s.HolderOf(n))
	}
	fmt.Fprintf(b, "apiVersion: %s\nkind: PortPool\nmetadata:\n  name: %s\nspec:\n  ranges:\n", apiVersion, p.Name)
	for _, r := range p.Ranges {
		text := fmt.Sprintf("{port: %d, endPort: %d}", r.First, r.Last)
		if r.First == r.Last {
			text = fmt.Sprintf("port: %d", r.First)
		}
		b.WriteString("  - " + text + " # " + Escape(s.why(p, r)) + "\n")
	}
	fmt.Fprintf(b, "  namespaceSelector:\n    matchLabels: {%s: %s}\n", strconv.Quote(s.Label), strconv.Quote(p.Value))
	sharing := "Exclusive"
	if p.Shared {
		sharing = "Shared"
	}
	fmt.Fprintf(b, "  sharing: %s\n  enforcement: Audit\n", sharing)
}

func holds(services int) string {
	if services == 1 {
		return "holds"
	}
	return "hold"
}

// why tells who holds the numbers of a range.
func (s *SuggestedPools) why(p SuggestedPool, r ports.Range) string {
	const most = 3
	used := 0
	var holders []string
	for _, n := range p.Numbers {
		if !r.Contains(n) {
			continue
		}
		used++
		if h := s.HolderOf(n); len(holders) == 0 || holders[len(holders)-1] != h {
			holders = append(holders, h)
		}
	}
	switch {
	case used == 0:
		return "room"
	case len(holders) > most:
		holders = append(holders[:most], fmt.Sprintf("and %d more", len(holders)-most))
	}
	if r.Size() == 1 {
		return holders[0]
	}
	return fmt.Sprintf("%d of %d in use: %s", used, r.Size(), strings.Join(holders, ", "))
}
