package walk

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

// The lab of the tests: a client beside the node, and pods behind its bridge.
var lab = Host{
	Addresses: addrs("192.0.2.1", "192.0.2.11", "10.244.0.1", "2001:db8::1", "fd00:10:244::1"),
	Routes: []Route{
		{netip.MustParsePrefix("192.0.2.0/24"), "eth0", netip.MustParseAddr("192.0.2.1")},
		{netip.MustParsePrefix("10.244.0.0/24"), "cni0", netip.MustParseAddr("10.244.0.1")},
		{netip.MustParsePrefix("2001:db8::/64"), "eth0", netip.MustParseAddr("2001:db8::1")},
		{netip.MustParsePrefix("fd00:10:244::/64"), "cni0", netip.MustParseAddr("fd00:10:244::1")},
	},
	RouteLocalnet: []string{"all"},
}

func addrs(list ...string) []netip.Addr {
	out := make([]netip.Addr, len(list))
	for i, a := range list {
		out[i] = netip.MustParseAddr(a)
	}
	return out
}

func prefixes(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, p := range list {
		if !strings.Contains(p, "/") {
			a := netip.MustParseAddr(p)
			out[i] = netip.PrefixFrom(a, a.BitLen())
			continue
		}
		out[i] = netip.MustParsePrefix(p)
	}
	return out
}

func at(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// packet reads "eth0 192.0.2.2:40000 > 192.0.2.1:30007", TCP; a packet of the node begins with its address.
func packet(s string) Packet {
	p := Packet{Protocol: ports.TCP}
	in, rest, ok := strings.Cut(s, " ")
	if !strings.HasPrefix(rest, ">") && ok {
		p.In, s = in, rest
	}
	from, to, _ := strings.Cut(s, " > ")
	p.Src, p.Dst = at(from), at(to)
	return p
}

func rule(do ...rules.Stmt) *rules.Rule { return &rules.Rule{Do: do} }

func ownedBy(name string, r *rules.Rule) *rules.Rule {
	r.Origin = rules.Origin{Component: "test", Owner: ports.Ref{Kind: "Service", Namespace: "default", Name: name}}
	return r
}

func dst(p ...string) rules.Stmt   { return rules.Addr{Side: rules.Destination, In: prefixes(p...)} }
func src(p ...string) rules.Stmt   { return rules.Addr{Side: rules.Source, In: prefixes(p...)} }
func port(n ...uint16) rules.Stmt  { return rules.Port{Is: n} }
func jump(c string) rules.Stmt     { return rules.Jump{Chain: c} }
func mark(v, m uint32) rules.Stmt  { return rules.SetMark{Value: v, Mask: m} }
func dnat(to ...string) rules.Stmt { return rules.DNAT{To: ends(to...)} }

func ends(list ...string) []netip.AddrPort {
	out := make([]netip.AddrPort, len(list))
	for i, s := range list {
		out[i] = at(s)
	}
	return out
}

// chainOf is "nat PREROUTING" of iptables, "legacy nat PREROUTING", or "nft cni_hostport hostports"; base chains of nft
// have their base in brackets: "nft t prerouting[nat prerouting -100]".
type chainOf struct {
	name  string
	rules []*rules.Rule
}

func in(name string, list ...*rules.Rule) chainOf { return chainOf{name, list} }

// fragment makes what one component installs, chain by chain. IPv6 is by the prefix "6 ".
func fragment(chains ...chainOf) rules.Fragment {
	var f rules.Fragment
	for _, c := range chains {
		name, family := c.name, rules.IPv4
		if after, ok := strings.CutPrefix(name, "6 "); ok {
			name, family = after, rules.IPv6
		}
		words := strings.SplitN(name, " ", 3)
		switch words[0] {
		case "nft":
			chain := &rules.Chain{Name: words[2], Rules: c.rules}
			if own, base, ok := strings.Cut(words[2], "["); ok {
				chain.Name, chain.Base = own, parseBase(strings.TrimSuffix(base, "]"))
			}
			f.Tables = append(f.Tables, &rules.Table{Tool: rules.NFTables, Family: family, Name: words[1], Chains: []*rules.Chain{chain}})
		case "legacy":
			f.Jumps = append(f.Jumps, appended(rules.XTablesLegacy, family, words[1], words[2], c.rules)...)
		default:
			f.Jumps = append(f.Jumps, appended(rules.XTables, family, words[0], words[1], c.rules)...)
		}
	}
	return f
}

func appended(tool rules.Tool, f rules.Family, table, chain string, list []*rules.Rule) []rules.Into {
	var jumps []rules.Into
	for _, r := range list {
		jumps = append(jumps, rules.Into{Tool: tool, Family: f, Table: table, Chain: chain, Rule: r})
	}
	return jumps
}

func parseBase(s string) *rules.Base {
	var kind, hook string
	b := &rules.Base{Type: rules.Filter}
	if _, err := fmt.Sscan(s, &kind, &hook, &b.Priority); err != nil {
		panic(err)
	}
	if kind == "nat" {
		b.Type = rules.NAT
	}
	for h := rules.Prerouting; h <= rules.Postrouting; h++ {
		if h.String() == hook {
			b.Hook = h
		}
	}
	return b
}

// line is a path in one line: "0.5 dnat 10.244.0.10:80 masquerade from 10.244.0.1 to default/a: nat PREROUTING 0, ...".
func line(p Path) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%.4g %s", p.Probability, end(p))
	for i, s := range p.Steps {
		b.WriteString(map[bool]string{true: ": ", false: ", "}[i == 0])
		b.WriteString(stepLine(s))
	}
	return b.String()
}

func end(p Path) string {
	s := fmt.Sprintf("%s %s", p.Verdict, p.Destination)
	if p.Masquerade {
		s += " from " + p.Source.Addr().String()
	}
	if p.Mark != 0 {
		s += fmt.Sprintf(" mark %#x", p.Mark)
	}
	if p.Local {
		s += " local"
	}
	if p.Martian {
		s += " martian"
	}
	if p.Origin.Owner.Name != "" {
		s += " by " + p.Origin.Owner.Name
	}
	return s
}

func stepLine(s Step) string {
	if s.Virtual != nil {
		return fmt.Sprintf("%s ipvs %s", s.Hook, s.Virtual.Addr)
	}
	return fmt.Sprintf("%s %s %d", s.Table.Name, s.Chain.Name, s.Index)
}

func lines(paths []Path) string {
	var out []string
	for _, p := range paths {
		out = append(out, line(p))
	}
	return strings.Join(out, "\n")
}
