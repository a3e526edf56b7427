package text

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

// ParseNFTJSON reads what "nft -j list ruleset" prints, of one table or of all: what kube-proxy and portmap write. An
// expression that it does not know is an error that names it and its rule.
//
// Left out are the tables that iptables keeps in nftables: nft does not tell all of what their rules say, iptables-save
// does. Not in a listing, and so not in the result, are the order in which base chains were registered and, up to nft
// 1.0.6, the comments of tables and chains. What a set's addresses are, of the source or of the destination, is taken
// from the rules that look it up.
func ParseNFTJSON(listing string) (*rules.Ruleset, error) {
	var list struct {
		Nftables []map[string]json.RawMessage `json:"nftables"`
	}
	if err := strictly(json.RawMessage(listing), &list); err != nil {
		return nil, fmt.Errorf("the listing is not JSON of nft: %w", err)
	}
	if err := unknownObjects(list.Nftables); err != nil {
		return nil, err
	}
	p := nftParser{rules: &rules.Ruleset{}, tables: map[nftTableKey]*nftParsed{}}
	for _, kind := range []string{"table", "chain", "rule", "set", "map"} {
		for i, item := range list.Nftables {
			o, ok := item[kind]
			if !ok {
				continue
			}
			if err := p.object(kind, o); err != nil {
				return nil, fmt.Errorf("object %d of the listing: %w", i+1, err)
			}
		}
		if kind == "chain" {
			p.leaveOutIPTables()
		}
	}
	return p.rules, nil
}

func unknownObjects(list []map[string]json.RawMessage) error {
	known := []string{"metainfo", "table", "chain", "rule", "set", "map"}
	for i, item := range list {
		for _, kind := range slices.Sorted(maps.Keys(item)) {
			if !slices.Contains(known, kind) || len(item) != 1 {
				return fmt.Errorf("object %d of the listing: unknown object %q", i+1, kind)
			}
		}
	}
	return nil
}

// strictly decodes, and takes no field for granted that it does not know.
func strictly(data json.RawMessage, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if d.More() {
		return fmt.Errorf("there is more behind it")
	}
	return nil
}

type nftTableKey struct{ family, name string }

type nftParsed struct {
	*rules.Table
	left bool // it is one of iptables
	uses map[string][]rules.Field
}

type nftParser struct {
	rules  *rules.Ruleset
	tables map[nftTableKey]*nftParsed
}

// oneOrMore is a list that nft writes without brackets if it has one member.
type oneOrMore []string

func (l *oneOrMore) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*l = oneOrMore{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(l))
}

// nftJSON is a table, chain, rule, set or map.
type nftJSON struct {
	Family  string `json:"family"`
	Table   string `json:"table"`
	Chain   string `json:"chain"`
	Name    string `json:"name"`
	Handle  int    `json:"handle"`
	Index   int    `json:"index"`
	Comment string `json:"comment"`

	// A base chain's.
	Type   oneOrMore `json:"type"` // a set's, too
	Hook   string    `json:"hook"`
	Prio   int       `json:"prio"`
	Policy string    `json:"policy"`

	// A rule's.
	Expr []json.RawMessage `json:"expr"`

	// A set's or map's.
	Map     string            `json:"map"`
	Flags   oneOrMore         `json:"flags"`
	Timeout int               `json:"timeout"`
	Size    int               `json:"size"`
	Elem    []json.RawMessage `json:"elem"`
}

func (p *nftParser) object(kind string, data json.RawMessage) error {
	var o nftJSON
	if err := strictly(data, &o); err != nil {
		return fmt.Errorf("%s: %w", kind, err)
	}
	if kind == "table" {
		return p.table(o)
	}
	t := p.tables[nftTableKey{o.Family, o.Table}]
	switch {
	case t == nil:
		return fmt.Errorf("%s %s of the table %s %s, which is not listed", kind, o.Name, o.Family, o.Table)
	case t.left:
		return nil
	case kind == "chain":
		return t.chain(o)
	case kind == "rule":
		return t.rule(o)
	default:
		return t.set(kind, o)
	}
}

func (p *nftParser) table(o nftJSON) error {
	var f rules.Family
	switch o.Family {
	case "ip":
		f = rules.IPv4
	case "ip6":
		f = rules.IPv6
	default:
		return fmt.Errorf("table %s: unknown family %q", o.Name, o.Family)
	}
	key := nftTableKey{o.Family, o.Name}
	if p.tables[key] != nil || o.Flags != nil {
		return fmt.Errorf("table %s %s: listed twice, or with flags", o.Family, o.Name)
	}
	t := &rules.Table{Tool: rules.NFTables, Family: f, Name: o.Name, Comment: o.Comment}
	p.tables[key] = &nftParsed{Table: t, uses: map[string][]rules.Field{}}
	p.rules.Tables = append(p.rules.Tables, t)
	return nil
}

// leaveOutIPTables forgets the tables of iptables: they have its names, and so have all base chains in them.
func (p *nftParser) leaveOutIPTables() {
	for _, t := range p.tables {
		t.left = slices.Contains(saveOrder(), t.Name)
		for _, c := range t.Chains {
			if c.Base != nil && !slices.Contains(builtinChains(t.Name), c.Name) {
				t.left = false
			}
		}
	}
	p.rules.Tables = slices.DeleteFunc(p.rules.Tables, func(listed *rules.Table) bool {
		return slices.ContainsFunc(slices.Collect(maps.Values(p.tables)), func(t *nftParsed) bool { return t.left && t.Table == listed })
	})
}

func (t *nftParsed) chain(o nftJSON) error {
	if o.Name == "" || t.Chain(o.Name) != nil {
		return fmt.Errorf("chain %q: listed twice, or without a name", o.Name)
	}
	c := &rules.Chain{Name: o.Name, Comment: o.Comment}
	t.Chains = append(t.Chains, c)
	if o.Hook == "" {
		return nil
	}
	c.Base = &rules.Base{Priority: o.Prio, Drops: o.Policy == "drop"}
	for _, h := range []rules.Hook{rules.Prerouting, rules.Input, rules.Forward, rules.Output, rules.Postrouting} {
		if h.String() == o.Hook {
			c.Base.Hook = h
		}
	}
	for _, typ := range []rules.ChainType{rules.Filter, rules.NAT} {
		if slices.Equal(o.Type, oneOrMore{nftChainType(typ)}) {
			c.Base.Type = typ
		}
	}
	if c.Base.Hook == 0 || c.Base.Type == 0 || o.Policy != "accept" && o.Policy != "drop" {
		return fmt.Errorf("chain %s: unknown type %q, hook %q or policy %q", o.Name, o.Type, o.Hook, o.Policy)
	}
	return nil
}

func (t *nftParsed) rule(o nftJSON) error {
	c := t.Chain(o.Chain)
	if c == nil {
		return fmt.Errorf("a rule of chain %s, which is not listed", o.Chain)
	}
	rule := &rules.Rule{}
	for i, data := range o.Expr {
		do, err := t.expression(data)
		if err != nil {
			return fmt.Errorf("chain %s, rule %d, expression %d: %w", o.Chain, len(c.Rules)+1, i+1, err)
		}
		rule.Do = append(rule.Do, do...)
	}
	if o.Comment != "" {
		rule.Do = append(rule.Do, rules.Comment{Text: o.Comment})
	}
	c.Rules = append(c.Rules, rule)
	return nil
}

// set reads a set or map; the rules have been read.
func (t *nftParsed) set(kind string, o nftJSON) error {
	s := &rules.Set{
		Name: o.Name, Family: t.Family, IsMap: kind == "map", Comment: o.Comment,
		Dynamic: t.isUpdated(o.Name), Timeout: time.Duration(o.Timeout) * time.Second,
	}
	for _, flag := range o.Flags {
		switch flag {
		case "timeout":
		case "dynamic":
			s.Dynamic = true
		default:
			return fmt.Errorf("%s %s: unknown flag %q", kind, o.Name, flag)
		}
	}
	if s.IsMap && o.Map != "verdict" {
		return fmt.Errorf("map %s: unknown values %q", o.Name, o.Map)
	}
	var err error
	if s.Fields, err = t.setFields(o.Name, o.Type); err != nil {
		return err
	}
	for _, data := range o.Elem {
		e, err := t.element(s, data)
		if err != nil {
			return fmt.Errorf("%s %s: %w", kind, o.Name, err)
		}
		s.Elems = append(s.Elems, e)
	}
	slices.SortFunc(s.Elems, func(a, b rules.Elem) int { return compareKeys(a.Key, b.Key) })
	t.Sets = append(t.Sets, s)
	return nil
}

// isUpdated reports whether a rule adds elements to a set: up to nft 1.0.6 the listing does not tell that they may.
func (t *nftParsed) isUpdated(set string) bool {
	for _, c := range t.Chains {
		for _, r := range c.Rules {
			if slices.Contains(r.Do, rules.Stmt(rules.Update{Set: set})) {
				return true
			}
		}
	}
	return false
}

// setFields returns what a set's keys are made of, by its type and by the first rule that looks it up.
func (t *nftParsed) setFields(name string, types []string) ([]rules.Field, error) {
	fields := t.uses[name]
	if fields == nil {
		address := []rules.Field{rules.DstAddr}
		if strings.Count(strings.Join(types, " "), "_addr") == 2 {
			address = []rules.Field{rules.SrcAddr, rules.DstAddr}
		}
		for _, typ := range types {
			switch typ {
			case "inet_proto":
				fields = append(fields, rules.L4Proto)
			case "inet_service":
				fields = append(fields, rules.DstPort)
			default:
				if len(address) > 0 {
					fields, address = append(fields, address[0]), address[1:]
				}
			}
		}
	}
	if listed := strings.Join(types, " . "); nftType(t.Family, fields) != listed {
		return nil, fmt.Errorf("set %s: unknown type %q", name, listed)
	}
	return fields, nil
}

func compareKeys(a, b rules.Key) int {
	return cmp.Or(a.Addr.Compare(b.Addr), a.With.Addr().Compare(b.With.Addr()), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port))
}
