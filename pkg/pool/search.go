package pool

import "github.com/portcullis-k8s/portcullis/pkg/ports"

// Search says where a free number is looked for. It reads no clock and draws no random numbers: Key decides where it starts, so that
// an answer can be repeated, while different requests, and replicas that answer at the same time, spread out over the range
// instead of all reaching for its first number. Two callers that do not know of each other can be given the same one, and
// whoever books it (the API server, for node ports) has the last word.
type Search struct {
	Ranges []ports.Range          // tried in this order, each as a whole before the next; empty ones are passed over
	Except ports.Ranges           // never picked, though nobody holds them
	Key    string                 // for example "default/tomcat/web"
	IsFree func(port uint16) bool // nil: all are
}

// Next returns the first port that is free, or false if none is. In each range the search begins at a place that Key decides, goes
// upward and wraps round, as the API server's does from a random place
// (k8s.io/kubernetes/pkg/registry/core/service/allocator randomScanStrategyWithOffset). It asks IsFree about a port at
// most once per range.
func (s *Search) Next() (port uint16, ok bool) {
	key := hash(s.Key)
	for _, within := range s.Ranges {
		if port, ok := s.next(within, key); ok {
			return port, true
		}
	}
	return 0, false
}

func (s *Search) next(within ports.Range, key uint64) (uint16, bool) {
	size := within.Size()
	if size == 0 {
		return 0, false
	}
	start := int(key % uint64(size))
	for i := range size {
		port := within.First + uint16((start+i)%size)
		if !s.Except.Contains(port) && (s.IsFree == nil || s.IsFree(port)) {
			return port, true
		}
	}
	return 0, false
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
