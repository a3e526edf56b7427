package text

import (
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

func (t *nftParsed) address(data json.RawMessage) (netip.Addr, error) {
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return netip.Addr{}, fmt.Errorf("%s is not an address", data)
	}
	a, err := netip.ParseAddr(s)
	if err != nil || !t.Family.Has(a) || a.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("%s is not an address of %s", data, t.Family)
	}
	return a, nil
}

func (t *nftParsed) prefixes(right []json.RawMessage) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, data := range right {
		in, err := t.prefix(data)
		if err != nil {
			return nil, err
		}
		out = append(out, in...)
	}
	return out, nil
}

// prefix reads an address, a network, or a range, as which nft writes networks that touch each other.
func (t *nftParsed) prefix(data json.RawMessage) ([]netip.Prefix, error) {
	var o struct {
		Prefix *struct {
			Addr json.RawMessage
			Len  int
		}
		Range []json.RawMessage
	}
	if strictly(data, &o) != nil {
		a, err := t.address(data)
		return []netip.Prefix{netip.PrefixFrom(a, a.BitLen())}, err
	}
	if o.Prefix != nil {
		a, err := t.address(o.Prefix.Addr)
		p := netip.PrefixFrom(a, o.Prefix.Len)
		if err == nil && !p.IsValid() {
			err = fmt.Errorf("%s is no network", data)
		}
		return []netip.Prefix{p.Masked()}, err
	}
	if len(o.Range) != 2 {
		return nil, fmt.Errorf("%s is not an address", data)
	}
	first, err := t.address(o.Range[0])
	if err != nil {
		return nil, err
	}
	last, err := t.address(o.Range[1])
	return networks(first, last), err
}

// networks returns the fewest networks that are all addresses from first to last.
func networks(first, last netip.Addr) []netip.Prefix {
	var out []netip.Prefix
	for first.IsValid() && first.Compare(last) <= 0 {
		p := netip.PrefixFrom(first, first.BitLen())
		for p.Bits() > 0 {
			wider := netip.PrefixFrom(first, p.Bits()-1).Masked()
			if wider.Addr() != first || lastOf(wider).Compare(last) > 0 {
				break
			}
			p = wider
		}
		out = append(out, p)
		first = lastOf(p).Next()
	}
	return out
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b) // the length is right
	return a
}

// element reads an element of a set, or with its verdict of a map.
func (t *nftParsed) element(s *rules.Set, data json.RawMessage) (rules.Elem, error) {
	var e rules.Elem
	if s.IsMap {
		var pair []json.RawMessage
		if json.Unmarshal(data, &pair) != nil || len(pair) != 2 {
			return e, fmt.Errorf("unknown element %s", data)
		}
		var err error
		if e.Verdict, err = t.verdict(pair[1]); err != nil {
			return e, err
		}
		data = pair[0]
	}
	var o struct {
		Elem *struct {
			Val              json.RawMessage
			Comment          string
			Timeout, Expires int
		}
		Concat []json.RawMessage
	}
	if strictly(data, &o) == nil && o.Elem != nil {
		data, e.Comment = o.Elem.Val, o.Elem.Comment
		o.Concat = nil
		_ = strictly(data, &o) // else it is an address
	}
	parts := o.Concat
	if parts == nil {
		parts = []json.RawMessage{data}
	}
	var err error
	e.Key, err = t.key(s.Fields, parts)
	return e, err
}

func (t *nftParsed) key(fields []rules.Field, parts []json.RawMessage) (rules.Key, error) {
	var k rules.Key
	if len(parts) != len(fields) {
		return k, fmt.Errorf("an element with %d parts", len(parts))
	}
	for i, f := range fields {
		switch f {
		case rules.SrcAddr, rules.DstAddr:
			a, err := t.address(parts[i])
			if err != nil {
				return k, err
			}
			if k.Addr.IsValid() {
				k.With = netip.PrefixFrom(a, a.BitLen())
			} else {
				k.Addr = a
			}
		case rules.L4Proto:
			var name string
			_ = json.Unmarshal(parts[i], &name) // else it is unknown
			p, ok := nftProtocol(name)
			if !ok {
				return k, fmt.Errorf("unknown protocol %s", parts[i])
			}
			k.Protocol = p
		case rules.DstPort:
			if err := json.Unmarshal(parts[i], &k.Port); err != nil {
				return k, fmt.Errorf("%s is not a port", parts[i])
			}
		}
	}
	return k, nil
}
