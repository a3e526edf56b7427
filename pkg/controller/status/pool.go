package status

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// reconcilePools writes the status of each pool, the events about it, and the metrics.
func (c *Controller) reconcilePools(ctx context.Context, v *view) error {
	var list v1alpha1.PortPoolList
	if err := c.cache.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing PortPools: %w", err)
	}
	out, usage := v.outOfPool(), map[string]pool.Usage{}
	var failed []error
	for i := range list.Items {
		before := &list.Items[i]
		if v.generations[before.UID] != before.Generation {
			c.changed.Fire() // it has changed since v was made
			continue
		}
		status, u := v.poolStatus(before, out[before.Name])
		if u != nil {
			usage[before.Name] = *u
		}
		if equality.Semantic.DeepEqual(before.Status, status) {
			continue
		}
		after := before.DeepCopy()
		after.Status = status
		written, err := c.write(ctx, after)
		if err != nil {
			failed = append(failed, fmt.Errorf("the status of PortPool %s: %w", before.Name, err))
		}
		if written {
			c.recordEvents(before, after, out[before.Name])
		}
	}
	c.options.Metrics.set(usage, v.phases)
	return errors.Join(failed...)
}

// recordEvents records what is new in a pool's status, at most as many events as the status has samples.
func (c *Controller) recordEvents(before, after *v1alpha1.PortPool, out []pool.Outside) {
	exhausted := meta.FindStatusCondition(after.Status.Conditions, v1alpha1.ConditionExhausted)
	accepted := meta.IsStatusConditionTrue(after.Status.Conditions, v1alpha1.ConditionAccepted)
	was := meta.IsStatusConditionTrue(before.Status.Conditions, v1alpha1.ConditionExhausted)
	if accepted && !was && exhausted.Status == metav1.ConditionTrue {
		c.events.Eventf(after, nil, corev1.EventTypeWarning, "PoolExhausted", "Allocate", "%s", exhausted.Message)
	}
	for i, sample := range after.Status.OutOfPool {
		if slices.Contains(before.Status.OutOfPool, sample) {
			continue
		}
		c.events.Eventf(holder(out[i].Holding), after, corev1.EventTypeWarning, "PortOutOfPool", "Audit",
			"%d is outside PortPool %s, which serves this %s; it stays allocated: change it to a port of the pool when it suits you", sample.Port, after.Name, sample.Kind)
	}
}

// holder is the object of an event about a port that it holds.
func holder(h pool.Holding) client.Object {
	about := metav1.ObjectMeta{Namespace: h.Namespace, Name: h.Name, UID: types.UID(h.UID)}
	if h.For == pool.HostPorts {
		return &corev1.Pod{ObjectMeta: about}
	}
	return &corev1.Service{ObjectMeta: about}
}

// How much of a status is written; the API server takes no more.
const (
	maxRanges    = 256
	maxOutOfPool = 20
)

// poolStatus returns the status of a pool, and its usage; nil for a pool that cannot be understood. out are the ports that
// those whom the pool serves have outside of it.
//
// Programmed is about this process: it does not know of other replicas, which load a pool within moments.
func (v *view) poolStatus(object *v1alpha1.PortPool, out []pool.Outside) (v1alpha1.PortPoolStatus, *pool.Usage) {
	status := *object.Status.DeepCopy()
	status.ObservedGeneration = object.Generation
	status.EffectiveRanges, status.Usage, status.UtilizationPercent = nil, nil, nil
	status.MatchedNamespaces, status.OutOfPoolCount, status.OutOfPool = nil, nil, nil
	m, ok := v.pools.Named(object.Name)
	if !ok {
		why := fmt.Sprintf("%v; correct it", v.invalid[object.Name])
		for _, c := range []metav1.Condition{
			condition(v1alpha1.ConditionAccepted, false, v1alpha1.ReasonInvalidSelector, why),
			condition(v1alpha1.ConditionProgrammed, false, v1alpha1.ReasonPending, "the pool has no effect: "+why),
			condition(v1alpha1.ConditionOverlapping, false, v1alpha1.ReasonNoOverlap, "the pool has no effect"),
			condition(v1alpha1.ConditionExhausted, true, v1alpha1.ReasonNoPortLeft, "the pool has no effect"),
			condition(v1alpha1.ConditionDrained, true, v1alpha1.ReasonEmpty, "the pool has no effect"),
		} {
			setCondition(&status.Conditions, c, object.Generation)
		}
		return status, nil
	}
	u := m.Usage(v.census.Book(m))
	status.EffectiveRanges = rangesOf(m.Effective)
	status.Usage = &v1alpha1.PoolUsage{
		Total: int32(u.Total), Allocated: int32(u.Allocated), Available: int32(u.Available),
		Quarantined: int32(u.Quarantined), Foreign: int32(u.Foreign),
	}
	status.UtilizationPercent = new(int32(u.UtilizationPercent()))
	status.MatchedNamespaces = new(v.countNamespaces(m.Namespaces.Matches))
	status.OutOfPoolCount = new(int32(len(out)))
	for _, o := range out[:min(len(out), maxOutOfPool)] {
		status.OutOfPool = append(status.OutOfPool, v1alpha1.OutOfPoolPort{
			Kind: o.Ref().Kind, Namespace: o.Namespace, Name: o.Name, Port: int32(o.Port), Protocol: v1alpha1.Protocol(o.Protocol.String()), Reason: outOfPoolReason(o),
		})
	}
	accepted := acceptedCondition(m)
	for _, c := range []metav1.Condition{accepted, programmedCondition(accepted), v.overlappingCondition(m), exhaustedCondition(m, u), drainedCondition(u, out)} {
		setCondition(&status.Conditions, c, object.Generation)
	}
	return status, &u
}

func outOfPoolReason(o pool.Outside) v1alpha1.OutOfPoolReason {
	if o.HasShrunk {
		return v1alpha1.RangeShrunk
	}
	return v1alpha1.NotAllocated
}

func condition(kind string, isTrue bool, reason, message string) metav1.Condition {
	status := metav1.ConditionFalse
	if isTrue {
		status = metav1.ConditionTrue
	}
	return metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message}
}

func setCondition(conditions *[]metav1.Condition, c metav1.Condition, generation int64) {
	c.ObservedGeneration = generation
	meta.SetStatusCondition(conditions, c)
}

func acceptedCondition(m *pool.Member) metav1.Condition {
	const kind = v1alpha1.ConditionAccepted
	switch {
	case m.State == pool.Disabled:
		return condition(kind, true, v1alpha1.ReasonValid, "the pool is understood; spec.state Disabled takes it out of effect")
	case len(m.Effective) > 0 && len(m.Outside) > 0:
		return condition(kind, true, v1alpha1.ReasonValid, fmt.Sprintf("the pool is in effect, but for %s, which the cluster does not accept as nodePorts", m.Outside.Brief()))
	case len(m.Effective) > 0:
		return condition(kind, true, v1alpha1.ReasonValid, "the pool is in effect")
	case m.Outside.Size() == m.Ranges.Size():
		return condition(kind, false, v1alpha1.ReasonOutsideServiceNodePortRange,
			fmt.Sprintf("spec.ranges: the cluster accepts none of %s as nodePorts; choose numbers inside its nodePort range", m.Ranges.Brief()))
	default:
		return condition(kind, false, v1alpha1.ReasonSuperseded,
			fmt.Sprintf("spec.ranges: other pools keep all numbers: %s; choose other numbers", overlaps(m, false)))
	}
}

func programmedCondition(accepted metav1.Condition) metav1.Condition {
	if accepted.Status == metav1.ConditionTrue {
		return condition(v1alpha1.ConditionProgrammed, true, v1alpha1.ReasonServing, "the leader has loaded this generation")
	}
	return condition(v1alpha1.ConditionProgrammed, false, v1alpha1.ReasonPending, "the pool is not accepted")
}

func (v *view) overlappingCondition(m *pool.Member) metav1.Condition {
	const kind = v1alpha1.ConditionOverlapping
	if lost := overlaps(m, false); lost != "" {
		return condition(kind, true, v1alpha1.ReasonPortsTaken, fmt.Sprintf("spec.ranges: a stronger pool keeps %s; take the numbers out of spec.ranges", lost))
	}
	if won := overlaps(m, true); won != "" {
		return condition(kind, true, v1alpha1.ReasonPortsKept, fmt.Sprintf("this pool keeps what another one names too, %s; take the numbers out of that one", won))
	}
	for _, o := range v.pools.Members() {
		if o != m && o.For == m.For && !o.Exclusive && !m.Exclusive && overlap(o.Effective, m.Effective) {
			return condition(kind, true, v1alpha1.ReasonPortsShared, fmt.Sprintf("PortPool %s has some of the numbers too, and sharing is Shared in both", o.Name))
		}
	}
	return condition(kind, false, v1alpha1.ReasonNoOverlap, "no other pool has any of the numbers")
}

// overlaps lists the overlaps that a pool has won, or lost; "" for none.
func overlaps(m *pool.Member, won bool) string {
	const most = 3
	var all []string
	for _, o := range m.Overlaps {
		if o.Won == won {
			all = append(all, fmt.Sprintf("%s (PortPool %s)", o.Ports.Brief(), o.With))
		}
	}
	if more := len(all) - most; more > 0 {
		all = append(all[:most], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(all, ", ")
}

func overlap(a, b ports.Ranges) bool {
	return slices.ContainsFunc(a, func(x ports.Range) bool { return slices.ContainsFunc(b, x.Overlaps) })
}

// exhaustedCondition is about the ports that the pool may allocate, or in mode Explicit about those that may be asked for.
func exhaustedCondition(m *pool.Member, u pool.Usage) metav1.Condition {
	const kind = v1alpha1.ConditionExhausted
	left := u.Available
	if m.Mode == pool.Auto {
		left = u.Automatic
	}
	switch {
	case m.State == pool.Disabled:
		return condition(kind, false, v1alpha1.ReasonPortsAvailable, "spec.state Disabled: the pool gives no numbers")
	case left > 0:
		return condition(kind, false, v1alpha1.ReasonPortsAvailable, "there are numbers to give")
	case u.Total == 0:
		return condition(kind, true, v1alpha1.ReasonNoPortLeft, "the pool has no number")
	default:
		return condition(kind, true, v1alpha1.ReasonNoPortLeft, fmt.Sprintf("spec.ranges: of %d numbers %d are held by those whom the pool serves, %d by others, and %d wait for their reuseDelay; free some, or widen the pool",
			u.Total, u.Allocated, u.Foreign, u.Quarantined))
	}
}

func drainedCondition(u pool.Usage, out []pool.Outside) metav1.Condition {
	const kind = v1alpha1.ConditionDrained
	formerly := 0
	for _, o := range out {
		if o.HasShrunk {
			formerly++
		}
	}
	if u.Allocated+u.Quarantined+formerly == 0 {
		return condition(kind, true, v1alpha1.ReasonEmpty, "nobody holds a number of the pool")
	}
	return condition(kind, false, v1alpha1.ReasonInUse, "numbers of the pool are held, or wait for their reuseDelay")
}

// countNamespaces counts the namespaces whose labels match.
func (v *view) countNamespaces(matches func(labels map[string]string) bool) int32 {
	n := int32(0)
	for _, labels := range v.namespaces {
		if matches(labels) {
			n++
		}
	}
	return n
}

func rangesOf(ranges ports.Ranges) []v1alpha1.PortRange {
	var all []v1alpha1.PortRange
	for _, r := range ranges[:min(len(ranges), maxRanges)] {
		one := v1alpha1.PortRange{Port: int32(r.First)}
		if r.Last != r.First {
			one.EndPort = new(int32(r.Last))
		}
		all = append(all, one)
	}
	return all
}
