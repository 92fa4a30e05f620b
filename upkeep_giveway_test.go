package cidstore

import (
	"context"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/internal/errfs"
	"github.com/cidstore/cidstore/vfs"
)

// commitCounts counts, for each commit, how many groups of the log were synced before it.
type commitCounts struct {
	mu      sync.Mutex // guards the fields below
	groups  int
	commits []int
}

// synced counts a write: each commit writes the superblock, at 0, and what lies after the
// slots is the log.
func (c *commitCounts) synced(_ vfs.File, off int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case off == 0:
		c.commits = append(c.commits, c.groups)
	case off >= 3*4096:
		c.groups++
	}
}

// between returns how many groups were synced between each two commits since the last call.
func (c *commitCounts) between() (groups []int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := 1; i < len(c.commits); i++ {
		groups = append(groups, c.commits[i]-c.commits[i-1])
	}
	c.commits = c.commits[len(c.commits)-1:]
	return groups
}

// upkept is a store with garbage whose upkeep waits in steps that the test takes.
type upkept struct {
	*Store
	*commitCounts
	t     *testing.T
	steps int
	each  func(ctx context.Context) // what happens in a step
	next  uint64
}

func newUpkept(t *testing.T, tune func(o *Options)) *upkept {
	t.Helper()
	u := &upkept{commitCounts: new(commitCounts), t: t}
	hooks := errfs.Hooks{Synced: u.synced}
	o := &Options{GCInterval: -1, blockBytes: 512, FS: hooks.On(crashfs.New(crashfs.Options{FileLimit: 64 << 20}))}
	if tune != nil {
		tune(o)
	}
	u.Store, _ = deletedSets(t, o, 97) // three values are left: Maintain moves them into the entries
	u.upkeep.step = func(ctx context.Context) {
		u.steps++
		if u.each != nil {
			u.each(ctx)
		}
	}
	return u
}

// write makes so many inserts, each a group of its own.
func (u *upkept) write(n int) {
	u.t.Helper()
	for range n {
		u.next++
		mustDo(u.t, u.Insert(FromUint64(1<<32+u.next), FromUint64(u.next)))
	}
}

// kinds of upkeep that a caller asks for.
func upkeepKinds(s *Store) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"collect":  func(ctx context.Context) error { _, err := s.RunGCOnce(ctx); return err },
		"maintain": s.Maintain,
		"migrate":  s.MigrateDirectory,
		"scrub":    func(ctx context.Context) error { _, err := s.Scrub(ctx); return err },
	}
}

// TestUpkeepGivesWay: beside a writer, so many groups of the log pass between two commits
// of upkeep that few of them meet one.
func TestUpkeepGivesWay(t *testing.T) {
	for name := range upkeepKinds(nil) {
		t.Run(name, func(t *testing.T) {
			u := newUpkept(t, func(o *Options) { o.sliceBytes = 8 << 10 })
			u.each = func(context.Context) { u.write(25) }
			u.write(1)
			mustDo(t, u.Checkpoint(t.Context()))
			u.between()
			u.write(1)
			mustDo(t, upkeepKinds(u.Store)[name](t.Context()))
			groups := u.between()
			if len(groups) == 0 || slices.Min(groups) < wayGroups {
				t.Errorf("%d groups of the log before each commit, want at least %d", groups, wayGroups)
			}
			t.Logf("%d groups of the log before each commit, in %d steps", groups, u.steps)
			mustCheck(t, u.Store)
			mustDo(t, u.Close())
		})
	}
}

// TestUpkeepWithoutWriters: upkeep waits only once to find out that nobody writes.
func TestUpkeepWithoutWriters(t *testing.T) {
	u := newUpkept(t, nil)
	_, err := u.RunGCOnce(t.Context())
	commits := len(u.between())
	mustDo(t, err, u.Maintain(t.Context()))
	commits += len(u.between())
	if most := quietSteps * (commits + 3); u.steps > most {
		t.Errorf("%d steps for %d commits, want at most %d", u.steps, commits, most)
	}
	u.steps = 0
	for _, f := range upkeepKinds(u.Store) {
		mustDo(t, f(t.Context()))
	}
	if u.steps > quietSteps {
		t.Errorf("%d steps, though nobody wrote", u.steps)
	}
	mustCheck(t, u.Store)
	mustDo(t, u.Close())
}

// TestUpkeepEndsBesideWriters: upkeep ends although writers never pause, or one waits for a
// disk that never answers.
func TestUpkeepEndsBesideWriters(t *testing.T) {
	for _, stuck := range []bool{false, true} {
		u := newUpkept(t, nil)
		claimed := claim{records: 1, ops: 1}
		if stuck && !u.claim(claimed) {
			t.Fatal("no room")
		}
		u.each = func(context.Context) {
			if !stuck {
				u.write(1)
			}
		}
		u.between()
		stats, err := u.RunGCOnce(t.Context())
		if err != nil || stats.Compacted != 40 {
			t.Errorf("%+v, %v, want 40 compacted", stats, err)
		}
		commits := len(u.between())
		if commits != 2 || u.steps != 2*mostSteps {
			t.Errorf("%d steps for %d commits, want %d for 2", u.steps, commits, 2*mostSteps)
		}
		if stuck {
			u.release(claimed)
		}
		mustCheck(t, u.Store)
		mustDo(t, u.Close())
	}
}

// TestUpkeepCancelled: upkeep whose context ends while it gives way returns at once and
// commits nothing more; the next one does what is left.
func TestUpkeepCancelled(t *testing.T) {
	for name := range upkeepKinds(nil) {
		u := newUpkept(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		u.each = func(context.Context) { cancel() }
		u.between()
		err := upkeepKinds(u.Store)[name](ctx)
		if !errors.Is(err, context.Canceled) || u.steps != 1 || len(u.between()) > 0 {
			t.Errorf("%s: %v after %d steps, want a cancellation after one", name, err, u.steps)
		}
		u.each = nil
		mustDo(t, upkeepKinds(u.Store)[name](t.Context()))
		mustCheck(t, u.Store)
		mustDo(t, u.Close())
	}
}

// TestUpkeepBesideClose: Close ends a wait of upkeep, and the upkeep with it.
func TestUpkeepBesideClose(t *testing.T) {
	for name := range upkeepKinds(nil) {
		u := newUpkept(t, nil)
		closed := make(chan error)
		u.each = func(ctx context.Context) {
			if u.steps == 1 {
				go func() { closed <- u.Close() }()
				<-ctx.Done()
			}
		}
		err := upkeepKinds(u.Store)[name](t.Context())
		if !errors.Is(err, ErrClosed) || u.steps != 1 {
			t.Errorf("%s: %v after %d steps, want ErrClosed after one", name, err, u.steps)
		}
		mustDo(t, <-closed)
		s := OpenStore(t, u.path, &Options{FS: u.opts.FS})
		mustCheck(t, s)
		mustDo(t, s.Close())
	}
}

// TestUpkeepWanted: upkeep that holds the lock goes on as soon as somebody waits for it.
func TestUpkeepWanted(t *testing.T) {
	u := newUpkept(t, nil)
	done := make(chan error)
	u.each = func(context.Context) {
		if u.steps == 1 {
			go func() { done <- u.Checkpoint(t.Context()) }()
			for !u.checkpointing.wanted() {
				time.Sleep(time.Millisecond)
			}
		}
	}
	mustDo(t, u.MigrateDirectory(t.Context()), <-done)
	if u.steps != 1 || u.checkpointing.wanted() {
		t.Errorf("%d steps, want one", u.steps)
	}
	mustCheck(t, u.Store)
	mustDo(t, u.Close())
}

// TestUpkeepUrgent: upkeep does not wait when the log becomes full, nor when writers do not
// wait for syncs.
func TestUpkeepUrgent(t *testing.T) {
	u := newUpkept(t, func(o *Options) { o.WALBytes = 1 << 20 })
	u.each = func(context.Context) {
		var b Batch
		for u.pendingShare(u.state.Load()) <= urgentShare { // one group each
			b.Reset()
			for range 200 {
				u.next++
				b.Insert(FromUint64(1<<32+u.next), E{})
			}
			if _, err := u.append(b.ops); err != nil {
				t.Error(err)
				return
			}
		}
	}
	mustDo(t, u.MigrateDirectory(t.Context()))
	if u.steps != 1 {
		t.Errorf("%d steps until the log was half full, want one", u.steps)
	}
	mustCheck(t, u.Store)
	mustDo(t, u.Close())

	u = newUpkept(t, func(o *Options) { o.Durability, o.FlushInterval = Async, time.Hour })
	u.each = func(context.Context) { u.write(1) }
	for _, f := range upkeepKinds(u.Store) {
		u.write(1)
		mustDo(t, f(t.Context()))
	}
	if u.steps != 0 {
		t.Errorf("%d steps with Async, want none", u.steps)
	}
	mustCheck(t, u.Store)
	mustDo(t, u.Close())
}

// TestUpkeepOnAFullDisk: on a full disk upkeep does not wait. What it frees is needed.
func TestUpkeepOnAFullDisk(t *testing.T) {
	for _, seed := range []byte{1, 134} { // with 134, no gap is as long as 16 KiB
		upkeepOnAFullDisk(t, seed)
	}
}

func upkeepOnAFullDisk(t *testing.T, seed byte) {
	disk := crashfs.New(crashfs.Options{FileLimit: 64 << 20})
	disk.SetCapacity(1 << 20)
	o := &Options{FS: disk, GCInterval: -1, Rand: rand.NewChaCha8([32]byte{seed})}
	mediumOptions(o)
	s := OpenStore(t, crashPath, o)
	stored, err := uint64(0), error(nil)
	for b := new(Batch); err == nil; {
		b.Reset()
		for range 64 {
			stored++
			b.Insert(FromUint64(stored), FromUint64(stored))
		}
		err = s.Apply(b)
	}
	if !errors.Is(err, ErrNoSpace) {
		t.Fatal(err)
	}
	disk.SetCapacity(use(t, disk)) // else a delete may find room for a short growth
	s.upkeep.step = func(context.Context) {
		if s.file.Full() {
			t.Error("a step on a full disk")
		}
	}
	for _, name := range []string{"collect", "scrub", "migrate", "maintain"} { // the last one makes room
		mustDo(t, s.Delete(FromUint64(stored-100)))
		stored--
		before, full := s.Metrics().Commits, s.file.Full()
		if err := upkeepKinds(s)[name](t.Context()); err != nil {
			t.Errorf("seed %d, %s: %v; %+v", seed, name, err, s.file.Space())
		}
		if commits := s.Metrics().Commits - before; commits == 0 || !full {
			t.Errorf("seed %d, %s: %d commits, the disk full before it: %t", seed, name, commits, full)
		}
	}
	mustCheck(t, s)
}

// TestBackgroundGivesWay: a checkpoint in the background gives way too, and Close does not
// wait for that.
func TestBackgroundGivesWay(t *testing.T) {
	s := OpenStore(t, filepath.Join(t.TempDir(), "s.h5"), &Options{GCInterval: time.Hour})
	stepped := make(chan struct{}, 1)
	s.upkeep.step = func(ctx context.Context) {
		select {
		case stepped <- struct{}{}:
		default:
		}
		<-s.life.Done()
	}
	var b Batch
	for n := uint64(0); !s.checkpointDue(); n++ {
		b.Reset()
		for k := range uint64(1000) { // so that far fewer groups than wayGroups are enough
			b.Insert(FromUint64(n), FromUint64(k))
		}
		mustDo(t, s.Apply(&b))
	}
	<-stepped
	mustDo(t, s.Close())
	s = OpenStore(t, s.path, nil)
	mustCheck(t, s)
}

// TestHandledRows: the rows that a collection has handled go with the next commit, and no
// collection handles them again.
func TestHandledRows(t *testing.T) {
	s, tombstones := deletedSets(t, &Options{GCInterval: -1}, 30)
	mustDo(t, s.Checkpoint(t.Context()))
	before := s.Metrics().Commits
	for range 2 {
		mustDo(t, s.collectInBackground(t.Context()))
		want := GCStats{Deletions: tombstones, Compacted: 40, Tombstones: tombstones}
		if got := s.Metrics().Garbage; got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	if n := s.Metrics().Commits - before; n != 0 || s.state.Load().view.record.numDeletions != tombstones {
		t.Errorf("%d commits, want none: a checkpoint has to come", n)
	}
	mustDo(t, s.DeleteValue(FromUint64(3), FromUint64(50)), s.Checkpoint(t.Context()))
	r := &s.state.Load().view.record
	if r.numDeletions != 1 || s.handledRows != 0 {
		t.Errorf("%d rows, %d of them handled, want one that is not", r.numDeletions, s.handledRows)
	}
	mustDo(t, errOf(s.RunGCOnce(t.Context())), s.Delete(FromUint64(4)), s.Checkpoint(t.Context()), s.collectInBackground(t.Context()))
	if r = &s.state.Load().view.record; r.numDeletions != 0 {
		t.Errorf("%d rows, want none: no checkpoint has to come", r.numDeletions)
	}
	mustCheck(t, s)
}
