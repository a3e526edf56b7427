package kubelet

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	schedulerframework "k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/nodeports"
)

func TestWordsAreUpstreams(t *testing.T) {
	if portsReason != nodeports.Name {
		t.Errorf("reason %q, upstream %q", portsReason, nodeports.Name)
	}
	// The frame around them is PredicateFailureError's, whose package would make this test compile half a kubelet.
	if upstream := "Predicate " + nodeports.Name + " failed: " + nodeports.ErrReason; portsEvent != upstream {
		t.Errorf("event %q, upstream %q", portsEvent, upstream)
	}
}

// TestPortsFreeIsUpstreams puts random pods on a node and asks the scheduler's function, which the real kubelet calls,
// the same question each time. Few ports and addresses make many conflicts.
func TestPortsFreeIsUpstreams(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	refused := 0
	for range 300 {
		n := testNode(t, "10.244.1.0/24")
		var admitted []*v1.Pod
		for range 8 {
			pod := randomPod(random)
			want := nodeports.Fits(pod, schedulerframework.NewNodeInfo(admitted...))
			p, err := n.admit(pod)
			if err != nil {
				t.Fatal(err)
			}
			if got := !p.rejected; got != want {
				t.Fatalf("admitted: %v, upstream: %v; pod %v beside %v", got, want, pod.Spec, admitted)
			}
			if want {
				admitted = append(admitted, pod)
			} else {
				refused++
			}
			// Sometimes one of them ends; what it shared with others stays taken.
			if len(admitted) > 0 && random.IntN(3) == 0 {
				i := random.IntN(len(admitted))
				n.release(admitted[i].UID, random.IntN(2) == 0)
				admitted = append(admitted[:i:i], admitted[i+1:]...)
			}
		}
	}
	if refused < 100 {
		t.Errorf("only %d pods were refused: the pods conflict too seldom", refused)
	}
}

func randomPod(random *rand.Rand) *v1.Pod {
	pick := func(of ...string) string { return of[random.IntN(len(of))] }
	container := func() v1.Container {
		return v1.Container{Ports: []v1.ContainerPort{{
			ContainerPort: 80,
			HostPort:      int32(random.IntN(4)),
			HostIP:        pick("", "", "0.0.0.0", "::", "127.0.0.1", "192.0.2.1"),
			Protocol:      v1.Protocol(pick("", "TCP", "TCP", "UDP", "SCTP")),
		}}}
	}
	pod := &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{container(), container()}}}
	init := container()
	if random.IntN(2) == 0 {
		always := v1.ContainerRestartPolicyAlways
		init.RestartPolicy = &always
	}
	pod.Spec.InitContainers = []v1.Container{init}
	pod.UID = types.UID(fmt.Sprint(random.Uint64()))
	return pod
}

func TestAddresses(t *testing.T) {
	n := testNode(t, "10.244.1.0/29", "fd00:10:244:1::/64")
	place := func(uid string) []string {
		t.Helper()
		p, err := n.admit(&v1.Pod{ObjectMeta: meta(uid)})
		if err != nil {
			t.Fatal(err)
		}
		return p.addresses
	}
	for i, want := range [][]string{
		{"10.244.1.2", "fd00:10:244:1::2"}, {"10.244.1.3", "fd00:10:244:1::3"}, {"10.244.1.4", "fd00:10:244:1::4"},
	} {
		if diff := cmp.Diff(want, place(fmt.Sprint(i))); diff != "" {
			t.Errorf("pod %d (-want +got):\n%s", i, diff)
		}
	}
	n.release("1", true)
	if got := place("5")[0]; got != "10.244.1.5" {
		t.Errorf("%s after one was given back, want the next one", got)
	}
	if got := place("6")[0]; got != "10.244.1.6" {
		t.Errorf("got %s, want the last one before the broadcast address", got)
	}
	if got := place("7")[0]; got != "10.244.1.3" {
		t.Errorf("got %s, want the one that was given back", got)
	}
	if _, err := n.admit(&v1.Pod{ObjectMeta: meta("8")}); err == nil {
		t.Error("a full network has room")
	}
}

func TestAddressesThatArePlain(t *testing.T) {
	n := testNode(t, "10.244.1.0/24")
	n.Addresses = []string{"192.168.10.1"}
	for name, tc := range map[string]struct {
		pod  v1.Pod
		want string
	}{
		"host network":     {v1.Pod{ObjectMeta: meta("h"), Spec: v1.PodSpec{HostNetwork: true}}, "192.168.10.1"},
		"has one, restart": {v1.Pod{ObjectMeta: meta("r"), Status: v1.PodStatus{PodIPs: []v1.PodIP{{IP: "10.244.1.77"}}}}, "10.244.1.77"},
	} {
		p, err := n.admit(&tc.pod)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{tc.want}, p.addresses); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestNodes(t *testing.T) {
	nodes := Nodes(300, v1.IPv4Protocol, v1.IPv6Protocol)
	for i, want := range map[int]Node{
		0:   {Name: "n1", Addresses: []string{"192.168.10.1", "fd00:10::1"}, PodCIDRs: []string{"10.244.1.0/24", "fd00:10:244:1::/64"}},
		256: {Name: "n257", Addresses: []string{"192.168.11.1", "fd00:10::101"}, PodCIDRs: []string{"10.245.1.0/24", "fd00:10:244:101::/64"}},
	} {
		if diff := cmp.Diff(want, nodes[i]); diff != "" {
			t.Errorf("node %d (-want +got):\n%s", i, diff)
		}
	}
	if got := Nodes(1)[0].Addresses; !cmp.Equal(got, []string{"192.168.10.1"}) {
		t.Errorf("without families: %v", got)
	}
}
