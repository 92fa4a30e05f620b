package cidstore

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/internal/errfs"
	"github.com/cidstore/cidstore/internal/invariants"
	"github.com/cidstore/cidstore/vfs"
)

// gappy opens a store of many megabytes of which most keys are deleted.
func gappy(t *testing.T, o *Options) (*Store, contents) {
	t.Helper()
	s := OpenStore(t, filepath.Join(t.TempDir(), "s.h5"), o)
	model := contents{}
	var b Batch
	for part := range uint64(20) {
		for k := range uint64(5000) {
			b.Insert(FromUint64(part*5000+k), FromUint64(k))
		}
		for v := range uint64(500) {
			b.Insert(FromUint64(part%3), FromUint64(part*500+v))
		}
		model.put(t, s, &b)
	}
	for k := uint64(3); k < 100_000; k++ {
		if k%30 != 0 {
			b.Delete(FromUint64(k))
		}
	}
	model.put(t, s, &b)
	mustDo(t, s.Maintain(t.Context()))
	return s, model
}

// TestShrink: a store gives back what deletes have left free, while it is open, however
// its log lies; everything can be read and written at every moment, and after a reopening.
func TestShrink(t *testing.T) {
	type log struct {
		name  string
		start int64 // bytes
	}
	for _, l := range invariants.Sample([]log{{"as it is", 0}, {"large log", 8 << 20}}) {
		t.Run(l.name, func(t *testing.T) {
			o := &Options{GCInterval: -1, startBytes: l.start}
			s, model := gappy(t, o)
			before, live := s.Metrics().FileBytes, s.liveBytes()
			var group sync.WaitGroup
			ctx, stop := context.WithCancel(t.Context())
			for g := range uint64(2) {
				group.Go(func() {
					for n := uint64(0); ctx.Err() == nil; n++ {
						key := FromUint64(n % 3000 * 30)
						if ok, err := s.Has(key, FromUint64(n%3000*30%5000)); err != nil || !ok {
							t.Errorf("key %v: %t, %v", key, ok, err)
							return
						}
						if g == 0 {
							if err := s.Insert(FromString("written beside it"), FromUint64(n%50)); err != nil {
								t.Error(err)
								return
							}
						}
					}
				})
			}
			mustDo(t, s.Shrink(t.Context()))
			stop()
			group.Wait()
			m := s.Metrics() // the log may leave a gap of its size before it, and the writer has reserved some
			info := mustGet(os.Stat(s.path))(t)
			if most := uint64(live)*13/10 + 2*m.WALBytes + 4<<20; m.FileBytes > most || int64(m.FileBytes) > info.Size() {
				t.Errorf("%d bytes before, %d after, %d on disk; want at most %d", before, m.FileBytes, info.Size(), most)
			}
			t.Logf("%d bytes before, %d after, of which live %d and log %d", before, m.FileBytes, live, m.WALBytes)
			mustDo(t, s.Delete(FromString("written beside it")), s.Checkpoint(t.Context()))
			mustHold(t, s, model)
			mustDo(t, s.Close())
			s = OpenStore(t, s.path, o)
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
		return mustGet(os.Stat(s.path))(t).Size()
	}
	before := size()
	refused := func(want error) {
		t.Helper()
		wantErr(t, s.Shrink(t.Context()), want)
	}
	v := mustGet(s.Snapshot())(t)
	refused(ErrSpacePinned)
	mustDo(t, v.Close())

	reader := OpenStore(t, s.path, &Options{ReadOnly: true})
	refused(ErrLocked)
	wantErr(t, reader.Shrink(t.Context()), ErrReadOnly, "read-only")
	mustDo(t, reader.Close())

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantErr(t, s.Shrink(ctx), context.Canceled, "cancelled")
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

// TestShrinkWaitsForNoSnapshot: Shrink, which holds up checkpoints and so writes, waits for
// reads under way, and not for a snapshot taken in that time: its owner may be waiting
// for Shrink. The time is that of the bubble.
func TestShrinkWaitsForNoSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hooks := &errfs.Hooks{}
		o := smallOptions(hooks.On(crashfs.New(crashfs.Options{FileLimit: 8 << 20})))
		o.quarantine = -1
		s := OpenStore(t, crashPath, o)
		for part := range uint64(3) {
			var b Batch
			for k := range uint64(2000) {
				if part == 2 {
					b.Delete(FromUint64(k))
				} else {
					b.Insert(FromUint64(part*2000+k), FromUint64(k))
				}
				if b.Len() == 100 {
					mustDo(t, s.Apply(&b))
					b.Reset()
				}
			}
		}
		mustDo(t, s.Maintain(t.Context()))
		before := s.state.Load().view.Commit()
		var v *Snapshot
		var err error
		hooks.Locked = func(l vfs.Lock) {
			if l.Whole && l.Exclusive {
				hooks.Locked = nil
				v, err = s.Snapshot()
			}
		}
		began := time.Now()
		mustDo(t, s.Shrink(t.Context()), err)
		if took := time.Since(began); took >= time.Second {
			t.Errorf("Shrink took %v", took)
		}
		if after := s.state.Load().view.Commit(); v == nil || after <= before+1 {
			t.Errorf("snapshot %p, commits %d to %d: Shrink moved nothing", v, before, after)
		}
		mustDo(t, v.Close(), s.Close())
	})
}

// TestShrinkProgress: Space says beforehand about how long the file will be, a writer and a
// reader the same, and progress goes from nothing to everything.
func TestShrinkProgress(t *testing.T) {
	s, model := gappy(t, &Options{GCInterval: -1})
	space := mustGet(s.Space())(t)
	reader := OpenStore(t, s.path, &Options{ReadOnly: true})
	if p, err := reader.Space(); err != nil || p.Shrunk != space.Shrunk {
		t.Errorf("a reader expects %+v, %v, the writer %+v", p, err, space)
	}
	mustDo(t, reader.Close())
	steps, last, whole := 0, int64(0), int64(-1)
	mustDo(t, s.ShrinkWith(t.Context(), &ShrinkOptions{Progress: func(done, total int64) {
		if steps++; done < last || done > total || whole >= 0 && total != whole || steps == 1 && done != 0 {
			t.Errorf("call %d: %d of %d after %d of %d", steps, done, total, last, whole)
		}
		last, whole = done, total
	}}))
	if steps < 3 || last != whole || whole == 0 {
		t.Errorf("%d calls, the last: %d of %d", steps, last, whole)
	}
	mustHold(t, s, model)
	mustDo(t, s.Close())
	info := mustGet(os.Stat(s.path))(t)
	if off, most := info.Size()-space.Shrunk, space.Shrunk/10+2*shrinkLeast; off > most || -off > most {
		t.Errorf("%d bytes, expected %d", info.Size(), space.Shrunk)
	}
	t.Logf("%d bytes before, %d expected, %d after; %d calls, %d bytes moved", space.File, space.Shrunk, info.Size(), steps, whole)

	again := OpenStore(t, s.path, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cut := &ShrinkOptions{Progress: func(done, total int64) { cancel() }}
	wantErr(t, again.ShrinkWith(ctx, cut), context.Canceled, "cancelled by the first step")
	mustHold(t, again, model)
}

// TestShrinkWithRuns: in the upper part of the file lies a run that is longer than each gap.
// Shrink folds it, and takes no space for that, so that the file becomes as short as after
// Maintain. Space says how short beforehand.
func TestShrinkWithRuns(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.h5")
	size := func() int64 {
		return mustGet(os.Stat(path))(t).Size()
	}
	open := func() *Store {
		return OpenStore(t, path, &Options{GCInterval: -1, againBytes: 1, Rand: rand.NewChaCha8([32]byte{1}),
			Durability: Async, FlushInterval: time.Hour}) // the same file at each run
	}
	s := open()
	var b Batch
	for i := range uint64(320_000) {
		b.Insert(FromUint64(i*7919%200_000), FromUint64(i%20_000+i/20_000))
		if b.Len() == 20_000 {
			mustDo(t, s.Apply(&b), s.Checkpoint(t.Context()))
			b.Reset()
		}
	}
	before, p := size(), spaceOf(t, s)
	if end := s.state.Load().view.buckets.Unmovable(s.file.Space().Longest); end < s.liveBytes()*3/2 {
		t.Fatalf("the last run that is longer than each gap ends at %d, of %d live bytes: no run is in the way", end, s.liveBytes())
	}
	longest := int64(0)
	mustDo(t, s.ShrinkWith(t.Context(), &ShrinkOptions{Progress: func(_, _ int64) { longest = max(longest, size()) }}))
	live, log := s.liveBytes(), int64(s.Metrics().WALBytes)
	if shrunk, most := size(), live+live/10+2*log+2*shrinkLeast; shrunk > most {
		t.Errorf("%d bytes before, %d after, of which live %d and log %d; want at most %d", before, shrunk, live, log, most)
	}
	if longest > before {
		t.Errorf("%d bytes, up to %d while it was shrunk", before, longest)
	}
	mustDo(t, s.Close())
	shrunk := size()
	s = open()
	mustDo(t, s.Maintain(t.Context()), s.Shrink(t.Context()), s.Close())
	near := func(what string, want, share int64) {
		if most := want/share + 2*shrinkLeast; shrunk-want > most || want-shrunk > most {
			t.Errorf("%d bytes, %s %d; %d before", shrunk, what, want, before)
		}
	}
	near("expected", p.Shrunk, 6) // how many entries of runs replace others is not known beforehand
	near("after Maintain", size(), 10)
}
