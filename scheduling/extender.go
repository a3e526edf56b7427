package scheduling

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// Paths at which an Extender answers: a scheduler's urlPrefix is the host with /scheduler, its filterVerb filter, its
// preemptVerb preempt.
const (
	PathFilter  = "/scheduler/filter"
	PathPreempt = "/scheduler/preempt"
)

// Cluster is what an Extender sees of the cluster; pkg/observe keeps it.
type Cluster interface {
	Snapshot() *ledger.Snapshot
	IsComplete() bool                       // false until everything that exists has been seen
	Node(name string) *corev1.Node          // nil: unknown
	Pod(namespace, name string) *corev1.Pod // nil: unknown
	// UID returns that of an object as the API server has it at this moment; "": there is none.
	UID(ctx context.Context, ref ports.Ref) (types.UID, error)
}

// Extender gives the plugin's judgement to a scheduler that cannot be rebuilt, over HTTP
// (k8s.io/kube-scheduler/extender/v1). It sees no pod before the API server has bound it, no nominated pods, and is not
// told which of the nodes that it let through was chosen.
type Extender struct {
	cluster  Cluster
	settings *extract.Settings
	flight   *offers
	metrics  *ExtenderMetrics
	now      func() time.Time
}

// NewExtender returns an extender. now is the clock by which offers are forgotten and answers timed.
func NewExtender(cluster Cluster, settings *extract.Settings, metrics *ExtenderMetrics, now func() time.Time) *Extender {
	return &Extender{cluster: cluster, settings: settings, metrics: metrics, flight: newOffers(now), now: now}
}

// Handlers returns the handlers by the path at which they are served. They read what they are sent: whoever serves them
// bounds it, and knows who asks.
func (e *Extender) Handlers() map[string]http.Handler {
	return map[string]http.Handler{
		PathFilter:  answering(e, "filter", e.filter),
		PathPreempt: answering(e, "preempt", e.preempt),
	}
}

// answering decodes a request, answers it, and counts what became of it.
func answering[Q, A any](e *Extender, verb string, answer func(*http.Request, *Q) (A, outcome)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := e.now()
		q := new(Q)
		if r.Method != http.MethodPost {
			http.Error(w, "a scheduler sends POST", http.StatusMethodNotAllowed)
			return
		}
		if err := json.NewDecoder(r.Body).Decode(q); err != nil {
			e.metrics.observe(verb, malformed, e.now().Sub(start))
			http.Error(w, "the request is no "+fmt.Sprintf("%T", *q)+" in JSON: "+err.Error(), http.StatusBadRequest)
			return
		}
		a, what := answer(r, q)
		e.metrics.observe(verb, what, e.now().Sub(start))
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(a); err != nil {
			klog.FromContext(r.Context()).Error(err, "Answering a scheduler", "verb", verb)
		}
	})
}

// filter answers which of the nodes suit a pod.
func (e *Extender) filter(r *http.Request, q *extenderv1.ExtenderArgs) (*extenderv1.ExtenderFilterResult, outcome) {
	if q.Pod == nil {
		return &extenderv1.ExtenderFilterResult{Error: "portcullis was asked about no pod"}, malformed
	}
	w := wants(q.Pod, e.settings.Check.Trusted)
	if w == nil {
		return &extenderv1.ExtenderFilterResult{Nodes: q.Nodes, NodeNames: q.NodeNames}, skipped
	}
	if !e.cluster.IsComplete() {
		const why = "portcullis cannot tell who holds the host ports: its view of the cluster is not complete yet"
		if e.settings.DenyUncertain {
			return &extenderv1.ExtenderFilterResult{Error: why}, couldNotTell
		}
		return &extenderv1.ExtenderFilterResult{Nodes: q.Nodes, NodeNames: q.NodeNames}, couldNotTell
	}
	seeker := check.NewSeeker(w, e.cluster.Snapshot(), e.settings.Check.Reserved)
	rivals := e.flight.rivals(q.Pod, w, e.cluster)
	result := &extenderv1.ExtenderFilterResult{FailedNodes: extenderv1.FailedNodesMap{}, FailedAndUnresolvableNodes: extenderv1.FailedNodesMap{}}
	fits := func(name string, node *corev1.Node) bool {
		if reasons, helps := e.reasons(seeker, rivals, name, node); len(reasons) == 0 {
			return true
		} else if text := strings.Join(reasons, "; "); helps {
			result.FailedNodes[name] = text
		} else {
			result.FailedAndUnresolvableNodes[name] = text
		}
		return false
	}
	offered := map[string]bool{}
	if q.NodeNames != nil {
		names := []string{}
		for _, name := range *q.NodeNames {
			if fits(name, e.cluster.Node(name)) {
				names, offered[name] = append(names, name), true
			}
		}
		result.NodeNames = &names
	}
	if q.Nodes != nil {
		nodes := &corev1.NodeList{}
		for i := range q.Nodes.Items {
			if node := &q.Nodes.Items[i]; fits(node.Name, node) {
				nodes.Items, offered[node.Name] = append(nodes.Items, *node), true
			}
		}
		result.Nodes = nodes
	}
	if e.exists(r.Context(), q.Pod, w.Owner.Ref) {
		e.flight.offer(q.Pod, w, offered)
	}
	if len(offered) == 0 {
		return result, refused
	}
	return result, offeredSome
}

// exists reports whether there is a pod that a scheduler asks about: who makes one up keeps nobody from a node. One that the
// watch does not show yet is read.
func (e *Extender) exists(ctx context.Context, pod *corev1.Pod, ref ports.Ref) bool {
	if shown := e.cluster.Pod(pod.Namespace, pod.Name); shown != nil {
		return shown.UID == pod.UID
	}
	uid, err := e.cluster.UID(ctx, ref)
	return err == nil && uid != "" && uid == pod.UID
}

// reasons returns why a node does not suit, one reason for each number as the plugin gives them, and whether preemption
// might help.
func (e *Extender) reasons(seeker *check.Seeker, rivals []offer, name string, node *corev1.Node) (reasons []string, helps bool) {
	inTheWay := e.obstacles(seeker, name, node)
	helps = !slices.ContainsFunc(inTheWay, func(o check.Obstacle) bool { return !o.ByPod() })
	for _, r := range rivals {
		if !r.nodes[name] {
			continue
		}
		for _, c := range seeker.Wanted() {
			if meets(r.workload, []ports.Claim{c}) {
				inTheWay = append(inTheWay, check.Obstacle{Wanted: c, Holder: check.Holder{Ref: r.workload.Owner.Root()}, Pod: r.workload.Owner.Ref})
			}
		}
	}
	slices.SortStableFunc(inTheWay, func(a, b check.Obstacle) int { return a.Wanted.Socket.Compare(b.Wanted.Socket) })
	return report.Blocked(inTheWay, extract.ReservedPortsAnnotation), helps
}

// obstacles returns what is in the way on a node. A pod that is not bound is not, though it may have claimed the one node
// that it can run on, as those of DaemonSets do: two that wait for each other would wait for ever.
func (e *Extender) obstacles(seeker *check.Seeker, name string, node *corev1.Node) []check.Obstacle {
	at := check.Node{Name: name}
	if node != nil {
		at.Labels = node.Labels
		at.Reserved, _ = extract.ReservedPorts(node) // what is malformed reserves nothing, as for the plugin, which logs it
	}
	return slices.DeleteFunc(slices.Clone(seeker.On(at)), func(o check.Obstacle) bool {
		if !o.ByPod() {
			return false
		}
		pod := e.cluster.Pod(o.Pod.Namespace, o.Pod.Name)
		return pod == nil || pod.Spec.NodeName == ""
	})
}

// preempt keeps the nodes on which the pods that are to go are all that is in the way. Those that others must leave too
// are left out: the scheduler would evict for nothing.
func (e *Extender) preempt(_ *http.Request, q *extenderv1.ExtenderPreemptionArgs) (*extenderv1.ExtenderPreemptionResult, outcome) {
	result := &extenderv1.ExtenderPreemptionResult{NodeNameToMetaVictims: map[string]*extenderv1.MetaVictims{}}
	victims := victimsOf(q)
	if q.Pod == nil || !e.cluster.IsComplete() {
		return result, couldNotTell
	}
	w := wants(q.Pod, e.settings.Check.Trusted)
	if w == nil {
		result.NodeNameToMetaVictims = victims
		return result, skipped
	}
	seeker := check.NewSeeker(w, e.cluster.Snapshot(), e.settings.Check.Reserved)
	for node, v := range victims {
		stays := func(o check.Obstacle) bool {
			pod := e.cluster.Pod(o.Pod.Namespace, o.Pod.Name)
			return !o.ByPod() || !slices.ContainsFunc(v.Pods, func(m *extenderv1.MetaPod) bool { return m != nil && pod != nil && m.UID == string(pod.UID) })
		}
		if !slices.ContainsFunc(e.obstacles(seeker, node, e.cluster.Node(node)), stays) {
			result.NodeNameToMetaVictims[node] = v
		}
	}
	if len(result.NodeNameToMetaVictims) == 0 {
		return result, refused
	}
	return result, offeredSome
}

// victimsOf reads the victims in whichever form the scheduler sends them.
func victimsOf(q *extenderv1.ExtenderPreemptionArgs) map[string]*extenderv1.MetaVictims {
	victims := map[string]*extenderv1.MetaVictims{}
	for node, v := range q.NodeNameToMetaVictims {
		if v != nil {
			victims[node] = v
		}
	}
	for node, v := range q.NodeNameToVictims {
		if v == nil {
			continue
		}
		m := &extenderv1.MetaVictims{NumPDBViolations: v.NumPDBViolations}
		for _, pod := range v.Pods {
			if pod == nil {
				continue
			}
			m.Pods = append(m.Pods, &extenderv1.MetaPod{UID: string(pod.UID)})
		}
		victims[node] = m
	}
	return victims
}
