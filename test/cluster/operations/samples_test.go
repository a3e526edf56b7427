//go:build linux

package operations

import (
	"errors"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/portcullis-k8s/portcullis/test/lab/binaries"
	"github.com/portcullis-k8s/portcullis/test/lab/controlplane"
	"github.com/portcullis-k8s/portcullis/test/lab/kubelet"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

// TestSamples: kubectl says the same of each sample, refusals word for word, and the Services get the same numbers,
// whether the API server asks an installation through its Service or the one replica of `make run`.
func TestSamples(t *testing.T) {
	t.Parallel()
	nodes := kubelet.Options{Nodes: kubelet.Nodes(3)}
	all := controlplane.Options{ControllerManager: true, Scheduler: true}
	w := newWorld(t, all)
	k, err := kubelet.Start(t.Context(), w.RESTConfig(), nodes)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Stop)
	w.replicas(t)
	installed := applySamples(t, w.ControlPlane, w.client)
	r := rig.Run(t, rig.Options{ControlPlane: all, Kubelet: nodes, SelfArmed: true})
	if diff := cmp.Diff(applySamples(t, r.ControlPlane, r.Client), installed); diff != "" {
		t.Errorf("`make run` and the installation differ (-make run +installation):\n%s", diff)
	}
	refusals := 0
	for file, said := range installed {
		if strings.Contains(said, "is invalid:") {
			refusals++
		} else if strings.HasPrefix(file, "conflicts/") {
			t.Errorf("%s is not refused: %s", file, said)
		}
	}
	t.Logf("%d files, %d refused", len(installed), refusals)
}

// applySamples returns what kubectl says, by file, and the explicit node ports of all Services.
func applySamples(t *testing.T, cp *controlplane.ControlPlane, client kubernetes.Interface) map[string]string {
	t.Helper()
	programs := binaries.For(t, binaries.Kubectl)
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := cp.WriteKubeconfig(kubeconfig); err != nil {
		t.Fatal(err)
	}
	const samples = "../../../config/samples"
	said := map[string]string{}
	for _, folder := range []string{"", "conflicts"} {
		files, err := filepath.Glob(filepath.Join(samples, folder, "*.yaml"))
		if err != nil || len(files) == 0 {
			t.Fatal(err, "no samples")
		}
		for _, file := range files {
			out, err := exec.CommandContext(t.Context(), programs, "--kubeconfig", kubeconfig, "apply", "-f", file).CombinedOutput()
			if _, refused := errors.AsType[*exec.ExitError](err); err != nil && !refused {
				t.Fatal(err)
			}
			said[filepath.Join(folder, filepath.Base(file))] = string(out)
		}
	}
	services, err := client.CoreV1().Services("default").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, svc := range services.Items {
		names = append(names, svc.Name)
	}
	slices.Sort(names)
	said["Services"] = strings.Join(names, " ")
	return said
}
