//go:build linux

package dataplane

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

// externalMark is a chain that must stand before portmap is told to use it.
const externalMark = "KUBE-MARK-MASQ"

// drawPods makes up the pods of a node, and how portmap is configured. Ports come from few, so that some meet.
func drawPods(seed uint64) *rules.World {
	d := podDraw{rand.New(rand.NewPCG(seed, 0))}
	w := &rules.World{Portmap: d.config()}
	families := pickPod(d, []rules.Family{rules.IPv4}, []rules.Family{rules.IPv6}, both(), both())
	for i := range 1 + d.IntN(3) {
		w.Pods = append(w.Pods, d.pod(i, families))
	}
	return w
}

type podDraw struct{ *rand.Rand }

func pickPod[T any](d podDraw, from ...T) T { return from[d.IntN(len(from))] }

func (d podDraw) one(in int) bool { return d.IntN(in) == 0 }

func (d podDraw) config() rules.Portmap {
	c := rules.Portmap{
		Network:       pickPod(d, "kindnet", "k8s-pod-network", "cbr0", strings.Repeat("long-", 40), strings.Repeat("n", 240)),
		NoSNAT:        d.one(4),
		MasqueradeAll: d.one(4),
		MarkBit:       13,
	}
	switch d.IntN(4) {
	case 0:
		c.ExternalSetMark = externalMark // not with another bit: portmap refuses both
	case 1:
		c.MarkBit = d.IntN(32)
	}
	return c
}

func (d podDraw) pod(i int, families []rules.Family) *rules.Pod {
	p := &rules.Pod{
		Ref:       ports.Ref{Kind: "Pod", Namespace: "default", Name: fmt.Sprintf("pod-%d", i)},
		SandboxID: fmt.Sprintf("%016x%016x%016x%016x", d.Uint64(), d.Uint64(), d.Uint64(), d.Uint64()),
	}
	for _, f := range families {
		for range 1 + d.IntN(2) { // only the first one of a family counts
			p.Addresses = append(p.Addresses, d.podAddress(f))
		}
	}
	if d.one(3) {
		slices.Reverse(p.Addresses)
	}
	for range pickPod(d, 0, 1, 1, 2, 3, 5) {
		p.Mappings = append(p.Mappings, d.mapping())
	}
	if d.one(12) {
		for range 16 {
			p.Mappings = append(p.Mappings, rules.Mapping{Protocol: ports.TCP, HostPort: uint16(1 + d.IntN(65535)), ContainerPort: 80})
		}
	}
	return p
}

func (d podDraw) podAddress(f rules.Family) netip.Prefix {
	if f == rules.IPv4 {
		a := netip.AddrFrom4([4]byte{10, 244, byte(d.IntN(2)), byte(2 + d.IntN(200))})
		return netip.PrefixFrom(a, pickPod(d, 16, 24, 25, 32))
	}
	a := netip.AddrFrom16([16]byte{0: 0xfd, 2: 0x10, 4: 2, 5: 0x44, 15: byte(2 + d.IntN(200))})
	return netip.PrefixFrom(a, pickPod(d, 48, 64, 120, 128))
}

func (d podDraw) mapping() rules.Mapping {
	m := rules.Mapping{
		Protocol:      pickPod(d, ports.TCP, ports.TCP, ports.UDP, ports.SCTP),
		HostPort:      pickPod(d, uint16(80), 8080, uint16(1+d.IntN(65535))),
		ContainerPort: pickPod(d, uint16(80), uint16(1+d.IntN(65535))),
	}
	if hostIP := pickPod(d, "", "", "0.0.0.0", "::", "192.0.2.1", "127.0.0.1", "2001:db8::1", "::1"); hostIP != "" {
		m.HostIP = netip.MustParseAddr(hostIP)
	}
	return m
}

// smallerPods are the world without one thing.
func smallerPods(w *rules.World) []*rules.World {
	var out []*rules.World
	change := func(f func(*rules.World)) {
		smaller := *w
		f(&smaller)
		out = append(out, &smaller)
	}
	for i, p := range w.Pods {
		change(func(s *rules.World) { s.Pods = without(w.Pods, i) })
		pod := func(f func(*rules.Pod)) {
			change(func(s *rules.World) {
				less := *p
				f(&less)
				s.Pods = slices.Clone(w.Pods)
				s.Pods[i] = &less
			})
		}
		for j := range p.Mappings {
			pod(func(s *rules.Pod) { s.Mappings = without(p.Mappings, j) })
		}
		for j := range p.Addresses {
			pod(func(s *rules.Pod) { s.Addresses = without(p.Addresses, j) })
		}
	}
	if plain := (rules.Portmap{Network: "n", MarkBit: 13}); w.Portmap != plain {
		change(func(s *rules.World) { s.Portmap = plain })
	}
	return out
}

// podFeatures are what worlds must show.
func podFeatures() []feature {
	config := func(name string, is func(rules.Portmap) bool) feature {
		return feature{name, func(w *rules.World) bool { return is(w.Portmap) }}
	}
	pod := func(name string, is func(*rules.Pod) bool) feature {
		return feature{name, func(w *rules.World) bool { return slices.ContainsFunc(w.Pods, is) }}
	}
	mapping := func(name string, is func(rules.Mapping) bool) feature {
		return pod(name, func(p *rules.Pod) bool { return slices.ContainsFunc(p.Mappings, is) })
	}
	speaks := func(p ports.Protocol) func(rules.Mapping) bool {
		return func(m rules.Mapping) bool { return m.Protocol == p }
	}
	has := func(p *rules.Pod, f rules.Family) bool {
		return slices.ContainsFunc(p.Addresses, func(a netip.Prefix) bool { return f.Has(a.Addr()) })
	}
	return []feature{
		config("SNAT", func(c rules.Portmap) bool { return !c.NoSNAT }),
		config("no SNAT", func(c rules.Portmap) bool { return c.NoSNAT }),
		config("masqAll", func(c rules.Portmap) bool { return c.MasqueradeAll && !c.NoSNAT }),
		config("another mark", func(c rules.Portmap) bool { return c.MarkBit != 13 && !c.NoSNAT }),
		config("externalSetMarkChain", func(c rules.Portmap) bool { return c.ExternalSetMark != "" && !c.NoSNAT }),
		config("comment that is cut", func(c rules.Portmap) bool { return len(c.Network) > 180 }),
		pod("IPv4 only", func(p *rules.Pod) bool { return !has(p, rules.IPv6) }),
		pod("IPv6 only", func(p *rules.Pod) bool { return !has(p, rules.IPv4) }),
		pod("dual stack", func(p *rules.Pod) bool { return has(p, rules.IPv4) && has(p, rules.IPv6) }),
		pod("more than one address of a family", func(p *rules.Pod) bool { return len(p.Addresses) > 2 }),
		pod("no mappings", func(p *rules.Pod) bool { return len(p.Mappings) == 0 }),
		pod("only mappings of the other family", func(p *rules.Pod) bool {
			return len(p.Mappings) > 0 && has(p, rules.IPv6) && !slices.ContainsFunc(p.Mappings, func(m rules.Mapping) bool { return !m.HostIP.Is4() })
		}),
		pod("more ports of a protocol than multiport takes", func(p *rules.Pod) bool {
			n := 0
			for _, m := range p.Mappings {
				if m.Protocol == ports.TCP {
					n++
				}
			}
			return n > 15
		}),
		pod("one host port twice", func(p *rules.Pod) bool {
			seen := map[string]bool{}
			return slices.ContainsFunc(p.Mappings, func(m rules.Mapping) bool {
				key := fmt.Sprint(m.Protocol, m.HostPort)
				again := seen[key]
				seen[key] = true
				return again
			})
		}),
		{"several pods", func(w *rules.World) bool { return len(w.Pods) > 1 }},
		mapping("TCP", speaks(ports.TCP)), mapping("UDP", speaks(ports.UDP)), mapping("SCTP", speaks(ports.SCTP)),
		mapping("no hostIP", func(m rules.Mapping) bool { return !m.HostIP.IsValid() }),
		mapping("hostIP 0.0.0.0", func(m rules.Mapping) bool { return m.HostIP == netip.IPv4Unspecified() }),
		mapping("hostIP ::", func(m rules.Mapping) bool { return m.HostIP == netip.IPv6Unspecified() }),
		mapping("IPv4 hostIP", func(m rules.Mapping) bool { return m.HostIP.Is4() && !m.HostIP.IsUnspecified() }),
		mapping("IPv6 hostIP", func(m rules.Mapping) bool { return m.HostIP.Is6() && !m.HostIP.IsUnspecified() }),
	}
}
