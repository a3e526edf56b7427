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
	for range tr.all() {
		break // a reader may stop early
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

// equalKey is a key whose hash is that of every other.
type equalKey int

func (equalKey) hash(maphash.Seed) uint64 { return 42 }

type equalItem struct{ k, v int }

func (i *equalItem) key() equalKey { return equalKey(i.k) }

// TestTreeWithEqualHashes drives the level below the hash.
func TestTreeWithEqualHashes(t *testing.T) {
	const keys = 5
	var tr tree[equalKey, *equalItem]
	for k := range keys {
		tr = tr.with(&equalItem{k, k})
	}
	for _, k := range []int{0, 3, keys - 1} {
		tr = tr.with(&equalItem{k, 10 * k})
	}
	if tr = tr.without(keys); tr.size != keys {
		t.Fatalf("size %d, want %d", tr.size, keys)
	}
	for k, want := range []int{0, 1, 2, 30, 40} {
		if got, ok := tr.get(equalKey(k)); !ok || got.v != want {
			t.Errorf("get(%d) = %v %v, want %d", k, got, ok, want)
		}
	}
	if got, ok := tr.get(keys); ok {
		t.Errorf("get(%d) = %v, want none", keys, got)
	}
	for i, k := range []int{2, 0, 4, 1, 3} {
		tr = tr.without(equalKey(k))
		if _, ok := tr.get(equalKey(k)); ok || tr.size != keys-1-i {
			t.Errorf("without %d: still there: %v, size %d", k, ok, tr.size)
		}
	}
}
