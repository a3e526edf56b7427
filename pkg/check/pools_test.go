package check_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
)

// TestOffers: of a number that is held another one is offered, which can be had.
func TestOffers(t *testing.T) {
	for _, c := range []struct {
		why     string
		held    []string
		pools   []string
		from    string
		now     string
		offered []uint16
		want    string // FIELD=NUMBER
	}{
		{"the lowest of its pool", []string{"Service b NodePort 80:30000/TCP"}, []string{"a 30100-30101"}, "31000-31001", "Service a NodePort 80:30000/TCP", nil,
			"spec.ports[0].nodePort=30100"},
		{"what is left of it", []string{"Service b NodePort 80:30000/TCP 81:30100/TCP"}, []string{"a 30100-30101"}, "31000", "Service a NodePort 80:30000/TCP", nil,
			"spec.ports[0].nodePort=30101"},
		{"the pool is full", []string{"Service b NodePort 80:30000/TCP 81:30100/TCP"}, []string{"a 30100"}, "31000", "Service a NodePort 80:30000/TCP", nil,
			"spec.ports[0].nodePort=31000"},
		{"not of the pool of others", []string{"Service b NodePort 80:31000/TCP"}, []string{"b 31000-31001 ns=b"}, "31000-31002", "Service a NodePort 80:31000/TCP", nil,
			"spec.ports[0].nodePort=31002"},
		{"of the ranges, in their order", []string{"Service b NodePort 80:31000/TCP"}, nil, "31000,30000", "Service a NodePort 80:31000/TCP", nil,
			"spec.ports[0].nodePort=30000"},
		{"not what was offered before", []string{"Service b NodePort 80:31000/TCP"}, nil, "31000-31002", "Service a NodePort 80:31000/TCP", []uint16{31001},
			"spec.ports[0].nodePort=31002"},
		{"not what a pod holds", []string{"Service b NodePort 80:31000/TCP", "Pod b: hostPort * 31001/TCP @n1"}, nil, "31000-31002", "Service a NodePort 80:31000/TCP", nil,
			"spec.ports[0].nodePort=31002"},
		{"for the protocol", []string{"Service b NodePort 80:31000/TCP", "Pod b: hostPort * 31001/UDP @n1"}, nil, "31000-31001", "Service a NodePort 80:31000/TCP", nil,
			"spec.ports[0].nodePort=31001"},
		{"not what a daemon holds", []string{"Service b NodePort 80:31000/TCP"}, nil, "31000,10250", "Service a NodePort 80:31000/TCP", nil, "spec.ports[0].nodePort=0"},
		{"not what it names for another port", []string{"Service b NodePort 80:31000/TCP"}, nil, "31000-31002", "Service a NodePort 80:31000/TCP 81:31001/TCP", nil,
			"spec.ports[0].nodePort=31002"},
		{"one for both of DNS", []string{"Service b NodePort 80:31000/TCP"}, nil, "31001", "Service a NodePort 53:31000/UDP 53:31000/TCP", nil,
			"spec.ports[0].nodePort=31001 spec.ports[1].nodePort=31001"},
		{"two for two", []string{"Service b NodePort 80:31000/TCP 81:31001/TCP"}, nil, "31000-31003", "Service a LoadBalancer 80:31000/TCP health:31001", []uint16{31003},
			"spec.healthCheckNodePort=31002 spec.ports[0].nodePort=0"},
		{"not for an external IP", []string{"Service b ClusterIP 80/TCP ip:198.51.100.7"}, nil, "31000", "Service a ClusterIP 80/TCP ip:198.51.100.7", nil,
			"spec.ports[0].port=0"},
	} {
		s := scene{held: c.held, pools: c.pools, now: c.now}
		in := check.Input{Held: mustLedger(c.held...).Snapshot(), Settings: settings(), Offered: map[uint16]bool{}}
		in.Service, _ = mustObject(c.now)
		for part := range strings.SplitSeq(c.from, ",") {
			in.Settings.OfferFrom = append(in.Settings.OfferFrom, ports.MustParseRange(part))
		}
		for _, number := range c.offered {
			in.Offered[number] = true
		}
		s.restrict(&in)
		var offers []string
		for _, f := range check.Check(in) {
			if f.Code == check.Held {
				offers = append(offers, fmt.Sprintf("%s=%d", f.Field, f.Instead))
			}
		}
		if got := strings.Join(offers, " "); got != c.want {
			t.Errorf("%s: %s, want %s", c.why, got, c.want)
		}
		in.Offered = nil
		for _, f := range check.Check(in) {
			if f.Instead != 0 {
				t.Errorf("%s: %d is offered without being asked for", c.why, f.Instead)
			}
		}
	}
}

// TestOffersCanBeHad: whatever is offered draws no finding that a Service with any number would not draw.
func TestOffersCanBeHad(t *testing.T) {
	r := seed.Rand(t)
	offers := 0
	for range 300 {
		var l ledger.Ledger
		for i := range 3 {
			hold(&l, fmt.Sprintf("Service s%d NodePort 80:%d/TCP", i, 31000+r.IntN(8)))
			hold(&l, fmt.Sprintf("Pod p%d: hostPort * %d/TCP @n%d", i, 31000+r.IntN(8), i))
		}
		in := check.Input{Held: l.Snapshot(), Settings: settings(), Offered: map[uint16]bool{}}
		in.Settings.OfferFrom = []ports.Range{ports.MustParseRange("31000-31007")}
		in.Service, _ = mustObject(fmt.Sprintf("Service a NodePort 80:%d/TCP", 31000+r.IntN(8)))
		for _, f := range check.Check(in) {
			if f.Instead == 0 {
				continue
			}
			offers++
			in.Service, _ = mustObject(fmt.Sprintf("Service a NodePort 80:%d/TCP", f.Instead))
			if again := check.Check(in); slices.ContainsFunc(again, func(f check.Finding) bool { return f.Severity == check.Error }) {
				t.Fatalf("%d is offered, and draws %q", f.Instead, spoken(again))
			}
		}
	}
	if offers < 50 {
		t.Errorf("%d offers prove little", offers)
	}
}

// TestGaps: what a Service leaves out and will be given.
func TestGaps(t *testing.T) {
	for _, c := range []struct {
		why, old, now string
		want          []check.Gap
	}{
		{"none", "", "Service a NodePort 80:30000/TCP", nil},
		{"two", "", "Service a NodePort 80/TCP 81:30000/TCP 82/TCP", []check.Gap{{ports.NodePort, "spec.ports[0].nodePort", "80"}, {ports.NodePort, "spec.ports[2].nodePort", "82"}}},
		{"one for DNS", "", "Service a NodePort 53/TCP 53/UDP", []check.Gap{{ports.NodePort, "spec.ports[0].nodePort", "53"}}},
		{"DNS has one already", "", "Service a NodePort 53:30053/TCP 53/UDP", nil},
		{"a ClusterIP has none", "", "Service a ClusterIP 80/TCP", nil},
		{"a health check", "", "Service a LoadBalancer 80:30000/TCP policy:Local", []check.Gap{{ports.HealthCheckNodePort, "spec.healthCheckNodePort", "healthCheckNodePort"}}},
		{"nothing but a health check", "", "Service a LoadBalancer 80/TCP unallocated policy:Local", []check.Gap{{ports.HealthCheckNodePort, "spec.healthCheckNodePort", "healthCheckNodePort"}}},
		{"kept by name", "Service a NodePort x=80:30000/TCP", "Service a NodePort x=81/TCP", nil},
		{"kept by port", "Service a NodePort x=80:30000/TCP", "Service a NodePort y=80/TCP", nil},
		{"not kept for another protocol", "Service a NodePort x=80:30000/TCP", "Service a NodePort y=80/UDP", []check.Gap{{ports.NodePort, "spec.ports[0].nodePort", "80"}}},
		{"a health check that it has", "Service a LoadBalancer 80:30000/TCP policy:Local health:30001", "Service a LoadBalancer 80:30000/TCP policy:Local", nil},
	} {
		now, _ := mustObject(c.now)
		old, _ := mustObject(c.old)
		if diff := cmp.Diff(c.want, check.Gaps(now, old)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.why, diff)
		}
	}
}

// TestChoiceFindings: what who chooses numbers meets is enforced as the pools say, the strictest first.
func TestChoiceFindings(t *testing.T) {
	set := pool.New([]pool.Pool{mustPool("a 30100 warn perService=1"), mustPool("b 30200 deny"), mustPool("c 30300")}, ports.Range{})
	member := func(name string) *pool.Member {
		m, _ := set.Named(name)
		return m
	}
	objection := func(f check.Finding) error { return f.Detail.(check.PoolObjection).Err }
	object := mustOwner("Service s").Ref
	over := check.LimitFinding(object, "f", &pool.LimitError{Pool: member("a"), PerService: true, Limit: 1, Has: 1, More: 1})
	full := check.ExhaustedFinding(object, "f", &pool.ExhaustedError{Wanted: 1, Tried: []pool.Shortfall{{Pool: member("a")}, {Pool: member("b")}, {Pool: member("c")}}})
	want := []string{"PC0308 warning Warn f < PortPool a", "PC0309 warning Deny f < PortPool a"}
	if diff := cmp.Diff(want, spoken([]check.Finding{over, full})); diff != "" || objection(over) == nil || objection(full) == nil {
		t.Errorf("%v, %v (-want +got):\n%s", objection(over), objection(full), diff)
	}
}
