package admission

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/portcullis-k8s/portcullis/pkg/extract/specimen"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
	"github.com/portcullis-k8s/portcullis/test/lab/alone"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
)

// TestMutatingPolicy: in random pods hostIP is written where a hostPort leaves it empty, and nothing else is.
func TestMutatingPolicy(t *testing.T) {
	source := alone.Source(t, "", "")
	for _, hostIP := range []string{"0.0.0.0", "::"} {
		seed.Each(t, nil, func(t *testing.T, s uint64) {
			drawn := specimen.FromSeed(s)
			api, untouched := newAPIServer(t, source.Mutating(hostIP), namespacesOf(alone.Places())), newAPIServer(t, nil, namespacesOf(alone.Places()))
			poll.Until(t, func(context.Context) error { return api.mutates(t) })
			written, pods := 0, 0
			for range seed.Rounds(1500, 30000) {
				pod, ok := alone.Draw(drawn, "ns-0").(*corev1.Pod)
				if !ok {
					continue
				}
				plain, a := untouched.ask(t, pod, nil, false)
				if a.Other != nil {
					continue
				}
				want := plain.(*corev1.Pod).DeepCopy()
				n := writeHostIP(&want.Spec, hostIP)
				got, a := api.ask(t, pod, nil, false)
				if a.Other != nil { // a port without hostIP and one with it may have become the same: nobody may write that
					same := pod.DeepCopy()
					writeHostIP(&same.Spec, hostIP)
					if _, b := untouched.ask(t, same, nil, false); b.Other == nil {
						t.Fatalf("the API server refuses what the policy made: %v", a.Other)
					}
					continue
				}
				written += n
				pods++
				if diff := cmp.Diff(want.Spec, got.(*corev1.Pod).Spec); diff != "" {
					t.Fatalf("(-want +got):\n%s", diff)
				}
			}
			t.Logf("%d hostIPs written in %d pods", written, pods)
			if written < pods/4 {
				t.Error("they prove little")
			}
		})
	}
}

// writeHostIP writes hostIP where a hostPort leaves it empty, and returns how often.
func writeHostIP(spec *corev1.PodSpec, hostIP string) int {
	n := 0
	for _, list := range [][]corev1.Container{spec.Containers, spec.InitContainers} {
		for i := range list {
			for j := range list[i].Ports {
				if p := &list[i].Ports[j]; p.HostPort > 0 && p.HostIP == "" && !spec.HostNetwork {
					p.HostIP = hostIP
					n++
				}
			}
		}
	}
	return n
}

// mutates returns nil once the plugin has read the schemas without which it patches nothing.
func (api *apiServer) mutates(t *testing.T) error {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns-0", Name: "p"}, Spec: corev1.PodSpec{Containers: []corev1.Container{
		{Name: "c", Image: "i", Ports: []corev1.ContainerPort{{ContainerPort: 80, HostPort: 80}}},
	}}}
	_, a := api.ask(t, pod, nil, false)
	return a.Other
}
