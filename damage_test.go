package cidstore_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cidstore/cidstore"
)

// sets is what a store must hold.
type sets map[cidstore.E][]cidstore.E

func (m sets) pairs() (n int) {
	for _, values := range m {
		n += len(values)
	}
	return n
}

// numbered is key i of the stores of these tests.
func numbered(i int) cidstore.E { return cidstore.FromString(fmt.Sprint("key ", i)) }

// big is the key of a set that is a tree.
var big = cidstore.FromString("big")

// makeDamageable makes a store at path with sets of every form, groups that were
// folded, runs over them with newer values and deletions, and closes it.
func makeDamageable(t *testing.T, path string) sets {
	t.Helper()
	s := open(t, path, &cidstore.Options{SplitThreshold: 16, GCInterval: -1, Rand: rand.NewChaCha8([32]byte{5})})
	defer s.Close()
	model := sets{}
	r := rand.New(rand.NewPCG(5, 6))
	var b cidstore.Batch
	insert := func(key, value cidstore.E) {
		b.Insert(key, value)
		if at, found := slices.BinarySearchFunc(model[key], value, cidstore.E.Compare); !found {
			model[key] = slices.Insert(model[key], at, value)
		}
	}
	apply := func() {
		t.Helper()
		must(t, s.Apply(&b), s.Checkpoint(t.Context()))
		b.Reset()
	}
	for i := range 3000 {
		for j := range 1 + i%3 {
			insert(numbered(i), cidstore.FromUint64(uint64(10*i+j)))
		}
	}
	for i := range 5000 {
		insert(big, cidstore.FromUint64(uint64(2*i)))
	}
	for i := range 20 {
		for j := range 40 {
			insert(numbered(5000+i), cidstore.FromUint64(uint64(j)))
		}
	}
	apply()
	for range 6 {
		for range 40 {
			insert(numbered(r.IntN(3200)), cidstore.FromUint64(r.Uint64()))
		}
		for range 10 {
			key := numbered(r.IntN(3000))
			b.Delete(key)
			delete(model, key)
		}
		apply()
	}
	return model
}

// holdsWhatCanBeRead compares the loops of s with its lookups: the loops give all pairs of a
// key that can be looked up, and no wrong pair of any other key. It returns the number of
// pairs that they gave.
func holdsWhatCanBeRead(t *testing.T, s *cidstore.Store, model sets) int {
	t.Helper()
	v := mustGet(s.Snapshot())(t)
	defer v.Close()
	given := sets{}
	for key, value := range v.All() {
		given[key] = append(given[key], value)
	}
	inKeys := map[cidstore.E]int{}
	for key := range v.Keys() {
		inKeys[key]++
	}
	var failed error
	for key, want := range model {
		got, err := v.Lookup(key)
		switch {
		case err == nil && !slices.Equal(got, want):
			t.Fatalf("Lookup(%v): %d values, want %d", key, len(got), len(want))
		case err == nil && !slices.Equal(given[key], want):
			t.Fatalf("All gave %d values of %v, which can be read: want %d; %v", len(given[key]), key, len(want), v.Err())
		case err == nil && inKeys[key] != 1:
			t.Fatalf("Keys gave %v %d times, want once", key, inKeys[key])
		case err != nil:
			failed = err
		}
		var streamed []cidstore.E
		for value, err := range s.Values(key) {
			if err == nil {
				streamed = append(streamed, value)
			}
		}
		if !slices.Equal(streamed, given[key]) {
			t.Fatalf("Values(%v) gave %d, All %d; %v", key, len(streamed), len(given[key]), v.Err())
		}
	}
	for key, values := range given {
		for i, value := range values {
			if _, found := slices.BinarySearchFunc(model[key], value, cidstore.E.Compare); !found {
				t.Fatalf("All gave %v, %v, which was not stored", key, value)
			}
			if i > 0 && values[i-1].Compare(value) >= 0 {
				t.Fatalf("values of %v out of order", key)
			}
		}
	}
	if err := v.Err(); failed != nil && !errors.Is(err, cidstore.ErrCorrupt) && !errors.Is(err, cidstore.ErrIO) {
		t.Fatalf("Err() = %v, but a lookup fails with %v", err, failed)
	} else if err == nil && given.pairs() != model.pairs() {
		t.Fatalf("%d pairs and no error, want %d", given.pairs(), model.pairs())
	}
	return given.pairs()
}

// copyChanged copies a file, changed.
func copyChanged(t *testing.T, from, to string, change func([]byte) []byte) {
	t.Helper()
	data := mustGet(os.ReadFile(from))(t)
	must(t, os.WriteFile(to, change(data), 0o666))
}

// TestLoopsGoOnPastDamage: bytes flipped in many places of a real file, one to
// thirty at a time. What can be looked up is given by every loop, nothing is given
// that is wrong, and Err says what was left out.
func TestLoopsGoOnPastDamage(t *testing.T) {
	dir := t.TempDir()
	path, bad := filepath.Join(dir, "s.h5"), filepath.Join(dir, "bad.h5")
	model := makeDamageable(t, path)
	r := rand.New(rand.NewPCG(1, 2))
	opened, damaged, whole := 0, 0, model.pairs()
	for round := range 60 {
		copyChanged(t, path, bad, func(data []byte) []byte {
			for range 1 + round/2 {
				at := 12288 + r.IntN(len(data)-12288)
				for data[at] == 0 { // most of the rest is the log
					at = 12288 + r.IntN(len(data)-12288)
				}
				data[at] ^= 1 << r.IntN(8)
			}
			return data
		})
		s, err := cidstore.Open(bad, &cidstore.Options{ReadOnly: true, Salvage: true})
		if err != nil {
			continue // its root is damaged
		}
		opened++
		if r := s.Recovery(); r.FellBack && r.Salvaged != nil {
			// An older moment, because the log is damaged; the store says so.
			wantErr(t, s.Close(), nil)
			continue
		}
		if holdsWhatCanBeRead(t, s, model) < whole {
			damaged++
		}
		wantErr(t, s.Close(), nil)
	}
	t.Logf("%d opened, %d of them with pairs left out", opened, damaged)
	if opened < 30 || damaged < 20 {
		t.Errorf("%d opened, %d of them damaged: too few to say anything", opened, damaged)
	}
}

// TestBadLeaf: of a set that is a tree, the other leaves are given.
func TestBadLeaf(t *testing.T) {
	dir := t.TempDir()
	path, bad := filepath.Join(dir, "s.h5"), filepath.Join(dir, "bad.h5")
	model := makeDamageable(t, path)
	leaf := cidstore.FromUint64(5000).AppendHDF5(cidstore.FromUint64(4998).AppendHDF5(nil))
	copyChanged(t, path, bad, func(data []byte) []byte {
		n := 0
		for at := range len(data) - len(leaf) {
			if string(data[at:at+len(leaf)]) == string(leaf) {
				data[at] ^= 1
				n++
			}
		}
		if n == 0 {
			t.Fatal("no leaf with 4998 and 5000")
		}
		return data
	})
	cidstore.Unchecked(t, bad, "a leaf is damaged")
	s := open(t, bad, &cidstore.Options{ReadOnly: true})
	if got, want := holdsWhatCanBeRead(t, s, model), model.pairs(); got >= want || got < want-256 {
		t.Errorf("%d of %d pairs, want all but those of one leaf, 256 at most", got, want)
	}
	var last error
	n := 0
	for _, err := range s.Values(big) {
		if last != nil {
			t.Fatal("a value after the error")
		}
		if last = err; err == nil {
			n++
		}
	}
	if !errors.Is(last, cidstore.ErrCorrupt) || n < 5000-256 || n >= 5000 {
		t.Errorf("Values: %d values, then %v", n, last)
	}
}
