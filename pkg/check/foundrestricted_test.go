package check_test

import (
	"fmt"
	"slices"
	"strings"

	"github.com/portcullis-k8s/portcullis/pkg/check"
)

// foundRestricted: what pools and policies ask.
func foundRestricted() map[check.Code][]scene {
	return map[check.Code][]scene{
		check.ForeignPool:      foundForeign(),
		check.PoolLimit:        foundLimits(),
		check.PolicyNodePort:   foundNodePortPolicies(),
		check.PolicyHostPort:   foundHostPortPolicies(),
		check.PolicyReserved:   foundReserved(),
		check.PolicyExternalIP: foundExternalIPs(),
		check.ExceptionEnds:    foundExceptions(),
	}
}

func foundForeign() []scene {
	others, mine := []string{"b 30100-30199 ns=b deny"}, []string{"a 30100-30199 draining warn"}
	const (
		foreign  = "PC0307 warning Deny spec.ports[0].nodePort (the pool serves others) < PortPool b"
		draining = "PC0307 warning Warn spec.ports[0].nodePort (the pool is draining) < PortPool a"
	)
	return []scene{
		{why: "a number of others", pools: others, now: "Service a NodePort 80:30100/TCP", want: []string{foreign}},
		{why: "that the API server chose", pools: others, now: "Service a NodePort 80:30100/TCP chosen", want: []string{foreign}},
		{why: "by default it is recorded", pools: []string{"b 30100-30199 ns=b"}, now: "Service a NodePort 80:30100/TCP",
			want: []string{"PC0307 warning Audit spec.ports[0].nodePort (the pool serves others) < PortPool b"}},
		{why: "a health check", pools: others, now: "Service a LoadBalancer 80:30080/TCP health:30100",
			want: []string{"PC0307 warning Deny spec.healthCheckNodePort (the pool serves others) < PortPool b"}},
		{why: "newly taken by an update", pools: others, old: "Service a NodePort 80:30080/TCP", now: "Service a NodePort 80:30100/TCP", want: []string{foreign}},
		{why: "held since before", pools: others, old: "Service a NodePort 80:30100/TCP", now: "Service a NodePort 80:30100/TCP 81/TCP",
			want: []string{"PC0307 warning Deny standing spec.ports[0].nodePort (the pool serves others) < PortPool b"}},
		{why: "held since before, for another protocol", pools: others, old: "Service a NodePort 80:30100/TCP", now: "Service a NodePort 80:30100/UDP",
			want: []string{"PC0307 warning Deny standing spec.ports[0].nodePort (the pool serves others) < PortPool b"}},
		{why: "both entries of DNS are to be changed", pools: others, now: "Service a NodePort 53:30100/TCP 53:30100/UDP", want: []string{
			foreign, "PC0307 warning Deny spec.ports[1].nodePort (the pool serves others) < PortPool b",
		}},
		{why: "a draining pool of its own", pools: mine, now: "Service a NodePort 80:30100/TCP", want: []string{draining}},
		{why: "and beside what it has of it", pools: mine, old: "Service a NodePort 81:30101/TCP", now: "Service a NodePort 80:30100/TCP 81:30101/TCP", want: []string{draining}},
		{why: "a host port of others", pools: []string{"b 7000-7099 host ns=b deny"}, now: "Pod a: hostPort * 7000/TCP @?",
			want: []string{"PC0307 warning Deny ports[0].hostPort (the pool serves others) < PortPool b"}},
	}
}

func foundLimits() []scene {
	two, hosted := []string{"a 30100-30199 perService=2 deny"}, []string{"a 7000-7009 host perNamespace=1 deny"}
	const limit = "PC0308 warning Deny spec.ports[0].nodePort < PortPool a"
	return []scene{
		{why: "three of one Service", pools: two, now: "Service a NodePort 80:30100/TCP 81:30101/TCP 82:30102/TCP", want: []string{limit}},
		{why: "a third one by an update", pools: two, old: "Service a NodePort 80:30100/TCP 81:30101/TCP",
			now: "Service a NodePort 80:30100/TCP 81:30101/TCP 82:30102/TCP", want: []string{"PC0308 warning Deny spec.ports[2].nodePort < PortPool a"}},
		{why: "the health check counts", pools: two, now: "Service a LoadBalancer 80:30100/TCP 81:30101/TCP health:30102", want: []string{limit}},
		{why: "one more than the limit that was lowered", pools: two, old: "Service a NodePort 80:30100/TCP 81:30101/TCP 82:30102/TCP",
			now: "Service a NodePort 80:30100/TCP 81:30101/TCP 82:30102/TCP 83:30103/TCP", want: []string{"PC0308 warning Deny spec.ports[3].nodePort < PortPool a"}},
		{why: "with the others of the namespace", pools: []string{"a 30100-30199 perNamespace=2 warn"}, held: []string{"Service b NodePort 80:30100/TCP 81:30101/TCP"},
			now: "Service a NodePort 80:30102/TCP", want: []string{"PC0308 warning Warn spec.ports[0].nodePort < PortPool a"}},
		{why: "a host port that is written", pools: hosted, held: []string{"Pod b: hostPort * 7000/TCP @n1"}, now: "Pod a: hostPort * 7001/TCP @n2",
			want: []string{"PC0308 warning Deny ports[0].hostPort < PortPool a"}},
		{why: "two host ports of one template", pools: hosted, now: "Deployment a: hostPort * 9000/TCP @?; hostPort * 7000/TCP @?; hostPort * 7001/TCP @?",
			want: []string{"PC0308 warning Deny ports[1].hostPort < PortPool a"}},
		{why: "another host port by an update", pools: hosted, old: "Deployment a: hostPort * 7000/TCP @?", now: "Deployment a: hostPort * 7000/TCP @?; hostPort * 7001/TCP @?",
			want: []string{"PC0308 warning Deny ports[1].hostPort < PortPool a"}},
		{why: "a template that was idle", pools: hosted, held: []string{"Pod b: hostPort * 7000/TCP @n1"},
			old: "Deployment a: hostPort,idle * 7001/TCP @?", now: "Deployment a: hostPort * 7001/TCP @?", want: []string{"PC0308 warning Deny ports[0].hostPort < PortPool a"}},
	}
}

func foundNodePortPolicies() []scene {
	policy := func(named check.Case, fields ...string) []string {
		var want []string
		for _, field := range fields {
			want = append(want, fmt.Sprintf("PC0310 warning Deny %s (%s) < PortPolicy p", field, named))
		}
		return want
	}
	const port0, port1, health = "spec.ports[0].nodePort", "spec.ports[1].nodePort", "spec.healthCheckNodePort"
	forbidden, only := []string{"p deny nodePorts=Forbidden"}, []string{"p deny nodePorts=Restricted:30000-30010"}
	poolOnly, written := []string{"p deny nodePorts=PoolOnly"}, []string{"p deny noWritten"}
	balancers := []string{"p deny noLoadBalancers"}
	return []scene{
		{why: "none", policies: forbidden, now: "Service a NodePort 80:30000/TCP", want: policy(check.NoNodePorts, port0)},
		{why: "one that will be given", policies: forbidden, now: "Service a NodePort 80/TCP 53:30000/TCP", want: policy(check.NoNodePorts, port0, port1)},
		{why: "a health check that will be given", policies: forbidden, now: "Service a LoadBalancer 80/TCP unallocated policy:Local", want: policy(check.NoNodePorts, health)},
		{why: "outside what is allowed", policies: only, now: "Service a LoadBalancer 80:30000/TCP 81:30011/TCP health:30012", want: slices.Concat(
			policy(check.NumberNotAllowed, health), policy(check.NumberNotAllowed, port1))},
		{why: "no pool at all", policies: poolOnly, now: "Service a NodePort 80:30100/TCP", want: policy(check.NumberOfNoPool, port0)},
		{why: "outside the pool", policies: poolOnly, pools: []string{"a 30100-30199"}, now: "Service a NodePort 80:30099/TCP", want: policy(check.NumberOfNoPool, port0)},
		{why: "to be given by no pool", policies: poolOnly, pools: []string{"b 30100-30199 ns=b"}, now: "Service a NodePort 80/TCP", want: policy(check.NumberOfNoPool, port0)},
		{why: "nor by one that only takes requests", policies: poolOnly, pools: []string{"a 30100-30199 explicit"}, now: "Service a NodePort 80/TCP", want: policy(check.NumberOfNoPool, port0)},
		{why: "written", policies: written, now: "Service a NodePort 80:30100/TCP", want: policy(check.NumberWritten, port0)},
		{why: "written in an update", policies: written, old: "Service a NodePort 80:30100/TCP 81:30101/TCP", now: "Service a NodePort 80:30100/TCP 81:30102/TCP",
			want: policy(check.NumberWritten, port1)},
		{why: "a load balancer", policies: balancers, now: "Service a LoadBalancer 80/TCP", want: policy(check.LoadBalancerNumber, "spec.allocateLoadBalancerNodePorts")},
		{why: "a load balancer that names its numbers", policies: balancers, now: "Service a LoadBalancer 80:30100/TCP unallocated", want: policy(check.LoadBalancerNumber, port0)},
		{why: "the stricter of two policies", policies: []string{"o nodePorts=Forbidden", "p deny nodePorts=Forbidden", "q warn nodePorts=Forbidden"},
			now: "Service a NodePort 80:30000/TCP", want: policy(check.NoNodePorts, port0)},
		{why: "what stood before", policies: forbidden, old: "Service a NodePort 80:30000/TCP", now: "Service a NodePort 80:30000/TCP 81:30001/TCP", want: []string{
			"PC0310 warning Deny standing spec.ports[0].nodePort (no node port is allowed) < PortPolicy p",
			"PC0310 warning Deny spec.ports[1].nodePort (no node port is allowed) < PortPolicy p",
		}},
		{why: "the label that made it an exception is taken away", policies: []string{"p deny nodePorts=Forbidden except=x:app=edge"},
			old: "Service a NodePort 80:30000/TCP label:app=edge", now: "Service a NodePort 80:30000/TCP", want: policy(check.NoNodePorts, port0)},
	}
}

func foundHostPortPolicies() []scene {
	policy := func(named check.Case, field string) string {
		return fmt.Sprintf("PC0311 warning Deny %s (%s) < PortPolicy p", field, named)
	}
	forbidden, only := []string{"p deny hostPorts=Forbidden"}, []string{"p deny hostPorts=Restricted:8080-8089/TCP|9100@127.0.0.1+::1|7000@0.0.0.0"}
	const port0 = "ports[0].hostPort"
	return []scene{
		{why: "none", policies: forbidden, now: "Pod a: hostPort * 80/TCP @?", want: []string{policy(check.NoHostPorts, port0)}},
		{why: "not even for a moment", policies: forbidden, now: "Deployment a: hostPort,init * 80/TCP @?", want: []string{policy(check.NoHostPorts, port0)}},
		{why: "another number, another protocol", policies: only, now: "Pod a: hostPort * 8090/TCP @?; hostPort * 8080/UDP @?; hostPort * 8080/TCP @?",
			want: []string{policy(check.SocketNotAllowed, port0), policy(check.SocketNotAllowed, "ports[1].hostPort")}},
		{why: "more than loopback", policies: only, now: "Pod a: hostPort * 9100/TCP @?; hostPort 10.0.0.1 9100/UDP @?; hostPort ::1 9100/SCTP @?",
			want: []string{policy(check.SocketNotAllowed, port0), policy(check.SocketNotAllowed, "ports[1].hostPort")}},
		{why: "both families where one is allowed", policies: only, now: "Pod a: hostPort * 7000/TCP @?", want: []string{policy(check.SocketNotAllowed, port0)}},
		{why: "the host network", policies: []string{"p deny noHostNetwork"}, now: "Deployment a hostNetwork main: hostNetwork * 80/TCP @?",
			want: []string{policy(check.NoHostNetwork, "hostNetwork")}},
		{why: "a number on the host network", policies: only, now: "DaemonSet a hostNetwork main: hostNetwork * 80/TCP @every",
			want: []string{policy(check.SocketNotAllowed, "ports[0].hostNetwork")}},
		{why: "inside the node port range: not as a remark beside it", policies: []string{"p deny noRange"}, now: "Pod a: hostPort * 30500/TCP @?",
			want: []string{policy(check.InRangeForbidden, port0)}},
		{why: "what stood before", policies: forbidden, old: "Deployment a: hostPort * 80/TCP @?", now: "Deployment a: hostPort * 80/TCP @?; hostPort * 81/TCP @?",
			want: []string{"PC0311 warning Deny standing ports[0].hostPort (no host port is allowed) < PortPolicy p", policy(check.NoHostPorts, "ports[1].hostPort")}},
		{why: "what its controller brings", policies: forbidden, held: []string{"Deployment b: hostPort * 80/TCP @?"}, now: "Pod a < Deployment b: hostPort * 80/TCP @?",
			want: []string{"PC0311 warning Deny standing ports[0].hostPort (no host port is allowed) < PortPolicy p"}},
	}
}

func foundReserved() []scene {
	inA, everywhere := []string{"p deny reserved=proxy:80/TCP|443:zone=a"}, []string{"p deny reserved=exporter:9100/TCP@127.0.0.1:*"}
	there := func(nodes string) []string {
		return []string{"PC0312 warning Deny ports[0].hostPort (reserved on a node that it takes) < PortPolicy p  on " + nodes}
	}
	const all = "PC0312 warning Deny ports[0].hostPort (reserved on all eligible nodes) < PortPolicy p"
	return []scene{
		{why: "pinned", policies: inA, now: "Pod a: hostPort * 80/TCP @n1", want: there("n1")},
		{why: "a DaemonSet takes the node among its nodes", policies: inA, now: "DaemonSet a on n1,n2: hostPort * 443/UDP @{n1,n2}", want: there("n1")},
		{why: "a template that names its node", policies: inA, now: "Deployment a: hostPort * 80/TCP @n1", want: there("n1")},
		{why: "nowhere else to go", policies: []string{"p deny reserved=proxy:80/TCP:zone=b"}, now: "Deployment a on n2,n3: hostPort * 80/TCP @?", want: []string{all + "  on n2,n3 of 2"}},
		{why: "on every node, whichever there are", policies: everywhere, now: "Pod a: hostPort * 9100/TCP @?", want: []string{all}},
		{why: "a DaemonSet, the nodes not known", policies: everywhere, now: "DaemonSet a: hostPort 127.0.0.1 9100/TCP @every", want: []string{all}},
		{why: "on the host network", policies: everywhere, now: "Pod a hostNetwork main: hostNetwork * 9100/TCP @n2",
			want: []string{"PC0312 warning Deny ports[0].hostNetwork (reserved on a node that it takes) < PortPolicy p  on n2"}},
		{why: "no node suits yet", policies: []string{"p deny reserved=proxy:80/TCP:*"}, now: "DaemonSet a on none: hostPort * 80/TCP @{}", want: []string{all}},
		{why: "none suits yet, and only such nodes will", policies: inA, overlap: "all", now: "Deployment a on none: hostPort * 80/TCP @?",
			want: []string{"PC0312 warning Deny ports[0].hostPort (reserved wherever a suitable node comes) < PortPolicy p"}},
		{why: "nor does one a DaemonSet", policies: inA, overlap: "all", now: "DaemonSet a on none: hostPort * 80/TCP @{}",
			want: []string{"PC0312 warning Deny ports[0].hostPort (reserved wherever a suitable node comes) < PortPolicy p"}},
		{why: "none suits yet, and such nodes may", policies: inA, overlap: "some", now: "Deployment a on none: hostPort * 80/TCP @?",
			want: []string{"PC0312 warning Warn ports[0].hostPort (reserved on some nodes that may come) < PortPolicy p"}},
		{why: "what is only audited is not warned about", policies: []string{"p reserved=proxy:80/TCP:zone=a"}, overlap: "some", now: "Deployment a on none: hostPort * 80/TCP @?",
			want: []string{"PC0312 warning Audit ports[0].hostPort (reserved on some nodes that may come) < PortPolicy p"}},
		{why: "an external IP of such a node", policies: inA, now: "Service a ClusterIP 80/TCP ip:10.0.0.1",
			want: []string{"PC0312 warning Deny spec.ports[0].port (reserved on a node that it takes) < PortPolicy p  on n1"}},
		{why: "a load balancer's address of such a node", policies: []string{"p deny reserved=proxy:80/TCP:*"}, now: "Service a LoadBalancer 80:30000/TCP lb:fd00::2",
			want: []string{"PC0312 warning Deny spec.ports[0].port (reserved on a node that it takes) < PortPolicy p  on n2"}},
	}
}

func foundExternalIPs() []scene {
	none, noNodes := []string{"p deny externalIPs=Forbidden"}, []string{"p deny externalIPs=NodeAddressesForbidden"}
	const first = "PC0315 warning Deny spec.externalIPs[0] (no external IP is allowed) < PortPolicy p"
	const nodes1 = "PC0315 warning Deny spec.externalIPs[1] (no external IP of a node is allowed) < PortPolicy p  on n1"
	return []scene{
		{why: "none", policies: none, now: "Service a ClusterIP 80/TCP ip:192.0.2.1", want: []string{first}},
		{why: "each of two", policies: none, now: "Service a NodePort 80:30000/TCP 81:30001/TCP ip:192.0.2.1 ip:10.0.0.1",
			want: []string{first, "PC0315 warning Deny spec.externalIPs[1] (no external IP is allowed) < PortPolicy p"}},
		{why: "a node's", policies: noNodes, now: "Service a ClusterIP 80/TCP ip:192.0.2.1 ip:10.0.0.1", want: []string{nodes1}},
		{why: "a node's by another spelling", policies: noNodes, now: "Service a ClusterIP 80/TCP ip:192.0.2.1 ip:fd00:0:0::1", want: []string{nodes1}},
		{why: "one more", policies: none, old: "Service a ClusterIP 80/TCP ip:192.0.2.1", now: "Service a ClusterIP 80/TCP ip:192.0.2.1 ip:192.0.2.2",
			want: []string{strings.Replace(first, "Deny", "Deny standing", 1), "PC0315 warning Deny spec.externalIPs[1] (no external IP is allowed) < PortPolicy p"}},
		{why: "kept since before, in another place", policies: noNodes, old: "Service a ClusterIP 80/TCP ip:10.0.0.1", now: "Service a ClusterIP 80/TCP ip:192.0.2.1 ip:10.0.0.1",
			want: []string{strings.Replace(nodes1, "Deny", "Deny standing", 1)}},
	}
}

func foundExceptions() []scene {
	const soon, over = "PC0313 warning Warn spec.ports[0].nodePort (the exception ends soon) and %s < PortPolicy p",
		"PC0313 warning Warn spec.ports[0].nodePort (the exception has ended) and %s < PortPolicy p"
	const broken = "PC0310 warning Deny spec.ports[0].nodePort (no node port is allowed) < PortPolicy p"
	return []scene{
		{why: "in a fortnight", policies: []string{"p deny nodePorts=Forbidden except=x:app=edge:14"}, now: "Service a NodePort 80:30000/TCP label:app=edge",
			want: []string{fmt.Sprintf(soon, "2026-06-15T00:00:00Z")}},
		{why: "the one that lasts longest counts", policies: []string{"p deny nodePorts=Forbidden except=w:app=edge:3 except=x:ns.team=a:5 except=y:app=edge:-1"},
			now: "Service a NodePort 80:30000/TCP label:app=edge", want: []string{fmt.Sprintf(soon, "2026-06-06T00:00:00Z")}},
		{why: "now", policies: []string{"p deny nodePorts=Forbidden except=x:ns.team=a:0"}, now: "Service a NodePort 80:30000/TCP",
			want: []string{broken, fmt.Sprintf(over, "2026-06-01T00:00:00Z")}},
		{why: "of a policy that only records it is only recorded", policies: []string{"p nodePorts=Forbidden except=x:ns.team=a:1"}, now: "Service a NodePort 80:30000/TCP",
			want: []string{strings.Replace(fmt.Sprintf(soon, "2026-06-02T00:00:00Z"), "Warn", "Audit", 1)}},
		{why: "for pods", policies: []string{"p warn hostPorts=Forbidden except=x:app=edge:1"}, now: "Deployment a labelled app=edge: hostPort * 80/TCP @?",
			want: []string{"PC0313 warning Warn ports[0].hostPort (the exception ends soon) and 2026-06-02T00:00:00Z < PortPolicy p"}},
	}
}
