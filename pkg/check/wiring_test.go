package check_test

import "github.com/portcullis-k8s/portcullis/pkg/check"

func foundWiring() map[check.Code][]scene {
	target := func(named check.Case, protocol string) []string {
		return []string{"PC0505 warning spec.ports[0].targetPort (" + string(named) + ") and " + protocol + " < Deployment b"}
	}
	return map[check.Code][]scene{
		check.TargetPortName: {
			{why: "no such name", now: "Service a ClusterIP 80/TCP>http backend:b[web/TCP/8080]", want: target(check.NotOffered, "TCP")},
			{why: "no names at all", now: "Service a ClusterIP 80/TCP>http backend:b[]", want: target(check.NotOffered, "TCP")},
			{why: "the other protocol", now: "Service a ClusterIP 53/TCP>dns backend:b[dns/UDP/53]", want: target(check.OtherProtocol, "TCP")},
			{why: "two ports of one name", now: "Service a ClusterIP 80/TCP>http backend:b[http/TCP/8080,http/TCP/8081]", want: target(check.OfferedTwice, "TCP")},
			{why: "each field is to be mended", now: "Service a ClusterIP 80/TCP>http 443/TCP>http backend:b[]", want: append(
				target(check.NotOffered, "TCP"), "PC0505 warning spec.ports[1].targetPort (nothing selected offers it) and TCP < Deployment b")},
		},
		check.EndpointsApart: {
			{why: "another namespace", now: "Service a ClusterIP db=5432/TCP endpoints:other[db]",
				want: []string{"PC0506 warning metadata.namespace (in another namespace) < Endpoints a"}},
			{why: "another port name", now: "Service a ClusterIP db=5432/TCP endpoints:ns[data]",
				want: []string{"PC0506 warning spec.ports[0].name (by another port name) and TCP < Endpoints a"}},
			{why: "the other protocol", now: "Service a ClusterIP dns=53/UDP endpoints:ns[dns]",
				want: []string{"PC0506 warning spec.ports[0].name (by another port name) and UDP < Endpoints a"}},
			{why: "a name on one side only", now: "Service a ClusterIP 5432/TCP endpoints:ns[db]",
				want: []string{"PC0506 warning spec.ports[0].name (by another port name) and TCP < Endpoints a"}},
		},
	}
}

func silentWiring() map[check.Code][]scene {
	return map[check.Code][]scene{
		check.TargetPortName: {
			{why: "nothing selected is known", now: "Service a ClusterIP 80/TCP>http"},
			{why: "a number needs no declared port", now: "Service a ClusterIP 80/TCP>8080 backend:b[]"},
			{why: "one of those selected offers it", now: "Service a ClusterIP 80/TCP>http backend:old[web/TCP/80] backend:b[http/TCP/8080]"},
			{why: "one port twice is one port", now: "Service a ClusterIP 80/TCP>http backend:b[http/TCP/8080,http/TCP/8080]"},
			{why: "one name for two protocols", now: "Service a ClusterIP 53/TCP>dns 54/UDP>dns backend:b[dns/TCP/53,dns/UDP/53]"},
		},
		check.EndpointsApart: {
			{why: "they meet", now: "Service a ClusterIP db=5432/TCP endpoints:ns[db]"},
			{why: "without names", now: "Service a ClusterIP 5432/TCP endpoints:ns[]"},
			{why: "several slices", now: "Service a ClusterIP db=5432/TCP x=80/TCP endpoints:ns[db] endpoints:ns[x] endpoints:other[y]"},
			{why: "none are known", now: "Service a ClusterIP db=5432/TCP"},
		},
	}
}
