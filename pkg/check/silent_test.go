package check_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/portcullis-k8s/portcullis/pkg/check"
)

// silent lists for each code what looks like it and must not be told: nothing at all may be found in these scenes.
func silent() map[check.Code][]scene {
	all := map[check.Code][]scene{
		check.HostIPInvalid: {
			{why: "any spelling of an address", now: "Pod a: hostPort ::FFFF:10.0.0.1 80/TCP @?; hostPort 0:0:0:0:0:0:0:1 81/TCP @?"},
		},
		check.SocketTwice:        silentTwice(),
		check.ServiceSelfClash:   silentSelfClashes(),
		check.NodePortWithoutUse: silentWithoutUse(),
		check.InitContainersMeet: {
			{why: "different numbers", now: "Pod a: hostPort,init * 80/TCP @?; hostPort,init * 81/TCP @?"},
			{why: "an init container has ended when the main one starts", now: "Pod a: hostPort,init * 80/TCP @?; hostPort * 80/TCP @?"},
			{why: "a sidecar's hostPort is never mapped", now: "Pod a: hostPort,sidecar * 80/TCP @?; hostPort,init * 80/TCP @?"},
			{why: "and before a sidecar that comes later", now: "Pod a: hostPort,init * 80/TCP @?; hostPort,sidecar * 80/TCP @?"},
		},
		check.Held:           slices.Concat(silentAddresses(), silentServices(), silentKin(), silentIdle(), silentAnnotated()),
		check.ForeignIP:      silentForeignIPs(),
		check.UndeclaredMeet: silentUndeclared(),
		check.WorkloadsMeet:  append(silentWorkloads(), silentTogether()...),
		check.OutsideRange: {
			{why: "the ends of the range", now: "Service a LoadBalancer 80:30000/TCP health:32767"},
			{why: "a Service port", now: "Service a NodePort 80:30080/TCP ip:198.51.100.7"},
			{why: "a hostPort", now: "Pod a: hostPort * 80/TCP @?"},
			{why: "no number yet", now: "Service a NodePort 80/TCP"},
		},
		check.DaemonSocket: {
			{why: "another protocol", now: "Pod a: hostPort * 22/UDP @?"},
			{why: "another address than the daemon's", now: "Pod a: hostPort 10.0.0.1 10248/TCP @?"},
			{why: "the daemon itself", now: "Pod p trusted hostNetwork main,kube-proxy: hostNetwork * 10256/TCP @n1"},
			{why: "the daemon itself, as a DaemonSet", now: "DaemonSet p trusted hostNetwork kube-proxy: hostNetwork * 10256/TCP @every"},
			{why: "a plain init container", now: "Pod a: hostPort,init * 22/TCP @?"},
			{why: "a node without the daemon", now: "Pod a: hostPort * 10259/TCP @n2"},
			{why: "nodes without the daemon", now: "DaemonSet a on n2,n3: hostPort * 10259/TCP @{n2,n3}"},
			{why: "a workload that has a node without it", now: "Deployment a on n1,n2: hostPort * 10259/TCP @?1{n1,n2}"},
			{why: "a pod whose nodes are not known", now: "Pod a: hostPort * 10259/TCP @?"},
			{why: "an external IP that is a node's without it", now: "Service a ClusterIP 10259/TCP ip:10.0.0.2"},
			{why: "an external IP that is no node's", now: "Service a ClusterIP 22/TCP ip:198.51.100.7"},
			{why: "a ClusterIP", now: "Service a ClusterIP 22/TCP"},
		},
	}
	for _, table := range []map[check.Code][]scene{silentRanges(), silentRollouts(), silentEdits(), silentWiring(), silentInPods(), silentRestricted()} {
		maps.Copy(all, table)
	}
	return all
}

func silentTwice() []scene {
	return []scene{
		{why: "TCP and UDP", now: "Pod a: hostPort * 53/TCP @?; hostPort * 53/UDP @?"},
		{why: "two addresses", now: "Pod a: hostPort 10.0.0.1 80/TCP @?; hostPort 10.0.0.2 80/TCP @?"},
		{why: "two families", now: "Pod a: hostPort 0.0.0.0 80/TCP @?; hostPort :: 80/TCP @?"},
		{why: "an address and the other family's wildcard", now: "Pod a: hostPort 10.0.0.1 80/TCP @?; hostPort :: 80/TCP @?"},
		// Equal containerPorts without hostPort or hostNetwork are no claims at all: pkg/extract's tests.
		{why: "no claims", now: "Deployment a:"},
	}
}

func silentSelfClashes() []scene {
	return []scene{
		{why: "one number for TCP and UDP of one port", now: "Service a NodePort 53:30053/TCP 53:30053/UDP"},
		{why: "numbers that are not chosen yet", now: "Service a NodePort 80/TCP 81/TCP"},
		{why: "one port, two protocols", now: "Service a ClusterIP 53/TCP 53/UDP"},
		{why: "one number for two ports can be reached by an update", old: "Service a NodePort 80:30080/TCP 81/UDP",
			now: "Service a NodePort 80:30080/TCP 81:30080/UDP"},
		{why: "the health check has its own number", now: "Service a LoadBalancer 80:30080/TCP health:30081"},
		{why: "an ExternalName gets no numbers", now: "Service a ExternalName 80/TCP 81/TCP"},
		{why: "entries that are no ports", now: "Service a ClusterIP 0/TCP 0/TCP"},
	}
}

func silentWithoutUse() []scene {
	return []scene{
		{why: "no number", now: "Service a ClusterIP 80/TCP"},
		{why: "NodePort", now: "Service a NodePort 80:30080/TCP"},
		{why: "LoadBalancer", now: "Service a LoadBalancer 80:30080/TCP"},
		{why: "taken out with the type", old: "Service a NodePort 80:30080/TCP", now: "Service a ClusterIP 80/TCP"},
	}
}

func silentAddresses() []scene {
	return []scene{
		{why: "TCP next to UDP", held: []string{"Pod b: hostPort * 53/TCP @n1"}, now: "Pod a: hostPort * 53/UDP @n1"},
		{why: "two addresses", held: []string{"Pod b: hostPort 10.0.0.1 80/TCP @n1"}, now: "Pod a: hostPort 203.0.113.1 80/TCP @n1"},
		{why: "0.0.0.0 next to ::", held: []string{"Pod b: hostPort 0.0.0.0 80/TCP @n1"}, now: "Pod a: hostPort :: 80/TCP @n1"},
		{why: "two nodes", held: []string{"Pod b: hostPort * 80/TCP @n1"}, now: "Pod a: hostPort * 80/TCP @n2"},
		{why: "a pod that has no node yet", held: []string{"Pod b: hostPort * 80/TCP @?"}, now: "Pod a: hostPort * 80/TCP @n1"},
		{why: "::1 is never a nodePort", held: []string{"Service b NodePort 80:30080/TCP"}, now: "Pod a: hostPort ::1 30080/TCP @n1"},
		{why: "a plain init container", held: []string{"Pod b: hostPort,init * 80/TCP @n1"}, now: "Pod a: hostPort * 80/TCP @n1"},
		{why: "a plain init container wants it", held: []string{"Pod b: hostPort * 80/TCP @n1"}, now: "Pod a: hostPort,init * 80/TCP @n1"},
	}
}

func silentForeignIPs() []scene {
	b := []string{"Service b ClusterIP 443/TCP at:10.96.0.7"}
	return []scene{
		{why: "its own cluster IP", now: "Service a ClusterIP 80/TCP at:10.96.0.8 ip:10.96.0.8"},
		{why: "its own, of the range", now: "Service a ClusterIP 80/TCP at:10.97.0.8 ip:10.97.0.8"},
		{why: "of nobody", held: b, now: "Service a ClusterIP 80/TCP ip:10.96.0.9"},
		{why: "a load balancer's address", held: b, now: "Service a LoadBalancer 80/TCP lb:10.96.0.7"},
		{why: "no address at all", held: b, now: "Service a ClusterIP 80/TCP"},
	}
}

func silentServices() []scene {
	return []scene{
		{why: "a Service against itself", held: []string{"Service a NodePort 80:30080/TCP"}, now: "Service a NodePort 80:30080/TCP"},
		{why: "one port on different external IPs", held: []string{"Service b ClusterIP 80/TCP ip:198.51.100.7"}, now: "Service a ClusterIP 80/TCP ip:198.51.100.8"},
		{why: "different ports on one external IP", held: []string{"Service b ClusterIP 80/TCP ip:198.51.100.7"}, now: "Service a ClusterIP 81/TCP ip:198.51.100.7"},
		{why: "TCP and UDP on one external IP", held: []string{"Service b ClusterIP 80/TCP ip:198.51.100.7"}, now: "Service a ClusterIP 80/UDP ip:198.51.100.7"},
		{why: "an external IP that is no node's", held: []string{"Pod b: hostPort * 80/TCP @n1"}, now: "Service a ClusterIP 80/TCP ip:198.51.100.7"},
		{why: "an external IP of another node", held: []string{"Pod b: hostPort * 80/TCP @n1"}, now: "Service a ClusterIP 80/TCP ip:203.0.113.2"},
		{why: "a pod that need not go to the node of the address", held: []string{"Service b ClusterIP 80/TCP ip:203.0.113.2"}, now: "Pod a: hostPort * 80/TCP @?"},
		{why: "a hostPort on the number of a TCP nodePort, for UDP", held: []string{"Service b NodePort 80:30080/TCP"}, now: "Pod a: hostPort * 30080/UDP @?"},
		{why: "a ClusterIP's port", held: []string{"Pod b: hostPort * 80/TCP @n1"}, now: "Service a ClusterIP 80/TCP"},
	}
}

func silentKin() []scene {
	const pod = "Pod a-1-x < ReplicaSet a-1: hostPort * 80/TCP @n1"
	rollout := []string{
		"Deployment a: hostPort * 80/TCP @?", "ReplicaSet a-1 < Deployment a: hostPort * 80/TCP @?",
		"ReplicaSet a-2 < Deployment a: hostPort * 80/TCP @?", pod,
	}
	lb := []string{
		"Service web LoadBalancer 80:30080/TCP lb:10.0.0.1 lb:10.0.0.2",
		"DaemonSet svclb-web < Service web: hostPort * 80/TCP @{n1,n2}",
		"Pod svclb-web-x < DaemonSet svclb-web: hostPort * 80/TCP @n1",
	}
	return []scene{
		{why: "new pods against old ones", held: rollout, now: "Pod a-2-x < ReplicaSet a-2: hostPort * 80/TCP @n1"},
		{why: "a new ReplicaSet against old pods", held: rollout, now: "ReplicaSet a-3 < Deployment a on n1: hostPort * 80/TCP @?"},
		{why: "a Deployment against its pods", held: rollout, old: "Deployment a on n1: hostPort * 80/TCP @?", now: "Deployment a on n1: hostPort * 80/TCP @?"},
		{why: "by what the pod says of its Deployment", held: []string{"Pod a-1-x < ReplicaSet a-1 < Deployment a: hostPort * 80/TCP @n1"},
			now: "Pod a-2-x < ReplicaSet a-2 < Deployment a on n1: hostPort * 80/TCP @?"},
		{why: "a StatefulSet against its pods", held: []string{"Pod a-0 < StatefulSet a: hostPort * 80/TCP @n1"}, now: "StatefulSet a on n1: hostPort * 80/TCP @?"},
		{why: "a StatefulSet's pods against each other", held: []string{"Pod a-0 < StatefulSet a: hostPort * 80/TCP @n1"}, now: "Pod a-1 < StatefulSet a on n1: hostPort * 80/TCP @?"},
		{why: "a DaemonSet's pod that replaces another", held: []string{"DaemonSet a: hostPort * 80/TCP @{n1,n2}", "Pod a-x < DaemonSet a: hostPort * 80/TCP @n1"},
			now: "Pod a-y < DaemonSet a: hostPort * 80/TCP @n1"},
		{why: "a CronJob against its Jobs", held: []string{"Job a-1 < CronJob a: hostPort * 80/TCP @?", "Pod a-1-x < Job a-1: hostPort * 80/TCP @n1"},
			now: "CronJob a on n1: hostPort * 80/TCP @?"},
		{why: "the pods of k3s' load balancer against their Service", held: lb, now: "Pod svclb-web-y < DaemonSet svclb-web: hostPort * 80/TCP @n2"},
		{why: "their DaemonSet against it", held: lb, now: "DaemonSet svclb-web < Service web on n1,n2: hostPort * 80/TCP @{n1,n2}"},
		{why: "and the Service against them", held: lb, now: "Service web LoadBalancer 80:30080/TCP lb:10.0.0.1 lb:10.0.0.2"},
	}
}

func silentIdle() []scene {
	return []scene{
		{why: "scaled to nothing", held: []string{"Deployment b: hostPort,idle * 30080/TCP @?", "ReplicaSet b-1 < Deployment b: hostPort,idle * 30080/TCP @?"},
			now: "Service a NodePort 80:30080/TCP"},
		{why: "suspended", held: []string{"CronJob b: hostPort,idle * 30080/TCP @?"}, now: "Service a NodePort 80:30080/TCP"},
		{why: "complete", held: []string{"Job b: hostPort,idle * 80/TCP @n1"}, now: "Pod a: hostPort * 80/TCP @n1"},
		{why: "finished pods claim nothing", held: []string{"Pod b:"}, now: "Pod a: hostPort * 80/TCP @n1"},
	}
}

func silentWorkloads() []scene {
	daemons := []string{"DaemonSet b on n1,n2: hostPort * 80/TCP @{n1,n2}"}
	return []scene{
		{why: "DaemonSets on disjoint nodes", held: daemons, now: "DaemonSet a on n3: hostPort * 80/TCP @{n3}"},
		{why: "a Deployment on other nodes", held: daemons, now: "Deployment a on n3: hostPort * 80/TCP @?"},
		{why: "a DaemonSet that no node suits", held: []string{"DaemonSet b on none: hostPort * 80/TCP @{}"}, now: "Deployment a on n1: hostPort * 80/TCP @?"},
		{why: "a workload that no node suits", held: daemons, now: "Deployment a on none: hostPort * 80/TCP @?"},
		{why: "a bare pod with a choice of nodes", held: daemons, now: "Pod a on n1,n2,n3: hostPort * 80/TCP @?"},
		{why: "a bare pod, the nodes not known", held: daemons, now: "Pod a: hostPort * 80/TCP @?"},
		{why: "pods that have no node yet", held: []string{"Pod b: hostPort * 80/TCP @?"}, now: "Pod a on n1: hostPort * 80/TCP @?"},
		{why: "templates whose pods may go elsewhere", held: []string{"Deployment b: hostPort * 80/TCP @?"}, now: "Deployment a on n1: hostPort * 80/TCP @?"},
		{why: "a daemon that is idle", held: []string{"Deployment b: hostPort,idle * 80/TCP @n1"}, now: "Deployment a on n1: hostPort * 80/TCP @?"},
		{why: "two addresses", held: []string{"DaemonSet b: hostPort 127.0.0.1 80/TCP @every"}, now: "Deployment a on n1: hostPort 10.0.0.1 80/TCP @?"},
		{why: "the same controller", held: []string{"Pod a-x < DaemonSet a: hostPort * 80/TCP @n1"}, now: "DaemonSet a on n1: hostPort * 80/TCP @{n1}"},
	}
}

func TestSilent(t *testing.T) {
	for code, scenes := range silent() {
		t.Run(string(code), func(t *testing.T) {
			for _, s := range scenes {
				s.play(t, code)
			}
		})
	}
}
