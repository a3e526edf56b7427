package check_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
)

// clashes is selfClashes pair by pair.
func clashes(list []ports.ServicePort, creating bool) []string {
	var all []string
	for i, b := range list {
		for j, a := range list[:i] {
			field, named := "nodePort", check.Case("")
			same := a.NodePort != 0 && a.NodePort == b.NodePort
			shares := a.Port == b.Port && writtenFirst(list, b.Port) == b.NodePort
			switch {
			case a.Port == b.Port && a.Protocol == b.Protocol:
				field, named = "port", check.SamePortTwice
			case same && a.Protocol == b.Protocol:
				named = check.SameNodePortTwice
			case same && !shares && creating:
				named = check.SameNodePortSplit
			default:
				continue
			}
			all = append(all, fmt.Sprintf("PC0103 error spec.ports[%d].%s (%s) and spec.ports[%d]", i, field, named, j))
			break
		}
	}
	return all
}

// writtenFirst is the first nodePort that is written for a port: a create lets all entries of the port share that one only.
func writtenFirst(list []ports.ServicePort, port uint16) uint16 {
	for _, p := range list {
		if p.Port == port && p.NodePort != 0 {
			return p.NodePort
		}
	}
	return 0
}

func sorted(lines []string) []string { return slices.Sorted(slices.Values(lines)) }

func TestSelfClashesPairByPair(t *testing.T) {
	r := seed.Rand(t)
	for range 3000 {
		var words []string
		for range 2 + r.IntN(5) {
			word := fmt.Sprintf("%d", 80+r.IntN(3))
			if r.IntN(4) > 0 {
				word += fmt.Sprintf(":%d", 30000+r.IntN(2))
			}
			words = append(words, word+"/"+ports.Protocols()[r.IntN(3)].String())
		}
		line := "Service a NodePort " + strings.Join(words, " ")
		service, _ := mustObject(line)
		created := check.Check(check.Input{Service: service, Held: mustLedger().Snapshot(), Settings: settings()})
		unrelated, _ := mustObject("Service a NodePort 1/TCP")
		updated := check.Check(check.Input{Service: service, OldService: unrelated, Held: mustLedger().Snapshot(), Settings: settings()})
		for _, c := range []struct {
			findings []check.Finding
			want     []string
		}{{created, clashes(service.Ports, true)}, {updated, clashes(service.Ports, false)}} {
			// Both orders are by place, but the findings' is by the whole path.
			if diff := cmp.Diff(sorted(c.want), sorted(spoken(slices.DeleteFunc(c.findings, isRemarkBeside(check.ServiceSelfClash))))); diff != "" {
				t.Fatalf("%s (-want +got):\n%s", line, diff)
			}
		}
	}
}

// TestThirtyThousandServicePorts judges a Service as large as the API server takes one.
func TestThirtyThousandServicePorts(t *testing.T) {
	old, now := &check.Service{Owner: mustOwner("Service a"), Type: "NodePort"}, &check.Service{Owner: mustOwner("Service a"), Type: "ClusterIP"}
	for i := range 30_000 {
		old.Ports = append(old.Ports, ports.ServicePort{Port: uint16(i + 1), Protocol: ports.TCP, NodePort: uint16(i + 1)})
	}
	now.Ports = old.Ports
	findings := check.Check(check.Input{Service: now, OldService: old, Held: mustLedger().Snapshot(), Settings: settings()})
	if len(findings) != len(now.Ports) || findings[0].Case != check.NodePortIsLeftOver {
		t.Errorf("%d findings, want one for each of %d left-over numbers", len(findings), len(now.Ports))
	}
}
