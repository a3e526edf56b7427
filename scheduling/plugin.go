// Package scheduling keeps a pod from nodes on which a host port that it wants is taken, by a pod, by a Service on every
// node, or by the node itself, and says by whom. PortClaims does so inside kube-scheduler, as a plugin beside the in-tree
// NodePorts, which knows pods only; Extender does so over HTTP, for a scheduler that cannot be rebuilt.
//
//	PreFilter         what the pod wants, and whether it is taken on every node
//	Filter            whether it is taken on one node
//	PostFilter        an event that names the holders, if no node is left
//	PreScore, Score   with preferUncontended: nodes that the fewest other workloads may need
//	Reserve           once more for the node that was chosen
//	EventsToRegister  which changes may let in a pod that was rejected
//
// Within one scheduler a pod that was given a node counts on it from then on (NodeInfo has it). What another scheduler
// decided in the meantime is seen when it reaches the API server: that is why Reserve looks once more. There are no
// PreFilterExtensions: what pods hold is read from the NodeInfo, to which preemption adds pods and from which it takes
// them. The plugin is made against k8s.io/kube-scheduler/framework alone; the Extender sees the cluster by a Cluster,
// which pkg/observe is.
package scheduling

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"
	fwk "k8s.io/kube-scheduler/framework"

	configv1alpha1 "github.com/portcullis-k8s/portcullis/api/config/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// Name is the plugin's name in a KubeSchedulerConfiguration.
const Name = "PortClaims"

const stateKey fwk.StateKey = "PreFilter" + Name

// PortClaims is the plugin.
type PortClaims struct {
	handle     fwk.Handle
	reserved   []check.Reserved // sockets of the nodes' daemons
	trusted    []string         // namespaces whose pods are what they say they are
	services   *services
	bound      *bound
	rivals     *rivals   // nil: no node is preferred
	policies   *policies // nil: none is kept to
	notices    notices
	nodeStates sync.Map // by node name: *nodeState
}

var (
	_ fwk.PreFilterPlugin   = &PortClaims{}
	_ fwk.FilterPlugin      = &PortClaims{}
	_ fwk.PostFilterPlugin  = &PortClaims{}
	_ fwk.PreScorePlugin    = &PortClaims{}
	_ fwk.ScorePlugin       = &PortClaims{}
	_ fwk.ReservePlugin     = &PortClaims{}
	_ fwk.EnqueueExtensions = &PortClaims{}
	_ fwk.SignPlugin        = &PortClaims{}
)

// New makes the plugin; it is a PluginFactory of kube-scheduler's registry. The arguments are a PortClaimsArgs in JSON,
// as *runtime.Unknown, or nothing.
func New(ctx context.Context, args runtime.Object, handle fwk.Handle) (fwk.Plugin, error) {
	a, err := readArgs(args)
	if err != nil {
		return nil, fmt.Errorf("arguments of %s: %w", Name, err)
	}
	settings, err := extract.NewSettings(a.Configuration())
	if err != nil {
		return nil, fmt.Errorf("arguments of %s: %w", Name, err)
	}
	p := &PortClaims{handle: handle, reserved: settings.Check.Reserved, trusted: settings.Check.Trusted, notices: newNotices()}
	core := handle.SharedInformerFactory().Core().V1()
	if p.services, err = newServices(core.Services().Informer(), settings.NodePorts); err != nil {
		return nil, err
	}
	if p.bound, err = newBound(core.Pods().Informer()); err != nil {
		return nil, err
	}
	if _, err = core.Nodes().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{DeleteFunc: p.forget}); err != nil {
		return nil, err
	}
	return p, p.choose(ctx, a)
}

// choose takes up what the arguments ask for beyond the rest.
func (p *PortClaims) choose(ctx context.Context, a *configv1alpha1.PortClaimsArgs) (err error) {
	factory := p.handle.SharedInformerFactory()
	if a.PreferUncontended {
		p.rivals, err = newRivals(factory.Apps().V1().ReplicaSets().Informer(), factory.Apps().V1().StatefulSets().Informer())
	}
	if err != nil || !a.Policies {
		return err
	}
	client, err := dynamic.NewForConfig(p.handle.KubeConfig())
	if err != nil {
		return fmt.Errorf("policies: %w", err)
	}
	p.policies, err = newPolicies(ctx, client, factory.Core().V1().Namespaces().Informer().GetStore())
	return err
}

// readArgs takes what kube-scheduler makes of the arguments of a plugin that is not its own.
func readArgs(args runtime.Object) (*configv1alpha1.PortClaimsArgs, error) {
	switch a := args.(type) {
	case nil:
		return configv1alpha1.LoadPortClaimsArgs(nil)
	case *runtime.Unknown:
		if a.ContentType != "" && a.ContentType != runtime.ContentTypeJSON {
			return nil, fmt.Errorf("they are %s, want %s", a.ContentType, runtime.ContentTypeJSON)
		}
		return configv1alpha1.LoadPortClaimsArgs(a.Raw)
	default:
		return nil, fmt.Errorf("they are a %T, want %s in JSON", args, configv1alpha1.PortClaimsKind)
	}
}

// Name returns Name.
func (p *PortClaims) Name() string { return Name }

// cycle is what a scheduling cycle keeps: who holds what everywhere, as it was when the cycle began.
type cycle struct {
	seeker  *check.Seeker // knows the Services and daemons
	demands []demand      // in the order of seeker.Wanted
}

// Clone returns the same: no pod that is added or removed changes it.
func (c *cycle) Clone() fwk.StateData { return c }

// demand is a socket that the pod wants.
type demand struct {
	claim    ports.Claim // scoped to every node
	policies []reservation
	// said is the last reason that was given. Where a port is taken it is mostly one controller's, on thousands of nodes.
	said atomic.Pointer[reason]
}

type reason struct{ holder, text string }

// heldBy returns the reason for which holder is in the way.
func (d *demand) heldBy(holder string) string {
	if last := d.said.Load(); last != nil && last.holder == holder {
		return last.text
	}
	r := &reason{holder, report.HeldOnNode(d.claim, []string{holder})}
	d.said.Store(r)
	return r.text
}

// PreFilter finds what the pod wants. A pod that wants nothing is skipped, as is one that has its node and is here to be
// resized. A port that is taken on every node refuses the pod without a look at any.
func (p *PortClaims) PreFilter(_ context.Context, state fwk.CycleState, pod *corev1.Pod, _ []fwk.NodeInfo) (*fwk.PreFilterResult, *fwk.Status) {
	w := wants(pod, p.trusted)
	if w == nil || pod.Spec.NodeName != "" {
		return nil, fwk.NewStatus(fwk.Skip)
	}
	c, err := p.newCycle(w, p.reserved)
	if err != nil {
		return nil, fwk.AsStatus(err)
	}
	var met clashes
	for _, r := range p.policies.reservations(w) {
		for i := range c.demands {
			if d := &c.demands[i]; r.socket == d.claim.Socket {
				d.policies = append(d.policies, r)
			}
		}
	}
	for i := range c.demands {
		met = c.demands[i].of(met, c.seeker.Everywhere())
		met = c.demands[i].ofPoliciesEverywhere(met)
	}
	if len(met) > 0 {
		return nil, met.status()
	}
	state.Write(stateKey, c)
	return nil, nil
}

// wants returns the pod with those of its claims that last as long as it runs, each socket once, scoped to every node; nil
// if there are none.
func wants(pod *corev1.Pod, trusted []string) *check.Workload {
	if !extract.MayClaim(pod) {
		return nil
	}
	w := extract.Pod(pod, nil, trusted)
	if w.Claims = w.Lasting(); len(w.Claims) == 0 {
		return nil
	}
	return w
}

// newCycle asks who holds what w wants: Services, and the given daemons.
func (p *PortClaims) newCycle(w *check.Workload, daemons []check.Reserved) (*cycle, error) {
	held, err := p.services.holders(w)
	if err != nil {
		return nil, err
	}
	c := &cycle{seeker: check.NewSeeker(w, held, daemons)}
	c.demands = make([]demand, len(c.seeker.Wanted()))
	for i, wanted := range c.seeker.Wanted() {
		c.demands[i].claim = wanted
	}
	return c, nil
}

// PreFilterExtensions returns nil: see the package's comment.
func (p *PortClaims) PreFilterExtensions() fwk.PreFilterExtensions { return nil }

// Filter refuses a node on which a socket that the pod wants is taken. The status is Unschedulable if pods alone are in
// the way, so that preemption may help, and UnschedulableAndUnresolvable otherwise.
func (p *PortClaims) Filter(ctx context.Context, state fwk.CycleState, _ *corev1.Pod, info fwk.NodeInfo) *fwk.Status {
	data, err := state.Read(stateKey)
	if err != nil {
		return fwk.AsStatus(fmt.Errorf("%s: PreFilter left nothing: %w", Name, err))
	}
	c, ok := data.(*cycle)
	if !ok {
		return fwk.AsStatus(fmt.Errorf("%s: the state is a %T", Name, data))
	}
	if info.Node() == nil {
		return fwk.AsStatus(fmt.Errorf("%s: the node is gone", Name))
	}
	var room [4]clash // mostly enough, and on the stack
	return c.meet(room[:0], p.nodeState(ctx, info)).status()
}

// meet adds everything that is in the way on one node.
func (c *cycle) meet(met clashes, m *nodeState) clashes {
	var others []check.Obstacle
	if len(m.reserved) > 0 || c.seeker.HasHolders() { // else nobody but pods holds anything, and the node need not be read
		others = c.seeker.On(check.Node{Name: m.node.Name, Labels: m.node.Labels, Reserved: m.reserved, Addresses: m})
	}
	for i := range c.demands {
		d := &c.demands[i]
		met = d.ofPods(met, m)
		met = d.of(met, others)
		met = d.ofPolicies(met, m.node)
	}
	return met
}

// clash is a socket that the pod wants and cannot have.
type clash struct {
	wanted *demand
	holder string
	pod    *corev1.Pod // nil: no pod holds it
}

type clashes []clash

// of adds the obstacles that are about what is wanted: Services, daemons and the node itself.
func (d *demand) of(met clashes, obstacles []check.Obstacle) clashes {
	for i := range obstacles {
		if o := &obstacles[i]; o.Wanted.Socket == d.claim.Socket {
			met = append(met, clash{d, report.Blocker(*o, extract.ReservedPortsAnnotation), nil})
		}
	}
	return met
}

// ofPods adds the pods on the node that hold what is wanted. Those of the same controller count:
// two pods of one Deployment cannot both have a port of one node.
func (d *demand) ofPods(met clashes, m *nodeState) clashes {
	for _, held := range m.at(keyOf(d.claim.Socket)) {
		claim := ports.Claim{
			Socket: ports.Socket{Address: held.address, Protocol: d.claim.Protocol, Port: d.claim.Port},
			Kind:   held.kind, Scope: ports.EverywhereScope(),
		}
		if _, ok := ports.Meet(d.claim, claim, m); ok {
			by := m.pods[held.pod]
			met = append(met, clash{d, by.holder, by.pod})
		}
	}
	return met
}

// status returns nil if nothing met, else one reason for each number that is wanted.
func (met clashes) status() *fwk.Status {
	if len(met) == 0 {
		return nil
	}
	code := fwk.Unschedulable
	if slices.ContainsFunc(met, func(c clash) bool { return c.pod == nil }) {
		code = fwk.UnschedulableAndUnresolvable
	}
	if len(met) == 1 {
		return fwk.NewStatus(code, met[0].wanted.heldBy(met[0].holder))
	}
	var reasons []string
	for len(met) > 0 {
		wanted := &met[0].wanted.claim
		var holders []string
		for len(met) > 0 && keyOf(met[0].wanted.claim.Socket) == keyOf(wanted.Socket) {
			holders = append(holders, met[0].holder)
			met = met[1:]
		}
		reasons = append(reasons, report.HeldOnNode(*wanted, holders))
	}
	return fwk.NewStatus(code, reasons...)
}

// SignPod signs what a pod's fate here depends on: its sockets, and who it is where that exempts it.
func (p *PortClaims) SignPod(_ context.Context, pod *corev1.Pod) ([]fwk.SignFragment, *fwk.Status) {
	w := wants(pod, p.trusted)
	if w == nil {
		return nil, nil
	}
	var signs []string
	for _, c := range w.Claims {
		signs = append(signs, c.Socket.String())
	}
	for _, r := range p.reserved {
		if sign := "daemon " + r.Name; r.IsRunBy(w) && !slices.Contains(signs, sign) { // it may have several sockets
			signs = append(signs, sign)
		}
	}
	for ref := range w.Owner.Chain() {
		if ref.Kind == "Service" {
			signs = append(signs, ref.String())
		}
	}
	signs = append(signs, p.policies.signs(w)...)
	if p.rivals != nil { // whose nodes others want depends on who is no other
		signs = append(signs, "of "+w.Owner.Root().String())
	}
	return []fwk.SignFragment{{Key: Name, Value: signs}}, nil
}
