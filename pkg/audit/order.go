package audit

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// All returns the findings about each input, sorted. Every input is checked against the state and all other inputs, so that their
// order changes nothing but this: of two that clash alike the later one is the offender, bare pods after all others, as they will
// be when the workloads' pods are there. Where the two are found wrong differently, it is who is the worse off. Of Services that are
// too many for a limit of a pool the later ones are, too. tell, if it is not nil, is called before each input.
func (j *Judge) All(inputs []runtime.Object, tell func(judged, all int)) [][]check.Finding {
	found := make([][]check.Finding, len(inputs))
	subjects := make([]subject, len(inputs))
	var order []int // of what is checked
	for i, object := range inputs {
		s, ok := j.read(object)
		if !ok {
			if node, ok := object.(*corev1.Node); ok {
				found[i] = extract.BadReservations(node) // the ports that it reserves are in the ledger from the beginning
			}
			continue
		}
		s.validate(object)
		s.name(j.judged)
		j.add(s)
		subjects[i], order = s, append(order, i)
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(subjects[a].isPod(), subjects[b].isPod()) })
	c := clashes{held: j.ledger.Snapshot(), places: map[ports.Ref]int{}, worst: map[clash]side{}}
	for n, i := range order {
		if tell != nil {
			tell(n+1, len(order))
		}
		s := subjects[i]
		found[i] = j.ask(j.input(s), s)
		c.add(s.owner(), found[i])
	}
	for _, i := range order {
		s := subjects[i]
		found[i] = c.told(s.owner(), found[i])
	}
	fuller := map[clash]told{}
	for _, i := range order {
		c.mention(subjects[i].owner(), found[i], fuller)
	}
	for _, i := range order {
		found[i] = check.Fold(c.once(subjects[i].owner(), found[i], fuller))
	}
	return found
}

func (s subject) isPod() int {
	if s.workload != nil && s.workload.IsPod {
		return 1
	}
	return 0
}

// clashes decides of which side a clash of inputs is told.
type clashes struct {
	held   *ledger.Snapshot
	places map[ports.Ref]int // of what a person wrote, in the order of the inputs
	worst  map[clash]side
}

// clash is one port of two, or of several that want more nodes together than there are.
type clash struct {
	stricter bool // by kube-scheduler's NodePorts only
	between  string
	port     uint16
}

// side is one of those who clash, by what a person wrote.
type side struct {
	of    ports.Ref
	rank  int // how badly it is off
	place int
}

func (s side) compare(o side) int {
	return cmp.Or(cmp.Compare(s.rank, o.rank), cmp.Compare(s.place, o.place), s.of.Compare(o.of))
}

// add records the findings about the next input.
func (c *clashes) add(owner ports.Owner, findings []check.Finding) {
	root := c.held.Root(&owner)
	if _, known := c.places[root]; !known {
		c.places[root] = len(c.places)
	}
	for _, f := range findings {
		s := side{root, rank(f), c.places[root]}
		for _, key := range c.of(root, f) {
			if w, known := c.worst[key]; !known || w.compare(s) < 0 {
				c.worst[key] = s
			}
		}
	}
}

// told returns the findings about an input without those that are told of the other side.
func (c *clashes) told(owner ports.Owner, findings []check.Finding) []check.Finding {
	root := c.held.Root(&owner)
	return slices.DeleteFunc(findings, func(f check.Finding) bool {
		all := c.of(root, f)
		if len(all) == 0 {
			return false
		}
		return !slices.ContainsFunc(all, func(key clash) bool { return c.worst[key].of == root })
	})
}

// told is who names most others in a finding about a clash, and how badly it is off.
type told struct {
	of      ports.Ref
	holders int
	rank    int
}

// mention records which findings name several holders.
func (c *clashes) mention(owner ports.Owner, findings []check.Finding, fuller map[clash]told) {
	root := c.held.Root(&owner)
	for _, f := range findings {
		t := told{root, len(f.Holders()), rank(f)}
		for _, key := range c.of(root, f) {
			if known, ok := fuller[key]; !ok || known.holders < t.holders {
				fuller[key] = t
			}
		}
	}
}

// once leaves out what a finding of the other side says, which names more holders and is as bad: one cause is one finding.
func (c *clashes) once(owner ports.Owner, findings []check.Finding, fuller map[clash]told) []check.Finding {
	root := c.held.Root(&owner)
	return slices.DeleteFunc(findings, func(f check.Finding) bool {
		all := c.of(root, f)
		return len(all) > 0 && !slices.ContainsFunc(all, func(key clash) bool {
			t := fuller[key]
			return t.of == root || t.holders <= len(f.Holders()) || t.rank < rank(f)
		})
	})
}

// rank is how bad a finding is: what stood before is least.
func rank(f check.Finding) int {
	if f.Standing {
		return -1
	}
	return int(f.Severity)
}

// of returns what clashes a finding about an object of root is about; none for one that only this object can have.
func (c *clashes) of(root ports.Ref, f check.Finding) []clash {
	switch f.Code {
	case check.Held, check.WorkloadsMeet, check.UndeclaredMeet, check.StricterThere:
	default:
		return nil
	}
	between := func(refs ...ports.Ref) clash {
		var names []string
		for _, ref := range append(refs, root) {
			names = append(names, fmt.Sprint(ref))
		}
		slices.Sort(names)
		return clash{f.Code == check.StricterThere, strings.Join(names, " "), f.Claim.Port}
	}
	var all []clash
	var refs []ports.Ref
	for _, h := range f.Holders() {
		ref := h.Ref
		if owner, _, known := c.held.Owner(ref); known {
			ref = c.held.Root(owner)
		}
		refs = append(refs, ref)
		all = append(all, between(ref))
	}
	if f.Case == check.TooManyTogether {
		return []clash{between(refs...)}
	}
	return all
}
