package extract_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
)

func TestPodClaims(t *testing.T) {
	const first = "@a node spec.containers[0].ports[0].hostPort"
	for _, c := range []struct {
		why, spec string
		want      []string
	}{
		{"no ports", "{containers: [{name: a}]}", nil},
		{"containerPorts without hostPort are the pod's own", "{containers: [{name: a, ports: [{containerPort: 80}]}, {name: b, ports: [{containerPort: 80}]}]}", nil},
		{"a hostPort, TCP where nothing is said", "{containers: [{name: a, ports: [{containerPort: 80, hostPort: 8080}]}]}", []string{"hostPort *:8080/TCP " + first}},
		{"protocols", "{containers: [{name: a, ports: [{hostPort: 53, protocol: UDP}, {hostPort: 54, protocol: SCTP}, {hostPort: 55, protocol: udp}]}]}",
			[]string{"hostPort *:53/UDP " + first, "hostPort *:54/SCTP @a node spec.containers[0].ports[1].hostPort"}},
		{"numbers that are none", "{containers: [{name: a, ports: [{hostPort: 0}, {hostPort: -1}, {hostPort: 65536}, {hostPort: 65535}]}]}",
			[]string{"hostPort *:65535/TCP @a node spec.containers[0].ports[3].hostPort"}},
		{"hostIPs", "{containers: [{name: a, ports: [{hostPort: 80, hostIP: 0.0.0.0}, {hostPort: 81, hostIP: '::'}, {hostPort: 82, hostIP: 10.0.0.1}]}]}",
			[]string{"hostPort 0.0.0.0:80/TCP " + first, "hostPort [::]:81/TCP @a node spec.containers[0].ports[1].hostPort", "hostPort 10.0.0.1:82/TCP @a node spec.containers[0].ports[2].hostPort"}},
		{"other spellings", "{containers: [{name: a, ports: [{hostPort: 80, hostIP: '::ffff:10.0.0.1'}, {hostPort: 81, hostIP: '0:0:0:0:0:0:0:0'}]}]}",
			[]string{"hostPort 10.0.0.1:80/TCP " + first, "hostPort [::]:81/TCP @a node spec.containers[0].ports[1].hostPort"}},
		{"every container by its place", "{initContainers: [{name: i, ports: [{hostPort: 80}]}, {name: s, restartPolicy: Always, ports: [{hostPort: 81}]}, {name: n, restartPolicy: Never, ports: [{hostPort: 84}]}], containers: [{name: a}, {name: b, ports: [{containerPort: 82}, {hostPort: 83}]}]}",
			[]string{
				"hostPort *:80/TCP @a node spec.initContainers[0].ports[0].hostPort init",
				"hostPort *:81/TCP @a node spec.initContainers[1].ports[0].hostPort sidecar",
				"hostPort *:84/TCP @a node spec.initContainers[2].ports[0].hostPort init",
				"hostPort *:83/TCP @a node spec.containers[1].ports[1].hostPort",
			}},
		{"the host network, not defaulted", "{hostNetwork: true, containers: [{name: a, ports: [{containerPort: 80}, {containerPort: 81, hostPort: 81}]}]}",
			[]string{"hostNetwork port *:80/TCP @a node spec.containers[0].ports[0].containerPort", "hostNetwork port *:81/TCP @a node spec.containers[0].ports[1].hostPort"}},
		{"the host network, a process on :: holds both families", "{hostNetwork: true, containers: [{name: a, ports: [{containerPort: 80, hostIP: '::'}, {containerPort: 81, hostIP: 0.0.0.0}]}]}",
			[]string{"hostNetwork port *:80/TCP @a node spec.containers[0].ports[0].containerPort", "hostNetwork port 0.0.0.0:81/TCP @a node spec.containers[0].ports[1].containerPort"}},
		{"on a node", "{nodeName: n1, containers: [{name: a, ports: [{hostPort: 80}]}]}", []string{"hostPort *:80/TCP @n1 spec.containers[0].ports[0].hostPort"}},
		{"made for a node by the DaemonSet controller", podOn("{nodeSelectorTerms: [{matchFields: [{key: metadata.name, operator: In, values: [n2]}]}]}"),
			[]string{"hostPort *:80/TCP @n2 spec.containers[0].ports[0].hostPort"}},
		{"all alternatives name one node", podOn("{nodeSelectorTerms: [{matchFields: [{key: metadata.name, operator: In, values: [n2]}], matchExpressions: [{key: zone, operator: Exists}]}, {matchFields: [{key: metadata.name, operator: In, values: [n2]}]}]}"),
			[]string{"hostPort *:80/TCP @n2 spec.containers[0].ports[0].hostPort"}},
		{"alternatives name two nodes", podOn("{nodeSelectorTerms: [{matchFields: [{key: metadata.name, operator: In, values: [n1]}]}, {matchFields: [{key: metadata.name, operator: In, values: [n2]}]}]}"), []string{"hostPort *:80/TCP " + first}},
		{"one alternative names none", podOn("{nodeSelectorTerms: [{matchFields: [{key: metadata.name, operator: In, values: [n1]}]}, {matchExpressions: [{key: zone, operator: Exists}]}]}"), []string{"hostPort *:80/TCP " + first}},
		{"a choice of two", podOn("{nodeSelectorTerms: [{matchFields: [{key: metadata.name, operator: In, values: [n1, n2]}]}]}"), []string{"hostPort *:80/TCP " + first}},
		{"any but one", podOn("{nodeSelectorTerms: [{matchFields: [{key: metadata.name, operator: NotIn, values: [n1]}]}]}"), []string{"hostPort *:80/TCP " + first}},
		{"by its hostname, which is the node's name where the nodes are not known", "{nodeSelector: {kubernetes.io/hostname: n2}, containers: [{name: a, ports: [{hostPort: 80}]}]}", []string{"hostPort *:80/TCP @n2 spec.containers[0].ports[0].hostPort"}},
		{"no alternative", podOn("{nodeSelectorTerms: []}"), []string{"hostPort *:80/TCP " + first}},
	} {
		w := extract.Pod(&corev1.Pod{Spec: *mustRead[corev1.PodSpec](c.spec)}, nil, nil)
		if diff := cmp.Diff(c.want, told(w.Claims)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.why, diff)
		}
		if !w.IsPod || w.Eligible != nil || w.Unparsed != nil {
			t.Errorf("%s: %+v", c.why, w)
		}
		everyOwner(t, c.why, &w.Owner, w.Claims)
	}
}

// podOn is a pod's spec with a required node affinity.
func podOn(required string) string {
	return fmt.Sprintf("{affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: %s}}, containers: [{name: a, ports: [{hostPort: 80}]}]}", required)
}

func TestPodHostIPs(t *testing.T) {
	for _, c := range []struct {
		spec string
		want []check.Unparsed
	}{
		{"{containers: [{name: a, ports: [{containerPort: 80, hostIP: nonsense}]}]}", nil}, // without a hostPort nothing reads it
		{"{containers: [{name: a, ports: [{hostPort: 80, hostIP: nonsense}]}]}", []check.Unparsed{{Field: "spec.containers[0].ports[0].hostIP", Value: "nonsense", Port: "80/TCP"}}},
		{"{initContainers: [{name: a, ports: [{hostPort: 80}, {hostPort: 53, protocol: UDP, hostIP: 10.0.0.0/8}]}]}", []check.Unparsed{{Field: "spec.initContainers[0].ports[1].hostIP", Value: "10.0.0.0/8", Port: "53/UDP"}}},
		{"{containers: [{name: a, ports: [{hostPort: 80, hostIP: 'fe80::1%eth0'}]}]}", []check.Unparsed{{Field: "spec.containers[0].ports[0].hostIP", Value: "fe80::1%eth0", Port: "80/TCP"}}},
		{"{containers: [{name: a, ports: [{hostPort: 80, hostIP: 010.0.0.1}]}]}", []check.Unparsed{{Field: "spec.containers[0].ports[0].hostIP", Value: "010.0.0.1", Port: "80/TCP"}}},
		{"{hostNetwork: true, containers: [{name: a, ports: [{containerPort: 80, hostIP: x}]}]}", []check.Unparsed{{Field: "spec.containers[0].ports[0].hostIP", Value: "x", Port: "80/TCP"}}},
	} {
		w := extract.Pod(&corev1.Pod{Spec: *mustRead[corev1.PodSpec](c.spec)}, nil, nil)
		if diff := cmp.Diff(c.want, w.Unparsed); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.spec, diff)
		}
	}
}

func TestPodsThatHold(t *testing.T) {
	const spec = "spec: {nodeName: n1, containers: [{name: a, ports: [{hostPort: 80}]}]}"
	for _, c := range []struct {
		pod                     string
		holds, finished, mirror bool
	}{
		{"{" + spec + "}", true, false, false},
		{"{" + spec + ", status: {phase: Pending}}", true, false, false},
		{"{" + spec + ", status: {phase: Unknown}}", true, false, false},
		{"{" + spec + ", status: {phase: Succeeded}}", false, true, false},
		{"{" + spec + ", status: {phase: Failed}}", false, true, false},
		{"{metadata: {deletionTimestamp: 2026-01-01T00:00:00Z}, " + spec + ", status: {phase: Running}}", true, false, false},
		{"{metadata: {annotations: {kubernetes.io/config.mirror: ''}}, " + spec + "}", true, false, true},
	} {
		pod := mustRead[corev1.Pod](c.pod)
		holds := len(extract.Pod(pod, nil, nil).Claims) == 1
		if finished, mirror := extract.IsFinished(pod), extract.IsMirror(pod); holds != c.holds || finished != c.finished || mirror != c.mirror {
			t.Errorf("%s: holds %v, is finished %v, is a mirror %v", c.pod, holds, finished, mirror)
		}
	}
}

// TestPodByHostname: a pod that selects a hostname is on the node that has it as certainly as one that names the node.
func TestPodByHostname(t *testing.T) {
	pod := &corev1.Pod{Spec: *mustRead[corev1.PodSpec]("{nodeSelector: {kubernetes.io/hostname: host-b}, containers: [{name: a, ports: [{hostPort: 80}]}]}")}
	for _, c := range []struct {
		nodes extract.NodeList
		want  string
	}{
		{hosts("n1", "host-a", "n2", "host-b"), "n2"},
		{hosts("n1", "host-a"), "a node"},
		{hosts("n1", "host-b", "n2", "host-b"), "a node"},
	} {
		if got := extract.Pod(pod, c.nodes, nil).Claims[0].Scope.String(); got != c.want {
			t.Errorf("among %d nodes: on %q, want %q", len(c.nodes), got, c.want)
		}
	}
}

func TestPodEligible(t *testing.T) {
	for _, c := range []struct {
		spec string
		want []string
	}{
		{"{containers: []}", []string{"n1", "n2"}},
		{"{nodeSelector: {zone: b}, tolerations: [{operator: Exists}]}", []string{"n2", "n3"}},
		{"{nodeSelector: {zone: c}}", []string{}},
		{"{nodeName: n3}", nil}, // its claims lie on the node
		{podOn("{nodeSelectorTerms: [{matchFields: [{key: metadata.name, operator: In, values: [n2]}]}]}"), nil},
	} {
		w := extract.Pod(&corev1.Pod{Spec: *mustRead[corev1.PodSpec](c.spec)}, threeNodes(), nil)
		if diff := cmp.Diff(c.want, w.Eligible); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.spec, diff)
		}
	}
}
