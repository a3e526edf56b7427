package walk

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
)

// TestIndexedIsNaive walks random packets through random rulesets twice: as the package does, and as the obvious
// evaluator does.
func TestIndexedIsNaive(t *testing.T) {
	from, rounds := seed.Of(t), seed.Rounds(500, 25_000)
	var paths, steps, indexed int
	verdicts, drawn := map[Verdict]int{}, map[string]bool{}
	for i := range rounds {
		d := draw{rand.New(rand.NewPCG(from, uint64(i))), new(5)}
		rs, host := d.ruleset(), d.host()
		w := New(rs, host)
		for _, e := range w.v4.hooks[rules.Prerouting] {
			if e.base != nil && e.base.index != nil {
				indexed++
			}
		}
		for _, table := range rs.Tables {
			for _, c := range table.Chains {
				for _, r := range c.Rules {
					for _, s := range r.Do {
						drawn[reflect.TypeOf(s).Name()] = true
					}
				}
			}
		}
		for range 20 {
			p := d.packet()
			got, want := w.Walk(p), naiveWalk(rs, host, p)
			if diff := cmp.Diff(plain(want), plain(got)); diff != "" {
				t.Fatalf("seed %d round %d: %+v: -naive +indexed\n%s", from, i, p, diff)
			}
			sum := 0.0
			for _, path := range got {
				paths, steps, sum = paths+1, steps+len(path.Steps), sum+path.Probability
				verdicts[path.Verdict]++
			}
			if sum < 0.999999 || sum > 1.000001 {
				t.Fatalf("seed %d round %d: %+v: probabilities add up to %v", from, i, p, sum)
			}
		}
	}
	t.Logf("%d rulesets, %d paths, %d steps, %d base chains with an index, %v", rounds, paths, steps, indexed, verdicts)
	for _, v := range []Verdict{Accept, DNAT, Drop, Reject} {
		if verdicts[v] < 20 {
			t.Errorf("only %d paths end in %s", verdicts[v], v)
		}
	}
	if diff := cmp.Diff(statements(t), drawn); diff != "" {
		t.Errorf("the statements of pkg/rules and those that are drawn (-declared +drawn):\n%s", diff)
	}
	if indexed < 20 {
		t.Errorf("only %d chains have an index", indexed)
	}
}

// statements are the names of the types that are rules.Stmt.
func statements(t *testing.T) map[string]bool {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../stmt.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, declared := range file.Decls {
		if f, ok := declared.(*ast.FuncDecl); ok && f.Name.Name == "stmt" {
			names[f.Recv.List[0].Type.(*ast.Ident).Name] = true
		}
	}
	return names
}

// plain makes paths comparable as text; the naive walker knows no origins.
func plain(paths []Path) []string {
	var out []string
	for _, p := range paths {
		p.Origin = rules.Origin{}
		s := fmt.Sprintf("%.9f %s source %s %v:", p.Probability, end(p), p.Source, p.Masquerade)
		for _, st := range p.Steps {
			s += fmt.Sprintf("\n  %s %s %T%v", st.Hook, stepLine(st), st.Effect, st.Effect)
			if st.Elem != nil {
				s += fmt.Sprint(st.Elem.Key)
			}
		}
		out = append(out, s)
	}
	return out
}

// draw draws rulesets and packets from few values, so that they meet.
type draw struct {
	*rand.Rand
	chances *int // left for rules that choose: every one may double the paths
}

func (d draw) chance() bool {
	*d.chances--
	return *d.chances >= 0
}

func one[T any](d draw, list ...T) T { return list[d.IntN(len(list))] }

func (d draw) addr() netip.Addr {
	return netip.MustParseAddr(one(d, "127.0.0.1", "192.0.2.1", "192.0.2.11", "192.0.2.2", "10.244.0.1", "10.244.0.10", "10.244.0.20", "10.96.0.1", "10.96.0.2"))
}

func (d draw) port() uint16 { return one[uint16](d, 80, 443, 30007, 30008) }

func (d draw) end() netip.AddrPort { return netip.AddrPortFrom(d.addr(), d.port()) }

func (d draw) protocol() ports.Protocol { return one(d, ports.TCP, ports.TCP, ports.UDP) }

func (d draw) prefix() netip.Prefix {
	a := d.addr()
	p, _ := a.Prefix(one(d, 32, 32, 32, 24, 8, 0))
	return p
}

func (d draw) mark() uint32 { return one[uint32](d, 0x4000, 0x2000, 1) }

func (d draw) packet() Packet {
	p := Packet{In: one(d, "", "", "eth0", "cni0", "lo"), Src: netip.AddrPortFrom(d.addr(), 40000), Dst: d.end(), Protocol: d.protocol()}
	p.Bridged = p.In == "cni0"
	if d.IntN(4) == 0 {
		p.Mark, p.Seen = d.mark(), []string{"seen"}
	}
	return p
}

func (d draw) host() Host {
	h := lab
	h.RouteLocalnet = one(d, nil, []string{"all"}, []string{"cni0"})
	return h
}

func (d draw) ruleset() *rules.Ruleset {
	rs := &rules.Ruleset{IPSets: []*rules.Set{
		d.set("ports", "bitmap:port", rules.DstPort), d.set("services", "hash:ip,port", rules.DstAddr, rules.DstPort),
		d.set("sources", "hash:ip,port,net", rules.DstAddr, rules.DstPort, rules.SrcAddr),
	}}
	seqs := d.Perm(64)
	for _, t := range []*rules.Table{
		{Tool: rules.XTables, Name: "nat"}, {Tool: rules.XTablesLegacy, Name: "nat"}, {Tool: rules.XTables, Name: "filter"},
		{Tool: rules.XTables, Name: "mangle"}, {Tool: rules.NFTables, Name: "a"}, {Tool: rules.NFTables, Name: "b"},
	} {
		if d.IntN(3) == 0 {
			continue
		}
		t.Family = rules.IPv4
		for h := rules.Prerouting; h <= rules.Postrouting; h++ {
			for _, b := range d.bases(t, h) {
				b.Seq, seqs = seqs[0]+1, seqs[1:]
				t.Chains = append(t.Chains, &rules.Chain{Name: fmt.Sprintf("%s-%d", h, len(t.Chains)), Base: b})
			}
		}
		d.fill(t)
		rs.Tables = append(rs.Tables, t)
	}
	if d.IntN(3) == 0 {
		have := map[tuple]bool{}
		for range 3 {
			v := &rules.VirtualServer{Addr: d.end(), Protocol: d.protocol()}
			for range d.IntN(4) {
				v.Real = append(v.Real, d.end())
			}
			if k := (tuple{v.Addr.Addr(), v.Addr.Port(), v.Protocol}); !have[k] {
				rs.Virtual, have[k] = append(rs.Virtual, v), true
			}
		}
	}
	return rs
}

// bases draws which base chains a table has in a hook: iptables has one, nft may have several.
func (d draw) bases(t *rules.Table, h rules.Hook) []*rules.Base {
	nat := &rules.Base{Type: rules.NAT, Hook: h, Priority: -100}
	if h == rules.Input || h == rules.Postrouting {
		nat.Priority = 100
	}
	filter := func(p int) *rules.Base {
		return &rules.Base{Type: rules.Filter, Hook: h, Priority: p, Drops: d.IntN(15) == 0}
	}
	var all []*rules.Base
	switch t.Name {
	case "nat":
		if h != rules.Forward {
			all = append(all, nat)
		}
	case "filter":
		all = append(all, filter(0))
	case "mangle":
		all = append(all, filter(-150))
	default:
		if d.IntN(2) == 0 && h != rules.Forward {
			all = append(all, nat)
		}
		if d.IntN(3) == 0 {
			all = append(all, filter(one(d, -110, 0, 120)))
		}
	}
	return all
}

func (d draw) fill(t *rules.Table) {
	for i := range 6 {
		t.Chains = append(t.Chains, &rules.Chain{Name: fmt.Sprintf("user-%d", i)})
	}
	if t.Tool == rules.NFTables {
		t.Sets = []*rules.Set{
			d.set("services", "", rules.DstAddr, rules.L4Proto, rules.DstPort), d.set("ports", "", rules.L4Proto, rules.DstPort),
			d.set("sources", "", rules.SrcAddr, rules.DstAddr, rules.L4Proto, rules.DstPort),
		}
	}
	for i, c := range t.Chains {
		n := d.IntN(6)
		if d.IntN(3) == 0 {
			n = 10 + d.IntN(20)
		}
		for range n {
			c.Rules = append(c.Rules, d.rule(t, c, i))
		}
	}
}

func (d draw) set(name, kind string, fields ...rules.Field) *rules.Set {
	s := &rules.Set{Name: name, Type: kind, Fields: fields, IsMap: kind == ""}
	have := map[rules.Key]bool{}
	for range d.IntN(12) {
		var k rules.Key
		for _, f := range fields {
			switch f {
			case rules.L4Proto:
				k.Protocol = d.protocol()
			case rules.DstPort:
				k.Port = d.port()
			case rules.SrcAddr, rules.DstAddr:
				if !k.Addr.IsValid() {
					k.Addr = d.addr()
				} else {
					a := d.addr()
					k.With = netip.PrefixFrom(a, 32)
				}
			}
		}
		if len(kind) > 5 && kind[:5] == "hash:" {
			k.Protocol = d.protocol()
			if k.With.IsValid() {
				k.With = d.prefix()
			}
		}
		if have[k] {
			continue
		}
		have[k] = true
		e := rules.Elem{Key: k}
		if s.IsMap {
			e.Verdict = one[rules.Stmt](d, rules.Goto{Chain: "user-5"}, rules.Jump{Chain: "user-4"}, rules.Drop{}, rules.Goto{Chain: "user-4"})
		}
		s.Elems = append(s.Elems, e)
	}
	return s
}

func (d draw) rule(t *rules.Table, c *rules.Chain, at int) *rules.Rule {
	r := &rules.Rule{}
	if d.IntN(3) > 0 {
		r.Do = append(r.Do, rules.Comment{Text: "c"}, rules.Proto{Is: d.protocol()}, rules.Port{Is: d.somePorts()})
	}
	if d.IntN(3) > 0 {
		r.Do = append(r.Do, rules.Addr{Side: rules.Destination, In: []netip.Prefix{d.prefix()}, Not: d.IntN(8) == 0})
	}
	for range d.IntN(2) {
		r.Do = append(r.Do, d.match(t))
	}
	if d.IntN(10) == 0 {
		r.Do = append(r.Do, rules.SetMark{Value: d.mark(), Mask: one[uint32](d, 0, d.mark())}, d.match(t))
	}
	if v := d.verdict(t, c, at); v != nil {
		r.Do = append(r.Do, v)
	}
	return r
}

func (d draw) somePorts() []uint16 {
	switch d.IntN(8) {
	case 0, 1:
		return []uint16{d.port(), d.port(), 8080}
	case 2:
		return nil
	}
	return []uint16{d.port()}
}

func (d draw) match(t *rules.Table) rules.Stmt {
	switch d.IntN(14) {
	case 0:
		return rules.AddrLocal{Side: one(d, rules.Source, rules.Destination), Not: d.IntN(3) == 0}
	case 1:
		return rules.InInterface{Name: one(d, "eth0", "cni0", "e", ""), Prefix: d.IntN(2) == 0, Not: d.IntN(2) == 0}
	case 2:
		return rules.CTState{In: one(d, []string{"NEW"}, []string{"RELATED", "ESTABLISHED"}, []string{"DNAT"}), Not: d.IntN(2) == 0}
	case 3:
		return rules.CTStatusDNAT{}
	case 4:
		m := d.mark()
		return rules.Mark{Value: m, Mask: m, Not: d.IntN(2) == 0}
	case 5:
		if !d.chance() {
			return rules.Comment{}
		}
		return rules.Statistic{Probability: one(d, 0.5, 1/3.0)}
	case 6:
		return rules.Recent{Name: "seen", Set: d.IntN(2) == 0}
	case 7:
		return rules.PhysdevIn{Not: d.IntN(2) == 0}
	case 8, 9:
		fields := map[string][]rules.Field{
			"ports": {rules.DstPort}, "services": {rules.DstAddr, rules.DstPort}, "sources": {rules.DstAddr, rules.DstPort, rules.SrcAddr},
		}
		if t.Tool == rules.NFTables {
			fields = nftFields
		}
		name := one(d, "ports", "services", "sources", "none")
		return rules.InSet{Set: name, Fields: fields[name], Not: d.IntN(3) == 0}
	case 10:
		return rules.Accounting{Name: "n"}
	case 11:
		return rules.Update{Set: "seen"}
	case 12:
		return rules.ViaIPVS{Addr: d.end(), Protocol: d.protocol()}
	default:
		return rules.Addr{Side: rules.Source, In: []netip.Prefix{d.prefix(), d.prefix()}, Not: d.IntN(3) == 0}
	}
}

var nftFields = map[string][]rules.Field{
	"ports": {rules.L4Proto, rules.DstPort}, "services": {rules.DstAddr, rules.L4Proto, rules.DstPort},
	"sources": {rules.SrcAddr, rules.DstAddr, rules.L4Proto, rules.DstPort},
}

// verdict draws what a rule does: chains lead to later ones only.
func (d draw) verdict(t *rules.Table, c *rules.Chain, at int) rules.Stmt {
	later := func() string {
		first := max(at+1, len(t.Chains)-6)
		if first >= len(t.Chains) {
			return "none"
		}
		return t.Chains[first+d.IntN(len(t.Chains)-first)].Name
	}
	switch d.IntN(16) {
	case 0:
		return rules.Accept{}
	case 1:
		return rules.Return{}
	case 2:
		if t.Name != "nat" {
			return one[rules.Stmt](d, rules.Drop{}, rules.Reject{})
		}
		return rules.Return{}
	case 3:
		return rules.Goto{Chain: later()}
	case 4:
		if !d.chance() {
			return nil
		}
		return rules.GotoRandom{Chains: []string{later(), later(), later()}}
	case 5, 6:
		if t.Tool == rules.NFTables && at < len(t.Chains)-2 {
			name := one(d, "ports", "services", "none")
			return rules.VMap{Map: name, Fields: nftFields[name]}
		}
		return rules.SetMark{Value: d.mark()}
	case 7, 8, 9:
		if c.Base != nil && c.Base.Type == rules.NAT {
			if c.Base.Hook == rules.Postrouting {
				return rules.Masquerade{}
			}
			if c.Base.Hook != rules.Input && d.IntN(4) == 0 {
				return rules.Redirect{Port: d.port()}
			}
			if c.Base.Hook != rules.Input {
				return rules.DNAT{To: []netip.AddrPort{d.end(), d.end()}[:1+min(1, max(0, *d.chances))*d.IntN(2)]}
			}
		}
		return nil
	case 10:
		return rules.SetMark{Value: d.mark(), Mask: d.mark()}
	case 11:
		return nil
	default:
		return rules.Jump{Chain: later()}
	}
}
