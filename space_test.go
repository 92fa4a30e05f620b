package cidstore

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/vfs"
)

// spaceOf is Space, whose parts make up the file.
func spaceOf(t *testing.T, s *Store) Space {
	t.Helper()
	p := mustGet(s.Space())(t)
	if sum := p.Live + p.Log + p.Free + p.Limbo + p.Pinned; sum != p.File || p.Live <= 0 || p.Log <= 0 {
		t.Fatalf("%+v: a sum of %d", p, sum)
	}
	return p
}

// rounds makes so many commits, each of which frees what the one before it made.
func rounds(t *testing.T, s *Store, n int) {
	t.Helper()
	for i := range n {
		var b Batch
		for k := range uint64(500) {
			b.Insert(FromUint64(k), FromUint64(uint64(i)))
		}
		mustDo(t, s.Apply(&b), s.Checkpoint(t.Context()))
	}
}

// TestSpace: of a writer, of a reader beside it, and of a reader when the writer is
// gone; with nobody, a snapshot, and another open file that holds an old root.
func TestSpace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.h5")
	now := time.Unix(1_700_000_000, 0)
	options := func(readOnly bool) *Options {
		return &Options{GCInterval: -1, ReadOnly: readOnly, Clock: func() time.Time { now = now.Add(time.Second); return now }}
	}
	open := func(readOnly bool) *Store {
		s := OpenStore(t, path, options(readOnly))
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	w := open(false)
	rounds(t, w, 3)
	if p := spaceOf(t, w); p.Pinned != 0 || p.OldestPin != p.Commit || p.OldestPinHolder != 0 || !p.OldestPinSeen.IsZero() {
		t.Fatalf("nobody reads: %+v", p)
	}

	v := mustGet(w.Snapshot())(t)
	held := uint64(v.view.Commit())
	before := now
	rounds(t, w, 5)
	p := spaceOf(t, w)
	if p.Pinned == 0 || p.OldestPin != held || p.OldestPinHolder != vfs.ProcessID() || p.OldestPinSeen.IsZero() || p.OldestPinSeen.After(before) {
		t.Fatalf("a snapshot of commit %d, made before %v: %+v", held, before, p)
	}
	mustDo(t, v.Close())
	rounds(t, w, 3)
	if p := spaceOf(t, w); p.Pinned != 0 || p.OldestPin != p.Commit {
		t.Fatalf("the snapshot is closed: %+v", p)
	}

	old := open(true)
	held = spaceOf(t, old).Commit
	rounds(t, w, 5)
	late := open(true)
	exact, seen := spaceOf(t, w), spaceOf(t, late)
	for of, p := range map[string]Space{"writer": exact, "reader": seen} {
		if p.OldestPin != held || p.Pinned == 0 || p.OldestPinSeen.IsZero() {
			t.Errorf("%s beside a reader of commit %d: %+v", of, held, p)
		}
	}
	if seen.Live != exact.Live || seen.Log != exact.Log || seen.Pinned < exact.Pinned {
		t.Errorf("the reader says %+v, the writer %+v", seen, exact)
	}
	if p := spaceOf(t, old); p.Commit != held || p.OldestPin != held {
		t.Errorf("the old reader says %+v", p)
	}
	mustDo(t, old.Close())
	if p := spaceOf(t, late); p.Pinned != 0 || p.OldestPin != p.Commit || p.Free == 0 || p.Limbo == 0 {
		t.Errorf("the old reader is gone: %+v", p)
	}
	mustDo(t, late.Close(), w.Close())
	if p := spaceOf(t, open(true)); p.Pinned != 0 || p.OldestPin != p.Commit {
		t.Errorf("a closed store: %+v", p)
	}
	wantErr(t, errOf(w.Space()), ErrClosed, "after Close")
}

// TestSightings: a root has the time at which it, or the next one that is known, was seen.
func TestSightings(t *testing.T) {
	var s sightings
	if got := s.at(7); !got.IsZero() {
		t.Fatal(got)
	}
	at := func(i hdf5io.Commit) time.Time { return time.Unix(int64(i), 0) }
	const end = 100 * maxSightings
	for i := hdf5io.Commit(10); i < end; i++ {
		s.add(i, at(i))
		s.add(i-5, at(0)) // is older, and known
		if len(s.list) > maxSightings {
			t.Fatalf("%d are kept", len(s.list))
		}
	}
	for i := hdf5io.Commit(1); i < end; i++ {
		if got, exact := s.at(i), max(i, 10); got.Before(at(exact)) || got.After(at(exact+(end-exact)/ageParts)) {
			t.Fatalf("%d: %v", i, got)
		}
	}
	if got := s.at(end); !got.IsZero() {
		t.Fatal(got)
	}
	for i := range hdf5io.Commit(10 * maxSightings) { // by a clock that goes back
		if s.add(end+i, at(end-i)); len(s.list) > maxSightings {
			t.Fatalf("%d are kept", len(s.list))
		}
	}
}

// TestReuseDelay: with the default, what a commit frees is in limbo until the clock has gone
// on, and with a negative one for two commits.
func TestReuseDelay(t *testing.T) {
	var many, later [2]int64
	for i, delay := range []time.Duration{0, -1} {
		now := time.Unix(1_700_000_000, 0)
		s := OpenStore(t, filepath.Join(t.TempDir(), "s.h5"), &Options{GCInterval: -1, ReuseDelay: delay, Clock: func() time.Time { return now }})
		t.Cleanup(func() { _ = s.Close() })
		rounds(t, s, 12)
		many[i] = spaceOf(t, s).Limbo
		now = now.Add(10 * time.Second)
		rounds(t, s, 3)
		later[i] = spaceOf(t, s).Limbo
	}
	t.Logf("bytes in limbo: %d and %d after 12 commits, %d and %d ten seconds later", many[0], many[1], later[0], later[1])
	if many[0] < 2*many[1] || later[0] > many[0]/2 {
		t.Error("want twice as many with the default, and few of them later")
	}
}
