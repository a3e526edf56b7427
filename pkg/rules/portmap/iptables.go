package portmap

import (
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"net/netip"
	"reflect"
	"slices"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

// The chains that all pods share (portmap_iptables.go).
const (
	dnatChain    = "CNI-HOSTPORT-DNAT"
	setMarkChain = "CNI-HOSTPORT-SETMARK"
	masqChain    = "CNI-HOSTPORT-MASQ"
)

// IPTables renders the iptables back end.
//
// Its jump from POSTROUTING is inserted before the others, those from PREROUTING and OUTPUT are appended (since v0.7.5),
// and no rule is written where an equal one stands.
func IPTables(w *rules.World, f rules.Family) rules.Fragment {
	pods := mapped(w, f)
	if len(pods) == 0 {
		return rules.Fragment{}
	}
	nat := &rules.Table{Tool: rules.XTables, Family: f, Name: "nat"}
	var jumps []rules.Into
	if !w.Portmap.NoSNAT && w.Portmap.ExternalSetMark == "" {
		nat.Chains = append(nat.Chains, markChains(w.Portmap)...)
		jumps = append(jumps, into(f, "POSTROUTING", true, rules.Comment{Text: "CNI portfwd requiring masquerade"}, rules.Jump{Chain: masqChain}))
	}
	entry := &rules.Chain{Name: dnatChain}
	nat.Chains = append(nat.Chains, entry)
	for _, chain := range []string{"PREROUTING", "OUTPUT"} {
		jumps = append(jumps, into(f, chain, false, rules.AddrLocal{Side: rules.Destination}, rules.Jump{Chain: dnatChain}))
	}
	for _, p := range pods {
		own := podChain(w.Portmap, p, f)
		nat.Chains = append(nat.Chains, own)
		for _, ports := range chunks(p.Mappings) {
			add(entry, entryRule(w.Portmap, p, own.Name, ports))
		}
	}
	return rules.Fragment{Tables: []*rules.Table{nat}, Jumps: jumps}
}

func into(f rules.Family, chain string, insert bool, do ...rules.Stmt) rules.Into {
	rule := &rules.Rule{Do: do, Origin: rules.Origin{Component: "portmap"}}
	return rules.Into{Tool: rules.XTables, Family: f, Table: "nat", Chain: chain, Insert: insert, Rule: rule}
}

// markChains returns the chains by which a packet is marked and masqueraded: from loopback, and back to where it came
// from.
func markChains(c rules.Portmap) []*rules.Chain {
	mark := uint32(1) << c.MarkBit
	set := &rules.Chain{Name: setMarkChain}
	add(set, &rules.Rule{
		Do:     []rules.Stmt{rules.Comment{Text: "CNI portfwd masquerade mark"}, rules.SetMark{Value: mark, Mask: mark}},
		Origin: rules.Origin{Component: "portmap"},
	})
	masquerade := &rules.Chain{Name: masqChain}
	add(masquerade, &rules.Rule{
		Do:     []rules.Stmt{rules.Mark{Value: mark, Mask: mark}, rules.Masquerade{}},
		Origin: rules.Origin{Component: "portmap"},
	})
	return []*rules.Chain{set, masquerade}
}

// podChain returns a pod's own chain. It is there even if no mapping is of the family.
func podChain(c rules.Portmap, p *rules.Pod, f rules.Family) *rules.Chain {
	pod, _ := address(p, f)
	chain := &rules.Chain{Name: podChainName(c.Network, p.SandboxID)}
	for _, m := range p.Mappings {
		hostIP, ok := applies(m, f)
		if !ok {
			continue
		}
		write := func(last ...rules.Stmt) {
			do := []rules.Stmt{rules.Proto{Is: m.Protocol}, rules.Port{Is: []uint16{m.HostPort}}}
			if hostIP.IsValid() {
				do = append(do, to(hostIP))
			}
			add(chain, &rules.Rule{Do: append(do, last...), Origin: originOf(p, m)})
		}
		for _, source := range masqueraded(c, pod) {
			write(rules.Addr{Side: rules.Source, In: []netip.Prefix{source}}, rules.Jump{Chain: setMark(c)})
		}
		write(dnat(pod.Addr(), m))
	}
	return chain
}

// masqueraded returns the sources whose packets the pod must see as the node's own: its own network, as far as the CNI
// result tells it, and loopback.
func masqueraded(c rules.Portmap, pod netip.Prefix) []netip.Prefix {
	switch {
	case c.NoSNAT:
		return nil
	case c.MasqueradeAll:
		return []netip.Prefix{netip.PrefixFrom(pod.Addr(), 0).Masked()}
	case pod.Addr().Is4():
		return []netip.Prefix{pod.Masked(), whole(loopback())}
	default:
		return []netip.Prefix{pod.Masked()}
	}
}

func setMark(c rules.Portmap) string {
	if c.ExternalSetMark != "" {
		return c.ExternalSetMark
	}
	return setMarkChain
}

// podChainName is utils.MustFormatChainNameWithPrefix.
func podChainName(network, sandbox string) string {
	const length = 28
	sum := sha512.Sum512([]byte(network + sandbox))
	return ("CNI-DN-" + hex.EncodeToString(sum[:]))[:length]
}

// chunk is what one entry rule names: ports of one protocol, as many as multiport takes.
type chunk struct {
	protocol ports.Protocol
	ports    []uint16
}

// chunks returns the host ports of all mappings, whatever their family, by the names of the protocols.
func chunks(mappings []rules.Mapping) []chunk {
	const most = 15
	var out []chunk
	for _, p := range []ports.Protocol{ports.SCTP, ports.TCP, ports.UDP} {
		var all []uint16
		for _, m := range mappings {
			if m.Protocol == p {
				all = append(all, m.HostPort)
			}
		}
		for part := range slices.Chunk(all, most) {
			out = append(out, chunk{p, part})
		}
	}
	return out
}

func entryRule(c rules.Portmap, p *rules.Pod, chain string, ports chunk) *rules.Rule {
	return &rules.Rule{Origin: origin(p), Do: []rules.Stmt{
		rules.Proto{Is: ports.protocol},
		rules.Comment{Text: entryComment(c.Network, p.SandboxID)},
		rules.Port{Is: ports.ports, Multi: true},
		rules.Jump{Chain: chain},
	}}
}

// entryComment is cut as portmap cuts it, to one byte more than the kernel keeps: the last dot is lost (measured).
func entryComment(network, sandbox string) string {
	const kept = 255
	s := fmt.Sprintf(`dnat name: "%s" id: "%s"`, network, sandbox)
	if len(s) <= kept {
		return s
	}
	return (s[:253] + "...")[:kept]
}

// add appends a rule, unless an equal one stands in the chain already.
func add(c *rules.Chain, rule *rules.Rule) {
	equal := func(r *rules.Rule) bool { return reflect.DeepEqual(r.Do, rule.Do) }
	if !slices.ContainsFunc(c.Rules, equal) {
		c.Rules = append(c.Rules, rule)
	}
}
