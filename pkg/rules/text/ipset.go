package text

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

// IPSet returns an input of "ipset restore" that makes the ipsets of a family. It is what "ipset save" prints, but for the
// seed of the hashes and the size of their buckets, which the kernel adds, and for the order of elements, which in the
// kernel is that of the hashes (measured with ipset 7.17).
func IPSet(r *rules.Ruleset, f rules.Family) string {
	var b strings.Builder
	for _, s := range r.IPSets {
		if s.Family != f {
			continue
		}
		b.WriteString("create " + s.Name + " " + s.Type)
		if s.Type == "bitmap:port" {
			b.WriteString(" range 0-65535\n")
		} else {
			b.WriteString(" family " + ipsetFamily(s.Family) + " hashsize 1024 maxelem 65536\n")
		}
		for i := range s.Elems {
			b.WriteString("add " + s.Name + " ")
			writeIPSetKey(&b, s.Type, &s.Elems[i].Key)
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// IPSetElem returns an element as ipset prints it.
func IPSetElem(s *rules.Set, e *rules.Elem) string {
	var b strings.Builder
	writeIPSetKey(&b, s.Type, &e.Key)
	return b.String()
}

func ipsetFamily(f rules.Family) string {
	if f == rules.IPv4 {
		return "inet"
	}
	return "inet6"
}

// ipsetTypes are the types of the ipsets that kube-proxy creates.
func ipsetTypes() []string {
	return []string{"hash:ip", "hash:ip,port", "hash:ip,port,ip", "hash:ip,port,net", "bitmap:port"}
}

func writeIPSetKey(b *strings.Builder, kind string, k *rules.Key) {
	if kind == "bitmap:port" {
		b.WriteString(strconv.Itoa(int(k.Port)))
		return
	}
	b.WriteString(k.Addr.String())
	if kind == "hash:ip" {
		return
	}
	b.WriteString("," + protocol(k.Protocol) + ":" + strconv.Itoa(int(k.Port)))
	switch {
	case kind == "hash:ip,port":
	case k.With.IsSingleIP():
		b.WriteString("," + k.With.Addr().String())
	default:
		b.WriteString("," + k.With.String())
	}
}

// ParseIPSet reads what "ipset save" prints, for sets of the types that kube-proxy creates. What it does not know is an
// error that names it and its line. A set of ports has no family of its own: it is of IPv6 if it is called as kube-proxy
// calls those of IPv6.
func ParseIPSet(listing string) ([]*rules.Set, error) {
	p := ipsetParser{sets: map[string]*rules.Set{}}
	err := eachLine(listing, p.line)
	return p.all, err
}

// eachLine gives the words of each line that has any to read, and tells in its error which line it was.
func eachLine(listing string, read func(words []string) error) error {
	n := 0
	for line := range strings.Lines(listing) {
		n++
		if words := strings.Fields(line); len(words) > 0 {
			if err := read(words); err != nil {
				return fmt.Errorf("line %d: %w", n, err)
			}
		}
	}
	return nil
}

type ipsetParser struct {
	all  []*rules.Set
	sets map[string]*rules.Set
	seen map[rules.Key]bool // of the last set
}

func (p *ipsetParser) line(words []string) error {
	switch {
	case words[0] == "create" && len(words) > 2:
		return p.create(words[1], words[2], words[3:])
	case words[0] == "add" && len(words) > 2:
		return p.add(words[1], words[2], words[3:])
	default:
		return fmt.Errorf("unknown line %q", strings.Join(words, " "))
	}
}

func (p *ipsetParser) create(name, kind string, options []string) error {
	if !isName(name) || p.sets[name] != nil {
		return fmt.Errorf("set %q is listed twice, or is not a name", name)
	}
	if !slices.Contains(ipsetTypes(), kind) {
		return fmt.Errorf("set %s: unknown type %q", name, kind)
	}
	s := &rules.Set{Name: name, Type: kind, Family: rules.IPv4}
	if kind == "bitmap:port" && strings.HasPrefix(name, "KUBE-6-") {
		s.Family = rules.IPv6
	}
	r := ruleParser{words: options, within: "set " + name}
	if kind == "bitmap:port" {
		r.expect("range", "0-65535")
	} else {
		r.expect("family")
		if !r.optional("inet") {
			r.expect("inet6")
			s.Family = rules.IPv6
		}
	}
	for kind != "bitmap:port" && len(r.words) > 0 && r.err == nil {
		switch option := r.word(); option {
		case "hashsize", "maxelem", "bucketsize":
			r.number(r.word(), 32)
		case "initval":
			r.hex(r.word())
		default:
			r.unknown(option)
		}
	}
	p.sets[name], p.all, p.seen = s, append(p.all, s), map[rules.Key]bool{}
	return r.end()
}

// end is an error if there are words left.
func (p *ruleParser) end() error {
	if len(p.words) > 0 {
		p.unknown(p.words[0])
	}
	return p.err
}

func (p *ipsetParser) add(name, element string, options []string) error {
	if len(p.all) == 0 || p.all[len(p.all)-1].Name != name {
		return fmt.Errorf("an element of set %q stands elsewhere than behind its set", name)
	}
	s := p.all[len(p.all)-1]
	r := ruleParser{family: s.Family, within: "element " + element, words: append(strings.Split(element, ","), options...)}
	k := r.ipsetKey(s.Type)
	if p.seen[k] {
		r.fail("set %s: element %q is listed twice", name, element)
	}
	p.seen[k] = true
	s.Elems = append(s.Elems, rules.Elem{Key: k})
	return r.end()
}

// ipsetKey takes an element, one word for each dimension.
func (p *ruleParser) ipsetKey(kind string) rules.Key {
	if kind == "bitmap:port" {
		return rules.Key{Port: p.port(p.word())}
	}
	k := rules.Key{Addr: p.addr(p.word())}
	if kind != "hash:ip" {
		k.Protocol, k.Port = p.protocolPort(p.word())
	}
	switch kind {
	case "hash:ip,port,ip":
		a := p.addr(p.word())
		k.With = netip.PrefixFrom(a, a.BitLen())
	case "hash:ip,port,net":
		k.With = p.prefix()
	}
	return k
}

// protocolPort reads "tcp:80".
func (p *ruleParser) protocolPort(text string) (ports.Protocol, uint16) {
	name, port, _ := strings.Cut(text, ":")
	for _, known := range ports.Protocols() {
		if name == protocol(known) {
			return known, p.port(port)
		}
	}
	p.fail("unknown protocol %q", name)
	return 0, 0
}
