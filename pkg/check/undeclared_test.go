package check_test

func foundUndeclared() []scene {
	connects := func(rest string) []string {
		return []string{"PC0205 warning probe[0] (its probe connects to the port) < " + rest}
	}
	of := func(field, rest string) []string {
		return []string{"PC0205 warning " + field + " (a probe of the holder connects to it) < " + rest}
	}
	const probed = "Pod b hostNetwork c: probe * 9808/TCP @n1"
	return []scene{
		{why: "two pods that are probed on one node", held: []string{probed}, now: "Pod a hostNetwork c: probe * 9808/TCP @n1", want: connects("Pod b probe[0] on n1")},
		{why: "a declared port", held: []string{"Pod b: hostPort * 9808/TCP @n1"}, now: "Pod a hostNetwork c: probe * 9808/TCP @n1", want: connects("Pod b ports[0].hostPort on n1")},
		{why: "a nodePort", held: []string{"Service b NodePort 80:30080/TCP"}, now: "Pod a hostNetwork c: probe * 30080/TCP @?", want: connects("Service b spec.ports[0].nodePort")},
		{why: "a template that has no other node", held: []string{probed}, now: "Deployment a rolls 1/0/1 on n1 hostNetwork c: probe * 9808/TCP @?", want: connects("Pod b probe[0] on n1")},
		{why: "DaemonSets, nodes not known", held: []string{"DaemonSet b hostNetwork c: probe * 9808/TCP @every"}, now: "DaemonSet a hostNetwork c: probe * 9808/TCP @every",
			want: connects("DaemonSet b probe[0]")},
		{why: "whose nodes it takes", held: []string{"Deployment b hostNetwork c: probe * 9808/TCP @?1{n1,n2}"}, now: "DaemonSet a on n1,n2 hostNetwork c: probe * 9808/TCP @{n1,n2}",
			want: connects("Deployment b probe[0] on n1,n2")},
		{why: "a hostPort against one", held: []string{probed}, now: "Pod a: hostPort * 9808/TCP @n1", want: of("ports[0].hostPort", "Pod b probe[0] on n1")},
		{why: "a nodePort against one", held: []string{"Pod b hostNetwork c: probe * 30080/TCP @n1"}, now: "Service a NodePort 80:30080/TCP", want: of("spec.ports[0].nodePort", "Pod b probe[0] on n1")},
		{why: "two that ask for one address", held: []string{"Service b LoadBalancer 80/TCP asks:198.51.100.7"}, now: "Service a LoadBalancer 80/TCP asks:198.51.100.7",
			want: []string{"PC0205 warning spec.ports[0].port (a load balancer is asked for it) < Service b spec.ports[0].port"}},
		{why: "one who has it", held: []string{"Service b LoadBalancer 80/TCP lb:198.51.100.7"}, now: "Service a LoadBalancer 80/TCP asks:198.51.100.7",
			want: []string{"PC0205 warning spec.ports[0].port (a load balancer is asked for it) < Service b spec.ports[0].port"}},
		{why: "a pod at a node's address that is asked for is only warned", held: []string{"Service b LoadBalancer 80/TCP asks:10.0.0.1"}, now: "Pod a: hostPort * 80/TCP @n1",
			want: []string{"PC0205 warning ports[0].hostPort (a load balancer is asked for it) < Service b spec.ports[0].port on n1"}},
		{why: "an init container of the host network", held: []string{"Pod b: hostPort * 80/TCP @n1"}, now: "Pod a hostNetwork c: hostNetwork,init * 80/TCP @n1",
			want: []string{"PC0205 warning ports[0].hostNetwork (an init container listens on it) < Pod b ports[0].hostPort on n1"}},
	}
}

func silentUndeclared() []scene {
	const probed = "Pod b hostNetwork c: probe * 9808/TCP @n1"
	return []scene{
		{why: "another node", held: []string{probed}, now: "Pod a: hostPort * 9808/TCP @n2"},
		{why: "two ports of one address", held: []string{"Service b LoadBalancer 80/TCP asks:198.51.100.7"}, now: "Service a LoadBalancer 81/TCP asks:198.51.100.7"},
		{why: "another protocol", held: []string{probed}, now: "Pod a: hostPort * 9808/UDP @n1"},
		{why: "a template that has another node", held: []string{probed}, now: "Deployment a rolls 1/0/1 on n1,n2: hostPort * 9808/TCP @?"},
		{why: "a Deployment that may come there", held: []string{"Deployment b hostNetwork c: probe * 9808/TCP @?1{n1,n2}"}, now: "DaemonSet a on n1: hostPort * 9808/TCP @{n1}"},
		{why: "the same controller", held: []string{"Pod a-1 < DaemonSet a hostNetwork c: probe * 9808/TCP @n1"}, now: "Pod a-2 < DaemonSet a: hostPort * 9808/TCP @n1"},
		{why: "an init container of the pod network is never mapped", held: []string{"Pod b: hostPort * 80/TCP @n1"}, now: "Pod a: hostPort,init * 80/TCP @n1"},
		{why: "what an init container has had is free afterwards", held: []string{"Pod b hostNetwork c: hostNetwork,init * 80/TCP @n1"}, now: "Pod a: hostPort * 80/TCP @n1"},
		{why: "what wants no pods listens nowhere", held: []string{"Deployment b hostNetwork c: hostNetwork,idle * 9808/TCP @n1"}, now: "Pod a hostNetwork c: hostNetwork * 9809/TCP @n1"},
	}
}
