package extract_test

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/portcullis-k8s/portcullis/pkg/extract"
)

func TestOwners(t *testing.T) {
	trusted := []string{"kube-system", "trusted"}
	for _, c := range []struct{ why, metadata, want string }{
		{"nobody's", "{namespace: ns, name: a}", "v1 Pod ns/a"},
		{"no namespace", "{name: a}", "v1 Pod default/a"},
		{"a name that is not made yet", "{namespace: ns, generateName: a-}", "v1 Pod ns/a-*"},
		{"a controller", "{namespace: ns, name: a, ownerReferences: [{apiVersion: games/v1, kind: GameServer, name: g, controller: true, uid: u}]}", "v1 Pod ns/a < games/v1 GameServer ns/g"},
		{"an owner that is no controller", "{namespace: ns, name: a, ownerReferences: [{apiVersion: v1, kind: ConfigMap, name: g, uid: u}]}", "v1 Pod ns/a"},
		{"a static pod's node", "{namespace: ns, name: a, ownerReferences: [{apiVersion: v1, kind: Node, name: n1, controller: true, uid: u}]}", "v1 Pod ns/a"},
		{"a Deployment's pod", "{namespace: ns, name: web-5d4-x, labels: {pod-template-hash: 5d4}, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web-5d4, controller: true, uid: u}]}",
			"v1 Pod ns/web-5d4-x < apps/v1 ReplicaSet ns/web-5d4 < apps/v1 Deployment ns/web"},
		{"a bare ReplicaSet's pod", "{namespace: ns, name: web-x, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web, controller: true, uid: u}]}",
			"v1 Pod ns/web-x < apps/v1 ReplicaSet ns/web"},
		{"a hash that is not in the ReplicaSet's name", "{namespace: ns, name: web-x, labels: {pod-template-hash: 5d4}, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web, controller: true, uid: u}]}",
			"v1 Pod ns/web-x < apps/v1 ReplicaSet ns/web"},
		{"a hash at the end of another kind's name", "{namespace: ns, name: web-x, labels: {pod-template-hash: 5d4}, ownerReferences: [{apiVersion: apps/v1, kind: StatefulSet, name: web-5d4, controller: true, uid: u}]}",
			"v1 Pod ns/web-x < apps/v1 StatefulSet ns/web-5d4"},
		{"a pod of k3s' load balancer", "{namespace: kube-system, name: svclb-web-x, labels: {svccontroller.k3s.cattle.io/svcname: web, svccontroller.k3s.cattle.io/svcnamespace: ns}, ownerReferences: [{apiVersion: apps/v1, kind: DaemonSet, name: svclb-web, controller: true, uid: u}]}",
			"v1 Pod kube-system/svclb-web-x < apps/v1 DaemonSet kube-system/svclb-web < v1 Service ns/web"},
		{"of an older k3s", "{namespace: trusted, name: svclb-web-x, labels: {svccontroller.k3s.cattle.io/svcname: web}}", "v1 Pod trusted/svclb-web-x < v1 Service trusted/web"},
		{"with its labels, elsewhere", "{namespace: ns, name: svclb-web-x, labels: {svccontroller.k3s.cattle.io/svcname: web, svccontroller.k3s.cattle.io/svcnamespace: ns}}", "v1 Pod ns/svclb-web-x"},
		{"that it is of a Service", "{namespace: ns, name: a, ownerReferences: [{apiVersion: v1, kind: Service, name: s, controller: true, uid: u}]}", "v1 Pod ns/a"},
		{"a ReplicationController's pod", "{namespace: ns, name: a, ownerReferences: [{apiVersion: v1, kind: ReplicationController, name: r, controller: true, uid: u}]}",
			"v1 Pod ns/a < v1 ReplicationController ns/r"},
	} {
		w := extract.Pod(&corev1.Pod{ObjectMeta: mustRead[corev1.Pod]("{metadata: " + c.metadata + "}").ObjectMeta}, nil, trusted)
		if got := chain(w.Owner); got != c.want {
			t.Errorf("%s: %s, want %s", c.why, got, c.want)
		}
	}
	svc := extract.Service(mustRead[corev1.Service]("{metadata: {generateName: web-}}"), onAll())
	if got := chain(svc.Owner); got != "v1 Service default/web-*" {
		t.Errorf("a Service without name and namespace: %s", got)
	}
	for object, want := range map[runtime.Object]string{
		mustRead[appsv1.Deployment]("{metadata: {namespace: ns, name: a, ownerReferences: [{apiVersion: games/v1, kind: GameServer, name: g, controller: true, uid: u}]}}"):                   "apps/v1 Deployment ns/a",
		mustRead[batchv1.Job]("{metadata: {namespace: ns, name: a-1, ownerReferences: [{apiVersion: batch/v1, kind: CronJob, name: a, controller: true, uid: u}]}}"):                          "batch/v1 Job ns/a-1 < batch/v1 CronJob ns/a",
		mustRead[appsv1.DaemonSet]("{metadata: {namespace: kube-system, name: svclb-web, labels: {svccontroller.k3s.cattle.io/svcname: web, svccontroller.k3s.cattle.io/svcnamespace: ns}}}"): "apps/v1 DaemonSet kube-system/svclb-web < v1 Service ns/web",
	} {
		if w, _ := extract.Workload(object, nil, trusted); chain(w.Owner) != want {
			t.Errorf("%T: %s, want %s", object, chain(w.Owner), want)
		}
	}
	rs, _ := extract.Workload(mustRead[appsv1.ReplicaSet]("{metadata: {namespace: ns, name: web-5d4, labels: {pod-template-hash: 5d4}, ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: web, controller: true, uid: u}]}}"), nil, nil)
	if got := chain(rs.Owner); got != "apps/v1 ReplicaSet ns/web-5d4 < apps/v1 Deployment ns/web" {
		t.Errorf("a ReplicaSet: %s", got)
	}
}

// TestAdopt finds controllers for objects in files, which do not name them.
func TestAdopt(t *testing.T) {
	const labels, ports = "{app: web}", "containers: [{name: a, ports: [{hostPort: 80}]}]"
	deployment := func(namespace, selector, ports string) runtime.Object {
		return mustRead[appsv1.Deployment]("{metadata: {name: web, namespace: " + namespace + "}, spec: {selector: {matchLabels: " + selector + "}, template: {spec: {" + ports + "}}}}")
	}
	pod := func(more string) runtime.Object {
		return mustRead[corev1.Pod]("{metadata: {name: p, namespace: ns, labels: {app: web, x: y}" + more + "}, spec: {" + ports + "}}")
	}
	const adopted = "v1 Pod ns/p < apps/v1 Deployment ns/web"
	for _, c := range []struct {
		why           string
		known, object runtime.Object
		want          string
	}{
		{"the selector matches and the claims are the same", deployment("ns", labels, ports), pod(""), adopted},
		{"a template that claims more", deployment("ns", labels, "containers: [{name: a, ports: [{hostPort: 80}, {hostPort: 81}]}]"), pod(""), adopted},
		{"a template that claims less", deployment("ns", labels, "containers: [{name: a, ports: [{hostPort: 80, hostIP: 10.0.0.1}]}]"), pod(""), "v1 Pod ns/p"},
		{"another namespace", deployment("other", labels, ports), pod(""), "v1 Pod ns/p"},
		{"another selector", deployment("ns", "{app: db}", ports), pod(""), "v1 Pod ns/p"},
		{"a selector of everything", deployment("ns", "{}", ports), pod(""), "v1 Pod ns/p"},
		{"one that names its own", deployment("ns", labels, ports), pod(", ownerReferences: [{apiVersion: apps/v1, kind: StatefulSet, name: s, controller: true, uid: u}]"), "v1 Pod ns/p < apps/v1 StatefulSet ns/s"},
		{"a ReplicaSet, by its template's labels", deployment("ns", labels, ports),
			mustRead[appsv1.ReplicaSet]("{metadata: {name: r, namespace: ns}, spec: {template: {metadata: {labels: {app: web}}, spec: {" + ports + "}}}}"), "apps/v1 ReplicaSet ns/r < apps/v1 Deployment ns/web"},
		{"an old ReplicationController", mustRead[corev1.ReplicationController]("{metadata: {name: web, namespace: ns}, spec: {selector: " + labels + ", template: {spec: {" + ports + "}}}}"), pod(""),
			"v1 Pod ns/p < v1 ReplicationController ns/web"},
		{"a DaemonSet", mustRead[appsv1.DaemonSet]("{metadata: {name: web, namespace: ns}, spec: {selector: {matchLabels: " + labels + "}, template: {spec: {" + ports + "}}}}"), pod(""),
			"v1 Pod ns/p < apps/v1 DaemonSet ns/web"},
		{"another Deployment, by a selector that matches no labels", mustRead[appsv1.Deployment]("{metadata: {name: web, namespace: ns}, spec: {selector: {matchExpressions: [{key: x, operator: DoesNotExist}]}, template: {spec: {" + ports + "}}}}"),
			mustRead[appsv1.Deployment]("{metadata: {name: api, namespace: ns}, spec: {template: {spec: {" + ports + "}}}}"), "apps/v1 Deployment ns/api"},
		{"a Service has a selector too", mustRead[corev1.Service]("{metadata: {name: web, namespace: ns}, spec: {selector: " + labels + ", ports: [{port: 80}]}}"), pod(""), "v1 Pod ns/p"},
	} {
		w, ok := extract.Workload(c.object, nil, nil)
		if p, isPod := c.object.(*corev1.Pod); isPod {
			w, ok = extract.Pod(p, nil, nil), true
		}
		extract.NewControllers([]runtime.Object{c.known, c.object}).Adopt(w, c.object)
		if got := chain(w.Owner); !ok || got != c.want {
			t.Errorf("%s: %s, want %s", c.why, got, c.want)
		}
	}
}
