package pool

import (
	"slices"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// Request asks a Set for the numbers that one Service, or one pod, lacks.
type Request struct {
	Requester
	Wants  []string // one for each number: what tells it from the requester's others, Gap.Key for example
	Has    []uint16 // the numbers that it holds or asks for by number; none of them is given again
	From   string   // by this pool only; "": by whichever serves
	Random string   // where a pool with Random begins to search: the caller draws it
	Book   Book
	// InNamespace returns how many of a pool's numbers the others in the requester's namespace have. It is asked only of
	// pools with a limit; nil: none.
	InNamespace func(m *Member) int
}

// Choice is where a requester's numbers come from.
type Choice struct {
	Pool    *Member
	Numbers []uint16    // for each of Wants, all different
	Over    *LimitError // a limit that is exceeded, where the pool's enforcement is not Deny; else nil
}

// Choose picks the pool that serves r, and all the numbers from it. The pools that select r are tried in the order of
// Members, those that have one of r.Has before the others; one that has too few numbers, or whose limit is exceeded and
// enforced, is passed over. The errors are *NoPoolError, if no pool gives numbers to r, and *ExhaustedError.
func (s *Set) Choose(r Request) (Choice, error) {
	r.Has = slices.Compact(slices.Sorted(slices.Values(r.Has)))
	serving := s.serving(&r)
	if len(serving) == 0 {
		return Choice{}, &NoPoolError{Requester: r.Requester, From: r.From}
	}
	failed := &ExhaustedError{Requester: r.Requester, Wanted: len(r.Wants)}
	for _, m := range serving {
		over := m.over(&r)
		if over != nil && m.Enforcement == Deny {
			failed.Tried = append(failed.Tried, Shortfall{Pool: m, Limit: over})
			continue
		}
		book := r.Book.except(r.Has...)
		numbers := m.assign(&r, book)
		if len(numbers) == len(r.Wants) {
			return Choice{Pool: m, Numbers: numbers, Over: over}, nil
		}
		failed.Tried = append(failed.Tried, Shortfall{Pool: m, Left: count(m.Automatic, book)})
	}
	return Choice{}, failed
}

// serving returns the pools that give r numbers which it does not name, in the order in which they are tried.
func (s *Set) serving(r *Request) []*Member {
	var its, others []*Member
	for _, m := range s.Candidates(r.Requester) {
		switch {
		case !m.gives(), r.From != "" && m.Name != r.From:
		case m.has(r.Has) > 0:
			its = append(its, m)
		default:
			others = append(others, m)
		}
	}
	return append(its, others...)
}

// gives reports whether m gives numbers to those who name none.
func (m *Member) gives() bool { return m.State == Active && m.Mode == Auto }

// has returns how many of numbers are m's.
func (m *Member) has(numbers []uint16) int {
	n := 0
	for _, number := range numbers {
		if m.Effective.Contains(number) {
			n++
		}
	}
	return n
}

// over returns the limit that r would exceed.
func (m *Member) over(r *Request) *LimitError {
	if m.PerNamespace == 0 && m.PerService == 0 {
		return nil
	}
	own, others := m.has(r.Has), 0
	if r.InNamespace != nil {
		others = r.InNamespace(m)
	}
	return m.Exceeded(r.Requester, own+others, own, len(r.Wants))
}

// Exceeded returns the limit of m that who exceeds by taking so many more numbers of m, or nil. inNamespace is how many
// its namespace has, inService how many of those it has itself.
func (m *Member) Exceeded(who Requester, inNamespace, inService, more int) *LimitError {
	switch {
	case more <= 0:
		return nil
	case m.PerService > 0 && inService+more > m.PerService:
		return &LimitError{Pool: m, Requester: who, PerService: true, Limit: m.PerService, Has: inService, More: more}
	case m.PerNamespace > 0 && inNamespace+more > m.PerNamespace:
		return &LimitError{Pool: m, Requester: who, Limit: m.PerNamespace, Has: inNamespace, More: more}
	default:
		return nil
	}
}

// assign returns a number for each want, or as many as there are.
func (m *Member) assign(r *Request, book Book) []uint16 {
	if m.Strategy == LowestFree {
		return m.lowest(len(r.Wants), book)
	}
	var numbers []uint16
	taken := map[uint16]bool{}
	left := func(port uint16) Use {
		if taken[port] {
			return Allocated
		}
		return book.use(port)
	}
	for i := range r.Wants {
		number, ok := m.Next(m.key(r, i), left)
		if !ok {
			break
		}
		taken[number] = true
		numbers = append(numbers, number)
	}
	return numbers
}

// key decides where the search for want i begins.
func (m *Member) key(r *Request, i int) string {
	key := r.Namespace + "/" + r.Name + "/" + r.Wants[i]
	if m.Strategy == Random {
		key += "/" + r.Random
	}
	return key
}

// Next returns a free number that m may give to somebody who names none: the lowest for LowestFree, else the first from a
// place that key decides, upward and round through all of m's ranges as if they were one. It reports false if there is
// none.
func (m *Member) Next(key string, book Book) (uint16, bool) {
	if m.Strategy == LowestFree {
		if lowest := m.lowest(1, book); len(lowest) > 0 {
			return lowest[0], true
		}
		return 0, false
	}
	// A search starts anew in each range, so that all would crowd into the first one: it is given the places, from 1,
	// of all of them.
	search := Search{
		Ranges: []ports.Range{{First: 1, Last: uint16(m.Automatic.Size())}},
		Key:    key,
		IsFree: func(place uint16) bool { return book.use(nth(m.Automatic, int(place)-1)) == Free },
	}
	place, ok := search.Next()
	if !ok {
		return 0, false
	}
	return nth(m.Automatic, int(place)-1), true
}

// lowest returns the n lowest free numbers, or as many as there are.
func (m *Member) lowest(n int, book Book) []uint16 {
	var numbers []uint16
	for _, r := range m.Automatic {
		for i := range r.Size() {
			if len(numbers) == n {
				return numbers
			}
			if port := r.First + uint16(i); book.use(port) == Free {
				numbers = append(numbers, port)
			}
		}
	}
	return numbers
}

// except is b without numbers that must not be given either.
func (b Book) except(numbers ...uint16) Book {
	if len(numbers) == 0 {
		return b
	}
	held := map[uint16]bool{}
	for _, n := range numbers {
		held[n] = true
	}
	return func(port uint16) Use {
		if u := b.use(port); u != Free || !held[port] {
			return u
		}
		return Allocated
	}
}
