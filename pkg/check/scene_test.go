package check_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// The tables of this package are written in lines. An object is
//
//	KIND NAME [< KIND NAME …] [rolls R/S/U|runs R|surges S|ends P] [onehost] [labelled KEY=VALUE] [on NODE,…] [hostNetwork CONTAINER,…]: CLAIM; CLAIM; …
//
// where the names after < are its controllers, nearest first, and the nodes after "on" are those that its pods may run
// on. It rolls out R replicas with a surge of S and U unavailable, runs R of them in turn, is a DaemonSet with a surge of S,
// or ends, P pods at a time; "onehost" names its only host. A CLAIM is
//
//	KIND[,init[=CONTAINER]|,sidecar|,idle] ADDRESS PORT/PROTOCOL @SCOPE
//
// where ADDRESS is "*", an address or a wildcard, and SCOPE is "?" (no node yet), "?2" or "?2{n1,n2}" (two of these), "n1",
// "{n1,n2}" (each), "every" or "address"; "hostIP=TEXT 80/TCP" is one with a hostIP that is not an address, "spelled=tcp/TCP" a
// value in the wrong case, "probe * 80/TCP @n1" a port that is not declared and has a probe, "invalid=PC0108=FIELD" one that the API server refuses, "asks=play/1" an annotation that asks for a host port for the 1 port called play, "onekey=80" an entry with the containerPort of the one before. The i-th claim stands in the
// field "ports[i].KIND", or "CONTAINER.ports[i].KIND". A Service is
//
//	Service NAME TYPE [NAME=]PORT[:NODEPORT]/PROTOCOL[>TARGET] … [health:NODEPORT] [ip:ADDRESS …] [lb:ADDRESS …] [asks:ADDRESS …] [at:CLUSTERIP …]
//		[label:KEY=VALUE] [unused:NODEPORT] [unallocated] [chosen] [policy:POLICY] [spelled:FIELD=tcp/TCP] [invalid:CODE=FIELD]
//		[backend:NAME[PORTNAME/PROTOCOL/NUMBER,…]] [endpoints:NAMESPACE[PORTNAME,…]]
//
// where unused is a healthCheckNodePort that nothing uses.
//
// All are in the namespace "ns". A finding is
//
//	CODE SEVERITY[ ENFORCEMENT OF A POOL OR POLICY][ standing] FIELD[ (CASE)][ and OTHER FIELD][ < HOLDER FIELD OF IT[ + HOLDER …]][ on NODE,…][ of ELIGIBLE]

// scene is one judgement: what is held, the object before and now, and what must be found; nothing where want is nil.
type scene struct {
	why  string
	held []string
	old  string
	now  string
	want []string

	families string   // of the pods: "4", "6", "46"
	apart    bool     // the holders are there already
	nowhere  []string // names of holders that no node suits
	overlap  string   // of what now says of nodes with what a policy does: "some", "all"; "": not known

	pools, policies []string // see restrictions_test.go
}

func isRemarkBeside(code check.Code) func(check.Finding) bool {
	return func(f check.Finding) bool { return f.Code != code && slices.Contains(remarks(), f.Code) }
}

func remarks() []check.Code {
	return []check.Code{
		check.InNodePorts, check.OneMergeKey, check.NeverMapped, check.InDynamicBand, check.CreateRefuses, check.StricterThere,
		check.NoNodesAddress, check.UndeclaredSockets,
	}
}

func (s scene) findings() []check.Finding { return check.Check(s.input()) }

func (s scene) input() check.Input {
	in := check.Input{Held: mustLedger(s.held...).Snapshot(), Evidence: evidence(s.held), Settings: settings()}
	in.Service, in.Workload = mustObject(s.now)
	in.OldService, in.OldWorkload = mustObject(s.old)
	if strings.Contains(s.now, "ip:10.97.") {
		in.ServiceRanges = []netip.Prefix{netip.MustParsePrefix("10.97.0.0/16"), netip.MustParsePrefix("fd00::/64")}
	}
	if !s.apart {
		in.Together = func(ports.Ref) bool { return true }
	}
	in.Families = check.Families{IPv4: strings.Contains(s.families, "4"), IPv6: strings.Contains(s.families, "6")}
	in.Nowhere = func(holder ports.Ref) bool { return slices.Contains(s.nowhere, holder.Name) }
	if s.overlap != "" {
		in.Workload.Selection = overlap(s.overlap)
	}
	s.restrict(&in)
	return in
}

// overlap implements check.Selection.
type overlap string

func (o overlap) Overlap(pool.Selector) (some, all bool) { return o != "none", o == "all" }

// play compares what is found about a code's scene. Remarks that many objects of these tables draw are left to the tables
// of their own codes.
func (s scene) play(t *testing.T, code check.Code) []check.Finding {
	t.Helper()
	findings := slices.DeleteFunc(s.findings(), isRemarkBeside(code))
	if diff := cmp.Diff(s.want, spoken(findings)); diff != "" {
		t.Errorf("%s\nheld %q\nold %s\nnow %s\nfindings (-want +got):\n%s", s.why, s.held, s.old, s.now, diff)
	}
	return findings
}

func spoken(findings []check.Finding) []string {
	var lines []string
	for _, f := range findings {
		line := fmt.Sprintf("%s %s", f.Code, f.Severity)
		if f.Enforcement != 0 {
			line += " " + f.Enforcement.String()
		}
		if f.Standing {
			line += " standing"
		}
		line += " " + f.Field
		if f.Case != "" {
			line += fmt.Sprintf(" (%s)", f.Case)
		}
		if other := otherOf(f.Detail); other != "" {
			line += " and " + other
		}
		if f.Holder != nil {
			line += fmt.Sprintf(" < %s %s %s", f.Holder.Kind, f.Holder.Name, f.Holder.Field)
		}
		for _, h := range f.Others {
			line += fmt.Sprintf(" + %s %s", h.Kind, h.Name)
		}
		if f.Nodes != nil {
			line += " on " + strings.Join(f.Nodes, ",")
		}
		if f.Eligible != 0 {
			line += fmt.Sprintf(" of %d", f.Eligible)
		}
		lines = append(lines, strings.TrimSpace(line))
	}
	return lines
}

// otherOf is what a detail says beside the value that is wrong.
func otherOf(detail check.Detail) string {
	switch d := detail.(type) {
	case check.HostIPText:
		return d.Port
	case check.Sibling:
		return d.Field
	case check.UnusedPort:
		return d.Type
	case check.Text:
		return d.Known
	case check.Change:
		return d.From
	case check.ExternalIP:
		if d.Range.IsValid() {
			return d.Range.String()
		}
	case check.DaemonNodes:
		return d.Label
	case check.ExceptionEnd:
		return d.Ends.UTC().Format(time.RFC3339)
	case check.Reservation:
		return d.Reason
	case check.PortName:
		return d.Protocol.String()
	case check.LostPort:
		return d.Name
	}
	return ""
}

func settings() *check.Settings {
	return &check.Settings{
		NodePortRange: ports.MustParseRange("30000-32767"),
		DynamicBand:   ports.MustParseRange("30086-32767"),
		Ephemeral:     ports.MustParseRange("32768-60999"),
		ReservedLocal: []ports.Range{ports.MustParseRange("33000-33009"), ports.MustParseRange("40000")},
		Reserved: []check.Reserved{
			{Name: "kubelet", Socket: ports.MustParseSocket("*:10250/TCP")},
			{Name: "kubelet", Socket: ports.MustParseSocket("127.0.0.1:10248/TCP")},
			{Name: "kube-proxy", Socket: ports.MustParseSocket("*:10256/TCP")},
			{Name: "sshd", Socket: ports.MustParseSocket("*:22/TCP")},
			{Name: "kube-scheduler", Socket: ports.MustParseSocket("*:10259/TCP"), NodeLabel: "control-plane"},
		},
	}
}

// mustLedger holds the objects of lines, on three nodes that have 10.0.0.N, fd00::N and 203.0.113.N.
func mustLedger(lines ...string) *ledger.Ledger {
	l := &ledger.Ledger{}
	for _, n := range []string{"1", "2", "3"} {
		l.ReplaceNode("n"+n, []netip.Addr{
			netip.MustParseAddr("10.0.0." + n), netip.MustParseAddr("fd00::" + n), netip.MustParseAddr("203.0.113." + n),
		})
	}
	for _, line := range lines {
		hold(l, line)
	}
	return l
}

// evidence has what probes show of the objects of lines.
func evidence(lines []string) *ledger.Snapshot {
	l := mustLedger()
	for _, line := range lines {
		svc, w := mustObject(line)
		if w != nil && len(w.Probed) > 0 {
			l.Replace(w.Owner, w.Probed)
		}
		if svc != nil && len(svc.Asked) > 0 {
			l.Replace(svc.Owner, svc.Asked)
		}
	}
	return l.Snapshot()
}

func hold(l *ledger.Ledger, line string) {
	service, workload := mustObject(line)
	if service != nil {
		l.Replace(service.Owner, service.Claims)
	} else {
		l.Replace(workload.Owner, workload.Claims)
	}
}

func mustObject(line string) (*check.Service, *check.Workload) {
	switch {
	case line == "":
		return nil, nil
	case strings.HasPrefix(line, "Service "):
		return mustService(strings.Fields(line)), nil
	default:
		return nil, mustWorkload(line)
	}
}

// mustOwner reads "KIND NAME < KIND NAME".
func mustOwner(text string) ports.Owner {
	first, rest, controlled := strings.Cut(text, " < ")
	kind, name, _ := strings.Cut(strings.TrimSpace(first), " ")
	versions := map[string]string{
		"Pod": "v1", "Service": "v1", "Node": "v1", "ReplicationController": "v1", "Job": "batch/v1", "CronJob": "batch/v1",
		"Deployment": "apps/v1", "ReplicaSet": "apps/v1", "StatefulSet": "apps/v1", "DaemonSet": "apps/v1", "GameServer": "games/v1",
	}
	if versions[kind] == "" || name == "" || strings.Contains(name, " ") {
		panic(fmt.Sprintf("owner %q: want KIND NAME", text))
	}
	owner := ports.Owner{Ref: ports.Ref{APIVersion: versions[kind], Kind: kind, Namespace: "ns", Name: name}}
	if controlled {
		controller := mustOwner(rest)
		owner.Controller = &controller
	}
	return owner
}

func mustWorkload(line string) *check.Workload {
	head, claims, ok := strings.Cut(line, ":")
	if !ok {
		panic(fmt.Sprintf("object %q has no colon", line))
	}
	w := &check.Workload{}
	head, containers, isHost := strings.Cut(head, " hostNetwork ")
	if isHost {
		w.HostNetwork, w.HostNetworkField, w.Containers = true, "hostNetwork", strings.Split(containers, ",")
	}
	head, w.IsTrusted = strings.CutSuffix(head, " trusted")
	head, eligible, known := strings.Cut(head, " on ")
	if known {
		w.Eligible = splitNodes(eligible)
	}
	head, label, labelled := strings.Cut(head, " labelled ")
	if labelled {
		w.Labels = mustLabels(label)
	}
	head, w.OneHost = strings.CutSuffix(head, " onehost")
	head, w.Rollout = mustRollout(head)
	w.Owner = mustOwner(head)
	w.IsPod = w.Owner.Kind == "Pod"
	for i, text := range strings.Split(claims, ";") {
		words := strings.Fields(text)
		switch {
		case len(words) == 0:
		case words[0] == "probe":
			words[0] = "hostNetwork"
			c := mustClaim(words, i, &w.Owner)
			c.Field = fmt.Sprintf("probe[%d]", i)
			w.Probed = append(w.Probed, c)
		case strings.HasPrefix(words[0], "hostIP="):
			w.Unparsed = append(w.Unparsed, check.Unparsed{
				Field: fmt.Sprintf("ports[%d].hostIP", i), Value: words[0][len("hostIP="):], Port: words[1],
			})
		case strings.HasPrefix(words[0], "asks="):
			name, count, _ := strings.Cut(words[0][len("asks="):], "/")
			w.Requests = append(w.Requests, check.HostPortRequest{Name: name, Field: "annotations[" + name + "]", Ports: len(strings.Trim(count, "0"))})
		case strings.HasPrefix(words[0], "spelled="):
			value, known, _ := strings.Cut(words[0][len("spelled="):], "/")
			w.Misspelled = append(w.Misspelled, check.Misspelled{Field: fmt.Sprintf("ports[%d].protocol", i), Value: value, Known: known})
		case strings.HasPrefix(words[0], "invalid="):
			w.Invalid = append(w.Invalid, mustInvalid(words[0][len("invalid="):]))
		case strings.HasPrefix(words[0], "onekey="):
			w.OneKey = append(w.OneKey, check.OneKey{
				Field: fmt.Sprintf("ports[%d]", i), Other: fmt.Sprintf("ports[%d]", i-1), Value: words[0][len("onekey="):],
			})
		default:
			w.Claims = append(w.Claims, mustClaim(words, i, &w.Owner))
		}
	}
	return w
}

// mustInvalid reads "CODE=FIELD", or "CODE=FIELD=CASE" with the case's words joined by _.
func mustInvalid(text string) check.Invalid {
	code, field, ok := strings.Cut(text, "=")
	if !ok {
		panic(fmt.Sprintf("invalid %q: want CODE=FIELD", text))
	}
	field, named, _ := strings.Cut(field, "=")
	return check.Invalid{Code: check.Code(code), Case: check.Case(strings.ReplaceAll(named, "_", " ")), Field: field, Detail: check.Text{Text: "0"}}
}

// mustRollout reads what stands behind an owner: "rolls 3/1/0".
func mustRollout(head string) (string, *check.Rollout) {
	for word, kind := range map[string]check.RolloutKind{
		" rolls ": check.Rolling, " runs ": check.InTurn, " surges ": check.OnEachNode, " ends ": check.ToTheEnd,
	} {
		owner, text, ok := strings.Cut(head, word)
		if !ok {
			continue
		}
		r := &check.Rollout{Kind: kind, Field: "spec.replicas", Replicas: 1}
		n := []*int{&r.Replicas, &r.Surge, &r.Unavailable}
		if kind == check.OnEachNode {
			n = n[1:]
		}
		for i, number := range strings.Split(text, "/") {
			*n[i] = int(mustPort(number))
		}
		return owner, r
	}
	return head, nil
}

// splitNodes reads "n1,n2"; "none" is known to be none.
func splitNodes(text string) []string {
	if text == "none" {
		return []string{}
	}
	return strings.Split(text, ",")
}

func mustClaim(words []string, i int, owner *ports.Owner) ports.Claim {
	if len(words) != 4 {
		panic(fmt.Sprintf("claim %q: want KIND ADDRESS PORT/PROTOCOL @SCOPE", words))
	}
	kind, option, _ := strings.Cut(words[0], ",")
	option, container, named := strings.Cut(option, "=")
	kinds := map[string]ports.Kind{"hostPort": ports.HostPort, "hostNetwork": ports.HostNetwork}
	c := ports.Claim{
		Socket: ports.MustParseSocket("*:" + words[2]), Kind: kinds[kind],
		InitOnly: option == "init", Sidecar: option == "sidecar", Idle: option == "idle",
		Scope: mustScope(words[3]), Owner: owner, Field: fmt.Sprintf("ports[%d].%s", i, kind),
	}
	c.Address = mustAddress(words[1])
	if named {
		c.Field = container + "." + c.Field
	}
	if c.Kind == 0 {
		panic(fmt.Sprintf("claim %q: the kind is not one of hostPort, hostNetwork", words))
	}
	return c
}

func mustAddress(word string) ports.Address {
	a, err := ports.ParseAddress(strings.TrimPrefix(word, "*"))
	if err != nil {
		panic(err)
	}
	return a
}

func mustScope(word string) ports.Scope {
	switch word {
	case "@every":
		return ports.EverywhereScope()
	}
	if inner, ok := strings.CutPrefix(word, "@?"); ok {
		pods, among, known := strings.Cut(strings.TrimSuffix(inner, "}"), "{")
		switch {
		case known:
			return ports.AmongScope(int(mustPort(pods)), splitNodes(among))
		case pods != "":
			return ports.AmongScope(int(mustPort(pods)), nil)
		}
		return ports.Scope{}
	}
	if inner, ok := strings.CutPrefix(word, "@{"); ok {
		return ports.EachScope(splitNodes(strings.TrimSuffix(inner, "}")))
	}
	return ports.NodeScope(word[1:])
}

func mustService(words []string) *check.Service {
	s := &check.Service{Owner: mustOwner("Service " + words[1]), Type: words[2]}
	for _, word := range words[3:] {
		key, value, _ := strings.Cut(word, ":")
		if read := serviceWords()[key]; read != nil {
			read(s, value)
			continue
		}
		p := mustServicePort(word)
		if s.Ports = append(s.Ports, p); p.NodePort != 0 && s.HasNodePorts() {
			claim(s, ports.NodePort, onNodes(), p.Protocol, p.NodePort, fmt.Sprintf("spec.ports[%d].nodePort", len(s.Ports)-1))
		}
	}
	return s
}

func onNodes() ports.Address { return ports.AllAddresses().WithoutIPv6Loopback() }

func claim(s *check.Service, kind ports.Kind, address ports.Address, protocol ports.Protocol, port uint16, field string) {
	scope := ports.EverywhereScope()
	if !kind.IsNodePortAllocated() {
		scope = ports.AddressScope()
	}
	s.Claims = append(s.Claims, ports.Claim{
		Socket: ports.Socket{Address: address, Protocol: protocol, Port: port}, Kind: kind, Scope: scope, Owner: &s.Owner, Field: field,
	})
}

// serviceWords are the words of a Service other than its ports.
func serviceWords() map[string]func(*check.Service, string) {
	at := func(kind ports.Kind) func(*check.Service, string) {
		return func(s *check.Service, value string) {
			for i, p := range s.Ports {
				claim(s, kind, mustAddress(value), p.Protocol, p.Port, fmt.Sprintf("spec.ports[%d].port", i))
			}
		}
	}
	return map[string]func(*check.Service, string){
		"ip": func(s *check.Service, value string) {
			at(ports.ExternalIP)(s, value)
			s.ExternalIPs = append(s.ExternalIPs, netip.MustParseAddr(value))
		},
		"lb": at(ports.LoadBalancerIP),
		"asks": func(s *check.Service, value string) {
			had := len(s.Claims)
			at(ports.LoadBalancerIP)(s, value)
			s.Asked, s.Claims = append(s.Asked, s.Claims[had:]...), s.Claims[:had:had]
		},
		"at": func(s *check.Service, value string) {
			s.Owner.ClusterIPs = append(s.Owner.ClusterIPs, netip.MustParseAddr(value))
		},
		"health": func(s *check.Service, value string) {
			s.HealthCheckNodePort = mustPort(value)
			claim(s, ports.HealthCheckNodePort, onNodes(), ports.TCP, s.HealthCheckNodePort, "spec.healthCheckNodePort")
		},
		"unused":      func(s *check.Service, value string) { s.UnusedHealthCheck = mustPort(value) },
		"label":       func(s *check.Service, value string) { s.Labels = mustLabels(value) },
		"unallocated": func(s *check.Service, _ string) { s.Unallocated = true },
		"chosen":      func(s *check.Service, _ string) { s.Chosen = true },
		"policy":      func(s *check.Service, value string) { s.ExternalTrafficPolicy = value },
		"spelled": func(s *check.Service, value string) {
			field, rest, _ := strings.Cut(value, "=")
			is, known, _ := strings.Cut(rest, "/")
			s.Misspelled = append(s.Misspelled, check.Misspelled{Field: field, Value: is, Known: known})
		},
		"invalid": func(s *check.Service, value string) { s.Invalid = append(s.Invalid, mustInvalid(value)) },
		"backend": func(s *check.Service, value string) {
			name, list, _ := strings.Cut(strings.TrimSuffix(value, "]"), "[")
			b := check.Backend{Ref: mustOwner("Deployment " + name).Ref}
			for text := range strings.SplitSeq(list, ",") {
				if words := strings.Split(text, "/"); text != "" {
					p := check.NamedPort{Name: words[0], Port: mustPort(words[2])}
					if err := p.Protocol.UnmarshalText([]byte(words[1])); err != nil {
						panic(err)
					}
					b.Ports = append(b.Ports, p)
				}
			}
			s.Backends = append(s.Backends, b)
		},
		"endpoints": func(s *check.Service, value string) {
			namespace, list, _ := strings.Cut(strings.TrimSuffix(value, "]"), "[")
			ref := ports.Ref{APIVersion: "v1", Kind: "Endpoints", Namespace: namespace, Name: s.Owner.Name}
			e := check.Endpoints{Ref: ref}
			for name := range strings.SplitSeq(list, ",") {
				e.Ports = append(e.Ports, check.EndpointPort{Name: name, Protocol: ports.TCP})
			}
			s.Endpoints = append(s.Endpoints, e)
		},
	}
}

// mustServicePort reads kubectl's "80:30080/TCP", with a name before and a target behind it.
func mustServicePort(word string) ports.ServicePort {
	var p ports.ServicePort
	if name, rest, has := strings.Cut(word, "="); has {
		p.Name, word = name, rest
	}
	word, target, _ := strings.Cut(word, ">")
	numbers, protocol, _ := strings.Cut(word, "/")
	port, nodePort, has := strings.Cut(numbers, ":")
	if p.Port = mustPort(port); has {
		p.NodePort = mustPort(nodePort)
	}
	if p.TargetPort = ports.ParseTargetPort(target); p.TargetPort == (ports.TargetPort{}) {
		p.TargetPort.Number = p.Port
	}
	if err := p.Protocol.UnmarshalText([]byte(protocol)); err != nil {
		panic(err)
	}
	return p
}

func mustPort(text string) uint16 {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		panic(err)
	}
	return uint16(n)
}
