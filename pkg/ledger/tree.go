package ledger

import (
	"hash/maphash"
	"iter"
	"math/bits"
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

// A branch has one slot for each set bit of bitmap, in the order of the bits. Where the bits of a hash are used up,
// the slots are a plain list.
type branch[V any] struct {
	bitmap uint32
	slots  []slot[V]
}

// A slot holds a value, or a branch of values whose hashes agree so far.
type slot[V any] struct {
	value V
	child *branch[V]
}

const (
	bitsPerLevel = 5
	hashBits     = 64
)

// get returns the value with key k, or the zero value.
func (t tree[K, V]) get(k K) (V, bool) {
	var none V
	if t.root == nil {
		return none, false
	}
	hash := k.hash(t.seed)
	at := t.root
	for shift := 0; shift < hashBits; shift += bitsPerLevel {
		bit := uint32(1) << (hash >> shift & (1<<bitsPerLevel - 1))
		if at.bitmap&bit == 0 {
			return none, false
		}
		s := &at.slots[bits.OnesCount32(at.bitmap&(bit-1))]
		if s.child == nil {
			if s.value.key() == k {
				return s.value, true
			}
			return none, false
		}
		at = s.child
	}
	for i := range at.slots {
		if at.slots[i].value.key() == k {
			return at.slots[i].value, true
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
	if shift >= hashBits {
		for i := range at.slots {
			if at.slots[i].value.key() == v.key() {
				return at.replaced(i, slot[V]{value: v}), false
			}
		}
		return at.inserted(len(at.slots), 0, slot[V]{value: v}), true
	}
	bit := uint32(1) << (hash >> shift & (1<<bitsPerLevel - 1))
	i := bits.OnesCount32(at.bitmap & (bit - 1))
	if at.bitmap&bit == 0 {
		return at.inserted(i, bit, slot[V]{value: v}), true
	}
	old := at.slots[i]
	switch {
	case old.child != nil:
		child, added := t.insert(old.child, v, hash, shift+bitsPerLevel)
		return at.replaced(i, slot[V]{child: child}), added
	case old.value.key() == v.key():
		return at.replaced(i, slot[V]{value: v}), false
	}
	child, _ := t.insert(&branch[V]{}, old.value, old.value.key().hash(t.seed), shift+bitsPerLevel)
	child, _ = t.insert(child, v, hash, shift+bitsPerLevel)
	return at.replaced(i, slot[V]{child: child}), true
}

// without returns t without the value with key k.
func (t tree[K, V]) without(k K) tree[K, V] {
	if t.root == nil {
		return t
	}
	root, removed := t.remove(t.root, k, k.hash(t.seed), 0)
	if !removed {
		return t
	}
	t.size--
	t.root = root
	if root == nil {
		return tree[K, V]{}
	}
	return t
}

// remove returns nil for a branch that becomes empty.
func (t tree[K, V]) remove(at *branch[V], k K, hash uint64, shift int) (*branch[V], bool) {
	if shift >= hashBits {
		for i := range at.slots {
			if at.slots[i].value.key() == k {
				return at.removed(i, 0), true
			}
		}
		return at, false
	}
	bit := uint32(1) << (hash >> shift & (1<<bitsPerLevel - 1))
	if at.bitmap&bit == 0 {
		return at, false
	}
	i := bits.OnesCount32(at.bitmap & (bit - 1))
	old := at.slots[i]
	if old.child == nil {
		if old.value.key() != k {
			return at, false
		}
		return at.removed(i, bit), true
	}
	child, removed := t.remove(old.child, k, hash, shift+bitsPerLevel)
	switch {
	case !removed:
		return at, false
	case child == nil:
		return at.removed(i, bit), true
	case len(child.slots) == 1 && child.slots[0].child == nil:
		return at.replaced(i, child.slots[0]), true // a lone value moves up, or long-lived trees grow deep
	}
	return at.replaced(i, slot[V]{child: child}), true
}

func (b *branch[V]) replaced(i int, s slot[V]) *branch[V] {
	slots := make([]slot[V], len(b.slots))
	copy(slots, b.slots)
	slots[i] = s
	return &branch[V]{bitmap: b.bitmap, slots: slots}
}

func (b *branch[V]) inserted(i int, bit uint32, s slot[V]) *branch[V] {
	slots := make([]slot[V], len(b.slots)+1)
	copy(slots, b.slots[:i])
	slots[i] = s
	copy(slots[i+1:], b.slots[i:])
	return &branch[V]{bitmap: b.bitmap | bit, slots: slots}
}

func (b *branch[V]) removed(i int, bit uint32) *branch[V] {
	if len(b.slots) == 1 {
		return nil
	}
	slots := make([]slot[V], len(b.slots)-1)
	copy(slots, b.slots[:i])
	copy(slots[i:], b.slots[i+1:])
	return &branch[V]{bitmap: b.bitmap &^ bit, slots: slots}
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
	for i := range b.slots {
		s := &b.slots[i]
		if s.child != nil {
			if !s.child.walk(yield) {
				return false
			}
		} else if !yield(s.value) {
			return false
		}
	}
	return true
}
