package cidstore

import (
	"errors"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/internal/errfs"
	"github.com/cidstore/cidstore/vfs"
)

// TestAsyncFlushesWhenTheClockIsSetBack: without goroutines the first write after
// FlushInterval flushes, even if the clock was set back.
func TestAsyncFlushesWhenTheClockIsSetBack(t *testing.T) {
	disk := crashfs.New(crashfs.Options{FileLimit: 8 << 20})
	now := time.Unix(1_700_000_000, 0) // an hour fast, until somebody sets it right
	o := smallOptions(disk)
	o.Durability, o.FlushInterval, o.Clock = Async, 10*time.Millisecond, func() time.Time { return now }
	s := OpenStore(t, crashPath, o)
	mustDo(t, s.Insert(FromUint64(0), FromUint64(0)))
	trace := disk.Record()
	now = now.Add(-time.Hour)
	for i := range uint64(100) {
		now = now.Add(30 * time.Second) // 50 minutes in all
		mustDo(t, s.Insert(FromUint64(1), FromUint64(i)))
	}
	trace.Stop()
	s = OpenStore(t, crashPath, smallOptions(trace.Crash(1)))
	if n, err := s.Count(FromUint64(1)); err != nil || n < 99 {
		t.Errorf("%d of 100 writes survive the power cut, %v; want all but the last", n, err)
	}
}

// TestAsyncCloseOnAFullDisk: what was accepted is in the log after Close, though
// the checkpoint of Close has no room.
func TestAsyncCloseOnAFullDisk(t *testing.T) {
	disk := errfs.New(crashfs.New(crashfs.Options{FileLimit: 8 << 20}))
	o := smallOptions(disk)
	o.Durability, o.FlushInterval = Async, time.Hour
	s := OpenStore(t, crashPath, o)
	for i := range uint64(20) {
		mustDo(t, s.Insert(FromUint64(i), FromUint64(i)))
	}
	disk.Add(errfs.Rule{Ops: errfs.Write | errfs.Allocate, Nth: 1, Forever: true, Err: vfs.ErrNoSpace})
	if err := s.Checkpoint(t.Context()); !errors.Is(err, ErrNoSpace) { // it leaves a frozen table
		t.Fatal(err)
	}
	mustDo(t, s.Insert(FromUint64(1), FromUint64(424242)))
	wantErr(t, s.Close(), ErrNoSpace)
	disk.Clear()
	s = openOn(t, disk)
	wantIs(t, true, "what was accepted before Close")(s.Has(FromUint64(1), FromUint64(424242)))
	mustDo(t, s.Close())
}

// TestRandIsShared is for the race detector: copies in the making and audits draw at the same
// time from Options.Rand, which need not be safe for concurrent use.
func TestRandIsShared(t *testing.T) {
	dir := t.TempDir()
	s := OpenStore(t, filepath.Join(dir, "s.h5"), &Options{WALBytes: 64 << 10, Rand: rand.NewChaCha8([32]byte{1})})
	mustDo(t, s.Insert(FromUint64(1), FromUint64(1)))
	var g sync.WaitGroup
	for _, name := range []string{"a.h5", "b.h5"} {
		g.Go(func() {
			wantErr(t, s.Backup(t.Context(), filepath.Join(dir, name)), nil)
		})
	}
	g.Go(func() {
		for range 50 {
			wantErr(t, s.AuditWAL(1), nil)
		}
	})
	g.Wait()
}
