package report_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// restrictedSentences are those of pools and policies.
func restrictedSentences() []said {
	const port0, health = "spec.ports[0].nodePort", "spec.healthCheckNodePort"
	objection := errors.New("30100 belongs to PortPool a (namespaces team=a); namespace default may use PortPool b 30200-30299, next free 30200")
	thePool := &check.Holder{Ref: ports.Ref{Kind: "PortPool", Name: "a"}}
	policy := &check.Holder{Ref: ports.Ref{Kind: "PortPolicy", Name: "base"}}
	svc := ports.Ref{APIVersion: "v1", Kind: "Service", Namespace: "shop", Name: "s"}
	pod := ports.Ref{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: "p"}
	ends := time.Date(2026, 6, 15, 0, 0, 0, 0, time.UTC)
	service := func(named check.Case, field string, d check.Detail, c ports.Claim) check.Finding {
		return check.Finding{Code: check.PolicyNodePort, Case: named, Object: svc, Field: field, Detail: d, Claim: c, Holder: policy}
	}
	hosted := func(named check.Case, d check.Detail, c ports.Claim) check.Finding {
		return check.Finding{Code: check.PolicyHostPort, Case: named, Object: pod, Field: podField, Detail: d, Claim: c, Holder: policy}
	}
	reserved := func(named check.Case, reason string, nodes ...string) check.Finding {
		return check.Finding{Code: check.PolicyReserved, Case: named, Object: pod, Field: podField, Detail: check.Reservation{Name: "proxy", Reason: reason}, Claim: hostPort("80/TCP"), Holder: policy, Nodes: nodes}
	}
	external := func(named check.Case, nodes ...string) check.Finding {
		return check.Finding{Code: check.PolicyExternalIP, Case: named, Object: svc, Field: "spec.externalIPs[0]", Detail: check.ExternalIP{Addr: netip.MustParseAddr("10.0.0.1")}, Holder: policy, Nodes: nodes}
	}
	process := claim(ports.HostNetwork, "*:80/TCP", ports.Scope{})
	return []said{
		{check.Finding{Code: check.Held, Field: port0, Claim: nodePort("30080/TCP"), Holder: by("Service", "web", port0, nodePort("30080/TCP")), Instead: 30007},
			"spec.ports[0].nodePort: 30080/TCP is held by Service default/web (spec.ports[0].nodePort) on every node; choose another nodePort (30007 is free), or leave it out to get a free one (PC0201)"},
		{check.Finding{Code: check.ForeignPool, Case: check.NumberOfOthers, Field: port0, Detail: check.PoolObjection{Err: objection}, Holder: thePool},
			"spec.ports[0].nodePort: 30100 belongs to PortPool a (namespaces team=a); namespace default may use PortPool b 30200-30299, next free 30200 (PC0307)"},
		{check.Finding{Code: check.ForeignPool, Case: check.NumberOfDraining, Field: port0, Detail: check.PoolObjection{Err: objection, Chosen: true}, Holder: thePool},
			"spec.ports[0].nodePort: 30100 belongs to PortPool a (namespaces team=a); if you named none, create the Service again to get another, or namespace default may use PortPool b 30200-30299, next free 30200 (PC0307)"},
		{check.Finding{Code: check.PoolLimit, Field: port0, Detail: check.PoolObjection{Err: errors.New("PortPool a gives a Service at most 1 number; free some")}, Holder: thePool},
			"spec.ports[0].nodePort: PortPool a gives a Service at most 1 number; free some (PC0308)"},
		{check.Finding{Code: check.PoolExhausted, Field: port0, Detail: check.PoolObjection{Err: errors.New("PortPool a has 0 of 1 wanted number; free some")}, Holder: thePool, Standing: true},
			"spec.ports[0].nodePort: PortPool a has 0 of 1 wanted number; free some; already the case before this change; not blocked (PC0309)"},
		{service(check.NoNodePorts, port0, nil, nodePort("30080/TCP")),
			"spec.ports[0].nodePort: PortPolicy base allows Services of namespace shop no nodePort; make the type ClusterIP, or expose it by an Ingress or a Gateway (PC0310)"},
		{service(check.NoNodePorts, health, nil, claim(ports.HealthCheckNodePort, "*:30081/TCP", ports.EverywhereScope())),
			"spec.healthCheckNodePort: PortPolicy base allows Services of namespace shop no healthCheckNodePort; make externalTrafficPolicy Cluster (PC0310)"},
		{service(check.NumberNotAllowed, port0, check.AllowedPorts{Ports: "30000-30010"}, nodePort("30080/TCP")),
			"spec.ports[0].nodePort: 30080 is not in 30000-30010, which is what PortPolicy base allows; choose a number of these (PC0310)"},
		{service(check.NumberOfNoPool, port0, check.ServingPool{Name: "a"}, nodePort("30080/TCP")),
			"spec.ports[0].nodePort: 30080 is of no PortPool that serves this Service, and PortPolicy base allows no other; choose a number of PortPool a, or leave nodePort out to get one (PC0310)"},
		{service(check.NumberOfNoPool, port0, nil, nodePort("30080/TCP")),
			"spec.ports[0].nodePort: 30080 is of no PortPool that serves this Service, and PortPolicy base allows no other; have a PortPool select namespace shop (PC0310)"},
		{service(check.NumberOfNoPool, port0, check.MissingPort{Key: "80"}, ports.Claim{Kind: ports.NodePort}),
			"spec.ports[0].nodePort: no PortPool gives this Service a nodePort, and PortPolicy base allows no other; have a PortPool select namespace shop (PC0310)"},
		{service(check.NumberWritten, port0, nil, nodePort("30080/TCP")),
			"spec.ports[0].nodePort: PortPolicy base lets nobody of namespace shop choose a number, and 30080 was written; leave nodePort out to get one (PC0310)"},
		{service(check.LoadBalancerNumber, "spec.allocateLoadBalancerNodePorts", nil, ports.Claim{}),
			"spec.allocateLoadBalancerNodePorts: PortPolicy base allows load balancers of namespace shop no node ports; set it to false (PC0310)"},
		{service(check.LoadBalancerNumber, port0, nil, ports.Claim{}),
			"spec.ports[0].nodePort: PortPolicy base allows load balancers of namespace shop no node ports; remove nodePort from each port (PC0310)"},
		{hosted(check.NoHostPorts, nil, hostPort("80/TCP")),
			"spec.containers[0].ports[0].hostPort: PortPolicy base allows pods of namespace shop no host ports, and this is 80/TCP; remove hostPort, and expose the pod by a Service (PC0311)"},
		{hosted(check.NoHostPorts, nil, process),
			"spec.containers[0].ports[0].hostPort: PortPolicy base allows pods of namespace shop no host ports, and this is 80/TCP; leave the host network, and expose the pod by a Service (PC0311)"},
		{hosted(check.SocketNotAllowed, check.AllowedPorts{Ports: "8080-8089/TCP, 9100 on 127.0.0.1"}, hostPort("80/TCP")),
			"spec.containers[0].ports[0].hostPort: 80/TCP is not among the host ports that PortPolicy base allows: 8080-8089/TCP, 9100 on 127.0.0.1; choose a hostPort among these (PC0311)"},
		{hosted(check.SocketNotAllowed, check.AllowedPorts{Ports: "9100 on 127.0.0.1"}, claim(ports.HostPort, "10.0.0.1:9100/TCP", ports.Scope{})),
			"spec.containers[0].ports[0].hostPort: 10.0.0.1:9100/TCP is not among the host ports that PortPolicy base allows: 9100 on 127.0.0.1; choose a hostPort among these (PC0311)"},
		{hosted(check.NoHostNetwork, nil, ports.Claim{}),
			"spec.containers[0].ports[0].hostPort: PortPolicy base allows pods of namespace shop no host network; remove hostNetwork, and expose the pod by a Service (PC0311)"},
		{hosted(check.InRangeForbidden, check.PortRange{Range: ports.MustParseRange("30000-32767")}, hostPort("30080/TCP")),
			"spec.containers[0].ports[0].hostPort: 30080 is inside the node port range 30000-32767, where PortPolicy base allows no host port; choose a hostPort outside it (PC0311)"},
		{reserved(check.ReservedAll, "runs from systemd"),
			"spec.containers[0].ports[0].hostPort: 80/TCP is reserved for proxy on every node by PortPolicy base (runs from systemd); choose another hostPort, or expose the pod by a Service (PC0312)"},
		{reserved(check.ReservedAll, "", "n1", "n2"),
			"spec.containers[0].ports[0].hostPort: 80/TCP is reserved for proxy on nodes n1, n2, all eligible nodes, by PortPolicy base; choose another hostPort, or expose the pod by a Service (PC0312)"},
		{reserved(check.ReservedThere, "", "n1"),
			"spec.containers[0].ports[0].hostPort: 80/TCP is reserved for proxy on node n1 by PortPolicy base; choose another hostPort, or expose the pod by a Service (PC0312)"},
		{reserved(check.ReservedLater, ""),
			"spec.containers[0].ports[0].hostPort: 80/TCP is reserved for proxy on the nodes that it selects, of which there is none yet, by PortPolicy base; choose another hostPort, or expose the pod by a Service (PC0312)"},
		{reserved(check.ReservedMaybe, ""),
			"spec.containers[0].ports[0].hostPort: 80/TCP is reserved for proxy on nodes of which one may come, as none suits yet, by PortPolicy base; choose another hostPort, or expose the pod by a Service (PC0312)"},
		{external(check.NoExternalIPs),
			"spec.externalIPs[0]: PortPolicy base allows Services of namespace shop no external IP, and this is 10.0.0.1; remove it, or expose the Service by a LoadBalancer, an Ingress or a Gateway (PC0315)"},
		{external(check.NoNodesExternalIP, "n1"),
			"spec.externalIPs[0]: 10.0.0.1 is an address of node n1, and PortPolicy base allows Services of namespace shop none of a node; choose an address of no node, or expose the Service by a LoadBalancer, an Ingress or a Gateway (PC0315)"},
		{check.Finding{Code: check.ExceptionEnds, Case: check.EndsSoon, Field: port0, Detail: check.ExceptionEnd{Name: "edge", Ends: ends}, Holder: policy},
			"spec.ports[0].nodePort: passes PortPolicy base by the exception edge alone, which ends at 2026-06-15T00:00:00Z; comply with the policy, or have the exception prolonged (PC0313)"},
		{check.Finding{Code: check.ExceptionEnds, Case: check.HasEnded, Field: port0, Detail: check.ExceptionEnd{Name: "edge", Ends: ends}, Holder: policy},
			"spec.ports[0].nodePort: passed PortPolicy base by the exception edge, which ended at 2026-06-15T00:00:00Z; comply with the policy, or have the exception prolonged (PC0313)"},
	}
}

// TestRemarks: what the owner of a policy adds stands behind the way out; where there is no room for all of it, as much as is
// of use.
func TestRemarks(t *testing.T) {
	f := check.Finding{
		Code: check.PolicyNodePort, Case: check.NoNodePorts, Object: ports.Ref{Namespace: "shop"}, Field: "spec.ports[0].nodePort",
		Claim: nodePort("30080/TCP"), Holder: &check.Holder{Ref: ports.Ref{Kind: "PortPolicy", Name: "base"}},
	}
	const whole = "PortPolicy base allows Services of namespace shop no nodePort; make the type ClusterIP, or expose it by an Ingress or a Gateway"
	long := strings.Repeat("ä", 200)
	for _, c := range []struct{ remark, field, want string }{
		{"", f.Field, whole + " (PC0310)"},
		{"ask the net team", f.Field, whole + "; ask the net team (PC0310)"},
		{"two\nlines", f.Field, whole + "; two\\nlines (PC0310)"},
		{strings.Repeat("b", 100), f.Field, "PortPolicy base allows Services of namespace shop no nodePort; make the type ClusterIP; " + strings.Repeat("b", 100) + " (PC0310)"},
		{long, f.Field, whole + "; " + long[:2*(256-24-len(whole+"; "+" (PC0310)")-1)] + "… (PC0310)"},
		{long, strings.Repeat("f", 100), whole + " (PC0310)"},
	} {
		f.Remark, f.Field = c.remark, c.field
		if got := report.Message(f); got != c.want {
			t.Errorf("%q\ngot  %s\nwant %s", c.remark, got, c.want)
		}
	}
}
