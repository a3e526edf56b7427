// Package kubelet is a small stand-in for the kubelet, on any number of nodes at once, for tests against a real control
// plane.
//
// As the real kubelet does, it registers nodes and keeps them ready with leases; refuses a pod whose host port another
// pod of its node holds, by the same rule and in the same words; gives pods addresses and reports their status; and
// finishes deletions.
//
// What is fake: no container runs and no port is bound. Containers are running as soon as the pod is admitted, plain
// init containers have completed by then, probes and images are never looked at, nothing crashes or restarts, and a pod
// finishes only when the test says so. Of the checks at admission only the one on ports is made: resources, node
// selectors and taints are left to the scheduler. A pod that is deleted ends at once, or after a delay that the test
// sets, without regard to its grace period. There are no static pods, ephemeral containers, volumes or logs.
package kubelet

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/retry"
	"k8s.io/client-go/util/workqueue"
)

// Options says which nodes there are and how their pods behave.
type Options struct {
	Nodes         []Node
	Heartbeat     time.Duration          // how often a node reports; 10 s if 0, as in the real kubelet
	DeletionDelay time.Duration          // how long a deleted pod goes on terminating
	Hold          func(pod *v1.Pod) bool // pods that run without becoming ready; may be changed by Kubelet.Hold
}

// Kubelet looks after the nodes that it was given and their pods. Other nodes are none of its business.
type Kubelet struct {
	client        kubernetes.Interface
	heartbeat     time.Duration
	deletionDelay time.Duration

	pods  cache.SharedIndexInformer
	queue workqueue.TypedRateLimitingInterface[cache.ObjectName]

	stop context.CancelFunc
	work sync.WaitGroup

	mu       sync.Mutex // guards the rest
	nodes    map[string]*node
	hold     func(*v1.Pod) bool
	admitted bool // the pods that were there at the start have been judged
}

// workers write status side by side; what they write was decided before.
const workers = 8

// Run starts a Kubelet for a test and stops it when the test ends.
func Run(tb testing.TB, config *rest.Config, o Options) *Kubelet {
	tb.Helper()
	k, err := Start(tb.Context(), config, o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(k.Stop)
	return k
}

// Start registers the nodes and returns when they are ready. The Kubelet works until Stop is called or the context
// ends.
func Start(ctx context.Context, config *rest.Config, o Options) (*Kubelet, error) {
	config = rest.CopyConfig(config)
	config.QPS = -1 // many nodes in one process must not share the rate of one client
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	k := &Kubelet{
		client:        client,
		heartbeat:     o.Heartbeat,
		deletionDelay: o.DeletionDelay,
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[cache.ObjectName](5*time.Millisecond, time.Second)),
		nodes: map[string]*node{},
		hold:  o.Hold,
	}
	if k.heartbeat == 0 {
		k.heartbeat = 10 * time.Second
	}
	registrations, registering := errgroup.WithContext(ctx)
	registrations.SetLimit(workers)
	for _, n := range o.Nodes {
		registrations.Go(func() error { return k.addNode(registering, n) })
	}
	if err := registrations.Wait(); err != nil {
		return nil, err
	}
	ctx, k.stop = context.WithCancel(ctx)
	if err := k.start(ctx); err != nil {
		k.Stop()
		return nil, err
	}
	return k, nil
}

func (k *Kubelet) start(ctx context.Context) error {
	bound := informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermNotEqualSelector("spec.nodeName", "").String()
	})
	k.pods = informers.NewSharedInformerFactoryWithOptions(k.client, 0, bound).Core().V1().Pods().Informer()
	handlers, err := k.pods.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(pod any) { k.observe(pod.(*v1.Pod)) },
		UpdateFunc: func(_, pod any) { k.observe(pod.(*v1.Pod)) },
		DeleteFunc: k.forget,
	})
	if err != nil {
		return err
	}
	k.work.Go(func() { k.pods.RunWithContext(ctx) })
	if !cache.WaitForCacheSync(ctx.Done(), handlers.HasSynced) {
		return fmt.Errorf("listing pods: %w", context.Cause(ctx))
	}
	k.admitKnown()
	for range workers {
		k.work.Go(func() { k.reconcilePods(ctx) })
	}
	k.work.Go(func() { k.reportNodes(ctx) })
	context.AfterFunc(ctx, k.queue.ShutDown)
	return nil
}

// Stop ends the work. Nodes and pods stay in the API as they are.
func (k *Kubelet) Stop() {
	k.stop()
	k.queue.ShutDown()
	k.work.Wait()
}

// Hold makes those pods for which held returns true run without being ready, and the others ready; nil makes all
// ready. It is asked from several goroutines.
func (k *Kubelet) Hold(held func(pod *v1.Pod) bool) {
	k.mu.Lock()
	k.hold = held
	k.mu.Unlock()
	k.requeue(func(*v1.Pod) bool { return true })
}

// Lose cuts a node off: it reports nothing, and nothing happens to its pods.
func (k *Kubelet) Lose(name string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	n, ok := k.nodes[name]
	if !ok {
		return fmt.Errorf("no node %s here", name)
	}
	n.lost = true
	return nil
}

// Return brings a lost node back, as if its network had been down. Pods that were bound to it meanwhile are judged, the
// oldest first.
func (k *Kubelet) Return(ctx context.Context, name string) error {
	k.mu.Lock()
	n, ok := k.nodes[name]
	if ok {
		n.lost = false
	}
	k.mu.Unlock()
	if !ok {
		return fmt.Errorf("no node %s here", name)
	}
	if err := k.reportReady(ctx, n); err != nil {
		return err
	}
	k.takeUp(name)
	return nil
}

// Complete ends a pod as one whose containers have exited with 0.
func (k *Kubelet) Complete(ctx context.Context, namespace, name string) error {
	return k.finish(ctx, namespace, name, func(p *v1.Pod) v1.PodStatus { return finishedStatus(p, 0, "", "") })
}

// Fail ends a pod as one whose containers have exited with 1, for a reason that may be empty.
func (k *Kubelet) Fail(ctx context.Context, namespace, name, reason, message string) error {
	return k.finish(ctx, namespace, name, func(p *v1.Pod) v1.PodStatus { return finishedStatus(p, 1, reason, message) })
}

func (k *Kubelet) finish(ctx context.Context, namespace, name string, status func(*v1.Pod) v1.PodStatus) error {
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		pod, err := k.client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if !k.looksAfter(pod) {
			return fmt.Errorf("pod %s/%s is on no node that works here (node %q)", namespace, name, pod.Spec.NodeName)
		}
		pod.Status = status(pod)
		_, err = k.client.CoreV1().Pods(namespace).UpdateStatus(ctx, pod, metav1.UpdateOptions{})
		return err
	})
}

// takeUp begins to work on the pods of a node that is new here or back.
func (k *Kubelet) takeUp(name string) {
	k.admitKnown()
	k.requeue(func(p *v1.Pod) bool { return p.Spec.NodeName == name })
}

// looksAfter reports whether a pod is on a node that is here and not lost.
func (k *Kubelet) looksAfter(pod *v1.Pod) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	n, ok := k.nodes[pod.Spec.NodeName]
	return ok && !n.lost
}

// known returns the pods that the API server has told about in the order in which they are to be judged: those that
// have been started before, then by age. The real kubelet goes by age alone, in whole seconds.
func (k *Kubelet) known() []*v1.Pod {
	var pods []*v1.Pod
	for _, p := range k.pods.GetStore().List() {
		pods = append(pods, p.(*v1.Pod))
	}
	slices.SortFunc(pods, func(a, b *v1.Pod) int {
		switch aStarted, bStarted := a.Status.StartTime != nil, b.Status.StartTime != nil; {
		case aStarted && !bStarted:
			return -1
		case bStarted && !aStarted:
			return 1
		}
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time),
			cmp.Compare(cache.MetaObjectToName(a).String(), cache.MetaObjectToName(b).String()))
	})
	return pods
}

func (k *Kubelet) requeue(which func(*v1.Pod) bool) {
	for _, p := range k.known() {
		if which(p) {
			k.queue.Add(cache.MetaObjectToName(p))
		}
	}
}
