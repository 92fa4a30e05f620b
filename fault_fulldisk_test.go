package cidstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"

	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/internal/invariants"
	"github.com/cidstore/cidstore/wal"
)

// mediumOptions are large enough for a disk to be full in the way of a real one: a
// slice of a checkpoint is many rows, and the reserve of slices more than the
// fragments between them.
func mediumOptions(o *Options) {
	o.SplitThreshold, o.blockBytes = 16, 512
	o.startBytes, o.WALBytes = 128<<10, 128<<10
	o.growBytes, o.sliceBytes, o.quarantine = 64<<10, 256<<10, 0
}

// Batches that a disk has no room for are refused before they are logged: tryFull
// takes them back out of the model. It reports whether the batch was written.
func (c *scenario) tryFull(ops ...wal.Op) (written bool, err error) {
	err = c.try(ops...)
	if !errors.Is(err, ErrNoSpace) {
		return err == nil, err
	}
	if c.store.Failed() != nil {
		return false, fmt.Errorf("a full disk poisoned the store: %w", err)
	}
	n := len(c.batches) - 1
	c.batches, c.prints = c.batches[:n], c.prints[:n+1]
	c.fs.Mark(issued(n - 1))
	c.rebuild()
	return false, nil
}

// rebuild makes the model again from the batches.
func (c *scenario) rebuild() {
	c.model = contents{}
	for _, ops := range c.batches {
		c.model.apply(ops)
	}
}

func (c *scenario) same() error {
	p, err := printOf(c.store)
	if err == nil && p != c.model.print() {
		err = fmt.Errorf("%d pairs, want %d", p.pairs, c.model.print().pairs)
	}
	return err
}

// fill inserts until the disk is full, or as many batches as most.
func (c *scenario) fill(most int) (full bool, err error) {
	for i := range most {
		var ops []wal.Op
		for range 15 {
			ops = append(ops, ins(c.random.Uint64N(20000), uint64(i)), ins(1, c.random.Uint64()))
		}
		written, err := c.tryFull(ops...)
		if err != nil {
			return false, err
		}
		if !written {
			return true, nil
		}
	}
	return false, nil
}

// use is the space that the file system's files take, bytes.
func use(t *testing.T, disk *crashfs.FS) int64 {
	t.Helper()
	info, err := disk.Stat(crashPath)
	mustDo(t, err)
	return info.Allocated
}

// TestFaultDiskFull fills disks of many sizes. A full disk refuses inserts and
// nothing else: reads, snapshots, deletes, checkpoints, Close and Open go on, and
// so do inserts once there is room, from deletes or on the disk.
func TestFaultDiskFull(t *testing.T) {
	seed := crashSeed(t)
	empty := newScenario(t, seed, mediumOptions)
	empty.open()
	start := use(t, empty.fs)
	empty.close()
	step := int64(40 << 10)
	if shortCampaign() {
		step *= 10 * invariants.Sparse
	}
	sizes, fulls, roomless := 0, 0, 0
	for size := start - (64 << 10); size < start+(1<<20)+(200<<10); size += step {
		for variant := range 3 {
			stop := watchdog(fmt.Sprintf("disk of %d bytes, variant %d: the run", size, variant), hangLimit)
			full, closed, err := fullDisk(t, seed+uint64(size), size, variant)
			stop()
			if err != nil {
				t.Fatalf("disk of %d bytes, an empty store takes %d, variant %d: %v", size, start, variant, err)
			}
			sizes++
			if full {
				fulls++
			}
			if !closed {
				roomless++
			}
		}
	}
	t.Logf("%d runs, %d met a full disk, in %d of them Close left the rest to the log", sizes, fulls, roomless)
	if fulls == 0 {
		t.Fatal("no disk was full")
	}
}

// fullDisk runs one store on a disk of a size. closed: the checkpoint of Close found
// room.
func fullDisk(t *testing.T, seed uint64, size int64, variant int) (full, closed bool, err error) {
	c := newScenario(t, seed, mediumOptions)
	c.fs.SetCapacity(size)
	c.store, err = Open(crashPath, c.options(c.fs))
	if errors.Is(err, ErrNoSpace) {
		return true, true, c.emptyAfterFailedOpen()
	}
	if err != nil {
		return false, false, err
	}
	defer c.abandon()
	full, err = c.fill(1000)
	if err != nil || !full {
		return full, true, err
	}
	if err := c.same(); err != nil {
		return true, false, fmt.Errorf("full: %w", err)
	}
	switch variant {
	case 0: // deletes make room
		err = c.deletesMakeRoom()
	case 1: // somebody else makes room
		c.fs.SetCapacity(size + (512 << 10))
		err = c.writesResume()
	case 2: // the process ends, and the next finds the disk as full
		c.kill()
		if c.store, err = Open(crashPath, c.options(c.fs)); err != nil {
			return true, false, fmt.Errorf("open after a kill: %w", err)
		}
		if err = c.same(); err == nil {
			_, err = c.stateOf(c.store, c.acked, len(c.batches))
		}
	}
	if err != nil {
		return true, false, err
	}
	s := c.store
	c.store = nil
	err = s.Close()
	closed = err == nil
	if err != nil && !errors.Is(err, ErrNoSpace) {
		return true, false, fmt.Errorf("close: %w", err)
	}
	if c.store, err = Open(crashPath, c.options(c.fs)); err != nil {
		return true, closed, fmt.Errorf("open on the full disk: %w", err)
	}
	_, err = c.stateOf(c.store, len(c.batches), len(c.batches))
	return true, closed, err
}

// emptyAfterFailedOpen: a disk too small for a store has no half of one.
func (c *scenario) emptyAfterFailedOpen() error {
	c.fs.SetCapacity(0)
	return c.recovered(c.fs, 0, 0, true)
}

// deletesMakeRoom deletes everything, a few keys at a time, on the full disk, and
// then expects room again, unless the disk has little more than the reserve: rows
// keep deleted entries for a while, and the deletion log grows.
func (c *scenario) deletesMakeRoom() error {
	much := len(c.batches) > 150
	keys := make([]E, 0, len(c.model))
	for k := range c.model {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, E.Compare)
	for i := 0; i < len(keys); i += 10 {
		var ops []wal.Op
		for _, k := range keys[i:min(i+10, len(keys))] {
			ops = append(ops, wal.Op{Code: wal.Delete, Key: k})
		}
		if written, err := c.tryFull(ops...); err != nil || !written {
			return fmt.Errorf("delete %d of %d keys: written %v, %w", i, len(keys), written, err)
		}
	}
	if err := c.store.Checkpoint(context.Background()); err != nil {
		return fmt.Errorf("checkpoint of deletes: %w", err)
	}
	if !much {
		return c.same()
	}
	return c.writesResume()
}

// writesResume expects room for some batches.
func (c *scenario) writesResume() error {
	full, err := c.fill(5)
	if err == nil && full {
		err = errors.New("no room, after there was some")
	}
	if err == nil {
		err = c.same()
	}
	return err
}

// TestCrashFullDisk cuts the power while the disk is full, at any moment of a store
// that goes on with deletes and checkpoints: recovery needs no free space.
func TestCrashFullDisk(t *testing.T) {
	seed, most := crashSeed(t), 2500
	if shortCampaign() {
		most = 250
	}
	images, refused := 0, 0
	told := &recorder{least: slog.LevelDebug}
	for at := 5; at < 45; at += 5 {
		c := newScenario(t, seed+uint64(at), func(o *Options) {
			mediumOptions(o)
			o.Logger = slog.New(told)
		})
		trace := c.fs.Record()
		c.open()
		from := 0
		for i := range 90 {
			if i == at {
				c.fs.SetCapacity(use(t, c.fs))
				from = trace.Len()
			}
			var ops []wal.Op
			for range 20 {
				ops = append(ops, ins(c.random.Uint64N(400), c.random.Uint64N(5)))
			}
			if i%3 == 2 {
				ops = []wal.Op{del(uint64(i)), delv(uint64(2*i), 1), del(c.random.Uint64N(400))}
			}
			written, err := c.tryFull(ops...)
			mustDo(t, err)
			if !written {
				refused++
			}
			if i%5 == 4 {
				if err := c.store.Checkpoint(context.Background()); err != nil && !errors.Is(err, ErrNoSpace) {
					t.Fatal(err)
				}
			}
		}
		c.abandon()
		trace.Stop()
		plan := crashfs.Plan{Seed: seed, From: from, PerCut: max(1, most/4/(trace.Len()-from))}
		for image := range trace.Enumerate(plan).Images() {
			if images++; shortCampaign() && image.Cut%(8*invariants.Sparse) != 0 {
				continue
			}
			ack, issue := window(image.Marks)
			if err := c.recovered(image.FS(), ack, min(max(ack, issue), len(c.batches)), false); err != nil && !errors.Is(err, ErrNoSpace) {
				t.Fatalf("full from batch %d: %v: %v", at, image, err)
			}
		}
	}
	_, events, _ := told.take()
	trimmed := len(slices.DeleteFunc(events, func(name string) bool { return name != "run trimmed" }))
	t.Logf("%d images, %d batches refused, %d runs trimmed", images, refused, trimmed)
	if images == 0 || trimmed == 0 {
		t.Fatal("no image was looked at, or no run trimmed")
	}
}

// TestFaultRingFull fills a ring whose records are all in the tree, but not past the
// older slot: the wait for room ends in room, or in the error of the disk.
func TestFaultRingFull(t *testing.T) {
	seed := crashSeed(t)
	for name, test := range map[string]func(t *testing.T, seed uint64){
		"room": ringHasRoom, "many writers": ringOfManyWriters, "disk full": ringOnAFullDisk, "sync fails": ringWhoseSyncFails,
	} {
		t.Run(name, func(t *testing.T) {
			defer watchdog(t.Name(), hangLimit)()
			test(t, seed)
		})
	}
}

// third is as many inserts as a batch may have.
func (c *scenario) third(keys uint64) (ops []wal.Op) {
	for range wal.Records(64*512, 512)/3 - wal.Records(512, 512) {
		ops = append(ops, ins(c.random.Uint64N(keys), c.random.Uint64N(4)))
	}
	return ops
}

// fullRing is a scenario whose log is full of what the tree has.
func fullRing(t *testing.T, seed uint64) *scenario {
	t.Helper()
	c := newScenario(t, seed, noQuarantine)
	c.open()
	mustDo(t, c.try(c.third(50)...), c.try(c.third(50)...), c.store.Checkpoint(context.Background()))
	if n := c.store.pendingOps(); n != 0 {
		t.Fatalf("%d operations wait, want none", n)
	}
	return c
}

func ringHasRoom(t *testing.T, seed uint64) {
	c := fullRing(t, seed)
	for range 20 {
		mustDo(t, c.try(c.third(50)...), c.store.Checkpoint(context.Background()))
	}
	// After a large checkpoint both slots are written; after a small one the older
	// slot holds on to a part of the log.
	mustDo(t, c.try(ins(1, 1)), c.store.Checkpoint(context.Background()), c.same())
	block, ring, room := wal.Records(512, 512), wal.Records(64*512, 512), c.store.log.Room()
	mustDo(t, c.store.makeRoom(claim{records: room + block}))
	if now := c.store.log.Room(); now < room+block {
		t.Fatalf("room for %d records, want %d", now, room+block)
	}
	wantErr(t, c.store.makeRoom(claim{records: ring + block}), ErrNoSpace, "room for more than a ring")
	c.close()
}

func ringOfManyWriters(t *testing.T, seed uint64) {
	c := newScenario(t, seed, func(o *Options) { noQuarantine(o); o.GCInterval = 0 })
	c.open()
	var batches []*Batch
	for range 40 {
		batches = append(batches, &Batch{ops: c.third(50)})
		c.model.apply(batches[len(batches)-1].ops) // inserts alone: any order will do
	}
	var group failures
	for w := range 4 {
		group.Go(func() error {
			for i := w; i < len(batches); i += 4 {
				if err := c.store.Apply(batches[i]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	mustDo(t, group.Wait(), c.same())
	if c.store.Metrics().Waits == 0 {
		t.Error("no write had to wait: the ring was never full")
	}
	c.close()
}

func ringOnAFullDisk(t *testing.T, seed uint64) {
	c := fullRing(t, seed)
	c.fs.SetCapacity(1) // settling needs no space
	full := false
	for range 200 {
		written, err := c.tryFull(c.third(5000)...)
		mustDo(t, err)
		if full = !written; full {
			break
		}
	}
	mustDo(t, c.same())
	if !full {
		t.Error("the disk was never full")
	}
	c.close()
}

func ringWhoseSyncFails(t *testing.T, seed uint64) {
	failed := 0
	for skip := range 12 {
		c := fullRing(t, seed)
		c.fs.FailSync(crashfs.FailLost, skip, 1)
		var err error
		for i := 0; i < 3 && err == nil; i++ {
			err = c.try(c.third(50)...)
		}
		if err != nil {
			failed++
			if !errors.Is(err, ErrPoisoned) || !errors.Is(err, crashfs.ErrSync) {
				t.Fatalf("sync %d: %v", skip, err)
			}
		}
		c.abandon()
		c.fs.FailSync(0, 0, 0)
		if err := c.recovered(c.fs, c.acked, len(c.batches), true); err != nil {
			t.Fatalf("sync %d: %v", skip, err)
		}
	}
	if failed == 0 {
		t.Error("no sync failed")
	}
}

// failures runs goroutines and keeps their errors.
type failures struct {
	sync.WaitGroup
	mu   sync.Mutex
	errs []error
}

func (g *failures) Go(f func() error) {
	g.WaitGroup.Go(func() {
		if err := f(); err != nil {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.errs = append(g.errs, err)
		}
	})
}

func (g *failures) Wait() error {
	g.WaitGroup.Wait()
	return errors.Join(g.errs...)
}
