package cidstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/pprof"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/internal/errfs"
	"github.com/cidstore/cidstore/internal/invariants"
	"github.com/cidstore/cidstore/vfs"
	"github.com/cidstore/cidstore/wal"
)

// watchdog ends the whole test program, with the stacks of all goroutines, if the
// function that it returns is not called in time: a hang is a failure with a place.
func watchdog(name string, limit time.Duration) (stop func()) {
	timer := time.AfterFunc(limit, func() {
		_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 2)
		panic(fmt.Sprintf("%s has not ended within %v", name, limit))
	})
	return func() { timer.Stop() }
}

const (
	hangLimit  = time.Minute
	backupPath = "db/backup.h5"
)

// try writes one batch and notes what became of it.
func (c *scenario) try(ops ...wal.Op) error {
	n := len(c.batches)
	c.batches = append(c.batches, ops)
	c.model.apply(ops)
	c.prints = append(c.prints, c.model.print())
	c.fs.Mark(issued(n))
	if err := c.store.Apply(&Batch{ops: ops}); err != nil {
		return err
	}
	c.acked = n + 1
	c.fs.Mark(acked(n))
	return nil
}

// randomOps are a few operations on few keys, one of them a key of many values.
func (c *scenario) randomOps() (ops []wal.Op) {
	for range 3 + c.random.IntN(8) {
		k, v := c.random.Uint64N(60), c.random.Uint64N(9)
		switch c.random.IntN(6) {
		case 0:
			ops = append(ops, del(k))
		case 1:
			ops = append(ops, delv(k, v))
		case 2:
			ops = append(ops, ins(1, c.random.Uint64()))
		default:
			ops = append(ops, ins(k, v))
		}
	}
	return ops
}

// work makes a store on f, writes, checkpoints, reads, copies, closes and opens
// again, and ends at the first error. c.store is nil when nothing is open.
func (c *scenario) work(f vfs.FS) (err error) {
	for life := range 2 {
		if c.store, err = Open(crashPath, c.options(f)); err != nil {
			return fmt.Errorf("open: %w", err)
		}
		for i := range 14 {
			if err := c.try(c.randomOps()...); err != nil {
				return fmt.Errorf("apply: %w", err)
			}
			if i%4 == 3 {
				if err := c.store.Checkpoint(context.Background()); err != nil {
					return err
				}
			}
		}
		if p, err := printOf(c.store); err != nil {
			return fmt.Errorf("read: %w", err)
		} else if p != c.model.print() {
			return fmt.Errorf("life %d: %d pairs, want %d", life, p.pairs, c.model.print().pairs)
		}
		if life == 0 {
			if err := c.store.Backup(context.Background(), backupPath); err != nil {
				return fmt.Errorf("backup: %w", err)
			}
			c.copied = true
		}
		s := c.store
		c.store = nil
		if err := s.Close(); err != nil {
			return fmt.Errorf("close: %w", err)
		}
	}
	return nil
}

// abandon closes the store of a run that failed; its locks must go.
func (c *scenario) abandon() {
	if c.store != nil {
		_ = c.store.Close() // a poisoned store says so again
		c.store = nil
	}
}

// countCalls runs work once and returns how many calls of some kinds it makes.
func countCalls(t *testing.T, seed uint64, ops errfs.Op) int {
	t.Helper()
	c := newScenario(t, seed, noQuarantine)
	disk := errfs.New(c.fs)
	count := disk.Add(errfs.Rule{Ops: ops})
	mustDo(t, c.work(disk))
	return count.Matched()
}

// TestFaultSync lets each sync of a run fail once, in each of the ways that file
// systems have: the error is returned, nothing is written after it, and neither the
// next opener, who finds a cache that lies, nor a power cut before or after
// loses what was acknowledged.
func TestFaultSync(t *testing.T) {
	seed := crashSeed(t)
	syncs := countCalls(t, seed, errfs.WriteSync|errfs.Datasync|errfs.Sync)
	step := campaign(9*min(invariants.Sparse, 5), 1)
	for name, mode := range map[string]crashfs.SyncFailure{"keep": crashfs.FailKeep, "revert": crashfs.FailRevert, "lost": crashfs.FailLost} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runs, images := 0, 0
			for nth := int(seed) % step; nth < syncs; nth += step {
				stop := watchdog(fmt.Sprintf("sync %d failed: the run", nth), hangLimit)
				n, err := failOneSync(t, seed, mode, nth)
				stop()
				mustAt(t, err, "sync", nth, "of", syncs)
				runs, images = runs+1, images+n
			}
			t.Logf("%d runs, %d images", runs, images)
			if runs == 0 || images == 0 {
				t.Fatal("no sync failed")
			}
		})
	}
}

func failOneSync(t *testing.T, seed uint64, mode crashfs.SyncFailure, nth int) (images int, err error) {
	c := newScenario(t, seed, noQuarantine)
	defer c.fs.Release()
	trace := c.fs.Record()
	c.fs.FailSync(mode, nth, 1)
	worked := c.work(c.fs)
	switch {
	case worked == nil:
		return 0, errors.New("no error was returned")
	case !errors.Is(worked, crashfs.ErrSync):
		return 0, fmt.Errorf("the cause is not named: %w", worked)
	}
	failed := trace.Len()
	if err := c.refuses(worked, trace); err != nil {
		return 0, err
	}
	before := *c // what the crashed openers below are held against
	before.batches, before.prints = slices.Clone(c.batches), slices.Clone(c.prints)
	if err := c.restart(); err != nil {
		return 0, fmt.Errorf("restart without a power cut: %w", err)
	}
	restarted := trace.Len()
	for range 2 {
		if err := c.try(c.randomOps()...); err != nil {
			return 0, fmt.Errorf("write after the restart: %w", err)
		}
	}
	if err := c.store.Checkpoint(context.Background()); err != nil {
		return 0, err
	}
	trace.Stop()
	c.abandon()
	// An opener that finds a cache that lies is in the most danger, so it gets many images of
	// each of its calls.
	many := 1
	if mode == crashfs.FailLost {
		many = max(1, 30/invariants.Sparse)
	}
	for _, part := range []struct {
		model            *scenario
		from, to, perCut int
	}{{&before, failed, restarted - 1, many}, {c, restarted, 0, 1}} {
		e := trace.Enumerate(crashfs.Plan{Seed: seed + uint64(nth), PerCut: part.perCut, From: part.from, To: part.to})
		for image := range e.Images() {
			images++
			// Where the batch that failed was seen to be absent it stays so: its mark is
			// that of the batch that took its number.
			ack, issue := window(image.Marks)
			if err := part.model.recovered(image.FS(), ack, min(issue, len(part.model.batches)), false); err != nil {
				return images, fmt.Errorf("%v: %w", image, err)
			}
		}
	}
	return images, nil
}

// refuses shows that a store whose sync failed takes no writes, issues none, and
// still reads what was acknowledged.
func (c *scenario) refuses(worked error, trace *crashfs.Trace) error {
	defer c.abandon()
	if c.store == nil || c.store.Failed() == nil && strings.HasPrefix(worked.Error(), "backup:") {
		return nil // nothing is open, or the copy in the making is what failed
	}
	calls := trace.Len()
	for what, write := range map[string]func() error{
		"Insert":     func() error { return c.store.Insert(E{}, E{}) },
		"Sync":       func() error { return c.store.Sync() },
		"Checkpoint": func() error { return c.store.Checkpoint(context.Background()) },
	} {
		if err := write(); !errors.Is(err, ErrPoisoned) || !errors.Is(err, crashfs.ErrSync) {
			return fmt.Errorf("%s after a failed sync: %v", what, err)
		}
	}
	p, err := printOf(c.store)
	if err != nil || p != c.prints[c.acked] && p != c.prints[len(c.batches)] {
		return fmt.Errorf("read after a failed sync: %d pairs, %w", p.pairs, err)
	}
	if err := c.store.Close(); !errors.Is(err, ErrPoisoned) {
		return fmt.Errorf("close after a failed sync: %v", err)
	}
	c.store = nil
	if n := trace.Len(); n != calls {
		return fmt.Errorf("%d calls wrote to the disk after a failed sync", n-calls)
	}
	return nil
}

// restart opens the store again, and puts into the model what became of the batch that
// failed.
func (c *scenario) restart() error {
	s, err := Open(crashPath, c.options(c.fs))
	if err != nil {
		return err
	}
	c.store = s
	n, err := c.stateOf(s, c.acked, len(c.batches))
	if err != nil {
		return err
	}
	c.batches, c.prints, c.acked = c.batches[:n], c.prints[:n+1], n
	c.model = contents{}
	for _, ops := range c.batches {
		c.model.apply(ops)
	}
	if n > 0 {
		c.fs.Mark(acked(n - 1))
	}
	c.fs.Mark(issued(n - 1))
	return nil
}

// TestLostFramesBesideACheckpoint: a sync failed, and the cache holds frames that the disk has
// not. The next Open finds the root full of epochs, so it checkpoints. What a power cut between
// two slices leaves must not depend on those frames.
func TestLostFramesBesideACheckpoint(t *testing.T) {
	c := newScenario(t, crashSeed(t), func(o *Options) { mediumOptions(o); o.sliceBytes = 4 << 10 })
	trace := c.fs.Record()
	c.open()
	many := func(n uint64) (ops []wal.Op) {
		for i := range n {
			ops = append(ops, ins(uint64(len(c.batches))<<10+i, 0))
		}
		return ops
	}
	for range 10 { // many groups
		c.apply(many(300)...)
	}
	c.close()
	c.open()
	for len(c.store.state.Load().view.record.epochs) < maxEpochs-1 {
		c.apply(many(60)...)
		c.kill()
		c.open()
	}
	c.fs.FailSync(crashfs.FailLost, 0, 1)
	wantErr(t, c.try(many(400)...), crashfs.ErrSync)
	c.kill()
	from := trace.Len()
	c.open()
	trace.Stop()
	if n := c.store.metrics.commits.Load(); n < 4 || c.store.recovery.RewrittenFrames != 1 {
		t.Errorf("%d commits, and %d frames written again; want several slices and the frame that was lost", n, c.store.recovery.RewrittenFrames)
	}
	mustDo(t, c.same())
	c.close()
	images, each := 0, campaign(4*invariants.Sparse, 1)
	for image := range trace.Enumerate(crashfs.Plan{Seed: 1, From: from, PerCut: 4}).Images() {
		if image.Cut%each != 0 {
			continue
		}
		images++
		ack, issue := window(image.Marks)
		mustAt(t, c.recovered(image.FS(), ack, min(max(ack, issue), len(c.batches)), false), image)
	}
	if images == 0 {
		t.Fatal("no image was looked at")
	}
}

// TestPoisonedStoreReads: after a failed sync the file stays as it was, and everything that
// reads it still works: Check, and above all Backup.
func TestPoisonedStoreReads(t *testing.T) {
	disk := crashfs.New(crashfs.Options{FileLimit: 8 << 20})
	s := mustGet(Open(crashPath, smallOptions(disk)))(t)
	mustDo(t, s.Insert(FromUint64(1), FromUint64(1)))
	disk.FailSync(crashfs.FailKeep, 2, 1) // the superblock's
	wantErr(t, s.Checkpoint(t.Context()), ErrPoisoned)
	wantErr(t, errOf(s.Check(t.Context())), nil, "Check")
	wantErr(t, s.Backup(t.Context(), backupPath), nil, "Backup")
	wantErr(t, s.Close(), ErrPoisoned)
	s = mustGet(Open(backupPath, readOnly(smallOptions(disk))))(t)
	wantIs(t, true, "the copy has the pair")(s.Has(FromUint64(1), FromUint64(1)))
	mustDo(t, s.Close())
}
