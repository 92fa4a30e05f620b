package cidstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cidstore/cidstore/bucket"
	"github.com/cidstore/cidstore/directory"
	"github.com/cidstore/cidstore/gc"
	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/internal/errfs"
	"github.com/cidstore/cidstore/vfs"
	"github.com/cidstore/cidstore/wal"
)

// everyForm is a scenario, open, with groups, runs, sets that are rows and a tree, a deletion
// log, a directory of datasets, and batches in the log.
func everyForm(t *testing.T, tune func(*Options)) *scenario {
	t.Helper()
	c := newScenario(t, 11, func(o *Options) {
		o.WALBytes, o.ScrubRate, o.sliceBytes = 256*512, -1, 64<<10
		o.directory = directory.Limits{Attribute: 2, Dataset: 64, Shard: 64}
		if tune != nil {
			tune(o)
		}
	})
	c.open()
	for k := range uint64(500) {
		c.apply(ins(k, 1), ins(k, 2+k%3))
	}
	for v := range uint64(40) {
		c.apply(ins(1000, v), ins(1001, v))
	}
	for v := range uint64(60) {
		var b Batch
		for i := range uint64(50) {
			b.ops = append(b.ops, ins(1002, 50*v+i))
		}
		c.apply(b.ops...)
	}
	c.do(func() error { return c.store.Checkpoint(t.Context()) })
	for i := range uint64(30) {
		c.apply(ins(7*i, 9), delv(1000, i))
	}
	c.do(func() error { return c.store.Checkpoint(t.Context()) })
	if c.store.state.Load().view.buckets.Runs() == 0 {
		t.Fatal("nothing waits in a run")
	}
	for i := range uint64(5) {
		c.apply(ins(2000+i, 9))
	}
	return c
}

// flip changes bits of one byte of the file, which a store may have open, and keeps them
// through a power cut.
func (c *scenario) flip(at int64, bits byte) {
	c.t.Helper()
	flipOn(c.t, c.fs, crashPath, at, bits)
}

func flipOn(t *testing.T, disk vfs.FS, path string, at int64, bits byte) {
	t.Helper()
	f := mustGet(disk.OpenFile(path, vfs.ReadWrite, 0))(t)
	var p [1]byte
	_, err := f.ReadAt(p[:], at)
	p[0] ^= bits
	mustDo(t, err, f.WriteAt(p[:], at), f.Sync(), f.Close())
}

// chunkAt is where the first chunk of a dataset lies, or all of one that is contiguous.
func (c *scenario) chunkAt(path string) (at int64) {
	c.t.Helper()
	v := c.store.state.Load().view
	d := mustGet(v.Dataset(path))(c.t)
	if at, _ = d.Extent(); at == 0 {
		mustDo(c.t, d.Walk(nil, func(chunk hdf5io.Chunk) (bool, error) { at = int64(chunk.Address); return false, nil }))
	}
	if at == 0 {
		c.t.Fatalf("%s is empty", path)
	}
	return at
}

// ofRun is the path of a dataset of the newest run.
func (c *scenario) ofRun(kind string) (path string) {
	c.t.Helper()
	names, _, err := c.store.state.Load().view.Group("/runs")
	mustDo(c.t, err)
	newest := 0
	for _, name := range names {
		if n := 0; strings.HasPrefix(name, kind+"_") {
			if _, err := fmt.Sscanf(name, kind+"_%d", &n); err == nil && n > newest {
				newest, path = n, "/runs/"+name
			}
		}
	}
	return path
}

// firstPath is that of the first dataset below a group whose name begins so.
func (c *scenario) firstPath(group, prefix string) string {
	c.t.Helper()
	names, _, err := c.store.state.Load().view.Group(group)
	mustDo(c.t, err)
	i := slices.IndexFunc(names, func(n string) bool { return strings.HasPrefix(n, prefix) })
	if i < 0 {
		c.t.Fatalf("%s has no %s: %v", group, prefix, names)
	}
	return group + "/" + names[i]
}

const maskAt = 32 // in an entry

// TestScrubFindsDamage: a bit that is flipped in the file of an open store is found in
// every kind of structure, named by event, metric and error, and not found when it is
// right again; in steps of one thing and of everything.
func TestScrubFindsDamage(t *testing.T) {
	for _, step := range []int64{1, 1 << 30} {
		events := &recorder{least: slog.LevelDebug}
		c := everyForm(t, func(o *Options) { o.stepBytes, o.Logger = step, slog.New(events) })
		s := c.store
		record := &s.state.Load().view.record
		logged := logPlace(record, s.log.Next()-1)
		places := map[string]int64{
			"entry of a row": c.chunkAt("/buckets/entries") + 3, "more row": c.chunkAt("/buckets/more") + 1,
			"page":           c.chunkAt("/buckets/state") + 5,
			"entry of a run": c.chunkAt(c.ofRun("entries")) + 3, "tag": c.chunkAt(c.ofRun("tags")), "index of a run": c.chunkAt(c.ofRun("index")) + 8,
			"row of a set": c.chunkAt("/values/class_48") + 2, "node": c.chunkAt("/values/nodes") + 16,
			"set state": c.chunkAt("/values/state") + 40, "deletion log": c.chunkAt("/deletion_log") + 7,
			"directory": c.chunkAt(c.directoryPath()) + 4, "log": logged + 30,
		}
		for name, at := range places {
			before := s.Metrics()
			c.flip(at, 4)
			report, err := s.Scrub(t.Context())
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrTampered) || report.DefectCount == 0 || len(report.Defects) != report.DefectCount {
				t.Errorf("step %d, %s at %#x: %+v, %v", step, name, at, report, err)
			}
			if n := s.Metrics().ScrubDefects - before.ScrubDefects; n != uint64(report.DefectCount) {
				t.Errorf("%s: %d defects counted, want %d", name, n, report.DefectCount)
			}
			c.flip(at, 4)
			if report, err := s.Scrub(t.Context()); err != nil || report.DefectCount != 0 || report.Bytes == 0 {
				t.Errorf("step %d, %s is right again: %+v, %v", step, name, report, err)
			}
		}
		if n := events.count("damage"); uint64(n) != s.Metrics().ScrubDefects {
			t.Errorf("%d events of damage, %d are counted", n, s.Metrics().ScrubDefects)
		}
		if n := events.count("scrub"); n != 2*len(places) || s.Metrics().Scrubs != uint64(n) {
			t.Errorf("%d events, %d counted, want %d scrubs", n, s.Metrics().Scrubs, 2*len(places))
		}
		mustCheck(t, s)
		c.close()
	}
}

func (c *scenario) directoryPath() string {
	if c.store.DirectoryMode() == directory.Sharded {
		return c.firstPath("/directory", "shard_")
	}
	return "/directory"
}

// TestScrubFindsWhatCheckFinds: a scrub misses no flipped bit that Check finds, wherever it
// is; what is mended, Check finds good.
func TestScrubFindsWhatCheckFinds(t *testing.T) {
	c := everyForm(t, func(o *Options) { o.stepBytes = 4000 })
	c.close()
	flips := campaign(30, 400)
	data := contentOf(t, c.fs, crashPath)
	random := rand.New(rand.NewPCG(3, 4))
	found := 0
	for range flips {
		at, bit := random.Int64N(int64(len(data))), byte(1)<<random.IntN(8)
		c.flip(at, bit)
		for _, readOnly := range []bool{true, false} {
			o := c.options(c.fs)
			o.ReadOnly = readOnly
			s, err := Open(crashPath, o)
			if err != nil || s.recovery.FellBack || s.recovery.SuperblockMended {
				if err == nil {
					s.kill()
				}
				continue // it is found by opening
			}
			_, checked := s.Check(t.Context())
			report, scrubbed := s.Scrub(t.Context())
			if checked != nil && scrubbed == nil {
				t.Errorf("bit %#x at %#x, read-only %v: Check says %v, a scrub %+v", bit, at, readOnly, checked, report)
			}
			if scrubbed != nil {
				found++
			}
			s.kill()
			if !readOnly {
				putFile(t, c.fs, crashPath, data)
			}
		}
		putFile(t, c.fs, crashPath, data)
	}
	t.Logf("%d flips in %d bytes, %d scrubs found damage", flips, len(data), found)
	if found == 0 {
		t.Fatal("nothing was damaged")
	}
}

// kill ends a store as a kill does.
func (s *Store) kill() {
	s.endLife()
	s.file.Close()
	s.vfile.Close()
}

// TestScrubMends: masks of which one bit is wrong, in a row and in a run, are written
// again, once; of which two are, they are named, and stay. A read-only store changes nothing.
func TestScrubMends(t *testing.T) {
	events := &recorder{least: slog.LevelDebug}
	c := everyForm(t, func(o *Options) { o.Logger = slog.New(events) })
	row, run := c.chunkAt("/buckets/entries")+maskAt, c.chunkAt(c.ofRun("entries"))+maskAt
	c.flip(row, 8)
	c.flip(run, 1)
	before := contentOf(t, c.fs, crashPath)

	r := OpenStore(t, crashPath, readOnly(c.options(c.fs)))
	report, err := r.Scrub(t.Context())
	if err != nil || report.Corrected != 2 || report.Mended != 0 {
		t.Errorf("read-only: %+v, %v, want 2 masks, none mended", report, err)
	}
	mustDo(t, r.Close())
	if !bytes.Equal(before, contentOf(t, c.fs, crashPath)) {
		t.Error("a read-only store has changed the file")
	}

	for i, want := range []ScrubReport{{Corrected: 2, Mended: 2}, {}} {
		report, err := c.store.Scrub(t.Context())
		if err != nil || report.Corrected != want.Corrected || report.Mended != want.Mended {
			t.Errorf("scrub %d: %+v, %v, want %+v", i, report, err, want)
		}
	}
	if m := c.store.Metrics(); m.MendedMasks != 2 || m.ScrubDefects != 0 || events.count("mend") != 2 {
		t.Errorf("%d masks, %d defects, %d events, want 2, 0, 2", m.MendedMasks, m.ScrubDefects, events.count("mend"))
	}
	if m, found := c.store.journal.newest(didMend); !found || m.Count != 2 {
		t.Errorf("the journal has %+v", c.store.Journal())
	}
	mustDo(t, c.same())
	mustCheck(t, c.store)

	row = c.chunkAt("/buckets/entries") + maskAt
	c.flip(row, 8+16)
	report, err = c.store.Scrub(t.Context())
	if !errors.Is(err, ErrCorrupt) || report.Mended != 0 || !strings.Contains(err.Error(), "group") {
		t.Errorf("two bits: %+v, %v", report, err)
	}
	c.flip(row, 8+16)
	mustDo(t, c.same())
	c.close()
}

// TestScrubMendsBesideDamage: a mask in a group of which another entry is damaged cannot be
// mended, which is reported, and mends nothing wrong; the group of another hash is mended.
func TestScrubMendsBesideDamage(t *testing.T) {
	c := everyForm(t, nil)
	row := c.chunkAt("/buckets/entries")
	c.flip(row+maskAt, 8)
	c.flip(row+bucket.EntrySize+3, 1)
	report, err := c.store.Scrub(t.Context())
	if !errors.Is(err, ErrCorrupt) || report.Corrected != 1 || report.Mended != 0 || !strings.Contains(fmt.Sprint(report.Defects), "mend group") {
		t.Errorf("%+v, %v", report, err)
	}
	c.flip(row+bucket.EntrySize+3, 1)
	if report, err := c.store.Scrub(t.Context()); err != nil || report.Mended != 1 {
		t.Errorf("when the other is right again: %+v, %v", report, err)
	}
	mustDo(t, c.same())
	c.close()
}

// TestCrashScrub cuts the power at every call of a scrub that mends.
func TestCrashScrub(t *testing.T) {
	c := everyForm(t, noQuarantine)
	c.flip(c.chunkAt("/buckets/entries")+maskAt, 8)
	c.flip(c.chunkAt(c.ofRun("entries"))+maskAt, 1)
	n := len(c.batches)
	perCut := campaign(1, 6)
	trace := c.fs.Record()
	c.do(func() error { _, err := c.store.Scrub(t.Context()); return err })
	trace.Stop()
	if m := c.store.Metrics(); m.MendedMasks != 2 {
		t.Fatalf("%d masks mended", m.MendedMasks)
	}
	images := 0
	for image := range trace.Enumerate(crashfs.Plan{Seed: 5, PerCut: perCut}).Images() {
		mustAt(t, errOf(c.survivesOn(image.FS(), n, n, image.Hash, 0)), image)
		images++
	}
	t.Logf("%d calls, %d images", trace.Len(), images)
	c.close()
}

// TestFaultScrub makes every call of a scrub that mends fail, or find the disk full: it ends
// with the cause, or without mending, and the store holds what it held.
func TestFaultScrub(t *testing.T) {
	failed := 0
	for _, cause := range []error{errfs.ErrIO, vfs.ErrNoSpace} {
		for nth := 1; ; nth++ {
			c := newScenario(t, 3, func(o *Options) { o.ScrubRate = -1 })
			disk := errfs.New(c.fs)
			s := OpenStore(t, crashPath, c.options(disk))
			c.store = s
			for k := range uint64(40) {
				c.apply(ins(k, 1))
			}
			mustDo(t, s.Checkpoint(t.Context()), s.Maintain(t.Context()))
			c.flip(c.chunkAt("/buckets/entries")+maskAt, 8)
			fault := disk.Add(errfs.Rule{Ops: errfs.Write | errfs.WriteSync | errfs.Allocate | errfs.Datasync | errfs.Sync, Nth: nth, Forever: true, Err: cause})
			report, err := s.Scrub(t.Context())
			if fault.Failed() == 0 {
				if err != nil || report.Mended != 1 {
					t.Fatalf("nothing failed: %+v, %v", report, err)
				}
				disk.Clear()
				mustDo(t, s.Close())
				break
			}
			if err != nil {
				failed++
			}
			if err != nil && !errors.Is(err, cause) {
				t.Errorf("call %d: %v, want %v", nth, err, cause)
			}
			read := has(s, c.prints[40])
			c.kill()
			disk.Clear()
			wantErr(t, errors.Join(read, c.recovered(c.fs, 40, 40, true)), nil, "call", nth)
		}
	}
	if failed == 0 {
		t.Error("no scrub failed")
	}
}

// TestScrubOnAFullDisk: a scrub of a store on a disk that is full reads everything, and
// mends a group from the reserve, or says that it has no room and does so when it has.
func TestScrubOnAFullDisk(t *testing.T) {
	c := newScenario(t, crashSeed(t), func(o *Options) { mediumOptions(o); o.ScrubRate = -1 })
	c.open()
	c.fs.SetCapacity(use(t, c.fs) + 600<<10)
	wantIs(t, true, "full")(c.fill(3000))
	c.flip(c.chunkAt("/buckets/entries")+maskAt, 8)
	report, err := c.store.Scrub(t.Context())
	t.Logf("full: %+v, %v", report, err)
	if report.Corrected != 1 || (report.Mended == 1) != (err == nil) || err != nil && !errors.Is(err, ErrNoSpace) {
		t.Errorf("%+v, %v", report, err)
	}
	mustDo(t, c.same())
	c.fs.SetCapacity(0)
	again, err := c.store.Scrub(t.Context())
	if err != nil || report.Mended+again.Mended != 1 {
		t.Errorf("with room: %+v, %v", again, err)
	}
	mustDo(t, c.same())
	mustCheck(t, c.store)
	c.close()
}

// TestScrubHasNoRoom: a run that is longer than any free space is not mended on a full
// disk: that is reported, harms nothing, and is made up for when there is room.
func TestScrubHasNoRoom(t *testing.T) {
	c := newScenario(t, 1, func(o *Options) { o.ScrubRate, o.WALBytes, o.sliceBytes = -1, 4096*512, 1<<20 })
	c.open()
	for i := range uint64(4) {
		var ops []wal.Op
		for k := range uint64(5000) {
			ops = append(ops, ins(5000*i+k, 1))
		}
		if i == 3 { // the others are folded, and these wait
			c.do(func() error { return c.store.Maintain(t.Context()) })
		}
		c.apply(ops...)
	}
	c.do(func() error { return c.store.Checkpoint(t.Context()) })
	at := c.chunkAt(c.ofRun("entries")) + maskAt
	c.fs.SetCapacity(use(t, c.fs))
	filled := 0
	for space := int64(1); space > 0; {
		mustDo(t, c.store.exclusively(func() error { // fills the longest, once no root of before holds any
			err := c.store.freeReplaced()
			if space = c.store.file.Longest(); err != nil || space < 5000*bucket.EntrySize {
				space = 0
				return err
			}
			return c.store.change(func(m *merge) error {
				filled++
				size := uint64(space) / 8 * 7
				_, err := m.tx.CreateDataset(fmt.Sprintf("/fill_%d", filled), hdf5io.DatasetSpec{Type: hdf5io.Uint(1), Dims: []uint64{size}, Zero: true})
				return err
			})
		}))
	}
	c.flip(at, 1)
	report, err := c.store.Scrub(t.Context())
	if report.Corrected != 1 || report.Mended != 0 || !errors.Is(err, ErrNoSpace) || c.store.Failed() != nil {
		t.Fatalf("%+v, %v; %v", report, err, c.store.Failed())
	}
	mustDo(t, c.same())
	c.fs.SetCapacity(0)
	if report, err := c.store.Scrub(t.Context()); err != nil || report.Mended != 1 {
		t.Errorf("with room: %+v, %v", report, err)
	}
	mustDo(t, c.same())
	c.close()
}

// onceDone is a context that ends at its nth question.
type onceDone struct {
	context.Context
	left *int
}

func (c onceDone) Err() error {
	if *c.left--; *c.left < 0 {
		return context.Canceled
	}
	return nil
}

// TestScrubCancelled: a scrub ends at any step when its context is done, and is not noted as
// complete; one of a closed store, or beside Close, returns ErrClosed.
func TestScrubCancelled(t *testing.T) {
	c := everyForm(t, func(o *Options) { o.stepBytes = 5000 })
	s := c.store
	ended := 0
	for n, whole := 0, false; !whole; n += 29 {
		left := n
		r := newScrub(onceDone{t.Context(), &left}, s)
		err := r.run()
		if whole = err == nil; whole {
			break
		}
		if ended++; !errors.Is(err, context.Canceled) || s.Metrics().Scrubs != 0 || r.damage.Count != 0 {
			t.Fatalf("at question %d: %v, %d places, %d scrubs", n, err, r.damage.Count, s.Metrics().Scrubs)
		}
	}
	if ended < 5 {
		t.Errorf("%d scrubs were ended", ended)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	scrubs := s.Metrics().Scrubs
	if _, err := s.Scrub(ctx); !errors.Is(err, context.Canceled) || s.Metrics().Scrubs != scrubs {
		t.Errorf("cancelled: %v", err)
	}
	s.opts.ScrubRate = 1 // a pause of days after the first step
	done := make(chan error)
	for range 3 {
		go func() { _, err := s.Scrub(t.Context()); done <- err }()
	}
	for s.Metrics().ScrubbedBytes == 0 {
		time.Sleep(time.Millisecond)
	}
	c.close()
	for range 3 {
		wantErr(t, <-done, ErrClosed, "beside Close")
	}
	wantErr(t, errOf(s.Scrub(t.Context())), ErrClosed, "of a closed store")
}

// TestScrubPanics: a step that panics, as the background survives, leaves no root pinned.
func TestScrubPanics(t *testing.T) {
	c := everyForm(t, nil)
	b := gc.Background{Interval: time.Millisecond, Report: func(error) {}}
	ctx, cancel := context.WithCancel(t.Context())
	b.Collect = func(context.Context) error {
		cancel()
		_, err := newScrub(t.Context(), c.store).step(func(*view) (bool, int64) { panic("a step") })
		return err
	}
	b.Run(ctx)
	if pinned := c.store.file.Space().Pinned; pinned != 0 {
		t.Errorf("%d bytes are pinned", pinned)
	}
	c.close() // it waits for whoever reads
}

// TestScrubBesideEverything: scrubs in steps of one thing find nothing wrong with a store
// that is written to, collected, maintained and shrunk, and stop none of that.
func TestScrubBesideEverything(t *testing.T) {
	s, _ := deletedSets(t, &Options{GCInterval: -1, ScrubRate: -1, stepBytes: 1000, SplitThreshold: 8}, 30)
	var group failures
	ctx, stop := context.WithCancel(t.Context())
	var scrubbers sync.WaitGroup
	whole := 0
	scrubbers.Go(func() {
		for ctx.Err() == nil {
			if _, err := s.Scrub(t.Context()); err != nil {
				t.Errorf("scrub: %v", err)
				return
			}
			whole++
		}
	})
	group.Go(func() error {
		for i := range uint64(60) {
			var b Batch
			for k := range uint64(40) {
				b.Insert(FromUint64(1000+i*40+k), FromUint64(i))
				b.Delete(FromUint64(1000 + i*20 + k))
			}
			if err := errors.Join(s.Apply(&b), s.Checkpoint(t.Context())); err != nil {
				return err
			}
		}
		return nil
	})
	group.Go(func() error {
		for range 6 {
			if _, err := s.RunGCOnce(t.Context()); err != nil {
				return err
			}
			if err := errors.Join(s.Maintain(t.Context()), s.Shrink(t.Context())); err != nil {
				return err
			}
		}
		return nil
	})
	err := group.Wait()
	stop()
	scrubbers.Wait()
	mustDo(t, err)
	t.Logf("%d scrubs, %d bytes", whole, s.Metrics().ScrubbedBytes)
	wantErr(t, errOf(s.Scrub(t.Context())), nil)
	if pinned := s.file.Space().Pinned; pinned != 0 {
		t.Errorf("%d bytes are still pinned", pinned)
	}
	mustCheck(t, s)
}

// TestScrubRate: by the clock of the store, no stretch of time has more bytes than the rate
// allows and one step. A clock that stands still, or is set back, stops no scrub: waits
// count by themselves.
func TestScrubRate(t *testing.T) {
	start := time.Unix(1_700_000_000, 0)
	p := pace{rate: 1000}
	for _, c := range []struct {
		after time.Duration // since start
		read  int64
		wait  time.Duration
	}{
		{0, 500, 500 * time.Millisecond}, {0, 0, 500 * time.Millisecond}, {100 * time.Millisecond, 0, 400 * time.Millisecond},
		{-time.Hour, 0, 400 * time.Millisecond}, {-time.Hour + 400*time.Millisecond, 0, 0},
		{time.Hour, 300, 300 * time.Millisecond}, // an hour that was not used counts for nothing
		{time.Hour, 200, 500 * time.Millisecond},
	} {
		if wait := p.spend(start.Add(c.after), c.read); (wait - c.wait).Abs() > time.Microsecond {
			t.Errorf("%+v: wait %v", c, wait)
		}
	}
	if wait := (&pace{rate: -1}).spend(start, 1<<40); wait != 0 {
		t.Errorf("without a rate: wait %v", wait)
	}

	if p.waited(start, time.Second); p.spend(start, 0) != 0 {
		t.Error("a wait of a second did not count for 500 bytes")
	}

	const rate, step = 1 << 20, 2000
	c := everyForm(t, nil)
	s := c.store
	now := start
	s.opts.ScrubRate, s.opts.stepBytes = rate, step
	s.opts.Clock = func() time.Time { now = now.Add(time.Microsecond); return now } // reading takes time too
	r := newScrub(t.Context(), s)
	waits, largest, last := 0, int64(0), int64(0)
	r.wait = func(d time.Duration) error {
		largest, last = max(largest, r.report.Bytes-last), r.report.Bytes
		if allowed := int64(now.Sub(start).Seconds()*rate) + largest; r.report.Bytes > allowed {
			t.Errorf("%d bytes in %v, want at most %d", r.report.Bytes, now.Sub(start), allowed)
		}
		now = now.Add(d)
		waits++
		return nil
	}
	mustDo(t, r.run())
	if waits < 50 || largest > largestStep {
		t.Errorf("%d waits for %d bytes, at most %d between two of them", waits, r.report.Bytes, largest)
	}
	t.Logf("%d bytes in %v, %d waits, at most %d bytes between two", r.report.Bytes, now.Sub(start), waits, largest)

	s.opts.Clock = func() time.Time { return start } // it stands still: the waits are those of the system
	s.opts.ScrubRate = 100 << 20
	wantErr(t, errOf(s.Scrub(t.Context())), nil)
	c.close()
}

// largestStep is more than any single group or leaf of these tests.
const largestStep = 64 << 10

// TestScrubInBackground: a scrub comes when the interval has passed since the last one by
// the store's clock, in an earlier life too, and none comes where it is switched off.
func TestScrubInBackground(t *testing.T) {
	var mu sync.Mutex
	now := time.Unix(1_700_000_000, 0)
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	pass := func(d time.Duration) { mu.Lock(); defer mu.Unlock(); now = now.Add(d) }
	options := func(interval time.Duration) *Options {
		return &Options{FS: crashfs.New(crashfs.Options{}), Clock: clock, ScrubRate: -1, ScrubInterval: interval}
	}
	o := options(24 * time.Hour)
	for _, life := range []struct {
		passed time.Duration
		scrubs uint64
	}{
		{0, 0}, {23 * time.Hour, 0}, {time.Hour, 1}, {time.Hour, 0}, {22 * time.Hour, 0}, {time.Hour, 1}, {-240 * time.Hour, 1}, {24 * time.Hour, 1},
	} {
		pass(life.passed)
		s := OpenStore(t, "s.h5", o)
		for range 3 { // as the background does each minute
			mustDo(t, s.scrubIfDue(t.Context()))
		}
		m := s.Metrics()
		if m.Scrubs != life.scrubs || life.scrubs > 0 && !m.LastScrub.Equal(clock()) {
			t.Errorf("after %v: %d scrubs, the last one at %v, want %d", life.passed, m.Scrubs, m.LastScrub, life.scrubs)
		}
		mustDo(t, s.Close())
	}

	o = options(time.Millisecond) // and the goroutine, which looks as often
	s := OpenStore(t, "s.h5", o)
	for range 10_000 {
		pass(time.Millisecond)
		if s.Metrics().Scrubs > 2 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if n := s.Metrics().Scrubs; n <= 2 {
		t.Errorf("%d scrubs in the background", n)
	}
	mustDo(t, s.Close())
	for _, off := range []func(*Options){
		func(o *Options) { o.ScrubInterval = -1 }, func(o *Options) { o.GCInterval = -1 }, func(o *Options) { o.ReadOnly = true },
	} {
		again := *o
		off(&again)
		s := OpenStore(t, "s.h5", &again)
		pass(48 * time.Hour)
		time.Sleep(20 * time.Millisecond)
		if n := s.Metrics().Scrubs; n != 0 {
			t.Errorf("%d scrubs, though they are switched off", n)
		}
		mustDo(t, s.Close())
	}
}
