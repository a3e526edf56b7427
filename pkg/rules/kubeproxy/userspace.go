package kubeproxy

import (
	"net/netip"
	"slices"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

// Userspace renders what the userspace mode installed, which was deprecated in Kubernetes 1.23 and removed in 1.26
// (pkg/proxy/userspace/proxier.go of 1.25, with its default --bind-address). Every Service port had a socket on the node,
// whose port only the kernel knew: portOf tells it, 0 if there was none; then there are no rules. The proxy took
// connections there and made others to the endpoints, so that the rules know nothing of endpoints, policies and source
// ranges, and nothing is masqueraded.
//
// No code that renders these rules can be had for comparison: they are held to the grammar of that file only.
func Userspace(w *rules.World, f rules.Family, portOf func(*rules.Service, ports.ServicePort) uint16) rules.Fragment {
	b := newUserspace(w, f)
	for _, p := range servicePorts(w, f) {
		if port := portOf(p.service, p.ServicePort.ServicePort); port != 0 {
			b.servicePort(p, port)
		}
	}
	table := func(name string, chains ...*rules.Chain) *rules.Table {
		return &rules.Table{Tool: rules.XTables, Family: f, Name: name, Chains: chains}
	}
	return rules.Fragment{
		Tables: []*rules.Table{
			table("nat", &b.portals, &b.ownPortals, &b.nodePorts, &b.ownNodePorts),
			table("filter", &b.nonLocal),
		},
		Jumps: userspaceJumps(f),
	}
}

// userspace is a rule set of the userspace mode in the making. What comes to the node has other chains than what the node
// itself sends.
type userspace struct {
	local  []netip.Addr // of the node
	hostIP netip.Addr   // by which the node reaches the proxy's sockets
	claims map[rules.Key]string

	portals, ownPortals, nodePorts, ownNodePorts, nonLocal rules.Chain
}

func newUserspace(w *rules.World, f rules.Family) *userspace {
	b := &userspace{local: ofFamily(f, w.Node.Addresses), hostIP: w.Node.IP(f), claims: map[rules.Key]string{}}
	if b.hostIP.IsLoopback() && len(b.local) > 0 { // the node's address is not known: one that is not loopback is taken
		b.hostIP = b.local[0]
	}
	b.portals.Name, b.ownPortals.Name = "KUBE-PORTALS-CONTAINER", "KUBE-PORTALS-HOST"
	b.nodePorts.Name, b.ownNodePorts.Name = "KUBE-NODEPORT-CONTAINER", "KUBE-NODEPORT-HOST"
	b.nonLocal.Name = "KUBE-NODEPORT-NON-LOCAL"
	return b
}

// userspaceJumps come in the order of iptablesInit. Those for node ports were appended: what others put there before has
// precedence.
func userspaceJumps(f rules.Family) []rules.Into {
	var jumps []rules.Into
	jump := func(insert bool, table, from, to string, do ...rules.Stmt) {
		rule := &rules.Rule{Do: append(do, rules.Jump{Chain: to}), Origin: rules.Origin{Component: component}}
		jumps = append(jumps, rules.Into{Tool: rules.XTables, Family: f, Table: table, Chain: from, Rule: rule, Insert: insert})
	}
	clusterIPs := rules.Comment{Text: "handle ClusterIPs; NOTE: this must be before the NodePort rules"}
	nodePorts := rules.Comment{Text: "handle service NodePorts; NOTE: this must be the last rule in the chain"}
	toLocal := rules.AddrLocal{Side: rules.Destination}
	jump(true, "nat", "PREROUTING", "KUBE-PORTALS-CONTAINER", clusterIPs)
	jump(true, "nat", "OUTPUT", "KUBE-PORTALS-HOST", clusterIPs)
	jump(false, "nat", "PREROUTING", "KUBE-NODEPORT-CONTAINER", toLocal, nodePorts)
	jump(false, "nat", "OUTPUT", "KUBE-NODEPORT-HOST", toLocal, nodePorts)
	jump(true, "filter", "INPUT", "KUBE-NODEPORT-NON-LOCAL", rules.Comment{Text: "Ensure that non-local NodePort traffic can flow"})
	return jumps
}

// servicePort leads everything that is for a Service port to its socket (openPortal). It ends at the first port of the
// node that another Service port holds already.
func (b *userspace) servicePort(p *servicePort, port uint16) {
	b.portal(p, p.clusterIP, port)
	for _, ip := range p.externalIPs {
		if !b.claimAddr(p, ip) {
			return
		}
		toAddr, toLocal := to(ip), rules.AddrLocal{Side: rules.Destination}
		b.redirect(&b.portals, p, port, p.Port, toAddr, rules.PhysdevIn{Not: true})
		b.redirect(&b.portals, p, port, p.Port, toAddr, toLocal)
		b.translate(&b.ownPortals, p, port, p.Port, toAddr, toLocal)
	}
	for _, ip := range p.balancerIPs {
		if !b.claimAddr(p, ip) {
			return
		}
		b.portal(p, ip, port)
	}
	if p.NodePort == 0 || !b.claim(p, netip.Addr{}, p.NodePort) {
		return
	}
	b.redirect(&b.nodePorts, p, port, p.NodePort)
	b.translate(&b.ownNodePorts, p, port, p.NodePort)
	b.add(&b.nonLocal, p, port, rules.CTState{In: []string{"NEW"}, Old: true}, rules.Accept{})
}

func (b *userspace) portal(p *servicePort, ip netip.Addr, port uint16) {
	b.redirect(&b.portals, p, port, p.Port, to(ip))
	b.translate(&b.ownPortals, p, port, p.Port, to(ip))
}

// claimAddr claims the port of an address that is the node's own; others need no claim.
func (b *userspace) claimAddr(p *servicePort, ip netip.Addr) bool {
	return !slices.Contains(b.local, ip) || b.claim(p, ip, p.Port)
}

// claim reports whether the Service port holds a port of the node, now or already (claimNodePort).
func (b *userspace) claim(p *servicePort, ip netip.Addr, port uint16) bool {
	key := p.at(ip, port)
	if _, ok := b.claims[key]; !ok {
		b.claims[key] = p.name
	}
	return b.claims[key] == p.name
}

// redirect leads packets from outside to the socket: to the address of the interface by which they come.
func (b *userspace) redirect(c *rules.Chain, p *servicePort, socket, port uint16, do ...rules.Stmt) {
	b.add(c, p, port, append(do, rules.Redirect{Port: socket})...)
}

// translate leads packets of the node to the socket: redirected ones would go to loopback, and be answered from elsewhere.
func (b *userspace) translate(c *rules.Chain, p *servicePort, socket, port uint16, do ...rules.Stmt) {
	b.add(c, p, port, append(do, rules.DNAT{To: []netip.AddrPort{netip.AddrPortFrom(b.hostIP, socket)}})...)
}

func (b *userspace) add(c *rules.Chain, p *servicePort, port uint16, do ...rules.Stmt) {
	common := []rules.Stmt{rules.Comment{Text: p.name}, rules.Proto{Is: p.Protocol}, rules.Port{Is: []uint16{port}}}
	c.Rules = append(c.Rules, &rules.Rule{Do: append(common, do...), Origin: p.origin})
}
