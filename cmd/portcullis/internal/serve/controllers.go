package serve

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/cli"
	"github.com/portcullis-k8s/portcullis/pkg/controller/arming"
	"github.com/portcullis-k8s/portcullis/pkg/controller/audit"
	certs "github.com/portcullis-k8s/portcullis/pkg/controller/certificates"
	"github.com/portcullis-k8s/portcullis/pkg/controller/claims"
	"github.com/portcullis-k8s/portcullis/pkg/controller/leader"
	"github.com/portcullis-k8s/portcullis/pkg/controller/status"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/hooks"
)

const (
	leaseName         = "portcullis"
	configurationName = hooks.ConfigurationName
	// accountNamespace is where a pod finds the namespace of its service account.
	accountNamespace = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
)

// controllerOptions are the flags of serve that are about what one of the replicas writes.
type controllerOptions struct {
	elect          bool
	namespace      string
	arm            bool
	probeNamespace string
	auditEvery     time.Duration
	reports        bool
}

func (o *controllerOptions) addTo(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&o.elect, "leader-elect", true, "write claims and status only while holding the Lease portcullis; false if this is the only replica")
	f.StringVar(&o.namespace, "namespace", "", "namespace of the Lease, the Service and the Secret; without it $POD_NAMESPACE, that of the service account, or portcullis-system")
	f.BoolVar(&o.arm, "arm", false, "set failurePolicy Fail once it is proved that refusals come, and Ignore when the last replica leaves")
	f.DurationVar(&o.auditEvery, "audit-every", 10*time.Minute, "how often to judge everything that exists, beside soon after changes; 0 for never")
	f.BoolVar(&o.reports, "reports", true, "write what an audit finds as reports of openreports.io, where the cluster has that kind")
	f.StringVar(&o.probeNamespace, "probe-namespace", "default", "where the dry run that proves it is made: a namespace that is judged")
}

// hasPools reports whether the kinds of portcullis.dev are installed, by the API server's own record of them: what it
// serves at the moment may be less, as it takes a while to begin. It asks until it knows.
func hasPools(ctx context.Context, config *rest.Config) (bool, error) {
	c, err := client.New(config, client.Options{})
	if err != nil {
		return false, fmt.Errorf("reaching the cluster: %w", err)
	}
	crd := &unstructured.Unstructured{}
	crd.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"})
	for {
		err := c.Get(ctx, client.ObjectKey{Name: "portpools." + v1alpha1.Group}, crd)
		switch {
		case err == nil:
			return true, nil
		case apierrors.IsNotFound(err):
			logf.Log.Info("the cluster has no pools: install config/crd and start again to have them")
			return false, nil
		case apierrors.IsForbidden(err):
			return false, fmt.Errorf("asking whether there are pools: %w; grant what config/rbac does", err)
		}
		logf.Log.Error(err, "Asking whether there are pools")
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// addWriters adds what one of the replicas writes.
func (o *options) addWriters(p *process, settings *extract.Settings, pools bool, certificates *certs.Controller) error {
	runner := &leader.Runner{}
	var errs []error
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("naming this replica: %w", err)
	}
	if o.controllers.elect {
		runner.Election = &leader.Election{
			Config: p.manager.GetConfig(), Namespace: o.controllers.leaseNamespace(), Name: leaseName, Identity: host + "_" + rand.Text(),
		}
	}
	if certificates != nil {
		runner.Tasks = append(runner.Tasks, certificates.Lead)
		errs = append(errs, p.manager.Add(certificates))
	}
	if o.controllers.arm {
		p.arming = o.newArming(p)
		runner.Tasks = append(runner.Tasks, p.arming.Lead)
	}
	if pools {
		c, s, err := newPoolControllers(p.manager, settings)
		if err != nil {
			return err
		}
		runner.After = append(runner.After, c.Synced(), s.Synced())
		runner.Tasks = append(runner.Tasks, c.Lead, s.Lead)
		errs = append(errs, p.manager.Add(c), p.manager.Add(s))
	}
	if o.controllers.auditEvery > 0 {
		a, err := audit.New(p.manager, audit.Options{
			Settings: settings, Pools: pools, Interval: o.controllers.auditEvery, Reports: o.controllers.reports,
			Instance: cmp.Or(os.Getenv("POD_NAME"), host),
			Metrics:  audit.NewMetrics(metrics.Registry), Now: time.Now,
		})
		if err != nil {
			return err
		}
		runner.Tasks = append(runner.Tasks, a.Lead)
		errs = append(errs, p.manager.Add(a))
	}
	if len(runner.Tasks) > 0 {
		errs = append(errs, p.manager.Add(runner))
	}
	return errors.Join(errs...)
}

// newArming returns what arms the webhook.
func (o *options) newArming(p *process) *arming.Controller {
	return &arming.Controller{
		Reader: p.manager.GetAPIReader(), Writer: p.manager.GetClient(), Configuration: configurationName,
		ProbeNamespace: o.controllers.probeNamespace,
		Service:        client.ObjectKey{Namespace: o.controllers.leaseNamespace(), Name: o.serving.service},
		Pod:            os.Getenv("POD_NAME"), Address: os.Getenv("POD_IP"),
		Leaving: p.stopping, Metrics: arming.NewMetrics(metrics.Registry), Now: time.Now,
		Events: p.manager.GetEventRecorder("portcullis"),
	}
}

// newPoolControllers returns what reconciles PortClaims, and what writes the status of pools and policies.
func newPoolControllers(manager ctrl.Manager, settings *extract.Settings) (*claims.Controller, *status.Controller, error) {
	c, err := claims.New(manager, claims.Options{
		NodePortRange: settings.Check.NodePortRange, Metrics: claims.NewMetrics(metrics.Registry), Now: time.Now,
	})
	if err != nil {
		return nil, nil, err
	}
	options := status.Options{NodePortRange: settings.Check.NodePortRange, Metrics: status.NewMetrics(metrics.Registry)}
	for _, r := range settings.Check.Reserved {
		options.Reserved = append(options.Reserved, r.Socket.Port)
	}
	s, err := status.New(manager, options)
	return c, s, err
}

func (o *controllerOptions) leaseNamespace() string {
	account, _ := os.ReadFile(accountNamespace) // outside of a pod there is none
	return cmp.Or(o.namespace, os.Getenv("POD_NAMESPACE"), strings.TrimSpace(string(account)), cli.SystemNamespace)
}
