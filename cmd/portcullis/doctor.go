package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/portcullis-k8s/portcullis/pkg/certificate"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// doctorOptions are the flags of `portcullis doctor`.
type doctorOptions struct {
	reportOptions
	service        string
	installedIn    string
	probeNamespace string
}

func newDoctor() *cobra.Command {
	o := &doctorOptions{}
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "What is wrong with the installation, and what to do",
		Long: `Look at the whole chain from the API server to the webhook: the webhook configurations against what this version ships, the
certificates, the Service, its endpoints and replicas, what stands in the way of requests and of updates, the rights, the
configuration, and at last whether a dry run that must be refused is refused.

It changes nothing. What you may not read is told as not checked. Two questions are asked of the API server that nothing can
come of: a dry run of a Deployment, and a Service with nodePort -1, whose refusal names the API server's range.

Exit code: 0 no problem, 1 problems, 2 bad usage or no cluster.`,
		Example: `  portcullis doctor
  portcullis doctor --context production -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
			defer stop()
			return o.run(ctx, streamsOf(cmd))
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.installedIn, "installed-in", defaultNamespace, "`NAMESPACE` of the webhook")
	f.StringVar(&o.service, "service", "portcullis", "`NAME` of the webhook's Service, Deployment, ConfigMap and Lease")
	f.StringVar(&o.probeNamespace, "probe-namespace", "default", "`NAMESPACE` in which the dry run is tried")
	o.addFlags(cmd, forms("DoctorReport"))
	f.Lookup("config").Usage = "configuration `FILE` of the webhook; without it that of the ConfigMap"
	return cmd
}

func (o *doctorOptions) run(ctx context.Context, s streams) error {
	if err := o.validate(forms("DoctorReport")); err != nil {
		return err
	}
	client, host, err := o.clientset()
	if err != nil {
		return err
	}
	if _, err := client.Discovery().ServerVersion(); err != nil {
		return fmt.Errorf("the API server %s cannot be asked: %w; log in again, or choose another --context", host, err)
	}
	d := &patient{Interface: client, doctorOptions: o, now: time.Now()}
	r := report.NewDoctorReport()
	for _, check := range d.checks() {
		r.Add(check(ctx)...)
	}
	if err := o.write(s.out, r, r.WriteTable); err != nil {
		return err
	}
	if r.Summary.Problems > 0 {
		return &findingsError{n: r.Summary.Problems}
	}
	return nil
}

// clientset speaks to the cluster of kubectl's flags, and says where that is.
func (c *cluster) clientset() (kubernetes.Interface, string, error) {
	config, err := c.config().ClientConfig()
	switch {
	case clientcmd.IsEmptyConfig(err):
		return nil, "", errors.New("there is no kubeconfig that names a cluster: name one with --kubeconfig")
	case err != nil:
		return nil, "", fmt.Errorf("finding the cluster: %w; name another with --kubeconfig and --context", err)
	}
	config = rest.CopyConfig(config)
	config.UserAgent = "portcullis/" + programVersion()
	config.QPS, config.Timeout = -1, 30*time.Second
	config.WarningHandler = rest.NoWarnings{} // of the dry runs
	client, err := kubernetes.NewForConfig(config)
	return client, config.Host, err
}

// patient is an installation that is looked at.
type patient struct {
	kubernetes.Interface
	*doctorOptions
	now time.Time
}

// checks are all questions, in the order in which they are told.
func (d *patient) checks() []func(context.Context) []report.DoctorCheck {
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
