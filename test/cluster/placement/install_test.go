package placement

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/pkg/manifest"
	"github.com/portcullis-k8s/portcullis/scheduling"
	"github.com/portcullis-k8s/portcullis/test/lab/binaries"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

const installed = "../../../config/scheduler"

// kustomized is what `kubectl apply -k config/scheduler` would apply.
func kustomized(t *testing.T) []client.Object {
	t.Helper()
	dir := binaries.For(t, binaries.Kubectl)
	cmd := exec.CommandContext(t.Context(), dir, "kustomize", installed)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	text, err := cmd.Output()
	if err != nil {
		t.Fatalf("kubectl kustomize: %v\n%s", err, stderr.String())
	}
	in, err := manifest.Parse("kustomization", text, manifest.Scheme())
	if err != nil {
		t.Fatal(err)
	}
	var list []client.Object
	for _, o := range in.Objects {
		list = append(list, o.Object.(client.Object))
	}
	return list
}

// find returns the one object of a type.
func find[T client.Object](t *testing.T, list []client.Object) T {
	t.Helper()
	var found []T
	for _, o := range list {
		if o, ok := o.(T); ok {
			found = append(found, o)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d objects %T, want 1", len(found), *new(T))
	}
	return found[0]
}

// testSecondScheduler installs the kustomization and runs the scheduler of its Deployment with the configuration of its
// ConfigMap as its service account: nothing that it does is forbidden to it.
func (c *cluster) testSecondScheduler(t *testing.T) {
	if !bytes.Equal(read(t, installed+"/namespace.yaml"), read(t, "../../../config/manager/namespace.yaml")) {
		t.Error("the namespace is not the webhook's")
	}
	s := c.site(t, "portcullis", 2) // where the scheduler's own pods may go too
	list := kustomized(t)
	c.create(t, list...)
	deployment, config := find[*appsv1.Deployment](t, list), find[*corev1.ConfigMap](t, list)
	template := deployment.Spec.Template.Spec
	if got := template.Volumes[0].ConfigMap.Name; got != config.Name {
		t.Errorf("the Deployment mounts the ConfigMap %s, want %s", got, config.Name)
	}
	const file = "scheduler.yaml"
	if want := "--config=" + template.Containers[0].VolumeMounts[0].MountPath + "/" + file; !slices.Contains(template.Containers[0].Args, want) {
		t.Errorf("arguments %q, want %s", template.Containers[0].Args, want)
	}
	if config.Data[file] != string(read(t, secondConfig)) {
		t.Error("the ConfigMap is not made of " + secondConfig)
	}
	// Its pods pass the namespace's pod security, and whatever else admits pods, and are placed.
	poll.Until(t, func(context.Context) error {
		var pods corev1.PodList
		if err := c.List(t.Context(), &pods, client.InNamespace(deployment.Namespace)); err != nil {
			return err
		}
		placed := slices.DeleteFunc(pods.Items, func(p corev1.Pod) bool { return p.Spec.NodeName == "" })
		if len(placed) != int(*deployment.Spec.Replicas) {
			return fmt.Errorf("%d pods of the scheduler are placed, want %d", len(placed), *deployment.Spec.Replicas)
		}
		return nil
	})

	account := template.ServiceAccountName
	scheduler := rig.RunScheduler(t, c.ControlPlane, rig.SchedulerOptions{
		Program: c.program, Config: []byte(config.Data[file]),
		User:   "system:serviceaccount:" + deployment.Namespace + ":" + account,
		Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + deployment.Namespace, "system:authenticated"},
	})
	s.priorities(t, 1, 500)
	s.create(t, s.prior(1, s.pod("first", tcp("", 9000))), s.pod("second", tcp("", 9001)))
	s.create(t, s.prior(1, s.pod("third", tcp("", 9000))))
	s.placed(t, "first")
	s.placed(t, "third")
	s.create(t, s.prior(1, s.pod("fourth", tcp("", 9000))))
	s.refused(t, "fourth", "Pod "+s.namespace+"/first", "Pod "+s.namespace+"/third")
	s.wantEvent(t, "fourth", "FailedScheduling", "Pod "+s.namespace+"/first")
	s.wantEvent(t, "fourth", scheduling.EventReason, "by Pod "+s.namespace+"/first")
	s.create(t, s.prior(500, s.pod("evicts", tcp("", 9000))))
	s.placed(t, "evicts")

	lease := &coordinationv1.Lease{}
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: deployment.Namespace, Name: "portcullis-scheduler"}, lease); err != nil {
		t.Error(err)
	}
	log, err := scheduler.Log()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(log) {
		if strings.Contains(line, "forbidden") {
			t.Errorf("something is forbidden to the scheduler: %s", line)
		}
	}
}

// testVersion: a plain build knows what it is built from.
func (c *cluster) testVersion(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), c.program, "--version").Output()
	if got := string(out); err != nil || !regexp.MustCompile(`^portcullis-scheduler \S+, kube-scheduler v1\.\d+\.\d+, go1\.\S+\n$`).MatchString(got) {
		t.Errorf("--version prints %q, %v", got, err)
	}
}
