package cidstore

import (
	"math"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cidstore/cidstore/gc"
)

// TestDanger: the danger grows with what is pending, with what waits in runs, and with the
// time that passes; operations that have waited for ten intervals are checkpointed.
func TestDanger(t *testing.T) {
	var now atomic.Int64
	o := &Options{GCInterval: time.Hour, WALBytes: 1 << 20, Clock: func() time.Time { return time.Unix(1_700_000_000, now.Load()) }}
	s := OpenStore(t, filepath.Join(t.TempDir(), "s.h5"), o)
	var b Batch
	fill := func(from, to uint64) {
		t.Helper()
		b.Reset()
		for k := from; k < to; k++ {
			b.Insert(FromUint64(k), E{})
		}
		mustDo(t, s.Apply(&b))
	}
	is := func(what string, got, low, high float64) {
		t.Helper()
		if got < low || got > high {
			t.Errorf("%s: %.3f, want %.3f to %.3f", what, got, low, high)
		}
	}
	of := func() danger { return s.dangerOf(s.state.Load()) }
	is("of an empty store", of().score(), 0, 0.02)

	fill(0, 5000) // 5,002 of 26,112 records, to which the log has grown at most
	is("pending", of().pending, 0.15, 1)
	is("age of now", of().age, 0, 0)
	now.Add(int64(5 * time.Hour))
	is("age of five intervals", of().age, 0.49, 0.51)
	mustDo(t, s.checkpointInDanger(t.Context()))
	if s.pendingOps() == 0 {
		t.Error("a checkpoint before it was due")
	}
	now.Add(int64(50 * time.Hour))
	is("age of many", of().age, 1, 1)
	mustDo(t, s.checkpointInDanger(t.Context()))
	if s.pendingOps() != 0 || of().age != 0 {
		t.Errorf("%d operations are pending after the checkpoint that was due, age %g", s.pendingOps(), of().age)
	}

	fill(5000, 6000) // a fifth more: they wait in a run
	mustDo(t, s.Checkpoint(t.Context()))
	waiting, _ := s.state.Load().view.buckets.Waiting()
	is("unsorted", of().unsorted, float64(waiting)/(0.6*6000)-0.001, float64(waiting)/(0.6*6000)+0.001)
	if waiting == 0 || s.Metrics().Danger != of().score() {
		t.Errorf("%d entries wait, danger %g in Metrics", waiting, s.Metrics().Danger)
	}
	now.Store(0) // the clock is set back
	fill(0, 1)
	is("age by a clock that was set back", of().age, 0, 0)
	is("the most", danger{1, 1, 1}.score(), 1, 1)

	o = &Options{GCInterval: math.MaxInt64, Clock: o.Clock} // never
	s = OpenStore(t, filepath.Join(t.TempDir(), "s.h5"), o)
	fill(0, 1)
	now.Add(int64(50 * time.Hour))
	is("age of a part of an interval", of().age, 0, 0.001)
}

// TestCommitLockYields: those who wait for the lock have it before yield returns.
func TestCommitLockYields(t *testing.T) {
	var l commitLock
	l.Lock()
	l.yield() // nobody waits
	had := 0
	var waiters sync.WaitGroup
	for range 3 {
		waiters.Go(func() { l.Lock(); had++; l.Unlock() })
	}
	for l.waiting.Load() < 3 {
		time.Sleep(time.Millisecond)
	}
	l.yield()
	if had != 3 {
		t.Errorf("%d of 3 had the lock", had)
	}
	l.Unlock()
	waiters.Wait()
}

// TestBackgroundFolds: after most keys were deleted, the background folds and merges all
// groups, as Maintain does, whether the deletes are in the tree or pending. Once that is
// done, it commits nothing more.
func TestBackgroundFolds(t *testing.T) {
	for _, pending := range []bool{false, true} {
		s := OpenStore(t, filepath.Join(t.TempDir(), "s.h5"), &Options{GCInterval: -1})
		mustDo(t, s.Apply(insertsOf(0, 20_000, 1)), s.Maintain(t.Context()), s.Apply(deletesOf(0, 18_000, 0)))
		if !pending {
			mustDo(t, s.Checkpoint(t.Context()))
		}
		mustDo(t, s.collectInBackground(t.Context()), s.collectInBackground(t.Context()))
		m, live := s.Metrics(), s.liveBytes()
		mustDo(t, s.collectInBackground(t.Context()))
		if n := s.Metrics().Commits; n != m.Commits {
			t.Errorf("pending %t: %d commits that change nothing", pending, n-m.Commits)
		}
		mustDo(t, s.Maintain(t.Context()))
		if after := s.liveBytes(); m.WaitingEntries > 0 || live > after+after/10 {
			t.Errorf("pending %t: %d entries wait, %d bytes live, %d after Maintain", pending, m.WaitingEntries, live, after)
		}
		if n := s.Metrics().MergeEvents; n != m.MergeEvents || n == 0 {
			t.Errorf("pending %t: %d merges by the background, %d with Maintain", pending, m.MergeEvents, n)
		}
		mustCheck(t, s)
	}
}

// TestCloseFolds: after most keys were deleted, Close folds and merges all groups, so that
// the file is about as long as that of a store which never had them, apart from the deletion
// log.
func TestCloseFolds(t *testing.T) {
	size := func(keys uint64) int64 {
		s := OpenStore(t, filepath.Join(t.TempDir(), "s.h5"), &Options{GCInterval: -1, SplitThreshold: 8})
		mustDo(t, s.Apply(insertsOf(0, keys, 1)), s.Checkpoint(t.Context()))
		if keys > 2000 {
			mustDo(t, s.Apply(deletesOf(2000, keys, 0)))
		}
		mustDo(t, s.Close())
		s = OpenStore(t, s.path, &Options{ReadOnly: true})
		mustCheck(t, s)
		return mustGet(os.Stat(s.path))(t).Size() - int64(s.Metrics().DeletionRows)*gc.RecordSize
	}
	if fresh, after := size(2000), size(20_000); after > fresh*5/2 { // small groups are rarely full: it has 1.3 to 1.6 times as many
		t.Errorf("%d bytes without the deletion log, a store of the rest alone has %d", after, fresh)
	}
}
