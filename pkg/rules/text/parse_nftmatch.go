package text

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

// selector is what a match or key looks at.
type selector struct {
	Payload struct{ Protocol, Field string }
	Meta    struct{ Key string }
	CT      struct{ Key string } `json:"ct"`
	Fib     struct {
		Result string
		Flags  oneOrMore
	}
}

func (t *nftParsed) field(data json.RawMessage) (rules.Field, bool) {
	var s selector
	if strictly(data, &s) != nil {
		return 0, false
	}
	switch name := s.Payload.Protocol + " " + s.Payload.Field; {
	case name == nftFamily(t.Family)+" saddr":
		return rules.SrcAddr, true
	case name == nftFamily(t.Family)+" daddr":
		return rules.DstAddr, true
	case name == "th dport":
		return rules.DstPort, true
	case s.Meta.Key == "l4proto":
		return rules.L4Proto, true
	default:
		return 0, false
	}
}

func (t *nftParsed) match(data json.RawMessage) ([]rules.Stmt, error) {
	var o struct {
		Op          string
		Left, Right json.RawMessage
	}
	unknown := fmt.Errorf(`unknown expression "match": %s`, data)
	if strictly(data, &o) != nil || o.Op != "==" && o.Op != "!=" && o.Op != "in" {
		return nil, unknown
	}
	not := o.Op == "!="
	var set string
	if json.Unmarshal(o.Right, &set) == nil && strings.HasPrefix(set, "@") {
		fields, err := t.lookup(set[1:], o.Left)
		return []rules.Stmt{rules.InSet{Fields: fields, Set: set[1:], Not: not}}, err
	}
	if m, ok := markMatch(o.Left, o.Right, not); ok {
		return []rules.Stmt{m}, nil
	}
	var left selector
	if strictly(o.Left, &left) != nil {
		return nil, unknown
	}
	right := values(o.Right)
	do, err := t.compare(left, right, not)
	if err != nil || do == nil || len(right) == 0 {
		return nil, unknown
	}
	return do, nil
}

// values returns what a field is compared with: one, a set, or a list of flags.
func values(data json.RawMessage) []json.RawMessage {
	var set struct{ Set []json.RawMessage }
	if strictly(data, &set) == nil && set.Set != nil {
		return set.Set
	}
	var list []json.RawMessage
	if json.Unmarshal(data, &list) == nil && list != nil {
		return list
	}
	return []json.RawMessage{data}
}

// compare returns nil for a comparison that is not known.
func (t *nftParsed) compare(left selector, right []json.RawMessage, not bool) ([]rules.Stmt, error) {
	payload := left.Payload.Protocol + " " + left.Payload.Field
	one := ""
	if len(right) == 1 {
		_ = json.Unmarshal(right[0], &one) // else it is no word
	}
	switch {
	case payload == nftFamily(t.Family)+" saddr":
		in, err := t.prefixes(right)
		return []rules.Stmt{rules.Addr{Side: rules.Source, In: in, Not: not}}, err
	case payload == nftFamily(t.Family)+" daddr":
		in, err := t.prefixes(right)
		return []rules.Stmt{rules.Addr{Side: rules.Destination, In: in, Not: not}}, err
	case left.Payload.Field == "dport" && !not:
		return portMatch(left.Payload.Protocol, right)
	case left.Meta.Key == "l4proto" && !not:
		if p, ok := nftProtocol(one); ok {
			return []rules.Stmt{rules.Proto{Is: p}}, nil
		}
	case left.Meta.Key == "iifname" && one != "":
		name, prefix := strings.CutSuffix(one, "*")
		return []rules.Stmt{rules.InInterface{Name: name, Prefix: prefix, Not: not}}, nil
	case left.CT.Key == "status" && one == "dnat" && !not:
		return []rules.Stmt{rules.CTStatusDNAT{}}, nil
	case left.CT.Key == "state":
		return ctState(right, not)
	case left.Fib.Result == "type" && one == "local":
		for _, side := range []rules.Side{rules.Source, rules.Destination} {
			if slices.Equal(left.Fib.Flags, oneOrMore{nftAddress(side)}) {
				return []rules.Stmt{rules.AddrLocal{Side: side, Not: not}}, nil
			}
		}
	}
	return nil, nil
}

func portMatch(header string, right []json.RawMessage) ([]rules.Stmt, error) {
	var is rules.Port
	for _, data := range right {
		var port uint16
		if err := json.Unmarshal(data, &port); err != nil {
			return nil, err
		}
		is.Is = append(is.Is, port)
	}
	if header == "th" {
		return []rules.Stmt{is}, nil
	}
	p, ok := nftProtocol(header)
	if !ok {
		return nil, nil
	}
	return []rules.Stmt{rules.Proto{Is: p}, is}, nil
}

func nftProtocol(name string) (ports.Protocol, bool) {
	for _, p := range ports.Protocols() {
		if name == protocol(p) {
			return p, true
		}
	}
	return 0, false
}

func ctState(right []json.RawMessage, not bool) ([]rules.Stmt, error) {
	s := rules.CTState{Not: not}
	for _, data := range right {
		var state string
		if err := json.Unmarshal(data, &state); err != nil {
			return nil, err
		}
		if state = strings.ToUpper(state); !slices.Contains(ctStates(), state) {
			return nil, nil
		}
		s.In = append(s.In, state)
	}
	slices.SortFunc(s.In, func(a, b string) int { return slices.Index(ctStates(), a) - slices.Index(ctStates(), b) })
	return []rules.Stmt{s}, nil
}

// isMark reports whether that is the packet's mark.
func isMark(data json.RawMessage) bool {
	var s selector
	return strictly(data, &s) == nil && s.Meta.Key == "mark"
}

// operation takes an expression like {"&": [left, number]} apart.
func operation(data json.RawMessage) (operator string, left json.RawMessage, n uint32, ok bool) {
	operator, value, err := single(data)
	var sides []json.RawMessage
	if err != nil || json.Unmarshal(value, &sides) != nil || len(sides) != 2 || json.Unmarshal(sides[1], &n) != nil {
		return "", nil, 0, false
	}
	return operator, sides[0], n, true
}

// markMatch reads "meta mark & mask == value". A mask of leading ones is listed as a prefix.
func markMatch(left, right json.RawMessage, not bool) (rules.Stmt, bool) {
	m := rules.Mark{Mask: math.MaxUint32, Not: not}
	var o struct {
		Prefix struct {
			Addr json.RawMessage
			Len  int
		}
	}
	if operator, inner, mask, ok := operation(left); ok && operator == "&" {
		left, m.Mask = inner, mask
	} else if strictly(right, &o) == nil && 0 < o.Prefix.Len && o.Prefix.Len <= 32 {
		right, m.Mask = o.Prefix.Addr, math.MaxUint32<<(32-o.Prefix.Len)
	}
	if !isMark(left) || json.Unmarshal(right, &m.Value) != nil {
		return nil, false
	}
	return m, true
}

// mangle reads what is done to a mark: "and" first, if at all, then "or" or "xor".
func (t *nftParsed) mangle(data json.RawMessage) (rules.Stmt, error) {
	unknown := fmt.Errorf(`unknown expression "mangle": %s`, data)
	var o struct{ Key, Value json.RawMessage }
	if strictly(data, &o) != nil || !isMark(o.Key) {
		return nil, unknown
	}
	operator, left, n, ok := operation(o.Value)
	kept := uint32(math.MaxUint32)
	if op, inner, mask, is := operation(left); ok && is && op == "&" {
		left, kept = inner, mask
	}
	switch {
	case !ok || !isMark(left):
		return nil, unknown
	case operator == "&":
		return rules.SetMark{Mask: ^(kept & n)}, nil
	case operator == "|":
		return rules.SetMark{Value: n, Mask: ^kept | n}, nil
	case operator == "^":
		return rules.SetMark{Value: n, Mask: ^kept}, nil
	default:
		return nil, unknown
	}
}
