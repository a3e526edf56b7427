package extract_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/portcullis-k8s/portcullis/pkg/extract"
)

const podTemplate = "template: {spec: {containers: [{name: a, ports: [{hostPort: 80}]}]}}"

func TestWorkloadKinds(t *testing.T) {
	const port = "spec.template.spec.containers[0].ports[0].hostPort"
	const name = "{metadata: {name: a, namespace: ns}, spec: {" + podTemplate + ", "
	for _, c := range []struct {
		why    string
		object runtime.Object
		owner  string
		want   string
	}{
		{"Deployment", mustRead[appsv1.Deployment](name + "replicas: 1}}"), "apps/v1 Deployment ns/a", "@a node " + port},
		{"Deployment, one replica by default", mustRead[appsv1.Deployment](name + "paused: true}}"), "apps/v1 Deployment ns/a", "@a node " + port},
		{"Deployment, scaled to nothing", mustRead[appsv1.Deployment](name + "replicas: 0}}"), "apps/v1 Deployment ns/a", "@a node " + port + " idle"},
		{"StatefulSet", mustRead[appsv1.StatefulSet](name + "}}"), "apps/v1 StatefulSet ns/a", "@a node " + port},
		{"StatefulSet, scaled to nothing", mustRead[appsv1.StatefulSet](name + "replicas: 0}}"), "apps/v1 StatefulSet ns/a", "@a node " + port + " idle"},
		{"ReplicaSet", mustRead[appsv1.ReplicaSet](name + "}}"), "apps/v1 ReplicaSet ns/a", "@a node " + port},
		{"ReplicaSet of an old revision", mustRead[appsv1.ReplicaSet](name + "replicas: 0}}"), "apps/v1 ReplicaSet ns/a", "@a node " + port + " idle"},
		{"ReplicationController", mustRead[corev1.ReplicationController](name + "}}"), "v1 ReplicationController ns/a", "@a node " + port},
		{"ReplicationController, scaled to nothing", mustRead[corev1.ReplicationController](name + "replicas: 0}}"), "v1 ReplicationController ns/a", "@a node " + port + " idle"},
		{"DaemonSet", mustRead[appsv1.DaemonSet](name + "}}"), "apps/v1 DaemonSet ns/a", "@every node " + port},
		{"Job", mustRead[batchv1.Job](name + "}}"), "batch/v1 Job ns/a", "@a node " + port},
		{"Job, suspended", mustRead[batchv1.Job](name + "suspend: true}}"), "batch/v1 Job ns/a", "@a node " + port + " idle"},
		{"Job, no pods at once", mustRead[batchv1.Job](name + "parallelism: 0}}"), "batch/v1 Job ns/a", "@a node " + port + " idle"},
		{"Job, complete", mustRead[batchv1.Job](name + "}, status: {conditions: [{type: Complete, status: 'True'}]}}"), "batch/v1 Job ns/a", "@a node " + port + " idle"},
		{"Job, failed", mustRead[batchv1.Job](name + "}, status: {conditions: [{type: Suspended, status: 'False'}, {type: Failed, status: 'True'}]}}"), "batch/v1 Job ns/a", "@a node " + port + " idle"},
		{"Job, not complete", mustRead[batchv1.Job](name + "}, status: {conditions: [{type: Complete, status: 'False'}]}}"), "batch/v1 Job ns/a", "@a node " + port},
		{"CronJob", mustRead[batchv1.CronJob]("{metadata: {name: a, namespace: ns}, spec: {jobTemplate: {spec: {" + podTemplate + "}}}}"), "batch/v1 CronJob ns/a", "@a node spec.jobTemplate." + port},
		{"CronJob, suspended", mustRead[batchv1.CronJob]("{metadata: {name: a, namespace: ns}, spec: {suspend: true, jobTemplate: {spec: {" + podTemplate + "}}}}"), "batch/v1 CronJob ns/a", "@a node spec.jobTemplate." + port + " idle"},
	} {
		w, ok := extract.Workload(c.object, nil, nil)
		if !ok {
			t.Errorf("%s: no workload", c.why)
			continue
		}
		if diff := cmp.Diff([]string{"hostPort *:80/TCP " + c.want}, told(w.Claims)); diff != "" || chain(w.Owner) != c.owner || w.IsPod || w.Eligible != nil {
			t.Errorf("%s: owner %s, claims (-want +got):\n%s", c.why, chain(w.Owner), diff)
		}
		everyOwner(t, c.why, &w.Owner, w.Claims)
	}
	for _, object := range []runtime.Object{&corev1.Pod{}, &corev1.Service{}, &corev1.ReplicationController{}, nil} {
		if w, ok := extract.Workload(object, nil, nil); ok {
			t.Errorf("%T: %+v", object, w)
		}
	}
}

func TestTemplateOfTheHostNetwork(t *testing.T) {
	w, _ := extract.Workload(mustRead[appsv1.DaemonSet](`{spec: {template: {spec: {hostNetwork: true,
		initContainers: [{name: i, restartPolicy: Always, ports: [{containerPort: 79}]}], containers: [{name: a, ports: [{containerPort: 80}]}, {name: b}]}}}}`), nil, nil)
	want := []string{
		"hostNetwork port *:79/TCP @every node spec.template.spec.initContainers[0].ports[0].containerPort sidecar",
		"hostNetwork port *:80/TCP @every node spec.template.spec.containers[0].ports[0].containerPort",
	}
	if diff := cmp.Diff(want, told(w.Claims)); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"i", "a", "b"}, w.Containers); diff != "" || !w.HostNetwork {
		t.Errorf("host network %v, containers (-want +got):\n%s", w.HostNetwork, diff)
	}
}

// hosts are nodes with their hostnames.
func hosts(nameAndHost ...string) extract.NodeList {
	var nodes extract.NodeList
	for pair := range slices.Chunk(nameAndHost, 2) {
		nodes = append(nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: pair[0], Labels: map[string]string{corev1.LabelHostname: pair[1]}}})
	}
	return nodes
}

func TestWorkloadScopes(t *testing.T) {
	daemon := func(spec string) runtime.Object {
		return &appsv1.DaemonSet{Spec: appsv1.DaemonSetSpec{Template: corev1.PodTemplateSpec{Spec: *mustRead[corev1.PodSpec](spec)}}}
	}
	other := func(spec string) runtime.Object {
		return &appsv1.Deployment{Spec: appsv1.DeploymentSpec{Template: corev1.PodTemplateSpec{Spec: *mustRead[corev1.PodSpec](spec)}}}
	}
	const ports = "containers: [{name: a, ports: [{hostPort: 80}]}]"
	const byHost = "nodeSelector: {kubernetes.io/hostname: host-b}, "
	for _, c := range []struct {
		why      string
		object   runtime.Object
		nodes    extract.EligibleNodes
		scope    string
		eligible []string
	}{
		{"a DaemonSet, nodes not known", daemon("{" + ports + "}"), nil, "every node", nil},
		{"tolerations widen, which says nothing", daemon("{tolerations: [{operator: Exists}], " + ports + "}"), nil, "every node", nil},
		{"one that selects, nodes not known", daemon("{nodeSelector: {zone: a}, " + ports + "}"), nil, "a node", nil},
		{"nodes not known, in another way", daemon("{" + ports + "}"), extract.NodeList(nil), "every node", nil},
		{"a DaemonSet takes its nodes", daemon("{" + ports + "}"), threeNodes(), "n1,n2", []string{"n1", "n2"}},
		{"those that it tolerates too", daemon("{tolerations: [{operator: Exists}], " + ports + "}"), threeNodes(), "n1,n2,n3", []string{"n1", "n2", "n3"}},
		{"none", daemon("{nodeSelector: {zone: c}, " + ports + "}"), threeNodes(), "", []string{}},
		{"a DaemonSet on a node by name", daemon("{nodeName: n2, " + ports + "}"), threeNodes(), "n2", []string{"n2"}},
		{"a Deployment goes where the scheduler says", other("{nodeSelector: {zone: b}, " + ports + "}"), threeNodes(), "a node", []string{"n2"}},
		{"but to a node by name", other("{nodeName: n1, " + ports + "}"), nil, "n1", nil},
		{"to a host by its label", other("{" + byHost + ports + "}"), hosts("n1", "host-b"), "n1", []string{"n1"}},
		{"a DaemonSet, too", daemon("{" + byHost + ports + "}"), hosts("n1", "host-b"), "n1", []string{"n1"}},
		{"which is the node's name where the nodes are not known", other("{" + byHost + ports + "}"), nil, "host-b", nil},
		{"a host that there is not", other("{" + byHost + ports + "}"), hosts("n1", "host-a"), "a node", []string{}},
		{"two hosts of one name", other("{" + byHost + ports + "}"), hosts("n1", "host-b", "n2", "host-b"), "a node", []string{"n1", "n2"}},
		{"to a host by affinity", other(podOn("{nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [host-b]}]}]}")), nil, "host-b", nil},
		{"to a node by the affinity for its name", other(podOn("{nodeSelectorTerms: [{matchFields: [{key: metadata.name, operator: In, values: [n1]}]}]}")), hosts("n1", "host-b"), "n1", []string{"n1"}},
		{"one of two hosts", other(podOn("{nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [host-a, host-b]}]}]}")), nil, "a node", nil},
	} {
		w, _ := extract.Workload(c.object, c.nodes, nil)
		if got := w.Claims[0].Scope.String(); got != c.scope {
			t.Errorf("%s: on %q, want %q", c.why, got, c.scope)
		}
		if diff := cmp.Diff(c.eligible, w.Eligible); diff != "" {
			t.Errorf("%s: eligible (-want +got):\n%s", c.why, diff)
		}
	}
}
