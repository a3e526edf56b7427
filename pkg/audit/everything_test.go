package audit

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	configv1alpha1 "github.com/portcullis-k8s/portcullis/api/config/v1alpha1"
	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/manifest"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
)

func settings(t testing.TB) *extract.Settings {
	t.Helper()
	config, err := configv1alpha1.Load([]byte("{apiVersion: config.portcullis.dev/v1alpha1, kind: PortcullisConfiguration, dataplane: {serviceProxy: iptables, hostPort: portmap-iptables}}"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := extract.NewSettings(config)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func objects(t testing.TB, texts ...string) []runtime.Object {
	t.Helper()
	scheme := manifest.Scheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	in, err := manifest.Parse("in.yaml", []byte(strings.Join(texts, "\n---\n")), scheme)
	if err != nil {
		t.Fatal(err)
	}
	var all []runtime.Object
	for _, o := range in.Objects {
		all = append(all, o.Object)
	}
	return all
}

// metaOf is the metadata of an object of an API server that was made at a minute of an hour.
func metaOf(name string, minute int, more ...string) string {
	return fmt.Sprintf("{name: %s, uid: %s, creationTimestamp: \"2026-01-01T00:%02d:00Z\"%s}", name, name, minute, strings.Join(append([]string{""}, more...), ", "))
}

func nodePort(name string, minute, number int) string {
	return fmt.Sprintf("{apiVersion: v1, kind: Service, metadata: %s, spec: {type: NodePort, ports: [{port: 80, nodePort: %d}]}}", metaOf(name, minute), number)
}

func hostPort(number int) string {
	return fmt.Sprintf("containers: [{name: c, ports: [{containerPort: 80, hostPort: %d}]}]", number)
}

func bare(name string, minute int, node string, number int, more ...string) string {
	return fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: %s, spec: {nodeName: '%s', %s}}", metaOf(name, minute, more...), node, hostPort(number))
}

func workload(kind, name string, minute int, more string, number int) string {
	return fmt.Sprintf("{apiVersion: apps/v1, kind: %s, metadata: %s, spec: {%s selector: {matchLabels: {app: x}}, template: {metadata: {labels: {app: x}}, spec: {%s}}}}",
		kind, metaOf(name, minute), more, hostPort(number))
}

func by(kind, name string) string {
	version := "apps/v1"
	if kind == "Job" {
		version = "batch/v1"
	}
	return fmt.Sprintf("ownerReferences: [{apiVersion: %s, kind: %s, name: %s, uid: %s, controller: true}]", version, kind, name, name)
}

const nodes = `{apiVersion: v1, kind: Node, metadata: {name: n1}}
---
{apiVersion: v1, kind: Node, metadata: {name: n2}}
---
{apiVersion: v1, kind: Node, metadata: {name: n3}}`

// said spells findings, without those that only explain others.
func said(findings []check.Finding) []string {
	var all []string
	for _, f := range findings {
		if strings.HasPrefix(string(f.Code), "PC06") || f.Code == check.InNodePorts || f.Code == check.TooFewNodes {
			continue
		}
		text := fmt.Sprintf("%s %s", f.Code, f.Object)
		if f.Case == check.HolderHasNoNode {
			text = f.Severity.String() + " " + text
		}
		if f.Holder != nil {
			text += " <- " + f.Holder.Ref.String()
		}
		all = append(all, strings.TrimRight(text+" "+strings.Join(f.Nodes, ","), " "))
	}
	return all
}

func TestEverything(t *testing.T) {
	const pool = "{apiVersion: portcullis.dev/v1alpha1, kind: PortPool, metadata: {name: team}, spec: {ranges: [{port: 30060, endPort: 30063}], namespaceSelector: {matchLabels: {team: a}}, enforcement: Deny}}"
	labelled := func(hash string) string { return "labels: {app: x, pod-template-hash: " + hash + "}" }
	for _, c := range []struct {
		name string
		in   []string
		want []string
	}{
		{"nothing", nil, nil},
		{"nothing wrong", []string{nodes, nodePort("s", 1, 30001), bare("p", 2, "n1", 8080)}, nil},
		{"the younger is the offender", []string{nodes, nodePort("s", 2, 30001), bare("p", 1, "n1", 30001)}, []string{"PC0201 Service default/s <- Pod default/p n1"}},
		{"whichever it is", []string{nodes, nodePort("s", 1, 30001), bare("p", 2, "n1", 30001)}, []string{"PC0201 Pod default/p <- Service default/s n1"}},
		{"what does not exist yet is the offender", []string{nodes, strings.ReplaceAll(nodePort("a", 1, 30001), "creationTimestamp", "generation_"), bare("p", 2, "n1", 30001)}, []string{"PC0201 Service default/a <- Pod default/p n1"}},
		{"of one age it is the name that decides", []string{nodes, nodePort("s", 1, 30001), nodePort("r", 1, 30001)}, []string{"PC0201 Service default/s <- Service default/r"}},
		{"pods on one node", []string{nodes, bare("p", 1, "n1", 80), bare("q", 2, "n1", 80), bare("r", 3, "n2", 80)}, []string{"PC0201 Pod default/q <- Pod default/p n1"}},
		{"a pod that has ended", []string{nodes, bare("p", 1, "n1", 80), strings.Replace(bare("q", 2, "n1", 80), "spec:", "status: {phase: Failed}, spec:", 1)}, nil},
		{"the template and its pods once", []string{nodes, nodePort("s", 1, 30001), workload("Deployment", "d", 2, "replicas: 2,", 30001),
			strings.Replace(workload("ReplicaSet", "d-x", 3, "replicas: 2,", 30001), "uid: d-x", "uid: d-x, "+by("Deployment", "d"), 1),
			bare("d-x-a", 4, "n1", 30001, by("ReplicaSet", "d-x"), labelled("x")), bare("d-x-b", 4, "n3", 30001, by("ReplicaSet", "d-x"), labelled("x"))},
			[]string{"PC0201 Deployment default/d <- Service default/s n1,n3"}},
		{"a template that nobody may read", []string{nodes, nodePort("s", 1, 30001), bare("d-x-a", 4, "n1", 30001, by("ReplicaSet", "d-x"), labelled("x"))},
			[]string{"PC0201 Pod default/d-x-a <- Service default/s n1"}},
		{"a controller is as old as it was, whenever its pods came", []string{nodes, workload("DaemonSet", "d", 1, "", 30001), nodePort("s", 2, 30001),
			bare("d-a", 9, "n1", 30001, by("DaemonSet", "d"))}, []string{"PC0201 Service default/s <- DaemonSet default/d n1,n2,n3"}},
		{"a pod whose template is right by now", []string{nodes, nodePort("s", 1, 30001), workload("DaemonSet", "d", 2, "", 8080), bare("d-a", 3, "n1", 30001, by("DaemonSet", "d"))},
			[]string{"PC0201 Pod default/d-a <- Service default/s n1"}},
		{"a revision that is gone", []string{nodes, nodePort("s", 1, 30001), workload("Deployment", "d", 2, "replicas: 1,", 8080),
			strings.Replace(workload("ReplicaSet", "d-1", 3, "replicas: 0,", 30001), "uid: d-1", "uid: d-1, "+by("Deployment", "d"), 1)}, nil},
		{"a holder that no node suits", []string{nodes, nodePort("s", 2, 30001), strings.Replace(workload("Deployment", "d", 1, "replicas: 1,", 30001), "spec: {containers", "spec: {nodeSelector: {gpu: none}, containers", 1)},
			[]string{"warning PC0201 Service default/s <- Deployment default/d"}},
		{"two workloads on the nodes of both", []string{nodes, workload("DaemonSet", "a", 1, "", 9100), workload("DaemonSet", "b", 2, "", 9100)},
			[]string{"PC0202 DaemonSet default/b <- DaemonSet default/a n1,n2,n3"}},
		{"pods that clash beside their templates", []string{nodes, workload("Deployment", "a", 1, "replicas: 1,", 80), workload("Deployment", "b", 2, "replicas: 1,", 80),
			bare("a-x-1", 3, "n1", 80, by("ReplicaSet", "a-x"), labelled("x")), bare("b-x-1", 4, "n1", 80, by("ReplicaSet", "b-x"), labelled("x"))},
			[]string{"PC0201 Pod default/b-x-1 <- Deployment default/a n1", "PC0202 Deployment default/b <- Deployment default/a n1"}},
		{"a daemon's port", []string{nodes, bare("p", 1, "n1", 10250)}, []string{"PC0302 Pod default/p <- node daemon kubelet"}},
		{"a number outside the range is kept", []string{nodePort("s", 1, 29000)}, []string{"PC0306 Service default/s"}},
		{"a number of another team's pool", []string{nodePort("s", 1, 30061), pool}, []string{"PC0307 Service default/s <- PortPool team"}},
		{"a file that was never applied", []string{"{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {type: NodePort, ports: [{port: 80, nodePort: 29000}]}}"}, []string{"PC0301 Service default/s"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			findings, err := Everything(settings(t), objects(t, c.in...), time.Now(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, said(findings)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if slices.ContainsFunc(findings, func(f check.Finding) bool { return f.Standing }) {
				t.Error("what exists is said to have stood before")
			}
		})
	}
}

// TestOrderOfInputs: what is found does not depend on the order in which objects are read.
func TestOrderOfInputs(t *testing.T) {
	in := objects(t, nodes, nodePort("s", 2, 30001), nodePort("r", 2, 30001), bare("p", 1, "n1", 30001), workload("DaemonSet", "d", 3, "", 30001), bare("d-a", 3, "n1", 30001, by("DaemonSet", "d")))
	want, err := Everything(settings(t), in, time.Now(), nil)
	if err != nil || len(want) < 3 {
		t.Fatal(want, err)
	}
	slices.Reverse(in)
	got, err := Everything(settings(t), in, time.Now(), nil)
	if diff := cmp.Diff(said(want), said(got)); err != nil || diff != "" {
		t.Errorf("%v (-one way +the other):\n%s", err, diff)
	}
}

// TestMetNumber: that a Service may be given the number of a host port is not said where one has it, whoever came first.
func TestMetNumber(t *testing.T) {
	for _, minutes := range [][2]int{{1, 2}, {2, 1}, {1, 1}} {
		findings, err := Everything(settings(t), objects(t, nodePort("s", minutes[0], 30080), bare("p", minutes[1], "n1", 30080)), time.Now(), nil)
		if err != nil || len(findings) != 1 || findings[0].Code != check.Held {
			t.Errorf("minutes %v: %v, %v; want PC0201 alone", minutes, findings, err)
		}
	}
}

// TestForms: of one object in two forms both hold what they claim, whichever is read first, and neither meets the other.
func TestForms(t *testing.T) {
	in := objects(t, nodes, nodePort("s", 1, 30001), nodePort("s", 1, 30002), bare("p", 2, "n1", 30001), bare("q", 2, "n1", 30002))
	want := []string{"PC0201 Pod default/p <- Service default/s n1", "PC0201 Pod default/q <- Service default/s n1"}
	for range 2 {
		findings, err := Everything(settings(t), in, time.Now(), nil)
		if diff := cmp.Diff(want, said(findings)); err != nil || diff != "" {
			t.Errorf("audit: %v (-want +got):\n%s", err, diff)
		}
		j, err := New(settings(t), in[:5], nil, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		found := slices.Concat(j.All(in[5:], nil)...)
		slices.SortFunc(found, check.Finding.Compare)
		if diff := cmp.Diff(want, said(found)); diff != "" {
			t.Errorf("lint (-want +got):\n%s", diff)
		}
		in[3], in[4] = in[4], in[3]
	}
}

// TestUpdateOfForms: an update brings what one of the forms that exist has not.
func TestUpdateOfForms(t *testing.T) {
	in := objects(t, nodes, nodePort("s", 1, 30001), nodePort("s", 1, 30002), bare("p", 2, "n1", 30001))
	for range 2 {
		j, err := New(settings(t), in, nil, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		found := slices.Concat(j.All(in[3:4], nil)...)
		if held := in[3].(*corev1.Service).Spec.Ports[0].NodePort == 30001; held != slices.ContainsFunc(found, func(f check.Finding) bool { return f.Code == check.Held && !f.Standing }) {
			t.Errorf("%s: %v", in[3], found)
		}
		in[3], in[4] = in[4], in[3]
	}
}

// TestInvalid: a pool that the API server would refuse is told, and the others count.
func TestInvalid(t *testing.T) {
	in := objects(t, nodePort("s", 1, 30001), nodePort("r", 2, 30001),
		"{apiVersion: portcullis.dev/v1alpha1, kind: PortPool, metadata: {name: bad}, spec: {ranges: [{port: 99999}], namespaceSelector: {}}}")
	findings, err := Everything(settings(t), in, time.Now(), nil)
	if err == nil || !strings.Contains(err.Error(), "99999") {
		t.Errorf("%v, want what is wrong with the pool", err)
	}
	if diff := cmp.Diff([]string{"PC0201 Service default/r <- Service default/s"}, said(findings)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestTells how far it is, once for each object that ports are a matter of.
func TestTells(t *testing.T) {
	var told []string
	_, err := Everything(settings(t), objects(t, nodes, nodePort("s", 1, 30001), bare("p", 2, "n1", 80)), time.Now(), func(judged, all int) {
		told = append(told, fmt.Sprint(judged, "/", all))
	})
	if diff := cmp.Diff([]string{"1/2", "2/2"}, told); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
}

// TestReservations: what nodes reserve by their annotation is met by lint and audit alike, and a bad entry is reported at the
// Node, whether it is an input or audited; beside it the good ones count.
func TestReservations(t *testing.T) {
	nodes := objects(t, "{apiVersion: v1, kind: Node, metadata: {name: n1, annotations: {portcullis.dev/reserved-ports: \"30080/TCP,9200\"}}}", "{apiVersion: v1, kind: Node, metadata: {name: n2}}")
	for _, c := range []struct {
		why, object, code string
	}{
		{"a nodePort is on every node", nodePort("web", 1, 30080), "PC0201"},
		{"a nodePort that no node reserves", nodePort("web", 1, 30081), ""},
		{"a pod on the node", "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {nodeName: n1, " + hostPort(30080) + "}}", "PC0201"},
		{"a pod on another node", "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {nodeName: n2, " + hostPort(30080) + "}}", ""},
		{"a pod that may go elsewhere", "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {" + hostPort(30080) + "}}", ""},
		{"the bad entry reserves nothing", "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {nodeName: n1, " + hostPort(9200) + "}}", ""},
	} {
		object := objects(t, c.object)
		j, err := New(settings(t), nodes, nil, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		audited, err := Everything(settings(t), append(object, nodes...), time.Time{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for how, findings := range map[string][]check.Finding{"lint": append(j.Judge(nodes[0]), j.Judge(object[0])...), "audit": audited} {
			codes := map[check.Code]string{}
			for _, f := range findings {
				if f.Code == check.BadReservation || f.Holder != nil && f.Holder.Ref == extract.NodeRef("n1") {
					codes[f.Code] = f.Object.String()
				}
			}
			want := map[check.Code]string{check.BadReservation: "Node n1"}
			if c.code != "" {
				ref, _ := extract.RefOf(object[0])
				want[check.Code(c.code)] = ref.String()
			}
			if diff := cmp.Diff(want, codes); diff != "" {
				t.Errorf("%s, %s (-want +got):\n%s", c.why, how, diff)
			}
		}
	}
}

// TestIdleEverywhere: what a workload that wants no pods would meet is worth knowing, whichever of the two is judged against the
// other, and whoever judges.
func TestIdleEverywhere(t *testing.T) {
	service, idle := parsed(t, "Service s type=NodePort ports=80:30080"), parsed(t, "Deployment w ports=30080 replicas=0")
	both := append(slices.Clone(service), idle...)
	const want = "info PC0201 Deployment/w < Service/s"
	judged := func(state, input []runtime.Object) string {
		j, err := New(settings(t), state, input, time.Unix(0, 0))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, findings := range j.All(input, nil) {
			for _, f := range findings {
				if f.Code == check.Held {
					got = append(got, line(f))
				}
			}
		}
		return strings.Join(got, "\n")
	}
	for name, got := range map[string]string{
		"lint of both":                     judged(nil, both),
		"lint of both, the idle one first": judged(nil, []runtime.Object{both[1], both[0]}),
		"lint of the idle one":             judged(service, idle),
	} {
		if got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if got := judged(idle, service); got != "" {
		t.Errorf("lint of the Service: %q", got)
	}
	var audited []string
	findings, err := Everything(settings(t), both, time.Unix(0, 0), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range findings {
		if f.Code == check.Held {
			audited = append(audited, line(f))
		}
	}
	if got := strings.Join(audited, "\n"); got != want {
		t.Errorf("audit: %q, want %q", got, want)
	}
}

// TestNextFree: a number that another object of the audit holds is not named as free, whichever of the two is older.
func TestNextFree(t *testing.T) {
	pools := []string{
		"{apiVersion: portcullis.dev/v1alpha1, kind: PortPool, metadata: {name: pay}, spec: {ranges: [{port: 30010, endPort: 30019}], namespaceSelector: {matchLabels: {team: pay}}, sharing: Exclusive}}",
		"{apiVersion: portcullis.dev/v1alpha1, kind: PortPool, metadata: {name: shop}, spec: {ranges: [{port: 30020, endPort: 30021}], namespaceSelector: {}, sharing: Exclusive}}",
	}
	findings, err := Everything(settings(t), objects(t, append(pools, nodePort("b", 1, 30011), nodePort("c", 2, 30020))...), time.Now(), nil)
	if err != nil || len(findings) == 0 {
		t.Fatal(findings, err)
	}
	objection, _ := findings[0].Detail.(check.PoolObjection)
	if foreign, is := errors.AsType[*pool.ForeignError](objection.Err); !is || foreign.Instead.Next != 30021 {
		t.Errorf("%s: %v", findings[0].Code, objection.Err)
	}
}
