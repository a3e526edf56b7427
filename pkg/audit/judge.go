// Package audit runs every check on Kubernetes objects, against a ledger of what there is.
//
//	New                 a Judge, whose ledger has the nodes and the state
//	  All               each input against the state and all other inputs: lint
//	  WouldFind         what a new object would conflict with: ports, why
//	Everything          what exists, the oldest object first: audits
//
// Each object goes through pkg/extract into the ledger, and through explain.Plane.Check to its findings. Pools, policies
// and PortClaims among the objects restrict the others; one that the API server would reject is an InvalidError.
//
// A conflict of two objects is reported on one of them. All reports it on the one that is worse off, else on the later
// one, where pods come after all other inputs (order.go). Everything reports it on the younger one, and once for a
// controller and its pods.
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

// Judge judges inputs against what exists and against each other: all at once (All), or one after the other (Judge.Judge), each against
// those before it. It is not for concurrent use, and never writes to an object.
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
	state       map[ports.Ref][]runtime.Object // with every form of an object that is there in several
	holders     map[ports.Ref][]runtime.Object // what is in the ledger
	ledger      ledger.Ledger
	evidence    ledger.Ledger      // of ports that are not declared
	judged      map[ports.Ref]bool // the inputs that are in the ledger
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

// New returns a judge of inputs, to whom state exists already; an input that stands in the state too is an update of it. Nil
// settings are the configuration's defaults. Nodes, namespaces, pools, policies and claims of both are kept to. now is when exceptions of policies are judged. The
// error joins an *InvalidError for each object that the API server would refuse; the judge that comes with it does without
// these.
func New(settings *extract.Settings, state, inputs []runtime.Object, now time.Time) (*Judge, error) {
	if settings == nil {
		var err error
		if settings, err = extract.NewSettings(nil); err != nil {
			return nil, err
		}
	}
	limits, err := newRestrictions(settings, state, inputs, now)
	plane := explain.PlaneOf(settings.ServiceProxy, settings.HostPorts, !settings.NodePorts.IPv4Loopback)
	j := &Judge{settings: settings, plane: plane, state: map[ports.Ref][]runtime.Object{}, holders: map[ports.Ref][]runtime.Object{}, judged: map[ports.Ref]bool{}, limits: limits}
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
	j.families, j.nodes = extract.ClusterFamilies(nodes, cidrs), nodes.Remembered()
	for _, object := range state {
		s, ok := j.read(object)
		if !ok {
			continue
		}
		forms := j.state[s.owner().Ref]
		j.state[s.owner().Ref] = append(forms, object)
		j.holds(s, len(forms) > 0)
		if s.service != nil {
			limits.holds(s.service, len(forms) > 0)
		}
	}
	return j, err
}

// subject is an object, and as the checks see it: one of the two is nil.
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

// name tells an object whose name is yet to be generated from those before it that are to be called likewise.
func (s subject) name(judged map[ports.Ref]bool) {
	if m, err := meta.Accessor(s.object); err != nil || m.GetName() != "" {
		return
	}
	var owner *ports.Owner
	if s.service != nil {
		owner = &s.service.Owner
	} else {
		owner = &s.workload.Owner
	}
	owner.Name = NameApart(owner.Name, func(name string) bool {
		ref := owner.Ref
		ref.Name = name
		return judged[ref]
	})
}

// NameApart returns the name by which findings tell an object without one, which is called like others, from those that were there
// before it: "web-*", "web-* (2)".
func NameApart(like string, isTaken func(name string) bool) string {
	name := like
	for n := 2; isTaken(name); n++ {
		name = fmt.Sprintf("%s (%d)", like, n)
	}
	return name
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

// Judge returns the findings about an object against those before it, sorted, and puts it into the ledger, where it stands in the
// way of later ones.
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
	findings := j.ask(j.input(s), s)
	j.add(s)
	return findings
}

// input is a subject for the checks, without its old version.
func (j *Judge) input(s subject) check.Input {
	in := check.Input{Service: s.service, Workload: s.workload}
	if in.Service != nil {
		in.Offered = j.limits.offered
	}
	in.Together = j.comesToo
	return in
}

// comesToo reports whether a holder is among the inputs, and new.
func (j *Judge) comesToo(holder ports.Ref) bool { return j.judged[holder] && len(j.state[holder]) == 0 }

// before returns the forms of a subject in the state, in an order of their own.
func (j *Judge) before(s subject) []subject {
	var all []subject
	for _, old := range j.state[s.owner().Ref] {
		if before, ok := j.read(old); ok {
			before.validate(old)
			all = append(all, before)
		}
	}
	slices.SortStableFunc(all, func(a, b subject) int { return slices.CompareFunc(a.claims(), b.claims(), ports.Claim.Compare) })
	return all
}

// WouldFind returns what would be found about an object if it came now, and on which nodes there is room for it. The object does
// not come: it stands in nobody's way.
func (j *Judge) WouldFind(object runtime.Object) ([]check.Finding, check.Room) {
	s, _ := j.read(object)
	in := check.Input{Service: s.service, Workload: s.workload}
	j.complete(&in)
	return j.plane.Check(in), check.RoomFor(in)
}

// complete adds what the checks need to know.
func (j *Judge) complete(in *check.Input) {
	in.Held, in.Evidence = j.ledger.Snapshot(), j.evidence.Snapshot()
	in.Settings, in.Families, in.ServiceRanges = &j.settings.Check, j.families, j.ranges
	in.Nowhere = j.runsNowhere
	j.limits.complete(in)
}

// ask completes the input of a subject, runs the checks, and records what its numbers leave to others.
func (j *Judge) ask(in check.Input, s subject) []check.Finding {
	j.complete(&in)
	var findings []check.Finding
	if forms := j.before(s); len(forms) == 0 {
		findings = j.plane.Check(in)
	} else {
		for i, before := range forms {
			in.OldService, in.OldWorkload = before.service, before.workload
			if more := j.plane.Check(in); i == 0 {
				findings = more
			} else {
				findings = sinceEither(findings, more)
			}
		}
	}
	if in.Service != nil {
		findings = append(findings, j.limits.choose(in)...)
		slices.SortFunc(findings, check.Finding.Compare)
		j.limits.holds(in.Service, false)
	}
	return findings
}

// sinceEither joins the findings about an update of two forms of what exists: what one of them had not is new.
func sinceEither(findings, more []check.Finding) []check.Finding {
	for _, f := range more {
		i := slices.IndexFunc(findings, func(g check.Finding) bool { return isSame(f, g) })
		if i < 0 {
			findings = append(findings, f)
		} else {
			findings[i].Standing = findings[i].Standing && f.Standing
		}
	}
	slices.SortFunc(findings, check.Finding.Compare)
	return findings
}

func isSame(f, g check.Finding) bool {
	return f.Compare(g) == 0 && f.Case == g.Case && f.Key() == g.Key()
}

// add puts an input into the ledger. Of two of one name either is in the way of others: nobody knows which one will be there.
func (j *Judge) add(s subject) {
	ref := s.owner().Ref
	j.holds(s, j.judged[ref])
	j.judged[ref] = true
}

// holds puts a subject where others meet it: in place of what stands there by its name, or as another form of it.
func (j *Judge) holds(s subject, isForm bool) {
	ref := s.owner().Ref
	claims, shown := s.claims(), s.evidence()
	if isForm {
		claims, shown = withForm(&j.ledger, ref, claims), withForm(&j.evidence, ref, shown)
	} else {
		j.holders[ref] = nil
	}
	j.ledger.Replace(s.owner(), claims)
	j.holders[ref] = append(j.holders[ref], s.object)
	if len(shown) > 0 {
		j.evidence.Replace(s.owner(), shown)
	} else {
		j.evidence.Release(ref)
	}
}

// withForm returns claims with those that an owner has in a ledger, in an order of their own.
func withForm(l *ledger.Ledger, owner ports.Ref, claims []ports.Claim) []ports.Claim {
	_, before, _ := l.Snapshot().Owner(owner)
	all := slices.Concat(before, claims)
	slices.SortStableFunc(all, ports.Claim.Compare)
	return slices.CompactFunc(all, func(a, b ports.Claim) bool { return a.Compare(b) == 0 && a.Idle == b.Idle })
}

// runsNowhere reports whether no node suits the pods of a holder, in any of its forms.
func (j *Judge) runsNowhere(holder ports.Ref) bool {
	return len(j.holders[holder]) > 0 && !slices.ContainsFunc(j.holders[holder], func(o runtime.Object) bool { return !extract.RunsNowhere(o, j.nodes) })
}

// LeftOutside returns what the node port range of a configuration to come would leave outside of an object that exists.
func (j *Judge) LeftOutside(object runtime.Object) []check.Finding {
	svc, ok := object.(*corev1.Service)
	if !ok {
		return nil
	}
	s := extract.Service(svc, j.settings.NodePorts)
	in := check.Input{Service: s, OldService: s, Settings: &j.settings.Check, Checks: check.OfRange}
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
