// Package pools has the command pool, with suggest, status and check: PortPools from what Services hold today, the usage of
// pools, and who would be displaced by a change of them.
//
// All three begin with a state: the pools, the claims and who holds which numbers (pool.Census), read by package source from
// files or from a cluster. suggest groups the holders by a label of their namespaces and has pkg/pool make pools for them.
// status has pkg/pool tell what each number of a pool is used for. check changes the pools of the state as the flags say and
// compares where the holders are, before and after. pkg/report words and prints the answers. Nothing is written to the
// cluster.
package pools

import (
	"context"
	"errors"
	"os"
	"os/signal"

	"github.com/spf13/cobra"

	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/cli"
)

// Command returns the command pool.
func Command(version string) *cobra.Command {
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
	cmd.AddCommand(newSuggest(version), newStatus(version), newCheck(version))
	return cmd
}

// run runs a command until it ends or is interrupted, with a line of progress in front of whom waits.
func run(cmd *cobra.Command, do func(context.Context, cli.Streams, *cli.Progress) error) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
	defer stop()
	s := cli.StreamsOf(cmd)
	p := s.Progress()
	end := p.Start()
	defer end()
	return do(ctx, s, p)
}

// noPools says that a cluster has none of our kinds.
func noPools() error {
	return errors.New("the cluster does not know the kind PortPool: install it with kubectl apply -k config/crd, or give the objects in files")
}
