package portmap

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
	"github.com/portcullis-k8s/portcullis/pkg/rules/text"
)

// world is one pod in the network that the document's vectors were measured in.
func world(addresses string, mappings ...rules.Mapping) *rules.World {
	p := &rules.Pod{
		Ref:       ports.Ref{Kind: "Pod", Namespace: "default", Name: "web"},
		SandboxID: "c0ffee00112233445566778899aabbccddeeff00112233445566778899aabbcc",
		Mappings:  mappings,
	}
	for a := range strings.SplitSeq(addresses, " ") {
		p.Addresses = append(p.Addresses, netip.MustParsePrefix(a))
	}
	return &rules.World{Pods: []*rules.Pod{p}, Portmap: rules.Portmap{Network: "k8s-pod-network", MarkBit: 13}}
}

func with(w *rules.World, c rules.Portmap) *rules.World {
	c.Network, c.MarkBit = w.Portmap.Network, w.Portmap.MarkBit
	w.Portmap = c
	return w
}

func mapping(p ports.Protocol, hostIP string, hostPort, containerPort uint16) rules.Mapping {
	m := rules.Mapping{Protocol: p, HostPort: hostPort, ContainerPort: containerPort}
	if hostIP != "" {
		m.HostIP = netip.MustParseAddr(hostIP)
	}
	return m
}

// saved returns the rules of one chain as iptables-save prints them; all rules of the others as well if it is "".
func saved(w *rules.World, f rules.Family, chain string) []string {
	var out []string
	for line := range strings.Lines(text.Save(rules.Install(IPTables(w, f)), rules.XTables, f)) {
		if rule, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "-A "+chain); ok {
			out = append(out, strings.TrimPrefix(rule, " "))
		}
	}
	return out
}

func nftChain(w *rules.World, f rules.Family, chain string) []string {
	var out []string
	for _, r := range rules.Install(NFTables(w, f)).Table(rules.NFTables, f, "cni_hostport").Chain(chain).Rules {
		out = append(out, text.NFTRule(f, r))
	}
	return out
}

func equal(t *testing.T, got []string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestListing: what a node of somebody else printed (iptables -S -t nat), where the protocol had its number.
func TestListing(t *testing.T) {
	w := world("10.244.1.155/32", mapping(ports.TCP, "", 10000, 8000))
	w.Portmap.Network = "kindnet"
	w.Pods[0].SandboxID = "07dbe45d8e31690c76141e5e16132b086f6a2d5b63216584009b990a7c08552c"
	const want = `*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:CNI-DN-2a6b9967ebd3cd7a5eeb3 - [0:0]
:CNI-HOSTPORT-DNAT - [0:0]
:CNI-HOSTPORT-MASQ - [0:0]
:CNI-HOSTPORT-SETMARK - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A POSTROUTING -m comment --comment "CNI portfwd requiring masquerade" -j CNI-HOSTPORT-MASQ
-A CNI-DN-2a6b9967ebd3cd7a5eeb3 -s 10.244.1.155/32 -p tcp -m tcp --dport 10000 -j CNI-HOSTPORT-SETMARK
-A CNI-DN-2a6b9967ebd3cd7a5eeb3 -s 127.0.0.1/32 -p tcp -m tcp --dport 10000 -j CNI-HOSTPORT-SETMARK
-A CNI-DN-2a6b9967ebd3cd7a5eeb3 -p tcp -m tcp --dport 10000 -j DNAT --to-destination 10.244.1.155:8000
-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \"kindnet\" id: \"07dbe45d8e31690c76141e5e16132b086f6a2d5b63216584009b990a7c08552c\"" -m multiport --dports 10000 -j CNI-DN-2a6b9967ebd3cd7a5eeb3
-A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE
-A CNI-HOSTPORT-SETMARK -m comment --comment "CNI portfwd masquerade mark" -j MARK --set-xmark 0x2000/0x2000
COMMIT
`
	if diff := cmp.Diff(want, text.Save(rules.Install(IPTables(w, rules.IPv4)), rules.XTables, rules.IPv4)); diff != "" {
		t.Error(diff)
	}
}

func TestPodChainName(t *testing.T) {
	for _, test := range []struct{ network, sandbox, want string }{
		{"k8s-pod-network", "c0ffee00112233445566778899aabbccddeeff00112233445566778899aabbcc", "CNI-DN-a7c70397b816f0d19d739"},
		{"kindnet", "07dbe45d8e31690c76141e5e16132b086f6a2d5b63216584009b990a7c08552c", "CNI-DN-2a6b9967ebd3cd7a5eeb3"},
	} {
		if got := podChainName(test.network, test.sandbox); got != test.want {
			t.Errorf("%s %s: %s, want %s", test.network, test.sandbox, got, test.want)
		}
	}
}

const chain = "CNI-DN-a7c70397b816f0d19d739"

func TestPodChain(t *testing.T) {
	w := world("10.244.0.10/24 fd00:10:244::10/64",
		mapping(ports.TCP, "", 30007, 80), mapping(ports.UDP, "192.0.2.11", 53, 5353), mapping(ports.SCTP, "::", 9, 9), mapping(ports.TCP, "0.0.0.0", 443, 8443))
	equal(t, saved(w, rules.IPv4, chain),
		"-s 10.244.0.0/24 -p tcp -m tcp --dport 30007 -j CNI-HOSTPORT-SETMARK",
		"-s 127.0.0.1/32 -p tcp -m tcp --dport 30007 -j CNI-HOSTPORT-SETMARK",
		"-p tcp -m tcp --dport 30007 -j DNAT --to-destination 10.244.0.10:80",
		"-s 10.244.0.0/24 -d 192.0.2.11/32 -p udp -m udp --dport 53 -j CNI-HOSTPORT-SETMARK",
		"-s 127.0.0.1/32 -d 192.0.2.11/32 -p udp -m udp --dport 53 -j CNI-HOSTPORT-SETMARK",
		"-d 192.0.2.11/32 -p udp -m udp --dport 53 -j DNAT --to-destination 10.244.0.10:5353",
		"-s 10.244.0.0/24 -p tcp -m tcp --dport 443 -j CNI-HOSTPORT-SETMARK",
		"-s 127.0.0.1/32 -p tcp -m tcp --dport 443 -j CNI-HOSTPORT-SETMARK",
		"-p tcp -m tcp --dport 443 -j DNAT --to-destination 10.244.0.10:8443")
	equal(t, saved(w, rules.IPv6, chain),
		"-s fd00:10:244::/64 -p tcp -m tcp --dport 30007 -j CNI-HOSTPORT-SETMARK",
		"-p tcp -m tcp --dport 30007 -j DNAT --to-destination [fd00:10:244::10]:80",
		"-s fd00:10:244::/64 -p sctp -m sctp --dport 9 -j CNI-HOSTPORT-SETMARK",
		"-p sctp -m sctp --dport 9 -j DNAT --to-destination [fd00:10:244::10]:9")
}

// TestOptions: what the configuration changes.
func TestOptions(t *testing.T) {
	one := func(c rules.Portmap) *rules.World {
		return with(world("10.244.0.10/24 fd00:10:244::10/64", mapping(ports.TCP, "", 80, 8080)), c)
	}
	const toPod = "-p tcp -m tcp --dport 80 -j DNAT --to-destination 10.244.0.10:8080"
	equal(t, saved(one(rules.Portmap{NoSNAT: true}), rules.IPv4, chain), toPod)
	equal(t, saved(one(rules.Portmap{NoSNAT: true}), rules.IPv4, "POSTROUTING"))
	equal(t, saved(one(rules.Portmap{MasqueradeAll: true}), rules.IPv4, chain), "-p tcp -m tcp --dport 80 -j CNI-HOSTPORT-SETMARK", toPod)
	equal(t, saved(one(rules.Portmap{ExternalSetMark: "KUBE-MARK-MASQ"}), rules.IPv4, chain),
		"-s 10.244.0.0/24 -p tcp -m tcp --dport 80 -j KUBE-MARK-MASQ", "-s 127.0.0.1/32 -p tcp -m tcp --dport 80 -j KUBE-MARK-MASQ", toPod)
	equal(t, saved(one(rules.Portmap{ExternalSetMark: "KUBE-MARK-MASQ"}), rules.IPv4, "POSTROUTING"))
	if got := rules.Install(NFTables(one(rules.Portmap{NoSNAT: true}), rules.IPv4)).Tables[0].Chain(masquerading); got != nil {
		t.Errorf("without SNAT there is a chain %v", got)
	}

	bit := one(rules.Portmap{})
	bit.Portmap.MarkBit = 31
	equal(t, saved(bit, rules.IPv4, masqChain), "-m mark --mark 0x80000000/0x80000000 -j MASQUERADE")
}

// TestEntryRules: they name the ports of both families, by the names of the protocols and fifteen at a time.
func TestEntryRules(t *testing.T) {
	w := world("10.244.0.10/24 fd00::10/64", mapping(ports.UDP, "", 53, 53), mapping(ports.SCTP, "::", 9, 9))
	for i := range uint16(16) {
		w.Pods[0].Mappings = append(w.Pods[0].Mappings, mapping(ports.TCP, "", 8000+i, 80))
	}
	w.Portmap.Network = "n"
	w.Pods[0].SandboxID = "i"
	const comment = ` -m comment --comment "dnat name: \"n\" id: \"i\"" -m multiport --dports `
	to := " -j " + podChainName("n", "i")
	for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
		equal(t, saved(w, f, dnatChain),
			"-p sctp"+comment+"9"+to,
			"-p tcp"+comment+"8000,8001,8002,8003,8004,8005,8006,8007,8008,8009,8010,8011,8012,8013,8014"+to,
			"-p tcp"+comment+"8015"+to,
			"-p udp"+comment+"53"+to)
	}
}

// TestEmptyChain: a mapping of the other family leaves an empty chain and an entry that names its port.
func TestEmptyChain(t *testing.T) {
	w := world("10.244.0.10/24 fd00::10/64", mapping(ports.TCP, "0.0.0.0", 80, 8080))
	equal(t, saved(w, rules.IPv6, chain))
	if got := saved(w, rules.IPv6, dnatChain); len(got) != 1 || !strings.HasSuffix(got[0], "--dports 80 -j "+chain) {
		t.Error(got)
	}
}

// TestNothing: no mappings, or no address of the family, and portmap does nothing.
func TestNothing(t *testing.T) {
	for _, w := range []*rules.World{{}, world("fd00::10/64", mapping(ports.TCP, "", 80, 80)), world("10.244.0.10/24")} {
		for _, f := range []rules.Fragment{IPTables(w, rules.IPv4), NFTables(w, rules.IPv4)} {
			if len(f.Tables)+len(f.Jumps) > 0 {
				t.Errorf("%v", f)
			}
		}
	}
}

// TestAgain: a rule that stands already is not written again by the iptables back end; the nftables one does.
func TestAgain(t *testing.T) {
	w := with(world("10.244.0.10/24", mapping(ports.TCP, "", 80, 8080), mapping(ports.TCP, "0.0.0.0", 80, 8080)), rules.Portmap{NoSNAT: true})
	equal(t, saved(w, rules.IPv4, chain), "-p tcp -m tcp --dport 80 -j DNAT --to-destination 10.244.0.10:8080")
	if got := nftChain(w, rules.IPv4, hostPorts); len(got) != 2 {
		t.Error(got)
	}
}

// TestEntryComment: one that is too long ends in dots, of which the kernel loses one.
func TestEntryComment(t *testing.T) {
	for n, want := range map[int]int{10: 10 + len(`dnat name: "" id: "i"`), 234: 255, 235: 255, 300: 255} {
		got := entryComment(strings.Repeat("n", n), "i")
		if len(got) != want || strings.HasSuffix(got, "n..") != (n > 240) {
			t.Errorf("a network name of %d bytes: %d, want %d: %s", n, len(got), want, got)
		}
	}
}

func TestNFTables(t *testing.T) {
	w := world("10.244.0.10/24 fd00:10:244::10/64",
		mapping(ports.TCP, "", 30007, 80), mapping(ports.UDP, "192.0.2.11", 53, 5353), mapping(ports.SCTP, "::", 9, 9))
	w.Pods[0].SandboxID = "id"
	equal(t, nftChain(w, rules.IPv4, "prerouting"), "fib daddr type local jump hostports_all")
	equal(t, nftChain(w, rules.IPv4, "output"), "fib daddr type local jump hostports_all")
	equal(t, nftChain(w, rules.IPv4, allHostPorts), "jump hostip_hostports", "jump hostports")
	equal(t, nftChain(w, rules.IPv4, hostPorts),
		`tcp dport 30007 dnat to 10.244.0.10:80 comment "id"`,
		`ip daddr 192.0.2.11 udp dport 53 dnat to 10.244.0.10:5353 comment "id"`)
	equal(t, nftChain(w, rules.IPv6, hostPorts),
		`tcp dport 30007 dnat to [fd00:10:244::10]:80 comment "id"`,
		`sctp dport 9 dnat to [fd00:10:244::10]:9 comment "id"`)
	equal(t, nftChain(w, rules.IPv4, masquerading),
		`ip saddr 10.244.0.10 ip daddr 10.244.0.10 masquerade comment "id"`,
		`ip saddr 127.0.0.1 ip daddr 10.244.0.10 masquerade comment "id"`)
	equal(t, nftChain(w, rules.IPv6, masquerading), `ip6 saddr fd00:10:244::10 ip6 daddr fd00:10:244::10 masquerade comment "id"`)
}

// TestOrigins: every rule says whom it is for, where it is for anybody.
func TestOrigins(t *testing.T) {
	w := world("10.244.0.10/24", mapping(ports.TCP, "", 30007, 80))
	for _, f := range []rules.Fragment{IPTables(w, rules.IPv4), NFTables(w, rules.IPv4)} {
		for _, table := range rules.Install(f).Tables {
			for _, c := range table.Chains {
				for _, r := range c.Rules {
					if r.Origin.Component != "portmap" {
						t.Errorf("%s %v: %v", c.Name, r.Do, r.Origin)
					}
				}
			}
		}
	}
	want := rules.Origin{Component: "portmap", Owner: w.Pods[0].Ref, Port: "30007/TCP"}
	for _, c := range []*rules.Chain{
		IPTables(w, rules.IPv4).Tables[0].Chain(chain), NFTables(w, rules.IPv4).Tables[0].Chain(hostPorts),
	} {
		for _, r := range c.Rules {
			if diff := cmp.Diff(want, r.Origin); diff != "" {
				t.Error(diff)
			}
		}
	}
}
