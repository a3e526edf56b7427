package report

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/portcullis-k8s/portcullis/pkg/explain"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
	"github.com/portcullis-k8s/portcullis/pkg/rules/text"
)

// RuleSet is the outcome of `portcullis rules -o json`: a versioned kind that other people's scripts read.
type RuleSet struct {
	APIVersion     string          `json:"apiVersion"`
	Kind           string          `json:"kind"`
	Tables         []RuleTable     `json:"tables"`
	IPSets         []RuleElements  `json:"ipSets"`
	VirtualServers []VirtualServer `json:"virtualServers"`
}

// RuleTable is a table of iptables or nft.
type RuleTable struct {
	Tool   string         `json:"tool"` // iptables, iptables-legacy, nft
	Family string         `json:"family"`
	Name   string         `json:"name"`
	Chains []RuleChain    `json:"chains"`
	Sets   []RuleElements `json:"sets"`
}

// RuleChain is a chain with its rules in order.
type RuleChain struct {
	Name  string     `json:"name"`
	Base  *ChainBase `json:"base,omitempty"`
	Rules []RuleLine `json:"rules"`
}

// ChainBase says where a chain hangs.
type ChainBase struct {
	Hook     string `json:"hook"`
	Priority int    `json:"priority"`
	Order    int    `json:"order"` // of registration: of two with one hook and priority the higher runs first
}

// RuleLine is a rule, or an element of a set or map, as its tool lists it.
type RuleLine struct {
	Text      string `json:"text"`
	Component string `json:"component,omitempty"`
	Owner     *Owner `json:"owner,omitempty"`
}

// RuleElements is a set or a map.
type RuleElements struct {
	Name     string     `json:"name"`
	Elements []RuleLine `json:"elements"`
}

// VirtualServer is one of IPVS.
type VirtualServer struct {
	Address  string   `json:"address"`
	Protocol string   `json:"protocol"`
	Real     []string `json:"real"`
	Owner    *Owner   `json:"owner,omitempty"`
}

// Owner names whose a rule is.
type Owner struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

func ownerOf(r ports.Ref) *Owner {
	if r == (ports.Ref{}) {
		return nil
	}
	return &Owner{r.Kind, r.Namespace, r.Name}
}

func toolName(t rules.Tool) string {
	switch t {
	case rules.XTables:
		return "iptables"
	case rules.XTablesLegacy:
		return "iptables-legacy"
	case rules.NFTables:
		return "nft"
	default:
		return fmt.Sprintf("Tool(%d)", uint8(t))
	}
}

// WriteRuleSet writes a ruleset as JSON.
func WriteRuleSet(w io.Writer, rs *rules.Ruleset) error {
	out := RuleSet{APIVersion: apiVersion, Kind: "RuleSet", Tables: []RuleTable{}, IPSets: []RuleElements{}, VirtualServers: []VirtualServer{}}
	for _, t := range rs.Tables {
		table := RuleTable{Tool: toolName(t.Tool), Family: t.Family.String(), Name: t.Name, Chains: []RuleChain{}, Sets: []RuleElements{}}
		for _, c := range t.Chains {
			table.Chains = append(table.Chains, ruleChain(t, c))
		}
		for _, s := range t.Sets {
			table.Sets = append(table.Sets, elements(s, func(e *rules.Elem) string { return text.NFTElem(s, e) }))
		}
		out.Tables = append(out.Tables, table)
	}
	for _, s := range rs.IPSets {
		out.IPSets = append(out.IPSets, elements(s, func(e *rules.Elem) string { return text.IPSetElem(s, e) }))
	}
	for _, v := range rs.Virtual {
		server := VirtualServer{Address: v.Addr.String(), Protocol: v.Protocol.String(), Real: []string{}, Owner: ownerOf(v.Origin.Owner)}
		for _, r := range v.Real {
			server.Real = append(server.Real, r.String())
		}
		out.VirtualServers = append(out.VirtualServers, server)
	}
	return writeJSON(w, out)
}

func ruleChain(t *rules.Table, c *rules.Chain) RuleChain {
	chain := RuleChain{Name: c.Name, Rules: []RuleLine{}}
	if c.Base != nil {
		chain.Base = &ChainBase{Hook: c.Base.Hook.String(), Priority: c.Base.Priority, Order: c.Base.Seq}
	}
	for _, r := range c.Rules {
		chain.Rules = append(chain.Rules, RuleLine{explain.RuleText(t, c, r), r.Origin.Component, ownerOf(r.Origin.Owner)})
	}
	return chain
}

func elements(s *rules.Set, textOf func(*rules.Elem) string) RuleElements {
	set := RuleElements{Name: s.Name, Elements: []RuleLine{}}
	for i := range s.Elems {
		e := &s.Elems[i]
		set.Elements = append(set.Elements, RuleLine{textOf(e), e.Origin.Component, ownerOf(e.Origin.Owner)})
	}
	return set
}

func writeJSON(w io.Writer, value any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(value)
}

// Drift is the outcome of `portcullis rules --diff -o json`.
type Drift struct {
	APIVersion  string       `json:"apiVersion"`
	Kind        string       `json:"kind"`
	Differences []Difference `json:"differences"`
}

// Difference is one of a Drift.
type Difference struct {
	Kind  string `json:"kind"` // missing, stale, foreign
	Table string `json:"table"`
	Chain string `json:"chain"`
	Rule  string `json:"rule"`
	Owner *Owner `json:"owner,omitempty"`
}

// WriteDriftJSON writes differences as JSON.
func WriteDriftJSON(w io.Writer, list []explain.Difference) error {
	out := Drift{APIVersion: apiVersion, Kind: "Drift", Differences: []Difference{}}
	for _, d := range list {
		out.Differences = append(out.Differences, Difference{string(d.Kind), tableOf(d.Tool, d.Family, d.Table), d.Chain, d.Text, ownerOf(d.Owner)})
	}
	return writeJSON(w, out)
}

func tableOf(t rules.Tool, f rules.Family, name string) string {
	return fmt.Sprintf("%s %s %s", toolName(t), strings.ToLower(f.String()), name)
}

// WriteDrift writes differences for a person, those of one chain together.
func WriteDrift(w io.Writer, list []explain.Difference) error {
	counts := map[explain.DriftKind]int{}
	at := ""
	for _, d := range list {
		counts[d.Kind]++
		if here := tableOf(d.Tool, d.Family, d.Table) + " " + d.Chain; here != at {
			at = here
			fmt.Fprintln(w, Escape(at))
		}
		whose := ""
		if d.Owner != (ports.Ref{}) {
			whose = "  (" + d.Owner.String() + ")"
		}
		if _, err := fmt.Fprintln(w, Escape(fmt.Sprintf("  %-8s %s%s", d.Kind, d.Text, whose))); err != nil {
			return err
		}
	}
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "the node has what it should have")
		return err
	}
	_, err := fmt.Fprintf(w, "\n%d missing, %d stale, %d foreign\n", counts[explain.Missing], counts[explain.Stale], counts[explain.Foreign])
	return err
}
