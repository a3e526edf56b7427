package ledger

import (
	"hash/maphash"
	"testing"

	"github.com/portcullis-k8s/portcullis/pkg/seed"
)

type item struct{ k, v int }

type itemKey int

func (k itemKey) hash(seed maphash.Seed) uint64 { return maphash.Comparable(seed, k) }

func (i *item) key() itemKey { return itemKey(i.k) }

// TestTreeAgreesWithAMap makes trees large and small again, and keeps old versions.
func TestTreeAgreesWithAMap(t *testing.T) {
	r := seed.Rand(t)
	var tr tree[itemKey, *item]
	m := map[int]int{}
	for step := range seed.Rounds(20000, 1000000) {
		k := r.IntN(1 + step/4)
		if r.IntN(3) > 0 && step%4000 < 3000 {
			before, beforeSize := tr, tr.size
			tr = tr.with(&item{k, step})
			m[k] = step
			if before.size != beforeSize {
				t.Fatal("an old version changed")
			}
		} else {
			tr = tr.without(itemKey(k))
			delete(m, k)
		}
		if tr.size != len(m) {
			t.Fatalf("step %d: size %d, want %d", step, tr.size, len(m))
		}
		probe := r.IntN(1 + step/4)
		got, ok := tr.get(itemKey(probe))
		want, wantOK := m[probe]
		if ok != wantOK || ok && got.v != want {
			t.Fatalf("step %d: get(%d) = %v %v, want %d %v", step, probe, got, ok, want, wantOK)
		}
	}
	seen := map[int]int{}
	for i := range tr.all() {
		seen[i.k] = i.v
	}
	if len(seen) != len(m) {
		t.Fatalf("all yields %d, want %d", len(seen), len(m))
	}
	for k := range m {
		tr = tr.without(itemKey(k))
	}
	if tr.size != 0 || tr.root != nil {
		t.Fatalf("not empty at the end: %d", tr.size)
	}
}

// TestTreeWithEqualHashes drives the levels below the hash by inserting at them.
func TestTreeWithEqualHashes(t *testing.T) {
	tr := tree[itemKey, *item]{}.with(&item{k: 0})
	root := &branch[*item]{}
	for k := range 5 {
		root, _ = tr.insert(root, &item{k, k}, 42, hashBits)
	}
	root, added := tr.insert(root, &item{3, 33}, 42, hashBits)
	if added || len(root.values) != 5 || root.values[3].v != 33 {
		t.Fatalf("replacing among equals: %v %v", added, root.values)
	}
	for k := range 5 {
		root, _ = tr.remove(root, itemKey(k), 42, hashBits)
	}
	if len(root.values) != 0 {
		t.Fatalf("left over: %v", root.values)
	}
}
