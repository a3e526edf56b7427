// Command portcullis finds port conflicts on Kubernetes nodes. Installed as kubectl-portcullis it is
// `kubectl portcullis`. newCommand lists its commands; each of them, with its flags, is a package below internal:
//
//   - judge: lint checks manifests, audit everything that exists.
//   - inspect: ports says who holds which port, and why a pod finds none.
//   - pools: pool suggests PortPools, shows their usage and tests a change to them.
//   - packets: rules and trace show the packet rules of a node, and who gets a packet.
//   - serve runs the admission webhook, the extender for schedulers, and what one leader writes.
//   - doctor, breakglass and generate are for whoever operates the webhook.
//
// The commands that judge objects read them from files or from a cluster with package source, hand them to pkg/extract,
// pkg/audit and pkg/explain, and print what pkg/report makes of the answer. Package cli has what all of them share, and
// turns an error into the exit code.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/breakglass"
	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/cli"
	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/doctor"
	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/generate"
	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/inspect"
	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/judge"
	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/packets"
	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/pools"
	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/serve"
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
	os.Exit(cli.Execute(context.Background(), newCommand()))
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
	v := programVersion()
	root.AddCommand(
		judge.Lint(v), inspect.Ports(v), inspect.Why(v), judge.Audit(v), pools.Command(v), packets.Rules(), packets.Trace(), generate.Command(),
		serve.Command(v), doctor.Command(v), breakglass.Command(v), newVersion(v),
	)
	return root
}

func newVersion(version string) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), version) },
	}
}
