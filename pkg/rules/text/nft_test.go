package text_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
	"github.com/portcullis-k8s/portcullis/pkg/rules/text"
)

func TestNFTRule(t *testing.T) {
	dst := []rules.Field{rules.DstAddr, rules.L4Proto, rules.DstPort}
	prefixes := func(list ...string) []netip.Prefix {
		var out []netip.Prefix
		for _, s := range list {
			out = append(out, netip.MustParsePrefix(s))
		}
		return out
	}
	to := func(list ...string) []netip.AddrPort {
		var out []netip.AddrPort
		for _, s := range list {
			out = append(out, netip.MustParseAddrPort(s))
		}
		return out
	}
	do := func(s ...rules.Stmt) []rules.Stmt { return s }
	for _, test := range []struct {
		family rules.Family
		do     []rules.Stmt
		want   string
	}{
		{4, do(rules.Addr{Side: rules.Source, In: prefixes("10.0.0.0/8")}, rules.Accept{}), `ip saddr 10.0.0.0/8 accept`},
		{4, do(rules.Addr{Side: rules.Destination, In: prefixes("192.0.2.1/32"), Not: true}, rules.Return{}), `ip daddr != 192.0.2.1 return`},
		{6, do(rules.Addr{Side: rules.Source, In: prefixes("fd00::/64", "::1/128"), Not: true}, rules.Drop{}), `ip6 saddr != { fd00::/64 , ::1 } drop`},
		{4, do(rules.AddrLocal{Side: rules.Source}, rules.SetMark{Value: 0x4000, Mask: 0x4000}), `fib saddr type local mark set mark or 0x00004000`},
		{4, do(rules.AddrLocal{Side: rules.Destination, Not: true}, rules.Reject{}), `fib daddr type != local reject`},
		{4, do(rules.InInterface{Name: "cni0"}, rules.Goto{Chain: "a"}), `iifname "cni0" goto a`},
		{4, do(rules.InInterface{Name: "veth", Prefix: true, Not: true}, rules.Jump{Chain: "a"}), `iifname != "veth*" jump a`},
		{4, do(rules.Proto{Is: ports.UDP}, rules.DNAT{To: to("10.0.0.1:53")}), `meta l4proto udp dnat to 10.0.0.1:53`},
		{6, do(rules.Proto{Is: ports.SCTP}, rules.Port{Is: []uint16{80}}, rules.DNAT{To: to("[fd00::1]:80")}), `sctp dport 80 dnat to [fd00::1]:80`},
		{4, do(rules.Proto{Is: ports.TCP}, rules.Port{Is: []uint16{80, 81}}, rules.Redirect{Port: 9}), `tcp dport { 80 , 81 } redirect to :9`},
		{4, do(rules.Port{Is: []uint16{80}}, rules.Drop{}), `th dport 80 drop`},
		{6, do(rules.Proto{Is: ports.TCP}, rules.DNAT{To: to("[fd00::1]:80", "[fd00::2]:81")}),
			`meta l4proto tcp dnat ip6 addr . port to numgen random mod 2 map { 0 : fd00::1 . 80 , 1 : fd00::2 . 81 }`},
		{4, do(rules.CTState{In: []string{"NEW"}}, rules.Jump{Chain: "a"}), `ct state new jump a`},
		{4, do(rules.CTState{In: []string{"RELATED", "ESTABLISHED"}, Not: true}, rules.Drop{}), `ct state != { related , established } drop`},
		{4, do(rules.Mark{Mask: 0x4000, Not: true}, rules.SetMark{Value: 0x4000}, rules.Masquerade{Random: true}),
			`mark and 0x00004000 != 0 mark set mark xor 0x00004000 masquerade fully-random`},
		{4, do(rules.Mark{Value: 1, Mask: 0x80000001}, rules.SetMark{Value: 2, Mask: 3}), `mark and 0x80000001 == 0x00000001 mark set mark and 0xfffffffc xor 0x00000002`},
		{4, do(rules.CTStatusDNAT{}, rules.InSet{Fields: []rules.Field{rules.SrcAddr, rules.DstAddr, rules.L4Proto, rules.DstPort}, Set: "h"}, rules.Masquerade{}),
			`ct status dnat ip saddr . ip daddr . meta l4proto . th dport @h masquerade`},
		{6, do(rules.InSet{Fields: []rules.Field{rules.DstAddr}, Set: "c", Not: true}, rules.Drop{}), `ip6 daddr != @c drop`},
		{6, do(rules.VMap{Fields: dst, Map: "service-ips"}), `ip6 daddr . meta l4proto . th dport vmap @service-ips`},
		{4, do(rules.GotoRandom{Chains: []string{"a", "b"}}), `numgen random mod 2 vmap { 0 : goto a , 1 : goto b }`},
		{6, do(rules.Update{Set: "affinity-x"}), `update @affinity-x { ip6 saddr }`},
		{4, do(rules.Comment{Text: `a "b"`}, rules.Drop{}), `drop comment "a 'b'"`},
	} {
		if got := text.NFTRule(test.family, &rules.Rule{Do: test.do}); got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
	}
}

// TestNFTRuleOfAnotherTool: what nft cannot say is never printed as something else.
func TestNFTRuleOfAnotherTool(t *testing.T) {
	for _, s := range []rules.Stmt{rules.Recent{}, rules.Statistic{}, rules.PhysdevIn{}, rules.Accounting{}, rules.ViaIPVS{}, rules.DNAT{}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%T was printed", s)
				}
			}()
			text.NFTRule(rules.IPv4, &rules.Rule{Do: []rules.Stmt{s}})
		}()
	}
}

// TestNFT shows the order: the base chains of all tables as they were registered, and everything before it is used.
func TestNFT(t *testing.T) {
	jump := []*rules.Rule{{Do: []rules.Stmt{rules.Jump{Chain: "b"}}}}
	base := &rules.Base{Type: rules.NAT, Hook: rules.Prerouting, Priority: rules.PriorityDNAT}
	first := &rules.Table{Tool: rules.NFTables, Family: rules.IPv4, Name: "one", Comment: "the first", Chains: []*rules.Chain{{Name: "a", Base: base, Rules: jump}, {Name: "b", Comment: "called"}}}
	second := &rules.Table{
		Tool: rules.NFTables, Family: rules.IPv6, Name: "two",
		Chains: []*rules.Chain{{Name: "c"}, {Name: "d", Base: &rules.Base{Type: rules.Filter, Hook: rules.Input, Drops: true}, Comment: "ours"}},
		Sets: []*rules.Set{
			{Name: "s", Family: rules.IPv6, Fields: []rules.Field{rules.SrcAddr}, Dynamic: true, Timeout: time.Hour},
			{Name: "m", Family: rules.IPv6, Fields: []rules.Field{rules.DstAddr, rules.L4Proto, rules.DstPort}, IsMap: true, Comment: "where to", Elems: []rules.Elem{
				{Key: rules.Key{Addr: netip.MustParseAddr("fd00::1"), Protocol: ports.TCP, Port: 80}, Verdict: rules.Goto{Chain: "c"}},
				{Key: rules.Key{Addr: netip.MustParseAddr("fd00::2"), Protocol: ports.UDP, Port: 53}, Verdict: rules.Drop{}, Comment: "a/b"},
			}},
			{Name: "h", Family: rules.IPv6, Fields: []rules.Field{rules.SrcAddr, rules.DstAddr}, Elems: []rules.Elem{
				{Key: rules.Key{Addr: netip.MustParseAddr("fd00::1"), With: netip.MustParsePrefix("fd00::2/128")}},
			}},
		},
	}
	other := &rules.Table{Tool: rules.XTables, Family: rules.IPv4, Name: "nat"}
	want := strings.TrimPrefix(`
add table ip6 two
add table ip one { comment "the first" ; }
add chain ip6 two d { type filter hook input priority 0 ; policy drop ; comment "ours" ; }
add chain ip one a { type nat hook prerouting priority -100 ; }
add chain ip6 two c
add set ip6 two s { type ipv6_addr ; flags dynamic,timeout ; timeout 3600s ; }
add map ip6 two m { type ipv6_addr . inet_proto . inet_service : verdict ; comment "where to" ; }
add set ip6 two h { type ipv6_addr . ipv6_addr ; }
add chain ip one b { comment "called" ; }
add element ip6 two m { fd00::1 . tcp . 80 : goto c }
add element ip6 two m { fd00::2 . udp . 53 comment "a/b" : drop }
add element ip6 two h { fd00::1 . fd00::2 }
add rule ip one a jump b
`, "\n")
	got := text.NFT(rules.Install(rules.Fragment{Tables: []*rules.Table{second, other}}, rules.Fragment{Tables: []*rules.Table{first}}))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	r := rules.Install(rules.Fragment{Tables: []*rules.Table{first}}, rules.Fragment{Tables: []*rules.Table{second}})
	slices.Reverse(r.Tables)
	if got := text.NFT(r); strings.Index(got, "chain ip one a") > strings.Index(got, "chain ip6 two d") {
		t.Errorf("the base chain that was registered first is not the first:\n%s", got)
	}
}
