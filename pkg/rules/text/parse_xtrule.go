package text

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

// ruleParser reads the options of one rule. After the first error it reads on and keeps it.
type ruleParser struct {
	words    []string
	family   rules.Family
	isChain  func(string) bool
	do       []rules.Stmt
	protocol ports.Protocol
	within   string // what the last options belonged to, for errors
	err      error
}

func (p *ruleParser) parse() ([]rules.Stmt, error) {
	for len(p.words) > 0 && p.err == nil {
		p.option()
	}
	return p.do, p.err
}

func (p *ruleParser) option() {
	not := p.bang()
	word := p.word()
	switch word {
	case "-s":
		p.add(rules.Addr{Side: rules.Source, In: []netip.Prefix{p.prefix()}, Not: not})
	case "-d":
		p.add(rules.Addr{Side: rules.Destination, In: []netip.Prefix{p.prefix()}, Not: not})
	case "-i":
		name, prefix := strings.CutSuffix(p.name(), "+")
		p.add(rules.InInterface{Name: name, Prefix: prefix, Not: not})
	case "-p":
		p.plain(not, word)
		p.protocol = p.protocolWord()
		p.add(rules.Proto{Is: p.protocol})
	case "-m":
		p.plain(not, word)
		p.match(p.word())
	case "-j":
		p.plain(not, word)
		p.target(p.word())
	case "-g":
		p.plain(not, word)
		p.add(rules.Goto{Chain: p.chain(p.word())})
	default:
		p.unknown(word)
	}
}

func (p *ruleParser) match(name string) {
	p.within = "match " + name
	switch name {
	case "tcp", "udp", "sctp":
		p.portMatch(name)
	case "multiport":
		p.expect("--dports")
		p.add(rules.Port{Is: p.ports(), Multi: true})
	case "comment":
		p.expect("--comment")
		p.add(rules.Comment{Text: p.word()})
	case "addrtype":
		not, side := p.bang(), rules.Destination
		if p.optional("--src-type") {
			side = rules.Source
		} else {
			p.expect("--dst-type")
		}
		p.expect("LOCAL")
		p.add(rules.AddrLocal{Side: side, Not: not})
	case "conntrack":
		not := p.bang()
		p.expect("--ctstate")
		p.add(rules.CTState{In: p.states(), Not: not})
	case "state":
		not := p.bang()
		p.expect("--state")
		p.add(rules.CTState{In: p.states(), Not: not, Old: true})
	case "mark":
		not := p.bang()
		p.expect("--mark")
		value, mask := p.masked()
		p.add(rules.Mark{Value: value, Mask: mask, Not: not})
	case "set":
		not := p.bang()
		p.expect("--match-set")
		set := p.name()
		p.add(rules.InSet{Set: set, Fields: p.fields(set), Not: not})
	default:
		p.rareMatch(name)
	}
}

func (p *ruleParser) rareMatch(name string) {
	switch name {
	case "statistic":
		p.expect("--mode", "random", "--probability")
		p.add(rules.Statistic{Probability: p.probability()})
	case "recent":
		p.recent()
	case "physdev":
		not := p.bang()
		p.expect("--physdev-is-in")
		p.add(rules.PhysdevIn{Not: not})
	case "nfacct":
		p.expect("--nfacct-name")
		p.add(rules.Accounting{Name: p.name()})
	case "ipvs":
		p.expect("--vproto")
		protocol := p.protocolWord()
		p.expect("--vaddr")
		addr := p.addr(p.word())
		p.expect("--vport")
		p.add(rules.ViaIPVS{Addr: netip.AddrPortFrom(addr, p.port(p.word())), Protocol: protocol})
	default:
		p.fail("unknown match %q", name)
	}
}

func (p *ruleParser) portMatch(name string) {
	if name != protocol(p.protocol) {
		p.fail("match %s in a rule of another protocol", name)
	}
	var is []uint16
	if p.optional("--dport") {
		is = []uint16{p.port(p.word())}
	}
	p.add(rules.Port{Is: is})
}

func (p *ruleParser) recent() {
	var r rules.Recent
	if p.optional("--set") {
		r.Set = true
	} else {
		p.expect("--rcheck", "--seconds")
		r.Seconds = int(p.number(p.word(), 31))
		p.expect("--reap")
	}
	p.expect("--name")
	r.Name = p.name()
	p.expect("--mask", wholeMask(p.family), "--rsource")
	p.add(r)
}

func (p *ruleParser) target(name string) {
	p.within = "target " + name
	switch name {
	case "MARK":
		p.expect("--set-xmark")
		value, mask := p.masked()
		p.add(rules.SetMark{Value: value, Mask: mask})
	case "DNAT":
		p.expect("--to-destination")
		p.add(rules.DNAT{To: []netip.AddrPort{p.addrPort()}})
	case "REDIRECT":
		p.expect("--to-ports")
		p.add(rules.Redirect{Port: p.port(p.word())})
	case "MASQUERADE":
		p.add(rules.Masquerade{Random: p.optional("--random-fully")})
	case "REJECT":
		p.expect("--reject-with", rejectWith(p.family))
		p.add(rules.Reject{})
	case "ACCEPT":
		p.add(rules.Accept{})
	case "DROP":
		p.add(rules.Drop{})
	case "RETURN":
		p.add(rules.Return{})
	default:
		p.add(rules.Jump{Chain: p.chain(name)})
	}
}

func (p *ruleParser) add(s rules.Stmt) { p.do = append(p.do, s) }

func (p *ruleParser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf(format, args...)
	}
}

func (p *ruleParser) unknown(word string) {
	if p.within == "" {
		p.fail("unknown option %q", word)
	} else {
		p.fail("unknown option %q behind %s", word, p.within)
	}
}

// word takes the next word.
func (p *ruleParser) word() string {
	if len(p.words) == 0 {
		p.fail("the line ends too early")
		return ""
	}
	word := p.words[0]
	p.words = p.words[1:]
	return word
}

// name takes what somebody chose to call something; the tools do not quote it.
func (p *ruleParser) name() string {
	word := p.word()
	if !isName(word) {
		p.fail("%q is not a name", word)
	}
	return word
}

func isName(s string) bool {
	return s != "" && !strings.ContainsAny(s, " \t\r\n\"\\") && s[0] != '-' && s[0] != '!'
}

// optional takes the next word if it is that.
func (p *ruleParser) optional(word string) bool {
	if len(p.words) == 0 || p.words[0] != word {
		return false
	}
	p.words = p.words[1:]
	return true
}

// expect takes words that must come next.
func (p *ruleParser) expect(words ...string) {
	for _, want := range words {
		if word := p.word(); word != want && p.err == nil {
			p.fail("unknown option %q of %s, which has %s here", word, p.within, want)
		}
	}
}

func (p *ruleParser) bang() bool { return p.optional("!") }

// plain is for options that cannot be inverted here.
func (p *ruleParser) plain(not bool, option string) {
	if not {
		p.fail(`unknown option "! %s"`, option)
	}
}

func (p *ruleParser) chain(name string) string {
	if !p.isChain(name) {
		p.fail("unknown target %q: the table has no such chain", name)
	}
	return name
}

func (p *ruleParser) prefix() netip.Prefix { return p.network(p.word()) }

// network reads a network, or an address, which is one too.
func (p *ruleParser) network(word string) netip.Prefix {
	if !strings.Contains(word, "/") {
		a := p.addr(word)
		return netip.PrefixFrom(a, a.BitLen())
	}
	prefix, err := netip.ParsePrefix(word)
	if err != nil || !p.family.Has(prefix.Addr()) {
		p.fail("%q is no network of %s", word, p.family)
		return netip.Prefix{}
	}
	return prefix.Masked()
}

func (p *ruleParser) addr(word string) netip.Addr {
	a, err := netip.ParseAddr(word)
	if err != nil || !p.family.Has(a) || a.Zone() != "" {
		p.fail("%q is not an address of %s", word, p.family)
		return netip.Addr{}
	}
	return a
}

func (p *ruleParser) addrPort() netip.AddrPort {
	word := p.word()
	to, err := netip.ParseAddrPort(word)
	if err != nil || !p.family.Has(to.Addr()) || to.Addr().Zone() != "" {
		p.fail("%q is not an address of %s with a port", word, p.family)
	}
	return to
}

// protocolWord takes a protocol, by its name or, as some machines print it, its number.
func (p *ruleParser) protocolWord() ports.Protocol {
	word := p.word()
	for _, known := range ports.Protocols() {
		if word == protocol(known) || word == protocolNumber(known) {
			return known
		}
	}
	p.fail("unknown protocol %q", word)
	return 0
}

func (p *ruleParser) port(word string) uint16 { return uint16(p.number(word, 16)) }

func (p *ruleParser) number(word string, bits int) uint64 {
	n, err := strconv.ParseUint(word, 10, bits)
	if err != nil {
		p.fail("%q is not a number of that option of %s", word, p.within)
	}
	return n
}

func (p *ruleParser) ports() []uint16 {
	var out []uint16
	for word := range strings.SplitSeq(p.word(), ",") {
		out = append(out, p.port(word))
	}
	return out
}

func (p *ruleParser) states() []string {
	in := strings.Split(p.word(), ",")
	for _, state := range in {
		if !slices.Contains(ctStates(), state) {
			p.fail("unknown state %q of %s", state, p.within)
		}
	}
	return in
}

// masked takes value/mask; no mask is all of it.
func (p *ruleParser) masked() (value, mask uint32) {
	left, right, ok := strings.Cut(p.word(), "/")
	if !ok {
		return p.hex(left), math.MaxUint32
	}
	return p.hex(left), p.hex(right)
}

func (p *ruleParser) hex(word string) uint32 {
	digits, ok := strings.CutPrefix(word, "0x")
	n, err := strconv.ParseUint(digits, 16, 32)
	if err != nil || !ok {
		p.fail("%q is no mark", word)
	}
	return uint32(n)
}

// probability takes a number that the kernel keeps in 31 bits, of which the listing shows 11 digits.
func (p *ruleParser) probability() float64 {
	word := p.word()
	v, err := strconv.ParseFloat(word, 64)
	if err != nil || !(v >= 0 && v <= 1) {
		p.fail("%q is no probability", word)
		return 0
	}
	return math.Round(v*(1<<31)) / (1 << 31)
}

// fields takes the directions of a set. A listing does not tell what sets hold: of those with one dimension only
// kube-proxy's are known; the second dimension is a port in all types that it uses (pkg/proxy/ipvs/ipset.go).
func (p *ruleParser) fields(set string) []rules.Field {
	word := p.word()
	directions := strings.Split(word, ",")
	if len(directions) == 1 {
		switch field := singleField(set); {
		case field == 0:
			p.fail("set %q: what it holds is not known", set)
		case directions[0] != "dst":
			p.fail("set %q: unknown directions %q", set, word)
		default:
			return []rules.Field{field}
		}
		return nil
	}
	var out []rules.Field
	for i, d := range directions {
		switch {
		case i > 2 || i == 1 && d != "dst" || d != "src" && d != "dst":
			p.fail("set %q: unknown directions %q", set, word)
		case i == 1:
			out = append(out, rules.DstPort)
		case d == "src":
			out = append(out, rules.SrcAddr)
		default:
			out = append(out, rules.DstAddr)
		}
	}
	return out
}

// singleField returns what kube-proxy's sets of one dimension hold; 0 if the set is none of them.
func singleField(set string) rules.Field {
	name, v6 := strings.CutPrefix(set, "KUBE-6-")
	if !v6 {
		name, _ = strings.CutPrefix(set, "KUBE-")
	}
	switch name {
	case "IPVS-IPS":
		return rules.DstAddr
	case "NODE-PORT-TCP", "NODE-PORT-UDP", "NODE-PORT-LOCAL-TCP", "NODE-PORT-LOCAL-UDP", "HEALTH-CHECK-NODE-PORT":
		return rules.DstPort
	default:
		return 0
	}
}
