package placement

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/portcullis-k8s/portcullis/test/lab/binaries"
	"github.com/portcullis-k8s/portcullis/test/lab/controlplane"
	"github.com/portcullis-k8s/portcullis/test/lab/kubelet"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

// TestOnRequest is what the plugin does only where its arguments ask for it. No controllers run: what a ReplicaSet wants
// stays wanted.
func TestOnRequest(t *testing.T) {
	t.Parallel()
	c := &cluster{program: binaries.For(t, binaries.PortcullisScheduler)}
	c.ControlPlane = controlplane.Run(t, controlplane.Options{APIServerFlags: []string{"--requestheader-client-ca-file=" + frontProxyCA(t)}})
	c.Client = newClient(t, c.ControlPlane)
	c.kubelet = kubelet.Run(t, c.RESTConfig(), kubelet.Options{})
	c.create(t, unstructuredOf(t, "../../../config/crd/bases/portcullis.dev_portpolicies.yaml")...)
	c.create(t, unstructuredOf(t, "../../../config/scheduler/policies_role.yaml")...)
	t.Run("policies", c.testPolicies)
	t.Run("the least contended node", c.testUncontended)
}

// unstructuredOf reads the objects of a file.
func unstructuredOf(t *testing.T, path string) []client.Object {
	t.Helper()
	var all []client.Object
	for text := range strings.SplitSeq("\n"+string(read(t, path)), "\n---\n") {
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(text), &o.Object); err != nil {
			t.Fatal(err)
		}
		if len(o.Object) > 0 { // before the first separator there may be nothing but a comment
			all = append(all, o)
		}
	}
	return all
}

// asking runs a scheduler for this site alone, configured as the shipped one but for the plugin's arguments.
func (s *site) asking(t *testing.T, args string) *rig.Scheduler {
	t.Helper()
	s.scheduler = s.namespace
	config := string(read(t, defaultConfig))
	for old, changed := range map[string]string{
		"schedulerName: " + shipped: "schedulerName: " + s.scheduler, "leaderElect: true": "leaderElect: false", "args: {dataplane: {serviceProxy: iptables, hostPort: portmap-iptables}}": "args: " + args,
	} {
		if strings.Count(config, old) != 1 {
			t.Fatalf("%s is not there once", old)
		}
		config = strings.Replace(config, old, changed, 1)
	}
	return rig.RunScheduler(t, s.ControlPlane, rig.SchedulerOptions{Program: s.program, Config: []byte(config)})
}

// policy reserves 9100/TCP on the nodes that have the labels.
func policy(name string, nodes map[string]any) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{
		"namespaceSelector": map[string]any{}, "enforcement": "Deny",
		"reserved": []any{map[string]any{
			"name": "node-exporter", "ports": []any{map[string]any{"port": int64(9100), "protocols": []any{"TCP"}}},
			"nodeSelector": map[string]any{"matchLabels": nodes},
		}},
	}}}
	o.SetAPIVersion("portcullis.dev/v1alpha1")
	o.SetKind("PortPolicy")
	o.SetName(name)
	return o
}

// testPolicies: what a policy reserves no pod gets, until the policy, the node or the pod has changed; then the pod that
// waits is tried again.
func (c *cluster) testPolicies(t *testing.T) {
	s := c.site(t, "", 1)
	own := s.asking(t, "{policies: true}")
	node := s.nodes[0].Name
	change := func(path string, value any) func(*testing.T, *unstructured.Unstructured, *corev1.Pod) {
		return func(t *testing.T, p *unstructured.Unstructured, _ *corev1.Pod) {
			s.update(t, p, func() {
				if err := unstructured.SetNestedField(p.Object, value, strings.Split(path, ".")...); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
	for i, tc := range []struct {
		name  string
		event string
		do    func(*testing.T, *unstructured.Unstructured, *corev1.Pod)
	}{
		{"deleted", "portpolicies.v1alpha1.portcullis.devDelete", func(t *testing.T, p *unstructured.Unstructured, _ *corev1.Pod) { s.delete(t, p) }},
		{"audited", "portpolicies.v1alpha1.portcullis.devUpdate", change("spec.enforcement", "Audit")},
		{"an exception", "portpolicies.v1alpha1.portcullis.devUpdate", change("spec.exceptions", []any{map[string]any{
			"name": "x", "reason": "r", "namespaceSelector": map[string]any{"matchLabels": map[string]any{corev1.LabelMetadataName: s.namespace}}}})},
		{"the node's label", "NodeUpdateNodeLabel", func(t *testing.T, _ *unstructured.Unstructured, _ *corev1.Pod) {
			o := &corev1.Node{}
			if err := s.Get(t.Context(), client.ObjectKey{Name: node}, o); err != nil {
				t.Fatal(err)
			}
			s.update(t, o, func() { delete(o.Labels, "edge") })
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := &corev1.Node{}
			if err := s.Get(t.Context(), client.ObjectKey{Name: node}, o); err != nil {
				t.Fatal(err)
			}
			s.update(t, o, func() { o.Labels["edge"] = "true" })
			p := policy(fmt.Sprint("baseline", i), map[string]any{"edge": "true"})
			poll.Until(t, func(context.Context) error { return s.Create(t.Context(), p) }) // the kind may not be served yet
			name := fmt.Sprint("wanted", i)
			pod := s.pod(name, tcp("", 9100))
			s.awaitRefusal(t, pod, "node-exporter (PortPolicy "+p.GetName()+")")
			before := count(t, own, queued, `event="`+tc.event+`"`)
			tc.do(t, p, pod)
			s.placed(t, name)
			if count(t, own, queued, `event="`+tc.event+`"`) <= before {
				t.Errorf("the pod was tried again, but not for %s", tc.event)
			}
			s.remove(t, name)
			if err := client.IgnoreNotFound(s.Delete(t.Context(), p)); err != nil {
				t.Error(err)
			}
		})
	}
}

// awaitRefusal makes a pod again until the scheduler, which may not have heard of its policy yet, refuses it.
func (s *site) awaitRefusal(t *testing.T, pod *corev1.Pod, reason string) {
	t.Helper()
	poll.Until(t, func(ctx context.Context) error {
		fresh := pod.DeepCopy()
		if err := s.Create(t.Context(), fresh); err != nil {
			return err
		}
		var got outcome
		err := poll.Wait(ctx, func(ctx context.Context) (err error) {
			if got, err = s.verdict(ctx, pod.Name); err == nil && got == (outcome{}) {
				err = fmt.Errorf("nothing is said of %s", pod.Name)
			}
			return err
		})
		if err == nil && !strings.Contains(got.message, reason) {
			err = fmt.Errorf("%s: %+v, want %q", pod.Name, got, reason)
			s.remove(t, pod.Name)
		}
		return err
	})
}

// testUncontended: of four nodes that fit, a pod takes the one that only it can use, whatever its number; without the
// argument it may take any.
func (c *cluster) testUncontended(t *testing.T) {
	s := c.site(t, "", 4)
	var contended []string
	for _, n := range s.nodes[:3] {
		contended = append(contended, n.Name)
	}
	const ports = 5
	for i := range int32(ports) {
		rs := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: fmt.Sprint("other", i)}}
		labels := map[string]string{"app": rs.Name}
		rs.Spec.Selector = &metav1.LabelSelector{MatchLabels: labels}
		rs.Spec.Template = corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: s.spec(tcp("", 9000+i))}
		rs.Spec.Template.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: contended}},
			}}},
		}}
		s.create(t, rs)
	}
	s.asking(t, "{preferUncontended: true}")
	for i := range int32(ports) {
		name := fmt.Sprint("new", i)
		s.create(t, s.pod(name, tcp("", 9000+i)))
		if got := s.placed(t, name); slices.Contains(contended, got) {
			t.Errorf("%s went to %s, which %s needs; %s was free", name, got, fmt.Sprint("other", i), s.nodes[3].Name)
		}
	}
}
