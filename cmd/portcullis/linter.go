package main

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/explain"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/manifest"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// linter applies the inputs one after the other to a ledger of the state.
type linter struct {
	settings    *extract.Settings
	nodes       extract.EligibleNodes
	controllers extract.Controllers
	wiring      extract.Wiring
	families    check.Families
	plane       explain.Plane
	state       map[ports.Ref]runtime.Object
	ledger      ledger.Ledger
	limits      *restrictions
	report      *report.LintReport
}

// newLinter fails on a pool or policy that the API server would refuse. now is when exceptions of policies are judged.
func newLinter(settings *extract.Settings, inputs, state []*manifest.Object, now time.Time) (*linter, error) {
	limits, err := newRestrictions(settings, inputs, state, now)
	if err != nil {
		return nil, err
	}
	plane := explain.PlaneOf(settings.ServiceProxy, settings.HostPorts, !settings.NodePorts.IPv4Loopback)
	l := &linter{settings: settings, plane: plane, state: map[ports.Ref]runtime.Object{}, limits: limits, report: report.NewLintReport()}
	var all []runtime.Object
	var nodes extract.NodeList
	var cidrs []*networkingv1.ServiceCIDR
	for _, object := range slices.Concat(state, inputs) {
		all = append(all, object.Object)
		switch o := object.Object.(type) {
		case *corev1.Node:
			nodes = append(nodes, o)
			l.ledger.ReplaceNode(o.Name, extract.NodeAddresses(o))
		case *networkingv1.ServiceCIDR:
			cidrs = append(cidrs, o)
		}
	}
	l.controllers, l.wiring = extract.NewControllers(all), extract.NewWiring(all)
	l.families, l.nodes = check.Families(extract.ClusterFamilies(nodes, cidrs)), nodes.Remembered()
	for _, object := range state {
		if owner, claims, ok := l.claims(object.Object); ok {
			l.state[owner.Ref] = object.Object
			l.ledger.Replace(owner, claims)
		}
		if svc, ok := object.Object.(*corev1.Service); ok {
			limits.holds(extract.Service(svc, settings.NodePorts))
		}
	}
	return l, nil
}

// claims extracts what an object claims; false for kinds that claim nothing.
func (l *linter) claims(object runtime.Object) (ports.Owner, []ports.Claim, bool) {
	if svc, ok := object.(*corev1.Service); ok {
		s := extract.Service(svc, l.settings.NodePorts)
		return s.Owner, s.Claims, true
	}
	if w := l.workload(object); w != nil {
		return w.Owner, w.Claims, true
	}
	return ports.Owner{}, nil, false
}

func (l *linter) workload(object runtime.Object) *check.Workload {
	var w *check.Workload
	if pod, ok := object.(*corev1.Pod); ok {
		w = extract.Pod(pod, l.nodes)
	} else if w, ok = extract.Workload(object, l.nodes); !ok {
		return nil
	}
	l.controllers.Adopt(w, object)
	return w
}

// judge returns the findings about one input and puts it into the ledger, where it stands in the way of later ones.
func (l *linter) judge(object *manifest.Object) []check.Finding {
	in := check.Input{Held: l.ledger.Snapshot(), Settings: &l.settings.Check, Families: l.families}
	var owner ports.Owner
	var claims []ports.Claim
	if svc, ok := object.Object.(*corev1.Service); ok {
		in.Service = extract.Service(svc, l.settings.NodePorts)
		l.wiring.Join(in.Service, svc)
		if old, ok := l.state[in.Service.Owner.Ref].(*corev1.Service); ok {
			in.OldService = extract.Service(old, l.settings.NodePorts)
			l.wiring.Join(in.OldService, old)
		}
		owner, claims = in.Service.Owner, in.Service.Claims
	} else if in.Workload = l.workload(object.Object); in.Workload != nil {
		if old, ok := l.state[in.Workload.Owner.Ref]; ok {
			in.OldWorkload = l.workload(old)
		}
		owner, claims = in.Workload.Owner, in.Workload.Claims
	} else {
		return nil
	}
	l.limits.complete(&in)
	findings := l.plane.Check(in)
	if in.Service != nil {
		findings = append(findings, l.limits.choose(in)...)
		slices.SortFunc(findings, check.Finding.Compare)
		l.limits.holds(in.Service)
	}
	l.ledger.Replace(owner, claims)
	return findings
}

// judgeRange returns what the node port range of a configuration to come would leave outside of an object that exists.
func (l *linter) judgeRange(object *manifest.Object) []check.Finding {
	svc, ok := object.Object.(*corev1.Service)
	if !ok {
		return nil
	}
	s := extract.Service(svc, l.settings.NodePorts)
	in := check.Input{Service: s, OldService: s, Held: (&ledger.Ledger{}).Snapshot(), Settings: &l.settings.Check}
	findings := slices.DeleteFunc(check.Check(in), func(f check.Finding) bool { return f.Code != check.OutsideSmaller })
	for i := range findings {
		findings[i].Standing = false // that it stands is the question
	}
	return findings
}
