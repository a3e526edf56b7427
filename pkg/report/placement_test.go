package report_test

import (
	"slices"
	"strings"
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
		{[]string{report.Daemon("kubelet", true)}, "hostPort 9000/TCP is held by kubelet (a daemon of every node)"},
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

func TestWaitsFor(t *testing.T) {
	claim := func(s string) ports.Claim { return ports.Claim{Kind: ports.HostPort, Socket: ports.MustParseSocket(s)} }
	web := report.Taken{Node: "n1", Wanted: claim("*:80/TCP"), Holder: "Service default/web"}
	bare := report.Taken{Node: "n1", Wanted: claim("*:9000/TCP"), Holder: "Pod default/a", Pod: "default/a"}
	owned := report.Taken{Node: "n2", Wanted: claim("*:9000/TCP"), Holder: "Deployment default/b", Pod: "default/b-1"}
	got := report.WaitsFor("default/new", []report.Taken{web, bare, owned})
	const want = "hostPort 80/TCP is held on n1 by Service default/web; hostPort 9000/TCP is held on n1 by Pod default/a," +
		" on n2 by Pod default/b-1 of Deployment default/b. All of it: portcullis why default/new"
	if got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	// The longest names that there can be still leave it an event (k8s.io/api/events/v1: Note of up to 1kB).
	long := strings.Repeat("n", 253)
	many := slices.Repeat([]report.Taken{{Node: "node-1", Wanted: claim("*:9000/TCP"), Holder: "Deployment default/b", Pod: "default/b-1"}}, 5000)
	if got := report.WaitsFor("default/new", many); len(got) > 1024 || !strings.Contains(got, ", on 49") || !strings.HasSuffix(got, "portcullis why default/new") {
		t.Errorf("%d bytes: %s", len(got), got)
	}
	huge := report.Taken{Node: long, Wanted: claim("*:9000/TCP"), Holder: "Deployment " + long[:63] + "/" + long, Pod: long[:63] + "/" + long}
	if got := report.WaitsFor(long[:63]+"/"+long, []report.Taken{huge, huge}); len(got) > 1024 {
		t.Errorf("%d bytes: %s", len(got), got)
	}
	if !(web.Compare(bare) < 0 && bare.Compare(owned) < 0 && owned.Compare(owned) == 0) {
		t.Error("not in order of port and node")
	}
}
