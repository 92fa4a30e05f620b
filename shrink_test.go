package cidstore

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// gappy opens a store of many megabytes of which most keys are deleted.
func gappy(t *testing.T, o *Options) (*Store, contents) {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "s.h5"), o)
	mustDo(t, err)
	model := contents{}
	apply := func(b *Batch) {
		t.Helper()
		model.apply(b.ops)
		mustDo(t, s.Apply(b), s.Checkpoint(t.Context()))
		b.Reset()
	}
	var b Batch
	for part := range uint64(20) {
		for k := range uint64(5000) {
			b.Insert(FromUint64(part*5000+k), FromUint64(k))
		}
		for v := range uint64(500) {
			b.Insert(FromUint64(part%3), FromUint64(part*500+v))
		}
		apply(&b)
	}
	for k := uint64(3); k < 100_000; k++ {
		if k%30 != 0 {
			b.Delete(FromUint64(k))
		}
	}
	apply(&b)
	mustDo(t, s.Maintain(t.Context()))
	return s, model
}

// TestShrink: a store gives back what deletes have left free, while it is open, however
// its log lies; everything can be read and written at every moment, and after a reopening.
func TestShrink(t *testing.T) {
	for name, o := range map[string]*Options{"as it is": {GCInterval: -1}, "large log": {GCInterval: -1, startBytes: 8 << 20}} {
		t.Run(name, func(t *testing.T) {
			s, model := gappy(t, o)
			before, live := s.Metrics().FileBytes, s.liveBytes()
			var group sync.WaitGroup
			stop := make(chan struct{})
			for g := range uint64(2) {
				group.Go(func() {
					for n := uint64(0); ; n++ {
						select {
						case <-stop:
							return
						default:
						}
						key := FromUint64(n % 3000 * 30)
						if ok, err := s.Has(key, FromUint64(n%3000*30%5000)); err != nil || !ok {
							t.Errorf("key %v: %t, %v", key, ok, err)
							return
						}
						if g == 0 {
							if err := s.Insert(FromString("written meanwhile"), FromUint64(n%50)); err != nil {
								t.Error(err)
								return
							}
						}
					}
				})
			}
			mustDo(t, s.Shrink(t.Context()))
			close(stop)
			group.Wait()
			m := s.Metrics() // the log may leave a gap of its size before it, and the writer has reserved some
			info, err := os.Stat(s.path)
			mustDo(t, err)
			if most := uint64(live)*13/10 + 2*m.WALBytes + 4<<20; m.FileBytes > most || int64(m.FileBytes) > info.Size() {
				t.Errorf("%d bytes before, %d after, %d on disk; want at most %d", before, m.FileBytes, info.Size(), most)
			}
			t.Logf("%d bytes before, %d after, of which live %d and log %d", before, m.FileBytes, live, m.WALBytes)
			mustDo(t, s.Delete(FromString("written meanwhile")), s.Checkpoint(t.Context()))
			mustHold(t, s, model)
			mustDo(t, s.Close())
			s, err = Open(s.path, o)
			mustDo(t, err)
			mustHold(t, s, model)
			mustDo(t, s.Shrink(t.Context()), s.Close())
		})
	}
}

// TestShrinkRefused: with a snapshot, beside another opener, read-only, closed, and with a
// context that is done, Shrink says why and leaves the file as it is.
func TestShrinkRefused(t *testing.T) {
	s, model := gappy(t, &Options{GCInterval: -1})
	size := func() int64 {
		info, err := os.Stat(s.path)
		mustDo(t, err)
		return info.Size()
	}
	before := size()
	refused := func(want error) {
		t.Helper()
		if err := s.Shrink(t.Context()); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	v, err := s.Snapshot()
	mustDo(t, err)
	refused(ErrSpacePinned)
	mustDo(t, v.Close())

	reader, err := Open(s.path, &Options{ReadOnly: true})
	mustDo(t, err)
	refused(ErrLocked)
	if err := reader.Shrink(t.Context()); !errors.Is(err, ErrReadOnly) {
		t.Errorf("read-only: %v", err)
	}
	mustDo(t, reader.Close())

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Shrink(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if after := size(); after < before {
		t.Errorf("%d bytes, were %d", after, before)
	}
	mustHold(t, s, model)
	done := make(chan error)
	go func() { done <- s.Shrink(t.Context()) }()
	mustDo(t, s.Close())
	if err := <-done; err != nil && !errors.Is(err, ErrClosed) {
		t.Errorf("beside Close: %v", err)
	}
	refused(ErrClosed)
}
