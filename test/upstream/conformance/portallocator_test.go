// Package conformance holds our arithmetic to what the real Kubernetes components compute.
package conformance

import (
	"testing"

	"k8s.io/apimachinery/pkg/util/net"
	"k8s.io/kubernetes/pkg/registry/core/service/portallocator"

	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// The API server's allocator picks from the dynamic band until that is full, and then from the static one: where its
// answers change over is where the real boundary lies.
func TestBandsAsTheAPIServer(t *testing.T) {
	sizes := []int{500, 511, 512, 513, 543, 544, 2048, 2768, 4095, 4096, 4097, 10000, 65535}
	for size := 1; size <= 64; size++ {
		sizes = append(sizes, size)
	}
	for _, size := range sizes {
		last := min(65535, max(32767, 30000+size-1))
		whole := ports.Range{First: uint16(last - size + 1), Last: uint16(last)}
		static, dynamic := pool.StaticBand(whole), pool.DynamicBand(whole)
		upstream, err := portallocator.NewInMemory(net.PortRange{Base: int(whole.First), Size: whole.Size()})
		if err != nil {
			t.Fatal(err)
		}
		for i := range whole.Size() {
			want := dynamic
			if i >= dynamic.Size() {
				want = static
			}
			port, err := upstream.AllocateNext()
			if err != nil || !want.Contains(uint16(port)) {
				t.Fatalf("%v: number %d is %d, %v, want one of %v", whole, i+1, port, err, want)
			}
		}
		if port, err := upstream.AllocateNext(); err == nil {
			t.Errorf("%v: one number too many, %d", whole, port)
		}
	}
}

// What ParseRange reads, the flag --service-node-port-range means too.
func TestRangesAsTheAPIServer(t *testing.T) {
	for _, s := range []string{"30000-32767", "30000", "30000-30000", "30000+2767", "30000+0", "1-65535", "1+65534", "65535", " 80 ", "5-1", "1+65535", "1-65536", "1-2-3", "a", "1+-1"} {
		ours, err := ports.ParseRange(s)
		theirs, theirErr := net.ParsePortRange(s)
		if (err == nil) != (theirErr == nil) {
			t.Errorf("%q: we say %v, %v; the API server %v, %v", s, ours, err, theirs, theirErr)
		} else if err == nil && (int(ours.First) != theirs.Base || ours.Size() != theirs.Size) {
			t.Errorf("%q: we read %v, the API server %v", s, ours, theirs)
		}
	}
}
