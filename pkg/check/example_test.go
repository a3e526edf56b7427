package check_test

import (
	"fmt"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// A pod asks for a host port that is a Service's node port. Check takes values; pkg/extract makes them of Kubernetes objects,
// pkg/report makes sentences of findings.
func ExampleCheck() {
	var held ledger.Ledger
	held.Replace(ports.Owner{Ref: ports.Ref{APIVersion: "v1", Kind: "Service", Namespace: "shop", Name: "web"}}, []ports.Claim{
		{Socket: ports.MustParseSocket("*:30062/TCP"), Kind: ports.NodePort, Scope: ports.EverywhereScope(), Field: "spec.ports[0].nodePort"},
	})
	pod := &check.Workload{IsPod: true, Claims: []ports.Claim{
		{Socket: ports.MustParseSocket("0.0.0.0:30062/TCP"), Kind: ports.HostPort, Field: "spec.containers[0].ports[0].hostPort"},
	}}
	settings := &check.Settings{NodePortRange: ports.MustParseRange("30000-32767")}

	findings := check.Check(check.Input{Workload: pod, Held: held.Snapshot(), Settings: settings})
	for _, f := range findings {
		fmt.Println(f.Severity, f.Code, f.Field, "is held by", f.Holder.Ref)
	}
	fmt.Println(settings.Judge(findings))
	// Output:
	// error PC0201 spec.containers[0].ports[0].hostPort is held by Service shop/web
	// deny
}
