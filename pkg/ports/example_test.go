package ports_test

import (
	"fmt"
	"net/netip"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// A range is inclusive, and is written as the API server's --service-node-port-range is.
func ExampleRange() {
	r := ports.MustParseRange("30000-32767")
	fmt.Println(r.Size(), "ports, from", r.First, "to", r.Last)
	fmt.Println(r.Contains(32767), r.Contains(32768))
	// Output:
	// 2768 ports, from 30000 to 32767
	// true false
}

// Ranges that overlap or touch become one.
func ExampleParseRanges() {
	reserved, err := ports.ParseRanges("30005,30000-30004,8080")
	if err != nil {
		fmt.Println(err)
	}
	fmt.Println(reserved, "=", reserved.Size(), "ports")
	_, err = ports.ParseRanges("32767-30000")
	fmt.Println(err)
	// Output:
	// 8080,30000-30005 = 7 ports
	// range "32767-30000" ends before it starts
}

// How an address is spelled does not matter, and a wildcard is one of its family only.
func ExampleParseAddress() {
	for _, hostIP := range []string{"", "0.0.0.0", "::", "10.0.0.1", "::ffff:10.0.0.1"} {
		a, err := ports.ParseAddress(hostIP)
		if err != nil {
			fmt.Println(err)
		}
		fmt.Printf("%-8s takes 10.0.0.1: %v\n", a, a.Contains(netip.MustParseAddr("10.0.0.1")))
	}
	_, err := ports.ParseAddress("010.0.0.1")
	fmt.Println(err)
	// Output:
	// *        takes 10.0.0.1: true
	// 0.0.0.0  takes 10.0.0.1: true
	// ::       takes 10.0.0.1: false
	// 10.0.0.1 takes 10.0.0.1: true
	// 10.0.0.1 takes 10.0.0.1: true
	// "010.0.0.1" is not an IP address
}

// kube-proxy serves node ports on all of a node's addresses, or on fewer.
func ExampleAddress_WithoutLoopback() {
	loopback := netip.MustParseAddr("127.0.0.1")
	all := ports.AllIPv4()
	fmt.Println(all, all.Contains(loopback))
	fmt.Println(all.WithoutLoopback(), all.WithoutLoopback().Contains(loopback))
	// Output:
	// 0.0.0.0 true
	// 0.0.0.0 (not loopback) false
}

// Two sockets overlap if one packet could be meant for both.
func ExampleSocket() {
	web := ports.MustParseSocket("0.0.0.0:80/TCP")
	for _, other := range []string{"10.0.0.1:80/TCP", "*:80/TCP", "[::]:80/TCP", "0.0.0.0:80/UDP", "0.0.0.0:8080/TCP"} {
		fmt.Printf("%-16s %v\n", other, web.Overlaps(ports.MustParseSocket(other)))
	}
	// Output:
	// 10.0.0.1:80/TCP  true
	// *:80/TCP         true
	// [::]:80/TCP      false
	// 0.0.0.0:80/UDP   false
	// 0.0.0.0:8080/TCP false
}

// The triple of a Service: clients in the cluster ask port 8000, clients outside ask any node for 30007, and both are
// answered by port 8080 of a pod.
func ExampleServicePort() {
	p := ports.ServicePort{Name: "web", Protocol: ports.TCP, Port: 8000, TargetPort: ports.ParseTargetPort("8080"), NodePort: 30007}
	fmt.Println(p, "to", p.TargetPort)
	// Output:
	// 8000:30007/TCP to 8080
}

// cluster knows whose an address is: here, that 10.0.0.1 is the primary address of node n1.
type cluster struct{}

func (cluster) NodeOf(addr netip.Addr) (node string, primary, known bool) {
	known = addr == netip.MustParseAddr("10.0.0.1")
	return "n1", known, known
}

// A node port is held on every node, so that a pod with that hostPort works on none, even before it is placed.
func ExampleMeet() {
	service := ports.Claim{
		Socket: ports.MustParseSocket("*:30007/TCP"), Kind: ports.NodePort, Scope: ports.EverywhereScope(),
		Owner: &ports.Owner{Ref: ports.Ref{Kind: "Service", Namespace: "default", Name: "tomcat"}},
	}
	pod := ports.Claim{
		Socket: ports.MustParseSocket("0.0.0.0:30007/TCP"), Kind: ports.HostPort,
		Owner: &ports.Owner{Ref: ports.Ref{Kind: "Pod", Namespace: "default", Name: "web"}},
	}
	_, meet := ports.Meet(pod, service, cluster{})
	fmt.Println(pod, "- meets:", meet)

	// Two pods on nodes that are not known yet may well go to different ones.
	other := pod
	other.Owner = &ports.Owner{Ref: ports.Ref{Kind: "Pod", Namespace: "default", Name: "other"}}
	_, meet = ports.Meet(pod, other, cluster{})
	fmt.Println(other, "- meets:", meet)

	// On one node they cannot both be.
	pod.Scope, other.Scope = ports.NodeScope("n1"), ports.EachScope([]string{"n1", "n2"})
	conflict, meet := ports.Meet(pod, other, cluster{})
	fmt.Println(other, "- meets:", meet, conflict.Nodes)
	// Output:
	// hostPort 0.0.0.0:30007/TCP of Pod default/web on a node - meets: true
	// hostPort 0.0.0.0:30007/TCP of Pod default/other on a node - meets: false
	// hostPort 0.0.0.0:30007/TCP of Pod default/other on n1,n2 - meets: true [n1]
}
