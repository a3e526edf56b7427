package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/spf13/cobra"

	"github.com/portcullis-k8s/portcullis/pkg/report"
)

func newPool() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pool",
		Short: "Suggest PortPools, show their usage, test a change to them",
		Long: `Work with PortPools, which say which ports of the nodes a team's Services and pods get.

All of it reads and nothing writes: from the cluster, or with -f or --state from files.`,
		Example: `  portcullis pool suggest > pools.yaml
  portcullis pool status
  portcullis pool check -f pools.yaml`,
		Args: cobra.NoArgs, // what is no command of it is misspelled
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newPoolSuggest(), newPoolStatus(), newPoolCheck())
	return cmd
}

// run runs a command until it ends or is interrupted, with a line of progress in front of whom waits.
func runPool(cmd *cobra.Command, do func(context.Context, streams, *progress) error) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
	defer stop()
	s := streamsOf(cmd)
	p := &progress{w: s.err, watched: s.watched}
	end := p.start()
	defer end()
	return do(ctx, s, p)
}

// poolStatusOptions are the flags of `portcullis pool status`.
type poolStatusOptions struct {
	reportOptions
	reading
	files []string
}

func newPoolStatus() *cobra.Command {
	o := &poolStatusOptions{}
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
			return runPool(cmd, func(ctx context.Context, s streams, p *progress) error { return o.run(ctx, s, p, args) })
		},
	}
	cmd.Flags().StringArrayVarP(&o.files, "filename", "f", nil, "read the objects from `PATH` instead of a cluster: a file, a folder (with all below it) or -; may be repeated")
	o.reading.addFlags(cmd.Flags())
	o.reportOptions.addFlags(cmd, forms("PoolReport"))
	cmd.Flags().Lookup("namespace").Usage = "not used: pools belong to no namespace"
	return cmd
}

func (o *poolStatusOptions) run(ctx context.Context, s streams, p *progress, names []string) error {
	settings, err := o.asked(forms("PoolReport"))
	if err != nil {
		return err
	}
	state, err := o.state(ctx, s, p, &o.reading, o.files, settings)
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
	if err := o.write(s.out, r, func(w io.Writer) error { return r.WriteTable(w, time.Now()) }); err != nil {
		return err
	}
	return state.incomplete
}

// noPools says that a cluster has none of our kinds.
func noPools() error {
	return errors.New("the cluster does not know the kind PortPool: install it with kubectl apply -k config/crd, or give the objects in files")
}
