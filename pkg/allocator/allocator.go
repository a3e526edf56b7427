// Package allocator picks a free number from ranges of ports, and judges a number that somebody wrote.
//
// Its functions are pure: they read no clock and draw no random numbers. The caller gives a key, which decides where
// the search starts, so that an answer can be repeated while different requests, and replicas that answer at the same
// time, spread out over the range instead of all reaching for its first number. A number is free as long as the
// caller says so: two callers that do not know of each other can be given the same one, and whoever books it (the API
// server, for node ports) has the last word.
package allocator

import "github.com/portcullis-k8s/portcullis/pkg/ports"

// Held reports whether a port is taken, and by whom. The holder may be the zero Claim where nobody knows. A nil Held
// says that all ports are free.
type Held func(port uint16) (holder ports.Claim, held bool)

// Request asks Next for a number.
type Request struct {
	Ranges []ports.Range // tried in this order, each as a whole before the next; empty ones are passed over
	Except ports.Ranges  // never picked, though nobody holds them
	Key    string        // decides where in each range the search starts, for example "default/tomcat/web"
	Held   Held
}

// Next returns the first port of r that is free. In each range the search begins at a place that r.Key decides, goes
// upward and wraps round, as the API server's does from a random place
// (k8s.io/kubernetes/pkg/registry/core/service/allocator randomScanStrategyWithOffset). It asks r.Held about a port at
// most once per range. The only error is *ExhaustedError.
func Next(r Request) (uint16, error) {
	key := hash(r.Key)
	for _, within := range r.Ranges {
		if port, ok := r.next(within, key); ok {
			return port, nil
		}
	}
	return 0, r.exhausted()
}

func (r *Request) next(within ports.Range, key uint64) (uint16, bool) {
	size := within.Size()
	if size == 0 {
		return 0, false
	}
	start := int(key % uint64(size))
	for i := range size {
		port := within.First + uint16((start+i)%size)
		if !r.Except.Contains(port) && !r.holds(port) {
			return port, true
		}
	}
	return 0, false
}

func (r *Request) holds(port uint16) bool {
	if r.Held == nil {
		return false
	}
	_, held := r.Held(port)
	return held
}

// hash is FNV-1a (hash/fnv, which would allocate), its halves mixed, because the low bits alone, which decide in a
// small range, depend on little of the key.
func hash(key string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(key) {
		h = (h ^ uint64(key[i])) * 1099511628211
	}
	return h ^ h>>32
}
