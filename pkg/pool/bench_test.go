package pool_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// crowd is 200 pools, the last to be chosen of 10,000 numbers for everybody, which are held but for one of twenty.
func crowd(strategy string) (*pool.Set, pool.Book) {
	lines := []string{"everyone 30000-39999 priority=1000 " + strategy}
	for i := range 199 {
		lines = append(lines, fmt.Sprintf("team-%d %d-%d ns=t%d svc=edge", i, 10000+i*100, 10099+i*100, i))
	}
	var taken [65536]pool.Use
	r := rand.New(rand.NewPCG(1, 0))
	for n := 30000; n < 40000; n++ {
		if strategy == "lowest" && n < 39500 || strategy == "" && r.IntN(20) > 0 { // each as it fills a pool
			taken[n] = pool.Allocated
		}
	}
	return pool.New(mustPools(lines...), ports.Range{First: 1, Last: 65535}), func(port uint16) pool.Use { return taken[port] }
}

// BenchmarkChoose has 200 pools, and 10,000 numbers of which 95 in 100 are held: a number for one Service; the same
// where none is free; and what it takes to make the Set.
func BenchmarkChoose(b *testing.B) {
	for _, strategy := range []string{"", "lowest"} {
		b.Run(map[string]string{"": "hashed", "lowest": "lowest free"}[strategy], func(b *testing.B) {
			set, book := crowd(strategy)
			requests := make([]pool.Request, 256) // so that searches start at many places
			for i := range requests {
				requests[i] = pool.Request{Requester: service("web/shop-" + strconv.Itoa(i)), Wants: wants(1), Book: book}
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := set.Choose(requests[i%len(requests)]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("full", func(b *testing.B) {
		set, _ := crowd("")
		full := pool.Request{Requester: service("web/shop"), Wants: wants(1), Book: func(uint16) pool.Use { return pool.Allocated }}
		b.ReportAllocs()
		for b.Loop() {
			if _, err := set.Choose(full); err == nil {
				b.Fatal("a full pool gave a number")
			}
		}
	})
	b.Run("new", func(b *testing.B) {
		set, _ := crowd("")
		var pools []pool.Pool
		for _, m := range set.Members() {
			pools = append(pools, m.Pool)
		}
		b.ReportAllocs()
		for b.Loop() {
			if len(pool.New(pools, ports.Range{First: 1, Last: 65535}).Members()) != len(pools) {
				b.Fatal("a pool is missing")
			}
		}
	})
}
