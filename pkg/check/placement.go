package check

import (
	"slices"

	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// Seeker is a pod that seeks a node, with whoever holds the sockets that it wants, sorted by node: the ledger is asked
// once for each socket, however many nodes there are. Its answers are those of the scheduler plugin PortClaims. It is
// never written after it is made, and may be asked from many goroutines.
type Seeker struct {
	wanted     []ports.Claim // each socket once, sorted, scoped to every node
	everywhere []Obstacle
	onNode     map[string][]Obstacle
	onSome     []someDaemon
}

// someDaemon is a daemon of some nodes that holds what is wanted.
type someDaemon struct {
	Reserved
	Obstacle
}

// Obstacle is a holder that keeps a pod from a socket of a node.
type Obstacle struct {
	Wanted ports.Claim // scoped to every node
	Holder Holder      // the kind of its Ref may be DaemonKind, or NodeKind: the node's own annotation reserves the port
	Pod    ports.Ref   // the pod that holds it on the node; the zero Ref where it is no pod
}

// Kinds of holders that are no objects which claim ports.
const (
	DaemonKind = "node daemon"
	NodeKind   = "Node"
)

// ByPod reports whether a pod is in the way, so that preemption may help.
func (o Obstacle) ByPod() bool { return o.Pod != ports.Ref{} }

// NewSeeker asks who holds what w, a pod, wants for as long as it runs. Daemons are those of the nodes.
//
// In the way are pods on a node, those of w's own controller too: two of them cannot both have a port of one node. So
// are Services, but not that which w works for. Templates hold nothing on a node, and w is never in its own way. Whoever
// fills the ledger leaves out the pods that are bound to no node, as a DaemonSet's may claim their node before they are.
func NewSeeker(w *Workload, held *ledger.Snapshot, daemons []Reserved) *Seeker {
	s := &Seeker{wanted: lasting(w.Claims), onNode: map[string][]Obstacle{}}
	names := subject{held: held, templates: map[ports.Ref]sockets{}}
	for _, wanted := range s.wanted {
		for _, d := range daemons {
			if wanted.Overlaps(d.Socket) && !d.IsRunBy(w) {
				o := Obstacle{Wanted: wanted, Holder: Holder{Ref: ports.Ref{Kind: DaemonKind, Name: d.Name}, Claim: reservedClaim(d.Socket)}}
				if d.NodeLabel == "" {
					s.everywhere = append(s.everywhere, o)
					continue
				}
				o.Holder.Claim.Scope = ports.Scope{}
				s.onSome = append(s.onSome, someDaemon{d, o})
			}
		}
		for _, c := range held.Holders(wanted.Socket) {
			conflict, met := ports.Meet(wanted, c, held)
			if !met || !isInTheWay(c, &w.Owner) {
				continue
			}
			o := Obstacle{Wanted: wanted, Holder: *names.holder(held.Root(c.Owner), c)}
			if c.Kind.OfPod() {
				o.Pod = c.Owner.Ref
			}
			if conflict.Nodes == nil {
				s.everywhere = append(s.everywhere, o)
			}
			for _, node := range conflict.Nodes {
				s.onNode[node] = append(s.onNode[node], o)
			}
		}
	}
	return s
}

// lasting returns the claims that last as long as the pod runs, each socket once.
func lasting(claims []ports.Claim) []ports.Claim {
	wanted := slices.DeleteFunc(slices.Clone(claims), func(c ports.Claim) bool { return c.InitOnly })
	slices.SortFunc(wanted, ports.Claim.Compare)
	wanted = slices.CompactFunc(wanted, func(a, b ports.Claim) bool { return a.Socket == b.Socket })
	for i := range wanted {
		wanted[i].Scope = ports.EverywhereScope()
	}
	return wanted
}

func isInTheWay(c ports.Claim, seeker *ports.Owner) bool {
	if c.Kind.OfPod() {
		_, onOne := c.Scope.Node()
		return c.Owner.Kind == "Pod" && onOne && c.Owner.Ref != seeker.Ref
	}
	return c.Owner.Kind == "Service" && !ports.IsKin(seeker, c.Owner)
}

func reservedClaim(socket ports.Socket) ports.Claim {
	return ports.Claim{Socket: socket, Kind: ports.HostNetwork, Scope: ports.EverywhereScope()}
}

// Wanted returns what the pod wants, each socket once, sorted. The caller must not write to it.
func (s *Seeker) Wanted() []ports.Claim { return s.wanted }

// Everywhere returns what is in the way on every node: daemons and Services, sorted by what is wanted. While there is
// any, no node need be asked about. The caller must not write to it.
func (s *Seeker) Everywhere() []Obstacle { return s.everywhere }

// On returns what is in the way on a node that has labels, of whose ports its own annotation reserves some, sorted by what is
// wanted. The caller must not write to it.
func (s *Seeker) On(node string, labels map[string]string, reserved []ports.Socket) []Obstacle {
	here := s.onNode[node]
	if len(s.everywhere)+len(s.onSome)+len(reserved) == 0 {
		return here
	}
	all := slices.Concat(s.everywhere, here)
	for _, d := range s.onSome {
		if d.IsOn(labels) {
			all = append(all, d.Obstacle)
		}
	}
	for _, wanted := range s.wanted {
		for _, r := range reserved {
			if wanted.Overlaps(r) {
				all = append(all, Obstacle{Wanted: wanted, Holder: Holder{
					Ref: ports.Ref{APIVersion: "v1", Kind: NodeKind, Name: node}, Claim: reservedClaim(r),
				}})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b Obstacle) int { return a.Wanted.Socket.Compare(b.Wanted.Socket) })
	return all
}

// Exclusion is a rule of a node, its ports aside, that keeps a pod off it.
type Exclusion struct {
	Rule  NodeRule
	Value string // what the pod asks for, or the taint: "disk=ssd", "dedicated=db:NoSchedule", "cpu 2"
	Has   string // what the node has of it, "disk=hdd", "cpu 500m free"; "" for nothing
}

// NodeRule is by what a node excludes a pod.
type NodeRule string

// The rules of a node that are known here. The scheduler has more.
const (
	ByNodeName     NodeRule = "nodeName"
	ByNodeSelector NodeRule = "nodeSelector"
	ByNodeAffinity NodeRule = "nodeAffinity"
	ByCordon       NodeRule = "unschedulable"
	ByTaint        NodeRule = "taint"
	ByRequests     NodeRule = "requests"
	ByNumberOfPods NodeRule = "pods"
)
