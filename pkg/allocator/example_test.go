package allocator_test

import (
	"fmt"

	"github.com/portcullis-k8s/portcullis/pkg/allocator"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// A Service without a nodePort is given one; the same request is always given the same one.
func ExampleNext() {
	tomcat := ports.Claim{
		Kind: ports.NodePort, Scope: ports.EverywhereScope(), Field: "spec.ports[0].nodePort",
		Owner: &ports.Owner{Ref: ports.Ref{Kind: "Service", Namespace: "default", Name: "tomcat"}},
	}
	held := func(port uint16) (ports.Claim, bool) { return tomcat, port == 30007 || port == 30008 }

	nodePortRange := ports.MustParseRange("30007-30009")
	port, err := allocator.Next(allocator.Request{Ranges: allocator.Order(nodePortRange, nil), Key: "default/web/http", Held: held})
	fmt.Println(port, err)

	err = allocator.Explicit(30007, ports.Ranges{nodePortRange}, held)
	fmt.Println(err)
	// Output:
	// 30009 <nil>
	// 30007 is taken by Service default/tomcat (spec.ports[0].nodePort) on every node; choose another number, or leave it out to be given one
}
