package pools

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/cli"
	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/source"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// checkOptions are the flags of `portcullis pool check`.
type checkOptions struct {
	cli.ReportFlags
	source.FileFlags
	files, existing []string
	deleted         []string
	shrink          bool
	kept            []string // POOL=RANGES that --shrink has as its value
}

func newCheck(version string) *cobra.Command {
	o := &checkOptions{}
	o.Version = version
	cmd := &cobra.Command{
		Use:   "check [-f PATH…] [--delete POOL…] [--shrink [POOL=RANGES…]]",
		Short: "Show which holders a planned change of pools would displace",
		Long: `Report which holders of ports would be displaced, that is out of pool or foreign, if pools were created or changed (-f), deleted
(--delete), or left with some ranges only (--shrink POOL=30100-30149,30900). Displaced holders keep their ports.

With -f, --shrink rejects pools that would gain ports.

What exists is read from the cluster, or from --state. Nothing is written.

Exit codes: 0 no holder would be displaced; 1 some would be, or a file of --state could not be read; 2 bad usage, or the pools of -f
could not be read.`,
		Example: `  portcullis pool check -f pools.yaml
  portcullis pool check --shrink team-payments=30100-30149
  portcullis pool check --delete team-payments -o json

  kubectl get portpools,portclaims,namespaces,services,pods -A -o yaml > state.yaml
  portcullis pool check -f pools.yaml --state state.yaml --shrink`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return run(cmd, func(ctx context.Context, s cli.Streams, p *cli.Progress) error { return o.run(ctx, s, p, args) })
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&o.files, "filename", "f", nil, "pools as they will be: `PATH` is a file, a folder (with all below it) or -; may be repeated")
	f.StringArrayVar(&o.existing, "state", nil, "what exists, instead of a cluster: `PATH` is a file, a folder or -; may be repeated")
	f.StringArrayVar(&o.deleted, "delete", nil, "`POOL` to delete; may be repeated")
	f.Var((*shrinkFlag)(o), "shrink", "the ranges that a pool is to keep; without a value: the pools of -f only lose ports")
	f.Lookup("shrink").NoOptDefVal = "true"
	o.FileFlags.AddFlags(f)
	o.ReportFlags.AddFlags(cmd, cli.Forms("PoolCheckReport"))
	f.Lookup("namespace").Usage = "not used: pools belong to no namespace"
	return cmd
}

// shrinkFlag is the flag --shrink: a switch, with POOL=RANGES as arguments or as its value.
type shrinkFlag checkOptions

// Set implements pflag.Value.
func (f *shrinkFlag) Set(text string) error {
	on, err := strconv.ParseBool(text)
	switch {
	case err == nil:
		f.shrink = on
	case strings.Contains(text, "="):
		f.shrink, f.kept = true, append(f.kept, text)
	default:
		return errors.New("want POOL=RANGES, as team-payments=30100-30149,30900")
	}
	return nil
}

// String implements pflag.Value.
func (f *shrinkFlag) String() string { return strconv.FormatBool(f.shrink) }

// Type implements pflag.Value.
func (f *shrinkFlag) Type() string { return "POOL=RANGES" }

func (o *checkOptions) validate(args []string) error {
	switch {
	case len(args) > 0 && !o.shrink:
		return fmt.Errorf("%q is no flag: name files with -f, or ranges with --shrink POOL=RANGES", args[0])
	case len(o.files)+len(o.deleted)+len(args) == 0:
		return errors.New("nothing to check: name pools with -f, --delete, or --shrink POOL=RANGES")
	case slices.Contains(o.files, "-") && slices.Contains(o.existing, "-"):
		return errors.New("standard input cannot be both what to check and --state: put one of them into a file")
	}
	return nil
}

func (o *checkOptions) run(ctx context.Context, s cli.Streams, p *cli.Progress, args []string) error {
	settings, err := o.Settings(cli.Forms("PoolCheckReport"))
	if err != nil {
		return err
	}
	args = append(o.kept, args...)
	if err := o.validate(args); err != nil {
		return err
	}
	changed, err := o.changed(s, p, settings)
	if err != nil {
		return err
	}
	state, err := readState(ctx, &o.ClusterFlags, &o.FileFlags, o.existing, settings, s.In, p)
	if err != nil {
		return err
	}
	if !state.hasPools && len(o.files) == 0 {
		return noPools()
	}
	before := state.set()
	if err := o.apply(state, changed, args); err != nil {
		return err
	}
	r := compare(state, before, append(slices.Collect(maps.Keys(changed)), o.named(args)...))
	if err := o.Write(s.Out, r, r.WriteTable); err != nil {
		return err
	}
	if n := len(r.Displaced); n > 0 {
		return &cli.FindingsError{N: n}
	}
	return state.incomplete
}

// changed reads the pools of -f.
func (o *checkOptions) changed(s cli.Streams, p *cli.Progress, settings *extract.Settings) (map[string]pool.Pool, error) {
	objects, err := o.ReadWhole(o.files, s.In, p)
	if err != nil {
		return nil, err
	}
	state, err := stateOf(settings, objects)
	if err != nil {
		return nil, err
	}
	if len(o.files) > 0 && len(state.pools) == 0 {
		return nil, fmt.Errorf("there is no PortPool (%s) in %s", v1alpha1.APIVersion, strings.Join(o.files, ", "))
	}
	return state.pools, nil
}

// named returns the pools of the flags.
func (o *checkOptions) named(args []string) []string {
	names := slices.Clone(o.deleted)
	for _, a := range args {
		name, _, _ := strings.Cut(a, "=")
		names = append(names, name)
	}
	return names
}

// apply changes the pools as the flags say.
func (o *checkOptions) apply(state *state, changed map[string]pool.Pool, args []string) error {
	for _, name := range slices.Sorted(maps.Keys(changed)) {
		p := changed[name]
		old, exists := state.pools[name]
		p.Created = time.Now() // a pool that is made now takes nothing from an older one
		if exists {
			p.Created = old.Created
		}
		if more := without(p.Ranges, old.Ranges); o.shrink && len(more) > 0 {
			return fmt.Errorf("PortPool %s would gain %s: correct its ranges, or omit --shrink", name, more)
		}
		if exists && p.For != old.For {
			return fmt.Errorf("spec.for of PortPool %s is %s and cannot be changed to %s: create another pool", name, old.For, p.For)
		}
		state.pools[name] = p
	}
	for _, a := range args {
		name, text, _ := strings.Cut(a, "=")
		ranges, err := ports.ParseRanges(text)
		if err != nil || name == "" || len(ranges) == 0 {
			return errors.Join(fmt.Errorf("--shrink %q: want POOL=RANGES, as team-payments=30100-30149,30900; to leave none, use --delete", a), err)
		}
		p, exists := state.pools[name]
		if !exists {
			return fmt.Errorf("there is no PortPool %s to shrink; portcullis pool status lists the pools", name)
		}
		if more := without(ranges, p.Ranges); len(more) > 0 {
			return fmt.Errorf("--shrink %s: PortPool %s does not have %s; it has %s", a, name, more, p.Ranges)
		}
		p.Ranges = ranges
		state.pools[name] = p
	}
	for _, name := range o.deleted {
		if _, exists := state.pools[name]; !exists {
			return fmt.Errorf("there is no PortPool %s to delete; portcullis pool status lists the pools", name)
		}
		delete(state.pools, name)
	}
	return nil
}

// without returns the numbers of a that do not lie in b.
func without(a, b ports.Ranges) ports.Ranges {
	var left []ports.Range
	for _, r := range a {
		for i := range r.Size() {
			if n := r.First + uint16(i); !b.Contains(n) {
				left = append(left, ports.Range{First: n, Last: n})
			}
		}
	}
	return ports.NewRanges(left...)
}

// compare tells what becomes of the numbers that are held, from the pools before to those of the state now.
func compare(state *state, before *pool.Set, names []string) *report.PoolCheckReport {
	after := state.set()
	r := report.NewPoolCheckReport(len(state.census.Holdings()))
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		was, _ := before.Named(name)
		is, _ := after.Named(name)
		r.Change(was, is)
	}
	r.Moved(before, after, state.census.Holdings())
	for _, d := range after.Displaced(before, state.census.Holdings()) {
		r.Displace(d)
	}
	return r
}
