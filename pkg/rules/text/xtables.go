package text

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

// Save returns what iptables-save, for IPv6 ip6tables-save, prints of one tool's tables: the kernel's own listing form,
// with counters at zero and without the lines that tell the time. Tables come in the order of iptables-nft, the chains that every
// table has come first, in the order of their hooks, the others sorted (measured with iptables 1.8.9; the lines of
// rules are the same with both of its variants).
func Save(r *rules.Ruleset, tool rules.Tool, f rules.Family) string {
	var b strings.Builder
	for _, t := range tablesOf(r, tool, f) {
		b.WriteString("*" + t.Name + "\n")
		chains := savedChains(t)
		for _, c := range chains {
			writeChain(&b, c)
		}
		for _, c := range chains {
			for _, rule := range c.Rules {
				writeRule(&b, f, c.Name, rule)
			}
		}
		b.WriteString("COMMIT\n")
	}
	return b.String()
}

// Restore returns an input of iptables-restore, for IPv6 of ip6tables-restore, that loads into an empty network
// namespace as it is, base-chain jumps included. It leaves out the match nfacct, whose counters are objects of their
// own; the ipsets that rules look up must be there before (IPSet prints them). A base chain is named only where it
// has rules or a policy: naming one registers it, and when it was registered decides who gets a packet first.
func Restore(r *rules.Ruleset, tool rules.Tool, f rules.Family) string {
	var b strings.Builder
	for _, t := range tablesOf(r, tool, f) {
		b.WriteString("*" + t.Name + "\n")
		chains := savedChains(t)
		for _, c := range chains {
			if c.Base == nil || len(c.Rules) > 0 || c.Base.Drops {
				writeChain(&b, c)
			}
		}
		for _, c := range chains {
			for _, rule := range c.Rules {
				writeRule(&b, f, c.Name, withoutAccounting(rule))
			}
		}
		b.WriteString("COMMIT\n")
	}
	return b.String()
}

// SaveRule returns the line that stands for a rule in the kernel's listing, without the line's end.
func SaveRule(f rules.Family, chain string, rule *rules.Rule) string {
	var b strings.Builder
	writeRule(&b, f, chain, rule)
	return strings.TrimSuffix(b.String(), "\n")
}

func withoutAccounting(rule *rules.Rule) *rules.Rule {
	isAccounting := func(s rules.Stmt) bool { _, ok := s.(rules.Accounting); return ok }
	if !slices.ContainsFunc(rule.Do, isAccounting) {
		return rule
	}
	return &rules.Rule{Do: slices.DeleteFunc(slices.Clone(rule.Do), isAccounting), Origin: rule.Origin}
}

// saveOrder is the order in which iptables-nft prints its tables.
func saveOrder() []string { return []string{"mangle", "security", "raw", "filter", "nat"} }

func tablesOf(r *rules.Ruleset, tool rules.Tool, f rules.Family) []*rules.Table {
	var out []*rules.Table
	for _, t := range r.Tables {
		if t.Tool == tool && t.Family == f {
			out = append(out, t)
		}
	}
	order := saveOrder()
	slices.SortStableFunc(out, func(a, b *rules.Table) int {
		return cmp.Compare(slices.Index(order, a.Name), slices.Index(order, b.Name))
	})
	return out
}

// builtinChains returns the chains that a table of iptables has by itself, in the order of their hooks.
func builtinChains(table string) []string {
	switch table {
	case "mangle":
		return []string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}
	case "raw":
		return []string{"PREROUTING", "OUTPUT"}
	case "nat":
		return []string{"PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"}
	default:
		return []string{"INPUT", "FORWARD", "OUTPUT"}
	}
}

// savedChains returns the chains of a table as they are listed: those that it has by itself, whether or not anybody
// wrote to them, and the others by name.
func savedChains(t *rules.Table) []*rules.Chain {
	builtin := builtinChains(t.Name)
	var out, own []*rules.Chain
	for _, name := range builtin {
		c := t.Chain(name)
		if c == nil {
			c = &rules.Chain{Name: name, Base: &rules.Base{}}
		}
		out = append(out, c)
	}
	for _, c := range t.Chains {
		if !slices.Contains(builtin, c.Name) {
			own = append(own, c)
		}
	}
	slices.SortFunc(own, func(a, b *rules.Chain) int { return cmp.Compare(a.Name, b.Name) })
	return append(out, own...)
}

func writeChain(b *strings.Builder, c *rules.Chain) {
	policy := "-"
	if c.Base != nil {
		policy = "ACCEPT"
		if c.Base.Drops {
			policy = "DROP"
		}
	}
	b.WriteString(":" + c.Name + " " + policy + " [0:0]\n")
}

func writeRule(b *strings.Builder, f rules.Family, chain string, rule *rules.Rule) {
	b.WriteString("-A " + chain)
	p := ruleProtocol(rule)
	for place := atSource; place <= atTarget; place++ {
		for _, s := range rule.Do {
			if placeOf(s) == place {
				writeOption(b, f, p, s)
			}
		}
	}
	b.WriteByte('\n')
}

// Where a statement stands in a line of a listing: addresses, interface and protocol are fields of the rule and come
// first, the matches follow in the order in which they were given, the target is the last.
const (
	atSource = iota
	atDestination
	atInterface
	atProtocol
	atMatch
	atTarget
)

func placeOf(s rules.Stmt) int {
	switch s := s.(type) {
	case rules.Addr:
		if s.Side == rules.Source {
			return atSource
		}
		return atDestination
	case rules.InInterface:
		return atInterface
	case rules.Proto:
		return atProtocol
	case rules.SetMark, rules.Jump, rules.Goto, rules.Return, rules.Accept, rules.Drop, rules.Reject, rules.DNAT,
		rules.Redirect, rules.Masquerade:
		return atTarget
	default:
		return atMatch
	}
}

// ruleProtocol returns the protocol that a rule asks for, by whose name a port is matched.
func ruleProtocol(rule *rules.Rule) ports.Protocol {
	for _, s := range rule.Do {
		if p, ok := s.(rules.Proto); ok {
			return p.Is
		}
	}
	return 0
}

func writeOption(b *strings.Builder, f rules.Family, p ports.Protocol, s rules.Stmt) {
	if placeOf(s) == atTarget {
		writeTarget(b, f, s)
		return
	}
	switch s := s.(type) {
	case rules.Addr:
		writeAddr(b, s)
	case rules.InInterface:
		b.WriteString(not(s.Not) + " -i " + s.Name)
		if s.Prefix {
			b.WriteByte('+')
		}
	case rules.Proto:
		b.WriteString(" -p " + protocol(s.Is))
	case rules.Port:
		writePort(b, p, s)
	case rules.AddrLocal:
		b.WriteString(" -m addrtype" + not(s.Not) + " --" + direction(s.Side) + "-type LOCAL")
	case rules.CTState:
		writeCTState(b, s)
	case rules.Mark:
		b.WriteString(" -m mark" + not(s.Not) + " --mark " + hex(s.Value))
		if s.Mask != math.MaxUint32 {
			b.WriteString("/" + hex(s.Mask))
		}
	case rules.InSet:
		b.WriteString(" -m set" + not(s.Not) + " --match-set " + s.Set + " " + strings.Join(setDirections(s.Fields), ","))
	case rules.Statistic:
		// The kernel holds 31 bits of it.
		kept := math.Round(s.Probability*(1<<31)) / (1 << 31)
		b.WriteString(" -m statistic --mode random --probability " + strconv.FormatFloat(kept, 'f', 11, 64))
	case rules.Recent:
		writeRecent(b, f, s)
	case rules.PhysdevIn:
		b.WriteString(" -m physdev" + not(s.Not) + " --physdev-is-in")
	case rules.Accounting:
		b.WriteString(" -m nfacct --nfacct-name  " + s.Name) // two spaces, as it prints itself
	case rules.ViaIPVS:
		b.WriteString(" -m ipvs --vproto " + protocolNumber(s.Protocol) + " --vaddr " + s.Addr.Addr().String() + " --vport " + strconv.Itoa(int(s.Addr.Port())))
	case rules.Comment:
		b.WriteString(" -m comment --comment " + quoted(s.Text))
	default:
		notOfXTables(s)
	}
}

// notOfXTables is where a statement ends that iptables does not have: a mistake of whoever made the rule.
func notOfXTables(s rules.Stmt) { panic(fmt.Sprintf("text: iptables has no %#v", s)) }

func writeTarget(b *strings.Builder, f rules.Family, s rules.Stmt) {
	switch s := s.(type) {
	case rules.SetMark:
		b.WriteString(" -j MARK --set-xmark " + hex(s.Value) + "/" + hex(s.Mask))
	case rules.Jump:
		b.WriteString(" -j " + s.Chain)
	case rules.Goto:
		b.WriteString(" -g " + s.Chain)
	case rules.Return:
		b.WriteString(" -j RETURN")
	case rules.Accept:
		b.WriteString(" -j ACCEPT")
	case rules.Drop:
		b.WriteString(" -j DROP")
	case rules.Reject:
		b.WriteString(" -j REJECT --reject-with " + rejectWith(f))
	case rules.DNAT:
		if len(s.To) != 1 {
			notOfXTables(s)
		}
		b.WriteString(" -j DNAT --to-destination " + s.To[0].String())
	case rules.Redirect:
		b.WriteString(" -j REDIRECT --to-ports " + strconv.Itoa(int(s.Port)))
	case rules.Masquerade:
		b.WriteString(" -j MASQUERADE")
		if s.Random {
			b.WriteString(" --random-fully")
		}
	}
}

func rejectWith(f rules.Family) string {
	if f == rules.IPv4 {
		return "icmp-port-unreachable"
	}
	return "icmp6-port-unreachable"
}

func writeAddr(b *strings.Builder, s rules.Addr) {
	if len(s.In) != 1 {
		notOfXTables(s)
	}
	in := s.In[0].Masked()
	if in.Bits() == 0 && !s.Not {
		return // every address: the kernel does not keep it
	}
	b.WriteString(not(s.Not) + " -" + direction(s.Side)[:1] + " " + in.String())
}

func writePort(b *strings.Builder, p ports.Protocol, s rules.Port) {
	var list []string
	for _, port := range s.Is {
		list = append(list, strconv.Itoa(int(port)))
	}
	switch {
	case s.Multi:
		b.WriteString(" -m multiport --dports " + strings.Join(list, ","))
	case len(list) == 0:
		b.WriteString(" -m " + protocol(p))
	case len(list) == 1:
		b.WriteString(" -m " + protocol(p) + " --dport " + list[0])
	default:
		notOfXTables(s)
	}
}

// ctStates are the states of a connection in the order in which they are printed.
func ctStates() []string {
	return []string{"INVALID", "NEW", "RELATED", "ESTABLISHED", "UNTRACKED", "SNAT", "DNAT"}
}

func writeCTState(b *strings.Builder, s rules.CTState) {
	var in []string
	for _, state := range ctStates() {
		if slices.Contains(s.In, state) {
			in = append(in, state)
		}
	}
	match := " -m conntrack" + not(s.Not) + " --ctstate "
	if s.Old {
		match = " -m state" + not(s.Not) + " --state "
	}
	b.WriteString(match + strings.Join(in, ","))
}

func writeRecent(b *strings.Builder, f rules.Family, s rules.Recent) {
	b.WriteString(" -m recent")
	if s.Set {
		b.WriteString(" --set")
	} else {
		b.WriteString(" --rcheck --seconds " + strconv.Itoa(s.Seconds) + " --reap")
	}
	b.WriteString(" --name " + s.Name + " --mask " + wholeMask(f) + " --rsource")
}

func wholeMask(f rules.Family) string {
	if f == rules.IPv4 {
		return "255.255.255.255"
	}
	return "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
}

// setDirections returns what --match-set asks of a packet, one word for each dimension of the set; the protocol belongs
// to the dimension of the port.
func setDirections(fields []rules.Field) []string {
	var out []string
	for _, f := range fields {
		switch f {
		case rules.SrcAddr:
			out = append(out, "src")
		case rules.DstAddr, rules.DstPort:
			out = append(out, "dst")
		case rules.L4Proto:
		}
	}
	return out
}

func not(b bool) string {
	if b {
		return " !"
	}
	return ""
}

func direction(s rules.Side) string {
	if s == rules.Source {
		return "src"
	}
	return "dst"
}

func protocol(p ports.Protocol) string { return strings.ToLower(p.String()) }

// protocolNumber is how the match ipvs prints a protocol (libxt_ipvs of iptables 1.8.9).
func protocolNumber(p ports.Protocol) string {
	switch p {
	case ports.TCP:
		return "6"
	case ports.UDP:
		return "17"
	case ports.SCTP:
	}
	return "132"
}

func hex(v uint32) string { return "0x" + strconv.FormatUint(uint64(v), 16) }

// quoted returns a word as iptables prints it: bare if it is made of letters, digits, "-" and "_", else in double
// quotes, with backslashes before quotes of both kinds and backslashes.
func quoted(s string) string {
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !isBare(r) }) < 0 {
		return s
	}
	if strings.ContainsAny(s, "\\\"'") { // hardly ever
		s = strings.NewReplacer(`\`, `\\`, `"`, `\"`, `'`, `\'`).Replace(s)
	}
	return `"` + s + `"`
}

func isBare(r rune) bool {
	return r == '-' || r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
}
