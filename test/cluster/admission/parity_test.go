package admission

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/portcullis-k8s/portcullis/pkg/report"
	"github.com/portcullis-k8s/portcullis/test/lab/objects"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
)

// templates are objects with a pod template, each with something to say about it. Pods of theirs may take n1 to n3.
func templates() []string {
	port := func(port string) string { return objects.Containers("containerPort: 80, " + port) }
	sidecar := "initContainers: [{name: s, image: i, restartPolicy: Always, ports: [{containerPort: 90, hostPort: 8161}]}], "
	rolling := func(surge, unavailable string) string {
		return "strategy: {rollingUpdate: {maxSurge: " + surge + ", maxUnavailable: " + unavailable + "}},"
	}
	return []string{
		objects.Workload("Deployment", "fine", "", port("hostPort: 8160")),
		objects.Workload("Deployment", "hostip", "", port("hostPort: 8162, hostIP: nowhere")),
		objects.Workload("DaemonSet", "sidecar", "", sidecar+port("name: web")),
		objects.Workload("StatefulSet", "kubelet", "serviceName: s,", port("hostPort: 10250")),
		objects.Workload("ReplicaSet", "node-port", "", port("hostPort: 31161")),
		objects.Workload("Deployment", "node-ports", "", port("hostPort: 31999")),
		objects.Workload("Deployment", "ephemeral", "", port("hostPort: 45000")),
		objects.Workload("Deployment", "many", "replicas: 9,", port("hostPort: 8163")),
		objects.Workload("Deployment", "stalls", "replicas: 3,"+rolling("1", "0"), port("hostPort: 8164")),
		objects.Workload("Deployment", "rolls", "replicas: 3,"+rolling("0", "1"), port("hostPort: 8165")),
		objects.Workload("Deployment", "quarter", "replicas: 3,", port("hostPort: 8166")),
		objects.Workload("DaemonSet", "surge", "updateStrategy: {rollingUpdate: {maxSurge: 10%, maxUnavailable: 0}},", port("hostPort: 8167")),
		objects.Workload("Deployment", "beside", "replicas: 1,", port("hostPort: 8168")),
		objects.Workload("DaemonSet", "network", "", "hostNetwork: true, "+port("name: web")),
		objects.Workload("Deployment", "address", "", port("hostPort: 8169, hostIP: 10.255.255.1")),
		objects.Workload("Deployment", "undeclared", "", "hostNetwork: true, "+objects.Containers("containerPort: 8170")),
	}
}

// testParity gives the webhook templates, and lint the same ones with the cluster as the state: what lint calls an error is
// refused in the same words, and what it calls a warning is warned of.
func (c *cluster) testParity(t *testing.T) {
	ns := objects.Namespace(t, c)
	c.service(t, ns, objects.Service("s", "type: NodePort, ports: [{port: 80, nodePort: 31161}]"))
	objects.Create(t, c, ns, objects.Workload("DaemonSet", "some", "", "nodeSelector: {kubernetes.io/hostname: n1}, "+objects.Containers("containerPort: 80, hostPort: 8168")))
	objects.Running(t, c, ns, "some-", 1)
	state := c.dump(t)
	codes := map[string]int{}
	for _, text := range templates() {
		o := objects.One(t, ns, text)
		want := c.lint(t, state, o)
		var refused, warned []string
		for _, f := range want {
			codes[f.Code]++
			switch f.Severity {
			case "error":
				refused = append(refused, f.Field+": "+f.Message)
			case "warning":
				warned = append(warned, f.Field+": "+f.Message)
			}
		}
		poll.Until(t, func(context.Context) error {
			c.ours()
			err := c.Create(t.Context(), o.DeepCopyObject().(client.Object), client.DryRunAll)
			var got []string
			if err != nil {
				if got, err = causes(err); err != nil {
					return err
				}
			}
			if diff := cmp.Diff(refused, got); diff != "" {
				return errors.New("refused for (-lint +webhook):\n" + diff)
			}
			if diff := cmp.Diff(warned, c.ours()); diff != "" {
				return errors.New("warned of (-lint +webhook):\n" + diff)
			}
			return nil
		})
	}
	t.Logf("findings by code: %v", codes)
	for _, code := range []string{"PC0101", "PC0201", "PC0202", "PC0302", "PC0303", "PC0304", "PC0401", "PC0402", "PC0403", "PC0504", "PC0508"} {
		if codes[code] == 0 {
			t.Errorf("no template shows %s", code)
		}
	}
}

// dump writes what a replica sees of the cluster into a file.
func (c *cluster) dump(t *testing.T) string {
	t.Helper()
	list := corev1.List{}
	list.APIVersion, list.Kind = "v1", "List"
	for _, kind := range []client.ObjectList{
		&corev1.NodeList{}, &networkingv1.ServiceCIDRList{}, &corev1.ServiceList{}, &corev1.PodList{}, &corev1.ReplicationControllerList{},
		&appsv1.DeploymentList{}, &appsv1.StatefulSetList{}, &appsv1.DaemonSetList{}, &appsv1.ReplicaSetList{}, &batchv1.JobList{}, &batchv1.CronJobList{},
	} {
		if err := c.List(t.Context(), kind); err != nil {
			t.Fatal(err)
		}
		objects, err := meta.ExtractList(kind)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range objects {
			list.Items = append(list.Items, runtime.RawExtension{Object: c.typed(t, o)})
		}
	}
	return writeJSON(t, "state.json", &list)
}

// typed says what kind an object is, which lists leave out.
func (c *cluster) typed(t *testing.T, o runtime.Object) runtime.Object {
	t.Helper()
	gvk, err := apiutil.GVKForObject(o, c.Scheme())
	if err != nil {
		t.Fatal(err)
	}
	o.GetObjectKind().SetGroupVersionKind(gvk)
	return o
}

func writeJSON(t *testing.T, name string, value any) string {
	t.Helper()
	data, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (c *cluster) lint(t *testing.T, state string, o client.Object) []report.Finding {
	t.Helper()
	config := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(config, []byte(chooseHigh), 0o600); err != nil {
		t.Fatal(err)
	}
	input := writeJSON(t, "input.json", c.typed(t, o))
	out, err := exec.CommandContext(t.Context(), c.Webhook.Program(), "lint", "-o", "json", "--config", config, "--state", state, "-f", input).Output()
	if exit, is := errors.AsType[*exec.ExitError](err); err != nil && (!is || exit.ExitCode() != 1) {
		t.Fatalf("%v\n%s", err, out)
	}
	var r report.LintReport
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(r.Findings, func(f report.Finding) bool { return f.Object.Name != o.GetName() })
}
