package text

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

// IPVSAdm returns what "ipvsadm --save --numeric" prints, and "ipvsadm --restore" reads: both families, sorted by protocol,
// address and port (ipvsadm.c print_service_entry, libipvs.c ipvs_cmp_services). As kube-proxy has it, packets are
// translated on their way to a real server, all real servers have the weight 1, and the scheduler mh hashes ports too.
func IPVSAdm(r *rules.Ruleset) string {
	var b strings.Builder
	for _, v := range slices.SortedStableFunc(slices.Values(r.Virtual), compareVirtual) {
		server := protocolOption(v.Protocol) + " " + v.Addr.String()
		b.WriteString("-A " + server + " -s " + v.Scheduler)
		if v.Persistence != 0 {
			b.WriteString(" -p " + strconv.Itoa(v.Persistence))
		}
		if v.Scheduler == "mh" {
			b.WriteString(" -b mh-port")
		}
		b.WriteByte('\n')
		for _, to := range slices.SortedFunc(slices.Values(v.Real), netip.AddrPort.Compare) {
			b.WriteString("-a " + server + " -r " + to.String() + " -m -w 1\n")
		}
	}
	return b.String()
}

func compareVirtual(a, b *rules.VirtualServer) int {
	return cmp.Or(
		cmp.Compare(rules.FamilyOf(a.Addr.Addr()), rules.FamilyOf(b.Addr.Addr())),
		cmp.Compare(a.Protocol, b.Protocol),
		a.Addr.Compare(b.Addr),
	)
}

func protocolOption(p ports.Protocol) string {
	switch p {
	case ports.TCP:
		return "-t"
	case ports.UDP:
		return "-u"
	case ports.SCTP:
	}
	return "--sctp-service"
}

// ParseIPVSAdm reads what "ipvsadm --save --numeric" prints of virtual servers as kube-proxy makes them. What it does not
// know is an error that names it and its line. Real servers of the weight 0 are left out: they keep their connections but
// get no new ones, as kube-proxy arranges it for endpoints that are gone (pkg/proxy/ipvs/graceful_termination.go).
func ParseIPVSAdm(listing string) ([]*rules.VirtualServer, error) {
	p := ipvsadmParser{seen: map[service]bool{}}
	err := eachLine(listing, p.line)
	return p.all, err
}

type ipvsadmParser struct {
	all  []*rules.VirtualServer
	seen map[service]bool
}

// service is what a virtual server answers to.
type service struct {
	protocol ports.Protocol
	addr     netip.AddrPort
}

func (p *ipvsadmParser) line(words []string) error {
	r := ruleParser{words: words[1:]}
	switch words[0] {
	case "-A":
		p.virtual(&r)
	case "-a":
		p.real(&r)
	default:
		return fmt.Errorf("unknown line %q", strings.Join(words, " "))
	}
	return r.end()
}

// server reads the options that say which virtual server is meant.
func (p *ruleParser) server() (ports.Protocol, netip.AddrPort) {
	option, text := p.word(), p.word()
	for _, protocol := range ports.Protocols() {
		if option == protocolOption(protocol) {
			p.within = "virtual server " + text
			return protocol, p.anyAddrPort(text)
		}
	}
	p.fail("unknown option %q", option)
	return 0, netip.AddrPort{}
}

// anyAddrPort reads an address with a port, of either family.
func (p *ruleParser) anyAddrPort(text string) netip.AddrPort {
	to, err := netip.ParseAddrPort(text)
	if err != nil || to.Addr().Zone() != "" || to.Addr().Is4In6() {
		p.fail("%q is not an address with a port", text)
	}
	return to
}

func (p *ipvsadmParser) virtual(r *ruleParser) {
	v := &rules.VirtualServer{}
	v.Protocol, v.Addr = r.server()
	r.expect("-s")
	v.Scheduler = r.name()
	if r.optional("-p") {
		v.Persistence = int(r.number(r.word(), 31))
		if v.Persistence == 0 {
			r.fail("option -p of %s: connections persist for no time", r.within)
		}
	}
	if v.Scheduler == "mh" {
		r.expect("-b", "mh-port")
	}
	if p.seen[service{v.Protocol, v.Addr}] {
		r.fail("%s is listed twice", r.within)
	}
	p.seen[service{v.Protocol, v.Addr}] = true
	p.all = append(p.all, v)
}

func (p *ipvsadmParser) real(r *ruleParser) {
	protocol, addr := r.server()
	var v *rules.VirtualServer
	if len(p.all) > 0 {
		v = p.all[len(p.all)-1]
	}
	if v == nil || v.Protocol != protocol || v.Addr != addr {
		r.fail("a real server of %s stands elsewhere than behind it", r.within)
		return
	}
	r.expect("-r")
	r.family = rules.FamilyOf(addr.Addr())
	to := r.addrPort()
	if slices.Contains(v.Real, to) {
		r.fail("real server %s of %s is listed twice", to, r.within)
	}
	r.expect("-m", "-w")
	if r.optional("0") {
		return
	}
	r.expect("1")
	v.Real = append(v.Real, to)
}
