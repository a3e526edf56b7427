package pool

import "github.com/portcullis-k8s/portcullis/pkg/ports"

// Use is what a number is used for.
type Use uint8

// The uses.
const (
	Free        Use = iota
	Allocated       // held by one whom the pool selects
	Foreign         // held by anybody else
	Quarantined     // released not long ago, and not yet given to others
)

// Book tells what a number is used for, as far as the pool is concerned. Where a requester needs several protocols, a number
// that is held in one of them is not Free. A nil Book says that all numbers are.
type Book func(port uint16) Use

func (b Book) use(port uint16) Use {
	if b == nil {
		return Free
	}
	return b(port)
}

// Usage counts the numbers that a pool has, each once.
type Usage struct {
	Total       int // Allocated, Available, Quarantined and Foreign together
	Allocated   int
	Available   int
	Quarantined int
	Foreign     int
	Automatic   int // how many of the Available ones may be given to those who name none
}

// Usage counts the numbers that m has. It asks book about each once.
func (m *Member) Usage(book Book) Usage {
	u, rest := count(m.Automatic, book), count(without(m.Effective, m.Automatic), book)
	return Usage{
		Total: u.Total + rest.Total, Allocated: u.Allocated + rest.Allocated, Available: u.Available + rest.Available,
		Quarantined: u.Quarantined + rest.Quarantined, Foreign: u.Foreign + rest.Foreign, Automatic: u.Available,
	}
}

func count(ranges ports.Ranges, book Book) Usage {
	var u Usage
	for _, r := range ranges {
		u.Total += r.Size()
		for i := range r.Size() {
			switch book.use(r.First + uint16(i)) {
			case Free:
				u.Available++
			case Allocated:
				u.Allocated++
			case Quarantined:
				u.Quarantined++
			case Foreign:
				u.Foreign++
			}
		}
	}
	return u
}

// UtilizationPercent is the share of the numbers that cannot be had, 0 to 100, rounded down: 100 means that none is left.
// It is 0 for a pool without numbers.
func (u Usage) UtilizationPercent() int {
	if u.Total == 0 {
		return 0
	}
	return (u.Total - u.Available) * 100 / u.Total
}
