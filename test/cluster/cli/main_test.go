// Package cli proves the commands that read a cluster, ports, audit and why, and the audit that the program makes by itself,
// against a real API server: what each says is what it says of a dump of the same cluster, and what the others say.
package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/yaml"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/test/lab/binaries"
	"github.com/portcullis-k8s/portcullis/test/lab/controlplane"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

func TestMain(m *testing.M) {
	logf.SetLogger(logr.Discard())
	rest.SetDefaultWarningHandler(rest.NoWarnings{})
	os.Exit(m.Run())
}

// world is an API server with the kinds of pools and the rights that ship, and no controllers.
type world struct{ *rig.API }

// create makes objects of YAML, with the status that stands there.
func (w *world) create(t *testing.T, texts ...string) []*unstructured.Unstructured {
	t.Helper()
	var all []*unstructured.Unstructured
	for _, text := range texts {
		u := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		status, has := u.Object["status"]
		if err := w.Create(t.Context(), u); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		if u.Object["status"] = status; has {
			if err := w.Status().Update(t.Context(), u); err != nil {
				t.Fatalf("%v: %s", err, text)
			}
		}
		all = append(all, u)
	}
	return all
}

// reader is a kubeconfig of a user who may list some resources and do nothing else.
func (w *world) reader(t *testing.T, name string, rules ...rbacv1.PolicyRule) string {
	t.Helper()
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules}
	binding := &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: name}, Subjects: []rbacv1.Subject{{Kind: "User", Name: name, APIGroup: rbacv1.GroupName}},
		RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: name, APIGroup: rbacv1.GroupName}}
	if err := errors.Join(w.Create(t.Context(), role), w.Create(t.Context(), binding)); err != nil {
		t.Fatal(err)
	}
	return kubeconfig(t, w.ControlPlane, "", name)
}

// kubeconfig writes the kubeconfig of a user and returns its path; namespace is the current one.
func kubeconfig(t *testing.T, cp *controlplane.ControlPlane, namespace, user string, groups ...string) string {
	t.Helper()
	as, err := cp.RESTConfigFor(user, groups...)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := controlplane.WriteKubeconfig(path, as, namespace); err != nil {
		t.Fatal(err)
	}
	return path
}

func listing(group string, resources ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: resources, Verbs: []string{"list"}}
}

// dump writes what kubectl get -A -o yaml of everything that is read would write, and returns its path.
func (w *world) dump(t *testing.T) string {
	t.Helper()
	var items []any
	for _, gvk := range []schema.GroupVersionKind{
		corev1.SchemeGroupVersion.WithKind("NodeList"), corev1.SchemeGroupVersion.WithKind("NamespaceList"), corev1.SchemeGroupVersion.WithKind("ServiceList"), corev1.SchemeGroupVersion.WithKind("PodList"),
		{Group: "apps", Version: "v1", Kind: "DeploymentList"}, {Group: "apps", Version: "v1", Kind: "DaemonSetList"}, {Group: "apps", Version: "v1", Kind: "ReplicaSetList"},
		{Group: "apps", Version: "v1", Kind: "StatefulSetList"}, {Group: "batch", Version: "v1", Kind: "JobList"}, {Group: "batch", Version: "v1", Kind: "CronJobList"},
		{Group: "networking.k8s.io", Version: "v1", Kind: "ServiceCIDRList"}, {Group: "discovery.k8s.io", Version: "v1", Kind: "EndpointSliceList"},
		v1alpha1.GroupVersion().WithKind("PortPoolList"), v1alpha1.GroupVersion().WithKind("PortPolicyList"), v1alpha1.GroupVersion().WithKind("PortClaimList"),
	} {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(gvk)
		if err := w.List(t.Context(), list); err != nil {
			t.Fatal(err)
		}
		for i := range list.Items {
			items = append(items, list.Items[i].Object)
		}
	}
	text, err := yaml.Marshal(map[string]any{"apiVersion": "v1", "kind": "List", "items": items})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "dump.yaml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// portcullis runs the command and returns its exit code and what it said.
func portcullis(t *testing.T, args ...string) (exit int, stdout, stderr string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binaries.For(t, binaries.Portcullis), args...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	if ended, is := errors.AsType[*exec.ExitError](err); is {
		return ended.ExitCode(), out.String(), said.String()
	}
	if err != nil {
		t.Fatal(err)
	}
	return 0, out.String(), said.String()
}

// report runs the command and decodes what it prints.
func report[T any](t *testing.T, args ...string) (r T) {
	t.Helper()
	exit, out, said := portcullis(t, append(args, "-o", "json")...)
	if err := json.Unmarshal([]byte(out), &r); err != nil || exit == 2 || said != "" {
		t.Fatalf("%s: exit %d, %v: %s%s", strings.Join(args, " "), exit, err, out, said)
	}
	return r
}
