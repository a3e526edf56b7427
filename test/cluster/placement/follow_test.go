package placement

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/test/lab/poll"
)

// follower keeps what is decided about the pods of a namespace, as the API server tells it.
type follower struct {
	mu          sync.Mutex
	pods        map[string]*corev1.Pod
	bound       []string  // the pods that got a node, in this order
	first, last time.Time // when one got a node
}

func (s *site) follow(t testing.TB) *follower {
	t.Helper()
	f := &follower{pods: map[string]*corev1.Pod{}}
	config := s.RESTConfig()
	config.QPS, config.ContentType = -1, "application/vnd.kubernetes.protobuf"
	informer := informers.NewSharedInformerFactoryWithOptions(kubernetes.NewForConfigOrDie(config), 0, informers.WithNamespace(s.namespace)).Core().V1().Pods().Informer()
	registration, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { f.see(object.(*corev1.Pod)) },
		UpdateFunc: func(_, object any) { f.see(object.(*corev1.Pod)) },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		informer.RunWithContext(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	if !cache.WaitForCacheSync(t.Context().Done(), registration.HasSynced) {
		t.Fatal("listing pods takes too long")
	}
	return f
}

func (f *follower) see(pod *corev1.Pod) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := f.pods[pod.Name]
	f.pods[pod.Name] = pod
	if pod.Spec.NodeName != "" && (before == nil || before.Spec.NodeName == "") {
		f.bound = append(f.bound, pod.Name)
		if f.last = time.Now(); len(f.bound) == 1 {
			f.first = f.last
		}
	}
}

// await waits until all of the pods are as they should be, and returns them.
func (f *follower) await(t testing.TB, names []string, done func(*corev1.Pod) bool) []*corev1.Pod {
	t.Helper()
	var found []*corev1.Pod
	poll.Until(t, func(context.Context) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		found = found[:0]
		for _, name := range names {
			if pod := f.pods[name]; pod != nil && done(pod) {
				found = append(found, pod)
			}
		}
		if len(found) < len(names) {
			return fmt.Errorf("%d of %d pods are as they should be", len(found), len(names))
		}
		return nil
	})
	return found
}

// order returns two pods in the order in which they got their nodes.
func (f *follower) order(a, b string) (first, second string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if slices.Index(f.bound, a) < slices.Index(f.bound, b) {
		return a, b
	}
	return b, a
}

func isDecided(pod *corev1.Pod) bool { return verdict(pod) != outcome{} }

// addPlainNodes makes ready nodes that nobody looks after, called <site>-0 and so on, and returns their names.
func (s *site) addPlainNodes(t testing.TB, count int) []string {
	t.Helper()
	names := make([]string, count)
	err := each(t.Context(), count, func(ctx context.Context, i int) error {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s-%d", s.namespace, i), Labels: map[string]string{"site": s.namespace}}}
		names[i] = node.Name
		if err := s.Create(ctx, node); err != nil {
			return err
		}
		unready := client.MergeFrom(node.DeepCopy())
		node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
		node.Status.Allocatable = corev1.ResourceList{
			corev1.ResourcePods: resource.MustParse("10k"), corev1.ResourceCPU: resource.MustParse("1k"), corev1.ResourceMemory: resource.MustParse("1Ti"),
		}
		node.Status.Capacity = node.Status.Allocatable
		if err := s.Status().Patch(ctx, node, unready); err != nil {
			return err
		}
		// The API server gives every new node a taint, which the node controller takes away; there may be none.
		return s.Patch(ctx, node, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"taints":null}}`)))
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
