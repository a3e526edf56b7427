package text

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

// nftListing is what nft 1.0.6 prints of a table with two chains, a set and a map, and more objects of the table.
func nftListing(objects ...string) string {
	all := append([]string{
		`{"metainfo": {"version": "1.0.6", "release_name": "Lester Gooch #5", "json_schema_version": 1}}`,
		`{"table": {"family": "ip", "name": "t", "handle": 1}}`,
		`{"chain": {"family": "ip", "table": "t", "name": "c", "handle": 3}}`,
		`{"chain": {"family": "ip", "table": "t", "name": "d", "handle": 4}}`,
	}, objects...)
	return `{"nftables": [` + strings.Join(all, ", ") + "]}"
}

func nftListingOf(expressions string) string {
	return nftListing(`{"rule": {"family": "ip", "table": "t", "chain": "c", "handle": 12, "expr": [` + expressions + `]}}`)
}

// TestParseNFTExpressions: what nft 1.0.6 listed of rules that were loaded.
func TestParseNFTExpressions(t *testing.T) {
	const (
		saddr    = `{"payload": {"protocol": "ip", "field": "saddr"}}`
		daddr    = `{"payload": {"protocol": "ip", "field": "daddr"}}`
		markMeta = `{"meta": {"key": "mark"}}`
		numgen   = `{"numgen": {"mode": "random", "mod": 2, "offset": 0}}`
	)
	match := func(op, left, right string) string {
		return fmt.Sprintf(`{"match": {"op": %q, "left": %s, "right": %s}}`, op, left, right)
	}
	in := func(side rules.Side, not bool, networks ...string) rules.Addr {
		a := rules.Addr{Side: side, Not: not}
		for _, n := range networks {
			a.In = append(a.In, netip.MustParsePrefix(n))
		}
		return a
	}
	to := func(all ...string) rules.DNAT {
		var d rules.DNAT
		for _, s := range all {
			d.To = append(d.To, netip.MustParseAddrPort(s))
		}
		return d
	}
	setMark := func(value string) string { return `{"mangle": {"key": ` + markMeta + `, "value": ` + value + `}}` }
	for _, test := range []struct {
		json string
		want []rules.Stmt
	}{
		{match("!=", `{"&": [`+markMeta+`, 16384]}`, "0"), []rules.Stmt{rules.Mark{Mask: 0x4000, Not: true}}},
		{match("==", markMeta, "16384"), []rules.Stmt{rules.Mark{Value: 0x4000, Mask: math.MaxUint32}}},
		{match("!=", markMeta, `{"prefix": {"addr": 0, "len": 1}}`), []rules.Stmt{rules.Mark{Mask: 0x80000000, Not: true}}},
		{setMark(`{"^": [` + markMeta + `, 16384]}`), []rules.Stmt{rules.SetMark{Value: 0x4000}}},
		{setMark(`{"|": [` + markMeta + `, 16384]}`), []rules.Stmt{rules.SetMark{Value: 0x4000, Mask: 0x4000}}},
		{setMark(`{"&": [` + markMeta + `, 4294950911]}`), []rules.Stmt{rules.SetMark{Mask: 0x4000}}},
		{setMark(`{"|": [{"&": [` + markMeta + `, 4294901760]}, 16384]}`), []rules.Stmt{rules.SetMark{Value: 0x4000, Mask: 0xffff}}},
		{setMark(`{"^": [{"&": [` + markMeta + `, 4294901760]}, 65536]}`), []rules.Stmt{rules.SetMark{Value: 0x10000, Mask: 0xffff}}},
		{match("in", `{"ct": {"key": "status"}}`, `"dnat"`), []rules.Stmt{rules.CTStatusDNAT{}}},
		{match("in", `{"ct": {"key": "state"}}`, `"new"`), []rules.Stmt{rules.CTState{In: []string{"NEW"}}}},
		{match("in", `{"ct": {"key": "state"}}`, `["established", "related"]`), []rules.Stmt{rules.CTState{In: []string{"RELATED", "ESTABLISHED"}}}},
		{match("!=", `{"ct": {"key": "state"}}`, `{"set": ["established", "related"]}`), []rules.Stmt{rules.CTState{In: []string{"RELATED", "ESTABLISHED"}, Not: true}}},
		{match("==", daddr, `{"prefix": {"addr": "10.0.0.0", "len": 8}}`), []rules.Stmt{in(rules.Destination, false, "10.0.0.0/8")}},
		{match("!=", saddr, `{"set": ["10.0.0.1", "11.0.0.1"]}`), []rules.Stmt{in(rules.Source, true, "10.0.0.1/32", "11.0.0.1/32")}},
		{match("==", saddr, `{"set": [{"range": ["10.0.0.0", "12.255.255.255"]}]}`), []rules.Stmt{in(rules.Source, false, "10.0.0.0/7", "12.0.0.0/8")}},
		{match("==", saddr, `{"range": ["0.0.0.0", "255.255.255.255"]}`), []rules.Stmt{in(rules.Source, false, "0.0.0.0/0")}},
		{match("==", `{"fib": {"result": "type", "flags": ["daddr"]}}`, `"local"`), []rules.Stmt{rules.AddrLocal{Side: rules.Destination}}},
		{match("!=", `{"fib": {"result": "type", "flags": "saddr"}}`, `"local"`), []rules.Stmt{rules.AddrLocal{Side: rules.Source, Not: true}}},
		{match("==", `{"meta": {"key": "l4proto"}}`, `"sctp"`), []rules.Stmt{rules.Proto{Is: ports.SCTP}}},
		{match("!=", `{"meta": {"key": "iifname"}}`, `"veth*"`), []rules.Stmt{rules.InInterface{Name: "veth", Prefix: true, Not: true}}},
		{match("==", `{"payload": {"protocol": "tcp", "field": "dport"}}`, "80"), []rules.Stmt{rules.Proto{Is: ports.TCP}, rules.Port{Is: []uint16{80}}}},
		{match("==", `{"payload": {"protocol": "th", "field": "dport"}}`, `{"set": [80, 81]}`), []rules.Stmt{rules.Port{Is: []uint16{80, 81}}}},
		{match("!=", daddr, `"@s"`), []rules.Stmt{rules.InSet{Set: "s", Fields: []rules.Field{rules.DstAddr}, Not: true}}},
		{`{"vmap": {"key": {"concat": [{"meta": {"key": "l4proto"}}, {"payload": {"protocol": "th", "field": "dport"}}]}, "data": "@m"}}`,
			[]rules.Stmt{rules.VMap{Map: "m", Fields: []rules.Field{rules.L4Proto, rules.DstPort}}}},
		{`{"vmap": {"key": ` + numgen + `, "data": {"set": [[1, {"goto": {"target": "d"}}], [0, {"goto": {"target": "c"}}]]}}}`, []rules.Stmt{rules.GotoRandom{Chains: []string{"c", "d"}}}},
		{`{"dnat": {"family": "ip", "addr": {"map": {"key": ` + numgen + `, "data": {"set": [[0, {"concat": ["10.0.0.1", 80]}], [1, {"concat": ["10.0.0.2", 81]}]]}}}}}`,
			[]rules.Stmt{to("10.0.0.1:80", "10.0.0.2:81")}},
		{`{"dnat": {"addr": "10.0.0.1", "port": 80}}`, []rules.Stmt{to("10.0.0.1:80")}},
		{`{"set": {"op": "update", "elem": ` + saddr + `, "set": "@a"}}`, []rules.Stmt{rules.Update{Set: "a"}}},
		{`{"counter": {"packets": 0, "bytes": 0}}, {"jump": {"target": "d"}}`, []rules.Stmt{rules.Jump{Chain: "d"}}},
		{`{"accept": null}, {"drop": null}, {"return": null}`, []rules.Stmt{rules.Accept{}, rules.Drop{}, rules.Return{}}},
		{`{"reject": {"type": "icmp", "expr": "port-unreachable"}}`, []rules.Stmt{rules.Reject{}}},
		{`{"masquerade": null}, {"masquerade": {"flags": "fully-random"}}`, []rules.Stmt{rules.Masquerade{}, rules.Masquerade{Random: true}}},
		{`{"redirect": {"port": 3000}}`, []rules.Stmt{rules.Redirect{Port: 3000}}},
	} {
		got, err := ParseNFTJSON(nftListingOf(test.json))
		if err != nil {
			t.Error(err)
			continue
		}
		if diff := cmp.Diff(test.want, got.Tables[0].Chain("c").Rules[0].Do, compareAddrs()); diff != "" {
			t.Errorf("%s:\n%s", test.json, diff)
		}
	}
}

// TestParseNFTObjects: tables, base chains, sets and maps, and the comments that are listed.
func TestParseNFTObjects(t *testing.T) {
	got, err := ParseNFTJSON(`{"nftables": [
		{"table": {"family": "ip6", "name": "kube-proxy", "handle": 1, "comment": "rules for kube-proxy"}},
		{"set": {"family": "ip6", "name": "aff", "table": "kube-proxy", "type": "ipv6_addr", "handle": 10, "size": 65535, "flags": ["timeout"], "timeout": 10800,
			"elem": [{"elem": {"val": "fd00::1", "timeout": 50, "expires": 49}}]}},
		{"map": {"family": "ip6", "name": "m", "table": "kube-proxy", "type": ["ipv6_addr", "inet_proto", "inet_service"], "handle": 8, "comment": "x", "map": "verdict", "elem": [
			[{"elem": {"val": {"concat": ["fd00::2", "tcp", 443]}, "comment": "a/b"}}, {"goto": {"target": "c"}}], [{"concat": ["fd00::1", "udp", 443]}, {"drop": null}]]}},
		{"set": {"family": "ip6", "name": "h", "table": "kube-proxy", "type": ["ipv6_addr", "ipv6_addr", "inet_proto", "inet_service"], "handle": 7,
			"elem": [{"concat": ["fd00::1", "fd00::2", "sctp", 80]}]}},
		{"chain": {"family": "ip6", "table": "kube-proxy", "name": "b", "handle": 2, "type": "nat", "hook": "prerouting", "prio": -100, "policy": "drop"}},
		{"chain": {"family": "ip6", "table": "kube-proxy", "name": "c", "handle": 3, "comment": "helper"}},
		{"rule": {"family": "ip6", "table": "kube-proxy", "chain": "c", "handle": 4, "comment": "id",
			"expr": [{"set": {"op": "update", "elem": {"payload": {"protocol": "ip6", "field": "saddr"}}, "set": "@aff"}}]}},
		{"table": {"family": "ip", "name": "nat", "handle": 1}},
		{"chain": {"family": "ip", "table": "nat", "name": "PREROUTING", "handle": 8, "type": "nat", "hook": "prerouting", "prio": -100, "policy": "accept"}},
		{"rule": {"family": "ip", "table": "nat", "chain": "PREROUTING", "handle": 6, "expr": [{"xt": {"type": "match", "name": "comment"}}]}}
	]}`)
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddr
	socket := []rules.Field{rules.DstAddr, rules.L4Proto, rules.DstPort}
	want := &rules.Ruleset{Tables: []*rules.Table{{
		Tool: rules.NFTables, Family: rules.IPv6, Name: "kube-proxy", Comment: "rules for kube-proxy",
		Chains: []*rules.Chain{
			{Name: "b", Base: &rules.Base{Type: rules.NAT, Hook: rules.Prerouting, Priority: -100, Drops: true}},
			{Name: "c", Comment: "helper", Rules: []*rules.Rule{{Do: []rules.Stmt{rules.Update{Set: "aff"}, rules.Comment{Text: "id"}}}}},
		},
		Sets: []*rules.Set{
			{Name: "aff", Family: rules.IPv6, Fields: []rules.Field{rules.SrcAddr}, Dynamic: true, Timeout: 3 * time.Hour, Elems: []rules.Elem{{Key: rules.Key{Addr: addr("fd00::1")}}}},
			{Name: "h", Family: rules.IPv6, Fields: append([]rules.Field{rules.SrcAddr}, socket...), Elems: []rules.Elem{
				{Key: rules.Key{Addr: addr("fd00::1"), With: netip.MustParsePrefix("fd00::2/128"), Protocol: ports.SCTP, Port: 80}},
			}},
			{Name: "m", Family: rules.IPv6, Fields: socket, IsMap: true, Comment: "x", Elems: []rules.Elem{
				{Key: rules.Key{Addr: addr("fd00::1"), Protocol: ports.UDP, Port: 443}, Verdict: rules.Drop{}},
				{Key: rules.Key{Addr: addr("fd00::2"), Protocol: ports.TCP, Port: 443}, Verdict: rules.Goto{Chain: "c"}, Comment: "a/b"},
			}},
		},
	}}}
	if diff := cmp.Diff(want, got, compareAddrs()); diff != "" {
		t.Error(diff)
	}
}

// TestParseNFTErrors: what is not known is named.
func TestParseNFTErrors(t *testing.T) {
	const rule = "object 5 of the listing: chain c, rule 1, expression 1: "
	for listing, want := range map[string]string{
		`{}x`:                           "the listing is not JSON of nft: there is more behind it",
		`{"nftables": 1}`:               "the listing is not JSON of nft: json: cannot unmarshal number",
		nftListing(`{"flowtable": {}}`): `object 5 of the listing: unknown object "flowtable"`,
		nftListing(`{"chain": {"family": "ip", "table": "u", "name": "c"}}`):                                                                   "object 5 of the listing: chain c of the table ip u, which is not listed",
		nftListing(`{"chain": {"family": "ip", "table": "t", "name": "c"}}`):                                                                   `object 5 of the listing: chain "c": listed twice, or without a name`,
		nftListing(`{"chain": {"family": "ip", "table": "t", "name": "b", "type": "route", "hook": "output", "prio": 0, "policy": "accept"}}`): `object 5 of the listing: chain b: unknown type ["route"], hook "output" or policy "accept"`,
		nftListing(`{"chain": {"family": "ip", "table": "t", "name": "b", "dev": "eth0"}}`):                                                    `object 5 of the listing: chain: json: unknown field "dev"`,
		nftListing(`{"table": {"family": "inet", "name": "filter"}}`):                                                                          `object 5 of the listing: table filter: unknown family "inet"`,
		nftListing(`{"set": {"family": "ip", "table": "t", "name": "s", "type": "mark"}}`):                                                     "object 5 of the listing: set s: unknown type \"mark\"",
		nftListing(`{"set": {"family": "ip", "table": "t", "name": "s", "type": "ipv4_addr", "flags": "interval"}}`):                           `object 5 of the listing: set s: unknown flag "interval"`,
		nftListing(`{"set": {"family": "ip", "table": "t", "name": "s", "type": "ipv4_addr", "elem": [{"range": ["10.0.0.1", "10.0.0.2"]}]}}`): `object 5 of the listing: set s: {"range": ["10.0.0.1", "10.0.0.2"]} is not an address`,
		nftListing(`{"map": {"family": "ip", "table": "t", "name": "s", "type": "ipv4_addr", "map": "mark"}}`):                                 `object 5 of the listing: map s: unknown values "mark"`,
		nftListingOf(`{"xt": {"type": "match", "name": "comment"}}`):                                                                           rule + `unknown expression "xt": {"type": "match", "name": "comment"}`,
		nftListingOf(`{"log": null}`):                                                                                                            rule + `unknown expression "log": null`,
		nftListingOf(`{"jump": {"target": "e"}}`):                                                                                                rule + `unknown expression "jump": {"target": "e"}`,
		nftListingOf(`{"reject": {"type": "tcp reset"}}`):                                                                                        rule + `unknown expression "reject": {"type": "tcp reset"}`,
		nftListingOf(`{"masquerade": {"flags": "random"}}`):                                                                                      rule + `unknown expression "masquerade": {"flags": "random"}`,
		nftListingOf(`{"match": {"op": "<", "left": {"meta": {"key": "mark"}}, "right": 1}}`):                                                    rule + `unknown expression "match": {"op": "<", "left": {"meta": {"key": "mark"}}, "right": 1}`,
		nftListingOf(`{"match": {"op": "==", "left": {"meta": {"key": "oifname"}}, "right": "eth0"}}`):                                           rule + `unknown expression "match": {"op": "==", "left": {"meta": {"key": "oifname"}}, "right": "eth0"}`,
		nftListingOf(`{"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "sport"}}, "right": 1}}`):                          rule + `unknown expression "match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "sport"}}, "right": 1}`,
		nftListingOf(`{"dnat": {"addr": "10.0.0.1"}}`):                                                                                           rule + `unknown expression "dnat": {"addr": "10.0.0.1"}`,
		nftListingOf(`{"vmap": {"key": {"numgen": {"mode": "inc", "mod": 1, "offset": 0}}, "data": {"set": [[0, {"goto": {"target": "d"}}]]}}}`): rule + `unknown map: {"key": {"numgen": {"mode": "inc", "mod": 1, "offset": 0}}, "data": {"set": [[0, {"goto": {"target": "d"}}]]}}`,
		nftListingOf(`{"mangle": {"key": {"meta": {"key": "mark"}}, "value": {"^": [{"ct": {"key": "mark"}}, 1]}}}`):                             rule + `unknown expression "mangle": {"key": {"meta": {"key": "mark"}}, "value": {"^": [{"ct": {"key": "mark"}}, 1]}}`,
	} {
		_, err := ParseNFTJSON(listing)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v\nwant %s", listing, err, want)
		}
	}
}

// FuzzParseNFTJSON: nothing makes the parser fall over, nor the printer of what it took.
func FuzzParseNFTJSON(f *testing.F) {
	f.Add(nftListingOf(`{"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 80}}, {"dnat": {"addr": "10.0.0.1", "port": 80}}`))
	f.Add(nftListingOf(`{"vmap": {"key": {"numgen": {"mode": "random", "mod": 1, "offset": 0}}, "data": {"set": [[0, {"goto": {"target": "d"}}]]}}}`))
	f.Add(nftListingOf(`{"match": {"op": "!=", "left": {"meta": {"key": "mark"}}, "right": {"prefix": {"addr": 0, "len": 1}}}}, {"masquerade": {"flags": "fully-random"}}`))
	f.Add(nftListing(`{"map": {"family": "ip", "table": "t", "name": "m", "type": ["inet_proto", "inet_service"], "map": "verdict", "elem": [[{"concat": ["tcp", 80]}, {"goto": {"target": "d"}}]]}}`))
	f.Fuzz(func(t *testing.T, listing string) {
		if got, err := ParseNFTJSON(listing); err == nil {
			NFT(got)
		}
	})
}
