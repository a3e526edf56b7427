//go:build linux

package dataplane

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
	"github.com/portcullis-k8s/portcullis/pkg/rules/text"
	"github.com/portcullis-k8s/portcullis/pkg/rules/walk"
	"github.com/portcullis-k8s/portcullis/test/lab/netns"
)

// lab is a node with rules of ours in the kernel, and who talks to it: a client outside, who is also all pods of other
// nodes, and behind the node's bridge a pod that sends, and one that is all other pods. Whoever is asked says who he is.
type lab struct {
	node, outside, sender, pods *netns.Namespace
	listening                   map[socket]bool
	whole                       testing.TB // the test that the lab lives for
}

type socket struct {
	at   *netns.Namespace
	port uint16
}

// The addresses of the lab. The pods' are those of the node n1 in Draw.
var (
	labAddresses = labAddrs("192.0.2.1", "192.0.2.11", "10.244.1.1", "203.0.113.1", "2001:db8::1", "2001:db8::11", "fd00:10:244:1::1")
	labRoutes    = []walk.Route{
		{To: netip.MustParsePrefix("0.0.0.0/0"), Interface: "eth0", Source: labAddresses[0]},
		{To: netip.MustParsePrefix("10.244.1.0/24"), Interface: "cni0", Source: labAddresses[2]},
		{To: netip.MustParsePrefix("::/0"), Interface: "eth0", Source: labAddresses[4]},
		{To: netip.MustParsePrefix("fd00:10:244:1::/64"), Interface: "cni0", Source: labAddresses[6]},
	}
	outsideAddrs = labAddrs("192.0.2.2", "2001:db8::2")
	senderAddrs  = labAddrs("10.244.1.250", "fd00:10:244:1::fffa")
	podNets      = []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("fd00:10:244:1::/64")}
	allPodNets   = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/48")}
)

func labAddrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func newLab(t testing.TB) *lab {
	t.Helper()
	l := &lab{netns.New(t), netns.New(t), netns.New(t), netns.New(t), map[socket]bool{}, t}
	quiet := []string{"net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0", "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0"}
	for _, n := range []*netns.Namespace{l.outside, l.sender, l.pods} {
		n.Run(t, "", "sysctl", append([]string{"-qw"}, quiet...)...)
	}
	l.node.Run(t, "", "sysctl", append([]string{"-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0"}, quiet...)...)
	batch(t, l.node,
		"link add eth0 type veth peer name eth0 netns "+l.outside.Path(),
		"link add cni0 type bridge forward_delay 0 mcast_snooping 0",
		"link add veth0 type veth peer name eth0 netns "+l.pods.Path(), "link add veth1 type veth peer name eth0 netns "+l.sender.Path(),
		"link set veth0 master cni0", "link set veth1 master cni0",
		"link set eth0 up", "link set cni0 up", "link set veth0 up", "link set veth1 up",
		"addr add 192.0.2.1/24 dev eth0", "addr add 192.0.2.11/24 dev eth0", "addr add 203.0.113.1/32 dev eth0", "addr add 10.244.1.1/24 dev cni0",
		"addr add 2001:db8::1/64 dev eth0 nodad", "addr add 2001:db8::11/64 dev eth0 nodad preferred_lft 0", "addr add fd00:10:244:1::1/64 dev cni0 nodad",
	)
	batch(t, l.outside, "link set eth0 up", "addr add 192.0.2.2/24 dev eth0", "addr add 2001:db8::2/64 dev eth0 nodad",
		"route add 10.244.1.0/24 via 192.0.2.1", "route add local 10.244.0.0/16 dev eth0 table main", "route add default via 192.0.2.1 src 192.0.2.2",
		"-6 route add fd00:10:244:1::/64 via 2001:db8::1", "-6 route add local fd00:10:244::/48 dev eth0 table main", "-6 route add default via 2001:db8::1 src 2001:db8::2",
	)
	batch(t, l.sender, "link set eth0 up", "addr add 10.244.1.250/24 dev eth0", "addr add fd00:10:244:1::fffa/64 dev eth0 nodad",
		"route add default via 10.244.1.1", "-6 route add default via fd00:10:244:1::1")
	batch(t, l.pods, "link set eth0 up", "addr add 10.244.1.251/24 dev eth0", "addr add fd00:10:244:1::fffb/64 dev eth0 nodad",
		"route add default via 10.244.1.1", "-6 route add default via fd00:10:244:1::1")
	batch(t, l.node, "route add default via 192.0.2.2 src 192.0.2.1", "-6 route add default via 2001:db8::2 src 2001:db8::1")
	l.awaitLinks(t)
	return l
}

// awaitLinks waits until everybody can be reached: links and bridges are up some time after they were told to be.
func (l *lab) awaitLinks(t testing.TB) {
	t.Helper()
	for _, n := range []*netns.Namespace{l.outside, l.sender, l.pods} {
		l.listen(t, n, awaited)
	}
	l.await(t, slices.Concat(outsideAddrs, senderAddrs, labAddrs("10.244.1.251", "fd00:10:244:1::fffb"))...)
}

// awaited is the port on which everybody answers from the beginning.
const awaited = 7

func (l *lab) await(t testing.TB, addrs ...netip.Addr) {
	t.Helper()
	for _, a := range addrs {
		from := labAddresses[map[bool]int{true: 0, false: 4}[a.Is4()]]
		p := walk.Packet{Src: netip.AddrPortFrom(from, 0), Dst: netip.AddrPortFrom(a, awaited), Protocol: ports.TCP}
		r, err := l.sendPatiently(p, 10*patience)
		if r.what != "answered" {
			t.Fatalf("%s does not answer: %s %v", a, r, err)
		}
	}
}

// batch gives lines to ip; those that begin with -6 to that of IPv6, behind the others.
func batch(t testing.TB, n *netns.Namespace, lines ...string) {
	t.Helper()
	var v4, v6 string
	for _, line := range lines {
		if after, ok := strings.CutPrefix(line, "-6 "); ok {
			v6 += after + "\n"
		} else {
			v4 += line + "\n"
		}
	}
	n.Run(t, v4, "ip", "-batch", "-")
	n.Run(t, v6, "ip", "-6", "-batch", "-")
}

// isPod gives addresses to the pod that is all pods of the node. That is best done before rules are loaded.
func (l *lab) isPod(t testing.TB, addrs ...netip.Addr) {
	t.Helper()
	var lines []string
	for _, a := range addrs {
		lines = append(lines, fmt.Sprintf("addr replace %s/%d dev eth0 nodad", a, a.BitLen()))
	}
	batch(t, l.pods, lines...)
	l.await(t, addrs...)
}

// host is what the walker is told of the node.
func (l *lab) host(routeLocalnet ...string) walk.Host {
	return walk.Host{Addresses: labAddresses, Routes: labRoutes, RouteLocalnet: routeLocalnet}
}

func (l *lab) routeLocalnet(t testing.TB, on ...string) {
	t.Helper()
	for _, name := range []string{"all", "cni0"} {
		l.node.Run(t, "", "sysctl", "-qw", fmt.Sprintf("net.ipv4.conf.%s.route_localnet=%d", name, map[bool]int{true: 1}[slices.Contains(on, name)]))
	}
}

// load puts a ruleset into the kernel, table by table in the order in which their base chains were registered.
func (l *lab) load(t testing.TB, rs *rules.Ruleset) {
	t.Helper()
	tables := slices.Clone(rs.Tables)
	slices.SortStableFunc(tables, func(a, b *rules.Table) int { return cmp.Compare(registered(a), registered(b)) })
	for _, table := range tables {
		only := &rules.Ruleset{Tables: []*rules.Table{table}, IPSets: rs.IPSets}
		if table.Tool == rules.NFTables {
			l.node.Run(t, text.NFT(only), "nft", "-f", "-")
			continue
		}
		program := map[bool]string{true: "iptables", false: "ip6tables"}[table.Family == rules.IPv4] +
			map[bool]string{true: "-legacy", false: "-nft"}[table.Tool == rules.XTablesLegacy] + "-restore"
		l.node.Run(t, text.Restore(only, table.Tool, table.Family), program)
	}
}

// registered says when the first base chain of a table was.
func registered(t *rules.Table) int {
	first := 0
	for _, c := range t.Chains {
		if c.Base != nil && (first == 0 || c.Base.Seq < first) {
			first = c.Base.Seq
		}
	}
	return first
}

func (l *lab) clear(t testing.TB) {
	t.Helper()
	l.node.Run(t, "", "nft", "flush", "ruleset")
}

// listen has somebody answer TCP on a port.
func (l *lab) listen(t testing.TB, at *netns.Namespace, port uint16) {
	t.Helper()
	if port == 0 || l.listening[socket{at, port}] {
		return
	}
	l.listening[socket{at, port}] = true
	err := at.Do(func() error {
		s, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err == nil {
			l.whole.Cleanup(func() { s.Close() })
			go answer(s)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func answer(s net.Listener) {
	for {
		c, err := s.Accept()
		if err != nil {
			return
		}
		fmt.Fprintf(c, "%s %s", c.LocalAddr(), c.RemoteAddr())
		c.Close()
	}
}

// reply is what came of a connection.
type reply struct {
	what string         // answered, refused, silence
	at   netip.AddrPort // who answered, as he says
	from netip.Addr     // whom he saw
}

func (r reply) String() string {
	if r.what != "answered" {
		return r.what
	}
	return fmt.Sprintf("answered by %s to %s", r.at, r.from)
}

// patience is shorter than the time after which TCP sends its first packet again.
const patience = 400 * time.Millisecond

// listenUDP has a pod answer datagrams that come to an address.
func (l *lab) listenUDP(t testing.TB, at *netns.Namespace, on netip.AddrPort) {
	t.Helper()
	err := at.Do(func() error {
		s, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(on))
		if err == nil {
			l.whole.Cleanup(func() { s.Close() })
			go func() {
				for buf := make([]byte, 16); ; {
					_, from, err := s.ReadFromUDPAddrPort(buf)
					if err != nil {
						return
					}
					_, _ = s.WriteToUDPAddrPort(fmt.Appendf(nil, "%s %s", on, from), from) // the client says what he misses
				}
			}()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// send opens a connection, or for UDP sends a datagram, and waits for what comes of it.
func (l *lab) send(p walk.Packet) (reply, error) { return l.sendPatiently(p, patience) }

func (l *lab) sendPatiently(p walk.Packet, patience time.Duration) (reply, error) {
	var from net.Addr = &net.TCPAddr{IP: p.Src.Addr().AsSlice()}
	network := "tcp"
	if p.Protocol == ports.UDP {
		from, network = net.UDPAddrFromAddrPort(p.Src), "udp"
	}
	r := reply{what: "silence"}
	err := l.of(p).Do(func() error {
		d := net.Dialer{LocalAddr: from, Timeout: patience, KeepAlive: -1}
		if network == "udp" {
			d.Timeout = 0 // there is nothing to wait for
		}
		c, err := d.Dial(network, p.Dst.String())
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		if network == "udp" {
			if _, err := c.Write([]byte("who?")); err != nil {
				return err
			}
		}
		said := make([]byte, 200)
		n, err := c.Read(said) // what is said is less than a packet
		if err != nil {
			return err
		}
		at, seen, _ := strings.Cut(string(said[:n]), " ")
		r = reply{"answered", unmapped(at), unmapped(seen).Addr()}
		return nil
	})
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return reply{what: "refused"}, nil
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EINVAL):
		return r, nil // dropped, or on the way out
	}
	return r, err
}

func unmapped(s string) netip.AddrPort {
	a := netip.MustParseAddrPort(s)
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// of returns where a packet is sent.
func (l *lab) of(p walk.Packet) *netns.Namespace {
	switch p.In {
	case "":
		return l.node
	case "cni0":
		return l.sender
	default:
		return l.outside
	}
}

// predicted is what a path says of the connection; ok is false where nobody has the address.
func (l *lab) predicted(t testing.TB, sender *netns.Namespace, p walk.Path) (r reply, ok bool) {
	t.Helper()
	switch {
	case p.Verdict == walk.Drop || p.Martian:
		return reply{what: "silence"}, true
	case p.Verdict == walk.Reject:
		return reply{what: "refused"}, true
	}
	who := l.owner(p)
	if who == nil || !p.Local && !p.Masquerade && who == sender { // nobody, or he whom answers would not have to cross the node for
		return reply{}, false
	}
	l.listen(t, who, p.Destination.Port())
	return reply{"answered", p.Destination, p.Source.Addr()}, true
}

func (l *lab) owner(p walk.Path) *netns.Namespace {
	a := p.Destination.Addr()
	in := func(nets []netip.Prefix) bool {
		return slices.ContainsFunc(nets, func(n netip.Prefix) bool { return n.Contains(a) })
	}
	switch {
	case p.Local:
		return l.node
	case slices.Contains(senderAddrs, a):
		return l.sender
	case in(podNets):
		return l.pods
	case in(allPodNets), slices.Contains(outsideAddrs, a):
		return l.outside
	}
	return nil
}
