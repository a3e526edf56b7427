package scheduling

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	kcache "k8s.io/apimachinery/pkg/util/cache"
	"k8s.io/client-go/tools/cache"
	fwk "k8s.io/kube-scheduler/framework"

	"github.com/portcullis-k8s/portcullis/pkg/extract"
)

// onNode is the index of pods with host ports by the node that they are bound to.
const onNode = "portcullis.dev/host-ports-on-node"

// lateTime is how long a pod that was refused late is known: the event of the pod that was quicker comes within moments.
const lateTime = time.Minute

// bound knows the pods that the API server has bound to nodes, by this scheduler or by another, as soon as the informer
// has them, while a scheduling cycle looks at the nodes as they were when it began.
type bound struct {
	indexer cache.Indexer
	late    *kcache.LRUExpireCache // UIDs of pods that Reserve refused
}

func newBound(informer cache.SharedIndexInformer) (*bound, error) {
	b := &bound{informer.GetIndexer(), kcache.NewLRUExpireCache(mostWaiting)}
	if _, ok := b.indexer.GetIndexers()[onNode]; ok { // by another profile
		return b, nil
	}
	if err := informer.AddIndexers(cache.Indexers{onNode: nodeOf}); err != nil {
		return nil, fmt.Errorf("indexing pods: %w", err)
	}
	return b, nil
}

func nodeOf(object any) ([]string, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok || pod.Spec.NodeName == "" || !extract.MayClaim(pod) {
		return nil, nil
	}
	return []string{pod.Spec.NodeName}, nil
}

// pods returns the pods with host ports on a node, but for one.
func (b *bound) pods(node string, but types.UID) ([]*corev1.Pod, error) {
	objects, err := b.indexer.ByIndex(onNode, node)
	if err != nil {
		return nil, err
	}
	var pods []*corev1.Pod
	for _, object := range objects {
		if pod, ok := object.(*corev1.Pod); ok && pod.UID != but {
			pods = append(pods, pod)
		}
	}
	return pods, nil
}

// Reserve looks once more at the node that was chosen: another scheduler, or the API server, may have put a pod there
// since the cycle began, and a Service may have come. What comes later still is between the kubelets and the pods.
func (p *PortClaims) Reserve(_ context.Context, state fwk.CycleState, pod *corev1.Pod, node string) *fwk.Status {
	if _, err := state.Read(stateKey); err != nil {
		return nil // PreFilter skipped it
	}
	w := wants(pod, p.trusted)
	if w == nil {
		return nil
	}
	now, err := p.newCycle(w, nil) // daemons do not come between Filter and Reserve
	if err != nil {
		return fwk.AsStatus(err)
	}
	pods, err := p.bound.pods(node, pod.UID)
	if err != nil {
		return fwk.AsStatus(err)
	}
	met := now.meet(nil, p.nodeStateAgain(node, pods))
	if len(met) > 0 {
		p.bound.late.Add(pod.UID, struct{}{}, lateTime)
	}
	return met.status()
}

// Unreserve has nothing to undo.
func (p *PortClaims) Unreserve(context.Context, fwk.CycleState, *corev1.Pod, string) {}
