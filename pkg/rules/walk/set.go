package walk

import (
	"net/netip"
	"strings"

	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

// set finds elements by what packets have in their fields.
type set struct {
	is    *rules.Set
	exact map[rules.Key]int
	nets  map[rules.Key][]int // elements with a network, by the rest of their key
}

func newSet(is *rules.Set) *set {
	s := &set{is: is, exact: make(map[rules.Key]int, len(is.Elems))}
	for i := range is.Elems {
		k := is.Elems[i].Key
		if !k.With.IsValid() || k.With.IsSingleIP() {
			s.exact[k] = i
			continue
		}
		k.With = netip.Prefix{}
		if s.nets == nil {
			s.nets = map[rules.Key][]int{}
		}
		s.nets[k] = append(s.nets[k], i)
	}
	return s
}

// lookup returns the element of a key; nil if there is none.
func (s *set) lookup(k rules.Key) *rules.Elem {
	if i, ok := s.exact[k]; ok {
		return &s.is.Elems[i]
	}
	if s.nets == nil {
		return nil
	}
	with := k.With.Addr()
	k.With = netip.Prefix{}
	for _, i := range s.nets[k] {
		if s.is.Elems[i].Key.With.Contains(with) {
			return &s.is.Elems[i]
		}
	}
	return nil
}

// key makes a set's key of a packet's fields. Of two addresses the first one named is Addr and the second With. An ipset
// of a type with addresses and ports has protocols without being asked, and a bitmap has none (ipset(8)).
func (s *set) key(fields []rules.Field, p *state) rules.Key {
	var k rules.Key
	for _, f := range fields {
		switch f {
		case rules.SrcAddr:
			putAddr(&k, p.src.Addr())
		case rules.DstAddr:
			putAddr(&k, p.dst.Addr())
		case rules.L4Proto:
			k.Protocol = p.protocol
		case rules.DstPort:
			k.Port = p.dst.Port()
		}
	}
	switch {
	case strings.HasPrefix(s.is.Type, "bitmap:"):
		k.Protocol = 0
	case strings.Contains(s.is.Type, ",port"):
		k.Protocol = p.protocol
	}
	return k
}

func putAddr(k *rules.Key, a netip.Addr) {
	if k.Addr.IsValid() {
		k.With = netip.PrefixFrom(a, a.BitLen())
	} else {
		k.Addr = a
	}
}
