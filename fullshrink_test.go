package cidstore

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/internal/invariants"
)

// onFullDisk opens the store of a disk.
func onFullDisk(t *testing.T, disk *crashfs.FS, seed byte) *Store {
	t.Helper()
	s, err := Open(crashPath, &Options{FS: disk, GCInterval: -1, Rand: rand.NewChaCha8([32]byte{seed})})
	mustDo(t, err)
	return s
}

// importUntilFull writes pairs of the keys from 1 on, in batches, until the disk is full.
func importUntilFull(t *testing.T, s *Store) (stored uint64) {
	t.Helper()
	const step = 4096
	for {
		var b Batch
		for k := range uint64(step) {
			b.Insert(FromUint64(stored+k+1), FromUint64(7*(stored+k+1)))
		}
		switch err := s.Apply(&b); {
		case errors.Is(err, ErrNoSpace):
			return stored
		case err != nil:
			t.Fatal(err)
		}
		stored += step
	}
}

// TestShrinkOnAFullDisk: on a disk that is full, or has less room than the data take, a
// store that is half free gets short, by Close as by Shrink, and neither makes it longer.
func TestShrinkOnAFullDisk(t *testing.T) {
	for seed := byte(1); seed < 8; seed += 2 {
		if int(seed)/2%invariants.Sparse != 0 {
			continue
		}
		for _, keep := range []bool{true, false} { // the gaps, up to Shrink
			disk := crashfs.New(crashfs.Options{FileLimit: 64 << 20})
			disk.SetCapacity(12 << 20)
			s := onFullDisk(t, disk, seed)
			s.opts.keepPlaces = keep
			stored := importUntilFull(t, s)
			mustDo(t, s.Close())
			s = onFullDisk(t, disk, seed+100)
			s.opts.keepPlaces = keep
			mustDo(t, s.Delete(FromUint64(1)), s.Maintain(t.Context()))
			mustDo(t, s.Close())
			disk.SetCapacity(int64(12+seed) << 20)
			before := use(t, disk)
			s = onFullDisk(t, disk, seed+200)
			mustDo(t, s.Shrink(t.Context()))
			live, shrunk := s.liveBytes(), use(t, disk)
			mustDo(t, s.Close())
			after := use(t, disk)
			if most := live*12/10 + 64<<10; shrunk > before || after > before || shrunk > most || after > most {
				t.Errorf("disk of %d MiB: %d bytes before Shrink, %d after it, %d after Close, %d of them live; want at most %d",
					12+seed, before, shrunk, after, live, most)
			}
			t.Logf("disk of %d MiB, gaps kept %t: %d bytes before Shrink, %d after it, %d after Close, %d of them live", 12+seed, keep, before, shrunk, after, live)
			s = onFullDisk(t, disk, seed)
			if keys, _, err := s.Len(t.Context()); err != nil || keys != stored-1 {
				t.Errorf("%d keys, %v; want %d", keys, err, stored-1)
			}
			if report, err := s.Check(t.Context()); err != nil || len(report.Defects) > 0 {
				t.Errorf("%v: %+v", err, report)
			}
			mustDo(t, s.Close())
		}
	}
}
