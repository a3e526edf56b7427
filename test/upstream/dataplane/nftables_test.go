//go:build linux

package dataplane

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubeproxyconfig "k8s.io/kubernetes/pkg/proxy/apis/config"
	"k8s.io/kubernetes/pkg/proxy/conntrack"
	"k8s.io/kubernetes/pkg/proxy/healthcheck"
	"k8s.io/kubernetes/pkg/proxy/nftables"
	proxyutil "k8s.io/kubernetes/pkg/proxy/util"
	"sigs.k8s.io/knftables"

	"github.com/portcullis-k8s/portcullis/pkg/extract/specimen"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
	"github.com/portcullis-k8s/portcullis/pkg/rules/kubeproxy"
	"github.com/portcullis-k8s/portcullis/pkg/rules/text"
	"github.com/portcullis-k8s/portcullis/test/lab/netns"
)

// TestNFTables holds our table to the one that the real proxier writes. Ours is read back by knftables from the script
// that our printer makes, so that the printer is held to it too.
func TestNFTables(t *testing.T) {
	pretendNFT(t)
	lines := 0
	differential(t, func(c *Case, f rules.Family) string {
		diff, n := nftDifference(t, c, f)
		lines += n
		return diff
	})
	t.Logf("%d lines compared", lines)
}

// TestNFTablesInTheKernel loads our script into an empty namespace and the real proxier's table into another, and compares
// what nft lists there: no reader of text stands between them.
func TestNFTablesInTheKernel(t *testing.T) {
	netns.Need(t, "nft", "ip")
	program, err := exec.LookPath("nft")
	if err != nil {
		t.Fatal(err)
	}
	pretendNFT(t)
	source := specimen.New(t)
	listed := func(script string) []string {
		ns := netns.New(t)
		defer ns.Close()
		ns.Run(t, script, program, "-f", "-")
		return listing(t, ns.Run(t, "", program, "-j", "list", "ruleset"))
	}
	for range specimen.Rounds(10) {
		c := Draw(source.Uint64(), Size{Services: 8})
		for _, f := range both() {
			ours := text.NFT(rules.Install(kubeproxy.NFTables(c.World(), f)))
			if diff := gocmp.Diff(listed(realNFT(t, c, f).Dump()), listed(ours)); diff != "" {
				t.Fatalf("%v, case %d (-kube-proxy +ours)\n%s\n%s", f, c.Seed, describe(c), diff)
			}
		}
	}
}

// listing brings what nft lists into one form: a line for each object, without its handle. Rules keep their order.
func listing(tb testing.TB, text string) []string {
	tb.Helper()
	var list struct {
		Nftables []map[string]map[string]any `json:"nftables"`
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		tb.Fatal(err)
	}
	line := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			tb.Fatal(err)
		}
		return string(b)
	}
	var chains, others []string
	for _, object := range list.Nftables {
		for kind, o := range object {
			delete(o, "handle")
			if elements, ok := o["elem"].([]any); ok {
				slices.SortFunc(elements, func(a, b any) int { return strings.Compare(line(a), line(b)) })
			}
			switch kind {
			case "metainfo":
			case "rule":
				chains = append(chains, fmt.Sprint(o["chain"], " ", line(o)))
			default:
				others = append(others, kind+" "+line(o))
			}
		}
	}
	slices.Sort(others)
	slices.SortStableFunc(chains, func(a, b string) int {
		chainA, _, _ := strings.Cut(a, " ")
		chainB, _, _ := strings.Cut(b, " ")
		return strings.Compare(chainA, chainB)
	})
	return append(others, chains...)
}

// TestNFTablesNames holds names and comments that are too long to the real proxier, which cuts them.
func TestNFTablesNames(t *testing.T) {
	pretendNFT(t)
	long := strings.Repeat("n", 63)
	for _, addr := range []string{"10.244.1.2", "fd00:1234:5678:9abc:def0:1234:5678:9abc"} {
		c := Draw(1, Size{Services: 1})
		f := rules.FamilyOf(netip.MustParseAddr(addr))
		ip := map[rules.Family]string{rules.IPv4: "10.96.0.1", rules.IPv6: "fd00:10:96::1"}[f]
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: long, Name: long}}
		svc.Spec = corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: ip, ClusterIPs: []string{ip}, IPFamilies: []corev1.IPFamily{corev1.IPFamily(f.String())},
			Ports:                 []corev1.ServicePort{{Name: long, Protocol: corev1.ProtocolSCTP, Port: 80}, {Name: "dead", Protocol: corev1.ProtocolTCP, Port: 81}},
			SessionAffinity:       corev1.ServiceAffinityClientIP,
			SessionAffinityConfig: &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: new(int32(10))}},
		}
		c.Services = []*corev1.Service{svc}
		c.Slices = []*discoveryv1.EndpointSlice{{
			ObjectMeta:  metav1.ObjectMeta{Namespace: long, Name: "a", Labels: map[string]string{discoveryv1.LabelServiceName: long}},
			AddressType: discoveryv1.AddressType(f.String()),
			Ports:       []discoveryv1.EndpointPort{{Name: new(long), Protocol: new(corev1.ProtocolSCTP), Port: new(int32(65535))}},
			Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{addr}}},
		}}
		script := text.NFT(rules.Install(kubeproxy.NFTables(c.World(), f)))
		if !strings.Contains(script, (long + "/" + long + ":dead")[:128]+`" :`) || f == rules.IPv6 && !strings.Contains(script, "... {") {
			t.Errorf("nothing was cut:\n%s", script)
		}
		compare(t, c, func(c *Case, f rules.Family) string {
			diff, _ := nftDifference(t, c, f)
			return diff
		})
	}
}

// TestNFTablesOfOneAddressTwice: a Service may claim its own cluster IP as an external one, and an external IP as that of
// its load balancer. What is said last counts.
func TestNFTablesOfOneAddressTwice(t *testing.T) {
	pretendNFT(t)
	for seed, twice := uint64(0), 0; twice < 20; seed++ {
		c := Draw(seed, Size{Services: 6})
		for _, svc := range c.Services {
			if svc.Spec.ClusterIP == "" || svc.Spec.ClusterIP == corev1.ClusterIPNone || len(svc.Status.LoadBalancer.Ingress) == 0 {
				continue
			}
			twice++
			svc.Spec.ExternalIPs = append(svc.Spec.ExternalIPs, svc.Spec.ClusterIP)
			svc.Status.LoadBalancer.Ingress = append(svc.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: svc.Spec.ExternalIPs[0]})
		}
		compare(t, c, func(c *Case, f rules.Family) string {
			diff, _ := nftDifference(t, c, f)
			return diff
		})
	}
}

// FuzzNFTables compares the cases of any seed.
func FuzzNFTables(f *testing.F) {
	pretendNFT(f)
	for seed := range uint64(20) {
		f.Add(seed, uint8(seed))
	}
	f.Fuzz(func(t *testing.T, seed uint64, services uint8) {
		compare(t, Draw(seed, Size{Services: 1 + int(services%12)}), func(c *Case, f rules.Family) string {
			diff, _ := nftDifference(t, c, f)
			return diff
		})
	})
}

func nftDifference(tb testing.TB, c *Case, f rules.Family) (diff string, lines int) {
	tb.Helper()
	ours, err := ourNFT(c, f)
	if err != nil {
		return err.Error(), 0
	}
	want, got := nftLines(realNFT(tb, c, f).Dump()), nftLines(ours.Dump())
	return gocmp.Diff(want, got), len(want)
}

// ourNFT reads our script back. That something is referred to that is not there is an error.
func ourNFT(c *Case, f rules.Family) (*knftables.Fake, error) {
	fake := knftables.NewFake(nftFamily(f), "kube-proxy")
	script := text.NFT(rules.Install(kubeproxy.NFTables(c.World(), f)))
	if err := fake.ParseDump(interfaceName.ReplaceAllString(script, `iifname $1$2`)); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, script)
	}
	return fake, nil
}

// interfaceName is how we write one: kube-proxy does not quote them, and ParseDump takes quotes for a comment.
var interfaceName = regexp.MustCompile(`iifname (!= )?"([^"]*)"`)

// nftLines brings a dump into one form: elements sorted, as Services have no order, and sets within rules written alike.
func nftLines(dump string) []string {
	lines := strings.Split(strings.TrimSpace(dump), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "add rule ") {
			lines[i] = inlineSet.ReplaceAllStringFunc(line, sameSet)
		}
	}
	elements := slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, "add element ") })
	if elements >= 0 {
		slices.Sort(lines[elements:])
	}
	return lines
}

var inlineSet = regexp.MustCompile(`addr (!= )?(\{[^{}]*\} |[0-9.]+(/[0-9]+)? |[0-9a-f:]+(/[0-9]+)? )`)

// sameSet writes the addresses that a rule compares with as a sorted list of prefixes.
func sameSet(match string) string {
	head, list, _ := strings.Cut(strings.TrimSuffix(match, " "), " ")
	if rest, ok := strings.CutPrefix(list, "!= "); ok {
		head, list = head+" !=", rest
	}
	var all []string
	for s := range strings.SplitSeq(strings.Trim(list, "{} "), ",") {
		s = strings.TrimSpace(s)
		if a, err := netip.ParseAddr(s); err == nil {
			s = netip.PrefixFrom(a, a.BitLen()).String()
		}
		all = append(all, s)
	}
	slices.Sort(all)
	return head + " {" + strings.Join(all, ",") + "} "
}

func nftFamily(f rules.Family) knftables.Family {
	if f == rules.IPv4 {
		return knftables.IPv4Family
	}
	return knftables.IPv6Family
}

// realNFT gives a case to the real proxier and returns what it wrote.
func realNFT(tb testing.TB, c *Case, f rules.Family) *knftables.Fake {
	tb.Helper()
	p, fake := newRealNFT(tb, c, f)
	deliver(c, p)
	p.OnServiceSynced()
	p.OnEndpointSlicesSynced()
	if fake.Table == nil {
		tb.Fatalf("case %d, %s: the real proxier failed", c.Seed, f)
	}
	return fake
}

func newRealNFT(tb testing.TB, c *Case, f rules.Family) (*nftables.Proxier, *knftables.Fake) {
	tb.Helper()
	bit := int32(c.Proxy.MasqueradeBit)
	config := &kubeproxyconfig.KubeProxyConfiguration{
		NodePortAddresses: c.nodePortAddresses(),
		Linux:             kubeproxyconfig.KubeProxyLinuxConfiguration{MasqueradeAll: c.Proxy.MasqueradeAll},
		NFTables:          kubeproxyconfig.KubeProxyNFTablesConfiguration{MasqueradeBit: &bit},
	}
	family := corev1.IPFamily(f.String())
	p, err := nftables.NewProxier(context.Background(), config, family, c.detector(f), c.Node.Name, c.nodeIP(f), nil, nil, false)
	if err != nil {
		tb.Fatal(err)
	}
	fake := knftables.NewFake(nftFamily(f), "kube-proxy")
	put[knftables.Interface](p, "nftables", fake)
	put[proxyutil.NetworkInterfacer](p, "networkInterfacer", c)
	put(p, "conntrack", conntrack.NewFake())
	put(p, "serviceHealthServer", healthcheck.NewFakeServiceHealthServer()) // the real one listens
	return p, fake
}

// BenchmarkNFTables does what BenchmarkIPTables does, for the table of this mode.
func BenchmarkNFTables(b *testing.B) {
	pretendNFT(b)
	for _, services := range []int{1000, 10000} {
		b.Run(fmt.Sprintf("%dx5", services), func(b *testing.B) {
			c := crowd(services, 5)
			w := c.World()
			var rulesCost, textCost ratio
			for b.Loop() {
				p, fake := newRealNFT(b, c, rules.IPv4)
				put[knftables.Interface](p, "nftables", noTable{fake})
				told := measure(func() { deliver(c, p); p.OnServiceSynced() })
				synced := measure(p.OnEndpointSlicesSynced)
				rulesCost.add(measure(func() { kubeproxy.NFTables(w, rules.IPv4) }), synced)
				ours := func() string { return text.NFT(rules.Install(kubeproxy.NFTables(c.World(), rules.IPv4))) }
				textCost.add(measure(func() { ours() }), told.plus(synced))
			}
			rulesCost.report(b, "rules")
			textCost.report(b, "text")
		})
	}
}

// noTable writes every transaction as nft would be given it, and keeps nothing.
type noTable struct{ knftables.Interface }

func (noTable) Run(_ context.Context, tx *knftables.Transaction) error {
	_ = tx.String()
	return nil
}

// pretendNFT puts a program in the place of nft: the proxier asks for its version when it is made.
func pretendNFT(tb testing.TB) {
	tb.Helper()
	dir := tb.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "nft"), []byte("#!/bin/sh\necho nftables v1.1.0\n"), 0o755); err != nil {
		tb.Fatal(err)
	}
	tb.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	tb.Setenv("KUBE_PROXY_NFTABLES_SKIP_KERNEL_VERSION_CHECK", "yes")
}
