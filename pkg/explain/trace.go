package explain

import (
	"slices"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
	"github.com/portcullis-k8s/portcullis/pkg/rules/walk"
)

// Answer is what becomes of a packet.
type Answer struct {
	Paths          []walk.Path // where the order of registration decides and is not known, those of each order
	Shadowed       []Shadowed  // who would have got it
	OrderDependent bool        // the paths of different orders end in different places
}

// Shadowed is a rule that would have taken the packet, were it not for another.
type Shadowed struct {
	Owner ports.Ref // whose rule it is
	Step  walk.Step // the rule that would have decided
	By    walk.Step // the rule where the packet went another way
	Later bool      // By is in another base chain, which was registered later and so runs first
}

// maxShadowed bounds how many are looked for behind each other.
const maxShadowed = 8

// Trace follows a packet through what a plane installs, in the order in which its components started, or in both if that
// is not known.
func (p Plane) Trace(w *rules.World, host walk.Host, packet walk.Packet) Answer {
	return Trace(p.sets(w), host, packet)
}

// sets returns the rules of a plane, in the order of its starts, or in both if that is not known.
func (p Plane) sets(w *rules.World) []*rules.Ruleset {
	if p.Started != nil {
		return []*rules.Ruleset{p.ordered(w, p.Started)}
	}
	var sets []*rules.Ruleset
	for _, o := range Orders() {
		sets = append(sets, p.ordered(w, o))
	}
	return sets
}

// Trace follows a packet through rulesets that differ only in the order in which their base chains were registered. What
// they agree on is told once.
func Trace(sets []*rules.Ruleset, host walk.Host, packet walk.Packet) Answer {
	var a Answer
	for i, rs := range sets {
		paths := walk.New(rs, host).Walk(packet)
		if i > 0 && sameEnds(a.Paths, paths) {
			continue
		}
		a.OrderDependent = i > 0
		a.Paths = append(a.Paths, paths...)
		for _, s := range shadowed(rs, host, packet, paths) {
			if !slices.ContainsFunc(a.Shadowed, func(o Shadowed) bool { return o.Owner == s.Owner }) {
				a.Shadowed = append(a.Shadowed, s)
			}
		}
	}
	return a
}

// sameEnds reports whether two walks end in the same places, whichever rules lead there.
func sameEnds(a, b []walk.Path) bool {
	return slices.EqualFunc(a, b, func(x, y walk.Path) bool {
		return x.Verdict == y.Verdict && x.Destination == y.Destination && x.Origin.Owner == y.Origin.Owner && x.Masquerade == y.Masquerade
	})
}

// shadowed asks who would get a packet if those who get it were not there, and then those, and so on.
func shadowed(rs *rules.Ruleset, host walk.Host, packet walk.Packet, paths []walk.Path) []Shadowed {
	var found []Shadowed
	winners := paths
	for range maxShadowed {
		owner, ok := winner(winners)
		if !ok {
			return found
		}
		rs = without(rs, owner)
		next := walk.New(rs, host).Walk(packet)
		other, ok := winner(next)
		if !ok {
			return found
		}
		found = append(found, proof(other, next[0], paths[0]))
		winners = next
	}
	return found
}

// winner returns who decides about a packet, where that is one object.
func winner(paths []walk.Path) (ports.Ref, bool) {
	owner := paths[0].Origin.Owner
	return owner, owner != ports.Ref{}
}

// proof compares the walk in which an owner gets the packet with the one in which another does.
func proof(owner ports.Ref, would, does walk.Path) Shadowed {
	s := Shadowed{Owner: owner, Step: deciding(would)}
	i := 0
	for i < len(would.Steps) && i < len(does.Steps) && would.Steps[i].Rule == does.Steps[i].Rule && would.Steps[i].Elem == does.Steps[i].Elem {
		i++
	}
	if i < len(does.Steps) {
		s.By = does.Steps[i]
	}
	mine, theirs := baseOf(would, s.Step), baseOf(does, deciding(does))
	s.Later = mine.Chain != nil && theirs.Chain != nil && mine.Hook == theirs.Hook && !sameChain(mine, theirs) &&
		mine.Chain.Base.Priority == theirs.Chain.Base.Priority
	return s
}

// sameChain compares steps of different copies of a ruleset.
func sameChain(a, b walk.Step) bool {
	return a.Table.Tool == b.Table.Tool && a.Table.Name == b.Table.Name && a.Chain.Name == b.Chain.Name
}

// deciding is the step that says where a packet goes: the last that has the owner of the path.
func deciding(p walk.Path) walk.Step {
	for i := len(p.Steps) - 1; i >= 0; i-- {
		if p.Steps[i].Origin() == p.Origin {
			return p.Steps[i]
		}
	}
	return walk.Step{}
}

// baseOf is the step in the base chain by which a walk came to another one.
func baseOf(p walk.Path, to walk.Step) walk.Step {
	var base walk.Step
	for _, s := range p.Steps {
		if s.Chain != nil && s.Chain.Base != nil {
			base = s
		}
		if s.Rule == to.Rule && s.Chain == to.Chain {
			break
		}
	}
	return base
}

// without returns a copy of rules in which nothing is an owner's.
func without(rs *rules.Ruleset, owner ports.Ref) *rules.Ruleset {
	c := &rules.Ruleset{}
	for _, t := range rs.Tables {
		table := *t
		table.Chains, table.Sets = nil, setsWithout(t.Sets, owner)
		for _, ch := range t.Chains {
			chain := *ch
			chain.Rules = slices.DeleteFunc(slices.Clone(ch.Rules), func(r *rules.Rule) bool { return r.Origin.Owner == owner })
			table.Chains = append(table.Chains, &chain)
		}
		c.Tables = append(c.Tables, &table)
	}
	c.IPSets = setsWithout(rs.IPSets, owner)
	c.Virtual = slices.DeleteFunc(slices.Clone(rs.Virtual), func(v *rules.VirtualServer) bool { return v.Origin.Owner == owner })
	return c
}

func setsWithout(sets []*rules.Set, owner ports.Ref) []*rules.Set {
	var kept []*rules.Set
	for _, s := range sets {
		set := *s
		set.Elems = slices.DeleteFunc(slices.Clone(s.Elems), func(e rules.Elem) bool { return e.Origin.Owner == owner })
		kept = append(kept, &set)
	}
	return kept
}
