package admission

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/test/lab/controlplane"
	"github.com/portcullis-k8s/portcullis/test/lab/kubelet"
	"github.com/portcullis-k8s/portcullis/test/lab/objects"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

// hostPool is a pool for host ports.
func hostPool(name string, first, last int32) *v1alpha1.PortPool {
	p := &v1alpha1.PortPool{ObjectMeta: metav1.ObjectMeta{Name: name}}
	p.Spec = v1alpha1.PortPoolSpec{
		For: v1alpha1.HostPorts, Ranges: []v1alpha1.PortRange{{Port: first, EndPort: &last}}, NamespaceSelector: &v1alpha1.LabelSelector{},
		Allocation: v1alpha1.PortAllocation{Strategy: v1alpha1.LowestFree},
	}
	return p
}

// TestHostPortsOnRequest: pods that ask for a host port get one that is free where they may run, the same for every port
// of the name, and their templates stay as they are.
func TestHostPortsOnRequest(t *testing.T) {
	t.Parallel()
	c := newCluster(t, rig.Options{
		ControlPlane: controlplane.Options{ControllerManager: true, Scheduler: true},
		Kubelet:      kubelet.Options{Nodes: kubelet.Nodes(3)},
	})
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	pools, err := client.New(c.RESTConfig(), client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []*v1alpha1.PortPool{hostPool("games", 7000, 7003), hostPool("one", 7100, 7100)} {
		if err := pools.Create(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	ns := objects.Namespace(t, c)
	const game = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: game}
spec:
  replicas: 3
  selector: {matchLabels: {app: game}}
  template:
    metadata: {labels: {app: game}, annotations: {portcullis.dev/host-port.play: games}}
    spec:
      containers:
      - name: server
        image: game
        env: [{name: PORT, valueFrom: {fieldRef: {fieldPath: "metadata.annotations['portcullis.dev/assigned-host-port.play']"}}}]
        ports: [{name: play, containerPort: 7777, protocol: UDP}]
      - {name: chat, image: chat, ports: [{name: play, containerPort: 7778, protocol: TCP}]}`
	create := func(text string) error { return c.Create(t.Context(), objects.One(t, ns, text)) }
	poll.Until(t, func(context.Context) error { // until the webhook has seen the pools
		probe := podAsking("probe", "games")
		return c.Create(t.Context(), objects.One(t, ns, probe), client.DryRunAll)
	})
	if err := create(game); err != nil {
		t.Fatal(err)
	}
	pods := objects.Running(t, c, ns, "game-", 3)
	held := map[string]bool{}
	for _, pod := range pods {
		assigned := pod.Annotations["portcullis.dev/assigned-host-port.play"]
		number, err := strconv.Atoi(assigned)
		if err != nil || number < 7000 || number > 7003 {
			t.Errorf("%s was assigned %q, want a number of the pool", pod.Name, assigned)
		}
		for _, container := range pod.Spec.Containers {
			if got := container.Ports[0].HostPort; int(got) != number {
				t.Errorf("%s: container %s has hostPort %d, assigned is %s", pod.Name, container.Name, got, assigned)
			}
		}
		if at := pod.Spec.NodeName + ":" + assigned; held[at] {
			t.Errorf("%s is held twice", at)
		} else {
			held[at] = true
		}
	}
	var d appsv1.Deployment
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: "game"}, &d); err != nil {
		t.Fatal(err)
	}
	for _, container := range d.Spec.Template.Spec.Containers {
		if container.Ports[0].HostPort != 0 {
			t.Errorf("the template was changed: %v", container.Ports)
		}
	}

	// The one number of a pool: a pod on each node, and no fourth.
	for i := range 3 {
		if err := create(podAsking(fmt.Sprint("single-", i), "one")); err != nil {
			t.Fatal(err)
		}
		objects.Running(t, c, ns, "single-", i+1) // seen by the webhook, so that the next one is told how many nodes are left
	}
	nodes := map[string]bool{}
	for _, pod := range objects.Running(t, c, ns, "single-", 3) {
		nodes[pod.Spec.NodeName] = true
		if got := pod.Spec.Containers[0].Ports[0].HostPort; got != 7100 {
			t.Errorf("%s has hostPort %d, want 7100", pod.Name, got)
		}
	}
	if len(nodes) != 3 {
		t.Errorf("on %d nodes, want 3", len(nodes))
	}
	refusals := map[string]string{
		podAsking("fourth", "one"):     "PortPool one",
		podAsking("unknown", "nosuch"): "PortPool nosuch",
		strings.Replace(podAsking("misnamed", "auto"), "name: play", "name: other", 1): `no container port has the name "play"`,
	}
	for text, want := range refusals {
		poll.Until(t, func(context.Context) error {
			found, err := c.refused(t.Context(), objects.One(t, ns, text))
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(found, func(cause string) bool { return strings.Contains(cause, want) && strings.Contains(cause, "(PC0314)") }) {
				return fmt.Errorf("refused by %q, want %q", found, want)
			}
			return nil
		})
	}

	// A number that the pod writes itself stays.
	written := strings.Replace(podAsking("written", "auto"), "containerPort: 80", "containerPort: 80, hostPort: 7500", 1)
	if err := create(written); err != nil {
		t.Fatal(err)
	}
	var pod corev1.Pod
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: "written"}, &pod); err != nil {
		t.Fatal(err)
	}
	if got := pod.Spec.Containers[0].Ports[0].HostPort; got != 7500 {
		t.Errorf("hostPort 7500 became %d", got)
	}
}

// podAsking is a pod that asks a pool for a host port.
func podAsking(name, pool string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, annotations: {portcullis.dev/host-port.play: %s}}
spec: {containers: [{name: main, image: main, ports: [{name: play, containerPort: 80}]}]}`, name, pool)
}
