package check_test

import (
	"strconv"
	"strings"
	"time"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// Pools and policies are written in lines too. A pool is
//
//	NAME RANGES [host] [shared] [draining|disabled] [explicit] [deny|warn] [ns=TEAM] [perNamespace=N] [perService=N]
//
// and a policy
//
//	NAME [deny|warn] [ns=TEAM] [nodePorts=MODE[:RANGES]] [noWritten] [noLoadBalancers]
//		[hostPorts=MODE[:SOCKETS]] [noHostNetwork] [noRange] [reserved=NAME:SOCKETS:NODES] [except=NAME:WHO[:DAYS]]
//
// where SOCKETS are "8080-8089/TCP+UDP@127.0.0.1+::1|9100", NODES is "*" or a label, and WHO a label of the object, or of the
// namespace behind "ns.". An exception ends so many days after the moment of judgement. The namespace has the label team=a;
// n1 has zone=a and control-plane, n2 and n3 zone=b.

// restrict adds a scene's pools and policies to the input.
func (s scene) restrict(in *check.Input) {
	in.Now = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	in.Namespace = map[string]string{"team": "a"}
	for _, line := range s.policies {
		in.Policies = append(in.Policies, mustPolicy(line, in.Now))
	}
	in.NodeLabels = func(node string) map[string]string {
		return map[string]map[string]string{"n1": {"zone": "a", "control-plane": ""}, "n2": {"zone": "b"}, "n3": {"zone": "b"}}[node]
	}
	if len(s.pools) == 0 {
		return
	}
	var pools []pool.Pool
	for _, line := range s.pools {
		pools = append(pools, mustPool(line))
	}
	who := pool.Requester{For: pool.HostPorts, Namespace: "ns", NamespaceLabels: in.Namespace}
	var object ports.Ref
	if in.Service != nil {
		who.For, who.Name, object = pool.NodePorts, in.Service.Owner.Name, in.Service.Owner.Ref
	}
	in.Pools = &check.Pools{
		Set: pool.New(pools, in.Settings.NodePortRange), Who: who,
		InNamespace: func(m *pool.Member) int { return othersHave(in.Held, object, m) },
	}
}

func othersHave(held *ledger.Snapshot, object ports.Ref, m *pool.Member) int {
	others := map[uint16]bool{}
	for owner, claims := range held.Owners() {
		for _, c := range claims {
			if owner.Ref != object && m.Effective.Contains(c.Port) {
				others[c.Port] = true
			}
		}
	}
	return len(others)
}

// selects is a selector of one label; the empty one selects all.
type selects string

func (s selects) Matches(labels map[string]string) bool {
	key, value, _ := strings.Cut(string(s), "=")
	return s == "" || labels[key] == value
}

func (s selects) String() string { return string(s) }

func mustLabels(text string) map[string]string {
	key, value, _ := strings.Cut(text, "=")
	return map[string]string{key: value}
}

func mustRanges(text string) ports.Ranges {
	ranges, err := ports.ParseRanges(text)
	if err != nil {
		panic(err)
	}
	return ranges
}

func mustPool(line string) pool.Pool {
	words := strings.Fields(line)
	p := pool.Pool{
		Name: words[0], For: pool.NodePorts, Ranges: mustRanges(words[1]), Namespaces: selects(""), Mode: pool.Auto,
		Strategy: pool.LowestFree, Exclusive: true, State: pool.Active, Enforcement: pool.Audit,
	}
	for _, word := range words[2:] {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "host":
			p.For = pool.HostPorts
		case "shared":
			p.Exclusive = false
		case "draining":
			p.State = pool.Draining
		case "disabled":
			p.State = pool.Disabled
		case "explicit":
			p.Mode = pool.Explicit
		case "deny":
			p.Enforcement = pool.Deny
		case "warn":
			p.Enforcement = pool.Warn
		case "ns":
			p.Namespaces = selects("team=" + value)
		case "perNamespace":
			p.PerNamespace = int(mustPort(value))
		case "perService":
			p.PerService = int(mustPort(value))
		default:
			panic("pool: " + word)
		}
	}
	return p
}

func mustPolicy(line string, now time.Time) check.Policy {
	words := strings.Fields(line)
	p := check.Policy{Name: words[0], Namespaces: selects(""), Enforcement: check.Audit}
	for _, word := range words[1:] {
		key, value, _ := strings.Cut(word, "=")
		if read := policyWords(now)[key]; read != nil {
			read(&p, value)
			continue
		}
		panic("policy: " + word)
	}
	return p
}

func policyWords(now time.Time) map[string]func(*check.Policy, string) {
	nodePorts := func(p *check.Policy) *check.NodePortRule {
		if p.NodePorts == nil {
			p.NodePorts = &check.NodePortRule{Mode: check.ModeAllowed}
		}
		return p.NodePorts
	}
	hostPorts := func(p *check.Policy) *check.HostPortRule {
		if p.HostPorts == nil {
			p.HostPorts = &check.HostPortRule{Mode: check.ModeAllowed}
		}
		return p.HostPorts
	}
	return map[string]func(*check.Policy, string){
		"deny": func(p *check.Policy, _ string) { p.Enforcement = check.Deny },
		"warn": func(p *check.Policy, _ string) { p.Enforcement = check.Warn },
		"ns":   func(p *check.Policy, value string) { p.Namespaces = selects("team=" + value) },
		"nodePorts": func(p *check.Policy, value string) {
			mode, ranges, _ := strings.Cut(value, ":")
			nodePorts(p).Mode, nodePorts(p).Allowed = check.RuleMode(mode), mustRanges(ranges)
		},
		"noWritten":       func(p *check.Policy, _ string) { nodePorts(p).NoWritten = true },
		"noLoadBalancers": func(p *check.Policy, _ string) { nodePorts(p).NoLoadBalancers = true },
		"hostPorts": func(p *check.Policy, value string) {
			mode, sockets, _ := strings.Cut(value, ":")
			hostPorts(p).Mode, hostPorts(p).Allowed = check.RuleMode(mode), mustSockets(sockets)
		},
		"noHostNetwork": func(p *check.Policy, _ string) { hostPorts(p).NoHostNetwork = true },
		"noRange":       func(p *check.Policy, _ string) { hostPorts(p).NoNodePortRange = true },
		"externalIPs":   func(p *check.Policy, value string) { p.ExternalIPs = check.RuleMode(value) },
		"reserved": func(p *check.Policy, value string) {
			name, value, _ := strings.Cut(value, ":")
			colon := strings.LastIndex(value, ":")
			p.Reserved = append(p.Reserved, check.ReservedSockets{
				Name: name, Sockets: mustSockets(value[:colon]), Nodes: selects(strings.TrimPrefix(value[colon+1:], "*")),
			})
		},
		"except": func(p *check.Policy, value string) {
			parts := strings.Split(value, ":")
			x := check.Exception{Name: parts[0]}
			if label, isNamespaces := strings.CutPrefix(parts[1], "ns."); isNamespaces {
				x.Namespaces = selects(label)
			} else {
				x.Objects = selects(parts[1])
			}
			if len(parts) > 2 {
				days, err := strconv.Atoi(parts[2])
				if err != nil {
					panic(err)
				}
				x.Ends = now.AddDate(0, 0, days)
			}
			p.Exceptions = append(p.Exceptions, x)
		},
	}
}

func mustSockets(text string) []check.SocketRange {
	var sockets []check.SocketRange
	for part := range strings.SplitSeq(text, "|") {
		if part == "" {
			continue
		}
		part, addresses, _ := strings.Cut(part, "@")
		numbers, protocols, _ := strings.Cut(part, "/")
		r := check.SocketRange{Range: ports.MustParseRange(numbers)}
		for _, name := range strings.FieldsFunc(protocols, func(c rune) bool { return c == '+' }) {
			protocol, err := ports.ParseProtocol(name)
			if err != nil {
				panic(err)
			}
			r.Protocols = append(r.Protocols, protocol)
		}
		for _, address := range strings.FieldsFunc(addresses, func(c rune) bool { return c == '+' }) {
			r.Addresses = append(r.Addresses, mustAddress(address))
		}
		sockets = append(sockets, r)
	}
	return sockets
}
