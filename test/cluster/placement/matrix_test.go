package placement

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/nodeports"

	"github.com/portcullis-k8s/portcullis/pkg/extract/specimen"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
)

// claim is a host port but for its number.
type claim struct {
	hostIP      string
	protocol    corev1.Protocol
	hostNetwork bool
}

func (c claim) String() string {
	network := ""
	if c.hostNetwork {
		network = " on the host network"
	}
	return fmt.Sprintf("%q/%s%s", c.hostIP, c.protocol, network)
}

func (c claim) port(number int32) corev1.ContainerPort {
	return corev1.ContainerPort{HostIP: c.hostIP, HostPort: number, ContainerPort: number, Protocol: c.protocol}
}

func claims(protocols ...corev1.Protocol) []claim {
	var all []claim
	for _, hostIP := range []string{
		"", "0.0.0.0", "::ffff:0.0.0.0", "::", "0:0:0:0:0:0:0:0", "127.0.0.1", "::ffff:127.0.0.1", "::ffff:7f00:1", "::1", "0:0::1",
		"10.0.0.1", "::ffff:10.0.0.1", "10.0.0.2", "fd00::1", "FD00::1", "fd00:0::1",
	} {
		for _, protocol := range protocols {
			all = append(all, claim{hostIP, protocol, false}, claim{hostIP, protocol, true})
		}
	}
	return all
}

// addresses is what a claim holds, of a world in which each address stands for those of which we need to know no more.
func (c claim) addresses() map[string]bool {
	held := map[string]bool{}
	for _, text := range []string{"10.0.0.1", "10.0.0.2", "127.0.0.1", "192.0.2.9", "::1", "fd00::1", "2001:db8::9"} {
		a := netip.MustParseAddr(text)
		if c.hostIP == "" {
			held[text] = true
			continue
		}
		ip := netip.MustParseAddr(c.hostIP).Unmap()
		dual := c.hostNetwork && ip == netip.IPv6Unspecified() // a process that binds :: gets both families
		if dual || ip == a || ip.IsUnspecified() && ip.Is4() == a.Is4() {
			held[text] = true
		}
	}
	return held
}

// meets is our judgement: the two have an address in common.
func (c claim) meets(other claim) bool {
	theirs := other.addresses()
	for a := range c.addresses() {
		if theirs[a] {
			return c.protocol == other.protocol
		}
	}
	return false
}

// looksAlike is kube-scheduler's judgement: the two have the same text, or one of them is 0.0.0.0.
func (c claim) looksAlike(other claim) bool {
	wild := func(c claim) bool { return c.hostIP == "" || c.hostIP == "0.0.0.0" }
	return c.protocol == other.protocol && (wild(c) || wild(other) || c.hostIP == other.hostIP)
}

// difference names the reason for which the two judge a pair differently; empty if they do not.
func difference(a, b claim) string {
	switch ours, theirs := a.meets(b), a.looksAlike(b); {
	case ours == theirs:
		return ""
	case theirs:
		return "upstream takes 0.0.0.0 for both families"
	case netip.MustParseAddr(a.hostIP).Unmap() == netip.MustParseAddr(b.hostIP).Unmap():
		return "upstream compares addresses as text"
	default:
		return "upstream knows no wildcard but 0.0.0.0, as which it is written"
	}
}

// trial is a pod that wants what another holds on a node.
type trial struct {
	held, wanted claim
	node, holder string
	scheduler    string
	number       int32
	pod          string
}

// atOnce is about how many pods are tried together.
const atOnce = 600

// isRefused is what the scheduler should say.
func (a trial) isRefused() bool {
	switch a.scheduler {
	case alone:
		return a.held.meets(a.wanted)
	case upstream:
		return a.held.looksAlike(a.wanted)
	default:
		return a.held.meets(a.wanted) || a.held.looksAlike(a.wanted)
	}
}

// testMatrix puts a holder of each kind on a node of its own, and beside it a pod for each kind of claim by each scheduler.
// Each pod has a number of its own, which the holder holds as well, so that they do not hinder each other.
func (c *cluster) testMatrix(t *testing.T) {
	held, wanted := claims(corev1.ProtocolTCP), claims(corev1.ProtocolTCP)
	schedulers := []string{alone, upstream}
	soak := seed.Soaking()
	if soak {
		held = claims(corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)
		wanted, schedulers = held, append(schedulers, both)
	}
	source := specimen.New(t)
	s := c.newSite(t, "")
	nodes := map[claim]string{} // of the holders
	for i, node := range s.addPlainNodes(t, len(held)) {
		nodes[held[i]] = node
	}
	f := s.follow(t)
	seen := map[string]int{}
	pairs, refused := 0, 0
	for some := range slices.Chunk(held, atOnce/len(wanted)/len(schedulers)) {
		var trials []trial
		for _, h := range some {
			list := wanted
			if !soak { // each of the other protocols once
				udp, sctp := claims(corev1.ProtocolUDP), claims(corev1.ProtocolSCTP)
				list = slices.Concat(list, []claim{udp[source.IntN(len(udp))], sctp[source.IntN(len(sctp))]})
			}
			for j, w := range list {
				pairs++
				if h.meets(w) {
					refused++
				}
				if d := difference(h, w); d != "" {
					seen[d]++
				}
				for k, scheduler := range schedulers {
					number := int32(20000 + j*len(schedulers) + k)
					trials = append(trials, trial{h, w, nodes[h], "on-" + nodes[h], scheduler, number, fmt.Sprint(nodes[h], "-", number)})
				}
			}
		}
		s.try(t, f, trials)
	}
	if len(seen) != 3 || refused == 0 || refused == pairs {
		t.Errorf("%d pairs, %d of them refused, with the differences %v: want all three, and both outcomes", pairs, refused, seen)
	}
	t.Logf("%d pairs through %v; PortClaims refuses %d; it differs from upstream: %v", pairs, schedulers, refused, seen)
}

// try puts up the holders, then the pods, compares what the schedulers say, and clears up.
func (s *site) try(t *testing.T, f *follower, trials []trial) {
	t.Helper()
	holders := map[string]*corev1.Pod{}
	for _, a := range trials {
		if holders[a.node] == nil {
			holders[a.node] = on(a.node, s.pod(a.holder))
			holders[a.node].Spec.HostNetwork = a.held.hostNetwork
		}
		main := &holders[a.node].Spec.Containers[0]
		main.Ports = append(main.Ports, a.held.port(a.number))
	}
	for _, pod := range holders {
		s.create(t, pod)
	}
	names := make([]string, len(trials))
	err := each(t.Context(), len(trials), func(ctx context.Context, i int) error {
		a := trials[i]
		names[i] = a.pod
		pod := s.pod(a.pod, a.wanted.port(a.number))
		pod.Spec.HostNetwork, pod.Spec.SchedulerName, pod.Spec.Affinity = a.wanted.hostNetwork, a.scheduler, onlyOn(a.node)
		return s.Create(ctx, pod)
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, pod := range f.await(t, names, isDecided) {
		a, got := trials[i], verdict(pod)
		if is := got.node == ""; is != a.isRefused() {
			t.Errorf("held %v, wanted %v: refused by %s: %v, want %v", a.held, a.wanted, a.scheduler, is, a.isRefused())
		}
		byUs := strings.Contains(got.message, "Pod "+s.namespace+"/"+a.holder)
		byUpstream := strings.Contains(got.message, nodeports.ErrReason)
		if ours := a.scheduler != upstream && a.held.meets(a.wanted); got.node == "" && (byUs != ours || byUpstream == ours) {
			t.Errorf("held %v, wanted %v: %s says %q", a.held, a.wanted, a.scheduler, got.message)
		}
	}
	s.empty(t)
}

// onlyOn asks for one node in the way that spares the scheduler a look at the others.
func onlyOn(node string) *corev1.Affinity {
	return &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
		NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{
			{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{node}},
		}}},
	}}}
}
