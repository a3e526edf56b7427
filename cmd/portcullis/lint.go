package main

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/manifest"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// lintOptions are the flags of `portcullis lint`.
type lintOptions struct {
	files      []string
	state      []string
	configFile string
	output     string
	failOn     string
}

func newLint() *cobra.Command {
	o := &lintOptions{}
	cmd := &cobra.Command{
		Use:   "lint -f PATH…",
		Short: "Judge manifests before they are applied",
		Long: `Judge the objects in files, folders or standard input (-) as the gate would: against each other, and against the
objects in --state, which exist already. An input object that stands in the state too is an update of it. Of two inputs
that clash, the later one is refused and the earlier one is its holder. With Node objects among the inputs or in the
state, workloads are judged by the nodes that they may run on; without, only what holds on any node is said.

Exit code: 0 clean, 1 findings at or above --fail-on, 2 bad usage or unreadable input.`,
		Example: `  portcullis lint -f manifests/
  kubectl get services,pods,nodes,deployments,daemonsets -A -o yaml > state.yaml
  portcullis lint -f new.yaml --state state.yaml -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&o.files, "filename", "f", nil, "file, folder (with all below it) or - to judge; may be repeated")
	f.StringArrayVar(&o.state, "state", nil, "file, folder or - of objects that exist already; may be repeated")
	f.StringVar(&o.configFile, "config", "", "configuration file; without it the defaults hold")
	f.StringVarP(&o.output, "output", "o", "table", "table, json or github")
	f.StringVar(&o.failOn, "fail-on", "error", "what makes the exit code 1: error, warning or never")
	return cmd
}

func (o *lintOptions) run(stdin io.Reader, stdout, stderr io.Writer) error {
	writers := map[string]func(*report.LintReport, io.Writer) error{
		"table": (*report.LintReport).WriteTable, "json": (*report.LintReport).WriteJSON, "github": (*report.LintReport).WriteGitHub,
	}
	write, ok := writers[o.output]
	if !ok {
		return fmt.Errorf("--output %q is none of table, json, github", o.output)
	}
	failOn, ok := map[string]check.Enforcement{"error": check.Deny, "warning": check.Warn, "never": check.Deny + 1}[o.failOn]
	if !ok {
		return fmt.Errorf("--fail-on %q is none of error, warning, never", o.failOn)
	}
	if len(o.files) == 0 {
		return errors.New("nothing to judge: name a file, a folder or - with -f")
	}
	if slices.Contains(o.files, "-") && slices.Contains(o.state, "-") {
		return errors.New("standard input cannot be both -f and --state")
	}
	settings, err := readSettings(o.configFile)
	if err != nil {
		return err
	}
	inputs, err := read(o.files, stdin, stderr)
	if err != nil {
		return err
	}
	state, err := read(o.state, stdin, stderr)
	if err != nil {
		return err
	}
	for _, object := range slices.Concat(inputs, state) {
		if svc, ok := object.Object.(*corev1.Service); ok && extract.ExternalSockets(svc) > extract.MaxExternalSockets {
			return fmt.Errorf("%s:%d: Service %s names %d sockets by its external addresses, and no more than %d can be judged; split it into several",
				object.Path, object.Line, svc.Name, extract.ExternalSockets(svc), extract.MaxExternalSockets)
		}
	}
	l := newLinter(settings, inputs, state)
	failing := 0
	for _, object := range inputs {
		for _, f := range l.judge(object) {
			l.report.Add(f, report.Source{Path: object.Path, Line: object.LineOf(f.Field)})
			if settings.Check.Enforce(f) >= failOn {
				failing++
			}
		}
	}
	if err := write(l.report, stdout); err != nil {
		return err
	}
	if failing > 0 {
		return &findingsError{failing}
	}
	return nil
}

func read(paths []string, stdin io.Reader, stderr io.Writer) ([]*manifest.Object, error) {
	in, err := manifest.Read(paths, stdin, manifest.Scheme())
	for _, s := range in.Skipped {
		fmt.Fprintln(stderr, "skipped", s)
	}
	return in.Objects, err
}
