package cidstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cidstore/cidstore/directory"
	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/vfs"
	"github.com/cidstore/cidstore/wal"
)

// The campaigns of this file run a workload on a file system in memory that
// remembers what was synced, crash it at every write and sync in every way of
// the fault model, open what is left, and compare with what was acknowledged.

// smallOptions make every structure small, so that splits, promotions, slices,
// laps and growth of the ring happen within a hundred batches. No goroutines: the
// same calls in the same order each time.
func smallOptions(f vfs.FS) *Options {
	clock := int64(1_700_000_000_000_000_000)
	return &Options{
		FS: f, SplitThreshold: 8, GCInterval: -1, WALBytes: 64 * 512, MemoryBudget: 1 << 20,
		Clock:      func() time.Time { return time.Unix(0, atomic.AddInt64(&clock, 1000)) },
		Rand:       rand.NewChaCha8([32]byte{7}),
		blockBytes: 512, growBytes: 32 << 10, sliceBytes: 6 << 10,
	}
}

// buckets5 makes buckets that hold less than one chunk, and split often.
func buckets5(o *Options) { o.SplitThreshold = 5 }

// noQuarantine uses freed space again as soon as no slot and no reader reaches it.
func noQuarantine(o *Options) { o.quarantine = -1 }

// squeezed is noQuarantine with a Close that moves what lies at the end of the file.
func squeezed(o *Options) { o.quarantine, o.againBytes = -1, 1 }

// growingRing starts with a log of a sixteenth of its size.
func growingRing(o *Options) { o.startBytes, o.WALBytes = 16*512, 256*512 }

// volatile makes writes durable at Sync, and now and then by themselves.
func volatile(o *Options) { o.Durability, o.FlushInterval = Async, 40*time.Microsecond }

// smallForms is noQuarantine with a directory that takes every form.
func smallForms(o *Options) {
	o.quarantine = -1
	o.directory.Limits = directory.Limits{Attribute: 2, Dataset: 8, Shard: 8}
}

// contents is what a store holds, as a set of pairs.
type contents map[E]map[E]bool

func (c contents) apply(ops []wal.Op) {
	for _, o := range ops {
		switch o.Code {
		case wal.Insert:
			if c[o.Key] == nil {
				c[o.Key] = map[E]bool{}
			}
			c[o.Key][o.Value] = true
		case wal.Delete:
			delete(c, o.Key)
		case wal.DeleteValue:
			delete(c[o.Key], o.Value)
			if len(c[o.Key]) == 0 {
				delete(c, o.Key)
			}
		}
	}
}

// print is a fingerprint of a set of pairs, whatever their order.
type print struct{ pairs, sum uint64 }

func (p *print) add(k, v E) {
	p.pairs++
	p.sum += mix64(k.High ^ mix64(k.Low^mix64(v.High^mix64(v.Low+1))))
}

func mix64(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func (c contents) print() (p print) {
	for k, values := range c {
		for v := range values {
			p.add(k, v)
		}
	}
	return p
}

func printOf(s *Store) (p print, err error) {
	v, err := s.Snapshot()
	if err != nil {
		return p, err
	}
	defer v.Close()
	return printOfSnapshot(v)
}

func printOfSnapshot(v *Snapshot) (p print, err error) {
	for k, value := range v.All() {
		p.add(k, value)
	}
	return p, v.Err()
}

// Marks in the trace.
type (
	issued int // batch n is about to be written
	acked  int // batch n was acknowledged
)

// scenario is one run of a workload under recording.
type scenario struct {
	t       *testing.T
	tune    func(*Options) // how its options differ from the small ones; nil: not
	fs      *crashfs.FS
	store   *Store
	model   contents
	batches [][]wal.Op
	prints  []print // prints[n]: after n batches
	acked   int     // batches, of those that are tried
	copied  bool    // there is a backup
	random  *rand.Rand
}

const crashPath = "db/s.h5"

func newScenario(t *testing.T, seed uint64, tune func(*Options)) *scenario {
	return &scenario{
		t: t, tune: tune, fs: crashfs.New(crashfs.Options{FileLimit: 8 << 20}), model: contents{},
		prints: []print{{}}, random: rand.New(rand.NewPCG(seed, 1)),
	}
}

// options are those of the workload, on some file system.
func (c *scenario) options(f vfs.FS) *Options {
	o := smallOptions(f)
	if c.tune != nil {
		c.tune(o)
	}
	return o
}

func (c *scenario) open() {
	c.t.Helper()
	s, err := Open(crashPath, c.options(c.fs))
	if err != nil {
		c.t.Fatal(err)
	}
	c.store = s
}

func (c *scenario) close() {
	c.t.Helper()
	if err := c.store.Close(); err != nil {
		c.t.Fatal(err)
	}
}

// apply writes one batch, and notes that it is durable.
func (c *scenario) apply(ops ...wal.Op) {
	c.t.Helper()
	c.accept(ops...)
	c.fs.Mark(acked(len(c.batches) - 1))
}

// do runs something that changes no pair.
func (c *scenario) do(f func() error) {
	c.t.Helper()
	if err := f(); err != nil {
		c.t.Fatal(err)
	}
}

// accept writes one batch.
func (c *scenario) accept(ops ...wal.Op) {
	c.t.Helper()
	n := len(c.batches)
	c.batches = append(c.batches, ops)
	c.model.apply(ops)
	c.prints = append(c.prints, c.model.print())
	c.fs.Mark(issued(n))
	if err := c.store.Apply(&Batch{ops: ops}); err != nil {
		c.t.Fatal(err)
	}
}

func ins(k, v uint64) wal.Op {
	return wal.Op{Code: wal.Insert, Key: FromUint64(k), Value: FromUint64(v)}
}
func del(k uint64) wal.Op { return wal.Op{Code: wal.Delete, Key: FromUint64(k)} }
func delv(k, v uint64) wal.Op {
	return wal.Op{Code: wal.DeleteValue, Key: FromUint64(k), Value: FromUint64(v)}
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
				if err := c.store.Checkpoint(context.Background()); err != nil {
					c.t.Fatal(err)
				}
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
				if err := c.store.Checkpoint(context.Background()); err != nil {
					c.t.Fatal(err)
				}
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
		if size := c.store.Metrics().WALBytes; size < 3*400*wal.RecordSize {
			c.t.Fatalf("the log has %d bytes, want at least %d: it did not grow", size, 3*400*wal.RecordSize)
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
				if err := c.store.Sync(); err != nil {
					c.t.Fatal(err)
				}
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

// heldReaders are snapshots, and a second opener that reads only, which stay for a
// while and must not change meanwhile.
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
		v, err := c.store.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		h.snapshots, h.prints = append(h.snapshots, v), append(h.prints, c.model.print())
	}
	h.check()
	if len(h.snapshots) > 2 {
		if err := h.snapshots[0].Close(); err != nil {
			t.Fatal(err)
		}
		h.snapshots, h.prints = h.snapshots[1:], h.prints[1:]
	}
	switch {
	case i == 3:
		o := c.options(c.fs)
		o.ReadOnly = true
		s, err := Open(crashPath, o)
		if err != nil {
			t.Fatal(err)
		}
		h.other, h.otherHas = s, c.model.print()
	case i > 3 && i%10 == 3:
		if err := h.other.Refresh(); err != nil {
			t.Fatal(err)
		}
		h.otherHas = c.model.print()
	}
}

// check reads everything that is held once more.
func (h *heldReaders) check() {
	t := h.c.t
	t.Helper()
	for i, v := range h.snapshots {
		if p, err := printOfSnapshot(v); err != nil || p != h.prints[i] {
			t.Fatalf("a snapshot of %d pairs has %d, %v", h.prints[i].pairs, p.pairs, err)
		}
	}
	if h.other != nil {
		if p, err := printOf(h.other); err != nil || p != h.otherHas {
			t.Fatalf("a reader of another process had %d pairs, has %d, %v", h.otherHas.pairs, p.pairs, err)
		}
	}
}

func (h *heldReaders) close() {
	h.c.t.Helper()
	h.check()
	if err := h.other.Close(); err != nil {
		h.c.t.Fatal(err)
	}
}

// campaignVariable makes the campaigns run at full length: scripts/crash sets it.
const campaignVariable = "CIDSTORE_CAMPAIGN"

// shortCampaign: a sample is enough, as part of go test of everything.
func shortCampaign() bool { return testing.Short() || os.Getenv(campaignVariable) != "1" }

// crashBudget is how many distinct images a campaign looks at in all.
func crashBudget(t *testing.T) int {
	if text := os.Getenv("CIDSTORE_CRASH_IMAGES"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if shortCampaign() {
		return 2_000
	}
	return 33_340 // shared by all workloads
}

func crashSeed(t *testing.T) uint64 {
	seed := uint64(1)
	if text := os.Getenv("CIDSTORE_SEED"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	t.Logf("seed %d (CIDSTORE_SEED)", seed)
	return seed
}

// TestCrashEnumeration cuts the power at every call of every workload, round after
// round with other seeds until the budget of images is used up.
func TestCrashEnumeration(t *testing.T) {
	seed, total := crashSeed(t), crashBudget(t)
	for _, w := range crashWorkloads {
		t.Run(strings.ReplaceAll(w.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			share := total / len(crashWorkloads)
			images, calls, nested := 0, 0, 0
			classes := map[crashfs.Class]int{}
			for round := uint64(0); images < share; round++ {
				c := newScenario(t, seed+round, w.tune)
				trace := c.fs.Record()
				w.run(c)
				trace.Stop()
				calls += trace.Len()
				// A small budget is spread over all cuts and all classes.
				shards := max(1, 4*trace.Len()/share)
				e := trace.Enumerate(crashfs.Plan{
					Seed: seed + round, PerCut: max(4, 2*share/trace.Len()), Shards: shards, Shard: int(round) % shards,
				})
				for image := range e.Images() {
					classes[image.Class]++
					deeper := 0
					if images%100 == 50 {
						deeper = 2
					}
					n, err := c.survives(image, deeper)
					if err != nil {
						t.Fatalf("round %d, %v: %v", round, image, err)
					}
					nested += n
					if images++; images >= share && round > 0 {
						break
					}
				}
			}
			t.Logf("%d calls, %d distinct images by class %v, %d images of crashes in a recovery", calls, images, classes, nested)
			if images == 0 || nested == 0 {
				t.Fatal("no image was looked at")
			}
		})
	}
}

// window is the number of batches acknowledged, and issued, before a crash.
func window(marks []any) (ack, issue int) {
	for _, m := range marks {
		switch m := m.(type) {
		case issued:
			issue = int(m) + 1
		case acked:
			ack = int(m) + 1
		}
	}
	return ack, issue
}

// survives opens a disk that a crash left and holds it against I1 to I4: every
// acknowledged batch is there, the one in flight whole or not at all, the file
// checks clean, takes writes, and says the same again. deeper: how many further
// crashes hit the recovery itself; it returns the number of their images.
func (c *scenario) survives(image *crashfs.Image, deeper int) (nested int, err error) {
	ack, issue := window(image.Marks)
	return c.survivesOn(image.FS(), ack, issue, image.Hash, deeper)
}

func (c *scenario) survivesOn(disk *crashfs.FS, ack, issue int, seed uint64, deeper int) (nested int, err error) {
	if deeper == 0 {
		return 0, c.recovered(disk, ack, issue, true)
	}
	disk = disk.Copy()
	trace := disk.Record()
	if err := c.recovered(disk, ack, issue, false); err != nil {
		return 0, err
	}
	trace.Stop()
	for again := range trace.Enumerate(crashfs.Plan{Seed: seed, PerCut: 2}).Images() {
		below := 0
		if nested%50 == 25 {
			below = deeper - 1
		}
		n, err := c.survivesOn(again.FS(), ack, issue, again.Hash, below)
		if err != nil {
			return nested, fmt.Errorf("crash in the recovery at %v: %w", again, err)
		}
		nested += 1 + n
	}
	return nested, nil
}

// recovered opens the store on a disk and checks it; further: writes to it too.
func (c *scenario) recovered(disk vfs.FS, ack, issue int, further bool) error {
	if _, err := disk.Stat(crashPath); errors.Is(err, fs.ErrNotExist) && ack == 0 && !further {
		return nil
	}
	s, err := Open(crashPath, c.options(disk))
	if err != nil {
		return err
	}
	got, err := c.stateOf(s, ack, issue)
	if err != nil {
		return errors.Join(err, closeAll(s))
	}
	if !further {
		return s.Close()
	}
	model := contents{}
	for _, ops := range c.batches[:got] {
		model.apply(ops)
	}
	for i := range uint64(4) {
		ops := []wal.Op{ins(5000+i, i), ins(i, 6000), delv(7, i), ins(7, 9000+i)}
		model.apply(ops)
		if err := s.Apply(&Batch{ops: ops}); err != nil {
			return errors.Join(fmt.Errorf("write after recovery: %w", err), closeAll(s))
		}
	}
	if err := s.Close(); err != nil {
		return fmt.Errorf("close after recovery: %w", err)
	}
	s, err = Open(crashPath, c.options(disk))
	if err != nil {
		return fmt.Errorf("second open: %w", err)
	}
	p, err := printOf(s)
	if err == nil && p != model.print() {
		err = fmt.Errorf("second open: %d pairs, want %d", p.pairs, model.print().pairs)
	}
	return errors.Join(err, s.Close())
}

func closeAll(s *Store) error {
	_ = s.Close() // the first error is what counts
	return nil
}

// stateOf finds the number of batches that the store holds, and checks the file.
func (c *scenario) stateOf(s *Store, ack, issue int) (batches int, err error) {
	p, err := printOf(s)
	if err != nil {
		return 0, fmt.Errorf("read after recovery: %w", err)
	}
	batches = -1
	for n := ack; n <= issue; n++ {
		if c.prints[n] == p {
			batches = n
		}
	}
	if batches < 0 {
		return 0, fmt.Errorf("%d pairs after recovery, want those of %d batches (%d) or %d (%d); %+v",
			p.pairs, ack, c.prints[ack].pairs, issue, c.prints[issue].pairs, s.Recovery())
	}
	report, err := s.Check(context.Background())
	if err != nil {
		return 0, fmt.Errorf("%w; all: %v", err, report.Defects)
	}
	return batches, nil
}

// TestCrashRottenSlot damages either commit slot at every acknowledged moment of
// each workload: the other one and the log lose nothing.
func TestCrashRottenSlot(t *testing.T) {
	seed := crashSeed(t)
	for _, w := range crashWorkloads {
		t.Run(strings.ReplaceAll(w.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			c := newScenario(t, seed, w.tune)
			trace := c.fs.Record()
			w.run(c)
			trace.Stop()
			images := 0
			for image := range trace.Enumerate(crashfs.Plan{Seed: seed, Classes: []crashfs.Class{crashfs.Issued}}).Images() {
				ack, issue := window(image.Marks)
				if ack == 0 {
					continue
				}
				for slot := range int64(2) {
					disk := image.FS()
					if err := rot(disk, 4096*(1+slot), 4096, uint64(image.Cut)); err != nil {
						t.Fatal(err)
					}
					images++
					if err := c.recovered(disk, ack, issue, false); err != nil {
						t.Fatalf("%v, slot %d rotten: %v", image, slot, err)
					}
				}
			}
			t.Logf("%d images", images)
			if images == 0 {
				t.Fatal("no image was looked at")
			}
		})
	}
}

// rot changes one byte in each sector of a range.
func rot(disk *crashfs.FS, offset, n int64, seed uint64) error {
	f, err := disk.OpenFile(crashPath, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	r := rand.New(rand.NewPCG(seed, 2))
	for at := offset; at < offset+n; at += 512 {
		p := make([]byte, 512)
		if _, err := f.ReadAt(p, at); err != nil {
			return err
		}
		before := bytes.Clone(p)
		p[r.IntN(512)] ^= byte(1 + r.IntN(255))
		if bytes.Equal(before, p) {
			return errors.New("nothing was changed")
		}
		if err := f.WriteAt(p, at); err != nil {
			return err
		}
	}
	return f.Sync()
}
