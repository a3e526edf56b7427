package text

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

// single takes an object with one field apart, which is how nft writes everything that has a kind.
func single(data json.RawMessage) (kind string, value json.RawMessage, err error) {
	var o map[string]json.RawMessage
	if err := json.Unmarshal(data, &o); err != nil || len(o) != 1 {
		return "", nil, fmt.Errorf("unknown expression %s", data)
	}
	for kind, value = range o {
	}
	return kind, value, nil
}

// expression returns the statements that stand for an expression of a rule.
func (t *nftParsed) expression(data json.RawMessage) ([]rules.Stmt, error) {
	kind, value, err := single(data)
	if err != nil {
		return nil, err
	}
	var s rules.Stmt
	switch kind {
	case "counter":
		return nil, nil
	case "match":
		return t.match(value)
	case "mangle":
		s, err = t.mangle(value)
	case "vmap":
		s, err = t.vmap(value)
	case "set":
		s, err = t.update(value)
	default:
		s, err = t.verdict(data)
	}
	return []rules.Stmt{s}, err
}

// verdict reads a verdict, also that of a map's element.
func (t *nftParsed) verdict(data json.RawMessage) (rules.Stmt, error) {
	kind, value, err := single(data)
	if err != nil {
		return nil, err
	}
	unknown := fmt.Errorf("unknown expression %q: %s", kind, value)
	if string(value) == "null" {
		switch kind {
		case "accept":
			return rules.Accept{}, nil
		case "drop":
			return rules.Drop{}, nil
		case "return":
			return rules.Return{}, nil
		case "reject":
			return rules.Reject{}, nil
		case "masquerade":
			return rules.Masquerade{}, nil
		}
		return nil, unknown
	}
	var o struct {
		Target string
		Flags  oneOrMore
		Port   uint16
		Type   string
		Expr   string
	}
	if kind == "dnat" {
		return t.dnat(value)
	}
	if err := strictly(value, &o); err != nil {
		return nil, unknown
	}
	switch {
	case kind == "jump" && t.Chain(o.Target) != nil:
		return rules.Jump{Chain: o.Target}, nil
	case kind == "goto" && t.Chain(o.Target) != nil:
		return rules.Goto{Chain: o.Target}, nil
	case kind == "reject" && o.Type == rejectType(t.Family) && o.Expr == "port-unreachable":
		return rules.Reject{}, nil
	case kind == "masquerade" && slices.Equal(o.Flags, oneOrMore{"fully-random"}) && o.Port == 0:
		return rules.Masquerade{Random: true}, nil
	case kind == "redirect" && o.Port != 0 && o.Flags == nil:
		return rules.Redirect{Port: o.Port}, nil
	default:
		return nil, unknown
	}
}

func rejectType(f rules.Family) string {
	if f == rules.IPv4 {
		return "icmp"
	}
	return "icmpv6"
}

func (t *nftParsed) dnat(data json.RawMessage) (rules.Stmt, error) {
	var o struct {
		Family string
		Addr   json.RawMessage
		Port   uint16
	}
	unknown := fmt.Errorf(`unknown expression "dnat": %s`, data)
	if strictly(data, &o) != nil || o.Family != "" && o.Family != nftFamily(t.Family) {
		return nil, unknown
	}
	if o.Port != 0 {
		a, err := t.address(o.Addr)
		return rules.DNAT{To: []netip.AddrPort{netip.AddrPortFrom(a, o.Port)}}, err
	}
	kind, value, err := single(o.Addr)
	if err != nil || kind != "map" {
		return nil, unknown
	}
	random, err := numbered(value)
	if err != nil {
		return nil, err
	}
	var out rules.DNAT
	for _, target := range random {
		var to struct{ Concat []json.RawMessage }
		var port uint16
		if strictly(target, &to) != nil || len(to.Concat) != 2 || json.Unmarshal(to.Concat[1], &port) != nil {
			return nil, unknown
		}
		a, err := t.address(to.Concat[0])
		if err != nil {
			return nil, err
		}
		out.To = append(out.To, netip.AddrPortFrom(a, port))
	}
	return out, nil
}

// numbered reads a map from all the numbers that numgen makes.
func numbered(data json.RawMessage) ([]json.RawMessage, error) {
	unknown := fmt.Errorf("unknown map: %s", data)
	var o struct {
		Key struct {
			Numgen struct {
				Mode        string
				Mod, Offset int
			}
		}
		Data struct{ Set [][]json.RawMessage }
	}
	if strictly(data, &o) != nil || o.Key.Numgen.Mode != "random" || o.Key.Numgen.Offset != 0 ||
		len(o.Data.Set) == 0 || o.Key.Numgen.Mod != len(o.Data.Set) {
		return nil, unknown
	}
	out := make([]json.RawMessage, len(o.Data.Set))
	for _, pair := range o.Data.Set {
		var i int
		if len(pair) != 2 || json.Unmarshal(pair[0], &i) != nil || i < 0 || i >= len(out) || out[i] != nil {
			return nil, unknown
		}
		out[i] = pair[1]
	}
	return out, nil
}

func (t *nftParsed) vmap(data json.RawMessage) (rules.Stmt, error) {
	var o struct{ Key, Data json.RawMessage }
	if err := strictly(data, &o); err != nil {
		return nil, err
	}
	var name string
	if json.Unmarshal(o.Data, &name) == nil {
		name = strings.TrimPrefix(name, "@")
		fields, err := t.lookup(name, o.Key)
		return rules.VMap{Fields: fields, Map: name}, err
	}
	targets, err := numbered(data)
	if err != nil {
		return nil, err
	}
	var out rules.GotoRandom
	for _, target := range targets {
		v, err := t.verdict(target)
		if err != nil {
			return nil, err
		}
		to, ok := v.(rules.Goto)
		if !ok {
			return nil, fmt.Errorf("unknown map: %s", data)
		}
		out.Chains = append(out.Chains, to.Chain)
	}
	return out, nil
}

func (t *nftParsed) update(data json.RawMessage) (rules.Stmt, error) {
	var o struct {
		Op, Set string
		Elem    json.RawMessage
	}
	if err := strictly(data, &o); err != nil {
		return nil, err
	}
	name := strings.TrimPrefix(o.Set, "@")
	fields, err := t.lookup(name, o.Elem)
	if err == nil && (o.Op != "update" || !slices.Equal(fields, []rules.Field{rules.SrcAddr})) {
		err = fmt.Errorf(`unknown expression "set": %s`, data)
	}
	return rules.Update{Set: name}, err
}

// lookup reads what a set or map is asked for, and remembers it for when that is read.
func (t *nftParsed) lookup(set string, key json.RawMessage) ([]rules.Field, error) {
	parts := []json.RawMessage{key}
	var concat struct{ Concat []json.RawMessage }
	if strictly(key, &concat) == nil && concat.Concat != nil {
		parts = concat.Concat
	}
	var fields []rules.Field
	for _, part := range parts {
		f, ok := t.field(part)
		if !ok {
			return nil, fmt.Errorf("unknown key %s of %s", part, set)
		}
		fields = append(fields, f)
	}
	if t.uses[set] == nil {
		t.uses[set] = fields
	}
	return fields, nil
}
