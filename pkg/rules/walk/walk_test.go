package walk

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

const (
	outside  = "eth0 192.0.2.2:40000 > 192.0.2.1:30007"
	fromNode = "192.0.2.1:40000 > 192.0.2.1:30007"
	overLo   = "127.0.0.1:40000 > 127.0.0.1:30007"
	podA     = "10.244.0.10:80"
	podB     = "10.244.0.20:8080"
)

// TestSemantics walks one packet through a ruleset for every rule of the evaluator.
func TestSemantics(t *testing.T) {
	local := rules.AddrLocal{Side: rules.Destination}
	ctNew := rules.CTState{In: []string{"NEW"}}
	toA := func() *rules.Rule { return ownedBy("a", rule(port(30007), dnat(podA))) }
	toB := func() *rules.Rule { return ownedBy("b", rule(port(30007), dnat(podB))) }
	for _, tt := range []struct {
		name   string
		rules  []chainOf
		packet string
		want   string
	}{
		{"no rules, to the node", nil, outside, "1 accept 192.0.2.1:30007 local"},
		{"no rules, onward", nil, "eth0 192.0.2.2:40000 > 10.244.0.10:80", "1 accept 10.244.0.10:80"},
		{"a rule that matches and says nothing is a step", []chainOf{in("nat PREROUTING", rule(port(30007)), rule(port(1)))}, outside,
			"1 accept 192.0.2.1:30007 local: nat PREROUTING 0"},

		{"forwarded: hooks in order", []chainOf{
			in("filter INPUT", rule()), in("filter FORWARD", rule()), in("filter OUTPUT", rule()), in("nat POSTROUTING", rule()),
			in("nat PREROUTING", rule()), in("mangle PREROUTING", rule()), in("raw PREROUTING", rule()),
		}, "eth0 192.0.2.2:40000 > 10.244.0.10:80",
			"1 accept 10.244.0.10:80: raw PREROUTING 0, mangle PREROUTING 0, nat PREROUTING 0, filter FORWARD 0, nat POSTROUTING 0"},
		{"to the node: input, and its nat last", []chainOf{in("nat INPUT", rule()), in("filter INPUT", rule()), in("filter FORWARD", rule())}, outside,
			"1 accept 192.0.2.1:30007 local: filter INPUT 0, nat INPUT 0"},
		{"of the node, away", []chainOf{in("filter OUTPUT", rule()), in("nat OUTPUT", rule()), in("nat POSTROUTING", rule()), in("nat PREROUTING", rule())},
			"192.0.2.1:40000 > 10.244.0.10:80", "1 accept 10.244.0.10:80: nat OUTPUT 0, filter OUTPUT 0, nat POSTROUTING 0"},
		{"of the node to itself: in again, without nat", []chainOf{
			in("nat OUTPUT", rule()), in("nat POSTROUTING", rule()), in("nat PREROUTING", rule()), in("mangle PREROUTING", rule()), in("filter INPUT", rule()), in("nat INPUT", rule()),
		}, fromNode, "1 accept 192.0.2.1:30007 local: nat OUTPUT 0, nat POSTROUTING 0, mangle PREROUTING 0, filter INPUT 0"},

		{"the chain registered last runs first", []chainOf{in("nat PREROUTING", toA()), in("nft t pre[nat prerouting -100]", toB())}, outside,
			"1 dnat 10.244.0.20:8080 by b: t pre 0"},
		{"and the other way round", []chainOf{in("nft t pre[nat prerouting -100]", toB()), in("nat PREROUTING", toA())}, outside,
			"1 dnat 10.244.0.10:80 by a: nat PREROUTING 0"},
		{"legacy and nf_tables are two chains", []chainOf{in("nat PREROUTING", toA()), in("legacy nat PREROUTING", toB())}, outside,
			"1 dnat 10.244.0.20:8080 by b: nat PREROUTING 0"},
		{"priority before order", []chainOf{in("nft t pre[nat prerouting -101]", toB()), in("nat PREROUTING", toA())}, outside,
			"1 dnat 10.244.0.20:8080 by b: t pre 0"},
		{"nat runs where nat runs, whatever its priority", []chainOf{in("nft t pre[nat prerouting -200]", rule()), in("mangle PREROUTING", rule())}, outside,
			"1 accept 192.0.2.1:30007 local: mangle PREROUTING 0, t pre 0"},

		{"accept ends its base chain only", []chainOf{in("nft t pre[nat prerouting -100]", toB()), in("nat PREROUTING", rule(rules.Accept{}), rule())}, outside,
			"1 dnat 10.244.0.20:8080 by b: nat PREROUTING 0, t pre 0"},
		{"accept in a user chain ends the base chain", []chainOf{in("filter INPUT", rule(jump("A")), rule(rules.Drop{})), in("nft t in[filter input 0]", rule()),
			in("filter A", rule(rules.Accept{}))}, outside,
			"1 accept 192.0.2.1:30007 local: t in 0, filter INPUT 0, filter A 0"},
		{"drop ends the packet", []chainOf{in("filter INPUT", rule()), in("nft t in[filter input 0]", ownedBy("a", rule(rules.Drop{})))}, outside,
			"1 drop 192.0.2.1:30007 by a: t in 0"},
		{"reject ends the packet", []chainOf{in("filter INPUT", ownedBy("a", rule(rules.Reject{})), rule())}, outside,
			"1 reject 192.0.2.1:30007 by a: filter INPUT 0"},
		{"translation ends nat for its hook", []chainOf{in("nat PREROUTING", toA(), rule()), in("mangle PREROUTING", rule()), in("nat POSTROUTING", rule())}, outside,
			"1 dnat 10.244.0.10:80 by a: mangle PREROUTING 0, nat PREROUTING 0, nat POSTROUTING 0"},

		{"a user chain ends, the caller goes on", []chainOf{in("filter INPUT", rule(jump("A")), rule()), in("filter A", rule())}, outside,
			"1 accept 192.0.2.1:30007 local: filter INPUT 0, filter A 0, filter INPUT 1"},
		{"return ends a user chain", []chainOf{in("filter INPUT", rule(jump("A")), rule()), in("filter A", rule(rules.Return{}), rule())}, outside,
			"1 accept 192.0.2.1:30007 local: filter INPUT 0, filter A 0, filter INPUT 1"},
		{"return ends a base chain", []chainOf{in("filter INPUT", rule(rules.Return{}), rule())}, outside,
			"1 accept 192.0.2.1:30007 local: filter INPUT 0"},
		{"goto comes back to the caller of its chain", []chainOf{in("filter INPUT", rule(jump("A")), rule()), in("filter A", rule(rules.Goto{Chain: "B"}), rule()), in("filter B", rule())}, outside,
			"1 accept 192.0.2.1:30007 local: filter INPUT 0, filter A 0, filter B 0, filter INPUT 1"},
		{"goto from a base chain ends it", []chainOf{in("filter INPUT", rule(rules.Goto{Chain: "A"}), rule()), in("filter A", rule())}, outside,
			"1 accept 192.0.2.1:30007 local: filter INPUT 0, filter A 0"},
		{"an unknown chain is empty", []chainOf{in("filter INPUT", rule(jump("A")), rule())}, outside,
			"1 accept 192.0.2.1:30007 local: filter INPUT 0, filter INPUT 1"},
		{"a circle is cut", []chainOf{in("filter INPUT", rule(jump("A"))), in("filter A", rule(jump("B"))), in("filter B", rule(jump("A")))}, outside,
			"1 drop 192.0.2.1:30007: filter INPUT 0"},

		{"later hooks see the new destination, earlier ones do not", []chainOf{
			in("mangle PREROUTING", rule(dst("192.0.2.1")), rule(dst("10.244.0.10"))), in("nat PREROUTING", toA()),
			in("filter INPUT", rule(rules.Reject{})), in("filter FORWARD", rule(local), rule(port(30007)), rule(dst("10.244.0.10"), port(80))),
		}, outside, "1 dnat 10.244.0.10:80 by a: mangle PREROUTING 0, nat PREROUTING 0, filter FORWARD 2"},
		{"conntrack: new, and translated", []chainOf{
			in("nat PREROUTING", toA()), in("mangle PREROUTING", rule(rules.CTState{In: []string{"DNAT"}}), rule(rules.CTStatusDNAT{})),
			in("filter FORWARD", rule(ctNew), rule(rules.CTState{In: []string{"RELATED", "ESTABLISHED", "DNAT"}}), rule(rules.CTStatusDNAT{}),
				rule(rules.CTState{In: []string{"INVALID"}}, rules.Drop{}), rule(rules.CTState{In: []string{"RELATED"}, Not: true})),
		}, outside, "1 dnat 10.244.0.10:80 by a: nat PREROUTING 0, filter FORWARD 0, filter FORWARD 1, filter FORWARD 2, filter FORWARD 4"},
		{"marks live until the end", []chainOf{
			in("nat PREROUTING", rule(mark(0x4000, 0x4000)), rule(mark(0x2000, 0x2000)), toA()),
			in("nat POSTROUTING", rule(rules.Mark{Value: 0x4000, Mask: 0x4000, Not: true}, rules.Return{}), rule(mark(0x4000, 0)), rule(rules.Mark{Value: 0x2000, Mask: 0x2000}, rules.Masquerade{})),
		}, outside, "1 dnat 10.244.0.10:80 from 10.244.0.1 mark 0x2000 by a: nat PREROUTING 0, nat PREROUTING 1, nat PREROUTING 2, nat POSTROUTING 1, nat POSTROUTING 2"},
		{"masquerade is a translation of its hook", []chainOf{in("nat POSTROUTING", rule(rules.Masquerade{}), rule())}, "eth0 192.0.2.2:40000 > 10.244.0.10:80",
			"1 accept 10.244.0.10:80 from 10.244.0.1: nat POSTROUTING 0"},
		{"a source that is masqueraded on its way to itself", []chainOf{in("nat POSTROUTING", rule(rules.Masquerade{})), in("filter INPUT", rule(src("192.0.2.1")))}, overLo,
			"1 accept 127.0.0.1:30007 from 192.0.2.1 local: nat POSTROUTING 0, filter INPUT 0"},

		{"the interface it came by", []chainOf{in("mangle PREROUTING", rule(rules.InInterface{Name: "eth0"}), rule(rules.InInterface{Name: "eth", Prefix: true}),
			rule(rules.InInterface{Name: "cni0"}), rule(rules.InInterface{Name: "cni0", Not: true}))}, outside,
			"1 accept 192.0.2.1:30007 local: mangle PREROUTING 0, mangle PREROUTING 1, mangle PREROUTING 3"},
		{"a packet of the node came by none", []chainOf{in("filter OUTPUT", rule(rules.InInterface{Name: "cni0"}), rule(rules.InInterface{Name: "cni0", Not: true})),
			in("filter INPUT", rule(rules.InInterface{Name: "lo"}))}, fromNode,
			"1 accept 192.0.2.1:30007 local: filter OUTPUT 1, filter INPUT 0"},
		{"local is every address of the node and loopback", []chainOf{in("filter OUTPUT", rule(local), rule(rules.AddrLocal{Side: rules.Source, Not: true}))}, overLo,
			"1 accept 127.0.0.1:30007 local: filter OUTPUT 0"},
		{"nothing was seen recently", []chainOf{in("nat PREROUTING", rule(rules.Recent{Name: "a", Seconds: 1}, dnat(podB)), rule(rules.Recent{Name: "a", Set: true}, dnat(podA)))}, outside,
			"1 dnat 10.244.0.10:80: nat PREROUTING 1"},

		{"statistic", []chainOf{in("nat PREROUTING", rule(rules.Statistic{Probability: 0.25}, dnat(podA)), rule(dnat(podB)))}, outside,
			"0.25 dnat 10.244.0.10:80: nat PREROUTING 0\n0.75 dnat 10.244.0.20:8080: nat PREROUTING 1"},
		{"certain statistics are none", []chainOf{in("nat PREROUTING", rule(rules.Statistic{Probability: 0}, dnat(podA)), rule(rules.Statistic{Probability: 1}, dnat(podB)))}, outside,
			"1 dnat 10.244.0.20:8080: nat PREROUTING 1"},
		{"numgen of destinations", []chainOf{in("nft t pre[nat prerouting -100]", rule(dnat(podA, podB)))}, outside,
			"0.5 dnat 10.244.0.10:80: t pre 0\n0.5 dnat 10.244.0.20:8080: t pre 0"},
		{"numgen of chains", []chainOf{in("nft t pre[nat prerouting -100]", rule(rules.GotoRandom{Chains: []string{"a", "b", "c", "d"}}), rule()), in("nft t a", toA()), in("nft t b", toB()), in("nft t c")}, outside,
			"0.25 dnat 10.244.0.10:80 by a: t pre 0, t a 0\n0.25 dnat 10.244.0.20:8080 by b: t pre 0, t b 0\n0.25 accept 192.0.2.1:30007 local: t pre 0\n0.25 accept 192.0.2.1:30007 local: t pre 0"},

		{"redirect from without", []chainOf{in("nat PREROUTING", ownedBy("a", rule(rules.Redirect{Port: 9})))}, "cni0 10.244.0.10:40000 > 192.0.2.11:30007",
			"1 dnat 10.244.0.1:9 local by a: nat PREROUTING 0"},
		{"redirect of the node's own", []chainOf{in("nat OUTPUT", rule(rules.Redirect{Port: 9}))}, "192.0.2.1:40000 > 192.0.2.2:30007",
			"1 dnat 127.0.0.1:9 local: nat OUTPUT 0"},
		{"a translated packet of the node is routed again", []chainOf{in("nat OUTPUT", toA()), in("filter INPUT", rule(rules.Drop{}))}, fromNode,
			"1 dnat 10.244.0.10:80 by a: nat OUTPUT 0"},
		{"the owner of a decision without one is that of the way to it", []chainOf{in("nat PREROUTING", ownedBy("a", rule(jump("A")))), in("nat A", rule(dnat(podA)))}, outside,
			"1 dnat 10.244.0.10:80 by a: nat PREROUTING 0, nat A 0"},

		{"the other family's rules are not met", []chainOf{in("6 nat PREROUTING", rule(dnat("[fd00:10:244::10]:80")))}, outside, "1 accept 192.0.2.1:30007 local"},
		{"IPv6", []chainOf{in("6 nat PREROUTING", rule(local, dnat("[fd00:10:244::10]:80"))), in("6 nat POSTROUTING", rule(rules.Masquerade{}))}, "eth0 [2001:db8::2]:40000 > [2001:db8::1]:30007",
			"1 dnat [fd00:10:244::10]:80 from fd00:10:244::1: nat PREROUTING 0, nat POSTROUTING 0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := New(rules.Install(oneByOne(tt.rules)...), lab)
			if diff := cmp.Diff(tt.want, lines(w.Walk(packet(tt.packet)))); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// oneByOne makes a fragment of each chain, so that their order is that of registration.
func oneByOne(chains []chainOf) []rules.Fragment {
	var all []rules.Fragment
	for _, c := range chains {
		all = append(all, fragment(c))
	}
	return all
}

// TestMaps looks packets up in maps and sets of nft, and in ipsets.
func TestMaps(t *testing.T) {
	key := func(addr string, port uint16) rules.Key {
		k := rules.Key{Port: port, Protocol: ports.TCP}
		if addr != "" {
			k.Addr = addrs(addr)[0]
		}
		return k
	}
	a := rules.Origin{Component: "test", Owner: ports.Ref{Kind: "Service", Namespace: "default", Name: "a"}}
	services := &rules.Set{Name: "services", IsMap: true, Elems: []rules.Elem{
		{Key: key("192.0.2.1", 30007), Verdict: rules.Goto{Chain: "a"}, Origin: a}, {Key: key("192.0.2.1", 1), Verdict: rules.Drop{}, Origin: a},
		{Key: key("192.0.2.1", 2), Verdict: rules.Goto{Chain: "empty"}},
	}}
	fields := []rules.Field{rules.DstAddr, rules.L4Proto, rules.DstPort}
	f := fragment(
		in("nft t pre[nat prerouting -100]", rule(jump("s")), rule(rules.InSet{Fields: []rules.Field{rules.SrcAddr}, Set: "known", Not: true})),
		in("nft t s", rule(rules.VMap{Fields: fields, Map: "services"}), rule(rules.VMap{Fields: fields, Map: "none"}), rule()),
		in("nft t a", rule(rules.Update{Set: "known"}, dnat(podA))), in("nft t empty"),
	)
	f.Tables[0].Sets = []*rules.Set{services, {Name: "known", Dynamic: true}}
	w := New(rules.Install(f), lab)
	for to, want := range map[string]string{
		"192.0.2.1:30007": "1 dnat 10.244.0.10:80 by a: t pre 0, t s 0, t a 0",
		"192.0.2.1:1":     "1 drop 192.0.2.1:1 by a: t pre 0, t s 0",
		"192.0.2.1:2":     "1 accept 192.0.2.1:2 local: t pre 0, t s 0, t pre 1", // the goto came back behind the jump
		"192.0.2.1:3":     "1 accept 192.0.2.1:3 local: t pre 0, t s 2, t pre 1", // what is not in the map
	} {
		if got := lines(w.Walk(packet("eth0 192.0.2.2:40000 > " + to))); got != want {
			t.Errorf("%s: got %s\nwant %s", to, got, want)
		}
	}
	p := packet("eth0 192.0.2.2:40000 > 192.0.2.1:3")
	p.Seen = []string{"known"}
	if got, want := lines(w.Walk(p)), "1 accept 192.0.2.1:3 local: t pre 0, t s 2"; got != want {
		t.Errorf("a known source: got %s\nwant %s", got, want)
	}
}

func TestIPSets(t *testing.T) {
	tcp := func(k rules.Key) rules.Elem { k.Protocol = ports.TCP; return rules.Elem{Key: k} }
	rs := rules.Install(fragment(in("nat PREROUTING",
		rule(rules.InSet{Set: "CLUSTER-IP", Fields: []rules.Field{rules.DstAddr, rules.DstPort}}),
		rule(rules.InSet{Set: "CLUSTER-IP", Fields: []rules.Field{rules.SrcAddr, rules.DstPort}}),
		rule(rules.InSet{Set: "SOURCE-CIDR", Fields: []rules.Field{rules.DstAddr, rules.DstPort, rules.SrcAddr}}),
		rule(rules.InSet{Set: "LOOP-BACK", Fields: []rules.Field{rules.DstAddr, rules.DstPort, rules.SrcAddr}}),
		rule(rules.InSet{Set: "NODE-PORT-TCP", Fields: []rules.Field{rules.DstPort}}),
		rule(rules.InSet{Set: "IPVS-IPS", Fields: []rules.Field{rules.DstAddr}}),
		rule(rules.InSet{Set: "NONE", Fields: []rules.Field{rules.DstAddr}}),
	)))
	rs.IPSets = []*rules.Set{
		{Name: "CLUSTER-IP", Type: "hash:ip,port", Elems: []rules.Elem{tcp(rules.Key{Addr: addrs("10.96.0.1")[0], Port: 80})}},
		{Name: "SOURCE-CIDR", Type: "hash:ip,port,net", Elems: []rules.Elem{
			tcp(rules.Key{Addr: addrs("10.96.0.1")[0], Port: 80, With: prefixes("10.0.0.0/8")[0]}), tcp(rules.Key{Addr: addrs("10.96.0.1")[0], Port: 80, With: prefixes("192.0.2.0/24")[0]}),
		}},
		{Name: "LOOP-BACK", Type: "hash:ip,port,ip", Elems: []rules.Elem{tcp(rules.Key{Addr: addrs("10.244.0.10")[0], Port: 80, With: prefixes("10.244.0.10")[0]})}},
		{Name: "NODE-PORT-TCP", Type: "bitmap:port", Elems: []rules.Elem{{Key: rules.Key{Port: 80}}}},
		{Name: "IPVS-IPS", Type: "hash:ip", Elems: []rules.Elem{{Key: rules.Key{Addr: addrs("10.96.0.1")[0]}}}},
	}
	w := New(rs, lab)
	for p, want := range map[string]string{
		"eth0 192.0.2.2:40000 > 10.96.0.1:80":     "1 accept 10.96.0.1:80: nat PREROUTING 0, nat PREROUTING 2, nat PREROUTING 4, nat PREROUTING 5",
		"eth0 198.51.100.1:40000 > 10.96.0.1:80":  "1 accept 10.96.0.1:80: nat PREROUTING 0, nat PREROUTING 4, nat PREROUTING 5",
		"cni0 10.244.0.10:40000 > 10.244.0.10:80": "1 accept 10.244.0.10:80: nat PREROUTING 3, nat PREROUTING 4",
		"eth0 10.96.0.1:80 > 10.96.0.2:80":        "1 accept 10.96.0.2:80: nat PREROUTING 1, nat PREROUTING 4",
	} {
		if got := lines(w.Walk(packet(p))); got != want {
			t.Errorf("%s: got %s\nwant %s", p, got, want)
		}
	}
	udp := packet("eth0 192.0.2.2:40000 > 10.96.0.1:80")
	udp.Protocol = ports.UDP
	if got, want := lines(w.Walk(udp)), "1 accept 10.96.0.1:80: nat PREROUTING 4, nat PREROUTING 5"; got != want {
		t.Errorf("UDP: got %s\nwant %s", got, want)
	}
}

// TestIPVS gives packets to virtual servers, which take them behind nat, and from without behind the filter.
func TestIPVS(t *testing.T) {
	origin := rules.Origin{Component: "kube-proxy", Owner: ports.Ref{Kind: "Service", Namespace: "default", Name: "a"}}
	f := fragment(in("filter INPUT", rule()), in("nat INPUT", rule()), in("filter OUTPUT", rule(rules.ViaIPVS{Addr: at("10.96.0.1:80"), Protocol: ports.TCP}), rule(port(8080))),
		in("nat OUTPUT", rule()), in("nat POSTROUTING", rule(rules.Masquerade{})), in("nat PREROUTING", rule(rules.AddrLocal{Side: rules.Destination})),
		in("mangle OUTPUT", rule(dst("10.96.0.0/16"))))
	for _, v := range []rules.VirtualServer{
		{Addr: at("10.96.0.1:80"), Real: ends(podB, "10.244.0.21:8080")},
		{Addr: at("10.96.0.1:81")},
		{Addr: at("10.96.0.1:82"), Real: ends("192.0.2.1:82")},
	} {
		v.Protocol, v.Scheduler, v.Origin = ports.TCP, "rr", origin
		f.Virtual = append(f.Virtual, &v)
	}
	w := New(rules.Install(f), lab)
	for p, want := range map[string]string{
		"cni0 10.244.0.10:40000 > 10.96.0.1:80": "0.5 dnat 10.244.0.20:8080 from 10.244.0.1 by a: nat PREROUTING 0, filter INPUT 0, input ipvs 10.96.0.1:80, filter OUTPUT 0, filter OUTPUT 1, nat POSTROUTING 0\n" +
			"0.5 dnat 10.244.0.21:8080 from 10.244.0.1 by a: nat PREROUTING 0, filter INPUT 0, input ipvs 10.96.0.1:80, filter OUTPUT 0, filter OUTPUT 1, nat POSTROUTING 0",
		"cni0 10.244.0.10:40000 > 10.96.0.1:81": "1 reject 10.96.0.1:81 by a: nat PREROUTING 0, filter INPUT 0, input ipvs 10.96.0.1:81",
		"cni0 10.244.0.10:40000 > 10.96.0.1:82": "1 dnat 192.0.2.1:82 local by a: nat PREROUTING 0, filter INPUT 0, input ipvs 10.96.0.1:82, nat INPUT 0",
		"cni0 10.244.0.10:40000 > 10.96.0.1:83": "1 accept 10.96.0.1:83 local: nat PREROUTING 0, filter INPUT 0, nat INPUT 0",
		"192.0.2.1:40000 > 10.96.0.1:80": "0.5 dnat 10.244.0.20:8080 from 10.244.0.1 by a: mangle OUTPUT 0, nat OUTPUT 0, output ipvs 10.96.0.1:80, filter OUTPUT 0, filter OUTPUT 1, nat POSTROUTING 0\n" +
			"0.5 dnat 10.244.0.21:8080 from 10.244.0.1 by a: mangle OUTPUT 0, nat OUTPUT 0, output ipvs 10.96.0.1:80, filter OUTPUT 0, filter OUTPUT 1, nat POSTROUTING 0",
	} {
		if got := lines(w.Walk(packet(p))); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", p, got, want)
		}
	}
}

// TestMartians has loopback addresses where the kernel, or the receiver, has none.
func TestMartians(t *testing.T) {
	rs := rules.Install(fragment(
		in("nat OUTPUT", rule(port(30007), dnat(podA))), in("nat PREROUTING", rule(port(30007), dnat(podA))), in("filter OUTPUT", rule(src("127.0.0.1"))),
		in("nat POSTROUTING", rule(rules.Mark{Value: 1, Mask: 1}, rules.Masquerade{})),
		in("6 nat OUTPUT", rule(port(30007), dnat("[fd00:10:244::10]:80"))), in("6 nat PREROUTING", rule()),
		in("6 nat POSTROUTING", rule(rules.Mark{Value: 1, Mask: 1}, rules.Masquerade{})),
	))
	none, onBridge := lab, lab
	none.RouteLocalnet, onBridge.RouteLocalnet = nil, []string{"cni0"}
	for _, tt := range []struct {
		name   string
		host   Host
		packet string
		mark   uint32
		want   string
	}{
		{"this kernel does not send it, and filters do not see it", none, overLo, 1, "1 drop 10.244.0.10:80 mark 0x1 martian: nat OUTPUT 0"},
		{"nobody takes it", onBridge, overLo, 0, "1 dnat 10.244.0.10:80 martian: nat OUTPUT 0, filter OUTPUT 0"},
		{"masqueraded", onBridge, overLo, 1, "1 dnat 10.244.0.10:80 from 10.244.0.1 mark 0x1: nat OUTPUT 0, filter OUTPUT 0, nat POSTROUTING 0"},
		{"IPv6 is sent", none, "[::1]:40000 > [::1]:30007", 0, "1 dnat [fd00:10:244::10]:80 martian: nat OUTPUT 0"},
		{"IPv6 is not answered either way", none, "[::1]:40000 > [::1]:30007", 1, "1 dnat [fd00:10:244::10]:80 from fd00:10:244::1 mark 0x1 martian: nat OUTPUT 0, nat POSTROUTING 0"},
		{"from without", none, "eth0 192.0.2.2:40000 > 127.0.0.1:1", 0, "1 drop 127.0.0.1:1 martian"},
		{"from without, with route_localnet", lab, "eth0 192.0.2.2:40000 > 127.0.0.1:1", 0, "1 accept 127.0.0.1:1 local"},
		{"from without, translated before it is routed", none, "eth0 192.0.2.2:40000 > 127.0.0.1:30007", 0, "1 dnat 10.244.0.10:80: nat PREROUTING 0"},
		{"IPv6 from without meets no rule", lab, "eth0 [2001:db8::2]:40000 > [::1]:1", 0, "1 drop [::1]:1 martian"},
	} {
		p := packet(tt.packet)
		p.Mark = tt.mark
		if got := lines(New(rs, tt.host).Walk(p)); got != tt.want {
			t.Errorf("%s: got %s\nwant %s", tt.name, got, tt.want)
		}
	}
}

func TestPolicy(t *testing.T) {
	rs := rules.Install(fragment(in("filter INPUT", rule(src("192.0.2.2"), rules.Accept{}))))
	rs.Tables[0].Chains[0].Base.Drops = true
	w := New(rs, lab)
	for p, want := range map[string]string{
		outside:                                  "1 accept 192.0.2.1:30007 local: filter INPUT 0",
		"eth0 192.0.2.3:40000 > 192.0.2.1:30007": "1 drop 192.0.2.1:30007",
	} {
		if got := lines(w.Walk(packet(p))); got != want {
			t.Errorf("%s: got %s\nwant %s", p, got, want)
		}
	}
}

// TestUnknownRoutes leaves open what a packet is masqueraded to.
func TestUnknownRoutes(t *testing.T) {
	rs := rules.Install(fragment(in("nat POSTROUTING", rule(rules.Masquerade{}))))
	got := New(rs, Host{}).Walk(packet("eth0 192.0.2.2:40000 > 10.244.0.10:80"))[0]
	if got.Source.Addr().IsValid() || got.Source.Port() != 40000 || !got.Masquerade {
		t.Errorf("got %+v", got)
	}
}

func TestOrders(t *testing.T) {
	f := oneByOne([]chainOf{
		in("nat PREROUTING", rule(port(30007), dnat(podA))), in("nat OUTPUT", rule(port(30007), dnat(podA))),
		in("nft t pre[nat prerouting -100]", rule(port(30007), dnat(podB))), in("nft t out[nat output -100]", rule(port(30007), dnat(podB))),
		in("filter INPUT", rule()),
	})
	forget := func(rs *rules.Ruleset, tools ...rules.Tool) *rules.Ruleset {
		for _, table := range rs.Tables {
			for _, c := range table.Chains {
				for _, tool := range tools {
					if c.Base != nil && table.Tool == tool {
						c.Base.Seq = 0
					}
				}
			}
		}
		return rs
	}
	for _, tt := range []struct {
		name string
		rs   *rules.Ruleset
		want []string
	}{
		{"known", rules.Install(f...), []string{podB}},
		{"unknown", forget(rules.Install(f...), rules.XTables, rules.NFTables), []string{podB, podA}},
		{"one unknown", forget(rules.Install(f...), rules.NFTables), []string{podB, podA}},
		{"nothing to tie", forget(rules.Install(f[0], f[1]), rules.XTables), []string{podA}},
	} {
		var got []string
		for rs := range Orders(tt.rs) {
			w := New(rs, lab)
			from, own := w.Walk(packet(outside))[0], w.Walk(packet(fromNode))[0]
			if from.Destination != own.Destination {
				t.Errorf("%s: the hooks do not agree: %v, %v", tt.name, from.Destination, own.Destination)
			}
			got = append(got, from.Destination.String())
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: -want +got\n%s", tt.name, diff)
		}
	}
}

// TestOrdersKeepWhatIsKnown has three tables of which the order of two is known.
func TestOrdersKeepWhatIsKnown(t *testing.T) {
	rs := rules.Install(oneByOne([]chainOf{in("nft a p[nat prerouting -100]"), in("nft b p[nat prerouting -100]"), in("nft c p[nat prerouting -100]")})...)
	rs.Tables[2].Chains[0].Base.Seq = 0
	n := 0
	for o := range Orders(rs) {
		n++
		if a, b := o.Tables[0].Chains[0].Base.Seq, o.Tables[1].Chains[0].Base.Seq; a > b {
			t.Errorf("a was registered before b, got %d and %d", a, b)
		}
	}
	if n != 3 {
		t.Errorf("got %d orders, want 3", n)
	}
	if rs.Tables[2].Chains[0].Base.Seq != 0 {
		t.Error("the ruleset was changed")
	}
}
