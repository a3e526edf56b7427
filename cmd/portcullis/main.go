// Command portcullis finds port conflicts on Kubernetes nodes. Installed as kubectl-portcullis it is
// `kubectl portcullis`. Each command has a file of its name:
//
//   - serve runs the admission webhook, the extender for schedulers, and what one leader writes.
//   - lint checks manifests. ports, why, audit and pool report on a cluster, or on a dump of it.
//   - rules and trace show the packet rules of a node, and who gets a packet.
//   - doctor, break-glass and generate are for whoever operates the webhook.
//
// serveOptions.assemble puts pkg/observe, webhook, pkg/journal and pkg/controller into one process. The commands that
// judge objects read them from files (input.go) or from a cluster (existing.go), hand them to pkg/extract, pkg/audit and
// pkg/explain, and print what pkg/report makes of the answer. execute turns an error into the exit code.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// The exit codes, a contract with scripts.
const (
	exitFindings = 1
	exitUsage    = 2
)

// version is set by the linker.
var version = "development"

// programVersion returns the version that the linker was told, else that of the module: `go install …@v1.2.3` has no
// other way to know.
func programVersion() string {
	info, ok := debug.ReadBuildInfo()
	if version != "development" || !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return version
	}
	return info.Main.Version
}

func main() {
	os.Exit(execute(context.Background(), newCommand()))
}

// execute runs a command and returns the exit code. What is wrong is printed escaped: it names files, and what is in them.
func execute(ctx context.Context, cmd *cobra.Command) int {
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if found, ok := errors.AsType[*findingsError](err); ok {
		if found.why != "" {
			fmt.Fprintln(cmd.ErrOrStderr(), "portcullis:", report.Escape(found.why))
		}
		return exitFindings
	}
	fmt.Fprintln(cmd.ErrOrStderr(), "portcullis:", report.EscapeError(withSuggestions(err)))
	return exitUsage
}

// withSuggestions returns an error about an unknown command in one line: cobra puts each command that could be meant on a
// line of its own.
func withSuggestions(err error) error {
	what, suggested, ok := strings.Cut(err.Error(), "\n\nDid you mean this?\n\t")
	if !ok || !strings.HasPrefix(what, "unknown command ") {
		return err
	}
	return fmt.Errorf("%s; did you mean %s?", what, strings.ReplaceAll(strings.TrimSpace(suggested), "\n\t", " or "))
}

func newCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "portcullis",
		Short: "Find port conflicts on Kubernetes nodes, before and after they happen",
		Long: `Portcullis knows every claim on a port of a Kubernetes node: nodePorts, hostPorts, hostNetwork, external IPs and
the nodes' own daemons. It rejects what cannot work and names the holder of the port.`,
		Example: `  portcullis lint manifests/ --state cluster.yaml
  portcullis lint --explain PC0201
  portcullis ports 30062
  portcullis why deployment/tomcat
  portcullis audit
  portcullis doctor
  portcullis serve --config portcullis.yaml --arm`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	if strings.HasPrefix(filepath.Base(os.Args[0]), "kubectl-") {
		root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl portcullis"}
	}
	root.AddCommand(
		newLint(), newPorts(), newWhy(), newAudit(), newPool(), newRules(), newTrace(), newGenerate(),
		newServe(), newDoctor(), newBreakGlass(), newVersion(),
	)
	return root
}

// atMostOne accepts one argument or none, and says usage where there are more.
func atMostOne(usage string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) > 1 {
			return errors.New(usage)
		}
		return nil
	}
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), programVersion()) },
	}
}

// findingsError says that there were findings at or above the level that fails.
type findingsError struct {
	n   int
	why string // what else makes the exit code 1, where the report does not show it
}

func (e *findingsError) Error() string { return fmt.Sprintf("%d findings", e.n) }
