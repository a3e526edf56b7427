package check_test

import (
	"testing"

	"github.com/portcullis-k8s/portcullis/pkg/check"
)

func foundEdits() map[check.Code][]scene {
	return map[check.Code][]scene{
		check.PortInvalid: {
			{why: "of a Service", now: "Service a NodePort 80/TCP invalid:PC0108=spec.ports[0].port", want: []string{"PC0108 error spec.ports[0].port"}},
			{why: "what a patch need not have", now: "Service a NodePort invalid:PC0108=spec.ports=a_Service_without_ports", want: []string{"PC0108 warning spec.ports (a Service without ports)"}},
			{
				why: "names that a patch need not have", now: "Service a NodePort invalid:PC0108=spec.ports[0].name=one_of_several_ports_without_a_name",
				want: []string{"PC0108 warning spec.ports[0].name (one of several ports without a name)"},
			},
			{why: "of a pod", now: "Pod a: hostPort * 80/TCP @?; invalid=PC0108=ports[1].containerPort", want: []string{"PC0108 error ports[1].containerPort"}},
			{
				why: "that stood in a file before", old: "Deployment a: invalid=PC0108=ports[0].hostPort", now: "Deployment a: invalid=PC0108=ports[0].hostPort; invalid=PC0109=ports[1].name",
				want: []string{"PC0108 error standing ports[0].hostPort", "PC0109 error ports[1].name"},
			},
		},
		check.PortNameTwice: {
			{why: "of a Service", now: "Service a NodePort 80/TCP invalid:PC0109=spec.ports[1].name", want: []string{"PC0109 error spec.ports[1].name"}},
			{why: "of a pod", now: "Pod a: invalid=PC0109=ports[1].name", want: []string{"PC0109 error ports[1].name"}},
		},
		check.HostPortDiffers: {
			{why: "on the host network", now: "DaemonSet a hostNetwork main: hostNetwork * 80/TCP @every; invalid=PC0110=ports[0].hostPort", want: []string{"PC0110 error ports[0].hostPort"}},
		},
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
			{why: "two names exchanged", old: "Service a NodePort a=80:30080/TCP b=443:30443/TCP", now: "Service a NodePort b=80/TCP a=443/TCP",
				want: []string{"PC0501 warning spec.ports[0].name (lost by replace) and a", "PC0501 warning spec.ports[1].name (lost by replace) and b"}},
			{why: "renamed by a change of type", old: "Service a NodePort http=80:30080/TCP", now: "Service a LoadBalancer web=80/TCP",
				want: []string{"PC0501 warning spec.ports[0].name (lost by replace) and http"}},
			{why: "what a load balancer without allocated node ports had", old: "Service a LoadBalancer http=80:30080/TCP unallocated", now: "Service a NodePort http=80/TCP",
				want: []string{"PC0501 warning spec.ports[0].nodePort (lost by replace) and http"}},
			{why: "that begins to allocate", old: "Service a LoadBalancer http=80:30080/TCP unallocated", now: "Service a LoadBalancer http=80/TCP",
				want: []string{"PC0501 warning spec.ports[0].nodePort (lost by replace) and http"}},
			{why: "and is renamed, where the old name would not help", old: "Service a LoadBalancer http=80:30080/TCP unallocated", now: "Service a NodePort web=80/TCP",
				want: []string{"PC0501 warning spec.ports[0].nodePort (lost by replace) and http"}},
			{why: "and its port changes", old: "Service a LoadBalancer http=80:30080/TCP unallocated", now: "Service a NodePort http=8080/TCP",
				want: []string{"PC0501 warning spec.ports[0].nodePort (lost in any way) and http"}},
			{why: "and its protocol changes", old: "Service a LoadBalancer dns=53:30053/TCP unallocated", now: "Service a NodePort dns=53/UDP",
				want: []string{"PC0501 warning spec.ports[0].nodePort (lost by replace) and dns"}},
			{why: "and both change", old: "Service a LoadBalancer dns=53:30053/TCP unallocated", now: "Service a NodePort dns=5353/UDP",
				want: []string{"PC0501 warning spec.ports[0].nodePort (lost in any way) and dns"}},
			{why: "of ports in another order", old: "Service a LoadBalancer a=80:30080/TCP b=443:30443/TCP unallocated", now: "Service a NodePort b=443/TCP a=80:30080/TCP",
				want: []string{"PC0501 warning spec.ports[0].nodePort (lost by replace) and b"}},
			{why: "of a name that moves to a port that had no number", old: "Service a LoadBalancer a=80/TCP b=443:30443/TCP unallocated", now: "Service a NodePort b=80/TCP",
				want: []string{"PC0501 warning spec.ports[0].nodePort (lost in any way) and b"}},
			{why: "of a name that moves to such a port with another protocol", old: "Service a LoadBalancer e=8080:30008/SCTP>http f=443/UDP>8000 unallocated",
				now:  "Service a NodePort d=53/SCTP>http e=443/UDP>8000",
				want: []string{"PC0501 warning spec.ports[1].nodePort (lost in any way) and e"}},
			{why: "of a name that moves to a port of which the number is written elsewhere", old: "Service a LoadBalancer a=80:30080/TCP b=443:30443/TCP unallocated",
				now:  "Service a NodePort b=80/TCP c=444:30080/TCP",
				want: []string{"PC0501 warning spec.ports[0].nodePort (lost in any way) and b"}},
			{why: "what leads to the same pods by another name and port", old: "Service a LoadBalancer a=80:30080/TCP>http b=443:30443/TCP unallocated", now: "Service a NodePort c=8080/TCP>http b=443:30443/TCP",
				want: []string{"PC0501 warning spec.ports[0].nodePort (lost in any way) and a"}},
			{why: "a shared number is written once", old: "Service a NodePort dns=53:30053/UDP dns-tcp=53:30053/TCP", now: "Service a NodePort dns=53:30053/UDP dns-tcp=53/TCP",
				want: []string{"PC0501 warning spec.ports[1].nodePort (lost by replace) and dns-tcp"}},
			{why: "and the other port moves", old: "Service a NodePort dns=53:30053/UDP dns-tcp=53:30053/TCP", now: "Service a NodePort dns=53:30053/UDP dns-tcp=54/TCP",
				want: []string{"PC0501 warning spec.ports[1].nodePort (lost in any way) and dns-tcp"}},
			{why: "and the other port is renamed, where the old name would not help", old: "Service a NodePort dns=53:30053/UDP dns-tcp=53:30053/TCP", now: "Service a NodePort dns=53:30053/UDP tcp=53/TCP",
				want: []string{"PC0501 warning spec.ports[1].nodePort (lost by replace) and dns-tcp"}},
		},
		check.CreateRefuses: {
			{why: "one number for two ports, reached by an update", old: "Service a NodePort a=53:30053/TCP", now: "Service a NodePort a=53:30053/TCP b=54:30053/UDP",
				want: []string{"PC0502 warning spec.ports[1].nodePort and spec.ports[0]"}},
			{why: "and kept", old: "Service a NodePort a=53:30053/TCP b=54:30053/UDP", now: "Service a NodePort a=53:30053/TCP b=54:30053/UDP",
				want: []string{"PC0502 warning standing spec.ports[1].nodePort and spec.ports[0]"}},
		},
		check.OneMergeKey: {
			{why: "DNS", now: "Service a ClusterIP 53/TCP 53/UDP", want: []string{"PC0503 info spec.ports[1].port (entries of a Service) and spec.ports[0]"}},
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
		// What is no reason for them: TestInvalid of pkg/extract, and the API server's own validation (test/upstream/conformance).
		check.PortInvalid:     {{why: "nothing invalid", now: "Service a NodePort 80/TCP"}},
		check.PortNameTwice:   {{why: "nothing invalid", now: "Deployment a: hostPort * 80/TCP @?"}},
		check.HostPortDiffers: {{why: "nothing invalid", now: "Pod a hostNetwork main: hostNetwork * 80/TCP @?"}},
		check.WrongCase:       {{why: "nothing misspelled", now: "Service a NodePort 80/TCP policy:Local"}},
		check.HealthCheckFixed: {
			{why: "left out, it is put back", old: "Service a LoadBalancer 80:30080/TCP health:30081", now: "Service a LoadBalancer 80:30080/TCP"},
			{why: "the first one", old: "Service a LoadBalancer 80:30080/TCP", now: "Service a LoadBalancer 80:30080/TCP health:30081"},
			{why: "the same", old: "Service a LoadBalancer 80:30080/TCP health:30081", now: "Service a LoadBalancer 80:30080/TCP health:30081"},
			{why: "left out, and no node ports are allocated", old: "Service a LoadBalancer 80/TCP unallocated health:30081", now: "Service a LoadBalancer 80/TCP unallocated"},
			{why: "left out with a change of allocation", old: "Service a LoadBalancer 80/TCP unallocated health:30081", now: "Service a LoadBalancer 80/TCP"},
			{why: "left out with a change of type", old: "Service a LoadBalancer 80:30080/TCP health:30081", now: "Service a NodePort 80:30080/TCP"},
			{why: "the first one, with a change of type", old: "Service a NodePort 80:30080/TCP", now: "Service a LoadBalancer 80:30080/TCP health:30082"},
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
			{why: "another protocol, and the name stays", old: "Service a NodePort dns=53:30053/TCP", now: "Service a NodePort dns=53/UDP"},
			{why: "another order", old: "Service a NodePort a=80:30080/TCP b=443:30443/TCP", now: "Service a NodePort b=443/TCP a=80/TCP"},
			{why: "a name that moves to a port that had no number", old: "Service a LoadBalancer a=80/TCP b=443:30443/TCP", now: "Service a NodePort b=80/TCP"},
			{why: "a shared number is left out by both", old: "Service a NodePort dns=53:30053/UDP dns-tcp=53:30053/TCP", now: "Service a NodePort dns=53/UDP dns-tcp=53/TCP"},
			{why: "a shared number is written, and the other port is removed", old: "Service a NodePort dns=53:30053/UDP dns-tcp=53:30053/TCP", now: "Service a NodePort dns=53:30053/UDP"},
			{why: "a number is moved to another port", old: "Service a NodePort a=80:30080/TCP b=443:30443/TCP", now: "Service a NodePort a=80/TCP b=443:30080/TCP"},
			{why: "no node ports allocated, and none written", old: "Service a LoadBalancer http=80/TCP unallocated", now: "Service a NodePort http=80/TCP"},
			{why: "no node ports allocated, and the number is written", old: "Service a LoadBalancer http=80:30080/TCP unallocated", now: "Service a NodePort http=81:30080/UDP"},
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

// TestChangesOfType holds for each pair of types what becomes of a nodePort that a PUT leaves out: the API server puts it
// back by the name of the port if it allocates node ports for both versions, and else gives another if it does for the new
// one. A ClusterIP has none, and what an ExternalName has is nobody's.
func TestChangesOfType(t *testing.T) {
	const node, balancer, unallocated, external, cluster = "NodePort", "LoadBalancer", "LoadBalancer unallocated", "ExternalName", "ClusterIP"
	type change struct{ old, now string }
	type lost struct{ byType, byName string } // the field of the finding, by a change of the type only and by another name besides
	const name, nodePort = "spec.ports[0].name", "spec.ports[0].nodePort"
	want := map[change]lost{
		{node, node}: {"", name}, {node, balancer}: {"", name}, {balancer, node}: {"", name}, {balancer, balancer}: {"", name},
		{unallocated, node}: {nodePort, nodePort}, {unallocated, balancer}: {nodePort, nodePort},
	}
	given := map[change]bool{
		{unallocated, node}: true, {unallocated, balancer}: true, {external, node}: true, {external, balancer}: true,
		{cluster, node}: true, {cluster, balancer}: true,
	}
	for _, old := range []string{node, balancer, unallocated, external, cluster} {
		for _, now := range []string{node, balancer, unallocated, external, cluster} {
			c := change{old, now}
			number := ":30080"
			if old == cluster {
				number = ""
			}
			was, _ := mustObject("Service a " + old + " http=80" + number + "/TCP")
			for port, field := range map[string]string{"http=80/TCP": want[c].byType, "web=80/TCP": want[c].byName} {
				is, _ := mustObject("Service a " + now + " " + port)
				got := ""
				for _, f := range check.Check(check.Input{Service: is, OldService: was, Held: mustLedger().Snapshot(), Settings: settings()}) {
					if f.Code == check.NumberChanges {
						got += f.Field
					}
				}
				if got != field {
					t.Errorf("%s becomes %s with %s: got a finding of %q, want %q", old, now, port, got, field)
				}
			}
			is, _ := mustObject("Service a " + now + " http=8080/TCP")
			if gaps := check.Gaps(is, was); (len(gaps) == 1) != given[c] {
				t.Errorf("%s becomes %s: gets %+v", old, now, gaps)
			}
		}
	}
}
