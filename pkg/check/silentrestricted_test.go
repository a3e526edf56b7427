package check_test

import "github.com/portcullis-k8s/portcullis/pkg/check"

// silentRestricted: what pools and policies must not be told to mind.
func silentRestricted() map[check.Code][]scene {
	return map[check.Code][]scene{
		check.PoolLimit: silentLimits(), check.ExceptionEnds: silentExceptions(),
		check.ForeignPool: {
			{why: "its own pool", pools: []string{"a 30100-30199 ns=a deny"}, now: "Service a NodePort 80:30100/TCP"},
			{why: "no pool's number", pools: []string{"b 30100-30199 ns=b deny"}, now: "Service a NodePort 80:30099/TCP"},
			{why: "a pool that shares", pools: []string{"b 30100-30199 ns=b shared deny"}, now: "Service a NodePort 80:30100/TCP"},
			{why: "a pool that is disabled", pools: []string{"b 30100-30199 ns=b disabled deny"}, now: "Service a NodePort 80:30100/TCP"},
			{why: "kept of a pool that is draining", pools: []string{"a 30100-30199 draining deny"}, old: "Service a NodePort 80:30100/TCP", now: "Service a NodePort 80:30100/TCP"},
			{why: "kept of it for another port", pools: []string{"a 30100-30199 draining deny"}, old: "Service a NodePort 80:30100/TCP", now: "Service a NodePort 81:30100/TCP"},
			{why: "a port of the cluster IP", pools: []string{"b 30100-30199 ns=b deny"}, now: "Service a NodePort 30100:30000/TCP"},
			{why: "a host port and a pool of node ports", pools: []string{"b 30100-30199 ns=b deny"}, now: "Pod a: hostPort * 30100/TCP @?"},
			{why: "a node port and a pool of host ports", pools: []string{"b 30000-30099 host ns=b deny"}, now: "Service a NodePort 80:30000/TCP"},
			{why: "given up", pools: []string{"b 30100-30199 ns=b deny"}, old: "Service a NodePort 80:30100/TCP", now: "Service a NodePort 80:30000/TCP"},
		},
		check.PolicyNodePort: {
			{why: "another namespace's policy", policies: []string{"p deny ns=b nodePorts=Forbidden noWritten noLoadBalancers"}, now: "Service a LoadBalancer 80:30000/TCP"},
			{why: "no node ports", policies: []string{"p deny nodePorts=Forbidden noLoadBalancers"}, now: "Service a ClusterIP 80/TCP"},
			{why: "a load balancer without", policies: []string{"p deny nodePorts=Forbidden noLoadBalancers"}, now: "Service a LoadBalancer 80/TCP unallocated"},
			{why: "allowed", policies: []string{"p deny nodePorts=Restricted:30000-30010"}, now: "Service a LoadBalancer 80:30000/TCP health:30010"},
			{why: "one that is left out may turn out allowed", policies: []string{"p deny nodePorts=Restricted:30000-30010"}, now: "Service a NodePort 80/TCP"},
			{why: "of the pool", policies: []string{"p deny nodePorts=PoolOnly"}, pools: []string{"a 30000-30010"}, now: "Service a LoadBalancer 80:30000/TCP health:30010"},
			{why: "to be given by the pool", policies: []string{"p deny nodePorts=PoolOnly"}, pools: []string{"a 30000-30010"}, now: "Service a NodePort 80/TCP"},
			{why: "kept, though the pool is explicit", policies: []string{"p deny nodePorts=PoolOnly"}, pools: []string{"a 30000-30010 explicit"},
				old: "Service a NodePort x=80:30000/TCP", now: "Service a NodePort x=81/TCP"},
			{why: "requested from an explicit pool", policies: []string{"p deny nodePorts=PoolOnly"}, pools: []string{"a 30000-30010 explicit"}, now: "Service a NodePort 80:30000/TCP"},
			{why: "chosen by the API server", policies: []string{"p deny noWritten"}, now: "Service a NodePort 80:30000/TCP chosen"},
			{why: "written, but the one that it has", policies: []string{"p deny noWritten"}, old: "Service a NodePort 80:30000/TCP", now: "Service a NodePort 81:30000/UDP"},
			{why: "NodePort is no load balancer", policies: []string{"p deny noLoadBalancers"}, now: "Service a NodePort 80:30000/TCP"},
			{why: "pods are not meant", policies: []string{"p deny nodePorts=Forbidden"}, now: "Pod a: hostPort * 80/TCP @?"},
		},
		check.PolicyHostPort: {
			{why: "another namespace's policy", policies: []string{"p deny ns=b hostPorts=Forbidden noHostNetwork noRange"}, now: "Pod a hostNetwork main: hostNetwork * 80/TCP @n1"},
			{why: "allowed, with its protocol", policies: []string{"p deny hostPorts=Restricted:80-81/TCP+UDP"}, now: "Pod a: hostPort * 80/TCP @?; hostPort 10.0.0.1 81/UDP @?"},
			{why: "allowed on an address, in any spelling", policies: []string{"p deny hostPorts=Restricted:80@::1+127.0.0.1"}, now: "Pod a: hostPort 0:0:0:0:0:0:0:1 80/TCP @?; hostPort ::ffff:127.0.0.1 80/UDP @?"},
			{why: "one address of a family that is allowed", policies: []string{"p deny hostPorts=Restricted:80@0.0.0.0"}, now: "Pod a: hostPort 10.0.0.1 80/TCP @?"},
			{why: "both families, each by another line", policies: []string{"p deny hostPorts=Restricted:80@0.0.0.0|80@::"}, now: "Pod a: hostPort * 80/TCP @?"},
			{why: "no ports", policies: []string{"p deny hostPorts=Forbidden noHostNetwork noRange"}, now: "Deployment a:"},
			{why: "the host network, where ports are restricted", policies: []string{"p deny hostPorts=Restricted:80"}, now: "Pod a hostNetwork main: hostNetwork * 80/TCP @n1"},
			{why: "Services are not meant", policies: []string{"p deny hostPorts=Forbidden noRange"}, now: "Service a NodePort 80:30000/TCP"},
		},
		check.PolicyExternalIP: {
			{why: "another namespace's policy", policies: []string{"p deny ns=b externalIPs=Forbidden"}, now: "Service a ClusterIP 80/TCP ip:10.0.0.1"},
			{why: "any is allowed", policies: []string{"p deny externalIPs=Allowed nodePorts=Forbidden"}, now: "Service a ClusterIP 80/TCP ip:10.0.0.1"},
			{why: "of no node", policies: []string{"p deny externalIPs=NodeAddressesForbidden"}, now: "Service a ClusterIP 80/TCP ip:192.0.2.1"},
			{why: "a load balancer's address", policies: []string{"p deny externalIPs=Forbidden"}, now: "Service a LoadBalancer 80:30000/TCP lb:10.0.0.1"},
			{why: "excepted", policies: []string{"p deny externalIPs=Forbidden except=x:app=edge"}, now: "Service a ClusterIP 80/TCP ip:10.0.0.1 label:app=edge"},
			{why: "pods are not meant", policies: []string{"p deny externalIPs=Forbidden"}, now: "Pod a: hostPort 10.0.0.1 80/TCP @n1"},
		},
		check.PolicyReserved: {
			{why: "another node", policies: []string{"p deny reserved=proxy:80/TCP:zone=a"}, now: "Pod a: hostPort * 80/TCP @n2"},
			{why: "the scheduler finds another", policies: []string{"p deny reserved=proxy:80/TCP:zone=a"}, now: "Pod a on n1,n2: hostPort * 80/TCP @?"},
			{why: "the nodes are not known", policies: []string{"p deny reserved=proxy:80/TCP:zone=a"}, now: "Deployment a: hostPort * 80/TCP @?"},
			{why: "an external IP of another node", policies: []string{"p deny reserved=proxy:80/TCP:zone=a"}, now: "Service a ClusterIP 80/TCP ip:10.0.0.2"},
			{why: "an external IP of no node", policies: []string{"p deny reserved=proxy:80/TCP:*"}, now: "Service a ClusterIP 80/TCP ip:192.0.2.1"},
			{why: "a nodePort", policies: []string{"p deny reserved=proxy:30000/TCP:*"}, now: "Service a NodePort 80:30000/TCP"},
			{why: "no node suits, and what it says of nodes is not known", policies: []string{"p deny reserved=proxy:80/TCP:zone=a"}, now: "DaemonSet a on none: hostPort * 80/TCP @{}"},
			{why: "no node suits, and none that is selected ever will", policies: []string{"p deny reserved=proxy:80/TCP:zone=a"}, overlap: "none", now: "Deployment a on none: hostPort * 80/TCP @?"},
			{why: "a node suits that is not selected", policies: []string{"p deny reserved=proxy:80/TCP:zone=a"}, overlap: "some", now: "Deployment a on n1,n2: hostPort * 80/TCP @?"},
			{why: "the nodes are not known, whatever it says of them", policies: []string{"p deny reserved=proxy:80/TCP:zone=a"}, overlap: "all", now: "Deployment a: hostPort * 80/TCP @?"},
			{why: "another protocol", policies: []string{"p deny reserved=proxy:80/TCP:*"}, now: "Pod a: hostPort * 80/UDP @?"},
			{why: "another address", policies: []string{"p deny reserved=proxy:80/TCP@127.0.0.1:*"}, now: "Pod a: hostPort 10.0.0.1 80/TCP @?"},
			{why: "for a moment", policies: []string{"p deny reserved=proxy:80/TCP:*"}, now: "Pod a: hostPort,init * 80/TCP @?"},
			{why: "excepted", policies: []string{"p deny reserved=proxy:80/TCP:* except=x:app=edge"}, now: "Pod a labelled app=edge: hostPort * 80/TCP @?"},
		},
	}
}

func silentLimits() []scene {
	two, hosted := []string{"a 30100-30199 perService=2 perNamespace=3 deny"}, []string{"a 7000-7009 host perNamespace=1 deny"}
	return []scene{
		{why: "as many as there may be", pools: two, held: []string{"Service b NodePort 80:30103/TCP"}, now: "Service a NodePort 80:30100/TCP 81:30101/TCP"},
		{why: "numbers are counted, not entries", pools: two, now: "Service a NodePort 53:30100/TCP 53:30100/UDP 80:30101/TCP"},
		{why: "numbers of no pool do not count", pools: two, now: "Service a NodePort 80:30000/TCP 81:30001/TCP 82:30002/TCP 83:30003/TCP"},
		{why: "too many already, and none more", pools: two, old: "Service a NodePort 80:30100/TCP 81:30101/TCP 82:30102/TCP 83:30103/TCP",
			now: "Service a NodePort 80:30100/TCP 81:30101/TCP 82:30102/TCP"},
		{why: "a pool of others", pools: []string{"b 30100-30199 ns=b shared perService=1 deny"}, now: "Service a NodePort 80:30100/TCP 81:30101/TCP"},
		{why: "the same host port on another node", pools: hosted, held: []string{"Pod b: hostPort * 7000/TCP @n1"}, now: "Pod a: hostPort * 7000/TCP @n2"},
		{why: "a host port for two protocols", pools: hosted, now: "Pod a: hostPort * 7000/TCP @n1; hostPort * 7000/UDP @n1"},
		{why: "a host port of no pool", pools: hosted, held: []string{"Pod b: hostPort * 7000/TCP @n1"}, now: "Pod a: hostPort * 8000/TCP @n1"},
		{why: "another one holds nothing", pools: hosted, held: []string{"Deployment b: hostPort,idle * 7000/TCP @?"}, now: "Pod a: hostPort * 7001/TCP @n1"},
		{why: "its old pods give way", pools: hosted, held: []string{"Pod b < Deployment a: hostPort * 7000/TCP @n1"}, old: "Deployment a: hostPort * 7000/TCP @?", now: "Deployment a: hostPort * 7001/TCP @?"},
		{why: "host ports that it had", pools: hosted, old: "Deployment a: hostPort * 7000/TCP @?; hostPort * 7001/TCP @?", now: "Deployment a: hostPort * 7000/TCP @?; hostPort * 7001/TCP @?; hostPort * 9000/TCP @?"},
		{why: "a pool that is disabled", pools: []string{"a 30100-30199 disabled perService=1 deny"}, now: "Service a NodePort 80:30100/TCP 81:30101/TCP"},
	}
}

func silentExceptions() []scene {
	return []scene{
		{why: "more than a fortnight", policies: []string{"p deny nodePorts=Forbidden except=x:app=edge:15"}, now: "Service a NodePort 80:30000/TCP label:app=edge"},
		{why: "no end", policies: []string{"p deny nodePorts=Forbidden except=x:app=edge except=y:app=edge:1"}, now: "Service a NodePort 80:30000/TCP label:app=edge"},
		{why: "not needed", policies: []string{"p deny nodePorts=Forbidden except=x:app=edge:1"}, now: "Service a ClusterIP 80/TCP label:app=edge"},
		{why: "ended, and not needed any more", policies: []string{"p deny hostPorts=Restricted:80 except=x:ns.team=a:-1"}, now: "Pod a: hostPort * 80/TCP @?"},
	}
}
