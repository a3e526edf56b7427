package extract_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/extract/specimen"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// drawWorkload draws an object that Workload or Pod reads.
func drawWorkload(s specimen.Source) runtime.Object {
	switch s.IntN(10) {
	case 0:
		return specimen.Draw[appsv1.Deployment](s)
	case 1:
		return specimen.Draw[appsv1.StatefulSet](s)
	case 2:
		return specimen.Draw[appsv1.DaemonSet](s)
	case 3:
		return specimen.Draw[appsv1.ReplicaSet](s)
	case 4:
		return specimen.Draw[corev1.ReplicationController](s)
	case 5:
		return specimen.Draw[batchv1.Job](s)
	case 6:
		return specimen.Draw[batchv1.CronJob](s)
	default:
		return specimen.Draw[corev1.Pod](s)
	}
}

func drawNodes(s specimen.Source) extract.NodeList {
	nodes := extract.NodeList{}
	for range s.IntN(4) {
		nodes = append(nodes, specimen.Draw[corev1.Node](s))
	}
	return nodes
}

func workload(object runtime.Object, nodes extract.EligibleNodes) (*check.Workload, bool) {
	if pod, ok := object.(*corev1.Pod); ok {
		return extract.Pod(pod, nodes, nil), true
	}
	return extract.Workload(object, nodes, nil)
}

// TestRandomWorkloads: whatever an object is, it is read without a panic, always in the same way, and left as it was;
// and each claim's field is where the number stands.
func TestRandomWorkloads(t *testing.T) {
	s := specimen.New(t)
	claims := 0
	for range specimen.Rounds(1000) {
		object, nodes := drawWorkload(s), drawNodes(s)
		before := object.DeepCopyObject()
		w, ok := workload(object, nodes)
		if pod, isPod := object.(*corev1.Pod); isPod && len(w.Claims) > 0 && !extract.MayClaim(pod) {
			t.Fatalf("%v claims %v, and MayClaim says that it does not", object, w.Claims)
		}
		again, _ := workload(object.DeepCopyObject(), nodes)
		if !equality.Semantic.DeepEqual(before, object) {
			t.Fatalf("%T was changed (-before +after):\n%s", object, cmp.Diff(before, object))
		}
		if !ok {
			continue // a ReplicationController without a template
		}
		if diff := cmp.Diff(spellWorkload(w), spellWorkload(again)); diff != "" {
			t.Fatalf("read a second time (-first +second):\n%s", diff)
		}
		claims += len(w.Claims)
		stand(t, object, &w.Owner, w.Claims)
		extract.NewControllers([]runtime.Object{before, object}).Adopt(w, object)
	}
	if claims < specimen.Rounds(1000) {
		t.Errorf("only %d claims: the specimens prove little", claims)
	}
}

func spellWorkload(w *check.Workload) []string {
	return append(told(w.Claims), fmt.Sprint(chain(w.Owner), w.IsPod, w.HostNetwork, w.Containers, w.Unparsed, w.Eligible, w.Eligible == nil))
}

func TestRandomServices(t *testing.T) {
	s := specimen.New(t)
	claims := 0
	for range specimen.Rounds(1000) {
		svc := specimen.Draw[corev1.Service](s)
		before := svc.DeepCopy()
		first, second := extract.Service(svc, onAll()), extract.Service(svc.DeepCopy(), onAll())
		if !equality.Semantic.DeepEqual(before, svc) {
			t.Fatalf("it was changed (-before +after):\n%s", cmp.Diff(before, svc))
		}
		if diff := cmp.Diff(told(first.Claims), told(second.Claims)); diff != "" {
			t.Fatalf("read a second time (-first +second):\n%s", diff)
		}
		claims += len(first.Claims)
		stand(t, svc, &first.Owner, first.Claims)
	}
	if claims < specimen.Rounds(250) {
		t.Errorf("only %d claims: the specimens prove little", claims)
	}
}

func TestRandomNodes(t *testing.T) {
	s := specimen.New(t)
	for range specimen.Rounds(1000) {
		node := specimen.Draw[corev1.Node](s)
		for _, addr := range extract.NodeAddresses(node) {
			if !addr.IsValid() || addr.Is4In6() {
				t.Fatalf("%s is not canonical", addr)
			}
		}
		extract.ClusterFamilies([]*corev1.Node{node}, []*networkingv1.ServiceCIDR{specimen.Draw[networkingv1.ServiceCIDR](s)})
	}
}

// stand checks that claims are whole and that each stands where it says.
func stand(t *testing.T, object runtime.Object, owner *ports.Owner, claims []ports.Claim) {
	t.Helper()
	everyOwner(t, fmt.Sprintf("%T", object), owner, claims)
	if len(claims) == 0 {
		return
	}
	text, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	var tree any
	if err := json.Unmarshal(text, &tree); err != nil {
		t.Fatal(err)
	}
	for _, c := range claims {
		if c.Port == 0 || c.Protocol.String()[0] == 'P' || c.Owner.Name == "" {
			t.Fatalf("%T: claim %s is not whole", object, c)
		}
		if got := at(tree, c.Field); got != float64(c.Port) {
			t.Fatalf("%T: %s is %v, the claim says %d", object, c.Field, got, c.Port)
		}
	}
}

// at follows a path such as spec.ports[0].port.
func at(tree any, path string) any {
	for _, step := range regexp.MustCompile(`[a-zA-Z]+|\d+`).FindAllString(path, -1) {
		switch branch := tree.(type) {
		case map[string]any:
			tree = branch[step]
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i >= len(branch) {
				return nil
			}
			tree = branch[i]
		}
	}
	return tree
}
