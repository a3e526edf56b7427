package admission

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/test/lab/controlplane"
	"github.com/portcullis-k8s/portcullis/test/lab/finding"
	"github.com/portcullis-k8s/portcullis/test/lab/kubelet"
	"github.com/portcullis-k8s/portcullis/test/lab/objects"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

// refusal is a situation, what must be refused in it and why, and how the same object passes without the conflict.
type refusal struct {
	name    string
	state   string   // exists already
	pods    int      // of state, run before the object comes
	object  string   // is refused
	causes  []string // with $NS for the namespace
	instead string   // "old -> new" in the object's text: then it passes
}

func refusals() []refusal {
	return []refusal{
		{
			name:    "hostIP is not an address",
			object:  objects.Pod("p", objects.Containers("containerPort: 80, hostPort: 8001, hostIP: not-an-ip")),
			causes:  []string{"PC0101 spec.containers[0].ports[0].hostIP"},
			instead: "not-an-ip -> 127.0.0.1",
		},
		{
			name:    "one socket twice in two spellings",
			object:  objects.Pod("p", "containers: [{name: a, image: i, ports: [{containerPort: 80, hostPort: 8002}]}, {name: b, image: i, ports: [{containerPort: 81, hostPort: 8002, hostIP: 0.0.0.0}]}]"),
			causes:  []string{"PC0102 spec.containers[1].ports[0].hostPort"},
			instead: "hostPort: 8002, hostIP -> hostPort: 8102, hostIP",
		},
		{
			name:    "a sidecar and a container",
			object:  objects.Pod("p", "initContainers: [{name: s, image: i, restartPolicy: Always, ports: [{containerPort: 90, hostPort: 8003}]}], "+objects.Containers("containerPort: 80, hostPort: 8003")),
			causes:  []string{"PC0102 spec.containers[0].ports[0].hostPort"},
			instead: "80, hostPort: 8003 -> 80, hostPort: 8103",
		},
		{
			name:    "own nodePort twice",
			object:  objects.Service("s", "type: NodePort, ports: [{name: a, port: 80, nodePort: 31001}, {name: b, port: 81, nodePort: 31001}]"),
			causes:  []string{"PC0103 spec.ports[1].nodePort"},
			instead: "port: 81, nodePort: 31001 -> port: 81, nodePort: 31101",
		},
		{
			name:    "own nodePort for two ports",
			object:  objects.Service("s", "type: NodePort, ports: [{name: a, port: 53, nodePort: 31002}, {name: b, port: 54, protocol: UDP, nodePort: 31002}]"),
			causes:  []string{"PC0103 spec.ports[1].nodePort"},
			instead: "port: 54 -> port: 53",
		},
		{
			name:    "own healthCheckNodePort",
			object:  objects.Service("s", "type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 31003, ports: [{port: 80, nodePort: 31003}]"),
			causes:  []string{"PC0103 spec.healthCheckNodePort"},
			instead: "healthCheckNodePort: 31003 -> healthCheckNodePort: 31103",
		},
		{
			name:    "nodePort where the type has none",
			object:  objects.Service("s", "type: ClusterIP, ports: [{port: 80, nodePort: 31004}]"),
			causes:  []string{"PC0104 spec.ports[0].nodePort"},
			instead: "ClusterIP -> NodePort",
		},
		{
			name:    "hostPort against nodePort",
			state:   objects.Service("s", "type: NodePort, ports: [{port: 80, nodePort: 31005}]"),
			object:  objects.Pod("p", objects.Containers("containerPort: 80, hostPort: 31005")),
			causes:  []string{"PC0201 spec.containers[0].ports[0].hostPort Service $NS/s"},
			instead: "hostPort: 31005 -> hostPort: 31005, protocol: UDP",
		},
		{
			name:    "hostPort against healthCheckNodePort",
			state:   objects.Service("s", "type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 31006, ports: [{port: 80, nodePort: 31106}]"),
			object:  objects.Pod("p", objects.Containers("containerPort: 80, hostPort: 31006")),
			causes:  []string{"PC0201 spec.containers[0].ports[0].hostPort Service $NS/s"},
			instead: "hostPort: 31006 -> hostPort: 31206",
		},
		{
			name:    "nodePort against the pods of a Deployment",
			state:   objects.Workload("Deployment", "d", "replicas: 3,", objects.Containers("containerPort: 80, hostPort: 31007")),
			pods:    3,
			object:  objects.Service("s", "type: NodePort, ports: [{port: 80, nodePort: 31007}]"),
			causes:  []string{"PC0201 spec.ports[0].nodePort Deployment $NS/d"},
			instead: "nodePort: 31007 -> nodePort: 31107",
		},
		{
			name:    "nodePort against a pod on no node yet",
			state:   objects.Pod("p", "schedulerName: nobody, "+objects.Containers("containerPort: 80, hostPort: 31008")),
			object:  objects.Service("s", "type: NodePort, ports: [{port: 80, nodePort: 31008}]"),
			causes:  []string{"PC0201 spec.ports[0].nodePort Pod $NS/p"},
			instead: "nodePort: 31008 -> nodePort: 31108",
		},
		{
			name:    "healthCheckNodePort against a hostPort",
			state:   objects.Pod("p", "nodeName: n2, "+objects.Containers("containerPort: 80, hostPort: 31009")),
			pods:    1,
			object:  objects.Service("s", "type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 31009, ports: [{port: 80, nodePort: 31109}]"),
			causes:  []string{"PC0201 spec.healthCheckNodePort Pod $NS/p"},
			instead: "healthCheckNodePort: 31009 -> healthCheckNodePort: 31209",
		},
		{
			name:    "nodePort against nodePort of another protocol",
			state:   objects.Service("s", "type: NodePort, ports: [{port: 80, nodePort: 31010}]"),
			object:  objects.Service("u", "type: NodePort, ports: [{port: 80, nodePort: 31010, protocol: UDP}]"),
			causes:  []string{"PC0201 spec.ports[0].nodePort Service $NS/s"},
			instead: "nodePort: 31010 -> nodePort: 31110",
		},
		{
			name:    "healthCheckNodePort against nodePort",
			state:   objects.Service("s", "type: NodePort, ports: [{port: 80, nodePort: 31011}]"),
			object:  objects.Service("h", "type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 31011, ports: [{port: 80, nodePort: 31111}]"),
			causes:  []string{"PC0201 spec.healthCheckNodePort Service $NS/s"},
			instead: "healthCheckNodePort: 31011 -> healthCheckNodePort: 31211",
		},
		{
			name:    "a pod with nodeName against that node's pod",
			state:   objects.Pod("p", "nodeName: n1, "+objects.Containers("containerPort: 80, hostPort: 8012, hostIP: 127.0.0.1")),
			pods:    1,
			object:  objects.Pod("q", "nodeName: n1, "+objects.Containers("containerPort: 80, hostPort: 8012")),
			causes:  []string{"PC0201 spec.containers[0].ports[0].hostPort Pod $NS/p"},
			instead: "nodeName: n1 -> nodeName: n2",
		},
		{
			name:    "a pod of the host network against nodePort",
			state:   objects.Service("s", "type: NodePort, ports: [{port: 80, nodePort: 31013}]"),
			object:  objects.Pod("p", "hostNetwork: true, "+objects.Containers("containerPort: 31013")),
			causes:  []string{"PC0201 spec.containers[0].ports[0].hostPort Service $NS/s"},
			instead: "hostNetwork: true -> hostNetwork: false",
		},
		{
			name:    "a template of the host network against nodePort",
			state:   objects.Service("s", "type: NodePort, ports: [{port: 80, nodePort: 31014}]"),
			object:  objects.Workload("Deployment", "d", "", "hostNetwork: true, "+objects.Containers("containerPort: 31014")),
			causes:  []string{"PC0201 spec.template.spec.containers[0].ports[0].containerPort Service $NS/s"},
			instead: "hostNetwork: true -> hostNetwork: false",
		},
		{
			name:    "hostPort against an external IP that is its node's address",
			state:   objects.Service("s", "externalIPs: [192.168.10.1], ports: [{port: 8015}]"),
			object:  objects.Pod("p", "nodeName: n1, "+objects.Containers("containerPort: 80, hostPort: 8015")),
			causes:  []string{"PC0201 spec.containers[0].ports[0].hostPort Service $NS/s"},
			instead: "nodeName: n1 -> nodeName: n2",
		},
		{
			name:    "external IP against a hostPort of its node",
			state:   objects.Pod("p", "nodeName: n3, "+objects.Containers("containerPort: 80, hostPort: 8016")),
			pods:    1,
			object:  objects.Service("s", "externalIPs: [192.168.10.3], ports: [{port: 8016}]"),
			causes:  []string{"PC0201 spec.ports[0].port Pod $NS/p"},
			instead: "192.168.10.3 -> 192.168.10.2",
		},
		{
			name:    "a DaemonSet against a Service",
			state:   objects.Service("s", "type: NodePort, ports: [{port: 80, nodePort: 31017}]"),
			object:  objects.Workload("DaemonSet", "d", "", objects.Containers("containerPort: 80, hostPort: 31017")),
			causes:  []string{"PC0201 spec.template.spec.containers[0].ports[0].hostPort Service $NS/s"},
			instead: "hostPort: 31017 -> hostPort: 31117",
		},
		{
			name:    "DaemonSet against DaemonSet",
			state:   objects.Workload("DaemonSet", "a", "", objects.Containers("containerPort: 80, hostPort: 8018")),
			pods:    3,
			object:  objects.Workload("DaemonSet", "b", "", objects.Containers("containerPort: 80, hostPort: 8018")),
			causes:  []string{"PC0202 spec.template.spec.containers[0].ports[0].hostPort DaemonSet $NS/a"},
			instead: "hostPort: 8018 -> hostPort: 8118",
		},
		{
			name:    "Deployment where a DaemonSet is on its only node",
			state:   objects.Workload("DaemonSet", "a", "", objects.Containers("containerPort: 80, hostPort: 8019")),
			pods:    3,
			object:  objects.Workload("Deployment", "b", "", "nodeSelector: {kubernetes.io/hostname: n2}, "+objects.Containers("containerPort: 80, hostPort: 8019")),
			causes:  []string{"PC0202 spec.template.spec.containers[0].ports[0].hostPort DaemonSet $NS/a"},
			instead: "hostPort: 8019 -> hostPort: 8119",
		},
		{
			name:    "nodePort outside the range",
			object:  objects.Service("s", "type: NodePort, ports: [{port: 80, nodePort: 29999}]"),
			causes:  []string{"PC0301 spec.ports[0].nodePort"},
			instead: "29999 -> 31020",
		},
		{
			name:    "healthCheckNodePort outside the range",
			object:  objects.Service("s", "type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 29000, ports: [{port: 80}]"),
			causes:  []string{"PC0301 spec.healthCheckNodePort"},
			instead: "29000 -> 31021",
		},
		{
			name:    "the kubelet's port",
			object:  objects.Pod("p", objects.Containers("containerPort: 80, hostPort: 10250")),
			causes:  []string{"PC0302 spec.containers[0].ports[0].hostPort"},
			instead: "hostPort: 10250 -> hostPort: 10250, protocol: UDP",
		},
		{
			name:    "a policy in the wrong case",
			object:  objects.Service("s", "type: NodePort, externalTrafficPolicy: local, ports: [{port: 80}]"),
			causes:  []string{"PC0106 spec.externalTrafficPolicy"},
			instead: "local -> Local",
		},
		{
			name:    "a healthCheckNodePort that nothing uses",
			object:  objects.Service("s", "type: NodePort, healthCheckNodePort: 31031, ports: [{port: 80}]"),
			causes:  []string{"PC0104 spec.healthCheckNodePort"},
			instead: "healthCheckNodePort: 31031, -> ",
		},
		{
			name:    "a DaemonSet with a surge",
			object:  objects.Workload("DaemonSet", "d", "updateStrategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}},", objects.Containers("containerPort: 80, hostPort: 8034")),
			causes:  []string{"PC0403 spec.updateStrategy.rollingUpdate.maxSurge"},
			instead: "maxSurge: 1, maxUnavailable: 0 -> maxSurge: 0, maxUnavailable: 1",
		},
		{
			name:   "several findings at once, each a cause",
			state:  objects.Service("s", "type: NodePort, ports: [{port: 80, nodePort: 31022}]"),
			object: objects.Pod("p", "containers: [{name: a, image: i, ports: [{containerPort: 80, hostPort: 31022}, {containerPort: 81, hostPort: 22}, {containerPort: 82, hostPort: 8022, hostIP: x}]}]"),
			causes: []string{
				"PC0201 spec.containers[0].ports[0].hostPort Service $NS/s",
				"PC0302 spec.containers[0].ports[1].hostPort",
				"PC0101 spec.containers[0].ports[2].hostIP",
			},
			instead: "{containerPort: 80, hostPort: 31022}, {containerPort: 81, hostPort: 22}, {containerPort: 82, hostPort: 8022, hostIP: x} -> {containerPort: 80, hostPort: 8122}",
		},
	}
}

func TestWebhook(t *testing.T) {
	t.Parallel()
	c := newCluster(t, rig.Options{
		ControlPlane: controlplane.Options{ControllerManager: true, Scheduler: true},
		Kubelet:      kubelet.Options{Nodes: kubelet.Nodes(3)},
		Config:       chooseHigh,
	})
	for _, r := range refusals() {
		t.Run("refused/"+r.name, func(t *testing.T) { c.testRefusal(t, r) })
	}
	t.Run("templates of every kind", c.testTemplates)
	t.Run("load-balancer IP", c.testLoadBalancerIP)
	t.Run("warned", c.testWarnings)
	t.Run("as lint says", c.testParity)
	t.Run("admitted", c.testAdmitted)
	t.Run("dry run", c.testDryRun)
	t.Run("PUT keeps the number", c.testPut)
	t.Run("a holder that goes frees its number", c.testRelease)
	t.Run("rollout", c.testRollout)
	t.Run("bindings guard", c.testBindings)
	c.noDrift(t)
}

// noDrift holds that the ledger has not strayed from the cluster in all that the test did.
func (c *cluster) noDrift(t *testing.T) {
	t.Helper()
	if n, err := c.Webhook.Count(t.Context(), "portcullis_ledger_rebuild_drift_total"); err != nil || n != 0 {
		t.Errorf("the ledger drifted from the cluster for %v owners, %v", n, err)
	}
}

func (c *cluster) testRefusal(t *testing.T, r refusal) {
	ns := objects.Namespace(t, c)
	for _, o := range objects.Parse(t, ns, r.state) {
		if err := c.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	objects.Running(t, c, ns, "", r.pods)
	var want []string
	for _, cause := range r.causes {
		want = append(want, strings.ReplaceAll(cause, "$NS", ns))
	}
	// The webhook may see a node a moment after the test does.
	poll.Until(t, func(context.Context) error {
		got, err := c.refused(t.Context(), objects.One(t, ns, r.object))
		if diff := cmp.Diff(want, finding.All(got)); err == nil && diff != "" {
			err = fmt.Errorf("causes (-want +got):\n%s", diff)
		}
		return err
	})
	before, after, ok := strings.Cut(r.instead, " -> ")
	if !ok || !strings.Contains(r.object, before) {
		t.Fatalf("no %q in %s", before, r.object)
	}
	admitted := objects.One(t, ns, strings.Replace(r.object, before, after, 1))
	if err := c.Create(t.Context(), admitted, &client.CreateOptions{}); err != nil {
		t.Errorf("without the conflict: %v", err)
	}
}
