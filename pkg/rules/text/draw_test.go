package text

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
)

// rounds runs a test with random input, over and over.
func rounds(t *testing.T, n int, do func(t *testing.T, d draw)) {
	t.Helper()
	d := draw{seed.Rand(t)}
	for range seed.Rounds(n, n*50) {
		do(t, d)
	}
}

// draw makes up statements, as the renderers of kube-proxy and portmap use them and otherwise.
type draw struct{ *rand.Rand }

func (d draw) bool() bool { return d.IntN(2) == 0 }

func pick[T any](d draw, of ...T) T { return of[d.IntN(len(of))] }

func (d draw) some(n int) int { return 1 + d.IntN(n) }

func (d draw) addr(f rules.Family) netip.Addr {
	if f == rules.IPv4 {
		return netip.AddrFrom4([4]byte{10, byte(d.IntN(2)), byte(d.IntN(256)), byte(d.IntN(256))})
	}
	return netip.AddrFrom16([16]byte{0: 0xfd, 7: byte(d.IntN(2)), 14: byte(d.IntN(256)), 15: byte(d.IntN(256))})
}

func (d draw) prefix(f rules.Family) netip.Prefix {
	a := d.addr(f)
	return netip.PrefixFrom(a, pick(d, a.BitLen(), d.some(a.BitLen()))).Masked()
}

func (d draw) addrPort(f rules.Family) netip.AddrPort { return netip.AddrPortFrom(d.addr(f), d.port()) }

func (d draw) port() uint16 { return uint16(d.some(65535)) }

func (d draw) ports(n int) []uint16 {
	out := make([]uint16, n)
	for i := range out {
		out[i] = d.port()
	}
	return out
}

func (d draw) protocol() ports.Protocol { return pick(d, ports.TCP, ports.UDP, ports.SCTP) }

func (d draw) side() rules.Side { return pick(d, rules.Source, rules.Destination) }

// mark draws what a rule does to, or asks of, a mark.
func (d draw) mark() (value, mask uint32) {
	bit := uint32(1) << d.IntN(32)
	value, mask = pick(d, bit, d.Uint32()), bit
	return value, pick(d, mask, value, 0, d.Uint32(), ^uint32(0))
}

// states draws states of connections in the order in which they are printed.
func (d draw) states(of ...string) []string {
	for {
		var out []string
		for _, s := range of {
			if d.bool() {
				out = append(out, s)
			}
		}
		if out != nil {
			return out
		}
	}
}

func (d draw) interfaceName(not bool) rules.InInterface {
	return rules.InInterface{Name: pick(d, "cni0", "eth0", "veth"), Prefix: d.bool(), Not: not}
}

func chainNames(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("CHAIN-%02d", i)
	}
	return out
}

func newRand() *rand.Rand { return rand.New(rand.NewPCG(rand.Uint64(), 0)) }
