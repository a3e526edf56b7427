package ports

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ParsePort reads a port number, 1 to 65535, in decimal without sign or leading zero.
func ParsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 || s[0] == '0' || s[0] == '+' {
		return 0, fmt.Errorf("port %q is not a number from 1 to 65535", s)
	}
	return uint16(n), nil
}

// Range is an inclusive range of port numbers. The zero Range is empty.
type Range struct {
	First, Last uint16
}

// ParseRange reads "30000-32767", or "30000" for a single port, or "30000+2767" for a port and as many after it: the
// three forms that the API server's --service-node-port-range takes (k8s.io/apimachinery/pkg/util/net PortRange).
func ParseRange(s string) (Range, error) {
	first, last, isRange := strings.Cut(s, "-")
	if !isRange {
		first, last, isRange = strings.Cut(s, "+")
		if isRange {
			return parseOffset(s, first, last)
		}
		last = first
	}
	f, err := ParsePort(strings.TrimSpace(first))
	if err != nil {
		return Range{}, fmt.Errorf("range %q: %w", s, err)
	}
	l, err := ParsePort(strings.TrimSpace(last))
	if err != nil {
		return Range{}, fmt.Errorf("range %q: %w", s, err)
	}
	if l < f {
		return Range{}, fmt.Errorf("range %q ends before it starts", s)
	}
	return Range{First: f, Last: l}, nil
}

func parseOffset(s, first, offset string) (Range, error) {
	f, err := ParsePort(strings.TrimSpace(first))
	if err != nil {
		return Range{}, fmt.Errorf("range %q: %w", s, err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(offset), 10, 16)
	if err != nil || uint64(f)+n > 65535 {
		return Range{}, fmt.Errorf("range %q: the offset %q does not lead to a port up to 65535", s, offset)
	}
	return Range{First: f, Last: uint16(uint64(f) + n)}, nil
}

// MustParseRange is ParseRange for constants; it panics on an error.
func MustParseRange(s string) Range {
	r, err := ParseRange(s)
	if err != nil {
		panic(err)
	}
	return r
}

// IsEmpty reports whether r holds no port.
func (r Range) IsEmpty() bool { return r.First == 0 || r.Last < r.First }

// Size returns how many ports r holds.
func (r Range) Size() int {
	if r.IsEmpty() {
		return 0
	}
	return int(r.Last) - int(r.First) + 1
}

// Contains reports whether port lies in r.
func (r Range) Contains(port uint16) bool { return !r.IsEmpty() && r.First <= port && port <= r.Last }

// Overlaps reports whether r and o share a port.
func (r Range) Overlaps(o Range) bool {
	return !r.IsEmpty() && !o.IsEmpty() && r.First <= o.Last && o.First <= r.Last
}

// Covers reports whether every port of o lies in r.
func (r Range) Covers(o Range) bool {
	return o.IsEmpty() || (r.Contains(o.First) && r.Contains(o.Last))
}

// String returns "30000-32767", or "30000" for a single port, or "" for the empty range.
func (r Range) String() string {
	switch {
	case r.IsEmpty():
		return ""
	case r.First == r.Last:
		return strconv.Itoa(int(r.First))
	default:
		return fmt.Sprintf("%d-%d", r.First, r.Last)
	}
}

// Ranges is a list of ranges, sorted, without gaps between neighbours that touch.
type Ranges []Range

// ParseRanges reads ranges separated by commas, as net.ipv4.ip_local_reserved_ports writes them. Overlapping ranges
// are merged. The empty string is no range.
func ParseRanges(s string) (Ranges, error) {
	if strings.TrimSpace(s) == "" {
		return nil, nil
	}
	var ranges []Range
	for part := range strings.SplitSeq(s, ",") {
		r, err := ParseRange(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		ranges = append(ranges, r)
	}
	return NewRanges(ranges...), nil
}

// NewRanges sorts and merges ranges; empty ones are dropped.
func NewRanges(ranges ...Range) Ranges {
	sorted := slices.DeleteFunc(slices.Clone(ranges), Range.IsEmpty)
	slices.SortFunc(sorted, func(a, b Range) int { return cmp.Compare(a.First, b.First) })
	var merged Ranges
	for _, r := range sorted {
		if n := len(merged); n > 0 && int(r.First) <= int(merged[n-1].Last)+1 {
			merged[n-1].Last = max(merged[n-1].Last, r.Last)
			continue
		}
		merged = append(merged, r)
	}
	return merged
}

// Contains reports whether port lies in one of the ranges.
func (rs Ranges) Contains(port uint16) bool {
	return slices.ContainsFunc(rs, func(r Range) bool { return r.Contains(port) })
}

// Size returns how many ports the ranges hold.
func (rs Ranges) Size() int {
	n := 0
	for _, r := range rs {
		n += r.Size()
	}
	return n
}

// String joins the ranges with commas.
func (rs Ranges) String() string {
	parts := make([]string, len(rs))
	for i, r := range rs {
		parts[i] = r.String()
	}
	return strings.Join(parts, ",")
}

// Brief names at most three ranges and counts the rest: a pool may have dozens.
func (rs Ranges) Brief() string {
	const most = 3
	switch more := len(rs) - most; {
	case more <= 0:
		return rs.String()
	case more == 1:
		return rs[:most].String() + " and 1 more range"
	default:
		return fmt.Sprintf("%s and %d more ranges", rs[:most], more)
	}
}
