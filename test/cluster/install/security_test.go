package install

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// TestPodSecurity: the pods are within the level restricted, whatever is switched on, but on the nodes' network.
func TestPodSecurity(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	for _, c := range []struct {
		values  string
		allowed bool
	}{
		{"", true},
		{"{certificates: {mode: certManager}, metrics: {secure: true}, replicas: 3}", true},
		{"hostNetwork: true", false}, // the chart's notes say so
	} {
		pod := deployment(t, c.values).Spec.Template
		verdict := policy.AggregateCheckResults(evaluator.EvaluatePod(restricted, &pod.ObjectMeta, &pod.Spec))
		if verdict.Allowed != c.allowed {
			t.Errorf("%q: allowed %t, want %t: %s", c.values, verdict.Allowed, c.allowed, verdict.ForbiddenDetail())
		}
	}
	ns := one[*corev1.Namespace](t, overlay(t), "Namespace//"+namespace)
	if got := ns.Labels[api.EnforceLevelLabel]; got != string(api.LevelRestricted) {
		t.Errorf("the namespace enforces %q", got)
	}
}

// TestDeployment: what keeps the webhook answering while pods come and go.
func TestDeployment(t *testing.T) {
	for _, values := range []string{"", "replicas: 3"} {
		d := deployment(t, values)
		pod, update := d.Spec.Template.Spec, d.Spec.Strategy.RollingUpdate
		if update.MaxUnavailable.IntValue() != 0 || update.MaxSurge.IntValue() != 1 {
			t.Errorf("a rollout takes %v away and adds %v", update.MaxUnavailable, update.MaxSurge)
		}
		c := pod.Containers[0]
		if cpu, limited := c.Resources.Limits[corev1.ResourceCPU]; limited {
			t.Errorf("the CPU is limited to %s", cpu.String())
		}
		if memory := c.Resources.Limits.Memory(); memory.Cmp(*c.Resources.Requests.Memory()) != 0 || memory.Cmp(resource.MustParse("128Mi")) < 0 {
			t.Errorf("memory: %s of %s", c.Resources.Requests.Memory(), memory)
		}
		const drain = 5 // seconds, the program's default
		if *pod.TerminationGracePeriodSeconds < 2*drain {
			t.Errorf("%d seconds to stop", *pod.TerminationGracePeriodSeconds)
		}
		if c.LivenessProbe.HTTPGet.Path != "/healthz" || c.ReadinessProbe.HTTPGet.Path != "/readyz" {
			t.Error("a probe asks elsewhere")
		}
		for _, spread := range pod.TopologySpreadConstraints {
			for k, v := range spread.LabelSelector.MatchLabels {
				if d.Spec.Template.Labels[k] != v {
					t.Errorf("the spread over %s is about other pods", spread.TopologyKey)
				}
			}
		}
	}
	ports := deployment(t, "hostNetwork: true").Spec.Template.Spec.Containers[0].Ports
	for _, p := range ports {
		if p.HostPort != 0 && p.HostPort != p.ContainerPort {
			t.Errorf("port %s is %d on the node", p.Name, p.HostPort)
		}
	}
}

func deployment(t *testing.T, values string) *appsv1.Deployment {
	t.Helper()
	return one[*appsv1.Deployment](t, rendered(t, values), "Deployment/"+namespace+"/portcullis")
}
