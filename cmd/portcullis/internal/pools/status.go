package pools

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/cli"
	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/source"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// statusOptions are the flags of `portcullis pool status`.
type statusOptions struct {
	cli.ReportFlags
	source.FileFlags
	files []string
}

func newStatus(version string) *cobra.Command {
	o := &statusOptions{}
	o.Version = version
	cmd := &cobra.Command{
		Use:   "status [NAME]",
		Short: "Show the usage of each PortPool, or the holder of each port of one",
		Long: `Show for each PortPool its ranges, how many of its ports are allocated, available, quarantined or held by others, and how many
ports its members hold outside of its ranges. With NAME, also show who holds which port of that pool, since when, and the PortClaim.

It reads PortPools, PortClaims, namespaces, services and pods of all namespaces and writes nothing; with -f it reads them from
files and needs no cluster.

Exit code: 0, 1 if some of the files could not be read, 2 bad usage, or there is no such pool.`,
		Example: `  portcullis pool status
  portcullis pool status team-payments -o json

  kubectl get portpools,portclaims,namespaces,services,pods -A -o yaml > state.yaml
  portcullis pool status -f state.yaml`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return run(cmd, func(ctx context.Context, s cli.Streams, p *cli.Progress) error { return o.run(ctx, s, p, args) })
		},
	}
	cmd.Flags().StringArrayVarP(&o.files, "filename", "f", nil, "read the objects from `PATH` instead of a cluster: a file, a folder (with all below it) or -; may be repeated")
	o.FileFlags.AddFlags(cmd.Flags())
	o.ReportFlags.AddFlags(cmd, cli.Forms("PoolReport"))
	cmd.Flags().Lookup("namespace").Usage = "not used: pools belong to no namespace"
	return cmd
}

func (o *statusOptions) run(ctx context.Context, s cli.Streams, p *cli.Progress, names []string) error {
	settings, err := o.Settings(cli.Forms("PoolReport"))
	if err != nil {
		return err
	}
	state, err := readState(ctx, &o.ClusterFlags, &o.FileFlags, o.files, settings, s.In, p)
	if err != nil {
		return err
	}
	if !state.hasPools && len(o.files) == 0 {
		return noPools()
	}
	set := state.set()
	if len(names) > 0 {
		if _, known := set.Named(names[0]); !known {
			return fmt.Errorf("there is no PortPool %s; portcullis pool status lists all there are", names[0])
		}
	}
	r := report.NewPoolReport()
	r.Inputs = state.inputs
	out := state.census.OutOfPool(set)
	for _, m := range set.Members() {
		if len(names) > 0 && m.Name != names[0] {
			continue
		}
		row := r.Add(m, m.Usage(state.census.Book(m)))
		row.OutOfPoolCount = len(out[m.Name])
		if len(names) > 0 {
			row.Numbers = state.numbers(m, out[m.Name])
		}
	}
	if err := o.Write(s.Out, r, func(w io.Writer) error { return r.WriteTable(w, time.Now()) }); err != nil {
		return err
	}
	return state.incomplete
}
