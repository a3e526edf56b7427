package pool

import "github.com/portcullis-k8s/portcullis/pkg/ports"

// both returns the numbers that lie in a and in b, both sorted and merged.
func both(a, b ports.Ranges) ports.Ranges {
	var common ports.Ranges
	for i, j := 0, 0; i < len(a) && j < len(b); {
		r := ports.Range{First: max(a[i].First, b[j].First), Last: min(a[i].Last, b[j].Last)}
		if !r.IsEmpty() {
			common = append(common, r)
		}
		if a[i].Last < b[j].Last {
			i++
		} else {
			j++
		}
	}
	return common
}

// without returns the numbers of a that do not lie in b, both sorted and merged.
func without(a, b ports.Ranges) ports.Ranges {
	var left ports.Ranges
	j := 0
	for _, r := range a {
		for ; j < len(b) && b[j].Last < r.First; j++ {
		}
		first, last := int(r.First), int(r.Last) // a hole may end at 65535
		for k := j; k < len(b) && int(b[k].First) <= last && first <= last; k++ {
			if int(b[k].First) > first {
				left = append(left, ports.Range{First: uint16(first), Last: b[k].First - 1})
			}
			first = int(b[k].Last) + 1
		}
		if first <= last {
			left = append(left, ports.Range{First: uint16(first), Last: r.Last})
		}
	}
	return left
}

// nth returns number i of ranges, counted from 0.
func nth(ranges ports.Ranges, i int) uint16 {
	for _, r := range ranges {
		if i < r.Size() {
			return r.First + uint16(i)
		}
		i -= r.Size()
	}
	return 0
}
