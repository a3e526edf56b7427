package check_test

import (
	"testing"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// TestDaemonOfSomeNodes: where no node is known, one that has the daemon may be among them; of those that are known, it is asked.
func TestDaemonOfSomeNodes(t *testing.T) {
	settings := &check.Settings{Reserved: []check.Reserved{{Name: "kube-scheduler", Socket: ports.MustParseSocket("*:10259/TCP"), NodeLabel: "control-plane"}}}
	labels := map[string]map[string]string{"worker": {}, "first": {"control-plane": ""}}
	for _, c := range []struct {
		nodes []string
		want  int
	}{{nil, 1}, {[]string{"worker"}, 0}, {[]string{"first"}, 1}, {[]string{"first", "worker"}, 1}} {
		var held ledger.Ledger
		for _, node := range c.nodes {
			held.ReplaceNode(node, nil)
		}
		daemons := &check.Workload{Claims: []ports.Claim{{Socket: ports.MustParseSocket("*:10259/TCP"), Kind: ports.HostPort, Scope: ports.EverywhereScope()}}}
		findings := check.Check(check.Input{
			Workload: daemons, Held: held.Snapshot(), Settings: settings, NodeLabels: func(node string) map[string]string { return labels[node] },
		})
		if len(findings) != c.want {
			t.Errorf("nodes %q: %v", c.nodes, findings)
		}
	}
}
