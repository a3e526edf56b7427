package webhook

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// chosen returns the numbers that an answer writes.
func chosen(t *testing.T, r admission.Response) map[string]float64 {
	t.Helper()
	numbers := map[string]float64{}
	for _, p := range r.Patches {
		n, err := json.Marshal(p.Value)
		var value float64
		if err != nil || json.Unmarshal(n, &value) != nil {
			t.Fatalf("patch %v", p)
		}
		numbers[p.Path] = value
	}
	return numbers
}

func TestAnswersInFlight(t *testing.T) {
	b := newBench(t, "allocateFrom: 30100-30101\n")
	first := b.ask(t, hooks.PathMutateServices, request("Service", admissionv1.Create, nodePortService("a", 0), nil))
	second := b.ask(t, hooks.PathMutateServices, request("Service", admissionv1.Create, nodePortService("b", 0), nil))
	a, c := chosen(t, first)["/spec/ports/0/nodePort"], chosen(t, second)["/spec/ports/0/nodePort"]
	if a+c != 30100+30101 {
		t.Fatalf("two Services in flight got %v and %v", a, c)
	}
	// The same Service asked again, by reinvocation or after a conflict in etcd, gets the same.
	if again := chosen(t, b.ask(t, hooks.PathMutateServices, request("Service", admissionv1.Create, nodePortService("a", 0), nil))); again["/spec/ports/0/nodePort"] != a {
		t.Errorf("asked again: %v, had %v", again, a)
	}
	// Nothing is free: the field stays as it is, and the API server chooses.
	if third := b.ask(t, hooks.PathMutateServices, request("Service", admissionv1.Create, nodePortService("c", 0), nil)); !third.Allowed || len(third.Patches) > 0 {
		t.Errorf("nothing free: %+v", third)
	}
}

func TestRefusedByTheValidatingHookIsNotRemembered(t *testing.T) {
	b := newBench(t, "")
	b.holds(hostPortPod("p", 30100))
	r := b.ask(t, hooks.PathValidateServices, request("Service", admissionv1.Create, nodePortService("a", 30100), nil))
	if code(r) != http.StatusUnprocessableEntity || len(b.flight.owners) != 0 {
		t.Errorf("%+v, in flight %v", r.Result, b.flight.owners)
	}
}

func TestNeverChooses(t *testing.T) {
	b := newBench(t, "allocateFrom: 30100-30105\nnodePortRange: 30000-32767\nnodeReserved: [{name: daemon, port: 30101}]\n")
	b.holds(hostPortPod("p", 30100))
	s := extract.Service(nodePortService("s", 30102), b.settings.NodePorts)
	b.cluster.ledger.Replace(s.Owner, s.Claims)
	lb := nodePortService("lb", 30200)
	lb.Spec.Type, lb.Spec.HealthCheckNodePort = corev1.ServiceTypeLoadBalancer, 30103
	lb.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	l := extract.Service(lb, b.settings.NodePorts)
	b.cluster.ledger.Replace(l.Owner, l.Claims)
	b.ask(t, hooks.PathMutateServices, request("Service", admissionv1.Create, nodePortService("flying", 30104), nil))
	got := chosen(t, b.ask(t, hooks.PathMutateServices, request("Service", admissionv1.Create, nodePortService("a", 0), nil)))
	if got["/spec/ports/0/nodePort"] != 30105 {
		t.Errorf("chose %v, want 30105, the only one that no hostPort, daemon, nodePort, healthCheckNodePort or answer in flight holds", got)
	}
}

func TestAllocation(t *testing.T) {
	load := func(local bool) *corev1.Service {
		s := nodePortService("lb", 0)
		s.Spec.Type = corev1.ServiceTypeLoadBalancer
		if local {
			s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		}
		return s
	}
	without := load(false)
	without.Spec.AllocateLoadBalancerNodePorts = new(bool)
	clusterIP := nodePortService("c", 0)
	clusterIP.Spec.Type = corev1.ServiceTypeClusterIP
	dns := nodePortService("dns", 0, 0)
	dns.Spec.Ports[1].Port, dns.Spec.Ports[1].Protocol = dns.Spec.Ports[0].Port, corev1.ProtocolUDP
	half := dns.DeepCopy()
	half.Spec.Ports[0].NodePort = 30555
	for _, c := range []struct {
		name    string
		config  string
		object  *corev1.Service
		dryRun  bool
		paths   []string
		numbers int // distinct
	}{
		{"one", "", nodePortService("a", 0), false, []string{"/spec/ports/0/nodePort"}, 1},
		{"three", "", nodePortService("a", 0, 0, 0), false, []string{"/spec/ports/0/nodePort", "/spec/ports/1/nodePort", "/spec/ports/2/nodePort"}, 3},
		{"the one left out", "", nodePortService("a", 30001, 0), false, []string{"/spec/ports/1/nodePort"}, 1},
		{"none left out", "", nodePortService("a", 30001), false, nil, 0},
		{"dry run", "", nodePortService("a", 0), true, nil, 0},
		{"left to the API server", "allocateFrom: none\n", nodePortService("a", 0), false, nil, 0},
		{"no node ports", "", clusterIP, false, nil, 0},
		{"load balancer", "", load(false), false, []string{"/spec/ports/0/nodePort"}, 1},
		{"load balancer with health check", "", load(true), false, []string{"/spec/healthCheckNodePort", "/spec/ports/0/nodePort"}, 2},
		{"load balancer without node ports", "", without, false, nil, 0},
		{"DNS", "", dns, false, []string{"/spec/ports/0/nodePort", "/spec/ports/1/nodePort"}, 1},
		{"DNS, half given", "", half, false, []string{"/spec/ports/1/nodePort"}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, c.config)
			req := request("Service", admissionv1.Create, c.object, nil)
			req.DryRun = &c.dryRun
			r := b.ask(t, hooks.PathMutateServices, req)
			got, distinct := map[string]bool{}, map[float64]bool{}
			for path, n := range chosen(t, r) {
				got[path], distinct[n] = true, true
				if n < 30086 && c.object.Spec.Ports[0].NodePort == 0 {
					t.Errorf("%s is %v, below the dynamic band", path, n)
				}
			}
			want := map[string]bool{}
			for _, p := range c.paths {
				want[p] = true
			}
			if diff := cmp.Diff(want, got); diff != "" || len(distinct) != c.numbers {
				t.Errorf("%d numbers, want %d; paths (-want +got):\n%s", len(distinct), c.numbers, diff)
			}
			if c.dryRun && len(b.flight.owners) > 0 {
				t.Error("a dry run is remembered")
			}
		})
	}
}

func TestCarryOver(t *testing.T) {
	b := newBench(t, "")
	old := nodePortService("a", 30100, 30101)
	now := nodePortService("a", 0, 0, 0)
	now.Spec.Ports[0], now.Spec.Ports[1] = now.Spec.Ports[1], now.Spec.Ports[0]
	got := chosen(t, b.ask(t, hooks.PathMutateServices, request("Service", admissionv1.Update, now, old)))
	if got["/spec/ports/0/nodePort"] != 30101 || got["/spec/ports/1/nodePort"] != 30100 || got["/spec/ports/2/nodePort"] == 0 {
		t.Errorf("%v, want the numbers of p1 and p0, and a new one", got)
	}
	// A number that another entry took over is not given twice.
	now = nodePortService("a", 30101, 0)
	got = chosen(t, b.ask(t, hooks.PathMutateServices, request("Service", admissionv1.Update, now, old)))
	if n := got["/spec/ports/1/nodePort"]; n == 30101 || n == 0 {
		t.Errorf("chose %v", got)
	}
}

func TestCouldNotTell(t *testing.T) {
	for _, c := range []struct {
		config  string
		allowed bool
		code    int32
		warned  int
	}{
		{"", false, http.StatusServiceUnavailable, 0},
		{"onUncertain: Warn\n", true, http.StatusOK, 1},
	} {
		b := newBench(t, c.config)
		b.cluster.incomplete = true
		for path := range b.Hooks() {
			r := b.ask(t, path, request("Pod", admissionv1.Create, hostPortPod("p", 80), nil))
			if r.Allowed != c.allowed || code(r) != c.code || len(r.Warnings) != c.warned {
				t.Errorf("%s with %q: %+v", path, c.config, r)
			}
			if !c.allowed && r.Result.Details.RetryAfterSeconds != 1 {
				t.Errorf("%s: no time to retry after: %+v", path, r.Result)
			}
		}
	}
}

func TestEnforcement(t *testing.T) {
	for config, want := range map[string]struct {
		allowed  bool
		warnings int
	}{
		"":                               {false, 0},
		"enforcement: {PC0302: Warn}\n":  {true, 1},
		"enforcement: {PC0302: Audit}\n": {true, 0},
	} {
		b := newBench(t, config)
		r := b.ask(t, hooks.PathValidatePods, request("Pod", admissionv1.Create, hostPortPod("p", 10250), nil))
		if r.Allowed != want.allowed || len(r.Warnings) != want.warnings || r.AuditAnnotations["codes"] != "PC0302" {
			t.Errorf("%q: %+v", config, r)
		}
	}
}

// TestTooManySockets: a small manifest can name millions of sockets, which nobody may make the webhook look at. What is stored
// already may change, and its other ports are known.
func TestTooManySockets(t *testing.T) {
	s := nodePortService("s")
	for i := range 2000 {
		s.Spec.ExternalIPs = append(s.Spec.ExternalIPs, fmt.Sprintf("10.0.%d.%d", i/256, i%256))
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: fmt.Sprint(i), Port: int32(1 + i), Protocol: corev1.ProtocolTCP, NodePort: int32(30000 + i)})
	}
	fewer := s.DeepCopy()
	fewer.Spec.ExternalIPs = fewer.Spec.ExternalIPs[:1999]
	for _, c := range []struct {
		why, config string
		old         *corev1.Service
		allowed     bool
	}{
		{"a new one", "", nil, false},
		{"as configured", "onUncertain: Warn\n", nil, true},
		{"as many as before", "", s, true},
		{"more than before", "", fewer, false},
		{"none before", "", nodePortService("s", 30000), false},
	} {
		for _, path := range []string{hooks.PathMutateServices, hooks.PathValidateServices} {
			b := newBench(t, c.config)
			req := request("Service", admissionv1.Create, s, nil)
			if c.old != nil {
				req = request("Service", admissionv1.Update, s, c.old)
			}
			r := b.ask(t, path, req)
			told := strings.Join(r.Warnings, "")
			if !r.Allowed {
				told = r.Result.Message
			}
			isTold := !r.Allowed || path == hooks.PathValidateServices // once is enough
			if r.Allowed != c.allowed || isTold && !strings.HasSuffix(told, "name 4000000 sockets, and no more than 10000 are looked at; split the Service into several") {
				t.Errorf("%s, %s: %v %q", c.why, path, r.Allowed, told)
			}
			if path == hooks.PathValidateServices && c.allowed {
				b.holds(hostPortPod("p", 30000))
				if r := b.ask(t, path, req); c.old == nil && r.Allowed {
					t.Errorf("%s: its other ports are not judged: %+v", c.why, r)
				}
			}
			if !r.Allowed && (code(r) != http.StatusServiceUnavailable || r.Result.Details != nil) {
				t.Errorf("%s, %s: %+v, which clients repeat", c.why, path, r.Result)
			}
		}
	}
	if claims := extract.Service(s, newBench(t, "").settings.NodePorts).Claims; len(claims) != 2000 {
		t.Errorf("%d claims, want those of the node ports alone", len(claims))
	}
}

func TestMetricsAreWellNamed(t *testing.T) {
	b := newBench(t, "")
	b.ask(t, hooks.PathMutateServices, request("Service", admissionv1.Create, nodePortService("a", 0), nil))
	b.ask(t, hooks.PathValidatePods, request("Pod", admissionv1.Create, hostPortPod("p", 10250), nil))
	problems, err := testutil.GatherAndLint(b.registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}

// TestPodIsFilledOnce: what the hook wrote it does not write again.
func TestPodIsFilledOnce(t *testing.T) {
	b := newBench(t, "")
	p := hostPortPod("p", 8080)
	p.Spec.Containers[0].Ports[0].Protocol = ""
	r := b.ask(t, hooks.PathMutatePods, request("Pod", admissionv1.Create, p, nil))
	if len(r.Patches) != 2 {
		t.Fatalf("%v, want hostIP and protocol", r.Patches)
	}
	p.Spec.Containers[0].Ports[0].HostIP, p.Spec.Containers[0].Ports[0].Protocol = "0.0.0.0", corev1.ProtocolTCP
	if r := b.ask(t, hooks.PathMutatePods, request("Pod", admissionv1.Create, p, nil)); len(r.Patches) != 0 {
		t.Errorf("again: %v", r.Patches)
	}
}

func benchHolders(b *bench, pods, nodes, services int) {
	for i := range nodes {
		b.cluster.ledger.ReplaceNode(fmt.Sprintf("node-%d", i), nil)
	}
	for i := range pods {
		p := hostPortPod(fmt.Sprintf("pod-%d", i), int32(9000+i/nodes))
		p.Spec.NodeName = fmt.Sprintf("node-%d", i%nodes)
		b.holds(p)
	}
	for i := range services {
		number := int32(20000 + i*7919%12768) // scattered, as numbers are that somebody chose
		s := extract.Service(nodePortService(fmt.Sprintf("s%d", i), number), b.settings.NodePorts)
		b.cluster.ledger.Replace(s.Owner, s.Claims)
	}
}

// BenchmarkReview times a handler from the decoded review to its answer, in the largest cluster that Kubernetes supports.
func BenchmarkReview(bm *testing.B) {
	b := newBench(bm, "nodePortRange: 20000-32767\n")
	benchHolders(b, 150000, 5000, 10000)
	mine := ports.Ref{APIVersion: "v1", Kind: "Service", Namespace: "default", Name: "new"}
	bm.Run("bound: decode a Pod", func(bm *testing.B) {
		req := admission.Request{AdmissionRequest: request("Pod", admissionv1.Create, hostPortPod("new", 8080), nil)}
		for bm.Loop() {
			if _, _, err := decode[corev1.Pod](req); err != nil {
				bm.Fatal(err)
			}
		}
	})
	for _, c := range []struct {
		name, path string
		req        admissionv1.AdmissionRequest
	}{
		{"mutate a Service without number", hooks.PathMutateServices, request("Service", admissionv1.Create, nodePortService("new", 0), nil)},
		{"validate a Service", hooks.PathValidateServices, request("Service", admissionv1.Create, nodePortService("new", 32767), nil)},
		{"mutate a Pod", hooks.PathMutatePods, request("Pod", admissionv1.Create, hostPortPod("new", 8080), nil)},
		{"validate a Pod", hooks.PathValidatePods, request("Pod", admissionv1.Create, hostPortPod("new", 8080), nil)},
		{"refuse a Pod", hooks.PathValidatePods, request("Pod", admissionv1.Create, hostPortPod("new", 20000+7919), nil)},
	} {
		bm.Run(c.name, func(bm *testing.B) {
			hook := b.Hooks()[c.path]
			for bm.Loop() {
				hook.Handle(bm.Context(), admission.Request{AdmissionRequest: c.req})
				b.forgets(mine)
			}
		})
	}
}

// FuzzHooks sends anything to every hook: the answer may be a refusal, never a panic, and always an answer.
func FuzzHooks(f *testing.F) {
	for _, seed := range []any{nodePortService("a", 0, 30001), hostPortPod("p", 8080), map[string]any{"kind": "Binding", "target": map[string]any{"name": "n"}}} {
		f.Add("Service", "v1", "services", "CREATE", raw(seed), []byte(nil), false)
		f.Add("Pod", "v1", "pods", "UPDATE", raw(seed), raw(seed), true)
		f.Add("Deployment", "v1", "deployments", "UPDATE", raw(seed), raw(seed), false)
	}
	f.Add("Pod", "v1", "pods", "CREATE", []byte(`{"spec":{"containers":[{"ports":[{"hostPort":-1,"protocol":"x"}]}]}}`), []byte(nil), false)
	b := newBench(f, "")
	b.holds(hostPortPod("holder", 8080))
	f.Fuzz(func(t *testing.T, kind, version, resource, operation string, object, old []byte, dryRun bool) {
		for _, group := range []string{"", "apps", "batch"} {
			req := admissionv1.AdmissionRequest{
				Kind: metav1.GroupVersionKind{Group: group, Version: version, Kind: kind}, Operation: admissionv1.Operation(operation),
				Resource: metav1.GroupVersionResource{Group: group, Version: version, Resource: resource}, DryRun: &dryRun,
				Object: runtime.RawExtension{Raw: object}, OldObject: runtime.RawExtension{Raw: old},
			}
			for path, hook := range b.Hooks() {
				r := hook.Handle(t.Context(), admission.Request{AdmissionRequest: req})
				if !r.Allowed && (r.Result == nil || r.Result.Code < 400) {
					t.Errorf("%s: refused without a reason: %+v", path, r)
				}
			}
		}
	})
}
