package check_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
)

// TestRangeIsSaidOnce: a host port in the node port range is a remark beside a policy that forbids it less strictly than the
// remark is enforced, else the policy alone speaks.
func TestRangeIsSaidOnce(t *testing.T) {
	const policy, remark = "PC0311 warning %s ports[0].hostPort (the node port range is not allowed) < PortPolicy p", "PC0303 warning ports[0].hostPort"
	for _, c := range []struct {
		policy     string
		configured check.Enforcement // of the remark
		want       []string
	}{
		{"p noRange", 0, []string{remark, fmt.Sprintf(policy, "Audit")}},
		{"p warn noRange", 0, []string{fmt.Sprintf(policy, "Warn")}},
		{"p deny noRange", 0, []string{fmt.Sprintf(policy, "Deny")}},
		{"p warn noRange", check.Deny, []string{remark, fmt.Sprintf(policy, "Warn")}},
		{"p noRange", check.Audit, []string{fmt.Sprintf(policy, "Audit")}},
	} {
		s := scene{policies: []string{c.policy}}
		in := check.Input{Held: mustLedger().Snapshot(), Settings: settings()}
		_, in.Workload = mustObject("Pod a: hostPort * 30500/TCP @?")
		if c.configured != 0 {
			in.Settings.Enforcement = map[check.Code]check.Enforcement{check.InNodePorts: c.configured}
		}
		s.restrict(&in)
		if diff := cmp.Diff(c.want, spoken(check.Check(in))); diff != "" {
			t.Errorf("%s, PC0303 configured %s (-want +got):\n%s", c.policy, c.configured, diff)
		}
	}
}

// point is one port of one protocol at one address of a node: what sets of sockets are made of in the model.
type point struct {
	address  netip.Addr
	protocol ports.Protocol
	port     uint16
}

// addresses of the model's node: those that policies and pods name, and one of each family that nobody does.
func addresses() []netip.Addr {
	var all []netip.Addr
	for _, text := range []string{"127.0.0.1", "10.0.0.1", "192.0.2.9", "::1", "fd00::1", "2001:db8::9"} {
		all = append(all, netip.MustParseAddr(text))
	}
	return all
}

// pointsOf returns the points of a port, some protocols (none: all) and some addresses as text (none: all).
func pointsOf(first, last uint16, protocols []ports.Protocol, on []string) map[point]bool {
	points := map[point]bool{}
	if len(protocols) == 0 {
		all := ports.Protocols()
		protocols = all[:]
	}
	if len(on) == 0 {
		on = []string{"0.0.0.0", "::"}
	}
	for _, text := range on {
		named := netip.MustParseAddr(text)
		for _, a := range addresses() {
			if a != named && !(named.IsUnspecified() && named.Is4() == a.Is4()) {
				continue
			}
			for _, protocol := range protocols {
				for port := first; port <= last; port++ {
					points[point{a, protocol, port}] = true
				}
			}
		}
	}
	return points
}

// model is a random policy with what it allows and reserves, as sets.
type model struct {
	line        string
	enforcement check.Enforcement
	selects     bool
	mode        string
	allowed     map[point]bool
	reserved    map[point]bool
	zone        string // of the nodes with what is reserved; "" for all
	noNetwork   bool
	noRange     bool
	excepted    bool
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

// sockets draws a range of sockets, as text and as points.
func sockets(r *rand.Rand) (string, map[point]bool) {
	first := uint16(29998 + r.IntN(4))
	last := first + uint16(r.IntN(2))
	protocols := pick(r, []ports.Protocol{}, []ports.Protocol{ports.TCP}, []ports.Protocol{ports.TCP, ports.UDP})
	on := pick(r, []string{}, []string{}, []string{"127.0.0.1"}, []string{"0.0.0.0"}, []string{"::"}, []string{"0.0.0.0", "::"}, []string{"::1", "10.0.0.1"})
	text := fmt.Sprintf("%d-%d", first, last)
	for i, p := range protocols {
		text += []string{"/", "+"}[min(i, 1)] + p.String()
	}
	for i, a := range on {
		text += []string{"@", "+"}[min(i, 1)] + a
	}
	return text, pointsOf(first, last, protocols, on)
}

func drawPolicy(r *rand.Rand, name string) model {
	m := model{enforcement: pick(r, check.Audit, check.Warn, check.Deny), selects: r.IntN(4) > 0, mode: pick(r, "Allowed", "Restricted", "Restricted", "Forbidden")}
	words := []string{name}
	if m.enforcement != check.Audit {
		words = append(words, strings.ToLower(m.enforcement.String()))
	}
	if !m.selects {
		words = append(words, "ns=b")
	}
	m.allowed, m.reserved = map[point]bool{}, map[point]bool{}
	mode := "hostPorts=" + m.mode
	if m.mode == "Restricted" {
		var parts []string
		for range 1 + r.IntN(3) {
			text, points := sockets(r)
			parts = append(parts, text)
			for p := range points {
				m.allowed[p] = true
			}
		}
		mode += ":" + strings.Join(parts, "|")
	}
	words = append(words, mode)
	if m.noNetwork = r.IntN(3) == 0; m.noNetwork {
		words = append(words, "noHostNetwork")
	}
	if m.noRange = r.IntN(3) == 0; m.noRange {
		words = append(words, "noRange")
	}
	if r.IntN(2) == 0 {
		text, points := sockets(r)
		m.reserved, m.zone = points, pick(r, "", "a", "b")
		nodes := "*"
		if m.zone != "" {
			nodes = "zone=" + m.zone
		}
		words = append(words, fmt.Sprintf("reserved=x:%s:%s", text, nodes))
	}
	if r.IntN(5) == 0 {
		label := pick(r, "app=edge", "app=core", "ns.team=a", "ns.team=b")
		m.excepted = label == "app=edge" || label == "ns.team=a"
		words = append(words, "except=e:"+label)
	}
	m.line = strings.Join(words, " ")
	return m
}

// wish is a random claim of a pod.
type wish struct {
	text   string
	points map[point]bool
	port   uint16
}

func drawWish(r *rand.Rand, kind, scope string) wish {
	port := uint16(29998 + r.IntN(4))
	protocol := pick(r, ports.TCP, ports.UDP)
	on := pick(r, "*", "*", "0.0.0.0", "::", "127.0.0.1", "::1", "10.0.0.1", "fd00::1")
	named := []string{on}
	if on == "*" {
		named = nil
	}
	return wish{fmt.Sprintf("%s %s %d/%s %s", kind, on, port, protocol, scope), pointsOf(port, port, []ports.Protocol{protocol}, named), port}
}

// broken is what a pod breaks of policies in a zone: by field and case, how strictly.
func broken(policies []model, wanted []wish, kind, zone string) map[string]check.Enforcement {
	want := map[string]check.Enforcement{}
	for _, m := range policies {
		if !m.selects || m.excepted {
			continue
		}
		breaks := func(is bool, field string, named check.Case) {
			if key := fmt.Sprintf("%s (%s)", field, named); is {
				want[key] = max(want[key], m.enforcement)
			}
		}
		breaks(m.noNetwork && kind == "hostNetwork", "hostNetwork", check.NoHostNetwork)
		for i, w := range wanted {
			field := fmt.Sprintf("ports[%d].%s", i, kind)
			within, meets := true, false
			for p := range w.points {
				within = within && m.allowed[p]
				meets = meets || m.reserved[p]
			}
			breaks(m.mode == "Forbidden", field, check.NoHostPorts)
			breaks(m.mode == "Restricted" && !within, field, check.SocketNotAllowed)
			breaks(m.noRange && m.mode != "Forbidden" && w.port >= 30000, field, check.InRangeForbidden)
			breaks(meets && (m.zone == "" || m.zone == zone), field, check.ReservedThere)
		}
	}
	return want
}

// enforced is what is found of a scene that policies mind, each violation once.
func enforced(t *testing.T, s scene) map[string]check.Enforcement {
	t.Helper()
	got := map[string]check.Enforcement{}
	for _, f := range s.findings() {
		if !slices.Contains([]check.Code{check.PolicyHostPort, check.PolicyReserved}, f.Code) {
			continue
		}
		key := fmt.Sprintf("%s (%s)", f.Field, f.Case)
		if _, again := got[key]; again {
			t.Errorf("%s is told twice", key)
		}
		got[key] = f.Enforcement
	}
	return got
}

// TestPoliciesAgainstSets: random policies and random pods are judged as sets of sockets say: a socket is allowed if all its
// points are, and reserved if any is; each violation is reported once, by the strictest policy.
func TestPoliciesAgainstSets(t *testing.T) {
	r := seed.Rand(t)
	rounds, told := seed.Rounds(3000, 60_000), 0
	for range rounds {
		var policies []model
		var lines []string
		for i := range 1 + r.IntN(3) {
			m := drawPolicy(r, fmt.Sprintf("p%d", i))
			policies, lines = append(policies, m), append(lines, m.line)
		}
		hostNetwork := r.IntN(3) == 0
		node := pick(r, "n1", "n2")
		zone := map[string]string{"n1": "a", "n2": "b"}[node]
		kind, head := "hostPort", "Pod a labelled app=edge"
		if hostNetwork {
			kind, head = "hostNetwork", head+" hostNetwork main"
		}
		wanted := []wish{drawWish(r, kind, "@"+node), drawWish(r, kind, "@"+node)}
		if wanted[0].port == wanted[1].port {
			wanted = wanted[:1] // one number twice is told once, wherever
		}
		want := broken(policies, wanted, kind, zone)
		now := head + ":"
		for i, w := range wanted {
			now += []string{" ", "; "}[min(i, 1)] + w.text
		}
		got := enforced(t, scene{policies: lines, now: now})
		told += len(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("policies %q\nnow %s\n(-want +got):\n%s", lines, now, diff)
		}
	}
	if told < rounds/2 {
		t.Errorf("%d findings in %d rounds prove little", told, rounds)
	}
}
