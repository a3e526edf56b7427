package controller

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/certificate"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
)

const (
	armedPrefix = "validate-"            // of the hooks that are armed; a guard stays Ignore
	armEvery    = 2 * time.Second        // how often the configuration is looked at
	probeEvery  = 5 * time.Minute        // how often it is tried whether refusals still come, once they did
	probeName   = "portcullis-probe"     // of the object that is tried
	looks       = 2                      // that a replica must find itself alone
	lookEvery   = 200 * time.Millisecond // between them
	disarmTime  = 5 * time.Second        // for all requests that disarming needs
	disarmSeen  = 500 * time.Millisecond // for the API servers to see it
)

// Arming sets failurePolicy Fail in the ValidatingWebhookConfiguration once it is proved that refusals come: a dry run
// of an object that must be refused has been refused, through the API server, the Service, TLS and a replica. Before
// that, and when the last replica leaves, it is Ignore: a replica that is not there must not stand in anybody's way. A replica
// that was there and cannot be reached any more stays armed: that is what Fail means. Every replica has one; Lead is
// for a Leader.
type Arming struct {
	Reader client.Reader // of the API server itself
	Writer client.Client
	// Configuration is the name of the ValidatingWebhookConfiguration.
	Configuration string
	// ProbeNamespace is where the dry run is made: a namespace that is judged.
	ProbeNamespace string
	// Service is what stands before the replicas, and Pod the name of this one, or Address its address.
	Service      client.ObjectKey
	Pod, Address string
	// Leaving is closed when this replica has been told to stop: it no longer arms.
	Leaving <-chan struct{}
	Metrics *ArmingMetrics
	Events  events.EventRecorder // nil: none are written
	Now     func() time.Time

	blocked string // what refused the last dry run before the webhook was asked
}

// ArmingMetrics tells what the leader knows.
type ArmingMetrics struct {
	armed   prometheus.Gauge
	refused prometheus.Gauge
	blocked *prometheus.GaugeVec
}

// NewArmingMetrics makes the metrics of Arming and registers them.
func NewArmingMetrics(registry prometheus.Registerer) *ArmingMetrics {
	m := &ArmingMetrics{
		armed: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "portcullis_webhook_armed", Help: "1 if the validating webhook configuration has failurePolicy Fail, from the leader; 0 on the others.",
		}),
		refused: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "portcullis_probe_last_refusal_timestamp_seconds",
			Help: "When the self-test, a dry run that must be rejected, was last rejected through the API server, from the leader; 0 on the others.",
		}),
	}
	m.blocked = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "portcullis_probe_blocked",
		Help: "1 for the component (another webhook, an admission policy) that rejects the self-test before this webhook does, so that failurePolicy stays Ignore; from the leader.",
	}, []string{"component"})
	m.setBlocked("")
	registry.MustRegister(m.armed, m.refused, m.blocked)
	return m
}

// setBlocked shows the component that is in the way; "" for none, which is 0 without a label.
func (m *ArmingMetrics) setBlocked(by string) {
	m.blocked.Reset()
	m.blocked.WithLabelValues(by).Set(boolean(by != ""))
}

// Lead arms, and arms again when somebody applied the manifests anew, until ctx ends.
func (a *Arming) Lead(ctx context.Context) {
	defer a.Metrics.armed.Set(0)
	defer a.Metrics.refused.Set(0)
	defer a.Metrics.setBlocked("")
	var told complaint
	var proved time.Time
	for {
		select {
		case <-a.Leaving:
			return
		default:
		}
		err := a.arm(ctx, &proved)
		told.about(ctx, err, "Arming the webhook", "configuration", a.Configuration)
		if !sleep(ctx, armEvery) {
			return
		}
	}
}

// arm proves that refusals come, now and then, and arms if they do.
func (a *Arming) arm(ctx context.Context, proved *time.Time) error {
	configuration := &admissionregistrationv1.ValidatingWebhookConfiguration{}
	if err := a.Reader.Get(ctx, client.ObjectKey{Name: a.Configuration}, configuration); err != nil {
		a.Metrics.armed.Set(0)
		return fmt.Errorf("reading the ValidatingWebhookConfiguration: %w", err)
	}
	armed := !setPolicy(configuration, admissionregistrationv1.Fail)
	a.Metrics.armed.Set(boolean(armed))
	if armed && a.Now().Sub(*proved) < probeEvery {
		return nil
	}
	err := a.probe(ctx)
	a.report(configuration, err)
	if err != nil {
		return err
	}
	*proved = a.Now()
	a.Metrics.refused.Set(float64(proved.Unix()))
	if armed || configuration.Annotations[v1alpha1.HoldAnnotation] == "true" {
		return nil
	}
	select {
	case <-a.Leaving: // while the dry run was under way: the last replica disarms
		return nil
	default:
	}
	if err := a.Writer.Update(ctx, configuration, fieldOwner); err != nil {
		return fmt.Errorf("writing failurePolicy: %w", err)
	}
	a.Metrics.armed.Set(1)
	logf.FromContext(ctx).Info("the webhook is armed: what it cannot be asked about is refused", "configuration", a.Configuration)
	return nil
}

// setPolicy sets failurePolicy of the hooks that are armed, and reports whether that changed anything.
func setPolicy(configuration *admissionregistrationv1.ValidatingWebhookConfiguration, policy admissionregistrationv1.FailurePolicyType) bool {
	changed := false
	for i := range configuration.Webhooks {
		w := &configuration.Webhooks[i]
		if strings.HasPrefix(w.Name, armedPrefix) && (w.FailurePolicy == nil || *w.FailurePolicy != policy) {
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

// NewProbe returns what must be refused by the webhook, for a dry run, and by nobody else if it can be helped: its pods ask
// for a host port by the name of a container port that they do not have (PC0314). They have no host port, and comply with
// the restricted Pod Security Standard. A template is what only a validating webhook sees.
func NewProbe(namespace string) *appsv1.Deployment {
	labels := map[string]string{"app.kubernetes.io/name": probeName}
	probe := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{
		Namespace: namespace, Name: probeName, Labels: labels, Annotations: map[string]string{v1alpha1.ProbeAnnotation: "true"},
	}}
	probe.Spec.Replicas = new(int32)
	probe.Spec.Selector = &metav1.LabelSelector{MatchLabels: labels}
	probe.Spec.Template.Labels = labels
	probe.Spec.Template.Annotations = map[string]string{extract.HostPortAnnotation + "probe": "auto"}
	small := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1m"), corev1.ResourceMemory: resource.MustParse("1Mi")}
	probe.Spec.Template.Spec.AutomountServiceAccountToken = new(false)
	probe.Spec.Template.Spec.SecurityContext = &corev1.PodSecurityContext{
		RunAsNonRoot: new(true), RunAsUser: new(int64(65532)), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	probe.Spec.Template.Spec.Containers = []corev1.Container{{
		Name: "probe", Image: "registry.k8s.io/pause:3.10", Resources: corev1.ResourceRequirements{Requests: small, Limits: small},
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true),
			Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
	}}
	return probe
}

// probe returns nil if a dry run of what must be refused was refused by us.
func (a *Arming) probe(ctx context.Context) error {
	err := a.Writer.Create(ctx, NewProbe(a.ProbeNamespace), client.DryRunAll, fieldOwner)
	if err == nil {
		return fmt.Errorf("a dry run of a Deployment that must be refused was not: the API server does not ask the webhook, or not about the namespace %s", a.ProbeNamespace)
	}
	switch by := RefusedBy(err); {
	case by == Itself:
		return nil
	case by != "":
		return fmt.Errorf("%s answers the dry run of Deployment %s/%s before this webhook is asked, so that it cannot arm; exempt that Deployment from it: %w", by, a.ProbeNamespace, probeName, err)
	}
	return fmt.Errorf("a dry run of a Deployment that must be refused, by the webhook: %w", err)
}

// Itself is what RefusedBy returns for a refusal by the webhook that judges the probe.
const Itself = "webhook validate-workloads." + v1alpha1.Group

// How the API server words a refusal: k8s.io/apiserver pkg/admission/plugin/webhook/errors/statuserror.go and
// pkg/admission/plugin/policy/validating/plugin.go; and that a webhook with failurePolicy Fail does not answer.
var (
	webhookPattern = regexp.MustCompile(`admission webhook "([^"]+)" denied the request`)
	policyPattern  = regexp.MustCompile(`ValidatingAdmissionPolicy '([^']+)' with binding`)
	failedPattern  = regexp.MustCompile(`failed calling webhook "([^"]+)"`)
)

// RefusedBy returns the component that refused the dry run of a probe, "webhook NAME" or "ValidatingAdmissionPolicy NAME";
// "" if it was none, but the API server itself, RBAC or the network.
func RefusedBy(err error) string {
	message := err.Error()
	if m := webhookPattern.FindStringSubmatch(message); m != nil {
		if by := "webhook " + m[1]; by != Itself || apierrors.IsInvalid(err) {
			return by
		}
		return ""
	}
	if m := policyPattern.FindStringSubmatch(message); m != nil {
		return "ValidatingAdmissionPolicy " + m[1]
	}
	if m := failedPattern.FindStringSubmatch(message); m != nil && "webhook "+m[1] != Itself {
		return "webhook " + m[1]
	}
	return ""
}

// report says in metrics, and once in an event, who keeps the webhook from arming.
func (a *Arming) report(configuration *admissionregistrationv1.ValidatingWebhookConfiguration, err error) {
	by := ""
	if err != nil {
		by = RefusedBy(err)
	}
	if by == a.blocked {
		return
	}
	a.blocked = by
	a.Metrics.setBlocked(by)
	if by != "" && a.Events != nil {
		a.Events.Eventf(configuration, nil, corev1.EventTypeWarning, "ProbeBlocked", "Arming", "%s", certificate.Redacted(err.Error()))
	}
}

// Leave is for a replica that has been told to stop, as long as it still serves. If no other replica is ready it sets
// failurePolicy Ignore, at once: what the API server cannot ask any more would be refused. An update starts a replica
// before it stops one, but the Service may be told of it a little later: one look does not decide.
func (a *Arming) Leave(ctx context.Context, serves time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, serves+disarmTime)
	defer cancel()
	var told complaint
	alone := 0
	for over := a.Now().Add(serves); alone < looks; {
		others, err := a.others(ctx)
		told.about(ctx, err, "Finding out whether this is the last replica")
		if err == nil && others == 0 {
			alone++
		} else {
			alone = 0
		}
		if alone < looks && (a.Now().After(over) || !sleep(ctx, lookEvery)) {
			return // others go on, or failurePolicy stays as it is because nothing is known
		}
	}
	if err := a.disarm(ctx); err != nil {
		logf.FromContext(ctx).Error(err, "Disarming the webhook, as the last replica", "configuration", a.Configuration)
		return
	}
	logf.FromContext(ctx).Info("the last replica leaves: the webhook is disarmed", "configuration", a.Configuration)
	sleep(ctx, disarmSeen)
}

func (a *Arming) disarm(ctx context.Context) error {
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		configuration := &admissionregistrationv1.ValidatingWebhookConfiguration{}
		if err := a.Reader.Get(ctx, client.ObjectKey{Name: a.Configuration}, configuration); err != nil {
			return client.IgnoreNotFound(err)
		}
		if !setPolicy(configuration, admissionregistrationv1.Ignore) {
			return nil
		}
		return a.Writer.Update(ctx, configuration, fieldOwner)
	})
}

// others counts the replicas that the Service leads to, without this one.
func (a *Arming) others(ctx context.Context) (int, error) {
	if a.Pod == "" && a.Address == "" {
		return 0, fmt.Errorf("neither POD_NAME nor POD_IP says which endpoint is this replica")
	}
	endpoints, err := endpointsOf(ctx, a.Reader, a.Service)
	n := 0
	for _, e := range endpoints {
		if !a.isSelf(&e) && (e.Conditions.Ready == nil || *e.Conditions.Ready) {
			n++
		}
	}
	return n, err
}

// endpointsOf returns the endpoints of a Service, ready or not.
func endpointsOf(ctx context.Context, reader client.Reader, service client.ObjectKey) ([]discoveryv1.Endpoint, error) {
	var slices discoveryv1.EndpointSliceList
	err := reader.List(ctx, &slices, client.InNamespace(service.Namespace), client.MatchingLabels{discoveryv1.LabelServiceName: service.Name})
	if err != nil {
		return nil, fmt.Errorf("listing the EndpointSlices of Service %s: %w", service, err)
	}
	var all []discoveryv1.Endpoint
	for _, s := range slices.Items {
		all = append(all, s.Endpoints...)
	}
	return all, nil
}

func (a *Arming) isSelf(e *discoveryv1.Endpoint) bool {
	if e.TargetRef != nil && e.TargetRef.Name == a.Pod {
		return true
	}
	return len(e.Addresses) > 0 && e.Addresses[0] == a.Address
}
