package check

import (
	"slices"
	"strings"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// rollouts asks whether the pods of a workload can all run, and whether they can ever be replaced. Pods with one host port
// never share a node, so that the nodes on which it is free are all the places that there are. The arithmetic is that of
// the controllers (k8s.io/kubernetes pkg/controller/deployment/rolling.go, pkg/controller/daemon/update.go).
func rollouts(s subject) []Finding {
	if s.workload == nil || s.workload.Rollout == nil || s.workload.Rollout.Replicas == 0 {
		return nil
	}
	if len(s.met) == 0 {
		return nil // no claim keeps a second pod from a node: those of plain init containers are not asked about
	}
	r := s.workload.Rollout
	f := Finding{Object: s.workload.Owner.Ref, Field: r.Field, Claim: s.met[0].wanted}
	if r.Kind == OnEachNode {
		if r.Surge == 0 {
			return nil
		}
		f.Code, f.Field, f.Detail = SurgeInPlace, "spec.updateStrategy.rollingUpdate.maxSurge", Replicas{Pods: r.Surge}
		return []Finding{f}
	}
	left, known := s.places()
	f.Detail, f.Eligible = Replicas{r.Replicas, left}, len(s.workload.nodes())
	switch {
	case !known || s.taken.everywhere || left == 0 && f.Eligible > 0:
		return nil // or nothing is left, which is said by naming who holds it
	case left < r.Replicas:
		f.Code, f.Case = TooFewNodes, tooFew(r, f.Eligible, s.workload.OneHost)
	case r.Kind == Rolling && left == r.Replicas && r.Unavailable == 0:
		f.Code, f.Case, f.Field = RolloutStalls, NodesAllInUse, "spec.strategy"
		if left == 1 {
			f.Case = OneNode
		}
	default:
		return nil
	}
	return []Finding{f}
}

func tooFew(r *Rollout, eligible int, oneHost bool) Case {
	switch {
	case eligible == 0 && !oneHost:
		return NoNodeSuits
	case r.Kind == ToTheEnd:
		return FewerAtOnce
	default:
		return SomePodsWait
	}
}

// places returns on how many nodes the scheduler would put a pod of the workload: on those that are left, but for the ones
// on which it sees a conflict where there is none.
func (s subject) places() (int, bool) {
	left, known := s.left()
	if !known {
		return 0, false
	}
	for _, node := range s.taken.falsely {
		if _, also := slices.BinarySearch(s.taken.nodes, node.name); !also {
			left--
		}
	}
	return max(left, 0), true
}

// stricterThere asks whether kube-scheduler's NodePorts, which the kubelet repeats, keeps a pod from all nodes that have
// its ports free. Its only wildcard is 0.0.0.0, which it takes for both families (k8s.io/kube-scheduler
// framework HostPortInfo.CheckConflict).
func stricterThere(s subject) []Finding {
	if len(s.taken.falsely) == 0 {
		return nil
	}
	var findings []Finding
	named := SchedulerStricter
	if pinned := s.workload.IsPod && s.workload.Claims[0].Scope.Kind == ports.OnNode; pinned {
		named = KubeletStricter
	} else if left, known := s.places(); !known || left > 0 && !s.workload.isOnEachNode() {
		return nil // there is a node left, or nobody knows
	}
	for _, node := range s.taken.falsely {
		findings = append(findings, Finding{
			Code: StricterThere, Case: named, Object: s.workload.Owner.Ref, Field: node.wanted.Field, Claim: node.wanted,
			Holder: s.holder(s.held.Root(node.held.Owner), node.held), Nodes: []string{node.name},
		})
	}
	return mergeNodes(findings)
}

func (w *Workload) isOnEachNode() bool { return w.Rollout != nil && w.Rollout.Kind == OnEachNode }

// mergeNodes makes one finding of those about one field and one holder.
func mergeNodes(findings []Finding) []Finding {
	var merged []Finding
	for _, f := range findings {
		i := slices.IndexFunc(merged, func(m Finding) bool { return m.Field == f.Field && m.Holder.Ref == f.Holder.Ref })
		if i < 0 {
			merged = append(merged, f)
			continue
		}
		merged[i].Nodes = union(merged[i].Nodes, f.Nodes)
	}
	return merged
}

// falsely is a node on which the scheduler sees a conflict of two claims that can both work.
type falsely struct {
	name         string
	wanted, held ports.Claim
}

// falselyTaken returns the nodes, sorted, each once.
func (s subject) falselyTaken() []falsely {
	var all []falsely
	for _, m := range s.met {
		if !isIPv4Wildcard(m.wanted) && m.wanted.Address.HasIPv4() {
			continue // the scheduler is no stricter about these
		}
		for _, held := range s.held.Holders(ports.Socket{Protocol: m.wanted.Protocol, Port: m.wanted.Port}) {
			if !s.seesConflict(m.wanted, held) {
				continue
			}
			for _, node := range held.Scope.Nodes() {
				if s.mayBeOn(m.wanted, node) {
					all = append(all, falsely{node, m.wanted, held})
				}
			}
		}
	}
	slices.SortStableFunc(all, func(a, b falsely) int { return strings.Compare(a.name, b.name) })
	return slices.CompactFunc(all, func(a, b falsely) bool { return a.name == b.name })
}

func (s subject) mayBeOn(wanted ports.Claim, node string) bool {
	if at, pinned := wanted.Scope.Node(); pinned {
		return at == node
	}
	_, found := slices.BinarySearch(s.workload.nodes(), node)
	return found
}

// seesConflict reports whether the scheduler sees a conflict between wanted and held that is none.
func (s subject) seesConflict(wanted, held ports.Claim) bool {
	if !held.Kind.OfPod() || held.InitOnly || held.Idle || wanted.Overlaps(held.Socket) {
		return false
	}
	if !isIPv4Wildcard(wanted) && !isIPv4Wildcard(held) {
		return false
	}
	return !slices.Contains(s.held.Chain(wanted.Owner), s.held.Root(held.Owner))
}

func isIPv4Wildcard(c ports.Claim) bool { return c.Address == ports.AllIPv4() }
