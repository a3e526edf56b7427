// Command portcullis judges the ports of a Kubernetes cluster: as an admission webhook (serve) and on files (lint).
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// The exit codes, a contract with scripts.
const (
	exitFindings = 1
	exitUsage    = 2
)

// version is set by the linker.
var version = "development"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := newCommand().ExecuteContext(ctx)
	if err == nil {
		return
	}
	if _, found := errors.AsType[*findingsError](err); found {
		os.Exit(exitFindings)
	}
	fmt.Fprintln(os.Stderr, "portcullis:", err)
	os.Exit(exitUsage)
}

func newCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "portcullis",
		Short: "Who holds which port of your nodes, and what must not take it",
		Long: `Portcullis knows every claim on a port of a Kubernetes node: nodePorts, hostPorts, hostNetwork, external IPs and
the nodes' own daemons. It refuses what cannot work and names who is in the way.`,
		Example: `  portcullis lint -f manifests/ --state cluster.yaml
  portcullis serve --config portcullis.yaml --cert-dir /certs`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.AddCommand(newLint(), newServe(), newVersion())
	return root
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), version) },
	}
}

// findingsError says that there were findings at or above the level that fails.
type findingsError struct{ n int }

func (e *findingsError) Error() string { return fmt.Sprintf("%d findings", e.n) }
