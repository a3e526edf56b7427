package check_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/portcullis-k8s/portcullis/pkg/check"
)

// found lists for each code what must be found: case, severity, field, holder and nodes.
func found() map[check.Code][]scene {
	all := map[check.Code][]scene{
		check.HostIPInvalid:      foundHostIPs(),
		check.SocketTwice:        foundTwice(),
		check.ServiceSelfClash:   foundSelfClashes(),
		check.NodePortWithoutUse: foundWithoutUse(),
		check.InitContainersMeet: {
			{
				why:  "init containers run one after the other",
				now:  "Pod a: hostPort,init * 80/TCP @?; hostPort,init 0.0.0.0 80/TCP @?",
				want: []string{"PC0105 info ports[1].hostPort and ports[0].hostPort"},
			},
			{
				why:  "a wildcard that is itself a second time",
				now:  "Pod a: hostPort,init=i 10.0.0.1 80/TCP @?; hostPort,init=i * 80/TCP @?; hostPort,init=j 10.0.0.2 80/TCP @?",
				want: []string{"PC0102 error i.ports[1].hostPort and i.ports[0].hostPort", "PC0105 info j.ports[2].hostPort and i.ports[1].hostPort"},
			},
			{
				why:  "and one has it twice besides",
				now:  "Pod a: hostPort,init=i * 80/TCP @?; hostPort,init=i * 80/TCP @?; hostPort,init=j * 80/TCP @?",
				want: []string{"PC0102 error i.ports[1].hostPort and i.ports[0].hostPort", "PC0105 info j.ports[2].hostPort and i.ports[0].hostPort"},
			},
		},
		check.Held:           slices.Concat(foundHeldByServices(), foundHeldByPods(), foundAnnotated()),
		check.ForeignIP:      foundForeignIPs(),
		check.UndeclaredMeet: foundUndeclared(),
		check.WorkloadsMeet:  slices.Concat(foundWorkloads(), foundDisplaced(), foundTogether()),
		check.OutsideRange:   foundOutside(),
		check.DaemonSocket:   foundDaemons(),
	}
	for _, table := range []map[check.Code][]scene{foundRanges(), foundRollouts(), foundEdits(), foundWiring(), foundInPods(), foundRestricted()} {
		maps.Copy(all, table)
	}
	return all
}

// foundAnnotated are ports that nodes reserve by their annotation.
func foundAnnotated() []scene {
	reserved := []string{"Node n1: hostNetwork * 9100/TCP @n1", "Node n2: hostNetwork * 9100/TCP @n2"}
	return []scene{
		{
			why: "one finding, however many nodes reserve it", held: reserved, now: "Service a NodePort 80:9100/TCP",
			want: []string{"PC0201 error spec.ports[0].nodePort < Node n1 ports[0].hostNetwork on n1,n2", "PC0301 error spec.ports[0].nodePort"},
		},
		{
			why: "a pod on such a node", held: reserved, now: "Pod a: hostPort 10.0.0.1 9100/TCP @n1",
			want: []string{"PC0201 error ports[0].hostPort < Node n1 ports[0].hostNetwork on n1"},
		},
		{
			why: "a DaemonSet, and one more holder", held: append(reserved, "Pod b: hostPort * 9100/TCP @n3"), now: "DaemonSet a on n1,n2,n3: hostPort * 9100/TCP @{n1,n2,n3}",
			want: []string{
				"PC0202 error ports[0].hostPort (every eligible node is taken) < Node n1 ports[0].hostNetwork + Pod b on n1,n2,n3 of 3",
			},
		},
	}
}

// silentAnnotated are claims that no reservation of a node meets.
func silentAnnotated() []scene {
	reserved := []string{"Node n1: hostNetwork * 9100/TCP @n1"}
	return []scene{
		{why: "another protocol than the node reserves", held: reserved, now: "Pod a: hostPort * 9100/UDP @n1"},
		{why: "another node than that which reserves it", held: reserved, now: "Pod a: hostPort * 9100/TCP @n2"},
		{why: "a pod that may go to another node", held: reserved, now: "Pod a on n1,n2: hostPort * 9100/TCP @?"},
		{why: "an init container's, for a moment", held: reserved, now: "Pod a: hostPort,init * 9100/TCP @n1"},
		{why: "a Service port, which no node has", held: reserved, now: "Service a ClusterIP 9100/TCP"},
	}
}

func foundHostIPs() []scene {
	return []scene{
		{
			why:  "a name is not an address",
			now:  "Pod a: hostIP=localhost 80/TCP",
			want: []string{"PC0101 error ports[0].hostIP and 80/TCP"},
		},
		{
			why:  "each field is to be mended",
			now:  "Deployment a: hostIP=x 80/TCP; hostPort * 81/TCP @?; hostIP=x 82/TCP",
			want: []string{"PC0101 error ports[0].hostIP and 80/TCP", "PC0101 error ports[2].hostIP and 82/TCP"},
		},
	}
}

func foundTwice() []scene {
	const same = "PC0102 error ports[1].hostPort and ports[0].hostPort"
	return []scene{
		{why: "twice the same", now: "Pod a: hostPort * 80/TCP @?; hostPort * 80/TCP @?", want: []string{same}},
		{why: "empty and 0.0.0.0", now: "Pod a: hostPort * 80/TCP @?; hostPort 0.0.0.0 80/TCP @?", want: []string{same}},
		{why: "a wildcard after one address", now: "Pod a: hostPort 10.0.0.1 80/TCP @?; hostPort * 80/TCP @?", want: []string{same}},
		{why: "one address after its wildcard", now: "Pod a: hostPort :: 80/TCP @?; hostPort fd00::1 80/TCP @?", want: []string{same}},
		{why: "another spelling", now: "Pod a: hostPort ::1 80/TCP @?; hostPort 0:0:0:0:0:0:0:1 80/TCP @?", want: []string{same}},
		{why: "4-in-6", now: "Pod a: hostPort 127.0.0.1 80/TCP @?; hostPort ::ffff:127.0.0.1 80/TCP @?", want: []string{same}},
		{
			why:  "a sidecar runs beside the main container",
			now:  "Pod a: hostPort,sidecar * 80/TCP @?; hostPort * 80/TCP @?",
			want: []string{same},
		},
		{
			why:  "a plain init container by itself",
			now:  "Pod a: hostPort,init=i * 80/TCP @?; hostPort,init=i * 80/TCP @?",
			want: []string{"PC0102 error i.ports[1].hostPort and i.ports[0].hostPort"},
		},
		{
			why: "an init container that starts when a sidecar listens already",
			now: "Pod a hostNetwork main: hostNetwork,sidecar * 80/TCP @?; hostNetwork,init * 80/TCP @?; hostNetwork,init * 80/TCP @?",
			want: []string{
				"PC0102 error ports[1].hostNetwork and ports[0].hostNetwork",
				"PC0102 error ports[2].hostNetwork and ports[0].hostNetwork",
			},
		},
		{
			why:  "in a template, and idle",
			now:  "Deployment a: hostPort,idle * 80/UDP @?; hostPort,idle * 80/UDP @?",
			want: []string{same},
		},
		{
			why:  "on the host network",
			now:  "Pod a hostNetwork main: hostNetwork * 80/TCP @n1; hostNetwork * 80/TCP @n1",
			want: []string{"PC0102 error ports[1].hostNetwork and ports[0].hostNetwork"},
		},
		{
			why: "the first in the order of the paths is named",
			now: "Pod a: hostPort 10.0.0.2 80/TCP @?; hostPort 10.0.0.1 80/TCP @?; hostPort 10.0.0.2 80/TCP @?; hostPort * 80/TCP @?",
			want: []string{
				"PC0102 error ports[2].hostPort and ports[0].hostPort",
				"PC0102 error ports[3].hostPort and ports[0].hostPort",
			},
		},
	}
}

func foundSelfClashes() []scene {
	return []scene{
		{
			why:  "one number and one protocol for two ports",
			now:  "Service a NodePort 80:30080/TCP 81:30080/TCP",
			want: []string{"PC0103 error spec.ports[1].nodePort (same nodePort twice) and spec.ports[0]"},
		},
		{
			why:  "one number for two ports is refused on create, whatever the protocols",
			now:  "Service a NodePort 80:30080/TCP 81:30080/UDP",
			want: []string{"PC0103 error spec.ports[1].nodePort (one nodePort for two ports) and spec.ports[0]"},
		},
		{
			why:  "an ExternalName's ports are validated, though nothing serves them",
			now:  "Service a ExternalName 80/TCP 80/TCP",
			want: []string{"PC0103 error spec.ports[1].port (same port twice) and spec.ports[0]"},
		},
		{
			why:  "one number for TCP and UDP, but not the first that the port has",
			now:  "Service a NodePort 80:30001/SCTP 80:30080/TCP 80:30080/UDP",
			want: []string{"PC0103 error spec.ports[2].nodePort (one nodePort for two ports) and spec.ports[1]"},
		},
		{
			why:  "the health check's number is a nodePort of the Service",
			now:  "Service a LoadBalancer 80:30080/TCP 81:30081/TCP health:30081",
			want: []string{"PC0103 error spec.healthCheckNodePort (healthCheckNodePort is own nodePort) and spec.ports[1].nodePort"},
		},
		{
			why:  "one port twice",
			now:  "Service a ClusterIP 80/TCP 443/TCP 80/TCP",
			want: []string{"PC0103 error spec.ports[2].port (same port twice) and spec.ports[0]"},
		},
		{
			why:  "an update adds a second entry with the number",
			old:  "Service a NodePort 80:30080/TCP",
			now:  "Service a NodePort 80:30080/TCP 81:30080/TCP",
			want: []string{"PC0103 error spec.ports[1].nodePort (same nodePort twice) and spec.ports[0]"},
		},
	}
}

func foundWithoutUse() []scene {
	const plain = "PC0104 error spec.ports[0].nodePort and ClusterIP"
	const leftOver = "PC0104 warning spec.ports[0].nodePort (left over from a change of type) and ClusterIP"
	return []scene{
		{why: "created so", now: "Service a ClusterIP 80:30080/TCP", want: []string{plain}},
		{why: "an ExternalName, which the API server lets pass", now: "Service a ExternalName 80:30080/TCP",
			want: []string{"PC0104 warning spec.ports[0].nodePort (ignored by an ExternalName) and ExternalName"}},
		{why: "added by an update", old: "Service a ClusterIP 80/TCP", now: "Service a ClusterIP 80:30080/TCP", want: []string{plain}},
		{why: "changed together with the type", old: "Service a NodePort 80:30080/TCP", now: "Service a ClusterIP 80:30081/TCP",
			want: []string{plain}},
		{why: "left over from the change of type", old: "Service a NodePort 80:30080/TCP", now: "Service a ClusterIP 80:30080/TCP",
			want: []string{leftOver}},
		{why: "left over beside one that is added", old: "Service a LoadBalancer 80:30080/TCP 81:30081/TCP",
			now:  "Service a ClusterIP 80:30080/TCP 82:30082/TCP",
			want: []string{plain, "PC0104 error spec.ports[1].nodePort and ClusterIP"}},
		{why: "left over from a type of which none were wanted", old: "Service a LoadBalancer unallocated 80:30080/TCP", now: "Service a ClusterIP 80:30080/TCP",
			want: []string{leftOver}},
		{why: "a health check that nothing uses", now: "Service a NodePort 80:30080/TCP unused:30081", want: []string{"PC0104 error spec.healthCheckNodePort and NodePort"}},
		{why: "left over from the policy", old: "Service a LoadBalancer 80:30080/TCP health:30081", now: "Service a LoadBalancer 80:30080/TCP unused:30081",
			want: []string{"PC0104 warning spec.healthCheckNodePort (left over from a change of type) and LoadBalancer"}},
		{why: "stored with an ExternalName before", old: "Service a ExternalName 80:30080/TCP", now: "Service a ExternalName 80:30080/TCP 81/TCP",
			want: []string{"PC0104 warning standing spec.ports[0].nodePort (ignored by an ExternalName) and ExternalName"}},
	}
}

func foundForeignIPs() []scene {
	const first = "PC0204 error spec.externalIPs[0] < Service b spec.clusterIP"
	b := []string{"Service b ClusterIP 443/TCP at:10.96.0.7 at:fd00::7"}
	return []scene{
		{why: "another port than the one that it serves", held: b, now: "Service a ClusterIP 80/TCP ip:10.96.0.7", want: []string{first}},
		{why: "of nobody yet", now: "Service a ClusterIP 80/TCP ip:10.97.0.7", want: []string{"PC0204 error spec.externalIPs[0] (a cluster IP that is yet to be given) and 10.97.0.0/16"}},
		{why: "had before", old: "Service a ClusterIP 80/TCP ip:10.97.0.7", now: "Service a ClusterIP 81/TCP ip:10.97.0.7", want: []string{"PC0204 error standing spec.externalIPs[0] (a cluster IP that is yet to be given) and 10.97.0.0/16"}},
		{why: "the second family", held: b, now: "Service a NodePort 80:30080/TCP ip:192.0.2.7 ip:fd00::7", want: []string{"PC0204 error spec.externalIPs[1] < Service b spec.clusterIP"}},
		{why: "one that it has had is no news, the other is", held: b, old: "Service a ClusterIP 80/TCP ip:10.96.0.7", now: "Service a ClusterIP 80/TCP ip:10.96.0.7 ip:fd00::7",
			want: []string{"PC0204 error standing spec.externalIPs[0] < Service b spec.clusterIP", "PC0204 error spec.externalIPs[1] < Service b spec.clusterIP"}},
	}
}

func foundHeldByServices() []scene {
	const node = "PC0201 error spec.ports[0].nodePort < Service b spec.ports[0].nodePort"
	return []scene{
		{why: "nodePort", held: []string{"Service b NodePort 80:30080/TCP"}, now: "Service a NodePort 80:30080/TCP", want: []string{node}},
		{why: "one book whatever the protocol", held: []string{"Service b NodePort 80:30080/UDP"},
			now: "Service a LoadBalancer 80:30080/TCP", want: []string{node}},
		{why: "a health check", held: []string{"Service b LoadBalancer 80:30081/TCP health:30080"}, now: "Service a NodePort 80:30080/UDP",
			want: []string{"PC0201 error spec.ports[0].nodePort < Service b spec.healthCheckNodePort"}},
		{why: "both entries of a DNS Service", held: []string{"Service b NodePort 53:30053/TCP"},
			now: "Service a NodePort 53:30053/UDP 53:30053/TCP", want: []string{node, "PC0201 error spec.ports[1].nodePort < Service b spec.ports[0].nodePort"}},
		{why: "a template that no node suits", held: []string{"Deployment b: hostPort * 30080/TCP @?"}, nowhere: []string{"b"}, now: "Service a NodePort 80:30080/TCP",
			want: []string{"PC0201 warning spec.ports[0].nodePort (no node matches the holder's pods) < Deployment b ports[0].hostPort"}},
		{why: "and its pods", held: []string{"Deployment b: hostPort * 30080/TCP @?", "Pod c < Deployment b: hostPort * 30080/TCP @?"}, nowhere: []string{"b", "c"}, now: "Service a NodePort 80:30080/TCP",
			want: []string{"PC0201 warning spec.ports[0].nodePort (no node matches the holder's pods) < Deployment b ports[0].hostPort"}},
		{why: "but for one that is on a node", held: []string{"Deployment b: hostPort * 30080/TCP @?", "Pod c < Deployment b: hostPort * 30080/TCP @n1"}, nowhere: []string{"b"}, now: "Service a NodePort 80:30080/TCP",
			want: []string{"PC0201 error spec.ports[0].nodePort < Deployment b ports[0].hostPort on n1"}},
		{why: "a holder beside one that no node suits", held: []string{"Deployment b: hostPort * 30080/TCP @?", "Deployment c: hostPort * 30080/TCP @?"}, nowhere: []string{"b"}, now: "Service a NodePort 80:30080/TCP",
			want: []string{"PC0201 warning spec.ports[0].nodePort (no node matches the holder's pods) < Deployment b ports[0].hostPort", "PC0201 error spec.ports[0].nodePort < Deployment c ports[0].hostPort"}},
		{why: "a Service is on every node", held: []string{"Service b NodePort 80:30080/TCP"}, nowhere: []string{"b"}, now: "Service a NodePort 80:30080/TCP", want: []string{node}},
		{why: "what no node suits asks for a node port", held: []string{"Service b NodePort 80:30080/TCP"}, nowhere: []string{"a", "b"}, now: "Deployment a on none: hostPort * 30080/TCP @?",
			want: []string{"PC0201 error ports[0].hostPort < Service b spec.ports[0].nodePort"}},
		{why: "an external IP", held: []string{"Service b ClusterIP 80/TCP ip:198.51.100.7"}, now: "Service a ClusterIP 80/TCP ip:198.51.100.7",
			want: []string{"PC0201 error spec.ports[0].port < Service b spec.ports[0].port"}},
		{why: "an external IP that a load balancer has", held: []string{"Service b LoadBalancer 80/TCP lb:198.51.100.7"},
			now: "Service a ClusterIP 80/TCP ip:198.51.100.7", want: []string{"PC0201 error spec.ports[0].port < Service b spec.ports[0].port"}},
		{why: "a pod meets a nodePort wherever it goes", held: []string{"Service b NodePort 80:30080/TCP"}, now: "Pod a: hostPort * 30080/TCP @?",
			want: []string{"PC0201 error ports[0].hostPort < Service b spec.ports[0].nodePort"}},
		{why: "so does a template", held: []string{"Service b NodePort 80:30080/TCP"}, now: "Deployment a: hostPort 0.0.0.0 30080/TCP @?",
			want: []string{"PC0201 error ports[0].hostPort < Service b spec.ports[0].nodePort"}},
		{why: "and a DaemonSet on its nodes", held: []string{"Service b NodePort 80:30080/TCP"}, now: "DaemonSet a on n1,n2: hostPort * 30080/TCP @{n1,n2}",
			want: []string{"PC0201 error ports[0].hostPort < Service b spec.ports[0].nodePort on n1,n2"}},
		{why: "iptables mode serves node ports on 127.0.0.1", held: []string{"Service b NodePort 80:30080/TCP"}, now: "Pod a: hostPort 127.0.0.1 30080/TCP @n1",
			want: []string{"PC0201 error ports[0].hostPort < Service b spec.ports[0].nodePort on n1"}},
		{why: "an external IP that is a node's", held: []string{"Service b ClusterIP 80/TCP ip:203.0.113.2"}, now: "Pod a: hostPort * 80/TCP @n2",
			want: []string{"PC0201 error ports[0].hostPort < Service b spec.ports[0].port on n2"}},
		{why: "a pod that names that address", held: []string{"Service b ClusterIP 80/TCP ip:203.0.113.2"}, now: "Pod a: hostPort 203.0.113.2 80/TCP @?",
			want: []string{"PC0201 error ports[0].hostPort < Service b spec.ports[0].port on n2"}},
	}
}

func foundHeldByPods() []scene {
	deployment := []string{
		"Deployment b: hostPort * 30080/TCP @?",
		"ReplicaSet b-1 < Deployment b: hostPort * 30080/TCP @?",
		"Pod b-1-x < ReplicaSet b-1: hostPort * 30080/TCP @n2",
		"Pod b-1-y < ReplicaSet b-1: hostPort * 30080/TCP @n1",
	}
	return []scene{
		{why: "a bare pod is itself", held: []string{"Pod b: hostPort * 80/TCP @n1"}, now: "Pod a: hostPort 10.0.0.1 80/TCP @n1",
			want: []string{"PC0201 error ports[0].hostPort < Pod b ports[0].hostPort on n1"}},
		{why: "the pods of a Deployment are the Deployment", held: deployment, now: "Service a NodePort 80:30080/TCP",
			want: []string{"PC0201 error spec.ports[0].nodePort < Deployment b ports[0].hostPort on n1,n2"}},
		{why: "a Deployment that has no pods yet", held: deployment[:1], now: "Service a NodePort 80:30080/TCP",
			want: []string{"PC0201 error spec.ports[0].nodePort < Deployment b ports[0].hostPort"}},
		{why: "a pod against a pod of a Deployment", held: deployment, now: "Pod a: hostPort 0.0.0.0 30080/TCP @n1",
			want: []string{"PC0201 error ports[0].hostPort < Deployment b ports[0].hostPort on n1"}},
		{why: "a controller of a kind that nobody knows", held: []string{"Pod b < GameServer b: hostPort * 80/TCP @n1"}, now: "Pod a: hostPort * 80/TCP @n1",
			want: []string{"PC0201 error ports[0].hostPort < GameServer b ports[0].hostPort on n1"}},
		{why: "the field of the template, not of the pod", held: []string{"Deployment b: hostPort * 81/TCP @?; hostPort * 80/TCP @?", "Pod b-x < Deployment b: hostPort 0.0.0.0 80/TCP @n1"},
			now: "Pod a: hostPort * 80/TCP @n1", want: []string{"PC0201 error ports[0].hostPort < Deployment b ports[1].hostPort on n1"}},
		{why: "the pods of a Service's load balancer have no field of it", held: []string{"Service b LoadBalancer 8088/TCP", "DaemonSet svclb-b < Service b: hostPort * 8088/TCP @every"},
			now: "Pod a: hostPort * 8088/TCP @n1", want: []string{"PC0201 error ports[0].hostPort < Service b  on n1"}},
		{why: "the host network", held: []string{"Pod b: hostNetwork * 30080/TCP @n1"}, now: "Service a NodePort 80:30080/TCP",
			want: []string{"PC0201 error spec.ports[0].nodePort < Pod b ports[0].hostNetwork on n1"}},
		{why: "a DaemonSet of which the nodes are not known", held: []string{"DaemonSet b: hostPort * 30080/TCP @every", "Pod b-x < DaemonSet b: hostPort * 30080/TCP @n1"},
			now: "Service a NodePort 80:30080/TCP", want: []string{"PC0201 error spec.ports[0].nodePort < DaemonSet b ports[0].hostPort"}},
		{why: "two containers of the pod, told once", held: []string{"Service b NodePort 80:30080/TCP"},
			now:  "Pod a: hostPort 10.0.0.1 30080/TCP @n1; hostPort 10.0.0.2 30080/TCP @n1",
			want: []string{"PC0201 error ports[0].hostPort < Service b spec.ports[0].nodePort on n1"}},
		{why: "static pods of one manifest are one holder", held: []string{"Pod proxy-n1: hostPort * 30080/TCP @n1", "Pod proxy-n2: hostPort * 30080/TCP @n2", "Pod other: hostPort * 30080/TCP @n3"},
			now: "Service a NodePort 80:30080/TCP", want: []string{
				"PC0201 error spec.ports[0].nodePort < Pod other ports[0].hostPort on n3",
				"PC0201 error spec.ports[0].nodePort < Pod proxy-n1 ports[0].hostPort + Pod proxy-n2 on n1,n2",
			}},
		{why: "every holder", held: []string{"Pod c: hostPort 127.0.0.1 80/TCP @n1", "Pod b: hostPort 10.0.0.1 80/TCP @n1"},
			now: "Pod a: hostPort * 80/TCP @n1", want: []string{
				"PC0201 error ports[0].hostPort < Pod b ports[0].hostPort on n1",
				"PC0201 error ports[0].hostPort < Pod c ports[0].hostPort on n1",
			}},
		{why: "an idle Deployment holds nothing, and what it would want is worth knowing", held: []string{"Service b NodePort 80:30080/TCP"},
			now: "Deployment a: hostPort,idle * 30080/TCP @?", want: []string{"PC0201 info ports[0].hostPort < Service b spec.ports[0].nodePort"}},
	}
}

func foundWorkloads() []scene {
	daemons := []string{"DaemonSet b on n1,n2: hostPort * 80/TCP @{n1,n2}"}
	pods := []string{"Pod b: hostPort * 80/TCP @n1", "Pod c: hostPort * 80/TCP @n2", "Pod d: hostPort * 81/TCP @n2"}
	every := func(rest string) []string {
		return []string{"PC0202 error ports[0].hostPort (every eligible node is taken) < " + rest}
	}
	some := func(rest string) []string {
		return []string{"PC0202 warning ports[0].hostPort (some eligible nodes are taken) < " + rest}
	}
	return []scene{
		{why: "a DaemonSet takes its nodes", held: daemons, now: "Deployment a on n1,n2: hostPort * 80/TCP @?",
			want: every("DaemonSet b ports[0].hostPort on n1,n2 of 2")},
		{why: "who holds most is named first", held: append(daemons, "Pod c: hostPort * 80/TCP @n3"), now: "Deployment a on n1,n2,n3: hostPort * 80/TCP @?",
			want: every("DaemonSet b ports[0].hostPort + Pod c on n1,n2,n3 of 3")},
		{why: "and leaves others", held: daemons, now: "Deployment a on n1,n2,n3: hostPort * 80/TCP @?",
			want: some("DaemonSet b ports[0].hostPort on n1,n2 of 3")},
		{why: "two DaemonSets", held: daemons, now: "DaemonSet a on n2,n3: hostPort 10.0.0.2 80/TCP @{n2,n3}",
			want: some("DaemonSet b ports[0].hostPort on n2 of 2")},
		{why: "a bare pod with no choice left", held: daemons, now: "Pod a on n1: hostPort * 80/TCP @?",
			want: every("DaemonSet b ports[0].hostPort on n1 of 1")},
		{why: "several holders take all", held: pods, now: "Deployment a on n1,n2: hostPort * 80/TCP @?", want: []string{
			"PC0202 error ports[0].hostPort (every eligible node is taken) < Pod b ports[0].hostPort + Pod c on n1,n2 of 2",
		}},
		{why: "one port on one node and another on the other leave nothing", held: []string{pods[0], pods[2]},
			now: "Pod a on n1,n2: hostPort * 80/TCP @?; hostPort * 81/TCP @?", want: []string{
				"PC0202 error ports[0].hostPort (every eligible node is taken) < Pod b ports[0].hostPort on n1 of 2",
				"PC0202 error ports[1].hostPort (every eligible node is taken) < Pod d ports[0].hostPort on n2 of 2",
			}},
		{why: "no nodes known: a DaemonSet everywhere takes any", held: []string{"DaemonSet b: hostPort * 80/TCP @every"},
			now: "Deployment a: hostPort * 80/TCP @?", want: every("DaemonSet b ports[0].hostPort")},
		{why: "no nodes known: some of its pods are", held: []string{"DaemonSet b: hostPort * 80/TCP @every", "Pod b-x < DaemonSet b: hostPort * 80/TCP @n1"},
			now: "DaemonSet a: hostPort * 80/TCP @every", want: every("DaemonSet b ports[0].hostPort")},
		{why: "no nodes known: a DaemonSet meets a pod on one", held: pods[:1], now: "DaemonSet a: hostPort * 80/TCP @every",
			want: some("Pod b ports[0].hostPort on n1")},
		{why: "no nodes known: a template that names its node", held: pods[:1], now: "Deployment a: hostPort * 80/TCP @n1",
			want: every("Pod b ports[0].hostPort on n1 of 1")},
		{why: "the pods of a DaemonSet are the DaemonSet", held: append(daemons, "Pod b-x < DaemonSet b: hostPort * 80/TCP @n1"),
			now: "StatefulSet a on n1: hostPort * 80/TCP @?", want: every("DaemonSet b ports[0].hostPort on n1 of 1")},
	}
}

func foundOutside() []scene {
	return []scene{
		{why: "below", now: "Service a NodePort 80:29999/TCP", want: []string{"PC0301 error spec.ports[0].nodePort"}},
		{why: "above", now: "Service a LoadBalancer 80:61000/TCP", want: []string{"PC0301 error spec.ports[0].nodePort"}},
		{why: "a health check", now: "Service a LoadBalancer 80:30080/TCP health:80", want: []string{"PC0301 error spec.healthCheckNodePort"}},
	}
}

func foundDaemons() []scene {
	want := func(field, daemon string) []string {
		return []string{fmt.Sprintf("PC0302 error %s < node daemon %s", field, daemon)}
	}
	some := func(field, where string) []string {
		return []string{fmt.Sprintf("PC0302 error %s and control-plane < node daemon kube-scheduler  %s", field, where)}
	}
	return []scene{
		{why: "the kubelet", now: "Pod a: hostPort * 10250/TCP @?", want: want("ports[0].hostPort", "kubelet")},
		{why: "the kubelet, with an address", now: "Deployment a: hostPort 10.0.0.1 10250/TCP @?", want: want("ports[0].hostPort", "kubelet")},
		{why: "a daemon on loopback", now: "DaemonSet a: hostPort * 10248/TCP @every", want: want("ports[0].hostPort", "kubelet")},
		{why: "by its name in a namespace that is not trusted", now: "Pod a hostNetwork sshd: hostNetwork * 22/TCP @n1", want: want("ports[0].hostNetwork", "sshd")},
		{why: "by its name on its own network", now: "Pod a trusted: hostPort * 22/TCP @n1", want: want("ports[0].hostPort", "sshd")},
		{why: "on the host network by another name", now: "Pod a hostNetwork main: hostNetwork * 22/TCP @n1", want: want("ports[0].hostNetwork", "sshd")},
		{why: "the daemon's own name, but not the host network", now: "Pod a: hostPort * 22/TCP @?", want: want("ports[0].hostPort", "sshd")},
		{why: "an external IP that is a node's", now: "Service a ClusterIP 22/TCP ip:10.0.0.1", want: want("spec.ports[0].port", "sshd")},
		{why: "one of some nodes, which a DaemonSet takes", now: "DaemonSet a on n1,n2: hostPort * 10259/TCP @{n1,n2}", want: some("ports[0].hostPort", "on n1")},
		{why: "a pod on such a node", now: "Pod a: hostPort * 10259/TCP @n1", want: some("ports[0].hostPort", "on n1")},
		{why: "a workload that has no other node", now: "Deployment a on n1: hostPort * 10259/TCP @?1{n1}", want: some("ports[0].hostPort", "on n1")},
		{why: "an external IP that is such a node's", now: "Service a ClusterIP 10259/TCP ip:10.0.0.1", want: some("spec.ports[0].port", "on n1")},
		{why: "twice in one pod, told once", now: "Pod a: hostPort 10.0.0.1 22/TCP @?; hostPort 10.0.0.2 22/TCP @?", want: want("ports[0].hostPort", "sshd")},
	}
}

func TestFound(t *testing.T) {
	for code, scenes := range found() {
		t.Run(string(code), func(t *testing.T) {
			for _, s := range scenes {
				s.play(t, code)
			}
		})
	}
}
