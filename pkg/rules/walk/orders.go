package walk

import (
	"cmp"
	"iter"
	"slices"

	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

// Orders yields the ruleset once for each order in which its tables may have registered their base chains, as far as
// that order decides and is not known: of base chains with one hook and priority, some have Seq 0, as in any listing of
// a node. One table's chains are taken to be registered at one time, and in both families alike. A ruleset whose order
// is known is yielded as it is.
func Orders(rs *rules.Ruleset) iter.Seq[*rules.Ruleset] {
	return func(yield func(*rules.Ruleset) bool) {
		tied := tiedTables(rs)
		if len(tied) == 0 {
			yield(rs)
			return
		}
		known := knownOrder(rs)
		for order := range permutations(tied) {
			if !known.allow(order) {
				continue
			}
			if !yield(ordered(rs, order)) {
				return
			}
		}
	}
}

// writer names a table of both families.
type writer struct {
	tool  rules.Tool
	table string
}

func writerOf(t *rules.Table) writer { return writer{t.Tool, t.Name} }

// place is where the order of registration decides.
type place struct {
	family   rules.Family
	hook     rules.Hook
	kind     rules.ChainType
	priority int
}

// hung is a base chain in its place.
type hung struct {
	writer
	seq int
}

func places(rs *rules.Ruleset) map[place][]hung {
	at := map[place][]hung{}
	for _, t := range rs.Tables {
		for _, c := range t.Chains {
			if c.Base != nil {
				p := place{t.Family, c.Base.Hook, c.Base.Type, c.Base.Priority}
				at[p] = append(at[p], hung{writerOf(t), c.Base.Seq})
			}
		}
	}
	return at
}

// tiedTables returns the tables that share a place where somebody's order is not known, sorted.
func tiedTables(rs *rules.Ruleset) []writer {
	var tied []writer
	for _, chains := range places(rs) {
		unknown := slices.ContainsFunc(chains, func(h hung) bool { return h.seq == 0 })
		if unknown && len(chains) > 1 {
			for _, h := range chains {
				tied = append(tied, h.writer)
			}
		}
	}
	slices.SortFunc(tied, func(a, b writer) int { return cmp.Or(cmp.Compare(a.tool, b.tool), cmp.Compare(a.table, b.table)) })
	return slices.Compact(tied)
}

// before says which table is known to have been registered before which.
type before map[[2]writer]bool

func knownOrder(rs *rules.Ruleset) before {
	known := before{}
	for _, chains := range places(rs) {
		for _, a := range chains {
			for _, b := range chains {
				if a.seq != 0 && a.seq < b.seq {
					known[[2]writer{a.writer, b.writer}] = true
				}
			}
		}
	}
	return known
}

// allow reports whether an order has nothing the wrong way round. What is known both ways, for different chains, says
// nothing.
func (known before) allow(order []writer) bool {
	for i, later := range order {
		for _, earlier := range order[:i] {
			if known[[2]writer{later, earlier}] && !known[[2]writer{earlier, later}] {
				return false
			}
		}
	}
	return true
}

// ordered returns a copy in which the base chains of the tables were registered in the order given.
func ordered(rs *rules.Ruleset, order []writer) *rules.Ruleset {
	c := *rs
	c.Tables = make([]*rules.Table, len(rs.Tables))
	for i, t := range rs.Tables {
		c.Tables[i] = t
		if at := slices.Index(order, writerOf(t)); at >= 0 {
			c.Tables[i] = registered(t, at+1)
		}
	}
	return &c
}

func registered(t *rules.Table, seq int) *rules.Table {
	c := *t
	c.Chains = slices.Clone(t.Chains)
	for i, ch := range c.Chains {
		if ch.Base != nil {
			chain, base := *ch, *ch.Base
			base.Seq = seq
			chain.Base = &base
			c.Chains[i] = &chain
		}
	}
	return &c
}

// permutations yields every order of list, its own first. What it yields is its own: copy it to keep it.
func permutations[T any](list []T) iter.Seq[[]T] {
	return func(yield func([]T) bool) {
		now := make([]T, 0, len(list))
		var extend func(left []T) bool
		extend = func(left []T) bool {
			if len(left) == 0 {
				return yield(now)
			}
			for i := range left {
				now = append(now, left[i])
				on := extend(slices.Concat(left[:i], left[i+1:]))
				now = now[:len(now)-1]
				if !on {
					return false
				}
			}
			return true
		}
		extend(list)
	}
}
