//go:build linux

package dataplane

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/pkg/extract/specimen"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
	"github.com/portcullis-k8s/portcullis/pkg/rules/kubeproxy"
	"github.com/portcullis-k8s/portcullis/pkg/rules/portmap"
	"github.com/portcullis-k8s/portcullis/pkg/rules/walk"
	"github.com/portcullis-k8s/portcullis/test/lab/netns"
)

// component installs rules of both families.
type component func(*rules.World) []rules.Fragment

func ofBoth(render func(*rules.World, rules.Family) rules.Fragment) component {
	return func(w *rules.World) []rules.Fragment {
		return []rules.Fragment{render(w, rules.IPv4), render(w, rules.IPv6)}
	}
}

func installed(w *rules.World, components ...component) *rules.Ruleset {
	var all []rules.Fragment
	for _, c := range components {
		all = append(all, c(w)...)
	}
	return rules.Install(all...)
}

// TestTrace: for random worlds and packets, the rules that the walker says are matched are those that the kernel says
// are, in the same order, and who really answers is whom it predicts.
func TestTrace(t *testing.T) {
	netns.Need(t, "ip", "nft", "iptables-nft-restore", "xtables-monitor", "sysctl", "stdbuf")
	l := newLab(t)
	source := specimen.New(t)
	var seen tracedWorlds
	for range specimen.Rounds(40) {
		seed := source.Uint64()
		traceWorld(t, l, seed, &seen)
		if t.Failed() {
			t.Fatalf("world %d", seed)
		}
	}
	t.Logf("%+v", seen)
	if least := min(seen.UDP, seen.Answered, seen.Refused, seen.Silent, seen.Forked); least < 3 {
		t.Error("something hardly occurred")
	}
}

// tracedWorlds counts what was compared.
type tracedWorlds struct {
	Worlds, Packets, UDP, Steps, Answered, Refused, Silent, Unowned, Forked int
}

func traceWorld(t *testing.T, l *lab, seed uint64, seen *tracedWorlds) {
	r := rand.New(rand.NewPCG(seed, 1))
	c := Draw(seed, Size{Services: 4})
	c.Interfaces = labAddresses
	c.Proxy.Counters = false
	w := c.World()
	drawHostPorts(r, w)
	proxy, maps := ofBoth(kubeproxy.IPTables), ofBoth(portmap.IPTables)
	saved := r.IntN(3) == 0
	if !saved {
		if r.IntN(3) > 0 {
			proxy = ofBoth(kubeproxy.NFTables)
		}
		if r.IntN(2) == 0 {
			maps = ofBoth(portmap.NFTables)
		}
	}
	start := []component{proxy, maps}
	if r.IntN(2) == 0 {
		start = []component{maps, proxy}
	}
	rs := installed(w, start...)
	localnet := [][]string{nil, {"all"}, {"cni0"}}[r.IntN(3)]

	l.clear(t)
	l.routeLocalnet(t, localnet...)
	l.isPod(t, podAddresses(w)...)
	l.load(t, rs)
	l.node.Run(t, tracing, "nft", "-f", "-")
	t.Run(fmt.Sprint(seed), func(t *testing.T) {
		tr := tracer{l: l, walker: walk.New(rs, l.host(localnet...)), seen: seen, recent: map[netip.Addr][]string{}}
		if saved {
			tr.monitor = l.xtablesMonitor(t)
		} else {
			tr.monitor, tr.handles = l.nftMonitor(t), l.handles(t)
		}
		seen.Worlds++
		for range 8 {
			if p, ok := drawPacket(r, w); ok && !(saved && p.Dst.Addr().Is6()) { // xtables-monitor 1.8.9 dies of DNAT of IPv6
				tr.compare(t, p)
			}
		}
	})
}

// tracer compares packets with the kernel.
type tracer struct {
	l       *lab
	walker  *walk.Walker
	monitor *monitor
	handles map[string]int // nil: lines are compared
	seen    *tracedWorlds
	recent  map[netip.Addr][]string
}

func (tr *tracer) compare(t *testing.T, p walk.Packet) {
	t.Helper()
	p.Seen = tr.recent[p.Src.Addr()]
	paths := tr.walker.Walk(p)
	for _, path := range paths {
		tr.l.predicted(t, tr.l.of(p), path) // somebody must listen before
	}
	wait := patience
	if p.Protocol == ports.UDP { // nobody answers
		wait = patience / 10
	}
	got, err := tr.l.sendPatiently(p, wait)
	if err != nil {
		t.Fatalf("%+v: %v", p, err)
	}
	var steps []string
	var same []walk.Path
	for range 5 { // on a busy machine the marker may overtake the packet
		steps = append(steps, tr.l.steps(t, tr.monitor)...)
		if same = tr.like(paths, steps); len(same) > 0 {
			break
		}
		time.Sleep(patience / 4)
	}
	if len(same) == 0 {
		t.Errorf("%s %s > %s by %q: of %d paths none is the kernel's: -ours +kernel\n%s", p.Protocol, p.Src, p.Dst, p.In, len(paths), cmp.Diff(tr.lines(paths[0]), steps))
		return
	}
	tr.count(p, paths, same[0])
	tr.remember(p.Src.Addr(), same[0])
	if same[0].Verdict == walk.Reject && got.what == "silence" && p.Protocol == ports.TCP {
		// The answer came before the socket had done with its first packet. It will hear the next one.
		if got, err = tr.l.sendPatiently(p, 4*patience); err != nil {
			t.Fatalf("%+v: %v", p, err)
		}
		tr.l.steps(t, tr.monitor)
	}
	tr.answer(t, p, got, same)
}

// answer compares what came of a connection with what the paths say of it: one rule may choose between destinations.
func (tr *tracer) answer(t *testing.T, p walk.Packet, got reply, paths []walk.Path) {
	t.Helper()
	var want []string
	for _, path := range paths {
		r, ok := tr.l.predicted(t, tr.l.of(p), path)
		if !ok || p.Protocol != ports.TCP {
			tr.seen.Unowned++
			return
		}
		want = append(want, r.String())
	}
	if !slices.Contains(want, got.String()) {
		t.Errorf("%s > %s by %q: %s, want %s\n%s", p.Src, p.Dst, p.In, got, strings.Join(want, " or "), strings.Join(tr.lines(paths[0]), "\n"))
		return
	}
	*map[string]*int{"answered": &tr.seen.Answered, "refused": &tr.seen.Refused, "silence": &tr.seen.Silent}[got.what]++
}

// like returns the paths that have the kernel's steps.
func (tr *tracer) like(paths []walk.Path, steps []string) []walk.Path {
	return slices.DeleteFunc(slices.Clone(paths), func(p walk.Path) bool { return !slices.Equal(tr.lines(p), steps) })
}

func (tr *tracer) lines(p walk.Path) []string {
	if tr.handles == nil {
		return asSaved(p)
	}
	return asNFT(p, tr.handles)
}

func (tr *tracer) count(p walk.Packet, paths []walk.Path, taken walk.Path) {
	tr.seen.Packets++
	if p.Protocol == ports.UDP {
		tr.seen.UDP++
	}
	tr.seen.Steps += len(taken.Steps)
	if len(paths) > 1 {
		tr.seen.Forked++
	}
}

// remember notes the lists that a path entered the source into.
func (tr *tracer) remember(from netip.Addr, p walk.Path) {
	for _, s := range p.Steps {
		for _, d := range s.Rule.Do {
			switch d := d.(type) {
			case rules.Recent:
				if d.Set {
					tr.recent[from] = append(tr.recent[from], d.Name)
				}
			case rules.Update:
				tr.recent[from] = append(tr.recent[from], d.Set)
			}
		}
	}
}

// drawHostPorts gives the node pods with host ports, some of them those of Services.
func drawHostPorts(r *rand.Rand, w *rules.World) {
	w.Portmap = rules.Portmap{Network: "k8s-pod-network", MarkBit: 13, NoSNAT: r.IntN(5) == 0, MasqueradeAll: r.IntN(5) == 0}
	for i := range 1 + r.IntN(2) {
		p := &rules.Pod{
			Ref:       ports.Ref{APIVersion: "v1", Kind: "Pod", Namespace: "default", Name: fmt.Sprintf("host-%d", i)},
			SandboxID: fmt.Sprintf("%064x", r.Uint64()),
			Addresses: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.244.1.%d/24", 240+i)), netip.MustParsePrefix(fmt.Sprintf("fd00:10:244:1::f%d/64", i))},
		}
		for range 1 + r.IntN(3) {
			p.Mappings = append(p.Mappings, drawMapping(r, w, i))
		}
		w.Pods = append(w.Pods, p)
	}
}

func drawMapping(r *rand.Rand, w *rules.World, pod int) rules.Mapping {
	m := rules.Mapping{Protocol: ports.TCP, HostPort: uint16(8000 + r.IntN(100)), ContainerPort: uint16(9000 + pod)}
	if sp := servicePorts(w); len(sp) > 0 && r.IntN(3) > 0 {
		s := sp[r.IntN(len(sp))]
		m.Protocol, m.HostPort = s.Protocol, max(s.NodePort, s.Port)
	}
	if r.IntN(4) == 0 {
		m.HostIP = append(slices.Clone(labAddresses), netip.IPv4Unspecified(), netip.IPv6Unspecified(), netip.MustParseAddr("127.0.0.1"))[r.IntN(len(labAddresses)+3)]
	}
	return m
}

func servicePorts(w *rules.World) []rules.ServicePort {
	var all []rules.ServicePort
	for _, s := range w.Services {
		all = append(all, s.Ports...)
	}
	return all
}

// podAddresses are those of the pods of our node.
func podAddresses(w *rules.World) []netip.Addr {
	var all []netip.Addr
	for _, p := range servicePorts(w) {
		for _, e := range p.Endpoints {
			all = append(all, e.Addr.Addr())
		}
	}
	for _, p := range w.Pods {
		for _, a := range p.Addresses {
			all = append(all, a.Addr())
		}
	}
	return slices.DeleteFunc(all, func(a netip.Addr) bool {
		return !slices.ContainsFunc(podNets, func(n netip.Prefix) bool { return n.Contains(a) })
	})
}

// drawPacket draws a packet to something that there is, or nearly; ok is false where the kernel has no such sockets.
func drawPacket(r *rand.Rand, w *rules.World) (walk.Packet, bool) {
	to, protocol := drawDestination(r, w)
	i := map[bool]int{true: 0, false: 1}[to.Addr().Is4()]
	p := walk.Packet{Dst: to, Protocol: protocol}
	from := outsideAddrs[i]
	switch n := r.IntN(4); {
	case to.Addr().IsLoopback():
		from = to.Addr()
	case n == 0:
		from = []netip.Addr{labAddresses[0], labAddresses[4]}[i]
	case n == 1:
		p.In, p.Bridged, from = "cni0", true, senderAddrs[i]
	default:
		p.In = "eth0"
	}
	p.Src = netip.AddrPortFrom(from, uint16(50000+r.IntN(1000))) // of TCP the kernel chooses another one
	return p, protocol != ports.SCTP && !to.Addr().IsLinkLocalUnicast()
}

func drawDestination(r *rand.Rand, w *rules.World) (netip.AddrPort, ports.Protocol) {
	node := append(slices.Clone(labAddresses), netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback())
	on := node[r.IntN(len(node))]
	if len(w.Services) == 0 || r.IntN(4) == 0 {
		p := w.Pods[r.IntN(len(w.Pods))]
		m := p.Mappings[r.IntN(len(p.Mappings))]
		return netip.AddrPortFrom(on, m.HostPort), m.Protocol
	}
	s := w.Services[r.IntN(len(w.Services))]
	p := s.Ports[r.IntN(len(s.Ports))]
	if p.NodePort != 0 && r.IntN(2) == 0 {
		return netip.AddrPortFrom(on, p.NodePort), p.Protocol
	}
	all := slices.Concat(s.ClusterIPs, s.ExternalIPs, s.LoadBalancerIPs)
	port := p.Port
	if r.IntN(6) == 0 {
		port = 99
	}
	return netip.AddrPortFrom(all[r.IntN(len(all))], port), p.Protocol
}
