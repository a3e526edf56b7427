// Package leader runs what one replica of several does. A Runner waits until this replica has seen the cluster, takes part
// in the Election, and runs its Tasks for as long as the replica holds the Lease:
//
//	After closed -> Election: Lease acquired -> Tasks, side by side
//	                   ^                            |
//	                   +---- Lease lost: ctx ends <-+
//
// Every replica has a Runner. A replica that loses the Lease stops its tasks and becomes a candidate again, and everything
// else in its process goes on: the webhook does not depend on the Lease. The election of controller-runtime's manager ends
// the process instead. A task is the Lead method of a controller, func(ctx); it returns when its context ends. A leader may
// not know yet that it has lost the Lease, so each controller makes sure that two leaders do no harm.
package leader

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

// Runner runs tasks while this replica leads. It is a manager's Runnable.
type Runner struct {
	// Election chooses one of several replicas. nil: this replica is the only one.
	Election *Election
	// After is closed, each of them, when this replica can do a leader's work. Until then it is no candidate.
	After []<-chan struct{}
	// Tasks run side by side, each until its context ends.
	Tasks []func(context.Context)
}

// NeedLeaderElection is false: every replica is a candidate.
func (r *Runner) NeedLeaderElection() bool { return false }

// Start leads whenever this replica is elected, until ctx ends.
func (r *Runner) Start(ctx context.Context) error {
	for _, ready := range r.After {
		select {
		case <-ctx.Done():
			return nil
		case <-ready:
		}
	}
	if r.Election == nil {
		r.lead(ctx)
		return nil
	}
	return r.Election.run(ctx, r.lead)
}

func (r *Runner) lead(ctx context.Context) {
	log := logf.FromContext(ctx)
	log.Info("This replica leads")
	var running sync.WaitGroup
	for _, task := range r.Tasks {
		running.Go(func() { task(ctx) })
	}
	running.Wait()
	<-ctx.Done()
	log.Info("This replica no longer leads")
}

// Election is a Lease that at most one replica holds.
type Election struct {
	Config          *rest.Config
	Namespace, Name string // of the Lease
	Identity        string // of this replica, unique
	// LeaseDuration is how long a leader may be silent before another replica takes over; 0: 15 seconds.
	LeaseDuration time.Duration
}

// run calls lead whenever this replica leads, until ctx ends.
func (e *Election) run(ctx context.Context, lead func(context.Context)) error {
	lease := e.LeaseDuration
	if lease == 0 {
		lease = 15 * time.Second
	}
	config := rest.CopyConfig(e.Config)
	// A request that hangs must not cost the Lease. When a renewal has failed the elector tries to release the Lease, and
	// only then ends the term: RetryPeriod, RenewDeadline and this timeout must end before another replica takes over.
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
	ctx = logf.IntoContext(ctx, logf.FromContext(ctx)) // for the lines that the elector logs
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
