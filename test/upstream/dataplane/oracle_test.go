//go:build linux

package dataplane

import (
	"flag"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/klog/v2"
	"sigs.k8s.io/yaml"

	"github.com/portcullis-k8s/portcullis/pkg/extract/specimen"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

// The real proxiers in process: everything of theirs but what touches the machine.

func TestMain(m *testing.M) {
	flags := flag.NewFlagSet("klog", flag.PanicOnError)
	klog.InitFlags(flags)
	for name, value := range map[string]string{"logtostderr": "false", "stderrthreshold": "FATAL"} { // the proxiers tell a lot
		if err := flags.Set(name, value); err != nil {
			panic(err)
		}
	}
	klog.SetOutput(io.Discard)
	os.Exit(m.Run())
}

func both() []rules.Family { return []rules.Family{rules.IPv4, rules.IPv6} }

// differential compares what a real proxier installs with what we render, for random cases. difference returns "" where
// there is none.
func differential(t *testing.T, difference func(*Case, rules.Family) string) {
	source := specimen.New(t)
	var tally Tally
	for range specimen.Rounds(300) {
		c := Draw(source.Uint64(), Normal())
		tally.Add(c.World())
		compare(t, c, difference)
		if t.Failed() {
			return
		}
	}
	tally.Check(t, 20)
}

// compare reports the difference in the smallest case that still shows one.
func compare(t *testing.T, c *Case, difference func(*Case, rules.Family) string) {
	t.Helper()
	for _, f := range both() {
		if difference(c, f) == "" {
			continue
		}
		small := shrink(c, func(c *Case) bool { return difference(c, f) != "" })
		t.Errorf("%v, case %d, made small:\n%s\n%s", f, c.Seed, describe(small), difference(small, f))
		return
	}
}

// shrink takes from a case what it can be without and still fail. It stops after a while: of a thousand endpoints each may
// be needed.
func shrink(c *Case, fails func(*Case) bool) *Case {
	for start, smaller := time.Now(), true; smaller; {
		smaller = false
		for _, candidate := range smallerCases(c) {
			if time.Since(start) > 20*time.Second {
				return c
			}
			if fails(candidate) {
				c, smaller = candidate, true
				break
			}
		}
	}
	return c
}

// smallerCases are the case without one thing, the largest things first.
func smallerCases(c *Case) []*Case {
	var all []*Case
	change := func(f func(*Case)) {
		smaller := *c
		f(&smaller)
		all = append(all, &smaller)
	}
	for i := range c.Services {
		change(func(s *Case) { s.Services = without(c.Services, i) })
	}
	for i := range c.Slices {
		change(func(s *Case) { s.Slices = without(c.Slices, i) })
	}
	for i, svc := range c.Services {
		for _, simpler := range simplerServices(svc) {
			change(func(s *Case) {
				s.Services = slices.Clone(c.Services)
				s.Services[i] = simpler
			})
		}
	}
	for _, f := range []func(*rules.Proxy){
		func(p *rules.Proxy) { p.MasqueradeAll = false },
		func(p *rules.Proxy) { p.MasqueradeBit = 14 },
		func(p *rules.Proxy) { p.NodePortAddresses = nil },
		func(p *rules.Proxy) { p.PrimaryNodePorts = false },
		func(p *rules.Proxy) { p.LocalhostNodePorts = true },
		func(p *rules.Proxy) { p.Detector = rules.Detector{} },
		func(p *rules.Proxy) { p.LiberalConntrack = false },
		func(p *rules.Proxy) { p.Counters = false },
		func(p *rules.Proxy) { p.Scheduler = "" },
	} {
		smaller := *c
		if f(&smaller.Proxy); !reflect.DeepEqual(smaller.Proxy, c.Proxy) {
			all = append(all, &smaller)
		}
	}
	for i, slice := range c.Slices {
		for n := len(slice.Endpoints) / 2; n > 0; n /= 2 { // halves first: there may be a thousand
			for from := 0; from < len(slice.Endpoints); from += n {
				change(func(s *Case) {
					less := slice.DeepCopy()
					less.Endpoints = slices.Delete(less.Endpoints, from, min(from+n, len(less.Endpoints)))
					s.Slices = slices.Clone(c.Slices)
					s.Slices[i] = less
				})
			}
		}
	}
	return all
}

func simplerServices(svc *corev1.Service) []*corev1.Service {
	var all []*corev1.Service
	for _, f := range []func(*corev1.Service){
		func(s *corev1.Service) { s.Spec.Ports = s.Spec.Ports[:1] },
		func(s *corev1.Service) { s.Spec.Ports = s.Spec.Ports[len(s.Spec.Ports)-1:] },
		func(s *corev1.Service) { s.Spec.SessionAffinity, s.Spec.SessionAffinityConfig = "", nil },
		func(s *corev1.Service) { s.Spec.ExternalIPs = nil },
		func(s *corev1.Service) { s.Spec.LoadBalancerSourceRanges = nil },
		func(s *corev1.Service) { s.Status = corev1.ServiceStatus{} },
		func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy = "" },
		func(s *corev1.Service) { s.Spec.InternalTrafficPolicy = nil },
		func(s *corev1.Service) { s.Spec.HealthCheckNodePort = 0 },
	} {
		simpler := svc.DeepCopy()
		if f(simpler); !reflect.DeepEqual(simpler, svc) {
			all = append(all, simpler)
		}
	}
	return all
}

func without[T any](from []T, i int) []T { return slices.Delete(slices.Clone(from), i, i+1) }

// describe tells a case as files and options.
func describe(c *Case) string {
	var b strings.Builder
	fmt.Fprintf(&b, "interfaces %v, proxy %+v\n", c.Interfaces, c.Proxy)
	objects := []any{c.Node}
	for _, s := range c.Services {
		objects = append(objects, s)
	}
	for _, s := range c.Slices {
		objects = append(objects, s)
	}
	for _, o := range objects {
		text, err := yaml.Marshal(o)
		if err != nil {
			text = []byte(err.Error())
		}
		fmt.Fprintf(&b, "--- %T\n%s", o, text)
	}
	return b.String()
}

func TestShrink(t *testing.T) {
	bothAre := func(c *Case) bool {
		served, draining := false, false
		for _, s := range c.Services {
			served = served || s.Spec.SessionAffinity == corev1.ServiceAffinityClientIP
		}
		for _, s := range c.Slices {
			draining = draining || slices.ContainsFunc(s.Endpoints, func(e discoveryv1.Endpoint) bool { return e.Conditions.Terminating != nil })
		}
		return served && draining && c.Proxy.MasqueradeAll
	}
	for seed := uint64(0); ; seed++ {
		c := Draw(seed, Normal())
		if !bothAre(c) {
			continue
		}
		small := shrink(c, bothAre)
		if len(small.Services) != 1 || len(small.Slices) != 1 || len(small.Slices[0].Endpoints) != 1 || len(small.Services[0].Spec.Ports) != 1 || small.Proxy.Detector.Bridge != "" {
			t.Errorf("not small:\n%s", describe(small))
		}
		return
	}
}
