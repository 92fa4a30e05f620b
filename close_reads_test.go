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

// unmappedFile is a file of which every byte is read by ReadAt.
type unmappedFile struct{ vfs.File }

func (unmappedFile) Map(int64) (vfs.Mapping, error) { return nil, errRefused }

// TestCallersPanic: the code of a caller panics, in a loop or as its file system, and the
// caller goes on. Then the snapshot and the store can be used as before, and closed.
func TestCallersPanic(t *testing.T) {
	hooks := &errfs.Hooks{}
	disk := hooks.On(crashfs.New(crashfs.Options{FileLimit: 8 << 20}))
	unmapped := errfs.Hooked{FS: disk, Wrap: func(f vfs.File) vfs.File { return unmappedFile{f} }}
	s := OpenStore(t, crashPath, smallOptions(unmapped))
	const keys = 50
	grown(t, s, 0, keys)
	key := FromUint64(7)
	loops := map[string]func(v *Snapshot, yield func() bool){
		"All":          func(v *Snapshot, yield func() bool) { v.All()(func(E, E) bool { return yield() }) },
		"Keys":         func(v *Snapshot, yield func() bool) { v.Keys()(func(E) bool { return yield() }) },
		"Values":       func(v *Snapshot, yield func() bool) { v.Values(key)(func(E, error) bool { return yield() }) },
		"Store.Values": func(_ *Snapshot, yield func() bool) { s.Values(key)(func(E, error) bool { return yield() }) },
		"LookupBatch": func(v *Snapshot, yield func() bool) {
			_ = v.LookupBatch([]E{key}, func(int, []E) bool { return yield() })
		},
		"Store.LookupBatch": func(_ *Snapshot, yield func() bool) {
			_ = s.LookupBatch([]E{key}, func(int, []E) bool { return yield() })
		},
		"Store.Lookup": func(_ *Snapshot, yield func() bool) { _, _ = s.Lookup(key); yield() },
	}
	for name, loop := range loops {
		for _, ofFile := range []bool{false, true} {
			v, err := s.Snapshot()
			mustDo(t, err)
			if ofFile {
				hooks.Read = func(int64, int) { hooks.Read = nil; panic(name) }
			}
			func() {
				defer func() {
					if p := recover(); p != name {
						t.Errorf("%s, file %t: recovered %v", name, ofFile, p)
					}
				}()
				loop(v, func() bool { panic(name) })
			}()
			if hooks.Read != nil {
				t.Fatalf("%s reads no file", name)
			}
			mustDo(t, readUpTo(v, keys), v.Close())
			grown(t, s, 0, keys)
		}
	}
	mustDo(t, s.Close())
}
