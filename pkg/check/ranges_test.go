package check_test

import "github.com/portcullis-k8s/portcullis/pkg/check"

func foundRanges() map[check.Code][]scene {
	return map[check.Code][]scene{
		check.InNodePorts: {
			{why: "any Service may get the number", now: "Pod a: hostPort * 31000/TCP @?", want: []string{"PC0303 warning ports[0].hostPort"}},
			{why: "the ends of the range", now: "Deployment a: hostPort * 30000/TCP @?; hostPort 10.0.0.1 32767/UDP @?",
				want: []string{"PC0303 warning ports[0].hostPort", "PC0303 warning ports[1].hostPort"}},
			{why: "the host network", now: "DaemonSet a hostNetwork main: hostNetwork * 31000/TCP @every", want: []string{"PC0303 warning ports[0].hostNetwork"}},
		},
		check.InEphemeral: {
			{why: "a hostPort", now: "Pod a: hostPort * 32768/TCP @?", want: []string{"PC0304 warning ports[0].hostPort"}},
			{why: "a process of the host network", now: "Pod a hostNetwork main: hostNetwork * 60999/UDP @n1", want: []string{"PC0304 warning ports[0].hostNetwork"}},
			{why: "a nodePort, which is outside the range too", now: "Service a NodePort 80:50000/TCP",
				want: []string{"PC0301 error spec.ports[0].nodePort", "PC0304 warning spec.ports[0].nodePort"}},
			{why: "beside what is reserved", now: "Pod a: hostPort * 33010/TCP @?", want: []string{"PC0304 warning ports[0].hostPort"}},
		},
		check.InDynamicBand: {
			{why: "a written number", now: "Service a NodePort 80:30086/TCP", want: []string{"PC0305 info spec.ports[0].nodePort"}},
			{why: "one number for both protocols is one", now: "Service a NodePort 53:30086/TCP 53:30086/UDP", want: []string{"PC0305 info spec.ports[0].nodePort"}},
			{why: "of a pool of others", pools: []string{"b 30100-30199 ns=b"}, now: "Service a NodePort 80:30200/TCP", want: []string{"PC0305 info spec.ports[0].nodePort"}},
			{why: "a new number by an update", old: "Service a NodePort 80:30086/TCP", now: "Service a NodePort 80:30087/TCP", want: []string{"PC0305 info spec.ports[0].nodePort"}},
			{why: "a written health check", now: "Service a LoadBalancer 80:30080/TCP health:32767", want: []string{"PC0305 info spec.healthCheckNodePort"}},
		},
		check.OutsideSmaller: {
			{why: "what the Service had it keeps", old: "Service a NodePort 80:20080/TCP", now: "Service a NodePort 80:20080/TCP 81/TCP",
				want: []string{"PC0306 warning standing spec.ports[0].nodePort"}},
			{why: "in another entry", old: "Service a NodePort a=80:20080/TCP", now: "Service a NodePort b=81:20080/TCP",
				want: []string{"PC0306 warning standing spec.ports[0].nodePort"}},
			{why: "a health check", old: "Service a LoadBalancer 80:30080/TCP health:80", now: "Service a LoadBalancer 80:30080/TCP health:80",
				want: []string{"PC0306 warning standing spec.healthCheckNodePort"}},
		},
	}
}

func silentRanges() map[check.Code][]scene {
	return map[check.Code][]scene{
		check.InNodePorts: {
			{why: "just outside", now: "Pod a: hostPort * 29999/TCP @?; hostPort * 9100/TCP @?"},
			{why: "a plain init container's", now: "Pod a: hostPort,init * 31000/TCP @?"},
			{why: "a Service has the number, for another protocol", held: []string{"Service b NodePort 80:30080/TCP"}, now: "Pod a: hostPort * 30080/UDP @?"},
			{why: "a Service's own", now: "Service a NodePort 80:30080/TCP"},
		},
		check.InEphemeral: {
			{why: "reserved on the nodes", now: "Pod a: hostPort * 33000/TCP @?; hostPort * 33009/TCP @?; hostPort * 40000/TCP @?"},
			{why: "just outside", now: "Pod a: hostPort * 61000/TCP @?"},
			{why: "a Service's own port is not a port of a node", now: "Service a ClusterIP 50000/TCP ip:198.51.100.7"},
			{why: "a plain init container's", now: "Pod a: hostPort,init * 50000/TCP @?"},
		},
		check.InDynamicBand: {
			{why: "the static band", now: "Service a NodePort 80:30085/TCP"},
			{why: "the Service has it already", old: "Service a NodePort 80:30086/TCP", now: "Service a NodePort 80:30086/TCP 81/TCP"},
			{why: "a number of the pool that serves it", pools: []string{"a 30100-30199 ns=a"}, now: "Service a NodePort 80:30100/TCP"},
			{why: "a number that was given out", now: "Service a NodePort 80:31000/TCP chosen"},
			{why: "a hostPort is given out by nobody", now: "Pod a: hostPort * 9100/TCP @?"},
		},
		check.OutsideSmaller: {
			{why: "inside", old: "Service a NodePort 80:30080/TCP", now: "Service a NodePort 80:30080/TCP"},
			{why: "the old number is given up", old: "Service a NodePort 80:20080/TCP", now: "Service a NodePort 80:30080/TCP"},
		},
	}
}
