package cidstore

import (
	"context"
	"math"
	"time"

	"github.com/cidstore/cidstore/directory"
	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/wal"
)

// What the campaigns of crash_test.go run, and how its options differ from the small ones.

// buckets5 makes buckets of up to five entries, which split often.
func buckets5(o *Options) { o.SplitThreshold = 5 }

// noQuarantine uses freed space again as soon as no slot and no reader reaches it.
func noQuarantine(o *Options) { o.quarantine = -1 }

// squeezed is noQuarantine with a Close that moves what lies at the end of the file.
func squeezed(o *Options) { o.quarantine, o.againBytes = -1, 1 }

// growingRing starts with a log of a sixteenth of WALBytes.
func growingRing(o *Options) { o.startBytes, o.WALBytes = 16*512, 256*512 }

// volatile makes writes durable at Sync, and now and then by themselves.
func volatile(o *Options) { o.Durability, o.FlushInterval = Async, 40*time.Microsecond }

// smallForms is noQuarantine with a directory that takes every form.
func smallForms(o *Options) {
	o.quarantine = -1
	o.directory = directory.Limits{Attribute: 2, Dataset: 8, Shard: 8}
}

// workloads, each of a kind of its own.
var crashWorkloads = []struct {
	name string
	tune func(*Options)
	run  func(c *scenario)
}{
	{"create", nil, func(c *scenario) {
		c.open()
		c.apply(ins(1, 1))
		c.close()
	}},
	{"uniform", nil, func(c *scenario) {
		c.open()
		for range 60 {
			var ops []wal.Op
			for range 1 + c.random.IntN(8) {
				ops = append(ops, ins(c.random.Uint64N(400), c.random.Uint64N(3)))
			}
			c.apply(ops...)
		}
		c.close()
	}},
	{"buckets of 5", buckets5, func(c *scenario) {
		c.open()
		for i := range uint64(50) {
			var ops []wal.Op
			for range 1 + c.random.IntN(8) {
				ops = append(ops, ins(c.random.Uint64N(300), c.random.Uint64N(7)))
			}
			if i%3 == 2 {
				ops = append(ops, del(c.random.Uint64N(300)), delv(i, 1), ins(7, i))
			}
			c.apply(ops...)
		}
		c.close()
	}},
	{"hot key", squeezed, func(c *scenario) {
		c.open()
		for i := range uint64(50) {
			ops := []wal.Op{ins(7, i*3), ins(7, i*3+1), ins(8+i%3, i)}
			if i%4 == 3 {
				ops = append(ops, delv(7, i), ins(7, i+1000))
			}
			c.apply(ops...)
		}
		c.close()
	}},
	{"deletes", noQuarantine, func(c *scenario) {
		c.open()
		for i := range uint64(70) {
			var ops []wal.Op
			for range 1 + c.random.IntN(6) {
				k, v := c.random.Uint64N(40), c.random.Uint64N(9)
				switch c.random.IntN(5) {
				case 0:
					ops = append(ops, del(k))
				case 1:
					ops = append(ops, delv(k, v))
				default:
					ops = append(ops, ins(k, v))
				}
			}
			c.apply(ops...)
			if i%23 == 22 {
				mustDo(c.t, c.store.Checkpoint(context.Background()))
			}
		}
		c.close()
	}},
	{"reopen", squeezed, func(c *scenario) {
		for i := range uint64(9) {
			c.open()
			for j := range uint64(5) {
				c.apply(ins(i, j), ins(100+i*5+j, j), delv(i, j-1))
			}
			if i%3 == 2 {
				c.close()
			} else { // the process is killed: nothing is written, the locks go
				c.kill()
			}
		}
	}},
	{"snapshots", noQuarantine, func(c *scenario) {
		c.open()
		readers := heldReaders{c: c}
		for i := range uint64(40) {
			c.apply(ins(c.random.Uint64N(100), i), ins(c.random.Uint64N(100), i), delv(c.random.Uint64N(100), i-9))
			if i%3 == 2 {
				mustDo(c.t, c.store.Checkpoint(context.Background()))
			}
			readers.step(int(i))
		}
		readers.close()
		c.close()
	}},
	{"ring growth", growingRing, func(c *scenario) {
		c.open()
		for i := range uint64(70) {
			var ops []wal.Op
			for range 1 + c.random.IntN(20) {
				ops = append(ops, ins(c.random.Uint64N(200), c.random.Uint64N(4)), delv(c.random.Uint64N(200), 1))
			}
			if i == 30 { // more than a third of the ring: it grows for this batch
				for k := range uint64(400) {
					ops = append(ops, ins(k, 9))
				}
			}
			c.apply(ops...)
		}
		if size := c.store.Metrics().WALBytes; size < uint64(wal.Bytes(3*400, 512)) {
			c.t.Fatalf("the log has %d bytes, want at least %d: it did not grow", size, wal.Bytes(3*400, 512))
		}
		c.close()
	}},
	{"small log", growingRing, func(c *scenario) {
		small, start := uint64(closedBlocks*512), uint64(16*512)
		for life, writes := range []int{5, 0, 1, 4, 2, -1, 5, 3} {
			c.open()
			log := func(when string, least, most uint64) {
				c.t.Helper()
				if size := c.store.Metrics().WALBytes; size < least || size > most {
					c.t.Fatalf("life %d, %s: the log has %d bytes, want %d to %d", life, when, size, least, most)
				}
			}
			if life > 0 && life != 5 { // the one before was closed
				log("opened", small, small)
			}
			if writes < 0 { // more than the small log takes at all
				var ops []wal.Op
				for k := range uint64(100) {
					ops = append(ops, ins(k, 9), delv(k+1, 8))
				}
				c.apply(ops...)
			}
			for j := range uint64(max(writes, 0)) {
				c.apply(ins(uint64(life), j), ins(c.random.Uint64N(60), j), delv(c.random.Uint64N(60), 9))
			}
			if writes == 1 {
				log("after one write", small, small)
			}
			if writes > 3 || writes < 0 {
				log("after writes", start, 256*512)
			}
			if life == 4 || life == 7 { // killed: in the small log, and just after it has grown
				c.kill()
			} else {
				c.close()
			}
		}
		c.open()
		c.close()
	}},
	{"async", volatile, func(c *scenario) {
		c.open()
		for i := range uint64(60) {
			c.accept(ins(i%50, i), ins(c.random.Uint64N(300), i), delv(i-5, i-5))
			if i%9 == 8 {
				mustDo(c.t, c.store.Sync())
				c.fs.Mark(acked(len(c.batches) - 1))
			}
		}
		c.close()
		c.fs.Mark(acked(len(c.batches) - 1))
	}},
	{"collection", noQuarantine, func(c *scenario) {
		c.open()
		for i := range uint64(40) {
			k := FromUint64(i % 5)
			ops := []wal.Op{ins(i%7, i), ins(i%5, 100+i), ins(i%5, 200+i), delv(i%5, 195+i), delv(i%7, i-21)}
			switch i % 6 {
			case 2:
				ops = append(ops, wal.Op{Code: wal.CompactSet, Key: k})
			case 4:
				ops = append(ops, wal.Op{Code: wal.DemoteSet, Key: k}, del((i+3)%5))
			}
			c.apply(ops...)
			if i%8 == 7 {
				c.do(func() error { _, err := c.store.RunGCOnce(context.Background()); return err })
			}
			if i%13 == 12 {
				c.do(func() error { return c.store.Maintain(context.Background()) })
			}
		}
		if m := c.store.Metrics(); m.CompactionEvents == 0 || m.DemotionEvents == 0 || m.GCRuns == 0 {
			c.t.Fatalf("%d compactions, %d demotions, %d collections: want some of each", m.CompactionEvents, m.DemotionEvents, m.GCRuns)
		}
		c.close()
	}},
	{"runs", squeezed, func(c *scenario) {
		c.open()
		for part := range uint64(4) {
			c.spread(part*300, 1, 1)
		}
		c.do(func() error { return c.store.Maintain(context.Background()) })
		c.spread(0, 7, 2)
		c.spread(3, 7, 2)
		if !c.store.runsBlock() {
			c.t.Fatal("Shrink has no runs to fold")
		}
		c.do(func() error { return c.store.Shrink(context.Background()) })
		if c.store.state.Load().view.buckets.Runs() > 0 {
			c.t.Fatal("Shrink has folded no runs")
		}
		c.halfDeadRun(3)
		c.close()
	}},
	{"merges", smallForms, func(c *scenario) {
		c.open()
		forms := map[DirectoryMode]bool{}
		for i := range uint64(4) {
			for part := range uint64(3) {
				var ops []wal.Op
				for k := range uint64(100) {
					ops = append(ops, ins(part*100+k, i))
				}
				c.apply(ops...)
			}
			c.do(func() error { return c.store.Checkpoint(context.Background()) })
			forms[c.store.DirectoryMode()] = true
			for part := range uint64(3) {
				var ops []wal.Op
				for k := range uint64(100) {
					if k%(4+i*5) != 0 {
						ops = append(ops, del(part*100+k))
					}
				}
				c.apply(ops...)
			}
			c.do(func() error { return c.store.Maintain(context.Background()) })
			forms[c.store.DirectoryMode()] = true
			if i%2 == 1 {
				c.do(func() error { return c.store.Shrink(context.Background()) })
				c.apply(ins(7, i), delv(7, i-1))
			}
		}
		r := c.store.state.Load().view.record
		if len(forms) != 3 || r.unusedGroups == 0 || c.store.Metrics().MergeEvents == 0 {
			c.t.Fatalf("forms %v, %d groups unused, %d merges: want all three, and some", forms, r.unusedGroups, c.store.Metrics().MergeEvents)
		}
		c.close()
	}},
}

// spread gives 300 of 1,000 keys a value, from one on, each step keys further, and
// checkpoints.
func (c *scenario) spread(from, step, value uint64) {
	c.t.Helper()
	for range 3 {
		var ops []wal.Op
		for range 100 {
			ops = append(ops, ins(from%1000, value))
			from += step
		}
		c.apply(ops...)
	}
	c.do(func() error { return c.store.Checkpoint(context.Background()) })
}

// halfDeadRun leaves a run that Close trims, and returns its number.
func (c *scenario) halfDeadRun(value uint64) hdf5io.Commit {
	c.t.Helper()
	for from := range uint64(11) {
		c.spread(from, 11, value)
		if number, ok := c.store.state.Load().view.buckets.Trimmable(math.MaxInt64); ok && from > 1 {
			return number
		}
	}
	c.t.Fatal("Close has no run to trim")
	return 0
}

// heldReaders are snapshots, and a second opener that reads only, which stay for a
// while, and must not change in that time.
type heldReaders struct {
	c         *scenario
	snapshots []*Snapshot
	prints    []print // of the snapshots
	other     *Store
	otherHas  print
}

func (h *heldReaders) step(i int) {
	t, c := h.c.t, h.c
	t.Helper()
	if i%7 == 0 {
		h.snapshots, h.prints = append(h.snapshots, mustGet(c.store.Snapshot())(t)), append(h.prints, c.model.print())
	}
	h.check()
	if len(h.snapshots) > 2 {
		mustDo(t, h.snapshots[0].Close())
		h.snapshots, h.prints = h.snapshots[1:], h.prints[1:]
	}
	switch {
	case i == 3:
		h.other, h.otherHas = mustGet(Open(crashPath, readOnly(c.options(c.fs))))(t), c.model.print()
	case i > 3 && i%10 == 3:
		mustDo(t, h.other.Refresh())
		h.otherHas = c.model.print()
	}
}

// check reads everything that is held once more.
func (h *heldReaders) check() {
	t := h.c.t
	t.Helper()
	for i, v := range h.snapshots {
		wantIs(t, h.prints[i], "a snapshot")(printOfSnapshot(v))
	}
	if h.other != nil {
		wantIs(t, h.otherHas, "a reader of another process")(printOf(h.other))
	}
}

func (h *heldReaders) close() {
	h.c.t.Helper()
	h.check()
	mustDo(h.c.t, h.other.Close())
}
