// Package observe keeps a ledger in step with a cluster.
//
//	informers -> Observer.apply -> pkg/extract -> ledger.Replace -> Options.Seen, which is webhook.Handlers.Settle
//
// An Observer is how the webhook and the extender see the cluster: Snapshot says who holds which port, Evidence which
// ports pods listen on without declaring them. It also knows the nodes, pools, policies and PortClaims. Shown returns an
// object as the informers have it, Read as the API server has it now; both return a Seen.
//
// IsComplete is false until everything that exists has been seen; until then nothing may be judged by the ledger. Rebuild
// compares the ledger with what the informers hold, every Options.RebuildEvery, and corrects and counts what differs.
package observe

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// Options of an Observer.
type Options struct {
	NodePorts     extract.NodePortAddresses
	Trusted       []string    // namespaces whose pods are what they say they are: see check.Settings
	NodePortRange ports.Range // to which pools are clipped
	// Pools says that the cluster has the kinds of portcullis.dev: the view is not complete before all of them are seen. An
	// API server that has just started may deny them for a while, so that this must not be guessed.
	Pools bool
	// RebuildEvery is how often the ledger is compared with what the informers hold. 0: never.
	RebuildEvery time.Duration
	// Live reads from the API server itself, objects of the kinds of Scheme. Read needs both.
	Live   client.Reader
	Scheme *runtime.Scheme
	// Seen, if set, is called for every owner after the ledger shows it, or shows that it is gone.
	Seen func(Seen)
	// Metrics, if set, is kept up to date.
	Metrics *Metrics
}

// Seen is one object as the cluster shows it.
type Seen struct {
	Object  client.Object // not to be written to; of what is watched only what claims need
	Owner   ports.Owner
	UID     types.UID
	Version uint64 // its resourceVersion; 0: not known
	Claims  []ports.Claim
	Gone    bool // it has been deleted; the other fields are as it was last seen
}

// Observer feeds a ledger from a cluster. It is a manager's Runnable that every replica runs.
type Observer struct {
	*nodes
	*pools
	cache    cache.Cache
	options  Options
	ledger   ledger.Ledger
	evidence ledger.Ledger               // of ports that are not declared, to judge by probes
	applying sync.Mutex                  // one event at a time, and none while drift is looked for
	moving   map[ports.Ref]client.Object // those in the ledger whose places are asked of the nodes
	complete atomic.Bool
	reads    reads
}

// New returns an observer of the cluster that cache shows. The cache must have been made with CacheOptions.
func New(cache cache.Cache, options Options) *Observer {
	return &Observer{moving: map[ports.Ref]client.Object{}, nodes: newNodes(), pools: newPools(options.NodePortRange), cache: cache, options: options, reads: newReads()}
}

// CacheOptions keeps of each object only what claims need.
func CacheOptions() cache.Options {
	return cache.Options{DefaultTransform: strip}
}

// kinds are the objects that claims come from, nodes first so that placements find them.
func kinds() []client.Object {
	return []client.Object{
		&corev1.Node{}, &networkingv1.ServiceCIDR{}, &corev1.Service{},
		&appsv1.Deployment{}, &appsv1.StatefulSet{}, &appsv1.DaemonSet{}, &appsv1.ReplicaSet{},
		&corev1.ReplicationController{}, &batchv1.Job{}, &batchv1.CronJob{}, &corev1.Pod{},
	}
}

// poolKinds are the objects that pools need beside them.
func poolKinds() []client.Object {
	return []client.Object{&v1alpha1.PortPool{}, &v1alpha1.PortPolicy{}, &v1alpha1.PortClaim{}, &corev1.Namespace{}}
}

// NeedLeaderElection says that every replica observes.
func (o *Observer) NeedLeaderElection() bool { return false }

// IsComplete reports whether everything that existed when the observer started is in the ledger.
func (o *Observer) IsComplete() bool { return o.complete.Load() }

// Snapshot returns what is held now.
func (o *Observer) Snapshot() *ledger.Snapshot { return o.ledger.Snapshot() }

// Evidence returns which ports are in use though nobody has declared them, to judge by the probes of their pods.
func (o *Observer) Evidence() *ledger.Snapshot { return o.evidence.Snapshot() }

// Pod returns a pod as far as it is kept: what its claims and its place come from; nil for one that is not known.
func (o *Observer) Pod(namespace, name string) *corev1.Pod {
	var pod corev1.Pod
	if err := o.cache.Get(context.Background(), client.ObjectKey{Namespace: namespace, Name: name}, &pod); err != nil {
		return nil
	}
	return &pod
}

// Start feeds the ledger until ctx ends.
func (o *Observer) Start(ctx context.Context) error {
	var synced []toolscache.InformerSynced
	watched := kinds()
	if o.options.Pools {
		watched = slices.Concat(poolKinds(), watched)
	}
	for _, kind := range watched {
		hasSynced, err := o.watch(ctx, kind)
		if err != nil {
			return fmt.Errorf("watching %T: %w", kind, err)
		}
		if hasSynced != nil {
			synced = append(synced, hasSynced)
		}
	}
	if !toolscache.WaitForCacheSync(ctx.Done(), synced...) {
		return nil // ctx ended before all was seen
	}
	o.placeAll()
	o.complete.Store(true)
	owners, claims, nodes := o.Snapshot().Size()
	logf.FromContext(ctx).Info("the view of the cluster is complete", "owners", owners, "claims", claims, "nodes", nodes)
	o.options.Metrics.complete()
	o.rebuildUntil(ctx)
	return nil
}

// watch feeds what is known of a kind to the observer. A cluster before Kubernetes 1.33 has no ServiceCIDRs, and the nodes
// alone tell the families: then there is nothing to wait for. Kinds of portcullis.dev that exist are waited for.
func (o *Observer) watch(ctx context.Context, kind client.Object) (toolscache.InformerSynced, error) {
	for {
		informer, err := o.cache.GetInformer(ctx, kind, cache.BlockUntilSynced(false))
		if err == nil {
			registration, err := informer.AddEventHandler(o.handler())
			if err != nil {
				return nil, err
			}
			return registration.HasSynced, nil
		}
		if _, cidr := kind.(*networkingv1.ServiceCIDR); cidr && meta.IsNoMatchError(err) {
			return nil, nil
		}
		if !meta.IsNoMatchError(err) {
			return nil, err
		}
		logf.FromContext(ctx).Info("the API server does not serve this kind yet", "kind", fmt.Sprintf("%T", kind))
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

func (o *Observer) handler() toolscache.ResourceEventHandler {
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { o.apply(object, false) },
		UpdateFunc: func(_, object any) { o.apply(object, false) },
		DeleteFunc: func(object any) {
			if tombstone, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
				object = tombstone.Obj
			}
			o.apply(object, true)
		},
	}
}

// apply brings one object into the ledger.
func (o *Observer) apply(object any, gone bool) {
	o.applying.Lock()
	defer o.applying.Unlock()
	switch x := object.(type) {
	case *corev1.Node:
		o.applyNode(x, gone)
	case *networkingv1.ServiceCIDR:
		o.setCIDR(x, gone)
	case *corev1.Namespace:
		o.setNamespace(x, gone)
	case *v1alpha1.PortClaim:
		o.setClaim(x, gone)
	case *v1alpha1.PortPool:
		if err := o.setPool(x, gone); err != nil {
			logf.Log.Error(err, "A pool has no effect", "pool", x.Name) // the API server refuses such
		}
	case *v1alpha1.PortPolicy:
		if err := o.setPolicy(x, gone); err != nil {
			logf.Log.Error(err, "A policy has no effect", "policy", x.Name)
		}
	default:
		if h, ok := o.holdingOf(object); ok {
			o.record(h, gone)
		}
	}
}

func (o *Observer) record(h holding, gone bool) {
	if gone || h.isEmpty() {
		o.ledger.Release(h.owner.Ref)
	} else {
		o.ledger.Replace(h.owner, h.claims)
	}
	if gone || len(h.probed) == 0 {
		o.evidence.Release(h.owner.Ref)
	} else {
		o.evidence.Replace(h.owner, h.probed)
	}
	if !gone && h.isMoving && len(h.claims)+len(h.probed) > 0 {
		o.moving[h.owner.Ref] = h.object
	} else {
		delete(o.moving, h.owner.Ref)
	}
	if o.options.Seen != nil {
		o.options.Seen(h.seen(gone))
	}
	o.options.Metrics.size(o.Snapshot())
}

func (o *Observer) applyNode(node *corev1.Node, gone bool) {
	changed := true
	if gone {
		o.ledger.ReleaseNode(node.Name)
		o.evidence.ReleaseNode(node.Name)
		o.ledger.Release(extract.NodeRef(node.Name))
		o.remove(node.Name)
	} else {
		o.ledger.ReplaceNode(node.Name, extract.NodeAddresses(node))
		o.evidence.ReplaceNode(node.Name, extract.NodeAddresses(node))
		o.reserve(node)
		changed = o.set(node)
	}
	if changed && o.IsComplete() {
		o.placeAllLocked()
	}
}

// reserve brings the ports that a node's annotation reserves into the ledger. What is wrong with it is logged when it changes.
func (o *Observer) reserve(node *corev1.Node) {
	owner, claims := extract.Reservation(node)
	if len(claims) == 0 {
		o.ledger.Release(owner.Ref)
	} else {
		o.ledger.Replace(owner, claims)
	}
	if before := o.Node(node.Name); before == nil || before.Annotations[extract.ReservedPortsAnnotation] != node.Annotations[extract.ReservedPortsAnnotation] {
		for _, f := range extract.BadReservations(node) {
			bad, _ := f.Detail.(check.Unreadable)
			logf.Log.Info("An entry of a node's annotation reserves nothing", "node", node.Name, "annotation", extract.ReservedPortsAnnotation, "error", bad.Err.Error())
		}
	}
}

// holding is what the ledger has of an object.
type holding struct {
	object client.Object
	owner  ports.Owner
	claims []ports.Claim
	probed []ports.Claim
	known  bool // even if it claims nothing

	isMoving bool // where it is depends on the nodes
}

func (h holding) seen(gone bool) Seen {
	version, err := strconv.ParseUint(h.object.GetResourceVersion(), 10, 64)
	if err != nil {
		version = 0
	}
	return Seen{Object: h.object, Owner: h.owner, UID: h.object.GetUID(), Version: version, Claims: h.claims, Gone: gone}
}

func (h holding) isEmpty() bool {
	return len(h.claims) == 0 && len(h.owner.ClusterIPs) == 0 && !h.known
}

// holdingOf extracts the claims of any object but nodes.
func (o *Observer) holdingOf(object any) (holding, bool) {
	switch x := object.(type) {
	case *corev1.Node:
		owner, claims := extract.Reservation(x)
		return holding{object: x, owner: owner, claims: claims}, true
	case *corev1.Service:
		s := extract.Service(x, o.options.NodePorts)
		return holding{object: x, owner: s.Owner, claims: s.Claims, probed: s.Asked}, true
	case *corev1.Pod:
		var nodes extract.EligibleNodes
		if x.Spec.NodeName == "" { // who is on a node needs no list of those that it might have been on
			nodes = o.nodes
		}
		w := extract.Pod(x, nodes, o.options.Trusted)
		return holding{object: x, owner: w.Owner, claims: w.Claims, probed: w.Probed, isMoving: nodes != nil}, true
	}
	var w *check.Workload
	runtimeObject, ok := object.(client.Object)
	if ok {
		w, ok = extract.Workload(runtimeObject, o.nodes, o.options.Trusted)
	}
	if !ok {
		return holding{}, false
	}
	// Where hostIPs are no addresses, the template's pods must find it to be let through.
	return holding{object: runtimeObject, owner: w.Owner, claims: w.Claims, probed: w.Probed, known: len(w.Unparsed) > 0, isMoving: true}, true
}

// placeAll brings the places of templates and of pods without a node up to date after nodes have changed.
func (o *Observer) placeAll() {
	o.applying.Lock()
	defer o.applying.Unlock()
	o.placeAllLocked()
}

func (o *Observer) placeAllLocked() {
	for ref, object := range o.moving {
		h, ok := o.holdingOf(object)
		if !ok {
			continue
		}
		_, claims, _ := o.Snapshot().Owner(ref)
		_, probed, _ := o.Evidence().Owner(ref)
		if !same(claims, h.claims) || !same(probed, h.probed) {
			o.record(h, false)
		}
	}
}
