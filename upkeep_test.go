package cidstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/vfs"
)

// Each test of this file is for a fault that was once found in the upkeep of stores.

func waitsAt(names ...string) string {
	buf := make([]byte, 1<<22)
	buf = buf[:runtime.Stack(buf, true)]
	out := ""
	for _, name := range names {
		out += fmt.Sprintf("%d in %s, ", strings.Count(string(buf), name+"("), name)
	}
	return out
}

// demotables makes the set of a key one that can be demoted.
func demotables(s *Store, key uint64) error {
	b := insertsOf(key, key+1, 6)
	b.ops = append(b.ops, deletesOf(key, key+1, 3).ops...)
	return s.Apply(b)
}

// TestUpkeepShrinkDemote: Shrink, which waits for claims with checkpointing held, ends beside
// callers of DemoteIfPossible. They waited for checkpointing while they held claims.
func TestUpkeepShrinkDemote(t *testing.T) {
	s := OpenStore(t, filepath.Join(t.TempDir(), "s.h5"), &Options{WALBytes: 64 << 10, GCInterval: time.Hour})
	// Data that are deleted later leave gaps before the log.
	for k := uint64(1000); k < 31_000; k += 300 {
		mustDo(t, s.Apply(insertsOf(k, k+300, 1)))
	}
	mustDo(t, s.exclusively(func() error { // the log lies at the end, as if it had grown there
		_, err := s.growRing(60 << 10)
		return err
	}))
	for k := uint64(1000); k < 31_000; k += 300 {
		mustDo(t, s.Apply(deletesOf(k, k+300, 0)))
	}
	mustDo(t, s.Maintain(t.Context()))

	const n = 30
	var group sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	for g := range uint64(n) {
		group.Go(func() {
			for ctx.Err() == nil {
				err := demotables(s, g)
				if err == nil {
					_, err = s.DemoteIfPossible(FromUint64(g))
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	time.Sleep(100 * time.Millisecond)
	done := make(chan error, 1)
	go func() { done <- s.Shrink(t.Context()) }()
	select {
	case err := <-done:
		t.Log(err)
	case <-time.After(15 * time.Second):
		t.Fatal("deadlock: ", waitsAt("(*Store).Shrink", "(*admission).limit", "(*Store).demote", "(*Store).makeRoom"), s.admission.claimed)
	}
	stop()
	group.Wait()
}

// TestUpkeepMakeRoomDemote is TestUpkeepShrinkDemote with a write that waits in makeRoom.
func TestUpkeepMakeRoomDemote(t *testing.T) {
	s := OpenStore(t, filepath.Join(t.TempDir(), "s.h5"), &Options{WALBytes: 64 << 10, GCInterval: time.Hour})
	const n = 16
	for g := range uint64(n) {
		mustDo(t, demotables(s, g))
	}
	mustDo(t, s.Checkpoint(t.Context()), s.Maintain(t.Context()))
	for g := range uint64(n) {
		mustDo(t, demotables(s, g))
	}
	var group sync.WaitGroup
	s.checkpointing.Lock() // a checkpoint is under way
	var others []claim     // and writers whose frames are on their way to the disk
	for {
		c := claim{64, 1}
		s.admission.mu.Lock()
		short := s.shortOf(c)
		if short == enough {
			s.admission.claimed.records += c.records
			s.admission.claimed.ops += c.ops
		}
		s.admission.mu.Unlock()
		if short != enough {
			break
		}
		others = append(others, c)
	}
	for w := range uint64(4) { // these wait for room, and so for the checkpoint
		group.Go(func() {
			wantErr(t, s.Apply(insertsOf(1000*w, 1000*w+300, 1)), nil)
		})
	}
	time.Sleep(200 * time.Millisecond)
	for _, c := range others { // now they are there
		s.release(c)
	}
	for g := range uint64(n) {
		group.Go(func() {
			wantErr(t, errOf(s.DemoteIfPossible(FromUint64(g))), nil)
		})
	}
	time.Sleep(200 * time.Millisecond)
	s.checkpointing.Unlock()
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("deadlock: ", waitsAt("(*admission).awaitRelease", "(*Store).demote", "(*Store).makeRoom"), s.admission.claimed)
	}
}

// TestUpkeepSearchPastSets: search_set is moved up when ids are used again, and must come down
// when the highest ids go. It did not, and the store that Close left could not be opened.
func TestUpkeepSearchPastSets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.h5")
	s := OpenStore(t, path, &Options{GCInterval: -1})
	put := func(from, to uint64) { mustDo(t, s.Apply(insertsOf(from, to, 5)), s.Checkpoint(t.Context())) }
	drop := func(from, to uint64) { mustDo(t, s.Apply(deletesOf(from, to, 0)), s.Checkpoint(t.Context())) }
	put(0, 64)       // ids 0 to 63
	put(64, 300)     // and up to 299
	drop(64, 200)    // of which some are unused now
	put(1000, 1100)  // and are used again: the search stands after them
	drop(200, 300)   // the highest go
	drop(10, 11)     // one in the first page
	drop(1000, 1100) // and all others but the first 64
	c := s.state.Load().view.record.sets
	t.Logf("%+v", c)
	if c.Search > c.Sets {
		t.Errorf("search_set is %d of %d", c.Search, c.Sets)
	}
	mustDo(t, s.Close(), OpenStore(t, path, nil).Close())
}

// TestUpkeepMetricsClose: Metrics beside Close.
func TestUpkeepMetricsClose(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.h5")
	for range 20 {
		s := OpenStore(t, path, &Options{WALBytes: 64 << 10, GCInterval: -1})
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for s.Metrics().Open {
				}
			})
		}
		mustDo(t, s.Insert(FromUint64(1), FromUint64(2)), s.Close())
		wg.Wait()
	}
}

// TestUpkeepShrinkBesideCollection: the snapshot of a collection in the background is no
// reason for Shrink to fail.
func TestUpkeepShrinkBesideCollection(t *testing.T) {
	s := OpenStore(t, filepath.Join(t.TempDir(), "s.h5"), &Options{WALBytes: 1 << 20, GCInterval: time.Millisecond})
	for k := range uint64(3000) {
		mustDo(t, s.Apply(insertsOf(k, k+1, 8)))
	}
	pinned := 0
	for range 20 {
		if err := s.Shrink(context.Background()); errors.Is(err, ErrSpacePinned) {
			pinned++
		} else if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	if pinned > 0 {
		t.Errorf("%d of 20 Shrinks: ErrSpacePinned, though the program has no snapshot", pinned)
	}
}

// untilCommit is done as soon as a root is committed: between two slices.
type untilCommit struct {
	context.Context
	s    *Store
	from hdf5io.Commit
}

func (c untilCommit) Err() error {
	if c.s.state.Load().view.Commit() > c.from {
		return context.Canceled
	}
	return nil
}

// TestUpkeepMaintainKilled: a store can be opened and read after a kill in Maintain between two
// slices that fold runs, with nothing pending. Slices are short, so that few keys make several.
func TestUpkeepMaintainKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.h5")
	s := OpenStore(t, path, &Options{GCInterval: -1, sliceBytes: 64 << 10})
	random := uint64(0)
	load := func(n int) {
		for range n {
			var b Batch
			for range 10_000 {
				random++
				b.Insert(FromUint64(mix64(random)), FromUint64(random))
			}
			mustDo(t, s.Apply(&b))
		}
		mustDo(t, s.Checkpoint(t.Context()))
	}
	load(7)
	load(2)                              // most of these wait in runs
	mustDo(t, s.Checkpoint(t.Context())) // and what the checkpoint has logged of itself too
	r := &s.state.Load().view.record
	waiting, _ := s.state.Load().view.buckets.Waiting()
	if waiting == 0 {
		t.Fatal("no key waits in a run")
	}
	t.Logf("%d keys, %d wait, last applied %d, end of the log %d", r.numKeys, waiting, r.lastApplied, s.logEnd())
	// The moment between two slices of foldAll:
	err := s.exclusively(func() error { return s.foldAll(untilCommit{t.Context(), s, s.state.Load().view.Commit()}) })
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	r = &s.state.Load().view.record
	t.Logf("slice through %d, last applied %d", r.sliceThrough, r.lastApplied)

	mustDo(t, OpenStore(t, path, &Options{ReadOnly: true}).Close(), OpenStore(t, killedCopy(t, path), nil).Close(), s.Close())
}

// chunksOf returns the offsets of the chunks of a dataset. Nobody has the store open.
func chunksOf(t *testing.T, path, dataset string) (at []int64) {
	t.Helper()
	s := OpenStore(t, path, &Options{ReadOnly: true})
	d := mustGet(s.state.Load().view.Dataset(dataset))(t)
	mustDo(t, d.Walk(nil, func(c hdf5io.Chunk) (bool, error) { at = append(at, int64(c.Address)); return true, nil }), s.Close())
	return at
}

// TestUpkeepDamagedSetStopsCollection: one damaged set does not keep others from being
// compacted, nor rows in the deletion log.
func TestUpkeepDamagedSetStopsCollection(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.h5")
	Unchecked(t, path, "a set is damaged")
	s := OpenStore(t, path, &Options{GCInterval: -1})
	mustDo(t, s.Apply(insertsOf(0, 100, 10)), s.Apply(deletesOf(0, 100, 1)), s.Checkpoint(t.Context()))
	v := s.state.Load().view
	hash := v.hasher.Hash(FromUint64(5))
	entry, _, err := v.buckets.Find(v.directory.Bucket(hash), hash, FromUint64(5))
	mustDo(t, err)
	id, _ := entry.Spilled()
	mustDo(t, s.Close())
	s = OpenStore(t, path, &Options{ReadOnly: true})
	var at int64
	for class := range 64 {
		if place, err := s.state.Load().view.Dataset(fmt.Sprintf("/values/class_%d", class)); err == nil {
			chunk, found, err := place.Find(id, 0)
			mustDo(t, err)
			if found {
				at = int64(chunk.Address)
			}
		}
	}
	if at == 0 {
		t.Fatal("not found")
	}
	mustDo(t, s.Close())
	flipOn(t, vfs.OS(), path, at+3, 0xff)
	s = OpenStore(t, path, &Options{GCInterval: -1})
	for range 3 {
		stats, err := s.RunGCOnce(t.Context())
		t.Logf("%+v, %v", stats, err)
	}
	if m := s.Metrics(); m.Tombstones > 1 {
		t.Errorf("%d tombstones of 100 are left, %d rows of the deletion log", m.Tombstones, m.DeletionRows)
	}
	t.Log(s.Maintain(t.Context()))
	t.Log(s.Close())
}

// TestUpkeepDamagedDeletionLog: the deletion log only says what is to be collected. A damaged
// byte there made collections, checkpoints with deletes, Close and the next Open fail.
func TestUpkeepDamagedDeletionLog(t *testing.T) {
	for _, rows := range []int{100, 3000} {
		t.Run(fmt.Sprint(rows), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s.h5")
			o := &Options{GCInterval: -1, WALBytes: 256 << 10}
			s := OpenStore(t, path, o)
			for i := 0; i < rows; i += 100 {
				var b Batch
				for k := range uint64(100) {
					b.Insert(FromUint64(k), FromUint64(uint64(i)))
					b.DeleteValue(FromUint64(k), FromUint64(uint64(i)))
				}
				mustDo(t, s.Apply(&b))
			}
			mustDo(t, s.Apply(insertsOf(0, 100, 1)), s.Close())
			at := chunksOf(t, path, "/deletion_log")
			flipOn(t, vfs.OS(), path, at[len(at)-1]+100, 0x10)

			s = OpenStore(t, path, o)
			wantErr(t, errOf(s.RunGCOnce(t.Context())), ErrCorrupt, "a collection reports damage")
			if _, err := s.RunGCOnce(t.Context()); err != nil { // the rows are gone
				t.Errorf("the next collection: %v", err)
			}
			mustDo(t, s.Delete(FromUint64(7)), s.Checkpoint(t.Context()), s.Close(), OpenStore(t, path, o).Close())
		})
	}
}

// TestUpkeepCollectionOfADamagedTree: where a leaf of a tree of values is damaged, all other keys
// can be read and written. A collection logged a compaction of that tree, and from then on every
// checkpoint and Close failed.
func TestUpkeepCollectionOfADamagedTree(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.h5")
	o := &Options{GCInterval: -1, WALBytes: 256 << 10}
	s := OpenStore(t, path, o)
	for part := range uint64(10) {
		var b Batch
		for v := range uint64(1000) {
			b.Insert(FromUint64(1), FromUint64(part*1000+v))
		}
		mustDo(t, s.Apply(&b))
	}
	var b Batch
	for v := range uint64(10) {
		b.DeleteValue(FromUint64(1), FromUint64(9_000+v))
	}
	mustDo(t, s.Apply(&b), s.Close())

	at := chunksOf(t, path, "/values/nodes")
	whole := mustGet(os.ReadFile(path))(t)
	for _, leaf := range []int{9, 40} { // the root, and the leaf with the tombstones: of others nothing is read
		t.Run(fmt.Sprint("node ", leaf), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s.h5")
			Unchecked(t, path, "a node of its tree is damaged")
			mustDo(t, os.WriteFile(path, whole, 0o600))
			flipOn(t, vfs.OS(), path, at[leaf]+100, 0xff)
			s = OpenStore(t, path, o)
			mustDo(t, s.Insert(FromUint64(2), FromUint64(2)), s.Checkpoint(t.Context())) // others are well
			t.Log(s.RunGCOnce(t.Context()))
			mustDo(t, s.Insert(FromUint64(3), FromUint64(3)), s.Checkpoint(t.Context())) // of another key
			for i := range uint64(300) {
				mustDo(t, s.Insert(FromUint64(100+i), FromUint64(3)))
			}
			mustDo(t, s.Close(), OpenStore(t, path, o).Checkpoint(t.Context()))
		})
	}
}

// TestUpkeepShrinkMetricsRace is for the race detector.
func TestUpkeepShrinkMetricsRace(t *testing.T) {
	s := OpenStore(t, filepath.Join(t.TempDir(), "s.h5"), &Options{GCInterval: -1})
	var group sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	group.Go(func() {
		for ctx.Err() == nil {
			s.Metrics()
		}
	})
	for range 20 {
		mustDo(t, s.Shrink(t.Context()))
	}
	stop()
	group.Wait()
}

// TestUpkeepForgedCounts: a counter of sets that is too high or too low ends a checkpoint in
// an error, and not in a root that nobody can open.
func TestUpkeepForgedCounts(t *testing.T) {
	for _, forged := range []uint64{1, 300} {
		path := filepath.Join(t.TempDir(), fmt.Sprint(forged, ".h5"))
		Unchecked(t, path, "a counter is forged")
		s := OpenStore(t, path, &Options{GCInterval: -1})
		mustDo(t, s.Apply(insertsOf(0, 400, 5)), s.Checkpoint(t.Context()), s.Apply(deletesOf(0, 200, 0)), s.Checkpoint(t.Context()))
		mustDo(t, s.exclusively(func() error {
			return s.change(func(m *merge) error { m.sets.Unused = forged; return nil })
		}), s.Close())
		s = OpenStore(t, path, &Options{GCInterval: -1})
		mustDo(t, s.Apply(deletesOf(0, 400, 0)))
		wantErr(t, s.Checkpoint(t.Context()), ErrCorrupt, fmt.Sprintf("unused sets forged to %d", forged))
		wantErr(t, s.Close(), ErrCorrupt, fmt.Sprintf("unused sets forged to %d: close", forged))
		s = OpenStore(t, path, &Options{ReadOnly: true})
		wantIs(t, 0, "values: the log has the delete")(s.Count(FromUint64(300)))
		mustDo(t, s.Close())
	}
}
