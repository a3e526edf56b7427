package main

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/audit"
	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/manifest"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// lintOptions are the flags of `portcullis lint`.
type lintOptions struct {
	reading
	files      []string
	state      []string
	configFile string
	output     string
	failOn     string
	explain    string

	failOnUnjudged bool
}

func newLint() *cobra.Command {
	o := &lintOptions{}
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
			return o.run(streamsOf(cmd))
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&o.files, "filename", "f", nil, "judge `PATH`: a file, a folder (with all below it) or -; may be repeated, and -f itself left out")
	f.StringArrayVar(&o.state, "state", nil, "objects that exist already: `PATH` is a file, a folder or -; may be repeated")
	f.StringVar(&o.configFile, "config", "", "configuration `FILE`; without it the defaults hold")
	f.StringVarP(&o.output, "output", "o", "table", "`FORM` of the report: "+words(outputs()))
	f.StringVar(&o.failOn, "fail-on", "error", "`LEVEL` of findings that makes the exit code 1: "+words(levels()))
	f.BoolVar(&o.failOnUnjudged, "fail-on-unjudged", false, "make the exit code 1 if there are objects of kinds that are not judged")
	o.addFlags(f)
	f.StringVarP(&o.unnamed, "namespace", "n", "", "`NAMESPACE` of inputs that name none, as kubectl apply -n and helm template leave it out; without it default")
	f.StringVar(&o.explain, "explain", "", "print the page of `CODE`: why, an example, the fix")
	completeLint(cmd)
	return cmd
}

// outputs are the forms of a report.
func outputs() []cobra.Completion {
	return []cobra.Completion{
		cobra.CompletionWithDesc("table", "for a person"),
		cobra.CompletionWithDesc("json", "a versioned LintReport, for scripts"),
		cobra.CompletionWithDesc("sarif", "SARIF 2.1.0, for code scanning and editors"),
		cobra.CompletionWithDesc("junit", "JUnit XML, for CI systems"),
		cobra.CompletionWithDesc("github", "annotations of a pull request"),
	}
}

// levels are the values of --fail-on.
func levels() []cobra.Completion {
	return []cobra.Completion{
		cobra.CompletionWithDesc("error", "what cannot work, or breaks somebody"),
		cobra.CompletionWithDesc("warning", "errors, and what will bite later"),
		cobra.CompletionWithDesc("never", "only bad usage, and input without any object"),
	}
}

// words lists completions without their descriptions.
func words(of []cobra.Completion) string {
	var all []string
	for _, c := range of {
		word, _, _ := strings.Cut(c, "\t")
		all = append(all, word)
	}
	return strings.Join(all, ", ")
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

// enforcementFor returns from where on a finding makes a run fail, by --fail-on.
func enforcementFor(level string) (check.Enforcement, error) {
	switch level {
	case "error":
		return check.Deny, nil
	case "warning":
		return check.Warn, nil
	case "never":
		return check.Deny + 1, nil
	default:
		return 0, fmt.Errorf("--fail-on %q is not one of %s", level, words(levels()))
	}
}

// validate returns what is wrong with the flags together.
func (o *lintOptions) validate() error {
	switch {
	case !slices.Contains(strings.Split(words(outputs()), ", "), o.output):
		return fmt.Errorf("--output %q is not one of %s", o.output, words(outputs()))
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

func (o *lintOptions) run(s streams) error {
	if o.explain != "" {
		if len(o.files)+len(o.state) > 0 {
			return errors.New("--explain prints the page of a code and judges nothing: leave out the paths")
		}
		return printPage(s.out, o.explain)
	}
	failOn, err := enforcementFor(o.failOn)
	if err != nil {
		return err
	}
	if err := o.validate(); err != nil {
		return err
	}
	settings, err := readSettings(o.configFile)
	if err != nil {
		return err
	}
	p := &progress{w: s.err, watched: s.watched}
	stop := p.start()
	defer stop()
	inputs, err := o.read(o.files, s, p)
	if err != nil {
		return err
	}
	existing := reading{exclude: o.exclude} // it names its namespaces
	state, err := existing.read(o.state, s, p)
	if err != nil {
		return err
	}
	settings = settings.WithEvidence(slices.Concat(bare(state.forms()), bare(inputs.Objects)))
	l := linter{settings: &settings.Check, failOn: failOn, report: report.NewLintReport()}
	objects, counts := inputs, inputs.countsWith(state)
	if o.judgesRange() {
		objects, counts = state, state.counts()
	}
	if err := o.judge(&l, settings, inputs, state, p); err != nil {
		return err
	}
	stop()
	l.report.Inputs = counts
	if err := writeFindings(o.output, s, l.report, l.judged); err != nil {
		return err
	}
	return l.outcome(objects, o.failOnUnjudged)
}

// judge judges the inputs, or the state alone by the node port range to come.
func (o *lintOptions) judge(l *linter, settings *extract.Settings, inputs, state *input, p *progress) error {
	existing := state.forms()
	tellTooWide(p, existing)
	tellTwins(p, state, isNoForm)
	p.say(fmt.Sprintf("sorting %s objects", grouped(len(inputs.Objects)+len(existing))))
	j, err := audit.New(settings, bare(existing), bare(inputs.Objects), time.Now())
	refused, err := invalid(err, slices.Concat(existing, inputs.Objects))
	if err != nil {
		return err
	}
	l.addUnread(slices.Concat(inputs.unreadFiles(), state.unread(), refused, inputs.twins(isNever)))
	tell := func(judged, all int) { p.say(fmt.Sprintf("judging %s of %s objects", grouped(judged), grouped(all))) }
	if o.judgesRange() {
		for i, object := range existing {
			tell(i+1, len(existing))
			l.add(object, j.LeftOutside(object.Object))
		}
		return nil
	}
	for i, found := range j.All(bare(inputs.Objects), tell) {
		object := inputs.Objects[i]
		found = slices.DeleteFunc(found, func(f check.Finding) bool { return isMissed(object, f) })
		l.add(object, slices.Concat(tooWide(object), unreadOf(object), found))
	}
	return nil
}

// writeFindings writes a report in one of outputs.
func writeFindings(form string, s streams, r *report.LintReport, judged []report.Judged) error {
	switch form {
	case "json":
		return r.WriteJSON(s.out)
	case "sarif":
		folder, err := os.Getwd()
		if err != nil {
			return fmt.Errorf("finding the folder that paths of the report are relative to: %w", err)
		}
		return r.WriteSARIF(s.out, programVersion(), folder)
	case "junit":
		return report.WriteJUnit(s.out, strings.ToLower(strings.TrimSuffix(r.Kind, "Report")), judged, r.Inputs)
	case "github":
		return r.WriteGitHub(s.out)
	default:
		return r.WriteTable(s.out, s.colour)
	}
}

// kinds are those that claim ports, and our own, which restrict who may.
func kinds() *runtime.Scheme {
	scheme := manifest.Scheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		panic(err) // two packages would have to register one kind
	}
	return scheme
}

// tooWide returns a finding if nobody looks at a Service's external IPs, because they would make the ledger as large as its
// writer likes. What else it claims is known.
func tooWide(object *manifest.Object) []check.Finding {
	svc, ok := object.Object.(*corev1.Service)
	if !ok {
		return nil
	}
	sockets, are := extract.TooManySockets(svc)
	if !are {
		return nil
	}
	detail := check.SocketCount{Sockets: sockets, Most: extract.MaxExternalSockets}
	return []check.Finding{finding(check.FieldUnread, check.TooManySockets, refOf(object), "spec.externalIPs", detail)}
}

// tellTooWide tells on the terminal what is not looked at.
func tellTooWide(p *progress, objects []*manifest.Object) {
	for _, object := range objects {
		for _, f := range tooWide(object) {
			p.println(located{f, report.Source{Path: object.Path, Line: object.LineOf(f.Field)}}.line())
		}
	}
}

// tellTwins tells on the terminal what exists in two forms.
func tellTwins(p *progress, in *input, isTaken func(*manifest.Object) bool) {
	for _, f := range in.twins(isTaken) {
		p.println(f.line())
	}
}
