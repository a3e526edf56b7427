package scheduling

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
	"sigs.k8s.io/yaml"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
)

// The moment at which policies are judged in these tests.
const today = "2026-11-21T00:00:00Z"

// withPolicies returns the plugin in a cluster with policies, each the YAML of its spec after its name, and the namespaces
// default and edge, of which edge has the label tier=edge.
func withPolicies(t *testing.T, texts ...string) *PortClaims {
	t.Helper()
	p, h := newPlugin(t, "")
	namespaces := h.factory.Core().V1().Namespaces().Informer().GetStore()
	for name, labels := range map[string]map[string]string{
		"default": {corev1.LabelMetadataName: "default"}, "edge": {corev1.LabelMetadataName: "edge", "tier": "edge"},
	} {
		ns := &corev1.Namespace{}
		ns.Name, ns.Labels = name, labels
		if err := namespaces.Add(ns); err != nil {
			t.Fatal(err)
		}
	}
	now, err := time.Parse(time.RFC3339, today)
	if err != nil {
		t.Fatal(err)
	}
	p.policies = &policies{namespaces: namespaces, now: func() time.Time { return now }, byName: map[string]policy{}}
	for _, text := range texts {
		if err := p.policies.learn(portPolicy(t, text)); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func portPolicy(t *testing.T, text string) *v1alpha1.PortPolicy {
	t.Helper()
	name, spec, _ := strings.Cut(text, " ")
	o := &v1alpha1.PortPolicy{}
	if err := yaml.UnmarshalStrict([]byte("spec: "+spec), o); err != nil {
		t.Fatal(err)
	}
	o.Name, o.UID, o.ResourceVersion = name, types.UID("uid-of-"+name), "10"
	return o
}

// Policies of these tests.
const (
	exporter = `baseline {namespaceSelector: {}, enforcement: Deny, reserved: [{name: node-exporter, ports: [{port: 9100, protocols: [TCP]}], nodeSelector: {}}]}`
	proxy    = `edge {namespaceSelector: {}, enforcement: Deny, reserved: [{name: proxy, ports: [{port: 80, endPort: 90}, {port: 9000, hostIPs: ["127.0.0.1"]}], nodeSelector: {matchLabels: {tier: edge}}}]}`
)

// but is exporter with exceptions.
func but(exceptions string) string {
	return strings.TrimSuffix(exporter, "}") + ", exceptions: [" + exceptions + "]}"
}

func TestPolicies(t *testing.T) {
	const by = "UnschedulableAndUnresolvable: hostPort 9100/TCP by node-exporter (PortPolicy baseline)"
	edge := func(n *nodeInfo) *nodeInfo {
		n.node.Labels = map[string]string{"tier": "edge"}
		return n
	}
	in := func(namespace string) podOption { return func(p *corev1.Pod) { p.Namespace = namespace } }
	labelled := func(p *corev1.Pod) { p.Labels = map[string]string{"app": "exporter"} }
	udp := corev1.ContainerPort{HostPort: 9100, ContainerPort: 80, Protocol: corev1.ProtocolUDP}
	initOnly := pod("init", nil)
	initOnly.Spec.InitContainers = []corev1.Container{{Name: "i", Ports: list(port(9100))}}
	wanted := pod("new", list(port(9100)))
	for _, tt := range []struct {
		name     string
		policies []string
		pod      *corev1.Pod
		node     *nodeInfo
		want     string
	}{
		{"none", nil, wanted, node("n", 1), ""},
		{"on every node", []string{exporter}, wanted, node("n", 1), by},
		{"another number", []string{exporter}, pod("new", list(port(9101))), node("n", 1), ""},
		{"another protocol", []string{exporter}, pod("new", list(udp)), node("n", 1), ""},
		{"a plain init container", []string{exporter}, initOnly, node("n", 1), ""},
		{"the host network", []string{exporter}, pod("new", list(corev1.ContainerPort{ContainerPort: 9100}), hostNetwork), node("n", 1), strings.Replace(by, "hostPort", "hostNetwork port", 1)},
		{"Warn", []string{strings.Replace(exporter, "Deny", "Warn", 1)}, wanted, node("n", 1), ""},
		{"Audit", []string{strings.Replace(exporter, "Deny", "Audit", 1)}, wanted, node("n", 1), ""},
		{"what admission judges", []string{`strict {namespaceSelector: {}, enforcement: Deny, hostPorts: {mode: Forbidden}}`}, wanted, node("n", 1), ""},
		{"another namespace", []string{strings.Replace(exporter, "{}", "{matchLabels: {tier: edge}}", 1)}, wanted, node("n", 1), ""},
		{"its namespace", []string{strings.Replace(exporter, "{}", "{matchLabels: {tier: edge}}", 1)}, pod("new", list(port(9100)), in("edge")), node("n", 1), by},
		{"a namespace that nobody has seen", []string{strings.Replace(exporter, "{}", "{matchLabels: {kubernetes.io/metadata.name: new}}", 1)}, pod("new", list(port(9100)), in("new")), node("n", 1), by},

		{"on a selected node", []string{proxy}, pod("new", list(port(80))), edge(node("n", 1)), "UnschedulableAndUnresolvable: hostPort 80/TCP by proxy (PortPolicy edge)"},
		{"the end of the range", []string{proxy}, pod("new", list(port(90))), edge(node("n", 1)), "UnschedulableAndUnresolvable: hostPort 90/TCP by proxy (PortPolicy edge)"},
		{"on another node", []string{proxy}, pod("new", list(port(80))), node("n", 1), ""},
		{"on its address", []string{proxy}, pod("new", list(at("127.0.0.1", port(9000)))), edge(node("n", 1)), "UnschedulableAndUnresolvable: hostPort 9000/TCP by proxy (PortPolicy edge)"},
		{"on another address", []string{proxy}, pod("new", list(at("127.0.0.2", port(9000)))), edge(node("n", 1)), ""},
		{"beside a pod", []string{proxy}, pod("new", list(port(80))), edge(node("n", 1, pod("a", list(port(80))))), "UnschedulableAndUnresolvable: hostPort 80/TCP by Pod default/a and proxy (PortPolicy edge)"},
		{"two policies, the second for this node", []string{strings.Replace(exporter, "nodeSelector: {}", "nodeSelector: {matchLabels: {tier: core}}", 1), strings.Replace(strings.Replace(exporter, "nodeSelector: {}", "nodeSelector: {matchLabels: {tier: edge}}", 1), "baseline", "second", 1)},
			wanted, edge(node("n", 1)), strings.Replace(by, "baseline", "second", 1)},

		{"an exception for the namespace", []string{but("{name: x, namespaceSelector: {matchLabels: {tier: edge}}, reason: r}")}, pod("new", list(port(9100)), in("edge")), node("n", 1), ""},
		{"of another one", []string{but("{name: x, namespaceSelector: {matchLabels: {tier: edge}}, reason: r}")}, wanted, node("n", 1), by},
		{"for the pod", []string{but("{name: x, objectSelector: {matchLabels: {app: exporter}}, reason: r}")}, pod("new", list(port(9100)), labelled), node("n", 1), ""},
		{"for another pod", []string{but("{name: x, objectSelector: {matchLabels: {app: exporter}}, reason: r}")}, wanted, node("n", 1), by},
		{"for both, and one matches", []string{but("{name: x, namespaceSelector: {matchLabels: {tier: edge}}, objectSelector: {matchLabels: {app: exporter}}, reason: r}")}, pod("new", list(port(9100)), labelled), node("n", 1), by},
		{"that has ended", []string{but(`{name: x, namespaceSelector: {}, reason: r, expiresAt: "` + today + `"}`)}, wanted, node("n", 1), by},
		{"that ends soon", []string{but(`{name: x, namespaceSelector: {}, reason: r, expiresAt: "2026-11-21T00:00:01Z"}`)}, wanted, node("n", 1), ""},
		{"an exception from one policy is none from another", []string{but("{name: x, namespaceSelector: {}, reason: r}"), strings.Replace(exporter, "baseline", "second", 1)}, wanted, node("n", 1), strings.Replace(by, "baseline", "second", 1)},
	} {
		if diff := cmp.Diff(tt.want, place(t, withPolicies(t, tt.policies...), tt.pod, tt.node)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

// revised is a policy after a change, or made again after it was deleted.
func revised(o *v1alpha1.PortPolicy, version string, change func(*v1alpha1.PortPolicy)) *v1alpha1.PortPolicy {
	o = o.DeepCopy()
	o.ResourceVersion = version
	change(o)
	return o
}

func unchanged(*v1alpha1.PortPolicy) {}

func nothingReserved(o *v1alpha1.PortPolicy) { o.Spec.Reserved = nil }

// event is a policy as kube-scheduler tells of it.
func event(t *testing.T, o *v1alpha1.PortPolicy) any {
	t.Helper()
	if o == nil {
		return nil
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		t.Fatal(err)
	}
	return &unstructured.Unstructured{Object: content}
}

func TestPolicyHints(t *testing.T) {
	reserves, edge := portPolicy(t, exporter), portPolicy(t, proxy)
	excepted := revised(reserves, "11", func(o *v1alpha1.PortPolicy) {
		o.Spec.Exceptions = []v1alpha1.PolicyException{{Name: "x", Reason: "r", ObjectSelector: &v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"app": "exporter"}}}}
	})
	plain, elsewhere := node("n", 1).node, node("n", 1).node
	elsewhere.Labels = map[string]string{"tier": "edge"}
	labelled := pod("new", list(port(9100)))
	labelled.Labels = map[string]string{"app": "exporter"}
	wanted, web := pod("new", list(port(9100))), pod("web", list(port(80)))
	for _, tt := range []struct {
		name        string
		hint        func(*PortClaims) fwk.QueueingHintFn
		policy      *v1alpha1.PortPolicy
		pod         *corev1.Pod
		before, now any
		want        fwk.QueueingHint
	}{
		{"deleted", afterPolicy, reserves, wanted, event(t, reserves), nil, fwk.Queue},
		{"a tombstone", afterPolicy, reserves, wanted, cache.DeletedFinalStateUnknown{Obj: event(t, reserves)}, nil, fwk.Queue},
		{"deleted, and another number", afterPolicy, reserves, web, event(t, reserves), nil, fwk.QueueSkip},
		{"deleted, and no host port", afterPolicy, reserves, pod("none", nil), event(t, reserves), nil, fwk.QueueSkip},
		{"no longer reserved", afterPolicy, reserves, wanted, event(t, reserves), event(t, revised(reserves, "11", nothingReserved)), fwk.Queue},
		{"reserved now", afterPolicy, reserves, wanted, event(t, revised(reserves, "9", nothingReserved)), event(t, reserves), fwk.QueueSkip},
		{"another message", afterPolicy, reserves, wanted, event(t, reserves), event(t, revised(reserves, "11", func(o *v1alpha1.PortPolicy) { o.Spec.Message = "m" })), fwk.QueueSkip},
		{"Audit now", afterPolicy, reserves, wanted, event(t, reserves), event(t, revised(reserves, "11", func(o *v1alpha1.PortPolicy) { o.Spec.Enforcement = v1alpha1.Audit })), fwk.Queue},
		{"on fewer nodes", afterPolicy, reserves, wanted, event(t, reserves), event(t, revised(reserves, "11", func(o *v1alpha1.PortPolicy) {
			o.Spec.Reserved[0].NodeSelector = &v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"tier": "edge"}}
		})), fwk.Queue},
		{"an exception for others", afterPolicy, reserves, wanted, event(t, reserves), event(t, excepted), fwk.QueueSkip},
		{"an exception", afterPolicy, reserves, labelled, event(t, reserves), event(t, excepted), fwk.Queue},

		{"a node is no edge any more", afterNode, edge, web, elsewhere, plain, fwk.Queue},
		{"a node is an edge now", afterNode, edge, web, plain, elsewhere, fwk.QueueSkip},
		{"a new edge", afterNode, edge, web, nil, elsewhere, fwk.QueueSkip},
		{"a node of another kind", afterNode, edge, web, nil, plain, fwk.Queue},

		{"the pod has got the label", afterLabels, excepted, labelled, wanted, labelled, fwk.Queue},
		{"the pod has lost the label", afterLabels, excepted, wanted, labelled, wanted, fwk.QueueSkip},
		{"a label that does not matter", afterLabels, reserves, labelled, wanted, labelled, fwk.QueueSkip},
	} {
		p := withPolicies(t)
		if err := p.policies.learn(tt.policy); err != nil {
			t.Fatal(err)
		}
		got, err := tt.hint(p)(klog.Background(), tt.pod, tt.before, tt.now)
		if got != tt.want || err != nil {
			t.Errorf("%s: %v, %v; want %v", tt.name, got, err, tt.want)
		}
		if got, err := tt.hint(p)(klog.Background(), tt.pod, "nonsense", "nonsense"); got != fwk.Queue || err == nil {
			t.Errorf("%s: %v, %v for nonsense; want Queue with an error", tt.name, got, err)
		}
	}
	events, err := withPolicies(t).EventsToRegister(t.Context())
	if err != nil || len(events) != 5 || events[3].Event.Resource != "portpolicies.v1alpha1.portcullis.dev" || events[1].Event.ActionType&fwk.UpdateNodeLabel == 0 {
		t.Errorf("EventsToRegister: %v, %v", events, err)
	}
}

func afterPolicy(p *PortClaims) fwk.QueueingHintFn { return p.afterPolicy }
func afterNode(p *PortClaims) fwk.QueueingHintFn   { return p.afterNode }
func afterLabels(p *PortClaims) fwk.QueueingHintFn { return p.afterLabels }

// TestPoliciesAhead: a pod that a policy's event wakes is not refused by what the event has just said is gone, though the
// plugin's own informer has not heard of it, or hears of older versions still.
func TestPoliciesAhead(t *testing.T) {
	old := portPolicy(t, exporter)
	relaxed := revised(old, "11", nothingReserved)
	strict := revised(old, "12", unchanged)
	again := revised(old, "13", func(o *v1alpha1.PortPolicy) { o.UID = "another" })
	wanted := pod("new", list(port(9100)))
	type step struct {
		what    string
		do      func(p *PortClaims)
		refused bool
	}
	wakes := func(before, now *v1alpha1.PortPolicy) func(*PortClaims) {
		return func(p *PortClaims) {
			if _, err := p.afterPolicy(klog.Background(), wanted, event(t, before), event(t, now)); err != nil {
				t.Fatal(err)
			}
		}
	}
	seen := func(o *v1alpha1.PortPolicy) func(*PortClaims) {
		return func(p *PortClaims) { p.policies.seen(t.Context(), event(t, o)) }
	}
	unseen := func(o *v1alpha1.PortPolicy) func(*PortClaims) {
		return func(p *PortClaims) { p.policies.unseen(t.Context(), event(t, o)) }
	}
	for name, steps := range map[string][]step{
		"deleted": {
			{"the event", wakes(old, nil), false}, {"an old version", seen(old), false}, {"a newer one from before", seen(strict), false},
			{"the informer", unseen(strict), false}, {"made again", seen(again), true},
		},
		"the informer first": {{"the informer", unseen(old), false}, {"the event", wakes(old, nil), false}, {"made again", seen(again), true}},
		"changed": {
			{"the event", wakes(old, relaxed), false}, {"an old version", seen(old), false}, {"the informer", seen(relaxed), false},
			{"changed back", seen(strict), true}, {"the first event again", wakes(old, relaxed), true},
		},
		"made again": {
			{"the event", wakes(old, nil), false}, {"made again", seen(again), true}, {"the event again", wakes(old, nil), true},
			{"the informer of the old one", unseen(old), true}, {"of the new one", unseen(again), false},
		},
		"broken": {
			{"one that the API server would refuse", seen(revised(old, "11", func(o *v1alpha1.PortPolicy) { o.Spec.NamespaceSelector = nil })), false},
			{"mended", seen(strict), true},
		},
	} {
		p := withPolicies(t, exporter)
		p.policies.byName["baseline"] = policy{uid: old.UID, version: old.ResourceVersion, says: p.policies.byName["baseline"].says}
		if place(t, p, wanted, node("n", 1)) == "" {
			t.Fatalf("%s: not refused by the policy", name)
		}
		for _, s := range steps {
			s.do(p)
			if got := place(t, p, wanted, node("n", 1)) != ""; got != s.refused {
				t.Errorf("%s, after %s: refused %v, want %v", name, s.what, got, s.refused)
			}
		}
	}
}

// configured is a handle that knows an API server.
type configured struct {
	*handle
	config *rest.Config
}

func (c configured) KubeConfig() *rest.Config { return c.config }

// TestNewPolicies: what the API server says to the first list decides whether there are policies, none, or no plugin; what
// is listed counts from the first pod on.
func TestNewPolicies(t *testing.T) {
	listed := fmt.Sprintf(`{"kind": "PortPolicyList", "apiVersion": "portcullis.dev/v1alpha1", "metadata": {"resourceVersion": "10"}, "items": [%s]}`, func() string {
		text, err := yaml.YAMLToJSON([]byte("{apiVersion: portcullis.dev/v1alpha1, kind: PortPolicy, metadata: {name: baseline, uid: u, resourceVersion: '10'}, spec: " + strings.TrimPrefix(exporter, "baseline ") + "}"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}())
	for _, tt := range []struct {
		name, answer string
		code         int
		want         string // an error, or what is said of a pod
		events       int
	}{
		{"there are", listed, 200, "UnschedulableAndUnresolvable: hostPort 9100/TCP by node-exporter (PortPolicy baseline)", 5},
		{"no such kind", `{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}`, 404, "", 3},
		{"no right", `{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "code": 403}`, 403,
			"policies: true needs the right to list and watch portpolicies.portcullis.dev: bind the scheduler's user to the ClusterRole portcullis-scheduler-policies, or leave policies out", 0},
		{"trouble", `{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "InternalError", "code": 500}`, 500, "policies: listing portpolicies.portcullis.dev", 0},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			if r.URL.Query().Get("sendInitialEvents") == "true" { // as an API server without WatchList: it is to be listed
				w.WriteHeader(http.StatusUnprocessableEntity)
				_, _ = w.Write([]byte(`{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Invalid", "code": 422}`))
				return
			}
			if r.URL.Query().Get("watch") == "true" {
				w.WriteHeader(200)
				_ = http.NewResponseController(w).Flush()
				<-r.Context().Done()
				return
			}
			w.WriteHeader(tt.code)
			_, _ = w.Write([]byte(tt.answer))
		}))
		ctx, cancel := context.WithCancel(t.Context())
		made, err := New(ctx, &runtime.Unknown{Raw: []byte(`{"policies":true}`)}, configured{newHandle(), &rest.Config{Host: server.URL}})
		said := ""
		if err != nil {
			said = err.Error()
		} else {
			p := made.(*PortClaims)
			said = place(t, p, pod("new", list(port(9100))), node("n", 1))
			if events, err := p.EventsToRegister(ctx); err != nil || len(events) != tt.events {
				t.Errorf("%s: %d events, %v; want %d", tt.name, len(events), err, tt.events)
			}
		}
		if !strings.HasPrefix(said, tt.want) || tt.want == "" && said != "" {
			t.Errorf("%s: %q, want %q", tt.name, said, tt.want)
		}
		cancel()
		server.CloseClientConnections()
		server.Close()
	}
}

// TestPolicySigns: pods of two namespaces, or with other labels, may fare differently, but only where there are policies.
func TestPolicySigns(t *testing.T) {
	sign := func(p *PortClaims, options ...podOption) string {
		fragments, status := p.SignPod(t.Context(), pod("new", list(port(9100)), options...))
		if !status.IsSuccess() || len(fragments) != 1 {
			t.Fatalf("%v, %v", fragments, status)
		}
		return fmt.Sprint(fragments[0].Value)
	}
	elsewhere := func(p *corev1.Pod) { p.Namespace = "edge" }
	labelled := func(p *corev1.Pod) { p.Labels = map[string]string{"app": "exporter"} }
	plain, _ := newPlugin(t, "")
	for name, option := range map[string]podOption{"another namespace": elsewhere, "a label": labelled} {
		if sign(plain) != sign(plain, option) {
			t.Errorf("%s makes a difference without policies", name)
		}
		if p := withPolicies(t, exporter); sign(p) == sign(p, option) {
			t.Errorf("%s makes no difference with policies", name)
		}
	}
}
