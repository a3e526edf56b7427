package check_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
)

// drawn is a workload of TestSymmetry.
type drawn struct {
	line  string
	nodes []string // that its pods may run on; nil: not known
	takes bool     // it has a pod on each of them
}

// drawWorkload draws a workload that wants port 80 on some of four nodes, or where no node is known.
func drawWorkload(r *rand.Rand, name string, known bool) drawn {
	if !known {
		switch r.IntN(3) {
		case 0:
			return drawn{fmt.Sprintf("DaemonSet %s surges 0: hostPort * 80/TCP @every", name), nil, true}
		case 1:
			node := fmt.Sprintf("n%d", 1+r.IntN(4))
			return drawn{fmt.Sprintf("StatefulSet %s runs 1 onehost: hostPort * 80/TCP @%s", name, node), []string{node}, true}
		default:
			return drawn{fmt.Sprintf("Deployment %s rolls 1/0/1: hostPort * 80/TCP @?1", name), nil, false}
		}
	}
	var nodes []string
	for i := range 4 {
		if r.IntN(2) == 0 {
			nodes = append(nodes, fmt.Sprintf("n%d", i+1))
		}
	}
	if nodes == nil {
		nodes = []string{"n1"}
	}
	on := strings.Join(nodes, ",")
	switch r.IntN(4) {
	case 0:
		return drawn{fmt.Sprintf("DaemonSet %s surges 0 on %s: hostPort * 80/TCP @{%s}", name, on, on), nodes, true}
	case 1:
		return drawn{fmt.Sprintf("StatefulSet %s runs 1 onehost on %s: hostPort * 80/TCP @%s", name, nodes[0], nodes[0]), nodes[:1], true}
	case 2:
		return drawn{fmt.Sprintf("Job %s ends 1 on %s: hostPort * 80/TCP @?0{%s}", name, on, on), nodes, false}
	default:
		n := 1 + r.IntN(len(nodes))
		return drawn{fmt.Sprintf("Deployment %s rolls %d/0/1 on %s: hostPort * 80/TCP @?%d{%s}", name, n, on, n, on), nodes, false}
	}
}

// TestSymmetry: of two workloads the later one is refused exactly if it would be in the other order, and that is if one of them
// takes all nodes of the other; what is worse in either order is equally bad.
func TestSymmetry(t *testing.T) {
	r := seed.Rand(t)
	worst := func(held, now drawn) check.Severity {
		var worst check.Severity
		for _, f := range (scene{held: []string{held.line}, now: now.line}).findings() {
			if f.Code == check.WorkloadsMeet || f.Code == check.TooFewNodes {
				worst = max(worst, f.Severity)
			}
		}
		return worst
	}
	seen := map[check.Severity]int{}
	for range seed.Rounds(20_000, 500_000) {
		known := r.IntN(4) > 0
		a, b := drawWorkload(r, "a", known), drawWorkload(r, "b", known)
		one, other := worst(a, b), worst(b, a)
		if one != other {
			t.Fatalf("%q, then %q: %s; the other way round: %s", a.line, b.line, one, other)
		}
		if excludes := takesAll(a, b) || takesAll(b, a); excludes != (one == check.Error) {
			t.Fatalf("%q and %q: %s, but that one takes all nodes of the other is %v", a.line, b.line, one, excludes)
		}
		seen[one]++
	}
	t.Logf("%v", seen)
	if seen[check.Error] == 0 || seen[check.Warning] == 0 || seen[0] == 0 {
		t.Errorf("not all outcomes were drawn: %v", seen)
	}
}

// takesAll reports whether a has pods on all nodes that b's may run on.
func takesAll(a, b drawn) bool {
	if !a.takes {
		return false
	}
	if a.nodes == nil {
		return true // everywhere
	}
	if b.nodes == nil {
		return false
	}
	for _, node := range b.nodes {
		if !strings.Contains(strings.Join(a.nodes, ",")+",", node+",") {
			return false
		}
	}
	return true
}
