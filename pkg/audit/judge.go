// Package audit applies objects one after the other to a ledger of what there is, and asks every question about each: of
// two that clash the later one is the offender and the earlier one its holder. Lint gives it manifests in their order; an
// audit gives it everything that exists, in the order in which it came to be.
package audit

import (
	"fmt"
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
	nodePorts   extract.NodePortAddresses
	volumes     extract.Volumes
	nodes       extract.EligibleNodes
	controllers extract.Controllers
	wiring      extract.Wiring
	families    check.Families
	ranges      []netip.Prefix // of cluster IPs
	plane       explain.Plane
	state       map[ports.Ref]runtime.Object
	holders     map[ports.Ref]runtime.Object // what is in the ledger
	ledger      ledger.Ledger
	evidence    ledger.Ledger // of ports that are not declared
	judged      map[ports.Ref]bool
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
	j := &Judge{settings: settings, plane: plane, state: map[ports.Ref]runtime.Object{}, holders: map[ports.Ref]runtime.Object{}, judged: map[ports.Ref]bool{}, limits: limits}
	all := slices.Concat(state, inputs)
	j.volumes = extract.NewVolumes(all)
	j.nodePorts = settings.NodePorts.WithServiceLB(all, settings.Check.Trusted)
	var nodes extract.NodeList
	var cidrs []*networkingv1.ServiceCIDR
	for _, object := range all {
		switch o := object.(type) {
		case *corev1.Node:
			nodes = append(nodes, o)
			j.ledger.ReplaceNode(o.Name, extract.NodeAddresses(o))
			j.evidence.ReplaceNode(o.Name, extract.NodeAddresses(o))
			if owner, claims := extract.Reservation(o); len(claims) > 0 {
				j.ledger.Replace(owner, claims)
			}
		case *networkingv1.ServiceCIDR:
			cidrs = append(cidrs, o)
		}
	}
	j.controllers, j.wiring = extract.NewControllers(all), extract.NewWiring(all)
	j.plane.Services = extract.NewServices(all).Service
	j.ranges = extract.ServiceRanges(cidrs)
	j.families, j.nodes = check.Families(extract.ClusterFamilies(nodes, cidrs)), nodes.Remembered()
	for _, object := range state {
		s, ok := j.read(object)
		if !ok {
			continue
		}
		j.state[s.owner().Ref] = object
		j.holds(s, s.claims())
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

// evidence is what it uses without holding it for certain.
func (s subject) evidence() []ports.Claim {
	if s.service != nil {
		return s.service.Asked
	}
	return s.workload.Probed
}

// name tells a pod whose name is yet to be generated from those before it that are to be called likewise.
func (s subject) name(judged map[ports.Ref]bool) {
	if m, err := meta.Accessor(s.object); err != nil || m.GetName() != "" || s.workload == nil {
		return
	}
	like := s.workload.Owner.Name
	for n := 2; judged[s.workload.Owner.Ref]; n++ {
		s.workload.Owner.Name = fmt.Sprintf("%s (%d)", like, n)
	}
}

// validate adds what the API server refuses of an object that it has not seen.
func (s subject) validate(object runtime.Object) {
	if s.service != nil {
		s.service.Invalid = extract.Invalid(object)
	} else {
		s.workload.Invalid = extract.Invalid(object)
	}
}

// read extracts what is judged of an object; false for kinds that claim nothing.
func (j *Judge) read(object runtime.Object) (subject, bool) {
	if svc, ok := object.(*corev1.Service); ok {
		s := extract.Service(svc, j.nodePorts)
		j.wiring.Join(s, svc)
		return subject{object: object, service: s}, true
	}
	var w *check.Workload
	object = j.volumes.Placed(object)
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
	if node, ok := object.(*corev1.Node); ok {
		return extract.BadReservations(node) // the ports that it reserves are in the ledger from the beginning
	}
	s, ok := j.read(object)
	if !ok {
		return nil
	}
	s.validate(object)
	s.name(j.judged)
	in := check.Input{Service: s.service, Workload: s.workload}
	if old, stands := j.state[s.owner().Ref]; stands {
		if before, ok := j.read(old); ok {
			before.validate(old)
			in.OldService, in.OldWorkload = before.service, before.workload
		}
	}
	if in.Service != nil {
		in.Offered = j.limits.offered
	}
	in.Together = func(holder ports.Ref) bool {
		_, stands := j.state[holder]
		return j.judged[holder] && !stands
	}
	return j.ask(in, s)
}

// WouldFind returns what would be found about an object if it came now, and on which nodes there is room for it. The object does
// not come: it stands in nobody's way.
func (j *Judge) WouldFind(object runtime.Object) ([]check.Finding, check.Room) {
	s, _ := j.read(object)
	in := check.Input{Service: s.service, Workload: s.workload}
	j.complete(&in)
	return j.plane.Check(in), check.RoomFor(in)
}

// complete tells a question what it is asked against.
func (j *Judge) complete(in *check.Input) {
	in.Held, in.Evidence = j.ledger.Snapshot(), j.evidence.Snapshot()
	in.Settings, in.Families, in.ServiceRanges = &j.settings.Check, j.families, j.ranges
	in.Nowhere = j.runsNowhere
	j.limits.complete(in)
}

// ask completes a question, asks it, and records the answer's consequences.
func (j *Judge) ask(in check.Input, s subject) []check.Finding {
	j.complete(&in)
	findings := j.plane.Check(in)
	if in.Service != nil {
		findings = append(findings, j.limits.choose(in)...)
		slices.SortFunc(findings, check.Finding.Compare)
		j.limits.holds(in.Service)
	}
	claims := s.claims()
	if ref := s.owner().Ref; j.judged[ref] { // two inputs of one name: whichever will be there, it is in the way of others
		_, before, _ := in.Held.Owner(ref)
		claims = slices.Concat(before, claims)
	}
	j.judged[s.owner().Ref] = true
	j.holds(s, claims)
	return findings
}

// holds puts a subject, with claims, where later ones meet it.
func (j *Judge) holds(s subject, claims []ports.Claim) {
	j.ledger.Replace(s.owner(), claims)
	j.holders[s.owner().Ref] = s.object
	if shown := s.evidence(); len(shown) > 0 {
		j.evidence.Replace(s.owner(), shown)
	} else {
		j.evidence.Release(s.owner().Ref)
	}
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
