// Package claims takes PortClaims through their phases:
//
//	Requested  the webhook has created it; deleted if the Service does not come within RequestLifetime
//	Bound      the Service has the port; the first phase of a claim for a Service that is older than its pool
//	Released   the Service is gone or has given the port up; deleted after the pool's reuseDelay
//
// Every replica watches. On the leader, Lead of the Controller reconciles port by port:
//
//	event -> queue of ports -> decide by the cache -> nothing to do, or decide by the API server -> bind, release, delete
//
// A claim keeps a port from being allocated twice, so freeing one is the only dangerous step. The cache proposes and the API
// server decides: every step except creating a claim follows a read, every write names the version of the claim that it was
// decided on, and an error is retried, never taken for the absence of a Service. So a leader that does not know yet that it
// has lost the Lease does no harm.
package claims

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/cluster"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/portcullis-k8s/portcullis/pkg/controller/internal/informers"
	"github.com/portcullis-k8s/portcullis/pkg/controller/internal/periodic"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

const (
	// RequestLifetime is how long a claim waits for its Service, from when the leader sees the request: whoever only pretends
	// to create Services keeps no port for longer than 15 seconds. The webhook does not renew a request of the last 3, so that
	// a Service has 10 seconds from the webhook's answer to etcd. If it takes longer its port may be allocated to another
	// Service; the API server lets only one of them have it.
	RequestLifetime = 14 * time.Second

	workers        = 8
	reconcileTime  = 15 * time.Second // for all requests about one port
	resyncInterval = 10 * time.Minute // nothing is known that would need it
	fieldOwner     = client.FieldOwner("portcullis-controller")
)

// Options of a Controller.
type Options struct {
	NodePortRange   ports.Range   // limits the ranges of pools; empty: not known
	RequestLifetime time.Duration // 0: the constant RequestLifetime
	Metrics         *Metrics      // may be nil
	Now             func() time.Time
}

// Controller reconciles the PortClaims of a cluster. It is a manager's Runnable that watches on every replica, and its Lead is
// a task of the leader; replicas that do not lead write nothing.
type Controller struct {
	cache    cache.Cache
	live     client.Reader // reads from the API server
	writer   client.Client
	events   events.EventRecorder
	options  Options
	queue    atomic.Pointer[queue] // of ports; nil while another replica leads
	resync   periodic.Trigger      // any port may have changed
	synced   chan struct{}         // closed when the cache has everything that exists
	pools    poolCache
	requests requests
}

type queue = workqueue.TypedRateLimitingInterface[uint16]

// New returns a Controller. The cluster must have the kinds of api/v1alpha1. Its cache must keep the labels of Services and
// namespaces, and must not have been started. The error is about an index of the cache.
func New(c cluster.Cluster, o Options) (*Controller, error) {
	if o.RequestLifetime == 0 {
		o.RequestLifetime = RequestLifetime
	}
	if err := c.GetCache().IndexField(context.Background(), &corev1.Service{}, nodePortIndex, nodePortKeys); err != nil {
		return nil, fmt.Errorf("indexing Services: %w", err)
	}
	return &Controller{
		cache: c.GetCache(), live: c.GetAPIReader(), writer: c.GetClient(), events: c.GetEventRecorder("portcullis"),
		options: o, resync: periodic.NewTrigger(), synced: make(chan struct{}), pools: poolCache{nodePortRange: o.NodePortRange},
	}, nil
}

// NeedLeaderElection is false: every replica watches.
func (c *Controller) NeedLeaderElection() bool { return false }

// Start watches until ctx ends.
func (c *Controller) Start(ctx context.Context) error {
	if err := informers.Sync(ctx, c.cache, c.handlers()); err != nil {
		return err
	}
	close(c.synced)
	<-ctx.Done()
	return nil
}

// Synced is closed when this replica has seen everything that exists. Lead must not run before.
func (c *Controller) Synced() <-chan struct{} { return c.synced }

// Lead reconciles until ctx ends.
func (c *Controller) Lead(ctx context.Context) {
	q := workqueue.NewTypedRateLimitingQueueWithConfig(
		workqueue.NewTypedItemExponentialFailureRateLimiter[uint16](50*time.Millisecond, 15*time.Second),
		workqueue.TypedRateLimitingQueueConfig[uint16]{Name: "claims"})
	c.queue.Store(&q)
	var running sync.WaitGroup
	for range workers {
		running.Go(func() { c.work(ctx, q) })
	}
	running.Go(func() { c.resyncUntil(ctx) })
	<-ctx.Done()
	c.queue.Store(nil)
	q.ShutDown()
	running.Wait()
}

// work reconciles one port after the other.
func (c *Controller) work(ctx context.Context, q queue) {
	for {
		port, shutdown := q.Get()
		if shutdown {
			return
		}
		requeueAfter, err := c.reconcile(ctx, port)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			if q.NumRequeues(port) == 3 { // once, and not for what a retry mends
				logf.FromContext(ctx).Error(err, "Reconciling a port fails, and is retried", "port", port)
			}
			q.AddRateLimited(port)
		case requeueAfter > 0:
			q.Forget(port)
			q.AddAfter(port, requeueAfter)
		default:
			q.Forget(port)
		}
		q.Done(port)
	}
}

// resyncUntil enqueues every port at the beginning, when pools have changed, and every resyncInterval.
func (c *Controller) resyncUntil(ctx context.Context) {
	for {
		wait := resyncInterval
		if err := c.enqueueAll(ctx); err != nil {
			logf.FromContext(ctx).Error(err, "Listing PortClaims and Services")
			wait = time.Second
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-c.resync:
			timer.Stop()
		}
	}
}
