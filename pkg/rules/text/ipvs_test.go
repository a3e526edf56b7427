package text

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

// key is an element of an ipset of a type.
func (d draw) key(kind string, f rules.Family) rules.Key {
	if kind == "bitmap:port" {
		return rules.Key{Port: d.port()}
	}
	k := rules.Key{Addr: d.addr(f)}
	if kind != "hash:ip" {
		k.Protocol, k.Port = d.protocol(), d.port()
	}
	switch kind {
	case "hash:ip,port,ip":
		a := d.addr(f)
		k.With = netip.PrefixFrom(a, a.BitLen())
	case "hash:ip,port,net":
		k.With = d.prefix(f)
	}
	return k
}

func (d draw) ipsets(f rules.Family) []*rules.Set {
	var out []*rules.Set
	for _, name := range chainNames(d.some(6)) {
		s := &rules.Set{Name: "KUBE-" + name, Type: pick(d, ipsetTypes()...), Family: f}
		if f == rules.IPv6 {
			s.Name = "KUBE-6-" + name
		}
		seen := map[rules.Key]bool{}
		for range d.IntN(5) {
			k := d.key(s.Type, f)
			if !seen[k] {
				s.Elems = append(s.Elems, rules.Elem{Key: k})
			}
			seen[k] = true
		}
		out = append(out, s)
	}
	return out
}

// virtual is virtual servers as a listing has them: sorted.
func (d draw) virtual() []*rules.VirtualServer {
	var out []*rules.VirtualServer
	for range d.IntN(8) {
		f := pick(d, rules.IPv4, rules.IPv6)
		v := &rules.VirtualServer{Addr: d.addrPort(f), Protocol: d.protocol(), Scheduler: pick(d, "rr", "lc", "mh"), Persistence: pick(d, 0, 1, 10800)}
		for range d.IntN(4) {
			v.Real = append(v.Real, d.addrPort(f))
		}
		slices.SortFunc(v.Real, netip.AddrPort.Compare)
		v.Real = slices.Compact(v.Real)
		out = append(out, v)
	}
	slices.SortFunc(out, compareVirtual)
	return slices.CompactFunc(out, func(a, b *rules.VirtualServer) bool { return compareVirtual(a, b) == 0 })
}

func TestIPSetAndParse(t *testing.T) {
	rounds(t, 300, func(t *testing.T, d draw) {
		v4, v6 := d.ipsets(rules.IPv4), d.ipsets(rules.IPv6)
		all := &rules.Ruleset{IPSets: slices.Concat(v6, v4)}
		for f, want := range map[rules.Family][]*rules.Set{rules.IPv4: v4, rules.IPv6: v6} {
			listing := IPSet(all, f)
			got, err := ParseIPSet(listing)
			if err != nil {
				t.Fatalf("%v, in\n%s", err, listing)
			}
			if diff := cmp.Diff(want, got, compareAddrs()); diff != "" {
				t.Fatalf("%s\nin\n%s", diff, listing)
			}
		}
	})
}

func TestIPVSAdmAndParse(t *testing.T) {
	rounds(t, 300, func(t *testing.T, d draw) {
		want := d.virtual()
		mixed := slices.Clone(want)
		d.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
		listing := IPVSAdm(&rules.Ruleset{Virtual: mixed})
		got, err := ParseIPVSAdm(listing)
		if err != nil {
			t.Fatalf("%v, in\n%s", err, listing)
		}
		if diff := cmp.Diff(want, got, compareAddrs()); diff != "" {
			t.Fatalf("%s\nin\n%s", diff, listing)
		}
	})
}

// TestParseIPSetListing: what ipset 7.17 saves.
func TestParseIPSetListing(t *testing.T) {
	got, err := ParseIPSet(`create KUBE-CLUSTER-IP hash:ip,port family inet hashsize 1024 maxelem 65536 bucketsize 12 initval 0x1e2c2197
add KUBE-CLUSTER-IP 10.0.0.1,sctp:80
create KUBE-6-LOAD-BALANCER-SOURCE-CID hash:ip,port,net family inet6 hashsize 2048 maxelem 65536 bucketsize 12 initval 0x548577f2
add KUBE-6-LOAD-BALANCER-SOURCE-CID fd00::1,tcp:80,fd01::1
add KUBE-6-LOAD-BALANCER-SOURCE-CID fd00:0:0:1::1,tcp:80,fd00:0:1:0:1::/80
create KUBE-LOOP-BACK hash:ip,port,ip family inet hashsize 1024 maxelem 65536 bucketsize 12 initval 0x95ca19f1
add KUBE-LOOP-BACK 10.0.0.1,udp:53,10.0.0.1
create KUBE-NODE-PORT-TCP bitmap:port range 0-65535
add KUBE-NODE-PORT-TCP 30000
create KUBE-6-IPVS-IPS hash:ip family inet6 hashsize 1024 maxelem 65536 bucketsize 12 initval 0xb6ea8e59
add KUBE-6-IPVS-IPS fd00::1
create KUBE-6-HEALTH-CHECK-NODE-PORT bitmap:port range 0-65535
`)
	if err != nil {
		t.Fatal(err)
	}
	addr, prefix := netip.MustParseAddr, netip.MustParsePrefix
	want := []*rules.Set{
		{Name: "KUBE-CLUSTER-IP", Type: "hash:ip,port", Family: rules.IPv4, Elems: []rules.Elem{{Key: rules.Key{Addr: addr("10.0.0.1"), Protocol: ports.SCTP, Port: 80}}}},
		{Name: "KUBE-6-LOAD-BALANCER-SOURCE-CID", Type: "hash:ip,port,net", Family: rules.IPv6, Elems: []rules.Elem{
			{Key: rules.Key{Addr: addr("fd00::1"), Protocol: ports.TCP, Port: 80, With: prefix("fd01::1/128")}},
			{Key: rules.Key{Addr: addr("fd00:0:0:1::1"), Protocol: ports.TCP, Port: 80, With: prefix("fd00:0:1:0:1::/80")}},
		}},
		{Name: "KUBE-LOOP-BACK", Type: "hash:ip,port,ip", Family: rules.IPv4, Elems: []rules.Elem{
			{Key: rules.Key{Addr: addr("10.0.0.1"), Protocol: ports.UDP, Port: 53, With: prefix("10.0.0.1/32")}},
		}},
		{Name: "KUBE-NODE-PORT-TCP", Type: "bitmap:port", Family: rules.IPv4, Elems: []rules.Elem{{Key: rules.Key{Port: 30000}}}},
		{Name: "KUBE-6-IPVS-IPS", Type: "hash:ip", Family: rules.IPv6, Elems: []rules.Elem{{Key: rules.Key{Addr: addr("fd00::1")}}}},
		{Name: "KUBE-6-HEALTH-CHECK-NODE-PORT", Type: "bitmap:port", Family: rules.IPv6},
	}
	if diff := cmp.Diff(want, got, compareAddrs()); diff != "" {
		t.Error(diff)
	}
}

func TestParseIPSetErrors(t *testing.T) {
	const set = "create S hash:ip,port,net family inet hashsize 1024 maxelem 65536\n"
	for listing, want := range map[string]string{
		"destroy S":                                    `line 1: unknown line "destroy S"`,
		"create S":                                     `line 1: unknown line "create S"`,
		"create S hash:mac":                            `line 1: set S: unknown type "hash:mac"`,
		"create S hash:ip":                             `line 1: the line ends too early`,
		"create S hash:ip family ipx":                  `line 1: unknown option "ipx" of set S, which has inet6 here`,
		"create S hash:ip family inet x":               `line 1: unknown option "x" behind set S`,
		"create S bitmap:port range 1-100":             `line 1: unknown option "1-100" of set S, which has 0-65535 here`,
		"create S bitmap:port range 0-65535 timeout 9": `line 1: unknown option "timeout" behind set S`,
		"create S hash:ip family inet maxelem many":    `line 1: "many" is not a number of that option of set S`,
		"\n" + set + set:                               `line 3: set "S" is listed twice, or is not a name`,
		"add S 10.0.0.1":                               `line 1: an element of set "S" stands elsewhere than behind its set`,
		set + "add S 10.0.0.1":                         `line 2: the line ends too early`,
		set + "add S 10.0.0.1,tcp:80,1.2.3.4,5":        `line 2: unknown option "5" behind element 10.0.0.1,tcp:80,1.2.3.4,5`,
		set + "add S fd00::1,tcp:80,1.2.3.4":           `line 2: "fd00::1" is not an address of IPv4`,
		set + "add S 10.0.0.1,icmp:80,1.2.3.4":         `line 2: unknown protocol "icmp"`,
		set + "add S 10.0.0.1,tcp:80,fd00::/8":         `line 2: "fd00::/8" is no network of IPv4`,
		set + "add S 10.0.0.1,tcp:99999,1.2.3.4":       `line 2: "99999" is not a number of that option of element 10.0.0.1,tcp:99999,1.2.3.4`,
		set + "add S 10.0.0.1,tcp:80,1.2.3.4 nomatch":  `line 2: unknown option "nomatch" behind element 10.0.0.1,tcp:80,1.2.3.4`,
		set + "add S 10.0.0.1,tcp:80,1.2.3.4\nadd S 10.0.0.1,tcp:80,1.2.3.4/32": `line 3: set S: element "10.0.0.1,tcp:80,1.2.3.4/32" is listed twice`,
	} {
		if _, err := ParseIPSet(listing); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", listing, err, want)
		}
	}
}

// TestIPVSAdm: the form in which ipvsadm.c prints virtual servers.
func TestIPVSAdm(t *testing.T) {
	at := netip.MustParseAddrPort
	virtual := []*rules.VirtualServer{
		{Addr: at("[fd00:10:96::1]:53"), Protocol: ports.UDP, Scheduler: "mh", Persistence: 10800, Real: []netip.AddrPort{at("[fd00:10:244::1]:53")}},
		{Addr: at("10.96.0.1:5000"), Protocol: ports.SCTP, Scheduler: "lc"},
		{Addr: at("10.96.0.10:53"), Protocol: ports.TCP, Scheduler: "rr", Real: []netip.AddrPort{at("10.244.1.10:53"), at("10.244.1.5:53")}},
		{Addr: at("10.96.0.10:53"), Protocol: ports.UDP, Scheduler: "rr", Persistence: 10},
	}
	want := `-A -t 10.96.0.10:53 -s rr
-a -t 10.96.0.10:53 -r 10.244.1.5:53 -m -w 1
-a -t 10.96.0.10:53 -r 10.244.1.10:53 -m -w 1
-A -u 10.96.0.10:53 -s rr -p 10
-A --sctp-service 10.96.0.1:5000 -s lc
-A -u [fd00:10:96::1]:53 -s mh -p 10800 -b mh-port
-a -u [fd00:10:96::1]:53 -r [fd00:10:244::1]:53 -m -w 1
`
	if diff := cmp.Diff(want, IPVSAdm(&rules.Ruleset{Virtual: virtual})); diff != "" {
		t.Error(diff)
	}
}

// TestParseIPVSAdmDraining: a real server that gets no new connections is none.
func TestParseIPVSAdmDraining(t *testing.T) {
	got, err := ParseIPVSAdm("-A -t 10.96.0.10:53 -s rr\n-a -t 10.96.0.10:53 -r 10.244.1.5:53 -m -w 0\n")
	want := []*rules.VirtualServer{{Addr: netip.MustParseAddrPort("10.96.0.10:53"), Protocol: ports.TCP, Scheduler: "rr"}}
	if diff := cmp.Diff(want, got, compareAddrs()); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

func TestParseIPVSAdmErrors(t *testing.T) {
	const server = "-A -t 10.96.0.1:80 -s rr\n"
	for listing, want := range map[string]string{
		"-D -t 10.96.0.1:80":                                     `line 1: unknown line "-D -t 10.96.0.1:80"`,
		"-A -f 1 -s rr":                                          `line 1: unknown option "-f"`,
		"-A -t kubernetes:https -s rr":                           `line 1: "kubernetes:https" is not an address with a port`,
		"-A -t 10.96.0.1:80":                                     `line 1: the line ends too early`,
		"-A -t 10.96.0.1:80 -s rr -o":                            `line 1: unknown option "-o" behind virtual server 10.96.0.1:80`,
		"-A -t 10.96.0.1:80 -s rr -p 0":                          `line 1: option -p of virtual server 10.96.0.1:80: connections persist for no time`,
		"-A -t 10.96.0.1:80 -s rr -p 9 -M 24":                    `line 1: unknown option "-M" behind virtual server 10.96.0.1:80`,
		"-A -t 10.96.0.1:80 -s mh -b mh-fallback":                `line 1: unknown option "mh-fallback" of virtual server 10.96.0.1:80, which has mh-port here`,
		server + "\n" + server:                                   `line 3: virtual server 10.96.0.1:80 is listed twice`,
		"-a -t 10.96.0.1:80 -r 1.2.3.4:80 -m -w 1":               `line 1: a real server of virtual server 10.96.0.1:80 stands elsewhere than behind it`,
		server + "-a -u 10.96.0.1:80 -r 1.2.3.4:80 -m -w 1":      `line 2: a real server of virtual server 10.96.0.1:80 stands elsewhere than behind it`,
		server + "-a -t 10.96.0.1:80 -r [fd00::1]:80 -m -w 1":    `line 2: "[fd00::1]:80" is not an address of IPv4 with a port`,
		server + "-a -t 10.96.0.1:80 -r 1.2.3.4:80 -g -w 1":      `line 2: unknown option "-g" of virtual server 10.96.0.1:80, which has -m here`,
		server + "-a -t 10.96.0.1:80 -r 1.2.3.4:80 -m -w 2":      `line 2: unknown option "2" of virtual server 10.96.0.1:80, which has 1 here`,
		server + "-a -t 10.96.0.1:80 -r 1.2.3.4:80 -m -w 1 -x 1": `line 2: unknown option "-x" behind virtual server 10.96.0.1:80`,
		server + "-a -t 10.96.0.1:80 -r 1.2.3.4:80 -m -w 1\n-a -t 10.96.0.1:80 -r 1.2.3.4:80 -m -w 1": `line 3: real server 1.2.3.4:80 of virtual server 10.96.0.1:80 is listed twice`,
	} {
		if _, err := ParseIPVSAdm(listing); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", listing, err, want)
		}
	}
}

// FuzzParseIPSet: nothing makes the parser fall over, and what it takes it prints and takes again.
func FuzzParseIPSet(f *testing.F) {
	d := draw{newRand()}
	for range 20 {
		f.Add(IPSet(&rules.Ruleset{IPSets: d.ipsets(rules.IPv4)}, rules.IPv4))
		f.Add(IPSet(&rules.Ruleset{IPSets: d.ipsets(rules.IPv6)}, rules.IPv6))
	}
	f.Fuzz(func(t *testing.T, listing string) {
		sets, err := ParseIPSet(listing)
		if err != nil {
			return
		}
		for _, family := range []rules.Family{rules.IPv4, rules.IPv6} {
			printed := IPSet(&rules.Ruleset{IPSets: sets}, family)
			again, err := ParseIPSet(printed)
			if err != nil {
				t.Fatalf("%v, in\n%s", err, printed)
			}
			if twice := IPSet(&rules.Ruleset{IPSets: again}, family); twice != printed {
				t.Fatal(cmp.Diff(printed, twice))
			}
		}
	})
}

// FuzzParseIPVSAdm likewise.
func FuzzParseIPVSAdm(f *testing.F) {
	d := draw{newRand()}
	for range 20 {
		f.Add(IPVSAdm(&rules.Ruleset{Virtual: d.virtual()}))
	}
	f.Fuzz(func(t *testing.T, listing string) {
		virtual, err := ParseIPVSAdm(listing)
		if err != nil {
			return
		}
		printed := IPVSAdm(&rules.Ruleset{Virtual: virtual})
		again, err := ParseIPVSAdm(printed)
		if err != nil {
			t.Fatalf("%v, in\n%s", err, printed)
		}
		if twice := IPVSAdm(&rules.Ruleset{Virtual: again}); twice != printed {
			t.Fatal(cmp.Diff(printed, twice))
		}
	})
}
