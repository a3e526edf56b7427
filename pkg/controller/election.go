package controller

import (
	"context"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationv1 "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
)

// Leader is what one of several replicas does. It is a manager's Runnable that every replica runs. The manager's own
// election ends the process of a leader that loses touch with the API server, and the webhook with it.
type Leader struct {
	// Election is how one of several replicas is chosen. nil: this one is the only one.
	Election *Election
	// After is closed when this replica can do what a leader does: until then it leaves that to others. nil: at once.
	After <-chan struct{}
	// Tasks are what a leader does, side by side, each until its context ends.
	Tasks []func(context.Context)
}

// NeedLeaderElection says that every replica stands for election.
func (l *Leader) NeedLeaderElection() bool { return false }

// Start leads whenever this replica is elected, until ctx ends.
func (l *Leader) Start(ctx context.Context) error {
	if l.After != nil {
		select {
		case <-ctx.Done():
			return nil
		case <-l.After:
		}
	}
	if l.Election == nil {
		l.lead(ctx)
		return nil
	}
	return l.Election.run(ctx, l.lead)
}

func (l *Leader) lead(ctx context.Context) {
	log := logf.FromContext(ctx)
	log.Info("this replica leads")
	var working sync.WaitGroup
	for _, task := range l.Tasks {
		working.Go(func() { task(ctx) })
	}
	working.Wait()
	<-ctx.Done()
	log.Info("this replica no longer leads")
}

// Election is a Lease that at most one replica holds. A replica that loses it, because it cannot reach the API server,
// stops writing and stands for election again; everything else in its process goes on.
type Election struct {
	Config          *rest.Config
	Namespace, Name string // of the Lease
	Identity        string // of this replica, no other's
	// Lease is how long a leader may be silent until another one takes over; 0: 15 seconds.
	Lease time.Duration
}

// run calls lead whenever this replica leads, until ctx ends.
func (e *Election) run(ctx context.Context, lead func(context.Context)) error {
	lease := e.Lease
	if lease == 0 {
		lease = 15 * time.Second
	}
	config := rest.CopyConfig(e.Config)
	// A request that hangs must not cost the lease. When renewing has failed the elector tries to give the Lease back, and
	// only then is the term over: RetryPeriod, RenewDeadline and this must end before another replica takes over.
	config.Timeout = lease / 4
	client, err := coordinationv1.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("a client for leases: %w", err)
	}
	terms := make(chan context.Context, 1)
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Name: e.Name,
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: e.Namespace, Name: e.Name},
			Client:     client,
			LockConfig: resourcelock.ResourceLockConfig{Identity: e.Identity},
		},
		LeaseDuration: lease, RenewDeadline: lease * 3 / 5, RetryPeriod: lease * 2 / 15,
		ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(term context.Context) { terms <- term },
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return fmt.Errorf("leader election: %w", err)
	}
	ctx = logf.IntoContext(ctx, logf.FromContext(ctx)) // the elector's own lines go there, too
	for ctx.Err() == nil {
		over := make(chan struct{})
		go func() {
			defer close(over)
			elector.Run(ctx)
		}()
		for running := true; running; {
			select {
			case term := <-terms:
				lead(term) // until the term is over
			case <-over:
				running = false
			}
		}
	}
	return nil
}
