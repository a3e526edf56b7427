package install

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// TestDoors: the chart makes what kustomize makes, field by field, with whatever is switched on in both.
func TestDoors(t *testing.T) {
	for _, c := range []struct {
		name       string
		components []string
		values     string
		args       []string
	}{
		{"as it ships", nil, "", nil},
		{"highly available", []string{"ha"}, "", []string{"--values", chart + "/values-ha.yaml"}},
		{"cert-manager", []string{"certmanager"}, "certificates: {mode: certManager}", nil},
		{"Prometheus and Grafana", []string{"prometheus"}, "{podMonitor: {enabled: true}, prometheusRule: {enabled: true}, dashboard: {enabled: true}}", nil},
		{"network policy", []string{"network-policy"}, "networkPolicy: {enabled: true}", nil},
		{"secure metrics", []string{"secure-metrics"}, "metrics: {secure: true}", nil},
		{"everything", []string{"ha", "certmanager", "prometheus", "network-policy", "secure-metrics"},
			"{certificates: {mode: certManager}, podMonitor: {enabled: true}, prometheusRule: {enabled: true}, dashboard: {enabled: true}, networkPolicy: {enabled: true}, metrics: {secure: true}}",
			[]string{"--values", chart + "/values-ha.yaml"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			plain, charted := overlay(t, c.components...), rendered(t, c.values, c.args...)
			for _, d := range differences {
				if !d.level(plain, charted) {
					t.Errorf("%q is no difference any more: take it off the list", d.why)
				}
			}
			if diff := cmp.Diff(plain, charted); diff != "" {
				t.Errorf("kustomize and the chart differ (-kustomize +chart):\n%s", diff)
			}
		})
	}
}

// differences are all that there is between the two. Each is levelled out, and reports whether it was there.
var differences = []struct {
	why   string
	level func(plain, charted objects) bool
}{
	{"helm install --create-namespace makes the namespace", func(plain, _ objects) bool {
		_, there := plain["Namespace//"+namespace]
		delete(plain, "Namespace//"+namespace)
		return there
	}},
	{"Helm knows its objects by labels", func(_, charted objects) bool {
		return everyOne(charted, "", func(o *unstructured.Unstructured) bool {
			return take(o, "Helm", "metadata", "labels", "app.kubernetes.io/managed-by") && take(o, "portcullis-0.1.0", "metadata", "labels", "helm.sh/chart")
		})
	}},
	{"Helm keeps the kinds when it uninstalls", func(_, charted objects) bool {
		return everyOne(charted, "CustomResourceDefinition", func(o *unstructured.Unstructured) bool {
			return take(o, "keep", "metadata", "annotations", "helm.sh/resource-policy")
		})
	}},
	{"a change of the configuration restarts the chart's pods", func(_, charted objects) bool {
		return everyOne(charted, "Deployment", func(o *unstructured.Unstructured) bool {
			return take(o, "", "spec", "template", "metadata", "annotations", "checksum/configuration")
		})
	}},
}

// everyOne applies a function to every object of a kind, of all kinds if it is empty, and reports whether all agreed.
func everyOne(all objects, kind string, f func(*unstructured.Unstructured) bool) bool {
	n, agreed := 0, 0
	for _, o := range all {
		if kind == "" || o.GetKind() == kind {
			n++
			if f(o) {
				agreed++
			}
		}
	}
	return n > 0 && n == agreed
}

// take removes a field, and the maps that become empty with it, and reports whether it had the value; any if that is
// empty.
func take(o *unstructured.Unstructured, value string, path ...string) bool {
	is, there, err := unstructured.NestedString(o.Object, path...)
	if err != nil || !there || value != "" && is != value {
		return false
	}
	for ; len(path) > 0; path = path[:len(path)-1] {
		unstructured.RemoveNestedField(o.Object, path...)
		if rest, _, err := unstructured.NestedMap(o.Object, path[:len(path)-1]...); err != nil || len(rest) > 0 {
			break
		}
	}
	return true
}

// TestDifferenceIsHeld shows that a difference that is not there is noticed, and one that is not on the list.
func TestDifferenceIsHeld(t *testing.T) {
	plain := overlay(t)
	for _, d := range differences[1:] {
		if d.level(plain, overlay(t)) {
			t.Errorf("%q is found where there is none", d.why)
		}
	}
	charted := rendered(t, "replicas: 3")
	for _, d := range differences {
		d.level(plain, charted)
	}
	if diff := cmp.Diff(plain, charted); strings.Count(diff, "\n+") != 1 || !strings.Contains(diff, "replicas") {
		t.Errorf("with another number of replicas they differ by\n%s", diff)
	}
}

// overlay is what kustomize makes of config/default with components, as an overlay of a user's does.
func overlay(t *testing.T, components ...string) objects {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	text := "kind: Kustomization\napiVersion: kustomize.config.k8s.io/v1beta1\nresources: [" + below(t, dir, "default") + "]\ncomponents:\n"
	for _, c := range components {
		text += fmt.Sprintf("- %s\n", below(t, dir, "components/"+c))
	}
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	result, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatal(err)
	}
	built, err := result.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	return parsed(t, built)
}

// below is the path of a folder of config/ from dir.
func below(t *testing.T, dir, folder string) string {
	t.Helper()
	to, err := filepath.Abs(filepath.Join(config, folder))
	if err != nil {
		t.Fatal(err)
	}
	if to, err = filepath.Rel(dir, to); err != nil {
		t.Fatal(err)
	}
	return to
}
