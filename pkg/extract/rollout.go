package extract

import (
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/portcullis-k8s/portcullis/pkg/check"
)

// replicas is what the API defaults to where nothing is said.
func replicas(n *int32) int {
	if n == nil {
		return 1
	}
	return int(*n)
}

// inTurn is the rollout of what removes an old pod before it makes a new one.
func inTurn(n *int32) *check.Rollout {
	return &check.Rollout{Kind: check.InTurn, Field: "spec.replicas", Replicas: replicas(n)}
}

// deploymentRollout rounds as the Deployment controller does: the surge up, the unavailable down, and where both come to
// nothing one may be unavailable (k8s.io/kubernetes pkg/controller/deployment/util ResolveFenceposts).
func deploymentRollout(d *appsv1.Deployment) *check.Rollout {
	r := inTurn(d.Spec.Replicas)
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		return r
	}
	r.Kind = check.Rolling
	quarter := intstr.FromString("25%")
	surge, unavailable := &quarter, &quarter
	if rolling := d.Spec.Strategy.RollingUpdate; rolling != nil {
		surge, unavailable = intstr.ValueOrDefault(rolling.MaxSurge, quarter), intstr.ValueOrDefault(rolling.MaxUnavailable, quarter)
	}
	r.Surge, r.Unavailable = scaled(surge, r.Replicas, true), scaled(unavailable, r.Replicas, false)
	if r.Surge == 0 && r.Unavailable == 0 {
		r.Unavailable = 1
	}
	return r
}

// daemonRollout knows of the surge whether there is one: a percentage of any number of nodes is rounded up.
func daemonRollout(d *appsv1.DaemonSet) *check.Rollout {
	r := &check.Rollout{Kind: check.OnEachNode, Field: "spec.updateStrategy", Replicas: 1}
	strategy := d.Spec.UpdateStrategy
	if strategy.Type != appsv1.OnDeleteDaemonSetStrategyType && strategy.RollingUpdate != nil && strategy.RollingUpdate.MaxSurge != nil {
		r.Surge = scaled(strategy.RollingUpdate.MaxSurge, 1, true)
	}
	return r
}

func jobRollout(job *batchv1.JobSpec, field string, idle bool) *check.Rollout {
	n := replicas(job.Parallelism)
	if job.Completions != nil {
		n = min(n, int(*job.Completions))
	}
	if idle {
		n = 0
	}
	return &check.Rollout{Kind: check.ToTheEnd, Field: field, Replicas: n}
}

// scaled is 0 for what the API server refuses.
func scaled(n *intstr.IntOrString, of int, up bool) int {
	value, err := intstr.GetScaledValueFromIntOrPercent(n, of, up)
	if err != nil {
		return 0
	}
	return max(value, 0)
}
