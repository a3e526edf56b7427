package walk

import (
	"cmp"
	"slices"

	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

// stack is the rules of one family, as the packets of that family meet them.
type stack struct {
	hooks   [rules.Postrouting + 1][]entry
	virtual map[tuple]*rules.VirtualServer
}

// entry is what hangs in a hook: a base chain, or IPVS.
type entry struct {
	base *chain // nil: IPVS
	nat  bool
}

// table is a table with what its rules refer to by name.
type table struct {
	is     *rules.Table
	chains map[string]*chain
	sets   map[string]*set
}

// chain is a chain in its table, with an index if it is worth one.
type chain struct {
	is    *rules.Chain
	in    *table
	index *index
	loops bool // some jumps lead from it to itself: the kernel refuses such rules
	found found
}

// The priorities of IPVS in the hooks where it takes new packets: NF_IP_PRI_NAT_SRC-1 and NF_IP_PRI_NAT_DST+2
// (linux/net/netfilter/ipvs/ip_vs_core.c ip_vs_ops4).
const (
	ipvsInput  = rules.PrioritySNAT - 1
	ipvsOutput = rules.PriorityDNAT + 2
)

func compile(rs *rules.Ruleset, f rules.Family) stack {
	st := stack{virtual: map[tuple]*rules.VirtualServer{}}
	ipsets := map[string]*set{}
	for _, s := range rs.IPSets {
		ipsets[s.Name] = newSet(s)
	}
	var bases []*chain
	for _, t := range rs.Tables {
		if t.Family == f {
			bases = append(bases, newTable(t, ipsets).bases()...)
		}
	}
	for _, v := range rs.Virtual {
		st.virtual[tuple{v.Addr.Addr(), v.Addr.Port(), v.Protocol}] = v
	}
	for h := range st.hooks {
		st.hooks[h] = hang(bases, rules.Hook(h), len(rs.Virtual) > 0)
	}
	return st
}

func newTable(is *rules.Table, ipsets map[string]*set) *table {
	t := &table{is: is, chains: make(map[string]*chain, len(is.Chains)), sets: ipsets}
	if is.Tool == rules.NFTables {
		t.sets = make(map[string]*set, len(is.Sets))
		for _, s := range is.Sets {
			t.sets[s.Name] = newSet(s)
		}
	}
	chains := make([]chain, len(is.Chains))
	for i, c := range is.Chains {
		chains[i] = chain{is: c, in: t, index: newIndex(c.Rules)}
		t.chains[c.Name] = &chains[i]
	}
	for i := range chains {
		chains[i].findLoops()
	}
	return t
}

func (t *table) bases() []*chain {
	var bases []*chain
	for _, c := range t.is.Chains {
		if c.Base != nil {
			bases = append(bases, t.chains[c.Name])
		}
	}
	return bases
}

// hang orders what hangs in a hook. All chains that translate are called by one function of the kernel, which hangs in
// the hook at a priority of its own, whatever theirs are, since the first of them was registered
// (linux/net/netfilter/nf_nat_core.c nf_nat_register_fn); theirs order them among each other.
func hang(bases []*chain, hook rules.Hook, ipvs bool) []entry {
	type place struct {
		entry
		priority, seq int // of what hangs in the hook itself
	}
	at := rules.PriorityDNAT
	if hook == rules.Input || hook == rules.Postrouting {
		at = rules.PrioritySNAT
	}
	var places []place
	first := 0
	for _, c := range bases {
		b := c.is.Base
		if b.Hook != hook {
			continue
		}
		if b.Type != rules.NAT {
			places = append(places, place{entry{base: c}, b.Priority, b.Seq})
			continue
		}
		places = append(places, place{entry{base: c, nat: true}, at, 0})
		if first == 0 || b.Seq < first {
			first = b.Seq
		}
	}
	for i := range places {
		if places[i].nat {
			places[i].seq = first
		}
	}
	if ipvs && hook == rules.Input {
		places = append(places, place{priority: ipvsInput})
	}
	if ipvs && hook == rules.Output {
		places = append(places, place{priority: ipvsOutput})
	}
	slices.SortStableFunc(places, func(a, b place) int {
		order := cmp.Or(cmp.Compare(a.priority, b.priority), cmp.Compare(b.seq, a.seq))
		if order == 0 && a.nat && b.nat {
			x, y := a.base.is.Base, b.base.is.Base
			order = cmp.Or(cmp.Compare(x.Priority, y.Priority), cmp.Compare(y.Seq, x.Seq))
		}
		return order
	})
	entries := make([]entry, len(places))
	for i, p := range places {
		entries[i] = p.entry
	}
	return entries
}

// found says how far the search for loops is with a chain.
type found uint8

const (
	unseen found = iota
	inside       // the search has come to it, and is on its way through its jumps
	done
)

// findLoops marks at least one chain of every circle of jumps, so that walking ends.
func (c *chain) findLoops() {
	switch {
	case c == nil || c.found == done:
		return
	case c.found == inside:
		c.loops = true
		return
	}
	c.found = inside
	for _, r := range c.is.Rules {
		c.in.targets(r, (*chain).findLoops)
	}
	c.found = done
}

// targets calls visit with every chain that a rule may lead to; with nil for one that is not there.
func (t *table) targets(r *rules.Rule, visit func(*chain)) {
	for _, s := range r.Do {
		switch s := s.(type) {
		case rules.Jump:
			visit(t.chains[s.Chain])
		case rules.Goto:
			visit(t.chains[s.Chain])
		case rules.GotoRandom:
			for _, c := range s.Chains {
				visit(t.chains[c])
			}
		case rules.VMap:
			t.mapTargets(s.Map, visit)
		}
	}
}

func (t *table) mapTargets(name string, visit func(*chain)) {
	m := t.sets[name]
	if m == nil {
		return
	}
	for i := range m.is.Elems {
		switch v := m.is.Elems[i].Verdict.(type) {
		case rules.Jump:
			visit(t.chains[v.Chain])
		case rules.Goto:
			visit(t.chains[v.Chain])
		}
	}
}
