package scheduling

import (
	"context"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/cache"
	fwk "k8s.io/kube-scheduler/framework"

	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

const scoreKey fwk.StateKey = "PreScore" + Name

// byTemplate is the index of workloads by the numbers that their pods want: "9000/TCP".
const byTemplate = "portcullis.dev/template-by-number"

// rivals knows the ReplicaSets and StatefulSets whose pods want host ports. What a DaemonSet takes, it takes on all of its
// nodes, and what a pod without a controller has, it has: neither will look for a node again.
type rivals struct{ indexers []cache.Indexer }

func newRivals(informers ...cache.SharedIndexInformer) (*rivals, error) {
	r := &rivals{}
	for _, informer := range informers {
		indexer := informer.GetIndexer()
		r.indexers = append(r.indexers, indexer)
		if _, ok := indexer.GetIndexers()[byTemplate]; ok { // by another profile
			continue
		}
		if err := informer.AddIndexers(cache.Indexers{byTemplate: templateNumbers}); err != nil {
			return nil, fmt.Errorf("indexing workloads: %w", err)
		}
	}
	return r, nil
}

// templateOf returns the spec of the pods that a workload keeps running; nil if it keeps none.
func templateOf(object any) *corev1.PodSpec {
	var replicas *int32
	var spec *corev1.PodSpec
	switch o := object.(type) {
	case *appsv1.ReplicaSet:
		replicas, spec = o.Spec.Replicas, &o.Spec.Template.Spec
	case *appsv1.StatefulSet:
		replicas, spec = o.Spec.Replicas, &o.Spec.Template.Spec
	}
	if spec == nil || replicas != nil && *replicas == 0 || !extract.MayClaim(&corev1.Pod{Spec: *spec}) {
		return nil
	}
	return spec
}

// templateNumbers lists the numbers that a workload's pods want for as long as they run.
func templateNumbers(object any) ([]string, error) {
	workload, ok := object.(runtime.Object)
	if !ok || templateOf(object) == nil {
		return nil, nil
	}
	var numbers []string
	if w, ok := extract.Workload(workload, nil, nil); ok {
		for _, c := range w.Claims {
			if !c.InitOnly && !slices.Contains(numbers, c.PortProtocol()) {
				numbers = append(numbers, c.PortProtocol())
			}
		}
	}
	return numbers, nil
}

// contender is how many workloads may go to the same nodes: those that one of the placements allows. There are several
// while a Deployment is being rolled out.
type contender struct {
	placements []extract.Placement
	workloads  int64
}

// contention is what a scheduling cycle keeps: who else wants one of the pod's ports.
type contention []contender

// Clone returns the same: nothing changes it.
func (c contention) Clone() fwk.StateData { return c }

// of returns who else wants one of the sockets, the workload of the pod itself aside.
func (r *rivals) of(d []demand) (contention, error) {
	placements := map[ports.Ref][]extract.Placement{} // by workload
	own := d[0].claim.Owner.Root()
	for i := range d {
		wanted := &d[i].claim
		for _, indexer := range r.indexers {
			found, err := indexer.ByIndex(byTemplate, wanted.PortProtocol())
			if err != nil {
				return nil, err
			}
			for _, object := range found {
				root, overlaps := rival(object, wanted.Socket)
				if !overlaps || root == own {
					continue
				}
				p := extract.PlacementOf(templateOf(object), false)
				if !slices.ContainsFunc(placements[root], func(known extract.Placement) bool { return known.Key == p.Key }) {
					placements[root] = append(placements[root], p)
				}
			}
		}
	}
	alike := map[string]*contender{}
	for _, of := range placements {
		slices.SortFunc(of, func(a, b extract.Placement) int { return strings.Compare(a.Key, b.Key) })
		keys := make([]string, len(of))
		for i := range of {
			keys[i] = of[i].Key
		}
		key := strings.Join(keys, "\n")
		if alike[key] == nil {
			alike[key] = &contender{placements: of}
		}
		alike[key].workloads++
	}
	var all contention
	for _, c := range alike {
		all = append(all, *c)
	}
	return all, nil
}

// rival returns the workload that a person wrote, and reports whether its pods want some of a socket.
func rival(object any, wanted ports.Socket) (ports.Ref, bool) {
	workload, ok := object.(runtime.Object)
	if !ok || templateOf(object) == nil {
		return ports.Ref{}, false
	}
	w, ok := extract.Workload(workload, nil, nil)
	if !ok {
		return ports.Ref{}, false
	}
	return w.Owner.Root(), slices.ContainsFunc(w.Claims, func(c ports.Claim) bool { return !c.InitOnly && c.Overlaps(wanted) })
}

// on returns how many other workloads may want one of the pod's ports of a node.
func (c contention) on(node *corev1.Node) int64 {
	n := int64(0)
	for i := range c {
		if slices.ContainsFunc(c[i].placements, func(p extract.Placement) bool { return p.Allows(node) }) {
			n += c[i].workloads
		}
	}
	return n
}

// PreScore finds who else wants the pod's ports. Without preferUncontended, or if nobody does, no node is scored.
func (p *PortClaims) PreScore(_ context.Context, state fwk.CycleState, _ *corev1.Pod, _ []fwk.NodeInfo) *fwk.Status {
	if p.rivals == nil {
		return fwk.NewStatus(fwk.Skip)
	}
	data, err := state.Read(stateKey)
	if err != nil {
		return fwk.NewStatus(fwk.Skip) // PreFilter skipped it
	}
	asked, ok := data.(*cycle)
	if !ok {
		return fwk.AsStatus(fmt.Errorf("%s: the state is a %T", Name, data))
	}
	c, err := p.rivals.of(asked.demands)
	if err != nil {
		return fwk.AsStatus(err)
	}
	if len(c) == 0 {
		return fwk.NewStatus(fwk.Skip)
	}
	state.Write(scoreKey, c)
	return nil
}

// Score returns how many other workloads may want one of the pod's ports of a node. NormalizeScore turns it round.
func (p *PortClaims) Score(_ context.Context, state fwk.CycleState, _ *corev1.Pod, info fwk.NodeInfo) (int64, *fwk.Status) {
	data, err := state.Read(scoreKey)
	if err != nil {
		return 0, fwk.AsStatus(fmt.Errorf("%s: PreScore left nothing: %w", Name, err))
	}
	c, ok := data.(contention)
	if !ok {
		return 0, fwk.AsStatus(fmt.Errorf("%s: the state is a %T", Name, data))
	}
	return c.on(info.Node()), nil
}

// ScoreExtensions returns the plugin, which normalizes.
func (p *PortClaims) ScoreExtensions() fwk.ScoreExtensions { return p }

// NormalizeScore gives the nodes that the fewest others want the highest score, and those that the most want 0; where all
// are wanted by as many, the score says nothing and is 0.
func (p *PortClaims) NormalizeScore(_ context.Context, _ fwk.CycleState, _ *corev1.Pod, scores fwk.NodeScoreList) *fwk.Status {
	if len(scores) == 0 {
		return nil
	}
	fewest, most := scores[0].Score, scores[0].Score
	for _, s := range scores {
		fewest, most = min(fewest, s.Score), max(most, s.Score)
	}
	for i := range scores {
		if fewest == most {
			scores[i].Score = fwk.MinScore
		} else {
			scores[i].Score = fwk.MaxScore * (most - scores[i].Score) / (most - fewest)
		}
	}
	return nil
}
