package check

import (
	"cmp"
	"slices"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// maxRivals bounds for how many templates it is looked at who else takes their nodes: an answer must not take the longer the
// more templates want one port.
const maxRivals = 16

// mostRivals bounds how many templates on one port are looked at at all.
const mostRivals = 128

// rival is a template of another workload that wants a socket which the subject wants too.
type rival struct {
	claim   ports.Claim
	nodes   []string // that its pods may run on, sorted; nil: not known
	pods    int      // that have no node yet and will not end; 0: none, or not known
	mayCome bool     // some pods may have no node yet
}

// rivals returns the templates that want a socket and want pods, those with most pods first.
func (s subject) rivals(wanted ports.Claim) []rival {
	var rivals []rival
	seen, placed := map[ports.Ref]bool{}, map[ports.Ref]map[string]bool{} // nodes, by who is behind the pods on them
	mine := s.held.Chain(wanted.Owner)
	for _, c := range s.held.Holders(wanted.Socket) {
		root := s.held.Root(c.Owner)
		if !c.Kind.OfPod() || c.InitOnly || c.Idle || slices.Contains(mine, root) {
			continue
		}
		for _, node := range c.Scope.Nodes() {
			if placed[root] == nil {
				placed[root] = map[string]bool{}
			}
			placed[root][node] = true
		}
		if isTemplate := c.Owner.Ref == root && c.Owner.Kind != "Pod" && c.Owner.Kind != NodeKind; !isTemplate || seen[root] {
			continue
		}
		seen[root] = true
		pods, nodes := c.Scope.Among()
		if c.Scope.Kind != ports.Undecided {
			nodes = c.Scope.Nodes()
		}
		rivals = append(rivals, rival{claim: c, nodes: nodes, pods: pods})
	}
	for i := range rivals {
		if r := &rivals[i]; r.claim.Scope.Kind == ports.Undecided {
			on := len(placed[r.claim.Owner.Ref])
			r.mayCome = r.pods > on || r.pods == 0 && on == 0
			r.pods = max(0, r.pods-on)
		}
	}
	slices.SortFunc(rivals, func(a, b rival) int {
		return cmp.Or(cmp.Compare(b.pods, a.pods), a.claim.Compare(b.claim))
	})
	return rivals[:min(len(rivals), mostRivals)]
}

// takes returns the nodes on which the workload certainly has a pod, and whether it has one on every node.
func (w *Workload) takes() (nodes []string, everywhere bool) {
	if w.IsPod || len(w.Claims) == 0 || w.IsIdle() {
		return nil, false
	}
	return w.Claims[0].Scope.Nodes(), w.isEverywhere()
}

// met are the findings about who holds what the workload wants, by holder and socket.
type met struct {
	findings []Finding
	places   map[metBy]int
}

type metBy struct {
	root   ports.Ref
	socket ports.Socket
}

func newMet(findings []Finding) *met {
	m := &met{findings: findings, places: make(map[metBy]int, len(findings))}
	for i, f := range findings {
		m.places[metBy{f.Holder.Ref, f.Claim.Socket}] = i
	}
	return m
}

// of returns what has been found about a rival and what is wanted of it; nil for nothing.
func (m *met) of(wanted ports.Claim, r rival) *Finding {
	if i, ok := m.places[metBy{r.claim.Owner.Ref, wanted.Socket}]; ok {
		return &m.findings[i]
	}
	return nil
}

// meets adds that a rival is met on nodes, to what has been found about it and wanted if there is any.
func (s subject) meets(m *met, wanted ports.Claim, r rival, named Case, nodes []string) {
	if f := m.of(wanted, r); f != nil {
		f.Case, f.Nodes = named, union(f.Nodes, nodes)
		f.Holder.Nodes = f.Nodes
		return
	}
	root := r.claim.Owner.Ref
	h := s.holder(root, r.claim)
	h.Nodes = nodes
	m.places[metBy{root, wanted.Socket}] = len(m.findings)
	m.findings = append(m.findings, Finding{
		Code: WorkloadsMeet, Case: named, Object: s.workload.Owner.Ref, Field: wanted.Field, Claim: wanted, Holder: h, Nodes: nodes,
	})
}

// displaced completes what is met with those whose nodes the workload takes. Of one that is to come with it and has no other
// node it is an error, as it would be for that one if it came second; one that is there has its nodes already.
func (s subject) displaced(found *met) {
	takes, everywhere := s.workload.takes()
	if len(takes) == 0 && !everywhere {
		return
	}
	looked := 0
	for _, m := range s.met {
		for _, r := range s.rivals(m.wanted) {
			shared := intersect(r.nodes, takes)
			comes := s.comes != nil && s.comes(r.claim.Owner.Ref)
			isCornered := comes
			if isCornered && !everywhere && (len(shared) == 0 || len(shared) < len(r.nodes)) {
				isCornered = len(shared) > 0 && looked < maxRivals && s.isCornered(r, takes)
				looked++
			}
			switch {
			case isCornered:
				s.meets(found, m.wanted, r, LeavesNoNode, shared)
			case (everywhere || len(shared) > 0) && r.mayCome && (r.pods > 0 || comes) && found.of(m.wanted, r) == nil:
				s.meets(found, m.wanted, r, MayMeetThere, shared)
			}
		}
	}
}

// isCornered reports whether all of a rival's nodes are taken, some by the subject and the rest by others.
func (s subject) isCornered(r rival, takes []string) bool {
	wanted := r.claim
	wanted.Scope = ports.EachScope(r.nodes)
	mine := s.held.Chain(&s.workload.Owner)
	taken := takes
	for _, c := range s.held.Conflicts(wanted) {
		if c.Held.Kind.OfPod() && !slices.Contains(mine, s.held.Root(c.Held.Owner)) {
			taken = union(taken, c.Nodes)
		}
	}
	return len(intersect(r.nodes, taken)) == len(r.nodes)
}

// together completes what is met with whether a workload and others whose pods have no node yet want more nodes, on one host
// port, than there are: two Deployments of two replicas do not fit on three nodes. Looked at are the nodes of the workload,
// and these with those of each of the others; counted is who can go nowhere else.
func (s subject) together(found *met) {
	r := s.workload.Rollout
	left, known := s.left()
	if r == nil || !known || r.Kind == ToTheEnd || r.Kind == OnEachNode || left == 0 || s.workload.nodes() == nil {
		return // how many fit is not known, or none does, which is said by naming who holds the nodes
	}
	for _, m := range s.met {
		rivals := slices.DeleteFunc(s.rivals(m.wanted), func(r rival) bool {
			f := found.of(m.wanted, r)
			return r.pods == 0 || len(r.nodes) == 0 || f != nil && f.Case == LeavesNoNode
		})
		for _, c := range s.crowd(m.wanted, rivals, left) {
			s.meets(found, m.wanted, c, TooManyTogether, intersect(c.nodes, s.workload.nodes()))
		}
	}
}

// crowd returns the first rivals that want, with the subject, more nodes than there are of theirs. Left is on how many of the
// subject's own nodes its ports are free.
func (s subject) crowd(wanted ports.Claim, rivals []rival, left int) []rival {
	within := func(nodes []string) (crowd []rival, pods int) {
		pods = s.workload.Rollout.Replicas
		for _, r := range rivals {
			if len(intersect(r.nodes, nodes)) == len(r.nodes) {
				crowd, pods = append(crowd, r), pods+r.pods
			}
		}
		return crowd, pods
	}
	own := s.workload.nodes()
	if crowd, pods := within(own); pods > left {
		return crowd
	}
	for i, r := range rivals {
		if i == maxRivals {
			break
		}
		nodes := union(own, r.nodes)
		if len(nodes) == len(own) || len(nodes) == len(own)+len(r.nodes) {
			continue // it has been looked at, or the two share no node
		}
		if crowd, pods := within(nodes); pods > s.free(wanted, nodes) {
			return crowd
		}
	}
	return nil
}

// free returns on how many of nodes no pod of another workload holds a socket for certain.
func (s subject) free(wanted ports.Claim, nodes []string) int {
	wanted.Scope = ports.EachScope(nodes)
	var taken []string
	for _, c := range s.held.Conflicts(wanted) {
		if c.Held.Kind.OfPod() && c.Held.Scope.Kind != ports.Undecided {
			taken = union(taken, c.Nodes)
		}
	}
	return len(nodes) - len(taken)
}

// left returns how many nodes have all host ports free that a workload wants, and whether that is known.
func (s subject) left() (int, bool) {
	switch nodes := s.workload.nodes(); {
	case s.taken.everywhere:
		return 0, true
	case nodes != nil:
		return len(nodes) - len(s.taken.nodes), true
	case s.workload.OneHost && !s.workload.IsPod:
		return 1, true // there is one such node or none, and it may be taken
	default:
		return 0, false
	}
}

// union and intersect are of sorted names.
func union(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

func intersect(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(name string) bool {
		_, found := slices.BinarySearch(b, name)
		return !found
	})
}
