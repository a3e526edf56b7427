package report_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

func wanting(kind ports.Kind, socket string) ports.Claim {
	return ports.Claim{Kind: kind, Socket: ports.MustParseSocket(socket), Scope: ports.EverywhereScope(), Field: "spec.containers[0].ports[0].hostPort"}
}

func ref(kind, namespace, name string) ports.Ref {
	return ports.Ref{APIVersion: "v1", Kind: kind, Namespace: namespace, Name: name}
}

// heldBy is an obstacle: of a pod with a controller where pod is a name, else of who holds it himself.
func heldBy(wanted ports.Claim, holder ports.Ref, held ports.Kind, pod string) report.Obstacle {
	o := report.Obstacle{Obstacle: check.Obstacle{Wanted: wanted, Holder: check.Holder{Ref: holder, Field: "a.field", Claim: ports.Claim{Kind: held}}}}
	if holder.Kind == check.DaemonKind {
		o.Holder.Claim.Scope = ports.EverywhereScope()
	}
	if pod != "" {
		o.Pod = ref("Pod", "default", pod)
	}
	return o
}

func on(node string, obstacles ...report.Obstacle) report.Candidate {
	return report.Candidate{Node: node, Obstacles: obstacles}
}

func ruled(node string, excluded ...check.Exclusion) report.Candidate {
	return report.Candidate{Node: node, Excluded: excluded}
}

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// tomcat is the fourth of four replicas on three nodes, with something of everything.
func tomcat() report.Placement {
	wanted := wanting(ports.HostPort, "*:9000/TCP")
	local := wanting(ports.HostPort, "127.0.0.1:9001/TCP")
	deployment := ref("Deployment", "default", "tomcat")
	own := func(pod string, since time.Duration) report.Obstacle {
		o := heldBy(wanted, deployment, ports.HostPort, pod)
		o.Since = noon.Add(-since)
		return o
	}
	leaving := own("tomcat-3", 50*time.Hour)
	leaving.Leaving, leaving.Preemptible = true, true
	return report.Placement{
		Pod:    ports.Owner{Ref: ref("Pod", "default", "tomcat-4"), Controller: &ports.Owner{Ref: deployment}},
		Wanted: []ports.Claim{wanted, local}, Phase: "Pending", Said: "0/3 nodes are available.",
		Gates: []string{"g"}, Unmodelled: []string{"spec.volumes[0]"}, Annotation: "an/annotation",
		Nodes: []report.Candidate{
			{Node: "n3", Obstacles: []report.Obstacle{leaving}, NotReady: true},
			{Node: "n1", Obstacles: []report.Obstacle{own("tomcat-1", 90*time.Second), heldBy(local, ports.Ref{Kind: check.DaemonKind, Name: "agent"}, ports.HostNetwork, "")}},
			{Node: "n2", Obstacles: []report.Obstacle{own("tomcat-2", 5*time.Hour), heldBy(wanted, ref(check.NodeKind, "", "n2"), ports.HostNetwork, "")},
				Excluded: []check.Exclusion{{Rule: check.ByCordon}, {Rule: check.ByTaint, Value: "a=b:NoSchedule"}}, Unknown: true},
		},
	}
}

func TestPodReportTable(t *testing.T) {
	var b strings.Builder
	if err := report.NewPodReport(tomcat()).WriteTable(&b, noon); err != nil {
		t.Fatal(err)
	}
	const want = `
NODE  FITS  PORT                HELD BY                                  SINCE  ALSO
n1    no    9000/TCP            Deployment default/tomcat                90s    -
n1    no    127.0.0.1:9001/TCP  agent, a node daemon                     -      -
n2    no    9000/TCP            Deployment default/tomcat                5h     cordoned (spec.unschedulable); taint a=b:NoSchedule is not tolerated
n2    no    9000/TCP            the node itself                          -      -
n3    no    9000/TCP            Deployment default/tomcat (terminating)  2d     -

0 of 3 nodes fit: hostPort 9000/TCP is held on 3 by Deployment default/tomcat, hostPort 9000/TCP is held on 1 by the node itself (annotation an/annotation), 3 other reasons; a node has room for one of its pods: run fewer, or add a node
The scheduler says: 0/3 nodes are available.
No scheduler looks at the pod before its scheduling gates are gone: g.
Not ready: node n3.
Resource requests were not checked: status.allocatable is empty on node n2.
Not checked, though kube-scheduler does: spec.volumes[0].
`
	if diff := cmp.Diff(want[1:], b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestPodReportJSON: scripts read this. A change of it is a new version.
func TestPodReportJSON(t *testing.T) {
	p := tomcat()
	p.Wanted, p.Nodes = p.Wanted[:1], p.Nodes[2:]
	var b strings.Builder
	if err := report.NewPodReport(p).WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	const want = `{
  "apiVersion": "portcullis.dev/v1alpha1",
  "kind": "PodReport",
  "pod": {
    "apiVersion": "v1",
    "kind": "Pod",
    "namespace": "default",
    "name": "tomcat-4",
    "controller": {
      "kind": "Deployment",
      "namespace": "default",
      "name": "tomcat"
    },
    "phase": "Pending",
    "scheduler": "0/3 nodes are available."
  },
  "wanted": [
    {
      "kind": "hostPort",
      "address": "*",
      "protocol": "TCP",
      "port": 9000,
      "field": "spec.containers[0].ports[0].hostPort"
    }
  ],
  "nodes": [
    {
      "node": "n2",
      "fits": false,
      "obstacles": [
        {
          "kind": "hostPort",
          "address": "*",
          "protocol": "TCP",
          "port": 9000,
          "field": "spec.containers[0].ports[0].hostPort",
          "message": "hostPort 9000/TCP is held by Deployment default/tomcat",
          "holder": {
            "kind": "Deployment",
            "namespace": "default",
            "name": "tomcat",
            "field": "a.field",
            "node": "n2"
          },
          "pod": "default/tomcat-2",
          "since": "2026-05-01T07:00:00Z",
          "preemptible": false
        },
        {
          "kind": "hostPort",
          "address": "*",
          "protocol": "TCP",
          "port": 9000,
          "field": "spec.containers[0].ports[0].hostPort",
          "message": "hostPort 9000/TCP is held by the node itself (annotation an/annotation)",
          "holder": {
            "kind": "Node",
            "namespace": "",
            "name": "n2",
            "field": "metadata.annotations[an/annotation]",
            "node": "n2"
          },
          "preemptible": false
        }
      ],
      "excluded": [
        {
          "rule": "unschedulable",
          "message": "cordoned (spec.unschedulable)"
        },
        {
          "rule": "taint",
          "message": "taint a=b:NoSchedule is not tolerated"
        }
      ]
    }
  ],
  "summary": {
    "nodes": 1,
    "fits": 0,
    "held": 1,
    "excluded": 1,
    "message": "0 of 1 nodes fit: hostPort 9000/TCP is held on 1 by Deployment default/tomcat, hostPort 9000/TCP is held on 1 by the node itself (annotation an/annotation), 2 other reasons; uncordon a node; and a node has room for one of its pods: run fewer, or add a node"
  },
  "notes": [
    "No scheduler looks at the pod before its scheduling gates are gone: g.",
    "Resource requests were not checked: status.allocatable is empty on node n2.",
    "Not checked, though kube-scheduler does: spec.volumes[0]."
  ]
}
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestPodReportOfNothing(t *testing.T) {
	var b strings.Builder
	if err := report.NewPodReport(report.Placement{Pod: ports.Owner{Ref: ref("Pod", "default", "a")}}).WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	const want = `{
  "apiVersion": "portcullis.dev/v1alpha1",
  "kind": "PodReport",
  "pod": {
    "apiVersion": "v1",
    "kind": "Pod",
    "namespace": "default",
    "name": "a"
  },
  "wanted": [],
  "nodes": [],
  "summary": {
    "nodes": 0,
    "fits": 0,
    "held": 0,
    "excluded": 0,
    "message": "Pod default/a wants no port of a node; there are no nodes; add one"
  },
  "notes": []
}
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestPodReportSentences(t *testing.T) {
	wanted, network := wanting(ports.HostPort, "*:9000/TCP"), wanting(ports.HostNetwork, "*:9000/TCP")
	d, s := ref("Deployment", "default", "d"), ref("Service", "default", "s")
	bare := heldBy(wanted, ref("Pod", "default", "b"), ports.HostPort, "b")
	weak := bare
	weak.Preemptible = true
	own := heldBy(wanted, d, ports.HostPort, "d-1")
	service := heldBy(wanted, s, ports.NodePort, "")
	cordon := check.Exclusion{Rule: check.ByCordon}
	rule := func(r check.NodeRule, value string) check.Exclusion {
		return check.Exclusion{Rule: r, Value: value, Has: "x"}
	}
	both := on("n1", bare)
	both.Excluded = []check.Exclusion{cordon}
	long := strings.Repeat("n", 150)
	for _, c := range []struct {
		why   string
		want  string
		ports []ports.Claim
		nodes []report.Candidate
	}{
		{"all fit", "2 of 2 nodes fit: n1, n2", []ports.Claim{wanted}, []report.Candidate{on("n2"), on("n1")}},
		{"one fits", "1 of 2 nodes fits: n2; hostPort 9000/TCP is held on 1 by Pod default/b", []ports.Claim{wanted}, []report.Candidate{on("n1", bare), on("n2")}},
		{"a pod", "0 of 1 nodes fit: hostPort 9000/TCP is held on 1 by Pod default/b; delete Pod default/b or move it, or choose another hostPort, or expose the pod by a Service", []ports.Claim{wanted}, []report.Candidate{on("n1", bare)}},
		{"one of lower priority", "0 of 1 nodes fit: hostPort 9000/TCP is held on 1 by Pod default/b; the scheduler may evict what holds it, whose priority is lower, or choose another hostPort, or expose the pod by a Service", []ports.Claim{wanted}, []report.Candidate{on("n1", weak)}},
		{"its own controller", "0 of 2 nodes fit: hostPort 9000/TCP is held on 2 by Deployment default/d; a node has room for one of its pods: run fewer, or add a node, or expose them by a Service without a hostPort", []ports.Claim{wanted}, []report.Candidate{on("n1", own), on("n2", own)}},
		{"a Service", "0 of 1 nodes fit: hostPort 9000/TCP is held on 1 by Service default/s; choose another hostPort, or expose the pod by a Service, or give Service default/s another nodePort", []ports.Claim{wanted}, []report.Candidate{on("n1", service)}},
		{"an external IP", "0 of 1 nodes fit: hostPort 9000/TCP is held on 1 by Service default/s; choose another hostPort, or expose the pod by a Service", []ports.Claim{wanted}, []report.Candidate{on("n1", heldBy(wanted, s, ports.ExternalIP, ""))}},
		{"a daemon, wanted by the host network", "0 of 1 nodes fit: hostNetwork port 9000/TCP is held on 1 by kubelet (a daemon of every node); let the process listen on another port, or leave the host network", []ports.Claim{network},
			[]report.Candidate{on("n1", heldBy(network, ports.Ref{Kind: check.DaemonKind, Name: "kubelet"}, ports.HostNetwork, ""))}},
		{"a daemon of some nodes", "0 of 1 nodes fit: hostPort 9000/TCP is held on 1 by agent (a daemon of the node); choose another hostPort, or expose the pod by a Service", []ports.Claim{wanted},
			[]report.Candidate{on("n1", report.Obstacle{Obstacle: check.Obstacle{Wanted: wanted, Holder: check.Holder{Ref: ports.Ref{Kind: check.DaemonKind, Name: "agent"}}}})}},
		{"the node itself", "0 of 1 nodes fit: hostPort 9000/TCP is held on 1 by the node itself (annotation an/annotation); choose another hostPort, or expose the pod by a Service, or take 9000/TCP out of the annotation", []ports.Claim{wanted},
			[]report.Candidate{on("n1", heldBy(wanted, ref(check.NodeKind, "", "n1"), ports.HostNetwork, ""))}},
		{"ports here, a rule there", "0 of 2 nodes fit: hostPort 9000/TCP is held on 1 by Pod default/b, 1 is cordoned; delete Pod default/b or move it, or choose another hostPort, or expose the pod by a Service, or uncordon a node", []ports.Claim{wanted},
			[]report.Candidate{on("n1", bare), ruled("n2", cordon)}},
		{"a rule where a port is taken too is none to mend", "0 of 2 nodes fit: hostPort 9000/TCP is held on 2 by Pod default/b, 1 is cordoned; delete Pod default/b or move it, or choose another hostPort, or expose the pod by a Service", []ports.Claim{wanted},
			[]report.Candidate{both, on("n2", bare)}},
		{"both on every node", "0 of 1 nodes fit: hostPort 9000/TCP is held on 1 by Pod default/b, 1 is cordoned; uncordon a node; and delete Pod default/b or move it, or choose another hostPort, or expose the pod by a Service", []ports.Claim{wanted}, []report.Candidate{both}},
		{"a rule where the port is free", "0 of 2 nodes fit: hostPort 9000/TCP is held on 1 by Pod default/b, 2 are cordoned; uncordon a node", []ports.Claim{wanted}, []report.Candidate{both, ruled("n2", cordon)}},
		{"no port, a label", "Pod default/d-2 wants no port of a node; 0 of 2 nodes fit: 2 do not match nodeSelector disk=ssd; label a node so, or mend the pod's nodeSelector", nil,
			[]report.Candidate{ruled("n1", rule(check.ByNodeSelector, "disk=ssd")), ruled("n2", rule(check.ByNodeSelector, "disk=ssd"))}},
		{"affinity", "Pod default/d-2 wants no port of a node; 0 of 1 nodes fit: 1 does not match nodeAffinity disk In ssd; label a node so, or mend the pod's nodeAffinity", nil, []report.Candidate{ruled("n1", rule(check.ByNodeAffinity, "disk In ssd"))}},
		{"nodeName", "Pod default/d-2 wants no port of a node; 0 of 1 nodes fit: 1 does not match nodeName n9; leave spec.nodeName out, or name a node that there is", nil, []report.Candidate{ruled("n1", rule(check.ByNodeName, "n9"))}},
		{"taint", "Pod default/d-2 wants no port of a node; 0 of 1 nodes fit: 1 has the taint a:NoSchedule; let the pod tolerate the taint, or add a node without it", nil, []report.Candidate{ruled("n1", rule(check.ByTaint, "a:NoSchedule"))}},
		{"requests", "Pod default/d-2 wants no port of a node; 0 of 2 nodes fit: 2 have less free than cpu 2; ask for less, or add a node", nil, []report.Candidate{ruled("n1", rule(check.ByRequests, "cpu 2")), ruled("n2", rule(check.ByRequests, "cpu 2"))}},
		{"number of pods", "Pod default/d-2 wants no port of a node; 0 of 1 nodes fit: 1 has no room for one more pod; add a node", nil, []report.Candidate{ruled("n1", rule(check.ByNumberOfPods, "110"))}},
		{"names that are too long", "0 of 1 nodes fit: hostPort 9000/TCP is held on 1 by Pod default/" + long, []ports.Claim{wanted}, []report.Candidate{on("n1", heldBy(wanted, ref("Pod", "default", long), ports.HostPort, "b"))}},
	} {
		p := report.Placement{Pod: ports.Owner{Ref: ref("Pod", "default", "d-2"), Controller: &ports.Owner{Ref: d}}, Wanted: c.ports, Nodes: c.nodes, Annotation: "an/annotation"}
		got := report.NewPodReport(p).Summary.Message
		if got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.why, got, c.want)
		}
	}
}

func TestPodReportOfAPodOnANode(t *testing.T) {
	wanted := wanting(ports.HostPort, "*:9000/TCP")
	p := report.Placement{
		Pod: ports.Owner{Ref: ref("Pod", "default", "a")}, Wanted: []ports.Claim{wanted}, Phase: "Running", Node: "n1", Since: noon,
		Nodes: []report.Candidate{on("n1")}, Unmodelled: []string{"spec.volumes[0]"},
	}
	said := func() string {
		var b strings.Builder
		if err := report.NewPodReport(p).WriteTable(&b, noon); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	const is = "Pod default/a is on node n1 (Running) since 2026-05-01T12:00:00Z and holds hostPort 9000/TCP"
	if got := said(); got != is+"\n" {
		t.Errorf("%s", got)
	}
	p.Nodes = []report.Candidate{on("n1", heldBy(wanted, ref("Service", "default", "s"), ports.NodePort, ""))}
	want := "NODE  FITS  PORT      HELD BY            SINCE  ALSO\nn1    no    9000/TCP  Service default/s  -      -\n\n" + is + "; 9000/TCP is held by Service default/s too\n"
	if diff := cmp.Diff(want, said()); diff != "" {
		t.Errorf("beside another (-want +got):\n%s", diff)
	}
	p.Conflicts = []check.Finding{{
		Object: p.Pod.Ref, Claim: wanted, Holder: &check.Holder{Ref: ref("Service", "default", "s")},
		Packets: &check.Packets{Winners: []check.Winner{{Of: "from outside", Who: ref("Service", "default", "s")}}},
	}}
	want = strings.TrimSuffix(want, "\n") + ", and the Service gets all packets: give one of the two another port\n"
	if diff := cmp.Diff(want, said()); diff != "" {
		t.Errorf("beside one that gets the packets (-want +got):\n%s", diff)
	}
	p.Wanted, p.Nodes, p.Phase, p.Since = nil, []report.Candidate{on("n1")}, "", time.Time{}
	if got := said(); got != "Pod default/a is on node n1 and wants no port of it\n" {
		t.Errorf("%s", got)
	}
}

// TestAges: as kubectl prints them; what is not known, or is in the future, is no age.
func TestAges(t *testing.T) {
	for since, want := range map[time.Duration]string{
		-time.Hour: "0s", 0: "0s", 119 * time.Second: "119s", 2 * time.Minute: "2m", 179 * time.Minute: "179m", 3 * time.Hour: "3h", 47 * time.Hour: "47h", 48 * time.Hour: "2d", 9000 * time.Hour: "375d",
	} {
		wanted := wanting(ports.HostPort, "*:9000/TCP")
		o := heldBy(wanted, ref("Pod", "default", "b"), ports.HostPort, "b")
		o.Since = noon.Add(-since)
		var b strings.Builder
		p := report.Placement{Pod: ports.Owner{Ref: ref("Pod", "default", "a")}, Wanted: []ports.Claim{wanted}, Nodes: []report.Candidate{on("n1", o)}}
		if err := report.NewPodReport(p).WriteTable(&b, noon); err != nil {
			t.Fatal(err)
		}
		row := strings.Fields(strings.Split(b.String(), "\n")[1])
		if got := row[len(row)-2]; got != want {
			t.Errorf("%s: %q, want %q", since, got, want)
		}
	}
}

// TestPodReportIsPrintable: names in files can be anything, and the sentence stays short.
func TestPodReportIsPrintable(t *testing.T) {
	bad := "a\x1b[31m\n" + strings.Repeat("long", 100)
	wanted := wanting(ports.HostPort, "*:9000/TCP")
	p := report.Placement{
		Pod: ports.Owner{Ref: ref("Pod", bad, bad)}, Wanted: []ports.Claim{wanted}, Said: bad, Gates: []string{bad}, Unmodelled: []string{bad},
		Nodes: []report.Candidate{{Node: bad, Obstacles: []report.Obstacle{heldBy(wanted, ref("Pod", bad, bad), ports.HostPort, bad)},
			Excluded: []check.Exclusion{{Rule: check.ByTaint, Value: bad}}, NotReady: true, Unknown: true}},
	}
	for _, node := range []string{"", bad} {
		p.Node = node
		var b strings.Builder
		r := report.NewPodReport(p)
		if err := r.WriteTable(&b, noon); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(b.String(), "\x1b") || utf8.RuneCountInString(r.Summary.Message) > report.MaxSentence {
			t.Errorf("%q", b.String())
		}
	}
}

func TestBlocked(t *testing.T) {
	first, second := wanting(ports.HostPort, "*:80/TCP"), wanting(ports.HostPort, "*:80/UDP")
	list := []check.Obstacle{
		heldBy(first, ref("Service", "default", "s"), ports.NodePort, "").Obstacle,
		heldBy(first, ref("Pod", "default", "a"), ports.HostPort, "a").Obstacle,
		heldBy(second, ref(check.NodeKind, "", "n1"), ports.HostNetwork, "").Obstacle,
		heldBy(second, ports.Ref{Kind: check.DaemonKind, Name: "x"}, ports.HostNetwork, "").Obstacle,
	}
	want := []string{
		"hostPort 80/TCP is held by Pod default/a and Service default/s",
		"hostPort 80/UDP is held by the node itself (annotation an/annotation) and x (a daemon of every node)",
	}
	if diff := cmp.Diff(want, report.Blocked(list, "an/annotation")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := report.Blocked(nil, "x"); got != nil {
		t.Errorf("%q", got)
	}
}
