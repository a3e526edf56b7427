package extract_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

func TestNumbers(t *testing.T) {
	svc := &corev1.Service{Spec: corev1.ServiceSpec{HealthCheckNodePort: 30102, Ports: []corev1.ServicePort{
		{Name: "dns", NodePort: 30100}, {NodePort: 0}, {NodePort: 30101, Protocol: corev1.ProtocolUDP},
		{Name: "dns-udp", NodePort: 30100, Protocol: corev1.ProtocolUDP}, {NodePort: -1}, {NodePort: 65536},
	}}}
	want := []extract.Number{{30100, ports.TCP, "dns", 0}, {30101, ports.UDP, "", 2}, {30102, ports.TCP, "healthCheckNodePort", -1}}
	got := extract.Numbers(svc)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got[1].Field() != "spec.ports[2].nodePort" || got[2].Field() != "spec.healthCheckNodePort" {
		t.Errorf("fields %s, %s", got[1].Field(), got[2].Field())
	}
}

// TestCount: what objects add to a census.
func TestCount(t *testing.T) {
	born := metav1.NewTime(time.Unix(1000, 0))
	meta := metav1.ObjectMeta{Namespace: "shop", Name: "a", UID: "1", CreationTimestamp: born, Labels: map[string]string{"app": "web"}}
	pod := &corev1.Pod{ObjectMeta: meta, Spec: corev1.PodSpec{Containers: []corev1.Container{{Ports: []corev1.ContainerPort{
		{ContainerPort: 80, HostPort: 30100}, {ContainerPort: 81, HostPort: 30100, HostIP: "10.0.0.1"},
	}}}}}
	onHost := pod.DeepCopy()
	onHost.Name, onHost.Spec.HostNetwork = "b", true
	onHost.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 30103, HostPort: 30103}}
	var c pool.Census
	for _, object := range []runtime.Object{
		pod, onHost, &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{Port: 80, NodePort: 30101}}}},
		&v1alpha1.PortClaim{Spec: v1alpha1.PortClaimSpec{Port: 30102, Pool: "p"}, Status: v1alpha1.PortClaimStatus{Phase: v1alpha1.ClaimReleased}},
		&corev1.Node{}, &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, Ports: []corev1.ServicePort{{Port: 80, NodePort: 30104}}}},
		&corev1.Service{ObjectMeta: metav1.ObjectMeta{GenerateName: "b-"}, Spec: corev1.ServiceSpec{HealthCheckNodePort: 30105}},
	} {
		extract.Count(&c, object, func(namespace string) map[string]string { return map[string]string{"team": "x", "in": namespace} })
	}
	var got []string
	for _, h := range c.Holdings() {
		got = append(got, h.Ref().String()+" "+h.Field+" "+h.Protocol.String()+" "+h.UID+" "+h.NamespaceLabels["team"]+" "+h.Labels["app"]+" "+h.Since.UTC().Format(time.TimeOnly))
	}
	want := []string{"Pod shop/a spec.containers[0].ports[0].hostPort TCP 1 x web 00:16:40", "Service shop/a spec.ports[0].nodePort TCP 1 x web 00:16:40",
		"Service default/b-* spec.healthCheckNodePort TCP  x  " + time.Time{}.Format(time.TimeOnly)}
	if in := c.Holders(pool.NodePorts, 30105)[0].NamespaceLabels["in"]; in != "default" {
		t.Errorf("without a namespace it lies in %q", in)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	everything := pool.Pool{Name: "q", For: pool.NodePorts, Ranges: ports.Ranges{ports.MustParseRange("30100-30104")}, State: pool.Active, Namespaces: all{}}
	book := c.Book(pool.New([]pool.Pool{everything}, ports.Range{}).Members()[0])
	for port, want := range map[uint16]pool.Use{30100: pool.Foreign, 30101: pool.Allocated, 30102: pool.Quarantined, 30103: pool.Foreign, 30104: pool.Free} {
		if got := book(port); got != want {
			t.Errorf("%d is %d, want %d", port, got, want)
		}
	}
}

type all struct{}

func (all) Matches(map[string]string) bool { return true }
func (all) String() string                 { return "" }
