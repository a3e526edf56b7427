package extract_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

func TestProbed(t *testing.T) {
	const c0 = "spec.containers[0]."
	for _, c := range []struct {
		why, spec string
		want      []string
	}{
		{"each kind of probe", "{hostNetwork: true, containers: [{name: a, livenessProbe: {httpGet: {port: 8080}}, readinessProbe: {tcpSocket: {port: 8081}}, startupProbe: {grpc: {port: 8082}}}]}",
			[]string{"8080/TCP n1 " + c0 + "livenessProbe.httpGet.port", "8081/TCP n1 " + c0 + "readinessProbe.tcpSocket.port", "8082/TCP n1 " + c0 + "startupProbe.grpc.port"}},
		{"one port once", "{hostNetwork: true, containers: [{name: a, livenessProbe: {httpGet: {port: 8080}}, readinessProbe: {httpGet: {port: 8080}}}, {name: b, livenessProbe: {tcpSocket: {port: 8080}}}]}",
			[]string{"8080/TCP n1 " + c0 + "livenessProbe.httpGet.port"}},
		{"a sidecar", "{hostNetwork: true, initContainers: [{name: a, restartPolicy: Always, startupProbe: {tcpSocket: {port: 8080}}}]}",
			[]string{"8080/TCP n1 spec.initContainers[0].startupProbe.tcpSocket.port"}},
		{"the pod network", "{containers: [{name: a, livenessProbe: {httpGet: {port: 8080}}}]}", nil},
		{"another host", "{hostNetwork: true, containers: [{name: a, livenessProbe: {httpGet: {port: 8080, host: 127.0.0.1}}, readinessProbe: {tcpSocket: {port: 8081, host: example.com}}}]}", nil},
		{"a declared port", "{hostNetwork: true, containers: [{name: a, livenessProbe: {httpGet: {port: 8080}}}, {name: b, ports: [{containerPort: 8080}]}]}", nil},
		{"declared for UDP only", "{hostNetwork: true, containers: [{name: a, livenessProbe: {httpGet: {port: 8080}}, ports: [{containerPort: 8080, protocol: UDP}]}]}",
			[]string{"8080/TCP n1 " + c0 + "livenessProbe.httpGet.port"}},
		{"by name, which is a declared one", "{hostNetwork: true, containers: [{name: a, livenessProbe: {httpGet: {port: web}}, ports: [{name: web, containerPort: 8080}]}]}", nil},
		{"a command", "{hostNetwork: true, containers: [{name: a, livenessProbe: {exec: {command: [x]}}}]}", nil},
		{"no port that there is", "{hostNetwork: true, containers: [{name: a, livenessProbe: {httpGet: {port: 70000}}, readinessProbe: {tcpSocket: {port: -1}}, startupProbe: {httpGet: {}}}]}", nil},
		{"a plain init container has none", "{hostNetwork: true, initContainers: [{name: a, livenessProbe: {httpGet: {port: 8080}}}]}", nil},
	} {
		spec := mustRead[corev1.PodSpec](c.spec)
		spec.NodeName = "n1"
		w := extract.Pod(&corev1.Pod{Spec: *spec}, nil, nil)
		var got []string
		for _, p := range w.Probed {
			got = append(got, fmt.Sprintf("%s %s %s", p.PortProtocol(), p.Scope, p.Field))
			if loopback := ports.OneAddress(netip.MustParseAddr("127.0.0.1")); p.Address.Overlaps(loopback) {
				t.Errorf("%s: %s is on loopback", c.why, p)
			}
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.why, diff)
		}
		everyOwner(t, c.why, &w.Owner, w.Probed)
	}
}
