package v1alpha1

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
)

func TestAsSelector(t *testing.T) {
	expression := func(key string, operator LabelSelectorOperator, values ...LabelValue) *LabelSelector {
		return &LabelSelector{MatchExpressions: []LabelSelectorRequirement{{Key: key, Operator: operator, Values: values}}}
	}
	payments, shop, none := labels.Set{"team": "payments", "stage": "test"}, labels.Set{"team": "shop"}, labels.Set{}
	for _, c := range []struct {
		name     string
		selector *LabelSelector
		want     []labels.Set
	}{
		{"absent", nil, nil},
		{"empty", &LabelSelector{}, []labels.Set{payments, shop, none}},
		{"label", &LabelSelector{MatchLabels: map[string]LabelValue{"team": "shop"}}, []labels.Set{shop}},
		{"In", expression("team", OperatorIn, "payments", "shop"), []labels.Set{payments, shop}},
		{"NotIn", expression("team", OperatorNotIn, "shop"), []labels.Set{payments, none}},
		{"Exists", expression("stage", OperatorExists), []labels.Set{payments}},
		{"DoesNotExist", expression("stage", OperatorDoesNotExist), []labels.Set{shop, none}},
		{"both", &LabelSelector{
			MatchLabels:      map[string]LabelValue{"team": "payments"},
			MatchExpressions: []LabelSelectorRequirement{{Key: "stage", Operator: OperatorDoesNotExist}},
		}, nil},
	} {
		selector, err := c.selector.AsSelector()
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var got []labels.Set
		for _, s := range []labels.Set{payments, shop, none} {
			if selector.Matches(s) {
				got = append(got, s)
			}
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
	for _, wrong := range []*LabelSelector{expression("team", "in", "shop"), expression("team", OperatorIn), expression("a b", OperatorExists)} {
		if s, err := wrong.AsSelector(); err == nil {
			t.Errorf("%+v: got %v, want an error", wrong, s)
		}
	}
}

// TestDefaultKeeps: what is said stays, and a second time changes nothing.
func TestDefaultKeeps(t *testing.T) {
	pool := &PortPool{Spec: PortPoolSpec{
		For: HostPorts, Priority: new(int32(0)), Sharing: Shared, State: PoolDisabled, Enforcement: Deny,
		Allocation: PortAllocation{Mode: AllocateExplicit, Strategy: Random, ReuseDelay: &metav1.Duration{}},
	}}
	policy := &PortPolicy{Spec: PortPolicySpec{
		Enforcement: Warn,
		NodePorts:   &NodePortPolicy{Mode: NodePortsForbidden, ExplicitRequests: Forbidden, LoadBalancerNodePorts: Forbidden},
		HostPorts:   &HostPortPolicy{Mode: HostPortsForbidden, HostNetwork: Forbidden, NodePortRange: Allowed},
		ExternalIPs: ExternalIPsForbidden,
	}}
	claim := &PortClaim{Status: PortClaimStatus{Phase: ClaimBound}}
	said := []any{pool.DeepCopy(), policy.DeepCopy(), claim.DeepCopy()}
	pool.Default()
	policy.Default()
	claim.Default()
	if diff := cmp.Diff(said, []any{pool, policy, claim}); diff != "" {
		t.Errorf("what was said changed (-said +got):\n%s", diff)
	}
	nothing := &PortPool{}
	nothing.Default()
	once := nothing.DeepCopy()
	nothing.Default()
	if diff := cmp.Diff(once, nothing); diff != "" {
		t.Errorf("the second time changed something (-once +twice):\n%s", diff)
	}
}

func TestSmall(t *testing.T) {
	if got := (PortRange{Port: 5}).Last(); got != 5 {
		t.Errorf("the last of a single port: %d", got)
	}
	if got := (SocketRange{PortRange: PortRange{Port: 5, EndPort: new(int32(7))}}).Last(); got != 7 {
		t.Errorf("the last of 5-7: %d", got)
	}
	if got := ClaimName(30100); got != "np-30100" {
		t.Errorf("the claim of 30100 is called %s", got)
	}
	first, again := metav1.Unix(100, 0), metav1.Unix(200, 0)
	claim := &PortClaim{Spec: PortClaimSpec{RequestedAt: first}}
	if got := claim.LastRequested(); !got.Equal(&first) {
		t.Errorf("a claim of %v was last requested %v", first, got)
	}
	claim.Status.RequestedAgainAt = &again
	if got := claim.LastRequested(); !got.Equal(&again) || got.Sub(first.Time) != 100*time.Second {
		t.Errorf("a claim of %v and %v was last requested %v", first, again, got)
	}
}

func TestAddToScheme(t *testing.T) {
	s := runtime.NewScheme()
	if err := AddToScheme(s); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"PortPool", "PortPoolList", "PortPolicy", "PortPolicyList", "PortClaim", "PortClaimList"} {
		if !s.Recognizes(GroupVersion().WithKind(kind)) {
			t.Errorf("the scheme does not know %s of %s", kind, APIVersion)
		}
	}
}
