package inspect

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/cli"
	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/clitest"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

const fourOnThreeSays = `NODE  FITS  PORT      HELD BY                    SINCE  ALSO
n1    no    9000/TCP  Deployment default/tomcat  -      -
n2    no    9000/TCP  Deployment default/tomcat  -      -
n3    no    9000/TCP  Deployment default/tomcat  -      -

0 of 3 nodes fit: hostPort 9000/TCP is held on 3 by Deployment default/tomcat; a node has room for one of its pods: run fewer, or add a node, or expose them by a Service without a hostPort
Resource requests were not checked: status.allocatable is empty on nodes n1, n2, n3.
`

func TestWhy(t *testing.T) {
	clitest.Folder(t, map[string]string{
		"state.yaml": clitest.FourOnThree(), "nodeless.yaml": clitest.Free, "broken.yaml": "a: [",
		"onlytemplate.yaml": clitest.ThreeNodes + clitest.And + clitest.Bound("adopted", "n2") + clitest.And + clitest.Tomcat + clitest.And + clitest.Agent,
		"shop.yaml":         clitest.ThreeNodes + clitest.And + clitest.Unrelated + clitest.And + strings.ReplaceAll(clitest.Unrelated, "name: web,", "name: wed,"),
	})
	t.Setenv("KUBECONFIG", "/nowhere/at/all")
	for _, c := range []struct {
		args string
		exit int
		says string // all of it on stdout, or a part of what is wrong
	}{
		{"tomcat-d -f state.yaml", 1, fourOnThreeSays},
		{"default/tomcat-d -f state.yaml", 1, fourOnThreeSays},
		{"pod/tomcat-d -n default -f state.yaml", 1, fourOnThreeSays},
		{"default/po/tomcat-d -f state.yaml -o table", 1, fourOnThreeSays},
		{"deployment/tomcat -f state.yaml", 1, fourOnThreeSays},
		{"deployment.apps/tomcat -f state.yaml", 1, fourOnThreeSays},
		{"tomcat-a -f state.yaml", 0, "Pod default/tomcat-a is on node n1 (Running) and holds hostPort 9000/TCP\n"},
		{"free -f state.yaml", 0, "NODE  FITS  PORT  HELD BY  SINCE  ALSO\nn1    yes   -     -        -      -\nn2    yes   -     -        -      -\nn3    yes   -     -        -      -\n\n3 of 3 nodes fit: n1, n2, n3\n" +
			"Resource requests were not checked: status.allocatable is empty on nodes n1, n2, n3.\n"},
		{"shop/web -f state.yaml", 0, "NODE  FITS  PORT  HELD BY  SINCE  ALSO\nn1    yes   -     -        -      -\nn2    yes   -     -        -      -\nn3    yes   -     -        -      -\n\nPod shop/web wants no port of a node; 3 of 3 nodes fit: n1, n2, n3\n" +
			"Resource requests were not checked: status.allocatable is empty on nodes n1, n2, n3.\n"},
		{"failed -f state.yaml", 1, strings.Replace(strings.Replace(fourOnThreeSays, "a node has room for one of its pods: run fewer, or add a node, or expose them by a Service without a hostPort",
			"delete Deployment default/tomcat or move it, or choose another hostPort, or expose the pod by a Service", 1), "Resource requests", "The pod has ended and holds nothing (Failed, NodePorts: no room); it was judged as if it were made again.\nResource requests", 1)},
		{"deploy/tomcat -f onlytemplate.yaml", 0, "NODE  FITS  PORT      HELD BY                    SINCE  ALSO\nn1    yes   -         -                          -      -\nn2    no    9000/TCP  Deployment default/tomcat  -      -\nn3    yes   -         -                          -      -\n\n" +
			"2 of 3 nodes fit: n1, n3; hostPort 9000/TCP is held on 1 by Deployment default/tomcat\nDeployment default/tomcat wants 4 pods, of which 1 are known.\nResource requests were not checked: status.allocatable is empty on nodes n1, n2, n3.\n"},

		{"tomcat -f state.yaml", 2, "there is no Pod default/tomcat; there are default/tomcat-a, default/tomcat-b, default/tomcat-c, default/tomcat-d"},
		{"wep -n shop -f shop.yaml", 2, "there is no Pod shop/wep; there are shop/web, shop/wed"},
		{"web -f shop.yaml", 2, "there is no Pod default/web; there are shop/web, shop/wed"},
		{"nothing-like-it -f state.yaml", 2, "there is no Pod default/nothing-like-it; kubectl get pods -A lists all there are"},
		{"ds/tomcat -f state.yaml", 2, "there is no DaemonSet default/tomcat"},
		{"shop/tomcat-d -n default -f state.yaml", 2, `"shop/tomcat-d" names the namespace shop, and -n default: leave one of the two out`},
		{"a/b/c -f state.yaml", 2, `"a/b/c" names no pod: write NAME, NAMESPACE/NAME, or KIND/NAME as deployment/tomcat`},
		{"pod/ -f state.yaml", 2, `"pod/" names no pod`},
		{"free -f nodeless.yaml", 2, "there is no Node among the objects"},
		{"free -f broken.yaml", 2, "broken.yaml:1"},
		{"free -f missing.yaml", 2, "missing.yaml"},
		{"free -f state.yaml -o wide", 2, `--output "wide" is not one of table, json, yaml`},
		{"free -f state.yaml --config missing.yaml", 2, "missing.yaml"},
		{"free --kubeconfig missing", 2, "finding the cluster: "},
		{"free", 2, "there is no kubeconfig that names a cluster: name one with --kubeconfig, or give the objects with -f"},
		{"service/web -n shop -f state.yaml", 2, `"service" is not a kind with a pod template; use pod, deployment, statefulset, `},
		{"", 2, "name a pod or workload, for example: portcullis why shop/web-1 or portcullis why deployment/web"},
	} {
		o := runCommand(t, "", append([]string{"why"}, strings.Fields(c.args)...)...)
		said := o.Stdout
		if c.exit == cli.ExitUsage && strings.Contains(o.Stderr, c.says) {
			said = c.says
		}
		if diff := cmp.Diff(c.says, said); diff != "" || o.Exit != c.exit {
			t.Errorf("%s: exit %d, want %d %s (-want +got):\n%s", c.args, o.Exit, c.exit, o.Stderr, diff)
		}
	}
}

// TestWhyEnds: the search ends where a pod waits for its own rollout, where none can be created, where all have a node, and at who
// owns the namespace of a holder.
func TestWhyEnds(t *testing.T) {
	owned := func(kind, name, by, byKind, more string) string {
		version := map[string]string{"Pod": "v1", "ReplicaSet": "apps/v1"}[kind]
		return fmt.Sprintf("{apiVersion: %s, kind: %s, metadata: {name: %s, namespace: default, labels: {app: tomcat}, ownerReferences: [{apiVersion: apps/v1, kind: %s, name: %s, uid: u, controller: true}]}, %s}\n", version, kind, name, byKind, by, more)
	}
	const (
		container = "containers: [{name: c, ports: [{containerPort: 8080, hostPort: 9000}]}]"
		template  = "selector: {matchLabels: {app: tomcat}}, template: {metadata: {labels: {app: tomcat}}, spec: {" + container + "}}"
		oneNode   = "{apiVersion: v1, kind: Node, metadata: {name: n1}}\n"
	)
	deployment := func(strategy string) string {
		return "{apiVersion: apps/v1, kind: Deployment, metadata: {name: tomcat, namespace: default}, spec: {replicas: 1, " + strategy + template + "}}\n"
	}
	set := func(name, status string) string {
		return owned("ReplicaSet", name, "tomcat", "Deployment", "spec: {replicas: 1, "+template+"}, status: {"+status+"}")
	}
	older, newer := owned("Pod", "old-a", "tomcat-1", "ReplicaSet", "spec: {nodeName: n1, "+container+"}"), owned("Pod", "new-a", "tomcat-2", "ReplicaSet", "spec: {"+container+"}")
	rollout := []string{oneNode, set("tomcat-1", ""), set("tomcat-2", ""), older, newer}
	const patch = `kubectl patch deployment tomcat -n default --type merge -p '{"spec":{"strategy":{"rollingUpdate":{"maxSurge":0,"maxUnavailable":1}}}}'`
	const denied = "pods \"tomcat-1-x\" is forbidden: exceeded quota: q, used: pods=1, limited: pods=1"
	foreign := "{apiVersion: v1, kind: Pod, metadata: {name: theirs, namespace: shop}, spec: {nodeName: n1, " + container + "}}\n"
	for _, c := range []struct {
		why, subject string
		objects      []string
		says, not    string
	}{
		{"its own rollout", "new-a", append([]string{deployment("")}, rollout...), patch, "cannot create"},
		{"a rollout that may go on", "new-a", append([]string{deployment("strategy: {rollingUpdate: {maxUnavailable: 1}}, ")}, rollout...), "0 of 1 nodes fit", patch},
		{"another pod of the same revision", "new-a", []string{deployment(""), oneNode, set("tomcat-2", ""), strings.ReplaceAll(older, "tomcat-1", "tomcat-2"), newer}, "0 of 1 nodes fit", patch},
		{"a node is free", "new-a", append([]string{deployment(""), strings.Replace(oneNode, "n1", "n2", 1)}, rollout...), "1 of 2 nodes fits", patch},
		{"none can be created", "deployment/tomcat", []string{deployment(""), oneNode, set("tomcat-1", "conditions: [{type: ReplicaFailure, status: \"True\", message: '"+denied+"'}]")},
			"Deployment default/tomcat cannot create pods: " + denied + ".", "are known"},
		{"it could not once", "deployment/tomcat", []string{deployment(""), oneNode, set("tomcat-1", "conditions: [{type: ReplicaFailure, status: \"False\", message: x}]")},
			"Deployment default/tomcat wants 1 pod, of which 0 are known.", "cannot create"},
		{"all have a node", "deployment/tomcat", []string{deployment(""), oneNode, set("tomcat-1", ""), older}, "All pods of Deployment default/tomcat have a node (1); this is about one more.", "are known"},
		{"who to ask", "new-a", []string{deployment(""), oneNode, set("tomcat-2", ""), newer, foreign}, "ask who owns namespace shop to move Pod shop/theirs, or choose another hostPort", patch},
		{"nobody to ask", "new-a", []string{deployment(""), oneNode, set("tomcat-2", ""), newer, strings.Replace(foreign, "shop", "default", 1)}, "delete Pod default/theirs or move it", "ask who"},
	} {
		clitest.Folder(t, map[string]string{"state.yaml": strings.Join(c.objects, clitest.And)})
		o := runCommand(t, "", "why", c.subject, "-f", "state.yaml")
		if !strings.Contains(o.Stdout, c.says) || strings.Contains(o.Stdout, c.not) {
			t.Errorf("%s: exit %d %s, want %q and no %q in\n%s", c.why, o.Exit, o.Stderr, c.says, c.not, o.Stdout)
		}
	}
}

// TestWhyJSON: JSON and YAML are one report.
func TestWhyJSON(t *testing.T) {
	clitest.Folder(t, map[string]string{"state.yaml": clitest.FourOnThree()})
	read := func(form string) (r report.PodReport) {
		t.Helper()
		o := runCommand(t, "", "why", "tomcat-d", "-f", "state.yaml", "-o", form)
		if err := yaml.Unmarshal([]byte(o.Stdout), &r); err != nil || o.Exit != cli.ExitFindings {
			t.Fatalf("exit %d: %v in %s %s", o.Exit, err, o.Stdout, o.Stderr)
		}
		return r
	}
	r := read("json")
	if diff := cmp.Diff(r, read("yaml")); diff != "" {
		t.Errorf("(-json +yaml):\n%s", diff)
	}
	if r.Kind != "PodReport" || r.APIVersion != "portcullis.dev/v1alpha1" || r.Summary.Nodes != 3 || r.Summary.Fits != 0 || r.Summary.Held != 3 || r.Summary.Excluded != 0 {
		t.Errorf("%+v", r)
	}
	var got []string
	for _, n := range r.Nodes {
		for _, o := range n.Obstacles {
			got = append(got, fmt.Sprintf("%s %d/%s %s %s %s by %s on %s", n.Node, o.Port, o.Protocol, o.Field, o.Holder.Name, o.Holder.Field, o.Pod, o.Holder.Node))
		}
	}
	want := []string{
		"n1 9000/TCP spec.containers[0].ports[0].hostPort tomcat spec.template.spec.containers[0].ports[0].hostPort by default/tomcat-a on n1",
		"n2 9000/TCP spec.containers[0].ports[0].hostPort tomcat spec.template.spec.containers[0].ports[0].hostPort by default/tomcat-b on n2",
		"n3 9000/TCP spec.containers[0].ports[0].hostPort tomcat spec.template.spec.containers[0].ports[0].hostPort by default/tomcat-c on n3",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestWhyPages: a cluster is read page by page, again from the beginning if that took too long, and what the API server
// says is told in words.
func TestWhyPages(t *testing.T) {
	var asked []string
	answers := map[string]string{
		"/api/v1/nodes?limit=500":                          `{"kind": "NodeList", "apiVersion": "v1", "metadata": {"continue": "x"}, "items": [{"metadata": {"name": "n1"}}]}`,
		"/api/v1/nodes?continue=x&limit=500":               `{"kind": "NodeList", "apiVersion": "v1", "items": [{"metadata": {"name": "n2"}}]}`,
		"/api/v1/services?limit=500":                       `{"kind": "ServiceList", "apiVersion": "v1", "items": []}`,
		"/api/v1/pods?limit=500":                           `{"kind": "PodList", "apiVersion": "v1", "metadata": {"continue": "old"}, "items": [{"metadata": {"name": "gone", "namespace": "default"}}]}`,
		"/api/v1/pods":                                     `{"kind": "PodList", "apiVersion": "v1", "items": [{"metadata": {"name": "a", "namespace": "default"}, "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]}}]}`,
		"/apis/apps/v1/namespaces/default/deployments/web": `{"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": "web", "namespace": "default"}, "spec": {"template": {"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]}}}}`,
	}
	status := func(w http.ResponseWriter, code int, reason string) {
		w.WriteHeader(code)
		_, _ = fmt.Fprintf(w, `{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": %q, "code": %d, "message": "said so"}`, reason, code)
	}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.String())
		w.Header().Set("Content-Type", "application/json")
		switch answer, ok := answers[r.URL.String()]; {
		case strings.Contains(r.URL.RawQuery, "continue=old"):
			status(w, http.StatusGone, "Expired")
		case r.Header.Get("Authorization") == "Bearer nobody":
			status(w, http.StatusUnauthorized, "Unauthorized")
		case r.Header.Get("Authorization") == "Bearer broken":
			status(w, http.StatusInternalServerError, "InternalError")
		case r.Header.Get("Authorization") == "Bearer some" && !strings.Contains(r.URL.Path, "services"):
			status(w, http.StatusForbidden, "Forbidden")
		case !ok:
			status(w, http.StatusNotFound, "NotFound")
		default:
			_, _ = w.Write([]byte(answer))
		}
	}))
	defer server.Close()
	t.Setenv("KUBECONFIG", "")
	t.Setenv("HOME", t.TempDir())
	closed := httptest.NewServer(nil)
	closed.Close()
	for _, c := range []struct {
		args string
		exit int
		says string
	}{
		{"a", 0, "2 of 2 nodes fit: n1, n2\n"},
		{"deploy/web", 0, "2 of 2 nodes fit: n1, n2\n"},
		{"deploy/none", 2, "there is no Deployment default/none"},
		{"gone", 2, "there is no Pod default/gone"},
		{"a --token nobody", 2, "reading nodes: the API server " + server.URL + " does not know you: log in again, or choose another --user or --context"},
		{"a --token broken", 2, "said so"},
		{"a --token some", 2, "you may not list nodes, pods in all namespaces: ask for a ClusterRole with the verb list on nodes, services and pods (kubectl auth can-i list nodes -A), " +
			"or for the objects in a file (kubectl get nodes,services,pods -A -o yaml), which -f reads"},
		{"a --server " + closed.URL, 2, "reading nodes: the API server " + closed.URL + " cannot be reached: "},
	} {
		args := append([]string{"why", "--insecure-skip-tls-verify", "--server", server.URL}, strings.Fields(c.args)...)
		if o := runCommand(t, "", args...); o.Exit != c.exit || !strings.Contains(o.Stdout+o.Stderr, c.says) {
			t.Errorf("%s: exit %d, want %d with %q: %s%s", c.args, o.Exit, c.exit, c.says, o.Stdout, o.Stderr)
		}
	}
	for _, url := range []string{"/api/v1/nodes?continue=x&limit=500", "/api/v1/pods"} {
		if !slices.Contains(asked, url) {
			t.Errorf("%s was never asked for: %q", url, asked)
		}
	}
}

// TestWhyWorkloadByName: who leaves the kind out is told of the workload with the name.
func TestWhyWorkloadByName(t *testing.T) {
	clitest.Folder(t, map[string]string{"a.yaml": clitest.Node1 + clitest.And + "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {template: {spec: {containers: [{name: c}]}}}}"})
	const want = "there is no Pod default/web, but there is Deployment default/web: portcullis why deployment/web\n"
	if o := runCommand(t, "", "why", "web", "-f", "a.yaml"); o.Exit != cli.ExitUsage || !strings.HasSuffix(o.Stderr, want) {
		t.Errorf("exit %d: %s", o.Exit, o.Stderr)
	}
}

// TestWhyDaemonSet: of a DaemonSet it is asked about the pod of each node, not about another one beside it.
func TestWhyDaemonSet(t *testing.T) {
	const template = "containers: [{name: c, image: i, ports: [{containerPort: 80, hostPort: 80}]}]"
	pod := func(name, node, owner string) string {
		return "{apiVersion: v1, kind: Pod, metadata: {name: " + name + ", namespace: m" + owner + "}, spec: {nodeName: " + node + ", " + template + "}}\n"
	}
	set := clitest.Node1 + clitest.And + clitest.Node2 + clitest.And + "{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: d, namespace: m, uid: d}, spec: {selector: {matchLabels: {a: d}}, template: {metadata: {labels: {a: d}}, spec: {" + template + "}}}}\n" +
		clitest.And + pod("d-1", "n1", ", labels: {a: d}, ownerReferences: [{apiVersion: apps/v1, kind: DaemonSet, name: d, uid: d, controller: true}]")
	clitest.Folder(t, map[string]string{"fits.yaml": set, "held.yaml": set + clitest.And + pod("x", "n2", "")})
	for file, want := range map[string]struct {
		exit int
		says string
	}{
		"fits.yaml": {0, "2 of 2 nodes fit: n1, n2\nDaemonSet m/d runs on 1 node already, which fit.\n"},
		"held.yaml": {1, "1 of 2 nodes fits: n1; hostPort 80/TCP is held on 1 by Pod m/x\n"},
	} {
		if o := runCommand(t, "", "why", "daemonset/d", "-n", "m", "-f", file); o.Exit != want.exit || !strings.Contains(o.Stdout, want.says) {
			t.Errorf("%s: exit %d, want %d and %q in\n%s%s", file, o.Exit, want.exit, want.says, o.Stdout, o.Stderr)
		}
	}
}
