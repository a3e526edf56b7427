package observe

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/extract/specimen"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// drawKinds draws one object of each kind that is observed.
func drawKinds(s specimen.Source) []client.Object {
	return []client.Object{
		specimen.Draw[corev1.Node](s), specimen.Draw[networkingv1.ServiceCIDR](s), specimen.Draw[corev1.Service](s),
		specimen.Draw[appsv1.Deployment](s), specimen.Draw[appsv1.StatefulSet](s), specimen.Draw[appsv1.DaemonSet](s),
		specimen.Draw[appsv1.ReplicaSet](s), specimen.Draw[corev1.ReplicationController](s),
		specimen.Draw[batchv1.Job](s), specimen.Draw[batchv1.CronJob](s), specimen.Draw[corev1.Pod](s),
	}
}

// TestStripKeepsWhatIsRead compares what pkg/extract reads of random objects with what it reads of them stripped.
func TestStripKeepsWhatIsRead(t *testing.T) {
	s := specimen.New(t)
	if drawn, want := len(drawKinds(s)), len(kinds()); drawn != want {
		t.Fatalf("%d kinds are drawn, %d are observed", drawn, want)
	}
	claims := 0
	for range specimen.Rounds(200) {
		nodes := extract.NodeList{specimen.Draw[corev1.Node](s), specimen.Draw[corev1.Node](s)}
		placements := []extract.Placement{
			extract.PlacementOf(specimen.Draw[corev1.PodSpec](s), false), extract.PlacementOf(specimen.Draw[corev1.PodSpec](s), true),
		}
		for _, object := range drawKinds(s) {
			before := read(object, nodes, placements)
			kept := mustStrip(object)
			if diff := cmp.Diff(before, read(kept, nodes, placements)); diff != "" {
				t.Fatalf("%T (-whole +stripped):\n%s", object, diff)
			}
			again := kept.DeepCopyObject().(client.Object)
			if diff := cmp.Diff(kept, mustStrip(again)); diff != "" {
				t.Fatalf("%T, stripped a second time (-once +twice):\n%s", object, diff)
			}
			claims += len(before) - 1
		}
	}
	if claims < specimen.Rounds(200) {
		t.Errorf("only %d claims: the specimens prove little", claims)
	}
}

func mustStrip(object client.Object) client.Object {
	kept, err := strip(object)
	if err != nil {
		panic(err)
	}
	return kept.(client.Object)
}

// read spells what pkg/extract makes of an object: one line for it, and one for each claim.
func read(object runtime.Object, nodes extract.NodeList, placements []extract.Placement) []string {
	switch o := object.(type) {
	case *corev1.Node:
		podCIDRs, internal := extract.NodeFamilies(o)
		reserved, err := extract.ReservedPorts(o)
		return []string{fmt.Sprint(o.Name, reserved, err, extract.NodeAddresses(o), podCIDRs, internal, placements[0].Allows(o), placements[1].Allows(o))}
	case *networkingv1.ServiceCIDR:
		return []string{fmt.Sprint(o.Name, extract.ClusterFamilies(nil, []*networkingv1.ServiceCIDR{o}))}
	case *corev1.Service:
		svc := extract.Service(o, extract.NodePortAddresses{})
		return spell(fmt.Sprint(svc.Type, svc.Ports, svc.HealthCheckNodePort), &svc.Owner, svc.Claims)
	case *corev1.Pod:
		return readWorkload(extract.Pod(o, nodes, nil), fmt.Sprint(extract.IsFinished(o), extract.IsMirror(o)))
	}
	w, ok := extract.Workload(object, nodes, nil)
	if !ok {
		return []string{"no workload"}
	}
	return readWorkload(w, "")
}

// readWorkload leaves out where a workload without claims may run, and its containers: nobody asks.
func readWorkload(w *check.Workload, more string) []string {
	head := fmt.Sprint(w.IsPod, w.HostNetwork, w.Unparsed, more)
	if len(w.Claims) > 0 || w.HostNetwork {
		head += fmt.Sprint(w.Labels)
	}
	if len(w.Claims) > 0 {
		head += fmt.Sprint(w.Eligible, w.Containers)
	}
	if len(w.Claims) > 0 && w.Rollout != nil {
		head += fmt.Sprint(*w.Rollout)
	}
	return spell(head, &w.Owner, w.Claims)
}

func spell(head string, owner *ports.Owner, claims []ports.Claim) []string {
	for ref := range owner.Chain() {
		head += " " + ref.String()
	}
	lines := []string{head}
	for _, c := range claims {
		lines = append(lines, fmt.Sprint(c, c.Field, c.InitOnly, c.Sidecar, c.Idle))
	}
	return lines
}

// TestStripLeavesLittle of what nearly all pods are: without host ports.
func TestStripLeavesLittle(t *testing.T) {
	pod := &corev1.Pod{
		Spec: corev1.PodSpec{
			NodeName: "n1", NodeSelector: map[string]string{"zone": "a"}, Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			Containers: []corev1.Container{{Name: "a", Image: "i", Ports: []corev1.ContainerPort{{ContainerPort: 80}}}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, Message: "m"},
	}
	pod.Name, pod.Labels, pod.Annotations = "p", map[string]string{"app": "a"}, map[string]string{"x": "y"}
	want := &corev1.Pod{Spec: corev1.PodSpec{NodeName: "n1"}, Status: corev1.PodStatus{Phase: corev1.PodRunning}}
	want.Name = "p"
	if diff := cmp.Diff(client.Object(want), mustStrip(pod)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestStripPassesTombstones(t *testing.T) {
	tombstone := toolscache.DeletedFinalStateUnknown{Key: "ns/a"}
	if got, err := strip(tombstone); got != any(tombstone) || err != nil {
		t.Errorf("%v, %v", got, err)
	}
}
