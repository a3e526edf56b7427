package pools

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/cli"
	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/source"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// suggestOptions are the flags of `portcullis pool suggest`.
type suggestOptions struct {
	cli.ReportFlags
	source.FileFlags
	files []string
	by    string
	room  int
}

// By what namespaces are told apart.
const (
	byNamespace = "namespace"
	byLabel     = "namespace-label"
)

func suggestForms() []cobra.Completion {
	return []cobra.Completion{cobra.CompletionWithDesc("yaml", "PortPools with comments, for kubectl apply")}
}

func newSuggest(version string) *cobra.Command {
	o := &suggestOptions{}
	o.Version = version
	cmd := &cobra.Command{
		Use:   "suggest [KEY]",
		Short: "Pools from what Services hold today",
		Long: `Write PortPools for the nodePorts that are in use: one for each namespace, or with --by namespace-label KEY one for each value
of that label of namespaces, and one for everybody else. Applied to the cluster as it is they make nothing a violation: every
number in use lies in the pool that selects its Service, exclusive pools do not overlap, and enforcement is Audit.

A pool has room for as many numbers again as are in use (--room), and for 10 at least; together the pools take no more than
half of what is free. Scattered ports stay single entries, up to the 32 ranges that a pool may have; then those closest to each other
are joined, and where others' numbers lie between them the pool is Shared.

It reads namespaces, services, pods and PortPools and writes nothing to the cluster; with -f it reads them from files.

Exit code: 0, 1 if some of the files could not be read, 2 bad usage, or there are pools for nodePorts already.`,
		Example: `  portcullis pool suggest > pools.yaml
  portcullis pool suggest --by namespace-label team

  kubectl get namespaces,services,pods -A -o yaml > state.yaml
  portcullis pool suggest -f state.yaml`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return run(cmd, func(ctx context.Context, s cli.Streams, p *cli.Progress) error { return o.run(ctx, s, p, args) })
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&o.files, "filename", "f", nil, "read the objects from `PATH` instead of a cluster: a file, a folder (with all below it) or -; may be repeated")
	f.StringVar(&o.by, "by", byNamespace, "a pool for each `WHAT`: "+byNamespace+", or "+byLabel+" with the label's key as the argument")
	f.IntVar(&o.room, "room", 100, "how many free numbers a pool has, in `PERCENT` of those in use, and 10 at least")
	o.FileFlags.AddFlags(f)
	o.ReportFlags.AddFlags(cmd, suggestForms())
	f.Lookup("namespace").Usage = "not used: pools belong to no namespace"
	if err := cmd.RegisterFlagCompletionFunc("by", cobra.FixedCompletions([]cobra.Completion{byNamespace, byLabel}, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // a flag that is not there
	}
	return cmd
}

// label returns the label by which namespaces are told apart.
func (o *suggestOptions) label(args []string) (string, error) {
	switch {
	case o.room < 0 || o.room > 1000:
		return "", fmt.Errorf("--room %d is not a share of what is in use: write 0 to 1000", o.room)
	case o.by == byNamespace && len(args) == 0:
		return corev1.LabelMetadataName, nil
	case o.by == byLabel && len(args) == 1:
		return args[0], nil
	case o.by == byLabel:
		return "", errors.New("--by namespace-label needs the key of the label: --by namespace-label team")
	case o.by == byNamespace:
		return "", fmt.Errorf("%q is the key of a label with --by namespace-label only", args[0])
	default:
		return "", fmt.Errorf("--by %q is not one of %s, %s", o.by, byNamespace, byLabel)
	}
}

func (o *suggestOptions) run(ctx context.Context, s cli.Streams, p *cli.Progress, args []string) error {
	settings, err := o.Settings(suggestForms())
	if err != nil {
		return err
	}
	label, err := o.label(args)
	if err != nil {
		return err
	}
	state, err := readState(ctx, &o.ClusterFlags, &o.FileFlags, o.files, settings, s.In, p)
	if err != nil {
		return err
	}
	pools, err := state.suggest(label, o.room)
	if err != nil {
		return err
	}
	return cmp.Or(pools.WriteYAML(s.Out), state.incomplete)
}

// team is whom a pool is suggested for.
type team struct {
	value      string
	numbers    []uint16
	services   map[ports.Ref]bool
	namespaces map[string]bool
}

// suggest makes pools of what Services hold, by a label of their namespaces.
func (s *state) suggest(label string, room int) (*report.SuggestedPools, error) {
	if names := s.inEffect(); len(names) > 0 {
		return nil, fmt.Errorf("there are pools for nodePorts already, which would keep their numbers: %s; see portcullis pool status, or leave them out of the files to start anew", strings.Join(names, ", "))
	}
	within := s.settings.Check.NodePortRange
	if within.IsEmpty() {
		return nil, errors.New("the node port range is not known: give it in --config")
	}
	teams, rest := s.teams(label)
	if len(teams) == 0 && label != corev1.LabelMetadataName {
		return nil, fmt.Errorf("no namespace with nodePorts has the label %s: choose another, or --by namespace", label)
	}
	out := &report.SuggestedPools{Label: label, Everybody: within, HolderOf: s.holderOf}
	var groups []pool.Group
	names := poolNames(teams)
	for i, t := range teams {
		groups = append(groups, pool.Group{Name: names[i], Numbers: t.numbers})
	}
	for i, suggestion := range pool.Suggest(groups, pool.Ground{
		Within: within, Prefer: s.settings.Check.DynamicBand, Room: room,
		Taken: func(n uint16) bool { return rest[n] || s.census.IsInTheWay(n) },
	}) {
		if len(suggestion.Ranges) == 0 {
			out.Explanation = append(out.Explanation, fmt.Sprintf("No pool for %s=%s: none of its numbers can be its alone, and nothing else is free.", label, teams[i].value))
			continue
		}
		out.Pools = append(out.Pools, report.SuggestedPool{Suggestion: suggestion, Value: teams[i].value, Namespaces: len(teams[i].namespaces), Services: len(teams[i].services)})
	}
	for _, n := range slices.Sorted(maps.Keys(rest)) {
		if within.Contains(n) {
			out.Unlabelled++
		} else {
			out.Explanation = append(out.Explanation, fmt.Sprintf("%d lies outside the node port range %s and can be in no pool: it is held by %s.", n, within, s.holderOf(n)))
		}
	}
	return out, nil
}

// inEffect names the pools for nodePorts that are not Disabled.
func (s *state) inEffect() []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(s.pools)) {
		if p := s.pools[name]; p.For == pool.NodePorts && p.State != pool.Disabled {
			names = append(names, name)
		}
	}
	return names
}

// teams returns those who have nodePorts, by the value of a label of their namespaces, and the numbers of those who have no
// such label.
func (s *state) teams(label string) (teams []*team, rest map[uint16]bool) {
	known := map[string]*team{}
	rest = map[uint16]bool{}
	for _, h := range s.census.Holdings() {
		if h.For != pool.NodePorts {
			continue
		}
		value, has := h.NamespaceLabels[label]
		if !has {
			rest[h.Port] = true
			continue
		}
		t := known[value]
		if t == nil {
			t = &team{value: value, services: map[ports.Ref]bool{}, namespaces: map[string]bool{}}
			known[value] = t
		}
		t.services[h.Ref()], t.namespaces[h.Namespace] = true, true
		if !slices.Contains(t.numbers, h.Port) {
			t.numbers = append(t.numbers, h.Port)
		}
	}
	return slices.SortedFunc(maps.Values(known), func(a, b *team) int { return cmp.Compare(a.value, b.value) }), rest
}

func (s *state) holderOf(port uint16) string {
	var names []string
	for _, h := range s.census.Holders(pool.NodePorts, port) {
		names = append(names, h.Namespace+"/"+h.Name)
	}
	return strings.Join(names, " and ")
}

// poolNames makes names of the values, each another one, that a PortPool can have.
func poolNames(teams []*team) []string {
	const longest = 63
	taken := map[string]bool{report.EverybodysPool: true, "auto": true} // a pod's annotation says auto for any pool
	var names []string
	for _, t := range teams {
		name := strings.Trim(strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
				return r
			}
			return '-'
		}, strings.ToLower(t.value)), "-")
		base := cmp.Or(name, "unnamed")
		name = base
		for n := 2; taken[name]; n++ {
			suffix := fmt.Sprintf("-%d", n)
			name = strings.TrimRight(base[:min(len(base), longest-len(suffix))], "-") + suffix
		}
		taken[name] = true
		names = append(names, name)
	}
	return names
}
