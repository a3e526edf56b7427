// Package objects writes manifests and reads pods for tests: what a test says in YAML is what a user would apply.
package objects

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/pkg/manifest"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
)

// Parse reads manifests and puts them into a namespace, unless that is "".
func Parse(tb testing.TB, namespace, text string) []client.Object {
	tb.Helper()
	in, err := manifest.Parse("manifest", []byte(text), manifest.Scheme())
	if err != nil {
		tb.Fatalf("%v\n%s", err, text)
	}
	var list []client.Object
	for _, o := range in.Objects {
		object, ok := o.Object.(client.Object)
		if !ok {
			tb.Fatalf("%T is no object", o.Object)
		}
		if namespace != "" {
			object.SetNamespace(namespace)
		}
		list = append(list, object)
	}
	return list
}

// One reads one manifest.
func One(tb testing.TB, namespace, text string) client.Object {
	tb.Helper()
	list := Parse(tb, namespace, text)
	if len(list) != 1 {
		tb.Fatalf("%d objects in\n%s", len(list), text)
	}
	return list[0]
}

// Create creates what manifests say.
func Create(tb testing.TB, c client.Client, namespace, text string) []client.Object {
	tb.Helper()
	list := Parse(tb, namespace, text)
	for _, o := range list {
		if err := c.Create(tb.Context(), o); err != nil {
			tb.Fatalf("%s: %v", o.GetName(), err)
		}
	}
	return list
}

// Namespace makes a namespace of the test's own, which is deleted when the test ends.
func Namespace(tb testing.TB, c client.Client) string {
	tb.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}
	if err := c.Create(tb.Context(), ns); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := c.Delete(context.WithoutCancel(tb.Context()), ns); err != nil {
			tb.Error(err)
		}
	})
	return ns.Name
}

// Running waits until so many pods of a namespace run whose names begin with the prefix, and returns them.
func Running(tb testing.TB, c client.Client, namespace, prefix string, count int) []corev1.Pod {
	tb.Helper()
	var found []corev1.Pod
	poll.Until(tb, func(ctx context.Context) error {
		var pods corev1.PodList
		if err := c.List(ctx, &pods, client.InNamespace(namespace)); err != nil {
			return err
		}
		found = slices.DeleteFunc(pods.Items, func(p corev1.Pod) bool {
			return !strings.HasPrefix(p.Name, prefix) || p.Status.Phase != corev1.PodRunning || p.DeletionTimestamp != nil
		})
		if len(found) != count {
			return fmt.Errorf("%d pods %s* run in %s, want %d", len(found), prefix, namespace, count)
		}
		return nil
	})
	return found
}

// Service is the manifest of a Service.
func Service(name, spec string) string {
	return fmt.Sprintf("{apiVersion: v1, kind: Service, metadata: {name: %s}, spec: {%s}}\n", name, spec)
}

// Pod is the manifest of a pod.
func Pod(name, spec string) string {
	return fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {name: %s}, spec: {%s}}\n", name, spec)
}

// Workload is the manifest of a built-in kind with a pod template, whose pods have its name as the label app; more are
// further fields of its spec.
func Workload(kind, name, more, spec string) string {
	version, selector := "apps/v1", "selector: {matchLabels: {app: "+name+"}}, "
	switch kind {
	case "Job":
		version, selector, spec = "batch/v1", "", "restartPolicy: Never, "+spec
	case "ReplicationController":
		version, selector = "v1", "selector: {app: "+name+"}, "
	}
	return fmt.Sprintf("{apiVersion: %s, kind: %s, metadata: {name: %s}, spec: {%s %stemplate: {metadata: {labels: {app: %s}}, spec: {%s}}}}\n",
		version, kind, name, more, selector, name, spec)
}

// Containers are the containers of a pod: one, with one port.
func Containers(port string) string {
	return fmt.Sprintf("containers: [{name: c, image: i, ports: [{%s}]}]", port)
}
