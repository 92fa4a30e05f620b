package cidstore_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/cidstore/cidstore"
	"github.com/cidstore/cidstore/internal/errfs"
	"github.com/cidstore/cidstore/vfs"
)

// TestWriterBetweenTwoReads: a reader opens, or refreshes, and at one of its reads,
// each in turn, stands still while a writer writes one batch, goes round its log
// several times, or is closed and opened again. What the reader shows then is no
// older than what was there when it began, and whole.
func TestWriterBetweenTwoReads(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	for what, batches := range map[string]int{"a batch": 0, "half a lap": 3, "laps": 17, "another life": -1} {
		t.Run("refresh, "+what, func(t *testing.T) { betweenTwoReads(t, batches, false) })
		t.Run("open, "+what, func(t *testing.T) { betweenTwoReads(t, batches, true) })
	}
}

// betweenTwoReads writes a batch and so many more between two reads of a reader that is
// refreshed, or opened, at each turn; -1: the batch, and another life of the writer.
func betweenTwoReads(t *testing.T, batches int, opening bool) {
	path := filepath.Join(t.TempDir(), "s.h5")
	writer := &cidstore.Options{WALBytes: 64 << 10, SplitThreshold: 8, GCInterval: -1}
	w := open(t, path, writer)
	n := uint64(0)
	put := func() {
		n++
		var b cidstore.Batch
		setGroup(&b, n)
		must(t, w.Apply(&b))
	}
	put()
	hooks := &errfs.Hooks{}
	reader := &cidstore.Options{ReadOnly: true, NoMmap: true, FS: hooks.On(vfs.OS())}
	r := open(t, path, reader)
	turns := 0
	for {
		if opening {
			must(t, r.Close())
		}
		reads := 0
		hooks.Read = func(int64, int) {
			if reads++; reads != turns+1 {
				return
			}
			put()
			for range batches {
				put()
			}
			if batches < 0 {
				must(t, w.Close())
				w = open(t, path, writer)
				put()
			}
		}
		put()
		began := n
		if opening {
			r = open(t, path, reader)
		} else {
			must(t, r.Refresh())
		}
		hooks.Read = nil
		v := mustGet(r.Snapshot())(t)
		if got := groupValue(t, v); got < began {
			t.Fatalf("read %d: batch %d is shown, batch %d was acknowledged before", turns, got, began)
		}
		must(t, v.Close())
		if reads <= turns {
			break
		}
		turns++
	}
	if turns < 3 {
		t.Errorf("%d turns", turns)
	}
	must(t, r.Close(), w.Checkpoint(context.Background()), w.Close())
}

// TestReaderChecksWhatItShows: Check and AuditWAL of a reader read the writer's
// log as it is, and show nothing of it that Refresh has not.
func TestReaderChecksWhatItShows(t *testing.T) {
	ctx := context.Background()
	w, path := fresh(t, nil)
	must(t, w.Insert(cidstore.E{}, cidstore.E{}))
	r := open(t, path, &cidstore.Options{ReadOnly: true})
	must(t, w.Insert(cidstore.E{}, cidstore.E{Low: 1}))
	count := func(when string, want int) {
		t.Helper()
		wantIs(t, want, "values", when)(r.Count(cidstore.E{}))
	}
	report := mustGet(r.Check(ctx))(t)
	if report.LogFrames == 0 {
		t.Error("Check has read no batch of the log")
	}
	count("after Check", 1)
	must(t, r.AuditWAL(0))
	count("after AuditWAL", 1)
	must(t, r.Refresh())
	count("after Refresh", 2)

	must(t, w.Checkpoint(ctx)) // the reader's root is no longer the newest
	must(t, w.Insert(cidstore.E{}, cidstore.E{Low: 2}), errOf(r.Check(ctx)))
	count("after a commit and Check", 2)
	must(t, r.Refresh())
	count("after a commit and Refresh", 3)
	must(t, r.Close(), w.Close())
}

// TestRefreshReadsWhatIsNew: however long the log is, a Refresh reads what was
// written since the last one, and a Snapshot from before stays as it is.
func TestRefreshReadsWhatIsNew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.h5")
	w := open(t, path, &cidstore.Options{GCInterval: -1, WALBytes: 64 << 20})
	put := func(n uint64) {
		t.Helper()
		var b cidstore.Batch
		for i := range uint64(1000) {
			b.Insert(cidstore.FromUint64(n), cidstore.FromUint64(i))
		}
		must(t, w.Apply(&b))
	}
	for n := range uint64(40) {
		if n == 37 {
			must(t, w.Checkpoint(context.Background()))
		}
		put(n)
	}
	hooks := &errfs.Hooks{}
	r := open(t, path, &cidstore.Options{ReadOnly: true, NoMmap: true, FS: hooks.On(vfs.OS())})
	if got := r.Metrics().PendingOperations; got != 3000 {
		t.Fatalf("%d operations wait, want 3000", got)
	}
	read := 0
	hooks.Read = func(_ int64, n int) { read += n }
	refresh := func(when string, most int) {
		t.Helper()
		read = 0
		must(t, r.Refresh())
		if read > most {
			t.Errorf("%s: %d bytes read, want up to %d", when, read, most)
		}
	}
	refresh("nothing is new", 256<<10)
	before := mustGet(r.Snapshot())(t)
	for n := range uint64(3) {
		put(100 + n)
		must(t, w.Delete(cidstore.FromUint64(n)))
		refresh("a batch is new", 384<<10)
		for key, want := range map[uint64]int{100 + n: 1000, n: 0, 39: 1000} {
			wantIs(t, want, "batch", n, "key", key)(r.Count(cidstore.FromUint64(key)))
		}
	}
	for key, want := range map[uint64]int{100: 0, 0: 1000} {
		wantIs(t, want, "the snapshot, key", key)(before.Count(cidstore.FromUint64(key)))
	}
	before.Close()
	must(t, w.Checkpoint(context.Background()), r.Refresh())
	if keys, values, err := r.Len(context.Background()); keys != 40 || values != 40_000 || err != nil {
		t.Errorf("after a checkpoint: %d keys, %d values, %v", keys, values, err)
	}
	refresh("after a checkpoint nothing is new", 256<<10)
	must(t, r.Close(), w.Close())
}

// TestRefreshOfAReplacedFile: a reader learns that its file is no longer the one
// under the path, and keeps what it saw.
func TestRefreshOfAReplacedFile(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	path, backup := filepath.Join(dir, "s.h5"), filepath.Join(dir, "b.h5")
	key := cidstore.FromUint64(1)
	s := open(t, path, nil)
	must(t, s.Insert(key, key), s.Backup(ctx, backup), s.Close())
	r := open(t, path, &cidstore.Options{ReadOnly: true})
	must(t, r.Refresh(), cidstore.Restore(ctx, backup, path))
	wantSays(t, r.Refresh(), cidstore.ErrReplaced, path, "Refresh")
	wantIs(t, true, "Has")(r.Has(key, key))
}
