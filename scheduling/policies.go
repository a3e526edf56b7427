package scheduling

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// portPolicies is what kube-scheduler calls the resource.
const portPolicies fwk.EventResource = "portpolicies." + v1alpha1.Version + "." + v1alpha1.Group

// policiesTime is how long the plugin waits at its start for the policies. They have been listed once by then.
const policiesTime = time.Minute

// policies knows what PortPolicies reserve on nodes. It is filled from two sides, its own informer and the events that wake
// pods, which come by an informer of kube-scheduler and may be ahead: whichever tells of a newer version of a policy counts.
type policies struct {
	namespaces cache.Store
	now        func() time.Time

	mutex  sync.RWMutex
	byName map[string]policy
}

// policy is what is known of a PortPolicy.
type policy struct {
	uid     types.UID
	version string
	gone    bool         // only an event has told so yet
	says    check.Policy // the zero Policy for one that is not understood: it selects nobody
}

// newPolicies lists and watches the policies, and returns when it knows them; nil if the cluster has no such kind.
func newPolicies(ctx context.Context, client dynamic.Interface, namespaces cache.Store) (*policies, error) {
	p := &policies{namespaces: namespaces, byName: map[string]policy{}}
	p.now = time.Now //nolint:forbidigo // kube-scheduler gives its plugins no clock
	resource := schema.GroupVersionResource{Group: v1alpha1.Group, Version: v1alpha1.Version, Resource: "portpolicies"}
	switch _, err := client.Resource(resource).List(ctx, metav1.ListOptions{Limit: 1}); {
	case apierrors.IsNotFound(err):
		klog.FromContext(ctx).Info("No policy is kept to until the scheduler is started again: the cluster has no PortPolicies", "plugin", Name)
		return nil, nil
	case apierrors.IsForbidden(err):
		return nil, fmt.Errorf("policies: true needs the right to list and watch %s: bind the scheduler's user to the ClusterRole portcullis-scheduler-policies, or leave policies out: %w", resource.GroupResource(), err)
	case err != nil:
		return nil, fmt.Errorf("policies: listing %s: %w", resource.GroupResource(), err)
	}
	factory := dynamicinformer.NewDynamicSharedInformerFactory(client, 0)
	registration, err := factory.ForResource(resource).Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { p.seen(ctx, object) },
		UpdateFunc: func(_, object any) { p.seen(ctx, object) },
		DeleteFunc: func(object any) { p.unseen(ctx, object) },
	})
	if err != nil {
		return nil, fmt.Errorf("policies: %w", err)
	}
	factory.Start(ctx.Done())
	waiting, cancel := context.WithTimeout(ctx, policiesTime)
	defer cancel()
	if !cache.WaitForCacheSync(waiting.Done(), registration.HasSynced) {
		return nil, errors.New("policies: they could be listed, and could not be watched")
	}
	return p, nil
}

// seen takes what the informer has.
func (p *policies) seen(ctx context.Context, object any) {
	o, err := typed[v1alpha1.PortPolicy](object)
	if err != nil {
		klog.FromContext(ctx).Error(err, "A policy has no effect", "plugin", Name)
		return
	}
	if err := p.learn(o); err != nil {
		klog.FromContext(ctx).Error(err, "A policy has no effect", "plugin", Name, "policy", o.Name)
	}
}

// unseen forgets what the informer no longer has.
func (p *policies) unseen(ctx context.Context, object any) {
	o, err := typed[v1alpha1.PortPolicy](object)
	if err != nil {
		klog.FromContext(ctx).Error(err, "A policy stays in effect though it is gone", "plugin", Name)
		return
	}
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if known, ok := p.byName[o.Name]; ok && known.uid == o.UID {
		delete(p.byName, o.Name)
	}
}

// learn takes what an event, or the informer, says of a policy, unless a newer version is known. The error is about a
// policy that the API server would have refused.
func (p *policies) learn(o *v1alpha1.PortPolicy) error {
	says, err := denied(o)
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if known, ok := p.byName[o.Name]; !ok || known.isBefore(o) {
		p.byName[o.Name] = policy{uid: o.UID, version: o.ResourceVersion, says: says}
	}
	return err
}

// lose takes it that an event says a policy is gone. What the informer still tells of it is old.
func (p *policies) lose(o *v1alpha1.PortPolicy) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if known, ok := p.byName[o.Name]; ok && known.uid == o.UID {
		p.byName[o.Name] = policy{uid: o.UID, version: known.version, gone: true}
	}
}

// isBefore reports whether o is newer than what is known. Resource versions of one name grow, whichever object has it.
func (k policy) isBefore(o *v1alpha1.PortPolicy) bool {
	c, err := resourceversion.CompareResourceVersion(k.version, o.ResourceVersion)
	return err != nil || c < 0 && !(k.gone && k.uid == o.UID)
}

// denied returns a policy with its reservations alone, and those only if it denies: the rest does not depend on the node,
// and was judged when the pod was made.
func denied(o *v1alpha1.PortPolicy) (check.Policy, error) {
	says, err := extract.Policy(o)
	if err != nil || says.Enforcement != check.Deny {
		return check.Policy{}, err
	}
	says.NodePorts, says.HostPorts = nil, nil
	return says, nil
}

// reservation is a socket that a pod wants, and that a policy keeps for something else on some nodes.
type reservation struct {
	socket ports.Socket
	nodes  pool.Selector
	holder string
}

// same reports whether two reservations keep a pod from the same socket of the same nodes.
func (r reservation) same(o reservation) bool {
	return r.socket == o.socket && r.nodes.String() == o.nodes.String()
}

// reservations returns what all policies keep from a pod that wants w, in the order of their names.
func (p *policies) reservations(w *check.Workload) []reservation {
	if p == nil {
		return nil
	}
	p.mutex.RLock()
	defer p.mutex.RUnlock()
	var all []reservation
	for _, name := range slices.Sorted(maps.Keys(p.byName)) {
		says := p.byName[name].says
		all = append(all, p.by(&says, w)...)
	}
	return all
}

// by returns what one policy keeps from a pod that wants w. Whom it selects and excepts is asked of package check, for each
// reservation as if it held on every node: the nodes are looked at one by one later.
func (p *policies) by(says *check.Policy, w *check.Workload) []reservation {
	var all []reservation
	for _, r := range says.Reserved {
		if r.Nodes == nil || !isAbout(r, w) {
			continue
		}
		anywhere := *says
		anywhere.Reserved = []check.ReservedSockets{{Name: r.Name, Sockets: r.Sockets, Nodes: every{}}}
		findings := check.Check(check.Input{
			Workload: w, Policies: []check.Policy{anywhere}, Namespace: p.labels(w.Owner.Namespace), Now: p.now(), Checks: check.OfPolicies,
		})
		for _, f := range findings {
			if f.Code == check.PolicyReserved {
				all = append(all, reservation{f.Claim.Socket, r.Nodes, report.ReservedBy(r.Name, says.Name)})
			}
		}
	}
	return all
}

// isAbout reports whether a reservation has a number that w wants, so that it is worth asking.
func isAbout(r check.ReservedSockets, w *check.Workload) bool {
	return slices.ContainsFunc(w.Claims, func(c ports.Claim) bool {
		return slices.ContainsFunc(r.Sockets, func(s check.SocketRange) bool { return s.Contains(c.Port) })
	})
}

// labels returns the labels of a namespace. The API server gives each a label with its name.
func (p *policies) labels(namespace string) map[string]string {
	object, _, _ := p.namespaces.GetByKey(namespace) // a store in memory knows no error
	if ns, ok := object.(*corev1.Namespace); ok && ns.Labels != nil {
		return ns.Labels
	}
	return map[string]string{corev1.LabelMetadataName: namespace}
}

// every selects every node.
type every struct{}

func (every) Matches(map[string]string) bool { return true }
func (every) String() string                 { return "" }

// ofPolicies adds the policies that keep what is wanted for something else on a node.
func (d *demand) ofPolicies(met clashes, node *corev1.Node) clashes {
	for _, r := range d.policies {
		if r.nodes.Matches(node.Labels) {
			met = append(met, clash{d, r.holder, nil})
		}
	}
	return met
}

// ofPoliciesEverywhere adds those that do so on every node.
func (d *demand) ofPoliciesEverywhere(met clashes) clashes {
	for _, r := range d.policies {
		if r.nodes.String() == "" {
			met = append(met, clash{d, r.holder, nil})
		}
	}
	return met
}

// afterPolicy: a policy no longer keeps a socket that this pod wants.
func (p *PortClaims) afterPolicy(_ klog.Logger, pod *corev1.Pod, before, now any) (fwk.QueueingHint, error) {
	old, err := typed[v1alpha1.PortPolicy](before)
	if err != nil {
		return fwk.Queue, err
	}
	was, err := denied(old)
	if err != nil {
		return fwk.Queue, err
	}
	var is check.Policy
	var current *v1alpha1.PortPolicy
	if now != nil {
		if current, err = typed[v1alpha1.PortPolicy](now); err != nil {
			return fwk.Queue, err
		}
		if is, err = denied(current); err != nil {
			return fwk.Queue, err
		}
	}
	w := wants(pod, p.trusted)
	if w == nil || !isLess(p.policies.by(&is, w), p.policies.by(&was, w)) {
		return fwk.QueueSkip, nil
	}
	if current == nil {
		p.policies.lose(old)
	} else {
		_ = p.policies.learn(current) // it was understood above
	}
	return fwk.Queue, nil
}

// afterLabels: the pod itself has other labels, by which an exception is for it.
func (p *PortClaims) afterLabels(_ klog.Logger, _ *corev1.Pod, before, now any) (fwk.QueueingHint, error) {
	old, err := typed[corev1.Pod](before)
	if err != nil {
		return fwk.Queue, err
	}
	current, err := typed[corev1.Pod](now)
	if err != nil {
		return fwk.Queue, err
	}
	was, is := wants(old, p.trusted), wants(current, p.trusted)
	if was == nil || is == nil {
		return fwk.QueueSkip, nil
	}
	return queueIf(isLess(p.policies.reservations(is), p.policies.reservations(was))), nil
}

// isLess reports whether something of was is not in is.
func isLess(is, was []reservation) bool {
	return slices.ContainsFunc(was, func(r reservation) bool { return !slices.ContainsFunc(is, r.same) })
}

// signs is what the fate of a pod depends on where policies are kept to: whom they select and except.
func (p *policies) signs(w *check.Workload) []string {
	if p == nil {
		return nil
	}
	signs := []string{"namespace " + w.Owner.Namespace}
	for _, key := range slices.SortedFunc(maps.Keys(w.Labels), cmp.Compare[string]) {
		signs = append(signs, "label "+key+"="+w.Labels[key])
	}
	return signs
}
