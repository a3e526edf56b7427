//go:build linux

package dataplane

import (
	"bytes"
	"fmt"
	"net/netip"
	"runtime"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utiliptables "k8s.io/kubernetes/pkg/util/iptables"

	"github.com/portcullis-k8s/portcullis/pkg/rules"
	"github.com/portcullis-k8s/portcullis/pkg/rules/kubeproxy"
	"github.com/portcullis-k8s/portcullis/pkg/rules/text"
)

// crowd is a case of many Services with some endpoints each.
func crowd(services, endpoints int) *Case {
	d := &draw{Case: Draw(1, Size{Services: 1}), families: []corev1.IPFamily{corev1.IPv4Protocol}, nodePort: 1024}
	d.Services, d.Slices = nil, nil
	d.Proxy = rules.Proxy{MasqueradeBit: 14, LocalhostNodePorts: true, Detector: rules.Detector{CIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}}}
	for i := range services {
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: fmt.Sprintf("team-%d", i%100), Name: fmt.Sprintf("service-%d", i)}}
		ip := fmt.Sprintf("10.%d.%d.%d", 96+i/65536, i/256%256, i%256)
		svc.Spec = corev1.ServiceSpec{
			Type: corev1.ServiceTypeNodePort, ClusterIP: ip, ClusterIPs: []string{ip}, IPFamilies: d.families,
			Ports: []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80, NodePort: d.nextNodePort()}},
		}
		d.Services = append(d.Services, svc)
		slice := &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: svc.Namespace, Name: svc.Name, Labels: map[string]string{discoveryv1.LabelServiceName: svc.Name}},
			AddressType: discoveryv1.AddressTypeIPv4,
			Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Protocol: new(corev1.ProtocolTCP), Port: new(int32(8080))}},
		}
		for range endpoints {
			n := d.next()
			slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
				Addresses: []string{fmt.Sprintf("10.%d.%d.%d", 128+n/65536, n/256%256, n%256)}, NodeName: new(nodeNames[n%len(nodeNames)]),
			})
		}
		d.Slices = append(d.Slices, slice)
	}
	return d.Case
}

// BenchmarkIPTables measures the whole rule set of Services with five endpoints each beside the real proxier, which writes
// to a kernel that does nothing: "rules" from what it was told to its restore input, against our rules as data; "text"
// from objects to text, both.
func BenchmarkIPTables(b *testing.B) {
	for _, services := range []int{1000, 10000} {
		b.Run(fmt.Sprintf("%dx5", services), func(b *testing.B) {
			c := crowd(services, 5)
			w := c.World()
			var rulesCost, textCost ratio
			for b.Loop() {
				p := newRealIPTables(b, c, rules.IPv4, noKernel{})
				told := measure(func() { deliver(c, p); p.OnServiceSynced() })
				synced := measure(p.OnEndpointSlicesSynced)
				rulesCost.add(measure(func() { kubeproxy.IPTables(w, rules.IPv4) }), synced)
				ours := func() string {
					return text.Save(rules.Install(kubeproxy.IPTables(c.World(), rules.IPv4)), rules.XTables, rules.IPv4)
				}
				textCost.add(measure(func() { ours() }), told.plus(synced))
			}
			rulesCost.report(b, "rules")
			textCost.report(b, "text")
		})
	}
}

// noKernel takes everything and keeps nothing.
type noKernel struct{ utiliptables.Interface }

func (noKernel) IsIPv6() bool { return false }

func (noKernel) Monitor(utiliptables.Chain, []utiliptables.Table, func(), time.Duration, <-chan struct{}) {
}

func (noKernel) EnsureChain(utiliptables.Table, utiliptables.Chain) (bool, error) { return true, nil }

func (noKernel) EnsureRule(utiliptables.RulePosition, utiliptables.Table, utiliptables.Chain, ...string) (bool, error) {
	return true, nil
}

func (noKernel) SaveInto(utiliptables.Table, *bytes.Buffer) error { return nil }

func (noKernel) RestoreAll([]byte, utiliptables.FlushFlag, utiliptables.RestoreCountersFlag) error {
	return nil
}

// cost is what something took.
type cost struct {
	time      time.Duration
	processor time.Duration // of all cores, garbage collection included
	bytes     uint64
}

func (c cost) plus(d cost) cost {
	return cost{c.time + d.time, c.processor + d.processor, c.bytes + d.bytes}
}

func measure(f func()) cost {
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start, used := time.Now(), processorTime()
	f()
	c := cost{time: time.Since(start), processor: processorTime() - used}
	runtime.ReadMemStats(&after)
	c.bytes = after.TotalAlloc - before.TotalAlloc
	return c
}

func processorTime() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		panic(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// ratio sums up what ours and theirs cost.
type ratio struct{ ours, theirs cost }

func (r *ratio) add(ours, theirs cost) { r.ours, r.theirs = r.ours.plus(ours), r.theirs.plus(theirs) }

// report gives our cost in parts of theirs, and in milliseconds.
func (r *ratio) report(b *testing.B, what string) {
	b.ReportMetric(r.ours.time.Seconds()/r.theirs.time.Seconds(), what+"-time/real")
	b.ReportMetric(r.ours.processor.Seconds()/r.theirs.processor.Seconds(), what+"-processor/real")
	b.ReportMetric(float64(r.ours.bytes)/float64(r.theirs.bytes), what+"-bytes/real")
	b.ReportMetric(r.ours.time.Seconds()*1000/float64(b.N), what+"-ms")
}
