package check

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// Policy is a PortPolicy as a plain value: who may have ports on nodes at all. An object must satisfy every policy that
// selects its namespace. Whatever is empty has to be defaulted by who reads the object: the zero Policy selects nobody.
type Policy struct {
	Name        string
	Namespaces  pool.Selector // of a namespace's labels; nil selects none
	Enforcement Enforcement
	NodePorts   *NodePortRule // nil: anything goes
	HostPorts   *HostPortRule // nil: anything goes
	ExternalIPs RuleMode      // Allowed, NodeAddressesForbidden or Forbidden; "": anything goes
	Reserved    []ReservedSockets
	Exceptions  []Exception
	Message     string // its owner's, for those who break it
}

// RuleMode says which ports may be held. The spelling is the API's.
type RuleMode string

// The modes. PoolOnly is for node ports, NodeAddressesForbidden for external IPs.
const (
	ModeAllowed    RuleMode = "Allowed"
	ModeRestricted RuleMode = "Restricted" // those of Allowed
	ModePoolOnly   RuleMode = "PoolOnly"   // those of a pool that serves the Service
	ModeForbidden  RuleMode = "Forbidden"

	ModeNodeAddressesForbidden RuleMode = "NodeAddressesForbidden"
)

// NodePortRule restricts the numbers of Services: nodePort and healthCheckNodePort.
type NodePortRule struct {
	Mode            RuleMode
	Allowed         ports.Ranges
	NoWritten       bool // a Service may not name its number
	NoLoadBalancers bool // a LoadBalancer may have no node ports
}

// HostPortRule restricts the sockets of pods, on the host network too.
type HostPortRule struct {
	Mode            RuleMode
	Allowed         []SocketRange
	NoHostNetwork   bool
	NoNodePortRange bool
}

// SocketRange is a range of ports, of some protocols and on some addresses of a node; none named means all.
type SocketRange struct {
	ports.Range
	Protocols []ports.Protocol
	Addresses []ports.Address
}

// String returns "8080-8089/TCP", "53/TCP,UDP" or "9100 on 127.0.0.1,::1".
func (r SocketRange) String() string {
	return r.Range.String() + listed("/", r.Protocols) + listed(" on ", r.Addresses)
}

// listed joins what there is with commas, after what introduces it.
func listed[T fmt.Stringer](intro string, list []T) string {
	if len(list) == 0 {
		return ""
	}
	var parts []string
	for _, item := range list {
		parts = append(parts, item.String())
	}
	return intro + strings.Join(parts, ",")
}

// ReservedSockets belong to something on the nodes that Kubernetes cannot see.
type ReservedSockets struct {
	Name    string // the holder's
	Sockets []SocketRange
	Nodes   pool.Selector // of a node's labels; nil selects none
	Reason  string
}

// Exception is somebody whom a policy leaves alone.
type Exception struct {
	Name       string
	Namespaces pool.Selector // of a namespace's labels; nil selects all
	Objects    pool.Selector // of a Service's labels, or a pod's; nil selects all
	Ends       time.Time     // from when on it does not count; zero: never
	Reason     string        // why it was given
}

// noticeBefore is how long before the end of an exception those are told who need it.
const noticeBefore = 14 * 24 * time.Hour

// policies asks every policy that selects the object's namespace.
func policies(s subject) []Finding {
	var findings []Finding
	for i := range s.policies {
		p := &s.policies[i]
		if p.Namespaces != nil && p.Namespaces.Matches(s.namespace) {
			findings = append(findings, s.under(p)...)
		}
	}
	return findings
}

// under returns what breaks a policy, or which exception from it is needed and ends.
func (s subject) under(p *Policy) []Finding {
	broken := s.broken(p)
	if len(broken) == 0 {
		return nil
	}
	for i := range broken {
		f := &broken[i]
		f.Enforcement, f.Remark = p.Enforcement, p.Message
		if f.Case == ReservedMaybe {
			f.Enforcement = min(f.Enforcement, Warn)
		}
		f.Holder = &Holder{Ref: ports.Ref{APIVersion: ownAPIVersion, Kind: "PortPolicy", Name: p.Name}}
	}
	x := p.exception(s.namespace, s.labels())
	if x == nil {
		return broken
	}
	told := broken[0]
	told.Code, told.Case, told.Claim, told.Nodes, told.Eligible = ExceptionEnds, EndsSoon, ports.Claim{}, nil, 0
	told.Detail = ExceptionEnd{x.Name, x.Ends}
	told.Enforcement = min(told.Enforcement, Warn)
	told.Remark = strings.TrimPrefix(p.Message+"; it was given for: "+x.Reason, "; ")
	if x.Reason == "" {
		told.Remark = p.Message
	}
	switch {
	case x.Ends.IsZero() || x.Ends.Sub(s.now) > noticeBefore:
		return nil
	case s.now.Before(x.Ends):
		return []Finding{told}
	default:
		told.Case = HasEnded
		return append(broken, told)
	}
}

// exception returns the exception for an object, of several the one that lasts longest, in force or not; nil for none.
func (p *Policy) exception(namespace, labels map[string]string) *Exception {
	var longest *Exception
	for i := range p.Exceptions {
		x := &p.Exceptions[i]
		if x.Namespaces != nil && !x.Namespaces.Matches(namespace) || x.Objects != nil && !x.Objects.Matches(labels) {
			continue
		}
		if longest == nil || !longest.Ends.IsZero() && (x.Ends.IsZero() || x.Ends.After(longest.Ends)) {
			longest = x
		}
	}
	return longest
}

func (s subject) labels() map[string]string {
	if s.service != nil {
		return s.service.Labels
	}
	return s.workload.Labels
}

// broken returns what breaks a policy, its exceptions aside.
func (s subject) broken(p *Policy) []Finding {
	var findings []Finding
	if s.service != nil {
		if p.NodePorts != nil {
			findings = s.brokenBy(p.NodePorts)
		}
		findings = append(findings, s.brokenByExternal(p.ExternalIPs)...)
	} else if p.HostPorts != nil {
		findings = s.brokenByHost(p.HostPorts)
	}
	for i := range p.Reserved {
		findings = append(findings, s.reserved(&p.Reserved[i])...)
	}
	return findings
}

// brokenBy returns what a Service breaks of a rule: by the numbers that it has, and by those that it will be given.
func (s subject) brokenBy(rule *NodePortRule) []Finding {
	var findings []Finding
	had := s.had()
	add := func(named Case, f Finding) {
		f.Code, f.Case, f.Object = PolicyNodePort, named, s.service.Owner.Ref
		findings = append(findings, f)
	}
	if rule.NoLoadBalancers && s.service.Type == "LoadBalancer" {
		if field, has := s.service.hasNumbers(); has {
			add(LoadBalancerNumber, Finding{Field: field})
		}
	}
	for _, c := range s.service.Claims {
		if !c.Kind.IsNodePortAllocated() {
			continue
		}
		f := Finding{Field: c.Field, Claim: c}
		switch {
		case rule.Mode == ModeForbidden:
			add(NoNodePorts, f)
		case rule.Mode == ModeRestricted && !rule.Allowed.Contains(c.Port):
			f.Detail = AllowedPorts{rule.Allowed.String()}
			add(NumberNotAllowed, f)
		case rule.Mode == ModePoolOnly && !s.isPooled(c.Port):
			f.Detail = ServingPool{s.serving()}
			add(NumberOfNoPool, f)
		}
		if rule.NoWritten && !s.service.Chosen && !had[c.Port] {
			add(NumberWritten, f)
		}
	}
	for _, g := range Gaps(s.service, s.previous) {
		f := Finding{Field: g.Field, Claim: ports.Claim{Kind: g.Kind}, Detail: MissingPort{g.Key}}
		switch {
		case rule.Mode == ModeForbidden:
			add(NoNodePorts, f)
		case rule.Mode == ModePoolOnly && !s.isServed():
			add(NumberOfNoPool, f)
		}
	}
	return findings
}

// hasNumbers reports whether a LoadBalancer has node ports, or will have some, and the path of what says so.
func (s *Service) hasNumbers() (field string, has bool) {
	if !s.Unallocated {
		return "spec.allocateLoadBalancerNodePorts", true
	}
	for _, c := range s.Claims {
		if c.Kind == ports.NodePort {
			return c.Field, true
		}
	}
	return "", false
}

// isPooled reports whether a number is of a pool that selects the Service.
func (s subject) isPooled(port uint16) bool {
	return s.pools != nil && s.pools.Set.Place(s.pools.Who, port).Standing == pool.InPool
}

// serving returns the name of the pool that serves the Service, "" for none.
func (s subject) serving() string {
	if s.pools != nil {
		for _, m := range s.pools.Set.Candidates(s.pools.Who) {
			return m.Name
		}
	}
	return ""
}

// isServed reports whether a pool gives the Service numbers that it does not name.
func (s subject) isServed() bool {
	return s.pools != nil && slices.ContainsFunc(s.pools.Set.Candidates(s.pools.Who), func(m *pool.Member) bool { return m.Mode == pool.Auto })
}

// brokenByHost returns what a pod or template breaks of a rule. A hostPort of a plain init container counts: the check
// is who may have it, not who meets whom.
func (s subject) brokenByHost(rule *HostPortRule) []Finding {
	w := s.workload
	allowed := BriefRanges(rule.Allowed)
	var findings []Finding
	add := func(named Case, f Finding) {
		f.Code, f.Case, f.Object = PolicyHostPort, named, w.Owner.Ref
		findings = append(findings, f)
	}
	if rule.NoHostNetwork && w.HostNetwork {
		add(NoHostNetwork, Finding{Field: w.HostNetworkField})
	}
	for _, c := range w.Claims {
		f := Finding{Field: c.Field, Claim: c}
		switch {
		case rule.Mode == ModeForbidden:
			add(NoHostPorts, f)
		case rule.Mode == ModeRestricted && !areAllowed(rule.Allowed, c.Socket):
			f.Detail = AllowedPorts{allowed}
			add(SocketNotAllowed, f)
		}
		if rule.NoNodePortRange && rule.Mode != ModeForbidden && s.settings.NodePortRange.Contains(c.Port) {
			f.Detail = PortRange{s.settings.NodePortRange}
			add(InRangeForbidden, f)
		}
	}
	return findings
}

// brokenByExternal returns which external IPs of a Service a rule does not allow.
func (s subject) brokenByExternal(mode RuleMode) []Finding {
	var findings []Finding
	for i, addr := range s.service.ExternalIPs {
		f := Finding{Code: PolicyExternalIP, Object: s.service.Owner.Ref, Field: externalIPField(i), Detail: ExternalIP{Addr: addr}}
		switch mode {
		case ModeAllowed, ModeRestricted, ModePoolOnly:
			return nil
		case ModeForbidden:
			f.Case = NoExternalIPs
		case ModeNodeAddressesForbidden:
			node, _, known := s.held.NodeOf(addr)
			if !known {
				continue
			}
			f.Case, f.Nodes = NoNodesExternalIP, []string{node}
		default:
			return nil
		}
		findings = append(findings, f)
	}
	return findings
}

// areAllowed reports whether ranges together allow all of a socket: a hostPort on every address needs one for each family.
func areAllowed(ranges []SocketRange, socket ports.Socket) bool {
	var on []ports.Address
	for _, r := range ranges {
		if !r.isOf(socket) {
			continue
		}
		if len(r.Addresses) == 0 {
			return true
		}
		on = append(on, r.Addresses...)
	}
	covered := func(a ports.Address) bool {
		return slices.ContainsFunc(on, func(o ports.Address) bool { return o.Covers(a) })
	}
	return covered(socket.Address) || socket.Address == ports.AllAddresses() && covered(ports.AllIPv4()) && covered(ports.AllIPv6())
}

// isOf reports whether a socket's port and protocol are r's.
func (r SocketRange) isOf(socket ports.Socket) bool {
	return r.Contains(socket.Port) && (len(r.Protocols) == 0 || slices.Contains(r.Protocols, socket.Protocol))
}

// overlaps reports whether a socket takes some of r.
func (r SocketRange) overlaps(socket ports.Socket) bool {
	return r.isOf(socket) && (len(r.Addresses) == 0 || slices.ContainsFunc(r.Addresses, socket.Address.Overlaps))
}

// BriefRanges names at most three of the ranges that a policy allows, and counts the rest.
func BriefRanges(ranges []SocketRange) string {
	const few = 3
	var parts []string
	for _, r := range ranges[:min(few, len(ranges))] {
		parts = append(parts, r.String())
	}
	text := strings.Join(parts, ", ")
	if more := len(ranges) - few; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// reserved asks whether a pod or template wants what is reserved, on a node that it is certain to take, or wherever it may
// run, or a Service at an address of a node. As long as there is another node it is the scheduler's business.
func (s subject) reserved(r *ReservedSockets) []Finding {
	var findings []Finding
	for _, c := range s.claims() {
		if c.InitOnly || c.Kind.IsNodePortAllocated() || !slices.ContainsFunc(r.Sockets, func(o SocketRange) bool { return o.overlaps(c.Socket) }) {
			continue
		}
		if f, is := s.reservedFor(c, r.Nodes); is {
			f.Code, f.Object, f.Field, f.Claim, f.Detail = PolicyReserved, c.Owner.Ref, c.Field, c, Reservation{r.Name, r.Reason}
			findings = append(findings, f)
		}
	}
	return findings
}

// reservedFor says on which nodes, of those that a selector selects, a claim cannot avoid to be. Nodes are nil for every
// node, whichever there are.
func (s subject) reservedFor(c ports.Claim, nodes pool.Selector) (f Finding, is bool) {
	certain, eligible := s.nodesOf(c)
	isNowhere := eligible != nil && len(eligible) == 0 || c.Scope.Kind == ports.OnEach && len(certain) == 0
	isEverywhere := nodes != nil && nodes.String() == ""
	switch {
	case nodes == nil || c.Scope.Kind == ports.AtAddress && len(certain) == 0:
		return f, false
	case isNowhere && isEverywhere: // there may be such nodes tomorrow
		f.Case = ReservedAll
		return f, true
	case isNowhere:
		return s.reservedLater(nodes)
	case isEverywhere:
		f.Case = ReservedAll
		if f.Nodes = slices.Clone(certain); certain != nil {
			f.Case = ReservedThere
		}
		return f, true
	case s.labelsOf == nil:
		return f, false
	}
	isReserved := func(node string) bool { return nodes.Matches(s.labelsOf(node)) }
	if certain != nil {
		f.Case = ReservedThere
		for _, node := range certain {
			if isReserved(node) {
				f.Nodes = append(f.Nodes, node)
			}
		}
		return f, len(f.Nodes) > 0
	}
	if len(eligible) == 0 || slices.ContainsFunc(eligible, func(node string) bool { return !isReserved(node) }) {
		return f, false
	}
	f.Case, f.Nodes, f.Eligible = ReservedAll, slices.Clone(eligible), len(eligible)
	return f, true
}

// reservedLater says of a workload that no node suits now whether it may come to nodes of a selector once there are some: nodes
// that are made when pods wait for them.
func (s subject) reservedLater(nodes pool.Selector) (f Finding, is bool) {
	if s.workload.Selection == nil {
		return f, false
	}
	some, all := s.workload.Selection.Overlap(nodes)
	if f.Case = ReservedMaybe; all {
		f.Case = ReservedLater
	}
	return f, some
}

// nodesOf returns the nodes that a claim is certain to be on, and those that it may be on; nil where they are not known.
func (s subject) nodesOf(c ports.Claim) (certain, eligible []string) {
	if c.Scope.Kind != ports.AtAddress {
		return c.Scope.Nodes(), s.workload.nodes()
	}
	if addr, ok := c.Address.Single(); ok {
		if node, _, known := s.held.NodeOf(addr); known {
			return []string{node}, nil
		}
	}
	return nil, nil
}

// saidOnce leaves of one violation of several policies the finding that is enforced most strictly. That a host port is in the
// node port range is left out where a policy does not allow the port at all, and is enforced at least as strictly.
func (s *Settings) saidOnce(findings []Finding) []Finding {
	type violation struct {
		code   Code
		named  Case
		field  string
		socket ports.Socket
	}
	strictest := map[violation]Finding{}
	forbidden := map[string]Enforcement{} // by field: where a policy does not allow the host port
	violationOf := func(f Finding) violation { return violation{f.Code, f.Case, f.Field, f.Claim.Socket} }
	isOfPolicy := func(f Finding) bool {
		return f.Code == PolicyNodePort || f.Code == PolicyHostPort || f.Code == PolicyExternalIP || f.Code == PolicyReserved
	}
	for _, f := range findings {
		if !isOfPolicy(f) {
			continue
		}
		before, again := strictest[violationOf(f)]
		if !again || cmp.Compare(s.Enforce(f), s.Enforce(before)) > 0 {
			strictest[violationOf(f)] = f
		}
		if f.Code == PolicyHostPort {
			forbidden[f.Field] = max(forbidden[f.Field], s.Enforce(f))
		}
	}
	if len(strictest) == 0 {
		return findings
	}
	return slices.DeleteFunc(findings, func(f Finding) bool {
		if isOfPolicy(f) {
			return f.holder() != strictest[violationOf(f)].holder()
		}
		return f.Code == InNodePorts && forbidden[f.Field] >= s.Enforce(f)
	})
}
