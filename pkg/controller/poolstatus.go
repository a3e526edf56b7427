package controller

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// How much of a status is written; the API server takes no more.
const (
	maxRanges    = 256
	maxOutOfPool = 20
)

// poolStatus returns the status of a pool, and its usage; nil for a pool that cannot be understood. out are the numbers
// that its holders have outside.
//
// Programmed is said of this process: it does not know of other replicas, which load a pool within moments.
func (v *view) poolStatus(object *v1alpha1.PortPool, out []pool.Outside) (v1alpha1.PortPoolStatus, *pool.Usage) {
	status := *object.Status.DeepCopy()
	status.ObservedGeneration = object.Generation
	status.EffectiveRanges, status.Usage, status.UtilizationPercent = nil, nil, nil
	status.MatchedNamespaces, status.OutOfPoolCount, status.OutOfPool = nil, nil, nil
	m, ok := v.pools.set.Named(object.Name)
	if !ok {
		why := fmt.Sprintf("%v; correct it", v.pools.invalid[object.Name])
		for _, c := range []metav1.Condition{
			is(v1alpha1.ConditionAccepted, false, v1alpha1.ReasonInvalidSelector, why),
			is(v1alpha1.ConditionProgrammed, false, v1alpha1.ReasonPending, "the pool has no effect: "+why),
			is(v1alpha1.ConditionOverlapping, false, v1alpha1.ReasonNoOverlap, "the pool has no effect"),
			is(v1alpha1.ConditionExhausted, true, v1alpha1.ReasonNoPortLeft, "the pool has no effect"),
			is(v1alpha1.ConditionDrained, true, v1alpha1.ReasonEmpty, "the pool has no effect"),
		} {
			set(&status.Conditions, c, object.Generation)
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
	status.MatchedNamespaces = new(v.matched(m.Namespaces.Matches))
	status.OutOfPoolCount = new(int32(len(out)))
	for _, o := range out[:min(len(out), maxOutOfPool)] {
		status.OutOfPool = append(status.OutOfPool, v1alpha1.OutOfPoolPort{
			Kind: o.Ref().Kind, Namespace: o.Namespace, Name: o.Name, Port: int32(o.Port), Protocol: v1alpha1.Protocol(o.Protocol.String()), Reason: reasonOf(o),
		})
	}
	accepted := acceptedCondition(m)
	for _, c := range []metav1.Condition{accepted, programmed(accepted), v.overlapping(m), exhausted(m, u), drained(u, out)} {
		set(&status.Conditions, c, object.Generation)
	}
	return status, &u
}

func reasonOf(o pool.Outside) v1alpha1.OutOfPoolReason {
	if o.HasShrunk {
		return v1alpha1.RangeShrunk
	}
	return v1alpha1.NotAllocated
}

func is(kind string, yes bool, reason, message string) metav1.Condition {
	status := metav1.ConditionFalse
	if yes {
		status = metav1.ConditionTrue
	}
	return metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message}
}

func set(conditions *[]metav1.Condition, c metav1.Condition, generation int64) {
	c.ObservedGeneration = generation
	meta.SetStatusCondition(conditions, c)
}

func acceptedCondition(m *pool.Member) metav1.Condition {
	const kind = v1alpha1.ConditionAccepted
	switch {
	case m.State == pool.Disabled:
		return is(kind, true, v1alpha1.ReasonValid, "the pool is understood; spec.state Disabled takes it out of effect")
	case len(m.Effective) > 0 && len(m.Outside) > 0:
		return is(kind, true, v1alpha1.ReasonValid, fmt.Sprintf("the pool is in effect, but for %s, which the cluster does not accept as nodePorts", told(m.Outside)))
	case len(m.Effective) > 0:
		return is(kind, true, v1alpha1.ReasonValid, "the pool is in effect")
	case m.Outside.Size() == m.Ranges.Size():
		return is(kind, false, v1alpha1.ReasonOutsideServiceNodePortRange,
			fmt.Sprintf("spec.ranges: the cluster accepts none of %s as nodePorts; choose numbers inside its nodePort range", told(m.Ranges)))
	default:
		return is(kind, false, v1alpha1.ReasonSuperseded,
			fmt.Sprintf("spec.ranges: other pools keep all numbers: %s; choose other numbers", overlaps(m, false)))
	}
}

func programmed(accepted metav1.Condition) metav1.Condition {
	if accepted.Status == metav1.ConditionTrue {
		return is(v1alpha1.ConditionProgrammed, true, v1alpha1.ReasonServing, "the leader has loaded this generation")
	}
	return is(v1alpha1.ConditionProgrammed, false, v1alpha1.ReasonPending, "the pool is not accepted")
}

func (v *view) overlapping(m *pool.Member) metav1.Condition {
	const kind = v1alpha1.ConditionOverlapping
	if lost := overlaps(m, false); lost != "" {
		return is(kind, true, v1alpha1.ReasonPortsTaken, fmt.Sprintf("spec.ranges: a stronger pool keeps %s; take the numbers out of spec.ranges", lost))
	}
	if won := overlaps(m, true); won != "" {
		return is(kind, true, v1alpha1.ReasonPortsKept, fmt.Sprintf("this pool keeps what another one names too, %s; take the numbers out of that one", won))
	}
	for _, o := range v.pools.set.Members() {
		if o != m && o.For == m.For && !o.Exclusive && !m.Exclusive && meet(o.Effective, m.Effective) {
			return is(kind, true, v1alpha1.ReasonPortsShared, fmt.Sprintf("PortPool %s has some of the numbers too, and sharing is Shared in both", o.Name))
		}
	}
	return is(kind, false, v1alpha1.ReasonNoOverlap, "no other pool has any of the numbers")
}

// overlaps lists the overlaps that a pool has won, or lost; "" for none.
func overlaps(m *pool.Member, won bool) string {
	const most = 3
	var all []string
	for _, o := range m.Overlaps {
		if o.Won == won {
			all = append(all, fmt.Sprintf("%s (PortPool %s)", told(o.Ports), o.With))
		}
	}
	if more := len(all) - most; more > 0 {
		all = append(all[:most], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(all, ", ")
}

func meet(a, b ports.Ranges) bool {
	return slices.ContainsFunc(a, func(x ports.Range) bool { return slices.ContainsFunc(b, x.Overlaps) })
}

// exhausted asks for the numbers that the pool may give to those who name none, or who name one where it gives no other.
func exhausted(m *pool.Member, u pool.Usage) metav1.Condition {
	const kind = v1alpha1.ConditionExhausted
	left := u.Available
	if m.Mode == pool.Auto {
		left = u.Automatic
	}
	switch {
	case m.State == pool.Disabled:
		return is(kind, false, v1alpha1.ReasonPortsAvailable, "spec.state Disabled: the pool gives no numbers")
	case left > 0:
		return is(kind, false, v1alpha1.ReasonPortsAvailable, "there are numbers to give")
	case u.Total == 0:
		return is(kind, true, v1alpha1.ReasonNoPortLeft, "the pool has no number")
	default:
		return is(kind, true, v1alpha1.ReasonNoPortLeft, fmt.Sprintf("spec.ranges: of %d numbers %d are held by those whom the pool serves, %d by others, and %d wait for their reuseDelay; free some, or widen the pool",
			u.Total, u.Allocated, u.Foreign, u.Quarantined))
	}
}

func drained(u pool.Usage, out []pool.Outside) metav1.Condition {
	const kind = v1alpha1.ConditionDrained
	once := 0
	for _, o := range out {
		if o.HasShrunk {
			once++
		}
	}
	if u.Allocated+u.Quarantined+once == 0 {
		return is(kind, true, v1alpha1.ReasonEmpty, "nobody holds a number of the pool")
	}
	return is(kind, false, v1alpha1.ReasonInUse, "numbers of the pool are held, or wait for their reuseDelay")
}

// matched counts the namespaces whose labels match.
func (v *view) matched(matches func(labels map[string]string) bool) int32 {
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

// told names ranges in few words: a pool may have dozens.
func told(ranges ports.Ranges) string {
	const most = 3
	switch more := len(ranges) - most; {
	case more <= 0:
		return ranges.String()
	case more == 1:
		return fmt.Sprintf("%s and 1 more range", ranges[:most])
	default:
		return fmt.Sprintf("%s and %d more ranges", ranges[:most], more)
	}
}
