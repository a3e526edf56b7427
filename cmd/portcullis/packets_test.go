package main

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

// TestExplainedAsWalked holds what findings and `ports` say of who gets the packets to a walk through all rules of the nodes, as
// trace does it, in random clusters: wherever exactly two claim a number, the same ones get the packets of each class; where
// nothing is said of a conflict, nobody gets any, or the endpoints are not known.
func TestExplainedAsWalked(t *testing.T) {
	r := seed.Rand(t)
	told, assumed, flips, local := 0, 0, 0, 0
	for range seed.Rounds(400, 10000) {
		c := drawCluster(r, true)
		objects := c.bare(t)
		proxy, mapper := []string{"iptables", "nftables", "ipvs"}[r.IntN(3)], []string{"portmap-iptables", "portmap-nftables", "none"}[r.IntN(3)]
		settings := settingsWith(t, fmt.Sprintf("dataplane: {serviceProxy: %s, hostPort: %s, localhostNodePorts: %t}\n", proxy, mapper, r.IntN(2) == 0))
		findings, err := audit.Everything(settings, objects, time.Unix(1e9, 0), nil)
		if err != nil {
			t.Fatal(err)
		}
		w := newWalked(settings, objects)
		for _, f := range findings {
			if f.Code != check.Held || f.Claim.Kind.InNodePortBook() == f.Holder.Claim.Kind.InNodePortBook() || f.Nodes == nil || !w.isBetween(f) { // a pod without a node has no packets to walk
				continue
			}
			want, dependent := w.winners(t, f)
			switch {
			case f.Packets == nil && mapper == "none" && f.Holder.Claim.Kind == ports.HostPort: // who never got packets loses none
				continue
			case f.Packets == nil && !isNobodys(want):
				t.Fatalf("nothing is said of %s, but %v\n%s", report.Sentence(f), want, strings.Join(c.texts, "\n---\n"))
			case f.Packets == nil:
				continue
			case f.Packets.Assumed:
				assumed++
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
			}
			if diff := cmp.Diff(want, got); diff != "" || dependent != f.Packets.OrderDependent {
				t.Fatalf("%s %s, depends on the order: %t\n%s\n(-walked +said):\n%s\n%s", proxy, mapper, dependent, report.Sentence(f), diff, strings.Join(c.texts, "\n---\n"))
			}
			told++
			if w.isLocal(f.Object) || w.isLocal(f.Holder.Ref) {
				local++
			}
			if dependent {
				flips++
			}
		}
	}
	t.Logf("%d conflicts are explained as they are walked, %d of them in both orders, %d with a Service whose policy is Local; %d have endpoints that are not known", told, flips, local, assumed)
	if told < seed.Rounds(50, 1000) || flips == 0 || local == 0 || assumed == 0 {
		t.Error("the clusters are too quiet to prove anything")
	}
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

// isBetween reports whether nobody else claims the number that two meet at, on any node.
func (w *walked) isBetween(f check.Finding) bool {
	return !slices.ContainsFunc(w.claims, func(c ports.Claim) bool {
		return c.Port == f.Claim.Port && c.Protocol == f.Claim.Protocol && c.Owner.Ref != f.Object && c.Owner.Ref != f.Holder.Ref
	})
}

// listener is the pod of the host network that listens on a node where two meet; "" for none.
func (w *walked) listener(f check.Finding, node *corev1.Node) string {
	for _, c := range w.claims {
		if c.Kind == ports.HostNetwork && c.Port == f.Claim.Port && c.Protocol == f.Claim.Protocol && slices.Contains(c.Scope.Nodes(), node.Name) {
			return c.Owner.Name
		}
	}
	return ""
}

// winners walks the packets of every class on the nodes where two meet, in both orders of starts. It returns the names of those
// who get them, and whether that depends on the order.
func (w *walked) winners(t *testing.T, f check.Finding) (map[string]string, bool) {
	t.Helper()
	found, dependent := map[string]map[string]bool{}, false
	plane := explain.PlaneOf(w.settings.ServiceProxy, w.settings.HostPorts, !w.settings.NodePorts.IPv4Loopback)
	for _, node := range w.nodes {
		if !slices.Contains(f.Nodes, node.Name) {
			continue
		}
		world, err := extract.World(w.objects, extract.WorldOptions{
			Node: node.Name, Portmap: rules.Portmap{MarkBit: portmapMarkBit},
			Proxy: rules.Proxy{LocalhostNodePorts: w.settings.NodePorts.IPv4Loopback, PrimaryNodePorts: w.settings.NodePorts.Primary, Detector: rules.Detector{CIDRs: podNetworks(node)}},
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, to := range extract.NodeAddresses(node) {
			if !f.Claim.Address.Contains(to) || !f.Holder.Claim.Address.Contains(to) {
				continue
			}
			for _, from := range explain.Froms() {
				packet, ok := explain.PacketOf(world, from, netip.AddrPortFrom(to, f.Claim.Port))
				if !ok {
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
						who = w.listener(f, node)
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
