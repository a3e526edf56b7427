// Package controller is what one of all replicas, the leader, writes. Every replica watches; a Leader runs the Lead
// methods of these while the replica holds the Lease of its Election:
//
//   - Controller: the phases of PortClaims, and the status of PortPools and PortPolicies
//   - Certificates: the certificate authority, and the CA bundle and paths in the webhook configurations
//   - Arming: failurePolicy, by a self-test through the API server
//   - Auditor: what audit.Everything finds, as events, reports and metrics
//
// A PortClaim has these phases, the first two of which it may begin with:
//
//	Requested  the webhook has created it; deleted if the Service does not come within RequestLifetime
//	Bound      the Service has the port
//	Released   the Service is gone or has given the port up; deleted after the pool's reuseDelay
//
// A claim is what keeps a port from being allocated twice, so that freeing one is the only dangerous thing here. What is
// cached proposes, what is stored decides: every step but the making of a claim follows a read from the API server, and
// every write says which version of the claim it was decided upon. Only the API server's word that a Service does not
// exist is taken for that; an error is tried again. A leader that does not know yet that it is none can do no harm.
package controller

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/cluster"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

const (
	// RequestLifetime is how long a number stays with a Service that does not come, from when the leader sees the request:
	// whoever only pretends to create Services has no number for longer than 15 seconds. The webhook does not renew a
	// request of the last 3, so that a Service has 10 seconds from the webhook's answer to etcd. One that takes longer may
	// find its number given to another Service; the API server lets only one of them have it.
	RequestLifetime = 14 * time.Second
	// StatusEvery is how often the status of one pool is written at most.
	StatusEvery = 5 * time.Second

	workers     = 8
	settleTime  = 15 * time.Second // for all requests that one number needs
	reportTime  = time.Minute      // for one round of status
	resyncEvery = 10 * time.Minute // nothing is known that would need it
	fieldOwner  = client.FieldOwner("portcullis-controller")
)

// Options of a Controller.
type Options struct {
	NodePortRange ports.Range // to which pools are clipped; empty: not known
	Reserved      []uint16    // ports of the nodes' own daemons: no pool can give them away
	// Lifetime of requests; 0: RequestLifetime.
	Lifetime time.Duration
	// StatusEvery is how often status is written at most; 0: StatusEvery.
	StatusEvery time.Duration
	Metrics     *Metrics
	Now         func() time.Time
}

// Controller keeps claims and status in step with the cluster, while it leads. It is a manager's Runnable that every
// replica runs, and whose Lead is for a Leader; those that do not lead write nothing.
type Controller struct {
	cache    cache.Cache
	live     client.Reader
	writer   client.Client
	events   events.EventRecorder
	options  Options
	queue    atomic.Pointer[queue] // nil while somebody else leads
	changed  chan struct{}         // status may have changed
	resync   chan struct{}         // everything may have changed
	watching chan struct{}         // closed when all that exists has been seen
	known    knownPools
	requests requests
}

// queue is the numbers that are to be looked at.
type queue = workqueue.TypedRateLimitingInterface[uint16]

// New returns a controller of a cluster that has the kinds of api/v1alpha1. Its cache must keep the labels of Services
// and namespaces, and must not have been started. The error is about an index of the cache.
func New(c cluster.Cluster, o Options) (*Controller, error) {
	if o.Lifetime == 0 {
		o.Lifetime = RequestLifetime
	}
	if o.StatusEvery == 0 {
		o.StatusEvery = StatusEvery
	}
	if err := addIndexes(c.GetCache()); err != nil {
		return nil, err
	}
	return &Controller{
		cache: c.GetCache(), live: c.GetAPIReader(), writer: c.GetClient(), events: c.GetEventRecorder("portcullis"),
		options: o, changed: make(chan struct{}, 1), resync: make(chan struct{}, 1), watching: make(chan struct{}),
	}, nil
}

// NeedLeaderElection says that every replica watches.
func (c *Controller) NeedLeaderElection() bool { return false }

// Start watches until ctx ends. What it sees is settled by the replica that leads.
func (c *Controller) Start(ctx context.Context) error {
	if err := c.watch(ctx); err != nil {
		return err
	}
	close(c.watching)
	<-ctx.Done()
	return nil
}

// Watching is closed when all that exists has been seen: before, this replica is no leader.
func (c *Controller) Watching() <-chan struct{} { return c.watching }

// Lead settles claims and writes status until ctx ends: when the process stops, or when another replica leads.
func (c *Controller) Lead(ctx context.Context) {
	q := workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[uint16](50*time.Millisecond, 15*time.Second))
	c.queue.Store(&q)
	c.touchStatus()
	var working sync.WaitGroup
	for range workers {
		working.Go(func() { c.work(ctx, q) })
	}
	working.Go(func() { c.reportUntil(ctx) })
	working.Go(func() { c.resyncUntil(ctx) })
	<-ctx.Done()
	c.queue.Store(nil)
	q.ShutDown()
	working.Wait()
	c.options.Metrics.forget()
}

// work settles one number after the other.
func (c *Controller) work(ctx context.Context, q queue) {
	for {
		number, over := q.Get()
		if over {
			return
		}
		again, err := c.settle(ctx, number)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			if q.NumRequeues(number) == 3 { // once, and not for what a moment mends
				logf.FromContext(ctx).Error(err, "a number cannot be settled, trying on", "number", number)
			}
			q.AddRateLimited(number)
		case again > 0:
			q.Forget(number)
			q.AddAfter(number, again)
		default:
			q.Forget(number)
		}
		q.Done(number)
	}
}

// resyncUntil looks at everything at the beginning, when pools have changed, and now and then.
func (c *Controller) resyncUntil(ctx context.Context) {
	for {
		wait := resyncEvery
		if err := c.touchAll(ctx); err != nil {
			logf.FromContext(ctx).Error(err, "listing what is claimed and held")
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

// sleep waits, and reports whether ctx still stands.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// touch has numbers looked at, if this replica leads.
func (c *Controller) touch(numbers ...uint16) {
	if q := c.queue.Load(); q != nil {
		for _, n := range numbers {
			(*q).Add(n)
		}
	}
}

// touchStatus has status looked at.
func (c *Controller) touchStatus() { signal(c.changed) }

// signal wakes who waits at a channel of capacity 1, or will.
func signal(channel chan<- struct{}) {
	select {
	case channel <- struct{}{}:
	default:
	}
}

// touchAll has every number looked at that is held or claimed.
func (c *Controller) touchAll(ctx context.Context) error {
	if err := c.touchServices(ctx); err != nil {
		return err
	}
	var claims v1alpha1.PortClaimList
	if err := c.cache.List(ctx, &claims, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing PortClaims: %w", err)
	}
	for i := range claims.Items {
		c.touch(uint16(claims.Items[i].Spec.Port))
	}
	return nil
}

// touchServices has every number looked at that Services hold.
func (c *Controller) touchServices(ctx context.Context, of ...client.ListOption) error {
	var services corev1.ServiceList
	if err := c.cache.List(ctx, &services, append(of, client.MatchingFields{byNumber: anyNumber}, client.UnsafeDisableDeepCopy)...); err != nil {
		return fmt.Errorf("listing Services: %w", err)
	}
	for i := range services.Items {
		c.touch(portsOf(&services.Items[i])...)
	}
	return nil
}

// watch has everything looked at that changes, and returns when all that exists is in the cache.
func (c *Controller) watch(ctx context.Context) error {
	var synced []toolscache.InformerSynced
	for object, handler := range c.handlers() {
		informer, err := c.cache.GetInformer(ctx, object, cache.BlockUntilSynced(false))
		if err != nil {
			return fmt.Errorf("watching %T: %w", object, err)
		}
		registration, err := informer.AddEventHandler(handler)
		if err != nil {
			return fmt.Errorf("watching %T: %w", object, err)
		}
		synced = append(synced, registration.HasSynced)
	}
	toolscache.WaitForCacheSync(ctx.Done(), synced...) // it fails if ctx ends, and then nobody leads
	return nil
}
