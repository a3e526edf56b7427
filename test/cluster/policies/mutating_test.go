package policies

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/test/lab/alone"
	"github.com/portcullis-k8s/portcullis/test/lab/controlplane"
	"github.com/portcullis-k8s/portcullis/test/lab/objects"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

const (
	somePod = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: a, image: x}, {name: c, image: x, ports: [{containerPort: 80}, {containerPort: 81, hostPort: 81}, " +
		"{containerPort: 82, hostPort: 82, hostIP: 10.0.0.1, protocol: UDP}]}], initContainers: [{name: i, image: x, ports: [{containerPort: 83, hostPort: 83}]}]}}"
	hostPod = "{apiVersion: v1, kind: Pod, metadata: {name: h}, spec: {hostNetwork: true, containers: [{name: a, image: x, ports: [{containerPort: 80}]}]}}"
)

// TestMutating: hostIP is written where a hostPort leaves it empty, and nowhere else; the protocol is there anyway.
func TestMutating(t *testing.T) {
	t.Parallel()
	c := newCluster(t, controlplane.Options{})
	in := c.namespace(t, nil)
	for _, object := range alone.Source(t, "", "").Mutating("0.0.0.0") {
		c.create(t, object)
	}
	poll.Within(t, typeChecked, func(context.Context) error {
		pod := objects.One(t, in, somePod).(*corev1.Pod)
		if err := c.Create(t.Context(), pod, client.DryRunAll); err != nil {
			return err
		}
		if diff := cmp.Diff([]string{" TCP", "0.0.0.0 TCP", "10.0.0.1 UDP", "0.0.0.0 TCP"}, hostIPsOf(pod)); diff != "" {
			return fmt.Errorf("hostIP and protocol (-want +got):\n%s", diff)
		}
		return nil
	})
	pod := objects.One(t, in, hostPod).(*corev1.Pod)
	if err := c.Create(t.Context(), pod, client.DryRunAll); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{" TCP"}, hostIPsOf(pod)); diff != "" {
		t.Errorf("on the host network (-want +got):\n%s", diff)
	}
}

func hostIPsOf(pod *corev1.Pod) []string {
	var all []string
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for _, container := range list {
			for _, p := range container.Ports {
				all = append(all, p.HostIP+" "+string(p.Protocol))
			}
		}
	}
	return all
}

// TestBesideTheGate: policies and replica stand side by side: what is well passes both without a word, and both refuse the same.
func TestBesideTheWebhook(t *testing.T) {
	t.Parallel()
	r := rig.Run(t, rig.Options{})
	c := clusterOf(t, r.RESTConfig())
	in := c.namespace(t, nil)
	s := alone.Source(t, "", "")
	for _, object := range s.Mutating("0.0.0.0") {
		c.create(t, object)
	}
	c.install(t, s)
	c.settle(t)
	for _, text := range []string{somePod, hostPod, "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {type: NodePort, ports: [{port: 80, nodePort: 30001}]}}"} {
		if a := c.try(func() error { return c.Create(t.Context(), objects.One(t, in, text)) }); a.Denied != "" || a.Other != nil || len(a.Warnings) > 0 {
			t.Errorf("%s: %+v", text, a)
		}
	}
	a := c.dryRun(t.Context(), objects.One(t, in, "{apiVersion: v1, kind: Pod, metadata: {name: q}, spec: {containers: [{name: a, image: x, ports: [{containerPort: 80, hostPort: 10250}]}]}}"))
	if a.Denied == "" && a.Other == nil {
		t.Error("a pod on the kubelet's port was let through")
	}
	a = c.dryRun(t.Context(), objects.One(t, in, "{apiVersion: v1, kind: Pod, metadata: {name: q}, spec: {containers: [{name: a, image: x, ports: [{containerPort: 80, hostPort: 30001}]}]}}"))
	if a.Other == nil {
		t.Errorf("what only the webhook can know was let through: %+v", a)
	}
}
