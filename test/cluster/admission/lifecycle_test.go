package admission

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"encoding/json"

	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/test/lab/controlplane"
	"github.com/portcullis-k8s/portcullis/test/lab/finding"
	"github.com/portcullis-k8s/portcullis/test/lab/kubelet"
	"github.com/portcullis-k8s/portcullis/test/lab/objects"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

// TestWhatStoodBefore arms the webhook where a Deployment is in conflict already. All that replaces its pods must pass, with
// a warning; the same conflict anew must not.
func TestWhatStoodBefore(t *testing.T) {
	t.Parallel()
	c := newCluster(t, rig.Options{
		ControlPlane: controlplane.Options{ControllerManager: true, Scheduler: true, NodeMonitorGracePeriod: 6 * time.Second},
		Kubelet:      kubelet.Options{Nodes: kubelet.Nodes(3), Heartbeat: time.Second},
		Unarmed:      true,
	})
	t.Run("config/default", c.testConfig)
	ns := objects.Namespace(t, c)
	const quickly = "tolerations: [{key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 1}, " +
		"{key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 1}], "
	objects.Create(t, c, ns, objects.Service("s", "type: NodePort, ports: [{port: 80, nodePort: 31040}]"))
	text := objects.Workload("Deployment", "old", "replicas: 2, strategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 1}},", quickly+objects.Containers("containerPort: 80, hostPort: 31040"))
	d := objects.Create(t, c, ns, text)[0].(*appsv1.Deployment)
	before := objects.Running(t, c, ns, "old-", 2)
	if err := c.Arm(t.Context()); err != nil {
		t.Fatal(err)
	}
	warned := func(hook string) float64 {
		n, err := c.Webhook.Count(t.Context(), "portcullis_admission_findings_total", `hook="`+hook+`"`, `code="PC0201"`, `enforcement="warn"`)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	denied := func() float64 {
		n, err := c.Webhook.Count(t.Context(), "portcullis_admission_verdicts_total", `verdict="deny"`, `dry_run="false"`)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}

	t.Run("its pods are deleted", func(t *testing.T) {
		for _, p := range before {
			if err := c.Delete(t.Context(), &p); err != nil {
				t.Fatal(err)
			}
		}
		c.awaitOthers(t, ns, before)
		if warned(hooks.HandlerName(hooks.PathValidatePods)) < 2 {
			t.Errorf("%v warnings of pods, want one for each new one", warned(hooks.HandlerName(hooks.PathValidatePods)))
		}
	})
	t.Run("its image is changed", func(t *testing.T) {
		stood := objects.Running(t, c, ns, "old-", 2)
		poll.Until(t, func(context.Context) error {
			c.ours() // of an attempt that met a conflict
			if err := c.Get(t.Context(), client.ObjectKeyFromObject(d), d); err != nil {
				return err
			}
			d.Spec.Template.Spec.Containers[0].Image = "new"
			return c.Update(t.Context(), d)
		})
		want := []string{"PC0201 spec.template.spec.containers[0].ports[0].hostPort Service " + ns + "/s"}
		if diff := cmp.Diff(want, finding.All(c.ours())); diff != "" {
			t.Errorf("warned of (-want +got):\n%s", diff)
		}
		c.awaitOthers(t, ns, stood)
	})
	t.Run("its node is lost", func(t *testing.T) {
		stood := objects.Running(t, c, ns, "old-", 2)
		lost := stood[0].Spec.NodeName
		if err := c.Kubelet.Lose(lost); err != nil {
			t.Fatal(err)
		}
		poll.Until(t, func(context.Context) error {
			var pods corev1.PodList
			if err := c.List(t.Context(), &pods, client.InNamespace(ns)); err != nil {
				return err
			}
			living := 0
			for _, p := range pods.Items {
				if p.Spec.NodeName != lost && p.Status.Phase == corev1.PodRunning {
					living++
				}
			}
			if living != 2 {
				return fmt.Errorf("%d pods run on other nodes than %s", living, lost)
			}
			return nil
		})
		if err := c.Kubelet.Return(t.Context(), lost); err != nil {
			t.Fatal(err)
		}
	})
	if n := denied(); n != 0 {
		t.Errorf("%v requests were refused", n)
	}
	t.Run("the same conflict anew", func(t *testing.T) {
		fresh := strings.ReplaceAll(text, "old", "fresh")
		want := "PC0201 spec.template.spec.containers[0].ports[0].hostPort Service " + ns + "/s"
		got, err := c.refused(t.Context(), objects.One(t, ns, fresh))
		if err != nil || len(got) == 0 || finding.Of(got[0]) != want {
			t.Errorf("%v %q, want %q", err, got, want)
		}
	})
}

// awaitOthers waits until two pods run of which none is among those before.
func (c *cluster) awaitOthers(t *testing.T, ns string, before []corev1.Pod) {
	t.Helper()
	poll.Until(t, func(context.Context) error {
		for _, p := range objects.Running(t, c, ns, "old-", 2) {
			for _, b := range before {
				if p.UID == b.UID {
					return fmt.Errorf("%s is there still", p.Name)
				}
			}
		}
		return nil
	})
}

// TestRestarts is what happens to one replica until it is told to stop.
func TestRestarts(t *testing.T) {
	t.Parallel()
	c := newCluster(t, rig.Options{Kubelet: kubelet.Options{Nodes: kubelet.Nodes(1)}})
	t.Run("killed", c.testKilled)
	t.Run("not ready before it has seen everything", c.testNotReadyBeforeComplete)
	t.Run("certificates and draining", c.testCertificatesAndDraining)
}

// testKilled ends the webhook without warning under a stream of creates.
func (c *cluster) testKilled(t *testing.T) {
	ns := objects.Namespace(t, c)
	objects.Create(t, c, ns, objects.Service("holder", "type: NodePort, ports: [{port: 80, nodePort: 31050}]"))
	const creates = 200
	outcomes := map[string]int{}
	down := false
	for i := range creates {
		switch i {
		case 60:
			c.Webhook.Kill()
			down = true
		case 140:
			if err := c.Webhook.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			down = false
		}
		outcomes[c.createOne(t, ns, i, down)]++
	}
	t.Logf("of %d creates: %v", creates, outcomes)
	for _, want := range []string{"up: admitted", "up: refused by name", "down: refused by failurePolicy", "down: admitted, does not match"} {
		if outcomes[want] == 0 {
			t.Errorf("no create was %q", want)
		}
	}
	// Afterwards what was admitted is there, what was refused is not, and no number is held twice.
	var services corev1.ServiceList
	if err := c.List(t.Context(), &services, client.InNamespace(ns)); err != nil {
		t.Fatal(err)
	}
	if got, want := len(services.Items)-1, outcomes["up: admitted"]+outcomes["down: admitted, does not match"]; got != want {
		t.Errorf("%d Services are there, want %d", got, want)
	}
}

// createOne creates the i-th object of the stream and says what became of it; anything that is not right fails the test.
func (c *cluster) createOne(t *testing.T, ns string, i int, down bool) string {
	t.Helper()
	texts := []string{
		objects.Service(fmt.Sprintf("n%d", i), "type: NodePort, ports: [{port: 80}]"),
		objects.Service(fmt.Sprintf("c%d", i), "ports: [{port: 80}]"),
		objects.Pod(fmt.Sprintf("p%d", i), objects.Containers("containerPort: 80, hostPort: 31050")),
	}
	kind := i % len(texts)
	err := c.Create(t.Context(), objects.One(t, ns, texts[kind]))
	why, refusedByUs := causes(err)
	switch {
	case down && kind == 1 && err == nil:
		return "down: admitted, does not match"
	case down && kind != 1 && apierrors.IsInternalError(err) && strings.Contains(err.Error(), "failed calling webhook"):
		return "down: refused by failurePolicy"
	case !down && kind != 2 && err == nil:
		return "up: admitted"
	case !down && kind == 2 && refusedByUs == nil && strings.HasSuffix(finding.Of(why[0]), "Service "+ns+"/holder"):
		return "up: refused by name"
	}
	t.Fatalf("create %d, webhook down %v: %v", i, down, err)
	return ""
}

// testNotReadyBeforeComplete takes the webhook's right to list pods away, so that it cannot see all there is.
func (c *cluster) testNotReadyBeforeComplete(t *testing.T) {
	ns := objects.Namespace(t, c)
	rights := c.Rig.Client.RbacV1().ClusterRoles()
	role, err := rights.Get(t.Context(), "portcullis", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	less := role.DeepCopy()
	for i := range less.Rules {
		less.Rules[i].Resources = slices.DeleteFunc(less.Rules[i].Resources, func(r string) bool { return r == "pods" })
	}
	if less, err = rights.Update(t.Context(), less, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.Webhook.Stop()
	if err := c.Webhook.Launch(); err != nil {
		t.Fatal(err)
	}
	review, err := json.Marshal(podReview(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: ns}}))
	if err != nil {
		t.Fatal(err)
	}
	// It serves, and says that it cannot tell.
	poll.Until(t, func(context.Context) error {
		_, answer, err := c.review(t.Context(), hooks.PathValidatePods, review)
		if err == nil && !(strings.Contains(answer, `"allowed":false`) && strings.Contains(answer, `"code":503`) &&
			strings.Contains(answer, "Portcullis cannot tell whether the ports are free: its view of the cluster is not complete yet; try again in a moment")) {
			err = errors.New(answer)
		}
		return err
	})
	if err := c.Webhook.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), fmt.Sprint(http.StatusInternalServerError)) {
		t.Errorf("ready although it has not seen the cluster: %v", err)
	}
	// A client sees a 503 that it may try again.
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if err := c.Create(ctx, objects.One(t, ns, objects.Pod("early", objects.Containers("containerPort: 80, hostPort: 8060")))); err == nil {
		t.Error("admitted by a replica that has not seen the cluster")
	}
	role.ResourceVersion = less.ResourceVersion
	if _, err := rights.Update(t.Context(), role, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	poll.Until(t, func(context.Context) error { return c.Webhook.Ready(t.Context()) })
	objects.Create(t, c, ns, objects.Pod("late", objects.Containers("containerPort: 80, hostPort: 8060")))
}

// testCertificatesAndDraining exchanges the webhook's certificate while it runs, and then tells it to stop: it must say that
// it is not ready while it still answers.
func (c *cluster) testCertificatesAndDraining(t *testing.T) {
	review, err := json.Marshal(podReview(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "default"}}))
	if err != nil {
		t.Fatal(err)
	}
	answers := func(context.Context) error {
		_, answer, err := c.review(t.Context(), hooks.PathValidatePods, review) // trusts the webhook's current CA only
		if err == nil && !strings.Contains(answer, `"allowed":true`) {
			err = errors.New(answer)
		}
		return err
	}
	if err := answers(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Webhook.NewCertificate(); err != nil {
		t.Fatal(err)
	}
	poll.Until(t, answers)

	go c.Webhook.Stop()
	drained := false
	for !drained {
		ready := c.Webhook.Ready(t.Context())
		select {
		case <-c.Webhook.Ended():
			t.Fatal("it ended without having been seen to drain")
		default:
		}
		drained = ready != nil && answers(t.Context()) == nil
	}
	<-c.Webhook.Ended()
}

// TestDefaultHostIP asks for the hostIP that a pod gets on a cluster of each family.
func TestDefaultHostIP(t *testing.T) {
	t.Parallel()
	for _, f := range []struct {
		name     string
		cidrs    []string
		families []corev1.IPFamily
		want     string
	}{
		{"IPv4", []string{controlplane.IPv4ServiceCIDR}, []corev1.IPFamily{corev1.IPv4Protocol}, "0.0.0.0"},
		{"IPv6", []string{controlplane.IPv6ServiceCIDR}, []corev1.IPFamily{corev1.IPv6Protocol}, "::"},
		{"dual stack", []string{controlplane.IPv4ServiceCIDR, controlplane.IPv6ServiceCIDR}, []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}, ""},
	} {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, rig.Options{
				ControlPlane: controlplane.Options{ServiceCIDRs: f.cidrs},
				Kubelet:      kubelet.Options{Nodes: kubelet.Nodes(1, f.families...)},
			})
			ns := objects.Namespace(t, c)
			p := objects.Create(t, c, ns, objects.Pod("p", "initContainers: [{name: s, image: i, restartPolicy: Always, ports: [{containerPort: 1, hostPort: 8061}]}], "+
				"containers: [{name: c, image: i, ports: [{containerPort: 2, hostPort: 8062}, {containerPort: 3, hostPort: 8063, hostIP: 127.0.0.1}, {containerPort: 4}]}]"))[0].(*corev1.Pod)
			got := []string{p.Spec.InitContainers[0].Ports[0].HostIP}
			for _, port := range p.Spec.Containers[0].Ports {
				got = append(got, port.HostIP)
			}
			if want := []string{f.want, f.want, "127.0.0.1", ""}; strings.Join(got, ",") != strings.Join(want, ",") {
				t.Errorf("hostIPs %q, want %q", got, want)
			}
			n := objects.Create(t, c, ns, objects.Pod("network", "hostNetwork: true, "+objects.Containers("containerPort: 8064")))[0].(*corev1.Pod)
			if ip := n.Spec.Containers[0].Ports[0].HostIP; ip != "" {
				t.Errorf("a pod of the host network got hostIP %q", ip)
			}
			d := objects.Create(t, c, ns, objects.Workload("Deployment", "d", "", objects.Containers("containerPort: 80, hostPort: 8065")))[0].(*appsv1.Deployment)
			if ip := d.Spec.Template.Spec.Containers[0].Ports[0].HostIP; ip != "" {
				t.Errorf("a template got hostIP %q", ip)
			}
		})
	}
}
