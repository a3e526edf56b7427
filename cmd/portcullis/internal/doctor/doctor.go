// Package doctor has the command doctor, which looks for what is wrong with the installation of the webhook.
//
// An installation is a cluster seen through its API server, by kubectl's flags. checks lists what is looked at, in the order
// of the report: each returns the report.DoctorChecks of one link of the chain from the API server to the webhook, and says
// what to do where one is broken. What may not be read is not checked, and said to be so. Nothing is changed: two requests
// are made that come to nothing, a dry run that the webhook must refuse and a Service that no API server accepts.
package doctor

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/kubernetes"

	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/cli"
	"github.com/portcullis-k8s/portcullis/pkg/certificate"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// options are the flags of `portcullis doctor`.
type options struct {
	cli.ReportFlags
	service        string
	installedIn    string
	probeNamespace string
}

// Command returns the command doctor.
func Command(version string) *cobra.Command {
	o := &options{}
	o.Version = version
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "What is wrong with the installation, and what to do",
		Long: `Look at the whole chain from the API server to the webhook: the webhook configurations against what this version ships, the
certificates, the Service, its endpoints and replicas, what stands in the way of requests and of updates, the rights, the
configuration, and at last whether a dry run that must be refused is refused.

It changes nothing. What you may not read is reported as not checked. Two requests are sent that the API server never stores:
a dry run of a Deployment, and a Service with nodePort -1, whose rejection names the API server's range.

Exit code: 0 no problem, 1 problems, 2 bad usage or no cluster.`,
		Example: `  portcullis doctor
  portcullis doctor --context production -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
			defer stop()
			return o.run(ctx, cli.StreamsOf(cmd))
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.installedIn, "installed-in", cli.SystemNamespace, "`NAMESPACE` of the webhook")
	f.StringVar(&o.service, "service", "portcullis", "`NAME` of the webhook's Service, Deployment, ConfigMap and Lease")
	f.StringVar(&o.probeNamespace, "probe-namespace", "default", "`NAMESPACE` in which the dry run is tried")
	o.AddFlags(cmd, cli.Forms("DoctorReport"))
	f.Lookup("config").Usage = "configuration `FILE` of the webhook; without it that of the ConfigMap"
	return cmd
}

func (o *options) run(ctx context.Context, s cli.Streams) error {
	if err := o.Validate(cli.Forms("DoctorReport")); err != nil {
		return err
	}
	client, host, err := o.Clientset()
	if err != nil {
		return err
	}
	if _, err := client.Discovery().ServerVersion(); err != nil {
		return fmt.Errorf("the API server %s cannot be asked: %w; log in again, or choose another --context", host, err)
	}
	d := &installation{Interface: client, options: o, now: time.Now()}
	r := report.NewDoctorReport()
	for _, check := range d.checks() {
		r.Add(check(ctx)...)
	}
	if err := o.Write(s.Out, r, r.WriteTable); err != nil {
		return err
	}
	if r.Summary.Problems > 0 {
		return &cli.FindingsError{N: r.Summary.Problems}
	}
	return nil
}

// installation is what is looked at.
type installation struct {
	kubernetes.Interface
	*options
	now time.Time
}

// checks are all checks, in the order in which they are reported.
func (d *installation) checks() []func(context.Context) []report.DoctorCheck {
	return []func(context.Context) []report.DoctorCheck{
		d.registration, d.otherWebhooks, d.servingCertificate, d.authority, d.deployment, d.endpoints, d.disruption, d.networkPolicies,
		d.leader, d.kinds, d.pools, d.rights, d.configuration, d.endToEnd,
	}
}

func well(name, format string, args ...any) report.DoctorCheck {
	return report.DoctorCheck{Name: name, Status: report.DoctorOK, Message: inOneLine(format, args)}
}

func warned(name, fix, format string, args ...any) report.DoctorCheck {
	return report.DoctorCheck{Name: name, Status: report.DoctorWarning, Message: inOneLine(format, args), Fix: fix}
}

func broken(name, fix, format string, args ...any) report.DoctorCheck {
	return report.DoctorCheck{Name: name, Status: report.DoctorProblem, Message: inOneLine(format, args), Fix: fix}
}

// inOneLine joins the lines that errors may have, without the secret segments of paths.
func inOneLine(format string, args []any) string {
	return certificate.Redacted(strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "; "))
}

// unread is a check that could not be made: for want of a right, or of an answer.
func unread(name, what string, err error) []report.DoctorCheck {
	c := report.DoctorCheck{Name: name, Status: report.DoctorNotChecked, Message: inOneLine("reading %s: %v", []any{what, err})}
	if apierrors.IsForbidden(err) {
		c.Message, c.Fix = "you may not read "+what, "have somebody run doctor who may, or ask for the right"
	}
	return []report.DoctorCheck{c}
}

// reinstall is what to do where something of the installation is missing or changed.
const reinstall = "install again: kubectl apply -k config/default, or helm upgrade"

func valueOr[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}
