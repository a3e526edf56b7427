package extract_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/extract/specimen"
)

// TestInvalid shows each thing that is refused and what it may be taken for. Everything else is held to the API server's own
// validation (test/upstream/conformance).
func TestInvalid(t *testing.T) {
	service := func(spec string) runtime.Object { return &corev1.Service{Spec: *mustRead[corev1.ServiceSpec](spec)} }
	pod := func(spec string) runtime.Object { return &corev1.Pod{Spec: *mustRead[corev1.PodSpec](spec)} }
	template := func(spec string) runtime.Object {
		d := &appsv1.DaemonSet{}
		d.Spec.Template.Spec = *mustRead[corev1.PodSpec](spec)
		return d
	}
	container := func(ports string) string { return "{containers: [{name: a, ports: [" + ports + "]}]}" }
	for _, c := range []struct {
		why    string
		object runtime.Object
		want   string
	}{
		{"a Service as it should be", service("{ports: [{port: 80, name: a.b}]}"), "PC0108 spec.ports[0].name a.b"},
		{"a name that a container's port may not have", service("{ports: [{port: 80, name: a-name-of-twenty-char}]}"), ""},
		{"several without names", service("{ports: [{port: 80}, {port: 81, name: a}, {port: 82, name: a}]}"), "PC0108 spec.ports[0].name\nPC0109 spec.ports[2].name a spec.ports[1]"},
		{"one without a name", service("{ports: [{port: 80}]}"), ""},
		{"numbers", service("{type: NodePort, ports: [{port: 70000, name: a}, {port: 1, nodePort: -1, name: b}, {port: 65535, nodePort: 300080, name: c}]}"),
			"PC0108 spec.ports[0].port 70000\nPC0108 spec.ports[1].nodePort -1\nPC0108 spec.ports[2].nodePort 300080"},
		{"a nodePort outside the range is another question", service("{type: NodePort, ports: [{port: 80, nodePort: 80}]}"), ""},
		{"targetPorts", service("{ports: [{name: a, port: 1, targetPort: http}, {name: b, port: 2, targetPort: '8080'}, {name: c, port: 3, targetPort: 0}, {name: d, port: 4, targetPort: my_port}, {name: e, port: 5, targetPort: '70000'}]}"),
			"PC0108 spec.ports[1].targetPort 8080\nPC0108 spec.ports[3].targetPort my_port\nPC0108 spec.ports[4].targetPort 70000"},
		{"protocols", service("{ports: [{name: a, port: 1, protocol: HTTP}, {name: b, port: 2, protocol: tcp}, {name: c, port: 3, protocol: SCTP, appProtocol: kubernetes.io/h2c}, {name: d, port: 4, appProtocol: a b}]}"),
			"PC0108 spec.ports[0].protocol HTTP\nPC0108 spec.ports[3].appProtocol a b"},
		{"no ports", service("{}"), "PC0108 spec.ports"},
		{"no ports, headless", service("{clusterIP: None}"), ""},
		{"no ports, ExternalName in any case", service("{type: externalName}"), ""},
		{"a health check's", service("{type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 70000, ports: [{port: 80}]}"), "PC0108 spec.healthCheckNodePort 70000"},
		{"twice, and one of them wrong besides", service("{ports: [{name: a, port: 80, protocol: X}, {name: b, port: 80, protocol: X}]}"),
			"PC0108 spec.ports[0].protocol X\nPC0108 spec.ports[1].protocol X\nPC0103 spec.ports[1].port 80/X spec.ports[0]"},

		{"a pod as it should be", pod(container("{containerPort: 80, name: http, hostPort: 8080}, {containerPort: 81, name: fifteen-letters}")), ""},
		{"numbers of a pod", pod(container("{containerPort: 0}, {containerPort: -1, hostPort: 65536}")),
			"PC0108 spec.containers[0].ports[0].containerPort\nPC0108 spec.containers[0].ports[1].containerPort -1\nPC0108 spec.containers[0].ports[1].hostPort 65536"},
		{"names of a pod", pod(container("{containerPort: 1, name: a}, {containerPort: 2, name: a}, {containerPort: 3, name: A}, {containerPort: 4, name: '80'}")),
			"PC0109 spec.containers[0].ports[1].name a spec.containers[0].ports[0]\nPC0108 spec.containers[0].ports[2].name A\nPC0108 spec.containers[0].ports[3].name 80"},
		{"one name in two containers", pod("{containers: [{ports: [{containerPort: 1, name: a}]}, {ports: [{containerPort: 2, name: a}]}]}"), ""},
		{"two ports that are one on the host network", template("{hostNetwork: true, containers: [{ports: [{containerPort: 9100, hostPort: 9101}, {containerPort: 1, hostPort: 1}, {containerPort: 2}]}]}"),
			"PC0110 spec.template.spec.containers[0].ports[0].hostPort 9101 9100"},
		{"and two off it", template(container("{containerPort: 9100, hostPort: 9101}")), ""},
		{"of an init container nobody asks", pod("{hostNetwork: true, initContainers: [{ports: [{containerPort: 9100, hostPort: 9101}]}]}"), ""},
		{"probes", pod("{containers: [{livenessProbe: {httpGet: {port: 70000}}, readinessProbe: {tcpSocket: {port: '80'}}, startupProbe: {grpc: {port: 0}}, lifecycle: {preStop: {httpGet: {port: ''}}}}]}"),
			"PC0108 spec.containers[0].livenessProbe.httpGet.port 70000\nPC0108 spec.containers[0].readinessProbe.tcpSocket.port 80\n" +
				"PC0108 spec.containers[0].startupProbe.grpc.port 0\nPC0108 spec.containers[0].lifecycle.preStop.httpGet.port"},
		{"probes as they should be", pod("{containers: [{livenessProbe: {httpGet: {port: http}}, readinessProbe: {tcpSocket: {port: 80}}, startupProbe: {exec: {command: [a]}}}]}"), ""},
		{"probes of a sidecar, and of another init container", pod("{initContainers: [{restartPolicy: Always, startupProbe: {grpc: {port: -1}}}, {startupProbe: {grpc: {port: -1}}}]}"),
			"PC0108 spec.initContainers[0].startupProbe.grpc.port -1"},
		{"a kind without ports", &corev1.ConfigMap{}, ""},
	} {
		var got []string
		for _, i := range extract.Invalid(c.object) {
			got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s %s", i.Code, i.Field, values(i.Detail))))
		}
		if diff := cmp.Diff(c.want, strings.Join(got, "\n")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.why, diff)
		}
	}
}

func values(detail check.Detail) string {
	switch d := detail.(type) {
	case check.Text:
		return d.Text
	case check.Sibling:
		return d.Value + " " + d.Field
	case check.Mapping:
		return fmt.Sprint(d.HostPort, " ", d.ContainerPort)
	default:
		return fmt.Sprintf("%+v", d)
	}
}

// TestRandomInvalid: whatever an object is, it is held without a panic, always in the same way, and left as it was; no field is
// refused twice for one reason.
func TestRandomInvalid(t *testing.T) {
	s := specimen.New(t)
	found := 0
	for range specimen.Rounds(1000) {
		object := drawWorkload(s)
		if s.IntN(2) == 0 {
			object = specimen.Draw[corev1.Service](s)
		}
		before := object.DeepCopyObject()
		got := extract.Invalid(object)
		if !equality.Semantic.DeepEqual(before, object) {
			t.Fatalf("%T was changed (-before +after):\n%s", object, cmp.Diff(before, object))
		}
		if diff := cmp.Diff(got, extract.Invalid(before)); diff != "" {
			t.Fatalf("a second time (-first +second):\n%s", diff)
		}
		seen := map[string]bool{}
		for _, i := range got {
			if key := fmt.Sprint(i.Code, i.Case, i.Field); seen[key] {
				t.Errorf("%s twice in %+v", key, object)
			} else {
				seen[key] = true
			}
		}
		found += len(got)
	}
	if found < specimen.Rounds(1000) {
		t.Errorf("only %d found: the specimens prove little", found)
	}
}
