package pool_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// The numbers of KEP-3668 and of calculateRangeOffset; test/upstream/conformance asks the real pool.
func TestBands(t *testing.T) {
	for _, c := range []struct{ whole, static, dynamic string }{
		{"30000-32767", "30000-30085", "30086-32767"}, // 2768: a 32nd is 86
		{"30000", "", "30000"},
		{"30000-30015", "", "30000-30015"},
		{"30000-30016", "30000-30015", "30016"}, // 17: never less than 16
		{"30000-30511", "30000-30015", "30016-30511"},
		{"30000-30543", "30000-30016", "30017-30543"}, // 544: the first size whose 32nd is 17
		{"30000-34095", "30000-30127", "30128-34095"}, // 4096: the first with 128
		{"1-65535", "1-128", "129-65535"},
		{"65519-65535", "65519-65534", "65535"},
	} {
		r := ports.MustParseRange(c.whole)
		static, dynamic := pool.StaticBand(r), pool.DynamicBand(r)
		if static.String() != c.static || dynamic.String() != c.dynamic {
			t.Errorf("%s: static %v, dynamic %v; want %s and %s", c.whole, static, dynamic, c.static, c.dynamic)
		}
		if static.Overlaps(dynamic) || static.Size()+dynamic.Size() != r.Size() {
			t.Errorf("%s: %v and %v are not its two parts", c.whole, static, dynamic)
		}
	}
	for _, empty := range []ports.Range{{}, {First: 5, Last: 1}, {First: 0, Last: 100}} {
		if s, d := pool.StaticBand(empty), pool.DynamicBand(empty); !s.IsEmpty() || !d.IsEmpty() {
			t.Errorf("%#v has the bands %v and %v", empty, s, d)
		}
	}
}

func TestOrder(t *testing.T) {
	for _, c := range []struct {
		whole, from string
		want        []ports.Range
	}{
		{"30000-32767", "", inOrder("30086-32767", "30000-30085")},
		{"30000-30009", "", inOrder("30000-30009")},
		{"30000-32767", "31000-31099", inOrder("31000-31099")},
		{"30000-32767", "32000-32099,31000", inOrder("31000", "32000-32099")},
	} {
		if diff := cmp.Diff(c.want, pool.Order(ports.MustParseRange(c.whole), mustRanges(c.from))); diff != "" {
			t.Errorf("%s, from %q (-want +got):\n%s", c.whole, c.from, diff)
		}
	}
	if got := pool.Order(ports.Range{}, nil); len(got) != 0 {
		t.Errorf("of no range: %v", got)
	}
}
