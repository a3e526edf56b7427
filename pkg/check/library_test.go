package check_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

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
		"a Service that asks for one":     {Held: held.Snapshot(), Service: &check.Service{Asked: []ports.Claim{{Socket: socket, Kind: ports.LoadBalancerIP}}, Claims: []ports.Claim{{Socket: socket, Kind: ports.NodePort}}}},
		"probes, and evidence":            {Held: held.Snapshot(), Evidence: held.Snapshot(), Workload: &check.Workload{HostNetwork: true, Probed: []ports.Claim{{Socket: socket, Kind: ports.HostNetwork}}, Claims: []ports.Claim{{Socket: socket, Kind: ports.HostNetwork}}}},
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

// TestSets: a set of checks finds what all of them find, of its codes.
func TestSets(t *testing.T) {
	n := 0
	for set, codes := range map[check.Set][]check.Code{
		check.OfRange:    {check.OutsideRange, check.OutsideSmaller},
		check.OfPolicies: {check.PolicyNodePort, check.PolicyHostPort, check.PolicyReserved, check.PolicyExternalIP, check.ExceptionEnds},
	} {
		for _, table := range []map[check.Code][]scene{found(), foundRestricted()} {
			for _, scenes := range table {
				for _, s := range scenes {
					want := slices.DeleteFunc(s.findings(), func(f check.Finding) bool { return !slices.Contains(codes, f.Code) })
					in := s.input()
					in.Checks = set
					if diff := cmp.Diff(spoken(want), spoken(check.Check(in))); diff != "" {
						t.Errorf("set %d, %s (-all +set):\n%s", set, s.why, diff)
					}
					n += len(want)
				}
			}
		}
	}
	if n < 20 {
		t.Errorf("%d findings prove little", n)
	}
}
