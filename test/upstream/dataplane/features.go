package dataplane

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

// Tally counts in how many cases each feature occurred.
type Tally struct {
	features []feature // nil: those of the service proxies
	cases    int
	seen     map[string]int
}

func (t *Tally) all() []feature {
	if t.features == nil {
		return features()
	}
	return t.features
}

// Add counts the features of a case.
func (t *Tally) Add(w *rules.World) {
	if t.seen == nil {
		t.seen = map[string]int{}
	}
	t.cases++
	for _, f := range t.all() {
		if f.in(w) {
			t.seen[f.name]++
		}
	}
}

// Check prints the counts, and fails for each feature that occurred in fewer cases than least: what was hardly ever drawn
// was not tested.
func (t *Tally) Check(tb testing.TB, least int) {
	tb.Helper()
	var counts []string
	for _, f := range t.all() {
		counts = append(counts, fmt.Sprintf("%s %d", f.name, t.seen[f.name]))
		if t.seen[f.name] < least {
			tb.Errorf("%s: in %d of %d cases only", f.name, t.seen[f.name], t.cases)
		}
	}
	tb.Logf("%d cases: %s", t.cases, strings.Join(counts, ", "))
}

// feature is something that a world can have.
type feature struct {
	name string
	in   func(*rules.World) bool
}

func features() []feature {
	return slices.Concat(nodeFeatures(), proxyFeatures(), serviceFeatures(), endpointFeatures())
}

func nodeFeatures() []feature {
	has := func(w *rules.World, f rules.Family) bool {
		return slices.ContainsFunc(w.Node.Addresses, f.Has)
	}
	return []feature{
		{"IPv4 only", func(w *rules.World) bool { return !has(w, rules.IPv6) }},
		{"IPv6 only", func(w *rules.World) bool { return !has(w, rules.IPv4) }},
		{"dual stack", func(w *rules.World) bool { return has(w, rules.IPv4) && has(w, rules.IPv6) }},
		{"node without a zone", func(w *rules.World) bool { return w.Node.Zone == "" }},
		{"node without an address", func(w *rules.World) bool { return len(w.Node.IPs) == 0 }},
		{"ServiceCIDRs", func(w *rules.World) bool { return len(w.ServiceCIDRs) > 0 }},
		{"large cluster", func(w *rules.World) bool { return known(w, rules.IPv4) > 1000 || known(w, rules.IPv6) > 1000 }},
	}
}

func proxyFeatures() []feature {
	proxy := func(is func(rules.Proxy) bool) func(*rules.World) bool {
		return func(w *rules.World) bool { return is(w.Proxy) }
	}
	return []feature{
		{"nodePortAddresses", proxy(func(p rules.Proxy) bool { return len(p.NodePortAddresses) > 0 })},
		{"nodePortAddresses primary", proxy(func(p rules.Proxy) bool { return p.PrimaryNodePorts })},
		{"localhost nodePorts", proxy(func(p rules.Proxy) bool { return p.LocalhostNodePorts })},
		{"no localhost nodePorts", proxy(func(p rules.Proxy) bool { return !p.LocalhostNodePorts })},
		{"masquerade all", proxy(func(p rules.Proxy) bool { return p.MasqueradeAll })},
		{"another masquerade bit", proxy(func(p rules.Proxy) bool { return p.MasqueradeBit != 14 })},
		{"conntrack liberal", proxy(func(p rules.Proxy) bool { return p.LiberalConntrack })},
		{"no counters", proxy(func(p rules.Proxy) bool { return !p.Counters })},
		{"detector: CIDR", proxy(func(p rules.Proxy) bool { return len(p.Detector.CIDRs) > 0 })},
		{"detector: bridge", proxy(func(p rules.Proxy) bool { return p.Detector.Bridge != "" })},
		{"detector: interface prefix", proxy(func(p rules.Proxy) bool { return p.Detector.InterfacePrefix != "" })},
		{"detector: none", proxy(func(p rules.Proxy) bool {
			return len(p.Detector.CIDRs) == 0 && p.Detector.Bridge == "" && p.Detector.InterfacePrefix == ""
		})},
	}
}

// ofService is a feature of a world in which some Service has it.
func ofService(name string, is func(*rules.World, *rules.Service) bool) feature {
	return feature{name, func(w *rules.World) bool {
		return slices.ContainsFunc(w.Services, func(s *rules.Service) bool { return is(w, s) })
	}}
}

func serviceFeatures() []feature {
	service := func(name string, is func(*rules.Service) bool) feature {
		return ofService(name, func(_ *rules.World, s *rules.Service) bool { return is(s) })
	}
	speaks := func(p ports.Protocol) func(*rules.Service) bool {
		return func(s *rules.Service) bool {
			return slices.ContainsFunc(s.Ports, func(port rules.ServicePort) bool { return port.Protocol == p })
		}
	}
	return []feature{
		service("ClusterIP", func(s *rules.Service) bool { return s.Type == "ClusterIP" }),
		service("NodePort", func(s *rules.Service) bool { return s.Type == "NodePort" }),
		service("LoadBalancer", func(s *rules.Service) bool { return s.Type == "LoadBalancer" }),
		service("LoadBalancer without node ports", func(s *rules.Service) bool { return s.Type == "LoadBalancer" && s.Ports[0].NodePort == 0 }),
		service("Service of both families", func(s *rules.Service) bool { return len(s.ClusterIPs) == 2 }),
		service("TCP", speaks(ports.TCP)),
		service("UDP", speaks(ports.UDP)),
		service("SCTP", speaks(ports.SCTP)),
		service("unnamed port", func(s *rules.Service) bool { return s.Ports[0].Name == "" }),
		service("external policy Cluster", func(s *rules.Service) bool { return !s.ExternalLocal && s.Type != "ClusterIP" }),
		service("external policy Local", func(s *rules.Service) bool { return s.ExternalLocal && s.Type != "ClusterIP" }),
		service("internal policy Local", func(s *rules.Service) bool { return s.InternalLocal }),
		service("session affinity", func(s *rules.Service) bool { return s.AffinitySeconds != 0 }),
		service("external IPs", func(s *rules.Service) bool { return len(s.ExternalIPs) > 0 }),
		ofService("external IP of the node", func(w *rules.World, s *rules.Service) bool {
			return slices.ContainsFunc(s.ExternalIPs, func(ip netip.Addr) bool { return slices.Contains(w.Node.Addresses, ip) })
		}),
		service("load balancer IPs", func(s *rules.Service) bool { return len(s.LoadBalancerIPs) > 0 }),
		service("health check node port", func(s *rules.Service) bool {
			return s.HealthCheckNodePort != 0 && s.Type == "LoadBalancer" && s.ExternalLocal
		}),
		ofService("source ranges with the node", func(w *rules.World, s *rules.Service) bool { return rangesHaveNode(w, s, true) }),
		ofService("source ranges without the node", func(w *rules.World, s *rules.Service) bool { return rangesHaveNode(w, s, false) }),
		service("source ranges with /0", func(s *rules.Service) bool {
			return len(s.LoadBalancerIPs) > 0 && slices.ContainsFunc(s.SourceRanges, func(r netip.Prefix) bool { return r.Bits() == 0 })
		}),
	}
}

func endpointFeatures() []feature {
	ready := func(e rules.Endpoint) bool { return e.Ready }
	draining := func(e rules.Endpoint) bool { return e.Serving && e.Terminating }
	every := func(rules.Endpoint) bool { return true }
	return []feature{
		ofService("no endpoints", func(_ *rules.World, s *rules.Service) bool { return count(s, every) == 0 }),
		ofService("no ready endpoints", func(_ *rules.World, s *rules.Service) bool { return count(s, every) > 0 && count(s, ready) == 0 }),
		ofService("terminating endpoints that serve", func(_ *rules.World, s *rules.Service) bool { return count(s, draining) > 0 && count(s, ready) == 0 }),
		ofService("policy Local without local endpoints", func(w *rules.World, s *rules.Service) bool {
			return (s.InternalLocal || s.ExternalLocal) && count(s, ready) > 0 && count(s, func(e rules.Endpoint) bool { return e.Node == w.Node.Name }) == 0
		}),
		ofService("one address twice", func(_ *rules.World, s *rules.Service) bool { return hasTwins(s) }),
		ofService("zone hints that count", func(w *rules.World, s *rules.Service) bool {
			return hinted(s, w.Node.Zone, func(e rules.Endpoint) []string { return e.ForZones })
		}),
		ofService("node hints that count", func(w *rules.World, s *rules.Service) bool {
			return hinted(s, w.Node.Name, func(e rules.Endpoint) []string { return e.ForNodes })
		}),
		ofService("hints of some endpoints only", func(_ *rules.World, s *rules.Service) bool {
			n := count(s, func(e rules.Endpoint) bool { return e.Ready && len(e.ForZones) > 0 })
			return n > 0 && n < count(s, ready)
		}),
	}
}

// known returns how many endpoints there are for all Service ports of a family.
func known(w *rules.World, f rules.Family) int {
	n := 0
	for _, s := range w.Services {
		if _, ok := s.ClusterIP(f); !ok {
			continue
		}
		for _, p := range s.Ports {
			different := map[netip.AddrPort]bool{}
			for _, e := range p.Endpoints {
				if f.Has(e.Addr.Addr()) {
					different[e.Addr] = true
				}
			}
			n += len(different)
		}
	}
	return n
}

func count(s *rules.Service, is func(rules.Endpoint) bool) int {
	n := 0
	for _, p := range s.Ports {
		for _, e := range p.Endpoints {
			if is(e) {
				n++
			}
		}
	}
	return n
}

func hasTwins(s *rules.Service) bool {
	for _, p := range s.Ports {
		seen := map[netip.AddrPort]bool{}
		for _, e := range p.Endpoints {
			if seen[e.Addr] {
				return true
			}
			seen[e.Addr] = true
		}
	}
	return false
}

// rangesHaveNode reports whether the source ranges of a Service decide something, and have the node's address among them
// or not.
func rangesHaveNode(w *rules.World, s *rules.Service, want bool) bool {
	for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
		of := func(r netip.Prefix) bool { return f.Has(r.Addr()) }
		node := func(r netip.Prefix) bool { return r.Contains(w.Node.IP(f)) }
		if slices.ContainsFunc(s.LoadBalancerIPs, f.Has) && slices.ContainsFunc(s.SourceRanges, of) && slices.ContainsFunc(s.SourceRanges, node) == want {
			return true
		}
	}
	return false
}

// hinted reports whether all ready endpoints of a port have hints, and some but not all of them our place.
func hinted(s *rules.Service, place string, hints func(rules.Endpoint) []string) bool {
	return slices.ContainsFunc(s.Ports, func(p rules.ServicePort) bool {
		ours, others := 0, 0
		for _, e := range p.Endpoints {
			switch {
			case !e.Ready:
			case len(hints(e)) == 0:
				return false
			case slices.Contains(hints(e), place):
				ours++
			default:
				others++
			}
		}
		return ours > 0 && others > 0
	})
}
