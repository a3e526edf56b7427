package report_test

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

func claim(kind ports.Kind, socket string, scope ports.Scope) ports.Claim {
	return ports.Claim{Socket: ports.MustParseSocket(socket), Kind: kind, Scope: scope}
}

func nodePort(number string) ports.Claim {
	return claim(ports.NodePort, "*:"+number, ports.EverywhereScope())
}

func hostPort(number string) ports.Claim { return claim(ports.HostPort, "*:"+number, ports.Scope{}) }

func by(kind, name, field string, c ports.Claim) *check.Holder {
	return &check.Holder{Ref: ports.Ref{Kind: kind, Namespace: "default", Name: name}, Field: field, Claim: c}
}

const podField = "spec.containers[0].ports[0].hostPort"

// said is a finding and what is said of it.
type said struct {
	finding check.Finding
	want    string
}

// sentences lists what is said for each code and case.
func sentences() []said {
	const (
		template = "spec.template.spec.containers[0].ports[0].hostPort"
		port0    = "spec.ports[0].nodePort"
		port1    = "spec.ports[1].nodePort"
	)
	const nodeField = "metadata.annotations[portcullis.dev/reserved-ports]"
	reserving := by(check.NodeKind, "n1", nodeField, claim(ports.HostNetwork, "*:9100/TCP", ports.NodeScope("n1")))
	n1, n5 := []string{"n1"}, []string{"n1", "n2", "n3", "n4", "n5"}
	tomcat := by("Deployment", "tomcat", template, claim(ports.HostPort, "*:9000/TCP", ports.NodeScope("n1")))
	return append(slices.Concat(moreSentences(), restrictedSentences(), readingSentences()), []said{
		{check.Finding{Code: check.HostIPInvalid, Field: "spec.containers[0].ports[0].hostIP", Detail: check.HostIPText{Text: "local\nhost", Port: "8080/TCP"}},
			`spec.containers[0].ports[0].hostIP: "local\nhost" is not an IP address: port 8080/TCP would never be reachable; write an address of the node, or leave hostIP out for all of its addresses (PC0101)`},
		{check.Finding{Code: check.BadReservation, Field: nodeField, Detail: check.Unreadable{Err: errors.New(`"x" is not PORT/PROTOCOL, like 9100/TCP`)}},
			nodeField + `: "x" is not PORT/PROTOCOL, like 9100/TCP, so it reserves no port; correct the entry; the other entries still count (PC0316)`},
		{check.Finding{Code: check.Held, Field: podField, Claim: hostPort("9100/TCP"), Nodes: n1, Holder: reserving},
			podField + ": 9100/TCP is reserved (" + nodeField + ") on node n1; choose another hostPort, or expose the pod by a Service (PC0201)"},
		{check.Finding{Code: check.SocketTwice, Field: podField, Detail: check.Sibling{Field: "spec.initContainers[0].ports[0].hostPort"}, Claim: claim(ports.HostPort, "[::1]:80/TCP", ports.Scope{})},
			podField + ": [::1]:80/TCP is already claimed by spec.initContainers[0].ports[0].hostPort of the same pod; give one of the two another hostPort (PC0102)"},
		{check.Finding{Code: check.SocketTwice, Field: "spec.containers[1].ports[0].containerPort", Detail: check.Sibling{Field: "spec.containers[0].ports[0].containerPort"}, Claim: claim(ports.HostNetwork, "*:80/TCP", ports.Scope{})},
			"spec.containers[1].ports[0].containerPort: *:80/TCP is already claimed by spec.containers[0].ports[0].containerPort of the same pod; give one of the two another containerPort (PC0102)"},
		{check.Finding{Code: check.ServiceSelfClash, Case: check.SameNodePortTwice, Field: port1, Detail: check.Sibling{Field: "spec.ports[0]", Value: "30080/TCP"}},
			port1 + ": 30080/TCP is already the nodePort of spec.ports[0]; choose another nodePort, or leave it out to get one (PC0103)"},
		{check.Finding{Code: check.ServiceSelfClash, Case: check.SameNodePortSplit, Field: port1, Detail: check.Sibling{Field: "spec.ports[0]", Value: "30080"}},
			port1 + ": 30080 is already the nodePort of spec.ports[0], and one nodePort cannot serve two different ports; choose another nodePort, or leave it out to get one (PC0103)"},
		{check.Finding{Code: check.ServiceSelfClash, Case: check.HealthCheckIsOwn, Field: "spec.healthCheckNodePort", Detail: check.Sibling{Field: port0, Value: "30080"}},
			"spec.healthCheckNodePort: 30080 is also the Service's own nodePort, spec.ports[0].nodePort; choose another healthCheckNodePort, or leave it out to get one (PC0103)"},
		{check.Finding{Code: check.ServiceSelfClash, Case: check.SamePortTwice, Field: "spec.ports[1].port", Detail: check.Sibling{Field: "spec.ports[0]", Value: "80/TCP"}},
			"spec.ports[1].port: 80/TCP is already the port of spec.ports[0]; remove one of the two, or give it another port or protocol (PC0103)"},
		{check.Finding{Code: check.NodePortWithoutUse, Field: port0, Detail: check.UnusedPort{Port: 30080, Type: "ClusterIP"}},
			port0 + ": 30080 is set, but a Service of type ClusterIP has no node ports; remove nodePort, or make the type NodePort or LoadBalancer (PC0104)"},
		{check.Finding{Code: check.NodePortWithoutUse, Case: check.NodePortIsLeftOver, Field: port0, Detail: check.UnusedPort{Port: 30080, Type: "ClusterIP"}},
			port0 + ": 30080 is left over from a type with node ports; the API server drops it now and refuses it next time; remove nodePort from the manifest (PC0104)"},
		{check.Finding{Code: check.InitContainersMeet, Field: "spec.initContainers[1].ports[0].hostPort", Detail: check.Sibling{Field: "spec.initContainers[0].ports[0].hostPort"}, Claim: hostPort("80/TCP")},
			"spec.initContainers[1].ports[0].hostPort: *:80/TCP is also used by spec.initContainers[0].ports[0].hostPort, an init container that runs at another time; nothing needs to be done (PC0105)"},
		{check.Finding{Code: check.InFlight, Field: port0, Claim: nodePort("30080/TCP")},
			"spec.ports[0].nodePort: 30080/TCP is claimed by another request in progress; try again in a second (PC0203)"},
		{check.Finding{Code: check.ForeignIP, Field: "spec.externalIPs[0]", Detail: check.ExternalIP{Addr: netip.MustParseAddr("10.96.0.7")}, Holder: by("Service", "web", "spec.clusterIP", ports.Claim{})},
			"spec.externalIPs[0]: 10.96.0.7 is the cluster IP of Service default/web (spec.clusterIP); choose an address that is routed to the nodes, or reach the Service by its own cluster IP (PC0204)"},
		{check.Finding{Code: check.ForeignIP, Case: check.NotGivenYet, Field: "spec.externalIPs[0]", Detail: check.ExternalIP{Addr: netip.MustParseAddr("10.96.0.7"), Range: netip.MustParsePrefix("10.96.0.0/16")}},
			"spec.externalIPs[0]: 10.96.0.7 is in 10.96.0.0/16, from which cluster IPs are allocated; choose an address that is routed to the nodes (PC0204)"},
		{check.Finding{Code: check.Held, Field: podField, Claim: hostPort("9000/TCP"), Holder: tomcat, Nodes: n1},
			podField + ": 9000/TCP is held by Deployment default/tomcat (" + template + ") on node n1; choose another hostPort, or expose the pod by a Service (PC0201)"},
		{check.Finding{Code: check.Held, Field: port0, Claim: nodePort("30080/TCP"), Holder: by("Service", "web", port1, nodePort("30080/UDP"))},
			port0 + ": 30080/TCP is held by Service default/web (spec.ports[1].nodePort) on every node, and a nodePort belongs to one Service, whatever the protocol; choose another nodePort, or leave it out to get a free one (PC0201)"},
		{check.Finding{Code: check.Held, Field: port0, Claim: nodePort("30080/TCP"), Holder: by("Deployment", "a", "", hostPort("30080/TCP"))},
			port0 + ": 30080/TCP is held by Deployment default/a, not on a node yet; choose another nodePort, or leave it out to get a free one (PC0201)"},
		{check.Finding{Code: check.Held, Case: check.HolderHasNoNode, Field: port0, Claim: nodePort("30080/TCP"), Holder: by("Deployment", "a", "", hostPort("30080/TCP"))},
			port0 + ": 30080/TCP is held by Deployment default/a, whose pods match no node now; choose another nodePort, or leave it out to get a free one (PC0201)"},
		{check.Finding{Code: check.Held, Field: "spec.ports[0].port", Claim: claim(ports.ExternalIP, "192.0.2.1:80/TCP", ports.AddressScope()),
			Holder: by("Service", "web", "spec.ports[0].port", claim(ports.LoadBalancerIP, "192.0.2.1:80/TCP", ports.AddressScope()))},
			"spec.ports[0].port: 192.0.2.1:80/TCP is held by Service default/web (spec.ports[0].port); choose another port or address (PC0201)"},
		{check.Finding{Code: check.Held, Idle: true, Field: port0, Claim: nodePort("30080/TCP"), Holder: by("Service", "web", port1, nodePort("30080/TCP"))},
			"spec.ports[0].nodePort: its future pods conflict: 30080/TCP is held by Service default/web (spec.ports[1].nodePort) on every node; choose another nodePort, or leave it out to get a free one (PC0201)"},
		{check.Finding{Code: check.Held, Standing: true, Field: podField, Claim: hostPort("9000/TCP"), Holder: by("Pod", "a", podField, hostPort("9000/TCP")), Nodes: n5},
			podField + ": 9000/TCP is held by Pod default/a (" + podField + ") on nodes n1, n2, n3 and 2 more; choose another hostPort; already the case before this change; not blocked (PC0201)"},
		{check.Finding{Code: check.WorkloadsMeet, Case: check.EveryNodeTaken, Field: podField, Claim: hostPort("9000/TCP"), Holder: tomcat, Nodes: n1, Eligible: 1},
			podField + ": 9000/TCP is held by Deployment default/tomcat (" + template + ") on node n1, the only eligible node; choose another hostPort (PC0202)"},
		{check.Finding{Code: check.WorkloadsMeet, Case: check.EveryNodeTaken, Field: podField, Claim: hostPort("9000/TCP"), Holder: by("DaemonSet", "a", "", hostPort("9000/TCP"))},
			podField + ": 9000/TCP is held by DaemonSet default/a on every node; choose another hostPort, or expose the pod by a Service, or keep the two apart by a nodeSelector (PC0202)"},
		{check.Finding{Code: check.WorkloadsMeet, Case: check.EveryNodeTaken, Field: podField, Claim: hostPort("9000/TCP"), Holder: by("DaemonSet", "a", "", hostPort("9000/TCP")), Nodes: n1, Eligible: 2},
			podField + ": 9000/TCP is held by DaemonSet default/a on node n1; all other eligible nodes are taken too; choose another hostPort, or expose the pod by a Service, or keep the two apart by a nodeSelector (PC0202)"},
		{check.Finding{Code: check.WorkloadsMeet, Case: check.SomeNodesTaken, Field: podField, Claim: hostPort("9000/TCP"), Holder: by("DaemonSet", "a", "", hostPort("9000/TCP")), Nodes: n5, Eligible: 7},
			podField + ": 9000/TCP is held by DaemonSet default/a on 5 of the 7 eligible nodes (n1, n2, n3 and 2 more); choose another hostPort, or expose the pod by a Service, or keep the two apart by a nodeSelector (PC0202)"},
		{check.Finding{Code: check.WorkloadsMeet, Case: check.SomeNodesTaken, Field: podField, Claim: claim(ports.HostNetwork, "*:9000/TCP", ports.Scope{}), Holder: by("Pod", "a", "", hostPort("9000/TCP")), Nodes: n1},
			podField + ": 9000/TCP is held by Pod default/a on node n1; let the process listen on another port, or leave the host network, or keep the two apart by a nodeSelector (PC0202)"},
		{check.Finding{Code: check.OutsideRange, Field: port0, Detail: check.PortRange{Range: ports.MustParseRange("30000-32767")}, Claim: nodePort("80/TCP")},
			port0 + ": 80 is outside the node port range 30000-32767; choose a port inside it, or leave nodePort out to get one (PC0301)"},
		{check.Finding{Code: check.DaemonSocket, Field: podField, Claim: hostPort("10250/TCP"), Holder: &check.Holder{Ref: ports.Ref{Kind: "node daemon", Name: "kubelet"}}},
			podField + ": 10250/TCP belongs to kubelet, a daemon of every node; choose another hostPort, or expose the pod by a Service (PC0302)"},
		{check.Finding{Code: check.DaemonSocket, Field: podField, Detail: check.DaemonNodes{Label: "control"}, Claim: hostPort("10259/TCP"), Holder: &check.Holder{Ref: ports.Ref{Kind: "node daemon", Name: "kube-scheduler"}}},
			podField + ": 10259/TCP belongs to kube-scheduler, a daemon of the nodes with the label control; choose another hostPort, or expose the pod by a Service (PC0302)"},
		{check.Finding{Code: check.DaemonSocket, Field: podField, Detail: check.DaemonNodes{Label: "control"}, Claim: hostPort("10259/TCP"), Nodes: []string{"n1"}, Holder: &check.Holder{Ref: ports.Ref{Kind: "node daemon", Name: "kube-scheduler"}}},
			podField + ": 10259/TCP belongs to kube-scheduler, a daemon of node n1; choose another hostPort, or expose the pod by a Service (PC0302)"},
	}...)
}

// others are further holders: Deployments d1, d2 … on the nodes m1, m2 …
func others(n int) []check.Holder {
	var all []check.Holder
	for i := range n {
		h := by("Deployment", fmt.Sprintf("d%d", i+1), podField, hostPort("80/TCP"))
		all = append(all, *at(fmt.Sprintf("m%d", i+1), h))
	}
	return all
}

func at(node string, h *check.Holder) *check.Holder {
	h.Nodes = []string{node}
	return h
}

// moreSentences are those of ranges, rollouts, edits and wiring.
func moreSentences() []said {
	const (
		port0    = "spec.ports[0].nodePort"
		name0    = "spec.ports[0].name"
		target0  = "spec.ports[0].targetPort"
		surge    = "spec.updateStrategy.rollingUpdate.maxSurge"
		replicas = "spec.replicas"
	)
	nodePorts, band := ports.MustParseRange("30000-32767"), ports.MustParseRange("30086-32767")
	web := &check.Holder{Ref: ports.Ref{Kind: "Deployment", Namespace: "default", Name: "web"}}
	webSvc, me := by("Service", "web", port0, nodePort("30007/TCP")), ports.Ref{APIVersion: "v1", Kind: "Pod", Namespace: "default", Name: "a"}
	v6 := by("Pod", "b", podField, claim(ports.HostPort, "[::]:80/TCP", ports.NodeScope("n1")))
	v4 := claim(ports.HostPort, "0.0.0.0:80/TCP", ports.NodeScope("n1"))
	return []said{
		{check.Finding{Code: check.PortInvalid, Field: port0, Detail: check.Text{Text: "300080"}}, port0 + ": 300080 is not a port number; write a number from 1 to 65535 (PC0108)"},
		{check.Finding{Code: check.PortInvalid, Case: check.NumberMissing, Field: "spec.containers[0].ports[0].containerPort"},
			"spec.containers[0].ports[0].containerPort: the port number is missing; write a number from 1 to 65535 (PC0108)"},
		{check.Finding{Code: check.PortInvalid, Case: check.NotANumber, Field: port0, Detail: check.Unreadable{Err: errors.New(`want a whole number of 32 bits, not "http"`)}},
			port0 + `: want a whole number of 32 bits, not "http"; write a number from 1 to 65535 (PC0108)`},
		{check.Finding{Code: check.PortInvalid, Case: check.QuotedNumber, Field: target0, Detail: check.Text{Text: "8080"}},
			target0 + `: "8080" is a string, and a port name needs a letter; remove the quotes (PC0108)`},
		{check.Finding{Code: check.PortInvalid, Case: check.BadPortName, Field: target0, Detail: check.Text{Text: "my_port"}},
			target0 + `: "my_port" is not a port name; write at most 15 lower-case letters, digits and single hyphens, with a letter among them (PC0108)`},
		{check.Finding{Code: check.PortInvalid, Case: check.BadServicePortName, Field: name0, Detail: check.Text{Text: "a.b"}},
			name0 + `: "a.b" is not a name for a Service port; write at most 63 lower-case letters, digits and hyphens (PC0108)`},
		{check.Finding{Code: check.PortInvalid, Case: check.NameMissing, Field: name0},
			name0 + ": the Service has several ports, and this one has no name; give each of them a name (PC0108)"},
		{check.Finding{Code: check.PortInvalid, Case: check.UnknownProtocol, Field: "spec.ports[0].protocol", Detail: check.Text{Text: "HTTP"}},
			`spec.ports[0].protocol: "HTTP" is not a protocol; write TCP, UDP or SCTP, or leave protocol out for TCP (PC0108)`},
		{check.Finding{Code: check.PortInvalid, Case: check.BadAppProtocol, Field: "spec.ports[0].appProtocol", Detail: check.Text{Text: "a b"}},
			`spec.ports[0].appProtocol: "a b" is not an application protocol; write one such as http, or kubernetes.io/h2c (PC0108)`},
		{check.Finding{Code: check.PortInvalid, Case: check.NoPorts, Field: "spec.ports"},
			"spec.ports: the Service has no ports; add one, or make it headless by clusterIP: None (PC0108)"},
		{check.Finding{Code: check.PortNameTwice, Field: name0, Detail: check.Sibling{Field: "spec.ports[1]", Value: "http"}},
			name0 + `: "http" is already the name of spec.ports[1]; give one of the two another name (PC0109)`},
		{check.Finding{Code: check.HostPortDiffers, Field: podField, Detail: check.Mapping{HostPort: 9101, ContainerPort: 9100}},
			podField + ": 9101 is not the containerPort, 9100, and on the host network both are the port that the process listens on; leave hostPort out, or correct one of the two (PC0110)"},
		{check.Finding{Code: check.FieldWrongCase, Field: "spec.containers[0].ports[0].hostport", Detail: check.Text{Known: "hostPort"}},
			"spec.containers[0].ports[0].hostport: the API does not know this field (it knows hostPort) and ignores it; write hostPort (PC0111)"},
		{check.Finding{Code: check.WrongCase, Field: "spec.externalTrafficPolicy", Detail: check.Text{Text: "local", Known: "Local"}},
			`spec.externalTrafficPolicy: the API does not know "local", it knows Local; write Local (PC0106)`},
		{check.Finding{Code: check.HealthCheckFixed, Field: "spec.healthCheckNodePort", Detail: check.Change{From: "30081", To: "30082"}},
			"spec.healthCheckNodePort: 30082 cannot replace 30081 while it is in use; keep 30081, or change externalTrafficPolicy to Cluster first (PC0107)"},
		{check.Finding{Code: check.NodePortWithoutUse, Case: check.NodePortIsIgnored, Field: port0, Detail: check.UnusedPort{Port: 30080, Type: "ExternalName"}},
			"spec.ports[0].nodePort: 30080 is set, but an ExternalName Service has no node ports, and the API server drops it silently; remove nodePort from the manifest (PC0104)"},
		{check.Finding{Code: check.NodePortWithoutUse, Field: "spec.healthCheckNodePort", Detail: check.UnusedPort{Port: 30080, Type: "NodePort"}},
			"spec.healthCheckNodePort: 30080 is set, but only a LoadBalancer with externalTrafficPolicy Local has a healthCheckNodePort; remove it (PC0104)"},
		{check.Finding{Code: check.NodePortWithoutUse, Case: check.NodePortIsLeftOver, Field: "spec.healthCheckNodePort", Detail: check.UnusedPort{Port: 30080, Type: "LoadBalancer"}},
			"spec.healthCheckNodePort: 30080 is left over from externalTrafficPolicy Local; the API server drops it now and refuses it next time; remove healthCheckNodePort from the manifest (PC0104)"},
		{check.Finding{Code: check.WorkloadsMeet, Case: check.TooManyTogether, Field: podField, Claim: hostPort("80/TCP"), Holder: by("Deployment", "b", podField, hostPort("80/TCP")), Nodes: []string{"n1", "n2", "n3"}, Eligible: 3},
			"spec.containers[0].ports[0].hostPort: 80/TCP is wanted by Deployment default/b (spec.containers[0].ports[0].hostPort) too, and their nodes are too few for the pods of both; choose another hostPort (PC0202)"},
		{check.Finding{Code: check.WorkloadsMeet, Case: check.TooManyTogether, Field: podField, Claim: hostPort("80/TCP"), Holder: by("Deployment", "b", podField, hostPort("80/TCP")), Others: others(2), Nodes: []string{"n1", "n2", "n3"}, Eligible: 3},
			"spec.containers[0].ports[0].hostPort: 80/TCP is wanted by Deployment default/b (spec.containers[0].ports[0].hostPort), Deployment default/d1 and 1 other too, and their nodes are too few for the pods of all; choose another hostPort (PC0202)"},
		{check.Finding{Code: check.WorkloadsMeet, Case: check.TooManyTogether, Field: podField, Claim: hostPort("80/TCP"), Holder: by("Deployment", "b", podField, hostPort("80/TCP")), Nodes: []string{"n1"}, Eligible: 1},
			"spec.containers[0].ports[0].hostPort: 80/TCP is wanted by Deployment default/b (spec.containers[0].ports[0].hostPort) too, and there is only one node for both; choose another hostPort (PC0202)"},
		{check.Finding{Code: check.WorkloadsMeet, Case: check.LeavesNoNode, Field: podField, Claim: hostPort("80/TCP"), Holder: by("Deployment", "b", podField, hostPort("80/TCP")), Nodes: []string{"n1"}, Eligible: 3},
			"spec.containers[0].ports[0].hostPort: 80/TCP is wanted by Deployment default/b (spec.containers[0].ports[0].hostPort) too, which can run on no other node; choose another hostPort (PC0202)"},
		{check.Finding{Code: check.WorkloadsMeet, Case: check.MayMeetThere, Field: podField, Claim: hostPort("80/TCP"), Holder: by("Deployment", "b", podField, hostPort("80/TCP")), Nodes: []string{"n1"}, Eligible: 3},
			"spec.containers[0].ports[0].hostPort: 80/TCP is wanted by Deployment default/b (spec.containers[0].ports[0].hostPort) too, whose pods may come to node n1; choose another hostPort (PC0202)"},
		{check.Finding{Code: check.WorkloadsMeet, Case: check.EveryNodeTaken, Field: podField, Claim: hostPort("80/TCP"), Holder: at("n1", by("Pod", "b", podField, hostPort("80/TCP"))), Others: others(1), Nodes: []string{"n1", "n2"}, Eligible: 2},
			"spec.containers[0].ports[0].hostPort: 80/TCP: all eligible nodes are taken, by Pod default/b (spec.containers[0].ports[0].hostPort) on node n1 and Deployment default/d1 on node m1; choose another hostPort (PC0202)"},
		{check.Finding{Code: check.WorkloadsMeet, Case: check.EveryNodeTaken, Field: podField, Claim: hostPort("80/TCP"), Holder: at("n1", by("Pod", "b", podField, hostPort("80/TCP"))), Others: others(39), Nodes: make([]string, 40), Eligible: 40},
			"spec.containers[0].ports[0].hostPort: 80/TCP: all eligible nodes are taken, by Pod default/b (spec.containers[0].ports[0].hostPort) on node n1, Deployment default/d1 on node m1 and 38 others; choose another hostPort (PC0202)"},
		{check.Finding{Code: check.WorkloadsMeet, Case: check.SomeNodesTaken, Field: podField, Claim: hostPort("80/TCP"), Holder: at("n1", by("Pod", "b", podField, hostPort("80/TCP"))), Others: others(1), Nodes: []string{"m1", "n1"}, Eligible: 3},
			"spec.containers[0].ports[0].hostPort: 80/TCP is held by Pod default/b (spec.containers[0].ports[0].hostPort) on node n1 and Deployment default/d1 on node m1, 2 of the 3 eligible nodes; choose another hostPort (PC0202)"},
		{check.Finding{Code: check.WorkloadsMeet, Case: check.SomeNodesTaken, Field: podField, Claim: hostPort("80/TCP"), Holder: at("n1", by("Pod", "b", podField, hostPort("80/TCP"))), Others: others(1), Nodes: []string{"m1", "n1"}},
			"spec.containers[0].ports[0].hostPort: 80/TCP is held by Pod default/b (spec.containers[0].ports[0].hostPort) on node n1 and Deployment default/d1 on node m1; choose another hostPort (PC0202)"},
		{check.Finding{Code: check.InNodePorts, Field: podField, Detail: check.PortRange{Range: nodePorts}, Claim: hostPort("31000/TCP")},
			"spec.containers[0].ports[0].hostPort: 31000 is inside the node port range 30000-32767: any Service may be allocated it, and the two would conflict; choose a hostPort outside it (PC0303)"},
		{check.Finding{Code: check.InEphemeral, Field: podField, Detail: check.PortRange{Range: ports.MustParseRange("32768-60999")}, Claim: hostPort("40000/TCP")},
			"spec.containers[0].ports[0].hostPort: 40000 is among the ports 32768-60999 that outgoing connections of the nodes use, and may be in use; choose a hostPort elsewhere, or reserve it by net.ipv4.ip_local_reserved_ports on every node (PC0304)"},
		{check.Finding{Code: check.InDynamicBand, Field: port0, Detail: check.PortRange{Range: band}, Claim: nodePort("31000/TCP")},
			"spec.ports[0].nodePort: 31000 is in the dynamic allocation band 30086-32767, and may be allocated to another Service before this one is created; choose a port below the band (PC0305)"},
		{check.Finding{Code: check.OutsideSmaller, Field: port0, Detail: check.PortRange{Range: nodePorts}, Claim: nodePort("20080/TCP")},
			"spec.ports[0].nodePort: 20080 is outside the node port range 30000-32767; the Service keeps it, but cannot be created with it again; change it to a port inside the range when it suits you (PC0306)"},
		{check.Finding{Code: check.TooFewNodes, Case: check.SomePodsWait, Field: replicas, Detail: check.Replicas{Pods: 4, Left: 2}, Claim: hostPort("80/TCP"), Eligible: 3},
			"spec.replicas: 4 replicas need hostPort 80/TCP, but only 2 of the 3 eligible nodes have it free; 2 replicas stay Pending; run at most 2, or let them run on more nodes, or expose them by a Service (PC0401)"},
		{check.Finding{Code: check.TooFewNodes, Case: check.SomePodsWait, Field: replicas, Detail: check.Replicas{Pods: 4, Left: 3}, Claim: hostPort("80/TCP"), Eligible: 3},
			"spec.replicas: 4 replicas need hostPort 80/TCP, but only 3 nodes are eligible; 1 replica stays Pending; run at most 3, or let them run on more nodes, or expose them by a Service (PC0401)"},
		{check.Finding{Code: check.TooFewNodes, Case: check.SomePodsWait, Field: replicas, Detail: check.Replicas{Pods: 2, Left: 1}, Claim: hostPort("80/TCP")},
			"spec.replicas: 2 replicas need hostPort 80/TCP, but only 1 node is eligible; 1 replica stays Pending; run at most 1, or let them run on more nodes, or expose them by a Service (PC0401)"},
		{check.Finding{Code: check.TooFewNodes, Case: check.SomePodsWait, Field: replicas, Detail: check.Replicas{Pods: 3, Left: 2}, Claim: ports.Claim{Socket: hostPort("7777/UDP").Socket, Kind: ports.HostPort, Field: podField}, Eligible: 2},
			"spec.replicas: 3 replicas need hostPort 7777/UDP (" + podField + "), but only 2 nodes are eligible; 1 replica stays Pending; run at most 2, or let them run on more nodes, or expose them by a Service (PC0401)"},
		{check.Finding{Code: check.TooFewNodes, Case: check.SomePodsWait, Field: replicas, Detail: check.Replicas{Pods: 3, Left: 2}, Claim: ports.Claim{Socket: hostPort("7777/UDP").Socket, Kind: ports.HostPort, Field: strings.Repeat("deep.", 30)}, Eligible: 2},
			"spec.replicas: 3 replicas need hostPort 7777/UDP, but only 2 nodes are eligible; 1 replica stays Pending; run at most 2 (PC0401)"},
		{check.Finding{Code: check.TooFewNodes, Case: check.SomePodsWait, Object: ports.Ref{Kind: "StatefulSet"}, Field: replicas, Detail: check.Replicas{Pods: 5, Left: 2}, Claim: hostPort("80/TCP"), Eligible: 2},
			"spec.replicas: 5 replicas need hostPort 80/TCP, but only 2 nodes are eligible; 3 replicas never start; run at most 2, or let them run on more nodes, or expose them by a Service (PC0401)"},
		{check.Finding{Code: check.TooFewNodes, Case: check.NoNodeSuits, Field: replicas, Detail: check.Replicas{Pods: 1}, Claim: hostPort("80/TCP")},
			"spec.replicas: 1 replica needs hostPort 80/TCP, but no node matches the nodeSelector, affinity and tolerations; correct these, or add such a node (PC0401)"},
		{check.Finding{Code: check.TooFewNodes, Case: check.FewerAtOnce, Field: "spec.parallelism", Detail: check.Replicas{Pods: 4, Left: 1}, Claim: hostPort("80/TCP"), Eligible: 2},
			"spec.parallelism: 4 pods need hostPort 80/TCP at the same time, but only 1 of the 2 eligible nodes has it free; lower the parallelism, or let it run on more nodes (PC0401)"},
		{check.Finding{Code: check.RolloutStalls, Case: check.OneNode, Field: "spec.strategy", Detail: check.Replicas{Pods: 1, Left: 1}, Claim: hostPort("80/TCP"), Eligible: 1},
			"spec.strategy: on its only node the new pod waits for 80/TCP, and the old one holds it until the new one is ready; set the strategy to Recreate, or maxSurge to 0 and maxUnavailable to 1 (PC0402)"},
		{check.Finding{Code: check.RolloutStalls, Case: check.NodesAllInUse, Field: "spec.strategy", Detail: check.Replicas{Pods: 3, Left: 3}, Claim: hostPort("80/TCP"), Eligible: 3},
			"spec.strategy: 3 replicas fill the 3 nodes that have 80/TCP free: the new pod waits for a node, and no old one may go before it is ready; set maxUnavailable to 1, or run one replica fewer (PC0402)"},
		{check.Finding{Code: check.SurgeInPlace, Field: surge, Detail: check.Replicas{Pods: 1}, Claim: hostPort("80/TCP")},
			"spec.updateStrategy.rollingUpdate.maxSurge: with a surge the new pod waits on each node for 80/TCP, which the old one holds until the new one is ready; set maxSurge to 0 and maxUnavailable to 1, or give up the hostPort (PC0403)"},
		{check.Finding{Code: check.StricterThere, Case: check.SchedulerStricter, Field: podField, Claim: v4, Holder: v6, Nodes: []string{"n1", "n2"}},
			"spec.containers[0].ports[0].hostPort: 0.0.0.0:80/TCP does not conflict with [::]:80/TCP of Pod default/b, but Kubernetes takes 0.0.0.0 for both families: the scheduler keeps the pod off nodes n1, n2; choose another hostPort (PC0404)"},
		{check.Finding{Code: check.StricterThere, Case: check.KubeletStricter, Field: podField, Claim: v4, Holder: v6, Nodes: []string{"n1"}},
			"spec.containers[0].ports[0].hostPort: 0.0.0.0:80/TCP does not conflict with [::]:80/TCP of Pod default/b, but Kubernetes takes 0.0.0.0 for both families: the kubelet of node n1 rejects the pod; choose another hostPort, or set hostIP to one address (PC0404)"},
		{check.Finding{Code: check.NumberChanges, Case: check.LostByReplace, Field: name0, Detail: check.LostPort{NodePort: 30080, Name: "http"}},
			"spec.ports[0].name: the port that was named http loses nodePort 30080 and gets another if the Service is replaced (PUT) and not merged; write nodePort: 30080 into it, or keep the name (PC0501)"},
		{check.Finding{Code: check.NumberChanges, Case: check.LostAnyway, Field: name0, Detail: check.LostPort{NodePort: 30080}},
			"spec.ports[0].name: the port that had no name loses nodePort 30080 and gets another; write nodePort: 30080 into it, or keep the name (PC0501)"},
		{check.Finding{Code: check.NumberChanges, Case: check.LostByReplace, Field: port0, Detail: check.LostPort{NodePort: 30080, Name: "http"}},
			"spec.ports[0].nodePort: the port that was named http loses nodePort 30080 and gets another if the Service is replaced (PUT) and not merged; write nodePort: 30080 into it (PC0501)"},
		{check.Finding{Code: check.NumberChanges, Case: check.LostAnyway, Field: port0, Detail: check.LostPort{NodePort: 30080}},
			"spec.ports[0].nodePort: the port that had no name loses nodePort 30080 and gets another; write nodePort: 30080 into it (PC0501)"},
		{check.Finding{Code: check.CreateRefuses, Field: "spec.ports[1].nodePort", Detail: check.Sibling{Field: "spec.ports[0]", Value: "30053"}},
			"spec.ports[1].nodePort: 30053 is also the nodePort of spec.ports[0]: an update may do that, a create may not, so the Service cannot be restored from its manifest; give one of the two another nodePort (PC0502)"},
		{check.Finding{Code: check.OneMergeKey, Case: check.ServiceEntries, Field: "spec.ports[1].port", Detail: check.Sibling{Field: "spec.ports[0]", Value: "53"}},
			"spec.ports[1].port: spec.ports[0] also has port 53, the merge key of client-side apply; use server-side apply for edits of this Service (PC0503)"},
		{check.Finding{Code: check.OneMergeKey, Case: check.ContainerEntries, Field: "spec.containers[0].ports[1]", Detail: check.Sibling{Field: "spec.containers[0].ports[0]", Value: "53"}},
			"spec.containers[0].ports[1]: spec.containers[0].ports[0] also has containerPort 53, the merge key of client-side apply and, with the protocol, of server-side apply; give each entry its own containerPort (PC0503)"},
		{check.Finding{Code: check.NeverMapped, Field: podField, Claim: hostPort("80/TCP")},
			"spec.containers[0].ports[0].hostPort: 80/TCP of a sidecar is reserved on the node, but the kubelet hands CNI those of the main containers only; move the port to a main container, or use the host network (PC0504)"},
		{check.Finding{Code: check.TargetPortName, Case: check.NotOffered, Field: target0, Detail: check.PortName{Name: "http", Protocol: ports.TCP}, Holder: web},
			`spec.ports[0].targetPort: nothing that the Service selects, Deployment default/web for example, has a TCP port named "http": no packet arrives; write the name of a container's port, or its number (PC0505)`},
		{check.Finding{Code: check.TargetPortName, Case: check.OtherProtocol, Field: target0, Detail: check.PortName{Name: "dns", Protocol: ports.TCP}, Holder: web},
			`spec.ports[0].targetPort: what the Service selects, Deployment default/web for example, has "dns" only for another protocol than TCP; name a port of the same protocol, or correct the protocol (PC0505)`},
		{check.Finding{Code: check.TargetPortName, Case: check.OfferedTwice, Field: target0, Detail: check.PortName{Name: "http", Protocol: ports.TCP}, Holder: web},
			`spec.ports[0].targetPort: Deployment default/web has two ports named "http" for TCP, and the first one gets the packets; give each port its own name, or write a number (PC0505)`},
		{check.Finding{Code: check.EndpointsApart, Case: check.OtherNamespace, Field: "metadata.namespace", Detail: check.PortName{Name: "default"}, Holder: &check.Holder{Ref: ports.Ref{Kind: "Endpoints", Namespace: "tms-test", Name: "mongodb"}}},
			"metadata.namespace: Endpoints tms-test/mongodb is in another namespace than the Service, which has no selector and so no endpoints; put both into one namespace (PC0506)"},
		{check.Finding{Code: check.EndpointsApart, Case: check.OtherPortName, Field: name0, Detail: check.PortName{Name: "mongodb", Protocol: ports.TCP}, Holder: &check.Holder{Ref: ports.Ref{Kind: "Endpoints", Namespace: "default", Name: "mongodb"}}},
			`spec.ports[0].name: Endpoints default/mongodb has no TCP port called "mongodb", and endpoints are matched by port name and protocol; give both the same name and protocol (PC0506)`},
		{check.Finding{Code: check.EndpointsApart, Case: check.OtherPortName, Field: name0, Detail: check.PortName{Protocol: ports.UDP}, Holder: &check.Holder{Ref: ports.Ref{Kind: "Endpoints", Namespace: "default", Name: "mongodb"}}},
			"spec.ports[0].name: Endpoints default/mongodb has no UDP port without a name, as this one is, and endpoints are matched by port name and protocol; give both the same name and protocol (PC0506)"},
		{check.Finding{Code: check.TrafficPolicy, Field: "spec.externalTrafficPolicy", Detail: check.Change{From: "Cluster", To: "Local"}},
			"spec.externalTrafficPolicy: Local instead of Cluster applies to new connections only; existing ones keep their path and source address; nothing needs to be done, or let clients connect again (PC0507)"},
		{check.Finding{Code: check.NoNodesAddress, Field: "spec.containers[0].ports[0].hostIP", Detail: check.HostIP{Address: ports.OneAddress(netip.MustParseAddr("10.9.9.9"))}, Claim: hostPort("80/TCP")},
			"spec.containers[0].ports[0].hostIP: 10.9.9.9 is not an address of any node: port 80/TCP is never reachable there; write an address of the node, or leave hostIP out for all of its addresses (PC0508)"},
		{check.Finding{Code: check.HostPortRequested, Case: check.NoSuchPort, Field: "metadata.annotations[portcullis.dev/host-port.play]", Detail: check.PortRequest{Name: "play"}},
			`metadata.annotations[portcullis.dev/host-port.play]: no container port has the name "play"; give a port that name, or correct the annotation (PC0314)`},
		{check.Finding{Code: check.HostPortRequested, Case: check.OnHostNetwork, Field: "metadata.annotations[portcullis.dev/host-port.play]", Detail: check.PortRequest{Name: "play"}},
			`metadata.annotations[portcullis.dev/host-port.play]: port "play" is on the host network: the process itself listens on it; remove the annotation, or hostNetwork (PC0314)`},
		{check.RequestFinding(me, check.HostPortRequest{Name: "play", Field: "metadata.annotations[portcullis.dev/host-port.play]"},
			&pool.NoPoolError{Requester: pool.Requester{For: pool.HostPorts, Namespace: "web"}}),
			"metadata.annotations[portcullis.dev/host-port.play]: " + (&pool.NoPoolError{Requester: pool.Requester{For: pool.HostPorts, Namespace: "web"}}).Error() + "; see the pools with kubectl get portpools (PC0314)"},
		{check.Finding{Code: check.UndeclaredSockets, Field: "spec.hostNetwork", Detail: check.ProbedPorts{Ports: []uint16{8080, 9808}}},
			"spec.hostNetwork: the pod is on the host network and declares no ports, but its probes connect to 8080, 9808, which the scheduler does not reserve; list what it listens on under ports (PC0509)"},
		{check.Finding{Code: check.UndeclaredMeet, Case: check.ProbeConnects, Field: "spec.containers[0].livenessProbe.httpGet.port", Claim: claim(ports.HostNetwork, "*:9808/TCP", ports.NodeScope("n1")), Holder: by("Pod", "b", "", hostPort("9808/TCP")), Nodes: []string{"n1"}},
			"spec.containers[0].livenessProbe.httpGet.port: 9808/TCP is used by Pod default/b on node n1, and the probe shows that this container listens on it; let the process listen on another port, or leave the host network (PC0205)"},
		{check.Finding{Code: check.UndeclaredMeet, Case: check.ProbeOfHolder, Field: podField, Claim: hostPort("9808/TCP"), Holder: by("Pod", "b", "spec.containers[0].livenessProbe.httpGet.port", hostPort("9808/TCP")), Nodes: []string{"n1"}},
			"spec.containers[0].ports[0].hostPort: 9808/TCP is used by Pod default/b (spec.containers[0].livenessProbe.httpGet.port) on node n1, judging by its probe; choose another hostPort, or expose the pod by a Service (PC0205)"},
		{check.Finding{Code: check.UndeclaredMeet, Case: check.AskedFor, Field: "spec.ports[0].port", Claim: claim(ports.LoadBalancerIP, "192.0.2.9:80/TCP", ports.AddressScope()), Holder: by("Service", "b", "spec.ports[0].port", claim(ports.LoadBalancerIP, "192.0.2.9:80/TCP", ports.AddressScope()))},
			"spec.ports[0].port: 192.0.2.9:80/TCP is used by Service default/b (spec.ports[0].port), and a load balancer can give the port to one of them only; choose another port or address (PC0205)"},
		{check.Finding{Code: check.UndeclaredMeet, Case: check.InitListens, Field: "spec.initContainers[0].ports[0].containerPort", Claim: claim(ports.HostNetwork, "*:9808/TCP", ports.NodeScope("n1")), Holder: by("Pod", "b", "", hostPort("9808/TCP")), Nodes: []string{"n1"}},
			"spec.initContainers[0].ports[0].containerPort: 9808/TCP is used by Pod default/b on node n1, so the init container cannot listen on it; let the process listen on another port, or leave the host network (PC0205)"},
		{check.Finding{Code: check.Held, Field: podField, Claim: hostPort("30007/TCP"), Holder: webSvc, Object: me, Packets: &check.Packets{Winners: won("from outside", webSvc.Ref, "over loopback", webSvc.Ref)}},
			"spec.containers[0].ports[0].hostPort: 30007/TCP is held by Service default/web (spec.ports[0].nodePort) on every node; the Service gets all packets; choose another hostPort, or expose the pod by a Service (PC0201)"},
		{check.Finding{Code: check.Held, Field: podField, Claim: hostPort("30007/TCP"), Holder: webSvc, Object: me, Packets: &check.Packets{Winners: won("from outside", webSvc.Ref, "over loopback", webSvc.Ref), Service: webSvc.Ref, Assumed: true}},
			"spec.containers[0].ports[0].hostPort: 30007/TCP is held by Service default/web (spec.ports[0].nodePort) on every node; the Service gets all packets if it has endpoints; choose another hostPort, or expose the pod by a Service (PC0201)"},
		{check.Finding{Code: check.Held, Field: podField, Claim: hostPort("30007/TCP"), Holder: webSvc, Object: me, Packets: &check.Packets{Winners: won("from outside", me, "over loopback", ports.Ref{}), Service: webSvc.Ref, Assumed: true}},
			"spec.containers[0].ports[0].hostPort: 30007/TCP is held by Service default/web (spec.ports[0].nodePort) on every node; this Pod gets the packets from outside; choose another hostPort, or expose the pod by a Service (PC0201)"},
		{check.Finding{Code: check.Held, Field: podField, Claim: hostPort("30007/TCP"), Holder: webSvc, Object: me, Packets: &check.Packets{Winners: won("from outside", webSvc.Ref, "over loopback", me)}},
			"spec.containers[0].ports[0].hostPort: 30007/TCP is held by Service default/web (spec.ports[0].nodePort) on every node; the Service gets the packets from outside, this Pod all others; choose another hostPort, or expose the pod by a Service (PC0201)"},
		{check.Finding{Code: check.Held, Field: podField, Claim: hostPort("30007/TCP"), Holder: webSvc, Object: me, Packets: &check.Packets{OrderDependent: true}},
			"spec.containers[0].ports[0].hostPort: 30007/TCP is held by Service default/web (spec.ports[0].nodePort) on every node; which of the two gets the packets depends on whether kube-proxy or portmap was started first; choose another hostPort (PC0201)"},
		{check.Finding{Code: check.Held, Field: podField, Claim: hostPort("30007/TCP"), Holder: webSvc, Object: me, Packets: &check.Packets{Winners: won("from outside", me, "over loopback", me), Service: webSvc.Ref, Without: true}},
			"spec.containers[0].ports[0].hostPort: 30007/TCP is held by Service default/web (spec.ports[0].nodePort) on every node; while the Service has no endpoints, this Pod gets all packets; choose another hostPort, or expose the pod by a Service (PC0201)"},
		{check.Finding{Code: check.Held, Field: podField, Claim: hostPort("30007/TCP"), Holder: webSvc, Object: me, Packets: &check.Packets{Winners: won("from outside", webSvc.Ref, "from pods", webSvc.Ref), Service: webSvc.Ref, At: netip.MustParseAddr("192.0.2.1")}},
			"spec.containers[0].ports[0].hostPort: 30007/TCP is held by Service default/web (spec.ports[0].nodePort) on every node; at 192.0.2.1 the Service gets all packets; choose another hostPort, or expose the pod by a Service (PC0201)"},
		{check.Finding{Code: check.Held, Field: podField, Claim: hostPort("30007/TCP"), Holder: webSvc, Object: me, Packets: &check.Packets{Winners: won("from outside", webSvc.Ref, "from pods", webSvc.Ref), Service: webSvc.Ref, Assumed: true, At: netip.MustParseAddr("192.0.2.1")}},
			"spec.containers[0].ports[0].hostPort: 30007/TCP is held by Service default/web (spec.ports[0].nodePort) on every node; at 192.0.2.1 the Service gets all packets if it has endpoints; choose another hostPort, or expose the pod by a Service (PC0201)"},
		{check.Finding{Code: check.Held, Field: podField, Claim: hostPort("30007/TCP"), Holder: webSvc, Object: me, Packets: &check.Packets{Winners: won("from outside", me, "over loopback", me), Service: webSvc.Ref, Without: true, At: netip.MustParseAddr("192.0.2.1")}},
			"spec.containers[0].ports[0].hostPort: 30007/TCP is held by Service default/web (spec.ports[0].nodePort) on every node; at 192.0.2.1, while the Service has no endpoints, this Pod gets all packets; choose another hostPort (PC0201)"},
		{check.Finding{Code: check.Held, Field: podField, Claim: hostPort("30007/TCP"), Holder: webSvc, Object: me, Packets: &check.Packets{OrderDependent: true, At: netip.MustParseAddr("192.0.2.1")}},
			"spec.containers[0].ports[0].hostPort: 30007/TCP is held by Service default/web (spec.ports[0].nodePort) on every node; which of the two gets the packets depends on whether kube-proxy or portmap was started first; choose another hostPort (PC0201)"},
		{check.Finding{Code: check.Held, Field: "spec.ports[0].nodePort", Claim: claim(ports.NodePort, "*:30007/TCP", ports.EverywhereScope()), Holder: by("Service", "b", "spec.healthCheckNodePort", claim(ports.HealthCheckNodePort, "*:30007/TCP", ports.EverywhereScope())), Object: webSvc.Ref,
			Packets: &check.Packets{Winners: won("from outside", webSvc.Ref, "over loopback", ref("Service", "default", "b")), Service: webSvc.Ref, Assumed: true}},
			"spec.ports[0].nodePort: 30007/TCP is held by Service default/b (spec.healthCheckNodePort) on every node; this Service gets the packets from outside if it has endpoints, the other Service all others; choose another nodePort (PC0201)"},
		{check.Finding{Code: check.Captured, Field: podField, Claim: hostPort("443/TCP")},
			"spec.containers[0].ports[0].hostPort: with ipvs, the rules of this host port take the packets for port 443/TCP of every cluster IP on the pod's node; let portmap use its iptables back end, or choose another hostPort (PC0603)"},
		{check.Finding{Code: check.FamilyMismatch, Case: check.OneFamilyOnly, Field: "spec.containers[0].ports[0].hostIP", Detail: check.HostIP{Address: ports.AllIPv4()}, Claim: hostPort("80/TCP")},
			"spec.containers[0].ports[0].hostIP: 0.0.0.0 is of one family, and the pods of this cluster have both: port 80/TCP is not mapped for the other; leave hostIP out for both (PC0604)"},
		{check.Finding{Code: check.FamilyMismatch, Case: check.FamilyAbsent, Field: "spec.containers[0].ports[0].hostIP", Detail: check.HostIP{Address: ports.AllIPv6()}, Claim: hostPort("80/TCP")},
			"spec.containers[0].ports[0].hostIP: the pods of this cluster have no address of the family of ::: port 80/TCP is not mapped; write an address of their family, or leave hostIP out (PC0604)"},
	}
}

// won pairs classes of packets with who gets them.
func won(first string, a ports.Ref, second string, b ports.Ref) []check.Winner {
	return []check.Winner{{Of: first, Who: a}, {Of: second, Who: b}}
}

func TestSentences(t *testing.T) {
	told := map[check.Code]map[check.Case]bool{}
	for _, s := range sentences() {
		if told[s.finding.Code] == nil {
			told[s.finding.Code] = map[check.Case]bool{}
		}
		told[s.finding.Code][s.finding.Case] = true
		if got := report.Sentence(s.finding); got != s.want {
			t.Errorf("%s %q\ngot  %s\nwant %s", s.finding.Code, s.finding.Case, got, s.want)
		}
		if got := report.Message(s.finding); s.finding.Field != "" && s.finding.Field+": "+got != s.want {
			t.Errorf("%s %q without its field: %s", s.finding.Code, s.finding.Case, got)
		}
	}
	for _, e := range check.Catalogue() {
		if told[e.Code] == nil {
			t.Errorf("%s has no sentence here", e.Code)
		}
		for named := range e.Cases {
			if !told[e.Code][named] {
				t.Errorf("%s %q has no sentence here", e.Code, named)
			}
		}
	}
}

// TestSentencesOfMonsters: however long names are, and whatever is in them, a sentence is one line of valid text that
// fits and ends with the code.
func TestSentencesOfMonsters(t *testing.T) {
	long := strings.Repeat("a", 253)
	var many []string
	for i := range 1000 {
		many = append(many, fmt.Sprintf("%s%d", long, i))
	}
	for _, name := range []string{long, strings.Repeat("€", 300), "a\nb\r\tc\x1b[31m", "\xff\xfe", strings.Repeat("\xf0", 400), "a\u2028b", "%s%d", ""} {
		for _, s := range sentences() {
			for _, standing := range []bool{false, true} {
				f := s.finding
				f.Standing, f.Remark, f.Detail = standing, name, monstrous(f.Detail, name)
				if f.Nodes != nil {
					f.Nodes = append([]string{name}, many...)
				}
				if f.Holder != nil {
					h := *f.Holder
					h.Namespace, h.Name = name, name
					f.Holder = &h
				}
				checkLine(t, f, report.Sentence(f))
			}
		}
	}
}

// monstrous returns a detail with a name in place of each text and error.
func monstrous(detail check.Detail, name string) check.Detail {
	if detail == nil {
		return nil
	}
	d := reflect.New(reflect.TypeOf(detail)).Elem()
	d.Set(reflect.ValueOf(detail))
	for _, field := range d.Fields() {
		switch field.Interface().(type) {
		case string:
			field.SetString(name)
		case error:
			field.Set(reflect.ValueOf(errors.New(name + "; " + name)))
		}
	}
	return d.Interface().(check.Detail)
}

func checkLine(t *testing.T, f check.Finding, line string) {
	t.Helper()
	switch {
	case !utf8.ValidString(line):
		t.Errorf("%s: not valid UTF-8: %q", f.Code, line)
	case utf8.RuneCountInString(line) > report.MaxSentence:
		t.Errorf("%s: %d characters: %s", f.Code, utf8.RuneCountInString(line), line)
	case strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\u2028' }):
		t.Errorf("%s: not one line of text: %q", f.Code, line)
	case !strings.HasSuffix(line, "("+string(f.Code)+")"):
		t.Errorf("%s: the code is not at the end: %s", f.Code, line)
	case f.Field != "" && !strings.HasPrefix(line, f.Field+": "):
		t.Errorf("%s: the field is not at the start: %s", f.Code, line)
	}
}
