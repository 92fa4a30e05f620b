package bucket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/internal/invariants"
	"github.com/cidstore/cidstore/keys"
)

// TestModel: whatever is folded, kept, taken in, split or left for the next commit,
// the file equals the model.
func TestModel(t *testing.T) {
	var trimmed atomic.Int64
	t.Cleanup(func() { // after the parallel ones
		if trimmed.Load() == 0 {
			t.Error("no run was trimmed")
		}
	})
	for _, threshold := range []int{2, 3, 5, 8, 16, 33, 128, 1024} {
		for seed := uint64(0); seed < 3; seed += invariants.Sparse {
			t.Run(fmt.Sprintf("threshold %d, seed %d", threshold, seed), func(t *testing.T) {
				t.Parallel()
				r := rand.New(rand.NewPCG(seed, uint64(threshold)))
				w := newWorld(t, threshold)
				space := 200 + 10*threshold
				for round := range 25 {
					changes := w.changes(r, 1+r.IntN(space/3), space)
					share := r.IntN(3)
					stop := 0
					if r.IntN(3) == 0 {
						stop = 1 + r.IntN(len(w.groups))
					}
					fold := func(s *State) bool { return (s.Prefix>>40+uint64(round))%3 < uint64(share) }
					for {
						changes = w.commit(changes, r.IntN(2) == 0 && stop == 0 || stop > 0, stop, fold)
						if stop == 0 || len(changes) == 0 {
							break
						}
						stop = 0
					}
					if round%4 == 0 {
						w.open(FirstTouch, false)
					}
					w.holds()
					if round%3 == 0 {
						trimmed.Add(w.trim())
						w.holds()
					}
					if t.Failed() {
						t.Fatalf("round %d", round)
					}
				}
				w.commit(nil, false, 0, func(*State) bool { return true })
				if waiting, _ := w.table.Waiting(); waiting != 0 || w.table.Runs() != 0 {
					t.Errorf("%d entries wait in %d runs after all groups were folded", waiting, w.table.Runs())
				}
				w.open(Always, false)
				w.holds()
			})
		}
	}
}

// TestTrim: when half of a run was folded, the run keeps the other half as it was;
// what cannot be verified is not written again as if it were good.
func TestTrim(t *testing.T) {
	prepare := func() (w *world, number hdf5io.Commit) {
		w = newWorld(t, 4)
		r := rand.New(rand.NewPCG(4, 4))
		w.commit(w.changes(r, 900, 1000), false, 0, func(*State) bool { return true })
		w.commit(w.changes(r, 300, 1000), false, 0, func(*State) bool { return false })
		w.commit(nil, false, 0, func(s *State) bool { return s.Prefix>>63 == 0 })
		number, ok := w.table.Trimmable(math.MaxInt64)
		if !ok {
			t.Fatal("no run can be trimmed")
		}
		if _, ok := w.table.Trimmable(100); ok {
			t.Error("a run is trimmed where there is no room for it")
		}
		return w, number
	}
	w, number := prepare()
	before := w.table.runs[0]
	must(t, w.tryTrim(number))
	after := w.table.runs[0]
	if after.number != number || after.entries != before.live || after.live != before.live || after.low>>63 == 0 || after.high != before.high {
		t.Errorf("run %+v, before %+v", after, before)
	}
	w.holds()
	if _, ok := w.table.Trimmable(math.MaxInt64); ok {
		t.Error("a run can be trimmed twice")
	}
	if err := w.tryTrim(number + 99); err == nil {
		t.Error("a run that is not there was trimmed")
	}

	w, number = prepare()
	last := int64(w.table.runs[0].entriesAt) + int64(w.table.runs[0].entries-1)*EntrySize
	must(t, w.raw.WriteAt([]byte{0xff, 0xff, 0xff}, last))
	w.open(FirstTouch, false)
	if err := w.tryTrim(number); !errors.Is(err, corrupt.Err) {
		t.Errorf("a damaged run was trimmed: %v", err)
	}
}

// TestAbsent: keys that are not there are not found, and their reads allocate nothing.
func TestAbsent(t *testing.T) {
	w := newWorld(t, 16)
	r := rand.New(rand.NewPCG(1, 1))
	w.commit(w.changes(r, 400, 500), false, 0, func(*State) bool { return true })
	w.commit(w.changes(r, 100, 500), false, 0, func(*State) bool { return false })
	for i := range uint64(2000) {
		key := keys.FromUint64(10_000 + i)
		hash := w.hasher.Hash(key)
		if _, found, err := w.table.Find(w.groupOf(hash), hash, key); found || err != nil {
			t.Fatalf("key %v: %v, %v", key, found, err)
		}
	}
	for key, it := range w.model {
		id := w.groupOf(it.Hash)
		if n := testing.AllocsPerRun(10, func() { _, _, _ = w.table.Find(id, it.Hash, key) }); n != 0 {
			t.Fatalf("%v allocations", n)
		}
		break
	}
}

// TestSmallCommitsLeaveFewRuns makes commits of one key each, and folds none.
func TestSmallCommitsLeaveFewRuns(t *testing.T) {
	w := newWorld(t, 128)
	for i := range uint64(300) {
		w.commit([]Item{w.item(keys.FromUint64(i), i)}, true, 0, func(*State) bool { return false })
		if runs := w.table.Runs(); runs > 8 {
			t.Fatalf("%d runs after %d commits", runs, i+1)
		}
	}
	w.holds()
}

func TestFits(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		g := NewGeometry(2 + r.IntN(40))
		depth := uint8(r.IntN(8))
		items := make([]Item, r.IntN(g.Capacity+20))
		for i := range items {
			items[i].Hash = r.Uint64() >> depth
			if r.IntN(2) == 0 {
				items[i].Hash &= 1<<60 - 1
			}
		}
		slices.SortFunc(items, func(a, b Item) int { return compareHash(a, b.Hash) })
		got, ok := g.Fits(items, depth)
		want, possible := uint8(0), false
		for b := uint8(0); 1<<b <= g.Buckets && !possible; b++ {
			counts := map[int]int{}
			most := 0
			for i := range items {
				n := bucketOf(items[i].Hash, depth, b)
				counts[n]++
				most = max(most, counts[n])
			}
			want, possible = b, most <= g.Threshold
		}
		possible = possible && len(items) <= g.Capacity
		if ok != possible || ok && got != want {
			t.Fatalf("%+v, %d items: %d, %v; want %d, %v", g, len(items), got, ok, want, possible)
		}
	}
}

func TestLowerTag(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 3000 {
		n := r.IntN(200)
		list := make([]uint16, n)
		for i := range list {
			list[i] = uint16(r.Uint32())
			if r.IntN(2) == 0 {
				list[i] %= 300 // far from where the search begins
			}
		}
		slices.Sort(list)
		var tags []byte
		for _, tag := range list {
			tags = binary.LittleEndian.AppendUint16(tags, tag)
		}
		tag := uint16(r.Uint32())
		if n > 0 && r.IntN(2) == 0 {
			tag = list[r.IntN(n)]
		}
		want, _ := slices.BinarySearch(list, tag)
		if got := lowerTag(tags, n, tag); got != want {
			t.Fatalf("tag %d of %v: %d, want %d", tag, list, got, want)
		}
	}
}

func TestGeometry(t *testing.T) {
	for threshold := MinThreshold; threshold <= MaxThreshold; threshold++ {
		g := NewGeometry(threshold)
		if err := g.check(); err != nil || g.Capacity%g.Chunk != 0 || g.Chunk*EntrySize%hdf5io.ExtentUnit != 0 || g.Capacity > mostCapacity || g.Capacity < leastCapacity-g.Chunk {
			t.Fatalf("%d: %+v, %v", threshold, g, err)
		}
	}
	for _, g := range []Geometry{{}, NewGeometry(1), NewGeometry(MaxThreshold + 1), {Threshold: 128, Buckets: 32, Chunk: 128, Capacity: 4096}} {
		if g.check() == nil {
			t.Errorf("%+v passes", g)
		}
	}
}
