package ledger

import (
	"hash/maphash"
	"iter"
	"math/bits"
	"slices"
)

// hashed is a key of a tree.
type hashed interface {
	comparable
	hash(maphash.Seed) uint64
}

// keyed is a value that carries its own key, so that a tree need not store keys beside values.
type keyed[K hashed] interface {
	comparable
	key() K
}

// tree is a persistent hash trie: with and without return a new tree that shares all but one path with the old one,
// so that a snapshot costs nothing and readers need no lock. The zero tree is empty.
type tree[K hashed, V keyed[K]] struct {
	seed maphash.Seed
	root *branch[V]
	size int
}

// A branch has a value, a child or nothing at each of 32 places, by five bits of the hash; a child holds the values whose
// hashes agree so far. Values and children lie in arrays of their own, in the order of the bits, so that a change copies
// one of them only. Where the bits of a hash are used up, the values are a plain list.
type branch[V any] struct {
	valueMap, childMap uint32
	values             []V
	children           []*branch[V]
}

const (
	bitsPerLevel = 5
	hashBits     = 64
)

// levelBit returns the bit of a hash at a level.
func levelBit(hash uint64, shift int) uint32 {
	return 1 << (hash >> shift & (1<<bitsPerLevel - 1))
}

// index returns how many bits of a map are below bit.
func index(bitmap, bit uint32) int { return bits.OnesCount32(bitmap & (bit - 1)) }

// get returns the value with key k, or the zero value.
func (t tree[K, V]) get(k K) (V, bool) {
	var none V
	if t.root == nil {
		return none, false
	}
	hash := k.hash(t.seed)
	at := t.root
	for shift := 0; shift < hashBits; shift += bitsPerLevel {
		bit := levelBit(hash, shift)
		if at.valueMap&bit != 0 {
			if v := at.values[index(at.valueMap, bit)]; v.key() == k {
				return v, true
			}
			return none, false
		}
		if at.childMap&bit == 0 {
			return none, false
		}
		at = at.children[index(at.childMap, bit)]
	}
	for _, v := range at.values {
		if v.key() == k {
			return v, true
		}
	}
	return none, false
}

// with returns t with v in the place of the value with v's key.
func (t tree[K, V]) with(v V) tree[K, V] {
	if t.root == nil {
		t.seed = maphash.MakeSeed()
		t.root = &branch[V]{}
	}
	root, added := t.insert(t.root, v, v.key().hash(t.seed), 0)
	t.root = root
	if added {
		t.size++
	}
	return t
}

func (t tree[K, V]) insert(at *branch[V], v V, hash uint64, shift int) (*branch[V], bool) {
	next := *at
	if shift >= hashBits {
		i := slices.IndexFunc(at.values, func(old V) bool { return old.key() == v.key() })
		if i >= 0 {
			next.values = replaced(at.values, i, v)
			return &next, false
		}
		next.values = inserted(at.values, len(at.values), v)
		return &next, true
	}
	bit := levelBit(hash, shift)
	i, c := index(at.valueMap, bit), index(at.childMap, bit)
	switch {
	case at.childMap&bit != 0:
		child, added := t.insert(at.children[c], v, hash, shift+bitsPerLevel)
		next.children = replaced(at.children, c, child)
		return &next, added
	case at.valueMap&bit == 0:
		next.valueMap |= bit
		next.values = inserted(at.values, i, v)
		return &next, true
	case at.values[i].key() == v.key():
		next.values = replaced(at.values, i, v)
		return &next, false
	}
	old := at.values[i]
	child, _ := t.insert(&branch[V]{}, old, old.key().hash(t.seed), shift+bitsPerLevel)
	child, _ = t.insert(child, v, hash, shift+bitsPerLevel)
	next.valueMap &^= bit
	next.values = removed(at.values, i)
	next.childMap |= bit
	next.children = inserted(at.children, c, child)
	return &next, true
}

// without returns t without the value with key k.
func (t tree[K, V]) without(k K) tree[K, V] {
	if t.root == nil {
		return t
	}
	root, found := t.remove(t.root, k, k.hash(t.seed), 0)
	if !found {
		return t
	}
	t.size--
	t.root = root
	if t.size == 0 {
		return tree[K, V]{}
	}
	return t
}

// remove never leaves a branch, the root aside, with one value and nothing else: that moves up, or long-lived trees grow
// deep.
func (t tree[K, V]) remove(at *branch[V], k K, hash uint64, shift int) (*branch[V], bool) {
	next := *at
	if shift >= hashBits {
		i := slices.IndexFunc(at.values, func(v V) bool { return v.key() == k })
		if i < 0 {
			return at, false
		}
		next.values = removed(at.values, i)
		return &next, true
	}
	bit := levelBit(hash, shift)
	i, c := index(at.valueMap, bit), index(at.childMap, bit)
	switch {
	case at.valueMap&bit != 0:
		if at.values[i].key() != k {
			return at, false
		}
		next.valueMap &^= bit
		next.values = removed(at.values, i)
		return &next, true
	case at.childMap&bit == 0:
		return at, false
	}
	child, found := t.remove(at.children[c], k, hash, shift+bitsPerLevel)
	if !found {
		return at, false
	}
	if len(child.values) == 1 && len(child.children) == 0 {
		next.childMap &^= bit
		next.children = removed(at.children, c)
		next.valueMap |= bit
		next.values = inserted(at.values, i, child.values[0])
		return &next, true
	}
	next.children = replaced(at.children, c, child)
	return &next, true
}

func replaced[T any](list []T, i int, v T) []T {
	next := make([]T, len(list))
	copy(next, list)
	next[i] = v
	return next
}

func inserted[T any](list []T, i int, v T) []T {
	next := make([]T, len(list)+1)
	copy(next, list[:i])
	next[i] = v
	copy(next[i+1:], list[i:])
	return next
}

func removed[T any](list []T, i int) []T {
	if len(list) == 1 {
		return nil
	}
	next := make([]T, len(list)-1)
	copy(next, list[:i])
	copy(next[i:], list[i+1:])
	return next
}

// all yields every value, in no useful order.
func (t tree[K, V]) all() iter.Seq[V] {
	return func(yield func(V) bool) {
		if t.root != nil {
			t.root.walk(yield)
		}
	}
}

func (b *branch[V]) walk(yield func(V) bool) bool {
	for _, v := range b.values {
		if !yield(v) {
			return false
		}
	}
	for _, child := range b.children {
		if !child.walk(yield) {
			return false
		}
	}
	return true
}
