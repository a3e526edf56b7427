// Command portcullis-scheduler is kube-scheduler with the plugin PortClaims of package scheduling in it. Its flags and
// its configuration are kube-scheduler's.
//
// It is a module of its own, because k8s.io/kubernetes can only be required with replace directives. Where a scheduler
// cannot be replaced, `portcullis serve` answers it as an extender.
package main

import (
	"fmt"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // rest_client_* metrics
	_ "k8s.io/component-base/metrics/prometheus/version"  // kubernetes_build_info
	"k8s.io/kubernetes/cmd/kube-scheduler/app"

	"github.com/portcullis-k8s/portcullis/scheduling"
)

func main() {
	os.Exit(cli.Run(newCommand()))
}

// newCommand is kube-scheduler's command, but for what --version prints: without the linker's help kube-scheduler knows
// no version of its own.
func newCommand() *cobra.Command {
	cmd := app.NewSchedulerCommand(app.WithPlugin(scheduling.Name, scheduling.New))
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if cmd.Flag("version").Value.String() != "true" { // "raw" and "v1.2.3" are upstream's
			return run(cmd, args)
		}
		_, err := fmt.Fprintln(cmd.OutOrStdout(), version())
		return err
	}
	return cmd
}

// version says what the program is built from.
func version() string {
	own, upstream, goVersion := "(unknown)", "(unknown)", "(unknown)"
	if info, ok := debug.ReadBuildInfo(); ok {
		own, goVersion = info.Main.Version, info.GoVersion
		for _, m := range info.Deps {
			if m.Path == "k8s.io/kubernetes" {
				upstream = m.Version
			}
		}
	}
	return fmt.Sprintf("portcullis-scheduler %s, kube-scheduler %s, %s", own, upstream, goVersion)
}
