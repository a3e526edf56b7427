// Package arming decides the failurePolicy of the validating webhooks. A webhook is armed when its failurePolicy is Fail: the
// API server then rejects what it cannot ask about. The leader's Controller arms them after a self-test, and the last
// replica that stops disarms them:
//
//	Lead:   self-test, a dry run of NewProbe -> rejected by this webhook? -> Fail
//	                                         -> rejected by another?      -> RejectedBy: metric, event
//	Leave:  no other replica is ready?       -> Ignore
//
// A self-test passes through the API server, the Service, TLS and a replica. Until it succeeds failurePolicy is Ignore, so
// that a webhook that was never reachable blocks nobody. Replicas that were reachable once and no longer are leave it at
// Fail: that is what Fail is for. Webhooks whose name does not begin with "validate-" stay as they are.
package arming

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/certificate"
	"github.com/portcullis-k8s/portcullis/pkg/controller/internal/periodic"
	"github.com/portcullis-k8s/portcullis/pkg/hooks"
)

const (
	fieldOwner = client.FieldOwner("portcullis-controller")

	armInterval  = 2 * time.Second        // between two reads of the configuration
	testInterval = 5 * time.Minute        // between two self-tests, once one has succeeded
	lookCount    = 2                      // looks in a row at which a replica must find itself alone
	lookInterval = 200 * time.Millisecond // between two looks
	disarmTime   = 5 * time.Second        // for all requests that disarming needs
	propagation  = 500 * time.Millisecond // until the API servers use a failurePolicy that was written
)

// Controller arms and disarms the webhooks. Every replica has one: its Lead is a task of the leader, its Leave is for any
// replica that stops.
type Controller struct {
	Reader client.Reader // reads from the API server, not from a cache
	Writer client.Client
	// Configuration is the name of the ValidatingWebhookConfiguration.
	Configuration string
	// ProbeNamespace is where the dry run is made: a namespace that the webhook checks.
	ProbeNamespace string
	// Service leads to the replicas. Pod and Address are the name and the address of this one; either is enough.
	Service      client.ObjectKey
	Pod, Address string
	// Leaving is closed when this replica is to stop: it no longer arms.
	Leaving <-chan struct{}
	Metrics *Metrics
	Events  events.EventRecorder // may be nil
	Now     func() time.Time

	blocked string // the component that rejected the last self-test before the webhook was asked
}

// Metrics are those of the leader.
type Metrics struct {
	armed    prometheus.Gauge
	rejected prometheus.Gauge
	blocked  *prometheus.GaugeVec
}

// NewMetrics makes the metrics of a Controller and registers them.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	m := &Metrics{
		armed: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "portcullis_webhook_armed", Help: "1 if the validating webhook configuration has failurePolicy Fail, from the leader; 0 on the others.",
		}),
		rejected: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "portcullis_probe_last_refusal_timestamp_seconds",
			Help: "When the self-test, a dry run that must be rejected, was last rejected through the API server, from the leader; 0 on the others.",
		}),
	}
	m.blocked = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "portcullis_probe_blocked",
		Help: "1 for the component (another webhook, an admission policy) that rejects the self-test before this webhook does, so that failurePolicy stays Ignore; from the leader.",
	}, []string{"component"})
	m.setBlocked("")
	registry.MustRegister(m.armed, m.rejected, m.blocked)
	return m
}

// setBlocked sets the component that is in the way; "" for none, which is 0 without a label.
func (m *Metrics) setBlocked(component string) {
	m.blocked.Reset()
	m.blocked.WithLabelValues(component).Set(boolean(component != ""))
}

// Lead arms, and arms again after somebody has applied the manifests anew, until ctx ends.
func (c *Controller) Lead(ctx context.Context) {
	defer c.Metrics.armed.Set(0)
	defer c.Metrics.rejected.Set(0)
	defer c.Metrics.setBlocked("")
	var reporter periodic.ErrorReporter
	var succeeded time.Time
	for {
		select {
		case <-c.Leaving:
			return
		default:
		}
		err := c.arm(ctx, &succeeded)
		reporter.Report(ctx, err, "Arming the webhook", "configuration", c.Configuration)
		if !periodic.Sleep(ctx, armInterval) {
			return
		}
	}
}

// arm runs the self-test if it is due, and sets failurePolicy Fail if the test succeeds. succeeded is when it last did.
func (c *Controller) arm(ctx context.Context, succeeded *time.Time) error {
	configuration := &admissionregistrationv1.ValidatingWebhookConfiguration{}
	if err := c.Reader.Get(ctx, client.ObjectKey{Name: c.Configuration}, configuration); err != nil {
		c.Metrics.armed.Set(0)
		return fmt.Errorf("reading the ValidatingWebhookConfiguration: %w", err)
	}
	armed := !setPolicy(configuration, admissionregistrationv1.Fail)
	c.Metrics.armed.Set(boolean(armed))
	if armed && c.Now().Sub(*succeeded) < testInterval {
		return nil
	}
	err := c.selfTest(ctx)
	c.reportBlocked(configuration, err)
	if err != nil {
		return err
	}
	*succeeded = c.Now()
	c.Metrics.rejected.Set(float64(succeeded.Unix()))
	if armed || configuration.Annotations[v1alpha1.HoldAnnotation] == "true" {
		return nil
	}
	select {
	case <-c.Leaving: // during the dry run: the last replica disarms
		return nil
	default:
	}
	if err := c.Writer.Update(ctx, configuration, fieldOwner); err != nil {
		return fmt.Errorf("writing failurePolicy: %w", err)
	}
	c.Metrics.armed.Set(1)
	logf.FromContext(ctx).Info("The webhook is armed: the API server rejects what it cannot ask about", "configuration", c.Configuration)
	return nil
}

// setPolicy sets failurePolicy of the webhooks that are armed, and reports whether that changed anything.
func setPolicy(configuration *admissionregistrationv1.ValidatingWebhookConfiguration, policy admissionregistrationv1.FailurePolicyType) bool {
	changed := false
	for i := range configuration.Webhooks {
		w := &configuration.Webhooks[i]
		if strings.HasPrefix(w.Name, hooks.ValidatePrefix) && (w.FailurePolicy == nil || *w.FailurePolicy != policy) {
			w.FailurePolicy, changed = &policy, true
		}
	}
	return changed
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// reportBlocked names in the metrics, and once in an event, the component that rejects the self-test first.
func (c *Controller) reportBlocked(configuration *admissionregistrationv1.ValidatingWebhookConfiguration, err error) {
	component := ""
	if err != nil {
		component = RejectedBy(err)
	}
	if component == c.blocked {
		return
	}
	c.blocked = component
	c.Metrics.setBlocked(component)
	if component != "" && c.Events != nil {
		c.Events.Eventf(configuration, nil, corev1.EventTypeWarning, "ProbeBlocked", "Arming", "%s", certificate.Redacted(err.Error()))
	}
}

// Leave is for a replica that is to stop, and still serves for as long as serves says. If no other replica is ready it sets
// failurePolicy Ignore at once: the API server would reject what it can no longer ask about. A rollout starts a replica
// before it stops one, but the Service may list it a little later, so that one look is not enough.
func (c *Controller) Leave(ctx context.Context, serves time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, serves+disarmTime)
	defer cancel()
	var reporter periodic.ErrorReporter
	alone := 0
	for end := c.Now().Add(serves); alone < lookCount; {
		others, err := c.otherReplicas(ctx)
		reporter.Report(ctx, err, "Finding out whether this is the last replica")
		if err == nil && others == 0 {
			alone++
		} else {
			alone = 0
		}
		if alone < lookCount && (c.Now().After(end) || !periodic.Sleep(ctx, lookInterval)) {
			return // other replicas go on, or failurePolicy stays because their number is unknown
		}
	}
	if err := c.disarm(ctx); err != nil {
		logf.FromContext(ctx).Error(err, "Disarming the webhook, as the last replica", "configuration", c.Configuration)
		return
	}
	logf.FromContext(ctx).Info("The last replica leaves: the webhook is disarmed", "configuration", c.Configuration)
	periodic.Sleep(ctx, propagation)
}

func (c *Controller) disarm(ctx context.Context) error {
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		configuration := &admissionregistrationv1.ValidatingWebhookConfiguration{}
		if err := c.Reader.Get(ctx, client.ObjectKey{Name: c.Configuration}, configuration); err != nil {
			return client.IgnoreNotFound(err)
		}
		if !setPolicy(configuration, admissionregistrationv1.Ignore) {
			return nil
		}
		return c.Writer.Update(ctx, configuration, fieldOwner)
	})
}

// otherReplicas counts the ready endpoints of the Service that are not this replica.
func (c *Controller) otherReplicas(ctx context.Context) (int, error) {
	if c.Pod == "" && c.Address == "" {
		return 0, fmt.Errorf("neither POD_NAME nor POD_IP says which endpoint is this replica")
	}
	var slices discoveryv1.EndpointSliceList
	err := c.Reader.List(ctx, &slices, client.InNamespace(c.Service.Namespace), client.MatchingLabels{discoveryv1.LabelServiceName: c.Service.Name})
	if err != nil {
		return 0, fmt.Errorf("listing the EndpointSlices of Service %s: %w", c.Service, err)
	}
	n := 0
	for _, s := range slices.Items {
		for _, e := range s.Endpoints {
			if !c.isSelf(&e) && (e.Conditions.Ready == nil || *e.Conditions.Ready) {
				n++
			}
		}
	}
	return n, nil
}

func (c *Controller) isSelf(e *discoveryv1.Endpoint) bool {
	if e.TargetRef != nil && e.TargetRef.Name == c.Pod {
		return true
	}
	return len(e.Addresses) > 0 && e.Addresses[0] == c.Address
}
