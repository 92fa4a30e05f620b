package cidstore_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cidstore/cidstore"
	"github.com/cidstore/cidstore/internal/invariants"
)

func batchOf(first, n int) *cidstore.Batch {
	var b cidstore.Batch
	for i := range n {
		b.Insert(cidstore.FromUint64(uint64(first+i)), cidstore.FromUint64(uint64(i)))
	}
	return &b
}

// TestBatchAtTheLimit: the largest batch that a log takes is a third of it, and
// one operation more is refused before anything is logged.
func TestBatchAtTheLimit(t *testing.T) {
	for _, walBytes := range []int64{64 << 10, 100_000, 1 << 20, 13 << 20} {
		t.Run(fmt.Sprint(walBytes), func(t *testing.T) {
			if (testing.Short() || invariants.Sparse > 1) && walBytes > 1<<20 {
				t.Skip("takes seconds")
			}
			s, path := fresh(t, &cidstore.Options{WALBytes: walBytes})
			lo, hi := 1, 1<<20 // lo fits
			for lo+1 < hi {
				mid := (lo + hi) / 2
				err := s.Apply(batchOf(0, mid))
				switch {
				case err == nil:
					lo = mid
				case errors.Is(err, cidstore.ErrTooLarge):
					hi = mid
				default:
					t.Fatal(err)
				}
			}
			for round := range 8 { // a lap of nothing else
				must(t, s.Apply(batchOf(round*lo, lo)))
			}
			wantErr(t, s.Apply(batchOf(0, lo+1)), cidstore.ErrTooLarge, fmt.Sprintf("%d operations", lo+1))
			const block = 4096 / 40 // records
			if limit := int((walBytes+4095)/4096*block/3) - 2; lo > limit || lo <= limit-block {
				t.Errorf("%d operations fit, want about %d", lo, limit)
			}
			must(t, s.Close())
			s = open(t, path, nil)
			if _, values, err := s.Len(context.Background()); err != nil || values < uint64(8*lo) {
				t.Errorf("%d values, %v", values, err)
			}
			mustBeWhole(t, s)
		})
	}
}

// TestBatchOverTheMemoryBudget: one that is larger than all of the budget gets its
// turn among small ones that never end.
func TestBatchOverTheMemoryBudget(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	for _, budget := range []int64{1, 200, 8 << 10} {
		for _, interval := range []string{"background", "inline"} {
			t.Run(fmt.Sprint(budget, interval), func(t *testing.T) {
				o := &cidstore.Options{WALBytes: 256 << 10, MemoryBudget: budget, SplitThreshold: 8}
				if interval == "inline" {
					o.GCInterval = -1
				}
				s, _ := fresh(t, o)
				var stop atomic.Bool
				var group sync.WaitGroup
				for g := range 3 {
					group.Go(func() {
						for i := 0; !stop.Load(); i++ {
							if err := s.Insert(cidstore.E{High: uint64(g + 1), Low: uint64(i % 100)}, cidstore.FromUint64(uint64(i%7))); err != nil {
								t.Error(err)
								return
							}
						}
					})
				}
				soon(t, "large batches among small ones", func() {
					for round := range 5 {
						must(t, s.Apply(batchOf(round*1000, 1000)))
					}
				})
				stop.Store(true)
				group.Wait()
				mustBeWhole(t, s)
			})
		}
	}
}

// TestWaitersSleep: a write that waits for others' room is woken when there is
// some, and does not ask again and again.
func TestWaitersSleep(t *testing.T) {
	s, _ := fresh(t, &cidstore.Options{WALBytes: 64 << 10, MemoryBudget: 1, Durability: cidstore.Async})
	const writers, each = 12, 80
	var group sync.WaitGroup
	for g := range writers {
		group.Go(func() {
			for i := range each {
				if err := s.Insert(cidstore.E{High: uint64(g), Low: uint64(i)}, cidstore.E{}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	soon(t, "writers who wait for each other", group.Wait)
	if waits := s.Metrics().Waits; waits == 0 || waits > 10*writers*each {
		t.Errorf("%d writes waited %d times", writers*each, waits)
	}
}

// TestReopenedWithLessMemory: an opener takes what the log holds, and says by how
// much that is more than its budget.
func TestReopenedWithLessMemory(t *testing.T) {
	w, path := fresh(t, &cidstore.Options{GCInterval: -1})
	must(t, w.Apply(batchOf(0, 3000)))
	for _, c := range []struct {
		budget int64
		over   bool
	}{{0, false}, {64 << 10, true}} {
		r := open(t, path, &cidstore.Options{ReadOnly: true, MemoryBudget: c.budget})
		if over := r.Recovery().OverBudget; over > 0 != c.over || over > 1<<20 {
			t.Errorf("budget %d: over by %d", c.budget, over)
		}
		if keys, _, err := r.Len(context.Background()); keys != 3000 || err != nil {
			t.Errorf("budget %d: %d keys, %v", c.budget, keys, err)
		}
		must(t, r.Close())
	}
}

func TestBatchTooLarge(t *testing.T) {
	const ring, block = 64 << 10, 4096 / 40 // bytes, and records of a block
	s, _ := fresh(t, &cidstore.Options{WALBytes: ring})
	const most = ring/4096*block/3/block*block - 2 // a third, in whole blocks, without the two records that end it
	var b cidstore.Batch
	for i := range most {
		b.Insert(cidstore.FromUint64(uint64(i)), cidstore.E{})
	}
	must(t, s.Apply(&b))
	for range 10 { // the largest fits every time
		must(t, s.Apply(&b))
	}
	appended := s.Metrics().WAL
	b.Insert(cidstore.FromUint64(1<<40), cidstore.E{})
	wantErr(t, s.Apply(&b), cidstore.ErrTooLarge, fmt.Sprintf("%d operations", b.Len()))
	if after := s.Metrics().WAL; after.Bytes != appended.Bytes {
		t.Errorf("something was logged: %d bytes, then %d", appended.Bytes, after.Bytes)
	}
	if keys, _, err := s.Len(context.Background()); keys != uint64(most) || err != nil {
		t.Errorf("%d keys, %v; want %d", keys, err, most)
	}
}
