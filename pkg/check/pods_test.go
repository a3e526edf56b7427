package check_test

import "github.com/portcullis-k8s/portcullis/pkg/check"

func foundInPods() map[check.Code][]scene {
	return map[check.Code][]scene{
		check.NeverMapped: {
			{why: "a sidecar's", now: "Pod a: hostPort,sidecar * 80/TCP @?", want: []string{"PC0504 warning ports[0].hostPort"}},
		},
		check.NoNodesAddress: {
			{why: "nobody's", now: "Pod a: hostPort 10.9.9.9 80/TCP @?", want: []string{"PC0508 warning ports[0].hostIP"}},
			{why: "in a template", now: "DaemonSet a: hostPort fd00::9 80/TCP @every", want: []string{"PC0508 warning ports[0].hostIP"}},
		},
		check.HostPortRequested: {
			{why: "no port of that name", now: "Pod a: asks=play/0", want: []string{"PC0314 error annotations[play] (no port has the name)"}},
			{why: "on the host network", now: "Pod a hostNetwork main: asks=play/1", want: []string{"PC0314 error annotations[play] (the pod is on the host network)"}},
		},
		check.UndeclaredSockets: {
			{why: "its probes show that it listens", now: "Pod a hostNetwork main: probe * 80/TCP @n1", want: []string{"PC0509 info hostNetwork"}},
		},
		check.FamilyMismatch: {
			{why: "all of IPv4 where pods have both", families: "46", now: "Pod a: hostPort 0.0.0.0 80/TCP @?", want: []string{"PC0604 warning ports[0].hostIP (one of two families)"}},
			{why: "all of IPv6", families: "46", now: "Deployment a: hostPort :: 80/TCP @?", want: []string{"PC0604 warning ports[0].hostIP (one of two families)"}},
			{why: "a family that pods do not have", families: "4", now: "Pod a: hostPort :: 80/TCP @?", want: []string{"PC0604 warning ports[0].hostIP (pods have no such address)"}},
			{why: "one address of it", families: "6", now: "Pod a: hostPort 10.0.0.1 80/TCP @?", want: []string{"PC0604 warning ports[0].hostIP (pods have no such address)"}},
			{why: "and that no node has", families: "6", now: "Pod a: hostPort 10.9.9.9 80/TCP @?", want: []string{"PC0604 warning ports[0].hostIP (pods have no such address)"}},
		},
	}
}

func silentInPods() map[check.Code][]scene {
	return map[check.Code][]scene{
		check.NeverMapped: {
			{why: "a sidecar of the host network listens by itself", now: "Pod a hostNetwork main: hostNetwork,sidecar * 80/TCP @n1"},
			{why: "a plain init container's", now: "Pod a: hostPort,init * 80/TCP @?"},
		},
		check.NoNodesAddress: {
			{why: "a node's", now: "Pod a: hostPort 203.0.113.1 80/TCP @?; hostPort fd00::2 80/TCP @?"},
			{why: "every node has loopback", now: "Pod a: hostPort 127.0.0.53 80/TCP @?; hostPort ::1 80/TCP @?"},
			{why: "wildcards", now: "Pod a: hostPort 0.0.0.0 80/TCP @?; hostPort :: 80/TCP @?; hostPort * 81/TCP @?"},
			{why: "the host network, which binds what it likes", now: "Pod a hostNetwork main: hostNetwork 10.9.9.9 80/TCP @?"},
			{why: "a plain init container's", now: "Pod a: hostPort,init 10.9.9.9 80/TCP @?"},
		},
		check.HostPortRequested: {
			{why: "a port of that name", now: "Pod a: asks=play/1"},
			{why: "two ports of that name", now: "Pod a: asks=play/2"},
			{why: "nothing is asked for", now: "Pod a hostNetwork main: hostNetwork * 80/TCP @?"},
		},
		check.UndeclaredSockets: {
			{why: "nothing shows that it listens", now: "Pod a hostNetwork main:"},
			{why: "a declared one", now: "Pod a hostNetwork main: hostNetwork * 80/TCP @n1; probe * 81/TCP @n1"},
			{why: "no host network", now: "Pod a:"},
			{why: "the pod of a template", now: "Pod a-x < DaemonSet a hostNetwork main: probe * 80/TCP @n1"},
		},
		check.FamilyMismatch: {
			{why: "no hostIP", families: "46", now: "Pod a: hostPort * 80/TCP @?"},
			{why: "the only family", families: "4", now: "Pod a: hostPort 0.0.0.0 80/TCP @?; hostPort 10.0.0.1 81/TCP @?"},
			{why: "one address is of one family", families: "46", now: "Pod a: hostPort 10.0.0.1 80/TCP @?; hostPort fd00::1 80/TCP @?"},
			{why: "the families are not known", now: "Pod a: hostPort :: 80/TCP @?"},
			{why: "the host network", families: "4", now: "Pod a hostNetwork main: hostNetwork :: 80/TCP @n1"},
		},
	}
}
