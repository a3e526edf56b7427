// Package audit applies objects one after the other to a ledger of what there is, and asks every question about each: of
// two that clash the later one is the offender and the earlier one its holder. Lint gives it manifests in their order; an
// audit gives it everything that exists, in the order in which it came to be.
package audit

import (
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/explain"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// Judge asks about one object after the other, each against the state and those that were judged before it. It is not for
// concurrent use, and never writes to an object.
type Judge struct {
	settings    *extract.Settings
	nodes       extract.EligibleNodes
	controllers extract.Controllers
	wiring      extract.Wiring
	families    check.Families
	ranges      []netip.Prefix // of cluster IPs
	plane       explain.Plane
	state       map[ports.Ref]runtime.Object
	holders     map[ports.Ref]runtime.Object // what is in the ledger
	ledger      ledger.Ledger
	limits      *restrictions
}

// InvalidError says what is wrong with a pool, policy or claim that the API server would refuse.
type InvalidError struct {
	Object runtime.Object
	Field  string // its path
	Err    error
}

// Error returns "spec.ranges[0]: …".
func (e *InvalidError) Error() string { return e.Err.Error() }

// Unwrap returns what is wrong.
func (e *InvalidError) Unwrap() error { return e.Err }

// New returns a judge of inputs, to whom state exists already; an input that stands in the state too is an update of it.
// Nodes, namespaces, pools, policies and claims of both are kept to. now is when exceptions of policies are judged. The
// error joins an *InvalidError for each object that the API server would refuse; the judge that comes with it does without
// these.
func New(settings *extract.Settings, state, inputs []runtime.Object, now time.Time) (*Judge, error) {
	limits, err := newRestrictions(settings, state, inputs, now)
	plane := explain.PlaneOf(settings.ServiceProxy, settings.HostPorts, !settings.NodePorts.IPv4Loopback)
	j := &Judge{settings: settings, plane: plane, state: map[ports.Ref]runtime.Object{}, holders: map[ports.Ref]runtime.Object{}, limits: limits}
	all := slices.Concat(state, inputs)
	var nodes extract.NodeList
	var cidrs []*networkingv1.ServiceCIDR
	for _, object := range all {
		switch o := object.(type) {
		case *corev1.Node:
			nodes = append(nodes, o)
			j.ledger.ReplaceNode(o.Name, extract.NodeAddresses(o))
		case *networkingv1.ServiceCIDR:
			cidrs = append(cidrs, o)
		}
	}
	j.controllers, j.wiring = extract.NewControllers(all), extract.NewWiring(all)
	j.ranges = extract.ServiceRanges(cidrs)
	j.families, j.nodes = check.Families(extract.ClusterFamilies(nodes, cidrs)), nodes.Remembered()
	for _, object := range state {
		s, ok := j.read(object)
		if !ok {
			continue
		}
		j.state[s.owner().Ref] = object
		j.holds(s)
		if s.service != nil {
			limits.holds(s.service)
		}
	}
	return j, err
}

// subject is an object, and as the questions see it: one of the two is nil.
type subject struct {
	object   runtime.Object
	service  *check.Service
	workload *check.Workload
}

func (s subject) owner() ports.Owner {
	if s.service != nil {
		return s.service.Owner
	}
	return s.workload.Owner
}

func (s subject) claims() []ports.Claim {
	if s.service != nil {
		return s.service.Claims
	}
	return s.workload.Claims
}

// read extracts what is judged of an object; false for kinds that claim nothing.
func (j *Judge) read(object runtime.Object) (subject, bool) {
	if svc, ok := object.(*corev1.Service); ok {
		s := extract.Service(svc, j.settings.NodePorts)
		j.wiring.Join(s, svc)
		return subject{object: object, service: s}, true
	}
	var w *check.Workload
	if pod, ok := object.(*corev1.Pod); ok {
		w = extract.Pod(pod, j.nodes, j.settings.Check.Trusted)
	} else if w, ok = extract.Workload(object, j.nodes, j.settings.Check.Trusted); !ok {
		return subject{}, false
	}
	if !isStored(object) { // the API server knows who made what
		j.controllers.Adopt(w, object)
	}
	return subject{object: object, workload: w}, true
}

// Judge returns the findings about an object, sorted, and puts it into the ledger, where it stands in the way of later ones.
func (j *Judge) Judge(object runtime.Object) []check.Finding {
	s, ok := j.read(object)
	if !ok {
		return nil
	}
	in := check.Input{Service: s.service, Workload: s.workload}
	if old, stands := j.state[s.owner().Ref]; stands {
		if before, ok := j.read(old); ok {
			in.OldService, in.OldWorkload = before.service, before.workload
		}
	}
	if in.Service != nil {
		in.Offered = j.limits.offered
	}
	return j.ask(in, s)
}

// ask completes a question, asks it, and records the answer's consequences.
func (j *Judge) ask(in check.Input, s subject) []check.Finding {
	in.Held, in.Settings, in.Families, in.ServiceRanges = j.ledger.Snapshot(), &j.settings.Check, j.families, j.ranges
	in.Nowhere = j.runsNowhere
	j.limits.complete(&in)
	findings := j.plane.Check(in)
	if in.Service != nil {
		findings = append(findings, j.limits.choose(in)...)
		slices.SortFunc(findings, check.Finding.Compare)
		j.limits.holds(in.Service)
	}
	j.holds(s)
	return findings
}

// holds puts a subject into the ledger.
func (j *Judge) holds(s subject) {
	j.ledger.Replace(s.owner(), s.claims())
	j.holders[s.owner().Ref] = s.object
}

func (j *Judge) runsNowhere(holder ports.Ref) bool {
	return extract.RunsNowhere(j.holders[holder], j.nodes)
}

// LeftOutside returns what the node port range of a configuration to come would leave outside of an object that exists.
func (j *Judge) LeftOutside(object runtime.Object) []check.Finding {
	svc, ok := object.(*corev1.Service)
	if !ok {
		return nil
	}
	s := extract.Service(svc, j.settings.NodePorts)
	in := check.Input{Service: s, OldService: s, Held: (&ledger.Ledger{}).Snapshot(), Settings: &j.settings.Check}
	findings := slices.DeleteFunc(check.Check(in), func(f check.Finding) bool { return f.Code != check.OutsideSmaller })
	for i := range findings {
		findings[i].Standing = false // that it stands is the question
	}
	return findings
}

// isStored reports whether an object was read back from an API server.
func isStored(object runtime.Object) bool {
	m, err := meta.Accessor(object)
	return err == nil && m.GetUID() != ""
}
