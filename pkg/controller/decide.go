package controller

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
	// settled is how long a number rests at least when its Service is gone: the API server frees its own entry only after
	// the deletion.
	settled = time.Second
	// rounding is what a time loses when it is stored: it is kept in seconds.
	rounding = time.Second
)

// facts are what the fate of a claim depends on.
type facts struct {
	own   *corev1.Service // the Service that the claim is for; nil: it does not exist
	holds bool            // it has the number
	other *corev1.Service // another Service that has the number
}

// step is what is to be done with a claim.
type step uint8

const (
	keep step = iota
	bind
	release
	free // delete it
	note // say why it is not bound
)

// decision is a step, and for those that keep the claim: what to say in its condition, and when to look again.
type decision struct {
	step            step
	reason, message string
	again           time.Duration // 0: when something changes
}

// decide says what becomes of a claim. expires is when a request is given up, delay the pool's reuseDelay.
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
			return decision{step: free}
		}
		return released(claim, f)
	case v1alpha1.ClaimReleased:
		if f.other != nil {
			return decision{step: free} // nobody can get the number: it has nothing to wait for
		}
		return dueAt(releasedAt(claim).Add(max(delay, settled)+rounding), now, decision{step: keep})
	case v1alpha1.ClaimRequested: // or not looked at yet
	}
	d := dueAt(expires, now, awaiting(claim, f))
	if d.step == free && f.other == nil && claim.Status.ServiceUID != "" {
		return released(claim, f) // a Service had the number: it rests, whoever has asked for it since
	}
	return d
}

// dueAt frees a claim if it is time, and else does what waiting says until then.
func dueAt(due, now time.Time, waiting decision) decision {
	if left := due.Sub(now); left > 0 {
		waiting.again = left
		return waiting
	}
	return decision{step: free}
}

func released(claim *v1alpha1.PortClaim, f facts) decision {
	if f.own == nil {
		return decision{step: release, reason: v1alpha1.ReasonServiceGone, message: fmt.Sprintf("Service %s is gone", claimant(claim))}
	}
	return decision{step: release, reason: v1alpha1.ReasonPortGivenUp, message: fmt.Sprintf("Service %s no longer has %d", nameOf(f.own), claim.Spec.Port)}
}

// awaiting says what a claim waits for whose Service has not come. Most come at once, so that it is not worth a write
// unless something else was said.
func awaiting(claim *v1alpha1.PortClaim, f facts) decision {
	d := decision{step: note, reason: v1alpha1.ReasonAwaitingService, message: fmt.Sprintf("Service %s does not have %d yet", claimant(claim), claim.Spec.Port)}
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

// says reports whether a claim's condition tells what a decision would.
func says(claim *v1alpha1.PortClaim, d decision) bool {
	c := meta.FindStatusCondition(claim.Status.Conditions, v1alpha1.ConditionBound)
	return c != nil && c.Reason == d.reason && c.Message == d.message
}

// condition is what a decision has to say.
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
		return claim.CreationTimestamp.Time // the API server lets no such claim be
	}
	return claim.Status.ReleasedAt.Time
}

// mayBeFor reports whether a claim is a Service's, or of one that was to be named by the same pattern: who books a number does not
// know the name yet.
func mayBeFor(claim *v1alpha1.PortClaim, svc *corev1.Service) bool {
	of := claim.Spec.Service
	if of.Namespace != svc.Namespace {
		return false
	}
	if of.Name != "" {
		return of.Name == svc.Name
	}
	return of.GenerateName != "" && of.GenerateName == svc.GenerateName
}

// claimant is how the Service is called that a claim is for.
func claimant(claim *v1alpha1.PortClaim) string {
	of := claim.Spec.Service
	if of.Name == "" {
		return of.Namespace + "/" + of.GenerateName + "*"
	}
	return of.Namespace + "/" + of.Name
}

func nameOf(svc *corev1.Service) string { return svc.Namespace + "/" + svc.Name }

func portsOf(svc *corev1.Service) []uint16 {
	var numbers []uint16
	for _, n := range extract.Numbers(svc) {
		numbers = append(numbers, n.Port)
	}
	return numbers
}

func holds(svc *corev1.Service, number uint16) bool { return slices.Contains(portsOf(svc), number) }
