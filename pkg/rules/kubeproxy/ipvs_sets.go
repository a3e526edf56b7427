package kubeproxy

import (
	"net/netip"
	"strings"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

// ipset is a set that the rules of the ipvs mode look up.
type ipset struct {
	rules.Set
	comment string // of the rules, not of the set
	has     map[rules.Key]bool
}

// ipsets are all of them (pkg/proxy/ipvs/ipset.go, ipsetInfo). They are created whether or not they hold anything.
type ipsets struct {
	loopBack                                              ipset // endpoints of this node, with themselves as the source
	clusterIP                                             ipset
	externalIP, externalIPLocal                           ipset // by the external traffic policy
	balancer, balancerLocal                               ipset // all, and those of the policy Local
	balancerRanged, sourceIP, sourceCIDR                  ipset // those with source ranges, and what may come to them
	nodePortTCP, nodePortUDP, nodePortSCTP                ipset // all
	nodePortLocalTCP, nodePortLocalUDP, nodePortLocalSCTP ipset // those of the policy Local
	healthCheck                                           ipset
	bound                                                 ipset // the addresses of the interface kube-ipvs0

	all []*rules.Set // in the order in which they are created
}

func newIPSets(f rules.Family) *ipsets {
	var s ipsets
	for _, is := range []struct {
		set                 *ipset
		name, kind, comment string
	}{
		{&s.loopBack, "LOOP-BACK", "hash:ip,port,ip", "endpoints dst ip:port, source ip for solving hairpin purpose"},
		{&s.clusterIP, "CLUSTER-IP", "hash:ip,port", "service cluster ip + port for masquerade purpose"},
		{&s.externalIP, "EXTERNAL-IP", "hash:ip,port", "service external ip + port for masquerade and filter purpose"},
		{&s.externalIPLocal, "EXTERNAL-IP-LOCAL", "hash:ip,port", "service external ip + port with externalTrafficPolicy=local"},
		{&s.balancer, "LOAD-BALANCER", "hash:ip,port", "service lb portal"},
		{&s.balancerRanged, "LOAD-BALANCER-FW", "hash:ip,port", "service load balancer ip + port for load balancer with sourceRange"},
		{&s.balancerLocal, "LOAD-BALANCER-LOCAL", "hash:ip,port", "service load balancer ip + port with externalTrafficPolicy=local"},
		{&s.sourceIP, "LOAD-BALANCER-SOURCE-IP", "hash:ip,port,ip", "service load balancer ip + port + source IP for packet filter purpose"},
		{&s.sourceCIDR, "LOAD-BALANCER-SOURCE-CIDR", "hash:ip,port,net", "service load balancer ip + port + source cidr for packet filter purpose"},
		{&s.nodePortTCP, "NODE-PORT-TCP", "bitmap:port", "nodeport TCP port for masquerade purpose"},
		{&s.nodePortLocalTCP, "NODE-PORT-LOCAL-TCP", "bitmap:port", "nodeport TCP port with externalTrafficPolicy=local"},
		{&s.nodePortUDP, "NODE-PORT-UDP", "bitmap:port", "nodeport UDP port for masquerade purpose"},
		{&s.nodePortLocalUDP, "NODE-PORT-LOCAL-UDP", "bitmap:port", "nodeport UDP port with externalTrafficPolicy=local"},
		{&s.nodePortSCTP, "NODE-PORT-SCTP-HASH", "hash:ip,port", "nodeport SCTP port for masquerade purpose with type 'hash ip:port'"},
		{&s.nodePortLocalSCTP, "NODE-PORT-LOCAL-SCTP-HASH", "hash:ip,port", "nodeport SCTP port with externalTrafficPolicy=local with type 'hash ip:port'"},
		{&s.healthCheck, "HEALTH-CHECK-NODE-PORT", "bitmap:port", "health check node port"},
		{&s.bound, "IPVS-IPS", "hash:ip", ""},
	} {
		s.all = append(s.all, &is.set.Set)
		*is.set = ipset{Set: rules.Set{Name: ipsetName(is.name, f), Type: is.kind, Family: f}, comment: "Kubernetes " + is.comment, has: map[rules.Key]bool{}}
	}
	return &s
}

// ipsetName is the name of a set, which the kernel holds to 31 letters.
func ipsetName(name string, f rules.Family) string {
	if f == rules.IPv4 {
		return "KUBE-" + name
	}
	name = "KUBE-6-" + name
	return name[:min(len(name), 31)]
}

// nodePorts returns the sets of a protocol's node ports: of all, and of those of the policy Local.
func (s *ipsets) nodePorts(p ports.Protocol) (every, local *ipset) {
	switch p {
	case ports.TCP:
		return &s.nodePortTCP, &s.nodePortLocalTCP
	case ports.UDP:
		return &s.nodePortUDP, &s.nodePortLocalUDP
	case ports.SCTP:
	}
	return &s.nodePortSCTP, &s.nodePortLocalSCTP
}

// add enters what a Service port is found by.
func (s *ipset) add(p *servicePort, k rules.Key) {
	if !s.has[k] {
		s.has[k] = true
		s.Elems = append(s.Elems, rules.Elem{Key: k, Origin: p.origin})
	}
}

func (s *ipset) isEmpty() bool { return len(s.Elems) == 0 }

// holds matches packets that the set has, by their destination.
func (s *ipset) holds() rules.InSet {
	var fields []rules.Field
	if s.Type != "bitmap:port" {
		fields = append(fields, rules.DstAddr)
	}
	if strings.Contains(s.Type, "port") {
		fields = append(fields, rules.DstPort)
	}
	if strings.HasPrefix(s.Type, "hash:ip,port,") {
		fields = append(fields, rules.SrcAddr)
	}
	return rules.InSet{Set: s.Name, Fields: fields}
}

// told is holds behind the comment that most rules tell it with.
func (s *ipset) told() []rules.Stmt { return []rules.Stmt{rules.Comment{Text: s.comment}, s.holds()} }

// at is a key of an address with a port of the Service port's protocol.
func (p *servicePort) at(a netip.Addr, port uint16) rules.Key {
	return rules.Key{Addr: a, Protocol: p.Protocol, Port: port}
}
