package scheduling

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	configv1alpha1 "github.com/portcullis-k8s/portcullis/api/config/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// cluster is what an observer would show.
type cluster struct {
	ledger     ledger.Ledger
	nodes      map[string]*corev1.Node
	pods       map[string]*corev1.Pod
	incomplete bool
}

func (c *cluster) Snapshot() *ledger.Snapshot             { return c.ledger.Snapshot() }
func (c *cluster) IsComplete() bool                       { return !c.incomplete }
func (c *cluster) Node(name string) *corev1.Node          { return c.nodes[name] }
func (c *cluster) Pod(namespace, name string) *corev1.Pod { return c.pods[namespace+"/"+name] }

// UID: the API server has a pod that the watch does not show yet.
func (c *cluster) UID(_ context.Context, ref ports.Ref) (types.UID, error) {
	if ref.Name == "unseen" {
		return "unseen", nil
	}
	return "", nil
}

func (c *cluster) see(pods ...*corev1.Pod) {
	for _, p := range pods {
		w := extract.Pod(p, nil, nil)
		c.ledger.Replace(w.Owner, w.Claims)
		c.pods[p.Namespace+"/"+p.Name] = p
	}
}

type scheduler struct {
	*cluster
	t        *testing.T
	handlers map[string]http.Handler
	metrics  *ExtenderMetrics
	clock    time.Time
}

func newScheduler(t *testing.T, config string) *scheduler {
	t.Helper()
	c, err := configv1alpha1.Load([]byte(config))
	if err != nil {
		t.Fatal(err)
	}
	settings, err := extract.NewSettings(c)
	if err != nil {
		t.Fatal(err)
	}
	s := &scheduler{t: t, clock: time.Unix(1e9, 0), metrics: NewExtenderMetrics(prometheus.NewRegistry()),
		cluster: &cluster{nodes: map[string]*corev1.Node{}, pods: map[string]*corev1.Pod{}}}
	for _, n := range []*nodeInfo{node("n1", 1), node("n2", 1)} {
		s.nodes[n.node.Name] = n.node
	}
	s.handlers = NewExtender(s.cluster, settings, s.metrics, func() time.Time { return s.clock }).Handlers()
	return s
}

func (s *scheduler) ask(path string, question, answer any) {
	s.t.Helper()
	data, err := json.Marshal(question)
	if err != nil {
		s.t.Fatal(err)
	}
	w := httptest.NewRecorder()
	s.handlers[path].ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, bytes.NewReader(data)))
	if err := json.NewDecoder(w.Body).Decode(answer); err != nil || w.Code != http.StatusOK {
		s.t.Fatalf("%s: %d, %v", path, w.Code, err)
	}
}

// filter asks about n1 and n2 by name.
func (s *scheduler) filter(pod *corev1.Pod) extenderv1.ExtenderFilterResult {
	s.t.Helper()
	var answer extenderv1.ExtenderFilterResult
	s.ask(PathFilter, extenderv1.ExtenderArgs{Pod: pod, NodeNames: &[]string{"n1", "n2"}}, &answer)
	for _, failed := range []extenderv1.FailedNodesMap{answer.FailedNodes, answer.FailedAndUnresolvableNodes} {
		for node, reason := range failed {
			failed[node] = withoutVerb(reason)
		}
	}
	return answer
}

func result(names []string, failed, unresolvable extenderv1.FailedNodesMap) extenderv1.ExtenderFilterResult {
	r := extenderv1.ExtenderFilterResult{NodeNames: &names, FailedNodes: failed, FailedAndUnresolvableNodes: unresolvable}
	if failed == nil {
		r.FailedNodes = extenderv1.FailedNodesMap{}
	}
	if unresolvable == nil {
		r.FailedAndUnresolvableNodes = extenderv1.FailedNodesMap{}
	}
	return r
}

func TestExtenderFilter(t *testing.T) {
	s := newScheduler(t, "")
	s.nodes["n2"] = annotated(node("n2", 1), "9003/TCP").node
	claimed := pod("claimed", list(port(9004)))
	claimed.Spec.Affinity = onlyOn("n1")
	s.see(pod("a", list(at("::", port(9000))), on("n1"), of("tomcat")), pod("b", list(port(9001)), on("n1")), claimed)
	svc := extract.Service(nodePort("app", 9002), extract.NodePortAddresses{})
	s.ledger.Replace(svc.Owner, svc.Claims)

	const held = "hostPort 9000/TCP by Deployment default/tomcat"
	for _, tt := range []struct {
		name string
		pod  *corev1.Pod
		want extenderv1.ExtenderFilterResult
	}{
		{"free", pod("new", list(port(9009))), result([]string{"n1", "n2"}, nil, nil)},
		{"an overlap that upstream does not see", pod("new", list(at("::1", port(9000)))), result([]string{"n2"}, extenderv1.FailedNodesMap{"n1": held}, nil)},
		{"two ports", pod("new", list(port(9001), port(9000))), result([]string{"n2"}, extenderv1.FailedNodesMap{"n1": held + "; hostPort 9001/TCP by Pod default/b"}, nil)},
		{"everywhere", pod("new", list(port(9002))), result([]string{}, nil, extenderv1.FailedNodesMap{
			"n1": "hostPort 9002/TCP by Service default/app", "n2": "hostPort 9002/TCP by Service default/app"})},
		{"reserved", pod("new", list(port(9003))), result([]string{"n1"}, nil, extenderv1.FailedNodesMap{
			"n2": "hostPort 9003/TCP by the node itself (annotation portcullis.dev/reserved-ports)"})},
		{"the kubelet's", pod("new", list(port(10250))), result([]string{}, nil, extenderv1.FailedNodesMap{
			"n1": "hostPort 10250/TCP by kubelet (a daemon of every node)", "n2": "hostPort 10250/TCP by kubelet (a daemon of every node)"})},
		{"of a pod that waits for its node", pod("new", list(port(9004))), result([]string{"n1", "n2"}, nil, nil)},
		{"the pod itself", pod("b", list(port(9001))), result([]string{"n1", "n2"}, nil, nil)},
	} {
		if diff := cmp.Diff(tt.want, s.filter(tt.pod)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}

	// Whole nodes, as a scheduler without nodeCacheCapable sends them, answer for themselves.
	var answer extenderv1.ExtenderFilterResult
	s.ask(PathFilter, extenderv1.ExtenderArgs{Pod: pod("new", list(port(9001))), Nodes: &corev1.NodeList{Items: []corev1.Node{
		*s.nodes["n1"], *annotated(node("new", 1), "9001/TCP").node, *node("other", 1).node,
	}}}, &answer)
	if answer.Nodes == nil || len(answer.Nodes.Items) != 1 || answer.Nodes.Items[0].Name != "other" || answer.NodeNames != nil ||
		len(answer.FailedNodes) != 1 || len(answer.FailedAndUnresolvableNodes) != 1 {
		t.Errorf("whole nodes: %+v", answer)
	}
	plain := s.filter(pod("plain", nil))
	if diff := cmp.Diff(extenderv1.ExtenderFilterResult{NodeNames: &[]string{"n1", "n2"}}, plain); diff != "" {
		t.Errorf("no host port (-want +got):\n%s", diff)
	}
	if got := testutil.ToFloat64(s.metrics.answers.WithLabelValues("filter", "skipped")); got != 1 {
		t.Errorf("%v skipped, want 1", got)
	}
}

func TestExtenderUncertain(t *testing.T) {
	for config, refuses := range map[string]bool{
		"": true,
		"apiVersion: config.portcullis.dev/v1alpha1\nkind: PortcullisConfiguration\nonUncertain: Warn": false,
	} {
		s := newScheduler(t, config)
		s.incomplete = true
		if got := s.filter(pod("new", list(port(9000)))); (got.Error != "") != refuses || (got.NodeNames == nil) != refuses {
			t.Errorf("%q: %+v", config, got)
		}
		if got := s.filter(pod("plain", nil)); got.Error != "" || got.NodeNames == nil {
			t.Errorf("%q: a pod without host ports: %+v", config, got)
		}
	}
}

// TestOffers: between the answer and the informer's word of where the pod went, a second one is kept from where the first
// may be, if the scheduler itself would not.
func TestOffers(t *testing.T) {
	v6, v4 := pod("v6", list(at("::", port(9000)))), pod("v4", list(at("127.0.0.1", port(9000))))
	all, loop := pod("all", list(port(9000))), pod("loop", list(at("::1", port(9000))))
	other := pod("other", list(port(9001)))
	for _, tt := range []struct {
		name          string
		first, second *corev1.Pod
		then          func(s *scheduler)
		want          int // nodes that the second is offered
	}{
		{"seen by us alone", v6, loop, func(*scheduler) {}, 0},
		{"other families", v6, v4, func(*scheduler) {}, 2},
		{"seen by the scheduler too", all, loop, func(*scheduler) {}, 2},
		{"another port", v6, other, func(*scheduler) {}, 2},
		{"the same pod again", v6, v6, func(*scheduler) {}, 2},
		{"bound meanwhile", v6, loop, func(s *scheduler) { s.see(pod("v6", list(at("::", port(9000))), on("n1"))) }, 1},
		{"made again meanwhile", v6, loop, func(s *scheduler) {
			again := pod("v6", list(at("::", port(9000))))
			again.UID = "another"
			s.see(again)
		}, 2},
		{"long ago", v6, loop, func(s *scheduler) { s.clock = s.clock.Add(offerTime) }, 2},
		{"asked again and refused", v6, loop, func(s *scheduler) {
			s.see(pod("x", list(port(9000)), on("n1")))
			s.filter(v6)
			s.see(pod("x", list(port(9009)), on("n1")))
		}, 1},
	} {
		s := newScheduler(t, "")
		s.see(tt.first)
		s.filter(tt.first)
		tt.then(s)
		if got := s.filter(tt.second); len(*got.NodeNames) != tt.want {
			t.Errorf("%s: offered %v, %v; want %d", tt.name, *got.NodeNames, got.FailedNodes, tt.want)
		}
	}
}

// TestOfferToNobody: who asks about a pod that the cluster does not show keeps nobody from a node.
func TestOfferToNobody(t *testing.T) {
	for name, shown := range map[string]*corev1.Pod{"no such pod": nil, "another of that name": pod("v6", nil)} {
		s := newScheduler(t, "")
		if shown != nil {
			shown.UID = "another"
			s.see(shown)
		}
		s.filter(pod("v6", list(at("::", port(9000)))))
		if got := s.filter(pod("loop", list(at("::1", port(9000))))); len(*got.NodeNames) != 2 {
			t.Errorf("%s: offered %v, %v", name, *got.NodeNames, got.FailedNodes)
		}
	}
}

// TestOfferBeforeTheWatch: a pod that the API server has is one, whether the watch shows it yet or not.
func TestOfferBeforeTheWatch(t *testing.T) {
	s := newScheduler(t, "")
	unseen := pod("unseen", list(at("::", port(9000))))
	unseen.UID = "unseen"
	s.filter(unseen)
	if got := s.filter(pod("loop", list(at("::1", port(9000))))); len(*got.NodeNames) != 0 {
		t.Errorf("offered %v, %v", *got.NodeNames, got.FailedNodes)
	}
}

func TestExtenderPreempt(t *testing.T) {
	s := newScheduler(t, "")
	a, b := pod("a", list(port(9000)), on("n1")), pod("b", list(at("::", port(9000))), on("n2"))
	s.see(a, b, pod("v4", list(at("127.0.0.1", port(9000))), on("n2")))
	s.nodes["n3"] = annotated(node("n3", 1), "9000/TCP").node
	victims := func(pods ...*corev1.Pod) *extenderv1.MetaVictims {
		v := &extenderv1.MetaVictims{NumPDBViolations: 2}
		for _, p := range pods {
			v.Pods = append(v.Pods, &extenderv1.MetaPod{UID: string(p.UID)})
		}
		return v
	}
	question := extenderv1.ExtenderPreemptionArgs{Pod: pod("new", list(port(9000))), NodeNameToMetaVictims: map[string]*extenderv1.MetaVictims{
		"n1": victims(a), "n2": victims(b), "n3": victims(a), "n4": victims(b), "n5": nil,
	}}
	want := extenderv1.ExtenderPreemptionResult{NodeNameToMetaVictims: map[string]*extenderv1.MetaVictims{"n1": victims(a), "n4": victims(b)}}
	var got extenderv1.ExtenderPreemptionResult
	s.ask(PathPreempt, question, &got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	whole := extenderv1.ExtenderPreemptionArgs{Pod: question.Pod, NodeNameToVictims: map[string]*extenderv1.Victims{
		"n1": {Pods: []*corev1.Pod{a}, NumPDBViolations: 2}, "n2": {Pods: []*corev1.Pod{b}}, "n5": nil,
	}}
	got, want = extenderv1.ExtenderPreemptionResult{}, extenderv1.ExtenderPreemptionResult{NodeNameToMetaVictims: map[string]*extenderv1.MetaVictims{"n1": victims(a)}}
	s.ask(PathPreempt, whole, &got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("whole pods (-want +got):\n%s", diff)
	}
	got = extenderv1.ExtenderPreemptionResult{}
	s.ask(PathPreempt, extenderv1.ExtenderPreemptionArgs{Pod: pod("plain", nil), NodeNameToMetaVictims: question.NodeNameToMetaVictims}, &got)
	if len(got.NodeNameToMetaVictims) != 4 {
		t.Errorf("without host ports: %v", got)
	}
}

func TestExtenderRequests(t *testing.T) {
	s := newScheduler(t, "")
	for _, tt := range []struct {
		method, body string
		want         int
	}{
		{http.MethodGet, "", http.StatusMethodNotAllowed},
		{http.MethodPost, "", http.StatusBadRequest},
		{http.MethodPost, "[]", http.StatusBadRequest},
		{http.MethodPost, `{"Pod":{"spec":{"containers":3}}}`, http.StatusBadRequest},
		{http.MethodPost, "{}", http.StatusOK},
		{http.MethodPost, `{"Pod":null,"NodeNameToVictims":{"n":null}}`, http.StatusOK},
		{http.MethodPost, `{"Pod":{"spec":{"containers":[{"ports":[{"hostPort":1}]}]}},"NodeNames":null,"NodeNameToVictims":{"n":{"Pods":[null]}},"NodeNameToMetaVictims":{"m":{"Pods":[null]}}}`, http.StatusOK},
	} {
		for path, handler := range s.handlers {
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, httptest.NewRequest(tt.method, path, bytes.NewReader([]byte(tt.body))))
			if body, _ := io.ReadAll(w.Body); w.Code != tt.want {
				t.Errorf("%s %s %s: %d %s, want %d", tt.method, path, tt.body, w.Code, body, tt.want)
			}
		}
	}
}

func onlyOn(node string) *corev1.Affinity {
	return &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
		NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{
			{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{node}},
		}}},
	}}}
}
