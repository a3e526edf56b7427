package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/pkg/journal"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// What another Service that wants nodePort 30001 gets.
const (
	free      = "allow"
	contended = "busy: PC0203 spec.ports[0].nodePort"
	byA       = "deny: PC0201 spec.ports[0].nodePort by Service default/a"
)

func (b *bench) another(t *testing.T) string {
	t.Helper()
	return outcome(b.decideOn(t, hooks.PathMutateServices, dryRun(creates("Service", nodePortService("b", 30001)))))
}

// TestInFlight: what the next request for a port gets while an earlier one is under way, by what the API server has of it.
func TestInFlight(t *testing.T) {
	a := nodePortService("a", 30001)
	service, pod := creates("Service", a), creates("Pod", with(hostPortPod("a", 30001), onNode("n1")))
	daemons := creates("DaemonSet", workload("DaemonSet", "a", 30001))
	stored := func(b *bench) { b.stores(a) }
	nothing := func(*bench) {}
	for _, c := range []struct {
		name  string
		path  string
		req   admissionv1.AdmissionRequest
		after time.Duration
		then  func(*bench)
		want  string
	}{
		{"at once", hooks.PathMutateServices, service, 0, nothing, contended},
		{"at once, and it is stored", hooks.PathMutateServices, service, 0, stored, byA},
		{"just before the end of the grace", hooks.PathMutateServices, service, graceTime - 1, nothing, contended},
		{"at its end", hooks.PathMutateServices, service, graceTime, nothing, free},
		{"at its end, and it is stored", hooks.PathMutateServices, service, graceTime, stored, byA},
		{"after minutes, and it is stored", hooks.PathMutateServices, service, time.Hour, stored, byA},
		{"it is stored with another port", hooks.PathMutateServices, service, 0, func(b *bench) { b.stores(nodePortService("a", 30002)) }, contended},
		{"it is stored with another port, at the end", hooks.PathMutateServices, service, graceTime, func(b *bench) { b.stores(nodePortService("a", 30002)) }, free},
		{"it cannot be read", hooks.PathMutateServices, service, 0, func(b *bench) { b.cluster.fails = errors.New("timeout") }, contended},
		{"the watch shows it", hooks.PathMutateServices, service, 0, func(b *bench) { b.holds(a); b.Settle(b.seen(a)) }, byA},
		{"validated", hooks.PathValidateServices, service, graceTime - 1, nothing, contended},
		{"validated, at the end", hooks.PathValidateServices, service, graceTime, nothing, free},
		{"a pod without host ports on request counts from its validation on", hooks.PathMutatePods, pod, 0, nothing, free},
		{"a pod", hooks.PathValidatePods, pod, graceTime - 1, nothing, contended},
		{"a pod, at the end", hooks.PathValidatePods, pod, graceTime, nothing, free},
		{"a template", hooks.PathValidateWorkload, daemons, graceTime - 1, nothing, contended},
		{"a template, at the end", hooks.PathValidateWorkload, daemons, graceTime, nothing, free},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, "")
			if r := b.ask(t, c.path, c.req); !r.Allowed {
				t.Fatal(r.Result)
			}
			b.pass(c.after)
			c.then(b)
			if got := b.another(t); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestNothingStoredIsHidden: whatever is in flight of an object, its stored ports are refused to others.
func TestNothingStoredIsHidden(t *testing.T) {
	a := nodePortService("a", 30001)
	for _, c := range []struct {
		name string
		path string
		req  admissionv1.AdmissionRequest
	}{
		{"created again with another port", hooks.PathMutateServices, creates("Service", nodePortService("a", 30002))},
		{"created again, validated", hooks.PathValidateServices, creates("Service", nodePortService("a", 30002))},
		{"created again without node ports", hooks.PathValidateServices, creates("Service", with(nodePortService("a", 0), serviceType("ClusterIP")))},
		{"updated", hooks.PathMutateServices, updates("Service", nodePortService("a", 30002), a)},
		{"updated, validated", hooks.PathValidateServices, updates("Service", nodePortService("a", 30002), a)},
		{"a review that nobody has sent: it says that the ports were others before", hooks.PathValidateServices, updates("Service", nodePortService("a", 30002), nodePortService("a", 30003))},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, "").holds(a)
			b.ask(t, c.path, c.req)
			if got := b.another(t); got != byA {
				t.Errorf("got  %s\nwant %s", got, byA)
			}
			got := outcome(b.decideOn(t, hooks.PathValidatePods, creates("Pod", hostPortPod("p", 30001))))
			if want := "deny: PC0201 spec.containers[0].ports[0].hostPort by Service default/a"; len(got) < len(want) || got[:len(want)] != want {
				t.Errorf("a pod: got %s\nwant %s", got, want)
			}
		})
	}
}

// TestCreateOfWhatExists: it is left to the API server, which answers 409 AlreadyExists: nothing is filled in, refused or
// remembered.
func TestCreateOfWhatExists(t *testing.T) {
	for _, c := range []struct {
		kind string
		path []string
		held runtime.Object
		now  runtime.Object
	}{
		{"Service", []string{hooks.PathMutateServices, hooks.PathValidateServices}, nodePortService("a", 30001), nodePortService("a", 0)},
		{"Service", []string{hooks.PathMutateServices, hooks.PathValidateServices}, nodePortService("a", 30001), nodePortService("a", 30002)},
		{"Service", []string{hooks.PathMutateServices, hooks.PathValidateServices}, nodePortService("a", 30001), nodePortService("a", 30005)},
		{"Pod", []string{hooks.PathMutatePods, hooks.PathValidatePods}, hostPortPod("a", 80), with(hostPortPod("a", 81), protocol(""))},
		{"Pod", []string{hooks.PathMutatePods, hooks.PathValidatePods}, hostPortPod("a", 80), hostPortPod("a", 30005)},
		{"Deployment", []string{hooks.PathValidateWorkload}, workload("Deployment", "a", 80), workload("Deployment", "a", 30005)},
	} {
		for _, stands := range []string{"shown", "stored and not shown", "shown and gone"} {
			for _, path := range c.path {
				t.Run(c.kind+path+", "+stands, func(t *testing.T) {
					b := newBench(t, "").holds(nodePortService("holder", 30005))
					switch stands {
					case "stored and not shown": // this webhook has let it through
						b.decideOn(t, c.path[len(c.path)-1], creates(c.kind, c.held))
						b.stores(c.held)
					case "shown and gone":
						b.holds(c.held)
						b.deletes(c.held)
					default:
						b.holds(c.held)
					}
					before := b.flight.version
					d := b.decideOn(t, path, creates(c.kind, c.now))
					untouched := outcome(d) == "allow" && len(d.patches) == 0 && b.flight.version == before
					nothing := path == hooks.PathValidateServices && len(b.seen(c.now).Claims) == 0 // to be remembered
					if untouched != (stands != "shown and gone" || nothing) {
						t.Errorf("%s, patches %q, %d more in flight", outcome(d), patched(d.patches), b.flight.version-before)
					}
				})
			}
		}
	}
}

// TestHolderIsReadBeforeARefusal: the watch may be late with the end of a holder. One that cannot be read is as it was seen.
func TestHolderIsReadBeforeARefusal(t *testing.T) {
	a := nodePortService("a", 30001)
	for _, c := range []struct {
		name string
		then func(*bench)
		want string
	}{
		{"it is there", func(*bench) {}, byA},
		{"it is gone", func(b *bench) { b.deletes(a) }, free},
		{"it has another port now", func(b *bench) { b.stores(nodePortService("a", 30002)) }, free},
		{"it cannot be read", func(b *bench) { b.cluster.fails = errors.New("timeout") }, byA},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, "").holds(a)
			c.then(b)
			if got := b.another(t); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if n := len(b.cluster.reads); n != 1 {
				t.Errorf("%d reads, want 1", n)
			}
		})
	}
	b := newBench(t, "").holds(a)
	for i := range 2 * maxHolders {
		gone := hostPortPod(fmt.Sprint("p", i), int32(31000+i))
		b.holds(gone)
		b.deletes(gone)
	}
	var all []int32
	for i := range 2 * maxHolders {
		all = append(all, int32(31000+i))
	}
	if got := outcome(b.decideOn(t, hooks.PathMutateServices, creates("Service", nodePortService("many", all...)))); got != "busy" || len(b.cluster.reads) > maxHolders {
		t.Errorf("%d holders that are gone: %s after %d reads", 2*maxHolders, got, len(b.cluster.reads))
	}
}

// TestInFlightIsReadAgain: what is stored in the next moment is refused by its holder's name, and nobody has to try again.
func TestInFlightIsReadAgain(t *testing.T) {
	b := newBench(t, "")
	b.ask(t, hooks.PathMutateServices, creates("Service", nodePortService("a", 30001)))
	b.wait = func(context.Context, time.Duration) bool {
		b.waits.Add(1)
		b.stores(nodePortService("a", 30001))
		return true
	}
	if got := b.another(t); got != byA || b.waits.Load() != 1 {
		t.Errorf("%s after %d waits", got, b.waits.Load())
	}
	last := newBench(t, "")
	last.ask(t, hooks.PathMutateServices, creates("Service", nodePortService("a", 30001)))
	last.wait = func(context.Context, time.Duration) bool {
		if last.waits.Add(1) == int32(len(rereads())) {
			last.stores(nodePortService("a", 30001))
		}
		return true
	}
	if got := last.another(t); got != byA {
		t.Errorf("stored before the last time that it is read: %s", got)
	}
	b.deletes(nodePortService("a", 30001))
	b.wait = func(context.Context, time.Duration) bool { return false }
	if got := b.another(t); got != contended {
		t.Errorf("when there is no time to wait: %s", got)
	}
}

// TestShownWhileRead: a holder that was not stored when it was asked for, and is shown before the answer comes, is there.
func TestShownWhileRead(t *testing.T) {
	a := nodePortService("a", 30001)
	for _, c := range []struct {
		name  string
		while func(*bench)
		want  string
	}{
		{"it is stored and shown", func(b *bench) { b.stores(a).holds(a); b.Settle(b.seen(a)) }, byA},
		{"it is withdrawn", func(b *bench) { b.forgets(b.seen(a).Owner.Ref) }, free},
	} {
		b := newBench(t, "")
		b.ask(t, hooks.PathMutateServices, creates("Service", a))
		reads := 0
		b.cluster.reading = func() {
			if reads++; reads == 1 {
				c.while(b)
			}
		}
		b.deletes(a) // the answer is from before
		if got := b.another(t); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// TestSettle: which state of an object is the outcome of a write, so that the write need not be remembered any longer.
func TestSettle(t *testing.T) {
	service := func(uid types.UID, version string, nodePorts ...int32) *corev1.Service {
		return with(nodePortService("a", nodePorts...), func(s *corev1.Service) { s.UID, s.ResourceVersion = uid, version })
	}
	withoutUID := creates("Service", service("", "", 30001)) // as the mutating webhook sees it
	create, update := creates("Service", service("2", "", 30001)), updates("Service", service("2", "7", 30001), service("2", "7", 30002))
	for _, c := range []struct {
		name    string
		req     admissionv1.AdmissionRequest
		shown   *corev1.Service
		gone    bool
		settled bool
	}{
		{"the object", create, service("2", "8", 30001), false, true},
		{"with more ports", create, service("2", "8", 30001, 30003), false, true},
		{"with other ports", create, service("2", "8", 30002), false, false},
		{"with a part of them", creates("Service", service("2", "", 30001, 30002)), service("2", "8", 30001), false, false},
		{"the one before it, of the same name", create, service("1", "8", 30001), false, false},
		{"the one before it is gone", create, service("1", "8", 30001), true, false},
		{"itself is gone", create, service("2", "8", 30001), true, false},
		{"one of the name: it may be the one before it", withoutUID, service("1", "8", 30001), false, false},
		{"the new version", update, service("2", "8", 30001), false, true},
		{"the old version", update, service("2", "7", 30002), false, false},
		{"an older version, with the same ports", update, service("2", "6", 30001), false, false},
		{"a version between them", update, service("2", "8", 30002), false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, "")
			b.ask(t, hooks.PathValidateServices, c.req)
			seen := b.seen(c.shown)
			seen.Gone = c.gone
			b.Settle(seen)
			b.Settle(seen) // again: nothing changes
			if settled := len(b.flight.owners) == 0; settled != c.settled {
				t.Errorf("settled %v, want %v", settled, c.settled)
			}
			if owners, _, _ := b.flight.ledger.Snapshot().Size(); (owners == 0) != c.settled {
				t.Errorf("%d owners in the ledger", owners)
			}
		})
	}
}

// TestSeveralWritesToOneObject: each counts until it is settled by itself, and those of one request count once.
func TestSeveralWritesToOneObject(t *testing.T) {
	b := newBench(t, "")
	versions := func(nodePort int32, version string) *corev1.Service {
		return with(nodePortService("a", nodePort), func(s *corev1.Service) { s.UID, s.ResourceVersion = "1", version })
	}
	b.ask(t, hooks.PathMutateServices, creates("Service", nodePortService("a", 30001)))
	b.ask(t, hooks.PathValidateServices, creates("Service", versions(30001, "")))
	b.ask(t, hooks.PathValidateServices, updates("Service", versions(30002, "5"), versions(30001, "5")))
	if n := len(b.flight.owners[b.seen(versions(1, "")).Owner.Ref].writes); n != 2 {
		t.Fatalf("%d writes, want 2: the create, and the update", n)
	}
	b.Settle(b.seen(versions(30001, "5")))
	b.stores(versions(30001, "5")) // nothing of the update yet
	taken := func(nodePort int32) string {
		return outcome(b.decideOn(t, hooks.PathMutateServices, dryRun(creates("Service", nodePortService("b", nodePort)))))
	}
	if got := taken(30002); got != contended {
		t.Errorf("the update's nodePort: %s", got)
	}
	for i := range int32(3 * maxOwnerWrites) {
		b.ask(t, hooks.PathValidateServices, updates("Service", versions(30100+i, "5"), versions(30001, "5")))
	}
	if n := len(b.flight.owners[b.seen(versions(1, "")).Owner.Ref].writes); n != maxOwnerWrites {
		t.Errorf("%d writes of one object are remembered, want %d", n, maxOwnerWrites)
	}
}

// TestRefusalDropsOnlyItsOwn: what the mutating webhook let through is forgotten once the validating one refuses it; what is
// in flight of the same object by another request is not.
func TestRefusalDropsOnlyItsOwn(t *testing.T) {
	b := newBench(t, "")
	req := creates("Service", nodePortService("a", 30001))
	b.ask(t, hooks.PathMutateServices, req)
	b.holds(hostPortPod("p", 30001))
	if r := b.ask(t, hooks.PathValidateServices, req); r.Allowed || len(b.flight.owners) != 0 {
		t.Errorf("allowed %v, in flight %v", r.Allowed, b.flight.owners)
	}
	first := with(nodePortService("c", 30003), func(s *corev1.Service) { s.UID = "1" })
	b.ask(t, hooks.PathValidateServices, creates("Service", first))
	b.ask(t, hooks.PathMutateServices, creates("Service", nodePortService("c", 30001)))
	if _, _, known := b.flight.ledger.Snapshot().Owner(b.seen(first).Owner.Ref); !known {
		t.Error("a create of the same name that was refused has dropped the first one")
	}
}

// TestNoGraceForFailures: a namespace whose writes fail again and again keeps no port from others.
func TestNoGraceForFailures(t *testing.T) {
	b := newBench(t, "")
	create := func(i int) {
		b.ask(t, hooks.PathValidateServices, creates("Service", nodePortService(fmt.Sprint("a", i), 30001)))
	}
	for i := range maxFailures {
		create(i)
		if got := b.another(t); got != contended {
			t.Fatalf("after %d failures: %s", i, got)
		}
		b.pass(graceTime)
		b.sweep(t.Context())
	}
	create(maxFailures)
	b.pass(shortGrace)
	if got := b.another(t); got != free {
		t.Errorf("after %d failures: %s", maxFailures, got)
	}
	other := with(nodePortService("o", 30001), inNamespace("other"))
	b.ask(t, hooks.PathValidateServices, creates("Service", other))
	if got := b.another(t); got != contended {
		t.Errorf("of another namespace: %s", got)
	}
	b.pass(failureTime)
	create(maxFailures + 1)
	if got := b.another(t); got != contended {
		t.Errorf("after %v: %s", failureTime, got)
	}
	for i := range 2 * maxNamespaces {
		b.flight.failed(fmt.Sprint(i), 1)
	}
	if n := len(b.flight.failures); n > maxNamespaces {
		t.Errorf("failures of %d namespaces are counted", n)
	}
}

// TestRepeatedRequest: a request that fails and is repeated keeps its port for one grace, not for one each time.
func TestRepeatedRequest(t *testing.T) {
	b := newBench(t, "")
	wasFree := 0
	for range 40 {
		b.ask(t, hooks.PathMutateServices, creates("Service", nodePortService("a", 30001)))
		b.pass(time.Second)
		b.sweep(t.Context())
		if b.another(t) == free {
			wasFree++
		}
	}
	if wasFree < 3 {
		t.Errorf("the port was free %d of 40 times", wasFree)
	}
	if n := b.flight.failures["default"].n; n < 3 {
		t.Errorf("%d failures are counted", n)
	}
}

// TestNamesThatCannotBe: the API server refuses a name after the mutating webhooks: nothing is remembered of it, and what
// cannot be read is not held for ever.
func TestNamesThatCannotBe(t *testing.T) {
	for _, name := range []string{"a%b", "a/b", "..", strings.Repeat("a", maxName+1)} {
		b := newBench(t, "")
		for path, req := range map[string]admissionv1.AdmissionRequest{
			hooks.PathMutateServices:   creates("Service", nodePortService(name, 30001)),
			hooks.PathMutatePods:       creates("Pod", with(hostPortPod(name, 30001), onNode("n1"))),
			hooks.PathValidateWorkload: creates("Deployment", workload("Deployment", name, 30001)),
		} {
			if got := outcome(b.decideOn(t, path, req)); got != "allow" || len(b.flight.owners) > 0 {
				t.Errorf("%.10s, %s: %s, in flight %v", name, path, got, b.flight.owners)
			}
		}
		if name == ".." {
			continue // with something behind it, it can be read
		}
		generated := with(nodePortService(name, 30001), unnamed)
		b.ask(t, hooks.PathMutateServices, creates("Service", generated))
		if len(b.flight.owners) > 0 {
			t.Errorf("%.10s-: in flight %v", name, b.flight.owners)
		}
	}
	b := newBench(t, "")
	b.ask(t, hooks.PathValidateServices, creates("Service", nodePortService("a", 30001)))
	b.cluster.fails = errors.New("forbidden")
	for range maxUnread + 1 {
		b.pass(graceTime)
		b.sweep(t.Context())
	}
	if len(b.flight.owners) > 0 {
		t.Error("what can never be read is remembered for ever")
	}
	b.ask(t, hooks.PathValidateServices, creates("Service", nodePortService("a", 30001)))
	b.pass(graceTime)
	if got := b.another(t); got != contended {
		t.Errorf("older than the grace, and cannot be read: %s", got)
	}
}

// TestCoversManyAddresses: one object may have thousands of addresses on one port, and all wait for the answer.
func TestCoversManyAddresses(t *testing.T) {
	var all []ports.Claim
	for i := range 30000 {
		address := netip.AddrFrom4([4]byte{127, byte(i >> 16), byte(i >> 8), byte(i)})
		all = append(all, ports.Claim{Kind: ports.HostPort, Socket: ports.Socket{Address: ports.MustParseSocket(address.String() + ":80/TCP").Address, Protocol: ports.TCP, Port: 80}})
	}
	looked := testing.AllocsPerRun(1, func() {
		if !covers(all, all) || covers(all[1:], all) {
			t.Error("wrong")
		}
	})
	if looked > 1e6 {
		t.Errorf("%v allocations", looked)
	}
}

// TestStart: a replica, leader or not, looks every second for what is overdue, until it is to end.
func TestStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, "")
		if b.NeedLeaderElection() {
			t.Error("the leader alone forgets what is overdue")
		}
		b.ask(t, hooks.PathValidateServices, creates("Service", nodePortService("a", 30001)))
		b.pass(graceTime)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- b.Start(ctx) }()
		time.Sleep(1500 * time.Millisecond)
		cancel()
		if err := <-ended; err != nil || len(b.flight.owners) != 0 {
			t.Errorf("ended with %v, in flight %v", err, b.flight.owners)
		}
	})
}

// TestSweep: what has been in flight for longer than its grace is read, and what the API server does not have is forgotten.
func TestSweep(t *testing.T) {
	b := newBench(t, "")
	a := nodePortService("a", 30001)
	b.ask(t, hooks.PathValidateServices, creates("Service", a))
	b.pass(graceTime - 1)
	b.sweep(t.Context())
	if len(b.cluster.reads) != 0 || len(b.flight.owners) != 1 {
		t.Fatalf("within the grace: reads %v, in flight %v", b.cluster.reads, b.flight.owners)
	}
	b.pass(1)
	b.cluster.fails = errors.New("timeout")
	b.sweep(t.Context())
	if len(b.flight.owners) != 1 {
		t.Fatal("forgotten although it could not be read")
	}
	b.cluster.fails = nil
	b.stores(a)
	b.pass(graceTime)
	b.sweep(t.Context())
	if len(b.flight.owners) != 1 {
		t.Fatal("forgotten although it is stored, and the watch has not shown it")
	}
	b.pass(graceTime)
	b.deletes(a)
	b.sweep(t.Context())
	if len(b.flight.owners) != 0 {
		t.Error("remembered although the API server does not have it")
	}
	for i := range 3 * maxSweep {
		b.ask(t, hooks.PathValidateServices, creates("Service", nodePortService(fmt.Sprint("s", i), int32(30100+i))))
	}
	b.pass(graceTime)
	b.cluster.reads = nil
	b.sweep(t.Context())
	if len(b.cluster.reads) != maxSweep {
		t.Errorf("%d reads at once, want %d", len(b.cluster.reads), maxSweep)
	}
}

// TestFlightIsBounded: whatever clients send, what is remembered ends somewhere, and the newest stays.
func TestFlightIsBounded(t *testing.T) {
	f, nodePorts := newFlight(time.Now), newBench(t, "").settings.NodePorts
	for i := range maxWrites + 100 {
		s := nodePortService(fmt.Sprint("s", i), int32(1+i))
		extracted := extract.Service(s, nodePorts)
		f.record(extracted.Owner, *writeOf(s, nil, extracted.Claims))
	}
	if len(f.owners) > maxWrites || len(f.queue) > maxWrites {
		t.Errorf("%d owners, %d in the queue", len(f.owners), len(f.queue))
	}
}

// TestGenerateName: before the API server has made a name, the Service's nodePort stands for it. Two such Services get
// two nodePorts, and the validating webhook, which sees the name, replaces the one by the other.
func TestGenerateName(t *testing.T) {
	b := newBench(t, "allocateFrom: 30100-30101\n")
	seen := map[string]bool{}
	for range 2 {
		seen[patched(b.decideOn(t, hooks.PathMutateServices, creates("Service", with(nodePortService("a", 0), unnamed))).patches)] = true
	}
	if !seen["/spec/ports/0/nodePort=30100"] || !seen["/spec/ports/0/nodePort=30101"] {
		t.Fatalf("two Services in flight get %v", seen)
	}
	named := with(nodePortService("a", 30100), unnamed)
	named.Name = "a-x7x9z"
	if got := outcome(b.decideOn(t, hooks.PathValidateServices, creates("Service", named))); got != "allow" {
		t.Fatal(got)
	}
	shown := extract.Service(named, b.settings.NodePorts)
	if _, _, known := b.flight.ledger.Snapshot().Owner(shown.Owner.Ref); !known || len(b.flight.owners) != 2 {
		t.Errorf("in flight: %v", b.flight.owners)
	}
	// On a dry run the answer of a request that is under way is kept.
	other := with(nodePortService("a", 30101), unnamed)
	other.Name = "a-y8y8y"
	b.decideOn(t, hooks.PathValidateServices, dryRun(creates("Service", other)))
	if len(b.flight.owners) != 2 {
		t.Error("a dry run has ended the answer of another request")
	}
	// Where another replica was asked about the name, its entry in the journal replaces it.
	other.UID = "1"
	judged := extract.Service(other, b.settings.NodePorts)
	b.Merge([]journal.Entry{{Owner: judged.Owner, UID: other.UID, Claims: judged.Claims}})
	if _, _, known := b.flight.ledger.Snapshot().Owner(judged.Owner.Ref); !known || len(b.flight.owners) != 2 {
		t.Errorf("in flight after another replica's answer: %v", b.flight.owners)
	}
}

// TestGenerateNameAgain: a Service without a name about which the API server asks again, since another webhook has changed it, passes
// with the number that it was given, and beside one that it was not.
func TestGenerateNameAgain(t *testing.T) {
	b := newBench(t, "allocateFrom: \"30100\"\n")
	for _, numbers := range [][]int32{{0, 30007}, {30100, 30007}} {
		d := b.decideOn(t, hooks.PathMutateServices, creates("Service", with(nodePortService("a", numbers...), unnamed)))
		if got := outcome(d); !strings.HasPrefix(got, "allow") {
			t.Errorf("with %d: %s %s", numbers, got, patched(d.patches))
		}
	}
	addressed := with(nodePortService("e", 0), serviceType("ClusterIP"), unnamed, func(s *corev1.Service) { s.Spec.ExternalIPs = []string{"192.0.2.77"} })
	for range 2 {
		if got := outcome(b.decideOn(t, hooks.PathMutateServices, creates("Service", addressed.DeepCopy()))); !strings.HasPrefix(got, "allow") {
			t.Errorf("without a node port: %s", got)
		}
	}
	named := func(name string) *corev1.Service {
		s := with(nodePortService("a", 30100, 30007), unnamed)
		s.Name = name
		return s
	}
	if got := outcome(b.decideOn(t, hooks.PathValidateServices, creates("Service", named("a-x7x9z")))); got != "allow" {
		t.Errorf("with a name: %s", got)
	}
	if got := outcome(b.decideOn(t, hooks.PathValidateServices, creates("Service", named("a-y8y8y")))); !strings.Contains(got, "PC0203") {
		t.Errorf("another one for the same numbers: %s", got)
	}
}

// TestNothingToHold: an object without ports is not remembered.
func TestNothingToHold(t *testing.T) {
	b := newBench(t, "")
	b.ask(t, hooks.PathValidateServices, creates("Service", with(nodePortService("a", 0), serviceType("ClusterIP"))))
	b.ask(t, hooks.PathValidatePods, creates("Pod", hostPortPod("p", 0)))
	b.ask(t, hooks.PathValidateWorkload, creates("Deployment", workload("Deployment", "d")))
	if len(b.flight.owners)+len(b.flight.queue) != 0 {
		t.Errorf("in flight: %v", b.flight.owners)
	}
}

// TestRaceForOnePort: of many that come at the same moment for one nodePort one gets it, and the others try again.
func TestRaceForOnePort(t *testing.T) {
	b := newBench(t, oneFree)
	const n = 20
	patches, explicit := make(chan string, n), make(chan string, n)
	for i := range n {
		name := string(rune('a' + i))
		go func() {
			patches <- patched(b.decideOn(t, hooks.PathMutateServices, creates("Service", nodePortService(name, 0))).patches)
		}()
		go func() {
			explicit <- outcome(b.decideOn(t, hooks.PathMutateServices, creates("Service", nodePortService("x"+name, 30005))))
		}()
	}
	given, outcomes := 0, map[string]int{}
	for range n {
		if <-patches != "" {
			given++
		}
		outcomes[<-explicit]++
	}
	if given != 1 || outcomes["allow"] != 1 || outcomes["busy"]+outcomes[contended] != n-1 {
		t.Errorf("%d got the only free nodePort; of those that wrote one: %v", given, outcomes)
	}
}

// TestManyPorts: nobody waits while a pod with thousands of ports is judged.
func TestManyPorts(t *testing.T) {
	b := newBench(t, "")
	many := hostPortPod("many", 0)
	for i := range int32(5000) {
		many.Spec.Containers[0].Ports = append(many.Spec.Containers[0].Ports, corev1.ContainerPort{ContainerPort: i + 1, HostPort: i + 1, Protocol: corev1.ProtocolTCP})
	}
	judging, judged := make(chan struct{}), make(chan struct{})
	var first atomic.Bool
	b.cluster.judging = func() {
		if first.CompareAndSwap(false, true) {
			close(judging)
			<-judged
		}
	}
	done := make(chan string)
	go func() { done <- outcome(b.decideOn(t, hooks.PathValidatePods, dryRun(creates("Pod", many))))[:4] }()
	<-judging
	if got := b.another(t); got != free {
		t.Errorf("while a pod is judged: %s", got)
	}
	close(judged)
	<-done
}

// TestTakenWhileChosen: nobody waits while a number is chosen, and one that is asked for meanwhile is given to nobody else.
func TestTakenWhileChosen(t *testing.T) {
	for _, c := range []struct {
		name, hook string
		pools      []pool.Pool
		request    admissionv1.AdmissionRequest
		taker      admissionv1.AdmissionRequest
		want       string
	}{
		{
			"a nodePort", hooks.PathMutateServices, nil, creates("Service", nodePortService("a", 0)),
			creates("Service", nodePortService("b", 30100)), "/spec/ports/0/nodePort=30101",
		},
		{
			"a nodePort of a pool", hooks.PathMutateServices, []pool.Pool{portPool("pool", "30100-30101")}, creates("Service", nodePortService("a", 0)),
			creates("Service", nodePortService("b", 30100)), "/spec/ports/0/nodePort=30101",
		},
		{
			"a hostPort", hooks.PathMutatePods, []pool.Pool{portPool("hosts", "9000-9001", forHostPorts)}, creates("Pod", web()),
			creates("DaemonSet", workload("DaemonSet", "d", 9000)),
			"/metadata/annotations/portcullis.dev~1assigned-host-port.web=9001 /spec/containers/0/ports/0/hostIP=0.0.0.0 /spec/containers/0/ports/0/hostPort=9001",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, "allocateFrom: 30100-30101\n")
			if len(c.pools) > 0 {
				b.books(t, c.pools)
			}
			chosen := 0
			b.random = func() string {
				if chosen++; chosen == 1 {
					taker := hooks.PathValidateWorkload
					if isService(admission.Request{AdmissionRequest: c.taker}) {
						taker = hooks.PathValidateServices
					}
					if got := outcome(b.decideOn(t, taker, c.taker)); got != "allow" {
						t.Errorf("while a number is chosen: %s", got)
					}
				}
				return ""
			}
			if got := patched(b.decideOn(t, c.hook, c.request).patches); got != c.want || chosen != 2 {
				t.Errorf("chosen %d times: %q, want %q", chosen, got, c.want)
			}
		})
	}
}

// TestReads: which requests read from the API server, and how much.
func TestReads(t *testing.T) {
	a := nodePortService("a", 30001)
	pod := with(hostPortPod("p", 30005), onNode("n1"))
	for _, c := range []struct {
		name string
		path string
		req  admissionv1.AdmissionRequest
		want int
	}{
		{"a Service is created", hooks.PathMutateServices, creates("Service", nodePortService("b", 30002)), 0},
		{"it is validated", hooks.PathValidateServices, creates("Service", nodePortService("b", 30002)), 0},
		{"a nodePort is chosen", hooks.PathMutateServices, creates("Service", nodePortService("b", 0)), 0},
		{"a Service is updated", hooks.PathMutateServices, updates("Service", nodePortService("a", 30002), a), 0},
		{"a pod is created", hooks.PathValidatePods, creates("Pod", pod), 0},
		{"a template is created", hooks.PathValidateWorkload, creates("DaemonSet", workload("DaemonSet", "d", 30005)), 0},
		{"refused for a holder", hooks.PathMutateServices, creates("Service", nodePortService("b", 30001)), 1},
		{"refused for itself", hooks.PathValidateServices, creates("Service", nodePortService("b", 30001, 30001)), 0},
		{"the name exists", hooks.PathMutateServices, creates("Service", nodePortService("a", 30002)), 1},
		{"the controller's template conflicts, too", hooks.PathValidatePods, creates("Pod", with(hostPortPod("p", 30001), onNode("n1"), controlledBy("ReplicaSet", "rs"))), 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, "").holds(a, node("n1"))
			b.decideOn(t, c.path, c.req)
			if got := len(b.cluster.reads); got != c.want {
				t.Errorf("%d reads, want %d: %v", got, c.want, b.cluster.reads)
			}
		})
	}
}

// TestDryRunsLeaveNothing: nothing is remembered, patched or shared.
func TestDryRunsLeaveNothing(t *testing.T) {
	for _, r := range []struct {
		path string
		req  admissionv1.AdmissionRequest
	}{
		{hooks.PathMutateServices, creates("Service", nodePortService("b", 30002))},
		{hooks.PathMutateServices, creates("Service", nodePortService("b", 0))},
		{hooks.PathValidateServices, creates("Service", nodePortService("b", 30002))},
		{hooks.PathMutatePods, creates("Pod", with(hostPortPod("p", 30005), onNode("n1")))},
		{hooks.PathValidatePods, creates("Pod", with(hostPortPod("p", 30005), onNode("n1")))},
		{hooks.PathValidateWorkload, creates("DaemonSet", workload("DaemonSet", "d", 30005))},
		{hooks.PathValidateScale, scales("Deployment", "w", 0, 1)},
	} {
		b := newBench(t, "").holds(node("n1")).stores(idle("Deployment", "w", 30777))
		j := &recorder{}
		b.UseJournal(j)
		if d := b.decideOn(t, r.path, dryRun(r.req)); len(d.patches)+len(b.flight.owners)+j.n > 0 || d.verdict == check.Denied {
			t.Errorf("%s: %s, patches %q, %d in flight, %d written", r.path, outcome(d), patched(d.patches), len(b.flight.owners), j.n)
		}
	}
}
