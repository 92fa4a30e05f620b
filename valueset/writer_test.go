package valueset

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/internal/invariants"
	"github.com/cidstore/cidstore/keys"
)

// TestTreeSpace: values that come in random order in batches take less than 24
// bytes each, index records included; so do ascending ones, one leaf at a time.
func TestTreeSpace(t *testing.T) {
	for name, c := range map[string]struct {
		n, batch int
		random   bool
	}{
		"random, large batches":    {200_000, 20_000, true},
		"random, small batches":    {100_000, 2_000, true},
		"ascending, small batches": {30_000, 100, false},
		"random, larger batches":   {300_000, 60_000, true},
	} {
		if invariants.Enabled { // with the race detector it is the same, slower
			c.n /= 5
		}
		w := newWorld(t, 64<<20)
		bytes := fill(t, w, c.n, c.batch, c.random)
		if per := float64(bytes) / float64(c.n); per >= 24 {
			t.Errorf("%s: %.1f bytes a value", name, per)
		}
		w.close()
	}
}

// TestTreeTouchesPathsOnly: one value more rewrites one node a level and nothing
// that is there already rewrites nothing.
func TestTreeTouchesPathsOnly(t *testing.T) {
	w := newWorld(t, 64<<20)
	defer w.close()
	fill(t, w, 50_000, 50_000, false)
	for _, c := range []struct {
		value  uint64
		placed int64
	}{
		{1 << 40, 4*nodeSize + nodeSize/2}, // the last leaf may split; depth 2
		{17, 0},
	} {
		tx, writer := w.begin()
		s := w.set(writer, keys.FromUint64(1))
		must(t, s.Add(keys.FromUint64(c.value)))
		before := tx.Placed()
		w.save(writer, s)
		if placed := tx.Placed() - before; placed > c.placed {
			t.Errorf("value %d: %d bytes placed, want up to %d", c.value, placed, c.placed)
		}
		w.commit(tx, writer)
	}
}

// TestNodeNumbersAreNotReused: a tree that comes after one that is gone has
// higher numbers.
func TestNodeNumbersAreNotReused(t *testing.T) {
	w := newWorld(t, 16<<20)
	defer w.close()
	last := uint64(0)
	for range 3 {
		tx, writer := w.begin()
		x := w.tested(t, writer, keys.FromUint64(1))
		x.clear()
		for v := range uint64(2000) {
			x.add(keys.FromUint64(v))
		}
		w.save(writer, x.s)
		w.commit(tx, writer)
		w.check()
		s, err := w.table().Open(w.refs[keys.FromUint64(1)].set, keys.FromUint64(1))
		must(t, err)
		w.table().Check(s.set, keys.FromUint64(1), func(o Owned) {
			if o.Number < last {
				t.Errorf("node %d, below %d", o.Number, last)
			}
		}, func(err error) { t.Error(err) })
		last = w.nextNode
	}
}

// TestSetIDsAreReused: ids of sets that are gone are chained, and taken first.
func TestSetIDsAreReused(t *testing.T) {
	w := newWorld(t, 16<<20)
	defer w.close()
	rng := rand.New(rand.NewPCG(1, 1))
	for round := range 10 {
		tx, writer := w.begin()
		for key := range uint64(200) {
			x := w.tested(t, writer, keys.FromUint64(key))
			if rng.IntN(2) == 0 {
				x.clear()
			} else {
				for v := range uint64(5 + rng.IntN(30)) {
					x.add(keys.FromUint64(v))
				}
			}
			w.save(writer, x.s)
		}
		w.commit(tx, writer)
		w.check()
		if w.numSets > 200 {
			t.Fatalf("round %d: %d set ids for 200 keys", round, w.numSets)
		}
	}
}

// TestBrokenChain: a chain of unused ids that leads to a set in use, or nowhere,
// is damage, in the writer and in the check.
func TestBrokenChain(t *testing.T) {
	w := damaged(t)
	defer w.close()
	for _, freeSet := range []uint64{1, 2, 3, 1 << 50, ^uint64(0)} {
		tx, err := w.file.Begin()
		must(t, err)
		writer, err := NewWriter(tx, w.table(), w.numSets, freeSet, w.nextNode)
		must(t, err)
		s := writer.Empty(keys.FromUint64(99))
		for v := range uint64(5) {
			must(t, s.Add(keys.FromUint64(v)))
		}
		if _, err := writer.Save(s); !errors.Is(err, corrupt.Err) {
			t.Errorf("chain from %d: %v", freeSet, err)
		}
		tx.Abort()
		var defects int
		w.table().CheckUnused(context.Background(), w.numSets, freeSet, func(err error) {
			if !errors.Is(err, corrupt.Err) {
				t.Error(err)
			}
			defects++
		})
		if defects == 0 {
			t.Errorf("chain from %d: not seen", freeSet)
		}
	}
}

// TestCheckUnusedEnds: with its context, however many ids there are said to be.
func TestCheckUnusedEnds(t *testing.T) {
	w := damaged(t)
	defer w.close()
	ctx, cancel := context.WithCancel(context.Background())
	reported := 0
	w.table().CheckUnused(ctx, 1<<62, 0, func(error) {
		if reported++; reported == 1000 {
			cancel()
		}
	})
	if reported > 1000+pageRows {
		t.Errorf("%d reports after the end of the context", reported-1000)
	}
}

// TestSaveOnce: what a transaction has written it cannot read.
func TestSaveOnce(t *testing.T) {
	w := damaged(t)
	defer w.close()
	tx, writer := w.begin()
	x := w.tested(t, writer, keys.FromUint64(0))
	x.add(keys.FromUint64(1))
	w.save(writer, x.s)
	if _, err := writer.Spilled(keys.FromUint64(0), 0); err == nil {
		t.Error("a set is opened again after Save")
	}
	tx.Abort()
}

// TestStats: transitions are counted as they happen.
func TestStats(t *testing.T) {
	w := newWorld(t, 16<<20)
	defer w.close()
	tx, writer := w.begin()
	x := w.tested(t, writer, keys.FromUint64(1))
	for round := range uint64(3) {
		for v := range uint64(6) {
			x.add(keys.FromUint64(v))
		}
		x.remove(keys.FromUint64(round))
		x.compact()
		x.compact() // nothing left to drop
		x.remove(keys.FromUint64(round + 1))
		x.demote()
	}
	r := w.save(writer, x.s)
	if got, want := writer.Stats(), (Stats{Promotions: 3, Demotions: 3, Compactions: 3}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if r.Live != 4 || r.Was != 0 || r.Count != 4 || r.Spilled {
		t.Errorf("%+v", r)
	}
	w.commit(tx, writer)
	w.check()
}

// TestEmptiedAndFilled: a set that loses its last value in the midst of a batch
// loses its tombstones and its spilled form, however large it was.
func TestEmptiedAndFilled(t *testing.T) {
	for _, n := range []uint64{3, 5, 100, 1024, 1025, 5000} {
		w := newWorld(t, 16<<20)
		for range 2 {
			tx, writer := w.begin()
			x := w.tested(t, writer, keys.FromUint64(1))
			for v := range n {
				x.add(keys.FromUint64(v))
			}
			for _, v := range x.m.values() {
				x.remove(v)
			}
			x.add(keys.FromUint64(1))
			x.lookCounts()
			for v := range n {
				x.add(keys.FromUint64(2 * v))
			}
			w.save(writer, x.s)
			w.commit(tx, writer)
			w.check()
		}
		w.close()
	}
}
