package scheduling

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	fwk "k8s.io/kube-scheduler/framework"

	"github.com/portcullis-k8s/portcullis/pkg/check"
)

// offerTime is how long an offer counts at most. A pod is bound within moments of it, or asks again.
const offerTime = 10 * time.Second

// offers remembers which nodes a pod was offered, until the cluster shows where it went. The scheduler that asks knows
// itself what it has decided, and its own NodePorts keeps two pods apart that want the same port as it understands it.
// An offer counts where NodePorts does not see what we see: that :: is everybody, that an address has several spellings.
type offers struct {
	now   func() time.Time
	mutex sync.Mutex
	byPod map[types.UID]offer
}

type offer struct {
	pod      *corev1.Pod
	workload *check.Workload
	nodes    map[string]bool
	until    time.Time
}

func newOffers(now func() time.Time) *offers { return &offers{now: now, byPod: map[types.UID]offer{}} }

// offer records the nodes; none takes back what was offered before.
func (f *offers) offer(pod *corev1.Pod, w *check.Workload, nodes map[string]bool) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	delete(f.byPod, pod.UID)
	if len(nodes) > 0 {
		f.byPod[pod.UID] = offer{pod, w, nodes, f.now().Add(offerTime)}
	}
}

// rivals returns the offers that stand in a pod's way, and forgets those that no longer count.
func (f *offers) rivals(pod *corev1.Pod, w *check.Workload, cluster Cluster) []offer {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	var rivals []offer
	now := f.now()
	for uid, o := range f.byPod {
		shown := cluster.Pod(o.pod.Namespace, o.pod.Name)
		if !o.until.After(now) || shown != nil && (shown.UID != uid || shown.Spec.NodeName != "") {
			delete(f.byPod, uid)
			continue
		}
		if uid != pod.UID && meets(w, o.workload.Claims) && !upstreamSees(o.pod, pod) {
			rivals = append(rivals, o)
		}
	}
	return rivals
}

// upstreamSees reports whether the in-tree NodePorts keeps two pods off one node.
func upstreamSees(a, b *corev1.Pod) bool {
	held := fwk.HostPortInfo{}
	eachHostPort(a, func(p *corev1.ContainerPort) bool {
		held.Add(p.HostIP, string(p.Protocol), p.HostPort)
		return false
	})
	return eachHostPort(b, func(p *corev1.ContainerPort) bool {
		return held.CheckConflict(p.HostIP, string(p.Protocol), p.HostPort)
	})
}

// eachHostPort calls f with the ports that NodePorts looks at until f returns true, and returns whether it did.
func eachHostPort(pod *corev1.Pod, f func(*corev1.ContainerPort) bool) bool {
	of := func(containers []corev1.Container, isInit bool) bool {
		for i := range containers {
			c := &containers[i]
			if isInit && (c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways) {
				continue
			}
			for j := range c.Ports {
				if c.Ports[j].HostPort > 0 && f(&c.Ports[j]) {
					return true
				}
			}
		}
		return false
	}
	return of(pod.Spec.Containers, false) || of(pod.Spec.InitContainers, true)
}
