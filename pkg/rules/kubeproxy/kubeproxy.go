// Package kubeproxy renders the rules that kube-proxy of Kubernetes 1.37 installs on a node, one file for each of its
// back ends, and those of the userspace mode, which 1.26 removed.
//
// IPTables, NFTables, IPVS and Userspace each turn a rules.World and a family into a rules.Fragment. They share what all
// back ends decide by: the ports of Services, and which endpoints a packet may be sent to from this node (servicePort).
//
// Where a rule comes from is said beside it, as a file of k8s.io/kubernetes; tests compare the rules with the real
// proxiers. Services come in the order of the World: kube-proxy itself has none between them.
package kubeproxy

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

const component = "kube-proxy"

// servicePort is a port of a Service in one family, with what all back ends decide by (pkg/proxy/serviceport.go,
// pkg/proxy/topology.go).
type servicePort struct {
	*rules.ServicePort
	service       *rules.Service
	name          string // "namespace/name" or "namespace/name:port", of comments and hashes
	clusterIP     netip.Addr
	externalIPs   []netip.Addr
	balancerIPs   []netip.Addr
	sourceRanges  []netip.Prefix // none: any source
	externalLocal bool
	healthCheck   uint16
	origin        rules.Origin

	known   []endpoint // all, sorted, no address twice
	cluster []endpoint // those of the traffic policy Cluster
	local   []endpoint // those of the traffic policy Local
	reach   []endpoint // those that some packet on this node can be sent to
	hasAny  bool       // some endpoint somewhere can be used
}

// endpoint is an endpoint of a servicePort.
type endpoint struct {
	*rules.Endpoint
	text  string // "10.244.0.20:8080", "[fd00::20]:8080"; endpoints are sorted by it
	local bool
	index int // in servicePort.known
}

func (e endpoint) isReady() bool    { return e.Ready }
func (e endpoint) isDraining() bool { return e.Serving && e.Terminating }

// servicePorts returns the ports of all Services that have a cluster IP of a family.
func servicePorts(w *rules.World, f rules.Family) []*servicePort {
	var all []*servicePort
	for _, s := range w.Services {
		ip, ok := s.ClusterIP(f)
		if !ok {
			continue
		}
		externalIPs, balancerIPs, ranges := ofFamily(f, s.ExternalIPs), ofFamily(f, s.LoadBalancerIPs), sourceRanges(s, f)
		for i := range s.Ports {
			p := &servicePort{
				ServicePort: &s.Ports[i], service: s, name: s.Ref.Namespace + "/" + s.Ref.Name, clusterIP: ip,
				externalIPs: externalIPs, balancerIPs: balancerIPs, sourceRanges: ranges, externalLocal: externalLocal(s),
			}
			if p.Name != "" {
				p.name += ":" + p.Name
			}
			if p.externalLocal && s.Type == "LoadBalancer" {
				p.healthCheck = s.HealthCheckNodePort
			}
			p.origin = rules.Origin{Component: component, Owner: s.Ref, Port: cmp.Or(p.Name, strconv.Itoa(int(p.Port))+"/"+p.Protocol.String())}
			p.known = endpoints(p.Endpoints, f, w.Node.Name)
			p.categorize(&w.Node)
			all = append(all, p)
		}
	}
	return all
}

func ofFamily(f rules.Family, addrs []netip.Addr) []netip.Addr {
	var of []netip.Addr
	for _, a := range addrs {
		if f.Has(a) {
			of = append(of, a)
		}
	}
	return of
}

// sourceRanges returns a Service's ranges of a family. A range of everything means the same as none.
func sourceRanges(s *rules.Service, f rules.Family) []netip.Prefix {
	var of []netip.Prefix
	for _, r := range s.SourceRanges {
		if !f.Has(r.Addr()) {
			continue
		}
		if r.Bits() == 0 {
			return nil
		}
		of = append(of, r)
	}
	return of
}

// externalLocal reports whether the external traffic policy Local counts (pkg/api/v1/service ExternalPolicyLocal).
func externalLocal(s *rules.Service) bool {
	return s.ExternalLocal && (s.Type == "LoadBalancer" || s.Type == "NodePort" || len(s.ExternalIPs) > 0)
}

// endpoints returns those of a family, sorted by their text. Of two with one address the one that is not terminating
// counts: the network gave it the address of the other (pkg/proxy/endpointslicecache.go addEndpoints).
func endpoints(all []rules.Endpoint, f rules.Family, node string) []endpoint {
	sorted := make([]endpoint, 0, len(all))
	for i := range all {
		if e := &all[i]; f.Has(e.Addr.Addr()) {
			sorted = append(sorted, endpoint{Endpoint: e, text: e.Addr.String(), local: node != "" && e.Node == node})
		}
	}
	slices.SortStableFunc(sorted, func(a, b endpoint) int { return strings.Compare(a.text, b.text) })
	known := sorted[:0]
	for _, e := range sorted {
		switch last := len(known) - 1; {
		case last < 0 || known[last].text != e.text:
			known = append(known, e)
		case !e.Terminating:
			known[last] = e
		}
	}
	for i := range known {
		known[i].index = i
	}
	return known
}

// isAccessible reports whether the port can be reached by something else than its cluster IP.
func (p *servicePort) isAccessible() bool {
	return p.NodePort != 0 || len(p.balancerIPs) > 0 || len(p.externalIPs) > 0
}

// usesCluster reports whether some traffic goes by the policy Cluster: what comes from inside to an external
// destination always does.
func (p *servicePort) usesCluster() bool { return !p.service.InternalLocal || p.isAccessible() }

// usesLocal reports whether some traffic goes by the policy Local.
func (p *servicePort) usesLocal() bool {
	return p.service.InternalLocal || p.externalLocal && p.isAccessible()
}

// hasInternal reports whether there is an endpoint for traffic to the cluster IP.
func (p *servicePort) hasInternal() bool {
	return p.hasAny && (!p.service.InternalLocal || len(p.local) > 0)
}

// hasExternal reports whether there is an endpoint for traffic from outside.
func (p *servicePort) hasExternal() bool {
	return p.hasAny && (!p.externalLocal || len(p.local) > 0)
}

// allowsNode reports whether the source ranges have the node's address in them: then the node may use the load
// balancer's address as its source.
func (p *servicePort) allowsNode(n *rules.Node, f rules.Family) bool {
	ip := n.IP(f)
	return slices.ContainsFunc(p.sourceRanges, func(r netip.Prefix) bool { return r.Contains(ip) })
}

// categorize finds out which endpoints the policies use (pkg/proxy/topology.go CategorizeEndpoints).
func (p *servicePort) categorize(n *rules.Node) {
	var near func(endpoint) bool
	if p.usesCluster() {
		near = topology(p.known, n)
		p.cluster = filter(p.known, func(e endpoint) bool { return e.isReady() && (near == nil || near(e)) })
		if len(p.cluster) == 0 {
			p.cluster = filter(p.known, endpoint.isDraining)
		}
		p.hasAny = len(p.cluster) > 0
	}
	if !p.usesLocal() {
		p.reach = p.cluster
		return
	}
	p.hasAny = slices.ContainsFunc(p.known, func(e endpoint) bool { return e.isReady() || e.isDraining() })
	p.local = filter(p.known, func(e endpoint) bool { return e.local && e.isReady() })
	lastResort := len(p.local) == 0
	if lastResort {
		p.local = filter(p.known, func(e endpoint) bool { return e.local && e.isDraining() })
	}
	switch {
	case !p.usesCluster():
		p.reach = p.local
	case near == nil && !lastResort:
		p.reach = p.cluster // all that are ready
	default:
		p.reach = union(p.cluster, p.local)
	}
}

func filter(all []endpoint, is func(endpoint) bool) []endpoint {
	n := 0
	for _, e := range all {
		if is(e) {
			n++
		}
	}
	if n == len(all) {
		return all
	}
	some := make([]endpoint, 0, n)
	for _, e := range all {
		if is(e) {
			some = append(some, e)
		}
	}
	return some
}

// union merges two sorted lists. (Upstream has the outcome in random order.)
func union(a, b []endpoint) []endpoint {
	all := slices.Concat(a, b)
	slices.SortFunc(all, func(a, b endpoint) int { return cmp.Compare(a.index, b.index) })
	return slices.CompactFunc(all, func(a, b endpoint) bool { return a.index == b.index })
}

// topology returns which of the ready endpoints the topology hints leave, nil for all: those of the node, else those of
// its zone, if every ready endpoint has such hints and one of them names the place (pkg/proxy/topology.go
// topologyModeFromHints).
func topology(known []endpoint, n *rules.Node) func(endpoint) bool {
	forNode := func(e endpoint) bool { return slices.Contains(e.ForNodes, n.Name) }
	forZone := func(e endpoint) bool { return slices.Contains(e.ForZones, n.Zone) }
	node, zone, nodes, zones := false, false, true, true
	for _, e := range known {
		if e.isReady() {
			nodes, node = nodes && len(e.ForNodes) > 0, node || forNode(e)
			zones, zone = zones && len(e.ForZones) > 0, zone || forZone(e)
		}
	}
	switch {
	case nodes && node:
		return forNode
	case zones && zone:
		return forZone
	default:
		return nil
	}
}

// nodePortRanges returns --nodeport-addresses of a family with "primary" resolved; none if it is every address
// (cmd/kube-proxy/app expandNodePortAddressKeywords, pkg/proxy/util NewNodePortAddresses).
func nodePortRanges(w *rules.World, f rules.Family) []netip.Prefix {
	var ranges []netip.Prefix
	for _, r := range w.Proxy.NodePortAddresses {
		if f.Has(r.Addr()) {
			ranges = append(ranges, r)
		}
	}
	if ip := w.Node.IP(f); w.Proxy.PrimaryNodePorts && !ip.IsLoopback() {
		ranges = append(ranges, host(ip))
	}
	if slices.ContainsFunc(ranges, func(r netip.Prefix) bool { return r.Bits() == 0 }) {
		return nil
	}
	return ranges
}

// nodePortAddresses returns the node's addresses at which node ports answer, sorted, loopback included where it was asked
// for. all says that every local address does; then there is no list (pkg/proxy/util/nodeport_addresses.go).
func nodePortAddresses(w *rules.World, f rules.Family) (addrs []netip.Addr, all bool) {
	ranges := nodePortRanges(w, f)
	if len(ranges) == 0 {
		return nil, true
	}
	for _, a := range append(ofFamily(f, w.Node.Addresses), loopback(f)) {
		if slices.ContainsFunc(ranges, func(r netip.Prefix) bool { return r.Contains(a) }) {
			addrs = append(addrs, a)
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs), false
}

func loopback(f rules.Family) netip.Addr {
	if f == rules.IPv4 {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.IPv6Loopback()
}

// host is the network of one address.
func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// fromPods returns the match that holds for packets of the node's pods, or with not for all others; nil if kube-proxy was
// told of no way to tell them apart (cmd/kube-proxy/app getLocalDetectors, pkg/proxy/util/localdetector.go).
func fromPods(w *rules.World, f rules.Family, not bool) rules.Stmt {
	d := w.Proxy.Detector
	switch cidr, ok := d.CIDR(f); {
	case d.Bridge != "":
		return rules.InInterface{Name: d.Bridge, Not: not}
	case d.InterfacePrefix != "":
		return rules.InInterface{Name: d.InterfacePrefix, Prefix: true, Not: not}
	case ok:
		return rules.Addr{Side: rules.Source, In: []netip.Prefix{cidr}, Not: not}
	default:
		return nil
	}
}

// masqueradeMark is the mark of packets that are masqueraded when they leave.
func masqueradeMark(w *rules.World) uint32 { return 1 << cmp.Or(w.Proxy.MasqueradeBit, 14) }
