package report_test

import (
	"testing"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

func TestHeldOnNode(t *testing.T) {
	wanted := ports.Claim{Kind: ports.HostPort, Socket: ports.MustParseSocket("127.0.0.1:9000/TCP")}
	const a, b, c, d = "Deployment default/a", "Pod default/b", "Service default/c", "Service default/d"
	for _, tt := range []struct {
		holders []string
		want    string
	}{
		{[]string{a}, "hostPort 9000/TCP is held by Deployment default/a"},
		{[]string{a, a, a}, "hostPort 9000/TCP is held by Deployment default/a"},
		{[]string{b, a, b}, "hostPort 9000/TCP is held by Deployment default/a and Pod default/b"},
		{[]string{c, b, a}, "hostPort 9000/TCP is held by Deployment default/a, Pod default/b and Service default/c"},
		{[]string{d, c, b, a}, "hostPort 9000/TCP is held by Deployment default/a, Pod default/b and 2 others"},
		{[]string{report.Daemon("kubelet")}, "hostPort 9000/TCP is held by kubelet (a daemon of every node)"},
		{[]string{report.Reservation("x/y")}, "hostPort 9000/TCP is held by the node itself (annotation x/y)"},
	} {
		if got := report.HeldOnNode(wanted, tt.holders); got != tt.want {
			t.Errorf("%q: %s, want %s", tt.holders, got, tt.want)
		}
	}
	wanted.Kind = ports.HostNetwork
	if got := report.HeldOnNode(wanted, []string{a}); got != "hostNetwork port 9000/TCP is held by Deployment default/a" {
		t.Errorf("host network: %s", got)
	}
}
