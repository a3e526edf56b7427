// Package serve has the command serve: the admission webhook, the extender for schedulers, and what one leader writes.
//
// options.assemble puts them into one process of controller-runtime. pkg/observe watches the cluster; webhook answers reviews
// by what it sees, and by what other replicas have let through (pkg/journal); one replica writes claims, status,
// certificates and failurePolicy (the packages below pkg/controller).
//
// A review comes through a reception, which reads its body within limits, and through tracing, which makes a span of it, to
// the handler of its hook. Each file beside serve.go has the flags of one part: the port and its certificate (serving.go),
// the extender, metrics, traces and what the leader does (controllers.go).
package serve

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/zapr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	crwebhook "sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/cli"
	"github.com/portcullis-k8s/portcullis/pkg/controller/arming"
	certs "github.com/portcullis-k8s/portcullis/pkg/controller/certificates"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/pkg/journal"
	"github.com/portcullis-k8s/portcullis/pkg/observe"
	"github.com/portcullis-k8s/portcullis/scheduling"
	"github.com/portcullis-k8s/portcullis/webhook"
)

// options are the flags of `portcullis serve`.
type options struct {
	version      string // of the program
	configFile   string
	kubeconfig   string
	healthAddr   string
	pprofAddr    string
	drain        time.Duration
	rebuildEvery time.Duration
	verbose      bool
	serving      servingOptions
	extender     extenderOptions
	metrics      metricsOptions
	tracing      tracingOptions
	controllers  controllerOptions
}

// Command returns the command serve.
func Command(version string) *cobra.Command {
	o := &options{version: version}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the admission webhook, and the extender for schedulers",
		Long: `Run the admission webhook: it watches the cluster, and answers the API server's admission reviews over TLS with a
certificate of its own making, or with that in --cert-dir. With --extender-port it answers a kube-scheduler whose
configuration names it as an extender, under /scheduler, if it has a client certificate. It is ready, at /readyz of --health-address, once it has seen
everything in the cluster, has read the journal, and its own TLS answers. When it is stopped it becomes not ready at once, and goes on
answering for --drain-delay, so that the API server's connections move elsewhere first.

With --arm, one of the replicas switches failurePolicy to Fail after a self-test: a known-bad Deployment is rejected on a
server-side dry run. The last replica that stops sets it back to Ignore.

With --secret-path, requests are answered only below a path that the API server knows from the webhook configurations.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return o.run(ctx)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.configFile, "config", "", "configuration file; without it the defaults hold")
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig file; without it the pod's service account, $KUBECONFIG or ~/.kube/config")
	f.StringVar(&o.healthAddr, "health-address", ":8081", "where to serve /healthz and /readyz; 0 for nowhere")
	f.StringVar(&o.pprofAddr, "pprof-address", "0", "where to serve Go's profiles, 127.0.0.1:6060 for example; 0 for nowhere")
	f.DurationVar(&o.drain, "drain-delay", 5*time.Second, "how long to go on serving after the signal to stop")
	f.DurationVar(&o.rebuildEvery, "rebuild-every", 10*time.Minute, "how often to compare the ledger with the cluster; 0 for never")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "log more")
	o.serving.addTo(cmd)
	o.extender.addTo(cmd)
	o.metrics.addTo(cmd)
	o.tracing.addTo(cmd)
	o.controllers.addTo(cmd)
	return cmd
}

func (o *options) run(ctx context.Context) error {
	logger, err := o.logger()
	if err != nil {
		return err
	}
	ctrl.SetLogger(logger)
	if err := errors.Join(o.serving.validate(), o.extender.validate(), o.tracing.validate()); err != nil {
		return err
	}
	settings, err := cli.ReadSettings(o.configFile)
	if err != nil {
		return err
	}
	config, err := o.restConfig()
	if err != nil {
		return err
	}
	pools, err := hasPools(ctx, config)
	if err != nil {
		return err
	}
	traces, err := o.tracing.start(ctx, o.version, logger)
	if err != nil {
		return err
	}
	p, err := o.assemble(config, settings, pools, traces)
	if err != nil {
		return err
	}
	return p.manager.Start(p.drained(logf.IntoContext(ctx, logger), o.drain))
}

func (o *options) logger() (logr.Logger, error) {
	config := zap.NewProductionConfig()
	if o.verbose {
		config.Level.SetLevel(zap.DebugLevel)
	}
	z, err := config.Build()
	if err != nil {
		return logr.Logger{}, fmt.Errorf("setting up the log: %w", err)
	}
	return zapr.NewLogger(z), nil
}

func (o *options) restConfig() (*rest.Config, error) {
	var config *rest.Config
	var err error
	if o.kubeconfig != "" {
		config, err = clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	} else {
		config, err = ctrl.GetConfig()
	}
	if err != nil {
		return nil, fmt.Errorf("finding the cluster: %w", err)
	}
	config.UserAgent = cli.UserAgent(o.version)
	config.QPS, config.Burst = 500, 1000 // each number of a pool is a request
	return config, nil
}

// process is what serve runs.
type process struct {
	manager  ctrl.Manager
	stopping chan struct{}      // closed when the process has been told to stop: from then on it is not ready
	arming   *arming.Controller // nil if the webhook configurations are not ours to arm
}

// assemble puts the observer, the webhook, its server and what one replica writes together.
func (o *options) assemble(config *rest.Config, settings *extract.Settings, pools bool, traces *tracing) (*process, error) {
	known, err := cli.Scheme()
	if err != nil {
		return nil, err
	}
	p := &process{stopping: make(chan struct{})}
	var certificates *certs.Controller
	// The server is made with the manager, and its certificate after it.
	from := func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) { return certificates.Serving(hello) }
	configure, err := o.serving.configure(func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) { return from(hello) })
	if err != nil {
		return nil, err
	}
	p.manager, err = ctrl.NewManager(config, ctrl.Options{
		Scheme: known, Cache: observe.CacheOptions(),
		WebhookServer: crwebhook.NewServer(crwebhook.Options{Host: o.serving.host, Port: o.serving.port, TLSOpts: []func(*tls.Config){configure}}),
		Metrics:       o.metrics.server(), HealthProbeBindAddress: o.healthAddr, PprofBindAddress: o.pprofAddr,
	})
	if err != nil {
		return nil, fmt.Errorf("reaching the cluster: %w", err)
	}
	expiry := certs.NewExpiryMetric(metrics.Registry)
	if certificates = o.serving.certificates(p.manager, o.controllers.leaseNamespace(), expiry); certificates == nil {
		if from, err = o.serving.files(p.manager, expiry); err != nil {
			return nil, err
		}
	}
	if traces != nil {
		err = p.manager.Add(traces)
	}
	refused := webhook.NewRefusedMetric(metrics.Registry)
	observer, handlers := o.serve(p.manager, settings, known, pools, traces, refused, o.serving.segments(certificates))
	extender, err3 := o.extender.server(observer, settings, scheduling.NewExtenderMetrics(metrics.Registry), refused, o.serving.minVersion, func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) { return from(hello) })
	if extender != nil {
		err3 = errors.Join(err3, p.manager.Add(extender))
	}
	host, err2 := os.Hostname()
	replicas := journal.New(p.manager.GetAPIReader(), p.manager.GetClient(), o.controllers.leaseNamespace(), host+"_"+rand.Text(), handlers.Merge, time.Now)
	handlers.UseJournal(replicas)
	return p, errors.Join(
		err, err2, err3,
		o.addWriters(p, settings, pools, certificates),
		p.manager.Add(observer),
		p.manager.Add(handlers),
		p.manager.Add(replicas),
		p.manager.AddHealthzCheck("ping", healthz.Ping),
		p.manager.AddReadyzCheck("webhook", p.ready(observer, replicas, o.serving.answers(certificates))),
	)
}

// serve registers the webhook and the extender at the manager's server, and returns what they see the cluster by, and the webhook.
func (o *options) serve(manager ctrl.Manager, settings *extract.Settings, known *runtime.Scheme, pools bool, traces *tracing, refused *prometheus.CounterVec, accepts func(segment string) bool) (observer *observe.Observer, handlers *webhook.Handlers) {
	observer = observe.New(manager.GetCache(), observe.Options{
		NodePorts: settings.NodePorts, Trusted: settings.Check.Trusted, NodePortRange: settings.Check.NodePortRange, Pools: pools, RebuildEvery: o.rebuildEvery, Metrics: observe.NewMetrics(metrics.Registry),
		Live: manager.GetAPIReader(), Scheme: known,
		Seen: func(seen observe.Seen) { handlers.Settle(seen) },
	})
	claims := webhook.NewClaims(manager.GetClient(), manager.GetAPIReader(), observer.Claim, time.Now)
	webhook.NewBuildMetric(metrics.Registry, o.version)
	handlers = webhook.New(observer, claims, settings, known, webhook.NewMetrics(metrics.Registry), time.Now)
	server := manager.GetWebhookServer() // the manager starts it only if it was asked for
	reviews := newReception(o.serving.maxRequests, maxReview, maxBodies, refused)
	reviews.heavy = semaphore.NewWeighted(maxHeavy)
	for path, handler := range handlers.Hooks() {
		reviews.register(server, path, accepts, traces.traced(hooks.HandlerName(path), handler))
	}
	return observer, handlers
}

// ready is what /readyz asks: whether requests should come here.
func (p *process) ready(observer *observe.Observer, replicas *journal.Journal, answers func(context.Context) error) healthz.Checker {
	return func(r *http.Request) error {
		select {
		case <-p.stopping:
			return errors.New("stopping")
		default:
		}
		if !observer.IsComplete() {
			return errors.New("the view of the cluster is not complete yet")
		}
		if !replicas.IsRead() {
			return errors.New("what other replicas let through has not been read yet")
		}
		return answers(r.Context())
	}
}

// drained returns a context that ends delay after ctx does, and not before the webhook is disarmed if this is the last
// replica.
func (p *process) drained(ctx context.Context, delay time.Duration) context.Context {
	later, cancel := context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer cancel()
		<-ctx.Done()
		close(p.stopping)
		over := time.After(delay)
		if p.arming != nil {
			p.arming.Leave(later, delay)
		}
		<-over
	}()
	return later
}
