package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/zapr"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	crwebhook "sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	configv1alpha1 "github.com/portcullis-k8s/portcullis/api/config/v1alpha1"
	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/observe"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/scheduling"
	"github.com/portcullis-k8s/portcullis/webhook"
)

// serveOptions are the flags of `portcullis serve`.
type serveOptions struct {
	configFile   string
	kubeconfig   string
	certDir      string
	host         string
	port         int
	metricsAddr  string
	healthAddr   string
	drain        time.Duration
	rebuildEvery time.Duration
	verbose      bool
	controllers  controllerOptions
}

func newServe() *cobra.Command {
	o := &serveOptions{}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the admission webhook, and the extender for schedulers",
		Long: `Run the admission webhook: it watches the cluster, and answers the API server's admission reviews over TLS with the
certificate tls.crt and key tls.key in --cert-dir, which are read again when they change. On the same port it answers a
kube-scheduler whose configuration names it as an extender, under /scheduler. It is ready, at /readyz of
--health-address, once it has seen everything in the cluster. When it is told to stop it is not ready at once, and goes
on answering for --drain-delay, so that the API server's connections move elsewhere first.`,
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
	f.StringVar(&o.certDir, "cert-dir", "/var/run/portcullis/certs", "folder of tls.crt and tls.key")
	f.StringVar(&o.host, "host", "", "address to serve the webhook on; empty for all")
	f.IntVar(&o.port, "port", 9443, "port to serve the webhook on")
	f.StringVar(&o.metricsAddr, "metrics-address", ":8080", "where to serve metrics; 0 for nowhere")
	f.StringVar(&o.healthAddr, "health-address", ":8081", "where to serve /healthz and /readyz; 0 for nowhere")
	f.DurationVar(&o.drain, "drain-delay", 5*time.Second, "how long to go on serving after the signal to stop")
	f.DurationVar(&o.rebuildEvery, "rebuild-every", 10*time.Minute, "how often to compare the ledger with the cluster; 0 for never")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "log more")
	o.controllers.addTo(cmd)
	return cmd
}

func (o *serveOptions) run(ctx context.Context) error {
	logger, err := o.logger()
	if err != nil {
		return err
	}
	ctrl.SetLogger(logger)
	settings, err := readSettings(o.configFile)
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
	manager, stopping, err := o.manager(config, settings, pools)
	if err != nil {
		return err
	}
	return manager.Start(logf.IntoContext(drained(ctx, o.drain, stopping), logger))
}

func (o *serveOptions) logger() (logr.Logger, error) {
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

// readSettings reads a configuration file; without one the defaults hold.
func readSettings(path string) (*extract.Settings, error) {
	var data []byte
	if path != "" {
		var err error
		if data, err = os.ReadFile(path); err != nil {
			return nil, fmt.Errorf("reading the configuration: %w", err)
		}
	}
	config, err := configv1alpha1.Load(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	settings, err := extract.NewSettings(config)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return settings, nil
}

func (o *serveOptions) restConfig() (*rest.Config, error) {
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
	config.UserAgent = "portcullis/" + programVersion()
	config.QPS, config.Burst = 500, 1000 // each number of a pool is a request
	return config, nil
}

// scheme knows the kinds that the gate judges and the observer watches.
func scheme() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, batchv1.AddToScheme, networkingv1.AddToScheme, v1alpha1.AddToScheme,
	} {
		if err := add(s); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// manager puts the observer, the gate and its server together. The channel that it returns is to be closed when the
// process is told to stop: from then on it is not ready.
func (o *serveOptions) manager(config *rest.Config, settings *extract.Settings, pools bool) (ctrl.Manager, chan struct{}, error) {
	known, err := scheme()
	if err != nil {
		return nil, nil, err
	}
	manager, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: known, Cache: observe.CacheOptions(),
		WebhookServer: crwebhook.NewServer(crwebhook.Options{Host: o.host, Port: o.port, CertDir: o.certDir}),
		Metrics:       metricsserver.Options{BindAddress: o.metricsAddr}, HealthProbeBindAddress: o.healthAddr,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("reaching the cluster: %w", err)
	}
	var gate *webhook.Gate
	observer := observe.New(manager.GetCache(), observe.Options{
		NodePorts: settings.NodePorts, NodePortRange: settings.Check.NodePortRange, Pools: pools, RebuildEvery: o.rebuildEvery, Metrics: observe.NewMetrics(metrics.Registry),
		Seen: func(owner ports.Ref, claims []ports.Claim, gone bool) { gate.Settle(owner, claims, gone) },
	})
	claims := webhook.NewClaims(manager.GetClient(), manager.GetAPIReader(), observer.Claim, time.Now)
	gate = webhook.New(observer, claims, settings, known, webhook.NewMetrics(metrics.Registry), time.Now)
	server := manager.GetWebhookServer() // the manager starts it only if it was asked for
	for path, handler := range gate.Hooks() {
		server.Register(path, &admission.Webhook{Handler: handler})
	}
	extender := scheduling.NewExtender(observer, settings, scheduling.NewExtenderMetrics(metrics.Registry), time.Now)
	for path, handler := range extender.Handlers() {
		server.Register(path, handler)
	}
	stopping := make(chan struct{})
	ready := func(*http.Request) error {
		select {
		case <-stopping:
			return errors.New("stopping")
		default:
		}
		if !observer.IsComplete() {
			return errors.New("the view of the cluster is not complete yet")
		}
		return server.StartedChecker()(nil)
	}
	if pools {
		err = addControllers(manager, settings, o.controllers)
	}
	return manager, stopping, errors.Join(
		err,
		manager.Add(observer),
		manager.AddHealthzCheck("ping", healthz.Ping),
		manager.AddReadyzCheck("gate", ready),
	)
}

// drained returns a context that ends delay after ctx does; stopping is closed in between.
func drained(ctx context.Context, delay time.Duration, stopping chan<- struct{}) context.Context {
	later, cancel := context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		<-ctx.Done()
		close(stopping)
		time.Sleep(delay)
		cancel()
	}()
	return later
}
