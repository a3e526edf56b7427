package ledger

// book is a set of ports as bits, persistent by pages: a change copies one page of 512 bytes.
type book [16]*[64]uint64

func (b book) has(port uint16) bool {
	page := b[port>>12]
	return page != nil && page[port>>6&63]&(1<<(port&63)) != 0
}

// with returns b with port in it or not.
func (b book) with(port uint16, in bool) book {
	if b.has(port) == in {
		return b
	}
	page := [64]uint64{}
	if old := b[port>>12]; old != nil {
		page = *old
	}
	page[port>>6&63] ^= 1 << (port & 63)
	b[port>>12] = &page
	return b
}
