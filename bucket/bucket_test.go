package bucket

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/internal/invariants"
	"github.com/cidstore/cidstore/keys"
)

func TestGeometry(t *testing.T) {
	for threshold, want := range map[int]string{
		128: "", 8: "", 4: "", 12: "", 16: "", 100: "", 17: "", MaxThreshold: "", 2: "", 3: "", 15: "",
		0: "want 2 to", 1: "want 2 to", -1: "want 2 to", MaxThreshold + 1: "want 2 to",
	} {
		err := NewGeometry(threshold).Check()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("threshold %d: %v, want %q", threshold, err, want)
		}
	}
	for threshold := MinThreshold; threshold <= 1024; threshold++ {
		g := NewGeometry(threshold)
		if g.chunkBytes()%alignment != 0 || g.Chunk < min(threshold, MaxChunk) || g.Chunk > MaxChunk || g.Chunk >= threshold+4 || g.columns() < uint64(g.Chunk) {
			t.Errorf("threshold %d: chunks of %d entries", threshold, g.Chunk)
		}
	}
	if (Geometry{128, 8}).Check() == nil {
		t.Error("a chunk of 8 for a threshold of 128 passed")
	}
}

func TestEmptyBucketHasNothing(t *testing.T) {
	w := newWorld(t, 8)
	w.wants(0, nil)
	w.verify()
}

// A bucket takes the tail form and the row form in turn; both read the same.
func TestTailAndRowReadTheSame(t *testing.T) {
	for _, threshold := range []int{2, 3, 5, 8, 15, 16, 20, 128} {
		t.Run(fmt.Sprint(threshold), func(t *testing.T) {
			w := newWorld(t, threshold)
			all := w.items(threshold)
			w.change(func(writer *Writer) { must(t, writer.Rewrite(0, 0, 0, 1, all[:threshold-2], 0, false)) })
			w.wants(0, all[:threshold-2])
			w.update(0, all[threshold-2:]...)
			s, err := w.table.State(0)
			must(t, err)
			if wantTail := threshold > MaxChunk; (s.TailCount == 2) != wantTail || int(s.EntryCount) != threshold {
				t.Fatalf("state %+v, want %d keys, two of them in a tail: %t", s, threshold, wantTail)
			}
			w.wants(0, all)
			w.verify()
			w.change(func(writer *Writer) { must(t, writer.Fold(0)) })
			if s, err = w.table.State(0); err != nil || s.TailCount != 0 || int(s.SortedCount) != threshold {
				t.Fatalf("folded: %+v, %v", s, err)
			}
			w.wants(0, all)
			w.verify()
		})
	}
}

func TestDeletesLeaveRowAndTail(t *testing.T) {
	w := newWorld(t, 64)
	all := w.items(40)
	w.change(func(writer *Writer) { must(t, writer.Rewrite(0, 0, 0, 1, all, 0, false)) })
	gone := all[7]
	w.update(0, w.item(gone.Key.Low, 0), w.item(1000, 0)) // the second is not there
	s, err := w.table.State(0)
	must(t, err)
	if s.TailCount != 1 || s.EntryCount != 39 {
		t.Fatalf("state %+v, want one deletion in the tail", s)
	}
	rest := slices.Delete(slices.Clone(all), 7, 8)
	w.wants(0, rest)
	if _, found, err := w.table.Find(0, gone.Hash, gone.Key); found || err != nil {
		t.Fatalf("deleted key: %t, %v", found, err)
	}
	w.update(0, w.item(gone.Key.Low, 2)) // again, and its version goes on
	e, found, err := w.table.Find(0, gone.Hash, gone.Key)
	if !found || err != nil || e.Count() != 2 || e.Version() != 2 {
		t.Fatalf("%v, %t, %v", e, found, err)
	}
	w.verify()
	w.update(0, w.item(1001, 1))
	w.update(0, w.item(1001, 0)) // never in the row: nothing of it is left
	if s, err = w.table.State(0); err != nil || s.TailCount != 1 {
		t.Fatalf("tail of %d, %v, want 1", s.TailCount, err)
	}
	before := s
	w.update(0, w.item(1002, 0))
	if s, err = w.table.State(0); err != nil || s != before {
		t.Fatalf("a delete without effect changed the state: %+v, %v", s, err)
	}
	w.verify()
}

func TestFullBucketIsRefusedAndSplit(t *testing.T) {
	w := newWorld(t, 8)
	all := w.items(30)
	w.update(0, all[:6]...)
	w.change(func(writer *Writer) {
		over, err := writer.Update(0, all[6:])
		if err != nil || !slices.EqualFunc(over, all, same) {
			t.Fatalf("over: %v, %v", over, err)
		}
		next := uint32(1)
		var split func(id uint32, prefix uint64, depth uint8, items []Item)
		split = func(id uint32, prefix uint64, depth uint8, items []Item) {
			if len(items) <= 8 {
				w.heads[id] = true
				must(t, writer.Rewrite(id, prefix, depth, 2, items, 0, false))
				return
			}
			left, right := Split(items, depth)
			other := next
			next++
			split(id, prefix, depth+1, left)
			split(other, prefix|1<<63>>depth, depth+1, right)
		}
		split(0, 0, 0, over)
		w.rows = uint64(next)
	})
	var joined []Item
	for id := range w.heads {
		items, err := w.table.Items(nil, id)
		must(t, err)
		w.wants(id, items)
		joined = append(joined, items...)
	}
	if !slices.EqualFunc(sorted(joined), all, same) {
		t.Fatalf("the parts have %v, want %v", joined, all)
	}
	w.verify()
	w.change(func(writer *Writer) { must(t, writer.Release(1)) })
	delete(w.heads, 1)
	if _, err := w.table.State(1); !errors.Is(err, corrupt.Err) {
		t.Fatalf("a released bucket: %v", err)
	}
	w.verify()
}

func TestOverflowChain(t *testing.T) {
	w := newWorld(t, 8)
	all := w.items(20)
	write := func(writer *Writer, items []Item) {
		must(t, writer.Rewrite(0, 0, 0, 1, items[:8], 1, false))
		must(t, writer.Rewrite(1, 0, 0, 2, items[8:16], 2, true))
		must(t, writer.Rewrite(2, 0, 0, 2, items[16:], 0, true))
	}
	w.rows = 3
	w.change(func(writer *Writer) { write(writer, all) })
	w.wants(0, all)
	w.verify()
	if _, _, err := w.table.Find(1, all[9].Hash, all[9].Key); !errors.Is(err, corrupt.Err) {
		t.Fatalf("an overflow row as a bucket: %v", err)
	}
	changed := append(slices.Clone(all[:3]), all[4:]...)
	w.change(func(writer *Writer) {
		over, err := writer.Update(0, []Item{w.item(all[3].Key.Low, 0)})
		if err != nil || !slices.EqualFunc(over, changed, same) {
			t.Fatalf("over: %v, %v", over, err)
		}
		write(writer, over)
	})
	w.wants(0, changed)
	w.verify()
	for _, circle := range [][3]uint32{{1, 2, 1}, {1, 2, 2}, {1, 2, 0}} {
		w.change(func(writer *Writer) {
			for id, next := range circle {
				must(t, writer.Rewrite(uint32(id), 0, 0, 1, all[id*4:id*4+4], next, id > 0))
			}
		})
		_, err := w.table.Items(nil, 0)
		_, found, findErr := w.table.Find(0, w.hasher.Hash(keys.E{}), keys.E{})
		if want := circle[2] != 0; errors.Is(err, corrupt.Err) != want || errors.Is(findErr, corrupt.Err) != want || found {
			t.Fatalf("chain %v: %v, %v", circle, err, findErr)
		}
	}
}

func TestSplitPartsJoin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		depth := uint8(rapid.IntRange(0, 63).Draw(t, "depth"))
		prefix := rapid.Uint64().Draw(t, "prefix") & prefixMask(depth)
		hashes := rapid.SliceOfN(rapid.Uint64(), 0, 40).Draw(t, "hashes")
		items := make([]Item, len(hashes))
		for i, h := range hashes {
			items[i] = Item{Hash: prefix | h&^prefixMask(depth), Key: keys.FromUint64(uint64(i))}
		}
		items = sorted(items)
		left, right := Split(items, depth)
		if !slices.Equal(append(slices.Clone(left), right...), items) {
			t.Fatalf("%v and %v are not %v", left, right, items)
		}
		for i := range left {
			if left[i].Hash&(1<<63>>depth) != 0 {
				t.Fatalf("left has hash %#x, bit %d", left[i].Hash, depth)
			}
		}
		for i := range right {
			if right[i].Hash&(1<<63>>depth) == 0 {
				t.Fatalf("right has hash %#x, bit %d", right[i].Hash, depth)
			}
		}
	})
}

// Any sequence of updates, folds and reopens is a map of items.
func TestUpdatesEqualModel(t *testing.T) {
	for _, threshold := range []int{2, 5, 8, 24, 128} {
		t.Run(fmt.Sprint(threshold), rapid.MakeCheck(func(rt *rapid.T) {
			w := newWorld(t, threshold)
			model := map[uint64]Item{}
			for range rapid.IntRange(1, 12).Draw(rt, "steps") {
				switch rapid.IntRange(0, 9).Draw(rt, "what") {
				case 0:
					w.change(func(writer *Writer) { must(t, writer.Fold(0)) })
				case 1:
					w.reopen()
				default:
					w.step(rt, model)
				}
				w.wants(0, sorted(slices.Collect(maps.Values(model))))
			}
			w.verify()
			w.close()
		}))
	}
}

// step makes one update, drawn by rt, of bucket 0 and of the model.
func (w *world) step(rt *rapid.T, model map[uint64]Item) {
	most := rapid.SampledFrom([]int{1, 4, w.g.Threshold}).Draw(rt, "most")
	numbers := rapid.SliceOfNDistinct(rapid.Uint64Range(1, uint64(w.g.Threshold)*5/4+2), 1, most, rapid.ID[uint64]).Draw(rt, "keys")
	changes := make([]Item, len(numbers))
	next := maps.Clone(model)
	for i, n := range numbers {
		it := w.item(n, rapid.IntRange(0, 5).Draw(rt, "values"))
		changes[i] = it
		if delete(next, n); !it.Deleted {
			next[n] = it
		}
	}
	full := false
	w.change(func(writer *Writer) {
		over, err := writer.Update(0, sorted(changes))
		must(w.t, err)
		if full = over != nil; full != (len(next) > w.g.Threshold) {
			w.t.Fatalf("refused: %t, with %d keys", full, len(next))
		}
		if full && !slices.EqualFunc(over, sorted(slices.Collect(maps.Values(next))), same) {
			w.t.Fatalf("over: %v", over)
		}
	})
	if !full {
		clear(model)
		maps.Copy(model, next)
	}
}

func TestWriterRefuses(t *testing.T) {
	w := newWorld(t, 8)
	tx, err := w.file.Begin()
	must(t, err)
	defer tx.Abort()
	writer, err := NewWriter(tx, w.table, 0)
	must(t, err)
	must(t, writer.Rewrite(0, 0, 0, 1, w.items(3), 0, false))
	_, err = writer.Update(0, nil)
	for name, err := range map[string]error{
		"update after rewrite": err,
		"second rewrite":       writer.Rewrite(0, 0, 0, 1, nil, 0, false),
		"fold after rewrite":   writer.Fold(0),
		"release":              writer.Release(0),
		"too many items":       writer.Rewrite(1, 0, 0, 1, w.items(9), 0, false),
		"fewer buckets":        writer.Flush(0),
	} {
		if err == nil || errors.Is(err, corrupt.Err) {
			t.Errorf("%s: %v, want an error of the caller's", name, err)
		}
	}
	if _, err := writer.Update(9, nil); !errors.Is(err, corrupt.Err) {
		t.Errorf("bucket 9 of 1: %v", err)
	}
	must(t, writer.Rewrite(3, 0, 0, 1, nil, 0, false))
	if writer.Flush(3) == nil {
		t.Error("bucket 3 was flushed as one of 3 buckets")
	}
}

func TestInvariantBuildsRefuseDisorder(t *testing.T) {
	if !invariants.Enabled {
		t.Skip("only in builds with invariants")
	}
	w := newWorld(t, 8)
	items := w.items(2)
	defer func() {
		if recover() == nil {
			t.Error("descending items passed")
		}
	}()
	mustAscend([]Item{items[1], items[0]}, &State{})
}

func TestHashOutsidePrefixIsCorrupt(t *testing.T) {
	w := newWorld(t, 8)
	w.change(func(writer *Writer) { must(t, writer.Rewrite(0, 0, 1, 1, nil, 0, false)) })
	if _, found, err := w.table.Find(0, 1<<63, keys.E{}); found || !errors.Is(err, corrupt.Err) {
		t.Errorf("%t, %v", found, err)
	}
	for _, id := range []uint32{1, 1 << 31, ^uint32(0)} {
		if _, found, err := w.table.Find(id, 0, keys.E{}); found || !errors.Is(err, corrupt.Err) {
			t.Errorf("bucket %d: %t, %v", id, found, err)
		}
	}
}

func TestFindAllocatesNothing(t *testing.T) {
	if invariants.Enabled {
		t.Skip("the race detector allocates")
	}
	w := newWorld(t, 128)
	all := w.items(100)
	w.change(func(writer *Writer) { must(t, writer.Rewrite(0, 0, 0, 1, all[:90], 0, false)) })
	w.update(0, all[90:]...)
	n := 0
	var values []keys.E
	got := testing.AllocsPerRun(1000, func() {
		it := &all[n%len(all)]
		n++
		e, found, err := w.table.Find(0, it.Hash, it.Key)
		if err != nil || !found || e.Count() != int(it.Count) {
			t.Fatalf("%v, %t, %v", e, found, err)
		}
		values = e.AppendValues(values[:0])
	})
	if got != 0 {
		t.Errorf("%v allocations a lookup", got)
	}
}
