package controlplane

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/portcullis-k8s/portcullis/test/lab/binaries"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
)

// TestFamilies starts an API server in each of the three ways and lets it give addresses and node ports to Services.
func TestFamilies(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		cidrs []string
		want  []v1.IPFamily
	}{
		{"IPv4", nil, []v1.IPFamily{v1.IPv4Protocol}},
		{"IPv6", []string{IPv6ServiceCIDR}, []v1.IPFamily{v1.IPv6Protocol}},
		{"dual-stack, IPv4 first", []string{IPv4ServiceCIDR, IPv6ServiceCIDR}, []v1.IPFamily{v1.IPv4Protocol, v1.IPv6Protocol}},
		{"dual-stack, IPv6 first", []string{IPv6ServiceCIDR, IPv4ServiceCIDR}, []v1.IPFamily{v1.IPv6Protocol, v1.IPv4Protocol}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			client := clientFor(t, Run(t, Options{ServiceCIDRs: tc.cidrs}))
			service, err := client.CoreV1().Services("default").Create(t.Context(), nodePortService("a", 0), metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, service.Spec.IPFamilies); diff != "" {
				t.Errorf("families (-want +got):\n%s", diff)
			}
			if got := len(service.Spec.ClusterIPs); got != len(tc.want) {
				t.Errorf("%d cluster IPs (%v), want %d", got, service.Spec.ClusterIPs, len(tc.want))
			}
			if np := service.Spec.Ports[0].NodePort; np < 30000 || np > 32767 {
				t.Errorf("node port %d is outside the default range", np)
			}
		})
	}
}

func TestNodePortRange(t *testing.T) {
	t.Parallel()
	client := clientFor(t, Run(t, Options{NodePortRange: "30000-50000"}))
	for port, fits := range map[int32]bool{30000: true, 50000: true, 29999: false, 50001: false} {
		_, err := client.CoreV1().Services("default").Create(t.Context(), nodePortService("", port), metav1.CreateOptions{})
		if fits && err != nil {
			t.Errorf("node port %d: %v", port, err)
		}
		if !fits && !apierrors.IsInvalid(err) {
			t.Errorf("node port %d: got %v, want that it is invalid", port, err)
		}
	}
}

// TestComponents runs everything: controllers work, also after a crash, and kubectl gets in.
func TestComponents(t *testing.T) {
	t.Parallel()
	logs := t.TempDir()
	cp := Run(t, Options{
		ControllerManager: true,
		Scheduler:         true,
		SchedulerConfig:   schedulerConfig(t),
		SchedulerProgram:  schedulerProgram(t),
		LogDir:            logs,
	})
	client := clientFor(t, cp)

	t.Run("controllers", func(t *testing.T) {
		createDeployment(t, client, "web")
		poll.UntilTrue(t, "2 pods", func() bool { return pods(t.Context(), t, client, "web") == 2 })
	})
	t.Run("the scheduler is the one wanted and follows its configuration", func(t *testing.T) {
		log, err := os.ReadFile(filepath.Join(cp.LogDir(), "kube-scheduler.log"))
		if err != nil || !strings.HasPrefix(string(log), "not the usual scheduler\n") {
			t.Errorf("%v, the scheduler's log begins otherwise: %.100s", err, log)
		}
		// Without nodes the pod can only be refused, by the profile whose name it asks for.
		poll.UntilTrue(t, "the profile from the file has tried", func() bool {
			events, err := client.CoreV1().Events("default").List(t.Context(), metav1.ListOptions{FieldSelector: "reason=FailedScheduling"})
			return err == nil && len(events.Items) > 0 && events.Items[0].ReportingController == "from-file"
		})
	})
	for _, name := range []binaries.Name{binaries.KubeControllerManager, binaries.KubeScheduler, binaries.KubeAPIServer} {
		t.Run("restart "+string(name), func(t *testing.T) {
			if err := cp.Kill(name); err != nil {
				t.Fatal(err)
			}
			if err := cp.Restart(t.Context(), name); err != nil {
				t.Fatal(err)
			}
			createDeployment(t, client, "after-"+string(name))
			poll.UntilTrue(t, "2 pods", func() bool { return pods(t.Context(), t, client, "after-"+string(name)) == 2 })
		})
	}
	t.Run("kubeconfig", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "kubeconfig")
		if err := cp.WriteKubeconfig(file); err != nil {
			t.Fatal(err)
		}
		if out := kubectl(t, file, "auth", "can-i", "*", "*", "--all-namespaces"); strings.TrimSpace(out) != "yes" {
			t.Errorf("may kubectl do everything? %s", out)
		}
	})
	t.Run("other users", func(t *testing.T) {
		config, err := cp.RESTConfigFor("jane", "developers")
		if err != nil {
			t.Fatal(err)
		}
		_, err = kubernetes.NewForConfigOrDie(config).CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
		if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), `"jane"`) {
			t.Errorf("got %v, want that jane may not", err)
		}
	})
	t.Run("stop", func(t *testing.T) {
		cp.Stop()
		for _, c := range cp.components {
			select {
			case <-c.process.Done():
			default:
				t.Errorf("%s runs after Stop", c.name)
			}
			if _, err := os.Stat(filepath.Join(logs, string(c.name)+".log")); err != nil {
				t.Error(err)
			}
		}
		if _, err := os.Stat(cp.dir); !os.IsNotExist(err) {
			t.Errorf("%s is there after Stop", cp.dir)
		}
		cp.Stop()
	})
}

func TestFailedStartQuotesTheLog(t *testing.T) {
	logs := t.TempDir()
	_, err := Start(t.Context(), Options{APIServerFlags: []string{"--authorization-mode=Nobody"}, LogDir: logs})
	if err == nil {
		t.Fatal("an API server that does not know its authorization mode starts")
	}
	for _, want := range []string{"kube-apiserver", "Nobody", filepath.Join(logs, "kube-apiserver.log")} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q lacks %q", err, want)
		}
	}
}

func schedulerConfig(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "scheduler.yaml")
	const config = `
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
profiles:
- schedulerName: from-file
`
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// schedulerProgram is another program than the usual one. It says so and then becomes it.
func schedulerProgram(t *testing.T) string {
	t.Helper()
	dir := binaries.For(t, binaries.KubeScheduler)
	file := filepath.Join(t.TempDir(), "scheduler")
	script := fmt.Sprintf("#!/bin/sh\necho not the usual scheduler\nexec '%s' \"$@\"\n", dir)
	if err := os.WriteFile(file, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return file
}

func clientFor(t *testing.T, cp *ControlPlane) kubernetes.Interface {
	t.Helper()
	client, err := kubernetes.NewForConfig(cp.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func nodePortService(name string, nodePort int32) *v1.Service {
	policy := v1.IPFamilyPolicyPreferDualStack
	service := &v1.Service{Spec: v1.ServiceSpec{
		Type:           v1.ServiceTypeNodePort,
		IPFamilyPolicy: &policy,
		Ports:          []v1.ServicePort{{Port: 80, NodePort: nodePort}},
	}}
	if service.Name = name; name == "" {
		service.GenerateName = "s-"
	}
	return service
}

// createDeployment makes two replicas, for the scheduler profile of the test.
func createDeployment(t *testing.T, client kubernetes.Interface, name string) {
	t.Helper()
	replicas, labels := int32(2), map[string]string{"app": name}
	_, err := client.AppsV1().Deployments("default").Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: v1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       v1.PodSpec{SchedulerName: "from-file", Containers: []v1.Container{{Name: "main", Image: "example"}}},
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

func pods(ctx context.Context, t *testing.T, client kubernetes.Interface, app string) int {
	t.Helper()
	list, err := client.CoreV1().Pods("default").List(ctx, metav1.ListOptions{LabelSelector: "app=" + app})
	if err != nil {
		t.Log(err)
		return 0
	}
	return len(list.Items)
}

func kubectl(t *testing.T, kubeconfig string, args ...string) string {
	t.Helper()
	dir := binaries.For(t, binaries.Kubectl)
	cmd := exec.CommandContext(t.Context(), dir, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("kubectl %v: %v\n%s", args, err, out)
	}
	return string(out)
}
