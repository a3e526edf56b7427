package inspect

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/cli"
	"github.com/portcullis-k8s/portcullis/pkg/audit"
	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/explain"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/report"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
	"github.com/portcullis-k8s/portcullis/pkg/rules/walk"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
)

// TestExplainedAsWalked holds what findings say of who gets the packets to a walk through all rules of the nodes, as trace does it, in
// random clusters: wherever exactly two claim a number, the same ones get the packets of each class, whichever of the two is the object
// and which the holder; where nothing is said of a conflict, nobody gets any, or nothing serves one of the two.
func TestExplainedAsWalked(t *testing.T) {
	r := seed.Rand(t)
	told, seen := 0, map[string]int{}
	for range seed.Rounds(800, 20000) {
		c := drawCluster(r, true)
		objects := c.bare(t)
		proxy, mapper := []string{"iptables", "nftables", "ipvs", "none"}[r.IntN(4)], []string{"portmap-iptables", "portmap-nftables", "none"}[r.IntN(3)]
		settings := settingsWith(t, fmt.Sprintf("dataplane: {serviceProxy: %s, hostPort: %s, localhostNodePorts: %t}\n", proxy, mapper, r.IntN(2) == 0))
		findings, err := audit.Everything(settings, objects, time.Unix(1e9, 0), nil)
		if err != nil {
			t.Fatal(err)
		}
		w := newWalked(settings, objects)
		for _, f := range findings {
			if f.Code != check.Held || !w.isBetween(f) {
				continue
			}
			where := fmt.Sprintf("%s %s\n%s\n%s", proxy, mapper, report.Sentence(f), strings.Join(c.texts, "\n---\n"))
			swapped := f
			swapped.Object, swapped.Claim, swapped.Packets = f.Holder.Ref, f.Holder.Claim, nil
			swapped.Holder = &check.Holder{Ref: f.Object, Claim: f.Claim, Field: f.Field}
			if diff := cmp.Diff(fmt.Sprintf("%+v", f.Packets), fmt.Sprintf("%+v", w.explained(swapped))); diff != "" {
				t.Fatalf("of the holder it is said otherwise (-object +holder):\n%s\n%s", diff, where)
			}
			isServed := w.isServed(f.Claim.Kind) && w.isServed(f.Holder.Claim.Kind)
			switch {
			case f.Packets == nil && (!isServed || f.Claim.Protocol != f.Holder.Claim.Protocol || roleOf(f.Claim.Kind) == roleOf(f.Holder.Claim.Kind)):
				seen["not served"] += map[bool]int{true: 0, false: 1}[isServed]
				continue
			case !isServed:
				t.Fatalf("%+v is said of who never gets any packets\n%s", *f.Packets, where)
			case f.Claim.Scope.Kind == ports.Undecided || f.Holder.Claim.Scope.Kind == ports.Undecided: // a pod without a node has no packets to walk
				continue
			}
			want, dependent := w.winners(t, f)
			switch {
			case f.Packets == nil && !isNobodys(want):
				t.Fatalf("nothing is said, but %v\n%s", want, where)
			case f.Packets == nil:
				continue
			case f.Packets.Assumed:
				seen["assumed"]++
				continue
			}
			got := map[string]string{}
			for _, from := range explain.Froms() {
				who := map[string]bool{}
				for _, winner := range f.Packets.Winners {
					if strings.HasPrefix(winner.Of, string(from)) {
						who[winner.Who.Name] = true
					}
				}
				got[string(from)] = strings.Join(slices.Sorted(maps.Keys(who)), ",")
				if f.Nodes == nil && strings.Contains(want[string(from)]+","+got[string(from)], ",") && containsAll(who, want[string(from)]) {
					got[string(from)] = want[string(from)] // on nodes with an endpoint and without one, of which there may be none
				}
			}
			if diff := cmp.Diff(want, got); diff != "" || dependent != f.Packets.OrderDependent {
				t.Fatalf("depends on the order: %t\n(-walked +said):\n%s\n%s", dependent, diff, where)
			}
			told++
			one, single := onlyAddress(f)
			if single != f.Packets.At.IsValid() || one != f.Packets.At {
				t.Fatalf("it is said of %s, want %s\n%s", f.Packets.At, one, where)
			}
			for what, is := range map[string]bool{
				"Local": w.isLocal(f.Object) || w.isLocal(f.Holder.Ref), "order": dependent, "one address": single, "without endpoints": f.Packets.Without,
			} {
				seen[what] += map[bool]int{true: 1}[is]
			}
			for _, kind := range []ports.Kind{f.Claim.Kind, f.Holder.Claim.Kind} {
				seen[kind.String()]++
				if single {
					seen[kind.String()+" at one address"]++
				}
			}
		}
	}
	t.Logf("%d conflicts are explained as they are walked: %v", told, seen)
	for _, what := range []string{
		"assumed", "Local", "order", "not served", "without endpoints", "nodePort", "healthCheckNodePort", "hostPort at one address",
		"hostNetwork port at one address", "external IP port at one address",
	} {
		if told < seed.Rounds(50, 1000) || seen[what] == 0 {
			t.Errorf("the clusters are too quiet to prove anything: %s", what)
		}
	}
}

// role is how somebody gets packets: by a Service's rules, by those of a mapper of host ports, or by listening on the node.
type role string

func roleOf(kind ports.Kind) role {
	switch kind {
	case ports.HostNetwork, ports.HealthCheckNodePort:
		return "listener"
	case ports.HostPort:
		return "host port"
	case ports.NodePort, ports.ExternalIP, ports.LoadBalancerIP, ports.ServiceLBPort:
		return "Service"
	}
	panic(kind)
}

// onlyAddress is the one that two share, if one of them has no other.
func onlyAddress(f check.Finding) (netip.Addr, bool) {
	if one, single := f.Claim.Address.Single(); single {
		return one, true
	}
	if one, single := f.Holder.Claim.Address.Single(); single {
		return one, true
	}
	return netip.Addr{}, false
}

// containsAll reports whether all of some names, written with commas, are in a set.
func containsAll(set map[string]bool, names string) bool {
	return !slices.ContainsFunc(strings.Split(names, ","), func(name string) bool { return !set[name] })
}

func isNobodys(winners map[string]string) bool {
	return !slices.ContainsFunc(slices.Collect(maps.Values(winners)), func(who string) bool { return who != "" })
}

// walked is a cluster whose packets are walked.
type walked struct {
	settings *extract.Settings
	objects  []runtime.Object
	claims   []ports.Claim
	nodes    []*corev1.Node
}

func newWalked(settings *extract.Settings, objects []runtime.Object) *walked {
	w := &walked{settings: settings, objects: objects}
	for _, object := range objects {
		switch o := object.(type) {
		case *corev1.Node:
			w.nodes = append(w.nodes, o)
		case *corev1.Service:
			w.claims = append(w.claims, extract.Service(o, settings.NodePorts).Claims...)
		case *corev1.Pod:
			w.claims = append(w.claims, extract.Pod(o, nil, nil).Claims...)
		}
	}
	return w
}

// isLocal reports whether an object is a Service with a policy that tells nodes apart.
func (w *walked) isLocal(ref ports.Ref) bool {
	return slices.ContainsFunc(w.objects, func(object runtime.Object) bool {
		svc, ok := object.(*corev1.Service)
		return ok && svc.Name == ref.Name && ref.Kind == "Service" && svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
	})
}

// isBetween reports whether nobody else claims the number that two meet at, on any node, and neither of them by another field.
func (w *walked) isBetween(f check.Finding) bool {
	return !slices.ContainsFunc(w.claims, func(c ports.Claim) bool {
		return c.Port == f.Claim.Port && c.Protocol == f.Claim.Protocol &&
			(c.Owner.Ref != f.Object || c.Kind != f.Claim.Kind) && (c.Owner.Ref != f.Holder.Ref || c.Kind != f.Holder.Claim.Kind)
	})
}

// explained is what the data plane has to say of a conflict.
func (w *walked) explained(f check.Finding) *check.Packets {
	plane := explain.PlaneOf(w.settings.ServiceProxy, w.settings.HostPorts, !w.settings.NodePorts.IPv4Loopback)
	plane.Services = extract.NewServices(w.objects).Service
	findings := []check.Finding{f}
	plane.Explain(findings, extract.ClusterFamilies(w.nodes, nil))
	return findings[0].Packets
}

// isServed reports whether something takes packets to those who claim a port so.
func (w *walked) isServed(kind ports.Kind) bool {
	switch kind {
	case ports.HostNetwork:
		return true
	case ports.HostPort:
		return w.settings.HostPorts != "none"
	case ports.NodePort, ports.HealthCheckNodePort, ports.ExternalIP, ports.LoadBalancerIP, ports.ServiceLBPort:
		return w.settings.ServiceProxy != "none"
	}
	panic(kind)
}

// listener is who listens on a node where two meet, at an address: a pod of the host network, or kube-proxy for a Service; "" for none.
func (w *walked) listener(f check.Finding, node *corev1.Node, at netip.Addr) string {
	for _, c := range w.claims {
		here := c.Scope.Kind == ports.Everywhere || slices.Contains(c.Scope.Nodes(), node.Name)
		if roleOf(c.Kind) == "listener" && c.Port == f.Claim.Port && c.Protocol == f.Claim.Protocol && here && c.Address.Contains(at) {
			return c.Owner.Name
		}
	}
	return ""
}

// isAsked reports whether packets that come by an address of a node, and go to one, are a matter of two: where both have an address of
// their own, the packets to it; else those to all of the node's addresses.
func isAsked(f check.Finding, node *corev1.Node, by, to netip.Addr) bool {
	mine, holders := f.Claim.Address, f.Holder.Claim.Address
	if !mine.Contains(by) || !holders.Contains(by) {
		return false
	}
	addresses := extract.NodeAddresses(node)
	primary := addresses[slices.IndexFunc(addresses, func(a netip.Addr) bool { return a.Is4() == by.Is4() })]
	if (mine.IsPrimaryOnly() || holders.IsPrimaryOnly()) && by != primary {
		return false
	}
	if _, single := onlyAddress(f); single {
		return by == to
	}
	return mine.Contains(to) || holders.Contains(to)
}

// winners walks the packets of every class on the nodes where two meet, in both orders of starts. It returns the names of those
// who get them, and whether that depends on the order.
func (w *walked) winners(t *testing.T, f check.Finding) (map[string]string, bool) {
	t.Helper()
	found, dependent := map[string]map[string]bool{}, false
	plane := explain.PlaneOf(w.settings.ServiceProxy, w.settings.HostPorts, !w.settings.NodePorts.IPv4Loopback)
	for _, node := range w.nodes {
		if f.Nodes != nil && !slices.Contains(f.Nodes, node.Name) {
			continue
		}
		world, err := extract.World(w.objects, extract.WorldOptions{
			Node: node.Name, Portmap: rules.Portmap{MarkBit: cli.PortmapMarkBit},
			Proxy: rules.Proxy{LocalhostNodePorts: w.settings.NodePorts.IPv4Loopback, PrimaryNodePorts: w.settings.NodePorts.Primary, Detector: rules.Detector{CIDRs: extract.PodNetworks(node)}},
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, to := range extract.NodeAddresses(node) {
			for _, from := range explain.Froms() {
				packet, ok := explain.PacketOf(world, from, netip.AddrPortFrom(to, f.Claim.Port))
				if !ok || !isAsked(f, node, to, packet.Dst.Addr()) {
					continue
				}
				packet.Protocol = f.Claim.Protocol
				var orders []string
				for _, order := range explain.Orders() {
					plane.Started = order
					path := plane.Trace(world, explain.Host(world), packet).Paths[0]
					who := path.Origin.Owner.Name
					switch {
					case path.Verdict == walk.Reject || path.Verdict == walk.Drop:
						who = ""
					case path.Local:
						who = w.listener(f, node, packet.Dst.Addr())
					}
					orders = append(orders, who)
				}
				dependent = dependent || orders[0] != orders[1]
				if found[string(from)] == nil {
					found[string(from)] = map[string]bool{}
				}
				found[string(from)][orders[0]] = true
			}
		}
	}
	all := map[string]string{}
	for _, from := range explain.Froms() {
		all[string(from)] = strings.Join(slices.Sorted(maps.Keys(found[string(from)])), ",")
	}
	return all, dependent
}
