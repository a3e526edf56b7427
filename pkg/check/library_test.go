package check_test

import (
	"testing"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// TestLeftOut: what a caller leaves out is not there, or is what can be derived: nothing panics.
func TestLeftOut(t *testing.T) {
	socket := ports.MustParseSocket("*:30062/TCP")
	var held ledger.Ledger
	held.Replace(ports.Owner{Ref: ports.Ref{Kind: "Service", Name: "a"}}, []ports.Claim{{Socket: socket, Kind: ports.NodePort, Scope: ports.EverywhereScope()}})
	for name, in := range map[string]check.Input{
		"nothing":                         {},
		"settings only":                   {Settings: &check.Settings{}},
		"a Service":                       {Service: &check.Service{}},
		"a workload":                      {Workload: &check.Workload{}},
		"updates":                         {Service: &check.Service{}, OldService: &check.Service{}},
		"an old one only":                 {OldWorkload: &check.Workload{}},
		"pools without a set":             {Service: &check.Service{}, Pools: &check.Pools{}},
		"a pod with a claim of no owner":  {Held: held.Snapshot(), Workload: &check.Workload{IsPod: true, Claims: []ports.Claim{{Socket: socket, Kind: ports.HostPort}}}},
		"a template":                      {Held: held.Snapshot(), Workload: &check.Workload{Claims: []ports.Claim{{Socket: socket, Kind: ports.HostPort}}}},
		"a Service with one":              {Held: held.Snapshot(), Service: &check.Service{Claims: []ports.Claim{{Socket: socket, Kind: ports.NodePort}}}},
		"one with probes and no evidence": {Workload: &check.Workload{Probed: []ports.Claim{{Socket: socket}}}},
	} {
		func() {
			defer func() {
				if r := recover(); r != nil {
					t.Errorf("%s: panics: %v", name, r)
				}
			}()
			findings := check.Check(in)
			if in.Held != nil && len(findings) == 0 {
				t.Errorf("%s: nothing is found", name)
			}
			for _, f := range findings {
				if f.Claim.Port != 0 && f.Claim.Owner == nil {
					t.Errorf("%s: the claim of a finding has no owner", name)
				}
			}
		}()
	}
}
