package judge

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/cli"
	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/source"
	"github.com/portcullis-k8s/portcullis/pkg/audit"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// lintOptions are the flags of `portcullis lint`.
type lintOptions struct {
	source.FileFlags
	version    string // of the program
	files      []string
	state      []string
	configFile string
	output     string
	failOn     string
	explain    string

	failOnUnjudged bool
}

// Lint returns the command lint.
func Lint(version string) *cobra.Command {
	o := &lintOptions{version: version}
	cmd := &cobra.Command{
		Use:   "lint [-f] PATH…",
		Short: "Check manifests before you apply them",
		Long: `Judge the objects in files, folders or standard input (-) as the webhook would: against each other, and against the
objects in --state, which exist already.

If an object is in both, the input is treated as an update. If two inputs conflict in the same way, the later one is reported
and the earlier one is its holder. With Node objects among the inputs or in the state, workloads are checked against the nodes
that they may run on. Without Nodes, only conflicts that exist on every node are reported. PortPools and PortPolicies among
them are enforced, with the labels of Namespaces and the ports that PortClaims record.

With --state and --config but without inputs it reports existing ports that the configuration would not allow: try a
smaller nodePortRange before you give it to the API server.

What cannot be read is a finding, and everything else is checked. The report counts what was judged, and by kind what was not.

Exit code: 0 clean, 1 findings at or above --fail-on, 2 bad usage, or no object could be read.`,
		Example: `  portcullis lint manifests/
  portcullis lint --explain PC0201

  kubectl get nodes,namespaces,services,endpointslices,pods,deployments,daemonsets,statefulsets,replicasets,jobs,cronjobs -A -o yaml > state.yaml
  helm template mychart | portcullis lint -f - --state state.yaml

  portcullis lint manifests/ -o sarif > portcullis.sarif
  portcullis lint --state state.yaml --config smaller-range.yaml`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.files = append(o.files, args...)
			if os.Getenv("GOGC") == "" {
				debug.SetGCPercent(200) // a short run with much to read: a tenth less time for a third more memory
			}
			return o.run(cli.StreamsOf(cmd))
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&o.files, "filename", "f", nil, "judge `PATH`: a file, a folder (with all below it) or -; may be repeated, and -f itself left out")
	f.StringArrayVar(&o.state, "state", nil, "objects that exist already: `PATH` is a file, a folder or -; may be repeated")
	f.StringVar(&o.configFile, "config", "", "configuration `FILE`; without it the defaults hold")
	f.StringVarP(&o.output, "output", "o", "table", "`FORM` of the report: "+cli.Words(outputs()))
	f.StringVar(&o.failOn, "fail-on", "error", "`LEVEL` of findings that makes the exit code 1: "+cli.Words(levels()))
	f.BoolVar(&o.failOnUnjudged, "fail-on-unjudged", false, "make the exit code 1 if there are objects of kinds that are not judged")
	o.AddFlags(f)
	f.StringVarP(&o.DefaultNamespace, "namespace", "n", "", "`NAMESPACE` of inputs that name none, as kubectl apply -n and helm template leave it out; without it default")
	f.StringVar(&o.explain, "explain", "", "print the page of `CODE`: why, an example, the fix")
	completeLint(cmd)
	return cmd
}

func completeLint(cmd *cobra.Command) {
	var errs []error
	for flag, values := range map[string][]cobra.Completion{"output": outputs(), "fail-on": levels(), "explain": codeCompletions()} {
		errs = append(errs, cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)))
	}
	for _, flag := range []string{"filename", "state", "config"} {
		errs = append(errs, cmd.MarkFlagFilename(flag, "yaml", "yml", "json"))
	}
	if err := errors.Join(errs...); err != nil {
		panic(err) // a flag that is not there
	}
}

// validate returns what is wrong with the flags together.
func (o *lintOptions) validate() error {
	switch {
	case !slices.Contains(strings.Split(cli.Words(outputs()), ", "), o.output):
		return fmt.Errorf("--output %q is not one of %s", o.output, cli.Words(outputs()))
	case len(o.files) == 0 && !o.judgesRange():
		return errors.New("nothing to judge: name a file, a folder or - for standard input; or give --state and --config, to list existing ports that the configuration would not allow (portcullis audit -f judges everything that exists)")
	case slices.Contains(o.files, "-") && slices.Contains(o.state, "-"):
		return errors.New("standard input cannot be both what to judge and --state: put one of them into a file")
	}
	return nil
}

// judgesRange reports whether it is not inputs that are asked about, but what exists under a configuration to come.
func (o *lintOptions) judgesRange() bool {
	return len(o.files) == 0 && len(o.state) > 0 && o.configFile != ""
}

func (o *lintOptions) run(s cli.Streams) error {
	if o.explain != "" {
		if len(o.files)+len(o.state) > 0 {
			return errors.New("--explain prints the page of a code and judges nothing: leave out the paths")
		}
		return printPage(s.Out, o.explain)
	}
	failOn, err := enforcementFor(o.failOn)
	if err != nil {
		return err
	}
	if err := o.validate(); err != nil {
		return err
	}
	settings, err := cli.ReadSettings(o.configFile)
	if err != nil {
		return err
	}
	p := s.Progress()
	stop := p.Start()
	defer stop()
	inputs, err := o.Read(o.files, s.In, p)
	if err != nil {
		return err
	}
	existing := source.FileFlags{Exclude: o.Exclude} // it names its namespaces
	state, err := existing.Read(o.state, s.In, p)
	if err != nil {
		return err
	}
	settings = settings.WithEvidence(slices.Concat(source.Bare(state.Forms()), source.Bare(inputs.Objects)))
	l := linter{settings: &settings.Check, failOn: failOn, report: report.NewLintReport()}
	objects, counts := inputs, inputs.CountsWith(state)
	if o.judgesRange() {
		objects, counts = state, state.Counts()
	}
	if err := o.judge(&l, settings, inputs, state, p); err != nil {
		return err
	}
	stop()
	l.report.Inputs = counts
	if err := writeFindings(o.output, o.version, s, l.report, l.judged); err != nil {
		return err
	}
	return l.outcome(objects, o.failOnUnjudged)
}

// judge judges the inputs, or the state alone by the node port range to come.
func (o *lintOptions) judge(l *linter, settings *extract.Settings, inputs, state *source.Input, p *cli.Progress) error {
	existing := state.Forms()
	source.TellTooWide(p, existing)
	source.TellTwins(p, state, source.IsNoForm)
	p.Say(fmt.Sprintf("sorting %s objects", cli.Grouped(len(inputs.Objects)+len(existing))))
	j, err := audit.New(settings, source.Bare(existing), source.Bare(inputs.Objects), time.Now())
	refused, err := source.Invalid(err, slices.Concat(existing, inputs.Objects))
	if err != nil {
		return err
	}
	l.addUnread(slices.Concat(inputs.UnreadFileFindings(), state.UnreadFindings(), refused, inputs.TwinFindings(source.IsNever)))
	tell := func(judged, all int) {
		p.Say(fmt.Sprintf("judging %s of %s objects", cli.Grouped(judged), cli.Grouped(all)))
	}
	if o.judgesRange() {
		for i, object := range existing {
			tell(i+1, len(existing))
			l.add(object, j.LeftOutside(object.Object))
		}
		return nil
	}
	for i, found := range j.All(source.Bare(inputs.Objects), tell) {
		object := inputs.Objects[i]
		l.add(object, source.WithUnread(object, found))
	}
	return nil
}
