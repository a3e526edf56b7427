package check_test

import "github.com/portcullis-k8s/portcullis/pkg/check"

func foundRollouts() map[check.Code][]scene {
	const few = "PC0401 warning spec.replicas (some pods have no node)"
	const stalls = "PC0402 warning spec.strategy (every node runs an old pod)"
	const daemons = "DaemonSet b on n1: hostPort * 80/TCP @{n1}"
	return map[check.Code][]scene{
		check.TooFewNodes: {
			{why: "one to a node", now: "Deployment a rolls 3/1/0 on n1,n2: hostPort * 80/TCP @?", want: []string{few + " of 2"}},
			{why: "StatefulSets too", now: "StatefulSet a runs 3 on n1,n2: hostPort * 80/TCP @?", want: []string{few + " of 2"}},
			{why: "what others hold counts", held: []string{daemons}, now: "ReplicaSet a runs 3 on n1,n2,n3: hostPort * 80/TCP @?", want: []string{
				"PC0202 warning ports[0].hostPort (some eligible nodes are taken) < DaemonSet b ports[0].hostPort on n1 of 3", few + " of 3",
			}},
			{why: "a node on which the scheduler sees a conflict is no place", held: []string{"Pod b: hostPort :: 80/TCP @n1"},
				now: "Deployment a rolls 2/0/1 on n1,n2: hostPort 0.0.0.0 80/TCP @?", want: []string{few + " of 2"}},
			{why: "two replicas on the one host that the template names", now: "Deployment a rolls 2/0/1 onehost: hostPort * 80/TCP @?", want: []string{few}},
			{why: "no node suits", now: "Deployment a rolls 1/1/0 on none: hostPort * 80/TCP @?", want: []string{"PC0401 warning spec.replicas (no node suits)"}},
			{why: "a Job gets to its end with fewer at a time", now: "Job a ends 4 on n1,n2: hostPort * 80/TCP @?",
				want: []string{"PC0401 warning spec.replicas (a Job runs fewer at a time) of 2"}},
		},
		check.RolloutStalls: {
			{why: "the new pod waits for a node, the old one for the new", now: "Deployment a rolls 2/1/0 on n1,n2: hostPort * 80/TCP @?", want: []string{stalls + " of 2"}},
			{why: "one replica on one node", now: "Deployment a rolls 1/1/0 on n1: hostPort * 80/TCP @?",
				want: []string{"PC0402 warning spec.strategy (one replica on one node) of 1"}},
			{why: "no nodes known, but the template names its only one", now: "Deployment a rolls 1/1/0 onehost: hostPort * 80/TCP @?",
				want: []string{"PC0402 warning spec.strategy (one replica on one node)"}},
			{why: "by nodeName", now: "Deployment a rolls 1/1/0 onehost: hostPort * 80/TCP @n1",
				want: []string{"PC0402 warning spec.strategy (one replica on one node) of 1"}},
			{why: "what is left is what counts", held: []string{daemons}, now: "Deployment a rolls 2/1/0 on n1,n2,n3: hostPort * 80/TCP @?", want: []string{
				"PC0202 warning ports[0].hostPort (some eligible nodes are taken) < DaemonSet b ports[0].hostPort on n1 of 3", stalls + " of 3",
			}},
			{why: "a sidecar's port is reserved all the same", now: "Deployment a rolls 1/1/0 on n1: hostPort,sidecar * 80/TCP @?",
				want: []string{"PC0402 warning spec.strategy (one replica on one node) of 1"}},
		},
		check.SurgeInPlace: {
			{why: "the new pod waits for the old one's port", now: "DaemonSet a surges 1 on n1,n2: hostPort * 80/TCP @{n1,n2}",
				want: []string{"PC0403 error spec.updateStrategy.rollingUpdate.maxSurge"}},
			{why: "whichever the nodes are", now: "DaemonSet a surges 1 hostNetwork main: hostNetwork * 80/TCP @every",
				want: []string{"PC0403 error spec.updateStrategy.rollingUpdate.maxSurge"}},
		},
		check.StricterThere: {
			{why: "0.0.0.0 next to ::", held: []string{"Pod b: hostPort :: 80/TCP @n1"}, now: "Pod a: hostPort 0.0.0.0 80/TCP @n1",
				want: []string{"PC0404 warning ports[0].hostPort (the kubelet sees a conflict) < Pod b ports[0].hostPort on n1"}},
			{why: "and the other way round", held: []string{"Pod b: hostPort 0.0.0.0 80/TCP @n1"}, now: "Pod a: hostPort fd00::1 80/TCP @n1",
				want: []string{"PC0404 warning ports[0].hostPort (the kubelet sees a conflict) < Pod b ports[0].hostPort on n1"}},
			{why: "all nodes that there are", held: []string{"DaemonSet b on n1,n2: hostPort ::1 80/TCP @{n1,n2}"},
				now: "Deployment a rolls 1/1/0 on n1,n2: hostPort 0.0.0.0 80/TCP @?", want: []string{
					"PC0404 warning ports[0].hostPort (the scheduler sees a conflict) < DaemonSet b ports[0].hostPort on n1,n2",
				}},
			{why: "a DaemonSet misses each of them", held: []string{"Pod b: hostPort :: 80/TCP @n1"}, now: "DaemonSet a surges 0 on n1,n2: hostPort 0.0.0.0 80/TCP @{n1,n2}",
				want: []string{"PC0404 warning ports[0].hostPort (the scheduler sees a conflict) < Pod b ports[0].hostPort on n1"}},
			{why: "a bare pod that has no other node", held: []string{"Pod b: hostPort :: 80/TCP @n1"}, now: "Pod a on n1: hostPort 0.0.0.0 80/TCP @?",
				want: []string{"PC0404 warning ports[0].hostPort (the scheduler sees a conflict) < Pod b ports[0].hostPort on n1"}},
		},
	}
}

// foundDisplaced are of workloads that take the nodes of others: what is an error in one order is one in the other.
func foundDisplaced() []scene {
	const daemon = "DaemonSet a surges 0 on n1,n2: hostPort * 80/TCP @{n1,n2}"
	left := func(rest string) []string {
		return []string{"PC0202 error ports[0].hostPort (no node is left to the holder) < " + rest}
	}
	may := func(rest string) []string {
		return []string{"PC0202 warning ports[0].hostPort (the holder's pods may come there) < " + rest}
	}
	return []scene{
		{why: "a DaemonSet takes all nodes of a Deployment", held: []string{"Deployment b: hostPort * 80/TCP @?1{n1,n2}"}, now: daemon,
			want: left("Deployment b ports[0].hostPort on n1,n2 of 2")},
		{why: "wherever its pod is now", held: []string{"Deployment b: hostPort * 80/TCP @?1{n1,n2}", "Pod b-1 < Deployment b: hostPort * 80/TCP @n2"}, now: daemon,
			want: left("Deployment b ports[0].hostPort on n1,n2 of 2")},
		{why: "all nodes of a smaller DaemonSet", held: []string{"DaemonSet b: hostPort * 80/TCP @{n2}"}, now: daemon, want: left("DaemonSet b ports[0].hostPort on n2 of 2")},
		{why: "the node of a Deployment that names it", held: []string{"Deployment b: hostPort * 80/TCP @n1"}, now: daemon, want: left("Deployment b ports[0].hostPort on n1 of 2")},
		{why: "no nodes known: a DaemonSet on every node", held: []string{"Deployment b: hostPort * 80/TCP @?1"}, now: "DaemonSet a surges 0: hostPort * 80/TCP @every",
			want: left("Deployment b ports[0].hostPort")},
		{why: "the last of its nodes, of which others have the rest", held: []string{"Deployment b: hostPort * 80/TCP @?1{n1,n2,n3}", "Deployment c: hostPort * 80/TCP @n1", "Pod d: hostPort * 80/TCP @n2"},
			now: "StatefulSet a runs 1 on n3: hostPort * 80/TCP @n3", want: left("Deployment b ports[0].hostPort on n3 of 1")},
		{why: "two at once", held: []string{"Deployment b: hostPort * 80/TCP @?1{n1,n2}", "Deployment c: hostPort * 80/TCP @?1{n1}"}, now: daemon,
			want: left("Deployment b ports[0].hostPort + Deployment c on n1,n2 of 2")},
		{why: "one that is there has its node", apart: true, held: []string{"Deployment b: hostPort * 80/TCP @?1{n1,n2}", "Pod b-1 < Deployment b: hostPort * 80/TCP @n2"}, now: daemon,
			want: []string{"PC0202 warning ports[0].hostPort (some eligible nodes are taken) < Deployment b ports[0].hostPort on n2 of 2"}},
		{why: "one that is there, and has no pod yet", apart: true, held: []string{"Deployment b: hostPort * 80/TCP @?1{n1,n2}"}, now: daemon,
			want: may("Deployment b ports[0].hostPort on n1,n2 of 2")},
		{why: "a smaller DaemonSet that is there", apart: true, held: []string{"DaemonSet b: hostPort * 80/TCP @{n2}"}, now: daemon,
			want: []string{"PC0202 warning ports[0].hostPort (some eligible nodes are taken) < DaemonSet b ports[0].hostPort on n2 of 2"}},
		{why: "a Job's nodes", held: []string{"Job b: hostPort * 80/TCP @?0{n1,n2}"}, now: daemon, want: left("Job b ports[0].hostPort on n1,n2 of 2")},
		{why: "a node that it may come to", held: []string{"Deployment b: hostPort * 80/TCP @?1{n2,n3}"}, now: daemon, want: may("Deployment b ports[0].hostPort on n2 of 2")},
	}
}

func foundTogether() []scene {
	together := func(rest string) []string {
		return []string{"PC0202 warning ports[0].hostPort (together they want more nodes) < " + rest}
	}
	return []scene{
		{why: "two Deployments of two on three nodes", held: []string{"Deployment b: hostPort * 80/TCP @?2{n1,n2,n3}"},
			now: "Deployment a rolls 2/0/1 on n1,n2,n3: hostPort * 80/TCP @?", want: together("Deployment b ports[0].hostPort on n1,n2,n3 of 3")},
		{why: "two that do not have the same nodes", held: []string{"Deployment b: hostPort * 80/TCP @?2{n1,n2}"}, now: "Deployment a rolls 2/0/1 on n2,n3: hostPort * 80/TCP @?",
			want: together("Deployment b ports[0].hostPort on n2 of 2")},
		{why: "what has no node yet counts, what has one is counted there", held: []string{"Deployment b: hostPort * 80/TCP @?2{n1,n2,n3}", "Pod b-1 < Deployment b: hostPort * 80/TCP @n1"},
			now: "Deployment a rolls 2/0/1 on n1,n2,n3: hostPort * 80/TCP @?", want: []string{
				"PC0202 warning ports[0].hostPort (together they want more nodes) < Deployment b ports[0].hostPort on n1,n2,n3 of 3",
			}},
	}
}

func silentRollouts() map[check.Code][]scene {
	return map[check.Code][]scene{
		check.TooFewNodes: {
			{why: "as many as there are nodes, replaced in turn", now: "StatefulSet a runs 3 on n1,n2,n3: hostPort * 80/TCP @?"},
			{why: "every node is taken, which is said by who takes it", held: []string{"DaemonSet b: hostPort * 80/TCP @every"},
				now: "StatefulSet a runs 1: hostPort * 81/TCP @?"},
			{why: "the nodes are not known", now: "Deployment a rolls 50/13/12: hostPort * 80/TCP @?"},
			{why: "no host port", now: "Deployment a rolls 50/13/12 on n1:"},
			{why: "only a plain init container's", now: "Deployment a rolls 5/2/1 on n1: hostPort,init * 80/TCP @?"},
			{why: "scaled to nothing", now: "Deployment a rolls 0/0/1 on n1: hostPort,idle * 80/TCP @?"},
			{why: "its own pods hold nothing against it", held: []string{"Pod a-x < Deployment a: hostPort * 80/TCP @n1"}, now: "Deployment a rolls 1/0/1 on n1: hostPort * 80/TCP @?"},
			{why: "what another rolls out", now: "ReplicaSet a-1 < Deployment a on n1: hostPort * 80/TCP @?"},
			{why: "a Job that fits", now: "Job a ends 2 on n1,n2: hostPort * 80/TCP @?"},
			{why: "a DaemonSet that no node suits", now: "DaemonSet a surges 0 on none: hostPort * 80/TCP @{}"},
		},
		check.RolloutStalls: {
			{why: "a node is left for the new pod", now: "Deployment a rolls 1/1/0 on n1,n2: hostPort * 80/TCP @?"},
			{why: "an old pod may go first", now: "Deployment a rolls 3/0/1 on n1,n2,n3: hostPort * 80/TCP @?"},
			{why: "four on four nodes: a quarter of four may go", now: "Deployment a rolls 4/1/1 on n1,n2,n3,n4: hostPort * 80/TCP @?"},
			{why: "Recreate", now: "Deployment a runs 1 onehost: hostPort * 80/TCP @n1"},
		},
		check.SurgeInPlace: {
			{why: "no surge", now: "DaemonSet a surges 0 on n1: hostPort * 80/TCP @{n1}"},
			{why: "no host port", now: "DaemonSet a surges 1 on n1:"},
			{why: "a plain init container's", now: "DaemonSet a surges 1 on n1: hostPort,init * 80/TCP @{n1}"},
		},
		check.StricterThere: {
			{why: "one address of each family", held: []string{"Pod b: hostPort fd00::1 80/TCP @n1"}, now: "Pod a: hostPort 10.0.0.1 80/TCP @n1"},
			{why: "another node is left", held: []string{"Pod b: hostPort :: 80/TCP @n1"}, now: "Deployment a rolls 1/0/1 on n1,n2: hostPort 0.0.0.0 80/TCP @?"},
			{why: "another node than that of the pod", held: []string{"Pod b: hostPort :: 80/TCP @n2"}, now: "Pod a: hostPort 0.0.0.0 80/TCP @n1"},
			{why: "the nodes are not known", held: []string{"Pod b: hostPort :: 80/TCP @n2"}, now: "Pod a: hostPort 0.0.0.0 80/TCP @?"},
			{why: "another protocol", held: []string{"Pod b: hostPort :: 80/UDP @n1"}, now: "Pod a: hostPort 0.0.0.0 80/TCP @n1"},
			{why: "the same controller", held: []string{"Pod a-1 < Deployment a: hostPort :: 80/TCP @n1"}, now: "Pod a-2 < Deployment a: hostPort 0.0.0.0 80/TCP @n1"},
			{why: "a Service, which the scheduler does not see", held: []string{"Service b NodePort 80:30080/TCP"}, now: "Pod a: hostPort ::1 30080/TCP @n1"},
		},
	}
}

func silentTogether() []scene {
	return []scene{
		{why: "they fit", held: []string{"Deployment b: hostPort * 80/TCP @?1{n1,n2,n3}"}, now: "Deployment a rolls 2/0/1 on n1,n2,n3: hostPort * 80/TCP @?"},
		{why: "the other can go elsewhere", held: []string{"Deployment b: hostPort * 80/TCP @?2{n1,n2,n3,n4}"}, now: "Deployment a rolls 2/0/1 on n1,n2,n3: hostPort * 80/TCP @?"},
		{why: "where the other goes is not known", held: []string{"Deployment b: hostPort * 80/TCP @?2"}, now: "Deployment a rolls 2/0/1 on n1,n2,n3: hostPort * 80/TCP @?"},
		{why: "how many the others are is not known", held: []string{"Deployment b: hostPort * 80/TCP @?0{n1}"}, now: "Deployment a rolls 1/1/0 on n1,n2: hostPort * 80/TCP @?"},
		{why: "a Job that is there makes room", apart: true, held: []string{"Job b: hostPort * 80/TCP @?0{n1}"}, now: "DaemonSet a surges 0 on n1: hostPort * 80/TCP @{n1}"},
		{why: "a bare pod that has no node yet", held: []string{"Pod b: hostPort * 80/TCP @?"}, now: "DaemonSet a surges 0 on n1: hostPort * 80/TCP @{n1}"},
		{why: "one that wants no pods takes nobody's nodes", held: []string{"Deployment b: hostPort * 80/TCP @?1{n1}"}, now: "Deployment a runs 0: hostPort,idle * 80/TCP @n1"},
		{why: "all of the other's pods run elsewhere", held: []string{"Deployment b: hostPort * 80/TCP @?1{n1,n2}", "Pod b-1 < Deployment b: hostPort * 80/TCP @n2"}, now: "DaemonSet a surges 0 on n1: hostPort * 80/TCP @{n1}"},
		{why: "another port", held: []string{"Deployment b: hostPort * 81/TCP @?3{n1,n2,n3}"}, now: "Deployment a rolls 2/0/1 on n1,n2,n3: hostPort * 80/TCP @?"},
		{why: "an idle one", held: []string{"Deployment b: hostPort,idle * 80/TCP @?3{n1,n2,n3}"}, now: "Deployment a rolls 2/0/1 on n1,n2,n3: hostPort * 80/TCP @?"},
		{why: "itself", held: []string{"Deployment a: hostPort * 80/TCP @?3{n1,n2,n3}"}, now: "Deployment a rolls 3/0/1 on n1,n2,n3: hostPort * 80/TCP @?"},
		{why: "Jobs make room", held: []string{"Deployment b: hostPort * 80/TCP @?2{n1,n2}"}, now: "Job a ends 1 on n1,n2: hostPort * 80/TCP @?"},
	}
}
