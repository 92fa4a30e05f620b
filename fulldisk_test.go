package cidstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/internal/invariants"
	"github.com/cidstore/cidstore/vfs"
	"github.com/cidstore/cidstore/wal"
)

// fullSets fills a disk with keys of many values, and deletes them again. The pairs are
// numbered: pair i belongs to key keyOf(i), and several keys are filled at the same time,
// value by value.
type fullSets struct {
	t      *testing.T
	disk   *crashfs.FS
	log    int64
	store  *Store
	lives  byte
	values int // of a key
	open   int // keys that are filled at the same time
	step   int // pairs or keys of a batch
	pairs  int // that were inserted
	gone   int // of them, the first ones that were deleted
	before int // pairs that there were at the last delete
}

func (f *fullSets) life() {
	f.t.Helper()
	f.lives++
	s, err := Open(crashPath, &Options{FS: f.disk, GCInterval: -1, WALBytes: f.log, Rand: rand.NewChaCha8([32]byte{f.lives})})
	if err != nil {
		f.t.Fatalf("Open, %d pairs, %d of them deleted: %v", f.pairs, f.gone, err)
	}
	if err := s.Failed(); err != nil {
		f.t.Fatalf("Open, %d pairs, %d of them deleted: %v", f.pairs, f.gone, err)
	}
	f.store = s
}

// kill ends a life as kill -9 does, and begins the next.
func (f *fullSets) kill() {
	f.t.Helper()
	f.store.file.Close()
	f.store.vfile.Close()
	f.life()
}

// reopen ends a life with Close, which may leave operations to the log, and begins the next.
func (f *fullSets) reopen() {
	f.t.Helper()
	if err := f.store.Close(); err != nil && !errors.Is(err, ErrNoSpace) {
		f.t.Fatalf("Close, %d pairs, %d of them deleted: %v", f.pairs, f.gone, err)
	}
	f.life()
}

func (f *fullSets) keyOf(pair int) int { return pair/(f.values*f.open)*f.open + pair%f.open }

func scattered(n int) E {
	return E{High: uint64(n+1) * 0x9e3779b97f4a7c15, Low: uint64(n+1) * 0xd1342543de82ef95}
}

func (f *fullSets) pair(i int) (key, value E) { return scattered(f.keyOf(i)), scattered(i) }

// fill inserts until the disk is full. Then all that was logged must be in the tree, and enough
// space must be left for a life to begin.
func (f *fullSets) fill() {
	f.t.Helper()
	for {
		var b Batch
		for i := range f.step {
			b.Insert(f.pair(f.pairs + i))
		}
		err := f.store.Apply(&b)
		if errors.Is(err, ErrNoSpace) {
			space, least := f.store.file.Space(), f.store.leastFree()
			if n := f.store.pendingOps(); n > 0 || space.Free+space.Fragments < least {
				f.t.Errorf("%d operations are not in the tree, %+v, want %d bytes free", n, space, least)
			}
			return
		}
		mustDo(f.t, err)
		f.pairs += f.step
	}
}

// deleteTo deletes pairs, in order, up to number end, each as a value, or all values of a
// key at once when its first pair is deleted.
func (f *fullSets) deleteTo(end int, whole bool) {
	f.t.Helper()
	for f.gone < end {
		var b Batch
		n := f.gone
		for ; b.Len() < f.step && n < f.pairs; n++ {
			switch k, v := f.pair(n); {
			case !whole:
				b.DeleteValue(k, v)
			case n%(f.values*f.open) < f.open:
				b.Delete(k)
			}
		}
		if err := f.store.Apply(&b); err != nil {
			f.t.Fatalf("delete %d of %d pairs: %v", f.gone, f.pairs, err)
		}
		f.gone, f.before = n, f.pairs
	}
}

// left is how many pairs there are, if whole keys were deleted or single values.
func (f *fullSets) left(whole bool) (n int) {
	if !whole {
		return f.pairs - f.gone
	}
	last := -1
	if f.gone > 0 {
		block := (f.gone - 1) / (f.values * f.open)
		last = block*f.open + min((f.gone-1)%(f.values*f.open), f.open-1)
	}
	for i := range f.pairs {
		if f.keyOf(i) > last || i >= f.before {
			n++
		}
	}
	return n
}

func (f *fullSets) holds(whole bool) {
	f.t.Helper()
	_, pairs, err := f.store.Len(f.t.Context())
	if want := f.left(whole); err != nil || pairs != uint64(want) {
		f.t.Errorf("%d pairs, %v; want %d of %d", pairs, err, want, f.pairs)
	}
}

// TestSetsOnAFullDisk fills disks with keys of one to 100,000 values, deletes all of them,
// as keys or value by value, and fills the disk again. Lives end in between, by Close and by
// kills. Whatever the log holds then, the store can be opened for writing.
func TestSetsOnAFullDisk(t *testing.T) {
	for _, c := range []struct {
		disk         int64 // MiB
		values, open int
		step         int // pairs or keys a batch
		long         bool
		keys         bool // deleted as keys alone, not value by value
	}{
		{4, 1, 1000, 100, false, false},
		{4, 5, 1000, 100, false, false},
		{4, 64, 1000, 100, false, false},
		{4, 1000, 100, 100, true, false},
		{4, 100000, 1, 100, true, false},
		{4, 64, 1000, 1, true, false},
		{8, 1, 20000, 1000, true, false},
		{8, 5, 20000, 1000, true, false},
		{8, 64, 2000, 1000, true, false},
		{8, 1000, 300, 1000, true, false},
		{8, 100000, 3, 1000, true, false},
		{16, 5, 50000, 1000, true, true},
		{16, 64, 10000, 1000, true, false},
		{16, 1000, 1000, 1000, true, false},
		{16, 100000, 7, 1000, true, true},
		{48, 64, 30000, 1000, true, true},
		{48, 1000, 3000, 1000, true, true},
		{48, 100000, 20, 1000, true, true},
	} {
		for _, whole := range []bool{true, false} {
			if c.keys && !whole {
				continue
			}
			t.Run(fmt.Sprintf("%d MiB, %d values, by %d, keys %t", c.disk, c.values, c.step, whole), func(t *testing.T) {
				if c.long && shortCampaign() || invariants.Sparse > 1 && c.values != 64 || !whole && c.values < 64 && shortCampaign() {
					t.Skip("takes long")
				}
				t.Parallel()
				f := &fullSets{t: t, disk: crashfs.New(crashfs.Options{FileLimit: 64 << 20}), log: c.disk << 17,
					values: c.values, open: c.open, step: c.step}
				f.disk.SetCapacity(c.disk << 20)
				f.run(whole)
			})
		}
	}
}

func (f *fullSets) run(whole bool) {
	t := f.t
	f.life()
	f.fill()
	f.kill()
	f.holds(whole)
	f.fill()
	for range 12 {
		f.deleteTo(min(f.gone+1, f.pairs), whole)
		f.reopen()
	}
	f.deleteTo(f.pairs/2, whole)
	f.kill()
	f.holds(whole)
	f.deleteTo(f.pairs, whole)
	f.holds(whole)
	f.reopen()
	mustDo(t, f.store.Maintain(t.Context()))
	first := f.pairs
	f.fill()
	if again := f.pairs - first; again < first/4 {
		t.Errorf("%d pairs after the deletes, want a quarter of %d", again, first)
	}
	f.reopen()
	f.holds(whole)
	if report, err := f.store.Check(t.Context()); err != nil || len(report.Defects) > 0 {
		t.Errorf("%v: %+v", err, report)
	}
	mustDo(t, f.store.Close())
	t.Logf("%d pairs, and %d after the deletes", first, f.pairs-first)
}

// recoveredOnAFullDisk is recovered, except that Close may leave the rest to the log. Open may
// not be refused.
func (c *scenario) recoveredOnAFullDisk(disk vfs.FS, ack, issue int) error {
	err := c.recovered(disk, ack, issue, false)
	if errors.Is(err, ErrNoSpace) && !strings.HasPrefix(err.Error(), "open ") {
		return nil
	}
	return err
}

// TestCrashSetsOnAFullDisk cuts the power while a checkpoint puts values into sets ahead of
// itself: what it has put there is in the log too.
func TestCrashSetsOnAFullDisk(t *testing.T) {
	seed, told := crashSeed(t), &recorder{least: slog.LevelDebug}
	c := newScenario(t, seed, func(o *Options) {
		mediumOptions(o)
		o.Logger = slog.New(told)
	})
	trace := c.fs.Record()
	c.open()
	c.fs.SetCapacity(use(t, c.fs) + 768<<10)
	batch := func(inserts, deletes int) bool {
		var ops []wal.Op
		for range inserts {
			ops = append(ops, ins(c.random.Uint64N(6), c.random.Uint64N(1<<14)))
		}
		for range deletes {
			ops = append(ops, delv(c.random.Uint64N(6), c.random.Uint64N(1<<14)))
		}
		written, err := c.tryFull(ops...)
		mustDo(t, err)
		return written
	}
	for batch(100, 0) {
	}
	from := trace.Len()
	for i := range 40 {
		batch(10*(i%4), 100)
		if i%4 == 0 {
			mustDo(t, c.goAheadEverywhere())
		}
	}
	mustDo(t, c.same())
	c.abandon()
	trace.Stop()
	_, events, _ := told.take()
	if !slices.Contains(events, "values ahead") {
		t.Error("no values went ahead")
	}
	if !slices.Contains(events, "gc") {
		t.Error("no tombstones were dropped")
	}
	images := c.recoverImages(trace, crashfs.Plan{Seed: seed, From: from, PerCut: 2}, 4)
	t.Logf("%d images, %d batches", images, len(c.batches))
	if images == 0 {
		t.Fatal("no image was looked at")
	}
}

// recoverImages opens what crashes leave on the full disk, in a short campaign at one call in
// each, and returns how many images it has opened.
func (c *scenario) recoverImages(trace *crashfs.Trace, plan crashfs.Plan, each int) (images int) {
	c.t.Helper()
	each *= invariants.Sparse
	if !shortCampaign() {
		each = 1
	}
	for image := range trace.Enumerate(plan).Images() {
		if image.Cut%each != 0 {
			continue
		}
		images++
		ack, issue := window(image.Marks)
		if err := c.recoveredOnAFullDisk(image.FS(), ack, min(max(ack, issue), len(c.batches))); err != nil {
			c.t.Fatalf("%v: %v", image, err)
		}
	}
	return images
}

// tear ends a life as kill -9 does, after a batch of which a record rots that may be in the page
// cache alone. It returns the sequence of that record: what the log is torn at.
func (f *fullSets) tear() uint64 {
	f.t.Helper()
	torn, r := f.store.log.Next()+1, f.store.state.Load().view.record
	mustDo(f.t, f.store.Apply(&Batch{ops: []wal.Op{del(1 << 20), del(1 << 20), del(1 << 20)}}))
	f.store.file.Close()
	f.store.vfile.Close()
	file, err := f.disk.OpenFile(crashPath, vfs.ReadWrite, 0)
	mustDo(f.t, err)
	mustDo(f.t, file.WriteAt([]byte{0xff}, logPlace(&r, torn)+wal.RecordSize-1))
	mustDo(f.t, file.Close())
	return uint64(torn)
}

// TestLivesOfAFullLog: rows are full, and an insert into each of them, acknowledged while the
// disk had room, needs more than is left. Lives that only add a little to the log follow each
// other all the same: the log is written again as one.
func TestLivesOfAFullLog(t *testing.T) {
	f := &fullSets{t: t, disk: crashfs.New(crashfs.Options{FileLimit: 64 << 20}), log: 1 << 20, values: 768, open: 60, step: 768}
	f.life()
	model, again := contents{}, 0
	apply := func(ops ...wal.Op) error {
		err := f.store.Apply(&Batch{ops: ops})
		if err == nil {
			model.apply(ops)
		}
		return err
	}
	for k := range uint64(400) {
		var ops []wal.Op
		for v := range uint64(768) {
			ops = append(ops, ins(k, v))
		}
		mustDo(t, apply(ops...))
	}
	f.reopen()
	var ops []wal.Op
	for k := range uint64(400) {
		ops = append(ops, ins(k, 1000))
	}
	mustDo(t, apply(ops...))
	f.disk.SetCapacity(use(t, f.disk))
	for i := range uint64(24) {
		if err := apply(delv(i%4, i)); err != nil {
			t.Fatalf("life %d: %v", i, err)
		}
		torn, epochs := f.tear(), len(f.store.state.Load().view.record.epochs)
		f.life()
		r := f.store.Recovery()
		if r.TornAt != torn || r.TornRecords == 0 {
			t.Errorf("life %d: %+v, want a log torn at %d", i, r, torn)
		}
		if len(f.store.state.Load().view.record.epochs) < epochs {
			again++
			if r.RewrittenFrames < 7 {
				t.Errorf("life %d: %+v, want those of seven lives written again", i, r)
			}
		}
	}
	mustHold(t, f.store, model)
	stuck := f.store.pendingOps()
	f.disk.SetCapacity(32 << 20)
	f.reopen()
	mustHold(t, f.store, model)
	mustDo(t, f.store.Close())
	t.Logf("%d operations found no room in the tree, the log was written again %d times", stuck, again)
	if stuck < 10 || again == 0 {
		t.Error("there was room for the operations, or the log was never written again")
	}
}

// TestCrashLogWrittenAgain cuts the power while an Open writes the log again, because the
// tree has no room for it and the root none for one more epoch.
func TestCrashLogWrittenAgain(t *testing.T) {
	seed := crashSeed(t)
	c := newScenario(t, seed, mediumOptions)
	trace := c.fs.Record()
	c.open()
	for k := range uint64(200) {
		var ops []wal.Op
		for v := range uint64(192) {
			ops = append(ops, ins(k, v))
		}
		c.apply(ops...)
	}
	c.close()
	c.open()
	var ops []wal.Op
	for k := range uint64(200) {
		ops = append(ops, ins(k, 1000))
	}
	c.apply(ops...)
	c.fs.SetCapacity(use(t, c.fs))
	from, again := 0, 0
	for i := range uint64(9) {
		c.apply(delv(i, i))
		c.kill()
		if i == 5 {
			from = trace.Len()
		}
		c.open()
		if n := len(c.store.state.Load().view.record.epochs); n < 3 {
			again++
		}
	}
	mustDo(t, c.same())
	c.abandon()
	trace.Stop()
	images := c.recoverImages(trace, crashfs.Plan{Seed: seed, From: from, PerCut: 3}, 16)
	t.Logf("%d images, the log was written again %d times", images, again)
	if images == 0 || again == 0 {
		t.Fatal("no image was looked at, or the log was not written again")
	}
}

// logOnly logs a batch as Apply does beside a checkpoint in the background.
func (c *scenario) logOnly(ops []wal.Op) {
	c.t.Helper()
	c.batches = append(c.batches, ops)
	c.model.apply(ops)
	c.prints = append(c.prints, c.model.print())
	c.fs.Mark(issued(len(c.batches) - 1))
	_, err := c.store.append(ops)
	mustDo(c.t, err)
	c.fs.Mark(acked(len(c.batches) - 1))
}

// oneSlice ends a checkpoint after its first slice that is not the last one of its table.
func (c *scenario) oneSlice() error {
	slices := 0
	err := c.store.exclusively(func() error {
		return c.store.checkpointPaced(c.t.Context(), func(context.Context) error {
			if slices++; slices > 1 && c.store.state.Load().view.record.sliceThrough != 0 {
				return context.Canceled
			}
			return nil
		})
	})
	if !errors.Is(err, context.Canceled) || c.store.state.Load().view.record.sliceThrough == 0 {
		return fmt.Errorf("a checkpoint was not stopped between two slices: %w", err)
	}
	return nil
}

// TestCrashFrozenWrittenAgain: the root has room for only one more epoch, so Open checkpoints,
// and a full disk stops that between two slices or before the first. The log has no room for
// copies of all operations. So Open writes those of the two newest epochs again as one or, if
// these are too long, only those that may be in the page cache alone. They are a part of what
// was to be checkpointed, and have another place in the log then.
func TestCrashFrozenWrittenAgain(t *testing.T) {
	for _, last := range []uint64{700, 955} {
		if last == 955 && invariants.Sparse > 1 {
			continue
		}
		stopped := 0
		for _, room := range []int64{0, 128 << 10} {
			if frozenWrittenAgain(t, crashSeed(t), room, last) {
				stopped++
			}
		}
		if stopped == 0 {
			t.Errorf("%d operations at the end: no full disk stopped a checkpoint between two slices", last)
		}
	}
}

// fillRows gives each of so many keys a set of 768 values, and returns inserts of others.
func fillRows(c *scenario, keys, others uint64) (more []wal.Op) {
	for k := range keys {
		var ops []wal.Op
		for v := range uint64(768) {
			ops = append(ops, ins(k, v))
		}
		c.apply(ops...)
		for v := range others {
			more = append(more, ins(k, 1000+v))
		}
	}
	return more
}

// frozenWrittenAgain is TestCrashFrozenWrittenAgain with room bytes free on the disk and last
// operations in the last life. It reports whether the checkpoint was stopped between two slices.
func frozenWrittenAgain(t *testing.T, seed uint64, room int64, last uint64) (stopped bool) {
	c := newScenario(t, seed, func(o *Options) { mediumOptions(o); o.sliceBytes = 4 << 10 })
	trace := c.fs.Record()
	c.open()
	more := fillRows(c, 120, 2)
	c.close()
	c.open()
	c.apply(more...)
	before := c.store.state.Load().view.record.numValues
	c.fs.SetCapacity(use(t, c.fs) + room)
	from := 0
	for _, n := range []uint64{60, 60, 60, 60, 60, 60, last} { // the last one takes a part of the log that no copy of all fits into
		var ops []wal.Op
		for i := range n {
			ops = append(ops, ins(uint64(len(c.batches))<<10+i, 0))
		}
		c.logOnly(ops)
		c.kill()
		from = trace.Len()
		c.open()
	}
	r := c.store.state.Load().view.record
	again := c.store.Recovery().RewrittenFrames
	t.Logf("room %d, %d operations at the end: %d epochs, %d batches written again", room, last, len(r.epochs), again)
	if len(r.epochs) < maxEpochs && again < 2 { // there was room for the checkpoint
		c.abandon()
		trace.Stop()
		return false
	}
	if lateOnly := len(r.epochs) == maxEpochs; lateOnly != (last > 900) {
		t.Errorf("%d operations at the end: %d epochs, %d batches written again", last, len(r.epochs), again)
	}
	mustDo(t, c.same())
	c.fs.SetCapacity(32 << 20)
	mustDo(t, c.oneSlice())
	c.kill()
	trace.Stop()
	c.open()
	mustDo(t, c.same())
	c.close()
	each := 64 * invariants.Sparse
	if !shortCampaign() {
		each = 1
	}
	for image := range trace.Enumerate(crashfs.Plan{Seed: seed, From: from, PerCut: 3}).Images() {
		if image.Cut%each != 0 {
			continue
		}
		ack, issue := window(image.Marks)
		if err := c.recoveredOnAFullDisk(image.FS(), ack, min(max(ack, issue), len(c.batches))); err != nil {
			t.Fatalf("%v: %v", image, err)
		}
	}
	return r.numValues > before
}

// TestLivesUntilTheLogIsFull: operations that a full disk has no room for take more than half of
// the log. Lives of one delete each follow, until the log has no room for another. After that
// the store still opens, and reads all there is. When the disk has room again, a new life takes
// writes.
func TestLivesUntilTheLogIsFull(t *testing.T) {
	c := newScenario(t, crashSeed(t), mediumOptions)
	c.open()
	more := fillRows(c, 100, 16)
	c.close()
	c.open()
	c.apply(more[:100]...) // the log gets its size
	c.fs.SetCapacity(use(t, c.fs))
	c.logOnly(more[100:850])
	c.logOnly(more[850:])
	lives, most := uint64(0), 0
	for written := true; written && lives < 100; lives++ {
		c.kill()
		c.open()
		most = max(most, len(c.store.state.Load().view.record.epochs))
		if c.store.Failed() != nil {
			break
		}
		var err error
		written, err = c.tryFull(delv(lives, lives))
		mustDo(t, err)
	}
	refused := 0
	for range 10 {
		c.kill()
		c.open()
		mustDo(t, c.same())
		err := c.store.Delete(FromUint64(1 << 40))
		if !errors.Is(err, ErrNoSpace) {
			t.Fatalf("a delete where the log has no room: %v", err)
		}
		if errors.Is(err, ErrPoisoned) {
			refused++
			if err := c.store.Close(); !errors.Is(err, ErrNoSpace) {
				t.Errorf("Close: %v", err)
			}
			c.open()
		}
	}
	t.Logf("%d lives, up to %d epochs, %d of 10 more had no room for one", lives, most, refused)
	if lives < 2*maxEpochs || lives == 100 {
		t.Errorf("%d lives, want more than %d until the log is full", lives, 2*maxEpochs)
	}
	if report, err := c.store.Check(t.Context()); err != nil || len(report.Defects) > 0 {
		t.Errorf("%v: %+v", err, report)
	}
	c.fs.SetCapacity(32 << 20)
	c.kill()
	c.open()
	c.apply(ins(1, 5000))
	mustDo(t, c.same())
	c.close()
}

// halve fills a disk with large sets, and deletes every other value.
func (f *fullSets) halve() (deleted int, dead uint64) {
	f.t.Helper()
	f.disk.SetCapacity(2 << 20)
	f.life()
	f.fill()
	var b Batch
	for i := 0; i < f.pairs; i += 2 {
		b.DeleteValue(f.pair(i))
		if deleted++; b.Len() == f.step {
			mustDo(f.t, f.store.Apply(&b))
			b.Reset()
		}
	}
	mustDo(f.t, f.store.Apply(&b), f.store.Checkpoint(f.t.Context()))
	return deleted, f.store.Metrics().Tombstones
}

// others inserts pairs of other keys until the disk is full.
func (f *fullSets) others() (n int) {
	f.t.Helper()
	for {
		var b Batch
		for i := range f.step {
			b.Insert(scattered(f.pairs+(n+i)/50), scattered(n+i))
		}
		err := f.store.Apply(&b)
		if errors.Is(err, ErrNoSpace) {
			return n
		}
		mustDo(f.t, err)
		n += f.step
	}
}

// TestErasedBeforeARefusal: on a full disk half of the values of large sets are deleted. Their
// tombstones are collected before an insert is refused, so there is room for others.
func TestErasedBeforeARefusal(t *testing.T) {
	if invariants.Sparse > 1 {
		t.Skip("one goroutine, for seconds")
	}
	for _, values := range []int{20000, 1500} { // half of 1,500 is a row, not a tree
		t.Run(fmt.Sprint(values), func(t *testing.T) { erasedBeforeARefusal(t, values) })
	}
}

func erasedBeforeARefusal(t *testing.T, values int) {
	f := &fullSets{t: t, disk: crashfs.New(crashfs.Options{FileLimit: 64 << 20}), log: 256 << 10, values: values, open: 3, step: 100}
	deleted, dead := f.halve()
	more := f.others()
	m := f.store.Metrics()
	t.Logf("%d pairs, %d of them deleted, %d tombstones, %d more pairs; then %d tombstones, %+v", f.pairs, deleted, dead, more, m.Tombstones, m.Garbage)
	if dead < uint64(deleted)/2 || more < deleted*2/5 || m.Tombstones > dead/8 {
		t.Errorf("%d pairs after the deletes, want two fifths of %d; %d of %d tombstones are left", more, deleted, m.Tombstones, dead)
	}
	if _, pairs, err := f.store.Len(t.Context()); err != nil || pairs != uint64(f.pairs-deleted+more) {
		t.Errorf("%d pairs, %v; want %d", pairs, err, f.pairs-deleted+more)
	}
	if report, err := f.store.Check(t.Context()); err != nil || len(report.Defects) > 0 {
		t.Errorf("%v: %+v", err, report)
	}
	f.reopen()
	mustDo(t, f.store.Close())
}

// TestEraseThatEndedEarly: tombstones that an erase did not come to are dropped by the next.
func TestEraseThatEndedEarly(t *testing.T) {
	s := OpenStore(t, crashPath, smallOptions(crashfs.New(crashfs.Options{FileLimit: 8 << 20})))
	for k := range uint64(3) {
		for v := range uint64(40) {
			mustDo(t, s.Insert(FromUint64(k), FromUint64(v)))
		}
		mustDo(t, s.DeleteValue(FromUint64(k), FromUint64(7)))
	}
	mustDo(t, s.Checkpoint(t.Context()))
	ended, end := context.WithCancel(t.Context())
	end()
	for _, c := range []struct {
		ctx   context.Context
		freed bool
	}{{ended, false}, {t.Context(), true}, {t.Context(), false}} {
		if freed, err := s.erase(c.ctx); err != nil || freed != c.freed {
			t.Errorf("tombstones were dropped: %t, %v; want %t; %d are left", freed, err, c.freed, s.Metrics().Tombstones)
		}
	}
}

// TestErasePastDamage: a set with a damaged node stays as it is, and the tombstones of the
// others are collected before an insert is refused.
func TestErasePastDamage(t *testing.T) {
	if invariants.Sparse > 1 {
		t.Skip("one goroutine, for seconds")
	}
	Unchecked(t, crashPath, "a node of a set is damaged")
	f := &fullSets{t: t, disk: crashfs.New(crashfs.Options{FileLimit: 64 << 20}), log: 256 << 10, values: 20000, open: 3, step: 100}
	_, dead := f.halve()
	nodes, err := f.store.state.Load().view.Dataset("/values/nodes")
	mustDo(t, err)
	at := int64(0)
	mustDo(t, nodes.Walk(nil, func(c hdf5io.Chunk) (bool, error) { at = int64(c.Address); return true, nil }))
	flipOn(t, f.disk, crashPath, at+100, 0xff)
	f.kill()
	more := f.others()
	m := f.store.Metrics()
	t.Logf("%d tombstones, %d more pairs; then %d tombstones, %+v", dead, more, m.Tombstones, m.Garbage)
	if m.Tombstones < dead/4 || m.Tombstones > dead/2 || m.Garbage.Compacted != 2 || more == 0 {
		t.Errorf("%d of %d tombstones are left, and %d pairs more, after %+v; want those of one set of three", m.Tombstones, dead, more, m.Garbage)
	}
	f.kill()
	f.store.file.Close()
	f.store.vfile.Close()
}
