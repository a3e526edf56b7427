//go:build linux

package dataplane

import (
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/pkg/extract/specimen"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
	"github.com/portcullis-k8s/portcullis/pkg/rules/kubeproxy"
	"github.com/portcullis-k8s/portcullis/pkg/rules/text"
	"github.com/portcullis-k8s/portcullis/test/lab/netns"
)

// TestKubeProxy holds our rules to those that kube-proxy itself leaves in a kernel: the program, told of a case by a real
// API server, in a network namespace of its own. Ours are loaded into another namespace, and what the kernel's own tools
// list in both must be the same.
//
// The ipvs mode is missing: it needs the kernel's IP_VS, which machines that tests run on often lack. TestIPVS holds ours
// to the real proxier in process.
func TestKubeProxy(t *testing.T) {
	t.Parallel()
	netns.Need(t, "ip", "nsenter", "iptables-save", "ip6tables-save", "iptables-restore", "ip6tables-restore", "nft")
	source := specimen.New(t)
	cluster := newCluster(t)
	tally := Tally{features: slices.DeleteFunc(features(), func(f feature) bool {
		return f.name == "node without an address" || f.name == "no counters" // admitted takes them away
	})}
	rounds := min(specimen.Rounds(10), 300)
	for range rounds {
		c := admitted(Draw(source.Uint64(), Normal()))
		t.Run(strconv.FormatUint(c.Seed, 10), func(t *testing.T) {
			cluster.write(t, c)
			tally.Add(cluster.world(t, c))
			for _, m := range []realMode{{"iptables", xtablesDifference}, {"nftables", tablesDifference}} {
				t.Run(m.name, func(t *testing.T) {
					t.Parallel()
					m.hold(t, cluster, c)
				})
			}
		})
		if t.Failed() {
			return
		}
	}
	tally.Check(t, rounds/15) // of a few cases it is but told
}

// realMode is a mode of kube-proxy. difference loads our rules into an empty namespace and compares it with kube-proxy's.
type realMode struct {
	name       string
	difference func(t testing.TB, theirs, ours *netns.Namespace, w *rules.World) string
}

// hold runs kube-proxy until it has written all of its rules, and compares them with ours.
func (m realMode) hold(t *testing.T, cluster *cluster, c *Case) {
	w := cluster.world(t, c)
	w.Proxy = m.proxy(c)
	const attempts = 5
	for attempt := 1; ; attempt++ {
		p := startKubeProxy(t, cluster, c, m.name, w.Proxy)
		p.awaitSync(t)
		diff := ""
		for range 4 { // what a sync leaves behind is swept by one that comes a second later
			ours := netns.New(t)
			diff = m.difference(t, p.in, ours, w)
			ours.Close()
			if diff == "" {
				break
			}
			time.Sleep(time.Second)
		}
		p.stop()
		if diff == "" {
			return
		}
		missed := p.missed(t, c, diff)
		if missed == "" || attempt == attempts {
			t.Fatalf("%s, case %d (-kube-proxy +ours)\n%s\nkube-proxy's log: %s\n%s", m.name, c.Seed, describe(c), p.log(t), diff)
		}
		t.Logf("%s, case %d: kube-proxy missed %s when it started; it is started anew", m.name, c.Seed, missed)
	}
}

// proxy is how kube-proxy runs in this mode: as the case has it. Told of no addresses, the nftables mode takes the primary ones.
func (m realMode) proxy(c *Case) rules.Proxy {
	p := c.Proxy
	if m.name == "nftables" && len(p.NodePortAddresses) == 0 && !p.PrimaryNodePorts {
		if c.Seed%2 == 0 {
			p.PrimaryNodePorts = true
		} else {
			p.NodePortAddresses = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
		}
	}
	return p
}

// xtablesDifference compares what iptables-save and ip6tables-save list: once with what we say that they list, and once
// with what they list of the rules that we say are to be loaded, which have no counters.
func xtablesDifference(t testing.TB, theirs, ours *netns.Namespace, w *rules.World) string {
	diff := ""
	for _, f := range both() {
		set := rules.Install(kubeproxy.IPTables(w, f))
		want := saved(t, theirs, f)
		diff += gocmp.Diff(want, withoutOrder(strings.Split(strings.TrimSpace(text.Save(set, rules.XTables, f)), "\n")))
		ours.Run(t, text.Restore(set, rules.XTables, f), xtProgram(f, "restore"))
		diff += gocmp.Diff(withoutAccounting(want), saved(t, ours, f))
	}
	return diff
}

// saved is a listing without the lines that tell the time and the counts of packets.
func saved(t testing.TB, ns *netns.Namespace, f rules.Family) []string {
	var lines []string
	for line := range strings.Lines(ns.Run(t, "", xtProgram(f, "save"))) {
		if !strings.HasPrefix(line, "#") {
			lines = append(lines, packetCount.ReplaceAllString(strings.TrimSpace(line), "[0:0]"))
		}
	}
	return withoutOrder(lines)
}

var packetCount = regexp.MustCompile(`\[\d+:\d+\]$`)

func withoutAccounting(lines []string) []string {
	var out []string
	for _, line := range lines {
		out = append(out, accounting.ReplaceAllString(line, ""))
	}
	return out
}

var accounting = regexp.MustCompile(` -m nfacct --nfacct-name  \S+`)

func xtProgram(f rules.Family, verb string) string {
	if f == rules.IPv6 {
		return "ip6tables-" + verb
	}
	return "iptables-" + verb
}

// tablesDifference compares what nft lists of kube-proxy's tables.
func tablesDifference(t testing.TB, theirs, ours *netns.Namespace, w *rules.World) string {
	diff := ""
	for _, f := range both() {
		ours.Run(t, text.NFT(rules.Install(kubeproxy.NFTables(w, f))), "nft", "-f", "-")
		table := func(ns *netns.Namespace) []string {
			return listing(t, ns.Run(t, "", "nft", "-j", "list", "table", string(nftFamily(f)), "kube-proxy"))
		}
		diff += gocmp.Diff(table(theirs), table(ours))
	}
	return diff
}
