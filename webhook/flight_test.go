package webhook

import (
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"

	"github.com/portcullis-k8s/portcullis/pkg/extract"
)

// TestInFlightTime: how long an answer holds its port where the cluster never shows the object.
func TestInFlightTime(t *testing.T) {
	service := creates("Service", nodePortService("a", 30001))
	pod := creates("Pod", with(hostPortPod("a", 30001), onNode("n1")))
	for _, c := range []struct {
		name  string
		path  string
		req   admissionv1.AdmissionRequest
		after time.Duration
		held  bool
	}{
		{"at once", PathMutateServices, service, 0, true},
		{"just before the end", PathMutateServices, service, askedTime - 1, true},
		{"at the end", PathMutateServices, service, askedTime, false},
		{"validated, at once", PathValidateServices, service, 0, true},
		{"validated, when the mutating webhook's answer would end", PathValidateServices, service, askedTime, true},
		{"validated, just before the end", PathValidateServices, service, passedTime - 1, true},
		{"validated, at the end", PathValidateServices, service, passedTime, false},
		{"a pod without host ports on request is held from its validation on", PathMutatePods, pod, 0, false},
		{"a pod, just before the end", PathValidatePods, pod, passedTime - 1, true},
		{"a pod, at the end", PathValidatePods, pod, passedTime, false},
		{"a template, just before the end", PathValidateWorkload, creates("DaemonSet", workload("DaemonSet", "a", 30001)), passedTime - 1, true},
		{"a template, at the end", PathValidateWorkload, creates("DaemonSet", workload("DaemonSet", "a", 30001)), passedTime, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, "")
			if r := b.ask(t, c.path, c.req); !r.Allowed {
				t.Fatal(r.Result)
			}
			b.pass(c.after)
			got := outcome(b.decideOn(t, PathMutateServices, dryRun(creates("Service", nodePortService("b", 30001)))))
			if held := strings.HasPrefix(got, "deny: PC0201"); held != c.held {
				t.Errorf("another Service: %s", got)
			}
			if !c.held && len(b.flight.wanted) > 0 {
				t.Error("what has ended is still remembered")
			}
		})
	}
}

// TestRefusalEndsTheAnswerInFlight: what the mutating webhook let through is forgotten once the validating one refuses it.
func TestRefusalEndsTheAnswerInFlight(t *testing.T) {
	b := newBench(t, "")
	req := creates("Service", nodePortService("a", 30001))
	b.ask(t, PathMutateServices, req)
	b.holds(hostPortPod("p", 30001))
	if r := b.ask(t, PathValidateServices, req); r.Allowed || len(b.flight.wanted) != 0 {
		t.Errorf("allowed %v, in flight %v", r.Allowed, b.flight.wanted)
	}
}

// TestInFlightIsProlonged: an object that comes again is held from then on, and the first end changes nothing.
func TestInFlightIsProlonged(t *testing.T) {
	b := newBench(t, "")
	req := creates("Service", nodePortService("a", 30001))
	b.ask(t, PathMutateServices, req)
	b.pass(askedTime / 2)
	b.ask(t, PathMutateServices, req)
	b.pass(askedTime / 2)
	b.decide()()
	if len(b.flight.wanted) != 1 {
		t.Fatal("the first end has dropped the second answer")
	}
	b.pass(askedTime / 2)
	b.decide()()
	if n := len(b.flight.wanted) + len(b.flight.queue[asked]); n != 0 {
		t.Errorf("%d entries are left", n)
	}
}

// TestGenerateName: before the API server has made a name, the Service's nodePort stands for it. Two such Services get
// two nodePorts, and the validating webhook, which sees the name, replaces the one by the other.
func TestGenerateName(t *testing.T) {
	b := newBench(t, "allocateFrom: 30100-30101\n")
	seen := map[string]bool{}
	for range 2 {
		seen[patched(b.decideOn(t, PathMutateServices, creates("Service", with(nodePortService("a", 0), unnamed))).patches)] = true
	}
	if !seen["/spec/ports/0/nodePort=30100"] || !seen["/spec/ports/0/nodePort=30101"] {
		t.Fatalf("two Services in flight get %v", seen)
	}
	named := with(nodePortService("a", 30100), unnamed)
	named.Name = "a-x7x9z"
	if got := outcome(b.decideOn(t, PathValidateServices, creates("Service", named))); got != "allow" {
		t.Fatal(got)
	}
	shown := extract.Service(named, b.settings.NodePorts)
	if _, _, known := b.flight.ledger.Snapshot().Owner(shown.Owner.Ref); !known || len(b.flight.wanted) != 2 {
		t.Errorf("in flight: %v", b.flight.wanted)
	}
	// On a dry run the answer of a request that is under way is kept.
	other := with(nodePortService("a", 30101), unnamed)
	other.Name = "a-y8y8y"
	b.decideOn(t, PathValidateServices, dryRun(creates("Service", other)))
	if len(b.flight.wanted) != 2 {
		t.Error("a dry run has ended the answer of another request")
	}
}

// TestSettleTheNewVersion: an update is held until the cluster shows what it brings, not what was there before.
func TestSettleTheNewVersion(t *testing.T) {
	b := newBench(t, "")
	old, now := nodePortService("a", 30001), nodePortService("a", 30002)
	b.ask(t, PathValidateServices, updates("Service", now, old))
	before, after := extract.Service(old, b.settings.NodePorts), extract.Service(now, b.settings.NodePorts)
	b.Settle(before.Owner.Ref, before.Claims, false)
	if len(b.flight.wanted) != 1 {
		t.Fatal("dropped by an event about the version before")
	}
	b.Settle(after.Owner.Ref, after.Claims, false)
	if len(b.flight.wanted) != 0 {
		t.Error("still in flight although the cluster shows it")
	}
	b.Settle(after.Owner.Ref, after.Claims, false) // again: nothing is waited for
}

// TestSettleLessThanWanted: a Service that is shown with a part of its ports is still in flight.
func TestSettleLessThanWanted(t *testing.T) {
	b := newBench(t, "")
	b.ask(t, PathValidateServices, creates("Service", nodePortService("a", 30001, 30002)))
	part := extract.Service(nodePortService("a", 30001), b.settings.NodePorts)
	b.Settle(part.Owner.Ref, part.Claims, false)
	if len(b.flight.wanted) != 1 {
		t.Error("dropped although one nodePort is not shown")
	}
}

// TestNothingToHold: an object without ports is not remembered.
func TestNothingToHold(t *testing.T) {
	b := newBench(t, "")
	b.ask(t, PathValidateServices, creates("Service", with(nodePortService("a", 0), serviceType("ClusterIP"))))
	b.ask(t, PathValidatePods, creates("Pod", hostPortPod("p", 0)))
	b.ask(t, PathValidateWorkload, creates("Deployment", workload("Deployment", "d")))
	if len(b.flight.wanted)+len(b.flight.queue[passed]) != 0 {
		t.Errorf("in flight: %v", b.flight.wanted)
	}
}

// TestRaceForOnePort: of many that come at the same moment for one nodePort one gets it.
func TestRaceForOnePort(t *testing.T) {
	b := newBench(t, oneFree)
	const n = 20
	patches, explicit := make(chan string, n), make(chan string, n)
	for i := range n {
		name := string(rune('a' + i))
		go func() {
			patches <- patched(b.decideOn(t, PathMutateServices, creates("Service", nodePortService(name, 0))).patches)
		}()
		go func() {
			explicit <- outcome(b.decideOn(t, PathMutateServices, creates("Service", nodePortService("x"+name, 30005))))
		}()
	}
	given, allowed := 0, 0
	for range n {
		if <-patches != "" {
			given++
		}
		if <-explicit == "allow" {
			allowed++
		}
	}
	if given != 1 || allowed != 1 {
		t.Errorf("%d got the only free nodePort, %d the same explicit one", given, allowed)
	}
}
