package portmap

import (
	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

// The chains of the table (portmap_nftables.go). The second one is kept for upgrades and stays empty.
const (
	hostPorts       = "hostports"
	hostIPHostPorts = "hostip_hostports"
	allHostPorts    = "hostports_all"
	masquerading    = "masquerading"
)

// NFTables renders the nftables back end: a table of its own in each family in which a pod has an address. It uses no
// marks, and looks neither at the network's name nor at masqAll, markMasqBit and externalSetMarkChain.
func NFTables(w *rules.World, f rules.Family) rules.Fragment {
	pods := mapped(w, f)
	if len(pods) == 0 {
		return rules.Fragment{}
	}
	mappings := &rules.Chain{Name: hostPorts}
	masquerade := &rules.Chain{Name: masquerading, Base: &rules.Base{Type: rules.NAT, Hook: rules.Postrouting, Priority: rules.PrioritySNAT}}
	for _, p := range pods {
		mappings.Rules = append(mappings.Rules, mappingRules(p, f)...)
		masquerade.Rules = append(masquerade.Rules, masqueradeRules(p, f)...)
	}
	t := &rules.Table{Tool: rules.NFTables, Family: f, Name: "cni_hostport", Comment: "CNI portmap plugin", Chains: []*rules.Chain{
		mappings,
		{Name: hostIPHostPorts},
		{Name: allHostPorts, Rules: []*rules.Rule{shared(rules.Jump{Chain: hostIPHostPorts}), shared(rules.Jump{Chain: hostPorts})}},
		dispatch("prerouting", rules.Prerouting),
		dispatch("output", rules.Output),
	}}
	if !w.Portmap.NoSNAT {
		t.Chains = append(t.Chains, masquerade)
	}
	return rules.Fragment{Tables: []*rules.Table{t}}
}

// dispatch returns a base chain that leads what is for the node itself to the mappings.
func dispatch(name string, hook rules.Hook) *rules.Chain {
	return &rules.Chain{
		Name:  name,
		Base:  &rules.Base{Type: rules.NAT, Hook: hook, Priority: rules.PriorityDNAT},
		Rules: []*rules.Rule{shared(rules.AddrLocal{Side: rules.Destination}, rules.Jump{Chain: allHostPorts})},
	}
}

func shared(do ...rules.Stmt) *rules.Rule {
	return &rules.Rule{Do: do, Origin: rules.Origin{Component: "portmap"}}
}

// mappingRules returns a rule for each mapping of the family. Their comments tell portmap what to delete.
func mappingRules(p *rules.Pod, f rules.Family) []*rules.Rule {
	pod, _ := address(p, f)
	var out []*rules.Rule
	for _, m := range p.Mappings {
		hostIP, ok := applies(m, f)
		if !ok {
			continue
		}
		var do []rules.Stmt
		if hostIP.IsValid() {
			do = append(do, to(hostIP))
		}
		do = append(do, rules.Proto{Is: m.Protocol}, rules.Port{Is: []uint16{m.HostPort}}, dnat(pod.Addr(), m), rules.Comment{Text: p.SandboxID})
		out = append(out, &rules.Rule{Do: do, Origin: originOf(p, m)})
	}
	return out
}

// masqueradeRules returns what hides from the pod that a packet comes from itself, or from loopback, which has no way
// back in IPv6.
func masqueradeRules(p *rules.Pod, f rules.Family) []*rules.Rule {
	pod, _ := address(p, f)
	rule := func(source rules.Addr) *rules.Rule {
		do := []rules.Stmt{source, to(pod.Addr()), rules.Masquerade{}, rules.Comment{Text: p.SandboxID}}
		return &rules.Rule{Do: do, Origin: origin(p)}
	}
	if f == rules.IPv6 {
		return []*rules.Rule{rule(from(pod.Addr()))}
	}
	return []*rules.Rule{rule(from(pod.Addr())), rule(from(loopback()))}
}
