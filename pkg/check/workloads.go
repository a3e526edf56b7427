package check

import (
	"slices"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// meeting is a claim of a pod or template with those who hold it: host ports on the nodes that it may come to, and all
// others. Of a pod whose node is certain, everything is others.
type meeting struct {
	wanted    ports.Claim
	hostPorts []ports.Conflict
	others    []ports.Conflict
}

func (s subject) meetings() []meeting {
	var all []meeting
	for _, wanted := range s.asked() {
		m := meeting{wanted: wanted}
		if isPinnedPod(s.workload, wanted) {
			m.others = s.held.Conflicts(wanted)
			all = append(all, m)
			continue
		}
		for _, c := range s.held.Conflicts(wanted) {
			if !c.Held.Kind.OfPod() {
				m.others = append(m.others, c)
			}
		}
		if s.workload.Eligible != nil {
			wanted.Scope = ports.EachScope(s.workload.Eligible)
		}
		for _, c := range s.held.Conflicts(wanted) {
			if c.Held.Kind.OfPod() && c.Held.Scope.Kind != ports.Undecided {
				m.hostPorts = append(m.hostPorts, c)
			}
		}
		all = append(all, m)
	}
	return all
}

// workloadsMeet checks whether host ports of a workload are taken, by other workloads or bare pods, on the nodes that it
// may run on: on all of them it cannot run, on some of them part of it cannot, or only as long as there is a choice. It also
// checks the reverse, so that the same two workloads get the same answer in either order: whether the workload takes the
// nodes of others. A pod with a choice left is nobody's business but the scheduler's. Whoever holds one port is named in
// one finding.
func workloadsMeet(s subject) []Finding {
	if s.workload == nil {
		return nil
	}
	eligible := s.workload.nodes()
	named := SomeNodesTaken
	if s.taken.everywhere || len(eligible) > 0 && len(s.taken.nodes) == len(eligible) {
		named = EveryNodeTaken
	}
	if named == SomeNodesTaken && s.workload.IsPod {
		return nil
	}
	var findings []Finding
	for _, m := range s.met {
		findings = append(findings, s.byHolder(WorkloadsMeet, m.wanted, m.hostPorts)...)
	}
	for i := range findings {
		findings[i].Case = named
	}
	if named == SomeNodesTaken {
		found := newMet(findings)
		s.displaced(found)
		s.together(found)
		findings = found.findings
	}
	for i := range findings {
		findings[i].Eligible = len(eligible)
	}
	return mergeHolders(findings)
}

// mergeHolders makes one finding of those about one socket that say the same of different holders.
func mergeHolders(findings []Finding) []Finding {
	type about struct {
		socket ports.Socket
		named  Case
	}
	var merged []Finding
	index := map[about]int{}
	for _, f := range findings {
		id := about{f.Claim.Socket, f.Case}
		i, again := index[id]
		if !again {
			index[id] = len(merged)
			merged = append(merged, f)
			continue
		}
		m := &merged[i]
		m.Others = append(m.Others, *f.Holder)
		m.Nodes = union(m.Nodes, f.Nodes)
	}
	for i := range merged {
		merged[i].sortHolders()
	}
	return merged
}

// taken is where there is no room for a workload. On one node one port may be taken and on another another: nothing is
// left all the same.
type taken struct {
	nodes      []string // on which another pod holds a host port that the workload wants, sorted
	everywhere bool     // it is every node
	falsely    []falsely
}

func takenBy(met []meeting) taken {
	var t taken
	for _, m := range met {
		for _, c := range m.hostPorts {
			t.nodes = append(t.nodes, c.Nodes...)
			t.everywhere = t.everywhere || c.Held.Scope.Kind == ports.Everywhere
		}
	}
	slices.Sort(t.nodes)
	t.nodes = slices.Compact(t.nodes)
	return t
}

// Room is where there is room for a workload.
type Room struct {
	Nodes   []string    // that it may run on, sorted; nil: not known
	Taken   []string    // of these, where somebody or the node itself holds a host port that it wants, sorted
	Holders []ports.Ref // who does, each once, sorted
}

// RoomFor returns where there is room for in.Workload, as the checks about host ports see it. There is none for a Service.
func RoomFor(in Input) Room {
	if in.Workload == nil {
		return Room{}
	}
	s := subject{workload: in.Workload, held: in.Held, settings: in.Settings}
	s.met = s.meetings()
	room := Room{Nodes: in.Workload.nodes(), Taken: takenBy(s.met).nodes}
	for _, m := range s.met {
		for _, c := range m.hostPorts {
			room.Holders = append(room.Holders, s.held.Root(c.Held.Owner))
		}
	}
	seeker := NewSeeker(in.Workload, in.Held, in.Settings.Reserved) // Services on an address of a node and daemons of some nodes
	for _, node := range room.Nodes {
		var labels map[string]string
		if in.NodeLabels != nil {
			labels = in.NodeLabels(node)
		}
		for _, o := range seeker.On(Node{Name: node, Labels: labels}) {
			room.Taken = append(room.Taken, node)
			room.Holders = append(room.Holders, o.Holder.Ref)
		}
	}
	slices.Sort(room.Taken)
	room.Taken = slices.Compact(room.Taken)
	slices.SortFunc(room.Holders, ports.Ref.Compare)
	room.Holders = slices.Compact(room.Holders)
	return room
}

// nodes returns the nodes that w's pods may run on: a template may name its only one. None are known if there are none.
func (w *Workload) nodes() []string {
	if w.Eligible == nil && len(w.Claims) > 0 {
		return w.Claims[0].Scope.Nodes()
	}
	return w.Eligible
}

// isEverywhere reports whether w has a pod on every node, whichever there are.
func (w *Workload) isEverywhere() bool {
	return len(w.Claims) > 0 && w.Claims[0].Scope.Kind == ports.Everywhere
}
