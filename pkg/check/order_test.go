package check_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
)

// everything returns all that is held in all scenes, each object once, and all that is judged in them.
func everything() (held, judged []string) {
	owners := map[ports.Ref]bool{}
	for _, table := range []map[check.Code][]scene{found(), silent()} {
		for _, code := range slices.Sorted(maps.Keys(table)) {
			for _, s := range table[code] {
				judged = append(judged, s.now)
				for _, line := range s.held {
					if ref := refOf(line); !owners[ref] {
						owners[ref] = true
						held = append(held, line)
					}
				}
			}
		}
	}
	return held, judged
}

func refOf(line string) ports.Ref {
	service, workload := mustObject(line)
	if service != nil {
		return service.Owner.Ref
	}
	return workload.Owner.Ref
}

// TestOrderOfWrites judges everything against ledgers that were written in random order.
func TestOrderOfWrites(t *testing.T) {
	r := seed.Rand(t)
	held, judged := everything()
	want := verdicts(mustLedger(held...), judged)
	if len(want) < len(judged) {
		t.Fatalf("only %d findings about %d objects prove little", len(want), len(judged))
	}
	for range 20 {
		shuffled := slices.Clone(held)
		r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		l := mustLedger(shuffled[len(shuffled)/2:]...)
		for _, line := range shuffled { // half of them a second time, and some have gone meanwhile
			if r.IntN(3) == 0 {
				l.Release(refOf(line))
			}
			hold(l, line)
		}
		if diff := cmp.Diff(want, verdicts(l, judged)); diff != "" {
			t.Fatalf("written in the order %q (-want +got):\n%s", shuffled, diff)
		}
	}
}

// verdicts says of everything judged what is found, to the last detail.
func verdicts(l *ledger.Ledger, judged []string) []string {
	var all []string
	for _, line := range judged {
		in := check.Input{Held: l.Snapshot(), Settings: settings()}
		in.Service, in.Workload = mustObject(line)
		findings := check.Check(in)
		for i, text := range spoken(findings) {
			f := findings[i]
			text = fmt.Sprintf("%s: %s, %s", line, text, f.Claim)
			if f.Holder != nil {
				text += fmt.Sprintf(" against %s, %d pods", f.Holder.Claim, f.Holder.Pods)
			}
			all = append(all, text)
		}
	}
	return all
}

// TestFindingsAreSorted as a person counts.
func TestFindingsAreSorted(t *testing.T) {
	var line, held string
	var want []string
	for i := range 12 {
		line += fmt.Sprintf(" %d:%d/TCP", i+1, 30000+i)
		want = append(want, fmt.Sprintf("PC0201 error spec.ports[%d].nodePort < Service b spec.ports[%d].nodePort", i, i))
	}
	held = "Service b NodePort" + line
	scene{why: "ports[2] before ports[10]", held: []string{held}, now: "Service a NodePort" + line, want: want}.play(t, "")
}

// TestTenThousandPorts judges pods that are written to be slow to judge. There is no limit to hold them to but the
// patience of whoever runs the tests: a check that compares port by port would exhaust it.
func TestTenThousandPorts(t *testing.T) {
	const n = 10_000
	one := func(i int) ports.Address {
		return ports.OneAddress(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}))
	}
	wildcards := []ports.Address{ports.AllIPv6(), ports.AllIPv4(), ports.AllAddresses()}
	for _, c := range []struct {
		why    string
		socket func(i int) ports.Socket
	}{
		{"one number each", func(i int) ports.Socket { return ports.Socket{Protocol: ports.TCP, Port: uint16(i + 1)} }},
		{"one number, an address each", func(i int) ports.Socket { return ports.Socket{Address: one(i), Protocol: ports.TCP, Port: 80} }},
		{"addresses, then wildcards", func(i int) ports.Socket {
			if i > n/2 {
				return ports.Socket{Address: wildcards[i%3], Protocol: ports.TCP, Port: 80}
			}
			return ports.Socket{Address: one(i), Protocol: ports.TCP, Port: 80}
		}},
		{"one socket", func(int) ports.Socket { return ports.Socket{Protocol: ports.TCP, Port: 80} }},
	} {
		workload := func(owner string, scope ports.Scope) *check.Workload {
			w := &check.Workload{Owner: mustOwner(owner)}
			w.IsPod = w.Owner.Kind == "Pod"
			for i := range n {
				w.Claims = append(w.Claims, ports.Claim{
					Socket: c.socket(i), Kind: ports.HostPort, Scope: scope, Owner: &w.Owner, Field: fmt.Sprintf("ports[%d].hostPort", i),
				})
			}
			return w
		}
		l := mustLedger()
		for _, w := range []*check.Workload{
			workload("Deployment b", ports.Scope{}), workload("Pod b-x < Deployment b", ports.NodeScope("n1")),
			workload("Deployment a", ports.Scope{}),
		} {
			l.Replace(w.Owner, w.Claims)
			l.Replace(w.Owner, w.Claims) // as every event of the pod does
		}
		for i := range 1000 {
			hold(l, fmt.Sprintf("Pod c-%d < DaemonSet c: hostPort * 80/TCP @m%d", i, i))
		}
		for _, owner := range []string{"Pod a", "Pod a-x < Deployment a", "DaemonSet d"} {
			w := workload(owner, ports.NodeScope("n1"))
			if owner == "DaemonSet d" {
				w = workload(owner, ports.EverywhereScope())
			}
			start := time.Now()
			findings := check.Check(check.Input{Workload: w, OldWorkload: w, Held: l.Snapshot(), Settings: settings()})
			t.Logf("%s, %s: %d findings in %s", c.why, owner, len(findings), time.Since(start))
			isHeld := func(f check.Finding) bool {
				return slices.ContainsFunc(f.Holders(), func(h check.Holder) bool { return h.Name == "b" })
			}
			if !slices.ContainsFunc(findings, isHeld) {
				t.Errorf("%s, %s: the holder is not found", c.why, owner)
			}
		}
	}
}
