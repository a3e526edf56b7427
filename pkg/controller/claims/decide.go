package claims

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
)

const (
	// minReuseDelay is how long a port waits at least when its Service is gone: the API server frees its own allocation only
	// after the deletion.
	minReuseDelay = time.Second
	// rounding is what a time loses when it is stored in seconds.
	rounding = time.Second
)

// facts are what a decision depends on, beside the claim.
type facts struct {
	own   *corev1.Service // the Service that the claim is for; nil: it does not exist
	holds bool            // it has the port
	other *corev1.Service // another Service that has the port
}

// step is what a decision does with a claim.
type step uint8

const (
	keep step = iota
	bind
	release
	remove  // delete it
	explain // record why it is not bound
)

// decision is a step, and unless that is remove: what its condition says, and when the claim is due again.
type decision struct {
	step            step
	reason, message string
	requeueAfter    time.Duration // 0: at the next event
}

// decide returns the next step of a claim. expires is when a request is given up, delay the pool's reuseDelay.
func decide(claim *v1alpha1.PortClaim, f facts, now, expires time.Time, delay time.Duration) decision {
	if f.holds {
		d := decision{step: bind, reason: v1alpha1.ReasonInService, message: fmt.Sprintf("Service %s has %d", nameOf(f.own), claim.Spec.Port)}
		if isBoundTo(claim, f.own) && says(claim, d) {
			d.step = keep
		}
		return d
	}
	switch claim.Status.Phase {
	case v1alpha1.ClaimBound:
		if f.other != nil {
			return decision{step: remove}
		}
		return released(claim, f)
	case v1alpha1.ClaimReleased:
		if f.other != nil {
			return decision{step: remove} // the port has nothing to wait for
		}
		return dueAt(releasedAt(claim).Add(max(delay, minReuseDelay)+rounding), now, decision{step: keep})
	case v1alpha1.ClaimRequested: // or not reconciled yet
	}
	d := dueAt(expires, now, awaiting(claim, f))
	if d.step == remove && f.other == nil && claim.Status.ServiceUID != "" {
		return released(claim, f) // a Service had the port: it waits for the reuseDelay, whoever has requested it since
	}
	return d
}

// dueAt removes a claim when it is due, and returns waiting before.
func dueAt(due, now time.Time, waiting decision) decision {
	if left := due.Sub(now); left > 0 {
		waiting.requeueAfter = left
		return waiting
	}
	return decision{step: remove}
}

func released(claim *v1alpha1.PortClaim, f facts) decision {
	if f.own == nil {
		return decision{step: release, reason: v1alpha1.ReasonServiceGone, message: fmt.Sprintf("Service %s is gone", claimant(claim))}
	}
	return decision{step: release, reason: v1alpha1.ReasonPortGivenUp, message: fmt.Sprintf("Service %s no longer has %d", nameOf(f.own), claim.Spec.Port)}
}

// awaiting is the decision about a claim whose Service has not come yet. Most come at once, so that this is worth no write
// unless the condition says something else.
func awaiting(claim *v1alpha1.PortClaim, f facts) decision {
	d := decision{step: explain, reason: v1alpha1.ReasonAwaitingService, message: fmt.Sprintf("Service %s does not have %d yet", claimant(claim), claim.Spec.Port)}
	if f.other != nil {
		d.reason = v1alpha1.ReasonHeldByAnother
		d.message = fmt.Sprintf("%d is held by Service %s; leave nodePort out of Service %s to get a free number", claim.Spec.Port, nameOf(f.other), claimant(claim))
	}
	nothingSaid := meta.FindStatusCondition(claim.Status.Conditions, v1alpha1.ConditionBound) == nil
	if says(claim, d) || f.other == nil && nothingSaid {
		return decision{step: keep}
	}
	return d
}

func isBoundTo(claim *v1alpha1.PortClaim, svc *corev1.Service) bool {
	return claim.Status.Phase == v1alpha1.ClaimBound && claim.Status.ServiceUID == string(svc.UID) && claim.Spec.Service.Name == svc.Name
}

// says reports whether a claim's condition is already the one of a decision.
func says(claim *v1alpha1.PortClaim, d decision) bool {
	c := meta.FindStatusCondition(claim.Status.Conditions, v1alpha1.ConditionBound)
	return c != nil && c.Reason == d.reason && c.Message == d.message
}

// condition returns the condition of a decision.
func (d decision) condition(claim *v1alpha1.PortClaim) metav1.Condition {
	status := metav1.ConditionFalse
	if d.step == bind {
		status = metav1.ConditionTrue
	}
	return metav1.Condition{
		Type: v1alpha1.ConditionBound, Status: status, Reason: d.reason, Message: d.message, ObservedGeneration: claim.Generation,
	}
}

func releasedAt(claim *v1alpha1.PortClaim) time.Time {
	if claim.Status.ReleasedAt == nil {
		return claim.CreationTimestamp.Time // the API server rejects such a claim
	}
	return claim.Status.ReleasedAt.Time
}

// isFor reports whether a claim is for a Service. One with a generateName is for any Service that has it: the webhook does not
// know the name when it creates the claim.
func isFor(claim *v1alpha1.PortClaim, svc *corev1.Service) bool {
	want := claim.Spec.Service
	if want.Namespace != svc.Namespace {
		return false
	}
	if want.Name != "" {
		return want.Name == svc.Name
	}
	return want.GenerateName != "" && want.GenerateName == svc.GenerateName
}

// claimant is the name of the Service that a claim is for.
func claimant(claim *v1alpha1.PortClaim) string {
	svc := claim.Spec.Service
	if svc.Name == "" {
		return svc.Namespace + "/" + svc.GenerateName + "*"
	}
	return svc.Namespace + "/" + svc.Name
}

func nameOf(svc *corev1.Service) string { return svc.Namespace + "/" + svc.Name }

// nodePorts returns the ports that a Service has: its nodePorts and its healthCheckNodePort.
func nodePorts(svc *corev1.Service) []uint16 {
	var ports []uint16
	for _, n := range extract.Numbers(svc) {
		ports = append(ports, n.Port)
	}
	return ports
}

func hasPort(svc *corev1.Service, port uint16) bool { return slices.Contains(nodePorts(svc), port) }
