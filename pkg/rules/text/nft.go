package text

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

// NFT returns a script for nft -f that loads into an empty network namespace as it is: every table that nft wrote, of
// both families. What is referred to comes before what refers to it, and the base chains of all tables come in the
// order in which they were registered, as it decides which of two with one priority runs first.
func NFT(r *rules.Ruleset) string {
	var b strings.Builder
	tables := nftTables(r)
	for _, t := range tables {
		b.WriteString("add table " + nftIn(t))
		if t.Comment != "" {
			b.WriteString(" { comment " + nftQuoted(t.Comment) + " ; }")
		}
		b.WriteByte('\n')
	}
	writeNFTBaseChains(&b, tables)
	for _, t := range tables {
		writeNFTObjects(&b, t)
	}
	for _, t := range tables {
		writeNFTContents(&b, t)
	}
	return b.String()
}

// NFTRule returns a rule as it stands in a script or a listing, without its table and chain.
func NFTRule(f rules.Family, rule *rules.Rule) string {
	var b strings.Builder
	writeNFTRule(&b, f, rule)
	return b.String()
}

// NFTElem returns an element of a set or map as it stands in a script.
func NFTElem(s *rules.Set, e *rules.Elem) string {
	var b strings.Builder
	writeNFTElem(&b, s, e)
	return b.String()
}

func nftTables(r *rules.Ruleset) []*rules.Table {
	var out []*rules.Table
	for _, t := range r.Tables {
		if t.Tool == rules.NFTables {
			out = append(out, t)
		}
	}
	return out
}

// nftFamily is also the name of the header that addresses are matched in.
func nftFamily(f rules.Family) string {
	if f == rules.IPv4 {
		return "ip"
	}
	return "ip6"
}

func nftIn(t *rules.Table) string { return nftFamily(t.Family) + " " + t.Name }

func writeNFTBaseChains(b *strings.Builder, tables []*rules.Table) {
	type base struct {
		table *rules.Table
		chain *rules.Chain
	}
	var all []base
	for _, t := range tables {
		for _, c := range t.Chains {
			if c.Base != nil {
				all = append(all, base{t, c})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b base) int { return cmp.Compare(a.chain.Base.Seq, b.chain.Base.Seq) })
	for _, c := range all {
		writeNFTChain(b, c.table, c.chain)
	}
}

func writeNFTChain(b *strings.Builder, t *rules.Table, c *rules.Chain) {
	b.WriteString("add chain " + nftIn(t) + " " + c.Name)
	if c.Base != nil || c.Comment != "" {
		b.WriteString(" {")
		if c.Base != nil {
			// nft knows names for the priorities, but older versions not in every hook.
			b.WriteString(" type " + nftChainType(c.Base.Type) + " hook " + c.Base.Hook.String() + " priority " + strconv.Itoa(c.Base.Priority) + " ;")
			if c.Base.Drops {
				b.WriteString(" policy drop ;")
			}
		}
		if c.Comment != "" {
			b.WriteString(" comment " + nftQuoted(c.Comment) + " ;")
		}
		b.WriteString(" }")
	}
	b.WriteByte('\n')
}

func nftChainType(t rules.ChainType) string {
	if t == rules.NAT {
		return "nat"
	}
	return "filter"
}

func writeNFTObjects(b *strings.Builder, t *rules.Table) {
	for _, c := range t.Chains {
		if c.Base == nil {
			writeNFTChain(b, t, c)
		}
	}
	for _, s := range t.Sets {
		writeNFTSet(b, t, s)
	}
}

func writeNFTSet(b *strings.Builder, t *rules.Table, s *rules.Set) {
	kind, verdict := "set", ""
	if s.IsMap {
		kind, verdict = "map", " : verdict"
	}
	b.WriteString("add " + kind + " " + nftIn(t) + " " + s.Name + " { type " + nftType(s.Family, s.Fields) + verdict + " ;")
	var flags []string
	if s.Dynamic {
		flags = append(flags, "dynamic")
	}
	if s.Timeout != 0 {
		flags = append(flags, "timeout")
	}
	if len(flags) > 0 {
		b.WriteString(" flags " + strings.Join(flags, ",") + " ;")
	}
	if s.Timeout != 0 {
		b.WriteString(" timeout " + strconv.FormatInt(int64(s.Timeout.Seconds()), 10) + "s ;")
	}
	if s.Comment != "" {
		b.WriteString(" comment " + nftQuoted(s.Comment) + " ;")
	}
	b.WriteString(" }\n")
}

func nftType(f rules.Family, fields []rules.Field) string {
	var parts []string
	for _, field := range fields {
		switch field {
		case rules.SrcAddr, rules.DstAddr:
			if f == rules.IPv4 {
				parts = append(parts, "ipv4_addr")
			} else {
				parts = append(parts, "ipv6_addr")
			}
		case rules.L4Proto:
			parts = append(parts, "inet_proto")
		case rules.DstPort:
			parts = append(parts, "inet_service")
		}
	}
	return strings.Join(parts, " . ")
}

func writeNFTContents(b *strings.Builder, t *rules.Table) {
	for _, c := range t.Chains {
		head := "add rule " + nftIn(t) + " " + c.Name + " "
		for _, rule := range c.Rules {
			b.WriteString(head)
			writeNFTRule(b, t.Family, rule)
			b.WriteByte('\n')
		}
	}
	for _, s := range t.Sets {
		head := "add element " + nftIn(t) + " " + s.Name + " { "
		for i := range s.Elems {
			b.WriteString(head)
			writeNFTElem(b, s, &s.Elems[i])
			b.WriteString(" }\n")
		}
	}
}

func writeNFTElem(b *strings.Builder, s *rules.Set, e *rules.Elem) {
	first := true
	for i, field := range s.Fields {
		if i > 0 {
			b.WriteString(" . ")
		}
		switch field {
		case rules.SrcAddr, rules.DstAddr:
			if first {
				b.WriteString(e.Key.Addr.String())
			} else {
				b.WriteString(nftPrefix(e.Key.With))
			}
			first = false
		case rules.L4Proto:
			b.WriteString(protocol(e.Key.Protocol))
		case rules.DstPort:
			b.WriteString(strconv.Itoa(int(e.Key.Port)))
		}
	}
	if e.Comment != "" {
		b.WriteString(" comment " + nftQuoted(e.Comment))
	}
	if e.Verdict != nil {
		b.WriteString(" : ")
		writeNFTStmt(b, s.Family, e.Verdict)
	}
}

func writeNFTRule(b *strings.Builder, f rules.Family, rule *rules.Rule) {
	comment := ""
	start := b.Len()
	for i := 0; i < len(rule.Do); i++ {
		if c, ok := rule.Do[i].(rules.Comment); ok {
			comment = c.Text
			continue
		}
		if b.Len() > start {
			b.WriteByte(' ')
		}
		if p, ok := rule.Do[i].(rules.Proto); ok && i+1 < len(rule.Do) {
			if port, ok := rule.Do[i+1].(rules.Port); ok { // one match in nft
				writeNFTPort(b, protocol(p.Is), port)
				i++
				continue
			}
		}
		writeNFTStmt(b, f, rule.Do[i])
	}
	if comment != "" {
		b.WriteString(" comment " + nftQuoted(comment))
	}
}

func writeNFTStmt(b *strings.Builder, f rules.Family, s rules.Stmt) {
	switch s := s.(type) {
	case rules.Addr:
		b.WriteString(nftFamily(f) + " " + nftAddress(s.Side) + nftNot(s.Not) + " " + nftAnyOf(nftAll(s.In, nftPrefix)))
	case rules.AddrLocal:
		b.WriteString("fib " + nftAddress(s.Side) + " type" + nftNot(s.Not) + " local")
	case rules.InInterface:
		b.WriteString("iifname" + nftNot(s.Not) + " " + nftInterface(s))
	case rules.Proto:
		b.WriteString("meta l4proto " + protocol(s.Is))
	case rules.Port:
		writeNFTPort(b, "th", s)
	case rules.CTState:
		b.WriteString("ct state" + nftNot(s.Not) + " " + nftAnyOf(nftAll(s.In, nftState)))
	case rules.CTStatusDNAT:
		b.WriteString("ct status dnat")
	case rules.Mark:
		b.WriteString("mark and " + nftMark(s.Mask) + nftEqual(s.Not) + nftMark(s.Value))
	case rules.InSet:
		b.WriteString(nftFields(f, s.Fields) + nftNot(s.Not) + " @" + s.Set)
	case rules.SetMark:
		writeNFTSetMark(b, s)
	case rules.Update:
		b.WriteString("update @" + s.Set + " { " + nftFamily(f) + " saddr }")
	default:
		writeNFTVerdict(b, f, s)
	}
}

func writeNFTVerdict(b *strings.Builder, f rules.Family, s rules.Stmt) {
	switch s := s.(type) {
	case rules.Jump:
		b.WriteString("jump " + s.Chain)
	case rules.Goto:
		b.WriteString("goto " + s.Chain)
	case rules.Return:
		b.WriteString("return")
	case rules.Accept:
		b.WriteString("accept")
	case rules.Drop:
		b.WriteString("drop")
	case rules.Reject:
		b.WriteString("reject")
	case rules.DNAT:
		writeNFTDNAT(b, f, s)
	case rules.Redirect:
		b.WriteString("redirect to :" + strconv.Itoa(int(s.Port)))
	case rules.Masquerade:
		b.WriteString("masquerade")
		if s.Random {
			b.WriteString(" fully-random")
		}
	case rules.VMap:
		b.WriteString(nftFields(f, s.Fields) + " vmap @" + s.Map)
	case rules.GotoRandom:
		b.WriteString("numgen random mod " + strconv.Itoa(len(s.Chains)) + " vmap ")
		writeNFTNumbered(b, s.Chains, func(b *strings.Builder, chain string) { b.WriteString("goto " + chain) })
	default:
		notOfNFT(s)
	}
}

// notOfNFT is where a statement ends that nft does not have: a mistake of whoever made the rule.
func notOfNFT(s rules.Stmt) { panic(fmt.Sprintf("text: nft has no %#v", s)) }

func writeNFTPort(b *strings.Builder, header string, s rules.Port) {
	b.WriteString(header + " dport " + nftAnyOf(nftAll(s.Is, func(p uint16) string { return strconv.Itoa(int(p)) })))
}

func writeNFTSetMark(b *strings.Builder, s rules.SetMark) {
	b.WriteString("mark set mark ")
	switch s.Mask {
	case s.Value:
		b.WriteString("or " + nftMark(s.Value))
	case 0:
		b.WriteString("xor " + nftMark(s.Value))
	default:
		b.WriteString("and " + nftMark(^s.Mask) + " xor " + nftMark(s.Value))
	}
}

func writeNFTDNAT(b *strings.Builder, f rules.Family, s rules.DNAT) {
	switch len(s.To) {
	case 0:
		notOfNFT(s)
	case 1:
		b.WriteString("dnat to " + s.To[0].String())
	default:
		b.WriteString("dnat " + nftFamily(f) + " addr . port to numgen random mod " + strconv.Itoa(len(s.To)) + " map ")
		writeNFTNumbered(b, s.To, writeNFTTarget)
	}
}

func writeNFTTarget(b *strings.Builder, to netip.AddrPort) {
	b.WriteString(to.Addr().String())
	b.WriteString(" . ")
	b.WriteString(strconv.Itoa(int(to.Port())))
}

// writeNFTNumbered writes a map from the numbers that numgen makes.
func writeNFTNumbered[T any](b *strings.Builder, values []T, write func(*strings.Builder, T)) {
	for i, v := range values {
		if i == 0 {
			b.WriteString("{ ")
		} else {
			b.WriteString(" , ")
		}
		b.WriteString(strconv.Itoa(i))
		b.WriteString(" : ")
		write(b, v)
	}
	b.WriteString(" }")
}

// nftAnyOf returns what a field is compared with: a value, or a set of them.
func nftAnyOf(values []string) string {
	if len(values) == 1 {
		return values[0]
	}
	return "{ " + strings.Join(values, " , ") + " }"
}

func nftAll[T any](from []T, say func(T) string) []string {
	out := make([]string, 0, len(from))
	for _, v := range from {
		out = append(out, say(v))
	}
	return out
}

func nftFields(f rules.Family, fields []rules.Field) string {
	return strings.Join(nftAll(fields, func(field rules.Field) string {
		switch field {
		case rules.SrcAddr:
			return nftFamily(f) + " saddr"
		case rules.DstAddr:
			return nftFamily(f) + " daddr"
		case rules.L4Proto:
			return "meta l4proto"
		case rules.DstPort:
		}
		return "th dport"
	}), " . ")
}

func nftAddress(s rules.Side) string {
	if s == rules.Source {
		return "saddr"
	}
	return "daddr"
}

func nftNot(not bool) string {
	if not {
		return " !="
	}
	return ""
}

func nftEqual(not bool) string {
	if not {
		return " != "
	}
	return " == "
}

func nftState(state string) string { return strings.ToLower(state) }

func nftPrefix(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// nftInterface quotes the name: a bare one could be one of nft's own words.
func nftInterface(s rules.InInterface) string {
	if s.Prefix {
		return nftQuoted(s.Name + "*")
	}
	return nftQuoted(s.Name)
}

func nftMark(v uint32) string {
	if v == 0 {
		return "0"
	}
	return fmt.Sprintf("%#08x", v)
}

// nftQuoted returns a string of nft, which has no way to write a quote into one.
func nftQuoted(s string) string { return `"` + strings.ReplaceAll(s, `"`, `'`) + `"` }
