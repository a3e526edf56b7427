package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/pkg/extract/specimen"
	words "github.com/portcullis-k8s/portcullis/pkg/report"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

// TestLive is every test that needs the API server, for it takes longer to start than most of them.
func TestLive(t *testing.T) {
	w := &world{rig.RunAPI(t)}
	w.populate(t)
	for _, c := range []struct {
		name string
		test func(*testing.T, *world)
	}{
		{"scene", testScene},
		{"rights", testRights},
		{"auditor", testAuditor},
		{"random", testRandom},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, w) })
	}
}

func node(i int) string {
	return fmt.Sprintf("{apiVersion: v1, kind: Node, metadata: {name: n%[1]d}, spec: {podCIDR: 10.244.%[1]d.0/24}, status: {addresses: [{type: InternalIP, address: 192.168.7.%[1]d}], allocatable: {cpu: \"4\", memory: 8Gi, pods: \"110\"}}}", i)
}

func service(name, spec string) string {
	return fmt.Sprintf("{apiVersion: v1, kind: Service, metadata: {name: %s, namespace: default}, spec: {%s}}", name, spec)
}

func pod(name, namespace, node, ports string, more ...string) string {
	return fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {name: %s, namespace: %s%s}, spec: {nodeName: '%s', containers: [{name: c, image: i, ports: [%s]}]}, status: {phase: %s}}",
		name, namespace, strings.Join(append([]string{""}, more...), ", "), node, ports, map[bool]string{true: "Pending", false: "Running"}[node == ""])
}

// populate makes what the tests look at: a Service and a Deployment that has its port, with a pod on each of two nodes; two
// pods of different namespaces that have one port of one node; a pod with the kubelet's; a Service with a number of a team's
// pool; and what is right.
func (w *world) populate(t *testing.T) {
	t.Helper()
	w.create(t, node(1), node(2), node(3), "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}",
		service("app1", "type: NodePort, selector: {app: s}, ports: [{port: 80, nodePort: 30040}]"),
		service("quiet", "type: ClusterIP, ports: [{port: 80}]"),
		pod("s1", "default", "n3", "{containerPort: 80}", "labels: {app: s}"),
		pod("early", "default", "n1", "{containerPort: 80, hostPort: 8080}"),
		"{apiVersion: portcullis.dev/v1alpha1, kind: PortPool, metadata: {name: team}, spec: {ranges: [{port: 30060, endPort: 30063}], namespaceSelector: {matchLabels: {team: a}}, enforcement: Deny}}",
		service("pooled", "type: NodePort, ports: [{port: 80, nodePort: 30061}]"))
	w.later(t)
	web := w.create(t, "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: default}, spec: {replicas: 2, selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: i, ports: [{containerPort: 80, hostPort: 30040}]}]}}}}")[0]
	of := fmt.Sprintf("labels: {app: web, pod-template-hash: x}, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web-x, uid: %s, controller: true}]", web.GetUID())
	w.create(t, pod("web-x-1", "default", "n1", "{containerPort: 80, hostPort: 30040}", of), pod("web-x-2", "default", "n2", "{containerPort: 80, hostPort: 30040}", of),
		pod("kubelike", "shop", "n2", "{containerPort: 80, hostPort: 10250}"), pod("waits", "shop", "", "{containerPort: 80, hostPort: 8081}"))
}

// later waits until what is created is younger than what is there: API servers count in seconds.
func (w *world) later(t *testing.T) {
	t.Helper()
	began := w.now(t)
	poll.Until(t, func(context.Context) error {
		if now := w.now(t); now <= began {
			return fmt.Errorf("it is still %d", now)
		}
		return nil
	})
}

// now is the second that the API server writes into what it creates.
func (w *world) now(t *testing.T) int64 {
	t.Helper()
	tried := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "now"}}
	if err := w.Create(t.Context(), tried, client.DryRunAll); err != nil {
		t.Fatal(err)
	}
	return tried.CreationTimestamp.Unix()
}

// testScene: the commands say of the cluster what is wrong with it.
func testScene(t *testing.T, w *world) {
	admin := kubeconfig(t, w.ControlPlane, "", "admin", "system:masters")
	exit, out, said := portcullis(t, "audit", "--kubeconfig", admin)
	for _, line := range []string{
		"error     PC0201  Deployment default/web  n1, n2\n", "error     PC0302  Pod shop/kubelike       -\n", "warning   PC0307  Service default/pooled  -\n",
		"\nDeployment default/web: spec.template.spec.containers[0].ports[0].hostPort: ",
	} {
		if exit != 1 || !strings.Contains(out, line) {
			t.Errorf("exit %d %s, want %q in\n%s", exit, said, line, out)
		}
	}
	config := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(config, []byte("{apiVersion: config.portcullis.dev/v1alpha1, kind: PortcullisConfiguration, dataplane: {serviceProxy: iptables, hostPort: portmap-iptables}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	exit, out, said = portcullis(t, "ports", "30040", "--kubeconfig", admin, "--config", config)
	for _, part := range []string{
		"The endpoints of Service default/app1 are not known", "Packets for 30040/TCP on nodes n1, n2:\n", "A new nodePort 30040/TCP: refused\n",
	} {
		if exit != 0 || !strings.Contains(out, part) {
			t.Errorf("exit %d %s, want %q in\n%s", exit, said, part, out)
		}
	}
	l := report[words.PortList](t, "ports", "--kubeconfig", admin, "-n", "shop")
	var got []string
	for _, i := range l.Items {
		got = append(got, fmt.Sprintf("%d %q %s", i.Port, i.Node, i.Pod))
		if i.Since == "" {
			t.Errorf("%+v does not say since when", i)
		}
	}
	if diff := cmp.Diff([]string{`8081 "" shop/waits`, `10250 "n2" shop/kubelike`}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// testRights: who may list is told all that there is, as a dump would tell; who may list a part is told what is missing.
func testRights(t *testing.T, w *world) {
	all := w.reader(t, "lists-all", listing("", "nodes", "services", "pods", "namespaces", "replicationcontrollers"), listing("apps", "deployments", "daemonsets", "replicasets", "statefulsets"),
		listing("batch", "jobs", "cronjobs"), listing("networking.k8s.io", "servicecidrs"), listing("discovery.k8s.io", "endpointslices"), listing("portcullis.dev", "portpools", "portpolicies", "portclaims"))
	some := w.reader(t, "lists-some", listing("", "nodes", "services", "pods"))
	few := w.reader(t, "lists-few", listing("", "services"))
	poll.Until(t, func(context.Context) error { // the API server learns of the bindings a moment later
		for _, kubeconfig := range []string{all, some} {
			if exit, _, said := portcullis(t, "ports", "--kubeconfig", kubeconfig); exit == 2 {
				return errors.New(said)
			}
		}
		if _, _, said := portcullis(t, "audit", "--kubeconfig", all); said != "" {
			return errors.New(said)
		}
		return nil
	})
	w.holdToDump(t, all)
	if l := report[words.PortList](t, "ports", "--kubeconfig", some); len(l.Items) == 0 {
		t.Error("nothing is listed for who may list nodes, services and pods")
	}
	exit, _, said := portcullis(t, "audit", "--kubeconfig", some)
	if exit != 1 || !strings.HasPrefix(said, "not looked at, as you may not list them in all namespaces: deployments.apps, ") {
		t.Errorf("audit with some rights: exit %d: %s", exit, said)
	}
	for _, command := range []string{"ports", "audit"} {
		exit, out, said := portcullis(t, command, "--kubeconfig", few)
		if exit != 2 || out != "" || !strings.Contains(said, "you may not list nodes, pods in all namespaces: ask for a ClusterRole with the verb list on nodes, services and pods") {
			t.Errorf("%s with few rights: exit %d: %s%s", command, exit, out, said)
		}
	}
}

// holdToDump compares what is said of the cluster with what is said of a dump of it.
func (w *world) holdToDump(t *testing.T, kubeconfig string) {
	t.Helper()
	dump := w.dump(t)
	for _, args := range [][]string{{"ports"}, {"ports", "30040"}} {
		of := report[words.PortList](t, append(args, "-f", dump)...)
		of.Inputs = nil // which a cluster has none of
		if diff := cmp.Diff(of, report[words.PortList](t, append(args, "--kubeconfig", kubeconfig)...)); diff != "" {
			t.Errorf("%s (-dump +cluster):\n%s", args, diff)
		}
	}
	of, from := report[words.AuditReport](t, "audit", "-f", dump), report[words.AuditReport](t, "audit", "--kubeconfig", kubeconfig)
	for i := range of.Findings {
		of.Findings[i].Source = words.Source{}
	}
	if diff := cmp.Diff(of, from); diff != "" || len(of.Findings) == 0 {
		t.Errorf("audit of %d findings (-dump +cluster):\n%s", len(of.Findings), diff)
	}
}

// testRandom changes the cluster at random; the commands, a dump, and the program's own audit agree on what it is.
func testRandom(t *testing.T, w *world) {
	s := specimen.New(t)
	admin := kubeconfig(t, w.ControlPlane, "", "admin", "system:masters")
	a := w.audit(t, auditing{})
	var there []client.Object
	for round := range specimen.Rounds(3) {
		for i := range 12 {
			name, number := fmt.Sprintf("r%d-%d", round, i), []int{30040, 30041, 30061, 8080, 9090}[s.IntN(5)]
			ip := []string{"", "", ", hostIP: 0.0.0.0", ", hostIP: 127.0.0.1", ", hostIP: 192.168.7.1"}[s.IntN(5)]
			text := pod(name, []string{"default", "shop"}[s.IntN(2)], []string{"n1", "n2", "n3", ""}[s.IntN(4)], fmt.Sprintf("{containerPort: 80, hostPort: %d%s, protocol: %s}", number, ip, []string{"TCP", "UDP"}[s.IntN(2)]))
			if s.IntN(4) == 0 {
				text = fmt.Sprintf("{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: %[1]s, namespace: shop}, spec: {selector: {matchLabels: {app: %[1]s}}, template: {metadata: {labels: {app: %[1]s}}, spec: {containers: [{name: c, image: i, ports: [{containerPort: 80, hostPort: %[2]d}]}]}}}}", name, number)
			}
			there = append(there, w.create(t, text)[0])
		}
		w.create(t, service(fmt.Sprint("r", round), "type: NodePort, ports: [{port: 80}]"))
		for len(there) > 20 {
			if err := w.Delete(t.Context(), there[0], client.GracePeriodSeconds(0)); err != nil && !apierrors.IsNotFound(err) {
				t.Fatal(err)
			}
			there = there[1:]
		}
		w.holdToDump(t, admin)
		a.holdToDump(t)
	}
	if n := len(report[words.AuditReport](t, "audit", "--kubeconfig", admin).Findings); n < 10 {
		t.Errorf("only %d findings: the cluster is too quiet to prove anything", n)
	}
}
