package pool

import "github.com/portcullis-k8s/portcullis/pkg/ports"

// StaticBand is the lower part of a node port range, from which the API server picks no number while the upper part
// has a free one, so that numbers which people write there seldom collide with picked ones. It is empty for a range of
// up to 16 ports, else it has between 16 and 128: a 32nd of the range. KEP-3668; k8s.io/kubernetes v1.37.1
// pkg/registry/core/service/portallocator calculateRangeOffset. Of 30000-32767 it is 30000-30085.
func StaticBand(r ports.Range) ports.Range {
	size := staticSize(r)
	if size == 0 {
		return ports.Range{}
	}
	return ports.Range{First: r.First, Last: r.First + uint16(size-1)}
}

// DynamicBand is the upper part of a node port range, from which the API server picks numbers: all but StaticBand. Of
// 30000-32767 it is 30086-32767.
func DynamicBand(r ports.Range) ports.Range {
	if r.IsEmpty() {
		return ports.Range{}
	}
	return ports.Range{First: r.First + uint16(staticSize(r)), Last: r.Last}
}

func staticSize(r ports.Range) int {
	const least, most, share = 16, 128, 32
	size := r.Size()
	if size <= least {
		return 0
	}
	return min(max(least, size/share), most)
}

// Order returns the ranges for a Search: allocateFrom as it is, or if that is empty the dynamic band of
// nodePortRange and then the static one, which is the API server's own order. None of them is empty.
func Order(nodePortRange ports.Range, allocateFrom ports.Ranges) []ports.Range {
	if len(allocateFrom) > 0 {
		return allocateFrom
	}
	var order []ports.Range
	for _, band := range [...]ports.Range{DynamicBand(nodePortRange), StaticBand(nodePortRange)} {
		if !band.IsEmpty() {
			order = append(order, band)
		}
	}
	return order
}
