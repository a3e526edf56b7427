package controller

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
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
	"github.com/portcullis-k8s/portcullis/pkg/extract"
)

const (
	// AuditSoonest is how long after one audit the next one begins at the soonest, if something has changed.
	AuditSoonest = 30 * time.Second

	auditSettles = 2 * time.Second // what belongs to one change comes in that time
	auditShare   = 20              // an audit may take that part of the time: a twentieth
	// byAsked is an index of the cache, of the kinds of which there are many and few claim a port: isAsked for those about
	// whom there is anything to ask.
	byAsked = "portcullis.asked"
	isAsked = "yes"
)

// AuditOptions of an Auditor.
type AuditOptions struct {
	Settings *extract.Settings
	Pools    bool          // the cluster has the kinds of portcullis.dev
	Every    time.Duration // how often everything is judged, whether it changed or not
	Soonest  time.Duration // 0: AuditSoonest
	Reports  bool          // write reports where the cluster has the kind Report of openreports.io
	Instance string        // what events call this replica
	Metrics  *AuditMetrics
	Now      func() time.Time
}

// Auditor judges everything that exists, now and then and soon after changes, and tells what is wrong by metrics, events
// and reports. It refuses nothing. It is a manager's Runnable that every replica runs, and whose Lead is for a Leader.
type Auditor struct {
	cache    cache.Cache
	options  AuditOptions
	events   eventWriter
	reports  reportWriter
	changed  chan struct{}
	watching chan struct{} // closed when all that exists has been seen
	took     time.Duration // the last audit
}

// NewAuditor returns an auditor of a cluster, whose cache must have been made with observe.CacheOptions and must not have
// been started. The error is about an index of the cache.
func NewAuditor(c cluster.Cluster, o AuditOptions) (*Auditor, error) {
	if o.Soonest == 0 {
		o.Soonest = AuditSoonest
	}
	for _, object := range []client.Object{&corev1.Pod{}, &appsv1.ReplicaSet{}, &batchv1.Job{}} {
		if err := c.GetCache().IndexField(context.Background(), object, byAsked, asked); err != nil {
			return nil, fmt.Errorf("indexing %T: %w", object, err)
		}
	}
	return &Auditor{
		cache: c.GetCache(), options: o, changed: make(chan struct{}, 1), watching: make(chan struct{}),
		events:  eventWriter{client: c.GetClient(), instance: o.Instance, now: o.Now},
		reports: reportWriter{live: c.GetAPIReader(), client: c.GetClient()},
	}, nil
}

// asked is the index byAsked.
func asked(object client.Object) []string {
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
		return []string{isAsked}
	}
	return nil
}

// NeedLeaderElection says that every replica watches.
func (a *Auditor) NeedLeaderElection() bool { return false }

// Start watches until ctx ends.
func (a *Auditor) Start(ctx context.Context) error {
	var synced []toolscache.InformerSynced
	for _, list := range a.lists() {
		informer, err := a.cache.GetInformer(ctx, list.kind, cache.BlockUntilSynced(false))
		if meta.IsNoMatchError(err) && list.mayLack {
			continue
		}
		if err != nil {
			return fmt.Errorf("watching %T: %w", list.kind, err)
		}
		registration, err := informer.AddEventHandler(a.handler())
		if err != nil {
			return fmt.Errorf("watching %T: %w", list.kind, err)
		}
		synced = append(synced, registration.HasSynced)
	}
	if toolscache.WaitForCacheSync(ctx.Done(), synced...) {
		close(a.watching)
	}
	<-ctx.Done()
	return nil
}

// Lead audits until ctx ends: when the process stops, or when another replica leads.
func (a *Auditor) Lead(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-a.watching:
	}
	defer a.options.Metrics.forget()
	a.events.begin()
	a.reports.begin()
	var told complaint
	for {
		told.about(ctx, a.round(ctx), "Auditing the cluster")
		if !a.wait(ctx) {
			return
		}
	}
}

// wait returns when the next audit is due: after a change, or when it has been long enough. It reports whether ctx still
// stands.
func (a *Auditor) wait(ctx context.Context) bool {
	soonest := max(a.options.Soonest, auditShare*a.took)
	if !sleep(ctx, soonest) {
		return false
	}
	timer := time.NewTimer(max(0, a.options.Every-soonest))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	case <-a.changed:
		return sleep(ctx, min(auditSettles, a.options.Soonest))
	}
}

// round judges everything once.
func (a *Auditor) round(ctx context.Context) error {
	began := a.options.Now()
	objects, err := a.look(ctx)
	if err != nil {
		return err
	}
	findings, invalid := audit.Everything(a.options.Settings, objects, began, nil) // an invalid pool is said by who keeps pools
	findings = slices.DeleteFunc(findings, isUnseen)
	ended := a.options.Now()
	a.took = ended.Sub(began)
	a.options.Metrics.set(findings, began, ended)
	offenders := offendersOf(findings, objects)
	err = a.events.tell(ctx, offenders)
	if a.options.Reports && err == nil {
		err = a.reports.tell(ctx, offenders)
	}
	if err == nil && invalid != nil {
		err = fmt.Errorf("a pool or policy has no effect: %w", invalid)
	}
	return err
}

// isUnseen reports whether a finding needs more to be judged than the cache keeps: the ports of pods that claim none, and
// annotations.
func isUnseen(f check.Finding) bool {
	switch f.Code {
	case check.TargetPortName, check.EndpointsApart, check.HostPortRequested, check.UndeclaredSockets:
		return true
	default:
		return false
	}
}

// listed is a kind that is audited.
type listed struct {
	kind    client.Object
	list    func() client.ObjectList
	indexed bool // those that nothing is asked about are left out
	mayLack bool // clusters before Kubernetes 1.33 do not have it
}

func (a *Auditor) lists() []listed {
	all := []listed{
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
	if a.options.Pools {
		all = append(all,
			listed{&corev1.Namespace{}, func() client.ObjectList { return &corev1.NamespaceList{} }, false, false},
			listed{&v1alpha1.PortPool{}, func() client.ObjectList { return &v1alpha1.PortPoolList{} }, false, false},
			listed{&v1alpha1.PortPolicy{}, func() client.ObjectList { return &v1alpha1.PortPolicyList{} }, false, false},
			listed{&v1alpha1.PortClaim{}, func() client.ObjectList { return &v1alpha1.PortClaimList{} }, false, false})
	}
	return all
}

// look returns what there is to judge, as far as it has been seen. Nothing of it may be written to.
func (a *Auditor) look(ctx context.Context) ([]runtime.Object, error) {
	var all []runtime.Object
	for _, l := range a.lists() {
		list := l.list()
		options := []client.ListOption{client.UnsafeDisableDeepCopy}
		if l.indexed {
			options = append(options, client.MatchingFields{byAsked: isAsked})
		}
		err := a.cache.List(ctx, list, options...)
		if meta.IsNoMatchError(err) && l.mayLack {
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

// handler has everything judged again when something has changed that is judged.
func (a *Auditor) handler() toolscache.ResourceEventHandler {
	touch := func(object any) {
		if o, ok := object.(client.Object); !ok || matters(o) {
			signal(a.changed)
		}
	}
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc: touch, DeleteFunc: touch,
		UpdateFunc: func(old, object any) {
			before, ok := old.(client.Object)
			after, also := object.(client.Object)
			if ok && also && (matters(before) || matters(after)) && !equality.Semantic.DeepEqual(judged(before), judged(after)) {
				signal(a.changed)
			}
		},
	}
}

// matters reports whether there is anything to ask about an object.
func matters(object client.Object) bool {
	switch object.(type) {
	case *corev1.Pod, *appsv1.ReplicaSet, *batchv1.Job:
		return asked(object) != nil
	default:
		return true
	}
}

// judged is what of an object decides about findings.
func judged(object client.Object) []any {
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
		return []any{object.GetGeneration()} // its status says nothing
	}
}

// AuditMetrics tells what audits have found. Only the replica that leads has values for it, but for how long they took. A
// nil AuditMetrics counts nothing.
type AuditMetrics struct {
	findings *prometheus.GaugeVec
	last     prometheus.Gauge
	duration prometheus.Histogram
}

// NewAuditMetrics makes the metrics of audits and registers them.
func NewAuditMetrics(registry prometheus.Registerer) *AuditMetrics {
	m := &AuditMetrics{
		findings: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "portcullis_audit_findings", Help: "Findings of the last audit, by code and severity (error, warning, info), from the leader.",
		}, []string{"code", "severity"}),
		last: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "portcullis_audit_last_success_timestamp_seconds", Help: "When the last audit ended, from the leader; 0 on the others.",
		}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "portcullis_audit_duration_seconds", Help: "How long the last audit took.",
			Buckets: []float64{0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100},
		}),
	}
	registry.MustRegister(m.findings, m.last, m.duration)
	return m
}

func (m *AuditMetrics) set(findings []check.Finding, began, ended time.Time) {
	if m == nil {
		return
	}
	m.findings.Reset()
	for _, f := range findings {
		m.findings.WithLabelValues(string(f.Code), f.Severity.String()).Inc()
	}
	m.last.Set(float64(ended.Unix()))
	m.duration.Observe(ended.Sub(began).Seconds())
}

// forget removes what a leader has told: another one tells it now.
func (m *AuditMetrics) forget() {
	if m != nil {
		m.findings.Reset()
		m.last.Set(0)
	}
}
