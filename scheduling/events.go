package scheduling

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/cache"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"

	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// EventReason is the reason of the event on a pod that waits for a host port.
const EventReason = "HostPortTaken"

// How often events may be written: a pod that waits is tried again whenever something changes, and there may be thousands.
const (
	podEvery    = time.Minute
	perSecond   = 1
	burst       = 25
	mostWaiting = 10_000 // pods whose last event is remembered
)

// notices says when an event may tell who has a pod's ports on which node. kube-scheduler's own message counts the nodes
// and cannot name them.
type notices struct {
	limit flowcontrol.PassiveRateLimiter
	told  *cache.LRUExpireCache // by pod UID
}

func newNotices() notices {
	return notices{flowcontrol.NewTokenBucketPassiveRateLimiter(perSecond, burst), cache.NewLRUExpireCache(mostWaiting)}
}

// mayTell reports whether an event on pod may be written now, and counts it.
func (n notices) mayTell(pod *corev1.Pod) bool {
	if _, recently := n.told.Get(pod.UID); recently || !n.limit.TryAccept() {
		return false
	}
	n.told.Add(pod.UID, struct{}{}, podEvery)
	return true
}

// PostFilter tells in an event on the pod, node by node, who has its ports. It makes no room: that is preemption's.
func (p *PortClaims) PostFilter(ctx context.Context, state fwk.CycleState, pod *corev1.Pod, statuses fwk.NodeToStatusReader) (*fwk.PostFilterResult, *fwk.Status) {
	if err := p.tell(ctx, state, pod, statuses); err != nil {
		klog.FromContext(ctx).Error(err, "No event tells who holds the host ports of a pod", "plugin", Name, "pod", klog.KObj(pod))
	}
	return nil, fwk.NewStatus(fwk.Unschedulable)
}

func (p *PortClaims) tell(ctx context.Context, state fwk.CycleState, pod *corev1.Pod, statuses fwk.NodeToStatusReader) error {
	data, err := state.Read(stateKey)
	if err != nil {
		return nil // it wants no host port, or one that is taken on every node, as the scheduler's message says
	}
	asked, ok := data.(*cycle)
	if !ok || !p.notices.mayTell(pod) {
		return nil
	}
	nodes, err := p.handle.SnapshotSharedLister().NodeInfos().List()
	if err != nil {
		return fmt.Errorf("listing the nodes: %w", err)
	}
	nodes = slices.SortedFunc(slices.Values(nodes), func(a, b fwk.NodeInfo) int { return strings.Compare(a.Node().Name, b.Node().Name) })
	var taken []report.Taken
	var related runtime.Object
	for _, info := range nodes {
		if !isAboutPorts(statuses.Get(info.Node().Name)) {
			continue
		}
		for _, c := range asked.meet(nil, p.nodeState(ctx, info)) {
			t := report.Taken{Node: info.Node().Name, Wanted: c.wanted.claim, Holder: c.holder}
			if c.pod != nil {
				t.Pod = c.pod.Namespace + "/" + c.pod.Name
				if related == nil {
					related = c.pod
				}
			}
			taken = append(taken, t)
		}
	}
	if len(taken) == 0 {
		return nil
	}
	slices.SortFunc(taken, report.Taken.Compare)
	p.handle.EventRecorder().Eventf(pod, related, corev1.EventTypeWarning, EventReason, "Scheduling", "%s",
		report.WaitsFor(pod.Namespace+"/"+pod.Name, taken))
	return nil
}

// isAboutPorts reports whether a node was refused by this plugin, or by the in-tree one, which may be asked first.
func isAboutPorts(s *fwk.Status) bool {
	return s.IsRejected() && (s.Plugin() == Name || s.Plugin() == "NodePorts")
}
