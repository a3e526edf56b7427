//go:build linux

package dataplane

import (
	"bytes"
	"context"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	sysctltesting "k8s.io/component-helpers/node/util/sysctl/testing"
	proxyconfig "k8s.io/kubernetes/pkg/proxy/apis/config"
	"k8s.io/kubernetes/pkg/proxy/conntrack"
	"k8s.io/kubernetes/pkg/proxy/healthcheck"
	"k8s.io/kubernetes/pkg/proxy/iptables"
	proxyutil "k8s.io/kubernetes/pkg/proxy/util"
	"k8s.io/kubernetes/pkg/proxy/util/nfacct"
	utiliptables "k8s.io/kubernetes/pkg/util/iptables"
	iptablestesting "k8s.io/kubernetes/pkg/util/iptables/testing"

	"github.com/portcullis-k8s/portcullis/pkg/rules"
	"github.com/portcullis-k8s/portcullis/pkg/rules/kubeproxy"
	"github.com/portcullis-k8s/portcullis/pkg/rules/text"
)

// TestIPTables holds our rendering to what the real proxier of the iptables mode leaves in a fake kernel.
func TestIPTables(t *testing.T) {
	t.Parallel()
	lines := 0
	differential(t, func(c *Case, f rules.Family) string {
		diff, n := iptablesDifference(t, c, f)
		lines += n
		return diff
	})
	t.Logf("%d lines compared", lines)
}

// FuzzIPTables does so for any seed.
func FuzzIPTables(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed, uint8(seed))
	}
	f.Fuzz(func(t *testing.T, seed uint64, services uint8) {
		compare(t, Draw(seed, Size{Services: 1 + int(services%12)}), func(c *Case, f rules.Family) string {
			diff, _ := iptablesDifference(t, c, f)
			return diff
		})
	})
}

func iptablesDifference(tb testing.TB, c *Case, f rules.Family) (diff string, lines int) {
	tb.Helper()
	theirs, err := savedForm(realIPTables(tb, c, f), f)
	if err != nil {
		return err.Error(), 0
	}
	ours := strings.Split(strings.TrimSpace(text.Save(rules.Install(kubeproxy.IPTables(c.World(), f)), rules.XTables, f)), "\n")
	return gocmp.Diff(withoutOrder(theirs), withoutOrder(ours)), len(theirs)
}

// realIPTables gives a case to the real proxier and returns what the fake kernel holds then.
func realIPTables(tb testing.TB, c *Case, f rules.Family) string {
	tb.Helper()
	kernel := &xtKernel{FakeIPTables: iptablestesting.NewFake(), canaries: make(chan canaries, 1)}
	if f == rules.IPv6 {
		kernel.FakeIPTables = iptablestesting.NewIPv6Fake()
	}
	p := newRealIPTables(tb, c, f, kernel)
	deliver(c, p)
	p.OnServiceSynced()
	p.OnEndpointSlicesSynced()
	canary := <-kernel.canaries
	for _, table := range canary.in {
		if _, err := kernel.EnsureChain(table, canary.name); err != nil {
			tb.Fatal(err)
		}
	}
	if kernel.refused != nil {
		tb.Fatalf("case %d: the fake kernel refused: %v", c.Seed, kernel.refused)
	}
	var saved bytes.Buffer
	if err := kernel.SaveInto("", &saved); err != nil {
		tb.Fatal(err)
	}
	return saved.String()
}

func newRealIPTables(tb testing.TB, c *Case, f rules.Family, kernel utiliptables.Interface) *iptables.Proxier {
	tb.Helper()
	config := &proxyconfig.KubeProxyConfiguration{NodePortAddresses: c.nodePortAddresses()}
	config.Linux.MasqueradeAll = c.Proxy.MasqueradeAll
	config.IPTables.LocalhostNodePorts = new(c.Proxy.LocalhostNodePorts)
	config.IPTables.MasqueradeBit = new(int32(c.Proxy.MasqueradeBit))
	config.SyncPeriod.Duration = 30 * time.Second
	sysctl := sysctltesting.NewFake()
	if c.Proxy.LiberalConntrack {
		sysctl.Settings["net/netfilter/nf_conntrack_tcp_be_liberal"] = 1
	}
	p, err := iptables.NewProxier(context.Background(), config, corev1.IPFamily(f.String()), kernel, sysctl, c.detector(f), c.Node.Name, c.nodeIP(f), nil, nil, false)
	if err != nil {
		tb.Fatal(err)
	}
	var counters nfacct.Interface
	if c.Proxy.Counters {
		counters = anyCounter{}
	}
	put(p, "nfacct", counters)
	put[proxyutil.NetworkInterfacer](p, "networkInterfacer", c)
	put(p, "conntrack", conntrack.NewFake())
	put(p, "serviceHealthServer", healthcheck.NewFakeServiceHealthServer()) // the real one listens
	return p
}

// anyCounter is a kernel that has every counter.
type anyCounter struct{ nfacct.Interface }

func (anyCounter) Ensure(string) error { return nil }

// xtKernel is upstream's fake of iptables, with arguments quoted as a listing has them, and with the canaries that the
// proxier's watch puts out, whose coming it tells.
type xtKernel struct {
	*iptablestesting.FakeIPTables
	canaries chan canaries
	refused  error
}

type canaries struct {
	name utiliptables.Chain
	in   []utiliptables.Table
}

func (k *xtKernel) Monitor(canary utiliptables.Chain, tables []utiliptables.Table, _ func(), _ time.Duration, _ <-chan struct{}) {
	k.canaries <- canaries{canary, tables}
}

func (k *xtKernel) EnsureRule(position utiliptables.RulePosition, table utiliptables.Table, chain utiliptables.Chain, args ...string) (bool, error) {
	quoted := slices.Clone(args)
	for i, a := range quoted {
		if strings.Contains(a, " ") {
			quoted[i] = strconv.Quote(a)
		}
	}
	return k.FakeIPTables.EnsureRule(position, table, chain, quoted...)
}

func (k *xtKernel) RestoreAll(data []byte, flush utiliptables.FlushFlag, counters utiliptables.RestoreCountersFlag) error {
	k.refused = k.FakeIPTables.RestoreAll(data, flush, counters)
	return k.refused
}
