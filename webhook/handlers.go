// Package webhook is the admission webhook: Handlers that check and complete what clients write. Package hooks has the
// configurations that bring them exactly the requests that matter; webhook/vap makes admission policies of the checks that
// need no state.
//
// A mutating hook checks before it writes, because the API server's own allocator and validation come before any
// validating hook; the validating hooks check what was chosen afterwards. All run the same checks against the same
// state: what the cluster shows (Cluster), and what is in flight, which is what was admitted and is not shown yet.
//
//	decode -> pkg/extract -> judge -> choose ports -> record -> agree    -> response
//	                                  (mutating)      open      admitted in flight
//	the watch shows the outcome, or a read finds that it is not stored   -> forgotten
//
// A handler answers from memory. It reads from the API server before it denies, where a name to be created seems to exist,
// where a controller may excuse its pods, and where a workload is scaled up from zero. It writes PortClaims (Claims), and
// tells the other replicas what it admits (Journal). CONTRIBUTING.md follows a review through all of it.
package webhook

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	"sigs.k8s.io/json"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/explain"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/observe"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// Cluster is what the webhook sees of the cluster; pkg/observe keeps it.
type Cluster interface {
	extract.EligibleNodes
	Snapshot() *ledger.Snapshot
	Evidence() *ledger.Snapshot // what pods listen on without declaring it
	// Shown returns an object as the watch shows it; nil: it shows none.
	Shown(ctx context.Context, ref ports.Ref) *observe.Seen
	// Read returns an object as the API server has it at this moment; nil: there is none.
	Read(ctx context.Context, ref ports.Ref) (*observe.Seen, error)
	Families() check.Families
	ServiceRanges() []netip.Prefix
	IsComplete() bool // false until everything that exists has been seen
	Restrictions
}

// Handlers answers admission reviews. Make one with New.
type Handlers struct {
	cluster  Cluster
	settings *extract.Settings
	strict   *extract.Settings // each code as its severity is: for probes
	plane    explain.Plane
	scheme   *runtime.Scheme
	metrics  *Metrics
	claims   *Claims
	journal  Journal // nil: there are no other replicas
	now      func() time.Time
	wait     func(context.Context, time.Duration) bool
	random   func() string // where the search for a number of a pool with the strategy Random begins

	repeats  repeats
	choosing sync.Mutex     // held while numbers are chosen, so that no two requests choose the same; guards booking
	booking  map[uint16]int // numbers that are being booked, by how many requests
	deciding sync.Mutex     // guards flight; nobody judges, chooses or waits while holding it
	flight   *flight
	reading  map[ports.Ref][]time.Time // when the reads began that are under way; guarded by deciding
}

// New returns a replica. now is the clock by which answers in flight are forgotten. Where there are no pools, claims are
// never asked.
func New(cluster Cluster, claims *Claims, settings *extract.Settings, scheme *runtime.Scheme, metrics *Metrics, now func() time.Time) *Handlers {
	strict := *settings
	strict.Check.Enforcement = nil
	return &Handlers{
		cluster: cluster, settings: settings, strict: &strict, scheme: scheme, metrics: metrics,
		claims: claims, booking: map[uint16]int{}, now: now, random: rand.Text, wait: sleep, flight: newFlight(now), reading: map[ports.Ref][]time.Time{}, plane: explain.PlaneOf(settings.ServiceProxy, settings.HostPorts, !settings.NodePorts.IPv4Loopback),
	}
}

// Hooks returns the handlers by the path at which they are served.
func (h *Handlers) Hooks() map[string]admission.Handler {
	return map[string]admission.Handler{
		hooks.PathMutatePods:       h.handler(hooks.PathMutatePods, h.mutatePod),
		hooks.PathMutateServices:   h.handler(hooks.PathMutateServices, h.mutateService),
		hooks.PathValidatePods:     h.handler(hooks.PathValidatePods, h.validatePod),
		hooks.PathValidateServices: h.handler(hooks.PathValidateServices, h.validateService),
		hooks.PathValidateWorkload: h.handler(hooks.PathValidateWorkload, h.validateWorkload),
		hooks.PathValidateScale:    h.handler(hooks.PathValidateScale, h.validateScale),
		hooks.PathValidateBindings: h.handler(hooks.PathValidateBindings, h.validateBinding),
	}
}

// What a handler may take to read and write: the shortest timeout of a hook is 2 seconds, but for updates of pods (guard-pod-labels) and
// bindings, which have one, and who is not answered in time learns nothing.
const (
	answerTime = 1700 * time.Millisecond
	guardTime  = 700 * time.Millisecond
)

func timeFor(req admission.Request) time.Duration {
	if req.Resource.Group == corev1.GroupName && req.Resource.Resource == "pods" && (req.Operation == admissionv1.Update || req.SubResource == "binding") {
		return guardTime
	}
	return answerTime
}

// handler counts and logs what answer decides. A request while the caches are incomplete is answered here.
func (h *Handlers) handler(path string, answer func(context.Context, admission.Request) decision) admission.Handler {
	hook := hooks.HandlerName(path)
	return admission.HandlerFunc(func(ctx context.Context, req admission.Request) admission.Response {
		start := time.Now()
		ctx, cancel := context.WithTimeout(ctx, timeFor(req))
		defer cancel()
		d := couldNotTell(h.settings, "its view of the cluster is not complete yet")
		if h.cluster.IsComplete() {
			d = answer(ctx, req)
		}
		response := d.response(req)
		h.metrics.observe(hook, req, d, time.Since(start))
		if d.verdict != check.Allowed {
			logf.FromContext(ctx).Info("judged", "hook", hook, "verdict", d.verdict.String(), "codes", codes(d.findings), "message", d.message(), "probe", d.probe)
		}
		return response
	})
}

// admit judges an object and, if it is let through and no dry run, remembers what it claims. It judges without a lock, and
// again if another request has meanwhile been let through with one of the same ports: of two that race one is refused.
func (h *Handlers) admit(ctx context.Context, in check.Input, owner ports.Owner, w *write) decision {
	for range admitRounds {
		base, flying, version := h.look()
		d := h.settleDenial(ctx, in, base, flying)
		if d.verdict == check.Denied || d.busy || w == nil {
			return d
		}
		made := *w
		made.isOpen = h.journal != nil
		if number, ok := h.record(owner, made, w.claims, version); ok {
			d.number = number
			return h.agree(ctx, d, in, owner, made)
		}
	}
	return later(h.settings, "other requests for its ports came first")
}

// admitRounds is how often an object is judged while others take its ports.
const admitRounds = 5

// look returns what there is to be judged against: the cluster, and what is in flight.
func (h *Handlers) look() (base, flying *ledger.Snapshot, version uint64) {
	h.deciding.Lock()
	defer h.deciding.Unlock()
	return h.cluster.Snapshot(), h.flight.ledger.Snapshot(), h.flight.version
}

// record remembers a write, and returns its number, unless a port of claims was recorded since the version that they were judged or
// chosen at.
func (h *Handlers) record(owner ports.Owner, w write, claims []ports.Claim, version uint64) (number uint64, ok bool) {
	h.deciding.Lock()
	defer h.deciding.Unlock()
	if h.flight.changed(claims, version) {
		return 0, false
	}
	return h.flight.record(owner, w), true
}

// judge runs every check on an object.
func (h *Handlers) judge(in check.Input) decision {
	in.Settings, in.Families = &h.settings.Check, h.cluster.Families()
	in.ServiceRanges, in.Evidence = h.cluster.ServiceRanges(), h.cluster.Evidence()
	h.restrict(&in)
	findings := h.plane.Check(in)
	return decision{settings: h.settings, findings: findings, verdict: h.settings.Check.Judge(findings)}
}

// decode reads the new and, for an update, the old object of a request.
func decode[T any, P interface {
	*T
	runtime.Object
}](req admission.Request) (object, old P, err error) {
	object = new(T)
	if err := decodeInto(req.Object.Raw, object, req); err != nil {
		return nil, nil, err
	}
	if len(req.OldObject.Raw) == 0 {
		return object, nil, nil
	}
	old = new(T)
	if err := decodeInto(req.OldObject.Raw, old, req); err != nil {
		return nil, nil, err
	}
	return object, old, nil
}

// decodeInto reads an object as the API server's own decoder does, but for looking through it a first time for its kind:
// the request tells that.
func decodeInto(raw []byte, object runtime.Object, req admission.Request) error {
	if len(raw) == 0 {
		return errors.New("there is no content to decode")
	}
	if err := json.UnmarshalCaseSensitivePreserveInts(raw, object); err != nil {
		return fmt.Errorf("decoding the object: %w", err)
	}
	if kind := object.GetObjectKind().GroupVersionKind(); kind.Kind != "" && kind.Kind != req.Kind.Kind {
		return fmt.Errorf("a request about %s brings an object of kind %s", req.Kind.Kind, kind.Kind)
	}
	return nil
}

func isDryRun(req admission.Request) bool { return req.DryRun != nil && *req.DryRun }

// named fills in the namespace, which the API server sends beside an object that leaves it out.
func named(object interface {
	GetNamespace() string
	SetNamespace(string)
}, req admission.Request) {
	if object.GetNamespace() == "" {
		object.SetNamespace(req.Namespace)
	}
}

func isService(req admission.Request) bool {
	return req.Resource.Group == corev1.GroupName && req.Resource.Resource == "services"
}

func schemaKind(req admission.Request) schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: req.Kind.Group, Version: req.Kind.Version, Kind: req.Kind.Kind}
}
