package placement

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/test/lab/kubelet"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
)

// The events that wake a pod.
const (
	serviceDeleted    = `event="services.v1.Delete"`
	serviceUpdated    = `event="services.v1.Update"`
	annotationChanged = `event="NodeUpdateNodeAnnotation"`
)

// service has a port 80 and the given node port.
func (s *site) service(name string, nodePort int32) *corev1.Service {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}}
	svc.Spec.Type = corev1.ServiceTypeNodePort
	svc.Spec.Ports = []corev1.ServicePort{{Port: 80, NodePort: nodePort}}
	return svc
}

func (s *site) update(t *testing.T, object client.Object, change func()) {
	t.Helper()
	patch := client.MergeFrom(object.DeepCopyObject().(client.Object))
	change()
	if err := s.Patch(t.Context(), object, patch); err != nil {
		t.Fatal(err)
	}
}

// testServices: a number that a Service holds is free to no pod, and is when the Service no longer holds it.
func (c *cluster) testServices(t *testing.T) {
	s := c.site(t, "", 2)
	own := s.own(t)
	here := func(svc *corev1.Service, ip string) *corev1.Service {
		svc.Spec.ExternalIPs = []string{ip}
		return svc
	}
	local := s.service("local", 31011)
	local.Spec.Type, local.Spec.ExternalTrafficPolicy, local.Spec.HealthCheckNodePort = corev1.ServiceTypeLoadBalancer, corev1.ServiceExternalTrafficPolicyLocal, 31012
	for i, tc := range []struct {
		name   string
		svc    *corev1.Service
		number int32                 // that the pod wants
		free   func(*corev1.Service) // of the number; nil to delete the Service
	}{
		{"deleted", s.service("gone", 31001), 31001, nil},
		{"moved", s.service("moved", 31002), 31002, func(svc *corev1.Service) { svc.Spec.Ports[0].NodePort = 31003 }},
		{"made a ClusterIP", s.service("inner", 31004), 31004, func(svc *corev1.Service) {
			svc.Spec.Type, svc.Spec.Ports[0].NodePort = corev1.ServiceTypeClusterIP, 0
		}},
		{"health check", local, 31012, func(svc *corev1.Service) {
			svc.Spec.ExternalTrafficPolicy, svc.Spec.HealthCheckNodePort = corev1.ServiceExternalTrafficPolicyCluster, 0
		}},
		{"external IP", here(s.service("external", 31005), s.nodes[0].Addresses[0]), 80, func(svc *corev1.Service) { svc.Spec.ExternalIPs = nil }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s.create(t, tc.svc)
			pod := s.pod(fmt.Sprint("wanted", i), tcp("", tc.number))
			pod.Spec.NodeSelector = map[string]string{corev1.LabelHostname: s.nodes[0].Name}
			s.awaitSeen(t, tc.svc, tc.number)
			s.create(t, pod)
			s.refused(t, pod.Name, fmt.Sprintf("hostPort %d/TCP", tc.number), "Service "+s.namespace+"/"+tc.svc.Name)
			event := serviceUpdated
			if tc.free == nil {
				event = serviceDeleted
			}
			before := count(t, own, queued, event)
			if tc.free == nil {
				s.delete(t, tc.svc)
			} else {
				s.update(t, tc.svc, func() { tc.free(tc.svc) })
			}
			s.placed(t, pod.Name)
			if n := count(t, own, queued, event) - before; n != 1 {
				t.Errorf("%v pods were woken by %s, want 1", n, event)
			}
		})
	}
	t.Run("external IP of another node", func(t *testing.T) {
		svc := here(s.service("elsewhere", 31006), s.nodes[0].Addresses[0])
		svc.Spec.Ports[0].Port = 81
		s.create(t, svc)
		s.awaitSeen(t, svc, 81)
		s.create(t, s.pod("elsewhere", tcp("", 81)))
		if node := s.placed(t, "elsewhere"); node != s.nodes[1].Name {
			t.Errorf("placed on %s, which has the external IP of the Service; want %s", node, s.nodes[1].Name)
		}
	})
}

// awaitSaid waits until a scheduler tells of a host port on a node what it is to tell, by pods that want the port and are
// taken away again: Services and nodes come to it on other ways than pods, and may come after a pod that is younger.
func (s *site) awaitSaid(t *testing.T, node string, number int32, text string) {
	t.Helper()
	i := 0
	poll.Until(t, func(context.Context) error {
		i++
		probe := s.pod(fmt.Sprintf("probe-%d-%d", number, i), tcp("", number))
		probe.Spec.NodeSelector = map[string]string{corev1.LabelHostname: node}
		s.create(t, probe)
		var got outcome
		poll.Until(t, func(context.Context) (err error) {
			if got, err = s.verdict(t.Context(), probe.Name); err == nil && got == (outcome{}) {
				err = fmt.Errorf("nothing is said of %s", probe.Name)
			}
			return err
		})
		s.remove(t, probe.Name)
		if got.node != "" || !strings.Contains(got.message, text) {
			return fmt.Errorf("%s is on node %q and told %q, want %q", probe.Name, got.node, got.message, text)
		}
		return nil
	})
}

// awaitSeen waits until a scheduler knows that a Service holds a number.
func (s *site) awaitSeen(t *testing.T, svc *corev1.Service, number int32) {
	t.Helper()
	s.awaitSaid(t, s.nodes[0].Name, number, "Service "+s.namespace+"/"+svc.Name)
}

// testServiceComesLater: a Service takes the number while the pod waits for another pod, so that it then waits for the
// Service.
func (c *cluster) testServiceComesLater(t *testing.T) {
	s := c.site(t, shipped, 1)
	held, wanted := s.pod("held", tcp("", 31021)), s.pod("wanted", tcp("127.0.0.1", 31021))
	s.create(t, held)
	s.placed(t, "held")
	s.create(t, wanted)
	s.refused(t, "wanted", "1 hostPort 31021/TCP", "Pod "+s.namespace+"/held")
	svc := s.service("later", 31021)
	s.create(t, svc)
	s.awaitSeen(t, svc, 31021)
	s.delete(t, held)
	s.refused(t, "wanted", "hostPort 31021/TCP", "Service "+s.namespace+"/later")
	s.delete(t, svc)
	s.placed(t, "wanted")
}

func (s *site) annotate(t *testing.T, node, reserved string) {
	t.Helper()
	n := &corev1.Node{}
	if err := s.Get(t.Context(), client.ObjectKey{Name: node}, n); err != nil {
		t.Fatal(err)
	}
	s.update(t, n, func() {
		if n.Annotations == nil {
			n.Annotations = map[string]string{}
		}
		n.Annotations[extract.ReservedPortsAnnotation] = reserved
		if reserved == "" {
			delete(n.Annotations, extract.ReservedPortsAnnotation)
		}
	})
}

// testAnnotation: what a node reserves for itself no pod gets, and a pod that waits gets it when it is given up. What is
// malformed in the annotation reserves nothing and does no harm.
func (c *cluster) testAnnotation(t *testing.T) {
	const itself = "the node itself (annotation portcullis.dev/reserved-ports)"
	const port = "1 hostPort 9000/TCP"
	s := c.site(t, "", 1)
	own := s.own(t)
	node := s.nodes[0].Name
	before := count(t, own, queued, annotationChanged)
	s.annotate(t, node, "9000/TCP")
	s.awaitSaid(t, node, 9000, itself)
	s.create(t, s.pod("first", tcp("", 9000)), s.pod("other", tcp("", 9001)))
	s.refused(t, "first", port, itself)
	s.placed(t, "other")
	awaitWaiting(t, own)
	s.annotate(t, node, "")
	s.placed(t, "first")
	if n := count(t, own, queued, annotationChanged) - before; n > 1 { // 0: the end of a probe woke the pod at the same moment
		t.Errorf("%v pods were woken by the node's annotation, want 1", n)
	}
	s.remove(t, "first")

	s.annotate(t, node, "nonsense,,9002,9000/TCP,99999999/UDP")
	s.awaitSaid(t, node, 9000, itself)
	s.create(t, s.pod("second", tcp("127.0.0.1", 9000)), s.pod("free", tcp("", 9002)))
	s.refused(t, "second", port, itself)
	s.placed(t, "free")
	s.annotate(t, node, "nonsense")
	s.placed(t, "second")
}

// testNoAddresses: on a node that has not said its addresses pods and Services hold what they hold elsewhere, but for
// external IPs, which are nobody's then.
func (c *cluster) testNoAddresses(t *testing.T) {
	s := c.site(t, shipped, 0)
	n := c.node()
	s.addNode(t, kubelet.Node{Name: n.Name, PodCIDRs: n.PodCIDRs})
	svc := s.service("app", 31031)
	svc.Spec.ExternalIPs = n.Addresses
	s.create(t, svc, s.pod("held", tcp("", 9000)), s.pod("external", tcp("", 80)))
	s.placed(t, "held")
	s.placed(t, "external")
	s.awaitSeen(t, svc, 31031)
	s.create(t, s.pod("on-pod", tcp("::1", 9000)), s.pod("on-service", tcp("", 31031)))
	s.refused(t, "on-pod", "1 hostPort 9000/TCP", "Pod "+s.namespace+"/held")
	s.refused(t, "on-service", "hostPort 31031/TCP", "Service "+s.namespace+"/app")
}

// testSkip: a pod without host ports is no business of the plugin: it is asked nothing about any node.
func (c *cluster) testSkip(t *testing.T) {
	s := c.site(t, "", 2)
	own := s.own(t)
	const pods = 20
	for i := range pods {
		s.create(t, s.pod(fmt.Sprint("plain", i), corev1.ContainerPort{ContainerPort: 80}))
	}
	for i := range pods {
		s.placed(t, fmt.Sprint("plain", i))
	}
	asked := func(plugin, point string) float64 {
		return count(t, own, evaluated, fmt.Sprintf("plugin=%q", plugin), fmt.Sprintf("extension_point=%q", point))
	}
	if n := asked("PortClaims", "Filter"); n != 0 {
		t.Errorf("PortClaims was asked about %v nodes for pods without host ports, want 0", n)
	}
	if n := asked("TaintToleration", "Filter"); n == 0 {
		t.Error("TaintToleration was asked about no node either: the metric proves nothing")
	}
	s.create(t, s.pod("port", tcp("", 9000)))
	s.placed(t, "port")
	if n := asked("PortClaims", "Filter"); n == 0 {
		t.Error("PortClaims was asked about no node for a pod with a host port")
	}
}
