package admission

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/test/lab/binaries"
	"github.com/portcullis-k8s/portcullis/test/lab/finding"
	"github.com/portcullis-k8s/portcullis/test/lab/objects"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
)

// create makes the objects of a text in a namespace and returns them as the API server answered.
func (c *cluster) service(t *testing.T, ns, text string) *corev1.Service {
	t.Helper()
	return objects.Create(t, c, ns, text)[0].(*corev1.Service)
}

// refusedEventually waits until the webhook has seen what it refuses an object for, and compares its one cause.
func (c *cluster) refusedEventually(t *testing.T, o client.Object, want string) {
	t.Helper()
	poll.Until(t, func(context.Context) error {
		got, err := c.refused(t.Context(), o)
		if diff := cmp.Diff([]string{want}, finding.All(got)); err == nil && diff != "" {
			err = fmt.Errorf("causes (-want +got):\n%s", diff)
		}
		return err
	})
}

// testTemplates gives every kind of object that has a pod template a host port that a Service holds.
func (c *cluster) testTemplates(t *testing.T) {
	ns := objects.Namespace(t, c)
	c.service(t, ns, objects.Service("s", "type: NodePort, ports: [{port: 80, nodePort: 31033}]"))
	const labels = "metadata: {labels: {app: x}}"
	spec := "spec: {restartPolicy: %s, " + objects.Containers("containerPort: 80, hostPort: 31033") + "}"
	always, never := "template: {"+labels+", "+fmt.Sprintf(spec, "Always")+"}", "template: {"+labels+", "+fmt.Sprintf(spec, "Never")+"}"
	const selector = "selector: {matchLabels: {app: x}}, "
	for _, k := range []struct{ version, kind, spec, path string }{
		{"apps/v1", "Deployment", selector + always, "spec.template.spec"},
		{"apps/v1", "StatefulSet", "serviceName: s, " + selector + always, "spec.template.spec"},
		{"apps/v1", "DaemonSet", selector + always, "spec.template.spec"},
		{"apps/v1", "ReplicaSet", selector + always, "spec.template.spec"},
		{"v1", "ReplicationController", "selector: {app: x}, " + always, "spec.template.spec"},
		{"batch/v1", "Job", never, "spec.template.spec"},
		{"batch/v1", "CronJob", `schedule: "0 0 1 1 *", jobTemplate: {spec: {` + never + "}}", "spec.jobTemplate.spec.template.spec"},
	} {
		o := objects.One(t, ns, fmt.Sprintf("{apiVersion: %s, kind: %s, metadata: {name: x}, spec: {%s}}", k.version, k.kind, k.spec))
		got, err := c.refused(t.Context(), o)
		want := "PC0201 " + k.path + ".containers[0].ports[0].hostPort Service " + ns + "/s"
		if err != nil || len(got) != 1 || finding.Of(got[0]) != want {
			t.Errorf("%s: %v %q, want %q", k.kind, err, got, want)
		}
		if err := c.Create(t.Context(), o, &client.CreateOptions{DryRun: []string{metav1.DryRunAll}}); err == nil {
			t.Errorf("%s: a dry run was admitted", k.kind)
		}
	}
}

func (c *cluster) testLoadBalancerIP(t *testing.T) {
	ns := objects.Namespace(t, c)
	s := c.service(t, ns, objects.Service("lb", "type: LoadBalancer, ports: [{port: 8023}]"))
	blocked := objects.Pod("p", "nodeName: n2, "+objects.Containers("containerPort: 80, hostPort: 8023"))
	set := func(mode corev1.LoadBalancerIPMode) {
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.168.10.2", IPMode: &mode}}
		if err := c.Status().Update(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	set(corev1.LoadBalancerIPModeVIP)
	c.refusedEventually(t, objects.One(t, ns, blocked), "PC0201 spec.containers[0].ports[0].hostPort Service "+ns+"/lb")
	objects.Create(t, c, ns, strings.ReplaceAll(strings.ReplaceAll(blocked, "n2", "n1"), "name: p", "name: elsewhere"))
	set(corev1.LoadBalancerIPModeProxy)
	poll.Until(t, func(context.Context) error { return c.Create(t.Context(), objects.One(t, ns, blocked)) })
}

func (c *cluster) testWarnings(t *testing.T) {
	ns := objects.Namespace(t, c)
	s := c.service(t, ns, objects.Service("s", "type: NodePort, ports: [{port: 80, nodePort: 31024}]"))
	c.ours()

	s.Spec.Type = corev1.ServiceTypeClusterIP
	if err := c.Update(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	want := []string{"PC0104 spec.ports[0].nodePort"}
	if diff := cmp.Diff(want, finding.All(c.ours())); diff != "" {
		t.Errorf("a left-over number (-want +got):\n%s", diff)
	}
	if s.Spec.Ports[0].NodePort != 0 {
		t.Errorf("the API server kept %d", s.Spec.Ports[0].NodePort)
	}

	objects.Create(t, c, ns, objects.Workload("DaemonSet", "a", "", "nodeSelector: {kubernetes.io/hostname: n1}, "+objects.Containers("containerPort: 80, hostPort: 8024")))
	objects.Running(t, c, ns, "a-", 1)
	objects.Create(t, c, ns, objects.Workload("DaemonSet", "b", "", objects.Containers("containerPort: 80, hostPort: 8024")))
	want = []string{"PC0202 spec.template.spec.containers[0].ports[0].hostPort DaemonSet " + ns + "/a"}
	if diff := cmp.Diff(want, finding.All(c.ours())); diff != "" {
		t.Errorf("DaemonSets that meet on some nodes (-want +got):\n%s", diff)
	}

	// What is only worth knowing is not said aloud.
	inits := "initContainers: [{name: a, image: i, ports: [{containerPort: 1, hostPort: 8025}]}, {name: b, image: i, ports: [{containerPort: 2, hostPort: 8025}]}], "
	objects.Create(t, c, ns, objects.Pod("inits", inits+"containers: [{name: c, image: i}]"))
	if said := c.ours(); len(said) > 0 {
		t.Errorf("warned of %q", said)
	}
}

func (c *cluster) testAdmitted(t *testing.T) {
	ns := objects.Namespace(t, c)
	c.ours()
	dns := c.service(t, ns, objects.Service("dns", "type: NodePort, ports: [{name: t, port: 53, nodePort: 31025}, {name: u, port: 53, protocol: UDP, nodePort: 31025}]"))
	if dns.Spec.Ports[0].NodePort != 31025 || dns.Spec.Ports[1].NodePort != 31025 {
		t.Errorf("TCP and UDP on one number: %v", dns.Spec.Ports)
	}
	chosen := c.service(t, ns, objects.Service("dns2", "type: NodePort, ports: [{name: t, port: 53}, {name: u, port: 53, protocol: UDP}]"))
	if a, b := chosen.Spec.Ports[0].NodePort, chosen.Spec.Ports[1].NodePort; a != b || a == 0 {
		t.Errorf("TCP and UDP of one port got %d and %d, want one number", a, b)
	}
	c.service(t, ns, objects.Service("tcp", "type: NodePort, ports: [{port: 80, nodePort: 31026}]"))
	objects.Create(t, c, ns, objects.Pod("udp", objects.Containers("containerPort: 80, hostPort: 31026, protocol: UDP")))
	objects.Create(t, c, ns, objects.Pod("udp2", objects.Containers("containerPort: 80, hostPort: 31027, protocol: UDP")))
	c.service(t, ns, objects.Service("tcp2", "type: NodePort, ports: [{port: 80, nodePort: 31027}]"))
	inRange := func(said string) bool { return strings.HasSuffix(said, "(PC0303)") } // where hostPorts had better not be
	if said := slices.DeleteFunc(c.ours(), inRange); len(said) > 0 {
		t.Errorf("warned of %q", said)
	}
}

func (c *cluster) testDryRun(t *testing.T) {
	ns := objects.Namespace(t, c)
	dryRun := &client.CreateOptions{DryRun: []string{metav1.DryRunAll}}
	assigned := func() float64 {
		n, err := c.Webhook.Count(t.Context(), "portcullis_allocations_total")
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := assigned()
	for _, text := range []string{
		objects.Service("s", "type: NodePort, ports: [{port: 80}, {name: b, port: 81}]"),
		objects.Service("l", "type: LoadBalancer, externalTrafficPolicy: Local, ports: [{port: 80}]"),
	} {
		text = strings.Replace(text, "[{port: 80}, ", "[{name: a, port: 80}, ", 1)
		if err := c.Create(t.Context(), objects.One(t, ns, text), dryRun); err != nil {
			t.Errorf("a dry run without numbers: %v", err)
		}
	}
	if after := assigned(); after != before {
		t.Errorf("dry runs chose %v numbers", after-before)
	}
	// A number that is only tried stays free for others.
	if err := c.Create(t.Context(), objects.One(t, ns, objects.Service("try", "type: NodePort, ports: [{port: 80, nodePort: 31028}]")), dryRun); err != nil {
		t.Fatal(err)
	}
	c.service(t, ns, objects.Service("taker", "type: NodePort, ports: [{port: 80, nodePort: 31028}]"))
	err := c.Create(t.Context(), objects.One(t, ns, objects.Service("late", "type: NodePort, ports: [{port: 80, nodePort: 31028}]")), dryRun)
	want := "PC0201 spec.ports[0].nodePort Service " + ns + "/taker"
	if got, e := causes(err); e != nil || !cmp.Equal(finding.All(got), []string{want}) {
		t.Errorf("a dry run of a taken number: %v %q", e, got)
	}
}

func (c *cluster) testPut(t *testing.T) {
	ns := objects.Namespace(t, c)
	text := objects.Service("s", "type: NodePort, ports: [{name: a, port: 80}, {name: b, port: 81}]")
	first := c.service(t, ns, text)
	again := objects.One(t, ns, strings.Replace(text, "port: 81", "port: 82", 1)).(*corev1.Service)
	again.ResourceVersion = first.ResourceVersion
	if err := c.Update(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	for i, p := range again.Spec.Ports {
		if want := first.Spec.Ports[i].NodePort; p.NodePort != want || want == 0 {
			t.Errorf("port %s has %d after a PUT without numbers, want %d", p.Name, p.NodePort, want)
		}
	}
	// In another order, and with one more.
	more := objects.One(t, ns, objects.Service("s", "type: NodePort, ports: [{name: extra, port: 90}, {name: b, port: 82}, {name: a, port: 80}]")).(*corev1.Service)
	more.ResourceVersion = again.ResourceVersion
	if err := c.Update(t.Context(), more); err != nil {
		t.Fatal(err)
	}
	if n, b, a := more.Spec.Ports[0].NodePort, more.Spec.Ports[1].NodePort, more.Spec.Ports[2].NodePort; a != first.Spec.Ports[0].NodePort ||
		b != first.Spec.Ports[1].NodePort || n == 0 || n == a || n == b {
		t.Errorf("reordered, with a new port: n %d, b %d, a %d; had a %d, b %d", n, b, a, first.Spec.Ports[0].NodePort, first.Spec.Ports[1].NodePort)
	}
}

func (c *cluster) testRelease(t *testing.T) {
	ns := objects.Namespace(t, c)
	holder := c.service(t, ns, objects.Service("holder", "type: NodePort, ports: [{port: 80, nodePort: 31029}]"))
	next := objects.Service("next", "type: NodePort, ports: [{port: 80, nodePort: 31029}]")
	if _, err := c.refused(t.Context(), objects.One(t, ns, next)); err != nil {
		t.Fatal(err)
	}
	if err := c.Delete(t.Context(), holder); err != nil {
		t.Fatal(err)
	}
	poll.Until(t, func(context.Context) error { return c.Create(t.Context(), objects.One(t, ns, next)) })

	p := objects.Create(t, c, ns, objects.Pod("p", "nodeName: n1, "+objects.Containers("containerPort: 80, hostPort: 31030")))[0]
	objects.Running(t, c, ns, "p", 1)
	wanting := objects.Service("wanting", "type: NodePort, ports: [{port: 80, nodePort: 31030}]")
	if _, err := c.refused(t.Context(), objects.One(t, ns, wanting)); err != nil {
		t.Fatal(err)
	}
	if err := c.Kubelet.Complete(t.Context(), ns, p.GetName()); err != nil { // it stays, and holds nothing
		t.Fatal(err)
	}
	poll.Until(t, func(context.Context) error { return c.Create(t.Context(), objects.One(t, ns, wanting)) })
}

func (c *cluster) testGenerateName(t *testing.T) {
	ns := objects.Namespace(t, c)
	numbers := map[int32]bool{}
	for range 20 {
		s := objects.One(t, ns, objects.Service("x", "type: NodePort, ports: [{port: 80}]")).(*corev1.Service)
		s.Name, s.GenerateName = "", "made-"
		if err := c.Create(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		numbers[s.Spec.Ports[0].NodePort] = true
	}
	if len(numbers) != 20 {
		t.Errorf("20 Services got %d numbers", len(numbers))
	}
}

// testRollout changes a Deployment that has more room than pods: old and new pods stand side by side on one port number
// of different nodes, and nothing may be said against it.
func (c *cluster) testRollout(t *testing.T) {
	ns := objects.Namespace(t, c)
	c.ours()
	findings := func() float64 {
		n, err := c.Webhook.Count(t.Context(), "portcullis_admission_findings_total")
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := findings()
	text := objects.Workload("Deployment", "d", "replicas: 2, strategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 1}},", objects.Containers("containerPort: 80, hostPort: 8031"))
	d := objects.Create(t, c, ns, text)[0].(*appsv1.Deployment)
	objects.Running(t, c, ns, "d-", 2)
	poll.Until(t, func(context.Context) error {
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(d), d); err != nil {
			return err
		}
		d.Spec.Template.Spec.Containers[0].Image = "new"
		return c.Update(t.Context(), d)
	})
	poll.Until(t, func(context.Context) error {
		err := c.Get(t.Context(), client.ObjectKeyFromObject(d), d)
		if s := d.Status; err == nil && (s.ObservedGeneration < d.Generation || s.UpdatedReplicas != 2 || s.AvailableReplicas != 2 || s.Replicas != 2) {
			err = fmt.Errorf("the rollout is at %+v", s)
		}
		return err
	})
	if said := c.ours(); len(said) > 0 {
		t.Errorf("warned of %q", said)
	}
	if after := findings(); after != before {
		t.Errorf("%v findings against its own rollout", after-before)
	}
}

// testConfig gives what ships in config/ to the API server, by way of the real kubectl.
func (c *cluster) testConfig(t *testing.T) {
	programs := binaries.For(t, binaries.Kubectl)
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := c.WriteKubeconfig(kubeconfig); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), programs, "--kubeconfig", kubeconfig,
		"apply", "--dry-run=server", "--server-side", "--force-conflicts", "-k", "../../../config/default")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	} else {
		t.Logf("%s", out)
	}
}

// testBindings arms the optional guard and binds a pod past the scheduler, as another scheduler might.
func (c *cluster) testBindings(t *testing.T) {
	ns := objects.Namespace(t, c)
	objects.Create(t, c, ns, objects.Pod("holder", "nodeName: n1, "+objects.Containers("containerPort: 80, hostPort: 8032")))
	objects.Create(t, c, ns, objects.Pod("wanting", "schedulerName: nobody, "+objects.Containers("containerPort: 80, hostPort: 8032")))
	objects.Running(t, c, ns, "holder", 1)
	c.guardBindings(t)
	bind := func(node string, o ...client.SubResourceCreateOption) error {
		b := &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "wanting", Namespace: ns}, Target: corev1.ObjectReference{Kind: "Node", Name: node}}
		return c.Client.SubResource("binding").Create(t.Context(), &corev1.Pod{ObjectMeta: b.ObjectMeta}, b, o...)
	}
	// The API server may ask the guard only some time after it was registered.
	poll.Until(t, func(context.Context) error {
		_, err := causes(bind("n1", client.DryRunAll))
		return err
	})
	if _, err := causes(bind("n1")); err != nil {
		t.Fatalf("the guard let it through: %v", err)
	}
	if err := bind("n2"); err != nil {
		t.Errorf("to a free node: %v", err)
	}
}
