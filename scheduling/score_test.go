package scheduling

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
	fwk "k8s.io/kube-scheduler/framework"
)

const preferring = `{"preferUncontended":true}`

// replicaSet is one of a Deployment; its pods go where the selector says.
func replicaSet(deployment, hash string, replicas int32, selector map[string]string, ports ...corev1.ContainerPort) *appsv1.ReplicaSet {
	rs := &appsv1.ReplicaSet{}
	rs.Namespace, rs.Name = "default", deployment+"-"+hash
	rs.Labels = map[string]string{"pod-template-hash": hash}
	rs.OwnerReferences = []metav1.OwnerReference{owner("apps/v1", "Deployment", deployment)}
	rs.Spec.Replicas = &replicas
	rs.Spec.Template.Spec = pod("", ports).Spec
	rs.Spec.Template.Spec.NodeSelector = selector
	return rs
}

func statefulSet(name string, selector map[string]string, ports ...corev1.ContainerPort) *appsv1.StatefulSet {
	sts := &appsv1.StatefulSet{}
	sts.Namespace, sts.Name = "default", name
	sts.Spec.Template.Spec = pod("", ports).Spec
	sts.Spec.Template.Spec.NodeSelector = selector
	return sts
}

// know is what the informers have seen.
func (h *handle) know(t testing.TB, objects ...any) {
	t.Helper()
	for _, o := range objects {
		var store cache.Store
		switch o.(type) {
		case *appsv1.ReplicaSet:
			store = h.factory.Apps().V1().ReplicaSets().Informer().GetStore()
		case *appsv1.StatefulSet:
			store = h.factory.Apps().V1().StatefulSets().Informer().GetStore()
		}
		if err := store.Add(o); err != nil {
			t.Fatal(err)
		}
	}
}

// scores is what the plugin makes of nodes: "Skip", or each node's score after normalization.
func scores(t testing.TB, p *PortClaims, wanted *corev1.Pod, nodes ...*nodeInfo) string {
	t.Helper()
	s := newState()
	if _, status := p.PreFilter(t.Context(), s, wanted, nil); !status.IsSuccess() && !status.IsSkip() {
		t.Fatal(status)
	}
	if status := p.PreScore(t.Context(), s, wanted, nil); !status.IsSuccess() {
		return status.Code().String()
	}
	var list fwk.NodeScoreList
	for _, n := range nodes {
		score, status := p.Score(t.Context(), s, wanted, n)
		if !status.IsSuccess() {
			t.Fatal(status)
		}
		list = append(list, fwk.NodeScore{Name: n.node.Name, Score: score})
	}
	if status := p.ScoreExtensions().NormalizeScore(t.Context(), s, wanted, list); !status.IsSuccess() {
		t.Fatal(status)
	}
	var said []string
	for _, n := range list {
		said = append(said, fmt.Sprintf("%s %d", n.Name, n.Score))
	}
	return strings.Join(said, ", ")
}

func TestScore(t *testing.T) {
	ssd, hdd := map[string]string{"disk": "ssd"}, map[string]string{"disk": "hdd"}
	a, b, c := node("a", 1), node("b", 2), node("c", 3)
	b.node.Labels, c.node.Labels = ssd, hdd
	c.node.Spec.Taints = []corev1.Taint{{Key: "dedicated", Effect: corev1.TaintEffectNoSchedule}}
	wanted := pod("new-5d8f-x", list(port(9000)), of("new"))
	other := corev1.ContainerPort{HostPort: 9000, ContainerPort: 80, Protocol: corev1.ProtocolUDP}
	initOnly := replicaSet("init", "1", 1, nil)
	initOnly.Spec.Template.Spec.InitContainers = []corev1.Container{{Name: "i", Ports: list(port(9000))}}
	onHost := replicaSet("host", "1", 1, ssd, corev1.ContainerPort{ContainerPort: 9000})
	onHost.Spec.Template.Spec.HostNetwork = true
	tolerant := replicaSet("tolerant", "1", 1, nil, port(9000))
	tolerant.Spec.Template.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
	for _, tt := range []struct {
		name    string
		args    string
		objects []any
		pod     *corev1.Pod
		want    string
	}{
		{"off", "", []any{replicaSet("web", "1", 1, ssd, port(9000))}, wanted, "Skip"},
		{"no host port", preferring, []any{replicaSet("web", "1", 1, ssd, port(9000))}, pod("new", nil), "Skip"},
		{"nobody else", preferring, nil, wanted, "Skip"},
		{"its own Deployment", preferring, []any{replicaSet("new", "5d8f", 3, nil, port(9000)), replicaSet("new", "77aa", 3, nil, port(9000))}, wanted, "Skip"},
		{"another number", preferring, []any{replicaSet("web", "1", 1, ssd, port(9001))}, wanted, "Skip"},
		{"another protocol", preferring, []any{replicaSet("web", "1", 1, ssd, other)}, wanted, "Skip"},
		{"another address", preferring, []any{replicaSet("web", "1", 1, ssd, at("127.0.0.1", port(9000)))}, pod("new", list(at("127.0.0.2", port(9000)))), "Skip"},
		{"scaled to none", preferring, []any{replicaSet("web", "1", 0, ssd, port(9000))}, wanted, "Skip"},
		{"a plain init container", preferring, []any{initOnly}, wanted, "Skip"},
		{"one that needs a node", preferring, []any{replicaSet("web", "1", 1, ssd, port(9000))}, wanted, "a 100, b 0, c 100"},
		{"a StatefulSet", preferring, []any{statefulSet("db", ssd, port(9000))}, wanted, "a 100, b 0, c 100"},
		{"the host network", preferring, []any{onHost}, wanted, "a 100, b 0, c 100"},
		{"a taint", preferring, []any{replicaSet("web", "1", 1, nil, port(9000))}, wanted, "a 0, b 0, c 100"},
		{"one that may go anywhere", preferring, []any{tolerant}, wanted, "a 0, b 0, c 0"},
		{"the fewest", preferring, []any{replicaSet("web", "1", 1, nil, port(9000)), statefulSet("db", ssd, port(9000))}, wanted, "a 50, b 0, c 100"},
		{"two that may go to the same", preferring, []any{tolerant, replicaSet("web", "1", 1, ssd, port(9000)), replicaSet("shop", "1", 1, ssd, port(9000))}, wanted, "a 100, b 0, c 100"},
		{"a Deployment that is being rolled out is one", preferring,
			[]any{replicaSet("web", "1", 1, ssd, port(9000)), replicaSet("web", "2", 1, nil, port(9000)), replicaSet("shop", "1", 1, nil, port(9000))}, wanted, "a 0, b 0, c 100"},
		{"one of two ports", preferring, []any{replicaSet("web", "1", 1, ssd, port(9000), port(9001))}, pod("new", list(port(9000), port(9001))), "a 100, b 0, c 100"},
		{"two ports, two workloads", preferring, []any{replicaSet("web", "1", 1, ssd, port(9000)), statefulSet("db", nil, port(9001))}, pod("new", list(port(9000), port(9001))), "a 50, b 0, c 100"},
	} {
		p, h := newPlugin(t, tt.args)
		h.know(t, tt.objects...)
		if diff := cmp.Diff(tt.want, scores(t, p, tt.pod, a, b, c)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

// TestScoreSigns: pods of two workloads may prefer different nodes, but only where nodes are preferred.
func TestScoreSigns(t *testing.T) {
	for args, want := range map[string]bool{"": true, preferring: false} {
		p, _ := newPlugin(t, args)
		var signs []string
		for _, deployment := range []string{"web", "shop"} {
			fragments, status := p.SignPod(t.Context(), pod("x", list(port(9000)), of(deployment)))
			if !status.IsSuccess() {
				t.Fatal(status)
			}
			signs = append(signs, fmt.Sprint(fragments))
		}
		if same := signs[0] == signs[1]; same != want {
			t.Errorf("%q: pods of two Deployments are signed alike: %v, want %v", args, same, want)
		}
	}
}

// BenchmarkScore is one pod in a cluster of 5,000 nodes, all of which fit, with 100 other workloads that want its port in 10
// different places, and 10,000 that do not: what it costs to find them, and to count them on each node. Off is the same
// pod without preferUncontended.
func BenchmarkScore(b *testing.B) {
	for _, args := range []string{"", preferring} {
		b.Run(map[string]string{"": "off", preferring: "on"}[args], func(b *testing.B) {
			p, h := newPlugin(b, args)
			for i := range 10_100 {
				number := int32(9000)
				if i >= 100 {
					number = 10_000 + int32(i)
				}
				h.know(b, replicaSet(fmt.Sprint("web-", i), "1", 1, map[string]string{"pool": fmt.Sprint(i % 10)}, port(number)))
			}
			nodes := make([]*nodeInfo, 5000)
			for i := range nodes {
				nodes[i] = node(fmt.Sprint("n", i), int64(i+1))
				nodes[i].node.Labels = map[string]string{"pool": fmt.Sprint(i % 20)}
			}
			wanted := pod("new", list(port(9000)))
			b.ReportAllocs()
			for b.Loop() {
				said := scores(b, p, wanted, nodes...)
				if (said == "Skip") != (args == "") {
					b.Fatal(said[:20])
				}
			}
		})
	}
}
