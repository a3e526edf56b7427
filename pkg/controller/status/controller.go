// Package status writes the status of PortPools and PortPolicies: which ranges of a pool are in effect, how many ports are in
// use, which are outside, and whether a policy can be understood. Every replica watches; on the leader, Lead of the
// Controller makes all statuses anew, together, whenever something has changed:
//
//	event -> changed -> view: pools, namespaces, claims, Services, pods -> status of each pool -> write, events
//	                                                                    -> status of each policy -> write
//	                                                                    -> Metrics
//
// Everything comes from the cache, and a status that is what is stored already is not written. Between two rounds is at least
// MinInterval: a busy pool must not keep etcd busy. Who breaks a policy is reported by those who check it, not here.
package status

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/cluster"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/controller/internal/informers"
	"github.com/portcullis-k8s/portcullis/pkg/controller/internal/periodic"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

const (
	fieldOwner = client.FieldOwner("portcullis-controller")

	minInterval = 5 * time.Second // of Options.MinInterval
	roundTime   = time.Minute     // for one round
	// claimsIndex is an index of the cache, of Services and pods: those that have a port of a node.
	claimsIndex = "portcullis.claims"
	hasClaims   = "yes"
)

// Options of a Controller.
type Options struct {
	NodePortRange ports.Range   // limits the ranges of pools; empty: not known
	Reserved      []uint16      // ports of the nodes' own daemons, which no pool can allocate
	MinInterval   time.Duration // between two rounds; 0: 5 seconds
	Metrics       *Metrics      // may be nil
}

// Controller writes the status of the pools and policies of a cluster. It is a manager's Runnable that watches on every
// replica, and its Lead is a task of the leader.
type Controller struct {
	cache   cache.Cache
	writer  client.Client
	events  events.EventRecorder
	options Options
	changed periodic.Trigger
	synced  chan struct{} // closed when the cache has everything that exists
}

// New returns a Controller. The cluster must have the kinds of api/v1alpha1. Its cache must keep the labels of namespaces,
// Services and pods, and must not have been started. The error is about an index of the cache.
func New(c cluster.Cluster, o Options) (*Controller, error) {
	if o.MinInterval == 0 {
		o.MinInterval = minInterval
	}
	for _, object := range []client.Object{&corev1.Service{}, &corev1.Pod{}} {
		if err := c.GetCache().IndexField(context.Background(), object, claimsIndex, claimKeys); err != nil {
			return nil, fmt.Errorf("indexing %T: %w", object, err)
		}
	}
	return &Controller{
		cache: c.GetCache(), writer: c.GetClient(), events: c.GetEventRecorder("portcullis"),
		options: o, changed: periodic.NewTrigger(), synced: make(chan struct{}),
	}, nil
}

// claimKeys is the function of claimsIndex.
func claimKeys(object client.Object) []string {
	has := false
	switch o := object.(type) {
	case *corev1.Service:
		has = len(extract.Numbers(o)) > 0
	case *corev1.Pod:
		has = extract.MayClaim(o)
	}
	if has {
		return []string{hasClaims}
	}
	return nil
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

// handlers request a round when an object changes in a way that a status may show.
func (c *Controller) handlers() informers.Handlers {
	return informers.Handlers{
		&v1alpha1.PortPool{}:   informers.Changed(func(_, _ *v1alpha1.PortPool) { c.changed.Fire() }), // others may write status
		&v1alpha1.PortPolicy{}: informers.Changed(func(_, _ *v1alpha1.PortPolicy) { c.changed.Fire() }),
		&v1alpha1.PortClaim{}:  informers.Changed(func(_, _ *v1alpha1.PortClaim) { c.changed.Fire() }),
		&corev1.Namespace{}:    informers.Changed(c.namespaceChanged),
		&corev1.Service{}:      informers.Changed(c.serviceChanged),
		&corev1.Pod{}:          informers.Changed(c.podChanged),
	}
}

func (c *Controller) namespaceChanged(before, after *corev1.Namespace) {
	if before == nil || after == nil || !maps.Equal(before.Labels, after.Labels) {
		c.changed.Fire()
	}
}

func (c *Controller) serviceChanged(before, after *corev1.Service) {
	var had, has []extract.Number
	if before != nil {
		had = extract.Numbers(before)
	}
	if after != nil {
		has = extract.Numbers(after)
	}
	if before != nil && after != nil && before.UID == after.UID && slices.Equal(had, has) && maps.Equal(before.Labels, after.Labels) {
		return
	}
	if len(had)+len(has) > 0 {
		c.changed.Fire()
	}
}

func (c *Controller) podChanged(before, after *corev1.Pod) {
	if before != nil && extract.MayClaim(before) || after != nil && extract.MayClaim(after) {
		c.changed.Fire()
	}
}

// Lead writes status when something has changed, until ctx ends.
func (c *Controller) Lead(ctx context.Context) {
	defer c.options.Metrics.reset()
	c.changed.Fire()
	for failed := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-c.changed:
		}
		err := c.reconcile(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if failed++; failed == 3 {
				logf.FromContext(ctx).Error(err, "Writing status fails, and is retried")
			}
			c.changed.Fire()
		default:
			failed = 0
		}
		if !periodic.Sleep(ctx, c.options.MinInterval) {
			return
		}
	}
}

// reconcile is one round: it writes the status of every pool and policy that is not what is stored.
func (c *Controller) reconcile(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, roundTime)
	defer cancel()
	v, err := c.look(ctx)
	if err != nil {
		return err
	}
	return errors.Join(c.reconcilePools(ctx, v), c.reconcilePolicies(ctx, v))
}

// write writes an object's status. If the object has changed since it was read its status is made anew in the next round.
func (c *Controller) write(ctx context.Context, object client.Object) (written bool, err error) {
	err = c.writer.Status().Update(ctx, object, fieldOwner)
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		c.changed.Fire()
		return false, nil
	}
	return err == nil, err
}
