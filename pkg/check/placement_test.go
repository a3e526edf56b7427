package check_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// obstacles tells in lines what is in the way on a node: "WANTED < HOLDER FIELD[ by POD]".
func obstacles(list []check.Obstacle) []string {
	var lines []string
	for _, o := range list {
		line := fmt.Sprintf("%s < %s %s %s", o.Wanted.Socket, o.Holder.Kind, o.Holder.Name, o.Holder.Field)
		if o.ByPod() {
			line += " by " + o.Pod.Name
		}
		lines = append(lines, strings.TrimSpace(line))
	}
	return lines
}

func TestObstacles(t *testing.T) {
	const seeker = "Pod a: hostPort * 9000/TCP @?"
	for _, c := range []struct {
		why      string
		held     []string
		pod      string
		reserved string // by the annotation of n1
		n1, n2   []string
	}{
		{"nobody", nil, seeker, "", nil, nil},
		{"a pod", []string{"Pod b: hostPort * 9000/TCP @n1"}, seeker, "", []string{"*:9000/TCP < Pod b ports[0].hostPort by b"}, nil},
		{"a Deployment's pod", []string{"Pod b < ReplicaSet r < Deployment d: hostPort * 9000/TCP @n1"}, seeker, "", []string{"*:9000/TCP < Deployment d ports[0].hostPort by b"}, nil},
		{"whose Deployment is known", []string{"Deployment d: hostPort * 1/TCP @?; hostPort * 9000/TCP @?", "Pod b < Deployment d: hostPort * 9000/TCP @n1"}, seeker, "",
			[]string{"*:9000/TCP < Deployment d ports[1].hostPort by b"}, nil},
		{"whose ReplicaSet is known", []string{"ReplicaSet r < Deployment d:", "Pod b < ReplicaSet r: hostPort * 9000/TCP @n1"}, seeker, "",
			[]string{"*:9000/TCP < Deployment d ports[0].hostPort by b"}, nil},
		{"a pod of its own Deployment", []string{"Pod b < Deployment d: hostPort * 9000/TCP @n2"}, "Pod a < Deployment d: hostPort * 9000/TCP @?", "",
			nil, []string{"*:9000/TCP < Deployment d ports[0].hostPort by b"}},
		{"itself", []string{"Pod a: hostPort * 9000/TCP @n1"}, seeker, "", nil, nil},
		{"a pod that has no node", []string{"Pod b: hostPort * 9000/TCP @?"}, seeker, "", nil, nil},
		{"a template", []string{"DaemonSet d: hostPort * 9000/TCP @{n1,n2}", "DaemonSet e: hostPort * 9000/TCP @every", "Deployment f: hostPort * 9000/TCP @n1"}, seeker, "", nil, nil},
		{"a sidecar", []string{"Pod b: hostPort,sidecar * 9000/TCP @n1"}, seeker, "", []string{"*:9000/TCP < Pod b ports[0].hostPort by b"}, nil},
		{"a plain init container", []string{"Pod b: hostPort,init * 9000/TCP @n1"}, seeker, "", nil, nil},
		{"wanted by one", []string{"Pod b: hostPort * 9000/TCP @n1"}, "Pod a: hostPort,init * 9000/TCP @?", "9000/TCP", nil, nil},
		{"another protocol", []string{"Pod b: hostPort * 9000/UDP @n1"}, seeker, "9000/UDP", nil, nil},
		{"another address", []string{"Pod b: hostPort 10.0.0.1 9000/TCP @n1"}, "Pod a: hostPort 10.0.0.2 9000/TCP @?", "", nil, nil},
		{"one socket twice", []string{"Pod b: hostPort * 9000/TCP @n1"}, "Pod a: hostPort * 9000/TCP @?; hostPort * 9000/TCP @?", "", []string{"*:9000/TCP < Pod b ports[0].hostPort by b"}, nil},
		{"a nodePort", []string{"Service s NodePort 80:9000/TCP"}, seeker, "", []string{"*:9000/TCP < Service s spec.ports[0].nodePort"}, []string{"*:9000/TCP < Service s spec.ports[0].nodePort"}},
		{"its own Service's", []string{"Service s NodePort 80:9000/TCP"}, "Pod a < DaemonSet d < Service s: hostPort * 9000/TCP @?", "", nil, nil},
		{"an external IP", []string{"Service s ClusterIP 9000/TCP ip:10.0.0.2"}, seeker, "", nil, []string{"*:9000/TCP < Service s spec.ports[0].port"}},
		{"an address of no node", []string{"Service s ClusterIP 9000/TCP ip:192.0.2.1"}, seeker, "", nil, nil},
		{"a daemon", nil, "Pod a: hostPort * 10250/TCP @?", "", []string{"*:10250/TCP < node daemon kubelet"}, []string{"*:10250/TCP < node daemon kubelet"}},
		{"a daemon of some nodes", nil, "Pod a: hostPort * 10259/TCP @?", "", []string{"*:10259/TCP < node daemon kube-scheduler"}, nil},
		{"the daemon itself", nil, "Pod a trusted hostNetwork kubelet: hostNetwork * 10250/TCP @?", "", nil, nil},
		{"by its name only", nil, "Pod a hostNetwork kubelet: hostNetwork * 10250/TCP @?", "", []string{"*:10250/TCP < node daemon kubelet"}, []string{"*:10250/TCP < node daemon kubelet"}},
		{"the node itself", nil, seeker, "9000/TCP", []string{"*:9000/TCP < Node n1"}, nil},
		{"all of them, as they are wanted", []string{"Service s NodePort 80:9000/TCP", "Pod b: hostPort * 9000/TCP @n1; hostPort * 8000/TCP @n1"},
			"Pod a: hostPort * 10250/TCP @?; hostPort * 9000/TCP @?; hostPort * 8000/TCP @?", "8000/TCP", []string{
				"*:8000/TCP < Pod b ports[1].hostPort by b", "*:8000/TCP < Node n1",
				"*:9000/TCP < Service s spec.ports[0].nodePort", "*:9000/TCP < Pod b ports[0].hostPort by b",
				"*:10250/TCP < node daemon kubelet",
			}, []string{"*:9000/TCP < Service s spec.ports[0].nodePort", "*:10250/TCP < node daemon kubelet"}},
	} {
		_, w := mustObject(c.pod)
		before := slices.Clone(w.Claims)
		s := check.NewSeeker(w, mustLedger(c.held...).Snapshot(), settings().Reserved)
		var reserved []ports.Socket
		if c.reserved != "" {
			reserved = append(reserved, ports.MustParseSocket("*:"+c.reserved))
		}
		for range 2 { // the first answer leaves the second as it is
			if diff := cmp.Diff([][]string{c.n1, c.n2}, [][]string{obstacles(s.On(check.Node{Name: "n1", Labels: map[string]string{"control-plane": ""}, Reserved: reserved})), obstacles(s.On(check.Node{Name: "n2"}))}); diff != "" {
				t.Errorf("%s: on n1 and n2 (-want +got):\n%s", c.why, diff)
			}
		}
		if !slices.Equal(before, w.Claims) {
			t.Errorf("%s: the pod's claims were written to", c.why)
		}
	}
}

// TestSeekerOfServices: a caller that gives a ledger of Services alone is told of those on an address when it says whose the
// address is.
func TestSeekerOfServices(t *testing.T) {
	var services ledger.Ledger
	for _, line := range []string{"Service s ClusterIP 9000/TCP ip:10.0.0.2", "Service i ClusterIP 9000/TCP ip:10.0.0.9"} {
		hold(&services, line)
	}
	_, w := mustObject("Pod a: hostPort * 9000/TCP @?; hostPort * 8000/TCP @?")
	s := check.NewSeeker(w, services.Snapshot(), settings().Reserved)
	if len(s.Wanted()) != 2 || len(s.Everywhere()) != 0 || !s.HasHolders() {
		t.Errorf("wanted %v, everywhere %v, has holders %t", s.Wanted(), s.Everywhere(), s.HasHolders())
	}
	for node, want := range map[string][]string{"n1": nil, "n2": {"*:9000/TCP < Service s spec.ports[0].port"}} {
		// As a scheduler does, each node is asked about as if it were the only one.
		var only ledger.Ledger
		only.ReplaceNode(node, []netip.Addr{netip.MustParseAddr("10.0.0." + node[1:])})
		if diff := cmp.Diff(want, obstacles(s.On(check.Node{Name: node, Addresses: only.Snapshot()}))); diff != "" {
			t.Errorf("on %s (-want +got):\n%s", node, diff)
		}
	}
	if got := s.On(check.Node{Name: "n2"}); len(got) > 0 {
		t.Errorf("nobody said whose the address is: %v", obstacles(got))
	}
	if free := check.NewSeeker(w, (&ledger.Ledger{}).Snapshot(), nil); free.HasHolders() {
		t.Error("nobody holds anything, and somebody is said to")
	}
}

// TestRoomFor: a node has no room if anybody holds any of the ports there: another pod, a Service, or a daemon of some nodes.
func TestRoomFor(t *testing.T) {
	for _, c := range []struct {
		why, workload string
		held          []string
		nodes, taken  []string
		holders       string
	}{
		{why: "nobody", workload: "Deployment d on n1,n2: hostPort * 9000/TCP @?", nodes: []string{"n1", "n2"}},
		{why: "a pod", workload: "Deployment d on n1,n2: hostPort * 9000/TCP @?", held: []string{"Pod b: hostPort * 9000/TCP @n1"},
			nodes: []string{"n1", "n2"}, taken: []string{"n1"}, holders: "Pod b"},
		{why: "a pod on a node that it cannot run on", workload: "Deployment d on n2: hostPort * 9000/TCP @?", held: []string{"Pod b: hostPort * 9000/TCP @n1"}, nodes: []string{"n2"}},
		{why: "its own pod", workload: "Deployment d on n1,n2: hostPort * 9000/TCP @?", held: []string{"Deployment d: hostPort * 9000/TCP @?", "Pod b < Deployment d: hostPort * 9000/TCP @n1"},
			nodes: []string{"n1", "n2"}, taken: []string{"n1"}, holders: "Deployment d"},
		{why: "one port here, another there", workload: "Deployment d on n1,n2: hostPort * 9000/TCP @?; hostPort * 9001/TCP @?",
			held:  []string{"Pod b: hostPort * 9000/TCP @n1", "Pod c: hostPort * 9001/TCP @n2"},
			nodes: []string{"n1", "n2"}, taken: []string{"n1", "n2"}, holders: "Pod b, Pod c"},
		{why: "a nodePort", workload: "Deployment d on n1,n2: hostPort * 30062/TCP @?", held: []string{"Service s NodePort 80:30062/TCP"},
			nodes: []string{"n1", "n2"}, taken: []string{"n1", "n2"}, holders: "Service s"},
		{why: "an external IP", workload: "Deployment d on n1,n2: hostPort * 9000/TCP @?", held: []string{"Service s ClusterIP 9000/TCP ip:10.0.0.2"},
			nodes: []string{"n1", "n2"}, taken: []string{"n2"}, holders: "Service s"},
		{why: "a daemon of some nodes", workload: "Deployment d on n1,n2: hostPort * 10259/TCP @?",
			nodes: []string{"n1", "n2"}, taken: []string{"n1"}, holders: "node daemon kube-scheduler"},
	} {
		_, w := mustObject(c.workload)
		room := check.RoomFor(check.Input{
			Workload: w, Held: mustLedger(c.held...).Snapshot(), Settings: settings(),
			NodeLabels: func(node string) map[string]string {
				return map[string]map[string]string{"n1": {"control-plane": ""}}[node]
			},
		})
		var holders []string
		for _, h := range room.Holders {
			holders = append(holders, h.Kind+" "+h.Name)
		}
		if diff := cmp.Diff([][]string{c.nodes, c.taken, {c.holders}}, [][]string{room.Nodes, room.Taken, {strings.Join(holders, ", ")}}, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: nodes, taken, holders (-want +got):\n%s", c.why, diff)
		}
	}
	if room := check.RoomFor(check.Input{Service: &check.Service{}}); room.Nodes != nil || room.Taken != nil {
		t.Errorf("a Service has room: %v", room)
	}
}

// largeCluster has pods of 30 DaemonSets with 5 ports each on 5000 nodes.
func largeCluster(b *testing.B) (*ledger.Snapshot, []string) {
	b.Helper()
	var l ledger.Ledger
	var nodes []string
	for n := range 5000 {
		node := fmt.Sprint("n", n)
		nodes = append(nodes, node)
		for d := range 30 {
			pod := mustOwner(fmt.Sprintf("Pod d%d-%d < DaemonSet d%d", d, n, d))
			var claims []ports.Claim
			for i := range 5 {
				claims = append(claims, ports.Claim{
					Socket: ports.Socket{Protocol: ports.TCP, Port: uint16(20000 + 5*d + i)}, Kind: ports.HostPort, Scope: ports.NodeScope(node), Field: "f",
				})
			}
			l.Replace(pod, claims)
		}
	}
	return l.Snapshot(), nodes
}

// BenchmarkSeeker asks for a pod with five host ports about each of 5000 nodes.
func BenchmarkSeeker(b *testing.B) {
	held, nodes := largeCluster(b)
	for _, c := range []struct {
		name  string
		first int
		want  int
	}{{"fits", 20150, 0}, {"taken", 20149, 5000}} {
		b.Run(c.name, func(b *testing.B) {
			w := &check.Workload{Owner: mustOwner("Pod a"), IsPod: true}
			for i := range 5 {
				w.Claims = append(w.Claims, ports.Claim{Socket: ports.Socket{Protocol: ports.TCP, Port: uint16(c.first + i)}, Kind: ports.HostPort, Owner: &w.Owner})
			}
			b.ReportAllocs()
			for b.Loop() {
				s, refused := check.NewSeeker(w, held, settings().Reserved), 0
				for _, n := range nodes {
					refused += min(1, len(s.On(check.Node{Name: n})))
				}
				if refused != c.want {
					b.Fatalf("%d nodes refused, want %d", refused, c.want)
				}
			}
		})
	}
}
