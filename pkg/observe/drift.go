package observe

import (
	"context"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// settleTime is how long a difference must last to be drift: events of what has just changed are still on their way.
const settleTime = 2 * time.Second

// rebuildUntil looks for drift every Options.RebuildEvery until ctx ends.
func (o *Observer) rebuildUntil(ctx context.Context) {
	if o.options.RebuildEvery <= 0 {
		<-ctx.Done()
		return
	}
	ticker := time.NewTicker(o.options.RebuildEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if _, err := o.Rebuild(ctx); err != nil && ctx.Err() == nil {
			logf.FromContext(ctx).Error(err, "comparing the ledger with the cluster")
		}
	}
}

// Rebuild builds a second ledger from all objects that the informers hold, and compares. An owner that differs, and
// differs in the same way a moment later, has drifted: it is reported, counted, and mended. Rebuild returns the owners
// that had drifted, sorted.
func (o *Observer) Rebuild(ctx context.Context) ([]ports.Ref, error) {
	before, err := o.differences(ctx)
	if err != nil || len(before) == 0 {
		return nil, err
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(settleTime):
	}
	after, err := o.differences(ctx)
	if err != nil {
		return nil, err
	}
	var drifted []ports.Ref
	for ref, d := range after {
		if earlier, ok := before[ref]; ok && earlier.equal(d) {
			drifted = append(drifted, ref)
			o.mend(ref, d)
		}
	}
	slices.SortFunc(drifted, ports.Ref.Compare)
	if len(drifted) > 0 {
		logf.FromContext(ctx).Info("the ledger had drifted from the cluster and was mended", "owners", len(drifted), "first", drifted[0].String())
		o.options.Metrics.drifted(len(drifted))
	}
	return drifted, nil
}

// difference is what an owner should hold and what the ledger says that it holds.
type difference struct {
	owner     ports.Owner
	want, has []ports.Claim
	gone      bool // it should not be there at all
}

func (d difference) equal(o difference) bool {
	return d.gone == o.gone && same(d.want, o.want) && same(d.has, o.has)
}

func same(a, b []ports.Claim) bool {
	return slices.EqualFunc(a, b, func(x, y ports.Claim) bool { return x.Compare(y) == 0 && x.Idle == y.Idle && x.Scope.Equal(y.Scope) })
}

func (o *Observer) mend(ref ports.Ref, d difference) {
	o.applying.Lock()
	defer o.applying.Unlock()
	if d.gone {
		o.ledger.Release(ref)
		return
	}
	o.ledger.Replace(d.owner, d.want)
}

// differences compares what the ledger shows with what the informers hold.
func (o *Observer) differences(ctx context.Context) (map[ports.Ref]difference, error) {
	o.applying.Lock()
	defer o.applying.Unlock()
	fresh := &ledger.Ledger{}
	for _, list := range lists() {
		if err := o.cache.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
			return nil, fmt.Errorf("listing %T: %w", list, err)
		}
		err := meta.EachListItem(list, func(object runtime.Object) error {
			if h, ok := o.holdingOf(object); ok && !h.isEmpty() {
				fresh.Replace(h.owner, h.claims)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return compare(fresh.Snapshot(), o.ledger.Snapshot()), nil
}

func compare(want, has *ledger.Snapshot) map[ports.Ref]difference {
	differ := map[ports.Ref]difference{}
	for owner, claims := range want.Owners() {
		known, held, ok := has.Owner(owner.Ref)
		if !ok || !same(claims, held) || !slices.Equal(owner.ClusterIPs, known.ClusterIPs) {
			differ[owner.Ref] = difference{owner: *owner, want: claims, has: held}
		}
	}
	for owner, held := range has.Owners() {
		if _, _, ok := want.Owner(owner.Ref); !ok {
			differ[owner.Ref] = difference{owner: *owner, has: held, gone: true}
		}
	}
	return differ
}

func lists() []client.ObjectList {
	return []client.ObjectList{
		&corev1.NodeList{}, &corev1.ServiceList{}, &appsv1.DeploymentList{}, &appsv1.StatefulSetList{}, &appsv1.DaemonSetList{},
		&appsv1.ReplicaSetList{}, &corev1.ReplicationControllerList{}, &batchv1.JobList{}, &batchv1.CronJobList{}, &corev1.PodList{},
	}
}
