package inspect

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/cli"
	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/source"
	"github.com/portcullis-k8s/portcullis/pkg/explain"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/report"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
	"github.com/portcullis-k8s/portcullis/pkg/rules/walk"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
)

// TestPortsAsTraced holds each situation of `ports N` to a walk through all rules of every node that it names, to every address that it
// names, as trace does it; and there is one for every own address of a node that somebody holds the number on.
func TestPortsAsTraced(t *testing.T) {
	r := seed.Rand(t)
	seen := map[string]int{}
	for range seed.Rounds(120, 3000) {
		c := drawCluster(r, true)
		c.addNamed(t)
		objects := c.objects(t)
		proxy, mapper := []string{"iptables", "nftables", "ipvs"}[r.IntN(3)], []string{"portmap-iptables", "portmap-nftables", "none"}[r.IntN(3)]
		settings := settingsWith(t, fmt.Sprintf("dataplane: {serviceProxy: %s, hostPort: %s, localhostNodePorts: %t}\n", proxy, mapper, r.IntN(2) == 0))
		h := holdingsOf(objects, settings)
		w := newWalked(settings, source.Bare(objects))
		for _, number := range c.numbers {
			about, err := h.about(numberOf(uint16(number)), "", "default", objects)
			if err != nil {
				t.Fatal(err)
			}
			for i := range about {
				if wrong := w.compare(t, &about[i], seen); wrong != "" {
					t.Fatalf("%s %s, %d/%s: %s\n%s", proxy, mapper, number, about[i].Protocol, wrong, strings.Join(c.texts, "\n---\n"))
				}
			}
		}
	}
	t.Logf("%v", seen)
	for _, what := range []string{"winners", "dropped", "rejected", "forwarded", "assumed", "flips", "IPv4", "IPv6", "several nodes", "several destinations"} {
		if seen[what] == 0 {
			t.Errorf("the clusters are too quiet to prove anything: %s", what)
		}
	}
}

// addNamed adds holders that name addresses, and takes a family from nodes or Services of a cluster that has both.
func (c *randomCluster) addNamed(t *testing.T) {
	t.Helper()
	addresses := []string{"203.0.113.5", "10.0.0.1", "10.0.0.2"}
	if c.dual {
		addresses = append(addresses, "fd00::1", "2001:db8:5::5")
	}
	for i := range c.IntN(3) {
		ips, endpoint, kind := "clusterIP: 10.96.1.%d, clusterIPs: [10.96.1.%[1]d]", "10.244.0.99", "IPv4"
		addr := addresses[c.IntN(len(addresses))]
		if strings.Contains(addr, ":") {
			ips, endpoint, kind = "clusterIP: \"fd00:10:97::%d\", clusterIPs: [\"fd00:10:97::%[1]d\"]", "fd00:10:244:0::99", "IPv6"
		}
		policy := []string{"", "externalTrafficPolicy: Local, "}[c.IntN(2)]
		c.add("{apiVersion: v1, kind: Service, metadata: {%s}, spec: {%s%s, externalIPs: [\"%s\"], ports: [{name: p, port: %d}]}}",
			c.metadata(fmt.Sprint("e", i)), policy, fmt.Sprintf(ips, i+1), addr, c.number())
		if c.chance(60) {
			c.add("{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: e%d, namespace: default, labels: {kubernetes.io/service-name: e%[1]d}}, addressType: %s, ports: [{name: p, port: 8000}], endpoints: [{addresses: [\"%s\"], nodeName: n0}]}",
				i, kind, endpoint)
		}
	}
	for i := range c.IntN(3) {
		addr := append(addresses, "127.0.0.1", "192.168.9.9")[c.IntN(len(addresses)+2)]
		c.add("{apiVersion: v1, kind: Pod, metadata: {%s}, spec: {nodeName: n0, containers: [{name: c, ports: [{containerPort: 80, hostPort: %d, hostIP: \"%s\"}]}]}, status: {phase: Running, podIP: 10.244.0.%d, podIPs: [{ip: 10.244.0.%[4]d}, {ip: \"fd00:10:244:0::%[4]d\"}]}}",
			c.metadata(fmt.Sprint("h", i)), c.number(), addr, 40+i)
	}
	if !c.dual {
		return
	}
	onlyIPv6 := c.chance(30)
	for i, text := range c.texts {
		switch {
		case strings.Contains(text, "kind: Node,") && onlyIPv6:
			text = regexp.MustCompile(`\{type: InternalIP, address: 10\.0\.0\.\d\}, `).ReplaceAllString(text, "")
			text = regexp.MustCompile(`10\.244\.\d\.0/24, `).ReplaceAllString(text, "")
		case strings.Contains(text, "kind: Service,") && c.chance(40):
			text = regexp.MustCompile(`clusterIP: 10\.96\.0\.\d, clusterIPs: \[10\.96\.0\.\d, (".*?")\]`).ReplaceAllString(text, "clusterIP: $1, clusterIPs: [$1]")
		}
		c.texts[i] = text
	}
}

// compare returns what `ports` says otherwise than a walk; "" for nothing.
func (w *walked) compare(t *testing.T, n *report.PortNumber, seen map[string]int) string {
	t.Helper()
	protocol, err := ports.ParseProtocol(n.Protocol)
	if err != nil {
		t.Fatal(err)
	}
	covered := map[string]bool{}
	for _, s := range n.Situations {
		if len(s.Nodes) > 1 {
			seen["several nodes"]++
		}
		if len(s.To) > len(s.Nodes) {
			seen["several destinations"]++
		}
		for _, node := range w.nodes {
			if !slices.Contains(s.Nodes, node.Name) {
				continue
			}
			for _, text := range s.To {
				to := netip.MustParseAddr(text)
				if w.isOthers(node, to, s.Nodes) {
					continue
				}
				covered[node.Name+" "+text] = true
				dependent := false
				for _, winner := range s.Winners {
					got := []string{wordsOf(winner.Owner, winner.Verdict, winner.By)}
					if winner.Assumed { // of endpoints that are not known a walk knows none
						seen["assumed"]++
						got[0] = wordsOf(winner.Otherwise, winner.OtherwiseVerdict, winner.OtherwiseBy)
					}
					want := w.orders(t, node, explain.From(winner.Of), netip.AddrPortFrom(to, uint16(n.Port)), protocol)
					if want == nil || slices.Contains(want, oneOfSeveral) {
						continue
					}
					seen["winners"]++
					seen[rules.FamilyOf(to).String()]++
					seen[winner.Verdict]++
					dependent = dependent || want[0] != want[1]
					if diff := cmp.Diff(want[:1], got); diff != "" {
						return fmt.Sprintf("%s to %s on %s (-walked +said):\n%s", winner.Of, text, node.Name, diff)
					}
				}
				if dependent {
					seen["flips"]++
				}
				if dependent && !s.OrderDependent {
					return fmt.Sprintf("who gets the packets to %s on %s depends on the order of starts", text, node.Name)
				}
			}
		}
	}
	for _, c := range w.claims {
		for _, node := range w.nodes {
			on, single := c.Scope.Node()
			if c.Port != uint16(n.Port) || c.Protocol != protocol || c.Kind.OfPod() && (!single || on != node.Name) {
				continue
			}
			for _, addr := range extract.NodeAddresses(node) {
				if c.Address.Contains(addr) && !covered[node.Name+" "+addr.String()] {
					return fmt.Sprintf("nothing is said of packets to %s on %s", addr, node.Name)
				}
			}
		}
	}
	return ""
}

// isOthers reports whether an address is the own one of another of the nodes that a situation is about.
func (w *walked) isOthers(node *corev1.Node, to netip.Addr, names []string) bool {
	return len(names) > 1 && slices.ContainsFunc(w.nodes, func(o *corev1.Node) bool {
		return o.Name != node.Name && slices.Contains(names, o.Name) && slices.Contains(extract.NodeAddresses(o), to)
	})
}

func wordsOf(owner *report.Owner, verdict string, by *report.Owner) string {
	text := verdict
	for _, o := range []*report.Owner{owner, by} {
		if o != nil {
			text += " " + o.Name
		}
	}
	return text
}

// orders walks a packet in each order of starts; nil if there is no such packet.
func (w *walked) orders(t *testing.T, node *corev1.Node, from explain.From, to netip.AddrPort, protocol ports.Protocol) []string {
	t.Helper()
	world, err := extract.World(w.objects, extract.WorldOptions{
		Node: node.Name, Portmap: rules.Portmap{MarkBit: cli.PortmapMarkBit},
		Proxy: rules.Proxy{LocalhostNodePorts: w.settings.NodePorts.IPv4Loopback, PrimaryNodePorts: w.settings.NodePorts.Primary, Detector: rules.Detector{CIDRs: extract.PodNetworks(node)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	word := map[explain.From]string{explain.FromOutside: "external", explain.FromPod: "pod", explain.FromNode: "node", explain.FromLoopback: "loopback"}[from]
	if from == explain.FromLoopback && !to.Addr().IsLoopback() {
		if to.Addr() != world.Node.IP(rules.IPv4) {
			return nil
		}
		to = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), to.Port())
	}
	packet, err := explain.PacketFrom(world, word, to)
	if err != nil {
		return nil
	}
	packet.Protocol = protocol
	var all []string
	plane := explain.PlaneOf(w.settings.ServiceProxy, w.settings.HostPorts, !w.settings.NodePorts.IPv4Loopback)
	for _, order := range explain.Orders() {
		plane.Started = order
		path := plane.Trace(world, explain.Host(world), packet).Paths[0]
		owner := path.Origin.Owner.Name
		if owner != "" {
			owner = " " + owner
		}
		switch {
		case path.Verdict == walk.Drop:
			owner = "dropped" + owner
		case path.Verdict == walk.Reject:
			owner = "rejected" + owner
		case path.Local:
			if owner = ""; path.Verdict == walk.Accept {
				owner = w.listenerAt(node, to, protocol)
			}
		case owner == "":
			owner = "forwarded"
		}
		all = append(all, owner)
	}
	return all
}

// listenerAt is the pod of the host network, or the Service whose health check, that listens on a socket of a node; "" for none. Of several the first one to start does,
// which no walk tells.
func (w *walked) listenerAt(node *corev1.Node, to netip.AddrPort, protocol ports.Protocol) string {
	found := ""
	for _, c := range w.claims {
		here := c.Scope.Kind == ports.Everywhere || slices.Contains(c.Scope.Nodes(), node.Name)
		if roleOf(c.Kind) == "listener" && c.Port == to.Port() && c.Protocol == protocol && c.Address.Contains(to.Addr()) && here {
			if found != "" {
				return oneOfSeveral
			}
			found = " " + c.Owner.Name
		}
	}
	return found
}

const oneOfSeveral = "one of several listeners"

const (
	localNodes = "{apiVersion: v1, kind: Node, metadata: {name: n1}, spec: {podCIDR: 10.244.1.0/24}, status: {addresses: [{type: InternalIP, address: 192.168.7.1}]}}\n---\n" +
		"{apiVersion: v1, kind: Node, metadata: {name: n2}, spec: {podCIDR: 10.244.2.0/24}, status: {addresses: [{type: InternalIP, address: 192.168.7.2}]}}\n"
	localService = "{apiVersion: v1, kind: Service, metadata: {name: app}, spec: {type: NodePort, clusterIP: 10.96.0.7, externalTrafficPolicy: Local, ports: [{port: 80, nodePort: 30062}]}}\n---\n" +
		"{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: app-1, labels: {kubernetes.io/service-name: app}}, addressType: IPv4, ports: [{name: \"\", port: 8080}], endpoints: [{addresses: [10.244.2.20], nodeName: n2}]}\n"
	ingressPod = "{apiVersion: v1, kind: Pod, metadata: {name: web}, spec: {nodeName: n1, containers: [{name: c, ports: [{containerPort: 80, hostPort: 80}]}]}, status: {podIP: 10.244.1.9}}\n"
	ingress    = "{apiVersion: v1, kind: Service, metadata: {name: ingress}, spec: {clusterIP: 10.96.0.8, externalIPs: [203.0.113.5], ports: [{port: 80}]}}\n---\n" +
		"{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: ingress-1, labels: {kubernetes.io/service-name: ingress}}, addressType: IPv4, ports: [{name: \"\", port: 8080}], endpoints: [{addresses: [10.244.2.21], nodeName: n2}]}\n"
	dualNode = "{apiVersion: v1, kind: Node, metadata: {name: n1}, spec: {podCIDR: 10.244.1.0/24, podCIDRs: [10.244.1.0/24, \"fd00:10:244:1::/64\"]}, status: {addresses: [{type: InternalIP, address: 192.168.7.1}, {type: InternalIP, address: \"fd00:7::1\"}]}}\n"
	ipv6Node = "{apiVersion: v1, kind: Node, metadata: {name: n1}, spec: {podCIDR: \"fd00:10:244:1::/64\"}, status: {addresses: [{type: InternalIP, address: \"fd00:7::1\"}]}}\n"
	dualPod  = "{apiVersion: v1, kind: Pod, metadata: {name: web}, spec: {nodeName: n1, containers: [{name: c, ports: [{containerPort: 80, hostPort: 30062}]}]}, status: {podIP: 10.244.1.9, podIPs: [{ip: 10.244.1.9}, {ip: \"fd00:10:244:1::9\"}]}}\n"
	ipv6Only = "{apiVersion: v1, kind: Service, metadata: {name: six}, spec: {type: NodePort, clusterIP: \"fd00:10:96::7\", clusterIPs: [\"fd00:10:96::7\"], ports: [{port: 80, nodePort: 30062}]}}\n---\n" +
		"{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: six-1, labels: {kubernetes.io/service-name: six}}, addressType: IPv6, ports: [{name: \"\", port: 8080}], endpoints: [{addresses: [\"fd00:10:244:1::20\"], nodeName: n1}]}\n"
	storing = "{apiVersion: v1, kind: Service, metadata: {name: db}, spec: {clusterIP: 10.96.0.9, externalIPs: [192.168.7.1], ports: [{port: 5432}]}}\n"
	tainted = "{apiVersion: v1, kind: Node, metadata: {name: n3}, spec: {taints: [{key: dedicated, value: db, effect: NoSchedule}]}}\n"
)

// TestPortsSituations: who gets the packets to which address on which node, and on how many nodes a hostPort is free.
func TestPortsSituations(t *testing.T) {
	hostPort := func(name, node, ip string) string {
		return fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {name: %s, ownerReferences: [{apiVersion: apps/v1, kind: DaemonSet, name: web, uid: u, controller: true}]}, spec: {nodeName: %s, containers: [{name: c, ports: [{containerPort: 80, hostPort: 30062}]}]}, status: {podIP: %s}}\n", name, node, ip)
	}
	settings := settingsWith(t, "dataplane: {serviceProxy: iptables, hostPort: portmap-iptables}\n")
	for _, c := range []struct {
		why    string
		number int
		texts  []string
		want   []string // nodes, addresses and the winners from outside
		free   string   // nodes, of those that a pod may run on
	}{
		{"nodes differ by their endpoints", 30062, []string{localNodes, localService},
			[]string{"[n1] [192.168.7.1] dropped app", "[n2] [192.168.7.2]  app"}, "0/2"},
		{"and so they do beside a DaemonSet", 30062, []string{localNodes, localService, hostPort("web-a", "n1", "10.244.1.9"), hostPort("web-b", "n2", "10.244.2.9")},
			[]string{"[n1] [192.168.7.1]  web", "[n2] [192.168.7.2]  app"}, "0/2"}, // what portmap translates passes the Service's filter rule
		{"a node of IPv6 only", 30062, []string{ipv6Node, ipv6Only}, []string{"[n1] [fd00:7::1]  six"}, "0/1"},
		{"each family has its answer", 30062, []string{dualNode, ipv6Only, dualPod}, []string{"[n1] [192.168.7.1]  web", "[n1] [fd00:7::1]  six"}, "0/1"},
		{"both families have one", 30062, []string{dualNode, dualPod}, []string{"[n1] [192.168.7.1 fd00:7::1]  web"}, "0/1"},
		{"an external IP and the node's own address", 80, []string{localNodes, ingress, ingressPod},
			[]string{"[n1] [192.168.7.1]  web", "[n1] [203.0.113.5]  ingress", "[n2] [203.0.113.5]  ingress"}, "1/2"},
		{"an external IP that is the address of a node", 5432, []string{localNodes, storing}, []string{"[n1] [192.168.7.1]  db"}, "1/2"},
		{"a node with a taint", 9000, []string{localNodes, tainted}, nil, "2/2"},
	} {
		objects := (&randomCluster{texts: c.texts}).objects(t)
		h := holdingsOf(objects, settings)
		about, err := h.about(numberOf(uint16(c.number)), "", "default", objects)
		if err != nil || len(about) != 1 {
			t.Fatalf("%s: %v %v", c.why, about, err)
		}
		var got []string
		for _, s := range about[0].Situations {
			w := s.Winners[0]
			got = append(got, fmt.Sprintf("%v %v %s", s.Nodes, s.To, wordsOf(w.Owner, w.Verdict, w.By)))
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.why, diff)
		}
		pod := about[0].New[1]
		if free := fmt.Sprintf("%d/%d", pod.Free, pod.Nodes); free != c.free || len(pod.NotEligible) != len(h.nodes)-pod.Nodes {
			t.Errorf("%s: free on %s, want %s; not eligible: %v", c.why, free, c.free, pod.NotEligible)
		}
	}
}

// isFreeWhere holds on how many nodes a new hostPort is free to what why says of such a pod.
func (p *parity) isFreeWhere(h *holdings, wanted *report.PortWanted, object runtime.Object) {
	p.Helper()
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return
	}
	free := 0
	for _, candidate := range h.placement(pod, p.settings).Nodes {
		isOut := slices.ContainsFunc(wanted.NotEligible, func(e report.PortExcluded) bool { return e.Node == candidate.Node })
		if !isOut && len(candidate.Obstacles) == 0 {
			free++
		}
	}
	hasTemplates := strings.Contains(p.text, "template:") // which want their nodes before they have pods there
	if wanted.Free > free || wanted.Free < free && !hasTemplates {
		p.Errorf("ports: a new %s is free on %d nodes, why: on %d", wanted.Kind, wanted.Free, free)
	}
}
