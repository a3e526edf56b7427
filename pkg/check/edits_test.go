package check_test

import "github.com/portcullis-k8s/portcullis/pkg/check"

func foundEdits() map[check.Code][]scene {
	return map[check.Code][]scene{
		check.WrongCase: {
			{why: "a policy", now: "Service a NodePort 80/TCP spelled:spec.externalTrafficPolicy=local/Local", want: []string{"PC0106 error spec.externalTrafficPolicy and Local"}},
			{why: "a protocol of a pod", now: "Pod a: spelled=tcp/TCP", want: []string{"PC0106 error ports[0].protocol and TCP"}},
			{why: "each field is to be mended", now: "Deployment a: spelled=tcp/TCP; spelled=udp/UDP", want: []string{"PC0106 error ports[0].protocol and TCP", "PC0106 error ports[1].protocol and UDP"}},
		},
		check.HealthCheckFixed: {
			{why: "another number", old: "Service a LoadBalancer 80:30080/TCP health:30081", now: "Service a LoadBalancer 80:30080/TCP health:30082",
				want: []string{"PC0107 error spec.healthCheckNodePort and 30081"}},
		},
		check.NumberChanges: {
			{why: "renamed", old: "Service a NodePort http=80:30080/TCP", now: "Service a NodePort web=80/TCP",
				want: []string{"PC0501 warning spec.ports[0].name (lost by replace) and http"}},
			{why: "renamed beside another", old: "Service a NodePort http=80:30080/TCP dns=53:30053/UDP", now: "Service a NodePort dns=53/UDP web=80/TCP",
				want: []string{"PC0501 warning spec.ports[1].name (lost by replace) and http"}},
			{why: "given a name", old: "Service a LoadBalancer 80:30080/TCP", now: "Service a LoadBalancer web=80/TCP",
				want: []string{"PC0501 warning spec.ports[0].name (lost by replace)"}},
			{why: "renamed, and its port changed: one leads to where the other did", old: "Service a NodePort http=80:30080/TCP>http dns=53:30053/UDP", now: "Service a NodePort web=8080/TCP>http dns=53/UDP",
				want: []string{"PC0501 warning spec.ports[0].name (lost in any way) and http"}},
			{why: "the only port", old: "Service a NodePort http=80:30080/TCP", now: "Service a NodePort web=8080/TCP",
				want: []string{"PC0501 warning spec.ports[0].name (lost in any way) and http"}},
		},
		check.CreateRefuses: {
			{why: "one number for two ports, reached by an update", old: "Service a NodePort a=53:30053/TCP", now: "Service a NodePort a=53:30053/TCP b=54:30053/UDP",
				want: []string{"PC0502 warning spec.ports[1].nodePort and spec.ports[0].nodePort"}},
			{why: "and kept", old: "Service a NodePort a=53:30053/TCP b=54:30053/UDP", now: "Service a NodePort a=53:30053/TCP b=54:30053/UDP",
				want: []string{"PC0502 warning standing spec.ports[1].nodePort and spec.ports[0].nodePort"}},
		},
		check.OneMergeKey: {
			{why: "DNS", now: "Service a ClusterIP 53/TCP 53/UDP", want: []string{"PC0503 info spec.ports[1].port (entries of a Service) and spec.ports[0].port"}},
			{why: "a container's", now: "Pod a: hostPort 10.0.0.1 80/TCP @?; onekey=8080",
				want: []string{"PC0503 info ports[1] (entries of a container) and ports[0]"}},
		},
		check.TrafficPolicy: {
			{why: "to Local", old: "Service a NodePort 80:30080/TCP policy:Cluster", now: "Service a NodePort 80:30080/TCP policy:Local", want: []string{"PC0507 info spec.externalTrafficPolicy and Cluster"}},
		},
	}
}

func silentEdits() map[check.Code][]scene {
	return map[check.Code][]scene{
		check.WrongCase: {{why: "nothing misspelled", now: "Service a NodePort 80/TCP policy:Local"}},
		check.HealthCheckFixed: {
			{why: "left out, it is put back", old: "Service a LoadBalancer 80:30080/TCP health:30081", now: "Service a LoadBalancer 80:30080/TCP"},
			{why: "the first one", old: "Service a LoadBalancer 80:30080/TCP", now: "Service a LoadBalancer 80:30080/TCP health:30081"},
			{why: "the same", old: "Service a LoadBalancer 80:30080/TCP health:30081", now: "Service a LoadBalancer 80:30080/TCP health:30081"},
		},
		check.NumberChanges: {
			{why: "the name stays", old: "Service a NodePort http=80:30080/TCP", now: "Service a NodePort http=8080/TCP"},
			{why: "the number is written", old: "Service a NodePort http=80:30080/TCP", now: "Service a NodePort web=80:30080/TCP"},
			{why: "another number is written", old: "Service a NodePort http=80:30080/TCP", now: "Service a NodePort web=80:30081/TCP"},
			{why: "a port more", old: "Service a NodePort http=80:30080/TCP", now: "Service a NodePort http=80/TCP web=8080/TCP"},
			{why: "a port less", old: "Service a NodePort http=80:30080/TCP web=8080:30081/TCP", now: "Service a NodePort http=80/TCP"},
			{why: "a new port in place of an old one", old: "Service a NodePort http=80:30080/TCP x=81:30081/TCP", now: "Service a NodePort http=80/TCP y=9000/TCP"},
			{why: "a type without numbers", old: "Service a NodePort http=80:30080/TCP", now: "Service a ClusterIP web=80/TCP"},
			{why: "a load balancer that wants none", old: "Service a LoadBalancer http=80:30080/TCP", now: "Service a LoadBalancer unallocated web=80/TCP"},
			{why: "another protocol", old: "Service a NodePort dns=53:30053/TCP x=80:30080/TCP", now: "Service a NodePort dns-udp=53/UDP x=80/TCP"},
		},
		check.CreateRefuses: {
			{why: "one number for TCP and UDP of one port", old: "Service a NodePort a=53:30053/TCP", now: "Service a NodePort a=53:30053/TCP b=53:30053/UDP"},
		},
		check.OneMergeKey: {
			{why: "two ports", now: "Service a ClusterIP 53/TCP 54/UDP"},
		},
		check.TrafficPolicy: {
			{why: "the same", old: "Service a NodePort 80:30080/TCP policy:Local", now: "Service a NodePort 80:30080/TCP policy:Local"},
			{why: "a type that has none", old: "Service a NodePort 80:30080/TCP policy:Local", now: "Service a ClusterIP 80/TCP"},
			{why: "a new Service", now: "Service a NodePort 80:30080/TCP policy:Local"},
		},
	}
}
