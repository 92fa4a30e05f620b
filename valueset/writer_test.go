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
		if invariants.Sparse > 1 { // so many values are needed to measure what one takes
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

// TestCompactedTreeSpace: when half of the values are deleted, all over the tree, a
// compaction leaves as many nodes as the rest needs. One that erases few tombstones does
// not move the values of a leaf into another.
func TestCompactedTreeSpace(t *testing.T) {
	w := newWorld(t, 64<<20)
	defer w.close()
	const n = 60_000
	bytes := fill(t, w, n, n, false)
	for _, c := range []struct {
		every uint64 // value is deleted
		least int64  // nodes left, of 100
		most  int64
	}{{500, 100, 100}, {2, 49, 53}} {
		tx, writer := w.begin()
		s := w.set(writer, keys.FromUint64(1))
		for v := uint64(0); v < n; v += c.every {
			must(t, s.Remove(keys.FromUint64(v)))
		}
		w.save(writer, s)
		w.commit(tx, writer)
		tx, writer = w.begin()
		s = w.set(writer, keys.FromUint64(1))
		must(t, s.Compact())
		w.save(writer, s)
		w.commit(tx, writer)
		if left := setBytes(t, w); left < bytes*c.least/100 || left > bytes*c.most/100 {
			t.Errorf("each %d-th value is deleted: %d bytes, of %d; want %d to %d of 100", c.every, left, bytes, c.least, c.most)
		}
		if s := w.stored(w.refs[keys.FromUint64(1)].set); s.Count() != n-n/c.every || s.Tombstones() != 0 {
			t.Errorf("each %d-th value is deleted: %d values and %d tombstones", c.every, s.Count(), s.Tombstones())
		}
		w.checkFile()
	}
}

// TestEraseInParts: a tree whose tombstones are erased some leaves at a time has its
// values, and few more nodes than they need. A part writes its leaves and the nodes
// above. A row, and what becomes one, is compacted at once.
func TestEraseInParts(t *testing.T) {
	const n, leaves = 30_000, 8
	for _, c := range []struct{ values, parts int }{{n, n / leafFull / leaves}, {1500, 1}, {100, 1}} {
		w := newWorld(t, 64<<20)
		bytes := fill(t, w, c.values, c.values, false)
		tx, writer := w.begin()
		s := w.set(writer, keys.FromUint64(1))
		for v := 0; v < c.values; v += 2 {
			must(t, s.Remove(keys.FromUint64(uint64(v))))
		}
		w.save(writer, s)
		w.commit(tx, writer)
		parts, compactions := 0, uint64(0)
		for more := true; more; parts++ {
			tx, writer := w.begin()
			s := w.set(writer, keys.FromUint64(1))
			var err error
			more, err = s.Erase(leaves)
			must(t, err)
			w.save(writer, s)
			if placed := tx.Placed(); placed > (leaves+4)*nodeSize {
				t.Errorf("%d values: part %d places %d bytes", c.values, parts, placed)
			}
			compactions += writer.Stats().Compactions
			w.commit(tx, writer)
		}
		id := w.refs[keys.FromUint64(1)].set
		w.table().Check(id, keys.FromUint64(1), nil, func(err error) { t.Errorf("%d values: %v", c.values, err) })
		left := w.stored(id)
		if int(left.Count()) != c.values/2 || left.Tombstones() != 0 || parts < c.parts || compactions != 1 {
			t.Errorf("%d values: %d and %d tombstones after %d parts, %d compactions; want at least %d parts", c.values, left.Count(), left.Tombstones(), parts, compactions, c.parts)
		}
		if after := setBytes(t, w); after > bytes*3/5 {
			t.Errorf("%d values: %d bytes, of %d", c.values, after, bytes)
		}
		w.checkFile()
		w.close()
	}
}

// TestTreeTouchesPathsOnly: one more value rewrites one node of each level, and a
// value that is there already rewrites nothing.
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

// TestNodeNumbersAreNotReused: a tree that is made after another one is gone has
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
		last = w.counters.Nodes
	}
}

// TestSetIDsAreReused: if there are many ids of sets that are gone, they are taken
// before new ones.
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
		if n := w.counters.Sets; n > 200+200/fewUnused {
			t.Fatalf("round %d: %d set ids for 200 keys", round, n)
		}
	}
}

// TestRenumber: when most sets are gone, the others move to the lowest ids, whatever
// their form, and the states of the rest take no space; their values stay.
func TestRenumber(t *testing.T) {
	w := newWorld(t, 16<<20)
	defer w.close()
	const sets = 1000
	tx, writer := w.begin()
	for key := range uint64(sets) {
		x := w.tested(t, writer, keys.FromUint64(key))
		n := uint64(5 + key%40)
		if key%200 == 150 {
			n = 3000
		}
		for v := range n {
			x.add(keys.FromUint64(v))
		}
		x.remove(keys.FromUint64(3))
		w.save(writer, x.s)
	}
	w.commit(tx, writer)
	tx, writer = w.begin()
	for key := range uint64(sets) {
		if key%50 != 0 {
			x := w.tested(t, writer, keys.FromUint64(key))
			x.clear()
			w.save(writer, x.s)
		}
	}
	w.commit(tx, writer)
	w.check()
	left := uint64(len(w.refs))
	for from := uint64(0); from < sets; from += sets / 2 { // in two commits
		tx, writer = w.begin()
		if from == 0 {
			writer.Search = 0
		}
		for key := from; key < from+sets/2; key++ {
			r, there := w.refs[keys.FromUint64(key)]
			if !there || r.set < left {
				continue
			}
			id, err := writer.Renumber(keys.FromUint64(key), r.set)
			must(t, err)
			w.refs[keys.FromUint64(key)] = ref{spilled: true, set: id}
		}
		w.commit(tx, writer)
		w.check()
	}
	if c := w.counters; c.Sets != (left+pageRows-1)/pageRows*pageRows || c.Unused != c.Sets-left {
		t.Errorf("%+v for %d sets", c, left)
	}
	for key := range w.refs { // and all of them go
		tx, writer = w.begin()
		x := w.tested(t, writer, key)
		x.clear()
		w.save(writer, x.s)
		w.commit(tx, writer)
	}
	w.check()
	if c := w.counters; c.Sets != 0 || c.Unused != 0 || c.Search != 0 {
		t.Errorf("%+v for no sets", c)
	}
}

// TestUnusedThatAreNot: it is damage if counters promise unused sets and there are
// none.
func TestUnusedThatAreNot(t *testing.T) {
	w := damaged(t)
	defer w.close()
	tx, err := w.file.Begin()
	must(t, err)
	c := w.counters
	c.Unused = c.Sets
	writer, err := NewWriter(tx, w.table(), c)
	must(t, err)
	s := writer.Empty(keys.FromUint64(99))
	for v := range uint64(5) {
		must(t, s.Add(keys.FromUint64(v)))
	}
	if _, err := writer.Save(s); !errors.Is(err, corrupt.Err) {
		t.Errorf("%v, want damage", err)
	}
	tx.Abort()
}

// TestCheckUnusedEnds: it ends with its context, however many ids there are said to
// be.
func TestCheckUnusedEnds(t *testing.T) {
	w := damaged(t)
	defer w.close()
	wrong := func(err error) { t.Error(err) }
	used := w.counters.Sets - w.counters.Unused
	if unused := w.table().CheckUnused(t.Context(), 1<<62, wrong); unused != 1<<62-used {
		t.Errorf("%d unused of 1<<62, want all but %d", unused, used)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if unused := w.table().CheckUnused(ctx, 1<<62, wrong); unused != 0 {
		t.Errorf("%d unused of those that were not looked at", unused)
	}
}

// TestSaveOnce: a transaction cannot read what it has written.
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
