package walk

import (
	"net/netip"
	"slices"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

// tuple is what most rules ask of a packet; what a rule does not ask is zero.
type tuple struct {
	addr     netip.Addr // of the destination
	port     uint16
	protocol ports.Protocol
}

// shape says which parts of a tuple a rule asks.
type shape struct{ addr, port, protocol bool }

func (t tuple) shape() shape { return shape{t.addr.IsValid(), t.port != 0, t.protocol != 0} }

// of returns what rules of the shape ask of a packet with the tuple t.
func (sh shape) of(t tuple) tuple {
	if !sh.addr {
		t.addr = netip.Addr{}
	}
	if !sh.port {
		t.port = 0
	}
	if !sh.protocol {
		t.protocol = 0
	}
	return t
}

// index finds the rules of a chain that can match a packet: kube-proxy writes a rule for every Service into one chain.
type index struct {
	shapes []shape
	rules  map[tuple][]int32 // in order
}

// worthIndexing is how many rules a chain must have before it has an index.
const worthIndexing = 8

func newIndex(list []*rules.Rule) *index {
	if len(list) < worthIndexing {
		return nil
	}
	x := &index{rules: make(map[tuple][]int32, len(list))}
	for i, r := range list {
		x.add(asks(r), int32(i))
	}
	return x
}

func (x *index) add(a asked, i int32) {
	t := tuple{protocol: a.protocol}
	for n := range max(1, len(a.addrs)) {
		if len(a.addrs) > 0 {
			t.addr = a.addrs[n]
		}
		for m := range max(1, len(a.ports)) {
			if len(a.ports) > 0 {
				t.port = a.ports[m]
			}
			x.put(t, i)
		}
	}
}

func (x *index) put(t tuple, i int32) {
	if list := x.rules[t]; len(list) == 0 || list[len(list)-1] != i {
		x.rules[t] = append(list, i)
	}
	if sh := t.shape(); !slices.Contains(x.shapes, sh) {
		x.shapes = append(x.shapes, sh)
	}
}

// next returns the first rule at or behind position from that can match the packet; -1 if none can.
func (x *index) next(from int, t tuple) int {
	best := int32(-1)
	for _, sh := range x.shapes {
		list := x.rules[sh.of(t)]
		i, _ := slices.BinarySearch(list, int32(from))
		if i < len(list) && (best < 0 || list[i] < best) {
			best = list[i]
		}
	}
	return int(best)
}

// next returns the next rule of a chain to be tried; -1 at its end.
func (c *chain) next(from int, t tuple) int {
	if c.index != nil {
		return c.index.next(from, t)
	}
	if from < len(c.is.Rules) {
		return from
	}
	return -1
}

// asked is the destinations that a rule can match; what is empty is all.
type asked struct {
	addrs    []netip.Addr
	ports    []uint16
	protocol ports.Protocol
}

// asks looks at the matches that a rule begins with: behind an effect or a choice, a rule that does not match has done
// something already.
func asks(r *rules.Rule) asked {
	var a asked
	for _, s := range r.Do {
		switch s := s.(type) {
		case rules.Proto:
			a.protocol = s.Is
		case rules.Port:
			if len(a.ports) == 0 && !slices.Contains(s.Is, 0) {
				a.ports = s.Is
			}
		case rules.Addr:
			if a.addrs == nil && s.Side == rules.Destination && !s.Not {
				a.addrs = single(s.In)
			}
		case rules.Statistic, rules.SetMark, rules.Update, rules.Recent:
			return a
		}
	}
	return a
}

// single returns the addresses of prefixes that are one address each; nil if one is more.
func single(prefixes []netip.Prefix) []netip.Addr {
	var addrs []netip.Addr
	for _, p := range prefixes {
		if !p.IsSingleIP() {
			return nil
		}
		addrs = append(addrs, p.Addr())
	}
	return addrs
}
