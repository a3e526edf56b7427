package kubelet

import (
	"context"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/tools/cache"
)

// observe takes note of a pod as it is now. Pods are judged here, one after the other in the order in which the API
// server tells of them; reconcilePods then writes the decisions down.
func (k *Kubelet) observe(pod *v1.Pod) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.admitted {
		k.judge(pod)
	}
	k.queue.Add(cache.MetaObjectToName(pod))
}

// admitKnown judges all pods that there are, as a kubelet does that starts.
func (k *Kubelet) admitKnown() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range k.known() {
		k.judge(p)
	}
	k.admitted = true
}

// judge decides about a pod that is new on its node and sets the ports of a finished one free.
func (k *Kubelet) judge(pod *v1.Pod) {
	n, ok := k.nodes[pod.Spec.NodeName]
	if !ok || n.lost {
		return
	}
	if finished(pod) {
		n.release(pod.UID, false)
		return
	}
	p, err := n.admit(pod)
	if err != nil {
		utilruntime.HandleError(err) // the pod stays Pending, as it does when a CNI plugin fails
		return
	}
	if pod.DeletionTimestamp != nil && p.dying.IsZero() {
		p.dying = time.Now()
	}
}

// forget takes back what a pod held that is gone. Its node may be lost: what is not in the API holds nothing there
// either, as far as a test can see.
func (k *Kubelet) forget(object any) {
	if tombstone, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = tombstone.Obj
	}
	pod, ok := object.(*v1.Pod)
	if !ok {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if n, ok := k.nodes[pod.Spec.NodeName]; ok {
		n.release(pod.UID, true)
	}
}

// reconcilePods is one worker.
func (k *Kubelet) reconcilePods(ctx context.Context) {
	for {
		name, shutdown := k.queue.Get()
		if shutdown {
			return
		}
		again, err := k.reconcile(ctx, name)
		switch {
		case ctx.Err() != nil:
		case err == nil:
			k.queue.Forget(name)
			if again > 0 {
				k.queue.AddAfter(name, again)
			}
		default:
			if !apierrors.IsConflict(err) { // which only means that the cache is behind
				utilruntime.HandleErrorWithContext(ctx, err, "Reporting a pod failed", "pod", name.String())
			}
			k.queue.AddRateLimited(name)
		}
		k.queue.Done(name)
	}
}

// reconcile writes the status that a pod should have, or finishes its deletion. It returns after what time to look
// again, if that is to be done.
func (k *Kubelet) reconcile(ctx context.Context, name cache.ObjectName) (again time.Duration, err error) {
	object, exists, err := k.pods.GetStore().GetByKey(name.String())
	if err != nil || !exists {
		return 0, err
	}
	pod := object.(*v1.Pod)
	d := k.decision(pod)
	switch {
	case d.ignore:
		return 0, nil
	case d.rejected && !finished(pod):
		return 0, k.reject(ctx, pod)
	case pod.DeletionTimestamp != nil:
		if wait := time.Until(d.endsAt); wait > 0 {
			return wait, nil
		}
		return 0, k.end(ctx, pod)
	case finished(pod):
		return 0, nil
	default:
		return 0, k.writeStatus(ctx, pod, runningStatus(pod, d.node, d.addresses, d.held))
	}
}

// decision is what has been decided about a pod.
type decision struct {
	ignore    bool // it is on none of the nodes here, or on a lost one, or has no address
	rejected  bool
	held      bool
	node      Node
	addresses []string
	endsAt    time.Time
}

func (k *Kubelet) decision(pod *v1.Pod) decision {
	k.mu.Lock()
	n, ok := k.nodes[pod.Spec.NodeName]
	if !ok || n.lost {
		k.mu.Unlock()
		return decision{ignore: true}
	}
	d := decision{node: n.Node}
	if p, ok := n.pods[pod.UID]; ok {
		d.rejected, d.addresses = p.rejected, p.addresses
		if !p.dying.IsZero() {
			d.endsAt = p.dying.Add(k.deletionDelay)
		}
	} else if !finished(pod) {
		d.ignore = true
	}
	hold := k.hold
	k.mu.Unlock()
	d.held = hold != nil && hold(pod) // outside the lock: it is the test's function
	return d
}

// end finishes a deletion: the pod's containers stop, then it leaves the API, unless a finalizer keeps it.
func (k *Kubelet) end(ctx context.Context, pod *v1.Pod) error {
	if !finished(pod) {
		// The event of this write leads here again.
		return k.writeStatus(ctx, pod, finishedStatus(pod, killedExitCode, "", ""))
	}
	if grace := pod.DeletionGracePeriodSeconds; grace != nil && *grace == 0 {
		return nil // done before
	}
	options := metav1.NewDeleteOptions(0)
	options.Preconditions = metav1.NewUIDPreconditions(string(pod.UID))
	err := k.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, *options)
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) { // it is gone, or another pod has its name
		return nil
	}
	return err
}

// writeStatus writes a pod's status unless it is what the API has.
func (k *Kubelet) writeStatus(ctx context.Context, pod *v1.Pod, status v1.PodStatus) error {
	if equality.Semantic.DeepEqual(pod.Status, status) {
		return nil
	}
	pod = pod.DeepCopy()
	pod.Status = status
	_, err := k.client.CoreV1().Pods(pod.Namespace).UpdateStatus(ctx, pod, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// reject refuses a pod and, when that is written, says so in an event. As with a real kubelet an event may be missing.
func (k *Kubelet) reject(ctx context.Context, pod *v1.Pod) error {
	if err := k.writeStatus(ctx, pod, rejectedStatus(pod)); err != nil {
		return err
	}
	now := metav1.Now()
	_, err := k.client.CoreV1().Events(pod.Namespace).Create(ctx, &v1.Event{
		ObjectMeta:     metav1.ObjectMeta{GenerateName: pod.Name + ".", Namespace: pod.Namespace},
		InvolvedObject: v1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		Type:           v1.EventTypeWarning,
		Reason:         portsReason,
		Message:        portsEvent,
		Source:         v1.EventSource{Component: "kubelet", Host: pod.Spec.NodeName},
		FirstTimestamp: now, LastTimestamp: now, Count: 1,
		ReportingController: "kubelet", ReportingInstance: pod.Spec.NodeName,
	}, metav1.CreateOptions{})
	if err != nil && ctx.Err() == nil {
		utilruntime.HandleErrorWithContext(ctx, err, "Announcing a refused pod failed", "pod", cache.MetaObjectToName(pod).String())
	}
	return nil
}
