package cidstore

import (
	"errors"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cidstore/cidstore/wal"
)

// TestOperationIsALineOfTheCache: opBytes and the speed of lookups count on it.
func TestOperationIsALineOfTheCache(t *testing.T) {
	if size := reflect.TypeFor[op]().Size(); size != 64 {
		t.Errorf("an operation takes %d bytes, want 64", size)
	}
}

// TestSinceIsTheChain: since finds what a walk from operation to operation finds, for
// chains of every length, from each sequence on.
func TestSinceIsTheChain(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	table, keys := newTable(0, true), uint64(4)
	defer table.free()
	for n := range 3 * opsPerBlock {
		key := min(rng.Uint64N(20), keys-1) // most are of the last one
		o := wal.Op{Code: wal.Insert, Key: E{Low: key}, Value: E{Low: rng.Uint64()}}
		if key < 2 && rng.IntN(100) == 0 {
			o.Code = wal.Delete
		}
		table.add(key<<40, wal.Seq(2*n+1), 0, o)
	}
	table.publish(6 * opsPerBlock)
	stations := 0
	for key := range keys {
		newest := table.newest(key<<40, E{Low: key}, everything)
		for k := 0; newest != nil; k++ {
			if k%997 == 0 || newest.previous == 0 {
				var chain []*op
				for o := newest; o != nil; o = table.before(o) {
					if chain = append(chain, o); o.code == wal.Delete {
						break
					}
				}
				if got := int(newest.depth.operations()); got != len(chain) {
					t.Fatalf("key %d: depth %d, want %d", key, got, len(chain))
				}
				for _, n := range []int{1, 2, leg - 1, leg, 3*leg + 5, len(chain) - 1, len(chain)} {
					n = min(max(n, 0), len(chain))
					sequence := chain[len(chain)-1].sequence - 1
					if n < len(chain) {
						sequence = chain[n].sequence
					}
					if got := table.since(nil, newest, sequence); !slices.Equal(got, chain[:n]) {
						t.Fatalf("key %d: %d operations after %d, want %d, in order", key, len(got), sequence, n)
					}
				}
				if got := table.since(nil, newest, 0); !slices.Equal(got, chain) {
					t.Fatalf("key %d: %d operations, want %d, in order", key, len(got), len(chain))
				}
				stations += len(chain) / leg
			}
			newest = table.before(newest)
		}
	}
	if stations == 0 {
		t.Error("no chain has a station")
	}
}

// held returns the memory of a table and of the queue of its checkpoint, in bytes.
func (t *table) held() (bytes int64) {
	for _, h := range append(t.past, t.heads.Load()) {
		bytes += 8 * int64(len(h.slots))
	}
	return bytes + 64*opsPerBlock*int64(len(*t.blocks.Load())) + 16*int64(t.count.Load())
}

// TestMemoryOfOperations: as many operations as the budget allows take no more than the
// budget. Their memory is given back when they are in the tree and no snapshot needs them,
// and by Close.
func TestMemoryOfOperations(t *testing.T) {
	const budget, batch = 8 << 20, 1000
	s := OpenStore(t, filepath.Join(t.TempDir(), "s.h5"), &Options{MemoryBudget: budget, GCInterval: time.Hour})
	n := uint64(0)
	put := func(count int) {
		t.Helper()
		var b Batch
		for ; b.Len() < count; n++ {
			b.Insert(FromUint64(n), FromUint64(^n))
		}
		mustDo(t, s.Apply(&b))
	}
	enough := func() bool {
		s.admission.mu.Lock()
		defer s.admission.mu.Unlock()
		return s.shortOf(claim{batch + 2, batch}) == enough
	}
	s.checkpointing.Lock() // no checkpoint takes a part away
	for enough() {
		put(batch)
	}
	full := s.state.Load().fresh
	t.Logf("%d operations take %d bytes", n, full.held())
	if held := full.held(); held > budget+64*opsPerBlock || held < budget*3/4 {
		t.Errorf("%d operations take %d bytes, the budget is %d", n, held, budget)
	}
	v := mustGet(s.Snapshot())(t)
	s.checkpointing.Unlock()

	mustDo(t, s.Checkpoint(t.Context()))
	if !full.outside {
		t.Error("the memory is given back while a snapshot needs it")
	}
	for k := range n {
		wantIs(t, true, "key of the snapshot", k)(v.Has(FromUint64(k), FromUint64(^k)))
	}
	mustDo(t, v.Close())
	put(1)
	mustDo(t, s.Checkpoint(t.Context()))
	if full.outside || len(s.outlived) > 0 {
		t.Errorf("the memory is still there; %d tables outlived a checkpoint", len(s.outlived))
	}
	put(batch)
	last := s.state.Load().fresh
	mustDo(t, s.Close())
	if last.outside {
		t.Error("the memory is still there after Close")
	}
}

// TestMemoryUnderReaders: loops over pending operations never read memory that was given
// back, even when their snapshot is closed while they go on.
func TestMemoryUnderReaders(t *testing.T) {
	s := OpenStore(t, filepath.Join(t.TempDir(), "s.h5"), &Options{GCInterval: -1})
	for round := range uint64(8) {
		var b Batch
		for k := range uint64(2000) {
			b.Insert(FromUint64(k%500), FromUint64(round<<32|k))
		}
		mustDo(t, s.Apply(&b))
		v := mustGet(s.Snapshot())(t)
		var readers sync.WaitGroup
		for _, read := range []func() error{
			func() error { _, _, err := v.len(t.Context()); return err },
			func() error { return v.eachPending(func(*op) error { return nil }) },
			func() error {
				for range v.All() {
					continue
				}
				return v.ended()
			},
			func() error {
				for _, err := range v.Values(FromUint64(7)) {
					if err != nil {
						return err
					}
				}
				return nil
			},
		} {
			readers.Go(func() {
				for {
					if err := read(); errors.Is(err, ErrClosed) {
						return
					} else if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		time.Sleep(time.Millisecond)
		mustDo(t, v.Close(), s.Checkpoint(t.Context()))
		readers.Wait()
	}
	mustDo(t, s.Close())
}

// TestHeadsGrow: what a table holds is found however its hashes lie, and the parts of it
// that were replaced are given back with it.
func TestHeadsGrow(t *testing.T) {
	for _, low := range []uint64{0, 0xfff << 52} { // of an interrupted checkpoint only the last hashes are left
		a := newTable(0, true)
		const n = 3 * heapFew
		for i := range uint64(n) {
			a.add(low|i*0x9e3779b97f4a7c15>>12, 1, 1, ins(i, i))
		}
		a.publish(1)
		for i := range uint64(n) {
			if o := a.newest(low|i*0x9e3779b97f4a7c15>>12, FromUint64(i), 1); o == nil || o.value != FromUint64(i) {
				t.Fatalf("operation %d is not found", i)
			}
		}
		slots := len(a.heads.Load().slots)
		if load := float64(a.keys) / float64(slots); load <= 0.375 || load > 0.75 {
			t.Errorf("%d keys in %d slots", a.keys, slots)
		}
		a.free()
		if a.outside || a.heads.Load() != nil || a.blocks.Load() != nil {
			t.Error("the table has memory after free")
		}
		a.free() // does nothing
	}
}
