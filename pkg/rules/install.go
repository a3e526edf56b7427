package rules

// Fragment is what one component installs: tables of its own, and rules that it puts into base chains of others.
type Fragment struct {
	Tables  []*Table
	Jumps   []Into
	IPSets  []*Set
	Virtual []*VirtualServer
}

// Into is a rule that is put into a chain which may exist already, as iptables -I or -A does.
type Into struct {
	Tool   Tool
	Family Family
	Table  string
	Chain  string
	Rule   *Rule
	Insert bool // before the others; else behind them
}

// Install merges what components install, in the order in which they do: it decides which rule comes first in a chain
// that both write to, and which base chain was registered last. The fragments are not changed.
//
// A base chain of iptables is registered when the first rule is put into it.
func Install(fragments ...Fragment) *Ruleset {
	in := &installer{rules: &Ruleset{}, chains: map[*Table]map[string]*Chain{}}
	for _, f := range fragments {
		for _, t := range f.Tables {
			in.table(t)
		}
		for _, j := range f.Jumps {
			in.jump(j)
		}
		in.rules.IPSets = append(in.rules.IPSets, f.IPSets...)
		in.rules.Virtual = append(in.rules.Virtual, f.Virtual...)
	}
	return in.rules
}

type installer struct {
	rules  *Ruleset
	chains map[*Table]map[string]*Chain // by name: a large cluster has a hundred thousand
	seq    int
}

func (in *installer) table(t *Table) {
	to := in.find(t.Tool, t.Family, t.Name)
	to.Comment = t.Comment
	to.Sets = append(to.Sets, t.Sets...)
	for _, c := range t.Chains {
		chain := in.chains[to][c.Name]
		if chain == nil {
			chain = &Chain{Name: c.Name, Comment: c.Comment}
			in.add(to, chain)
		}
		if c.Base != nil && chain.Base == nil {
			base := *c.Base
			base.Seq = in.next()
			chain.Base = &base
		}
		chain.Rules = append(chain.Rules, c.Rules...)
	}
}

func (in *installer) jump(j Into) {
	t := in.find(j.Tool, j.Family, j.Table)
	c := in.chains[t][j.Chain]
	if c == nil {
		c = &Chain{Name: j.Chain, Base: Builtin(j.Table, j.Chain)}
		if c.Base != nil {
			c.Base.Seq = in.next()
		}
		in.add(t, c)
	}
	if j.Insert {
		c.Rules = append([]*Rule{j.Rule}, c.Rules...)
	} else {
		c.Rules = append(c.Rules, j.Rule)
	}
}

func (in *installer) add(t *Table, c *Chain) {
	t.Chains = append(t.Chains, c)
	in.chains[t][c.Name] = c
}

func (in *installer) next() int {
	in.seq++
	return in.seq
}

func (in *installer) find(tool Tool, family Family, name string) *Table {
	if t := in.rules.Table(tool, family, name); t != nil {
		return t
	}
	t := &Table{Tool: tool, Family: family, Name: name}
	in.rules.Tables = append(in.rules.Tables, t)
	in.chains[t] = map[string]*Chain{}
	return t
}

// Builtin returns where a chain of iptables hangs; nil for one that iptables does not have by itself.
func Builtin(table, chain string) *Base {
	hook := map[string]Hook{"PREROUTING": Prerouting, "INPUT": Input, "FORWARD": Forward, "OUTPUT": Output, "POSTROUTING": Postrouting}[chain]
	if hook == 0 {
		return nil
	}
	switch table {
	case "raw":
		return &Base{Type: Filter, Hook: hook, Priority: PriorityRaw}
	case "mangle":
		return &Base{Type: Filter, Hook: hook, Priority: PriorityMangle}
	case "nat":
		if hook == Postrouting || hook == Input {
			return &Base{Type: NAT, Hook: hook, Priority: PrioritySNAT}
		}
		return &Base{Type: NAT, Hook: hook, Priority: PriorityDNAT}
	default:
		return &Base{Type: Filter, Hook: hook, Priority: PriorityFilter}
	}
}
