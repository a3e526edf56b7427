package ledger

import (
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// The cluster of the benchmarks: 150,000 pods on 5,000 nodes and 10,000 Services. Of the 30 pods on a node five belong
// to DaemonSets with host ports, the others have one each, from few Deployments, so that every number is crowded.
const (
	benchNodes    = 5000
	benchPods     = 150000
	benchServices = 10000
)

func name(format string, args ...any) string { return strings.Clone(fmt.Sprintf(format, args...)) }

func podOf(i int) (ports.Owner, []ports.Claim) {
	node, slot := name("node-%04d.example.internal", i%benchNodes), i/benchNodes
	owner := ports.Owner{
		Ref:        ports.Ref{APIVersion: "v1", Kind: "Pod", Namespace: name("team-%02d", slot), Name: name("workload-%02d-7d4b9c6f5-%05d", slot, i)},
		Controller: &ports.Owner{Ref: ports.Ref{APIVersion: "apps/v1", Kind: "ReplicaSet", Namespace: name("team-%02d", slot), Name: name("workload-%02d-7d4b9c6f5", slot)}},
	}
	return owner, []ports.Claim{{
		Socket: ports.Socket{Protocol: ports.TCP, Port: uint16(9000 + slot)}, Kind: ports.HostPort,
		Scope: ports.NodeScope(node), Field: "spec.containers[0].ports[0].hostPort",
	}}
}

func serviceOf(i int) (ports.Owner, []ports.Claim) {
	owner := ports.Owner{Ref: ports.Ref{APIVersion: "v1", Kind: "Service", Namespace: name("team-%02d", i%100), Name: name("service-%05d", i)}}
	return owner, []ports.Claim{{
		Socket: ports.Socket{Protocol: ports.TCP, Port: uint16(20000 + i)}, Kind: ports.NodePort,
		Scope: ports.EverywhereScope(), Field: "spec.ports[0].nodePort",
	}}
}

func benchLedger() *Ledger {
	l := &Ledger{}
	for i := range benchNodes {
		l.ReplaceNode(name("node-%04d.example.internal", i), []netip.Addr{netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})})
	}
	for slot := range benchPods / benchNodes {
		rs := ports.Ref{APIVersion: "apps/v1", Kind: "ReplicaSet", Namespace: name("team-%02d", slot), Name: name("workload-%02d-7d4b9c6f5", slot)}
		l.Replace(ports.Owner{Ref: rs, Controller: &ports.Owner{Ref: ports.Ref{APIVersion: "apps/v1", Kind: "Deployment", Namespace: rs.Namespace, Name: name("workload-%02d", slot)}}}, nil)
	}
	for i := range benchPods {
		l.Replace(podOf(i))
	}
	for i := range benchServices {
		l.Replace(serviceOf(i))
	}
	return l
}

// boundKey and boundMap are the least that could answer: one map, which no reader may look into while it is written.
type boundKey struct {
	port uint16
	node string
}

func boundMap() map[boundKey][]ports.Claim {
	held := map[boundKey][]ports.Claim{}
	for i := range benchPods {
		_, claims := podOf(i)
		node, _ := claims[0].Scope.Node()
		held[boundKey{claims[0].Port, node}] = claims
	}
	return held
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func BenchmarkLedger(b *testing.B) {
	before := heap()
	l := benchLedger()
	perClaim := float64(heap()-before) / (benchPods + benchServices)

	b.Run("query/pod on a node, free", func(b *testing.B) {
		asking := ports.Owner{Ref: ports.Ref{Kind: "Pod", Name: "new"}}
		wanted := ports.Claim{Socket: ports.MustParseSocket("*:9999/TCP"), Kind: ports.HostPort, Scope: ports.NodeScope("node-0007.example.internal"), Owner: &asking}
		for b.Loop() {
			if len(l.Snapshot().Conflicts(wanted)) != 0 {
				b.Fatal("not free")
			}
		}
		b.ReportMetric(perClaim, "bytes/claim")
	})
	b.Run("query/pod on a node, crowded number, other node held", func(b *testing.B) {
		l.Release(func() ports.Ref { o, _ := podOf(7); return o.Ref }())
		defer func() { l.Replace(podOf(7)) }()
		asking := ports.Owner{Ref: ports.Ref{Kind: "Pod", Name: "new"}}
		wanted := ports.Claim{Socket: ports.MustParseSocket("*:9000/TCP"), Kind: ports.HostPort, Scope: ports.NodeScope("node-0007.example.internal"), Owner: &asking}
		for b.Loop() {
			if len(l.Snapshot().Conflicts(wanted)) != 0 {
				b.Fatal("not free")
			}
		}
	})
	b.Run("query/pod on a node, held", func(b *testing.B) {
		asking := ports.Owner{Ref: ports.Ref{Kind: "Pod", Name: "new"}}
		wanted := ports.Claim{Socket: ports.MustParseSocket("*:9003/TCP"), Kind: ports.HostPort, Scope: ports.NodeScope("node-0007.example.internal"), Owner: &asking}
		for b.Loop() {
			if len(l.Snapshot().Conflicts(wanted)) != 1 {
				b.Fatal("not held")
			}
		}
	})
	b.Run("query/undecided pod", func(b *testing.B) {
		asking := ports.Owner{Ref: ports.Ref{Kind: "Pod", Name: "new"}}
		wanted := ports.Claim{Socket: ports.MustParseSocket("*:9003/TCP"), Kind: ports.HostPort, Owner: &asking}
		for b.Loop() {
			l.Snapshot().Conflicts(wanted)
		}
	})
	b.Run("query/Service, free number", func(b *testing.B) {
		asking := ports.Owner{Ref: ports.Ref{Kind: "Service", Name: "new"}}
		wanted := ports.Claim{Socket: ports.MustParseSocket("0.0.0.0:32000/TCP"), Kind: ports.NodePort, Scope: ports.EverywhereScope(), Owner: &asking}
		for b.Loop() {
			l.Snapshot().Conflicts(wanted)
		}
	})
	b.Run("bound/look-up in a Go map", func(b *testing.B) {
		held := boundMap()
		key := boundKey{9003, "node-0007.example.internal"}
		for b.Loop() {
			if len(held[key]) == 0 {
				b.Fatal("not held")
			}
		}
	})
	b.Run("bound/write to a Go map", func(b *testing.B) {
		held := boundMap()
		key := boundKey{9003, "node-0007.example.internal"}
		_, claims := podOf(7)
		for b.Loop() {
			held[key] = append([]ports.Claim(nil), claims...)
		}
	})
	b.Run("update/pod", func(b *testing.B) {
		owner, claims := podOf(benchPods / 2)
		_, elsewhere := podOf(benchPods/2 + 1)
		b.ReportAllocs()
		for b.Loop() {
			claims, elsewhere = elsewhere, claims
			l.Replace(owner, claims)
		}
	})
	b.Run("update/Service", func(b *testing.B) {
		owner, claims := serviceOf(17)
		for b.Loop() {
			l.Replace(owner, claims)
		}
	})
}
