package extract_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/extract/specimen"
)

// pairs is what one key means: of two entries with one containerPort, at least one of them with a hostPort, the later one
// is named with the first that it meets.
func pairs(list []corev1.ContainerPort) []check.OneKey {
	const path = "spec.containers[0].ports[%d]"
	var found []check.OneKey
	for i, b := range list {
		for j, a := range list[:i] {
			if a.ContainerPort == b.ContainerPort && a.HostPort+b.HostPort > 0 {
				found = append(found, check.OneKey{Field: fmt.Sprintf(path, i), Other: fmt.Sprintf(path, j), Value: fmt.Sprint(b.ContainerPort)})
				break
			}
		}
	}
	return found
}

func TestOneKeyPairByPair(t *testing.T) {
	s := specimen.New(t)
	met := 0
	for range specimen.Rounds(1000) {
		var list []corev1.ContainerPort
		for range s.IntN(6) {
			list = append(list, corev1.ContainerPort{ContainerPort: 80 + int32(s.IntN(3)), HostPort: int32(s.IntN(2)) * 8080})
		}
		pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Ports: list}}}}
		want := pairs(list)
		if diff := cmp.Diff(want, extract.Pod(pod, nil, nil).OneKey); diff != "" {
			t.Fatalf("%+v (-want +got):\n%s", list, diff)
		}
		met += len(want)
	}
	if met < specimen.Rounds(100) {
		t.Errorf("only %d entries met", met)
	}
}
