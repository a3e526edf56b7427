// Package audit checks everything that exists, from time to time and soon after changes, and reports what is wrong. It
// rejects nothing. A Controller watches on every replica; its Lead, on the leader, runs rounds:
//
//	cache -> pkg/audit: findings -> Metrics: all of them, by code and severity
//	                             -> events:  once for each error and warning, about its object
//	                             -> reports: a Report of openreports.io for each object, where the cluster has that kind
//
// Events and reports are what another leader finds in the cluster, so that it does not repeat them. A round begins
// MinInterval after the last one if an object that matters has changed, and after Interval in any case; where rounds take
// long there are fewer. The cache must be made with observe.CacheOptions: checks of what it does not keep are left out.
package audit

import (
	"context"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/cluster"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/audit"
	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/controller/internal/informers"
	"github.com/portcullis-k8s/portcullis/pkg/controller/internal/periodic"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
)

const (
	fieldOwner = client.FieldOwner("portcullis-controller")

	minInterval = 30 * time.Second // of Options.MinInterval
	quietTime   = 2 * time.Second  // after a change: what belongs to it comes in that time
	busyPart    = 20               // rounds take at most a twentieth of the time
	// checkedIndex is an index of the cache, of the kinds that have many objects of which few claim a port.
	checkedIndex = "portcullis.checked"
	isChecked    = "yes" // the key of those that a check looks at
)

// Options of a Controller.
type Options struct {
	Settings    *extract.Settings
	Pools       bool          // the cluster has the kinds of api/v1alpha1
	Interval    time.Duration // between two rounds, whether anything has changed or not
	MinInterval time.Duration // between two rounds if something has changed; 0: 30 seconds
	Reports     bool          // write reports where the cluster has the kind Report of openreports.io
	Instance    string        // the reportingInstance of events
	Metrics     *Metrics      // may be nil
	Now         func() time.Time
}

// Controller audits a cluster. It is a manager's Runnable that watches on every replica, and its Lead is a task of the leader.
type Controller struct {
	cache   cache.Cache
	options Options
	events  eventWriter
	reports reportWriter
	changed periodic.Trigger
	synced  chan struct{} // closed when the cache has everything that exists
	took    time.Duration // the last round
}

// New returns a Controller. The cache of the cluster must be made with observe.CacheOptions and must not have been started.
// The error is about an index of the cache.
func New(c cluster.Cluster, o Options) (*Controller, error) {
	if o.MinInterval == 0 {
		o.MinInterval = minInterval
	}
	for _, object := range []client.Object{&corev1.Pod{}, &appsv1.ReplicaSet{}, &batchv1.Job{}} {
		if err := c.GetCache().IndexField(context.Background(), object, checkedIndex, checkedKeys); err != nil {
			return nil, fmt.Errorf("indexing %T: %w", object, err)
		}
	}
	return &Controller{
		cache: c.GetCache(), options: o, changed: periodic.NewTrigger(), synced: make(chan struct{}),
		events:  eventWriter{client: c.GetClient(), instance: o.Instance, now: o.Now},
		reports: reportWriter{live: c.GetAPIReader(), client: c.GetClient()},
	}, nil
}

// checkedKeys is the function of checkedIndex.
func checkedKeys(object client.Object) []string {
	var spec *corev1.PodSpec
	switch o := object.(type) {
	case *corev1.Pod:
		spec = &o.Spec
	case *appsv1.ReplicaSet:
		spec = &o.Spec.Template.Spec
	case *batchv1.Job:
		spec = &o.Spec.Template.Spec
	default:
		return nil
	}
	if spec.HostNetwork || extract.MayClaim(&corev1.Pod{Spec: *spec}) {
		return []string{isChecked}
	}
	return nil
}

// NeedLeaderElection is false: every replica watches.
func (c *Controller) NeedLeaderElection() bool { return false }

// Start watches until ctx ends.
func (c *Controller) Start(ctx context.Context) error {
	handlers := informers.Handlers{}
	for _, k := range c.kinds() {
		if _, err := c.cache.GetInformer(ctx, k.object, cache.BlockUntilSynced(false)); k.optional && meta.IsNoMatchError(err) {
			continue
		}
		handlers[k.object] = c.handler()
	}
	if err := informers.Sync(ctx, c.cache, handlers); err != nil {
		return err
	}
	if ctx.Err() == nil {
		close(c.synced)
	}
	<-ctx.Done()
	return nil
}

// Lead audits until ctx ends.
func (c *Controller) Lead(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-c.synced:
	}
	defer c.options.Metrics.reset()
	c.events.reset()
	c.reports.reset()
	var reporter periodic.ErrorReporter
	for {
		reporter.Report(ctx, c.audit(ctx), "Auditing the cluster")
		if !c.wait(ctx) {
			return
		}
	}
}

// wait returns when the next round is due, and reports false if ctx ended first.
func (c *Controller) wait(ctx context.Context) bool {
	soonest := max(c.options.MinInterval, busyPart*c.took)
	if !periodic.Sleep(ctx, soonest) {
		return false
	}
	timer := time.NewTimer(max(0, c.options.Interval-soonest))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	case <-c.changed:
		return periodic.Sleep(ctx, min(quietTime, c.options.MinInterval))
	}
}

// audit is one round.
func (c *Controller) audit(ctx context.Context) error {
	began := c.options.Now()
	objects, err := c.list(ctx)
	if err != nil {
		return err
	}
	findings, invalid := audit.Everything(c.options.Settings, objects, began, nil) // the status of an invalid pool says so, too
	findings = slices.DeleteFunc(findings, needsMore)
	ended := c.options.Now()
	c.took = ended.Sub(began)
	c.options.Metrics.set(findings, began, ended)
	subjects := subjectsOf(findings, objects)
	err = c.events.write(ctx, subjects)
	if c.options.Reports && err == nil {
		err = c.reports.write(ctx, subjects)
	}
	if err == nil && invalid != nil {
		err = fmt.Errorf("a pool or policy has no effect: %w", invalid)
	}
	return err
}

// needsMore reports whether a check needs more than the cache keeps: the ports of pods that claim none, and annotations.
func needsMore(f check.Finding) bool {
	switch f.Code {
	case check.TargetPortName, check.EndpointsApart, check.HostPortRequested, check.UndeclaredSockets:
		return true
	default:
		return false
	}
}

// kind is a kind that is audited.
type kind struct {
	object   client.Object
	list     func() client.ObjectList
	indexed  bool // only the objects of checkedIndex
	optional bool // clusters before Kubernetes 1.33 do not have it
}

func (c *Controller) kinds() []kind {
	all := []kind{
		{&corev1.Node{}, func() client.ObjectList { return &corev1.NodeList{} }, false, false},
		{&networkingv1.ServiceCIDR{}, func() client.ObjectList { return &networkingv1.ServiceCIDRList{} }, false, true},
		{&corev1.Service{}, func() client.ObjectList { return &corev1.ServiceList{} }, false, false},
		{&appsv1.Deployment{}, func() client.ObjectList { return &appsv1.DeploymentList{} }, false, false},
		{&appsv1.StatefulSet{}, func() client.ObjectList { return &appsv1.StatefulSetList{} }, false, false},
		{&appsv1.DaemonSet{}, func() client.ObjectList { return &appsv1.DaemonSetList{} }, false, false},
		{&appsv1.ReplicaSet{}, func() client.ObjectList { return &appsv1.ReplicaSetList{} }, true, false},
		{&corev1.ReplicationController{}, func() client.ObjectList { return &corev1.ReplicationControllerList{} }, false, false},
		{&batchv1.Job{}, func() client.ObjectList { return &batchv1.JobList{} }, true, false},
		{&batchv1.CronJob{}, func() client.ObjectList { return &batchv1.CronJobList{} }, false, false},
		{&corev1.Pod{}, func() client.ObjectList { return &corev1.PodList{} }, true, false},
	}
	if c.options.Pools {
		all = append(all,
			kind{&corev1.Namespace{}, func() client.ObjectList { return &corev1.NamespaceList{} }, false, false},
			kind{&v1alpha1.PortPool{}, func() client.ObjectList { return &v1alpha1.PortPoolList{} }, false, false},
			kind{&v1alpha1.PortPolicy{}, func() client.ObjectList { return &v1alpha1.PortPolicyList{} }, false, false},
			kind{&v1alpha1.PortClaim{}, func() client.ObjectList { return &v1alpha1.PortClaimList{} }, false, false})
	}
	return all
}

// list returns the objects to check, as the cache has them: they must not be modified.
func (c *Controller) list(ctx context.Context) ([]runtime.Object, error) {
	var all []runtime.Object
	for _, k := range c.kinds() {
		list := k.list()
		options := []client.ListOption{client.UnsafeDisableDeepCopy}
		if k.indexed {
			options = append(options, client.MatchingFields{checkedIndex: isChecked})
		}
		err := c.cache.List(ctx, list, options...)
		if meta.IsNoMatchError(err) && k.optional {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("listing %T: %w", list, err)
		}
		found, err := meta.ExtractList(list)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// handler requests a round when an object changes in a way that matters.
func (c *Controller) handler() toolscache.ResourceEventHandler {
	enqueue := func(object any) {
		if o, ok := object.(client.Object); !ok || matters(o) {
			c.changed.Fire()
		}
	}
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc: enqueue, DeleteFunc: enqueue,
		UpdateFunc: func(old, object any) {
			before, ok := old.(client.Object)
			after, also := object.(client.Object)
			if ok && also && (matters(before) || matters(after)) && !equality.Semantic.DeepEqual(relevant(before), relevant(after)) {
				c.changed.Fire()
			}
		},
	}
}

// matters reports whether a check looks at an object.
func matters(object client.Object) bool {
	switch object.(type) {
	case *corev1.Pod, *appsv1.ReplicaSet, *batchv1.Job:
		return checkedKeys(object) != nil
	default:
		return true
	}
}

// relevant returns the parts of an object that findings depend on.
func relevant(object client.Object) []any {
	switch o := object.(type) {
	case *corev1.Pod:
		return []any{o.Spec.NodeName, o.Status.Phase, o.Labels}
	case *corev1.Service:
		return []any{o.Spec, o.Status.LoadBalancer, o.Labels}
	case *corev1.Node:
		return []any{o.Labels, o.Annotations, o.Spec, o.Status.Addresses}
	case *batchv1.Job:
		return []any{o.Generation, o.Status.Conditions}
	case *corev1.Namespace:
		return []any{o.Labels}
	case *v1alpha1.PortClaim:
		return []any{o.Generation, o.Status.Phase}
	default:
		return []any{object.GetGeneration()} // not its status
	}
}
