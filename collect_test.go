package cidstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cidstore/cidstore/gc"
	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/internal/errfs"
	"github.com/cidstore/cidstore/wal"
)

// deletedSets opens a store with 40 keys of 100 values, of which it deletes n each, and
// returns how many tombstones that leaves.
func deletedSets(t *testing.T, o *Options, n uint64) (s *Store, tombstones uint64) {
	t.Helper()
	s = OpenStore(t, filepath.Join(t.TempDir(), "s.h5"), o)
	mustDo(t, s.Apply(insertsOf(0, 40, 100)), s.Checkpoint(t.Context()))
	if n > 0 {
		mustDo(t, s.Apply(deletesOf(0, 40, n)))
	}
	return s, 40 * n
}

// TestCollection: a collection drops the tombstones and the rows of the deletion log, and
// leaves every value; the next one has nothing to do.
func TestCollection(t *testing.T) {
	s, tombstones := deletedSets(t, &Options{GCInterval: -1}, 30)
	stats, err := s.RunGCOnce(t.Context())
	if want := (GCStats{Deletions: tombstones, Compacted: 40, Tombstones: tombstones}); err != nil || stats != want {
		t.Errorf("%+v, %v, want %+v", stats, err, want)
	}
	r := &s.state.Load().view.record
	if r.numTombstones != 0 || r.numDeletions != 0 || r.numValues != 40*70 {
		t.Errorf("%d tombstones, %d rows, %d values, want 0, 0, %d", r.numTombstones, r.numDeletions, r.numValues, 40*70)
	}
	if m := s.Metrics(); m.GCRuns != 1 || m.CompactionEvents != 40 {
		t.Errorf("%d runs, %d compactions counted, want 1 and 40", m.GCRuns, m.CompactionEvents)
	}
	mustCheck(t, s)
	if stats, err := s.RunGCOnce(t.Context()); err != nil || stats != (GCStats{}) {
		t.Errorf("again: %+v, %v", stats, err)
	}
	mustDo(t, s.Close())
	wantErr(t, errOf(s.RunGCOnce(t.Context())), ErrClosed, "of a closed store")
}

// TestCollectionOfPendingDeletes: what is deleted, and what is inserted again, after the
// checkpoint, whose rows a collection handles, counts too.
func TestCollectionOfPendingDeletes(t *testing.T) {
	s, tombstones := deletedSets(t, &Options{GCInterval: -1}, 30)
	mustDo(t, s.Checkpoint(t.Context()))
	for v := range uint64(30) {
		mustDo(t, s.Insert(FromUint64(0), FromUint64(v))) // revives all that key 0 has lost
	}
	mustDo(t, s.DeleteValue(FromUint64(1), FromUint64(99)))
	stats, err := s.collect(t.Context(), collection{})
	if want := (GCStats{Deletions: tombstones, Compacted: 39, Tombstones: tombstones - 30 + 1}); err != nil || stats != want {
		t.Errorf("%+v, %v, want %+v", stats, err, want)
	}
	mustDo(t, s.Checkpoint(t.Context()))
	for k, want := range []int{100, 69, 70} {
		key := FromUint64(uint64(k))
		n, err := s.Count(key)
		tombs, err2 := s.TombstoneCount(key)
		mustDo(t, err, err2)
		if n != want || tombs != 0 {
			t.Errorf("key %d: %d values and %d tombstones, want %d and none", k, n, tombs, want)
		}
	}
	mustCheck(t, s)
}

// TestCollectionBesideCheckpoints: rows that come, and rows that checkpoints drop, while a
// collection reads do not make it drop what it has not handled.
func TestCollectionBesideCheckpoints(t *testing.T) {
	s, _ := deletedSets(t, &Options{GCInterval: -1}, 30)
	mustDo(t, s.Checkpoint(t.Context()))
	late := func(v uint64) { // a row that the collection does not know
		mustDo(t, s.DeleteValue(FromUint64(7), FromUint64(v)), s.Checkpoint(t.Context()))
	}
	c := collection{store: s, asked: map[E]wal.Opcode{}, rows: 1200}
	var err error
	c.view, err = s.Snapshot()
	mustDo(t, err, c.deletions(t.Context()))
	late(50)
	mustDo(t, c.submit(t.Context()))
	late(51)
	if n := s.state.Load().view.record.numDeletions; n != 1202 {
		t.Fatalf("%d rows, want 1202", n)
	}
	mustDo(t, s.exclusively(func() error { // as a checkpoint does whose log has become too long
		return s.change(func(m *merge) error { m.handled = 1000; return nil })
	}))
	mustDo(t, c.finish(t.Context()), c.commit(t.Context()))
	if n := s.state.Load().view.record.numDeletions; n != 2 || c.stats.Deletions != 200 {
		t.Errorf("%d rows left, %d handled, want 2 and 200", n, c.stats.Deletions)
	}
	if n, err := s.TombstoneCount(FromUint64(7)); err != nil || n != 1 { // of 51: 50 went before
		t.Errorf("%d tombstones, %v, want 1", n, err)
	}
	mustCheck(t, s)
}

// TestTombstonesWithoutRows: sets whose rows were dropped because the log was long are
// found by the scan, a part of the store at a time.
func TestTombstonesWithoutRows(t *testing.T) {
	s, tombstones := deletedSets(t, &Options{GCInterval: -1}, 30)
	mustDo(t, s.Checkpoint(t.Context()))
	mustDo(t, s.exclusively(func() error {
		return s.change(func(m *merge) error { m.handled = tombstones; return nil })
	}))
	total := GCStats{}
	for range 4 {
		stats := mustGet(s.collect(t.Context(), collection{sets: 10}))(t)
		if stats.Compacted != 10 || stats.Deletions != 0 {
			t.Errorf("a quarter: %+v", stats)
		}
		total.Tombstones += stats.Tombstones
	}
	if total.Tombstones != tombstones {
		t.Errorf("%d tombstones, want %d", total.Tombstones, tombstones)
	}
}

// orphan saves a set that no key names.
func (m *merge) orphan(key E, values uint64) (err error) {
	set := m.sets.Empty(key)
	for v := range values {
		err = errors.Join(err, set.Add(FromUint64(v)))
	}
	_, saved := m.sets.Save(set)
	return errors.Join(err, saved)
}

// TestManyRowsOfAKey: a collection looks at the set of a key once, however many values it
// has lost: to look at a set without tombstones again for each row would cost its pending
// operations each time.
func TestManyRowsOfAKey(t *testing.T) {
	reads := 0
	hooks := errfs.Hooks{Read: func(int64, int) { reads++ }}
	o := &Options{GCInterval: -1, NoMmap: true, FS: hooks.On(crashfs.New(crashfs.Options{FileLimit: 16 << 20}))}
	s := OpenStore(t, crashPath, o)
	const rows = 1000
	mustDo(t, s.Apply(insertsOf(1, 2, 2*rows)), s.Checkpoint(t.Context()), s.Apply(deletesOf(1, 2, rows)), s.Compact(FromUint64(1)), s.Checkpoint(t.Context()))
	reads = 0
	stats, err := s.collect(t.Context(), collection{})
	if want := (GCStats{Deletions: rows}); err != nil || stats != want || reads > rows/10 {
		t.Errorf("%+v, %v, %d reads, want %+v and few reads", stats, err, reads, want)
	}
}

// TestScanOfShortLives: the scan of a life does not begin where that of the life before did,
// so lives that look at a part of the sets each find all tombstones.
func TestScanOfShortLives(t *testing.T) {
	o := &Options{GCInterval: -1, FS: crashfs.New(crashfs.Options{FileLimit: 16 << 20})}
	s, tombstones := deletedSets(t, o, 30)
	mustDo(t, s.Checkpoint(t.Context()), s.exclusively(func() error {
		return s.change(func(m *merge) error { m.handled = tombstones; return nil })
	}))
	lives := 0
	for ; s.Metrics().Tombstones > 0 && lives < 50; lives++ {
		mustDo(t, s.Close())
		s = OpenStore(t, s.path, o)
		mustDo(t, errOf(s.collect(t.Context(), collection{sets: 20})), s.Checkpoint(t.Context()))
	}
	if n := s.Metrics().Tombstones; n > 0 {
		t.Errorf("%d tombstones after %d lives", n, lives)
	}
}

// TestScanBesideAnother: a scan that Maintain makes in parts reaches all sets, though the
// background makes one between two parts.
func TestScanBesideAnother(t *testing.T) {
	s, _ := deletedSets(t, &Options{GCInterval: -1}, 97)
	mustDo(t, s.Checkpoint(t.Context()))
	var next uint64
	for _, c := range []collection{{sets: 20, next: &next, demote: true}, {sets: 20}, {sets: 20, next: &next, demote: true}} {
		mustDo(t, errOf(s.collect(t.Context(), c)))
	}
	mustDo(t, s.Checkpoint(t.Context()))
	if n := s.Metrics().DemotionEvents; n != 40 {
		t.Errorf("%d sets demoted, want 40", n)
	}
}

// TestDeletionLogOfOneCommit: a commit of more deletions than the deletion log may hold adds
// no more than that, and the next collection finds what the others have left.
func TestDeletionLogOfOneCommit(t *testing.T) {
	s, tombstones := deletedSets(t, &Options{GCInterval: -1}, 30)
	deletions := make([]gc.Record, leastDeletions+1000)
	for i := range deletions {
		deletions[i] = gc.Record{Key: FromUint64(1 << 40), Value: FromUint64(uint64(i))}
	}
	mustDo(t, s.Checkpoint(t.Context()), s.exclusively(func() error {
		return s.change(func(m *merge) error { m.deletions = deletions; return nil })
	}))
	if rows := s.Metrics().DeletionRows; rows != leastDeletions {
		t.Errorf("%d rows, want %d", rows, leastDeletions)
	}
	want := GCStats{Deletions: leastDeletions, Compacted: 40, Tombstones: tombstones}
	if stats, err := s.RunGCOnce(t.Context()); err != nil || stats != want {
		t.Errorf("%+v, %v, want %+v", stats, err, want)
	}
}

// TestOrphans: a set that no key names is freed with all that it has, once.
func TestOrphans(t *testing.T) {
	for _, values := range []uint64{5, 3000} { // a row, a tree
		s, _ := deletedSets(t, &Options{GCInterval: -1}, 0)
		before := s.state.Load().view.record
		mustDo(t, s.exclusively(func() error {
			return s.change(func(m *merge) error { return m.orphan(FromString("nobody"), values) })
		}))
		if _, err := s.Check(t.Context()); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("a set that no key names: %v", err)
		}
		stats, err := s.RunGCOnce(t.Context())
		if err != nil || stats != (GCStats{Orphans: 1}) {
			t.Errorf("%+v, %v, want one orphan", stats, err)
		}
		mustCheck(t, s)
		after := s.state.Load().view.record
		if after.numValues != before.numValues || after.sets.Sets-after.sets.Unused != 40 {
			t.Errorf("%d values, %+v", after.numValues, after.sets)
		}
		mustDo(t, s.Close())
	}
}

// TestOrphansCancelled: orphans are freed a commit each, and a collection whose context is
// done by then leaves the others to the next one.
func TestOrphansCancelled(t *testing.T) {
	s, _ := deletedSets(t, &Options{GCInterval: -1}, 0)
	const orphans = 20
	mustDo(t, s.exclusively(func() error {
		return s.change(func(m *merge) (err error) {
			for k := range uint64(orphans) {
				err = errors.Join(err, m.orphan(FromUint64(1<<32+k), 5))
			}
			return err
		})
	}))
	stats, err := s.collect(untilCommit{t.Context(), s, s.state.Load().view.Commit()}, collection{sets: scannedSets})
	if !errors.Is(err, context.Canceled) || stats.Orphans != 1 {
		t.Errorf("%+v, %v, want one orphan", stats, err)
	}
	if stats, err := s.RunGCOnce(t.Context()); err != nil || stats.Orphans != orphans-1 {
		t.Errorf("%+v, %v, want the others", stats, err)
	}
	mustCheck(t, s)
}

// TestCollectionCancelled: a collection whose context is done has no effect, or a whole
// step's, and says so; one of a store that is being closed returns ErrClosed, and Close
// does not wait for the rest of it.
func TestCollectionCancelled(t *testing.T) {
	s, tombstones := deletedSets(t, &Options{GCInterval: -1}, 30)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantErr(t, errOf(s.RunGCOnce(ctx)), context.Canceled, "cancelled")
	wantErr(t, s.Maintain(ctx), context.Canceled, "maintain, cancelled")
	mustDo(t, s.Checkpoint(t.Context()))
	if r := &s.state.Load().view.record; r.numTombstones != tombstones || r.numDeletions != tombstones {
		t.Errorf("%d tombstones, %d rows, want %d", r.numTombstones, r.numDeletions, tombstones)
	}
	done := make(chan error)
	for range 3 {
		go func() { _, err := s.RunGCOnce(t.Context()); done <- err }()
		go func() { done <- s.Maintain(t.Context()) }()
	}
	mustDo(t, s.Close())
	for range 6 {
		if err := <-done; err != nil && !errors.Is(err, ErrClosed) {
			t.Errorf("beside Close: %v", err)
		}
	}
	reader := OpenStore(t, s.path, &Options{ReadOnly: true})
	_, err := reader.RunGCOnce(t.Context())
	for _, err := range []error{err, reader.Maintain(t.Context()), reader.MigrateDirectory(t.Context())} {
		wantErr(t, err, ErrReadOnly, "read-only")
	}
}

// TestBackgroundCollects: tombstones go by themselves, at the interval; and when the
// deletion log is long, before it.
func TestBackgroundCollects(t *testing.T) {
	until := func(s *Store) {
		t.Helper()
		for range 2000 {
			if s.Metrics().GCRuns > 0 {
				mustDo(t, s.Checkpoint(t.Context()))
				if r := &s.state.Load().view.record; r.numTombstones == 0 && r.numDeletions == 0 {
					mustCheck(t, s)
					mustDo(t, s.Close())
					return
				}
			}
			time.Sleep(5 * time.Millisecond)
		}
		t.Fatal("no collection came")
	}
	s, _ := deletedSets(t, &Options{GCInterval: 20 * time.Millisecond}, 30)
	mustDo(t, s.Checkpoint(t.Context()))
	until(s)

	s, _ = deletedSets(t, &Options{GCInterval: time.Hour}, 0)
	for _, b := range []*Batch{insertsOf(100, 101, leastDeletions/2+1), deletesOf(100, 101, leastDeletions/2+1)} {
		mustDo(t, s.Apply(b), s.Checkpoint(t.Context()))
	}
	until(s)
}

// TestMaintain: after most keys were deleted, what is left takes the room that a store
// made of it alone takes; a second call changes nothing.
func TestMaintain(t *testing.T) {
	dir := t.TempDir()
	fill := func(name string, each func(b *Batch)) *Store {
		s := OpenStore(t, filepath.Join(dir, name), &Options{GCInterval: -1})
		var b Batch
		each(&b)
		mustDo(t, s.Apply(&b))
		return s
	}
	const keys, part = 100_000, 20    // one in part is left
	values := func(k uint64) uint64 { // and has so many values, after as many more
		if k%100 == 0 {
			return 9
		}
		return 1
	}
	s := fill("s.h5", func(b *Batch) {
		for k := range uint64(keys) {
			for v := range 2 * values(k) {
				b.Insert(FromUint64(k), FromUint64(v))
			}
		}
	})
	model := contents{}
	var b Batch
	for k := range uint64(keys) {
		if k%part != 0 {
			b.Delete(FromUint64(k))
			continue
		}
		for v := range values(k) {
			b.DeleteValue(FromUint64(k), FromUint64(values(k)+v))
			model.add(FromUint64(k), FromUint64(v))
		}
	}
	mustDo(t, s.Checkpoint(t.Context()), s.Apply(&b), s.Maintain(t.Context()))
	mustHold(t, s, model)
	f := mustGet(s.Figures(t.Context()))(t)
	if f.Runs != 0 || f.Tombstones != 0 || f.WaitingEntries != 0 || f.SpilledSets != keys/100 {
		t.Errorf("%+v: want no runs, no tombstones and %d sets", f, keys/100)
	}
	mustDo(t, s.Checkpoint(t.Context())) // of the log's summary of what was done
	before := s.Metrics().Commits
	mustDo(t, s.Maintain(t.Context()))
	if n := s.Metrics().Commits - before; n > 0 {
		t.Errorf("%d commits that change nothing", n)
	}
	mustDo(t, s.Close())

	fresh := fill("fresh.h5", func(b *Batch) {
		for k, set := range model {
			for v := range set {
				b.Insert(k, v)
			}
		}
	})
	mustDo(t, fresh.Maintain(t.Context()), fresh.Close())
	var sizes [2]int64
	for i, name := range []string{"s.h5", "fresh.h5"} {
		sizes[i] = mustGet(os.Stat(filepath.Join(dir, name)))(t).Size()
	}
	t.Logf("%d bytes, a fresh store %d", sizes[0], sizes[1])
	if sizes[0] > sizes[1]*13/10+1<<20 {
		t.Errorf("%d bytes after Maintain and Close, a fresh store has %d", sizes[0], sizes[1])
	}
}

// TestMigrateDirectory: a directory in a form that its size does not ask for, as another
// version's limits left it, is brought into that form, down and up, and every key is found.
func TestMigrateDirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.h5")
	limits := []struct {
		attribute, dataset int
		want               DirectoryMode
	}{{0, 0, "attribute"}, {4, 0, "dataset"}, {4, 8, "sharded"}, {4, 0, "dataset"}, {0, 0, "attribute"}}
	model := contents{}
	for i, l := range limits {
		t.Run(fmt.Sprint(i, l.want), func(t *testing.T) {
			o := &Options{SplitThreshold: 8, GCInterval: -1}
			o.directory.Attribute, o.directory.Dataset, o.directory.Shard = l.attribute, l.dataset, 8
			s := OpenStore(t, path, o)
			if i == 0 {
				b := insertsOf(0, 2000, 1)
				model.apply(b.ops)
				mustDo(t, s.Apply(b))
			}
			for range 2 {
				mustDo(t, s.MigrateDirectory(t.Context()))
				if got := s.DirectoryMode(); got != l.want {
					t.Errorf("the directory is %q, want %q", got, l.want)
				}
				mustHold(t, s, model)
			}
		})
	}
}

// TestMaintainSpilled: what deleted sets leave, their states included, is given
// back, and the sets that are left are found under their new ids.
func TestMaintainSpilled(t *testing.T) {
	const keys, part = 20_000, 20
	dir := t.TempDir()
	size := func(name string, delete bool) int64 {
		s := OpenStore(t, filepath.Join(dir, name), &Options{GCInterval: -1})
		model := contents{}
		apply := func(b *Batch) { t.Helper(); model.put(t, s, b) }
		var b Batch
		for k := uint64(0); k < keys; k++ {
			if k%part == 0 || delete {
				for v := range uint64(8) {
					b.Insert(FromUint64(k), FromUint64(v))
				}
			}
			if b.Len() > 10_000 {
				apply(&b)
			}
		}
		apply(&b)
		for k := range uint64(keys) {
			if delete && k%part != 0 {
				b.Delete(FromUint64(k))
			}
		}
		apply(&b)
		mustDo(t, s.Maintain(t.Context()))
		mustHold(t, s, model)
		if c := s.state.Load().view.record.sets; c.Unused > c.Sets/renumberShare+leastUnused {
			t.Errorf("%d of %d set ids are unused", c.Unused, c.Sets)
		}
		mustDo(t, s.Insert(FromUint64(1), E{}), s.Delete(FromUint64(1)), s.Close())
		s = OpenStore(t, s.path, nil)
		mustHold(t, s, model)
		mustDo(t, s.Close())
		return mustGet(os.Stat(s.path))(t).Size()
	}
	fresh, after := size("fresh.h5", false), size("s.h5", true)
	t.Logf("%d bytes, a fresh store %d", after, fresh)
	if after > fresh*13/10+1<<20 {
		t.Errorf("%d bytes after Maintain and Close, a fresh store has %d", after, fresh)
	}
}

// TestTimesOfDeletions: the deletion log says when a value was deleted, not when
// a checkpoint noticed: of inline sets, rows and trees, and of operations that were
// replayed after a kill, or after two, the first of which logged them again.
func TestTimesOfDeletions(t *testing.T) {
	for kills := range 3 {
		t.Run(fmt.Sprint("kills ", kills), func(t *testing.T) { timesOfDeletions(t, kills) })
	}
}

func timesOfDeletions(t *testing.T, kills int) {
	now := int64(1000)
	o := &Options{GCInterval: -1, Clock: func() time.Time { return time.Unix(now, 0) }}
	s := OpenStore(t, filepath.Join(t.TempDir(), "s.h5"), o)
	sizes := []int{1, 3, 60, 5000}
	var b Batch
	for key, n := range sizes {
		for i := range n {
			b.Insert(E{High: 1, Low: uint64(key)}, E{Low: uint64(i)})
			b.Insert(E{High: 2, Low: uint64(key)}, E{Low: uint64(i)})
		}
	}
	mustDo(t, s.Apply(&b), s.Checkpoint(t.Context()))

	want := map[gc.Record]bool{}
	deleteAll := func(value int) {
		now += 1000
		for key, n := range sizes {
			if value < n {
				mustDo(t, s.DeleteValue(E{High: 1, Low: uint64(key)}, E{Low: uint64(value)}))
				want[gc.Record{Key: E{High: 1, Low: uint64(key)}, Value: E{Low: uint64(value)}, Timestamp: float64(now)}] = true
			}
		}
	}
	deleteAll(0)
	deleteAll(2)
	now += 1000
	for key := range sizes {
		mustDo(t, s.Delete(E{High: 2, Low: uint64(key)}))
		want[gc.Record{Key: E{High: 2, Low: uint64(key)}, Timestamp: float64(now), Whole: true}] = true
	}
	deleteAll(4000)
	for kill := range kills {
		now += 100_000
		s = OpenStore(t, killedCopy(t, s.path), o)
		if kill == 0 && s.Recovery().RewrittenFrames == 0 {
			t.Error("no frame was logged again")
		}
	}
	now = 1_000_000
	mustDo(t, s.Checkpoint(t.Context()))
	v := s.state.Load().view
	mustDo(t, gc.Open(v.View, v.record.numDeletions).Scan(func(i uint64, r gc.Record) bool {
		if !want[r] {
			t.Errorf("row %d: %+v", i, r)
		}
		delete(want, r)
		return true
	}))
	for r := range want {
		t.Errorf("missing: %+v", r)
	}
}

// killedCopy is a copy of the file of an open store: what kill -9 would leave of it.
func killedCopy(t *testing.T, path string) (copied string) {
	t.Helper()
	data := mustGet(os.ReadFile(path))(t)
	copied = filepath.Join(t.TempDir(), "killed.h5")
	mustDo(t, os.WriteFile(copied, data, 0o600))
	return copied
}
