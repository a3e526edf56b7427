//go:build linux

package dataplane

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	sysctltesting "k8s.io/component-helpers/node/util/sysctl/testing"
	proxyconfig "k8s.io/kubernetes/pkg/proxy/apis/config"
	"k8s.io/kubernetes/pkg/proxy/conntrack"
	"k8s.io/kubernetes/pkg/proxy/healthcheck"
	"k8s.io/kubernetes/pkg/proxy/ipvs"
	ipsettesting "k8s.io/kubernetes/pkg/proxy/ipvs/ipset/testing"
	ipvstesting "k8s.io/kubernetes/pkg/proxy/ipvs/testing"
	utilipvs "k8s.io/kubernetes/pkg/proxy/ipvs/util"
	proxyutil "k8s.io/kubernetes/pkg/proxy/util"
	iptablestesting "k8s.io/kubernetes/pkg/util/iptables/testing"

	"github.com/portcullis-k8s/portcullis/pkg/rules"
	"github.com/portcullis-k8s/portcullis/pkg/rules/kubeproxy"
	"github.com/portcullis-k8s/portcullis/pkg/rules/text"
)

// TestIPVS holds our rendering to what the real proxier of the ipvs mode leaves in a fake kernel: virtual servers with
// their real ones, ipsets, and rules of iptables.
func TestIPVS(t *testing.T) {
	t.Parallel()
	var seen ipvsTally
	difference := func(c *Case, f rules.Family) string { return ipvsDifference(t, c, f, &seen) }
	differential(t, difference)
	for seed := range uint64(60) {
		c := Draw(seed, Size{Services: 6})
		allowNode(c)
		if compare(t, c, difference); t.Failed() {
			return
		}
	}
	seen.check(t, 20)
}

// allowNode gives every load balancer source ranges with the node's usual addresses.
func allowNode(c *Case) {
	for _, svc := range c.Services {
		if svc.Spec.Type == corev1.ServiceTypeLoadBalancer {
			svc.Spec.LoadBalancerSourceRanges = []string{"198.18.0.0/15", "192.0.2.0/24", "2001:db8::1/128"}
		}
	}
}

// TestIPVSWithoutNodePorts: where node ports answer at no address, what comes behind them is lost.
func TestIPVSWithoutNodePorts(t *testing.T) {
	t.Parallel()
	var seen ipvsTally
	for seed := range uint64(60) {
		c := Draw(seed, Size{Services: 6})
		c.Proxy.PrimaryNodePorts = false
		c.Proxy.NodePortAddresses = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
		if compare(t, c, func(c *Case, f rules.Family) string { return ipvsDifference(t, c, f, &seen) }); t.Failed() {
			return
		}
	}
}

// FuzzIPVS does so for any seed.
func FuzzIPVS(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed, uint8(seed))
	}
	f.Fuzz(func(t *testing.T, seed uint64, services uint8) {
		var seen ipvsTally
		compare(t, Draw(seed, Size{Services: 1 + int(services%12)}), func(c *Case, f rules.Family) string { return ipvsDifference(t, c, f, &seen) })
	})
}

func ipvsDifference(tb testing.TB, c *Case, f rules.Family, seen *ipvsTally) string {
	tb.Helper()
	theirs, err := realIPVS(tb, c, f)
	if err != nil {
		return err.Error()
	}
	installed := rules.Install(kubeproxy.IPVS(c.World(), f))
	seen.add(theirs)
	return gocmp.Diff(theirs, ipvsState{
		servers: sortedLines(text.IPVSAdm(installed)),
		ipsets:  sortedLines(text.IPSet(installed, f)),
		rules:   sortedOwnAccess(strings.Split(strings.TrimSpace(text.Save(installed, rules.XTables, f)), "\n")),
	}, gocmp.AllowUnexported(ipvsState{})) + misread(installed, f)
}

// misread returns how our own listings differ from what our parsers make of them.
func misread(installed *rules.Ruleset, f rules.Family) string {
	servers, err1 := text.ParseIPVSAdm(text.IPVSAdm(installed))
	sets, err2 := text.ParseIPSet(text.IPSet(installed, f))
	tables, err3 := text.ParseSave(text.Save(installed, rules.XTables, f), rules.XTables, f)
	if err := errors.Join(err1, err2, err3); err != nil {
		return err.Error()
	}
	read := &rules.Ruleset{Tables: tables.Tables, IPSets: sets, Virtual: servers}
	return gocmp.Diff(installed.IPSets, sets, cmpopts.IgnoreTypes(rules.Origin{}), cmpopts.EquateComparable(rules.Key{})) +
		gocmp.Diff(text.IPVSAdm(installed), text.IPVSAdm(read)) +
		gocmp.Diff(text.Save(installed, rules.XTables, f), text.Save(read, rules.XTables, f))
}

// ipvsState is what a proxier of the ipvs mode leaves in the kernel, as text.
type ipvsState struct{ servers, ipsets, rules []string }

// realIPVS gives a case to the real proxier and returns what the fake kernel holds then.
func realIPVS(tb testing.TB, c *Case, f rules.Family) (ipvsState, error) {
	tb.Helper()
	iptables := &xtKernel{FakeIPTables: iptablestesting.NewFake()}
	if f == rules.IPv6 {
		iptables.FakeIPTables = iptablestesting.NewIPv6Fake()
	}
	servers, sets := &ipvsKernel{}, ipsettesting.NewFake("7.17")
	p := newRealIPVS(tb, c, f, iptables, servers, sets)
	deliver(c, p)
	p.OnServiceSynced()
	p.OnEndpointSlicesSynced()
	if iptables.refused != nil {
		return ipvsState{}, fmt.Errorf("the fake kernel refused: %w", iptables.refused)
	}
	var saved bytes.Buffer
	if err := iptables.SaveInto("", &saved); err != nil {
		return ipvsState{}, err
	}
	lines, err := savedForm(saved.String(), f)
	if err != nil {
		return ipvsState{}, err
	}
	state := ipvsState{servers: servers.listing(), ipsets: ipsetListing(sets, f), rules: sortedOwnAccess(withoutMangle(lines))}
	*servers = ipvsKernel{} // the proxier leaves a goroutine behind that holds it
	return state, nil
}

func newRealIPVS(tb testing.TB, c *Case, f rules.Family, iptables *xtKernel, servers *ipvsKernel, sets *ipsettesting.FakeIPSet) *ipvs.Proxier {
	tb.Helper()
	config := &proxyconfig.KubeProxyConfiguration{NodePortAddresses: c.nodePortAddresses()}
	config.Linux.MasqueradeAll = c.Proxy.MasqueradeAll
	config.IPTables.MasqueradeBit = new(int32(c.Proxy.MasqueradeBit))
	config.IPVS.Scheduler = c.Proxy.Scheduler
	config.SyncPeriod.Duration = 30 * time.Second
	p, err := ipvs.NewProxier(context.Background(), config, corev1.IPFamily(f.String()), iptables, servers, sets, sysctltesting.NewFake(),
		c.detector(f), c.Node.Name, c.nodeIP(f), nil, nil, false)
	if err != nil {
		tb.Fatal(err)
	}
	netlink := ipvstesting.NewFakeNetlinkHandle(f == rules.IPv6)
	addresses := []string{"127.0.0.1", "::1"}
	for _, a := range c.Interfaces {
		addresses = append(addresses, a.String())
	}
	if err := netlink.SetLocalAddresses("eth0", addresses...); err != nil {
		tb.Fatal(err)
	}
	put[ipvs.NetLinkHandle](p, "netlinkHandle", netlink)
	put[proxyutil.NetworkInterfacer](p, "networkInterfacer", c)
	put(p, "conntrack", conntrack.NewFake())
	put(p, "serviceHealthServer", healthcheck.NewFakeServiceHealthServer()) // the real one listens
	return p
}

// ipvsKernel is a kernel's IPVS. It has what the real proxier's first sync uses.
type ipvsKernel struct {
	utilipvs.Interface
	virtual map[string]*utilipvs.VirtualServer
	real    map[string][]*utilipvs.RealServer
}

func (k *ipvsKernel) AddVirtualServer(v *utilipvs.VirtualServer) error {
	if k.virtual == nil {
		k.virtual, k.real = map[string]*utilipvs.VirtualServer{}, map[string][]*utilipvs.RealServer{}
	}
	k.virtual[v.String()] = v
	return nil
}

func (k *ipvsKernel) GetVirtualServer(v *utilipvs.VirtualServer) (*utilipvs.VirtualServer, error) {
	if is, ok := k.virtual[v.String()]; ok {
		return is, nil
	}
	return nil, fmt.Errorf("there is no %v", v)
}

func (k *ipvsKernel) GetVirtualServers() ([]*utilipvs.VirtualServer, error) {
	var all []*utilipvs.VirtualServer
	for _, v := range k.virtual {
		all = append(all, v)
	}
	return all, nil
}

func (k *ipvsKernel) AddRealServer(v *utilipvs.VirtualServer, r *utilipvs.RealServer) error {
	k.real[v.String()] = append(k.real[v.String()], r)
	return nil
}

func (k *ipvsKernel) GetRealServers(v *utilipvs.VirtualServer) ([]*utilipvs.RealServer, error) {
	return k.real[v.String()], nil
}

// listing returns the virtual and real servers in the form of ipvsadm, sorted.
func (k *ipvsKernel) listing() []string {
	var lines []string
	for key, v := range k.virtual {
		address, protocol, _ := strings.Cut(key, "/")
		server := map[string]string{"TCP": "-t ", "UDP": "-u ", "SCTP": "--sctp-service "}[protocol] + address
		line := "-A " + server + " -s " + v.Scheduler
		if v.Flags&utilipvs.FlagPersistent != 0 {
			line += " -p " + strconv.Itoa(int(v.Timeout))
		}
		if v.Flags&utilipvs.FlagSourceHash != 0 {
			line += " -b mh-port" // IP_VS_SVC_F_SCHED_MH_PORT
		}
		lines = append(lines, line)
		for _, r := range k.real[key] {
			lines = append(lines, fmt.Sprintf("-a %s -r %s -m -w %d", server, r, r.Weight))
		}
	}
	slices.Sort(lines)
	return lines
}

func sortedLines(listing string) []string {
	lines := slices.Collect(strings.Lines(listing))
	for i := range lines {
		lines[i] = strings.TrimSuffix(lines[i], "\n")
	}
	slices.Sort(lines)
	return lines
}

// ipsetListing returns the sets in the form of "ipset save", sorted: the network of one address is printed as the address.
func ipsetListing(fake *ipsettesting.FakeIPSet, f rules.Family) []string {
	var lines []string
	for name, set := range fake.Sets {
		line := fmt.Sprintf("create %s %s", name, set.SetType)
		if strings.HasPrefix(string(set.SetType), "hash:") {
			line += fmt.Sprintf(" family %s hashsize 1024 maxelem 65536", set.HashFamily)
		} else {
			line += " range 0-65535"
		}
		lines = append(lines, line)
		whole := map[rules.Family]string{rules.IPv4: "/32", rules.IPv6: "/128"}[f]
		for entry := range fake.Entries[name] {
			lines = append(lines, "add "+name+" "+strings.TrimSuffix(entry, whole))
		}
	}
	slices.Sort(lines)
	return lines
}

// withoutMangle leaves out the table that the mode does not use, if it is empty.
func withoutMangle(lines []string) []string {
	empty := []string{"*mangle", ":PREROUTING ACCEPT [0:0]", ":INPUT ACCEPT [0:0]", ":FORWARD ACCEPT [0:0]", ":OUTPUT ACCEPT [0:0]", ":POSTROUTING ACCEPT [0:0]", "COMMIT"}
	if len(lines) >= len(empty) && slices.Equal(lines[:len(empty)], empty) {
		return lines[len(empty):]
	}
	return lines
}

// sortedOwnAccess sorts the one chain to which several Services write.
func sortedOwnAccess(lines []string) []string {
	is := func(line string) bool { return chainOf(line) == "KUBE-IPVS-OUT-FILTER" }
	if from := slices.IndexFunc(lines, is); from >= 0 {
		to := from
		for to < len(lines) && is(lines[to]) {
			to++
		}
		slices.Sort(lines[from:to])
	}
	return lines
}

// ipvsTally counts in how many rule sets something occurred: elements in each ipset, and the ways of virtual servers.
type ipvsTally struct {
	states int
	seen   map[string]int
}

func (t *ipvsTally) add(s ipvsState) {
	if t.seen == nil {
		t.seen = map[string]int{}
	}
	t.states++
	has := map[string]bool{}
	for _, line := range s.ipsets {
		words := strings.Fields(line)
		name := strings.TrimPrefix(strings.TrimPrefix(words[1], "KUBE-"), "6-")
		name = name[:min(len(name), 24)] // as IPv6 has it
		has[name] = has[name] || words[0] == "add"
	}
	for _, line := range s.servers {
		for _, way := range []string{"-s rr", "-s lc", "-s mh", " -p ", "-A -t", "-A -u", "-A --sctp"} {
			has[way] = has[way] || strings.Contains(line, way)
		}
	}
	has["no real server"] = slices.ContainsFunc(s.servers, func(v string) bool {
		server, _, is := strings.Cut(strings.TrimPrefix(v, "-A "), " -s ")
		return is && !slices.ContainsFunc(s.servers, func(r string) bool { return strings.HasPrefix(r, "-a "+server+" -r ") })
	})
	has["kept from the node"] = slices.ContainsFunc(s.rules, func(line string) bool { return chainOf(line) == "KUBE-IPVS-OUT-FILTER" })
	for name, is := range has {
		if t.seen[name] += 0; is {
			t.seen[name]++
		}
	}
}

func (t *ipvsTally) check(tb testing.TB, least int) {
	tb.Helper()
	for name, n := range t.seen {
		if n < least {
			tb.Errorf("%s: in %d of %d rule sets only", name, n, t.states)
		}
	}
	tb.Logf("%d rule sets: %v", t.states, t.seen)
}
