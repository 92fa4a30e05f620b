package cidstore

import (
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/internal/errfs"
	"github.com/cidstore/cidstore/vfs"
)

// TestLookupWhileCloseTrims: Close waits for a reader that begins at the last moment, or the
// reader gets ErrClosed; the mapping is never taken away under it.
func TestLookupWhileCloseTrims(t *testing.T) {
	hooks := &errfs.Hooks{}
	s := OpenStore(t, filepath.Join(t.TempDir(), "s.h5"), &Options{WALBytes: 64 << 10, SplitThreshold: 16, FS: hooks.On(vfs.OS())})
	const values = 250
	for i := range uint64(values) {
		mustDo(t, s.Insert(FromUint64(1000), FromUint64(i)))
	}
	mustDo(t, s.Checkpoint(t.Context()))
	var closed atomic.Bool
	done := make(chan struct{})
	alone := false
	hooks.Locked = func(l vfs.Lock) { // Close has cut the file when the lock of all of it becomes shared again
		before := alone
		alone = l.Whole && l.Exclusive
		if !before || !l.Whole || l.Exclusive {
			return
		}
		hooks.Locked = nil
		r, pin, err := s.acquire() // what Lookup does first
		if err != nil {
			if !errors.Is(err, ErrClosed) {
				t.Error(err)
			}
			close(done)
			return
		}
		go func() {
			defer close(done)
			time.Sleep(100 * time.Millisecond) // nobody runs this goroutine for a while
			if closed.Load() {
				t.Error("Close has returned while a reader holds its View")
			}
			var got []E
			err := guard(func() (err error) { got, err = r.appendLookup(nil, FromUint64(1000)); return err })
			r.view.Unpin(pin)
			if err != nil || len(got) != values {
				t.Errorf("lookup: %d values, %v", len(got), err)
			}
		}()
	}
	mustDo(t, s.Close())
	closed.Store(true)
	if hooks.Locked != nil {
		t.Fatal("Close has not trimmed the file")
	}
	<-done
}

// TestCloseEndsCheck: Close does not wait until a Check has read all of the store. The Check
// ends soon after Close begins, and returns ErrClosed.
func TestCloseEndsCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hooks := &errfs.Hooks{}
		s := OpenStore(t, crashPath, smallOptions(hooks.On(crashfs.New(crashfs.Options{FileLimit: 8 << 20}))))
		for i := range uint64(50) {
			mustDo(t, s.Insert(FromUint64(i), FromUint64(i)))
		}
		mustDo(t, s.Checkpoint(t.Context()))
		hooks.Read = func(int64, int) { hooks.Read = nil; s.endLife(); synctest.Wait() }
		report, err := s.Check(t.Context())
		if !errors.Is(err, ErrClosed) || report.Groups != 0 {
			t.Errorf("%d groups, %v, want none: its life ended at the first read", report.Groups, err)
		}
	})
}
