package judge

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/cli"
	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/source"
	"github.com/portcullis-k8s/portcullis/pkg/audit"
	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/manifest"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// auditOptions are the flags of `portcullis audit`.
type auditOptions struct {
	cli.ReportFlags
	source.FileFlags
	files         []string
	allNamespaces bool
	failOn        string

	failOnUnjudged bool
}

// Audit returns the command audit.
func Audit(version string) *cobra.Command {
	o := &auditOptions{}
	o.Version = version
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Report the port conflicts among everything that exists in a cluster",
		Long: `Check everything that exists in a cluster, as lint checks manifests: every conflict, every port outside of its range,
every port that pools and policies do not allow. It rejects and changes nothing.

Conflicts are reported on the newer object; the older one is its holder. An object that a controller has created is as old as
the controller. A violation in the template of a controller is reported once, on the controller, with the nodes of its pods;
pods that conflict on their nodes for another reason are reported one by one. Pre-existing violations are reported here,
though the webhook does not reject them. -n limits the report, not the check.

It lists nodes, services and pods, and, where it is allowed to, controllers, namespaces, pools, policies and claims. It names
the kinds that it may not list. With -f it reads the objects from files and needs no cluster.

Exit code: 0 clean, 1 findings at or above --fail-on, 2 bad usage, or a cluster that cannot be read, or no object could be read.`,
		Example: `  portcullis audit
  portcullis audit -n shop -o json
  portcullis audit --context production --fail-on warning

  kubectl get nodes,namespaces,services,endpointslices,pods,deployments,daemonsets,statefulsets,replicasets,jobs,cronjobs -A -o yaml > state.yaml
  portcullis audit -f state.yaml -o sarif > portcullis.sarif`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
			defer stop()
			return o.run(ctx, cli.StreamsOf(cmd))
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&o.files, "filename", "f", nil, "read the objects from `PATH` instead of a cluster: a file, a folder (with all below it) or -; may be repeated")
	f.BoolVarP(&o.allNamespaces, "all-namespaces", "A", false, "report on all namespaces, as without -n")
	f.StringVar(&o.failOn, "fail-on", "error", "`LEVEL` of findings that makes the exit code 1: "+cli.Words(levels()))
	f.BoolVar(&o.failOnUnjudged, "fail-on-unjudged", false, "make the exit code 1 if there are objects of kinds that are not judged")
	o.FileFlags.AddFlags(f)
	o.ReportFlags.AddFlags(cmd, auditForms())
	f.Lookup("namespace").Usage = "report only on objects of `NAMESPACE`; all others are checked nevertheless; without it all namespaces"
	if err := cmd.RegisterFlagCompletionFunc("fail-on", cobra.FixedCompletions(levels(), cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // a flag that is not there
	}
	return cmd
}

// auditForms are those of a report, and those of lint for other programs.
func auditForms() []cobra.Completion { return append(cli.Forms("AuditReport"), outputs()[2:]...) }

func (o *auditOptions) run(ctx context.Context, s cli.Streams) error {
	settings, err := o.Settings(auditForms())
	if err != nil {
		return err
	}
	failOn, err := enforcementFor(o.failOn)
	if err != nil {
		return err
	}
	namespace, err := o.OnlyNamespace(o.allNamespaces)
	if err != nil {
		return err
	}
	p := s.Progress()
	stop := p.Start()
	defer stop()
	in, err := source.Objects(ctx, &o.ClusterFlags, &o.FileFlags, o.files, slices.Concat(source.Holders(), source.Templates(), source.Restrictions()), s.In, p)
	if err != nil {
		return err
	}
	objects := in.Forms()
	if in.OfFiles { // of a cluster it has been said
		source.TellTooWide(p, objects)
	}
	settings = settings.WithEvidence(source.Bare(objects))
	findings, err := audit.Everything(settings, source.Bare(objects), time.Now(), func(judged, all int) {
		p.Say(fmt.Sprintf("judging %s of %s objects", cli.Grouped(judged), cli.Grouped(all)))
	})
	refused, err := source.Invalid(err, objects)
	if err != nil {
		return err
	}
	r := report.NewAuditReport()
	r.Inputs = in.Counts()
	l := auditor{linter: linter{settings: &settings.Check, failOn: failOn, report: &r.LintReport}, namespace: namespace}
	l.addUnread(slices.Concat(in.UnreadFindings(), refused, in.TwinFindings(source.IsNoForm)))
	l.addFindings(objects, findings)
	stop()
	switch o.Output {
	case "table", "json", "yaml":
		err = o.Write(s.Out, r, func(w io.Writer) error { return r.WriteTable(w, s.Colour) })
	default:
		err = writeFindings(o.Output, o.Version, s, &r.LintReport, l.judged)
	}
	if err != nil {
		return err
	}
	return l.outcome(in, o.failOnUnjudged)
}

// auditor makes a report of findings in their own order.
type auditor struct {
	linter
	namespace string // only what is wrong in it is told; "": all
}

// addFindings tells findings, and sorts them to the objects that they are about.
func (a *auditor) addFindings(objects []*manifest.Object, findings []check.Finding) {
	judged := map[report.Object]*report.Judged{}
	stand := map[report.Object]*manifest.Object{}
	var order []report.Object
	for _, object := range objects {
		name := source.Named(object)
		if source.IsNameless(object.Object) {
			name.Name = audit.NameApart(name.Name, func(text string) bool {
				other := name
				other.Name = text
				return stand[other] != nil
			})
		}
		if _, again := stand[name]; !again && source.ClaimsPorts(object.Object) && a.isAsked(name.Namespace) {
			stand[name] = object
			judged[name] = &report.Judged{Object: name, Source: report.Source{Path: object.Path, Line: object.Line}}
			order = append(order, name)
		}
	}
	for _, f := range findings {
		name := report.Object{APIVersion: f.Object.APIVersion, Kind: f.Object.Kind, Namespace: f.Object.Namespace, Name: f.Object.Name}
		object := stand[name]
		if object == nil || source.IsMissed(object, f) {
			continue // the former are of another namespace
		}
		at := report.Source{}
		if object.Path != "" {
			at = report.Source{Path: object.Path, Line: object.LineOf(f.Field)}
		}
		a.tell(judged[name], source.Located{Finding: f, Source: at})
	}
	for _, name := range order {
		a.judged = append(a.judged, *judged[name])
	}
}

func (a *auditor) isAsked(namespace string) bool {
	return a.namespace == "" || namespace == a.namespace
}
