//go:build linux

package dataplane

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

// savedForm brings a dump of upstream's fake, rules as they were passed to iptables, into the form of iptables-save.
func savedForm(dump string, f rules.Family) ([]string, error) {
	var lines []string
	tables := map[string][]string{}
	table := ""
	for line := range strings.Lines(dump) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "*"):
			table = line
		case strings.HasPrefix(line, "-A "):
			var err error
			if line, err = savedRule(line, f); err != nil {
				return nil, err
			}
		}
		tables[table] = append(tables[table], line)
	}
	for _, name := range []string{"*mangle", "*filter", "*nat"} {
		lines = append(lines, savedTable(name, tables[name])...)
	}
	return lines, nil
}

// savedTable sorts the chains of a table: those that every table has first, in the order of the hooks.
func savedTable(name string, lines []string) []string {
	builtin := map[string][]string{
		"*mangle": {"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}, "*filter": {"INPUT", "FORWARD", "OUTPUT"},
		"*nat": {"PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"},
	}[name]
	byChain := map[string][]string{}
	var own []string
	for _, line := range lines {
		fields := strings.Fields(line)
		switch chain := strings.TrimPrefix(fields[0], ":"); {
		case strings.HasPrefix(line, "-A "):
			byChain[fields[1]] = append(byChain[fields[1]], line)
		case strings.HasPrefix(line, ":") && !slices.Contains(builtin, chain):
			own = append(own, chain)
		}
	}
	slices.Sort(own)
	out := []string{name}
	for _, chain := range builtin {
		out = append(out, ":"+chain+" ACCEPT [0:0]")
	}
	for _, chain := range own {
		out = append(out, ":"+chain+" - [0:0]")
	}
	for _, chain := range append(builtin, own...) {
		out = append(out, byChain[chain]...)
	}
	return append(out, "COMMIT")
}

// savedRule writes the arguments of a rule as iptables-save does (measured): fields of the rule first, then the matches in
// the order in which they were given, then the target.
func savedRule(rule string, f rules.Family) (string, error) {
	words := wordsOf(rule)
	r := savedParts{family: f}
	for i := 2; i < len(words); i++ {
		n, err := r.option(words[i], words[i+1:])
		if err != nil {
			return "", fmt.Errorf("%q: %w", rule, err)
		}
		i += n
	}
	return "-A " + words[1] + strings.Join(r.parts[:], ""), nil
}

// wordsOf splits a line at its spaces, but for those in quotes.
func wordsOf(rule string) []string {
	var words []string
	for i, part := range strings.Split(rule, `"`) {
		if i%2 == 1 {
			words = append(words, part)
		} else {
			words = append(words, strings.Fields(part)...)
		}
	}
	return words
}

// savedParts are the parts of a rule in the order of a listing: -s, -d, -i, -p, matches, -j.
type savedParts struct {
	family rules.Family
	parts  [6]string
	not    string
	recent string // the name of the list, which comes behind the other options
}

func (r *savedParts) put(at int, words ...string) {
	r.parts[at] += r.not + " " + strings.Join(words, " ")
	r.not = ""
}

// option writes an option, and returns how many words of the rest were its own.
func (r *savedParts) option(w string, rest []string) (int, error) {
	value := append(rest, "")[0]
	switch w {
	case "!":
		r.not = " !"
		return 0, nil
	case "-s":
		return 1, r.network(0, w, value)
	case "-d":
		return 1, r.network(1, w, value)
	case "-i":
		r.put(2, w, value)
	case "-p":
		r.put(3, w, value)
	case "-m", "--dport", "--dst-type", "--src-type", "--ctstate", "--mode":
		r.put(4, w, value)
	case "--comment":
		r.put(4, w, strings.ReplaceAll(strconv.Quote(value), "'", `\'`))
	case "--match-set":
		r.put(4, w, value, rest[1])
		return 2, nil
	case "--physdev-is-in":
		r.put(4, w)
		return 0, nil
	case "--vaddr": // of the match ipvs, which prints the protocol first, as a number
		r.put(4, rest[1], map[string]string{"tcp": "6", "udp": "17", "sctp": "132"}[rest[2]], w, value)
		return 3, nil
	case "--vport":
		r.put(4, w, value)
	case "--nfacct-name":
		r.put(4, w, "", value)
	case "--mark":
		v, mask, _ := strings.Cut(value, "/")
		r.put(4, w, minimalHex(v)+"/"+minimalHex(mask))
	case "--probability":
		p, err := strconv.ParseFloat(value, 64)
		r.put(4, w, strconv.FormatFloat(math.Round(p*(1<<31))/(1<<31), 'f', 11, 64)) // the kernel holds 31 bits
		return 1, err
	case "--name":
		r.recent = value
	case "--rcheck":
		r.put(4, w)
		return 0, nil
	case "--seconds":
		r.put(4, w, value)
	case "--set", "--reap":
		mask := map[rules.Family]string{rules.IPv4: "255.255.255.255", rules.IPv6: "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}[r.family]
		r.put(4, w, "--name", r.recent, "--mask", mask, "--rsource")
		return 0, nil
	case "-j":
		r.put(5, w, r.target(rest))
		return len(rest), nil
	default:
		return 0, fmt.Errorf("what is %q?", w)
	}
	return 1, nil
}

func (r *savedParts) network(at int, w, text string) error {
	if addr, err := netip.ParseAddr(text); err == nil {
		r.put(at, w, netip.PrefixFrom(addr, addr.BitLen()).String())
		return nil
	}
	p, err := netip.ParsePrefix(text)
	r.put(at, w, p.Masked().String())
	return err
}

func (r *savedParts) target(words []string) string {
	switch target := words[0]; {
	case target == "REJECT" && r.family == rules.IPv4:
		return "REJECT --reject-with icmp-port-unreachable"
	case target == "REJECT":
		return "REJECT --reject-with icmp6-port-unreachable"
	case target == "MARK" && words[1] == "--or-mark":
		return "MARK --set-xmark " + minimalHex(words[2]) + "/" + minimalHex(words[2])
	case target == "MARK" && words[1] == "--xor-mark":
		return "MARK --set-xmark " + minimalHex(words[2]) + "/0x0"
	default:
		return strings.Join(words, " ")
	}
}

func minimalHex(text string) string {
	v, err := strconv.ParseUint(text, 0, 32)
	if err != nil {
		return text
	}
	return fmt.Sprintf("%#x", v)
}

// withoutOrder sorts, in the chains that many Services write to, the rules by the Service port that they are of, and keeps
// the order of one's own: the real proxier has none between Services, and none between a node's addresses.
func withoutOrder(lines []string) []string {
	lines = slices.Clone(lines)
	for from := 0; from < len(lines); {
		to := from + 1
		for to < len(lines) && chainOf(lines[to]) == chainOf(lines[from]) {
			to++
		}
		if isShared(chainOf(lines[from])) {
			slices.SortStableFunc(lines[from:to], func(a, b string) int { return cmp.Compare(serviceOf(a), serviceOf(b)) })
		}
		from = to
	}
	return lines
}

// chainOf is the chain of a rule, and "" for other lines.
func chainOf(line string) string {
	if rest, ok := strings.CutPrefix(line, "-A "); ok {
		return strings.Fields(rest)[0]
	}
	return ""
}

func isShared(chain string) bool {
	return slices.Contains([]string{"KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-EXTERNAL-SERVICES", "KUBE-PROXY-FIREWALL"}, chain)
}

// serviceOf is by what a rule of a shared chain is sorted: its Service port, or the whole line behind all of them.
func serviceOf(line string) string {
	_, comment, _ := strings.Cut(line, `--comment "`)
	comment, _, _ = strings.Cut(comment, `"`)
	if strings.HasPrefix(comment, "kubernetes ") {
		return "~" + line
	}
	return strings.Fields(comment)[0]
}
