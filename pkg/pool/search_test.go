package pool_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
)

// numbers is who is held.
type numbers map[uint16]bool

func (n numbers) isFree(port uint16) bool { return !n[port] }

func taken(texts ...string) numbers {
	n := numbers{}
	for _, text := range texts {
		for _, number := range numbersOf(text) {
			n[number] = true
		}
	}
	return n
}

// inOrder is a list of ranges as it is written: neither sorted nor merged.
func inOrder(texts ...string) []ports.Range {
	var list []ports.Range
	for _, text := range texts {
		list = append(list, ports.MustParseRange(text))
	}
	return list
}

func TestNext(t *testing.T) {
	for _, c := range []struct {
		why    string
		ranges []ports.Range
		except string
		held   numbers
		want   uint16 // the one number left, or none
	}{
		{"one port", inOrder("80"), "", nil, 80},
		{"the last port there is", inOrder("65535"), "", nil, 65535},
		{"the one that is free", inOrder("30000-30009"), "", taken("30000-30003,30005-30009"), 30004},
		{"the end of the numbers", inOrder("65526-65535"), "", taken("65526-65534"), 65535},
		{"round from the end to the start", inOrder("65526-65535"), "", taken("65527-65535"), 65526},
		{"all numbers", inOrder("1-65535"), "", taken("1-1000,1002-65535"), 1001},
		{"the first range first", inOrder("30010", "30000"), "", nil, 30010},
		{"the second range when the first is full", inOrder("30010-30019", "30000-30009"), "", taken("30010-30019,30000-30004,30006-30009"), 30005},
		{"empty ranges are passed over", append([]ports.Range{{}, {First: 9, Last: 3}}, inOrder("80")...), "", nil, 80},
		{"reserved numbers are not picked", inOrder("30000-30009"), "30000-30006,30008-30020", nil, 30007},
		{"reserved and held", inOrder("30000-30009"), "30000-30004", taken("30006-30009"), 30005},
		{"full", inOrder("30000-30001"), "", taken("30000-30001"), 0},
		{"bands are told as one range", inOrder("30016-30099", "30000-30015"), "", taken("30000-30099"), 0},
		{"reserved to the last", inOrder("30000-30009"), "30005-31000,30002-30006", taken("30000-30002"), 0},
		{"counted once", inOrder("30000-30003", "30002-30005"), "", taken("30000-30005"), 0},
		{"no range", nil, "", nil, 0},
		{"no range with a port", []ports.Range{{}}, "", nil, 0},
	} {
		search := pool.Search{Ranges: c.ranges, Except: mustRanges(c.except), Key: c.why, IsFree: c.held.isFree}
		if got, ok := search.Next(); got != c.want || ok != (c.want != 0) {
			t.Errorf("%s: got %d, %v, want %d", c.why, got, ok, c.want)
		}
	}
}

// Nobody to ask means that everything is free.
func TestNextWithoutIsFree(t *testing.T) {
	search := pool.Search{Ranges: inOrder("30000")}
	if got, ok := search.Next(); got != 30000 || !ok {
		t.Errorf("got %d, %v", got, ok)
	}
}

// naive is every number that the request allows as an answer: the free ones of the first range that has any.
func naive(ranges []ports.Range, except map[int]bool, held numbers) []uint16 {
	for _, r := range ranges {
		var free []uint16
		for port := int(r.First); port <= int(r.Last); port++ {
			if !held[uint16(port)] && !except[port] {
				free = append(free, uint16(port))
			}
		}
		if len(free) > 0 {
			return free
		}
	}
	return nil
}

// randomRanges is a few small ranges, near both ends of the numbers and in the middle, that may overlap.
func randomRanges(r *rand.Rand) []ports.Range {
	ranges := make([]ports.Range, 1+r.IntN(3))
	for i := range ranges {
		first := []int{1, 30000, 65500}[r.IntN(3)] + r.IntN(30)
		ranges[i] = ports.Range{First: uint16(first), Last: uint16(min(65535, first+r.IntN(20)))}
	}
	return ranges
}

// Numbers are taken and given back at random; each answer is compared with a map and a scan.
func TestNextAsTheModel(t *testing.T) {
	r, rounds := seed.Rand(t), seed.Rounds(200, 20_000)
	for range rounds {
		ranges, held, except := randomRanges(r), numbers{}, map[int]bool{}
		var reserved ports.Ranges
		for range r.IntN(4) {
			port := int(ranges[0].First) + r.IntN(8)
			if except[port] = true; port <= 65535 {
				reserved = append(reserved, ports.Range{First: uint16(port), Last: uint16(port)})
			}
		}
		for step := range 100 {
			search := pool.Search{Ranges: ranges, Except: reserved, Key: strconv.Itoa(step), IsFree: held.isFree}
			got, ok := search.Next()
			again, _ := search.Next()
			allowed := naive(ranges, except, held)
			if ok != (len(allowed) > 0) || (ok && !slices.Contains(allowed, got)) || again != got {
				t.Fatalf("from %v except %v, held %v: got %d, again %d, %v; allowed %d", ranges, reserved, held, got, again, ok, allowed)
			}
			if ok && r.IntN(4) > 0 {
				held[got] = true
			}
			if n := len(held); n > 0 && (!ok || r.IntN(8) == 0) {
				delete(held, slices.Sorted(maps.Keys(held))[r.IntN(n)])
			}
		}
	}
}

// The search goes upward from where it starts and then round.
func TestNextScansUpward(t *testing.T) {
	const first, last = 65500, 65535
	held := numbers{}
	search := pool.Search{Ranges: inOrder("65500-65535"), Key: "default/tomcat", IsFree: held.isFree}
	start, _ := search.Next()
	for i := range last - first + 1 {
		want := uint16(first + (int(start)-first+i)%(last-first+1))
		got, ok := search.Next()
		if got != want || !ok {
			t.Fatalf("number %d after %d: got %d, %v, want %d", i, start, got, ok, want)
		}
		held[got] = true
	}
}

// Keys that differ little start at places that differ: of 2682 places a thousand keys should hit some 835 different
// ones (n(1-e^(-k/n))), and no tenth of the range should be left out.
func TestNextSpreads(t *testing.T) {
	dynamic := pool.DynamicBand(ports.MustParseRange("30000-32767"))
	places, tenths := map[uint16]bool{}, map[int]int{}
	for i := range 1000 {
		search := pool.Search{Ranges: []ports.Range{dynamic}, Key: fmt.Sprintf("default/web-%d/http", i)}
		port, ok := search.Next()
		if !ok {
			t.Fatal("there is no number")
		}
		places[port] = true
		tenths[int(port-dynamic.First)*10/dynamic.Size()]++
	}
	if len(places) < 780 {
		t.Errorf("1000 keys start at %d places only", len(places))
	}
	for i := range 10 {
		if tenths[i] < 60 || tenths[i] > 140 {
			t.Errorf("tenth %d of the range is the start of %d of 1000 keys", i, tenths[i])
		}
	}
	small := map[uint16]int{} // a range whose size is a power of two takes the low bits only
	for i := range 1600 {
		search := pool.Search{Ranges: inOrder("30000-30015"), Key: fmt.Sprintf("ns-%d/web", i)}
		port, _ := search.Next()
		small[port]++
	}
	for port := uint16(30000); port <= 30015; port++ {
		if small[port] < 50 || small[port] > 150 {
			t.Errorf("%d is the start of %d of 1600 keys", port, small[port])
		}
	}
}

func TestNextDoesNotAllocate(t *testing.T) {
	var held [65536]bool
	for port := 30000; port < 32767; port++ {
		held[port] = true
	}
	search := pool.Search{
		Ranges: pool.Order(ports.MustParseRange("30000-32767"), nil), Except: mustRanges("30100-30200"), Key: "default/tomcat/web",
		IsFree: func(port uint16) bool { return !held[port] },
	}
	allocs := testing.AllocsPerRun(100, func() {
		if port, ok := search.Next(); port != 32767 || !ok {
			t.Fatal(port, ok)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// A small range costs little, whatever its place among the numbers.
func TestNextAsksOncePerPort(t *testing.T) {
	asked := 0
	search := pool.Search{Ranges: inOrder("60000-60009", "1-5"), IsFree: func(uint16) bool {
		asked++
		return false
	}}
	if _, ok := search.Next(); ok || asked != 15 {
		t.Errorf("asked %d times: %v", asked, ok)
	}
}

// BenchmarkNext has one free number in the default range.
func BenchmarkNext(b *testing.B) {
	for _, c := range []struct {
		name string
		free uint16
	}{{"dynamic", 32000}, {"static", 30001}} {
		b.Run(c.name, func(b *testing.B) {
			search := pool.Search{
				Ranges: pool.Order(ports.MustParseRange("30000-32767"), nil), Key: "default/tomcat/web",
				IsFree: func(port uint16) bool { return port == c.free },
			}
			b.ReportAllocs()
			for b.Loop() {
				if port, ok := search.Next(); port != c.free || !ok {
					b.Fatal(port, ok)
				}
			}
		})
	}
}
