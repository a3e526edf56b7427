package finding

import (
	"net/netip"
	"testing"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// TestOfRealSentence reads the sentence that pkg/report makes of a real finding.
func TestOfRealSentence(t *testing.T) {
	var held ledger.Ledger
	service := ports.Owner{Ref: ports.Ref{APIVersion: "v1", Kind: "Service", Namespace: "default", Name: "app1"}}
	held.Replace(service, []ports.Claim{{Socket: ports.MustParseSocket("*:30062/TCP"), Kind: ports.NodePort, Scope: ports.EverywhereScope(), Field: "spec.ports[0].nodePort"}})
	held.ReplaceNode("n1", []netip.Addr{netip.MustParseAddr("10.0.0.1")})
	pod := &check.Workload{IsPod: true}
	pod.Owner.Ref = ports.Ref{APIVersion: "v1", Kind: "Pod", Namespace: "default", Name: "web"}
	pod.Claims = []ports.Claim{{Socket: ports.MustParseSocket("0.0.0.0:30062/TCP"), Kind: ports.HostPort, Owner: &pod.Owner, Field: "spec.containers[0].ports[0].hostPort"}}
	findings := check.Check(check.Input{Workload: pod, Held: held.Snapshot(), Settings: &check.Settings{}})
	if len(findings) != 1 {
		t.Fatalf("%d findings, want 1", len(findings))
	}
	const want = "PC0201 spec.containers[0].ports[0].hostPort Service default/app1"
	if got := Of(report.Sentence(findings[0])); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestOf(t *testing.T) {
	for message, want := range map[string]string{
		`spec.containers[0].ports[1].hostPort: 22/TCP belongs to sshd, a daemon of every node (PC0302)`: "PC0302 spec.containers[0].ports[1].hostPort",
		`hostPort 9000/TCP is taken by Pod ns-1/held; hostPort 9001/TCP by Pod ns-1/b`:                  "Pod ns-1/held",
		`metadata.annotations[portcullis.dev/host-port.x]: no (PC0314)`:                                 "PC0314 metadata.annotations[portcullis.dev/host-port.x]",
		`something else`: "",
	} {
		if got := Of(message); got != want {
			t.Errorf("%s: got %q, want %q", message, got, want)
		}
	}
}
