package clitest

import (
	"fmt"
	"strings"
)

// And separates two objects.
const And = "---\n"

// Objects of one line each, with a port of a node or two.
const (
	App1     = "{apiVersion: v1, kind: Service, metadata: {name: app1}, spec: {type: NodePort, ports: [{port: 8080, nodePort: 30062}]}}\n"
	Web      = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, ports: [{containerPort: 80, hostPort: 30062}]}]}}}}\n"
	LonePod  = "{apiVersion: v1, kind: Pod, metadata: {name: lone}, spec: {containers: [{name: c, ports: [{containerPort: 80, hostPort: 30062}]}]}}\n"
	Agent    = "{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: agent}, spec: {selector: {matchLabels: {app: agent}}, template: {metadata: {labels: {app: agent}}, spec: {containers: [{name: c, ports: [{containerPort: 80, hostPort: 9100}]}]}}}}\n"
	TeamPool = "{apiVersion: portcullis.dev/v1alpha1, kind: PortPool, metadata: {name: team}, spec: {ranges: [{port: 30060, endPort: 30063}], namespaceSelector: {matchLabels: {team: a}}, enforcement: Deny}}\n"
)

// The objects of a node with a pod that maps a host port, and a Service that has the number as its nodePort.
const (
	Node1   = "{apiVersion: v1, kind: Node, metadata: {name: n1}, spec: {podCIDR: 10.244.1.0/24}, status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}}\n"
	Node2   = "{apiVersion: v1, kind: Node, metadata: {name: n2}, status: {addresses: [{type: InternalIP, address: 192.0.2.2}]}}\n"
	Mapped  = "{apiVersion: v1, kind: Pod, metadata: {name: a, uid: u1}, spec: {nodeName: n1, containers: [{name: c, ports: [{containerPort: 80, hostPort: 30007}]}]}, status: {podIP: 10.244.1.10}}\n"
	Served  = "{apiVersion: v1, kind: Service, metadata: {name: b}, spec: {type: NodePort, clusterIP: 10.96.0.5, ports: [{name: http, port: 80, nodePort: 30007}]}}\n"
	Serving = "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: b-1, labels: {kubernetes.io/service-name: b}}, addressType: IPv4, ports: [{name: http, port: 8080}], endpoints: [{addresses: [10.244.1.20], nodeName: n1}]}\n"
	// Published is the pod of a listing that somebody published, in which the sandbox had this id.
	Published = "{apiVersion: v1, kind: Pod, metadata: {name: web, annotations: {portcullis.dev/sandbox-id: 07dbe45d8e31690c76141e5e16132b086f6a2d5b63216584009b990a7c08552c}}, spec: {nodeName: n1, containers: [{name: c, ports: [{containerPort: 8000, hostPort: 10000}]}]}, status: {podIP: 10.244.1.155}}\n"
)

// A cluster with a Service, a younger Deployment with its port and two pods, and a pod of another namespace that clashes with
// one of these.
const (
	AuditNodes    = "{apiVersion: v1, kind: Node, metadata: {name: n1}}\n---\n{apiVersion: v1, kind: Node, metadata: {name: n2}}\n"
	AuditService  = "{apiVersion: v1, kind: Service, metadata: {name: app1, namespace: default, uid: a, creationTimestamp: \"2026-01-01T00:00:00Z\"}, spec: {type: NodePort, ports: [{port: 80, nodePort: 30062}]}}\n"
	AuditDeploy   = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: default, uid: b, creationTimestamp: \"2026-01-02T00:00:00Z\"}, spec: {replicas: 1, selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, ports: [{containerPort: 80, hostPort: 30062}]}]}}}}\n"
	AuditPod      = "{apiVersion: v1, kind: Pod, metadata: {name: web-x-%[1]s, namespace: default, uid: p%[1]s, labels: {app: web, pod-template-hash: x}, creationTimestamp: \"2026-01-03T00:00:00Z\", ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web-x, uid: r, controller: true}]}, spec: {nodeName: %[1]s, containers: [{name: c, ports: [{containerPort: 80, hostPort: 30062}]}]}}\n"
	AuditNeighbor = "{apiVersion: v1, kind: Pod, metadata: {name: late, namespace: shop, uid: l, creationTimestamp: \"2026-01-04T00:00:00Z\"}, spec: {nodeName: n1, containers: [{name: c, ports: [{containerPort: 80, hostPort: 8080}]}]}}\n"
	AuditEarly    = "{apiVersion: v1, kind: Pod, metadata: {name: early, namespace: default, uid: e, creationTimestamp: \"2026-01-01T00:00:00Z\"}, spec: {nodeName: n1, containers: [{name: c, ports: [{containerPort: 80, hostPort: 8080}]}]}}\n"
)

// IPTablesEverywhere shows kube-proxy and portmap, both with iptables.
const IPTablesEverywhere = "{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: kube-proxy, namespace: kube-system}, spec: {template: {spec: {containers: [{name: kube-proxy}]}}}}\n---\n" +
	"{apiVersion: v1, kind: ConfigMap, metadata: {name: kube-flannel-cfg, namespace: kube-flannel}, data: {cni-conf.json: '{\"plugins\": [{\"type\": \"portmap\"}]}'}}\n"

// Three nodes, and who wants them.
const (
	ThreeNodes = "{apiVersion: v1, kind: Node, metadata: {name: n1}}\n---\n{apiVersion: v1, kind: Node, metadata: {name: n2}}\n---\n{apiVersion: v1, kind: Node, metadata: {name: n3}}\n"
	Tomcat     = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: tomcat}, spec: {replicas: 4, selector: {matchLabels: {app: tomcat}}, template: {metadata: {labels: {app: tomcat}}, spec: {containers: [{name: c, ports: [{containerPort: 8080, hostPort: 9000}]}]}}}}\n"
	Unrelated  = "{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop}, spec: {containers: [{name: c}]}}\n"
	Free       = "{apiVersion: v1, kind: Pod, metadata: {name: free}, spec: {containers: [{name: c, ports: [{containerPort: 80, hostPort: 8000}]}]}}\n"
	failed     = "{apiVersion: v1, kind: Pod, metadata: {name: failed}, spec: {nodeName: n1, containers: [{name: c, ports: [{containerPort: 80, hostPort: 9000}]}]}, status: {phase: Failed, reason: NodePorts, message: no room}}\n"
)

// AuditCluster is all of that cluster.
func AuditCluster() string {
	return strings.Join([]string{AuditNodes, AuditService, AuditDeploy, fmt.Sprintf(AuditPod, "n1"), fmt.Sprintf(AuditPod, "n2"), AuditNeighbor, AuditEarly, IPTablesEverywhere}, "---\n")
}

// Bound writes a pod of tomcat; node is "" for one that waits.
func Bound(name, node string) string {
	return fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {name: %s, labels: {app: tomcat}}, spec: {nodeName: '%s', containers: [{name: c, ports: [{containerPort: 8080, hostPort: 9000}]}]}, "+
		"status: {phase: %s}}\n", name, node, map[bool]string{true: "Pending", false: "Running"}[node == ""])
}

// FourOnThree are four replicas on three nodes.
func FourOnThree() string {
	return strings.Join([]string{ThreeNodes, Bound("tomcat-a", "n1"), Bound("tomcat-b", "n2"), Bound("tomcat-c", "n3"), Bound("tomcat-d", ""), Tomcat, Unrelated, Free, failed}, And)
}

// NodePorts is a Service "namespace/name" with ports of these numbers.
func NodePorts(name string, numbers ...int) string {
	namespace, name, _ := strings.Cut(name, "/")
	var list []string
	for i, n := range numbers {
		list = append(list, fmt.Sprintf("{name: p%d, port: %d, nodePort: %d}", i, 80+i, n))
	}
	return fmt.Sprintf("{apiVersion: v1, kind: Service, metadata: {name: %s, namespace: %s, uid: uid-of-%s}, spec: {type: NodePort, ports: [%s]}}\n", name, namespace, name, strings.Join(list, ", "))
}

// Namespace is one with the label team, if there is a team.
func Namespace(name, team string) string {
	if team == "" {
		return fmt.Sprintf("{apiVersion: v1, kind: Namespace, metadata: {name: %s}}\n", name)
	}
	return fmt.Sprintf("{apiVersion: v1, kind: Namespace, metadata: {name: %s, labels: {team: %q}}}\n", name, team)
}

// PortPool is one for the namespaces of a team.
func PortPool(name, team, ranges, rest string) string {
	return fmt.Sprintf("{apiVersion: portcullis.dev/v1alpha1, kind: PortPool, metadata: {name: %s, creationTimestamp: '2026-01-01T00:00:00Z'}, spec: {ranges: [%s], namespaceSelector: {matchLabels: {team: %s}}%s}}\n", name, ranges, team, rest)
}

// Joined puts objects into one text.
func Joined(objects ...string) string { return strings.Join(objects, And) }
