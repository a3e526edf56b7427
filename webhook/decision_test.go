package webhook

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// causes are the causes of a refusal, as "field code".
func causes(status *metav1.Status) []string {
	var list []string
	if status != nil && status.Details != nil {
		for _, c := range status.Details.Causes {
			open := strings.LastIndex(c.Message, "(PC")
			list = append(list, c.Field+" "+strings.TrimSuffix(c.Message[open+1:], ")"))
		}
	}
	return list
}

// TestEnforcementModes: Deny refuses, Warn lets pass with a warning, Audit only writes into the audit log, whichever
// webhook finds it.
func TestEnforcementModes(t *testing.T) {
	held := creates("Service", nodePortService("a", 30001))
	daemons := creates("Pod", hostPortPod("p", 10250))
	inRange := creates("Pod", hostPortPod("p", 30009))
	template := creates("Deployment", workload("Deployment", "d", 10250))
	for _, c := range []struct {
		name, config string
		path         string
		req          admissionv1.AdmissionRequest
		code         int32
		causes       []string
		warnings     int
		codes        string
	}{
		{"Deny by severity", "", hooks.PathMutateServices, held, 422, []string{"spec.ports[0].nodePort PC0201"}, 0, "PC0201"},
		{"Warn", "enforcement: {PC0201: Warn}\n", hooks.PathMutateServices, held, 200, nil, 1, "PC0201"},
		{"Audit", "enforcement: {PC0201: Audit}\n", hooks.PathMutateServices, held, 200, nil, 0, "PC0201"},
		{"Deny by severity", "", hooks.PathValidateServices, held, 422, []string{"spec.ports[0].nodePort PC0201"}, 0, "PC0201"},
		{"Audit", "enforcement: {PC0201: Audit}\n", hooks.PathValidateServices, held, 200, nil, 0, "PC0201"},
		{"Deny by severity", "", hooks.PathMutatePods, daemons, 422, []string{"spec.containers[0].ports[0].hostPort PC0302"}, 0, "PC0302"},
		{"Deny by severity", "", hooks.PathValidatePods, daemons, 422, []string{"spec.containers[0].ports[0].hostPort PC0302"}, 0, "PC0302"},
		{"Warn by severity", "", hooks.PathValidatePods, inRange, 200, nil, 1, "PC0303"},
		{"Deny a warning", "enforcement: {PC0303: Deny}\n", hooks.PathValidatePods, inRange, 422, []string{"spec.containers[0].ports[0].hostPort PC0303"}, 0, "PC0303"},
		{"Audit a warning", "enforcement: {PC0303: Audit}\n", hooks.PathValidatePods, inRange, 200, nil, 0, "PC0303"},
		{"Deny by severity", "", hooks.PathValidateWorkload, template, 422, []string{"spec.template.spec.containers[0].ports[0].hostPort PC0302"}, 0, "PC0302"},
		{"Warn", "enforcement: {PC0302: Warn}\n", hooks.PathValidateWorkload, template, 200, nil, 1, "PC0302"},
		{"from before is not denied", "", hooks.PathValidateWorkload, updates("Deployment", workload("Deployment", "d", 10250), workload("Deployment", "d", 10250)), 200, nil, 1, "PC0302"},
		{"from before is audited", "enforcement: {PC0302: Audit}\n", hooks.PathValidateWorkload, updates("Deployment", workload("Deployment", "d", 10250), workload("Deployment", "d", 10250)), 200, nil, 0, "PC0302"},
		{"denied beside a warning", "", hooks.PathValidatePods, creates("Pod", with(hostPortPod("p", 10250), func(p *corev1.Pod) {
			p.Spec.Containers = append(p.Spec.Containers, hostPortPod("", 30009).Spec.Containers...)
		})), 422, []string{"spec.containers[0].ports[0].hostPort PC0302"}, 1, "PC0302,PC0303"},
		{"nothing found", "", hooks.PathMutateServices, creates("Service", nodePortService("a", 30005)), 200, nil, 0, ""},
	} {
		t.Run(c.path+" "+c.name, func(t *testing.T) {
			r := newBench(t, c.config).holds(nodePortService("b", 30001)).ask(t, c.path, c.req)
			if code(r) != c.code || r.Allowed != (c.code == 200) || len(r.Warnings) != c.warnings || r.AuditAnnotations["codes"] != c.codes {
				t.Errorf("%d, warnings %q, annotations %v", code(r), r.Warnings, r.AuditAnnotations)
			}
			if diff := cmp.Diff(c.causes, causes(r.Result)); diff != "" {
				t.Errorf("causes (-want +got):\n%s", diff)
			}
			if c.code == 422 && r.Result.Reason != metav1.StatusReasonInvalid {
				t.Errorf("reason %s", r.Result.Reason)
			}
		})
	}
}

// TestRefusalNamesTheObject: clients print the kind and name of the object that was refused.
func TestRefusalNamesTheObject(t *testing.T) {
	req := creates("Deployment", workload("Deployment", "d", 10250))
	req.Name = "d"
	r := newBench(t, "").ask(t, hooks.PathValidateWorkload, req)
	if d := r.Result.Details; d.Name != "d" || d.Group != "apps" || d.Kind != "Deployment" {
		t.Errorf("%+v", d)
	}
}

// TestEvidence: a refusal tells who gets the packets, where that can be told.
func TestEvidence(t *testing.T) {
	for _, c := range []struct {
		name string
		held runtime.Object
		told bool
	}{
		{"a hostPort", with(hostPortPod("p", 30001), onNode("n1")), true},
		{"a nodePort", nodePortService("b", 30001), false},
	} {
		r := newBench(t, "").holds(c.held).ask(t, hooks.PathMutateServices, creates("Service", nodePortService("a", 30001)))
		if strings.Contains(r.Result.Message, "; this Service gets all packets") != c.told {
			t.Errorf("%s: %q", c.name, r.Result.Message)
		}
	}
}

// TestUncertain: onUncertain decides about what cannot be judged. A client may retry in a second what is refused so.
func TestUncertain(t *testing.T) {
	uncertain := func(b *bench) decision { return couldNotTell(b.settings, "why") }
	busy := func(b *bench) decision { return later(b.settings, "why") }
	for _, c := range []struct {
		name, config string
		decision     func(*bench) decision
		code         int32
		reason       metav1.StatusReason
		warnings     int
	}{
		{"Deny", "", uncertain, http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable, 0},
		{"Warn", "onUncertain: Warn\n", uncertain, http.StatusOK, "", 1},
		{"later, Deny", "", busy, http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests, 0},
		{"later, Warn", "onUncertain: Warn\n", busy, http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := c.decision(newBench(t, c.config)).response(admissionRequest(creates("Pod", hostPortPod("p", 80))))
			if code(r) != c.code || r.Allowed != (c.code == http.StatusOK) || len(r.Warnings) != c.warnings {
				t.Errorf("%+v", r)
			}
			if !r.Allowed && (r.Result.Reason != c.reason || r.Result.Details.RetryAfterSeconds != 1 || !strings.Contains(r.Result.Message, "why")) {
				t.Errorf("%+v", r.Result)
			}
		})
	}
}

// TestMalformed: what no API server sends is a 400 from every webhook, whatever onUncertain says.
func TestMalformed(t *testing.T) {
	service, pod, deployment := nodePortService("a", 0), hostPortPod("p", 80), workload("Deployment", "d", 80)
	edit := func(req admissionv1.AdmissionRequest, edit func(*admissionv1.AdmissionRequest)) admissionv1.AdmissionRequest {
		edit(&req)
		return req
	}
	status := func(r *admissionv1.AdmissionRequest) { r.SubResource = "status" }
	empty := func(r *admissionv1.AdmissionRequest) { r.Object.Raw = nil }
	otherKind := func(r *admissionv1.AdmissionRequest) { r.Object.Raw = []byte(`{"kind":"Secret","apiVersion":"v1"}`) }
	for _, c := range []struct {
		name string
		path []string
		req  admissionv1.AdmissionRequest
	}{
		{"no JSON", []string{hooks.PathMutateServices, hooks.PathValidateServices}, creates("Service", "{")},
		{"wrong type", []string{hooks.PathMutateServices, hooks.PathValidateServices}, creates("Service", `{"spec":{"ports":"all"}}`)},
		{"empty", []string{hooks.PathMutateServices, hooks.PathValidateServices}, edit(creates("Service", service), empty)},
		{"another kind in the body", []string{hooks.PathMutateServices, hooks.PathValidateServices}, edit(creates("Service", service), otherKind)},
		{"old object is no JSON", []string{hooks.PathMutateServices, hooks.PathValidateServices}, updates("Service", service, "{")},
		{"a subresource", []string{hooks.PathMutateServices, hooks.PathValidateServices}, edit(creates("Service", service), status)},
		{"another resource", []string{hooks.PathMutateServices, hooks.PathValidateServices}, creates("Pod", pod)},
		{"no JSON", []string{hooks.PathMutatePods, hooks.PathValidatePods}, creates("Pod", "[")},
		{"empty", []string{hooks.PathMutatePods, hooks.PathValidatePods}, edit(creates("Pod", pod), empty)},
		{"another kind in the body", []string{hooks.PathMutatePods, hooks.PathValidatePods}, edit(creates("Pod", pod), otherKind)},
		{"a subresource", []string{hooks.PathMutatePods, hooks.PathValidatePods}, edit(creates("Pod", pod), status)},
		{"another resource", []string{hooks.PathMutatePods, hooks.PathValidatePods}, creates("Service", service)},
		{"no JSON", []string{hooks.PathValidateWorkload}, creates("Deployment", "nothing")},
		{"empty", []string{hooks.PathValidateWorkload}, edit(creates("Deployment", deployment), empty)},
		{"old object is no JSON", []string{hooks.PathValidateWorkload}, updates("Deployment", deployment, "{")},
		{"a kind without a pod template", []string{hooks.PathValidateWorkload}, creates("ConfigMap", `{"metadata":{"name":"c"}}`)},
		{"a kind that is not known", []string{hooks.PathValidateWorkload}, edit(creates("Deployment", deployment), func(r *admissionv1.AdmissionRequest) { r.Kind.Kind = "Widget" })},
		{"a ReplicationController without a template", []string{hooks.PathValidateWorkload}, creates("ReplicationController", &corev1.ReplicationController{})},
		{"no JSON", []string{hooks.PathValidateBindings}, creates("Binding", "{")},
	} {
		for _, path := range c.path {
			for _, config := range []string{"", "onUncertain: Warn\n"} {
				b := newBench(t, config)
				if r := b.ask(t, path, c.req); code(r) != http.StatusBadRequest || r.Allowed || len(r.Patches) > 0 {
					t.Errorf("%s %s, %q: %+v", path, c.name, config, r)
				}
				if len(b.flight.owners) != 0 {
					t.Errorf("%s %s: in flight", path, c.name)
				}
			}
		}
	}
}

// TestServiceOtherOperations: the rules send no other operations, and if one comes it passes.
func TestServiceOtherOperations(t *testing.T) {
	for _, path := range []string{hooks.PathMutateServices, hooks.PathValidateServices} {
		r := newBench(t, "").ask(t, path, request("Service", admissionv1.Delete, nodePortService("a", 20000), nil))
		if !r.Allowed || len(r.Patches) > 0 {
			t.Errorf("%s: %+v", path, r)
		}
	}
}

// podWithWarnings has n hostPorts in the node port range.
func podWithWarnings(n int) *corev1.Pod {
	return with(hostPortPod("p", 0), func(p *corev1.Pod) {
		p.Spec.Containers = nil
		for i := range n {
			p.Spec.Containers = append(p.Spec.Containers, hostPortPod("", int32(30000+i)).Spec.Containers...)
		}
	})
}

// TestWarningsLimit: the API server drops warnings beyond 4,096 characters, so that there are few enough, and the last
// one counts the others.
func TestWarningsLimit(t *testing.T) {
	for _, c := range []struct{ findings, most int }{{1, 1}, {maxSpoken, maxSpoken}, {maxSpoken + 1, maxSpoken + 1}, {500, maxSpoken + 1}} {
		r := newBench(t, "").ask(t, hooks.PathValidatePods, creates("Pod", podWithWarnings(c.findings)))
		length := 0
		for _, w := range r.Warnings {
			length += utf8.RuneCountInString(w)
		}
		if !r.Allowed || len(r.Warnings) == 0 || len(r.Warnings) > c.most || length > 4096 {
			t.Errorf("%d findings: %d warnings of %d characters", c.findings, len(r.Warnings), length)
		}
		told := slices.DeleteFunc(slices.Clone(r.Warnings), func(w string) bool { return !strings.Contains(w, "PC0303") })
		if left := c.findings - len(told); left > 0 && r.Warnings[len(r.Warnings)-1] != fmt.Sprintf("and %d more", left) {
			t.Errorf("%d findings: the last of %d warnings is %q", c.findings, len(r.Warnings), r.Warnings[len(r.Warnings)-1])
		}
	}
}

// TestWarningsLimitByLength: few long warnings are cut as well.
func TestWarningsLimitByLength(t *testing.T) {
	s := settingsOf(t, "")
	d := decision{settings: s, verdict: check.Warned}
	for range maxSpoken {
		d.findings = append(d.findings, check.Finding{Code: check.InNodePorts, Severity: check.Warning, Field: strings.Repeat("x", 250)})
	}
	warnings := d.warnings()
	length := 0
	for _, w := range warnings {
		length += utf8.RuneCountInString(w)
	}
	if n := len(warnings); length > 4096 || n < 2 || warnings[n-1] != fmt.Sprintf("and %d more", maxSpoken-n+1) {
		t.Errorf("%d warnings of %d characters, the last %q", n, length, warnings[n-1])
	}
}

// TestCausesLimit: a refusal has a cause for each of the first findings, and its message counts the others.
func TestCausesLimit(t *testing.T) {
	for _, n := range []int{1, 2, maxSpoken, maxSpoken + 5} {
		r := newBench(t, "enforcement: {PC0303: Deny}\n").ask(t, hooks.PathValidatePods, creates("Pod", podWithWarnings(n)))
		if got := len(causes(r.Result)); got != min(n, maxSpoken) {
			t.Errorf("%d findings: %d causes", n, got)
		}
		if more := fmt.Sprintf("\nand %d more", n-1); strings.HasSuffix(r.Result.Message, more) != (n > 1) {
			t.Errorf("%d findings: %q", n, r.Result.Message)
		}
	}
}

// TestRefusalsAreBounded: whatever a client sends, the answer is short, and nothing of it is remembered or counted by its name.
func TestRefusalsAreBounded(t *testing.T) {
	long := strings.Repeat("x", 1<<16)
	wide := with(podWithWarnings(300), onNode("n1"))
	for i := range wide.Spec.Containers {
		wide.Spec.Containers[i].Ports[0].HostIP = "no address"
	}
	for _, c := range []struct {
		name string
		pod  *corev1.Pod
	}{
		{"many ports", podWithWarnings(300)},
		{"many ports that are nothing", wide},
		{"a long annotation", with(hostPortPod("p", 30001), annotated("portcullis.dev/host-port."+long, "auto"))},
		{"a long value", with(hostPortPod("p", 30001), annotated("portcullis.dev/host-port.p", long))},
		{"a long address", with(hostPortPod("p", 30001), hostIP(long))},
		{"a long node", with(hostPortPod("p", 30001), onNode(long))},
		{"a long namespace", with(hostPortPod("p", 30001), func(p *corev1.Pod) { p.Namespace = long })},
		{"a long container", with(hostPortPod("p", 30001), func(p *corev1.Pod) { p.Spec.Containers[0].Name = long })},
		{"letters of four bytes", with(hostPortPod("p", 30001), hostIP(strings.Repeat("\U0001F600", 1<<14)))},
	} {
		b := newBench(t, "enforcement: {PC0303: Deny}\n").holds(nodePortService("s", 30001))
		count := func() string {
			families, err := b.registry.Gather()
			if err != nil {
				t.Fatal(err)
			}
			series := 0
			for _, f := range families {
				series += len(f.GetMetric())
			}
			owners, claims, _ := b.flight.ledger.Snapshot().Size()
			return fmt.Sprint(series, owners, claims, len(b.flight.queue), len(b.flight.owners), len(b.flight.latest), len(b.repeats.byNumber))
		}
		var once string
		for i := range 10 {
			c.pod.Name = fmt.Sprint("p", i)
			response := b.ask(t, hooks.PathValidatePods, creates("Pod", c.pod))
			if response.Allowed {
				t.Fatalf("%s is let through", c.name)
			}
			if size, first := len(raw(response.AdmissionResponse)), strings.SplitN(response.Result.Message, "\n", 2)[0]; size > 32<<10 || utf8.RuneCountInString(first) > report.MaxSentence {
				t.Fatalf("%s: an answer of %d bytes, whose first line has %d characters", c.name, size, utf8.RuneCountInString(first))
			}
			if i == 0 {
				once = count()
			}
		}
		if again := count(); again != once {
			t.Errorf("%s: %s after one refusal, %s after ten", c.name, once, again)
		}
	}
}

// TestDisclosure: with SameNamespace a client is told no name of another namespace; the log and the audit log are.
func TestDisclosure(t *testing.T) {
	for _, c := range []struct {
		config, namespace string
		want              string // in what the client is told
		hidden            bool
	}{
		{"", "default", "Service default/s", false},
		{"", "other", "Service default/s", false},
		{"disclosure: SameNamespace\n", "default", "Service default/s", false},
		{"disclosure: SameNamespace\n", "other", "is held by an object in another namespace (request 7-7) on every node; choose another hostPort", true},
	} {
		b := newBench(t, c.config).holds(nodePortService("s", 30001))
		pod := hostPortPod("p", 30001)
		pod.Namespace = c.namespace
		req := creates("Pod", pod)
		req.UID, req.Namespace = "7-7", c.namespace
		response := b.ask(t, hooks.PathValidatePods, req)
		told := response.Result.Message + strings.Join(response.Warnings, " ")
		for _, cause := range response.Result.Details.Causes {
			told += " " + cause.Message
		}
		if !strings.Contains(told, c.want) || strings.Contains(told, "default/s") == c.hidden {
			t.Errorf("%q in %s: %s", c.config, c.namespace, told)
		}
		if !strings.Contains(response.AuditAnnotations["message"], "Service default/s") {
			t.Errorf("%q in %s: the audit log has %v", c.config, c.namespace, response.AuditAnnotations)
		}
	}
}

// TestDisclosureOfSeveral: of several who hold a port together, each of another namespace is hidden and each of one's own named.
func TestDisclosureOfSeveral(t *testing.T) {
	mine, theirs, more := hostPortPod("q", 8080), hostPortPod("r", 8080), hostPortPod("s", 8080)
	mine.Namespace, theirs.Namespace, more.Namespace = "other", "hidden-1", "hidden-2"
	mine.Spec.NodeName, theirs.Spec.NodeName, more.Spec.NodeName = "n1", "n2", "n3"
	b := newBench(t, "disclosure: SameNamespace\n").holds(node("n1"), node("n2"), node("n3"), mine, theirs, more)
	pod := hostPortPod("p", 8080)
	pod.Namespace = "other"
	req := creates("Pod", pod)
	req.UID, req.Namespace = "7-7", "other"
	response := b.ask(t, hooks.PathValidatePods, req)
	told := fmt.Sprint(response.Result, response.Warnings)
	if response.Allowed || !strings.Contains(told, "another namespace (request 7-7)") || strings.Contains(told, "hidden-") {
		t.Errorf("told %s", told)
	}
	if message := response.AuditAnnotations["message"]; !strings.Contains(message, "hidden-") {
		t.Errorf("the audit log has %q", message)
	}
}
