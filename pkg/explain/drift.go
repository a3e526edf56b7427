package explain

import (
	"cmp"
	"slices"
	"strings"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
	"github.com/portcullis-k8s/portcullis/pkg/rules/text"
)

// DriftKind says how a node differs from what its components should have installed.
type DriftKind string

// The kinds of drift.
const (
	Missing DriftKind = "missing" // it should be there
	Stale   DriftKind = "stale"   // a component put it there, and it should have gone: a leaked CNI-DN chain for example
	Foreign DriftKind = "foreign" // somebody else's, beside them
)

// Difference is one rule, or one element of a set or map, that a node has and should not, or should have and has not.
type Difference struct {
	Kind   DriftKind
	Tool   rules.Tool
	Family rules.Family
	Table  string
	Chain  string    // or the set
	Text   string    // as the tool lists it
	Owner  ports.Ref // whose it is, of what is missing
}

// Drift compares what should be installed with a listing of a node. Of a listing, only the tools and families that it has
// are compared: iptables-save says nothing of nft's tables. Between rules of one chain the order is not compared, as
// kube-proxy itself has none between Services.
func Drift(want, have *rules.Ruleset) []Difference {
	listed := map[[2]uint8]bool{}
	for _, t := range have.Tables {
		listed[[2]uint8{uint8(t.Tool), uint8(t.Family)}] = true
	}
	should, is := lines(want, listed), lines(have, listed)
	var found []Difference
	for key, owner := range should {
		if _, ok := is[key]; !ok {
			key.Kind, key.Owner = Missing, owner
			found = append(found, key)
		}
	}
	for key := range is {
		if _, ok := should[key]; !ok {
			if key.Kind = Foreign; isOurs(key) {
				key.Kind = Stale
			}
			found = append(found, key)
		}
	}
	slices.SortFunc(found, func(a, b Difference) int {
		return cmp.Or(cmp.Compare(a.Tool, b.Tool), cmp.Compare(a.Family, b.Family), strings.Compare(a.Table, b.Table),
			strings.Compare(a.Chain, b.Chain), strings.Compare(string(a.Kind), string(b.Kind)), strings.Compare(a.Text, b.Text))
	})
	return found
}

// lines returns every rule and element of a ruleset, as a Difference without a kind and an owner, with its owner.
func lines(rs *rules.Ruleset, listed map[[2]uint8]bool) map[Difference]ports.Ref {
	all := map[Difference]ports.Ref{}
	for _, t := range rs.Tables {
		if !listed[[2]uint8{uint8(t.Tool), uint8(t.Family)}] {
			continue
		}
		for _, c := range t.Chains {
			for _, r := range c.Rules {
				d := Difference{Tool: t.Tool, Family: t.Family, Table: t.Name, Chain: c.Name, Text: RuleText(t, c, r)}
				all[d] = r.Origin.Owner
			}
		}
		for _, s := range t.Sets {
			if s.Dynamic {
				continue // packets fill it
			}
			for i := range s.Elems {
				d := Difference{Tool: t.Tool, Family: t.Family, Table: t.Name, Chain: s.Name, Text: text.NFTElem(s, &s.Elems[i])}
				all[d] = s.Elems[i].Origin.Owner
			}
		}
	}
	return all
}

// RuleText returns a rule as its tool lists it.
func RuleText(t *rules.Table, c *rules.Chain, r *rules.Rule) string {
	if t.Tool == rules.NFTables {
		return text.NFTRule(t.Family, r)
	}
	return text.SaveRule(t.Family, c.Name, r)
}

// isOurs reports whether kube-proxy or portmap wrote a rule: it stands in a chain of theirs, or leads to one.
func isOurs(d Difference) bool {
	if d.Tool == rules.NFTables {
		return d.Table == "kube-proxy" || d.Table == "cni_hostport"
	}
	for _, name := range append(strings.Fields(d.Text), d.Chain) {
		switch {
		case strings.HasPrefix(name, "KUBE-KUBELET-"), name == "KUBE-IPTABLES-HINT":
			return false // the kubelet's
		case strings.HasPrefix(name, "KUBE-"), strings.HasPrefix(name, "CNI-HOSTPORT-"), strings.HasPrefix(name, "CNI-DN-"):
			return true
		}
	}
	return false
}
