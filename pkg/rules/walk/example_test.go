package walk_test

import (
	"fmt"
	"net/netip"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
	"github.com/portcullis-k8s/portcullis/pkg/rules/portmap"
	"github.com/portcullis-k8s/portcullis/pkg/rules/walk"
)

// A host port takes a packet to the pod that has it.
func ExampleWalker_Walk() {
	world := &rules.World{
		Pods: []*rules.Pod{{
			Ref: ports.Ref{Kind: "Pod", Namespace: "default", Name: "web"}, SandboxID: "c0ffee",
			Addresses: []netip.Prefix{netip.MustParsePrefix("10.244.0.10/24")},
			Mappings:  []rules.Mapping{{Protocol: ports.TCP, HostPort: 8080, ContainerPort: 80}},
		}},
		Portmap: rules.Portmap{Network: "kindnet", MarkBit: 13},
	}
	rs := rules.Install(portmap.NFTables(world, rules.IPv4))
	node := walk.Host{Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}
	for _, path := range walk.New(rs, node).Walk(walk.Packet{
		In: "eth0", Src: netip.MustParseAddrPort("192.0.2.2:40000"), Dst: netip.MustParseAddrPort("192.0.2.1:8080"), Protocol: ports.TCP,
	}) {
		for _, s := range path.Steps {
			fmt.Println(s.Hook, s.Table.Name, s.Chain.Name)
		}
		fmt.Println(path.Verdict, path.Destination, path.Origin.Owner)
	}
	// Output:
	// prerouting cni_hostport prerouting
	// prerouting cni_hostport hostports_all
	// prerouting cni_hostport hostports_all
	// prerouting cni_hostport hostports
	// dnat 10.244.0.10:80 Pod default/web
}
