package ports_test

import (
	"testing"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
)

// The size of a range is what counting finds, at the ends of the numbers too.
func TestRange(t *testing.T) {
	for _, c := range []struct {
		r    ports.Range
		size int
	}{
		{ports.Range{}, 0}, {ports.Range{First: 5, Last: 4}, 0}, {ports.Range{First: 0, Last: 5}, 0}, {ports.Range{First: 5}, 0},
		{ports.Range{First: 80, Last: 80}, 1}, {ports.Range{First: 30000, Last: 32767}, 2768}, {ports.Range{First: 1, Last: 65535}, 65535},
		{ports.Range{First: 65535, Last: 65535}, 1},
	} {
		count := 0
		for port := range 65536 {
			if c.r.Contains(uint16(port)) {
				count++
			}
		}
		if c.r.Size() != c.size || count != c.size || c.r.IsEmpty() != (c.size == 0) || (c.r.String() == "") != (c.size == 0) {
			t.Errorf("%#v: size %d, holds %d, empty %v, prints %q; want %d", c.r, c.r.Size(), count, c.r.IsEmpty(), c.r, c.size)
		}
	}
}

func TestRangeOverlapsAndCovers(t *testing.T) {
	var all []ports.Range
	for first := range uint16(7) {
		for last := range uint16(7) {
			all = append(all, ports.Range{First: first, Last: last})
		}
	}
	for _, a := range all {
		for _, b := range all {
			overlaps, covers := false, true
			for port := range uint16(8) {
				overlaps = overlaps || (a.Contains(port) && b.Contains(port))
				covers = covers && (a.Contains(port) || !b.Contains(port))
			}
			if a.Overlaps(b) != overlaps || a.Covers(b) != covers {
				t.Errorf("%#v and %#v: overlap %v, want %v; cover %v, want %v", a, b, a.Overlaps(b), overlaps, a.Covers(b), covers)
			}
		}
	}
}

// A list of ranges against an array with a place for every port.
func TestNewRangesAsTheModel(t *testing.T) {
	r, rounds := seed.Rand(t), seed.Rounds(60, 3000)
	for range rounds {
		var model [65536]bool
		given := make([]ports.Range, r.IntN(12))
		for i := range given {
			// Some at the ends, some crowded so that they touch, some empty.
			first := pick(r, r.IntN(65536), r.IntN(40), 65535-r.IntN(40), 100+r.IntN(200))
			given[i] = ports.Range{First: uint16(first), Last: uint16(min(65535, max(0, first+pick(r, r.IntN(9), r.IntN(2000), -1))))}
			for port := first; port <= int(given[i].Last) && first > 0; port++ {
				model[port] = true
			}
		}
		got := ports.NewRanges(given...)
		size := 0
		for port, in := range model {
			if got.Contains(uint16(port)) != in {
				t.Fatalf("%v made %v, which is wrong about %d", given, got, port)
			}
			if in {
				size++
			}
		}
		if got.Size() != size {
			t.Fatalf("%v made %v of size %d, want %d", given, got, got.Size(), size)
		}
		checkNormal(t, got)
	}
}

// checkNormal sees to it that there is one way only to write a set of ports, and that it is read back.
func checkNormal(t *testing.T, rs ports.Ranges) {
	t.Helper()
	for i, r := range rs {
		if r.IsEmpty() || (i > 0 && int(rs[i-1].Last)+1 >= int(r.First)) {
			t.Fatalf("%v: the range %v is empty, out of order or touches its neighbour", rs, r)
		}
	}
	back, err := ports.ParseRanges(rs.String())
	if err != nil || back.String() != rs.String() {
		t.Fatalf("%v: read back as %v, %v", rs, back, err)
	}
}

func TestNewRangesLeavesItsInputAlone(t *testing.T) {
	given := []ports.Range{{First: 90, Last: 99}, {}, {First: 80, Last: 89}}
	ports.NewRanges(given...)
	if given[0].First != 90 || given[2].Last != 89 {
		t.Errorf("the input has become %v", given)
	}
}
