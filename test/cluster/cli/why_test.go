package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/pkg/extract/specimen"
	"github.com/portcullis-k8s/portcullis/pkg/manifest"
	words "github.com/portcullis-k8s/portcullis/pkg/report"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
	"github.com/portcullis-k8s/portcullis/test/lab/controlplane"
	"github.com/portcullis-k8s/portcullis/test/lab/kubelet"
	"github.com/portcullis-k8s/portcullis/test/lab/objects"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

// scheduled is a cluster whose pods a scheduler places.
type scheduled struct {
	*rig.Rig
	client.Client
}

// TestWhy asks `portcullis why` about pods of a cluster with kube-scheduler and three nodes: n1 has an SSD, n2 is tainted,
// n3 is small.
func TestWhy(t *testing.T) {
	nodes := kubelet.Nodes(3)
	nodes[0].Labels = map[string]string{"disk": "ssd"}
	nodes[1].Taints = []corev1.Taint{{Key: "dedicated", Value: "db", Effect: corev1.TaintEffectNoSchedule}}
	nodes[2].Allocatable = corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("2"), corev1.ResourceMemory: resource.MustParse("1Gi"), corev1.ResourcePods: resource.MustParse("12"),
	}
	c := &scheduled{Rig: rig.Run(t, rig.Options{
		ControlPlane: controlplane.Options{ControllerManager: true, Scheduler: true}, Kubelet: kubelet.Options{Nodes: nodes}, Unarmed: true,
	})}
	var err error
	if c.Client, err = client.New(c.RESTConfig(), client.Options{Scheme: manifest.Scheme()}); err != nil {
		t.Fatal(err)
	}
	t.Run("four replicas on three nodes", c.testWhyReplicas)
	t.Run("rights", c.testWhyRights)
	t.Run("kube-scheduler agrees", c.testWhyAgrees)
}

// why runs the command and returns its exit code and what it said.
func why(t *testing.T, kubeconfig string, args ...string) (exit int, stdout, stderr string) {
	t.Helper()
	return portcullis(t, append([]string{"why", "--kubeconfig", kubeconfig}, args...)...)
}

func whyReport(t *testing.T, kubeconfig string, args ...string) (int, words.PodReport) {
	t.Helper()
	exit, out, said := why(t, kubeconfig, append(args, "-o", "json")...)
	var r words.PodReport
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v\n%s%s", err, out, said)
	}
	return exit, r
}

// unschedulable waits until kube-scheduler has said that a pod gets no node.
func (c *scheduled) unschedulable(t *testing.T, pod *corev1.Pod) string {
	t.Helper()
	message := ""
	poll.Until(t, func(context.Context) error {
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(pod), pod); err != nil {
			return err
		}
		for _, condition := range pod.Status.Conditions {
			if condition.Type == corev1.PodScheduled && condition.Reason == corev1.PodReasonUnschedulable {
				message = condition.Message
				return nil
			}
		}
		return fmt.Errorf("pod %s is not unschedulable, and on node %q", pod.Name, pod.Spec.NodeName)
	})
	return message
}

func (c *scheduled) testWhyReplicas(t *testing.T) {
	ns := objects.Namespace(t, c)
	const tolerating = "tolerations: [{key: dedicated, operator: Exists}], "
	objects.Create(t, c, ns, objects.Workload("Deployment", "tomcat", "replicas: 4,", tolerating+objects.Containers("containerPort: 8080, hostPort: 9000")))
	objects.Running(t, c, ns, "tomcat-", 3)
	var waiting *corev1.Pod
	poll.Until(t, func(context.Context) error {
		var pods corev1.PodList
		if err := c.List(t.Context(), &pods, client.InNamespace(ns)); err != nil {
			return err
		}
		i := slices.IndexFunc(pods.Items, func(p corev1.Pod) bool { return p.Spec.NodeName == "" })
		if len(pods.Items) != 4 || i < 0 {
			return fmt.Errorf("%d pods, want 4 of which one waits", len(pods.Items))
		}
		waiting = &pods.Items[i]
		return nil
	})
	said := c.unschedulable(t, waiting)
	admin := kubeconfig(t, c.ControlPlane, ns, "admin", "system:masters")
	for _, args := range [][]string{{waiting.Name}, {ns + "/" + waiting.Name}, {"deployment/tomcat"}, {"deployment/tomcat", "-n", ns}} {
		exit, out, stderr := why(t, admin, args...)
		out = regexp.MustCompile(`(?m)\d+[smhd] +-$`).ReplaceAllString(out, "AGE -")
		out = regexp.MustCompile(` {2,}`).ReplaceAllString(out, "  ")
		by := "  9000/TCP  Deployment " + ns + "/tomcat  AGE -\n"
		want := "NODE  FITS  PORT  HELD BY  SINCE  ALSO\nn1  no" + by + "n2  no" + by + "n3  no" + by +
			"\n0 of 3 nodes fit: hostPort 9000/TCP is held on 3 by Deployment " + ns + "/tomcat; a node has room for one of its pods: run fewer, or add a node, or expose them by a Service without a hostPort\n" +
			"The scheduler says: " + said + "\n"
		if diff := cmp.Diff(want, out); diff != "" || exit != 1 {
			t.Errorf("%v: exit %d %s (-want +got):\n%s", args, exit, stderr, diff)
		}
	}
	for _, p := range objects.Running(t, c, ns, "tomcat-", 3) {
		exit, out, stderr := why(t, admin, p.Name)
		if want := fmt.Sprintf("Pod %s/%s is on node %s (Running) since ", ns, p.Name, p.Spec.NodeName); exit != 0 || !strings.HasPrefix(out, want) {
			t.Errorf("exit %d, want %q: %s%s", exit, want, out, stderr)
		}
		_, r := whyReport(t, admin, waiting.Name)
		i := slices.IndexFunc(r.Nodes, func(n words.PodNode) bool { return n.Node == p.Spec.NodeName })
		if len(r.Nodes[i].Obstacles) != 1 || r.Nodes[i].Obstacles[0].Pod != ns+"/"+p.Name || r.Nodes[i].Obstacles[0].Since != p.Status.StartTime.UTC().Format("2006-01-02T15:04:05Z") {
			t.Errorf("node %s: %+v, want pod %s", p.Spec.NodeName, r.Nodes[i], p.Name)
		}
	}
}

func (c *scheduled) testWhyRights(t *testing.T) {
	ns := objects.Namespace(t, c)
	objects.Create(t, c, ns, objects.Service("s", "type: NodePort, ports: [{port: 80, nodePort: 31070}]"))
	objects.Create(t, c, ns, objects.Pod("p", "schedulingGates: [{name: portcullis.dev/e2e}], "+objects.Containers("containerPort: 80, hostPort: 31070")))
	objects.Create(t, c, ns, objects.Workload("Deployment", "none", "replicas: 0,", objects.Containers("containerPort: 80, hostPort: 8070")))
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "why-reader"}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"nodes", "services", "pods"}, Verbs: []string{"list"}},
	}}
	binding := &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "why-reader"}, Subjects: []rbacv1.Subject{{Kind: "User", Name: "reader", APIGroup: rbacv1.GroupName}},
		RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "why-reader", APIGroup: rbacv1.GroupName}}
	if _, err := c.Rig.Client.RbacV1().ClusterRoles().Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Rig.Client.RbacV1().ClusterRoleBindings().Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	reader, nobody, admin := kubeconfig(t, c.ControlPlane, ns, "reader"), kubeconfig(t, c.ControlPlane, ns, "nobody"), kubeconfig(t, c.ControlPlane, ns, "admin", "system:masters")
	const lacking = "portcullis: you may not list nodes, services, pods in all namespaces: ask for a ClusterRole with the verb list on nodes, services and pods"
	poll.Until(t, func(context.Context) error { // the API server learns of the binding a moment later
		if exit, _, said := why(t, reader, "p"); exit == 2 {
			return errors.New(said)
		}
		return nil
	})
	for _, tt := range []struct {
		why, kubeconfig string
		args            string
		exit            int
		says            string
	}{
		{"list is enough", reader, "p", 1, "0 of 3 nodes fit: hostPort 31070/TCP is held on 3 by Service " + ns + "/s, 1 has the taint dedicated=db:NoSchedule; choose another hostPort, or expose the pod by a Service, or give Service " + ns + "/s another nodePort\n"},
		{"and says what holds it back", reader, "p", 1, "No scheduler looks at the pod before its scheduling gates are gone: portcullis.dev/e2e.\n"},
		{"but not for a template", reader, "deploy/none", 2, "portcullis: you may not get Deployment " + ns + "/none: ask for the right to get it, or name one of its pods"},
		{"a template", admin, "deploy/none", 0, "2 of 3 nodes fit: n1, n3; 1 has the taint dedicated=db:NoSchedule\n"},
		{"of nothing", admin, "sts/none", 2, "portcullis: there is no StatefulSet " + ns + "/none"},
		{"no rights", nobody, "p", 2, lacking},
		{"as somebody without", admin, "p --as nobody", 2, lacking},
		{"as somebody with them", admin, "p --as reader", 1, "held on 3 by Service"},
		{"no such pod", reader, "q", 2, "there is no Pod " + ns + "/q; there are " + ns + "/p"},
		{"no such context", reader, "p --context y", 2, `context "y" does not exist`},
		{"no such server", reader, "p --server https://127.0.0.1:1", 2, "portcullis: reading nodes: the API server https://127.0.0.1:1 cannot be reached: "},
	} {
		exit, out, said := why(t, tt.kubeconfig, strings.Fields(tt.args)...)
		if exit != tt.exit || !strings.Contains(out+said, tt.says) {
			t.Errorf("%s: exit %d, want %d with %q:\n%s%s", tt.why, exit, tt.exit, tt.says, out, said)
		}
	}
}

// testWhyAgrees makes random pods that wait behind a scheduling gate, asks about each, and opens it: kube-scheduler puts it on one
// of the nodes that fit, or says that there is none.
func (c *scheduled) testWhyAgrees(t *testing.T) {
	ns := objects.Namespace(t, c)
	s := specimen.New(t)
	admin := kubeconfig(t, c.ControlPlane, ns, "admin", "system:masters")
	placed, nowhere, refused := 0, 0, map[string]int{}
	var there []*corev1.Pod
	for i := range seed.Rounds(30, 300) {
		one := func(of ...string) string { return of[s.IntN(len(of))] }
		text := objects.Pod(fmt.Sprint("p", i), "schedulingGates: [{name: portcullis.dev/e2e}], "+
			one("", "", "nodeSelector: {disk: ssd}, ", "nodeSelector: {kubernetes.io/hostname: n3}, ")+
			one("", "tolerations: [{key: dedicated, operator: Exists}], ", "tolerations: [{operator: Exists}], ")+
			"containers: [{name: c, image: i, resources: {requests: {cpu: "+one("10m", "300m", "900m")+"}}, ports: ["+
			one("", "{containerPort: 1, hostPort: 8071}, ", "{containerPort: 1, hostPort: 8072, protocol: UDP}, ")+one("", "", "{containerPort: 2, hostPort: 8073}")+"]}]")
		if i%10 == 5 {
			c.cordon(t, "n1", i%20 == 5)
		}
		p := objects.Create(t, c, ns, text)[0].(*corev1.Pod)
		exit, r := whyReport(t, admin, p.Name)
		var fit []string
		for _, n := range r.Nodes {
			if n.Fits {
				fit = append(fit, n.Node)
			}
			for _, rule := range n.Excluded {
				refused[rule.Rule]++
			}
			refused["hostPort"] += len(n.Obstacles)
		}
		if want := len(fit) == 0; (exit == 1) != want || exit > 1 || r.Summary.Fits != len(fit) {
			t.Errorf("%s: exit %d, %d fit; nodes %q", p.Name, exit, r.Summary.Fits, fit)
		}
		if err := c.Patch(t.Context(), p, client.RawPatch("application/merge-patch+json", []byte(`{"spec": {"schedulingGates": null}}`))); err != nil {
			t.Fatal(err)
		}
		if len(fit) == 0 {
			nowhere++
			c.unschedulable(t, p)
			if err := c.Delete(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			continue
		}
		placed++
		poll.Until(t, func(context.Context) error {
			if err := c.Get(t.Context(), client.ObjectKeyFromObject(p), p); err != nil || p.Spec.NodeName != "" {
				return err
			}
			return fmt.Errorf("pod %s has no node, though %q fit: %v", p.Name, fit, p.Status.Conditions)
		})
		if !slices.Contains(fit, p.Spec.NodeName) {
			t.Errorf("pod %s is on %s, but only %q fit:\n%s", p.Name, p.Spec.NodeName, fit, text)
		}
		if there = append(there, p); len(there) > 5 { // make room again
			c.remove(t, there[0])
			there = there[1:]
		}
	}
	c.cordon(t, "n1", false)
	for _, p := range there {
		c.remove(t, p)
	}
	t.Logf("%d placed, %d nowhere; nodes refused by %v", placed, nowhere, refused)
	if placed == 0 || nowhere == 0 || refused["hostPort"] == 0 || refused["taint"] == 0 || refused["nodeSelector"] == 0 {
		t.Error("the pods are too much alike to prove anything")
	}
}

// remove deletes a pod and waits until it is gone.
func (c *scheduled) remove(t *testing.T, p *corev1.Pod) {
	t.Helper()
	if err := c.Delete(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	poll.Until(t, func(context.Context) error {
		err := c.Get(t.Context(), client.ObjectKeyFromObject(p), p)
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(fmt.Errorf("pod %s is still there", p.Name), err)
	})
}

func (c *scheduled) cordon(t *testing.T, name string, is bool) {
	t.Helper()
	patch := fmt.Appendf(nil, `{"spec": {"unschedulable": %v}}`, is)
	if err := c.Patch(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, client.RawPatch("application/merge-patch+json", patch)); err != nil {
		t.Fatal(err)
	}
}
