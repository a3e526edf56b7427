package check_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

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
