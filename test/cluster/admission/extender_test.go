package admission

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/portcullis-k8s/portcullis/scheduling"
	"github.com/portcullis-k8s/portcullis/test/lab/binaries"
	"github.com/portcullis-k8s/portcullis/test/lab/kubelet"
	"github.com/portcullis-k8s/portcullis/test/lab/objects"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

// extended has the webhook answer schedulers, and returns the configuration that ships for a stock one, but that the webhook is reached
// at its address, and that the certificates are the test's.
func extended(t *testing.T, r *rig.Rig, schedulerName string) []byte {
	t.Helper()
	e := r.NewExtender(t)
	r.Replace(t, "", e.Flags...)
	onlySchedulers(t, r, e.URL+scheduling.PathFilter)
	ca := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(ca, r.Webhook.CA, 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../../config/scheduler/extender.yaml")
	if err != nil {
		t.Fatal(err)
	}
	config := map[string]any{}
	if err := yaml.UnmarshalStrict(text, &config); err != nil {
		t.Fatal(err)
	}
	extender := config["extenders"].([]any)[0].(map[string]any)
	extender["urlPrefix"] = e.URL + "/scheduler"
	extender["tlsConfig"] = map[string]any{"caFile": ca, "certFile": e.CertFile, "keyFile": e.KeyFile}
	config["leaderElection"] = map[string]any{"leaderElect": false}
	config["profiles"] = []any{map[string]any{"schedulerName": schedulerName}}
	if text, err = yaml.Marshal(config); err != nil {
		t.Fatal(err)
	}
	return text
}

// onlySchedulers: who has no certificate of a scheduler's name gets no answer, and on the webhook's port there is none.
func onlySchedulers(t *testing.T, r *rig.Rig, at string) {
	t.Helper()
	for user, want := range map[string]bool{"": false, "system:kube-controller-manager": false, "system:kube-scheduler": true} {
		config := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
		config.RootCAs.AppendCertsFromPEM(r.Webhook.CA)
		if user != "" {
			as, err := r.RESTConfigFor(user)
			if err != nil {
				t.Fatal(err)
			}
			pair, err := tls.X509KeyPair(as.CertData, as.KeyData)
			if err != nil {
				t.Fatal(err)
			}
			config.Certificates = []tls.Certificate{pair}
		}
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
		resp, err := client.Post(at, "application/json", strings.NewReader("{}"))
		if (err == nil) != want {
			t.Errorf("%q asks as a scheduler: %v", user, err)
		}
		if err == nil {
			resp.Body.Close()
		}
		if resp, err = client.Post(r.Webhook.URL()+scheduling.PathFilter, "application/json", strings.NewReader("{}")); err != nil || resp.StatusCode != http.StatusNotFound {
			t.Errorf("%q asks as a scheduler at the webhook's port: %v, %v", user, resp, err)
		}
		if err == nil {
			resp.Body.Close()
		}
	}
}

// hostPortPod is a pod for a scheduler and a place.
func hostPortPod(name, scheduler, place, hostIP string, port int) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  schedulerName: %s
  nodeSelector: {%s}
  containers: [{name: main, image: main, ports: [{containerPort: 80, hostPort: %d, hostIP: %q}]}]`, name, scheduler, place, port, hostIP)
}

// TestExtender: a stock kube-scheduler that asks the webhook keeps pods off nodes on which only the webhook knows that the port
// is taken, says by whom, and tries again when it is free.
func TestExtender(t *testing.T) {
	t.Parallel()
	// Not armed: the webhook would refuse what is here for a scheduler to judge.
	c := newCluster(t, rig.Options{Unarmed: true, Kubelet: kubelet.Options{Nodes: kubelet.Nodes(3)}})
	dir := binaries.For(t, binaries.KubeScheduler)
	const stock, asking = "stock", "asking"
	alone := "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nleaderElection: {leaderElect: false}\nprofiles: [{schedulerName: stock}]"
	rig.RunScheduler(t, c.ControlPlane, rig.SchedulerOptions{Program: dir, Config: []byte(alone)})
	rig.RunScheduler(t, c.ControlPlane, rig.SchedulerOptions{Program: dir, Config: extended(t, c.Rig, asking)})
	ns := objects.Namespace(t, c)
	create := func(text string) client.Object {
		t.Helper()
		o := objects.One(t, ns, text)
		if err := c.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		return o
	}
	nodeOf := func(name string) string {
		var pod corev1.Pod
		if err := c.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: name}, &pod); err != nil {
			t.Fatal(err)
		}
		return pod.Spec.NodeName
	}
	waits := func(name, reason string) {
		t.Helper()
		poll.Until(t, func(context.Context) error {
			var pod corev1.Pod
			if err := c.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: name}, &pod); err != nil {
				return err
			}
			for _, condition := range pod.Status.Conditions {
				if condition.Type == corev1.PodScheduled && strings.Contains(condition.Message, reason) {
					return nil
				}
			}
			return fmt.Errorf("pod %s on node %q: %v does not say %q", name, pod.Spec.NodeName, pod.Status.Conditions, reason)
		})
	}
	const n1 = "kubernetes.io/hostname: n1"

	// A holder on all of IPv6: the stock scheduler puts ::1 beside it, the one that asks does not.
	holder := create(hostPortPod("holder", stock, n1, "::", 9000))
	objects.Running(t, c, ns, "holder", 1)
	create(hostPortPod("aware", asking, n1, "::1", 9000))
	waits("aware", "Pod "+ns+"/holder")
	create(hostPortPod("unaware", stock, n1, "::1", 9000))
	poll.Until(t, func(context.Context) error {
		if nodeOf("unaware") == "" {
			return fmt.Errorf("the stock scheduler has not placed its pod")
		}
		return nil
	})
	for _, o := range []client.Object{holder, &corev1.Pod{ObjectMeta: objects.One(t, ns, hostPortPod("unaware", stock, n1, "", 1)).(*corev1.Pod).ObjectMeta}} {
		if err := c.Delete(t.Context(), o, client.GracePeriodSeconds(0)); err != nil {
			t.Fatal(err)
		}
	}
	objects.Running(t, c, ns, "aware", 1)

	// A Service that came while the pod waited for a node.
	create(hostPortPod("late", asking, "late: 'yes'", "", 30555))
	waits("late", "didn't match")
	service := create("apiVersion: v1\nkind: Service\nmetadata: {name: taker}\nspec: {type: NodePort, ports: [{port: 80, nodePort: 30555}]}")
	node := &corev1.Node{}
	if err := c.Get(t.Context(), client.ObjectKey{Name: "n2"}, node); err != nil {
		t.Fatal(err)
	}
	base := node.DeepCopy()
	node.Labels["late"] = "yes"
	if err := c.Patch(t.Context(), node, client.MergeFrom(base)); err != nil {
		t.Fatal(err)
	}
	waits("late", "Service "+ns+"/taker")
	if err := c.Delete(t.Context(), service); err != nil {
		t.Fatal(err)
	}
	// A Service's event is none that a stock scheduler knows: any other one brings the pod back.
	create(hostPortPod("nudge", asking, "late: 'yes'", "", 9555))
	objects.Running(t, c, ns, "nudge", 1)
	if err := c.Delete(t.Context(), objects.One(t, ns, hostPortPod("nudge", asking, n1, "", 1)), client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	objects.Running(t, c, ns, "late", 1)

	// Many at once, half of them on ::, half on ::1, none of which can be beside the other: three nodes have room for one
	// of the first or one of the second each.
	var all sync.WaitGroup
	for i := range 12 {
		all.Go(func() {
			hostIP := []string{"::", "::1"}[i%2]
			o := objects.One(t, ns, hostPortPod(fmt.Sprint("many-", i), asking, "kubernetes.io/os: linux", hostIP, 9100))
			if err := c.Create(t.Context(), o); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	objects.Running(t, c, ns, "many-", 3)
	var pods corev1.PodList
	if err := c.List(t.Context(), &pods, client.InNamespace(ns)); err != nil {
		t.Fatal(err)
	}
	on := map[string]string{}
	for _, p := range pods.Items {
		if !strings.HasPrefix(p.Name, "many-") || p.Spec.NodeName == "" {
			continue
		}
		if other, twice := on[p.Spec.NodeName]; twice {
			t.Errorf("%s and %s are both on %s", other, p.Name, p.Spec.NodeName)
		}
		on[p.Spec.NodeName] = p.Name
	}

	// Without host ports nothing is asked of the ledger, and without the webhook everything goes on.
	create("apiVersion: v1\nkind: Pod\nmetadata: {name: plain}\nspec: {schedulerName: asking, containers: [{name: main, image: main}]}")
	objects.Running(t, c, ns, "plain", 1)
	if n, err := c.Webhook.Count(t.Context(), "portcullis_extender_answers_total", `outcome="skipped"`); n < 1 || err != nil {
		t.Errorf("%v answers without a look, %v", n, err)
	}
	c.Webhook.Stop()
	create("apiVersion: v1\nkind: Pod\nmetadata: {name: away}\nspec: {schedulerName: asking, containers: [{name: main, image: main}]}")
	objects.Running(t, c, ns, "away", 1)
}
