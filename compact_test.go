package cidstore

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/wal"
)

// gappy writes a store of everything that compact moves, and leaves alone, over and
// over, so that its file has gaps: inline values, rows of sets, tombstones, deletions.
func (c *scenario) gappy() {
	c.t.Helper()
	for i := range uint64(150) {
		c.accept(ins(i, i), ins(2+i%40, i), ins(2+i%7, i), delv(2+i%40, i-40), ins(1000+i, 1), ins(1000+i, 2), del(900+i))
		if i%10 == 9 {
			mustDo(c.t, c.store.Checkpoint(context.Background()))
		}
	}
}

// gaps are the usable bytes before the end of what is live, and the live bytes.
func (c *scenario) gaps() (gaps, live int64) {
	c.t.Helper()
	gaps, _, err := c.store.file.Gaps()
	mustDo(c.t, err)
	return gaps, c.store.liveBytes()
}

// eachPacking runs test for a store that Close writes again as a whole, and one of
// which it moves the end.
func eachPacking(t *testing.T, test func(t *testing.T, tune func(*Options))) {
	t.Run("all", func(t *testing.T) { test(t, nil) })
	t.Run("end", func(t *testing.T) { test(t, func(o *Options) { o.againBytes = 1 }) })
}

// TestCloseFillsGaps: what was written is the same after Close has written it again,
// and the file has few gaps then.
func TestCloseFillsGaps(t *testing.T) { eachPacking(t, closeFillsGaps) }

func closeFillsGaps(t *testing.T, tune func(*Options)) {
	c := newScenario(t, 1, tune)
	c.open()
	c.gappy()
	c.store.checkpointing.Lock()
	err := c.store.freeReplaced()
	c.store.checkpointing.Unlock()
	mustDo(t, err)
	if gaps, live := c.gaps(); gaps < max(32<<10, live/2) {
		t.Fatalf("%d bytes of gaps in %d live bytes before Close: nothing to fill", gaps, live)
	}
	before := use(t, c.fs)
	c.close()
	after := use(t, c.fs)
	c.open()
	mustDo(t, errOf(c.stateOf(c.store, len(c.batches), len(c.batches))))
	gaps, live := c.gaps()
	t.Logf("%d bytes before, %d after, %d live, %d of gaps", before, after, live, gaps)
	if gaps > live/2+32<<10 || after > 2*live+64<<10 {
		t.Errorf("%d bytes with %d of gaps, %d are live", after, gaps, live)
	}
	c.close()
}

// TestCloseMovesTrees is TestCloseFillsGaps with a set of more values than a row takes.
func TestCloseMovesTrees(t *testing.T) { eachPacking(t, closeMovesTrees) }

func closeMovesTrees(t *testing.T, tune func(*Options)) {
	c := newScenario(t, 1, tune)
	c.open()
	var ops []wal.Op
	for i := range uint64(6000) {
		if ops = append(ops, ins(1, i), delv(1, i/2)); len(ops) == 100 {
			c.accept(ops...)
			ops = nil
		}
		if i%1000 == 999 {
			mustDo(t, c.store.Checkpoint(context.Background()))
		}
	}
	before := use(t, c.fs)
	c.close()
	c.open()
	mustDo(t, errOf(c.stateOf(c.store, len(c.batches), len(c.batches))))
	gaps, live := c.gaps()
	if after := use(t, c.fs); after > before || gaps > live/2+32<<10 {
		t.Errorf("%d bytes before, %d after, %d live, %d of gaps", before, after, live, gaps)
	}
	c.close()
}

// TestCloseOnAFullDisk: where the file cannot grow it is written again in its gaps, or not.
func TestCloseOnAFullDisk(t *testing.T) { eachPacking(t, closeOnAFullDisk) }

func closeOnAFullDisk(t *testing.T, tune func(*Options)) {
	for _, room := range []int64{0, 20 << 10, 60 << 10} {
		c := newScenario(t, 1, tune)
		c.open()
		c.gappy()
		before := use(t, c.fs)
		c.fs.SetCapacity(before + room)
		c.close()
		if after := use(t, c.fs); after > before {
			t.Errorf("room for %d bytes: %d bytes, were %d", room, after, before)
		}
		c.open()
		mustAt(t, errOf(c.stateOf(c.store, len(c.batches), len(c.batches))), "room for", room, "bytes")
		wantIs(t, true, "a delete, with room for", room)(c.tryFull(del(5)))
		c.close()
	}
}

// TestCloseOfADamagedStore: what cannot be read is not written again, and that does not
// make Close fail.
func TestCloseOfADamagedStore(t *testing.T) { eachPacking(t, closeOfADamagedStore) }

func closeOfADamagedStore(t *testing.T, tune func(*Options)) {
	c := newScenario(t, 1, tune)
	Unchecked(t, crashPath, "a row is damaged")
	c.open()
	c.gappy()
	mustDo(t, c.store.Checkpoint(context.Background()))
	v := c.store.state.Load().view
	run := v.directory.Run(0)
	st := mustGet(v.buckets.State(run.Pointer.Bucket))(t)
	mustDo(t, rot(c.fs, int64(st.RowAddress)&^511, 1024, 3))
	c.close()
	c.open()
	if report, err := c.store.Check(context.Background()); err == nil || len(report.Defects) == 0 {
		t.Errorf("the damage is gone: %v", err)
	}
	mustDo(t, c.store.Close())
}

// TestCloseTrimsRuns: Close leaves no run of which half no longer counts, except one that is
// damaged, which stops nothing.
func TestCloseTrimsRuns(t *testing.T) {
	for _, damaged := range []bool{false, true} {
		c := newScenario(t, 1, squeezed)
		c.open()
		for part := range uint64(4) {
			c.spread(part*300, 1, 1)
		}
		number := c.halfDeadRun(2)
		if damaged {
			offset, size := mustGet(c.store.state.Load().view.Dataset(fmt.Sprint("/runs/entries_", number)))(t).Extent()
			mustDo(t, rot(c.fs, offset+size-512, 512, 3))
			Unchecked(t, crashPath, "a run is damaged")
		}
		c.close()
		c.open()
		if _, ok := c.store.state.Load().view.buckets.Trimmable(math.MaxInt64); ok != damaged {
			t.Errorf("damaged %t: a run can be trimmed after Close: %t", damaged, ok)
		}
		if report, err := c.store.Check(t.Context()); (err != nil) != damaged {
			t.Errorf("damaged %t: %v, %v", damaged, err, report.Defects)
		}
		if !damaged {
			mustDo(t, c.same())
		}
		c.close()
	}
}

// TestReopenedOnAFullDisk: a store whose disk was filled by others after Close opens, reads,
// takes deletes, and closes.
func TestReopenedOnAFullDisk(t *testing.T) {
	for _, n := range []int{1, 100, 20_000} {
		disk := crashfs.New(crashfs.Options{FileLimit: 64 << 20})
		open := func() *Store {
			return OpenStore(t, crashPath, &Options{FS: disk, GCInterval: -1, Rand: rand.NewChaCha8([32]byte{7})})
		}
		key := func(i int) E { return FromUint64(uint64(i) * 0x9e3779b97f4a7c15) }
		s := open()
		var b Batch
		for i := range n {
			b.Insert(key(i), E{})
		}
		mustDo(t, s.Apply(&b), s.Close())
		disk.SetCapacity(mustGet(disk.Stat(crashPath))(t).Allocated)
		deleted := 0
		for life := range 3 {
			s = open()
			for range min(n/4, 50) {
				b.Reset()
				b.Delete(key(deleted))
				if err := s.Apply(&b); err != nil {
					t.Errorf("%d keys, life %d, delete %d: %v", n, life, deleted, err)
					break
				}
				deleted++
			}
			if keys, _, err := s.Len(t.Context()); keys != uint64(n-deleted) || err != nil {
				t.Errorf("%d keys, %v, want %d", keys, err, n-deleted)
			}
			wantErr(t, s.Close(), nil, n, "keys, life", life, "Close")
		}
	}
}

// TestShortLifeLeavesGaps: Close after a few writes to a store full of gaps is quick: it
// moves nothing. After many it does.
func TestShortLifeLeavesGaps(t *testing.T) {
	var left [2]int64
	for i, written := range []uint64{100, 1 << 30} {
		c := newScenario(t, 1, func(o *Options) { o.againBytes = 1 })
		c.open()
		c.gappy()
		c.store.metrics.placedBytes.Store(written) // by this life
		c.close()
		c.open()
		mustDo(t, errOf(c.stateOf(c.store, len(c.batches), len(c.batches))))
		left[i], _ = c.gaps()
		c.close()
	}
	if left[0] <= left[1]+16<<10 {
		t.Errorf("a short life leaves %d bytes of gaps, a long one %d", left[0], left[1])
	}
}
