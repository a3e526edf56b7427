package check

import (
	"slices"

	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// Seeker is a pod that seeks a node, with whoever holds the sockets that it wants: the ledger is asked once for each
// socket, however many nodes there are. The scheduler plugin, the extender and `why` ask it. It is never written after it
// is made, and may be asked from many goroutines.
type Seeker struct {
	wanted     []ports.Claim // each socket once, sorted, scoped to every node
	everywhere []Obstacle
	onNode     map[string][]Obstacle
	onSome     []someDaemon
	atAddress  []Obstacle // Services that meet it only on a node which the ledger does not know
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
// A caller that knows itself what pods hold on each node, as a plugin does, gives a ledger of the Services alone.
func NewSeeker(w *Workload, held *ledger.Snapshot, daemons []Reserved) *Seeker {
	s := &Seeker{wanted: w.Lasting(), onNode: map[string][]Obstacle{}}
	names := subject{held: held, templates: map[ports.Ref]sockets{}}
	for _, wanted := range s.wanted {
		for _, d := range daemons {
			if wanted.Overlaps(d.Socket) && !d.IsRunBy(w) {
				s.addDaemon(wanted, d)
			}
		}
		for _, c := range held.Holders(wanted.Socket) {
			if !isInTheWay(c, &w.Owner) {
				continue
			}
			conflict, met := ports.Meet(wanted, c, held)
			if !met && (c.Kind.OfPod() || c.Idle) {
				continue
			}
			o := Obstacle{Wanted: wanted, Holder: *names.holder(held.Root(c.Owner), c)}
			if c.Kind.OfPod() {
				o.Pod = c.Owner.Ref
			}
			switch {
			case !met:
				s.atAddress = append(s.atAddress, o)
			case conflict.Nodes == nil:
				s.everywhere = append(s.everywhere, o)
			}
			for _, node := range conflict.Nodes {
				s.onNode[node] = append(s.onNode[node], o)
			}
		}
	}
	return s
}

func (s *Seeker) addDaemon(wanted ports.Claim, d Reserved) {
	o := Obstacle{Wanted: wanted, Holder: Holder{Ref: ports.Ref{Kind: DaemonKind, Name: d.Name}, Claim: reservedClaim(d.Socket)}}
	if d.NodeLabel == "" {
		s.everywhere = append(s.everywhere, o)
		return
	}
	o.Holder.Claim.Scope = ports.Scope{}
	s.onSome = append(s.onSome, someDaemon{d, o})
}

// Lasting returns the claims that last as long as a pod of w runs, each socket once, sorted, scoped to every node: while one
// node is looked at, that node is all there is.
func (w *Workload) Lasting() []ports.Claim {
	lasting := slices.DeleteFunc(slices.Clone(w.Claims), func(c ports.Claim) bool { return c.InitOnly })
	slices.SortFunc(lasting, ports.Claim.Compare)
	lasting = slices.CompactFunc(lasting, func(a, b ports.Claim) bool { return a.Socket == b.Socket })
	for i := range lasting {
		lasting[i].Scope = ports.EverywhereScope()
	}
	return lasting
}

func isInTheWay(c ports.Claim, seeker *ports.Owner) bool {
	if c.Kind.OfPod() {
		_, onOne := c.Scope.Node()
		return c.Owner.Kind == "Pod" && onOne && c.Owner.Ref != seeker.Ref
	}
	return c.Owner.Kind == "Service" && !ports.SameController(seeker, c.Owner)
}

func reservedClaim(socket ports.Socket) ports.Claim {
	return ports.Claim{Socket: socket, Kind: ports.HostNetwork, Scope: ports.EverywhereScope()}
}

// Wanted returns what the pod wants, each socket once, sorted. The caller must not write to it.
func (s *Seeker) Wanted() []ports.Claim { return s.wanted }

// Everywhere returns what is in the way on every node: daemons and Services, sorted by what is wanted. While there is
// any, no node need be asked about. The caller must not write to it.
func (s *Seeker) Everywhere() []Obstacle { return s.everywhere }

// HasHolders reports whether anybody holds, on some node or on all, what the pod wants. If nobody does, what On returns
// depends on the node's own annotation alone.
func (s *Seeker) HasHolders() bool {
	return len(s.everywhere)+len(s.onNode)+len(s.onSome)+len(s.atAddress) > 0
}

// Node is what a Seeker needs to know of a node.
type Node struct {
	Name      string
	Labels    map[string]string
	Reserved  []ports.Socket // ports that its own annotation reserves
	Addresses ports.Nodes    // nil: the ledger knows them
}

// On returns what is in the way on a node, sorted by what is wanted. The caller must not write to it.
func (s *Seeker) On(node Node) []Obstacle {
	here := s.onNode[node.Name]
	if len(s.everywhere)+len(s.onSome)+len(s.atAddress)+len(node.Reserved) == 0 {
		return here
	}
	all := slices.Concat(s.everywhere, here)
	for _, d := range s.onSome {
		if d.IsOn(node.Labels) {
			all = append(all, d.Obstacle)
		}
	}
	if node.Addresses != nil {
		for _, o := range s.atAddress {
			if _, met := ports.Meet(o.Wanted, o.Holder.Claim, node.Addresses); met {
				all = append(all, o)
			}
		}
	}
	for _, wanted := range s.wanted {
		for _, r := range node.Reserved {
			if wanted.Overlaps(r) {
				all = append(all, Obstacle{Wanted: wanted, Holder: Holder{
					Ref: ports.Ref{APIVersion: "v1", Kind: NodeKind, Name: node.Name}, Claim: reservedClaim(r),
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
