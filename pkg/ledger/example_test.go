package ledger_test

import (
	"fmt"

	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// A ledger is written by one and read by many: a snapshot never changes.
func ExampleLedger() {
	var book ledger.Ledger
	service := ports.Owner{Ref: ports.Ref{APIVersion: "v1", Kind: "Service", Namespace: "shop", Name: "web"}}
	book.Replace(service, []ports.Claim{{
		Socket: ports.MustParseSocket("*:30062/TCP"), Kind: ports.NodePort, Scope: ports.EverywhereScope(), Field: "spec.ports[0].nodePort",
	}})
	before := book.Snapshot()
	book.Release(service.Ref)

	wanted := ports.Claim{Socket: ports.MustParseSocket("10.0.0.1:30062/TCP"), Kind: ports.HostPort, Scope: ports.NodeScope("n1")}
	for _, conflict := range before.Conflicts(wanted) {
		fmt.Println(conflict.Held)
	}
	fmt.Println(len(book.Snapshot().Conflicts(wanted)), "after it was released")
	// Output:
	// nodePort *:30062/TCP of Service shop/web on every node
	// 0 after it was released
}
