// Package allocator picks a free number from ranges of ports.
package allocator

import (
	"fmt"
	"hash/fnv"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// Request asks for a number.
type Request struct {
	Ranges []ports.Range // tried in order
	Key    string        // decides where in each range the search starts
	Held   func(port uint16) (holder ports.Claim, held bool)
}

// ExhaustedError says that nothing is free.
type ExhaustedError struct {
	Ranges []ports.Range
	Held   int
}

func (e *ExhaustedError) Error() string {
	return fmt.Sprintf("all %d ports of %v are held", e.Held, e.Ranges)
}

// Next returns the first free number.
func Next(r Request) (uint16, error) {
	h := fnv.New64a()
	_, _ = h.Write([]byte(r.Key))
	held := 0
	for _, within := range r.Ranges {
		size := within.Size()
		if size == 0 {
			continue
		}
		start := int(h.Sum64() % uint64(size))
		for i := range size {
			port := uint16(int(within.First) + (start+i)%size)
			if _, taken := r.Held(port); !taken {
				return port, nil
			}
			held++
		}
	}
	return 0, &ExhaustedError{r.Ranges, held}
}

// StaticBand is where the API server puts no number of its own choice while others are free.
func StaticBand(r ports.Range) ports.Range {
	size := r.Size()
	if size <= 16 {
		return ports.Range{}
	}
	offset := min(max(16, size/32), 128)
	return ports.Range{First: r.First, Last: r.First + uint16(offset) - 1}
}

// DynamicBand is the rest of r.
func DynamicBand(r ports.Range) ports.Range {
	static := StaticBand(r)
	if static.IsEmpty() {
		return r
	}
	return ports.Range{First: static.Last + 1, Last: r.Last}
}

// Order is the list of ranges for Next.
func Order(nodePortRange ports.Range, allocateFrom ports.Ranges) []ports.Range {
	if len(allocateFrom) > 0 {
		return allocateFrom
	}
	return []ports.Range{DynamicBand(nodePortRange), StaticBand(nodePortRange)}
}
