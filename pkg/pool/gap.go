package pool

import (
	"strconv"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// Gap is a number that a Service lacks.
type Gap struct {
	Port    uint16 // spec.ports[].port of the entries that share it; 0: the healthCheckNodePort
	Entries []int  // which entries of spec.ports lack it
	Number  uint16 // what they are given, where another entry with the same port has a number; else 0: it is to be chosen
}

// Key tells the number from the Service's others, whatever the order of its entries.
func (g Gap) Key() string {
	if g.Port == 0 {
		return "healthCheckNodePort"
	}
	return strconv.Itoa(int(g.Port))
}

// Gaps returns the numbers that a Service lacks, in the order of its entries, the healthCheckNodePort last. Entries with the
// same port, DNS over TCP and UDP for example, share a number, as the API server's allocator does it on create
// (k8s.io/kubernetes/pkg/registry/core/service/storage initNodePorts); entries with different ports never share one. What
// the API server refuses, a zero entry or one port twice with one protocol, is given none.
func Gaps(entries []ports.ServicePort, healthCheck bool) []Gap {
	type entry struct {
		port     uint16
		protocol ports.Protocol
	}
	numbers, done := map[uint16]uint16{}, map[entry]bool{}
	for _, e := range entries {
		if e.NodePort == 0 {
			continue
		}
		done[entry{e.Port, e.Protocol}] = true
		if numbers[e.Port] == 0 {
			numbers[e.Port] = e.NodePort
		}
	}
	var gaps []Gap
	of := map[uint16]int{} // port -> index in gaps
	for i, e := range entries {
		if e.Port == 0 || e.NodePort != 0 || done[entry{e.Port, e.Protocol}] {
			continue
		}
		done[entry{e.Port, e.Protocol}] = true
		if g, known := of[e.Port]; known {
			gaps[g].Entries = append(gaps[g].Entries, i)
			continue
		}
		of[e.Port] = len(gaps)
		gaps = append(gaps, Gap{Port: e.Port, Entries: []int{i}, Number: numbers[e.Port]})
	}
	if healthCheck {
		gaps = append(gaps, Gap{})
	}
	return gaps
}
