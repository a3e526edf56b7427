package ports_test

import (
	"net"
	"slices"
	"strconv"
	"strings"
)

// The model is a slow and obvious second opinion about the geometry. It shares no code with the package, not even
// net/netip: it reads the lines of claimtext_test.go by itself and lays a claim out as a set of points in a small
// world, so that "overlap" is nothing but set intersection.
//
// What a claim denotes:
//
//   - an address that is written counts on every node that the claim is on, whether or not that node is known to have
//     it, because nobody has a complete list of a node's addresses (secondary addresses, floating ones);
//   - for the same reason a wildcard or a prefix counts as non-empty on every node;
//   - a primary address, and the node of an external IP, are facts that somebody must know.

// point is one address of one node, with a protocol and port as they are written.
type point struct{ node, addr, port string }

// node is a node of the model's world.
type node struct {
	name               string
	primary4, primary6 string
	others             []string // listed by the node too
}

func modelNodes() []node {
	return []node{
		{"a", "10.0.0.1", "fd00::1", []string{"192.168.0.1", "fd01::1"}},
		{"b", "10.0.0.2", "fd00::2", nil},
		{"c", "10.0.0.3", "fd00::3", []string{"192.168.0.3"}},
	}
}

// modelAddresses is every address of the world. It has a witness for each overlap that the vocabulary allows.
func modelAddresses() []string {
	all := []string{
		"127.0.0.1", "127.0.0.53", "::1", // every node's
		"192.168.0.2", "fd01::2", // node b's, which nobody told us
		"203.0.113.9", "2001:db8::9", "126.0.0.1", // nobody's
	}
	for _, n := range modelNodes() {
		all = append(append(all, n.primary4, n.primary6), n.others...)
	}
	return all
}

func isPrimary(n, addr string) bool {
	return slices.ContainsFunc(modelNodes(), func(x node) bool {
		return x.name == n && (x.primary4 == addr || x.primary6 == addr)
	})
}

// nodeOf returns the node that lists addr, or "".
func nodeOf(addr string) string {
	for _, n := range modelNodes() {
		if isPrimary(n.name, addr) || slices.Contains(n.others, addr) {
			return n.name
		}
	}
	return ""
}

// modelClaim is a line taken apart, its texts as they are written.
type modelClaim struct {
	kind, addr, flag, port, scope string
	init, idle                    bool
}

func readModelClaim(line string) modelClaim {
	words := strings.Fields(line)
	kind, option, _ := strings.Cut(words[0], ",")
	addr, flag, _ := strings.Cut(words[1], ",")
	return modelClaim{kind, addr, flag, words[2], words[3][1:], option == "init", option == "idle"}
}

// inAddress reports whether the textual address, wildcard or prefix holds the concrete address ip.
func inAddress(text string, ip net.IP) bool {
	if text == "*" {
		return true
	}
	if strings.Contains(text, "/") {
		_, prefix, err := net.ParseCIDR(text)
		return err == nil && prefix.Contains(ip)
	}
	written := net.ParseIP(text)
	if written.IsUnspecified() {
		return (written.To4() != nil) == (ip.To4() != nil)
	}
	return written.Equal(ip)
}

// addresses returns those of the world that the claim takes; a primary address may be any but loopback.
func (c modelClaim) addresses() []string {
	var in []string
	for _, addr := range modelAddresses() {
		ip := net.ParseIP(addr)
		if inAddress(c.addr, ip) && !c.excepts(ip) {
			in = append(in, addr)
		}
	}
	return in
}

// excepts reports whether the claim's flag leaves ip out wherever it is.
func (c modelClaim) excepts(ip net.IP) bool {
	return ip.IsLoopback() && c.flag != "" && (c.flag != "noloopback6" || ip.To4() == nil)
}

// single returns the one address that the claim names, in the world's spelling, or "".
func (c modelClaim) single() string {
	text, length, isPrefix := strings.Cut(c.addr, "/")
	ip := net.ParseIP(text)
	if ip == nil || ip.IsUnspecified() {
		return ""
	}
	if isPrefix && length != "128" && (length != "32" || strings.Contains(text, ":")) {
		return ""
	}
	return ip.String()
}

// nodes returns where the claim is held; an undecided claim may be anywhere. An external IP that nobody lists is
// nowhere, a place that it shares with the same external IP only.
func (c modelClaim) nodes() []string {
	switch c.scope {
	case "every", "?":
		return []string{"a", "b", "c"}
	case "address":
		return []string{"at " + nodeOf(c.single())}
	default:
		return splitNodes(strings.Trim(c.scope, "{}"))
	}
}

func (c modelClaim) points() []point {
	var all []point
	for _, n := range c.nodes() {
		n = strings.TrimPrefix(n, "at ")
		for _, addr := range c.addresses() {
			if c.flag != "primary" || isPrimary(n, addr) {
				all = append(all, point{n, addr, c.port})
			}
		}
	}
	return all
}

func (c modelClaim) inBook() bool { return c.kind == "nodePort" || c.kind == "healthCheckNodePort" }

// modelOverlaps reports whether the sockets share a point if both were on one node.
func modelOverlaps(a, b modelClaim) bool {
	theirs := b.addresses()
	return a.port == b.port && slices.ContainsFunc(a.addresses(), func(x string) bool { return slices.Contains(theirs, x) })
}

// modelMeet says what is certain about a, wanted, and b, held: whether they meet and where; nil for every node, or for
// one that is not known.
func modelMeet(a, b modelClaim) ([]string, bool) {
	numberOf := func(c modelClaim) string { number, _, _ := strings.Cut(c.port, "/"); return number }
	switch {
	case a.inBook() && b.inBook():
		return nil, numberOf(a) == numberOf(b)
	case a.init || b.init || b.idle, nobodyCanTell(a, b):
		return nil, false
	case a.scope == "address" && b.scope == "address":
		return nil, a.single() == b.single() && a.port == b.port
	case b.scope == "?":
		a, b = b, a
	}
	shared := sharedNodes(a, b)
	if a.scope == "?" {
		return undecidedMeet(a, b, shared)
	}
	if len(shared) == 3 && a.scope == "every" && b.scope == "every" {
		return nil, true
	}
	return shared, len(shared) > 0
}

// undecidedMeet knows two certainties: what is held on every node meets a pod wherever it goes, and a pod that names
// an address can work only where that address is.
func undecidedMeet(pod, held modelClaim, shared []string) ([]string, bool) {
	only := nodeOf(pod.single())
	switch {
	case held.scope == "every" && len(shared) == 3:
		return nil, true
	case held.scope == "every", held.scope == "address" && held.single() == pod.single():
		return shared, only != "" && slices.Contains(shared, only)
	default:
		return nil, false
	}
}

func sharedNodes(a, b modelClaim) []string {
	var shared []string
	theirs := b.points()
	for _, p := range a.points() {
		if p.node != "" && slices.Contains(theirs, p) && !slices.Contains(shared, p.node) {
			shared = append(shared, p.node)
		}
	}
	slices.Sort(shared)
	return shared
}

// nobodyCanTell reports whether the answer hangs on whether some node's primary address lies in a prefix: the package
// is told whose an address is, not which addresses a node has.
func nobodyCanTell(a, b modelClaim) bool {
	return (a.flag == "primary" || b.flag == "primary") && (a.isVague() || b.isVague()) && a.single() == "" && b.single() == ""
}

func (c modelClaim) isVague() bool {
	_, length, isPrefix := strings.Cut(c.addr, "/")
	n, err := strconv.Atoi(length)
	return isPrefix && err == nil && n > 0 && !strings.HasPrefix(c.addr, "::ffff:0:0/96") && c.single() == ""
}
