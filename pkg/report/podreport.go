package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// Placement is what is known of a pod that seeks a node, or has one, and of the nodes.
type Placement struct {
	Pod        ports.Owner
	Wanted     []ports.Claim // each socket once, sorted
	Phase      string        // "" for a pod that is not made yet
	Ended      string        // why it ended, "" where it has not or does not say
	Node       string        // that it is on; Nodes are that one then
	Since      time.Time     // how long it is there; zero: not known
	Said       string        // by the scheduler, of its last attempt
	Gates      []string      // names of its scheduling gates
	Unmodelled []string      // paths of what it asks of its node that was not looked at
	Nodes      []Candidate
	Conflicts  []check.Finding // of a pod that is on a node, with who gets the packets
	Annotation string          // by which nodes reserve ports
	Siblings   *Siblings       // nil: the pod is of no workload that is known
}

// Siblings are the pods of the workload that a pod is of.
type Siblings struct {
	Of               ports.Ref // the topmost controller
	OnNodes, Waiting int
	Wanted           int    // 0: not known
	IsNew            bool   // it is asked about one more pod
	PerNode          bool   // of a DaemonSet: about the pod of each node, whether there is one or not
	Failure          string // why no more can be created, in the API server's words; "": they can, or it is not known
	NoneMayGo        bool   // no old pod may go before a new one is ready
	Older            bool   // an older pod of another revision has a port that the pod waits for
}

// Candidate is a node that the pod may come to.
type Candidate struct {
	Node      string
	Obstacles []Obstacle
	Excluded  []check.Exclusion
	NotReady  bool
	Unknown   bool // it does not say what its pods may ask for
}

// Obstacle is a holder that is in the way, with what the cluster says of it.
type Obstacle struct {
	check.Obstacle
	Since       time.Time // of the pod or Service that holds the port; zero: not known
	Leaving     bool      // the pod is terminating
	Preemptible bool      // the scheduler may evict the pod for this one
}

// PodReport is the outcome of `portcullis why -o json`: a versioned kind that other people's scripts read.
type PodReport struct {
	APIVersion string      `json:"apiVersion"`
	Kind       string      `json:"kind"`
	Pod        PodSubject  `json:"pod"`
	Wanted     []PodSocket `json:"wanted"`
	Node       string      `json:"node,omitempty"` // that the pod is on
	Nodes      []PodNode   `json:"nodes"`          // sorted; that which the pod is on alone, if it is on one
	Summary    PodSummary  `json:"summary"`
	Notes      []string    `json:"notes"`            // what else is worth knowing, a sentence each
	Inputs     *Inputs     `json:"inputs,omitempty"` // of the files; nil: of a cluster
}

// PodSubject names the pod. One that is not made yet is called after its template, "tomcat-*".
type PodSubject struct {
	Object
	Controller *Owner `json:"controller,omitempty"`
	Phase      string `json:"phase,omitempty"`
	Scheduler  string `json:"scheduler,omitempty"` // what it said of its last attempt
}

// PodSocket is a port of the node that the pod wants.
type PodSocket struct {
	Kind     string `json:"kind"`
	Address  string `json:"address"` // "*" for every address
	Protocol string `json:"protocol"`
	Port     int    `json:"port"`
	Field    string `json:"field"`
}

// PodNode is what a node says to the pod.
type PodNode struct {
	Node      string        `json:"node"`
	Fits      bool          `json:"fits"`
	Obstacles []PodObstacle `json:"obstacles"`
	Excluded  []PodRule     `json:"excluded"`
}

// PodObstacle is a port that the pod cannot have on a node.
type PodObstacle struct {
	PodSocket
	Message     string     `json:"message"`
	Holder      NodeHolder `json:"holder"`
	Pod         string     `json:"pod,omitempty"`   // the pod that holds it, "namespace/name"
	Since       string     `json:"since,omitempty"` // RFC 3339; that of the pod or Service
	Terminating bool       `json:"terminating,omitempty"`
	Preemptible bool       `json:"preemptible"` // the scheduler may evict the pod, whose priority is lower
}

// NodeHolder names a holder, the controller of pods for its pods. A daemon of every node is of the kind "node daemon", a
// node that reserves the port by its annotation is itself, a Node.
type NodeHolder struct {
	Holder
	Node string `json:"node,omitempty"` // where it holds the port; left out where it does so on every node
}

// PodRule is a rule of a node, its ports aside, that excludes the pod.
type PodRule struct {
	Rule    string `json:"rule"` // a check.NodeRule
	Message string `json:"message"`
}

// PodSummary counts nodes.
type PodSummary struct {
	Nodes    int    `json:"nodes"`
	Fits     int    `json:"fits"`
	Held     int    `json:"held"`     // with a port in the way
	Excluded int    `json:"excluded"` // by another rule
	Message  string `json:"message"`
}

// NewPodReport puts a placement into words.
func NewPodReport(p Placement) *PodReport {
	r := &PodReport{
		APIVersion: apiVersion, Kind: "PodReport", Node: p.Node,
		Pod:    PodSubject{Object: object(p.Pod.Ref), Phase: p.Phase, Scheduler: p.Said},
		Wanted: []PodSocket{}, Nodes: []PodNode{}, Notes: notes(p),
	}
	if p.Pod.Controller != nil {
		r.Pod.Controller = ownerOf(p.Pod.Root())
	}
	for _, c := range p.Wanted {
		r.Wanted = append(r.Wanted, podSocket(c))
	}
	for _, c := range p.Nodes {
		n := podNode(c, p.Annotation)
		r.Nodes = append(r.Nodes, n)
		r.Summary.Nodes++
		r.Summary.Fits += count(n.Fits)
		r.Summary.Held += count(len(n.Obstacles) > 0)
		r.Summary.Excluded += count(len(n.Excluded) > 0)
	}
	slices.SortFunc(r.Nodes, func(a, b PodNode) int { return strings.Compare(a.Node, b.Node) })
	r.Summary.Message = verdict(p)
	return r
}

func count(is bool) int {
	if is {
		return 1
	}
	return 0
}

func podSocket(c ports.Claim) PodSocket {
	return PodSocket{
		Kind: c.Kind.String(), Address: c.Address.String(), Protocol: c.Protocol.String(), Port: int(c.Port), Field: c.Field,
	}
}

func podNode(c Candidate, annotation string) PodNode {
	n := PodNode{Node: c.Node, Fits: c.fits(), Obstacles: []PodObstacle{}, Excluded: []PodRule{}}
	for _, o := range c.Obstacles {
		n.Obstacles = append(n.Obstacles, podObstacle(o, c.Node, annotation))
	}
	for _, e := range c.Excluded {
		n.Excluded = append(n.Excluded, PodRule{string(e.Rule), exclusion(e)})
	}
	return n
}

func (c Candidate) fits() bool { return len(c.Obstacles)+len(c.Excluded) == 0 }

func podObstacle(o Obstacle, node, annotation string) PodObstacle {
	ref := o.Holder.Ref
	out := PodObstacle{
		PodSocket: podSocket(o.Wanted), Message: HeldOnNode(o.Wanted, []string{Blocker(o.Obstacle, annotation)}),
		Holder:      NodeHolder{Holder: Holder{Kind: ref.Kind, Namespace: ref.Namespace, Name: ref.Name, Field: o.Holder.Field}},
		Terminating: o.Leaving, Preemptible: o.Preemptible,
	}
	if o.ByPod() {
		out.Pod = o.Pod.Namespace + "/" + o.Pod.Name
	}
	if o.ByPod() || ref.Kind == check.NodeKind || o.Holder.Claim.Scope.Kind == ports.AtAddress {
		out.Holder.Node = node
	}
	if ref.Kind == check.NodeKind {
		out.Holder.Field = "metadata.annotations[" + annotation + "]"
	}
	if !o.Since.IsZero() {
		out.Since = o.Since.UTC().Format(time.RFC3339)
	}
	return out
}

// Blocker names the holder of an obstacle as HeldOnNode wants it. Nodes reserve ports by the annotation.
func Blocker(o check.Obstacle, annotation string) string {
	switch o.Holder.Kind {
	case check.DaemonKind:
		return Daemon(o.Holder.Name, o.Holder.Claim.Scope.Kind == ports.Everywhere)
	case check.NodeKind:
		return Reservation(annotation)
	default:
		return o.Holder.Ref.String()
	}
}

// Blocked tells why a node does not suit a pod in the words of the scheduler plugin: one reason for each number that is
// wanted, from obstacles that are sorted by what is wanted.
func Blocked(obstacles []check.Obstacle, annotation string) []string {
	var reasons []string
	for len(obstacles) > 0 {
		wanted := obstacles[0].Wanted
		var holders []string
		for len(obstacles) > 0 && obstacles[0].Wanted.Port == wanted.Port && obstacles[0].Wanted.Protocol == wanted.Protocol {
			holders = append(holders, Blocker(obstacles[0], annotation))
			obstacles = obstacles[1:]
		}
		reasons = append(reasons, HeldOnNode(wanted, holders))
	}
	return reasons
}

// exclusion tells what a rule of a node has against a pod.
func exclusion(e check.Exclusion) string {
	switch has := orNothing(e.Has); e.Rule {
	case check.ByNodeName:
		return "spec.nodeName is " + e.Value
	case check.ByNodeSelector:
		return fmt.Sprintf("nodeSelector %s, the node has %s", e.Value, has)
	case check.ByNodeAffinity:
		return fmt.Sprintf("nodeAffinity %s, the node has %s", e.Value, has)
	case check.ByCordon:
		return "cordoned (spec.unschedulable)"
	case check.ByTaint:
		return "taint " + e.Value + " is not tolerated"
	case check.ByRequests:
		return fmt.Sprintf("%s requested, %s free", e.Value, e.Has)
	case check.ByNumberOfPods:
		return fmt.Sprintf("%s pods there, %s allowed", e.Has, e.Value)
	default:
		return string(e.Rule) + " " + e.Value
	}
}

func orNothing(has string) string {
	if has == "" {
		return "none"
	}
	return has
}

// notes are what else is worth knowing, a sentence each.
func notes(p Placement) []string {
	all := []string{}
	add := func(format string, args ...any) {
		all = append(all, Escape(fmt.Sprintf(format, args...)))
	}
	if p.Ended != "" {
		add("The pod has ended and holds nothing (%s); it was judged as if it were made again.", p.Ended)
	}
	if len(p.Gates) > 0 {
		add("No scheduler looks at the pod before its scheduling gates are gone: %s.", strings.Join(p.Gates, ", "))
	}
	if p.Siblings != nil {
		all = append(all, p.Siblings.notes(p)...)
	}
	var notReady, unknown []string
	for _, c := range p.Nodes {
		if c.NotReady {
			notReady = append(notReady, c.Node)
		}
		if c.Unknown {
			unknown = append(unknown, c.Node)
		}
	}
	if len(notReady) > 0 {
		add("Not ready: %s.", nodes(notReady))
	}
	if len(unknown) > 0 && p.Node == "" {
		add("Resource requests were not checked: status.allocatable is empty on %s.", nodes(unknown))
	}
	if len(p.Unmodelled) > 0 && p.Node == "" {
		add("Not checked, though kube-scheduler does: %s.", strings.Join(p.Unmodelled, ", "))
	}
	return all
}

// WriteJSON writes the report as JSON.
func (r *PodReport) WriteJSON(w io.Writer) error { return writeJSON(w, r) }
